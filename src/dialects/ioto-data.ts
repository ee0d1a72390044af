/** Reading and writing, with absolute deadlines, and without waiting. */

import { fstatSync } from 'node:fs'
import { Broken, Busy, Closed, type Connection, DeadlineError, select, SocketError, SystemFailure } from '../index.js'
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
  R_IO,
  R_READABLE,
  R_SOCKET_EOF,
  R_WRITABLE,
} from './ioto-codes.js'
import { isDeadline, timeLeft } from './ioto-fiber.js'
import { failed, outside, type RSocket } from './ioto-socket.js'

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
  if (sp == null || into === undefined || into.length === 0 || !isDeadline(deadline)) return Promise.resolve(R_ERR_BAD_ARGS)
  const refusal = readRefusal(sp)
  if (refusal !== undefined) return Promise.resolve(refusal)
  const connection = sp.connection as Connection
  // Not an async function: with the fibers' context, each promise has its price on older Nodes.
  return reading(connection, into, timeLeft(deadline)).then(
    (count) => (count === undefined ? R_ERR_TIMEOUT : counted(sp, connection, count)),
    (error: unknown) => unread(sp, connection, error),
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
  if (now !== undefined) return now
  if (timeout > 0) return connection.readInto(into, { timeout })
  // What the system has by now is there, too; and a program that polls must not keep the loop from turning.
  await select([connection], { timeout: 0 })
  return taken(connection, into)
}

