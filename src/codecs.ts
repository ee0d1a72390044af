/** The codecs that come with the library. All limits are on by default, and hold in both directions. */

import { flag, limit, oneOf, wholeNumber } from './arguments.js'
import { bufferOf, bytesOf as viewOf, strictText } from './bytes.js'
import { FrameError, invalidType, outOfRange, refuseUnknown } from './errors.js'
import { type Codec, type Cut, defineCodec, type FrameInput, type FrameOutput, type Mapping } from './framing.js'
import { type Bytes, LIMITS } from './stream.js'

/** No frame may be longer: a length is then never negative in 32 bits, and always exact as a number. */
const LONGEST_FRAME = 2 ** 31 - 1
const LONGEST_HEADER = LIMITS.line

function refuse(code: 'BAD_MESSAGE' | 'TOO_LONG', message: string, cause?: unknown): FrameError {
  return new FrameError(code, message, { phase: 'frame', cause })
}

function tooLong(length: number, max: number): FrameError {
  return refuse('TOO_LONG', `the message of ${length} bytes is longer than the limit of ${max}`)
}

/** The bytes of a message: a view, or the UTF-8 of a string. */
function bytesOf(message: Bytes | string, name = 'message'): Uint8Array {
  if (typeof message === 'string' && !wellFormed(message))
    throw refuse('BAD_MESSAGE', 'the string holds half of a surrogate pair, which has no UTF-8')
  return viewOf(message, name)
}

/** As `bytesOf`, at most `max` of them. */
function fitting(message: Bytes | string, max: number): Uint8Array {
  const data = bytesOf(message)
  if (data.length > max) throw tooLong(data.length, max)
  return data
}

function wellFormed(text: string): boolean {
  return !/[\ud800-\udfff]/u.test(text)
}

function maxOf(o: MaxOptions, byDefault: number): number {
  return limit('max', o.max ?? byDefault, 0, LONGEST_FRAME)
}

export interface MaxOptions {
  /** Longest message in bytes, without its header or delimiter. Longer ones are refused with `TOO_LONG` in both directions. */
  max?: number | undefined
}

/** No framing: every chunk is a message, as it came; how a stream is cut into chunks is up to the network. */
function raw(): Codec<Uint8Array, Bytes | string> {
  return defineCodec<Uint8Array, Bytes | string>({
    name: 'raw',
    cut: (input) => input.take(input.length),
    append: (message, output) => output.bytes(bytesOf(message)),
  })
}

export interface LengthOptions extends MaxOptions {
  /** Size of the header: 1, 2, 4 (default) or 8 bytes. */
  bytes?: 1 | 2 | 4 | 8 | undefined
  /** Default `'big'`, the order of the network. */
  endian?: 'big' | 'little' | undefined
  /** Whether the length counts the header too. Default false. */
  includesHeader?: boolean | undefined
}

/**
 * Each message behind its length, an unsigned number. `max` is 16 MiB unless said otherwise, 2^31 - 1 at most, and checked on
 * the header, before memory is reserved.
 */
function lengthPrefixed(o: LengthOptions = {}): Codec<Uint8Array, Bytes | string> {
  refuseUnknown(o, ['bytes', 'endian', 'includesHeader', 'max'], 'lengthPrefixed')
  const { max, endian } = o
  const bytes = oneOf('bytes', o.bytes ?? 4, [1, 2, 4, 8])
  const adjust = flag('includesHeader', o.includesHeader ?? false) ? -bytes : 0
  return { ...header({ size: bytes, bytes, endian, adjust, max }), name: `length(${bytes}, ${endian ?? 'big'})` }
}

export interface HeaderOptions extends MaxOptions {
  /** Size of the whole header in bytes. */
  size: number
  /** Where in the header the length stands. Default 0. */
  at?: number | undefined
  /** Size of the length: 1, 2, 3, 4 (default) or 8 bytes. */
  bytes?: 1 | 2 | 3 | 4 | 8 | undefined
  /** Order of its bytes. Default `'big'`, the order of the network. */
  endian?: 'big' | 'little' | undefined
  /** Added to a length read to have that of the payload: minus `size` where the length counts the header too. Default 0. */
  adjust?: number | undefined
  /**
   * `'payload'` (default): a message is what follows the header, whose other bytes are sent as zero and not looked at.
   * `'frame'`: a message is header and payload; when sending, the length in it is filled in, whatever stands there.
   */
  message?: 'payload' | 'frame' | undefined
}

