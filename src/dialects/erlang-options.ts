/** Options of stream sockets: their types, and what a list of them comes to. */

import { SocketError } from '../index.js'
import type { Data, HeaderData } from './erlang-messages.js'
import type { HttpPacket } from './erlang-http.js'
import { type Cutting, PACKET_TYPES, type PacketType } from './erlang-packets.js'
import { type IpTuple, ipTupleOf, isByte, isIpTuple, isTimeout, isWhole, type LocalAddress, type Timeout } from './erlang-terms.js'

/** `true`: all that comes becomes messages; `'once'`: one; a number: so many more; `false`: `recv` has it. */
export type ActiveMode = boolean | 'once' | number

/** Options that a socket has all its life, for `setopts` and `getopts` too. */
export type SocketOption =
  | 'binary'
  | 'list'
  | readonly ['mode', 'binary' | 'list']
  | readonly ['packet', PacketType]
  | readonly ['packet_size', number]
  | readonly ['line_delimiter', number]
  | readonly ['header', number]
  | readonly ['active', ActiveMode]
  | readonly ['nodelay', boolean]
  | readonly ['linger', readonly [boolean, number]]
  | readonly ['keepalive', boolean]
  | readonly ['send_timeout', Timeout]
  | readonly ['send_timeout_close', boolean]
  | readonly ['exit_on_close', boolean]
  | readonly ['show_econnreset', boolean]
  | readonly ['buffer', number]
  | readonly ['recbuf', number]
  | readonly ['sndbuf', number]
  | readonly ['tos', number]
  | readonly ['ttl', number]
  | readonly ['priority', number]

/** Options of a listening socket besides. */
export type ListenerOption =
  | readonly ['backlog', number]
  | readonly ['ip', string | IpTuple | LocalAddress]
  | readonly ['ifaddr', string | IpTuple | LocalAddress]
  | readonly ['reuseaddr', boolean]
  | readonly ['ipv6_v6only', boolean]
  | readonly ['fd', number]
  | 'inet'
  | 'inet6'
  | 'local'

/** Options of a connecting socket besides. */
export type ConnectorOption =
  | readonly ['ip', string | IpTuple | LocalAddress]
  | readonly ['ifaddr', string | IpTuple | LocalAddress]
  | readonly ['port', number]
  | readonly ['reuseaddr', boolean]
  | 'inet'
  | 'inet6'
  | 'local'

/** What is received under a list of options: text, a `Uint8Array`, or what `{packet, http}` gives. */
export type DataOf<O extends readonly unknown[]> = number extends O['length']
  ? Data
  : readonly ['packet', 'http' | 'http_bin' | 'httph' | 'httph_bin'] extends O[number]
    ? Data
    : Extract<O[number], readonly ['packet', 'http' | 'http_bin' | 'httph' | 'httph_bin']> extends never
      ? Extract<O[number], 'binary' | readonly ['mode', 'binary']> extends never
        ? string
        : Extract<O[number], readonly ['header', number]> extends never
          ? Uint8Array
          : Uint8Array | HeaderData
      : Extract<O[number], readonly ['packet', 'http' | 'httph']> extends never
        ? HttpPacket<Uint8Array>
        : HttpPacket

/** What a socket goes by. */
export interface StreamSettings extends Cutting {
  mode: 'binary' | 'list'
  header: number
  active: ActiveMode
  nodelay: boolean
  /** Whether a close waits for what is to be sent, and how many seconds: 0 resets. */
  linger: readonly [boolean, number]
  keepalive: boolean
  sendTimeout: Timeout
  sendTimeoutClose: boolean
  exitOnClose: boolean
  showReset: boolean
  recbuf: number | undefined
  sndbuf: number | undefined
  tos: number | undefined
  ttl: number | undefined
  priority: number | undefined
}

/** What only opening a socket goes by. */
export interface PlaceSettings {
  backlog: number
  ip: IpTuple | LocalAddress | undefined
  port: number
  family: 4 | 6 | undefined
  ipv6Only: boolean
  /** The descriptor of a socket that listens already. */
  fd: number | undefined
}

export function defaultSettings(kind: 'ssl' | 'tcp'): StreamSettings {
  return {
    mode: 'list',
    packet: 0,
    packetSize: 0,
    lineLength: Number.POSITIVE_INFINITY,
    lineDelimiter: 10,
    atStart: true,
    wanted: 0,
    header: 0,
    active: true,
    nodelay: false,
    linger: [false, 0],
    keepalive: false,
    sendTimeout: 'infinity',
    sendTimeoutClose: false,
    exitOnClose: true,
    showReset: kind === 'ssl',
    recbuf: undefined,
    sndbuf: undefined,
    tos: undefined,
    ttl: undefined,
    priority: undefined,
  }
}

