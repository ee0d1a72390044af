import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { codecs, json } from '#src/codecs.js'
import { type FrameError, SocketError } from '#src/errors.js'
import { type Codec, defineCodec, FrameInput, FrameOutput, mapped } from '#src/framing.js'

const utf8 = (text: string) => Uint8Array.from(Buffer.from(text))
const bytes = (...values: number[]) => Uint8Array.from(values)
const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'))
const joined = (...parts: Uint8Array[]) => Uint8Array.from(Buffer.concat(parts))

/** Whole numbers below `n`, the same ones each time. */
function numbers(seed: number): (n: number) => number {
  let state = seed
  return (n) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * n)
  }
}

interface Outcome {
  messages: unknown[]
  error?: { code: string; message: string; offset: number; received: number | undefined }
}

/** What a decoder makes of a stream that arrives in these chunks and then ends. */
function decode(codec: Codec<unknown, never>, chunks: Iterable<Uint8Array>): Outcome {
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
    return { messages }
  } catch (error) {
    if (!(error instanceof SocketError)) throw error
    const { code, message, offset, received } = error as FrameError & { offset: number; received?: number }
    assert.equal(error.name, 'FrameError')
    assert.equal(decoder.offset, offset)
    return { messages, error: { code, message, offset, received } }
  }
}

function* cut(stream: Uint8Array, size: (at: number) => number): Generator<Uint8Array> {
  for (let at = 0; at < stream.length;) {
    const count = Math.max(1, size(at))
    yield stream.subarray(at, at + count)
    at += count
  }
}

interface Sample {
  codec: Codec<unknown, never>
  messages: readonly unknown[]
  /** Streams that end in an error, or hold what the messages do not. */
  streams: Record<string, Uint8Array>
}

const payloads = [bytes(), bytes(0), utf8('hello'), new Uint8Array(127).fill(10), new Uint8Array(128).fill(13), bytes(255, 254, 0, 128)]
const of = <T, S>(codec: Codec<T, S>, messages: readonly S[], streams: Record<string, Uint8Array> = {}): Sample => ({
  codec: codec as Codec<unknown, never>,
  messages,
  streams,
})

