/** What this machine knows of itself and of names: its own name and addresses, look-ups both ways, services and their ports. */

import { readFileSync } from 'node:fs'
import { hostname, networkInterfaces } from 'node:os'
import { addressOf, canonicalIp, type IpAddress, type IpEndpoint, isIp, parseEndpoint } from './address.js'
import { oneOf, wholeNumber } from './arguments.js'
import type { Clock } from './driver.js'
import { AddressError, CODES, type ErrorFacts, invalidType, show, SystemFailure, systemFailure } from './errors.js'
import { asking, lookUp, lookupFailure, type ResolvedAddress, type Resolver } from './resolve.js'
import type { Wait } from './stream.js'

export interface NameOptions extends Wait {
  /** Only addresses of this family. */
  family?: 4 | 6 | undefined
}

/** An address of this machine. */
export interface InterfaceAddress {
  /** The interface, such as `eth0`. */
  readonly interface: string
  readonly family: 4 | 6
  /** Without a scope. */
  readonly address: string
  /** What a link-local IPv6 address needs besides: `[fe80::1%eth0]`. */
  readonly scope?: string
  /** The address and the length of its network's prefix, `192.0.2.7/24`. */
  readonly cidr: string
  /** The hardware address, `00:00:00:00:00:00` where there is none. */
  readonly mac: string
  readonly loopback: boolean
}

/** A row of services(5). */
export interface Service {
  readonly name: string
  readonly port: number
  readonly protocol: 'tcp' | 'udp'
  readonly aliases: readonly string[]
}

/** What this machine calls itself, gethostname(2). */
export function hostName(): string {
  return hostname()
}

/**
 * The addresses of the interfaces that are up, getifaddrs(3).
 *
 * ```ts
 * import { interfaces } from 'fairlead'
 *
 * console.log(interfaces().find(({ loopback, family }) => loopback && family === 4)?.cidr) // 127.0.0.1/8
 * ```
 *
 * @throws `SystemFailure`
 */
export function interfaces(): InterfaceAddress[] {
  const facts: ErrorFacts = { op: 'interfaces' }
  let all: ReturnType<typeof networkInterfaces>
  try {
    all = networkInterfaces()
  } catch (error) {
    throw systemFailure(error, facts)
  }
  return Object.entries(all).flatMap(([name, addresses = []]) =>
    addresses.map(({ address, family, cidr, mac, internal, scopeid }) => ({
      interface: name,
      family: family === 'IPv6' ? 6 : 4,
      address,
      // Windows knows interfaces by number here.
      ...(scopeid && { scope: process.platform === 'win32' ? String(scopeid) : name }),
      cidr: cidr ?? `${address}/${family === 'IPv6' ? 128 : 32}`,
      mac,
      loopback: internal,
    })),
  )
}

/** The addresses of a name, best first. @internal {@link Network.lookup} */
export async function lookUpName(resolver: Resolver, clock: Clock, name: string, o: NameOptions): Promise<ResolvedAddress[]> {
  if (typeof o !== 'object' || o === null) throw invalidType('options', 'an object', o)
  const { family, ...wait } = o
  if (typeof name !== 'string') throw invalidType('name', 'a string', name)
  if (family !== undefined) oneOf('family', family, [4, 6])
  const facts: ErrorFacts = { op: 'lookup', phase: 'resolve' }
  const endpoint = endpointNamed(name, facts)
  const literal = addressOf(endpoint) as IpAddress | undefined
  const found = literal ? [literal] : await lookUp(endpoint, { resolver, clock, family }, wait, facts)
  const given = found.map(({ address, scope }) => ({ address: scope ? `${address}%${scope}` : address, family: isIp(address) as 4 | 6 }))
  const fit = given.filter((one) => family === undefined || one.family === family)
  if (fit.length === 0) throw new AddressError('ENODATA', `${CODES.AddressError.ENODATA}: ${show(name)}`, facts)
  return fit
}

/** The name as an endpoint has it: in lower case, with its international letters as DNS has them. */
function endpointNamed(name: string, facts: ErrorFacts): IpEndpoint {
  let cause: unknown
  try {
    const endpoint = parseEndpoint({ transport: 'tcp', host: name, port: 0 }) as IpEndpoint
    if (endpoint.host !== undefined) return endpoint
  } catch (error) {
    cause = error
  }
  throw new AddressError('BAD_HOST', `bad name ${show(name)}: expected a host name or an IP address`, { ...facts, phase: 'parse', cause })
}

/** What a name may be: others have no place in a log or a list of hosts, and anyone may publish any name for his address. */
const NAME = /^(?=.{1,253}\.?$)[\w-]{1,63}(?:\.[\w-]{1,63})*\.?$/

