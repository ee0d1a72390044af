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
} from './address.js'
import { oneOf } from './arguments.js'
import { DatagramSocket } from './datagram.js'
import type { DatagramUrl } from './datagram-life.js'
import { refusePast, spanning, within } from './deadline.js'
import type { BindSettings, DatagramHandle, Driver } from './driver.js'
import { AddressError, type ErrorFacts, OptionError, show, SystemFailure, systemFailure } from './errors.js'
import { type CreationOptions, creationOptions } from './options.js'
import { type Owner, placeOf } from './owner.js'
import { enforce, type PolicyFunction } from './policy.js'
import { type Resolver, resolveEndpoint } from './resolve.js'
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
  let refusal: unknown
  const addresses = await ground.owner.opening(o, facts, (wait) => localAddresses(ground, endpoint, wait, facts))
  for (const address of addresses) {
    enforce(ground.policy, { direction: 'listen', endpoint, address }, facts)
    try {
      return await open(address, undefined, (local) => reachableEndpoint(endpoint, local))
    } catch (error) {
      refusal ??= error
      // A machine without IPv6 has no `::` to bind to; a wildcard then means IPv4 alone.
      if (addresses.length === 1 || !isMissingFamily(error)) break
    }
  }
  throw refusal
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
  const look = (wait: Wait) => lookUp(ground, endpoint as IpEndpoint, family, wait, facts)
  const addresses = literal === undefined ? await ground.owner.opening(o, facts, look) : [literal]
  let refusal: unknown
  for (const address of addresses) {
    try {
      enforce(ground.policy, { direction: 'connect', endpoint, address, ...name }, facts)
      const local = from ?? anyAddress(address)
      if (local.family !== address.family) throw unfit(local, text, facts)
      return await open(local, address, () => text)
    } catch (error) {
      refusal ??= error
    }
  }
  throw refusal
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

/** The socket over a handle that `open` gives; `named` gives its endpoint and transport, or throws, and it is closed then. */
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
  let handle
  try {
    handle = await open(settings)
  } catch (error) {
    throw failure(error, facts)
  }
  let endpoint: string
  let transport: Transport
  try {
    refusePast(wait, clock, () => facts)
    ;[endpoint, transport] = named(handle.local)
  } catch (error) {
    handle.close(() => {})
    throw error
  }
  const origin = { owner, driver: driver.name, transport, ipv6Only: settings.ipv6Only, resolver, policy, meter }
  return new DatagramSocket(handle, { ...origin, endpoint: endpoint as DatagramUrl }).given(where)
}

/** A wrong argument stays what it is. */
function failure(error: unknown, facts: ErrorFacts): unknown {
  if (error instanceof TypeError || error instanceof RangeError) return error
  if ((error as { code?: unknown } | null)?.code === 'UNSUPPORTED') {
    return new SystemFailure('UNSUPPORTED', (error as Error).message, { ...facts, cause: error })
  }
  return systemFailure(error, facts)
}

async function localAddresses(ground: Ground, endpoint: ParsedEndpoint, wait: Wait, facts: ErrorFacts): Promise<Address[]> {
  const literal = addressOf(endpoint)
  if (literal !== undefined) return [literal]
  const { host, port } = endpoint as IpEndpoint
  if (host !== undefined) return (await lookUp(ground, endpoint as IpEndpoint, undefined, wait, facts)).slice(0, 1)
  return (['ipv6', 'ipv4'] as const).map((family) => ({ family, address: WILDCARDS[family], port }))
}

function lookUp(ground: Ground, endpoint: IpEndpoint, family: 4 | 6 | undefined, wait: Wait, facts: ErrorFacts): Promise<Address[]> {
  const { clock, limits } = ground.owner.shared
  const asked = resolveEndpoint({ ...endpoint, host: endpoint.host as string }, ground.resolver, { family, signal: wait.signal }, facts)
  return within<Address[]>(asked, spanning(wait, clock, limits.connect)(), clock, () => ({ ...facts, phase: 'resolve' }))
}

function anyAddress(to: Address): Address {
  if (to.family === 'unix') return { family: 'unix', path: '', abstract: false }
  return { family: to.family, address: WILDCARDS[to.family], port: 0 }
}

function unfit(from: Address, text: string, facts: ErrorFacts): OptionError {
  return new OptionError('BAD_VALUE', `from must be an address of the family of ${show(text)}, got one of ${from.family}`, {
    ...facts,
    phase: 'option',
  })
}

export function isMissingFamily(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code
  return code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL' || code === 'EINVAL'
}
