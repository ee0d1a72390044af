/** The read direction of a connection: one reader at a time, nothing read ahead, nothing lost to a deadline. */

import { oneOf, wholeNumber } from './arguments.js'
import { ReceiveBuffer } from './buffer.js'
import { bufferOf, bytesOf, copyOf, strictText } from './bytes.js'
import { turned } from './deadline.js'
import { END } from './delivery.js'
import type { Received, Splice, StreamHandle } from './driver.js'
import { again, broken, type ErrorFacts, FrameError, invalidType, outOfRange, type SocketError } from './errors.js'
import { FEW_DESCRIPTORS, MOST_DESCRIPTORS, type ReceiveDescriptorsOptions, type ReceivedDescriptors, whyClosed } from './passing.js'
import { capture, captured, ignore } from './settle.js'
import { type Pending, ReaderSlot, type Slotted } from './slot.js'
import { Steps } from './steps.js'
import type { Bytes, LimitOptions, LineOptions, ReadOptions, Wait } from './stream.js'

/** What the two directions need to know and tell of their connection. */
export interface Side extends Slotted {
  readonly writeTime: number | undefined
  /** Bytes moved, in whichever direction. */
  moved(): void
  /** Called once, when the direction has seen its end. */
  ended(): void
  /** Called once, when the direction broke. */
  broke(error: SocketError): void
}

/** The buffer of every connection until something has to be kept: most never need one. */
const EMPTY: ReceiveBuffer = new ReceiveBuffer()

export class Inbound extends ReaderSlot<Side> {
  bytesRead = 0
  readonly handle: StreamHandle
  #buffer: ReceiveBuffer = EMPTY
  /** Where the search for a delimiter goes on when more has come. */
  #searched = 0
  #ended = false
  /** What reading fails with once the buffer is empty. */
  #error: SocketError | undefined

  constructor(handle: StreamHandle, side: Side) {
    super(side)
    this.handle = handle
  }

  get buffered(): number {
    return this.#buffer.length
  }

  get ended(): boolean {
    return this.#ended
  }

  get failure(): SocketError | undefined {
    return this.#error
  }

  /** The driver may have something. */
  readable(): void {
    turned()
    this.retry()
  }

  /** As of any slot; bytes not read are dropped. */
  override refuse(): void {
    this.#drop(this.#buffer.length)
    super.refuse()
  }

  /** The connection broke from outside this direction: what is buffered stays readable, then `error`. */
  fail(error: SocketError): void {
    if (this.#ended || this.#error !== undefined) return
    this.#error = error
    this.retry()
    this.side.changed()
  }

  /** Gives up what is buffered to whoever takes the stream over. */
  surrender(): Uint8Array {
    return this.#consume(this.#buffer.length)
  }

  /** Drops what the driver has now: how many bytes that was, and whether it may have more later. */
  discard(): { count: number; open: boolean } {
    let count = 0
    try {
      const most = this.side.shared.limits.receive
      for (let chunk = this.handle.read(most); chunk !== undefined; chunk = this.handle.read(most)) {
        if (chunk === null) return { count, open: false }
        count += chunk.length
      }
    } catch {
      // This side has closed; how the peer's direction ended concerns nobody any more.
      return { count, open: false }
    }
    return { count, open: true }
  }

  #hold(change: number): void {
    if (change !== 0) this.side.shared.budget.change(change)
  }

  /** Asks the driver: bytes, `undefined` for nothing now, `null` for never again. They do not go through the buffer. */
  #pull(limit: number): Uint8Array | null | undefined {
    if (this.#ended || this.#error !== undefined) return null
    try {
      const chunk = this.handle.read(limit)
      this.#counted(chunk && chunk.length)
      return chunk
    } catch (error) {
      this.#break(error)
      return null
    }
  }

