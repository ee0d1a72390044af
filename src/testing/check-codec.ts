/** F1 to F8 for anyone's codec: the same messages and errors however the stream is cut. */

import assert from 'node:assert/strict'
import { FrameError } from '../errors.js'
import type { Codec } from '../framing.js'
import { type CheckOptions, type Property, register } from './check.js'
import { Random } from './random.js'

/** A codec and what it is tried with. */
export interface CodecMaker<T = unknown, S = T> {
  readonly name: string
  codec(): Codec<T, S>
  /** Messages the encoder takes, each decoded to an equal one, or to the one at the same place of `decoded`. */
  readonly messages: readonly S[]
  readonly decoded?: readonly T[] | undefined
  /** Messages of exactly the longest length, and of one more. */
  readonly longest?: { readonly fits: S; readonly tooLong: S; readonly tooLongEncoded: Uint8Array } | undefined
  /** Messages the encoder has to refuse because the decoder would read something else. */
  readonly refused?: readonly S[] | undefined
  /** Whether any bytes may end a stream: there are no incomplete messages. */
  readonly unframed?: boolean | undefined
}

export interface CodecCase {
  readonly maker: CodecMaker
}

/** Everything a decoder made of a stream. */
interface Outcome {
  readonly messages: unknown[]
  readonly error?: string | undefined
  readonly offset?: number | undefined
  readonly rest: string
}

function decode(codec: Codec<unknown>, chunks: Iterable<Uint8Array>, ended: boolean): Outcome {
  const decoder = codec.decoder()
  const messages: unknown[] = []
  const drain = () => {
    for (let message = decoder.next(); message !== undefined; message = decoder.next()) messages.push(message)
  }
  try {
    for (const chunk of chunks) {
      // The chunk belongs to the decoder, and the caller's stream does not.
      decoder.push(chunk.slice())
      drain()
    }
    if (ended) {
      decoder.end()
      drain()
    }
  } catch (error) {
    assert.ok(error instanceof FrameError, `a decoder may fail with FrameError only, not with ${String(error)}`)
    const { code, offset, received } = error as FrameError & { offset?: number; received?: number }
    assert.throws(() => decoder.next(), FrameError, 'a decoder that failed has failed for good')
    return { messages, error: code === 'INCOMPLETE' ? `INCOMPLETE ${received}` : code, offset, rest: '' }
  }
  return { messages, rest: Buffer.from(decoder.rest()).toString('hex') }
}

function* cuts(bytes: Uint8Array, lengths: () => number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length;) {
    const length = Math.max(1, lengths())
    yield bytes.subarray(at, at + length)
    at += length
  }
}

/** The same outcome for the whole, byte by byte, in random pieces, and with each cut in two. */
function sameHoweverCut(codec: Codec<unknown>, bytes: Uint8Array, ended: boolean, what: string): Outcome {
  const whole = decode(codec, bytes.length > 0 ? [bytes] : [], ended)
  const random = new Random(bytes.length + 1)
  // Where decoding fails, what had been decoded before and where it failed must agree; the rest is not defined.
  assert.deepEqual(
    decode(
      codec,
      cuts(bytes, () => 1),
      ended,
    ),
    whole,
    `${what}, byte by byte`,
  )
  for (let i = 0; i < 20; i++)
    assert.deepEqual(
      decode(
        codec,
        cuts(bytes, () => random.int(1, 16)),
        ended,
      ),
      whole,
      `${what}, in random pieces`,
    )
  for (let at = 1; at < Math.min(bytes.length, 512); at++) {
    assert.deepEqual(decode(codec, [bytes.subarray(0, at), bytes.subarray(at)], ended), whole, `${what}, cut at ${at}`)
  }
  return whole
}

function encodeAll(codec: Codec<unknown>, messages: readonly unknown[]): Uint8Array {
  return new Uint8Array(Buffer.concat(messages.map((message) => codec.encode(message))))
}

