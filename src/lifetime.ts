/** The life of a connection: what its driver, its two directions and its owner hold of it, and the one place where it ends. */

import { formatAddress } from './address.js'
import { arm, whenIdle } from './deadline.js'
import type { StreamEvents, StreamHandle } from './driver.js'
import { again, Broken, broken, Closed, CODES, Denied, type ErrorFacts, originOf, SocketError, TlsError } from './errors.js'
import { Inbound, type Side } from './inbound.js'
import { Outbound } from './outbound.js'
import { type Member, type Owned, type Owner, type Shared, tell, tellClosed, tellOpened } from './owner.js'
import { descriptorOf, type Giver, giveUp, mustGive } from './passing.js'
import type { CloseReport, Defaults, Wait } from './stream.js'
import type { TlsInfo } from './tls.js'
import { nextId, type OpenEvent } from './trace.js'

/** How a connection came to be. */
export interface Origin {
  readonly owner: Owner
  readonly role: OpenEvent['role']
  readonly driver: string
  readonly endpoint?: string | undefined
  readonly defaults?: Defaults | undefined
  readonly security?: TlsInfo | null | undefined
  /** The number of the listener that accepted it. */
  readonly listener?: number | undefined
  /** Set by an upgrade, which keeps number, counters and times. */
  readonly heir?: { readonly id: number; readonly openedAt: number; readonly bytesRead: number; readonly bytesWritten: number } | undefined
}

/** What a connection has that ends, that somebody waits for, or that has an idle time: most of them, most of the time, have none. */
class Late {
  closed: Promise<CloseReport> | undefined
  settle: ((report: CloseReport) => void) | undefined
  controller: AbortController | undefined
  closing = false
  stopIdle: (() => void) | undefined
  stopLinger: (() => void) | undefined
  /** Disarms the deadlines given to `close`. */
  stopClose: (() => void) | undefined
  lingered = 0
  /** The moment of the last byte in either direction, where an idle time asks for it. */
  lastMove: number | undefined
  /** Who selects from the connection. */
  watchers: Set<() => void> | undefined
}

/**
 * What is true of a connection whether or not anybody still has its object: the object refers to this, and this to the
 * object only weakly once the object is in the hands of a user. There may be many, so what most never need is made late.
 */
export class Lifetime implements Side, StreamEvents, Member, Giver {
  readonly id: number
  readonly in: Inbound
  readonly out: Outbound
  readonly origin: Origin
  owner: Owner
  face: Owned | WeakRef<Owned>
  /** A moment of the network's clock. */
  readonly openedAt: number
  report: CloseReport | undefined
  /** Put into words when somebody asks: after most closes nobody does, and an error with its stack costs as much as a close. */
  #refusal: SocketError | (() => SocketError) | undefined
  released = false
  #late: Late | undefined

  constructor(handle: StreamHandle, origin: Origin, face: Owned) {
    this.origin = origin
    this.owner = origin.owner
    this.face = face
    this.id = origin.heir?.id ?? nextId()
    // Whole milliseconds: a fraction would cost every connection a heap number.
    this.openedAt = origin.heir?.openedAt ?? Math.trunc(origin.owner.shared.clock.now())
    this.in = new Inbound(handle, this)
    this.out = new Outbound(handle, this)
    this.in.bytesRead = origin.heir?.bytesRead ?? 0
    this.out.bytesWritten = origin.heir?.bytesWritten ?? 0
  }

  /** Begins, once the object knows this. */
  begin(): void {
    try {
      this.owner.add(this)
    } catch (error) {
      // The owner ended while this connection was being made: nobody else would give the descriptor back.
      this.handle.destroy(true)
      throw error
    }
    this.handle.attach(this)
    this.#announce()
    const idle = this.origin.defaults?.idle
    if (idle !== undefined) this.#watchIdle(idle)
  }