const samples: Sample[] = [
  ...([1, 2, 4, 8] as const).flatMap((size) =>
    (['big', 'little'] as const).map((endian) =>
      of(codecs.lengthPrefixed({ bytes: size, endian, max: 200 }), payloads, {
        'all ones': new Uint8Array(size + 3).fill(255),
        'cut in the header or behind it': bytes(...Array<number>(size - 1).fill(0), ...(size === 1 ? [9, 1] : [])),
        'a good message, then 201': joined(
          codecs.lengthPrefixed({ bytes: size, endian }).encode('ok'),
          codecs.lengthPrefixed({ bytes: size, endian }).encode(new Uint8Array(201)),
        ),
        'cut in the payload': codecs
          .lengthPrefixed({ bytes: size, endian })
          .encode('twelve bytes')
          .subarray(0, size + 5),
      }),
    ),
  ),
  of(codecs.lengthPrefixed({ bytes: 2, includesHeader: true }), payloads, { 'less than its header': hex('0003 61 0001') }),
  of(codecs.varint({ max: 300 }), payloads, {
    'all ones': new Uint8Array(12).fill(255),
    'no end of the length': new Uint8Array(12).fill(128),
    'a length that is longer than it need be': hex('81 00 61 80 80 80 00'),
    'one more than the limit': hex('ad 02'),
    'cut in the length': hex('01 61 ac'),
    'cut in the payload': hex('05 61 61'),
  }),
  of(codecs.netstring({ max: 200 }), payloads, {
    'the example of its page': utf8('12:hello world!,'),
    'one more than the limit': utf8('0:,201:'),
    'a leading zero': utf8('0:,01:a,'),
    'two zeros': utf8('00:,'),
    'no digits': utf8(':,'),
    'a sign': utf8('1:a,+1:a,'),
    'a space': utf8(' 1:a,'),
    'no comma': utf8('1:a,1:a;'),
    'a comma too early': utf8('3:ab,x'),
    'digits only': new Uint8Array(64).fill(0x39),
    'cut in the length': utf8('1:a,12'),
    'cut in the payload': utf8('1:a,12:hello'),
    'cut before the comma': utf8('1:a,5:hello'),
  }),
  of(codecs.header({ size: 12, at: 3, bytes: 3, endian: 'little', adjust: -12, max: 200 }), payloads, {
    'less than its header': hex('000000 0b0000 000000000000'),
    'over the limit, seen before the header is complete': hex('000000 d50000'),
    'any other bytes': hex('010203 0d0000 040506070809 61 ffffff 0c0000 ffffffffffff'),
    'cut behind the length': hex('000000 0d0000 00'),
  }),
  of(codecs.header({ size: 4, at: 2, bytes: 2, message: 'frame', max: 8 }), [hex('01020000'), hex('01020003 616263')], {
    'over the limit': hex('01020009'),
    cut: hex('01020003 6162'),
  }),
  of(codecs.header({ size: 1, bytes: 1, adjust: 2 }), [utf8('ab'), utf8('abc')]),
  of(codecs.nul({ max: 8 }), [bytes(), utf8('a'), utf8('12345678')], { long: utf8('a\x00123456789\0'), cut: utf8('a\0b') }),
  of(mapped(codecs.lengthPrefixed({ bytes: 1 }), json()), [null, 0, 'é', [], { a: [1] }], {
    'not JSON': joined(utf8('\u00011\u0002{}'), utf8('\u0003{a}'), utf8('\u00012')),
    'not UTF-8': hex('01 31 03 22ff22'),
    'nothing at all': hex('00'),
    'cut in the payload': hex('01 31 05 31'),
  }),
  of(mapped(codecs.lines({ lastUnterminated: true }), { decode: Number, encode: String }), [1, -2.5], {
    tail: utf8('1\n2'),
  }),
  of(mapped(codecs.lines({ lastUnterminated: true, encoding: 'bytes' }), json()), [1, [2]], {
    'a tail that is no JSON': utf8('1\n2\n{'),
    'a tail that is': utf8('1\n{}'),
  }),
  of(codecs.fixed(5), [utf8('hello'), bytes(0, 10, 13, 255, 1)], { cut: utf8('hello wor') }),
  ...(['lf', 'crlf', 'either'] as const).map((ending) =>
    of(codecs.lines({ ending, max: 8 }), ['', 'a', 'a b c', '12345678', 'é€😀'.slice(0, 2), ending === 'either' ? '\rx' : 'x\r'], {
      'mixed endings': utf8('a\nb\r\nc\r\r\n\r\n\n\n'),
      'one too many': utf8('ok\r\n123456789\r\n'),
      'one too many, then a line feed alone': utf8('ok\r\n123456789\n'),
      'as long as may be, with both endings': utf8('12345678\r\n12345678\n'),
      'a carriage return at the limit that is none': utf8('ok\r\n12345678\rx\n'),
      'cut behind a carriage return at the limit': utf8('12345678\r'),
      unterminated: utf8('a\r\nbc'),
      'never ending': new Uint8Array(64).fill(97),
      'carriage returns only': new Uint8Array(64).fill(13),
    }),
  ),
  of(codecs.lines({ fatal: true }), ['é'], { 'not UTF-8': joined(utf8('ok\n'), bytes(0xc3, 10, 65, 10)) }),
  of(codecs.lines({ encoding: 'latin1' }), ['é', '\0'], { 'any bytes': bytes(0xc3, 10, 0xff, 10) }),
  of(codecs.lines({ encoding: 'bytes' }), [bytes(), bytes(0xff, 0)], {}),
  of(codecs.lines({ lastUnterminated: true, max: 4 }), ['a', 'b'], {
    tail: utf8('a\nbc'),
    'tail with a return': utf8('a\nbc\r'),
    long: utf8('a\n12345'),
  }),
  of(codecs.delimited('\0', { max: 8 }), [bytes(), utf8('a'), utf8('12345678')], { long: utf8('a\x00123456789\0'), cut: utf8('a\0b') }),
  of(codecs.delimited('--', { max: 8 }), [bytes(), utf8('a-b'), utf8('12345678')], {
    'overlapping starts': utf8('a---b----c--'),
    'begun at the limit': utf8('12345678-x'),
    'ended at the limit': utf8('12345678--1234567---'),
    'one too many': utf8('123456789--'),
    cut: utf8('a--b-'),
  }),
  of(codecs.delimited('aab', { max: 6 }), [utf8('a'), utf8('xaax')], { repeats: utf8('aaaaabaabaaaaaaaaab'), cut: utf8('aabaa') }),
  of(codecs.jsonLines({ max: 64 }), [null, 0, -1.5, 'é\n\r\u2028', [], {}, { a: [null, true, { b: 'c' }] }, '\ud800'], {
    'not JSON': utf8('{"a":1}\n{a:1}\n'),
    'an empty line': utf8('1\n\n2\n'),
    'not UTF-8': joined(utf8('1\n"'), bytes(0xff), utf8('"\n')),
    'with carriage returns': utf8('1\r\n[2]\r\n'),
    long: new Uint8Array(66).fill(0x20),
    cut: utf8('1\n2'),
  }),
]

function streamsOf({ codec, messages, streams }: Sample): [string, Uint8Array][] {
  const encode = codec.encode as (message: unknown) => Uint8Array
  return [['its own messages', joined(...messages.map((message) => encode(message)))], ...Object.entries(streams)]
}

