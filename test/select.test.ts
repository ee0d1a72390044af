/** Readiness of many sockets: what is told, what it costs, and that it takes nothing away. */

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import {
  Broken,
  Busy,
  Cancelled,
  Closed,
  type Connection,
  Deadline,
  Interests,
  Listener,
  Network,
  type Ready,
  select,
  type Selectable,
} from 'fairlead'
import { connectHandles, connectionPair, memory, memoryPair, Random, settle, type TestPair, VirtualClock } from 'fairlead/testing'
import { NETWORKS, removePaths, TRANSPORTS } from './matrix.js'
import { DRIVERS, missing, networkOn } from './support/drivers.js'
import { collect } from './support/garbage.js'
import { clogWith, pairOver, pattern } from './support/pairs.js'
import { hold } from './support/hold.js'

const text = (bytes: Uint8Array | null | undefined): string | null | undefined => (bytes ? Buffer.from(bytes).toString('latin1') : bytes)

/** What is told, short: `[name, word, …]` for each socket that is ready. */
function told(ready: readonly Ready[], names: Record<string, Selectable>): string[][] {
  return ready.map(({ socket, readable, writable, acceptable, ended, broken }) => [
    Object.keys(names).find((name) => names[name] === socket) ?? '?',
    ...(readable ? ['readable'] : []),
    ...(writable ? ['writable'] : []),
    ...(acceptable ? ['acceptable'] : []),
    ...(ended ? ['ended'] : []),
    ...(broken ? [`${broken.name} ${broken.code}`] : []),
  ])
}

const ON_KERNEL = ['kernel tcp4', 'kernel unix', 'kernel tls1.3']
const TESTED = ['limited', 'choppy', 'tcp4', 'adopted', 'unix', 'tls1.3', 'choppy tls', 'portable tls', ...ON_KERNEL]

