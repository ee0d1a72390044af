/** The module as its documentation of 2020 has it: nil for a failure, and the number of the error in `Socket.errno`. */

import type { Connection, DatagramSocket, Listener } from '../index.js'
import { CONSTANTS, Descriptor } from './dictu-descriptor.js'
import { LAST_ERROR, Refusal, refusalOf, textOf } from './dictu-errno.js'
import { must, toInt } from './dictu-misuse.js'

let errno = 0

/** What `op` gives, or nil with the number of the error. */
async function orNil<T>(op: () => T | Promise<T>): Promise<T | null> {
  try {
    return await op()
  } catch (error) {
    return failed(error)
  }
}

function failed(error: unknown): null {
  errno = refusalOf(error).number
  return null
}

/**
 * A socket, made by `Socket.create` and by `accept`. What blocks in the original, and what opens something, is awaited.
 * Several calls at once, which the original cannot make, get their turn in order.
 */
export class SocketObject {
  readonly #descriptor: Descriptor
  readonly #address: string | null

  /** @internal made by `Socket.create` and `accept` */
  constructor(descriptor: Descriptor, address: string | null = null) {
    this.#descriptor = descriptor
    this.#address = address
  }

  /** The peer's IPv4 address as text, if `accept` made this socket; else nil. Not in the original, whose later form gives it beside. */
  get address(): string | null {
    return this.#address
  }

  /** The socket of this library that does the work, once something is open; not in the original. */
  get beneath(): Connection | Listener | DatagramSocket | null {
    return this.#descriptor.beneath
  }

