/** The `UDPSocket` of Direct Sockets, and its multicast groups. */

import { ReadableStream, WritableStream, type WritableStreamDefaultController } from 'node:stream/web'
import { type Bytes, classify, Closed, type DatagramSocket, isIp, network } from '../index.js'
import {
  exception,
  familyOf,
  Halves,
  Lifetime,
  literal,
  local,
  networkError,
  remote,
  type SocketDnsQueryType,
  whole,
} from './direct-state.js'
import { place } from './streams.js'

export interface UDPSocketOptions {
  /** Connected mode, with both: everything goes to, and comes from, this place. */
  remoteAddress?: string | undefined
  remotePort?: number | undefined
  /** Bound mode: an IP address of this machine. */
  localAddress?: string | undefined
  /** Absent: any free one. */
  localPort?: number | undefined
  /** The buffers of the system, in bytes. */
  sendBufferSize?: number | undefined
  receiveBufferSize?: number | undefined
  /** Only addresses of this family; in connected mode. */
  dnsQueryType?: SocketDnsQueryType | undefined
  /** At `::`, whether only IPv6 is received. Default false. */
  ipv6Only?: boolean | undefined
  /** Routers a multicast may pass, 0 to 255. Default 1: none. */
  multicastTimeToLive?: number | undefined
  /** Whether multicasts reach members on this machine. Default true. */
  multicastLoopback?: boolean | undefined
  /** Whether several sockets may be bound to one address. Default false. */
  multicastAllowAddressSharing?: boolean | undefined
}

export interface UDPMessage {
  data: Bytes
  /** Whom it came from or goes to, in bound mode; absent in connected mode. */
  remoteAddress?: string | undefined
  remotePort?: number | undefined
  /** Only addresses of this family, when sending to a name; in bound mode. */
  dnsQueryType?: SocketDnsQueryType | undefined
}

export interface UDPSocketOpenInfo {
  readonly readable: ReadableStream<UDPMessage & { data: Uint8Array }>
  readonly writable: WritableStream<UDPMessage>
  /** In connected mode. */
  readonly remoteAddress?: string
  readonly remotePort?: number
  readonly localAddress: string
  readonly localPort: number
  /** In bound mode. */
  readonly multicastController?: MulticastController
}

/**
 * A datagram socket that is opened by making one: bound to `localAddress`, or connected to `remoteAddress` and `remotePort`.
 *
 * ```ts
 * import { UDPSocket } from 'fairlead/direct-sockets'
 *
 * const server = new UDPSocket({ localAddress: '127.0.0.1' })
 * const { readable, localPort } = await server.opened
 * const client = new UDPSocket({ remoteAddress: '127.0.0.1', remotePort: localPort })
 * const writer = (await client.opened).writable.getWriter()
 * await writer.write({ data: new TextEncoder().encode('PING') })
 * await writer.close()
 * const reader = readable.getReader()
 * const { value } = await reader.read()
 * console.log(new TextDecoder().decode(value?.data)) // PING
 * reader.releaseLock()
 * await Promise.all([server.close(), client.close()])
 * ```
 */
export class UDPSocket {
  readonly #lifetime: Lifetime<UDPSocketOpenInfo>
  #halves: Halves | undefined

