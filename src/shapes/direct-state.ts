/** What the classes of Direct Sockets share: their promises, the rules of `close`, the checks of arguments and the errors. */

import { type Address, Denied, isIp } from '../index.js'
import { handled } from './streams.js'

export type SocketDnsQueryType = 'ipv4' | 'ipv6'

/** The promises that all three classes have, and the rules of `close`. */
export class Lifetime<Info> {
  readonly opened: Promise<Info>
  readonly closed: Promise<void>
  info: Info | undefined
  #settled = false
  #resolve!: () => void
  #reject!: (error: unknown) => void

  constructor(opened: Promise<Info>) {
    this.opened = handled(opened)
    this.closed = handled(
      new Promise<void>((resolve, reject) => {
        this.#resolve = resolve
        this.#reject = reject
      }),
    )
    opened.then(
      (info) => {
        this.info = info
      },
      (error: unknown) => this.settle(error),
    )
  }

  settle(error?: unknown): void {
    this.#settled = true
    if (error === undefined) this.#resolve()
    else this.#reject(error)
  }

  /** Refuses to close what is not open, or is in use; gives the streams to end, or undefined when there is nothing left to do. */
  async closing(streams: (info: Info) => readonly { readonly locked: boolean }[]): Promise<Info | undefined> {
    if (this.info === undefined) throw exception('InvalidStateError', 'the socket is not open')
    if (this.#settled) return undefined
    if (streams(this.info).some(({ locked }) => locked)) throw exception('InvalidStateError', 'a stream of the socket is locked')
    return this.info
  }
}

/**
 * The state of two streams of which the one that is over last ends the socket. `closed` settles with the error of the other
 * stream, if it has one, and with its own otherwise.
 */
export class Halves {
  readonly #done: (error?: unknown) => void
  readonly #over: { read?: { error?: unknown }; write?: { error?: unknown } } = {}

  constructor(done: (error?: unknown) => void) {
    this.#done = done
  }

  /** Those of the two that are not over: the example of the specification closes a socket whose ended stream is locked still. */
  active<T>(readable: T, writable: T): T[] {
    return [...(this.#over.read === undefined ? [readable] : []), ...(this.#over.write === undefined ? [writable] : [])]
  }

  over(half: 'read' | 'write', error?: unknown): void {
    if (this.#over[half] !== undefined) return
    this.#over[half] = { error }
    const other = this.#over[half === 'read' ? 'write' : 'read']
    if (other !== undefined) this.#done(other.error ?? error)
  }
}

export function remote(address: Address | undefined): { remoteAddress: string; remotePort: number } {
  const [remoteAddress, remotePort] = hostAndPort(address)
  return { remoteAddress, remotePort }
}

export function local(address: Address | undefined): { localAddress: string; localPort: number } {
  const [localAddress, localPort] = hostAndPort(address)
  return { localAddress, localPort }
}

function hostAndPort(address: Address | undefined): [string, number] {
  return address === undefined || address.family === 'unix' ? ['', 0] : [address.address, address.port]
}

export function familyOf(type: SocketDnsQueryType | undefined): 4 | 6 | undefined {
  if (type === undefined) return undefined
  if (type !== 'ipv4' && type !== 'ipv6') throw new TypeError(`dnsQueryType must be 'ipv4' or 'ipv6', got '${String(type)}'`)
  return type === 'ipv4' ? 4 : 6
}

/** Web IDL's `[EnforceRange]`: what does not fit is a `TypeError`. Absent is fine. */
export function whole(name: string, value: number | undefined, least: number, most: number = 2 ** 32 - 1): void {
  if (value === undefined) return
  if (!(Number.isInteger(value) && value >= least && value <= most)) {
    throw new TypeError(`${name} must be a whole number from ${least} to ${most}, got ${String(value)}`)
  }
}

export function literal(name: string, value: string): 4 | 6 {
  const family = typeof value === 'string' ? isIp(value) : 0
  if (family === 0) throw new TypeError(`${name} must be an IP address, got '${String(value)}'`)
  return family
}

type ExceptionName = 'NetworkError' | 'NotAllowedError' | 'InvalidStateError'

/** Every runtime has it, but the types of Node do not say so. */
const { DOMException } = globalThis as unknown as { DOMException: new (message: string, name: string) => Error }

export function exception(name: ExceptionName, message: string, cause?: unknown): Error {
  const error = new DOMException(message, name)
  if (cause !== undefined) Object.defineProperty(error, 'cause', { value: cause, configurable: true, writable: true })
  return error
}

export function networkError(cause: unknown): unknown {
  // What the caller passed was no good: nothing the network said.
  if (cause instanceof TypeError) return cause
  const message = cause instanceof Error ? cause.message : String(cause)
  return exception(cause instanceof Denied ? 'NotAllowedError' : 'NetworkError', message, cause)
}
