/**
 * The options of sockets: one table, from which come the types, the checks, `get` and `set`, the options of `connect`,
 * `listen` and `bind`, the table in `docs/options.md` and what the tests skip.
 *
 * Times are milliseconds and sizes bytes, whatever the system counts in.
 */

import { flag, wholeNumber } from './arguments.js'
import { bytesOf } from './bytes.js'
import type { Driver, KeepAlive, OptionHandle } from './driver.js'
import {
  type CodeOf,
  type ErrorFacts,
  invalidType,
  OptionError,
  outOfRange,
  refuseUnknown,
  show,
  suggestion,
  systemCode,
  systemFailure,
} from './errors.js'
import type { Bytes, Limits } from './stream.js'

export type SocketKind = 'connection' | 'listener' | 'datagram'
/** What a socket stands on; `tls:` counts as what is below it. */
export type OptionTransport = 'tcp' | 'unix' | 'udp'
/** When an option may be set. Whatever may be set later can be given at creation, too. */
export type OptionMoment = 'any time' | 'before connect' | 'before bind' | 'never'
/** What a driver can: take it at creation, read it, set it on an open socket. */
export type OptionAbility = 'get' | 'create get' | 'create get set'

export interface OptionValueType {
  readonly type: keyof ValueTypes
  readonly unit?: 'ms' | 'bytes' | 'hops' | 'probes'
  /** Bounds of a number; for a text, `most` is its length in bytes. */
  readonly least?: number
  readonly most?: number
}

/** One row of {@link OPTIONS}. */
export interface OptionRow {
  /** The constants of the system; with two, the second is that of IPv6. */
  readonly constant: readonly string[]
  readonly value: OptionValueType
  readonly on: readonly `${OptionTransport} ${SocketKind}`[]
  readonly when: OptionMoment
  /** Where the system has it, as `process.platform` says it. Absent: everywhere. */
  readonly systems?: readonly NodeJS.Platform[]
  /** What the drivers can, by kind of socket. The kernel driver can everything on Linux. */
  readonly node?: { readonly [K in SocketKind]?: OptionAbility }
  readonly memory?: { readonly [K in SocketKind]?: OptionAbility }
  /** The runtime has it in newer versions only. */
  readonly newer?: boolean
  readonly text: string
}

