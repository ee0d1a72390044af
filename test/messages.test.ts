import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { codecs } from '#src/codecs.js'
import type { Connection } from '#src/connection.js'
import type { SocketError } from '#src/errors.js'
import { type Codec, defineCodec } from '#src/framing.js'
import { MessageStream } from '#src/messages.js'
import { connectionPair, type ConnectionPairOptions, Random, settle, VirtualClock } from 'fairlead/testing'

const utf8 = (text: string) => Uint8Array.from(Buffer.from(text))

interface Framed<T, S> extends AsyncDisposable {
  a: MessageStream<T, S>
  b: MessageStream<T, S>
  /** The connection under `a`, to write what is no message. */
  raw: Connection
}

function framed<T, S>(codec: Codec<T, S>, o?: ConnectionPairOptions): Framed<T, S> {
  const pair = connectionPair(o)
  return {
    a: new MessageStream(pair.a, codec),
    b: new MessageStream(pair.b, codec),
    raw: pair.a,
    [Symbol.asyncDispose]: () => pair[Symbol.asyncDispose](),
  }
}

async function all<T>(stream: MessageStream<T, never>): Promise<T[]> {
  const messages: T[] = []
  for await (const message of stream) messages.push(message)
  return messages
}

/** Whether `promise` has settled once everything that can happen has happened. */
async function waits(promise: Promise<unknown>): Promise<boolean> {
  let settled = false
  const seen = () => {
    settled = true
  }
  promise.then(seen, seen)
  await settle(4)
  return !settled
}