export function defaultPlace(): PlaceSettings {
  return { backlog: 5, ip: undefined, port: 0, family: undefined, ipv6Only: false, fd: undefined }
}

type Setter<T> = (value: unknown, into: T) => boolean

function flag<K extends string>(key: K): Setter<Record<K, boolean>> {
  return (value, into) => typeof value === 'boolean' && assign(into, key, value)
}

function assign<T, K extends keyof T>(into: T, key: K, value: T[K]): true {
  into[key] = value
  return true
}

/** The number of a descriptor. */
export function isDescriptor(value: unknown): value is number {
  return isWhole(value, 0, 0x7fff_ffff)
}

/** `{true, Seconds}` or `{false, _}`. */
function isLinger(value: unknown): value is readonly [boolean, number] {
  return Array.isArray(value) && value.length === 2 && typeof value[0] === 'boolean' && isWhole(value[1], 0, 0x7fff_ffff)
}

/** The counter of `{active, N}`. */
export function isCount(value: unknown): value is number {
  return isWhole(value, -32_768, 32_767)
}

const STREAM: Readonly<Record<string, Setter<StreamSettings>>> = {
  mode: (value, into) => (value === 'binary' || value === 'list') && assign(into, 'mode', value),
  packet: (value, into) => (PACKET_TYPES as readonly unknown[]).includes(value) && packetInto(value as PacketType, into),
  packet_size: (value, into) => isWhole(value, 0, 0x7fff_ffff) && assign(into, 'packetSize', value),
  line_delimiter: (value, into) => isByte(value) && assign(into, 'lineDelimiter', value),
  header: (value, into) => isWhole(value, 0) && assign(into, 'header', value),
  active: (value, into) =>
    (typeof value === 'boolean' || value === 'once' || isCount(value)) && assign(into, 'active', value as ActiveMode),
  nodelay: flag('nodelay'),
  linger: (value, into) => isLinger(value) && assign(into, 'linger', value),
  keepalive: flag('keepalive'),
  send_timeout: (value, into) => isTimeout(value) && assign(into, 'sendTimeout', value),
  send_timeout_close: flag('sendTimeoutClose'),
  exit_on_close: flag('exitOnClose'),
  show_econnreset: flag('showReset'),
  // The size of the driver's own buffer: it tells where a long line is cut.
  buffer: (value, into) => isWhole(value, 1) && assign(into, 'lineLength', value),
  recbuf: (value, into) => isWhole(value, 1) && assign(into, 'recbuf', value),
  sndbuf: (value, into) => isWhole(value, 1) && assign(into, 'sndbuf', value),
  tos: (value, into) => isByte(value) && assign(into, 'tos', value),
  ttl: (value, into) => isWhole(value, 1, 255) && assign(into, 'ttl', value),
  priority: (value, into) => isWhole(value, 0) && assign(into, 'priority', value),
}

function packetInto(packet: PacketType, into: StreamSettings): true {
  into.packet = packet
  into.atStart = true
  return true
}

function address(value: unknown): IpTuple | LocalAddress | undefined {
  if (typeof value === 'string') return ipTupleOf(value)
  if (Array.isArray(value) && value.length === 2 && value[0] === 'local' && typeof value[1] === 'string') return value as never
  return isIpTuple(value) ? value : undefined
}

function placed(value: unknown, into: PlaceSettings): boolean {
  into.ip = address(value)
  return into.ip !== undefined
}

const PLACE: Readonly<Record<string, Setter<PlaceSettings>>> = {
  ip: placed,
  ifaddr: placed,
  // On for every listening socket, as the original has it; nothing else looks at it.
  reuseaddr: (value) => typeof value === 'boolean',
}
const LISTENER: Readonly<Record<string, Setter<PlaceSettings>>> = {
  ...PLACE,
  backlog: (value, into) => isWhole(value, 0) && assign(into, 'backlog', Math.max(1, Math.min(value, 65_535))),
  ipv6_v6only: flag('ipv6Only'),
  fd: (value, into) => isDescriptor(value) && assign(into, 'fd', value),
}
const CONNECTOR: Readonly<Record<string, Setter<PlaceSettings>>> = {
  ...PLACE,
  port: (value, into) => isWhole(value, 0, 65_535) && assign(into, 'port', value),
}

const FAMILIES: Readonly<Record<string, 4 | 6>> = { inet: 4, inet6: 6 }

export type Role = 'listen' | 'connect' | 'set'

