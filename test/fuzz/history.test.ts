/**
 * X10: what one end handed over and what the other received, over seeded schedules of operations, deadlines and faults. The
 * received bytes are always the first of those handed over, an end means all of them, and nothing is held afterwards.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Broken, Cancelled, Closed, type Connection, DeadlineError, FrameError, type SocketError } from 'fairlead'
import { type Capacity, connectionPair, type FaultPlan, Random, settle, type TestPair, VirtualClock } from 'fairlead/testing'

const SCHEDULES = 10_000
const CAPACITIES = [16, 700, 4096, Number.POSITIVE_INFINITY, 'lockstep'] as const

/** Virtual milliseconds without a byte after which nothing is expected any more. */
const PATIENCE = 3_000

/** What is known of one direction when both ends are done with it. */
class History {
  /** Bytes that the writer was told were handed over. */
  handed: Buffer = Buffer.alloc(0)
  /** How the writer left: nothing was cut short before. */
  ended: 'end' | 'close' | 'abort' | 'broken' | 'unsure' | undefined
  received: Buffer = Buffer.alloc(0)
  outcome: 'end' | 'broken' | 'closed' | undefined
  #next = 0

  /** Bytes that no two places of the stream share, as far as that is possible. */
  fresh(length: number): Buffer {
    const bytes = Buffer.alloc(length)
    for (let i = 0; i < length; i++) bytes[i] = (this.#next + i * 7 + ((this.#next + i) >> 8)) & 0xff
    this.#next += length
    return bytes
  }

  hand(bytes: Uint8Array): void {
    this.handed = Buffer.concat([this.handed, bytes])
  }

  receive(bytes: Uint8Array): void {
    this.received = Buffer.concat([this.received, bytes])
  }
}

function plan(random: Random, clock: VirtualClock, capacity: Capacity): FaultPlan | undefined {
  if (random.int(0, 3) === 0) return undefined
  const cut = { after: random.int(0, 6_000), of: random.pick(['read', 'write'] as const), by: random.pick(['reset', 'silence'] as const) }
  return {
    seed: random.int(1, 1e6),
    clock,
    ...(random.int(0, 2) === 0 && { latency: [0, random.int(0, 20)] as const }),
    ...(random.int(0, 1) === 0 && { slice: random.int(1, 2_000), ragged: random.int(0, 1) === 0 }),
    ...(random.int(0, 2) === 0 && { stutter: random.int(0, 6) / 10 }),
    // A timer for each byte would take all the time there is.
    ...(random.int(0, 5) === 0 && typeof capacity === 'number' && capacity > 1_000 && { throttle: random.int(20_000, 400_000) }),
    ...(random.int(0, 3) === 0 && { cut }),
  }
}

async function write(connection: Connection, random: Random, history: History): Promise<void> {
  for (let i = random.int(0, 6); i > 0; i--) {
    const bytes = history.fresh(random.int(0, 3_000))
    const wait = random.int(0, 3) === 0 ? { timeout: random.int(0, 15) } : undefined
    const half = random.int(0, bytes.length)
    const data = random.int(0, 4) === 0 ? [bytes.subarray(0, half), bytes.subarray(half)] : bytes
    try {
      if (random.int(0, 4) === 0 && bytes.length > 0) history.hand(bytes.subarray(0, await connection.writeSome(bytes, wait)))
      else {
        await connection.write(data, wait)
        history.hand(bytes)
      }
    } catch (error) {
      history.hand(bytes.subarray(0, (error as SocketError).bytesWritten ?? 0))
      if (error instanceof DeadlineError) continue
      assert.ok(error instanceof Broken || error instanceof Closed, String(error))
      history.ended = 'broken'
      return
    }
  }
  history.ended = random.pick(['end', 'end', 'close', 'abort'] as const)
  if (history.ended === 'abort') return connection.abort()
  if (history.ended === 'close') return void (await connection.close())
  await connection.end().catch((error: unknown) => {
    assert.ok(error instanceof Broken || error instanceof Closed, String(error))
    // The end may have been on its way when the connection broke.
    history.ended = 'unsure'
  })
}

async function step(connection: Connection, random: Random, history: History): Promise<boolean> {
  const wait = random.int(0, 2) === 0 ? { timeout: random.int(0, 10) } : {}
  const limit = random.int(1, 2_500)
  switch (random.int(0, 5)) {
    case 0: {
      const into = new Uint8Array(limit)
      const count = await connection.readInto(into, wait)
      if (count !== null) history.receive(into.subarray(0, count))
      return count !== null
    }
    case 1: {
      const bytes = await connection.readExactly(limit, wait)
      if (bytes !== null) history.receive(bytes)
      return bytes !== null
    }
    case 2: {
      const seen = await connection.peek(random.int(1, 500), wait)
      if (seen === null) return true
      const bytes = connection.tryRead(seen.length)
      assert.ok(bytes instanceof Uint8Array && bytes.length > 0, 'a read found nothing behind a peek that did')
      assert.ok(Buffer.from(seen).subarray(0, bytes.length).equals(bytes), 'a read gave something else than the peek before it')
      history.receive(bytes)
      return true
    }
    case 3: {
      const bytes = await connection.read({ limit, ...wait })
      if (bytes === null) return false
      const back = random.int(0, bytes.length)
      history.receive(bytes.subarray(0, back))
      connection.unread(bytes.subarray(back))
      return true
    }
    case 4: {
      const bytes = connection.tryRead(limit)
      if (bytes === undefined) await connection.waitReadable(wait)
      else if (bytes !== null) history.receive(bytes)
      return bytes !== null
    }
    default: {
      const bytes = await connection.read({ limit, ...wait })
      if (bytes !== null) history.receive(bytes)
      return bytes !== null
    }
  }
}

async function read(connection: Connection, random: Random, history: History): Promise<void> {
  for (;;) {
    try {
      if (!(await step(connection, random, history))) {
        history.outcome = 'end'
        return
      }
    } catch (error) {
      if (error instanceof DeadlineError || error instanceof Cancelled) continue
      if (error instanceof FrameError) {
        // The end is nearer than what was asked for, and everything up to it is readable.
        assert.equal(error.code, 'INCOMPLETE')
        continue
      }
      assert.ok(error instanceof Broken || error instanceof Closed, String(error))
      history.outcome = error instanceof Closed ? 'closed' : 'broken'
      return
    }
  }
}

function judge(history: History, cut: boolean): void {
  const { handed, received, outcome, ended } = history
  assert.ok(received.equals(handed.subarray(0, received.length)), 'what was received is not what was handed over')
  if (outcome === 'end') {
    assert.ok(ended === 'end' || ended === 'close' || ended === 'unsure', `a clean end where the writer left by ${ended}`)
    assert.equal(received.length, handed.length, 'a clean end before everything was received')
  }
  if (!cut && ended === 'end' && outcome !== 'closed') assert.equal(outcome, 'end', 'an end that did not arrive')
}

/** Whether nothing moves any more before everybody is done. */
async function stalls({ a, b }: TestPair, clock: VirtualClock, over: () => boolean): Promise<boolean> {
  let moved = -1
  let since = 0
  for (;;) {
    await settle(10)
    if (over()) return false
    const count = a.stats.bytesRead + a.stats.bytesWritten + b.stats.bytesRead + b.stats.bytesWritten
    if (count !== moved) since = clock.now()
    else if (clock.pending === 0 || clock.now() - since > PATIENCE) return true
    moved = count
  }
}

async function run(seed: number): Promise<void> {
  const random = new Random(seed)
  // Time jumps on whenever nothing moves any more.
  const clock = new VirtualClock({ autojump: 2 })
  const capacity = random.pick(CAPACITIES)
  const plans = [plan(random, clock, capacity), plan(random, clock, capacity)] as const
  const pair = connectionPair({ capacity, clock, faults: plans, limits: { lingerTime: 200 } })
  const [there, back] = [new History(), new History()]
  let over = false
  const all = Promise.all([
    write(pair.a, new Random(seed + 1), there),
    write(pair.b, new Random(seed + 2), back),
    read(pair.b, new Random(seed + 3), there),
    read(pair.a, new Random(seed + 4), back),
  ]).finally(() => (over = true))
  all.catch(() => {})
  const silent = await stalls(pair, clock, () => over)
  if (silent) pair.a.abort()
  if (silent) pair.b.abort()
  await all
  const cut = plans.some((one) => one?.cut !== undefined) || there.ended === 'abort' || back.ended === 'abort' || silent
  assert.ok(!silent || plans.some((one) => one?.cut?.by === 'silence'), 'it hung without a reason')
  judge(there, cut || back.ended === 'close')
  judge(back, cut || there.ended === 'close')
  // What came before a break stays readable until somebody says that nobody will.
  pair.a.abort()
  pair.b.abort()
  await pair.owner.end({ abort: true })
  assert.equal(pair.owner.shared.budget.held, 0, 'bytes are still accounted for')
}

const only = process.env['SEED']

test(`X10 the history of both ends holds over ${SCHEDULES} schedules of operations, deadlines and faults`, async () => {
  for (let seed = 1; seed <= SCHEDULES; seed++) {
    if (only !== undefined && seed !== Number(only)) continue
    try {
      await run(seed * 16)
    } catch (error) {
      throw new Error(`schedule ${seed}: ${(error as Error).message}`, { cause: error })
    }
  }
})
