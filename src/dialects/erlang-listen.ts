/** Listening sockets of `ssl` and `gen_tcp`, and where sockets are opened. */

import { type Connection, type EndpointObject, listen as bindListener, type Listener } from '../index.js'
import type { Data } from './erlang-messages.js'
import { defaultPlace, optionValues, type PlaceSettings, readOptions, type StreamSettings } from './erlang-options.js'
import { current, keep, Linkable, type Pid, Process, processOf } from './erlang-process.js'
import { posixReason, type TcpReason } from './erlang-reasons.js'
import { addressPair, type SocketAddress } from './erlang-socket.js'
import {
  type Failure,
  type IpTuple,
  ipTextOf,
  isIpTuple,
  isWhole,
  looseIp4,
  type LocalAddress,
  type Ok,
  type Timeout,
} from './erlang-terms.js'

/** A listening socket: for `accept`, `close` and the questions of `inet`. */
export class ListenSocket<D = Data> {
  declare readonly data: D
  readonly kind: 'ssl' | 'tcp'
  /** What accepted sockets begin with. @internal */
  readonly settings: StreamSettings
  readonly #listener: Listener
  readonly #bond: Linkable
  #owner: Process
  #closed = false

  /** @internal */
  constructor(kind: 'ssl' | 'tcp', listener: Listener, settings: StreamSettings, owner: Process) {
    this.kind = kind
    this.settings = settings
    this.#listener = listener
    this.#owner = owner
    this.#bond = new Linkable((from, reason, how) => {
      if (reason === 'normal' && (how === 'exit' || from !== this.#owner.pid)) return
      this.#bond.leave(reason)
      void this.close()
    })
    this.#bond.link(owner)
    keep(listener)
  }

  /** @internal */
  get pid(): Pid {
    return this.#bond.pid
  }

  /** @internal */
  get closed(): boolean {
    return this.#closed
  }

  /** @internal */
  get listener(): Listener {
    return this.#listener
  }

