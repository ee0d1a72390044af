/** Delivery by callback: order, backpressure, modes, ends and failures, over memory and real sockets, raw and framed. */

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { Broken, Busy, Closed, codecs, type Delivery, type DeliveryMode, type TraceEvent } from 'fairlead'
import { connectionPair, type ConnectionPair, Random, settle, VirtualClock } from 'fairlead/testing'
import { removePaths, TRANSPORTS } from './matrix.js'
import { DRIVERS, missing, networkOn } from './support/drivers.js'
import { clogWith, pattern, until } from './support/pairs.js'

const text = (bytes: Uint8Array | null | undefined): string | null | undefined => (bytes ? Buffer.from(bytes).toString('latin1') : bytes)

/** A promise to be settled by hand. */
function gate(): { opened: Promise<void>; open: () => void } {
  let open!: () => void
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { opened, open }
}

/** Collects what a delivery gives. */
class Collected {
  readonly pieces: Uint8Array[] = []
  readonly take = (data: Uint8Array): void => void this.pieces.push(data)

  get length(): number {
    return this.pieces.reduce((sum, piece) => sum + piece.length, 0)
  }

  get bytes(): Buffer {
    return Buffer.concat(this.pieces)
  }
}

function errorsOf(pair: { trace: { subscribe(fn: (event: TraceEvent) => void): () => void } }): TraceEvent[] {
  const errors: TraceEvent[] = []
  pair.trace.subscribe((event) => event.type === 'error' && errors.push(event))
  return errors
}

const MODES = ['active', 'once', 'passive', 1, 2, 3] as const

interface Tally {
  switches: number
}

/** Sends `size` bytes and takes them in every way there is, changing the way at every step; each must come once and in order. */
async function mixed({ a, b }: ConnectionPair, seed: number, size: number, tally: Tally): Promise<void> {
  const random = new Random(seed)
  const sent = pattern(size, seed)
  const got = new Collected()
  let running = 0
  let delivery: Delivery
  const change = (to: DeliveryMode) => {
    try {
      delivery.set(to)
      tally.switches++
    } catch (error) {
      assert.ok(error instanceof Busy || error instanceof Closed, String(error))
    }
  }
  const handler = (data: Uint8Array) => {
    assert.equal(running, 0, 'two calls of the handler at once')
    assert.ok(data.length > 0)
    got.take(data)
    if (random.next() < 0.3) change(random.pick(MODES))
    if (random.next() < 0.5) return undefined
    running++
    return settle(random.int(1, 2)).then(() => {
      running--
      if (random.next() < 0.3) change(random.pick(MODES))
    })
  }
  const sending = (async () => {
    for (let at = 0; at < size;) {
      const piece = sent.subarray(at, (at += random.int(1, size / 8)))
      await a.write(piece)
      if (random.next() < 0.3) await settle(1)
    }
    await a.end()
  })()
  delivery = b.deliver(random.pick(MODES), handler)
  for (let step = 0; step < 40 && got.length < size; step++) {
    const free = delivery.mode === 'passive'
    switch (random.int(0, 6)) {
      case 0:
        change(random.pick(MODES))
        break
      case 1: {
        const data = free ? b.tryRead(random.int(1, size)) : undefined
        if (data) got.take(data)
        break
      }
      case 2: {
        const data = free ? b.tryRead() : undefined
        if (data) b.unread(data)
        break
      }
      case 3:
        await delivery.stop()
        tally.switches++
        delivery = b.deliver(random.pick(MODES), handler)
        break
      case 4:
        if (free && running === 0) await b.peek()
        break
      case 5: {
        const data = free && running === 0 ? await b.read({ limit: random.int(1, size) }) : null
        if (data) got.take(data)
        break
      }
      default:
        await settle(1)
    }
  }
  change('active')
  // What a handler does later must not leave the rest lying.
  while ((await Promise.race([delivery.done, settle(1)])) === undefined) if (delivery.mode === 'passive') change('active')
  await sending
  assert.deepEqual(await delivery.done, { clean: true, unsent: 0 })
  assert.deepEqual(got.bytes, Buffer.from(sent), `seed ${seed}`)
}

