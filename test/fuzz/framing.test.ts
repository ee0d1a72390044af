// Any input, cut in any way, gives the same messages followed by the same error at the same stream offset; what an encoder
// accepts its decoder gives back. FAIRLEAD_FUZZ_SECONDS sets the time for each property (default 1), FAIRLEAD_FUZZ_SEED the seed.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { codecs, json } from '#src/codecs.js'
import { SocketError } from '#src/errors.js'
import { type Codec, mapped } from '#src/framing.js'

const seconds = Number(process.env['FAIRLEAD_FUZZ_SECONDS'] ?? 1)
const seed = Number(process.env['FAIRLEAD_FUZZ_SEED'] ?? 20_261_120)
const settings = {
  seed,
  numRuns: seconds > 1 ? 10_000_000 : 300,
  interruptAfterTimeLimit: seconds * 1000,
  markInterruptAsFailure: false,
} as const

interface Outcome {
  messages: unknown[]
  error: { code: string; message: string; offset: number; received: number | undefined } | undefined
}

function decode(codec: Codec<unknown, never>, chunks: readonly Uint8Array[]): Outcome {
  const messages: unknown[] = []
  const decoder = codec.decoder()
  const drain = () => {
    for (let message = decoder.next(); message !== undefined; message = decoder.next()) messages.push(message)
  }
  try {
    for (const chunk of chunks) {
      decoder.push(chunk.slice())
      drain()
    }
    decoder.end()
    drain()
    return { messages, error: undefined }
  } catch (error) {
    // Anything else is a crash, and fails the property.
    if (!(error instanceof SocketError) || error.name !== 'FrameError') throw error
    const { code, message, offset, received } = error as SocketError & { offset: number; received?: number }
    return { messages, error: { code, message, offset, received } }
  }
}

function cutAt(stream: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const places = [...new Set(cuts.map((cut) => cut % (stream.length + 1)))].sort((a, b) => a - b)
  return [...places, stream.length].map((end, i) => stream.subarray(places[i - 1] ?? 0, end))
}

/** Few different bytes, so that delimiters, lengths and their beginnings are frequent. */
const noise = fc.oneof(
  fc.uint8Array({ maxLength: 64 }),
  fc
    .array(fc.constantFrom(0, 1, 2, 10, 13, 34, 44, 45, 48, 49, 58, 91, 93, 97, 128, 255), { maxLength: 64 })
    .map((values) => Uint8Array.from(values)),
)
const cuts = fc.array(fc.nat(1000), { maxLength: 12 })

const payload = fc.uint8Array({ maxLength: 40 })
/** A header of three bytes, the second of them the length of the rest. */
const frame = payload.map((data) => Uint8Array.of(data.length, data.length, 7, ...data))
const text = fc.string({ unit: 'binary', maxLength: 24 })
const entries: Record<string, [Codec<unknown, never>, fc.Arbitrary<unknown>]> = {
  'length 1': [codecs.lengthPrefixed({ bytes: 1, max: 30 }), payload],
  'length 2, little': [codecs.lengthPrefixed({ bytes: 2, endian: 'little', max: 30 }), payload],
  'length 4 with header': [codecs.lengthPrefixed({ includesHeader: true, max: 30 }), payload],
  'length 8': [codecs.lengthPrefixed({ bytes: 8, max: 30 }), payload],
  varint: [codecs.varint({ max: 30 }), payload],
  fixed: [codecs.fixed(3), fc.uint8Array({ minLength: 2, maxLength: 4 })],
  'lines, lf': [codecs.lines({ ending: 'lf', max: 20 }), text],
  'lines, crlf': [codecs.lines({ ending: 'crlf', max: 20 }), text],
  'lines, either': [codecs.lines({ max: 20 }), text],
  'lines, fatal': [codecs.lines({ fatal: true, max: 20 }), text],
  'lines, last unterminated': [codecs.lines({ lastUnterminated: true, max: 20 }), text],
  'lines, latin1': [codecs.lines({ encoding: 'latin1', max: 20 }), text],
  'lines, bytes': [codecs.lines({ encoding: 'bytes', max: 20 }), payload],
  'delimited by one': [codecs.delimited('\n', { max: 20 }), payload],
  'delimited by two': [codecs.delimited('\r\n', { max: 20 }), payload],
  'delimited by itself': [codecs.delimited(Uint8Array.of(97, 97, 97), { max: 20 }), noise],
  nul: [codecs.nul({ max: 20 }), noise],
  netstring: [codecs.netstring({ max: 30 }), payload],
  'header with a length that counts more': [codecs.header({ size: 5, at: 1, bytes: 3, adjust: -7, max: 30 }), payload],
  'header with a length that counts less': [codecs.header({ size: 2, bytes: 1, adjust: 3, max: 30 }), payload],
  'header and payload': [codecs.header({ size: 3, at: 1, bytes: 1, message: 'frame', max: 30 }), frame],
  'JSON in netstrings': [mapped(codecs.netstring({ max: 40 }), json()), fc.jsonValue({ maxDepth: 3 })],
  'JSON in lines, the last without an end': [
    mapped(codecs.lines({ lastUnterminated: true, max: 20, encoding: 'bytes' }), json()),
    fc.jsonValue({ maxDepth: 3 }),
  ],
  'JSON lines': [codecs.jsonLines({ max: 40 }), fc.jsonValue({ maxDepth: 3 })],
}