describe('every codec', () => {
  for (const sample of samples) {
    const { codec } = sample
    const encode = codec.encode as (message: unknown) => Uint8Array
    for (const [name, stream] of streamsOf(sample)) {
      test(`F1 ${codec.name}: ${name}: the same messages and error at the same offset, however the stream is cut`, () => {
        const whole = decode(codec, [stream])
        assert.deepEqual(
          decode(
            codec,
            cut(stream, () => 1),
          ),
          whole,
          'byte by byte',
        )
        for (let at = 1; at < stream.length; at++) {
          assert.deepEqual(decode(codec, [stream.subarray(0, at), stream.subarray(at)]), whole, `cut at ${at}`)
        }
        const random = numbers(stream.length)
        for (let i = 0; i < 50; i++) {
          const most = 1 + random(40)
          assert.deepEqual(
            decode(
              codec,
              cut(stream, () => random(most)),
            ),
            whole,
            `random cut ${i}`,
          )
        }
      })
    }

    test(`F7 ${codec.name}: decoding gives back what was encoded`, () => {
      const { messages, error } = decode(codec, [joined(...sample.messages.map((message) => encode(message)))])
      assert.equal(error, undefined)
      assert.deepEqual(
        messages.map((message) => (message instanceof Uint8Array ? Buffer.from(message) : message)),
        sample.messages.map((message) => (message instanceof Uint8Array ? Buffer.from(message) : message)),
      )
    })

    test(`F4 ${codec.name}: an end between messages is none of its business`, () => {
      assert.deepEqual(decode(codec, []), { messages: [] })
    })

    test(`F8 ${codec.name}: what follows a message can be had back`, () => {
      const first = encode(sample.messages.at(-1))
      const decoder = codec.decoder()
      decoder.push(joined(first, first.subarray(0, 1)))
      decoder.next()
      assert.deepEqual(decoder.rest(), first.slice(0, 1))
      assert.equal(decoder.offset, first.length)
    })

    test(`${codec.name}: appending many gives the bytes of each`, () => {
      const output = new FrameOutput(7)
      for (const message of sample.messages) (codec.append as (message: unknown, output: FrameOutput) => void)(message, output)
      assert.deepEqual(output.join(), joined(...sample.messages.map((message) => encode(message))))
    })
  }

  test('a decoder that failed says so each time, and takes nothing more', () => {
    const decoder = codecs.lines({ max: 2 }).decoder()
    decoder.push(utf8('ok\nlong\nok\n'))
    assert.equal(decoder.next(), 'ok')
    const failed = { name: 'FrameError', code: 'TOO_LONG', offset: 3, phase: 'frame' }
    assert.throws(() => decoder.next(), failed)
    assert.throws(() => decoder.next(), failed)
    assert.throws(() => decoder.push(utf8('x')), failed)
    assert.throws(() => decoder.end(), failed)
    assert.equal(Buffer.from(decoder.rest()).toString(), 'long\nok\n')
  })

  test('F4 an end inside a message tells how many of its bytes came', () => {
    const decoder = codecs.lengthPrefixed().decoder()
    decoder.push(joined(codecs.lengthPrefixed().encode('first'), hex('00000009 6162')))
    decoder.end()
    assert.deepEqual(decoder.next(), utf8('first'))
    assert.throws(() => decoder.next(), { code: 'INCOMPLETE', offset: 9, received: 6 })
  })

  test('nothing can be pushed after the end', () => {
    const decoder = codecs.raw().decoder()
    decoder.end()
    decoder.end()
    assert.throws(() => decoder.push(bytes(1)), { name: 'Closed', code: 'ENDED' })
    assert.equal(decoder.next(), undefined)
  })
})

