/** What is behind every file of the dialect: a connection that copies share, a mode, callbacks and an error number. */

import { Busy, Closed, type Connection, FrameError, LIMITS, select, type SocketError } from '../index.js'
import {
  carriesDescriptors,
  descriptorOf,
  discard,
  Intake,
  MOST_TOGETHER,
  type Push,
  received,
  receivedNow,
  type Receiver,
} from './pike-descriptors.js'
import { EAGAIN, EBADF, EBUSY, EINVAL, ENOTCONN, EOPNOTSUPP, EPIPE, errnoOf, PikeError } from './pike-errno.js'
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
  delivery: Push | undefined
  /** Whose callbacks hear of what arrives. */
  reader: Channel | undefined
  /** Somebody reads; whoever comes next waits here. */
  #reading = false
  readonly #queue: (() => void)[] = []
  /** The end of the input was told to a callback. */
  over = false
  /** An error was told once; it is an end from then on, and nothing can be written, as with a socket of the system. */
  dead = false
  /** Another process may have it as well, for which it goes on when it is closed here. */
  passed = false

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
  /** A descriptor that is being taken over, or, with an error number, one that is no connection: what uses the file tells that. */
  #descriptor: { readonly fd: number; readonly taking: Promise<void>; readonly received: boolean; errno: number } | undefined
  /** Takes descriptors that come along with bytes. */
  receiver: Receiver | undefined
  /** Copies of files whose descriptors go along with what is written next. */
  readonly #enclosed: Channel[] = []
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
    return this.#wire !== undefined || this.#dialling !== undefined || this.#descriptor !== undefined
  }

  /** The number that the system knows it by; −1 where there is none, or the driver does not tell. */
  get descriptor(): number {
    return this.#descriptor?.fd ?? descriptorOf(this.connection)
  }

  /** Why there is no connection. */
  get disconnected(): number {
    return this.#descriptor?.errno || ENOTCONN
  }

  /** Becomes a file for a descriptor; what was open before is closed. Resolves once it can be told whether that is a connection. */
  take(fd: number, adopted: Promise<Connection>, isReceived: boolean): Promise<void> {
    this.close('rw')
    const taking = adopted.then(
      (connection) => {
        if (this.#descriptor !== descriptor) return void connection.close()
        this.#descriptor = undefined
        this.attach(connection)
      },
      (error: unknown) => {
        if (this.#descriptor !== descriptor) return isReceived ? discard(fd) : undefined
        descriptor.errno = errnoOf(error)
        return this.#refused(error)
      },
    )
    const descriptor = { fd, taking, received: isReceived, errno: 0 }
    this.#descriptor = descriptor
    return taking
  }

  /** Gives the descriptor away, and is closed then; −1 with `errno` where it cannot. */
  release(): number {
    const wire = this.#wire
    if (wire === undefined) {
      const descriptor = this.#descriptor
      if (!this.open && this.socket === undefined) throw new PikeError('File not open.')
      this.errno = descriptor === undefined ? EOPNOTSUPP : descriptor.errno === 0 ? EBUSY : 0
      if (this.errno !== 0) return -1
      this.#descriptor = undefined
      return (descriptor as { readonly fd: number }).fd
    }
    this.errno = wire.copies > 1 ? EBUSY : 0
    if (wire.copies > 1) return -1
    wire.pause()
    try {
      const fd = wire.connection.release()
      this.#forget()
      return fd
    } catch (error) {
      this.errno = errnoOf(error)
      wire.reader?.resume()
      return -1
    }
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
    for (const one of this.#enclosed.splice(0)) one.close('rw')
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
    if (this.open || this.socket !== undefined) return undefined
    throw new PikeError('File not open.')
  }

  /** Waits for a descriptor that is being taken over. */
  get #taken(): Promise<void> | undefined {
    return this.#descriptor?.errno === 0 ? this.#descriptor.taking : undefined
  }

  /** Takes descriptors that come over this connection, if somebody wants them. */
  #receiverOf(wire: Wire): Receiver | undefined {
    return this.receiver !== undefined && carriesDescriptors(wire.connection) ? this.receiver : undefined
  }

  #next(wire: Wire, limit: number): Promise<Uint8Array | null> {
    const receiver = this.#receiverOf(wire)
    return receiver === undefined ? wire.connection.read({ limit }) : received(wire.connection, limit, receiver)
  }

  /** At most `length` bytes, or without one up to the end; all of them, or those that one read of the system gives. */
  async read(length: number | undefined, all: boolean): Promise<string | 0> {
    const most = length === undefined ? Number.POSITIVE_INFINITY : Math.trunc(length)
    if (!(most >= 0))
      throw new PikeError(most < 0 ? 'Cannot read negative number of characters.' : 'Bad argument 1 to read(). Expected int.')
    if (this.#taken !== undefined) await this.#taken
    const wire = this.#mustRead()
    this.errno = 0
    if (most === 0 || (wire !== undefined && !this.#readable)) return ''
    if (wire === undefined) return this.#fails(this.nonblocking && this.#dialling !== undefined ? EAGAIN : this.disconnected)
    if (this.nonblocking) return this.#poll(wire, most)
    if (wire.reading) await wire.turn()
    wire.enter()
    try {
      if (all) return await this.#gather(wire, most)
      const chunk = await this.#next(wire, most)
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
        const chunk = await this.#next(wire, most - text.length)
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
    const receiver = this.#receiverOf(wire)
    let looked = receiver !== undefined
    try {
      while (text.length < most) {
        const limit = most - text.length
        const chunk = receiver === undefined ? wire.connection.tryRead(limit) : await receivedNow(wire.connection, limit, receiver)
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
    if (this.#taken !== undefined) await this.#taken
    const wire = this.#wire
    this.errno = this.#descriptor?.errno ?? 0
    if (this.errno !== 0) return -1
    if (wire === undefined) throw new PikeError('File not open.')
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
    if (this.#taken !== undefined) await this.#taken
    const wire = this.#mustRead()
    if (wire === undefined) return this.#fails(this.disconnected)
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
    if (this.#taken !== undefined) await this.#taken
    const wire = this.#wire
    if (wire === undefined && !this.open && this.socket === undefined) throw new PikeError('File not open for write.')
    const bytes = written(data, args, 'Stdio.File->write()')
    this.errno = 0
    if (bytes.length === 0) return 0
    if (wire === undefined && this.#dialling !== undefined) {
      this.errno = EAGAIN
      return this.nonblocking ? 0 : -1
    }
    if (wire === undefined || !this.#writable || wire.dead) {
      this.errno = this.#descriptor?.errno || EPIPE
      return -1
    }
    const wasTold = this.#told
    this.#told = false
    try {
      if (this.#enclosed.length > 0) return await this.#post(wire, bytes)
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

  /** Lets the descriptor of a file go along with what is written next. */
  enclose(file: Channel): void {
    if (!this.open) throw new PikeError('File not open for write.')
    if (descriptorOf(file.connection) < 0) throw new PikeError('Bad argument 1 to Stdio.File->send_fd(): File descriptor not open.')
    if (this.#wire === undefined || !carriesDescriptors(this.#wire.connection)) throw new PikeError('send_fd() not supported on this file.')
    // The file may be closed before.
    const copy = new Channel(undefined)
    copy.copy(file)
    this.#enclosed.push(copy)
  }

  /** Writes bytes, with descriptors along with the first of them: how many bytes. What failed is not tried again. */
  async #post(wire: Wire, bytes: Uint8Array): Promise<number> {
    let count = 0
    while (this.#enclosed.length > 0 && count < bytes.length) {
      if (this.nonblocking && (await select([{ socket: wire.connection, writable: true }], { timeout: 0 })).length === 0) break
      // One message has none twice.
      const numbers = new Set<number>()
      const parcel: Channel[] = []
      for (const one of this.#enclosed) {
        if (numbers.has(one.descriptor) || parcel.length === MOST_TOGETHER) break
        numbers.add(one.descriptor)
        parcel.push(one)
      }
      this.#enclosed.splice(0, parcel.length)
      // Of a file that does not block the system may take no more than this.
      const end = this.nonblocking || this.#enclosed.length > 0 ? count + 1 : bytes.length
      try {
        if (numbers.has(-1)) {
          this.errno = EBADF
          return -1
        }
        await wire.connection.sendDescriptors([...numbers], bytes.subarray(count, end))
        for (const one of parcel) if (one.#wire !== undefined) one.#wire.passed = true
        count = end
      } finally {
        for (const one of parcel) one.close('rw')
      }
    }
    if (count === 0) this.errno = EAGAIN
    return count === 0 || count === bytes.length ? count : count + (await wire.connection.writeSome(bytes.subarray(count)))
  }

  // Closing

  /** Closes directions; whether both are closed now. */
  close(how: string): boolean {
    if (this.#dialling !== undefined && /[rw]/.test(how)) this.#dialling = undefined
    const descriptor = this.#descriptor
    if (descriptor !== undefined && /[rw]/.test(how)) {
      this.#descriptor = undefined
      if (descriptor.received && descriptor.errno !== 0) discard(descriptor.fd)
    }
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
    else if (wire.passed) leave(wire)
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
    const receiver = this.#receiverOf(wire)
    const arrived = (chunk: Uint8Array) => wire.reader?.arrived(chunk)
    const delivery = receiver === undefined ? wire.connection.deliver('active', arrived) : new Intake(wire.connection, receiver, arrived)
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

/** Closes the descriptor, without ending a stream that others have as well; that has to be where something is still to be sent. */
function leave(wire: Wire): void {
  wire.pause()
  try {
    discard(wire.connection.release())
  } catch (error) {
    errnoOf(error)
    void wire.connection.close()
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
