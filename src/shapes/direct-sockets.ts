/**
 * Direct Sockets (wicg.github.io/direct-sockets), which Isolated Web Apps have in Chromium: `TCPSocket`, `TCPServerSocket` and
 * `UDPSocket`. Arguments that make no sense throw a `TypeError`, what the network says is a `DOMException` `NetworkError`, and
 * what a policy refuses is `NotAllowedError`; `cause` is the error of this library.
 */

import { ReadableStream, type WritableStream } from 'node:stream/web'
import { type Bytes, type Connection, type EndpointObject, type Listener, network, OptionError } from '../index.js'
import { familyOf, Halves, Lifetime, literal, local, networkError, remote, type SocketDnsQueryType, whole } from './direct-state.js'
import { closeOrAbort, type Manner, place, readableOf, writableOf } from './streams.js'

export type { SocketDnsQueryType } from './direct-state.js'
export {
  MulticastController,
  UDPSocket,
  type MulticastGroupOptions,
  type MulticastMembership,
  type UDPMessage,
  type UDPSocketOpenInfo,
  type UDPSocketOptions,
} from './udp-socket.js'

export interface TCPSocketOptions {
  /** A request for the system's buffers, in bytes; only drivers that can set them before connecting take notice. */
  sendBufferSize?: number | undefined
  receiveBufferSize?: number | undefined
  /** Send small segments at once. Default false. */
  noDelay?: boolean | undefined
  /** Probe a silent peer after, and then every, so many milliseconds, at least 1,000. Absent: never. */
  keepAliveDelay?: number | undefined
  /** Only addresses of this family. */
  dnsQueryType?: SocketDnsQueryType | undefined
}

export interface TCPSocketOpenInfo {
  /** A byte stream: `getReader({ mode: 'byob' })` works. */
  readonly readable: ReadableStream<Uint8Array>
  readonly writable: WritableStream<Bytes>
  readonly remoteAddress: string
  readonly remotePort: number
  readonly localAddress: string
  readonly localPort: number
}

/** Makes a socket of a connection that is there already. */
const ACCEPTED: unique symbol = Symbol('accepted')

interface Accepted {
  readonly [ACCEPTED]?: Connection
}

/**
 * A TCP connection that is opened by making one.
 *
 * ```ts
 * import { listen } from 'fairlead'
 * import { TCPSocket } from 'fairlead/direct-sockets'
 *
 * await using listener = await listen('tcp://127.0.0.1:0')
 * const socket = new TCPSocket('127.0.0.1', Number(new URL(listener.endpoint).port))
 * const { writable } = await socket.opened
 * const writer = writable.getWriter()
 * await writer.write(new TextEncoder().encode('PING\n'))
 * await writer.close()
 * await using server = await listener.accept()
 * console.log(await server.readLine()) // PING
 * await socket.close()
 * ```
 */
export class TCPSocket {
  readonly #lifetime: Lifetime<TCPSocketOpenInfo>
  #halves: Halves | undefined

  /** @throws `TypeError` for options that make no sense */
  constructor(remoteAddress: string, remotePort: number, options: TCPSocketOptions = {}) {
    if (typeof remoteAddress !== 'string') throw new TypeError(`remoteAddress must be a string, got ${typeof remoteAddress}`)
    whole('remotePort', remotePort ?? Number.NaN, 0, 65_535)
    whole('keepAliveDelay', options.keepAliveDelay, 1000)
    whole('sendBufferSize', options.sendBufferSize, 1)
    whole('receiveBufferSize', options.receiveBufferSize, 1)
    familyOf(options.dnsQueryType)
    const accepted = (options as Accepted)[ACCEPTED]
    const connecting = accepted === undefined ? dial(place('tcp', remoteAddress, remotePort), options) : Promise.resolve(accepted)
    this.#lifetime = new Lifetime(
      connecting.then(
        (connection) => this.#open(connection),
        (cause: unknown) => {
          throw networkError(cause)
        },
      ),
    )
  }

  get opened(): Promise<TCPSocketOpenInfo> {
    return this.#lifetime.opened
  }

  /** Settles once both streams are over: rejects with the error of one of them, resolves otherwise. */
  get closed(): Promise<void> {
    return this.#lifetime.closed
  }

  #open(connection: Connection): TCPSocketOpenInfo {
    const halves = new Halves((error) => {
      closeOrAbort(connection)
      this.#lifetime.settle(error)
    })
    this.#halves = halves
    const manner: Manner = {
      connection: () => connection,
      error: networkError,
      readEnded: (_how, error) => halves.over('read', error),
      writeEnded: (_how, error) => halves.over('write', error),
    }
    // Aborting means shutting the write direction down: a peer sees an end, behind what was handed over before.
    const abort = () => void connection.end()
    const writable = writableOf(manner, { text: false, abort }).stream as WritableStream<Bytes>
    return { readable: readableOf(manner, true).stream, writable, ...remote(connection.remote), ...local(connection.local) }
  }

  /**
   * Ends both streams and the connection, behind what was written.
   *
   * @throws `DOMException` `InvalidStateError` while it is not open, and while one of its streams is locked
   */
  async close(): Promise<void> {
    const info = await this.#lifetime.closing(
      ({ readable, writable }) => this.#halves?.active<{ locked: boolean }>(readable, writable) ?? [],
    )
    if (info !== undefined) {
      info.readable.cancel().catch(() => {})
      info.writable.abort().catch(() => {})
    }
    return this.#lifetime.closed
  }
}

