/** Whether a certificate is for the server that was asked for: RFC 9525. */

import { isIP, isIPv4 } from 'node:net'
import { domainToASCII } from 'node:url'
import { printable } from './errors.js'
import { type AlternativeNames, formatIp } from './x509.js'

/**
 * Whether `name` is one a certificate can be checked against: a DNS name of letters, digits and hyphens (underscores are met
 * in practice) or an IP address. Returns its canonical form: lower-case A-labels without the final dot; undefined otherwise.
 */
export function referenceName(name: string): string | undefined {
  const bare = name.startsWith('[') && name.endsWith(']') ? name.slice(1, -1) : name
  if (isIP(bare) !== 0) return bare.toLowerCase()
  if (/[\u0000-\u0020\u007f%/?#@:\\[\]*]/.test(bare)) return undefined
  const dotless = bare.endsWith('.') ? bare.slice(0, -1) : bare
  const ascii = /^[\u0000-\u007f]*$/.test(dotless) ? dotless.toLowerCase() : domainToASCII(dotless)
  // `domainToASCII` reads `1.2` and `0x7f` as addresses; such a name was no address to begin with, so it names nothing.
  if (isIP(ascii) !== 0 || !isDnsName(ascii)) return undefined
  return ascii
}

const LABEL = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/

function isDnsName(name: string): boolean {
  return name.length > 0 && name.length <= 253 && name.split('.').every((label) => LABEL.test(label))
}

/**
 * Whether a name of a certificate covers the canonical DNS name `reference`. A wildcard is a whole left-most label with
 * two labels behind it at the least, and stands for exactly one label, which must not be an A-label's fragment.
 */
export function matchesDns(presented: string, reference: string): boolean {
  let pattern = presented.toLowerCase()
  if (pattern.endsWith('.')) pattern = pattern.slice(0, -1)
  if (!pattern.startsWith('*.')) return isDnsName(pattern) && pattern === reference
  const suffix = pattern.slice(2)
  if (!isDnsName(suffix) || !suffix.includes('.')) return false
  const dot = reference.indexOf('.')
  return dot > 0 && reference.slice(dot + 1) === suffix
}

/** Whether `names` cover `name`: an IP address only by the same bytes, a DNS name only by DNS names. No common name. */
export function matchesIdentity(names: AlternativeNames, name: string): boolean {
  const reference = referenceName(name)
  if (reference === undefined) return false
  if (isIP(reference) === 0) return names.dns.some((presented) => matchesDns(presented, reference))
  const wanted = ipBytes(reference)
  return names.ips.some((presented) => presented.length === wanted.length && presented.every((byte, i) => byte === wanted[i]))
}

/** What a certificate names, for an error message. */
export function describeNames(names: AlternativeNames): string {
  const all = [...names.dns.map((name) => printable(name)), ...names.ips.map(formatIp)]
  if (all.length === 0) return 'the certificate names no host at all'
  const shown = all.slice(0, 5).join(', ')
  return all.length > 5 ? `the certificate is for ${shown} and ${all.length - 5} more` : `the certificate is for ${shown}`
}

/** The bytes of an IP address in text, without its zone. */
export function ipBytes(text: string): Uint8Array {
  if (isIPv4(text)) return Uint8Array.from(text.split('.'), Number)
  const bytes = new Uint8Array(16)
  const plain = (text.split('%')[0] as string).replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a, b, c, d) => {
    return `${((Number(a) << 8) | Number(b)).toString(16)}:${((Number(c) << 8) | Number(d)).toString(16)}`
  })
  const [head = '', tail] = plain.split('::')
  const front = head === '' ? [] : head.split(':')
  const back = tail === undefined || tail === '' ? [] : tail.split(':')
  const put = (groups: readonly string[], from: number) => {
    groups.forEach((group, i) => {
      const value = Number.parseInt(group, 16)
      bytes[2 * (from + i)] = value >> 8
      bytes[2 * (from + i) + 1] = value & 0xff
    })
  }
  put(front, 0)
  put(back, 8 - back.length)
  return bytes
}
