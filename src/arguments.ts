/** Checks of what callers pass: native errors with a code that name the argument, what was expected and what came. */

import { invalidType, outOfRange } from './errors.js'

export function flag(name: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw invalidType(name, 'a boolean', value)
  return value
}

/** A whole number within bounds. A fraction is of the wrong type, as it is to the system calls behind most of these. */
export function wholeNumber(name: string, value: unknown, least: number, most: number = Number.MAX_SAFE_INTEGER): number {
  if (typeof value !== 'number' || (Number.isFinite(value) && !Number.isInteger(value))) throw invalidType(name, 'a whole number', value)
  if (!(value >= least && value <= most)) throw outOfRange(name, between(least, most), value)
  return value
}

/** A setting that counts something. `Infinity` means no limit, unless `most` is less. */
export function limit(name: string, value: unknown, least: number, most: number = Number.POSITIVE_INFINITY): number {
  if (typeof value !== 'number') throw invalidType(name, 'a number', value)
  if (!(Number.isInteger(value) || value === Number.POSITIVE_INFINITY) || value < least || value > most)
    throw outOfRange(name, `a whole number, ${between(least, most)}`, value)
  return value
}

/** A time. `Infinity` is for ever. */
export function milliseconds(name: string, value: unknown, least = 0): number {
  if (typeof value !== 'number') throw invalidType(name, 'a number of milliseconds', value)
  if (!(value >= least)) throw outOfRange(name, `milliseconds, ${between(least, Number.POSITIVE_INFINITY)}`, value)
  return value
}

function between(least: number, most: number): string {
  if (most < Number.MAX_SAFE_INTEGER) return `${least} to ${most}`
  return least === 0 ? 'not negative' : `at least ${least}`
}

/** One of a few words or numbers. */
export function oneOf<T extends string | number>(name: string, value: unknown, choices: readonly T[]): T {
  if ((choices as readonly unknown[]).includes(value)) return value as T
  const quoted = choices.map((choice) => (typeof choice === 'string' ? `'${choice}'` : String(choice)))
  throw outOfRange(name, `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`, value)
}
