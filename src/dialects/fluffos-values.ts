/**
 * LPC values on the wire: the text that the driver saves variables in, which sockets of mode `MUD` carry in frames.
 *
 * What is decoded comes from a stranger. Nothing in it can name a property of an object (mappings are `Map`s), nest beyond
 * {@link DEEPEST}, or hold more than the limits say; whatever is wrong with it, the answer is `undefined`.
 */

import { type Codec, codecs, mapped } from '../index.js'

/** An integer that a `number` holds exactly is one; others of the 64 bits are a `bigint`. */
export type LpcInt = number | bigint

/**
 * Anything that can be encoded. A `number` with a fraction is a float, one without is an int: for a float without a
 * fraction there is {@link LpcFloat}. `undefined` and `null` are 0. Functions, buffers (`Uint8Array`) and objects of a
 * driver have no text: nothing stands where they do.
 */
export type LpcValue =
  | LpcInt
  | string
  | LpcFloat
  | LpcClass
  | Uint8Array
  | readonly LpcValue[]
  | ReadonlyMap<LpcValue, LpcValue>
  | LpcFunction
  | object
  | null
  | undefined

/** A function, as LPC passes them around. */
export type LpcFunction = (...parameters: never[]) => unknown

/** What decoding gives: `undefined` only for a whole payload that cannot be decoded. */
export type Decoded = LpcInt | string | LpcFloat | LpcClass | Decoded[] | Map<Decoded, Decoded>

/** A float, whatever its value. It counts as a number: `new LpcFloat(2) * 3` is 6. */
export class LpcFloat {
  readonly value: number

  constructor(value: number) {
    this.value = value
  }

  valueOf(): number {
    return this.value
  }
}

/** A struct: its members in their order; on the wire they have no names. */
export class LpcClass {
  readonly members: readonly LpcValue[]

  constructor(members: readonly LpcValue[]) {
    this.members = members
  }
}

/** Nested containers: how many the encoder makes, and the decoder takes, as in the original. */
export const DEEPEST = { encode: 100, decode: 101 } as const

export interface EncodeOptions {
  /** What has no text, besides functions and buffers. Default: what a driver has made an object. */
  isObject?: ((value: object) => boolean) | undefined
}

export interface DecodeOptions {
  /** Most elements of an array. Default 15,000. */
  maximumArraySize?: number | undefined
  /** Most pairs of a mapping. Default 150,000. */
  maximumMappingSize?: number | undefined
  /** `'number'` (default) loses whether 2 was an int or a float, `'wrapped'` gives every float as an {@link LpcFloat}. */
  floats?: 'number' | 'wrapped' | undefined
}

/** A value that has no text, and why. `code` is the result that `socket_write` gives for it. */
export class LpcValueError extends RangeError {
  override readonly name: string = 'LpcValueError'
  readonly code: 'EEBADDATA' | 'EETYPENOTSUPP'

  constructor(code: 'EEBADDATA' | 'EETYPENOTSUPP', message: string) {
    super(message)
    this.code = code
  }
}

/** The objects of all drivers: they look like mappings, and are none. */
const objects: WeakSet<object> = new WeakSet()

/** From now on `object` is an LPC object, not a mapping. */
export function markObject(object: object): void {
  objects.add(object)
}

/** Bytes of text that an encoder writes at most, so that a value that contains itself many times over ends somewhere. */
const LONGEST = 2 ** 24
/** Bytes of the length before a frame. */
const LENGTH = 4
const LEAST_INT = -(2n ** 63n)
const MOST_INT = 2n ** 63n - 1n

