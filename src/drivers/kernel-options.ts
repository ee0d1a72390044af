/** The options of sockets by the calls of the system: socket(7), ip(7), ipv6(7), tcp(7), udp(7), unix(7). */

import { networkInterfaces } from 'node:os'
import { ipBytes, ipText, isMapped } from '../address.js'
import type { KeepAlive, OptionHandle } from '../driver.js'
import { LAYOUTS, LINUX, type ConstantName } from './kernel-layout.js'
import type { Poll } from './kernel-poll.js'
import { askName, dontWaitAtClose, setIntOption } from './kernel-socket.js'
import { must, systemError } from './kernel-system.js'
import { tcpInfo } from './kernel-tcp-info.js'
import { refusal } from './refusal.js'

const NONE: ReadonlySet<string> = new Set()

export type Kind = 'connection' | 'listener' | 'datagram'

/** Whose options they are. */
export interface Holder {
  /** -1 once it was given back. */
  readonly descriptor: number
  /** Closing it could wait (SO_LINGER), which {@link dontLinger} prevents. Set here. */
  lingers?: boolean
  /** Told of the error that was read from the socket, -errno: the system, which tells each once, would go on as if it had ended. */
  failed?(result: number): void
}

/** The options of an open socket. */
export function optionsOf(poll: Poll, holder: Holder, kind: Kind): OptionHandle {
  const socket = new Socket(poll, holder, kind)
  return {
    get: (name) => wayOf(name).get(socket),
    set: (name, value) => set(socket, name, value),
    getRaw: (level, name, length) => socket.bytes(level, name, length).slice(),
    setRaw: (level, name, value) => socket.setBytes(level, name, value),
  }
}

/** Sets what was asked for by name, on a new socket before it is bound, connects or listens, but for `settled`. */
export function applyOptions(
  poll: Poll,
  holder: Holder,
  kind: Kind,
  options: ReadonlyMap<string, unknown>,
  settled: ReadonlySet<string> = NONE,
): void {
  const socket = new Socket(poll, holder, kind)
  // The type of service changes the priority (ip(7)), so what the socket becomes must not depend on which was named first.
  for (const name of ORDER) {
    const value = options.get(name)
    if (value !== undefined && !settled.has(name)) setAtCreation(socket, name, value)
  }
}

/** Among all that can fail when a socket is made, it is the option that failed. */
function setAtCreation(socket: Socket, name: string, value: unknown): void {
  try {
    set(socket, name, value)
  } catch (error) {
    const { message } = error as Error
    throw Object.assign(error as Error, { message: `cannot set ${name} to ${JSON.stringify(value)}: ${message}`, option: name })
  }
}

/**
 * Makes closing a matter of the system's background. On Linux `close` waits for a socket that lingers, also when it does not
 * block; what is sent, and how, is the same either way. A time of 0 does not wait: it resets, and stays.
 */
export function dontLinger(poll: Poll, fd: number): void {
  if (linger.get(new Socket(poll, { descriptor: fd }, 'connection'))) dontWaitAtClose(poll, fd)
}

type Level = 'SOL_SOCKET' | 'IPPROTO_IP' | 'IPPROTO_IPV6' | 'IPPROTO_TCP'

/** Reads and writes the options of one socket by the system's numbers. */
class Socket {
  readonly poll: Poll
  readonly holder: Holder
  readonly kind: Kind
  /** The interface for multicasts as it was given, and what the system made of it. */
  chosenInterface: { readonly text: string; readonly known: string } | undefined

  constructor(poll: Poll, holder: Holder, kind: Kind) {
    this.poll = poll
    this.holder = holder
    this.kind = kind
  }