for (const transport of TRANSPORTS.filter((one) => TESTED.includes(one.transport))) {
  describe(`select over ${transport.name}`, { skip: transport.missing ?? false }, () => {
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

    test('readable, told again until it is read, and nothing is consumed', async () => {
      await using one = await open()
      await using other = await open()
      const names = { one: one.b, other: other.b }
      const waiting = select([one.b, other.b])
      await one.a.write('hello')
      assert.deepEqual(told(await waiting, names), [['one', 'readable']])
      assert.deepEqual(told(await select([other.b, one.b]), names), [['one', 'readable']])
      assert.equal(text(await one.b.readExactly(5)), 'hello')
      assert.deepEqual(await select([one.b, other.b], { timeout: 0 }), [])
      await other.a.write('there')
      assert.deepEqual(told(await select([one.b, other.b]), names), [['other', 'readable']])
      assert.equal(text(await other.b.readExactly(5)), 'there')
    })

    test('a persistent set tells of what is left, and of what comes between two rounds', async () => {
      await using pair = await open()
      using interests = new Interests().add(pair.b)
      await pair.a.write('0123456789')
      for (let left = 10; left > 0; left--) {
        const [ready] = await select(interests)
        assert.equal(ready?.socket, pair.b)
        assert.equal(text(await pair.b.read({ limit: 1 })), String(10 - left))
      }
      assert.deepEqual(await select(interests, { timeout: 0 }), [])
      await pair.a.write('line\nrest')
      assert.equal(await pair.b.readLine(), 'line')
      await pair.b.peek(4)
      assert.equal((await select(interests)).length, 1)
      assert.equal(text(pair.b.tryRead()), 'rest')
      pair.b.unread('back')
      assert.equal((await select(interests)).length, 1)
      assert.equal(text(pair.b.tryRead()), 'back')
    })

    test('the end behind the bytes', async () => {
      await using pair = await open()
      using interests = new Interests().add(pair.b)
      await pair.a.write('last')
      await pair.a.end()
      assert.deepEqual(told(await select(interests), { b: pair.b }), [['b', 'readable']])
      assert.equal(text(await pair.b.readExactly(4)), 'last')
      for (let i = 0; i < 2; i++) {
        assert.deepEqual(told(await select(interests), { b: pair.b }), [['b', 'readable', 'ended']])
        assert.equal(pair.b.tryRead(), null)
      }
    })

    test('a break behind the bytes, with its error', async () => {
      await using pair = await open()
      using interests = new Interests().add(pair.b)
      await pair.a.write('last')
      await pair.b.peek(4)
      pair.a.abort()
      assert.deepEqual(told(await select(interests), { b: pair.b }), [['b', 'readable']])
      assert.equal(text(await pair.b.readExactly(4)), 'last')
      const [ready] = await select(interests)
      // UNIX-domain sockets know no reset: there an abort is an end.
      if (transport.transport.endsWith('unix')) assert.ok(ready?.ended)
      else {
        assert.ok(ready?.broken instanceof Broken, String(ready?.broken))
        assert.throws(() => pair.b.tryRead(), { code: ready.broken.code })
        assert.equal((await select(interests))[0]?.broken?.code, ready.broken.code, 'told until it is closed')
        await pair.b.close()
        assert.ok((await select(interests))[0]?.broken instanceof Closed)
      }
      assert.equal(ready?.readable, true)
    })

    test('writable until the peer stops reading, and again when it reads', async () => {
      await using pair = await open()
      using interests = new Interests().add(pair.a, { writable: true })
      assert.deepEqual(told(await select(interests), { a: pair.a }), [['a', 'writable']])
      let sent = 0
      // The system moves bytes from the sender's buffer to the receiver's a little later.
      for (let full = 0; full < 100; full++) {
        if ((await select(interests, { timeout: 0 })).length === 0) continue
        full = 0
        sent += 65_536
        void pair.a.write(new Uint8Array(65_536))
      }
      const waiting = select(interests)
      const reading = (async () => {
        for (let got = 0; got < sent;) got += (await pair.b.read())?.length ?? Number.NaN
      })()
      assert.deepEqual(told(await waiting, { a: pair.a }), [['a', 'writable']])
      await pair.a.write('x')
      await reading
    })

    test('a chunk at most is fetched ahead, however many rounds there are', async () => {
      await using pair = await open()
      using interests = new Interests().add(pair.b)
      const sent = await clogWith(pair.a)
      for (let i = 0; i < 50; i++) assert.equal((await select(interests)).length, 1)
      assert.ok(pair.b.stats.unread <= 64 * 1024, `${pair.b.stats.unread} bytes fetched`)
      void pair.a.end()
      assert.equal((await pair.b.readAll({ limit: sent })).length, sent)
    })

    test('a socket that is closed is told once and leaves the set', async () => {
      await using pair = await open()
      using interests = new Interests().add(pair.b)
      const waiting = select(interests)
      await settle(2)
      await pair.b.close()
      assert.deepEqual(told(await waiting, { b: pair.b }), [['b', 'Closed CLOSED']])
      assert.equal(interests.size, 0)
      interests.add(pair.b)
      assert.deepEqual(told(await select(interests, { timeout: 0 }), { b: pair.b }), [['b', 'Closed CLOSED']])
      assert.deepEqual(await select(interests, { timeout: 0 }), [])
    })
  })
}

