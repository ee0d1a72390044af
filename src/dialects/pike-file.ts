/** `Stdio.File`: TCP connections and UNIX sockets; `Stdio.FILE`: the same, line by line. */

import { isIP } from 'node:net'
import {
  Closed,
  connect,
  type Connection,
  type ConnectOptions,
  type EndpointObject,
  network,
  OptionError,
  service,
  SocketError,
  SystemFailure,
} from '../index.js'
import { connectionPair } from '../testing/index.js'
import { isDescriptor } from './pike-descriptors.js'
import { EBADF, EINVAL, EISCONN, EOPNOTSUPP, errnoOf, isBadAddress, PikeError } from './pike-errno.js'
import { ByteStream, channelOf, type EventCallback, type Given, plainIp, type ReadCallback, type Writable } from './pike-stream.js'
import { sprintf, toBytes } from './pike-strings.js'
import { call, report } from './pike-system.js'

/** Options that may be set at any moment, also before connecting. */
interface Settings {
  keepAlive: boolean | undefined
  noDelay: boolean | undefined
  sendBuffer: number | undefined
  receiveBuffer: number | undefined
}

/** Names for {@link File.set_option}. */
export const KEEPALIVE = 'keepAlive'
export const NO_DELAY = 'noDelay'
export const PORT_REUSE_ADDRESS = 'reuseAddress'
export const PORT_BROADCAST = 'broadcast'
export const MULTICAST = 'multicastLoopback'
/** What `set_option` takes. */
export type SocketOption = 'keepAlive' | 'noDelay' | 'reuseAddress' | 'broadcast' | 'multicastLoopback'

/** Names of the descriptors that every process is started with. */
const STANDARD = ['stdin', 'stdout', 'stderr']

/** What a port of the original may be: a number, or the name of a service. */
export type PortName = number | string

/** The number of a port. The original takes numbers modulo 65,536, and so may reach a port that nobody asked for. */
export function portNumber(port: PortName, protocol: 'tcp' | 'udp' = 'tcp'): number {
  if (typeof port === 'string' && !/^\d+$/.test(port)) return serviceNumber(port, protocol)
  const number = Number(port)
  if (!Number.isInteger(number) || number < 0 || number > 65_535) throw new PikeError(`Invalid port ${String(port)}: expected 0 to 65535`)
  return number
}

function serviceNumber(name: string, protocol: 'tcp' | 'udp'): number {
  try {
    return service(name, protocol).port
  } catch (error) {
    if (!(error instanceof SocketError)) throw error
    throw new PikeError(`Invalid service '${name}'`, error)
  }
}

/** Whether an argument for a port or a host is meant as the path of a UNIX socket. */
export function isPath(name: unknown): name is string {
  return typeof name === 'string' && name.includes('/')
}

/** Whether a path would break lines of logs and commands; such names are refused as those with NUL are. */
export function isBadPath(path: string): boolean {
  return /[\0\r\n]/.test(path)
}

/** The error that the original throws for a name that is none or cannot be looked up; others are passed on. */
export function invalidAddress(error: unknown, host: string): unknown {
  return isBadAddress(error) ? new PikeError(`Invalid address '${host}'`, error) : error
}

/**
 * A connection, or an object that can become one. Pike: `Stdio.File`.
 *
 * ```ts
 * import { Stdio } from 'fairlead/pike'
 *
 * const port = new Stdio.Port()
 * await port.bind(0, 0, '127.0.0.1')
 * const sock = new Stdio.File()
 * const [host, number] = (port.query_address() as string).split(' ')
 * if (!(await sock.connect(host, Number(number)))) throw new Error(`errno ${sock.errno()}`)
 * const peer = (await port.accept()) as Stdio.File
 * await sock.write('hello')
 * console.log(await peer.read(5)) // hello
 * peer.close()
 * sock.close()
 * port.close()
 * ```
 */
export class File extends ByteStream {
  readonly #settings: Settings = { keepAlive: undefined, noDelay: undefined, sendBuffer: undefined, receiveBuffer: undefined }
  /** What connects it at the moment. */
  #attempt: Promise<Connection> | undefined

