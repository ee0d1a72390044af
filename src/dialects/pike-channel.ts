/** What is behind every file of the dialect: a connection that copies share, a mode, callbacks and an error number. */

import { Busy, Closed, type Connection, type Delivery, FrameError, LIMITS, select, type SocketError } from '../index.js'
import { EAGAIN, EINVAL, ENOTCONN, EPIPE, errnoOf, PikeError } from './pike-errno.js'
import { fromBytes, type Writable, written } from './pike-strings.js'
import { call, report } from './pike-system.js'

/**
 * Called with the id of the file, or with the file where none was set, and with what arrived, at most 65,536 characters. The next call waits until a promise that it
 * returned is done.
 */
export type ReadCallback = (id: never, data: string) => unknown
/** Called with the id of the file, or with the file where none was set. */
export type EventCallback = (id: never) => unknown
/** A callback, or none: 0. Other values of the original stand for "nonblocking, but without a callback". */
export type Given<F> = F | 0 | 1 | boolean | undefined

/** A line of a buffered file, in bytes. The original has no limit; without one a peer could fill the memory. */
const LONGEST_LINE = 16 * 1024 * 1024
/** Bytes that a write leaves to this process rather than wait for a system that takes no more at the moment. */
const SMALL = 16 * 1024
const LF = Uint8Array.of(0x0a)

/** A connection, and what all its copies know of it. */
class Wire {
  readonly connection: Connection
  copies = 1
  delivery: Delivery | undefined
  /** Whose callbacks hear of what arrives. */
  reader: Channel | undefined
  /** Somebody reads; whoever comes next waits here. */
  #reading = false
  readonly #queue: (() => void)[] = []
  /** The end of the input was told to a callback. */
  over = false
  /** An error was told once; it is an end from then on, and nothing can be written, as with a socket of the system. */
  dead = false

  /** At least as many bytes as are accepted and not sent; looking at how many that really are takes time. */
  #unsent = 0

  constructor(connection: Connection) {
    this.connection = connection
  }

  /** Whether so many bytes, or more, wait in this process; `more` are about to be, or have just been written. */
  mayHold(more: number, limit: number): boolean {
    if (this.#unsent + more >= limit) this.#unsent = this.connection.stats.unsent
    const holds = this.#unsent >= limit
    this.#unsent += more
    return holds
  }

  get reading(): boolean {
    return this.#reading
  }

  /** Waits for those who read already. */
  turn(): Promise<void> {
    return new Promise<void>((resolve) => this.#queue.push(resolve))
  }

  /** Takes the input for one read, whose turn it is. */
  enter(): void {
    this.#reading = true
    this.pause()
  }

  leave(): void {
    const next = this.#queue.shift()
    if (next !== undefined) return next()
    this.#reading = false
    this.reader?.resume()
  }

  pause(): void {
    if (this.delivery !== undefined && this.delivery.mode !== 'passive') this.delivery.set('passive')
  }
}

/** One file: what it reads and writes by, its mode, its callbacks. */
export class Channel {
  errno = 0
  id: unknown = 0
  /** A socket that is not connected, and the address that it will be connected from. */
  socket: { readonly from: string | undefined } | undefined
  /** What callbacks get where no id was set. */
  readonly #self: unknown
  nonblocking = false
  /** Close with a reset. */
  abrupt = false
  #wire: Wire | undefined
  #readable = false
  #writable = false
  /** A connection is under way. */
  #dialling: Promise<void> | undefined
  readonly #callbacks: { read: Given<ReadCallback>; write: Given<EventCallback>; close: Given<EventCallback> } = {
    read: 0,
    write: 0,
    close: 0,
  }
  readOob: Given<ReadCallback> = 0
  writeOob: Given<EventCallback> = 0
  /** The write callback was called and nothing was written since. */
  #told = false
  #watching = false

  constructor(self: unknown) {
    this.#self = self
  }

  get connection(): Connection | undefined {
    return this.#wire?.connection
  }

  get open(): boolean {
    return this.#wire !== undefined || this.#dialling !== undefined
  }

  /** From now on it is about this connection. */
  attach(connection: Connection): void {
    this.#join(new Wire(connection))
  }

  /** Becomes a copy of another file. */
  copy(other: Channel): void {
    const wire = other.#wire
    if (wire === undefined) throw new PikeError('File not open.')
    if (wire === this.#wire) return
    this.close('rw')
    wire.copies++
    this.#join(wire)
    this.#readable = other.#readable
    this.#writable = other.#writable
    this.nonblocking = other.nonblocking
  }

  #join(wire: Wire): void {
    this.#wire = wire
    this.#readable = true
    this.#writable = true
    this.resume()
    this.#watchWrite()
  }

  /** Gives the connection to another object; this file is closed then. */
  surrender(): Connection {
    const wire = this.#wire
    if (wire === undefined) throw new PikeError('File not open.')
    wire.pause()
    this.#forget()
    return wire.connection
  }

  #forget(): Wire | undefined {
    const wire = this.#wire
    if (wire?.reader === this) wire.reader = undefined
    this.#wire = undefined
    this.#readable = false
    this.#writable = false
    return wire
  }

