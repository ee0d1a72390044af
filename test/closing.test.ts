/** How connections end: resets, half-closes, lingering, and what `close`, `abort` and `closed` say about it. */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { describe, test } from 'node:test'
import { Broken, Closed, type CloseReport, type Connection, Deadline, DeadlineError, Denied, Network } from 'fairlead'
import { connectHandles, connectionPair, memoryPair, settle, type StreamHandle, VirtualClock } from 'fairlead/testing'
import { clogWith, descriptors, drain, pairOver, pattern, type RawPair, rawPair, TRANSPORTS, until } from './support/pairs.js'

async function rejection(promise: Promise<unknown>): Promise<Error & { code?: string; bytesWritten?: number; op?: string }> {
  const error = await promise.then(
    (value) => assert.fail(`resolved with ${String(value)}`),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof Error)
  return error
}

/** All that can be read, and how that ended. */
async function readOut(connection: Connection): Promise<{ bytes: number; end: string }> {
  let bytes = 0
  for (;;) {
    try {
      const chunk = await connection.read()
      if (chunk === null) return { bytes, end: 'end' }
      bytes += chunk.length
    } catch (error) {
      return { bytes, end: `${(error as Error).name} ${(error as { code: string }).code}` }
    }
  }
}

/** Resolves when the system has taken everything that was written to a bare socket. */
function written(peer: Socket, data: Uint8Array): Promise<void> {
  return new Promise((resolve) => peer.write(data, () => resolve()))
}

/** Writes to the peer, and leaves what the peer says unread, so that a close has something to wait for. */
async function leaveUnread({ connection, peer }: RawPair): Promise<void> {
  await connection.write('bye')
  await written(peer, Buffer.from('unread'))
}

const SIZES = [0, 1000, 65_536, 100_000, 204_800, 1 << 20]
const RUNS = 20

describe('M3: a reset never reads as a clean end', () => {
  for (const size of SIZES) {
    for (const ended of [false, true]) {
      test(`behind ${size} bytes${ended ? ', after our own end' : ''}, ${RUNS} times`, async () => {
        for (let i = 0; i < RUNS; i++) {
          await using raw = await rawPair()
          const { connection, peer } = raw
          await connection.write('request')
          if (ended) await connection.end()
          const reading = readOut(connection)
          await once(peer, 'readable')
          if (size > 0) await written(peer, pattern(size))
          peer.resetAndDestroy()
          const { bytes, end } = await reading
          assert.equal(end, 'Broken ECONNRESET', `after ${bytes} of ${size} bytes in run ${i}`)
          const report = await connection.closed
          assert.equal(report.clean, false)
          assert.equal(report.reason?.code, 'ECONNRESET')
        }
      })
    }

    test(`an end behind ${size} bytes stays an end, ${RUNS} times`, async () => {
      for (let i = 0; i < RUNS; i++) {
        await using raw = await rawPair()
        const { connection, peer } = raw
        if (i % 2 === 0) await connection.end()
        peer.end(pattern(size))
        assert.deepEqual(await readOut(connection), { bytes: size, end: 'end' })
        await connection.close()
        assert.equal((await connection.closed).clean, true)
      }
    })
  }

  test('also for a reader who comes late', async () => {
    for (let i = 0; i < RUNS; i++) {
      await using raw = await rawPair()
      const { connection, peer } = raw
      await written(peer, pattern(1000 * i))
      peer.resetAndDestroy()
      await once(peer, 'close')
      const { bytes, end } = await readOut(connection)
      assert.deepEqual({ bytes, end }, { bytes: 1000 * i, end: 'Broken ECONNRESET' })
    }
  })

  test('M15: what came before a reset can be read after a write has failed of it, and then the reset is told', async () => {
    for (let i = 0; i < RUNS; i++) {
      await using raw = await rawPair()
      const { connection, peer } = raw
      await written(peer, pattern(3000))
      peer.resetAndDestroy()
      await once(peer, 'close')
      const failing = (async () => {
        for (;;) {
          await connection.write('more')
          await settle(1)
        }
      })()
      const error = await rejection(failing)
      assert.ok(error instanceof Broken, String(error))
      assert.equal(connection.signal.aborted, true)
      assert.deepEqual(await readOut(connection), { bytes: 3000, end: 'Broken ECONNRESET' })
      const report = await connection.closed
      assert.deepEqual([report.clean, report.reason?.code], [false, 'ECONNRESET'])
    }
  })

  test('after an end, a write may fail, and the end stays an end', async () => {
    await using raw = await rawPair()
    const { connection, peer } = raw
    peer.end('all of it')
    await once(peer, 'finish')
    peer.destroy()
    await rejection(
      (async () => {
        for (;;) {
          await connection.write('x')
          await settle(1)
        }
      })(),
    )
    assert.deepEqual(await readOut(connection), { bytes: 9, end: 'end' })
    assert.equal((await connection.closed).clean, false)
  })
})

