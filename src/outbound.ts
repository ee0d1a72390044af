/** The write direction of a connection: ordered, bounded, and honest about what was handed over. */

import { copyOf, piecesOf } from './bytes.js'
import { arm, orTimeout, refusePast, shouldYield, turn, turned, within } from './deadline.js'
import type { StreamHandle } from './driver.js'
import { again, broken, Closed, CODES, reported, type SocketError } from './errors.js'
import type { Side } from './inbound.js'
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

/** A write, flush or end in the queue. */
interface Job extends Batch {
  readonly op: string
  /** Of a feed: what was handed over so far. */
  total: number
  /** `write` settles when all is accepted, `some` after the first byte, `flush` and `end` when nothing is left anywhere. */
  readonly kind: 'write' | 'some' | 'flush' | 'end' | 'room' | 'feed'
  readonly feed?: Feed | undefined
  readonly resolve: (value: never) => void
  readonly reject: (error: unknown) => void
  disarm: (() => void) | undefined
}

/** What every queue is until something waits: most connections never have one. */
const NONE: never[] = []
const NOTHING: Batch = Object.freeze({ pieces: NONE, left: 0 })

const DONE: Promise<void> = Promise.resolve()

interface Shutting {
  readonly promise: Promise<void>
  readonly giveUp: (error: unknown) => void
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
    const why = this.#side.refusal as SocketError
    for (const job of this.#jobs.splice(0)) this.#giveUp(job, why)
  }

