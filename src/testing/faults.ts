/** Faults on purpose: a stream or a whole driver that is slow, choppy, cut off, silent or out of descriptors, repeatably. */

import type { Address } from '../address.js'
import { systemClock } from '../deadline.js'
import type {
  BindSettings,
  Clock,
  DatagramHandle,
  DialSettings,
  Driver,
  Guarantees,
  ListenerHandle,
  ListenSettings,
  OptionHandle,
  StreamEvents,
  StreamHandle,
} from '../driver.js'
import { outOfRange } from '../errors.js'
import { Random } from './random.js'

/** How a stream is cut: by a reset, by an orderly end of the transport (under TLS: without close_notify), or by nothing moving any more. */
export type Cut = 'reset' | 'end' | 'silence'

export interface FaultPlan {
  /** For what is random here. Default 1. */
  seed?: number | undefined
  /** Times latency and throttling. Default: real time. */
  clock?: Clock | undefined
  /** Milliseconds that bytes, the end and errors take to arrive here; a pair of numbers: random between them, order kept. */
  latency?: number | readonly [number, number] | undefined
  /** Most bytes per read and per write. */
  slice?: number | undefined
  /** Make each slice a random length from 1 to `slice`. */
  ragged?: boolean | undefined
  /** Share of reads and writes, 0 to 1, that find nothing at first and are told to try again at once. */
  stutter?: number | undefined
  /** Bytes per second in each direction. */
  throttle?: number | undefined
  /** Cuts the stream behind exactly so many bytes read, or written. */
  cut?: { after: number; of: 'read' | 'write'; by: Cut } | undefined
}

