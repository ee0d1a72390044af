/** Opening datagram sockets. */

import {
  type Address,
  addressOf,
  type Endpoint,
  type EndpointObject,
  formatEndpoint,
  type IpEndpoint,
  isUnixEndpoint,
  type ParsedEndpoint,
  reachableEndpoint,
  type Transport,
  UNNAMED,
} from './address.js'
import { oneOf } from './arguments.js'
import { DatagramSocket } from './datagram.js'
import type { DatagramUrl } from './datagram-life.js'
import { refusePast, spanning } from './deadline.js'
import type { BindSettings, DatagramHandle, Driver } from './driver.js'
import { AddressError, errorCode, type ErrorFacts, OptionError, show, SocketError, SystemFailure, systemFailure } from './errors.js'
import { type CreationOptions, creationOptions } from './options.js'
import { type Owner, placeOf } from './owner.js'
import { enforce, type PolicyFunction } from './policy.js'
import { lookUp, type Resolver } from './resolve.js'
import type { Wait } from './stream.js'

/** An endpoint of datagrams, as its type tells. */
export type DatagramEndpoint = DatagramUrl | (EndpointObject & { transport: 'udp' | 'unixgram' | 'unixpacket' })

export interface BindOptions extends Wait, CreationOptions<'datagram'> {
  owner?: Owner | undefined
}

export interface DatagramConnectOptions extends BindOptions {
  /** Local address to send from: `192.0.2.7`, `::1`, with a port, `udp://192.0.2.7:5000`, or `unixgram:/path`. */
  from?: Endpoint | undefined
  /** Only addresses of this family. */
  family?: 4 | 6 | undefined
}

/** The network a socket is opened on, as far as that needs it. */
export interface Ground {
  readonly driver: Driver
  readonly resolver: Resolver
  readonly policy: PolicyFunction | undefined
  readonly owner: Owner
}

const WILDCARDS = { ipv4: '0.0.0.0', ipv6: '::' } as const
const TRANSPORTS: readonly string[] = ['udp', 'unixgram', 'unixpacket']

/** Whether datagrams are sent and received at an endpoint. */
export function isDatagram(endpoint: ParsedEndpoint): boolean {
  return TRANSPORTS.includes(endpoint.transport)
}

/** A socket bound at `endpoint`. */
export async function bindDatagram(ground: Ground, endpoint: ParsedEndpoint, o: BindOptions): Promise<DatagramSocket> {
  const facts: ErrorFacts = { op: 'bind', endpoint: formatEndpoint(endpoint), phase: 'bind' }
  if (!isDatagram(endpoint)) {
    const what = `bind takes udp:, unixgram: and unixpacket: endpoints, got ${show(facts.endpoint)}`
    throw new SystemFailure('UNSUPPORTED', what, facts)
  }
  const open = opener(ground, endpoint, o, facts)
  const at = (address: Address) => open(address, undefined, (local) => reachableEndpoint(endpoint, local))
  return ground.owner.opening(o, facts, (wait) => atFirst(ground, endpoint, limited(ground, wait), facts, at))
}

/** A socket that exchanges datagrams with `endpoint` alone. */
export async function connectDatagram(
  ground: Ground,
  endpoint: ParsedEndpoint,
  from: Address | undefined,
  o: DatagramConnectOptions,
): Promise<DatagramSocket> {
  const text = formatEndpoint(endpoint)
  const facts: ErrorFacts = { op: 'connect', endpoint: text, phase: 'connect' }
  const open = opener(ground, endpoint, o, facts)
  if (!isUnixEndpoint(endpoint)) {
    if (endpoint.port === 0) throw new AddressError('BAD_PORT', `bad port 0 in ${show(text)}: expected 1 to 65535`, facts)
    if (endpoint.host === undefined) throw new AddressError('BAD_HOST', `no host in ${show(text)}: expected a name or an address`, facts)
  }
  const literal = addressOf(endpoint)
  const name = literal === undefined ? { name: (endpoint as IpEndpoint).host as string } : undefined
  if (name !== undefined) enforce(ground.policy, { direction: 'connect', endpoint, ...name }, facts)
  if (o.family !== undefined) oneOf('family', o.family, [4, 6])
  const family = o.family ?? (from?.family === 'ipv4' ? 4 : from?.family === 'ipv6' ? 6 : undefined)
  const asked = { resolver: ground.resolver, clock: ground.owner.shared.clock, family }
  const look = (wait: Wait) => lookUp(endpoint as IpEndpoint, asked, limited(ground, wait), facts)
  const addresses: Address[] = literal === undefined ? await ground.owner.opening(o, facts, look) : [literal]
  let refusal: unknown
  for (const address of addresses) {
    try {
      enforce(ground.policy, { direction: 'connect', endpoint, address, ...name }, facts)
      const local = from ?? anyAddress(address)
      if (local.family !== address.family) {
        const what = `from must be an address of the family of ${show(text)}, got one of ${local.family}`
        throw new OptionError('BAD_VALUE', what, { ...facts, phase: 'option' })
      }
      return await open(local, address, () => text)
    } catch (error) {
      refusal ??= error
    }
  }
  throw openFailure(refusal, facts)
}

