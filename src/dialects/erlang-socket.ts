/** What sockets of `ssl` and of `gen_tcp` have in common: an owner, a mode, packets, and the messages that become of them. */

import { Busy, Closed, Broken, type CloseReport, type Connection, type Delivery, FrameDecoder, type SocketError } from '../index.js'
import type { HeaderData } from './erlang-messages.js'
import { type ActiveMode, activeAfter, isCount, optionValues, readOptions, defaultPlace, type StreamSettings } from './erlang-options.js'
import { cut, headerOf, LARGEST, largestOf, type Packet } from './erlang-packets.js'
import { alarm, current, Exit, keep, Linkable, type Pid, Process, processOf, twoTurns } from './erlang-process.js'
import { alertOf, posixReason, type SslReason } from './erlang-reasons.js'
import { ioBytes, isTimeout, isWhole, type Failure, type IpTuple, ipTupleOf, type Ok, textOf, type Timeout } from './erlang-terms.js'

/** Bytes that a TLS socket reads ahead of its program, as the original does; that is how it knows that the peer has closed. */
const READ_AHEAD = 64 * 1024
/** Bytes that several sends gather at most. */
const BATCH = 64 * 1024
/** Milliseconds that a peer has to take what was sent before the close, where the program says nothing: three minutes, as in the original. */
const LINGER = 180_000
const SENT: Promise<'ok'> = Promise.resolve('ok')
const isSent = (): 'ok' => 'ok'
/** Bytes in messages that the owner has not taken out of its mailbox; then nothing more is read until it has. */
const MAILBOX = 1024 * 1024

export type Kind = 'ssl' | 'tcp'
export type SocketAddress = readonly [IpTuple, number] | readonly ['local', string]

interface Receiver {
  readonly length: number
  readonly process: Process
  readonly fail: (exit: Exit) => void
  readonly done: (result: Received) => void
}
type Received = Ok<unknown> | Failure<SslReason>

/** How the input ended. */
type Ending = { readonly reason: SocketError | undefined }

/** A connected socket. What it is made of is its own affair. */
export class StreamSocket<D = unknown> {
  /** The type of what is received. */
  declare readonly data: D
  readonly kind: Kind
  readonly #bond: Linkable
  readonly #connection: Connection
  readonly #settings: StreamSettings
  #decoder: FrameDecoder<Packet>
  readonly #delivery: Delivery
  #owner: Process
  /** Bytes given to the decoder. */
  #pushed = 0
  /** Bytes in messages that wait in the mailbox of the owner. */
  #waiting = 0
  #receiver: Receiver | undefined
  #ending: Ending | undefined
  /** The program knows that the input is over. */
  #told = false
  /** Input that is no packet. */
  #broken = false
  #closed = false
  #writeEnded = false
  #readEnded = false
  /** A message has said that the socket is over: it is as if closed. */
  #gone = false
  /** What was sent since the last write, while the event loop does not go on. */
  #batch: Uint8Array[] = []
  #batched = 0
  #bursting = false
  /** A write of several sends waits. */
  #writing = false
  /** What the connection was given to write; it counts on where another left off. */
  #passed: number
  /** Why it failed. */
  #failed: SslReason | undefined
  #arrivedBytes = 0
  /** Packets as they were given to the program, with the lengths in front of them. */
  #counts = { recv_cnt: 0, recv_oct: 0, recv_max: 0, send_cnt: 0, send_oct: 0, send_max: 0 }

  /** @internal */
  constructor(kind: Kind, connection: Connection, settings: StreamSettings, owner: Process) {
    this.kind = kind
    this.#connection = connection
    this.#passed = connection.stats.bytesWritten
    this.#settings = { ...settings }
    this.#owner = owner
    this.#bond = new Linkable((from, reason, kind) => this.#signalled(from, reason, kind))
    this.#bond.link(owner)
    keep(connection)
    this.#decoder = this.#newDecoder()
    const { active } = this.#settings
    if (typeof active === 'number') {
      this.#settings.active = false
      this.#activate(active)
    }
    this.#delivery = connection.deliver(this.#wants() ? 'active' : 'passive', (chunk) => this.#arrived(chunk))
    void this.#delivery.done.then((report) => this.#over(report))
  }

