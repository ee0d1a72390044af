/** The life of a datagram socket: what its driver, its two halves and its owner hold of it, and the one place where it ends. */

import { abortReason } from './accept.js'
import { type Address, formatAddress } from './address.js'
import { DatagramInbound, type DatagramSide } from './datagram-in.js'
import { DatagramOutbound, type Route } from './datagram-out.js'
import { arm } from './deadline.js'
import type { DatagramHandle, StreamEvents } from './driver.js'
import {
  again,
  Broken,
  broken,
  Closed,
  CODES,
  type ErrorFacts,
  type Phase,
  type SocketError,
  systemCode,
  SystemFailure,
  systemFailure,
} from './errors.js'
import { type Member, type Owned, type Owner, type Shared, tellClosed, tellOpened } from './owner.js'
import { descriptorOf, type Giver, giveUp, mustGive } from './passing.js'
import type { CloseReport, Wait } from './stream.js'
import { nextId } from './trace.js'

/** The endpoint of a datagram socket as text. */
export type DatagramUrl = `udp://${string}` | `unixgram:${string}` | `unixpacket:${string}`

/** How a datagram socket came to be. */
export interface DatagramOrigin extends Route {
  readonly owner: Owner
  readonly driver: string
  /** What `send` reaches it by; of a connected one, its peer. */
  readonly endpoint: DatagramUrl
  /** Bytes the driver holds of datagrams nobody received. */
  readonly meter: { unread: number }
}

/** What is true of a socket whether or not anybody still has its object; as `Lifetime` is to a connection. */
export class DatagramLife implements DatagramSide, StreamEvents, Member, Giver {
  readonly kind = 'datagram'
  readonly id: number = nextId()
  readonly handle: DatagramHandle
  readonly origin: DatagramOrigin
  readonly in: DatagramInbound
  readonly out: DatagramOutbound
  owner: Owner
  face: Owned | WeakRef<Owned>
  /** A moment of the network's clock. */
  readonly openedAt: number
  readonly closed: Promise<CloseReport>
  /** Who selects from the socket. */
  readonly watchers: Set<() => void> = new Set()
  /** Why every operation is refused: it was closed or aborted on this side. */
  over: SocketError | undefined
  /** What has come is thrown away with the socket. */
  readonly holds = false
  #report: CloseReport | undefined
  #settle!: (report: CloseReport) => void
  #controller: AbortController | undefined
  #shutting = false

  constructor(handle: DatagramHandle, origin: DatagramOrigin, face: Owned) {
    this.handle = handle
    this.origin = origin
    this.owner = origin.owner
    this.face = face
    this.openedAt = Math.trunc(origin.owner.shared.clock.now())
    this.closed = new Promise((resolve) => {
      this.#settle = resolve
    })
    this.in = new DatagramInbound(handle, this)
    this.out = new DatagramOutbound(handle, this, origin, this.in)
  }

  /** Begins, once the object knows this. Throws `Closed` if the owner ended while the socket was being made. */
  begin(): void {
    const { handle, owner, origin } = this
    owner.add(this)
    handle.attach(this)
    const { local, remote } = handle
    const role = remote === undefined ? 'bound' : 'dialled'
    tellOpened(owner, { kind: 'datagram', id: this.id, role, driver: origin.driver }, local, remote)
  }

  get shared(): Shared {
    return this.owner.shared
  }

  get refusal(): SocketError | undefined {
    return this.over
  }

  facts(op: string): ErrorFacts {
    const { local, remote } = this.handle
    return { op, endpoint: this.origin.endpoint, local: formatAddress(local), ...(remote && { remote: formatAddress(remote) }) }
  }