const ON_KERNEL = ['kernel tcp4', 'kernel unix', 'kernel tls1.3']
const TESTED = [
  'unbounded',
  'limited',
  'lockstep',
  'choppy',
  'tcp4',
  'adopted',
  'unix',
  'tls1.3',
  'choppy tls',
  'portable tls',
  ...ON_KERNEL,
]

for (const transport of TRANSPORTS.filter((one) => TESTED.includes(one.transport))) {
  describe(`delivery over ${transport.name}`, { skip: transport.missing ?? false }, () => {
    after(() => transport.close())
    const open = async () => {
      const pair = await transport.pair()
      return {
        a: pair.a,
        b: pair.b,
        [Symbol.asyncDispose]: async () => {
          pair.a.abort()
          pair.b.abort()
          await pair.dispose?.()
        },
      }
    }

    test('active: every byte, in order, then the end; the other direction goes on', async () => {
      await using pair = await open()
      const got = new Collected()
      const delivery = pair.b.deliver('active', got.take)
      assert.equal(delivery.mode, 'active')
      await pair.a.write(pattern(100_000))
      await pair.a.end()
      assert.deepEqual(await delivery.done, { clean: true, unsent: 0 })
      assert.deepEqual(got.bytes, Buffer.from(pattern(100_000)))
      assert.equal(delivery.mode, 'passive')
      assert.equal(await pair.b.read(), null)
      void pair.b.write('still here')
      void pair.b.end()
      assert.equal(text(await pair.a.readAll()), 'still here')
    })

    test('what had arrived before is delivered too, never from inside the call of deliver', async () => {
      await using pair = await open()
      void pair.a.write('early')
      await pair.b.peek(5)
      let called = false
      const first = gate()
      const delivery = pair.b.deliver('active', (data) => {
        called = true
        assert.equal(text(data), 'early')
        first.open()
      })
      assert.equal(called, false)
      await first.opened
      await delivery.stop()
    })

    test('a slow handler is waited for, and the peer feels it', { skip: transport.unbounded === true }, async () => {
      await using pair = await open()
      const [begun, slow] = [gate(), gate()]
      const got = new Collected()
      let calls = 0
      const delivery = pair.b.deliver('active', (data) => {
        got.take(data)
        if (calls++ > 0) return undefined
        begun.open()
        return slow.opened
      })
      const sent = await clogWith(pair.a)
      await begun.opened
      assert.equal(calls, 1)
      assert.ok(pair.b.stats.unread === 0, 'nothing is fetched while the handler runs')
      slow.open()
      await pair.a.end()
      assert.ok((await delivery.done).clean)
      assert.equal(got.length, sent)
    })

    test('once and counts use themselves up and give the slot back, already to the handler', async () => {
      await using pair = await open()
      const seen: string[] = []
      const read = gate()
      const delivery = pair.b.deliver('once', async (data) => {
        assert.equal(delivery.mode, 'passive')
        seen.push(text(data) as string)
        seen.push(text(await pair.b.readExactly(4)) as string)
        read.open()
      })
      assert.equal(delivery.mode, 'once')
      await pair.a.write('o')
      await until('the first call', () => seen.length === 1)
      await pair.a.write('read')
      await read.opened
      void pair.a.write('mine')
      assert.equal(text(await pair.b.readExactly(4)), 'mine')
      assert.deepEqual(seen, ['o', 'read'])
      await delivery.stop()

      const got = new Collected()
      const counted = pair.b.deliver(2, got.take)
      for (const left of [1, 'passive']) {
        await pair.a.write('x')
        await until('a call', () => counted.mode === left)
      }
      void pair.a.write('y')
      assert.equal(text(await pair.b.readExactly(1)), 'y')
      counted.set(1)
      await pair.a.write('z')
      await until('a call', () => counted.mode === 'passive')
      assert.equal(text(got.bytes), 'xxz')
    })

    test('stop waits for the handler and leaves the rest unread', async () => {
      await using pair = await open()
      const [begun, slow] = [gate(), gate()]
      let finished = false
      const delivery = pair.b.deliver('active', async () => {
        begun.open()
        await slow.opened
        finished = true
      })
      await pair.a.write('1')
      await begun.opened
      void pair.a.write('234')
      const stopping = delivery.stop()
      assert.equal(text(await pair.b.readExactly(2)), '23', 'the slot is free at once')
      let stopped = false
      void stopping.then(() => {
        stopped = true
      })
      await settle(2)
      assert.equal(stopped, false)
      slow.open()
      await stopping
      assert.ok(finished)
      assert.deepEqual(await delivery.done, { clean: true, unsent: 0 })
      await delivery.stop()
      assert.equal(text(await pair.b.read()), '4')
      assert.throws(() => delivery.set('active'), Closed)
    })

    test('data before a reset is delivered before the reset is told', async () => {
      await using pair = await open()
      const got = new Collected()
      const begun = gate()
      const delivery = pair.b.deliver('active', (data) => {
        got.take(data)
        begun.open()
      })
      await pair.a.write('last words')
      await begun.opened
      await until('all came', () => got.length === 10)
      pair.a.abort()
      const { clean, reason } = await delivery.done
      assert.equal(text(got.bytes), 'last words')
      // UNIX-domain sockets know no reset: there an abort is an end.
      if (!transport.transport.endsWith('unix')) {
        assert.equal(clean, false)
        assert.ok(reason instanceof Broken, String(reason))
      }
    })

    test('every byte comes once and in order however the modes are changed', async () => {
      const tally = { switches: 0 }
      for (let seed = 1; seed <= 15; seed++) {
        await using pair = await open()
        await mixed(pair, seed, 6_000, tally)
      }
      assert.ok(tally.switches > 50, `only ${tally.switches} changes`)
    })
  })
}

