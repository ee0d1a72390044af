/** Datagram sockets as streams that can be joined: a read gives one datagram, a write sends one or several. */

import {
  type Address,
  Broken,
  type Datagram,
  type DatagramEndpoint,
  type DatagramSocket,
  Deadline,
  DeadlineError,
  formatEndpoint,
  type Network,
  type ParsedEndpoint,
  sameAddress,
  SystemFailure,
} from '../index.js'
import { type OptionName, type Options, UsageError } from './arguments.js'
import { Bell } from './directions.js'
import type { Stream } from './join.js'

/** Bytes of a datagram that every path carries in one piece: the least MTU of IPv6 without its headers, and some to spare. */
const SIZE = 1_200
/** Milliseconds without a datagram after which, once the input has ended, the answer counts as complete. */
const QUIET = 1_000

/** Datagrams that are taken at once where they become one stream of bytes. */
const BATCH = 64

const OF_DATAGRAMS: readonly OptionName[] = ['size', 'lines', 'wait', 'rate']
const OF_STREAMS: readonly OptionName[] = ['starttls', 'mode']

export function isDatagram({ transport }: ParsedEndpoint): boolean {
  return transport === 'udp' || transport === 'unixgram' || transport === 'unixpacket'
}

/** Refuses settings of streams where there are datagrams, and the other way round. */
export function checkDatagramOptions(options: Options, command: string, datagrams: boolean): void {
  const given = (datagrams ? OF_STREAMS : OF_DATAGRAMS).find((name) => options[name] !== undefined)
  if (given !== undefined) throw new UsageError(`--${given} is for ${datagrams ? 'streams, not for udp:' : 'udp: endpoints'}`, command)
}

/** Connects a datagram socket. */
export function dialDatagrams(network: Network, endpoint: ParsedEndpoint, options: Options, signal: AbortSignal): Promise<DatagramSocket> {
  return network.connect(formatEndpoint(endpoint) as DatagramEndpoint, {
    timeout: options['connect-timeout'] ?? network.limits.connect,
    signal,
    ...(options.from !== undefined && { from: options.from }),
  })
}

/** The counters of datagrams that a `done` event has. */
export function datagramCounts(
  stats: Pick<DatagramSocket['stats'], 'datagramsRead' | 'datagramsWritten' | 'dropped'>,
): Record<string, number> {
  return { datagramsReceived: stats.datagramsRead, datagramsSent: stats.datagramsWritten, dropped: stats.dropped }
}

/** How long the answer may take once the input has ended. */
export const quietTime = (options: Options): number => options.wait ?? QUIET

/** Makes datagrams of a stream's bytes: as they come, at most `size` at a time, or each line with its line feed. */
export class Cutter {
  readonly #size: number
  readonly #lines: boolean
  #begun: Uint8Array[] = []
  #length = 0

  constructor({ size, lines }: Options) {
    this.#size = size ?? SIZE
    this.#lines = lines ?? false
  }

  *cut(data: Uint8Array): Generator<Uint8Array> {
    for (let rest = data; rest.length > 0;) {
      const room = this.#size - this.#length
      const end = this.#lines ? rest.subarray(0, room).indexOf(0x0a) + 1 : rest.length
      const take = Math.min(end || rest.length, room)
      const piece = rest.subarray(0, take)
      rest = rest.subarray(take)
      if (this.#lines && end !== take && take < room) this.#keep(piece)
      else yield this.#complete(piece)
    }
  }

  /** What stands behind the last line feed. */
  *rest(): Generator<Uint8Array> {
    if (this.#length > 0) yield this.#complete(new Uint8Array())
  }

  #keep(piece: Uint8Array): void {
    this.#begun.push(piece.slice())
    this.#length += piece.length
  }

  #complete(piece: Uint8Array): Uint8Array {
    if (this.#length === 0) return piece
    const whole = Buffer.concat([...this.#begun, piece])
    this.#begun = []
    this.#length = 0
    return whole
  }
}

/** Whether the other side says that nobody receives there. The socket goes on. */
export const isRefusal = (error: unknown): boolean => error instanceof Broken && error.code === 'ECONNREFUSED'

interface PeerOptions {
  /** Milliseconds without a datagram that end the read direction once the write direction has ended. */
  wait: number
  /** Makes datagrams of bytes; absent where each piece that is written is one. */
  cutter?: Cutter | undefined
  /** Waits until so many bytes more may be sent. */
  pace?: ((bytes: number) => Promise<void>) | undefined
  /** Told when nobody receives there; without it that is a failure. */
  refused?: ((error: unknown) => void) | undefined
}

/**
 * A connected datagram socket. Datagrams have no end: once the write direction has ended, the read direction ends after a
 * time without a datagram.
 */
export class PeerStream implements Stream {
  readonly #socket: DatagramSocket
  readonly #o: PeerOptions
  readonly #quiet: Deadline = new Deadline()
  #ended = false
  #received = 0
  #failure: { readonly error: unknown } | undefined

  constructor(socket: DatagramSocket, o: PeerOptions) {
    this.#socket = socket
    this.#o = o
  }

  get stats(): DatagramSocket['stats'] {
    return this.#socket.stats
  }

  get local(): Address {
    return this.#socket.local
  }

  get remote(): Address | undefined {
    return this.#socket.remote
  }

  async read(o: { signal?: AbortSignal | undefined } = {}): Promise<Uint8Array | null> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure.error
      try {
        const { data, truncated } = await this.#socket.receive({ deadline: this.#quiet, ...o })
        this.#received++
        this.#listen()
        // Half a message must not pass for a whole one.
        if (!truncated) return data
      } catch (error) {
        // A failed write ends the wait, and is told at the top.
        if (this.#hasFailed()) continue
        if (error instanceof DeadlineError) return null
        this.#tolerate(error)
      }
    }
  }

  #hasFailed(): boolean {
    return this.#failure !== undefined
  }

  /** Gives the peer some time to answer. */
  #listen(): void {
    if (this.#ended) this.#quiet.set(Date.now() + this.#o.wait)
  }

  async write(data: Uint8Array): Promise<void> {
    const { cutter } = this.#o
    for (const piece of cutter === undefined ? [data] : cutter.cut(data)) await this.#send(piece)
  }

  async #send(data: Uint8Array): Promise<void> {
    try {
      await this.#o.pace?.(data.length)
      await this.#socket.send(data)
    } catch (error) {
      try {
        this.#tolerate(error)
      } catch (told) {
        // The reader would wait for datagrams for ever.
        this.#failure = { error: told }
        this.#quiet.set(Date.now())
        throw told
      }
    }
  }