describe('receiving', () => {
  test('messages arrive whole and in order, then null, again and again', async () => {
    await using pair = framed(codecs.lines())
    await pair.a.send('one')
    await pair.a.sendMany(['two', '', 'four'])
    await pair.a.end()
    assert.deepEqual([await pair.b.receive(), await pair.b.receive(), await pair.b.receive()], ['one', 'two', ''])
    assert.equal(await pair.b.receive({ timeout: 1000 }), 'four')
    assert.equal(await pair.b.receive(), null)
    assert.equal(await pair.b.receive(), null)
    assert.equal(pair.b.tryReceive(), null)
    assert.deepEqual(await all(pair.b), [])
  })

  test('F1 a message may come in any pieces', async () => {
    await using pair = framed(codecs.lengthPrefixed())
    const receiving = pair.b.receive()
    for (const byte of codecs.lengthPrefixed().encode('pieces')) {
      await pair.raw.write(Uint8Array.of(byte))
      await settle(1)
    }
    assert.deepEqual(await receiving, utf8('pieces'))
  })

  test('tryReceive gives undefined while there is nothing', async () => {
    await using pair = framed(codecs.lines())
    assert.equal(pair.b.tryReceive(), undefined)
    await pair.raw.write('hal')
    assert.equal(pair.b.tryReceive(), undefined)
    await pair.raw.write('f\n')
    assert.equal(pair.b.tryReceive(), 'half')
    assert.equal(pair.b.tryReceive(), undefined)
  })

  test('F4 an end inside a message is INCOMPLETE each time, with what came of it', async () => {
    await using pair = framed(codecs.lines())
    await pair.raw.write('one\ntw')
    await pair.raw.end()
    assert.equal(await pair.b.receive(), 'one')
    const incomplete = { name: 'FrameError', code: 'INCOMPLETE', offset: 4, received: 2 }
    await assert.rejects(pair.b.receive(), { ...incomplete, op: 'receive' })
    await assert.rejects(pair.b.receive(), { ...incomplete, op: 'receive' })
    assert.throws(() => pair.b.tryReceive(), { ...incomplete, op: 'tryReceive' })
    await assert.rejects(all(pair.b), { ...incomplete, op: 'messages' })
  })

  test('a malformed message fails for good, those before it are received', async () => {
    await using pair = framed(codecs.jsonLines())
    await pair.raw.write('1\n{\n2\n')
    assert.equal(await pair.b.receive(), 1)
    await assert.rejects(pair.b.receive(), { code: 'BAD_FRAME', offset: 2 })
    await assert.rejects(pair.b.receive(), { code: 'BAD_FRAME', offset: 2 })
  })

  test('a receive that times out or is cancelled in a message loses nothing', async () => {
    const clock = new VirtualClock()
    await using pair = framed(codecs.lines(), { clock })
    await pair.raw.write('hal')
    const late = assert.rejects(pair.b.receive({ timeout: 50 }), { name: 'DeadlineError', op: 'receive' })
    await clock.advance(50)
    await late
    const controller = new AbortController()
    const cancelled = assert.rejects(pair.b.receive({ signal: controller.signal }), { name: 'Cancelled', op: 'receive' })
    await pair.raw.write('f a line')
    await settle()
    controller.abort()
    await cancelled
    await pair.raw.write('\n')
    assert.equal(await pair.b.receive(), 'half a line')
  })

  test('the timeout is for the whole message, not for each of its pieces', async () => {
    const clock = new VirtualClock()
    await using pair = framed(codecs.lines(), { clock })
    let code: string | undefined
    const receiving = pair.b.receive({ timeout: 100 }).catch((error: SocketError) => {
      code = error.code
    })
    for (let i = 0; i < 9; i++) {
      await pair.raw.write('x')
      await clock.advance(10)
    }
    assert.equal(code, undefined)
    await pair.raw.write('x')
    await clock.advance(10)
    await receiving
    assert.equal(code, 'DEADLINE')
  })

  test('N1 a deadline in the past wins over a message that is here, which stays', async () => {
    await using pair = framed(codecs.lines())
    await pair.a.sendMany(['one', 'two'])
    assert.equal(await pair.b.receive(), 'one')
    await assert.rejects(pair.b.receive({ timeout: 0 }), { name: 'DeadlineError' })
    await assert.rejects(pair.b.receive({ signal: AbortSignal.abort() }), { name: 'Cancelled' })
    assert.equal(await pair.b.receive({ deadline: Date.now() + 60_000 }), 'two')
  })

  test('wrong waits are native errors, as rejections', async () => {
    await using pair = framed(codecs.lines())
    await assert.rejects(pair.b.receive({ timeout: -1 }), { name: 'RangeError' })
    await assert.rejects(pair.b.receive({ timeout: '1' as never }), { name: 'TypeError' })
    await assert.rejects(pair.a.send('x', { timeout: -1 }), { name: 'RangeError' })
    await assert.rejects(pair.a.sendMany(['x'], { timeout: -1 }), { name: 'RangeError' })
    await assert.rejects(pair.a.sendMany(1 as never), { name: 'TypeError' })
  })

  test('a second receiver is Busy, and the first goes on', async () => {
    await using pair = framed(codecs.lines())
    const first = pair.b.receive()
    await assert.rejects(pair.b.receive(), { name: 'Busy' })
    assert.throws(() => pair.b.tryReceive(), { name: 'Busy' })
    await assert.rejects(pair.b.messages().next(), { name: 'Busy' })
    await assert.rejects(pair.b.connection.read(), { name: 'Busy' })
    await pair.a.send('x')
    assert.equal(await first, 'x')
  })

  test('an iterator holds the place of the receiver until the loop is left, and loses nothing', async () => {
    await using pair = framed(codecs.lines())
    await pair.a.sendMany(['1', '2', '3', '4'])
    for await (const message of pair.b.messages()) {
      if (message === '1') await assert.rejects(pair.b.receive(), { name: 'Busy' })
      if (message === '2') break
    }
    assert.equal(await pair.b.receive(), '3')
    assert.equal(await pair.b.receive(), '4')
    assert.equal(pair.b.connection.state, 'open')
  })

  test('an iterator waits with its own timeout for each message', async () => {
    const clock = new VirtualClock()
    await using pair = framed(codecs.lines(), { clock })
    const messages = pair.b.messages({ timeout: 100 })
    for (let i = 0; i < 3; i++) {
      const next = messages.next()
      await clock.advance(90)
      await pair.a.send(`${i}`)
      assert.deepEqual(await next, { done: false, value: `${i}` })
    }
    const late = assert.rejects(messages.next(), { name: 'DeadlineError' })
    await clock.advance(100)
    await late
    assert.deepEqual(await messages.next(), { done: true, value: undefined })
    await pair.a.send('still there')
    assert.equal(await pair.b.receive(), 'still there')
  })

  test('T12 T22 a close of this side wakes a receive and refuses later ones, whatever was decoded', async () => {
    await using pair = framed(codecs.lines())
    const waiting = pair.b.receive()
    await settle()
    const woken = assert.rejects(waiting, { name: 'Closed', code: 'CLOSED', op: 'receive' })
    await pair.b.close()
    await woken
    await assert.rejects(pair.b.receive(), { name: 'Closed' })

    await using other = framed(codecs.lines())
    await other.a.sendMany(['1', '2', '3'])
    assert.equal(await other.b.receive(), '1')
    other.b.connection.abort()
    await assert.rejects(other.b.receive(), { name: 'Closed', code: 'ABORTED' })
    assert.throws(() => other.b.tryReceive(), { name: 'Closed' })
  })

  test('messages that came before a reset are received, the error comes after', async () => {
    await using pair = framed(codecs.lines())
    await pair.a.sendMany(['1', '2'])
    await pair.raw.write('3')
    assert.equal(await pair.b.receive(), '1')
    pair.raw.abort()
    await settle()
    assert.equal(await pair.b.receive(), '2')
    await assert.rejects(pair.b.receive(), { name: 'Broken', code: 'ECONNRESET' })
    await assert.rejects(pair.b.receive(), { name: 'Broken', code: 'ECONNRESET' })
  })

  test('a JSON null is not the end: receive says so, an iteration gives it', async () => {
    await using pair = framed(codecs.jsonLines())
    await pair.a.sendMany([null, null, 1])
    await pair.a.end()
    await assert.rejects(pair.b.receive(), { name: 'FrameError', code: 'BAD_FRAME' })
    assert.deepEqual(await all(pair.b), [null, 1])
  })

  test('F9 tiny messages in one segment do not keep the loop from turning for more than 10 ms', async (t) => {
    await using pair = framed(codecs.lengthPrefixed({ bytes: 1 }), { clock: new VirtualClock() })
    await pair.a.sendMany(Array<string>(20_000).fill(''))
    let now = performance.now()
    t.mock.method(performance, 'now', () => now)
    for (const receive of [(count: number) => iterated(pair.b, count), (count: number) => received(pair.b, count)]) {
      let turns = 0
      let longest = 0
      let since = now
      let going = true
      const watch = () => {
        longest = Math.max(longest, now - since)
        since = now
        turns++
        if (going) setImmediate(watch)
      }
      setImmediate(watch)
      for await (const _ of receive(10_000)) now += 0.05
      going = false
      await settle(1)
      // 10,000 messages of 0.05 ms.
      assert.ok(turns > 500 / 10, `${turns} turns`)
      assert.ok(longest <= 10, `${longest} ms`)
    }
  })
})