function unread(sp: RSocket, connection: Connection, error: unknown): number {
  if (error instanceof DeadlineError) return R_ERR_TIMEOUT
  return error instanceof Busy ? R_ERR_BUSY : ended(sp, connection, error)
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

function counted(sp: RSocket, connection: Connection, count: number | null): number {
  if (count !== null) return count
  atEnd(sp, connection)
  return R_ERR_CANT_READ
}

/** It may have been closed and connected anew meanwhile. */
function atEnd(sp: RSocket, connection: Connection): void {
  if (sp.connection === connection) sp.flags |= R_SOCKET_EOF
}

/** A failure of reading is an end, of which a message tells. */
function ended(sp: RSocket, connection: Connection, error: unknown): typeof R_ERR_CANT_READ {
  if (!(error instanceof SocketError)) throw error
  atEnd(sp, connection)
  return told(sp, connection, error, R_ERR_CANT_READ)
}

/** Keeps the message, unless it is that this side has closed it. */
function told<C extends number>(sp: RSocket, connection: Connection, error: SocketError, code: C): C {
  return error instanceof Closed || sp.connection !== connection ? code : failed(sp, error.message, code)
}

/**
 * Ioto's `rReadSocketSync`: takes what is there, and does not wait.
 *
 * @returns how many bytes; 0 when there is nothing now; -29 at the end and for a failure; -6 bad arguments; -9 never connected; -18
 *   while a fiber waits to read it
 */
export function rReadSocketSync(sp: RSocket | null, buf: Uint8Array | null, size: number): number {
  const into = roomOf(buf, size)
  if (sp == null || into === undefined || into.length === 0) return R_ERR_BAD_ARGS
  if ((sp.flags & R_SOCKET_EOF) !== 0) return R_ERR_CANT_READ
  const { connection } = sp
  if (connection === null) return R_ERR_BAD_HANDLE
  try {
    const count = taken(connection, into)
    return count === undefined ? 0 : counted(sp, connection, count)
  } catch (error) {
    return error instanceof Busy ? R_ERR_BUSY : ended(sp, connection, error)
  }
}

/**
 * Ioto's `rWriteSocket`: writes everything, waiting while the peer does not read.
 *
 * @param buf bytes, or text, which is sent as UTF-8
 * @param size how many of its bytes; for text its length in bytes
 * @param deadline by `rGetTicks` or `rGetTime`; 0: none. What is welcome now goes out also when it has passed
 * @returns `size`; -38 at the deadline, when `sp.written` is how much went out; -30 after the end or the closing; the negative errno if
 *   the peer has gone (-32, -104); -6 bad arguments; -9 never connected; -14 not on a fiber
 */
export function rWriteSocket(sp: RSocket | null, buf: Uint8Array | string | null, size: number, deadline: number = 0): Promise<number> {
  const data = roomOf(typeof buf === 'string' ? Buffer.from(buf) : buf, size)
  if (sp == null || data === undefined || !isDeadline(deadline)) return Promise.resolve(R_ERR_BAD_ARGS)
  const refusal = outside(sp, 'rWriteSocket') ? R_ERR_BAD_STATE : writeRefusal(sp)
  if (refusal !== undefined) return Promise.resolve(refusal)
  const connection = sp.connection as Connection
  const timeout = timeLeft(deadline)
  sp.written = 0
  if (timeout === 0) return writingNow(sp, connection, data)
  return connection.write(data, timeout === undefined ? undefined : { timeout }).then(
    () => (sp.written = data.length),
    (error: unknown) => unwritten(sp, connection, error),
  )
}

/** The deadline has passed: what is welcome now. A program that tries again and again must not keep the loop from turning. */
async function writingNow(sp: RSocket, connection: Connection, data: Uint8Array): Promise<number> {
  const count = tried(sp, connection, data)
  if (count < 0 || count === data.length) return count
  await select([{ socket: connection, writable: true }], { timeout: 0 })
  return R_ERR_TIMEOUT
}

function tried(sp: RSocket, connection: Connection, data: Uint8Array): number {
  sp.written = 0
  try {
    sp.written = connection.tryWrite(data)
    return sp.written
  } catch (error) {
    return unwritten(sp, connection, error)
  }
}

function writeRefusal(sp: RSocket): number | undefined {
  if ((sp.flags & R_SOCKET_EOF) !== 0) return R_ERR_CANT_WRITE
  return sp.connection === null ? R_ERR_BAD_HANDLE : undefined
}

function unwritten(sp: RSocket, connection: Connection, error: unknown): number {
  if (!(error instanceof SocketError)) throw error
  if (error.bytesWritten !== undefined) sp.written = error.bytesWritten
  if (error instanceof DeadlineError) return R_ERR_TIMEOUT
  return told(sp, connection, error, error instanceof Broken ? negativeErrno(error, R_ERR_CANT_WRITE) : R_ERR_CANT_WRITE)
}

/**
 * Ioto's `rWriteSocketSync`: writes what is welcome now, and does not wait.
 *
 * @returns how many bytes, fewer than `size` or 0 while the peer does not read; else as `rWriteSocket`; -14 for size 0 over TLS
 */
export function rWriteSocketSync(sp: RSocket | null, buf: Uint8Array | string | null, size: number): number {
  const data = roomOf(typeof buf === 'string' ? Buffer.from(buf) : buf, size)
  if (sp == null || data === undefined) return R_ERR_BAD_ARGS
  const refusal = writeRefusal(sp)
  if (refusal !== undefined) return refusal
  if (data.length === 0) return sp.tls === null ? 0 : R_ERR_BAD_STATE
  return tried(sp, sp.connection as Connection, data)
}

/**
 * Ioto's `rSendFile`: sends a part of an open file over a plain socket, in its turn among the writes. Where the driver can, the
 * system does it by itself (sendfile(2)).
 *
 * @param fd the number of an open file, whose position is neither used nor moved
 * @param offset first byte
 * @param len how many; fewer are sent if the file ends before
 * @returns how many bytes were sent, as is `sp.written`, also when it failed in between; -1 over TLS and for what is no regular file;
 *   the negative errno if the file cannot be read; else as `rWriteSocket`
 */
export async function rSendFile(sp: RSocket | null, fd: number, offset: number, len: number): Promise<number> {
  const isNumber = (number: number) => Number.isSafeInteger(number) && number >= 0
  if (sp == null || ![fd, offset, len, offset + len].every(isNumber)) return R_ERR_BAD_ARGS
  if (outside(sp, 'rSendFile')) return R_ERR_BAD_STATE
  if (sp.tls !== null) return R_ERR_BASE
  const refusal = writeRefusal(sp)
  if (refusal !== undefined) return refusal
  const connection = sp.connection as Connection
  sp.written = 0
  try {
    // Not awaited, as whatever is written from here on comes behind the file.
    const file = fstatSync(fd)
    if (!file.isFile()) return failed(sp, `Cannot send descriptor ${fd}, which is no regular file`, R_ERR_BASE)
    const end = Math.min(offset + len, file.size)
    if (end > offset) sp.written = await connection.sendFile({ fd }, { start: offset, end })
    return sp.written
  } catch (error) {
    return unsent(sp, connection, error)
  }
}

function unsent(sp: RSocket, connection: Connection, error: unknown): number {
  if (!(error instanceof SystemFailure)) {
    return error instanceof SocketError ? unwritten(sp, connection, error) : ((error as { errno?: number }).errno ?? R_ERR_CANT_READ)
  }
  sp.written = error.bytesWritten ?? 0
  // It was cut off since it was looked at: that was all of it.
  return error.code === 'FILE_TOO_SHORT' ? sp.written : told(sp, connection, error, negativeErrno(error, R_ERR_CANT_READ))
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
  return sp == null ? null : new RWait(sp)
}

/**
 * Ioto's `rWaitForIO`: waits until the socket can be read or written; consumes nothing. The end counts as readable, and what has
 * failed or was closed as whatever was asked for: reading or writing will tell.
 *
 * @param mask `R_READABLE`, `R_WRITABLE` or both
 * @param deadline by `rGetTicks` or `rGetTime`; 0: none
 * @returns which of them; 0 at the deadline; -6 bad arguments; -9 not open; -14 not on a fiber
 */
export async function rWaitForIO(wait: RWait | null, mask: number, deadline: number = 0): Promise<number> {
  if (wait == null || (mask & R_IO) === 0 || !isDeadline(deadline)) return R_ERR_BAD_ARGS
  const { sp } = wait
  if (outside(sp, 'rWaitForIO')) return R_ERR_BAD_STATE
  if (sp.beneath === null) return R_ERR_BAD_HANDLE
  const interest = { socket: sp.beneath, readable: (mask & R_READABLE) !== 0, writable: (mask & R_WRITABLE) !== 0 }
  const timeout = timeLeft(deadline)
  const [ready] = await select([interest], timeout === undefined ? undefined : { timeout })
  if (ready === undefined) return 0
  if (ready.broken !== undefined) return mask & R_IO
  return ((ready.readable || ready.acceptable ? R_READABLE : 0) | (ready.writable ? R_WRITABLE : 0)) & mask
}