  /** As many of `length` bytes as the system has, in memory that is good until the next call. */
  bytes(level: number, name: number, length: number): Uint8Array {
    const { system, memory } = this.poll
    const isError = level === LINUX.SOL_SOCKET && name === LINUX.SO_ERROR
    memory.slab.setInt(0)
    memory.length.setInt(length)
    must('getsockopt', system.getsockopt(this.holder.descriptor, level, name, memory.slab.address, memory.length.address))
    if (isError && memory.slab.int() > 0) this.holder.failed?.(-memory.slab.int())
    return memory.slab.bytes.subarray(0, Math.min(length, memory.length.int()))
  }

  setBytes(level: number, name: number, value: Uint8Array): void {
    const { system, memory } = this.poll
    memory.slab.bytes.set(value)
    must('setsockopt', system.setsockopt(this.holder.descriptor, level, name, memory.slab.address, value.length))
    if (level === LINUX.SOL_SOCKET && name === LINUX.SO_LINGER) this.holder.lingers = true
  }

  int(level: Level, name: ConstantName): number {
    const length = this.bytes(LINUX[level], LINUX[name], 4).length
    // Some of the options that are a byte in the system come as one.
    return length < 4 ? (this.poll.memory.slab.bytes[0] as number) : this.poll.memory.slab.int()
  }

  setInt(level: Level, name: ConstantName, value: number): void {
    must('setsockopt', setIntOption(this.poll, this.holder.descriptor, LINUX[level], LINUX[name], value))
  }

  text(level: Level, name: ConstantName, most: number): string {
    const bytes = this.bytes(LINUX[level], LINUX[name], most)
    const end = bytes.indexOf(0)
    return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end))
  }

  get isV6(): boolean {
    return this.int('SOL_SOCKET', 'SO_DOMAIN') === LINUX.AF_INET6
  }

  /** It speaks IPv4, with addresses in IPv6 clothes. */
  get isMapped(): boolean {
    must('getsockname', askName(this.poll, 'getsockname', this.holder.descriptor))
    const { sin6_addr } = LAYOUTS.sockaddr_in6
    return isMapped(this.poll.memory.name.bytes.subarray(sin6_addr, sin6_addr + 16))
  }
}

/** How one option is read and set. */
interface Way {
  get(socket: Socket): unknown
  set?(socket: Socket, value: never): void
}

function flag(level: Level, name: ConstantName): Way {
  return {
    get: (socket) => socket.int(level, name) !== 0,
    set: (socket, on: boolean) => socket.setInt(level, name, on ? 1 : 0),
  }
}

function int(level: Level, name: ConstantName): Way {
  return {
    get: (socket) => socket.int(level, name),
    set: (socket, value: number) => socket.setInt(level, name, value),
  }
}

function unsigned(level: Level, name: ConstantName): Way {
  return { ...int(level, name), get: (socket) => socket.int(level, name) >>> 0 }
}

/** What the system has in seconds and we in milliseconds: never less than was asked for. */
function seconds(level: Level, name: ConstantName): Way {
  return {
    get: (socket) => socket.int(level, name) * 1000,
    set: (socket, ms: number) => socket.setInt(level, name, Math.ceil(ms / 1000)),
  }
}

function text(level: Level, name: ConstantName, most: number): Way {
  return {
    get: (socket) => socket.text(level, name, most),
    set: (socket, value: string) => socket.setBytes(LINUX[level], LINUX[name], new TextEncoder().encode(value)),
  }
}

/** An option that IPv4 and IPv6 have each for themselves. A socket for both is given both: it sends to either. */
function twin(v4: ConstantName, v6: ConstantName): Way {
  const both = { v4: int('IPPROTO_IP', v4), v6: int('IPPROTO_IPV6', v6) }
  return {
    get: (socket) => (socket.isV6 && !socket.isMapped ? both.v6 : both.v4).get(socket),
    set(socket, value: number) {
      if (socket.isV6) socket.setInt('IPPROTO_IPV6', v6, value)
      socket.setInt('IPPROTO_IP', v4, value)
    },
  }
}

function asFlag(way: Way): Way {
  return {
    get: (socket) => way.get(socket) !== 0,
    set: (socket, on: boolean) => way.set?.(socket, (on ? 1 : 0) as never),
  }
}