/**
 * The text of a value.
 *
 * ```ts
 * import { encodeValue } from 'fairlead/fluffos'
 *
 * console.log(encodeValue([1, 'a', [2]])) // ({1,"a",({2,}),})
 * console.log(encodeValue(new Map([['hp', 1.5]]))) // (["hp":1.500000,])
 * ```
 *
 * Strict: it writes nothing that the decoder of the original would read otherwise.
 *
 * @throws LpcValueError `EEBADDATA` beyond 100 nested containers; `EETYPENOTSUPP` for NaN and infinities, integers beyond
 *   64 bits, strings with a NUL or half a surrogate pair, and values that LPC does not have (booleans, symbols)
 */
export function encodeValue(value: LpcValue, o: EncodeOptions = {}): string {
  return new Encoder(o).text(value)
}

/** Writes bytes: to build a string first, with a look through each part of it for what has to be escaped, costs up to twice as much. */
class Encoder {
  readonly #isObject: (value: object) => boolean
  #bytes: Uint8Array = new Uint8Array(1024)
  #length = 0

  constructor(o: EncodeOptions) {
    this.#isObject = o.isObject ?? ((object) => objects.has(object))
  }

  text(value: LpcValue): string {
    this.#value(value, 0)
    return Buffer.from(this.#bytes.buffer, 0, this.#length).toString()
  }

  /** The text behind its length, and a NUL. */
  frame(value: LpcValue): Uint8Array {
    this.#length = LENGTH
    this.#value(value, 0)
    this.#byte(0)
    const frame = this.#bytes.slice(0, this.#length)
    new DataView(frame.buffer).setUint32(0, frame.length - LENGTH)
    return frame
  }

  #value(value: LpcValue, depth: number): void {
    if (typeof value === 'string') this.#string(value)
    else if (typeof value === 'object' && value !== null) this.#object(value, depth)
    else this.#ascii(simpleText(value))
  }

  #byte(byte: number): void {
    if (this.#length === this.#bytes.length) this.#reserve(1)
    this.#bytes[this.#length++] = byte
  }

