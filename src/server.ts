/** Serving: a handler for each connection, within limits that can be changed while it runs, and an orderly end. */

import { abortReason, type Listener, type Taker } from './accept.js'
import {
  type Address,
  type DescriptorEndpoint,
  descriptorIn,
  type Endpoint,
  ipBytes,
  isTls,
  isUnixEndpoint,
  parseEndpoint,
} from './address.js'
import { limit, milliseconds } from './arguments.js'
import type { Connection } from './connection.js'
import { Descriptors } from './descriptors.js'
import { Broken, Cancelled, Closed, CODES, Denied, invalidType, messageOf, outOfRange, refuseUnknown, type SocketError } from './errors.js'
import type { ListenOptions, Network } from './network.js'
import { foreignNames } from './options.js'
import { type EndReport, inThisContext, type Member, Owner, tell } from './owner.js'
import { Roster } from './roster.js'
import type { CloseReport, Limits } from './stream.js'
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

/** What `serve` takes besides the options of `listen`. @internal */
export const SERVER_OPTIONS = ['limits', 'lifetime', 'halfClosed', 'firstByte', 'alarm'] as const

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

/** Where a server listens: an endpoint, or a socket that listens already. */
type Served = Endpoint | DescriptorEndpoint

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
  readonly #handler: Handler
  readonly #settings: Settings
  readonly #listeners: Listener[] = []
  readonly #sessions: Roster<Session> = new Roster()
  readonly #perAddress: Map<string, number> = new Map()
  readonly #descriptors: Descriptors = new Descriptors()
  #settle!: (report: CloseReport) => void
  #draining: SocketError | undefined
  #drained: Promise<DrainReport> | undefined
  /** Resolves when the handlers have been told. */
  #told: Promise<number> | undefined
  #whenEmpty: (() => void) | undefined
  /** The time of a drain is over. */
  #isCutOff = false
  /** Handlers are no longer waited for. */
  #abandoned = false
  #abortReason: SocketError | undefined
  #aborted = 0
  /** What became of what else was opened in its name. */
  #others: EndReport = { closed: 0, aborted: 0 }
  #stopSweep: (() => void) | undefined
  #stopLook: (() => void) | undefined
  /** Sessions that may be over. */
  readonly #changed: Session[] = []
  readonly #counts = { accepted: 0, peak: 0, handlerErrors: 0, exhausted: 0 }
  #refusedByAddress = 0
  #alarmedAt = Number.NEGATIVE_INFINITY

  /** @internal */
  constructor(parent: Owner, o: ServeOptions, handler: Handler) {
    // All that can be wrong, before the parent knows of it.
    const settings = settingsOf(o, parent.shared.limits)
    const limits = limitsOf(o.limits, parent.shared.limits)
    super('server', parent)
    this.#handler = inThisContext(handler)
    this.#settings = settings
    this.limits = liveLimits(limits, () => this.#poke())
    this.closed = new Promise((resolve) => {
      this.#settle = resolve
    })
  }

  /** @internal what `network.serve` does */
  static async open(network: Network, at: Served | readonly Served[], o: ServeOptions, handler: Handler): Promise<Server> {
    if (typeof handler !== 'function') throw invalidType('handler', 'a function', handler)
    const all: readonly Served[] = Array.isArray(at) ? at : [at as Served]
    if (all.length === 0) throw outOfRange('at', 'at least one endpoint', 'an empty array')
    const owner = network.ownerOf(o.owner)
    owner.mustLive({ op: 'serve' })
    const server = new Server(owner, o, handler)
    try {
      const secured = all.some(isTls)
      const mixed = new Set(all.map(standsOn)).size > 1
      for (const endpoint of all) {
        // Settings for TLS and options of TCP go to the endpoints that want them; without any such endpoint `listen` says what is wrong.
        const foreign = mixed ? foreignNames('listener', standsOn(endpoint)) : []
        const spared = new Set<string>([...SERVER_OPTIONS, ...foreign, ...(secured && !isTls(endpoint) ? ['tls'] : [])])
        const listening: ListenOptions = Object.fromEntries(Object.entries(o).filter(([name]) => !spared.has(name)))
        server.#listeners.push(await network.listen(endpoint, { ...listening, owner: server }))
      }
    } catch (error) {
      await server.close()
      throw error
    }
    for (const listener of server.#listeners) listener.attach(server.#taker)
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
      ...this.#counts,
      active: this.#sessions.size,
      refused: { perAddress: this.#refusedByAddress, policy: sum((stats) => stats.refused) - this.#refusedByAddress },
      unserved: { count: sum((stats) => stats.unserved.count), estimated: listeners.some((stats) => stats.unserved.estimated) },
      handshaking: sum((stats) => stats.handshaking),
      handshakeFailures: sum((stats) => stats.handshakeFailures),
      exhausted: this.#counts.exhausted + sum((stats) => stats.exhausted),
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
    handshakes: () => this.limits.handshakes,
    wants: () => this.#sessions.size < this.limits.connections && this.#hasDescriptors(),
    admit: (remote) => this.#admit(remote),
    lost: (remote) => this.#countOut(remote),
    take: (connection) => this.#take(connection),
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
    this.#counts.exhausted++
    tell(this.shared, { type: 'refused', id: this.id, reason: 'descriptors', count: 0, estimated: true })
    this.#lookLater()
    return false
  }

  #lookLater(): void {
    this.#stopLook = this.#after(LOOK_AGAIN, () => {
      this.#stopLook = undefined
      this.#descriptors.measure(this.#sessions.size)
      if (this.#descriptors.allow(this.#sessions.size)) this.#poke()
      else this.#lookLater()
    })
  }

  #poke(): void {
    for (const listener of this.#listeners) listener.poke()
  }

  // Sessions

  #take(connection: Connection): void {
    if (connection.state === 'closed') return this.#countOut(connection.remote)
    const session = new Session(this, connection)
    this.#sessions.set(connection.id, session)
    this.#counts.accepted++
    this.#counts.peak = Math.max(this.#counts.peak, this.#sessions.size)
    this.#abortAfter(session, 'lifetime', 'LIFETIME', () => true)
    this.#abortAfter(session, 'firstByte', 'TOO_SLOW', () => session.connection.stats.bytesRead === 0)
    this.#sweepLater()
    // It begins when accepting is done with its connection.
    queueMicrotask(() => this.#run(session))
    this.#raiseAlarm()
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
    if (failure !== undefined && !connection.tells(failure.error)) {
      this.#counts.handlerErrors++
      this.#report(connection.id, 'handler', failure.error)
    }
    // What was moved to another owner is no longer ours to end.
    if (connection.owner !== this) return
    if (failure === undefined) void connection.close()
    else connection.abort(failed(failure.error))
    this.#settleLater(session)
  }

  /** Whether a handler gave up because it was told to: it gave its signal to what it waited for. */
  #isObedience(error: unknown): boolean {
    if (this.#draining === undefined) return false
    return error === this.#draining || (error instanceof Cancelled && error.cause === this.#draining)
  }

  #report(id: number, op: string, error: unknown): void {
    tell(this.shared, { type: 'error', id, op, error })
  }

  /** @internal */
  override add(member: Member): void {
    super.add(member)
    const session = this.#sessions.get(member.id)
    if (session === undefined) return
    // An upgrade: the same connection as a new object.
    session.connection = member.face as Connection
    session.released = false
    session.watch()
  }

  /** @internal */
  override remove(member: Member, moved: boolean): void {
    super.remove(member, moved)
    const session = this.#sessions.get(member.id)
    if (session === undefined || session.connection !== member.face) return
    if (moved) {
      // Nobody but its handler may have it now; it was not watched as long as this held it.
      session.connection.given(undefined)
      session.done = true
    }
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

  #abortAfter(session: Session, limit: 'lifetime' | 'firstByte', code: 'LIFETIME' | 'TOO_SLOW', due: () => boolean): void {
    const time = this.#settings[limit]
    if (time === Number.POSITIVE_INFINITY) return
    const stop = this.#after(time, () => {
      const { connection } = session
      if (due()) connection.abort(new Denied(code, `${CODES.Denied[code]}: ${time} ms`, connection.facts('serve')))
    })
    session.stops = [...(session.stops ?? []), stop]
  }

  /** Calls `fn` in `time` milliseconds, never if that is `Infinity`; returns what cancels it. */
  #after(time: number, fn: () => void): () => void {
    const { clock } = this.shared
    return time === Number.POSITIVE_INFINITY ? () => {} : clock.at(clock.now() + time, fn)
  }

  /** One timer looks after the half-closed of all connections, so that those that never are cost nothing. */
  #sweepLater(): void {
    const { halfClosed } = this.#settings
    if (halfClosed === Number.POSITIVE_INFINITY || this.#stopSweep !== undefined) return
    this.#stopSweep = this.#after(Math.max(1, halfClosed / SWEEPS), () => {
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
    const { halfClosed } = this.#settings
    if (now - session.halfSince < halfClosed) return
    connection.abort(new Denied('IDLE', `the connection was half-closed for ${halfClosed} ms without a byte`, connection.facts('serve')))
  }

  #raiseAlarm(): void {
    const { alarm } = this.#settings
    if (alarm === undefined || this.#sessions.size < alarm.threshold) return
    const now = this.shared.clock.now()
    if (now - this.#alarmedAt < alarm.cooldown) return
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
    const within = milliseconds('within', o.within ?? this.shared.limits.lingerTime)
    const drained = this.#begin()
    const stop = this.#after(within, () => this.#cutOff())
    try {
      return await drained
    } finally {
      stop()
    }
  }

  /**
   * Stops listening and closes every connection in order, without waiting for handlers: what they wait for on their
   * connection fails with `Closed`. Takes at most `timeout` milliseconds (default: the linger time), then aborts. Never
   * rejects.
   */
  async close(o: { timeout?: number | undefined } = {}): Promise<CloseReport> {
    const timeout = o.timeout ?? this.shared.limits.lingerTime
    this.#abandoned = true
    void this.#begin()
    await this.#told
    for (const session of this.#sessions.values()) {
      void session.connection.close({ timeout })
      this.#settleLater(session)
    }
    const stop = this.#after(timeout, () => this.#cutOff())
    const report = await this.closed
    stop()
    return report
  }

  /** Stops listening and aborts every connection. */
  abort(reason?: unknown): void {
    this.#abortReason ??= abortReason(reason, { op: 'abort' })
    void this.#begin()
    this.#cutOff()
  }

  /** As `close`, within that time, or `abort`: what its owner does when it ends. */
  override async end(o: { within?: number | undefined; abort?: boolean | undefined } = {}): Promise<EndReport> {
    if (o.abort) this.abort(new Closed('OWNER_ENDED', CODES.Closed.OWNER_ENDED))
    else void this.close({ timeout: o.within })
    const { finished, aborted } = await this.#begin()
    const others = this.#others
    return { ...others, closed: finished + others.closed, aborted: aborted + others.aborted }
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #begin(): Promise<DrainReport> {
    this.#drained ??= this.#drain()
    return this.#drained
  }

  async #drain(): Promise<DrainReport> {
    const { clock } = this.shared
    const started = clock.now()
    this.#told = this.#tellHandlers()
    const all = await this.#told
    if (this.#sessions.size > 0) {
      await new Promise<void>((resolve) => {
        this.#whenEmpty = resolve
      })
    }
    this.#stopSweep?.()
    // What else was opened in its name is flushed, but not beyond the time there is.
    this.#others = await super.end({ within: Number.POSITIVE_INFINITY, abort: this.#isCutOff })
    this.#stage('done')
    const aborted = this.#aborted
    this.#settle(Object.freeze({ clean: aborted === 0, unsent: 0, ...(this.#abortReason && { reason: this.#abortReason }) }))
    return { finished: all - aborted, aborted, elapsed: clock.now() - started }
  }

  /** Stops listening and tells the handlers; how many they are. */
  async #tellHandlers(): Promise<number> {
    this.#stopLook?.()
    await Promise.all(this.#listeners.map((listener) => listener.close()))
    this.#stage('listeners-closed')
    const all = this.#sessions.size
    this.#draining = new Denied('DRAINING', CODES.Denied.DRAINING, { op: 'drain' })
    for (const session of this.#sessions.values()) session.tell(this.#draining)
    this.#stage('handlers-told')
    if (this.#isCutOff) this.#cutOff()
    return all
  }

  #stage(stage: 'listeners-closed' | 'handlers-told' | 'done'): void {
    tell(this.shared, { type: 'drain', id: this.id, stage, connections: this.#sessions.size })
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
    if (this.#sessions.size === 0) void super.end({ abort: true })
  }
}

/** How often in the time a half-closed connection has it is looked at; so much later it may go at most. */
const SWEEPS = 8
/** Milliseconds between two alarms. */
const COOLDOWN = 5_000
/** Milliseconds until the descriptors of the process are counted again after they ran short. */
const LOOK_AGAIN = 100

/** What limits per peer go by; undefined for peers without an address. Who has one IPv6 address has a /64 of them. */
function peerKey(remote: Address | undefined): string | undefined {
  if (remote === undefined || remote.family === 'unix') return undefined
  if (remote.family === 'ipv4') return remote.address
  const bytes = ipBytes(remote.address)
  return bytes === undefined ? remote.address : `${Buffer.from(bytes.subarray(0, 8)).toString('hex')}%${remote.scope ?? ''}`
}

function failed(error: unknown): SocketError {
  if (error instanceof Broken || error instanceof Denied) return error
  return new Broken('HANDLER_FAILED', `${CODES.Broken.HANDLER_FAILED}: ${messageOf(error)}`, {
    op: 'handler',
    phase: 'handler',
    cause: error,
  })
}

const SERVER_LIMITS = ['connections', 'perAddress', 'handshakes'] as const

/** What cannot be changed while it serves. Times are milliseconds. */
interface Settings {
  readonly halfClosed: number
  readonly lifetime: number
  readonly firstByte: number
  readonly alarm: (AlarmOptions & { readonly cooldown: number }) | undefined
}

function settingsOf(o: ServeOptions, defaults: Readonly<Limits>): Settings {
  return {
    halfClosed: milliseconds('halfClosed', o.halfClosed ?? defaults.halfClosed),
    lifetime: milliseconds('lifetime', o.lifetime ?? Number.POSITIVE_INFINITY),
    firstByte: milliseconds('firstByte', o.firstByte ?? Number.POSITIVE_INFINITY),
    alarm: alarmOf(o.alarm),
  }
}

function limitsOf(given: Partial<ServerLimits> | undefined, { connections, handshakes }: Readonly<Limits>): ServerLimits {
  const limits: ServerLimits = { connections, perAddress: Number.POSITIVE_INFINITY, handshakes }
  refuseUnknown(given ?? {}, SERVER_LIMITS, 'limits')
  for (const name of SERVER_LIMITS) if (given?.[name] !== undefined) limits[name] = limit(`limits.${name}`, given[name], 0)
  return limits
}

/** `values` as an object whose fields are checked when they are set, and act at once. */
function liveLimits(values: ServerLimits, changed: () => void): ServerLimits {
  const live = { ...values }
  for (const name of SERVER_LIMITS) {
    Object.defineProperty(live, name, {
      get: () => values[name],
      set: (value: unknown) => {
        values[name] = limit(`limits.${name}`, value, 0)
        changed()
      },
    })
  }
  return Object.seal(live)
}

function alarmOf(alarm: AlarmOptions | undefined): Settings['alarm'] {
  if (alarm === undefined) return undefined
  refuseUnknown(alarm, ['threshold', 'cooldown', 'call'], 'alarm')
  const { call } = alarm
  if (typeof call !== 'function') throw invalidType('alarm.call', 'a function', call)
  return {
    threshold: limit('alarm.threshold', alarm.threshold, 0),
    cooldown: milliseconds('alarm.cooldown', alarm.cooldown ?? COOLDOWN),
    call: inThisContext(call),
  }
}

/** Of a descriptor nothing is known yet. */
function standsOn(endpoint: Served): 'tcp' | 'unix' {
  return descriptorIn(endpoint) === undefined && isUnixEndpoint(parseEndpoint(endpoint as Endpoint)) ? 'unix' : 'tcp'
}
