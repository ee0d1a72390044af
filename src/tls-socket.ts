/**
 * A socket of Node's as TLS likes it: bytes are read into one slab shared by all and lent to OpenSSL from there, and what
 * OpenSSL wrote goes to the system as it is. Saves an allocation and two copies for each record over `drivers/duplex.ts`,
 * at the price of two promises of a handle, which only `tls-stream.ts` can do without:
 *
 * - what `read` gives is valid until the next event only;
 * - what `write` takes must not be changed until it has left.
 */

import { readSync } from 'node:fs'
import { Socket } from 'node:net'
import { getSystemErrorName } from 'node:util'
import type { Address } from './address.js'
import type { StreamEvents, StreamHandle } from './driver.js'
import { destroyStream } from './drivers/duplex.js'
import { newRequest, type WriteRequest } from './tls-engine.js'

/** The part of Node's `TCP` and `Pipe` handles used here. */
interface SystemHandle {
  readonly bytesRead: number
  readonly writeQueueSize: number
  readonly fd?: number
  reading: boolean
  onread: () => void
  useUserBuffer(slab: Uint8Array): void
  readStart(): number
  readStop(): number
  writeBuffer(request: WriteRequest, data: Uint8Array): number
  writev(request: WriteRequest, data: readonly Uint8Array[], allBuffers: true): number
}

const METHODS = ['onread', 'useUserBuffer', 'readStart', 'readStop', 'writeBuffer', 'writev'] as const
const SLAB: Uint8Array = new Uint8Array(64 * 1024)

function handleOf(socket: Socket): SystemHandle | undefined {
  const { _handle: handle } = socket as unknown as { _handle?: SystemHandle | null }
  if (handle === undefined || handle === null) return undefined
  const counts = typeof handle.bytesRead === 'number' && typeof handle.writeQueueSize === 'number'
  return counts && METHODS.every((name) => typeof handle[name] === 'function') ? handle : undefined
}

/** The socket of `below`, if nothing was taken from it and nothing is under way. */
export function releasedSocket(below: StreamHandle): Socket | undefined {
  const socket = below.release?.()
  if (!(socket instanceof Socket) || socket.readableLength > 0 || socket.writableLength > 0 || socket.destroyed) return undefined
  return handleOf(socket) === undefined ? undefined : socket
}

export class SocketHandle implements StreamHandle {
  readonly local: Address | undefined
  readonly remote: Address | undefined
  readonly #socket: Socket
  readonly #handle: SystemHandle
  #events: StreamEvents | undefined
  #given: number
  #held: Uint8Array | undefined
  #lent = false
  #ended = false
  #readError: unknown
  #writeError: unknown
  /** What the system has not taken yet, kept for as long as it may look at it. */
  #inFlight: readonly Uint8Array[] | undefined
  #inFlightBytes = 0
  #wrote = false
  #destroyed = false
  #shutdownDone: ((error?: unknown) => void) | undefined

  /** @param socket from {@link releasedSocket} */
  constructor(socket: Socket, below: StreamHandle) {
    this.#socket = socket
    this.#handle = handleOf(socket) as SystemHandle
    this.#given = this.#handle.bytesRead
    this.local = below.local
    this.remote = below.remote
  }

  get unsent(): number {
    return this.#inFlightBytes
  }

