/** A byte stream with two directions: the one class behind every transport. */

import type { Duplex } from 'node:stream'
import type { ReadableStream, WritableStream } from 'node:stream/web'
import { type Address, formatAddress, isUnixEndpoint, parseEndpoint } from './address.js'
import { arm } from './deadline.js'
import type { StreamEvents, StreamHandle } from './driver.js'
import { again, Broken, broken, Busy, Closed, CODES, Denied, type ErrorFacts, type SocketError, TlsError } from './errors.js'
import type { Codec } from './framing.js'
import { Chunks, type Claim, Inbound, type Side } from './inbound.js'
import { handleOfStream, toDuplex, toReadableStream, toWritableStream } from './interop.js'
import { MessageStream } from './messages.js'
import { Outbound } from './outbound.js'
import { defaultOwner, type Owner, type Shared, tell } from './owner.js'
import type {
  Bytes,
  CloseReport,
  ConnectionState,
  ConnectionStats,
  Defaults,
  LimitOptions,
  LineOptions,
  ReadOptions,
  Wait,
} from './stream.js'
import { secure, type TlsInfo } from './tls.js'
import { prepareClient, prepareServer, type ServerTlsOptions, type TlsOptions } from './tls-options.js'
import { nextId, type OpenEvent } from './trace.js'

export interface Adoption {
  owner?: Owner | undefined
  defaults?: Defaults | undefined
}

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

/**
 * A connected socket. Every verb is asynchronous, takes a {@link Wait}, and keeps the promises of `stream.ts`.
 *
 * ```ts
 * import { connect, listen } from 'fairlead'
 *
 * await using listener = await listen('tcp://127.0.0.1:0')
 * await using client = await connect(listener.endpoint)
 * await using server = await listener.accept()
 * await client.write('hello\n')
 * console.log(await server.readLine({ timeout: 1_000 })) // hello
 * ```
 */
export class Connection {
  readonly id: number
  readonly #handle: StreamHandle
  readonly #in: Inbound
  readonly #out: Outbound
  readonly #origin: Origin
  /** Moments of the network's clock. */
  readonly #openedAt: number
  #report: CloseReport | undefined
  #closed: Promise<CloseReport> | undefined
  #settle: ((report: CloseReport) => void) | undefined
  #closing: Promise<CloseReport> | undefined
  #controller: AbortController | undefined
  /** Why every operation is refused: closed, aborted or consumed on this side. */
  #refusal: SocketError | undefined
  #released = false
  #stopIdle: (() => void) | undefined
  #stopLinger: (() => void) | undefined
  /** Disarms the deadlines given to `close`. */
  #stopClose: (() => void) | undefined

  /** @internal made by `connect`, `accept`, `fromNode` and `startTls` */
  constructor(handle: StreamHandle, origin: Origin) {
    this.#handle = handle
    this.#origin = origin
    this.id = origin.heir?.id ?? nextId()
    // Whole milliseconds: a fraction would cost every connection a heap number.
    this.#openedAt = origin.heir?.openedAt ?? Math.trunc(origin.owner.shared.clock.now())
    const { defaults } = origin
    const side = new Connection.#Side(this)
    this.#in = new Inbound(handle, side)
    this.#out = new Outbound(handle, side)
    this.#in.bytesRead = origin.heir?.bytesRead ?? 0
    this.#out.bytesWritten = origin.heir?.bytesWritten ?? 0
    try {
      origin.owner.add(this)
    } catch (error) {
      // The owner ended while this connection was being made: nobody else would give the descriptor back.
      handle.destroy(true)
      throw error
    }
    handle.attach(side)
    this.#announce()
    if (defaults?.idle !== undefined) this.#watchIdle(defaults.idle, side)
  }

  /** What the driver and the two directions see of a connection: one small object, as there may be many connections. */
  static readonly #Side = class implements Side, StreamEvents {
    readonly #of: Connection
    /** The moment of the last byte in either direction, where an idle time asks for it. */
    lastMove: number | undefined

    constructor(of: Connection) {
      this.#of = of
      this.lastMove = of.#origin.defaults?.idle === undefined ? undefined : of.#openedAt
    }

    get readTime(): number | undefined {
      return this.#of.#origin.defaults?.read
    }

