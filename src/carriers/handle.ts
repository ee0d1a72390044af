/**
 * TLS on Node's own stream handles: the fast path, and the reason it can tell a truncated stream.
 *
 * Node's `TLSSocket` over anything but a bare `net.Socket` puts a chain of four JavaScript streams between OpenSSL and the
 * bytes below. This handle keeps `TLSSocket` for the handshake and all that is known about it, but moves the bytes itself:
 * what comes from below goes straight into OpenSSL, what OpenSSL decrypts is copied out of one slab shared by all
 * connections, and what it encrypts goes straight to the handle below.
 *
 * The end of the bytes below is never told to OpenSSL. An end it reports is therefore a close_notify and nothing else;
 * an end below without one is a truncation.
 */

import type { EventEmitter } from 'node:events'
import type { TLSSocket } from 'node:tls'
import type { Address } from '../address.js'
import { ReceiveBuffer } from '../buffer.js'
import type { OptionHandle, StreamEvents, StreamHandle } from '../driver.js'
import type { Engine, Pipe, ShutdownRequest, WriteRequest } from './engine.js'
import { copyPlain, engineOf, gather, isGone, newRequest, PIECE, PLAIN_SLAB, Stub, truncated } from './engine.js'
import { engineFailure } from '../verdict.js'

const ECANCELED = -125
const EPIPE = -32

/** What is read from below, until OpenSSL has a copy. */
let spareSlab: Uint8Array | undefined

/** A write that Node itself started before this handle took over; it finishes that itself. */
const FOREIGN: WriteRequest = {}

export class TlsStream implements StreamHandle {
  readonly local: Address | undefined
  readonly remote: Address | undefined
  readonly #below: StreamHandle
  readonly #allowTruncation: boolean
  #socket!: TLSSocket
  #engine!: Engine
  #pipe!: Pipe
  #events: StreamEvents | undefined
  /** Called at whatever moves the handshake on; undefined once it is over. */
  #handshake: (() => void) | undefined
  #open = false
  #destroyed = false
  #given = 0
  /** Decrypted and not yet read. */
  readonly #plain: ReceiveBuffer = new ReceiveBuffer()
  #into: Uint8Array | undefined
  #filled = 0
  #belowEnded = false
  #ended = false
  #readError: unknown
  #writeError: unknown
  #failure: unknown
  /** Encrypted and not yet taken below. */
  #out: Uint8Array[] = []
  #outBytes = 0
  #request: WriteRequest | undefined
  #busy = false
  #settleSoon = false
  /** A write was told to wait, for bytes that nobody else will hear of: those of the handshake, or an answer of OpenSSL's. */
  #blocked = false
  #shutdown: ShutdownRequest | undefined
  #shutdownDone: ((error?: unknown) => void) | undefined

  constructor(below: StreamHandle, allowTruncation: boolean) {
    this.#below = below
    this.#allowTruncation = allowTruncation
    this.local = below.local
    this.remote = below.remote
  }

