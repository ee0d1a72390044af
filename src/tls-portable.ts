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
import { isGone, truncated } from './tls-engine.js'
import { engineFailure } from './verdict.js'

/** Turns of the loop that a runtime whose TLS works beside the loop gets to make an end of the last bytes. */
const GRACE = 'Deno' in globalThis ? 200 : 3

/** What a {@link Below} tells. */
interface BelowEvents {
  /** Whether bytes are welcome: not every runtime's TLS stops reading while nobody reads from it. */
  wanted(): boolean
  /** The bytes below have ended or failed; no more come. */
  over(): void
  /** More of what was written has been taken below, or none ever will be. */
  writable(): void
}

/** The bytes below as a stream without an end, and without errors: TLS would drop what it has not given out yet. */
class Below extends Duplex {
  readonly #below: StreamHandle
  readonly #told: BelowEvents
  #pieces: Uint8Array[] = []
  #taken: ((error?: Error | null) => void) | undefined
  #hungry = false
  ended = false
  failure: unknown
  writeFailure: unknown

  constructor(below: StreamHandle, first: Uint8Array | undefined, told: BelowEvents) {
    super({ allowHalfOpen: true, autoDestroy: false })
    this.#below = below
    this.#told = told
    if (first !== undefined && first.length > 0) this.push(first)
    below.attach({
      readable: () => this.fill(),
      writable: () => {
        this.#drain()
        told.writable()
      },
    })
  }

  override _read(): void {
    this.#hungry = true
    this.fill()
  }

  fill(): void {
    while (this.#hungry && this.#told.wanted() && !this.ended && this.failure === undefined && !this.destroyed) {
      let chunk: Uint8Array | null | undefined
      try {
        chunk = this.#below.read(64 * 1024)
      } catch (error) {
        this.failure = error
        return this.#told.over()
      }
      if (chunk === undefined) return
      if (chunk === null) {
        this.ended = true
        return this.#told.over()
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
      while (this.#pieces.length > 0 && this.writeFailure === undefined) {
        const piece = this.#pieces[0] as Uint8Array
        const count = this.#below.write(piece)
        if (count === 0) return
        if (count === piece.length) this.#pieces.shift()
        else this.#pieces[0] = piece.subarray(count)
      }
    } catch (error) {
      this.writeFailure = error
    }
    this.#pieces = []
    this.#taken = undefined
    done()
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#below.shutdown((error) => {
      this.writeFailure ??= error
      done()
    })
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
  #over = false
  #looking = false
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
    this.#transport = new Below(this.#below, first, {
      wanted: () => this.#upper === undefined || !this.#socket.isPaused(),
      over: () => this.#onBelowOver(),
      writable: () => this.#events?.writable(),
    })
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
    this.#upper.attach({
      readable: () => {
        this.#looking = false
        this.#events?.readable()
      },
      writable: () => this.#events?.writable(),
    })
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

  #onBelowOver(): void {
    this.#over = true
    this.#look()
    // Who waits to write may wait for ever.
    queueMicrotask(() => this.#events?.writable())
  }

  /** What TLS makes of the last bytes is out once the loop has turned; until somebody reads them, nothing need be known. */
  #look(): void {
    if (this.#looking || this.#noMore) return
    this.#looking = true
    let turns = GRACE
    const look = () => {
      if (this.#destroyed || !this.#looking) return
      const ended = this.#socket.readableEnded || this.#failure !== undefined
      if (!ended && --turns > 0) return void setImmediate(look)
      this.#looking = false
      if (this.#transport.readableLength > 0 && this.#upper !== undefined) return
      this.#noMore = true
      this.#handshake?.()
      this.#events?.readable()
    }
    setImmediate(look)
  }

  get unsent(): number {
    return Math.max(this.#upper?.unsent ?? 0, this.#transport.writableLength) + this.#below.unsent
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
    if (result !== undefined) return result
    if (this.#failure !== undefined) throw engineFailure(this.#failure)
    if (!this.#over) this.#transport.fill()
    else if (!this.#noMore) this.#look()
    if (!this.#noMore || this.#socket.readableLength > 0) return undefined
    if (this.#transport.failure !== undefined) throw this.#transport.failure
    if (this.#allowTruncation) return null
    throw truncated()
  }

  write(data: Uint8Array): number {
    return this.#full() ? 0 : this.#attempt((upper) => upper.write(data))
  }

  writev(data: readonly Uint8Array[]): number {
    return this.#full() ? 0 : this.#attempt((upper) => upper.writev(data))
  }

  /** Not every runtime's TLS waits for what carries it. */
  #full(): boolean {
    if (this.#transport.writeFailure !== undefined) throw this.#transport.writeFailure
    // A runtime that ended this direction by itself would take more and send none of it.
    if (this.#sentEnd && !this.#shut) throw Object.assign(new Error('the runtime ended the TLS stream'), { code: 'EPIPE' })
    return this.#transport.writableLength > 0
  }

  get #sentEnd(): boolean {
    return this.#socket.writableEnded || this.#transport.writableEnded
  }

  shutdown(done: (error?: unknown) => void): void {
    const upper = this.#upper as DuplexHandle
    const complete = this.unsent === 0 && this.#transport.writeFailure === undefined
    let over = false
    const finish = (error?: unknown) => {
      if (over) return
      over = true
      // Behind the peer's close_notify, a close_notify that finds nobody has lost nothing.
      const settle = () => {
        const failure = this.#transport.writeFailure ?? error
        done(complete && this.#socket.readableEnded && isGone(failure) ? undefined : failure)
      }
      // Not every runtime passes the end of TLS on to what carries it.
      if (error !== undefined) settle()
      else this.#transport.end(settle)
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
