/** The receiving half of a datagram socket: one reader at a time, nothing lost to a deadline. */

import { type Address, formatAddress } from './address.js'
import { limit } from './arguments.js'
import { didMany } from './deadline.js'
import type { Source } from './delivery.js'
import type { DatagramHandle } from './driver.js'
import { Closed, FrameError, invalidType, type Phase, SocketError } from './errors.js'
import type { Codec } from './framing.js'
import { type Pending, ReaderSlot, type Slotted } from './slot.js'
import type { CloseReport, Wait } from './stream.js'

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
  /** What the system reported, as an error of this socket. */
  failure(error: unknown, op: string, phase: Phase): SocketError
}

/** What the promise made last is settled by: one executor for all, where a closure for each would be garbage. */
const captured: { resolve: (value: unknown) => void; reject: (error: unknown) => void } = { resolve: ignore, reject: ignore }

function capture(resolve: (value: never) => void, reject: (error: unknown) => void): void {
  captured.resolve = resolve as (value: unknown) => void
  captured.reject = reject
}

function ignore(): void {}

export class DatagramInbound {
  datagramsRead = 0
  bytesRead = 0
  /** The sender of the datagram received last: an address that needs no check. */
  heard: Address | undefined
  readonly #handle: DatagramHandle
  readonly #side: DatagramSide
  readonly #slot: ReaderSlot
  /** Fetched by a wait for readability and not received yet: a datagram, or what the system reported. */
  #ahead: Datagram | undefined
  #trouble: { readonly error: unknown } | undefined
  readonly #next: () => Datagram | undefined = () => this.#take('receive')

  constructor(handle: DatagramHandle, side: DatagramSide) {
    this.#handle = handle
    this.#side = side
    this.#slot = new ReaderSlot(side)
  }

  get busy(): boolean {
    return this.#slot.busy
  }

  get waiting(): string | undefined {
    return this.#slot.waiting
  }

  /** The driver may have something. */
  readable(): void {
    this.#slot.retry()
  }

  refuse(error: SocketError): void {
    if (this.#ahead !== undefined) this.#side.hold(-this.#ahead.data.length)
    this.#ahead = undefined
    this.#slot.refuse(error)
  }

  receive(o: Wait | undefined): Promise<Datagram> {
    return this.#run('receive', this.#next, o)
  }

  #run<T>(op: string, attempt: () => T | undefined, o: Wait | undefined): Promise<T> {
    const promise = new Promise<T>(capture)
    const { resolve, reject } = captured
    this.#slot.start({ op, attempt, resolve, reject, disarm: undefined }, o)
    return promise
  }

  receiveInto(into: Uint8Array, o: Wait | undefined): Promise<{ length: number; from: Address; truncated: boolean }> {
    if (!(into instanceof Uint8Array)) throw invalidType('into', 'a Uint8Array', into)
    const attempt = () => {
      const datagram = this.#take('receiveInto')
      if (datagram === undefined) return undefined
      const { data, from, truncated } = datagram
      const length = Math.min(data.length, into.length)
      into.set(length === data.length ? data : data.subarray(0, length))
      return { length, from, truncated: truncated || length < data.length }
    }
    return this.#run('receiveInto', attempt, o)
  }

