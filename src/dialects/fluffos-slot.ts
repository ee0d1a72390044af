/** One socket of a driver: its state, and what stands behind it. */

import { pathToFileURL } from 'node:url'
import {
  type Address,
  type Authorities,
  type Connection,
  Closed,
  type DatagramSocket,
  DeadlineError,
  type Delivery,
  Denied,
  type Listener,
  type Network,
  OptionError,
  type Owner,
  ServerTls,
} from '../index.js'
import { type Failure, type Mode, MODES, RESULTS, type Result } from './fluffos-constants.js'
import type { Callback, SocketState } from './fluffos-efuns.js'
import { datagramText, type Place, streamText } from './fluffos-text.js'
import { encodeFrame, type FrameOptions, LpcFloat, LpcValueError, type LpcValue, mudFrames } from './fluffos-values.js'

/** What a slot knows of its driver. */
export interface World {
  readonly network: Network
  readonly owner: Owner
  readonly ca: Authorities
  readonly ipv6: boolean
  readonly frames: FrameOptions
  /** Calls back; what fails is logged. */
  call(slot: Slot, callback: Callback | undefined, ...parameters: unknown[]): void
  isObject(value: unknown): boolean
}

/** Connections that wait to be accepted: as long is the queue of the original. */
const BACKLOG = 5
/** What one read gives at most, as in the original. */
const LONGEST_READ = 65_534
/** Bytes that may wait to be sent before a program is told to wait: as much as the original asks the system to hold. */
const BUFFER = 256 * 1024
/** The most that fits a datagram over IPv4. */
const LONGEST_DATAGRAM = 65_507

const NO_DESCRIPTORS: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EAFNOSUPPORT', 'EPROTONOSUPPORT'])
const BY_CODE: Readonly<Record<string, Failure>> = {
  EADDRINUSE: RESULTS.EEADDRINUSE,
  EALREADY: RESULTS.EEALREADY,
  ECONNREFUSED: RESULTS.EECONNREFUSED,
  EINTR: RESULTS.EEINTR,
  ENOPROTOOPT: RESULTS.EESETSOCKOPT,
}

/** The result for what the system, or this library, said. */
function resultOf(error: unknown, otherwise: Failure): Failure {
  if (error instanceof Denied) return RESULTS.EESECURITY
  if (error instanceof OptionError) return RESULTS.EESETSOCKOPT
  const code = String((error as { code?: unknown }).code)
  return NO_DESCRIPTORS.has(code) ? RESULTS.EESOCKET : (BY_CODE[code] ?? otherwise)
}

export class Slot {
  readonly fd: number
  readonly mode: Mode
  readonly isDatagram: boolean
  readonly isTls: boolean
  readonly isBinary: boolean
  owner: object
  /** To whom it is offered. */
  target: object | undefined
  state: SocketState = 'UNBOUND'
  read: Callback | undefined
  write: Callback | undefined
  close: Callback | undefined
  verify: 0 | 1 = 1
  sni = ''
  cert = ''
  key = ''
  /** Why it ended, unless it was closed. */
  failure: unknown
  /** A `bind` that is under way. */
  binding: Promise<unknown> | undefined
  readonly #world: World
  #listener: Listener | undefined
  #tls: ServerTls | undefined
  readonly #waiting: Connection[] = []
  #room: (() => void) | undefined
  #connection: Connection | undefined
  #datagrams: DatagramSocket | undefined
  /** The datagrams that were sent before, on their way. */
  #sending: Promise<unknown> | undefined
  /** Bytes of datagrams on their way. */
  #queued = 0
  /** Nothing may be written: it connects, or what was written has not been sent. */
  #blocked = false
  /** Bytes that were written, by this side of the connection. */
  #given = 0
  /** The close callback has been called, or is being called. */
  #told = false
  /** A connection is on its way. */
  #opening = false
  #local: Address | undefined
  /** Ends what is being opened. */
  readonly #ending: AbortController = new AbortController()

  constructor(world: World, fd: number, mode: Mode, owner: object) {
    this.#world = world
    this.fd = fd
    this.mode = mode
    this.owner = owner
    this.isDatagram = mode === MODES.DATAGRAM || mode === MODES.DATAGRAM_BINARY
    this.isTls = mode === MODES.STREAM_TLS || mode === MODES.STREAM_TLS_BINARY
    this.isBinary = mode === MODES.STREAM_BINARY || mode === MODES.DATAGRAM_BINARY || mode === MODES.STREAM_TLS_BINARY
  }