  /**
   * A file that is not open; or, with the number of a descriptor, one for a connection that others made, such as one that this
   * process was started with. What the descriptor is turns out later, and is told by whatever uses the file: 0 or −1, with
   * `errno()` 9 (there is none), 88 (not a socket), 107 (not connected), 22 (another kind of socket), 95 (the driver cannot take
   * it over).
   *
   * @param fd a number, or `"stdin"`, `"stdout"`, `"stderr"`
   * @param _mode means nothing: connections are read and written
   * @throws PikeError `Not a valid FD.` for numbers that are none, and for the path of a file
   */
  constructor(fd?: number | string, _mode?: string, _bits?: number) {
    super()
    if (this.receive_fd !== File.prototype.receive_fd) channelOf(this).receiver = (number) => this.#receive(number)
    if (fd === undefined) return
    const number = typeof fd === 'string' ? STANDARD.indexOf(fd) : fd
    if (typeof fd === 'string' && number < 0) throw new PikeError(`Failed to open "${fd}": files of the file system are not sockets`)
    if (!isDescriptor(number, 'create')) throw new PikeError('Not a valid FD.')
    this.#take(number, false).catch(report)
  }

  // Connecting

  /**
   * Connects to a host, or with one argument that contains a slash, to a UNIX socket. Waits, unless the file does not block:
   * then 1 means that it is under way, and callbacks tell how it went.
   *
   * @param host a name or an IP address, or a path
   * @param port a number from 1 to 65535 or the name of a service
   * @param client_addr an IP address to connect from; with a string and no `client_port`, data to be sent at once
   * @param client_port the port to connect from
   * @returns 1, or 0 with `errno()`: 111 refused, 110 no answer, 113 no route, 106 connected already; with data to send, what was
   *   not sent of them
   * @throws PikeError `Invalid address`, `Invalid service`: what cannot be looked up or is no address
   */
  connect(path: string): Promise<0 | 1>
  connect(host: string, port: PortName): Promise<0 | 1>
  connect(host: string, port: PortName, client_addr: string | 0, client_port: PortName): Promise<0 | 1>
  connect(host: string, port: PortName, data: string): Promise<string | 0>
  async connect(host: string, port?: PortName, client_addr: string | 0 = 0, client_port?: PortName): Promise<string | 0 | 1> {
    if (port === undefined) {
      if (!isPath(host)) throw new PikeError('Too few arguments to connect().')
      return this.connect_unix(host)
    }
    const data = typeof client_addr === 'string' && client_port === undefined ? client_addr : undefined
    if (client_port !== undefined) channelOf(this).socket = { from: place(client_addr === 0 ? '' : client_addr, client_port) }
    const connected = await this.#connect({ transport: 'tcp', host, port: portNumber(port) }, host)
    if (data === undefined) return connected
    if (connected === 0) return 0
    const sent = await this.write(data)
    return sent < 0 ? 0 : data.slice(sent)
  }

  /** Connects to a UNIX socket: 1, or 0 with `errno()` 2 (no such path), 111 (nobody listens), 22 (the path is too long, or has NUL, CR or LF). */
  async connect_unix(path: string): Promise<0 | 1> {
    if (isBadPath(path)) {
      channelOf(this).errno = EINVAL
      return 0
    }
    return this.#connect({ transport: 'unix', path }, path)
  }

  async #connect(endpoint: EndpointObject, host: string): Promise<0 | 1> {
    const channel = channelOf(this)
    channel.errno = 0
    if (channel.open || this.#attempt !== undefined) {
      channel.errno = EISCONN
      return 0
    }
    if (channel.nonblocking) {
      // Looking a name up waits in any mode, there as here.
      if (endpoint.transport === 'tcp') await mustResolve(host)
      channel.dialling(this.#dial(endpoint, host))
      return 1
    }
    const attempt = this.#dial(endpoint, host)
    this.#attempt = attempt
    try {
      this.#connected(await attempt, attempt)
      return 1
    } catch (error) {
      if (this.#attempt === attempt) channelOf(this).socket = this.#attempt = undefined
      if (error instanceof PikeError) throw error
      channel.errno = errnoOf(error)
      return 0
    }
  }

  #connected(connection: Connection, attempt: Promise<Connection>): void {
    if (this.#attempt !== attempt) {
      connection.abort()
      throw new Closed('CLOSED', 'the file was closed while it was being connected')
    }
    this.#attempt = undefined
    channelOf(this).attach(connection)
  }

