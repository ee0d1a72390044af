/**
 * What may be connected to, listened at and accepted from.
 *
 * A policy that looks at names alone is passed by a name that resolves to 127.0.0.1, one that looks the name up itself by
 * a name that resolves differently the second time. So the policy is asked about each resolved address, in the one
 * place from which that very address, as a literal, goes to the system (the position of the `Control` hook of Go's
 * dialer), and about the peer that the connection then has.
 */

import { resolve as resolvePath } from 'node:path'
import type { Address, ParsedEndpoint, UnixEndpoint } from './address.js'
import { addressOf, formatAddress, formatEndpoint, hostOf, isIp, isUnixEndpoint, parseEndpoint, unmapped } from './address.js'
import { oneOf } from './arguments.js'
import { AddressError, Denied, type ErrorFacts, invalidType, outOfRange, refuseUnknown, show, SocketError } from './errors.js'
import { Cidr, type Classification, classify } from './ranges.js'

export type Direction = 'connect' | 'accept' | 'listen'

/** What a policy is asked. */
export interface PolicyRequest {
  readonly direction: Direction
  /** What was asked for: the endpoint dialled, or the one listened at. */
  readonly endpoint: ParsedEndpoint
  /**
   * The address to connect to, to bind, or of the peer to accept. A `connect` to a name asks once without it, before
   * the name is looked up, and then once for each address that the name has.
   */
  readonly address?: Address
  /** The name that `address` was or would be looked up for. */
  readonly name?: string
}

/** `true` allows; `false` refuses; a text refuses and is the reason. */
export type PolicyVerdict = boolean | string

export type PolicyFunction = (request: PolicyRequest) => PolicyVerdict

/**
 * A policy as lists. A pattern is an address range (`10.0.0.0/8`, `fd00::/8`, `192.0.2.1`), a host name
 * (`example.com`, `*.example.com` for every name below it), or a UNIX socket (`unix:/run/app.sock`, `unix:/run/app/*`).
 */
export interface PolicyRules {
  /** Only what matches one of these. Default: everything. */
  allow?: readonly (string | Cidr)[] | undefined
  /** Never what matches one of these, whatever `allow` says. A range refuses the IPv6 addresses that carry its IPv4 addresses too. */
  deny?: readonly (string | Cidr)[] | undefined
  /** Only these ports: numbers and ranges, `[443, '8000-8999']`. */
  ports?: readonly (number | string)[] | undefined
  /** The directions the rules are for; others are allowed. Default: `['connect']`. */
  directions?: readonly Direction[] | undefined
}

export type Policy = PolicyFunction | PolicyRules

export interface PublicOnlyOptions {
  /** Address ranges allowed although they are not public, `['10.1.2.0/24']`. */
  except?: readonly (string | Cidr)[] | undefined
  /**
   * Allow `64:ff9b::/96` where the IPv4 address in it is public, for networks that reach IPv4 through NAT64 only. Default
   * false.
   */
  nat64?: boolean | undefined
  /** Default: `['connect']`. */
  directions?: readonly Direction[] | undefined
}

/**
 * Allows connections to public Internet addresses alone: the policy for dialling what a stranger named. It refuses
 * every block of IANA's special-purpose registries (private, loopback, link-local, unspecified, shared, multicast,
 * documentation, reserved, …), IPv6 addresses that carry an IPv4 address (v4-compatible, NAT64, 6to4, Teredo, ISATAP;
 * v4-mapped is judged as the IPv4 address that it is), and UNIX sockets.
 *
 * ```ts
 * const network = new Network({ policy: publicOnly() })
 * ```
 */
export function publicOnly(o: PublicOnlyOptions = {}): PolicyFunction {
  refuseUnknown(o, ['except', 'nat64', 'directions'], 'publicOnly')
  const except = (o.except ?? []).map((range) => (range instanceof Cidr ? range : Cidr.parse(range)))
  const directions = directionsOf(o.directions)
  const nat64 = o.nat64 === true
  return ({ direction, endpoint, address }) => {
    if (!directions.has(direction)) return true
    if (isUnixEndpoint(endpoint) || address?.family === 'unix') return 'a UNIX socket is not public'
    if (address === undefined) return true
    const real = unmapped(address.address)
    if (except.some((range) => range.contains(real))) return true
    const found = classify(real)
    if (found.range === 'global' || (nat64 && found.block === '64:ff9b::/96' && found.embedded?.range === 'global')) return true
    return `${found.block ?? real} is ${found.range}, not public`
  }
}

