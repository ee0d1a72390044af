import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import {
  connectionPair,
  faulty,
  FaultyStream,
  memory,
  memoryPair,
  Random,
  settle,
  VirtualClock,
  type FaultPlan,
  type StreamHandle,
} from 'fairlead/testing'
import { bytes, Ends, text } from './support/handles.js'

const faultyPair = (plan: FaultPlan): { near: Ends; far: Ends; faults: FaultyStream } => {
  const [a, b] = memoryPair()
  const faults = new FaultyStream(a, plan)
  return { near: new Ends(faults), far: new Ends(b), faults }
}

describe('FaultyStream', () => {
  test('slices limit each read and write, and ragged ones repeat for the same seed', async () => {
    const { near, far } = faultyPair({ slice: 2 })
    assert.equal(near.handle.write(bytes('abcdef')), 2)
    assert.equal(near.handle.writev([bytes('c'), bytes('def')]), 2)
    await near.end()
    assert.equal(text(await far.readAll()), 'abcd')
    await far.write(bytes('xyz'))
    assert.equal(text(await near.read()), 'xy')
    assert.equal(text(await near.read()), 'z')
    const lengths = async (seed: number) => {
      const ragged = faultyPair({ slice: 9, ragged: true, seed })
      await ragged.far.write(new Uint8Array(100))
      const seen: number[] = []
      for (let left = 100; left > 0; left -= seen.at(-1) as number) seen.push((await ragged.near.read())?.length ?? 0)
      return seen
    }
    assert.deepEqual(await lengths(5), await lengths(5))
    assert.notDeepEqual(await lengths(5), await lengths(6))
  })

  for (const plan of [
    { slice: 1 },
    { slice: 900, ragged: true },
    { stutter: 0.5 },
    { slice: 300, ragged: true, stutter: 0.3 },
  ] as FaultPlan[]) {
    test(`no byte is lost or doubled with ${JSON.stringify(plan)}`, async () => {
      const data = new Random(1).bytes(20_000)
      const { near, far } = faultyPair(plan)
      const there = near.write(data).then(() => near.end())
      assert.deepEqual(await far.readAll(), data)
      await there
      const back = far.write(data).then(() => far.end())
      assert.deepEqual(await near.readAll(), data)
      await back
    })
  }

  test('latency delays bytes and the end by its own clock', async () => {
    const clock = new VirtualClock()
    const { near, far } = faultyPair({ latency: 50, clock })
    await far.write(bytes('x'))
    await far.end()
    let seen: string | null | undefined = 'nothing'
    const reading = near.read().then((data) => (seen = text(data)))
    await clock.advance(49)
    assert.equal(seen, 'nothing')
    await clock.advance(1)
    await reading
    assert.equal(seen, 'x')
    assert.equal(await near.read(), null)
  })

  test('random latency keeps the order', async () => {
    const clock = new VirtualClock()
    const { near, far } = faultyPair({ latency: [1, 500], clock })
    const reading = near.readAll()
    for (let i = 0; i < 100; i++) {
      await far.write(new Uint8Array([i]))
      await settle(1)
    }
    await far.end()
    await clock.advance(1000)
    assert.deepEqual(
      [...(await reading)],
      Array.from({ length: 100 }, (_, i) => i),
    )
  })

  test('throttling takes the time that the rate allows', async () => {
    const clock = new VirtualClock()
    const { near, far } = faultyPair({ throttle: 1000, slice: 100, clock })
    let done = false
    const writing = near.write(new Uint8Array(1000)).then(() => (done = true))
    await clock.advance(899)
    assert.equal(done, false)
    await clock.advance(1)
    await writing
    await near.end()
    assert.equal((await far.readAll()).length, 1000)
  })

  test('a reset behind byte N of reading', async () => {
    const { near, far } = faultyPair({ cut: { after: 3, of: 'read', by: 'reset' } })
    await far.write(bytes('abcdef'))
    assert.equal(text(await near.read()), 'abc')
    await assert.rejects(near.read(), { code: 'ECONNRESET' })
    await assert.rejects(far.read(), { code: 'ECONNRESET' })
  })

  test('an end behind byte N of writing: later bytes vanish, and so does the layer’s own end', async () => {
    const { near, far } = faultyPair({ cut: { after: 3, of: 'write', by: 'end' } })
    await near.write(bytes('abcdef'))
    await near.end()
    assert.equal(text(await far.readAll()), 'abc')
  })

  test('silence behind byte N: nothing moves any more, not even a reset', async () => {
    const { near, far } = faultyPair({ cut: { after: 3, of: 'read', by: 'silence' } })
    await far.write(bytes('abcdef'))
    assert.equal(text(await near.read()), 'abc')
    assert.equal(near.handle.read(10), undefined)
    assert.equal(near.handle.write(bytes('x')), 0)
    const { readableEvents } = near
    far.handle.destroy(true)
    await settle(2)
    assert.equal(near.handle.read(10), undefined)
    assert.equal(near.readableEvents, readableEvents)
  })

  test('reset, end and failures on demand wake whoever waits', async () => {
    const first = faultyPair({})
    const reading = first.near.read()
    first.faults.reset()
    await assert.rejects(reading, { code: 'ECONNRESET' })
    assert.throws(() => first.near.handle.write(bytes('x')), { code: 'ECONNRESET' })
    const second = faultyPair({})
    second.faults.end()
    assert.equal(await second.far.read(), null)
    const third = faultyPair({})
    const failing = third.near.read()
    third.faults.fail('read', 'ETIMEDOUT')
    await assert.rejects(failing, { code: 'ETIMEDOUT' })
    third.faults.fail('write', 'EPIPE', 2)
    assert.throws(() => third.near.handle.write(bytes('x')), { code: 'EPIPE' })
    assert.throws(() => third.near.handle.write(bytes('x')), { code: 'EPIPE' })
    assert.equal(third.near.handle.write(bytes('x')), 1)
  })

  test('a destroyed stream leaves no timer', async () => {
    const clock = new VirtualClock()
    const { near, far } = faultyPair({ latency: 50, clock })
    await far.write(bytes('x'))
    await settle(1)
    assert.equal(near.handle.read(1), undefined)
    assert.equal(clock.pending, 1)
    near.handle.destroy(false)
    assert.equal(clock.pending, 0)
  })
})

