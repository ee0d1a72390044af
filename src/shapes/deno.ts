/**
 * The network API of Deno: `connect`, `listen`, `startTls` and the others of the `Deno` namespace, with its addresses and its
 * error classes. What is synchronous there and takes the system's time here, `listen` above all, gives a promise.
 */

import type { ReadableStream, WritableStream } from 'node:stream/web'
import { rootCertificates } from 'node:tls'
import {
  type Bytes,
  type ClientTlsOptions,
  Closed,
  type Connection,
  type Endpoint,
  type Listener as CoreListener,
  network,
} from '../index.js'
import { type Addr, addrOf, type NetAddr, supports, type UnixAddr, unixAt, type UnixListenOptions } from './deno-addr.js'
import * as errors from './deno-errors.js'
import { denoError } from './deno-errors.js'
import { closeOrAbort, type Manner, place, readableOf, writableOf } from './streams.js'

export { errors }
export type { Addr, NetAddr, UnixAddr, UnixListenOptions } from './deno-addr.js'
export {
  DatagramConn,
  listenDatagram,
  type MulticastV4Membership,
  type MulticastV6Membership,
  type UdpListenOptions,
} from './deno-datagrams.js'

export interface ConnectOptions {
  port: number
  /** Default `'127.0.0.1'`. */
  hostname?: string | undefined
  transport?: 'tcp' | undefined
  /** Cancels the connecting; the promise rejects with its reason. */
  signal?: AbortSignal | undefined
}

export interface UnixConnectOptions {
  transport: 'unix'
  path: string
}

export interface TlsCertifiedKeyPem {
  keyFormat?: 'pem' | undefined
  /** PEM texts. */
  key: string
  cert: string
}

export interface StartTlsOptions {
  /** The name that the certificate must have. Default `'127.0.0.1'`. */
  hostname?: string | undefined
  /** PEM texts of authorities that are trusted besides those of Node. */
  caCerts?: readonly string[] | undefined
  alpnProtocols?: readonly string[] | undefined
}

export interface ConnectTlsOptions extends StartTlsOptions {
  port: number
}

export interface TcpListenOptions {
  /** 0 means any free one. */
  port: number
  /** Default `'0.0.0.0'`. */
  hostname?: string | undefined
  /** Let several processes listen at this address. Default false. */
  reusePort?: boolean | undefined
  /** Length of the system's queue of connections. Default 511. */
  tcpBacklog?: number | undefined
}

export interface ListenTlsOptions extends TcpListenOptions {
  transport?: 'tcp' | undefined
  alpnProtocols?: readonly string[] | undefined
}

export interface TlsHandshakeInfo {
  alpnProtocol: string | null
}

/** The connection below, for `startTls`, which uses it up. */
let take: (conn: Conn) => Connection

/**
 * A connection.
 *
 * ```ts
 * import { connect, listen } from 'fairlead/deno'
 *
 * using listener = await listen({ port: 0, hostname: '127.0.0.1' })
 * using client = await connect({ port: listener.addr.port })
 * using server = await listener.accept()
 * await client.write(new TextEncoder().encode('hello'))
 * const buffer = new Uint8Array(100)
 * console.log(await server.read(buffer)) // 5
 * ```
 */
export class Conn<A extends Addr = Addr> implements Disposable {
  readonly localAddr: A
  readonly remoteAddr: A
  readonly #connection: Connection
  readonly #manner: Manner
  #closed = false
  #readable: ReadableStream<Uint8Array> | undefined
  #writable: WritableStream<Bytes> | undefined

  static {
    take = (conn) => {
      conn.#mustBeOpen()
      conn.#closed = true
      return conn.#connection
    }
  }

  /** @internal made by `connect`, `accept` and their like */
  constructor(connection: Connection) {
    this.#connection = connection
    this.#manner = { connection: () => connection, error: denoError }
    this.localAddr = addrOf(connection.local, 'tcp') as A
    this.remoteAddr = addrOf(connection.remote, 'tcp') as A
  }

  /** Some bytes into `p`; their count, or `null` at the end. */
  read(p: Uint8Array): Promise<number | null> {
    return this.#do((connection) => connection.readInto(p))
  }

  /** Some of `p`, as much as is welcome; its count. */
  write(p: Uint8Array): Promise<number> {
    return this.#do(async (connection) => (p.byteLength === 0 ? 0 : connection.writeSome(p)))
  }

  /** Ends the write direction. */
  closeWrite(): Promise<void> {
    return this.#do((connection) => connection.end())
  }

