/** `ssl`: the functions of the old module, whole, and of today's what this library can do. */

import { connect as dial, type Connection, type Listener, lookup, type ClientTlsOptions, type TlsInfo } from '../index.js'
import { acceptOn, creation, endpointFor, fromOf, isForeign, isHost, ListenSocket, openListener } from './erlang-listen.js'
import { type HelloExtensions, peekHello } from './erlang-hello.js'
import type { Data } from './erlang-messages.js'
import {
  type ConnectorOption,
  type DataOf,
  defaultPlace,
  defaultSettings,
  type ListenerOption,
  readOptions,
  type SocketOption,
  type StreamSettings,
} from './erlang-options.js'
import { current, Exit, harmless, keep, type Pid, Process, processOf } from './erlang-process.js'
import { reasonText, type SslReason, sslReason } from './erlang-reasons.js'
import { type CipherSuite, suiteByName } from './erlang-suites.js'
import { addressPair, chosen, type SocketAddress, type Statistic, StreamSocket } from './erlang-socket.js'
import { TcpSocket } from './erlang-tcp.js'
import { type Failure, type HostAddress, type IoData, isTimeout, type LocalAddress, type Ok, type Timeout } from './erlang-terms.js'
import {
  clientSettings,
  defaultTls,
  type ProtocolVersion,
  type Serving,
  serverSettings,
  type TlsChoice,
  type TlsClientOption,
  type TlsOption,
  type TlsServerOption,
  tlsSetters,
  Unusable,
} from './erlang-tls.js'

export type SslListenOption = SocketOption | ListenerOption | TlsOption | TlsServerOption
export type SslConnectOption = SocketOption | ConnectorOption | TlsOption | TlsClientOption

/** A connected socket of `ssl`; `D` is what it receives. */
export class SslSocket<D = Data> extends StreamSocket<D> {
  declare readonly ssl: true
}

/** A listening socket of `ssl`. */
export class SslListenSocket<D = Data> extends ListenSocket<D> {
  /** @internal */
  readonly serving: Serving

  /** @internal */
  constructor(listener: Listener, settings: StreamSettings, serving: Serving, owner: Process) {
    super('ssl', listener, settings, owner)
    this.serving = serving
  }
}

/** What `transport_accept` gives: a connection whose handshake has not been made. It goes to `handshake`, or is closed. */
export class TransportSocket<D = Data> {
  declare readonly data: D
  /** @internal */
  readonly settings: StreamSettings
  /** @internal */
  readonly serving: Serving
  #connection: Connection | undefined
  #owner: Process

  /** @internal */
  constructor(connection: Connection, settings: StreamSettings, serving: Serving, owner: Process) {
    this.#connection = connection
    this.settings = { ...settings }
    this.serving = serving
    this.#owner = owner
  }

  /** The connection, once. @internal */
  take(): Connection | undefined {
    const connection = this.#connection
    this.#connection = undefined
    return connection
  }