export const OPTIONS = {
  noDelay: {
    constant: ['TCP_NODELAY'],
    value: { type: 'boolean' },
    on: ['tcp connection', 'tcp listener'],
    when: 'any time',
    node: { connection: 'create get set', listener: 'create get set' },
    memory: { connection: 'create get set', listener: 'create get set' },
    text: 'send small segments at once; default true',
  },
  keepAlive: {
    constant: ['SO_KEEPALIVE'],
    value: { type: 'keepAlive' },
    on: ['tcp connection', 'tcp listener'],
    when: 'any time',
    node: { connection: 'create get set', listener: 'create get set' },
    memory: { connection: 'create get set', listener: 'create get set' },
    text: 'probe a silent peer: a boolean, or `{ idle, interval, count }`; on by default',
  },
  keepAliveIdle: {
    constant: ['TCP_KEEPIDLE'],
    value: { type: 'integer', unit: 'ms', least: 1, most: 32_767_000 },
    on: ['tcp connection', 'tcp listener'],
    when: 'any time',
    node: { connection: 'create get set', listener: 'create get set' },
    memory: { connection: 'create get set', listener: 'create get set' },
    text: 'silence before the first probe, rounded up to whole seconds; default 15 s',
  },
  keepAliveInterval: {
    constant: ['TCP_KEEPINTVL'],
    value: { type: 'integer', unit: 'ms', least: 1, most: 32_767_000 },
    on: ['tcp connection', 'tcp listener'],
    when: 'any time',
    node: { connection: 'create get set', listener: 'create get set' },
    memory: { connection: 'create get set', listener: 'create get set' },
    newer: true,
    text: 'time between probes, rounded up to whole seconds; default 15 s where the driver can',
  },
  keepAliveCount: {
    constant: ['TCP_KEEPCNT'],
    value: { type: 'integer', unit: 'probes', least: 1, most: 127 },
    on: ['tcp connection', 'tcp listener'],
    when: 'any time',
    node: { connection: 'create get set', listener: 'create get set' },
    memory: { connection: 'create get set', listener: 'create get set' },
    newer: true,
    text: 'probes without an answer that break the connection; default 9 where the driver can',
  },
  sendBuffer: {
    constant: ['SO_SNDBUF'],
    value: { type: 'integer', unit: 'bytes', least: 1, most: 1_073_741_823 },
    on: ['tcp connection', 'tcp listener', 'unix connection', 'unix listener', 'udp datagram', 'unix datagram'],
    when: 'any time',
    node: { datagram: 'create get set' },
    memory: { connection: 'create get set', listener: 'create get set', datagram: 'create get set' },
    text: 'the send buffer of the system, which may give more (Linux: twice as much) or less',
  },
  receiveBuffer: {
    constant: ['SO_RCVBUF'],
    value: { type: 'integer', unit: 'bytes', least: 1, most: 1_073_741_823 },
    on: ['tcp connection', 'tcp listener', 'unix connection', 'unix listener', 'udp datagram', 'unix datagram'],
    when: 'any time',
    node: { datagram: 'create get set' },
    memory: { connection: 'create get set', listener: 'create get set', datagram: 'create get set' },
    text: 'the receive buffer of the system, which may give more (Linux: twice as much) or less',
  },
  linger: {
    constant: ['SO_LINGER'],
    value: { type: 'linger', unit: 'ms', least: 0, most: 65_535_000 },
    on: ['tcp connection', 'tcp listener'],
    when: 'any time',
    text: 'how long the system’s own `close` waits, rounded up to whole seconds; 0 resets, `false` leaves it to the background',
  },
  reuseAddress: {
    constant: ['SO_REUSEADDR'],
    value: { type: 'boolean' },
    on: ['tcp connection', 'tcp listener', 'udp datagram'],
    when: 'before bind',
    node: { datagram: 'create get' },
    memory: { listener: 'create get', datagram: 'create get' },
    text: 'bind to an address that is still in use',
  },
  reusePort: {
    constant: ['SO_REUSEPORT'],
    value: { type: 'boolean' },
    on: ['tcp connection', 'tcp listener', 'udp datagram'],
    when: 'before bind',
    systems: ['linux', 'darwin', 'freebsd', 'openbsd', 'netbsd', 'aix', 'sunos'],
    node: { listener: 'create get', datagram: 'create get' },
    memory: { listener: 'create get', datagram: 'create get' },
    newer: true,
    text: 'let several sockets share an address, to divide the load',
  },
  ipv6Only: {
    constant: ['IPV6_V6ONLY'],
    value: { type: 'boolean' },
    on: ['tcp listener', 'udp datagram'],
    when: 'before bind',
    node: { listener: 'create get', datagram: 'create get' },
    memory: { listener: 'create get', datagram: 'create get' },
    text: 'serve IPv6 alone on a wildcard address; default false',
  },
  ttl: {
    constant: ['IP_TTL', 'IPV6_UNICAST_HOPS'],
    value: { type: 'integer', unit: 'hops', least: 1, most: 255 },
    on: ['tcp connection', 'tcp listener', 'udp datagram'],
    when: 'any time',
    node: { datagram: 'create get set' },
    memory: { connection: 'create get set', listener: 'create get set', datagram: 'create get set' },
    text: 'how many routers a packet may pass (time to live, hop limit)',
  },
  typeOfService: {
    constant: ['IP_TOS', 'IPV6_TCLASS'],
    value: { type: 'integer', least: 0, most: 255 },
    on: ['tcp connection', 'tcp listener', 'udp datagram'],
    when: 'any time',
    node: { connection: 'create get set', listener: 'create get set' },
    memory: { connection: 'create get set', listener: 'create get set', datagram: 'create get set' },
    newer: true,
    text: 'the traffic class byte: DSCP in the upper six bits (RFC 2474), ECN in the lower two, which TCP keeps to itself on Linux',
  },
  multicastTtl: {
    constant: ['IP_MULTICAST_TTL', 'IPV6_MULTICAST_HOPS'],
    value: { type: 'integer', unit: 'hops', least: 0, most: 255 },
    on: ['udp datagram'],
    when: 'any time',
    node: { datagram: 'create get set' },
    memory: { datagram: 'create get set' },
    text: 'how many routers a multicast may pass; default 1: none',
  },
  multicastLoopback: {
    constant: ['IP_MULTICAST_LOOP', 'IPV6_MULTICAST_LOOP'],
    value: { type: 'boolean' },
    on: ['udp datagram'],
    when: 'any time',
    node: { datagram: 'create get set' },
    memory: { datagram: 'create get set' },
    text: 'whether a multicast reaches members on this machine, too; default true',
  },
  multicastInterface: {
    constant: ['IP_MULTICAST_IF', 'IPV6_MULTICAST_IF'],
    value: { type: 'text', most: 63 },
    on: ['udp datagram'],
    when: 'any time',
    node: { datagram: 'create get set' },
    memory: { datagram: 'create get set' },
    text: 'the interface that multicasts leave by: its address or its name',
  },
  broadcast: {
    constant: ['SO_BROADCAST'],
    value: { type: 'boolean' },
    on: ['udp datagram'],
    when: 'any time',
    node: { datagram: 'create get set' },
    memory: { datagram: 'create get set' },
    text: 'allow sending to broadcast addresses; default false',
  },
  receiveDetails: {
    constant: ['IP_PKTINFO', 'IPV6_RECVPKTINFO'],
    value: { type: 'boolean' },
    on: ['udp datagram'],
    when: 'any time',
    systems: ['linux'],
    text: 'tell of each datagram the address it was sent to, the interface it came in by, and the hops it had left',
  },
  receiveErrors: {
    constant: ['IP_RECVERR', 'IPV6_RECVERR'],
    value: { type: 'boolean' },
    on: ['udp datagram'],
    when: 'any time',
    systems: ['linux'],
    text: 'report what the network says of any datagram sent, with the address it was for (`remote`), also without a peer',
  },
  userTimeout: {
    constant: ['TCP_USER_TIMEOUT'],
    value: { type: 'integer', unit: 'ms', least: 0, most: 2_147_483_647 },
    on: ['tcp connection', 'tcp listener'],
    when: 'any time',
    systems: ['linux'],
    text: 'how long sent bytes may stay unacknowledged before the connection breaks (RFC 5482); 0: the system’s own time',
  },
  quickAck: {
    constant: ['TCP_QUICKACK'],
    value: { type: 'boolean' },
    on: ['tcp connection'],
    when: 'any time',
    systems: ['linux'],
    text: 'acknowledge at once; the system returns to delaying on its own',
  },
  cork: {
    constant: ['TCP_CORK'],
    value: { type: 'boolean' },
    on: ['tcp connection'],
    when: 'any time',
    systems: ['linux'],
    text: 'hold partial segments back, for at most 200 ms',
  },
  deferAccept: {
    constant: ['TCP_DEFER_ACCEPT'],
    value: { type: 'integer', unit: 'ms', least: 0, most: 2_147_483_000 },
    on: ['tcp listener'],
    when: 'any time',
    systems: ['linux'],
    text: 'accept a connection once bytes have come, waiting this long, rounded up to whole seconds; 0: do not wait',
  },
  fastOpen: {
    constant: ['TCP_FASTOPEN_CONNECT', 'TCP_FASTOPEN'],
    value: { type: 'boolean' },
    on: ['tcp connection', 'tcp listener'],
    when: 'before connect',
    systems: ['linux'],
    text: 'carry the first bytes in the first segment (RFC 7413)',
  },
  notSentLowWater: {
    constant: ['TCP_NOTSENT_LOWAT'],
    value: { type: 'integer', unit: 'bytes', least: 0, most: 2_147_483_647 },
    on: ['tcp connection', 'tcp listener'],
    when: 'any time',
    systems: ['linux'],
    text: 'unsent bytes in the system below which more are welcome',
  },
  maxSegment: {
    constant: ['TCP_MAXSEG'],
    value: { type: 'integer', unit: 'bytes', least: 88, most: 32_767 },
    on: ['tcp connection', 'tcp listener'],
    when: 'before connect',
    systems: ['linux'],
    text: 'the largest segment to announce and to send',
  },
  congestionControl: {
    constant: ['TCP_CONGESTION'],
    value: { type: 'text', most: 15 },
    on: ['tcp connection', 'tcp listener'],
    when: 'any time',
    systems: ['linux'],
    text: 'the congestion control algorithm, such as `cubic` or `bbr`',
  },
  bindToDevice: {
    constant: ['SO_BINDTODEVICE'],
    value: { type: 'text', most: 15 },
    on: ['tcp connection', 'tcp listener', 'udp datagram'],
    when: 'before bind',
    systems: ['linux'],
    text: 'send and receive through this network interface alone',
  },
  mark: {
    constant: ['SO_MARK'],
    value: { type: 'integer', least: 0, most: 4_294_967_295 },
    on: ['tcp connection', 'tcp listener', 'udp datagram'],
    when: 'any time',
    systems: ['linux'],
    text: 'the mark of its packets for routing and filtering; needs a privilege (CAP_NET_ADMIN or CAP_NET_RAW)',
  },
  priority: {
    constant: ['SO_PRIORITY'],
    value: { type: 'integer', least: 0, most: 2_147_483_647 },
    on: ['tcp connection', 'tcp listener', 'udp datagram'],
    when: 'any time',
    systems: ['linux'],
    text: 'the queue of its packets in this machine; above 6 needs a privilege (CAP_NET_ADMIN or CAP_NET_RAW)',
  },
  peerCredentials: {
    constant: ['SO_PEERCRED'],
    value: { type: 'credentials' },
    on: ['unix connection'],
    when: 'never',
    systems: ['linux'],
    text: 'the process, user and group at the other end when it connected: `{ pid, uid, gid }`',
  },
  error: {
    constant: ['SO_ERROR'],
    value: { type: 'errorCode' },
    on: ['tcp connection', 'tcp listener', 'unix connection', 'unix listener', 'udp datagram', 'unix datagram'],
    when: 'never',
    text: 'the error that waits in the socket, as a POSIX code, or null; reading takes it away',
  },
  type: {
    constant: ['SO_TYPE'],
    value: { type: 'socketType' },
    on: ['tcp connection', 'tcp listener', 'unix connection', 'unix listener', 'udp datagram', 'unix datagram'],
    when: 'never',
    node: { connection: 'get', listener: 'get', datagram: 'get' },
    memory: { connection: 'get', listener: 'get', datagram: 'get' },
    text: '`stream`, `datagram` or `seqpacket`',
  },
  protocol: {
    constant: ['SO_PROTOCOL'],
    value: { type: 'protocol' },
    on: ['tcp connection', 'tcp listener', 'unix connection', 'unix listener', 'udp datagram', 'unix datagram'],
    when: 'never',
    node: { connection: 'get', listener: 'get', datagram: 'get' },
    memory: { connection: 'get', listener: 'get', datagram: 'get' },
    text: '`tcp`, `udp` or `unix`',
  },
  tcpInfo: {
    constant: ['TCP_INFO'],
    value: { type: 'tcpInfo' },
    on: ['tcp connection'],
    when: 'never',
    systems: ['linux'],
    text: 'what the system knows of the connection: state, round-trip time, windows, losses',
  },
} as const