/** A policy from lists. Refuses unknown keys and bad patterns at once, not at the first connection. */
export function policyFrom(rules: PolicyRules): PolicyFunction {
  refuseUnknown(rules, ['allow', 'deny', 'ports', 'directions'], 'policy')
  const allow = rules.allow?.map(patternOf)
  const deny = (rules.deny ?? []).map(patternOf)
  const ports = rules.ports?.map(portsOf)
  const directions = directionsOf(rules.directions)
  return (request) => {
    if (!directions.has(request.direction)) return true
    const { endpoint } = request
    if (!isUnixEndpoint(endpoint)) {
      if (ports?.some((holds) => holds(endpoint.port)) === false) return `port ${endpoint.port} is not allowed`
    } else if (ports !== undefined && allow === undefined) return 'a UNIX socket has none of the allowed ports'
    const subject = subjectOf(request)
    const denied = deny.find((pattern) => pattern.matches(subject, true))
    if (denied) return `${denied.text} is denied`
    if (allow === undefined || allow.some((pattern) => pattern.matches(subject, false))) return true
    // Before the look-up an address range can still match.
    if (subject.address === undefined && subject.name !== undefined && allow.some((pattern) => pattern.isRange)) return true
    return 'nothing allows it'
  }
}

/** Allows what all of `policies` allow; the reason is that of the first that refuses. */
export function allOf(...policies: readonly Policy[]): PolicyFunction {
  const all = policies.map(toPolicy)
  return (request) => {
    for (const policy of all) {
      const verdict = policy(request)
      if (verdict !== true) return verdict
    }
    return true
  }
}

/** Either form of a policy as a function. */
export function toPolicy(policy: Policy): PolicyFunction {
  if (typeof policy === 'function') return policy
  if (typeof policy !== 'object' || policy === null) throw invalidType('policy', 'a function or an object of rules', policy)
  return policyFrom(policy)
}

/**
 * Asks the policy.
 *
 * @throws Denied/POLICY naming the address and the rule; also where the policy itself throws (its error is the `cause`)
 *   or answers with anything but a boolean or a text, such as a promise
 */
export function enforce(policy: PolicyFunction | undefined, request: PolicyRequest, facts: ErrorFacts = {}): void {
  if (policy === undefined) return
  let verdict: unknown
  let cause: unknown
  try {
    verdict = policy(request)
    if (typeof verdict !== 'boolean' && typeof verdict !== 'string')
      cause = invalidType('the verdict of a policy', 'a boolean or a text', verdict)
  } catch (error) {
    cause = error
  }
  if (cause === undefined && verdict === true) return
  const what = request.address === undefined ? '' : ` at ${formatAddress(request.address)}`
  let why = typeof verdict === 'string' ? verdict : ''
  if (cause !== undefined) why = `it failed: ${cause instanceof Error ? cause.message : show(cause)}`
  throw new Denied(
    'POLICY',
    `the policy refused to ${VERBS[request.direction]} ${formatEndpoint(request.endpoint)}${what}${why && `: ${why}`}`,
    {
      endpoint: formatEndpoint(request.endpoint),
      phase: 'policy',
      ...(request.address && { remote: formatAddress(request.address) }),
      ...facts,
      cause,
    },
  )
}

const VERBS: { readonly [D in Direction]: string } = { connect: 'connect to', accept: 'accept at', listen: 'listen at' }
const DIRECTIONS = Object.keys(VERBS) as Direction[]

function directionsOf(directions: readonly Direction[] = ['connect']): ReadonlySet<Direction> {
  return new Set(directions.map((direction) => oneOf('directions', direction, DIRECTIONS)))
}

