/** Deadlines and the clock: the one place that arms timers. */

import { milliseconds } from './arguments.js'
import { setMaxListeners } from 'node:events'
import type { Clock } from './driver.js'
import { Cancelled, CODES, DeadlineError, type ErrorFacts, invalidType, outOfRange, refuseUnknown, type SocketError } from './errors.js'
import type { Wait } from './stream.js'

/** Node fires a longer timer at once; we wait in steps. */
const LONGEST = 2 ** 31 - 1

/** Timers nearer than this many milliseconds are exact to one. */
const FINEST_STEPS = 1024

/**
 * Many timers on one: moments are rounded up to a millisecond and share a bucket, so that renewing a deadline is a
 * deletion from one set and an insertion into another, and one platform timer serves them all.
 */
class SystemClock implements Clock {
  /** What is armed, by number, and the numbers by their moment: of sets that much goes through, those of numbers leave no garbage (`roster.ts`). */
  readonly #armed: ((() => void) | undefined)[] = []
  readonly #free: number[] = []
  readonly #buckets: Map<number, Set<number>> = new Map()
  /** The moments of the buckets, a binary heap. */
  readonly #heap: number[] = []
  #timer: NodeJS.Timeout | undefined
  #armedFor = Number.POSITIVE_INFINITY
  #live = 0

  now(): number {
    return performance.now()
  }

  wall(): number {
    return Date.now()
  }

