/** The two directions of a connection as Web streams, for APIs that differ in their errors and in what an ending does. */

import {
  type ReadableByteStreamController,
  ReadableStream,
  type ReadableStreamDefaultController,
  WritableStream,
  type WritableStreamDefaultController,
} from 'node:stream/web'
import type { Bytes, Connection } from '../index.js'

/** What an API makes of what happens to the streams of its sockets. */
export interface Manner {
  /** The connection, once there is one. */
  connection(): Connection | Promise<Connection>
  /** An error as the API has it. */
  error(cause: unknown): unknown
  /** The readable side is over: the peer ended, it was cancelled, or it failed with this error. */
  readEnded?(how: 'end' | 'cancel' | 'error', error?: unknown): void
  /** The writable side is over: it was closed or aborted, or it failed with this error. */
  writeEnded?(how: 'end' | 'abort' | 'error', error?: unknown): void
}

export interface Readable {
  readonly stream: ReadableStream<Uint8Array>
  /** Gives up the read under way, which loses nothing, and ends the stream for whoever reads it, or fails it with `error`. */
  finish(error?: unknown): void
}

/** One chunk is fetched for each that is asked for; `byob` makes it a byte stream, which can fill a buffer of its reader's. */
export function readableOf(manner: Manner, byob: boolean): Readable {
  const stopped = new AbortController()
  let controller!: ReadableByteStreamController | ReadableStreamDefaultController<Uint8Array>
  const over = () => stopped.signal.aborted
  const wait = { signal: stopped.signal }

  async function fetch(): Promise<void> {
    const connection = await manner.connection()
    const request = 'byobRequest' in controller ? controller.byobRequest : null
    // The view of a request is what is left of the reader's buffer, and stays valid while this stream is not cancelled.
    const view = request?.view as Uint8Array | null | undefined
    const chunk = view ? await connection.readInto(view, wait) : await connection.read(wait)
    if (over()) {
      // It came in the moment of giving up: whoever has the connection next finds it there.
      if (chunk !== null) connection.unread(typeof chunk === 'number' ? (view as Uint8Array).subarray(0, chunk) : chunk)
    } else if (chunk === null) {
      controller.close()
      if (view) request?.respond(0)
      manner.readEnded?.('end')
    } else if (typeof chunk === 'number') request?.respond(chunk)
    else controller.enqueue(byob ? ownMemory(chunk) : chunk)
  }

  const source = {
    start(given: typeof controller) {
      controller = given
    },
    async pull() {
      try {
        await fetch()
      } catch (cause) {
        if (over()) return
        const error = manner.error(cause)
        controller.error(error)
        manner.readEnded?.('error', error)
      }
    },
    cancel() {
      stopped.abort()
      manner.readEnded?.('cancel')
    },
  }
  const stream = byob
    ? new ReadableStream({ type: 'bytes', ...source }, { highWaterMark: 0 })
    : new ReadableStream<Uint8Array>(source, { highWaterMark: 0 })
  return {
    stream,
    finish(error) {
      if (over()) return
      stopped.abort()
      if (error !== undefined) return controller.error(error)
      try {
        controller.close()
        if ('byobRequest' in controller) controller.byobRequest?.respond(0)
      } catch {
        // It had ended already.
      }
    },
  }
}

/** A byte stream takes the whole memory of a chunk away from whoever else looks at it. */
function ownMemory(chunk: Uint8Array): Uint8Array {
  return chunk.byteLength === chunk.buffer.byteLength ? chunk : chunk.slice()
}

export interface Writable {
  readonly stream: WritableStream<Bytes | string>
  /** Fails the stream for whoever writes to it. */
  fail(error: unknown): void
}

export interface WritableOptions {
  /** Whether text may be written, as UTF-8, besides bytes. */
  text: boolean
  /** Bytes that may wait before `ready` does. Absent: one chunk. */
  highWaterMark?: number | undefined
  /** What becomes of the connection when the stream is closed. Default: its write direction ends. */
  end?(connection: Connection): Promise<unknown>
  /** What becomes of it when the stream is aborted. */
  abort(connection: Connection, reason: unknown): unknown
}

/** Types of Node lack what the standard, and Node, have. */
type Controller = WritableStreamDefaultController & { readonly signal: AbortSignal }

export function writableOf(manner: Manner, o: WritableOptions): Writable {
  let controller!: Controller
  const failed = (cause: unknown): unknown => {
    // Aborted: what the writer gave as reason is what it gets back.
    if (controller.signal.aborted) return controller.signal.reason
    const error = manner.error(cause)
    manner.writeEnded?.('error', error)
    return error
  }
  const strategy = o.highWaterMark === undefined ? {} : { highWaterMark: o.highWaterMark, size: lengthOf }
  const stream = new WritableStream<Bytes | string>(
    {
      start(given) {
        controller = given as Controller
      },
      async write(chunk) {
        if (!isBytes(chunk) && !(o.text && typeof chunk === 'string')) {
          throw failed(
            new TypeError(`a chunk must be an ArrayBuffer or a view of one${o.text ? ', or a string' : ''}, got ${typeof chunk}`),
          )
        }
        try {
          const connection = await manner.connection()
          await connection.write(chunk, { signal: controller.signal })
        } catch (cause) {
          throw failed(cause)
        }
      },
      async close() {
        try {
          const connection = await manner.connection()
          await (o.end?.(connection) ?? connection.end())
        } catch (cause) {
          throw failed(cause)
        }
        manner.writeEnded?.('end')
      },
      async abort(reason) {
        try {
          await o.abort(await manner.connection(), reason)
        } catch {
          // A connection that never came to be, or is over, has nothing left to abort.
        }
        manner.writeEnded?.('abort')
      },
    },
    strategy,
  )
  return { stream, fail: (error) => controller.error(error) }
}

function isBytes(chunk: unknown): chunk is Bytes {
  return ArrayBuffer.isView(chunk) || chunk instanceof ArrayBuffer
}

function lengthOf(chunk: Bytes | string | undefined): number {
  return typeof chunk === 'string' ? Buffer.byteLength(chunk) : (chunk?.byteLength ?? 0)
}

/** A promise that may be left alone: its rejection is what the operations on the socket say as well. */
export function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}

/** Closes behind what was written; of a broken connection nothing can be sent any more, so that its descriptor goes at once. */
export function closeOrAbort(connection: Connection): void {
  if (connection.signal.aborted) connection.abort()
  else void connection.close()
}

/** `host` and `port` as an endpoint; brackets around an IPv6 address are welcome. */
export function place<T extends 'tcp' | 'tls' | 'udp'>(
  transport: T,
  host: string,
  port: number,
): { transport: T; host: string; port: number } {
  return { transport, host: /^\[.*\]$/.test(host) ? host.slice(1, -1) : host, port }
}