/** The sizes of the buffers and the time between probes are requests: a driver that cannot grant them connects without. */
async function dial(to: EndpointObject, o: TCPSocketOptions): Promise<Connection> {
  const { sendBufferSize: sendBuffer, receiveBufferSize: receiveBuffer, keepAliveDelay: delay } = o
  const settings = {
    noDelay: o.noDelay ?? false,
    keepAlive: delay === undefined ? false : { idle: delay },
    family: familyOf(o.dnsQueryType),
  }
  const requests = {
    ...(sendBuffer !== undefined && { sendBuffer }),
    ...(receiveBuffer !== undefined && { receiveBuffer }),
    ...(delay !== undefined && { keepAliveInterval: delay }),
  }
  try {
    return await network().connect(to, { ...settings, ...requests })
  } catch (error) {
    if (error instanceof OptionError && error.code === 'UNSUPPORTED_OPTION') return network().connect(to, settings)
    throw error
  }
}

export interface TCPServerSocketOptions {
  /** Absent: any free one. */
  localPort?: number | undefined
  /** Length of the system's queue of connections. */
  backlog?: number | undefined
  /** At `::`, whether only IPv6 is served. Default false. */
  ipv6Only?: boolean | undefined
}

export interface TCPServerSocketOpenInfo {
  /** Connections as they are accepted, each of them open. */
  readonly readable: ReadableStream<TCPSocket>
  readonly localAddress: string
  readonly localPort: number
}

/**
 * A listener that is opened by making one.
 *
 * ```ts
 * import { TCPServerSocket, TCPSocket } from 'fairlead/direct-sockets'
 *
 * const server = new TCPServerSocket('127.0.0.1')
 * const { readable, localPort } = await server.opened
 * const client = new TCPSocket('127.0.0.1', localPort)
 * for await (const accepted of readable) {
 *   console.log((await accepted.opened).localPort === localPort) // true
 *   await accepted.close()
 *   break
 * }
 * await client.opened
 * await client.close()
 * ```
 */
export class TCPServerSocket {
  readonly #lifetime: Lifetime<TCPServerSocketOpenInfo>

  /** @throws `TypeError` for an address or options that make no sense */
  constructor(localAddress: string, options: TCPServerSocketOptions = {}) {
    const { localPort, backlog, ipv6Only = false } = options
    literal('localAddress', localAddress)
    whole('localPort', localPort, 1, 65_535)
    whole('backlog', backlog, 1)
    if (ipv6Only && localAddress !== '::') throw new TypeError(`ipv6Only needs the localAddress '::', got '${localAddress}'`)
    this.#lifetime = new Lifetime(
      network()
        .listen(place('tcp', localAddress, localPort ?? 0), { ipv6Only, noDelay: false, keepAlive: false, backlog: capped(backlog) })
        .then(
          (listener) => this.#open(listener),
          (cause: unknown) => {
            throw networkError(cause)
          },
        ),
    )
  }

  get opened(): Promise<TCPServerSocketOpenInfo> {
    return this.#lifetime.opened
  }

  get closed(): Promise<void> {
    return this.#lifetime.closed
  }

  #open(listener: Listener): TCPServerSocketOpenInfo {
    const end = (error?: unknown) => {
      void listener.close()
      this.#lifetime.settle(error)
    }
    const stopped = new AbortController()
    const readable = new ReadableStream<TCPSocket>(
      {
        async pull(controller) {
          try {
            const connection = await listener.accept({ signal: stopped.signal })
            const { remoteAddress, remotePort } = remote(connection.remote)
            controller.enqueue(new TCPSocket(remoteAddress, remotePort, { [ACCEPTED]: connection } as TCPSocketOptions))
          } catch (cause) {
            if (stopped.signal.aborted) return
            const error = networkError(cause)
            controller.error(error)
            end(error)
          }
        },
        cancel() {
          stopped.abort()
          end()
        },
      },
      { highWaterMark: 0 },
    )
    return { readable, ...local(listener.local) }
  }

  /** @throws `DOMException` `InvalidStateError` while it is not open, and while its stream is locked */
  async close(): Promise<void> {
    const info = await this.#lifetime.closing(({ readable }) => [readable])
    if (info !== undefined) info.readable.cancel().catch(() => {})
    return this.#lifetime.closed
  }
}

/** The system counts its queue in 16 bits. */
function capped(backlog: number | undefined): number | undefined {
  return backlog === undefined ? undefined : Math.min(backlog, 65_535)
}
