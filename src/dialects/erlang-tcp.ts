/** `gen_tcp`: connected and listening TCP sockets, and UNIX-domain ones by `{local, Path}`. */

import { connect as dial } from '../index.js'
import { acceptOn, creation, endpointFor, fromOf, isForeign, isHost, ListenSocket, openListener } from './erlang-listen.js'
import type { Data } from './erlang-messages.js'
import {
  type ConnectorOption,
  type DataOf,
  defaultPlace,
  defaultSettings,
  isDescriptor,
  type ListenerOption,
  readOptions,
  type SocketOption,
} from './erlang-options.js'
import { current, type Pid, harmless } from './erlang-process.js'
import { posixReason, type TcpReason } from './erlang-reasons.js'
import { StreamSocket } from './erlang-socket.js'
import {
  type Failure,
  type HostAddress,
  type IoData,
  isTimeout,
  isWhole,
  type LocalAddress,
  type Ok,
  type Timeout,
} from './erlang-terms.js'

export type TcpListenOption = SocketOption | ListenerOption
export type TcpConnectOption = SocketOption | ConnectorOption

export { ListenSocket }

/** A connected socket of `gen_tcp`; `D` is what it receives. */
export class TcpSocket<D = Data> extends StreamSocket<D> {
  declare readonly tcp: true
}

/**
 * Listens at a port, 0 for any free one. By default at all IPv4 addresses, with a queue of 5.
 *
 * @returns `['ok', ListenSocket]`, or an error: `einval` for options or a port that are none, `eaddrinuse`, `eacces`, `eaddrnotavail`
 */
export function listen<const O extends readonly TcpListenOption[]>(
  port: number,
  options: O,
): Promise<Ok<ListenSocket<DataOf<O>>> | Failure<TcpReason>> {
  return harmless(async () => {
    const stream = defaultSettings('tcp')
    const place = defaultPlace()
    if (!isWhole(port, 0, 65_535) || !readOptions(options, 'listen', { stream, place, others: {} })) return ['error', 'einval']
    const opened = await openListener(port, stream, place)
    return opened[0] === 'ok' ? ['ok', new ListenSocket<DataOf<O>>('tcp', opened[1], stream, current())] : opened
  })
}

/**
 * The next connection; the caller becomes its owner, and it has the options of the listening socket. Calls of several processes
 * are served in order.
 *
 * @returns `['ok', Socket]`, or an error: `timeout`, `closed`, `einval` for what is no listening socket
 */
export function accept<D>(listenSocket: ListenSocket<D>, timeout: Timeout = 'infinity'): Promise<Ok<TcpSocket<D>> | Failure<TcpReason>> {
  return harmless(async () => {
    if (!(listenSocket instanceof ListenSocket) || listenSocket.kind !== 'tcp' || !isTimeout(timeout)) return ['error', 'einval']
    const accepted = await acceptOn(listenSocket, timeout)
    if (accepted[0] === 'error') return accepted
    return ['ok', new TcpSocket<D>('tcp', accepted[1], listenSocket.settings, current())]
  })
}

/**
 * Connects to a port of a host, or to a UNIX socket, `['local', Path]` with port 0. The time, by default without end, covers the
 * look-up, too.
 *
 * @returns `['ok', Socket]`, or an error: `timeout`, `econnrefused`, `nxdomain`, `einval`, …
 */
export function connect<const O extends readonly TcpConnectOption[]>(
  address: HostAddress | LocalAddress,
  port: number,
  options: O,
  timeout: Timeout = 'infinity',
): Promise<Ok<TcpSocket<DataOf<O>>> | Failure<TcpReason>> {
  return harmless(async () => {
    const stream = defaultSettings('tcp')
    const place = defaultPlace()
    // No port at all, as the system has it.
    if (port === 0 && isHost(address)) return ['error', 'econnrefused']
    const to = endpointFor(address, port, 'tcp')
    if (to === undefined || !isTimeout(timeout) || !readOptions(options, 'connect', { stream, place, others: {} }))
      return ['error', 'einval']
    if (isForeign(address, place.family)) return ['error', 'eafnosupport']
    const process = current()
    process.mustLive()
    const local = to.transport === 'unix'
    try {
      const connection = await dial(to, {
        owner: process.owner,
        timeout: timeout === 'infinity' ? Number.POSITIVE_INFINITY : Math.max(1, timeout),
        ...(!local && place.family !== undefined && { family: place.family }),
        ...fromOf(place),
        ...creation(stream, local),
      })
      return ['ok', new TcpSocket<DataOf<O>>('tcp', connection, stream, process)]
    } catch (error) {
      process.mustLive()
      return ['error', posixReason(error)]
    }
  })
}

