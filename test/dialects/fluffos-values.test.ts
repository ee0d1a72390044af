/** LPC values on the wire: the grammar of the driver, its tolerance and its limits, and hostile input. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { connect, listen } from 'fairlead'
import {
  createDriver,
  type Decoded,
  decodeValue,
  encodeFrame,
  encodeValue,
  LpcClass,
  LpcFloat,
  type LpcValue,
  LpcValueError,
  mudFrames,
} from 'fairlead/fluffos'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const map = (...pairs: [Decoded, Decoded][]): Map<Decoded, Decoded> => new Map(pairs)

const seconds = Number(process.env['FAIRLEAD_FUZZ_SECONDS'] ?? 1)
const fuzz = {
  seed: Number(process.env['FAIRLEAD_FUZZ_SEED'] ?? 20_261_120),
  numRuns: seconds > 1 ? 10_000_000 : 500,
  interruptAfterTimeLimit: seconds * 1000,
  markInterruptAsFailure: false,
} as const

/** `depth` arrays around nothing. */
function nested(depth: number): LpcValue[] {
  let value: LpcValue[] = []
  for (let i = 1; i < depth; i++) value = [value]
  return value
}

describe('encoding', () => {
  const vectors: [LpcValue, string][] = [
    [0, '0'],
    [5, '5'],
    [-7, '-7'],
    [undefined, '0'],
    [null, '0'],
    [9_223_372_036_854_775_807n, '9223372036854775807'],
    [-9_223_372_036_854_775_808n, '-9223372036854775808'],
    [2 ** 60, '1152921504606846976'],
    [1.5, '1.500000'],
    [new LpcFloat(2), '2.000000'],
    [1e20, '100000000000000000000.000000'],
    [new LpcFloat(1e22), '10000000000000000000000.000000'],
    [1e-10, '0.000000'],
    [-1e-10, '-0.000000'],
    [-0, '-0.000000'],
    ['', '""'],
    ['a"b\\c', '"a\\"b\\\\c"'],
    ['cr\rlf\n', '"cr\\\rlf\r"'],
    ['äöü €😀', '"äöü €😀"'],
    [[], '({})'],
    [[1, 'a', [2]], '({1,"a",({2,}),})'],
    [new Map(), '([])'],
    [new Map<LpcValue, LpcValue>([['a', 1]]), '(["a":1,])'],
    [{ a: 1, b: [] }, '(["a":1,"b":({}),])'],
    [new LpcClass([1, 'x']), '(/1,"x",/)'],
    [new LpcClass([]), '(//)'],
    [() => 1, ''],
    [new Uint8Array(3), ''],
    [[() => 1, 1], '({,1,})'],
    [new Map<LpcValue, LpcValue>([[new Uint8Array(1), new Date(0)]]), '([:,])'],
  ]
  for (const [value, text] of vectors) test(`of ${text === '' ? 'what has no text' : text}`, () => assert.equal(encodeValue(value), text))

  test('a frame counts the text and a NUL behind it', () => {
    assert.equal(hex(encodeFrame(5)), '000000023500')
    assert.equal(hex(encodeFrame(() => 1)), '0000000100')
    assert.equal(hex(encodeFrame('ä')), '0000000522c3a42200')
  })

  test('an object of a driver is none of its mappings', () => {
    const driver = createDriver({ master: {} })
    const object = driver.load('/ob', () => ({ hp: 1 }))
    assert.equal(encodeValue([object, 1]), '({,1,})')
  })

  test('100 nested containers are encoded, 101 are EEBADDATA, and so is a value that contains itself', () => {
    assert.equal(encodeValue(nested(100)).length, 100 * 4 + 99)
    const refused = { name: 'LpcValueError', code: 'EEBADDATA' }
    assert.throws(() => encodeValue(nested(101)), refused)
    const ring: LpcValue[] = []
    ring.push(ring)
    assert.throws(() => encodeValue(ring), refused)
    let double: LpcValue[] = []
    for (let i = 0; i < 90; i++) double = [double, double]
    assert.throws(() => encodeValue(double), refused)
  })

  test('the memory behind a text grows with it, wherever that happens', () => {
    const pieces = { a: 'a', '"': '\\"', é: 'é', '€': '€', '😀': '😀' }
    for (const [piece, text] of Object.entries(pieces)) {
      for (let count = 0; count < 1_100; count++) {
        const value = [piece.repeat(count), ...Array.from({ length: 1_100 - count }, () => 12)]
        assert.equal(encodeValue(value), `({"${text.repeat(count)}",${'12,'.repeat(1_100 - count)}})`)
      }
    }
  })

  test('what the other side would read otherwise is refused', () => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, 2n ** 63n, 'a\0b', '\ud800', 'x\udc00y', Symbol('s'), true])
      assert.throws(() => encodeValue(value as LpcValue), { name: 'LpcValueError', code: 'EETYPENOTSUPP' })
  })
})