  /** @throws `TypeError` for options that make no sense */
  constructor(options: UDPSocketOptions = {}) {
    const connected = modeOf(options) === 'connected'
    this.#lifetime = new Lifetime(
      (connected ? connectedSocket(options) : boundSocket(options)).then(
        (socket) => this.#open(socket, connected),
        (cause: unknown) => {
          throw networkError(cause)
        },
      ),
    )
  }

  get opened(): Promise<UDPSocketOpenInfo> {
    return this.#lifetime.opened
  }

  /** Settles once both streams are over: rejects with the error of one of them, resolves otherwise. */
  get closed(): Promise<void> {
    return this.#lifetime.closed
  }

  #open(socket: DatagramSocket, connected: boolean): UDPSocketOpenInfo {
    const multicastController = connected ? undefined : new MulticastController(socket)
    const halves = new Halves((error) => {
      void socket.close()
      this.#lifetime.settle(error)
    })
    this.#halves = halves
    return {
      readable: received(socket, connected, halves),
      writable: sent(socket, connected, halves),
      ...(connected ? remote(socket.remote) : {}),
      ...local(socket.local),
      ...(multicastController && { multicastController }),
    }
  }

  /**
   * Ends both streams and the socket.
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

function modeOf(o: UDPSocketOptions): 'connected' | 'bound' {
  const { remoteAddress, remotePort, localAddress, localPort, ipv6Only } = o
  whole('remotePort', remotePort, 0, 65_535)
  whole('localPort', localPort, 1, 65_535)
  whole('sendBufferSize', o.sendBufferSize, 1)
  whole('receiveBufferSize', o.receiveBufferSize, 1)
  whole('multicastTimeToLive', o.multicastTimeToLive, 0, 255)
  familyOf(o.dnsQueryType)
  if ((remoteAddress === undefined) !== (remotePort === undefined))
    throw new TypeError('remoteAddress and remotePort must be given together')
  if (localAddress === undefined && localPort !== undefined) throw new TypeError('localPort needs localAddress')
  if (localAddress === undefined) {
    if (remoteAddress === undefined) throw new TypeError('remoteAddress and remotePort, or localAddress, must be given')
    if (ipv6Only !== undefined) throw new TypeError('ipv6Only needs localAddress')
    return 'connected'
  }
  if (remoteAddress !== undefined) throw new TypeError('localAddress and remoteAddress cannot be given together')
  literal('localAddress', localAddress)
  if (o.dnsQueryType !== undefined) throw new TypeError('dnsQueryType needs remoteAddress')
  if (ipv6Only !== undefined && localAddress !== '::') throw new TypeError(`ipv6Only needs the localAddress '::', got '${localAddress}'`)
  return 'bound'
}

function connectedSocket(o: UDPSocketOptions): Promise<DatagramSocket> {
  const { remoteAddress = '', remotePort = 0 } = o
  return network().connect(place('udp', remoteAddress, remotePort), { ...settings(o), family: familyOf(o.dnsQueryType) })
}

function boundSocket(o: UDPSocketOptions): Promise<DatagramSocket> {
  return network().bind(place('udp', o.localAddress ?? '', o.localPort ?? 0), { ...settings(o), ipv6Only: o.ipv6Only })
}

function settings(o: UDPSocketOptions): NonNullable<Parameters<ReturnType<typeof network>['bind']>[1]> {
  return {
    sendBuffer: o.sendBufferSize,
    receiveBuffer: o.receiveBufferSize,
    multicastTtl: o.multicastTimeToLive,
    multicastLoopback: o.multicastLoopback,
    reuseAddress: o.multicastAllowAddressSharing,
  }
}

function received(socket: DatagramSocket, connected: boolean, halves: Halves): UDPSocketOpenInfo['readable'] {
  const stopped = new AbortController()
  return new ReadableStream(
    {
      async pull(controller) {
        try {
          const { data, from } = await socket.receive({ signal: stopped.signal })
          controller.enqueue({ data, ...(connected ? {} : remote(from)) })
        } catch (cause) {
          if (stopped.signal.aborted) return
          const error = networkError(cause)
          controller.error(error)
          halves.over('read', error)
        }
      },
      cancel() {
        stopped.abort()
        halves.over('read')
      },
    },
    { highWaterMark: 0 },
  )
}

function sent(socket: DatagramSocket, connected: boolean, halves: Halves): UDPSocketOpenInfo['writable'] {
  return new WritableStream<UDPMessage>({
    async write(message, controller) {
      const { signal } = controller as WritableStreamDefaultController & { readonly signal: AbortSignal }
      try {
        await send(socket, connected, message, signal)
      } catch (cause) {
        if (signal.aborted) throw signal.reason
        const error = networkError(cause)
        halves.over('write', error)
        throw error
      }
    },
    close: () => halves.over('write'),
    abort: () => halves.over('write'),
  })
}

async function send(socket: DatagramSocket, connected: boolean, message: UDPMessage, signal: AbortSignal): Promise<void> {
  const { data, remoteAddress, remotePort, dnsQueryType } = message ?? {}
  if (!ArrayBuffer.isView(data) && !(data instanceof ArrayBuffer))
    throw new TypeError(`data must be an ArrayBuffer or a view of one, got ${typeof data}`)
  if (connected) {
    if (remoteAddress !== undefined || remotePort !== undefined || dnsQueryType !== undefined) {
      throw new TypeError('a message of a connected socket has no remoteAddress, remotePort or dnsQueryType')
    }
    return socket.send(data, undefined, { signal })
  }
  if (remoteAddress === undefined || remotePort === undefined)
    throw new TypeError('a message of a bound socket needs remoteAddress and remotePort')
  whole('remotePort', remotePort, 0, 65_535)
  const host = await addressFor(remoteAddress, familyOf(dnsQueryType), signal)
  return socket.send(data, place('udp', host, remotePort), { signal })
}

/** A name of which only the addresses of one family will do is looked up here, others by `send`. */
async function addressFor(name: string, family: 4 | 6 | undefined, signal: AbortSignal): Promise<string> {
  if (family === undefined || isIp(name) !== 0) return name
  const [found] = await network().resolver.lookup(name, { family, signal })
  return found?.address ?? name
}

