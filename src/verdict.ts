/**
 * What OpenSSL says of a certificate, a handshake or a record, as codes and plain sentences. Texts of OpenSSL and of the
 * peer are kept as `cause`.
 */

import type { CodeOf, ErrorFacts, SocketError } from './errors.js'
import { Broken, broken, CODES, errorCode, printable, systemCode, TlsError } from './errors.js'

type TlsCode = CodeOf<'TlsError'>

/** X509_V_ERR_*, as Node names them (`X509_verify_cert_error_string(3)`). */
const VERIFY: Readonly<Record<string, TlsCode>> = {
  CERT_HAS_EXPIRED: 'CERT_EXPIRED',
  CERT_NOT_YET_VALID: 'CERT_NOT_YET_VALID',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'SELF_SIGNED',
  SELF_SIGNED_CERT_IN_CHAIN: 'UNKNOWN_ISSUER',
  UNABLE_TO_GET_ISSUER_CERT: 'UNKNOWN_ISSUER',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'UNKNOWN_ISSUER',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'UNKNOWN_ISSUER',
  CERT_UNTRUSTED: 'UNKNOWN_ISSUER',
  CERT_REVOKED: 'REVOKED',
  UNABLE_TO_GET_CRL: 'BAD_CRL',
  UNABLE_TO_GET_CRL_ISSUER: 'BAD_CRL',
  UNABLE_TO_DECRYPT_CRL_SIGNATURE: 'BAD_CRL',
  CRL_SIGNATURE_FAILURE: 'BAD_CRL',
  CRL_NOT_YET_VALID: 'BAD_CRL',
  CRL_HAS_EXPIRED: 'BAD_CRL',
  ERROR_IN_CRL_LAST_UPDATE_FIELD: 'BAD_CRL',
  ERROR_IN_CRL_NEXT_UPDATE_FIELD: 'BAD_CRL',
  CERT_CHAIN_TOO_LONG: 'CHAIN_TOO_LONG',
  PATH_LENGTH_EXCEEDED: 'CHAIN_TOO_LONG',
  INVALID_PURPOSE: 'BAD_PURPOSE',
  INVALID_CA: 'BAD_PURPOSE',
}

/** OpenSSL's verdict on a certificate, as an error. */
export function verifyFailure(reason: string, facts: ErrorFacts, detail?: string): TlsError {
  const code = VERIFY[reason] ?? 'CERT_REJECTED'
  const text = detail ?? (code === 'CERT_REJECTED' ? printable(reason) : undefined)
  return tlsError(code, facts, text, Object.assign(new Error(reason), { code: reason }))
}

/** A `TlsError` of the table's sentence, with what is particular to this case behind it. */
export function tlsError(code: TlsCode, facts: ErrorFacts = {}, detail?: string, cause?: unknown): TlsError {
  const sentence = CODES.TlsError[code]
  return new TlsError(code, detail === undefined ? sentence : `${sentence}: ${detail}`, {
    phase: 'tls',
    ...facts,
    ...(cause !== undefined && { cause }),
  })
}

/** OpenSSL's reason codes, by the end of Node's error code `ERR_SSL_…`. */
const HANDSHAKE: readonly (readonly [RegExp, TlsCode])[] = [
  [/NO_APPLICATION_PROTOCOL/, 'ALPN_MISMATCH'],
  [/PEER_DID_NOT_RETURN_A_CERTIFICATE|ALERT_CERTIFICATE_REQUIRED/, 'NO_CERTIFICATE'],
  [/HTTP_REQUEST|HTTPS_PROXY_REQUEST/, 'NOT_TLS'],
  [
    /ALERT_PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|VERSION_TOO_LOW|VERSION_TOO_HIGH|NO_PROTOCOLS_AVAILABLE|UNKNOWN_PROTOCOL|INAPPROPRIATE_FALLBACK/,
    'VERSION_MISMATCH',
  ],
  [
    /NO_SHARED_CIPHER|NO_CIPHERS_AVAILABLE|ALERT_INSUFFICIENT_SECURITY|NO_SUITABLE_SIGNATURE_ALGORITHM|NO_SUITABLE_KEY_SHARE|NO_SHARED_GROUPS?/,
    'NO_SHARED_CIPHER',
  ],
  [
    /WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|RECORD_TOO_SMALL|BAD_RECORD_TYPE|UNEXPECTED_MESSAGE$|RECORD_LAYER_FAILURE|WRONG_SSL_VERSION/,
    'NOT_TLS',
  ],
  [/ALERT_/, 'PEER_ALERT'],
]

/** The alert names of RFC 8446 section 6, from OpenSSL's spelling of them. */
function alertName(code: string): string | undefined {
  return /ALERT_([A-Z0-9_]+)$/.exec(code)?.[1]?.toLowerCase()
}

/** Why a handshake failed. A reset or the like of the stream below stays what it is. */
export function handshakeFailure(error: unknown, facts: ErrorFacts): SocketError {
  if (error instanceof TlsError) return error
  if (systemCode(error) !== undefined) return broken(error, { phase: 'tls', ...facts })
  const code = errorCode(error)
  if (!code.startsWith('ERR_'))
    return tlsError('HANDSHAKE_FAILED', facts, error instanceof Error ? printable(error.message) : undefined, error)
  const found = HANDSHAKE.find(([pattern]) => pattern.test(code))?.[1]
  const alert = alertName(code)
  if (found === undefined) return tlsError('HANDSHAKE_FAILED', facts, reason(error), error)
  if (found === 'PEER_ALERT') return tlsError(found, facts, `alert ${alert ?? 'unknown'}`, error)
  return tlsError(found, facts, alert === undefined ? undefined : `the peer sent alert ${alert}`, error)
}

function reason(error: unknown): string | undefined {
  const text = (error as { reason?: unknown }).reason
  return typeof text === 'string' ? printable(text) : undefined
}

/** A failure of the record layer of an established connection. */
export function engineFailure(error: unknown): SocketError {
  if (error instanceof Broken) return error
  if (systemCode(error) !== undefined) return broken(error)
  const alert = alertName(errorCode(error))
  const detail = alert === undefined ? reason(error) : `the peer sent alert ${alert}`
  const sentence = CODES.Broken.TLS_FAILED
  return new Broken('TLS_FAILED', detail === undefined ? sentence : `${sentence}: ${detail}`, { cause: error })
}
