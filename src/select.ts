/** Readiness: which of many sockets can be read, written or accepted from now, without doing it. */

import type { Listener } from './accept.js'
import type { Connection } from './connection.js'
import type { DatagramSocket } from './datagram.js'
import { arm, systemClock, turn } from './deadline.js'
import { again, Busy, Closed, CODES, DeadlineError, type ErrorFacts, invalidType, refuseUnknown, type SocketError } from './errors.js'
import type { Owner } from './owner.js'
import { ignore } from './settle.js'
import type { Wait } from './stream.js'

/** What can be selected. */
export type Selectable = Connection | Listener | DatagramSocket

/** What one wants to know of a socket. */
export interface Wanted {
  readonly readable: boolean
  readonly writable: boolean
}

/** What can be done with a socket now. */
export interface Readiness {
  /** A read would not wait: for bytes or a datagram, or, as told below, for the end or an error. */
  readonly readable: boolean
  /** A write would be accepted at once. */
  readonly writable: boolean
  /** A listener has a connection, with TLS one whose handshake is done. */
  readonly acceptable: boolean
  /** The peer's end is what a read gives next. */
  readonly ended: boolean
  /** What a read or write, whichever was asked for, fails with next; `Closed` once, for a socket that was closed on this side. */
  readonly broken?: SocketError | undefined
}

/** What a socket offers so that it can be selected. */
export interface Watched {
  readonly owner: Owner
  /** What of `wanted` can be done now, or undefined. Consumes nothing and fetches one chunk or datagram at most. @internal */
  readiness(wanted: Wanted): Readiness | undefined
  /** Calls `changed` whenever `readiness` may answer more than it did; returns what ends that. @internal */
  watch(changed: () => void): () => void
}

export interface InterestOptions {
  /** Bytes, a datagram, a connection to accept, the end, or an error of reading. Default true, unless `writable` is. */
  readable?: boolean | undefined
  /** A write would be accepted at once, or would fail at once. Default false. */
  writable?: boolean | undefined
  /** The same as `readable`, of a listener. */
  acceptable?: boolean | undefined
}

/** A socket and what one wants to know of it. */
export interface Interest<S extends Selectable = Selectable> extends InterestOptions {
  readonly socket: S
}

/** One socket that is ready. */
export interface Ready<S extends Selectable = Selectable> extends Readiness {
  readonly socket: S
}

interface Entry<S> {
  readonly socket: S
  wanted: Wanted
  /** It stands in the list of those to look at. */
  listed: boolean
  gone: boolean
  /** There may be news. */
  readonly news: () => void
  stop: () => void
}

/** Those that somebody selects from. Any other set is garbage when nobody has it, for its sockets refer to it weakly. */
const SELECTING: Set<object> = new Set()
/** Ends what sets of which nobody has the object any more asked of their sockets. */
const DROPPED: FinalizationRegistry<Set<() => void>> = new FinalizationRegistry((stops) => {
  for (const stop of stops) stop()
})

const OPTIONS = ['readable', 'writable', 'acceptable'] as const

/**
 * A set of sockets to be selected from again and again, as an epoll descriptor: a round costs in proportion to the sockets
 * that are ready or have news, however many there are. It owns none of them and holds no reader slot: between rounds they are
 * read and written with the usual verbs. A socket that is closed is reported once, as `broken`, and leaves the set.
 *
 * ```ts
 * import { connect, Interests, listen, select } from 'fairlead'
 *
 * await using listener = await listen('tcp://127.0.0.1:0')
 * await using client = await connect(listener.endpoint)
 * using interests = new Interests().add(listener).add(client)
 * for (const ready of await select(interests, { timeout: 1_000 })) console.log(ready.acceptable) // true
 * ```
 */
