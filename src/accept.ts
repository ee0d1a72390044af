/**
 * Accepting: one queue of waiters on one accepting socket, and the table of what `accept(2)` may report.
 *
 * Nothing is taken from the system's queue while nobody waits for it, so that a program that is busy, full or suspended
 * makes its clients wait in the backlog instead of holding connections that it does not serve.
 */

import { setMaxListeners } from 'node:events'
import { type Address, formatAddress } from './address.js'
import { Connection, type Origin } from './connection.js'
import { arm, shouldYield, turn } from './deadline.js'
import type { ListenerHandle, StreamHandle } from './driver.js'
import { again, broken, Closed, CODES, Denied, type ErrorFacts, SocketError, systemCode, systemFailure, TlsError } from './errors.js'
import { type Owner, tell } from './owner.js'
import type { CloseReport, Defaults, Wait } from './stream.js'
import { secure } from './tls.js'
import type { ServerTls, ServerTlsOptions } from './tls-options.js'
import { nextId, type RefusedEvent } from './trace.js'

/**
 * Errors of `accept(2)` that are about one connection that is gone already, never about the listener. The literature:
 *
 * - Linux, accept(2): network errors already pending on the new socket are given as errors of `accept`: ENETDOWN, EPROTO,
 *   ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH "and should be treated like EAGAIN". EPERM when a
 *   firewall forbids the connection. "Various kernels can return" ENOSR, ESOCKTNOSUPPORT, EPROTONOSUPPORT, ETIMEDOUT.
 * - POSIX and the BSDs: ECONNABORTED for a connection reset before it was accepted; illumos and Windows: ECONNRESET, too.
 * - Go's `net` retries ECONNABORTED alone, and `net/http` calls whatever is left "temporary"; Twisted knows five of them and
 *   logs; tornado and asyncio skip ECONNABORTED; gevent stops for EPERM and EINVAL; trio ignores these fifteen.
 *
 * Here, as in trio: these fifteen never surface, they are counted; what means that a resource ran out is retried every
 * 100 ms, told by an event each time (accepting at once again would spin: the connection stays in the queue); everything
 * else, such as EBADF or EINVAL, means that the listener itself is broken and is what `accept` fails with.
 */
const IGNORED: ReadonlySet<string> = new Set([
  'ECONNABORTED',
  'ECONNRESET',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'ENETDOWN',
  'ENETUNREACH',
  'ENONET',
  'ENOPROTOOPT',
  'ENOSR',
  'EOPNOTSUPP',
  'EPERM',
  'EPROTO',
  'EPROTONOSUPPORT',
  'ESOCKTNOSUPPORT',
  'ETIMEDOUT',
])
const EXHAUSTED: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM'])
const NOTHING_NOW: ReadonlySet<string> = new Set(['EAGAIN', 'EWOULDBLOCK', 'EINTR'])

/** Milliseconds until accepting is tried again after a resource ran out. */
const RETRY = 100
/** Dead connections in a row after which the event loop turns before the next is looked at. */
const DEAD_IN_A_ROW = 64

/** How a listener came to be. */
export interface ListenerOrigin {
  readonly owner: Owner
  readonly driver: string
  /** What `connect` reaches this listener by; {@link reachableEndpoint}. */
  readonly endpoint: string
  readonly defaults?: Defaults | undefined
  readonly tls?: ServerTls | undefined
  /** Asked for the peer of each connection before anything else is done with it; throws `Denied`. */
  readonly policy?: ((remote: Address) => void) | undefined
}

/** Who takes every connection of a listener: a server. @internal */
export interface Taker {
  /** Most TLS handshakes in progress; when that changes, `Listener.poke` is called. */
  handshakes(): number
  /** Whether one more connection is welcome now; when that becomes true, `Listener.poke` is called. */
  wants(): boolean
  /** Counts a new peer in, or says why not. */
  admit(remote: Address | undefined): RefusedEvent['reason'] | undefined
  /** A peer that was counted in never became a connection. */
  lost(remote: Address | undefined): void
  take(connection: Connection): void
}

