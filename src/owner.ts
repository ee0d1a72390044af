/** Ownership: every socket belongs to exactly one owner and ends with it. The network is the default owner. */

import { AsyncLocalStorage } from 'node:async_hooks'
import { setMaxListeners } from 'node:events'
import { type Address, formatAddress } from './address.js'
import { flag, milliseconds } from './arguments.js'
import type { Clock } from './driver.js'
import {
  again,
  Busy,
  Cancelled,
  Closed,
  CODES,
  type ErrorFacts,
  invalidType,
  originOf,
  outOfRange,
  refuseUnknown,
  type SocketError,
} from './errors.js'
import { Roster } from './roster.js'
import type { CloseReport, Limits, Wait } from './stream.js'
import type { CloseEvent, OpenEvent, Trace, TraceEvent } from './trace.js'

/** What the sockets of one network share. Made by the network, reached through the owner. */
export interface Shared {
  readonly clock: Clock
  readonly trace: Trace
  readonly limits: Readonly<Limits>
  readonly budget: Budget
}

type Untimed<E> = E extends TraceEvent ? Omit<E, 'at'> : never

/** Emits an event of this moment. Where many connections make one each, `trace.wants` is asked first. */
export function tell({ clock, trace }: Shared, event: Untimed<TraceEvent>): void {
  if (trace.wants(event.type)) trace.emit({ at: clock.wall(), ...event } as TraceEvent)
}

/** Tells that a socket of `owner` with these addresses is open. */
export function tellOpened(
  { shared, name }: Owner,
  socket: Pick<OpenEvent, 'id' | 'kind' | 'role' | 'driver'> & { readonly listener?: number | undefined },
  local: Address | undefined,
  remote: Address | undefined,
): void {
  const { listener, ...facts } = socket
  const addresses = { local: local ? formatAddress(local) : '', remote: remote ? formatAddress(remote) : '' }
  tell(shared, { type: 'open', ...facts, ...addresses, owner: name, ...(listener !== undefined && { listener }) })
}

/** Tells how a socket ended that was opened at a moment of the network's clock. */
export function tellClosed(shared: Shared, openedAt: number, closed: Omit<CloseEvent, 'type' | 'at' | 'duration'>): void {
  if (shared.trace.wants('close')) tell(shared, { type: 'close', ...closed, duration: shared.clock.now() - openedAt })
}

/** The bytes a network holds, unsent and unread, against `limits.total`. */
export class Budget {
  readonly limit: number
  #held = 0
  readonly #waiting: Set<() => void> = new Set()

  constructor(limit: number) {
    this.limit = limit
  }

  get held(): number {
    return this.#held
  }

  /** Whether the cap is reached: writers wait and accepting pauses until `whenFree`. */
  get full(): boolean {
    return this.#held >= this.limit
  }

