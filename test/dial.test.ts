import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { describe, test } from 'node:test'
import { Network } from 'fairlead'
import fc from 'fast-check'
import { type Address, type Endpoint, formatAddress, type IpAddress, ipAddress, parseEndpoint } from '#src/address.js'
import { attemptDeadline, dialAddresses, dialEndpoint, type Dialled, type DialRequest, interleave, type RaceOptions } from '#src/connect.js'
import { Deadline, spanning, systemClock } from '#src/deadline.js'
import type { DialSettings, StreamHandle } from '#src/driver.js'
import { Cancelled, DeadlineError, Denied, SocketError, SystemFailure } from '#src/errors.js'
import { policyFrom } from '#src/policy.js'
import type { Resolver } from '#src/resolve.js'
import { settle, VirtualClock } from '#src/testing/clock.js'

const settings: DialSettings = { noDelay: true, keepAlive: false }

/** When an attempt ends and how: a POSIX code, or `'open'`, or `'self'` for a connection to itself. `'throw'`: `dial` throws. */
interface Step {
  readonly after: number
  readonly with: string
}

const A6 = ipAddress('2001:db8::a', 80)
const B6 = ipAddress('2001:db8::b', 80)
const C4 = ipAddress('192.0.2.12', 80)
const D4 = ipAddress('192.0.2.13', 80)
const NEVER: Step = { after: Number.POSITIVE_INFINITY, with: 'open' }

/** A driver that does what its script says, on the virtual clock, and keeps account of every handle. */
class Scripted {
  readonly clock: VirtualClock
  /** `address@moment` of every dial, in order. */
  readonly dialled: string[] = []
  readonly cancelled: string[] = []
  readonly destroyed: { address: string; reset: boolean }[] = []
  open = 0
  /** Reports what comes after a cancellation, as no driver should. */
  careless = false
  readonly #script: (address: string, nth: number) => Step

  constructor(
    clock: VirtualClock,
    script: { readonly [address: string]: Step | readonly Step[] } | ((address: string, nth: number) => Step) = {},
  ) {
    this.clock = clock
    this.#script =
      typeof script === 'function'
        ? script
        : (address, nth) => {
            const steps = script[address] ?? NEVER
            return Array.isArray(steps) ? (steps[Math.min(nth, steps.length - 1)] as Step) : (steps as Step)
          }
  }

  dial(to: Address, _settings: DialSettings, done: (error: unknown, handle?: StreamHandle) => void): () => void {
    const address = formatAddress(to)
    const nth = this.dialled.filter((entry) => entry.startsWith(`${address}@`)).length
    this.dialled.push(`${address}@${this.clock.now()}`)
    const step = this.#script(address, nth)
    if (step.with === 'throw') throw Object.assign(new Error('thrown'), { code: 'EINVAL' })
    const finish = () =>
      ['open', 'self'].includes(step.with) ? done(undefined, this.#handle(to, step.with === 'self')) : done(failure(step.with))
    if (step.after < 0) {
      finish()
      return () => assert.fail('cancelled after it was done')
    }
    const cancel = step.after === Number.POSITIVE_INFINITY ? () => {} : this.clock.at(this.clock.now() + step.after, finish)
    return () => {
      this.cancelled.push(address)
      if (!this.careless) cancel()
    }
  }

  #handle(remote: Address, self: boolean): StreamHandle {
    const address = formatAddress(remote)
    let closed = false
    this.open++
    const destroy = (reset: boolean) => {
      if (!closed) this.open--
      closed = true
      this.destroyed.push({ address, reset })
    }
    return { local: self ? remote : ipAddress('192.0.2.1', 50_000), remote, destroy } as unknown as StreamHandle
  }
}

function failure(code: string, syscall = 'connect'): Error {
  return Object.assign(new Error(`${syscall} ${code}`), { code, syscall })
}

async function refusal(promise: Promise<unknown>): Promise<SocketError> {
  try {
    await promise
  } catch (error) {
    return error as SocketError
  }
  throw new assert.AssertionError({ message: 'it did not fail' })
}

function race(driver: Scripted, addresses: readonly Address[], o: Partial<RaceOptions> = {}): Promise<Dialled> {
  return dialAddresses({ driver, clock: driver.clock, addresses, settings, facts: { op: 'connect', endpoint: 'tcp://h.example:80' }, ...o })
}

/** Nothing waits, and only the winner is open. */
function assertClean(driver: Scripted, open: number): void {
  assert.equal(driver.clock.pending, 0, 'timers left')
  assert.equal(driver.open, open, 'handles open')
}

const names = (answer: readonly Address[]): Resolver => ({
  lookup: async () =>
    answer.map((address) => ({ address: (address as IpAddress).address, family: address.family === 'ipv6' ? (6 as const) : (4 as const) })),
})

