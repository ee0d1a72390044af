/** Promises that are settled from elsewhere, and rejections that nobody need watch. */

export function ignore(): void {}

/** What the promise made last is settled by: one executor for all, where a closure for each would be garbage. */
export const captured: { resolve: (value: unknown) => void; reject: (error: unknown) => void } = { resolve: ignore, reject: ignore }

/** The executor of a promise that {@link captured} settles. */
export function capture(resolve: (value: never) => void, reject: (error: unknown) => void): void {
  captured.resolve = resolve as (value: unknown) => void
  captured.reject = reject
}

/** Marks a rejection as seen: the next operation and `closed` repeat it, so nobody need watch this promise. */
export function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(ignore)
  return promise
}

/** As `handled`, of what has failed already. */
export function rejected(error: unknown): Promise<never> {
  return handled(Promise.reject(error))
}