after(removePaths)

describe('delivery', () => {
  test('thousands of changes of mode lose and repeat nothing', async () => {
    const tally = { switches: 0 }
    for (let seed = 1_000; seed < 1_400; seed++) {
      await using pair = connectionPair({
        capacity: new Random(seed).pick([1, 7, 100, 4096, Number.POSITIVE_INFINITY]),
        clock: new VirtualClock(),
      })
      await mixed(pair, seed, 400, tally)
    }
    assert.ok(tally.switches > 5_000, `only ${tally.switches} changes`)
  })

  test('one reader slot: Busy both ways, and everything goes on', async () => {
    await using pair = connectionPair()
    const reading = pair.b.read()
    assert.throws(() => pair.b.deliver('active', () => {}), Busy)
    const passive = pair.b.deliver('passive', () => {})
    assert.throws(() => passive.set('once'), Busy)
    assert.equal(passive.mode, 'passive')
    assert.throws(() => pair.b.deliver('active', () => {}), Busy)
    assert.throws(() => pair.b.deliver('passive', () => {}), Busy)
    await pair.a.write('1')
    assert.equal(text(await reading), '1')
    passive.set('active')
    await assert.rejects(pair.b.read(), Busy)
    await assert.rejects(pair.b.peek(), Busy)
    await assert.rejects(pair.b.waitReadable(), Busy)
    await assert.rejects(pair.b.chunks().next(), Busy)
    assert.throws(() => pair.b.tryRead(), Busy)
    assert.throws(() => pair.b.unread('x'), Busy)
    assert.throws(() => pair.b.frames(codecs.lines()), Busy)
    assert.throws(() => pair.b.deliver('active', () => {}), Busy)
    await assert.rejects(pair.b.startTls({ ca: '' }), Error)
    await passive.stop()
    const got = new Collected()
    const next = pair.b.deliver('active', got.take)
    await pair.a.write('2')
    await until('it came', () => got.length === 1)
    await next.stop()
  })

  test('wrong arguments leave the connection as it was', async () => {
    await using pair = connectionPair()
    const wrong = (mode: unknown, handler: unknown = () => {}) => pair.b.deliver(mode as DeliveryMode, handler as () => void)
    assert.throws(() => wrong('actve'), {
      name: 'RangeError',
      code: 'ERR_OUT_OF_RANGE',
      message: /'active', 'once', 'passive' or a count, got "actve"/,
    })
    assert.throws(() => wrong(0), { name: 'RangeError', message: /mode must be at least 1, got 0/ })
    assert.throws(() => wrong(1.5), { name: 'TypeError' })
    assert.throws(() => wrong(Number.NaN), { name: 'RangeError' })
    assert.throws(() => wrong('active', 7), { name: 'TypeError', message: /handler must be a function, got 7/ })
    const delivery = wrong('passive')
    assert.throws(() => delivery.set(-1), { name: 'RangeError' })
    await pair.a.write('fine')
    assert.equal(text(await pair.b.read()), 'fine')
  })

  for (const [how, fail] of [
    ['throws', () => raise()],
    ['rejects', async () => raise()],
    ['rejects late', () => settle(1).then(raise)],
  ] as const) {
    test(`a handler that ${how} is reported once, and the connection is closed with that reason`, async () => {
      await using pair = connectionPair()
      const errors = errorsOf(pair)
      let calls = 0
      const delivery = pair.b.deliver('active', () => {
        calls++
        return fail()
      })
      await pair.a.write('1')
      void pair.a.write('2')
      const { clean, reason } = await delivery.done
      assert.equal(clean, false)
      assert.ok(reason instanceof Broken)
      assert.equal(reason.code, 'HANDLER_FAILED')
      assert.equal((reason.cause as Error).message, 'not my day')
      assert.equal(calls, 1)
      assert.deepEqual((await pair.b.closed).reason, reason)
      await assert.rejects(pair.b.read(), { name: 'Broken', code: 'HANDLER_FAILED' })
      await assert.rejects(pair.a.readAll(), { code: 'ECONNRESET' })
      await settle(2)
      assert.deepEqual(
        errors.map((event) => event.type === 'error' && [event.op, event.error]),
        [['deliver', reason]],
      )
    })
  }

  test('a handler that fails only because its connection broke is not reported; the reason is the break', async () => {
    for (const framed of [false, true]) {
      await using pair = connectionPair()
      const errors = errorsOf(pair)
      const echo = async (data: Uint8Array | string) => {
        await settle(1)
        await pair.b.write(data)
        await pair.b.flush()
      }
      const delivery = framed ? pair.b.frames(codecs.lines()).deliver('active', echo) : pair.b.deliver('active', echo)
      await pair.a.write('1\n')
      pair.a.abort()
      const { clean, reason } = await delivery.done
      assert.deepEqual([clean, reason?.name, reason?.code, errors], [false, 'Broken', 'ECONNRESET', []])
      assert.equal((await pair.b.closed).reason?.code, 'ECONNRESET')
    }
  })

  test('a handler that fails because another connection broke is reported', async () => {
    await using pair = connectionPair()
    await using other = connectionPair()
    const errors = errorsOf(pair)
    const delivery = pair.b.deliver('active', () => other.b.readAll())
    await pair.a.write('1')
    other.a.abort()
    assert.equal((await delivery.done).reason?.code, 'HANDLER_FAILED')
    assert.equal(errors.length, 1)
  })

  test('a handler may stop its own delivery and wait for that', async () => {
    await using pair = connectionPair()
    let after = ''
    const delivery = pair.b.deliver('active', async () => {
      await delivery.stop()
      after = String(text(await pair.b.read()))
    })
    await pair.a.write('1')
    await settle(2)
    await pair.a.write('2')
    assert.deepEqual(await delivery.done, { clean: true, unsent: 0 })
    assert.equal(after, '2')
  })

  test('what a handler gives may be any thenable, also one that is settled at once, or twice', async () => {
    await using pair = connectionPair()
    let calls = 0
    const delivery = pair.b.frames(codecs.lines()).deliver('active', () => {
      calls++
      return {
        then(resolve: () => void) {
          resolve()
          resolve()
        },
      }
    })
    await pair.a.write('x\n'.repeat(20_000))
    await pair.a.end()
    assert.deepEqual(await delivery.done, { clean: true, unsent: 0 })
    assert.equal(calls, 20_000)
  })

  test('a handler that fails because its connection was closed meanwhile does not cut the closing short', async () => {
    await using pair = connectionPair({ capacity: 1_000 })
    const writing = pair.b.write(new Uint8Array(60_000))
    const delivery = pair.b.deliver('once', async () => {
      await pair.b.write(new Uint8Array(100_000))
    })
    await pair.a.write('1')
    await settle(2)
    const closing = pair.b.close()
    await writing
    assert.equal((await pair.a.readAll()).length, 60_000)
    assert.ok((await closing).clean)
    assert.equal((await delivery.done).clean, false)
  })

  test('close wakes it: done comes behind the handler that runs, with Closed', async () => {
    await using pair = connectionPair()
    const [begun, slow] = [gate(), gate()]
    const delivery = pair.b.deliver('active', () => {
      begun.open()
      return slow.opened
    })
    await pair.a.write('1')
    await begun.opened
    await pair.a.write('2')
    void pair.b.close()
    let done = false
    void delivery.done.then(() => {
      done = true
    })
    await settle(2)
    assert.equal(done, false)
    delivery.set('once')
    slow.open()
    const { reason } = await delivery.done
    assert.ok(reason instanceof Closed)
    assert.throws(() => pair.b.deliver('active', () => {}), Closed)
  })

  test('a passive delivery hears of a close', async () => {
    await using pair = connectionPair()
    const delivery = pair.b.deliver('passive', () => {})
    const { done } = delivery
    await pair.b.close()
    assert.ok((await done).reason instanceof Closed)
    delivery.set('active')
    assert.equal(delivery.mode, 'passive')
  })

  test('what arrived before both ends is delivered to whoever asks later', async () => {
    await using pair = connectionPair()
    const got = new Collected()
    const delivery = pair.b.deliver('passive', got.take)
    const { done } = delivery
    await pair.a.write('late')
    await pair.a.end()
    await pair.b.end()
    await pair.b.peek(10)
    await pair.b.closed
    delivery.set('active')
    assert.deepEqual(await done, { clean: true, unsent: 0 })
    assert.equal(text(got.bytes), 'late')
  })

  test('the default time of a read is none of its business', async () => {
    const clock = new VirtualClock()
    await using pair = connectionPair({ clock, defaults: { read: 1_000 } })
    const got = new Collected()
    const delivery = pair.b.deliver('active', got.take)
    await clock.advance(60_000)
    await pair.a.write('slow')
    await pair.a.end()
    assert.ok((await delivery.done).clean)
    assert.equal(text(got.bytes), 'slow')
  })

  test('it lets the event loop turn while much is ready', async () => {
    await using pair = connectionPair()
    const codec = codecs.lengthPrefixed()
    const [frame, count] = [codec.encode(new Uint8Array(8)), 400_000]
    const block = new Uint8Array((frame as Uint8Array).length * 1_000)
    for (let at = 0; at < block.length; at += (frame as Uint8Array).length) block.set(frame as Uint8Array, at)
    for (let i = 0; i < count / 1_000; i++) await pair.a.write(block)
    await pair.a.end()
    let calls = 0
    let turns = 0
    const delivery = pair.b.frames(codec).deliver('active', () => void calls++)
    const ended = delivery.done
    while ((await Promise.race([ended, settle(1)])) === undefined) turns++
    assert.equal(calls, count)
    assert.ok(turns > 1, 'the loop did not turn')
  })
})

