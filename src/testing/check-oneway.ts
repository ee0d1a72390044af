/** T1 to T30: what one direction of a stream promises; after trio's `check_one_way_stream`. */

import assert from 'node:assert/strict'
import { Broken, Busy, Cancelled, Closed } from '../errors.js'
import { failsWith, latin1, type Property, readCount, readToEnd, type StreamCase } from './check.js'
import { settle } from './clock.js'

const CONTAINERS: [string, ArrayBufferView | ArrayBuffer | string | ArrayBufferView[]][] = [
  ['Uint8Array', Uint8Array.of(1, 2, 3)],
  ['a sub-view with an offset', new Uint8Array([9, 1, 2, 3, 9]).subarray(1, 4)],
  ['Buffer', Buffer.from([1, 2, 3])],
  ['a pooled Buffer', Buffer.from('\x01\x02\x03', 'latin1')],
  ['ArrayBuffer', new Uint8Array([1, 2, 3]).buffer],
  ['DataView with an offset', new DataView(new Uint8Array([9, 1, 2, 3]).buffer, 1)],
  ['Uint16Array', new Uint16Array(new Uint8Array([1, 2]).buffer)],
  ['Float64Array', new Float64Array([1.5, -2])],
  ['string', 'häß'],
  ['an array of pieces', [Uint8Array.of(1), new Uint8Array(0), new DataView(Uint8Array.of(2, 3).buffer)]],
]

function bytesOf(value: ArrayBufferView | ArrayBuffer | string | ArrayBufferView[]): Uint8Array {
  if (typeof value === 'string') return new TextEncoder().encode(value)
  if (Array.isArray(value)) return new Uint8Array(Buffer.concat(value.map((piece) => bytesOf(piece))))
  if (value instanceof ArrayBuffer) return new Uint8Array(value)
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
}

/** Writes small pieces until writing fails, letting the system work in between. */
export async function writeUntilBroken({ a }: StreamCase): Promise<Broken> {
  const piece = new Uint8Array(100)
  for (let i = 0; i < 50_000; i++) {
    const error = await a.write(piece).then(
      () => undefined,
      (reason: unknown) => reason,
    )
    if (error !== undefined) {
      assert.ok(error instanceof Broken, `the write should have failed with Broken, but failed with ${String(error)}`)
      return error as Broken
    }
    if (i % 16 === 0) await settle(1)
  }
  return assert.fail('50,000 writes to a peer that is gone succeeded')
}

const aborted = (): AbortSignal => AbortSignal.abort(new Error('given up'))