  /** @internal */
  address(side: 'local' | 'remote'): Ok<SocketAddress> | Failure<'einval' | 'enotconn'> {
    if (this.#connection === undefined) return ['error', 'einval']
    const address = this.#connection[side]
    return address === undefined ? ['error', 'enotconn'] : ['ok', addressPair(address)]
  }

  /** @internal */
  async close(): Promise<'ok'> {
    await this.take()?.close()
    return 'ok'
  }

  /** @internal */
  controlling(pid: unknown): 'ok' | Failure<SslReason | 'badarg'> {
    const to = processOf(pid)
    if (this.#connection === undefined) return ['error', 'closed']
    if (current() !== this.#owner) return ['error', ['badcall', ['inhibit_msgs', current().pid]]]
    if (!(to instanceof Process) || to.over !== undefined) return ['error', 'badarg']
    keep(this.#connection, to.owner)
    this.#owner = to
    return 'ok'
  }
}

export {
  append_cipher_suites,
  cipher_suites,
  ciphers,
  type CipherSuite,
  filter_cipher_suites,
  prepend_cipher_suites,
  str_to_suite,
  suite_to_openssl_str,
  suite_to_str,
  type SuiteFilter,
  type SuiteKind,
} from './erlang-suites.js'

/** What any function of `ssl` takes as a socket. */
export type AnySslSocket = SslSocket<unknown> | SslListenSocket<unknown> | TransportSocket<unknown>

// Opening

/**
 * Listens at a port, 0 for any free one: ask `port` then. Defaults: `{packet, 0} {nodelay, false} {active, true} {backlog, 5}
 * {ip, {0,0,0,0}}`, list mode, `{verify, 0} {depth, 1}`. Accepted sockets have the options given here.
 *
 * @returns `['ok', ListenSocket]`, or an error: `enooptions` for no options at all, `eoptions`, `enoservercert` without `certfile`,
 *   `ecertfile ekeyfile ekeymismatch ecacertfile ecipher` for what cannot be used, `eaddrinuse`, `eacces`, `eaddrnotavail`
 */
export function listen<const O extends readonly SslListenOption[]>(
  port: number,
  options: O,
): Promise<Ok<SslListenSocket<DataOf<O>>> | Failure<SslReason>> {
  return harmless(async () => {
    if (Array.isArray(options) && options.length === 0) return ['error', 'enooptions']
    const [stream, place, others] = [defaultSettings('ssl'), defaultPlace(), defaultTls()]
    if (!isPort(port) || !readOptions(options, 'listen', { stream, place, others }, tlsSetters('listen'))) return ['error', 'eoptions']
    const serving = serverSettings(others)
    if (serving instanceof Unusable) return ['error', serving.reason]
    const opened = await openListener(port, stream, place)
    if (opened[0] === 'error') return opened
    return ['ok', new SslListenSocket<DataOf<O>>(opened[1], stream, serving, current())]
  })
}

function isPort(port: unknown): port is number {
  return Number.isInteger(port) && (port as number) >= 0 && (port as number) <= 65_535
}

/** When a time that begins now is over. */
function until(timeout: Timeout): { deadline?: number } {
  return timeout === 'infinity' ? {} : { deadline: Date.now() + Math.max(1, timeout) }
}

/**
 * The next connection, with its handshake made; the caller becomes its owner. One time covers both.
 *
 * @returns `['ok', Socket]`, or an error: `timeout`, `closed`, `enotlistener`, and what a handshake fails with: `esslaccept` when its
 *   own limit of 10 s is over, `esslerrssl`, and for the certificate of the client `enoissuercert eselfsignedcert epeercertexpired
 *   epeercertinvalid echaintoolong epeercert`
 */
export function accept<D>(listenSocket: SslListenSocket<D>, timeout: Timeout = 'infinity'): Promise<Ok<SslSocket<D>> | Failure<SslReason>> {
  return harmless(async () => {
    if (!(listenSocket instanceof SslListenSocket)) return ['error', 'enotlistener']
    if (!isTimeout(timeout)) return ['error', 'einval']
    const wait = until(timeout)
    const accepted = await acceptOn(listenSocket, timeout)
    if (accepted[0] === 'error') return accepted
    return shake(accepted[1], listenSocket.settings, listenSocket.serving, wait)
  })
}

/** Makes a handshake on a connection of the calling process: of a server with settings it has loaded, or of a client. */
async function shake<D>(
  connection: Connection,
  settings: StreamSettings,
  how: Serving | { readonly client: ClientTlsOptions; readonly judges: boolean },
  wait: { deadline?: number },
): Promise<Ok<SslSocket<D>> | Failure<SslReason>> {
  const process = current()
  const role = 'client' in how ? 'client' : 'server'
  try {
    // What a client has sent already is the beginning of its handshake, or else no handshake at all.
    const secured = await ('client' in how
      ? connection.startTls({ ...how.client, role: 'client', ...limits(wait), ...wait })
      : connection.startTls({
          settings: how.settings,
          role: 'server',
          implicit: true,
          ...(wait.deadline === undefined ? { timeout: UNLIMITED } : wait),
        }))
    process.mustLive()
    return established(secured, settings, process, role, how.judges)
  } catch (error) {
    if (error instanceof Exit) throw error
    process.mustLive()
    // A time that was over before the handshake began leaves it as it is.
    if (connection.state !== 'closed') connection.abort()
    return ['error', handshakeReason(error, role, wait)]
  }
}

/** The limit of the core for a handshake, 10 s, holds where the program has none. */
function limits({ deadline }: { deadline?: number }): { handshakeTimeout?: number } {
  return deadline === undefined ? {} : { handshakeTimeout: Number.POSITIVE_INFINITY }
}

/** Milliseconds that a server waits for a client in a handshake where the program has no limit. */
const UNLIMITED = 10_000

/** Milliseconds by which clocks may differ. */
const TOLERANCE = 5

function handshakeReason(error: unknown, role: 'client' | 'server', { deadline }: { deadline?: number }): SslReason {
  const reason = sslReason(error, role)
  // It may have been this library's own limit.
  if (reason !== 'timeout' || (deadline !== undefined && Date.now() >= deadline - TOLERANCE)) return reason
  return role === 'client' ? 'esslconnect' : 'esslaccept'
}

function established<D>(
  connection: Connection,
  settings: StreamSettings,
  process: Process,
  role: 'client' | 'server',
  judged: boolean,
): Ok<SslSocket<D>> | Failure<SslReason> {
  const { peerCertificate, verifyError } = connection.security as TlsInfo
  // A certificate that need not be there has to be good if it is.
  if (judged && peerCertificate !== null && verifyError !== null && !(role === 'client' && verifyError.code === 'NAME_MISMATCH')) {
    connection.abort(verifyError)
    return ['error', sslReason(verifyError, role)]
  }
  return ['ok', new SslSocket<D>('ssl', connection, settings, process)]
}

/**
 * Connects to a port of a host, or makes a connected socket of `gen_tcp` one of TLS. The time covers look-up, connection and
 * handshake. With `verify` 1 or 2 the certificate of the server has to name the host, unless `server_name_indication` is `disable`.
 *
 * @returns `['ok', Socket]`, or an error: `timeout`, `econnrefused`, `nxdomain`, `eoptions`, those of files as `listen`, and of
 *   handshakes as `accept`, with `esslconnect` in the place of `esslaccept`
 */
export function connect<const O extends readonly SslConnectOption[]>(
  address: HostAddress | LocalAddress,
  port: number,
  options: O,
  timeout?: Timeout,
): Promise<Ok<SslSocket<DataOf<O>>> | Failure<SslReason>>
export function connect<const O extends readonly SslConnectOption[], D>(
  socket: TcpSocket<D>,
  options: O,
  timeout?: Timeout,
): Promise<Ok<SslSocket<D>> | Failure<SslReason>>
export function connect(...args: readonly unknown[]): Promise<Ok<SslSocket<never>> | Failure<SslReason>> {
  return harmless(async () => {
    const [target, second] = args
    const upgrade = target instanceof TcpSocket
    const [options, timeout = 'infinity'] = (upgrade ? args.slice(1) : args.slice(2)) as unknown as [unknown, Timeout?]
    const stream = upgrade ? { ...target.settings } : defaultSettings('ssl')
    const [place, others] = [defaultPlace(), defaultTls()]
    if (!isTimeout(timeout) || !readOptions(options, 'connect', { stream, place, others }, tlsSetters('connect')))
      return ['error', 'eoptions']
    const tls = clientSettings(others)
    if (tls instanceof Unusable) return ['error', tls.reason]
    const wait = until(timeout)
    if (upgrade) return upgraded(target, stream, tls, others, wait)
    if (second === 0 && isHost(target)) return ['error', 'econnrefused']
    const to = endpointFor(target, second, 'tls')
    if (to === undefined) return ['error', 'eoptions']
    if (isForeign(target, place.family)) return ['error', 'eafnosupport']
    const process = current()
    process.mustLive()
    const local = to.transport === 'tls+unix'
    try {
      if (others.serverName === 'disable' && to.host !== undefined) to.host = await firstAddress(to.host, place.family)
      const connection = await dial(to, {
        owner: process.owner,
        tls: { ...tls, ...limits(wait) },
        ...(wait.deadline === undefined ? { timeout: Number.POSITIVE_INFINITY } : wait),
        ...(!local && place.family !== undefined && { family: place.family }),
        ...fromOf(place),
        ...creation(stream, local),
      })
      process.mustLive()
      return established(connection, stream, process, 'client', others.verify > 0)
    } catch (error) {
      if (error instanceof Exit) throw error
      process.mustLive()
      return ['error', handshakeReason(error, 'client', wait)]
    }
  })
}

/** Without a name nothing is said of one in the handshake. */
async function firstAddress(host: string, family: 4 | 6 | undefined): Promise<string> {
  const [first] = await lookup(host, family === undefined ? {} : { family })
  return first?.address ?? host
}

async function upgraded(
  socket: TcpSocket<unknown>,
  settings: StreamSettings,
  tls: ClientTlsOptions,
  { verify, serverName }: TlsChoice,
  wait: { deadline?: number },
): Promise<Ok<SslSocket<never>> | Failure<SslReason>> {
  const connection = socket.release()
  if (connection === undefined) return ['error', socket.closed ? 'closed' : 'einval']
  const named = verify > 0 && serverName === undefined && tls.serverName === undefined ? hostOf(connection) : {}
  return shake(connection, settings, { client: { ...tls, ...named }, judges: verify > 0 }, wait)
}

/** Whom an upgraded connection must be to, where the options do not say: the address that was connected to. */
function hostOf({ endpoint, remote }: Connection): { serverName?: string } {
  if (endpoint.startsWith('tcp:') || remote === undefined || remote.family === 'unix') return {}
  return { serverName: remote.address }
}

/**
 * Accepts a connection and makes no handshake yet.
 *
 * @returns `['ok', TransportSocket]`, or an error: `timeout`, `closed`, `enotlistener`
 */
export function transport_accept<D>(
  listenSocket: SslListenSocket<D>,
  timeout: Timeout = 'infinity',
): Promise<Ok<TransportSocket<D>> | Failure<SslReason>> {
  return harmless(async () => {
    if (!(listenSocket instanceof SslListenSocket)) return ['error', 'enotlistener']
    if (!isTimeout(timeout)) return ['error', 'einval']
    const accepted = await acceptOn(listenSocket, timeout)
    if (accepted[0] === 'error') return accepted
    return ['ok', new TransportSocket<D>(accepted[1], listenSocket.settings, listenSocket.serving, current())]
  })
}

/**
 * Makes the handshake of a server on what `transport_accept` gave, or on a connected socket of `gen_tcp`, which has to be passive.
 * Options given here are added to those of the listening socket; with a plain socket they have to bring the certificate. With
 * `['handshake', 'hello']` among them it waits for the first message of the client alone, and gives what that asks for, too: go on
 * with `handshake_continue`, or do not with `handshake_cancel`.
 *
 * @returns `['ok', Socket]`, or `['ok', Socket, Extensions]`, or an error as `accept`; the connection is over then
 */
export function handshake<D>(socket: TransportSocket<D> | TcpSocket<D>, timeout?: Timeout): Promise<Ok<SslSocket<D>> | Failure<SslReason>>
export function handshake<D, const O extends readonly HandshakeOption[]>(
  socket: TransportSocket<D> | TcpSocket<D>,
  options: O,
  timeout?: Timeout,
): Promise<HandshakeResult<D, O> | Failure<SslReason>>
export function handshake<D>(
  socket: TransportSocket<D> | TcpSocket<D>,
  ...rest: readonly unknown[]
): Promise<Ok<SslSocket<D>> | Paused<D> | Failure<SslReason>> {
  return harmless(async () => {
    const [options, timeout] = optionsAndTime(rest)
    if (!isTimeout(timeout)) return ['error', 'einval']
    if (!(socket instanceof TransportSocket || socket instanceof TcpSocket)) return ['error', 'ebadsocket']
    const stream = { ...socket.settings }
    const others = socket instanceof TransportSocket ? { ...socket.serving.choice } : defaultTls()
    if (!readOptions(options, 'listen', { stream, place: defaultPlace(), others }, tlsSetters('listen'))) return ['error', 'eoptions']
    const own = socket instanceof TransportSocket && !options.some(isOfTls)
    const serving = own ? socket.serving : serverSettings(others)
    if (serving instanceof Unusable) return ['error', serving.reason]
    const connection = socket instanceof TransportSocket ? socket.take() : socket.release()
    if (connection === undefined) return ['error', socket instanceof TcpSocket && !socket.closed ? 'einval' : 'closed']
    const wait = until(timeout)
    return serving.pauses ? pause<D>(connection, stream, serving, wait) : shake<D>(connection, stream, serving, wait)
  })
}

export type HandshakeOption = SslListenOption | readonly ['handshake', 'full' | 'hello']
/** What a handshake gives that has stopped behind the first message of the client. */
export type Paused<D> = readonly ['ok', TransportSocket<D>, HelloExtensions]
export type HandshakeResult<D, O extends readonly unknown[]> =
  Extract<O[number], readonly ['handshake', 'hello']> extends never ? Ok<SslSocket<D>> : Paused<D>

function optionsAndTime(rest: readonly unknown[]): readonly [readonly SslListenOption[], Timeout] {
  const given = Array.isArray(rest[0])
  return [(given ? rest[0] : []) as readonly SslListenOption[], ((given ? rest[1] : rest[0]) ?? 'infinity') as Timeout]
}

async function pause<D>(
  connection: Connection,
  settings: StreamSettings,
  serving: Serving,
  wait: { deadline?: number },
): Promise<Paused<D> | Failure<SslReason>> {
  const process = current()
  try {
    const said = await peekHello(connection, wait.deadline === undefined ? { timeout: UNLIMITED } : wait)
    process.mustLive()
    if (said !== undefined) return ['ok', new TransportSocket<D>(connection, settings, unpaused(serving), process), said]
    connection.abort()
    return ['error', 'esslerrssl']
  } catch (error) {
    process.mustLive()
    connection.abort()
    return ['error', handshakeReason(error, 'server', wait)]
  }
}

function unpaused(serving: Serving): Serving {
  return { ...serving, pauses: false, choice: { ...serving.choice, pauses: false } }
}

/**
 * Goes on where `handshake` stopped, with other options if there are any.
 *
 * @returns as {@link handshake}
 */
export function handshake_continue<D>(
  socket: TransportSocket<D>,
  options: readonly SslListenOption[],
  timeout: Timeout = 'infinity',
): Promise<Ok<SslSocket<D>> | Failure<SslReason>> {
  return harmless(async () => {
    if (!(socket instanceof TransportSocket)) return ['error', 'ebadsocket']
    if (!Array.isArray(options)) return ['error', 'eoptions']
    const given = (options as readonly SslListenOption[]).filter((option) => !(Array.isArray(option) && option[0] === 'handshake'))
    return handshake(socket, given, timeout)
  })
}

/**
 * Ends a handshake that stopped, with the alert `user_canceled`.
 *
 * @returns `'ok'`, or `closed` for a socket that has gone to a handshake or was closed
 */
export async function handshake_cancel(socket: TransportSocket<unknown>): Promise<'ok' | Failure<SslReason>> {
  const connection = socket instanceof TransportSocket ? socket.take() : undefined
  if (connection === undefined) return ['error', 'closed']
  // What the peer has sent stays unread, so it is only as good as the system's own end of the connection.
  void connection.write(Uint8Array.of(21, 3, 3, 0, 2, 2, 90))
  await connection.close()
  return 'ok'
}

function isOfTls(option: SslListenOption): boolean {
  return Array.isArray(option) && Object.hasOwn(tlsSetters('listen'), String(option[0]))
}

/**
 * As {@link handshake}, by its old name. The original gives `'ok'`; the socket of a handshake is a new one here, so it is given.
 *
 * @returns `['ok', Socket]`, or an error as {@link handshake}
 */
export function ssl_accept<D>(socket: TransportSocket<D>, timeout: Timeout = 'infinity'): Promise<Ok<SslSocket<D>> | Failure<SslReason>> {
  return harmless(async () => {
    return handshake(socket, timeout)
  })
}

// Talking

function refusal(socket: unknown): Failure<SslReason> | undefined {
  if (socket instanceof SslSocket) return undefined
  if (socket instanceof TransportSocket) return ['error', 'ebadstate']
  return ['error', socket instanceof SslListenSocket ? 'enotconn' : 'ebadsocket']
}

/**
 * Sends, behind its length if the socket has packets of that kind. Any process may send.
 *
 * @returns `'ok'`, or an error: `closed` as soon as the peer has closed (what it sent before can still be received), `einval`,
 *   `['badarg', ['packet_to_large', Size, Most]]` and then nothing was sent
 */
export function send(socket: SslSocket<unknown>, data: IoData): Promise<'ok' | Failure<SslReason>> {
  const refused = refusal(socket)
  return refused === undefined ? socket.send(data) : Promise.resolve(refused)
}

/**
 * Receives from a passive socket. `length` 0 gives what is there, or one packet; a positive one, with `{packet, 0}` alone, exactly
 * so many bytes. The time is in milliseconds.
 *
 * @returns `['ok', Data]`, or an error: `timeout` (nothing is lost), `closed`, `einval` on an active socket, and `esslerrssl` or
 *   `econnreset`, once, where the connection was cut off without the end that TLS has for it
 */
export function recv<D>(socket: SslSocket<D>, length: number, timeout: Timeout = 'infinity'): Promise<Ok<D> | Failure<SslReason>> {
  const refused = refusal(socket)
  return refused === undefined ? (socket.recv(length, timeout) as Promise<Ok<D> | Failure<SslReason>>) : Promise.resolve(refused)
}

/**
 * Closes any socket of `ssl`; what was sent is delivered first, or given up when the time is over, in milliseconds. Without one, a
 * peer that does not read has three minutes.
 *
 * @returns `'ok'`, also the second time
 */
export async function close(socket: AnySslSocket, timeout: Timeout = 'infinity'): Promise<'ok' | Failure<'ebadsocket' | 'einval'>> {
  if (!isTimeout(timeout)) return ['error', 'einval']
  if (socket instanceof SslSocket) return socket.close(timeout)
  if (socket instanceof SslListenSocket || socket instanceof TransportSocket) return socket.close()
  return ['error', 'ebadsocket']
}

/** Ends one direction, or both; the peer takes the end of one for the end of both. @returns `'ok'`, or `closed`, `enotconn` */
export async function shutdown(socket: SslSocket<unknown>, how: 'read' | 'write' | 'read_write'): Promise<'ok' | Failure<SslReason>> {
  return refusal(socket) ?? socket.shutdown(how)
}

// Questions and options

/**
 * Makes another process the owner, with all messages of the socket that are in the caller's mailbox, in order.
 *
 * @returns `'ok'`, or an error: `['badcall', ['inhibit_msgs', Caller]]` unless the caller owns it, `badarg` for a process that is no
 *   more, `closed`
 */
export function controlling_process(socket: AnySslSocket, pid: Pid): 'ok' | Failure<SslReason | 'badarg' | 'not_owner'> {
  if (socket instanceof TransportSocket) return socket.controlling(pid)
  if (socket instanceof SslListenSocket) return socket.controlling(pid)
  return refusal(socket) ?? socket.controlling(pid, (caller): SslReason => ['badcall', ['inhibit_msgs', caller]])
}

/** A text for any reason, `['error', Reason]` too. @returns the text; never fails: what is no reason is an unknown POSIX error */
export function format_error(reason: unknown): string {
  return reasonText(reason)
}

/** The address and port of the peer. @returns `['ok', [Address, Port]]`, or `enotconn`, or `einval` after `close` */
export function peername(socket: AnySslSocket): Ok<SocketAddress> | Failure<SslReason> {
  if (socket instanceof TransportSocket) return socket.address('remote')
  if (socket instanceof SslListenSocket && socket.closed) return ['error', 'einval']
  return refusal(socket) ?? (socket as SslSocket<unknown>).address('remote')
}

/** The address and port of this end. @returns `['ok', [Address, Port]]`, or `einval` after `close` */
export function sockname(socket: AnySslSocket): Ok<SocketAddress> | Failure<SslReason> {
  if (socket instanceof TransportSocket) return socket.address('local')
  if (socket instanceof SslListenSocket) return socket.address()
  return refusal(socket) ?? socket.address('local')
}

/** The port of this end. @returns `['ok', Port]`, or `einval` after `close` */
export function port(socket: AnySslSocket): Ok<number> | Failure<SslReason> {
  const name = sockname(socket)
  if (name[0] === 'error') return name
  const [, number] = name[1]
  return typeof number === 'number' ? ['ok', number] : ['error', 'einval']
}

/**
 * The process that stands for the socket: only for telling `{'EXIT', Pid, Reason}` apart, `monitor` and `exit`.
 *
 * @returns the pid, bare; ends the process with `badarg` for what is no socket
 */
export function pid(socket: SslSocket<unknown> | SslListenSocket<unknown>): Pid {
  if (!(socket instanceof SslSocket || socket instanceof SslListenSocket)) throw new Exit('badarg')
  return socket.pid
}

/** Sets options; `active` and `packet` hold from the next byte on that has not been taken. @returns `'ok'`, or `eoptions`, `closed` */
export function setopts(
  socket: SslSocket<unknown> | SslListenSocket<unknown>,
  options: readonly SocketOption[],
): 'ok' | Failure<SslReason> {
  if (!(socket instanceof SslListenSocket) && refusal(socket) !== undefined) return refusal(socket) as Failure<SslReason>
  const result = socket.setopts(options)
  if (result === 'ok') return 'ok'
  return ['error', result === 'einval' ? (socket.closed ? 'closed' : 'eoptions') : result]
}

/** The values of options. @returns `['ok', [[Name, Value], …]]`, or `eoptions`, `closed` */
export function getopts(
  socket: SslSocket<unknown> | SslListenSocket<unknown>,
  names: readonly string[],
): Ok<readonly (readonly [string, unknown])[]> | Failure<SslReason> {
  const refused = socket instanceof SslListenSocket ? undefined : refusal(socket)
  if (refused !== undefined) return refused
  if (socket.closed) return ['error', 'closed']
  const found = socket.getopts(names)
  return found === undefined ? ['error', 'eoptions'] : ['ok', found]
}

/**
 * What was received and sent, above TLS: the counters of {@link Statistic}, all of them or those asked for. Sizes are in bytes.
 *
 * @returns `['ok', [[Name, Count], …]]`, or `einval` for a name that is none, or after `close`
 */
export function getstat(
  socket: SslSocket<unknown>,
  names?: readonly Statistic[],
): Ok<readonly (readonly [Statistic, number])[]> | Failure<SslReason> {
  const refused = refusal(socket)
  if (refused !== undefined) return refused
  return socket.closed ? ['error', 'einval'] : chosen(socket.stats(), names)
}

function security(socket: unknown): TlsInfo | undefined {
  return socket instanceof SslSocket && !socket.closed ? (socket.connection.security ?? undefined) : undefined
}

/** The certificate of the peer, DER. @returns `['ok', Der]`, or `no_peercert`, `closed` */
export function peercert(socket: SslSocket<unknown>): Ok<Uint8Array> | Failure<SslReason> {
  const info = security(socket)
  if (info === undefined) return refusal(socket) ?? ['error', 'closed']
  return info.peerCertificate === null ? ['error', 'no_peercert'] : ['ok', info.peerCertificate.raw]
}

export type ConnectionFact =
  | readonly ['protocol', ProtocolVersion]
  | readonly ['session_resumption', boolean]
  | readonly ['selected_cipher_suite', CipherSuite | string]
  | readonly ['sni_hostname', string | 'undefined']

/**
 * What was negotiated: `protocol` (`tlsv1.3`), `selected_cipher_suite`, `session_resumption`, `sni_hostname`; all,
 * or those asked for.
 *
 * @returns `['ok', [[Name, Value], …]]`, or `closed`
 */
export function connection_information(
  socket: SslSocket<unknown>,
  names?: readonly ConnectionFact[0][],
): Ok<readonly ConnectionFact[]> | Failure<SslReason> {
  const info = security(socket)
  if (info === undefined) return refusal(socket) ?? ['error', 'closed']
  const facts: readonly ConnectionFact[] = [
    ['protocol', versionOf(info)],
    ['session_resumption', info.resumed],
    ['selected_cipher_suite', suiteByName(info.cipher)],
    ['sni_hostname', info.serverName ?? 'undefined'],
  ]
  return ['ok', Array.isArray(names) ? facts.filter(([name]) => names.includes(name)) : facts]
}

/** Version and cipher suite, as the old module had them. @returns `['ok', [Version, Cipher]]`, or `closed` */
export function connection_info(socket: SslSocket<unknown>): Ok<readonly [ProtocolVersion, string]> | Failure<SslReason> {
  const info = security(socket)
  return info === undefined ? (refusal(socket) ?? ['error', 'closed']) : ['ok', [versionOf(info), info.cipher]]
}

function versionOf({ protocol }: TlsInfo): ProtocolVersion {
  return protocol.toLowerCase() as ProtocolVersion
}

/** The application protocol. @returns `['ok', Name]`, or `protocol_not_negotiated` */
export function negotiated_protocol(socket: SslSocket<unknown>): Ok<string> | Failure<SslReason> {
  const info = security(socket)
  if (info === undefined) return refusal(socket) ?? ['error', 'closed']
  return info.alpn === null ? ['error', 'protocol_not_negotiated'] : ['ok', info.alpn]
}

// The application

const SUPPORTED = ['tlsv1.3', 'tlsv1.2'] as const

export type VersionFact = readonly ['ssl_app', string] | readonly ['supported' | 'available' | 'implemented', readonly ProtocolVersion[]]

/**
 * The versions this library speaks: by default (`supported`), and with the option `versions` (`available`, `implemented`).
 *
 * @returns the list, bare, as in the original
 */
export function versions(): readonly VersionFact[] {
  return [
    ['ssl_app', `OpenSSL ${process.versions.openssl}`],
    ['supported', SUPPORTED],
    ['available', [...SUPPORTED, 'tlsv1.1', 'tlsv1']],
    ['implemented', [...SUPPORTED, 'tlsv1.1', 'tlsv1']],
  ]
}

/**
 * What does the work, as the old module had it.
 *
 * @returns `['ok', [Node, Compiled, Running]]`: the version of Node, and twice that of its TLS library
 */
export function version(): Ok<readonly [string, string, string]> {
  const { node, openssl } = process.versions
  return ['ok', [node, `OpenSSL ${openssl}`, `OpenSSL ${openssl}`]]
}

/** `ssl:start`: nothing has to be started, whatever kind of application it would be. @returns `'ok'` */
export function start(_type: 'permanent' | 'transient' | 'temporary' = 'temporary'): 'ok' {
  return 'ok'
}

/** `ssl:stop`: nothing has to be stopped, and sockets go on. @returns `'ok'` */
export function stop(): 'ok' {
  return 'ok'
}

/** The system gives its own randomness; what is given is checked and not used. @returns `'ok'`, or `edata` for what is no data */
export function seed(data: IoData): 'ok' | Failure<'edata'> {
  return typeof data === 'string' || data instanceof Uint8Array || Array.isArray(data) ? 'ok' : ['error', 'edata']
}

/** Files are read whenever a socket is opened: there is nothing to clear. @returns `'ok'` */
export function clear_pem_cache(): 'ok' {
  return 'ok'
}