for (const cell of await NETWORKS()) {
  describe(`select of listeners over ${cell.name}`, { skip: cell.missing ?? false }, () => {
    const open = async () => {
      const { network } = await cell.network()
      const listener = await network.listen(await cell.endpoint(), cell.listen)
      return {
        network,
        listener,
        dial: () => network.connect(listener.endpoint, cell.connect),
        [Symbol.asyncDispose]: async () => {
          await network.end({ abort: true })
          assert.equal(network.shared.budget.held, 0)
        },
      }
    }

    test('acceptable while there are connections, each of which accept then gives', async () => {
      await using at = await open()
      const names = { listener: at.listener }
      using interests = new Interests().add(at.listener)
      assert.deepEqual(await select(interests, { timeout: 0 }), [])
      const waiting = select(interests)
      const clients = await Promise.all([at.dial(), at.dial(), at.dial()])
      assert.deepEqual(told(await waiting, names), [['listener', 'acceptable']])
      assert.deepEqual(told(await select(interests), names), [['listener', 'acceptable']])
      const accepted: Connection[] = []
      while (accepted.length < 3) {
        await select(interests)
        const connection: Connection | undefined = accepted.length % 2 === 0 ? at.listener.tryAccept() : await at.listener.accept()
        assert.ok(connection !== undefined, 'what was acceptable is there')
        accepted.push(connection)
      }
      assert.deepEqual(await select(interests, { timeout: 0 }), [])
      assert.equal(at.listener.stats.accepted, 3)
      for (const [i, client] of clients.entries()) await client.write(String(i))
      assert.deepEqual((await Promise.all(accepted.map(async (one) => text(await one.read())))).sort(), ['0', '1', '2'])
    })

    test('whoever waits in accept comes first', async () => {
      await using at = await open()
      using interests = new Interests().add(at.listener, { acceptable: true })
      const accepting = at.listener.accept()
      const waiting = select(interests)
      await at.dial()
      await accepting
      let told = false
      void waiting.then(() => {
        told = true
      })
      await settle(4)
      assert.equal(told, false)
      void at.dial()
      assert.equal((await waiting).length, 1)
      assert.ok(at.listener.tryAccept() !== undefined)
    })

    test('suspend hides what waits, resume tells', async () => {
      await using at = await open()
      using interests = new Interests().add(at.listener)
      void at.dial()
      assert.equal((await select(interests)).length, 1)
      at.listener.suspend()
      assert.deepEqual(await select(interests, { timeout: 0 }), [])
      const waiting = select(interests)
      await settle(2)
      at.listener.resume()
      assert.equal((await waiting)[0]?.acceptable, true)
    })

    test('a close wakes, and drops and counts what was seen and never taken', async () => {
      await using at = await open()
      using interests = new Interests().add(at.listener)
      const dialling = Promise.allSettled([at.dial().then((client) => client.read())])
      await select(interests)
      await at.listener.close()
      const [ready] = await select(interests)
      assert.ok(ready?.broken instanceof Closed)
      assert.equal(interests.size, 0)
      assert.equal(at.listener.stats.unserved.count, 1)
      await dialling
    })

    test('a set that is closed leaves what was seen to accept', async () => {
      await using at = await open()
      const interests = new Interests().add(at.listener)
      const dialling = at.dial()
      await select(interests)
      interests.close()
      assert.ok(at.listener.tryAccept() !== undefined)
      await dialling
    })
  })
}

for (const kind of DRIVERS) {
  describe(`select of datagram sockets over ${kind}`, { skip: missing(kind) }, () => {
    const open = async () => {
      const network = networkOn(kind)
      const a = await network.bind('udp://127.0.0.1:0')
      const b = await network.bind('udp://127.0.0.1:0')
      return { network, a, b, [Symbol.asyncDispose]: async () => void (await network.end({ abort: true })) }
    }

    test('readable while datagrams wait, an empty one among them, none being consumed', async () => {
      await using at = await open()
      using interests = new Interests().add(at.b)
      assert.deepEqual(await select(interests, { timeout: 0 }), [])
      const waiting = select(interests)
      for (const data of ['', 'two', 'three']) await at.a.send(data, at.b.endpoint)
      assert.deepEqual(told(await waiting, { b: at.b }), [['b', 'readable']])
      for (const data of ['', 'two', 'three']) {
        assert.deepEqual(told(await select(interests), { b: at.b }), [['b', 'readable']])
        assert.equal(text(at.b.tryReceive()?.data ?? new Uint8Array(9)), data)
      }
      assert.deepEqual(await select(interests, { timeout: 0 }), [])
    })

    test('writable, and a close is told once', async () => {
      await using at = await open()
      using interests = new Interests().add(at.a, { readable: true, writable: true })
      assert.deepEqual(told(await select(interests), { a: at.a }), [['a', 'writable']])
      await at.a.close()
      assert.deepEqual(told(await select(interests), { a: at.a }), [['a', 'Closed CLOSED']])
      assert.equal(interests.size, 0)
    })

    test('beside a reader it is not told, and behind it it is', async () => {
      await using at = await open()
      using interests = new Interests().add(at.b)
      const receiving = at.b.receive()
      await at.a.send('1', at.b.endpoint)
      assert.equal(text((await receiving).data), '1')
      const delivery = at.b.deliver('once', () => {})
      await at.a.send('2', at.b.endpoint)
      while (delivery.mode !== 'passive') await settle(1)
      await at.a.send('3', at.b.endpoint)
      assert.equal((await select(interests)).length, 1)
      assert.equal(text(at.b.tryReceive()?.data), '3')
    })
  })
}

