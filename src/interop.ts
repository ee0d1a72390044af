/** Connections as the platform's own stream shapes, and back. */

import { type AddressInfo, Socket } from 'node:net'
import { Duplex } from 'node:stream'
import type { ReadableStream, WritableStream } from 'node:stream/web'
import type { Address } from './address.js'
import { milliseconds } from './arguments.js'
import type { Connection } from './connection.js'
import { whenIdle } from './deadline.js'
import type { StreamHandle } from './driver.js'
import { DuplexHandle } from './drivers/duplex.js'
import { handleOf } from './drivers/node.js'
import { Closed, invalidType, type SocketError } from './errors.js'
import type { Claim } from './inbound.js'
import type { Bytes } from './stream.js'

export function handleOfStream(stream: Duplex): StreamHandle {
  if (!(stream instanceof Duplex)) throw invalidType('stream', 'a Duplex of node:stream', stream)
  if (stream.destroyed || stream.readableEnded || stream.writableEnded) {
    throw new Closed('CLOSED', 'the stream to adopt has already ended', { op: 'fromNode' })
  }
  if (stream.readableFlowing === true) {
    throw invalidType('stream', 'paused, as what flows to its listeners would be lost', stream)
  }
  if (stream instanceof Socket && stream.connecting) throw invalidType('stream', 'connected', stream)
  if (stream.readableObjectMode || stream.readableEncoding !== null)
    throw invalidType('stream', 'one of bytes, without an encoding', stream)
  return stream instanceof Socket ? handleOf(stream) : new DuplexHandle(stream)
}

/** What is read off a `net.Socket` or `tls.TLSSocket`. */
const FACTS: { readonly [name: string]: (connection: Connection) => unknown } = {
  remoteAddress: ({ remote }) => nodeAddress(remote).address,
  remotePort: ({ remote }) => nodeAddress(remote).port,
  remoteFamily: ({ remote }) => nodeAddress(remote).family,
  localAddress: ({ local }) => nodeAddress(local).address,
  localPort: ({ local }) => nodeAddress(local).port,
  localFamily: ({ local }) => nodeAddress(local).family,
  bytesRead: ({ stats }) => stats.bytesRead,
  bytesWritten: ({ stats }) => stats.bytesWritten,
  connecting: () => false,
  pending: () => false,
  encrypted: ({ security }) => (security === null ? undefined : true),
  authorized: ({ security }) => security?.verified,
  alpnProtocol: ({ security }) => (security === null ? undefined : (security.alpn ?? false)),
}

/** A stream that Node's own modules (`http`, database drivers) take for a `net.Socket`. */
export class ConnectionDuplex extends Duplex {
  readonly #connection: Connection
  readonly #claim: Claim
  #pumping = false
  /** Node asked for more than it has been given. */
  #wanted = false
  #ended = false
  #activeAt = 0
  #stopTimer: (() => void) | undefined
  timeout = 0

  constructor(connection: Connection) {
    super({ allowHalfOpen: true })
    this.#connection = connection
    this.#claim = connection.claim('toNode')
    // Weakly: a stream that nobody has any more must not be kept until its own end.
    const weak = new WeakRef(this)
    void connection.closed.then(({ reason }) => {
      const stream = weak.deref()
      if (stream !== undefined) stream.#over(reason)
    })
  }

  #over(reason: SocketError | undefined): void {
    // A read under way is told, in order, what is still to be given; that both directions ended is for Node to notice.
    if (this.#pumping || (this.#ended && this.writableEnded) || this.destroyed) return
    this.destroy(failureOf(reason))
  }

