/** Names to addresses. */

import { promises as dns } from 'node:dns'
import { type IpAddress, type IpEndpoint, ipAddress, isIp, sameAddress } from './address.js'
import { refusePast, within } from './deadline.js'
import type { Clock } from './driver.js'
import { AddressError, CODES, type CodeOf, errorCode, type ErrorFacts, invalidType, show, SocketError } from './errors.js'
import type { Wait } from './stream.js'

/** One address of a name. */
export interface ResolvedAddress {
  /** An IP address, with `%scope` where it needs one. */
  readonly address: string
  readonly family: 4 | 6
}

export interface LookupOptions {
  /** Only addresses of this family. */
  family?: 4 | 6 | undefined
  /** Aborts when nobody waits for the answer any more. */
  signal?: AbortSignal | undefined
}

/** Finds the addresses of a name, best first. What it answers is checked: anything but IP addresses is an error. */
export interface Resolver {
  lookup(name: string, o: LookupOptions): Promise<readonly ResolvedAddress[]>
  /** The names of an address; without it a network that uses this resolver has no `reverse`. */
  reverse?(address: string, o: { signal?: AbortSignal | undefined }): Promise<readonly string[]>
}

/** `getaddrinfo(3)`: the hosts file, DNS and whatever else the system asks, in the order of RFC 6724; back, the hosts file and DNS. */
export const systemResolver: Resolver = {
  async lookup(name: string, { family, signal }: LookupOptions): Promise<readonly ResolvedAddress[]> {
    signal?.throwIfAborted()
    const found = await dns.lookup(name, { all: true, verbatim: true, ...(family && { family }) })
    return found.map(({ address }) => ({ address, family: isIp(address) === 6 ? 6 : 4 }))
  },
  async reverse(address: string, { signal }: { signal?: AbortSignal | undefined }): Promise<readonly string[]> {
    signal?.throwIfAborted()
    const resolver = new dns.Resolver()
    const cancel = () => resolver.cancel()
    signal?.addEventListener('abort', cancel, { once: true })
    return resolver.reverse(address).finally(() => signal?.removeEventListener('abort', cancel))
  },
}

/** Most names that {@link cachingResolver} remembers. */
const MOST_NAMES = 1024

/**
 * Remembers the answers of `resolver` for `ttl` milliseconds, and joins look-ups of one name that run at the same time.
 * Failures are not remembered. The policy is asked about each address at each connection all the same, so a remembered
 * answer allows nothing that a fresh one would not.
 *
 * @param clock monotonic milliseconds
 * @param ttl default 30 s, `limits.nameCache`; 0 remembers nothing
 */
export function cachingResolver(resolver: Resolver, clock: { now(): number }, ttl = 30_000): Resolver {
  const known = new Map<string, { until: number; found: readonly ResolvedAddress[] }>()
  const pending = new Map<string, Promise<readonly ResolvedAddress[]>>()
  const ask = async (key: string, name: string, family: 4 | 6 | undefined) => {
    try {
      // Without the signal: whoever joins must not be cancelled by the one who came first.
      const found = await resolver.lookup(name, { family })
      known.delete(key)
      if (ttl > 0) known.set(key, { until: clock.now() + ttl, found })
      if (known.size > MOST_NAMES) known.delete(known.keys().next().value as string)
      return found
    } finally {
      pending.delete(key)
    }
  }
  return {
    async lookup(name: string, { family, signal }: LookupOptions): Promise<readonly ResolvedAddress[]> {
      signal?.throwIfAborted()
      const key = `${family ?? 0} ${name.toLowerCase()}`
      const entry = known.get(key)
      if (entry && clock.now() < entry.until) return entry.found
      let asked = pending.get(key)
      if (asked === undefined) {
        asked = ask(key, name, family)
        pending.set(key, asked)
      }
      return await asked
    },
    ...(resolver.reverse && { reverse: resolver.reverse.bind(resolver) }),
  }
}

/**
 * The addresses of an endpoint with a name, from one look-up, each once, in the order of the resolver.
 *
 * @throws AddressError: ENOTFOUND, EAI_AGAIN, ENODATA (also when nothing is left), RESOLVE_FAILED
 */
export async function resolveEndpoint(endpoint: IpEndpoint, resolver: Resolver, o: LookupOptions, facts: ErrorFacts): Promise<IpAddress[]> {
  const name = endpoint.host as string
  let answer: readonly ResolvedAddress[]
  try {
    answer = await resolver.lookup(name, o)
    if (!Array.isArray(answer)) throw invalidType('the answer of a resolver', 'an array', answer)
  } catch (error) {
    throw lookupFailure(name, error, facts)
  }
  const found: IpAddress[] = []
  for (const entry of answer as readonly (ResolvedAddress | null | undefined)[]) {
    const text: unknown = entry?.address
    // The family is read off the address: what the resolver says of it is not believed.
    const family = typeof text === 'string' ? isIp(text) : 0
    if (family === 0) throw lookupFailure(name, invalidType('an address of a resolver', 'an IP address', text), facts)
    if (o.family !== undefined && family !== o.family) continue
    const address = ipAddress(text as string, endpoint.port)
    if (!found.some((other) => sameAddress(other, address))) found.push(address)
  }
  if (found.length === 0) throw new AddressError('ENODATA', `${CODES.AddressError.ENODATA}: ${show(name)}`, { ...facts, phase: 'resolve' })
  return found
}

/** As {@link resolveEndpoint}, until `wait` is over. */
export function lookUp(
  endpoint: IpEndpoint,
  { resolver, clock, family }: { resolver: Resolver; clock: Clock; family?: 4 | 6 | undefined },
  wait: Wait | undefined,
  facts: ErrorFacts,
): Promise<IpAddress[]> {
  const ask = (signal: AbortSignal) => resolveEndpoint(endpoint, resolver, { family, signal }, facts)
  return asking(ask, wait, clock, { ...facts, phase: 'resolve' })
}

/** What `ask` finds before `wait` is over; its signal aborts when nobody waits for the answer any more. */
export async function asking<T>(
  ask: (signal: AbortSignal) => Promise<T>,
  wait: Wait | undefined,
  clock: Clock,
  facts: ErrorFacts,
): Promise<T> {
  refusePast(wait, clock, () => facts)
  const nobodyWaits = new AbortController()
  try {
    return await within(ask(nobodyWaits.signal), wait, clock, () => facts)
  } finally {
    nobodyWaits.abort()
  }
}

const RESOLVE_CODES: ReadonlyMap<string, CodeOf<'AddressError'>> = new Map([
  ['ENOTFOUND', 'ENOTFOUND'],
  ['EAI_NONAME', 'ENOTFOUND'],
  ['EAI_AGAIN', 'EAI_AGAIN'],
  ['ETIMEOUT', 'EAI_AGAIN'],
  ['ENODATA', 'ENODATA'],
  ['EAI_NODATA', 'ENODATA'],
  ['EAI_ADDRFAMILY', 'ENODATA'],
])

/** What a resolver failed with, as an error of ours. */
export function lookupFailure(name: string, error: unknown, facts: ErrorFacts): SocketError {
  if (error instanceof SocketError) return error
  const code = RESOLVE_CODES.get(errorCode(error)) ?? 'RESOLVE_FAILED'
  const detail = code === 'RESOLVE_FAILED' ? ` (${error instanceof Error ? error.message : show(error)})` : ''
  return new AddressError(code, `${CODES.AddressError[code]}: ${show(name)}${detail}`, { ...facts, phase: 'resolve', cause: error })
}
