/** Two connections joined: bytes, ends, backpressure, failures, on every pair of transports. */

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { Busy, Cancelled, Closed, type Connection, DeadlineError, Denied, type RelayReport, relay, SocketError } from 'fairlead'
import { connectionPair, type ConnectionPair, settle, VirtualClock } from 'fairlead/testing'
import { removePaths, TRANSPORTS } from './matrix.js'
import { clogWith, pairOver, pattern, rawPair, until } from './support/pairs.js'

const text = (bytes: Uint8Array | null): string => Buffer.from(bytes ?? []).toString('latin1')

async function failure(promise: Promise<unknown>): Promise<SocketError> {
  const error = await promise.then(
    (value) => assert.fail(`resolved with ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof SocketError, String(error))
  return error
}

/** Both ends of two pairs in memory under one virtual clock, and the relay between them. */
function inMemory(o: Parameters<typeof relay>[2] = {}, capacity: number = 4096) {
  const clock = new VirtualClock()
  const [left, right] = [connectionPair({ capacity, clock }), connectionPair({ capacity, clock })]
  const relaying = relay(left.b, right.a, o)
  relaying.catch(() => {})
  return {
    clock,
    relaying,
    client: left.a,
    server: right.b,
    inner: [left.b, right.a] as const,
    async [Symbol.asyncDispose]() {
      await left.owner.end({ abort: true })
      await right.owner.end({ abort: true })
      for (const { owner } of [left, right]) assert.equal(owner.shared.budget.held, 0, 'bytes counted that nobody holds any more')
    },
  }
}

async function exchange(left: ConnectionPair, right: ConnectionPair): Promise<RelayReport> {
  const [question, answer] = [pattern(300_000, 1), pattern(200_001, 2)]
  const relaying = relay(left.b, right.a)
  relaying.catch(() => {})
  const asking = left.a.write(question).then(() => left.a.end())
  const asked = await right.b.readAll()
  await asking
  assert.ok(Buffer.from(asked).equals(Buffer.from(question)), 'what came is what was sent')
  // The end has come through, and the other direction works on.
  const answering = right.b.write(answer).then(() => right.b.end())
  const answered = await left.a.readAll()
  await answering
  assert.ok(Buffer.from(answered).equals(Buffer.from(answer)))
  return relaying
}

/** TLS 1.2 has no half-close that its peer need honour, and the portable carrier none at all. */
const ENDS_BOTH: ReadonlySet<string> = new Set(['tls1.2'])
const KINDS = TRANSPORTS.filter(({ transport }) => !ENDS_BOTH.has(transport))
const AMONG: ReadonlySet<string> = new Set(['limited', 'tcp4', 'unix', 'tls1.3'])

after(async () => {
  for (const { close } of TRANSPORTS) await close()
  await removePaths()
})

describe('a relay carries bytes and ends both ways, and closes both connections', () => {
  for (const from of KINDS) {
    for (const to of KINDS) {
      if (!AMONG.has(from.transport) && !AMONG.has(to.transport)) continue
      test(`from ${from.name} to ${to.name}`, { skip: from.missing ?? to.missing ?? false }, async () => {
        const [left, right] = await Promise.all([from.pair(), to.pair()])
        assert.deepEqual(await exchange(left, right), { forth: 300_000, back: 200_001 })
        assert.deepEqual(await left.b.closed, { clean: true, unsent: 0 })
        assert.deepEqual(await right.a.closed, { clean: true, unsent: 0 })
        for (const { a, b, dispose } of [left, right]) {
          await Promise.all([a.close(), b.close()])
          await dispose?.()
        }
      })
    }
  }
})

describe('a relay', () => {
  test('hands on first what was read and put back, and what was written before', async () => {
    await using one = await pairOver('tcp')
    await using other = await pairOver('tcp')
    await one.a.write('hello, world')
    await one.b.peek(12)
    one.b.unread('[')
    await other.a.write('{')
    const relaying = relay(one.b, other.a)
    await one.a.write(']')
    await one.a.end()
    assert.equal(text(await other.b.readAll()), '{[hello, world]')
    await other.b.end()
    assert.deepEqual(await relaying, { forth: 14, back: 0 })
  })

  test('passes an end on while the other direction is stuck', async () => {
    await using joined = inMemory()
    const stuck = joined.server.write(pattern(100_000))
    await joined.client.write('all')
    await joined.client.end()
    assert.equal(text(await joined.server.readAll()), 'all')
    assert.equal((await joined.client.readExactly(100_000))?.length, 100_000)
    await stuck
    await joined.server.end()
    assert.equal(await joined.client.read(), null)
    assert.deepEqual(await joined.relaying, { forth: 3, back: 100_000 })
  })

  test('reads no more than a slow reader takes', async () => {
    await using joined = inMemory()
    const written = await clogWith(joined.client)
    const [left, right] = joined.inner
    const held = left.stats.unread + right.stats.unsent
    assert.ok(held <= 64 * 1024 + 2 * 4096, `${held} bytes held`)
    assert.ok(written <= 256 * 1024, `${written} bytes were taken from the writer`)
    void joined.client.end()
    assert.equal((await joined.server.readAll()).length, written)
  })

  test('refuses a second reader, and is refused beside one with nothing begun', async () => {
    await using one = await pairOver('memory')
    await using other = await pairOver('memory')
    const reading = other.a.read()
    assert.ok((await failure(relay(one.b, other.a))) instanceof Busy)
    assert.equal(one.b.state, 'open')
    await other.b.write('x')
    assert.equal(text(await reading), 'x')
    const relaying = relay(one.b, other.a)
    const busy = await failure(one.b.read())
    assert.ok(busy instanceof Busy)
    assert.match(busy.message, /while relay is reading/)
    assert.throws(() => one.b.moveTo(one.network), Busy)
    await Promise.all([one.a.close(), other.b.close()])
    await relaying
    assert.ok((await failure(relay(one.a, one.a))) instanceof Closed)
  })

  test('with itself is refused', async () => {
    await using pair = await pairOver('memory')
    assert.ok((await failure(relay(pair.a, pair.a))) instanceof Busy)
    assert.equal(pair.a.state, 'open')
    await pair.b.write('still there')
    assert.equal(text(await pair.a.read()), 'still there')
  })

  test('queues its writes behind and between those of others', async () => {
    await using joined = inMemory()
    const [, right] = joined.inner
    const own = right.write(pattern(50_000, 7))
    await joined.client.write('relayed')
    assert.deepEqual(await joined.server.readExactly(50_000), pattern(50_000, 7))
    assert.equal(text(await joined.server.readExactly(7)), 'relayed')
    await own
    await right.write('more')
    assert.equal(text(await joined.server.readExactly(4)), 'more')
  })

  for (const [what, reset] of [
    ['reset', true],
    ['cut off by our side', false],
  ] as const) {
    test(`hands on what came before one connection was ${what}, then aborts both and says what broke`, async () => {
      await using one = await rawPair()
      await using other = await pairOver('tcp')
      const relaying = relay(one.connection, other.a)
      relaying.catch(() => {})
      one.peer.write('the last words')
      assert.equal(text(await other.b.readExactly(14)), 'the last words')
      if (reset) one.peer.resetAndDestroy()
      else one.connection.abort()
      const error = await failure(relaying)
      assert.equal(error.code, reset ? 'ECONNRESET' : 'ABORTED')
      assert.equal(error.op, 'relay')
      assert.deepEqual(error.relayed, { forth: 14, back: 0, broke: 'forth' })
      assert.match(error.message, /relaying from .* to .*; 14 bytes went forth, 0 back$/)
      assert.equal(one.connection.state, 'closed')
      assert.equal(other.a.state, 'closed')
      // No peer takes half a stream for a whole one.
      assert.equal((await failure(other.b.read())).code, 'ECONNRESET')
    })
  }

  test('tells which direction broke, also the way back', async () => {
    await using one = await pairOver('tcp')
    await using other = await rawPair()
    const relaying = relay(one.b, other.connection)
    relaying.catch(() => {})
    other.peer.write('four')
    await one.a.readExactly(4)
    other.peer.resetAndDestroy()
    const error = await failure(relaying)
    assert.deepEqual(error.relayed, { forth: 0, back: 4, broke: 'back' })
  })

  for (const verb of ['abort', 'close'] as const) {
    test(`is told of the ${verb} of a connection that it has nothing to write to`, async () => {
      await using joined = inMemory()
      await joined.client.write('all')
      await joined.client.end()
      assert.equal(text(await joined.server.readAll()), 'all')
      void joined.inner[0][verb]()
      const error = await failure(joined.relaying)
      assert.equal(error.code, verb === 'abort' ? 'ABORTED' : 'CLOSED')
      assert.deepEqual(error.relayed, { forth: 3, back: 0, broke: 'back' })
      assert.equal(joined.inner[1].state, 'closed')
    })
  }

  test('lets the last words of a peer that takes nothing any more come through', async () => {
    await using one = await pairOver('tcp')
    await using other = await rawPair()
    const relaying = relay(one.b, other.connection)
    relaying.catch(() => {})
    await one.a.write(pattern(1000))
    await until('the peer has something unread', () => other.connection.stats.bytesWritten === 1000)
    other.peer.write('go away')
    // Closing with input unread resets.
    other.peer.destroy()
    await failure(relaying)
    assert.equal(text(await one.a.readExactly(7)), 'go away')
    await failure(one.a.read())
  })

  test('ends at its deadline, timeout or signal with both aborted and every byte counted', async () => {
    const cancel = new AbortController()
    const ways: [Parameters<typeof relay>[2], new (...rest: never[]) => Error][] = [
      [{ timeout: 1_000 }, DeadlineError as never],
      [{ signal: cancel.signal }, Cancelled as never],
      [{ idle: 1_000 }, Denied as never],
    ]
    for (const [o, kind] of ways) {
      await using joined = inMemory(o)
      await joined.client.write('abc')
      await joined.server.write('de')
      await joined.server.readExactly(3)
      await joined.client.readExactly(2)
      if (o?.signal !== undefined) cancel.abort()
      await joined.clock.advance(1_000)
      const error = await failure(joined.relaying)
      assert.ok(error instanceof kind, String(error))
      assert.deepEqual(error.relayed, { forth: 3, back: 2 })
      for (const inner of joined.inner) assert.equal(inner.state, 'closed')
      await failure(joined.client.read())
      await failure(joined.server.read())
    }
  })

  test('counts bytes of a piece that was cut off', async () => {
    await using joined = inMemory({ timeout: 5_000 }, 4096)
    const writing = joined.client.write(pattern(10_000))
    writing.catch(() => {})
    await settle(5)
    const got = (await joined.server.read())?.length ?? 0
    await settle(5)
    await joined.clock.advance(5_000)
    const error = await failure(joined.relaying)
    const reached = error.relayed?.forth ?? 0
    assert.ok(reached >= got && reached <= got + 4096, `${reached} of which ${got} were read`)
    assert.equal(reached, joined.inner[1].stats.bytesWritten)
  })

  test('is idle only when nothing moves in either direction', async () => {
    await using joined = inMemory({ idle: 1_000 })
    for (let i = 0; i < 5; i++) {
      await joined.clock.advance(999)
      await joined.server.write('x')
      await joined.client.read()
    }
    await joined.clock.advance(999)
    assert.equal(joined.inner[0].state, 'open')
    await joined.clock.advance(1)
    assert.equal((await failure(joined.relaying)).code, 'IDLE')
  })

  test('that has passed its deadline before it began touches nothing', async () => {
    await using one = await pairOver('memory')
    await using other = await pairOver('memory')
    assert.equal((await failure(relay(one.b, other.a, { timeout: 0 }))).code, 'DEADLINE')
    await one.a.write('x')
    assert.equal(text(await one.b.read()), 'x')
  })

  test('of a connection that is over says so; wrong arguments are named', async () => {
    await using one = await pairOver('memory')
    await using other = await pairOver('memory')
    await assert.rejects(relay({} as Connection, one.a), { name: 'TypeError', message: /^a must be a Connection/ })
    await assert.rejects(relay(one.a, other.a, { idle: 0 }), { name: 'RangeError' })
    await assert.rejects(relay(one.a, other.a, { idel: 5 } as never), { code: 'UNKNOWN_OPTION' })
    await one.b.close()
    assert.equal((await failure(relay(one.b, other.a))).code, 'CLOSED')
    await other.b.write('x')
    assert.equal(text(await other.a.read()), 'x')
  })

  test('ends when its owner does', async () => {
    await using joined = inMemory()
    await joined.inner[0].owner.end({ abort: true })
    const error = await failure(joined.relaying)
    assert.ok(error instanceof Closed, String(error))
    assert.equal(joined.inner[1].state, 'closed')
  })
})