async function* iterated<T>(stream: MessageStream<T, never>, count: number): AsyncGenerator<T> {
  let left = count
  for await (const message of stream) {
    yield message
    if (--left === 0) break
  }
}

async function* received<T>(stream: MessageStream<T, never>, count: number): AsyncGenerator<T | null> {
  for (let left = count; left > 0; left--) yield await stream.receive()
}

describe('sending', () => {
  test('many sends of one turn become few writes and keep their order', async (t) => {
    await using pair = framed(codecs.lines())
    const write = t.mock.method(pair.raw, 'write')
    const sent = Array.from({ length: 1000 }, (_, i) => `${i}`)
    await Promise.all(sent.map((message) => pair.a.send(message)))
    assert.ok(write.mock.callCount() <= 3, `${write.mock.callCount()} writes`)
    await pair.a.end()
    assert.deepEqual(await all(pair.b), sent)
  })

  test('a lone send is with the connection at once', async () => {
    await using pair = framed(codecs.lines())
    void pair.a.send('bye')
    void pair.raw.close()
    assert.deepEqual(await all(pair.b), ['bye'])
  })

  test('a message that cannot be encoded is told to its sender, the others are sent', async () => {
    await using pair = framed(codecs.lines({ max: 5 }))
    const results = await Promise.allSettled(['1', 'a\nb', '2', 'too long', '3'].map((message) => pair.a.send(message)))
    assert.deepEqual(
      results.map((result) => (result.status === 'rejected' ? (result.reason as SocketError).code : result.status)),
      ['fulfilled', 'BAD_MESSAGE', 'fulfilled', 'TOO_LONG', 'fulfilled'],
    )
    await pair.a.end()
    assert.deepEqual(await all(pair.b), ['1', '2', '3'])
  })

  test('what was given to a send is the caller’s again once it settled', async () => {
    await using pair = framed(codecs.lengthPrefixed(), { capacity: 1024 })
    const large = new Uint8Array(60_000).fill(1)
    const small = utf8('small')
    const receiving = all(pair.b)
    await pair.a.send(large)
    large.fill(2)
    await pair.a.send(small)
    small.fill(2)
    await pair.a.end()
    assert.deepEqual(await receiving, [new Uint8Array(60_000).fill(1), utf8('small')])
  })

  test('a send waits while the peer does not receive', async () => {
    await using pair = framed(codecs.lengthPrefixed(), { capacity: 1024 })
    const sends = Array.from({ length: 4 }, () => pair.a.send(new Uint8Array(50_000)))
    assert.equal(await waits(sends[3] as Promise<void>), true)
    for (let i = 0; i < 4; i++) assert.equal((await pair.b.receive())?.length, 50_000)
    await Promise.all(sends)
  })

  test('sendMany takes messages only as fast as they are welcome', async () => {
    await using pair = framed(codecs.lengthPrefixed(), { capacity: 1024 })
    let made = 0
    function* messages() {
      for (; made < 1000; made++) yield new Uint8Array(1000)
    }
    const sending = pair.a.sendMany(messages())
    assert.equal(await waits(sending), true)
    assert.ok(made < 300, `${made} messages`)
    let count = 0
    const receiving = (async () => {
      for await (const message of pair.b) count += message.length / 1000
    })()
    await sending
    await pair.a.end()
    await receiving
    assert.deepEqual([made, count], [1000, 1000])
  })

  test('sendMany takes an async iterable, each message on its way at once', async () => {
    await using pair = framed(codecs.lines())
    await pair.a.sendMany(
      (async function* () {
        yield 'one'
        assert.equal(await pair.b.receive(), 'one')
        yield 'two'
      })(),
    )
    assert.equal(await pair.b.receive(), 'two')
  })

  test('sendMany stops at a message that cannot be encoded; those before it are sent', async () => {
    await using pair = framed(codecs.lines())
    await assert.rejects(pair.a.sendMany(['1', '2', 'a\nb', '3']), { code: 'BAD_MESSAGE' })
    await pair.a.send('4')
    await pair.a.end()
    assert.deepEqual(await all(pair.b), ['1', '2', '4'])
  })

  test('a mistake of whoever makes the messages comes through as it is', async () => {
    await using pair = framed(codecs.lines())
    const mistake = new Error('mine')
    await assert.rejects(
      pair.a.sendMany(
        (function* () {
          yield '1'
          throw mistake
        })(),
      ),
      mistake,
    )
    assert.equal(await pair.b.receive(), '1')
  })

  test('a send that is cut inside its message leaves PARTIAL_WRITE for all later ones, and nothing is written behind it', async () => {
    const clock = new VirtualClock()
    await using pair = framed(codecs.lengthPrefixed(), { clock, capacity: 1000, limits: { unsent: 100 } })
    const cut = pair.a.send(new Uint8Array(5000), { timeout: 100 })
    const behind = pair.a.send('behind')
    const later = pair.a.send('later', { timeout: 1000 })
    const outcomes = Promise.allSettled([cut, behind, later])
    await clock.advance(100)
    const [first, ...rest] = (await outcomes).map((result) => (result as PromiseRejectedResult).reason as SocketError)
    assert.equal(first?.name, 'DeadlineError')
    assert.equal(first?.bytesWritten, 1000)
    for (const error of rest) {
      assert.equal(error.code, 'PARTIAL_WRITE')
      const { cause } = error as { cause: SocketError }
      assert.equal(((cause.code as string) === 'PARTIAL_WRITE' ? (cause.cause as Error) : cause).name, 'DeadlineError')
    }
    await assert.rejects(pair.a.send('never'), { name: 'FrameError', code: 'PARTIAL_WRITE' })
    await assert.rejects(pair.a.sendMany(['never']), { name: 'FrameError', code: 'PARTIAL_WRITE' })
    await pair.a.end()
    await assert.rejects(pair.b.receive(), { code: 'INCOMPLETE', received: 1000 })
  })

  test('a send that times out before any of it went is withdrawn, and the stream goes on', async () => {
    const clock = new VirtualClock()
    await using pair = framed(codecs.lengthPrefixed(), { clock, capacity: 1000, limits: { unsent: 100 } })
    const blocking = pair.a.send(new Uint8Array(5000))
    const withdrawn = assert.rejects(pair.a.send('withdrawn', { timeout: 100 }), { name: 'DeadlineError', bytesWritten: 0 })
    const cancelled = assert.rejects(pair.a.send('cancelled', { signal: AbortSignal.abort() }), { name: 'Cancelled' })
    const behind = pair.a.send('behind')
    await clock.advance(100)
    await Promise.all([withdrawn, cancelled])
    assert.equal((await pair.b.receive())?.length, 5000)
    await blocking
    await behind
    assert.deepEqual(await pair.b.receive(), utf8('behind'))
  })

  test('the deadline of a send holds while it waits and while it is written', async () => {
    const clock = new VirtualClock()
    await using pair = framed(codecs.lengthPrefixed(), { clock, capacity: 1000, limits: { unsent: 100 } })
    void pair.a.send(new Uint8Array(5000))
    const timed = pair.a.send(new Uint8Array(3000), { timeout: 100 })
    await clock.advance(60)
    const receiving = pair.b.receive()
    assert.equal((await receiving)?.length, 5000)
    let at: number | undefined
    const failed = assert.rejects(timed, () => {
      at = clock.now()
      return true
    })
    await clock.advance(1000)
    await failed
    assert.equal(at, 100)
  })

  test('T14 after a close or an end, sends are refused', async () => {
    await using pair = framed(codecs.lines())
    await pair.a.end()
    await assert.rejects(pair.a.send('x'), { name: 'Closed', code: 'ENDED' })
    assert.equal(await pair.b.receive(), null)
    await pair.b.send('the other way works')
    assert.equal(await pair.a.receive(), 'the other way works')
    await pair.a.close()
    await assert.rejects(pair.a.send('x'), { name: 'Closed' })
    await assert.rejects(pair.a.sendMany(['x']), { name: 'Closed' })
  })

  test('T10 T11 when the peer is gone sends fail with Broken, each time, and nobody need listen', async () => {
    await using pair = framed(codecs.lines())
    pair.b.connection.abort()
    await settle()
    for (let i = 0; i < 3; i++) void pair.a.send('unheard')
    await settle()
    await assert.rejects(pair.a.send('x'), { name: 'Broken' })
    await assert.rejects(pair.a.sendMany(['x', 'y']), { name: 'Broken' })
    void pair.a.sendMany(['unheard'])
    await settle()
  })

  test('close and end take everything that was sent along', async () => {
    for (const finish of ['close', 'end'] as const) {
      await using pair = framed(codecs.lines(), { capacity: 100 })
      const sent = Array.from({ length: 500 }, (_, i) => `message ${i}`)
      for (const message of sent) void pair.a.send(message)
      const finished = pair.a[finish]()
      assert.deepEqual(await all(pair.b), sent)
      await finished
    }
  })

  test('end waits for sends that may yet be withdrawn', async () => {
    await using pair = framed(codecs.lines(), { capacity: 100, limits: { unsent: 100 } })
    void pair.a.send('x'.repeat(300))
    const timed = pair.a.send('timed', { timeout: 60_000 })
    void pair.a.send('last')
    const ended = pair.a.end()
    await assert.rejects(pair.a.send('too late'), { name: 'Closed', code: 'ENDED' })
    assert.deepEqual((await all(pair.b)).slice(1), ['timed', 'last'])
    await timed
    await ended
  })

  test('an end that runs out of time is told so, and the messages before it still go', async () => {
    const clock = new VirtualClock()
    await using pair = framed(codecs.lines(), { clock, capacity: 100, limits: { unsent: 100 } })
    void pair.a.send('x'.repeat(300), { timeout: 60_000 })
    void pair.a.send('last')
    const late = assert.rejects(pair.a.end({ timeout: 100 }), { name: 'DeadlineError' })
    await clock.advance(100)
    await late
    assert.equal((await pair.b.receive())?.length, 300)
    assert.equal(await pair.b.receive(), 'last')
  })

  test('T29 a close wakes sends that wait with Closed, and writes nothing behind a message that it cuts', async () => {
    await using pair = framed(codecs.lines(), { capacity: 100, limits: { unsent: 100 } })
    const outcomes = Promise.allSettled([
      pair.a.send('x'.repeat(300), { timeout: 60_000 }),
      pair.a.send('plain'),
      pair.a.send('timed', { timeout: 60_000 }),
    ])
    void pair.a.close()
    for (const result of await outcomes) assert.equal((result as PromiseRejectedResult).reason.code, 'CLOSED')
    await assert.rejects(pair.b.receive(), { code: 'INCOMPLETE', received: 100 })
  })
})

