/**
 * Datagrams inside the process: sockets on IP addresses with ports and on UNIX-domain names, found only through the same
 * driver. Delivery, sharing of ports, groups and refusals are those of Linux; nothing is lost on the way, repeated or put
 * out of order, but for what does not fit the receiver's queue. Over a UNIX-domain name a full queue makes the sender wait.
 */

import { type Address, type IpAddress, ipBytes, sameAddress } from '../address.js'
import type { BindSettings, DatagramHandle, OptionHandle, RawDatagram, StreamEvents } from '../driver.js'
import { DynamicPorts, failure, isWildcard, keyOf, Named, soon } from './memory-machine.js'
import { DatagramQueue } from './queue.js'
import { Remembered } from './remembered.js'

const EVERYBODY = '255.255.255.255'

type Done = (error?: unknown) => void

/** A datagram under way. */
interface Letter {
  readonly data: Uint8Array
  readonly to: Address
  readonly done: Done
}

function isGroup(address: string): boolean {
  const bytes = ipBytes(address)
  return bytes !== undefined && (bytes.length === 4 ? (bytes[0] as number) >> 4 === 0xe : bytes[0] === 0xff)
}

/** The address that a packet to `to` comes from where the sender did not choose one. */
function sourceFor(to: IpAddress): string {
  if (to.family === 'ipv6') return isGroup(to.address) ? '::1' : to.address
  return to.address.startsWith('127.') || isGroup(to.address) || to.address === EVERYBODY ? '127.0.0.1' : to.address
}

/** The sockets of one machine. */
export class MemoryDatagrams {
  /** Bytes of a socket on their way. */
  readonly capacity: number
  readonly #isLocal: (address: string) => boolean
  /** By port or UNIX-domain name, in the order they were bound. */
  readonly #bound: Named<string | number, MemoryDatagram> = new Named()
  readonly #ports: DynamicPorts = new DynamicPorts()

  /** @param capacity bytes a socket has on their way before its sender waits; one datagram always fits */
  constructor(capacity: number, isLocal: (address: string) => boolean) {
    this.capacity = capacity
    this.#isLocal = isLocal
  }