describe('M4: closing loses nothing that was accepted before', () => {
  for (const how of ['close', 'use', 'dispose', 'end and close'] as const) {
    test(`with unread input, by ${how}: the client keeps sending and gets all 204,800 bytes and an end`, async () => {
      for (let i = 0; i < 5; i++) {
        await using network = new Network()
        await using listener = await network.listen('tcp://127.0.0.1:0')
        const raw = await rawClient(listener.local as { port: number })
        const server = await listener.accept()
        let sending = true
        raw.on('error', () => {})
        const chatter = (async () => {
          while (sending) {
            await new Promise<void>((resolve) => raw.write(new Uint8Array(100), () => resolve()))
            await settle(1)
          }
        })()
        await server.waitReadable()
        const got = drain(raw)
        await server.write(pattern(204_800))
        if (how === 'close') await server.close()
        else if (how === 'use') await server.use(() => {})
        else if (how === 'dispose') await server[Symbol.asyncDispose]()
        else await server.end().then(() => server.close())
        assert.ok((await got).equals(pattern(204_800)))
        sending = false
        await chatter
        raw.end()
        raw.resume()
      }
    })
  }

  test('T17: written and closed before the peer reads anything', async () => {
    for (const transport of TRANSPORTS) {
      await using pair = await pairOver(transport)
      const writing = pair.a.write(pattern(50_000)).then(() => pair.a.close())
      await writing
      assert.deepEqual(Buffer.from(await pair.b.readAll()), Buffer.from(pattern(50_000)))
      assert.equal(await pair.b.read(), null)
    }
  })

  test('close sends what was accepted and not yet handed over', async () => {
    await using pair = await pairOver('tcp')
    const { a, b } = pair
    const sent = await clogWith(a)
    assert.ok(a.stats.unsent > 0)
    const closing = a.close()
    assert.equal((await b.readAll({ limit: 1 << 30 })).length, sent)
    assert.deepEqual(await closing, { clean: true, unsent: 0 })
  })

  test('a peer that goes on sending for ever is drained up to the linger bytes', async () => {
    await using raw = await rawPair({ limits: { lingerBytes: 100_000 } })
    const { connection, peer } = raw
    await connection.write('bye')
    const id = connection.id
    const flood = () => peer.writable && peer.write(new Uint8Array(50_000), flood)
    flood()
    assert.equal((await connection.close()).clean, true)
    await until('the descriptor is given back', () => !raw.network.sockets().some((socket) => socket.id === id))
  })

  test('a peer that never ends is left after the linger time', async () => {
    const clock = new VirtualClock()
    await using raw = await rawPair({ clock })
    const { connection } = raw
    await leaveUnread(raw)
    const id = connection.id
    assert.equal((await connection.close()).clean, true)
    await clock.advance(4_999)
    assert.deepEqual(
      raw.network.sockets().map((socket) => socket.id),
      [id],
    )
    await clock.advance(1)
    assert.deepEqual(raw.network.sockets(), [])
    assert.equal(clock.pending, 0)
  })

  test('a deadline of close shortens the linger, and abort ends it', async () => {
    const clock = new VirtualClock()
    await using raw = await rawPair({ clock })
    await leaveUnread(raw)
    assert.equal((await raw.connection.close({ timeout: 100 })).clean, true)
    await clock.advance(100)
    assert.deepEqual(raw.network.sockets(), [])
    assert.equal(clock.pending, 0)

    await using other = await rawPair({ clock })
    await leaveUnread(other)
    await other.connection.close()
    const deadline = new Deadline()
    void other.connection.close({ deadline })
    assert.equal(other.network.sockets().length, 1)
    deadline.set(1)
    assert.equal(other.network.sockets().length, 0)

    await using third = await rawPair({ clock })
    await leaveUnread(third)
    await third.connection.close()
    third.connection.abort()
    assert.equal(third.network.sockets().length, 0)
  })

  test('an end that is confirmed after an abort does not begin to linger', async () => {
    const clock = new VirtualClock()
    const handle = new EndsLate()
    const pair = connectHandles(handle, memoryPair()[0], { clock })
    void pair.a.close()
    await settle(1)
    pair.a.abort()
    handle.confirm()
    await settle(1)
    pair.b.abort()
    assert.equal(clock.pending, 0)
    assert.deepEqual(pair.owner.sockets(), [])
  })
})

