/** The addresses of Deno. */

import type { Address, Endpoint } from '../index.js'

export interface NetAddr {
  transport: 'tcp' | 'udp'
  hostname: string
  port: number
}

export interface UnixAddr {
  transport: 'unix' | 'unixpacket'
  path: string
}

export type Addr = NetAddr | UnixAddr

export interface UnixListenOptions {
  path: string
}

export function addrOf(address: Address | undefined, transport: 'tcp' | 'udp'): Addr {
  if (address === undefined) return { transport: 'unix', path: '' }
  if (address.family !== 'unix') return { transport, hostname: address.address, port: address.port }
  return { transport: transport === 'tcp' ? 'unix' : 'unixpacket', path: address.abstract ? `\0${address.path}` : address.path }
}

export function unixAt(path: string, transport: 'unix' | 'unixgram' = 'unix'): Endpoint {
  return path.startsWith('\0') ? { transport, path: path.slice(1), abstract: true } : { transport, path }
}

export function supports(transport: string | undefined, known: readonly string[]): void {
  if (transport !== undefined && !known.includes(transport)) throw new TypeError(`Unsupported transport: '${transport}'`)
}