  async #dial(endpoint: EndpointObject, host: string): Promise<Connection> {
    const { keepAlive, noDelay } = this.#settings
    const from = channelOf(this).socket?.from
    const o: ConnectOptions = endpoint.transport === 'tcp' ? { keepAlive, noDelay, ...(from !== undefined && { from }) } : {}
    try {
      const connection = await connect(endpoint, o)
      channelOf(this).socket = undefined
      applyBuffers(connection, this.#settings)
      return connection
    } catch (error) {
      throw refusedPort(endpoint, invalidAddress(error, host))
    }
  }

  /**
   * Connects, and tells how it went: calls `callback(1, …args)` or `callback(0, …args)`, never before this has returned. The file
   * does not block afterwards.
   *
   * @returns 1 if the callback will be called, 0 with `errno()` if the file is connected already
   * @throws PikeError as `connect`, for what is no address or service; a name that cannot be looked up gives `callback(0)`
   */
  async_connect<A extends readonly unknown[]>(
    host: string,
    port: PortName,
    callback: (success: 0 | 1, ...args: A) => unknown,
    ...args: A
  ): 0 | 1 {
    const channel = channelOf(this)
    if (channel.open || this.#attempt !== undefined) {
      channel.errno = EISCONN
      return 0
    }
    const number = portNumber(port)
    this.set_nonblocking()
    const attempt = this.#dial({ transport: 'tcp', host, port: number }, host)
    this.#attempt = attempt
    void (async () => {
      let success: 0 | 1 = 1
      try {
        this.#connected(await attempt, attempt)
      } catch (error) {
        // Whoever closes the file does not want to know any more.
        if (this.#attempt !== attempt) return
        this.#attempt = undefined
        channel.errno = error instanceof PikeError ? EINVAL : errnoOf(error)
        channelOf(this).socket = undefined
        success = 0
      }
      await call(callback as (...all: never[]) => unknown, success, ...args)
    })().catch(report)
    return 1
  }

  /**
   * Makes a socket that is not connected yet, so that it can be set up before; the address to connect from is bound when it
   * connects, and a wrong one is told then.
   *
   * @param port the port to connect from, 0 for any
   * @param addr the IP address to connect from; also decides about IPv4 and IPv6
   * @returns 1
   * @throws PikeError `Invalid address`, also for names, since looking one up takes time; `Invalid service`
   */
  open_socket(port?: PortName, addr?: string | 0, _family_hint?: string): 0 | 1 {
    if (channelOf(this).open) this.close()
    channelOf(this).socket = { from: port === undefined && !addr ? undefined : place(addr || '', port ?? 0) }
    return 1
  }

  override query_address(local: 0 | 1 | boolean = 0): string | 0 {
    const { open, socket } = channelOf(this)
    return open || socket === undefined || !local ? super.query_address(local) : addressOfPlace(socket.from)
  }

  override is_open(): 0 | 1 {
    return channelOf(this).socket === undefined ? super.is_open() : 1
  }

  override close(how: string = 'rw'): 0 | 1 {
    if (/[rw]/.test(how)) channelOf(this).socket = this.#attempt = undefined
    return super.close(how)
  }

  // Descriptors

  /**
   * The number that the system knows the connection by. It stays this file's: for another program that is started with it, say.
   *
   * @returns −1 with `errno()` 95 where there is none: before it is connected, of a `pipe`, and where the driver does not tell
   * @throws PikeError if the file is not open
   */
  query_fd(): number {
    const channel = channelOf(this)
    if (!this.is_open()) throw new PikeError('File not open.')
    channel.errno = channel.descriptor < 0 ? EOPNOTSUPP : 0
    return channel.descriptor
  }

  /**
   * Becomes a file for a descriptor, which is closed with it; −1: for none. What was open before is closed. What the descriptor is
   * not is in `errno()` then, and the file tells it as one that was made with the number does.
   *
   * @param fd a number from `release_fd`, of another program, or received; one of an open object of this process gives 17
   * @returns 0
   */
  async take_fd(fd: number): Promise<0> {
    const known = isDescriptor(fd, 'take_fd')
    if (known && this.is_open() && channelOf(this).descriptor === fd) return 0
    this.close()
    channelOf(this).errno = 0
    if (fd > 0 && !known) channelOf(this).errno = EBADF
    if (known) await this.#take(fd, false)
    return 0
  }

  async #take(fd: number, isReceived: boolean): Promise<void> {
    await channelOf(this).take(fd, connect({ fd }), isReceived)
  }