  /** Closes the connection, behind everything written; what is still waiting fails with `Interrupted`. */
  close(): void {
    this.#mustBeOpen()
    this.#closed = true
    closeOrAbort(this.#connection)
  }

  [Symbol.dispose](): void {
    if (!this.#closed) this.close()
  }

  ref(): void {
    this.#connection.ref()
  }

  unref(): void {
    this.#connection.unref()
  }

  /** A byte stream; cancelling it closes the connection. */
  get readable(): ReadableStream<Uint8Array> {
    const readEnded = (how: string) => {
      if (how === 'cancel') this[Symbol.dispose]()
    }
    this.#readable ??= readableOf({ ...this.#manner, readEnded }, true).stream
    return this.#readable
  }

  /** Closing it ends the write direction; aborting it closes the connection. */
  get writable(): WritableStream<Bytes> {
    const abort = () => this[Symbol.dispose]()
    this.#writable ??= writableOf(this.#manner, { text: false, abort }).stream as WritableStream<Bytes>
    return this.#writable
  }

  /** @internal an option of the socket, or what a TLS connection knows */
  protected get connection(): Connection {
    this.#mustBeOpen()
    return this.#connection
  }

  #mustBeOpen(): void {
    if (this.#closed) throw new errors.BadResource('Bad resource ID')
  }

  async #do<T>(operation: (connection: Connection) => Promise<T>): Promise<T> {
    this.#mustBeOpen()
    try {
      return await operation(this.#connection)
    } catch (error) {
      throw denoError(error)
    }
  }
}

export class TcpConn extends Conn<NetAddr> {
  /** Send small segments at once. */
  setNoDelay(noDelay: boolean = true): void {
    setOption(this.connection, 'noDelay', noDelay)
  }

  /** Probe a silent peer. */
  setKeepAlive(keepAlive: boolean = true): void {
    setOption(this.connection, 'keepAlive', keepAlive)
  }
}

export class UnixConn extends Conn<UnixAddr> {}

export class TlsConn extends Conn<NetAddr> {
  /** What was negotiated. The handshake is over when there is a connection. */
  async handshake(): Promise<TlsHandshakeInfo> {
    return { alpnProtocol: this.connection.security?.alpn ?? null }
  }
}

function setOption(connection: Connection, name: 'noDelay' | 'keepAlive', value: boolean): void {
  try {
    connection.set(name, value)
  } catch (error) {
    throw denoError(error)
  }
}

/** What accepts connections; iterating over it accepts until it is closed. */
export class Listener<T extends Conn = Conn, A extends Addr = Addr> implements AsyncIterable<T>, Disposable {
  readonly addr: A
  readonly #listener: CoreListener
  readonly #make: (connection: Connection) => T
  #closed = false

  /** @internal made by `listen` and `listenTls` */
  constructor(listener: CoreListener, make: (connection: Connection) => T) {
    this.#listener = listener
    this.#make = make
    this.addr = addrOf(listener.local, 'tcp') as A
  }

  async accept(): Promise<T> {
    if (this.#closed) throw new errors.BadResource('Listener has been closed')
    try {
      return this.#make(await this.#listener.accept())
    } catch (error) {
      throw error instanceof Closed ? new errors.BadResource('Listener has been closed', { cause: error }) : denoError(error)
    }
  }

  close(): void {
    if (this.#closed) throw new errors.BadResource('Bad resource ID')
    this.#closed = true
    void this.#listener.close()
  }

  [Symbol.dispose](): void {
    if (!this.#closed) this.close()
  }

  ref(): void {
    this.#listener.ref()
  }

  unref(): void {
    this.#listener.unref()
  }

  /** Leaving the loop closes the listener. */
  async *[Symbol.asyncIterator](): AsyncIterableIterator<T> {
    try {
      for (;;) yield await this.accept()
    } catch (error) {
      if (!(error instanceof errors.BadResource)) throw error
    } finally {
      this[Symbol.dispose]()
    }
  }
}

export type TcpListener = Listener<TcpConn, NetAddr>
export type UnixListener = Listener<UnixConn, UnixAddr>
export type TlsListener = Listener<TlsConn, NetAddr>

/** Connects to a host and port, or to a path. */
export function connect(options: ConnectOptions): Promise<TcpConn>
export function connect(options: UnixConnectOptions): Promise<UnixConn>
export async function connect(options: ConnectOptions | UnixConnectOptions): Promise<TcpConn | UnixConn> {
  if (options.transport === 'unix') return new UnixConn(await open(unixAt(options.path)))
  supports(options.transport, ['tcp'])
  const { hostname = '127.0.0.1', port, signal } = options
  signal?.throwIfAborted()
  try {
    return new TcpConn(await open(place('tcp', hostname, port), { ...PLAIN, signal }))
  } catch (error) {
    throw signal?.aborted ? signal.reason : error
  }
}

/** Connects and does the handshake; the certificate is verified. */
export async function connectTls(options: ConnectTlsOptions | (ConnectTlsOptions & TlsCertifiedKeyPem)): Promise<TlsConn> {
  const { hostname = '127.0.0.1', port } = options
  return new TlsConn(await open(place('tls', hostname, port), { ...PLAIN, tls: clientTls(options) }))
}

/**
 * Upgrades a connection to TLS, as the client; `conn` is used up.
 *
 * @throws `BadResource` if it was closed or used up, `Busy` under a pending read, `InvalidData` for a certificate that is not trusted
 */
export async function startTls(conn: TcpConn, options: StartTlsOptions | (StartTlsOptions & TlsCertifiedKeyPem) = {}): Promise<TlsConn> {
  const tls = { serverName: options.hostname ?? '127.0.0.1', ...clientTls(options) }
  const connection = take(conn)
  try {
    return new TlsConn(await connection.startTls({ ...tls, role: 'client' }))
  } catch (error) {
    // Nobody has it any more.
    connection.abort()
    throw denoError(error)
  }
}

/** Listens at a port or a path. Unlike Deno's, it gives a promise. */
export function listen(options: TcpListenOptions & { transport?: 'tcp' | undefined }): Promise<TcpListener>
export function listen(options: UnixListenOptions & { transport: 'unix' }): Promise<UnixListener>
export async function listen(
  options: (TcpListenOptions & { transport?: 'tcp' | undefined }) | (UnixListenOptions & { transport: 'unix' }),
): Promise<TcpListener | UnixListener> {
  if (options.transport === 'unix') {
    return new Listener<UnixConn, UnixAddr>(
      await bound(unixAt(options.path), { mode: 0o777 & ~process.umask() }),
      (connection) => new UnixConn(connection),
    )
  }
  supports(options.transport, ['tcp'])
  return new Listener<TcpConn, NetAddr>(await bound(at('tcp', options), settings(options)), (connection) => new TcpConn(connection))
}

/** Listens for TLS connections, which are accepted when their handshake is over. Unlike Deno's, it gives a promise. */
export async function listenTls(options: ListenTlsOptions & TlsCertifiedKeyPem): Promise<TlsListener> {
  supports(options.transport, ['tcp'])
  if (options.cert === undefined && options.key === undefined) throw new TypeError('listenTls needs a key and a certificate')
  const tls = { ...identity(options), alpn: options.alpnProtocols }
  return new Listener<TlsConn, NetAddr>(
    await bound(at('tls', options), { ...settings(options), tls }),
    (connection) => new TlsConn(connection),
  )
}

/** What Deno leaves to the system. */
const PLAIN = { noDelay: false, keepAlive: false } as const

function settings({ reusePort, tcpBacklog }: TcpListenOptions): { reusePort?: boolean | undefined; backlog?: number | undefined } {
  return { ...PLAIN, reusePort, backlog: tcpBacklog }
}

function at(transport: 'tcp' | 'tls', { hostname = '0.0.0.0', port }: TcpListenOptions): Endpoint {
  return place(transport, hostname, port)
}

async function open(to: Endpoint, o?: Parameters<ReturnType<typeof network>['connect']>[1]): Promise<Connection> {
  try {
    return await network().connect(to, o)
  } catch (error) {
    throw denoError(error)
  }
}

async function bound(endpoint: Endpoint, o: Parameters<ReturnType<typeof network>['listen']>[1]): Promise<CoreListener> {
  try {
    return await network().listen(endpoint, o)
  } catch (error) {
    throw denoError(error)
  }
}

function clientTls(o: StartTlsOptions & Partial<TlsCertifiedKeyPem>): ClientTlsOptions {
  const { caCerts = [], alpnProtocols } = o
  return {
    ...identity(o),
    ...(caCerts.length > 0 ? { ca: [...rootCertificates, ...caCerts] } : {}),
    ...(alpnProtocols === undefined ? {} : { alpn: alpnProtocols }),
  }
}

function identity({ keyFormat = 'pem', cert, key }: Partial<TlsCertifiedKeyPem>): { cert?: string; key?: string } {
  if (keyFormat !== 'pem') throw new TypeError(`keyFormat must be 'pem', got '${String(keyFormat)}'`)
  if (cert === undefined && key === undefined) return {}
  if (cert === undefined || key === undefined) throw new TypeError('cert and key must be given together')
  return { cert, key }
}