export interface MulticastGroupOptions {
  /** Receive from this sender alone (source-specific multicast). */
  sourceAddress?: string | undefined
}

export interface MulticastMembership {
  readonly groupAddress: string
  readonly sourceAddress?: string
}

/** The multicast groups of a bound socket, in the order in which they were joined. */
export class MulticastController {
  readonly #socket: DatagramSocket
  readonly #joined: Map<string, MulticastMembership> = new Map()

  /** @internal made by `UDPSocket` */
  constructor(socket: DatagramSocket) {
    this.#socket = socket
  }

  /** Groups by their address; those joined for one source as a pair. */
  get joinedGroups(): readonly (string | MulticastMembership)[] {
    return Object.freeze([...this.#joined.values()].map((one) => (one.sourceAddress === undefined ? one.groupAddress : one)))
  }

  /**
   * Receives what is sent to a group.
   *
   * @throws `TypeError` for what is no multicast address, or no source for it; `DOMException` `InvalidStateError` if it was joined
   * before, `NetworkError` for what the system says
   */
  async joinGroup(groupAddress: string, options: MulticastGroupOptions = {}): Promise<void> {
    const { sourceAddress } = options
    const key = this.#key(groupAddress, sourceAddress)
    if (this.#joined.has(key)) throw exception('InvalidStateError', `the group ${key} was joined before`)
    this.#do(() => this.#socket.join(groupAddress, { source: sourceAddress }))
    this.#joined.set(key, Object.freeze({ groupAddress, ...(sourceAddress !== undefined && { sourceAddress }) }))
  }

  /** Undoes `joinGroup` with the same arguments. */
  async leaveGroup(groupAddress: string, options: MulticastGroupOptions = {}): Promise<void> {
    const { sourceAddress } = options
    const key = this.#key(groupAddress, sourceAddress)
    if (!this.#joined.has(key)) throw exception('InvalidStateError', `the group ${key} was not joined`)
    this.#do(() => this.#socket.leave(groupAddress, { source: sourceAddress }))
    this.#joined.delete(key)
  }

  #key(groupAddress: string, sourceAddress: string | undefined): string {
    const family = literal('groupAddress', groupAddress)
    if (classify(groupAddress).range !== 'multicast') throw new TypeError(`groupAddress must be a multicast address, got '${groupAddress}'`)
    if (sourceAddress === undefined) return groupAddress
    if (literal('sourceAddress', sourceAddress) !== family) throw new TypeError('sourceAddress and groupAddress must be of one IP version')
    const { range } = classify(sourceAddress)
    if (range === 'multicast' || range === 'loopback' || range === 'unspecified') {
      throw new TypeError(`sourceAddress must be that of one host, got '${sourceAddress}'`)
    }
    return `${groupAddress} from ${sourceAddress}`
  }

  #do(operation: () => void): void {
    try {
      operation()
    } catch (cause) {
      throw cause instanceof Closed ? exception('InvalidStateError', 'the socket is closed', cause) : networkError(cause)
    }
  }
}
