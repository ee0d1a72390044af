/**
 * The parts of a certificate that decisions rest on, read from its DER (RFC 5280) rather than from anybody's text form
 * of it: text forms of names have been forged (CVE-2021-44532, CVE-2021-44533).
 */

import type { X509Certificate } from 'node:crypto'
import { nodeCrypto } from './builtin.js'
import { ipText } from './address.js'
import { printable } from './errors.js'

/** Subject alternative names. What is not a DNS name or an IP address is only counted. */
export interface AlternativeNames {
  /** As they stand in the certificate, Latin-1; may be anything at all. */
  readonly dns: readonly string[]
  /** 4 or 16 bytes, or whatever length the certificate has. */
  readonly ips: readonly Uint8Array[]
  readonly others: number
}

/** What is readable of a peer's certificate. Texts are safe to print. */
export interface CertificateFacts {
  readonly subject: string
  readonly issuer: string
  /** DNS names and IP addresses it is for. */
  readonly names: readonly string[]
  /** Epoch milliseconds. */
  readonly validFrom: number
  readonly validTo: number
  readonly serialNumber: string
  /** SHA-256 of the certificate, lower-case hexadecimal. */
  readonly fingerprint: string
  /** SHA-256 of its public key, base64: what `pins` takes. */
  readonly pin: string
  readonly ca: boolean
  readonly raw: Uint8Array
}

interface Element {
  readonly tag: number
  readonly start: number
  readonly end: number
}

/** One DER element at `at`; throws RangeError on what is not DER. */
function element(bytes: Uint8Array, at: number, limit: number): Element {
  const tag = bytes[at]
  const first = bytes[at + 1]
  if (tag === undefined || first === undefined || at + 2 > limit) throw new RangeError('truncated DER')
  let start = at + 2
  let length = first
  if (first >= 0x80) {
    const count = first & 0x7f
    if (count === 0 || count > 4) throw new RangeError('bad DER length')
    length = 0
    for (let i = 0; i < count; i++) length = length * 256 + (bytes[start + i] ?? 0)
    start += count
  }
  const end = start + length
  if (end > limit) throw new RangeError('DER element is longer than what holds it')
  return { tag, start, end }
}

function* children(bytes: Uint8Array, parent: Element): Generator<Element> {
  for (let at = parent.start; at < parent.end;) {
    const child = element(bytes, at, parent.end)
    yield child
    at = child.end
  }
}

const SEQUENCE = 0x30
const OCTETS = 0x04
const OID = 0x06
const EXTENSIONS = 0xa3
const DNS_NAME = 0x82
const IP_ADDRESS = 0x87
/** id-ce-subjectAltName, 2.5.29.17 */
const SUBJECT_ALT_NAME = '551d11'

/** The content of one extension of a certificate, or undefined. Throws RangeError on what is not a certificate. */
function extension(raw: Uint8Array, oid: string): Uint8Array | undefined {
  const [tbs] = children(raw, element(raw, 0, raw.length))
  if (tbs === undefined) throw new RangeError('not a certificate')
  for (const field of children(raw, tbs)) {
    if (field.tag !== EXTENSIONS) continue
    const [list] = children(raw, field)
    for (const entry of list === undefined ? [] : children(raw, list)) {
      const parts = [...children(raw, entry)]
      const [id] = parts
      const content = parts.at(-1)
      if (id?.tag !== OID || content?.tag !== OCTETS) continue
      if (Buffer.from(raw.subarray(id.start, id.end)).toString('hex') === oid) return raw.subarray(content.start, content.end)
    }
  }
  return undefined
}

/** The subject alternative names; none if there is no such extension or it cannot be read. */
export function alternativeNames(certificate: Uint8Array): AlternativeNames {
  const dns: string[] = []
  const ips: Uint8Array[] = []
  let others = 0
  try {
    const content = extension(certificate, SUBJECT_ALT_NAME)
    if (content === undefined) return { dns, ips, others }
    const list = element(content, 0, content.length)
    if (list.tag !== SEQUENCE) throw new RangeError('not a list of names')
    for (const name of children(content, list)) {
      const bytes = content.subarray(name.start, name.end)
      if (name.tag === DNS_NAME) dns.push(Buffer.from(bytes).toString('latin1'))
      else if (name.tag === IP_ADDRESS) ips.push(Uint8Array.from(bytes))
      else others++
    }
  } catch (error) {
    // A certificate whose names cannot be read names nobody.
    if (!(error instanceof RangeError)) throw error
    return { dns: [], ips: [], others }
  }
  return { dns, ips, others }
}

/** The names as texts that are safe to print. */
export function shownNames({ dns, ips }: AlternativeNames): string[] {
  return [...dns.map(printable), ...ips.map(formatIp)]
}

/** SHA-256 of the SubjectPublicKeyInfo, base64 (RFC 7469). */
export function pinOf(certificate: X509Certificate): string {
  return nodeCrypto()
    .createHash('sha256')
    .update(certificate.publicKey.export({ type: 'spki', format: 'der' }))
    .digest('base64')
}

export function factsOf(certificate: X509Certificate): CertificateFacts {
  return {
    subject: oneLine(certificate.subject),
    issuer: oneLine(certificate.issuer),
    names: shownNames(alternativeNames(certificate.raw)),
    validFrom: Date.parse(certificate.validFrom),
    validTo: Date.parse(certificate.validTo),
    serialNumber: certificate.serialNumber,
    fingerprint: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
    pin: pinOf(certificate),
    ca: certificate.ca,
    raw: Uint8Array.from(certificate.raw),
  }
}

/** A subject or issuer, whose parts Node puts on lines of their own. */
export function oneLine(name: string | undefined): string {
  return printable((name ?? '').split('\n').join(', '))
}

/** An address as a certificate has it, which may be of any length. */
export function formatIp(bytes: Uint8Array): string {
  return bytes.length === 4 || bytes.length === 16 ? ipText(bytes) : `(${bytes.length} bytes)`
}
