/** The numbers and texts of `socket.h` and `socket_err.h`. */

/** What `socket_create` takes. */
export const MODES = {
  MUD: 0,
  STREAM: 1,
  DATAGRAM: 2,
  STREAM_BINARY: 3,
  DATAGRAM_BINARY: 4,
  STREAM_TLS: 5,
  STREAM_TLS_BINARY: 6,
} as const

/** What `socket_set_option` and `socket_get_option` take. */
export const OPTIONS = {
  SO_TLS_VERIFY_PEER: 1,
  SO_TLS_SNI_HOSTNAME: 2,
  SO_TLS_CERT: 3,
  SO_TLS_KEY: 4,
} as const

/** What efuns give: 1, or why not. */
export const RESULTS = {
  EESUCCESS: 1,
  EESOCKET: -1,
  EESETSOCKOPT: -2,
  EENONBLOCK: -3,
  EENOSOCKS: -4,
  EEFDRANGE: -5,
  EEBADF: -6,
  EESECURITY: -7,
  EEISBOUND: -8,
  EEADDRINUSE: -9,
  EEBIND: -10,
  EEGETSOCKNAME: -11,
  EEMODENOTSUPP: -12,
  EENOADDR: -13,
  EEISCONN: -14,
  EELISTEN: -15,
  EENOTLISTN: -16,
  EEWOULDBLOCK: -17,
  EEINTR: -18,
  EEACCEPT: -19,
  EEISLISTEN: -20,
  EEBADADDR: -21,
  EEALREADY: -22,
  EECONNREFUSED: -23,
  EECONNECT: -24,
  EENOTCONN: -25,
  EETYPENOTSUPP: -26,
  EESENDTO: -27,
  EESEND: -28,
  EECALLBACK: -29,
  EESOCKRLSD: -30,
  EESOCKNOTRLSD: -31,
  EEBADDATA: -32,
} as const

export type ModeName = keyof typeof MODES
export type Mode = (typeof MODES)[ModeName]
export type OptionNumber = (typeof OPTIONS)[keyof typeof OPTIONS]
export type ResultName = keyof typeof RESULTS
export type Result = (typeof RESULTS)[ResultName]
/** A result that says why not. */
export type Failure = Exclude<Result, 1>

/** Everything a program can name without an `include` of its own. */
export type Constants = typeof MODES & typeof OPTIONS & typeof RESULTS
export const CONSTANTS: Constants = { ...MODES, ...OPTIONS, ...RESULTS }

/** What {@link socketError} says; the place is the number without its sign, less one. */
const TEXTS = [
  'Problem creating socket',
  'Problem with setsockopt',
  'Problem setting non-blocking mode',
  'No more available efun sockets',
  'Descriptor out of range',
  'Socket is closed',
  'Security violation attempted',
  'Socket is already bound',
  'Address already in use',
  'Problem with bind',
  'Problem with getsockname',
  'Socket mode not supported',
  'Socket not bound to an address',
  'Socket is already connected',
  'Problem with listen',
  'Socket not listening',
  'Operation would block',
  'Interrupted system call',
  'Problem with accept',
  'Socket is listening',
  'Problem with address format',
  'Operation already in progress',
  'Connection refused',
  'Problem with connect',
  'Socket not connected',
  'Object type not supported',
  'Problem with sendto',
  'Problem with send',
  'Wait for callback',
  'Socket already released',
  'Socket not released',
  'Data nested too deeply',
] as const

/** The text of a result, as the efun `socket_error` gives it. */
export function socketError(code: number): string {
  return TEXTS[-code - 1] ?? 'socket_error: invalid error number'
}

const MODE_NAMES = Object.keys(MODES) as ModeName[]

/** The mode as `socket_status` spells it: the plain binary modes go by the names of the text modes. */
export function modeName(mode: Mode): string {
  const name = MODE_NAMES[mode] as ModeName
  return name === 'STREAM_BINARY' || name === 'DATAGRAM_BINARY' ? name.slice(0, -'_BINARY'.length) : name
}