function setKeepAliveParts(socket: Socket, { idle, interval, count }: Partial<KeepAlive>): void {
  if (idle !== undefined) socket.setInt('IPPROTO_TCP', 'TCP_KEEPIDLE', Math.ceil(idle / 1000))
  if (interval !== undefined) socket.setInt('IPPROTO_TCP', 'TCP_KEEPINTVL', Math.ceil(interval / 1000))
  if (count !== undefined) socket.setInt('IPPROTO_TCP', 'TCP_KEEPCNT', count)
}

const keepAlive: Way = {
  get(socket) {
    if (socket.int('SOL_SOCKET', 'SO_KEEPALIVE') === 0) return false
    const [idle, interval, count] = (['TCP_KEEPIDLE', 'TCP_KEEPINTVL', 'TCP_KEEPCNT'] as const).map((name) =>
      socket.int('IPPROTO_TCP', name),
    ) as [number, number, number]
    return { idle: idle * 1000, interval: interval * 1000, count }
  },
  set(socket, value: Partial<KeepAlive> | false) {
    if (value !== false) setKeepAliveParts(socket, value)
    socket.setInt('SOL_SOCKET', 'SO_KEEPALIVE', value === false ? 0 : 1)
  },
}

const linger: Way = {
  get(socket) {
    socket.bytes(LINUX.SOL_SOCKET, LINUX.SO_LINGER, LAYOUTS.linger.size)
    const { slab } = socket.poll.memory
    return slab.int(LAYOUTS.linger.l_onoff) === 0 ? false : slab.int(LAYOUTS.linger.l_linger) * 1000
  },
  set(socket, ms: number | false) {
    const value = new Int32Array(LAYOUTS.linger.size / 4)
    value[LAYOUTS.linger.l_onoff / 4] = ms === false ? 0 : 1
    value[LAYOUTS.linger.l_linger / 4] = Math.ceil((ms || 0) / 1000)
    socket.setBytes(LINUX.SOL_SOCKET, LINUX.SO_LINGER, new Uint8Array(value.buffer))
  },
}

/** Connections of a listener that may wait for the bytes in their first segment to be acknowledged. */
const FAST_OPENING = 256

const fastOpen: Way = {
  get: (socket) => socket.int('IPPROTO_TCP', socket.kind === 'listener' ? 'TCP_FASTOPEN' : 'TCP_FASTOPEN_CONNECT') !== 0,
  set(socket, on: boolean) {
    if (socket.kind === 'listener') socket.setInt('IPPROTO_TCP', 'TCP_FASTOPEN', on ? FAST_OPENING : 0)
    else socket.setInt('IPPROTO_TCP', 'TCP_FASTOPEN_CONNECT', on ? 1 : 0)
  },
}

/** A socket for IPv4 has no such option: it is not one for IPv6 alone, whatever is asked of it. */
const ipv6Only: Way = {
  get: (socket) => socket.isV6 && socket.int('IPPROTO_IPV6', 'IPV6_V6ONLY') !== 0,
  set: (socket, on: boolean) => socket.isV6 && socket.setInt('IPPROTO_IPV6', 'IPV6_V6ONLY', on ? 1 : 0),
}

/** Destination, interface and hops: a socket for both families is told the first two of IPv4 in IPv6 clothes, and not the hops. */
const receiveDetails: Way = {
  get: (socket) => (socket.isV6 ? socket.int('IPPROTO_IPV6', 'IPV6_RECVPKTINFO') : socket.int('IPPROTO_IP', 'IP_PKTINFO')) !== 0,
  set(socket, on: boolean) {
    const value = on ? 1 : 0
    if (socket.isV6) {
      socket.setInt('IPPROTO_IPV6', 'IPV6_RECVPKTINFO', value)
      socket.setInt('IPPROTO_IPV6', 'IPV6_RECVHOPLIMIT', value)
    } else socket.setInt('IPPROTO_IP', 'IP_PKTINFO', value)
    socket.setInt('IPPROTO_IP', 'IP_RECVTTL', value)
  },
}

