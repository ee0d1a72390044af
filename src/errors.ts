/**
 * Every error fairlead throws: a closed set of classes and one table of codes.
 *
 * Errors are wrapped exactly once, at the public edge, by {@link wrap}. Arguments of the wrong type or range are native
 * `TypeError`/`RangeError` with a `code`, made by {@link invalidType} and {@link outOfRange}.
 */

/** What a dial tried and how it went. */
export interface Attempt {
  /** The address as text, `127.0.0.1:80` or a path. */
  address: string
  phase: Phase
  /** Milliseconds from the start of this attempt to its failure. */
  duration: number
  code: string
  message: string
}

/** The part of an operation in which an error arose. */
export type Phase =
  | 'parse'
  | 'policy'
  | 'resolve'
  | 'bind'
  | 'connect'
  | 'listen'
  | 'accept'
  | 'tls'
  | 'read'
  | 'write'
  | 'end'
  | 'close'
  | 'frame'
  | 'option'
  | 'handler'

export interface ErrorFacts {
  /** The verb that failed: `read`, `connect`, … */
  op?: string
  endpoint?: string
  local?: string
  remote?: string
  phase?: Phase
  attempts?: readonly Attempt[]
  cause?: unknown
  /** Bytes of a failed write that had been handed to the system. */
  bytesWritten?: number
  /** Datagrams of a failed batch that had been sent. */
  datagramsWritten?: number
  /** How far a relay came that failed: bytes in each direction, and the direction that broke, if one did. */
  relayed?: { readonly forth: number; readonly back: number; readonly broke?: 'forth' | 'back' }
  /** Set when a driver could not tell a clean end from a reset right behind it. */
  endUncertain?: boolean
}