describe('the order of a race (RFC 8305)', () => {
  const ORDERS: readonly (readonly [Address[], Address[]])[] = [
    [[], []],
    [[A6], [A6]],
    [
      [A6, B6, C4, D4],
      [A6, C4, B6, D4],
    ],
    [
      [C4, D4, A6, B6],
      [C4, A6, D4, B6],
    ],
    [
      [A6, B6],
      [A6, B6],
    ],
    [
      [A6, C4, D4],
      [A6, C4, D4],
    ],
    [
      [C4, A6, B6],
      [C4, A6, B6],
    ],
    [
      [A6, B6, C4],
      [A6, C4, B6],
    ],
  ]
  for (const [given, mixed] of ORDERS) {
    test(`${given.map(({ family }) => family).join(' ')} becomes ${mixed.map(({ family }) => family).join(' ')}`, () =>
      assert.deepEqual(interleave(given), mixed))
  }

  test('families alternate, and attempts start 250 ms apart', async () => {
    const driver = new Scripted(new VirtualClock(), { '192.0.2.13:80': { after: 100, with: 'open' } })
    const racing = race(driver, [A6, B6, C4, D4])
    await driver.clock.advance(249)
    assert.equal(driver.dialled.length, 1)
    await driver.clock.advance(1000)
    const { address } = await racing
    assert.deepEqual(driver.dialled, ['[2001:db8::a]:80@0', '192.0.2.12:80@250', '[2001:db8::b]:80@500', '192.0.2.13:80@750'])
    assert.equal(address, D4)
    assert.deepEqual(driver.cancelled, ['[2001:db8::a]:80', '192.0.2.12:80', '[2001:db8::b]:80'])
    assertClean(driver, 1)
  })

  test('a failed attempt starts the next at once, and the delay counts from there', async () => {
    const driver = new Scripted(new VirtualClock(), {
      '[2001:db8::a]:80': { after: 100, with: 'ENETUNREACH' },
      '[2001:db8::b]:80': { after: 0, with: 'open' },
    })
    const racing = race(driver, [A6, C4, B6])
    await driver.clock.advance(1000)
    const { attempts } = await racing
    assert.deepEqual(driver.dialled, ['[2001:db8::a]:80@0', '192.0.2.12:80@100', '[2001:db8::b]:80@350'])
    assert.deepEqual(attempts, [
      { address: '[2001:db8::a]:80', phase: 'connect', duration: 100, code: 'ENETUNREACH', message: 'there is no route to the network' },
    ])
    assertClean(driver, 1)
  })

  test('the first to connect wins, also when it started earlier than the last', async () => {
    const driver = new Scripted(new VirtualClock(), {
      '[2001:db8::a]:80': { after: 300, with: 'open' },
      '192.0.2.12:80': { after: 100, with: 'open' },
    })
    const racing = race(driver, [A6, C4])
    await driver.clock.advance(1000)
    assert.equal((await racing).address, A6)
    assert.deepEqual(driver.cancelled, ['192.0.2.12:80'])
    assertClean(driver, 1)
  })

  test('the delay can be chosen; without one attempts follow each other', async () => {
    const driver = new Scripted(new VirtualClock())
    const racing = race(driver, [A6, C4, B6], { stagger: 10, wait: { timeout: 100 } })
    await Promise.all([refusal(racing), driver.clock.advance(100)])
    assert.deepEqual(driver.dialled, ['[2001:db8::a]:80@0', '192.0.2.12:80@10', '[2001:db8::b]:80@20'])
    for (const stagger of [0, 9, -1, Number.NaN]) await assert.rejects(race(driver, [A6], { stagger }), { code: 'ERR_OUT_OF_RANGE' })
    assertClean(driver, 0)
  })

  test('a name with a thousand addresses is no port scan: 64 are tried', async () => {
    const driver = new Scripted(new VirtualClock(), () => ({ after: -1, with: 'ECONNREFUSED' }))
    const error = await refusal(
      race(
        driver,
        Array.from({ length: 1000 }, (_, i) => ipAddress(`10.0.${i >> 8}.${i & 255}`, 80)),
      ),
    )
    assert.equal(driver.dialled.length, 64)
    assert.match(error.message, /and 56 more$/)
  })

  test('a driver that answers or throws at once is understood', async () => {
    const driver = new Scripted(new VirtualClock(), {
      '[2001:db8::a]:80': { after: 0, with: 'throw' },
      '192.0.2.12:80': { after: -1, with: 'ECONNREFUSED' },
      '[2001:db8::b]:80': { after: -1, with: 'open' },
    })
    const { attempts } = await race(driver, [A6, C4, B6])
    assert.deepEqual(
      attempts.map(({ code }) => code),
      ['EINVAL', 'ECONNREFUSED'],
    )
    assertClean(driver, 1)
  })
})

