/**
 * A Node `Duplex` (a `net.Socket`, a `tls.TLSSocket`, anybody's own) as a {@link StreamHandle}.
 *
 * Reading: the stream flows while somebody takes what comes; a chunk nobody takes is held and the stream paused, so that
 * at most one more chunk, already in flight, waits in the stream's own buffer.
 *
 * Writing: the platform keeps a reference to what it could not send at once and does not say how much that was. What is
 * written is therefore copied into a slab first, which is free again at once in the usual case that the system took it
 * all; the caller's memory is never in the platform's hands. Large pieces are offered to the system itself before, where
 * that can be done, and only what it does not take is copied.
 */

import type { Duplex } from 'node:stream'
import type { Address } from '../address.js'
import type { OptionHandle, StreamEvents, StreamHandle } from '../driver.js'
import { refusal } from './refusal.js'

/** Pieces of at most this size are handed over at a time, so that what a deadline withdraws is known to 64 KiB. */
export const PIECE: number = 64 * 1024
const SMALL = 4 * 1024
/**
 * A stream of small chunks is better off reading into {@link SLAB} and copying out, one of large chunks with those that the
 * runtime allocates: a copy of 16 KiB costs more than it saves on Node 26, and less on Node 20. There is no way back from the slab.
 */
const SMALL_IN_A_ROW = 8
const COPIED = Number(process.versions.node.split('.')[0]) < 22 ? Number.POSITIVE_INFINITY : SMALL
const NEVER = -(2 ** 30)

let spareSmall: Buffer | undefined
let sparePiece: Buffer | undefined

/** `Buffer`, as Node would wrap anything else in one for every write; slow, as a slab must not be a cut of a pool. */
function borrow(size: number): Buffer {
  if (size <= SMALL) {
    const slab = spareSmall ?? Buffer.allocUnsafeSlow(SMALL)
    spareSmall = undefined
    return slab
  }
  const slab = sparePiece ?? Buffer.allocUnsafeSlow(PIECE)
  sparePiece = undefined
  return slab
}

function giveBack(slab: Buffer): void {
  if (slab.length === SMALL) spareSmall = slab
  else sparePiece = slab
}

/** The cut of a slab made last: messages are often of one size. */
let lastCut: Buffer = Buffer.alloc(0)

/** What is known of the system's socket below a stream. */
export interface DuplexHooks {
  /** Asked at the stream's `end`: what the system knows to the contrary, bytes it still had or an error, or undefined. */
  judgeEnd?(stream: Duplex): { data?: Uint8Array; error?: unknown } | undefined
  /** The same stream as one that reads into {@link SLAB} and calls `take` for it, where the runtime can do that. */
  direct?(stream: Duplex, take: (count: number) => boolean): Duplex | undefined
  /** A write without a callback costs no turn of Node's tick queue; this stream says at once how a write went. */
  readonly prompt?: boolean
  /** Offers bytes to the system, in front of which there are none: how many it took at once. Throws why it takes none any more. */
  offer?(stream: Duplex, data: Uint8Array): number
  /** The descriptor of the socket, where the runtime tells. */
  descriptor?(stream: Duplex): number | undefined
  /** The options of the socket; `current` is the stream that has it now. */
  options?(current: () => Duplex, unix: boolean): OptionHandle | undefined
}

const NO_HOOKS: DuplexHooks = {}

/** What all streams that can do so read into: what is in it has been taken out before the next one reads. */
export const SLAB: Uint8Array = new Uint8Array(64 * 1024)
/** Whose bytes lie in the slab, and which of them it has not taken, while it is being told of them; nobody's at any other time. */
let slabOwner: DuplexHandle | undefined
let slabFrom = 0
let slabTo = 0

const NOTHING: Buffer = Buffer.alloc(0)

/** What a `net.Socket` offers beyond a `Duplex`. */
export interface SocketLike {
  resetAndDestroy?(): unknown
  ref?(): unknown
  unref?(): unknown
}

export class DuplexHandle implements StreamHandle {
  readonly local: Address | undefined
  readonly remote: Address | undefined
  #stream: Duplex & SocketLike
  readonly #hooks: DuplexHooks
  #events: StreamEvents | undefined
  #held: Uint8Array | undefined
  #paused = true
  /** How reading ended: `null` in order, otherwise the error, wrapped as it may be anything. */
  #over: { error: unknown } | null | undefined
  #writeError: unknown
  #inFlight = 0
  #slab: Buffer | undefined
  /** What was written last went through at once; while it does not, a piece of it would, and that is no gain. */
  #flows = true
  #destroyed = false
  #wrote = false
  /** Small chunks in a row; below zero once the stream reads into the slab, or cannot. */
  #small = 0
  /** One function for every write: Node batches the callbacks of writes that share it. */
  #written: ((error?: Error | null) => void) | undefined
  #shutdownDone: ((error?: unknown) => void) | undefined
  /** Made when they are first asked for. */
  #options: OptionHandle | undefined

