/** Time for tests: it stands still until told to move, or jumps when nothing else happens. */

import type { Clock } from '../driver.js'
import { outOfRange } from '../errors.js'

export interface VirtualClockOptions {
  /** The wall-clock time at the start, epoch milliseconds. Default 1 January 2026, so that tests are repeatable. */
  wall?: number | undefined
  /**
   * Jump to the next timer whenever the event loop has turned this many times without a timer being set, cancelled or
   * fired. Only for work inside the process: the clock cannot see that a real socket is still busy. Default: never.
   */
  autojump?: number | undefined
}

interface Timer {
  readonly when: number
  readonly fn: () => void
}

/** Settled promises and streams inside the process have been heard after this many turns of the loop. */
const SETTLE = 2

/**
 * A clock whose time moves only by {@link VirtualClock.advance}, or by jumps.
 *
 * ```ts
 * import { Network } from 'fairlead'
 * import { memory, VirtualClock } from 'fairlead/testing'
 *
 * const clock = new VirtualClock()
 * const network = new Network({ driver: memory(), clock })
 * const listener = await network.listen('tcp://127.0.0.1:0')
 * const accepting = listener.accept({ timeout: 60_000 }).catch((error) => error.code)
 * await clock.advance(60_000)
 * console.log(await accepting) // DEADLINE
 * await network.close()
 * ```
 */
export class VirtualClock implements Clock {
  /** By moment, then by the order of arming. */
  readonly #timers: Timer[] = []
  readonly #origin: number
  readonly #autojump: number
  #now = 0
  /** Counts what autojump takes for activity. */
  #activity = 0
  #watching = false

  constructor(o: VirtualClockOptions = {}) {
    this.#origin = o.wall ?? Date.UTC(2026, 0, 1)
    this.#autojump = o.autojump ?? 0
    if (!Number.isInteger(this.#autojump) || this.#autojump < 0) throw outOfRange('autojump', 'a whole number of loop turns', o.autojump)
  }

  now(): number {
    return this.#now
  }

  wall(): number {
    return this.#origin + this.#now
  }

  /** Number of timers that wait. */
  get pending(): number {
    return this.#timers.length
  }

  /** The moment of the next timer; `Infinity` when there is none. */
  get next(): number {
    return this.#timers[0]?.when ?? Number.POSITIVE_INFINITY
  }

  at(when: number, fn: () => void): () => void {
    const timer = { when: Math.max(when, this.#now), fn }
    let i = this.#timers.length
    while (i > 0 && (this.#timers[i - 1] as Timer).when > timer.when) i--
    this.#timers.splice(i, 0, timer)
    this.#activity++
    this.#watch()
    return () => {
      const index = this.#timers.indexOf(timer)
      if (index < 0) return
      this.#timers.splice(index, 1)
      this.#activity++
    }
  }

  /**
   * Moves time on by `ms`, firing what falls due in order, each at its own moment; what that sets in motion inside the
   * process has happened before the next one fires, and before this resolves.
   */
  async advance(ms: number): Promise<void> {
    if (!(ms >= 0)) throw outOfRange('ms', 'milliseconds, not negative', ms)
    const target = this.#now + ms
    await settle(SETTLE)
    while (this.next <= target) {
      this.#fire()
      await settle(SETTLE)
    }
    this.#now = Math.max(this.#now, target)
    await settle(SETTLE)
  }

  #fire(): void {
    const timer = this.#timers.shift() as Timer
    this.#now = Math.max(this.#now, timer.when)
    this.#activity++
    timer.fn()
  }

  async #watch(): Promise<void> {
    if (this.#autojump === 0 || this.#watching) return
    this.#watching = true
    try {
      while (this.#timers.length > 0) {
        const seen = this.#activity
        await settle(this.#autojump)
        if (this.#activity === seen && this.#timers.length > 0) this.#fire()
      }
    } finally {
      this.#watching = false
    }
  }
}

/** Lets everything that is ready inside the process happen: resolves after the event loop has turned `turns` times. */
export async function settle(turns: number = SETTLE): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise<void>((resolve) => setImmediate(resolve))
}