describe('any schedule', () => {
  for (let seed = 1; seed <= 100; seed++) {
    test(`seed ${seed}: what was sent arrives once and in order, what was withdrawn never, and a cut message is the last`, async () => {
      const random = new Random(seed)
      const clock = new VirtualClock()
      const limits = { unsent: random.int(0, 1) === 0 ? 100 : 4000 }
      await using pair = framed(codecs.jsonLines<{ n: number }>({ max: 200_000 }), { clock, limits, capacity: 50 + random.int(0, 4999) })
      const fates: Promise<'sent' | 'withdrawn' | 'cut' | 'refused'>[] = []
      const track = (n: number, promise: Promise<void>) => {
        fates[n] = promise.then(
          () => 'sent',
          (error: SocketError) => {
            if (error.code === 'PARTIAL_WRITE') return 'refused'
            assert.ok(error.code === 'DEADLINE' || error.code === 'CANCELLED', error.code)
            return error.bytesWritten === 0 ? 'withdrawn' : 'cut'
          },
        )
      }
      const message = (n: number) => ({ n, fill: 'x'.repeat([3, 30, 300, 20_000][random.int(0, 3)] as number) })
      const received: number[] = []
      const receiving = (async () => {
        for await (const { n } of pair.b) {
          received.push(n)
          if (random.int(0, 3) === 0) await settle(1)
        }
        return 'end'
      })().catch((error: SocketError) => error.code)

      for (let n = 0; n < 60; n++) {
        const controller = new AbortController()
        const kind = random.int(0, 5)
        if (kind === 0) track(n, pair.a.send(message(n), { timeout: random.int(0, 19) }))
        else if (kind === 1) track(n, pair.a.send(message(n), { signal: controller.signal }))
        else if (kind === 2) track(n, pair.a.sendMany([message(n)]))
        else track(n, pair.a.send(message(n)))
        const next = random.int(0, 7)
        if (next === 0) await fates[n]
        else if (next === 1) await clock.advance(random.int(0, 9))
        else if (next === 2) await settle(1)
        if (random.int(0, 2) === 0) controller.abort()
      }
      const seen = await Promise.all(fates)
      await pair.a.end()
      const ending = await receiving
      const cut = seen.indexOf('cut')
      assert.equal(ending, cut === -1 ? 'end' : 'INCOMPLETE')
      assert.deepEqual(
        received,
        [...seen.keys()].filter((n) => seen[n] === 'sent'),
      )
      // Nothing that was sent behind a cut message went out, and nothing before it was refused.
      if (cut !== -1) assert.ok(seen.slice(cut).every((fate) => fate !== 'sent'))
      else assert.ok(!seen.includes('refused'))
    })
  }
})