  receiveMany(max: number, o: Wait | undefined): Promise<Datagram[]> {
    const most = Math.min(limit('max', max, 1), this.#side.shared.limits.datagrams)
    const together = this.#handle.receiveMany !== undefined
    const attempt = () => {
      if (together && this.#ahead === undefined && this.#trouble === undefined) {
        try {
          return this.#fetchMany(most)
        } catch (error) {
          throw this.#side.failure(error, 'receiveMany', 'read')
        }
      }
      const first = this.#take('receiveMany')
      if (first === undefined) return undefined
      const all = [first]
      // An error waits for the next operation, as there is something to give already.
      if (!together) while (all.length < most && this.#look() === 'datagram') all.push(this.#take('receiveMany') as Datagram)
      else if (most > 1) {
        try {
          all.push(...(this.#fetchMany(most - 1) ?? []))
        } catch (error) {
          this.#trouble = { error }
        }
      }
      return all
    }
    return this.#run('receiveMany', attempt, o)
  }

  /** As the driver gives them: nothing is made for each. */
  #fetchMany(most: number): Datagram[] | undefined {
    const all: Datagram[] | undefined = this.#handle.receiveMany?.(most)
    if (all === undefined) return undefined
    this.datagramsRead += all.length
    for (const { data } of all) this.bytesRead += data.length
    this.heard = all.at(-1)?.from
    if (all.length >= MANY) didMany()
    return all
  }

  tryReceive(): Datagram | undefined {
    this.#slot.check('tryReceive')
    return this.#take('tryReceive')
  }

  waitReadable(o: Wait | undefined): Promise<void> {
    return this.#run('waitReadable', () => this.#look(), o).then(ignore)
  }

  messages<T>(of: object, codec: Codec<T, never> | undefined, o: Wait | undefined): AsyncIterableIterator<unknown> {
    return new Loop(of, this.#slot, () => this.#take('iterator'), codec && ((datagram) => this.#decode(codec, datagram)), o)
  }

  /** Whether a receive would not have to wait, and what it fails with; undefined while another reader takes what comes. */
  get ready(): true | SocketError | undefined {
    if (this.#slot.busy) return undefined
    const found = this.#look()
    return found === 'error' ? this.#side.failure(this.#trouble?.error, 'select', 'read') : found && true
  }

  /** What `deliver` takes from. */
  source(of: { readonly closed: Promise<CloseReport>; handlerFailed(error: SocketError): void }): Source<Datagram> {
    return {
      get closed() {
        return of.closed
      },
      occupy: (waiter) => {
        this.#slot.claim(waiter.op)
        this.#slot.park(waiter)
      },
      release: (waiter) => {
        this.#slot.withdraw(waiter)
        this.#slot.unclaim()
      },
      take: () => this.#take('deliver'),
      fail: (error) => of.handlerFailed(error),
    }
  }

  /** What is here now, or undefined; throws what the system reported, once. */
  #take(op: string): Datagram | undefined {
    let datagram = this.#ahead
    if (datagram !== undefined) {
      this.#ahead = undefined
      this.#side.hold(-datagram.data.length)
    } else {
      const trouble = this.#trouble
      this.#trouble = undefined
      try {
        if (trouble !== undefined) throw trouble.error
        datagram = this.#handle.receive()
      } catch (error) {
        throw this.#side.failure(error, op, 'read')
      }
      if (datagram === undefined) return undefined
    }
    this.heard = datagram.from
    this.datagramsRead++
    this.bytesRead += datagram.data.length
    return datagram
  }

  /** What is there; it is kept for the next operation. */
  #look(): 'datagram' | 'error' | undefined {
    if (this.#trouble !== undefined) return 'error'
    if (this.#ahead !== undefined) return 'datagram'
    try {
      this.#ahead = this.#handle.receive()
    } catch (error) {
      this.#trouble = { error }
      return 'error'
    }
    if (this.#ahead === undefined) return undefined
    this.#side.hold(this.#ahead.data.length)
    return 'datagram'
  }

  #decode<T>(codec: Codec<T, never>, { data, from }: Datagram): { message: T; from: Address } {
    const facts = { ...this.#side.facts('messages'), remote: formatAddress(from), phase: 'frame' } as const
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

const OVER: IteratorReturnResult<undefined> = Object.freeze({ done: true, value: undefined })

/**
 * The async iterator of a socket. It holds the reader slot from its first step until the loop is left or a step fails, which
 * is why a failed step does not end it: `for await` leaves without a word then, and may come back.
 */
class Loop implements AsyncIterableIterator<unknown>, Pending {
  readonly op = 'iterator'
  /** The socket, which is not garbage while it is looped over. */
  readonly of: object
  resolve: (value: never) => void = ignore
  #reject: (error: unknown) => void = ignore
  /** One executor for all steps, where a closure for each would be garbage. */
  readonly #settleBy = (resolve: (value: never) => void, reject: (error: unknown) => void): void => {
    this.resolve = resolve
    this.#reject = reject
  }
  disarm: (() => void) | undefined
  readonly #slot: ReaderSlot
  readonly #take: () => Datagram | undefined
  readonly #give: ((datagram: Datagram) => unknown) | undefined
  readonly #o: Wait | undefined
  #state: 'idle' | 'between' | 'stepping' | 'done' = 'idle'

  constructor(
    of: object,
    slot: ReaderSlot,
    take: () => Datagram | undefined,
    give: ((datagram: Datagram) => unknown) | undefined,
    o: Wait | undefined,
  ) {
    this.of = of
    this.#slot = slot
    this.#take = take
    this.#give = give
    this.#o = o
  }

  next(): Promise<IteratorResult<unknown>> {
    if (this.#state === 'done') return Promise.resolve(OVER)
    if (this.#state === 'stepping') return Promise.reject(this.#slot.inUse(this.op))
    const promise = new Promise<IteratorResult<unknown>>(this.#settleBy)
    try {
      if (this.#state === 'idle') this.#slot.claim(this.op)
      this.#state = 'stepping'
      this.#slot.start(this, this.#o, true)
    } catch (error) {
      this.reject(error)
    }
    return promise
  }

  attempt(): IteratorResult<unknown> | undefined {
    const datagram = this.#take()
    if (datagram === undefined) return undefined
    const value = this.#give === undefined ? datagram : this.#give(datagram)
    this.#state = 'between'
    return { done: false, value }
  }

  /** The socket was closed, here: the loop is over. */
  reject(error: unknown): void {
    this.#leave(error instanceof Closed ? 'done' : 'idle')
    if (error instanceof Closed) this.resolve(OVER as never)
    else this.#reject(error)
  }

  return(): Promise<IteratorResult<unknown>> {
    if (this.#slot.withdraw(this)) this.resolve(OVER as never)
    this.#leave('done')
    return Promise.resolve(OVER)
  }

  #leave(state: 'idle' | 'done'): void {
    if (this.#state === 'between' || this.#state === 'stepping') this.#slot.unclaim()
    this.#state = state
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}
