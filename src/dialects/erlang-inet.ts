/** `inet`: questions and options of the sockets of `gen_tcp` and `gen_udp`, addresses and names. */

import { AddressError, hostName, interfaces, isIp, lookup } from '../index.js'
import type { SocketOption } from './erlang-options.js'
import { current, Exit, type Linkable, type Pid, processOf, type Ref } from './erlang-process.js'
import { posixText, type TcpReason } from './erlang-reasons.js'
import { chosen, type SocketAddress, type Statistic, StreamSocket } from './erlang-socket.js'
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
  looseIp4,
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

/** The port of this end. @returns `['ok', Port]`, or `einval` after `close` and for UNIX sockets */
export function port(socket: InetSocket): Ok<number> | Failure<'einval' | 'enotconn'> {
  const address = addressOf(socket)
  if (address[0] === 'error') return address
  const [, number] = address[1]
  return typeof number === 'number' ? ['ok', number] : ['error', 'einval']
}

/** The number that the system knows a socket by. @returns `['ok', Number]`, or `einval` after `close`, `enotsup` where the driver does not tell */
export function getfd(socket: InetSocket): Ok<number> | Failure<'einval' | 'enotsup'> {
  if (!isSocket(socket) || socket.closed) return ['error', 'einval']
  const from = socket instanceof StreamSocket ? socket.connection : socket instanceof ListenSocket ? socket.listener : socket
  return from.descriptor === undefined ? ['error', 'enotsup'] : ['ok', from.descriptor]
}

/** Closes any socket. @returns `'ok'`, also the second time */
export async function close(socket: InetSocket): Promise<'ok'> {
  return isSocket(socket) ? socket.close() : 'ok'
}

function isSocket(value: unknown): value is InetSocket {
  return value instanceof StreamSocket || value instanceof ListenSocket || value instanceof UdpSocket
}

/** Sets options of an open socket. @returns `'ok'`, or `einval`, or `enoprotoopt` for what this system cannot do */
export function setopts(
  socket: InetSocket,
  options: readonly SocketOption[] | readonly UdpOption[],
): 'ok' | Failure<'einval' | 'enoprotoopt'> {
  const result = isSocket(socket) ? socket.setopts(options) : 'einval'
  return result === 'ok' ? 'ok' : ['error', result === 'closed' ? 'einval' : result]
}

/**
 * The values of options, in the order of the request; of a listening socket those that it gives on.
 *
 * @returns `['ok', [[Name, Value], …]]`, or `einval` for a name that is none, or after `close`
 */
export function getopts(socket: InetSocket, names: readonly string[]): Ok<readonly (readonly [string, unknown])[]> | Failure<'einval'> {
  const found = isSocket(socket) && !socket.closed ? socket.getopts(names) : undefined
  return found === undefined ? ['error', 'einval'] : ['ok', found]
}

/**
 * What was received and sent: packets, bytes (`oct`), the largest and the average; all, or those asked for.
 *
 * @returns `['ok', [[Name, Count], …]]`, or `einval` for a name that is none, or after `close`
 */
export function getstat(
  socket: InetSocket,
  names?: readonly Statistic[],
): Ok<readonly (readonly [Statistic, number])[]> | Failure<'einval'> {
  if (!isSocket(socket) || socket.closed) return ['error', 'einval']
  return chosen(socket.stats(), names)
}

/**
 * Tells the caller when a socket closes: `{'DOWN', Ref, port, Socket, Reason}`, with `noproc` at once for one that is closed.
 *
 * @returns what `cancel_monitor` takes; ends the process with `badarg` for what is no socket
 */
export function monitor(socket: InetSocket): Ref {
  return current().monitor(processOf(pid(socket)) as Linkable, ['port', socket])
}

/** Undoes {@link monitor}. @returns `true`, or `false` where there was nothing to undo */
export function cancel_monitor(ref: Ref): boolean {
  return current().demonitor(ref)
}

/**
 * The process that stands for a socket; for `link` and `monitor`.
 *
 * @returns the pid, bare; ends the process with `badarg` for what is no socket
 */
export function pid(socket: InetSocket): Pid {
  if (!isSocket(socket)) throw new Exit('badarg')
  return socket.pid
}

/** The text of an error number of the system, `econnrefused` and the like. @returns the text; never fails */
export function format_error(reason: TcpReason | (string & {})): string {
  return (typeof reason === 'string' ? posixText(reason) : undefined) ?? 'unknown POSIX error'
}