describe('ownership', () => {
  test('disposing closes the connection', async () => {
    await using pair = framed(codecs.lines())
    {
      await using stream = pair.a
      await stream.send('x')
    }
    assert.equal(pair.raw.state, 'closed')
    assert.deepEqual(await all(pair.b), ['x'])
  })

  test('F8 detach gives back the bytes that were not decoded, in front of what comes after', async () => {
    await using pair = framed(codecs.lines())
    await pair.raw.write('UPGRADE\nbin')
    assert.equal(await pair.b.receive(), 'UPGRADE')
    const connection = pair.b.detach()
    await pair.raw.write('ary')
    await pair.raw.end()
    assert.equal(Buffer.from(await connection.readAll()).toString(), 'binary')
    await assert.rejects(pair.b.receive(), { name: 'Closed', code: 'CONSUMED' })
    await assert.rejects(pair.b.send('x'), { name: 'Closed', code: 'CONSUMED' })
    assert.throws(() => pair.b.detach(), { name: 'Closed', code: 'CONSUMED' })
  })

  test('detach is Busy while messages wait that nobody took, and they stay', async () => {
    await using pair = framed(codecs.lines())
    await pair.raw.write('1\n2\n3\nrest')
    assert.equal(await pair.b.receive(), '1')
    assert.throws(() => pair.b.detach(), { name: 'Busy' })
    assert.throws(() => pair.b.detach(), { name: 'Busy' })
    assert.equal(await pair.b.receive(), '2')
    assert.equal(pair.b.tryReceive(), '3')
    assert.equal(Buffer.from((await pair.b.detach().peek()) as Uint8Array).toString(), 'rest')
  })

  test('detach throws waiting messages away if told to', async () => {
    await using pair = framed(codecs.lines())
    await pair.raw.write('1\n2\n3\nrest')
    assert.equal(await pair.b.receive(), '1')
    assert.throws(() => pair.b.detach(), { name: 'Busy' })
    assert.equal(Buffer.from((await pair.b.detach({ drop: true }).peek()) as Uint8Array).toString(), 'rest')
  })

  test('detach gives waiting messages back as bytes if told to', async () => {
    for (const askedBefore of [false, true]) {
      await using pair = framed(codecs.lines())
      await pair.raw.write('1\n2\r\n3\nrest')
      assert.equal(await pair.b.receive(), '1')
      if (askedBefore) assert.throws(() => pair.b.detach(), { name: 'Busy' })
      assert.equal(Buffer.from((await pair.b.detach({ undecode: true }).peek()) as Uint8Array).toString(), '2\r\n3\nrest')
    }
  })

  test('detach gives back what is no message, and works after the end', async () => {
    await using pair = framed(codecs.lengthPrefixed())
    await pair.a.send('hello')
    await pair.raw.write('GET / HTTP/1.1\r\n')
    await pair.raw.end()
    assert.deepEqual(await pair.b.receive(), utf8('hello'))
    await assert.rejects(pair.b.receive(), { code: 'TOO_LONG' })
    assert.equal(await pair.b.detach().readLine(), 'GET / HTTP/1.1')
  })

  test('detach is Busy under a receive and under a send that may be withdrawn', async () => {
    await using pair = framed(codecs.lines(), { capacity: 100, limits: { unsent: 100 } })
    const receiving = pair.b.receive()
    assert.throws(() => pair.b.detach(), { name: 'Busy' })
    const first = pair.a.send('x'.repeat(300), { timeout: 60_000 })
    const second = pair.a.send('y')
    assert.throws(() => pair.a.detach(), { name: 'Busy' })
    await receiving
    assert.equal(await pair.b.receive(), 'y')
    await Promise.all([first, second])
    await pair.a.detach().write('raw\n')
    assert.equal(await pair.b.receive(), 'raw')
  })

  test('a framing can follow another', async () => {
    await using pair = framed(codecs.lines())
    await pair.a.send('go binary')
    const next = new MessageStream(pair.a.detach(), codecs.lengthPrefixed())
    await next.send('payload')
    assert.equal(await pair.b.receive(), 'go binary')
    assert.deepEqual(await new MessageStream(pair.b.detach(), codecs.lengthPrefixed()).receive(), utf8('payload'))
  })

  test('frames is one more claimant of the reader slot', async () => {
    await using pair = connectionPair()
    const reading = pair.a.read()
    assert.throws(() => pair.a.frames(codecs.lines()), { name: 'Busy' })
    await pair.b.write('x')
    await reading
    pair.a.frames(codecs.lines())
    assert.throws(() => pair.a.frames(codecs.lines()), { name: 'Busy' })
    assert.throws(() => pair.b.frames({} as never), { name: 'TypeError' })
    pair.b.frames(codecs.lines())
  })
})

