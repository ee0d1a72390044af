/** Sockets of Ioto's runtime: made first, then connected or listening; numbers for results, and a message for what went wrong. */

import { format } from 'node:util'
import {
  AddressError,
  Broken,
  Closed,
  connect,
  type Connection,
  type EndpointObject,
  listen,
  type Listener,
  lookup,
  network,
  printable,
  SocketError,
  SystemFailure,
  TlsError,
} from '../index.js'
import {
  INVALID_SOCKET,
  negativeErrno,
  R_ERR_BAD_ARGS,
  R_ERR_BAD_STATE,
  R_ERR_BAD_VALUE,
  R_ERR_CANT_COMPLETE,
  R_ERR_CANT_CONNECT,
  R_ERR_CANT_INITIALIZE,
  R_ERR_CANT_OPEN,
  type R_OK,
  R_SOCKET_CLOSED,
  R_SOCKET_EOF,
  R_SOCKET_LISTENER,
  R_SOCKET_SERVER,
} from './ioto-codes.js'
import { isDeadline, RFiber, rIsMain, timeLeft } from './ioto-fiber.js'
import { configMessage, customized, objection, type RTls } from './ioto-tls.js'

/**
 * A socket. Made by `rAllocSocket`, and for each client by a listener; used through the functions alone.
 *
 * ```ts
 * import { rAllocSocket, rConnectSocket, rGetSocketError, rGetTicks, rSpawnFiber } from 'fairlead/ioto'
 *
 * async function reach(port: number) {
 *   await using sock = rAllocSocket()
 *   const status = await rConnectSocket(sock, '127.0.0.1', port, rGetTicks() + 5_000)
 *   if (status < 0) console.log(status, rGetSocketError(sock)) // -22 Cannot connect socket to 127.0.0.1:0
 * }
 * rSpawnFiber('client', reach, 0)
 * ```
 */
export class RSocket {
  /** `R_SOCKET_…` flags. */
  flags: number = 0
  /** Its TLS layer, if it is to have one. */
  tls: RTls | null = null
  /** The connection or listener of this library that does the work; not in the original. */
  beneath: Connection | Listener | null = null
  /** Bytes of the last write that were handed to the system, also of one that failed; not in the original. */
  written: number = 0
  /** @internal */
  connection: Connection | null = null
  /** @internal */
  message: string = ''
  /** @internal seconds, or -1 */
  linger: number = -1
  /** @internal a connecting or listening that is under way, which closing ends */
  opening: AbortController | null = null
  /** @internal counted among the accepted sockets */
  counted: boolean = false

  get [Symbol.toStringTag](): string {
    return 'RSocket'
  }

  /** Frees it, as `rFreeSocket`. */
  [Symbol.asyncDispose](): Promise<void> {
    return rFreeSocket(this)
  }
}

/** Called for each client, on a fiber of its own: it has to free `client`. */
export type RSocketProc<T> = (arg: T, client: RSocket) => unknown

/** That of Linux; others cap it. */
const SOMAXCONN = 4096

let limit = 1000
let accepted = 0

/**
 * Why the call is refused: everything that waits must be called from a fiber.
 *
 * @internal
 */
export function outside(sp: RSocket, name: string): boolean {
  if (!rIsMain()) return false
  failed(sp, `${name} must be called from a fiber`)
  return true
}

/** Keeps the message, if it is the first, and gives the code. @internal */
export function failed<C extends number>(sp: RSocket, message: string, code: C = R_ERR_BAD_STATE as C): C {
  if (sp.message === '') sp.message = message
  return code
}

/** Ioto's `rAllocSocket`: a socket that is nothing yet: not closed, not at its end, not secure, not connected. */
export function rAllocSocket(): RSocket {
  return new RSocket()
}

/** Ioto's `rFreeSocket`: closes it if it is open. Null does nothing. Resolves when the descriptor is given back. */
export async function rFreeSocket(sp: RSocket | null): Promise<void> {
  if (sp == null) return
  if (sp.counted) {
    sp.counted = false
    accepted--
  }
  await rCloseSocket(sp)
}

/**
 * Ioto's `rConnectSocket`: connects, with TLS if it was switched on. A socket that is open is closed first; what was written is
 * still sent, beside the connecting.
 *
 * @param sp may have been closed before
 * @param host a name or an address; all its addresses are tried
 * @param port 1 to 65535
 * @param deadline by `rGetTicks` or `rGetTime`; 0: none (a TLS handshake still has 30 s)
 * @returns 0, or with a message (`rGetSocketError`): -6 no such address, no socket, or a deadline that is no
 *   number; -22 nobody answers, refuses, or not in time, and for TLS settings that cannot be used; -21 no host, or the TLS handshake
 *   or the certificate of the peer failed; -14 not on a fiber
 */
