/** `Deno.listenDatagram`. */

import { type DatagramSocket, network } from '../index.js'
import { type Addr, addrOf, supports, unixAt, type UnixListenOptions } from './deno-addr.js'
import { BadResource, denoError, Interrupted } from './deno-errors.js'
import { place } from './streams.js'

export interface UdpListenOptions {
  /** 0 means any free one. */
  port: number
  /** Default `'127.0.0.1'`. */
  hostname?: string | undefined
  /** Whether several sockets may be bound to this address. Default false. */
  reuseAddress?: boolean | undefined
  /** Whether multicasts reach members on this machine. Default false, as in Deno. */
  loopback?: boolean | undefined
}

export interface MulticastV6Membership {
  leave(): Promise<void>
  /** Whether multicasts reach members on this machine. */
  setLoopback(loopback: boolean): Promise<void>
}

export interface MulticastV4Membership extends MulticastV6Membership {
  /** How many routers a multicast may pass. */
  setTTL(ttl: number): Promise<void>
}

/** Sends and receives messages. Unlike Deno's, `listenDatagram` gives a promise. */
export async function listenDatagram(
  options: (UdpListenOptions & { transport: 'udp' }) | (UnixListenOptions & { transport: 'unixpacket' }),
): Promise<DatagramConn> {
  supports(options.transport, ['udp', 'unixpacket'])
  try {
    if (options.transport === 'unixpacket') return new DatagramConn(await network().bind(unixAt(options.path, 'unixgram')))
    const { hostname = '127.0.0.1', port, reuseAddress, loopback = false } = options
    return new DatagramConn(await network().bind(place('udp', hostname, port), { reuseAddress, multicastLoopback: loopback }))
  } catch (error) {
    throw denoError(error)
  }
}

/**
 * A datagram socket; iterating over it receives until it is closed.
 *
 * ```ts
 * import { listenDatagram, type NetAddr } from 'fairlead/deno'
 *
 * const server = await listenDatagram({ port: 0, transport: 'udp' })
 * const client = await listenDatagram({ port: 0, transport: 'udp' })
 * await client.send(new TextEncoder().encode('hello'), server.addr)
 * const [data, from] = await server.receive()
 * console.log(new TextDecoder().decode(data), (from as NetAddr).port === (client.addr as NetAddr).port) // hello true
 * server.close()
 * client.close()
 * ```
 */
export class DatagramConn implements AsyncIterable<[Uint8Array, Addr]>, Disposable {
  readonly addr: Addr
  /** Bytes of a message that `receive` without a buffer takes; what is longer is cut off. */
  bufSize = 1024
  readonly #socket: DatagramSocket
  #closed = false

  /** @internal made by `listenDatagram` */
  constructor(socket: DatagramSocket) {
    this.#socket = socket
    this.addr = addrOf(socket.local, 'udp')
  }

  /** The next message, in the buffer, and whom it is from. */
  receive(p: Uint8Array = new Uint8Array(this.bufSize)): Promise<[Uint8Array, Addr]> {
    return this.#do(async (socket) => {
      const { length, from } = await socket.receiveInto(p)
      return [p.subarray(0, length), addrOf(from, 'udp')]
    })
  }

  /** Sends a message and gives its length. */
  send(p: Uint8Array, addr: Addr): Promise<number> {
    return this.#do(async (socket) => {
      await socket.send(p, 'path' in addr ? unixAt(addr.path, 'unixgram') : place('udp', addr.hostname ?? '127.0.0.1', addr.port))
      return p.byteLength
    })
  }

  async joinMulticastV4(addr: string, networkInterface: string): Promise<MulticastV4Membership> {
    const membership = await this.joinMulticastV6(addr, networkInterface)
    return { ...membership, setTTL: (ttl) => this.#do(async (socket) => socket.set('multicastTtl', ttl)) }
  }

  /** The interface by its address, its name, or the number the system has for it. */
  async joinMulticastV6(addr: string, networkInterface: string | number): Promise<MulticastV6Membership> {
    const o = { interface: networkInterface === 0 ? undefined : String(networkInterface) }
    await this.#do(async (socket) => socket.join(addr, o))
    return {
      leave: () => this.#do(async (socket) => socket.leave(addr, o)),
      setLoopback: (loopback) => this.#do(async (socket) => socket.set('multicastLoopback', loopback)),
    }
  }

  close(): void {
    if (this.#closed) throw new BadResource('Bad resource ID')
    this.#closed = true
    void this.#socket.close()
  }

  [Symbol.dispose](): void {
    if (!this.#closed) this.close()
  }

  ref(): void {
    this.#socket.ref()
  }

  unref(): void {
    this.#socket.unref()
  }

  async *[Symbol.asyncIterator](): AsyncIterableIterator<[Uint8Array, Addr]> {
    try {
      for (;;) yield await this.receive()
    } catch (error) {
      if (!(error instanceof BadResource || error instanceof Interrupted)) throw error
    }
  }

  async #do<T>(operation: (socket: DatagramSocket) => Promise<T>): Promise<T> {
    if (this.#closed) throw new BadResource('Bad resource ID')
    try {
      return await operation(this.#socket)
    } catch (error) {
      throw denoError(error)
    }
  }
}
