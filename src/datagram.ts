/** Sockets that send and receive messages: UDP, and UNIX-domain datagrams. */

import { type Address, canonicalIp, type Endpoint, formatAddress, ipBytes } from './address.js'
import type { Datagram } from './datagram-in.js'
import { DatagramLife, type DatagramOrigin, type DatagramUrl } from './datagram-life.js'
import type { Outgoing } from './datagram-out.js'
import { Delivery, type DeliveryMode, sourceOf } from './delivery.js'
import type { DatagramHandle } from './driver.js'
import { AddressError, type ErrorFacts, invalidType, refuseUnknown, show, type SocketError, systemFailure } from './errors.js'
import type { Codec } from './framing.js'
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
import { guard, move, type Owned, type Owner, tell } from './owner.js'
import type { Giver } from './passing.js'
import { type Readiness, refusedBy, type Wanted, type Watched } from './select.js'
import type { Bytes, CloseReport, DatagramStats, Wait } from './stream.js'

export interface GroupOptions {
  /** Address or name of the interface. Default: the system's choice. */
  interface?: string | undefined
  /** Receive from this sender alone (source-specific multicast, RFC 4607). */
  source?: string | undefined
}

/**
 * A bound, and perhaps connected, datagram socket. Made by `bind`, and by `connect` to a `udp:` or `unixgram:` endpoint.
 *
 * ```ts
 * import { bind } from 'fairlead'
 *
 * await using echo = await bind('udp://127.0.0.1:0')
 * await using client = await bind('udp://127.0.0.1:0')
 * await client.send('hello', echo.endpoint)
 * const asked = await echo.receive({ timeout: 1_000 })
 * await echo.send(asked.data, asked.from)
 * console.log(new TextDecoder().decode((await client.receive()).data)) // hello
 * ```
 */
export class DatagramSocket implements Owned, Watched {
  readonly #life: DatagramLife

  /** @internal made by `bind` and `connect` */
  constructor(handle: DatagramHandle, origin: DatagramOrigin) {
    this.#life = new DatagramLife(handle, origin, this)
    this.#life.begin()
  }

  /** Unique in the process. */
  get id(): number {
    return this.#life.id
  }

  get driver(): string {
    return this.#life.origin.driver
  }

  get owner(): Owner {
    return this.#life.owner
  }

  /** What `send` on this machine reaches it by: for all interfaces (`*`) the loopback address. Of a connected socket, its peer. */
  get endpoint(): DatagramUrl {
    return this.#life.origin.endpoint
  }

  /** The address it is bound to, with the real port. */
  get local(): Address {
    return this.#life.handle.local
  }

  /** The peer of a connected socket. */
  get remote(): Address | undefined {
    return this.#life.handle.remote
  }

  /** Resolves when it was closed, whoever closed it; never rejects. */
  get closed(): Promise<CloseReport> {
    return this.#life.closed
  }

  /** Aborts when the socket is closed; its reason is the error. */
  get signal(): AbortSignal {
    return this.#life.signal
  }

  get stats(): DatagramStats {
    const { handle, openedAt, origin, shared } = this.#life
    const { datagramsRead, bytesRead } = this.#life.in
    const { datagramsWritten, bytesWritten, unsent } = this.#life.out
    return {
      datagramsRead,
      datagramsWritten,
      bytesRead,
      bytesWritten,
      dropped: handle.dropped,
      unread: origin.meter.unread,
      unsent,
      openedAt: shared.clock.wall() - (shared.clock.now() - openedAt),
    }
  }

  // Receiving

  /**
   * The next datagram. Where nobody receives at the peer of a connected socket, this or the next `send` says so once, with
   * `Broken/ECONNREFUSED`, and the socket goes on.
   *
   * @throws `Busy` beside another reader, `DeadlineError`, `Cancelled`, `Closed`, `Broken`
   */
  receive(o?: Wait): Promise<Datagram> {
    return this.#life.in.receive(o)
  }

  /** Receives into `into`, from its start. What does not fit is lost, and told by `truncated`. */
  async receiveInto(into: Uint8Array, o?: Wait): Promise<{ length: number; from: Address; truncated: boolean }> {
    return this.#life.in.receiveInto(into, o)
  }

  /** Waits for at least one datagram; gives those that are there then, at most `max`. */
  async receiveMany(max: number, o?: Wait): Promise<Datagram[]> {
    return this.#life.in.receiveMany(max, o)
  }

  /** A datagram that is here now, or undefined. Throws what `receive` rejects with. */
  tryReceive(): Datagram | undefined {
    return this.#life.in.tryReceive()
  }

  /** Resolves when a receive would not wait: a datagram or an error is there. Consumes nothing. */
  waitReadable(o?: Wait): Promise<void> {
    return this.#life.in.waitReadable(o)
  }

