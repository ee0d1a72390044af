/** Messages over a connection: a codec on the reader slot, and sends that share writes. */

import { formatAddress } from './address.js'
import type { Connection } from './connection.js'
import { arm, momentOf, shouldYield, turn, within } from './deadline.js'
import { again, Busy, Cancelled, Closed, CODES, DeadlineError, type ErrorFacts, FrameError, invalidType, SocketError } from './errors.js'
import { type Codec, type Decoder, FrameOutput } from './framing.js'
import type { Claim } from './inbound.js'
import { handled } from './outbound.js'
import type { CloseReport, Wait } from './stream.js'

/** The end of the stream, which must not be mistaken for a message. */
const END: unique symbol = Symbol('end')

export interface DetachOptions {
  /** Throw complete messages that were received and not taken away. Default false. */
  drop?: boolean | undefined
  /** Give complete messages that were received and not taken back as the bytes they came in. Default false. */
  undecode?: boolean | undefined
}

/**
 * A connection that carries messages. It holds the reader slot of its connection until `detach`.
 *
 * ```ts
 * import { codecs, connect, listen } from 'fairlead'
 *
 * await using listener = await listen('tcp://127.0.0.1:0')
 * await using client = (await connect(listener.endpoint)).frames(codecs.jsonLines<{ n: number }>())
 * await using server = (await listener.accept()).frames(codecs.jsonLines<{ n: number }>())
 * await client.send({ n: 1 })
 * console.log(await server.receive({ timeout: 1_000 })) // { n: 1 }
 * ```
 */
export class MessageStream<T, S = T> {
  readonly connection: Connection
  readonly #claim: Claim
  readonly #decoder: Decoder<T>
  readonly #sender: Sender<S>
  /** Who receives: a pending call or an iterator. */
  #receiver: string | undefined
  #ended = false
  /** Why nothing more can be decoded. */
  #failure: SocketError | undefined
  #detached: SocketError | undefined
  /** A message that `detach` found, and the bytes it found it in. */
  #found: { message: T; bytes: Uint8Array } | undefined

  /** @internal made by `connection.frames` */
  constructor(connection: Connection, codec: Codec<T, S>) {
    if (typeof codec?.decoder !== 'function' || typeof codec.encode !== 'function') throw invalidType('codec', 'a Codec', codec)
    this.connection = connection
    this.#decoder = codec.decoder()
    this.#sender = new Sender(connection, codec)
    this.#claim = connection.claim('frames')
  }

  /**
   * The next message; `null` at an end of the stream between two messages. One call at a time.
   *
   * @throws `FrameError` (`INCOMPLETE` at an end inside a message, `TOO_LONG`, `BAD_FRAME`; each time from then on), `Busy`,
   * `DeadlineError` and `Cancelled` (nothing is lost), `Closed`, `Broken`
   */
  receive(o?: Wait): Promise<T | null> {
    const yielding = shouldYield()
    if (o === undefined && this.#receiver === undefined && !yielding) {
      try {
        const message = this.#step('receive')
        if (message !== undefined) return Promise.resolve(told(message))
      } catch (error) {
        return Promise.reject(error)
      }
    }
    return this.#receive(o, yielding)
  }

  async #receive(o: Wait | undefined, yielding: boolean): Promise<T | null> {
    this.#available('receive')
    this.#receiver = 'receive'
    try {
      return told(await this.#wait('receive', o, yielding))
    } finally {
      this.#receiver = undefined
    }
  }

  /** A message that is here now, `null` at the end, `undefined` when there is none now. Throws what `receive` rejects with. */
  tryReceive(): T | null | undefined {
    this.#available('tryReceive')
    const message = this.#step('tryReceive')
    return message === undefined ? undefined : told(message)
  }

