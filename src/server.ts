/** Serving: a handler for each connection, within limits that can be changed while it runs, and an orderly end. */

import { readdirSync, readFileSync } from 'node:fs'
import type { Listener, Taker } from './accept.js'
import { type Address, type Endpoint, formatAddress, ipBytes, parseEndpoint } from './address.js'
import type { Connection } from './connection.js'
import { Broken, Cancelled, Closed, CODES, Denied, invalidType, outOfRange, refuseUnknown, SocketError } from './errors.js'
import type { ListenOptions, Network } from './network.js'
import { type EndReport, type Owned, Owner } from './owner.js'
import type { CloseReport } from './stream.js'
import type { ServerTlsOptions } from './tls-options.js'
import { nextId, type RefusedEvent } from './trace.js'

/** What a handler is given besides its connection. */
export interface ServeContext {
  /** Aborts when the server begins to drain, and when the connection is known to be broken or closed. */
  readonly signal: AbortSignal
  readonly server: Server
}

/**
 * Serves one connection. When it resolves the connection is closed in order, when it rejects or throws the connection is
 * aborted; either way nothing else is touched.
 */
export type Handler = (connection: Connection, context: ServeContext) => unknown

/** Counts; `Infinity` means no limit. */
export interface ServerLimits {
  /**
   * Connections served at once. Default 10,000. Whoever comes beyond it waits in the backlog. Whatever this says, a server
   * takes no connection that would leave fewer than 64 descriptors (a quarter, where the process may have fewer than 256).
   */
  connections: number
  /** Connections of one peer address, handshakes included; an IPv6 peer is its /64 network. More are reset. Default `Infinity`. */
  perAddress: number
  /** TLS handshakes in progress, of each listener. Default 256. */
  handshakes: number
}

export interface AlarmOptions {
  /** Connections served at once at which `call` is called. */
  threshold: number
  /** Milliseconds between two calls. Default 5,000. */
  cooldown?: number | undefined
  call: (server: Server) => void
}

export interface ServeOptions extends ListenOptions {
  limits?: Partial<ServerLimits> | undefined
  /** Milliseconds after which a connection is aborted with `Denied/LIFETIME`, whatever it does. Default `Infinity`. */
  lifetime?: number | undefined
  /** Milliseconds a connection with one direction ended may go without a byte before it is aborted with `Denied/IDLE`. Default 60 s. */
  halfClosed?: number | undefined
  /** Milliseconds within which a handler must have read a first byte, or `Denied/TOO_SLOW`. Default `Infinity`. */
  firstByte?: number | undefined
  alarm?: AlarmOptions | undefined
}

/** @internal */
export const SERVE_OPTIONS: readonly string[] = [
  ...['timeout', 'deadline', 'signal', 'noDelay', 'keepAlive', 'backlog', 'ipv6Only', 'reusePort', 'mode', 'unlinkStale', 'tls', 'owner', 'defaults'],
  ...['limits', 'lifetime', 'halfClosed', 'firstByte', 'alarm'],
]

export interface DrainReport {
  /** Connections that ended by themselves. */
  readonly finished: number
  /** Connections that had to be aborted when the time was over. */
  readonly aborted: number
  /** Milliseconds. */
  readonly elapsed: number
}

export interface ServerStats {
  /** Connections given to the handler. */
  readonly accepted: number
  /** Connections served now. */
  readonly active: number
  /** Most connections served at once. */
  readonly peak: number
  /** Connections closed unserved because something of ours said no. */
  readonly refused: { readonly perAddress: number; readonly policy: number }
  /** Connections that came and were never taken: dropped by the driver, or still waiting at the end. */
  readonly unserved: { readonly count: number; readonly estimated: boolean }
  readonly handshaking: number
  readonly handshakeFailures: number
  readonly handlerErrors: number
  /** Times accepting stopped because descriptors, or another resource of the system, ran out. */
  readonly exhausted: number
}

