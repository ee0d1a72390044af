/**
 * Accepting: one queue of waiters on one accepting socket, and the table of what `accept(2)` may report.
 *
 * Nothing is taken from the system's queue while nobody waits for it, so that a program that is busy, full or suspended
 * makes its clients wait in the backlog instead of holding connections that it does not serve.
 */

import { setMaxListeners } from 'node:events'
import { type Address, formatAddress } from './address.js'
import { Connection } from './connection.js'
import { arm, shouldYield, turn } from './deadline.js'
import type { ListenerHandle, StreamHandle } from './driver.js'
import { again, broken, Busy, Closed, CODES, Denied, type ErrorFacts, SocketError, systemCode, systemFailure, TlsError } from './errors.js'
import {
  getOption,
  type OptionInputs,
  type OptionName,
  type OptionTarget,
  type OptionValues,
  type RawOption,
  setOption,
  type SettableName,
} from './options.js'
import type { Origin } from './lifetime.js'
import { guard, type Member, move, type Owned, type Owner, placeOf, tell, tellClosed, tellOpened } from './owner.js'
import { descriptorOf, type Giver, giveUp, mustGive } from './passing.js'
import { type Readiness, refusedBy, type Wanted, type Watched } from './select.js'
import type { Bytes, CloseReport, Defaults, Wait } from './stream.js'
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
 * What is true of a listener whether or not anybody still has its object. While it has work to do it holds the object, and
 * otherwise, once that is in the hands of a user, only weakly.
 */
class Bond implements Member {
  readonly kind = 'listener'
  readonly id: number = nextId()
  readonly closed: Promise<CloseReport>
  owner: Owner
  face: Listener | WeakRef<Listener>
  pending: string | undefined
  over: SocketError | undefined
  readonly holds = false
  /** A connection that came while `select` watched, known to be there and not looked at. Given before all others. */
  seen: StreamHandle | undefined
  readonly #handle: ListenerHandle
  readonly #openedAt: number
  #weak: WeakRef<Listener> | undefined
  #settle!: (report: CloseReport) => void
  #unservedSeen = 0

  constructor(handle: ListenerHandle, owner: Owner, face: Listener) {
    this.owner = owner
    this.face = face
    this.#handle = handle
    this.#openedAt = owner.shared.clock.now()
    this.closed = new Promise((resolve) => {
      this.#settle = resolve
    })
  }

  /** The listener itself, unless it is garbage. */
  get listener(): Listener | undefined {
    return this.face instanceof WeakRef ? this.face.deref() : this.face
  }

  /** Says what `listener` has to do, if anything. */
  hold(listener: Listener, pending: string | undefined): void {
    this.pending = pending
    if (this.face instanceof WeakRef) this.#weak = this.face
    if (this.#weak !== undefined) this.face = pending === undefined ? this.#weak : listener
  }

  close(o?: Wait): Promise<CloseReport> {
    const { listener } = this
    if (listener !== undefined) return listener.close(o)
    if (this.over === undefined) this.end(new Closed('CLOSED', CODES.Closed.CLOSED, { op: 'close' }), undefined)
    return this.closed
  }

  abort(reason?: unknown): void {
    const { listener } = this
    if (listener !== undefined) listener.abort(reason)
    else void this.close()
  }

  end(refusal: SocketError, reason: SocketError | undefined): void {
    this.over = refusal
    this.seen?.destroy(true)
    this.#handle.close(() => {
      this.countUnserved()
      const report: CloseReport = Object.freeze({ clean: reason === undefined, unsent: 0, ...(reason && { reason }) })
      this.tellClosed('listener', this.id, this.#openedAt, report)
      this.owner.remove(this, false)
      this.#settle(report)
    })
  }

  tellClosed(kind: 'listener' | 'connection', id: number, openedAt: number, report: CloseReport): void {
    tellClosed(this.owner.shared, openedAt, { kind, id, report, bytesRead: 0, bytesWritten: 0 })
  }

