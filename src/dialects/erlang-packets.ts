/** The packet types: what `{packet, Type}` puts in front of what is sent, and how it cuts what is received. */

import type { FrameInput } from '../index.js'
import { httpBytes, httpField, type HttpPacket, httpStart } from './erlang-http.js'

/** `raw` is 0. The types behind `raw` cut the input and add nothing to what is sent. */
export type PacketType =
  | 0
  | 1
  | 2
  | 4
  | 'raw'
  | 'line'
  | 'asn1'
  | 'cdr'
  | 'sunrm'
  | 'fcgi'
  | 'tpkt'
  | 'http'
  | 'http_bin'
  | 'httph'
  | 'httph_bin'

export const PACKET_TYPES: readonly PacketType[] = [
  ...([0, 1, 2, 4, 'raw', 'line', 'asn1', 'cdr', 'sunrm', 'fcgi', 'tpkt', 'http', 'http_bin', 'httph', 'httph_bin'] as const),
]

export interface Cutting {
  packet: PacketType
  /** Largest packet; 0: {@link LARGEST}. */
  packetSize: number
  /** Longest piece of a line. */
  lineLength: number
  lineDelimiter: number
  /** The next line of an `http` head is the first. */
  atStart: boolean
  /** Bytes that a `recv` on a raw socket wants, all of them and no more; 0: whatever there is. */
  wanted: number
}

/** The most that one packet may have, and a `recv` ask for: 64 MiB, as in the original. */
export const LARGEST = 0x400_0000

/** Bytes of the length in front of a packet. */
export function headerOf(packet: PacketType): 0 | 1 | 2 | 4 {
  return packet === 1 || packet === 2 || packet === 4 ? packet : 0
}

/** The largest packet that the length in front of it can tell. */
export function largestOf(packet: PacketType): number {
  const header = headerOf(packet)
  return header === 0 ? Number.POSITIVE_INFINITY : 256 ** header - 1
}

/** What a packet is: bytes, or with the `http` types what they say. */
export type Packet = Uint8Array | HttpPacket | HttpPacket<Uint8Array>

/** A packet at the start of the input, consumed, or undefined; throws for input that is none. */
export function cut(input: FrameInput, how: Cutting): Packet | undefined {
  switch (how.packet) {
    case 0:
    case 'raw':
      if (how.wanted === 0) return input.take(input.length)
      if (input.length >= how.wanted) return input.take(how.wanted)
      input.expect(how.wanted)
      return undefined
    case 1:
    case 2:
    case 4:
      return input.length < how.packet ? undefined : body(input, how.packet, input.uint(0, how.packet, false), how)
    case 'line':
      return line(input, how)
    case 'http':
    case 'http_bin':
    case 'httph':
    case 'httph_bin':
      return http(input, how)
    default:
      return selfDescribing(input, how)
  }
}

/** What follows a header of `header` bytes. */
function body(input: FrameInput, header: number, length: number, how: Cutting): Uint8Array | undefined {
  check(input, length, how)
  if (input.length < header + length) {
    input.expect(header + length)
    return undefined
  }
  input.skip(header)
  return input.take(length)
}

function check(input: FrameInput, length: number, { packetSize }: Cutting): void {
  const most = packetSize === 0 ? LARGEST : packetSize
  if (length > most) throw input.error('TOO_LONG', `a packet of ${length} bytes is larger than ${most}`)
}

function bad(input: FrameInput, what: string): Error {
  return input.error('BAD_FRAME', what)
}

function line(input: FrameInput, how: Cutting): Uint8Array | undefined {
  const found = input.indexOf(how.lineDelimiter, input.scanned, input.length)
  const length = found === -1 ? input.length : found + 1
  // Checked as the line grows, so that nobody can make it grow for ever.
  check(input, length, how)
  if (length > how.lineLength) {
    input.scanned = 0
    return input.take(how.lineLength)
  }
  if (found !== -1) return input.take(length)
  input.scanned = input.length
  return undefined
}