  get isOpen(): boolean {
    return this.state !== 'CLOSED' && this.state !== 'CLOSING'
  }

  get local(): Address | undefined {
    return this.#connection?.local ?? this.#listener?.local ?? this.#local
  }

  get remote(): Address | undefined {
    return this.#connection?.remote
  }

  /** The number of the socket behind it in traces; the system's descriptor is not known. */
  get id(): number {
    return (this.#connection ?? this.#listener ?? this.#datagrams)?.id ?? -1
  }

  async bind(host: string | undefined, port: number): Promise<Result> {
    const { network, owner } = this.#world
    try {
      if (this.isDatagram) {
        const socket = await network.bind({ transport: 'udp', host, port }, { owner })
        if (this.state !== 'UNBOUND') return this.#late(socket)
        void this.#datagrams?.close()
        this.#datagrams = socket
        this.#local = socket.local
        this.#receive(socket)
      } else {
        const listener = await network.listen({ transport: 'tcp', host, port }, { owner, backlog: BACKLOG })
        if (this.state !== 'UNBOUND') return this.#late(listener)
        this.#listener = listener
        this.#local = listener.local
      }
    } catch (error) {
      this.failure = error
      return resultOf(error, RESULTS.EEBIND)
    }
    this.state = 'BOUND'
    return RESULTS.EESUCCESS
  }

  #late(socket: { close(): Promise<unknown> }): Failure {
    void socket.close()
    return this.isOpen ? RESULTS.EEISBOUND : RESULTS.EEBADF
  }

  /** @param pathOf the file of a path of LPC */
  listen(listen: Callback, pathOf: (path: string) => string): Result {
    if (this.isTls) {
      try {
        const [cert, key] = [this.cert, this.key].map((path) => pathToFileURL(pathOf(path)))
        this.#tls = new ServerTls({ cert, key })
      } catch (error) {
        this.failure = error
        return RESULTS.EELISTEN
      }
    }
    const listener = this.#listener
    if (this.state !== 'BOUND' || listener === undefined) return RESULTS.EEISCONN
    this.cert = this.key = ''
    this.read = listen
    this.state = 'LISTEN'
    void this.#accepting(listener)
    return RESULTS.EESUCCESS
  }

  async #accepting(listener: Listener): Promise<void> {
    try {
      for (;;) {
        const connection = await listener.accept()
        if (!this.isOpen) return connection.abort()
        this.#waiting.push(connection)
        this.#world.call(this, this.read, this.fd)
        if (this.#waiting.length >= BACKLOG) await new Promise<void>((resolve) => (this.#room = resolve))
      }
    } catch (error) {
      if (this.isOpen) this.#over(error)
    }
  }

  /** Takes a connection that waits. */
  next(): Connection | undefined {
    const connection = this.#waiting.shift()
    this.#room?.()
    return connection
  }

  /** Becomes the socket of a connection that `listening` gave. */
  accepted(connection: Connection, listening: Slot): void {
    const settings = listening.#tls
    this.#connection = connection
    this.state = 'DATA_XFER'
    if (settings === undefined) return this.#reading(connection)
    this.state = 'HANDSHAKE'
    const { signal } = this.#ending
    connection.startTls({ role: 'server', settings, implicit: true, signal }).then(
      (secured) => this.#established(secured),
      (error: unknown) => this.#over(error),
    )
  }

  connect(to: Place): void {
    this.state = this.isTls ? 'HANDSHAKE' : 'DATA_XFER'
    this.#blocked = this.#opening = true
    const { network, owner, ca, ipv6 } = this.#world
    const serverName = this.sni === '' ? undefined : this.sni
    const tls = this.verify === 1 ? { verify: true, ca, serverName } : { verify: false, serverName }
    this.sni = ''
    const settings = { owner, signal: this.#ending.signal, family: ipv6 ? undefined : 4, ...(this.isTls && { tls }) } as const
    const listener = this.#listener
    this.#listener = undefined
    const dial = async (): Promise<Connection> => {
      let from
      if (listener?.local.family === 'ipv4' || listener?.local.family === 'ipv6') {
        const { address: host, port } = listener.local
        from = { transport: 'tcp', host, port } as const
        await listener.close()
      }
      return network.connect({ transport: this.isTls ? 'tls' : 'tcp', ...to }, { ...settings, from })
    }
    dial().then(
      (connection) => this.#established(connection),
      (error: unknown) => {
        this.#opening = false
        this.#over(error)
      },
    )
  }

  #established(connection: Connection): void {
    this.#opening = false
    if (!this.isOpen) {
      this.state = 'CLOSED'
      void connection.close()
      return
    }
    this.#connection = connection
    this.state = 'DATA_XFER'
    this.#blocked = false
    this.#world.call(this, this.write, this.fd)
    if (this.isOpen) this.#reading(connection)
  }