  /** Whether a write would be accepted at once, or what it fails with; undefined when it would wait, or if this side has ended. */
  get ready(): true | SocketError | undefined {
    if (this.#error !== undefined) return this.#error
    if (this.busy || this.#stash.left > 0) return undefined
    const { unsent } = this.#handle
    const { limits, budget } = this.#side.shared
    return unsent === 0 || (unsent < limits.unsent && !budget.full) ? true : undefined
  }

  #giveUp(job: Job, error: SocketError): void {
    this.#hold(-job.left)
    job.disarm?.()
    const written = job.kind === 'room' ? undefined : { bytesWritten: job.total - job.left }
    job.reject(again(error, { ...this.#side.facts(job.op), ...written }))
  }

  /** Breaks the direction from outside it. */
  fail(error: SocketError): void {
    this.#break(error, false)
  }

  #break(error: unknown, tell: boolean): void {
    if (this.#error !== undefined) return
    this.#error = broken(error, { ...this.#side.facts('write'), phase: 'write' })
    for (const job of this.#jobs.splice(0)) this.#giveUp(job, this.#error)
    if (tell) this.#side.broke(this.#error)
    this.#side.changed()
  }

  /** Gives up what was accepted and not handed over; returns how much that was. */
  drop(): number {
    const lost = this.unsent
    this.#settleUp()
    if (this.#jobs.length === 0 && this.#shutting === undefined) return lost
    // An end that waits for what is given up now would wait for ever.
    const why = this.#side.refusal ?? this.#error
    if (why !== undefined) for (const job of this.#jobs.splice(0)) this.#giveUp(job, why)
    // Nor does every system answer for a socket that was destroyed meanwhile.
    if (why !== undefined) this.#shutting?.giveUp(again(why, this.#side.facts('end')))
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
      const taken = left - batch.left
      if (taken > 0) {
        this.#level()
        this.bytesWritten += taken
        this.#side.moved()
      }
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
        if (job.feed?.failure === undefined) job.resolve((job.kind === 'some' || job.feed ? job.total - job.left : undefined) as never)
        else job.reject(reported(job.feed.failure, { ...this.#side.facts(job.op), bytesWritten: job.total }))
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
      this.#level()
      this.bytesWritten += count
      this.#side.moved()
      if (!feed.over && shouldYield()) {
        void turn().then(() => this.#advance())
        break
      }
    }
    return feed.over
  }

  #refused(op: string): SocketError | undefined {
    const facts = () => ({ ...this.#side.facts(op), bytesWritten: 0 })
    const why = this.#side.refusal ?? this.#error
    if (why !== undefined) return again(why, facts())
    if (this.#ending === undefined || op === 'end' || op === 'flush') return undefined
    return new Closed('ENDED', CODES.Closed.ENDED, facts())
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
      !this.#side.refused &&
      this.#ending === undefined &&
      data.length > 0
    ) {
      try {
        const taken = this.#handle.write(data)
        this.#level()
        this.bytesWritten += taken
        if (taken === data.length) {
          this.#side.moved()
          return shouldYield() ? turn() : DONE
        }
        return this.#accept('write', [taken === 0 ? data : data.subarray(taken)], data.length, taken, undefined)
      } catch (error) {
        this.#break(error, true)
        return rejected(this.#refused('write'))
      }
    }
    return this.#write('write', data, o)
  }

  #write(op: 'write' | 'writeSome', data: Bytes | string | readonly Bytes[], o: Wait | undefined): Promise<void> {
    let pieces: Uint8Array[]
    let total = 0
    try {
      pieces = piecesOf(data)
      for (const piece of pieces) total += piece.length
    } catch (error) {
      return rejected(error)
    }
    const refused = this.#refused(op)
    if (refused !== undefined) return rejected(refused)
    return this.#accept(op, pieces, total, 0, o)
  }

  /** Takes pieces in behind everything accepted before. `already` of `total` bytes were handed over by the caller. */
  #accept(op: 'write' | 'writeSome', pieces: Uint8Array[], total: number, already: number, o: Wait | undefined): Promise<void> {
    const { job, promise, failed } = this.#job(op, op === 'write' ? 'write' : 'some', pieces, total, o)
    job.left = total - already
    if (failed !== undefined) return rejected(failed)
    const broke = this.#offer(job, op, total)
    if (broke !== undefined) return rejected(broke)
    const accepted = job.left === 0 || (job.kind === 'some' && job.left < total)
    if (accepted && this.#jobs.length === 0) {
      job.disarm?.()
      const result = op === 'write' ? undefined : total - job.left
      return (shouldYield() ? turn().then(() => result) : Promise.resolve(result)) as Promise<void>
    }
    this.#hold(job.left)
    this.#enqueue(job)
    return handled(promise)
  }

  /** Gives the driver what it takes now, and stows the rest where there is room; what the direction broke with. */
  #offer(job: Job, op: string, total: number): SocketError | undefined {
    if (this.#jobs.length === 0 && this.#stash.left === 0 && job.left > 0) {
      try {
        this.#hand(job)
      } catch (error) {
        job.disarm?.()
        this.#break(error, true)
        return again(this.#error as SocketError, { ...this.#side.facts(op), bytesWritten: total - job.left })
      }
    }
    if (job.left > 0 && this.#jobs.length === 0) this.#stow(job)
    return undefined
  }

  /** What is welcome now, at once: how many bytes that was. Throws what `writeSome` would fail with. */
  tryWrite(data: Bytes | string | readonly Bytes[]): number {
    const pieces = piecesOf(data)
    const total = pieces.reduce((sum, piece) => sum + piece.length, 0)
    const refused = this.#refused('tryWrite')
    if (refused !== undefined) throw refused
    const job: Job = { op: 'tryWrite', kind: 'some', pieces, left: total, total, resolve: ignore, reject: ignore, disarm: undefined }
    const broke = this.#offer(job, 'tryWrite', total)
    if (broke !== undefined) throw broke
    return total - job.left
  }

  #enqueue(job: Job): void {
    if (this.#jobs === NONE) this.#jobs = [job]
    else this.#jobs.push(job)
  }

  /** Hands over what `feed` has, behind everything accepted before; resolves with how many bytes that was. */
  feed(feed: Feed, o: Wait | undefined): Promise<number> {
    return this.#queue(feed.op, 'feed', o, feed) as unknown as Promise<number>
  }

  /**
   * Takes bytes, which nobody else has, or a feed: true if that is all handed over. Otherwise it goes on by itself, and
   * `resolve` or `reject` is called. For whoever can do without a promise for each piece. Throws what `write` rejects with.
   */
  pour(op: string, what: Uint8Array | Feed, resolve: () => void, reject: (error: unknown) => void): boolean {
    const refused = this.#refused(op)
    if (refused !== undefined) throw refused
    const bytes = what instanceof Uint8Array
    const left = bytes ? what.length : 0
    const job: Job = {
      op,
      kind: bytes ? 'write' : 'feed',
      feed: bytes ? undefined : what,
      pieces: bytes ? [what] : NONE,
      left,
      total: left,
      resolve,
      reject,
      disarm: undefined,
    }
    if (this.#jobs.length === 0 && this.#stash.left === 0) {
      try {
        if (bytes ? this.#hand(job) === left : this.#serve(job)) return true
      } catch (error) {
        this.#break(error, true)
        throw again(this.#error as SocketError, { ...this.#side.facts(op), bytesWritten: job.total - job.left })
      }
    }
    this.#hold(job.left)
    this.#enqueue(job)
    return false
  }

  /** Copies what the driver did not take, if it is little, so that the caller need not wait. */
  #stow(job: Job): void {
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

  /** A job with its promise, not in the queue yet; `failed` if its deadline has passed or its arguments are wrong. */
  #job(
    op: string,
    kind: Job['kind'],
    pieces: Uint8Array[],
    total: number,
    o: Wait | undefined,
    feed?: Feed,
  ): { job: Job; promise: Promise<void>; failed?: unknown } {
    let resolve!: (value: never) => void
    let reject!: (error: unknown) => void
    const promise = new Promise<void>((yes, no) => {
      resolve = yes as (value: never) => void
      reject = no
    })
    const job: Job = { op, kind, feed, pieces, left: total, total, resolve, reject, disarm: undefined }
    const bounded = orTimeout(o, this.#side.writeTime)
    const facts = () => ({ ...this.#side.facts(op), bytesWritten: job.total - job.left })
    try {
      job.disarm = arm(bounded, this.#side.shared.clock, facts, (error) => this.#withdraw(job, error))
      return { job, promise }
    } catch (failed) {
      return { job, promise, failed }
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

  writeSome(data: Bytes | string | readonly Bytes[], o: Wait | undefined): Promise<number> {
    return this.#write('writeSome', data, o) as unknown as Promise<number>
  }

  flush(o: Wait | undefined): Promise<void> {
    return this.#queue('flush', 'flush', o)
  }

  /** Resolves when a write would be accepted at once. May run beside anything. */
  waitWritable(o: Wait | undefined): Promise<void> {
    return this.#queue('waitWritable', 'room', o)
  }

  #queue(op: string, kind: 'flush' | 'room' | 'feed', o: Wait | undefined, feed?: Feed): Promise<void> {
    const refused = this.#refused(op)
    if (refused !== undefined) return rejected(refused)
    const { job, promise, failed } = this.#job(op, kind, [], 0, o, feed)
    if (failed !== undefined) return rejected(failed)
    this.#enqueue(job)
    this.#advance()
    return handled(promise)
  }

  /** Everything accepted, then the end. Later calls wait for the same end. */
  end(o: Wait | undefined): Promise<void> {
    const refused = this.#refused('end')
    if (refused !== undefined) return rejected(refused)
    const facts = () => this.#side.facts('end')
    try {
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
      const { job, promise } = this.#job('end', 'flush', [], 0, undefined)
      this.#enqueue(job)
      this.#advance()
      await promise
    }
    if (this.#error !== undefined) throw again(this.#error, this.#side.facts('end'))
    this.#shutting ??= this.#shutdown()
    await this.#shutting.promise
  }

  #shutdown(): Shutting {
    let giveUp: (error: unknown) => void = () => {}
    const promise = new Promise<void>((resolve, reject) => {
      giveUp = reject
      this.#handle.shutdown((error) => {
        if (error === undefined || error === null) {
          this.#shut = true
          resolve()
          return this.#side.ended()
        }
        // Aborted while the end was on its way: this side did it, not the world.
        const { refusal } = this.#side
        if (refusal !== undefined && refusal.code !== 'CLOSED') return reject(again(refusal, this.#side.facts('end')))
        this.#break(error, true)
        reject(again(this.#error as SocketError, this.#side.facts('end')))
      })
    })
    return { promise, giveUp }
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

function rejected(error: unknown): Promise<never> {
  return handled(Promise.reject(error))
}

/** Marks a rejection as seen: the next operation and `closed` repeat it, so nobody need watch this promise. */
export function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}

function ignore(): void {}