describe('delivery of messages', () => {
  const framed = () => {
    const pair = connectionPair()
    const codec = codecs.jsonLines<unknown>()
    return { a: pair.a.frames(codec), b: pair.b.frames(codec), raw: pair.a, pair, [Symbol.asyncDispose]: () => pair[Symbol.asyncDispose]() }
  }

  test('each message once, a null among them, then the end', async () => {
    await using pair = framed()
    const got: unknown[] = []
    const delivery = pair.b.deliver('active', (message) => void got.push(message))
    await pair.a.sendMany([1, null, { two: 2 }])
    await pair.a.end()
    assert.ok((await delivery.done).clean)
    assert.deepEqual(got, [1, null, { two: 2 }])
    assert.equal(await pair.b.receive(), null)
  })

  test('modes and receive take turns', async () => {
    await using pair = framed()
    const got: unknown[] = []
    await pair.a.sendMany([1, 2, 3, 4, 5, 6])
    const delivery = pair.b.deliver('once', (message) => void got.push(message))
    await assert.rejects(pair.b.receive(), Busy)
    assert.throws(() => pair.b.detach(), Busy)
    await until('one came', () => got.length === 1)
    got.push(await pair.b.receive())
    delivery.set(2)
    await until('two more came', () => got.length === 4)
    await delivery.stop()
    got.push(await pair.b.receive(), pair.b.tryReceive())
    assert.deepEqual(got, [1, 2, 3, 4, 5, 6])
    pair.b.detach()
    assert.throws(() => pair.b.deliver('active', () => {}), { code: 'CONSUMED' })
  })

  test('an undecodable stream ends it with the reason, behind the messages before', async () => {
    await using pair = framed()
    const got: unknown[] = []
    const delivery = pair.b.deliver('active', (message) => void got.push(message))
    await pair.raw.write('1\n2\nnonsense\n3\n')
    const { clean, reason } = await delivery.done
    assert.equal(clean, false)
    assert.equal(reason?.code, 'BAD_FRAME')
    assert.deepEqual(got, [1, 2])
    await assert.rejects(pair.b.receive(), { code: 'BAD_FRAME' })
  })

  test('an end inside a message is no clean end', async () => {
    await using pair = framed()
    const delivery = pair.b.deliver('active', () => {})
    await pair.raw.write('1')
    await pair.raw.end()
    assert.equal((await delivery.done).reason?.code, 'INCOMPLETE')
  })

  test('a handler that throws closes the connection below', async () => {
    await using pair = framed()
    const errors = errorsOf(pair.pair)
    const delivery = pair.b.deliver('active', raise)
    await pair.a.send(1)
    assert.equal((await delivery.done).reason?.code, 'HANDLER_FAILED')
    assert.equal(errors.length, 1)
    await assert.rejects(pair.b.receive(), { code: 'HANDLER_FAILED' })
  })

  test('random changes of mode lose and repeat no message', async () => {
    for (let seed = 1; seed <= 200; seed++) {
      const random = new Random(seed)
      await using pair = framed()
      const got: unknown[] = []
      const count = 60
      const delivery = pair.b.deliver(random.pick(MODES), (message) => {
        got.push(message)
        if (random.next() < 0.3) delivery.set(random.pick(MODES))
        return random.next() < 0.5 ? undefined : settle(1)
      })
      void pair.a.sendMany(Array.from({ length: count }, (_, i) => i))
      while (got.length < count) {
        if (random.next() < 0.5) delivery.set(random.pick(MODES))
        const message = delivery.mode === 'passive' ? pair.b.tryReceive() : undefined
        if (message !== undefined) got.push(message)
        if (random.next() < 0.5) await settle(1)
      }
      assert.deepEqual(
        got,
        Array.from({ length: count }, (_, i) => i),
        `seed ${seed}`,
      )
    }
  })
})