  /**
   * Gives the descriptor away, open and connected, and is closed then: for `take_fd` of another object, say, or `node:net`. It is
   * the program's to close.
   *
   * @returns the number; −1 with `errno()` where the file stays open: 95 if the driver cannot, 16 while a copy has the connection,
   *   something reads or writes, or what arrived and was read ahead would be lost
   * @throws PikeError if the file is not open
   */
  release_fd(): number {
    return channelOf(this).release()
  }

  /**
   * Whether programs that are started from here are kept from the descriptor: always; 0 is not granted, with `errno()` 95.
   *
   * @throws PikeError if the file is not open
   */
  set_close_on_exec(on: 0 | 1 | boolean): void {
    if (!this.is_open()) throw new PikeError('File not open.')
    channelOf(this).errno = on ? 0 : EOPNOTSUPP
  }

  /**
   * Lets the connection of another file go along with what is written to this one next, over a UNIX socket, to a process that
   * has it as well then. The other file stays open, and may be closed at once. Several go in their order.
   *
   * @throws PikeError if one of them is not open, and for what is no UNIX socket or a driver that cannot
   */
  send_fd(file: File): void {
    if (!(file instanceof File)) throw new PikeError('Bad argument 1 to send_fd(). Expected Stdio.Fd.')
    channelOf(this).enclose(channelOf(file))
  }

  /**
   * Called with each file that came along with bytes, before those are read or come to a callback; what it returns is waited for,
   * and what it throws goes to `master().handle_error`. To be overloaded: files of classes that do not have it refuse what comes.
   * One that is no connection fails with 88 or 22, and `release_fd` gives its number.
   */
  receive_fd(file: File): unknown {
    return file.close()
  }