type Open = (at: Address, to: Address | undefined, endpoint: (local: Address) => string) => Promise<DatagramSocket>

function opener(ground: Ground, endpoint: ParsedEndpoint, o: BindOptions, facts: ErrorFacts): Open {
  const { driver, owner } = ground
  const { transport } = endpoint
  const { clock } = owner.shared
  const where = placeOf(owner.shared)
  owner.mustLive(facts)
  const wait = { deadline: o.deadline, signal: o.signal }
  refusePast({ ...wait, timeout: o.timeout }, clock, () => facts)
  const lacking = transport === 'udp' ? true : driver.guarantees[transport as 'unixgram' | 'unixpacket']
  if (lacking !== true) {
    throw new SystemFailure('UNSUPPORTED', `the ${driver.name} driver has no ${transport}: sockets: ${lacking}`, facts)
  }
  const options = creationOptions({ kind: 'datagram', transport: transport === 'udp' ? 'udp' : 'unix', driver, facts }, o)
  const asked = { reuseAddress: o.reuseAddress ?? false, reusePort: o.reusePort ?? false, ipv6Only: o.ipv6Only ?? false, options }
  return (at, to, endpointFor) => {
    const type = transport === 'unixpacket' ? 'seqpacket' : 'datagram'
    const open = (settings: BindSettings) => driver.bind(at, settings)
    return made(ground, { ...asked, type, to }, open, (local) => [endpointFor(local), transport], wait, facts, where)
  }
}

/** The socket over a handle that `open` gives; `named` gives its endpoint and transport, or throws. */
export async function made(
  { driver, owner, policy, resolver }: Ground,
  asked: Omit<BindSettings, 'queue' | 'held'>,
  open: (settings: BindSettings) => Promise<DatagramHandle>,
  named: (local: Address) => [endpoint: string, transport: Transport],
  wait: Wait,
  facts: ErrorFacts,
  where: string | undefined,
): Promise<DatagramSocket> {
  const { clock, limits, budget } = owner.shared
  const meter = { unread: 0 }
  const settings: BindSettings = {
    ...asked,
    queue: { count: limits.datagrams, bytes: limits.datagramBytes },
    held(change) {
      meter.unread += change
      budget.change(change)
    },
  }
  const handle = await open(settings)
  try {
    refusePast(wait, clock, () => facts)
    const [endpoint, transport] = named(handle.local)
    const origin = { owner, driver: driver.name, transport, ipv6Only: settings.ipv6Only, resolver, policy, meter }
    return new DatagramSocket(handle, { ...origin, endpoint: endpoint as DatagramUrl }).given(where)
  } catch (error) {
    // Also where the owner has ended meanwhile: nobody else would give the descriptor back.
    handle.close(() => {})
    throw error
  }
}

/** What a driver failed with as an error of ours. A wrong argument stays what it is. */
function openFailure(error: unknown, facts: ErrorFacts): unknown {
  if (error instanceof TypeError || error instanceof RangeError || error instanceof SocketError) return error
  if (errorCode(error) === 'UNSUPPORTED') return new SystemFailure('UNSUPPORTED', (error as Error).message, { ...facts, cause: error })
  return systemFailure(error, facts)
}

/** What `open` makes of the first address that this machine has of those that an endpoint means; for all interfaces IPv6, with IPv4. */
export async function atFirst<T>(
  { owner, policy, resolver }: Ground,
  endpoint: ParsedEndpoint,
  wait: Wait,
  facts: ErrorFacts,
  open: (address: Address) => Promise<T>,
): Promise<T> {
  const literal = addressOf(endpoint)
  const { host, port } = endpoint as IpEndpoint
  let addresses: Address[]
  if (literal !== undefined) addresses = [literal]
  else if (host === undefined) addresses = (['ipv6', 'ipv4'] as const).map((family) => ({ family, address: WILDCARDS[family], port }))
  else addresses = (await lookUp(endpoint as IpEndpoint, { resolver, clock: owner.shared.clock }, wait, facts)).slice(0, 1)
  let refusal: unknown
  for (const address of addresses) {
    enforce(policy, { direction: 'listen', endpoint, address }, facts)
    try {
      return await open(address)
    } catch (error) {
      refusal ??= error
      // A machine without IPv6 has no `::` to bind to; a wildcard then means IPv4 alone.
      if (addresses.length === 1 || !isMissingFamily(error)) break
    }
  }
  throw openFailure(refusal, facts)
}

/** Time for a look-up where there is no other limit. */
function limited({ owner }: Ground, wait: Wait): Wait {
  const { clock, limits } = owner.shared
  return spanning(wait, clock, limits.connect)()
}

function anyAddress(to: Address): Address {
  if (to.family === 'unix') return UNNAMED
  return { family: to.family, address: WILDCARDS[to.family], port: 0 }
}

function isMissingFamily(error: unknown): boolean {
  const code = errorCode(error)
  return code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL' || code === 'EINVAL'
}