/** The code of a failed system call on a stream, as the platform would report it. */
function failure(code: string, syscall: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${syscall} ${code} (injected)`), { code, syscall })
}

interface Injected {
  readonly code: string
  left: number
}

/** Bytes delayed on their way here: what may be in flight at once. */
const FLIGHT = 256 * 1024

type Arrival = Uint8Array | null | { error: unknown }

/** A stream handle that misbehaves as its plan says, or on demand. */
export class FaultyStream implements StreamHandle {
  readonly #inner: StreamHandle
  readonly #plan: FaultPlan
  readonly #clock: Clock
  readonly #random: Random
  #events: StreamEvents | undefined
  #bytesRead = 0
  #bytesWritten = 0
  #silent = false
  /** A read or write direction that a cut has ended, and how. */
  #readCut: 'reset' | 'end' | undefined
  #writeCut: 'reset' | 'end' | undefined
  readonly #failures: Record<'read' | 'write', Injected[]> = { read: [], write: [] }
  readonly #flight: { due: number; what: Arrival }[] = []
  #flightBytes = 0
  #lastDue = 0
  #landed = false
  /** Moment up to which the bytes that passed so far keep a throttled direction busy. */
  readonly #busyUntil: Record<'read' | 'write', number> = { read: 0, write: 0 }
  readonly #timers: Set<() => void> = new Set()

  constructor(inner: StreamHandle, plan: FaultPlan = {}) {
    const { slice, throttle, stutter } = plan
    if (slice !== undefined && !(slice >= 1)) throw outOfRange('slice', 'bytes, at least 1', slice)
    if (throttle !== undefined && !(throttle > 0)) throw outOfRange('throttle', 'bytes per second, more than 0', throttle)
    if (stutter !== undefined && !(stutter >= 0 && stutter < 1)) throw outOfRange('stutter', 'a share from 0 to less than 1', stutter)
    this.#inner = inner
    this.#plan = plan
    this.#clock = plan.clock ?? systemClock
    this.#random = new Random(plan.seed ?? 1)
  }

  get local(): Address | undefined {
    return this.#inner.local
  }

  get remote(): Address | undefined {
    return this.#inner.remote
  }

  get options(): OptionHandle | undefined {
    return this.#inner.options
  }

  get unsent(): number {
    return this.#inner.unsent
  }

  /** Resets the connection now, seen as a reset on both sides. */
  reset(): void {
    this.#readCut = this.#writeCut = 'reset'
    this.#inner.destroy(true)
    this.#wake()
  }

  /** Ends the transport towards the peer behind what was written so far; what is written later vanishes. Under TLS: an end without close_notify. */
  end(): void {
    if (this.#writeCut !== undefined) return
    this.#writeCut = 'end'
    this.#inner.shutdown(() => {})
    this.#wake()
  }

  /** Nothing moves any more, in either direction, as when the cable is pulled. */
  silence(): void {
    this.#silent = true
  }

  /** Makes the next `times` reads or writes fail with a POSIX code. */
  fail(op: 'read' | 'write', code: string, times = 1): void {
    this.#failures[op].push({ code, left: times })
    this.#wake()
  }

  attach(events: StreamEvents): void {
    this.#events = events
    this.#inner.attach({
      readable: () => {
        this.#board()
        if (!this.#silent) events.readable()
      },
      writable: () => {
        if (!this.#silent) events.writable()
      },
    })
  }

  read(limit: number): Uint8Array | null | undefined {
    const allowed = this.#mayRead(limit)
    if (typeof allowed !== 'number') return allowed
    const bytes = this.#delayed ? this.#land(allowed) : this.#inner.read(allowed)
    if (bytes) this.#count('read', bytes.length)
    return bytes
  }

  readInto(into: Uint8Array): number | null | undefined {
    const allowed = this.#mayRead(into.length)
    if (typeof allowed !== 'number') return allowed
    if (!this.#delayed) {
      const count = this.#inner.readInto(into.length === allowed ? into : into.subarray(0, allowed))
      if (count) this.#count('read', count)
      return count
    }
    const bytes = this.#land(allowed)
    if (!bytes) return bytes
    into.set(bytes)
    this.#count('read', bytes.length)
    return bytes.length
  }

  /** How many bytes the plan lets through now, or what the read gives instead. */
  #mayRead(limit: number): number | null | undefined {
    this.#throwInjected('read')
    if (this.#silent) return undefined
    const { cut } = this.#plan
    let allowed = limit
    if (cut?.of === 'read') {
      const left = cut.after - this.#bytesRead
      if (left <= 0) this.#cutReading(cut.by)
      else allowed = Math.min(allowed, left)
    }
    if (this.#readCut === 'reset') throw failure('ECONNRESET', 'read')
    if (this.#readCut === 'end') return null
    if (this.#silent || this.#stutters('read') || this.#throttled('read')) return undefined
    return Math.min(allowed, this.#sliceLength())
  }

  #cutReading(by: Cut): void {
    if (this.#readCut !== undefined) return
    if (by === 'reset') this.reset()
    else if (by === 'end') this.#readCut = 'end'
    else this.silence()
  }

  write(data: Uint8Array): number {
    const allowed = this.#mayWrite(data.length)
    if (this.#writeCut === 'end') return data.length
    if (allowed === 0) return 0
    const count = this.#inner.write(allowed < data.length ? data.subarray(0, allowed) : data)
    this.#wrote(count, allowed < data.length)
    return count
  }

  writev(data: readonly Uint8Array[]): number {
    const total = data.reduce((sum, piece) => sum + piece.length, 0)
    const allowed = this.#mayWrite(total)
    if (this.#writeCut === 'end') return total
    if (allowed === 0) return 0
    const count = this.#inner.writev(allowed < total ? prefix(data, allowed) : data)
    this.#wrote(count, allowed < total)
    return count
  }

  #mayWrite(wanted: number): number {
    this.#throwInjected('write')
    const { cut } = this.#plan
    let allowed = wanted
    if (cut?.of === 'write' && this.#writeCut === undefined && !this.#silent) {
      const left = cut.after - this.#bytesWritten
      if (left > 0) allowed = Math.min(allowed, left)
      else if (cut.by === 'reset') this.reset()
      else if (cut.by === 'end') this.end()
      else this.silence()
    }
    if (this.#writeCut === 'reset') throw failure('ECONNRESET', 'write')
    if (this.#silent || this.#stutters('write') || this.#throttled('write')) return 0
    return Math.min(allowed, this.#sliceLength())
  }

  /** Who wrote less than asked for waits for `writable`; when the plan and not the system held it back, that is ours to say. */
  #wrote(count: number, heldBack: boolean): void {
    this.#count('write', count)
    if (heldBack && count > 0) queueMicrotask(() => this.#events?.writable())
  }

  shutdown(done: (error?: unknown) => void): void {
    if (this.#silent) return
    if (this.#writeCut !== undefined)
      return queueMicrotask(() => done(this.#writeCut === 'reset' ? failure('EPIPE', 'shutdown') : undefined))
    this.#inner.shutdown(done)
  }

  destroy(reset: boolean): void {
    this.#events = undefined
    for (const cancel of this.#timers) cancel()
    this.#timers.clear()
    this.#inner.destroy(reset)
  }

  mayLose(): boolean {
    return this.#flight.length > 0 || this.#inner.mayLose()
  }

  ref(): void {
    this.#inner.ref()
  }

  unref(): void {
    this.#inner.unref()
  }

  get #delayed(): boolean {
    return this.#plan.latency !== undefined
  }

  /** Takes what has come and sets it on its way. */
  #board(): void {
    while (this.#delayed && !this.#landed && this.#flightBytes < FLIGHT) {
      let what: Arrival | undefined
      try {
        what = this.#inner.read(64 * 1024)
      } catch (error) {
        what = { error }
      }
      if (what === undefined) return
      const [least, most] =
        typeof this.#plan.latency === 'number'
          ? [this.#plan.latency, this.#plan.latency]
          : (this.#plan.latency as readonly [number, number])
      this.#lastDue = Math.max(this.#lastDue, this.#clock.now() + least + this.#random.next() * (most - least))
      this.#flight.push({ due: this.#lastDue, what })
      if (what instanceof Uint8Array) this.#flightBytes += what.length
      else this.#landed = true
    }
  }

  #land(limit: number): Uint8Array | null | undefined {
    this.#board()
    const first = this.#flight[0]
    if (first === undefined) return undefined
    if (first.due > this.#clock.now()) {
      this.#later(first.due, () => this.#events?.readable())
      return undefined
    }
    if (first.what === null) return null
    if (!(first.what instanceof Uint8Array)) throw first.what.error
    const bytes = first.what.slice(0, limit)
    if (bytes.length === first.what.length) this.#flight.shift()
    else first.what = first.what.subarray(limit)
    this.#flightBytes -= bytes.length
    return bytes
  }

  #sliceLength(): number {
    const { slice, ragged } = this.#plan
    if (slice === undefined) return Number.POSITIVE_INFINITY
    return ragged ? this.#random.int(1, slice) : slice
  }

  #stutters(op: 'read' | 'write'): boolean {
    const { stutter } = this.#plan
    if (!stutter || this.#random.next() >= stutter) return false
    queueMicrotask(() => (op === 'read' ? this.#events?.readable() : this.#events?.writable()))
    return true
  }

  #throttled(op: 'read' | 'write'): boolean {
    if (this.#plan.throttle === undefined || this.#busyUntil[op] <= this.#clock.now()) return false
    this.#later(this.#busyUntil[op], () => (op === 'read' ? this.#events?.readable() : this.#events?.writable()))
    return true
  }

  #count(op: 'read' | 'write', bytes: number): void {
    if (op === 'read') this.#bytesRead += bytes
    else this.#bytesWritten += bytes
    const { throttle } = this.#plan
    if (throttle !== undefined) this.#busyUntil[op] = Math.max(this.#busyUntil[op], this.#clock.now()) + (bytes / throttle) * 1000
  }

  #later(when: number, fn: () => void): void {
    const cancel = this.#clock.at(when, () => {
      this.#timers.delete(cancel)
      fn()
    })
    this.#timers.add(cancel)
  }

  #throwInjected(op: 'read' | 'write'): void {
    const [first] = this.#failures[op]
    if (first === undefined) return
    if (--first.left <= 0) this.#failures[op].shift()
    throw failure(first.code, op)
  }

  #wake(): void {
    queueMicrotask(() => {
      this.#events?.readable()
      this.#events?.writable()
    })
  }
}

function prefix(data: readonly Uint8Array[], length: number): Uint8Array[] {
  const pieces: Uint8Array[] = []
  let left = length
  for (const piece of data) {
    if (left <= 0) break
    pieces.push(piece.length > left ? piece.subarray(0, left) : piece)
    left -= piece.length
  }
  return pieces
}

/** Which plan a connection gets: one for all, or by its role and its number among those of that role, from 0. */
export type FaultPlans = FaultPlan | ((role: 'dialled' | 'accepted', index: number) => FaultPlan | undefined)

/** A driver whose system calls fail on demand and whose connections follow a plan. */
export class FaultyDriver implements Driver {
  readonly name: string
  readonly guarantees: Guarantees
  readonly lacks: ReadonlySet<string> | undefined
  /** Every connection made so far by `dial`, oldest first, to be cut, silenced or reset. */
  readonly dialled: FaultyStream[] = []
  /** Every connection accepted so far, oldest first. */
  readonly accepted: FaultyStream[] = []
  readonly #inner: Driver
  readonly #plans: FaultPlans
  readonly #failures: Record<'dial' | 'listen' | 'accept', Injected[]> = { dial: [], listen: [], accept: [] }
  readonly #wakeups: Set<() => void> = new Set()

  constructor(inner: Driver, plans: FaultPlans = {}) {
    this.#inner = inner
    this.#plans = plans
    this.name = inner.name
    this.guarantees = inner.guarantees
    this.lacks = inner.lacks
  }

  /**
   * Makes the next `times` calls fail with a POSIX code: `EMFILE` on `accept`, `ENETUNREACH` on `dial`, …; `Infinity`
   * lasts until {@link FaultyDriver.heal}.
   */
  fail(call: 'dial' | 'listen' | 'accept', code: string, times = 1): void {
    this.#failures[call].push({ code, left: times })
    if (call === 'accept') for (const wake of this.#wakeups) queueMicrotask(wake)
  }

  /** Takes back the failures not yet used. */
  heal(call: 'dial' | 'listen' | 'accept'): void {
    this.#failures[call].length = 0
    if (call === 'accept') for (const wake of this.#wakeups) queueMicrotask(wake)
  }

  dial(to: Address, settings: DialSettings, done: (error: unknown, handle?: StreamHandle) => void): () => void {
    const error = this.#injected('dial', 'connect')
    if (error === undefined) {
      return this.#inner.dial(to, settings, (failed, handle) => (handle ? done(null, this.#wrap(handle, 'dialled')) : done(failed)))
    }
    let over = false
    queueMicrotask(() => (over ? undefined : done(error)))
    return () => {
      over = true
    }
  }

  bind(at: Address, settings: BindSettings): Promise<DatagramHandle> {
    return this.#inner.bind(at, settings)
  }

  async listen(at: Address, settings: ListenSettings): Promise<ListenerHandle> {
    const error = this.#injected('listen', 'listen')
    if (error !== undefined) throw error
    const inner = await this.#inner.listen(at, settings)
    let wake: (() => void) | undefined
    const close = (done: () => void) => {
      if (wake) this.#wakeups.delete(wake)
      inner.close(done)
    }
    return {
      local: inner.local,
      get unserved() {
        return inner.unserved
      },
      attach: (events) => {
        wake = () => events.acceptable()
        this.#wakeups.add(wake)
        inner.attach(events)
      },
      accept: () => {
        const failed = this.#injected('accept', 'accept')
        if (failed !== undefined) throw failed
        const handle = inner.accept()
        return handle && this.#wrap(handle, 'accepted')
      },
      pause: () => inner.pause(),
      resume: () => inner.resume(),
      close,
      ref: () => inner.ref(),
      unref: () => inner.unref(),
      options: inner.options,
    }
  }

  #wrap(handle: StreamHandle, role: 'dialled' | 'accepted'): FaultyStream {
    const streams = this[role]
    const stream = new FaultyStream(handle, typeof this.#plans === 'function' ? this.#plans(role, streams.length) : this.#plans)
    streams.push(stream)
    return stream
  }

  #injected(call: 'dial' | 'listen' | 'accept', syscall: string): NodeJS.ErrnoException | undefined {
    const [first] = this.#failures[call]
    if (first === undefined) return undefined
    if (--first.left <= 0) this.#failures[call].shift()
    return failure(first.code, syscall)
  }
}

/**
 * A driver that misbehaves as planned, over any driver.
 *
 * ```ts
 * import { Network } from 'fairlead'
 * import { faulty, memory } from 'fairlead/testing'
 *
 * const driver = faulty(memory(), { slice: 1 })
 * const network = new Network({ driver })
 * driver.fail('dial', 'ECONNREFUSED')
 * console.log(await network.connect('tcp://127.0.0.1:7').catch((error) => error.code)) // ECONNREFUSED
 * await network.close()
 * ```
 */
export function faulty(driver: Driver, plans?: FaultPlans): FaultyDriver {
  return new FaultyDriver(driver, plans)
}