describe('losers and late winners', () => {
  test('a loser that connects late is closed (N19)', async () => {
    const clock = new VirtualClock()
    const driver = new Scripted(clock, {
      '[2001:db8::a]:80': { after: 500, with: 'open' },
      '192.0.2.12:80': { after: 100, with: 'open' },
      '[2001:db8::b]:80': { after: 60, with: 'ECONNREFUSED' },
    })
    driver.careless = true
    const racing = race(driver, [A6, C4, B6])
    await clock.advance(1000)
    assert.equal((await racing).address, C4)
    assert.deepEqual(driver.destroyed, [{ address: '[2001:db8::a]:80', reset: false }])
    assertClean(driver, 1)
  })

  test('one that connects after the deadline or the cancellation is closed (N19)', async () => {
    for (const cancel of [false, true]) {
      const clock = new VirtualClock()
      const driver = new Scripted(clock, () => ({ after: 500, with: 'open' }))
      driver.careless = true
      const controller = new AbortController()
      const racing = refusal(race(driver, [A6, C4], { wait: cancel ? { signal: controller.signal } : { timeout: 300 } }))
      await clock.advance(300)
      controller.abort()
      await racing
      await clock.advance(1000)
      assert.equal(driver.destroyed.length, 2)
      assertClean(driver, 0)
    }
  })

  test('whatever happens and in whatever order, one outcome, one open handle at most, no timer left', async () => {
    const step = fc.record({
      after: fc.constantFrom(-1, 0, 1, 100, 250, 251, 600, 5000, Number.POSITIVE_INFINITY),
      with: fc.constantFrom('open', 'open', 'self', 'throw', 'ECONNREFUSED', 'ENETUNREACH'),
    })
    const plan = fc.record({
      steps: fc.array(step, { minLength: 1, maxLength: 6 }),
      timeout: fc.constantFrom(1, 250, 700, 3000, Number.POSITIVE_INFINITY),
      abortAt: fc.constantFrom(0, 250, 400, Number.POSITIVE_INFINITY),
      careless: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(plan, async ({ steps, timeout, abortAt, careless }) => {
        const clock = new VirtualClock()
        const driver = new Scripted(clock, (address) => steps[Number(/(\d+)\]?:80$/.exec(address)?.[1]) - 1] as Step)
        driver.careless = careless
        const controller = new AbortController()
        const disarm = abortAt === Number.POSITIVE_INFINITY ? () => {} : clock.at(abortAt, () => controller.abort())
        const endless = steps.every(({ after }) => after === Number.POSITIVE_INFINITY)
        const addresses = steps.map((_, i) => ipAddress(i % 2 ? `192.0.2.${i + 1}` : `2001:db8::${i + 1}`, 80))
        const racing = race(driver, addresses, {
          wait: { timeout: endless && timeout === Number.POSITIVE_INFINITY ? 700 : timeout, signal: controller.signal },
        }).then(
          (won) => won,
          (error: unknown) => error,
        )
        // Four connections to itself of 5 s each are the longest that ends.
        await clock.advance(60_000)
        const outcome = await Promise.race([racing, settle(1).then(() => 'no outcome')])
        disarm()
        if (outcome instanceof SocketError) {
          assertClean(driver, 0)
          if (outcome instanceof SystemFailure) assert.equal(outcome.attempts?.length, steps.length)
        } else if (steps.some((one) => one.after === Number.POSITIVE_INFINITY) && outcome === 'no outcome') {
          // One attempt never ends and no time was set: it waits, with nothing left to start.
          assert.equal(driver.open, 0)
        } else {
          assert.ok((outcome as Dialled).handle, String(outcome))
          assertClean(driver, 1)
        }
      }),
      { numRuns: 150 },
    )
  })
})

