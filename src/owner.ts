/** Ownership: every socket belongs to exactly one owner and ends with it. The network is the default owner. */

import type { Clock } from './driver.js'
import { Closed, type SocketError } from './errors.js'
import type { CloseReport, Limits } from './stream.js'
import type { Trace, TraceEvent } from './trace.js'

/** What the sockets of one network share. Made by the network, reached through the owner. */
export interface Shared {
  readonly clock: Clock
  readonly trace: Trace
  readonly limits: Readonly<Limits>
  readonly budget: Budget
}

type Untimed<E> = E extends TraceEvent ? Omit<E, 'at'> : never

/** Emits an event of this moment. Where many connections make one each, `trace.wants` is asked first. */
export function tell({ clock, trace }: Shared, event: Untimed<TraceEvent>): void {
  if (trace.wants(event.type)) trace.emit({ at: clock.wall(), ...event } as TraceEvent)
}

/** The bytes a network holds, unsent and unread, against `limits.total`. */
export class Budget {
  readonly limit: number
  #held = 0
  readonly #waiting: Set<() => void> = new Set()

  constructor(limit: number) {
    this.limit = limit
  }

  get held(): number {
    return this.#held
  }

  /** Whether the cap is reached: writers wait and accepting pauses until `whenFree`. */
  get full(): boolean {
    return this.#held >= this.limit
  }

  change(bytes: number): void {
    const was = this.full
    this.#held += bytes
    if (was && !this.full) {
      const waiting = [...this.#waiting]
      this.#waiting.clear()
      for (const fn of waiting) fn()
    }
  }

  /** Calls `fn` once when the cap is no longer reached; returns what cancels that. */
  whenFree(fn: () => void): () => void {
    this.#waiting.add(fn)
    return () => this.#waiting.delete(fn)
  }
}

/** What an owner needs of a socket. */
export interface Owned {
  readonly id: number
  close(o?: { timeout?: number | undefined }): Promise<CloseReport>
  abort(reason?: unknown): void
}

export interface EndReport {
  /** Sockets that ended in order. */
  readonly closed: number
  /** Sockets that had to be aborted. */
  readonly aborted: number
}

/**
 * What a socket belongs to and ends with.
 *
 * @internal constructed through the network until owners can be nested
 */
export class Owner {
  readonly name: string
  readonly shared: Shared
  readonly #sockets: Set<Owned> = new Set()
  readonly #controller: AbortController = new AbortController()
  #idle: (() => void)[] = []

  constructor(name: string, shared: Shared) {
    this.name = name
    this.shared = shared
  }

  /** Aborts when the owner ends. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** The sockets that live now, oldest first. */
  sockets(): Owned[] {
    return [...this.#sockets]
  }

  /** Registers a socket that was just opened. Throws `Closed` when the owner has ended. @internal */
  add(socket: Owned): void {
    if (this.#controller.signal.aborted) throw new Closed('OWNER_ENDED', `the owner ${this.name} has ended`)
    this.#sockets.add(socket)
  }

  /** Forgets a socket whose descriptor was given back. @internal */
  remove(socket: Owned): void {
    this.#sockets.delete(socket)
    if (this.#sockets.size === 0) for (const fn of this.#idle.splice(0)) fn()
  }

  /**
   * Ends everything that belongs to this owner: closes it in order within `within` milliseconds (default: the linger
   * time), then aborts what is left; `abort: true` aborts at once. Resolves when every descriptor has been given back.
   */
  async end(o: { within?: number | undefined; abort?: boolean | undefined } = {}): Promise<EndReport> {
    if (!this.#controller.signal.aborted) this.#controller.abort(new Closed('OWNER_ENDED', `the owner ${this.name} has ended`))
    const live = this.sockets()
    let aborted = 0
    if (o.abort) {
      for (const socket of live) socket.abort(this.#controller.signal.reason)
      aborted = live.length
    } else {
      const timeout = o.within ?? this.shared.limits.lingerTime
      const reports = await Promise.all(live.map((socket) => socket.close({ timeout })))
      aborted = reports.filter((report) => !report.clean && isOurDoing(report.reason)).length
    }
    if (this.#sockets.size > 0) await new Promise<void>((resolve) => this.#idle.push(resolve))
    return { closed: live.length - aborted, aborted }
  }
}

function isOurDoing(reason: SocketError | undefined): boolean {
  return reason !== undefined && reason.name !== 'Broken'
}

let ofModule: (() => Owner) | undefined

/** The owner of what is opened without one: the default network, which says so when it is first needed. @internal */
export function defaultOwner(): Owner {
  if (ofModule === undefined) throw new Error('there is no default network: import the package through its main door')
  return ofModule()
}

/** @internal called by network.ts, which makes the default network */
export function setDefaultOwner(make: () => Owner): void {
  ofModule = make
}