  /** Tells what the driver has dropped since it was last looked at. */
  countUnserved(): void {
    const { count, estimated } = this.#handle.unserved
    const news = count - this.#unservedSeen
    if (news <= 0) return
    this.#unservedSeen = count
    tell(this.owner.shared, { type: 'refused', id: this.id, reason: 'unserved', count: news, estimated })
  }
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
export class Listener implements Owned, Watched {
  readonly id: number
  /** The address it is bound to, with the real port. */
  readonly local: Address
  /** What `connect` on this machine reaches it by: for all interfaces (`*`) the loopback address. */
  readonly endpoint: string
  readonly driver: string
  /** Resolves when it no longer listens, whoever ended it; never rejects. */
  readonly closed: Promise<CloseReport>
  readonly #bond: Bond
  readonly #handle: ListenerHandle
  readonly #origin: ListenerOrigin
  /** One object for all plain connections: there may be many. */
  #birth: Origin
  readonly #waiters: Waiter[] = []
  /** TLS connections whose handshake is done. */
  readonly #ready: Connection[] = []
  /** Who selects from this listener. */
  readonly #watchers: Set<() => void> = new Set()
  /** Ends handshakes in progress when the listener closes. */
  readonly #handshakes: AbortController = new AbortController()
  #taker: Taker | undefined
  #suspended = false
  #paused = true
  #pumping = false
  #pumpAgain = false
  #stopRetry: (() => void) | undefined
  #stopBudget: (() => void) | undefined
  readonly #counts = { accepted: 0, refused: 0, vanished: 0, exhausted: 0, handshaking: 0, handshakeFailures: 0 }
  /** Ready connections dropped at the close. */
  #dropped = 0

  /** @internal made by `listen` and `serve` */
  constructor(handle: ListenerHandle, origin: ListenerOrigin) {
    const { owner, driver, defaults, endpoint } = origin
    const bond = new Bond(handle, owner, this)
    this.#bond = bond
    this.#handle = handle
    this.#origin = origin
    this.id = bond.id
    this.closed = bond.closed
    this.local = handle.local
    this.endpoint = endpoint
    this.driver = driver
    this.#birth = { owner, role: 'accepted', driver, endpoint, defaults, listener: this.id }
    // As many as there are handshakes.
    setMaxListeners(0, this.#handshakes.signal)
    try {
      owner.add(bond)
    } catch (error) {
      // The owner ended while this was being opened: nobody else would give the descriptor back.
      handle.close(() => {})
      throw error
    }
    handle.pause()
    handle.attach({
      acceptable: () => {
        const { listener } = bond
        if (listener !== undefined) listener.#pump()
      },
    })
    tellOpened(owner, { kind: 'listener', id: this.id, role: 'bound', driver }, this.local, undefined)
  }

  get owner(): Owner {
    return this.#bond.owner
  }

  /**
   * The next connection; with TLS, once its handshake is done. Several calls may wait at once and are served in order.
   * A call that fails has taken nothing.
   *
   * @throws `DeadlineError`, `Cancelled`, `Closed`, and `SystemFailure` when the listener itself broke; never for a
   *   connection that went away before it was accepted
   */
  async accept(o?: Wait): Promise<Connection> {
    const where = placeOf(this.owner.shared)
    const connection = (await this.#next(o)).given(where)
    if (shouldYield()) await turn()
    return connection
  }

  /** Why nothing is accepted any more. */
  get #refusal(): SocketError | undefined {
    return this.#bond.over
  }

  #next(o: Wait | undefined): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const facts = () => this.#facts('accept')
      if (this.#refusal !== undefined) throw again(this.#refusal, facts())
      const waiter: Waiter = { resolve, reject, disarm: undefined }
      waiter.disarm = arm(o, this.owner.shared.clock, facts, (error) => {
        this.#forget(waiter)
        reject(error)
        this.#rest()
      })
      this.#waiters.push(waiter)
      this.#pump()
    })
  }