  /**
   * Datagrams as they come, until the socket is closed; `o` holds for each. Leaving the loop closes nothing. With a codec:
   * what each datagram says, which must be exactly one message; any other is a `FrameError` whose `remote` is the sender.
   *
   * A step that fails leaves the loop, as any error does, but does not end the iterator: it can be looped over again.
   */
  messages(o?: Wait): AsyncIterableIterator<Datagram>
  messages<T>(codec: Codec<T, never>, o?: Wait): AsyncIterableIterator<{ message: T; from: Address }>
  messages(codec?: Codec<unknown, never> | Wait, o?: Wait): AsyncIterableIterator<never> {
    const isCodec = 'decoder' in Object(codec)
    const given = isCodec ? (codec as Codec<unknown, never>) : undefined
    return this.#life.in.messages(this, given, isCodec ? o : (codec as Wait | undefined)) as AsyncIterableIterator<never>
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<Datagram> {
    return this.messages()
  }

  /**
   * Pushes datagrams to `handler`, as {@link Delivery} says; it holds the reader slot unless it is passive. What the system
   * reports, such as a peer that is not there, ends the delivery and not the socket: deliver again to go on.
   *
   * @throws `Busy` beside another reader or delivery, `Closed`
   */
  deliver(mode: DeliveryMode, handler: (datagram: Datagram) => unknown): Delivery {
    return new Delivery(this, sourceOf(this, this.#life.in), mode, handler)
  }

  /** The handler of a delivery failed. @internal */
  handlerFailed(error: SocketError): void {
    tell(this.#life.shared, { type: 'error', id: this.id, op: 'deliver', error })
    // What was closed in order is still sent.
    if (this.#life.over === undefined) this.abort(error)
  }

  /** @internal for `select` */
  readiness(wanted: Wanted): Readiness | undefined {
    const { over, in: input, out } = this.#life
    if (over !== undefined) return refusedBy(over, this.#life.facts('select'))
    const news = wanted.readable ? input.ready : undefined
    const writable = wanted.writable && out.ready
    if (news === undefined && !writable) return undefined
    const ready = { readable: news !== undefined, writable, acceptable: false, ended: false }
    return typeof news === 'object' ? { ...ready, broken: news } : ready
  }

  /** @internal for `select` */
  watch(changed: () => void): () => void {
    const { watchers } = this.#life
    watchers.add(changed)
    return () => watchers.delete(changed)
  }

  // Sending

  /**
   * Sends one datagram, whole or not at all; settles when the system has it or has refused it. To the peer of a connected
   * socket, or to `to`: an endpoint, whose name is looked up (answers are kept for 30 s), or an address such as the `from`
   * of a datagram. Sends keep their order; one to a name takes its place when the name is known. Beyond 64 KiB that the
   * system has not taken, sends wait, and one that times out then was not sent. Its rejection is pre-handled.
   *
   * @throws `SystemFailure` `EMSGSIZE` beyond 65,507 bytes over IPv4 and 65,527 over IPv6, `EDESTADDRREQ`, `EISCONN`,
   *   `EAFNOSUPPORT`, `EACCES` for a broadcast that the option `broadcast` does not allow; `Broken/ECONNREFUSED` where an
   *   earlier datagram found nobody; `AddressError`, `Denied`, `DeadlineError`, `Cancelled`, `Closed`
   */
  send(data: Bytes | string, to?: Endpoint | Address, o?: Wait): Promise<void> {
    return this.#life.out.send(data, to, o, 'send')
  }

  /**
   * Sends all of `batch`, several at once; resolves with how many that were. A failure ends it, with `datagramsWritten`: how
   * many were sent. `o` holds for all together, also for the making of the batch. Its rejection is pre-handled. The bytes of a
   * datagram have to stay as they are until then: what makes the batch must not use the same memory again.
   */
  sendMany(batch: Iterable<Outgoing> | AsyncIterable<Outgoing>, o?: Wait): Promise<number> {
    return this.#life.out.sendMany(batch, o)
  }

  /** Resolves when a send would be taken at once. May run beside anything. */
  waitWritable(o?: Wait): Promise<void> {
    return this.#life.out.waitWritable(o)
  }

  // Options

  /** The value of an option of the socket. `docs/options.md` has all of them. */
  get<N extends OptionName>(option: N): OptionValues[N]
  get(option: RawOption): Uint8Array
  get(option: OptionName | RawOption): unknown {
    return getOption(this.#optionTarget('get'), option)
  }

  /** Sets an option of the socket; what fails has changed nothing. @throws `OptionError`, `SystemFailure`, `TypeError`, `RangeError` */
  set<N extends SettableName>(option: N, value: OptionInputs[N]): void
  set(option: RawOption, value: Bytes | number): void
  set(option: SettableName | RawOption, value: unknown): void {
    setOption(this.#optionTarget('set'), option, value)
  }

  #optionTarget(op: 'get' | 'set'): OptionTarget {
    this.#life.mustLive(op)
    const transport = this.local.family === 'unix' ? 'unix' : 'udp'
    return { kind: 'datagram', transport, driver: this.driver, handle: this.#life.handle.options, facts: this.#life.facts(op) }
  }

  /**
   * Receives what is sent to a multicast group (RFC 1112, RFC 3810), on one interface or the system's choice.
   *
   * @throws `AddressError/BAD_HOST` for what is no multicast address of this socket's family, `SystemFailure`
   */
  join(group: string, o: GroupOptions = {}): void {
    this.#membership('join', group, o)
  }

  /** Undoes `join` with the same arguments. */
  leave(group: string, o: GroupOptions = {}): void {
    this.#membership('leave', group, o)
  }

  #membership(op: 'join' | 'leave', group: string, o: GroupOptions): void {
    const facts: ErrorFacts = { ...this.#life.facts(op), phase: 'option' }
    if (typeof group !== 'string') throw invalidType('group', 'a string', group)
    refuseUnknown(o, ['interface', 'source'], op)
    for (const name of ['interface', 'source'] as const) {
      if (o[name] !== undefined && typeof o[name] !== 'string') throw invalidType(name, 'a string', o[name])
    }
    this.#life.mustLive(op)
    const bad = (what: string, expected: string) => new AddressError('BAD_HOST', `bad ${what}: expected ${expected}`, facts)
    const address = canonicalIp(group) ?? group
    const bytes = ipBytes(address)
    const isGroup = bytes !== undefined && (bytes.length === 4 ? (bytes[0] as number) >> 4 === 0xe : bytes[0] === 0xff)
    if (!isGroup || !this.#life.out.fits({ family: bytes.length === 4 ? 'ipv4' : 'ipv6', address, port: 0 })) {
      const expected = this.local.family === 'ipv4' ? '224.0.0.0 to 239.255.255.255' : 'a multicast address of ff00::/8'
      throw bad(`group ${show(group)} for a socket at ${formatAddress(this.local)}`, expected)
    }
    const source = o.source === undefined ? undefined : (canonicalIp(o.source) ?? o.source)
    if (source !== undefined && ipBytes(source)?.length !== bytes.length)
      throw bad(`source ${show(o.source)}`, `an address of the family of ${group}`)
    try {
      this.#life.handle[op](address, o.interface, source)
    } catch (cause) {
      const where = `${o.interface === undefined ? '' : ` on ${show(o.interface)}`}${o.source === undefined ? '' : ` from ${show(o.source)}`}`
      throw systemFailure(cause, facts, `cannot ${op} ${group}${where}`)
    }
  }

  // Descriptors

  /** The number of its descriptor, where the driver knows one. */
  get descriptor(): number | undefined {
    return this.#life.number
  }

  /**
   * Gives the descriptor away, bound and as it is, with the datagrams that wait in it. Consumes this socket.
   *
   * @throws `Busy` while an operation is pending (`BUSY`) or datagrams were received and not taken (`UNREAD`);
   *   `SystemFailure/UNSUPPORTED` where the driver cannot
   */
  release(): number {
    return this.#life.give('release')
  }

  /** @internal for `sendDescriptors` */
  get giver(): Giver {
    return this.#life
  }

  // Ending

  /**
   * Goes to another owner of the same network, in one step, with the datagrams that wait and with its delivery.
   *
   * @throws `Busy` while a receive or a send waits, `Closed/OWNER_ENDED` for an owner that has ended, its own `Closed` if it is
   *   over, `RangeError` for an owner of another network
   */
  moveTo(owner: Owner): void {
    move(this.#life, owner, this.#life.pending)
  }

  /** From now on it is closed when nobody has it any more. @internal for whoever hands it to a user */
  given(where: string | undefined): this {
    guard(this.#life, where)
    return this
  }

  /**
   * Sends what was accepted and gives the descriptor back; wakes every receive with `Closed`. Takes at most the linger
   * time (5 s) or its own deadline. Idempotent; never rejects.
   */
  close(o?: Wait): Promise<CloseReport> {
    return this.#life.close(o)
  }

  /** Closes at once; what the system has not taken is given up. Idempotent. */
  abort(reason?: unknown): void {
    this.#life.abort(reason)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  ref(): this {
    this.#life.handle.ref()
    return this
  }

  unref(): this {
    this.#life.handle.unref()
    return this
  }
}
