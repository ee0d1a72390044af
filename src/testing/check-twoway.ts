/** T32 to T39, and Go's `nettest` as far as no deadline is needed: what two directions promise of each other. */

import assert from 'node:assert/strict'
import type { Connection } from '../connection.js'
import { Broken, Closed } from '../errors.js'
import { failsWith, latin1, type Property, readCount, readToEnd, type StreamCase } from './check.js'
import { settle } from './clock.js'
import { Random } from './random.js'

const MIB = 1024 * 1024

async function sendRandomly(connection: Connection, data: Uint8Array, random: Random): Promise<void> {
  for (let at = 0; at < data.length;) {
    const next = Math.min(data.length, at + random.int(1024, 16_384))
    await connection.write(data.subarray(at, next))
    at = next
  }
}

async function receiveRandomly(connection: Connection, count: number, random: Random): Promise<Uint8Array> {
  const all = new Uint8Array(count)
  for (let at = 0; at < count;) {
    const limit = random.int(1024, 16_384)
    const chunk = await connection.read({ limit })
    assert.ok(chunk !== null, `the stream ended after ${at} of ${count} bytes`)
    assert.ok(chunk.length > 0 && chunk.length <= limit, `a chunk of ${chunk.length} for a limit of ${limit}`)
    all.set(chunk, at)
    at += chunk.length
  }
  return all
}

/** One end counts up by 2 over the other, to a thousand. */
async function pingPong(connection: Connection, first: boolean): Promise<void> {
  const frame = new Uint8Array(8)
  const view = new DataView(frame.buffer)
  let count = first ? 0n : 1n
  if (first) {
    view.setBigUint64(0, 0n)
    await connection.write(frame)
  }
  while (count < 1000n) {
    const got = await connection.readExactly(8)
    assert.ok(got, 'the stream ended')
    const value = new DataView(got.buffer, got.byteOffset).getBigUint64(0)
    assert.equal(value, first ? count + 1n : count - 1n)
    view.setBigUint64(0, value + 1n)
    await connection.write(frame)
    count += 2n
  }
}

/** Sizes of replies matter: one platform takes a reset for an end when the read before it came up short. */
function resetAfter(size: number, alreadyRead: number): Property<StreamCase> {
  return {
    id: 'X3',
    title: `a reset behind ${size} bytes, ${alreadyRead} of them read, never reads as a clean end`,
    directed: true,
    async run({ a, b }) {
      const data = new Random(3).bytes(size)
      const sending = a.write(data).then(() => a.flush())
      sending.catch(() => {})
      const head = await readCount(b, alreadyRead)
      assert.ok(Buffer.from(head).equals(data.subarray(0, alreadyRead)))
      await Promise.race([sending, settle(20)])
      a.abort()
      await settle(3)
      let count = alreadyRead
      const rest = (async () => {
        for (let chunk = await b.read(); chunk !== null; chunk = await b.read()) {
          assert.ok(Buffer.from(chunk).equals(data.subarray(count, count + chunk.length)), 'bytes differ')
          count += chunk.length
        }
        return `a clean end after ${count} bytes`
      })()
      await failsWith(rest, 'reading on', Broken)
      assert.ok(count <= size)
    },
  }
}