  #tolerate(error: unknown): void {
    if (!isRefusal(error)) throw error
    if (this.#o.refused !== undefined) return this.#o.refused(error)
    if (this.#received > 0) throw error
    const { endpoint } = this.#socket
    throw new SystemFailure('ECONNREFUSED', 'nobody receives datagrams there: refused', { op: 'connect', endpoint, cause: error })
  }

  async end(): Promise<void> {
    for (const piece of this.#o.cutter?.rest() ?? []) await this.#send(piece)
    this.#ended = true
    this.#listen()
  }

  close(o?: { timeout?: number | undefined }): Promise<unknown> {
    return this.#socket.close(o)
  }

  abort(reason?: unknown): void {
    this.#socket.abort(reason)
  }
}

interface EverybodyOptions {
  cutter: Cutter
  /** Milliseconds to wait for the first datagram. */
  patience?: number | undefined
  /** Milliseconds without a datagram in either direction that end it once the first has come. */
  idle?: number | undefined
  /** Told of the sender of each datagram that another one sent than the one before. */
  changed(from: Address): void
}

/** A bound socket as one stream: what anybody sends, in turn; what is written goes to whom we heard from last. */
export class Everybody implements Stream {
  readonly #socket: DatagramSocket
  readonly #o: EverybodyOptions
  readonly #quiet: Deadline = new Deadline()
  readonly #bell: Bell = new Bell()
  #last: Address | undefined
  #stopped = false

  constructor(socket: DatagramSocket, o: EverybodyOptions) {
    this.#socket = socket
    this.#o = o
    if (o.patience !== undefined) this.#quiet.set(Date.now() + o.patience)
  }

  get stats(): DatagramSocket['stats'] {
    return this.#socket.stats
  }

  async read(o: { signal?: AbortSignal | undefined } = {}): Promise<Uint8Array | null> {
    for (;;) {
      try {
        const all = await this.#socket.receiveMany(BATCH, { deadline: this.#quiet, ...o })
        this.#active()
        // Half a message must not pass for a whole one.
        const whole = all.filter(({ truncated }) => !truncated)
        for (const { from } of whole) this.#from(from)
        // One write for all of them: what is slow to take single datagrams would lose the rest.
        if (whole.length > 0) return whole.length === 1 ? (whole[0] as Datagram).data : Buffer.concat(whole.map(({ data }) => data))
      } catch (error) {
        if (error instanceof DeadlineError && (this.#stopped || this.#last !== undefined)) return null
        // Somebody we answered has gone; the others have not.
        if (!isRefusal(error)) throw error
      }
    }
  }

  #from(address: Address): void {
    if (this.#last === undefined || !sameAddress(this.#last, address)) this.#o.changed(address)
    this.#last = address
    this.#bell.ring()
  }

  #active(): void {
    if (this.#stopped) return
    if (this.#o.idle === undefined) this.#quiet.clear()
    else this.#quiet.set(Date.now() + this.#o.idle)
  }

  /** Takes nothing more. */
  stop(): void {
    this.#stopped = true
    this.#quiet.set(Date.now())
    this.#bell.ring()
  }

  async write(data: Uint8Array): Promise<void> {
    for (const piece of this.#o.cutter.cut(data)) await this.#send(piece)
  }

  async #send(data: Uint8Array): Promise<void> {
    while (this.#last === undefined && !this.#stopped) await this.#bell.wait()
    if (this.#last === undefined) return
    this.#active()
    try {
      await this.#socket.send(data, this.#last)
    } catch (error) {
      if (!isRefusal(error)) throw error
    }
  }

  async end(): Promise<void> {
    for (const piece of this.#o.cutter.rest()) await this.#send(piece)
  }

  close(o?: { timeout?: number | undefined }): Promise<unknown> {
    this.stop()
    return this.#socket.close(o)
  }

  abort(reason?: unknown): void {
    this.stop()
    this.#socket.abort(reason)
  }
}