/** One connection and its handler. */
class Session implements ServeContext {
  readonly server: Server
  connection: Connection
  /** The descriptor was given back. */
  released = false
  /** The handler has settled. */
  done = false
  /** When and with how many bytes it was first seen with one direction ended, or after that with a byte more. */
  halfSince = 0
  halfBytes = -1
  /** Disarm its timers. */
  stops: (() => void)[] | undefined
  #controller: AbortController | undefined

  constructor(server: Server, connection: Connection) {
    this.server = server
    this.connection = connection
  }

  /** Made when somebody asks for it: an idle connection should cost little. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      const { draining } = this.server
      if (draining !== undefined) this.#controller.abort(draining)
      else this.watch()
    }
    return this.#controller.signal
  }

  tell(reason: SocketError): void {
    this.#controller?.abort(reason)
  }

  /** Follows the signal of the connection, and that of its heir after an upgrade. */
  watch(): void {
    if (this.#controller === undefined) return
    const { signal } = this.connection
    const ended = () => {
      const reason: unknown = signal.reason
      if (!(reason instanceof Closed && reason.code === 'CONSUMED')) this.#controller?.abort(reason)
    }
    if (signal.aborted) ended()
    else signal.addEventListener('abort', ended, { once: true })
  }
}

/** Limits that act at once when they are set. */
class LiveLimits implements ServerLimits {
  readonly #values: ServerLimits
  readonly #changed: () => void

  constructor(values: ServerLimits, changed: () => void) {
    this.#values = values
    this.#changed = changed
  }

  get connections(): number {
    return this.#values.connections
  }

  set connections(value: number) {
    this.#set('connections', value)
  }

  get perAddress(): number {
    return this.#values.perAddress
  }

  set perAddress(value: number) {
    this.#set('perAddress', value)
  }

  get handshakes(): number {
    return this.#values.handshakes
  }

  set handshakes(value: number) {
    this.#set('handshakes', value)
  }

  #set(name: keyof ServerLimits, value: number): void {
    this.#values[name] = count(value, `limits.${name}`)
    this.#changed()
  }
}

/**
 * Listeners, their connections and a handler. Made by `serve`. It is an owner: what it accepted ends with it.
 *
 * ```ts
 * import { connect, serve } from 'fairlead'
 *
 * await using server = await serve('tcp://127.0.0.1:0', { limits: { connections: 100 } }, async (connection) => {
 *   for await (const chunk of connection) await connection.write(chunk)
 * })
 * await using client = await connect(server.endpoints[0])
 * await client.write('hello\n')
 * console.log(await client.readLine()) // hello
 * ```
 */
export class Server extends Owner {
  readonly id: number = nextId()
  /** Can be set at any time: raising one admits who waits, lowering one ends nobody. */
  readonly limits: ServerLimits
  /** Resolves when the server has ended, whoever ended it; never rejects. */
  readonly closed: Promise<CloseReport>
  readonly #parent: Owner
  readonly #handler: Handler
  readonly #options: ServeOptions
  readonly #halfClosed: number
  readonly #listeners: Listener[] = []
  readonly #sessions: Map<number, Session> = new Map()
  readonly #perAddress: Map<string, number> = new Map()
  readonly #descriptors: Descriptors = new Descriptors()
  #settle!: (report: CloseReport) => void
  #draining: SocketError | undefined
  #drained: Promise<DrainReport> | undefined
  /** The handlers have been told. */
  readonly #told: Promise<void>
  #tellTold!: () => void
  #whenEmpty: (() => void) | undefined
  /** The time of a drain is over. */
  #isCutOff = false
  /** Handlers are no longer waited for. */
  #abandoned = false
  #abortReason: SocketError | undefined
  #aborted = 0
  #stopSweep: (() => void) | undefined
  #stopLook: (() => void) | undefined
  /** Sessions that may be over. */
  readonly #changed: Session[] = []
  #accepted = 0
  #peak = 0
  #refusedByAddress = 0
  #handlerErrors = 0
  #exhausted = 0
  #alarmedAt = Number.NEGATIVE_INFINITY

