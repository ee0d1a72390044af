import { describe, test } from 'node:test'
import { codecs, json, mapped } from 'fairlead'
import { checkCodec, type CodecMaker } from 'fairlead/testing'

const bytes = (...values: number[]) => Uint8Array.from(values)
const some = [bytes(), bytes(1), bytes(0, 0, 0), bytes(255, 10, 13, 10), new Uint8Array(40).fill(7)]
const long = (length: number) => new Uint8Array(length).fill(0x61)
const text = (length: number) => 'a'.repeat(length)
const encoded = (value: string) => new TextEncoder().encode(value)

const MAKERS: CodecMaker<never, never>[] = [
  ...([1, 2, 4, 8] as const).flatMap((width) =>
    (['big', 'little'] as const).map((endian) => {
      const header = new Uint8Array(width)
      header[endian === 'big' ? width - 1 : 0] = 51
      const tooLongEncoded = new Uint8Array(Buffer.concat([header, long(51)]))
      return {
        name: `length ${width} ${endian}`,
        codec: () => codecs.lengthPrefixed({ bytes: width, endian, max: 50 }),
        messages: some,
        longest: { fits: long(50), tooLong: long(51), tooLongEncoded },
      }
    }),
  ),
  {
    name: 'varint',
    codec: () => codecs.varint({ max: 300 }),
    messages: [...some, long(200)],
    longest: { fits: long(300), tooLong: long(301), tooLongEncoded: new Uint8Array(Buffer.concat([bytes(0xad, 0x02), long(301)])) },
  },
  { name: 'fixed', codec: () => codecs.fixed(4), messages: [bytes(1, 2, 3, 4), bytes(0, 0, 0, 0)], refused: [bytes(1)] },
  ...(['lf', 'crlf', 'either'] as const).map((ending) => ({
    name: `lines ${ending}`,
    codec: () => codecs.lines({ ending, max: 50 }),
    messages: ['', 'one', 'zwei ü', text(50)],
    longest: { fits: text(50), tooLong: text(51), tooLongEncoded: encoded(text(51) + (ending === 'lf' ? '\n' : '\r\n')) },
    refused: ['a\nb'.replace('\n', ending === 'crlf' ? '\r\n' : '\n')],
  })),
  {
    name: 'delimited',
    codec: () => codecs.delimited('END', { max: 50 }),
    messages: [bytes(), bytes(1), encoded('EN'), encoded('ENE')],
    longest: { fits: long(50), tooLong: long(51), tooLongEncoded: encoded(`${text(51)}END`) },
    refused: [encoded('xENDx')],
  },
  {
    name: 'nul',
    codec: () => codecs.nul({ max: 50 }),
    messages: [bytes(), bytes(1), encoded('EN')],
    longest: { fits: long(50), tooLong: long(51), tooLongEncoded: encoded(`${text(51)}\0`) },
    refused: [bytes(1, 0)],
  },
  {
    name: 'netstring',
    codec: () => codecs.netstring({ max: 50 }),
    messages: some,
    longest: { fits: long(50), tooLong: long(51), tooLongEncoded: encoded(`51:${text(51)},`) },
  },
  ...([1, 2, 3, 4, 8] as const).flatMap((width) =>
    (['big', 'little'] as const).map((endian) => {
      const header = new Uint8Array(width + 5)
      header[2 + (endian === 'big' ? width - 1 : 0)] = 51 + width + 5
      const o = { size: width + 5, at: 2, bytes: width, endian, adjust: -width - 5, max: 50 }
      const tooLongEncoded = new Uint8Array(Buffer.concat([header, long(51)]))
      return {
        name: `header with a length of ${width} ${endian}`,
        codec: () => codecs.header(o),
        messages: some,
        longest: { fits: long(50), tooLong: long(51), tooLongEncoded },
      }
    }),
  ),
  {
    name: 'header and payload as one message',
    codec: () => codecs.header({ size: 3, at: 1, bytes: 1, message: 'frame', max: 50 }),
    messages: [bytes(9, 0, 9), bytes(8, 1, 7, 6), bytes(1, 40, 2, ...long(40))],
    longest: {
      fits: bytes(1, 50, 2, ...long(50)),
      tooLong: bytes(1, 51, 2, ...long(51)),
      tooLongEncoded: bytes(1, 51, 2, ...long(51)),
    },
    refused: [bytes(1, 0)],
  },
  {
    name: 'JSON behind its length',
    codec: () => mapped(codecs.lengthPrefixed({ max: 52 }), json()),
    messages: [1, 'two\n', null, { three: [3, { deep: true }] }],
    longest: { fits: text(50), tooLong: text(51), tooLongEncoded: encoded(`\0\0\0\u0035"${text(51)}"`) },
    refused: [undefined, 1n],
  },
  {
    name: 'numbers in lines',
    codec: () =>
      mapped(codecs.lines({ max: 50 }), {
        decode: (line) => {
          if (!/^-?\d+$/.test(line)) throw new Error('no number')
          return BigInt(line)
        },
        encode: (value: bigint) => value.toString(),
      }),
    messages: [0n, -1n, 2n ** 64n],
    longest: { fits: 10n ** 49n, tooLong: 10n ** 50n, tooLongEncoded: encoded(`${text(51)}\n`) },
    refused: [null],
  },
  { name: 'JSON lines', codec: () => codecs.jsonLines(), messages: [1, 'two\n', null, { three: [3, { deep: true }] }] },
  { name: 'raw', codec: () => codecs.raw(), messages: [bytes(1), bytes(2, 3)], unframed: true },
] as unknown as CodecMaker<never, never>[]

for (const maker of MAKERS) describe(maker.name, () => void checkCodec(maker, { test }))
