/** Delivery: what arrives is pushed to a handler, in order, one call at a time, as fast as the handler takes it. */

import { wholeNumber } from './arguments.js'
import { shouldYield, turn } from './deadline.js'
import { Broken, broken, Busy, Closed, CODES, invalidType, messageOf, outOfRange, type SocketError } from './errors.js'
import { inThisContext } from './owner.js'
import type { Pending, ReaderSlot } from './slot.js'
import type { Steppable } from './steps.js'
import type { CloseReport } from './stream.js'

/** What a {@link Source} gives when nothing will ever come any more. */
export const END: unique symbol = Symbol('end')

/**
 * How what arrives reaches the handler: `'active'`: all of it; `'once'` or a count: so many calls, then `'passive'`;
 * `'passive'`: none, and the socket is read as if there were no delivery.
 */
export type DeliveryMode = 'active' | 'once' | 'passive' | number

/** What a delivery takes from. */
export interface Source<T> {
  readonly closed: Promise<CloseReport>
  /** Takes the reader slot, or throws `Busy` or `Closed`; `waiter` is told of news from then on. */
  occupy(waiter: Pending): void
  /** Gives the slot back; what was not taken stays. */
  release(waiter: Pending): void
  /** What is here now; undefined when there is nothing, and the waiter is told when to look again. Throws what broke the input. */
  take(): T | typeof END | undefined
  /** Whether an error says no more than that this socket ended or broke. */
  tells(error: unknown): boolean
  /** The handler failed: tells so, unless that is what the error says, and aborts what is not closed. */
  fail(error: SocketError): void
}

/** What the delivery of a connection or a datagram socket takes from. */
export function sourceOf<T>(
  socket: { readonly closed: Promise<CloseReport>; tells?(error: unknown): boolean; handlerFailed(error: SocketError): void },
  slot: ReaderSlot & Steppable<T>,
): Source<T> {
  return {
    get closed() {
      return socket.closed
    },
    tells: (error) => socket.tells?.(error) === true,
    occupy: (waiter) => {
      slot.occupy(waiter.op)
      slot.park(waiter)
    },
    release: (waiter) => {
      slot.withdraw(waiter)
      slot.unclaim()
    },
    take: () => slot.next('deliver'),
    fail: (error) => socket.handlerFailed(error),
  }
}

const DONE: CloseReport = Object.freeze({ clean: true, unsent: 0 })
/** The delivery of each socket that has had one. */
const deliveries: WeakMap<object, Delivery> = new WeakMap()

/**
 * Pushes what arrives on a socket to a handler. Made by `deliver` of a connection, a message stream or a datagram socket.
 *
 * Calls come strictly in order and one at a time. A handler that returns a promise is waited for, and nothing is read
 * meanwhile, so that the peer feels the backpressure. The end or an error comes behind all data, as `done`.
 *
 * ```ts
 * import { connect, listen } from 'fairlead'
 *
 * await using listener = await listen('tcp://127.0.0.1:0')
 * await using client = await connect(listener.endpoint)
 * await using server = await listener.accept()
 * const delivery = server.deliver('active', (data) => console.log(`${data.length} bytes`))
 * await client.write('hello')
 * await client.end()
 * console.log((await delivery.done).clean) // true
 * ```
 */