export const ONE_WAY: readonly Property<StreamCase>[] = [
  {
    id: 'T1',
    title: 'one byte sent while a read for one byte waits arrives',
    directed: true,
    async run({ a, b }) {
      const [, got] = await Promise.all([a.write('x'), b.read({ limit: 1 })])
      assert.equal(latin1(got), 'x')
    },
  },
  {
    id: 'T2',
    title: 'an empty write is legal and means nothing',
    directed: true,
    async run({ a, b }) {
      await a.write(new Uint8Array(0))
      await a.write('')
      await a.write([])
      await a.write('y')
      assert.equal(latin1(await b.read()), 'y')
    },
  },
  {
    id: 'T3',
    title: 'write takes every container of bytes',
    directed: true,
    async run({ a, b }) {
      for (const [name, value] of CONTAINERS) {
        const expected = bytesOf(value)
        await a.write(value)
        assert.deepEqual(await readCount(b, expected.length), expected, name)
      }
      for (const wrong of [1, null, undefined, {}, [1], ['x', null]]) {
        await assert.rejects(a.write(wrong as never), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' })
      }
    },
  },
  {
    id: 'T4',
    title: 'write resolves to nothing, and its buffer is the caller’s again',
    directed: true,
    async run({ a, b }) {
      const data = Uint8Array.of(1, 2, 3)
      assert.equal(await a.write(data), undefined)
      data.fill(9)
      assert.deepEqual(await readCount(b, 3), Uint8Array.of(1, 2, 3))
    },
  },
  {
    id: 'T5',
    title: 'a read limit of -1 or 0 is a range error, one of 1.5 or text a type error, as rejections',
    directed: true,
    async run({ b }) {
      for (const limit of [-1, 0]) await assert.rejects(b.read({ limit }), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }, `${limit}`)
      for (const limit of [1.5, '1', {}]) {
        await assert.rejects(b.read({ limit: limit as number }), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' }, `${String(limit)}`)
      }
    },
  },
  {
    id: 'T6',
    title: 'a read limit may be absent or null, and is kept',
    directed: true,
    async run({ a, b }) {
      for (const o of [undefined, {}, { limit: undefined }, { limit: null }]) {
        await a.write('x')
        assert.equal(latin1(await b.read(o)), 'x')
      }
      await a.write('abc')
      assert.equal((await b.read({ limit: 1 }))?.length, 1)
      assert.equal(latin1(await readCount(b, 2)), 'bc')
    },
  },
  {
    id: 'T7',
    title: 'operations that need not wait let the event loop turn in between',
    directed: true,
    async run({ a, b }) {
      await a.write('x')
      await b.peek(1)
      let turned = false
      setImmediate(() => (turned = true))
      let count = 0
      for (; !turned && count < 1_000_000; count++) await b.peek(1)
      assert.ok(turned, `${count} reads in a row kept the loop from turning`)
      turned = false
      setImmediate(() => (turned = true))
      for (count = 0; !turned && count < 1_000_000; count++) await a.write(new Uint8Array(0))
      assert.ok(turned, `${count} writes in a row kept the loop from turning`)
    },
  },
  {
    id: 'T8',
    title: 'a second reader gets Busy, the first its bytes',
    directed: true,
    async run({ a, b }) {
      const first = b.read()
      await failsWith(b.read(), 'the second read', Busy, 'BUSY')
      await failsWith(b.readLine(), 'a readLine beside a read', Busy)
      await failsWith(b.peek(), 'a peek beside a read', Busy)
      await failsWith(b.waitReadable(), 'a waitReadable beside a read', Busy)
      await a.write('x')
      assert.equal(latin1(await first), 'x')
      await a.write('y')
      assert.equal(latin1(await b.read()), 'y')
    },
  },
  {
    id: 'T9',
    title: 'waitWritable returns when nothing is in the way and a reader waits',
    directed: true,
    async run({ a, b }) {
      const reading = b.read()
      await settle(1)
      assert.equal(await a.waitWritable(), undefined)
      await a.write('x')
      await reading
    },
  },
  {
    id: 'T10',
    title: 'writes to a peer that has closed end up Broken',
    directed: true,
    async run(c) {
      const closing = c.b.close()
      const error = await writeUntilBroken(c)
      assert.ok(error.code === 'EPIPE' || error.code === 'ECONNRESET', error.code)
      await closing
    },
  },
  {
    id: 'T11',
    title: 'once Broken, always Broken, with the same code and a fresh error',
    directed: true,
    async run(c) {
      c.b.abort()
      const first = await writeUntilBroken(c)
      for (const [op, again] of [
        ['write', c.a.write('x')],
        ['write', c.a.write('')],
        ['writeSome', c.a.writeSome('x')],
        ['waitWritable', c.a.waitWritable()],
        ['flush', c.a.flush()],
        ['end', c.a.end()],
      ] as const) {
        const error = await failsWith(again, op, Broken, first.code)
        assert.equal(error.op, op)
        assert.notEqual(error, first)
      }
    },
  },
  {
    id: 'T12',
    title: 'reading on an end of one’s own that is closed fails with Closed',
    directed: true,
    async run({ a, b }) {
      await a.write('unread')
      const closing = b.close()
      await failsWith(b.read(), 'read', Closed, 'CLOSED')
      assert.throws(() => b.tryRead(), Closed)
      await failsWith(b.readLine(), 'readLine', Closed)
      await failsWith(b.waitReadable(), 'waitReadable', Closed)
      a.abort()
      await closing
      await failsWith(b.read(), 'read', Closed, 'CLOSED')
    },
  },
  {
    id: 'T13',
    title: 'closing is idempotent on both ends, any number of times',
    directed: true,
    async run({ a, b }) {
      const reports = await Promise.all([a.close(), a.close(), b.close(), a.close(), b.close()])
      assert.deepEqual(reports[0], reports[1])
      assert.deepEqual(await a.close(), reports[0])
      assert.deepEqual(await a.closed, reports[0])
      assert.deepEqual(await b.close(), reports[2])
      a.abort()
      b.abort()
      assert.deepEqual(await a.closed, reports[0])
      assert.equal(a.state, 'closed')
    },
  },
  {
    id: 'T14',
    title: 'writing after one’s own close fails with Closed',
    directed: true,
    async run({ a }) {
      const closing = a.close()
      await failsWith(a.write('x'), 'write', Closed, 'CLOSED')
      await failsWith(a.writeSome('x'), 'writeSome', Closed, 'CLOSED')
      await closing
      await failsWith(a.write('x'), 'write', Closed, 'CLOSED')
    },
  },
  {
    id: 'T15',
    title: 'so does an empty write',
    directed: true,
    async run({ a }) {
      await a.close()
      await failsWith(a.write(new Uint8Array(0)), 'an empty write', Closed, 'CLOSED')
    },
  },
  {
    id: 'T16',
    title: 'so does waitWritable',
    directed: true,
    async run({ a }) {
      await a.close()
      await failsWith(a.waitWritable(), 'waitWritable', Closed, 'CLOSED')
      await failsWith(a.flush(), 'flush', Closed, 'CLOSED')
    },
  },
  {
    id: 'T17',
    title: 'data written before a close arrives whole, then the end',
    directed: true,
    async run({ a, b }) {
      await a.write('hello')
      const closing = a.close()
      await settle(2)
      assert.equal(latin1(await readToEnd(b)), 'hello')
      assert.equal(await b.read(), null)
      assert.equal((await b.close()).clean, true)
      assert.deepEqual(await closing, { clean: true, unsent: 0 })
    },
  },
  {
    id: 'T18',
    title: 'a reader’s abort breaks the writer, and its own reads fail with Closed',
    directed: true,
    async run(c) {
      c.b.abort()
      await failsWith(c.b.read(), 'read', Closed, 'ABORTED')
      await writeUntilBroken(c)
      assert.equal((await c.b.closed).clean, false)
    },
  },
  {
    id: 'T19',
    title: 'a writer’s abort: its writes fail with Closed, the peer gets a clean end or Broken, never data, and does not hang',
    directed: true,
    async run({ a, b }) {
      a.abort()
      await failsWith(a.write('x'), 'write', Closed, 'ABORTED')
      const outcome = await b.read().catch((error: unknown) => error)
      assert.ok(outcome === null || outcome instanceof Broken, String(outcome))
    },
  },
  {
    id: 'T20',
    title: 'a close that is itself cancelled still closes, both ends',
    directed: true,
    async run({ a, b }) {
      for (const end of [a, b]) {
        const report = await end.close({ signal: aborted() })
        assert.equal(report.clean, false)
        assert.equal(report.reason?.code, 'CANCELLED')
        assert.equal(end.state, 'closed')
        await failsWith(end.write('x'), 'write', Closed)
        await failsWith(end.read(), 'read', Closed)
      }
    },
  },
  {
    id: 'T21',
    title: 'operations under an aborted signal fail with Cancelled and do nothing; a graceful close works afterwards',
    directed: true,
    async run({ a, b }) {
      const o = { signal: aborted() }
      for (const [op, promise] of [
        ['read', a.read(o)],
        ['readInto', a.readInto(new Uint8Array(1), o)],
        ['readExactly', a.readExactly(1, o)],
        ['readLine', a.readLine(o)],
        ['readAll', a.readAll(o)],
        ['peek', a.peek(1, o)],
        ['waitReadable', a.waitReadable(o)],
        ['write', a.write('never sent', o)],
        ['writeSome', a.writeSome('never sent', o)],
        ['waitWritable', a.waitWritable(o)],
        ['flush', a.flush(o)],
      ] as const) {
        const error = await failsWith(promise, op, Cancelled, 'CANCELLED')
        assert.equal((error.cause as Error).message, 'given up', op)
        assert.equal(error.op, op)
      }
      const closing = a.close()
      assert.equal(await b.read(), null)
      assert.equal((await b.close()).clean, true)
      assert.equal((await closing).clean, true)
    },
  },
  {
    id: 'T22',
    title: 'a read that waits is woken with Closed by its own end’s close',
    directed: true,
    async run({ b, time }) {
      const reading = b.read()
      await time.stillPending(reading, 'the read', 5)
      const closing = b.close()
      await failsWith(reading, 'the read', Closed, 'CLOSED')
      assert.equal((await closing).clean, true)
    },
  },
]

export const CLOGGED: readonly Property<StreamCase>[] = [
  {
    id: 'T23',
    title: 'waitWritable waits until the peer reads',
    clogged: true,
    directed: true,
    async run({ a, b, time }) {
      const order: string[] = []
      const waiting = a.waitWritable().then(() => order.push('writable'))
      await time.stillPending(waiting, 'waitWritable')
      order.push('reading')
      await Promise.all([waiting, readWhile(b, () => order.length < 2)])
      assert.deepEqual(order, ['reading', 'writable'])
    },
  },
  {
    id: 'T24',
    title: 'two waitWritable at once: both wake, none is Busy',
    clogged: true,
    directed: true,
    async run({ a, b, time }) {
      let woken = 0
      const both = Promise.all([a.waitWritable().then(() => woken++), a.waitWritable().then(() => woken++)])
      await time.stillPending(both, 'two waitWritable')
      await Promise.all([both, readWhile(b, () => woken < 2)])
    },
  },
  {
    id: 'T25',
    title: 'waitWritable beside a write: none is Busy, both are done once the peer reads',
    clogged: true,
    directed: true,
    async run({ a, b, time }) {
      let done = 0
      const both = Promise.all([a.waitWritable().then(() => done++), a.write('x').then(() => done++)])
      await time.stillPending(both, 'waitWritable and write')
      await Promise.all([both, readWhile(b, () => done < 2)])
    },
  },
  {
    id: 'T26',
    title: 'two writes at once: in order, none lost',
    clogged: true,
    directed: true,
    async run({ a, b, time }) {
      const size = 100_000
      const writing = Promise.all([a.write(new Uint8Array(size).fill(1)), a.write(new Uint8Array(size).fill(2)), a.write('end')])
      await time.stillPending(writing, 'writing')
      const [, all] = await Promise.all([writing.then(() => a.end()), readToEnd(b)])
      const tail = all.subarray(all.length - 2 * size - 3)
      assert.ok(tail.subarray(0, size).every((byte) => byte === 1))
      assert.ok(tail.subarray(size, 2 * size).every((byte) => byte === 2))
      assert.equal(latin1(tail.subarray(2 * size)), 'end')
    },
  },
  {
    id: 'T27',
    title: 'the reader’s end goes while waitWritable waits: it returns or fails with Broken',
    clogged: true,
    directed: true,
    async run({ a, b, time }) {
      const waiting = a.waitWritable()
      await time.stillPending(waiting, 'waitWritable')
      b.abort()
      await waiting.catch((error: unknown) => assert.ok(error instanceof Broken, String(error)))
    },
  },
  {
    id: 'T28',
    title: 'the reader’s end goes before waitWritable is called: it returns or fails with Broken',
    clogged: true,
    directed: true,
    async run({ a, b }) {
      b.abort()
      await a.waitWritable().catch((error: unknown) => assert.ok(error instanceof Broken, String(error)))
    },
  },
  {
    id: 'T29',
    title: 'a write that waits is woken with Closed by its own end’s close',
    clogged: true,
    directed: true,
    async run({ a, time }) {
      const writing = a.write('never sent')
      await time.stillPending(writing, 'the write')
      const closing = a.close()
      const error = await failsWith(writing, 'the write', Closed, 'CLOSED')
      assert.equal(error.bytesWritten, 0)
      a.abort()
      assert.equal((await closing).clean, false)
    },
  },
  {
    id: 'T30',
    title: 'a waitWritable that waits is woken with Closed by its own end’s close',
    clogged: true,
    directed: true,
    async run({ a, time }) {
      const waiting = a.waitWritable()
      await time.stillPending(waiting, 'waitWritable')
      void a.close()
      await failsWith(waiting, 'waitWritable', Closed, 'CLOSED')
      a.abort()
      await a.closed
    },
  },
]

/** Reads and drops while `wanted` says so. */
async function readWhile(connection: StreamCase['b'], wanted: () => boolean): Promise<void> {
  while (wanted()) {
    if (connection.tryRead() === null) return
    await settle(1)
  }
}
