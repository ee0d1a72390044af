/** Why something failed, as Erlang says it: atoms and tuples, and their texts. */

import { getSystemErrorMap, inspect } from 'node:util'
import { AddressError, Broken, Closed, DeadlineError, Denied, OptionError, type SocketError, SystemFailure, TlsError } from '../index.js'
import type { Pid } from './erlang-process.js'

/** The reasons that `ssl` adds to those of the system, each with a text. */
export const SSL_REASONS = {
  closed: 'the connection is closed for this operation',
  ebadsocket: 'this is no connected socket',
  ebadstate: 'the connection is not established',
  ebrokertype: 'internal: wrong kind of broker',
  ecacertfile: 'the file of authorities cannot be used',
  ecertfile: 'the file of the own certificate cannot be used',
  echaintoolong: 'the certificate chain of the peer is longer than allowed',
  ecipher: 'none of the listed ciphers is known',
  ekeyfile: 'the file of the own private key cannot be used, or its password is wrong',
  ekeymismatch: 'the own private key does not belong to the own certificate',
  enoissuercert: 'the certificate of the issuer of the peer’s certificate is missing',
  enoservercert: 'a server needs a certificate',
  enotlistener: 'this is no listening socket',
  enoproxysocket: 'internal: no proxy connection',
  enooptions: 'the list of options is empty',
  eoptions: 'the list of options is not valid',
  epeercert: 'there is something wrong with the certificate of the peer',
  epeercertexpired: 'the certificate of the peer has expired',
  epeercertinvalid: 'the certificate of the peer is not valid, or not yet',
  eselfsignedcert: 'a self-signed certificate in the chain of the peer is not trusted',
  esslaccept: 'the handshake failed on the side of the server',
  esslconnect: 'the handshake failed on the side of the client',
  esslerrssl: 'the TLS protocol failed, usually with an alert of the peer',
  ewantconnect: 'TLS asks for a connect, which is not supported',
  ex509lookup: 'TLS asks for a look-up of a certificate, which is not supported',
  timeout: 'the time is over',
  not_owner: 'the calling process does not own the socket',
  no_peercert: 'the peer has no certificate',
  protocol_not_negotiated: 'no application protocol was negotiated',
} as const

export type SslAtom = keyof typeof SSL_REASONS
/** Error numbers of the system, by their names in small letters. */
export type Posix =
  | 'eacces'
  | 'eaddrinuse'
  | 'eaddrnotavail'
  | 'eafnosupport'
  | 'eagain'
  | 'ealready'
  | 'ebadf'
  | 'econnaborted'
  | 'econnrefused'
  | 'econnreset'
  | 'eexist'
  | 'ehostunreach'
  | 'einval'
  | 'eisconn'
  | 'emfile'
  | 'emsgsize'
  | 'enetunreach'
  | 'enfile'
  | 'enobufs'
  | 'enoent'
  | 'enomem'
  | 'enoprotoopt'
  | 'enotconn'
  | 'enotsock'
  | 'enotsup'
  | 'eperm'
  | 'epipe'
  | 'etimedout'
  | 'nxdomain'
/** An alert of TLS (RFC 8446, section 6): its name, and a text. */
export type TlsAlert = readonly ['tls_alert', readonly [string, string]]
/** Why a function of `ssl` failed. */
export type SslReason =
  | SslAtom
  | Posix
  | TlsAlert
  | readonly ['badcall', readonly ['inhibit_msgs', Pid]]
  | readonly ['badarg', readonly ['packet_to_large', number, number]]
  | readonly ['invalid_packet', Uint8Array]
/** Why a function of `gen_tcp` or `inet` failed. */
export type TcpReason = 'closed' | 'timeout' | 'not_owner' | Posix
export type UdpReason = TcpReason

/** Reasons of the tuple form, by what stands in front. */
const TUPLES: Readonly<Record<string, string>> = {
  badcall: 'the request is not understood in this state',
  badcast: 'internal: the request is not understood',
  badinfo: 'internal: the message is not understood',
  badarg: 'an argument is not valid',
  options: 'an option is not valid',
  invalid_packet: 'the peer sent what is no packet',
}

/** A text for any reason; `['error', Reason]` is taken for the reason. Never fails. */
export function reasonText(reason: unknown): string {
  if (Array.isArray(reason)) {
    const [head, detail] = reason as readonly unknown[]
    if (head === 'error' && reason.length === 2) return reasonText(detail)
    if (head === 'tls_alert' && Array.isArray(detail) && typeof detail[1] === 'string') return detail[1]
    return typeof head === 'string' && Object.hasOwn(TUPLES, head) ? (TUPLES[head] as string) : unknownText(reason)
  }
  if (typeof reason !== 'string') return unknownText(reason)
  return Object.hasOwn(SSL_REASONS, reason) ? SSL_REASONS[reason as SslAtom] : (posixText(reason) ?? unknownText(reason))
}

