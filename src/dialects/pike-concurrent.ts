/** The module `Concurrent`: promises, and functions of several futures. */

import { PikeError } from './pike-errno.js'
import { Future, settle } from './pike-future.js'

export { Future, Settled, type State } from './pike-future.js'

/** How several futures become one. */
interface Rules {
  /** Values that are enough; undefined: all. */
  least: number | undefined
  /** Failures that are allowed; −1: any number. */
  most: number
  /** Failures that are needed. */
  failures: number
  any: boolean
}

/** A future that somebody settles. Pike: `Concurrent.Promise`. */
export class Promise<T> extends Future<T> {
  readonly #rules: Rules = { least: undefined, most: 0, failures: 0, any: false }
  readonly #sources: PromiseLike<unknown>[] = []
  #fold: { initial: unknown; fn: (value: unknown, sum: unknown) => unknown } | undefined
  #started = false

  /** The future of this promise: to be read alone. */
  future(): Future<T> {
    const into = new Future<T>()
    this.on_success((value) => settle<T>(into, { ok: true, value }))
    this.on_failure((value) => settle<T>(into, { ok: false, value }))
    return into
  }

  /**
   * Gives it its value.
   *
   * @param value may be left out
   * @param try_ 1: return without throwing where it was settled already
   * @throws PikeError `Promise has already been finalised.`
   */
  success(value: T, try_: 0 | 1 | boolean = 0): this {
    if (!settle<T>(this, { ok: true, value }) && !try_) throw new PikeError('Promise has already been finalised.')
    return this
  }

  /** Makes it fail with a value, which comes to `on_failure` and out of `get` as it is. Otherwise as `success`. */
  failure(value: unknown, try_: 0 | 1 | boolean = 0): this {
    if (!settle<T>(this, { ok: false, value }) && !try_) throw new PikeError('Promise has already been finalised.')
    return this
  }

  /** `success`, where nothing came before it. */
  try_success(value: T): this {
    return this.success(value, 1)
  }

  /** `failure`, where nothing came before it. */
  try_failure(value: unknown): this {
    return this.failure(value, 1)
  }

  /** Makes it wait for others: it gets their values, as an array, in this order. Without arguments: for one more promise, which it returns. */
  depend(): Promise<unknown>
  depend(...futures: (PromiseLike<unknown> | readonly PromiseLike<unknown>[])[]): this
  depend(...futures: (PromiseLike<unknown> | readonly PromiseLike<unknown>[])[]): this | Promise<unknown> {
    const one = futures.length === 0 ? new Promise<unknown>() : undefined
    this.#sources.push(...(one === undefined ? (futures.flat() as PromiseLike<unknown>[]) : [one]))
    if (!this.#started) queueMicrotask(() => this.#start())
    this.#started = true
    return one ?? this
  }

  /** The value of the first that has one. */
  first_completed(): this {
    this.#rules.any = true
    this.#rules.least = 1
    return this
  }

  /** Whatever fails; what something failed with stands in its place among the values. */
  any_results(): this {
    this.#rules.most = -1
    return this
  }

  /** How many may fail; −1: any number. */
  max_failures(most: number): this {
    this.#rules.most = most
    return this
  }

  /** How many must fail. */
  min_failures(least: number): this {
    this.#rules.failures = least
    return this
  }

  /** Instead of an array: what `fn(value, sum)` makes of each value and the sum before it, `initial` at first. */
  fold<S>(initial: S, fn: (value: never, sum: S) => S): this {
    this.#fold = { initial, fn: fn as (value: unknown, sum: unknown) => unknown }
    return this
  }

  #start(): void {
    const values: unknown[] = []
    const { least, failures, any } = this.#rules
    const count = this.#sources.length
    let done = 0
    let failed = 0
    let first: unknown
    const finish = () => {
      if (failed < failures) return void this.try_failure(new PikeError(`Only ${failed} of ${failures} failures.`))
      const found = values.filter((_value, i) => i in values)
      if (any) return void this.try_success(first as T)
      const fold = this.#fold
      if (fold === undefined) return void this.try_success(found as T)
      try {
        this.try_success(found.reduce((sum, value) => fold.fn(value, sum), fold.initial) as T)
      } catch (error) {
        this.try_failure(error)
      }
    }
    const step = () => {
      if (done + failed === count || (least !== undefined && done >= least)) finish()
    }
    if (count === 0) return finish()
    for (const [i, source] of this.#sources.entries()) {
      source.then(
        (value) => {
          values[i] = value
          if (done++ === 0) first = value
          step()
        },
        (error: unknown) => {
          values[i] = error
          failed++
          const { most } = this.#rules
          if (most >= 0 && failed > most) this.try_failure(error)
          else step()
        },
      )
    }
  }
}

/** A future that has its value. */
export function resolve<T>(value: T): Future<T> {
  return new Promise<T>().success(value).future()
}

/** A future that has failed. */
export function reject<T = never>(failure: unknown): Future<T> {
  return new Promise<T>().failure(failure).future()
}

/** The values of all, in their order; a failure of one is that of all. */
export function all(...futures: (PromiseLike<unknown> | readonly PromiseLike<unknown>[])[]): Future<unknown[]> {
  const promise = new Promise<unknown[]>()
  const list = futures.flat() as PromiseLike<unknown>[]
  if (list.length === 0) return resolve<unknown[]>([])
  return promise.depend(...list).future()
}

/** `all`, of an array. */
export function results<T>(futures: readonly PromiseLike<T>[]): Future<T[]> {
  return all(futures) as Future<T[]>
}

/** What the first that is done came to, be it a failure. */
export function race<T>(...futures: (PromiseLike<T> | readonly PromiseLike<T>[])[]): Future<T> {
  const promise = new Promise<T>()
  for (const one of futures.flat() as PromiseLike<T>[]) {
    one.then(
      (value) => promise.try_success(value),
      (error: unknown) => promise.try_failure(error),
    )
  }
  return promise.future()
}

/** As `race`. */
export function first_completed<T>(futures: readonly PromiseLike<T>[]): Future<T> {
  return race(futures)
}

/** What `fn(value, …extra)` makes of each value, in their order. */
export function traverse<T, U, A extends readonly unknown[]>(
  futures: readonly PromiseLike<T>[],
  fn: (value: T, ...extra: A) => U,
  ...extra: A
): Future<U[]> {
  return results(futures).map((values) => values.map((value) => fn(value, ...extra)))
}

/** What `fn(value, sum, …extra)` makes of all values, one after the other. */
export function fold<T, S, A extends readonly unknown[]>(
  futures: readonly PromiseLike<T>[],
  initial: S,
  fn: (value: T, sum: S, ...extra: A) => S,
  ...extra: A
): Future<S> {
  return results(futures).map((values) => values.reduce((sum, value) => fn(value, sum, ...extra), initial))
}
