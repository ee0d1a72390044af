/** Deadlines, signals and the clock that arms them. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { systemClock } from '#src/deadline.js'
import { Cancelled, Deadline, DeadlineError, SocketError } from 'fairlead'
import { connectionPair, settle, VirtualClock } from 'fairlead/testing'
import { clogWith, pairOver, rawPair } from './support/pairs.js'

const HOUR = 3_600_000

async function rejection(promise: Promise<unknown>): Promise<SocketError> {
  const error = await promise.then(
    (value) => assert.fail(`resolved with ${String(value)}`),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof SocketError, String(error))
  return error as SocketError
}

/** Whether a promise has settled once everything that is ready has happened. */
async function isPending(promise: Promise<unknown>): Promise<boolean> {
  let pending = true
  const done = () => {
    pending = false
  }
  promise.then(done, done)
  await settle(5)
  return pending
}

describe('deadlines of operations', () => {
  test('timeout 0 and moments in the past win over data that is ready (N1), and consume nothing', async () => {
    await using pair = await pairOver('tcp')
    const { a, b } = pair
    await a.write('x')
    await b.peek()
    for (const o of [
      { timeout: 0 },
      { deadline: 0 },
      { deadline: Date.now() - 1 },
      { deadline: new Date(5) },
      { deadline: new Deadline(7) },
    ]) {
      for (const start of [
        () => b.read(o),
        () => b.readInto(new Uint8Array(9), o),
        () => b.readLine(o),
        () => b.readExactly(1, o),
        () => b.readUntil('x', o),
        () => b.readAll(o),
        () => b.peek(1, o),
        () => b.waitReadable(o),
        () => b.chunks(o).next(),
        () => a.write('never', o),
        () => a.writeSome('never', o),
        () => a.flush(o),
        () => a.waitWritable(o),
        () => a.end(o),
      ]) {
        const error = await rejection(start())
        assert.ok(error instanceof DeadlineError, start.toString())
        assert.equal(error.code, 'DEADLINE')
        assert.equal(error.timeout, true)
      }
    }
    assert.equal((await rejection(a.write('never', { timeout: 0 }))).bytesWritten, 0)
    assert.equal(Buffer.from((await b.read()) as Uint8Array).toString(), 'x')
    assert.equal(a.state, 'open')
  })

  test('the earlier of timeout and deadline wins', async () => {
    for (const [o, at] of [
      [{ timeout: 100, deadline: 500 }, 100],
      [{ timeout: 500, deadline: 100 }, 100],
      [{ timeout: 100 }, 100],
      [{ deadline: 100 }, 100],
      [{ timeout: Number.POSITIVE_INFINITY, deadline: 100 }, 100],
      [{ timeout: 100, deadline: Number.POSITIVE_INFINITY }, 100],
    ] as const) {
      const clock = new VirtualClock()
      await using pair = connectionPair({ clock })
      const wait = 'deadline' in o ? { ...o, deadline: o.deadline + clock.wall() } : o
      const reading = rejection(pair.b.read(wait))
      await clock.advance(at - 1)
      assert.equal(await isPending(reading), true)
      await clock.advance(1)
      assert.ok((await reading) instanceof DeadlineError)
      assert.equal(clock.pending, 0)
    }
  })

  test('a Deadline moved to the past acts at once on everything that waits under it', async () => {
    const clock = new VirtualClock()
    await using raw = await rawPair({ clock })
    const { connection } = raw
    await clogWith(connection)
    const deadline = new Deadline()
    assert.equal(deadline.at, Number.POSITIVE_INFINITY)
    const waits = [
      connection.read({ deadline }),
      connection.write(new Uint8Array(1 << 20), { deadline }),
      connection.flush({ deadline }),
      connection.waitWritable({ deadline }),
      connection.end({ deadline }),
    ].map((promise) => rejection(promise))
    assert.equal(await isPending(Promise.race(waits)), true)
    deadline.set(new Date(clock.wall()))
    for (const error of await Promise.all(waits)) assert.ok(error instanceof DeadlineError)
    assert.equal(clock.pending, 0)
  })

  test('a Deadline moved on, or cleared, does not fire (N2)', async () => {
    const clock = new VirtualClock()
    await using pair = connectionPair({ clock })
    const deadline = new Deadline(clock.wall() + 100)
    const reading = pair.b.read({ deadline })
    await clock.advance(99)
    deadline.set(clock.wall() + 100)
    await clock.advance(99)
    deadline.clear()
    await clock.advance(HOUR)
    assert.equal(await isPending(reading), true)
    await pair.a.write('x')
    assert.equal((await reading)?.length, 1)
    assert.equal(clock.pending, 0)
  })

  test('moving a Deadline on touches no timer until the one that is armed is due; moving it back acts at its new moment', async () => {
    let armed = 0
    class Counting extends VirtualClock {
      override at(when: number, fn: () => void): () => void {
        armed++
        return super.at(when, fn)
      }
    }
    const clock = new Counting()
    await using pair = connectionPair({ clock })
    const start = clock.wall()
    const deadline = new Deadline(start + 100)
    const reading = rejection(pair.b.read({ deadline }))
    const before = armed
    for (let ms = 101; ms <= 1_000; ms++) deadline.set(start + ms)
    assert.equal(armed, before)
    await clock.advance(100)
    assert.deepEqual([armed, clock.pending, clock.next], [before + 1, 1, 1_000])
    deadline.set(start + 5_000)
    deadline.set(start + 700)
    await clock.advance(599)
    assert.equal(await isPending(reading), true)
    await clock.advance(1)
    assert.ok((await reading) instanceof DeadlineError)
    assert.equal(clock.pending, 0)
  })

  test('a cleared Deadline leaves no timer, and can be set again', async () => {
    const clock = new VirtualClock()
    await using pair = connectionPair({ clock })
    const deadline = new Deadline(clock.wall() + 100)
    const reading = rejection(pair.b.read({ deadline }))
    deadline.clear()
    assert.equal(clock.pending, 0)
    deadline.set(clock.wall() + 50)
    await clock.advance(49)
    assert.equal(await isPending(reading), true)
    await clock.advance(1)
    assert.ok((await reading) instanceof DeadlineError)
  })

  test('a timeout beside a Deadline counts from the call, however the Deadline moves', async () => {
    const clock = new VirtualClock()
    await using pair = connectionPair({ clock })
    const deadline = new Deadline(clock.wall() + 10)
    const reading = rejection(pair.b.read({ deadline, timeout: 100 }))
    deadline.set(clock.wall() + HOUR)
    await clock.advance(99)
    assert.equal(await isPending(reading), true)
    await clock.advance(1)
    assert.ok((await reading) instanceof DeadlineError)
  })

  test('an operation that is done leaves no timer and no listener behind', async () => {
    const clock = new VirtualClock()
    await using pair = connectionPair({ clock })
    const controller = new AbortController()
    const deadline = new Deadline(clock.wall() + HOUR)
    const { signal } = controller
    const added: string[] = []
    const add = signal.addEventListener.bind(signal)
    const remove = signal.removeEventListener.bind(signal)
    signal.addEventListener = ((type: string, ...rest: [() => void]) => (added.push(type), add(type, ...rest))) as typeof add
    signal.removeEventListener = ((type: string, ...rest: [() => void]) => (added.pop(), remove(type, ...rest))) as typeof remove
    for (let i = 0; i < 5; i++) {
      const o = { signal, deadline, timeout: HOUR }
      const reading = pair.b.read(o)
      assert.equal(added.length, 1)
      await pair.a.write('x', o)
      await reading
      await pair.a.flush(o)
    }
    assert.equal(clock.pending, 0)
    assert.deepEqual(added, [])
  })

  test('a value that is no moment is refused where it is set, and changes nothing', () => {
    const deadline = new Deadline(5)
    for (const value of [Number.NaN, -1, new Date(Number.NaN)])
      assert.throws(() => deadline.set(value), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' })
    assert.throws(() => deadline.set('soon' as never), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' })
    assert.throws(() => new Deadline({} as never), { name: 'TypeError' })
    assert.equal(deadline.at, 5)
  })

  test('a partial read that times out is still there', async () => {
    const clock = new VirtualClock()
    await using pair = connectionPair({ clock })
    await pair.a.write('half of a line')
    for (const start of [
      () => pair.b.readLine({ timeout: 5 }),
      () => pair.b.readExactly(100, { timeout: 5 }),
      () => pair.b.readAll({ timeout: 5 }),
    ]) {
      const failing = rejection(start())
      await clock.advance(5)
      assert.ok((await failing) instanceof DeadlineError)
    }
    await pair.a.write('\n')
    assert.equal(await pair.b.readLine(), 'half of a line')
  })
})

describe('signals', () => {
  test('cancel the operation and not the connection; the cause is the reason', async () => {
    await using pair = await pairOver('tcp')
    const { a, b } = pair
    const controller = new AbortController()
    const reading = rejection(b.readLine({ signal: controller.signal }))
    await a.write('partial')
    await settle(5)
    controller.abort('enough')
    const error = await reading
    assert.ok(error instanceof Cancelled)
    assert.deepEqual([error.code, error.op, error.cause], ['CANCELLED', 'readLine', 'enough'])
    await a.write(' line\n')
    assert.equal(await b.readLine(), 'partial line')
  })

  test('AbortSignal.timeout is a deadline like any other', async () => {
    await using pair = await pairOver('tcp')
    const error = await rejection(pair.b.read({ signal: AbortSignal.timeout(3) }))
    assert.ok(error instanceof DeadlineError)
    assert.equal((error.cause as Error).name, 'TimeoutError')
  })

  test('a signal that has aborted wins over data that is ready', async () => {
    await using pair = await pairOver('tcp')
    await pair.a.write('x')
    await pair.b.peek()
    assert.ok((await rejection(pair.b.read({ signal: AbortSignal.abort() }))) instanceof Cancelled)
    assert.equal((await pair.b.read())?.length, 1)
  })

  test('a cancelled write says how much went out, and the stream goes on', async () => {
    await using pair = await pairOver('tcp')
    const { a, b } = pair
    const before = await clogWith(a)
    const controller = new AbortController()
    const writing = rejection(a.write([new Uint8Array(70_000), new Uint8Array(900_000)], { signal: controller.signal }))
    const behind = a.write('tail')
    controller.abort()
    const { bytesWritten } = await writing
    const got = b.readExactly(before + (bytesWritten as number) + 4)
    await behind
    assert.equal(Buffer.from((await got)?.subarray(-4) as Uint8Array).toString(), 'tail')
  })
})

describe('the system’s clock', () => {
  test('never fires early, and in order', async () => {
    const fired: number[] = []
    const begun = systemClock.now()
    const waits = [20, 3, 7.5, 3, 0, 12.25].map(
      (ms) =>
        new Promise<void>((resolve) => {
          systemClock.at(begun + ms, () => {
            assert.ok(systemClock.now() >= begun + ms, `${systemClock.now() - begun} ms instead of ${ms}`)
            fired.push(ms)
            resolve()
          })
        }),
    )
    await Promise.all(waits)
    assert.deepEqual(
      fired,
      [...fired].sort((x, y) => Math.ceil(begun + x) - Math.ceil(begun + y)),
    )
  })

  test('what is cancelled does not fire, cancelling twice is harmless, also from inside another timer', async () => {
    const fired: string[] = []
    await new Promise<void>((resolve) => {
      const at = systemClock.now() + 2
      let cancelLater: () => void = () => {}
      systemClock.at(at, () => {
        fired.push('first')
        cancelLater()
        cancelLater()
        systemClock.at(systemClock.now(), resolve)
      })
      cancelLater = systemClock.at(at, () => fired.push('cancelled'))
    })
    assert.deepEqual(fired, ['first'])
  })

  test('far deadlines that are renewed all the time do not pile up', () => {
    const held = () => {
      ;(globalThis as { gc?: () => void }).gc?.()
      return process.memoryUsage().heapUsed
    }
    const renew = (from: number, times: number) => {
      for (let i = 0; i < times; i++) systemClock.at(from + i + HOUR, () => {})()
    }
    const now = systemClock.now()
    renew(now, 1000)
    const before = held()
    renew(now, 300_000)
    const grown = held() - before
    assert.ok(grown < 16 << 20, `${grown} bytes for 300,000 deadlines that nobody waits for any more`)
  })

  test('does not keep the process alive for what is cancelled (a timeout of an hour)', async () => {
    await using pair = await pairOver('tcp')
    const reading = pair.b.read({ timeout: HOUR })
    await pair.a.write('x')
    assert.equal((await reading)?.length, 1)
  })
})
