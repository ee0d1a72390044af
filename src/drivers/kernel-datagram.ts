/**
 * Datagrams of the kernel driver: UDP and UNIX-domain sockets, by system calls.
 *
 * The queue is that of the system. What nobody asks for when it comes is taken over into ours, where the oldest gives way
 * to the newest, as everywhere in fairlead; the system itself would throw the newest away. UNIX sockets are left alone: there
 * a full queue makes the sender wait.
 */

import { type Address, formatAddress, type IpAddress, UNNAMED } from '../address.js'
import type { BindSettings, DatagramHandle, OptionHandle, OutgoingDatagram, RawDatagram, StreamEvents } from '../driver.js'
import { familyOf, Heard, readAddress, Spelled, writeAddress } from './kernel-address.js'
import { AT_ONCE, Inbox, Outbox } from './kernel-batch.js'
import { type Control, CONTROL, newControl, readControl } from './kernel-control.js'
import { refuseDescriptors } from './kernel-descriptors.js'
import { LAYOUTS, LINUX } from './kernel-layout.js'
import { interfaceOf, optionsOf } from './kernel-options.js'
import type { Place, Poll, Polled } from './kernel-poll.js'
import { Room } from './kernel-room.js'
import { intOption, setIntOption } from './kernel-socket.js'
import { EAGAIN, ECONNREFUSED, EINVAL, EIO, EMSGSIZE, must, systemError } from './kernel-system.js'
import { DatagramQueue } from './queue.js'
import { refusal } from './refusal.js'

const { EPOLLIN, EPOLLOUT, EPOLLET, EPOLLERR, EPOLLHUP, MSG_NOSIGNAL, MSG_TRUNC } = LINUX
const READABLE = EPOLLIN | EPOLLERR | EPOLLHUP
/** Not for being writable, unless it was not: a datagram socket tells of that whenever a datagram has left. */
const LISTENING = (EPOLLIN | EPOLLET) >>> 0
const WRITABLE = EPOLLOUT | EPOLLERR | EPOLLHUP
/** Datagrams up to this size are cheaper to copy than to point at, and some of them lie where V8 moves them. */
const SMALL = 4 * 1024
/** Times a datagram is sent again where the system answers with what it has heard about an earlier one. */
const AGAIN = 16
/** Datagrams taken over in one turn of the event loop, so that others get theirs. */
const AHEAD = 256
/** Names of interfaces that are kept. */
const MOST_INTERFACES = 64
/** Errors that wait to be told. */
const MOST_TROUBLES = 64
/** Datagrams taken at once where they are asked for one by one. */
const ROW = 16
/** Bytes that datagrams received together may have in common. */
const TOGETHER = 16 * 1024
/** Up to this size V8 has the bytes of an array in its own heap. */
const LEAST = 64
/** What the system cuts into datagrams: at most so many, and so many bytes (udp(7), UDP_SEGMENT). */
const SEGMENTS = 64
const SEGMENTED = 65_507
/** What fits every network: where not even this can be cut, nothing can. */
const SURELY = 1_200

/** What the system reported, of which datagram. */
interface TransportError extends NodeJS.ErrnoException {
  to?: Address
  /** This machine said so. */
  local?: boolean
  /** The largest packet that gets there. */
  mtu?: number
}

/** What the datagram sockets of one driver share. */
class Desk {
  readonly #poll: Poll
  readonly heard: Heard = new Heard()
  readonly control: Control = newControl()
  readonly #spelled: Map<number, Spelled> = new Map()
  readonly #interfaces: Map<number, string> = new Map()
  #inbox: Inbox | undefined
  #outbox: Outbox | undefined

  constructor(poll: Poll) {
    this.#poll = poll
  }

