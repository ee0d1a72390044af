/** `Concurrent.Future`: a value that will be there later, or a failure. */

import { PikeError } from './pike-errno.js'
import { after, call } from './pike-system.js'

/** How a future stands. */
export type State = 'pending' | 'fulfilled' | 'rejected'

/** What became of a future. */
export type Outcome<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly value: unknown }

let settleOf: <T>(future: Future<T>, outcome: Outcome<T>) => boolean

/** Gives a future its outcome; false if it has one. @internal */
export function settle<T>(future: Future<T>, outcome: Outcome<T>): boolean {
  return settleOf(future, outcome)
}

/** A future that is done, as `wait` gives it: its value can be had at once. */
export class Settled<T> {
  readonly #outcome: Outcome<T>

  /** @internal */
  constructor(outcome: Outcome<T>) {
    this.#outcome = outcome
  }

  get state(): 'fulfilled' | 'rejected' {
    return this.#outcome.ok ? 'fulfilled' : 'rejected'
  }

  /** The value; throws that of a failure, as it is. */
  get(): T {
    if (this.#outcome.ok) return this.#outcome.value
    throw this.#outcome.value
  }

  /** As `get`. */
  try_get(): T {
    return this.get()
  }
}

/**
 * A value that will be there later, or a failure. Pike: `Concurrent.Future`. Callbacks are called later, never from inside the call
 * that sets them or that settles the future. It can be awaited: that gives the value, or throws that of the failure.
 *
 * ```ts
 * import { Concurrent } from 'fairlead/pike'
 *
 * const promise = new Concurrent.Promise<number>()
 * promise.future().on_success((value) => console.log(value)) // 42
 * promise.success(42)
 * console.log(await promise.future().map((value) => value + 1)) // 43
 * ```
 */
export class Future<T> implements PromiseLike<T> {
  #outcome: Outcome<T> | undefined
  #waiting: ((outcome: Outcome<T>) => void)[] = []

  static {
    settleOf = (future, outcome) => future.#settle(outcome)
  }

  #settle(outcome: Outcome<T>): boolean {
    if (this.#outcome !== undefined) return false
    this.#outcome = outcome
    for (const fn of this.#waiting.splice(0)) queueMicrotask(() => fn(outcome))
    return true
  }

  #when(fn: (outcome: Outcome<T>) => void): void {
    const outcome = this.#outcome
    if (outcome === undefined) this.#waiting.push(fn)
    else queueMicrotask(() => fn(outcome))
  }

  /** How it stands. */
  get state(): State {
    if (this.#outcome === undefined) return 'pending'
    return this.#outcome.ok ? 'fulfilled' : 'rejected'
  }

  /** Calls `callback(value, …extra)` with the value, once. Returns this future. */
  on_success<A extends readonly unknown[]>(callback: (value: T, ...extra: A) => unknown, ...extra: A): this {
    this.#when((outcome) => {
      if (outcome.ok) void call(callback as (...args: never[]) => unknown, outcome.value, ...extra)
    })
    return this
  }