  bind(at: Address, settings: BindSettings): DatagramHandle {
    if (settings.type !== 'datagram')
      throw failure('UNSUPPORTED', 'bind', 'the memory driver has no sequenced packets; the kernel driver has')
    const { to } = settings
    let local = at
    if (local.family !== 'unix') {
      if (!this.#isLocal(local.address) && !isGroup(local.address)) throw failure('EADDRNOTAVAIL', 'bind', keyOf(local))
      if (to !== undefined && to.family !== 'unix') {
        this.#mustReach(to)
        if (to.address === EVERYBODY && settings.options.get('broadcast') !== true) throw broadcastRefused('connect', to)
        // As a system does that looks up the route.
        if (isWildcard(local.address)) local = { ...local, family: to.family, address: sourceFor(to) }
      }
      if (local.port === 0) local = { ...local, port: this.#ports.next((port) => !this.#bound.has(port), 'EADDRINUSE') }
    } else if (to !== undefined && this.#named(to) === undefined) {
      throw failure(to.family === 'unix' && to.abstract ? 'ECONNREFUSED' : 'ENOENT', 'connect', keyOf(to))
    }
    const socket = new MemoryDatagram(this, Object.freeze({ ...local }), settings)
    const name = nameOf(local)
    if (name !== '') {
      if (this.#bound.get(name).some((other) => collide(socket, other))) throw failure('EADDRINUSE', 'bind', keyOf(local))
      this.#bound.add(name, socket)
    }
    return socket
  }

  leave(socket: MemoryDatagram): void {
    this.#bound.remove(nameOf(socket.local), socket)
  }

  #mustReach(to: IpAddress): void {
    if (!this.#isLocal(to.address) && !isGroup(to.address) && to.address !== EVERYBODY) throw failure('ENETUNREACH', 'send', keyOf(to))
  }

  /** The socket of a UNIX-domain name. */
  #named(to: Address): MemoryDatagram | undefined {
    return this.#bound.get(nameOf(to))[0]
  }

  /** Whom a sender to a UNIX-domain name has to wait for; undefined: nobody. */
  fullAt(to: Address): MemoryDatagram | undefined {
    const socket = to.family === 'unix' ? this.#named(to) : undefined
    return socket?.full ? socket : undefined
  }

  /** Throws what a system says at once. */
  check(from: MemoryDatagram, to: Address): void {
    if (to.family === 'unix') {
      const peer = this.#named(to)
      if (peer === undefined) throw failure(to.abstract || from.remote ? 'ECONNREFUSED' : 'ENOENT', 'send', keyOf(to))
      // unix(7): a connected socket takes datagrams from its peer alone, and senders are told.
      if (peer.remote !== undefined && !sameAddress(peer.remote, from.local)) throw failure('EPERM', 'send', `${keyOf(to)} is connected`)
      return
    }
    this.#mustReach(to)
    if (to.address === EVERYBODY && from.options.get('broadcast') !== true) throw broadcastRefused('send', to)
  }

  /** Gives a datagram to everybody it is for; whether there was anybody. */
  deliver(from: MemoryDatagram, { data, to }: Letter): boolean {
    if (to.family === 'unix') {
      this.#named(to)?.take({ data, from: from.local, truncated: false })
      return true
    }
    const sender = { ...(from.local as IpAddress), family: to.family }
    if (isWildcard(sender.address)) sender.address = sourceFor(to)
    const datagram = { data, from: Object.freeze(sender), truncated: false, to }
    const here = this.#bound.get(to.port).filter((socket) => socket.hears(to, sender))
    if (isGroup(to.address) || to.address === EVERYBODY) {
      const looped = from.options.get('multicastLoopback') !== false || to.address === EVERYBODY
      for (const socket of looped ? here : []) socket.take({ ...datagram, data: new Uint8Array(data) })
      return true
    }
    // The most exact; of those, one by the sender where they share the port, the last one bound where they reuse it.
    const best = Math.max(...here.map((socket) => socket.exactness))
    const fit = here.filter((socket) => socket.exactness === best)
    const one = fit[0]?.settings.reusePort ? fit[sender.port % fit.length] : fit.at(-1)
    one?.take(datagram)
    return one !== undefined
  }
}

function broadcastRefused(op: string, to: Address): Error {
  return failure('EACCES', op, `${keyOf(to)} is a broadcast, and the option broadcast is off`)
}

function nameOf(address: Address): string | number {
  if (address.family !== 'unix') return address.port
  return address.path === '' ? '' : keyOf(address)
}

/** Whether two sockets of one port or name cannot both be. */
function collide(one: MemoryDatagram, other: MemoryDatagram): boolean {
  if (one.local.family === 'unix' || other.local.family === 'unix') return true
  const { settings: a } = one
  const { settings: b } = other
  if ((a.reuseAddress && b.reuseAddress) || (a.reusePort && b.reusePort)) return false
  if (one.local.address === other.local.address) return true
  const families = one.local.family === other.local.family || one.isDual || other.isDual
  return families && (isWildcard(one.local.address) || isWildcard(other.local.address))
}

const FIXED: readonly [string, unknown][] = [
  ['reuseAddress', false],
  ['reusePort', false],
  ['ipv6Only', false],
  ['type', 'datagram'],
  ['protocol', 'udp'],
]
const SETTABLE: readonly [string, unknown][] = [
  ['sendBuffer', 212_992],
  ['receiveBuffer', 212_992],
  ['ttl', 64],
  ['typeOfService', 0],
  ['multicastTtl', 1],
  ['multicastLoopback', true],
  ['multicastInterface', ''],
  ['broadcast', false],
]
const SETTABLE_NAMES: ReadonlySet<string> = new Set(SETTABLE.map(([name]) => name))

class MemoryDatagram implements DatagramHandle {
  readonly local: Address
  readonly remote: Address | undefined
  readonly settings: BindSettings
  readonly options: OptionHandle
  readonly #machine: MemoryDatagrams
  readonly #queue: DatagramQueue
  /** Groups that were joined, by interface, and the senders they were joined for: undefined is all of them. */
  readonly #groups: Map<string, Map<string | undefined, Set<string | undefined>>> = new Map()
  readonly #underWay: Letter[] = []
  #bytesUnderWay = 0
  /** Senders that wait for room in the queue. */
  readonly #starved: Set<MemoryDatagram> = new Set()
  #events: StreamEvents | undefined
  #error: Error | undefined
  #wantsWrite = false
  #readableDue = false
  #closed = false

  constructor(machine: MemoryDatagrams, local: Address, settings: BindSettings) {
    this.#machine = machine
    this.local = local
    this.remote = settings.to
    this.settings = settings
    const protocol: [string, unknown][] = local.family === 'unix' ? [['protocol', 'unix']] : []
    this.options = new Remembered(new Map([...FIXED, ...SETTABLE, ...settings.options, ...protocol]), SETTABLE_NAMES)
    this.#queue = new DatagramQueue(settings.queue, settings.held)
  }

  get dropped(): number {
    return this.#queue.dropped
  }

  get full(): boolean {
    return this.#queue.length >= this.settings.queue.count
  }

  get isDual(): boolean {
    return this.local.family === 'ipv6' && this.local.address === '::' && !this.settings.ipv6Only
  }

  /** Whether a datagram to `to` is for this socket, which has its port. */
  hears(to: IpAddress, from: IpAddress): boolean {
    const { local, remote } = this
    if (local.family === 'unix' || remote?.family === 'unix') return false
    if (remote !== undefined && (remote.port !== from.port || remote.address !== from.address)) return false
    if (isGroup(to.address)) {
      const joined = [...(this.#groups.get(to.address)?.values() ?? [])]
      if (!joined.some((sources) => sources.has(undefined) || sources.has(from.address))) return false
    }
    if (to.address === EVERYBODY) return isWildcard(local.address) && (local.family === 'ipv4' || this.isDual)
    if (local.address === to.address) return true
    return isWildcard(local.address) && (local.family === to.family || this.isDual)
  }

  /** How well it fits what it hears. */
  get exactness(): number {
    const { local, remote } = this
    return (remote === undefined ? 0 : 4) + (local.family !== 'unix' && isWildcard(local.address) ? 0 : 2) + (this.isDual ? 0 : 1)
  }

  take(datagram: RawDatagram): void {
    this.#queue.push(datagram)
    this.#readable()
  }

  attach(events: StreamEvents): void {
    this.#events = events
    if (this.#queue.length > 0 || this.#error !== undefined) this.#readable()
  }

  receive(): RawDatagram | undefined {
    if (this.#error !== undefined) throw this.#reported()
    const datagram = this.#queue.shift()
    if (datagram !== undefined && this.#starved.size > 0) {
      for (const sender of this.#starved) sender.#writable()
      this.#starved.clear()
    }
    return datagram
  }

  #reported(): Error | undefined {
    const error = this.#error
    this.#error = undefined
    return error
  }

  send(data: Uint8Array, to: Address | undefined, done: Done): boolean {
    const target = to ?? this.remote
    if (this.#error !== undefined) {
      done(this.#reported())
      return true
    }
    try {
      if (this.#closed) throw failure('EBADF', 'send', 'the handle was closed')
      if (target === undefined) throw failure('EDESTADDRREQ', 'send', 'no address')
      this.#machine.check(this, target)
    } catch (error) {
      done(error)
      return true
    }
    const full = this.#machine.fullAt(target)
    if (full !== undefined) full.#starved.add(this)
    if (full !== undefined || (this.#underWay.length > 0 && this.#bytesUnderWay + data.length > this.#machine.capacity)) {
      this.#wantsWrite = true
      return false
    }
    const letter = { data: new Uint8Array(data), to: target, done }
    if (target.family === 'unix') {
      this.#machine.deliver(this, letter)
      done()
      return true
    }
    this.#bytesUnderWay += data.length
    if (this.#underWay.push(letter) === 1) soon(this.#flush)
    return true
  }

  readonly #flush = (): void => {
    const letters = this.#underWay.splice(0)
    this.#bytesUnderWay = 0
    for (const letter of letters) {
      if (!this.#machine.deliver(this, letter) && this.remote !== undefined && !this.#closed) {
        this.#error = failure('ECONNREFUSED', 'recv', `nobody receives at ${keyOf(letter.to)}`)
        this.#readable()
      }
      letter.done()
    }
    if (this.#wantsWrite) this.#writable()
  }

  join(group: string, at: string | undefined, source: string | undefined): void {
    const joined = this.#groups.get(group) ?? new Map<string | undefined, Set<string | undefined>>()
    const sources = joined.get(at) ?? new Set()
    if (sources.has(source)) throw failure('EADDRINUSE', 'join', `${group} was joined already`)
    if (sources.size > 0 && (source === undefined || sources.has(undefined)))
      throw failure('EINVAL', 'join', `${group} was joined otherwise`)
    this.#groups.set(group, joined.set(at, sources.add(source)))
  }

  leave(group: string, at: string | undefined, source: string | undefined): void {
    const joined = this.#groups.get(group)
    const sources = joined?.get(at)
    if (!sources?.delete(source)) throw failure('EADDRNOTAVAIL', 'leave', `${group} was not joined`)
    if (sources.size === 0) joined?.delete(at)
    if (joined?.size === 0) this.#groups.delete(group)
  }

  close(done: () => void): void {
    if (!this.#closed) {
      this.#closed = true
      this.#events = undefined
      this.#queue.clear()
      this.#machine.leave(this)
      for (const sender of this.#starved) sender.#writable()
      this.#starved.clear()
    }
    // Behind what is under way.
    soon(done)
  }

  // Nothing outside the process can wake a socket inside it, so it never keeps the process alive.
  ref(): void {}
  unref(): void {}

  #readable(): void {
    if (this.#readableDue || this.#events === undefined) return
    this.#readableDue = true
    soon(this.#tellReadable)
  }

  readonly #tellReadable = (): void => {
    this.#readableDue = false
    this.#events?.readable()
  }

  #writable(): void {
    this.#wantsWrite = false
    soon(() => this.#events?.writable())
  }
}