  /** Makes room for `count` bytes. */
  #reserve(count: number): void {
    const needed = this.#length + count
    if (needed <= this.#bytes.length) return
    const more = new Uint8Array(Math.max(needed, 2 * this.#bytes.length))
    more.set(this.#bytes)
    this.#bytes = more
  }

  #ascii(text: string): void {
    this.#reserve(text.length)
    const bytes = this.#bytes
    let at = this.#length
    for (let i = 0; i < text.length; i++) bytes[at++] = text.charCodeAt(i)
    this.#length = at
  }

  #string(text: string): void {
    // No UTF-16 unit takes more than three bytes, and no escape more than two.
    this.#reserve(3 * text.length + 2)
    const bytes = this.#bytes
    let at = this.#length
    bytes[at++] = QUOTE
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i)
      if (code > CR && code < 0x80 && code !== QUOTE && code !== BACKSLASH) bytes[at++] = code
      else if (code >= 0x800) {
        const point = text.codePointAt(i) as number
        if (point >= 0xd800 && point < 0xe000) throw refused('half a surrogate pair', 'a string that is valid Unicode')
        if (point > 0xffff) {
          i++
          bytes[at++] = 0xf0 | (point >> 18)
          bytes[at++] = 0x80 | ((point >> 12) & 0x3f)
        } else bytes[at++] = 0xe0 | (point >> 12)
        bytes[at++] = 0x80 | ((point >> 6) & 0x3f)
        bytes[at++] = 0x80 | (point & 0x3f)
      } else if (code >= 0x80) {
        bytes[at++] = 0xc0 | (code >> 6)
        bytes[at++] = 0x80 | (code & 0x3f)
      } else if (code === 0) throw refused('a string with a NUL', 'one without: LPC ends strings there')
      else {
        if (code === QUOTE || code === BACKSLASH || code === CR) bytes[at++] = BACKSLASH
        bytes[at++] = code === LF ? CR : code
      }
    }
    bytes[at++] = QUOTE
    this.#length = at
  }

  #object(value: object, depth: number): void {
    if (Array.isArray(value)) this.#elements(ARRAY, value, 0x7d, depth)
    else if (isPlain(value)) this.#properties(value, depth)
    else if (value instanceof Map) this.#mapping(value, depth)
    else if (value instanceof LpcClass) this.#elements(SLASH, value.members, SLASH, depth)
    else if (value instanceof LpcFloat) this.#ascii(floatText(value.value))
    // Anything else is an object in the sense of LPC, or a buffer.
  }

  #elements(open: number, elements: readonly LpcValue[], close: number, depth: number): void {
    this.#open(open, depth)
    for (const element of elements) {
      this.#value(element, depth + 1)
      this.#byte(COMMA)
    }
    this.#close(close)
  }

  #mapping(mapping: ReadonlyMap<LpcValue, LpcValue>, depth: number): void {
    this.#open(MAPPING, depth)
    for (const [key, value] of mapping) this.#pair(key, value, depth + 1)
    this.#close(0x5d)
  }

  #properties(object: object, depth: number): void {
    if (this.#isObject(object)) return
    this.#open(MAPPING, depth)
    for (const key of Object.keys(object)) this.#pair(key, (object as Readonly<Record<string, LpcValue>>)[key], depth + 1)
    this.#close(0x5d)
  }

  #pair(key: LpcValue, value: LpcValue, depth: number): void {
    this.#value(key, depth)
    this.#byte(COLON)
    this.#value(value, depth)
    this.#byte(COMMA)
  }

  #open(bracket: number, depth: number): void {
    if (depth >= DEEPEST.encode) throw new LpcValueError('EEBADDATA', `a value may have at most ${DEEPEST.encode} nested containers`)
    if (this.#length > LONGEST) throw new LpcValueError('EEBADDATA', `the text of a value may have at most ${LONGEST} bytes`)
    this.#byte(OPEN)
    this.#byte(bracket)
  }

  #close(bracket: number): void {
    this.#byte(bracket)
    this.#byte(CLOSE)
  }
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/** The text of what is neither a string nor a container. */
function simpleText(value: LpcValue): string {
  switch (typeof value) {
    case 'number':
      return numberText(value)
    case 'bigint':
      if (value < LEAST_INT || value > MOST_INT) throw refused(`${value}`, 'an integer of 64 bits')
      return value.toString()
    case 'undefined':
    case 'object':
      return '0'
    case 'function':
      return ''
    default:
      throw refused(typeof value, 'a value that LPC has')
  }
}

function refused(got: string, expected: string): LpcValueError {
  return new LpcValueError('EETYPENOTSUPP', `cannot encode ${got}: expected ${expected}`)
}

function numberText(value: number): string {
  if (Number.isSafeInteger(value) && !Object.is(value, -0)) return `${value}`
  // A double of 2^53 or more has no fraction to tell a float by; it is an int while it fits one.
  if (Number.isInteger(value) && value !== 0 && Math.abs(value) < 2 ** 63) return BigInt(value).toString()
  return floatText(value)
}

/** Fixed notation with six decimals, as C's `%f`. */
function floatText(value: number): string {
  if (!Number.isFinite(value)) throw refused(`${value}`, 'a finite number')
  // Beyond this, toFixed changes to exponents; there is no fraction either.
  if (Math.abs(value) >= 1e21) return `${BigInt(value)}.000000`
  // toFixed drops the sign of -0 and keeps that of what rounds to it.
  return Object.is(value, -0) ? '-0.000000' : value.toFixed(6)
}

/**
 * The value of a text, up to its first NUL; `undefined` for what cannot be decoded.
 *
 * ```ts
 * import { decodeValue } from 'fairlead/fluffos'
 *
 * console.log(decodeValue('({1,"a",({}),})')) // [ 1, 'a', [] ]
 * console.log(decodeValue('({1,2})')) // undefined
 * ```
 *
 * Tolerant exactly where the original is: junk behind a top-level number or container is ignored, what starts like no value
 * is 0, an empty element is 0, `1.` is a float, integers wrap at 64 bits, of equal keys the last wins.
 */
