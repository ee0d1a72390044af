/** The one reader slot of a socket: a receive that waits, or a claim of whatever receives for longer. */

import { arm, shouldYield, turn, turned } from './deadline.js'
import { again, Busy, CODES, type ErrorFacts, type SocketError } from './errors.js'
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
  readonly shared: Shared
  facts(op: string): ErrorFacts
  /** The slot may be free, or the socket be closed. */
  changed(): void
}

/**
 * Events since the loop is known to have turned. Some runtimes tell all that a socket has, and what comes meanwhile, in one go,
 * which is for ever if each datagram is answered by more than one. To hear that it turned costs a turn in which it does not sleep,
 * so it is asked once in a while.
 */
let events = 0
const FEW = 512
const MANY = 1024

function forget(): void {
  events = 0
}

export class ReaderSlot {
  readonly #of: Slotted
  #pending: Pending | undefined
  /** Who holds the slot beyond a single operation. */
  #claimant: string | undefined
  #refusal: SocketError | undefined

  constructor(of: Slotted) {
    this.#of = of
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
    if (this.#refusal !== undefined) return pending.reject(this.#refused(pending.op))
    if (this.#pending !== undefined || (this.#claimant !== undefined && !claimed)) return pending.reject(this.inUse(pending.op))
    try {
      if (wait !== undefined) pending.disarm = this.#arm(wait, pending)
      // Kept waiting before it takes anything, or another receiver could overtake it with what comes after.
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

  #arm(wait: Wait, pending: Pending): (() => void) | undefined {
    return arm(
      wait,
      this.#of.shared.clock,
      () => this.#of.facts(pending.op),
      (error) => {
        this.withdraw(pending)
        pending.reject(error)
      },
    )
  }

  /** There may be something: the operation that waits tries again. */
  retry(): void {
    if (++events === FEW) setImmediate(forget)
    if (events <= MANY) turned()
    const pending = this.#pending
    if (pending === undefined) return
    if (shouldYield()) return this.#postpone(pending)
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
    this.#of.changed()
    return true
  }

  /** Lets an operation of the claimant hear of news, without trying it now. */
  park(pending: Pending): void {
    this.#pending = pending
  }

  /** Throws unless `op` may receive now. */
  check(op: string): void {
    if (this.#refusal !== undefined) throw this.#refused(op)
    if (this.busy) throw this.inUse(op)
  }

  /** Takes the slot until `unclaim`. */
  claim(op: string): void {
    this.check(op)
    this.#claimant = op
  }

  unclaim(): void {
    this.#claimant = undefined
    this.#of.changed()
  }

  /** Refuses everything from now on and wakes what waits. */
  refuse(error: SocketError): void {
    this.#refusal ??= error
    const pending = this.#pending
    if (pending !== undefined && this.withdraw(pending)) pending.reject(this.#refused(pending.op))
    this.#of.changed()
  }

  #refused(op: string): SocketError {
    return again(this.#refusal as SocketError, this.#of.facts(op))
  }

  inUse(op: string): SocketError {
    const by = this.#claimant ?? this.#pending?.op
    return new Busy('BUSY', `${CODES.Busy.BUSY}: ${op} while ${by} is receiving`, this.#of.facts(op))
  }
}
