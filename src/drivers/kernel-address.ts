/** Addresses as the system has them, `struct sockaddr` (ip(7), ipv6(7), unix(7)), and as we do. */

import { networkInterfaces } from 'node:os'
import { type Address, ipBytes, ipText, isMapped, sameAddress, UNNAMED } from '../address.js'
import { LAYOUTS, LINUX } from './kernel-layout.js'
import { Block } from './kernel-memory.js'
import type { System } from './kernel-system.js'

const { sockaddr_in: V4, sockaddr_in6: V6, sockaddr_un: UN } = LAYOUTS
const { AF_INET, AF_INET6, AF_UNIX } = LINUX

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
function interfaceIndex(name: string): number {
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

const SLOTS = 512
const NAMES = 256
/** Names that one call points at. */
export const NAMES_AT_ONCE = 64

/** Where the last one was sent to that said so. */
const NOWHERE = { a: 0, b: 0, c: 0, d: 0, family: -1, port: 0, on: undefined as string | undefined, address: UNNAMED as Address }

/**
 * Addresses that the system told, each made into an object once: datagrams come from few senders. What is told is frozen, so
 * that it can be handed out many times.
 */
export class Heard {
  readonly #found: (Address | undefined)[] = Array.from({ length: SLOTS }, () => undefined)
  /** What the addresses looked like: of IPv4 family, port and address, of IPv6 the scope as well. */
  readonly #raw = new Int32Array(SLOTS * 6)
  #last: typeof NOWHERE = NOWHERE
  #unix: Address = UNNAMED
  #unixRaw = new Uint8Array(0)

  read(block: Block, length: number, at: number): Address {
    const { view } = block
    if (length < V4.size) return this.#named(block, length, at)
    const [family, port] = [view.getUint16(at, true), view.getInt32(at, true)]
    if (family === AF_INET) return this.#ip(block, length, at, port, view.getInt32(at + V4.sin_addr, true), 0, 0, 0, 0)
    if (family !== AF_INET6 || length < V6.size) return this.#named(block, length, at)
    const ip = at + V6.sin6_addr
    const scope = view.getInt32(at + V6.sin6_scope_id, true)
    const [a, b] = [view.getInt32(ip, true), view.getInt32(ip + 4, true)]
    return this.#ip(block, length, at, port, a, b, view.getInt32(ip + 8, true), view.getInt32(ip + 12, true), scope)
  }

  #ip(block: Block, length: number, at: number, port: number, a: number, b: number, c: number, d: number, scope: number): Address {
    const slot = Math.imul(port ^ a ^ b ^ c ^ d, 0x9e3779b1) >>> 23
    const raw = this.#raw
    const of = slot * 6
    const found = this.#found[slot]
    if (
      found !== undefined &&
      raw[of] === port &&
      raw[of + 1] === a &&
      raw[of + 2] === b &&
      raw[of + 3] === c &&
      raw[of + 4] === d &&
      raw[of + 5] === scope
    )
      return found
    ;[raw[of], raw[of + 1], raw[of + 2], raw[of + 3], raw[of + 4], raw[of + 5]] = [port, a, b, c, d, scope]
    return (this.#found[slot] = Object.freeze(readAddress(block, length, at)))
  }

  /** The address without a port at `at`, where something was sent to; `on` is the interface it came in by. */
  destination({ bytes, view }: Block, at: number, family: number, port: number, on: string | undefined): Address {
    const last = this.#last
    const a = view.getInt32(at, true)
    const [b, c, d] =
      family === AF_INET ? [0, 0, 0] : [view.getInt32(at + 4, true), view.getInt32(at + 8, true), view.getInt32(at + 12, true)]
    if (last.a === a && last.b === b && last.c === c && last.d === d && last.family === family && last.port === port && last.on === on)
      return last.address
    const raw = bytes.subarray(at, at + (family === AF_INET ? 4 : 16))
    const ip = isMapped(raw) ? raw.subarray(12) : raw
    const [first, second] = ip as unknown as [number, number]
    // An address of the link, or a group on it, means nothing without the interface.
    const ofLink = ip.length === 16 && ((first === 0xfe && (second & 0xc0) === 0x80) || (first === 0xff && (second & 15) <= 2))
    const scope = ofLink && on !== undefined ? { scope: on } : {}
    const address: Address = Object.freeze({ family: ip.length === 4 ? 'ipv4' : 'ipv6', address: ipText(ip), port, ...scope })
    this.#last = { a, b, c, d, family, port, on, address }
    return address
  }

  #named(block: Block, length: number, at: number): Address {
    if (length <= UN.sun_path) return UNNAMED
    const raw = block.bytes.subarray(at, at + length)
    const known = this.#unixRaw
    let same = known.length === length
    for (let i = 0; same && i < length; i++) same = raw[i] === known[i]
    if (same) return this.#unix
    this.#unixRaw = raw.slice()
    return (this.#unix = Object.freeze(readAddress(block, length, at)))
  }
}

/** Destinations of datagrams that the system can be pointed at; one that is used again need not be written again. */
export class Spelled {
  readonly block: Block
  readonly #family: number
  readonly #size: number
  readonly #lengths: number[] = []
  readonly #addresses: (Address | undefined)[] = []
  /** What they were when they were written. */
  readonly #as: Address[] = []
  readonly #slots: Map<Address, number> = new Map()
  #next = 0

  constructor(system: System, family: number) {
    this.#family = family
    this.#size = family === AF_UNIX ? LAYOUTS.sockaddr_storage.size : 32
    this.block = new Block(system, NAMES * this.#size)
  }

  /** The slot of an address, which stays its for as long as fewer than {@link NAMES_AT_ONCE} others are asked for. */
  slot(address: Address): number {
    const known = this.#slots.get(address)
    // Its owner may have changed it.
    if (known !== undefined && (this.#next - known + NAMES - 1) % NAMES < NAMES - NAMES_AT_ONCE && reads(address, this.#as[known]))
      return known
    const slot = this.#next
    this.#next = (slot + 1) % NAMES
    const gone = this.#addresses[slot]
    if (gone !== undefined && this.#slots.get(gone) === slot) this.#slots.delete(gone)
    this.#lengths[slot] = writeAddress(this.block, address, this.#family, slot * this.#size)
    this.#addresses[slot] = address
    this.#as[slot] = { ...address }
    this.#slots.set(address, slot)
    return slot
  }

  address(slot: number): number {
    return this.block.address + slot * this.#size
  }

  length(slot: number): number {
    return this.#lengths[slot] as number
  }
}

function reads(address: Address, as: Address | undefined): boolean {
  if (as === undefined || address.family !== as.family) return false
  if (address.family === 'unix' || as.family === 'unix') return sameAddress(address, as)
  return address.port === as.port && address.address === as.address && address.scope === as.scope
}
