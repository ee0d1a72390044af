/** What a descriptor is, asked before anything is done with it: runtimes close, or abort the process over, what they cannot use. */

import { fstatSync, readFileSync } from 'node:fs'
import type { Address } from '../address.js'
import { refusal } from './refusal.js'

/** A socket as Linux lists it (proc(5), /proc/net). */
export interface Examined {
  readonly family: Address['family']
  readonly kind: 'stream' | 'datagram' | 'seqpacket'
  readonly listening: boolean
  readonly connected: boolean
  /** Of a UNIX socket alone. */
  readonly local: Address | undefined
}

const WANTED = { stream: 'a connected stream socket', listener: 'a listening stream socket', datagram: 'a datagram socket' }

/** Throws unless the descriptor is a socket of this kind; undefined where the system does not tell more than that it is a socket. */
export function examine(fd: number, wanted: keyof typeof WANTED): Examined | undefined {
  // Throws EBADF.
  const stat = fstatSync(fd, { bigint: true })
  if (!stat.isSocket()) throw refusal('ENOTSOCK', `descriptor ${fd} is not a socket`)
  const found = lookUp(`${stat.ino}`)
  if (found === undefined) return undefined
  const { kind, listening, connected } = found
  const fits = wanted === 'datagram' ? kind === 'datagram' : kind === 'stream' && listening === (wanted === 'listener')
  if (!fits) throw refusal('EINVAL', `descriptor ${fd} is not ${WANTED[wanted]}`)
  if (wanted === 'stream' && !connected) throw refusal('ENOTCONN', `descriptor ${fd} is not connected`)
  return found
}

function lookUp(inode: string): Examined | undefined {
  for (const table of ['tcp', 'tcp6', 'udp', 'udp6', 'unix'] as const) {
    const fields = rowOf(table, inode)
    if (fields !== undefined) return table === 'unix' ? unix(fields) : ip(table, fields)
  }
  return undefined
}

/** TCP states of `include/net/tcp_states.h`. */
const CLOSE = '07'
const LISTEN = '0A'
const ESTABLISHED = '01'

function ip(table: string, { 3: state }: readonly string[]): Examined {
  const isUdp = table.startsWith('udp')
  const listening = !isUdp && state === LISTEN
  const connected = isUdp ? state === ESTABLISHED : state !== LISTEN && state !== CLOSE
  return { family: table.endsWith('6') ? 'ipv6' : 'ipv4', kind: isUdp ? 'datagram' : 'stream', listening, connected, local: undefined }
}

/** SS_CONNECTED of `include/uapi/linux/net.h`, and the flag `__SO_ACCEPTCON`. */
const CONNECTED = '03'
const ACCEPTING = 0x10000

function unix({ 3: flags = '', 4: type, 5: state, 7: path = '' }: readonly string[]): Examined {
  const kind = type === '0001' ? 'stream' : type === '0005' ? 'seqpacket' : 'datagram'
  const abstract = path.startsWith('@')
  // Older versions of libuv pad abstract names with zeros to the full length, which are shown as `@` like any other.
  const name = path.length === 108 ? path.replace(/@+$/, '') : path
  return {
    family: 'unix',
    kind,
    listening: (Number.parseInt(flags, 16) & ACCEPTING) !== 0,
    connected: state === CONNECTED,
    local: Object.freeze({ family: 'unix', path: abstract ? name.slice(1) : path, abstract }),
  }
}

/** The fields of a socket's line; the path of a UNIX socket, the last one, may have spaces. */
function rowOf(table: 'tcp' | 'tcp6' | 'udp' | 'udp6' | 'unix', inode: string): string[] | undefined {
  let text: string
  try {
    text = readFileSync(`/proc/self/net/${table}`, 'utf8')
  } catch {
    // Only Linux has them, and not always all.
    return undefined
  }
  const at = table === 'unix' ? 6 : 9
  for (const line of text.split('\n')) {
    const fields = /^\s*(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)(?: (.*))?$/.exec(line)?.slice(1)
    if (fields === undefined) continue
    if (table === 'unix' ? fields[at] === inode : line.trim().split(/\s+/)[at] === inode) return fields as string[]
  }
  return undefined
}