type Table = typeof OPTIONS
export type OptionName = keyof Table

/** `SO_PEERCRED`. */
export interface PeerCredentials {
  readonly pid: number
  readonly uid: number
  readonly gid: number
}

/** The core of `struct tcp_info` (linux/tcp.h). Times are milliseconds, sizes bytes, windows and losses segments. */
export interface TcpInfo {
  readonly state:
    | 'established'
    | 'syn-sent'
    | 'syn-received'
    | 'fin-wait-1'
    | 'fin-wait-2'
    | 'time-wait'
    | 'closed'
    | 'close-wait'
    | 'last-ack'
    | 'listen'
    | 'closing'
  /** Segments sent again and not acknowledged yet, and in all. */
  readonly retransmits: number
  readonly totalRetransmits: number
  readonly unacknowledged: number
  readonly lost: number
  readonly retransmitTimeout: number
  readonly roundTrip: number
  readonly roundTripVariation: number
  readonly leastRoundTrip?: number
  readonly sendSegment: number
  readonly receiveSegment: number
  readonly pathMtu: number
  readonly congestionWindow: number
  readonly slowStartThreshold: number
  readonly receiveSpace: number
  readonly bytesAcknowledged?: number
  readonly bytesReceived?: number
  readonly notSentBytes?: number
  /** Bytes a second. */
  readonly deliveryRate?: number
}

