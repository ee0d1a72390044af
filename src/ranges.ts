/** Ranges of IP addresses, and what the special ones are for. */

import { type Address, formatAddress, ipBytes, ipText, isMapped, wordAt } from './address.js'
import { AddressError, invalidType, show } from './errors.js'

/**
 * A range of addresses, `10.0.0.0/8` or `fd00::/8`; a bare address is a range of one. A v4-mapped IPv6 address lies in a
 * range if either of its readings does.
 *
 * ```ts
 * Cidr.parse('10.0.0.0/8').contains('::ffff:10.1.2.3') // true
 * ```
 */
export class Cidr {
  readonly #bytes: Uint8Array
  /** Leading bits that count. */
  readonly prefix: number
  readonly family: 'ipv4' | 'ipv6'

  private constructor(bytes: Uint8Array, prefix: number) {
    this.#bytes = bytes
    this.prefix = prefix
    this.family = bytes.length === 4 ? 'ipv4' : 'ipv6'
  }

  /** @throws AddressError/BAD_CIDR, also where bits behind the prefix are set */
  static parse(text: string): Cidr {
    if (typeof text !== 'string') throw invalidType('range', 'a string', text)
    const [, literal = '', digits] = /^([^/]*)(?:\/(0|[1-9]\d{0,2}))?$/.exec(text) ?? []
    const bytes = ipBytes(literal)
    const bits = bytes ? bytes.length * 8 : 0
    const prefix = digits === undefined ? bits : Number(digits)
    if (bytes === undefined || prefix > bits) throw badRange(text, 'an address and a prefix length, 10.0.0.0/8 or fd00::/8')
    const network = bytes.map((byte, i) => byte & maskAt(prefix, i))
    if (network.some((byte, i) => byte !== bytes[i])) throw badRange(text, `${ipText(network)}/${prefix}, without bits behind the prefix`)
    return new Cidr(network, prefix)
  }

  /** Whether `address` lies in the range. UNIX sockets do not; nor does anything that is not an IP address. */
  contains(address: string | Address): boolean {
    const bytes = bytesOf(address)
    return bytes !== undefined && (this.#covers(bytes) || (isMapped(bytes) && this.#covers(bytes.subarray(12))))
  }

  #covers(bytes: Uint8Array): boolean {
    return bytes.length === this.#bytes.length && this.#bytes.every((byte, i) => byte === ((bytes[i] as number) & maskAt(this.prefix, i)))
  }

  toString(): string {
    return `${ipText(this.#bytes)}/${this.prefix}`
  }
}

function badRange(text: string, expected: string): AddressError {
  return new AddressError('BAD_CIDR', `bad range ${show(text)}: expected ${expected}`, { phase: 'parse' })
}

/** The mask of byte `i` under a prefix. */
function maskAt(prefix: number, i: number): number {
  const bits = Math.min(8, Math.max(0, prefix - 8 * i))
  return (0xff00 >> bits) & 0xff
}

function bytesOf(address: string | Address): Uint8Array | undefined {
  const text = typeof address === 'string' ? address : address.family === 'unix' ? '' : address.address
  return ipBytes(text.replace(/%.*$/s, ''))
}

/**
 * The special-purpose registries of IANA (RFC 6890 and its updates). Some corners of 192.0.0.0/24 and 2001::/23 are globally
 * reachable anycast services; nobody dials them by accident.
 */
const REGISTRY = [
  ['unspecified', '0.0.0.0/32 ::/128'],
  ['this-network', '0.0.0.0/8'],
  ['private', '10.0.0.0/8 172.16.0.0/12 192.168.0.0/16'],
  ['cgnat', '100.64.0.0/10'],
  ['loopback', '127.0.0.0/8 ::1/128'],
  ['link-local', '169.254.0.0/16 fe80::/10'],
  ['documentation', '192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20'],
  ['6to4-relay', '192.88.99.0/24'],
  ['benchmarking', '198.18.0.0/15 2001:2::/48'],
  ['multicast', '224.0.0.0/4 ff00::/8'],
  ['broadcast', '255.255.255.255/32'],
  ['reserved', '192.0.0.0/24 240.0.0.0/4 100:0:0:1::/64 2001::/23'],
  ['v4-mapped', '::ffff:0.0.0.0/96'],
  ['v4-translated', '::ffff:0:0:0/96'],
  ['v4-compatible', '::/96'],
  ['nat64', '64:ff9b::/96 64:ff9b:1::/48'],
  ['discard', '100::/64'],
  ['teredo', '2001::/32'],
  ['orchid', '2001:10::/28 2001:20::/28'],
  ['6to4', '2002::/16'],
  ['srv6', '5f00::/16'],
  ['unique-local', 'fc00::/7'],
  ['site-local', 'fec0::/10'],
] as const