  change(bytes: number): void {
    const was = this.full
    this.#held += bytes
    if (was && !this.full) {
      const waiting = [...this.#waiting]
      this.#waiting.clear()
      for (const fn of waiting) fn()
    }
  }

  /** Calls `fn` once when the cap is no longer reached; returns what cancels that. */
  whenFree(fn: () => void): () => void {
    this.#waiting.add(fn)
    return () => this.#waiting.delete(fn)
  }
}

/**
 * `fn`, bound to the owner that is bound to what runs now: who calls it, an event of some socket or the operation of somebody
 * else, must not decide what it opens belongs to. @internal
 */
export function inThisContext<A extends unknown[], R>(fn: (...args: A) => R): (...args: A) => R {
  const owner = currentOwner()
  return (...args) => (context === undefined ? fn(...args) : context.run(owner as Owner, fn, ...args))
}

/** What every socket has, of whatever kind. */
export interface Owned {
  /** Unique in the process. */
  readonly id: number
  readonly owner: Owner
  close(o?: Wait): Promise<CloseReport>
  abort(reason?: unknown): void
  moveTo(owner: Owner): void
}

/** What an owner holds of a socket. It outlives the object that users have of it. @internal */
export interface Member {
  readonly id: number
  readonly kind: OpenEvent['kind']
  owner: Owner
  /** The object that users have; weakly, once it is watched. */
  face: Owned | WeakRef<Owned>
  /** What is under way and has to come to its end also where nobody has the object any more. */
  readonly pending: string | undefined
  /** Why nothing can be done with it any more: it was closed, broke or was consumed. */
  readonly over: SocketError | undefined
  /** Whether it has received what nobody has read. */
  readonly holds: boolean
  close(o?: Wait): Promise<CloseReport>
  abort(reason?: unknown): void
}

export interface EndReport {
  /** Sockets that ended in order, those of nested owners included. */
  readonly closed: number
  /** Sockets that had to be aborted, those of nested owners included. */
  readonly aborted: number
  /** What became of the owners nested in this one, where there were any. */
  readonly owners?: readonly (EndReport & { readonly name: string })[]
}

/** Made at the first `run`: from then on each promise of the process costs more on older Nodes. */
let context: AsyncLocalStorage<Owner> | undefined

/** The owner bound to what runs now, by `owner.run`. @internal */
export function currentOwner(): Owner | undefined {
  return context?.getStore()
}

/**
 * What sockets belong to and end with. Every socket has exactly one owner: the one named when it is opened, or the one
 * whose `run` it is opened in, or its network. Owners nest, and end with the one they are nested in.
 *
 * ```ts
 * import { connect, Owner, serve } from 'fairlead'
 *
 * await using server = await serve('tcp://127.0.0.1:0', {}, async (connection) => {
 *   console.log(Buffer.from(await connection.readAll()).toString()) // hello
 * })
 * {
 *   await using owner = new Owner('job')
 *   const client = await connect(server.endpoints[0], { owner })
 *   await client.write('hello')
 * } // flushed and closed here, whatever happened in between
 * ```
 */
export class Owner {
  readonly name: string
  /** @internal */
  readonly shared: Shared
  readonly #parent: Owner | undefined
  readonly #members: Roster<Member> = new Roster()
  readonly #nested: Set<Owner> = new Set()
  #controller: AbortController | undefined
  #ended: SocketError | undefined
  #idle: (() => void)[] = []

  /**
   * @param parent whom it ends with; default: the owner whose `run` this is called in, or else the default network
   * @throws `Closed/OWNER_ENDED` if the parent has ended
   */
  constructor(name: string, parent?: Owner)
  /** @internal one that is nested in nobody */
  constructor(name: string, root: Shared)
  constructor(name: string, parent: Owner | Shared = currentOwner() ?? defaultOwner()) {
    if (typeof name !== 'string') throw invalidType('name', 'a string', name)
    this.name = name
    if (!(parent instanceof Owner)) {
      if (!((parent as Shared | null)?.budget instanceof Budget)) throw invalidType('parent', 'an Owner', parent)
      this.shared = parent
      return
    }
    parent.mustLive({ op: 'Owner' })
    this.shared = parent.shared
    this.#parent = parent
    parent.#nested.add(this)
  }