describe('connections under faults', () => {
  test('a reader on a throttled line gets all of it, no sooner than the rate allows', async () => {
    const clock = new VirtualClock()
    await using pair = connectionPair({ clock, faults: [{ throttle: 10_000, slice: 1_000, clock }, undefined] })
    const data = new Random(2).bytes(30_000)
    const sending = pair.a.write(data).then(() => pair.a.end())
    let done = false
    const reading = pair.b.readAll().finally(() => (done = true))
    await clock.advance(2_899)
    assert.equal(done, false)
    await clock.advance(1)
    await sending
    assert.deepEqual(await reading, data)
  })

  test('an end that silence swallowed is woken by an abort', async () => {
    const pair = connectionPair({ faults: [{}, undefined] })
    pair.faults[0]?.silence()
    const ending = pair.a.end()
    pair.a.abort()
    await assert.rejects(ending, { name: 'Closed', code: 'ABORTED' })
    await pair.owner.end({ abort: true })
  })

  test('silence is ended by deadlines alone: of a read, of a write, of a close', async () => {
    const clock = new VirtualClock()
    await using pair = connectionPair({ clock, faults: [{}, undefined] })
    pair.faults[0]?.silence()
    const code = (promise: Promise<unknown>) =>
      promise.then(
        () => 'done',
        (error: NodeJS.ErrnoException) => error.code,
      )
    const outcomes = Promise.all([code(pair.a.read({ timeout: 100 })), code(pair.a.write(new Uint8Array(100_000), { timeout: 200 }))])
    await clock.advance(200)
    assert.deepEqual(await outcomes, ['DEADLINE', 'DEADLINE'])
    await pair.a.write('accepted')
    const closing = pair.a.close()
    await clock.advance(5_000)
    const report = await closing
    assert.deepEqual([report.clean, report.unsent, report.reason?.code], [false, 8, 'ETIMEDOUT'])
  })

  test('bytes before a cut are read, then the reset; what was written says how far it came', async () => {
    await using pair = connectionPair({ faults: [{ cut: { after: 5, of: 'write', by: 'reset' } }, undefined] })
    await assert.rejects(pair.a.write('hello world'), { name: 'Broken', code: 'ECONNRESET', bytesWritten: 5 })
    assert.equal(text(await pair.b.read()), 'hello')
    await assert.rejects(pair.b.read(), { name: 'Broken', code: 'ECONNRESET' })
  })
})

describe('faulty()', () => {
  const AT = { family: 'unix', path: '/s', abstract: false } as const
  const LISTEN = { backlog: 4, ipv6Only: false, reusePort: false, noDelay: true, keepAlive: false } as const
  const dial = (driver: ReturnType<typeof faulty>) =>
    new Promise<StreamHandle>((resolve, reject) =>
      driver.dial(AT, { noDelay: true, keepAlive: false }, (error, handle) => (handle ? resolve(handle) : reject(error as Error))),
    )

  test('system calls fail as often as asked, then work', async () => {
    const driver = faulty(memory())
    driver.fail('listen', 'EACCES')
    await assert.rejects(driver.listen(AT, LISTEN), { code: 'EACCES' })
    const listener = await driver.listen(AT, LISTEN)
    driver.fail('dial', 'ETIMEDOUT', 2)
    await assert.rejects(dial(driver), { code: 'ETIMEDOUT' })
    await assert.rejects(dial(driver), { code: 'ETIMEDOUT' })
    await dial(driver)
    let acceptable = 0
    listener.attach({ acceptable: () => acceptable++ })
    await settle(1)
    driver.fail('accept', 'EMFILE', Number.POSITIVE_INFINITY)
    await settle(1)
    assert.equal(acceptable, 2)
    assert.throws(() => listener.accept(), { code: 'EMFILE' })
    assert.throws(() => listener.accept(), { code: 'EMFILE' })
    driver.heal('accept')
    assert.ok(listener.accept())
  })

  test('each connection gets its plan by role and number, and can be cut later', async () => {
    const roles: string[] = []
    const driver = faulty(memory(), (role, index) => {
      roles.push(`${role} ${index}`)
      return role === 'dialled' ? { slice: 1 } : undefined
    })
    const listener = await driver.listen(AT, LISTEN)
    const near = new Ends(await dial(driver))
    const far = new Ends(listener.accept() as StreamHandle)
    assert.deepEqual(roles, ['dialled 0', 'accepted 0'])
    assert.equal(near.handle.write(bytes('ab')), 1)
    assert.equal(text(await far.read()), 'a')
    driver.accepted[0]?.reset()
    await assert.rejects(near.read(), { code: 'ECONNRESET' })
  })
})