  /** The file is being connected; callbacks tell how that went. */
  dialling(attempt: Promise<Connection>): void {
    const begun = attempt.then(
      (connection) => {
        if (this.#dialling !== begun) return void connection.close()
        this.#dialling = undefined
        this.attach(connection)
      },
      (error: unknown) => {
        if (this.#dialling !== begun) return undefined
        this.#dialling = undefined
        return this.#refused(error)
      },
    )
    this.#dialling = begun
  }

  async #refused(error: unknown): Promise<void> {
    this.errno = error instanceof PikeError ? EINVAL : errnoOf(error)
    const { read, close, write } = this.#callbacks
    if (typeof read === 'function' && typeof close === 'function') await call(close, this.id || this.#self)
    if (typeof write === 'function' && !this.#told) await call(write, this.id || this.#self)
  }

  // Reading

  #mustRead(): Wire | undefined {
    if (this.#wire !== undefined) return this.#wire
    if (this.#dialling !== undefined || this.socket !== undefined) return undefined
    throw new PikeError('File not open.')
  }

  /** At most `length` bytes, or without one up to the end; all of them, or those that one read of the system gives. */
  async read(length: number | undefined, all: boolean): Promise<string | 0> {
    const most = length === undefined ? Number.POSITIVE_INFINITY : Math.trunc(length)
    if (!(most >= 0))
      throw new PikeError(most < 0 ? 'Cannot read negative number of characters.' : 'Bad argument 1 to read(). Expected int.')
    const wire = this.#mustRead()
    this.errno = 0
    if (most === 0 || (wire !== undefined && !this.#readable)) return ''
    if (wire === undefined) return this.#fails(this.nonblocking && this.#dialling !== undefined ? EAGAIN : ENOTCONN)
    if (this.nonblocking) return this.#poll(wire, most)
    if (wire.reading) await wire.turn()
    wire.enter()
    try {
      if (all) return await this.#gather(wire, most)
      const chunk = await wire.connection.read({ limit: most })
      return chunk === null ? '' : fromBytes(chunk)
    } catch (error) {
      return this.#broke(wire, error)
    } finally {
      wire.leave()
    }
  }

  async #gather(wire: Wire, most: number): Promise<string | 0> {
    let text = ''
    try {
      while (text.length < most) {
        const chunk = await wire.connection.read({ limit: most - text.length })
        if (chunk === null) break
        text += fromBytes(chunk)
      }
    } catch (error) {
      if (text === '') throw error
      this.#broke(wire, error)
    }
    return text
  }

  /** What is here now, of a file that does not block. */
  async #poll(wire: Wire, most: number): Promise<string | 0> {
    if (wire.reading) return this.#fails(EAGAIN)
    wire.enter()
    let text = ''
    let looked = false
    try {
      while (text.length < most) {
        const chunk = wire.connection.tryRead(most - text.length)
        if (chunk === undefined && text === '' && !looked) {
          // What the system has and the runtime has not looked at yet.
          looked = true
          await select([wire.connection], { timeout: 0 })
          continue
        }
        if (chunk === undefined && text === '') return this.#fails(EAGAIN)
        if (!chunk) break
        text += fromBytes(chunk)
      }
      return text
    } catch (error) {
      if (text === '') return this.#broke(wire, error)
      this.#broke(wire, error)
      return text
    } finally {
      wire.leave()
    }
  }

  /** Whether something can be read within some milliseconds: 1 also at the end, unless that is not wanted; −1 for an error. */
  async peek(timeout: number, notEnd: boolean): Promise<0 | 1 | -1> {
    const wire = this.#wire
    if (wire === undefined) throw new PikeError('File not open.')
    this.errno = 0
    const [ready] = await select([wire.connection], { timeout })
    if (ready === undefined) return 0
    if (wire.connection.stats.unread > 0) return 1
    if (ready.broken !== undefined && this.#broke(wire, ready.broken) === 0) return -1
    if (!notEnd || !(ready.ended || ready.broken !== undefined)) return 1
    this.errno = EPIPE
    return -1
  }

  #fails(errno: number): 0 {
    this.errno = errno
    return 0
  }

  /** Tells an error once, and then the end. A file that was closed meanwhile by this program has none. */
  #broke(wire: Wire, error: unknown): 0 | '' {
    this.errno = errnoOf(error)
    if (error instanceof Closed || error instanceof Busy) return 0
    if (wire.dead) this.errno = 0
    const result = wire.dead ? '' : 0
    wire.dead = true
    return result
  }

  /** The next line without its LF; 0 at the end. Without `whole` also what stands before the end without a LF. */
  async line(whole: boolean): Promise<string | 0> {
    const wire = this.#mustRead()
    if (wire === undefined) return this.#fails(ENOTCONN)
    this.errno = 0
    if (!this.#readable) return 0
    if (wire.reading) await wire.turn()
    wire.enter()
    try {
      const line = await wire.connection.readUntil(LF, { limit: LONGEST_LINE })
      return line === null ? 0 : fromBytes(line)
    } catch (error) {
      if (error instanceof FrameError && error.code === 'TOO_LONG') throw new PikeError(`A line of more than ${LONGEST_LINE} bytes.`, error)
      const isTail = error instanceof FrameError && error.code === 'INCOMPLETE'
      if (!isTail) this.#broke(wire, error)
      return whole ? 0 : this.#tail(wire)
    } finally {
      wire.leave()
    }
  }

  /** What is left in the buffer of a stream that is over. */
  #tail(wire: Wire): string | 0 {
    const { errno } = this
    let text = ''
    try {
      for (let chunk = wire.connection.tryRead(); chunk; chunk = wire.connection.tryRead()) text += fromBytes(chunk)
    } catch (error) {
      this.#broke(wire, error)
    }
    if (errno !== 0) this.errno = errno
    return text === '' ? 0 : text
  }

  unread(bytes: Uint8Array): void {
    const wire = this.#wire
    if (wire === undefined) throw new PikeError('File not open.')
    wire.pause()
    wire.connection.unread(bytes)
    wire.reader?.resume()
  }

  // Writing

  /** How many bytes were taken; −1 on an error. */
  async write(data: Writable, args: readonly unknown[]): Promise<number> {
    const wire = this.#wire
    if (wire === undefined && this.#dialling === undefined && this.socket === undefined) throw new PikeError('File not open for write.')
    const bytes = written(data, args, 'Stdio.File->write()')
    this.errno = 0
    if (bytes.length === 0) return 0
    if (wire === undefined && this.#dialling !== undefined) {
      this.errno = EAGAIN
      return this.nonblocking ? 0 : -1
    }
    if (wire === undefined || !this.#writable || wire.dead) {
      this.errno = EPIPE
      return -1
    }
    const wasTold = this.#told
    this.#told = false
    try {
      if (this.nonblocking) {
        if (!wire.mayHold(bytes.length, LIMITS.unsent)) return await wire.connection.writeSome(bytes)
        // Taking nothing is how a file that does not block tells that the peer does not read.
        this.errno = EAGAIN
        return 0
      }
      await wire.connection.write(bytes)
      if (wire.mayHold(bytes.length, SMALL)) await wire.connection.flush()
      return bytes.length
    } catch (error) {
      this.errno = errnoOf(error)
      if (!(error instanceof Closed)) wire.dead = true
      const { bytesWritten = 0 } = error as SocketError
      return bytesWritten > 0 ? bytesWritten : -1
    } finally {
      if (wasTold) this.#watchWrite()
    }
  }

  // Closing

  /** Closes directions; whether both are closed now. */
  close(how: string): boolean {
    if (this.#dialling !== undefined && /[rw]/.test(how)) this.#dialling = undefined
    const wire = this.#wire
    if (wire === undefined) return true
    if (how.includes('r')) this.#readable = false
    if (how.includes('w') && this.#writable) {
      this.#writable = false
      if (this.#readable) void connectionEnd(wire.connection)
    }
    if (this.#readable || this.#writable) {
      if (!this.#readable) wire.pause()
      return false
    }
    this.#forget()
    if (--wire.copies > 0) wire.reader?.resume()
    else if (this.abrupt) wire.connection.abort()
    else void wire.connection.close()
    return true
  }

  // Callbacks

  get read_callback(): Given<ReadCallback> {
    return this.#callbacks.read
  }

  get write_callback(): Given<EventCallback> {
    return this.#callbacks.write
  }

  get close_callback(): Given<EventCallback> {
    return this.#callbacks.close
  }

  set read_callback(callback: Given<ReadCallback>) {
    this.#callbacks.read = callback ?? 0
    this.resume()
  }

  set write_callback(callback: Given<EventCallback>) {
    this.#callbacks.write = callback ?? 0
    this.#told = false
    this.#watchWrite()
  }

  set close_callback(callback: Given<EventCallback>) {
    this.#callbacks.close = callback ?? 0
  }

  /** Lets what arrives come to the read callback, if there is one and nobody reads. */
  resume(): void {
    const wire = this.#wire
    if (wire === undefined) return
    if (typeof this.#callbacks.read !== 'function' || !this.#readable) {
      if (wire.reader === this) {
        wire.pause()
        wire.reader = undefined
      }
      return
    }
    wire.reader = this
    if (wire.reading) return
    if (wire.delivery !== undefined) return wire.delivery.mode === 'passive' ? wire.delivery.set('active') : undefined
    // What arrives in the moment in which this is called comes to the callback later, never from inside this call.
    const delivery = wire.connection.deliver('active', (chunk) => wire.reader?.arrived(chunk))
    wire.delivery = delivery
    void delivery.done
      .then(async (over) => {
        // A program that asks again and again is told again and again, and others get their turn.
        if (wire.over) await new Promise((resolve) => setImmediate(resolve))
        wire.over = true
        if (wire.delivery === delivery) wire.delivery = undefined
        await wire.reader?.ended(wire, over.reason === undefined ? 0 : errnoOf(over.reason))
      })
      .catch(report)
  }

  /** Something came for the read callback. */
  arrived(chunk: Uint8Array): Promise<void> | undefined {
    const { read } = this.#callbacks
    this.errno = 0
    return typeof read === 'function' ? call(read, this.id || this.#self, fromBytes(chunk)) : undefined
  }

  /** The input is over. */
  ended(wire: Wire, errno: number): Promise<void> | undefined {
    if (this.#wire !== wire || !this.#readable) return undefined
    const { read, close } = this.#callbacks
    this.errno = wire.dead ? 0 : errno
    if (errno !== 0) wire.dead = true
    // Nothing more can arrive until somebody asks again.
    wire.reader = undefined
    if (typeof read !== 'function' || typeof close !== 'function') return undefined
    return call(close, this.id || this.#self)
  }

  /** Calls the write callback once the file can be written, and then not again until it is done and something was written. */
  #watchWrite(): void {
    const wire = this.#wire
    if (wire === undefined || wire.dead || !this.#writable || this.#watching || this.#told || typeof this.#callbacks.write !== 'function')
      return
    this.#watching = true
    const tell = async (error?: unknown) => {
      const { write } = this.#callbacks
      if (this.#wire === wire && !(error instanceof Closed) && !this.#told && typeof write === 'function') {
        this.#told = true
        await call(write, this.id || this.#self)
      }
      this.#watching = false
      if (error === undefined) this.#watchWrite()
    }
    void wire.connection.waitWritable().then(() => tell(), tell)
  }
}

/** The end of a direction, whose failure the next operation tells. */
async function connectionEnd(connection: Connection): Promise<void> {
  try {
    await connection.end()
  } catch (error) {
    errnoOf(error)
  }
}
