/** `inet`: questions and options of the sockets of `gen_tcp` and `gen_udp`, addresses and names. */

import { AddressError, hostName, interfaces, isIp, lookup } from '../index.js'
import type { SocketOption } from './erlang-options.js'
import { current, type Pid, processOf, Ref } from './erlang-process.js'
import { posixText, type TcpReason } from './erlang-reasons.js'
import { chosen, type SocketAddress, type Statistic } from './erlang-socket.js'
import { ListenSocket } from './erlang-listen.js'
import { TcpSocket } from './erlang-tcp.js'
import {
  type Failure,
  type HostAddress,
  type Ip4Tuple,
  type Ip6Tuple,
  type IpTuple,
  ipTextOf,
  ipTupleOf,
  isIpTuple,
  type Ok,
} from './erlang-terms.js'
import { type UdpOption, UdpSocket } from './erlang-udp.js'

export type { Statistic }
export type InetSocket = TcpSocket<unknown> | ListenSocket<unknown> | UdpSocket<unknown>

/** The address and port of this end. @returns `['ok', [Address, Port]]`, or `einval` after `close` */
export function sockname(socket: InetSocket): Ok<SocketAddress> | Failure<'einval' | 'enotconn'> {
  return addressOf(socket)
}

function addressOf(socket: InetSocket): Ok<SocketAddress> | Failure<'einval' | 'enotconn'> {
  if (socket instanceof ListenSocket) return socket.address()
  if (socket instanceof TcpSocket || socket instanceof UdpSocket) return socket.address('local')
  return ['error', 'einval']
}

/** The address and port of the peer. @returns `['ok', [Address, Port]]`, or `enotconn`, or `einval` after `close` */
export function peername(socket: InetSocket): Ok<SocketAddress> | Failure<'einval' | 'enotconn'> {
  if (socket instanceof ListenSocket) return ['error', socket.closed ? 'einval' : 'enotconn']
  return socket instanceof TcpSocket || socket instanceof UdpSocket ? socket.address('remote') : ['error', 'einval']
}

/** The port of this end. */
export function port(socket: InetSocket): Ok<number> | Failure<'einval' | 'enotconn'> {
  const address = addressOf(socket)
  if (address[0] === 'error') return address
  const [, number] = address[1]
  return typeof number === 'number' ? ['ok', number] : ['error', 'einval']
}

/** Closes any socket. */
export async function close(socket: InetSocket): Promise<'ok'> {
  return socket.close()
}

/** Sets options of an open socket. @returns `'ok'`, or `einval`, or `enoprotoopt` for what this system cannot do */
export function setopts(
  socket: InetSocket,
  options: readonly SocketOption[] | readonly UdpOption[],
): 'ok' | Failure<'einval' | 'enoprotoopt'> {
  const result = socket.setopts(options)
  return result === 'ok' ? 'ok' : ['error', result === 'closed' ? 'einval' : result]
}

/** The values of options, in the order of the request. */
export function getopts(
  socket: TcpSocket<unknown> | UdpSocket<unknown>,
  names: readonly string[],
): Ok<readonly (readonly [string, unknown])[]> | Failure<'einval'> {
  const found = socket.closed ? undefined : socket.getopts(names)
  return found === undefined ? ['error', 'einval'] : ['ok', found]
}

/** What was received and sent: packets, bytes (`oct`), the largest and the average. */
export function getstat(
  socket: TcpSocket<unknown> | UdpSocket<unknown>,
  names?: readonly Statistic[],
): Ok<readonly (readonly [Statistic, number])[]> | Failure<'einval'> {
  return socket.closed ? ['error', 'einval'] : chosen(socket.stats(), names)
}