describe('limits', () => {
  const limited: [string, (max: number) => Codec<unknown, never>, number][] = [
    ['length prefix', (max) => codecs.lengthPrefixed({ max }), 100],
    ['varint', (max) => codecs.varint({ max }), 200],
    ['netstring', (max) => codecs.netstring({ max }), 100],
    ['header', (max) => codecs.header({ size: 6, at: 1, max, adjust: -6 }), 100],
    ['nul', (max) => codecs.nul({ max }), 100],
    ['mapped', (max) => mapped(codecs.lengthPrefixed({ max }), { decode: String, encode: (value: string) => value }), 100],
    ['lines', (max) => codecs.lines({ max }), 100],
    ['delimiter', (max) => codecs.delimited('::', { max }), 100],
    ['JSON lines', (max) => codecs.jsonLines({ max }), 100],
  ]
  for (const [name, make, max] of limited) {
    test(`F2 ${name}: exactly the limit passes, one more fails, in both directions and however it is cut`, () => {
      const message = (length: number) => (name === 'JSON lines' ? 'x'.repeat(length - 2) : 'x'.repeat(length)) as never
      const exact = make(max).encode(message(max))
      const over = make(max + 1).encode(message(max + 1))
      assert.throws(() => make(max).encode(message(max + 1)), { name: 'FrameError', code: 'TOO_LONG' })
      for (const size of [1, 7, 99, 100, 101, 1000]) {
        assert.equal(
          decode(
            make(max),
            cut(exact, () => size),
          ).messages.length,
          1,
        )
        assert.equal(
          decode(
            make(max),
            cut(over, () => size),
          ).error?.code,
          'TOO_LONG',
        )
      }
    })
  }

  test('a size on the wire limits what one byte of length can send', () => {
    assert.equal(codecs.lengthPrefixed({ bytes: 1 }).encode(new Uint8Array(255)).length, 256)
    assert.throws(() => codecs.lengthPrefixed({ bytes: 1 }).encode(new Uint8Array(256)), { code: 'TOO_LONG' })
    assert.throws(() => codecs.lengthPrefixed({ bytes: 1, includesHeader: true }).encode(new Uint8Array(255)), { code: 'TOO_LONG' })
  })

  const hostile: [string, Codec<Uint8Array, never>, string][] = [
    ['2^31', codecs.lengthPrefixed(), '80000000'],
    ['2^32 - 1', codecs.lengthPrefixed(), 'ffffffff'],
    ['one over 16 MiB', codecs.lengthPrefixed(), '01000001'],
    ['2^32 - 1, little endian', codecs.lengthPrefixed({ endian: 'little' }), 'ffffffff'],
    ['2^63', codecs.lengthPrefixed({ bytes: 8 }), '8000000000000000'],
    ['2^64 - 1', codecs.lengthPrefixed({ bytes: 8 }), 'ffffffffffffffff'],
    ['2^53 + 1', codecs.lengthPrefixed({ bytes: 8 }), '0020000000000001'],
    ['2^32, whose lower half is 0', codecs.lengthPrefixed({ bytes: 8 }), '0000000100000000'],
    ['2^32, little endian', codecs.lengthPrefixed({ bytes: 8, endian: 'little' }), '0000000001000000'],
    ['2^64 - 1 as varint', codecs.varint(), 'ffffffffffffffffff01'],
    ['2^63 as varint', codecs.varint(), '80808080808080808001'],
    ['2^32 as varint', codecs.varint(), '8080808010'],
    ['2^64 - 1 in a header', codecs.header({ size: 10, at: 1, bytes: 8, adjust: -10 }), '00 ffffffffffffffff'],
    ['2^24 - 1 in a header, little endian', codecs.header({ size: 4, bytes: 3, endian: 'little', max: 2 ** 20 }), 'ffffff'],
    ['2^63 as netstring', codecs.netstring(), Buffer.from('9223372036854775808').toString('hex')],
    ['one over 16 MiB as netstring', codecs.netstring(), Buffer.from('16777217').toString('hex')],
  ]
  for (const [name, codec, header] of hostile) {
    test(`F3 F6 a length of ${name} fails on the header`, () => {
      assert.equal(decode(codec, [hex(header)]).error?.code, 'TOO_LONG')
      assert.equal(decode(codec, [hex(header)]).error?.offset, 0)
    })
  }

  test('F6 the message of a 64-bit length is exact', () => {
    const { error } = decode(codecs.lengthPrefixed({ bytes: 8 }), [hex('ffffffffffffffff')])
    assert.match(error?.message ?? '', /18446744073709551615 bytes .* 16777216 bytes, at stream offset 0/)
  })

  test('F3 10,000 hostile headers, and as many of the longest that is allowed, reserve nothing for what does not come', () => {
    const decoders = []
    const before = process.memoryUsage()
    for (let i = 0; i < 10_000; i++) {
      const decoder = codecs.lengthPrefixed().decoder()
      decoder.push(i % 2 === 0 ? hex('ffffffff') : hex('01000000'))
      if (i % 2 === 0) assert.throws(() => decoder.next(), { code: 'TOO_LONG' })
      else assert.equal(decoder.next(), undefined)
      decoders.push(decoder)
    }
    const after = process.memoryUsage()
    assert.ok(after.arrayBuffers - before.arrayBuffers < 1024 * 1024, `${after.arrayBuffers - before.arrayBuffers} bytes`)
    assert.equal(decoders.length, 10_000)
  })

  test('F3 what is reserved for a long message stays within twice what came of it', () => {
    const decoder = codecs.lengthPrefixed().decoder()
    decoder.push(hex('01000000'))
    const before = process.memoryUsage().arrayBuffers
    decoder.next()
    for (let i = 0; i < 1024; i++) {
      decoder.push(new Uint8Array(64))
      assert.equal(decoder.next(), undefined)
    }
    assert.ok(process.memoryUsage().arrayBuffers - before < 1024 * 1024)
  })

  for (const [what, make] of Object.entries({
    'max below 0': () => codecs.lines({ max: -1 }),
    'max of 2^31': () => codecs.lengthPrefixed({ max: 2 ** 31 }),
    'max that is not whole': () => codecs.varint({ max: 1.5 }),
    'max NaN': () => codecs.jsonLines({ max: Number.NaN }),
    'size 0': () => codecs.fixed(0),
    'an empty delimiter': () => codecs.delimited(''),
    'a header of 3 bytes': () => codecs.lengthPrefixed({ bytes: 3 as never }),
    'a length of 5 bytes': () => codecs.header({ size: 8, bytes: 5 as never }),
    'a header smaller than its length': () => codecs.header({ size: 3 }),
    'a length that begins before the header': () => codecs.header({ size: 4, at: -1 }),
    'a length that ends behind the header': () => codecs.header({ size: 8, at: 5 }),
    'a length that cannot count its header': () => codecs.header({ size: 300, bytes: 1, adjust: -300 }),
    'an unknown form of message': () => codecs.header({ size: 4, message: 'both' as never }),
    'an unknown order': () => codecs.lengthPrefixed({ endian: 'middle' as never }),
    'an unknown ending': () => codecs.lines({ ending: 'cr' as never }),
    'an unknown encoding': () => codecs.lines({ encoding: 'utf7' as never }),
  })) {
    test(`${what} is a range error`, () => assert.throws(make, { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }))
  }

  test('wrong types are type errors', () => {
    const typed = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' }
    assert.throws(() => codecs.lines({ max: '1' as never }), typed)
    assert.throws(() => codecs.header({ size: 4.5 }), typed)
    assert.throws(() => codecs.header(null as never), typed)
    assert.throws(() => codecs.lengthPrefixed({ includesHeader: 1 as never }), { ...typed, message: /^includesHeader must be a boolean/ })
    assert.throws(() => codecs.lines({ fatal: 'yes' as never }), { ...typed, message: /^fatal must be a boolean/ })
    assert.throws(() => codecs.lines({ lastUnterminated: 0 as never }), typed)
    assert.throws(() => codecs.delimited(5 as never), { ...typed, message: /^delimiter must be/ })
    assert.throws(() => mapped(codecs.lines(), {} as never), typed)
    assert.throws(
      () => mapped({ name: 'own', decoder: () => codecs.lines().decoder(), encode: utf8 }, { decode: String, encode: String }),
      typed,
    )
    assert.throws(() => codecs.lengthPrefixed().encode(1 as never), typed)
    assert.throws(() => codecs.lines().encode(bytes(1) as never), typed)
    assert.throws(
      () =>
        codecs
          .raw()
          .decoder()
          .push('x' as never),
      typed,
    )
  })
})