interface ValueTypes {
  boolean: boolean
  integer: number
  text: string
  /** Times and count as far as the driver knows them. */
  keepAlive: Partial<KeepAlive> | false
  linger: number | false
  credentials: PeerCredentials
  errorCode: string | null
  socketType: 'stream' | 'datagram' | 'seqpacket'
  protocol: 'tcp' | 'udp' | 'unix'
  tcpInfo: TcpInfo
}

interface InputTypes extends Omit<ValueTypes, 'keepAlive'> {
  keepAlive: Partial<KeepAlive> | boolean
}

/** What `get` gives, by the name of the option. */
export type OptionValues = { readonly [N in OptionName]: ValueTypes[Table[N]['value']['type']] }
/** Options that can be set at some moment. */
export type SettableName = { [N in OptionName]: Table[N]['when'] extends 'never' ? never : N }[OptionName]
/** What `set` and creation take, by the name of the option. */
export type OptionInputs = { readonly [N in SettableName]: InputTypes[Table[N]['value']['type']] }
/** Options that may be given when a socket of this kind is made. */
export type CreationOptions<K extends SocketKind> = {
  [N in SettableName as Extract<Table[N]['on'][number], `${string} ${K}`> extends never ? never : N]?: OptionInputs[N] | undefined
}

/** An option by the numbers of the system, for what the table does not have. */
export interface RawOption {
  readonly level: number
  readonly name: number
  /** Bytes to read, at most 65,535. Default 4: an `int`. */
  readonly length?: number | undefined
}

