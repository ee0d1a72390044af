/** What both styles of the dialect share: a socket as the system calls see it, made first and opened by what is called on it. */

import {
  bind,
  connect,
  Connection,
  type CreationOptions,
  type DatagramSocket,
  formatAddress,
  listen,
  type Listener,
  network,
  type OptionName,
  OPTIONS,
  type OptionRow,
  select,
  type SettableName,
  SocketError,
} from '../index.js'
import { Refusal, refusalOf } from './dictu-errno.js'
import { toInt } from './dictu-misuse.js'
import { encoded, fromBytes, ipv4Of } from './dictu-text.js'

const isLinux = process.platform === 'linux'

/** The constants of the module, with the numbers of this system. */
export const CONSTANTS: Readonly<Record<Constant, number>> = {
  AF_INET: 2,
  SOCK_STREAM: 1,
  SOCK_DGRAM: 2,
  SOCK_RAW: 3,
  SOCK_SEQPACKET: 5,
  SOL_SOCKET: isLinux ? 1 : 0xffff,
  SO_REUSEADDR: isLinux ? 2 : 4,
  SO_BROADCAST: isLinux ? 6 : 0x20,
}

type Constant = 'AF_INET' | 'SOCK_STREAM' | 'SOCK_DGRAM' | 'SOCK_RAW' | 'SOCK_SEQPACKET' | 'SOL_SOCKET' | 'SO_REUSEADDR' | 'SO_BROADCAST'

/** Families the original can make besides AF_INET, though it has no constants for them and can open neither. */
const AF_UNIX = 1
const AF_INET6 = isLinux ? 10 : process.platform === 'darwin' ? 30 : 23
/** Linux knows types up to 10; beyond 15 come flags, of which the original has none. */
const LAST_TYPE = 10
const TYPES = 0xf
/** `net.core.somaxconn` since Linux 5.4. */
const SOMAXCONN = 4096

/** Options by the numbers of the system. */
const NUMBERED: readonly (readonly [level: number, option: number, name: SettableName])[] = [
  [CONSTANTS.SOL_SOCKET, CONSTANTS.SO_REUSEADDR, 'reuseAddress'],
  [CONSTANTS.SOL_SOCKET, CONSTANTS.SO_BROADCAST, 'broadcast'],
  [CONSTANTS.SOL_SOCKET, isLinux ? 15 : 0x200, 'reusePort'],
  [CONSTANTS.SOL_SOCKET, isLinux ? 7 : 0x1001, 'sendBuffer'],
  [CONSTANTS.SOL_SOCKET, isLinux ? 8 : 0x1002, 'receiveBuffer'],
  [CONSTANTS.SOL_SOCKET, isLinux ? 9 : 8, 'keepAlive'],
  [6, 1, 'noDelay'],
]
/** The system takes these for any socket, though they mean nothing for a stream, or are on already. */
const HARMLESS: ReadonlySet<string> = new Set<OptionName>(['reuseAddress', 'broadcast'])

interface Place {
  readonly host: string
  readonly port: number
}

export class Descriptor {
  readonly family: number
  readonly type: number
  readonly #options: Map<SettableName, number | boolean> = new Map()
  #closed = false
  /** Bound; of a stream, the address is held by `#reserved` until it is listened or connected from. */
  #local: Place | undefined
  #reserved: Listener | undefined
  #listener: Listener | undefined
  #connection: Connection | undefined
  #datagrams: DatagramSocket | undefined
  /** Datagrams that came before `connect`. */
  #early: Uint8Array[] = []
  /** Calls that wait for a client or a datagram. They keep the process alive, the sockets do not: a program ends after its last line. */
  #waiting = 0
  /** The call that opens something, behind which the next one waits. */
  #opening: Promise<void> | undefined
  #reading: Promise<unknown> | undefined
  /** Ends a `connect` that waits when the socket is closed. */
  #connecting: AbortController | undefined

  private constructor(family: number, type: number) {
    this.family = family
    this.type = type
  }

