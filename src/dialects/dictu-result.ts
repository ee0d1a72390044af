/** The `Result` of the later versions of the language: a value, or the text of an error. */

import { textOf, refusalOf } from './dictu-errno.js'
import { FatalError } from './dictu-misuse.js'

/**
 * A value, or the text of why there is none. No number comes with it.
 *
 * ```ts
 * import { Result } from 'fairlead/dictu'
 *
 * const found = Result.suc(2).match(
 *   (value) => `found ${value}`,
 *   (error) => error,
 * )
 * console.log(found) // found 2
 * ```
 */
export class Result<T> {
  readonly #success: boolean
  readonly #value: unknown

  private constructor(success: boolean, value: unknown) {
    this.#success = success
    this.#value = value
  }

  /** Dictu's `Success(value)`. */
  static suc<T>(value: T): Result<T> {
    return new Result<T>(true, value)
  }

  /** Dictu's `Error(text)`. */
  static err<T = never>(text: string): Result<T> {
    return new Result<T>(false, text)
  }

  /** Dictu's `result.success()`: whether there is a value. */
  success(): boolean {
    return this.#success
  }

  /** Dictu's `result.unwrap()`: the value. @throws FatalError on an error, with its text */
  unwrap(): T {
    if (!this.#success) throw new FatalError(`Attempted unwrap() on an error Result value '${this.#value}'`)
    return this.#value as T
  }

  /** Dictu's `result.unwrapError()`: the text of the error. @throws FatalError on a success */
  unwrapError(): string {
    if (this.#success) throw new FatalError('Attempted unwrapError() on a success Result value')
    return this.#value as string
  }

  /** Dictu's `result.match(success, error)`: calls the one that applies, and gives what it returns. */
  match<S, E>(success: (value: T) => S, error: (text: string) => E): S | E {
    return this.#success ? success(this.#value as T) : error(this.#value as string)
  }

  /** Dictu's `result.matchWrap(success, error)`: as `match`, and what comes of a success is one, of an error the text of another. */
  matchWrap<S>(success: (value: T) => S, error: (text: string) => string): Result<S> {
    return this.match(
      (value) => Result.suc(success(value)),
      (text) => Result.err<S>(error(text)),
    )
  }

  /** Dictu's `result.matchError(error)`: the value, or what `error` returns. */
  matchError<E>(error: (text: string) => E): T | E {
    return this.match((value) => value, error)
  }

  toString(): string {
    return this.#success ? '<Result Suc>' : '<Result Err>'
  }
}

/** What `op` gives, or the text of the system's error. */
export async function resultOf<T>(op: () => Promise<T>): Promise<Result<T>> {
  try {
    return Result.suc(await op())
  } catch (error) {
    return failure(error)
  }
}

export function failure<T>(error: unknown): Result<T> {
  return Result.err(textOf(refusalOf(error).number))
}