const multicastInterface: Way = {
  get(socket) {
    const known = knownInterface(socket)
    if (known === socket.chosenInterface?.known) return socket.chosenInterface.text
    if (!socket.isV6) return known === '0.0.0.0' ? '' : known
    return known === '0' ? '' : (interfaceNames().find((name) => String(interfaceNumber(socket.poll, name)) === known) ?? known)
  },
  set(socket, given: string) {
    const { memory } = socket.poll
    const { imr_address, imr_ifindex, size } = LAYOUTS.ip_mreqn
    const ipv6 = socket.isV6
    const { index, ipv4 } = interfaceOf(socket.poll, given, ipv6)
    if (ipv6) socket.setInt('IPPROTO_IPV6', 'IPV6_MULTICAST_IF', index)
    const request = memory.option
    request.bytes.fill(0, 0, size)
    if (ipv4 !== undefined) request.bytes.set(ipv4, imr_address)
    request.setInt(index, imr_ifindex)
    socket.setBytes(LINUX.IPPROTO_IP, LINUX.IP_MULTICAST_IF, request.bytes.subarray(0, size))
    socket.chosenInterface = { text: given, known: knownInterface(socket) }
  },
}

/** What the system knows of the interface for multicasts: for IPv6 its number, for IPv4 its address alone. */
function knownInterface(socket: Socket): string {
  if (socket.isV6) return String(socket.int('IPPROTO_IPV6', 'IPV6_MULTICAST_IF'))
  return ipText(socket.bytes(LINUX.IPPROTO_IP, LINUX.IP_MULTICAST_IF, 4))
}

const interfaceNames = (): string[] => Object.keys(networkInterfaces())

/** The number of the interface with this name; 0 where there is none. */
function interfaceNumber({ system, memory }: Poll, name: string): number {
  memory.name.bytes.set(new TextEncoder().encode(`${name}\0`))
  return Math.max(0, system.if_nametoindex(memory.name.address))
}

/**
 * An interface given by its name, its number or an address of it: its number, and the IPv4 address to go by. Only an IPv4
 * address that no interface has is left to the system to refuse.
 */
export function interfaceOf(poll: Poll, given: string, ipv6: boolean): { index: number; ipv4: Uint8Array | undefined } {
  const all = Object.entries(networkInterfaces())
  const [literal, scope] = given.split('%') as [string, string | undefined]
  const ip = ipBytes(literal)
  const ipv4 = ip?.length === 4 ? ip : undefined
  const named =
    scope ?? (ip === undefined ? given : all.find(([, addresses]) => addresses?.some(({ address }) => address === literal))?.[0])
  const index = named === undefined ? 0 : /^\d+$/.test(named) ? Number(named) : interfaceNumber(poll, named)
  if (index === 0 && (ipv4 === undefined || ipv6)) throw refusal('ENODEV', `there is no interface ${given}`)
  const first = all.find(([name]) => name === named)?.[1]?.find(({ family }) => family === 'IPv4')?.address
  return { index, ipv4: ipv4 ?? (first === undefined ? undefined : ipBytes(first)) }
}

const peerCredentials: Way = {
  get(socket) {
    const { size, pid, uid, gid } = LAYOUTS.ucred
    socket.bytes(LINUX.SOL_SOCKET, LINUX.SO_PEERCRED, size)
    const { slab } = socket.poll.memory
    return { pid: slab.int(pid), uid: slab.int(uid) >>> 0, gid: slab.int(gid) >>> 0 }
  },
}

const error: Way = {
  get(socket) {
    const number = socket.int('SOL_SOCKET', 'SO_ERROR')
    return number === 0 ? null : (systemError('getsockopt', -number).code as string)
  },
}

const TYPES = new Map([
  [LINUX.SOCK_STREAM, 'stream'],
  [LINUX.SOCK_DGRAM, 'datagram'],
  [LINUX.SOCK_SEQPACKET, 'seqpacket'],
])

