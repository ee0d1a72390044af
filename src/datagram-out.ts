/** The sending half of a datagram socket: whole datagrams, in order, no more under way than the limit. */

import {
  type Address,
  addressOf,
  type Endpoint,
  endpointOf,
  formatAddress,
  formatEndpoint,
  type IpEndpoint,
  isUnixEndpoint,
  type ParsedEndpoint,
  parseEndpoint,
  sameAddress,
  type Transport,
} from './address.js'
import { bytesOf } from './bytes.js'
import type { DatagramInbound, DatagramSide } from './datagram-in.js'
import { arm, didMany, refusePast, shouldYield, spanning, turn, within } from './deadline.js'
import type { DatagramHandle } from './driver.js'
import { AddressError, again, CODES, type CodeOf, type ErrorFacts, invalidType, show, SocketError, SystemFailure } from './errors.js'
import { handled, ignore } from './settle.js'
import { enforce, type PolicyFunction } from './policy.js'
import { type Resolver, resolveEndpoint } from './resolve.js'
import type { Bytes, Wait } from './stream.js'

/** One message to send: to the peer of a connected socket where `to` is absent. */
export interface Outgoing {
  data: Bytes | string
  to?: Endpoint | Address | undefined
}

/** What sending needs to know of how the socket came to be. */
export interface Route {
  readonly transport: Transport
  readonly ipv6Only: boolean
  readonly resolver: Resolver
  readonly policy: PolicyFunction | undefined
}

/** The longest payload: 65,535 bytes less the headers of IPv4 and UDP, or of UDP alone, as IPv6 does not count its own. */
const LONGEST = { ipv4: 65_507, ipv6: 65_527, unix: Number.POSITIVE_INFINITY }
/** Sends that `sendMany` has under way. */
const BATCH = 64
/** Datagrams that are given to a driver together. */
const TOGETHER = 256
const NOTHING: Uint8Array = new Uint8Array(0)
const DONE: Promise<void> = Promise.resolve()

/** One of those that are given to the driver together; used again for the next ones. */
interface Place {
  data: Uint8Array
  to: Address | undefined
}

function mustBeOutgoing(outgoing: unknown): void {
  if (typeof outgoing !== 'object' || outgoing === null) throw invalidType('a datagram of the batch', 'an object with data', outgoing)
}

/** A datagram on its way out. Mostly it is settled before anybody could ask for a promise. */
class Sending {
  readonly bytes: Uint8Array
  readonly to: Address | undefined
  readonly op: string
  disarm: (() => void) | undefined
  /** The driver has it. */
  taken = false
  over = false
  error: SocketError | undefined
  #promise: Promise<void> | undefined
  #resolve: () => void = ignore
  #reject: (error: unknown) => void = ignore

  constructor(bytes: Uint8Array, to: Address | undefined, op: string) {
    this.bytes = bytes
    this.to = to
    this.op = op
  }

  get promise(): Promise<void> {
    this.#promise = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    return this.#promise
  }

  /** Its rejection is pre-handled: who sends and forgets must not die of it. */
  settle(error: SocketError | undefined): void {
    this.over = true
    this.error = error
    this.disarm?.()
    if (error === undefined) return this.#resolve()
    this.#promise?.catch(ignore)
    this.#reject(error)
  }
}

export class DatagramOutbound {
  datagramsWritten = 0
  bytesWritten = 0
  /** Bytes of all sends that have not settled, and of those the driver has. */
  unsent = 0
  #flying = 0
  readonly #handle: DatagramHandle
  readonly #side: DatagramSide
  readonly #route: Route
  readonly #in: DatagramInbound
  /** What was sent to last, as it was spelled and as the address it is: both need no check. */
  #asked: unknown
  #reached: Address | undefined
  #places: Place[] | undefined
  /** Sends the driver has not taken, in order. */
  readonly #queue: Set<Sending> = new Set()
  /** The driver takes nothing until it says so. */
  #blocked = false
  #moving = false
  #stopBudget: (() => void) | undefined
  readonly #waiters: Set<() => void> = new Set()
  /** What is under way outside of the socket, a look-up or a batch that is being made: what refuses it, and its verb. */
  readonly #errands: Map<(error: SocketError) => void, string> = new Map()
  #drained: (() => void) | undefined
  #rejected: Promise<never> | undefined

