/**
 * The contract: what every connection, listener and server promises. The numbers are cited by tests
 * (`docs/architecture.md` has the same list with its reasons); `fairlead/testing` checks them.
 *
 *  1. `read` yields bytes in order, each exactly once, and `null` only for the transport's own end: FIN on TCP, end of
 *     stream on UNIX, close_notify on TLS. A reset is `Broken`, never an end; over TLS an end without close_notify is
 *     `Broken` with `TLS_TRUNCATED` unless `allowTruncation` was set for this connection.
 *  2. Bytes that arrived before a reset or an error stay readable; the error comes after. A failed write breaks the
 *     write direction; reading goes on until the system's own end or error.
 *  3. A read that times out or is cancelled consumes nothing. A write feeds the driver in pieces of at most 64 KiB; on
 *     timeout or cancellation the pieces not yet handed over are withdrawn and `bytesWritten` is what was.
 *  4. A deadline in the past wins over data that is ready; nothing fails before its deadline; a cleared one does not fire.
 *  5. `write` suspends while the peer does not read. Nothing a peer does makes a process hold more than the stated caps.
 *     Nothing is read ahead without a reader, but for one chunk already in flight.
 *  6. `end` closes one direction. `close` flushes, ends and releases; input that is unread or in flight is drained in the
 *     background within the linger bounds, so that no byte accepted before is lost to a reset. `abort` is immediate.
 *     All are idempotent and wake whatever waits.
 *  7. After your close every operation fails with `Closed`; after the world broke it, with `Broken`: the same class and
 *     code each time, a fresh error with its own `op`, the first one as `cause`.
 *  8. Errors carry `code`, `op`, `endpoint`, `local`, `remote`, `phase`, `attempts` and `cause`. There is no event to
 *     forget and no unhandled rejection to die of: rejections of `write`, `flush` and `end` are pre-handled.
 *  9. Every connection makes exactly one `open` and one `close` event, with a reason and counters.
 */

import type { Deadline } from './deadline.js'
import type { SocketError } from './errors.js'

/** Any container of bytes. What a write was given is yours again once the write has settled, either way. */
export type Bytes = ArrayBufferView | ArrayBuffer

/** How long to wait. The earlier of `timeout` and `deadline` wins; absent and `Infinity` mean for ever. */
export interface Wait {
  /** Milliseconds from now. 0 is a deadline in the past: the operation fails even if it could have succeeded at once. */
  timeout?: number | undefined
  /** Epoch milliseconds, a `Date`, or a `Deadline` that can be moved while operations wait under it. */
  deadline?: number | Date | Deadline | undefined
  /** Cancels this operation, never the socket. */
  signal?: AbortSignal | undefined
}

export interface ReadOptions extends Wait {
  /** Most bytes to return, at least 1. Default: whatever is there, at most 64 KiB. */
  limit?: number | null | undefined
}

export interface LimitOptions extends Wait {
  /** Most bytes to accept before the delimiter, or in all for `readAll`. */
  limit?: number | undefined
}

export interface LineOptions extends LimitOptions {
  /** `'utf8'` (default) and `'latin1'` give strings, `'bytes'` a `Uint8Array`. */
  encoding?: 'utf8' | 'latin1' | 'bytes' | undefined
  /** Whether malformed UTF-8 is a `FrameError` rather than U+FFFD. Default false. */
  fatal?: boolean | undefined
  /** Return what stands before the end without a line feed as the last line, rather than fail. Default false. */
  lastUnterminated?: boolean | undefined
}

export type ConnectionState = 'open' | 'read-ended' | 'write-ended' | 'closed'

/** How a socket ended. `close` and `closed` give it and never reject. */
export interface CloseReport {
  /** Everything written was handed to the system and the stream was ended in order. */
  readonly clean: boolean
  /** Bytes accepted by `write` that were never handed to the system. */
  readonly unsent: number
  /** Why it did not end cleanly, or the reason given to `abort`. */
  readonly reason?: SocketError
}

export interface ConnectionStats {
  readonly bytesRead: number
  readonly bytesWritten: number
  /** Bytes received and not yet read. */
  readonly unread: number
  /** Bytes accepted and not yet handed to the system. */
  readonly unsent: number
  /** Epoch milliseconds. */
  readonly openedAt: number
}

export interface DatagramStats {
  readonly datagramsRead: number
  readonly datagramsWritten: number
  /** Bytes of payload. */
  readonly bytesRead: number
  readonly bytesWritten: number
  /** Datagrams thrown away unread because too many waited, the oldest first. */
  readonly dropped: number
  /** Bytes received and not yet read. */
  readonly unread: number
  /** Bytes of sends that have not settled. */
  readonly unsent: number
  /** Epoch milliseconds. */
  readonly openedAt: number
}

/** Times in milliseconds that hold for every operation of a connection unless the call says otherwise. */
export interface Defaults {
  read?: number | undefined
  write?: number | undefined
  /** The connection ends with `Denied/IDLE` after this time without a byte in either direction. */
  idle?: number | undefined
}

/** Caps and times, all on by default. Bytes and milliseconds. */
export interface Limits {
  /** All attempts, proxies and TLS of one dial together. */
  connect: number
  handshake: number
  /** Line and delimiter search. */
  line: number
  /** Length-prefixed frame, and `readAll`. */
  frame: number
  /** Unsent bytes of one connection at which `write` starts to wait. */
  unsent: number
  /** Received bytes held for one connection without an explicit larger request. */
  receive: number
  /** Unsent and unread bytes of a whole network; beyond it writes wait and accepting pauses. */
  total: number
  lingerTime: number
  lingerBytes: number
  /** How long a server leaves a half-closed connection open. */
  halfClosed: number
  /** Received datagrams held for one socket, in number and in bytes; beyond either the oldest are dropped and counted. */
  datagrams: number
  datagramBytes: number
  connections: number
  /** TLS handshakes in progress on the accepting side. */
  handshakes: number
  /** How long resolved names are kept. */
  nameCache: number
  /** Keep-alive of accepted and dialled TCP. */
  keepAliveIdle: number
  keepAliveInterval: number
  keepAliveCount: number
}

export const LIMITS: Readonly<Limits> = Object.freeze({
  connect: 30_000,
  handshake: 10_000,
  line: 64 * 1024,
  frame: 16 * 1024 * 1024,
  unsent: 64 * 1024,
  receive: 64 * 1024,
  total: 256 * 1024 * 1024,
  lingerTime: 5_000,
  lingerBytes: 1024 * 1024,
  halfClosed: 60_000,
  datagrams: 1_024,
  datagramBytes: 4 * 1024 * 1024,
  connections: 10_000,
  handshakes: 256,
  nameCache: 30_000,
  keepAliveIdle: 15_000,
  keepAliveInterval: 15_000,
  keepAliveCount: 9,
})