/** Confirms its end when told to, and may lose something until then. */
class EndsLate implements StreamHandle {
  readonly local = undefined
  readonly remote = undefined
  readonly unsent = 0
  #done: (() => void) | undefined
  attach(): void {}
  read(): undefined {}
  readInto(): undefined {}
  write(data: Uint8Array): number {
    return data.length
  }
  writev(): number {
    return 0
  }
  shutdown(done: () => void): void {
    this.#done = done
  }
  confirm(): void {
    this.#done?.()
  }
  destroy(): void {}
  mayLose(): boolean {
    return true
  }
  ref(): void {}
  unref(): void {}
}

async function rawClient(to: { port: number }): Promise<Socket> {
  const { connect } = await import('node:net')
  const socket = connect({ port: to.port, host: '127.0.0.1', allowHalfOpen: true })
  await once(socket, 'connect')
  return socket
}

for (const transport of TRANSPORTS) {
  describe(`ending over ${transport}`, () => {
    test('T12, T14, T15, T16: after close everything fails with Closed, fresh and alike', async () => {
      await using pair = await pairOver(transport)
      const { a } = pair
      assert.deepEqual(await a.close(), { clean: true, unsent: 0 })
      assert.equal(a.state, 'closed')
      const seen = new Set<unknown>()
      const into = new Uint8Array(1)
      for (const [op, start] of operations(a, into)) {
        const error = await rejection(start())
        assert.ok(error instanceof Closed, `${op}: ${String(error)}`)
        assert.equal(error.code, 'CLOSED')
        assert.equal(error.op, op)
        assert.ok(error.cause instanceof Closed)
        seen.add(error)
      }
      assert.equal(seen.size, operations(a, into).length)
      assert.throws(() => a.unread('x'), Closed)
      assert.throws(() => a.toNode(), Closed)
    })

    test('T13: close is idempotent, at both ends, at once or one after the other', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      const reports = await Promise.all([a.close(), b.close(), a.close({ timeout: 1000 }), a.close(), b.close()])
      for (const report of [...reports, await a.closed, await b.closed]) assert.deepEqual(report, { clean: true, unsent: 0 })
      a.abort()
      a.abort(new Error('late'))
      assert.deepEqual(await a.close(), { clean: true, unsent: 0 })
    })

    test('T22, T29, T30: close wakes whatever waits', async () => {
      await using pair = await pairOver(transport)
      const { a } = pair
      const waiting = [a.read(), ...(transport === 'memory' ? [] : await clogged(a))]
      void a.close()
      for (const promise of waiting) {
        const error = await rejection(promise)
        assert.ok(error instanceof Closed, String(error))
      }
    })

    test('T33: the peer of a close reads a clean end, and can close', async () => {
      await using pair = await pairOver(transport)
      const reading = pair.b.read()
      await pair.a.close()
      assert.equal(await reading, null)
      assert.deepEqual(await pair.b.close(), { clean: true, unsent: 0 })
      assert.deepEqual(pair.network.sockets(), [])
    })

    test('T20: a close that is cancelled, or whose time is up, still closes', async () => {
      for (const [o, code] of [
        [{ timeout: 0 }, 'DEADLINE'],
        [{ deadline: new Date(0) }, 'DEADLINE'],
        [{ signal: AbortSignal.abort() }, 'CANCELLED'],
      ] as const) {
        await using pair = await pairOver(transport)
        for (const end of [pair.a, pair.b]) {
          const report = await end.close(o)
          assert.equal(report.clean, false)
          assert.equal(report.reason?.code, code)
          assert.equal((await rejection(end.read())).code, 'CLOSED')
        }
        assert.deepEqual(pair.network.sockets(), [])
      }
    })

    test('T21: what is started under a signal that has aborted fails with Cancelled, and closing works', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      const signal = AbortSignal.abort('why')
      for (const [op, start] of operations(a, new Uint8Array(1), { signal })) {
        if (op === 'tryRead') continue
        const error = await rejection(start())
        assert.deepEqual([error.name, error.code, error.op, error.cause], ['Cancelled', 'CANCELLED', op, 'why'])
      }
      assert.equal(a.state, 'open')
      assert.deepEqual(await a.close(), { clean: true, unsent: 0 })
      assert.equal(await b.read(), null)
    })

    test('T18, T19: abort: our operations fail with Closed and the reason, the peer breaks or ends, nothing hangs', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      const waiting = a.read()
      const why = new Error('changed my mind')
      a.abort(why)
      const error = await rejection(waiting)
      assert.ok(error instanceof Closed)
      assert.equal(error.code, 'ABORTED')
      const report = await a.closed
      assert.equal(report.clean, false)
      assert.equal(report.reason?.code, 'ABORTED')
      assert.equal(report.reason?.cause, why)
      assert.equal((await rejection(a.write('x'))).code, 'ABORTED')
      assert.equal(a.signal.reason, report.reason)
      const { bytes, end } = await readOut(b)
      assert.equal(bytes, 0)
      assert.match(end, /^end$|^Broken (ECONNRESET|EPIPE)$/)
      if (transport === 'tcp') assert.equal(end, 'Broken ECONNRESET')
    })

    test('abort is immediate also while nothing moves, and tells how much was lost', async () => {
      if (transport === 'memory') return
      await using pair = await pairOver(transport)
      const { a } = pair
      const [writing, flushing] = await clogged(a)
      const { unsent } = a.stats
      assert.ok(unsent > 0)
      a.abort()
      assert.deepEqual(
        pair.network.sockets().map(({ id }) => id),
        [pair.b.id],
      )
      assert.equal((await a.closed).unsent, unsent)
      assert.equal((await rejection(writing as Promise<unknown>)).code, 'ABORTED')
      assert.equal((await rejection(flushing as Promise<unknown>)).code, 'ABORTED')
    })

    test('abort while the end is on its way: end rejects, and nothing stays open', async () => {
      await using pair = await pairOver(transport)
      const { a } = pair
      const ending = a.end()
      a.abort()
      const how = await ending.then(
        () => 'ended',
        (error: { code: string }) => error.code,
      )
      assert.match(how, /^(ended|ABORTED)$/)
      assert.equal((await rejection(a.end())).code, 'ABORTED')
      assert.deepEqual(
        pair.network.sockets().map(({ id }) => id),
        [pair.b.id],
      )
    })

    test('the signal aborts when the connection is over, with the reason', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      const { signal } = a
      assert.equal(signal.aborted, false)
      assert.equal(a.signal, signal)
      await a.close()
      assert.ok(signal.reason instanceof Closed)
      await b.end()
      await b.read()
      await b.closed
      assert.ok(b.signal.reason instanceof Closed, String(b.signal.reason))
    })

    test('closed never rejects and gives the same report as close', async () => {
      await using pair = await pairOver(transport)
      const { closed } = pair.a
      assert.equal(await pair.a.close(), await closed)
      assert.ok(Object.isFrozen(await closed))
    })

    test('input that was not read is given up at close, also when it was unread', async () => {
      await using pair = await pairOver(transport)
      await pair.b.write('input')
      await pair.a.peek()
      pair.a.unread('more')
      await pair.a.close()
      assert.throws(() => pair.a.tryRead(), Closed)
    })

    test('no descriptor is left', async () => {
      await using first = await pairOver(transport)
      const before = descriptors()
      for (let i = 0; i < 10; i++) {
        await using pair = await pairOver(transport)
        await pair.a.write('x')
        if (i % 5 === 0) await Promise.all([pair.a.close(), pair.b.close()])
        else if (i % 5 === 1) pair.a.abort()
        else if (i % 5 === 2) {
          await Promise.all([pair.a.end(), pair.b.end()])
          await Promise.all([pair.a.readAll(), pair.b.readAll()])
        } else if (i % 5 === 3) void pair.a.end()
      }
      await until('all are closed', () => (descriptors() ?? 0) <= (before ?? 0))
      assert.equal(first.a.state, 'open')
    })
  })
}