after(removePaths)

/** Counts how often a socket is looked at. */
function counting(connections: readonly Connection[]): { looks: number } {
  const counter = { looks: 0 }
  for (const connection of connections) {
    const { readiness } = connection
    connection.readiness = (wanted) => {
      counter.looks++
      return readiness.call(connection, wanted)
    }
  }
  return counter
}

describe('a round', () => {
  test('looks at those that are ready or have news, and at no other of 10,010', async () => {
    const pairs: TestPair[] = []
    for (let i = 0; i < 10_010; i++) pairs.push(connectionPair())
    using interests = new Interests()
    for (const { b } of pairs) interests.add(b)
    const counter = counting(pairs.map(({ b }) => b))
    assert.deepEqual(await select(interests, { timeout: 0 }), [])
    assert.equal(counter.looks, 10_010, 'a new socket is looked at once')
    const chatty = pairs.filter((_, i) => i % 1_001 === 0)
    for (const { a } of chatty) await a.write('x')
    await settle(1)
    const ROUNDS = 50
    for (let round = 1; round <= ROUNDS; round++) {
      counter.looks = 0
      const ready = await select(interests)
      assert.equal(ready.length, 10)
      assert.equal(counter.looks, 10)
    }
    for (const { b } of chatty) b.tryRead()
    counter.looks = 0
    assert.deepEqual(await select(interests, { timeout: 0 }), [])
    assert.deepEqual(await select(interests, { timeout: 0 }), [])
    assert.equal(counter.looks, 10, 'what was ready is looked at once more')
    await Promise.all(pairs.map(({ owner }) => owner.end({ abort: true })))
  })

  test('tells of all that are ready, and puts each in front in its turn', async () => {
    const pairs = [connectionPair(), connectionPair(), connectionPair()]
    const sockets = pairs.map(({ b }) => b)
    using interests = new Interests()
    for (const b of sockets) interests.add(b)
    for (const { a } of pairs) await a.write('x'.repeat(100))
    const first: number[] = []
    for (let round = 0; round < 9; round++) {
      const ready = await select(interests)
      assert.equal(ready.length, 3)
      first.push(sockets.indexOf(ready[0]?.socket as Connection))
    }
    for (const i of [0, 1, 2]) assert.equal(first.filter((one) => one === i).length, 3)
    await Promise.all(pairs.map(({ owner }) => owner.end({ abort: true })))
  })

  test('a socket that always has bytes does not hide one that has some at last', async () => {
    await using chatty = await pairOver('tcp')
    await using quiet = await pairOver('tcp')
    const flooding = (async () => {
      for (;;) await chatty.a.write(pattern(65_536))
    })().catch(() => {})
    using interests = new Interests().add(chatty.b).add(quiet.b)
    await select(interests)
    void quiet.a.write('me')
    let rounds = 0
    for (let seen = false; !seen; rounds++) {
      assert.ok(rounds < 1_000, 'the quiet one was never told')
      for (const { socket } of await select(interests)) {
        if (socket === quiet.b) seen = true
        else (socket as Connection).tryRead()
      }
    }
    chatty.a.abort()
    await flooding
  })

  test('every byte is told and comes once, whatever is done between rounds', async () => {
    for (let seed = 1; seed <= 100; seed++) {
      const random = new Random(seed)
      const pairs = Array.from({ length: 8 }, () => connectionPair({ capacity: random.pick([10, 1_000, 65_536]) }))
      using interests = new Interests()
      const sent = pairs.map((_, i) => pattern(2_000, seed + i))
      const got = pairs.map((): Uint8Array[] => [])
      for (const [i, { a, b }] of pairs.entries()) {
        interests.add(b)
        const bytes = sent[i] as Uint8Array
        void (async () => {
          for (let at = 0; at < bytes.length;) {
            await a.write(bytes.subarray(at, (at += random.int(1, 500))))
            if (random.next() < 0.3) await settle(1)
          }
          await a.end()
        })()
      }
      while (interests.size > 0) {
        for (const { socket, ended } of await select(interests)) {
          const b = socket as Connection
          const mine = got[pairs.findIndex((pair) => pair.b === b)] as Uint8Array[]
          if (ended) {
            assert.equal(b.tryRead(), null)
            interests.delete(b)
            continue
          }
          const how = random.int(0, 5)
          if (how === 0) continue
          if (how === 1) {
            const most = random.int(1, 300)
            const data = await b.readExactly(most).catch(() => undefined)
            if (data) mine.push(data)
          } else if (how === 2) b.unread(b.tryRead(random.int(1, 100)) as Uint8Array)
          else mine.push(b.tryRead(random.int(1, 3_000)) as Uint8Array)
        }
      }
      for (const [i, pieces] of got.entries()) assert.deepEqual(Buffer.concat(pieces), Buffer.from(sent[i] as Uint8Array), `seed ${seed}`)
      await Promise.all(pairs.map(({ owner }) => owner.end({ abort: true })))
    }
  })

  test('another reader takes what comes; what it leaves is told when it has left', async () => {
    await using pair = connectionPair()
    using interests = new Interests().add(pair.b)
    const line = pair.b.readLine()
    await pair.a.write('a line\nand more')
    assert.equal(await line, 'a line')
    assert.equal((await select(interests)).length, 1)
    assert.equal(text(pair.b.tryRead()), 'and more')

    const cancel = new AbortController()
    const gathering = pair.b.readExactly(100, { signal: cancel.signal })
    await pair.a.write('half')
    assert.deepEqual(await select(interests, { timeout: 0 }), [])
    const waiting = select(interests)
    cancel.abort()
    await assert.rejects(gathering, Cancelled)
    assert.equal((await waiting).length, 1)
    assert.equal(text(pair.b.tryRead()), 'half')

    const chunks = pair.b.chunks()
    await pair.a.write('1')
    await chunks.next()
    await pair.a.write('2')
    assert.deepEqual(await select(interests, { timeout: 0 }), [])
    await chunks.return?.()
    assert.equal((await select(interests)).length, 1)
    assert.equal(text(pair.b.tryRead()), '2')

    const delivery = pair.b.deliver('active', () => {})
    await pair.a.write('3')
    assert.deepEqual(await select(interests, { timeout: 0 }), [])
    await delivery.stop()
    await pair.a.write('4')
    assert.equal((await select(interests)).length, 1)
  })

  test('bytes of which no event told, as another reader took those before them, are told', async () => {
    const [handle, other] = memoryPair()
    const arrived: Uint8Array[] = []
    handle.read = () => arrived.shift()
    await using pair = connectHandles(handle, other)
    using interests = new Interests().add(pair.a)
    assert.deepEqual(await select(interests, { timeout: 0 }), [])
    arrived.push(Buffer.from('line\nrest'), Buffer.from('more'))
    assert.equal(await pair.a.readLine(), 'line')
    for (const rest of ['rest', 'more']) {
      assert.equal((await select(interests, { timeout: 0 })).length, 1)
      assert.equal(text(pair.a.tryRead()), rest)
    }
    assert.deepEqual(await select(interests, { timeout: 0 }), [])
  })

  test('a write that fails tells whoever asked for writing; the bytes before stay', async () => {
    await using pair = connectionPair({ capacity: 10 })
    await pair.a.write('before')
    pair.a.abort()
    await assert.rejects(pair.b.write('x'), Broken)
    const names = { b: pair.b }
    assert.deepEqual(told(await select([{ socket: pair.b, writable: true }]), names), [['b', 'Broken ECONNRESET']])
    assert.deepEqual(told(await select([pair.b]), names), [['b', 'readable']])
    assert.deepEqual(told(await select([{ socket: pair.b, readable: true, writable: true }]), names), [
      ['b', 'readable', 'Broken ECONNRESET'],
    ])
    assert.equal(text(await pair.b.read()), 'before')
  })

  test('this side’s own end is never writable again', async () => {
    await using pair = connectionPair()
    await pair.a.end()
    assert.deepEqual(await select([{ socket: pair.a, writable: true }], { timeout: 0 }), [])
  })

  test('a withdrawn write makes room that is told', async () => {
    await using pair = connectionPair({ capacity: 10 })
    const cancel = new AbortController()
    const writing = pair.a.write(new Uint8Array(100_000), { signal: cancel.signal })
    using interests = new Interests().add(pair.a, { writable: true })
    assert.deepEqual(await select(interests, { timeout: 0 }), [])
    const waiting = select(interests)
    cancel.abort()
    await assert.rejects(writing, Cancelled)
    assert.equal((await waiting)[0]?.writable, true)
  })
})