describe('decoding', () => {
  const vectors: [string, Decoded | undefined][] = [
    ['', 0],
    ['0', 0],
    ['-0', 0],
    ['-12', -12],
    ['12abc', 12],
    ['-', undefined],
    ['-x', undefined],
    ['9223372036854775807', 9_223_372_036_854_775_807n],
    ['9223372036854775808', -9_223_372_036_854_775_808n],
    ['18446744073709551617', 1],
    ['1.2', 1.2],
    ['1.', 1],
    ['1e+5', 100_000],
    ['1.5e-1', 0.15],
    ['1e5', undefined],
    ['nan', 0],
    ['true', 0],
    ['+5', 0],
    [' 5', 0],
    ["'a'", 0],
    ['""', ''],
    ['"\r"', '\n'],
    ['"\\""', '"'],
    ['"\\"\\x\r"', '"x\n'],
    ['"\\\r"', '\r'],
    ['"', undefined],
    ['"\\', undefined],
    ['"\\x\\', undefined],
    ['"a"x', undefined],
    ['"\\x"x', undefined],
    ['"\r"\r', undefined],
    ['({})', []],
    ['({,})', [0]],
    ['({,,})', [0, 0]],
    ['({1,"a",({2,}),})', [1, 'a', [2]]],
    ['({1,2})', undefined],
    ['({1,2,}', undefined],
    ['({1,2,})junk', [1, 2]],
    ['({ 1,})', undefined],
    ['({1 ,2,})', [1, 0]],
    ['({1x2,})', [1]],
    ['({"a" ,})', undefined],
    ['({({1 ,2,}),})', undefined],
    ['([])', map()],
    ['([:,])', map([0, 0])],
    ['([1:2,])', map([1, 2])],
    ['([1:2])', undefined],
    ['([1,2,])', undefined],
    ['(["a":1,"a":2,])', map(['a', 2])],
    ['([:0{({,])', undefined],
    ['(/1,2,/)', new LpcClass([1, 2])],
    ['(//)', new LpcClass([])],
    ['(/1,2,})', undefined],
    ['(1)', undefined],
    ['(', undefined],
    ['({', undefined],
    ['(["__proto__":({1,}),"constructor":2,])', map(['__proto__', [1]], ['constructor', 2])],
  ]
  for (const [text, value] of vectors) test(`of ${JSON.stringify(text)}`, () => assert.deepEqual(decodeValue(text), value))

  test('stops at the first NUL, and refuses strings that are not UTF-8', () => {
    assert.equal(decodeValue(Buffer.from('5\0junk')), 5)
    assert.equal(decodeValue(Buffer.from('"a\0b"')), undefined)
    assert.equal(decodeValue(Buffer.from('22fffe22', 'hex')), undefined)
    assert.equal(decodeValue(Buffer.from('22c3a4eda08022', 'hex')), undefined)
    assert.equal(decodeValue(Buffer.from('3132ff', 'hex')), 12)
    assert.equal(decodeValue(Buffer.from('"\\ä€"')), 'ä€')
  })

  test('floats can be told from ints', () => {
    assert.deepEqual(decodeValue('({1.000000,1,})', { floats: 'wrapped' }), [new LpcFloat(1), 1])
    assert.equal(Number(new LpcFloat(2)) * 3, 6)
  })

  test('101 nested containers are taken, 102 are not, however many stand beside each other', () => {
    const text = (depth: number) => '({'.repeat(depth) + ',})'.repeat(depth).slice(1)
    assert.notEqual(decodeValue(text(101)), undefined)
    assert.equal(decodeValue(text(102)), undefined)
    assert.equal(decodeValue('({'.repeat(100_000)), undefined)
    assert.equal((decodeValue(`({${'({}),'.repeat(10_000)}})`) as unknown[]).length, 10_000)
  })

  test('arrays and mappings beyond the limits are not taken', () => {
    assert.equal((decodeValue(`({${'1,'.repeat(15_000)}})`) as unknown[]).length, 15_000)
    assert.equal(decodeValue(`({${'1,'.repeat(15_001)}})`), undefined)
    assert.equal(decodeValue('([1:1,2:2,])', { maximumMappingSize: 1 }), undefined)
    assert.equal(decodeValue('({({1,2,}),})', { maximumArraySize: 1 }), undefined)
  })

  test('what makes the two passes of the original disagree costs no more than its length', () => {
    for (const text of [
      `({${'1x,'.repeat(80_000)}})`,
      `({${'1x'.repeat(120_000)}})`,
      `([${'1x:1x,'.repeat(40_000)}])`,
      '9'.repeat(250_000),
    ]) {
      const before = process.cpuUsage().user
      decodeValue(text)
      assert.ok(process.cpuUsage().user - before < 1_000_000)
    }
  })
})

