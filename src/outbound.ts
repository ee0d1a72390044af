/** The write direction of a connection: ordered, bounded, and honest about what was handed over. */

import { copyOf, piecesOf } from './bytes.js'
import { arm, orTimeout, refusePast, shouldYield, turn, turned, within } from './deadline.js'
import type { StreamHandle } from './driver.js'
import { again, broken, Closed, CODES, type ErrorFacts, reported, type SocketError } from './errors.js'
import type { Side } from './inbound.js'
import { capture, captured, handled, ignore, rejected } from './settle.js'
import type { Bytes, Wait } from './stream.js'

/** Bytes to be handed over. */
interface Batch {
  readonly pieces: Uint8Array[]
  /** Bytes not handed over yet. */
  left: number
}

/** Bytes that are handed over in a way of their own when their turn in the queue comes: not from memory of this process. */
export interface Feed {
  readonly op: string
  /** Everything was handed over, or cannot be. */
  readonly over: boolean
  /** Why it cannot be, where that says nothing of the stream. */
  readonly failure?: unknown
  /**
   * Hands over what the driver takes now: how many bytes. 0: nothing now, and either the driver tells when, or whoever made
   * this calls `Outbound.writable`. Throws what broke the direction.
   */
  hand(): number
}

/**
 * What stands in the queue, or could: `write` settles when all is accepted, `some` after the first byte, `flush` when nothing is
 * left anywhere, `room` when a write would be welcome.
 */
class Job implements Batch {
  readonly op: string
  readonly kind: 'write' | 'some' | 'flush' | 'room' | 'feed'
  readonly pieces: Uint8Array[]
  left = 0
  /** Of a feed: what was handed over so far. */
  total: number
  readonly feed: Feed | undefined
  resolve: (value: never) => void = ignore
  reject: (error: unknown) => void = ignore
  disarm: (() => void) | undefined

  constructor(op: string, kind: Job['kind'], pieces: Uint8Array[] = NONE, feed?: Feed) {
    this.op = op
    this.kind = kind
    this.pieces = pieces
    this.feed = feed
    for (const piece of pieces) this.left += piece.length
    this.total = this.left
  }

  get written(): number {
    return this.total - this.left
  }

  /** What its promise gives. */
  get result(): number | undefined {
    return this.kind === 'some' || this.kind === 'feed' ? this.written : undefined
  }

  /** A promise that it settles; pre-handled. */
  promise<T>(): Promise<T> {
    const promise = new Promise<T>(capture)
    this.resolve = captured.resolve
    this.reject = captured.reject
    return handled(promise)
  }
}

/** What every queue is until something waits: most connections never have one. */
const NONE: never[] = []
const NOTHING: Batch = Object.freeze({ pieces: NONE, left: 0 })

const DONE: Promise<void> = Promise.resolve()

interface Shutting {
  readonly promise: Promise<void>
  readonly reject: (error: unknown) => void
}

export class Outbound {
  bytesWritten = 0
  readonly #handle: StreamHandle
  readonly #side: Side
  #jobs: Job[] = NONE
  /** Copies of what was accepted and the driver has not taken. Always goes out before the jobs. */
  #stash: Batch = NOTHING
  /** What the driver has taken and not handed over, as it was counted last. */
  #flying = 0
  #error: SocketError | undefined
  #ending: Promise<void> | undefined
  /** The end on its way to the system. */
  #shutting: Shutting | undefined
  #shut = false

  constructor(handle: StreamHandle, side: Side) {
    this.#handle = handle
    this.#side = side
  }

  /** Bytes accepted and not handed to the system. */
  get unsent(): number {
    return this.#stash.left + this.#handle.unsent
  }

  get ended(): boolean {
    return this.#ending !== undefined
  }

  /** The end was handed to the system. */
  get shut(): boolean {
    return this.#shut
  }

  get busy(): boolean {
    return this.#jobs.length > 0 || this.#ending !== undefined
  }

  /** The operation that waits longest. */
  get waiting(): string | undefined {
    return this.#jobs[0]?.op ?? (this.#ending !== undefined && !this.#shut && this.#error === undefined ? 'end' : undefined)
  }

  get failure(): SocketError | undefined {
    return this.#error
  }