/**
 * Messages behind a header of a fixed size, with the length of what follows as an unsigned number somewhere in it. `max` counts
 * what follows the header: 16 MiB unless said otherwise, 2^31 - 1 at most, and checked on the length, before memory is reserved.
 *
 * ```ts
 * import { codecs } from 'fairlead'
 *
 * // A type of one byte, a length of three bytes that counts all eight bytes of the header, a number of four bytes.
 * const records = codecs.header({ size: 8, at: 1, bytes: 3, adjust: -8, message: 'frame' })
 * console.log(records.encode(Uint8Array.of(7, 0, 0, 0, 0, 0, 0, 1, 104, 105))) // Uint8Array(10) [ 7, 0, 0, 10, 0, 0, 0, 1, 104, 105 ]
 * ```
 */
function header(o: HeaderOptions): Codec<Uint8Array, Bytes | string> {
  refuseUnknown(o, ['size', 'at', 'bytes', 'endian', 'adjust', 'message', 'max'], 'header')
  const bytes = oneOf('bytes', o.bytes ?? 4, [1, 2, 3, 4, 8])
  const size = wholeNumber('size', o.size, bytes, LONGEST_HEADER)
  const at = wholeNumber('at', o.at ?? 0, 0, size - bytes)
  const little = oneOf('endian', o.endian ?? 'big', ['big', 'little']) === 'little'
  const adjust = wholeNumber('adjust', o.adjust ?? 0, -LONGEST_FRAME, LONGEST_FRAME)
  const whole = oneOf('message', o.message ?? 'payload', ['payload', 'frame']) === 'frame'
  const max = Math.min(maxOf(o, LIMITS.frame), 256 ** bytes - 1 + adjust)
  if (max < 0) throw outOfRange('adjust', `such that a length of ${bytes} bytes can say something`, adjust)
  const [before, behind] = [new Uint8Array(at), new Uint8Array(size - at - bytes)]
  return defineCodec<Uint8Array, Bytes | string>({
    name: `header(${size})`,
    cut: (input) => {
      if (input.length < at + bytes) return undefined
      const length = input.uint(at, bytes, little) + adjust
      if (length > max) throw input.error('TOO_LONG', `a length of ${exactly(input, at, bytes, little)} is over the limit of ${max} bytes`)
      if (length < 0) throw input.error('BAD_FRAME', `a length of ${length - adjust} is less than the ${-adjust} bytes it counts at least`)
      return whole ? withLength(input, 0, size + length) : withLength(input, size, length)
    },
    append: (message, output) => {
      const data = bytesOf(message)
      const length = whole ? data.length - size : data.length
      if (length > max) throw tooLong(length, max)
      const least = Math.max(0, adjust)
      if (length < least) throw refuse('BAD_MESSAGE', `the message of ${data.length} bytes is shorter than ${least + data.length - length}`)
      if (at > 0) output.bytes(whole ? data.subarray(0, at) : before)
      output.uint(length - adjust, bytes, little)
      if (whole) return output.bytes(data.subarray(at + bytes))
      if (behind.length > 0) output.bytes(behind)
      output.bytes(data)
    },
  })
}

/** A length as it stands in the header, also where a number would be rounded. */
function exactly(input: FrameInput, at: number, bytes: number, little: boolean): string {
  const digits = bufferOf(input.copy(at, at + bytes))
  if (little) digits.reverse()
  return `${BigInt(`0x${digits.toString('hex')}`)} bytes`
}

/** The longest form of a 64-bit number in seven-bit groups. */
const LONGEST_VARINT = 10

/**
 * Each message behind its length in seven-bit groups, the lowest first (unsigned LEB128, as Protocol Buffers delimit messages).
 * `max` is 16 MiB unless said otherwise and checked as soon as the length exceeds it; a length of more than 10 bytes is `BAD_FRAME`.
 */
function varint(o: MaxOptions = {}): Codec<Uint8Array, Bytes | string> {
  refuseUnknown(o, ['max'], 'varint')
  const max = maxOf(o, LIMITS.frame)
  return defineCodec<Uint8Array, Bytes | string>({
    name: 'varint',
    cut: (input) => {
      let length = 0
      let unit = 1
      const most = Math.min(input.length, LONGEST_VARINT)
      for (let at = 0; at < most; at++, unit *= 128) {
        const byte = input.at(at)
        length += (byte & 127) * unit
        if (length > max) throw input.error('TOO_LONG', `a length of ${length} bytes or more is over the limit of ${max} bytes`)
        if (byte < 128) return withLength(input, at + 1, length)
      }
      if (most === LONGEST_VARINT) throw input.error('BAD_FRAME', `a length does not end within ${LONGEST_VARINT} bytes`)
      return undefined
    },
    append: (message, output) => {
      const data = fitting(message, max)
      let rest = data.length
      for (; rest > 127; rest >>>= 7) output.byte((rest & 127) | 128)
      output.byte(rest)
      output.bytes(data)
    },
  })
}