    get writeTime(): number | undefined {
      return this.#of.#origin.defaults?.write
    }

    moved(): void {
      if (this.lastMove !== undefined) this.lastMove = this.shared.clock.now()
    }

    get shared(): Shared {
      return this.#of.owner.shared
    }

    facts(op: string): ErrorFacts {
      return this.#of.facts(op)
    }

    ended(): void {
      this.#of.#directionEnded()
    }

    broke(error: SocketError): void {
      this.#of.#directionBroke(error)
    }

    readable(): void {
      if (this.#of.#stopLinger === undefined) this.#of.#in.readable()
      else this.#of.#lingerOn()
    }

    writable(): void {
      this.#of.#out.writable()
    }
  }

  #announce(): void {
    const { shared } = this.owner
    const { security } = this
    if (security !== null) {
      const { protocol, cipher, alpn, serverName, resumed, verified } = security
      tell(shared, { type: 'tls', id: this.id, protocol, cipher, alpn, serverName, resumed, verified })
    }
    if (this.#origin.heir !== undefined || !shared.trace.wants('open')) return
    tell(shared, {
      type: 'open',
      kind: 'connection',
      id: this.id,
      role: this.#origin.role,
      driver: this.driver,
      local: this.local ? formatAddress(this.local) : '',
      remote: this.remote ? formatAddress(this.remote) : '',
      owner: this.owner.name,
      ...(this.#origin.listener !== undefined && { listener: this.#origin.listener }),
    })
  }

  /** What its errors repeat. @internal */
  facts(op: string): ErrorFacts {
    return {
      op,
      ...(this.endpoint && { endpoint: this.endpoint }),
      ...(this.local && { local: formatAddress(this.local) }),
      ...(this.remote && { remote: formatAddress(this.remote) }),
    }
  }

  get owner(): Owner {
    return this.#origin.owner
  }

  get driver(): string {
    return this.#origin.driver
  }

  get local(): Address | undefined {
    return this.#handle.local
  }

  get remote(): Address | undefined {
    return this.#handle.remote
  }

  /** Facts of the TLS session; null on a plain connection. */
  get security(): TlsInfo | null {
    return this.#origin.security ?? null
  }

  /** The endpoint this connection was dialled to or accepted at; empty for an adopted one. */
  get endpoint(): string {
    return this.#origin.endpoint ?? ''
  }

  /** Resolves when the connection has ended, whoever ended it; never rejects. */
  get closed(): Promise<CloseReport> {
    this.#closed ??=
      this.#report === undefined
        ? new Promise((resolve) => {
            this.#settle = resolve
          })
        : Promise.resolve(this.#report)
    return this.#closed
  }

  get state(): ConnectionState {
    if (this.#report !== undefined || this.#refusal !== undefined) return 'closed'
    if (this.#in.ended) return 'read-ended'
    return this.#out.ended ? 'write-ended' : 'open'
  }

  get stats(): ConnectionStats {
    const { clock } = this.owner.shared
    return {
      bytesRead: this.#in.bytesRead,
      bytesWritten: this.#out.bytesWritten,
      unread: this.#in.buffered,
      unsent: this.#out.unsent,
      openedAt: clock.wall() - (clock.now() - this.#openedAt),
    }
  }

  /** Aborts when the connection is known to be broken or closed; its reason is the error. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#report !== undefined) this.#controller.abort(this.#why(this.#report))
      else if (this.#out.failure !== undefined) this.#controller.abort(this.#out.failure)
    }
    return this.#controller.signal
  }

  #why(report: CloseReport): SocketError {
    return report.reason ?? this.#refusal ?? new Closed('CLOSED', 'both directions have ended', this.facts('close'))
  }

  // Reading

  /**
   * Some bytes, yours to keep; `null` at the peer's end.
   *
   * @throws `Busy` beside another reader, `DeadlineError`, `Cancelled`, `Closed`, `Broken`
   */
  read(o?: ReadOptions): Promise<Uint8Array | null> {
    return this.#in.read(o)
  }

  /** As `read`, into `into`, from its start; resolves with the count, 0 only if `into` is empty, `null` at the end. */
  readInto(into: Uint8Array, o?: Wait): Promise<number | null> {
    return this.#in.readInto(into, o)
  }

  /**
   * Exactly `n` bytes; `null` at an end with nothing pending.
   *
   * @throws `FrameError/INCOMPLETE` at an end in between; the bytes stay readable
   */
  readExactly(n: number, o?: Wait): Promise<Uint8Array | null> {
    return this.#in.readExactly(n, o)
  }

  /**
   * What stands before `delimiter`, which is consumed and not part of the result; `null` at an end with nothing pending.
   * `limit` (default 64 KiB) excludes the delimiter.
   *
   * @throws `FrameError/TOO_LONG` (nothing is consumed), `FrameError/INCOMPLETE` (the bytes stay readable)
   */
  readUntil(delimiter: Bytes | string, o?: LimitOptions): Promise<Uint8Array | null> {
    return this.#in.readUntil(delimiter, o)
  }

  /** A line without its LF or CRLF; `null` at an end with nothing pending. Errors as `readUntil`. */
  readLine(o: LineOptions & { encoding: 'bytes' }): Promise<Uint8Array | null>
  readLine(o?: LineOptions & { encoding?: 'utf8' | 'latin1' | undefined }): Promise<string | null>
  readLine(o?: LineOptions): Promise<string | Uint8Array | null> {
    return this.#in.readLine(o)
  }

  /** Everything up to the end, at most `limit` bytes (default 16 MiB). @throws `FrameError/TOO_LONG`; nothing is consumed */
  readAll(o?: LimitOptions): Promise<Uint8Array> {
    return this.#in.readAll(o)
  }

  /** What is here now: bytes, `null` at the end, `undefined` when there is nothing now. Throws what `read` rejects with. */
  tryRead(limit?: number): Uint8Array | null | undefined {
    return this.#in.tryRead(limit)
  }

  /** A copy of the next `n` bytes, fewer only before the end; without `n`, of what is here, at least one. Consumes nothing. */
  peek(n?: number, o?: Wait): Promise<Uint8Array | null> {
    return this.#in.peek(n, o)
  }

  /** Puts bytes in front of everything, also after the end was seen. */
  unread(bytes: Bytes | string): void {
    this.#in.unread(bytes)
  }

  /** Resolves when a read would not wait: bytes, the end or an error are there. Consumes nothing. */
  waitReadable(o?: Wait): Promise<void> {
    return this.#in.waitReadable(o)
  }

  /** What arrives, chunk by chunk, until the end; `o` holds for each chunk. Leaving the loop closes nothing. */
  chunks(o?: ReadOptions): AsyncIterableIterator<Uint8Array> {
    return new Chunks(this.#in, o)
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<Uint8Array> {
    return new Chunks(this.#in, undefined)
  }

  // Writing

  /**
   * Sends bytes, several pieces, or a string as UTF-8; settles when more would be welcome. Writes keep their order.
   * Its rejection is pre-handled: the next operation and `closed` repeat it.
   *
   * @throws `DeadlineError`, `Cancelled`, `Closed`, `Broken`, each with `bytesWritten`
   */
  write(data: Bytes | string | readonly Bytes[], o?: Wait): Promise<void> {
    return this.#out.write(data, o)
  }

  /** Sends what is welcome now, at least one byte; resolves with the count. */
  writeSome(data: Bytes | string | readonly Bytes[], o?: Wait): Promise<number> {
    return this.#out.writeSome(data, o)
  }

  /** Resolves when everything written has been handed to the system. */
  flush(o?: Wait): Promise<void> {
    return this.#out.flush(o)
  }

  /** Resolves when a write would be accepted at once. May run beside anything. */
  waitWritable(o?: Wait): Promise<void> {
    return this.#out.waitWritable(o)
  }

  /** Ends the write direction behind everything written; reading goes on. Idempotent. */
  end(o?: Wait): Promise<void> {
    return this.#out.end(o)
  }

  // Ending

  /**
   * Flushes what was accepted, ends the stream and gives the descriptor back; wakes everything that waits with `Closed`.
   * Takes at most the linger time (5 s) or its own deadline, then aborts. Idempotent; never rejects.
   */
  close(o?: Wait): Promise<CloseReport> {
    if (!this.#released) {
      let stop: (() => void) | undefined
      const give = (error: unknown) => {
        // The stream has ended in order, and only lingers so that nothing of it is lost: no longer than this.
        if (this.#report !== undefined) return this.#release(false)
        this.#closing ??= this.closed
        this.#refuse(new Closed('CLOSED', CODES.Closed.CLOSED, this.facts('close')))
        this.#finish({ clean: false, unsent: this.#out.drop(), reason: broken(error, this.facts('close')) }, true)
      }
      try {
        stop = arm(o, this.owner.shared.clock, () => this.facts('close'), give)
      } catch (error) {
        give(error)
      }
      if (stop !== undefined) {
        const earlier = this.#stopClose
        this.#stopClose = () => {
          earlier?.()
          stop()
        }
        if (this.#released) this.#stopClose()
      }
    }
    this.#closing ??= this.#close()
    return this.#closing
  }

  #close(): Promise<CloseReport> {
    if (this.#report !== undefined) {
      // Broken before: what is still unread is given up now, and operations fail with `Closed` from here on.
      this.#refuse(new Closed('CLOSED', CODES.Closed.CLOSED, this.facts('close')))
      return this.closed
    }
    if (this.#refusal?.code === 'CONSUMED') {
      // In the middle of an upgrade there is no stream that could be ended in order.
      this.abort()
      return this.closed
    }
    const { clock, limits } = this.owner.shared
    this.#refuse(new Closed('CLOSED', CODES.Closed.CLOSED, this.facts('close')))
    const stop = clock.at(clock.now() + limits.lingerTime, () => {
      const reason = new Broken('ETIMEDOUT', `the peer did not take what was left within ${limits.lingerTime} ms`, this.facts('close'))
      this.#finish({ clean: false, unsent: this.#out.drop(), reason }, true)
    })
    void this.closed.then(stop)
    this.#out.finish().then(
      () => this.#finish({ clean: true, unsent: 0 }, false),
      (error) => this.#finish({ clean: false, unsent: this.#out.drop(), reason: broken(error, this.facts('close')) }, true),
    )
    return this.closed
  }

  /** Ends both directions at once, with a reset where the transport has one. Idempotent. */
  abort(reason?: unknown): void {
    if (this.#report !== undefined && this.#released) {
      this.#refuse(aborted(reason, this.facts('abort')))
      return
    }
    const error = aborted(reason, this.facts('abort'))
    this.#refuse(error)
    this.#closing ??= this.closed
    this.#finish({ clean: false, unsent: this.#out.drop(), reason: error }, true)
    this.#release(true)
  }

  /** Runs `fn`; closes when it returns, aborts when it throws. */
  async use<T>(fn: (connection: this) => T | Promise<T>): Promise<T> {
    try {
      const result = await fn(this)
      await this.close()
      return result
    } catch (error) {
      this.abort(error)
      throw error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #refuse(error: SocketError): void {
    this.#refusal ??= error
    this.#in.refuse(error)
    this.#out.refuse(error)
  }

  /** The one place where a connection ends. */
  #finish(report: CloseReport, now: boolean): void {
    if (this.#report === undefined) {
      this.#report = Object.freeze(report)
      this.#stopIdle?.()
      const { shared } = this.owner
      this.#controller?.abort(this.#why(report))
      // What was handed over has been released already, and its heir will tell.
      if (!this.#released) {
        const { bytesRead } = this.#in
        const { bytesWritten } = this.#out
        tell(shared, {
          type: 'close',
          kind: 'connection',
          id: this.id,
          report,
          bytesRead,
          bytesWritten,
          duration: shared.clock.now() - this.#openedAt,
        })
      }
      this.#settle?.(this.#report)
    }
    if (this.#released) return
    if (now || !this.#handle.mayLose()) this.#release(!report.clean)
    else this.#linger()
  }

  #release(reset: boolean): void {
    if (this.#released) return
    this.#released = true
    this.#stopLinger?.()
    this.#stopClose?.()
    this.#handle.destroy(reset)
    this.owner.remove(this)
  }

  #lingered = 0

  /**
   * The stream was ended in order, but destroying the socket now could reset it and cost the peer bytes that are still on
   * their way: its input is drained until its end, within bounds of time and bytes.
   */
  #linger(): void {
    const { clock, limits } = this.owner.shared
    this.#stopLinger = clock.at(clock.now() + limits.lingerTime, () => this.#release(false))
    this.#lingerOn()
  }

  #lingerOn(): void {
    const { count, open } = this.#in.discard()
    this.#lingered += count
    if (!open || this.#lingered > this.owner.shared.limits.lingerBytes) this.#release(false)
  }

  /** Both directions ended in order: nothing is left to do with the descriptor. */
  #directionEnded(): void {
    if (!this.#in.ended || this.#refusal !== undefined) return
    if (this.#out.failure !== undefined) this.#finish({ clean: false, unsent: this.#out.drop(), reason: this.#out.failure }, true)
    else if (this.#out.shut) this.#finish({ clean: true, unsent: 0 }, true)
  }

  #directionBroke(error: SocketError): void {
    // A failed write leaves input that arrived before it; the descriptor goes when reading has come to its end too.
    if (!this.#in.failed && !this.#in.ended) {
      this.#controller?.abort(error)
      return
    }
    if (!this.#out.shut) this.#out.fail(error)
    this.#finish({ clean: false, unsent: this.#out.drop(), reason: this.#out.failure ?? error }, true)
  }

  #watchIdle(idle: number, side: { readonly lastMove: number | undefined }): void {
    const { clock } = this.owner.shared
    const check = () => {
      const last = side.lastMove ?? this.#openedAt
      if (clock.now() >= last + idle) {
        this.abort(new Denied('IDLE', `${CODES.Denied.IDLE}: ${idle} ms without a byte`, this.facts('idle')))
      } else this.#stopIdle = clock.at(last + idle, check)
    }
    this.#stopIdle = clock.at(clock.now() + idle, check)
  }

  ref(): this {
    this.#handle.ref()
    return this
  }

  unref(): this {
    this.#handle.unref()
    return this
  }

  // Other shapes

  /** Messages instead of bytes; takes the reader slot until `detach`. */
  frames<T, S = T>(codec: Codec<T, S>): MessageStream<T, S> {
    return new MessageStream(this, codec)
  }

  /**
   * A connection over a Node stream, a `net.Socket` above all, which it takes over. The stream must not have been ended,
   * nor may it be flowing. TLS sockets made by Node cannot tell a truncated stream: use `connect` or `startTls` for TLS.
   */
  static fromNode(stream: Duplex, o: Adoption = {}): Connection {
    const handle = handleOfStream(stream)
    return new Connection(handle, { owner: o.owner ?? defaultOwner(), role: 'adopted', driver: 'node', defaults: o.defaults })
  }

  /** @internal the exclusive use of the read direction */
  claim(op: string): Claim {
    return this.#in.claim(op)
  }

  /** A Web stream of what arrives; takes the reader slot when it is first read. */
  get readable(): ReadableStream<Uint8Array> {
    return toReadableStream(this)
  }

  /** A Web stream to write to; closing it ends the write direction. */
  get writable(): WritableStream<Bytes | string> {
    return toWritableStream(this)
  }

  /** A Node stream that behaves as a `net.Socket`; consumes this connection. */
  toNode(): Duplex {
    return toDuplex(this.#bequeath('toNode'))
  }

  /**
   * Upgrades to TLS, after what was written has been flushed in plain text and `reply` sent. Consumes this connection:
   * number and counters go on in the new one.
   *
   * @throws `Busy` under a pending read, `TlsError/PLAINTEXT_BUFFERED` if any plain text was received and not read (the
   * connection is aborted), and what a handshake fails with
   */
  async startTls(
    o: TlsOptions & Wait & { role?: 'client' | 'server' | undefined; reply?: Bytes | string | undefined } = {},
  ): Promise<Connection> {
    const { reply, role = this.#origin.role === 'accepted' ? 'server' : 'client', timeout, deadline, signal, ...settings } = o
    const { clock, limits } = this.owner.shared
    const facts: ErrorFacts = { ...this.facts('startTls'), phase: 'tls' }
    const wait = { timeout, deadline, signal }
    const chosen = { handshakeTimeout: limits.handshake, ...settings }
    this.#mustLive('startTls')
    const tls = role === 'client' ? prepareClient(chosen, this.#target()) : prepareServer(chosen as ServerTlsOptions)
    await this.#out.flush(wait)
    if (this.#in.busy) throw new Busy('BUSY', `${CODES.Busy.BUSY}: startTls while a read is pending`, facts)
    const buffered = this.#in.buffered > 0 ? this.#in.buffered : (this.#in.tryRead(undefined)?.length ?? 0)
    if (buffered > 0) {
      const error = new TlsError('PLAINTEXT_BUFFERED', `${CODES.TlsError.PLAINTEXT_BUFFERED}: ${buffered} bytes`, facts)
      this.abort(error)
      throw error
    }
    if (reply !== undefined) {
      await this.#out.write(reply, wait)
      await this.#out.flush(wait)
    }
    const consumed = new Closed('CONSUMED', `${CODES.Closed.CONSUMED}: startTls`, facts)
    this.#refuse(consumed)
    try {
      const ends = signal ? AbortSignal.any([signal, this.signal]) : this.signal
      const { handle, info } = await secure(this.#handle, tls, { clock, wait: { ...wait, signal: ends }, facts })
      this.#hand(consumed)
      return new Connection(handle, { ...this.#origin, security: info, heir: this.#legacy() })
    } catch (error) {
      // Ended from outside, by its owner perhaps, while the handshake was under way.
      if (this.#report?.reason !== undefined) throw again(this.#report.reason, facts)
      this.#finish({ clean: false, unsent: 0, reason: broken(error, facts) }, true)
      throw error
    }
  }

  /** Throws what a connection that is over has to say to whoever would take it over. */
  #mustLive(op: string): void {
    if (this.#refusal !== undefined) throw again(this.#refusal, this.facts(op))
    if (this.#report !== undefined) throw again(this.#why(this.#report), this.facts(op))
  }

  /** Whom the certificate of an upgraded connection must name unless told otherwise: the host that was dialled. */
  #target(): { host?: string | undefined; endpoint?: string | undefined } {
    if (this.#origin.role !== 'dialled' || this.endpoint === '') return {}
    const endpoint = parseEndpoint(this.endpoint)
    return { host: isUnixEndpoint(endpoint) ? undefined : endpoint.host, endpoint: this.endpoint }
  }

  /** The same stream as a new object, with what was read ahead and not yet sent; this one fails with `CONSUMED` from now on. */
  #bequeath(op: string): Connection {
    this.#mustLive(op)
    if (this.#in.busy || this.#out.busy) throw new Busy('BUSY', `${CODES.Busy.BUSY}: ${op} while an operation is pending`, this.facts(op))
    const unread = this.#in.surrender()
    const unsent = this.#out.surrender()
    this.#hand(new Closed('CONSUMED', `${CODES.Closed.CONSUMED}: ${op}`, this.facts(op)))
    const heir = new Connection(this.#handle, { ...this.#origin, security: this.security, heir: this.#legacy() })
    heir.unread(unread)
    void heir.write(unsent)
    return heir
  }

  #legacy(): NonNullable<Origin['heir']> {
    return { id: this.id, openedAt: this.#openedAt, bytesRead: this.#in.bytesRead, bytesWritten: this.#out.bytesWritten }
  }

  #hand(error: SocketError): void {
    this.#refuse(error)
    this.#released = true
    this.owner.remove(this)
    this.#closing ??= this.closed
    this.#finish({ clean: true, unsent: 0 }, true)
  }
}

function aborted(reason: unknown, facts: ErrorFacts): SocketError {
  if (reason instanceof Denied || reason instanceof Broken || reason instanceof TlsError) return reason
  const why = reason instanceof Error ? `: ${reason.message}` : ''
  return new Closed('ABORTED', `${CODES.Closed.ABORTED}${why}`, { ...facts, ...(reason !== undefined && { cause: reason }) })
}

// Node's iterable streams ask a source for this. A registered symbol cannot be declared as a member.
Object.defineProperty(Connection.prototype, Symbol.for('Stream.toAsyncStreamable'), {
  value(this: Connection) {
    return this.chunks()
  },
})
