/** The receiving half of a datagram socket: one reader at a time, nothing lost to a deadline. */

import { type Address, formatAddress } from './address.js'
import { limit } from './arguments.js'
import { didMany, shouldYield, turn, turned } from './deadline.js'
import type { DatagramHandle } from './driver.js'
import { FrameError, invalidType, type Phase, SocketError } from './errors.js'
import type { Codec } from './framing.js'
import { capture, captured, ignore } from './settle.js'
import { ReaderSlot, type Slotted } from './slot.js'
import { Steps } from './steps.js'
import type { Wait } from './stream.js'

/** Datagrams taken at once that count as many operations. */
const MANY = 64

/** One message as it came. */
export interface Datagram {
  /** Yours to keep; empty for an empty datagram. */
  readonly data: Uint8Array
  readonly from: Address
  /** It was longer than what it was received into; the rest is lost. */
  readonly truncated: boolean
  /** The local address it was sent to, the interface it came in by, and the hops it had left, where the driver can tell. */
  readonly to?: Address | undefined
  readonly interface?: string | undefined
  readonly ttl?: number | undefined
}

/** What the two halves need to know and tell of their socket. */
export interface DatagramSide extends Slotted {
  /** Bytes that are held unread, or no longer. */
  hold(change: number): void
  /** Throws what a socket that is over has to say. */
  mustLive(op: string): void
  /** What the system reported, as an error of this socket. */
  failure(error: unknown, op: string, phase: Phase): SocketError
}

/** What the system said instead of giving a datagram. */
interface Reported {
  readonly error: unknown
}

/**
 * Events since the loop is known to have turned. Some runtimes tell all that a socket has, and what comes meanwhile, in one go,
 * which is for ever if each datagram is answered by more than one. To hear that it turned costs a turn in which it does not sleep,
 * so it is asked once in a while.
 */
let events = 0
const FEW_EVENTS = 512
const MANY_EVENTS = 1024

function forget(): void {
  events = 0
}

export class DatagramInbound extends ReaderSlot<DatagramSide> {
  datagramsRead = 0
  bytesRead = 0
  /** The sender of the datagram received last: an address that needs no check. */
  heard: Address | undefined
  readonly #handle: DatagramHandle
  /** Fetched by a wait for readability and not received yet. */
  #ahead: Datagram | Reported | undefined
  readonly #receive: () => Datagram | undefined = () => this.next('receive')

  constructor(handle: DatagramHandle, side: DatagramSide) {
    super(side)
    this.#handle = handle
  }

  /** The driver may have something. */
  readable(): void {
    if (++events === FEW_EVENTS) setImmediate(forget)
    if (events <= MANY_EVENTS) turned()
    if (shouldYield()) void turn().then(() => this.retry())
    else this.retry()
  }

  override refuse(): void {
    if (this.#ahead !== undefined && 'data' in this.#ahead) this.side.hold(-this.#ahead.data.length)
    this.#ahead = undefined
    super.refuse()
  }

  receive(o: Wait | undefined): Promise<Datagram> {
    return this.#run('receive', this.#receive, o)
  }

  #run<T>(op: string, attempt: () => T | undefined, o: Wait | undefined): Promise<T> {
    const promise = new Promise<T>(capture)
    const { resolve, reject } = captured
    this.start({ op, attempt, resolve, reject, disarm: undefined }, o)
    return promise
  }

  receiveInto(into: Uint8Array, o: Wait | undefined): Promise<{ length: number; from: Address; truncated: boolean }> {
    if (!(into instanceof Uint8Array)) throw invalidType('into', 'a Uint8Array', into)
    const attempt = () => {
      const datagram = this.next('receiveInto')
      if (datagram === undefined) return undefined
      const { data, from, truncated } = datagram
      const length = Math.min(data.length, into.length)
      into.set(length === data.length ? data : data.subarray(0, length))
      return { length, from, truncated: truncated || length < data.length }
    }
    return this.#run('receiveInto', attempt, o)
  }

  receiveMany(max: number, o: Wait | undefined): Promise<Datagram[]> {
    const most = Math.min(limit('max', max, 1), this.side.shared.limits.datagrams)
    const attempt = () => {
      const first = this.#ahead && this.next('receiveMany')
      try {
        const more = this.#fetchMany(first === undefined ? most : most - 1)
        return first === undefined ? more : [first, ...(more ?? [])]
      } catch (error) {
        if (first === undefined) throw this.side.failure(error, 'receiveMany', 'read')
        // It waits for the next operation, as there is something to give already.
        this.#ahead = { error }
        return [first]
      }
    }
    return this.#run('receiveMany', attempt, o)
  }