export function decodeValue(payload: Uint8Array | string, o: DecodeOptions = {}): Decoded | undefined {
  const bytes = typeof payload === 'string' ? Buffer.from(payload) : Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
  // One character per byte: what is not ASCII stands in strings alone, and is looked at there.
  const text = bytes.toString('latin1')
  const end = text.indexOf('\0')
  const decoder = new Decoder(end === -1 ? text : text.slice(0, end), bytes, o)
  const value = decoder.whole()
  return value === FAILED ? undefined : value
}

const FAILED: unique symbol = Symbol('failed')
type Attempt = Decoded | typeof FAILED

const QUOTE = 0x22
const OPEN = 0x28
const CLOSE = 0x29
const COMMA = 0x2c
const MINUS = 0x2d
const DOT = 0x2e
const SLASH = 0x2f
const COLON = 0x3a
const BACKSLASH = 0x5c
const LF = 0x0a
const CR = 0x0d
const SMALL_E = 0x65
const PLUS = 0x2b
const ARRAY = 0x7b
const MAPPING = 0x5b

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

const isDigit = (code: number): boolean => code >= 0x30 && code <= 0x39

class Decoder {
  readonly #text: string
  readonly #bytes: Buffer
  readonly #arrays: number
  readonly #mappings: number
  readonly #wrapped: boolean
  #at = 0
  #depth = 0

  constructor(text: string, bytes: Buffer, o: DecodeOptions) {
    this.#text = text
    this.#bytes = bytes
    this.#arrays = o.maximumArraySize ?? 15_000
    this.#mappings = o.maximumMappingSize ?? 150_000
    this.#wrapped = o.floats === 'wrapped'
  }

  whole(): Attempt {
    const first = this.#text.charCodeAt(0)
    if (first === QUOTE) {
      const value = this.#string()
      return this.#at === this.#text.length ? value : FAILED
    }
    if (first === OPEN) return this.#container()
    if (first === MINUS || isDigit(first)) return this.#number()
    return 0
  }

