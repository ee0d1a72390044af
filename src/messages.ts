/** Messages over a connection: a codec on the reader slot, and a sender on the write direction. */

import type { Connection } from './connection.js'
import { refusePast, shouldYield, spanning, turn } from './deadline.js'
import { Delivery, type DeliveryMode, END } from './delivery.js'
import { again, Busy, Closed, CODES, FrameError, invalidType, reported, SocketError } from './errors.js'
import type { Codec, Decoder } from './framing.js'
import type { Claim } from './inbound.js'
import { Sender } from './sender.js'
import { handled } from './settle.js'
import type { CloseReport, Wait } from './stream.js'

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
    const leave = (): IteratorReturnResult<undefined> => {
      if (state === 'active' || state === 'waiting') this.#receiver = undefined
      state = 'over'
      return { done: true, value: undefined }
    }
    const wait = async (yielding: boolean): Promise<IteratorResult<T>> => {
      if (state === 'over') return leave()
      if (state === 'waiting') throw this.#busy('next')
      if (state === 'new') this.#available('messages')
      this.#receiver = 'messages'
      state = 'waiting'
      try {
        const message = await this.#wait('messages', o, yielding)
        if (message === END) return leave()
        if (state === 'waiting') state = 'active'
        return { done: false, value: message }
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
      return: () => Promise.resolve(leave()),
      [Symbol.asyncIterator]() {
        return this
      },
    }
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<T> {
    return this.messages()
  }

  /**
   * Pushes messages to `handler`, as {@link Delivery} says; it holds the place of the one receiver unless it is passive.
   *
   * @throws `Busy` beside another receiver or delivery, `Closed`
   */
  deliver(mode: DeliveryMode, handler: (message: T) => unknown): Delivery {
    const { connection } = this
    const source = {
      get closed() {
        return connection.closed
      },
      occupy: (waiter: Delivery) => {
        this.#available('deliver')
        this.#claim.park(waiter)
        this.#receiver = 'deliver'
      },
      release: (waiter: Delivery) => {
        this.#claim.withdraw(waiter)
        this.#receiver = undefined
      },
      take: () => this.#step('deliver'),
      tells: (error: unknown) => connection.tells(error),
      fail: (error: SocketError) => connection.handlerFailed(error),
    }
    return new Delivery(this, source, mode, handler)
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
    const left = spanning(o, this.connection.owner.shared.clock)
    await this.#sender.drained(o)
    return this.connection.end(left())
  }

  /**
   * Closes the connection behind every message it has accepted, as `connection.close`; sends that still wait fail with `Closed`.
   * Idempotent; never rejects.
   */
  close(o?: Wait): Promise<CloseReport> {
    if (!this.#sender.handOver()) this.#sender.drop(new Closed('CLOSED', CODES.Closed.CLOSED, this.connection.facts('close')))
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
      throw reported(error, this.connection.facts('detach'))
    }
    this.#claim.release()
    this.#detached = new Closed('CONSUMED', 'the messages were detached from the connection', this.connection.facts('detach'))
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

  #busy(op: string, why: string = `${this.#receiver} is receiving`): SocketError {
    return new Busy('BUSY', `${CODES.Busy.BUSY}: ${op} while ${why}`, this.connection.facts(op))
  }

  #available(op: string): void {
    if (this.#detached !== undefined) throw again(this.#detached, this.connection.facts(op))
    if (this.#receiver !== undefined) throw this.#busy(op)
  }

  /** What is here now, or `undefined`. */
  #step(op: string): T | typeof END | undefined {
    try {
      if (this.#detached !== undefined) throw again(this.#detached)
      // After a close on this side nothing may be received, but after a failure what came before it may.
      if (this.connection.state === 'closed') this.#claim.unread(NOTHING)
      for (;;) {
        const message = this.#next()
        if (message !== undefined) return message
        if (this.#ended) return END
        const chunk = this.#claim.take()
        if (chunk === undefined) return undefined
        this.#feed(chunk)
      }
    } catch (error) {
      throw reported(error, this.connection.facts(op))
    }
  }

  async #wait(op: string, o: Wait | undefined, yielding: boolean): Promise<T | typeof END> {
    const { clock } = this.connection.owner.shared
    const left = spanning(o, clock)
    if (o !== undefined) refusePast(o, clock, () => this.connection.facts(op))
    if (yielding) await turn()
    for (;;) {
      const message = this.#step(op)
      if (message !== undefined) return message
      try {
        this.#feed(await this.#claim.read(left()))
      } catch (error) {
        throw reported(error, this.connection.facts(op))
      }
    }
  }

  #next(): T | undefined {
    if (this.#found !== undefined) {
      const { message } = this.#found
      this.#found = undefined
      return message
    }
    if (this.#failure !== undefined) throw again(this.#failure)
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
    const what = `the codec failed: ${String(error)}`
    this.#failure ??= error instanceof SocketError ? error : new FrameError('BAD_FRAME', what, { phase: 'frame', cause: error })
    return this.#failure
  }
}

const NOTHING: Uint8Array = new Uint8Array(0)

/** What `receive` gives. A message that is `null`, which JSON has, would read as the end of the stream. */
function told<T>(message: T | typeof END): T | null {
  if (message === END) return null
  if (message !== null) return message
  const what = 'a message that is null cannot be told from the end of the stream here; iterate over messages() instead'
  throw new FrameError('BAD_FRAME', what, { phase: 'frame' })
}