describe('deadlines', () => {
  const TABLE: readonly (readonly [now: number, deadline: number, remaining: number, expected: number])[] = [
    [0, Number.POSITIVE_INFINITY, 1, Number.POSITIVE_INFINITY],
    [0, 12_000, 1, 12_000],
    [0, 12_000, 2, 6_000],
    [0, 12_000, 3, 4_000],
    [0, 12_000, 1000, 2_000],
    [0, 3_000, 1, 3_000],
    [0, 3_000, 2, 2_000],
    [0, 1_000, 1, 1_000],
    [0, 1_000, 1000, 1_000],
    [5_000, 17_000, 2, 11_000],
    [5_000, 5_000, 1, 5_000],
    [5_000, 4_999, 1, 4_999],
  ]
  for (const [now, deadline, remaining, expected] of TABLE) {
    test(`at ${now}, with ${deadline} for ${remaining}, an attempt lasts until ${expected} (N20)`, () =>
      assert.equal(attemptDeadline(now, deadline, remaining), expected))
  }

  test('an attempt is cut off at its share while others wait, and only then', async () => {
    const clock = new VirtualClock()
    const driver = new Scripted(clock)
    const racing = refusal(race(driver, [C4, D4], { stagger: Number.POSITIVE_INFINITY, wait: { timeout: 12_000 } }))
    await clock.advance(12_000)
    const error = await racing
    assert.deepEqual(driver.dialled, ['192.0.2.12:80@0', '192.0.2.13:80@6000'])
    assert.deepEqual(driver.cancelled, ['192.0.2.12:80', '192.0.2.13:80'])
    assert.ok(error instanceof DeadlineError)
    assert.deepEqual(
      error.attempts?.map(({ code, duration }) => [code, duration]),
      [
        ['ETIMEDOUT', 6_000],
        ['PENDING', 6_000],
      ],
    )

    const patient = new Scripted(new VirtualClock(), { '192.0.2.12:80': { after: 11_000, with: 'open' } })
    const won = race(patient, [C4, D4], { wait: { timeout: 12_000 } })
    await patient.clock.advance(12_000)
    assert.equal((await won).address, C4)
    assertClean(patient, 1)
  })

  test('the total deadline lists what failed and what was still pending', async () => {
    const clock = new VirtualClock()
    const driver = new Scripted(clock, { '[2001:db8::a]:80': { after: 40, with: 'ECONNREFUSED' } })
    const racing = refusal(race(driver, [A6, C4, D4], { wait: { timeout: 1_000 } }))
    await clock.advance(999)
    assert.equal(driver.cancelled.length, 0)
    await clock.advance(1)
    const error = await racing
    assert.ok(error instanceof DeadlineError && error.timeout)
    assert.deepEqual([error.code, error.op, error.endpoint, error.phase], ['DEADLINE', 'connect', 'tcp://h.example:80', 'connect'])
    assert.deepEqual(
      error.attempts?.map(({ address, duration, code }) => [address, duration, code]),
      [
        ['[2001:db8::a]:80', 40, 'ECONNREFUSED'],
        ['192.0.2.12:80', 960, 'PENDING'],
        ['192.0.2.13:80', 710, 'PENDING'],
      ],
    )
    assert.match(
      error.message,
      /tcp:\/\/h\.example:80 \(\[2001:db8::a\]:80 ECONNREFUSED, 192\.0\.2\.12:80 PENDING, 192\.0\.2\.13:80 PENDING\)$/,
    )
    assertClean(driver, 0)
  })

  test('a deadline that is moved acts on a dial in progress', async () => {
    const clock = new VirtualClock()
    const driver = new Scripted(clock)
    const deadline = new Deadline(clock.wall() + 1_000)
    const racing = refusal(race(driver, [A6], { wait: { deadline } }))
    await clock.advance(500)
    deadline.set(clock.wall() + 5_000)
    await clock.advance(4_999)
    assert.equal(driver.cancelled.length, 0)
    deadline.set(clock.wall() - 1)
    assert.ok((await racing) instanceof DeadlineError)
    assertClean(driver, 0)
  })

  test('30 s cover the look-up and all attempts, unless the call says otherwise', async () => {
    const request = (driver: Scripted, o: Partial<DialRequest>): DialRequest => ({
      endpoint: parseEndpoint('tcp://h.example:80'),
      driver,
      resolver: names([A6, C4]),
      clock: driver.clock,
      settings,
      ...o,
    })
    const CASES: readonly (readonly [(clock: VirtualClock) => DialRequest['wait'], number])[] = [
      [() => undefined, 30_000],
      [() => ({ timeout: 50_000 }), 50_000],
      [(clock) => ({ deadline: clock.wall() + 40_000 }), 40_000],
      [(clock) => ({ timeout: 3_000, deadline: clock.wall() + 2_000 }), 2_000],
    ]
    for (const [wait, expected] of CASES) {
      const clock = new VirtualClock()
      const driver = new Scripted(clock)
      const slow: Resolver = {
        lookup: async (...o) => await new Promise((resolve) => clock.at(1_000, () => resolve(names([A6, C4]).lookup(...o)))),
      }
      const racing = refusal(dialEndpoint(request(driver, { wait: wait(clock), resolver: slow })))
      await clock.advance(expected - 1)
      assert.equal(driver.cancelled.length, 0)
      await clock.advance(1)
      assert.ok((await racing) instanceof DeadlineError)
      assertClean(driver, 0)
    }
  })

  test('a look-up under a passed deadline says so, and its answer is dropped', async () => {
    const clock = new VirtualClock()
    const driver = new Scripted(clock)
    let seen: AbortSignal | undefined
    const resolver: Resolver = {
      lookup: async (_name, { signal }) => {
        seen = signal
        return await new Promise((resolve) => clock.at(2_000, () => resolve([{ address: '192.0.2.1', family: 4 }])))
      },
    }
    const racing = refusal(
      dialEndpoint({ endpoint: parseEndpoint('tcp://h.example:80'), driver, resolver, clock, settings, wait: { timeout: 1_000 } }),
    )
    await clock.advance(1_000)
    const error = await racing
    assert.ok(error instanceof DeadlineError)
    assert.equal(error.phase, 'resolve')
    assert.equal(seen?.aborted, true)
    await clock.advance(5_000)
    assert.deepEqual(driver.dialled, [])
    assertClean(driver, 0)
  })

  test('what is past already wins over an address that would connect at once, and asks nobody', async () => {
    const driver = new Scripted(new VirtualClock(), () => ({ after: -1, with: 'open' }))
    const resolver: Resolver = { lookup: async () => assert.fail('it was asked') }
    for (const to of ['tcp://h.example:80', 'tcp://192.0.2.1:80', 'unix:/x']) {
      const request = { endpoint: parseEndpoint(to), driver, resolver, clock: driver.clock, settings }
      assert.ok((await refusal(dialEndpoint({ ...request, wait: { timeout: 0 } }))) instanceof DeadlineError)
      assert.ok((await refusal(dialEndpoint({ ...request, wait: { deadline: driver.clock.wall() } }))) instanceof DeadlineError)
      const cancelled = await refusal(dialEndpoint({ ...request, wait: { signal: AbortSignal.abort('why') } }))
      assert.ok(cancelled instanceof Cancelled)
      assert.equal(cancelled.cause, 'why')
      await assert.rejects(dialEndpoint({ ...request, wait: { timeout: Number.NaN } }), RangeError)
      await assert.rejects(dialEndpoint({ ...request, wait: { signal: 5 as unknown as AbortSignal } }), TypeError)
    }
    assert.deepEqual(driver.dialled, [])
  })

  test('several steps share one deadline', async () => {
    const clock = new VirtualClock()
    const left = spanning({}, clock, 30_000)
    await clock.advance(10_000)
    assert.deepEqual(left(), { timeout: 20_000 })
    await clock.advance(30_000)
    assert.deepEqual(left(), { timeout: 0 })
    assert.deepEqual(spanning({ timeout: Number.POSITIVE_INFINITY }, clock, 1)(), { timeout: Number.POSITIVE_INFINITY })
    const deadline = new Deadline()
    assert.deepEqual(spanning({ deadline }, clock, 1)(), { deadline })
  })
})