/** The message of `length` bytes between a header and a trailer, once all of it is here. */
function withLength(input: FrameInput, header: number, length: number, trailer = 0): Uint8Array | undefined {
  const whole = header + length + trailer
  if (input.length < whole) {
    input.expect(whole)
    return undefined
  }
  input.skip(header)
  const message = input.take(length)
  input.skip(trailer)
  return message
}

const [ZERO, NINE, COLON, COMMA] = [0x30, 0x39, 0x3a, 0x2c]

/**
 * Netstrings: the length in decimal digits, a colon, the message, a comma (cr.yp.to/proto/netstrings.txt). Strict: no leading
 * zero, nothing but the comma behind it. `max` is 16 MiB unless said otherwise and checked as soon as the digits exceed it.
 */
function netstring(o: MaxOptions = {}): Codec<Uint8Array, Bytes | string> {
  refuseUnknown(o, ['max'], 'netstring')
  const max = maxOf(o, LIMITS.frame)
  return defineCodec<Uint8Array, Bytes | string>({
    name: 'netstring',
    cut: (input) => {
      let length = 0
      for (let at = 0; at < input.length; at++) {
        const byte = input.at(at)
        if (byte === COLON && at > 0) {
          const end = at + 1 + length
          if (end < input.length && input.at(end) !== COMMA) throw input.error('BAD_FRAME', 'a netstring does not end with a comma')
          return withLength(input, at + 1, length, 1)
        }
        if (byte < ZERO || byte > NINE) throw input.error('BAD_FRAME', 'a netstring does not begin with a length and a colon')
        if (at === 1 && length === 0) throw input.error('BAD_FRAME', 'the length of a netstring has a leading zero')
        length = length * 10 + byte - ZERO
        if (length > max) throw input.error('TOO_LONG', `a length of ${length} bytes or more is over the limit of ${max} bytes`)
      }
      return undefined
    },
    append: (message, output) => {
      const data = fitting(message, max)
      output.text(`${data.length}:`, 'latin1')
      output.bytes(data)
      output.byte(COMMA)
    },
  })
}

/** Messages of one size. */
function fixed(size: number): Codec<Uint8Array, Bytes | string> {
  limit('size', size, 1, LONGEST_FRAME)
  return defineCodec<Uint8Array, Bytes | string>({
    name: `fixed(${size})`,
    cut: (input) => withLength(input, 0, size),
    append: (message, output) => {
      const data = fitting(message, size)
      if (data.length < size) throw refuse('BAD_MESSAGE', `the message of ${data.length} bytes is shorter than the fixed size of ${size}`)
      output.bytes(data)
    },
  })
}

const [LF, CR] = [10, 13]
const [LF_ALONE, CR_LF] = [Uint8Array.of(LF), Uint8Array.of(CR, LF)]

/** What a line ends with. `'either'` accepts a line feed with or without a carriage return and sends a line feed. */
export type LineEnding = 'lf' | 'crlf' | 'either'

export interface LinesOptions extends MaxOptions {
  /** Default `'either'`. */
  ending?: LineEnding | undefined
  /** `'utf8'` (default) and `'latin1'` give strings, `'bytes'` a `Uint8Array`. */
  encoding?: 'utf8' | 'latin1' | 'bytes' | undefined
  /** Whether malformed UTF-8 is a `FrameError` `BAD_FRAME` rather than U+FFFD. Default false. */
  fatal?: boolean | undefined
  /** Take what stands before the end of the stream without a line feed as the last line, rather than fail. Default false. */
  lastUnterminated?: boolean | undefined
}

/**
 * Lines without their ending, 64 KiB at most unless `max` says otherwise.
 *
 * With `'crlf'` a line feed alone does not end a line, and is accepted in one, but refused when sending: a peer that is less
 * strict would read it as the beginning of another line.
 */
