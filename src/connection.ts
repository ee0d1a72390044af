/** A byte stream with two directions: the one class behind every transport. */

import type { Duplex } from 'node:stream'
import type { ReadableStream, WritableStream } from 'node:stream/web'
import type { Listener } from './accept.js'
import { type Address, isUnixEndpoint, parseEndpoint } from './address.js'
import { bytesOf } from './bytes.js'
import type { DatagramSocket } from './datagram.js'
import { Delivery, type DeliveryMode, sourceOf } from './delivery.js'
import type { StreamHandle } from './driver.js'
import {
  again,
  broken,
  Busy,
  Closed,
  CODES,
  type ErrorFacts,
  OptionError,
  outOfRange,
  reported,
  type SocketError,
  TlsError,
} from './errors.js'
import type { Codec } from './framing.js'
import type { Claim } from './inbound.js'
import { ConnectionDuplex, handleOfStream, toReadableStream, toWritableStream } from './interop.js'
import { Lifetime, type Origin } from './lifetime.js'
import { MessageStream } from './messages.js'
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
import { currentOwner, defaultOwner, guard, move, type Owned, type Owner, placeOf, tell } from './owner.js'
import { checkedPassed, DescriptorFeed, type Giver, mustPass, type ReceiveDescriptorsOptions, type ReceivedDescriptors } from './passing.js'
import { type FileSource, sendFile, type SendFileOptions } from './send-file.js'
import { type Readiness, readinessOf, refusedBy, type Wanted, type Watched } from './select.js'
import { handled } from './settle.js'
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
import { prepareClient, prepareServer, type ServerTls, type ServerTlsOptions, type TlsOptions } from './tls-options.js'

export interface StartTlsOptions extends TlsOptions, Wait {
  /** Default: `'server'` on an accepted connection, `'client'` on any other. */
  role?: 'client' | 'server' | undefined
  /** Sent in plain text before the upgrade: the "go ahead" of a server. */
  reply?: Bytes | string | undefined
  /**
   * Nothing in plain text comes before TLS from here on (implicit TLS, RFC 8314): what was received and not read is the peer's
   * first record rather than injected plain text. Never right behind a STARTTLS command. Default false.
   */
  implicit?: boolean | undefined
  /** Settings of a server that were loaded before, in place of the other TLS options. */
  settings?: ServerTls | undefined
}

export interface Adoption {
  owner?: Owner | undefined
  defaults?: Defaults | undefined
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
export class Connection implements Owned, Watched {
  readonly #life: Lifetime

  /** @internal made by `connect`, `accept`, `fromNode` and `startTls` */
  constructor(handle: StreamHandle, origin: Origin) {
    this.#life = new Lifetime(handle, origin, this)
    this.#life.begin()
  }

  /** Unique in the process. */
  get id(): number {
    return this.#life.id
  }

  /** @internal for `relay`, and for what takes its descriptor */
  get life(): Lifetime {
    return this.#life
  }

  /** What its errors repeat. @internal */
  facts(op: string): ErrorFacts {
    return this.#life.facts(op)
  }

  get owner(): Owner {
    return this.#life.owner
  }

  get driver(): string {
    return this.#life.origin.driver
  }

  get local(): Address | undefined {
    return this.#life.handle.local
  }

  get remote(): Address | undefined {
    return this.#life.handle.remote
  }

  /** Facts of the TLS session; null on a plain connection. */
  get security(): TlsInfo | null {
    return this.#life.origin.security ?? null
  }

  /** The endpoint this connection was dialled to or accepted at; empty for an adopted one. */
  get endpoint(): string {
    return this.#life.origin.endpoint ?? ''
  }

  /** Resolves when the connection has ended, whoever ended it; never rejects. */
  get closed(): Promise<CloseReport> {
    return this.#life.closed
  }

