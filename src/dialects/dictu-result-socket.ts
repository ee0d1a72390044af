/** The module as it is since version 0.15: every failure is a `Result` with the text of the system's error. */

import type { Connection, DatagramSocket, Listener } from '../index.js'
import { CONSTANTS, Descriptor } from './dictu-descriptor.js'
import { must } from './dictu-misuse.js'
import { failure, Result, resultOf } from './dictu-result.js'
import { checkBacklog, checkKind, checkNone, checkOption, checkPlace, checkSize, checkText } from './dictu-socket.js'

/**
 * A socket, made by `ResultSocket.create` and by `accept`. The numbers of `SocketObject` stand here as texts: "Invalid argument"
 * for 22, and so on. What blocks in the original, and what opens something, is awaited.
 */
export class ResultSocketObject {
  readonly #descriptor: Descriptor

  /** @internal made by `ResultSocket.create` and `accept` */
  constructor(descriptor: Descriptor) {
    this.#descriptor = descriptor
  }

  /** The socket of this library that does the work, once something is open; not in the original. */
  get beneath(): Connection | Listener | DatagramSocket | null {
    return this.#descriptor.beneath
  }

  /** Dictu's `socket.bind(host, port)`: an IPv4 address and a port, as `SocketObject.bind`. @throws FatalError */
  async bind(...args: [host: string, port: number]): Promise<Result<null>> {
    const [host, port] = checkPlace('bind', '2', args)
    return resultOf(() => this.#descriptor.bind(host, port).then(() => null))
  }

  /** Dictu's `socket.listen(backlog)`, by default SOMAXCONN. @throws FatalError */
  async listen(...args: [backlog?: number]): Promise<Result<null>> {
    const backlog = checkBacklog(args)
    return resultOf(() => this.#descriptor.listen(backlog).then(() => null))
  }

  /** Dictu's `socket.accept()`: waits for a client; gives its socket and its IPv4 address as text. @throws FatalError */
  async accept(...args: []): Promise<Result<[socket: ResultSocketObject, address: string]>> {
    checkNone('accept', args)
    return resultOf(async () => {
      const { socket, address } = await this.#descriptor.accept()
      return [new ResultSocketObject(socket), address] as [ResultSocketObject, string]
    })
  }

  /** Dictu's `socket.connect(host, port)`: an IPv4 address and a port, as `SocketObject.connect`. @throws FatalError */
  async connect(...args: [host: string, port: number]): Promise<Result<null>> {
    const [host, port] = checkPlace('connect', 'two', args)
    return resultOf(() => this.#descriptor.connect(host, port).then(() => null))
  }

  /** Dictu's `socket.write(string)`: the number of bytes written. @throws FatalError */
  async write(...args: [string: string]): Promise<Result<number>> {
    const text = checkText(args)
    return resultOf(() => this.#descriptor.write(text))
  }

  /** Dictu's `socket.recv(size)`: at most `size` bytes as a string, `""` at the end. @throws FatalError also for a negative size */
  async recv(...args: [size: number]): Promise<Result<string>> {
    const size = checkSize(args)
    // The text is the original's; it lets 0 and 1 pass.
    must(size >= 0, 'recv() argument must be greater than 1')
    return resultOf(() => this.#descriptor.recv(size))
  }

  /** Dictu's `socket.close()`: resolves with nil, which is no Result, when the descriptor is given back. @throws FatalError */
  async close(...args: []): Promise<null> {
    checkNone('close', args)
    await this.#descriptor.close()
    return null
  }

  /** Dictu's `socket.setsockopt(level, option)`, with a value, which the original does not have: default 1. @throws FatalError */
  setsockopt(...args: [level: number, option: number, value?: number]): Result<null> {
    const [level, option, value] = checkOption(args)
    try {
      this.#descriptor.setsockopt(level, option, value)
      return Result.suc(null)
    } catch (error) {
      return failure(error)
    }
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

/** The module `Socket` of the later versions. It has neither `errno` nor `strerror`. */
export interface ResultSocketModule extends Readonly<typeof CONSTANTS> {
  /** Dictu's `Socket.create(family, type)`. @throws FatalError for arguments of the wrong number or type */
  create(...args: [family: number, type: number]): Result<ResultSocketObject>
}

/**
 * Dictu's module `Socket` since its version 0.15.
 *
 * ```ts
 * import { ResultSocket } from 'fairlead/dictu'
 *
 * await using client = ResultSocket.create(ResultSocket.AF_INET, ResultSocket.SOCK_STREAM).unwrap()
 * const connected = await client.connect('localhost', 80)
 * console.log(connected.success() || connected.unwrapError()) // Network is unreachable
 * ```
 */
export const ResultSocket: ResultSocketModule = Object.freeze({
  ...CONSTANTS,
  create(...args: [family: number, type: number]): Result<ResultSocketObject> {
    const [family, type] = checkKind(args)
    try {
      return Result.suc(new ResultSocketObject(Descriptor.create(family, type)))
    } catch (error) {
      return failure(error)
    }
  },
})
