/** `Stdio.UDP`: datagrams. */

import {
  type Address,
  bind,
  type Bytes,
  connect,
  type Datagram as Received,
  type DatagramSocket,
  type Delivery,
  select,
  SocketError,
} from '../index.js'
import { descriptorOf, isDescriptor } from './pike-descriptors.js'
import { EAGAIN, EBADF, EINVAL, errnoOf, PikeError } from './pike-errno.js'
import { applyBuffers, bufferSizes, invalidAddress, portNumber, type PortName, type SocketOption } from './pike-file.js'
import { addressText, plainIp } from './pike-stream.js'
import { fromBytes, toBytes } from './pike-strings.js'
import { call, report } from './pike-system.js'

const MSG_OOB = 1
const MSG_PEEK = 2
const MSG_DONTROUTE = 2

/**
 * A datagram: a mapping with `data`, `ip` and `port`, and by position: `[0]` the data, `[1]` the sender, `"127.0.0.1 4000"`.
 */
export class UdpMessage {
  readonly data: string
  readonly ip: string
  readonly port: number

  /** @internal */
  constructor(data: string, from: Address) {
    this.data = data
    this.ip = from.family === 'unix' ? '' : plainIp(from.address)
    this.port = from.family === 'unix' ? 0 : from.port
  }

  get 0(): string {
    return this.data
  }

  get 1(): string {
    return `${this.ip} ${this.port}`
  }
}

/** Called with each datagram, and with what was given besides. */
export type UdpCallback<A extends readonly unknown[] = readonly never[]> = (datagram: UdpMessage, ...extra: A) => unknown

let insides: (udp: UDP) => DatagramSocket | undefined

/** What a UDP object sends and receives by. @internal */
export function socketOf(udp: UDP): DatagramSocket | undefined {
  return insides(udp)
}

/**
 * Sends and receives datagrams. Pike: `Stdio.UDP`.
 *
 * ```ts
 * import { Stdio } from 'fairlead/pike'
 *
 * const echo = new Stdio.UDP()
 * await echo.bind(0, '127.0.0.1')
 * const client = new Stdio.UDP()
 * const [host, port] = (echo.query_address()).split(' ')
 * await client.send(host, Number(port), 'hello')
 * const asked = await echo.read()
 * if (asked) await echo.send(asked.ip, asked.port, asked.data)
 * const answer = await client.read(1024, '.', 5)
 * if (answer) console.log(answer[0], answer.data) // hello hello
 * client.close()
 * echo.close()
 * ```
 */
export class UDP {
  /** Flag of `read` and `send`: urgent data, which datagrams do not have. */
  static readonly MSG_OOB: 1 = MSG_OOB
  /** Flag of `read`: leave the datagram where it is. */
  static readonly MSG_PEEK: 2 = MSG_PEEK

  #socket: DatagramSocket | undefined
  #opening: Promise<DatagramSocket> | undefined
  /** Datagrams that were looked at and not taken. */
  readonly #peeked: Received[] = []
  /** An error that was seen and not told. */
  #refusal: unknown
  /** Somebody reads; whoever comes next waits. */
  #reading = false
  readonly #readers: (() => void)[] = []
  #delivery: Delivery | undefined
  /** The host that it was connected to, as it was given. */
  #peer: string | undefined
  #errno = 0
  #nonblocking = false
  #callback: { readonly fn: (...args: never[]) => unknown; readonly extra: readonly unknown[] } | undefined
  #broadcast = false
  #loopback: boolean | undefined
  #sizes: { sendBuffer: number | undefined; receiveBuffer: number | undefined } = { sendBuffer: undefined, receiveBuffer: undefined }

  static {
    insides = (udp) => udp.#socket
  }

  // Opening