  /** Notes what the driver answered: so many bytes, nothing now, or never again. */
  #counted(count: number | null | undefined): number | null | undefined {
    if (count === undefined) return undefined
    if (count === null) {
      this.#ended = true
      this.side.ended()
    } else {
      this.bytesRead += count
      this.side.moved()
    }
    // There may be more, of which no event will tell: a driver need not announce what was taken before it could.
    this.side.changed()
    return count
  }

  #break(error: unknown): void {
    if (this.#error !== undefined) return
    this.#error = broken(error, { ...this.side.facts('read'), phase: 'read' })
    this.side.broke(this.#error)
    this.side.changed()
  }

  /** Moves what the driver has into the buffer; its answers are those of `#pull`. */
  #more(): Uint8Array | null | undefined {
    const chunk = this.#pull(this.side.shared.limits.receive)
    if (chunk) this.#keep(chunk)
    return chunk
  }

  #keep(chunk: Uint8Array): void {
    this.#own().push(chunk)
    this.#hold(chunk.length)
  }

  /** An attempt that fetches into the buffer until `found` gives a result; `atEnd` says what to make of the end. */
  #gather<T>(found: () => T | undefined, atEnd: () => T): () => T | undefined {
    return () => {
      for (;;) {
        const result = found()
        if (result !== undefined) return result
        const more = this.#more()
        if (more === undefined) return undefined
        if (more === null) return atEnd()
      }
    }
  }

  /** `null` at the end; throws what broke the direction. For when no more bytes will ever come and none are left. */
  #over(op: string): null {
    if (this.#error !== undefined) throw again(this.#error, this.side.facts(op))
    return null
  }

  /** As `#over`, with bytes left that do not make what was asked for; they stay readable. */
  #cutShort(op: string, wanted: string): null {
    this.#over(op)
    if (this.#buffer.length === 0) return null
    throw new FrameError('INCOMPLETE', `the stream ended ${this.#buffer.length} bytes into ${wanted}; they are still readable`, {
      ...this.side.facts(op),
      phase: 'frame',
    })
  }

  /** Runs what `prepare` makes of the arguments; wrong ones, too, are rejections. */
  #run<T>(op: string, wait: Wait | undefined, prepare: () => () => T | undefined): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.start({ op, attempt: prepare(), resolve, reject, disarm: undefined }, wait)
    })
  }

  /** For operations under way: what is here, at most `limit` bytes; throws what broke the direction. */
  take(limit: number | null | undefined, op: string): Uint8Array | null | undefined {
    return this.#take(limitOf(limit, this.side.shared.limits.receive), op)
  }

  #take(limit: number, op: string): Uint8Array | null | undefined {
    if (this.#buffer.length > 0) {
      const bytes = this.#buffer.shift(limit)
      this.#hold(-bytes.length)
      return bytes
    }
    const chunk = this.#pull(limit)
    return chunk === null ? this.#over(op) : chunk
  }

  /** As `take`, for what goes on until the end. */
  next(op: string, o?: ReadOptions): Uint8Array | typeof END | undefined {
    const chunk = this.take(o?.limit, op)
    return chunk === null ? END : chunk
  }

  /** @param keeps the connection */
  chunks(o: ReadOptions | undefined, keeps: unknown): AsyncIterableIterator<Uint8Array> {
    return new Steps(this, this, o, keeps)
  }

  read(o: ReadOptions | undefined, claimed = false): Promise<Uint8Array | null> {
    try {
      return this.#begin(new Reading(this, limitOf(o?.limit, this.side.shared.limits.receive)), o, claimed)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  #begin<T>(reading: Reading, wait: Wait | undefined, claimed: boolean): Promise<T> {
    const promise = new Promise<T>(capture)
    reading.resolve = captured.resolve
    reading.reject = captured.reject
    this.start(reading, wait, claimed)
    return promise
  }

  tryRead(limit: number | undefined): Uint8Array | null | undefined {
    const most = limitOf(limit, this.side.shared.limits.receive)
    this.check('tryRead')
    return this.#take(most, 'tryRead')
  }

  readInto(into: Uint8Array, o: Wait | undefined): Promise<number | null> {
    if (!(into instanceof Uint8Array)) return Promise.reject(invalidType('into', 'a Uint8Array', into))
    return this.#begin(new Reading(this, into), o, false)
  }

  /** For a `readInto` under way. */
  fetchInto(into: Uint8Array): number | null | undefined {
    if (into.length === 0) return 0
    if (this.#buffer.length > 0) {
      const count = this.#buffer.copyInto(into)
      this.#hold(-count)
      return count
    }
    if (this.#ended || this.#error !== undefined) return this.#over('readInto')
    try {
      return this.#counted(this.handle.readInto(into))
    } catch (error) {
      this.#break(error)
      return this.#over('readInto')
    }
  }

  /** As `take`, of bytes that never come into the process: how many. For when nothing is buffered. */
  divert(splice: Splice, limit: number, op: string): number | null | undefined {
    if (this.#ended || this.#error !== undefined) return this.#over(op)
    try {
      return this.#counted(splice.fill(limit))
    } catch (error) {
      this.#break(error)
      return this.#over(op)
    }
  }

  readExactly(count: number, o: Wait | undefined): Promise<Uint8Array | null> {
    return this.#run('readExactly', o, () => {
      wholeNumber('n', count, 0)
      return this.#gather<Uint8Array | null>(
        () => (this.#buffer.length < count ? undefined : this.#consume(count)),
        () => this.#cutShort('readExactly', `the ${count} that were asked for`),
      )
    })
  }

  readUntil(delimiter: Bytes | string, o: LimitOptions | undefined): Promise<Uint8Array | null> {
    return this.#run('readUntil', o, () => {
      const mark = bytesOf(delimiter, 'delimiter')
      if (mark.length === 0) throw outOfRange('delimiter', 'at least one byte', delimiter)
      return this.#until('readUntil', mark, o, false, (bytes) => bytes)
    })
  }

  readLine(o: LineOptions | undefined): Promise<string | Uint8Array | null> {
    return this.#run('readLine', o, () => {
      const decode = lineDecoder(o, () => this.side.facts('readLine'))
      return this.#until('readLine', LF, o, o?.lastUnterminated === true, (line) =>
        decode(line.length > 0 && line[line.length - 1] === CR ? line.subarray(0, line.length - 1) : line),
      )
    })
  }

  #until<T>(
    op: string,
    mark: Uint8Array,
    o: LimitOptions | undefined,
    lastUnterminated: boolean,
    finish: (bytes: Uint8Array) => T,
  ): () => T | null | undefined {
    const limit = limitOf(o?.limit, this.side.shared.limits.line)
    // A carriage return in front of the line feed belongs to the delimiter, so it may stand one beyond the limit.
    const slack = mark === LF ? 1 : 0
    const tooLong = () => this.#tooLong(op, `${op} found no delimiter within ${limit} bytes`)
    /** Gives the first `count` bytes and drops the delimiter behind them; where `finish` throws, nothing is consumed. */
    const upTo = (count: number, delimiter: number) => {
      const result = finish(this.#buffer.peek(count))
      this.#drop(count + delimiter)
      return result
    }
    this.#searched = 0
    return this.#gather<T | null>(
      () => {
        const at = this.#buffer.indexOf(mark, this.#searched)
        if (this.#isBeyond(at === -1 ? this.#buffer.length - mark.length + 1 : at, limit, slack)) throw tooLong()
        if (at !== -1) return upTo(at, mark.length)
        this.#searched = Math.max(0, this.#buffer.length - mark.length + 1)
        return undefined
      },
      () => {
        this.#over(op)
        if (!lastUnterminated || this.#buffer.length === 0) return this.#cutShort(op, 'a message that has no delimiter')
        if (this.#buffer.length > limit) throw tooLong()
        return upTo(this.#buffer.length, 0)
      },
    )
  }

  #isBeyond(at: number, limit: number, slack: number): boolean {
    if (at <= limit) return false
    return slack === 0 || at > limit + slack || this.#buffer.peek(at)[at - 1] !== CR
  }

  #tooLong(op: string, what: string): FrameError {
    return new FrameError('TOO_LONG', `${what}; nothing was consumed`, { ...this.side.facts(op), phase: 'frame' })
  }

  readAll(o: LimitOptions | undefined): Promise<Uint8Array> {
    return this.#run('readAll', o, () => {
      const limit = limitOf(o?.limit, this.side.shared.limits.frame)
      return this.#gather<Uint8Array>(
        () => {
          if (this.#buffer.length > limit) throw this.#tooLong('readAll', `readAll got more than ${limit} bytes`)
          return undefined
        },
        () => {
          this.#over('readAll')
          return this.#consume(this.#buffer.length)
        },
      )
    })
  }

  peek(count: number | undefined, o: Wait | undefined): Promise<Uint8Array | null> {
    return this.#run('peek', o, () => {
      const least = count === undefined || count === null ? 1 : wholeNumber('n', count, 1)
      const cap = this.side.shared.limits.receive
      if (least > cap) throw outOfRange('n', `at most ${cap}, the receive buffer`, count)
      return this.#gather<Uint8Array | null>(
        () => (this.#buffer.length < least ? undefined : this.#buffer.peek(count === undefined ? cap : least)),
        () => (this.#buffer.length > 0 ? this.#buffer.peek(least) : this.#over('peek')),
      )
    })
  }

  /** Exactly the first `count` bytes of the buffer. */
  #consume(count: number): Uint8Array {
    this.#hold(-count)
    return this.#buffer.take(count)
  }

  #drop(count: number): void {
    this.#hold(-count)
    this.#buffer.drop(count)
  }

  unread(bytes: Bytes | string, claimed = false): void {
    this.admit('unread', claimed)
    const copy = copyOf(bytesOf(bytes, 'bytes'))
    this.#searched = 0
    this.#own().unshift(copy)
    this.#hold(copy.length)
    this.retry()
    this.side.changed()
  }

  /**
   * Whether a read would not have to wait: for bytes, of which at most a chunk is fetched and none consumed, the end, or what it
   * fails with. Undefined when it would, and while another reader takes what comes.
   */
  get ready(): 'bytes' | 'end' | SocketError | undefined {
    if (this.busy) return undefined
    if (this.#buffer.length > 0) return 'bytes'
    const more = this.#more()
    if (more === null) return this.#error ?? 'end'
    return more && 'bytes'
  }

  receiveDescriptors(o: ReceiveDescriptorsOptions): Promise<ReceivedDescriptors | null> {
    const { max = FEW_DESCRIPTORS, ...wait } = o
    const op = 'receiveDescriptors'
    return this.#run(op, wait, () => {
      const [limit, most] = [limitOf(o.limit, this.side.shared.limits.receive), wholeNumber('max', max, 0, MOST_DESCRIPTORS)]
      return () => {
        if (this.#buffer.length > 0) return { data: this.take(limit, op) as Uint8Array, descriptors: [] }
        if (this.#ended || this.#error !== undefined) return this.#over(op)
        let received: Received | null | undefined
        try {
          received = this.handle.receiveDescriptors?.(limit, most)
          this.#counted(received && received.data.length)
        } catch (error) {
          this.#break(error)
          return this.#over(op)
        }
        if (!received) return received
        const { data, descriptors, surplus } = received
        if (surplus === 0) return { data, descriptors: [...descriptors] }
        this.#keep(data)
        throw whyClosed(surplus, most, this.side.facts(op))
      }
    })
  }

  waitReadable(o: Wait | undefined): Promise<void> {
    const attempt = (): true | undefined => (this.#buffer.length > 0 || this.#more() !== undefined ? true : undefined)
    return this.#run('waitReadable', o, () => attempt).then(ignore)
  }

  claim(op: string): Claim {
    this.occupy(op)
    return new Claim(this)
  }

  #own(): ReceiveBuffer {
    if (this.#buffer === EMPTY) this.#buffer = new ReceiveBuffer()
    return this.#buffer
  }
}

/** The exclusive use of the read direction by a message stream or an adapter. */
export class Claim {
  readonly #in: Inbound
  #held = true

  constructor(inbound: Inbound) {
    this.#in = inbound
  }

  /** What is here now, for whoever knows that no read of its own waits and that this side has not closed. */
  take(): Uint8Array | null | undefined {
    return this.#in.take(undefined, 'read')
  }

  read(o?: ReadOptions): Promise<Uint8Array | null> {
    return this.#in.read(o, true)
  }

  unread(bytes: Uint8Array): void {
    this.#in.unread(bytes, true)
  }

  /** Lets `pending` hear of news; nothing is fetched for it. */
  park(pending: Pending): void {
    this.#in.park(pending)
  }

  /** Ends that. */
  withdraw(pending: Pending): void {
    this.#in.withdraw(pending)
  }

  /** Cancels a read that waits; nothing is fetched for it. */
  cancel(): void {
    if (this.#held) this.#in.cancel()
  }

  /** Gives the slot back; nothing that was not read is lost. Idempotent. */
  release(): void {
    if (!this.#held) return
    this.#held = false
    this.#in.unclaim()
  }
}

/**
 * A `read` or `readInto` under way, as an object of its own: with closures in its place each of ten thousand connections that
 * wait would hold twice as many of them for the collector to move about.
 */
class Reading implements Pending {
  resolve!: (value: never) => void
  reject!: (error: unknown) => void
  disarm: (() => void) | undefined
  readonly #in: Inbound
  readonly #wanted: number | Uint8Array

  /** @param wanted most bytes, or where they go */
  constructor(inbound: Inbound, wanted: number | Uint8Array) {
    this.#in = inbound
    this.#wanted = wanted
  }

  get op(): string {
    return typeof this.#wanted === 'number' ? 'read' : 'readInto'
  }

  attempt(): Uint8Array | number | null | undefined {
    const wanted = this.#wanted
    return typeof wanted === 'number' ? this.#in.take(wanted, 'read') : this.#in.fetchInto(wanted)
  }
}

const LF: Uint8Array = Uint8Array.of(0x0a)
const CR = 0x0d

function limitOf(value: number | null | undefined, byDefault: number): number {
  if (value === undefined || value === null) return byDefault
  return value === Number.POSITIVE_INFINITY ? value : wholeNumber('limit', value, 1)
}

function lineDecoder(o: LineOptions | undefined, facts: () => ErrorFacts): (line: Uint8Array) => string | Uint8Array {
  const encoding = oneOf('encoding', o?.encoding ?? 'utf8', ['utf8', 'latin1', 'bytes'])
  if (encoding === 'bytes') return (line) => line.slice()
  if (encoding === 'latin1' || o?.fatal !== true) return (line) => bufferOf(line).toString(encoding)
  return (line) => {
    try {
      return strictText(line)
    } catch (cause) {
      throw new FrameError('BAD_FRAME', 'the line is not valid UTF-8; nothing was consumed', { ...facts(), phase: 'frame', cause })
    }
  }
}