/** One socket, as its options see it. */
export interface OptionTarget {
  readonly kind: SocketKind
  readonly transport: OptionTransport
  /** The name of the driver. */
  readonly driver: string
  readonly handle: OptionHandle | undefined
  /** What an error tells besides; its `op` is `get` or `set`. */
  readonly facts: ErrorFacts
}

const ROWS: { readonly [name: string]: OptionRow } = OPTIONS

const CREATABLE: { readonly [K in SocketKind]: ReadonlySet<string> } = {
  connection: creatable('connection'),
  listener: creatable('listener'),
  datagram: creatable('datagram'),
}

function creatable(kind: SocketKind): ReadonlySet<string> {
  return new Set(Object.keys(ROWS).filter((name) => rowOf(name).when !== 'never' && rowOf(name).on.some((on) => on.endsWith(kind))))
}

/** The options that may be given when a socket of this kind is made. */
export function creationNames(kind: SocketKind): string[] {
  return [...CREATABLE[kind]]
}

/** Names of options that do not apply to this kind of socket on this transport. */
export function foreignNames(kind: SocketKind, transport: OptionTransport): string[] {
  return creationNames(kind).filter((name) => !rowOf(name).on.includes(`${transport} ${kind}`))
}

/** What a driver can do with an option on this kind of socket; undefined: nothing. A driver the table does not know may try. */
export function abilityOf(driver: string, name: OptionName, kind: SocketKind): OptionAbility | undefined {
  const row = rowOf(name)
  if (driver === 'node' || driver === 'memory') return row[driver]?.[kind]
  return row.when === 'never' ? 'get' : row.when === 'any time' ? 'create get set' : 'create get'
}

/**
 * The value of an option. Throws `OptionError/UNKNOWN_OPTION`, `OptionError/UNSUPPORTED_OPTION` where it does not apply or
 * the driver has none of it, and `SystemFailure` with what the system said.
 */
export function getOption(target: OptionTarget, option: string | RawOption): unknown {
  if (typeof option === 'object' && option !== null) return getRaw(target, option)
  const name = known(option, target)
  return attempt(target, name, (handle) => handle.get(name))
}

/** Sets an option, or throws as {@link getOption}, `OptionError/WRONG_MOMENT`, or a native error for the value; then nothing changed. */
export function setOption(target: OptionTarget, option: string | RawOption, value: unknown): void {
  if (typeof option === 'object' && option !== null) return setRaw(target, option, value)
  const name = known(option, target)
  const { when } = rowOf(name)
  if (when === 'never') throw failure('WRONG_MOMENT', `${name} can be read alone`, target.facts)
  const checked = checkedValue(name as SettableName, value)
  if (when !== 'any time') {
    const verb = { connection: 'connect', listener: 'listen', datagram: 'bind' }[target.kind]
    throw failure('WRONG_MOMENT', `${name} can be set ${when} alone: give it to ${verb}`, target.facts)
  }
  attempt(target, name, (handle) => handle.set(name, checked), ` to ${show(value)}`)
}