describe('F5 linear work', () => {
  const size = 16_384
  /** Bytes that searches looked at while a message that never ends came in, byte by byte or in larger pieces. */
  function searched(t: { mock: typeof test.mock }, codec: Codec<unknown, never>, filler: number, step: number): number {
    let count = 0
    const { indexOf } = FrameInput.prototype
    const mock = t.mock.method(FrameInput.prototype, 'indexOf', function (this: FrameInput, byte: number, from: number, to: number) {
      const found = indexOf.call(this, byte, from, to)
      count += (found === -1 ? to : found + 1) - from
      return found
    })
    const decoder = codec.decoder()
    for (let at = 0; at < size; at += step) {
      decoder.push(new Uint8Array(step).fill(filler))
      assert.equal(decoder.next(), undefined)
    }
    mock.mock.restore()
    return count
  }
  const searching: [string, Codec<unknown, never>, number][] = [
    ['lines of letters', codecs.lines({ max: 2 * size }), 97],
    ['lines of carriage returns', codecs.lines({ max: 2 * size, ending: 'crlf' }), 13],
    ['a delimiter that never begins', codecs.delimited('\r\n', { max: 2 * size }), 97],
    ['a delimiter that always begins', codecs.delimited('\r\n', { max: 2 * size }), 13],
    ['JSON lines', codecs.jsonLines({ max: 2 * size }), 0x20],
  ]
  for (const [name, codec, filler] of searching) {
    test(`${name}: every byte is searched once, give or take a delimiter`, (t) => {
      for (const step of [1, 1000, size]) assert.ok(searched(t, codec, filler, step) <= size * 2.1, `in steps of ${step}`)
    })
  }

  test('bytes that come one by one are moved a bounded number of times', (t) => {
    let moved = 0
    const { set } = Uint8Array.prototype
    t.mock.method(Uint8Array.prototype, 'set', function (this: Uint8Array, from: ArrayLike<number>, at?: number) {
      moved += from.length
      set.call(this, from, at)
    })
    const decoder = codecs.lengthPrefixed().decoder()
    decoder.push(hex('00004000'))
    for (let i = 0; i < size; i++) {
      decoder.push(bytes(1))
      decoder.next()
    }
    assert.ok(moved < size * 3.1, `${moved} moves of ${size} bytes`)
  })
})

