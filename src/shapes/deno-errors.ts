/** The error classes of `Deno.errors`, and which of them an error of this library is. */

import { AddressError, Cancelled, Closed, DeadlineError, Denied, OptionError, SocketError, TlsError } from '../index.js'

class DenoError extends Error {
  /** The POSIX code, where the system gave one; the code of this library otherwise. */
  declare readonly code?: string

  constructor(message?: string, o?: { cause?: unknown }) {
    super(message, o)
    this.name = new.target.name
    Object.defineProperty(this, 'name', { enumerable: false })
  }
}

export class AddrInUse extends DenoError {}
export class AddrNotAvailable extends DenoError {}
export class AlreadyExists extends DenoError {}
export class BadResource extends DenoError {}
export class BrokenPipe extends DenoError {}
export class Busy extends DenoError {}
export class ConnectionAborted extends DenoError {}
export class ConnectionRefused extends DenoError {}
export class ConnectionReset extends DenoError {}
export class FilesystemLoop extends DenoError {}
export class Http extends DenoError {}
export class Interrupted extends DenoError {}
export class InvalidData extends DenoError {}
export class IsADirectory extends DenoError {}
export class NetworkUnreachable extends DenoError {}
export class NotADirectory extends DenoError {}
export class NotCapable extends DenoError {}
export class NotConnected extends DenoError {}
export class NotFound extends DenoError {}
export class NotSupported extends DenoError {}
export class PermissionDenied extends DenoError {}
export class TimedOut extends DenoError {}
export class UnexpectedEof extends DenoError {}
export class WouldBlock extends DenoError {}
export class WriteZero extends DenoError {}

const BY_CODE: Readonly<Record<string, typeof DenoError>> = {
  BUSY: Busy,
  // An operation that was under way when its socket was closed; one that is begun afterwards is a BadResource.
  CLOSED: Interrupted,
  ENDED: BrokenPipe,
  EACCES: PermissionDenied,
  EADDRINUSE: AddrInUse,
  EADDRNOTAVAIL: AddrNotAvailable,
  ECONNABORTED: ConnectionAborted,
  ECONNREFUSED: ConnectionRefused,
  ECONNRESET: ConnectionReset,
  EEXIST: AlreadyExists,
  EHOSTUNREACH: NetworkUnreachable,
  ENETDOWN: NetworkUnreachable,
  ENETUNREACH: NetworkUnreachable,
  ENOENT: NotFound,
  ENOTCONN: NotConnected,
  ENOTDIR: NotADirectory,
  EPERM: PermissionDenied,
  EPIPE: BrokenPipe,
  ETIMEDOUT: TimedOut,
  TLS_TRUNCATED: UnexpectedEof,
  UNSUPPORTED: NotSupported,
}

/** The error as Deno has it, with the one of this library as its cause. What an argument did wrong stays what it is. */
export function denoError(cause: unknown): unknown {
  if (!(cause instanceof SocketError)) return cause
  const { code, message } = cause
  const o = { cause }
  const Class = classOf(cause, code)
  return Object.assign(cause instanceof AddressError && code.startsWith('BAD_') ? new TypeError(message, o) : new Class(message, o), {
    code,
  })
}

function classOf(cause: SocketError, code: string): typeof DenoError | ErrorConstructor {
  if (cause instanceof Closed) return BY_CODE[code] ?? BadResource
  if (cause instanceof TlsError) return InvalidData
  if (cause instanceof DeadlineError) return TimedOut
  if (cause instanceof Cancelled) return Interrupted
  if (cause instanceof Denied) return NotCapable
  if (cause instanceof OptionError) return NotSupported
  return BY_CODE[code] ?? Error
}
