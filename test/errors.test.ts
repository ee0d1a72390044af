/** The shape of every error: class, documented code, operation, ends, phase and causes. */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, test } from 'node:test'
import { CODES, type Connection, EXIT_CODES, Network, SocketError } from 'fairlead'
import { memory, settle } from 'fairlead/testing'
import { clogWith, pairOver, rawPair } from './support/pairs.js'

type Verb = readonly [op: string, start: (c: Connection, o?: object) => Promise<unknown>]

const READS: readonly Verb[] = [
  ['read', (c, o) => c.read(o)],
  ['readInto', (c, o) => c.readInto(new Uint8Array(8), o)],
  ['readExactly', (c, o) => c.readExactly(100, o)],
  ['readUntil', (c, o) => c.readUntil('never', o)],
  ['readLine', (c, o) => c.readLine(o)],
  ['readAll', (c, o) => c.readAll(o)],
  ['peek', (c, o) => c.peek(100, o)],
  ['waitReadable', (c, o) => c.waitReadable(o)],
  ['iterator', (c, o) => c.chunks(o).next()],
]
const WRITES: readonly Verb[] = [
  ['write', (c, o) => c.write(new Uint8Array(1 << 20), o)],
  ['writeSome', (c, o) => c.writeSome('x', o)],
  ['flush', (c, o) => c.flush(o)],
  ['waitWritable', (c, o) => c.waitWritable(o)],
  ['end', (c, o) => c.end(o)],
]
const TRY: Verb = ['tryRead', async (c) => c.tryRead()]

interface Expected {
  readonly op: string
  readonly class?: string
  readonly code?: string
  readonly connection?: Connection
}

/** Checks that an error is of the closed set and well formed, and that it is what is expected. */
function checkShape(error: unknown, expected: Expected): asserts error is SocketError {
  const what = `${expected.op}: ${String(error)}`
  assert.ok(error instanceof SocketError && error instanceof Error, what)
  const table = CODES[error.name as keyof typeof CODES] as Record<string, string> | undefined
  assert.ok(table !== undefined, `${what}: a class of the closed set`)
  assert.ok(error.code in table, `${what}: ${error.name}/${error.code} is documented`)
  assert.ok(error.name in EXIT_CODES, `${what}: has an exit code`)
  if (expected.class !== undefined) assert.equal(error.name, expected.class, what)
  if (expected.code !== undefined) assert.equal(error.code, expected.code, what)
  assert.equal(error.op, expected.op, what)
  assert.ok(error.message.length > 0 && !error.message.endsWith('.'), what)
  assert.ok(error.stack?.includes(error.message), what)
  const { connection } = expected
  if (connection !== undefined) {
    assert.equal(error.endpoint ?? '', connection.endpoint, what)
    for (const side of ['local', 'remote'] as const) {
      const address: Connection['local'] = connection[side]
      if (address !== undefined && address.family !== 'unix') assert.equal(error[side], `${address.address}:${address.port}`, what)
    }
  }
  let depth = 0
  for (let cause = error.cause; cause !== undefined; cause = (cause as Error).cause) assert.ok(++depth <= 3, `${what}: a chain of causes`)
  assert.equal(error.timeout, error.name === 'DeadlineError')
  // What is logged as JSON tells the facts.
  const told = JSON.parse(JSON.stringify(error)) as Record<string, unknown>
  assert.deepEqual([told['code'], told['op']], [error.code, error.op])
}

async function failure(start: () => Promise<unknown>): Promise<unknown> {
  let promise: Promise<unknown>
  try {
    promise = start()
  } catch (error) {
    assert.fail(`threw instead of rejecting: ${String(error)}`)
  }
  return promise.then(
    (value) => assert.fail(`resolved with ${String(value)}`),
    (error: unknown) => error,
  )
}

/** Every verb fails three times, each time with a fresh error of the same class and code. */
async function failsForGood(connection: Connection, verbs: readonly Verb[], expected: Omit<Expected, 'op'>): Promise<void> {
  for (const [op, start] of verbs) {
    const seen: SocketError[] = []
    for (let i = 0; i < 3; i++) {
      const error = await failure(() => start(connection))
      checkShape(error, { ...expected, op, connection })
      assert.ok(error.cause instanceof Error, `${op}: the first failure is the cause`)
      if (WRITES.some(([name]) => name === op) && (op === 'write' || op === 'writeSome')) assert.equal(error.bytesWritten, 0)
      seen.push(error)
    }
    assert.equal(new Set(seen).size, 3, `${op}: fresh each time`)
    assert.equal(new Set(seen.map(({ name, code }) => `${name}/${code}`)).size, 1)
  }
}