describe('encoders refuse what decoders would read differently', () => {
  const bad = { name: 'FrameError', code: 'BAD_MESSAGE' }
  const cases: [string, () => unknown][] = [
    ['a line feed in a line', () => codecs.lines({ ending: 'lf' }).encode('a\nb')],
    ['a line feed in a line ended by both', () => codecs.lines({ ending: 'crlf' }).encode('a\nb')],
    ['both endings in a line', () => codecs.lines({ ending: 'crlf' }).encode('a\r\nb')],
    ['a carriage return at the end', () => codecs.lines().encode('a\r')],
    ['a carriage return at the end, as bytes', () => codecs.lines({ encoding: 'bytes' }).encode(utf8('a\r'))],
    ['half a surrogate pair', () => codecs.lines().encode('a\ud800')],
    ['half a surrogate pair as the text of a payload', () => codecs.lengthPrefixed().encode('\udc00')],
    ['a character that Latin-1 has not', () => codecs.lines({ encoding: 'latin1' }).encode('€')],
    ['the delimiter', () => codecs.delimited('--').encode('a--b')],
    ['half of the delimiter, doubled by the delimiter itself', () => codecs.delimited('--').encode('a-')],
    ['too few bytes', () => codecs.fixed(4).encode('abc')],
    ['a NUL', () => codecs.nul().encode('a\0b')],
    ['less than its header', () => codecs.header({ size: 4, message: 'frame' }).encode('abc')],
    ['less than what the length leaves out', () => codecs.header({ size: 4, adjust: 2 }).encode('a')],
    ['what a mapping cannot encode', () => mapped(codecs.netstring(), json()).encode({ n: 1n })],
    ['undefined', () => codecs.jsonLines().encode(undefined)],
    ['a function', () => codecs.jsonLines().encode(() => {})],
    ['a bigint', () => codecs.jsonLines().encode({ n: 1n })],
    ['a cycle', () => codecs.jsonLines().encode(cyclic())],
    ['JSON too deep for the stack', () => codecs.jsonLines({ max: 2 ** 20 }).encode(nested(200_000))],
  ]
  for (const [what, encode] of cases) test(`F7 ${what}`, () => assert.throws(encode, bad))

  test('F7 too many bytes for a fixed size', () => assert.throws(() => codecs.fixed(4).encode('abcde'), { code: 'TOO_LONG' }))

  test('a message that is refused leaves the output as it was', () => {
    const output = new FrameOutput()
    const codec = codecs.lines({ max: 70_000 })
    codec.append?.('one', output)
    assert.throws(() => codec.append?.('t\nwo', output), bad)
    assert.throws(() => codec.append?.(`${'x'.repeat(69_000)}\n`, output), bad)
    codec.append?.('three', output)
    assert.equal(Buffer.from(output.join()).toString(), 'one\nthree\n')
  })
})

function cyclic(): unknown {
  const cycle: unknown[] = []
  cycle.push(cycle)
  return cycle
}

function nested(depth: number): unknown {
  let value: unknown = 0
  for (let i = 0; i < depth; i++) value = [value]
  return value
}

describe('netstring', () => {
  test('the example of its page', () => {
    assert.deepEqual(codecs.netstring().encode('hello world!'), utf8('12:hello world!,'))
    assert.deepEqual(codecs.netstring().encode(''), utf8('0:,'))
  })
})

describe('header', () => {
  test('the length counts what it is told to, and the other bytes are zero', () => {
    assert.deepEqual(codecs.header({ size: 6, at: 2, bytes: 2, adjust: -6 }).encode('hi'), hex('0000 0008 0000 6869'))
    assert.deepEqual(codecs.header({ size: 4, at: 1, bytes: 3, endian: 'little' }).encode('hi'), hex('00 020000 6869'))
  })

  test('a frame keeps the other bytes of its header, and its length is filled in', () => {
    const codec = codecs.header({ size: 4, at: 1, bytes: 2, message: 'frame' })
    const frame = hex('07 ffff 09 6162')
    assert.deepEqual(codec.encode(frame), hex('07 0002 09 6162'))
    assert.deepEqual(frame, hex('07 ffff 09 6162'))
    assert.deepEqual(decode(codec, [hex('07 0002 09 6162')]).messages, [hex('07 0002 09 6162')])
  })
})

