/** Two connections joined: what one gives, the other gets, in both directions, each with an end of its own. */

import { formatAddress } from './address.js'
import { milliseconds } from './arguments.js'
import type { Connection } from './connection.js'
import { arm, shouldYield, turn } from './deadline.js'
import type { Splice } from './driver.js'
import { again, Broken, broken, CODES, Denied, type ErrorFacts, invalidType, outOfRange, type SocketError } from './errors.js'
import type { Lifetime } from './lifetime.js'
import type { Feed } from './outbound.js'
import type { Pending } from './slot.js'
import type { Wait } from './stream.js'

export interface RelayOptions extends Wait {
  /** Milliseconds without a byte in either direction after which it fails with `Denied/IDLE`. Default: none. */
  idle?: number | undefined
}

export interface RelayReport {
  /** Bytes that went from the first connection to the second, and from the second to the first. */
  readonly forth: number
  readonly back: number
}

type Direction = 'forth' | 'back'

/** Most bytes that are asked for at a time where they stay in the system; it gives as many as it has room for. */
const MOST = 1024 * 1024

/**
 * Carries bytes both ways until both directions have ended, then closes both connections in order. The end of one is at once
 * the end of the other (a half-close goes through as such), nothing is read from one that the other does not take, and where
 * the driver can (splice(2), from plain TCP to what is plain, both of the kernel driver) the bytes never come into the process.
 *
 * It takes both connections over: it holds their reader slots, its writes queue behind those made before, and when it has
 * settled both are over. If it fails, for whatever reason, both are aborted, so that no peer takes half a stream for a whole
 * one; before that, what came in ahead of a failure of one connection is handed on to the other, for at most the linger time
 * (5 s), and where one connection cannot be written to any more the other direction goes on to its own end.
 *
 * ```ts
 * import { connect, relay, serve } from 'fairlead'
 *
 * await using echo = await serve('tcp://127.0.0.1:0', {}, (client) => client.readable.pipeTo(client.writable))
 * await using proxy = await serve('tcp://127.0.0.1:0', {}, async (client) => {
 *   await relay(client, await connect(echo.endpoints[0]), { idle: 60_000 })
 * })
 * await using client = await connect(proxy.endpoints[0])
 * await client.write('through a proxy')
 * await client.end()
 * console.log(new TextDecoder().decode(await client.readAll())) // through a proxy
 * ```
 *
 * @param o a timeout, a deadline and a signal hold for all of it
 * @throws `Busy` beside another reader of either, and nothing has happened then. What broke a connection, `DeadlineError`,
 *   `Cancelled`, `Denied/IDLE`: with `relayed`, how many bytes went `forth` and `back` and which direction `broke`
 */
export async function relay(a: Connection, b: Connection, o: RelayOptions = {}): Promise<RelayReport> {
  const [one, other] = [lifeOf(a, 'a'), lifeOf(b, 'b')]
  if (typeof o !== 'object' || o === null) throw invalidType('options', 'an object', o)
  const { idle = Number.POSITIVE_INFINITY, ...wait } = o
  if (milliseconds('idle', idle) === 0) throw outOfRange('idle', 'more than 0', idle)
  return new Relay(one, other, [a, b]).run(wait, idle)
}

function lifeOf(connection: Connection, name: string): Lifetime {
  const life = (connection as Connection | undefined)?.life
  if (life === undefined) throw invalidType(name, 'a Connection', connection)
  return life
}

function nameOf({ handle, origin, id }: Lifetime): string {
  const { remote } = handle
  return (remote && formatAddress(remote)) || origin.endpoint || `connection ${id}`
}

class Relay {
  /** The objects of the connections, which are not garbage while this goes on. */
  readonly keeps: unknown
  readonly #a: Lifetime
  readonly #b: Lifetime
  readonly #forth: Flow
  readonly #back: Flow
  #failure: SocketError | undefined
  #broke: Direction | undefined
  #over = false
  #settle: () => void = () => {}
  #stopIdle: (() => void) | undefined