  #string(): string | typeof FAILED {
    const text = this.#text
    const from = this.#at + 1
    let escapes = false
    let breaks = false
    let ascii = true
    let at = from
    for (; ; at++) {
      // NaN at the end of the text.
      const code = text.charCodeAt(at)
      if (code === QUOTE) break
      if (code > CR && code !== BACKSLASH && code < 0x80) continue
      if (code === BACKSLASH) {
        escapes = true
        at++
        if (text.charCodeAt(at) >= 0x80) ascii = false
      } else if (code === CR) breaks = true
      else if (code >= 0x80) ascii = false
      if (at >= text.length) return FAILED
    }
    this.#at = at + 1
    if (ascii && !breaks) {
      const plain = text.slice(from, at)
      return escapes ? plain.replace(/\\([^])/g, '$1') : plain
    }
    const raw = this.#bytes.subarray(from, at)
    const bytes = escapes || breaks ? unescaped(raw) : raw
    try {
      return utf8.decode(bytes)
    } catch {
      return FAILED
    }
  }

  #number(): LpcInt | LpcFloat | typeof FAILED {
    const text = this.#text
    const from = this.#at
    let at = from
    if (text.charCodeAt(at) === MINUS && !isDigit(text.charCodeAt(++at))) return FAILED
    let next = text.charCodeAt(at)
    let value = 0
    for (; isDigit(next); next = text.charCodeAt(++at)) value = value * 10 + (next - 0x30)
    this.#at = at
    if (next !== DOT && next !== SMALL_E) {
      if (value > Number.MAX_SAFE_INTEGER) return this.#wide(from)
      // LPC has no negative zero among its ints.
      return text.charCodeAt(from) === MINUS && value !== 0 ? -value : value
    }
    if (next === DOT) {
      this.#at++
      next = this.#digits()
    }
    const mantissa = this.#at
    if (next === SMALL_E) {
      const sign = text.charCodeAt(++this.#at)
      if (sign !== PLUS && sign !== MINUS) return FAILED
      this.#at++
      this.#digits()
    }
    const exponent = text.slice(mantissa + 1, this.#at)
    const float = Number(
      exponent === '' ? text.slice(from, mantissa) : `${text.slice(from, mantissa)}e${exponent.length > 1 ? exponent : 0}`,
    )
    return this.#wrapped ? new LpcFloat(float) : float
  }

  /** Passes digits over; what stands behind them. */
  #digits(): number {
    let next = this.#text.charCodeAt(this.#at)
    while (isDigit(next)) next = this.#text.charCodeAt(++this.#at)
    return next
  }

  /** An integer that a double may not hold. */
  #wide(from: number): LpcInt {
    const wide = BigInt.asIntN(64, wideInteger(this.#text.slice(from, this.#at)))
    return wide >= Number.MIN_SAFE_INTEGER && wide <= Number.MAX_SAFE_INTEGER ? Number(wide) : wide
  }

  #container(): Attempt {
    if (this.#lost || ++this.#depth > DEEPEST.decode) return FAILED
    const kind = this.#text.charCodeAt(this.#at + 1)
    this.#at += 2
    let value: Attempt
    if (kind === MAPPING) value = this.#mapping()
    else if (kind === ARRAY) value = this.#elements(0x7d)
    else if (kind === SLASH) {
      const members = this.#elements(SLASH)
      value = members === FAILED ? FAILED : new LpcClass(members)
    } else value = FAILED
    this.#depth--
    return value
  }

  #elements(close: number): Decoded[] | typeof FAILED {
    const elements: Decoded[] = []
    const start = this.#at
    let most = Number.POSITIVE_INFINITY
    while (elements.length < most && !this.#closes(close)) {
      if (elements.length >= this.#arrays) return FAILED
      const element = this.#element(COMMA)
      if (element === FAILED) return FAILED
      elements.push(element)
      if (this.#strayed && most === Number.POSITIVE_INFINITY) most = this.#sizeFrom(start, close)
    }
    return elements.length > most ? FAILED : elements
  }

  #mapping(): Map<Decoded, Decoded> | typeof FAILED {
    const mapping = new Map<Decoded, Decoded>()
    const start = this.#at
    let pairs = 0
    while (!this.#closes(0x5d)) {
      if (pairs >= this.#mappings) return FAILED
      const key = this.#element(COLON)
      const strayed = this.#strayed
      const value = key === FAILED ? FAILED : this.#element(COMMA)
      if (key === FAILED || value === FAILED) return FAILED
      mapping.set(key, value)
      pairs++
      // The original counts pairs as well, but goes on to the end.
      if ((strayed || this.#strayed) && !this.#lost && this.#sizeFrom(start, 0x5d) === -1) return FAILED
    }
    return mapping
  }

  /** Whether the container ends here; then it is behind us. */
  #closes(close: number): boolean {
    if (this.#text.charCodeAt(this.#at) !== close || this.#text.charCodeAt(this.#at + 1) !== CLOSE) return false
    this.#at += 2
    return true
  }

  /** The byte behind the last number was no delimiter: the original takes it for one, and trusts its count of the elements. */
  #strayed = false
  /** That has happened: what was counted of the containers inside no longer fits, and none is taken. */
  #lost = false

  #element(delimiter: number): Attempt {
    const first = this.#text.charCodeAt(this.#at)
    this.#strayed = false
    if (first === delimiter) {
      this.#at++
      return 0
    }
    if (first === MINUS || isDigit(first)) {
      const value = this.#number()
      this.#strayed = this.#text.charCodeAt(this.#at) !== delimiter
      this.#at++
      // In what is nested the two passes of the original never meet again.
      return this.#strayed && this.#depth > 1 ? FAILED : value
    }
    const value = first === QUOTE ? this.#string() : first === OPEN ? this.#container() : FAILED
    if (this.#text.charCodeAt(this.#at) !== delimiter) return FAILED
    this.#at++
    return value
  }

  /**
   * How many elements, or pairs, the first pass of the original counts in the outermost container, or -1 where it finds
   * none: it looks for the next delimiter behind whatever is neither a string nor a container.
   */
  #sizeFrom(start: number, close: number): number {
    const after = this.#at
    const isMapping = close === 0x5d
    let count = 0
    this.#at = start
    for (let isKey = isMapping; ; isKey = isMapping && !isKey) {
      const delimiter = isKey ? ':' : ','
      const first = this.#text.charCodeAt(this.#at)
      if (isKey === isMapping && this.#closes(close)) break
      if (first === QUOTE || first === OPEN) {
        const skipped = first === QUOTE ? this.#string() : this.#container()
        if (skipped === FAILED || this.#text[this.#at] !== delimiter) return -1
        this.#at++
      } else {
        const next = this.#text.indexOf(delimiter, this.#at)
        if (next === -1) return -1
        this.#at = next + 1
      }
      if (!isKey) count++
    }
    this.#at = after
    this.#lost = true
    return count
  }
}

/** Digits that no double holds. A number of a million of them wraps as well: only the last ones count, modulo 2^64. */
function wideInteger(digits: string): bigint {
  const negative = digits.startsWith('-')
  let value = 0n
  for (let at = negative ? 1 : 0; at < digits.length; at += 18) {
    const part = digits.slice(at, at + 18)
    value = BigInt.asUintN(64, value * 10n ** BigInt(part.length) + BigInt(part))
  }
  return negative ? -value : value
}

function unescaped(bytes: Buffer): Buffer {
  const out = Buffer.allocUnsafe(bytes.length)
  let to = 0
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at] as number
    if (byte === BACKSLASH) out[to++] = bytes[++at] as number
    else out[to++] = byte === CR ? 0x0a : byte
  }
  return out.subarray(0, to)
}

/** A value behind its length, as a socket of mode `MUD` sends it: the text and a NUL, which the length counts. @throws LpcValueError as {@link encodeValue} */
export function encodeFrame(value: LpcValue, o: EncodeOptions = {}): Uint8Array {
  return new Encoder(o).frame(value)
}

export interface FrameOptions extends DecodeOptions, EncodeOptions {
  /** Most bytes of a frame that is received, without its header. Default 262,144. */
  maximumByteTransfer?: number | undefined
}

/**
 * A codec for `frames`: LPC values of a socket in mode `MUD`, without a driver around them.
 *
 * ```ts
 * import { connect, listen } from 'fairlead'
 * import { mudFrames } from 'fairlead/fluffos'
 *
 * await using listener = await listen('tcp://127.0.0.1:0')
 * await using client = (await connect(listener.endpoint)).frames(mudFrames())
 * await using server = (await listener.accept()).frames(mudFrames())
 * await client.send([1, 'hello'])
 * console.log(await server.receive()) // { value: [ 1, 'hello' ] }
 * ```
 *
 * Messages are objects, as a payload that cannot be decoded is a message as well: its `value` is `undefined`.
 *
 * @throws FrameError `TOO_LONG` for a frame beyond `maximumByteTransfer`, `BAD_FRAME` for one of no bytes
 */
export function mudFrames(o: FrameOptions = {}): Codec<{ readonly value: Decoded | undefined }, LpcValue> {
  return mapped(codecs.lengthPrefixed({ max: o.maximumByteTransfer ?? 262_144 }), {
    decode(payload) {
      if (payload.length === 0) throw new RangeError('a frame of mode MUD has at least one byte')
      return { value: decodeValue(payload, o) }
    },
    encode: (value: LpcValue) => encodeFrame(value, o).subarray(4),
  })
}