for (const kind of DRIVERS) {
  describe(`delivery of datagrams over ${kind}`, { skip: missing(kind) }, () => {
    const open = async () => {
      const network = networkOn(kind)
      const a = await network.bind('udp://127.0.0.1:0')
      const b = await network.bind('udp://127.0.0.1:0')
      return { network, a, b, to: b.endpoint, [Symbol.asyncDispose]: async () => void (await network.end({ abort: true })) }
    }

    test('one call each, an empty datagram among them; modes and receive take turns', async () => {
      await using at = await open()
      const random = new Random(7)
      const got: string[] = []
      const count = 200
      const delivery = at.b.deliver('active', ({ data }) => {
        got.push(text(data) as string)
        if (random.next() < 0.3) delivery.set(random.pick(MODES))
        return random.next() < 0.5 ? undefined : settle(1)
      })
      await assert.rejects(at.b.receive(), Busy)
      const sending = (async () => {
        for (let i = 0; i < count; i++) await at.a.send(i === 0 ? '' : String(i), at.to)
      })()
      while (got.length < count) {
        if (random.next() < 0.3) delivery.set(random.pick(MODES))
        const datagram = delivery.mode === 'passive' ? at.b.tryReceive() : undefined
        if (datagram !== undefined) got.push(text(datagram.data) as string)
        await settle(1)
      }
      await sending
      assert.deepEqual(
        got,
        Array.from({ length: count }, (_, i) => (i === 0 ? '' : String(i))),
      )
      await delivery.stop()
      await at.a.send('mine', at.to)
      assert.equal(text((await at.b.receive()).data), 'mine')
    })

    test('a handler that throws is reported once, and the socket is closed with that reason', async () => {
      await using at = await open()
      const errors = errorsOf(at.network)
      const delivery = at.b.deliver('active', raise)
      await at.a.send('x', at.to)
      const { reason } = await delivery.done
      assert.equal(reason?.code, 'HANDLER_FAILED')
      assert.equal((await at.b.closed).reason?.code, 'HANDLER_FAILED')
      assert.equal(errors.length, 1)
    })
  })
}

function raise(): never {
  throw new Error('not my day')
}
