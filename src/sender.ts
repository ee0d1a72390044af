/** The sending half of a message stream: messages that share writes, and are never cut unnoticed. */

import type { Connection } from './connection.js'
import { arm, shouldYield, spanning, turn, within } from './deadline.js'
import { again, Cancelled, Closed, CODES, DeadlineError, FrameError, invalidType, SocketError } from './errors.js'
import { type Codec, FrameOutput } from './framing.js'
import type { Shared } from './owner.js'
import { capture, captured, handled, rejected } from './settle.js'
import type { Wait } from './stream.js'

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
  readonly resolve: (value: unknown) => void
  readonly reject: (error: unknown) => void
  disarm: (() => void) | undefined
}

/**
 * The sending half. At most one write of its own is with the connection, so that a send that was cut inside a message is
 * known before anything is written behind it.
 */
export class Sender<S> {
  readonly #connection: Connection
  readonly #codec: Codec<never, S>
  readonly #queue: Batch[] = []
  /** What is being written. */
  #writing: FrameOutput | undefined
  #withdrawable = false
  /** Why no more messages are taken. */
  #refusal: SocketError | undefined
  #idle: (() => void)[] = []
  readonly #settled: () => void = () => this.#written()
  readonly #rejected: (error: unknown) => void = (error) => this.#cut(error)

  constructor(connection: Connection, codec: Codec<unknown, S>) {
    this.#connection = connection
    this.#codec = codec as Codec<never, S>
  }

  get #clock(): Shared['clock'] {
    return this.#connection.owner.shared.clock
  }

  send(message: S, o: Wait | undefined): Promise<void> {
    const last = o === undefined ? this.#queue.at(-1) : undefined
    const joined = last?.left === undefined ? last : undefined
    const output = joined?.output ?? borrow()
    try {
      this.#check('send')
      this.#append(message, output)
    } catch (error) {
      if (joined === undefined) giveBack(output)
      return rejected(error)
    }
    return joined?.promise ?? this.#submit(output, o, 'send')
  }

  async sendMany(messages: Iterable<S> | AsyncIterable<S>, o: Wait | undefined): Promise<void> {
    const left = spanning(o, this.#clock)
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
    if (this.#refusal !== undefined) throw again(this.#refusal, { op })
  }

  #append(message: S, output: FrameOutput): void {
    const before = output.length
    try {
      if (this.#codec.append !== undefined) this.#codec.append(message, output)
      else output.bytes(this.#codec.encode(message))
    } catch (error) {
      output.truncate(before)
      if (error instanceof SocketError || error instanceof TypeError) throw error
      throw new FrameError('BAD_MESSAGE', `the codec failed: ${String(error)}`, { op: 'send', phase: 'frame', cause: error })
    }
  }

  #submit(output: FrameOutput, o: Wait | undefined, op: string): Promise<void> {
    if (this.#writing === undefined) return this.#write(output, o)
    let batch: Batch
    try {
      batch = newBatch(output, o === undefined ? undefined : spanning(o, this.#clock))
      const facts = () => ({ op, bytesWritten: 0 })
      batch.disarm = arm(o, this.#clock, facts, (error) => this.#withdraw(batch, error))
    } catch (error) {
      giveBack(output)
      return rejected(error)
    }
    this.#queue.push(batch)
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
    const written = error instanceof SocketError ? (error.bytesWritten ?? 0) : 0
    if ((error instanceof DeadlineError || error instanceof Cancelled) && written > 0 && written < total) {
      const text = `${CODES.FrameError.PARTIAL_WRITE}: ${written} of ${total} bytes were handed over`
      this.#refusal = new FrameError('PARTIAL_WRITE', text, { op: 'send', phase: 'write', cause: error })
      this.drop(this.#refusal)
    }
    this.#advance()
  }

  /** Gives up what waits, with `error`. Nothing may follow a message that can still be cut. */
  drop(error: SocketError): void {
    for (const batch of this.#queue.splice(0)) {
      batch.disarm?.()
      giveBack(batch.output)
      batch.reject(again(error, { op: 'send', bytesWritten: 0 }))
    }
  }

  #advance(): void {
    const batch = this.#queue.shift()
    if (batch === undefined) {
      for (const fn of this.#idle.splice(0)) fn()
      return
    }
    batch.disarm?.()
    this.#write(batch.output, batch.left?.()).then(batch.resolve, batch.reject)
  }

  /** Gives everything that waits to the connection now; false if a part of it could still be withdrawn and cut a message. */
  handOver(): boolean {
    if (this.#queue.length === 0) return true
    if (this.#withdrawable || this.#queue.some(({ left }) => left !== undefined)) return false
    for (const { output, resolve, reject } of this.#queue.splice(0)) {
      void this.#connection
        .write(output.pieces())
        .then(resolve, reject)
        .then(() => giveBack(output))
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
    return within(idle, o, this.#clock, () => ({ op: 'end' }))
  }
}

function newBatch(output: FrameOutput, left: Batch['left']): Batch {
  const promise = handled(new Promise<void>(capture))
  return { output, left, promise, ...captured, disarm: undefined }
}

function isIterable<S>(messages: Iterable<S> | AsyncIterable<S>): messages is Iterable<S> {
  if (typeof (messages as Iterable<S>)?.[Symbol.iterator] === 'function') return true
  if (typeof (messages as AsyncIterable<S>)?.[Symbol.asyncIterator] === 'function') return false
  throw invalidType('messages', 'iterable', messages)
}
