/** The `Result` of the later versions of the language: a value, or the text of an error. */

import { textOf, refusalOf } from './dictu-errno.js'
import { FatalError, must } from './dictu-misuse.js'

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

  /** Dictu's `result.success()`: whether there is a value. @throws FatalError for arguments, as all of these */
  success(...args: []): boolean {
    checkNone('success', args)
    return this.#success
  }

  /** Dictu's `result.unwrap()`: the value. @throws FatalError on an error, with its text */
  unwrap(...args: []): T {
    checkNone('unwrap', args)
    if (!this.#success) throw new FatalError(`Attempted unwrap() on an error Result value '${this.#value}'`)
    return this.#value as T
  }

  /** Dictu's `result.unwrapError()`: the text of the error. @throws FatalError on a success */
  unwrapError(...args: []): string {
    checkNone('unwrapError', args)
    if (this.#success) throw new FatalError('Attempted unwrapError() on a success Result value')
    return this.#value as string
  }

  /** Dictu's `result.match(success, error)`: calls the one that applies, and gives what it returns. @throws FatalError */
  match<S, E>(...args: [success: (value: T) => S, error: (text: string) => E]): S | E {
    checkCallbacks('match', 2, args)
    return this.#choose(...args)
  }

  /**
   * Dictu's `result.matchWrap(success, error)`: as `match`, and what comes of a success is one, of an error the text of another.
   *
   * @throws FatalError
   */
  matchWrap<S>(...args: [success: (value: T) => S, error: (text: string) => string]): Result<S> {
    checkCallbacks('matchWrap', 2, args)
    const [success, error] = args
    return this.#choose(
      (value) => Result.suc(called(success, value)),
      (text) => Result.err<S>(called(error, text)),
    )
  }

  /** Dictu's `result.matchError(error)`: the value, or what `error` returns. @throws FatalError */
  matchError<E>(...args: [error: (text: string) => E]): T | E {
    checkCallbacks('matchError', 1, args)
    return this.#choose((value) => value, args[0])
  }

  #choose<S, E>(success: (value: T) => S, error: (text: string) => E): S | E {
    return this.#success ? called(success, this.#value as T) : called(error, this.#value as string)
  }

  toString(): string {
    return this.#success ? '<Result Suc>' : '<Result Err>'
  }
}

function checkNone(name: string, args: readonly unknown[]): void {
  must(args.length === 0, `${name}() takes no arguments (${args.length} given)`)
}

/** These methods are written in Dictu itself, as functions that are given the Result first. */
function checkCallbacks(name: string, count: number, args: readonly unknown[]): void {
  must(args.length === count, `Function '${name}' expected ${count + 1} argument(s) but got ${args.length + 1}.`)
}

/** Only the callback that applies has to be one. */
function called<A, R>(callback: (argument: A) => R, argument: A): R {
  must(typeof callback === 'function', `'${typeOf(callback)}' is not callable`)
  return callback(argument)
}

/** The original's name of a type. */
function typeOf(value: unknown): string {
  if (value === null || value === undefined) return 'nil'
  if (Array.isArray(value)) return 'list'
  const type = typeof value
  return type === 'boolean' ? 'bool' : type === 'object' ? 'dict' : type
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
