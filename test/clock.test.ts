import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Random, settle, VirtualClock } from 'fairlead/testing'

test('time stands still until it is advanced', async () => {
  const clock = new VirtualClock()
  assert.equal(clock.now(), 0)
  await settle(5)
  assert.equal(clock.now(), 0)
  await clock.advance(1500)
  assert.equal(clock.now(), 1500)
  assert.equal(clock.wall(), Date.UTC(2026, 0, 1) + 1500)
})

test('timers fire in order of their moments, then of their arming, each at its own moment', async () => {
  const clock = new VirtualClock()
  const seen: [string, number][] = []
  const note = (name: string) => () => seen.push([name, clock.now()])
  clock.at(20, note('c'))
  clock.at(10, note('a'))
  clock.at(10, note('b'))
  clock.at(31, note('never'))
  await clock.advance(30)
  assert.deepEqual(seen, [
    ['a', 10],
    ['b', 10],
    ['c', 20],
  ])
  assert.equal(clock.pending, 1)
  assert.equal(clock.next, 31)
})

test('what a timer sets in motion has happened before the next one fires', async () => {
  const clock = new VirtualClock()
  const seen: string[] = []
  clock.at(1, () => {
    void settle(1).then(() => {
      seen.push('after a turn')
      clock.at(2, () => seen.push('armed meanwhile'))
    })
  })
  clock.at(3, () => seen.push('last'))
  await clock.advance(3)
  assert.deepEqual(seen, ['after a turn', 'armed meanwhile', 'last'])
})

test('a cancelled timer does not fire, and cancelling twice is harmless', async () => {
  const clock = new VirtualClock()
  const cancel = clock.at(5, () => assert.fail('fired'))
  cancel()
  cancel()
  await clock.advance(10)
  assert.equal(clock.pending, 0)
})

test('a timer in the past fires at the next step, with time where it was', async () => {
  const clock = new VirtualClock()
  await clock.advance(100)
  let fired = -1
  clock.at(50, () => (fired = clock.now()))
  await clock.advance(0)
  assert.equal(fired, 100)
})

test('autojump goes to the next timer once nothing else happens', async () => {
  const clock = new VirtualClock({ autojump: 3 })
  const sleep = (ms: number) => new Promise<void>((resolve) => clock.at(clock.now() + ms, resolve))
  await Promise.all([
    sleep(3_600_000),
    (async () => {
      await sleep(10)
      assert.equal(clock.now(), 10)
      await sleep(10)
      assert.equal(clock.now(), 20)
    })(),
  ])
  assert.equal(clock.now(), 3_600_000)
})

test('bad arguments name the value', async () => {
  assert.throws(() => new VirtualClock({ autojump: -1 }), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE', message: /autojump.*-1/ })
  await assert.rejects(new VirtualClock().advance(Number.NaN), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE', message: /ms.*NaN/ })
})

test('the same seed gives the same sequence', () => {
  const [a, b] = [new Random(7), new Random(7)]
  assert.deepEqual([a.next(), a.int(1, 6), a.bytes(5)], [b.next(), b.int(1, 6), b.bytes(5)])
  assert.notEqual(new Random(8).next(), new Random(7).next())
  const dice = Array.from({ length: 600 }, () => a.int(1, 6))
  assert.deepEqual([...new Set(dice)].sort(), [1, 2, 3, 4, 5, 6])
})