describe('codecs of your own', () => {
  const failing: Codec<string> = {
    name: 'failing',
    decoder: () => ({
      push: () => {},
      next: () => {
        throw new Error('decoder mistake')
      },
      end: () => {},
      rest: () => new Uint8Array(0),
      offset: 0,
    }),
    encode: (message) => {
      if (message === 'bad') throw new Error('encoder mistake')
      return utf8(message)
    },
  }

  test('may fail in the middle of appending: nothing of that message is sent', async () => {
    const halting = defineCodec<string>({
      name: 'halting',
      cut: (input) => {
        const text = input.text(0, input.length, 'latin1')
        input.skip(input.length)
        return text
      },
      append: (message, output) => {
        output.text(message, 'latin1')
        if (message === 'bad') throw new Error('halted')
      },
    })
    await using pair = framed(halting)
    const results = await Promise.allSettled(['a', 'bad', 'b', 'bad', 'c'].map((message) => pair.a.send(message)))
    assert.deepEqual(
      results.map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled', 'rejected', 'fulfilled'],
    )
    await assert.rejects(pair.a.sendMany(['d', 'bad', 'e']), { code: 'BAD_MESSAGE' })
    await pair.a.end()
    assert.equal((await all(pair.b)).join(''), 'abcd')
  })

  test('need no append, and their mistakes are frame errors with the cause', async () => {
    await using pair = framed(failing)
    await pair.a.send('good')
    await assert.rejects(pair.a.send('bad'), (error: SocketError) => {
      assert.deepEqual([error.code, (error.cause as Error).message], ['BAD_MESSAGE', 'encoder mistake'])
      return true
    })
    await assert.rejects(pair.b.receive(), (error: SocketError) => {
      assert.deepEqual([error.code, (error.cause as Error).message], ['BAD_FRAME', 'decoder mistake'])
      return true
    })
  })
})