export async function rConnectSocket(
  sp: RSocket | null,
  host: string | null,
  port: number,
  deadline: number = 0,
): Promise<typeof R_OK | typeof R_ERR_BAD_ARGS | typeof R_ERR_BAD_STATE | typeof R_ERR_CANT_COMPLETE | typeof R_ERR_CANT_CONNECT> {
  if (sp == null || !isDeadline(deadline)) return R_ERR_BAD_ARGS
  if (outside(sp, 'rConnectSocket')) return R_ERR_BAD_STATE
  const { opening } = begun(sp)
  const { tls } = sp
  const place = `${printable(String(host))}:${port}`
  const cannotConnect = () => failed(sp, `Cannot connect socket to ${place}`, R_ERR_CANT_CONNECT)
  try {
    if (typeof host !== 'string') return failed(sp, 'Host address required for connection', R_ERR_CANT_COMPLETE)
    if (host === '' || !isPort(port)) return failed(sp, `Cannot find address of ${place}`, R_ERR_BAD_ARGS)
    if (port === 0) return cannotConnect()
    const connection = await connect(endpointOf(host, port, tls), {
      timeout: timeLeft(deadline) ?? Number.POSITIVE_INFINITY,
      signal: opening.signal,
      ...(tls !== null && { tls: customized(sp, tls.client()) }),
      ...lingering(sp),
    })
    const why = tls !== null && connection.security !== null ? objection(connection.security, host, tls.verify) : undefined
    if (why !== undefined || opening.signal.aborted) {
      connection.abort()
      return opening.signal.aborted ? R_ERR_CANT_CONNECT : failed(sp, why as string, R_ERR_CANT_COMPLETE)
    }
    joined(sp, connection)
    return 0
  } catch (error) {
    if (opening.signal.aborted) return R_ERR_CANT_CONNECT
    if (error instanceof AddressError) return failed(sp, `Cannot find address of ${place}`, R_ERR_BAD_ARGS)
    const message = tls === null ? undefined : configMessage(error, tls)
    if (message !== undefined) return failed(sp, message, R_ERR_CANT_CONNECT)
    const isHandshake = error instanceof TlsError || (error instanceof Broken && error.phase === 'tls')
    if (isHandshake) return failed(sp, 'Cannot upgrade socket to TLS', R_ERR_CANT_COMPLETE)
    // What is no failure of a socket, as what the hook throws, is the caller's to know.
    if (!(error instanceof SocketError)) throw error
    return cannotConnect()
  } finally {
    if (sp.opening === opening) sp.opening = null
  }
}

/** Gives up what the socket was. What begins here ends when the socket is closed, or begins anew, and nothing comes in between. */
function begun(sp: RSocket): { opening: AbortController; closing: Promise<void> | undefined } {
  const closing = sp.beneath !== null || sp.opening !== null ? rCloseSocket(sp) : undefined
  const opening = new AbortController()
  sp.opening = opening
  sp.message = ''
  sp.flags = 0
  return { opening, closing }
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 0 && port <= 65_535
}

function joined(sp: RSocket, connection: Connection): void {
  sp.connection = connection
  sp.beneath = connection
}

function endpointOf(host: string | undefined, port: number, tls: RTls | null): EndpointObject {
  return { transport: tls === null ? 'tcp' : 'tls', host: host ?? '', port }
}

/** The option of the system, where the driver has it. */
function lingering(sp: RSocket): { linger?: number } {
  return sp.linger >= 0 && !['node', 'memory'].includes(network().driver.name) ? { linger: sp.linger * 1000 } : {}
}

/**
 * Ioto's `rListenSocket`: listens, with TLS if it was switched on, and calls `handler` for each client on a fiber of its own.
 *
 * @param host null or `::`: all interfaces, IPv4 and IPv6; else an address, or `localhost` (127.0.0.1)
 * @param port 0: any free one, which `rGetSocketAddr` tells
 * @param handler given `arg` and the client's socket, which it has to free. If it throws, its socket is reset, and an `error` event of
 *   the network's trace tells
 * @returns 0, or with a message: -6 no socket or no handler; -26 TLS settings that cannot be used; -21 no such address; -28 in use
 *   or not permitted; -14 not on a fiber
 */
export async function rListenSocket<T>(
  sp: RSocket | null,
  host: string | null,
  port: number,
  handler: RSocketProc<T>,
  arg: T,
): Promise<
  | typeof R_OK
  | typeof R_ERR_BAD_ARGS
  | typeof R_ERR_BAD_STATE
  | typeof R_ERR_CANT_COMPLETE
  | typeof R_ERR_CANT_INITIALIZE
  | typeof R_ERR_CANT_OPEN
