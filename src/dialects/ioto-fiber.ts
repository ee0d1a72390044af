/** Fibers: functions that run one at a time and give way where they wait. Here these are async functions, known by their context. */

import { AsyncLocalStorage } from 'node:async_hooks'
import { network } from '../index.js'
import { R_ERR_BAD_ARGS, R_ERR_MEMORY, type R_OK } from './ioto-codes.js'

const current = new AsyncLocalStorage<RFiber>()

let active = 0
let limit = 0

/** One fiber, made by `rSpawnFiber` and, for an accepted client, by a listener. */
export class RFiber {
  readonly name: string
  #done = false
  /** Calls of `rYieldFiber` that wait, and resumptions that came before there was one. */
  readonly #yields: ((value: unknown) => void)[] = []
  readonly #resumptions: unknown[] = []
  readonly #watchers: ((value: unknown) => void)[] = []

  /** @internal made by `rSpawnFiber` */
  constructor(name: string) {
    this.name = name
  }

  /** Whether its function has returned. */
  get done(): boolean {
    return this.#done
  }

  /** Runs `fn` on it, if there may be one more. @internal */
  run(fn: () => unknown): boolean {
    if (limit > 0 && active >= limit) return false
    active++
    queueMicrotask(() => {
      void current.run(this, async () => {
        try {
          await fn()
        } finally {
          active--
          this.#done = true
          this.#tell(null)
        }
      })
    })
    return true
  }

