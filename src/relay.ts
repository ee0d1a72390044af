/** Two connections joined: what one gives, the other gets, in both directions, each with an end of its own. */

import { formatAddress } from './address.js'
import { milliseconds } from './arguments.js'
import type { Connection } from './connection.js'
import { arm, shouldYield, turn, whenIdle } from './deadline.js'
import type { Splice } from './driver.js'
import { again, Broken, broken, CODES, Denied, type ErrorFacts, invalidType, outOfRange, type SocketError } from './errors.js'
import type { Claim } from './inbound.js'
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
  return new Relay([one, other], [a, b]).run(wait, idle)
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
  readonly #both: readonly [Lifetime, Lifetime]
  readonly #forth: Flow
  readonly #back: Flow
  #failure: SocketError | undefined
  #broke: Flow | undefined
  #over = false
  #settle: () => void = () => {}
  #stopIdle: (() => void) | undefined

  constructor(both: readonly [Lifetime, Lifetime], keeps: unknown) {
    const [a, b] = both
    this.#both = both
    this.keeps = keeps
    this.#forth = new Flow(this, a, b, 'forth')
    this.#back = new Flow(this, b, a, 'back')
  }

  async run(wait: Wait, idle: number): Promise<RelayReport> {
    const both = this.#both
    for (const life of both) life.mustLive('relay')
    const facts = (): ErrorFacts => ({ op: 'relay' })
    const disarm = arm(wait, both[0].shared.clock, facts, (error) => this.fail(error))
    const claims: Claim[] = []
    try {
      for (const life of both) claims.push(life.in.claim('relay'))
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
      for (const claim of claims) claim.release()
    }
    const failure = this.#failure
    if (failure === undefined) {
      await Promise.all(both.map((life) => life.close()))
      return { forth: this.#forth.moved, back: this.#back.moved }
    }
    for (const life of both) life.abort(failure)
    throw this.#told(failure)
  }

  #told(failure: SocketError): SocketError {
    const [forth, back] = [this.#forth.moved, this.#back.moved]
    const { from, to } = this.#broke ?? this.#forth
    const message = `${failure.message}, relaying from ${nameOf(from)} to ${nameOf(to)}; ${forth} bytes went forth, ${back} back`
    if (this.#broke === undefined) return again(failure, { op: 'relay', relayed: { forth, back } }, message)
    const { moved, direction: broke } = this.#broke
    return again(failure, { op: 'relay', bytesWritten: moved, relayed: { forth, back, broke } }, message)
  }

  #watchIdle(idle: number): void {
    const [a, b] = this.#both
    const { clock } = a.shared
    const begun = clock.now()
    const last = () => Math.max(begun, a.lastMove, b.lastMove)
    this.#stopIdle = whenIdle(clock, idle, last, () =>
      this.fail(new Denied('IDLE', `${CODES.Denied.IDLE}: ${idle} ms without a byte in either direction`, { op: 'relay' })),
    )
  }

  /** One direction has come to its end. */
  ended(): void {
    if (!this.#forth.over || !this.#back.over) return
    this.#over = true
    this.#settle()
  }

  /** What a direction reads from broke: what came before goes on its way. */
  readFailed(error: unknown, flow: Flow): void {
    const failure = this.#noted(error, flow)
    if (this.#over) return
    const { out, shared } = flow.to
    const flushed = out.flush({ timeout: shared.limits.lingerTime })
    const fail = () => this.fail(failure)
    flushed.then(fail, fail)
  }

  /** What it writes to broke: its peer may have said why, which is on its way in the other direction. */
  writeFailed(error: unknown, flow: Flow): void {
    const failure = this.#noted(error, flow)
    // What is no news of the peer, it has not heard of: it may wait for ever.
    if (failure instanceof Broken && !Object.hasOwn(CODES.Broken, failure.code)) this.fail(failure)
    else this.ended()
  }

  #noted(error: unknown, flow?: Flow): SocketError {
    if (this.#failure === undefined) {
      this.#failure = broken(error)
      this.#broke = flow
    }
    return this.#failure
  }

  fail(error: unknown): void {
    if (this.#over) return
    this.#noted(error)
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
  readonly from: Lifetime
  readonly to: Lifetime
  readonly direction: 'forth' | 'back'
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

  constructor(relay: Relay, from: Lifetime, to: Lifetime, direction: Flow['direction']) {
    this.#relay = relay
    this.from = from
    this.to = to
    this.direction = direction
  }

  start(): void {
    this.from.in.park(this)
    try {
      this.#splice = this.from.handle.splice?.(this.to.handle)
    } catch {
      // Without room for a pipe, or where the two do not fit together, the bytes go through the process.
    }
    if (this.#splice !== undefined) this.#drain = drain(this.#splice)
    // Its end on this side tells nobody who has nothing to write.
    const { closed } = this.to
    void closed.then(() => !this.over && this.to.refused && this.#writeFailed(this.to.refusal))
    this.#pump()
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
    const { in: input } = this.from
    if (this.#splice === undefined || input.buffered > 0) return input.take(undefined, 'relay')
    return input.divert(this.#splice, MOST, 'relay')
  }

  /** Whether all of it is with the target. */
  #pour(took: Uint8Array | number): boolean {
    const count = typeof took === 'number' ? took : took.length
    this.#pouring = count
    try {
      const what = typeof took === 'number' ? (this.#drain as Feed) : took
      if (!this.to.out.pour('relay', what, this.#poured, this.#refused)) return false
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
    this.from.in.withdraw(this)
  }

  #end(): void {
    this.#halt()
    this.to.out.end(undefined).then(
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
    this.#relay.readFailed(error, this)
  }

  #writeFailed(error: unknown): void {
    if (this.#pouring > 0) this.moved += (error as SocketError).bytesWritten ?? 0
    this.#pouring = 0
    if (this.over) return
    this.over = true
    this.#halt()
    this.#relay.writeFailed(error, this)
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