/** What an address is for. `global` is the rest: what a public host may have. */
export type AddressRange = 'global' | 'isatap' | (typeof REGISTRY)[number][0]

export interface Classification {
  readonly range: AddressRange
  /** The block of the registry it lies in; absent for `global`. */
  readonly block?: string
  /** The IPv4 address it carries or is translated to. */
  readonly embedded?: { readonly address: string } & Classification
}

/** Blocks nest; the longest prefix is the one that counts. */
const BLOCKS: readonly { readonly cidr: Cidr; readonly range: AddressRange }[] = REGISTRY.flatMap(([range, blocks]) =>
  blocks.split(' ').map((block) => ({ cidr: Cidr.parse(block), range })),
).sort((a, b) => b.cidr.prefix - a.cidr.prefix)

/** The IPv4 address in the IPv6 addresses of some ranges. */
const EMBEDDED: { readonly [R in AddressRange]?: (bytes: Uint8Array) => Uint8Array } = {
  'v4-mapped': (bytes) => bytes.slice(12),
  'v4-translated': (bytes) => bytes.slice(12),
  'v4-compatible': (bytes) => bytes.slice(12),
  nat64: (bytes) => (wordAt(bytes, 2) === 1 ? localNat64(bytes) : bytes.slice(12)),
  teredo: (bytes) => bytes.slice(12).map((byte) => ~byte),
  '6to4': (bytes) => bytes.slice(2, 6),
}

const GLOBAL_V6 = Cidr.parse('2000::/3')

/** RFC 6052 with a 48-bit prefix skips bits 64 to 71; a /96 below the local-use prefix does not. The one with zeros behind it is meant. */
function localNat64(bytes: Uint8Array): Uint8Array {
  const short = Uint8Array.of(bytes[6] as number, bytes[7] as number, bytes[9] as number, bytes[10] as number)
  return short.some((byte) => byte !== 0) && bytes.subarray(11).every((byte) => byte === 0) ? short : bytes.slice(12)
}

/**
 * What an IP address is for, with the IPv4 address that it embeds examined too.
 *
 * ```ts
 * classify('64:ff9b::7f00:1') // { range: 'nat64', block: '64:ff9b::/96', embedded: { address: '127.0.0.1', range: 'loopback', … } }
 * ```
 *
 * @throws AddressError if `address` is not an IP address
 */
export function classify(address: string | Address): Classification {
  const bytes = bytesOf(address)
  if (bytes !== undefined) return classifyBytes(bytes)
  const text = show(typeof address === 'string' ? address : formatAddress(address))
  throw new AddressError('BAD_HOST', `cannot classify ${text}: expected an IP address`, { phase: 'parse' })
}

function classifyBytes(bytes: Uint8Array): Classification {
  // A mapped address is asked for in its IPv6 reading here: its IPv4 reading is the embedded one.
  const text = ipText(bytes)
  const family = bytes.length === 4 ? 'ipv4' : 'ipv6'
  const block = BLOCKS.find(({ cidr }) => cidr.family === family && cidr.contains(text))
  if (block) {
    const embedded = EMBEDDED[block.range]?.(bytes)
    return {
      range: block.range,
      block: block.cidr.toString(),
      ...(embedded && { embedded: { address: ipText(embedded), ...classifyBytes(embedded) } }),
    }
  }
  if (family === 'ipv4') return { range: 'global' }
  if (!GLOBAL_V6.contains(text)) return { range: 'reserved', block: '::/0' }
  // ISATAP (RFC 5214) puts an IPv4 address behind 0000:5efe or 0200:5efe in any prefix.
  if ((wordAt(bytes, 4) & 0xfdff) === 0 && wordAt(bytes, 5) === 0x5efe) {
    const embedded = bytes.slice(12)
    return { range: 'isatap', embedded: { address: ipText(embedded), ...classifyBytes(embedded) } }
  }
  return { range: 'global' }
}

/** Whether an address may belong to a host on the public Internet. A v4-mapped address is judged as the IPv4 address it is. */
export function isGlobal(address: string | Address): boolean {
  const { range, embedded } = classify(address)
  return range === 'global' || (range === 'v4-mapped' && embedded?.range === 'global')
}