  /** Calls `callback(failure, …extra)` with what it failed with, once. Returns this future. */
  on_failure<E = unknown, A extends readonly unknown[] = []>(callback: (failure: E, ...extra: A) => unknown, ...extra: A): this {
    this.#when((outcome) => {
      if (!outcome.ok) void call(callback as (...args: never[]) => unknown, outcome.value, ...extra)
    })
    return this
  }

  /** Waits; the value, or throws that of the failure, as it is. */
  async get(): Promise<T> {
    return (await this.wait()).get()
  }

  /** Waits until it is done, also with a failure. Pike gives the future itself; here what came of it. */
  wait(): Promise<Settled<T>> {
    return new Promise((resolve) => {
      this.#when((outcome) => resolve(new Settled(outcome)))
    })
  }

  /** The value if it is there, 0 if not yet; throws that of a failure. */
  try_get(): T | 0 {
    return this.#outcome === undefined ? 0 : new Settled(this.#outcome).get()
  }

  #derive<U>(fn: (outcome: Outcome<T>, into: Future<U>) => void): Future<U> {
    const into = new Future<U>()
    this.#when((outcome) => {
      try {
        fn(outcome, into)
      } catch (error) {
        settle<U>(into, { ok: false, value: error })
      }
    })
    return into
  }

  /** What `fn` makes of the value; a failure stays, and what `fn` throws becomes one. */
  map<U, A extends readonly unknown[]>(fn: (value: T, ...extra: A) => U, ...extra: A): Future<U> {
    return this.#derive<U>((outcome, into) => settle<U>(into, outcome.ok ? { ok: true, value: fn(outcome.value, ...extra) } : outcome))
  }

  /** As `map`, of an `fn` that returns a future. */
  map_with<U, A extends readonly unknown[]>(fn: (value: T, ...extra: A) => PromiseLike<U>, ...extra: A): Future<U> {
    return this.#derive<U>((outcome, into) => (outcome.ok ? follow<U>(fn(outcome.value, ...extra), into) : settle<U>(into, outcome)))
  }

  /** As `map_with`. */
  flat_map<U, A extends readonly unknown[]>(fn: (value: T, ...extra: A) => PromiseLike<U>, ...extra: A): Future<U> {
    return this.map_with(fn, ...extra)
  }

  /** What `fn` makes of a failure; a value stays. */
  recover<U, A extends readonly unknown[]>(fn: (failure: unknown, ...extra: A) => U, ...extra: A): Future<T | U> {
    return this.#derive<T | U>((outcome, into) =>
      settle<T | U>(into, outcome.ok ? outcome : { ok: true, value: fn(outcome.value, ...extra) }),
    )
  }

  /** As `recover`, of an `fn` that returns a future. */
  recover_with<U, A extends readonly unknown[]>(fn: (failure: unknown, ...extra: A) => PromiseLike<U>, ...extra: A): Future<T | U> {
    return this.#derive<T | U>((outcome, into) =>
      outcome.ok ? settle<T | U>(into, outcome) : follow<T | U>(fn(outcome.value, ...extra), into),
    )
  }

  /** What `success` makes of the value, or `failure` of a failure, which stays without it. */
  transform<U>(success: (value: T) => U, failure?: (failure: unknown) => U): Future<U> {
    return this.#derive<U>((outcome, into) => {
      if (outcome.ok) return settle<U>(into, { ok: true, value: success(outcome.value) })
      return settle<U>(into, failure === undefined ? outcome : { ok: true, value: failure(outcome.value) })
    })
  }

  /** As `transform`, of functions that return futures. */
  transform_with<U>(success: (value: T) => PromiseLike<U>, failure?: (failure: unknown) => PromiseLike<U>): Future<U> {
    return this.#derive<U>((outcome, into) => {
      if (outcome.ok) return follow(success(outcome.value), into)
      return failure === undefined ? settle(into, outcome) : follow(failure(outcome.value), into)
    })
  }

  /**
   * As the `then` of Promises/A+: functions may return values or futures, and what they throw is a failure. Extra arguments of
   * the original are for closures here.
   */
  then<U = T, V = never>(
    on_success?: ((value: T) => U | PromiseLike<U>) | null | undefined,
    on_failure?: ((failure: unknown) => V | PromiseLike<V>) | null | undefined,
  ): Future<U | V> {
    return this.#derive<U | V>((outcome, into) => {
      const fn = outcome.ok ? on_success : on_failure
      if (typeof fn !== 'function') return settle<U | V>(into, outcome as Outcome<never>)
      return resolveWith((fn as (value: unknown) => U | V | PromiseLike<U | V>)(outcome.value), into)
    })
  }

  /** `then` for failures alone. */
  thencatch<V>(on_failure: (failure: unknown) => V | PromiseLike<V>): Future<T | V> {
    return this.then<T, V>(undefined, on_failure)
  }

  /** The value if `test` is true of it; otherwise a failure. */
  filter(test: (value: T) => unknown): Future<T> {
    return this.#derive<T>((outcome, into) => {
      if (outcome.ok && !test(outcome.value)) settle<T>(into, { ok: false, value: 0 })
      else settle<T>(into, outcome)
    })
  }

  /** The values of this and others, in this order. */
  zip(...others: (PromiseLike<unknown> | readonly PromiseLike<unknown>[])[]): Future<unknown[]> {
    const values = Promise.all([this, ...others.flat()] as PromiseLike<unknown>[])
    const into = new Future<unknown[]>()
    follow(values, into)
    return into
  }

  /** As this, but a failure `Timeout.` unless it is done within some seconds. */
  timeout(seconds: number): Future<T> {
    const into = new Future<T>()
    const stop = after(seconds, () => settle(into, { ok: false, value: new PikeError('Timeout.') }))
    this.#when((outcome) => {
      stop()
      settle<T>(into, outcome)
    })
    return into
  }

  /** As this, some seconds later. */
  delay(seconds: number): Future<T> {
    return this.#derive<T>((outcome, into) => void after(seconds, () => settle<T>(into, outcome)))
  }
}

function follow<T>(source: PromiseLike<T>, into: Future<T>): void {
  source.then(
    (value) => settle(into, { ok: true, value }),
    (error: unknown) => settle<T>(into, { ok: false, value: error }),
  )
}

function resolveWith<T>(result: T | PromiseLike<T>, into: Future<T>): void {
  if (typeof (result as PromiseLike<T> | null | undefined)?.then === 'function') follow(result as PromiseLike<T>, into)
  else settle(into, { ok: true, value: result as T })
}