function lines(o: LinesOptions & { encoding: 'bytes' }): Codec<Uint8Array, Bytes | string>
function lines(o?: LinesOptions & { encoding?: 'utf8' | 'latin1' | undefined }): Codec<string>
function lines(o: LinesOptions = {}): Codec<string> | Codec<Uint8Array, Bytes | string> {
  refuseUnknown(o, ['ending', 'encoding', 'fatal', 'lastUnterminated', 'max'], 'lines')
  const ending = oneOf('ending', o.ending ?? 'either', ['lf', 'crlf', 'either'])
  const encoding = oneOf('encoding', o.encoding ?? 'utf8', ['utf8', 'latin1', 'bytes'])
  const lastUnterminated = flag('lastUnterminated', o.lastUnterminated ?? false)
  const fatal = flag('fatal', o.fatal ?? false)
  const max = maxOf(o, LIMITS.line)
  const either = ending === 'either'
  const mark = ending === 'crlf' ? CR_LF : LF_ALONE
  const shape: Ending = { name: `lines(${ending})`, mark, either, max, tooLong: LINE_TOO_LONG, lastUnterminated }
  if (encoding === 'bytes') {
    return endingWith<Uint8Array, Bytes | string>(
      shape,
      (input, length) => input.copy(0, length),
      (message, output) => {
        const data = bytesOf(message)
        refuseLine(shape, data.length, data.includes(LF), data.at(-1) === CR)
        output.bytes(data)
      },
    )
  }
  return endingWith<string>(
    shape,
    (input, length) => textOf(input, length, encoding, fatal),
    (message, output) => {
      if (typeof message !== 'string') throw invalidType('message', 'a string', message)
      if (encoding === 'utf8' ? !wellFormed(message) : /[^\0-\xff]/.test(message)) {
        throw refuse('BAD_MESSAGE', `the line holds a character that has no ${encoding === 'utf8' ? 'UTF-8' : 'Latin-1'}`)
      }
      refuseLine(shape, output.text(message, encoding), message.includes('\n'), message.endsWith('\r'))
    },
  )
}

/** Refuses what the decoder would take for something else. */
function refuseLine({ max, either }: Ending, length: number, hasFeed: boolean, endsWithReturn: boolean): void {
  if (length > max) throw tooLong(length, max)
  if (hasFeed) throw refuse('BAD_MESSAGE', 'the line holds a line feed, which would end it')
  if (endsWithReturn && either) throw refuse('BAD_MESSAGE', 'the line ends with a carriage return, which would be taken for its ending')
}

function textOf(input: FrameInput, length: number, encoding: 'utf8' | 'latin1', fatal: boolean): string {
  try {
    return input.text(0, length, encoding, fatal)
  } catch (cause) {
    throw input.error('BAD_FRAME', 'the line is not valid UTF-8', { cause })
  }
}

/** How the messages of a stream end. */
interface Ending {
  readonly name: string
  /** What stands behind each message. */
  readonly mark: Uint8Array
  /** A carriage return in front of the mark belongs to it. */
  readonly either?: boolean
  /** Longest message without its mark. */
  readonly max: number
  /** What is said of a longer one, in front of the limit. */
  readonly tooLong: string
  readonly lastUnterminated?: boolean
}

const LINE_TOO_LONG = 'a line is longer than the limit of'

/** @param write appends a message without its mark, or throws; what it had appended is withdrawn then */
function endingWith<T, S = T>(
  ending: Ending,
  read: (input: FrameInput, length: number) => T,
  write: (message: S, output: FrameOutput) => void,
): Codec<T, S> {
  const { name, mark, either, max, lastUnterminated } = ending
  const cut: Cut<T> = (input) => {
    const at = markAt(input, ending)
    if (at === -1) return undefined
    const message = read(input, either && at > 0 && input.at(at - 1) === CR ? at - 1 : at)
    input.skip(at + mark.length)
    return message
  }
  const last: Cut<T> = (input) => {
    const { length } = input
    if (length > max) throw overLimit(input, ending)
    const message = read(input, length)
    input.skip(length)
    return message
  }
  return defineCodec<T, S>({
    name,
    cut,
    last: lastUnterminated ? last : undefined,
    append: (message, output) => {
      const before = output.length
      try {
        write(message, output)
      } catch (error) {
        output.truncate(before)
        throw error
      }
      output.bytes(mark)
    },
  })
}

function overLimit(input: FrameInput, { max, tooLong }: Ending): FrameError {
  return input.error('TOO_LONG', `${tooLong} ${max} bytes`)
}

/**
 * Where the mark behind the first message stands, or -1 while it may yet come. A message is too long as soon as no byte that may
 * follow could end it within the limit, so that the verdict never depends on how the stream was cut.
 */
