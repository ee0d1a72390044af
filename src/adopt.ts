/** Taking over sockets that others made, by their descriptors: a parent process, a service manager, another library. */

import {
  type Address,
  type DescriptorEndpoint,
  endpointOf,
  formatEndpoint,
  type ParsedEndpoint,
  reachableEndpoint,
  type Transport,
} from './address.js'
import { type BindOptions, type Ground, made } from './bind.js'
import { Connection } from './connection.js'
import type { DatagramSocket } from './datagram.js'
import { refusePast, spanning } from './deadline.js'
import type { Driver, ListenerHandle, ListenSettings, StreamHandle } from './driver.js'
import { type CodeOf, type ErrorFacts, SystemFailure, systemFailure } from './errors.js'
import type { ConnectOptions } from './network.js'
import { placeOf } from './owner.js'
import { type Direction, enforce } from './policy.js'
import type { Defaults, Wait } from './stream.js'
import { secure } from './tls.js'
import { prepareClient } from './tls-options.js'

export function streamTransport(local: Address, tls: boolean): Transport {
  if (local.family === 'unix') return tls ? 'tls+unix' : 'unix'
  return tls ? 'tls' : 'tcp'
}

/** Calls the driver's method, or says that it has none. */
async function take<M extends 'adoptStream' | 'adoptListener' | 'adoptDatagram', T>(
  driver: Driver,
  method: M,
  facts: ErrorFacts,
  call: (method: NonNullable<Driver[M]>) => Promise<T>,
): Promise<T> {
  const adopt = driver[method]
  if (adopt === undefined) {
    const why = `the driver ${driver.name} cannot take over a descriptor: ${driver.guarantees.adoption}; the driver kernel can`
    throw new SystemFailure('UNSUPPORTED', why, facts)
  }
  try {
    return await call(adopt.bind(driver) as NonNullable<Driver[M]>)
  } catch (error) {
    // What it is not is in the message of the driver.
    const { code, message } = systemFailure(error, facts)
    const what = error instanceof Error && error.message.startsWith('descriptor ') ? error.message : message
    throw new SystemFailure(code as CodeOf<'SystemFailure'>, `cannot take over ${facts.endpoint}: ${what}`, { ...facts, cause: error })
  }
}

/** The endpoint of a socket. Older versions of libuv pad abstract names with zeros, and no endpoint can spell those. */
export function endpointIn(address: Address, transport: Transport): ParsedEndpoint {
  return endpointOf(address.family === 'unix' ? { ...address, path: address.path.replace(/\0+$/, '') } : address, transport)
}

/** Asks the policy about a socket that has a name; one without can be reached from nowhere else. */
function permit({ policy }: Ground, direction: Direction, address: Address | undefined, transport: Transport, facts: ErrorFacts): void {
  if (policy === undefined || address === undefined || (address.family === 'unix' && address.path === '')) return
  enforce(policy, { direction, endpoint: endpointIn(address, transport), address }, facts)
}

export async function adoptConnection(
  ground: Ground,
  { fd, transport }: DescriptorEndpoint,
  o: ConnectOptions,
  defaults: Defaults,
): Promise<Connection> {
  const { driver, owner } = ground
  const { clock, limits } = owner.shared
  const facts: ErrorFacts = { op: 'connect', endpoint: `fd ${fd}`, phase: 'connect' }
  const where = placeOf(owner.shared)
  const tls = transport === 'tls' ? prepareClient({ handshakeTimeout: limits.handshake, ...o.tls }, {}) : undefined
  return owner.opening(o, facts, async (wait) => {
    refusePast(wait, clock, () => facts)
    const left = spanning(wait, clock, limits.connect)
    const handle = await take<'adoptStream', StreamHandle>(driver, 'adoptStream', facts, (adopt) => adopt(fd))
    const origin = { owner, role: 'adopted', driver: driver.name, defaults } as const
    try {
      permit(ground, 'connect', handle.remote, streamTransport(handle.remote ?? UNNAMED, tls !== undefined), facts)
    } catch (error) {
      handle.destroy(true)
      throw error
    }
    if (tls === undefined) return new Connection(handle, origin).given(where)
    const secured = await secure(handle, tls, { clock, wait: left(), facts })
    return new Connection(secured.handle, { ...origin, security: secured.info }).given(where)
  })
}

const UNNAMED: Address = Object.freeze({ family: 'unix', path: '', abstract: false })

export async function adoptListener(
  ground: Ground,
  { fd, transport }: DescriptorEndpoint,
  settings: ListenSettings,
  wait: Wait,
  facts: ErrorFacts,
): Promise<ListenerHandle> {
  const { driver, owner } = ground
  refusePast(wait, owner.shared.clock, () => facts)
  const handle = await take<'adoptListener', ListenerHandle>(driver, 'adoptListener', facts, (adopt) => adopt(fd, settings))
  try {
    const kind = streamTransport(handle.local, transport === 'tls')
    // A name that no endpoint can spell is refused here.
    endpointIn(handle.local, kind)
    permit(ground, 'listen', handle.local, kind, facts)
  } catch (error) {
    handle.close(() => {})
    throw error
  }
  return handle
}

export async function adoptDatagram(ground: Ground, { fd, transport }: DescriptorEndpoint, o: BindOptions): Promise<DatagramSocket> {
  const { driver, owner } = ground
  const facts: ErrorFacts = { op: 'bind', endpoint: `fd ${fd}`, phase: 'bind' }
  if (transport !== undefined) throw new SystemFailure('UNSUPPORTED', 'bind takes datagram sockets, which have no TLS', facts)
  const where = placeOf(owner.shared)
  owner.mustLive(facts)
  const wait = { timeout: o.timeout, deadline: o.deadline, signal: o.signal }
  refusePast(wait, owner.shared.clock, () => facts)
  const asked = { type: 'datagram', reuseAddress: false, reusePort: false, ipv6Only: false, options: new Map() } as const
  const named = (local: Address): [string, Transport] => {
    const kind = local.family === 'unix' ? 'unixgram' : 'udp'
    permit(ground, 'listen', local, kind, facts)
    if (local.family === 'unix' && local.path === '') return ['', kind]
    const endpoint = endpointIn(local, kind)
    return [local.family === 'unix' ? formatEndpoint(endpoint) : reachableEndpoint(endpoint, local), kind]
  }
  const open = (settings: Parameters<NonNullable<Driver['adoptDatagram']>>[1]) =>
    take(driver, 'adoptDatagram', facts, (adopt) => adopt(fd, settings))
  return made(ground, asked, open, named, { deadline: o.deadline, signal: o.signal }, facts, where)
}
