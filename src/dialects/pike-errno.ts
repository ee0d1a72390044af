/** How the dialect reports: errors that are thrown, and error numbers with their texts. */

import { SocketError } from '../index.js'
import { LAST_ERROR, numberOf, textOf } from './dictu-errno.js'

/** Misuse, as the original throws it: a file that is not open, an address that is none, a value of the wrong type. */
export class PikeError extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    Object.defineProperty(this, 'name', { value: 'PikeError', enumerable: false })
  }
}

/** What the original would have got from the system, where this library has a code of its own for it. */
const OWN_CODES: Readonly<Record<string, string>> = {
  CLOSED: 'EBADF',
  ABORTED: 'EBADF',
  OWNER_ENDED: 'EBADF',
  CONSUMED: 'EBADF',
  ENDED: 'EPIPE',
  BUSY: 'EBUSY',
  UNREAD: 'EBUSY',
  UNSENT: 'EBUSY',
  DEADLINE: 'ETIMEDOUT',
  CANCELLED: 'EINTR',
  POLICY: 'EACCES',
  LIMIT: 'EAGAIN',
  IDLE: 'ETIMEDOUT',
  LIFETIME: 'ETIMEDOUT',
  TOO_SLOW: 'ETIMEDOUT',
  ESELFCONNECT: 'ECONNREFUSED',
  ENOTSUP: 'EOPNOTSUPP',
  UNSUPPORTED: 'EOPNOTSUPP',
  TLS_TRUNCATED: 'ECONNRESET',
  PATH_TOO_LONG: 'EINVAL',
  BAD_PATH: 'EINVAL',
  BAD_PORT: 'EINVAL',
  UNKNOWN_OPTION: 'ENOPROTOOPT',
  UNSUPPORTED_OPTION: 'ENOPROTOOPT',
  WRONG_MOMENT: 'EINVAL',
  BAD_VALUE: 'EINVAL',
}

/** What is wrong with settings of TLS rather than with a peer. */
const TLS_SETTINGS: ReadonlySet<string> = new Set('BAD_PEM BAD_PASSPHRASE KEY_MISMATCH BAD_KEY UNKNOWN_CIPHER NEEDS_CERTIFICATE'.split(' '))

/** The error number for a failure of a socket; a handshake that failed is EPIPE. What is no failure of a socket is thrown on. */
export function errnoOf(error: unknown): number {
  if (!(error instanceof SocketError)) throw error
  if (error.name === 'TlsError' && error.code === 'MISSING_FILE') return numberOf('ENOENT')
  if (error.name === 'TlsError')
    return TLS_SETTINGS.has(error.code) ? EINVAL : error.code === 'HANDSHAKE_CLOSED' ? numberOf('ECONNRESET') : EPIPE
  if (error.code === 'TLS_FAILED') return EPIPE
  return numberOf(OWN_CODES[error.code] ?? error.code)
}

/** Whether a name could not be looked up or is none, which the original throws. */
export function isBadAddress(error: unknown): boolean {
  return error instanceof SocketError && error.name === 'AddressError' && !['PATH_TOO_LONG', 'BAD_PATH'].includes(error.code)
}

export const EAFNOSUPPORT: number = numberOf('EAFNOSUPPORT')
export const EAGAIN: number = numberOf('EAGAIN')
export const EBADF: number = numberOf('EBADF')
export const EBUSY: number = numberOf('EBUSY')
export const EINVAL: number = numberOf('EINVAL')
export const EISCONN: number = numberOf('EISCONN')
export const ENOTCONN: number = numberOf('ENOTCONN')
export const EOPNOTSUPP: number = numberOf('EOPNOTSUPP')
export const EPIPE: number = numberOf('EPIPE')

let last = 0

/** Remembers a number for the global {@link errno}; returns it. @internal */
export function remember(number: number): number {
  last = number
  return number
}

/**
 * The error number of the last function that is no method of an object, such as `rm` or `file_stat`; 0 if it succeeded.
 * Objects have their own: `sock.errno()`. Pike: `errno()`.
 */
export function errno(): number {
  return last
}

/**
 * The text of an error number, as the system has it: `strerror(111)` is `Connection refused`. Pike: `strerror`.
 *
 * @param number an error number; those that no system has give `Error 9999`
 */
export function strerror(number: number): string {
  if (number === 0) return 'Success'
  return Number.isInteger(number) && number > 0 && number <= LAST_ERROR ? textOf(number) : `Error ${number}`
}