/**
 * A socket for a connection that others made, by the number of its descriptor, which is closed with the socket. In list mode and
 * active unless the options say otherwise; what they do not say about the connection stays as it is.
 *
 * @returns `['ok', Socket]`, or an error: `ebadf` there is none, `enotsock`, `enotconn`, `einval` another kind of socket, `eexist` another
 *   socket of this program has it, `enotsup` the driver cannot
 */
export function fdopen<const O extends readonly SocketOption[]>(
  fd: number,
  options: O,
): Promise<Ok<TcpSocket<DataOf<O>>> | Failure<TcpReason>> {
  return harmless(async () => {
    const asked = { stream: defaultSettings('tcp'), place: defaultPlace(), others: {} }
    if (!isDescriptor(fd) || !readOptions(options, 'set', asked)) return ['error', 'einval']
    const process = current()
    process.mustLive()
    try {
      const connection = await dial({ fd }, { owner: process.owner })
      const socket = new TcpSocket<DataOf<O>>('tcp', connection, defaultSettings('tcp'), process)
      const set = socket.setopts(options)
      if (set === 'ok') return ['ok', socket]
      await socket.close()
      return ['error', set]
    } catch (error) {
      process.mustLive()
      return ['error', posixReason(error)]
    }
  })
}

/** Why a function cannot do with this socket, if so. */
function refusal(socket: unknown): Failure<'enotconn' | 'einval'> | undefined {
  if (socket instanceof TcpSocket) return undefined
  return ['error', socket instanceof ListenSocket ? 'enotconn' : 'einval']
}

/**
 * Receives from a passive socket. `length` 0 gives what is there, or one packet; a positive one, on a raw socket alone, exactly so
 * many bytes.
 *
 * @returns `['ok', Data]`, or an error: `timeout` (nothing is lost), `closed`, `enotconn` after that, `einval` on an active socket,
 *   `ealready` beside another call, `emsgsize` for a packet that is too large
 */
export function recv<D>(socket: TcpSocket<D>, length: number, timeout: Timeout = 'infinity'): Promise<Ok<D> | Failure<TcpReason>> {
  const refused = refusal(socket)
  return refused === undefined ? (socket.recv(length, timeout) as Promise<Ok<D> | Failure<TcpReason>>) : Promise.resolve(refused)
}

/**
 * Sends, behind its length if the socket has packets of that kind. Waits while the peer does not read.
 *
 * @returns `'ok'`, or an error: `closed`, `timeout` (of `send_timeout`), `einval`, `emsgsize` for what the length cannot tell
 */
export function send(socket: TcpSocket<unknown>, data: IoData): Promise<'ok' | Failure<TcpReason>> {
  const refused = refusal(socket)
  return refused === undefined ? (socket.send(data) as Promise<'ok' | Failure<TcpReason>>) : Promise.resolve(refused)
}

/**
 * Puts bytes back in front of the input, for the next `recv` or message.
 *
 * @returns `'ok'`, or `einval` after `close` and for what is no data
 */
export function unrecv(socket: TcpSocket<unknown>, data: IoData): 'ok' | Failure<TcpReason> {
  return socket instanceof TcpSocket && socket.unrecv(data) ? 'ok' : ['error', 'einval']
}

/** Closes a socket; what was sent is delivered first, for which the peer has three minutes. @returns `'ok'`, also the second time */
export async function close(socket: TcpSocket<unknown> | ListenSocket<unknown>): Promise<'ok'> {
  return socket instanceof TcpSocket || socket instanceof ListenSocket ? socket.close() : 'ok'
}

/** Ends one direction, or both. @returns `'ok'`, or an error: `closed`, `enotconn` */
export async function shutdown(socket: TcpSocket<unknown>, how: 'read' | 'write' | 'read_write'): Promise<'ok' | Failure<TcpReason>> {
  return refusal(socket) ?? socket.shutdown(how)
}

/**
 * Makes another process the owner, with all messages of the socket that are in the caller's mailbox, in order.
 *
 * @returns `'ok'`, or an error: `not_owner` unless the caller owns it, `badarg` for a process that is no more, `closed`
 */
export function controlling_process(socket: TcpSocket<unknown> | ListenSocket<unknown>, pid: Pid): 'ok' | Failure<TcpReason | 'badarg'> {
  if (socket instanceof ListenSocket) return socket.controlling(pid)
  return socket instanceof TcpSocket ? socket.controlling(pid, () => 'not_owner' as const) : ['error', 'einval']
}