> {
  if (sp == null || typeof handler !== 'function') return R_ERR_BAD_ARGS
  if (outside(sp, 'rListenSocket')) return R_ERR_BAD_STATE
  const { opening, closing } = begun(sp)
  const { tls } = sp
  const place = `${printable(String(host ?? ''))}:${port}`
  try {
    if ((host != null && typeof host !== 'string') || !isPort(port))
      return failed(sp, `Cannot resolve address ${place}`, R_ERR_CANT_COMPLETE)
    // It may be the address that is wanted now.
    await closing
    const at = host == null || host === '::' || host === '' ? undefined : host === 'localhost' ? '127.0.0.1' : host
    const listener = await listen(endpointOf(at, port, tls), {
      backlog: SOMAXCONN,
      signal: opening.signal,
      ...(tls !== null && { tls: customized(sp, tls.server()) }),
    })
    if (opening.signal.aborted) {
      await listener.close()
      return R_ERR_CANT_OPEN
    }
    sp.beneath = listener
    sp.flags = R_SOCKET_LISTENER
    void acceptClients(sp, listener, handler, arg)
    return 0
  } catch (error) {
    if (opening.signal.aborted) return R_ERR_CANT_OPEN
    if (error instanceof AddressError) return failed(sp, `Cannot resolve address ${place}`, R_ERR_CANT_COMPLETE)
    const message = tls === null ? undefined : configMessage(error, tls)
    if (message !== undefined || error instanceof TlsError) return failed(sp, message ?? 'Cannot configure TLS', R_ERR_CANT_INITIALIZE)
    if (!(error instanceof SocketError)) throw error
    const number = -negativeErrno(error, 0)
    return failed(sp, `Cannot bind address ${place}, errno ${number}`, R_ERR_CANT_OPEN)
  } finally {
    if (sp.opening === opening) sp.opening = null
  }
}

async function acceptClients<T>(sp: RSocket, listener: Listener, handler: RSocketProc<T>, arg: T): Promise<void> {
  const { tls } = sp
  for (;;) {
    let connection: Connection
    try {
      connection = await listener.accept()
    } catch (error) {
      if (error instanceof Closed) return
      failed(sp, `Listen error ${-negativeErrno(error, 0)}`)
      await listener.close()
      return
    }
    const refused = tls !== null && connection.security !== null && objection(connection.security, undefined, tls.verify) !== undefined
    if (refused) connection.abort()
    else if (accepted >= limit) void connection.close()
    else serve(connection, tls, handler, arg)
  }
}

function serve<T>(connection: Connection, tls: RTls | null, handler: RSocketProc<T>, arg: T): void {
  const client = new RSocket()
  client.flags = R_SOCKET_SERVER
  client.tls = tls
  joined(client, connection)
  client.counted = true
  accepted++
  const started = new RFiber('socket').run(async () => {
    try {
      await handler(arg, client)
    } catch (error) {
      connection.abort(error)
      network().trace.emit({ type: 'error', at: network().clock.wall(), id: connection.id, op: 'handler', error })
      await rFreeSocket(client)
    }
  })
  if (!started) void rFreeSocket(client)
}

/** Ioto's `rIsSocketClosed`: whether it was closed on this side, which a fresh one was not. Null is closed. */
export function rIsSocketClosed(sp: RSocket | null): boolean {
  return sp == null || (sp.flags & R_SOCKET_CLOSED) !== 0
}

/** Ioto's `rIsSocketEof`: whether reading has met the end or a failure (of which `rGetSocketError` tells), or it was closed. Null is. */
export function rIsSocketEof(sp: RSocket | null): boolean {
  return sp == null || (sp.flags & R_SOCKET_EOF) !== 0
}

/** Ioto's `rIsSocketSecure`: whether TLS was switched on, connected or not. */
export function rIsSocketSecure(sp: RSocket | null): boolean {
  return sp != null && sp.tls !== null
}

/** Ioto's `rIsSocketConnected`: whether it is a connection, with its TLS handshake done, and neither closed, disconnected nor broken. */
export function rIsSocketConnected(sp: RSocket | null): boolean {
  return sp != null && sp.connection !== null && sp.connection.state !== 'closed'
}

/**
 * Ioto's `rCloseSocket`: everything that was written is sent, then the end; input that is unread is thrown away, and the peer sees an
 * end, not a reset. What waits is woken: a read returns -29. Again it does nothing. Resolves when that is done; the flags change at once.
 */
export async function rCloseSocket(sp: RSocket | null): Promise<void> {
  if (sp == null) return
  const { beneath } = sp
  sp.opening?.abort()
  sp.opening = null
  sp.flags |= R_SOCKET_CLOSED | R_SOCKET_EOF
  sp.connection = null
  sp.beneath = null
  await beneath?.close(sp.linger > 0 ? { timeout: sp.linger * 1000 } : undefined)
}