/** A write and a flush that wait for a peer that does not read. */
async function clogged(connection: Connection): Promise<Promise<unknown>[]> {
  await clogWith(connection)
  const waiting = [connection.write(new Uint8Array(1 << 20)), connection.flush(), connection.waitWritable()]
  await settle(2)
  return waiting
}

function operations(c: Connection, into: Uint8Array, o?: { signal?: AbortSignal }): readonly (readonly [string, () => Promise<unknown>])[] {
  return [
    ['read', () => c.read(o)],
    ['readInto', () => c.readInto(into, o)],
    ['readExactly', () => c.readExactly(1, o)],
    ['readUntil', () => c.readUntil('x', o)],
    ['readLine', () => c.readLine(o)],
    ['readAll', () => c.readAll(o)],
    ['peek', () => c.peek(1, o)],
    ['tryRead', async () => c.tryRead()],
    ['waitReadable', () => c.waitReadable(o)],
    ['iterator', () => c.chunks(o).next()],
    ['write', () => c.write(into, o)],
    ['write', () => c.write('', o)],
    ['writeSome', () => c.writeSome('x', o)],
    ['flush', () => c.flush(o)],
    ['waitWritable', () => c.waitWritable(o)],
    ['end', () => c.end(o)],
  ]
}

describe('close against a peer that does not read', () => {
  test('gives up after the linger time, and says what was lost', async () => {
    const clock = new VirtualClock()
    await using raw = await rawPair({ clock })
    const { connection } = raw
    await clogWith(connection)
    const { unsent } = connection.stats
    const closing = connection.close()
    await clock.advance(5_000)
    const report: CloseReport = await closing
    assert.equal(report.clean, false)
    assert.equal(report.unsent, unsent)
    assert.equal(report.reason?.code, 'ETIMEDOUT')
    assert.deepEqual(raw.network.sockets(), [])
  })

  test('N28: gives up after the linger time also where nothing tells that the stream was destroyed', async () => {
    for (const o of [undefined, { timeout: 5_000 }, { deadline: new Deadline() }]) {
      const clock = new VirtualClock()
      await using pair = connectionPair({ clock, capacity: 10, limits: { unsent: 100 } })
      await pair.a.write(new Uint8Array(60))
      const ending = rejection(pair.a.end())
      const closing = pair.a.close(o)
      await clock.advance(5_000)
      const { clean, unsent } = await closing
      assert.deepEqual({ clean, unsent }, { clean: false, unsent: 50 })
      assert.equal((await ending).code, 'CLOSED')
      assert.equal(clock.pending, 0)
    }
  })

  test('gives up at its own deadline, which may be moved', async () => {
    const clock = new VirtualClock()
    await using raw = await rawPair({ clock })
    await clogWith(raw.connection)
    const deadline = new Deadline(clock.wall() + 1000)
    const closing = raw.connection.close({ deadline })
    await clock.advance(500)
    assert.equal(raw.network.sockets().length, 1)
    deadline.set(clock.wall())
    const report = await closing
    assert.ok(report.reason instanceof DeadlineError)
    assert.deepEqual(raw.network.sockets(), [])
    assert.equal(clock.pending, 0)
  })

  test('N28: does not hold up a waiting write, which is told how much went out', async () => {
    await using pair = await pairOver('tcp')
    const { a, b } = pair
    const before = await clogWith(a)
    const writing = a.write(new Uint8Array(1 << 20))
    const closing = a.close()
    const error = await rejection(writing)
    assert.equal(error.code, 'CLOSED')
    const got = await b.readAll({ limit: 1 << 30 })
    assert.equal(got.length, before + (error.bytesWritten as number))
    assert.equal((await closing).clean, true)
  })

  test('end under a deadline stops waiting; the end itself is still to come', async () => {
    const clock = new VirtualClock()
    await using raw = await rawPair({ clock })
    const { connection, peer } = raw
    const sent = await clogWith(connection)
    assert.equal((await rejection(connection.end({ timeout: 0 }))).code, 'DEADLINE')
    assert.equal(connection.state, 'open', 'a deadline in the past ends nothing')
    const ending = connection.end({ timeout: 10 })
    await clock.advance(10)
    assert.equal((await rejection(ending)).code, 'DEADLINE')
    assert.equal(connection.state, 'write-ended')
    assert.equal((await drain(peer)).length, sent)
    await connection.end()
  })
})