/** As JSON has it: without the negative zero. */
const plain = (value: unknown): unknown => (value instanceof Uint8Array ? [...value] : JSON.parse(JSON.stringify(value)))

for (const [name, [codec, message]] of Object.entries(entries)) {
  describe(name, () => {
    const encode = codec.encode as (message: unknown) => Uint8Array

    test('F1 F7 any bytes give only messages or a frame error, the same for every cut', () => {
      fc.assert(
        fc.property(noise, cuts, (stream, places) => {
          const whole = decode(codec, [stream])
          assert.deepEqual(decode(codec, cutAt(stream, places)), whole)
          assert.deepEqual(
            decode(
              codec,
              Array.from(stream, (byte) => Uint8Array.of(byte)),
            ),
            whole,
          )
        }),
        settings,
      )
    })

    test('F1 F7 so do damaged messages', () => {
      fc.assert(
        fc.property(fc.array(message, { maxLength: 5 }), fc.nat(), fc.nat(255), cuts, (messages, place, byte, places) => {
          const stream = Uint8Array.from(Buffer.concat(messages.flatMap((one) => accepted(encode, one) ?? [])))
          if (stream.length > 0) stream[place % stream.length] = byte
          assert.deepEqual(decode(codec, cutAt(stream, places)), decode(codec, [stream]))
        }),
        settings,
      )
    })

    test('F7 what the encoder accepts the decoder gives back, and nothing more', () => {
      fc.assert(
        fc.property(fc.array(message, { maxLength: 8 }), cuts, (messages, places) => {
          const sent = messages.filter((one) => accepted(encode, one) !== undefined)
          const stream = Uint8Array.from(Buffer.concat(sent.map((one) => encode(one))))
          const { messages: received, error } = decode(codec, cutAt(stream, places))
          assert.equal(error, undefined)
          assert.deepEqual(received.map(plain), sent.map(plain))
        }),
        settings,
      )
    })

    test('F8 what was not decoded is there to be had', () => {
      fc.assert(
        fc.property(noise, cuts, fc.nat(5), (stream, places, most) => {
          const decoder = codec.decoder()
          let last = 0
          try {
            for (const chunk of cutAt(stream, places)) decoder.push(chunk.slice())
            while (last < most && decoder.next() !== undefined) last++
          } catch (error) {
            if (!(error instanceof SocketError)) throw error
          }
          assert.deepEqual(decoder.rest(), stream.slice(decoder.offset))
        }),
        settings,
      )
    })
  })
}

/** The bytes of a message, or undefined if the encoder refuses it with a frame error. */
function accepted(encode: (message: unknown) => Uint8Array, message: unknown): Uint8Array | undefined {
  try {
    return encode(message)
  } catch (error) {
    if (error instanceof SocketError && (error.code === 'BAD_MESSAGE' || error.code === 'TOO_LONG')) return undefined
    throw error
  }
}