for (const transport of ['memory', 'tcp', 'unix'] as const) {
  describe(`over ${transport}`, () => {
    test('promise 7: after close, Closed', async () => {
      await using pair = await pairOver(transport)
      await pair.a.close()
      await failsForGood(pair.a, [...READS, TRY, ...WRITES], { class: 'Closed', code: 'CLOSED' })
    })

    test('promise 7: after abort, Closed with the reason', async () => {
      await using pair = await pairOver(transport)
      pair.a.abort(new RangeError('a reason'))
      await failsForGood(pair.a, [...READS, TRY, ...WRITES], { class: 'Closed', code: 'ABORTED' })
    })

    test('promise 7: after a hand-over, Closed/CONSUMED', async () => {
      await using pair = await pairOver(transport)
      const stream = pair.a.toNode()
      await failsForGood(pair.a, [...READS, TRY, ...WRITES], { class: 'Closed', code: 'CONSUMED' })
      assert.equal((await pair.a.close()).clean, true, 'disposing does nothing')
      pair.a.abort()
      stream.write('still works')
      assert.equal((await pair.b.readExactly(11))?.length, 11)
      stream.destroy()
    })

    test('after end, writes fail with Closed/ENDED', async () => {
      await using pair = await pairOver(transport)
      await pair.a.end()
      for (const [op, start] of WRITES.filter(([name]) => name !== 'flush' && name !== 'end')) {
        checkShape(await failure(() => start(pair.a)), { op, class: 'Closed', code: 'ENDED', connection: pair.a })
      }
    })

    test('a deadline: DeadlineError; a signal: Cancelled; a second claimant: Busy', async () => {
      await using pair = await pairOver(transport)
      const { a } = pair
      const verbs = [...READS, ...WRITES]
      for (const [op, start] of verbs) {
        checkShape(await failure(() => start(a, { timeout: 0 })), { op, class: 'DeadlineError', code: 'DEADLINE', connection: a })
        const reason = new Error('a reason')
        const error = await failure(() => start(a, { signal: AbortSignal.abort(reason) }))
        checkShape(error, { op, class: 'Cancelled', code: 'CANCELLED', connection: a })
        assert.equal(error.cause, reason)
      }
      const waiting = a.read()
      for (const [op, start] of [...READS, TRY]) {
        checkShape(await failure(() => start(a)), { op, class: 'Busy', code: 'BUSY', connection: a })
      }
      await pair.b.write('x')
      await waiting
    })

    test('what a deadline ends while it waits has the same shape', async () => {
      await using pair = await pairOver(transport)
      const { a } = pair
      for (const [op, start] of READS) {
        checkShape(await failure(() => start(a, { timeout: 1 })), { op, class: 'DeadlineError', code: 'DEADLINE', connection: a })
      }
      if (transport === 'memory') return
      await clogWith(a)
      for (const [op, start] of WRITES) {
        const error = await failure(() => start(a, { timeout: 1 }))
        checkShape(error, { op, class: 'DeadlineError', code: 'DEADLINE', connection: a })
        if (op === 'write' || op === 'writeSome') assert.equal(typeof error.bytesWritten, 'number')
      }
    })

    test('frames: FrameError with the phase', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      await a.write(Uint8Array.of(0x61, 0xff, 0x62, 0x0a, 0x63))
      await a.end()
      await b.waitReadable()
      for (const [op, code, start] of [
        ['readLine', 'BAD_FRAME', () => b.readLine({ fatal: true })],
        ['readLine', 'TOO_LONG', () => b.readLine({ limit: 1 })],
        ['readUntil', 'INCOMPLETE', () => b.readUntil('??')],
        ['readExactly', 'INCOMPLETE', () => b.readExactly(6)],
        ['readAll', 'TOO_LONG', () => b.readAll({ limit: 4 })],
      ] as const) {
        const error = await failure(start)
        checkShape(error, { op, class: 'FrameError', code, connection: b })
        assert.equal(error.phase, 'frame')
      }
      assert.equal((await b.readAll()).length, 5)
    })
  })
}