describe('cancelling (N21)', () => {
  const script = {
    '[2001:db8::a]:80': { after: 100, with: 'ECONNREFUSED' },
    '192.0.2.12:80': { after: 500, with: 'open' },
    '[2001:db8::b]:80': { after: 400, with: 'self' },
  } as const

  test('at every moment of a dial it returns promptly and leaves nothing', async () => {
    const moments = [0, 1, 49, 50, 51, 99, 100, 101, 149, 150, 151, 250, 399, 400, 401, 599, 649]
    for (const moment of moments) {
      const clock = new VirtualClock()
      const driver = new Scripted(clock, script)
      const resolver: Resolver = {
        lookup: async (...o) => await new Promise((resolve) => clock.at(50, () => resolve(names([A6, C4, B6]).lookup(...o)))),
      }
      const controller = new AbortController()
      const racing = refusal(
        dialEndpoint({
          endpoint: parseEndpoint('tcp://h.example:80'),
          driver,
          resolver,
          clock,
          settings,
          wait: { signal: controller.signal },
        }),
      )
      await clock.advance(moment)
      controller.abort(new Error('enough'))
      const error = await racing
      assert.ok(error instanceof Cancelled, `at ${moment}: ${error}`)
      assert.equal((error.cause as Error).message, 'enough')
      assert.equal(clock.now(), moment)
      await clock.advance(5_000)
      assertClean(driver, 0)
      const dials = driver.dialled.length
      assert.ok(dials <= 6)
    }
  })

  test('after the dial it has no effect', async () => {
    const clock = new VirtualClock()
    const driver = new Scripted(clock, { '192.0.2.12:80': { after: 10, with: 'open' } })
    const controller = new AbortController()
    const racing = race(driver, [C4], { wait: { signal: controller.signal, timeout: 1_000 } })
    await clock.advance(10)
    controller.abort()
    await clock.advance(5_000)
    assert.equal((await racing).address, C4)
    assert.deepEqual(driver.destroyed, [])
    assertClean(driver, 1)
  })

  test('a signal that ran out of time is a deadline', async () => {
    const driver = new Scripted(new VirtualClock())
    const reason = new DOMException('late', 'TimeoutError')
    const controller = new AbortController()
    const racing = refusal(race(driver, [C4], { wait: { signal: controller.signal } }))
    controller.abort(reason)
    const error = await racing
    assert.ok(error instanceof DeadlineError)
    assert.equal(error.cause, reason)
  })
})

