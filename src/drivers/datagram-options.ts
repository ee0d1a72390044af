/** The options of datagram sockets as far as `node:dgram` has them. */

import type { Socket } from 'node:dgram'
import { networkInterfaces } from 'node:os'
import type { BindSettings, OptionHandle } from '../driver.js'
import { refusal } from './refusal.js'
import { Remembered } from './remembered.js'

/** Options with a field of their own in {@link BindSettings}. */
export const MADE_WITH: ReadonlySet<string> = new Set(['reuseAddress', 'reusePort', 'ipv6Only'])

/** Most of them can be set and not read: those are told as they were set. */
export function datagramOptions(socket: Socket, ipv6: boolean, settings: BindSettings): OptionHandle {
  const { type, reuseAddress, reusePort, ipv6Only } = settings
  const remembered = new Remembered(
    new Map<string, unknown>(Object.entries({ ...STANDARD, type, protocol: 'udp', reuseAddress, reusePort, ipv6Only })),
    SETTABLE,
    (name, value) => SETTERS[name as keyof typeof SETTERS](socket, value as never, ipv6),
  )
  return {
    get: (name) => (Object.hasOwn(GETTERS, name) ? GETTERS[name as keyof typeof GETTERS](socket) : remembered.get(name)),
    set: (name, value) => remembered.set(name, value),
  }
}

/** What a new socket has: ip(7), ipv6(7), socket(7). */
const STANDARD = { broadcast: false, multicastLoopback: true, multicastTtl: 1 }

const GETTERS = {
  sendBuffer: (socket: Socket) => socket.getSendBufferSize(),
  receiveBuffer: (socket: Socket) => socket.getRecvBufferSize(),
}

const SETTERS = {
  sendBuffer: (socket: Socket, size: number) => socket.setSendBufferSize(size),
  receiveBuffer: (socket: Socket, size: number) => socket.setRecvBufferSize(size),
  ttl: (socket: Socket, hops: number) => socket.setTTL(hops),
  multicastTtl: (socket: Socket, hops: number) => socket.setMulticastTTL(hops),
  multicastLoopback: (socket: Socket, on: boolean) => socket.setMulticastLoopback(on),
  multicastInterface: (socket: Socket, at: string, ipv6: boolean) => socket.setMulticastInterface(interfaceFor(at, ipv6)),
  broadcast: (socket: Socket, on: boolean) => socket.setBroadcast(on),
}
const SETTABLE: ReadonlySet<string> = new Set(Object.keys(SETTERS))

/** An interface as the runtime wants it: for IPv4 an address of it, for IPv6 its name (its number on Windows) as a scope. */
export function interfaceFor(given: string, ipv6: boolean): string {
  if (!ipv6 && /^[\d.]+$/.test(given)) return given
  const [literal, scope] = given.split('%') as [string, string | undefined]
  const all = networkInterfaces()
  const named = [given, scope].find((name) => name !== undefined && all[name] !== undefined)
  const name = named ?? Object.keys(all).find((one) => all[one]?.some(({ address }) => address === literal))
  const addresses = name === undefined ? undefined : all[name]
  // libuv takes the name of no interface for any interface.
  if (addresses === undefined) throw refusal('ENODEV', `no interface ${JSON.stringify(given)} is up`)
  if (ipv6) return `::%${process.platform === 'win32' ? addresses.find(({ family }) => family === 'IPv6')?.scopeid : name}`
  const ipv4 = addresses.find(({ family }) => family === 'IPv4')
  if (ipv4 === undefined) throw refusal('EADDRNOTAVAIL', `interface ${given} has no IPv4 address`)
  return ipv4.address
}
