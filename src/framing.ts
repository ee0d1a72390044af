/**
 * Codecs: what cuts a byte stream into messages and back. Pure bytes in, messages out; nothing here knows a socket.
 *
 * One line for the fuzzer: any input, cut in any way, gives the same messages followed by the same error at the same
 * stream offset; what an encoder accepts its decoder gives back; no length is believed before it is checked.
 */

import { bufferOf, strictText } from './bytes.js'
import { again, Closed, CODES, FrameError, invalidType, messageOf, SocketError } from './errors.js'

/**
 * A way of framing. `T` is what decoding gives, `S` what encoding accepts.
 *
 * ```ts
 * import { codecs } from 'fairlead'
 *
 * const decoder = codecs.lines().decoder()
 * decoder.push(new TextEncoder().encode('one\ntw'))
 * console.log(decoder.next()) // one
 * console.log(decoder.next()) // undefined: more bytes are needed
 * ```
 */
export interface Codec<T, S = T> {
  readonly name: string
  /** A decoder for one stream from its beginning, or from wherever the framing starts. */
  decoder(): Decoder<T>
  /**
   * The bytes of one message, in memory that belongs to the caller.
   *
   * Fails with `FrameError` `BAD_MESSAGE` or `TOO_LONG` on what the decoder would refuse or read differently, and with a
   * `TypeError` on what is no message at all.
   */
  encode(message: S): Uint8Array
  /** As `encode`, behind what `output` holds already; spares a copy where many messages become one write. */
  append?(message: S, output: FrameOutput): void
  /** How its decoder cuts; what {@link mapped} builds upon. Every codec of {@link defineCodec} has it. */
  readonly cut?: Cut<T>
  readonly last?: Cut<T> | undefined
}

/** The receiving half of a codec, without input or output of its own. */
export interface Decoder<T> {
  /** Takes the next bytes of the stream. The chunk belongs to the decoder from here on: a large message may be a view of it. */
  push(chunk: Uint8Array): void
  /**
   * The next message, or `undefined` when more bytes are needed. Throws `FrameError` on bytes that are no message, with
   * `offset`, the place of that message in the stream; the decoder has then failed for good and says so each time.
   */
  next(): T | undefined
  /**
   * The stream ended. Messages that are complete can still be had from `next`; inside a message this, or the `next` that
   * gets there, throws `FrameError` `INCOMPLETE` with `received`, the bytes of that message that did come.
   */
  end(): void
  /** A copy of the bytes that were pushed and do not belong to a message given by `next`. */
  rest(): Uint8Array
  /** The place of the next message in the stream: all bytes pushed but those of `rest`. */
  readonly offset: number
}

/** What a `FrameError` of a decoder says besides its code. */
export interface FrameFacts {
  /** Bytes of the stream in front of the message that failed. */
  offset: number
  /** Bytes of that message received; with `INCOMPLETE` only. */
  received?: number
}

/** A message in a larger piece of memory is copied out of it, unless it is at least this share of it and this long. */
const SHARE = 2
const WORTH_SHARING = 1024
/** What is reserved at least for bytes that have to be joined. */
const SMALLEST = 64
const EMPTY: Uint8Array = new Uint8Array(0)

/** Received bytes that are not yet part of a message, in one run of memory; what a codec reads from. */
export class FrameInput {
  #bytes: Uint8Array = EMPTY
  #start = 0
  #end = 0
  /** The memory was reserved here, so that bytes may be added behind `#end`. */
  #own = false
  #passed = 0
  #text: Buffer | undefined
  #expected = 0
  /** How far the message at hand was searched without success: a codec keeps it here so that no byte is searched twice. */
  scanned = 0

  get length(): number {
    return this.#end - this.#start
  }

  /** Stream offset of the first byte. */
  get offset(): number {
    return this.#passed + this.#start
  }

  /** The byte at `index`, which must be below `length`. */
  at(index: number): number {
    return this.#bytes[this.#start + index] as number
  }