  constructor(handle: DatagramHandle, side: DatagramSide, route: Route, inbound: DatagramInbound) {
    this.#handle = handle
    this.#side = side
    this.#route = route
    this.#in = inbound
  }

  /** What a user started and has not come to its end. */
  get waiting(): string | undefined {
    if (this.unsent > 0 || this.#queue.size > 0) return 'send'
    return this.#waiters.size > 0 ? 'waitWritable' : this.#errands.values().next().value
  }

  /** Whether a send would be taken at once. */
  get ready(): boolean {
    return this.#queue.size === 0 && this.#room
  }

  send(data: Bytes | string, to: Endpoint | Address | undefined, o: Wait | undefined, op: string): Promise<void> {
    try {
      this.#side.mustLive(op)
      const bytes = bytesOf(data, 'data')
      const where = this.#where(to, op)
      return where !== undefined && 'transport' in where ? this.#sendNamed(bytes, where, o, op) : this.#submit(bytes, where, o, op)
    } catch (error) {
      return this.#reject(error)
    }
  }

  /** The address to send to, undefined for the peer of a connected socket, or the endpoint whose name has to be looked up. */
  #where(to: Endpoint | Address | undefined, op: string): Address | IpEndpoint | undefined {
    if (to !== undefined && to === this.#asked) {
      if (this.#reached !== undefined) this.#permit(this.#reached, op)
      return this.#reached
    }
    let address: Address | undefined
    if (to === undefined || this.#handle.remote !== undefined) this.#peer(to, op)
    else if (to === this.#in.heard) address = this.#in.heard
    else {
      const target = this.#target(to, op)
      if ('transport' in target) return target
      if (!this.fits(target)) throw this.#unfit(target, op)
      address = target
    }
    // What could be changed by its owner is looked at each time.
    if (typeof to === 'string' || (to !== undefined && Object.isFrozen(to))) [this.#asked, this.#reached] = [to, address]
    if (address !== undefined) this.#permit(address, op)
    return address
  }

  #reject(error: unknown): Promise<never> {
    return (this.#rejected = handled(Promise.reject<never>(error)))
  }

  #error(code: CodeOf<'SystemFailure'>, what: string, op: string): SystemFailure {
    return new SystemFailure(code, what, { ...this.#side.facts(op), phase: 'write', bytesWritten: 0 })
  }

  /** The peer of a connected socket, to whom the system sends when nobody is named. */
  #peer(to: Endpoint | Address | undefined, op: string): undefined {
    const { remote } = this.#handle
    if (remote === undefined) {
      const what = `${op} needs an address or an endpoint on a socket that is not connected`
      throw this.#error('EDESTADDRREQ', `${CODES.SystemFailure.EDESTADDRREQ}: ${what}`, op)
    }
    if (to === undefined || to === remote || to === this.#in.heard) return undefined
    const target = this.#target(to, op)
    const named = 'transport' in target
    if (!named && sameAddress(target, remote)) return undefined
    const text = named ? formatEndpoint(target) : formatAddress(target)
    throw this.#error('EISCONN', `${CODES.SystemFailure.EISCONN}: it sends to ${formatAddress(remote)}, got ${show(text)}`, op)
  }

  /** The address meant, or the endpoint whose name has to be looked up. */
  #target(to: Endpoint | Address, op: string): Address | IpEndpoint {
    const { transport } = this.#route
    const facts: ErrorFacts = { ...this.#side.facts(op), phase: 'write' }
    const isAddress = typeof to === 'object' && to !== null && 'family' in to
    let endpoint: ParsedEndpoint
    try {
      // An address is checked like the endpoint it is.
      endpoint = isAddress ? endpointOf(to, transport) : parseEndpoint(to)
    } catch (error) {
      throw error instanceof AddressError ? again(error, facts) : error
    }
    const text = formatEndpoint(endpoint)
    const bad = (code: CodeOf<'AddressError'>, what: string, expected: string) =>
      new AddressError(code, `${what} in ${show(text)}: expected ${expected}`, facts)
    if (endpoint.transport !== transport) throw bad('BAD_SCHEME', `bad scheme ${show(endpoint.transport)}`, `${transport}:`)
    if (!isUnixEndpoint(endpoint)) {
      if (endpoint.port === 0) throw bad('BAD_PORT', 'bad port 0', '1 to 65535')
      if (endpoint.host === undefined) throw bad('BAD_HOST', 'no host', 'a name or an address')
    }
    const address = addressOf(endpoint)
    if (isAddress && address?.family !== to.family)
      throw bad('BAD_HOST', 'bad host', `an address of the family ${show(to.family)}, as the object says`)
    return address ?? (endpoint as IpEndpoint)
  }

  /** A socket of one family cannot reach the other; one of both reaches IPv4 from all of its addresses. */
  fits(address: Address): boolean {
    const { local } = this.#handle
    if (address.family === local.family) return true
    return address.family === 'ipv4' && local.family === 'ipv6' && local.address === '::' && !this.#route.ipv6Only
  }

  #unfit(address: Address, op: string): SystemFailure {
    return this.#error('EAFNOSUPPORT', `a socket bound to ${formatAddress(this.#handle.local)} cannot reach ${formatAddress(address)}`, op)
  }

  #permit(address: Address, op: string, named?: IpEndpoint): void {
    const { policy, transport } = this.#route
    if (policy === undefined) return
    const endpoint = named ?? endpointOf(address, transport)
    enforce(policy, { direction: 'connect', endpoint, address, ...(named && { name: named.host as string }) }, this.#side.facts(op))
  }

  #sendNamed(bytes: Uint8Array, endpoint: IpEndpoint, o: Wait | undefined, op: string): Promise<void> {
    const left = spanning(o, this.#side.shared.clock)
    return handled(this.#lookUp(endpoint, o, op).then((address) => this.#submit(bytes, address, left(), op)))
  }

  async #lookUp(endpoint: IpEndpoint, o: Wait | undefined, op: string): Promise<Address> {
    const { policy, resolver } = this.#route
    const host = endpoint.host as string
    const facts: ErrorFacts = { ...this.#side.facts(op), endpoint: formatEndpoint(endpoint) }
    enforce(policy, { direction: 'connect', endpoint, name: host }, facts)
    const ask = (signal: AbortSignal) => resolveEndpoint({ ...endpoint, host }, resolver, { signal }, facts)
    const found = await this.#outside(op, ask, o, () => ({ ...facts, phase: 'resolve' }))
    let refusal: unknown
    for (const address of found.filter((one) => this.fits(one))) {
      try {
        this.#permit(address, op, endpoint)
        return address
      } catch (error) {
        refusal ??= error
      }
    }
    throw refusal ?? this.#unfit(found[0] as Address, op)
  }

  /** Waits for what is not up to the socket, until `o` ends or the socket does. */
  async #outside<T>(op: string, begin: (nobodyWaits: AbortSignal) => Promise<T>, o: Wait | undefined, facts: () => ErrorFacts): Promise<T> {
    const nobodyWaits = new AbortController()
    let refuse!: (error: SocketError) => void
    const refused = new Promise<never>((_, reject) => {
      refuse = (error) => reject(again(error, facts()))
    })
    this.#errands.set(refuse, op)
    try {
      return await within(Promise.race([begin(nobodyWaits.signal), refused]), o, this.#side.shared.clock, facts)
    } finally {
      this.#errands.delete(refuse)
      nobodyWaits.abort()
    }
  }

  #mustFit(length: number, to: Address | undefined, op: string): void {
    const longest = LONGEST[(to ?? (this.#handle.remote as Address)).family]
    if (length > longest) throw this.#error('EMSGSIZE', `the datagram has ${length} bytes, the limit is ${longest}`, op)
  }

  #submit(bytes: Uint8Array, to: Address | undefined, o: Wait | undefined, op: string): Promise<void> {
    const { length } = bytes
    this.#mustFit(length, to, op)
    // A name may have been looked up meanwhile.
    this.#side.mustLive(op)
    const sending = new Sending(bytes, to, op)
    if (o !== undefined) sending.disarm = this.#arm(sending, o)
    this.#hold(length)
    if (this.#queue.size > 0 || !this.#room || !this.#hand(sending)) this.#queue.add(sending)
    // A runtime may say that it has sent in a callback, and yet before the loop turns.
    if (!sending.over) return shouldYield() ? handled(sending.promise.then(turn)) : sending.promise
    if (sending.error !== undefined) throw sending.error
    // A system that takes everything at once must not keep a loop of sends from letting others run.
    return shouldYield() ? turn() : DONE
  }

  #arm(sending: Sending, o: Wait): (() => void) | undefined {
    const facts = () => ({ ...this.#side.facts(sending.op), bytesWritten: sending.taken ? sending.bytes.length : 0 })
    return arm(o, this.#side.shared.clock, facts, (error) => {
      sending.settle(error)
      // What the driver has cannot be taken back, and is accounted for when it is done with.
      if (!this.#queue.delete(sending)) return
      this.#hold(-sending.bytes.length)
      this.#moved()
    })
  }

  #hold(change: number): void {
    this.unsent += change
    this.#side.shared.budget.change(change)
  }

  get #room(): boolean {
    if (this.#blocked) return false
    if (this.#flying === 0) return true
    const { budget, limits } = this.#side.shared
    if (this.#flying >= limits.unsent) return false
    if (!budget.full) return true
    this.#stopBudget ??= budget.whenFree(() => {
      this.#stopBudget = undefined
      this.#moved()
    })
    return false
  }

  /** Gives a datagram to the driver; whether it took it. */
  #hand(sending: Sending): boolean {
    const { length } = sending.bytes
    sending.taken = true
    this.#flying += length
    if (this.#handle.send(sending.bytes, sending.to, (error) => this.#done(sending, error))) return true
    sending.taken = false
    this.#flying -= length
    this.#blocked = true
    return false
  }

  #done(sending: Sending, error: unknown): void {
    const { length } = sending.bytes
    this.#flying -= length
    this.#hold(-length)
    if (error === undefined || error === null) {
      this.datagramsWritten++
      this.bytesWritten += length
      sending.settle(undefined)
    } else sending.settle(this.#side.failure(error, sending.op, 'write'))
    if (this.#queue.size > 0 || this.#waiters.size > 0) this.#moved()
  }

  writable(): void {
    this.#blocked = false
    this.#moved()
  }

  /** Gives the driver what it takes, and tells those who wait for room. */
  #moved(): void {
    if (this.#moving) return
    this.#moving = true
    for (const sending of this.#queue) {
      // It stays where it is until the driver has it, which may say so at once.
      if (!this.#room || !this.#hand(sending)) break
      this.#queue.delete(sending)
    }
    this.#moving = false
    if (this.#queue.size === 0) this.#drained?.()
    if (this.ready) for (const fn of [...this.#waiters]) fn()
    this.#side.changed()
  }

  sendMany(batch: Iterable<Outgoing> | AsyncIterable<Outgoing>, o: Wait | undefined): Promise<number> {
    return handled(this.#sendAll(batch, o))
  }

  async #sendAll(batch: Iterable<Outgoing> | AsyncIterable<Outgoing>, o: Wait | undefined): Promise<number> {
    const facts = () => ({ ...this.#side.facts('sendMany'), datagramsWritten: 0 })
    const { refusal, shared } = this.#side
    const { clock } = shared
    if (refusal !== undefined) throw again(refusal, facts())
    refusePast(o, clock, facts)
    const left = spanning(o, clock)
    const tally = { sent: 0 }
    const under: Promise<void>[] = []
    const settle = async () => {
      let failed: { readonly error: unknown } | undefined
      for (const promise of under.splice(0)) {
        try {
          await promise
          tally.sent++
        } catch (error) {
          failed ??= { error }
        }
      }
      if (failed !== undefined) throw failed.error
    }
    const one = (outgoing: Outgoing) => {
      mustBeOutgoing(outgoing)
      const promise = this.send(outgoing.data, outgoing.to, left(), 'sendMany')
      if (promise === DONE) return void tally.sent++
      under.push(promise)
      return under.length >= BATCH || this.#queue.size > 0 || promise === this.#rejected ? settle() : undefined
    }
    const pending = () => {}
    this.#errands.set(pending, 'sendMany')
    try {
      const isSync = Symbol.iterator in Object(batch)
      if (isSync && this.#handle.sendMany !== undefined) {
        await this.#sendTogether(batch as Iterable<Outgoing>, left, tally)
      } else if (isSync) {
        for (const outgoing of batch as Iterable<Outgoing>) {
          const settling = one(outgoing)
          if (settling !== undefined) await settling
          if (shouldYield()) await turn()
        }
      } else if (Symbol.asyncIterator in Object(batch)) {
        await this.#each(batch as AsyncIterable<Outgoing>, one, left, facts)
      } else throw invalidType('batch', 'iterable', batch)
      if (under.length > 0) await settle()
      return tally.sent
    } catch (error) {
      if (!(error instanceof SocketError)) throw error
      await settle().catch(ignore)
      throw again(error, { op: 'sendMany', datagramsWritten: tally.sent })
    } finally {
      this.#errands.delete(pending)
    }
  }

  /** Gives the driver many at once; nothing is made for each of them. */
  async #sendTogether(batch: Iterable<Outgoing>, left: () => Wait | undefined, tally: { sent: number }): Promise<void> {
    // Another batch may be waiting with those of this socket.
    const places = this.#places ?? []
    this.#places = undefined
    const list: Place[] = []
    try {
      for (const outgoing of batch) {
        mustBeOutgoing(outgoing)
        const data = bytesOf(outgoing.data, 'data')
        let where = this.#where(outgoing.to, 'sendMany')
        if (where !== undefined && 'transport' in where) where = await this.#lookUp(where, left(), 'sendMany')
        this.#mustFit(data.length, where, 'sendMany')
        const place = (places[list.length] ??= { data, to: where })
        place.data = data
        place.to = where
        if (list.push(place) < TOGETHER) continue
        await this.#handTogether(list, left, tally)
        list.length = 0
        didMany()
        if (!shouldYield()) continue
        await turn()
        refusePast(left(), this.#side.shared.clock, () => this.#side.facts('sendMany'))
      }
    } catch (error) {
      // What came before it is sent first.
      if (list.length < TOGETHER) await this.#handTogether(list, left, tally)
      throw error
    }
    await this.#handTogether(list, left, tally)
    for (const place of places) place.data = NOTHING
    this.#places = places
  }

  async #handTogether(list: readonly Place[], left: () => Wait | undefined, tally: { sent: number }): Promise<void> {
    for (let first = 0; first < list.length;) {
      if (!this.ready) await this.waitWritable(left())
      this.#side.mustLive('sendMany')
      let taken: number
      try {
        taken = this.#handle.sendMany?.(list, first) ?? 0
      } catch (error) {
        throw this.#side.failure(error, 'sendMany', 'write')
      }
      this.#blocked = taken === 0
      this.datagramsWritten += taken
      tally.sent += taken
      for (const end = first + taken; first < end; first++) this.bytesWritten += (list[first] as Place).data.length
    }
  }

  /** `for await`, but that a step which does not come is given up. */
  async #each(
    batch: AsyncIterable<Outgoing>,
    one: (outgoing: Outgoing) => unknown,
    left: () => Wait | undefined,
    facts: () => ErrorFacts,
  ): Promise<void> {
    const iterator = batch[Symbol.asyncIterator]()
    try {
      for (;;) {
        const { done, value } = await this.#outside('sendMany', async () => iterator.next(), left(), facts)
        if (done) return
        await one(value)
      }
    } catch (error) {
      // A generator answers behind its step, which may never come.
      void (async () => iterator.return?.())().catch(ignore)
      throw error
    }
  }

  waitWritable(o: Wait | undefined): Promise<void> {
    const facts = () => this.#side.facts('waitWritable')
    return new Promise((resolve, reject) => {
      this.#side.mustLive('waitWritable')
      const give = () => {
        this.#waiters.delete(give)
        disarm?.()
        const { refusal } = this.#side
        if (refusal === undefined) resolve()
        else reject(again(refusal, facts()))
      }
      const disarm = arm(o, this.#side.shared.clock, facts, (error) => {
        this.#waiters.delete(give)
        reject(error)
      })
      this.#waiters.add(give)
      if (this.ready) give()
    })
  }

  /** From now on everything is refused: wakes what waits. What was accepted stays to be sent. */
  refuse(error: SocketError): void {
    for (const fn of [...this.#waiters]) fn()
    for (const refuse of [...this.#errands.keys()]) refuse(error)
  }

  /** Calls `fn` when the driver has everything. */
  whenDrained(fn: () => void): void {
    if (this.#queue.size === 0) fn()
    else this.#drained = fn
  }

  /** Gives up what the driver has not taken; how many bytes were not sent. */
  drop(reason: SocketError): number {
    const lost = this.unsent - this.#flying
    for (const sending of this.#queue) {
      this.#hold(-sending.bytes.length)
      sending.settle(again(reason, { ...this.#side.facts(sending.op), bytesWritten: 0 }))
    }
    this.#queue.clear()
    return lost
  }

  /** Nothing will be sent any more. */
  release(): void {
    this.#stopBudget?.()
  }
}