/** What patterns are matched against. */
interface Subject {
  readonly name: string | undefined
  /** Canonical IP address without scope. */
  readonly address: string | undefined
  /** Addresses that `address` stands for: itself and the IPv4 addresses in it. */
  readonly carried: readonly string[]
  readonly unix: { readonly path: string; readonly abstract: boolean } | undefined
}

function subjectOf(request: PolicyRequest): Subject {
  const address = request.address ?? addressOf(request.endpoint)
  if (address?.family === 'unix') return { name: undefined, address: undefined, carried: [], unix: address }
  const host = hostOf(request.endpoint)
  const name = (request.name ?? (request.direction === 'connect' && host !== undefined && isIp(host) === 0 ? host : undefined))?.replace(
    /\.$/,
    '',
  )
  // Without a host, all interfaces are meant.
  const text = address ? address.address : host === undefined ? '::' : undefined
  return { name, address: text, carried: text === undefined ? [] : carriedBy(text), unix: undefined }
}

function carriedBy(address: string): string[] {
  const all = [address]
  let found: Classification | undefined = classify(address)
  while (found?.embedded) {
    all.push(found.embedded.address)
    found = found.embedded
  }
  return all
}

interface Pattern {
  readonly text: string
  readonly isRange: boolean
  /** `wide`: also what `subject` carries, for refusals. */
  matches(subject: Subject, wide: boolean): boolean
}

function patternOf(given: string | Cidr): Pattern {
  if (given instanceof Cidr) return rangePattern(given)
  if (typeof given !== 'string') throw invalidType('a policy pattern', 'a string or a Cidr', given)
  if (/^unix:/i.test(given)) return unixPattern(given)
  if (given.includes('/') || isIp(given) !== 0) return rangePattern(Cidr.parse(given))
  return namePattern(given)
}

function rangePattern(range: Cidr): Pattern {
  return {
    text: String(range),
    isRange: true,
    matches: ({ address, carried }, wide) => {
      if (address === undefined) return false
      // A v4-mapped address is an IPv4 address; `::/0` does not allow it.
      return wide ? carried.some((one) => range.contains(one)) : range.contains(unmapped(address))
    },
  }
}

function namePattern(text: string): Pattern {
  const below = text.startsWith('*.')
  let host: string | undefined
  try {
    host = hostOf(parseEndpoint({ transport: 'tcp', host: (below ? text.slice(2) : text).replace(/\.$/, ''), port: 0 }))
  } catch (error) {
    if (!(error instanceof SocketError)) throw error
  }
  if (host === undefined || isIp(host) !== 0) {
    throw new AddressError('BAD_HOST', `bad pattern ${show(text)}: expected an address range, a host name, *.name or unix:/path`, {
      phase: 'parse',
    })
  }
  return { text, isRange: false, matches: ({ name }) => name !== undefined && (below ? name.endsWith(`.${host}`) : name === host) }
}

/** Paths are compared as the system walks them, without `.`, `..` and doubled slashes; symbolic links are not followed. */
function unixPattern(text: string): Pattern {
  const { path, abstract } = parseEndpoint(text) as UnixEndpoint
  const walked = (name: string) => (abstract ? name : resolvePath(name))
  const stem = path.endsWith('*') ? path.slice(0, -1) : undefined
  const below = stem === undefined ? undefined : walked(stem) + (!abstract && stem.endsWith('/') && stem !== '/' ? '/' : '')
  return {
    text,
    isRange: false,
    matches: ({ unix }) => {
      if (unix === undefined || unix.abstract !== abstract) return false
      return below === undefined ? walked(unix.path) === walked(path) : walked(unix.path).startsWith(below)
    },
  }
}

function portsOf(given: number | string): (port: number) => boolean {
  const [, low, high] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(String(given)) ?? []
  const [from, to] = [Number(low), Number(high ?? low)]
  if (!(from <= to && to <= 65535)) throw outOfRange('ports', "ports from 0 to 65535, 443 or '8000-8999'", given)
  return (port) => port >= from && port <= to
}