/** What a socket that is to be made stands on. */
export interface OptionPlan {
  readonly kind: SocketKind
  readonly transport: OptionTransport
  readonly driver: Pick<Driver, 'name' | 'lacks'>
  readonly facts: ErrorFacts
}

/**
 * The options among `given`, checked, by name; the parts of `keepAlive` are options of their own besides. Throws as
 * {@link setOption} for what this driver cannot do at creation.
 */
export function creationOptions(plan: OptionPlan, given: object): Map<OptionName, unknown> {
  const options = new Map<OptionName, unknown>()
  const add = (name: OptionName, value: unknown) => {
    mustApply(plan, name)
    const can = abilityOf(plan.driver.name, name, plan.kind)?.startsWith('create') && !plan.driver.lacks?.has(name)
    if (!can) throw unsupported({ ...plan, driver: plan.driver.name }, name)
    options.set(name, value)
  }
  for (const [name, value] of Object.entries(given)) {
    if (value !== undefined && CREATABLE[plan.kind].has(name)) add(name as OptionName, checkedValue(name as SettableName, value))
  }
  const keepAlive = options.get('keepAlive')
  if (typeof keepAlive !== 'object') return options
  for (const [part, name] of KEEP_ALIVE_PARTS) {
    const value = (keepAlive as Partial<KeepAlive>)[part]
    if (value !== undefined && !options.has(name)) add(name, value)
  }
  return options
}

/** What every TCP socket is made with: the defaults of a network, and what was asked for. */
export function tcpSettings(
  options: ReadonlyMap<string, unknown>,
  limits: Readonly<Limits>,
): { noDelay: boolean; keepAlive: KeepAlive | false } {
  const noDelay = (options.get('noDelay') as boolean | undefined) ?? true
  if (options.get('keepAlive') === false) return { noDelay, keepAlive: false }
  const [idle, interval, count] = KEEP_ALIVE_PARTS.map(([, name]) => (options.get(name) as number | undefined) ?? limits[name])
  return { noDelay, keepAlive: { idle, interval, count } as KeepAlive }
}

const KEEP_ALIVE_PARTS = [
  ['idle', 'keepAliveIdle'],
  ['interval', 'keepAliveInterval'],
  ['count', 'keepAliveCount'],
] as const

function rowOf(name: string): OptionRow {
  return ROWS[name] as OptionRow
}

/** The name of an option that the target has. */
function known(name: unknown, target: OptionTarget): OptionName {
  if (typeof name !== 'string') throw invalidType('option', 'the name of an option or { level, name }', name)
  if (!Object.hasOwn(ROWS, name)) {
    const what = `there is no option ${show(name)}${suggestion(name, Object.keys(ROWS))}`
    throw failure('UNKNOWN_OPTION', what, target.facts)
  }
  mustApply(target, name as OptionName)
  return name as OptionName
}

function mustApply({ kind, transport, facts }: Pick<OptionTarget, 'kind' | 'transport' | 'facts'>, name: OptionName): void {
  const { on } = rowOf(name)
  if (on.includes(`${transport} ${kind}`)) return
  throw failure('UNSUPPORTED_OPTION', `${name} does not apply to a ${transport} ${kind}; it is an option of ${on.join(', ')}`, facts)
}

function attempt<T>(target: OptionTarget, name: OptionName, fn: (handle: OptionHandle) => T, value = ''): T {
  if (target.handle === undefined) throw unsupported(target, name)
  try {
    return fn(target.handle)
  } catch (error) {
    // A part of an option that has several is named by the driver.
    const { option = name } = error as { option?: OptionName }
    if (systemCode(error) === 'ENOPROTOOPT') throw unsupported(target, option, error)
    throw systemFailure(error, { ...target.facts, phase: 'option' }, `cannot ${value === '' ? 'read' : 'set'} ${name}${value}`)
  }
}