  /** As the driver gives them: nothing is made for each. */
  #fetchMany(most: number): Datagram[] | undefined {
    if (most === 0) return undefined
    const all = this.#handle.receiveMany === undefined ? this.#fetchSingly(most) : this.#handle.receiveMany(most)
    if (all === undefined) return undefined
    this.datagramsRead += all.length
    for (const { data } of all) this.bytesRead += data.length
    this.heard = all.at(-1)?.from
    if (all.length >= MANY) didMany()
    return all
  }

  /** As `receiveMany` of a driver, for one that has none. */
  #fetchSingly(most: number): Datagram[] | undefined {
    const all: Datagram[] = []
    try {
      while (all.length < most) {
        const datagram = this.#handle.receive()
        if (datagram === undefined) break
        all.push(datagram)
      }
    } catch (error) {
      if (all.length === 0) throw error
      this.#ahead = { error }
    }
    return all.length > 0 ? all : undefined
  }

  tryReceive(): Datagram | undefined {
    this.check('tryReceive')
    return this.next('tryReceive')
  }

  waitReadable(o: Wait | undefined): Promise<void> {
    return this.#run('waitReadable', () => this.#look(), o).then(ignore)
  }

  messages<T>(of: object, codec: Codec<T, never> | undefined, o: Wait | undefined): AsyncIterableIterator<unknown> {
    if (codec === undefined) return new Steps(this, this, o, of)
    const next = (op: string) => {
      const datagram = this.next(op)
      return datagram && this.#decode(codec, datagram)
    }
    return new Steps(this, { next }, o, of)
  }

  /** Whether a receive would not have to wait, and what it fails with; undefined while another reader takes what comes. */
  get ready(): true | SocketError | undefined {
    if (this.busy) return undefined
    const found = this.#look()
    return found && ('error' in found ? this.side.failure(found.error, 'select', 'read') : true)
  }

  /** What is here now, or undefined; throws what the system reported, once. */
  next(op: string): Datagram | undefined {
    const ahead = this.#ahead
    this.#ahead = undefined
    let datagram: Datagram | undefined
    if (ahead !== undefined && 'data' in ahead) {
      datagram = ahead
      this.side.hold(-datagram.data.length)
    } else {
      try {
        if (ahead !== undefined) throw ahead.error
        datagram = this.#handle.receive()
      } catch (error) {
        throw this.side.failure(error, op, 'read')
      }
      if (datagram === undefined) return undefined
    }
    this.heard = datagram.from
    this.datagramsRead++
    this.bytesRead += datagram.data.length
    return datagram
  }

  /** What is there; it is kept for the next operation. */
  #look(): Datagram | Reported | undefined {
    if (this.#ahead !== undefined) return this.#ahead
    try {
      this.#ahead = this.#handle.receive()
    } catch (error) {
      return (this.#ahead = { error })
    }
    if (this.#ahead !== undefined) this.side.hold(this.#ahead.data.length)
    return this.#ahead
  }

  #decode<T>(codec: Codec<T, never>, { data, from }: Datagram): { message: T; from: Address } {
    const facts = { ...this.side.facts('messages'), remote: formatAddress(from), phase: 'frame' } as const
    const bad = (code: FrameError['code'], what: string, cause?: unknown) =>
      new FrameError(code, `a datagram of ${data.length} bytes from ${facts.remote} ${what}`, { ...facts, cause })
    let message: T | undefined
    let more: boolean
    try {
      const decoder = codec.decoder()
      decoder.push(data)
      decoder.end()
      message = decoder.next()
      more = decoder.next() !== undefined || decoder.rest().length > 0
    } catch (error) {
      if (error instanceof FrameError) throw bad(error.code, `is no message: ${error.message}`, error)
      throw error instanceof SocketError ? error : bad('BAD_FRAME', `is no message: the codec failed: ${String(error)}`, error)
    }
    if (message === undefined) throw bad('INCOMPLETE', 'holds no message')
    if (more) throw bad('BAD_FRAME', 'holds more than one message')
    return { message, from }
  }
}