/** An address as text. @returns the text, or `einval` */
export function ntoa(address: IpTuple): string | Failure<'einval'> {
  return isIpTuple(address) ? ipTextOf(address) : ['error', 'einval']
}

function parsed<T>(tuple: T | undefined): Ok<T> | Failure<'einval'> {
  return tuple === undefined ? ['error', 'einval'] : ['ok', tuple]
}

function ip4(text: unknown, strict: boolean): Ip4Tuple | undefined {
  return typeof text === 'string' && (!strict || /^(?:(?:0|[1-9]\d*)(?:\.|$)){4}$/.test(text)) ? looseIp4(text) : undefined
}

function ip6(text: unknown): Ip6Tuple | undefined {
  const tuple = typeof text === 'string' ? ipTupleOf(text) : undefined
  return tuple?.length === 8 ? tuple : undefined
}

/** The address that a text is, IPv4 in its short spellings as well (`127.1`), or IPv6. @returns `['ok', Address]`, or `einval` */
export function parse_address(text: string): Ok<IpTuple> | Failure<'einval'> {
  return parsed<IpTuple>(ip4(text, false) ?? ip6(text))
}

/** As {@link parse_address}, IPv4 with all four numbers alone. @returns `['ok', Address]`, or `einval` */
export function parse_strict_address(text: string): Ok<IpTuple> | Failure<'einval'> {
  return parsed<IpTuple>(ip4(text, true) ?? ip6(text))
}

/** As {@link parse_address}, IPv4 alone. @returns `['ok', Address]`, or `einval` */
export function parse_ipv4_address(text: string): Ok<Ip4Tuple> | Failure<'einval'> {
  return parsed(ip4(text, false))
}

/** As {@link parse_strict_address}, IPv4 alone. @returns `['ok', Address]`, or `einval` */
export function parse_ipv4strict_address(text: string): Ok<Ip4Tuple> | Failure<'einval'> {
  return parsed(ip4(text, true))
}

/** As {@link parse_address}, with IPv4 in the form that IPv6 has for it. @returns `['ok', Address]`, or `einval` */
export function parse_ipv6_address(text: string): Ok<Ip6Tuple> | Failure<'einval'> {
  const mapped = ip4(text, false)
  if (mapped === undefined) return parsed(ip6(text))
  const [a, b, c, d] = mapped
  return ['ok', [0, 0, 0, 0, 0, 0xffff, (a << 8) | b, (c << 8) | d]]
}

/** As {@link parse_address}, IPv6 alone. @returns `['ok', Address]`, or `einval` */
export function parse_ipv6strict_address(text: string): Ok<Ip6Tuple> | Failure<'einval'> {
  return parsed(ip6(text))
}

/** The first address of a host. @returns `['ok', Address]`, or `nxdomain` */
export async function getaddr(
  host: HostAddress,
  family: 'inet' | 'inet6',
): Promise<Ok<IpTuple> | Failure<'eafnosupport' | 'einval' | 'nxdomain'>> {
  const all = await getaddrs(host, family)
  return all[0] === 'ok' ? ['ok', all[1][0] as IpTuple] : all
}

/** All addresses of a host. @returns `['ok', [Address, …]]`, or `nxdomain`, `eafnosupport` for a tuple of the other family, `einval` for what is no host */
export async function getaddrs(
  host: HostAddress,
  family: 'inet' | 'inet6',
): Promise<Ok<readonly IpTuple[]> | Failure<'eafnosupport' | 'einval' | 'nxdomain'>> {
  const wanted = family === 'inet' ? 4 : family === 'inet6' ? 6 : undefined
  if (wanted === undefined) return ['error', 'einval']
  if (isIpTuple(host) && host.length !== (wanted === 4 ? 4 : 8)) return ['error', 'eafnosupport']
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

/** What this machine calls itself, up to the first dot. @returns `['ok', Name]` */
export function gethostname(): Ok<string> {
  return ['ok', hostName().split('.')[0] as string]
}

/** The interfaces of this machine with their addresses. @returns `['ok', [[Name, [['hwaddr', Mac], ['addr', Address], …]], …]]` */
export function getifaddrs(): Ok<readonly (readonly [string, readonly (readonly ['addr', IpTuple] | readonly ['hwaddr', string])[]])[]> {
  const found = new Map<string, (readonly ['addr', IpTuple] | readonly ['hwaddr', string])[]>()
  for (const { interface: name, address, mac } of interfaces()) {
    const known = found.get(name) ?? [['hwaddr', mac] as const]
    known.push(['addr', ipTupleOf(address) as IpTuple])
    found.set(name, known)
  }
  return ['ok', [...found]]
}
