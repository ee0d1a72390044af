/** Result codes, flags and masks of Ioto's runtime, with its numbers. */

import { constants } from 'node:os'
import { SocketError } from '../index.js'

/** Results: 0 or a count is success, these are not. A negative number that is none of them is the negative errno of the system. */
export const R_OK = 0 as const
export const R_ERR_BASE = -1 as const
export const R_ERR = -2 as const
export const R_ERR_ABORTED = -3 as const
export const R_ERR_ALREADY_EXISTS = -4 as const
export const R_ERR_BAD_ACK = -5 as const
export const R_ERR_BAD_ARGS = -6 as const
export const R_ERR_BAD_DATA = -7 as const
export const R_ERR_BAD_FORMAT = -8 as const
export const R_ERR_BAD_HANDLE = -9 as const
export const R_ERR_BAD_NULL = -10 as const
export const R_ERR_BAD_REQUEST = -11 as const
export const R_ERR_BAD_RESPONSE = -12 as const
export const R_ERR_BAD_SESSION = -13 as const
export const R_ERR_BAD_STATE = -14 as const
export const R_ERR_BAD_SYNTAX = -15 as const
export const R_ERR_BAD_TYPE = -16 as const
export const R_ERR_BAD_VALUE = -17 as const
export const R_ERR_BUSY = -18 as const
export const R_ERR_CANT_ACCESS = -19 as const
export const R_ERR_CANT_ALLOCATE = -20 as const
export const R_ERR_CANT_COMPLETE = -21 as const
export const R_ERR_CANT_CONNECT = -22 as const
export const R_ERR_CANT_CREATE = -23 as const
export const R_ERR_CANT_DELETE = -24 as const
export const R_ERR_CANT_FIND = -25 as const
export const R_ERR_CANT_INITIALIZE = -26 as const
export const R_ERR_CANT_LOAD = -27 as const
export const R_ERR_CANT_OPEN = -28 as const
export const R_ERR_CANT_READ = -29 as const
export const R_ERR_CANT_WRITE = -30 as const
export const R_ERR_DELETED = -31 as const
export const R_ERR_MEMORY = -32 as const
export const R_ERR_NETWORK = -33 as const
export const R_ERR_NOT_CONNECTED = -34 as const
export const R_ERR_NOT_INITIALIZED = -35 as const
export const R_ERR_NOT_READY = -36 as const
export const R_ERR_READ_ONLY = -37 as const
export const R_ERR_TIMEOUT = -38 as const
export const R_ERR_TOO_MANY = -39 as const
export const R_ERR_WONT_FIT = -40 as const
export const R_ERR_WOULD_BLOCK = -41 as const
export const R_ERR_MAX = -42 as const

/** The handle of a socket that is not open: `rGetSocketHandle`. */
export const INVALID_SOCKET = -1 as const
/** What the system's own calls give for a failure. */
export const SOCKET_ERROR = -1 as const

/** Flags of a socket: `sp.flags`. */
export const R_SOCKET_CLOSED = 0x1 as const
export const R_SOCKET_EOF = 0x2 as const
export const R_SOCKET_LISTENER = 0x4 as const
export const R_SOCKET_SERVER = 0x8 as const
export const R_SOCKET_FAST_CONNECT = 0x10 as const
export const R_SOCKET_FAST_CLOSE = 0x20 as const

/** What to wait for, and what came: `rWaitForIO`. */
export const R_READABLE = 0x2 as const
export const R_WRITABLE = 0x4 as const
export const R_IO = 0x6 as const
export const R_MODIFIED = 0x200 as const
export const R_TIMEOUT = 0x400 as const

/** The command and the flag of the hook of `rSetSocketCustom`. */
export const R_SOCKET_CONFIG_TLS = 1 as const
export const R_TLS_HAS_AUTHORITY = 1 as const

/** Ticks per second. */
export const TPS = 1000 as const

/** The negative errno of an error of this library, or `otherwise` where the system has said nothing. */
export function negativeErrno(error: unknown, otherwise: number): number {
  const code = error instanceof SocketError ? error.code : ''
  const number = (constants.errno as Readonly<Record<string, number>>)[code]
  return number === undefined ? otherwise : -number
}