  /** Aborts when the owner ends. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController()
    if (this.#ended !== undefined) this.#controller.abort(this.#ended)
    return this.#controller.signal
  }

  /** The sockets that live now, oldest first; behind its own, those of nested owners. */
  sockets(): Owned[] {
    const own = [...this.#members.values()].map(faceOf).filter((face) => face !== undefined)
    return [...own, ...this.owners().flatMap((owner) => owner.sockets())]
  }

  /** The owners nested directly in this one that live now, oldest first. */
  owners(): Owner[] {
    return [...this.#nested]
  }

  /**
   * Runs `fn`, bound to its async context: what `connect`, `listen`, `bind`, `serve` and `new Owner` open in it, also
   * behind an `await`, belongs to this owner unless another is named or the network is another one. Gives what `fn` gives
   * and ends nothing.
   *
   * @throws `Closed/OWNER_ENDED`
   */
  run<T>(fn: () => T): T {
    if (typeof fn !== 'function') throw invalidType('fn', 'a function', fn)
    this.mustLive({ op: 'run' })
    context ??= new AsyncLocalStorage()
    return context.run(this, fn)
  }

  /** Takes a socket over from its owner: {@link Owned.moveTo}, which gives the errors. */
  adopt<S extends Owned>(socket: S): S {
    if (typeof (socket as S | undefined)?.moveTo !== 'function') throw invalidType('socket', 'a socket of this library', socket)
    socket.moveTo(this)
    return socket
  }

  /**
   * Ends everything that belongs to this owner, listeners first, then nested owners, then its own connections: each is
   * flushed and closed in order within `within` milliseconds (default: the linger time, 5 s), and what is left is aborted;
   * `abort: true` aborts at once. What is just being opened fails with `Closed/OWNER_ENDED`. Resolves when every descriptor
   * has been given back, for which a peer may let us wait that does not close its side either.
   */
  async end(o: { within?: number | undefined; abort?: boolean | undefined } = {}): Promise<EndReport> {
    refuseUnknown(o, ['within', 'abort'], 'end')
    const timeout = milliseconds('within', o.within ?? this.shared.limits.lingerTime)
    if (o.abort !== undefined) flag('abort', o.abort)
    if (this.#ended === undefined) {
      this.#ended = new Closed('OWNER_ENDED', `the owner ${this.name} has ended`)
      this.#controller?.abort(this.#ended)
    }
    const end = (member: Member): Promise<CloseReport> => {
      if (!o.abort) return member.close({ timeout })
      member.abort(this.#ended)
      return Promise.resolve(ABORTED)
    }
    const own = [...this.#members.values()]
    const listeners = this.#listeners().map(end)
    const nested = this.owners().map(async (owner) => ({ name: owner.name, ...(await owner.end(o)) }))
    const ending = own.filter(({ kind }) => kind !== 'listener').map(end)
    const reports = await Promise.all([...listeners.slice(0, own.length - ending.length), ...ending])
    const owners = await Promise.all(nested)
    if (this.#members.size + this.#nested.size > 0) await new Promise<void>((resolve) => this.#idle.push(resolve))
    const parent = this.#parent
    if (parent !== undefined && parent.#nested.delete(this)) parent.#left()
    const sum = (own: number, of: (report: EndReport) => number) => owners.reduce((total, report) => total + of(report), own)
    const aborted = reports.filter(isOurDoing).length
    return {
      closed: sum(reports.length - aborted, ({ closed }) => closed),
      aborted: sum(aborted, (report) => report.aborted),
      ...(owners.length > 0 && { owners }),
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end()
  }

  /** Its listeners, its own before those of nested owners. */
  #listeners(): Member[] {
    const own = [...this.#members.values()].filter(({ kind }) => kind === 'listener')
    return [...own, ...this.owners().flatMap((owner) => owner.#listeners())]
  }

  /** Throws `Closed` once the owner has ended. @internal */
  mustLive(facts: ErrorFacts = {}): void {
    if (this.#ended !== undefined) throw again(this.#ended, facts)
  }

  /**
   * Opens something in the name of this owner: `open` is given a wait that ends with the owner, too.
   *
   * @internal
   */
  async opening<T>(o: Wait, facts: ErrorFacts, open: (wait: Wait) => Promise<T>): Promise<T> {
    const { timeout, deadline, signal } = o
    if (signal !== undefined && signal !== null && !(signal instanceof AbortSignal)) throw invalidType('signal', 'an AbortSignal', signal)
    this.mustLive(facts)
    const sources = signal ? [signal, this.signal] : []
    const both = signal && new AbortController()
    const follow = () => both?.abort(sources.find(({ aborted }) => aborted)?.reason)
    // Node 20 would take the eleventh dial under one signal for a leak, and say so.
    if (signal) setMaxListeners(0, ...sources)
    for (const source of sources) source.addEventListener('abort', follow)
    if (signal?.aborted) follow()
    try {
      return await open({ timeout, deadline, signal: both?.signal ?? this.signal })
    } catch (error) {
      if (this.#ended === undefined) throw error
      // Cancelled by the end of the owner, or too late for it, which is what to say.
      if (error instanceof Cancelled && error.cause === this.#ended) {
        const { op: _op, code: _code, ...known } = error
        throw again(this.#ended, { ...known, ...facts })
      }
      throw error instanceof Closed && originOf(error) === this.#ended ? again(this.#ended, facts) : error
    } finally {
      for (const source of sources) source.removeEventListener('abort', follow)
    }
  }

  /** Registers a socket that was just opened or is moved here. Throws `Closed` when the owner has ended. @internal */
  add(member: Member): void {
    this.mustLive()
    this.#members.set(member.id, member)
  }

  /** Forgets a socket whose descriptor was given back, or that `moved` to another owner. @internal */
  remove(member: Member, moved: boolean): void {
    // An error that it keeps has the object that users have in its stack, so nothing of either would ever be garbage.
    if (!moved && !member.holds) LOST.unregister(member)
    // After an upgrade another has its number.
    if (this.#members.get(member.id) === member) this.#members.delete(member.id)
    this.#left()
  }

  #left(): void {
    if (this.#members.size + this.#nested.size === 0) for (const fn of this.#idle.splice(0)) fn()
  }
}

const ABORTED: CloseReport = Object.freeze({ clean: false, unsent: 0, reason: new Closed('OWNER_ENDED', CODES.Closed.OWNER_ENDED) })

function isOurDoing({ clean, reason }: CloseReport): boolean {
  return !clean && reason !== undefined && reason.name !== 'Broken'
}

function faceOf({ face }: Member): Owned | undefined {
  return face instanceof WeakRef ? face.deref() : face
}

/**
 * What every `moveTo` does: checks everything, and only then rebinds.
 *
 * @throws TypeError for what is no owner, RangeError for an owner of another network, `Closed` and `Broken` for a socket that
 *   is over, `Busy` while `pending`, which the user started, is under way, `Closed/OWNER_ENDED` for an owner that has ended
 */
export function move(member: Member, to: Owner, pending: string | undefined): void {
  const from = member.owner
  const { shared } = from
  if (!(to instanceof Owner)) throw invalidType('owner', 'an Owner', to)
  if (to.shared !== shared) throw outOfRange('owner', `one of the socket's own network, whose clock and limits hold for it`, to.name)
  if (member.over !== undefined) throw again(member.over, { op: 'moveTo' })
  if (pending !== undefined) throw new Busy('BUSY', `${CODES.Busy.BUSY}: moveTo while ${pending} is pending`, { op: 'moveTo' })
  to.mustLive({ op: 'moveTo' })
  if (to === from) return
  // In this order: `remove` may be the last thing that the end of the old owner waits for.
  to.add(member)
  member.owner = to
  from.remove(member, true)
  tell(shared, { type: 'move', id: member.id, from: from.name, to: to.name })
}

/** Where the sockets that are watched were opened, where `trace.recordOrigins` asked for it. */
const PLACES: WeakMap<Member, string> = new WeakMap()

/** Where something is being opened now, if the trace wants to know; to be asked before the first `await`. */
export function placeOf({ trace }: Shared): string | undefined {
  if (!trace.recordOrigins) return undefined
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = DEEP
  const frames = (new Error('opened').stack ?? '').split('\n').slice(1)
  Error.stackTraceLimit = stackTraceLimit
  const theirs = frames.filter((frame) => !frame.includes(HERE) && !frame.includes('node:internal'))
  return (theirs.length > 0 ? theirs : frames).map((frame) => frame.trim()).join('\n')
}

const DEEP = 50
/** The files of this package. */
const HERE = new URL('.', import.meta.url).href

/** Closes sockets whose objects nobody has any more. */
const LOST: FinalizationRegistry<Member> = new FinalizationRegistry(lost)

/** From now on the socket is closed when its object, which a user was given, is garbage. */
export function guard(member: Member, where: string | undefined): void {
  const { face } = member
  if (where !== undefined) PLACES.set(member, where)
  if (face instanceof WeakRef) return
  LOST.register(face, member, member)
  member.face = new WeakRef(face)
}

function lost(member: Member): void {
  // What it has received and nobody will read is no longer held.
  if (member.over !== undefined) return void member.close()
  // What is under way goes on; a fresh piece of garbage has this looked at again at the next collection.
  if (member.pending !== undefined) return LOST.register({}, member, member)
  const where = PLACES.get(member)
  tell(member.owner.shared, { type: 'abandoned', kind: member.kind, id: member.id, ...(where !== undefined && { where }) })
  void member.close()
}

let ofModule: (() => Owner) | undefined

/** The owner of what is opened without one: the default network, which says so when it is first needed. @internal */
export function defaultOwner(): Owner {
  if (ofModule === undefined) throw new Error('there is no default network: import the package through its main door')
  return ofModule()
}

/** @internal called by network.ts, which makes the default network */
export function setDefaultOwner(make: () => Owner): void {
  ofModule = make
}