  constructor(a: Lifetime, b: Lifetime, keeps: unknown) {
    this.#a = a
    this.#b = b
    this.keeps = keeps
    this.#forth = new Flow(this, a, b, 'forth')
    this.#back = new Flow(this, b, a, 'back')
  }

  async run(wait: Wait, idle: number): Promise<RelayReport> {
    const both = [this.#a, this.#b]
    for (const life of both) life.mustLive('relay')
    const facts = (): ErrorFacts => ({ op: 'relay' })
    const disarm = arm(wait, this.#a.shared.clock, facts, (error) => this.fail(error, undefined))
    try {
      this.#a.in.occupy('relay')
      try {
        this.#b.in.occupy('relay')
      } catch (error) {
        this.#a.in.unclaim()
        throw error
      }
      await new Promise<void>((resolve) => {
        this.#settle = resolve
        if (idle !== Number.POSITIVE_INFINITY) this.#watchIdle(idle)
        for (const flow of [this.#forth, this.#back]) flow.start()
      })
    } finally {
      disarm?.()
      this.#stopIdle?.()
      this.#forth.stop()
      this.#back.stop()
    }
    const failure = this.#failure
    if (failure === undefined) {
      for (const life of both) life.in.unclaim()
      await Promise.all(both.map((life) => life.close()))
      return { forth: this.#forth.moved, back: this.#back.moved }
    }
    for (const life of both) life.abort(failure)
    throw this.#told(failure)
  }

  #told(failure: SocketError): SocketError {
    const [forth, back] = [this.#forth.moved, this.#back.moved]
    const [from, to] = this.#broke === 'back' ? [this.#b, this.#a] : [this.#a, this.#b]
    const message = `${failure.message}, relaying from ${nameOf(from)} to ${nameOf(to)}; ${forth} bytes went forth, ${back} back`
    const moved = this.#broke && { bytesWritten: this.#broke === 'forth' ? forth : back }
    return again(failure, { op: 'relay', ...moved, relayed: { forth, back, ...(this.#broke && { broke: this.#broke }) } }, message)
  }

  #watchIdle(idle: number): void {
    const { clock } = this.#a.shared
    const begun = clock.now()
    const check = () => {
      const due = Math.max(begun, this.#a.lastMove, this.#b.lastMove) + idle
      if (clock.now() < due) this.#stopIdle = clock.at(due, check)
      else this.fail(new Denied('IDLE', `${CODES.Denied.IDLE}: ${idle} ms without a byte in either direction`, { op: 'relay' }), undefined)
    }
    check()
  }

  /** One direction has come to its end. */
  ended(): void {
    if (!this.#forth.over || !this.#back.over) return
    this.#over = true
    this.#settle()
  }

  /** `from` broke: what came before goes on its way. */
  readFailed(error: unknown, direction: Direction, to: Lifetime): void {
    const failure = this.#noted(error, direction)
    if (this.#over) return
    const flushed = to.out.flush({ timeout: to.shared.limits.lingerTime })
    const fail = () => this.fail(failure, direction)
    flushed.then(fail, fail)
  }

  /** `to` broke: its peer may have said why, which is on its way in the other direction. */
  writeFailed(error: unknown, direction: Direction): void {
    const failure = this.#noted(error, direction)
    // What is no news of the peer, it has not heard of: it may wait for ever.
    if (failure instanceof Broken && !Object.hasOwn(CODES.Broken, failure.code)) this.fail(failure, direction)
    else this.ended()
  }

  #noted(error: unknown, direction: Direction | undefined): SocketError {
    if (this.#failure === undefined) {
      this.#failure = broken(error)
      this.#broke = direction
    }
    return this.#failure
  }

  fail(error: unknown, direction: Direction | undefined): void {
    if (this.#over) return
    this.#noted(error, direction)
    this.#over = true
    this.#settle()
  }
}

/** One direction: waits for bytes as a read would, and for room as a write would, without a promise for each piece. */
class Flow implements Pending {
  readonly op = 'relay'
  readonly disarm = undefined
  /** Bytes that the target has got. */
  moved = 0
  /** It has come to its end, or cannot. */
  over = false
  /** Nothing more is read. */
  #stopped = false
  readonly #relay: Relay
  readonly #from: Lifetime
  readonly #to: Lifetime
  readonly #direction: Direction
  #splice: Splice | undefined
  #drain: Feed | undefined
  /** Bytes on their way; nothing is read meanwhile. */
  #pouring = 0
  readonly #poured: () => void = () => {
    this.moved += this.#pouring
    this.#pouring = 0
    this.#pump()
  }
  readonly #refused: (error: unknown) => void = (error) => this.#writeFailed(error)

  constructor(relay: Relay, from: Lifetime, to: Lifetime, direction: Direction) {
    this.#relay = relay
    this.#from = from
    this.#to = to
    this.#direction = direction
  }

  start(): void {
    this.#from.in.park(this)
    this.#splice = this.#spliced()
    if (this.#splice !== undefined) this.#drain = drain(this.#splice)
    // Its end on this side tells nobody who has nothing to write.
    const { closed } = this.#to
    void closed.then(() => !this.over && this.#to.refused && this.#writeFailed(this.#to.refusal))
    this.#pump()
  }

  /** Without room for a pipe, or where the two do not fit together, the bytes go through the process. */
  #spliced(): Splice | undefined {
    try {
      return this.#from.handle.splice?.(this.#to.handle)
    } catch {
      return undefined
    }
  }

  stop(): void {
    this.#halt()
    this.#splice?.close()
  }

  /** The source may have something. */
  attempt(): undefined {
    if (this.#pouring === 0) this.#pump()
  }

  resolve(): void {}

  /** This side has closed the source. */
  reject(error: unknown): void {
    this.#readFailed(error)
  }

  #pump(): void {
    while (!this.#stopped) {
      let took: Uint8Array | number | null | undefined
      try {
        took = this.#take()
      } catch (error) {
        return this.#readFailed(error)
      }
      if (took === undefined) return
      if (took === null) return this.#end()
      if (!this.#pour(took)) return
      if (shouldYield()) {
        this.#pouring = -1
        return void turn().then(() => {
          this.#pouring = 0
          this.#pump()
        })
      }
    }
  }

  /** What was read before comes first, then what stays in the system. */
  #take(): Uint8Array | number | null | undefined {
    const { in: input } = this.#from
    if (this.#splice === undefined || input.buffered > 0) return input.take(undefined, 'relay')
    return input.divert(this.#splice, MOST, 'relay')
  }

  /** Whether all of it is with the target. */
  #pour(took: Uint8Array | number): boolean {
    const count = typeof took === 'number' ? took : took.length
    this.#pouring = count
    try {
      const what = typeof took === 'number' ? (this.#drain as Feed) : took
      if (!this.#to.out.pour('relay', what, this.#poured, this.#refused)) return false
    } catch (error) {
      this.#writeFailed(error)
      return false
    }
    this.moved += count
    this.#pouring = 0
    return true
  }

  #halt(): void {
    this.#stopped = true
    this.#from.in.withdraw(this)
  }

  #end(): void {
    this.#halt()
    this.#to.out.end(undefined).then(
      () => {
        this.over = true
        this.#relay.ended()
      },
      (error: unknown) => this.#writeFailed(error),
    )
  }

  #readFailed(error: unknown): void {
    if (this.#stopped) return
    this.#halt()
    this.#relay.readFailed(error, this.#direction, this.#to)
  }

  #writeFailed(error: unknown): void {
    if (this.#pouring > 0) this.moved += (error as SocketError).bytesWritten ?? 0
    this.#pouring = 0
    if (this.over) return
    this.over = true
    this.#halt()
    this.#relay.writeFailed(error, this.#direction)
  }
}

/** What lies in the pipe between the two. */
function drain(splice: Splice): Feed {
  return {
    op: 'relay',
    get over() {
      return splice.held === 0
    },
    hand: () => splice.drain(),
  }
}