  #reading(connection: Connection): void {
    try {
      const delivery =
        this.mode === MODES.MUD
          ? connection.frames(mudFrames(this.#world.frames)).deliver('active', ({ value }) => this.#give(value))
          : connection.deliver('active', (data) => this.#take(data))
      void delivery.done.then(({ reason }) => this.#over(reason))
    } catch (error) {
      this.#over(error)
    }
  }

  #take(data: Uint8Array): void {
    for (let at = 0; at < data.length; at += LONGEST_READ) {
      const piece = data.length <= LONGEST_READ ? data : data.slice(at, at + LONGEST_READ)
      this.#give(this.isBinary ? piece : streamText(piece))
    }
  }

  /** To whoever reads, unless nobody does any more: a socket that is closing reads on, so that the peer does. */
  #give(...parameters: unknown[]): void {
    if (this.isOpen) this.#world.call(this, this.read, this.fd, ...parameters)
  }

  #receive(socket: DatagramSocket): void {
    let delivery
    try {
      delivery = this.#delivering(socket)
    } catch (error) {
      return this.#over(error)
    }
    void delivery.done.then(({ reason }) => {
      if (!this.isOpen || socket !== this.#datagrams) return
      // What the system reports is about one datagram, and not the end of the socket.
      if (reason !== undefined && !(reason instanceof Closed)) this.#receive(socket)
      else this.#over(reason)
    })
  }

  #delivering(socket: DatagramSocket): Delivery {
    return socket.deliver('active', ({ data, from }) => {
      const sender = from.family === 'unix' ? '' : `${from.address} ${from.port}`
      this.#give(this.isBinary ? data : datagramText(data), sender)
    })
  }

  /** Sends on a stream. */
  send(message: LpcValue): Result {
    if (this.state !== 'DATA_XFER') return RESULTS.EENOTCONN
    if (this.#blocked) return RESULTS.EEALREADY
    const bytes = this.#encoded(message)
    if (typeof bytes === 'number') return bytes
    const connection = this.#connection as Connection
    if (bytes.length === 0) return RESULTS.EESUCCESS
    this.#given += bytes.length
    if (!connection.signal.aborted) void connection.write(bytes)
    if (connection.signal.aborted) {
      this.#over(connection.signal.reason)
      return RESULTS.EESEND
    }
    if (this.#unsent <= BUFFER) return RESULTS.EESUCCESS
    this.#blocked = true
    connection.flush().then(
      () => this.#drained(),
      // Whoever reads is told of it, behind what arrived before.
      (error: unknown) => (this.failure ??= error),
    )
    return RESULTS.EECALLBACK
  }

  /** Bytes that were sent and that the system has not got. */
  get #unsent(): number {
    const connection = this.#connection
    if (connection === undefined || connection.signal.aborted) return 0
    const { bytesWritten, unsent } = connection.stats
    return this.#given - bytesWritten + unsent
  }

  #drained(): void {
    if (!this.isOpen) return
    this.#blocked = false
    this.#world.call(this, this.write, this.fd)
  }

