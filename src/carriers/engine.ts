/**
 * The part of Node's stream handles that TLS moves its bytes with. They are not public: everything used is looked for once
 * per process, and where one thing is missing (other runtimes, a future Node) `portable.ts` does with public means.
 */

import { EventEmitter } from 'node:events'
import type { TLSSocket } from 'node:tls'
import { nodeTls } from '../builtin.js'
import { Broken, CODES, errorCode } from '../errors.js'

/** A write in progress, as Node's handles know it; called back with a status unless it has no `oncomplete`. */
export interface WriteRequest {
  oncomplete?: (status: number) => void
}
export type ShutdownRequest = object

/** OpenSSL's side, Node's `TLSWrap`. */
export interface Engine {
  readonly _parent: Pipe
  /** Decrypted bytes given out so far: what `onread` is not told, since its count goes by an internal array. */
  readonly bytesRead: number
  onread: () => void
  useUserBuffer(slab: Uint8Array): void
  writeBuffer(request: WriteRequest, data: Uint8Array): number
  readStart(): number
  readStop(): number
}

/** What OpenSSL takes for the transport below it, Node's `JSStream`. */
export interface Pipe {
  readBuffer(data: Uint8Array): void
  finishWrite(request: WriteRequest, status: number): void
  finishShutdown(request: ShutdownRequest, status: number): void
  onwrite: (request: WriteRequest, pieces: Uint8Array[]) => number
  onshutdown: (request: ShutdownRequest) => number
}

const ENGINE_METHODS = ['onread', 'useUserBuffer', 'writeBuffer', 'readStart', 'readStop', 'start'] as const
const PIPE_METHODS = ['readBuffer', 'finishWrite', 'finishShutdown', 'onwrite', 'onshutdown'] as const

/** Most bytes given to OpenSSL at a time. */
export const PIECE: number = 64 * 1024

/** Where OpenSSL puts what it decrypts, one record of at most 16 KiB at a time; copied out before anything else happens. */
export const PLAIN_SLAB: Uint8Array = new Uint8Array(64 * 1024)

/** A copy of what is in the slab, as memory of its own; large ones are not filled with zeroes first. */
export function copyPlain(start: number, end: number): Uint8Array {
  const size = end - start
  if (size < 1_024) return PLAIN_SLAB.slice(start, end)
  const copy = new Uint8Array(Buffer.allocUnsafeSlow(size).buffer)
  copy.set(size === PLAIN_SLAB.length ? PLAIN_SLAB : PLAIN_SLAB.subarray(start, end))
  return copy
}

export function engineOf(socket: TLSSocket): Engine {
  return (socket as unknown as { _handle: Engine })._handle
}

/** What a `TLSSocket` is built on: only just enough of a stream for Node to accept it. */
export class Stub extends EventEmitter {
  readonly readable = true
  readonly writable = true
  readonly allowHalfOpen = true
  readonly readableObjectMode = false
  readonly #written: (piece: Uint8Array, done: () => void) => void

  constructor(written: (piece: Uint8Array, done: () => void) => void) {
    super()
    this.#written = written
  }

  pause(): void {}
  resume(): void {}
  cork(): void {}
  uncork(): void {}
  read(): null {
    return null
  }
  write(piece: Uint8Array, done: () => void): boolean {
    this.#written(piece, done)
    return true
  }
  end(done?: () => void): void {
    done?.()
  }
  destroy(): this {
    return this
  }
}

let RequestClass: (new () => WriteRequest) | false | undefined

/** Whether this runtime has all that is used here. The class of the requests cannot be named: it is met at a first write that goes nowhere. */
export function hasEngine(): boolean {
  if (RequestClass !== undefined) return RequestClass !== false
  RequestClass = false
  if ('bun' in process.versions || 'Deno' in globalThis) return false
  const socket = new (nodeTls().TLSSocket)(new Stub(() => {}) as never, { isServer: false })
  socket.on('error', () => {})
  const engine = engineOf(socket) as (Engine & { start(): void }) | undefined
  if (typeof engine?.bytesRead === 'number' && hasAll(engine, ENGINE_METHODS) && hasAll(engine._parent, PIPE_METHODS)) {
    engine._parent.onwrite = (request) => {
      RequestClass = request.constructor as new () => WriteRequest
      return 0
    }
    engine.start()
  }
  socket.destroy()
  return (RequestClass as typeof RequestClass | false) !== false
}

function hasAll(handle: object | undefined, methods: readonly string[]): boolean {
  return handle !== undefined && methods.every((name) => typeof (handle as Record<string, unknown>)[name] === 'function')
}

/** Only after {@link hasEngine} has said yes. */
export function newRequest(): WriteRequest {
  return new (RequestClass as new () => WriteRequest)()
}

export function truncated(): Broken {
  return new Broken('TLS_TRUNCATED', CODES.Broken.TLS_TRUNCATED, { phase: 'read' })
}

/** Whether writing failed because the peer's end of the connection is closed. */
export function isGone(error: unknown): boolean {
  // The last one is Bun's.
  return ['EPIPE', 'ECONNRESET', 'ERR_SOCKET_CLOSED'].includes(errorCode(error))
}

/** At most `PIECE` bytes of the pieces in one, so that small ones share a record. */
export function gather(data: readonly Uint8Array[]): Uint8Array {
  let total = 0
  for (const piece of data) total += piece.length
  const all = Buffer.allocUnsafe(Math.min(total, PIECE))
  let at = 0
  for (const piece of data) {
    const room = all.length - at
    if (room === 0) break
    all.set(piece.length <= room ? piece : piece.subarray(0, room), at)
    at += Math.min(piece.length, room)
  }
  return all
}