function http(input: FrameInput, how: Cutting): HttpPacket | HttpPacket<Uint8Array> | undefined {
  const start = how.atStart && (how.packet === 'http' || how.packet === 'http_bin')
  let end = -1
  for (let from = input.scanned; ; from = end + 1) {
    end = input.indexOf(LF, from, input.length)
    check(input, end === -1 ? input.length : end + 1, how)
    if (end === -1) {
      input.scanned = input.length
      return undefined
    }
    const blank = end === 0 || (end === 1 && input.at(0) === CR)
    if (start || blank) break
    // A field goes on in the next line if that begins with white space, so one more byte has to be seen.
    if (end + 1 === input.length) {
      input.scanned = end
      return undefined
    }
    const next = input.at(end + 1)
    if (next !== SPACE && next !== TAB) break
  }
  const text = input.text(0, end + 1, 'latin1')
  input.skip(end + 1)
  const packet = start ? httpStart(text) : httpField(text)
  how.atStart = packet === 'http_eoh' || (start && packet[0] === 'http_error')
  return how.packet === 'http_bin' || how.packet === 'httph_bin' ? httpBytes(packet) : packet
}

const LF = 10
const CR = 13
const SPACE = 32
const TAB = 9

/** Packets whose own header tells their length, and stays with them. */
function selfDescribing(input: FrameInput, how: Cutting): Uint8Array | undefined {
  const sizes = SIZES[how.packet as keyof typeof SIZES](input)
  if (sizes === undefined) return undefined
  const { whole, padding = 0 } = sizes
  check(input, whole, how)
  if (input.length < whole + padding) {
    input.expect(whole + padding)
    return undefined
  }
  const packet = input.take(whole)
  input.skip(padding)
  return packet
}

interface Sizes {
  readonly whole: number
  readonly padding?: number
}

const SIZES = {
  asn1(input: FrameInput): Sizes | undefined {
    let at = 1
    // A tag number of more than 30 goes on as long as the highest bit is set.
    if ((input.at(0) & 0x1f) === 0x1f) {
      while (at < input.length && input.at(at) >= 0x80) at++
      at++
    }
    if (at >= input.length) return undefined
    const first = input.at(at)
    if (first < 0x80) return { whole: at + 1 + first }
    const count = first & 0x7f
    // Of an indefinite length no more is known than the tag.
    if (count === 0) return { whole: at + 1 }
    if (count > 4) throw bad(input, `a length of ${count} bytes`)
    if (input.length < at + 1 + count) return undefined
    return { whole: at + 1 + count + input.uint(at + 1, count, false) }
  },
  cdr(input: FrameInput): Sizes | undefined {
    if (input.length < 12) return undefined
    if (input.text(0, 4, 'latin1') !== 'GIOP') throw bad(input, 'it does not begin with GIOP')
    return { whole: 12 + input.uint(8, 4, (input.at(6) & 1) === 1) }
  },
  sunrm(input: FrameInput): Sizes | undefined {
    // The highest bit marks the last fragment of a record (RFC 5531).
    return input.length < 4 ? undefined : { whole: 4 + (input.uint(0, 4, false) & 0x7fff_ffff) }
  },
  fcgi(input: FrameInput): Sizes | undefined {
    if (input.length < 8) return undefined
    if (input.at(0) !== 1) throw bad(input, `version ${input.at(0)} of FastCGI`)
    return { whole: 8 + input.uint(4, 2, false), padding: input.at(6) }
  },
  tpkt(input: FrameInput): Sizes | undefined {
    if (input.length < 4) return undefined
    if (input.at(0) !== 3) throw bad(input, `version ${input.at(0)} of TPKT`)
    const whole = input.uint(2, 2, false)
    if (whole < 4) throw bad(input, `a TPKT of ${whole} bytes`)
    return { whole }
  },
} as const