describe('mapped', () => {
  const even = mapped(codecs.fixed(1), {
    decode: ([byte = 0]) => {
      if (byte % 2 === 1) throw new RangeError(`${byte} is odd`)
      return byte === 2 ? undefined : byte
    },
    encode: (value: number | undefined) => {
      if (value === undefined || value > 255) throw new RangeError(`${value} is no byte`)
      return bytes(value)
    },
  })

  test('what decode throws is BAD_FRAME with its place and its cause, and the bytes stay to be had', () => {
    const decoder = even.decoder()
    decoder.push(bytes(4, 6, 7, 8))
    assert.deepEqual([decoder.next(), decoder.next()], [4, 6])
    const failed = { name: 'FrameError', code: 'BAD_FRAME', offset: 2, message: /7 is odd, at stream offset 2/ }
    assert.throws(() => decoder.next(), failed)
    assert.throws(
      () => decoder.next(),
      (error: Error) => (error.cause as Error).cause instanceof RangeError,
    )
    assert.deepEqual(decoder.rest(), bytes(7, 8))
    assert.equal(decoder.offset, 2)
  })

  test('a large message that was handed over whole is put back as well', () => {
    const codec = mapped(codecs.lengthPrefixed(), json())
    const stream = joined(codec.encode('x'.repeat(100_000)), codecs.lengthPrefixed().encode(new Uint8Array(100_000)), bytes(1, 2))
    const decoder = codec.decoder()
    decoder.push(stream.slice())
    assert.equal((decoder.next() as string).length, 100_000)
    assert.throws(() => decoder.next(), { code: 'BAD_FRAME', offset: 100_006 })
    assert.deepEqual(decoder.rest(), stream.slice(100_006))
  })

  test('undefined is no message', () => {
    const decoder = even.decoder()
    decoder.push(bytes(2))
    assert.throws(() => decoder.next(), { code: 'BAD_FRAME', message: /decode gave undefined/ })
  })

  test('what encode throws is BAD_MESSAGE with its cause, but an error of framing stays what it is', () => {
    assert.throws(() => even.encode(256), { name: 'FrameError', code: 'BAD_MESSAGE', message: /256 is no byte/ })
    assert.throws(() => mapped(even, { decode: Number, encode: () => undefined }).encode(1), {
      code: 'BAD_MESSAGE',
      message: /undefined is no byte/,
    })
    assert.throws(() => mapped(codecs.nul({ max: 1 }), json()).encode('long'), { code: 'TOO_LONG' })
  })

  test('mappings stack', () => {
    const codec = mapped(even, { decode: (n) => (n ?? 0) / 2, encode: (half: number) => half * 2 })
    assert.deepEqual(decode(codec, [joined(codec.encode(3), codec.encode(4))]).messages, [3, 4])
  })
})

describe('JSON lines', () => {
  test('nesting as deep as a line allows is decoded or refused, never a stack overflow', () => {
    const deep = `${'['.repeat(10_000)}${']'.repeat(10_000)}\n`
    const { messages, error } = decode(codecs.jsonLines(), [utf8(deep)])
    assert.ok(messages.length === 1 || error?.code === 'BAD_FRAME')
  })

  test('keys that could reach a prototype stay keys', () => {
    const { messages } = decode(codecs.jsonLines(), [utf8('{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}\n')])
    assert.deepEqual(Object.keys(messages[0] as object), ['__proto__', 'constructor'])
    assert.equal(({} as Record<string, unknown>)['polluted'], undefined)
  })
})

describe('memory', () => {
  test('messages are plain, and small ones do not share memory with each other or their chunk', () => {
    const codec = codecs.lengthPrefixed()
    const chunk = joined(codec.encode('one'), codec.encode('two'), new Uint8Array(60_000))
    const decoder = codec.decoder()
    decoder.push(chunk)
    const [one, two] = [decoder.next(), decoder.next()] as [Uint8Array, Uint8Array]
    assert.equal(one.constructor, Uint8Array)
    assert.notEqual(one.buffer, two.buffer)
    assert.notEqual(one.buffer, chunk.buffer)
    assert.ok(one.buffer.byteLength < 64)
  })

  test('a Buffer that is pushed gives plain copies', () => {
    const decoder = codecs.fixed(3).decoder()
    const chunk = Buffer.from('abcdef')
    decoder.push(chunk)
    const message = decoder.next() as Uint8Array
    chunk.fill(0)
    assert.equal(message.constructor, Uint8Array)
    assert.deepEqual(message, utf8('abc'))
  })

  test('a message that is most of its chunk is not copied, and what followed it moves out', () => {
    const codec = codecs.lengthPrefixed()
    const chunk = joined(codec.encode(new Uint8Array(50_000)), codec.encode('next'))
    const decoder = codec.decoder()
    decoder.push(chunk)
    const large = decoder.next() as Uint8Array
    assert.equal(large.buffer, chunk.buffer)
    chunk.fill(255)
    assert.deepEqual(decoder.next(), utf8('next'))
  })

  test('a message that is a small part of its chunk does not hold on to it', () => {
    const codec = codecs.lengthPrefixed()
    const decoder = codec.decoder()
    decoder.push(joined(codec.encode(new Uint8Array(2000)), new Uint8Array(60_000)))
    assert.equal(decoder.next()?.buffer.byteLength, 2000)
  })

  test('a few bytes of a message do not hold on to the chunk they came in', () => {
    const codec = codecs.fixed(8)
    const decoder = codec.decoder()
    let chunk: Uint8Array | undefined = new Uint8Array(64 * 1024 - 1)
    const seen = new WeakRef(chunk.buffer)
    decoder.push(chunk)
    chunk = undefined
    while (decoder.next() !== undefined);
    assert.equal(decoder.rest().length, 7)
    // The garbage collector cannot be asked for here; what can be told is that the chunk is not what is kept.
    const kept = seen.deref()
    if (kept !== undefined) new Uint8Array(kept).fill(255)
    assert.deepEqual(decoder.rest(), new Uint8Array(7))
  })
})

