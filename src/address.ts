/**
 * Endpoints and addresses: parse, format, compare.
 *
 * An endpoint is what a person writes and may hold a name; an address is what the system connects to and never does.
 * Everything accepts exactly one spelling of an IP address, because a second spelling is how a filter is passed:
 * `0x7f.1`, `2130706433`, `0177.0.0.1` and digits of other scripts all reach 127.0.0.1 through `getaddrinfo(3)`.
 */

import { domainToASCII } from 'node:url'
import { AddressError, type CodeOf, invalidType, outOfRange, printable, refuseUnknown, show, suggestion } from './errors.js'

/** An IP address and port, in canonical spelling: what a socket is bound or connected to. */
export interface IpAddress {
  readonly family: 'ipv4' | 'ipv6'
  readonly address: string
  readonly port: number
  readonly scope?: string
}
/** A UNIX-domain name; `path` is empty for an unnamed socket; an abstract name has no leading NUL or `@`. */
export interface UnixAddress {
  readonly family: 'unix'
  readonly path: string
  readonly abstract: boolean
}
export type Address = IpAddress | UnixAddress

export type IpTransport = 'tcp' | 'tls' | 'udp'
export type UnixTransport = 'unix' | 'tls+unix' | 'unixgram' | 'unixpacket'
export type Transport = IpTransport | UnixTransport

/** An endpoint as an object. Nothing in it is decoded: a `%` in `path` is a `%`, an `@` is an `@`. */
export interface EndpointObject {
  transport: Transport
  /** A name, an IPv4 address, or an IPv6 address without brackets. Absent, `''` and `'*'`: all interfaces, for listening. */
  host?: string | undefined
  port?: number | undefined
  /** The interface of a link-local IPv6 address, as a name or number. */
  scope?: string | undefined
  path?: string | undefined
  /** Whether `path` is a name in the abstract namespace of Linux. */
  abstract?: boolean | undefined
}

/**
 * Where: `tcp://host:port`, `tls://host:port`, `udp://host:port`, `unix:/path`, `unix:@abstract`, `tls+unix:/path`,
 * `unixgram:/path`, `unixpacket:/path`; the same as a `URL`; or an object.
 */
export type Endpoint = string | URL | EndpointObject

export interface IpEndpoint {
  readonly transport: IpTransport
  /** A name in lower case, or an IP address in canonical spelling; undefined means all interfaces. */
  readonly host: string | undefined
  readonly port: number
  readonly scope?: string
}
export interface UnixEndpoint {
  readonly transport: UnixTransport
  readonly path: string
  readonly abstract: boolean
}
/** A socket that somebody else made and this process has the descriptor of: `{ fd: 3 }`. */
export interface DescriptorEndpoint {
  /** The number of the descriptor, which belongs to the socket from then on. */
  fd: number
  /** `'tls'` for TLS on top of a stream or a listener. */
  transport?: 'tls' | undefined
  /** As `inheritedDescriptors` gives it; it changes nothing. */
  name?: string | undefined
}

/** An endpoint that was checked and brought into its one normal form. Frozen, and itself a valid {@link Endpoint}. */
export type ParsedEndpoint = IpEndpoint | UnixEndpoint

const IP_TRANSPORTS: ReadonlySet<string> = new Set<IpTransport>(['tcp', 'tls', 'udp'])
const UNIX_TRANSPORTS: ReadonlySet<string> = new Set<UnixTransport>(['unix', 'tls+unix', 'unixgram', 'unixpacket'])
const TRANSPORTS: readonly string[] = [...IP_TRANSPORTS, ...UNIX_TRANSPORTS]
const PARSED: WeakSet<object> = new WeakSet()

/** `sun_path` has 108 bytes, the last of a path is a NUL, the first of an abstract name is one. */
export const LONGEST_PATH = 107
const MOST_DESCRIPTOR = 2 ** 31 - 1
const LONGEST_NAME = 253
const LONGEST_LABEL = 63

export function isUnixEndpoint(endpoint: ParsedEndpoint): endpoint is UnixEndpoint {
  return UNIX_TRANSPORTS.has(endpoint.transport)
}

/** The host of an endpoint that has one. @internal */
export function hostOf(endpoint: ParsedEndpoint): string | undefined {
  return isUnixEndpoint(endpoint) ? undefined : endpoint.host
}

/** Whether TLS is spoken at an endpoint. */
export function isTls(endpoint: Endpoint | DescriptorEndpoint | ParsedEndpoint): boolean {
  const { transport } = descriptorIn(endpoint) ?? parseEndpoint(endpoint as Endpoint)
  return transport === 'tls' || transport === 'tls+unix'
}

