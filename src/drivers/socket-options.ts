/** What the runtime lets one set on its stream sockets, and what it lacks. */

import { Socket } from 'node:net'
import type { DialSettings, KeepAlive, ListenSettings, OptionHandle } from '../driver.js'
import { keepAliveOf, keepAliveValues, Remembered } from './remembered.js'
import { refusal } from './refusal.js'
import { onNode } from './runtime.js'

/** Newer sockets have more (Node 25 and later). */
interface Newer {
  setKeepAlive(on: boolean, idle?: number, interval?: number, count?: number): unknown
  setTypeOfService?(value: number): unknown
  getTypeOfService?(): number
}

const { setTypeOfService } = Socket.prototype as unknown as Newer
/** Whether interval and count of keep-alive probes can be chosen. */
export const EXACT_KEEP_ALIVE: boolean = Socket.prototype.setKeepAlive.length >= 4

const SETTABLE: ReadonlySet<string> = new Set([
  'noDelay',
  'keepAlive',
  'keepAliveIdle',
  ...(EXACT_KEEP_ALIVE ? ['keepAliveInterval', 'keepAliveCount'] : []),
  ...(setTypeOfService ? ['typeOfService'] : []),
])

/** Older runtimes take `reusePort` and do nothing (it came with 22.12 and 23.1). */
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
const hasReusePort = onNode && (major > 23 || (major === 23 && minor >= 1) || (major === 22 && minor >= 12))

/** Options of the table that this version of the runtime does not have. */
export const LACKS: ReadonlySet<string> = new Set([
  ...['keepAliveInterval', 'keepAliveCount', 'typeOfService'].filter((name) => !SETTABLE.has(name)),
  ...(hasReusePort ? [] : ['reusePort']),
])

/** What a TCP socket is made with, by name. */
export function tcpValues({ noDelay, keepAlive, options }: Pick<DialSettings, 'noDelay' | 'keepAlive' | 'options'>): Map<string, unknown> {
  const { interval: _interval, count: _count, ...known } = keepAlive || {}
  const asMade = keepAlive && (EXACT_KEEP_ALIVE ? keepAlive : known)
  const given = [...(options ?? [])].filter(([name]) => SETTABLE.has(name) && name !== 'keepAlive')
  return new Map([['noDelay', noDelay], ...given, ...keepAliveValues(asMade), ...TCP])
}

/** What is known of a socket that others made. */
export const TCP: ReadonlyMap<string, unknown> = new Map([
  ['type', 'stream'],
  ['protocol', 'tcp'],
])
const UNIX: ReadonlyMap<string, unknown> = new Map([
  ['type', 'stream'],
  ['protocol', 'unix'],
])

/** The options of a socket, made with `values`; `current` is the object that has its descriptor now. */
export function socketOptions(current: () => Socket, values: ReadonlyMap<string, unknown> | 'unix'): OptionHandle {
  if (values === 'unix') return new Remembered(UNIX, new Set())
  const service = setTypeOfService && (current() as unknown as Newer).getTypeOfService?.()
  const all = service === undefined ? values : new Map([...values, ['typeOfService', service] as const])
  return new Remembered(all, SETTABLE, (name, value) => apply(current(), name, value))
}

/** The options of a listener: connections that it accepts from then on are made with its values. */
export function listenerOptions(settings: ListenSettings, unix: boolean): Remembered {
  if (unix) return new Remembered(UNIX, new Set())
  const { ipv6Only, reusePort } = settings
  const service: [string, unknown][] = setTypeOfService ? [['typeOfService', 0]] : []
  return new Remembered(new Map([...service, ...tcpValues(settings), ['ipv6Only', ipv6Only], ['reusePort', reusePort]]), SETTABLE)
}

/** Gives a new socket what it is made with. */
export function tune(socket: Socket, values: ReadonlyMap<string, unknown>): void {
  apply(socket, 'noDelay', values.get('noDelay'))
  apply(socket, 'keepAlive', keepAliveOf(values))
  const service = values.get('typeOfService')
  if (service !== undefined && service !== 0) apply(socket, 'typeOfService', service)
}

const DEFAULT_IDLE = 15_000

function apply(socket: Socket, name: string, value: unknown): void {
  if (socket.destroyed) throw refusal('EBADF', `${name} of a socket that is closed`)
  const newer = socket as unknown as Newer
  if (name === 'typeOfService') newer.setTypeOfService?.(value as number)
  else if (name === 'noDelay') {
    // The runtime takes what it remembers for what the system has, and knows nothing of a socket made around a used handle.
    if (value === false) socket.setNoDelay(true)
    socket.setNoDelay(value as boolean)
  } else {
    const { idle = DEFAULT_IDLE, interval, count } = (value || {}) as Partial<KeepAlive>
    newer.setKeepAlive(true, wholeSeconds(idle), interval && wholeSeconds(interval), count)
    if (value === false) socket.setKeepAlive(false)
  }
}

/** The runtime cuts off what it cannot use, and takes 0 for the system's own time. */
export function wholeSeconds(ms: number): number {
  return Math.ceil(ms / 1000) * 1000
}
