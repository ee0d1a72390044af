import { describe, test } from 'node:test'
import { codecs } from 'fairlead'
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
  { name: 'JSON lines', codec: () => codecs.jsonLines(), messages: [1, 'two\n', null, { three: [3, { deep: true }] }] },
  { name: 'raw', codec: () => codecs.raw(), messages: [bytes(1), bytes(2, 3)], unframed: true },
] as unknown as CodecMaker<never, never>[]

for (const maker of MAKERS) describe(maker.name, () => void checkCodec(maker, { test }))