export interface ListenerStats {
  /** Connections given to `accept`, `tryAccept`, a loop or a server. */
  readonly accepted: number
  /** Connections closed because a policy or a server's limit said no. */
  readonly refused: number
  /** Connections that came and were never served: dropped by the driver, or still waiting at the close. */
  readonly unserved: { readonly count: number; readonly estimated: boolean }
  /** Connections that were gone before they could be accepted. */
  readonly vanished: number
  /** Times accepting failed because a resource ran out. */
  readonly exhausted: number
  /** TLS handshakes in progress. */
  readonly handshaking: number
  readonly handshakeFailures: number
  /** TLS connections that are ready and not taken yet. */
  readonly ready: number
}

interface Waiter {
  readonly resolve: (connection: Connection) => void
  readonly reject: (error: unknown) => void
  disarm: (() => void) | undefined
}

/**
 * Yields connections. Made by `listen`.
 *
 * ```ts
 * import { listen } from 'fairlead'
 *
 * await using listener = await listen('tcp://127.0.0.1:0')
 * console.log(listener.endpoint) // tcp://127.0.0.1:<port>
 * const nobody = await listener.accept({ timeout: 10 }).catch((error) => error.code)
 * console.log(nobody) // DEADLINE
 * ```
 */
export class Listener {
  readonly id: number = nextId()
  /** The address it is bound to, with the real port. */
  readonly local: Address
  /** What `connect` on this machine reaches it by: for all interfaces (`*`) the loopback address. */
  readonly endpoint: string
  readonly owner: Owner
  readonly driver: string
  /** Resolves when it no longer listens, whoever ended it; never rejects. */
  readonly closed: Promise<CloseReport>
  readonly #handle: ListenerHandle
  readonly #origin: ListenerOrigin
  /** One object for all plain connections: there may be many. */
  readonly #birth: Origin
  readonly #openedAt: number
  readonly #waiters: Set<Waiter> = new Set()
  /** TLS connections whose handshake is done. */
  readonly #ready: Connection[] = []
  /** Ends handshakes in progress when the listener closes. */
  readonly #handshakes: AbortController = new AbortController()
  #taker: Taker | undefined
  #suspended = false
  #paused = true
  #pumping = false
  #pumpAgain = false
  #refusal: SocketError | undefined
  #settle!: (report: CloseReport) => void
  #stopRetry: (() => void) | undefined
  #stopBudget: (() => void) | undefined
  readonly #counts = { accepted: 0, refused: 0, vanished: 0, exhausted: 0, handshaking: 0, handshakeFailures: 0 }
  /** Ready connections dropped at the close. */
  #dropped = 0
  #unservedSeen = 0

