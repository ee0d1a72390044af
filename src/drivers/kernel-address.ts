/** Addresses as the system has them, `struct sockaddr` (ip(7), ipv6(7), unix(7)), and as we do. */

import { networkInterfaces } from 'node:os'
import { type Address, ipBytes, ipText, isMapped } from '../address.js'
import { LAYOUTS, LINUX } from './kernel-layout.js'
import type { Block } from './kernel-memory.js'

const { sockaddr_in: V4, sockaddr_in6: V6, sockaddr_un: UN } = LAYOUTS
const { AF_INET, AF_INET6, AF_UNIX } = LINUX

export const UNNAMED: Address = Object.freeze({ family: 'unix', path: '', abstract: false })

export function familyOf(address: Address): number {
  return address.family === 'unix' ? AF_UNIX : address.family === 'ipv6' ? AF_INET6 : AF_INET
}

/** Writes an address where the system can read it; its length. `family` is that of the socket: one for both takes IPv4 mapped. */
export function writeAddress(into: Block, address: Address, family: number = familyOf(address), at = 0): number {
  const { bytes, view } = into
  if (address.family === 'unix') {
    const path = new TextEncoder().encode(address.path)
    view.setUint16(at + UN.sun_family, AF_UNIX, true)
    if (path.length === 0 && !address.abstract) return UN.sun_path
    // An abstract name is all of its bytes, a path ends with a NUL.
    const start = at + UN.sun_path
    if (address.abstract) bytes[start] = 0
    bytes.set(path, start + (address.abstract ? 1 : 0))
    if (!address.abstract) bytes[start + path.length] = 0
    return UN.sun_path + path.length + 1
  }
  const ip = ipBytes(address.address) ?? new Uint8Array(4)
  if (family === AF_INET) {
    view.setUint16(at + V4.sin_family, AF_INET, true)
    view.setUint16(at + V4.sin_port, address.port)
    bytes.set(ip, at + V4.sin_addr)
    bytes.fill(0, at + V4.sin_addr + 4, at + V4.size)
    return V4.size
  }
  bytes.fill(0, at, at + V6.size)
  view.setUint16(at + V6.sin6_family, AF_INET6, true)
  view.setUint16(at + V6.sin6_port, address.port)
  if (ip.length === 4) {
    bytes.fill(255, at + V6.sin6_addr + 10, at + V6.sin6_addr + 12)
    bytes.set(ip, at + V6.sin6_addr + 12)
  } else bytes.set(ip, at + V6.sin6_addr)
  if (address.scope !== undefined) view.setUint32(at + V6.sin6_scope_id, interfaceIndex(address.scope), true)
  return V6.size
}

/** The addresses read last: one listener's connections mostly share theirs, and many clients come from one host. */
const HOSTS = 64
const hosts = new Map<number, string>()

function v4Text(view: DataView, at: number): string {
  const key = view.getUint32(at)
  let text = hosts.get(key)
  if (text === undefined) {
    if (hosts.size >= HOSTS) hosts.clear()
    text = `${key >>> 24}.${(key >>> 16) & 255}.${(key >>> 8) & 255}.${key & 255}`
    hosts.set(key, text)
  }
  return text
}

/** The address of `length` bytes that the system wrote. On a dual-stack socket IPv4 peers come in IPv6 clothes, which are taken off. */
export function readAddress({ bytes, view }: Block, length: number, at = 0): Address {
  const family = length < 2 ? AF_UNIX : view.getUint16(at, true)
  if (family === AF_INET) return { family: 'ipv4', address: v4Text(view, at + V4.sin_addr), port: view.getUint16(at + V4.sin_port) }
  if (family === AF_INET6) {
    const ip = bytes.subarray(at + V6.sin6_addr, at + V6.sin6_addr + 16)
    const port = view.getUint16(at + V6.sin6_port)
    if (isMapped(ip)) return { family: 'ipv4', address: v4Text(view, at + V6.sin6_addr + 12), port }
    const scope = view.getUint32(at + V6.sin6_scope_id, true)
    return { family: 'ipv6', address: ipText(ip), port, ...(scope !== 0 && { scope: interfaceName(scope) }) }
  }
  if (length <= UN.sun_path) return UNNAMED
  const abstract = bytes[at + UN.sun_path] === 0
  const start = at + UN.sun_path + (abstract ? 1 : 0)
  let end = at + length
  if (!abstract) for (end = start; end < at + length && bytes[end] !== 0; end++);
  return { family: 'unix', path: new TextDecoder().decode(bytes.subarray(start, end)), abstract }
}

/** The number of a network interface given by its name, its number, or an address of it; 0 where there is none. */
export function interfaceIndex(name: string): number {
  if (/^\d+$/.test(name)) return Number(name)
  for (const [known, addresses] of Object.entries(networkInterfaces())) {
    for (const { address, scopeid } of addresses as { address: string; scopeid?: number }[]) {
      if ((known === name || address === name) && scopeid) return scopeid
    }
  }
  return 0
}

function interfaceName(index: number): string {
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    if ((addresses as { scopeid?: number }[]).some(({ scopeid }) => scopeid === index)) return name
  }
  return String(index)
}
