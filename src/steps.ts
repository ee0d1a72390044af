/** `for await` over what a socket receives. */

import { END } from './delivery.js'
import { Closed } from './errors.js'
import { capture, captured } from './settle.js'
import type { Pending, ReaderSlot } from './slot.js'
import type { ReadOptions } from './stream.js'

/** What is stepped through. */
export interface Steppable<T> {
  /** What is here now; undefined when there is nothing, and the slot tells when to look again. Throws what broke the input. */
  next(op: string, o?: ReadOptions): T | typeof END | undefined
}

const OVER: IteratorReturnResult<undefined> = Object.freeze({ done: true, value: undefined })

/**
 * The async iterator of a socket: claims the reader slot at its first step, gives it back when the loop is left or a step
 * fails. It is its own pending operation, so that a step costs one promise.
 */
export class Steps<T> implements AsyncIterableIterator<T>, Pending {
  resolve!: (value: never) => void
  disarm: (() => void) | undefined
  readonly #slot: ReaderSlot
  readonly #of: Steppable<T>
  readonly #o: ReadOptions | undefined
  /** The socket, which is not garbage while it is looped over, and which nobody else may refer to. */
  readonly keeps: unknown
  /** `fresh` has not claimed the reader slot yet; `stepping` waits. */
  #state: 'fresh' | 'between' | 'stepping' | 'done' = 'fresh'

  constructor(slot: ReaderSlot, of: Steppable<T>, o: ReadOptions | undefined, keeps: unknown) {
    this.#slot = slot
    this.#of = of
    this.#o = o
    this.keeps = keeps
  }

  get op(): string {
    return 'iterator'
  }

  next(): Promise<IteratorResult<T>> {
    if (this.#state === 'done') return Promise.resolve(OVER)
    if (this.#state === 'stepping') return Promise.reject(this.#slot.inUse(this.op))
    const promise = new Promise<IteratorResult<T>>(capture)
    this.resolve = captured.resolve
    try {
      if (this.#state === 'fresh') this.#slot.occupy(this.op)
      this.#state = 'stepping'
      this.#slot.start(this, this.#o, true)
    } catch (error) {
      this.reject(error)
    }
    return promise
  }

  attempt(): IteratorResult<T> | undefined {
    const value = this.#of.next(this.op, this.#o)
    if (value === undefined) return undefined
    this.#state = 'between'
    if (value !== END) return { done: false, value }
    this.#leave('done')
    return OVER
  }

  /** A socket of datagrams goes on behind one that failed, so a loop over it may come back; and it has no other end than its close. */
  reject(error: unknown): void {
    const goesOn = this.#slot.side.kind === 'datagram'
    const isEnd = goesOn && error instanceof Closed
    if (this.#state !== 'fresh') this.#leave(goesOn && !isEnd ? 'fresh' : 'done')
    if (isEnd) this.resolve(OVER as never)
    // Most loops wait for most of their lives, and one function to settle a promise is less to keep than two.
    else this.resolve(Promise.reject(error) as never)
  }

  return(): Promise<IteratorResult<T>> {
    if (this.#slot.withdraw(this)) this.resolve(OVER as never)
    this.#leave('done')
    return Promise.resolve(OVER)
  }

  #leave(state: 'fresh' | 'done'): void {
    if (this.#state === 'between' || this.#state === 'stepping') this.#slot.unclaim()
    this.#state = state
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}