/**
 * Checks an endpoint and brings it into its normal form.
 *
 * ```ts
 * parseEndpoint('tcp://[::0:1]:80') // { transport: 'tcp', host: '::1', port: 80 }
 * ```
 *
 * @throws AddressError with the bad part, what was expected, and the whole endpoint; TypeError for a wrong type
 */
export function parseEndpoint(endpoint: Endpoint | ParsedEndpoint): ParsedEndpoint {
  if (typeof endpoint === 'string') return parseText(endpoint)
  if (typeof endpoint !== 'object' || endpoint === null) throw invalidType('endpoint', 'a string, a URL or an object', endpoint)
  if (endpoint instanceof URL) return parseText(urlText(endpoint))
  if (PARSED.has(endpoint)) return endpoint as ParsedEndpoint
  return parseObject(endpoint as EndpointObject)
}

/** A {@link DescriptorEndpoint}, checked; undefined for any other endpoint. */
export function descriptorIn(endpoint: unknown): DescriptorEndpoint | undefined {
  if (typeof endpoint !== 'object' || endpoint === null || !Object.hasOwn(endpoint, 'fd')) return undefined
  refuseUnknown(endpoint, ['fd', 'transport', 'name'], 'endpoint')
  const { fd, transport } = endpoint as DescriptorEndpoint
  if (typeof fd !== 'number') throw invalidType('endpoint.fd', 'the number of a descriptor', fd)
  if (!Number.isInteger(fd) || fd < 0 || fd > MOST_DESCRIPTOR) throw outOfRange('endpoint.fd', 'the number of a descriptor', fd)
  if (transport !== undefined && transport !== 'tls') throw outOfRange('endpoint.transport', "'tls', or absent, beside fd", transport)
  return { fd, transport }
}

function parseText(text: string): ParsedEndpoint {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(text)?.[1]
  if (scheme === undefined) throw bad('BAD_ENDPOINT', 'no scheme', text, `tcp://host:port or unix:/path (one of ${TRANSPORTS.join(', ')})`)
  const transport = scheme.toLowerCase()
  const rest = text.slice(scheme.length + 1)
  if (UNIX_TRANSPORTS.has(transport)) return parsePath(transport as UnixTransport, rest, text)
  if (!IP_TRANSPORTS.has(transport)) throw unknownScheme(scheme, rest, text)
  if (!rest.startsWith('//')) throw bad('BAD_ENDPOINT', `no "//" after ${show(`${scheme}:`)}`, text, `${transport}://host:port`)
  return parseAuthority(transport as IpTransport, rest.slice(2), text)
}

function unknownScheme(scheme: string, rest: string, text: string): AddressError {
  const hint = /^\d+$/.test(rest) ? `; did you mean ${show(`tcp://${text}`)}?` : suggestion(scheme, TRANSPORTS)
  return bad('BAD_SCHEME', `unknown scheme ${show(scheme)}`, text, TRANSPORTS.join(', ') + hint)
}

function parseAuthority(transport: IpTransport, authority: string, text: string): IpEndpoint {
  const at = authority.lastIndexOf('@')
  if (at >= 0) throw bad('BAD_ENDPOINT', 'user information', text, 'nothing before the host')
  const stray = /[/?#\\]/.exec(authority)
  if (stray) throw bad('BAD_ENDPOINT', `unexpected ${show(authority.slice(stray.index))}`, text, 'nothing after the port')
  if (authority.startsWith('[')) return parseBracketed(transport, authority, text)
  const colon = authority.lastIndexOf(':')
  if (colon < 0) throw bad('BAD_PORT', 'no port', text, `${transport}://host:port with a port from 0 to 65535`)
  const host = authority.slice(0, colon)
  if (host.includes(':')) throw bad('BAD_HOST', `bad host ${show(host)}`, text, 'an IPv6 address in brackets, [::1]')
  const port = parsePort(authority.slice(colon + 1), text)
  return ipEndpoint(transport, parseHost(host, text), port)
}

function parseBracketed(transport: IpTransport, authority: string, text: string): IpEndpoint {
  const [, inside, after] = /^\[([^\]]*)\](.*)$/s.exec(authority) ?? []
  if (inside === undefined || after === undefined)
    throw bad('BAD_HOST', `no "]" after ${show(authority)}`, text, 'an IPv6 address in brackets, [::1]')
  const [literal, encoded] = splitScope(inside)
  const host = ipBytes(literal)?.length === 16 ? (canonicalIp(literal) as string) : undefined
  if (host === undefined) throw bad('BAD_HOST', `bad host ${show(`[${inside}]`)}`, text, 'an IPv6 address in the brackets')
  // RFC 6874 writes the separator as %25; people and most programs write it as it is. `%25` alone is interface 25.
  const scope = encoded?.startsWith('25') && encoded.length > 2 ? encoded.slice(2) : encoded
  if (scope !== undefined) checkScope(scope, text)
  if (!after.startsWith(':'))
    throw bad('BAD_PORT', after === '' ? 'no port' : `unexpected ${show(after)}`, text, 'a colon and a port after the bracket')
  return ipEndpoint(transport, host, parsePort(after.slice(1), text), scope)
}

