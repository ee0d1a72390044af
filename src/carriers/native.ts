/**
 * TLS straight on a socket of Node's, bytes never passing through JavaScript in encrypted form: the fastest there is, for
 * connections that allow truncation, since this way OpenSSL does not tell a FIN from a close_notify. A reset is still told.
 */

import type { EventEmitter } from 'node:events'
import { readSync } from 'node:fs'
import { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { getSystemErrorName } from 'node:util'
import type { Address } from '../address.js'
import { ReceiveBuffer } from '../buffer.js'
import type { OptionHandle, StreamEvents, StreamHandle } from '../driver.js'
import { systemCode } from '../errors.js'
import { copyPlain, type Engine, engineOf, gather, isGone, newRequest, PIECE, PLAIN_SLAB } from './engine.js'
import { engineFailure } from '../verdict.js'

/** Decrypted bytes held for a slow reader before the socket is told to stop: more come only of what is in flight. */
const HELD = 64 * 1024

export class NativeTls implements StreamHandle {
  readonly local: Address | undefined
  readonly remote: Address | undefined
  readonly options: OptionHandle | undefined
  readonly #raw: Socket
  #socket!: TLSSocket
  #engine!: Engine
  #events: StreamEvents | undefined
  #handshake: (() => void) | undefined
  #open = false
  #given = 0
  readonly #plain: ReceiveBuffer = new ReceiveBuffer()
  #stopped = false
  #ended = false
  #failure: unknown
  #closed = false
  #writing = 0
  #wrote = false
  #destroyed = false
  #shutdownDone: ((error?: unknown) => void) | undefined

  /** @param raw from {@link releasedSocket} */
  constructor(raw: Socket, below: StreamHandle) {
    this.#raw = raw
    this.local = below.local
    this.remote = below.remote
    this.options = below.options
  }

  begin(make: (transport: EventEmitter) => TLSSocket, _first: Uint8Array | undefined, progress: () => void): void {
    this.#handshake = progress
    const socket = make(this.#raw)
    this.#socket = socket
    socket.on('error', (error) => this.#fail(error))
    socket.on('_tlsError' as 'error', (error) => this.#fail(error))
    socket.on('end', () => this.#onEnd())
    socket.on('close', () => this.#onClose())
  }

  established(): void {
    this.#open = true
    this.#engine = engineOf(this.#socket)
    this.#given = this.#engine.bytesRead
    this.#engine.useUserBuffer(PLAIN_SLAB)
    const onread = this.#engine.onread
    this.#engine.onread = () => {
      // No bytes: the end or an error of the system. Node's own handler knows which, and makes an event of it.
      if (!this.#onPlain()) onread.call(this.#engine)
    }
    // The verdict is reached within the event that calls this; who waits is told behind it.
    queueMicrotask(() => this.#handshake?.())
  }

  finished(): void {
    this.#handshake = undefined
  }

  get failed(): { error: unknown } | undefined {
    if (this.#failure !== undefined) return { error: closedEarly(this.#failure) ? null : this.#failure }
    return this.#ended || this.#closed ? { error: null } : undefined
  }

  get unsent(): number {
    return this.#writing
  }

  attach(events: StreamEvents): void {
    this.#events = events
  }

  #onPlain(): boolean {
    const given = this.#engine.bytesRead
    const count = given - this.#given
    this.#given = given
    if (count === 0) return false
    this.#plain.push(copyPlain(0, count))
    this.#events?.readable()
    if (this.#plain.length >= HELD && !this.#stopped) {
      this.#stopped = true
      this.#engine.readStop()
    }
    return true
  }

  read(limit: number): Uint8Array | null | undefined {
    return this.#plain.length > 0 ? this.#plain.shift(limit) : this.#nothing()
  }

  readInto(into: Uint8Array): number | null | undefined {
    return this.#plain.length > 0 ? this.#plain.copyInto(into) : this.#nothing()
  }

  #nothing(): null | undefined {
    if (this.#ended) return null
    if (this.#failure !== undefined) throw this.#failure
    if (this.#stopped && !this.#closed && !this.#destroyed) {
      this.#stopped = false
      this.#engine.readStart()
    }
    return undefined
  }

  write(data: Uint8Array): number {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#writing > 0 || this.#destroyed || this.#closed) return 0
    const piece = data.length <= PIECE ? data : data.subarray(0, PIECE)
    if (piece.length === 0) return 0
    const request = newRequest()
    request.oncomplete = this.#onWritten
    this.#writing = piece.length
    this.#wrote = true
    const status = this.#engine.writeBuffer(request, piece)
    if (status !== 0) {
      this.#writing = 0
      this.#failure ??= engineFailure(writeFailure(status))
      throw this.#failure
    }
    return piece.length
  }

  writev(data: readonly Uint8Array[]): number {
    return this.write(data.length === 1 ? (data[0] as Uint8Array) : gather(data))
  }

  readonly #onWritten = (status: number): void => {
    this.#writing = 0
    if (status < 0 && !this.#closed) this.#fail(writeFailure(status))
    else if (this.#shutdownDone !== undefined) this.#socket.end()
    else this.#events?.writable()
  }

  shutdown(done: (error?: unknown) => void): void {
    if (this.#failure !== undefined || this.#closed) return done(this.#failure)
    // Behind the peer's close_notify, a close_notify that finds nobody has lost nothing.
    const complete = this.#writing === 0
    this.#shutdownDone = (error) => done(complete && this.#ended && isGone(error) ? undefined : error)
    this.#socket.once('finish', () => this.#shutDown(undefined))
    // OpenSSL would end the socket in front of what it has not sent yet.
    if (this.#writing === 0) this.#socket.end()
  }

  #shutDown(error: unknown): void {
    const done = this.#shutdownDone
    this.#shutdownDone = undefined
    done?.(error)
  }

  #onEnd(): void {
    const error = this.#open ? endError(this.#raw) : undefined
    if (error !== undefined) return this.#fail(error)
    this.#ended = true
    this.#changed()
  }

  #fail(error: unknown): void {
    this.#failure ??= this.#open ? engineFailure(error) : error
    this.#changed()
  }

  #onClose(): void {
    this.#closed = true
    if (this.#destroyed) return
    if (!this.#ended) this.#failure ??= engineFailure(Object.assign(new Error('the socket was closed'), { code: 'ECONNABORTED' }))
    this.#changed()
  }

  #changed(): void {
    if (this.#failure !== undefined) this.#shutDown(this.#failure)
    if (this.#handshake !== undefined) return this.#handshake()
    this.#events?.readable()
    this.#events?.writable()
  }

  destroy(reset: boolean): void {
    if (this.#destroyed) return
    this.#destroyed = true
    this.#plain.drop(this.#plain.length)
    if (reset) resetOnClose(this.#raw)
    // There is none if it could not be made.
    ;((this.#socket as TLSSocket | undefined) ?? this.#raw).destroy()
  }

  mayLose(): boolean {
    if (this.#writing > 0) return true
    return !this.#ended && this.#failure === undefined && (this.#plain.length > 0 || this.#wrote)
  }

  ref(): void {
    this.#socket.ref()
  }

  unref(): void {
    this.#socket.unref()
  }
}

/** The socket of `below` if Node's TLS can have it: nothing was taken from it, and nothing is under way. */
export function releasedSocket(below: StreamHandle): Socket | undefined {
  const socket = below.release?.()
  if (!(socket instanceof Socket) || socket.readableLength > 0 || socket.writableLength > 0 || socket.destroyed) return undefined
  return socket
}

/** What the system says at an `end`, which may be a reset (see `lastWord` of `drivers/node.ts`). */
function endError(socket: Socket): unknown {
  const { fd = -1 } = (socket as unknown as { _handle?: { fd?: number } | null })._handle ?? {}
  if (fd < 0 || process.platform === 'win32') return undefined
  try {
    while (readSync(fd, PLAIN_SLAB) > 0);
    return undefined
  } catch (error) {
    return systemCode(error) === 'EAGAIN' ? undefined : error
  }
}

function writeFailure(status: number): Error {
  return Object.assign(new Error('the write failed'), { code: getSystemErrorName(status), errno: status, syscall: 'write' })
}

interface Closable {
  close(done?: () => void): void
  reset?(done?: () => void): number
}

/**
 * Makes the closing of a TCP socket a reset. `resetAndDestroy` would take the handle away from under OpenSSL, and a write it
 * has not been told the end of would then end the process.
 */
function resetOnClose(socket: Socket): void {
  const { _handle: handle } = socket as unknown as { _handle?: Closable | null }
  if (typeof handle?.reset !== 'function') return
  const { close } = handle
  handle.close = (done) => {
    if (handle.reset?.(done) !== 0) close.call(handle, done)
  }
}

/** Node's own error for a socket that ends during the handshake. */
function closedEarly(error: unknown): boolean {
  return error instanceof Error && /before secure TLS connection/.test(error.message)
}