/** Ioto's `rDisconnectSocket`: ends both directions; the socket still has to be closed. From then on reads return -29 on both sides. */
export async function rDisconnectSocket(sp: RSocket | null): Promise<void> {
  if (sp?.connection == null) return
  sp.flags |= R_SOCKET_EOF
  await sp.connection.close()
}

/** Ioto's `rResetSocket`: closes it and makes it as fresh; its settings and its message stay. */
export async function rResetSocket(sp: RSocket | null): Promise<void> {
  if (sp == null) return
  await rCloseSocket(sp)
  sp.flags = 0
}

/** Ioto's `rSetSocketBlocking`: kept for programs that call it. What waits here never blocks, what does not (`…Sync`) never waits. */
export function rSetSocketBlocking(_sp: RSocket | null, _on: boolean): void {}

/** Ioto's `rSetSocketNoDelay`: whether small pieces are sent at once. On already. Does nothing to a socket that is not connected. */
export function rSetSocketNoDelay(sp: RSocket | null, enable: boolean | number): void {
  try {
    sp?.connection?.set('noDelay', Boolean(enable))
  } catch (error) {
    // What has ended or broken has no descriptor any more; reading and writing tell of that.
    if (!(error instanceof Closed || error instanceof Broken || error instanceof SystemFailure)) throw error
  }
}

/** The system counts these in 16 bits. */
const LONGEST_LINGER = 65_535

/**
 * Ioto's `rSetSocketLinger`: whole seconds that closing may take to send what was written, at most 65 535; -1 (default) for the time of
 * the network, 5 s.
 */
export function rSetSocketLinger(sp: RSocket | null, seconds: number): void {
  if (sp != null) sp.linger = seconds >= 0 ? Math.min(Math.trunc(seconds), LONGEST_LINGER) : -1
}

/** From here on no number is one of a descriptor: the limits of systems are below. */
const NO_DESCRIPTORS = 2 ** 30

/**
 * Ioto's `rGetSocketHandle`: the descriptor, for a look, as it stays the socket's; -1 for a socket that is not open. Over TLS, and where
 * the driver does not tell it, a number from 2^30 on that no other socket has, and that is no descriptor.
 */
export function rGetSocketHandle(sp: RSocket | null): number {
  if (sp?.beneath == null) return INVALID_SOCKET
  return sp.beneath.descriptor ?? NO_DESCRIPTORS + sp.beneath.id
}

/**
 * Ioto's `rGetSocketAddr`: the local address.
 *
 * @param into gets `ip`, without brackets, IPv4 in its own form, and `port`
 * @returns 0; -6 bad arguments; -21 the socket is not open; -17 it has no such address
 */
export function rGetSocketAddr(
  sp: RSocket | null,
  into: { ip?: string; port?: number } | null,
): typeof R_OK | typeof R_ERR_BAD_ARGS | typeof R_ERR_CANT_COMPLETE | typeof R_ERR_BAD_VALUE {
  if (sp == null || into === null || typeof into !== 'object') return R_ERR_BAD_ARGS
  if (sp.beneath === null) return R_ERR_CANT_COMPLETE
  const { local } = sp.beneath
  if (local === undefined || local.family === 'unix') return R_ERR_BAD_VALUE
  into.ip = local.address.replace(/^::ffff:(?=\d+\.)/, '')
  into.port = local.port
  return 0
}

/** Ioto's `rGetSocketError`: the first message since the socket was made or last connected; `""` for none. */
export function rGetSocketError(sp: RSocket | null): string {
  return sp?.message ?? ''
}

/** Ioto's `rSetSocketError`: keeps a message, if there is none yet; `fmt` as of `util.format`. @returns -21 */
export function rSetSocketError(sp: RSocket | null, fmt: string, ...args: unknown[]): typeof R_ERR_CANT_COMPLETE {
  return sp == null ? R_ERR_CANT_COMPLETE : failed(sp, format(fmt, ...args), R_ERR_CANT_COMPLETE)
}

/** Ioto's `rGetSocketLimit`: most accepted sockets of the process that are not freed, 1000. Who comes beyond that is closed at once. */
export function rGetSocketLimit(): number {
  return limit
}

/** Ioto's `rSetSocketLimit`: sets it, for clients that come from now on. @param most 0: none is served */
export function rSetSocketLimit(most: number): void {
  limit = most > 0 ? most : 0
}

/** Ioto's `rCheckInternet`: whether a well-known name can be looked up. */
export async function rCheckInternet(name: string = 'www.google.com'): Promise<boolean> {
  try {
    return (await lookup(name, { timeout: 10_000 })).length > 0
  } catch {
    // Whatever the reason is, that is the answer.
    return false
  }
}