  get #rest(): Late {
    this.#late ??= new Late()
    return this.#late
  }

  get handle(): StreamHandle {
    return this.in.handle
  }

  get kind(): 'connection' {
    return 'connection'
  }

  get shared(): Shared {
    return this.owner.shared
  }

  get readTime(): number | undefined {
    return this.origin.defaults?.read
  }

  get writeTime(): number | undefined {
    return this.origin.defaults?.write
  }

  /** What its errors repeat. */
  facts(op: string): ErrorFacts {
    const { local, remote } = this.handle
    const { endpoint } = this.origin
    return {
      op,
      ...(endpoint && { endpoint }),
      ...(local && { local: formatAddress(local) }),
      ...(remote && { remote: formatAddress(remote) }),
    }
  }

  #announce(): void {
    const { shared, origin, handle } = this
    const { security } = origin
    if (security) {
      const { protocol, cipher, alpn, serverName, resumed, verified } = security
      tell(shared, { type: 'tls', id: this.id, protocol, cipher, alpn, serverName, resumed, verified })
    }
    if (origin.heir !== undefined || !shared.trace.wants('open')) return
    const { role, driver, listener } = origin
    tellOpened(this.owner, { kind: 'connection', id: this.id, role, driver, listener }, handle.local, handle.remote)
  }

  moved(): void {
    const late = this.#late
    if (late?.lastMove !== undefined) late.lastMove = this.shared.clock.now()
  }

  readable(): void {
    if (this.#late?.stopLinger === undefined) this.in.readable()
    else this.#lingerOn()
    this.changed()
  }

  writable(): void {
    this.out.writable()
    this.changed()
  }

  changed(): void {
    const watchers = this.#late?.watchers
    if (watchers !== undefined) for (const changed of watchers) changed()
  }

  /** Why every operation is refused: closed, aborted or consumed on this side. */
  get refusal(): SocketError | undefined {
    if (typeof this.#refusal === 'function') this.#refusal = this.#refusal()
    return this.#refusal
  }

  get refused(): boolean {
    return this.#refusal !== undefined
  }

  /** In the middle of an upgrade: there is no stream now that could be ended in order. */
  get #isUpgrading(): boolean {
    return this.refusal?.code === 'CONSUMED' && !this.released && this.report === undefined
  }

  get holds(): boolean {
    return this.in.buffered > 0
  }

  get over(): SocketError | undefined {
    if (this.#isUpgrading) return undefined
    return this.refusal ?? (this.report && this.#why(this.report))
  }

  /** What a user started and has not come to its end. */
  get operation(): string | undefined {
    return this.#isUpgrading ? 'startTls' : (this.in.waiting ?? this.out.waiting)
  }

  /** The moment of the last byte in either direction; kept from the first time this is asked. */
  get lastMove(): number {
    return (this.#rest.lastMove ??= this.shared.clock.now())
  }

  get pending(): string | undefined {
    return this.operation ?? (this.out.unsent > 0 ? 'output' : undefined)
  }

  /** Whether an error says no more than that this connection ended or broke, which its close event tells. */
  tells(error: unknown): boolean {
    if (!(error instanceof SocketError)) return false
    const ends = [this.refusal, this.report?.reason, this.in.failure, this.out.failure]
    return ends.some((end) => end !== undefined && originOf(end) === originOf(error))
  }

  /** Throws what a connection that is over has to say to whoever would use it otherwise. */
  mustLive(op: string): void {
    const why = this.refusal ?? this.over
    if (why !== undefined) throw again(why, this.facts(op))
  }

  /** Resolves when the connection has ended, whoever ended it; never rejects. */
  get closed(): Promise<CloseReport> {
    const rest = this.#rest
    rest.closed ??= new Promise((resolve) => {
      if (this.report === undefined) rest.settle = resolve
      else resolve(this.report)
    })
    return rest.closed
  }

  get signal(): AbortSignal {
    const rest = this.#rest
    if (rest.controller === undefined) {
      rest.controller = new AbortController()
      if (this.report !== undefined) rest.controller.abort(this.#why(this.report))
      else if (this.out.failure !== undefined) rest.controller.abort(this.out.failure)
    }
    return rest.controller.signal
  }

  #why(report: CloseReport): SocketError {
    return report.reason ?? this.refusal ?? new Closed('CLOSED', 'both directions have ended', this.facts('close'))
  }

  /** As `Connection.close`. */
  close(o?: Wait): Promise<CloseReport> {
    if (!this.released) {
      const give = (error: unknown) => {
        // The stream has ended in order, and only lingers so that nothing of it is lost: no longer than this.
        if (this.report !== undefined) return this.#release(false)
        this.refuse(() => this.#closed())
        this.#cutOff(broken(error, this.facts('close')))
      }
      try {
        const stop = arm(o, this.shared.clock, () => this.facts('close'), give)
        if (stop !== undefined) {
          const earlier = this.#rest.stopClose
          this.#rest.stopClose = () => {
            earlier?.()
            stop()
          }
        }
      } catch (error) {
        give(error)
      }
    }
    if (!this.#rest.closing) {
      this.#rest.closing = true
      this.#close()
    }
    return this.closed
  }

  #close(): void {
    const isUpgrading = this.#isUpgrading
    this.refuse(() => this.#closed())
    // Broken before: what is still unread is given up now, and operations fail with `Closed` from here on.
    if (this.report !== undefined) return
    if (isUpgrading) return this.abort()
    const { clock, limits } = this.shared
    const stop = clock.at(clock.now() + limits.lingerTime, () => {
      this.#cutOff(new Broken('ETIMEDOUT', `the peer did not take what was left within ${limits.lingerTime} ms`, this.facts('close')))
    })
    void this.closed.then(stop)
    this.out.finish().then(
      () => this.finish({ clean: true, unsent: 0 }, false),
      (error) => this.#cutOff(broken(error, this.facts('close'))),
    )
  }

  #closed(): Closed {
    return new Closed('CLOSED', CODES.Closed.CLOSED, this.facts('close'))
  }

  /** As `Connection.abort`. */
  abort(reason?: unknown): void {
    const error = aborted(reason, this.facts('abort'))
    this.refuse(error)
    if (this.report !== undefined && this.released) return
    this.#cutOff(error)
    this.#release(true)
  }

  refuse(error: SocketError | (() => SocketError)): void {
    this.#refusal ??= error
    this.in.refuse()
    this.out.refuse()
  }

  /** Ends it with what was accepted and not handed over given up. */
  #cutOff(reason: SocketError): void {
    this.finish({ clean: false, unsent: this.out.drop(), reason }, true)
  }

  /** The one place where a connection ends. */
  finish(report: CloseReport, now: boolean): void {
    if (this.report === undefined) {
      this.report = Object.freeze(report)
      this.#late?.stopIdle?.()
      this.#late?.controller?.abort(this.#why(report))
      // What was handed over has been released already, and its heir will tell.
      if (!this.released) {
        const { bytesRead } = this.in
        const { bytesWritten } = this.out
        tellClosed(this.shared, this.openedAt, { kind: 'connection', id: this.id, report, bytesRead, bytesWritten })
      }
      this.#late?.settle?.(this.report)
    }
    if (this.released) return
    if (now || !this.handle.mayLose()) this.#release(!report.clean)
    else this.#linger()
  }

  #release(reset: boolean): void {
    if (this.released) return
    this.released = true
    this.#late?.stopLinger?.()
    this.#late?.stopClose?.()
    this.handle.destroy(reset)
    this.owner.remove(this, false)
  }

  /**
   * The stream was ended in order, but destroying the socket now could reset it and cost the peer bytes that are still on
   * their way: its input is drained until its end, within bounds of time and bytes.
   */
  #linger(): void {
    const { clock, limits } = this.shared
    this.#rest.stopLinger = clock.at(clock.now() + limits.lingerTime, () => this.#release(false))
    this.#lingerOn()
  }

  #lingerOn(): void {
    const { count, open } = this.in.discard()
    this.#rest.lingered += count
    if (!open || this.#rest.lingered > this.shared.limits.lingerBytes) this.#release(false)
  }

  /** Both directions ended in order: nothing is left to do with the descriptor. */
  ended(): void {
    if (!this.in.ended || this.refused) return
    if (this.out.failure !== undefined) this.#cutOff(this.out.failure)
    else if (this.out.shut) this.finish({ clean: true, unsent: 0 }, true)
  }

  broke(error: SocketError): void {
    // A failed write leaves input that arrived before it; the descriptor goes when reading has come to its end too.
    if (this.in.failure === undefined && !this.in.ended) {
      this.#late?.controller?.abort(error)
      return
    }
    if (!this.out.shut) this.out.fail(error)
    this.#cutOff(this.out.failure ?? error)
  }

  #watchIdle(idle: number): void {
    const last = () => this.lastMove
    this.#rest.stopIdle = whenIdle(this.shared.clock, idle, last, () =>
      this.abort(new Denied('IDLE', `${CODES.Denied.IDLE}: ${idle} ms without a byte`, this.facts('idle'))),
    )
  }

  /** As `Watched.watch`. */
  watch(changed: () => void): () => void {
    const rest = this.#rest
    const watchers = (rest.watchers ??= new Set())
    watchers.add(changed)
    return () => {
      if (watchers.delete(changed) && watchers.size === 0) rest.watchers = undefined
    }
  }

  /** What whoever takes the stream over goes on with. */
  get legacy(): Origin {
    const { id, openedAt, owner } = this
    return { ...this.origin, owner, heir: { id, openedAt, bytesRead: this.in.bytesRead, bytesWritten: this.out.bytesWritten } }
  }

  get number(): number | undefined {
    return descriptorOf(this.handle)
  }

  mayGive(op: string): void {
    this.mustLive(op)
    const pending = this.operation ?? (this.in.busy ? 'a reader' : undefined)
    mustGive(this.handle, this.origin.driver, this.facts(op), { pending, unread: this.in.buffered, unsent: this.out.unsent })
  }

  give(op: string): number {
    this.mayGive(op)
    const facts = this.facts(op)
    const descriptor = giveUp(this.handle, facts)
    this.refuse(new Closed('CONSUMED', `${CODES.Closed.CONSUMED}: ${op}`, facts))
    this.finish({ clean: true, unsent: 0 }, true)
    return descriptor
  }

  /** Ends without ending the stream, which another object has from now on. */
  hand(error: SocketError): void {
    this.refuse(error)
    this.released = true
    this.owner.remove(this, false)
    this.finish({ clean: true, unsent: 0 }, true)
  }
}

function aborted(reason: unknown, facts: ErrorFacts): SocketError {
  if (reason instanceof Denied || reason instanceof Broken || reason instanceof TlsError) return reason
  const why = reason instanceof Error ? `: ${reason.message}` : ''
  return new Closed('ABORTED', `${CODES.Closed.ABORTED}${why}`, { ...facts, ...(reason !== undefined && { cause: reason }) })
}