/** The names of an address. @internal {@link Network.reverse} */
export async function namesOf(resolver: Resolver, clock: Clock, address: string, wait: Wait | undefined): Promise<string[]> {
  const facts: ErrorFacts = { op: 'reverse', phase: 'resolve' }
  if (typeof address !== 'string') throw invalidType('address', 'a string', address)
  const literal = canonicalIp(address.replace(/%.*$/, ''))
  if (literal === undefined) throw new AddressError('BAD_HOST', `bad address ${show(address)}: expected an IP address`, facts)
  if (resolver.reverse === undefined) throw new SystemFailure('UNSUPPORTED', 'the resolver of this network has no reverse look-up', facts)
  const ask = async (signal: AbortSignal) => {
    const answer: unknown = await resolver.reverse?.(literal, { signal }).catch((error) => noNames(literal, error, facts))
    if (!Array.isArray(answer)) throw lookupFailure(literal, invalidType('the answer of a resolver', 'an array', answer), facts)
    return answer.filter((name): name is string => typeof name === 'string' && NAME.test(name))
  }
  const names = await asking(ask, wait, clock, facts)
  if (names.length === 0) throw new AddressError('ENOTFOUND', `the address has no name: ${literal}`, facts)
  return [...new Set(names.map((name) => name.replace(/\.$/, '').toLowerCase()))]
}

function noNames(address: string, error: unknown, facts: ErrorFacts): [] {
  const failure = lookupFailure(address, error, facts)
  if (failure.code === 'ENOTFOUND' || failure.code === 'ENODATA') return []
  throw failure
}

const SERVICES = process.platform === 'win32' ? `${process.env['SystemRoot']}\\System32\\drivers\\etc\\services` : '/etc/services'

/** For systems without the file: the services that people name, as IANA has them. */
const WELL_KNOWN = `
  echo 7/tcp; echo 7/udp; discard 9/tcp; discard 9/udp; daytime 13/tcp; daytime 13/udp; ftp 21/tcp; ssh 22/tcp; telnet 23/tcp
  smtp 25/tcp mail; time 37/tcp; time 37/udp; domain 53/tcp; domain 53/udp; tftp 69/udp; finger 79/tcp; http 80/tcp www
  kerberos 88/tcp; kerberos 88/udp; pop3 110/tcp; ntp 123/udp; imap2 143/tcp imap; snmp 161/udp; irc 194/tcp; ldap 389/tcp
  https 443/tcp; https 443/udp; submissions 465/tcp ssmtp smtps; syslog 514/udp; submission 587/tcp; ipp 631/tcp; ldaps 636/tcp
  domain-s 853/tcp; imaps 993/tcp; pop3s 995/tcp; socks 1080/tcp; mqtt 1883/tcp; mysql 3306/tcp; postgresql 5432/tcp; amqp 5672/tcp
  redis 6379/tcp; secure-mqtt 8883/tcp`.replaceAll(';', '\n')

/** The rows of services(5) in `text`. @internal */
export function servicesIn(text: string): Service[] {
  return text.split('\n').flatMap((line) => {
    const [, name, port, protocol, more] = /^\s*([^\s#]+)\s+(\d+)\/(tcp|udp)\b([^#]*)/.exec(line) ?? []
    if (name === undefined) return []
    return { name, port: Number(port), protocol: protocol as 'tcp' | 'udp', aliases: more?.trim().split(/\s+/).filter(Boolean) ?? [] }
  })
}

let known: readonly Service[] | undefined

function services(): readonly Service[] {
  try {
    known ??= servicesIn(readFileSync(SERVICES, 'latin1'))
  } catch {
    // Many containers are without.
  }
  return known?.length ? known : (known = servicesIn(WELL_KNOWN))
}

/**
 * A service by its name or one of its aliases, or by its port: services(5) of this system, or a short list where it has
 * none. The file is read once.
 *
 * ```ts
 * import { service } from 'fairlead'
 *
 * console.log(service('https').port, service(22).name) // 443 ssh
 * ```
 *
 * @throws `AddressError/ENOTFOUND`
 */
export function service(key: string | number, protocol: 'tcp' | 'udp' = 'tcp'): Service {
  oneOf('protocol', protocol, ['tcp', 'udp'])
  if (typeof key !== 'string') wholeNumber('service', key, 0, 65_535)
  const rows = services().filter((row) => row.protocol === protocol)
  // A name goes before what is only an alias of another.
  const found = rows.find(({ name, port }) => name === key || port === key) ?? rows.find(({ aliases }) => aliases.includes(key as string))
  if (found !== undefined) return found
  throw new AddressError('ENOTFOUND', `no service ${show(key)} over ${protocol}`, { op: 'service', phase: 'resolve' })
}