  get state(): ConnectionState {
    if (this.#life.report !== undefined || this.#life.refused) return 'closed'
    if (this.#life.in.ended) return 'read-ended'
    return this.#life.out.ended ? 'write-ended' : 'open'
  }

  get stats(): ConnectionStats {
    const { clock } = this.owner.shared
    return {
      bytesRead: this.#life.in.bytesRead,
      bytesWritten: this.#life.out.bytesWritten,
      unread: this.#life.in.buffered,
      unsent: this.#life.out.unsent,
      openedAt: clock.wall() - (clock.now() - this.#life.openedAt),
    }
  }

  /** Aborts when the connection is known to be broken or closed; its reason is the error. */
  get signal(): AbortSignal {
    return this.#life.signal
  }

  /** The value of an option of the socket, below TLS where there is any. `docs/options.md` has all of them. */
  get<N extends OptionName>(option: N): OptionValues[N]
  get(option: RawOption): Uint8Array
  get(option: OptionName | RawOption): unknown {
    return getOption(this.#optionTarget('get'), option)
  }

  /**
   * Sets an option of the socket; what fails has changed nothing.
   *
   * @throws `OptionError`, `SystemFailure`, and `TypeError` or `RangeError` for a value that is none
   */
  set<N extends SettableName>(option: N, value: OptionInputs[N]): void
  set(option: RawOption, value: Bytes | number): void
  set(option: SettableName | RawOption, value: unknown): void {
    setOption(this.#optionTarget('set'), option, value)
  }

  #optionTarget(op: 'get' | 'set'): OptionTarget {
    this.#life.mustLive(op)
    const { local, remote, options: handle } = this.#life.handle
    const transport = local?.family === 'unix' || remote?.family === 'unix' ? 'unix' : 'tcp'
    return { kind: 'connection', transport, driver: this.driver, handle, facts: this.facts(op) }
  }

  // Reading

  /**
   * Some bytes, yours to keep; `null` at the peer's end.
   *
   * @throws `Busy` beside another reader, `DeadlineError`, `Cancelled`, `Closed`, `Broken`
   */
  read(o?: ReadOptions): Promise<Uint8Array | null> {
    return this.#life.in.read(o)
  }

  /** As `read`, into `into`, from its start; resolves with the count, 0 only if `into` is empty, `null` at the end. */
  readInto(into: Uint8Array, o?: Wait): Promise<number | null> {
    return this.#life.in.readInto(into, o)
  }

  /**
   * Exactly `n` bytes; `null` at an end with nothing pending.
   *
   * @throws `FrameError/INCOMPLETE` at an end in between; the bytes stay readable
   */
  readExactly(n: number, o?: Wait): Promise<Uint8Array | null> {
    return this.#life.in.readExactly(n, o)
  }

  /**
   * What stands before `delimiter`, which is consumed and not part of the result; `null` at an end with nothing pending.
   * `limit` (default 64 KiB) excludes the delimiter.
   *
   * @throws `FrameError/TOO_LONG` (nothing is consumed), `FrameError/INCOMPLETE` (the bytes stay readable)
   */
  readUntil(delimiter: Bytes | string, o?: LimitOptions): Promise<Uint8Array | null> {
    return this.#life.in.readUntil(delimiter, o)
  }

  /** A line without its LF or CRLF; `null` at an end with nothing pending. Errors as `readUntil`. */
  readLine(o: LineOptions & { encoding: 'bytes' }): Promise<Uint8Array | null>
  readLine(o?: LineOptions & { encoding?: 'utf8' | 'latin1' | undefined }): Promise<string | null>
  readLine(o?: LineOptions): Promise<string | Uint8Array | null> {
    return this.#life.in.readLine(o)
  }

  /** Everything up to the end, at most `limit` bytes (default 16 MiB). @throws `FrameError/TOO_LONG`; nothing is consumed */
  readAll(o?: LimitOptions): Promise<Uint8Array> {
    return this.#life.in.readAll(o)
  }

  /** What is here now: bytes, `null` at the end, `undefined` when there is nothing now. Throws what `read` rejects with. */
  tryRead(limit?: number): Uint8Array | null | undefined {
    return this.#life.in.tryRead(limit)
  }

  /** A copy of the next `n` bytes, fewer only before the end; without `n`, of what is here, at least one. Consumes nothing. */
  peek(n?: number, o?: Wait): Promise<Uint8Array | null> {
    return this.#life.in.peek(n, o)
  }

  /** Puts bytes in front of everything, also after the end was seen. */
  unread(bytes: Bytes | string): void {
    this.#life.in.unread(bytes)
  }

  /** Resolves when a read would not wait: bytes, the end or an error are there. Consumes nothing. */
  waitReadable(o?: Wait): Promise<void> {
    return this.#life.in.waitReadable(o)
  }

  /** What arrives, chunk by chunk, until the end; `o` holds for each chunk. Leaving the loop closes nothing. */
  chunks(o?: ReadOptions): AsyncIterableIterator<Uint8Array> {
    return this.#life.in.chunks(o, this)
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<Uint8Array> {
    return this.chunks()
  }

  /**
   * Pushes what arrives to `handler`, chunk by chunk, as {@link Delivery} says. It holds the reader slot unless it is passive.
   *
   * @throws `Busy` beside another reader or delivery, `Closed`
   */
  deliver(mode: DeliveryMode, handler: (data: Uint8Array) => unknown): Delivery {
    return new Delivery(this, sourceOf(this, this.#life.in), mode, handler)
  }

  /** Whether an error says no more than that this connection ended or broke, which its close event tells. @internal */
  tells(error: unknown): boolean {
    return this.#life.tells(error)
  }

  /** The handler of a delivery failed. @internal */
  handlerFailed(error: SocketError): void {
    if (!this.tells(error)) tell(this.#life.shared, { type: 'error', id: this.id, op: 'deliver', error })
    // What was closed in order is still flushed.
    if (this.state !== 'closed') this.abort(error)
  }

  /** @internal for `select` */
  readiness(wanted: Wanted): Readiness | undefined {
    if (this.#life.refusal !== undefined) return refusedBy(this.#life.refusal, this.facts('select'))
    return readinessOf(this, wanted.readable ? this.#life.in.ready : undefined, wanted.writable ? this.#life.out.ready : undefined)
  }

  /** @internal for `select` */
  watch(changed: () => void): () => void {
    return this.#life.watch(changed)
  }

  // Writing

  /**
   * Sends bytes, several pieces, or a string as UTF-8; settles when more would be welcome. Writes keep their order.
   * Its rejection is pre-handled: the next operation and `closed` repeat it.
   *
   * @throws `DeadlineError`, `Cancelled`, `Closed`, `Broken`, each with `bytesWritten`
   */
  write(data: Bytes | string | readonly Bytes[], o?: Wait): Promise<void> {
    return this.#life.out.write(data, o)
  }

  /** Sends what is welcome now, at least one byte; resolves with the count. */
  writeSome(data: Bytes | string | readonly Bytes[], o?: Wait): Promise<number> {
    return this.#life.out.writeSome(data, o)
  }

  /**
   * As `writeSome`, but never waits: how many bytes were welcome now, 0 if none. Throws what `writeSome` rejects with.
   */
  tryWrite(data: Bytes | string | readonly Bytes[]): number {
    return this.#life.out.tryWrite(data)
  }

  /**
   * Sends a file, or the bytes of it from `start` to before `end`, in its turn among the writes; resolves with how many bytes
   * that were. Where the driver can (sendfile(2), a plain socket of the kernel driver) they never come into the process;
   * elsewhere, and over TLS, 64 KiB of them at a time do. `file` is a path, `{ fd }` or a `FileHandle`; the latter two stay
   * open, and their position is neither used nor moved.
   *
   * ```ts
   * import { writeFileSync } from 'node:fs'
   * import { tmpdir } from 'node:os'
   * import { join } from 'node:path'
   * import { connect, serve } from 'fairlead'
   *
   * const path = join(tmpdir(), 'fairlead-example.txt')
   * writeFileSync(path, 'the contents of a file')
   * await using server = await serve('tcp://127.0.0.1:0', {}, (client) => client.sendFile(path, { start: 4 }))
   * await using client = await connect(server.endpoints[0])
   * console.log(new TextDecoder().decode(await client.readAll())) // contents of a file
   * ```
   *
   * @throws `SystemFailure` with `bytesWritten` for what the file does not allow, and the connection goes on: `ENOENT`, `EACCES`, …,
   *   `NOT_A_FILE` for what is no regular file, `FILE_TOO_SHORT` where it ends before `end`, or shrinks meanwhile; and what
   *   `write` rejects with
   */
  sendFile(file: FileSource, o: SendFileOptions = {}): Promise<number> {
    return handled(sendFile(this.#life, file, o))
  }

  /** Resolves when everything written has been handed to the system. */
  flush(o?: Wait): Promise<void> {
    return this.#life.out.flush(o)
  }

  /** Resolves when a write would be accepted at once. May run beside anything. */
  waitWritable(o?: Wait): Promise<void> {
    return this.#life.out.waitWritable(o)
  }

  /** Ends the write direction behind everything written; reading goes on. Idempotent. */
  end(o?: Wait): Promise<void> {
    return this.#life.out.end(o)
  }

  // Descriptors

  /** The number of its descriptor, where the driver knows one: for a look, as it stays this connection's. */
  get descriptor(): number | undefined {
    return this.#life.number
  }

  /**
   * Gives the descriptor away, open and as it is, to be handed to something else; it is yours to close. Consumes this
   * connection.
   *
   * @throws `Busy` while an operation is pending (`BUSY`), bytes were received and not read (`UNREAD`) or accepted and not sent
   *   (`UNSENT`); `SystemFailure/UNSUPPORTED` over TLS, and where the driver cannot
   */
  release(): number {
    return this.#life.give('release')
  }

  /**
   * Sends descriptors along with the first byte of `data` (SCM_RIGHTS, unix(7)), over a plain UNIX connection of the kernel
   * driver: numbers, which stay yours, and sockets, which are consumed once they are sent. Settles as `write` does.
   *
   * @param data what they come with, at least one byte. Default: one zero byte
   * @throws `SystemFailure` for what the system does not send (`EBADF`, …) with nothing sent, and the connection goes on; `Busy`
   *   for a socket that is in use; `SystemFailure/UNSUPPORTED`; and what `write` rejects with
   */
  sendDescriptors(
    descriptors: readonly (number | Connection | Listener | DatagramSocket)[],
    data: Bytes = new Uint8Array(1),
    o?: Wait,
  ): Promise<void> {
    return handled(this.#sendDescriptors(descriptors, data, o))
  }

  async #sendDescriptors(descriptors: readonly unknown[], data: Bytes, o: Wait | undefined): Promise<void> {
    const op = 'sendDescriptors'
    const { handle, origin, out } = this.#life
    this.#life.mustLive(op)
    mustPass(handle, op, origin.driver, this.facts(op))
    const bytes = bytesOf(data, 'data')
    if (bytes.length === 0) throw outOfRange('data', 'at least one byte', 'none')
    const passed = checkedPassed(descriptors)
    for (const one of passed) if (typeof one !== 'number') one.mayGive(op)
    await out.feed(new DescriptorFeed(handle, passed, bytes, () => this.facts(op)), o)
  }

  /**
   * As `read`, with the descriptors that came along with these bytes, in their order; none for bytes that came without. They
   * are yours: adopt or close them. Descriptors that come with bytes which another verb reads, peeks at or waits for are closed.
   *
   * @throws `Denied/DESCRIPTORS` where more came than `max`, `SystemFailure/EMFILE` where more came than this process has room for:
   *   none of them is open then, the bytes stay readable, and the connection goes on. `SystemFailure/UNSUPPORTED`; and what
   *   `read` rejects with
   */
  async receiveDescriptors(o: ReceiveDescriptorsOptions = {}): Promise<ReceivedDescriptors | null> {
    const op = 'receiveDescriptors'
    this.#life.mustLive(op)
    mustPass(this.#life.handle, op, this.driver, this.facts(op))
    return this.#life.in.receiveDescriptors(o)
  }

  /** @internal for `sendDescriptors` */
  get giver(): Giver {
    return this.#life
  }

  // Ending

  /**
   * Flushes what was accepted, ends the stream and gives the descriptor back; wakes everything that waits with `Closed`.
   * Takes at most the linger time (5 s) or its own deadline, then aborts. Idempotent; never rejects.
   */
  close(o?: Wait): Promise<CloseReport> {
    return this.#life.close(o)
  }

  /** Ends both directions at once, with a reset where the transport has one. Idempotent. */
  abort(reason?: unknown): void {
    this.#life.abort(reason)
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

  /**
   * Goes to another owner of the same network, in one step: with all that was received and not read, accepted and not sent,
   * with its message stream or its delivery. Nothing but the owner changes.
   *
   * @throws `Busy` while a read, a write that waits, or `startTls` is under way, `Closed/OWNER_ENDED` for an owner that has
   *   ended, the connection's own `Closed` or `Broken` if it is over, `RangeError` for an owner of another network
   */
  moveTo(owner: Owner): void {
    move(this.#life, owner, this.#life.operation)
  }

  /** From now on it is closed when nobody has it any more. @internal for whoever hands it to a user */
  given(where: string | undefined): this {
    guard(this.#life, where)
    return this
  }

  ref(): this {
    this.#life.handle.ref()
    return this
  }

  unref(): this {
    this.#life.handle.unref()
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
    const owner = o.owner ?? currentOwner() ?? defaultOwner()
    const where = placeOf(owner.shared)
    return new Connection(handleOfStream(stream), { owner, role: 'adopted', driver: 'node', defaults: o.defaults }).given(where)
  }

  /** @internal the exclusive use of the read direction */
  claim(op: string): Claim {
    return this.#life.in.claim(op)
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
    return new ConnectionDuplex(this.#bequeath('toNode'))
  }

  /**
   * Upgrades to TLS, after what was written has been flushed in plain text and `reply` sent. Consumes this connection:
   * number and counters go on in the new one.
   *
   * @throws `Busy` under a pending read, `TlsError/PLAINTEXT_BUFFERED` if any plain text was received and not read (the
   * connection is aborted), and what a handshake fails with
   */
  async startTls(o: StartTlsOptions = {}): Promise<Connection> {
    const role = o.role ?? (this.#life.origin.role === 'accepted' ? 'server' : 'client')
    const { reply, implicit, settings, role: _role, timeout, deadline, signal, ...given } = o
    const { clock, limits } = this.owner.shared
    const where = placeOf(this.#life.shared)
    const facts: ErrorFacts = { ...this.facts('startTls'), phase: 'tls' }
    const wait = { timeout, deadline, signal }
    this.#life.mustLive('startTls')
    if (settings !== undefined && (role === 'client' || Object.keys(given).length > 0)) {
      throw new OptionError('BAD_VALUE', 'settings are those of a server, and stand for all other TLS options of startTls', facts)
    }
    const tls =
      role === 'client'
        ? prepareClient(given, { ...this.#target(), handshakeTimeout: limits.handshake })
        : prepareServer(settings ?? (given as ServerTlsOptions), limits.handshake)
    const fail = (error: unknown) => {
      throw reported(error, facts)
    }
    await this.#life.out.flush(wait).catch(fail)
    this.#life.mustLive('startTls')
    if (this.#life.in.busy) throw new Busy('BUSY', `${CODES.Busy.BUSY}: startTls while a read is pending`, facts)
    const first = implicit === true ? this.#life.in.surrender() : undefined
    const buffered = implicit === true ? 0 : this.#life.in.buffered || (this.#life.in.take(undefined, 'startTls')?.length ?? 0)
    if (buffered > 0) {
      const error = new TlsError('PLAINTEXT_BUFFERED', `${CODES.TlsError.PLAINTEXT_BUFFERED}: ${buffered} bytes`, facts)
      this.abort(error)
      throw error
    }
    if (reply !== undefined) {
      await this.#life.out.write(reply, wait).catch(fail)
      await this.#life.out.flush(wait).catch(fail)
      this.#life.mustLive('startTls')
    }
    const consumed = new Closed('CONSUMED', `${CODES.Closed.CONSUMED}: startTls`, facts)
    this.#life.refuse(consumed)
    try {
      const ends = signal ? AbortSignal.any([signal, this.signal]) : this.signal
      const { handle, info } = await secure(this.#life.handle, tls, { clock, wait: { ...wait, signal: ends }, facts, first })
      // It may have been ended since, in this very turn.
      if (this.#life.report?.reason !== undefined) {
        handle.destroy(true)
        throw this.#life.report.reason
      }
      this.#life.hand(consumed)
      return this.#heir(handle, { ...this.#life.legacy, security: info }, where)
    } catch (error) {
      // Ended from outside, by its owner perhaps, while the handshake was under way or just done.
      if (this.#life.report?.reason !== undefined) throw again(this.#life.report.reason, facts)
      this.#life.finish({ clean: false, unsent: 0, reason: broken(error, facts) }, true)
      throw error
    }
  }

  /** The object that goes on with this stream; in the hands of the same user. */
  #heir(handle: StreamHandle, origin: Origin, where: string | undefined): Connection {
    const heir = new Connection(handle, origin)
    return this.#life.face instanceof WeakRef ? heir.given(where) : heir
  }

  /** Whom the certificate of an upgraded connection must name unless told otherwise: the host that was dialled. */
  #target(): { host?: string | undefined; endpoint?: string | undefined } {
    if (this.#life.origin.role !== 'dialled' || this.endpoint === '') return {}
    const endpoint = parseEndpoint(this.endpoint)
    return { host: isUnixEndpoint(endpoint) ? undefined : endpoint.host, endpoint: this.endpoint }
  }

  /** The same stream as a new object, with what was read ahead and not yet sent; this one fails with `CONSUMED` from now on. */
  #bequeath(op: string): Connection {
    this.#life.mustLive(op)
    if (this.#life.in.busy || this.#life.out.busy)
      throw new Busy('BUSY', `${CODES.Busy.BUSY}: ${op} while an operation is pending`, this.facts(op))
    const unread = this.#life.in.surrender()
    const unsent = this.#life.out.surrender()
    this.#life.hand(new Closed('CONSUMED', `${CODES.Closed.CONSUMED}: ${op}`, this.facts(op)))
    const heir = this.#heir(this.#life.handle, this.#life.legacy, placeOf(this.#life.shared))
    heir.unread(unread)
    void heir.write(unsent)
    return heir
  }
}

// Node's iterable streams ask a source for this. A registered symbol cannot be declared as a member.
Object.defineProperty(Connection.prototype, Symbol.for('Stream.toAsyncStreamable'), {
  value(this: Connection) {
    return this.chunks()
  },
})
