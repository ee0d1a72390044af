/**
 * TLS by public means alone, for runtimes without the stream handles of `tls-stream.ts`: a `TLSSocket` on a `Duplex` that
 * never passes on the end of the bytes below, so that the only end it can report is a close_notify.
 */

import type { EventEmitter } from 'node:events'
import { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import type { Address } from './address.js'
import type { StreamEvents, StreamHandle } from './driver.js'
import { DuplexHandle } from './drivers/duplex.js'
import { truncated } from './tls-engine.js'
import { engineFailure } from './verdict.js'

/** Turns of the loop that a runtime whose TLS works beside the loop gets to make an end of the last bytes. */
const GRACE = 'Deno' in globalThis ? 200 : 3

/** The bytes below as a stream without an end. */
class Below extends Duplex {
  readonly #below: StreamHandle
  readonly #moved: () => void
  #pieces: Uint8Array[] = []
  #taken: ((error?: Error | null) => void) | undefined
  #hungry = false
  ended = false
  failure: unknown

  constructor(below: StreamHandle, first: Uint8Array | undefined, moved: () => void) {
    super({ allowHalfOpen: true, autoDestroy: false })
    this.#below = below
    this.#moved = moved
    if (first !== undefined && first.length > 0) this.push(first)
    below.attach({ readable: () => this.#fill(), writable: () => this.#drain() })
  }

  override _read(): void {
    this.#hungry = true
    this.#fill()
  }

  #fill(): void {
    while (this.#hungry && !this.ended && this.failure === undefined && !this.destroyed) {
      let chunk: Uint8Array | null | undefined
      try {
        chunk = this.#below.read(64 * 1024)
      } catch (error) {
        this.failure = error
        return this.#moved()
      }
      if (chunk === undefined) return
      if (chunk === null) {
        this.ended = true
        return this.#moved()
      }
      this.#hungry = this.push(chunk)
    }
  }

  override _write(chunk: Uint8Array, _encoding: string, done: (error?: Error | null) => void): void {
    this.#pieces = [chunk]
    this.#taken = done
    this.#drain()
  }

  override _writev(chunks: { chunk: Uint8Array }[], done: (error?: Error | null) => void): void {
    this.#pieces = chunks.map(({ chunk }) => chunk)
    this.#taken = done
    this.#drain()
  }

  #drain(): void {
    const done = this.#taken
    if (done === undefined) return
    try {
      while (this.#pieces.length > 0) {
        const piece = this.#pieces[0] as Uint8Array
        const count = this.#below.write(piece)
        if (count === 0) return
        if (count === piece.length) this.#pieces.shift()
        else this.#pieces[0] = piece.subarray(count)
      }
    } catch (error) {
      this.#taken = undefined
      return done(error as Error)
    }
    this.#taken = undefined
    done()
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#below.shutdown((error) => done(error as Error | undefined))
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    done(error)
  }
}

export class PortableTls implements StreamHandle {
  readonly local: Address | undefined
  readonly remote: Address | undefined
  readonly #below: StreamHandle
  readonly #allowTruncation: boolean
  #transport!: Below
  #socket!: TLSSocket
  #upper: DuplexHandle | undefined
  #events: StreamEvents | undefined
  #handshake: (() => void) | undefined
  #failure: unknown
  #noMore = false
  #destroyed = false
  #shut = false

  constructor(below: StreamHandle, allowTruncation: boolean) {
    this.#below = below
    this.#allowTruncation = allowTruncation
    this.local = below.local
    this.remote = below.remote
  }

  begin(make: (transport: EventEmitter) => TLSSocket, first: Uint8Array | undefined, progress: () => void): TLSSocket {
    this.#handshake = progress
    this.#transport = new Below(this.#below, first, () => this.#onBelowOver())
    this.#socket = make(this.#transport)
    const failed = (error: Error) => {
      this.#failure ??= error
      if (this.#handshake !== undefined) this.#handshake()
      else this.#events?.readable()
    }
    // On a server, Node tells errors after the handshake by the second event only, and does not destroy the socket.
    this.#socket.on('error', failed).on('_tlsError' as 'error', failed)
    this.#socket.on('close', () => {
      this.#failure ??= new Error('the TLS layer was closed')
      this.#handshake?.()
    })
    return this.#socket
  }

  established(): void {
    this.#upper = new DuplexHandle(this.#socket)
    this.#upper.attach({ readable: () => this.#events?.readable(), writable: () => this.#events?.writable() })
    // The verdict is reached within the event that calls this; who waits is told behind it.
    setImmediate(() => this.#handshake?.())
  }

  finished(): void {
    this.#handshake = undefined
  }

  get failed(): { error: unknown } | undefined {
    if (this.#failure !== undefined) return { error: this.#failure }
    if (this.#transport.failure !== undefined) return { error: this.#transport.failure }
    return this.#noMore ? { error: null } : undefined
  }

  /** The bytes below have ended or failed: what TLS makes of those before is out once the loop has turned. */
  #onBelowOver(): void {
    let turns = GRACE
    const look = () => {
      if (this.#destroyed) return
      const ended = this.#socket.readableEnded || this.#failure !== undefined
      if (this.#transport.readableLength > 0 || (!ended && this.#upper !== undefined && --turns > 0)) return void setImmediate(look)
      this.#noMore = true
      this.#handshake?.()
      this.#events?.readable()
    }
    setImmediate(look)
  }

  get unsent(): number {
    return (this.#upper?.unsent ?? 0) + this.#below.unsent
  }

  attach(events: StreamEvents): void {
    this.#events = events
  }

  read(limit: number): Uint8Array | null | undefined {
    return this.#judged(this.#attempt((upper) => upper.read(limit)))
  }

  readInto(into: Uint8Array): number | null | undefined {
    return this.#judged(this.#attempt((upper) => upper.readInto(into)))
  }

  #attempt<T>(operation: (upper: DuplexHandle) => T): T {
    try {
      return operation(this.#upper as DuplexHandle)
    } catch (error) {
      throw this.#transport.failure ?? engineFailure(error)
    }
  }

  #judged<T>(result: T | undefined): T | null | undefined {
    if (result === undefined && this.#failure !== undefined) throw engineFailure(this.#failure)
    if (result !== undefined || !this.#noMore || this.#socket.readableLength > 0) return result
    if (this.#transport.failure !== undefined) throw this.#transport.failure
    if (this.#allowTruncation) return null
    throw truncated()
  }

  write(data: Uint8Array): number {
    this.#checkOpen()
    return this.#attempt((upper) => upper.write(data))
  }

  get #sentEnd(): boolean {
    return this.#socket.writableEnded || this.#transport.writableEnded
  }

  /** A runtime that ended this direction by itself would take more and send none of it. */
  #checkOpen(): void {
    if (this.#sentEnd && !this.#shut) throw Object.assign(new Error('the runtime ended the TLS stream'), { code: 'EPIPE' })
  }

  writev(data: readonly Uint8Array[]): number {
    this.#checkOpen()
    return this.#attempt((upper) => upper.writev(data))
  }

  shutdown(done: (error?: unknown) => void): void {
    const upper = this.#upper as DuplexHandle
    let over = false
    const finish = (error?: unknown) => {
      if (over) return
      over = true
      // Not every runtime passes the end of TLS on to what carries it.
      if (this.#transport.writableEnded || error !== undefined) done(error)
      else this.#transport.end(() => done())
    }
    this.#socket.once('close', () => finish(this.#failure))
    // Bun answers the peer's close_notify with its own.
    if (this.#sentEnd) finish()
    else upper.shutdown(finish)
    this.#shut = true
  }

  destroy(reset: boolean): void {
    if (this.#destroyed) return
    this.#destroyed = true
    if (this.#upper !== undefined) this.#upper.destroy(false)
    else (this.#socket as TLSSocket | undefined)?.destroy()
    this.#below.destroy(reset)
  }

  mayLose(): boolean {
    return this.#upper?.mayLose() ?? this.#below.mayLose()
  }

  ref(): void {
    this.#below.ref()
  }

  unref(): void {
    this.#below.unref()
  }
}