function unsupported(target: Omit<OptionTarget, 'handle'>, name: OptionName, cause?: unknown): OptionError {
  const { driver, kind, transport, facts } = target
  const systems = rowOf(name).systems
  const where = systems === undefined || systems.includes('linux') ? 'linux' : systems.join(', ')
  const who = driver === 'kernel' ? `; it needs ${where}` : `; the driver kernel can, on ${where}`
  const newer = driver === 'node' && rowOf(name).newer ? ', or this one on a newer runtime' : ''
  const message = `the driver ${driver} cannot ${facts.op === 'get' ? 'read' : 'set'} ${name} of a ${transport} ${kind}${who}${newer}`
  return failure('UNSUPPORTED_OPTION', message, { ...facts, cause })
}

function failure(code: CodeOf<'OptionError'>, message: string, facts: ErrorFacts): OptionError {
  return new OptionError(code, message, { ...facts, phase: 'option' })
}

function checkedValue(name: SettableName, value: unknown): unknown {
  const { type, least = 0, most = 0, unit }: OptionValueType = OPTIONS[name].value
  switch (type) {
    case 'boolean':
      return flag(name, value)
    case 'text':
      if (typeof value !== 'string') throw invalidType(name, 'a string', value)
      if (value === '' || value.includes('\0') || Buffer.byteLength(value) > most)
        throw outOfRange(name, `1 to ${most} bytes without NUL`, value)
      return value
    case 'keepAlive':
      return checkedKeepAlive(value)
    case 'linger':
      if (value === false) return false
      if (typeof value !== 'number') throw invalidType(name, 'milliseconds or false', value)
      return wholeNumber(name, value, least, most)
    default:
      if (typeof value !== 'number') throw invalidType(name, `a whole number${unit ? ` (${unit})` : ''}`, value)
      return wholeNumber(name, value, least, most)
  }
}

/** `false`, or the parts that were given; an absent one leaves what the socket has. */
function checkedKeepAlive(value: unknown): Partial<KeepAlive> | false {
  if (typeof value === 'boolean') return value ? {} : false
  if (typeof value !== 'object' || value === null) throw invalidType('keepAlive', 'a boolean or { idle, interval, count }', value)
  refuseUnknown(value, ['idle', 'interval', 'count'], 'keepAlive')
  const parts: Partial<KeepAlive> = {}
  for (const [part, name] of KEEP_ALIVE_PARTS) {
    const given = (value as Partial<KeepAlive>)[part]
    const { least, most } = OPTIONS[name].value
    if (given !== undefined) parts[part] = wholeNumber(`keepAlive.${part}`, given, least, most)
  }
  return parts
}

const LONGEST_RAW = 65_535
const MOST_INT = 2_147_483_647

function numbersOf({ level, name }: RawOption): [number, number] {
  return [wholeNumber('level', level, 0, MOST_INT), wholeNumber('name', name, 0, MOST_INT)]
}

function getRaw(target: OptionTarget, option: RawOption): Uint8Array {
  refuseUnknown(option, ['level', 'name', 'length'], 'get')
  const [level, name] = numbersOf(option)
  const length = wholeNumber('length', option.length ?? 4, 1, LONGEST_RAW)
  return rawAttempt(target, (handle) => handle.getRaw(level, name, length))
}

function setRaw(target: OptionTarget, option: RawOption, value: unknown): void {
  refuseUnknown(option, ['level', 'name'], 'set')
  const [level, name] = numbersOf(option)
  const bytes = rawBytes(value)
  rawAttempt(target, (handle) => handle.setRaw(level, name, bytes))
}

/** A number stands for an `int`. */
function rawBytes(value: unknown): Uint8Array {
  if (typeof value === 'number') return new Uint8Array(Int32Array.of(wholeNumber('value', value, -MOST_INT - 1, MOST_INT)).buffer)
  if (typeof value === 'string') throw invalidType('value', 'bytes or a whole number', value)
  const bytes = bytesOf(value as Bytes, 'value')
  if (bytes.length > LONGEST_RAW) throw outOfRange('value', `at most ${LONGEST_RAW} bytes`, bytes.length)
  return bytes
}

function rawAttempt<T>({ handle, driver, facts }: OptionTarget, fn: (handle: Required<OptionHandle>) => T): T {
  if (handle?.getRaw === undefined || handle.setRaw === undefined)
    throw failure('UNSUPPORTED_OPTION', `the driver ${driver} has no raw options; the driver kernel has, on linux`, facts)
  try {
    return fn(handle as Required<OptionHandle>)
  } catch (error) {
    throw systemFailure(error, facts)
  }
}