  attach(events: StreamEvents): void {
    this.#events = events
    const socket = this.#socket
    socket.on('end', () => this.#onEnd())
    socket.on('error', (error) => this.#onError(error))
    socket.on('close', () => this.#onClose())
    const handle = this.#handle
    const onread = handle.onread
    handle.useUserBuffer(SLAB)
    handle.onread = () => {
      // No bytes: an end or an error. Node's own handler knows which, and makes an event of it.
      if (!this.#onBytes()) onread.call(handle)
    }
  }

  #onBytes(): boolean {
    const given = this.#handle.bytesRead
    const count = given - this.#given
    this.#given = given
    if (count === 0) return false
    if (this.#destroyed) return true
    this.#held = count === SLAB.length ? SLAB : SLAB.subarray(0, count)
    this.#lent = true
    this.#events?.readable()
    this.#lent = false
    // Nobody took it: it gets memory of its own, and no more comes until somebody asks.
    if (this.#held !== undefined) {
      this.#held = this.#held.slice()
      if (!this.#destroyed) this.#pause()
    }
    return true
  }

  #pause(): void {
    if (!this.#handle.reading) return
    this.#handle.reading = false
    this.#handle.readStop()
  }

  read(limit: number): Uint8Array | null | undefined {
    const held = this.#held
    if (held === undefined) return this.#nothing()
    if (held.length <= limit) {
      this.#held = undefined
      return held
    }
    this.#held = held.subarray(limit)
    return held.subarray(0, limit)
  }

  readInto(into: Uint8Array): number | null | undefined {
    const chunk = this.read(into.length)
    if (chunk === undefined || chunk === null) return chunk
    into.set(chunk)
    return chunk.length
  }

  #nothing(): null | undefined {
    if (this.#readError !== undefined) throw this.#readError
    if (this.#ended) return null
    if (!this.#lent && !this.#handle.reading && !this.#destroyed && !this.#socket.destroyed) {
      this.#handle.reading = true
      this.#handle.readStart()
    }
    return undefined
  }

  write(data: Uint8Array): number {
    return this.#send([data], data.length, (request) => this.#handle.writeBuffer(request, data))
  }

  writev(data: readonly Uint8Array[]): number {
    let total = 0
    for (const piece of data) total += piece.length
    return this.#send(data, total, (request) => this.#handle.writev(request, data, true))
  }

  #send(data: readonly Uint8Array[], total: number, hand: (request: WriteRequest) => number): number {
    if (this.#writeError !== undefined) throw this.#writeError
    if (this.#inFlight !== undefined || this.#destroyed || this.#socket.destroyed) return 0
    const request = newRequest()
    request.oncomplete = this.#onWritten
    this.#wrote = true
    const status = hand(request)
    if (status !== 0) {
      this.#writeError = systemError(status, 'write')
      throw this.#writeError
    }
    // Where the system took all at once, nothing is called back.
    if (this.#handle.writeQueueSize > 0) {
      this.#inFlight = data
      this.#inFlightBytes = total
    }
    return total
  }

  readonly #onWritten = (status: number): void => {
    this.#inFlight = undefined
    this.#inFlightBytes = 0
    if (status < 0) this.#writeError ??= systemError(status, 'write')
    this.#events?.writable()
  }

  shutdown(done: (error?: unknown) => void): void {
    if (this.#writeError !== undefined || this.#destroyed || this.#socket.destroyed) return done(this.#writeError)
    this.#shutdownDone = done
    this.#socket.end(() => this.#shutDown(this.#socket.errored ?? this.#writeError))
  }

  #shutDown(error: unknown): void {
    const done = this.#shutdownDone
    this.#shutdownDone = undefined
    done?.(error ?? undefined)
  }

  #onEnd(): void {
    if (this.#destroyed) return
    const { data, error } = lastWord(this.#socket)
    if (data !== undefined) this.#held = data
    if (error === undefined) this.#ended = true
    else this.#readError = error
    this.#events?.readable()
  }

  #onError(error: unknown): void {
    if (!this.#ended) this.#readError ??= error
    this.#writeError ??= error
    this.#wake()
  }

  #onClose(): void {
    this.#inFlight = undefined
    this.#inFlightBytes = 0
    if (this.#destroyed) return
    const error = this.#socket.errored ?? this.#writeError ?? Object.assign(new Error('the socket was closed'), { code: 'ECONNABORTED' })
    if (!this.#ended) this.#readError ??= error
    this.#writeError ??= error
    this.#wake()
  }

  #wake(): void {
    this.#shutDown(this.#writeError)
    this.#events?.readable()
    this.#events?.writable()
  }

  destroy(reset: boolean): void {
    if (this.#destroyed) return
    this.#destroyed = true
    this.#held = undefined
    destroyStream(this.#socket, reset, this.remote)
  }

  mayLose(): boolean {
    if (this.#ended || this.#readError !== undefined) return false
    return this.#held !== undefined || this.#inFlight !== undefined || this.#wrote
  }

  ref(): void {
    this.#socket.ref()
  }

  unref(): void {
    this.#socket.unref()
  }
}

function systemError(status: number, call: string): Error {
  const code = getSystemErrorName(status)
  return Object.assign(new Error(`${call} ${code}`), { code, errno: status, syscall: call })
}

const scratch = new Uint8Array(64 * 1024)

/**
 * What the system says at an `end`. libuv (before 2026) takes a hang-up behind a short read for an end without asking the
 * system: a reset then looks like a clean end, with bytes still to come. Reading once more asks.
 */
export function lastWord(socket: Socket): { data?: Uint8Array; error?: unknown } {
  const fd = handleOf(socket)?.fd
  if (fd === undefined || fd < 0 || process.platform === 'win32') return {}
  const parts: Uint8Array[] = []
  const data = () => (parts.length === 0 ? {} : { data: new Uint8Array(Buffer.concat(parts)) })
  try {
    for (;;) {
      const count = readSync(fd, scratch, 0, scratch.length, null)
      if (count === 0) return data()
      parts.push(scratch.slice(0, count))
    }
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EAGAIN' ? data() : { ...data(), error }
  }
}