  async #receive(fd: number): Promise<void> {
    const file = new File()
    await file.#take(fd, true)
    await call((came: File) => this.receive_fd(came), file)
  }

  // Copies, pairs and pipes

  /** Becomes a copy of another file: both use one connection, which is closed with the last of them. Returns 0. */
  assign(file: ByteStream): 0 {
    channelOf(this).copy(channelOf(file))
    return 0
  }

  /** A copy of this file. */
  dup(): File {
    const copy = new File()
    copy.assign(this)
    return copy
  }

  /** Makes `to` a copy of this file; returns 1. */
  dup2(to: File): 0 | 1 {
    to.assign(this)
    return 1
  }

  /**
   * Opens this file as one end of a pair, and returns the other: what is written to either is read from the other.
   *
   * @param _properties bits of `PROP_…`; the pair has all of them but PROP_SEND_FD and PROP_TTY
   */
  pipe(_properties?: number): File {
    if (channelOf(this).open) this.close()
    const { a, b } = connectionPair()
    const other = new File()
    channelOf(this).attach(a)
    channelOf(other).attach(b)
    return other
  }

  /** Copies what arrives at another file to this one, in the background, until its end. Neither is closed by that. */
  proxy(from: ByteStream): void {
    const [source, sink] = [new File(), new File()]
    source.assign(from)
    sink.assign(this)
    source.set_blocking()
    sink.set_blocking()
    void copyAll(source, sink)
  }

  /**
   * Whether something can be read, without reading it: 1 also at the end, 0 if not, −1 for an error.
   *
   * @param timeout seconds to wait, default 0
   * @param not_eof 1: the end counts as an error, with `errno()` 32
   */
  peek(timeout: number = 0, not_eof: 0 | 1 | boolean = 0): Promise<0 | 1 | -1> {
    return channelOf(this).peek(Math.max(0, timeout) * 1000, Boolean(not_eof))
  }

  // Urgent data

  /** Urgent data: always `""`, since the driver has no way to receive any. What a peer sends so arrives among the rest. */
  async read_oob(_length?: number, _not_all?: 0 | 1): Promise<string | 0> {
    if (!channelOf(this).open) throw new PikeError('File not open.')
    channelOf(this).errno = 0
    return ''
  }

  /** Urgent data: always −1 with `errno()` 95, since the driver has no way to send any. */
  async write_oob(_data: Writable, ..._args: readonly unknown[]): Promise<number> {
    if (!channelOf(this).open) throw new PikeError('File not open for write.')
    channelOf(this).errno = EOPNOTSUPP
    return -1
  }

  /** Sets the callback for urgent data, which is never called; 0: none. */
  set_read_oob_callback(callback: Given<ReadCallback>): void {
    channelOf(this).readOob = callback ?? 0
  }

  /** The callback for urgent data; 0: none. */
  query_read_oob_callback(): Given<ReadCallback> {
    return channelOf(this).readOob
  }

  /** Sets the callback for urgent data, which is never called; 0: none. */
  set_write_oob_callback(callback: Given<EventCallback>): void {
    channelOf(this).writeOob = callback ?? 0
  }

  /** The callback for urgent data; 0: none. */
  query_write_oob_callback(): Given<EventCallback> {
    return channelOf(this).writeOob
  }

  // Options

  /**
   * Sets an option: `Stdio.KEEPALIVE`, `Stdio.NO_DELAY`. One that is set before connecting holds from then on. The original has
   * `set_keepalive`, and later `set_nodelay`, instead.
   *
   * @param option a constant of `Stdio`
   * @param value 1 on, 0 off
   * @returns 1, or 0 with `errno()`
   */
  set_option(option: SocketOption, value: 0 | 1 | boolean): 0 | 1 {
    if (option === 'keepAlive' || option === 'noDelay') return this.#set(option, Boolean(value))
    // What the others mean holds for connections anyway, or means nothing for them.
    if (option === 'reuseAddress' || option === 'broadcast' || option === 'multicastLoopback') return 1
    throw new PikeError(`Bad argument 1 to set_option(): ${String(option)} is no option of a file.`)
  }

  /** Whether a silent peer is asked for signs of life; 1, or 0 with `errno()`. */
  set_keepalive(on: 0 | 1 | boolean): 0 | 1 {
    return this.#set('keepAlive', Boolean(on))
  }

  /** Whether small pieces are sent at once; 1, or 0 with `errno()`. */
  set_nodelay(on: 0 | 1 | boolean = 1): 0 | 1 {
    return this.#set('noDelay', Boolean(on))
  }

  #set(option: 'keepAlive' | 'noDelay', value: boolean): 0 | 1 {
    const channel = channelOf(this)
    this.#settings[option] = value
    channel.errno = 0
    try {
      if (channel.connection?.local?.family !== 'unix') channel.connection?.set(option, value)
      return 1
    } catch (error) {
      channel.errno = errnoOf(error)
      return 0
    }
  }

  /**
   * Sizes of the buffers of the system, in bytes: `set_buffer(n)` both, `set_buffer(n, "r")` for reading, `set_buffer(n, "w")` for
   * writing, `set_buffer(r, w)` each. A wish, as in the original; the node driver cannot pass it on for connections.
   *
   * @throws PikeError for sizes that are none
   */
  set_buffer(size: number, which: string | number = 'rw'): void {
    const [read, write] = bufferSizes(size, which)
    if (read !== undefined) this.#settings.receiveBuffer = read
    if (write !== undefined) this.#settings.sendBuffer = write
    const { connection } = channelOf(this)
    if (connection !== undefined) applyBuffers(connection, this.#settings)
  }
}