/** code → one plain sentence; the key of each group is the class. The docs table is generated from this. */
export const CODES = {
  Closed: {
    CLOSED: 'the socket was closed on this side',
    ABORTED: 'the socket was aborted on this side',
    ENDED: 'the write direction was ended on this side',
    CONSUMED: 'the socket was handed over to another object',
    OWNER_ENDED: 'the owner of the socket ended',
  },
  Broken: {
    ECONNRESET: 'the peer reset the connection',
    ECONNREFUSED: 'nobody receives datagrams at the peer',
    EPIPE: 'the peer no longer reads',
    ETIMEDOUT: 'the peer stopped answering',
    ECONNABORTED: 'the connection was aborted by the system',
    ENETDOWN: 'the network is down',
    ENETRESET: 'the network dropped the connection',
    ENETUNREACH: 'the network became unreachable',
    EHOSTUNREACH: 'the host became unreachable',
    EIO: 'the system reported an input/output error',
    TLS_TRUNCATED: 'the stream was cut off without close_notify, so it may be incomplete',
    TLS_FAILED: 'the TLS layer failed and the connection is unusable',
    HANDLER_FAILED: 'the handler of this connection failed',
    BROKEN: 'the connection broke',
  },
  Busy: {
    BUSY: 'another operation already uses this direction',
    UNREAD: 'bytes were received and have not been read',
    UNSENT: 'bytes were accepted and have not been sent',
  },
  DeadlineError: {
    DEADLINE: 'the deadline passed',
  },
  Cancelled: {
    CANCELLED: 'the operation was cancelled',
  },
  Denied: {
    POLICY: 'the policy refused this endpoint or address',
    LIMIT: 'a limit of this process refused the connection',
    IDLE: 'the connection was idle for too long',
    LIFETIME: 'the connection reached its longest lifetime',
    TOO_SLOW: 'the peer was too slow',
    DRAINING: 'the server is draining',
    DESCRIPTORS: 'more descriptors came than were asked for, and all were closed',
  },
  SystemFailure: {
    EADDRINUSE: 'the address is already in use',
    EADDRNOTAVAIL: 'the address is not available on this machine',
    ENODEV: 'there is no such network interface',
    EACCES: 'permission denied',
    EPERM: 'the operation is not permitted',
    ECONNREFUSED: 'the connection was refused',
    ECONNRESET: 'the peer reset the connection',
    ETIMEDOUT: 'the host did not answer',
    ENETUNREACH: 'there is no route to the network',
    EHOSTUNREACH: 'there is no route to the host',
    EAFNOSUPPORT: 'the address family is not supported',
    EMFILE: 'this process has no file descriptors left',
    ENFILE: 'the system has no file descriptors left',
    ENOBUFS: 'the system has no buffer space left',
    ENOMEM: 'the system has no memory left',
    ENOENT: 'no such file or directory',
    ENOTDIR: 'a part of the path is not a directory',
    EEXIST: 'the file already exists',
    EINVAL: 'the system refused the argument',
    ENOTSUP: 'the system does not support this',
    ENOTSOCK: 'the file is not a socket',
    EBADF: 'there is no such descriptor',
    ENOTCONN: 'the socket is not connected',
    NOT_A_FILE: 'it is not a regular file',
    FILE_TOO_SHORT: 'the file has fewer bytes than were to be sent',
    EMSGSIZE: 'the datagram is longer than the system can send',
    EDESTADDRREQ: 'there is nobody to send to',
    EISCONN: 'the socket is connected to another peer',
    ESELFCONNECT: 'the connection met itself, nobody listens there',
    UNSUPPORTED: 'this driver cannot do this',
    UNKNOWN: 'the system call failed',
  },
  AddressError: {
    BAD_ENDPOINT: 'the endpoint cannot be parsed',
    BAD_SCHEME: 'the endpoint has an unknown scheme',
    BAD_HOST: 'the host is not a valid name or address',
    BAD_PORT: 'the port is not a number from 0 to 65535',
    BAD_PATH: 'the socket path is not valid',
    PATH_TOO_LONG: 'the socket path is longer than 107 bytes',
    BAD_CIDR: 'the address range cannot be parsed',
    ENOTFOUND: 'the name does not exist',
    EAI_AGAIN: 'the name server did not answer',
    ENODATA: 'the name has no address',
    RESOLVE_FAILED: 'the name could not be resolved',
  },
  TlsError: {
    CERT_EXPIRED: 'the certificate has expired',
    CERT_NOT_YET_VALID: 'the certificate is not valid yet',
    SELF_SIGNED: 'the certificate is self-signed and not trusted',
    UNKNOWN_ISSUER: 'the certificate was issued by an authority that is not trusted',
    NAME_MISMATCH: 'the certificate does not name this server',
    REVOKED: 'the certificate has been revoked',
    BAD_CRL: 'the revocation list is missing, invalid or out of date',
    CHAIN_TOO_LONG: 'the certificate chain is longer than allowed',
    BAD_PURPOSE: 'the certificate may not be used for this purpose',
    CERT_REJECTED: 'the certificate was rejected',
    NO_CERTIFICATE: 'the peer sent no certificate',
    PIN_MISMATCH: 'the key of the peer is not one of the pinned keys',
    ALPN_MISMATCH: 'no common application protocol',
    VERSION_MISMATCH: 'no common TLS version',
    NO_SHARED_CIPHER: 'no common cipher suite',
    NOT_TLS: 'the peer does not speak TLS',
    PEER_ALERT: 'the peer refused the handshake',
    HANDSHAKE_FAILED: 'the TLS handshake failed',
    HANDSHAKE_CLOSED: 'the peer closed the connection during the TLS handshake',
    PLAINTEXT_BUFFERED: 'plain text was received before the upgrade to TLS',
    MISSING_FILE: 'a certificate or key file cannot be read',
    BAD_PEM: 'the text is not valid PEM',
    BAD_PASSPHRASE: 'the passphrase of the private key is missing or wrong',
    KEY_MISMATCH: 'the private key does not belong to the certificate',
    BAD_KEY: 'the private key cannot be used',
    UNKNOWN_CIPHER: 'the cipher list names no known cipher',
    NEEDS_SERVER_NAME: 'verification needs a server name',
    NEEDS_CERTIFICATE: 'a TLS server needs a certificate and a key',
    SNI_FAILED: 'the server name callback failed',
    STARTTLS_REFUSED: 'the server does not offer TLS or refused to start it',
  },
  FrameError: {
    INCOMPLETE: 'the stream ended in the middle of a message',
    TOO_LONG: 'the message is longer than the limit',
    BAD_FRAME: 'the message is malformed',
    BAD_MESSAGE: 'the message cannot be encoded',
    PARTIAL_WRITE: 'a message was cut off half-way while writing',
  },
  OptionError: {
    UNKNOWN_OPTION: 'the option does not exist',
    UNSUPPORTED_OPTION: 'this driver does not support the option',
    WRONG_MOMENT: 'the option cannot be set at this moment',
    BAD_VALUE: 'the value does not fit the option',
  },
} as const

export type ErrorClass = keyof typeof CODES
export type CodeOf<C extends ErrorClass> = keyof (typeof CODES)[C] & string
export type ErrorCode = { [C in ErrorClass]: CodeOf<C> }[ErrorClass]

