/** G3 to G12 and N1 to N8: deadlines and cancellation; after Go's `nettest` and `net`. */

import assert from 'node:assert/strict'
import type { Connection } from '../connection.js'
import { Deadline } from '../deadline.js'
import { Busy, Closed, DeadlineError, SocketError } from '../errors.js'
import { failsWith, latin1, type Pace, type Property, readCount, type StreamCase } from './check.js'
import { settle } from './clock.js'
import { Random } from './random.js'

const HOUR = 3_600_000
/** Milliseconds that the arithmetic of large moments may cost. */
const ROUNDING = 0.001

/** After whatever happened before: what `from` sends now is found behind everything sent so far, and echoed. */
async function resynchronise(from: Connection, to: Connection, mark: string): Promise<void> {
  const sending = from.write(mark)
  for (let seen = ''; !seen.endsWith(mark);) {
    const chunk = await to.read()
    assert.ok(chunk !== null, 'the stream ended')
    seen = (seen + latin1(chunk)).slice(-mark.length)
  }
  await sending
  await to.write('echo')
  assert.equal(latin1(await readCount(from, 4)), 'echo')
}

function timedOut(error: unknown, what: string): void {
  assert.ok(error instanceof DeadlineError, `${what} should have failed with DeadlineError, but failed with ${String(error)}`)
  assert.equal((error as DeadlineError).timeout, true)
  assert.equal((error as DeadlineError).code, 'DEADLINE')
}

/** Times how long `start()` takes to fail with DeadlineError; it must not be earlier than `inexact` allows, nor later than the slack. */
async function timesOut(time: Pace, ms: number, what: string, start: () => Promise<unknown>, inexact = ROUNDING): Promise<void> {
  const began = time.now()
  let took = Number.NaN
  const running = start().then(
    () => assert.fail(`${what} should have timed out`),
    (error: unknown) => {
      took = time.now() - began
      timedOut(error, what)
    },
  )
  if (!time.real) await time.pass(ms + ROUNDING)
  await running
  assert.ok(took >= ms - inexact, `${what} failed ${ms - took} ms before its deadline of ${ms} ms`)
  assert.ok(took <= ms + time.slack + ROUNDING, `${what} failed ${took - ms} ms after its deadline of ${ms} ms`)
}

