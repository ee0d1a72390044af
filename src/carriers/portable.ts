/**
 * TLS by public means alone, for runtimes without the stream handles of `handle.ts`: a `TLSSocket` on a `Duplex` that
 * never passes on the end of the bytes below, so that the only end it can report is a close_notify.
 */

import type { EventEmitter } from 'node:events'
import { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import type { Address } from '../address.js'
import type { OptionHandle, StreamEvents, StreamHandle } from '../driver.js'
import { DuplexHandle } from '../drivers/duplex.js'
import { isGone, truncated } from './engine.js'
import { engineFailure } from '../verdict.js'

const DENO = 'Deno' in globalThis

/** Turns of the loop that a runtime whose TLS works beside the loop gets to make an end of the last bytes. */
const GRACE = DENO ? 200 : 3

/** Turns until the close_notify of a runtime that counts its end as done before has been written. */
const CLOSING = DENO ? 3 : 0

function afterTurns(turns: number, fn: () => void): void {
  if (turns === 0) fn()
  else setImmediate(() => afterTurns(turns - 1, fn))
}

const HEADER = 5

/** Bytes of the TLS record that `bytes` begin with, header included; those of anything else are all one. */
function recordLength(bytes: Uint8Array): number {
  const [type = 0, , , high = 0, low = 0] = bytes
  if (bytes.length > 0 && (type < 20 || type > 24)) return bytes.length
  return bytes.length < HEADER ? HEADER : HEADER + high * 256 + low
}

export class PortableTls implements StreamHandle {
  readonly local: Address | undefined
  readonly remote: Address | undefined
  readonly #below: StreamHandle
  readonly #allowTruncation: boolean
  /** The bytes below as a stream without an end, and without errors: TLS would drop what it has not given out yet. */
  readonly #carrier: Duplex
  #socket!: TLSSocket
  #upper: DuplexHandle | undefined
  #events: StreamEvents | undefined
  #handshake: (() => void) | undefined
  #failure: unknown
  /** The carrier wants more. */
  #hungry = false
  /** Taken from below and not passed on. */
  #ahead: Uint8Array | undefined
  /** The bytes below have ended or failed; no more come. */
  #over = false
  #readError: unknown
  /** Encrypted and not yet taken below, and what tells the carrier that it is. */
  #pieces: Uint8Array[] = []
  #taken: (() => void) | undefined
  #writeError: unknown
  #asking = false
  /** Something was written that may not have been taken below, or never will be. */
  #carrying = false
  #lost = false
  #looking = false
  #noMore = false
  #destroyed = false
  #shut = false

  constructor(below: StreamHandle, allowTruncation: boolean) {
    this.#below = below
    this.#allowTruncation = allowTruncation
    this.local = below.local
    this.remote = below.remote
    const carrier = new Duplex({
      allowHalfOpen: true,
      autoDestroy: false,
      read: () => {
        this.#hungry = true
        this.#fill()
      },
      write: (chunk: Uint8Array, _encoding, done) => this.#carry([chunk], done),
      writev: (chunks, done) =>
        this.#carry(
          chunks.map(({ chunk }) => chunk as Uint8Array),
          done,
        ),
      final: (done) =>
        below.shutdown((error) => {
          this.#writeError ??= error
          done()
        }),
    })
    // TLS that is done with a stream destroys it, but the end below may still have to be sent.
    carrier.destroy = () => carrier
    this.#carrier = carrier
  }

  begin(make: (transport: EventEmitter) => TLSSocket, first: Uint8Array | undefined, progress: () => void): void {
    this.#handshake = progress
    this.#ahead = first?.length ? first : undefined
    this.#below.attach({
      readable: () => this.#fill(),
      writable: () => {
        this.#drain()
        this.#events?.writable()
      },
    })
    this.#socket = make(this.#carrier)
    const failed = (error: Error) => {
      this.#failure ??= error
      if (this.#handshake !== undefined) this.#handshake()
      else this.#tellReadable()
    }
    // On a server, Node tells errors after the handshake by the second event only, and does not destroy the socket.
    this.#socket.on('error', failed).on('_tlsError' as 'error', failed)
    this.#socket.on('close', () => {
      this.#failure ??= new Error('the TLS layer was closed')
      this.#handshake?.()
    })
  }

  #fill(): void {
    // Not every runtime's TLS stops reading while nobody reads from it.
    while (this.#hungry && !this.#over && (this.#upper === undefined || !this.#socket.isPaused())) {
      let chunk: Uint8Array | null | undefined
      try {
        chunk = this.#take()
      } catch (error) {
        this.#readError = error
        return this.#onOver()
      }
      if (chunk === undefined) return
      if (chunk === null) return this.#onOver()
      this.#hungry = this.#carrier.push(chunk)
    }
  }

  /** Deno drops a close_notify that comes in one piece with the end of the handshake; there, records come one by one until then. */
  #take(): Uint8Array | null | undefined {
    const ahead = this.#ahead
    const careful = DENO && this.#upper === undefined
    if (ahead !== undefined && (!careful || ahead.length >= recordLength(ahead))) return this.#cut(ahead, careful)
    const more = this.#below.read(64 * 1024)
    if (ahead === undefined) return more && careful ? this.#cut(more, careful) : more
    // An end or an error inside a record comes again behind what there is of it.
    if (more === undefined) return undefined
    return this.#cut(more === null ? ahead : new Uint8Array(Buffer.concat([ahead, more])), more !== null)
  }

  #cut(bytes: Uint8Array, careful: boolean): Uint8Array | null | undefined {
    const length = careful ? recordLength(bytes) : bytes.length
    this.#ahead = length === bytes.length ? undefined : bytes
    if (length > bytes.length) return this.#take()
    if (length === bytes.length) return bytes
    this.#ahead = bytes.subarray(length)
    return bytes.subarray(0, length)
  }

  #carry(pieces: Uint8Array[], done: () => void): void {
    this.#pieces = pieces
    this.#taken = done
    this.#drain()
  }

  #drain(): void {
    const done = this.#taken
    if (done === undefined) return
    try {
      if (this.#writeError !== undefined) throw this.#writeError
      while (this.#pieces.length > 0) {
        const piece = this.#pieces[0] as Uint8Array
        const count = this.#below.write(piece)
        if (count === 0) return
        if (count === piece.length) this.#pieces.shift()
        else this.#pieces[0] = piece.subarray(count)
      }
      this.#carrying = false
    } catch (error) {
      this.#writeError = error
      this.#lost ||= this.#carrying || (this.#upper?.unsent ?? 0) > 0
    }
    this.#pieces = []
    this.#taken = undefined
    done()
  }

  established(): void {
    this.#upper = new DuplexHandle(this.#socket)
    this.#upper.attach({
      readable: () => {
        this.#looking = false
        this.#tellReadable()
      },
      writable: () => this.#events?.writable(),
    })
    // The verdict is reached within the event that calls this; who waits is told behind it.
    setImmediate(() => this.#handshake?.())
  }

  #tellReadable(): void {
    if (!this.#asking) this.#events?.readable()
  }

  finished(): void {
    this.#handshake = undefined
  }

  get failed(): { error: unknown } | undefined {
    if (this.#failure !== undefined) return { error: this.#failure }
    if (this.#readError !== undefined) return { error: this.#readError }
    return this.#noMore ? { error: null } : undefined
  }

  #onOver(): void {
    this.#over = true
    // A handshake that is cut short by an error is over, whatever the last bytes were.
    if (this.#upper === undefined && this.#readError === undefined) this.#look()
    // Who reads looks; who waits to write may wait for ever.
    else queueMicrotask(() => this.#wake())
  }

  #wake(): void {
    this.#handshake?.()
    this.#events?.readable()
    this.#events?.writable()
  }

  /** What TLS makes of the last bytes, while somebody asks for it, is out once the loop has turned. */
  #look(): void {
    if (this.#looking || this.#noMore) return
    this.#looking = true
    let turns = GRACE
    const look = () => {
      if (this.#destroyed || !this.#looking) return
      // The handshake is done after all, and nobody has asked yet.
      if (this.#upper !== undefined && this.#socket.isPaused()) {
        this.#looking = false
        return
      }
      const ended = this.#socket.readableEnded || this.#failure !== undefined
      if (!ended && --turns > 0) return void setImmediate(look)
      this.#looking = false
      this.#noMore = true
      this.#handshake?.()
      this.#events?.readable()
    }
    setImmediate(look)
  }

  get options(): OptionHandle | undefined {
    return this.#below.options
  }

  get unsent(): number {
    return Math.max(this.#upper?.unsent ?? 0, this.#carrier.writableLength) + this.#below.unsent
  }

  attach(events: StreamEvents): void {
    this.#events = events
  }

  read(limit: number): Uint8Array | null | undefined {
    return this.#get((upper) => upper.read(limit))
  }

  readInto(into: Uint8Array): number | null | undefined {
    return this.#get((upper) => upper.readInto(into))
  }

  #attempt<T>(operation: (upper: DuplexHandle) => T): T {
    try {
      return operation(this.#upper as DuplexHandle)
    } catch (error) {
      throw this.#readError ?? engineFailure(error)
    }
  }

  #get<T>(operation: (upper: DuplexHandle) => T | null | undefined): T | null | undefined {
    let result = this.#attempt(operation)
    if (result === undefined && !this.#over) {
      // What comes of this at once is had below, and told to nobody.
      this.#asking = true
      this.#fill()
      this.#asking = false
      result = this.#attempt(operation)
    }
    if (result !== undefined) return result
    if (this.#failure !== undefined) throw engineFailure(this.#failure)
    if (this.#over && !this.#noMore) this.#look()
    if (!this.#noMore || this.#socket.readableLength > 0 || this.#carrier.readableLength > 0) return undefined
    if (this.#readError !== undefined) throw this.#readError
    if (this.#allowTruncation) return null
    throw truncated()
  }

  write(data: Uint8Array): number {
    return this.#put((upper) => upper.write(data))
  }

  writev(data: readonly Uint8Array[]): number {
    return this.#put((upper) => upper.writev(data))
  }

  #put(operation: (upper: DuplexHandle) => number): number {
    if (this.#full()) return 0
    this.#carrying = true
    return this.#attempt(operation)
  }

  /** Not every runtime's TLS waits for what carries it. */
  #full(): boolean {
    if (this.#writeError !== undefined) throw this.#writeError
    // A runtime that ended this direction by itself would take more and send none of it.
    if (this.#sentEnd && !this.#shut) throw Object.assign(new Error('the runtime ended the TLS stream'), { code: 'EPIPE' })
    return this.#carrier.writableLength > 0
  }

  get #sentEnd(): boolean {
    return this.#socket.writableEnded || this.#carrier.writableEnded
  }

  shutdown(done: (error?: unknown) => void): void {
    const upper = this.#upper as DuplexHandle
    const complete = this.unsent === 0
    let over = false
    const finish = (error?: unknown) => {
      if (over) return
      over = true
      // Behind the peer's close_notify, a close_notify that finds nobody has lost nothing.
      const settle = () => {
        const failure = this.#writeError ?? error
        done(complete && !this.#lost && this.#socket.readableEnded && isGone(failure) ? undefined : failure)
      }
      // Not every runtime passes the end of TLS on to what carries it.
      if (error !== undefined) settle()
      else afterTurns(CLOSING, () => this.#carrier.end(settle))
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
    // Bun ends what carries TLS that is destroyed, and what is ending cannot be reset.
    if (reset) this.#below.destroy(true)
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