describe('any value', () => {
  const int = fc.oneof(fc.integer(), fc.maxSafeInteger(), fc.bigInt({ min: 2n ** 60n, max: 2n ** 63n - 1n }))
  const string = fc.oneof(fc.string({ unit: 'binary' }), fc.string()).map((text) => text.replaceAll('\0', ''))
  const leaf = fc.oneof(int, string, fc.constantFrom('"', '\\', '\r', '\n', '\r\n', '({', '__proto__'))
  const { value } = fc.letrec<{ value: Decoded }>((tie) => ({
    value: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      leaf,
      fc.array(tie('value'), { maxLength: 6 }),
      fc.array(fc.tuple(leaf, tie('value')), { maxLength: 6 }).map((pairs) => new Map(pairs)),
      fc.array(tie('value'), { maxLength: 4 }).map((members) => new LpcClass(members)),
    ),
  }))

  test('comes back as it was', () => {
    fc.assert(
      fc.property(value, (value) => assert.deepEqual(decodeValue(encodeFrame(value).subarray(4)), value)),
      fuzz,
    )
  })

  test('a float comes back with six decimals', () => {
    fc.assert(
      fc.property(fc.double({ min: -1e15, max: 1e15, noNaN: true }), (float) => {
        const back = decodeValue(encodeValue(new LpcFloat(float)), { floats: 'wrapped' }) as LpcFloat
        assert.ok(back instanceof LpcFloat)
        assert.ok(Math.abs(back.value - float) <= 5e-7 + Math.abs(float) * 1e-15)
      }),
      fuzz,
    )
  })

  test('a float has the digits of %f', () => {
    const few = fc
      .tuple(fc.integer({ min: -(10 ** 12), max: 10 ** 12 }), fc.integer({ min: 0, max: 9 }))
      .map(([digits, scale]) => digits / 10 ** scale)
    fc.assert(
      fc.property(fc.oneof(few, fc.double({ min: -1e20, max: 1e20, noNaN: true })), (float) => {
        assert.equal(encodeValue(new LpcFloat(float)), Object.is(float, -0) ? '-0.000000' : float.toFixed(6))
      }),
      fuzz,
    )
  })

  test('of strange bytes is something or undefined, and never an error or a polluted prototype', () => {
    const piece = fc.constantFrom(
      '({',
      '([',
      '(/',
      '})',
      '])',
      '/)',
      ',',
      ':',
      '"',
      '\\',
      '\r',
      '-',
      '.',
      'e+',
      '1',
      '0',
      'x',
      ' ',
      '"a"',
      '"__proto__"',
    )
    fc.assert(
      fc.property(
        fc.oneof(
          fc.array(piece).map((all) => Buffer.from(all.join(''))),
          fc.uint8Array(),
        ),
        (bytes) => {
          const value = decodeValue(bytes)
          if (value !== undefined && Number.isFinite(Number(value))) encodeValue(value)
          assert.equal(({} as Record<string, unknown>)['a'], undefined)
        },
      ),
      fuzz,
    )
  })

  test('changed in one place never throws', () => {
    fc.assert(
      fc.property(value, fc.nat(), fc.nat(255), (value, at, byte) => {
        const bytes = encodeFrame(value).slice(4)
        bytes[at % bytes.length] = byte
        decodeValue(bytes)
      }),
      fuzz,
    )
  })
})

describe('frames without a driver', () => {
  test('values go both ways, however they are cut, and what cannot be decoded is undefined', async () => {
    await using listener = await listen('tcp://127.0.0.1:0')
    await using client = await connect(listener.endpoint)
    await using server = (await listener.accept()).frames(mudFrames({ maximumByteTransfer: 100 }))
    const bytes = Buffer.concat([encodeFrame([1, 'zwei']), Buffer.from('000000027b7b', 'hex'), Buffer.from('0000000135', 'hex')])
    bytes.write('({', bytes.indexOf('{{'))
    for (const byte of bytes) await client.write(Uint8Array.of(byte))
    assert.deepEqual(await server.receive(), { value: [1, 'zwei'] })
    assert.deepEqual(await server.receive(), { value: undefined })
    assert.deepEqual(await server.receive(), { value: 5 })
    await server.send({ a: 1 })
    assert.equal(hex((await client.readExactly(15)) as Uint8Array), hex(encodeFrame({ a: 1 })))
    await client.write(Buffer.from('00000065', 'hex'))
    await assert.rejects(server.receive(), { name: 'FrameError', code: 'TOO_LONG' })
  })

  test('a frame of no bytes is malformed', async () => {
    await using listener = await listen('tcp://127.0.0.1:0')
    await using client = await connect(listener.endpoint)
    await using server = (await listener.accept()).frames(mudFrames())
    await client.write(new Uint8Array(4))
    await assert.rejects(server.receive(), { name: 'FrameError', code: 'BAD_FRAME' })
  })

  test('what cannot be encoded is a FrameError with the reason', async () => {
    await using listener = await listen('tcp://127.0.0.1:0')
    await using client = (await connect(listener.endpoint)).frames(mudFrames())
    await assert.rejects(client.send('\0'), (error: Error) => error.cause instanceof LpcValueError)
  })
})
