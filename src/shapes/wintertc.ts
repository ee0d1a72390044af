/**
 * The sockets API of WinterTC (sockets-api.proposal.wintertc.org), which Cloudflare Workers have as `cloudflare:sockets`:
 * `connect` gives a socket at once, whose streams can be used while it is still being opened.
 */

import type { ReadableStream, WritableStream } from 'node:stream/web'
import {
  type Bytes,
  type ClientTlsOptions,
  type Connection,
  formatAddress,
  network as defaultNetwork,
  type Network,
  parseEndpoint,
  type ParsedEndpoint,
} from '../index.js'
import { closeOrAbort, handled, place, type Readable, readableOf, type Writable, writableOf } from './streams.js'

export interface SocketAddress {
  hostname: string
  port: number
}

export type SecureTransportKind = 'off' | 'on' | 'starttls'

export interface SocketOptions {
  /** `'on'`: TLS, verified; `'starttls'`: plain until `startTls`. Default `'off'`. */
  secureTransport?: SecureTransportKind | undefined
  /** Whether the writable side stays open when the peer has ended. Default false. */
  allowHalfOpen?: boolean | undefined
  /** The name to ask for and to verify. Default: the host. Only with TLS. */
  sni?: string | null | undefined
  /** Application protocols, the preferred first. Only with TLS. */
  alpn?: readonly string[] | undefined
  /** Bytes that may wait in `writable` before its writer's `ready` does (Cloudflare). Default: one chunk. */
  highWaterMark?: number | bigint | undefined
}

export interface SocketInfo {
  /** `address:port`. */
  remoteAddress: string | null
  localAddress: string | null
  alpn: string | null
}

/** What `startTls` takes (Cloudflare). */
export interface TlsOptions {
  expectedServerHostname?: string | undefined
}

/** What goes wrong with a socket; `cause` is the error of this library, and `code` its code. */
export class SocketError extends TypeError {
  declare readonly code?: string

  constructor(message: string, o?: { cause?: unknown }) {
    super(`SocketError: ${message}`, o)
    const code = (o?.cause as { code?: unknown } | null | undefined)?.code
    if (typeof code === 'string') Object.assign(this, { code })
  }
}

function socketError(cause: unknown): SocketError {
  if (cause instanceof SocketError) return cause
  return new SocketError(cause instanceof Error ? cause.message : String(cause), { cause })
}

/** How a socket is opened, and how it is told to stop opening. */
interface Opening {
  readonly connection: Promise<Connection>
  cancel(reason: unknown): void
}

interface Settings {
  readonly mode: SecureTransportKind
  readonly halfOpen: boolean
  readonly highWaterMark: number | undefined
  readonly tls: ClientTlsOptions
}

/**
 * A TCP connection, made by `connect`. Everything of it can be used at once; what it does waits until the connection is open.
 *
 * ```ts
 * import { listen } from 'fairlead'
 * import { connect } from 'fairlead/wintertc'
 *
 * await using listener = await listen('tcp://127.0.0.1:0')
 * const { port } = new URL(listener.endpoint)
 * const socket = connect({ hostname: '127.0.0.1', port: Number(port) })
 * const writer = socket.writable.getWriter()
 * await writer.write(new TextEncoder().encode('hello\n'))
 * await using server = await listener.accept()
 * console.log(await server.readLine()) // hello
 * await socket.close()
 * ```
 */
export class Socket {
  readonly secureTransport: SecureTransportKind
  /** Settles when the connection is open, TLS included. */
  readonly opened: Promise<SocketInfo>
  /** Resolves when the socket has ended, whoever ended it; rejects if it never opened. */
  readonly closed: Promise<void>
  readonly #opening: Opening
  readonly #settings: Settings
  readonly #in: Readable
  readonly #out: Writable
  #upgraded = false
  #closing = false

  /** @internal made by `connect` */
  constructor(opening: Opening, settings: Settings) {
    this.secureTransport = settings.mode
    this.#opening = opening
    this.#settings = settings
    const manner = {
      connection: () => opening.connection,
      error: socketError,
      readEnded: (how: 'end' | 'cancel' | 'error') => {
        if (how === 'end' && !settings.halfOpen) void this.#peerEnded()
      },
    }
    this.#in = readableOf(manner, false)
    this.#out = writableOf(manner, {
      text: true,
      highWaterMark: settings.highWaterMark,
      // In an upgrade, what was written before it has gone out when its stream is closed, and that is all.
      end: async (connection) => (this.#upgraded ? connection.flush() : connection.end()),
      abort: (connection, reason) => connection.abort(reason),
    })
    const opened = opening.connection.then(infoOf, (cause: unknown) => {
      const error = this.#closing ? cause : socketError(cause)
      this.#in.finish(error)
      this.#out.fail(error)
      throw error
    })
    this.opened = handled(opened)
    this.closed = handled(
      opening.connection.then(
        async (connection) => {
          await connection.closed
        },
        (cause: unknown) => {
          if (!this.#closing) throw socketError(cause)
        },
      ),
    )
  }

  get readable(): ReadableStream<Uint8Array> {
    return this.#in.stream
  }

  get writable(): WritableStream<Bytes | string> {
    return this.#out.stream
  }

  /** Whether `startTls` has made another socket of this one. */
  get upgraded(): boolean {
    return this.#upgraded
  }

  /**
   * Ends both streams, `writable` with `reason`, and closes the connection behind what it has accepted. A socket that is not
   * open yet never will be: `opened` rejects with `reason`.
   */
  close(reason?: unknown): Promise<void> {
    if (this.#closing) return this.closed
    this.#closing = true
    const error = reason ?? new SocketError('the socket was closed')
    this.#in.finish()
    this.#out.fail(error)
    this.#opening.cancel(error)
    void this.#opening.connection.then(closeOrAbort, () => {})
    return this.closed
  }

  async #peerEnded(): Promise<void> {
    const connection = await this.#opening.connection
    await this.#drain(new SocketError('the peer ended the connection, and allowHalfOpen is false'))
    await connection.close()
  }

