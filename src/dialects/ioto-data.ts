/** Reading and writing, with absolute deadlines, and without waiting. */

import { read as readFile } from 'node:fs'
import { promisify } from 'node:util'
import { Broken, Busy, Closed, type Connection, DeadlineError, select, SocketError } from '../index.js'
import {
  negativeErrno,
  R_ERR_BAD_ARGS,
  R_ERR_BAD_HANDLE,
  R_ERR_BAD_STATE,
  R_ERR_BASE,
  R_ERR_BUSY,
  R_ERR_CANT_READ,
  R_ERR_CANT_WRITE,
  R_ERR_TIMEOUT,
  R_READABLE,
  R_SOCKET_EOF,
  R_WRITABLE,
} from './ioto-codes.js'
import { timeLeft } from './ioto-fiber.js'
import { failed, outside, type RSocket } from './ioto-socket.js'

/** Bytes of a file read at once. */
const PIECE = 64 * 1024

/**
 * Ioto's `rReadSocket`: waits until something is there, and takes it.
 *
 * @param buf where it goes, from its start
 * @param size most bytes to take, at most the size of `buf`
 * @param deadline by `rGetTicks` or `rGetTime`; 0: none. What is there is given also when it has passed
 * @returns how many bytes, at least 1; -29 at the end and for a failure, also when it is closed meanwhile; -38 at the deadline, and
 *   the socket can be used as before; -6 bad arguments; -9 never connected; -18 another fiber reads it; -14 not on a fiber
 */
export function rReadSocket(sp: RSocket | null, buf: Uint8Array | null, size: number, deadline: number = 0): Promise<number> {
  const into = roomOf(buf, size)
  if (sp === null || into === undefined || into.length === 0) return Promise.resolve(R_ERR_BAD_ARGS)
  const refusal = readRefusal(sp)
  if (refusal !== undefined) return Promise.resolve(refusal)
  // Not an async function: with the fibers' context, each promise has its price on older Nodes.
  return reading(sp.connection as Connection, into, timeLeft(deadline)).then(
    (count) => (count === undefined ? R_ERR_TIMEOUT : counted(sp, count)),
    (error: unknown) => unread(sp, error),
  )
}

function readRefusal(sp: RSocket): number | undefined {
  if (outside(sp, 'rReadSocket')) return R_ERR_BAD_STATE
  if ((sp.flags & R_SOCKET_EOF) !== 0) return R_ERR_CANT_READ
  return sp.connection === null ? R_ERR_BAD_HANDLE : undefined
}

/** What is there comes before a deadline that has passed, which is undefined. */
function reading(connection: Connection, into: Uint8Array, timeout: number | undefined): Promise<number | null | undefined> {
  if (timeout === undefined) return connection.readInto(into)
  return readingWithin(connection, into, timeout)
}

async function readingWithin(connection: Connection, into: Uint8Array, timeout: number): Promise<number | null | undefined> {
  const now = taken(connection, into)
  return now !== undefined || timeout === 0 ? now : connection.readInto(into, { timeout })
}

function unread(sp: RSocket, error: unknown): number {
  if (error instanceof DeadlineError) return R_ERR_TIMEOUT
  return error instanceof Busy ? R_ERR_BUSY : ended(sp, error, R_ERR_CANT_READ)
}

/** The part of a buffer that may be used; undefined for arguments that make no sense. */
function roomOf(buf: unknown, size: number): Uint8Array | undefined {
  if (!(buf instanceof Uint8Array) || !Number.isInteger(size) || size < 0 || size > buf.length) return undefined
  return size === buf.length ? buf : buf.subarray(0, size)
}

/** What is there now, in `into`: a count, null at the end, undefined when there is nothing. */
function taken(connection: Connection, into: Uint8Array): number | null | undefined {
  const data = connection.tryRead(into.length)
  if (data) into.set(data)
  return data ? data.length : (data as null | undefined)
}

function counted(sp: RSocket, count: number | null): number {
  if (count !== null) return count
  sp.flags |= R_SOCKET_EOF
  return R_ERR_CANT_READ
}

/** A failure of reading is an end, of which a message tells. */
function ended<C extends number>(sp: RSocket, error: unknown, code: C): C {
  if (!(error instanceof SocketError)) throw error
  sp.flags |= R_SOCKET_EOF
  return error instanceof Closed ? code : failed(sp, error.message, code)
}

/**
 * Ioto's `rReadSocketSync`: takes what is there, and does not wait.
 *
 * @returns how many bytes; 0 when there is nothing now; -29 at the end and for a failure; -6 bad arguments; -9 never connected; -18
 *   while a fiber waits to read it
 */
export function rReadSocketSync(sp: RSocket | null, buf: Uint8Array | null, size: number): number {
  const into = roomOf(buf, size)
  if (sp === null || into === undefined || into.length === 0) return R_ERR_BAD_ARGS
  if ((sp.flags & R_SOCKET_EOF) !== 0) return R_ERR_CANT_READ
  if (sp.connection === null) return R_ERR_BAD_HANDLE
  try {
    const count = taken(sp.connection, into)
    return count === undefined ? 0 : counted(sp, count)
  } catch (error) {
    return error instanceof Busy ? R_ERR_BUSY : ended(sp, error, R_ERR_CANT_READ)
  }
}

/**
 * Ioto's `rWriteSocket`: writes everything, waiting while the peer does not read.
 *
 * @param buf bytes, or text, which is sent as UTF-8
 * @param size how many of its bytes; for text its length in bytes
 * @param deadline by `rGetTicks` or `rGetTime`; 0: none
 * @returns `size`; -38 at the deadline, when `sp.written` is how much went out; -30 after the end or the closing; the negative errno if
 *   the peer has gone (-32, -104); -6 bad arguments; -9 never connected; -14 not on a fiber
 */