/** The text of an error number of the system, by its name in small letters. */
export function posixText(atom: string): string | undefined {
  if (atom === 'nxdomain') return 'non-existing domain'
  const wanted = atom.toUpperCase()
  for (const [name, text] of getSystemErrorMap().values()) if (name === wanted) return text
  return undefined
}

function unknownText(reason: unknown): string {
  return `unknown POSIX error: ${typeof reason === 'string' ? reason : inspect(reason, { depth: 3, breakLength: Infinity })}`
}

/** What a failure of the core is to Erlang. */
export function posixReason(error: unknown): TcpReason {
  if (error instanceof DeadlineError) return 'timeout'
  if (error instanceof Closed) return 'closed'
  if (error instanceof OptionError) return 'enoprotoopt'
  if (error instanceof Denied) return 'eacces'
  if (error instanceof AddressError) {
    if (error.code === 'BAD_PORT' || error.code === 'BAD_PATH' || error.code === 'PATH_TOO_LONG') return 'einval'
    return 'nxdomain'
  }
  if (error instanceof SystemFailure || error instanceof Broken) {
    if (error.code === 'UNSUPPORTED') return 'enotsup'
    if (/^E[A-Z0-9]+$/.test(error.code)) return error.code.toLowerCase() as Posix
    return error instanceof Broken ? 'econnreset' : 'einval'
  }
  if (error instanceof TypeError || error instanceof RangeError) return 'einval'
  throw error
}

/** OpenSSL's verdicts on a certificate (X509_V_ERR_*) that have an atom of their own. */
const VERDICTS: Readonly<Record<string, SslAtom>> = {
  UNABLE_TO_GET_ISSUER_CERT: 'enoissuercert',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'enoissuercert',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'enoissuercert',
  CERT_NOT_YET_VALID: 'epeercertinvalid',
  ERROR_IN_CERT_NOT_BEFORE_FIELD: 'epeercertinvalid',
  ERROR_IN_CERT_NOT_AFTER_FIELD: 'epeercertinvalid',
  CERT_HAS_EXPIRED: 'epeercertexpired',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'eselfsignedcert',
  SELF_SIGNED_CERT_IN_CHAIN: 'eselfsignedcert',
  CERT_CHAIN_TOO_LONG: 'echaintoolong',
  PATH_LENGTH_EXCEEDED: 'echaintoolong',
}

/** The alert that the peer sent, if that is what `error` is about. */
export function alertOf(error: SocketError): TlsAlert | undefined {
  const name = /\balert ([a-z0-9_]+)/.exec(error.message)?.[1]
  return name === undefined ? undefined : ['tls_alert', [name, error.message]]
}

/** What a failure of TLS, or below it, is to the old `ssl`. `limited`: this side's own limit for the handshake is over. */
export function sslReason(error: unknown, role: 'client' | 'server'): SslReason {
  if (!(error instanceof TlsError)) {
    if (error instanceof Broken && error.phase === 'tls') return 'closed'
    return posixReason(error)
  }
  const verdict = VERDICTS[String((error.cause as { code?: unknown } | undefined)?.code)]
  if (verdict !== undefined) return verdict
  switch (error.code) {
    case 'CHAIN_TOO_LONG':
      return 'echaintoolong'
    case 'NAME_MISMATCH':
    case 'REVOKED':
    case 'BAD_CRL':
    case 'BAD_PURPOSE':
    case 'CERT_REJECTED':
    case 'PIN_MISMATCH':
      return 'epeercert'
    case 'SELF_SIGNED':
      return 'eselfsignedcert'
    case 'UNKNOWN_ISSUER':
      return 'enoissuercert'
    case 'HANDSHAKE_CLOSED':
      return 'closed'
    case 'UNKNOWN_CIPHER':
      return 'ecipher'
    case 'MISSING_FILE':
    case 'BAD_PEM':
      return 'ecertfile'
    case 'BAD_PASSPHRASE':
    case 'BAD_KEY':
      return 'ekeyfile'
    case 'KEY_MISMATCH':
      return 'ekeymismatch'
    case 'HANDSHAKE_FAILED':
      return role === 'client' ? 'esslconnect' : 'esslaccept'
    default:
      return 'esslerrssl'
  }
}
