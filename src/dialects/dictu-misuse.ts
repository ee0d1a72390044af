/** What the original reports as a fatal error: calls with the wrong number or kinds of arguments. */

/**
 * Misuse, with the text of the original, which ends the program with it and exit status 70. Here it is thrown, as a
 * rejection where the method is asynchronous.
 */
export class FatalError extends TypeError {
  /** The exit status of the original (EX_SOFTWARE). */
  readonly exitCode = 70 as const

  constructor(message: string) {
    super(message)
    this.name = 'FatalError'
  }
}

/** @throws FatalError unless `holds` */
export function must(holds: boolean, message: string): asserts holds {
  if (!holds) throw new FatalError(message)
}

/** A number as C takes it for an `int`: without its fraction; what does not fit is the smallest there is (x86-64). */
export function toInt(value: number): number {
  const whole = Math.trunc(value)
  return Number.isFinite(whole) && Math.abs(whole) <= 0x7fff_ffff ? whole + 0 : -0x8000_0000
}