describe('codecs of your own', () => {
  const netstring = defineCodec<Uint8Array>({
    name: 'netstring',
    cut: (input) => {
      const colon = input.indexOf(0x3a, 0, Math.min(input.length, 4))
      if (colon === -1) {
        if (input.length >= 4) throw input.error('TOO_LONG', 'a netstring has a length of three digits at most')
        return undefined
      }
      const digits = input.text(0, colon, 'latin1')
      if (!/^(0|[1-9]\d*)$/.test(digits)) throw input.error('BAD_FRAME', `${JSON.stringify(digits)} is not a length`)
      const length = Number(digits)
      if (input.length < colon + length + 2) return undefined
      if (input.at(colon + 1 + length) !== 0x2c) throw input.error('BAD_FRAME', 'a netstring must end with a comma')
      input.skip(colon + 1)
      const message = input.take(length)
      input.skip(1)
      return message
    },
    append: (message, output) => {
      output.text(`${message.length}:`, 'latin1')
      output.bytes(message)
      output.byte(0x2c)
    },
  })

  test('a netstring takes a dozen lines and keeps F1', () => {
    const stream = utf8('5:hello,0:,1:x,2:yy;')
    const whole = decode(netstring as Codec<unknown, never>, [stream])
    assert.deepEqual(whole.messages.map(String), [utf8('hello'), bytes(), utf8('x')].map(String))
    assert.deepEqual([whole.error?.code, whole.error?.offset], ['BAD_FRAME', 15])
    assert.deepEqual(
      decode(
        netstring as Codec<unknown, never>,
        cut(stream, () => 1),
      ),
      whole,
    )
    assert.equal(Buffer.from(netstring.encode(utf8('hello'))).toString(), '5:hello,')
  })

  test('a mistake in it is a frame error with its cause, not a crash', () => {
    const cause = new TypeError('no such thing')
    const decoder = defineCodec<never>({
      name: 'broken',
      cut: () => {
        throw cause
      },
      append: () => {},
    }).decoder()
    decoder.push(bytes(1))
    assert.throws(() => decoder.next(), { name: 'FrameError', code: 'BAD_FRAME', cause })
  })
})

describe('the output', () => {
  test('a byte and a number that just do not fit into the memory begun stand in the next, and the one before stays as it is', () => {
    const appended: readonly [length: number, append: (output: FrameOutput) => void][] = [
      [1, (output) => output.byte(7)],
      [2, (output) => output.uint(0x0707, 2, false)],
      [1, (output) => output.bytes(bytes(7))],
      [1, (output) => output.text('\x07', 'utf8')],
    ]
    for (const [length, append] of appended) {
      const output = new FrameOutput(8)
      output.bytes(new Uint8Array(8).fill(1))
      append(output)
      assert.deepEqual([...output.join()], [...Array.from({ length: 8 }, () => 1), ...Array.from({ length }, () => 7)])
    }
  })

  test('a message may end wherever the memory of the encoder does', () => {
    for (const codec of [codecs.netstring(), codecs.varint(), codecs.lines(), codecs.nul()] as Codec<Uint8Array | string, string>[]) {
      for (let length = 0; length < 300; length++) {
        const message = 'x'.repeat(length)
        const decoder = codec.decoder()
        decoder.push(codec.encode(message))
        assert.equal(Buffer.from(decoder.next() ?? '').toString(), message, `${codec.name}, ${length} bytes`)
      }
    }
  })

  test('large pieces are kept as they are, small ones gathered, and any length can be cut off', () => {
    const random = numbers(7)
    for (let round = 0; round < 30; round++) {
      const output = new FrameOutput(1 + random(64))
      let expected: Uint8Array = new Uint8Array(0)
      for (let i = 0; i < 40; i++) {
        const length = random(10) === 0 ? 16_000 + random(60_000) : random(300)
        const part = new Uint8Array(length).fill(i)
        if (random(5) === 0) {
          output.text('x'.repeat(length), 'utf8')
          part.fill(120)
        } else output.bytes(part)
        expected = joined(expected, part)
        if (random(4) === 0) {
          expected = expected.slice(0, random(expected.length + 1))
          output.truncate(expected.length)
        }
        assert.equal(output.length, expected.length)
      }
      assert.ok(Buffer.from(output.join()).equals(expected))
      const pieces = output.pieces()
      assert.ok(Buffer.concat(Array.isArray(pieces) ? pieces : [pieces]).equals(expected))
    }
  })
})

test('an unknown option of a codec is refused by name, with the nearest known one', () => {
  assert.throws(() => codecs.lengthPrefixed({ maxx: 1 } as never), {
    name: 'OptionError',
    code: 'UNKNOWN_OPTION',
    message: /"maxx".*"max"/,
  })
  assert.throws(() => codecs.lines({ endings: 'lf' } as never), { name: 'OptionError', message: /"endings".*"ending"/ })
  assert.throws(() => codecs.jsonLines({ reviver: () => {} } as never), { name: 'OptionError' })
})