  /**
   * Dictu's `socket.bind(host, port)`.
   *
   * @param args `host`: an IPv4 address in any spelling of `inet_aton(3)`, never a name; `port`: 0 to 65535, 0 for any free one
   * @returns `true`, or nil: 22 EINVAL (bound before; a port out of range), 98 EADDRINUSE, 99 EADDRNOTAVAIL (not of this machine,
   *   or not an address), 13 EACCES, 9 EBADF
   * @throws FatalError for arguments of the wrong number or type
   */
  async bind(...args: [host: string, port: number]): Promise<true | null> {
    const [host, port] = checkPlace('bind', `2`, args)
    return orNil(() => this.#descriptor.bind(host, port).then(() => true as const))
  }

  /**
   * Dictu's `socket.listen(backlog)`.
   *
   * @param args `backlog`: connections that may wait for `accept`; default SOMAXCONN (4096). Called again it changes nothing
   * @returns `true`, or nil: 95 EOPNOTSUPP (datagrams), 22 EINVAL (connected), 98 EADDRINUSE, 9 EBADF
   * @throws FatalError
   */
  async listen(...args: [backlog?: number]): Promise<true | null> {
    const backlog = checkBacklog(args)
    return orNil(() => this.#descriptor.listen(backlog).then(() => true as const))
  }

  /**
   * Dictu's `socket.accept()`: waits for a client.
   *
   * @returns a new socket, or nil: 22 EINVAL (not listening), 95 EOPNOTSUPP (datagrams), 9 EBADF (closed, also while it waits)
   * @throws FatalError
   */
  async accept(...args: []): Promise<SocketObject | null> {
    checkNone('accept', args)
    return orNil(async () => {
      const { socket, address } = await this.#descriptor.accept()
      return new SocketObject(socket, address)
    })
  }

  /**
   * Dictu's `socket.connect(host, port)`, which came with its version 0.16.
   *
   * @param args `host`: an IPv4 address, as for `bind`; `port`: 1 to 65535
   * @returns `true`, or nil: 111 ECONNREFUSED, 110 ETIMEDOUT, 101 ENETUNREACH (also for a host that is not an address),
   *   106 EISCONN, 22 EINVAL (a port out of range; 0 for datagrams), 13 EACCES (a broadcast without SO_BROADCAST), 9 EBADF
   * @throws FatalError
   */
  async connect(...args: [host: string, port: number]): Promise<true | null> {
    const [host, port] = checkPlace('connect', 'two', args)
    return orNil(() => this.#descriptor.connect(host, port).then(() => true as const))
  }

  /**
   * Dictu's `socket.write(string)`: sends the string as UTF-8, one datagram on a datagram socket.
   *
   * @returns the number of bytes written, 0 for an empty string, or nil: 32 EPIPE (not connected, or the peer has gone),
   *   104 ECONNRESET, 89 EDESTADDRREQ (datagrams without `connect`), 90 EMSGSIZE, 9 EBADF. Only `null` is a failure: 0 is false too
   * @throws FatalError
   */
  write(...args: [string: string]): Promise<number | null> {
    try {
      return this.#descriptor.write(checkText(args), failed)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * Dictu's `socket.recv(size)`: waits until something is there.
   *
   * @param args `size`: most bytes to take
   * @returns at most `size` bytes as a string (`toBytes` gives the bytes); `""` at the end of the stream, again and again, and for
   *   size 0; or nil: 107 ENOTCONN, 104 ECONNRESET, 22 EINVAL (a negative size), 9 EBADF
   * @throws FatalError
   */
  recv(...args: [size: number]): Promise<string | null> {
    try {
      const size = checkSize(args)
      return size < 0 ? Promise.resolve(failed(new Refusal('EINVAL'))) : this.#descriptor.recv(size, failed)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** Dictu's `socket.close()`: resolves with nil when the descriptor is given back. Again it does nothing. @throws FatalError */
  async close(...args: []): Promise<null> {
    checkNone('close', args)
    await this.#descriptor.close()
    return null
  }

  /**
   * Dictu's `socket.setsockopt(level, option)`: sets an option of the system, by its numbers.
   *
   * @param args `level`, `option`, and `value`, which the original does not have: default 1
   * @returns `true`, or nil: 92 ENOPROTOOPT (unknown, or not possible with this driver), 22 EINVAL, 9 EBADF
   * @throws FatalError
   */
  setsockopt(...args: [level: number, option: number, value?: number]): true | null {
    const [level, option, value] = checkOption(args)
    try {
      this.#descriptor.setsockopt(level, option, value)
      return true
    } catch (error) {
      return failed(error)
    }
  }

  /** The other spelling of `setsockopt`, in the heading of Dictu's documentation. */
  setsocketopt(...args: [level: number, option: number, value?: number]): true | null {
    return this.setsockopt(...args)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#descriptor.close()
  }

  get [Symbol.toStringTag](): string {
    return 'socket'
  }

  toString(): string {
    return '<Socket>'
  }
}

export function checkPlace(name: string, count: string, args: readonly unknown[]): [host: string, port: number] {
  must(args.length === 2, `${name}() takes ${count} arguments (${args.length} given)`)
  const [host, port] = args
  // The original speaks of bind() in both.
  must(typeof host === 'string', 'host passed to bind() must be a string')
  must(typeof port === 'number', 'port passed to bind() must be a number')
  return [host, port]
}

export function checkBacklog(args: readonly unknown[]): number {
  must(args.length <= 1, `listen() takes 0 or 1 arguments (${args.length} given)`)
  if (args.length === 0) return -1
  const [backlog] = args
  must(typeof backlog === 'number', 'listen() argument must be a number')
  return toInt(backlog)
}

export function checkNone(name: string, args: readonly unknown[]): void {
  must(args.length === 0, `${name}() takes no arguments (${args.length} given)`)
}

export function checkText(args: readonly unknown[]): string {
  must(args.length === 1, `write() takes 1 argument (${args.length} given)`)
  const [text] = args
  must(typeof text === 'string', 'write() argument must be a string')
  return text
}

export function checkSize(args: readonly unknown[]): number {
  must(args.length === 1, `recv() takes 1 argument (${args.length} given)`)
  const [size] = args
  must(typeof size === 'number', 'recv() argument must be a number')
  return toInt(size)
}

export function checkOption(args: readonly unknown[]): [level: number, option: number, value: number] {
  must(args.length === 2 || args.length === 3, `setsocketopt() takes 2 arguments (${args.length} given)`)
  const [level, option, value = 1] = args
  must(typeof level === 'number' && typeof option === 'number' && typeof value === 'number', 'setsocketopt() arguments must be numbers')
  return [toInt(level), toInt(option), toInt(value)]
}

export function checkKind(args: readonly unknown[]): [family: number, type: number] {
  must(args.length === 2, `create() takes 2 arguments (${args.length} given)`)
  const [family, type] = args
  must(typeof family === 'number' && typeof type === 'number', 'create() arguments must be a numbers')
  return [toInt(family), toInt(type)]
}

/** The module `Socket`. */
export interface SocketModule extends Readonly<typeof CONSTANTS> {
  /** The number of the last error of any socket of this style, 0 before the first. What succeeds leaves it as it is. */
  readonly errno: number
  /**
   * Dictu's `Socket.create(family, type)`. Fractions of numbers are cut off; the protocol is always 0.
   *
   * @returns a socket, or nil: 97 EAFNOSUPPORT, 94 ESOCKTNOSUPPORT, 93 EPROTONOSUPPORT (raw), 22 EINVAL
   * @throws FatalError for arguments of the wrong number or type
   */
  create(...args: [family: number, type: number]): SocketObject | null
  /**
   * Dictu's `Socket.strerror([n])`: the text of an error, by default the last one.
   *
   * @throws FatalError for 0 (also when nothing has failed yet), negative numbers, and those beyond the last error of the system
   */
  strerror(...args: [n?: number]): string
}

/**
 * Dictu's module `Socket`.
 *
 * ```ts
 * import { Socket } from 'fairlead/dictu'
 *
 * await using server = Socket.create(Socket.AF_INET, Socket.SOCK_STREAM)
 * if (server === null || !(await server.bind('127.0.0.1', 0)) || !(await server.listen())) console.log(Socket.strerror())
 * ```
 */
export const Socket: SocketModule = Object.freeze({
  ...CONSTANTS,
  get errno(): number {
    return errno
  },
  create(...args: [family: number, type: number]): SocketObject | null {
    const [family, type] = checkKind(args)
    try {
      return new SocketObject(Descriptor.create(family, type))
    } catch (error) {
      return failed(error)
    }
  },
  strerror(...args: [n?: number]): string {
    must(args.length <= 1, `strerror() takes either 0 or 1 arguments (${args.length} given)`)
    const [n = errno] = args
    must(typeof n === 'number', 'strerror() argument must be a number')
    const number = toInt(n)
    must(number > 0, 'strerror() argument should be > 0')
    must(number <= LAST_ERROR, `strerror() argument should be <= ${LAST_ERROR}`)
    return textOf(number)
  },
})