  /** The process that stands for the socket. @internal */
  get pid(): Pid {
    return this.#bond.pid
  }

  /** @internal */
  get connection(): Connection {
    return this.#connection
  }

  /** @internal */
  get owner(): Process {
    return this.#owner
  }

  /** Whether `close` was called, or the owner ended. @internal */
  get closed(): boolean {
    return this.#closed
  }

  /** @internal */
  get settings(): StreamSettings {
    return this.#settings
  }

  // Receiving

  #newDecoder(): FrameDecoder<Packet> {
    return new FrameDecoder((input) => cut(input, this.#settings))
  }

  /** What was received and not taken is looked at from its beginning, behind `more` bytes. */
  #decodeAnew(more?: Uint8Array): void {
    const rest = this.#decoder.rest()
    this.#decoder = this.#newDecoder()
    if (more !== undefined) this.#decoder.push(more)
    this.#decoder.push(rest)
    this.#pushed = rest.length + (more?.length ?? 0)
  }

  #wants(): boolean {
    if (this.#closed || this.#ending !== undefined || this.#broken) return false
    if (this.#receiver !== undefined) return true
    if (this.#settings.active !== false) return this.#waiting < MAILBOX
    return this.kind === 'ssl' && this.#pushed - this.#decoder.offset < READ_AHEAD
  }

  /** Reads on, or stops reading. */
  #regulate(): void {
    const wants = this.#wants()
    if (wants === (this.#delivery.mode !== 'passive')) return
    try {
      this.#delivery.set(wants ? 'active' : 'passive')
    } catch (error) {
      // Somebody took the connection away from under the socket, or it was closed meanwhile, which `done` tells.
      if (!(error instanceof Busy) && !(error instanceof Closed)) throw error
    }
  }

  #arrived(chunk: Uint8Array): void {
    this.#pushed += chunk.length
    this.#arrivedBytes += chunk.length
    this.#decoder.push(chunk)
    this.#serve()
  }

  #over(report: CloseReport): void {
    if (this.#ending !== undefined || this.#closed) return
    this.#ending = { reason: report.clean ? undefined : report.reason }
    this.#serve()
    // A peer that has ended its direction of TLS has ended both (RFC 5246 has it so, and so does the original under 1.3).
    if (this.kind === 'ssl') this.#give()
  }

  /** Gives what is here to whom it belongs: to `recv` if it waits, to the mailbox if the socket is active. */
  #serve(): void {
    const receiver = this.#receiver
    if (receiver !== undefined) {
      const result = this.#next(receiver.length)
      if (result !== undefined) {
        this.#receiver = undefined
        receiver.done(result)
      }
    }
    while (this.#settings.active !== false && !this.#closed && !this.#told && this.#waiting < MAILBOX) {
      const result = this.#next(0)
      if (result === undefined) break
      if (result[0] === 'ok') this.#post(result[1])
      else this.#notice(result[1])
    }
    this.#regulate()
  }

  /** What `recv` gives now, or undefined. */
  #next(length: number): Received | undefined {
    if (this.#broken) return this.#lost()
    const settings = this.#settings
    settings.wanted = length
    const before = this.#decoder.offset
    let packet: Packet | undefined
    try {
      packet = this.#decoder.next()
    } catch {
      // Bytes that are no packet: the stream cannot be understood any further.
      const received = this.#decoder.rest()
      this.#broken = true
      this.#told = true
      this.#give()
      return ['error', this.kind === 'ssl' ? ['invalid_packet', received] : 'emsgsize']
    }
    if (packet !== undefined) {
      const size = this.#decoder.offset - before
      this.#counts.recv_cnt++
      this.#counts.recv_oct += size
      this.#counts.recv_max = Math.max(this.#counts.recv_max, size)
      return ['ok', this.#shaped(packet)]
    }
    return this.#ending === undefined ? undefined : this.#lost()
  }

  /** The input is over; what is left of it is no packet, and dropped. */
  #lost(): Failure<SslReason> {
    const reason = this.#told ? 'closed' : this.#endReason()
    this.#told = true
    if (this.kind === 'tcp' && this.#settings.exitOnClose) this.#finish()
    // An alert closes the connection as any other end does; only in a message it has a name.
    return ['error', Array.isArray(reason) && this.#settings.active === false ? 'closed' : reason]
  }

  /** Why the input is over, as far as the program wants to know. */
  #endReason(): SslReason {
    const error = this.#ending?.reason
    if (!(error instanceof Broken)) return 'closed'
    const { showReset } = this.#settings
    if (this.kind === 'ssl') {
      const cutOff = error.code === 'TLS_TRUNCATED' || error.code === 'TLS_FAILED' ? 'esslerrssl' : posixReason(error)
      return alertOf(error) ?? (showReset ? cutOff : 'closed')
    }
    const reason = posixReason(error)
    return reason === 'econnreset' && !showReset ? 'closed' : reason
  }

  /** A packet as the program gets it. */
  #shaped(packet: Packet): unknown {
    if (!(packet instanceof Uint8Array)) return packet
    const { mode, header } = this.#settings
    return mode === 'list' ? textOf(packet) : withHeader(packet, header)
  }

  #post(data: unknown): void {
    const size = typeof data === 'string' || data instanceof Uint8Array ? data.length : SMALL
    const isHttp = this.kind === 'tcp' && (data === 'http_eoh' || (Array.isArray(data) && typeof data[0] === 'string'))
    const tag = isHttp && String(this.#settings.packet).startsWith('http') ? 'http' : this.kind
    this.#waiting += size
    const counted = this.#consume()
    this.#owner.put([tag, this, data], this, () => {
      this.#waiting -= size
      if (this.#waiting < MAILBOX) this.#serve()
    })
    if (counted) this.#tell(['passive'])
  }

