/** The one reader slot of a socket: a receive that waits, or a claim of whatever receives for longer. */

import { arm, orTimeout, shouldYield, turn } from './deadline.js'
import { again, Busy, Cancelled, CODES, type ErrorFacts, type SocketError } from './errors.js'
import type { Shared } from './owner.js'
import type { Wait } from './stream.js'

/** An operation that may wait. `attempt` gives its result, `undefined` to go on waiting, or throws. */
export interface Pending {
  readonly op: string
  attempt(): unknown
  resolve(value: never): void
  reject(error: unknown): void
  disarm: (() => void) | undefined
}

/** Whose slot it is. */
export interface Slotted {
  readonly kind: 'connection' | 'datagram'
  readonly shared: Shared
  /** Default time of an operation, milliseconds. */
  readonly readTime?: number | undefined
  /** What every operation fails with at once: the socket was closed on this side, or given away. */
  readonly refusal: SocketError | undefined
  facts(op: string): ErrorFacts
  /** The slot may be free, the socket closed, or what `ready` answers be another without the driver having said so. */
  changed(): void
}

export class ReaderSlot<S extends Slotted = Slotted> {
  readonly side: S
  #pending: Pending | undefined
  /** Who holds the slot beyond a single operation. */
  #claimant: string | undefined

  constructor(side: S) {
    this.side = side
  }

  get busy(): boolean {
    return this.#pending !== undefined || this.#claimant !== undefined
  }

  /** The operation that waits; a delivery is none. */
  get waiting(): string | undefined {
    const op = this.#pending?.op
    return op === 'deliver' ? undefined : op
  }

  /** Starts an operation on behalf of the claimant, or of nobody: tried at once, and left to wait if that gives nothing. */
  start(pending: Pending, wait: Wait | undefined, claimed = false): void {
    try {
      this.check(pending.op, claimed)
      if (wait !== undefined || this.side.readTime !== undefined) pending.disarm = this.#arm(wait, pending)
      // Kept waiting before it takes anything, or another reader could overtake it with what comes after.
      if (shouldYield()) return this.#postpone(pending)
      const result = pending.attempt()
      if (result === undefined) {
        this.#pending = pending
        return
      }
      pending.disarm?.()
      pending.resolve(result as never)
    } catch (error) {
      pending.disarm?.()
      pending.reject(error)
    }
  }

  /** Tries when the loop has turned. Apart, since a closure over `pending` would cost each operation a context. */
  #postpone(pending: Pending): void {
    this.#pending = pending
    void turn().then(() => this.#pending === pending && this.retry())
  }

  #arm(wait: Wait | undefined, pending: Pending): (() => void) | undefined {
    return arm(
      orTimeout(wait, this.side.readTime),
      this.side.shared.clock,
      () => this.side.facts(pending.op),
      (error) => {
        this.withdraw(pending)
        pending.reject(error)
      },
    )
  }

  /** There may be something: the operation that waits tries again. */
  retry(): void {
    const pending = this.#pending
    if (pending === undefined) return
    let result: unknown
    try {
      result = pending.attempt()
    } catch (error) {
      if (this.withdraw(pending)) pending.reject(error)
      return
    }
    if (result !== undefined && this.withdraw(pending)) pending.resolve(result as never)
  }

  /** Takes back an operation that waits, so that nothing is fetched for it; whether it did wait. It is the caller's to settle. */
  withdraw(pending: Pending): boolean {
    if (this.#pending !== pending) return false
    this.#pending = undefined
    pending.disarm?.()
    this.side.changed()
    return true
  }

  /** Takes back the operation that waits and tells it so. */
  cancel(): void {
    const pending = this.#pending
    if (pending === undefined || !this.withdraw(pending)) return
    pending.reject(new Cancelled('CANCELLED', `${CODES.Cancelled.CANCELLED}: ${pending.op}`, this.side.facts(pending.op)))
  }

  /** Lets an operation of the claimant hear of news, for as long as it takes, without trying it now. */
  park(pending: Pending): void {
    this.admit(pending.op, true)
    this.#pending = pending
  }

  /** Throws where everything is refused, and beside a claimant that `op` is not on behalf of. */
  admit(op: string, claimed: boolean): void {
    const { refusal } = this.side
    if (refusal !== undefined) throw again(refusal, this.side.facts(op))
    if (this.#claimant !== undefined && !claimed) throw this.inUse(op)
  }

  /** Throws unless `op` may receive now. */
  check(op: string, claimed = false): void {
    this.admit(op, claimed)
    if (this.#pending !== undefined) throw this.inUse(op)
  }

  /** Takes the slot; `unclaim` gives it back. */
  occupy(op: string): void {
    this.check(op)
    this.#claimant = op
  }

  unclaim(): void {
    this.#claimant = undefined
    this.side.changed()
  }

  /** From now on everything is refused: wakes what waits. */
  refuse(): void {
    const pending = this.#pending
    if (pending !== undefined && this.withdraw(pending))
      pending.reject(again(this.side.refusal as SocketError, this.side.facts(pending.op)))
    this.side.changed()
  }

  inUse(op: string): SocketError {
    const by = this.#claimant ?? this.#pending?.op
    const verb = this.side.kind === 'datagram' ? 'receiving' : 'reading'
    return new Busy('BUSY', `${CODES.Busy.BUSY}: ${op} while ${by} is ${verb}`, this.side.facts(op))
  }
}