describe('select', () => {
  test('what is selected from is not garbage, though nobody else refers to it', async () => {
    const network = new Network()
    const clients: Connection[] = []
    const echoes = (async () => {
      const interests = new Interests().add(await network.listen('tcp://127.0.0.1:0'))
      for (;;) {
        for (const { socket, ended } of await select(interests)) {
          if (socket instanceof Listener) interests.add(socket.tryAccept() as Connection)
          else if (ended) return interests.close()
          else void (socket as Connection).write((socket as Connection).tryRead() as Uint8Array)
        }
      }
    })()
    await settle(3)
    const forget = () => {
      for (let i = 0; i < 3; i++) collect()
      return settle(3)
    }
    await forget()
    const endpoint = (network.sockets()[0] as Listener).endpoint
    for (let i = 0; i < 3; i++) clients.push(await network.connect(endpoint))
    for (const client of clients) {
      await forget()
      await client.write('echo')
      assert.equal(text(await client.readExactly(4)), 'echo')
    }
    await clients[0]?.end()
    await echoes
    await network.end({ abort: true })
  })

  test('time: polls with 0, and is empty when the time is over', async () => {
    const clock = new VirtualClock()
    await using pair = connectionPair({ clock })
    assert.deepEqual(await select([pair.b], { timeout: 0 }), [])
    const waiting = select([pair.b], { timeout: 1_000 })
    await settle(2)
    await clock.advance(999)
    let over = false
    void waiting.then(() => {
      over = true
    })
    await settle(2)
    assert.equal(over, false)
    await clock.advance(1)
    assert.deepEqual(await waiting, [])
    const deadline = new Deadline(clock.wall() + 60_000)
    const moved = select([pair.b], { deadline })
    await settle(2)
    deadline.set(clock.wall())
    assert.deepEqual(await moved, [])
    await pair.a.write('x')
    assert.equal((await select([pair.b], { timeout: 0 })).length, 1, 'a poll tells what is ready')
    assert.equal(clock.pending, 0)
    assert.deepEqual(await select([], { timeout: 0 }), [])
    assert.deepEqual(await select(new Interests(), { timeout: 1 }), [])
  })

  test('a poll under a signal that has aborted is cancelled', async () => {
    await using pair = connectionPair()
    await assert.rejects(select([pair.a], { timeout: 0, signal: AbortSignal.abort('why') }), { name: 'Cancelled', cause: 'why' })
    await assert.rejects(select([pair.a], { timeout: 0, singal: undefined } as object), { code: 'UNKNOWN_OPTION' })
  })

  test('a signal rejects, before and during, and leaves the set usable', async () => {
    await using pair = connectionPair()
    using interests = new Interests().add(pair.b)
    await assert.rejects(select(interests, { signal: AbortSignal.abort() }), Cancelled)
    const cancel = new AbortController()
    const waiting = select(interests, { signal: cancel.signal })
    await settle(2)
    cancel.abort(new Error('enough'))
    await assert.rejects(waiting, (error) => error instanceof Cancelled && (error.cause as Error).message === 'enough')
    await pair.a.write('x')
    assert.equal((await select(interests)).length, 1)
  })

  test('two at once on one set: Busy; on two sets both are told', async () => {
    await using pair = connectionPair()
    using interests = new Interests().add(pair.b)
    using others = new Interests().add(pair.b)
    const waiting = [select(interests), select(others)]
    await assert.rejects(select(interests), Busy)
    await pair.a.write('x')
    for (const ready of await Promise.all(waiting)) assert.equal(ready.length, 1)
  })

  test('a set can be changed while a round waits', async () => {
    await using pair = connectionPair()
    await using other = connectionPair()
    using interests = new Interests().add(pair.b)
    const waiting = select(interests)
    await settle(2)
    await other.a.write('x')
    interests.add(other.b)
    assert.equal((await waiting)[0]?.socket, other.b)
    interests.add(pair.b, { readable: true, writable: true })
    assert.equal(interests.size, 2)
    assert.deepEqual(told(await select(interests), { pair: pair.b, other: other.b }).sort(), [
      ['other', 'readable'],
      ['pair', 'writable'],
    ])
    interests.add(pair.b)
    assert.ok(interests.delete(other.b))
    assert.equal(interests.delete(other.b), false)
    assert.equal(interests.has(other.b), false)
    assert.deepEqual(await select(interests, { timeout: 0 }), [])
    const last = select(interests)
    interests.close()
    await assert.rejects(last, Closed)
    await assert.rejects(select(interests), Closed)
    assert.throws(() => interests.add(pair.b), Closed)
  })

  test('sockets of several networks and of every kind together', async () => {
    await using virtual = await pairOver('memory')
    await using real = await pairOver('tcp')
    const network = new Network({ driver: memory() })
    const listener = await network.listen('tcp://127.0.0.1:0')
    const datagrams = await real.network.bind('udp://127.0.0.1:0')
    const names = { virtual: virtual.b, real: real.b, listener, datagrams }
    using interests = new Interests()
    for (const socket of Object.values(names)) interests.add(socket)
    await virtual.a.write('x')
    assert.deepEqual(told(await select(interests), names), [['virtual', 'readable']])
    virtual.b.tryRead()
    await real.a.write('x')
    assert.deepEqual(told(await select(interests), names), [['real', 'readable']])
    real.b.tryRead()
    await datagrams.send('x', datagrams.endpoint)
    assert.deepEqual(told(await select(interests), names), [['datagrams', 'readable']])
    datagrams.tryReceive()
    hold(await network.connect(listener.endpoint))
    assert.deepEqual(told(await select(interests), names), [['listener', 'acceptable']])
    await network.end({ abort: true })
    assert.equal((await select(interests))[0]?.broken?.name, 'Closed')
  })

  test('interests given one by one are joined', async () => {
    await using pair = connectionPair()
    await pair.a.write('x')
    const ready = await select([pair.b, { socket: pair.b, writable: true }])
    assert.deepEqual(told(ready, { b: pair.b }), [['b', 'readable', 'writable']])
    await pair.b.read()
  })

  test('wrong arguments are typed errors', async () => {
    await using pair = connectionPair()
    const wrong = (interests: unknown) => select(interests as Selectable[], { timeout: 0 })
    await assert.rejects(wrong(undefined), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' })
    await assert.rejects(wrong(pair.b), { name: 'TypeError' })
    await assert.rejects(wrong([1]), { name: 'TypeError', message: /socket must be a Connection, Listener or DatagramSocket, got 1/ })
    await assert.rejects(wrong([null]), { name: 'TypeError' })
    await assert.rejects(wrong([{ socket: {} }]), { name: 'TypeError' })
    await assert.rejects(wrong([{ socket: pair.b, readable: 1 }]), { name: 'TypeError', message: /readable must be true or false/ })
    await assert.rejects(wrong([{ socket: pair.b, writeable: true }]), { code: 'UNKNOWN_OPTION', message: /did you mean "writable"/ })
    await assert.rejects(select([pair.b], { timeout: -1 }), { name: 'RangeError' })
    await assert.rejects(select([pair.b], { timeout: 0, signal: 7 as unknown as AbortSignal }), { name: 'TypeError' })
  })
})