  static {
    for (const [name, of] of Object.entries(FACTS)) {
      Object.defineProperty(this.prototype, name, {
        get(this: ConnectionDuplex) {
          return of(this.#connection)
        },
      })
    }
  }

  address(): Partial<AddressInfo> {
    return nodeAddress(this.#connection.local)
  }

  /** Already set on every TCP connection of this library. */
  setNoDelay(): this {
    return this
  }

  setKeepAlive(): this {
    return this
  }

  ref(): this {
    this.#connection.ref()
    return this
  }

  unref(): this {
    this.#connection.unref()
    return this
  }

  /** As `net.Socket.setTimeout`: emits `timeout` once after that many milliseconds without traffic, and does nothing else. */
  setTimeout(timeout: number, listener?: () => void): this {
    this.timeout = milliseconds('timeout', timeout)
    this.#stopTimer?.()
    this.#stopTimer = undefined
    if (listener !== undefined) {
      if (timeout === 0) this.removeListener('timeout', listener)
      else this.once('timeout', listener)
    }
    this.#active()
    return this
  }

  /** There was traffic: the time without it begins anew. */
  #active(): void {
    if (this.timeout === 0 || this.timeout === Number.POSITIVE_INFINITY || this.destroyed) return
    const { clock } = this.#connection.owner.shared
    this.#activeAt = clock.now()
    const last = () => this.#activeAt
    this.#stopTimer ??= whenIdle(clock, this.timeout, last, () => {
      this.#stopTimer = undefined
      this.emit('timeout')
    })
  }

  /** For what makes a socket and then tells it to connect. It is connected. */
  connect(...args: unknown[]): this {
    const listener = args.at(-1)
    if (typeof listener === 'function') this.once('connect', listener as () => void)
    process.nextTick(() => {
      if (!this.destroyed) this.emit('connect')
    })
    return this
  }

  get readyState(): string {
    if (this.readable && this.writable) return 'open'
    if (this.readable) return 'readOnly'
    return this.writable ? 'writeOnly' : 'closed'
  }

  destroySoon(): void {
    if (this.writable) this.end()
    if (this.writableFinished) this.destroy()
    else this.once('finish', () => this.destroy())
  }

  resetAndDestroy(): this {
    this.#connection.abort()
    return this.destroy()
  }

  override _read(): void {
    this.#wanted = true
    if (this.#pumping) return
    this.#pumping = true
    void this.#pump()
  }

  async #pump(): Promise<void> {
    try {
      while (this.#wanted) {
        const chunk = await this.#claim.read()
        this.#active()
        // `push` may ask for more before it returns.
        this.#wanted = false
        this.#ended = chunk === null
        if (this.push(chunk) && chunk !== null) this.#wanted = true
      }
      this.#pumping = false
    } catch (error) {
      this.destroy(failureOf(error))
    }
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#send(chunk, done)
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    this.#send(
      chunks.map(({ chunk }) => chunk),
      done,
    )
  }

  #send(data: Bytes | readonly Bytes[], done: (error?: Error | null) => void): void {
    this.#active()
    this.#connection.write(data).then(() => {
      this.#active()
      done()
    }, done)
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#connection.end().then(() => done(), done)
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#stopTimer?.()
    this.#claim.release()
    if (error === null) void this.#connection.close()
    else this.#connection.abort(error)
    done(error)
  }
}

/** Closed or aborted on this side is how a socket is destroyed: no failure, and no `error` event that somebody must listen to. */
function failureOf(error: unknown): Error | undefined {
  return error instanceof Closed ? undefined : (error as Error | undefined)
}

/** An address as Node gives it; an empty object for a UNIX socket. */
function nodeAddress(address: Address | undefined): Partial<AddressInfo> {
  if (address === undefined || address.family === 'unix') return {}
  return { address: address.address, port: address.port, family: address.family === 'ipv4' ? 'IPv4' : 'IPv6' }
}

const READABLES: WeakMap<Connection, ReadableStream<Uint8Array>> = new WeakMap()
const WRITABLES: WeakMap<Connection, WritableStream<Bytes | string>> = new WeakMap()

/**
 * The Web stream of a connection: one chunk is fetched for each that is pulled. Cancelling it gives the reader slot back and
 * closes nothing; whoever asks again gets a new stream.
 */
export function toReadableStream(connection: Connection): ReadableStream<Uint8Array> {
  const known = READABLES.get(connection)
  if (known !== undefined) return known
  let claim: Claim | undefined
  let cancelled = false
  const leave = () => {
    READABLES.delete(connection)
    claim?.release()
  }
  const stream = new globalThis.ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          claim ??= connection.claim('readable')
          const chunk = await claim.read()
          if (chunk !== null) return controller.enqueue(chunk)
          leave()
          controller.close()
        } catch (error) {
          leave()
          if (!cancelled) controller.error(error)
        }
      },
      cancel() {
        cancelled = true
        claim?.cancel()
        leave()
      },
    },
    { highWaterMark: 0 },
  )
  READABLES.set(connection, stream)
  return stream
}

export function toWritableStream(connection: Connection): WritableStream<Bytes | string> {
  const known = WRITABLES.get(connection)
  if (known !== undefined) return known
  const stream = new globalThis.WritableStream<Bytes | string>({
    write: (chunk) => connection.write(chunk),
    close: () => connection.end(),
    abort: (reason) => connection.abort(reason),
  })
  WRITABLES.set(connection, stream)
  return stream
}