  /** What the world did is `Broken`; what the system would not do is `SystemFailure`. */
  failure(error: unknown, op: string, phase: Phase): SocketError {
    const code = systemCode(error)
    // A driver may know more: for whom the datagram was, and how long it could have been.
    const { to, limit } = Object(error) as { to?: Address; limit?: number }
    const facts = { ...this.facts(op), ...(to && { remote: formatAddress(to) }), phase }
    if (code === 'EMSGSIZE' && limit !== undefined) return new SystemFailure(code, (error as Error).message, { ...facts, cause: error })
    return code !== undefined && Object.hasOwn(CODES.Broken, code) ? broken(error, facts) : systemFailure(error, facts)
  }

  hold(change: number): void {
    this.origin.meter.unread += change
    this.shared.budget.change(change)
  }

  changed(): void {
    if (this.watchers.size > 0) for (const changed of this.watchers) changed()
  }

  readable(): void {
    this.in.readable()
    this.changed()
  }

  writable(): void {
    this.out.writable()
  }

  /** What a user started and has not come to its end. */
  get pending(): string | undefined {
    return this.in.waiting ?? this.out.waiting
  }

  /** Throws what a socket that is over has to say. */
  mustLive(op: string): void {
    if (this.over !== undefined) throw again(this.over, this.facts(op))
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#report !== undefined) this.#controller.abort(this.#report.reason ?? this.over)
    }
    return this.#controller.signal
  }

  /** As `DatagramSocket.close`. */
  close(o?: Wait): Promise<CloseReport> {
    if (this.#report !== undefined) return this.closed
    const { clock, limits } = this.shared
    const facts = this.facts('close')
    if (this.over === undefined) {
      this.#refuse(new Closed('CLOSED', CODES.Closed.CLOSED, facts))
      const late = new Broken('ETIMEDOUT', `the system did not take what was left within ${limits.lingerTime} ms`, facts)
      void this.closed.then(clock.at(clock.now() + limits.lingerTime, () => this.#give(late)))
      this.out.whenDrained(() => this.#shut())
    }
    const give = (error: SocketError) => this.#give(error)
    try {
      const stop = arm(o, clock, () => facts, give)
      if (stop !== undefined) void this.closed.then(stop)
    } catch (error) {
      give(broken(error, facts))
    }
    return this.closed
  }

  /** As `DatagramSocket.abort`. */
  abort(reason?: unknown): void {
    if (this.#report !== undefined) return
    const error = abortReason(reason, this.facts('abort'))
    this.#refuse(error)
    this.#give(error)
  }

  get number(): number | undefined {
    return descriptorOf(this.handle)
  }

  mayGive(op: string): void {
    this.mustLive(op)
    const pending = this.pending ?? (this.in.busy ? 'a reader' : undefined)
    mustGive(this.handle, this.origin.driver, this.facts(op), { pending, unread: this.origin.meter.unread })
  }

  give(op: string): number {
    this.mayGive(op)
    const facts = this.facts(op)
    const descriptor = giveUp(this.handle, facts)
    this.#refuse(new Closed('CONSUMED', `${CODES.Closed.CONSUMED}: ${op}`, facts))
    this.#shut()
    return descriptor
  }

  #refuse(error: SocketError): void {
    if (this.over !== undefined) return
    this.over = error
    this.out.refuse(error)
    this.in.refuse()
  }

  #give(reason: SocketError): void {
    if (this.#report !== undefined) return
    const unsent = this.out.drop(reason)
    this.#shut()
    this.#finish({ clean: false, unsent, reason })
  }

  #shut(): void {
    if (this.#shutting) return
    this.#shutting = true
    this.out.release()
    this.handle.close(() => {
      this.#finish({ clean: true, unsent: 0 })
      this.owner.remove(this, false)
    })
  }

  #finish(report: CloseReport): void {
    if (this.#report !== undefined) return
    this.#report = Object.freeze(report)
    this.#controller?.abort(report.reason ?? this.over)
    const { bytesRead } = this.in
    const { bytesWritten } = this.out
    tellClosed(this.shared, this.openedAt, { kind: 'datagram', id: this.id, report, bytesRead, bytesWritten })
    this.#settle(report)
  }
}