  at(when: number, fn: () => void): () => void {
    const moment = rounded(when, this.now())
    let bucket = this.#buckets.get(moment)
    if (bucket === undefined) {
      bucket = new Set()
      this.#buckets.set(moment, bucket)
      push(this.#heap, moment)
    }
    const number = this.#free.pop() ?? this.#armed.length
    this.#armed[number] = fn
    bucket.add(number)
    this.#live++
    if (moment < this.#armedFor) this.#arm(moment)
    else if (this.#live === 1) this.#timer?.ref()
    let isArmed = true
    return () => {
      // The number may be another's by now.
      if (!isArmed || !bucket.delete(number)) return
      isArmed = false
      this.#disarm(number)
      // An idle timer is left armed, unreferenced, rather than cleared: the next deadline is likely to be as near.
      if (--this.#live === 0) this.#timer?.unref()
    }
  }

  #arm(moment: number): void {
    clearTimeout(this.#timer)
    this.#armedFor = moment
    this.#timer = setTimeout(() => this.#fire(), Math.min(Math.max(0, Math.ceil(moment - this.now())), LONGEST))
  }

  #disarm(number: number): (() => void) | undefined {
    const fn = this.#armed[number]
    this.#armed[number] = undefined
    this.#free.push(number)
    return fn
  }

  #fire(): void {
    this.#timer = undefined
    this.#armedFor = Number.POSITIVE_INFINITY
    // The platform's timers count whole milliseconds and may be a fraction early; a moment not yet reached is armed again.
    for (let first = this.#heap[0]; first !== undefined; first = this.#heap[0]) {
      const bucket = this.#buckets.get(first) as Set<number>
      if (first > this.now() && bucket.size > 0) {
        if (first < this.#armedFor) this.#arm(first)
        return
      }
      pop(this.#heap)
      this.#buckets.delete(first)
      for (const number of bucket) {
        bucket.delete(number)
        this.#live--
        this.#disarm(number)?.()
      }
    }
  }
}

/**
 * Up to the next millisecond; what is far away up to a coarser step, a thousandth of the way at most. Deadlines renewed all
 * the time would otherwise leave an empty bucket for each millisecond of the hour they stand for.
 */
function rounded(when: number, now: number): number {
  const step = Math.floor((when - now) / FINEST_STEPS)
  const grain = step < 1 ? 1 : 2 ** (31 - Math.clz32(Math.min(step, LONGEST)))
  return Math.ceil(when / grain) * grain
}

function push(heap: number[], value: number): void {
  let i = heap.length
  heap.push(value)
  while (i > 0) {
    const parent = (i - 1) >> 1
    if ((heap[parent] as number) <= value) break
    heap[i] = heap[parent] as number
    i = parent
  }
  heap[i] = value
}

function pop(heap: number[]): void {
  const last = heap.pop()
  if (last === undefined || heap.length === 0) return
  let i = 0
  for (;;) {
    let child = 2 * i + 1
    if (child >= heap.length) break
    if (child + 1 < heap.length && (heap[child + 1] as number) < (heap[child] as number)) child++
    if ((heap[child] as number) >= last) break
    heap[i] = heap[child] as number
    i = child
  }
  heap[i] = last
}

/** Real time. */
export const systemClock: Clock = new SystemClock()

/**
 * A moment that can be moved while operations wait under it.
 *
 * ```ts
 * const deadline = new Deadline(Date.now() + 5_000)
 * const reading = connection.read({ deadline })
 * deadline.set(Date.now() + 60_000)
 * ```
 */
export class Deadline {
  /** A number from the start: V8 then keeps it unboxed, and to set it allocates nothing. */
  #at: number = Number.POSITIVE_INFINITY
  readonly #moved: Set<() => void> = new Set()

  /** @param at epoch milliseconds or a `Date`; absent: no deadline yet */
  constructor(at?: number | Date) {
    if (at !== undefined) this.#at = epoch(at, 'at')
  }

  /** Epoch milliseconds; `Infinity` when there is none. */
  get at(): number {
    return this.#at
  }

  /**
   * Acts at once on what waits. To move it on, as at each sign of life of a peer, costs next to nothing: what was armed for
   * the earlier moment is armed again when that has come.
   */
  set(at: number | Date): void {
    const before = this.#at
    this.#at = typeof at === 'number' && at >= 0 ? at : epoch(at, 'at')
    if (this.#at < before || this.#at === Number.POSITIVE_INFINITY) for (const fn of [...this.#moved]) fn()
  }

  /** No deadline from now on. */
  clear(): void {
    this.set(Number.POSITIVE_INFINITY)
  }

  /** Calls `fn` at each move but those to a later moment, which who waits finds at the earlier one. @internal */
  onMove(fn: () => void): () => void {
    this.#moved.add(fn)
    return () => this.#moved.delete(fn)
  }
}

function epoch(value: unknown, name: string): number {
  const at = value instanceof Date ? value.getTime() : value
  if (typeof at !== 'number') throw invalidType(name, 'a number, a Date or a Deadline', value)
  if (Number.isNaN(at) || at < 0) throw outOfRange(name, 'epoch milliseconds, not negative', value)
  return at
}

/**
 * The monotonic moment until which to wait, `-Infinity` if it is past already. Throws what the arguments deserve:
 * a native error for a wrong type or range.
 */
export function momentOf(wait: Wait, clock: Clock): number {
  const timeout = milliseconds('timeout', wait.timeout ?? Number.POSITIVE_INFINITY)
  let moment = timeout === 0 ? Number.NEGATIVE_INFINITY : clock.now() + timeout
  const { deadline } = wait
  if (deadline !== undefined && deadline !== null) {
    const at = deadline instanceof Deadline ? deadline.at : epoch(deadline, 'deadline')
    const left = at - clock.wall()
    moment = Math.min(moment, left <= 0 ? Number.NEGATIVE_INFINITY : clock.now() + left)
  }
  return moment
}

/**
 * One wait over several steps: what is left of it for the next step, at each call. Its `timeout` counts from the call of
 * `spanning`; where it has neither timeout nor deadline, it is `limit` milliseconds.
 */
export function spanning<W extends Wait | undefined>(wait: W, clock: Clock, limit: number = Number.POSITIVE_INFINITY): () => W | Wait {
  const timeout = wait?.timeout ?? (wait?.deadline == null ? limit : undefined)
  const until = momentOf({ timeout }, clock)
  return until === Number.POSITIVE_INFINITY ? () => wait : () => ({ ...wait, timeout: Math.max(0, until - clock.now()) })
}

/** The error of a signal that has aborted: an expired `AbortSignal.timeout` is a deadline like any other. */
function cancellation(signal: AbortSignal, facts: ErrorFacts): SocketError {
  const reason: unknown = signal.reason
  if (reason instanceof Error && reason.name === 'TimeoutError') return deadlineError({ ...facts, cause: reason })
  return new Cancelled('CANCELLED', `${CODES.Cancelled.CANCELLED}: ${facts.op ?? 'operation'}`, { ...facts, cause: reason })
}

function deadlineError(facts: ErrorFacts): SocketError {
  return new DeadlineError('DEADLINE', `${CODES.DeadlineError.DEADLINE}: ${facts.op ?? 'operation'}`, facts)
}

/** Options of `Wait`, and those that single verbs add to it. */
const WAIT_KEYS: ReadonlySet<string> = new Set(['timeout', 'deadline', 'signal', 'limit', 'encoding', 'fatal', 'lastUnterminated'])

/**
 * Watches what may end a wait early. Throws at once if it has ended already (a signal first, then a deadline); otherwise
 * calls `fail` at most once, unless disarmed before.
 *
 * @returns what disarms it, or undefined when there is nothing to watch
 */
export function arm(
  wait: Wait | undefined,
  clock: Clock,
  facts: () => ErrorFacts,
  fail: (error: SocketError) => void,
): (() => void) | undefined {
  if (wait === undefined || wait === null) return undefined
  if (typeof wait !== 'object') throw invalidType('options', 'an object', wait)
  for (const key in wait) if (!WAIT_KEYS.has(key)) refuseUnknown(wait, WAIT_KEYS, facts().op ?? 'operation')
  const { signal, deadline } = wait
  if (signal !== undefined && signal !== null && !(signal instanceof AbortSignal)) throw invalidType('signal', 'an AbortSignal', signal)
  const relative = wait.timeout === undefined ? Number.POSITIVE_INFINITY : momentOf({ timeout: wait.timeout }, clock)
  const moment = () => Math.min(relative, deadline === undefined ? Number.POSITIVE_INFINITY : momentOf({ deadline }, clock))
  const first = moment()
  if (signal?.aborted) throw cancellation(signal, facts())
  if (first <= clock.now()) throw deadlineError(facts())
  const movable = deadline instanceof Deadline ? deadline : undefined
  if (!signal && first === Number.POSITIVE_INFINITY && movable === undefined) return undefined

  let cancelTimer: (() => void) | undefined
  const onAbort = () => finish(cancellation(signal as AbortSignal, facts()))
  const disarm = () => {
    cancelTimer?.()
    stopMoves?.()
    signal?.removeEventListener('abort', onAbort)
  }
  const finish = (error: SocketError) => {
    disarm()
    fail(error)
  }
  const set = (at: number) => {
    const asked = movable?.at
    const onDue = () => (movable?.at === asked ? finish(deadlineError(facts())) : again())
    cancelTimer = at === Number.POSITIVE_INFINITY ? undefined : clock.at(at, onDue)
  }
  const again = () => {
    cancelTimer?.()
    const at = moment()
    if (at <= clock.now()) finish(deadlineError(facts()))
    else set(at)
  }
  const stopMoves = movable?.onMove(again)
  set(first)
  if (signal) {
    // Node 20 would take the eleventh operation under one signal for a leak, and say so.
    setMaxListeners(0, signal)
    signal.addEventListener('abort', onAbort, { once: true })
  }
  return disarm
}

/** Throws what `arm` would, where a wait has ended before it began; watches nothing. */
export function refusePast(wait: Wait | undefined, clock: Clock, facts: () => ErrorFacts): void {
  arm(wait, clock, facts, () => {})?.()
}

/** `wait` with this timeout where it has none of its own. */
export function orTimeout(wait: Wait | undefined, timeout: number | undefined): Wait | undefined {
  return timeout === undefined || wait?.timeout !== undefined ? wait : { ...wait, timeout }
}

/** `promise`, or the error of `wait` if that ends first. */
export function within<T>(promise: Promise<T>, wait: Wait | undefined, clock: Clock, facts: () => ErrorFacts): Promise<T> {
  return new Promise((resolve, reject) => {
    void promise.then(resolve, reject)
    const disarm = arm(wait, clock, facts, reject)
    if (disarm !== undefined) void promise.then(disarm, disarm)
  })
}

/** Calls `fn` once `idle` milliseconds have passed since the moment that `last` gives, which may move on; returns what ends that. */
export function whenIdle(clock: Clock, idle: number, last: () => number, fn: () => void): () => void {
  let stop: (() => void) | undefined
  const check = () => {
    const due = last() + idle
    if (clock.now() < due) stop = clock.at(due, check)
    else fn()
  }
  check()
  return () => stop?.()
}

/** Settled operations in a row that never waited for the loop, and since when. */
let burst = 0
let burstStart = 0
const BURST_CHECK = 64
/** Milliseconds that operations which find their data ready may keep the loop from turning. */
const LONGEST_BURST = 5

/**
 * Whether an operation that could settle at once should let the event loop turn first, so that a stream whose data is
 * always ready (thousands of tiny frames in one segment, a fast in-process peer) does not starve timers and other sockets.
 */
export function shouldYield(): boolean {
  if (++burst % BURST_CHECK !== 0) return false
  const now = performance.now()
  if (burst === BURST_CHECK || now - burstStart > 100 * LONGEST_BURST) {
    burstStart = now
    return false
  }
  return now - burstStart > LONGEST_BURST
}

/** Tells `shouldYield` that an operation did the work of many: the clock is looked at next time. */
export function didMany(): void {
  burst |= BURST_CHECK - 1
}

/** Resolves after the event loop has turned once. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(() => {
      burst = 0
      resolve()
    })
  })
}

/** Tells `shouldYield` that the loop has turned: an operation waited for its driver. */
export function turned(): void {
  burst = 0
}