function parsePort(digits: string, text: string): number {
  const port = /^(0|[1-9]\d{0,4})$/.test(digits) ? Number(digits) : Number.NaN
  if (!(port <= 65535)) throw bad('BAD_PORT', digits === '' ? 'no port' : `bad port ${show(digits)}`, text, '0 to 65535')
  return port
}

function parseHost(host: string, text: string): string | undefined {
  if (host === '' || host === '*') return undefined
  if (ipv4Bytes(host)) return host
  const name = asciiName(host)
  const flaw = name === undefined ? 'a name or an IP address' : flawOfName(name)
  if (flaw !== undefined) throw bad('BAD_HOST', `bad host ${show(host)}`, text, flaw)
  return name
}

/**
 * A host name in lower case and A-labels. What other scripts' digits turn into is refused by {@link flawOfName}. @internal
 */
export function asciiName(host: string): string | undefined {
  if (!/[^\x00-\x7f]/.test(host)) return host.toLowerCase()
  // domainToASCII would decode a % and cut at some delimiters.
  if (/[\x00-\x7f]/.test(host.replace(/[A-Za-z0-9._-]/g, ''))) return undefined
  return domainToASCII(host) || undefined
}

/** What a host name should have been, or undefined if it is one. @internal */
export function flawOfName(name: string): string | undefined {
  const bare = name.endsWith('.') ? name.slice(0, -1) : name
  if (bare.length > LONGEST_NAME) return `a name of at most ${LONGEST_NAME} bytes`
  const labels = bare.split('.')
  for (const label of labels) {
    if (label.length > LONGEST_LABEL) return `labels of at most ${LONGEST_LABEL} bytes`
    if (!/^[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?$/.test(label)) return 'a name of letters, digits, hyphens and dots, or an IP address'
  }
  // No top-level domain is a number, and getaddrinfo(3) takes such names for IPv4 addresses in old spellings.
  if (/^(?:\d+|0x[0-9a-f]*)$/.test(labels.at(-1) as string))
    return 'an IPv4 address of four decimal numbers without leading zeros, or a name'
  return undefined
}

/** What stands before the first `%`, and behind it if there is one. */
function splitScope(host: string): [literal: string, scope: string | undefined] {
  const percent = host.indexOf('%')
  return percent === -1 ? [host, undefined] : [host.slice(0, percent), host.slice(percent + 1)]
}

function checkScope(scope: string, text: string): void {
  if (!/^[A-Za-z0-9._~:-]{1,15}$/.test(scope)) throw bad('BAD_HOST', `bad scope ${show(scope)}`, text, 'the name or number of an interface')
}

function parsePath(transport: UnixTransport, rest: string, text: string): UnixEndpoint {
  const abstract = rest.startsWith('@')
  const encoded = abstract ? rest.slice(1) : rest
  const stray = /%(?![0-9A-Fa-f]{2}).{0,2}/s.exec(encoded)
  if (stray) throw bad('BAD_PATH', `bad escape ${show(stray[0])}`, text, '%XX with two hexadecimal digits, %25 for a percent sign')
  let path: string
  try {
    path = encoded.replace(/(?:%[0-9A-Fa-f]{2})+/g, decodeURIComponent)
  } catch {
    throw bad('BAD_PATH', 'a path that is not UTF-8', text, 'escapes that form UTF-8')
  }
  return unixEndpoint(transport, path, abstract, text)
}

function unixEndpoint(transport: UnixTransport, path: string, abstract: boolean, text: string): UnixEndpoint {
  if (path === '') throw bad('BAD_PATH', 'no path', text, `${transport}:/path or ${transport}:@name`)
  if (path.includes('\0')) throw bad('BAD_PATH', 'a NUL in the path', text, 'a path without NUL')
  if (/\p{Surrogate}/u.test(path)) throw bad('BAD_PATH', 'half a surrogate pair in the path', text, 'well-formed text')
  const bytes = Buffer.byteLength(path)
  if (bytes > LONGEST_PATH) throw bad('PATH_TOO_LONG', `a path of ${bytes} bytes`, text, `at most ${LONGEST_PATH}`)
  return parsed({ transport, path, abstract })
}

function ipEndpoint(transport: IpTransport, host: string | undefined, port: number, scope?: string): IpEndpoint {
  return parsed({ transport, host, port, ...(scope !== undefined && { scope }) })
}

function parsed<T extends ParsedEndpoint>(endpoint: T): T {
  PARSED.add(endpoint)
  return Object.freeze(endpoint)
}

/** A `URL` of a scheme it does not know percent-encodes the letters of other scripts in the host; they are taken back. */
function urlText(url: URL): string {
  const { host } = url
  const decoded = host.replace(/(?:%[89A-Fa-f][0-9A-Fa-f])+/g, (bytes) => {
    try {
      return decodeURIComponent(bytes)
    } catch {
      return bytes
    }
  })
  return host === decoded ? url.href : url.href.replace(host, () => decoded)
}

const OBJECT_KEYS = ['transport', 'host', 'port', 'scope', 'path', 'abstract']

function parseObject(given: EndpointObject): ParsedEndpoint {
  refuseUnknown(given, OBJECT_KEYS, 'endpoint')
  // Own properties only: an endpoint made from foreign data must not find a host in a polluted prototype.
  const { transport, host, port, scope, path, abstract } = { __proto__: null, ...given } as unknown as EndpointObject
  if (typeof transport !== 'string') throw invalidType('endpoint.transport', `one of ${TRANSPORTS.join(', ')}`, transport)
  const text = `{ transport: ${show(transport)}${field('host', host)}${field('port', port)}${field('scope', scope)}${field('path', path)}${field('abstract', abstract)} }`
  if (UNIX_TRANSPORTS.has(transport)) {
    if (host !== undefined || port !== undefined || scope !== undefined)
      throw bad('BAD_ENDPOINT', 'host, port or scope', text, `path alone for ${transport}`)
    if (typeof path !== 'string') throw invalidType('endpoint.path', 'a string', path)
    if (abstract !== undefined && typeof abstract !== 'boolean') throw invalidType('endpoint.abstract', 'a boolean', abstract)
    return unixEndpoint(transport as UnixTransport, path, abstract ?? false, text)
  }
  if (!IP_TRANSPORTS.has(transport)) throw bad('BAD_SCHEME', `unknown transport ${show(transport)}`, text, TRANSPORTS.join(', '))
  if (path !== undefined || abstract !== undefined) throw bad('BAD_ENDPOINT', 'path or abstract', text, `host and port for ${transport}`)
  if (host !== undefined && typeof host !== 'string') throw invalidType('endpoint.host', 'a string', host)
  if (scope !== undefined && typeof scope !== 'string') throw invalidType('endpoint.scope', 'a string', scope)
  if (typeof port !== 'number') throw invalidType('endpoint.port', 'a number from 0 to 65535', port)
  if (!Number.isInteger(port) || port < 0 || port > 65535) throw bad('BAD_PORT', `bad port ${port}`, text, '0 to 65535')
  return ipObject(transport as IpTransport, host ?? '', Math.abs(port), scope, text)
}

function ipObject(transport: IpTransport, given: string, port: number, scope: string | undefined, text: string): IpEndpoint {
  const [literal, inner] = splitScope(given)
  const isV6 = ipBytes(literal)?.length === 16
  if (!isV6 && scope !== undefined) throw bad('BAD_HOST', `a scope for ${show(given)}`, text, 'a scope on an IPv6 address alone')
  if (given.startsWith('[')) throw bad('BAD_HOST', `bad host ${show(given)}`, text, 'an IPv6 address without brackets in an object')
  if (!isV6) return ipEndpoint(transport, parseHost(given, text), port)
  if (inner !== undefined && scope !== undefined && inner !== scope)
    throw bad('BAD_HOST', `two scopes, ${show(inner)} and ${show(scope)}`, text, 'one')
  const zone = scope ?? inner
  if (zone !== undefined) checkScope(zone, text)
  return ipEndpoint(transport, canonicalIp(literal), port, zone)
}

function field(name: string, value: unknown): string {
  return value === undefined ? '' : `, ${name}: ${show(value)}`
}

function bad(code: CodeOf<'AddressError'>, what: string, text: string, expected: string): AddressError {
  // What stands before an @ may be a password, and errors end in logs; in a UNIX endpoint it is a part of the path.
  const isUnix = UNIX_TRANSPORTS.has(text.slice(0, text.indexOf(':')).toLowerCase())
  const quoted = text.startsWith('{') ? text : show(isUnix ? text : text.replace(/^([A-Za-z][A-Za-z0-9+.-]*:\/\/)?.*@/s, '$1…@'))
  return new AddressError(code, `${what} in ${quoted}: expected ${expected}`, {
    endpoint: printable(quoted.replace(/^"|"$/g, '')),
    phase: 'parse',
  })
}

/** The one text of an endpoint; `parseEndpoint` gives the same endpoint back. All interfaces are `*`. */
export function formatEndpoint(endpoint: Endpoint | ParsedEndpoint): string {
  const e = parseEndpoint(endpoint)
  if (!isUnixEndpoint(e)) return `${e.transport}://${hostText(e.host ?? '*', e.scope)}:${e.port}`
  const path = e.path.replace(/[%\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, encodeURIComponent)
  return `${e.transport}:${e.abstract ? '@' : ''}${e.abstract ? path : path.replace(/^@/, '%40')}`
}

function hostText(host: string, scope: string | undefined): string {
  if (!host.includes(':')) return host
  if (scope === undefined) return `[${host}]`
  return `[${host}%${scope.startsWith('25') && scope.length > 2 ? '25' : ''}${scope}]`
}

/** The address of a UNIX socket that has no name. @internal */
export const UNNAMED: Address = Object.freeze({ family: 'unix', path: '', abstract: false })

/** `127.0.0.1:80`, `[::1]:80`, `/path`, `@name`, and nothing for an unnamed socket. Safe for logs. */
export function formatAddress(address: Address): string {
  if (address.family !== 'unix') return `${hostText(address.address, address.scope)}:${address.port}`
  if (address.abstract) return `@${printable(address.path)}`
  return printable(address.path.startsWith('@') ? `./${address.path}` : address.path)
}

/** The endpoint that reaches `address` over `transport`: what a listener's `local` is dialled by. */
export function endpointOf(address: Address, transport?: Transport): ParsedEndpoint {
  if (address.family === 'unix') return parseEndpoint({ transport: transport ?? 'unix', path: address.path, abstract: address.abstract })
  return parseEndpoint({ transport: transport ?? 'tcp', host: address.address, port: address.port, scope: address.scope })
}

/**
 * What `connect` on this machine reaches a listener by: the endpoint asked for with the real port, the loopback address
 * for all interfaces, and the name it was asked by, since a certificate names that.
 */
export function reachableEndpoint(asked: ParsedEndpoint, local: Address): string {
  if (local.family === 'unix') return formatEndpoint(endpointOf(local, asked.transport))
  const host = hostOf(asked)
  if (host !== undefined && host !== '0.0.0.0' && host !== '::') {
    return formatEndpoint({ ...(asked as { transport: 'tcp' }), host, port: local.port })
  }
  const loopback = local.family === 'ipv4' || host === undefined ? '127.0.0.1' : '::1'
  return formatEndpoint({ transport: asked.transport, host: loopback, port: local.port })
}

/** The address an endpoint names by itself; undefined when it holds a name to look up, or no host. */
export function addressOf(endpoint: ParsedEndpoint): Address | undefined {
  if (isUnixEndpoint(endpoint)) return { family: 'unix', path: endpoint.path, abstract: endpoint.abstract }
  if (endpoint.host === undefined || isIp(endpoint.host) === 0) return undefined
  return ipAddress(endpoint.host, endpoint.port, endpoint.scope)
}

/**
 * An IP address in canonical spelling, from text as the platform gives it (`fe80::1%eth0`, `::FFFF:1.2.3.4`).
 *
 * @throws AddressError if `text` is not an IP address
 */
export function ipAddress(text: string, port: number, scope?: string): IpAddress {
  const [literal, inner] = splitScope(text)
  const address = inner === '' ? undefined : canonicalIp(literal)
  if (address === undefined) throw new AddressError('BAD_HOST', `bad address ${show(text)}: expected an IP address`, { phase: 'parse' })
  const zone = scope ?? inner
  return { family: address.includes(':') ? 'ipv6' : 'ipv4', address, port, ...(zone !== undefined && { scope: zone }) }
}

/** Whether two addresses are the same place. An IPv4 address and its v4-mapped IPv6 form are. Unnamed sockets are never the same. */
export function sameAddress(a: Address, b: Address): boolean {
  if (a.family === 'unix') return b.family === 'unix' && a.path !== '' && a.path === b.path && a.abstract === b.abstract
  if (b.family === 'unix') return false
  return a.port === b.port && a.scope === b.scope && unmapped(a.address) === unmapped(b.address)
}

/** The canonical spelling of an IP address without scope; of a v4-mapped one, that of the IPv4 address it is. */
export function unmapped(text: string): string {
  const bytes = ipBytes(text)
  return bytes === undefined ? text : ipText(isMapped(bytes) ? bytes.subarray(12) : bytes)
}

/** 4 or 6 for an IP address, also with a scope (`fe80::1%eth0`), in a spelling that has one meaning everywhere; else 0. */
export function isIp(host: string): 4 | 6 | 0 {
  const bytes = ipBytes(host.replace(/(:.*)%[A-Za-z0-9._~:-]{1,15}$/, '$1'))
  return bytes === undefined ? 0 : bytes.length === 4 ? 4 : 6
}

/** The canonical spelling of an IP address without scope (RFC 5952 for IPv6), or undefined if it is none. */
export function canonicalIp(text: string): string | undefined {
  const bytes = ipBytes(text)
  return bytes && ipText(bytes)
}

/** The 4 or 16 bytes of an IP address without scope, or undefined. IPv4: four decimal numbers without leading zeros. */
export function ipBytes(text: string): Uint8Array | undefined {
  return text.includes(':') ? ipv6Bytes(text) : ipv4Bytes(text)
}

function ipv4Bytes(text: string): Uint8Array | undefined {
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  const bytes = new Uint8Array(4)
  for (const [i, part] of parts.entries()) {
    if (!/^(?:0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return undefined
    bytes[i] = Number(part)
  }
  return bytes
}

function ipv6Bytes(text: string): Uint8Array | undefined {
  const halves = text.split('::')
  if (text.length > 45 || halves.length > 2) return undefined
  const head = groups(halves[0] as string, halves.length === 1)
  const tail = halves.length === 1 ? [] : groups(halves[1] as string, true)
  if (head === undefined || tail === undefined) return undefined
  const missing = 16 - head.length - tail.length
  // "::" stands for at least one group.
  if (halves.length === 1 ? missing !== 0 : missing < 2) return undefined
  const bytes = new Uint8Array(16)
  bytes.set(head)
  bytes.set(tail, 16 - tail.length)
  return bytes
}

/** The bytes of colon-separated groups, the last of which may be IPv4 where `atEnd`. */
function groups(text: string, atEnd: boolean): number[] | undefined {
  if (text === '') return []
  const bytes: number[] = []
  const parts = text.split(':')
  for (const [i, part] of parts.entries()) {
    if (/^[0-9A-Fa-f]{1,4}$/.test(part)) {
      const value = Number.parseInt(part, 16)
      bytes.push(value >> 8, value & 255)
      continue
    }
    const v4 = atEnd && i === parts.length - 1 ? ipv4Bytes(part) : undefined
    if (v4 === undefined) return undefined
    bytes.push(...v4)
  }
  return bytes
}

/** Canonical text of 4 or 16 bytes: dotted, or RFC 5952 (v4-mapped in the mixed form, its section 5). */
export function ipText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.')
  if (isMapped(bytes)) return `::ffff:${bytes.subarray(12).join('.')}`
  const words = Array.from({ length: 8 }, (_, i) => wordAt(bytes, i))
  let [start, length] = [0, 1]
  for (let i = 0; i < 8; i++) {
    let n = 0
    while (words[i + n] === 0) n++
    if (n > length) [start, length] = [i, n]
    i += n
  }
  const hex = words.map((word) => word.toString(16))
  if (length === 1) return hex.join(':')
  return `${hex.slice(0, start).join(':')}::${hex.slice(start + length).join(':')}`
}

/** The 16-bit word `i` of an IPv6 address. @internal */
export function wordAt(bytes: Uint8Array, i: number): number {
  return ((bytes[2 * i] as number) << 8) | (bytes[2 * i + 1] as number)
}

const MAPPED = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255)

/** Whether an address is a v4-mapped IPv6 address, `::ffff:0:0/96`. @internal */
export function isMapped(bytes: Uint8Array): boolean {
  return bytes.length === 16 && MAPPED.every((byte, i) => byte === bytes[i])
}