/** Sizes of the buffers for reading and writing. */
export function bufferSizes(size: number, which: string | number): [number | undefined, number | undefined] {
  const sizes: [number | undefined, number | undefined] =
    typeof which === 'number' ? [size, which] : [which.includes('r') ? size : undefined, which.includes('w') ? size : undefined]
  for (const one of sizes)
    if (one !== undefined && !(Number.isInteger(one) && one > 0)) throw new PikeError('Bad argument 1 to set_buffer().')
  return sizes
}

interface Buffered {
  set(option: 'sendBuffer' | 'receiveBuffer', value: number): void
}

/** Tells the system about sizes of buffers, where the driver can. */
export function applyBuffers(socket: Buffered, o: { sendBuffer: number | undefined; receiveBuffer: number | undefined }): void {
  for (const name of ['sendBuffer', 'receiveBuffer'] as const) {
    const value = o[name]
    if (value === undefined) continue
    try {
      socket.set(name, value)
    } catch (error) {
      // A size is a wish: not every driver can grant it, and the system changes it as it likes.
      if (!(error instanceof OptionError)) throw error
    }
  }
}

/** A local address to connect from. */
function place(address: string, port: PortName): string {
  const host = address === '' ? '0.0.0.0' : address
  if (isIP(host) === 0) throw new PikeError(`Invalid address '${host}'`)
  return `tcp://${host.includes(':') ? `[${host}]` : host}:${portNumber(port)}`
}

function addressOfPlace(from: string | undefined): string {
  const [, host = '0.0.0.0', port = '0'] = /^tcp:\/\/\[?(.*?)\]?:(\d+)$/.exec(from ?? '') ?? []
  return `${plainIp(host)} ${port}`
}

async function mustResolve(host: string): Promise<void> {
  try {
    await network().lookup(host)
  } catch (error) {
    throw invalidAddress(error, host)
  }
}

/** The system refuses port 0 as it does a port where nobody listens. */
function refusedPort(endpoint: EndpointObject, error: unknown): unknown {
  return endpoint.port === 0 && error instanceof PikeError ? new SystemFailure('ECONNREFUSED', 'nobody listens at port 0') : error
}