  /** @internal made by `listen` and `serve` */
  constructor(handle: ListenerHandle, origin: ListenerOrigin) {
    const { shared } = origin.owner
    this.#handle = handle
    this.#origin = origin
    this.owner = origin.owner
    this.local = handle.local
    this.endpoint = origin.endpoint
    this.driver = origin.driver
    this.#openedAt = shared.clock.now()
    const { owner, driver, defaults, endpoint } = origin
    this.#birth = { owner, role: 'accepted', driver, endpoint, defaults, listener: this.id }
    this.closed = new Promise((resolve) => {
      this.#settle = resolve
    })
    // As many as there are handshakes.
    setMaxListeners(0, this.#handshakes.signal)
    origin.owner.add(this)
    handle.pause()
    handle.attach({ acceptable: () => this.#pump() })
    this.#announce(this.id, 'listener', 'bound', undefined)
  }

  /**
   * The next connection; with TLS, once its handshake is done. Several calls may wait at once and are served in order.
   * A call that fails has taken nothing.
   *
   * @throws `DeadlineError`, `Cancelled`, `Closed`, and `SystemFailure` when the listener itself broke; never for a
   *   connection that went away before it was accepted
   */
  async accept(o?: Wait): Promise<Connection> {
    const connection = await this.#next(o)
    if (shouldYield()) await turn()
    return connection
  }

  #next(o: Wait | undefined): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const facts = () => this.#facts('accept')
      if (this.#refusal !== undefined) throw again(this.#refusal, facts())
      const waiter: Waiter = { resolve, reject, disarm: undefined }
      waiter.disarm = arm(o, this.owner.shared.clock, facts, (error) => {
        this.#waiters.delete(waiter)
        reject(error)
        this.#rest()
      })
      this.#waiters.add(waiter)
      this.#pump()
    })
  }

  /**
   * A connection that is there now and that nobody waits for, or undefined. On a TLS listener it starts the handshakes
   * of those who have come, and gives those that are done.
   */
  tryAccept(): Connection | undefined {
    if (this.#refusal !== undefined) throw again(this.#refusal, this.#facts('tryAccept'))
    if (this.#waiters.size > 0) return undefined
    let got: Connection | undefined
    let failed: unknown
    const waiter: Waiter = { resolve: (connection) => (got = connection), reject: (error) => (failed = error), disarm: undefined }
    this.#waiters.add(waiter)
    this.#pump()
    this.#waiters.delete(waiter)
    this.#rest()
    if (failed !== undefined) throw failed
    return got
  }

  /** Connections as they come, until the listener is closed; `o` holds for each. Leaving the loop closes nothing. */
  async *connections(o?: Wait): AsyncIterableIterator<Connection> {
    try {
      for (;;) yield await this.accept(o)
    } catch (error) {
      if (!(error instanceof Closed)) throw error
    }
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<Connection> {
    return this.connections()
  }

  /**
   * New TLS settings for handshakes that start from now on; what is established stays. Throws `TlsError` for settings
   * that cannot be used, and then the old ones stay.
   */
  reloadTls(o: ServerTlsOptions): void {
    if (this.#origin.tls === undefined)
      throw new TlsError('NEEDS_CERTIFICATE', `${this.endpoint} does not speak TLS`, this.#facts('reloadTls'))
    this.#origin.tls.reload(o)
  }

  /** Takes no connection until `resume`: clients wait in the backlog, what is established stays. */
  suspend(): void {
    this.#suspended = true
    this.#rest()
  }

  resume(): void {
    this.#suspended = false
    this.#pump()
  }

  get suspended(): boolean {
    return this.#suspended
  }

  get stats(): ListenerStats {
    this.#countUnserved()
    const { count, estimated } = this.#handle.unserved
    return { ...this.#counts, unserved: { count: count + this.#dropped, estimated }, ready: this.#ready.length }
  }

  /** Stops listening; every pending `accept` fails with `Closed`. Accepted connections live on. Idempotent. */
  close(_o?: Wait): Promise<CloseReport> {
    this.#end(new Closed('CLOSED', CODES.Closed.CLOSED, this.#facts('close')), undefined)
    return this.closed
  }

  /** As `close`: a listener has nothing to flush. */
  abort(reason?: unknown): void {
    const error = abortReason(reason, this.#facts('abort'))
    this.#end(error, error)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  ref(): this {
    this.#handle.ref()
    return this
  }

  unref(): this {
    this.#handle.unref()
    return this
  }

  /** Gives every connection to `taker` from now on. @internal */
  attach(taker: Taker): void {
    this.#taker = taker
    this.#pump()
  }

  /** The taker may want more than it did. @internal */
  poke(): void {
    this.#pump()
  }

  #end(refusal: SocketError, reason: SocketError | undefined): void {
    if (this.#refusal !== undefined) return
    this.#refusal = refusal
    this.#stopRetry?.()
    this.#stopBudget?.()
    this.#handle.close(() => {
      this.#countUnserved()
      const report: CloseReport = Object.freeze({ clean: reason === undefined, unsent: 0, ...(reason && { reason }) })
      this.#tellClose('listener', this.id, this.#openedAt, report)
      this.owner.remove(this)
      this.#settle(report)
    })
    this.#handshakes.abort(refusal)
    for (const connection of this.#ready.splice(0)) {
      this.#dropped++
      this.#taker?.lost(connection.remote)
      connection.abort(refusal)
    }
    for (let waiter = this.#firstWaiter(); waiter !== undefined; waiter = this.#firstWaiter())
      waiter.reject(again(refusal, this.#facts('accept')))
  }

  get #wanted(): boolean {
    return this.#waiters.size > 0 || this.#taker?.wants() === true
  }

  /** Whether a connection may be taken from the driver now. */
  #mayTake(): boolean {
    if (this.#refusal !== undefined || this.#suspended || this.#stopRetry !== undefined || !this.#wanted) return false
    const { budget, limits } = this.owner.shared
    const handshakes = this.#taker?.handshakes() ?? limits.handshakes
    if (this.#origin.tls !== undefined && this.#counts.handshaking + this.#ready.length >= handshakes) return false
    if (!budget.full) return true
    this.#stopBudget ??= budget.whenFree(() => {
      this.#stopBudget = undefined
      this.#pump()
    })
    return false
  }

  /** Gives what is ready, and takes what is welcome. Whatever may have changed either calls this. */
  #pump(): void {
    this.#pumpAgain = true
    if (this.#pumping) return
    this.#pumping = true
    try {
      while (this.#pumpAgain) {
        this.#pumpAgain = false
        this.#fill()
      }
    } finally {
      this.#pumping = false
    }
    this.#rest()
  }

  #fill(): void {
    for (;;) {
      while (this.#ready.length > 0 && !this.#suspended && this.#wanted) this.#give(this.#ready.shift() as Connection)
      if (!this.#mayTake()) return
      if (this.#paused) {
        this.#paused = false
        this.#handle.resume()
      }
      const raw = this.#take()
      if (raw === undefined) return
      if (raw !== null) this.#receive(raw)
    }
  }

  /** Tells the driver to stop when nothing is welcome. */
  #rest(): void {
    this.#countUnserved()
    if (this.#paused || this.#pumping || this.#mayTake()) return
    this.#paused = true
    if (this.#refusal === undefined) this.#handle.pause()
  }

  /** A connection, undefined when there is none now, null when it is worth looking again. */
  #take(): StreamHandle | undefined | null {
    for (let dead = 0; dead < DEAD_IN_A_ROW; dead++) {
      try {
        return this.#handle.accept()
      } catch (error) {
        const code = systemCode(error)
        if (code !== undefined && NOTHING_NOW.has(code)) return undefined
        if (code === undefined || !IGNORED.has(code)) return this.#failed(error, code)
        this.#counts.vanished++
      }
    }
    void turn().then(() => this.#pump())
    return undefined
  }

  #failed(cause: unknown, code: string | undefined): undefined | null {
    const error = systemFailure(cause, { ...this.#facts('accept'), phase: 'accept' })
    const isExhausted = code !== undefined && EXHAUSTED.has(code)
    if (isExhausted) this.#counts.exhausted++
    const waiter = isExhausted ? undefined : this.#firstWaiter()
    if (waiter !== undefined) {
      waiter.reject(error)
      return null
    }
    this.#report(this.id, error)
    this.#retryLater()
    return undefined
  }

  #retryLater(): void {
    const { clock } = this.owner.shared
    this.#stopRetry = clock.at(clock.now() + RETRY, () => {
      this.#stopRetry = undefined
      this.#pump()
    })
  }

  #receive(raw: StreamHandle): void {
    const { remote } = raw
    try {
      if (remote !== undefined) this.#origin.policy?.(remote)
    } catch (error) {
      if (!(error instanceof Denied)) this.#report(this.id, error)
      return this.#refuse(raw, 'policy')
    }
    const refusal = this.#taker?.admit(remote)
    if (refusal !== undefined) return this.#refuse(raw, refusal)
    const { tls } = this.#origin
    if (tls !== undefined) return void this.#secure(raw, tls)
    const connection = this.#connection(raw, this.#birth)
    if (connection !== undefined) return this.#give(connection)
    this.#dropped++
    this.#taker?.lost(remote)
  }

  #refuse(raw: StreamHandle, reason: RefusedEvent['reason']): void {
    this.#counts.refused++
    raw.destroy(true)
    const remote = raw.remote && formatAddress(raw.remote)
    tell(this.owner.shared, { type: 'refused', id: this.id, reason, count: 1, estimated: false, ...(remote && { remote }) })
  }

  #connection(handle: StreamHandle, origin: Origin): Connection | undefined {
    try {
      return new Connection(handle, origin)
    } catch (error) {
      // The owner ended a moment ago, and ends this listener next.
      handle.destroy(true)
      if (!(error instanceof Closed)) throw error
      return undefined
    }
  }

  #give(connection: Connection): void {
    this.#counts.accepted++
    const waiter = this.#firstWaiter()
    if (waiter === undefined) this.#taker?.take(connection)
    else waiter.resolve(connection)
  }

  /** Whoever has waited longest, and waits no more. */
  #firstWaiter(): Waiter | undefined {
    const [first] = this.#waiters
    if (first !== undefined) this.#waiters.delete(first)
    first?.disarm?.()
    return first
  }

  /** A handshake beside the accept loop: slow ones hold neither the loop nor each other up. */
  async #secure(raw: StreamHandle, tls: ServerTls): Promise<void> {
    const { clock } = this.owner.shared
    const id = nextId()
    const openedAt = clock.now()
    const facts: ErrorFacts = { ...this.#facts('accept'), phase: 'tls', ...(raw.remote && { remote: formatAddress(raw.remote) }) }
    this.#counts.handshaking++
    this.#announce(id, 'connection', 'accepted', raw.remote)
    try {
      const wait: Wait = { signal: this.#handshakes.signal }
      const { handle, info } = await secure(raw, tls, { clock, wait, facts })
      const heir = { id, openedAt, bytesRead: 0, bytesWritten: 0 }
      const connection = this.#connection(handle, { ...this.#birth, security: info, heir })
      if (connection === undefined) throw again(this.#refusal ?? new Closed('OWNER_ENDED', CODES.Closed.OWNER_ENDED), facts)
      this.#ready.push(connection)
    } catch (error) {
      this.#unsecured(raw, id, openedAt, broken(error, facts))
    } finally {
      this.#counts.handshaking--
      this.#pump()
    }
  }

  #unsecured(raw: StreamHandle, id: number, openedAt: number, failure: SocketError): void {
    this.#taker?.lost(raw.remote)
    if (this.#refusal !== undefined) this.#dropped++
    else {
      this.#counts.handshakeFailures++
      this.#report(id, failure)
    }
    const reason = this.#refusal === undefined ? failure : again(this.#refusal, { remote: failure.remote ?? '' })
    this.#tellClose('connection', id, openedAt, Object.freeze({ clean: false, unsent: 0, reason }))
  }

  #tellClose(kind: 'listener' | 'connection', id: number, openedAt: number, report: CloseReport): void {
    const { shared } = this.owner
    tell(shared, { type: 'close', kind, id, report, bytesRead: 0, bytesWritten: 0, duration: shared.clock.now() - openedAt })
  }

  #report(id: number, error: unknown): void {
    tell(this.owner.shared, { type: 'error', id, op: 'accept', error })
  }

  /** Tells what the driver has dropped since it was last looked at. */
  #countUnserved(): void {
    const { count, estimated } = this.#handle.unserved
    const news = count - this.#unservedSeen
    if (news <= 0) return
    this.#unservedSeen = count
    tell(this.owner.shared, { type: 'refused', id: this.id, reason: 'unserved', count: news, estimated })
  }

  #announce(id: number, kind: 'listener' | 'connection', role: 'bound' | 'accepted', remote: Address | undefined): void {
    tell(this.owner.shared, {
      type: 'open',
      kind,
      id,
      role,
      driver: this.driver,
      local: formatAddress(this.local),
      remote: remote ? formatAddress(remote) : '',
      owner: this.owner.name,
      ...(kind === 'connection' && { listener: this.id }),
    })
  }

  #facts(op: string): ErrorFacts {
    return { op, endpoint: this.endpoint, local: formatAddress(this.local) }
  }
}

/** What everything that waits is told after an `abort`. */
export function abortReason(reason: unknown, facts: ErrorFacts): SocketError {
  return reason instanceof SocketError ? reason : new Closed('ABORTED', CODES.Closed.ABORTED, { ...facts, cause: reason })
}