  /**
   * Every message until the end; `o` holds for each. An iterator holds the place of the one receiver from its first step;
   * leaving the loop gives it back, closes nothing and loses nothing.
   */
  messages(o?: Wait): AsyncIterableIterator<T> {
    let state: 'new' | 'active' | 'waiting' | 'over' = 'new'
    const leave = () => {
      if (state === 'active' || state === 'waiting') this.#receiver = undefined
      state = 'over'
    }
    const wait = async (yielding: boolean): Promise<IteratorResult<T>> => {
      if (state === 'over') return { done: true, value: undefined }
      if (state === 'waiting') throw this.#busy('next')
      if (state === 'new') this.#available('messages')
      this.#receiver = 'messages'
      state = 'waiting'
      try {
        const message = await this.#wait('messages', o, yielding)
        if (message === END) leave()
        else if (state === 'waiting') state = 'active'
        return message === END ? { done: true, value: undefined } : { done: false, value: message }
      } catch (error) {
        leave()
        throw error
      }
    }
    const next = (): Promise<IteratorResult<T>> => {
      const yielding = shouldYield()
      if (state === 'active' && o === undefined && !yielding) {
        try {
          const message = this.#step('messages')
          if (message !== undefined && message !== END) return Promise.resolve({ done: false, value: message })
        } catch (error) {
          leave()
          return Promise.reject(error)
        }
      }
      return wait(yielding)
    }
    return {
      next,
      return: () => {
        leave()
        return Promise.resolve({ done: true, value: undefined })
      },
      [Symbol.asyncIterator]() {
        return this
      },
    }
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<T> {
    return this.messages()
  }

  /**
   * Sends a message; settles when more would be welcome. Messages keep their order; those sent while a write is under way go
   * out together in the next. Its rejection is pre-handled: the next send repeats it.
   *
   * A send whose deadline passes before any of it was handed over is withdrawn. One that is cut in the middle leaves a stream
   * that no peer can read: every later send fails with `PARTIAL_WRITE`.
   *
   * @throws `FrameError` (`BAD_MESSAGE`, `TOO_LONG`: nothing was sent; `PARTIAL_WRITE`), `DeadlineError`, `Cancelled`, `Closed`, `Broken`
   */
  send(message: S, o?: Wait): Promise<void> {
    return this.#sender.send(message, o)
  }

  /**
   * Sends messages one after the other, many to a write, taking them from `messages` only as fast as they are welcome.
   * A message that cannot be encoded ends it; those before it are sent.
   */
  sendMany(messages: Iterable<S> | AsyncIterable<S>, o?: Wait): Promise<void> {
    return handled(this.#sender.sendMany(messages, o))
  }

  /** Ends the write direction behind everything sent; receiving goes on. Idempotent. */
  end(o?: Wait): Promise<void> {
    if (this.#sender.handOver()) return this.connection.end(o)
    return handled(this.#endLater(o))
  }

  async #endLater(o: Wait | undefined): Promise<void> {
    const left = remaining(this.connection, o)
    await this.#sender.drained(o)
    return this.connection.end(left())
  }

  /**
   * Closes the connection behind every message it has accepted, as `connection.close`; sends that still wait fail with `Closed`.
   * Idempotent; never rejects.
   */
  close(o?: Wait): Promise<CloseReport> {
    if (!this.#sender.handOver()) this.#sender.drop(new Closed('CLOSED', CODES.Closed.CLOSED, this.#facts('close')))
    return this.connection.close(o)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /**
   * Ends the framing and gives the connection back, with the bytes in front that were received and are no complete message.
   *
   * @throws `Busy` while a receive or a send waits, and while complete messages are here that nobody took, unless `drop`
   * throws them away or `undecode` gives them back as bytes too
   */
  detach(o: DetachOptions = {}): Connection {
    this.#available('detach')
    if (!this.#sender.handOver()) throw this.#busy('detach', 'a send is waiting')
    try {
      this.#claim.unread(this.#undecoded(o))
    } catch (error) {
      throw this.#reported(error, 'detach')
    }
    this.#claim.release()
    this.#detached = new Closed('CONSUMED', 'the messages were detached from the connection', this.#facts('detach'))
    this.#sender.refuse(this.#detached)
    return this.connection
  }

  #undecoded(o: DetachOptions): Uint8Array {
    const bytes = this.#found?.bytes ?? this.#decoder.rest()
    if (o.undecode === true) return bytes
    try {
      for (let found = this.#next(); found !== undefined; found = this.#next()) {
        if (o.drop === true) continue
        this.#found = { message: found, bytes }
        throw this.#busy('detach', 'messages are waiting')
      }
    } catch (error) {
      // Bytes that are no message in this framing are what the next user of the connection is after.
      if (error instanceof Busy) throw error
    }
    return this.#decoder.rest()
  }

  #facts(op: string): ErrorFacts {
    const { endpoint, local, remote } = this.connection
    return {
      op,
      ...(endpoint && { endpoint }),
      ...(local && { local: formatAddress(local) }),
      ...(remote && { remote: formatAddress(remote) }),
    }
  }

  #busy(op: string, why: string = `${this.#receiver} is receiving`): SocketError {
    return new Busy('BUSY', `${CODES.Busy.BUSY}: ${op} while ${why}`, this.#facts(op))
  }

  #available(op: string): void {
    if (this.#detached !== undefined) throw again(this.#detached, this.#facts(op))
    if (this.#receiver !== undefined) throw this.#busy(op)
  }

  /** What is here now, or `undefined`. */
  #step(op: string): T | typeof END | undefined {
    try {
      if (this.#detached !== undefined) throw again(this.#detached, {})
      // After a close on this side nothing may be received, but after a failure what came before it may.
      if (this.connection.state === 'closed') this.#claim.unread(NOTHING)
      for (;;) {
        const message = this.#next()
        if (message !== undefined) return message
        if (this.#ended) return END
        const chunk = this.#claim.tryRead()
        if (chunk === undefined) return undefined
        this.#feed(chunk)
      }
    } catch (error) {
      throw this.#reported(error, op)
    }
  }

  async #wait(op: string, o: Wait | undefined, yielding: boolean): Promise<T | typeof END> {
    const left = remaining(this.connection, o)
    if (o !== undefined) arm(o, this.connection.owner.shared.clock, () => this.#facts(op), nothing)?.()
    if (yielding) await turn()
    for (;;) {
      const message = this.#step(op)
      if (message !== undefined) return message
      try {
        this.#feed(await this.#claim.read(left()))
      } catch (error) {
        throw this.#reported(error, op)
      }
    }
  }

  #next(): T | undefined {
    if (this.#found !== undefined) {
      const { message } = this.#found
      this.#found = undefined
      return message
    }
    if (this.#failure !== undefined) throw again(this.#failure, {})
    try {
      return this.#decoder.next()
    } catch (error) {
      throw this.#fail(error)
    }
  }

  #feed(chunk: Uint8Array | null): void {
    try {
      if (chunk !== null) return this.#decoder.push(chunk)
      this.#ended = true
      this.#decoder.end()
    } catch (error) {
      throw this.#fail(error)
    }
  }

  #fail(error: unknown): SocketError {
    const failure = isOurs(error)
      ? error
      : new FrameError('BAD_FRAME', `the codec failed: ${String(error)}`, { phase: 'frame', cause: error })
    this.#failure ??= failure
    return this.#failure
  }

  /** The error, made for this call, as the operation reports it: with its own name and the facts of the connection. */
  #reported(error: unknown, op: string): unknown {
    return isOurs(error) ? Object.assign(error, this.#facts(op)) : error
  }
}

const NOTHING: Uint8Array = new Uint8Array(0)

function nothing(): void {}

function isOurs(error: unknown): error is SocketError {
  return error instanceof SocketError
}

/** What `receive` gives. A message that is `null`, which JSON has, would read as the end of the stream. */
function told<T>(message: T | typeof END): T | null {
  if (message === END) return null
  if (message !== null) return message
  throw new FrameError(
    'BAD_FRAME',
    'a message that is null cannot be told from the end of the stream here; iterate over messages() instead',
    {
      phase: 'frame',
    },
  )
}

/** The wait with what is left of its timeout: one operation may take several steps. */
function remaining(connection: Connection, o: Wait | undefined): () => Wait | undefined {
  if (o === undefined || o.timeout === undefined) return () => o
  const { clock } = connection.owner.shared
  const moment = momentOf({ timeout: o.timeout }, clock)
  return () => ({ ...o, timeout: Math.max(0, moment - clock.now()) })
}

/** Bytes at which `sendMany` hands over what it has gathered: less than the memory it gathers in. */
const BATCH = 48 * 1024
const FIRST_SLAB = 4 * 1024
/** Memory for encoding, shared by all streams: it is only held while a write is under way. */
const spares: FrameOutput[] = []
const MOST_SPARES = 16

function borrow(): FrameOutput {
  return spares.pop() ?? new FrameOutput(FIRST_SLAB)
}

function giveBack(output: FrameOutput): void {
  output.reset()
  if (spares.length < MOST_SPARES) spares.push(output)
}

/** One or more encoded messages that wait for the write before them. */
interface Batch {
  readonly output: FrameOutput
  /** Present if the batch may be withdrawn; nothing else joins it then. */
  readonly left: (() => Wait | undefined) | undefined
  readonly promise: Promise<void>
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
  disarm: (() => void) | undefined
}

/**
 * The sending half. At most one write of its own is with the connection, so that a send that was cut inside a message is
 * known before anything is written behind it.
 */
class Sender<S> {
  readonly #connection: Connection
  readonly #codec: Codec<never, S>
  readonly #queue: Batch[] = []
  /** The last of the queue, if more messages may join it. */
  #open: Batch | undefined
  /** What is being written. */
  #writing: FrameOutput | undefined
  #withdrawable = false
  #failure: SocketError | undefined
  #refusal: SocketError | undefined
  #idle: (() => void)[] = []
  readonly #settled: () => void = () => this.#written()
  readonly #rejected: (error: unknown) => void = (error) => this.#cut(error)

  constructor(connection: Connection, codec: Codec<unknown, S>) {
    this.#connection = connection
    this.#codec = codec as Codec<never, S>
  }

  send(message: S, o: Wait | undefined): Promise<void> {
    const joined = o === undefined && this.#writing !== undefined ? this.#open : undefined
    const output = joined?.output ?? borrow()
    try {
      this.#check('send')
      this.#append(message, output)
    } catch (error) {
      if (joined === undefined) giveBack(output)
      return handled(Promise.reject(error))
    }
    return joined?.promise ?? this.#submit(output, o, 'send')
  }

  async sendMany(messages: Iterable<S> | AsyncIterable<S>, o: Wait | undefined): Promise<void> {
    const left = remaining(this.#connection, o)
    let output = borrow()
    const hand = () => {
      const full = output
      output = borrow()
      return this.#submit(full, left(), 'sendMany')
    }
    try {
      this.#check('sendMany')
      if (isIterable(messages)) {
        for (const message of messages) {
          this.#append(message, output)
          if (output.length >= BATCH) await hand()
          else if (shouldYield()) await hand().then(turn)
        }
      } else {
        for await (const message of messages) {
          this.#append(message, output)
          // Whoever makes messages one by one wants each on its way.
          await hand()
        }
      }
    } finally {
      if (output.length > 0) await hand()
      giveBack(output)
    }
  }

  #check(op: string): void {
    if (this.#failure !== undefined) throw again(this.#failure, { op })
    if (this.#refusal !== undefined) throw again(this.#refusal, { op })
  }

  #append(message: S, output: FrameOutput): void {
    const before = output.length
    try {
      if (this.#codec.append !== undefined) this.#codec.append(message, output)
      else output.bytes(this.#codec.encode(message))
    } catch (error) {
      output.truncate(before)
      if (isOurs(error) || error instanceof TypeError) throw error
      throw new FrameError('BAD_MESSAGE', `the codec failed: ${String(error)}`, { op: 'send', phase: 'frame', cause: error })
    }
  }

  #submit(output: FrameOutput, o: Wait | undefined, op: string): Promise<void> {
    if (this.#writing === undefined) return this.#write(output, o)
    let batch: Batch
    try {
      batch = newBatch(output, o === undefined ? undefined : remaining(this.#connection, o))
      const facts = () => ({ op, bytesWritten: 0 })
      batch.disarm = arm(o, this.#connection.owner.shared.clock, facts, (error) => this.#withdraw(batch, error))
    } catch (error) {
      giveBack(output)
      return handled(Promise.reject(error))
    }
    this.#queue.push(batch)
    this.#open = o === undefined ? batch : undefined
    return batch.promise
  }

  #withdraw(batch: Batch, error: SocketError): void {
    const at = this.#queue.indexOf(batch)
    if (at === -1) return
    this.#queue.splice(at, 1)
    giveBack(batch.output)
    batch.reject(error)
  }

  #write(output: FrameOutput, o: Wait | undefined): Promise<void> {
    this.#writing = output
    this.#withdrawable = o !== undefined
    const promise = this.#connection.write(output.pieces(), o)
    promise.then(this.#settled, this.#rejected)
    return promise
  }

  #written(): void {
    giveBack(this.#writing as FrameOutput)
    this.#writing = undefined
    this.#advance()
  }

  /** A write failed. If it was withdrawn with a part of it gone, the message cut there is the last one. */
  #cut(error: unknown): void {
    const output = this.#writing as FrameOutput
    const total = output.length
    giveBack(output)
    this.#writing = undefined
    const written = isOurs(error) ? (error.bytesWritten ?? 0) : 0
    if ((error instanceof DeadlineError || error instanceof Cancelled) && written > 0 && written < total) {
      const text = `${CODES.FrameError.PARTIAL_WRITE}: ${written} of ${total} bytes were handed over`
      this.#failure = new FrameError('PARTIAL_WRITE', text, { op: 'send', phase: 'write', cause: error })
      this.drop(this.#failure)
    }
    this.#advance()
  }

  /** Gives up what waits, with `error`. Nothing may follow a message that can still be cut. */
  drop(error: SocketError): void {
    this.#open = undefined
    for (const batch of this.#queue.splice(0)) {
      batch.disarm?.()
      giveBack(batch.output)
      batch.reject(again(error, { op: 'send', bytesWritten: 0 }))
    }
  }

  #advance(): void {
    const batch = this.#queue.shift()
    if (batch === undefined) {
      this.#open = undefined
      for (const fn of this.#idle.splice(0)) fn()
      return
    }
    if (batch === this.#open) this.#open = undefined
    batch.disarm?.()
    this.#write(batch.output, batch.left?.()).then(batch.resolve, batch.reject)
  }

  /** Gives everything that waits to the connection now; false if a part of it could still be withdrawn and cut a message. */
  handOver(): boolean {
    if (this.#queue.length === 0) return true
    if (this.#withdrawable || this.#queue.some(({ left }) => left !== undefined)) return false
    this.#open = undefined
    for (const { output, resolve, reject } of this.#queue.splice(0)) {
      const promise = this.#connection.write(output.pieces())
      promise.then(resolve, reject)
      const recycle = () => giveBack(output)
      promise.then(recycle, recycle)
    }
    return true
  }

  /** Takes no more messages, with `error`. */
  refuse(error: SocketError): void {
    this.#refusal ??= error
  }

  /** Takes no more messages and resolves when the connection has all those that were sent. */
  drained(o: Wait | undefined): Promise<void> {
    this.refuse(new Closed('ENDED', CODES.Closed.ENDED, { phase: 'write' }))
    const idle = new Promise<void>((resolve) => this.#idle.push(resolve))
    return within(idle, o, this.#connection.owner.shared.clock, () => ({ op: 'end' }))
  }
}

function newBatch(output: FrameOutput, left: Batch['left']): Batch {
  let resolve!: () => void
  let reject!: (error: unknown) => void
  const promise = new Promise<void>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { output, left, promise: handled(promise), resolve, reject, disarm: undefined }
}

function isIterable<S>(messages: Iterable<S> | AsyncIterable<S>): messages is Iterable<S> {
  if (typeof (messages as Iterable<S>)?.[Symbol.iterator] === 'function') return true
  if (typeof (messages as AsyncIterable<S>)?.[Symbol.asyncIterator] === 'function') return false
  throw invalidType('messages', 'iterable', messages)
}