  /** `socket(2)` with protocol 0. */
  static create(family: number, type: number): Descriptor {
    const { AF_INET, SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET } = CONSTANTS
    // In the order of the system.
    if ((type & ~TYPES) !== 0) throw new Refusal('EINVAL')
    if (![AF_INET, AF_UNIX, AF_INET6].includes(family)) throw new Refusal('EAFNOSUPPORT')
    if (type > LAST_TYPE) throw new Refusal('EINVAL')
    if (family === AF_UNIX && (type === SOCK_RAW || type === SOCK_SEQPACKET)) return new Descriptor(family, type)
    // Raw sockets have no protocol 0.
    if (type === SOCK_RAW) throw new Refusal('EPROTONOSUPPORT')
    if (type !== SOCK_STREAM && type !== SOCK_DGRAM) throw new Refusal('ESOCKTNOSUPPORT')
    return new Descriptor(family, type)
  }

  get #isStream(): boolean {
    return this.type === CONSTANTS.SOCK_STREAM
  }

  /** What it is at present in this library. */
  get beneath(): Connection | Listener | DatagramSocket | null {
    return this.#connection ?? this.#listener ?? this.#datagrams ?? this.#reserved ?? null
  }

  #mustLive(): void {
    if (this.#closed) throw new Refusal('EBADF')
  }

  /** One after the other, as the calls that open a socket are made; a socket closed meanwhile stays closed. */
  async #inTurn<T>(op: () => Promise<T>): Promise<T> {
    const before = this.#opening
    let done!: () => void
    const mine = new Promise<void>((resolve) => (done = resolve))
    this.#opening = mine
    await before
    try {
      this.#mustLive()
      const result = await op()
      this.#mustLive()
      return result
    } catch (error) {
      throw this.#closed ? new Refusal('EBADF', error) : refusalOf(error)
    } finally {
      if (this.#opening === mine) this.#opening = undefined
      done()
    }
  }

  /** The address argument of `bind` and `connect`; `unreadable` is the error for a host that is no IPv4 address. */
  #place(host: string, port: number, unreadable: string): Place {
    // Other families get an address of the wrong size.
    if (this.family !== CONSTANTS.AF_INET) throw new Refusal('EINVAL')
    const address = ipv4Of(host)
    if (address === undefined) throw new Refusal(unreadable)
    const number = toInt(port)
    if (number < 0 || number > 0xffff) throw new Refusal('EINVAL')
    return { host: address, port: number }
  }

  bind(host: string, port: number): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#local ?? this.#listener ?? this.#connection ?? this.#datagrams) throw new Refusal('EINVAL')
      const place = this.#place(host, port, 'EADDRNOTAVAIL')
      if (this.#isStream) {
        this.#reserved = (await listen({ transport: 'tcp', ...place }, { backlog: 1, ...this.#made('listener') })).unref()
        this.#local = placeOf(this.#reserved)
      } else {
        this.#datagrams = await this.#receiver(place)
        this.#local = placeOf(this.#datagrams)
      }
    })
  }

  listen(backlog: number): Promise<void> {
    return this.#inTurn(async () => {
      if (!this.#isStream) throw new Refusal('EOPNOTSUPP')
      if (this.#connection !== undefined || this.family === AF_UNIX) throw new Refusal('EINVAL')
      if (this.#listener !== undefined) return
      const at = this.#local ?? { host: this.family === AF_INET6 ? '::' : '0.0.0.0', port: 0 }
      // Whoever came to the reserved address before this is turned away, as the system does.
      await this.#unreserve()
      // The system counts without a sign, and has room for one more than it is told.
      const length = backlog < 0 ? SOMAXCONN : Math.min(backlog + 1, SOMAXCONN)
      this.#listener = (await listen({ transport: 'tcp', ...at }, { backlog: length, ...this.#made('listener') })).unref()
    })
  }

  async #unreserve(): Promise<void> {
    const reserved = this.#reserved
    this.#reserved = undefined
    await reserved?.close()
  }

  connect(host: string, port: number): Promise<void> {
    return this.#inTurn(async () => {
      const place = this.#place(host, port, 'ENETUNREACH')
      if (this.#listener ?? this.#connection) throw new Refusal('EISCONN')
      if (!this.#isStream) return this.#connectDatagrams(place)
      if (place.port === 0) throw new Refusal('ECONNREFUSED')
      await this.#unreserve()
      this.#connecting = new AbortController()
      const settings = { ...this.#from('tcp'), ...this.#made('connection'), signal: this.#connecting.signal }
      this.#connection = await connect({ transport: 'tcp', ...place }, settings)
    })
  }

  async #connectDatagrams(place: Place): Promise<void> {
    // The system takes it, and what is sent there goes nowhere.
    if (place.port === 0) throw new Refusal('EINVAL')
    const before = this.#datagrams
    if (before !== undefined) {
      if (this.#waiting === 0) await this.#keepEarly(before)
      this.#datagrams = undefined
      await before.close()
    }
    try {
      this.#datagrams = await this.#sender(`udp://${place.host}:${place.port}`)
    } catch (error) {
      // A refused call leaves the socket as it was.
      if (before !== undefined) this.#datagrams = await this.#again(before)
      throw error
    }
    // The port it was given by the system stays its own.
    this.#local ??= { host: '0.0.0.0', port: placeOf(this.#datagrams).port }
  }

  /** What the system has of it is read, too: it would go with the socket. Whoever waits has taken all there was. */
  async #keepEarly(datagrams: DatagramSocket): Promise<void> {
    await select([datagrams], { timeout: 0 })
    for (let got = datagrams.tryReceive(); got !== undefined; got = datagrams.tryReceive()) this.#early.push(got.data)
  }

  async #sender(to: `udp://${string}`): Promise<DatagramSocket> {
    return (await connect(to, { ...this.#from('udp'), ...this.#made('datagram') })).unref()
  }

  async #receiver(at: Place): Promise<DatagramSocket> {
    return (await bind({ transport: 'udp', ...at }, this.#made('datagram'))).unref()
  }

  /** A socket like one that is closed, with its address and its peer. */
  #again({ remote, endpoint }: DatagramSocket): Promise<DatagramSocket> {
    if (remote !== undefined) return this.#sender(endpoint as `udp://${string}`)
    return this.#receiver(this.#local as Place)
  }

  #from(scheme: 'tcp' | 'udp'): { from?: string } {
    return this.#local === undefined ? {} : { from: `${scheme}://${this.#local.host}:${this.#local.port}` }
  }

  /** The options for what is about to be opened. */
  #made<K extends 'connection' | 'listener' | 'datagram'>(kind: K): CreationOptions<K> {
    return Object.fromEntries([...this.#options].filter(([name]) => isPossible(name, kind))) as CreationOptions<K>
  }

  async accept(): Promise<{ socket: Descriptor; address: string }> {
    if (this.#opening !== undefined) await this.#opening
    this.#mustLive()
    if (!this.#isStream) throw new Refusal('EOPNOTSUPP')
    if (this.#listener === undefined) throw new Refusal('EINVAL')
    try {
      const connection = await this.#wait(this.#listener, (listener) => listener.accept())
      const socket = new Descriptor(this.family, this.type)
      socket.#connection = connection
      const { remote } = connection
      return { socket, address: remote === undefined || remote.family === 'unix' ? '' : remote.address }
    } catch (error) {
      throw refusalOf(error)
    }
  }

  /** How many bytes were written, or what `failed` makes of a refusal: the usual call makes one promise and not two. */
  write<F = never>(text: string, failed: (refusal: Refusal) => F = rethrow): Promise<number | F> {
    const bytes = encoded(text)
    const isUsual = this.#connection !== undefined && this.#opening === undefined && !this.#closed
    const sent = isUsual ? this.#send(bytes) : this.#sendInTurn(bytes)
    return sent.then(
      () => bytes.length,
      (error: unknown) => {
        // What went out before a failure is a short write; the failure is that of the next one.
        if (error instanceof SocketError && (error.bytesWritten ?? 0) > 0) return error.bytesWritten as number
        return failed(refusalOf(error))
      },
    )
  }

  #send(bytes: Uint8Array): Promise<void> {
    this.#mustLive()
    if (this.#connection !== undefined) return this.#connection.write(bytes)
    if (this.#datagrams?.remote !== undefined) return this.#datagrams.send(bytes)
    throw new Refusal(this.#isStream ? 'EPIPE' : 'EDESTADDRREQ')
  }

  async #sendInTurn(bytes: Uint8Array): Promise<void> {
    await this.#opening
    await this.#send(bytes)
  }

  /** Up to `size` bytes, at least 0; empty at the end of the stream. `failed` as for `write`. Several get their turn in order. */
  recv<F = never>(size: number, failed: (refusal: Refusal) => F = rethrow): Promise<string | F> {
    const connection = this.#connection
    const isUsual = this.#opening === undefined && !this.#closed && this.#reading === undefined && size > 0
    const reading = connection !== undefined && isUsual ? connection.read({ limit: size }) : this.#recvInTurn(size, this.#reading)
    this.#reading = reading
    return reading.then(
      (data) => {
        if (this.#reading === reading) this.#reading = undefined
        return data === null ? '' : fromBytes(data)
      },
      (error: unknown) => {
        if (this.#reading === reading) this.#reading = undefined
        return failed(refusalOf(error))
      },
    )
  }

  /** Behind the call before this one, whatever comes of that, and behind what opens the socket. */
  async #recvInTurn(size: number, before: Promise<unknown> | undefined): Promise<Uint8Array | null> {
    await before?.catch(() => {})
    for (;;) {
      await this.#opening
      this.#mustLive()
      const socket = this.#connection ?? this.#datagrams
      // A datagram socket that was neither bound nor connected could wait for ever.
      if (socket === undefined) throw new Refusal('ENOTCONN')
      if (size === 0) return new Uint8Array()
      if (socket instanceof Connection) return socket.read({ limit: size })
      try {
        return await this.#receive(socket, size)
      } catch (error) {
        // It goes on with what `connect` put in its place.
        if (this.#closed || this.#datagrams === socket) throw error
      }
    }
  }

  async #receive(socket: DatagramSocket, size: number): Promise<Uint8Array> {
    const data = this.#early.shift() ?? (await this.#wait(socket, (datagrams) => datagrams.receive())).data
    return data.subarray(0, size)
  }

  async #wait<S extends Listener | DatagramSocket, T>(socket: S, op: (socket: S) => Promise<T>): Promise<T> {
    if (this.#waiting++ === 0) socket.ref()
    try {
      return await op(socket)
    } finally {
      if (--this.#waiting === 0) socket.unref()
    }
  }

  setsockopt(level: number, option: number, value: number): void {
    this.#mustLive()
    const name = NUMBERED.find((row) => row[0] === level && row[1] === option)?.[2]
    const { beneath } = this
    try {
      if (name === undefined) {
        if (beneath === null || beneath === this.#reserved || level < 0 || option < 0) throw new Refusal('ENOPROTOOPT')
        beneath.set({ level, name: option }, value)
        return
      }
      const kinds = this.#isStream ? (['connection', 'listener'] as const) : (['datagram'] as const)
      if (!kinds.some((kind) => isPossible(name, kind))) {
        if (HARMLESS.has(name)) return
        throw new Refusal('ENOPROTOOPT')
      }
      const row: OptionRow = OPTIONS[name]
      const given = row.value.type === 'integer' ? fitting(value, row.value) : value !== 0
      if (beneath !== null && beneath !== this.#reserved && row.when === 'any time') beneath.set(name, given as never)
      this.#options.set(name, given)
    } catch (error) {
      throw refusalOf(error)
    }
  }

  /** Resolves when the descriptor is given back; nothing that goes wrong is told, and again it does nothing. */
  async close(): Promise<void> {
    this.#closed = true
    this.#connecting?.abort()
    await this.#opening
    await Promise.all([this.#unreserve(), this.#listener?.close(), this.#connection?.close(), this.#datagrams?.close()])
  }
}

function rethrow(refusal: Refusal): never {
  throw refusal
}

/** The sizes of buffers, which the system brings into its range: it takes them without a sign. */
function fitting(value: number, { least = 0, most = 0 }: OptionRow['value']): number {
  return value < 0 ? most : Math.min(Math.max(value, least), most)
}

/** Whether sockets of this kind can be made with the option by the driver in use. */
function isPossible(name: SettableName, kind: 'connection' | 'listener' | 'datagram'): boolean {
  const row: OptionRow = OPTIONS[name]
  if (!row.on.includes(`${kind === 'datagram' ? 'udp' : 'tcp'} ${kind}`)) return false
  const { name: driver, lacks } = network().driver
  if (driver !== 'node' && driver !== 'memory') return true
  return lacks?.has(name) !== true && (row[driver]?.[kind]?.includes('create') ?? false)
}

function placeOf({ local }: Listener | DatagramSocket): Place {
  if (local.family === 'unix') throw new TypeError(`not an Internet address: ${formatAddress(local)}`)
  return { host: local.address, port: local.port }
}
