/** What is text to LPC: bytes that arrive on a text socket, addresses as efuns take and give them, the table of sockets. */

import { isIp } from '../index.js'

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const REPLACEMENT = '\ufffd'

/** The bytes before the first NUL, where LPC's strings end. */
function upToNul(bytes: Uint8Array): Uint8Array {
  const end = bytes.indexOf(0)
  return end === -1 ? bytes : bytes.subarray(0, end)
}

/**
 * What arrived on a text socket, as the original reads it: up to the first NUL, with U+FFFD for what is not UTF-8, each time
 * anew, so that a character cut in two is two wrong ones.
 */
export function streamText(data: Uint8Array): string {
  const bytes = upToNul(data)
  try {
    return strict.decode(bytes)
  } catch {
    return repaired(bytes)
  }
}

/** What a datagram says on a text socket: its text up to the first NUL, or the bytes themselves where they are not UTF-8. */
export function datagramText(data: Uint8Array): string | Uint8Array {
  try {
    return strict.decode(upToNul(data))
  } catch {
    return data
  }
}

/**
 * Not as `TextDecoder` replaces: a sequence whose form is right and whose value is not (surrogates, longer than need be,
 * beyond U+10FFFF), or that breaks off, is one U+FFFD together with what continues it.
 */
function repaired(bytes: Uint8Array): string {
  let text = ''
  let at = 0
  let good = 0
  const isTrail = (i: number): boolean => ((bytes[i] ?? 0) & 0xc0) === 0x80
  while (at < bytes.length) {
    const length = sequenceLength(bytes, at)
    if (length > 0) {
      at += length
      continue
    }
    text += strict.decode(bytes.subarray(good, at)) + REPLACEMENT
    const announced = announcedLength(bytes[at] as number)
    if (announced > 0 && at + announced > bytes.length && trails(bytes, at + 1, bytes.length)) at = bytes.length
    else {
      at++
      if (announced > 0) while (isTrail(at)) at++
    }
    good = at
  }
  return text + strict.decode(bytes.subarray(good))
}

function trails(bytes: Uint8Array, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (((bytes[at] as number) & 0xc0) !== 0x80) return false
  return true
}

/** How many bytes the first one of a sequence says there are; 0 for one that starts none. */
function announcedLength(lead: number): number {
  if (lead < 0x80) return 1
  if (lead >> 5 === 0x6) return 2
  if (lead >> 4 === 0xe) return 3
  return lead >> 3 === 0x1e ? 4 : 0
}

/** The length of the right sequence that starts at `at`; 0 where there is none. */
function sequenceLength(bytes: Uint8Array, at: number): number {
  const lead = bytes[at] as number
  const length = announcedLength(lead)
  if (length <= 1) return length
  if (at + length > bytes.length || !trails(bytes, at + 1, at + length)) return 0
  const second = bytes[at + 1] as number
  if (length === 2) return lead >= 0xc2 ? 2 : 0
  if (length === 3) return (lead === 0xe0 && second < 0xa0) || (lead === 0xed && second > 0x9f) ? 0 : 3
  return (lead === 0xf0 && second < 0x90) || lead > 0xf4 || (lead === 0xf4 && second > 0x8f) ? 0 : 4
}

/** Where to, as `socket_connect` and `socket_write` take it. */
export interface Place {
  readonly host: string
  readonly port: number
}

const LONGEST_HOST = 1024
const LONGEST_NAME = 253

/** Host and port as the policy of the master is told of them, whatever they are. */
export function cut(address: string): { host: string; port: number } {
  const at = address.includes(' ') ? address.indexOf(' ') : address.lastIndexOf(':')
  if (at === -1) return { host: address, port: 0 }
  const port = Number.parseInt(address.slice(at + 1), 10)
  // One address has one spelling here, or a policy would know but one of them.
  const host = address.slice(0, at).replace(/^\[(.*)\]$/, '$1')
  return { host, port: Number.isNaN(port) ? 0 : port }
}

/**
 * Reads `"ip port"`, the form of the original, or `"host:port"`, `"[ip]:port"` and `"host port"`; undefined for anything
 * else: control characters, ports beyond 65,535, old spellings of IPv4 addresses, IPv6 where it is not wanted.
 *
 * @param names whether the host may be a name
 */
export function placeOf(address: string, names: boolean, ipv6: boolean): Place | undefined {
  if (address.length > LONGEST_HOST + 6) return undefined
  const match = /^([^\s:[\]]+)[ :](\d{1,5})$/.exec(address) ?? /^\[([0-9A-Fa-f:.]+)\]:(\d{1,5})$/.exec(address)
  const [, host, digits] = match ?? /^([0-9A-Fa-f:.]+) (\d{1,5})$/.exec(address) ?? []
  if (host === undefined || Number(digits) > 65_535) return undefined
  const family = isIp(host)
  if (family === 6 && !ipv6) return undefined
  if (family === 0 && !(names && isName(host))) return undefined
  return { host, port: Number(digits) }
}

/** Whether it can be a name: what looks like a number is a wrong address, which some resolvers take for a right one. */
function isName(host: string): boolean {
  return (
    host.length <= LONGEST_NAME &&
    /^[\w-]{1,63}(?:\.[\w-]{1,63})*\.?$/.test(host) &&
    !/^(?:0x[\da-f]*|\d+)\.?$/i.test(host.split('.').filter(Boolean).at(-1) ?? '0')
  )
}

/** Rows of `socket_status` as the table of `dump_socket_status`. */
export function statusTable(rows: readonly (readonly [number, string, string, string, string, object | 0])[]): string {
  const table = rows.map(([fd, state, mode, local, remote]) => [`${fd}`, state, mode, local, remote])
  const all = [
    ['Fd', 'State', 'Mode', 'Local Address', 'Remote Address'],
    ['--', '---------', '---------------', '---------------------', '---------------------'],
    ...table,
  ]
  const widths = [4, 10, 17, 23, 0]
  return all
    .map(
      (row) =>
        `${row
          .map((cell, i) => cell.padEnd(widths[i] as number))
          .join('')
          .trimEnd()}\n`,
    )
    .join('')
}