const type: Way = { get: (socket) => TYPES.get(socket.int('SOL_SOCKET', 'SO_TYPE')) }

const protocol: Way = {
  get(socket) {
    if (socket.int('SOL_SOCKET', 'SO_DOMAIN') === LINUX.AF_UNIX) return 'unix'
    return socket.int('SOL_SOCKET', 'SO_PROTOCOL') === LINUX.IPPROTO_UDP ? 'udp' : 'tcp'
  },
}

/** By their names in `options.ts`, in the order in which those asked for are set. */
const WAYS: Readonly<Record<string, Way>> = {
  reuseAddress: flag('SOL_SOCKET', 'SO_REUSEADDR'),
  reusePort: flag('SOL_SOCKET', 'SO_REUSEPORT'),
  ipv6Only,
  bindToDevice: text('SOL_SOCKET', 'SO_BINDTODEVICE', 16),
  mark: unsigned('SOL_SOCKET', 'SO_MARK'),
  sendBuffer: int('SOL_SOCKET', 'SO_SNDBUF'),
  receiveBuffer: int('SOL_SOCKET', 'SO_RCVBUF'),
  noDelay: flag('IPPROTO_TCP', 'TCP_NODELAY'),
  keepAlive,
  keepAliveIdle: seconds('IPPROTO_TCP', 'TCP_KEEPIDLE'),
  keepAliveInterval: seconds('IPPROTO_TCP', 'TCP_KEEPINTVL'),
  keepAliveCount: int('IPPROTO_TCP', 'TCP_KEEPCNT'),
  linger,
  ttl: twin('IP_TTL', 'IPV6_UNICAST_HOPS'),
  typeOfService: twin('IP_TOS', 'IPV6_TCLASS'),
  priority: int('SOL_SOCKET', 'SO_PRIORITY'),
  multicastTtl: twin('IP_MULTICAST_TTL', 'IPV6_MULTICAST_HOPS'),
  multicastLoopback: asFlag(twin('IP_MULTICAST_LOOP', 'IPV6_MULTICAST_LOOP')),
  multicastInterface,
  broadcast: flag('SOL_SOCKET', 'SO_BROADCAST'),
  receiveDetails,
  receiveErrors: asFlag(twin('IP_RECVERR', 'IPV6_RECVERR')),
  userTimeout: int('IPPROTO_TCP', 'TCP_USER_TIMEOUT'),
  quickAck: flag('IPPROTO_TCP', 'TCP_QUICKACK'),
  cork: flag('IPPROTO_TCP', 'TCP_CORK'),
  deferAccept: seconds('IPPROTO_TCP', 'TCP_DEFER_ACCEPT'),
  fastOpen,
  notSentLowWater: int('IPPROTO_TCP', 'TCP_NOTSENT_LOWAT'),
  maxSegment: int('IPPROTO_TCP', 'TCP_MAXSEG'),
  congestionControl: text('IPPROTO_TCP', 'TCP_CONGESTION', 16),
  peerCredentials,
  error,
  type,
  protocol,
  tcpInfo: {
    get: (socket) => tcpInfo(socket.poll.memory.slab.view, socket.bytes(LINUX.IPPROTO_TCP, LINUX.TCP_INFO, LAYOUTS.tcp_info.size).length),
  },
}
const ORDER = Object.keys(WAYS)

function wayOf(name: string): Way {
  const way = Object.hasOwn(WAYS, name) ? WAYS[name] : undefined
  if (way === undefined) throw Object.assign(new Error(`${name} is no option of this driver`), { code: 'ENOPROTOOPT', option: name })
  return way
}

function set(socket: Socket, name: string, value: unknown): void {
  const way = wayOf(name)
  if (way.set === undefined) throw Object.assign(new Error(`${name} can be read alone`), { code: 'ENOPROTOOPT', option: name })
  way.set(socket, value as never)
}