  get inbox(): Inbox {
    return (this.#inbox ??= new Inbox(this.#poll.system))
  }

  get outbox(): Outbox {
    return (this.#outbox ??= new Outbox(this.#poll.system))
  }

  /** The name of the interface with this number (netdevice(7)). */
  interfaceName(fd: number, index: number): string {
    let name = this.#interfaces.get(index)
    if (name === undefined) {
      const { ifr_name, ifr_ifindex, size } = LAYOUTS.ifreq
      const { option } = this.#poll.memory
      option.bytes.fill(0, 0, size)
      option.setInt(index, ifr_ifindex)
      const result = this.#poll.system.ioctl(fd, LINUX.SIOCGIFNAME, option.address)
      name = result < 0 ? String(index) : new TextDecoder().decode(option.bytes.slice(ifr_name, option.bytes.indexOf(0, ifr_name)))
      if (this.#interfaces.size >= MOST_INTERFACES) this.#interfaces.clear()
      this.#interfaces.set(index, name)
    }
    return name
  }

  spelled(family: number): Spelled {
    const known = this.#spelled.get(family) ?? new Spelled(this.#poll.system, family)
    this.#spelled.set(family, known)
    return known
  }
}

const desks = new WeakMap<Poll, Desk>()

function deskOf(poll: Poll): Desk {
  const desk = desks.get(poll) ?? new Desk(poll)
  desks.set(poll, desk)
  return desk
}

/** What a socket is made of. */
export interface DatagramParts {
  readonly fd: number
  readonly local: Address
  readonly remote: Address | undefined
  /** Called before the descriptor is closed. */
  readonly unlink?: (() => void) | undefined
}

export class KernelDatagrams implements DatagramHandle, Polled {
  readonly local: Address
  readonly remote: Address | undefined
  readonly options: OptionHandle
  readonly #poll: Poll
  readonly #desk: Desk
  readonly #spelled: Spelled
  readonly #type: BindSettings['type']
  readonly #udp: boolean
  readonly #queue: DatagramQueue
  /** What came together with what was asked for; it is older than the queue. */
  readonly #left: DatagramQueue
  /** Datagrams in one message, lately. */
  #segments = 1
  readonly #unlink: (() => void) | undefined
  readonly #place: Place
  #fd: number
  #events: StreamEvents | undefined
  /** There may be something to receive; unknown until it was tried. */
  #readable = true
  #writable = true
  /** Something came before anybody could be told. */
  #untold = false
  /** Somebody asked since the system told of something. */
  #asked = false
  /** Between binding and connecting anybody could send, and be heard by one who thinks of its peer. */
  #strangers: boolean
  #troubles: unknown[] = []
  /** Datagrams received one by one since there was none. */
  #row = 0
  /** The system puts datagrams together; undefined: it was not asked to. */
  #joined: boolean | undefined
  /** The longest that the system cuts into. */
  #longestSegment: number
  #systemDropped = 0
  #room: Room | undefined

  constructor(poll: Poll, { fd, local, remote, unlink }: DatagramParts, { type, queue, held }: BindSettings) {
    this.#poll = poll
    this.#desk = deskOf(poll)
    this.local = Object.freeze(local)
    this.remote = remote && Object.freeze(remote)
    this.options = optionsOf(poll, this, 'datagram')
    this.#type = type
    this.#udp = local.family !== 'unix'
    this.#strangers = this.#udp && remote !== undefined
    this.#longestSegment = this.#udp ? SEGMENTED : 0
    this.#spelled = this.#desk.spelled(familyOf(local))
    this.#queue = new DatagramQueue(queue, held)
    this.#left = new DatagramQueue({ count: Number.POSITIVE_INFINITY, bytes: Number.POSITIVE_INFINITY }, held)
    this.#unlink = unlink
    this.#fd = fd
    if (type === 'seqpacket') {
      // An end reads as an empty packet does, but that one comes with the credentials of who sent it.
      must('setsockopt', setIntOption(poll, fd, LINUX.SOL_SOCKET, LINUX.SO_PASSCRED, 1))
    }
    this.#place = poll.add(fd, this, LISTENING)
  }

  get descriptor(): number {
    return this.#fd
  }

  get dropped(): number {
    return this.#queue.dropped + this.#dropsOfSystem()
  }

  #dropsOfSystem(): number {
    if (!this.#udp || this.#fd < 0) return this.#systemDropped
    const { system, memory } = this.#poll
    const { option, length } = memory
    // `SK_MEMINFO_DROPS` (linux/sock_diag.h) is the last of nine numbers.
    length.setInt(36)
    option.setInt(0, 32)
    const result = system.getsockopt(this.#fd, LINUX.SOL_SOCKET, LINUX.SO_MEMINFO, option.address, length.address)
    if (result === 0) this.#systemDropped = option.view.getUint32(32, true)
    return this.#systemDropped
  }

  attach(events: StreamEvents): void {
    this.#events = events
    if (this.#untold) queueMicrotask(() => this.polled(EPOLLIN))
    this.#untold = false
  }

  polled(events: number): void {
    if (this.#fd < 0) return
    if ((events & EPOLLERR) !== 0 && this.#udp) this.#trouble(this.#errors())
    if ((events & READABLE) !== 0) {
      this.#readable = true
      this.#asked = false
      this.#untold = this.#events === undefined
      this.#events?.readable()
      if (!this.#asked && this.#udp && !this.#untold) this.#takeOver()
    }
    if (!this.#writable && (events & WRITABLE) !== 0 && this.#fd >= 0) {
      this.#writable = true
      this.#poll.change(this.#place, LISTENING)
      this.#events?.writable()
    }
  }

  /** Takes from the system what nobody asked for. */
  #takeOver(): void {
    const list: RawDatagram[] = []
    try {
      while (this.#readable && this.#fd >= 0 && list.length < AHEAD) this.#fetch(list, AT_ONCE)
    } catch (error) {
      this.#trouble([error])
    }
    for (const datagram of list) this.#queue.push(datagram)
  }

  receive(): RawDatagram | undefined {
    this.#asked = true
    if (this.#troubles.length > 0) throw this.#troubles.shift()
    const waiting = this.#left.shift() ?? this.#queue.shift()
    if (waiting !== undefined) return waiting
    while (this.#readable && this.#fd >= 0) {
      const datagram = this.#udp && this.#row++ > 1 ? this.#oneOfMany() : this.#one()
      if (datagram !== undefined) return datagram
    }
    return undefined
  }

  /** Where there were some in a row, the next ones are taken together. */
  #oneOfMany(): RawDatagram | undefined {
    const list: RawDatagram[] = []
    this.#fetch(list, ROW)
    this.#leave(list, 1)
    return list[0]
  }

  receiveMany(most: number): RawDatagram[] | undefined {
    this.#asked = true
    if (this.#troubles.length > 0) throw this.#troubles.shift()
    const list: RawDatagram[] = []
    let datagram: RawDatagram | undefined
    while (list.length < most && (datagram = this.#left.shift() ?? this.#queue.shift()) !== undefined) list.push(datagram)
    if (list.length === 0 && most > 1 && this.#joined === undefined) this.#join()
    try {
      while (list.length < most && this.#readable && this.#fd >= 0) this.#fetch(list, most - list.length)
    } catch (error) {
      if (list.length === 0) throw error
      this.#trouble([error])
    }
    this.#leave(list, most)
    return list.length === 0 ? undefined : list
  }

  /** Keeps what came with the first `most` for the next call. */
  #leave(list: RawDatagram[], most: number): void {
    for (let i = most; i < list.length; i++) this.#left.push(list[i] as RawDatagram)
    if (list.length > most) list.length = most
  }

  /** Asks the system to put datagrams of one sender together (udp(7), UDP_GRO); older ones do not know it. */
  #join(): void {
    this.#joined = false
    if (this.#udp) this.#joined = setIntOption(this.#poll, this.#fd, LINUX.IPPROTO_UDP, LINUX.UDP_GRO, 1) === 0
  }

  /** The next datagram of the system, or undefined: nothing now, or one that is of no interest. */
  #one(): RawDatagram | undefined {
    const { inbox } = this.#desk
    const { system } = this.#poll
    const result = this.#udp ? inbox.one(system, this.#fd, 0, CONTROL) : inbox.large(system, this.#fd)
    if (result < 0) return this.#nothing('recvmsg', result)
    if (!this.#udp) refuseDescriptors(this.#poll, inbox.control, inbox.controlLength(0))
    if (this.#type === 'seqpacket' && result === 0 && inbox.controlLength(0) === 0) {
      throw Object.assign(new Error('the peer closed its end'), { code: 'ECONNRESET', syscall: 'recvmsg' })
    }
    const list: RawDatagram[] = []
    this.#open(list, 0, inbox.room.bytes.slice(0, result), 0, result)
    this.#leave(list, 1)
    return list[0]
  }

  /** Adds what is here now to `list`, at most `most` or one call's worth, whichever is less. */
  #fetch(list: RawDatagram[], most: number): void {
    if (!this.#udp) {
      const datagram = this.#one()
      if (datagram !== undefined) list.push(datagram)
      return
    }
    const { inbox } = this.#desk
    const wanted = Math.ceil(most / this.#segments)
    const asked = wanted < AT_ONCE ? wanted : AT_ONCE
    const before = list.length
    const count = inbox.many(this.#poll.system, this.#fd, asked)
    if (count < 0) return this.#nothing('recvmmsg', count)
    this.#copyOut(list, inbox, count)
    this.#segments = Math.max(1, Math.ceil((list.length - before) / count))
    if (count < asked) this.#emptied()
  }

  /**
   * Memory for each costs more than to receive it. So those that come together lie in one piece of memory, which is nobody
   * else's, and which is no larger than {@link TOGETHER}, as one that is kept keeps all of it.
   */
  #copyOut(list: RawDatagram[], inbox: Inbox, count: number): void {
    inbox.pack(count)
    const { bytes } = inbox.room
    let [at, i] = [0, 0]
    let [from, known] = [UNNAMED, -1]
    while (i < count) {
      let [total, after] = [0, i]
      do total += inbox.length(after++)
      while (after < count && total + inbox.length(after) <= TOGETHER)
      const piece = bytes.slice(at, at + total)
      at += total
      let start = 0
      for (; i < after; i++) {
        const end = start + inbox.length(i)
        // Mostly it is a datagram as the one before.
        if (inbox.isPlain(i) && !this.#strangers) {
          if (known !== i - 1 || !inbox.isOfSame(i)) from = this.#desk.heard.read(inbox.names, inbox.nameLength(i), inbox.nameAt(i))
          known = i
          list.push({ data: cut(piece, start, end), from, truncated: false })
        } else this.#open(list, i, piece, start, end)
        start = end
      }
    }
  }

  #nothing(call: string, result: number): undefined {
    if (result === -EAGAIN) return this.#emptied()
    const [first, ...rest] = this.#udp ? this.#errors() : []
    this.#trouble(rest)
    throw first ?? systemError(call, result)
  }

  #emptied(): undefined {
    this.#readable = false
    this.#strangers = false
    this.#row = 0
  }

  /** Adds what came in message `i`, which is in `piece` from `start` to `end`: a datagram, or those that were put together. */
  #open(list: RawDatagram[], i: number, piece: Uint8Array, start: number, end: number): void {
    const { inbox, heard } = this.#desk
    const from = heard.read(inbox.names, inbox.nameLength(i), inbox.nameAt(i))
    if (this.#strangers && !same(from, this.remote)) return
    const truncated = (inbox.flags(i) & MSG_TRUNC) !== 0
    const told = inbox.controlLength(i)
    if (told === 0) {
      list.push({ data: cut(piece, start, end), from, truncated })
      return
    }
    const { control } = this.#desk
    readControl(inbox.control, inbox.controlAt(i), told, control)
    if (control.segment === 0) {
      list.push(this.#told(cut(piece, start, end), from, truncated))
      return
    }
    const size = control.segment
    let [part, base] = [piece, 0]
    const several = Math.max(1, Math.floor(TOGETHER / size)) * size
    for (let n = 0; ; n += size) {
      if (piece.length > TOGETHER && n % several === 0) [part, base] = [piece.slice(start, Math.min(start + several, end)), start]
      const last = start + size >= end
      list.push(this.#told(cut(part, start - base, (last ? end : start + size) - base), from, last && truncated))
      if (last) return
      start += size
    }
  }

  /** A datagram, with what was asked for with `receiveDetails`. */
  #told(data: Uint8Array, from: Address, truncated: boolean): RawDatagram {
    const { control, inbox, heard } = this.#desk
    if (control.to < 0 && control.hops < 0) return { data, from, truncated }
    const on = control.interface > 0 ? this.#desk.interfaceName(this.#fd, control.interface) : undefined
    const port = (this.local as IpAddress).port
    const to = control.to < 0 ? undefined : heard.destination(inbox.control, control.to, control.family, port, on)
    return { data, from, truncated, to, interface: on, ttl: control.hops < 0 ? undefined : control.hops }
  }

  send(data: Uint8Array, to: Address | undefined, done: (error?: unknown) => void): boolean {
    if (!this.#writable || this.#fd < 0) return false
    const { system, memory } = this.#poll
    const { length } = data
    let where: number | Uint8Array = data
    if (length <= SMALL) {
      memory.slab.bytes.set(data)
      where = memory.slab.address
    }
    const slot = to === undefined ? -1 : this.#spelled.slot(to)
    for (let left = AGAIN; ; left--) {
      const result =
        to === undefined
          ? system.send(this.#fd, where, length, MSG_NOSIGNAL)
          : system.sendto(this.#fd, where, length, MSG_NOSIGNAL, this.#spelled.address(slot), this.#spelled.length(slot))
      if (result >= 0) {
        done()
        return true
      }
      if (result === -EAGAIN) {
        this.#full(to)
        return false
      }
      const failure = this.#failureOfSend(to === undefined ? 'send' : 'sendto', result, length, left)
      if (failure !== undefined) {
        done(failure)
        return true
      }
    }
  }

  sendMany(batch: readonly OutgoingDatagram[], first: number): number {
    if (!this.#writable || this.#fd < 0) return 0
    const { outbox } = this.#desk
    const { system } = this.#poll
    const longest = this.#longestSegment
    for (let left = AGAIN; ;) {
      this.#fill(outbox, batch, first)
      if (outbox.first === 0) return this.#sendOne(batch[first] as OutgoingDatagram)
      const result = outbox.send(system, this.#fd, MSG_NOSIGNAL)
      if (result >= 0) return result
      const { data, to } = batch[first] as OutgoingDatagram
      if (result === -EAGAIN) {
        this.#full(to)
        return 0
      }
      if (outbox.first > 1 && this.#cutLess(result, data.length)) continue
      const failure = this.#failureOfSend('sendmmsg', result, data.length, left--)
      if (failure === undefined) continue
      // It was not the cutting.
      this.#longestSegment = longest
      throw failure
    }
  }

  /** One that is too long for a batch. */
  #sendOne({ data, to }: OutgoingDatagram): number {
    let failed: { error: unknown } | undefined
    const taken = this.send(data, to, (error) => {
      if (error !== undefined) failed = { error }
    })
    if (failed !== undefined) throw failed.error
    return taken ? 1 : 0
  }

  #fill(outbox: Outbox, batch: readonly OutgoingDatagram[], first: number): void {
    outbox.clear()
    let [last, name, nameLength]: [Address | undefined, number, number] = [undefined, 0, 0]
    for (let i = first; i < batch.length && !outbox.full;) {
      const { data, to } = batch[i] as OutgoingDatagram
      const size = data.length
      if (!outbox.fits(size)) return
      if (to !== last) {
        const slot: number = to === undefined ? -1 : this.#spelled.slot(to)
        ;[last, name, nameLength] = slot < 0 ? [to, 0, 0] : [to, this.#spelled.address(slot), this.#spelled.length(slot)]
      }
      outbox.put(data)
      let [count, total] = [1, size]
      if (size > 0 && size <= this.#longestSegment) {
        for (; count < SEGMENTS && i + count < batch.length; count++) {
          const next = batch[i + count] as OutgoingDatagram
          const { length } = next.data
          if (next.to !== to || length === 0 || length > size || total + length > SEGMENTED || !outbox.fits(length)) break
          outbox.put(next.data)
          total += length
          // Only the last may be shorter.
          if (length < size) {
            count++
            break
          }
        }
      }
      outbox.end(count, size, name, nameLength)
      i += count
    }
  }

  /** Whether a failure may be due to the cutting, which is then done no more for datagrams of this length. */
  #cutLess(result: number, size: number): boolean {
    if (result !== -EINVAL && result !== -EIO && result !== -EMSGSIZE) return false
    this.#longestSegment = result === -EIO || size <= SURELY ? 0 : size - 1
    return true
  }

  /** Nothing more is taken now; `writable` follows. */
  #full(to: Address | undefined): void {
    this.#writable = false
    if (!this.#poll.change(this.#place, (LISTENING | EPOLLOUT) >>> 0)) setImmediate(() => this.polled(EPOLLOUT))
    if (this.#udp || to === undefined || this.#type !== 'datagram') return
    const { system, memory } = this.#poll
    const buffer = intOption(this.#poll, this.#fd, LINUX.SOL_SOCKET, LINUX.SO_SNDBUF)
    const asked = system.ioctl(this.#fd, LINUX.SIOCOUTQ, memory.length.address)
    // It is its own buffer that is full, of whose room it is told (`unix_writable` in net/unix/af_unix.c).
    if (buffer >= 0 && asked === 0 && memory.length.int() * 4 > buffer) return
    this.#room?.close()
    this.#room = new Room(this.#poll, to, () => this.polled(EPOLLOUT))
  }

  /** Why a datagram was not sent; undefined where it was due to an earlier one: that is for whoever receives, and it is sent again. */
  #failureOfSend(call: string, result: number, length: number, left: number): unknown {
    const told = this.#udp ? this.#errors() : []
    const own = told.find(({ errno, local }) => local && errno === result)
    const others = told.filter((error) => error !== own)
    if (own === undefined && others.length === 0 && result === -ECONNREFUSED && this.#udp && left > 0)
      others.push(systemError(call, result))
    if (others.length > 0) {
      this.#trouble(others)
      queueMicrotask(() => this.#events?.readable())
      if (own === undefined && left > 0) return undefined
    }
    let limit: number | undefined
    // Of what the path takes, the headers of IP and UDP are to be taken off.
    if (result === -EMSGSIZE) limit = own?.mtu === undefined ? this.#longest() : own.mtu - (own.to?.family === 'ipv6' ? 48 : 28)
    const error = own ?? systemError(call, result)
    if (limit === undefined) return error
    return Object.assign(error, { message: `the datagram has ${length} bytes, the limit is ${limit}`, limit })
  }

  /** The longest datagram of a UNIX socket, whose send buffer it has to fit. */
  #longest(): number | undefined {
    const buffer = this.#udp ? -1 : intOption(this.#poll, this.#fd, LINUX.SOL_SOCKET, LINUX.SO_SNDBUF)
    return buffer < 0 ? undefined : buffer - 32
  }

  #trouble(errors: readonly unknown[]): void {
    for (const error of errors) if (this.#troubles.length < MOST_TROUBLES) this.#troubles.push(error)
  }

  /** What the error queue holds, where it was asked for: each with the destination it is about (ip(7), IP_RECVERR). */
  #errors(): TransportError[] {
    const found: TransportError[] = []
    const { inbox, control } = this.#desk
    const { system } = this.#poll
    while (found.length < MOST_TROUBLES && inbox.one(system, this.#fd, LINUX.MSG_ERRQUEUE, CONTROL) >= 0) {
      const { error } = readControl(inbox.control, inbox.controlAt(0), inbox.controlLength(0), control)
      if (error === undefined) continue
      const to = readAddress(inbox.names, inbox.nameLength(0), inbox.nameAt(0))
      const told: TransportError = systemError('recvmsg', -error.errno)
      const local = error.origin === LINUX.SO_EE_ORIGIN_LOCAL
      const mtu = error.errno === EMSGSIZE && error.info > 0 ? { mtu: error.info } : {}
      const by = error.by === undefined || error.by.family === 'unix' ? '' : `, as ${error.by.address} says`
      found.push(Object.assign(told, { message: `${told.message} for ${formatAddress(to)}${by}`, to, local, ...mtu }))
    }
    return found
  }

  join(group: string, interfaceName: string | undefined, source: string | undefined): void {
    this.#member(source === undefined ? LINUX.MCAST_JOIN_GROUP : LINUX.MCAST_JOIN_SOURCE_GROUP, group, interfaceName, source)
  }

  leave(group: string, interfaceName: string | undefined, source: string | undefined): void {
    this.#member(source === undefined ? LINUX.MCAST_LEAVE_GROUP : LINUX.MCAST_LEAVE_SOURCE_GROUP, group, interfaceName, source)
  }

  #member(name: number, group: string, interfaceName: string | undefined, source: string | undefined): void {
    const { system, memory } = this.#poll
    const { option } = memory
    const ipv6 = group.includes(':')
    const index = interfaceName === undefined ? 0 : this.#interface(interfaceName, ipv6)
    const layout = LAYOUTS.group_source_req
    const write = (address: string, at: number) => writeAddress(option, { family: ipv6 ? 'ipv6' : 'ipv4', address, port: 0 }, undefined, at)
    option.bytes.fill(0, 0, layout.size)
    option.setInt(index, layout.gsr_interface)
    write(group, layout.gsr_group)
    if (source !== undefined) write(source, layout.gsr_source)
    const size = source === undefined ? LAYOUTS.group_req.size : layout.size
    const level = ipv6 ? LINUX.IPPROTO_IPV6 : LINUX.IPPROTO_IP
    must('setsockopt', system.setsockopt(this.#fd, level, name, option.address, size))
  }

  /** The number of an interface, which an address that no interface has must not be taken for: 0 is the choice of the system. */
  #interface(given: string, ipv6: boolean): number {
    const { index } = interfaceOf(this.#poll, given, ipv6)
    if (index === 0) throw refusal('ENODEV', `there is no interface ${given}`)
    return index
  }

  give(): number {
    const fd = this.#fd
    if (this.#left.length + this.#queue.length > 0) throw refusal('EBUSY', 'datagrams were received that nobody has taken')
    this.#end()
    if (this.#joined) setIntOption(this.#poll, fd, LINUX.IPPROTO_UDP, LINUX.UDP_GRO, 0)
    this.#poll.remove(this.#place, true)
    return fd
  }

  /** Nothing is done with the descriptor from here on. */
  #end(): void {
    this.#dropsOfSystem()
    this.#fd = -1
    this.#left.clear()
    this.#queue.clear()
    this.#troubles = []
    this.#room?.close()
  }

  close(done: () => void): void {
    const fd = this.#fd
    if (fd >= 0) {
      this.#end()
      this.#unlink?.()
      // One that others made may be theirs, too.
      this.#poll.remove(this.#place, true)
      this.#poll.system.close(fd)
    }
    queueMicrotask(done)
  }

  ref(): void {
    if (this.#fd >= 0) this.#poll.hold(this.#place, true)
  }

  unref(): void {
    if (this.#fd >= 0) this.#poll.hold(this.#place, false)
  }
}

/** Small ones are cheaper copied, and keep nothing else. */
function cut(piece: Uint8Array, start: number, end: number): Uint8Array {
  if (end - start <= LEAST) return piece.slice(start, end)
  return end - start === piece.length ? piece : new Uint8Array(piece.buffer, start, end - start)
}

function same(a: Address, b: Address | undefined): boolean {
  return a === b || (b !== undefined && formatAddress(a) === formatAddress(b))
}