/** Tells the caller when a socket closes: `{'DOWN', Ref, port, Socket, Reason}` in the original, with `process` and its pid here. */
export function monitor(socket: TcpSocket<unknown> | ListenSocket<unknown>): Ref {
  const target = processOf(socket.pid)
  const ref = new Ref()
  if (target === undefined || target.over !== undefined) current().put(['DOWN', ref, 'process', socket.pid, 'noproc'])
  else {
    target.monitors.set(ref, current())
    current().monitoring.set(ref, target)
  }
  return ref
}

/** The process that stands for a socket; for `link` and `monitor`. */
export function pid(socket: TcpSocket<unknown> | ListenSocket<unknown>): Pid {
  return socket.pid
}

/** The text of an error number of the system, `econnrefused` and the like. */
export function format_error(reason: TcpReason | (string & {})): string {
  return posixText(String(reason)) ?? 'unknown POSIX error'
}

/** An address as text. @returns the text, or `einval` */
export function ntoa(address: IpTuple): string | Failure<'einval'> {
  return isIpTuple(address) ? ipTextOf(address) : ['error', 'einval']
}

/** The address that a text is, IPv4 with all four numbers, or IPv6. */
export function parse_address(text: string): Ok<IpTuple> | Failure<'einval'> {
  const tuple = typeof text === 'string' ? ipTupleOf(text) : undefined
  return tuple === undefined ? ['error', 'einval'] : ['ok', tuple]
}

/** As {@link parse_address}, IPv4 alone. */
export function parse_ipv4_address(text: string): Ok<Ip4Tuple> | Failure<'einval'> {
  const parsed = parse_address(text)
  return parsed[0] === 'ok' && parsed[1].length === 4 ? ['ok', parsed[1]] : ['error', 'einval']
}

/** As {@link parse_address}, IPv6 alone. */
export function parse_ipv6_address(text: string): Ok<Ip6Tuple> | Failure<'einval'> {
  const parsed = parse_address(text)
  return parsed[0] === 'ok' && parsed[1].length === 8 ? ['ok', parsed[1]] : ['error', 'einval']
}

/** The first address of a host. @returns `['ok', Address]`, or `nxdomain` */
export async function getaddr(host: HostAddress, family: 'inet' | 'inet6'): Promise<Ok<IpTuple> | Failure<'einval' | 'nxdomain'>> {
  const all = await getaddrs(host, family)
  return all[0] === 'ok' ? ['ok', all[1][0] as IpTuple] : all
}

/** All addresses of a host. */
export async function getaddrs(
  host: HostAddress,
  family: 'inet' | 'inet6',
): Promise<Ok<readonly IpTuple[]> | Failure<'einval' | 'nxdomain'>> {
  const wanted = family === 'inet' ? 4 : family === 'inet6' ? 6 : undefined
  if (wanted === undefined) return ['error', 'einval']
  const text = isIpTuple(host) ? ipTextOf(host) : host
  if (typeof text !== 'string') return ['error', 'einval']
  const literal = isIp(text)
  if (literal !== 0) return literal === wanted ? ['ok', [ipTupleOf(text) as IpTuple]] : ['error', 'nxdomain']
  try {
    const found = await lookup(text, { family: wanted })
    return ['ok', found.map(({ address }) => ipTupleOf(address) as IpTuple)]
  } catch (error) {
    if (error instanceof AddressError) return ['error', 'nxdomain']
    throw error
  }
}

/** What this machine calls itself, up to the first dot. */
export function gethostname(): Ok<string> {
  return ['ok', hostName().split('.')[0] as string]
}

/** The interfaces of this machine with their addresses. */
export function getifaddrs(): Ok<readonly (readonly [string, readonly (readonly ['addr', IpTuple] | readonly ['hwaddr', string])[]])[]> {
  const found = new Map<string, (readonly ['addr', IpTuple] | readonly ['hwaddr', string])[]>()
  for (const { interface: name, address, mac } of interfaces()) {
    const known = found.get(name) ?? [['hwaddr', mac] as const]
    known.push(['addr', ipTupleOf(address) as IpTuple])
    found.set(name, known)
  }
  return ['ok', [...found]]
}
