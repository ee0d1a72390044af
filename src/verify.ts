/** Judging the peer of a handshake, full or resumed: chain and dates, depth, name, pins. */

import type { X509Certificate } from 'node:crypto'
import type { DetailedPeerCertificate, TLSSocket } from 'node:tls'
import { nodeCrypto } from './builtin.js'
import { type ErrorFacts, printable, type TlsError } from './errors.js'
import { describeNames, matchesIdentity } from './identity.js'
import { tlsError, verifyFailure } from './verdict.js'
import { alternativeNames, oneLine, pinOf } from './x509.js'

/** A chain nobody needs; also ends a circle of cross-signed authorities. */
const LONGEST_CHAIN = 100

/** The peer's certificate and those above it, as OpenSSL put them together. */
export function chainOf(socket: TLSSocket): X509Certificate[] {
  const chain: X509Certificate[] = []
  // Newer runtimes give the objects; the legacy form has the bytes everywhere.
  let detailed: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true)
  while (detailed?.raw !== undefined && chain.length < LONGEST_CHAIN) {
    chain.push(new (nodeCrypto().X509Certificate)(detailed.raw))
    const above: DetailedPeerCertificate | undefined = detailed.issuerCertificate
    // A root is above itself.
    if (above?.raw?.equals(detailed.raw)) break
    detailed = above
  }
  return chain
}

/** Node reports OpenSSL's verdict as an error, as its code, or not at all. */
export function opensslVerdict(reported: unknown): string | undefined {
  if (reported === undefined || reported === null) return undefined
  if (typeof reported === 'string') return reported
  const { code, message } = reported as { code?: unknown; message?: unknown }
  return typeof code === 'string' ? code : String(message)
}

export interface ChainFacts {
  /** OpenSSL's verdict, if it is one. */
  readonly failure: string | undefined
  readonly chain: readonly X509Certificate[]
  readonly depth: number | undefined
  readonly host: string | undefined
}

/** Why the chain is not acceptable now, or undefined. */
export function judgeChain({ failure, chain, depth, host }: ChainFacts, facts: ErrorFacts): TlsError | undefined {
  const [leaf] = chain
  const who = host === undefined ? '' : `${host}, `
  if (leaf === undefined) return tlsError('NO_CERTIFICATE', facts, host)
  if (failure !== undefined) return verifyFailure(failure, facts, `${who}${describe(failure, chain)}`)
  // OpenSSL has looked at the dates in a full handshake; a resumed one it takes as it was.
  for (const certificate of chain) {
    const wrong = datesOf(certificate)
    if (wrong !== undefined) return verifyFailure(wrong, facts, `${who}${describe(wrong, [certificate])}`)
  }
  const between = Math.max(0, chain.length - 2)
  if (depth !== undefined && between > depth)
    return verifyFailure('CERT_CHAIN_TOO_LONG', facts, `${who}${between} intermediate certificates, at most ${depth} allowed`)
  return undefined
}

/** What is wrong with the dates of a certificate now, in OpenSSL's words. */
function datesOf({ validFrom, validTo }: X509Certificate): string | undefined {
  const now = Date.now()
  if (now > Date.parse(validTo)) return 'CERT_HAS_EXPIRED'
  return now < Date.parse(validFrom) ? 'CERT_NOT_YET_VALID' : undefined
}

function describe(failure: string, chain: readonly X509Certificate[]): string {
  const [leaf] = chain as [X509Certificate]
  const which = chain.find((one) => datesOf(one) === failure) ?? leaf
  const named = (name: string | undefined) => oneLine(name) || 'a certificate without a subject'
  switch (failure) {
    case 'CERT_HAS_EXPIRED':
      return `${named(which.subject)} was valid until ${which.validTo}`
    case 'CERT_NOT_YET_VALID':
      return `${named(which.subject)} is valid from ${which.validFrom}`
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
      return named(leaf.subject)
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
      return `the issuer is ${named(chain.at(-1)?.issuer)}`
    default:
      return `${named(leaf.subject)} (${printable(failure)})`
  }
}

/** RFC 9525, on the names of the leaf alone. */
export function judgeName(chain: readonly X509Certificate[], name: string | undefined, facts: ErrorFacts): TlsError | undefined {
  const [leaf] = chain
  if (leaf === undefined) return tlsError('NO_CERTIFICATE', facts, name)
  const names = alternativeNames(leaf.raw)
  if (name !== undefined && matchesIdentity(names, name)) return undefined
  return tlsError('NAME_MISMATCH', facts, `${name ?? 'no name was asked for'}; ${describeNames(names)}`)
}

export function judgePins(chain: readonly X509Certificate[], pins: ReadonlySet<string>, facts: ErrorFacts): TlsError | undefined {
  const present = chain.map(pinOf)
  if (present.some((pin) => pins.has(pin))) return undefined
  return tlsError('PIN_MISMATCH', facts, present.length === 0 ? 'it sent no certificate' : `it is ${present[0]}`)
}