/** Process exit codes of the command line, by class; documented in docs/errors.md. */
export const EXIT_CODES: { readonly [C in ErrorClass | 'Usage' | 'Unexpected']: number } = {
  Unexpected: 1,
  Usage: 2,
  AddressError: 3,
  SystemFailure: 4,
  DeadlineError: 5,
  TlsError: 6,
  Broken: 7,
  Denied: 8,
  FrameError: 9,
  OptionError: 2,
  Busy: 1,
  Closed: 1,
  Cancelled: 130,
}

const BRAND = Symbol.for('fairlead.SocketError')

/**
 * The root of all errors of this library. `instanceof` holds across copies of the package and across realms.
 *
 * `code` is one of the literals of {@link CODES}; where the system reports a POSIX code that the table does not list,
 * that code is kept as it is.
 */
export class SocketError<Code extends string = ErrorCode> extends Error {
  declare readonly code: Code
  declare readonly op?: string
  declare readonly endpoint?: string
  declare readonly local?: string
  declare readonly remote?: string
  declare readonly phase?: Phase
  declare readonly attempts?: readonly Attempt[]
  declare readonly bytesWritten?: number
  declare readonly datagramsWritten?: number
  declare readonly relayed?: { readonly forth: number; readonly back: number; readonly broke?: 'forth' | 'back' }
  declare readonly endUncertain?: boolean

  constructor(code: Code, message: string, facts: ErrorFacts = {}) {
    const { cause, ...rest } = facts
    super(message, cause === undefined ? undefined : { cause })
    this.name = new.target.name
    Object.assign(this, { code }, rest)
    Object.defineProperty(this, BRAND, { value: new.target.name })
    Object.defineProperty(this, 'name', { enumerable: false })
  }

  /** True for `DeadlineError` alone. */
  get timeout(): boolean {
    return this.name === 'DeadlineError'
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    const brand = typeof value === 'object' && value !== null ? (value as { [BRAND]?: string })[BRAND] : undefined
    return brand !== undefined && (brand === this.name || this.name === 'SocketError')
  }
}

/** You closed it. */
export class Closed extends SocketError<CodeOf<'Closed'>> {}
/** The world broke it. */
export class Broken extends SocketError<CodeOf<'Broken'>> {}
/** Two claimants for one direction. */
export class Busy extends SocketError<CodeOf<'Busy'>> {}
/** The deadline passed; nothing was consumed. */
export class DeadlineError extends SocketError<CodeOf<'DeadlineError'>> {}
/** A signal cancelled the operation; `cause` is the signal's reason. */
export class Cancelled extends SocketError<CodeOf<'Cancelled'>> {}
/** A policy or a limit of this process said no. */
export class Denied extends SocketError<CodeOf<'Denied'>> {}
/** A system call failed while opening, binding, listening or setting an option; `code` is the POSIX code. */
export class SystemFailure extends SocketError<CodeOf<'SystemFailure'>> {}
/** An endpoint could not be parsed or a name not looked up. */
export class AddressError extends SocketError<CodeOf<'AddressError'>> {}
/** A handshake, a verification or TLS settings failed. */
export class TlsError extends SocketError<CodeOf<'TlsError'>> {}
/** Bytes do not form a message, or a message does not fit its frame. */
export class FrameError extends SocketError<CodeOf<'FrameError'>> {}
/** A socket option is unknown, unsupported here, or set at the wrong moment. */
export class OptionError extends SocketError<CodeOf<'OptionError'>> {}

/** A native `TypeError` with a code: names the argument, what was expected and what came. */
export function invalidType(name: string, expected: string, value: unknown): TypeError {
  return coded(new TypeError(`${name} must be ${expected}, got ${show(value)}`), 'ERR_INVALID_ARG_TYPE')
}

/** A native `RangeError` with a code: names the argument, the range and the value. */
export function outOfRange(name: string, expected: string, value: unknown): RangeError {
  return coded(new RangeError(`${name} must be ${expected}, got ${show(value)}`), 'ERR_OUT_OF_RANGE')
}

function coded<E extends Error>(error: E, code: string): E {
  return Object.assign(error, { code })
}

/** A value as it may appear in a message: short, quoted, without control characters. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 80 ? `${value.slice(0, 77)}…` : value).replace(UNPRINTABLE, escape)
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'function') return 'a function'
  if (typeof value === 'object' && value !== null) return `an object of type ${value.constructor?.name ?? 'null prototype'}`
  return String(value)
}

/** Control characters, bidirectional overrides and line separators: what could forge a line of a log or drive a terminal. */
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g