export function rWriteSocket(sp: RSocket | null, buf: Uint8Array | string | null, size: number, deadline: number = 0): Promise<number> {
  const data = roomOf(typeof buf === 'string' ? Buffer.from(buf) : buf, size)
  if (sp === null || data === undefined) return Promise.resolve(R_ERR_BAD_ARGS)
  const refusal = outside(sp, 'rWriteSocket') ? R_ERR_BAD_STATE : writeRefusal(sp)
  if (refusal !== undefined) return Promise.resolve(refusal)
  const timeout = timeLeft(deadline)
  sp.written = 0
  return (sp.connection as Connection).write(data, timeout === undefined ? undefined : { timeout }).then(
    () => (sp.written = data.length),
    (error: unknown) => unwritten(sp, error),
  )
}

function writeRefusal(sp: RSocket): number | undefined {
  if ((sp.flags & R_SOCKET_EOF) !== 0) return R_ERR_CANT_WRITE
  return sp.connection === null ? R_ERR_BAD_HANDLE : undefined
}

function unwritten(sp: RSocket, error: unknown): number {
  if (!(error instanceof SocketError)) throw error
  if (error.bytesWritten !== undefined) sp.written = error.bytesWritten
  if (error instanceof DeadlineError) return R_ERR_TIMEOUT
  return failed(sp, error.message, error instanceof Broken ? negativeErrno(error, R_ERR_CANT_WRITE) : R_ERR_CANT_WRITE)
}

/**
 * Ioto's `rWriteSocketSync`: writes what is welcome now, and does not wait.
 *
 * @returns how many bytes, fewer than `size` or 0 while the peer does not read; else as `rWriteSocket`; -14 for size 0 over TLS
 */
export function rWriteSocketSync(sp: RSocket | null, buf: Uint8Array | string | null, size: number): number {
  const data = roomOf(typeof buf === 'string' ? Buffer.from(buf) : buf, size)
  if (sp === null || data === undefined) return R_ERR_BAD_ARGS
  const refusal = writeRefusal(sp)
  if (refusal !== undefined) return refusal
  if (data.length === 0) return sp.tls === null ? 0 : R_ERR_BAD_STATE
  sp.written = 0
  try {
    sp.written = (sp.connection as Connection).tryWrite(data)
    return sp.written
  } catch (error) {
    return unwritten(sp, error)
  }
}

/**
 * Ioto's `rSendFile`: sends a part of an open file over a plain socket.
 *
 * @param fd the number of an open file
 * @param offset first byte
 * @param len how many; fewer are sent if the file ends before
 * @returns how many bytes were sent; -1 over TLS; the negative errno if the file cannot be read; else as `rWriteSocket`
 */
export async function rSendFile(sp: RSocket | null, fd: number, offset: number, len: number): Promise<number> {
  if (sp === null || ![fd, offset, len].every((number) => Number.isSafeInteger(number) && number >= 0)) return R_ERR_BAD_ARGS
  if (outside(sp, 'rSendFile')) return R_ERR_BAD_STATE
  if (sp.tls !== null) return R_ERR_BASE
  const refusal = writeRefusal(sp)
  if (refusal !== undefined) return refusal
  const piece = new Uint8Array(Math.min(len, PIECE))
  let sent = 0
  while (sent < len) {
    let count: number
    try {
      ;({ bytesRead: count } = await promisify(readFile)(fd, piece, 0, Math.min(piece.length, len - sent), offset + sent))
    } catch (error) {
      return (error as { errno?: number }).errno ?? R_ERR_CANT_READ
    }
    if (count === 0) break
    const result = await rWriteSocket(sp, piece, count)
    if (result < 0) return result
    sent += count
  }
  return sent
}

/** What `rWaitForIO` waits on. */
export class RWait {
  /** @internal */
  readonly sp: RSocket

  /** @internal made by `rGetSocketWait` */
  constructor(sp: RSocket) {
    this.sp = sp
  }
}

/** Ioto's `rGetSocketWait`: what `rWaitForIO` takes; null for null. */
export function rGetSocketWait(sp: RSocket | null): RWait | null {
  return sp === null ? null : new RWait(sp)
}

/**
 * Ioto's `rWaitForIO`: waits until the socket can be read or written; consumes nothing. The end and failures count as readable.
 *
 * @param mask `R_READABLE`, `R_WRITABLE` or both
 * @param deadline by `rGetTicks` or `rGetTime`; 0: none
 * @returns which of them; 0 at the deadline; -6 bad arguments; -9 not open; -14 not on a fiber
 */
export async function rWaitForIO(wait: RWait | null, mask: number, deadline: number = 0): Promise<number> {
  if (wait === null || (mask & (R_READABLE | R_WRITABLE)) === 0) return R_ERR_BAD_ARGS
  const { sp } = wait
  if (outside(sp, 'rWaitForIO')) return R_ERR_BAD_STATE
  if (sp.beneath === null) return R_ERR_BAD_HANDLE
  const interest = { socket: sp.beneath, readable: (mask & R_READABLE) !== 0, writable: (mask & R_WRITABLE) !== 0 }
  const timeout = timeLeft(deadline)
  const [ready] = await select([interest], timeout === undefined ? undefined : { timeout })
  if (ready === undefined) return 0
  const isReadable = ready.readable || ready.acceptable || ready.broken !== undefined
  return ((isReadable ? R_READABLE : 0) | (ready.writable ? R_WRITABLE : 0)) & mask
}