  constructor(stream: Duplex & SocketLike, local?: Address, remote?: Address, hooks: DuplexHooks = NO_HOOKS) {
    this.#stream = stream
    this.#hooks = hooks
    this.local = local
    this.remote = remote
  }

  get unsent(): number {
    return this.#inFlight
  }

  get descriptor(): number {
    return (this.#destroyed ? undefined : this.#hooks.descriptor?.(this.#stream)) ?? -1
  }

  attach(events: StreamEvents): void {
    const taken = this.#events !== undefined
    this.#events = events
    if (taken) return
    const stream = this.#stream
    this.#bind(stream)
    stream.on('data', DuplexHandle.#data)
    if (stream.destroyed) queueMicrotask(() => this.#onClose())
    else if (stream.readableEnded) this.#over = null
  }

  #bind(stream: Duplex): void {
    const { _readableState: readable, _writableState: writable } = internals(stream)
    // A failed write must not destroy a stream whose input has not been read yet; this handle destroys it when it is done.
    for (const state of [readable, writable]) if (state) state.autoDestroy = false
    // The peer's end must not end what we write; sockets that others made may want that.
    stream.allowHalfOpen = true
    // While paused, the stream stops reading behind the first chunk rather than behind the first 16 or 64 KiB.
    if (readable) readable.highWaterMark = 1
    stream.pause()
    ;(stream as unknown as Bound)[HANDLE] = this
    stream.on('end', DuplexHandle.#end).on('error', DuplexHandle.#fail).on('close', DuplexHandle.#close)
  }

  /**
   * Reads into {@link SLAB} from now on, where the runtime can do that. Only at rest: with nothing received that was not given
   * out, nothing on its way to the system, and no end or error to come, of which the stream left behind would be told.
   */
  #goDirect(): void {
    const stream = this.#stream
    const busy = stream.readableLength > 0 || stream.writableLength > 0 || this.#inFlight > 0
    if (busy || stream.destroyed || stream.errored || stream.writableEnded || internals(stream)._readableState?.ended) return
    this.#small = NEVER
    const direct = this.#hooks.direct?.(stream, DuplexHandle.#take)
    if (direct === undefined) return
    this.#stream = direct
    this.#bind(direct)
    this.#paused = true
  }

  // The listeners are the same for every stream and find their handle by the stream, as there may be many.
  static #data(this: unknown, chunk: Buffer): void {
    ;(this as Bound)[HANDLE].#onData(chunk)
  }

  static #take(this: unknown, count: number): boolean {
    return (this as Bound)[HANDLE].#onSlab(count)
  }