  /**
   * A connection that is there now and that nobody waits for, or undefined. On a TLS listener it starts the handshakes
   * of those who have come, and gives those that are done.
   */
  tryAccept(): Connection | undefined {
    if (this.#refusal !== undefined) throw again(this.#refusal, this.#facts('tryAccept'))
    if (this.#waiters.length > 0) return undefined
    let got: Connection | undefined
    let failed: unknown
    const waiter: Waiter = { resolve: (connection) => (got = connection), reject: (error) => (failed = error), disarm: undefined }
    this.#waiters.push(waiter)
    this.#pump()
    this.#forget(waiter)
    this.#rest()
    if (failed !== undefined) throw failed
    return got?.given(placeOf(this.owner.shared))
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

  /** The number of its descriptor, where the driver knows one. */
  get descriptor(): number | undefined {
    return descriptorOf(this.#handle)
  }

  /**
   * Gives the descriptor away, listening and with the connections that wait in it; a UNIX path stays where it is. Consumes this
   * listener.
   *
   * @throws `Busy` while an `accept` waits, a handshake is under way, a server takes its connections or some are ready;
   *   `SystemFailure/UNSUPPORTED` where the driver cannot
   */
  release(): number {
    return this.giver.give('release')
  }

  /** @internal for `sendDescriptors` */
  get giver(): Giver {
    const mayGive = (op: string) => {
      const facts = this.#facts(op)
      if (this.#refusal !== undefined) throw again(this.#refusal, facts)
      mustGive(this.#handle, this.driver, facts)
      const pending = this.#operation ?? (this.#hasNews ? 'a connection nobody has taken' : undefined)
      if (pending !== undefined) throw new Busy('BUSY', `${CODES.Busy.BUSY}: ${op} while there is ${pending}`, facts)
    }
    const give = (op: string) => {
      mayGive(op)
      const facts = this.#facts(op)
      const descriptor = giveUp(this.#handle, facts)
      this.#end(new Closed('CONSUMED', `${CODES.Closed.CONSUMED}: ${op}`, facts), undefined)
      return descriptor
    }
    return { mayGive, give, number: this.descriptor }
  }

  /** The value of an option of the listener, or what the connections it accepts are made with. `docs/options.md` has all of them. */
  get<N extends OptionName>(option: N): OptionValues[N]
  get(option: RawOption): Uint8Array
  get(option: OptionName | RawOption): unknown {
    return getOption(this.#optionTarget('get'), option)
  }

  /**
   * Sets an option, for connections accepted from then on where it is one of theirs; what fails has changed nothing.
   *
   * @throws `OptionError`, `SystemFailure`, and `TypeError` or `RangeError` for a value that is none
   */
  set<N extends SettableName>(option: N, value: OptionInputs[N]): void
  set(option: RawOption, value: Bytes | number): void
  set(option: SettableName | RawOption, value: unknown): void {
    setOption(this.#optionTarget('set'), option, value)
  }

  #optionTarget(op: 'get' | 'set'): OptionTarget {
    const facts = { ...this.#facts(op), phase: 'option' } as const
    if (this.#refusal !== undefined) throw again(this.#refusal, facts)
    const transport = this.local.family === 'unix' ? 'unix' : 'tcp'
    return { kind: 'listener', transport, driver: this.driver, handle: this.#handle.options, facts }
  }

  /** Takes no connection until `resume`: clients wait in the backlog, what is established stays. */
  suspend(): void {
    this.#suspended = true
    this.#rest()
  }

  resume(): void {
    this.#suspended = false
    this.#pump()
    this.#changed()
  }

  get suspended(): boolean {
    return this.#suspended
  }

  get stats(): ListenerStats {
    this.#bond.countUnserved()
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

  /** @internal for `select` */
  readiness(wanted: Wanted): Readiness | undefined {
    if (this.#refusal !== undefined) return refusedBy(this.#refusal, this.#facts('select'))
    if (!wanted.readable || this.#wanted || this.#suspended) return undefined
    this.#pump()
    if (!this.#hasNews) return undefined
    return { readable: false, writable: false, acceptable: true, ended: false }
  }

  /** @internal for `select` */
  watch(changed: () => void): () => void {
    this.#watchers.add(changed)
    this.#hold()
    return () => {
      this.#watchers.delete(changed)
      this.#rest()
    }
  }

  #changed(): void {
    for (const changed of this.#watchers) changed()
  }

  /**
   * Goes to another owner of the same network, which its connections from now on belong to as well, and those that are ready.
   *
   * @throws `Busy` while an `accept` waits, a TLS handshake is under way or a server takes its connections,
   *   `Closed/OWNER_ENDED` for an owner that has ended, its own `Closed` if it is over, `RangeError` for an owner of another
   *   network
   */
  moveTo(owner: Owner): void {
    move(this.#bond, owner, this.#operation)
    this.#birth = { ...this.#birth, owner }
    for (const connection of this.#ready) if (connection.state !== 'closed') connection.moveTo(owner)
  }

  /** From now on it is closed when nobody has it any more. @internal for whoever hands it to a user */
  given(where: string | undefined): this {
    guard(this.#bond, where)
    return this
  }

  /** What is under way. */
  get #operation(): string | undefined {
    if (this.#taker !== undefined) return 'serve'
    if (this.#waiters.length > 0) return 'accept'
    return this.#counts.handshaking > 0 ? 'a TLS handshake' : undefined
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
    this.#stopRetry?.()
    this.#stopBudget?.()
    this.#bond.end(refusal, reason)
    this.#handshakes.abort(refusal)
    if (this.#bond.seen !== undefined) this.#dropped++
    for (const connection of this.#ready.splice(0)) {
      this.#dropped++
      this.#taker?.lost(connection.remote)
      connection.abort(refusal)
    }
    for (let waiter = this.#firstWaiter(); waiter !== undefined; waiter = this.#firstWaiter())
      waiter.reject(again(refusal, this.#facts('accept')))
    this.#changed()
  }

  /** Whether there is a connection that could be given at once. */
  get #hasNews(): boolean {
    return this.#bond.seen !== undefined || this.#ready.length > 0
  }

  get #wanted(): boolean {
    return this.#waiters.length > 0 || this.#taker?.wants() === true
  }

  /** Whether a connection may be taken from the driver now. */
  #mayTake(): boolean {
    if (this.#refusal !== undefined || this.#suspended || this.#stopRetry !== undefined) return false
    if (!this.#wanted && (this.#watchers.size === 0 || this.#hasNews)) return false
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
      if (this.#bond.seen !== undefined && !this.#suspended && this.#wanted) {
        const seen = this.#bond.seen
        this.#bond.seen = undefined
        this.#open(seen)
        continue
      }
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
    this.#bond.countUnserved()
    if (!this.#paused && !this.#pumping && !this.#mayTake()) {
      this.#paused = true
      if (this.#refusal === undefined) this.#handle.pause()
    }
    this.#hold()
  }

  #hold(): void {
    this.#bond.hold(this, this.#operation ?? (this.#watchers.size > 0 ? 'select' : undefined))
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
    const { clock } = this.owner.shared
    this.#stopRetry = clock.at(clock.now() + RETRY, () => {
      this.#stopRetry = undefined
      this.#pump()
    })
    return undefined
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
    if (this.#wanted) return this.#open(raw)
    this.#bond.seen = raw
    this.#changed()
  }

  #open(raw: StreamHandle): void {
    const connection = this.#connection(raw, this.#birth)
    if (connection !== undefined) return this.#give(connection)
    this.#dropped++
    this.#taker?.lost(raw.remote)
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
    const first = this.#waiters.shift()
    first?.disarm?.()
    return first
  }

  #forget(waiter: Waiter): void {
    const at = this.#waiters.indexOf(waiter)
    if (at >= 0) this.#waiters.splice(at, 1)
  }

  /** A handshake beside the accept loop: slow ones hold neither the loop nor each other up. */
  async #secure(raw: StreamHandle, tls: ServerTls): Promise<void> {
    const { clock } = this.owner.shared
    const id = nextId()
    const openedAt = clock.now()
    const facts: ErrorFacts = { ...this.#facts('accept'), phase: 'tls', ...(raw.remote && { remote: formatAddress(raw.remote) }) }
    this.#counts.handshaking++
    const { id: listener, driver, local } = this
    tellOpened(this.owner, { kind: 'connection', id, role: 'accepted', driver, listener }, local, raw.remote)
    try {
      const wait: Wait = { signal: this.#handshakes.signal }
      const { handle, info } = await secure(raw, tls, { clock, wait, facts })
      // It may have ended since, in this very turn.
      if (this.#refusal !== undefined) {
        handle.destroy(true)
        throw again(this.#refusal, facts)
      }
      const heir = { id, openedAt, bytesRead: 0, bytesWritten: 0 }
      const connection = this.#connection(handle, { ...this.#birth, security: info, heir })
      if (connection === undefined) throw again(this.#refusal ?? new Closed('OWNER_ENDED', CODES.Closed.OWNER_ENDED), facts)
      this.#ready.push(this.#taker === undefined ? connection.given(undefined) : connection)
      this.#changed()
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
    this.#bond.tellClosed('connection', id, openedAt, Object.freeze({ clean: false, unsent: 0, reason }))
  }

  #report(id: number, error: unknown): void {
    tell(this.owner.shared, { type: 'error', id, op: 'accept', error })
  }

  #facts(op: string): ErrorFacts {
    return { op, endpoint: this.endpoint, local: formatAddress(this.local) }
  }
}

/** What everything that waits is told after an `abort`. */
export function abortReason(reason: unknown, facts: ErrorFacts): SocketError {
  return reason instanceof SocketError ? reason : new Closed('ABORTED', CODES.Closed.ABORTED, { ...facts, cause: reason })
}