export const CODEC_PROPERTIES: readonly Property<CodecCase>[] = [
  {
    id: 'F1',
    title: 'messages, errors and offsets do not depend on how the stream is cut',
    async run({ maker }) {
      const codec = maker.codec()
      if (maker.unframed) return
      const stream = encodeAll(codec, maker.messages)
      const { messages, error } = sameHoweverCut(codec, stream, true, 'the messages')
      assert.equal(error, undefined)
      assert.deepEqual(messages, [...(maker.decoded ?? maker.messages)])
    },
  },
  {
    id: 'F2',
    title: 'the longest message passes, one byte more fails, however it is cut',
    async run({ maker }) {
      const codec = maker.codec()
      if (maker.longest === undefined) return
      const { fits, tooLong, tooLongEncoded } = maker.longest
      assert.equal(sameHoweverCut(codec, codec.encode(fits), true, 'the longest message').messages.length, 1)
      const refusal = { name: 'FrameError', code: /TOO_LONG|BAD_MESSAGE/ }
      assert.throws(() => codec.encode(tooLong), refusal)
      const outcome = sameHoweverCut(codec, tooLongEncoded, false, 'one byte more')
      assert.equal(outcome.error, 'TOO_LONG')
      assert.equal(outcome.messages.length, 0)
      assert.equal(outcome.offset, 0)
    },
  },
  {
    id: 'F4',
    title: 'an end inside a message is INCOMPLETE with its byte count, one between messages is clean',
    async run({ maker }) {
      const codec = maker.codec()
      if (maker.unframed) return
      const ends: number[] = [0]
      for (const message of maker.messages) ends.push((ends.at(-1) as number) + codec.encode(message).length)
      const stream = encodeAll(codec, maker.messages)
      for (let at = 0; at <= Math.min(stream.length, 512); at++) {
        const { error, offset, messages } = decode(codec, [stream.subarray(0, at)], true)
        const start = ends.filter((end) => end <= at).at(-1) as number
        if (start === at) assert.equal(error, undefined, `an end at ${at}, between messages`)
        else {
          assert.equal(error, `INCOMPLETE ${at - start}`, `an end at ${at}`)
          assert.equal(offset, start)
        }
        assert.equal(messages.length, ends.indexOf(start))
      }
    },
  },
  {
    id: 'F7',
    title: 'any bytes give messages or FrameError, however cut; the encoder refuses what would be read differently',
    async run({ maker }) {
      const codec = maker.codec()
      const random = new Random(7)
      for (let i = 0; i < 200; i++) {
        const bytes = random.bytes(random.int(0, 48))
        if (maker.unframed) decode(codec, [bytes], true)
        else sameHoweverCut(codec, bytes, true, `the bytes ${Buffer.from(bytes).toString('hex')}`)
      }
      for (const message of maker.refused ?? []) assert.throws(() => codec.encode(message), { name: 'FrameError' })
    },
  },
  {
    id: 'F8',
    title: 'what is left over can be had back at any moment',
    async run({ maker }) {
      const codec = maker.codec()
      const stream = encodeAll(codec, maker.messages)
      const decoder = codec.decoder()
      decoder.push(stream.slice())
      for (;;) {
        assert.deepEqual(Buffer.from(decoder.rest()), Buffer.from(stream.subarray(decoder.offset)))
        if (decoder.next() === undefined) break
      }
      assert.equal(decoder.offset, stream.length)
    },
  },
]

/**
 * Checks a codec: registers one test for each property.
 *
 * ```ts
 * import { test } from 'node:test'
 * import { codecs } from 'fairlead'
 * import { checkCodec } from 'fairlead/testing'
 *
 * checkCodec({ name: 'lines', codec: () => codecs.lines(), messages: ['', 'one', 'zwei'], refused: ['a\nb'] }, { test })
 * ```
 *
 * @returns the ids of the properties that were registered
 */
export function checkCodec<T, S = T>(maker: CodecMaker<T, S>, o: CheckOptions): string[] {
  const subject: CodecCase = { maker: maker as unknown as CodecMaker }
  return register(maker.name, CODEC_PROPERTIES, o, async () => ({ subject, close: async () => {} }))
}