  static #end(this: unknown): void {
    ;(this as Bound)[HANDLE].#onEnd()
  }

  static #fail(this: unknown, error: Error): void {
    ;(this as Bound)[HANDLE].#onError(error)
  }

  static #close(this: unknown): void {
    ;(this as Bound)[HANDLE].#onClose()
  }

  /** False stops the reading behind these bytes. */
  #onSlab(count: number): boolean {
    if (this.#destroyed) return false
    slabOwner = this
    slabFrom = 0
    slabTo = count
    try {
      this.#events?.readable()
      if (slabFrom === slabTo) return true
      this.#held = copyOut(slabTo)
      this.#paused = true
      return false
    } finally {
      slabOwner = undefined
    }
  }

  #onData(chunk: Buffer): void {
    if (this.#destroyed) return
    this.#small = chunk.length < COPIED ? this.#small + 1 : 0
    this.#held = own(chunk)
    this.#events?.readable()
    if (this.#held !== undefined && !this.#paused) {
      this.#paused = true
      this.#stream.pause()
    }
  }

  #onEnd(): void {
    const verdict = this.#destroyed ? undefined : this.#hooks.judgeEnd?.(this.#stream)
    if (verdict?.data !== undefined) this.#held = verdict.data
    // The system tells of a reset once: if a write has heard of it, reading finds a plain end behind the data.
    const error = verdict?.error ?? (isReset(this.#writeError) ? this.#writeError : undefined)
    this.#over = error === undefined ? null : { error }
    this.#events?.readable()
  }

  #onError(error: unknown): void {
    if (this.#destroyed) return
    // A failed write says so twice, to its callback and here; it has nothing to say about reading, which Node then stops.
    if (error === this.#writeError) {
      const { _readableState: readable } = internals(this.#stream)
      if (readable) readable.errored = null
      // A reading that was asked for in the same turn has not begun because of it, and would never.
      if (!this.#paused) this.#stream.read(0)
      return
    }
    if (this.#over === undefined) this.#over = { error }
    this.#writeError ??= error
    this.#wake()
  }

  #onClose(): void {
    this.#finishWrite()
    if (this.#destroyed) return
    const error = this.#stream.errored ?? this.#writeError ?? gone()
    if (this.#over === undefined) this.#over = { error }
    this.#writeError ??= error
    this.#wake()
  }

  #wake(): void {
    const done = this.#shutdownDone
    this.#shutdownDone = undefined
    done?.(this.#writeError)
    this.#events?.readable()
    this.#events?.writable()
  }

  read(limit: number): Uint8Array | null | undefined {
    if (slabOwner === this && slabFrom < slabTo) return copyOut(limit)
    const held = this.#held
    if (held !== undefined) {
      if (held.length <= limit) {
        this.#held = undefined
        return held
      }
      this.#held = held.subarray(limit)
      return held.slice(0, limit)
    }
    return this.#nothing()
  }

  readInto(into: Uint8Array): number | null | undefined {
    if (slabOwner === this && slabFrom < slabTo) {
      const bytes = cut(into.length)
      into.set(bytes)
      return bytes.length
    }
    const held = this.#held
    if (held === undefined) {
      // Whoever brings memory of its own wants nothing allocated.
      if (this.#small >= 0) this.#small = SMALL_IN_A_ROW
      return this.#nothing()
    }
    const count = Math.min(held.length, into.length)
    into.set(count === held.length ? held : held.subarray(0, count))
    this.#held = count === held.length ? undefined : held.subarray(count)
    return count
  }

  /** No bytes here: the end, an error, or a reason to let the stream flow. */
  #nothing(): null | undefined {
    if (this.#over === null) return null
    if (this.#over !== undefined) throw this.#over.error
    if (this.#small >= SMALL_IN_A_ROW) this.#goDirect()
    if (this.#paused && !this.#destroyed) {
      this.#paused = false
      this.#stream.resume()
    }
    return undefined
  }

  write(data: Uint8Array): number {
    if (this.#writeError !== undefined) throw this.#writeError
    if (this.#inFlight > 0 || this.#destroyed) return 0
    const size = Math.min(data.length, PIECE)
    const taken = size > SMALL && this.#flows ? this.#offer(size === data.length ? data : data.subarray(0, size)) : 0
    if (taken === size) return size
    const slab = borrow(size - taken)
    slab.set(taken === 0 && size === data.length ? data : data.subarray(taken, size))
    this.#hand(slab, size - taken)
    return size
  }

  #offer(data: Uint8Array): number {
    const { offer } = this.#hooks
    const stream = this.#stream
    if (offer === undefined || stream.writableLength > 0 || stream.writableCorked > 0 || stream.writableEnded) return 0
    try {
      const taken = offer(stream, data)
      if (taken > 0) this.#wrote = true
      return taken
    } catch (error) {
      this.#writeError = error
      throw error
    }
  }

  writev(data: readonly Uint8Array[]): number {
    if (this.#writeError !== undefined) throw this.#writeError
    if (this.#inFlight > 0 || this.#destroyed) return 0
    let total = 0
    for (const piece of data) if ((total += piece.length) >= PIECE) break
    const size = Math.min(total, PIECE)
    const slab = borrow(size)
    let at = 0
    for (const piece of data) {
      const room = size - at
      if (room === 0) break
      slab.set(piece.length <= room ? piece : piece.subarray(0, room), at)
      at += Math.min(piece.length, room)
    }
    this.#hand(slab, size)
    return size
  }

  #hand(slab: Buffer, size: number): void {
    this.#wrote = true
    const stream = this.#stream
    if (lastCut.buffer !== slab.buffer || lastCut.length !== size) lastCut = slab.subarray(0, size)
    const { prompt } = this.#hooks
    if (prompt) stream.write(lastCut)
    else stream.write(lastCut, (this.#written ??= (error) => this.#onWritten(error)))
    // Node counts a write the system took at once as done before `write` returns.
    this.#flows = stream.writableLength === 0 && !stream.errored
    if (this.#flows) return giveBack(slab)
    this.#slab = slab
    this.#inFlight = size
    // An empty write behind the one that did not go through at once tells when, or why not.
    if (prompt) stream.write(NOTHING, (this.#written ??= (error) => this.#onWritten(error)))
  }

  #onWritten(error: Error | null | undefined): void {
    if (error) this.#writeError ??= error
    else if (this.#inFlight === 0 || this.#stream.writableLength > 0) return
    this.#finishWrite()
    this.#events?.writable()
  }

  #finishWrite(): void {
    if (this.#slab !== undefined) giveBack(this.#slab)
    this.#slab = undefined
    this.#inFlight = 0
  }

  shutdown(done: (error?: unknown) => void): void {
    if (this.#writeError !== undefined || this.#destroyed) return done(this.#writeError)
    this.#shutdownDone = done
    this.#stream.end(() => {
      // The callback also runs, without an argument on some runtimes, when the stream failed or was destroyed first.
      const { errored, writableFinished } = this.#stream
      const waiting = this.#shutdownDone
      this.#shutdownDone = undefined
      waiting?.(errored ?? this.#writeError ?? (writableFinished ? undefined : gone()))
    })
  }

  destroy(reset: boolean): void {
    if (this.#destroyed) return
    this.#destroyed = true
    this.#held = undefined
    if (slabOwner === this) slabFrom = slabTo
    const stream = this.#stream
    // A handle nobody attached to has no listener, and an error without one ends the process.
    if (this.#events === undefined) stream.on('error', () => {})
    destroyStream(stream, reset, this.remote)
  }

  mayLose(): boolean {
    if (this.#over !== undefined) return false
    return this.#held !== undefined || (slabOwner === this && slabFrom < slabTo) || this.#inFlight > 0 || this.#wrote
  }

  ref(): void {
    this.#stream.ref?.()
  }

  unref(): void {
    this.#stream.unref?.()
  }

  get options(): OptionHandle | undefined {
    this.#options ??= this.#hooks.options?.(() => this.#stream, this.local?.family === 'unix')
    return this.#options
  }

  release(): unknown {
    return this.#events === undefined ? this.#stream : undefined
  }
}

/** The cut of {@link SLAB} made last. */
let lastFresh: Uint8Array = SLAB

/** Takes at most `limit` bytes out of the slab: a view of it. */
function cut(limit: number): Uint8Array {
  const from = slabFrom
  slabFrom = Math.min(slabTo, from + limit)
  if (from !== 0) return SLAB.subarray(from, slabFrom)
  if (lastFresh.length !== slabFrom) lastFresh = SLAB.subarray(0, slabFrom)
  return lastFresh
}

/** The same as memory of its own; made from a view, as V8 then neither clears it first nor, if it is small, allocates outside its heap. */
function copyOut(limit: number): Uint8Array {
  return new Uint8Array(cut(limit))
}

/** Destroys a stream, with a reset where one is asked for and can be had. */
function destroyStream(stream: Duplex & SocketLike, reset: boolean, remote: Address | undefined): void {
  // Only TCP can be reset; and where an end is under way libuv refuses to reset (EINVAL), and Node then never closes.
  const ending = stream.writableEnded && !stream.writableFinished && stream.writableLength === 0
  if (reset && !ending && remote?.family !== 'unix' && typeof stream.resetAndDestroy === 'function') stream.resetAndDestroy()
  else stream.destroy()
}

/** A chunk as memory of its own: runtimes that cut chunks from a shared slab are copied from. */
function own(chunk: Buffer): Uint8Array {
  if (chunk.byteLength === chunk.buffer.byteLength) return new Uint8Array(chunk.buffer, 0, chunk.byteLength)
  // Not `slice`, which makes another Buffer of a Buffer.
  return new Uint8Array(chunk)
}

const HANDLE: unique symbol = Symbol('fairlead.handle')

interface Bound {
  [HANDLE]: DuplexHandle
}

function gone(): Error {
  return refusal('ECONNABORTED', 'the stream was closed')
}

function isReset(error: unknown): boolean {
  return (error as { code?: unknown } | undefined)?.code === 'ECONNRESET'
}

interface Internals {
  _readableState?: { autoDestroy: boolean; ended?: boolean; highWaterMark: number; errored?: Error | null }
  _writableState?: { autoDestroy: boolean }
}

/** These can only be chosen by whoever makes a stream, and the sockets of a `net.Server` are made by Node. */
function internals(stream: Duplex): Internals {
  return stream as unknown as Internals
}
