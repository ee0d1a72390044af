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
import type { BindSettings, Driver, ListenerHandle, ListenSettings, StreamHandle } from './driver.js'
import { type CodeOf, type ErrorFacts, SystemFailure, systemFailure } from './errors.js'
import type { Origin } from './lifetime.js'
import type { ConnectOptions } from './network.js'
import { placeOf } from './owner.js'
import { type Direction, enforce } from './policy.js'
import type { Defaults, Wait } from './stream.js'
import { secure } from './tls.js'
import { type ClientTls, prepareClient } from './tls-options.js'

function streamTransport(local: Address, tls: boolean): Transport {
  if (local.family === 'unix') return tls ? 'tls+unix' : 'unix'
  return tls ? 'tls' : 'tcp'
}

/** What the driver takes over; `take` gives undefined for one that cannot. */
async function taken<T>({ driver }: Ground, facts: ErrorFacts, take: (driver: Driver) => Promise<T> | undefined): Promise<T> {
  try {
    const handle = take(driver)
    if (handle !== undefined) return await handle
  } catch (error) {
    // What it is not is in the message of the driver.
    const { code, message } = systemFailure(error, facts)
    const what = error instanceof Error && error.message.startsWith('descriptor ') ? error.message : message
    throw new SystemFailure(code as CodeOf<'SystemFailure'>, `cannot take over ${facts.endpoint}: ${what}`, { ...facts, cause: error })
  }
  const why = `the driver ${driver.name} cannot take over a descriptor: ${driver.guarantees.adoption}; the driver kernel can`
  throw new SystemFailure('UNSUPPORTED', why, facts)
}

/** The endpoint of a socket. Older versions of libuv pad abstract names with zeros, and no endpoint can spell those. */
function endpointIn(address: Address, transport: Transport): ParsedEndpoint {
  return endpointOf(address.family === 'unix' ? { ...address, path: address.path.replace(/\0+$/, '') } : address, transport)
}

/** Asks the policy about a socket that has a name; one without can be reached from nowhere else. */
function permit({ policy }: Ground, direction: Direction, address: Address, transport: Transport, facts: ErrorFacts): void {
  if (policy === undefined || (address.family === 'unix' && address.path === '')) return
  enforce(policy, { direction, endpoint: endpointIn(address, transport), address }, facts)
}

export async function adoptConnection(
  ground: Ground,
  { fd, transport }: DescriptorEndpoint,
  o: ConnectOptions,
  defaults: Defaults,
): Promise<Connection> {
  const { owner } = ground
  const { clock, limits } = owner.shared
  const facts: ErrorFacts = { op: 'connect', endpoint: `fd ${fd}` }
  const connecting: ErrorFacts = { ...facts, phase: 'connect' }
  const where = placeOf(owner.shared)
  const tls = transport === 'tls' ? prepareClient(o.tls ?? {}, { handshakeTimeout: limits.handshake }) : undefined
  return owner.opening(o, connecting, async (wait) => {
    refusePast(wait, clock, () => connecting)
    const left = spanning(wait, clock, limits.connect)
    const handle = await taken(ground, connecting, (driver) => driver.adoptStream?.(fd))
    const { remote } = handle
    const origin = { owner, role: 'adopted', driver: ground.driver.name, defaults } as const
    try {
      if (remote !== undefined) permit(ground, 'connect', remote, streamTransport(remote, tls !== undefined), connecting)
    } catch (error) {
      handle.destroy(true)
      throw error
    }
    const connection = await connectionOver(handle, tls, origin, left(), facts)
    return connection.given(where)
  })
}

/** The connection over a handle, behind a handshake where it speaks TLS. */
export async function connectionOver(
  handle: StreamHandle,
  tls: ClientTls | undefined,
  origin: Origin,
  wait: Wait,
  facts: ErrorFacts,
): Promise<Connection> {
  if (tls === undefined) return new Connection(handle, origin)
  const { clock } = origin.owner.shared
  const secured = await secure(handle, tls, { clock, wait, facts })
  return new Connection(secured.handle, { ...origin, security: secured.info })
}

export async function adoptListener(
  ground: Ground,
  { fd, transport }: DescriptorEndpoint,
  settings: ListenSettings,
  facts: ErrorFacts,
): Promise<[handle: ListenerHandle, endpoint: ParsedEndpoint]> {
  const handle = await taken(ground, facts, (driver) => driver.adoptListener?.(fd, settings))
  try {
    const kind = streamTransport(handle.local, transport === 'tls')
    // A name that no endpoint can spell is refused here.
    const endpoint = endpointIn(handle.local, kind)
    permit(ground, 'listen', handle.local, kind, facts)
    return [handle, endpoint]
  } catch (error) {
    handle.close(() => {})
    throw error
  }
}

export async function adoptDatagram(ground: Ground, { fd, transport }: DescriptorEndpoint, o: BindOptions): Promise<DatagramSocket> {
  const { owner } = ground
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
  const open = (settings: BindSettings) => taken(ground, facts, (driver) => driver.adoptDatagram?.(fd, settings))
  return made(ground, asked, open, named, { deadline: o.deadline, signal: o.signal }, facts, where)
}