  /** One message less to come; whether the counter has reached 0 with it. */
  #consume(): boolean {
    const { active } = this.#settings
    if (active === 'once') this.#settings.active = false
    if (typeof active !== 'number') return false
    this.#settings.active = active > 1 ? active - 1 : false
    return active === 1
  }

  /** The message that the input is over, or that it is no packet. */
  #notice(reason: SslReason): void {
    this.#told = true
    this.#settings.active = false
    if (reason !== 'closed') this.#tell(['error', reason])
    // An alert or bad input says that the socket is closed, too.
    if (!Array.isArray(reason)) this.#tell(['closed'])
    if (this.kind === 'ssl' || this.#settings.exitOnClose || this.#broken) {
      this.#gone = true
      this.#finish()
    }
  }

  #tell([what, ...more]: readonly ['closed' | 'error' | 'passive', ...unknown[]]): void {
    this.#owner.put([`${this.kind}_${what}`, this, ...more], this)
  }

  /**
   * Waits for input.
   *
   * @internal
   */
  recv(length: unknown, timeout: unknown): Promise<Received> {
    const refused = this.#refusal(length, timeout)
    if (refused !== undefined) return refuse(refused)
    const now = this.#next(length as number)
    if (now !== undefined) {
      this.#regulate()
      return Promise.resolve(now)
    }
    return this.#wait(length as number, timeout as Timeout)
  }

  #refusal(length: unknown, timeout: unknown): SslReason | undefined {
    if (!isWhole(length, 0) || !isTimeout(timeout)) return 'einval'
    if (this.#closed) return 'closed'
    if (this.#settings.active !== false) return this.#told ? 'closed' : 'einval'
    if (this.#told) return this.kind === 'ssl' || this.#gone || !this.#settings.exitOnClose ? 'closed' : 'enotconn'
    if (length > 0 && this.#settings.packet !== 0 && this.#settings.packet !== 'raw') return 'einval'
    if (length > LARGEST) return 'enomem'
    return this.#receiver === undefined ? undefined : 'ealready'
  }

  #wait(length: number, timeout: Timeout): Promise<Received> {
    const process = current()
    let late = () => {}
    const result = new Promise<Received>((resolve, reject) => {
      let cancel: (() => void) | undefined
      const receiver: Receiver = {
        length,
        process,
        done: (received) => {
          cancel?.()
          resolve(received)
        },
        fail: (exit) => {
          cancel?.()
          // Nobody has to have looked.
          result.catch(() => {})
          reject(exit)
        },
      }
      this.#receiver = receiver
      late = () => {
        if (this.#receiver !== receiver) return
        this.#receiver = undefined
        this.#regulate()
        receiver.done(['error', 'timeout'])
      }
      if (this.#readEnded) this.#readOut()
      if (timeout === 0) twoTurns(late)
      else if (timeout !== 'infinity') cancel = alarm(timeout, late)
      this.#regulate()
    })
    // Of a process that is ended the sockets are closed, which answers; what else it waits for takes nothing from the next reader.
    return process === this.#owner || process.root ? result : process.quietly(result, late)
  }

  // Sending

  /**
   * Sends at once, and what else is sent before the event loop goes on, together: a program that answers many requests of one
   * segment in a row costs one system call, not one for each.
   *
   * @internal
   */
  send(data: unknown): Promise<'ok' | Failure<SslReason>> {
    const refused = this.#sendRefusal()
    if (refused !== undefined) return refuse(refused)
    const { packet } = this.#settings
    const header = headerOf(packet)
    const bytes = ioBytes(data, header)
    if (bytes === undefined) return Promise.resolve(['error', 'einval'])
    const length = bytes.length - header
    if (length > largestOf(packet)) return Promise.resolve(['error', this.#tooLarge(length, largestOf(packet))])
    for (let i = header - 1, rest = length; i >= 0; i--, rest = Math.floor(rest / 256)) bytes[i] = rest % 256
    if (bytes.length === 0) return SENT
    this.#counts.send_cnt++
    this.#counts.send_oct += bytes.length
    this.#counts.send_max = Math.max(this.#counts.send_max, bytes.length)
    if (this.#bursting && !this.#writing && this.#batched + bytes.length < BATCH) {
      // Its own memory, or a copy: the caller's is the caller's again.
      this.#batch.push(header === 0 ? Buffer.from(bytes) : bytes)
      this.#batched += bytes.length
      return SENT
    }
    const sent = this.#write(bytes)
    const process = current()
    if (process.root || (process === this.#owner && !this.#isSending)) return sent
    return process.quietly(sent)
  }

  #sendRefusal(): SslReason | undefined {
    if (this.#closed || this.#writeEnded) return 'closed'
    if (this.kind === 'ssl' && this.#ending !== undefined) return 'closed'
    if (this.kind === 'tcp' && this.#told && this.#settings.exitOnClose) return 'closed'
    const failed = this.#failed
    this.#failed = undefined
    return failed
  }

  #write(bytes: Uint8Array): Promise<'ok' | Failure<SslReason>> {
    this.#flush()
    // With no more input at hand there is nothing to answer in a row.
    if (!this.#bursting && (this.#pushed > this.#decoder.offset || this.#waiting > 0)) {
      this.#bursting = true
      // After everything that is ready to run.
      process.nextTick(() => {
        this.#bursting = false
        this.#flush()
      })
    }
    return this.#pass(bytes).then(isSent, (error: unknown) => ['error', this.#sendFailed(error)])
  }

  /** Whether a send has bytes that the system has not got, be they taken by the core or still waiting to be. */
  get #isSending(): boolean {
    const { bytesWritten, unsent } = this.#connection.stats
    return this.#passed - bytesWritten + unsent > 0
  }

  #pass(bytes: Uint8Array): Promise<void> {
    this.#passed += bytes.length
    const { sendTimeout } = this.#settings
    return sendTimeout === 'infinity' ? this.#connection.write(bytes) : this.#connection.write(bytes, { timeout: Math.max(1, sendTimeout) })
  }

  /** Writes what was gathered. Why that fails, the next send tells. */
  #flush(): void {
    if (this.#batched === 0) return
    const batch = this.#batch.length === 1 ? (this.#batch[0] as Uint8Array) : Buffer.concat(this.#batch, this.#batched)
    this.#batch = []
    this.#batched = 0
    this.#writing = true
    this.#pass(batch).then(
      () => {
        this.#writing = false
      },
      (error: unknown) => {
        this.#writing = false
        this.#failed = this.#sendFailed(error)
      },
    )
  }

  #tooLarge(length: number, most: number): SslReason {
    return this.kind === 'ssl' ? ['badarg', ['packet_to_large', length, most]] : 'emsgsize'
  }

  #sendFailed(error: unknown): SslReason {
    const reason = posixReason(error)
    if (reason !== 'timeout') return 'closed'
    // What was cut off in the middle no peer can make sense of any more.
    const cutOff = ((error as { bytesWritten?: number }).bytesWritten ?? 0) > 0
    if (cutOff || this.#settings.sendTimeoutClose) this.#writeEnded = true
    if (this.#settings.sendTimeoutClose) void this.close()
    return 'timeout'
  }

  // Ending

  /** The connection is of no more use: it is given back, what was received stays. */
  #give(): void {
    this.#flush()
    this.#writeEnded = true
    void this.#connection.close()
  }

  /** Nobody can do anything with the socket any more, so nobody has to hold it. */
  #finish(): void {
    this.#give()
    this.#unbind()
  }

  #unbind(): void {
    for (const process of this.#bond.links) this.#bond.unlink(process)
    this.#bond.leave('normal')
  }

  /** @param timeout for what is still to be sent; then it is given up. @internal */
  async close(timeout: Timeout = 'infinity'): Promise<'ok'> {
    this.#shut()
    this.#unbind()
    await this.#drained(timeout)
    return 'ok'
  }

  /** Closes behind what a send has yet to write, which the core would end with its own close. */
  async #drained(given: Timeout): Promise<void> {
    const [lingers, seconds] = this.#settings.linger
    if (lingers && seconds === 0) return this.#connection.abort()
    const timeout = lingers && given === 'infinity' ? seconds * 1000 : given
    const wait = timeout === 'infinity' ? {} : { timeout: Math.max(1, timeout) }
    if (this.#isSending) {
      try {
        await this.#connection.flush({ timeout: LINGER, ...wait })
      } catch {
        // Broken, or too late: whoever sent is told so.
        this.#connection.abort()
      }
    }
    await this.#connection.close(wait)
  }

  #shut(): void {
    if (this.#closed) return
    this.#flush()
    this.#closed = true
    const receiver = this.#receiver
    this.#receiver = undefined
    const over = receiver?.process.over
    if (over === undefined) receiver?.done(['error', 'closed'])
    else receiver?.fail(new Exit(over.reason))
  }

  /** Ends with its owner, in order, and by a signal of anybody, at once. */
  #signalled(from: Pid, reason: unknown, kind: 'link' | 'exit'): void {
    const ofOwner = from === this.#owner.pid && kind === 'link'
    if (reason === 'normal' && !ofOwner) return
    this.#bond.leave(kind === 'exit' && reason === 'kill' ? 'killed' : reason)
    this.#shut()
    if (ofOwner) void this.#drained('infinity')
    else this.#connection.abort()
  }

  /** @internal */
  async shutdown(how: unknown): Promise<'ok' | Failure<'closed' | 'einval' | 'enotconn'>> {
    if (how !== 'read' && how !== 'write' && how !== 'read_write') return ['error', 'einval']
    if (this.#closed || (this.kind === 'ssl' && this.#ending !== undefined)) return ['error', 'closed']
    if (this.kind === 'tcp' && this.#writeEnded && this.#told) return ['error', 'enotconn']
    if (how !== 'write') {
      this.#readEnded = true
      if (this.kind === 'ssl') this.#over({ clean: true, unsent: 0 })
      else if (this.#wants()) this.#readOut()
    }
    // TLS has ended both with the one.
    if (how === 'read' || (how === 'read_write' && this.kind === 'ssl')) return 'ok'
    this.#flush()
    this.#writeEnded = true
    try {
      await this.#connection.end()
      return 'ok'
    } catch {
      // Whatever the transport says: nothing can be sent any more, which is what was asked for.
      return ['error', 'closed']
    }
  }

  /** The program has ended the input: it is over as soon as the system has no more of it. */
  #readOut(): void {
    const seen = this.#arrivedBytes
    twoTurns(() => {
      if (!this.#wants()) return
      if (this.#arrivedBytes === seen) this.#over({ clean: true, unsent: 0 })
      else this.#readOut()
    })
  }

  /**
   * The connection, for TLS to be put upon: what was received and not taken goes back to it. Undefined for a socket that is
   * active, in use or over.
   *
   * @internal
   */
  release(): Connection | undefined {
    if (this.#closed || this.#told || this.#receiver !== undefined || this.#settings.active !== false) return undefined
    this.#shut()
    this.#unbind()
    const rest = this.#decoder.rest()
    void this.#delivery.stop()
    if (rest.length > 0) this.#connection.unread(rest)
    keep(this.#connection, current().owner)
    return this.#connection
  }

  // Ownership, options, facts

  /** @internal */
  controlling<R>(pid: unknown, refusal: (caller: Pid) => R): 'ok' | Failure<R | 'closed' | 'badarg'> {
    if (this.#closed) return ['error', 'closed']
    const [caller, to] = [current(), processOf(pid)]
    if (caller !== this.#owner) return ['error', refusal(caller.pid)]
    if (!(to instanceof Process) || to.over !== undefined) return ['error', 'badarg']
    if (to === caller) return 'ok'
    this.#bond.unlink(caller)
    this.#bond.link(to)
    this.#owner = to
    caller.handOver(this, to)
    return 'ok'
  }

  /** Whether the options were set; the reason otherwise. @internal */
  setopts(list: unknown): 'ok' | 'closed' | 'einval' | 'enoprotoopt' {
    if (this.#closed) return this.kind === 'ssl' ? 'closed' : 'einval'
    const settings = this.#settings
    const before = settings.active
    const changed = { ...settings }
    if (!readOptions(list, 'set', { stream: changed, place: defaultPlace(), others: {} })) return 'einval'
    const asked = activeAfter(list, before)
    if (asked !== undefined && this.#told) return this.#reactivated(asked)
    const count = typeof asked === 'number' ? asked : undefined
    if (count !== undefined && !isCount(count)) return 'einval'
    const refused = apply(this.#connection, settings, changed)
    if (refused !== undefined) return refused
    const recut = changed.packet !== settings.packet || changed.lineDelimiter !== settings.lineDelimiter
    changed.active = before
    Object.assign(settings, changed)
    if (recut && !this.#broken) this.#decodeAnew()
    if (count !== undefined) this.#activate(count)
    else if (asked !== undefined) settings.active = asked
    this.#serve()
    if (this.#readEnded && this.#wants()) this.#readOut()
    return 'ok'
  }

  /** `active` was set when the input was known to be over: `recv` has said so, and a message does once more. */
  #reactivated(asked: ActiveMode): 'ok' | 'closed' | 'einval' {
    if (this.kind === 'ssl') return 'closed'
    if (this.#gone) return 'einval'
    if (asked !== false) this.#notice('closed')
    return 'ok'
  }

  /** The counter of `{active, N}` is so much now. */
  #activate(count: number): void {
    this.#settings.active = count > 0 ? count : false
    if (count <= 0) this.#tell(['passive'])
  }

  /** @internal */
  getopts(names: unknown): readonly (readonly [string, unknown])[] | undefined {
    return optionValues(names, this.#settings, this.#connection)
  }

  /** Counters as `getstat` has them. @internal */
  stats(): Readonly<Record<string, number>> {
    const { recv_cnt, recv_oct, send_cnt, send_oct } = this.#counts
    return {
      ...this.#counts,
      recv_avg: recv_cnt === 0 ? 0 : Math.trunc(recv_oct / recv_cnt),
      recv_dvi: 0,
      send_avg: send_cnt === 0 ? 0 : Math.trunc(send_oct / send_cnt),
      send_pend: this.#connection.stats.unsent,
    }
  }

  /** Puts bytes in front of the input. @internal */
  unrecv(data: unknown): boolean {
    const bytes = ioBytes(data)
    if (bytes === undefined || this.#closed || this.#broken) return false
    this.#decodeAnew(new Uint8Array(bytes))
    this.#serve()
    return true
  }

  /** @internal */
  address(side: 'local' | 'remote'): Ok<SocketAddress> | Failure<'einval' | 'enotconn'> {
    if (this.#closed) return ['error', 'einval']
    const address = this.#connection[side]
    return address === undefined ? ['error', 'enotconn'] : ['ok', addressPair(address)]
  }
}

/** Bytes in binary mode: the first of them as numbers, if the option `header` says so. */
export function withHeader(bytes: Uint8Array, header: number): Uint8Array | HeaderData {
  if (header === 0) return bytes
  return bytes.length < header ? [...bytes] : [...bytes.subarray(0, header), bytes.slice(header)]
}

/** What a message without bytes of its own counts as. */
const SMALL = 256

/** Also stops a process that was ended, whose sockets are closed. */
async function refuse(reason: SslReason): Promise<Failure<SslReason>> {
  current()
  return ['error', reason]
}

/** Changes what the system has to know of. */
function apply(connection: Connection, before: StreamSettings, now: StreamSettings): 'enoprotoopt' | 'einval' | undefined {
  if (connection.local?.family === 'unix') return undefined
  try {
    if (now.nodelay !== before.nodelay) connection.set('noDelay', now.nodelay)
    if (now.keepalive !== before.keepalive) connection.set('keepAlive', now.keepalive)
    if (now.recbuf !== before.recbuf && now.recbuf !== undefined) connection.set('receiveBuffer', now.recbuf)
    if (now.sndbuf !== before.sndbuf && now.sndbuf !== undefined) connection.set('sendBuffer', now.sndbuf)
    if (now.tos !== before.tos && now.tos !== undefined) connection.set('typeOfService', now.tos)
    if (now.ttl !== before.ttl && now.ttl !== undefined) connection.set('ttl', now.ttl)
    if (now.priority !== before.priority && now.priority !== undefined) connection.set('priority', now.priority)
    return undefined
  } catch (error) {
    // Of a connection that is over, options mean nothing any more.
    if (error instanceof Closed || error instanceof Broken) return undefined
    return posixReason(error) === 'enoprotoopt' ? 'enoprotoopt' : 'einval'
  }
}

/** An address as Erlang has it: `{Ip, Port}`, or `{local, Path}`. */
export function addressPair(address: NonNullable<Connection['local']>): SocketAddress {
  if (address.family === 'unix') return ['local', address.abstract ? `\0${address.path}` : address.path]
  return [ipTupleOf(address.address) as IpTuple, address.port]
}

/** Counters of `getstat`. */
export type Statistic =
  | 'recv_cnt'
  | 'recv_oct'
  | 'recv_max'
  | 'recv_avg'
  | 'recv_dvi'
  | 'send_cnt'
  | 'send_oct'
  | 'send_max'
  | 'send_avg'
  | 'send_pend'

/** The counters asked for. @internal */
export function chosen(
  all: Readonly<Record<string, number>>,
  names: readonly Statistic[] = Object.keys(all) as Statistic[],
): Ok<readonly (readonly [Statistic, number])[]> | Failure<'einval'> {
  if (!Array.isArray(names) || names.some((name) => !Object.hasOwn(all, name))) return ['error', 'einval']
  return ['ok', names.map((name) => [name, all[name] as number])]
}
