import { outOfRange } from '../errors.js'

/**
 * Repeatable randomness: the same seed gives the same sequence on every platform. Not for secrets.
 *
 * ```ts
 * import { Random } from 'fairlead/testing'
 *
 * const random = new Random(42)
 * console.log(random.int(1, 6), random.bytes(4).length)
 * ```
 */
export class Random {
  readonly seed: number
  #state: number

  constructor(seed: number) {
    if (!Number.isInteger(seed)) throw outOfRange('seed', 'a whole number', seed)
    this.seed = seed
    this.#state = seed >>> 0
  }

  /** At least 0 and less than 1; mulberry32. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = this.#state
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  /** A whole number from `least` to `most`, both included. */
  int(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1))
  }

  /** One of `from`, which must not be empty. */
  pick<T>(from: readonly T[]): T {
    return from[this.int(0, from.length - 1)] as T
  }

  bytes(count: number): Uint8Array {
    const bytes = new Uint8Array(count)
    for (let i = 0; i < count; i++) bytes[i] = this.int(0, 255)
    return bytes
  }
}