describe('idle', () => {
  test('the connection ends with Denied/IDLE after that time without a byte in either direction', async () => {
    const clock = new VirtualClock()
    await using pair = connectionPair({ clock, defaults: { idle: 1000 } })
    const { a, b } = pair
    for (let i = 0; i < 4; i++) {
      await clock.advance(600)
      await (i % 2 ? a : b).write('x')
      await (i % 2 ? b : a).read()
    }
    assert.equal(a.state, 'open')
    const waiting = rejection(a.read())
    await clock.advance(999)
    assert.equal(a.state, 'open')
    await clock.advance(1)
    const error = await waiting
    assert.ok(error instanceof Denied)
    assert.equal(error.code, 'IDLE')
    assert.equal(error.op, 'read')
    assert.equal((await a.closed).reason?.code, 'IDLE')
    assert.equal((await rejection(a.write('x'))).code, 'IDLE')
    assert.equal(clock.pending, 0)
  })

  test('the part of a write that was taken at once counts as bytes', async () => {
    const clock = new VirtualClock()
    await using pair = connectionPair({ clock, capacity: 8, defaults: { idle: 1000 } })
    const { a, b } = pair
    await clock.advance(600)
    await b.write('x')
    void a.write(new Uint8Array(100_000))
    assert.equal(a.stats.bytesWritten, 8)
    await clock.advance(999)
    assert.equal(a.state, 'open')
    await clock.advance(1)
    assert.equal((await a.closed).reason?.code, 'IDLE')
  })
})

