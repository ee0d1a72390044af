/** The checker finds what is wrong: each of these handles breaks one promise, and is caught by the properties that state it. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { checkCodec, checkStreams, connectHandles, memoryPair, type StreamHandle, VirtualClock } from 'fairlead/testing'
import { codecs, type Codec, type Decoder } from 'fairlead'

type Sabotage = (handle: StreamHandle) => Partial<StreamHandle>

/** The ids that fail for a pair whose first end is sabotaged, of those asked for. */
async function failing(sabotage: Sabotage, only: readonly string[]): Promise<string[]> {
  const cases: { name: string; fn: () => Promise<void> }[] = []
  checkStreams(
    {
      name: 'sabotaged',
      async pair() {
        const [one, other] = memoryPair({ capacity: 65_536 })
        const changes = sabotage(one)
        const bad = new Proxy(one, {
          get(target, name) {
            const value: unknown = name in changes ? changes[name as keyof StreamHandle] : Reflect.get(target, name)
            return typeof value === 'function' && !(name in changes) ? value.bind(target) : value
          },
        })
        const clock = new VirtualClock()
        const { a, b } = connectHandles(bad, other, { clock })
        return { a, b, clock }
      },
    },
    { test: (name, _o, fn) => cases.push({ name: name.replace('T31 ends swapped: ', ''), fn }), only: [...only, 'T31'], watchdog: 300 },
  )
  const failed = new Set<string>()
  for (const { name, fn } of cases) await fn().catch(() => failed.add(name.split(' ')[0] as string))
  return [...failed].sort()
}

const SABOTAGES: [string, Sabotage, string[]][] = [
  ['nothing at all', () => ({}), []],
  [
    'a reset is told as a clean end',
    (handle) => ({
      read: (limit) => {
        try {
          return handle.read(limit)
        } catch {
          return null
        }
      },
    }),
    ['N10', 'X3'],
  ],
  ['a byte is turned around', (handle) => ({ write: (data) => handle.write(data.map((byte) => byte ^ 1)) }), ['G1', 'T1', 'T32']],
  [
    'a write takes more than it says',
    (handle) => ({
      write: (data) => {
        const count = handle.write(data)
        return count > 1 ? count - 1 : count
      },
    }),
    ['G1', 'T32'],
  ],
  ['the end is not passed on', () => ({ shutdown: (done) => queueMicrotask(done) }), ['T34']],
  ['the data is dropped at an end', (handle) => ({ shutdown: () => handle.destroy(true) }), ['T17', 'T34']],
  [
    'readiness to write is never told',
    (handle) => ({ attach: (events) => handle.attach({ readable: () => events.readable(), writable: () => {} }) }),
    ['T23', 'T26', 'T32'],
  ],
  [
    'readiness to read is never told',
    (handle) => ({ attach: (events) => handle.attach({ readable: () => {}, writable: () => events.writable() }) }),
    ['N9'],
  ],
  ['the limit of a read is ignored', (handle) => ({ read: () => handle.read(65_536) }), ['T32']],
  [
    'writing to a peer that is gone succeeds',
    (handle) => ({ write: (data) => ignoring(() => handle.write(data), data.length) }),
    ['T10', 'T11', 'T18'],
  ],
]

function ignoring(fn: () => number, otherwise: number): number {
  try {
    return fn()
  } catch {
    return otherwise
  }
}

describe('the checker of streams', () => {
  for (const [what, sabotage, expected] of SABOTAGES) {
    test(`${expected.length === 0 ? 'finds nothing where nothing is wrong' : `finds that ${what} by ${expected.join(', ')}`}`, async () => {
      const only = expected.length > 0 ? expected : ['T1', 'T10', 'T17', 'T23', 'T32', 'T34', 'N9', 'N10', 'X3', 'G1']
      const failed = await failing(sabotage, only)
      assert.deepEqual(failed, [...expected].sort())
    })
  }
})

test('the checker of codecs finds a decoder that depends on how the stream is cut', async () => {
  const lines = codecs.lines()
  /** Takes every chunk for a message of its own. */
  class Naive implements Decoder<string> {
    readonly #inner: Decoder<string> = lines.decoder()
    #chunk = ''
    push(chunk: Uint8Array): void {
      this.#chunk = new TextDecoder().decode(chunk).trimEnd()
      this.#inner.push(chunk)
    }
    next(): string | undefined {
      const message = this.#inner.next()
      return message === undefined ? undefined : this.#chunk
    }
    end(): void {
      this.#inner.end()
    }
    rest(): Uint8Array {
      return this.#inner.rest()
    }
    get offset(): number {
      return this.#inner.offset
    }
  }
  const codec: Codec<string> = { name: 'naive', encode: (message) => lines.encode(message), decoder: () => new Naive() }
  const cases: { id: string; fn: () => Promise<void> }[] = []
  checkCodec(
    { name: 'naive', codec: () => codec, messages: ['one', 'two'] },
    { test: (name, _o, fn) => cases.push({ id: name.slice(0, 2), fn }) },
  )
  const failed: string[] = []
  for (const { id, fn } of cases) await fn().catch(() => failed.push(id))
  assert.ok(failed.includes('F1'), failed.join())
})