describe('the error of a failed dial', () => {
  test('one attempt: its own code and cause', async () => {
    const driver = new Scripted(new VirtualClock(), { '192.0.2.12:80': { after: 30, with: 'ECONNREFUSED' } })
    const racing = refusal(race(driver, [C4]))
    await driver.clock.advance(100)
    const error = await racing
    assert.ok(error instanceof SystemFailure)
    assert.equal(error.message, 'cannot connect to tcp://h.example:80: 192.0.2.12:80: the connection was refused')
    assert.deepEqual(
      [error.code, error.op, error.endpoint, error.remote, error.phase],
      ['ECONNREFUSED', 'connect', 'tcp://h.example:80', '192.0.2.12:80', 'connect'],
    )
    assert.deepEqual(error.attempts, [
      { address: '192.0.2.12:80', phase: 'connect', duration: 30, code: 'ECONNREFUSED', message: 'the connection was refused' },
    ])
    assert.equal((error.cause as Error).message, 'connect ECONNREFUSED')
    assertClean(driver, 0)
  })

  test('several attempts: each is listed, the code is the one that says most, every cause is kept', async () => {
    const driver = new Scripted(new VirtualClock(), {
      '[2001:db8::a]:80': { after: 0, with: 'ENETUNREACH' },
      '192.0.2.12:80': { after: 20, with: 'ECONNREFUSED' },
      '[2001:db8::b]:80': { after: 0, with: 'ENETUNREACH' },
    })
    const racing = refusal(race(driver, [A6, B6, C4]))
    await driver.clock.advance(100)
    const error = await racing
    assert.ok(error instanceof SystemFailure)
    assert.equal(error.code, 'ECONNREFUSED')
    assert.equal(
      error.message,
      'cannot connect to tcp://h.example:80: [2001:db8::a]:80 ENETUNREACH, 192.0.2.12:80 ECONNREFUSED, [2001:db8::b]:80 ENETUNREACH',
    )
    assert.deepEqual(
      error.attempts?.map(({ duration }) => duration),
      [0, 20, 0],
    )
    assert.deepEqual(
      (error.cause as AggregateError).errors.map((one: { code: string }) => one.code),
      ['ENETUNREACH', 'ECONNREFUSED', 'ENETUNREACH'],
    )
  })

  test('addresses the policy refused are listed with those that failed', async () => {
    const driver = new Scripted(new VirtualClock(), { '192.0.2.12:80': { after: 0, with: 'ECONNREFUSED' } })
    const racing = refusal(
      dialEndpoint({
        endpoint: parseEndpoint('tcp://h.example:80'),
        driver,
        resolver: names([D4, C4]),
        clock: driver.clock,
        settings,
        policy: policyFrom({ deny: ['192.0.2.13'] }),
      }),
    )
    await driver.clock.advance(100)
    const error = await racing
    assert.ok(error instanceof SystemFailure)
    assert.deepEqual(
      error.attempts?.map(({ phase, code }) => [phase, code]),
      [
        ['policy', 'POLICY'],
        ['connect', 'ECONNREFUSED'],
      ],
    )

    const all = await refusal(
      dialEndpoint({
        endpoint: parseEndpoint('tcp://h.example:80'),
        driver,
        resolver: names([D4, C4]),
        clock: driver.clock,
        settings,
        policy: policyFrom({ deny: ['192.0.2.0/24'] }),
      }),
    )
    assert.ok(all instanceof Denied)
    assert.equal(all.attempts?.length, 2)
    assert.ok((all.cause as AggregateError).errors.every((one) => one instanceof Denied))
  })

  test('a policy that cancels the dial it is asked about leaves no connection open', async () => {
    const driver = new Scripted(new VirtualClock(), { '192.0.2.12:80': { after: 10, with: 'open' } })
    const cancelling = new AbortController()
    let asked = 0
    const racing = refusal(
      dialEndpoint({
        endpoint: parseEndpoint('tcp://192.0.2.12:80'),
        driver,
        resolver: names([]),
        clock: driver.clock,
        settings,
        policy: () => {
          if (++asked === 2) cancelling.abort()
          return true
        },
        wait: { signal: cancelling.signal },
      }),
    )
    await driver.clock.advance(10)
    assert.ok((await racing) instanceof Cancelled)
    assert.equal(asked, 2)
    assertClean(driver, 0)
  })

  test('only addresses of the family of "from" are dialled', async () => {
    const driver = new Scripted(new VirtualClock(), () => ({ after: -1, with: 'open' }))
    const request = {
      endpoint: parseEndpoint('tcp://h.example:80'),
      driver,
      clock: driver.clock,
      settings: { ...settings, from: ipAddress('192.0.2.1', 0) },
    }
    assert.equal((await dialEndpoint({ ...request, resolver: names([A6, C4]) })).address.family, 'ipv4')
    const error = await refusal(dialEndpoint({ ...request, resolver: names([A6]) }))
    assert.deepEqual([error.code, error.phase, error instanceof SystemFailure], ['EAFNOSUPPORT', 'bind', true])
    assert.match(error.message, /^cannot connect from 192\.0\.2\.1:0 \(ipv4\) to \[2001:db8::a\]:80 \(ipv6\)/)
    assert.deepEqual(driver.dialled, ['192.0.2.12:80@0'])
  })

  test('a failure to bind says so', async () => {
    const driver = {
      dial: (_to: Address, _o: DialSettings, done: (error: unknown) => void) => (
        queueMicrotask(() => done(failure('EADDRINUSE', 'bind'))),
        () => {}
      ),
    }
    const error = await refusal(dialAddresses({ driver, clock: new VirtualClock(), addresses: [C4], settings }))
    assert.deepEqual([error.code, error.phase], ['EADDRINUSE', 'bind'])
  })

  const WRONG: readonly (readonly [string | object, string, string, string])[] = [
    ['tcp://*:80', 'AddressError', 'BAD_HOST', 'parse'],
    ['tcp://:80', 'AddressError', 'BAD_HOST', 'parse'],
    ['tcp://h.example:0', 'AddressError', 'BAD_PORT', 'parse'],
    ['tcp://h.example:-1', 'AddressError', 'BAD_PORT', 'parse'],
    ['tcp://h.example:123456789', 'AddressError', 'BAD_PORT', 'parse'],
    ['tcp://h.example', 'AddressError', 'BAD_PORT', 'parse'],
    ['tcp://::1:80', 'AddressError', 'BAD_HOST', 'parse'],
    ['tcp://[::1', 'AddressError', 'BAD_HOST', 'parse'],
    ['tcp://a\0b:80', 'AddressError', 'BAD_HOST', 'parse'],
    ['foo://h.example:80', 'AddressError', 'BAD_SCHEME', 'parse'],
    ['h.example:80', 'AddressError', 'BAD_SCHEME', 'parse'],
    ['h.example', 'AddressError', 'BAD_ENDPOINT', 'parse'],
    ['unix:', 'AddressError', 'BAD_PATH', 'parse'],
    [`unix:/${'x'.repeat(200)}`, 'AddressError', 'PATH_TOO_LONG', 'parse'],
    ['tcp://no-such-name.example:80', 'AddressError', 'ENOTFOUND', 'resolve'],
    ['tcp://192.0.2.1:80', 'SystemFailure', 'ENETUNREACH', 'connect'],
    ['unix:/no/such/socket', 'SystemFailure', 'ENOENT', 'connect'],
  ]
  for (const [to, name, code, phase] of WRONG) {
    test(`dialling ${JSON.stringify(to).slice(0, 40)} is ${name}/${code} (N15)`, async () => {
      const driver = new Scripted(new VirtualClock(), (address) => ({
        after: -1,
        with: address.startsWith('/') ? 'ENOENT' : 'ENETUNREACH',
      }))
      const resolver: Resolver = { lookup: async () => await Promise.reject(failure('ENOTFOUND', 'getaddrinfo')) }
      const dial = async () =>
        await dialEndpoint({ endpoint: parseEndpoint(to as Endpoint), driver, resolver, clock: driver.clock, settings })
      const error = await refusal(dial())
      assert.ok(error instanceof SocketError, String(error))
      assert.deepEqual([error.name, error.code, error.phase], [name, code, phase])
      assert.ok(error.endpoint)
      assert.equal(error.attempts?.length, phase === 'connect' ? 1 : undefined)
      if (phase !== 'parse') assert.ok(error.cause instanceof Error)
      assertClean(driver, 0)
    })
  }
})