/** Text of a peer made safe for logs and terminals: what is unprintable becomes `\\u{…}`. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, escape)
}

function escape(character: string): string {
  return `\\u{${(character.codePointAt(0) as number).toString(16)}}`
}

/** The word of `known` nearest to `given`, if any is near enough to be a slip of the hand. */
export function nearest(given: string, known: Iterable<string>): string | undefined {
  let best: string | undefined
  let least = Math.max(2, Math.floor(given.length / 3)) + 1
  for (const word of known) {
    const distance = editDistance(given.toLowerCase(), word.toLowerCase())
    if (distance < least) [best, least] = [word, distance]
  }
  return best
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(swap, (row[j] as number) + 1, (next[j - 1] as number) + 1))
    }
    row = next
  }
  return row[b.length] as number
}

/** What a message that refuses `given` ends with: the word of `known` nearest to it, if any is near enough. */
export function suggestion(given: string, known: Iterable<string>): string {
  const near = nearest(given, known)
  return near ? `; did you mean ${show(near)}?` : ''
}

/** Refuses every own key of `options` that is not in `known`, naming the nearest known one. */
export function refuseUnknown(options: object, known: Iterable<string>, op: string): void {
  if (typeof options !== 'object' || options === null) throw invalidType('options', 'an object', options)
  const names = known instanceof Set ? (known as ReadonlySet<string>) : new Set(known)
  for (const key of Object.keys(options)) {
    if (names.has(key)) continue
    const what = `${op} has no option ${show(key)}${suggestion(key, names)}`
    throw new OptionError('UNKNOWN_OPTION', what, { op, phase: 'option' })
  }
}

/** What whatever was thrown says. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** The `code` of whatever was thrown, or an empty text. */
export function errorCode(error: unknown): string {
  const { code } = Object(error) as { code?: unknown }
  return typeof code === 'string' ? code : ''
}

/** The POSIX code of an error thrown by the platform, or undefined. */
export function systemCode(error: unknown): string | undefined {
  const code = errorCode(error)
  return /^E[A-Z0-9]+$/.test(code) ? code : undefined
}

/** A failure of an established stream as `Broken`, with the POSIX code of its cause. */
export function broken(error: unknown, facts: ErrorFacts = {}): SocketError {
  if (error instanceof SocketError) return error
  const code = systemCode(error) ?? 'BROKEN'
  return new Broken(code as CodeOf<'Broken'>, sentence(CODES.Broken, code, error), { cause: error, ...facts })
}

/** A failed system call at opening, binding, listening or setting an option; `failed` is what could not be done. */
export function systemFailure(error: unknown, facts: ErrorFacts = {}, failed?: string): SocketError {
  if (error instanceof SocketError) return error
  const code = systemCode(error) ?? 'UNKNOWN'
  const why = sentence(CODES.SystemFailure, code, error)
  const message = failed === undefined ? why : `${failed}: ${why}`
  return new SystemFailure(code as CodeOf<'SystemFailure'>, message, { cause: error, ...facts })
}

function sentence(table: Record<string, string>, code: string, error: unknown): string {
  const text = table[code] ?? messageOf(error)
  // An option that was refused while the socket was made is named by the driver.
  const { option } = Object(error) as { option?: unknown }
  return typeof option === 'string' && code in table ? `cannot set ${option}: ${text}` : text
}

/**
 * The same failure seen by another operation: same class, code and message, its own `op`, the first one as `cause`.
 * Every operation on a finished socket reports this way, so that each has its own stack.
 */
export function again(first: SocketError, facts: ErrorFacts = {}, message: string = first.message): SocketError {
  const Class = first.constructor as new (code: string, message: string, facts: ErrorFacts) => SocketError
  const { op: _op, phase, ...kept } = first
  return new Class(first.code, message, { ...(phase && { phase }), ...kept, ...facts, cause: originOf(first) })
}

/** An error made for one call, as the operation reports it of which that is a step: with its own name and facts. */
export function reported(error: unknown, facts: ErrorFacts): unknown {
  return error instanceof SocketError ? Object.assign(error, facts) : error
}

/** What an error repeats. A repetition of a repetition has the first one as its cause, not a chain that grows with every call. */
export function originOf(error: SocketError): SocketError {
  const { cause } = error
  return cause instanceof SocketError && cause.name === error.name && cause.code === error.code ? cause : error
}