export class Interests<S extends Selectable = Selectable> {
  readonly #entries: Map<S, Entry<S>> = new Map()
  readonly #stops: Set<() => void> = new Set()
  /** Those whose readiness may have changed since it was last looked at, and those that were ready then. */
  #listed: Entry<S>[] = []
  #wake: (() => void) | undefined
  #selecting = false
  #closed = false

  constructor() {
    DROPPED.register(this, this.#stops)
  }

  /** Adds a socket, or changes what is wanted of it. Acts at once on a `select` that waits. */
  add(socket: S, o: InterestOptions = {}): this {
    if (this.#closed) throw new Closed('CLOSED', 'the set of interests was closed', { op: 'add' })
    if (typeof (socket as Watched | null | undefined)?.readiness !== 'function') {
      throw invalidType('socket', 'a Connection, Listener or DatagramSocket', socket)
    }
    const wanted = wantedOf(o)
    let entry = this.#entries.get(socket)
    if (entry === undefined) {
      const added: Entry<S> = { socket, wanted, listed: false, gone: false, news: () => this.#list(added), stop: ignore }
      added.stop = socket.watch(weakly(added))
      this.#stops.add(added.stop)
      this.#entries.set(socket, added)
      entry = added
    }
    entry.wanted = wanted
    this.#list(entry)
    return this
  }

  /** Forgets a socket; whether it was there. */
  delete(socket: S): boolean {
    const entry = this.#entries.get(socket)
    if (entry === undefined) return false
    this.#entries.delete(socket)
    entry.gone = true
    this.#stops.delete(entry.stop)
    entry.stop()
    return true
  }

  has(socket: S): boolean {
    return this.#entries.has(socket)
  }

  get size(): number {
    return this.#entries.size
  }

  /** Forgets every socket and closes none. A `select` that waits fails with `Closed`. Idempotent. */
  close(): void {
    this.#closed = true
    for (const socket of [...this.#entries.keys()]) this.delete(socket)
    this.#wake?.()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #list(entry: Entry<S>): void {
    if (!entry.listed) this.#listed.push(entry)
    entry.listed = true
    this.#wake?.()
  }

  /** @internal a round of `select` */
  async select(o: Wait | undefined): Promise<Ready<S>[]> {
    if (this.#selecting) throw new Busy('BUSY', `${CODES.Busy.BUSY}: select while another selects from these`, { op: 'select' })
    const [first] = this.#entries.keys()
    const isPoll = o?.timeout === 0
    let passed = isPoll
    let failure: unknown
    const end = (error: unknown) => {
      // A poll, and a wait that is over: what is ready then is the answer.
      if (error instanceof DeadlineError) passed = true
      else failure = error
      this.#wake?.()
    }
    let disarm: (() => void) | undefined
    try {
      // An error for each poll that is no error would be most of its cost.
      disarm = arm(isPoll ? { ...o, timeout: undefined } : o, first?.owner.shared.clock ?? systemClock, () => ({ op: 'select' }), end)
    } catch (error) {
      end(error)
    }
    this.#selecting = true
    SELECTING.add(this)
    try {
      for (;;) {
        // The loop turns once in each round, so that all the system has to tell by now is heard, and a socket that is always
        // ready hides no other.
        if (failure === undefined) await turn()
        if (this.#closed) throw new Closed('CLOSED', 'the set of interests was closed', { op: 'select' })
        if (failure !== undefined) throw failure
        const ready = this.#look()
        if (ready.length > 0 || passed) return ready
        if (this.#listed.length > 0) continue
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
        this.#wake = undefined
      }
    } finally {
      this.#selecting = false
      SELECTING.delete(this)
      disarm?.()
    }
  }

  /** Those of the list that are ready. They stay in it, the first behind the rest: whoever serves one a round serves all. */
  #look(): Ready<S>[] {
    const listed = this.#listed
    const ready: Ready<S>[] = []
    this.#listed = []
    for (const entry of listed) {
      entry.listed = false
      const found = entry.gone ? undefined : entry.socket.readiness(entry.wanted)
      if (found === undefined) continue
      ready.push({ socket: entry.socket, ...found })
      if (found.broken instanceof Closed) this.delete(entry.socket)
      else if (!entry.listed) {
        entry.listed = true
        this.#listed.push(entry)
      }
    }
    const turned = this.#listed.shift()
    if (turned !== undefined) this.#listed.push(turned)
    return ready
  }
}

/**
 * Waits until sockets are ready and resolves with all of them; consumes nothing. A socket stays ready until it is read, written or
 * accepted from. `timeout: 0` polls; when the time is over with nothing ready, the result is empty.
 *
 * Given sockets and interests one by one, it makes a set of them for this one call, which costs in proportion to all of them.
 *
 * @throws `Busy` while another call selects from the same set, `Cancelled`, `Closed` once the set is closed
 *
 * ```ts
 * import { connect, listen, select } from 'fairlead'
 *
 * await using listener = await listen('tcp://127.0.0.1:0')
 * await using client = await connect(listener.endpoint)
 * await using server = await listener.accept()
 * await client.write('hello')
 * const [ready] = await select([server, { socket: client, readable: true }], { timeout: 1_000 })
 * console.log(ready?.socket === server, server.tryRead()?.length) // true 5
 * ```
 */
export async function select<S extends Selectable>(interests: Interests<S> | Iterable<S | Interest<S>>, o?: Wait): Promise<Ready<S>[]> {
  if (interests instanceof Interests) return interests.select(o)
  if (typeof (interests as Iterable<unknown> | null | undefined)?.[Symbol.iterator] !== 'function') {
    throw invalidType('interests', 'an Interests or an iterable of sockets and interests', interests)
  }
  const set = new Interests<S>()
  try {
    for (const interest of union(interests)) set.add(...interest)
    return await set.select(o)
  } finally {
    set.close()
  }
}

/** Each socket once, with all that is wanted of it. */
function union<S extends Selectable>(interests: Iterable<S | Interest<S>>): Map<S, InterestOptions> {
  const all = new Map<S, InterestOptions>()
  for (const interest of interests) {
    const { socket, ...o }: Interest<S> = isInterest(interest) ? (interest as Interest<S>) : { socket: interest as S }
    const [one, other] = [wantedOf(o), all.get(socket)]
    all.set(socket, { readable: one.readable || other?.readable === true, writable: one.writable || other?.writable === true })
  }
  return all
}

function isInterest(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'socket' in value
}

function wantedOf(o: InterestOptions): Wanted {
  refuseUnknown(o, OPTIONS, 'select')
  for (const name of OPTIONS) {
    if (o[name] !== undefined && typeof o[name] !== 'boolean') throw invalidType(name, 'true or false', o[name])
  }
  const writable = o.writable === true
  return { readable: o.readable ?? o.acceptable ?? !writable, writable }
}

/** The readiness of a socket that this side has closed or given away. */
export function refusedBy(error: SocketError, facts: ErrorFacts): Readiness {
  return { readable: false, writable: false, acceptable: false, ended: false, broken: again(error, facts) }
}

/** The readiness that comes of both directions: what there is to read, whether a write would be accepted, or what either fails with. */
export function readinessOf(
  of: { facts(op: string): ErrorFacts },
  input: 'bytes' | 'end' | SocketError | undefined,
  output: true | SocketError | undefined,
): Readiness | undefined {
  if (input === undefined && output === undefined) return undefined
  const failed = typeof input === 'object' ? input : typeof output === 'object' ? output : undefined
  return {
    readable: input !== undefined,
    writable: output === true,
    acceptable: false,
    ended: input === 'end',
    ...(failed && { broken: again(failed, of.facts('select')) }),
  }
}

/** Apart, as a closure keeps all that any closure beside it refers to. */
function weakly(entry: { news(): void }): () => void {
  const weak = new WeakRef(entry)
  return () => weak.deref()?.news()
}