describe('a TCP connection to itself (M16)', () => {
  test('is closed with a reset and dialled again', async () => {
    const driver = new Scripted(new VirtualClock(), {
      '192.0.2.12:80': [
        { after: 10, with: 'self' },
        { after: -1, with: 'self' },
        { after: 10, with: 'open' },
      ],
    })
    const racing = race(driver, [C4])
    await driver.clock.advance(100)
    assert.equal((await racing).address, C4)
    assert.deepEqual(driver.dialled, ['192.0.2.12:80@0', '192.0.2.12:80@10', '192.0.2.12:80@10'])
    assert.deepEqual(driver.destroyed, [
      { address: '192.0.2.12:80', reset: true },
      { address: '192.0.2.12:80', reset: true },
    ])
    assertClean(driver, 1)
  })

  test('four times is a failure', async () => {
    const driver = new Scripted(new VirtualClock(), () => ({ after: 0, with: 'self' }))
    const racing = refusal(race(driver, [C4]))
    await driver.clock.advance(100)
    const error = await racing
    assert.ok(error instanceof SystemFailure)
    assert.equal(error.code, 'ESELFCONNECT')
    assert.equal(driver.dialled.length, 4)
    assertClean(driver, 0)
  })
})

describe('over real sockets', () => {
  const descriptors = () => readdirSync('/proc/self/fd').length

  async function listening(host: string): Promise<{ server: Server; port: number }> {
    const server = createServer((socket) => socket.on('error', () => {}).resume())
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, host, resolve))
    return { server, port: (server.address() as AddressInfo).port }
  }

  const closed = (server: Server) => new Promise((resolve) => server.close(resolve))

  const dial = (to: string, o: Partial<DialRequest> = {}) =>
    dialEndpoint({
      endpoint: parseEndpoint(to),
      driver: new Network().driver,
      clock: systemClock,
      settings,
      resolver: names([ipAddress('::1', 1), ipAddress('127.0.0.1', 1)]),
      ...o,
    })

  test(
    'ten racing dual-stack dials leave the number of descriptors unchanged (N18)',
    { skip: process.platform !== 'linux' && 'needs /proc' },
    async () => {
      for (const host of ['127.0.0.1', '::']) {
        const { server, port } = await listening(host)
        await dial(`tcp://localhost:${port}`).then(({ handle }) => handle.destroy(true))
        await settle(5)
        const before = descriptors()
        const dials = Array.from({ length: 10 }, () => dial(`tcp://h.example:${port}`, { stagger: 10 }))
        for (const { handle, address } of await Promise.all(dials)) {
          assert.equal((address as IpAddress).port, port)
          handle.destroy(true)
        }
        await new Promise<void>((resolve) => {
          const look = () => server.getConnections((_error, count) => (count === 0 ? resolve() : setImmediate(look)))
          look()
        })
        await settle(5)
        assert.equal(descriptors(), before, host)
        await closed(server)
      }
    },
  )

  test(
    'a dial that is cancelled at any turn leaves no descriptor (N21)',
    { skip: process.platform !== 'linux' && 'needs /proc' },
    async () => {
      const { server, port } = await listening('127.0.0.1')
      await dial(`tcp://localhost:${port}`).then(({ handle }) => handle.destroy(true))
      await settle(5)
      const before = descriptors()
      for (let turns = 0; turns < 12; turns++) {
        const controller = new AbortController()
        const dialling = dial(`tcp://h.example:${port}`, { wait: { signal: controller.signal } }).then(
          ({ handle }) => handle.destroy(true),
          (error: unknown) => assert.ok(error instanceof Cancelled),
        )
        // Microtasks first, then turns of the loop.
        for (let i = 0; i < Math.min(turns, 6); i++) await Promise.resolve()
        if (turns > 6) await settle(turns - 6)
        controller.abort()
        await dialling
      }
      await new Promise<void>((resolve) => {
        const look = () => server.getConnections((_error, count) => (count === 0 ? resolve() : setImmediate(look)))
        look()
      })
      await settle(5)
      assert.equal(descriptors(), before)
      await closed(server)
    },
  )

  test('a refused dial lists both families', async () => {
    const { server, port } = await listening('127.0.0.1')
    await closed(server)
    const error = await refusal(dial(`tcp://h.example:${port}`))
    assert.ok(error instanceof SystemFailure)
    assert.equal(error.code, 'ECONNREFUSED')
    assert.deepEqual(
      error.attempts?.map(({ address }) => address),
      [`[::1]:${port}`, `127.0.0.1:${port}`],
    )
  })

  test('a dial that meets itself is noticed', { skip: process.platform !== 'linux' && 'other systems refuse it' }, async () => {
    const { server, port } = await listening('127.0.0.1')
    await closed(server)
    await settle(5)
    const before = descriptors()
    const error = await refusal(dial(`tcp://127.0.0.1:${port}`, { settings: { ...settings, from: ipAddress('127.0.0.1', port) } }))
    assert.equal(error.code, 'ESELFCONNECT')
    await settle(5)
    assert.equal(descriptors(), before)
  })

  test('a UNIX socket that is not there is ENOENT with its path', async () => {
    const error = await refusal(dial('unix:/no/such/dir/socket'))
    assert.deepEqual([error.code, error.remote, error.endpoint], ['ENOENT', '/no/such/dir/socket', 'unix:/no/such/dir/socket'])
  })
})