  /**
   * Receives at a port.
   *
   * @param port a number, 0 for any, or the name of a service
   * @param ip an address of this machine; default all IPv4 addresses; `"::"` IPv6 and IPv4
   * @param no_reuseaddr 1: fail where another already receives; default 0 lets several receive at the same port
   * @returns this object; 0 with `errno()` where it cannot: 98 in use, 99 not an address of this machine, 13 not allowed
   * @throws PikeError `Invalid address`, `Invalid service`
   */
  async bind(port: PortName, ip: string | 0 = 0, no_reuseaddr: 0 | 1 | boolean = 0): Promise<this | 0> {
    const number = portNumber(port, 'udp')
    const host = ip || '0.0.0.0'
    this.close()
    this.#errno = 0
    try {
      const socket = await bind({ transport: 'udp', host, port: number }, number !== 0 && !no_reuseaddr ? { reuseAddress: true } : {})
      this.close()
      this.#open(socket)
      return this
    } catch (error) {
      const thrown = invalidAddress(error, host)
      if (thrown instanceof PikeError) throw thrown
      this.#errno = errnoOf(thrown)
      return 0
    }
  }

  #open(socket: DatagramSocket): void {
    this.#socket = socket
    if (this.#broadcast) socket.set('broadcast', true)
    if (this.#loopback !== undefined) socket.set('multicastLoopback', this.#loopback)
    applyBuffers(socket, this.#sizes)
    this.#deliver()
  }

  /**
   * Exchanges datagrams with one peer alone, and learns from it that nobody receives there.
   *
   * @returns 1
   * @throws PikeError if it cannot
   */
  async connect(host: string, port: PortName): Promise<1> {
    const number = portNumber(port, 'udp')
    const before = this.#socket
    const local = before?.local
    if (before !== undefined) {
      this.#socket = undefined
      this.#delivery = undefined
      await before.close()
    }
    const from =
      local !== undefined && local.family !== 'unix'
        ? `udp://${local.family === 'ipv6' ? `[${local.address}]` : local.address}:${local.port}`
        : undefined
    try {
      this.#open(await connect({ transport: 'udp', host, port: number }, from === undefined ? {} : { from }))
      this.#peer = host
      return 1
    } catch (error) {
      const thrown = invalidAddress(error, host)
      if (thrown instanceof PikeError) throw thrown
      this.#errno = errnoOf(thrown)
      throw new PikeError(`Stdio.UDP->connect: failed to connect to ${host}:${number}`, thrown)
    }
  }

  // Descriptors

  /**
   * Sends and receives by a datagram socket that others made, connected or not, which is closed with this object; −1: by none.
   *
   * @returns this object; where the descriptor is none or of another kind, the object is not bound then, with `errno()` 9, 88, 22, 17 or
   *   95, as of `Stdio.Port`
   * @throws PikeError for what is no whole number
   */
  async set_fd(fd: number): Promise<this> {
    const known = isDescriptor(fd, 'set_fd')
    if (known && fd === this.query_fd()) return this
    this.close()
    this.#errno = known || fd < 0 ? 0 : EBADF
    if (!known) return this
    try {
      const socket = await bind({ fd })
      this.close()
      this.#open(socket)
    } catch (error) {
      this.#errno = errnoOf(error)
    }
    return this
  }

  /** The number that the system knows the socket by, −1 where there is none or the driver does not tell. */
  query_fd(): number {
    return descriptorOf(this.#socket)
  }

  // Sending

  /**
   * Sends a datagram. An object that was not bound is bound to any port first.
   *
   * @param flags 0; 1 (urgent) and 2 (do not route) mean nothing here
   * @returns how many bytes were sent; −1 with `errno()` for an error: 22 port 0, 13 a broadcast that was not enabled
   * @throws PikeError `Too big message` beyond 65,507 bytes, `Invalid address`, for wide characters
   */
  async send(host: string, port: PortName, message: string | Bytes, flags: number = 0): Promise<number> {
    if ((flags & ~(MSG_OOB | MSG_DONTROUTE)) !== 0)
      throw new PikeError("Illegal 'flags' value passed to Stdio.UDP->send(string to, int|string port, string message, int flags)")
    const bytes = toBytes(message, 'Stdio.UDP->send()')
    const number = portNumber(port, 'udp')
    this.#errno = number === 0 ? EINVAL : 0
    if (number === 0) return -1
    try {
      const socket = this.#socket ?? (await this.#bound(host))
      const { remote } = socket
      const toPeer =
        remote !== undefined &&
        remote.family !== 'unix' &&
        remote.port === number &&
        [remote.address, plainIp(remote.address), this.#peer].includes(host)
      await (toPeer ? socket.send(bytes) : socket.send(bytes, { transport: 'udp', host, port: number }))
      return bytes.length
    } catch (error) {
      if (error instanceof SocketError && error.code === 'EMSGSIZE') throw new PikeError('Too big message', error)
      const thrown = invalidAddress(error, host)
      if (thrown instanceof PikeError) throw thrown
      this.#errno = errnoOf(thrown)
      return -1
    }
  }

  /** A socket at any port, for the first datagram to be sent. */
  async #bound(host: string): Promise<DatagramSocket> {
    this.#opening ??= bind({ transport: 'udp', host: host.includes(':') ? '::' : '0.0.0.0', port: 0 })
    const opening = this.#opening
    try {
      const socket = await opening
      if (this.#opening === opening) this.#open(socket)
      return socket
    } finally {
      if (this.#opening === opening) this.#opening = undefined
    }
  }

  // Receiving

  #mustBeOpen(what: string): DatagramSocket {
    if (this.#socket === undefined) throw new PikeError(what)
    return this.#socket
  }

  /**
   * The next datagram. `read()` waits for it, unless the object does not block; `read(flags)` with 2 leaves it where it is;
   * `read(max, pattern, seconds)`, which the original does not have, waits no longer than that.
   *
   * @param flags 1 urgent (there is none), 2 look only
   * @param max longest data; what is beyond is lost
   * @param pattern means nothing
   * @param seconds default: for ever
   * @returns the datagram; 0 after the time, or with `errno()` 11 if there is none for an object that does not block
   * @throws PikeError if it is not bound, for other flags and a negative `max`, and with `errno 111` where nobody receives at the peer it is connected to
   */
  read(flags?: number): Promise<UdpMessage | 0>
  read(max: number, pattern: string, seconds?: number): Promise<UdpMessage | 0>
  async read(first: number = 0, pattern?: string, seconds?: number): Promise<UdpMessage | 0> {
    const socket = this.#mustBeOpen('Stdio.UDP->read: not open')
    this.#errno = 0
    const [flags, most] = pattern === undefined ? [first, undefined] : [0, first]
    if ((flags & ~(MSG_OOB | MSG_PEEK)) !== 0) throw new PikeError("Illegal 'flags' value passed to udp->read([int flags])")
    if (most !== undefined && !(most >= 0)) throw new PikeError('Bad argument 1 to read(). Expected int(0..).')
    if ((flags & MSG_OOB) !== 0) return this.#none()
    const timeout = this.#nonblocking ? 0 : seconds === undefined ? undefined : Math.max(0, seconds) * 1000
    try {
      const found = await this.#receive(socket, timeout)
      if (found === undefined) return this.#none()
      if ((flags & MSG_PEEK) !== 0) this.#peeked.unshift(found)
      return message(found, most)
    } catch (error) {
      this.#errno = errnoOf(error)
      if (error instanceof SocketError && error.code === 'ECONNREFUSED')
        throw new PikeError(`Socket read failed with errno ${this.#errno}.`, error)
      return 0
    }
  }

  #none(): 0 {
    this.#errno = EAGAIN
    return 0
  }

  /** The next datagram; undefined after `timeout` milliseconds. One task after the other, and none beside the callback. */
  async #receive(socket: DatagramSocket, timeout: number | undefined): Promise<Received | undefined> {
    if (this.#reading) await new Promise<void>((resolve) => this.#readers.push(resolve))
    this.#reading = true
    this.#delivery?.set('passive')
    try {
      if (this.#refusal !== undefined) {
        const refusal = this.#refusal
        this.#refusal = undefined
        throw refusal
      }
      const here = this.#peeked.shift() ?? socket.tryReceive()
      if (here !== undefined) return here
      if (timeout !== 0) return await socket.receive({ timeout })
      // What the system has and the runtime has not looked at yet.
      await select([socket], { timeout })
      return socket.tryReceive()
    } catch (error) {
      if (error instanceof SocketError && error.name === 'DeadlineError') return undefined
      throw error
    } finally {
      const next = this.#readers.shift()
      if (next !== undefined) next()
      else {
        this.#reading = false
        this.#deliver()
      }
    }
  }

  /**
   * Waits for a datagram without taking it: 1 if there is one, 0 if there is none after the time.
   *
   * @param seconds fractions are fine; 0 looks
   * @throws PikeError if it is not bound
   */
  async wait(seconds: number): Promise<0 | 1> {
    const socket = this.#mustBeOpen('udp->wait(): Port not bound!')
    this.#errno = 0
    try {
      const here = await this.#receive(socket, Math.max(0, seconds) * 1000)
      if (here === undefined) return 0
      this.#peeked.unshift(here)
    } catch (error) {
      // An error can be read as well: the next read tells it.
      errnoOf(error)
      this.#refusal = error
    }
    return 1
  }

  // Callbacks and modes

  /** Does not wait any more, and calls `callback(datagram, …extra)` for each datagram; returns this object. */
  set_nonblocking<A extends readonly unknown[]>(callback?: UdpCallback<A> | 0, ...extra: A): this {
    this.#nonblocking = true
    return this.set_read_callback(callback, ...extra)
  }

  /** Waits again; a callback stays. Returns this object. */
  set_blocking(): this {
    this.#nonblocking = false
    return this
  }

  /** Calls `callback(datagram, …extra)` for each datagram; without a callback no more. Returns this object. */
  set_read_callback<A extends readonly unknown[]>(callback?: UdpCallback<A> | 0, ...extra: A): this {
    this.#callback = callback ? { fn: callback as (...args: never[]) => unknown, extra } : undefined
    this.#deliver()
    return this
  }

  /** Lets datagrams come to the callback, if there is one and nobody reads. */
  #deliver(): void {
    const socket = this.#socket
    if (socket === undefined || this.#reading) return
    const delivery = this.#delivery
    if (this.#callback === undefined) return delivery?.set('passive')
    for (const early of this.#peeked.splice(0)) queueMicrotask(() => void this.#arrived(early))
    if (delivery !== undefined) return delivery.mode === 'passive' ? delivery.set('active') : undefined
    const made = socket.deliver('active', (datagram) => this.#arrived(datagram))
    this.#delivery = made
    void made.done.then(({ reason }) => {
      if (this.#delivery !== made) return
      this.#delivery = undefined
      // What a peer that is not there causes ends a delivery, and not the socket.
      if (reason === undefined || socket.signal.aborted) return
      this.#errno = errnoOf(reason)
      this.#deliver()
    }, report)
  }

  #arrived(datagram: Received): Promise<void> | undefined {
    const callback = this.#callback
    if (callback === undefined) return void this.#peeked.push(datagram)
    return call(callback.fn, message(datagram), ...callback.extra)
  }

  // Options

  /** Allows sending to broadcast addresses. Returns 0, −1 with `errno()` for an error, as the system call. */
  enable_broadcast(): 0 | -1 {
    this.#broadcast = true
    return this.#try((socket) => socket.set('broadcast', true))
  }

  /** Sends multicasts by the interface that has an address: 0, or −1 with `errno()`. */
  enable_multicast(reply_address: string): 0 | -1 {
    return this.#try((socket) => socket.set('multicastInterface', reply_address))
  }

  /** How many routers a multicast may pass, 0 to 255: 0, or −1 with `errno()`. */
  set_multicast_ttl(ttl: number): 0 | -1 {
    return this.#try((socket) => socket.set('multicastTtl', ttl))
  }

  /** Receives what is sent to a multicast group, on the interface with an address: 0, or −1 with `errno()`. */
  add_membership(group: string, address?: string): 0 | -1 {
    return this.#try((socket) => socket.join(group, address === undefined ? {} : { interface: address }))
  }

  /** Undoes `add_membership`: 0, or −1 with `errno()`. */
  drop_membership(group: string, address?: string): 0 | -1 {
    return this.#try((socket) => socket.leave(group, address === undefined ? {} : { interface: address }))
  }

  #try(fn: (socket: DatagramSocket) => void): 0 | -1 {
    const socket = this.#socket
    this.#errno = socket === undefined ? EBADF : 0
    if (socket === undefined) return -1
    try {
      fn(socket)
      return 0
    } catch (error) {
      const isWrong = error instanceof RangeError || (error instanceof SocketError && error.name === 'AddressError')
      this.#errno = isWrong ? EINVAL : errnoOf(error)
      return -1
    }
  }

  /**
   * Sets an option, which holds from then on also if the object is not bound yet: `Stdio.PORT_BROADCAST`, `Stdio.MULTICAST`
   * (whether multicasts reach this machine, too), `Stdio.PORT_REUSE_ADDRESS`. The original has `enable_broadcast` and others.
   *
   * @returns 1, or 0 with `errno()`
   */
  set_option(option: SocketOption, value: 0 | 1 | boolean): 0 | 1 {
    const on = Boolean(value)
    if (option === 'reuseAddress') return 1
    if (option === 'broadcast') this.#broadcast = on
    else if (option === 'multicastLoopback') this.#loopback = on
    else throw new PikeError(`Bad argument 1 to set_option(): ${String(option)} is no option of datagrams.`)
    return this.#socket === undefined || this.#try((socket) => socket.set(option, on)) === 0 ? 1 : 0
  }

  /** Sizes of the buffers of the system in bytes, as of `Stdio.File`. */
  set_buffer(size: number, which: string | number = 'rw'): void {
    const [receiveBuffer, sendBuffer] = bufferSizes(size, which)
    this.#sizes = { sendBuffer: sendBuffer ?? this.#sizes.sendBuffer, receiveBuffer: receiveBuffer ?? this.#sizes.receiveBuffer }
    if (this.#socket !== undefined) applyBuffers(this.#socket, this.#sizes)
  }

  /** Type and protocol of the socket, always `[2, 0]`. */
  get_type(): [type: number, protocol: number] {
    return [2, 0]
  }

  /** @throws PikeError for other types than datagrams: raw sockets cannot be made here. */
  set_type(type: number, protocol: number = 0): this {
    if (type !== 2 || (protocol !== 0 && protocol !== 17)) throw new PikeError('Stdio.UDP->set_type: only datagrams')
    return this
  }

  // Facts and the end

  /** The address it is bound to, `"127.0.0.1 4000"`. @throws PikeError if it is not bound */
  query_address(): string {
    return addressText(this.#mustBeOpen('Stdio.UDP->query_address(): Port not bound yet.').local) || ''
  }

  /** The error number of what was done last, 0 if it succeeded. */
  errno(): number {
    return this.#errno
  }

  /** Closes; always 1. What was sent is still sent. */
  close(): 1 {
    const socket = this.#socket
    this.#socket = undefined
    this.#opening = undefined
    this.#delivery = undefined
    this.#peeked.length = 0
    this.#peer = undefined
    this.#refusal = undefined
    void socket?.close()
    return 1
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** Closes, and waits until the port can be used again. */
  async [Symbol.asyncDispose](): Promise<void> {
    const socket = this.#socket
    this.close()
    await socket?.closed
  }
}

function message({ data, from }: Received, most?: number): UdpMessage {
  const text = fromBytes(data)
  return new UdpMessage(most === undefined ? text : text.slice(0, most), from)
}