  /** An unsigned whole number of 1 to 8 bytes; above 2^53 it is rounded, and still larger than every limit. */
  uint(index: number, bytes: number, little: boolean): number {
    let at = this.#start + index + (little ? bytes - 1 : 0)
    const step = little ? -1 : 1
    let value = 0
    for (let i = 0; i < bytes; i++, at += step) value = value * 256 + (this.#bytes[at] as number)
    return value
  }

  /** Where `byte` first stands in `[from, to)`, or -1. */
  indexOf(byte: number, from: number, to: number): number {
    const first = this.#start + from
    const last = this.#start + to
    if (last - first <= 32) {
      for (let i = first; i < last; i++) if (this.#bytes[i] === byte) return i - this.#start
      return -1
    }
    // Never past `to`: memory behind it would be searched again and again.
    const found = this.#bytes.subarray(first, last).indexOf(byte)
    return found === -1 ? -1 : from + found
  }

  /** A copy of `[from, to)`; nothing is consumed. */
  copy(from: number, to: number): Uint8Array {
    return this.#bytes.slice(this.#start + from, this.#start + to)
  }

  /** `[from, to)` as text; malformed UTF-8 becomes U+FFFD, or throws a `TypeError` if `fatal`. Nothing is consumed. */
  text(from: number, to: number, encoding: 'utf8' | 'latin1', fatal = false): string {
    if (fatal && encoding === 'utf8') return strictText(this.#bytes.subarray(this.#start + from, this.#start + to))
    this.#text ??= bufferOf(this.#bytes)
    return this.#text.toString(encoding, this.#start + from, this.#start + to)
  }

  /** Passes over the first `count` bytes. */
  skip(count: number): void {
    this.#start += count
  }

  /** Consumes the first `count` bytes: a copy of them, or the memory they came in where they are most of it. */
  take(count: number): Uint8Array {
    const from = this.#start
    this.#start += count
    if (count < WORTH_SHARING || count * SHARE < this.#bytes.buffer.byteLength) return this.#bytes.slice(from, from + count)
    const taken = this.#bytes.subarray(from, from + count)
    // The message owns that memory now; what is left is the smaller part, and moves out.
    this.#moveOut()
    return taken
  }

  /** Tells that the message at hand has `count` bytes, so that memory is not reserved in steps. Checked against a limit before. */
  expect(count: number): void {
    this.#expected = count
  }

  /** What to call to put back everything consumed since: no memory is written to before it, so that only places are kept. */
  mark(): () => void {
    const [bytes, start, end, own, passed] = [this.#bytes, this.#start, this.#end, this.#own, this.#passed]
    return () => {
      this.#replace(bytes, end, own)
      this.#start = start
      this.#passed = passed
    }
  }

  /** The error of the message at hand. */
  error(code: 'TOO_LONG' | 'BAD_FRAME' | 'INCOMPLETE', what: string, more: { received?: number; cause?: unknown } = {}): FrameError {
    const { cause, ...received } = more
    const error = new FrameError(code, `${what}, at stream offset ${this.offset}`, { phase: 'frame', cause })
    const facts: FrameFacts = { offset: this.offset, ...received }
    return Object.assign(error, facts)
  }

  /** @internal */
  push(chunk: Uint8Array): void {
    if (!(chunk instanceof Uint8Array)) throw invalidType('chunk', 'a Uint8Array', chunk)
    if (chunk.length === 0) return
    if (this.#start !== this.#end) return this.#join(chunk)
    // The `slice` of a Buffer does not copy.
    const plain = chunk.constructor === Uint8Array ? chunk : new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length)
    this.#replace(plain)
  }

  #join(chunk: Uint8Array): void {
    const held = this.length
    const needed = held + chunk.length
    if (!this.#own || this.#end + chunk.length > this.#bytes.length) {
      // Doubling keeps the work linear for a peer that sends byte by byte, and what is reserved within twice what came.
      const doubled = Math.max(needed, held * 2, SMALLEST)
      const joined = new Uint8Array(this.#expected === 0 ? doubled : Math.max(needed, Math.min(doubled, this.#expected)))
      joined.set(this.#bytes.subarray(this.#start, this.#end))
      this.#replace(joined, held, true)
    }
    this.#bytes.set(chunk, this.#end)
    this.#end += chunk.length
  }

  #replace(bytes: Uint8Array, length = bytes.length, own = false): void {
    this.#passed += this.#start
    this.#bytes = bytes
    this.#start = 0
    this.#end = length
    this.#own = own
    this.#text = undefined
  }

  /** A message is complete. @internal */
  done(): void {
    this.scanned = 0
    this.#expected = 0
  }

  /** Nothing more can be decoded now: a few bytes do not hold on to a whole chunk while the peer is silent. @internal */
  settle(): void {
    const held = this.length
    if (held === 0) {
      if (this.#end !== 0) this.#moveOut()
    } else if (held * 4 < this.#bytes.buffer.byteLength && this.#bytes.buffer.byteLength > WORTH_SHARING) this.#moveOut()
  }

  /** Lets go of the memory and keeps a copy of what is left. */
  #moveOut(): void {
    this.#replace(this.length === 0 ? EMPTY : this.#bytes.slice(this.#start, this.#end))
  }
}

/** Bytes on their way out: small pieces gathered in one run of memory, large ones kept as they are. What a codec appends to. */
export class FrameOutput {
  #slab: Uint8Array
  /** Where the part of the slab that is not among the pieces yet begins and ends. */
  #from = 0
  #to = 0
  /** The slab once more, for text. */
  #text: Buffer | undefined
  #pieces: Uint8Array[] = []
  #sealed = 0

  constructor(capacity = 64) {
    this.#slab = new Uint8Array(capacity)
  }

  get length(): number {
    return this.#sealed + this.#to - this.#from
  }

  uint(value: number, bytes: number, little: boolean): void {
    const at = this.#reserve(bytes)
    let rest = value
    for (let i = 0; i < bytes; i++) {
      this.#slab[little ? at + i : at + bytes - 1 - i] = rest % 256
      rest = Math.floor(rest / 256)
    }
  }

  byte(value: number): void {
    // Before the slab is looked at, which may be another one from then on.
    const at = this.#reserve(1)
    this.#slab[at] = value
  }

  bytes(data: Uint8Array): void {
    if (data.length > LARGE) {
      this.#seal()
      this.#pieces.push(data)
      this.#sealed += data.length
      return
    }
    const at = this.#reserve(data.length)
    if (data.length > 24) this.#slab.set(data, at)
    else for (let i = 0; i < data.length; i++) this.#slab[at + i] = data[i] as number
  }

  /** Appends text and returns how many bytes it takes. */
  text(text: string, encoding: 'utf8' | 'latin1'): number {
    const most = encoding === 'utf8' ? text.length * 3 : text.length
    if (most > LARGE) {
      const data = Buffer.from(text, encoding)
      this.bytes(data)
      return data.length
    }
    const at = this.#reserve(most)
    this.#text ??= Buffer.from(this.#slab.buffer)
    this.#to = at + this.#text.write(text, at, encoding)
    return this.#to - at
  }

  /** Withdraws everything behind the first `length` bytes. */
  truncate(length: number): void {
    while (length < this.#sealed) {
      const last = this.#pieces.pop() as Uint8Array
      this.#sealed -= last.length
      this.#to = this.#from
      if (length > this.#sealed) {
        this.#pieces.push(last.subarray(0, length - this.#sealed))
        this.#sealed = length
      }
    }
    this.#to = this.#from + length - this.#sealed
  }

  /** Forgets everything and starts again in the same memory. */
  reset(): void {
    this.#from = this.#to = this.#sealed = 0
    if (this.#pieces.length > 0) this.#pieces = []
  }

  /** What was appended, in order; views that are valid until `reset`. */
  pieces(): Uint8Array | Uint8Array[] {
    if (this.#pieces.length === 0) return this.#slab.subarray(this.#from, this.#to)
    this.#seal()
    return this.#pieces
  }

  /** What was appended, in memory of its own. */
  join(): Uint8Array {
    const joined = new Uint8Array(this.length)
    let at = 0
    for (const piece of this.#pieces) {
      joined.set(piece, at)
      at += piece.length
    }
    joined.set(this.#slab.subarray(this.#from, this.#to), at)
    return joined
  }

  #seal(): void {
    if (this.#to === this.#from) return
    this.#pieces.push(this.#slab.subarray(this.#from, this.#to))
    this.#sealed += this.#to - this.#from
    this.#from = this.#to
  }

  #reserve(count: number): number {
    const at = this.#to
    if (at + count <= this.#slab.length) {
      this.#to = at + count
      return at
    }
    this.#seal()
    this.#slab = new Uint8Array(Math.max(count, SLAB))
    this.#text = undefined
    this.#from = 0
    this.#to = count
    return 0
  }
}

/** Pieces above this are not copied together with others. */
const LARGE = 16 * 1024
const SLAB = 64 * 1024

/** How a codec cuts: the message at the start of `input`, consumed; or `undefined` and nothing consumed. */
export type Cut<T> = (input: FrameInput) => T | undefined

/** A decoder made of a function that cuts one message off. */
export class FrameDecoder<T> implements Decoder<T> {
  readonly #input: FrameInput = new FrameInput()
  readonly #cut: Cut<T>
  readonly #last: Cut<T> | undefined
  #error: SocketError | undefined
  #ended = false
  /** A message that `end` found. */
  #ready: T | undefined

  /** @param last what to make of bytes without a proper ending when the stream has ended */
  constructor(cut: Cut<T>, last?: Cut<T>) {
    this.#cut = cut
    this.#last = last
  }

  get offset(): number {
    return this.#input.offset
  }

  push(chunk: Uint8Array): void {
    if (this.#error !== undefined) throw again(this.#error)
    if (this.#ended) throw new Closed('ENDED', 'the decoder was told that the stream has ended', { phase: 'frame' })
    this.#input.push(chunk)
  }

  next(): T | undefined {
    const ready = this.#ready
    if (ready !== undefined) {
      this.#ready = undefined
      return ready
    }
    if (this.#error !== undefined) throw again(this.#error)
    const input = this.#input
    if (input.length === 0) {
      input.settle()
      return undefined
    }
    try {
      const message = this.#cut(input)
      if (message !== undefined) input.done()
      else if (this.#ended) return this.#final()
      else input.settle()
      return message
    } catch (error) {
      throw this.#fail(error)
    }
  }

  end(): void {
    if (this.#error !== undefined) throw again(this.#error)
    if (this.#ended) return
    this.#ended = true
    this.#ready = this.next()
  }

  rest(): Uint8Array {
    return this.#input.copy(0, this.#input.length)
  }

  #final(): T | undefined {
    const message = this.#last?.(this.#input)
    if (message !== undefined) return message
    const received = this.#input.length
    const bytes = received === 1 ? '1 byte' : `${received} bytes`
    throw this.#input.error('INCOMPLETE', `${CODES.FrameError.INCOMPLETE}: ${bytes} of it came`, { received })
  }

  #fail(error: unknown): SocketError {
    this.#error =
      error instanceof SocketError ? error : this.#input.error('BAD_FRAME', `the codec failed: ${messageOf(error)}`, { cause: error })
    return this.#error
  }
}

/** What {@link defineCodec} makes a codec of. */
export interface CodecParts<T, S> {
  name: string
  cut: Cut<T>
  /** What to make of bytes without a proper ending when the stream has ended. Absent: `INCOMPLETE`. */
  last?: Cut<T> | undefined
  append: (message: S, output: FrameOutput) => void
}

/**
 * A codec of one's own, from a function that cuts a message off the input and one that appends a message to the output.
 *
 * ```ts
 * import { defineCodec } from 'fairlead'
 *
 * const bits = defineCodec<boolean>({
 *   name: 'bits',
 *   cut: (input) => {
 *     const byte = input.at(0)
 *     if (byte > 1) throw input.error('BAD_FRAME', `${byte} is neither 0 nor 1`)
 *     input.skip(1)
 *     return byte === 1
 *   },
 *   append: (bit, output) => output.byte(bit ? 1 : 0),
 * })
 * console.log(bits.encode(true)) // Uint8Array(1) [ 1 ]
 * ```
 *
 * `cut` is only called when there is at least one byte, and must not remember anything but `input.scanned`.
 */
export function defineCodec<T, S = T>(parts: CodecParts<T, S>): Codec<T, S> {
  const { name, cut, last, append } = parts
  return {
    name,
    decoder: () => new FrameDecoder(cut, last),
    encode: (message) => {
      const output = new FrameOutput()
      append(message, output)
      return output.join()
    },
    append,
    cut,
    last,
  }
}

/** How messages become values and values messages. */
export interface Mapping<T, U, S = T, V = U> {
  /** Gives anything but `undefined`. What it throws becomes a `FrameError` `BAD_FRAME`. */
  decode(message: T): U
  /** What it throws becomes a `FrameError` `BAD_MESSAGE`. */
  encode(value: V): S
}

/**
 * A codec of typed values from a codec of messages: the same bytes on the wire, limits and errors, with `decode` behind the
 * decoder and `encode` in front of the encoder.
 *
 * ```ts
 * import { codecs, mapped } from 'fairlead'
 *
 * const dates = mapped(codecs.lines(), {
 *   decode: (line) => {
 *     const date = new Date(line)
 *     if (Number.isNaN(date.getTime())) throw new RangeError('not a date')
 *     return date
 *   },
 *   encode: (date: Date) => date.toISOString(),
 * })
 * const decoder = dates.decoder()
 * decoder.push(dates.encode(new Date(0)))
 * console.log(decoder.next()?.getTime()) // 0
 * ```
 *
 * @param codec one of the library's or of {@link defineCodec}
 */
export function mapped<T, S, U, V = U>(codec: Codec<T, S>, mapping: Mapping<T, U, S, V>): Codec<U, V> {
  const { name, cut, last } = codec
  if (cut === undefined) throw invalidType('codec', 'a codec made by defineCodec', codec)
  if (typeof mapping?.decode !== 'function' || typeof mapping.encode !== 'function') throw invalidType('mapping', 'a Mapping', mapping)
  const through =
    (cut: Cut<T>): Cut<U> =>
    (input) => {
      const undo = input.mark()
      const message = cut(input)
      if (message === undefined) return undefined
      try {
        const value = mapping.decode(message)
        if (value === undefined) throw new TypeError('decode gave undefined')
        return value
      } catch (cause) {
        undo()
        throw input.error('BAD_FRAME', `the message cannot be decoded: ${messageOf(cause)}`, { cause })
      }
    }
  return defineCodec<U, V>({
    name: `mapped ${name}`,
    cut: through(cut),
    last: last && through(last),
    append: (value, output) => {
      const message = encoded(mapping, value)
      if (codec.append === undefined) output.bytes(codec.encode(message))
      else codec.append(message, output)
    },
  })
}

function encoded<S, V>(mapping: Mapping<never, unknown, S, V>, value: V): S {
  try {
    return mapping.encode(value)
  } catch (cause) {
    if (cause instanceof FrameError) throw cause
    throw new FrameError('BAD_MESSAGE', `the message cannot be encoded: ${messageOf(cause)}`, { phase: 'frame', cause })
  }
}