export class Delivery implements Pending {
  /** @internal */
  readonly op = 'deliver'
  /** @internal */
  readonly disarm: undefined = undefined
  readonly #source: Source<unknown>
  readonly #handler: (item: never) => unknown
  /** Calls to come: 0 when passive. */
  #left = 0
  #once = false
  /** A call of the handler has not returned, or the event loop is given a turn between two. */
  #running = false
  /** A call of the handler has not come to its first `await`. */
  #calling = false
  #stopped = false
  #over: CloseReport | undefined
  #done: Promise<CloseReport> | undefined
  #settle: ((report: CloseReport) => void) | undefined
  /** One pair of functions for every call that is waited for. */
  readonly #resumed: () => void = () => {
    this.#running = false
    this.attempt()
  }
  readonly #rejected: (error: unknown) => void = (error) => this.#failed(error)

  /** @internal made by `deliver`; `socket` has one at a time */
  constructor(socket: object, source: Source<unknown>, mode: DeliveryMode, handler: (item: never) => unknown) {
    if (typeof handler !== 'function') throw invalidType('handler', 'a function', handler)
    const other = deliveries.get(socket)
    if (other !== undefined && other.#over === undefined)
      throw new Busy('BUSY', `${CODES.Busy.BUSY}: deliver before stop()`, { op: 'deliver' })
    this.#source = source
    this.#handler = inThisContext(handler)
    if (callsOf(mode) > 0) source.occupy(this)
    this.#resume(mode)
    deliveries.set(socket, this)
  }

  /** What it does now; a count goes down with each call. */
  get mode(): DeliveryMode {
    if (this.#left === 0) return 'passive'
    if (this.#left === Number.POSITIVE_INFINITY) return 'active'
    return this.#once ? 'once' : this.#left
  }

  /**
   * Changes the mode, at any moment, also from inside the handler; nothing is lost or repeated by it. A count starts anew.
   * Once the input is over it does nothing.
   *
   * @throws `Busy` while somebody else reads, `Closed` after `stop`
   */
  set(mode: DeliveryMode): void {
    const left = callsOf(mode)
    if (this.#stopped) throw new Closed('ENDED', 'the delivery was stopped', { op: 'set' })
    if (this.#over !== undefined) return
    if (left === 0 && this.#left > 0) this.#source.release(this)
    if (left > 0 && this.#left === 0 && !this.#occupied()) return
    this.#resume(mode)
  }

  #resume(mode: DeliveryMode): void {
    this.#left = callsOf(mode)
    this.#once = mode === 'once'
    // Never from inside this call: whoever made it may not be ready yet.
    if (this.#left > 0 && !this.#running) queueMicrotask(() => this.attempt())
  }

  /** Takes the reader slot; false where the input turns out to be over. */
  #occupied(): boolean {
    try {
      this.#source.occupy(this)
      return true
    } catch (error) {
      if (error instanceof Busy) throw error
      this.#end(error)
      return false
    }
  }

  /**
   * Ends the delivery and gives the reader slot back at once, with everything undelivered still readable. Resolves when a
   * call of the handler that is under way has come to its end; at once if that call itself stops the delivery before its first
   * `await`. Behind it, a handler must not wait for this. Idempotent.
   */
  async stop(): Promise<void> {
    if (this.#over === undefined) this.#stopped = true
    this.#finish(DONE)
    if (!this.#calling) await this.done
  }

  /**
   * Resolves when nothing more will be delivered and the last call of the handler has come to its end: at the end of the input,
   * at an error (its `reason`), at a failure of the handler, or at `stop`. Never rejects.
   */
  get done(): Promise<CloseReport> {
    if (this.#done === undefined) {
      this.#done = new Promise((resolve) => {
        this.#settle = resolve
      })
      this.#report()
      // A passive delivery does not hear of a close. What arrived before an end may still be asked for.
      void this.#source.closed.then(() => this.#lookPassively())
    }
    return this.#done
  }

  #lookPassively(): void {
    if (this.#over !== undefined || this.#left > 0) return
    try {
      if (this.#occupied()) this.#source.release(this)
    } catch {
      // Somebody reads what arrived before the end.
    }
  }

  /** There may be something to deliver. @internal */
  attempt(): undefined {
    while (this.#left > 0 && !this.#running) {
      if (shouldYield()) return this.#later(turn())
      let item: unknown
      try {
        item = this.#source.take()
      } catch (error) {
        return this.#end(error)
      }
      if (item === undefined) return
      if (item === END) return this.#finish(DONE)
      // The slot is free before the last call, so that its handler can read or ask for more.
      if (--this.#left === 0) this.#source.release(this)
      this.#running = true
      this.#calling = true
      try {
        const result = this.#handler(item as never)
        if (isThenable(result)) return this.#later(Promise.resolve(result))
      } catch (error) {
        return this.#failed(error)
      } finally {
        this.#calling = false
      }
      this.#running = false
    }
    this.#report()
  }

  #later(waiting: Promise<unknown>): undefined {
    this.#running = true
    waiting.then(this.#resumed, this.#rejected)
  }

  /** @internal never called: an attempt settles nothing */
  resolve(): void {}

  /** The socket refuses to be read. @internal */
  reject(error: unknown): void {
    this.#end(error)
  }

  #failed(cause: unknown): undefined {
    this.#running = false
    const error = this.#source.tells(cause) ? (cause as SocketError) : handlerFailed(cause)
    const report = failure(error)
    if (this.#stopped) this.#over = report
    this.#finish(report)
    this.#source.fail(error)
  }

  #end(error: unknown): undefined {
    this.#finish(failure(broken(error)))
  }

  #finish(report: CloseReport): undefined {
    if (this.#over === undefined) {
      this.#over = report
      if (this.#left > 0) this.#source.release(this)
      this.#left = 0
    }
    this.#report()
  }

  #report(): void {
    if (this.#over !== undefined && !this.#running) this.#settle?.(this.#over)
  }
}

function callsOf(mode: DeliveryMode): number {
  if (mode === 'active') return Number.POSITIVE_INFINITY
  if (mode === 'passive') return 0
  if (mode === 'once') return 1
  if (typeof mode === 'number') return wholeNumber('mode', mode, 1)
  throw outOfRange('mode', "'active', 'once', 'passive' or a count", mode)
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
}

function failure(reason: SocketError): CloseReport {
  return Object.freeze({ clean: false, unsent: 0, reason })
}

function handlerFailed(cause: unknown): SocketError {
  return new Broken('HANDLER_FAILED', `${CODES.Broken.HANDLER_FAILED}: ${messageOf(cause)}`, { op: 'deliver', phase: 'handler', cause })
}