describe('owners', () => {
  test('closing a network ends its connections in order, within the time given', async () => {
    const clock = new VirtualClock()
    await using raw = await rawPair({ clock })
    await raw.connection.write('x')
    const closing = raw.network.close({ within: 200 })
    await settle(5)
    await clock.advance(200)
    assert.deepEqual(await closing, { closed: 1, aborted: 0 })
    assert.deepEqual(raw.network.sockets(), [])
  })

  test('what does not end in time is aborted and counted', async () => {
    const clock = new VirtualClock()
    await using raw = await rawPair({ clock })
    await clogWith(raw.connection)
    const closing = raw.network.close({ within: 200 })
    await clock.advance(200)
    assert.deepEqual(await closing, { closed: 0, aborted: 1 })

    await using other = await rawPair({ clock })
    await clogWith(other.connection)
    const patient = other.network.close()
    await clock.advance(5_000)
    assert.deepEqual(await patient, { closed: 0, aborted: 1 })
  })

  test('a network that has ended opens nothing more, and leaves no descriptor of a dial under way', async () => {
    await using listening = new Network()
    await using listener = await listening.listen('tcp://127.0.0.1:0')
    const network = new Network()
    await settle(5)
    const before = descriptors()
    const dialling = network.connect(listener.endpoint)
    void network.close()
    assert.equal((await rejection(dialling)).name, 'Closed')
    await until('the descriptors are given back', () => (descriptors() ?? 0) <= (before ?? 0))
    assert.equal((await rejection(network.connect(listener.endpoint))).code, 'OWNER_ENDED')
  })
})

describe('nobody listens', () => {
  test('rejections of write, flush and end that nobody looks at end no process', async () => {
    const unhandled: unknown[] = []
    const note = (reason: unknown) => unhandled.push(reason)
    process.on('unhandledRejection', note)
    try {
      await using raw = await rawPair()
      const { connection, peer } = raw
      peer.resetAndDestroy()
      await once(peer, 'close')
      for (let i = 0; i < 10; i++) {
        void connection.write(new Uint8Array(100_000))
        void connection.writeSome('x')
        void connection.flush()
        void connection.waitWritable()
        void connection.end({ timeout: 1 })
        await settle(2)
      }
      void connection.end()
      connection.abort()
      void connection.write('x', { timeout: -1 })
      void connection.close({ timeout: 'soon' as never })
      await settle(10)
      assert.deepEqual(unhandled, [])
    } finally {
      process.off('unhandledRejection', note)
    }
  })
})

test('a close behind a failed write does not wait for what can never be sent', { timeout: 20_000 }, async () => {
  await using network = new Network({ limits: { lingerTime: 600_000 } })
  const listener = await network.listen('tcp://127.0.0.1:0')
  const [a, b] = await Promise.all([network.connect(listener.endpoint), listener.accept()])
  await b.close()
  await assert.rejects(async () => {
    for (;;) await a.write(new Uint8Array(100))
  }, Broken)
  const report = await a.close()
  assert.equal(report.clean, false)
  assert.equal(report.reason?.name, 'Broken')
})