  /** @internal */
  yield(value: unknown): Promise<unknown> {
    this.#tell(value)
    if (this.#resumptions.length > 0) return Promise.resolve(this.#resumptions.shift())
    return new Promise((resolve) => this.#yields.push(resolve))
  }

  /** @internal */
  resume(value: unknown): void {
    const resolve = this.#yields.shift()
    if (resolve === undefined) this.#resumptions.push(value)
    else resolve(value)
  }

  /** @internal resolves with what it yields next, or null when it is done */
  next(): Promise<unknown> {
    return new Promise((resolve) => this.#watchers.push(resolve))
  }

  #tell(value: unknown): void {
    for (const watcher of this.#watchers.splice(0)) watcher(value)
  }
}

/**
 * Ioto's `rSpawnFiber`: runs `fn(arg)` on a fiber of its own, which starts when the caller next waits.
 *
 * @returns 0; -32 (memory) when there are as many fibers as `rSetFiberLimits` allows; -6 (bad arguments) without a function.
 *   What `fn` throws is an unhandled rejection, which ends the process, as a crash ends the original
 */
export function rSpawnFiber<T>(name: string, fn: (arg: T) => unknown, arg: T): typeof R_OK | typeof R_ERR_BAD_ARGS | typeof R_ERR_MEMORY {
  if (typeof fn !== 'function') return R_ERR_BAD_ARGS
  return new RFiber(name).run(() => fn(arg)) ? 0 : R_ERR_MEMORY
}

/** Ioto's `rGetFiber`: the fiber this is called from; null outside of fibers, where the original gives its main fiber. */
export function rGetFiber(): RFiber | null {
  return current.getStore() ?? null
}

/** Ioto's `rIsMain`: whether this is called outside of the fibers that were spawned. */
export function rIsMain(): boolean {
  return current.getStore() === undefined
}

/**
 * Ioto's `rYieldFiber`: waits until somebody calls `rResumeFiber` for this fiber.
 *
 * @param value for whoever resumed this fiber from outside of fibers
 * @returns what it was resumed with
 * @throws Error outside of a fiber, where the original hangs or crashes
 */
export async function rYieldFiber(value: unknown = null): Promise<unknown> {
  const fiber = rGetFiber()
  if (fiber === null) throw new Error('rYieldFiber must be called from a fiber')
  return fiber.yield(value)
}

/**
 * Ioto's `rResumeFiber`: wakes a fiber that waits in `rYieldFiber`; one that does not yet will not wait there.
 *
 * @param fiber one that is done is left alone, and so is null
 * @param value what its `rYieldFiber` returns
 * @returns outside of fibers, what the fiber yields next, or null when it is done; from a fiber null at once, and the other one
 *   runs when this one next waits
 */
export async function rResumeFiber(fiber: RFiber | null, value: unknown = null): Promise<unknown> {
  if (fiber == null || fiber.done) return null
  const next = rIsMain() ? fiber.next() : null
  fiber.resume(value)
  return next
}

/**
 * Ioto's `rSetFiberLimits`.
 *
 * @param max most fibers at once, 0 for any number (default)
 * @param _poolMin fibers kept for use again: there is no pool here
 * @param _poolMax as `_poolMin`
 */
export function rSetFiberLimits(max: number, _poolMin: number = 0, _poolMax: number = 0): void {
  limit = Math.max(0, max)
}

/** Ioto's `rSleep`: waits `ms` milliseconds, none for what is no number above 0; other fibers run meanwhile. */
export function rSleep(ms: number): Promise<void> {
  const { clock } = network()
  return new Promise((resolve) => clock.at(clock.now() + (ms > 0 ? ms : 0), () => resolve()))
}

/** Ioto's `rGetTicks`: milliseconds of a clock that never goes back, from a moment of its own. The clock of deadlines. */
export function rGetTicks(): number {
  return Math.floor(network().clock.now())
}

/** Ioto's `rGetTime`: milliseconds since 1970. Deadlines made from it work, too. */
export function rGetTime(): number {
  return Math.floor(network().clock.wall())
}

/** Ioto's `rGetElapsedTicks`: milliseconds since `mark`, a result of `rGetTicks`. */
export function rGetElapsedTicks(mark: number): number {
  return rGetTicks() - mark
}

/** Ioto's `rGetRemainingTicks`: what is left of `timeout` milliseconds since `mark`, at least 0. */
export function rGetRemainingTicks(mark: number, timeout: number): number {
  return Math.max(0, mark + timeout - rGetTicks())
}

/** Deadlines beyond this (17 years) are of the wall clock, those below it of the ticks. */
const TICKS_END = 2 ** 39

/** Whether it can be a deadline: what is no number would be none, and a wait for ever. */
export function isDeadline(deadline: unknown): boolean {
  return typeof deadline === 'number' && !Number.isNaN(deadline)
}

/** Milliseconds until a deadline, 0 if it has passed; undefined for 0 and below: there is none. */
export function timeLeft(deadline: number): number | undefined {
  if (!(deadline > 0)) return undefined
  const { clock } = network()
  return Math.max(0, deadline - (deadline < TICKS_END ? clock.now() : clock.wall()))
}

let stopped = false
let stop: (() => void) | undefined
let serving: Promise<void> | undefined

/** Ioto's `rInit`: begins anew after `rTerm` and spawns the first fiber, if there is a function for it. @returns as `rSpawnFiber` */
export function rInit<T = null>(fn: ((arg: T) => unknown) | null = null, arg: T = null as T): ReturnType<typeof rSpawnFiber> {
  stopped = false
  return fn === null ? 0 : rSpawnFiber('main', fn, arg)
}

/**
 * Ioto's `rServiceEvents`: resolves when `rStop` is called. Events are served in any case; a process that has nothing left to wait
 * for ends, where the original waits for ever.
 */
export function rServiceEvents(): Promise<void> {
  if (stopped) return Promise.resolve()
  serving ??= new Promise((resolve) => (stop = resolve))
  return serving
}

/** Ioto's `rStop`: lets `rServiceEvents` return. */
export function rStop(): void {
  stopped = true
  stop?.()
  serving = stop = undefined
}

/** Ioto's `rTerm`: as `rStop`. Sockets are closed by those who have them. */
export function rTerm(): void {
  rStop()
}