function markAt(input: FrameInput, ending: Ending): number {
  const { mark, either, max } = ending
  const lead = mark[0] as number
  // A carriage return may stand between a message of the greatest length and its mark.
  const latest = either ? max + 1 : max
  // One more start than can be a whole mark by now, so that a mark that has only begun is found as well.
  const starts = Math.min(input.length, latest + 1)
  let at = input.indexOf(lead, input.scanned, starts)
  while (at !== -1) {
    let matched = 1
    while (matched < mark.length && at + matched < input.length && input.at(at + matched) === mark[matched]) matched++
    if (matched === mark.length) break
    if (at + matched === input.length) {
      input.scanned = at
      return -1
    }
    at = input.indexOf(lead, at + 1, starts)
  }
  const length = at === -1 ? input.length : at
  if (length > max && !(either && length === latest && input.at(max) === CR)) throw overLimit(input, ending)
  if (at === -1) input.scanned = starts
  return at
}

/**
 * Messages with a delimiter behind each, 64 KiB at most without it unless `max` says otherwise.
 *
 * @param delimiter at least one byte; a string stands for its UTF-8
 */
function delimited(delimiter: Bytes | string, o: MaxOptions = {}): Codec<Uint8Array, Bytes | string> {
  refuseUnknown(o, ['max'], 'delimited')
  const mark = bytesOf(delimiter, 'delimiter').slice()
  if (mark.length === 0) throw outOfRange('delimiter', 'at least one byte', delimiter)
  const max = maxOf(o, LIMITS.line)
  return endingWith<Uint8Array, Bytes | string>(
    { name: 'delimited', mark, max, tooLong: 'no delimiter within the limit of' },
    (input, length) => input.copy(0, length),
    (message, output) => {
      const data = fitting(message, max)
      const whole = Buffer.concat([data, mark])
      if (whole.indexOf(mark) !== data.length) throw refuse('BAD_MESSAGE', 'the message holds the delimiter, or would together with it')
      output.bytes(data)
    },
  )
}

/** Messages with a NUL behind each, and none within, 64 KiB at most without it unless `max` says otherwise. */
function nul(o: MaxOptions = {}): Codec<Uint8Array, Bytes | string> {
  return { ...delimited('\0', o), name: 'nul' }
}

/**
 * One JSON text per line (ndjson.org, jsonlines.org), 64 KiB at most unless `max` says otherwise. What is no JSON, or not
 * valid UTF-8, is `BAD_FRAME`; what JSON cannot say (`undefined`, a function, a `bigint`, a cycle) is `BAD_MESSAGE`.
 *
 * @typeParam T what the peer is trusted to send; it is not checked
 */
function jsonLines<T = unknown>(o: MaxOptions = {}): Codec<T> {
  refuseUnknown(o, ['max'], 'jsonLines')
  const max = maxOf(o, LIMITS.line)
  return endingWith<T>(
    { name: 'json lines', mark: LF_ALONE, either: true, max, tooLong: LINE_TOO_LONG },
    (input, length) => parsed(input, textOf(input, length, 'utf8', true)) as T,
    (message, output) => {
      const length = output.text(stringified(message), 'utf8')
      if (length > max) throw tooLong(length, max)
    },
  )
}

/**
 * JSON in the messages of a codec of bytes, for {@link mapped}: what is no JSON, or not valid UTF-8, is `BAD_FRAME`, what JSON
 * cannot say is `BAD_MESSAGE`.
 *
 * ```ts
 * import { codecs, json, mapped } from 'fairlead'
 *
 * const orders = mapped(codecs.lengthPrefixed(), json<{ item: string }>())
 * console.log(orders.encode({ item: 'cleat' }).length) // 20
 * ```
 *
 * @typeParam T what the peer is trusted to send; it is not checked
 */
export function json<T = unknown>(): Mapping<Uint8Array, T, string> {
  return { decode: (message) => JSON.parse(strictText(message)) as T, encode: stringified }
}

function parsed(input: FrameInput, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw input.error('BAD_FRAME', 'the line is not JSON', { cause })
  }
}

function stringified(message: unknown): string {
  let text: string | undefined
  try {
    text = JSON.stringify(message)
  } catch (cause) {
    throw refuse('BAD_MESSAGE', `the message has no JSON: ${String(cause)}`, cause)
  }
  if (text === undefined) throw refuse('BAD_MESSAGE', `the message has no JSON: it is ${typeof message}`)
  return text
}

/** The codecs that come with the library. */
export const codecs: {
  readonly raw: typeof raw
  readonly lengthPrefixed: typeof lengthPrefixed
  readonly varint: typeof varint
  readonly header: typeof header
  readonly netstring: typeof netstring
  readonly lines: typeof lines
  readonly delimited: typeof delimited
  readonly nul: typeof nul
  readonly fixed: typeof fixed
  readonly jsonLines: typeof jsonLines
} = Object.freeze({ raw, lengthPrefixed, varint, header, netstring, lines, delimited, nul, fixed, jsonLines })