  /** What is still in the writable stream goes out, unless a writer holds it. */
  async #drain(error: SocketError): Promise<void> {
    const { stream } = this.#out
    if (stream.locked) return this.#out.fail(error)
    await stream.close().catch(() => {})
  }

  /**
   * Makes a TLS connection of this plain one and gives the socket of it; the streams of this one are over. Everything written
   * before goes out in plain text first.
   *
   * @throws `SocketError` unless `secureTransport` is `'starttls'`, and a second time
   */
  startTls(o: TlsOptions = {}): Socket {
    if (this.secureTransport !== 'starttls') {
      throw new SocketError(`startTls needs a socket with secureTransport 'starttls', this one has '${this.secureTransport}'`)
    }
    if (this.#upgraded) throw new SocketError('startTls was called before')
    this.#upgraded = true
    const name = o.expectedServerHostname
    const cancelled = new AbortController()
    const connection = this.#upgrade({ ...this.#settings.tls, ...(name === undefined ? {} : { serverName: name }) }, cancelled.signal)
    return new Socket({ connection: handled(connection), cancel: (reason) => cancelled.abort(reason) }, { ...this.#settings, mode: 'on' })
  }

  async #upgrade(tls: ClientTlsOptions, signal: AbortSignal): Promise<Connection> {
    const connection = await this.#opening.connection
    this.#in.finish()
    await this.#drain(new SocketError('the socket was upgraded'))
    try {
      return await reasoned(connection.startTls({ ...tls, role: 'client', signal }), signal)
    } catch (error) {
      // Its streams are over, so that nobody could end it.
      connection.abort(error)
      throw error
    }
  }
}

function infoOf({ local, remote, security }: Connection): SocketInfo {
  return {
    remoteAddress: remote === undefined ? null : formatAddress(remote),
    localAddress: local === undefined ? null : formatAddress(local),
    alpn: security?.alpn ?? null,
  }
}

/** An operation that its signal cancelled fails with the reason. */
async function reasoned<T>(operation: Promise<T>, signal: AbortSignal): Promise<T> {
  try {
    return await operation
  } catch (error) {
    throw signal.aborted ? signal.reason : error
  }
}

/** What a binding object decides for every socket it connects. */
export interface BindingOptions {
  /** Default: that of the module-level functions of this library. */
  network?: Network | undefined
  /** TLS settings: authorities of one's own, a client certificate. */
  tls?: ClientTlsOptions | undefined
}

export interface Binding {
  connect(address: string | SocketAddress, options?: SocketOptions): Socket
}

/**
 * A binding object: a `connect` with settings the API itself has no place for.
 *
 * ```ts
 * import { Network, publicOnly } from 'fairlead'
 * import { binding } from 'fairlead/wintertc'
 *
 * const { connect } = binding({ network: new Network({ policy: publicOnly() }) })
 * const socket = connect('127.0.0.1:80')
 * console.log(await socket.opened.catch((error) => error.code)) // POLICY
 * ```
 */
export function binding(o: BindingOptions = {}): Binding {
  return {
    connect(address, given) {
      const options = given ?? {}
      const { secureTransport: mode = 'off', allowHalfOpen = false } = options
      if (!['off', 'on', 'starttls'].includes(mode))
        throw new SocketError(`secureTransport must be 'off', 'on' or 'starttls', got '${mode}'`)
      if (mode === 'off' && (options.sni != null || (options.alpn?.length ?? 0) > 0)) {
        throw new SocketError("sni and alpn need secureTransport 'on' or 'starttls'")
      }
      const endpoint = endpointOf(address, mode)
      const tls: ClientTlsOptions = {
        ...o.tls,
        ...(options.sni == null ? {} : { serverName: options.sni }),
        ...(options.alpn?.length ? { alpn: options.alpn } : {}),
      }
      const highWaterMark = options.highWaterMark === undefined ? undefined : Number(options.highWaterMark)
      if (highWaterMark !== undefined && !(highWaterMark >= 0)) {
        throw new SocketError(`highWaterMark must be a number of bytes, not negative, got ${String(options.highWaterMark)}`)
      }
      const cancelled = new AbortController()
      const { signal } = cancelled
      const network = o.network ?? defaultNetwork()
      const connection = reasoned(network.connect(endpoint, { signal, ...(mode === 'on' ? { tls } : {}) }), signal)
      const opening = { connection: handled(connection), cancel: (reason: unknown) => cancelled.abort(reason) }
      return new Socket(opening, { mode, halfOpen: allowHalfOpen, highWaterMark, tls })
    },
  }
}

function endpointOf(address: string | SocketAddress, mode: SecureTransportKind): ParsedEndpoint {
  const transport = mode === 'on' ? 'tls' : 'tcp'
  try {
    if (typeof address === 'string') return parseEndpoint(`${transport}://${address}`)
    const { hostname, port } = address ?? {}
    if (typeof hostname !== 'string' || hostname === '')
      throw new TypeError(`hostname must be a name or an address, got ${String(hostname)}`)
    return parseEndpoint(place(transport, hostname, port))
  } catch (cause) {
    throw socketError(cause)
  }
}

/**
 * Connects to `host:port`, or `{ hostname, port }`, on the default network.
 *
 * @throws `SocketError` for an address or options that make no sense; what goes wrong later rejects `opened` and `closed`
 */
export function connect(address: string | SocketAddress, options?: SocketOptions): Socket {
  return binding().connect(address, options)
}