export const DEADLINES: readonly Property<StreamCase>[] = [
  {
    id: 'G3',
    title: '10 readers × 100 reads with deadlines of 1 ms: one reads, the others get Busy, nothing is lost',
    directed: true,
    async run({ a, b, time }) {
      const data = new Random(3).bytes(20_000)
      const seen: Uint8Array[] = []
      const reader = async () => {
        const into = new Uint8Array(64)
        for (let i = 0; i < 100; i++) {
          try {
            const count = await b.readInto(into, { timeout: 1 })
            assert.ok(count !== null, 'the stream ended')
            seen.push(into.slice(0, count))
            into.fill(0)
          } catch (error) {
            if (!(error instanceof Busy)) timedOut(error, 'a racing read')
            await settle(1)
          }
        }
      }
      const sending = (async () => {
        for (let at = 0; at < data.length; at += 500) {
          await a.write(data.subarray(at, at + 500))
          await settle(1)
        }
      })()
      await time.run(Promise.all(Array.from({ length: 10 }, reader)), HOUR)
      const got = Buffer.concat(seen)
      const rest = await readCount(b, data.length - got.length)
      await sending
      assert.ok(Buffer.concat([got, rest]).equals(data))
    },
  },
  {
    id: 'G4',
    title: '10 writers × 100 writes with deadlines of 1 ms: in order, and bytesWritten tells exactly what was sent',
    directed: true,
    async run({ a, b, time }) {
      let sent = 0
      const writer = async (mark: number) => {
        const piece = new Uint8Array(1024).fill(mark)
        for (let i = 0; i < 100; i++) {
          try {
            await a.write(piece, { timeout: 1 })
            sent += piece.length
          } catch (error) {
            timedOut(error, 'a racing write')
            sent += (error as DeadlineError).bytesWritten ?? assert.fail('bytesWritten is missing')
          }
        }
      }
      const [writing, slowly] = [Promise.all(Array.from({ length: 10 }, (_, i) => writer(i))), new Random(5)]
      let finished = false
      const receiving = (async () => {
        let count = 0
        for (;;) {
          const chunk = await b.read({ limit: slowly.int(1, 8192) })
          if (chunk === null) return count
          count += chunk.length
          if (!finished && slowly.int(0, 3) === 0) await settle(1)
        }
      })()
      await time.run(writing, HOUR)
      finished = true
      await a.end()
      assert.equal(await receiving, sent)
    },
  },
  {
    id: 'G5',
    title: 'a read deadline in the past: the read fails, writing works',
    directed: true,
    async run({ a, b }) {
      timedOut(await a.read({ timeout: 0 }).catch((error: unknown) => error), 'the read')
      timedOut(await a.read({ deadline: 1 }).catch((error: unknown) => error), 'the read')
      timedOut(await a.read({ deadline: new Date(1) }).catch((error: unknown) => error), 'the read')
      await a.write('x')
      assert.equal(latin1(await b.read()), 'x')
    },
  },
  {
    id: 'G6',
    title: 'a write deadline in the past: the write fails and sends nothing, reading works',
    directed: true,
    async run({ a, b }) {
      const error = await failsWith(a.write('never sent', { timeout: 0 }), 'the write', DeadlineError)
      assert.equal(error.bytesWritten, 0)
      timedOut(await a.write('never sent', { deadline: 1 }).catch((reason: unknown) => reason), 'the write')
      await b.write('x')
      assert.equal(latin1(await a.read()), 'x')
      await a.write('y')
      assert.equal(latin1(await b.read()), 'y')
    },
  },
  {
    id: 'G7',
    title: 'under a past deadline nothing is transferred; after clearing it an echo works',
    directed: true,
    async run({ a, b }) {
      await b.write('here')
      await a.peek(1)
      const deadline = new Deadline(1)
      timedOut(await a.read({ deadline }).catch((error: unknown) => error), 'the read')
      const error = await failsWith(a.write('never sent', { deadline }), 'the write', DeadlineError)
      assert.equal(error.bytesWritten, 0)
      deadline.clear()
      assert.equal(latin1(await a.readExactly(4, { deadline })), 'here')
      await a.write('echo', { deadline })
      assert.equal(latin1(await b.readExactly(4, { deadline })), 'echo')
    },
  },
  {
    id: 'G8',
    title: 'a deadline moved to the past while a read and a write loop wait fails both, not before',
    clogged: true,
    directed: true,
    async run({ a, time }) {
      const deadline = new Deadline()
      const reading = a.read({ deadline })
      const writing = a.write(new Uint8Array(1 << 20), { deadline })
      await time.stillPending(Promise.race([reading, writing]), 'reading and writing')
      deadline.set(1)
      timedOut(await reading.catch((error: unknown) => error), 'the read')
      timedOut(await writing.catch((error: unknown) => error), 'the write')
    },
  },
  {
    id: 'G9',
    title: 'after both directions timed out at +100 ms the stream goes on where it was',
    clogged: true,
    directed: true,
    async run({ a, b, time }) {
      const deadline = new Deadline(time.wall() + 100)
      const reading = a.read({ deadline }).catch((error: unknown) => error)
      const writing = a.write(new Uint8Array(1 << 20), { deadline }).catch((error: unknown) => error)
      await time.pass(100)
      timedOut(await reading, 'the read')
      timedOut(await writing, 'the write')
      await resynchronise(a, b, '\x00marker\x01')
    },
  },
  {
    id: 'G11',
    title: 'reads, writes, deadlines and facts in disorder: nothing breaks, then a round trip works',
    directed: true,
    async run({ a, b, time }) {
      const [reads, writes] = [new Deadline(), new Deadline()]
      const tolerate = (error: unknown) => assert.ok(error instanceof DeadlineError || error instanceof Busy, String(error))
      const chaos: Promise<unknown>[] = []
      for (let i = 0; i < 100; i++) {
        chaos.push(a.read({ deadline: reads, limit: 1 }).catch(tolerate), a.write(new Uint8Array(10), { deadline: writes }).catch(tolerate))
        reads.set(time.wall() + 10)
        if (i % 3 === 0) reads.set(1)
        if (i % 5 === 0) writes.set(1)
        else writes.set(time.wall() + 10)
        void [a.local, a.remote, a.state, a.stats, a.security, a.owner.name]
        if (i % 10 === 0) await settle(1)
      }
      await time.run(Promise.all(chaos), HOUR)
      await resynchronise(a, b, '\x00marker\x01')
      assert.ok(a.stats.bytesRead === 4)
    },
  },
  {
    id: 'G12',
    title: 'a timeout is told by class, code and predicate, with its operation and ends',
    directed: true,
    async run({ a, time }) {
      const reading = a.read({ timeout: 5 })
      reading.catch(() => {})
      await time.pass(5)
      const error = await failsWith(reading, 'the read', DeadlineError, 'DEADLINE')
      assert.ok(error instanceof SocketError && error instanceof Error)
      assert.equal(error.timeout, true)
      assert.equal(error.op, 'read')
      assert.equal(error.name, 'DeadlineError')
      assert.match(error.message, /deadline/)
    },
  },
  {
    id: 'N1',
    title: 'a past deadline wins over data that is ready, and consumes nothing',
    directed: true,
    async run({ a, b }) {
      await a.write('x')
      await b.peek(1)
      for (const [op, promise] of [
        ['read', () => b.read({ timeout: 0 })],
        ['readInto', () => b.readInto(new Uint8Array(1), { timeout: 0 })],
        ['readExactly', () => b.readExactly(1, { timeout: 0 })],
        ['readLine', () => b.readLine({ timeout: 0 })],
        ['readAll', () => b.readAll({ deadline: 0 })],
        ['peek', () => b.peek(1, { timeout: 0 })],
        ['waitReadable', () => b.waitReadable({ timeout: 0 })],
        ['waitWritable', () => b.waitWritable({ timeout: 0 })],
        ['flush', () => b.flush({ timeout: 0 })],
      ] as const) {
        timedOut(await promise().catch((error: unknown) => error), op)
      }
      assert.equal(latin1(await b.read()), 'x')
    },
  },
  {
    id: 'N2',
    title: 'a deadline that was cleared does not fire',
    directed: true,
    async run({ a, b, time }) {
      const deadline = new Deadline(1)
      timedOut(await b.read({ deadline }).catch((error: unknown) => error), 'the read')
      deadline.clear()
      const reading = b.read({ deadline })
      await time.stillPending(reading, 'the read', 100)
      deadline.set(time.wall() + 50)
      deadline.clear()
      await time.stillPending(reading, 'the read', 100)
      await a.write('x')
      assert.equal(latin1(await reading), 'x')
    },
  },
  {
    id: 'N3',
    title: 'the largest deadlines do not overflow',
    directed: true,
    async run({ a, b, time }) {
      const far = [
        { timeout: Number.MAX_VALUE },
        { timeout: Number.POSITIVE_INFINITY },
        { timeout: 2 ** 31 },
        { deadline: new Date(8.64e15) },
      ]
      for (const o of [...far, { timeout: Number.MAX_SAFE_INTEGER, deadline: Number.MAX_VALUE }]) {
        const reading = b.read(o)
        await time.stillPending(reading, `a read with ${JSON.stringify(o)}`, 5)
        await a.write('x', o)
        assert.equal(latin1(await reading), 'x')
      }
      for (const timeout of [-1, Number.NaN]) await assert.rejects(b.read({ timeout }), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' })
      await assert.rejects(b.read({ timeout: '5' as never }), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' })
    },
  },
  {
    id: 'N4',
    title: 'a read never fails before its deadline, nor long after it',
    directed: true,
    async run({ b, time }) {
      for (let i = 0; i < 10; i++) await timesOut(time, 10, 'the read', () => b.read({ timeout: 10 }))
      // `Date.now()` drops the part of the millisecond that has gone by, so a moment counted from it is up to one nearer.
      await timesOut(time, 10.75, 'the read', () => b.read({ deadline: time.wall() + 10.75 }), time.real ? 1 : ROUNDING)
    },
  },
  {
    id: 'N5',
    title: 'deadlines from a nanosecond to a second, three times each',
    directed: true,
    async run({ b, time }) {
      // Go's list, in milliseconds; on real clocks the last few are left to N4 and G9.
      const all = [1e-6, 2e-6, 5e-6, 1e-5, 1e-4, 1e-3, 5e-3, 1e-2, 0.05, 0.1, 0.2, 0.5, 0.75, 1, 5, 25, 250, 500, 1000]
      for (const ms of time.real ? all.slice(0, 16) : all) {
        for (let i = 0; i < 3; i++) await timesOut(time, ms, `a read with ${ms} ms`, () => b.read({ timeout: ms }))
      }
    },
  },
  {
    id: 'N6',
    title: 'a deadline renewed before each of a thousand operations never fires',
    directed: true,
    async run({ a, b, time }) {
      const deadline = new Deadline()
      for (let i = 0; i < 1000; i++) {
        deadline.set(time.wall() + HOUR)
        const [, got] = await Promise.all([a.write('x', { deadline }), b.read({ deadline })])
        assert.equal(got?.length, 1)
        if (!time.real && i % 100 === 0) await time.pass(HOUR - 1)
      }
    },
  },
  {
    id: 'N7',
    title: 'a thousand moves of a deadline race reads and writes; no byte is lost',
    directed: true,
    async run({ a, b, time }) {
      const deadline = new Deadline()
      const data = new Random(7).bytes(10_000)
      const seen: Uint8Array[] = []
      let count = 0
      const reading = (async () => {
        while (count < data.length) {
          try {
            const chunk = await b.read({ deadline, limit: 100 })
            assert.ok(chunk !== null, 'the stream ended')
            seen.push(chunk)
            count += chunk.length
          } catch (error) {
            timedOut(error, 'a read')
            await settle(1)
          }
        }
      })()
      const writing = (async () => {
        for (let at = 0; at < data.length;) {
          const piece = data.subarray(at, at + 64)
          try {
            await a.write(piece, { deadline })
            at += piece.length
          } catch (error) {
            timedOut(error, 'a write')
            at += (error as DeadlineError).bytesWritten as number
            await settle(1)
          }
        }
      })()
      for (let i = 0; i < 1000; i++) {
        deadline.set(i % 2 ? 1 : time.wall() + HOUR)
        if (i % 7 === 0) await settle(1)
      }
      deadline.clear()
      await Promise.all([reading, writing])
      assert.ok(Buffer.concat(seen).equals(data))
    },
  },
  {
    id: 'N8',
    title: 'a deadline moved to the past by another task unblocks a read at once',
    directed: true,
    async run({ b, time }) {
      const deadline = new Deadline(time.wall() + HOUR)
      const reading = b.read({ deadline })
      await time.stillPending(reading, 'the read', 5)
      const began = time.now()
      deadline.set(time.wall() - 1)
      timedOut(await reading.catch((error: unknown) => error), 'the read')
      assert.ok(time.now() - began <= time.slack)
    },
  },
  {
    id: 'N28',
    title: 'a close while a write is blocked ends within its own deadline and says what was lost',
    clogged: true,
    directed: true,
    async run({ a, time }) {
      const writing = a.write(new Uint8Array(100_000))
      writing.catch(() => {})
      await settle(2)
      const closing = a.close({ timeout: 50 })
      await failsWith(writing, 'the write', Closed, 'CLOSED')
      if (!time.real) await time.pass(50)
      const report = await closing
      assert.equal(report.clean, false)
      assert.equal(report.reason?.code, 'DEADLINE')
      assert.ok(report.unsent > 0)
    },
  },
  {
    id: 'N28',
    title: 'a close without a deadline, facing a peer that never reads, ends within the linger time (in virtual time only)',
    clogged: true,
    directed: true,
    async run({ a, time }) {
      // The default of 5 s is too long to wait for in real time.
      if (time.real) return
      const closing = a.close()
      const [report] = await Promise.all([closing, time.pass(10_000)])
      assert.equal(report.clean, false)
      assert.deepEqual(await a.closed, report)
    },
  },
]