  #encoded(message: LpcValue): Uint8Array | Failure {
    if (this.#world.isObject(message)) return RESULTS.EETYPENOTSUPP
    if (this.mode !== MODES.MUD) return streamBytes(message) ?? RESULTS.EETYPENOTSUPP
    try {
      return encodeFrame(message, this.#world.frames)
    } catch (error) {
      if (error instanceof LpcValueError) return RESULTS[error.code]
      throw error
    }
  }

  /** Sends a datagram. */
  sendTo(message: LpcValue, to: Place): Result {
    const bytes = typeof message === 'string' || message instanceof Uint8Array ? streamBytes(message) : undefined
    if (bytes === undefined) return RESULTS.EETYPENOTSUPP
    if (bytes.length > LONGEST_DATAGRAM || to.port === 0) return RESULTS.EESENDTO
    if (this.#queued + bytes.length > BUFFER) return RESULTS.EEWOULDBLOCK
    this.#queued += bytes.length
    this.#sending = this.#sent(bytes, to, this.#sending)
      .catch((error: unknown) => (this.failure = error))
      .finally(() => (this.#queued -= bytes.length))
    return RESULTS.EESUCCESS
  }

  async #sent(bytes: Uint8Array, to: Place, before: Promise<unknown> | undefined): Promise<void> {
    await before
    const socket = this.#datagrams ?? (await this.#unbound())
    await socket.send(bytes, { transport: 'udp', ...to })
  }

  /** A socket that was not bound sends from any port, and receives nothing. */
  async #unbound(): Promise<DatagramSocket> {
    const { ipv6, network, owner } = this.#world
    const socket = await network.bind({ transport: 'udp', host: ipv6 ? undefined : '0.0.0.0', port: 0 }, { owner })
    if (this.#datagrams === undefined) return (this.#datagrams = socket)
    // It has been bound meanwhile.
    await socket.close()
    return this.#datagrams
  }

  /** The other side ended it, or an error did. The state changes behind the callback, in which the peer may still be written to. */
  #over(reason: unknown): void {
    if (this.state === 'CLOSED' || this.#told) return
    if (this.isOpen) {
      this.#told = true
      if (reason !== undefined) this.failure = reason
      this.#world.call(this, this.close, this.fd)
    } else if (this.#connection === undefined) this.state = 'CLOSED'
    if (this.isOpen) this.end()
  }

  /** Closes without a word; what was taken is sent first, and until then the state is CLOSING. */
  end(): void {
    this.read = this.write = this.close = undefined
    const connection = this.#connection
    this.state = this.#opening || this.#unsent > 0 ? 'CLOSING' : 'CLOSED'
    const closed = new Closed('CLOSED', 'socket_close', { op: 'close' })
    if (this.state === 'CLOSED' || connection === undefined) this.#ending.abort(closed)
    if (connection !== undefined) void this.#ended(connection)
    void this.#listener?.close()
    for (const waiting of this.#waiting.splice(0)) waiting.abort(closed)
    this.#room?.()
    void this.#closeDatagrams()
  }

  async #ended(connection: Connection): Promise<void> {
    await flushed(connection).catch((error: unknown) => {
      this.failure ??= error
      // What is cut off must not read as all there was.
      connection.abort(error)
    })
    await connection.close()
    this.state = 'CLOSED'
  }

  async #closeDatagrams(): Promise<void> {
    await this.#sending
    await this.#datagrams?.close()
  }
}

/** Milliseconds without progress after which a peer is taken not to read any more. */
const PATIENCE = 30_000

/** Sends everything that was taken, for as long as the peer goes on reading. */
async function flushed(connection: Connection): Promise<void> {
  for (;;) {
    const { bytesWritten, unsent } = connection.stats
    try {
      return await connection.flush({ timeout: PATIENCE })
    } catch (error) {
      const now = connection.stats
      if (!(error instanceof DeadlineError) || (now.bytesWritten === bytesWritten && now.unsent === unsent)) throw error
    }
  }
}

/** What a stream sends for a value; undefined for what it cannot. Memory of its own, as the caller may go on using his. */
function streamBytes(message: LpcValue): Uint8Array | undefined {
  if (typeof message === 'string') return Buffer.from(message)
  // A Buffer's `slice` would share it.
  if (message instanceof Uint8Array) return new Uint8Array(message)
  if (!Array.isArray(message)) return undefined
  const bytes = new DataView(new ArrayBuffer(message.length * 4))
  message.forEach((element: LpcValue, i) => bytes.setInt32(i * 4, lowHalf(element), true))
  return new Uint8Array(bytes.buffer)
}

/** The low 32 bits of an int, or of the representation of a float; 0 for anything else. */
function lowHalf(element: LpcValue): number {
  if (typeof element === 'bigint') return Number(BigInt.asIntN(32, element))
  const value = element instanceof LpcFloat ? element.value : element
  if (typeof value !== 'number') return 0
  if (value === element && Number.isInteger(value) && Math.abs(value) < 2 ** 63) return Number(BigInt.asIntN(32, BigInt(value)))
  const double = new DataView(new ArrayBuffer(8))
  double.setFloat64(0, value, true)
  return double.getInt32(0, true)
}