  /**
   * Lets `make` build the `TLSSocket` on this transport and moves bytes until `established` is called.
   *
   * @param progress called after bytes were moved and at each change, to look at `failed` and at the socket
   */
  begin(make: (transport: EventEmitter) => TLSSocket, first: Uint8Array | undefined, progress: () => void): void {
    this.#handshake = progress
    const socket = make(new Stub((piece, done) => this.#onForeignWrite(piece, done)))
    this.#socket = socket
    this.#engine = engineOf(socket)
    this.#pipe = this.#engine._parent
    this.#pipe.onwrite = (request, pieces) => this.#onWrite(request, pieces)
    this.#pipe.onshutdown = (request) => this.#onShutdown(request)
    socket.on('error', (error) => this.#onError(error))
    // On a server, errors after the handshake come as this event only; Node's own `tls.Server` listens to it too.
    socket.on('_tlsError' as 'error', (error) => this.#onError(error))
    socket.on('close', () => this.#onClose())
    this.#below.attach({ readable: () => this.#onReadable(), writable: () => this.#onWritable() })
    this.#flush()
    if (first !== undefined && first.length > 0) this.#feed(first)
    queueMicrotask(() => this.#onReadable())
  }

  /** Takes over from the `TLSSocket`; to be called from within its handshake event, before any byte is given out. */
  established(): void {
    this.#open = true
    this.#engine.useUserBuffer(PLAIN_SLAB)
    this.#given = this.#engine.bytesRead
    this.#engine.onread = () => this.#onPlain()
  }

  /** The handshake is over and accepted. */
  finished(): void {
    this.#handshake = undefined
  }

  /** Why the bytes below cannot carry the handshake on, if so; `null` for an end. */
  get failed(): { error: unknown } | undefined {
    if (this.#failure !== undefined) return { error: this.#failure }
    if (this.#readError !== undefined) return { error: this.#readError }
    return this.#belowEnded ? { error: this.#writeError ?? null } : undefined
  }

  get options(): OptionHandle | undefined {
    return this.#below.options
  }

  get unsent(): number {
    return this.#outBytes + this.#below.unsent
  }

  attach(events: StreamEvents): void {
    this.#events = events
  }

  #onReadable(): void {
    if (this.#destroyed) return
    if (this.#handshake !== undefined) {
      while (this.#handshake !== undefined && !this.#open && this.#pull());
      this.#handshake?.()
    } else this.#events?.readable()
  }

  #onWritable(): void {
    if (this.#destroyed) return
    this.#flush()
    this.#blocked = false
    this.#settle()
    this.#events?.writable()
  }

  /** Moves what is below into OpenSSL; false when there is nothing or nothing more. */
  #pull(): boolean {
    if (this.#belowEnded || this.#readError !== undefined || this.#ended || this.#socket.destroyed) return false
    // What is below may be TLS too, and pull in its turn.
    const slab = spareSlab ?? new Uint8Array(PIECE)
    spareSlab = undefined
    try {
      const count = this.#below.readInto(slab)
      if (count === null) this.#belowEnded = true
      else if (count !== undefined) this.#feed(count === PIECE ? slab : slab.subarray(0, count))
      return typeof count === 'number'
    } catch (error) {
      this.#readError = error
      return false
    } finally {
      spareSlab = slab
    }
  }

  #feed(bytes: Uint8Array): void {
    if (this.#socket.destroyed) return
    this.#busy = true
    try {
      this.#pipe.readBuffer(bytes)
    } finally {
      this.#busy = false
    }
    this.#settle()
  }

  /** OpenSSL put bytes into the slab, or, if it did not, got a close_notify. */
  #onPlain(): void {
    const given = this.#engine.bytesRead
    const count = given - this.#given
    this.#given = given
    if (count === 0) {
      this.#ended = true
      return
    }
    const into = this.#into
    if (into !== undefined && this.#plain.length === 0 && this.#filled < into.length) {
      const room = Math.min(count, into.length - this.#filled)
      into.set(PLAIN_SLAB.subarray(0, room), this.#filled)
      this.#filled += room
      if (room < count) this.#plain.push(copyPlain(room, count))
      return
    }
    this.#plain.push(copyPlain(0, count))
  }

  read(limit: number): Uint8Array | null | undefined {
    while (this.#plain.length === 0) if (!this.#pull() && this.#plain.length === 0) return this.#nothing()
    return this.#plain.shift(limit)
  }

  readInto(into: Uint8Array): number | null | undefined {
    while (this.#plain.length === 0) {
      this.#into = into
      this.#filled = 0
      const more = this.#pull()
      this.#into = undefined
      if (this.#filled > 0) return this.#filled
      if (!more && this.#plain.length === 0) return this.#nothing()
    }
    return this.#plain.copyInto(into)
  }

  #nothing(): null | undefined {
    if (this.#ended) return null
    if (this.#failure !== undefined) throw this.#failure
    // A TLSSocket tells its error one turn after it has closed itself.
    if (this.#socket.destroyed) return undefined
    if (this.#readError !== undefined) throw this.#readError
    if (!this.#belowEnded) return undefined
    if (this.#allowTruncation) {
      this.#ended = true
      return null
    }
    this.#readError = truncated()
    throw this.#readError
  }

  write(data: Uint8Array): number {
    if (this.#writeError !== undefined) throw this.#writeError
    if (this.#failure !== undefined) throw this.#failure
    const size = Math.min(data.length, PIECE)
    if (size === 0 || this.#full) return 0
    const request = newRequest()
    this.#busy = true
    let status: number
    try {
      status = this.#engine.writeBuffer(request, size === data.length ? data : data.subarray(0, size))
    } finally {
      this.#busy = false
    }
    if (status !== 0) {
      this.#writeError ??= engineFailure(new Error(`OpenSSL did not take the data (${status})`))
      throw this.#writeError
    }
    this.#settle()
    return size
  }

  writev(data: readonly Uint8Array[]): number {
    // Gathered, so that small pieces share a record.
    return this.write(data.length === 1 ? (data[0] as Uint8Array) : gather(data))
  }

  get #full(): boolean {
    this.#blocked = this.#request !== undefined || this.#outBytes > 0 || this.#destroyed
    return this.#blocked
  }

  /** Node's own first write, made before `onwrite` was replaced. */
  #onForeignWrite(piece: Uint8Array, done: () => void): void {
    const firstPiece = this.#request !== FOREIGN
    this.#request = FOREIGN
    this.#push(piece)
    queueMicrotask(() => {
      if (firstPiece) this.#awaitForeignWrite()
      done()
    })
  }

  #awaitForeignWrite(): void {
    const pipe = this.#pipe
    const finish = pipe.finishWrite
    pipe.finishWrite = (request, status) => {
      pipe.finishWrite = finish
      this.#request = undefined
      this.#busy = true
      finish.call(pipe, request, status)
      this.#busy = false
      this.#settle()
    }
  }

  /** OpenSSL has encrypted bytes; it waits with more until they are reported as written. */
  #onWrite(request: WriteRequest, pieces: Uint8Array[]): number {
    this.#request = request
    for (const piece of pieces) this.#push(piece)
    this.#flush()
    if (!this.#busy && !this.#settleSoon) {
      this.#settleSoon = true
      queueMicrotask(() => {
        this.#settleSoon = false
        this.#settle()
      })
    }
    return 0
  }

  #push(piece: Uint8Array): void {
    if (this.#writeError !== undefined || piece.length === 0) return
    this.#out.push(piece)
    this.#outBytes += piece.length
  }

  #flush(): void {
    while (this.#out.length > 0) {
      let taken: number
      try {
        taken = this.#out.length === 1 ? this.#below.write(this.#out[0] as Uint8Array) : this.#below.writev(this.#out)
      } catch (error) {
        this.#writeError ??= error
        this.#out = []
        this.#outBytes = 0
        return
      }
      if (taken === 0) return
      this.#outBytes -= taken
      for (let first = this.#out[0]; first !== undefined && taken > 0; first = this.#out[0]) {
        if (taken < first.length) this.#out[0] = first.subarray(taken)
        else this.#out.shift()
        taken -= Math.min(taken, first.length)
      }
    }
  }

  /** Tells OpenSSL that all it wrote is gone; it may then write more. Never from inside one of its own calls. */
  #settle(): void {
    if (this.#busy) return
    this.#busy = true
    while (this.#request !== undefined && this.#request !== FOREIGN && this.#outBytes === 0) {
      const request = this.#request
      this.#request = undefined
      this.#pipe.finishWrite(request, this.#writeError === undefined ? 0 : EPIPE)
    }
    this.#busy = false
    if (this.#request !== undefined) return
    if (this.#blocked && this.#outBytes === 0) this.#unblock()
    if (this.#shutdown !== undefined) this.#endBelow(this.#shutdown)
  }

  #unblock(): void {
    this.#blocked = false
    queueMicrotask(() => {
      if (!this.#destroyed) this.#events?.writable()
    })
  }

  /** Sends close_notify behind everything taken, then ends below. */
  shutdown(done: (error?: unknown) => void): void {
    if (this.#writeError !== undefined || this.#failure !== undefined || this.#socket.destroyed)
      return done(this.#writeError ?? this.#failure)
    // Behind the peer's end, or where that may come without a word, a close_notify that finds nobody has lost nothing.
    const complete = this.unsent === 0
    this.#shutdownDone = (error) => done(complete && (this.#ended || this.#allowTruncation) && isGone(error) ? undefined : error)
    this.#socket.end()
  }

  #onShutdown(request: ShutdownRequest): number {
    this.#shutdown = request
    if (!this.#busy) queueMicrotask(() => this.#settle())
    return 0
  }

  #endBelow(request: ShutdownRequest): void {
    this.#shutdown = undefined
    const finish = (error?: unknown) => {
      const done = this.#shutdownDone
      this.#shutdownDone = undefined
      if (!this.#socket.destroyed) this.#pipe.finishShutdown(request, 0)
      done?.(error)
    }
    if (this.#writeError !== undefined) queueMicrotask(() => finish(this.#writeError))
    else this.#below.shutdown(finish)
  }

  #onError(error: unknown): void {
    this.#failure ??= this.#open ? engineFailure(error) : error
    if (this.#handshake !== undefined) this.#handshake()
    else this.#wake()
  }

  #onClose(): void {
    if (this.#destroyed) return
    this.#failure ??= engineFailure(new Error('the TLS layer was closed'))
    if (this.#handshake !== undefined) this.#handshake()
    else this.#wake()
  }

  #wake(): void {
    const done = this.#shutdownDone
    this.#shutdownDone = undefined
    done?.(this.#failure)
    this.#events?.readable()
    this.#events?.writable()
  }

  destroy(reset: boolean): void {
    if (this.#destroyed) return
    this.#destroyed = true
    this.#plain.drop(this.#plain.length)
    this.#out = []
    this.#outBytes = 0
    const request = this.#request
    this.#request = undefined
    // There is none if it could not be made.
    ;(this.#socket as TLSSocket | undefined)?.destroy()
    // The end of a session below is a record of its own, which unread would make the close a reset.
    if (!reset && this.#ended && this.#below instanceof TlsStream) this.#below.#pull()
    this.#below.destroy(reset)
    // A request that is never finished would keep its handle alive.
    if (request !== undefined && request !== FOREIGN) setImmediate(() => this.#pipe.finishWrite(request, ECANCELED))
  }

  mayLose(): boolean {
    return this.#plain.length > 0 || this.#outBytes > 0 || this.#below.mayLose()
  }

  ref(): void {
    this.#below.ref()
  }

  unref(): void {
    this.#below.unref()
  }
}