  /** @internal */
  constructor(parent: Owner, o: ServeOptions, handler: Handler) {
    super('server', parent.shared)
    this.#parent = parent
    this.#handler = handler
    this.#options = o
    this.#halfClosed = duration(o.halfClosed, 'halfClosed') ?? parent.shared.limits.halfClosed
    duration(o.lifetime, 'lifetime')
    duration(o.firstByte, 'firstByte')
    this.limits = new LiveLimits(limitsOf(o.limits, parent), () => {
      for (const listener of this.#listeners) listener.handshakeCap = this.limits.handshakes
    })
    this.closed = new Promise((resolve) => {
      this.#settle = resolve
    })
    this.#told = new Promise((resolve) => {
      this.#tellTold = resolve
    })
  }

  /** @internal what `network.serve` does */
  static async open(network: Network, at: Endpoint | readonly Endpoint[], o: ServeOptions, handler: Handler): Promise<Server> {
    if (typeof handler !== 'function') throw invalidType('handler', 'a function', handler)
    const all: readonly Endpoint[] = Array.isArray(at) ? at : [at as Endpoint]
    if (all.length === 0) throw outOfRange('at', 'at least one endpoint', 'an empty array')
    checkAlarm(o.alarm)
    const parent = o.owner ?? network
    const server = new Server(parent, o, handler)
    parent.add(server)
    try {
      const { limits: _l, lifetime: _t, halfClosed: _h, firstByte: _f, alarm: _a, tls, ...listening } = o
      const secured = all.some(isTls)
      for (const endpoint of all) {
        // Settings for TLS go to the endpoints that want them; without any such endpoint `listen` says what is wrong.
        const listener = await network.listen(endpoint, {
          ...listening,
          ...((isTls(endpoint) || !secured) && tls && { tls }),
          owner: server,
        })
        server.#listeners.push(listener)
      }
    } catch (error) {
      await server.close()
      throw error
    }
    for (const listener of server.#listeners) {
      listener.handshakeCap = server.limits.handshakes
      listener.attach(server.#taker)
    }
    return server
  }

  get listeners(): readonly Listener[] {
    return [...this.#listeners]
  }

  /** What `connect` reaches its listeners by, in the order they were given. */
  get endpoints(): [string, ...string[]] {
    return this.#listeners.map((listener) => listener.endpoint) as [string, ...string[]]
  }

  /** The connections served now, oldest first. */
  connections(): Connection[] {
    return [...this.#sessions.values()].map((session) => session.connection)
  }

  /** Why handlers should come to an end; undefined while it serves. */
  get draining(): SocketError | undefined {
    return this.#draining
  }

  get stats(): ServerStats {
    const listeners = this.#listeners.map((listener) => listener.stats)
    const sum = (of: (stats: (typeof listeners)[number]) => number) => listeners.reduce((total, stats) => total + of(stats), 0)
    return {
      accepted: this.#accepted,
      active: this.#sessions.size,
      peak: this.#peak,
      refused: { perAddress: this.#refusedByAddress, policy: sum((stats) => stats.refused) - this.#refusedByAddress },
      unserved: { count: sum((stats) => stats.unserved.count), estimated: listeners.some((stats) => stats.unserved.estimated) },
      handshaking: sum((stats) => stats.handshaking),
      handshakeFailures: sum((stats) => stats.handshakeFailures),
      handlerErrors: this.#handlerErrors,
      exhausted: this.#exhausted + sum((stats) => stats.exhausted),
    }
  }

  /** Takes no connection until `resume`; what is served goes on, clients wait in the backlog. */
  suspend(): void {
    for (const listener of this.#listeners) listener.suspend()
  }

  resume(): void {
    for (const listener of this.#listeners) listener.resume()
  }

  /** New TLS settings for every TLS listener, for handshakes that start from now on. */
  reloadTls(o: ServerTlsOptions): void {
    for (const listener of this.#listeners) if (isTls(listener.endpoint)) listener.reloadTls(o)
  }

  ref(): this {
    for (const listener of this.#listeners) listener.ref()
    return this
  }

  unref(): this {
    for (const listener of this.#listeners) listener.unref()
    return this
  }

  // Admission

  readonly #taker: Taker = {
    wants: () => this.#sessions.size < this.limits.connections && this.#hasDescriptors(),
    admit: (remote) => this.#admit(remote),
    lost: (remote) => this.#countOut(remote),
    take: (connection) => this.#take(connection),
    failed: () => {},
  }

  #admit(remote: Address | undefined): RefusedEvent['reason'] | undefined {
    const key = peerKey(remote)
    if (key === undefined) return undefined
    const held = this.#perAddress.get(key) ?? 0
    if (held >= this.limits.perAddress) {
      this.#refusedByAddress++
      return 'per-address'
    }
    this.#perAddress.set(key, held + 1)
    return undefined
  }

  #countOut(remote: Address | undefined): void {
    const key = peerKey(remote)
    if (key === undefined) return
    const left = (this.#perAddress.get(key) ?? 0) - 1
    if (left > 0) this.#perAddress.set(key, left)
    else this.#perAddress.delete(key)
  }

  /** Whether one more connection leaves enough descriptors for the rest of the process; looks again in a while if not. */
  #hasDescriptors(): boolean {
    const used = this.#sessions.size
    if (this.#descriptors.allow(used)) return true
    if (this.#stopLook !== undefined) return false
    const { clock, trace } = this.shared
    this.#exhausted++
    if (trace.wants('refused'))
      trace.emit({ type: 'refused', at: clock.wall(), id: this.id, reason: 'descriptors', count: 0, estimated: true })
    const look = () => {
      this.#stopLook = undefined
      this.#descriptors.measure(this.#sessions.size)
      if (this.#descriptors.allow(this.#sessions.size)) this.#poke()
      else this.#stopLook = clock.at(clock.now() + LOOK_AGAIN, look)
    }
    this.#stopLook = clock.at(clock.now() + LOOK_AGAIN, look)
    return false
  }

  #poke(): void {
    for (const listener of this.#listeners) listener.poke()
  }

  // Sessions

  #take(connection: Connection): void {
    if (connection.state === 'closed') return this.#countOut(connection.remote)
    const session = new Session(this, connection)
    this.#sessions.set(connection.id, session)
    this.#accepted++
    this.#peak = Math.max(this.#peak, this.#sessions.size)
    this.#limitTime(session)
    this.#sweepLater()
    // It begins when accepting is done with its connection.
    queueMicrotask(() => this.#run(session))
    this.#alarm()
  }

  #run(session: Session): void {
    // Not an async function, whose frame would stay for as long as the connection.
    new Promise((resolve) => resolve(this.#handler(session.connection, session))).then(
      () => this.#over(session, undefined),
      (error: unknown) => this.#over(session, this.#isObedience(error) ? undefined : { error }),
    )
  }

  #over(session: Session, failure: { error: unknown } | undefined): void {
    session.done = true
    const { connection } = session
    if (failure !== undefined && !isItsOwnEnd(failure.error, connection)) {
      this.#handlerErrors++
      this.#report(connection.id, 'handler', failure.error)
    }
    // What was moved to another owner is no longer ours to end.
    if (connection.owner === this) {
      if (failure === undefined) void connection.close()
      else connection.abort(failed(failure.error))
    }
    this.#settleLater(session)
  }

  /** Whether a handler gave up because it was told to: it gave its signal to what it waited for. */
  #isObedience(error: unknown): boolean {
    if (this.#draining === undefined) return false
    return error === this.#draining || (error instanceof Cancelled && error.cause === this.#draining)
  }

  #report(id: number, op: string, error: unknown): void {
    const { clock, trace } = this.shared
    if (trace.wants('error')) trace.emit({ type: 'error', at: clock.wall(), id, op, error })
  }

  /** @internal */
  override add(socket: Owned): void {
    super.add(socket)
    const session = this.#sessions.get(socket.id)
    if (session === undefined) return
    // An upgrade: the same connection as a new object.
    session.connection = socket as Connection
    session.released = false
    session.watch()
  }

  /** @internal */
  override remove(socket: Owned): void {
    super.remove(socket)
    const session = this.#sessions.get(socket.id)
    if (session === undefined || session.connection !== socket) return
    session.released = true
    this.#settleLater(session)
  }

  /** An upgrade removes one object and adds the next at once; what is over is counted out when that is past. */
  #settleLater(session: Session): void {
    if (this.#changed.push(session) > 1) return
    queueMicrotask(() => {
      let ended = false
      for (const each of this.#changed.splice(0)) ended = this.#countedOut(each) || ended
      if (!ended) return
      if (this.#sessions.size === 0) this.#whenEmpty?.()
      this.#poke()
    })
  }

  #countedOut(session: Session): boolean {
    if (!session.released || !(session.done || this.#abandoned)) return false
    if (!this.#sessions.delete(session.connection.id)) return false
    for (const stop of session.stops ?? []) stop()
    this.#countOut(session.connection.remote)
    return true
  }

  #limitTime(session: Session): void {
    const { lifetime = Number.POSITIVE_INFINITY, firstByte = Number.POSITIVE_INFINITY } = this.#options
    if (lifetime === Number.POSITIVE_INFINITY && firstByte === Number.POSITIVE_INFINITY) return
    const { clock } = this.shared
    const after = (time: number, code: 'LIFETIME' | 'TOO_SLOW', due: () => boolean) => {
      if (time === Number.POSITIVE_INFINITY) return () => {}
      return clock.at(clock.now() + time, () => {
        const { connection } = session
        if (due()) connection.abort(new Denied(code, `${CODES.Denied[code]}: ${time} ms`, factsOf(connection)))
      })
    }
    session.stops = [after(lifetime, 'LIFETIME', () => true), after(firstByte, 'TOO_SLOW', () => session.connection.stats.bytesRead === 0)]
  }

  /** One timer looks after the half-closed of all connections, so that those that never are cost nothing. */
  #sweepLater(): void {
    if (this.#halfClosed === Number.POSITIVE_INFINITY || this.#stopSweep !== undefined) return
    const { clock } = this.shared
    this.#stopSweep = clock.at(clock.now() + Math.max(1, this.#halfClosed / SWEEPS), () => {
      this.#stopSweep = undefined
      for (const session of this.#sessions.values()) this.#sweep(session)
      if (this.#sessions.size > 0) this.#sweepLater()
    })
  }

  #sweep(session: Session): void {
    const { connection } = session
    if (connection.state !== 'read-ended' && connection.state !== 'write-ended') return
    const now = this.shared.clock.now()
    const { bytesRead, bytesWritten } = connection.stats
    if (session.halfBytes !== bytesRead + bytesWritten) {
      session.halfBytes = bytesRead + bytesWritten
      session.halfSince = now
    }
    if (now - session.halfSince < this.#halfClosed) return
    connection.abort(new Denied('IDLE', `the connection was half-closed for ${this.#halfClosed} ms without a byte`, factsOf(connection)))
  }

  #alarm(): void {
    const { alarm } = this.#options
    if (alarm === undefined || this.#sessions.size < alarm.threshold) return
    const now = this.shared.clock.now()
    if (now - this.#alarmedAt < (alarm.cooldown ?? COOLDOWN)) return
    this.#alarmedAt = now
    // Called apart from accepting, which it must not disturb.
    void Promise.resolve(this)
      .then(alarm.call)
      .catch((error: unknown) => this.#report(this.id, 'alarm', error))
  }

  // Ending

  /**
   * Ends in order: stops listening, then aborts `ctx.signal` of every handler, then waits until the handlers are done, at
   * most `within` milliseconds (default: the linger time, 5 s; `Infinity` waits for ever), then aborts what is left. A
   * second call may shorten the time of the first.
   */
  async drain(o: { within?: number | undefined } = {}): Promise<DrainReport> {
    refuseUnknown(o, ['within'], 'drain')
    const { clock, limits } = this.shared
    const within = duration(o.within, 'within') ?? limits.lingerTime
    const drained = this.#begin()
    const stop = within === Number.POSITIVE_INFINITY ? undefined : clock.at(clock.now() + within, () => this.#cutOff())
    try {
      return await drained
    } finally {
      stop?.()
    }
  }

  /**
   * Stops listening and closes every connection in order, without waiting for handlers: what they wait for on their
   * connection fails with `Closed`. Takes at most `timeout` milliseconds (default: the linger time), then aborts. Never
   * rejects.
   */
  async close(o: { timeout?: number | undefined } = {}): Promise<CloseReport> {
    const { clock, limits } = this.shared
    const timeout = o.timeout ?? limits.lingerTime
    this.#abandoned = true
    void this.#begin()
    await this.#told
    for (const session of this.#sessions.values()) {
      void session.connection.close({ timeout })
      this.#settleLater(session)
    }
    const stop = timeout === Number.POSITIVE_INFINITY ? undefined : clock.at(clock.now() + timeout, () => this.#cutOff())
    const report = await this.closed
    stop?.()
    return report
  }

  /** Stops listening and aborts every connection. */
  abort(reason?: unknown): void {
    this.#abortReason ??=
      reason instanceof SocketError ? reason : new Closed('ABORTED', CODES.Closed.ABORTED, { op: 'abort', cause: reason })
    void this.#begin()
    this.#cutOff()
  }

  /** As `drain`, or `abort`: what its owner calls. */
  override async end(o: { within?: number | undefined; abort?: boolean | undefined } = {}): Promise<EndReport> {
    if (o.abort) this.abort(new Closed('OWNER_ENDED', CODES.Closed.OWNER_ENDED))
    const { finished, aborted } = await this.drain({ within: o.within })
    return { closed: finished, aborted }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #begin(): Promise<DrainReport> {
    this.#drained ??= this.#drain()
    return this.#drained
  }

  async #drain(): Promise<DrainReport> {
    const { clock } = this.shared
    const started = clock.now()
    this.#stopLook?.()
    await Promise.all(this.#listeners.map((listener) => listener.close()))
    this.#stage('listeners-closed')
    const all = this.#sessions.size
    this.#draining = new Denied('DRAINING', CODES.Denied.DRAINING, { op: 'drain' })
    for (const session of this.#sessions.values()) session.tell(this.#draining)
    this.#stage('handlers-told')
    const empty = new Promise<void>((resolve) => {
      this.#whenEmpty = resolve
    })
    if (this.#sessions.size === 0) this.#whenEmpty?.()
    this.#tellTold()
    if (this.#isCutOff) this.#cutOff()
    await empty
    this.#stopSweep?.()
    // What else was opened in its name.
    await super.end({ abort: true })
    this.#parent.remove(this)
    this.#stage('done')
    const aborted = this.#aborted
    this.#settle(Object.freeze({ clean: aborted === 0, unsent: 0, ...(this.#abortReason && { reason: this.#abortReason }) }))
    return { finished: all - aborted, aborted, elapsed: clock.now() - started }
  }

  #stage(stage: 'listeners-closed' | 'handlers-told' | 'done'): void {
    const { clock, trace } = this.shared
    if (trace.wants('drain')) trace.emit({ type: 'drain', at: clock.wall(), id: this.id, stage, connections: this.#sessions.size })
  }

  /** The time is over: aborts what is left, once the handlers have been told. */
  #cutOff(): void {
    this.#isCutOff = true
    this.#abandoned = true
    if (this.#draining === undefined) return
    for (const session of this.#sessions.values()) {
      this.#aborted++
      session.connection.abort(this.#abortReason ?? this.#draining)
      this.#settleLater(session)
    }
  }
}

/** How often in the time a half-closed connection has it is looked at; so much later it may go at most. */
const SWEEPS = 8
/** Milliseconds between two alarms. */
const COOLDOWN = 5_000
/** Milliseconds until the descriptors of the process are counted again after they ran short. */
const LOOK_AGAIN = 100
/** Descriptors left to the rest of the process. */
const RESERVE = 64

/**
 * How many connections the process has descriptors for. Counting the open ones costs a directory listing, so it is done
 * each time half of what was left is used up: rarely while there are many, at every connection when they run short.
 */
class Descriptors {
  readonly #limit: number = descriptorLimit()
  #ceiling = 0
  #measureAt = 0

  allow(used: number): boolean {
    if (this.#limit === Number.POSITIVE_INFINITY) return true
    if (used >= this.#measureAt) this.measure(used)
    return used < this.#ceiling
  }

  measure(used: number): void {
    const reserve = Math.min(RESERVE, Math.floor(this.#limit / 4))
    const room = Math.max(0, this.#limit - reserve - openDescriptors())
    this.#ceiling = Math.max(1, used + room)
    this.#measureAt = used + Math.max(1, Math.floor(room / 2))
  }
}

/** The soft limit of RLIMIT_NOFILE where the system shows it (Linux); else none that is known. */
function descriptorLimit(): number {
  try {
    const soft = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1]
    return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft)
  } catch {
    return Number.POSITIVE_INFINITY
  }
}

/** Where even listing them needs a descriptor that is not to be had, all are taken. */
function openDescriptors(): number {
  try {
    return readdirSync('/proc/self/fd').length - 1
  } catch {
    return Number.POSITIVE_INFINITY
  }
}

/** What limits per peer go by; undefined for peers without an address. Who has one IPv6 address has a /64 of them. */
function peerKey(remote: Address | undefined): string | undefined {
  if (remote === undefined || remote.family === 'unix') return undefined
  if (remote.family === 'ipv4') return remote.address
  const bytes = ipBytes(remote.address)
  return bytes === undefined ? remote.address : `${Buffer.from(bytes.subarray(0, 8)).toString('hex')}%${remote.scope ?? ''}`
}

/** Whether a handler failed because its own connection ended: the close event of the connection tells why. */
function isItsOwnEnd(error: unknown, connection: Connection): boolean {
  if (!(error instanceof Broken || error instanceof Closed || error instanceof Denied)) return false
  const { local, remote } = factsOf(connection)
  return error.local === local && error.remote === remote
}

function failed(error: unknown): SocketError {
  if (error instanceof Broken || error instanceof Denied) return error
  const why = error instanceof Error ? error.message : String(error)
  return new Broken('HANDLER_FAILED', `${CODES.Broken.HANDLER_FAILED}: ${why}`, { op: 'handler', phase: 'handler', cause: error })
}

function factsOf(connection: Connection): { local?: string; remote?: string } {
  const { local, remote } = connection
  return { ...(local && { local: formatAddress(local) }), ...(remote && { remote: formatAddress(remote) }) }
}

function isTls(endpoint: Endpoint): boolean {
  const { transport } = parseEndpoint(endpoint)
  return transport === 'tls' || transport === 'tls+unix'
}

const SERVER_LIMITS: readonly (keyof ServerLimits)[] = ['connections', 'perAddress', 'handshakes']

function limitsOf(given: Partial<ServerLimits> | undefined, parent: Owner): ServerLimits {
  const { connections, handshakes } = parent.shared.limits
  const limits: ServerLimits = { connections, perAddress: Number.POSITIVE_INFINITY, handshakes }
  if (given === undefined) return limits
  refuseUnknown(given, SERVER_LIMITS, 'limits')
  for (const name of SERVER_LIMITS) if (given[name] !== undefined) limits[name] = count(given[name], `limits.${name}`)
  return limits
}

function count(value: unknown, name: string): number {
  if (typeof value !== 'number') throw invalidType(name, 'a whole number or Infinity', value)
  if (value < 0 || !(Number.isInteger(value) || value === Number.POSITIVE_INFINITY))
    throw outOfRange(name, 'a whole number, not negative, or Infinity', value)
  return value
}

function duration(value: unknown, name: string): number | undefined {
  if (value === undefined) return undefined
  if (typeof value !== 'number') throw invalidType(name, 'a number of milliseconds', value)
  if (Number.isNaN(value) || value < 0) throw outOfRange(name, 'milliseconds, not negative', value)
  return value
}

function checkAlarm(alarm: AlarmOptions | undefined): void {
  if (alarm === undefined) return
  refuseUnknown(alarm, ['threshold', 'cooldown', 'call'], 'alarm')
  count(alarm.threshold, 'alarm.threshold')
  duration(alarm.cooldown, 'alarm.cooldown')
  if (typeof alarm.call !== 'function') throw invalidType('alarm.call', 'a function', alarm.call)
}