async function copyAll(source: File, sink: File): Promise<void> {
  try {
    for (;;) {
      const data = await source.read(65_536, 1)
      if (data === 0 || data === '' || (await sink.write(data)) < 0) return
    }
  } catch (error) {
    report(error)
  } finally {
    source.close()
    sink.close()
  }
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** How text of a file is stored in bytes. */
const CHARSETS: Readonly<Record<string, 'latin1' | 'utf-8'>> = {
  '': 'latin1',
  'iso-8859-1': 'latin1',
  'iso8859-1': 'latin1',
  latin1: 'latin1',
  'us-ascii': 'latin1',
  ascii: 'latin1',
  'utf-8': 'utf-8',
  utf8: 'utf-8',
}

/**
 * A file that is read line by line. Pike: `Stdio.FILE`, which has a buffer for reading; here the connection has it, so that a
 * copy and its original read on where the other stopped.
 *
 * ```ts
 * import { Stdio } from 'fairlead/pike'
 *
 * const file = new Stdio.FILE()
 * const other = file.pipe()
 * await other.write('one\ntwo')
 * other.close('w')
 * for await (const line of file) console.log(line) // one, two
 * other.close()
 * file.close()
 * ```
 */
export class FILE extends File {
  #charset: 'latin1' | 'utf-8' = 'latin1'

  /**
   * The next line without its `\n`; a `\r` before that stays.
   *
   * @param not_all 1: only a line that has its `\n`; what stands before the end without one stays readable
   * @returns the line, which may be `""`; 0 at the end
   * @throws PikeError if the file is not open, or a line has more than 16 MiB
   */
  async gets(not_all: 0 | 1 | boolean = 0): Promise<string | 0> {
    const line = await channelOf(this).line(Boolean(not_all))
    return line === 0 ? 0 : this.#decoded(line)
  }

  /**
   * Several lines; fewer only at the end.
   *
   * @param n how many; 0 (default): all up to the end
   * @param not_all as of `gets`
   * @returns the lines; where there are none any more 0, or `[]` without `n`
   * @throws PikeError as `gets`
   */
  ngets(n?: 0): Promise<string[]>
  ngets(n: number, not_all?: 0 | 1 | boolean): Promise<string[] | 0>
  async ngets(n: number = 0, not_all: 0 | 1 | boolean = 0): Promise<string[] | 0> {
    const lines: string[] = []
    while (n === 0 || lines.length < n) {
      const line = await this.gets(not_all)
      if (line === 0) return n > 0 && lines.length === 0 ? 0 : lines
      lines.push(line)
    }
    return lines
  }

  /** The next byte; −1 at the end. */
  async getchar(): Promise<number> {
    const data = await this.read(1)
    return data === 0 || data === '' ? -1 : data.charCodeAt(0)
  }

  /** Puts a string back, to be read next; returns nothing. */
  unread(data: string): void {
    channelOf(this).unread(this.#encoded(data))
  }

  /** Puts a line back, to be read next: the string and a `\n`. */
  ungets(line: string): void {
    channelOf(this).unread(this.#encoded(`${line}\n`))
  }

  override async write(data: Writable, ...args: readonly unknown[]): Promise<number> {
    if (this.#charset === 'latin1') return super.write(data, ...args)
    const text = args.length > 0 && typeof data === 'string' ? sprintf(data, ...args) : data
    if (typeof text === 'string') return super.write(Buffer.from(text))
    return super.write(Array.isArray(text) ? text.map((piece: string) => (typeof piece === 'string' ? Buffer.from(piece) : piece)) : text)
  }

  /** Writes by a format; the count of bytes, −1 for an error. */
  async printf(format: string, ...args: readonly unknown[]): Promise<number> {
    return this.write(sprintf(format, ...args))
  }

  /**
   * How lines and what is written stand for bytes: `"utf-8"`, or `"iso-8859-1"` (default): one byte for a character.
   *
   * @throws PikeError for another name
   */
  set_charset(charset: string = 'utf-8'): void {
    const known = CHARSETS[charset.toLowerCase()]
    if (known === undefined) throw new PikeError(`Unknown charset '${charset}'`)
    this.#charset = known
  }

  /** Always throws: a file with a buffer cannot call back. */
  override set_nonblocking(..._callbacks: readonly unknown[]): void {
    throw new PikeError('Cannot use nonblocking IO with buffered files.')
  }

  /**
   * Pairs of a number from 0 on and a line.
   *
   * @param trim 1: any run of `\r` and `\n` ends a line, so that there are no empty ones
   */
  async *line_iterator(trim: 0 | 1 | boolean = 0): AsyncGenerator<[number, string], void, undefined> {
    let index = 0
    for (;;) {
      const line = await this.gets()
      if (line === 0) return
      for (const part of trim ? line.split('\r').filter((one) => one !== '') : [line]) yield [index++, part]
    }
  }

  /** The lines. */
  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    for await (const [, line] of this.line_iterator()) yield line
  }

  #decoded(line: string): string {
    if (this.#charset === 'latin1') return line
    try {
      return UTF8.decode(Buffer.from(line, 'latin1'))
    } catch (error) {
      throw new PikeError('Error decoding a line using utf-8.', error)
    }
  }

  #encoded(text: string): Uint8Array {
    return this.#charset === 'latin1' ? toBytes(text, 'Stdio.FILE->unread()') : Buffer.from(text)
  }
}

/** A file for a connection that is there already. @internal */
export function fileOf(connection: Connection): File {
  const file = new File()
  channelOf(file).attach(connection)
  return file
}