  /** From now on everything is refused: wakes what waits; what was accepted stays to be flushed. */
  refuse(): void {
    if (this.#jobs.length === 0) return
    this.#giveUp(this.#side.refusal as SocketError)
  }

  /** Whether a write would be accepted at once, or what it fails with; undefined when it would wait, or if this side has ended. */
  get ready(): true | SocketError | undefined {
    if (this.#error !== undefined) return this.#error
    if (this.busy || this.#stash.left > 0) return undefined
    const { unsent } = this.#handle
    const { limits, budget } = this.#side.shared
    return unsent === 0 || (unsent < limits.unsent && !budget.full) ? true : undefined
  }

  #giveUp(error: SocketError): void {
    for (const job of this.#jobs.splice(0)) {
      this.#hold(-job.left)
      job.disarm?.()
      job.reject(again(error, job.kind === 'room' ? this.#side.facts(job.op) : this.#facts(job)))
    }
  }

  #facts(job: Job): ErrorFacts {
    return { ...this.#side.facts(job.op), bytesWritten: job.written }
  }

  /** Breaks the direction from outside it. */
  fail(error: SocketError): void {
    this.#break(error, false)
  }

  #break(error: unknown, tell: boolean): void {
    if (this.#error !== undefined) return
    this.#error = broken(error, { ...this.#side.facts('write'), phase: 'write' })
    this.#giveUp(this.#error)
    if (tell) this.#side.broke(this.#error)
    this.#side.changed()
  }

  /** Gives up what was accepted and not handed over; returns how much that was. */
  drop(): number {
    const lost = this.unsent
    this.#settleUp()
    if (this.#jobs.length === 0 && this.#shutting === undefined) return lost
    const why = this.#side.refusal ?? this.#error
    if (why === undefined) return lost
    // An end that waits for what is given up now would wait for ever.
    this.#giveUp(why)
    // Nor does every system answer for a socket that was destroyed meanwhile.
    this.#shutting?.reject(again(why, this.#side.facts('end')))
    return lost
  }

  /** Gives what was accepted and not handed over to whoever takes the stream over. */
  surrender(): Uint8Array[] {
    const { pieces } = this.#stash
    this.#settleUp()
    return pieces
  }

  #hold(change: number): void {
    if (change !== 0) this.#side.shared.budget.change(change)
  }

  /** Counts what the driver holds. */
  #level(): void {
    const { unsent } = this.#handle
    if (unsent === this.#flying) return
    this.#hold(unsent - this.#flying)
    this.#flying = unsent
  }

  /** Whatever the driver still holds is no longer this connection's. */
  #settleUp(): void {
    this.#hold(-this.#stash.left - this.#flying)
    this.#stash = NOTHING
    this.#flying = 0
  }

  #count(taken: number): void {
    if (taken === 0) return
    this.#level()
    this.bytesWritten += taken
    this.#side.moved()
  }

  /** Hands pieces over until the driver takes no more; removes what it took. */
  #hand(batch: Batch): number {
    const { pieces, left } = batch
    try {
      while (pieces.length > 0) {
        const count = pieces.length === 1 ? this.#handle.write(pieces[0] as Uint8Array) : this.#handle.writev(pieces)
        if (count === 0) break
        batch.left -= count
        consume(pieces, count)
      }
    } finally {
      // Also what went out before a failure did go out.
      this.#count(left - batch.left)
    }
    return left - batch.left
  }

  /** The driver may take something again. */
  writable(): void {
    turned()
    this.#level()
    this.#advance()
  }

  #advance(): void {
    if (this.#error !== undefined) return
    try {
      if (this.#stash.left > 0) this.#handHeld(this.#stash)
      while (this.#stash.left === 0 && this.#jobs.length > 0) {
        const job = this.#jobs[0] as Job
        if (!this.#serve(job)) return
        this.#jobs.shift()
        job.disarm?.()
        if (job.feed?.failure === undefined) job.resolve(job.result as never)
        else job.reject(reported(job.feed.failure, this.#facts(job)))
        if (this.#jobs.length === 0) this.#side.changed()
      }
    } catch (error) {
      this.#break(error, true)
    }
  }

  /** As `#hand`, of bytes that are counted. */
  #handHeld(batch: Batch): number {
    const { left } = batch
    try {
      return this.#hand(batch)
    } finally {
      this.#hold(batch.left - left)
    }
  }

  /** Does what can be done of the first job; true when it has settled. */
  #serve(job: Job): boolean {
    if (job.feed !== undefined) return this.#serveFeed(job, job.feed)
    if (job.left > 0) {
      if (this.#handHeld(job) > 0 && job.kind === 'some') {
        this.#hold(-job.left)
        return true
      }
      return job.left === 0
    }
    if (job.kind === 'room') return this.#handle.unsent === 0 || this.#handle.unsent < this.#side.shared.limits.unsent
    return this.#handle.unsent === 0
  }

  #serveFeed(job: Job, feed: Feed): boolean {
    while (!feed.over) {
      const count = feed.hand()
      if (count === 0) break
      job.total += count
      this.#count(count)
      if (!feed.over && shouldYield()) {
        void turn().then(() => this.#advance())
        break
      }
    }
    return feed.over
  }

  /** Throws unless `op` may be accepted. */
  #check(op: string): void {
    const facts = () => ({ ...this.#side.facts(op), bytesWritten: 0 })
    const why = this.#side.refusal ?? this.#error
    if (why !== undefined) throw again(why, facts())
    if (this.#ending !== undefined && op !== 'end' && op !== 'flush') throw new Closed('ENDED', CODES.Closed.ENDED, facts())
  }

  write(data: Bytes | string | readonly Bytes[], o: Wait | undefined): Promise<void> {
    // The usual case first: nothing waits, and the system takes it all.
    if (
      data instanceof Uint8Array &&
      o === undefined &&
      this.#side.writeTime === undefined &&
      this.#jobs.length === 0 &&
      this.#stash.left === 0 &&
      this.#error === undefined &&
      this.#side.refusal === undefined &&
      this.#ending === undefined &&
      data.length > 0
    ) {
      try {
        const taken = this.#handle.write(data)
        this.#count(taken)
        if (taken === data.length) return shouldYield() ? turn() : DONE
        const job = new Job('write', 'write', [data.subarray(taken)])
        job.total = data.length
        return this.#accept(job, undefined)
      } catch (error) {
        // Told below, as to whatever comes behind it.
        this.#break(error, true)
      }
    }
    return this.#write('write', 'write', data, o)
  }

  writeSome(data: Bytes | string | readonly Bytes[], o: Wait | undefined): Promise<number> {
    return this.#write('writeSome', 'some', data, o)
  }

  #write<T>(op: string, kind: Job['kind'], data: Bytes | string | readonly Bytes[], o: Wait | undefined): Promise<T> {
    let job: Job
    try {
      job = new Job(op, kind, piecesOf(data))
      this.#check(op)
    } catch (error) {
      return rejected(error)
    }
    return this.#accept(job, o)
  }

  /** Takes a write in behind everything accepted before. */
  #accept<T>(job: Job, o: Wait | undefined): Promise<T> {
    try {
      this.#arm(job, o)
      this.#offer(job)
    } catch (error) {
      return rejected(error)
    }
    this.#stow(job)
    const isAccepted = job.left === 0 || (job.kind === 'some' && job.written > 0)
    if (isAccepted && this.#jobs.length === 0) {
      job.disarm?.()
      const { result } = job
      return (shouldYield() ? turn().then(() => result) : Promise.resolve(result)) as Promise<T>
    }
    this.#hold(job.left)
    this.#enqueue(job)
    return job.promise()
  }

  #arm(job: Job, o: Wait | undefined): void {
    const bounded = orTimeout(o, this.#side.writeTime)
    if (bounded === undefined) return
    const facts = () => this.#facts(job)
    job.disarm = arm(bounded, this.#side.shared.clock, facts, (error) => this.#withdraw(job, error))
  }

  /** Gives the driver what it takes now, unless something comes before it. Throws what the direction breaks with. */
  #offer(job: Job): void {
    if (this.#jobs.length > 0 || this.#stash.left > 0) return
    try {
      if (job.feed === undefined) this.#hand(job)
      else this.#serveFeed(job, job.feed)
    } catch (error) {
      job.disarm?.()
      this.#break(error, true)
      throw again(this.#error as SocketError, this.#facts(job))
    }
  }

  /** What is welcome now, at once: how many bytes that was. Throws what `writeSome` would fail with. */
  tryWrite(data: Bytes | string | readonly Bytes[]): number {
    const job = new Job('tryWrite', 'some', piecesOf(data))
    this.#check(job.op)
    this.#offer(job)
    this.#stow(job)
    return job.written
  }

  #enqueue(job: Job): void {
    if (this.#jobs === NONE) this.#jobs = [job]
    else this.#jobs.push(job)
  }

  /** Hands over what `feed` has, behind everything accepted before; resolves with how many bytes that was. */
  feed(feed: Feed, o: Wait | undefined): Promise<number> {
    return this.#submit(new Job(feed.op, 'feed', NONE, feed), o)
  }

  /**
   * Takes bytes, which nobody else has, or a feed: true if that is all handed over. Otherwise it goes on by itself, and
   * `resolve` or `reject` is called. For whoever can do without a promise for each piece. Throws what `write` rejects with.
   */
  pour(op: string, what: Uint8Array | Feed, resolve: () => void, reject: (error: unknown) => void): boolean {
    this.#check(op)
    const job = what instanceof Uint8Array ? new Job(op, 'write', [what]) : new Job(op, 'feed', NONE, what)
    job.resolve = resolve
    job.reject = reject
    this.#offer(job)
    if (job.feed === undefined ? job.left === 0 : job.feed.over) return true
    this.#hold(job.left)
    this.#enqueue(job)
    return false
  }

  /** Copies what the driver did not take, if it is little and nothing waits, so that the caller need not wait. */
  #stow(job: Job): void {
    if (job.left === 0 || this.#jobs.length > 0) return
    const { limits, budget } = this.#side.shared
    const room = limits.unsent - this.#stash.left - this.#handle.unsent
    if (budget.full || room <= 0 || (job.kind === 'write' && job.left > room)) return
    let left = Math.min(room, job.left)
    job.left -= left
    if (this.#stash === NOTHING) this.#stash = { pieces: [], left: 0 }
    this.#stash.left += left
    this.#hold(left)
    for (const piece of job.pieces) {
      if (left === 0) break
      const copy = copyOf(piece.length > left ? piece.subarray(0, left) : piece)
      this.#stash.pieces.push(copy)
      left -= copy.length
    }
  }

  #withdraw(job: Job, error: SocketError): void {
    const at = this.#jobs.indexOf(job)
    if (at === -1) return
    this.#jobs.splice(at, 1)
    this.#hold(-job.left)
    job.reject(error)
    this.#advance()
    this.#side.changed()
  }

  flush(o: Wait | undefined): Promise<void> {
    return this.#submit(new Job('flush', 'flush'), o)
  }

  /** Resolves when a write would be accepted at once. May run beside anything. */
  waitWritable(o: Wait | undefined): Promise<void> {
    return this.#submit(new Job('waitWritable', 'room'), o)
  }

  #submit<T>(job: Job, o: Wait | undefined): Promise<T> {
    try {
      this.#check(job.op)
      this.#arm(job, o)
    } catch (error) {
      return rejected(error)
    }
    return this.#queue(job)
  }

  #queue<T>(job: Job): Promise<T> {
    const promise = job.promise<T>()
    this.#enqueue(job)
    this.#advance()
    return promise
  }

  /** Everything accepted, then the end. Later calls wait for the same end. */
  end(o: Wait | undefined): Promise<void> {
    const facts = () => this.#side.facts('end')
    try {
      this.#check('end')
      // What has passed already must not end anything.
      refusePast(o, this.#side.shared.clock, facts)
    } catch (error) {
      return rejected(error)
    }
    this.#ending ??= handled(this.finish())
    if (o === undefined) return this.#ending
    return handled(within(this.#ending, o, this.#side.shared.clock, facts))
  }

  /** Flushes everything accepted and hands the end to the system; for `end`, and for `close` after `refuse`. */
  async finish(): Promise<void> {
    if (this.#error === undefined && (this.#stash.left > 0 || this.#jobs.length > 0 || this.#handle.unsent > 0)) {
      const job = new Job('end', 'flush')
      this.#arm(job, undefined)
      await this.#queue(job)
    }
    if (this.#error !== undefined) throw again(this.#error, this.#side.facts('end'))
    this.#shutting ??= this.#shutdown()
    await this.#shutting.promise
  }

  #shutdown(): Shutting {
    const promise = new Promise<void>(capture)
    const { resolve, reject } = captured
    this.#handle.shutdown((error) => {
      if (error === undefined || error === null) {
        this.#shut = true
        resolve(undefined)
        return this.#side.ended()
      }
      // Aborted while the end was on its way: this side did it, not the world.
      const { refusal } = this.#side
      if (refusal !== undefined && refusal.code !== 'CLOSED') return reject(again(refusal, this.#side.facts('end')))
      this.#break(error, true)
      reject(again(this.#error as SocketError, this.#side.facts('end')))
    })
    return { promise, reject }
  }
}

/** Removes the first `count` bytes; all whole pieces at once, as there may be very many. */
function consume(pieces: Uint8Array[], count: number): void {
  let left = count
  let whole = 0
  while (left > 0) {
    const piece = pieces[whole] as Uint8Array
    if (left < piece.length) {
      pieces[whole] = piece.subarray(left)
      break
    }
    left -= piece.length
    whole++
  }
  if (whole === pieces.length) pieces.length = 0
  else if (whole > 0) pieces.splice(0, whole)
}