/**
 * Reads a list of options into `stream`, `place` and whatever `others` knows; false for a list with anything in it that is no
 * option, or has no such value. Then what was given is half filled.
 */
export function readOptions<X>(
  list: unknown,
  role: Role,
  into: { stream: StreamSettings; place: PlaceSettings; others: X },
  others: Readonly<Record<string, Setter<X>>> = {},
): boolean {
  if (!Array.isArray(list)) return false
  const places = role === 'listen' ? LISTENER : role === 'connect' ? CONNECTOR : {}
  for (const option of list as readonly unknown[]) {
    const [name, value] = pairOf(option, role, into.place)
    if (name === undefined) return false
    if (name === '') continue
    const stream = Object.hasOwn(STREAM, name) ? STREAM[name] : undefined
    const place = Object.hasOwn(places, name) ? places[name] : undefined
    const other = Object.hasOwn(others, name) ? others[name] : undefined
    const done = stream?.(value, into.stream) ?? place?.(value, into.place) ?? other?.(value, into.others) ?? false
    if (!done) return false
  }
  return true
}

/** An option as name and value; the name is empty for a bare atom that was dealt with, and absent for what is no option. */
function pairOf(option: unknown, role: Role, place: PlaceSettings): readonly [string | undefined, unknown] {
  if (option === 'binary' || option === 'list') return ['mode', option]
  if (typeof option === 'string') {
    if (role === 'set') return [undefined, undefined]
    if (option === 'local') return ['', undefined]
    const family = Object.hasOwn(FAMILIES, option) ? FAMILIES[option] : undefined
    if (family === undefined) return [undefined, undefined]
    place.family = family
    return ['', undefined]
  }
  if (!Array.isArray(option) || option.length !== 2 || typeof option[0] !== 'string') return [undefined, undefined]
  return option as unknown as readonly [string, unknown]
}

/** What `{active, V}` in a list of options makes of `before`, one after the other: a number is added to a counter. */
export function activeAfter(list: unknown, before: ActiveMode): ActiveMode | undefined {
  let mode: ActiveMode | undefined
  for (const option of list as readonly unknown[]) {
    if (!Array.isArray(option) || option[0] !== 'active') continue
    const value = option[1] as ActiveMode
    const from: ActiveMode = mode ?? before
    mode = typeof value === 'number' && typeof from === 'number' ? from + value : value
  }
  return mode
}

/** The values of options by their names, or undefined where one is none. */
export function optionValues(
  names: unknown,
  settings: StreamSettings,
  socket: { get(option: SystemOption): unknown },
): readonly (readonly [string, unknown])[] | undefined {
  if (!Array.isArray(names)) return undefined
  const found: (readonly [string, unknown])[] = []
  for (const name of names as readonly unknown[]) {
    if (typeof name !== 'string') return undefined
    const system = Object.hasOwn(SYSTEM, name) ? SYSTEM[name] : undefined
    const value = system === undefined ? optionValue(name, settings) : systemValue(() => socket.get(system))
    if (value === undefined && system === undefined) return undefined
    // As in the original, what the system does not have is left out.
    if (value !== undefined) found.push([name, value])
  }
  return found
}

/** Options whose value the system knows. */
type SystemOption = 'receiveBuffer' | 'sendBuffer' | 'typeOfService' | 'ttl' | 'priority'
const SYSTEM: Readonly<Record<string, SystemOption>> = {
  recbuf: 'receiveBuffer',
  sndbuf: 'sendBuffer',
  tos: 'typeOfService',
  ttl: 'ttl',
  priority: 'priority',
}

/** The value that the system has, or undefined where the driver or the kind of socket does not tell, or the socket is over. */
export function systemValue<V>(get: () => V): V | undefined {
  try {
    return get()
  } catch (error) {
    if (error instanceof SocketError) return undefined
    throw error
  }
}

/** The value of an option that a socket has, by its name, or undefined. */
function optionValue(name: string, settings: StreamSettings): unknown {
  const values: Readonly<Record<string, unknown>> = {
    mode: settings.mode,
    packet: settings.packet,
    packet_size: settings.packetSize,
    line_delimiter: settings.lineDelimiter,
    header: settings.header,
    active: settings.active,
    nodelay: settings.nodelay,
    linger: settings.linger,
    keepalive: settings.keepalive,
    send_timeout: settings.sendTimeout,
    send_timeout_close: settings.sendTimeoutClose,
    exit_on_close: settings.exitOnClose,
    show_econnreset: settings.showReset,
    buffer: Number.isFinite(settings.lineLength) ? settings.lineLength : 1460,
  }
  return Object.hasOwn(values, name) ? values[name] : undefined
}
