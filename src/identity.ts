/** Whether a certificate is for the server that was asked for: RFC 9525. */

import { isIP } from 'node:net'
import { asciiName, flawOfName, ipBytes } from './address.js'
import { type AlternativeNames, shownNames } from './x509.js'

/**
 * Whether `name` is one a certificate can be checked against: a DNS name of letters, digits and hyphens (underscores are met
 * in practice) or an IP address. Returns its canonical form: lower-case A-labels without the final dot; undefined otherwise.
 */
export function referenceName(name: string): string | undefined {
  const bare = name.startsWith('[') && name.endsWith(']') ? name.slice(1, -1) : name
  if (isIP(bare) !== 0) return bare.toLowerCase()
  const ascii = asciiName(bare.endsWith('.') ? bare.slice(0, -1) : bare)
  return ascii !== undefined && isDnsName(ascii) ? ascii : undefined
}

function isDnsName(name: string): boolean {
  return !name.endsWith('.') && flawOfName(name) === undefined
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
  const wanted = ipBytes(reference.replace(/%.*/, ''))
  return names.ips.some((presented) => presented.length === wanted?.length && presented.every((byte, i) => byte === wanted[i]))
}

/** What a certificate names, for an error message. */
export function describeNames(names: AlternativeNames): string {
  const all = shownNames(names)
  if (all.length === 0) return 'the certificate names no host at all'
  const shown = all.slice(0, 5).join(', ')
  return all.length > 5 ? `the certificate is for ${shown} and ${all.length - 5} more` : `the certificate is for ${shown}`
}