export const TWO_WAY: readonly Property<StreamCase>[] = [
  {
    id: 'T32',
    title: '1 MiB each way at once, in random pieces, arrives as sent',
    async run({ a, b }) {
      const random = new Random(32)
      const [there, back] = [random.bytes(MIB), random.bytes(MIB)]
      const [atB, atA] = await Promise.all([
        receiveRandomly(b, MIB, new Random(1)),
        receiveRandomly(a, MIB, new Random(2)),
        sendRandomly(a, there, new Random(3)),
        sendRandomly(b, back, new Random(4)),
      ])
      assert.ok(Buffer.from(atB).equals(there), 'a to b differs')
      assert.ok(Buffer.from(atA).equals(back), 'b to a differs')
    },
  },
  {
    id: 'T33',
    title: 'a close while the peer reads is a clean end for it, then it can close',
    directed: true,
    async run({ a, b, time }) {
      const reading = b.read()
      await time.stillPending(reading, 'the read', 5)
      const closing = a.close()
      assert.equal(await reading, null)
      assert.equal((await b.close()).clean, true)
      assert.equal((await closing).clean, true)
    },
  },
  {
    id: 'T34',
    title: 'what is written before end arrives, then the end',
    directed: true,
    async run({ a, b }) {
      await a.write('x')
      const ending = a.end()
      assert.equal(latin1(await b.read()), 'x')
      assert.equal(await b.read(), null)
      assert.equal(await b.read(), null)
      await ending
      assert.equal(a.state, 'write-ended')
      assert.equal(b.state, 'read-ended')
    },
  },
  {
    id: 'T35',
    title: 'writing after end fails with Closed',
    directed: true,
    async run({ a }) {
      const ending = a.end()
      await failsWith(a.write('x'), 'write', Closed, 'ENDED')
      await ending
      await failsWith(a.write(''), 'an empty write', Closed, 'ENDED')
      await failsWith(a.waitWritable(), 'waitWritable', Closed, 'ENDED')
    },
  },
  {
    id: 'T36',
    title: 'end is idempotent',
    directed: true,
    async run({ a, b }) {
      await Promise.all([a.end(), a.end()])
      await a.end()
      assert.equal(await b.read(), null)
    },
  },
  {
    id: 'T37',
    title: 'after end the other direction works on, up to its own end',
    directed: true,
    async run({ a, b }) {
      await a.end()
      assert.equal(await b.read(), null)
      await b.write('back')
      assert.equal(latin1(await readCount(a, 4)), 'back')
      await b.write('again')
      const ending = b.end()
      assert.equal(latin1(await readToEnd(a)), 'again')
      await ending
      assert.equal((await a.closed).clean, true)
      assert.equal((await b.closed).clean, true)
    },
  },
  {
    id: 'T38',
    title: 'end while a write waits: it goes out behind it',
    clogged: true,
    directed: true,
    async run({ a, b, time }) {
      const writing = a.write(new Uint8Array(100_000).fill(1))
      const ending = a.end()
      await time.stillPending(ending, 'end')
      const all = await readToEnd(b)
      await Promise.all([writing, ending])
      assert.ok(all.length >= 100_000)
      assert.ok(all.subarray(-100_000).every((byte) => byte === 1))
    },
  },
  {
    id: 'T39',
    title: 'end while waitWritable waits: both are told',
    clogged: true,
    directed: true,
    async run({ a, b, time }) {
      const waiting = a.waitWritable().catch((error: unknown) => assert.ok(error instanceof Closed, String(error)))
      await time.stillPending(waiting, 'waitWritable')
      const ending = a.end()
      await readToEnd(b)
      await Promise.all([waiting, ending])
    },
  },
  {
    id: 'G1',
    title: '1 MiB in writes of 1 KiB, then a close, is read whole',
    directed: true,
    async run({ a, b }) {
      const data = new Random(1).bytes(MIB)
      const sending = (async () => {
        for (let at = 0; at < MIB; at += 1024) await a.write(data.subarray(at, at + 1024))
        return a.close()
      })()
      const all = await readToEnd(b)
      assert.ok(Buffer.from(all).equals(data))
      assert.equal((await b.close()).clean, true)
      assert.deepEqual(await sending, { clean: true, unsent: 0 })
    },
  },
  {
    id: 'G2',
    title: 'a counter bounces a thousand times',
    async run({ a, b }) {
      await Promise.all([pingPong(a, true), pingPong(b, false)])
      const reports = await Promise.all([a.close(), b.close()])
      assert.ok(reports.every(({ clean }) => clean))
    },
  },
  {
    id: 'G10',
    title: 'a close releases a read and a write loop that wait',
    directed: true,
    async run({ a }) {
      const reading = a.read()
      const writing = (async () => {
        const piece = new Uint8Array(16_384)
        for (let i = 0; ; i++) {
          await a.write(piece)
          if (i % 16 === 0) await settle(1)
        }
      })()
      writing.catch(() => {})
      await settle(10)
      void a.close()
      await Promise.all([failsWith(reading, 'the read', Closed, 'CLOSED'), failsWith(writing, 'the write', Closed, 'CLOSED')])
      a.abort()
      await a.closed
    },
  },
  {
    id: 'N9',
    title: 'a close unblocks a read on both sides: Closed here, a clean end there',
    directed: true,
    async run({ a, b, time }) {
      const [here, there] = [a.read(), b.read()]
      await time.stillPending(Promise.race([here, there]), 'the reads', 5)
      const closing = a.close()
      await failsWith(here, 'the local read', Closed, 'CLOSED')
      assert.equal(await there, null)
      await b.close()
      await closing
    },
  },
  {
    id: 'N10',
    title: 'a reset is Broken, never a clean end, whatever was sent before it',
    directed: true,
    async run({ a, b }) {
      await a.write('x')
      assert.equal(latin1(await b.read()), 'x')
      const reading = b.read()
      a.abort()
      const error = await failsWith(reading, 'the read', Broken)
      assert.ok(['ECONNRESET', 'TLS_TRUNCATED', 'BROKEN'].includes(error.code), error.code)
      assert.equal(error.timeout, false)
      await failsWith(b.read(), 'the next read', Broken, error.code)
    },
  },
  {
    id: 'N11',
    title: 'readInto an empty array gives 0, consumes nothing and is no end',
    directed: true,
    async run({ a, b }) {
      assert.equal(await b.readInto(new Uint8Array(0)), 0)
      await a.write('xy')
      assert.equal(await b.readInto(new Uint8Array(0)), 0)
      const into = new Uint8Array(8)
      let count = 0
      while (count < 2) count += (await b.readInto(into.subarray(count))) ?? assert.fail('the stream ended')
      assert.equal(latin1(into.subarray(0, 2)), 'xy')
    },
  },
  {
    id: 'N13',
    title: 'end gives the peer its end and fails our writes; our reads go on',
    directed: true,
    async run({ a, b }) {
      await a.end()
      assert.equal(await b.read(), null)
      await failsWith(a.write('x'), 'write', Closed, 'ENDED')
      const reading = a.read()
      await b.write('y')
      assert.equal(latin1(await reading), 'y')
    },
  },
  {
    id: 'N17',
    title: 'an endless write ends with the peer’s close',
    directed: true,
    async run({ a, b }) {
      const endless = (async () => {
        for (;;) await a.write(new Uint8Array(65_536))
      })()
      endless.catch(() => {})
      await readCount(b, 500_000)
      b.abort()
      await failsWith(endless, 'the endless write', Broken)
    },
  },
  {
    id: 'X4',
    title: 'closing with unread input loses no byte that was accepted before',
    directed: true,
    async run({ a, b }) {
      const reply = new Random(4).bytes(204_800)
      await a.write(new Uint8Array(30_000))
      await b.peek(1)
      const sending = b.write(reply).then(() => b.close())
      await settle(3)
      const all = await readToEnd(a)
      assert.equal(all.length, reply.length)
      assert.ok(Buffer.from(all).equals(reply))
      await a.close()
      assert.equal((await sending).unsent, 0)
    },
  },
  ...[0, 1000, 65_536, 100_000, 204_800, MIB].flatMap((size) => [resetAfter(size, 0), resetAfter(size, size >> 1)]),
]