  /** @internal */
  async close(): Promise<'ok'> {
    this.#closed = true
    for (const process of this.#bond.links) this.#bond.unlink(process)
    this.#bond.leave('normal')
    await this.#listener.close()
    return 'ok'
  }

  /** @internal */
  address(): Ok<SocketAddress> | Failure<'einval'> {
    return this.#closed ? ['error', 'einval'] : ['ok', addressPair(this.#listener.local)]
  }

  /** @internal */
  controlling(pid: unknown): 'ok' | Failure<'closed' | 'not_owner' | 'badarg'> {
    if (this.#closed) return ['error', 'closed']
    const [caller, to] = [current(), processOf(pid)]
    if (caller !== this.#owner) return ['error', 'not_owner']
    if (!(to instanceof Process) || to.over !== undefined) return ['error', 'badarg']
    if (to === caller) return 'ok'
    this.#bond.unlink(caller)
    this.#bond.link(to)
    this.#owner = to
    return 'ok'
  }

  /** @internal */
  getopts(names: unknown): readonly (readonly [string, unknown])[] | undefined {
    return optionValues(names, this.settings, this.#listener)
  }

  /** A listening socket receives and sends nothing. @internal */
  stats(): Readonly<Record<string, number>> {
    return NOTHING
  }

  /** @internal */
  setopts(list: unknown): 'ok' | 'einval' {
    if (this.#closed) return 'einval'
    const changed = { ...this.settings }
    if (!readOptions(list, 'set', { stream: changed, place: defaultPlace(), others: {} })) return 'einval'
    Object.assign(this.settings, changed)
    return 'ok'
  }
}

const NOTHING: Readonly<Record<string, number>> = Object.fromEntries(
  'recv_cnt recv_oct recv_max recv_avg recv_dvi send_cnt send_oct send_max send_avg send_pend'.split(' ').map((name) => [name, 0]),
)

/** @internal */
export function isHost(address: unknown): boolean {
  return isIpTuple(address) || (typeof address === 'string' && address !== '')
}

/** Whether an address is of another family than the options ask for. @internal */
export function isForeign(address: unknown, family: 4 | 6 | undefined): boolean {
  return isIpTuple(address) && family !== undefined && address.length !== (family === 4 ? 4 : 8)
}

/** Where a host address leads, or undefined for what is none. @internal */
export function endpointFor(address: unknown, port: unknown, transport: 'tcp' | 'tls'): EndpointObject | undefined {
  if (Array.isArray(address) && address.length === 2 && address[0] === 'local') {
    return localEndpoint(address as unknown as LocalAddress, transport)
  }
  if (!isWhole(port, 1, 65_535)) return undefined
  if (isIpTuple(address)) return { transport, host: ipTextOf(address), port }
  if (typeof address !== 'string' || address === '') return undefined
  const short = looseIp4(address)
  return { transport, host: short === undefined ? address : ipTextOf(short), port }
}

function localEndpoint([, path]: LocalAddress, transport: 'tcp' | 'tls'): EndpointObject | undefined {
  if (typeof path !== 'string' || path === '') return undefined
  const abstract = path.startsWith('\0')
  return { transport: transport === 'tls' ? 'tls+unix' : 'unix', path: abstract ? path.slice(1) : path, abstract }
}

/** Where a socket is to listen. @internal */
export function listenEndpoint(port: number, { ip, family }: PlaceSettings): EndpointObject | undefined {
  if (ip !== undefined && ip[0] === 'local') return localEndpoint(ip, 'tcp')
  if (ip !== undefined) return { transport: 'tcp', host: ipTextOf(ip as IpTuple), port }
  return { transport: 'tcp', host: family === 6 ? '::' : '0.0.0.0', port }
}

/** Options of the core for a socket with these settings. @internal */
export function creation(
  settings: StreamSettings,
  local: boolean,
): {
  noDelay?: boolean
  keepAlive?: boolean
  receiveBuffer?: number
  sendBuffer?: number
  typeOfService?: number
  ttl?: number
  priority?: number
} {
  if (local) return {}
  const { nodelay, keepalive, recbuf, sndbuf, tos, ttl, priority } = settings
  return {
    noDelay: nodelay,
    keepAlive: keepalive,
    ...(recbuf !== undefined && { receiveBuffer: recbuf }),
    ...(sndbuf !== undefined && { sendBuffer: sndbuf }),
    ...(tos !== undefined && { typeOfService: tos }),
    ...(ttl !== undefined && { ttl }),
    ...(priority !== undefined && { priority }),
  }
}

/** The local end a socket connects from, where the options say one. @internal */
export function fromOf({ ip, port, family }: PlaceSettings): { from?: EndpointObject } {
  if (ip !== undefined && ip[0] === 'local') return {}
  if (ip === undefined && port === 0) return {}
  return { from: { transport: 'tcp', host: ip === undefined ? (family === 6 ? '::' : '0.0.0.0') : ipTextOf(ip as IpTuple), port } }
}

/** A timeout of Erlang for the core; a time of 0 leaves the event loop one turn. @internal */
export function waitOf(timeout: Timeout): { timeout?: number } {
  return timeout === 'infinity' ? {} : { timeout: Math.max(1, timeout) }
}

/** @internal */
export async function openListener(port: number, stream: StreamSettings, place: PlaceSettings): Promise<Ok<Listener> | Failure<TcpReason>> {
  const { fd } = place
  const at = listenEndpoint(port, place)
  // What listens already has its place.
  const isOdd = at === undefined || isForeign(place.ip, place.family) || (fd !== undefined && (port !== 0 || place.ip !== undefined))
  if (isOdd) return ['error', 'einval']
  const process = current()
  process.mustLive()
  const { owner } = process
  const { backlog, ipv6Only } = place
  const local = at.transport === 'unix'
  try {
    if (fd !== undefined) return ['ok', await bindListener({ fd }, { owner, noDelay: stream.nodelay, keepAlive: stream.keepalive })]
    const more = local ? { unlinkStale: false } : { ...(ipv6Only && { ipv6Only }) }
    return ['ok', await bindListener(at, { owner, backlog, ...more, ...creation(stream, local) })]
  } catch (error) {
    return ['error', posixReason(error)]
  }
}

/** A connection, which belongs to the calling process. @internal */
export async function acceptOn(
  listenSocket: ListenSocket<unknown>,
  timeout: Timeout,
): Promise<Ok<Connection> | Failure<'timeout' | 'closed' | 'einval'>> {
  const process = current()
  process.mustLive()
  try {
    // The signal takes a waiting call out of the queue when the process is ended.
    const connection = await listenSocket.listener.accept({ ...waitOf(timeout), signal: process.owner.signal })
    try {
      connection.moveTo(process.owner)
    } catch (error) {
      connection.abort()
      throw error
    }
    return ['ok', connection]
  } catch (error) {
    process.mustLive()
    const reason = posixReason(error)
    return ['error', reason === 'timeout' || reason === 'closed' ? reason : 'einval']
  }
}