describe('the world breaks it', () => {
  test('promise 7: after a reset while reading, Broken/ECONNRESET from every verb', async () => {
    await using raw = await rawPair()
    const { connection, peer } = raw
    const reading = failure(() => connection.read())
    peer.resetAndDestroy()
    const first = await reading
    checkShape(first, { op: 'read', class: 'Broken', code: 'ECONNRESET', connection })
    assert.equal(first.phase, 'read')
    await failsForGood(connection, [...READS.filter(([op]) => op !== 'waitReadable'), TRY, ...WRITES], {
      class: 'Broken',
      code: 'ECONNRESET',
    })
    await connection.waitReadable()
    const report = await connection.closed
    checkShape(report.reason, { op: 'read', class: 'Broken', code: 'ECONNRESET', connection })
    await connection.close()
    await failsForGood(connection, [...READS, ...WRITES], { class: 'Closed', code: 'CLOSED' })
  })

  test('a failed write: Broken from every writing verb, and the phase is write', async () => {
    await using raw = await rawPair()
    const { connection, peer } = raw
    peer.resetAndDestroy()
    await once(peer, 'close')
    for (let failed = false; !failed;) {
      await connection.write('x').catch((error: unknown) => {
        failed = true
        checkShape(error, { op: 'write', class: 'Broken', connection })
        assert.equal(error.phase, 'write')
      })
      await settle(1)
    }
    await failsForGood(connection, WRITES, { class: 'Broken' })
  })

  test('what waited when it broke is told with its own operation', async () => {
    await using raw = await rawPair()
    const { connection, peer } = raw
    await clogWith(connection)
    const waits = ['write', 'flush', 'waitWritable', 'read'] as const
    const failing = waits.map((op) =>
      failure(() => (op === 'write' ? connection.write(new Uint8Array(1 << 20)) : connection[op === 'read' ? 'readLine' : op]())),
    )
    peer.resetAndDestroy()
    for (const [i, op] of waits.entries()) {
      const error = await failing[i]
      checkShape(error, { op: op === 'read' ? 'readLine' : op, class: 'Broken', connection })
      if (op === 'write') assert.equal(typeof error.bytesWritten, 'number')
    }
  })
})

describe('opening', () => {
  test('connect', async () => {
    await using net = new Network()
    await using listener = await net.listen('tcp://127.0.0.1:0')
    const { endpoint } = listener
    await listener.close()
    for (const [to, o, expected] of [
      [endpoint, {}, { class: 'SystemFailure', code: 'ECONNREFUSED' }],
      ['tcp://127.0.0.1:0', {}, { class: 'AddressError', code: 'BAD_PORT' }],
      ['unix:/nowhere/at/all', {}, { class: 'SystemFailure', code: 'ENOENT' }],
      [endpoint, { timeout: 0 }, { class: 'DeadlineError', code: 'DEADLINE' }],
      [endpoint, { signal: AbortSignal.abort() }, { class: 'Cancelled', code: 'CANCELLED' }],
      [endpoint, { nonsense: 1 }, { class: 'OptionError', code: 'UNKNOWN_OPTION' }],
    ] as const) {
      checkShape(await failure(() => net.connect(to, o as object)), { op: 'connect', ...expected })
    }
    const refused = await failure(() => net.connect(endpoint))
    checkShape(refused, { op: 'connect' })
    assert.equal(refused.endpoint, endpoint)
    assert.equal(refused.phase, 'connect')
    assert.equal(refused.attempts?.length, 1)
    assert.equal(refused.attempts?.[0]?.code, 'ECONNREFUSED')
  })

  test('listen and accept', async () => {
    await using net = new Network()
    await using listener = await net.listen('tcp://127.0.0.1:0')
    const taken = await failure(() => net.listen(listener.endpoint))
    checkShape(taken, { op: 'listen', class: 'SystemFailure', code: 'EADDRINUSE' })
    assert.deepEqual([taken.endpoint, taken.phase], [listener.endpoint, 'listen'])
    checkShape(await failure(() => net.listen('unix:/nowhere/at/all')), { op: 'listen', class: 'SystemFailure', code: 'ENOENT' })
    checkShape(await failure(() => listener.accept({ timeout: 0 })), { op: 'accept', class: 'DeadlineError' })
    checkShape(await failure(() => listener.accept({ signal: AbortSignal.abort() })), { op: 'accept', class: 'Cancelled' })
    await listener.close()
    checkShape(await failure(() => listener.accept()), { op: 'accept', class: 'Closed', code: 'CLOSED' })
  })
})

describe('the classes', () => {
  test('a caller’s own error as the reason of an abort stays its cause, whatever it is', async () => {
    await using net = new Network({ driver: memory() })
    await using listener = await net.listen('tcp://127.0.0.1:0')
    const [a, b] = await Promise.all([net.connect(listener.endpoint), listener.accept()])
    const elsewhere = await failure(() => b.read({ timeout: 0 }))
    a.abort(elsewhere)
    for (const reason of [(await a.closed).reason, await failure(() => a.write('x')), await failure(() => a.read())]) {
      assert.ok(reason instanceof SocketError)
      assert.deepEqual([reason.name, reason.code], ['Closed', 'ABORTED'])
    }
    assert.equal((await a.closed).reason?.cause, elsewhere)
  })

  test('instanceof tells the classes apart, and holds for the root', async () => {
    for (const name of Object.keys(CODES)) {
      const module = (await import('fairlead')) as unknown as Record<string, new (code: string, message: string) => Error>
      const Class = module[name]
      assert.ok(Class !== undefined, `${name} is exported`)
      const error = new Class('X', 'text')
      assert.equal(error.name, name)
      assert.ok(error instanceof SocketError)
      for (const other of Object.keys(CODES)) {
        assert.equal(error instanceof (module[other] as new () => Error), other === name)
      }
    }
  })
})
