/** Owners: nesting, ending, handing over, and the async context. */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { describe, test } from 'node:test'
import { codecs, Connection, type Listener, Network, network, Owner, type SocketError, type TraceEvent } from 'fairlead'
import { memory, settle, VirtualClock } from 'fairlead/testing'
import { testCredentials } from './matrix.js'
import { DRIVERS, missing, networkOn } from './support/drivers.js'
import { clogWith, drain, pairOver, pattern, rawPair, TRANSPORTS, until } from './support/pairs.js'
import { hold } from './support/hold.js'

const AT = 'tcp://127.0.0.1:0'

type Failure = Error & { code?: string; op?: string }

async function rejection(promise: Promise<unknown>): Promise<Failure> {
  return promise.then(
    () => assert.fail('it did not reject'),
    (error: Failure) => error,
  )
}

function failure(fn: () => unknown): Failure {
  try {
    fn()
  } catch (error) {
    return error as Failure
  }
  return assert.fail('it did not throw')
}

function listenTo(net: Network, type: TraceEvent['type']): TraceEvent[] {
  const events: TraceEvent[] = []
  net.trace.subscribe((event) => {
    if (event.type === type) events.push(event)
  })
  return events
}

/** All that comes until the end, which is answered by closing. */
async function readToEnd(connection: Connection): Promise<string> {
  const all = Buffer.from(await connection.readAll()).toString()
  await connection.close()
  return all
}

const moves = (net: Network) => listenTo(net, 'move')

/** A client and what a listener accepted of it. */
async function dialled(net: Network, owner?: Owner): Promise<{ client: Connection; accepted: Connection; listener: Listener }> {
  const listener = await net.listen(AT)
  const [client, accepted] = await Promise.all([net.connect(listener.endpoint, { owner }), listener.accept()])
  return { client, accepted, listener }
}

describe('nested owners', () => {
  test('their sockets are listed behind those of their parent, and nobody else sees them', async () => {
    await using net = new Network({ driver: memory() })
    const outer = new Owner('outer', net)
    const inner = new Owner('inner', outer)
    const { client, accepted, listener } = await dialled(net, inner)
    const other = await net.connect(listener.endpoint, { owner: outer })
    assert.deepEqual([net.owners(), outer.owners(), inner.owners()], [[outer], [inner], []])
    assert.deepEqual(inner.sockets(), [client])
    assert.deepEqual(outer.sockets(), [other, client])
    assert.deepEqual(net.sockets(), [listener, accepted, other, client])
    assert.deepEqual([client.owner, other.owner, accepted.owner], [inner, outer, net])
  })

  test('they end with their parent, each reported, and are gone from it then', async () => {
    await using net = new Network({ driver: memory() })
    const outer = new Owner('outer', net)
    const inner = new Owner('inner', outer)
    const { client, accepted, listener } = await dialled(net, inner)
    hold(await net.connect(listener.endpoint, { owner: outer }))
    await client.write('last words')
    const report = await outer.end()
    assert.deepEqual(report, { closed: 2, aborted: 0, owners: [{ name: 'inner', closed: 1, aborted: 0 }] })
    assert.deepEqual([inner.signal.aborted, outer.signal.aborted, net.signal.aborted], [true, true, false])
    assert.deepEqual([net.owners(), outer.owners(), outer.sockets()], [[], [], []])
    assert.equal(Buffer.from(await accepted.readAll()).toString(), 'last words')
  })

  test('one that ends leaves its parent as it was', async () => {
    await using net = new Network({ driver: memory() })
    const { accepted, client, listener } = await dialled(net, new Owner('one', net))
    await client.owner.end({ abort: true })
    assert.deepEqual([net.owners(), net.sockets()], [[], [listener, accepted]])
    assert.equal(net.signal.aborted, false)
    hold(await net.connect(listener.endpoint))
  })

  test('listeners stop before anything else ends, also those of nested owners', async () => {
    await using net = new Network({ driver: memory() })
    const outer = new Owner('outer', net)
    const ended: string[] = []
    net.trace.subscribe((event) => {
      if (event.type === 'close') ended.push(event.kind)
    })
    await net.connect((await net.listen(AT)).endpoint, { owner: outer })
    const listener = await net.listen(AT, { owner: new Owner('inner', outer) })
    const accepting = rejection(listener.accept())
    const ending = outer.end()
    // Nothing was awaited yet: who dials now finds nobody.
    assert.equal((await accepting).name, 'Closed')
    assert.equal((await rejection(net.connect(listener.endpoint))).code, 'ECONNREFUSED')
    assert.deepEqual(await ending, { closed: 2, aborted: 0, owners: [{ name: 'inner', closed: 1, aborted: 0 }] })
    assert.deepEqual(ended.sort(), ['connection', 'listener'])
  })

  test('connections that are not taken in time are aborted and counted, those of nested owners too', async () => {
    const clock = new VirtualClock()
    await using raw = await rawPair({ clock })
    const outer = new Owner('outer', raw.network)
    new Owner('inner', outer).adopt(raw.connection)
    await clogWith(raw.connection)
    const ending = outer.end({ within: 200 })
    await clock.advance(200)
    assert.deepEqual(await ending, { closed: 0, aborted: 1, owners: [{ name: 'inner', closed: 0, aborted: 1 }] })
  })

  test('await using ends an owner', async () => {
    await using pair = await pairOver('tcp')
    const reading = readToEnd(pair.b)
    {
      await using owner = new Owner('job', pair.network)
      owner.adopt(pair.a)
      await pair.a.write('x')
    }
    assert.equal(pair.a.state, 'closed')
    assert.equal(await reading, 'x')
  })

  test('a server is an owner of its listeners and connections, nested in the network', async () => {
    await using net = new Network({ driver: memory() })
    const server = await net.serve(AT, {}, (connection) => connection.read().then(() => {}))
    const client = await net.connect(server.endpoints[0])
    await until('it is served', () => server.stats.active === 1)
    assert.deepEqual(net.owners(), [server])
    assert.deepEqual(
      net.sockets().map(({ id }) => id),
      [client.id, server.listeners[0]?.id, server.connections()[0]?.id],
    )
    assert.deepEqual(await server.end(), { closed: 1, aborted: 0 })
    assert.deepEqual(net.owners(), [])
  })

  test('a server that cannot be made leaves nothing in its owner', async () => {
    await using net = new Network({ driver: memory() })
    assert.equal((await rejection(net.serve(AT, { lifetime: Number.NaN }, () => {}))).name, 'RangeError')
    assert.equal((await rejection(net.serve('tcp://127.0.0.1:99999', {}, () => {}))).code, 'BAD_PORT')
    assert.deepEqual(net.owners(), [])
  })

  test('what else is a server’s is flushed when it is closed, and aborted when its time is over', async () => {
    const clock = new VirtualClock()
    await using net = new Network({ driver: memory({ capacity: 1_000 }), clock })
    const listener = await net.listen(AT)
    for (const taken of [true, false]) {
      const server = await net.serve(AT, {}, () => {})
      const [client, accepted] = await Promise.all([net.connect(listener.endpoint, { owner: server }), listener.accept()])
      void client.write(pattern(20_000))
      const ending = server.end({ within: 100 })
      if (taken) assert.deepEqual(Buffer.from(await accepted.readAll()), Buffer.from(pattern(20_000)))
      await accepted.end().catch(() => {})
      await settle(3)
      if (!taken) await clock.advance(100)
      assert.deepEqual(await ending, taken ? { closed: 1, aborted: 0 } : { closed: 0, aborted: 1 })
      accepted.abort()
    }
  })

  test('end with options that make no sense ends nothing', async () => {
    await using net = new Network({ driver: memory() })
    const owner = new Owner('one', net)
    for (const wrong of [{ within: -1 }, { within: '5' }, { abort: 'yes' }, { timeout: 5 }, 5]) {
      const error = await rejection(owner.end(wrong as object))
      assert.match(`${error.name} ${error.code}`, /^(TypeError ERR|RangeError ERR|OptionError UNKNOWN)/)
    }
    assert.equal(owner.signal.aborted, false)
    await owner.end()
  })

  test('end twice, at once or later, is harmless', async () => {
    await using net = new Network({ driver: memory() })
    const owner = new Owner('one', net)
    await dialled(net, owner)
    const reports = await Promise.all([owner.end(), owner.end({ abort: true })])
    assert.equal(reports.length, 2)
    assert.deepEqual(await owner.end(), { closed: 0, aborted: 0 })
  })
})

describe('an owner that has ended', () => {
  test('opens nothing, runs nothing, takes nothing, and nothing is nested in it', async () => {
    await using net = new Network({ driver: memory() })
    const { client, listener } = await dialled(net)
    const owner = new Owner('done', net)
    await owner.end()
    const ended = { name: 'Closed', code: 'OWNER_ENDED' }
    await assert.rejects(net.connect(listener.endpoint, { owner }), ended)
    await assert.rejects(net.listen(AT, { owner }), ended)
    await assert.rejects(
      net.serve(AT, { owner }, () => {}),
      ended,
    )
    await assert.rejects(net.bind('udp://127.0.0.1:0', { owner }), ended)
    assert.throws(() => owner.run(() => {}), ended)
    assert.throws(() => owner.adopt(client), ended)
    assert.throws(() => client.moveTo(owner), ended)
    assert.throws(() => new Owner('late', owner), ended)
    assert.equal(client.owner, net)
    assert.equal(client.state, 'open')
  })

  test('what is opened, served, nested or run in its name says so, with the operation and the endpoint', async () => {
    let resolved!: () => void
    const lookup = (): Promise<[{ address: string; family: 4 }]> =>
      new Promise((resolve) => (resolved = () => resolve([{ address: '127.0.0.1', family: 4 }])))
    await using net = new Network({ resolver: { lookup } })
    const open: [string, string, (owner: Owner) => Promise<unknown>][] = [
      ['connect', 'tcp://name:9', (owner) => net.connect('tcp://name:9', { owner })],
      ['connect', 'udp://name:9', (owner) => net.connect('udp://name:9', { owner })],
      ['bind', 'udp://name:0', (owner) => net.bind('udp://name:0', { owner })],
      ['listen', 'tcp://name:0', (owner) => net.listen('tcp://name:0', { owner })],
    ]
    for (const [op, endpoint, fn] of open) {
      const owner = new Owner('gone', net)
      const early = rejection(fn(owner))
      await settle(1)
      await owner.end()
      resolved()
      for (const error of [await early, await rejection(fn(owner))]) {
        assert.deepEqual([error.name, error.code, error.op, (error as SocketError).endpoint], ['Closed', 'OWNER_ENDED', op, endpoint])
        assert.match(error.message, /owner gone/)
      }
    }
    const gone = new Owner('gone', net)
    await gone.end()
    assert.equal((await rejection(net.serve(AT, { owner: gone }, () => {}))).op, 'serve')
    assert.equal(failure(() => new Owner('child', gone)).op, 'Owner')
    assert.equal(failure(() => gone.run(() => {})).op, 'run')
    assert.deepEqual([net.sockets(), net.owners()], [[], []])
  })

  test('what it was dialling fails at once, and its socket is closed without waiting for an answer', async () => {
    let [dials, cancelled] = [0, 0]
    const never = () => {
      dials++
      return () => void cancelled++
    }
    await using net = new Network({ driver: { ...memory(), dial: never } })
    const owner = new Owner('dialler', net)
    const dialling = rejection(net.connect('tcp://192.0.2.1:1', { owner }))
    const other = rejection(net.connect('tcp://192.0.2.1:1'))
    await until('both are being dialled', () => dials === 2)
    assert.deepEqual(await owner.end(), { closed: 0, aborted: 0 })
    const { name, code, op, endpoint, message } = (await dialling) as Failure & { endpoint: string }
    assert.deepEqual(
      [name, code, op, endpoint, message],
      ['Closed', 'OWNER_ENDED', 'connect', 'tcp://192.0.2.1:1', 'the owner dialler has ended'],
    )
    assert.equal(cancelled, 1)
    await net.close()
    assert.equal((await other).code, 'OWNER_ENDED')
    assert.equal(cancelled, 2)
  })

  test('a handshake it was making fails with it', async () => {
    const server = createServer((socket) => held.push(socket))
    const held: Socket[] = []
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as { port: number }
    await using net = new Network()
    const owner = new Owner('dialler', net)
    const dialling = rejection(net.connect(`tls://127.0.0.1:${port}`, { owner, tls: { verify: false } }))
    await until('the handshake begins', () => held.length === 1)
    await owner.end({ abort: true })
    const { name, code } = await dialling
    assert.deepEqual([name, code], ['Closed', 'OWNER_ENDED'])
    await drain(held[0] as Socket).catch(() => {})
    server.close()
  })

  test('a signal of the caller still cancels a dial, with its own reason', async () => {
    await using net = new Network({ driver: memory() })
    const controller = new AbortController()
    controller.abort('mine')
    const error = await rejection(net.connect('tcp://127.0.0.1:1', { signal: controller.signal }))
    assert.deepEqual([error.name, error.cause], ['Cancelled', 'mine'])
    assert.equal((await rejection(net.connect('tcp://127.0.0.1:1', { signal: 'no' as never }))).name, 'TypeError')
  })
})

for (const transport of TRANSPORTS) {
  describe(`moveTo over ${transport}`, () => {
    test('rebinds, is told, and the new owner alone ends the connection', async () => {
      await using pair = await pairOver(transport)
      const { network: net, a, b } = pair
      const [one, two] = [new Owner('one', net), new Owner('two', net)]
      const told = moves(net)
      a.moveTo(one)
      assert.equal(two.adopt(a), a)
      a.moveTo(two)
      assert.deepEqual([a.owner, one.sockets(), two.sockets()], [two, [], [a]])
      assert.deepEqual(
        told.map((event) => event.type === 'move' && [event.id, event.from, event.to]),
        [
          [a.id, 'network', 'one'],
          [a.id, 'one', 'two'],
        ],
      )
      assert.deepEqual(await one.end(), { closed: 0, aborted: 0 })
      await a.write('still here')
      const reading = readToEnd(b)
      assert.deepEqual(await two.end(), { closed: 1, aborted: 0 })
      assert.equal(await reading, 'still here')
    })

    test('unread bytes, in front and in the system, go along', async () => {
      await using pair = await pairOver(transport)
      const { network: net, a, b } = pair
      await b.write('cd')
      await a.peek(2)
      a.unread('ab')
      await b.write('ef')
      a.moveTo(new Owner('new', net))
      await b.end()
      assert.equal(Buffer.from(await a.readAll()).toString(), 'abcdef')
    })

    test('bytes accepted and not sent go along, and are sent', async () => {
      await using pair = await pairOver(transport)
      const { network: net, a, b } = pair
      const piece = pattern(64 * 1024)
      let pieces = 0
      for (; a.stats.unsent === 0; pieces++) await a.write(piece)
      const { unsent } = a.stats
      const owner = new Owner('new', net)
      a.moveTo(owner)
      assert.equal(a.stats.unsent, unsent)
      const ending = owner.end()
      const received = Buffer.from(await b.readAll())
      await b.close()
      assert.equal(received.length, pieces * piece.length)
      for (let i = 0; i < pieces; i++) assert.ok(received.subarray(i * piece.length, (i + 1) * piece.length).equals(piece))
      assert.deepEqual(await ending, { closed: 1, aborted: 0 })
    })

    test('the messages of a message stream go along, decoded or not', async () => {
      await using pair = await pairOver(transport)
      const { network: net, a, b } = pair
      const stream = a.frames(codecs.lines())
      await b.write('1\n2\n3')
      assert.equal(await stream.receive(), '1')
      stream.connection.moveTo(new Owner('new', net))
      assert.equal(await stream.receive(), '2')
      await b.write('4\n')
      assert.equal(await stream.receive(), '34')
    })

    test('a delivery goes along: nothing in between, nothing lost, nothing twice', async () => {
      await using pair = await pairOver(transport)
      const { network: net, a, b } = pair
      let got = ''
      const delivery = a.deliver('active', (data) => void (got += Buffer.from(data).toString()))
      await b.write('before ')
      await until('it is delivered', () => got === 'before ')
      void b.write('between ')
      const owner = new Owner('new', net)
      a.moveTo(owner)
      assert.equal(got, 'before ')
      await b.write('after')
      await b.end()
      assert.equal((await delivery.done).clean, true)
      assert.equal(got, 'before between after')
      assert.deepEqual(owner.sockets(), [a])
    })

    test('is Busy while an operation is pending, which goes on', async () => {
      await using pair = await pairOver(transport)
      const { network: net, a, b } = pair
      const owner = new Owner('new', net)
      const reading = a.read()
      const error = failure(() => a.moveTo(owner))
      assert.deepEqual([error.name, error.code, error.op], ['Busy', 'BUSY', 'moveTo'])
      assert.match(error.message, /while read is pending/)
      assert.equal(a.owner, net)
      await b.write('x')
      assert.equal((await reading)?.length, 1)
      a.moveTo(owner)

      const loop = a[Symbol.asyncIterator]()
      const step = loop.next()
      assert.equal(failure(() => a.moveTo(net)).name, 'Busy')
      await b.write('y')
      assert.equal((await step).value?.length, 1)
      // Between two steps nothing is pending, and the loop goes on with the new owner.
      a.moveTo(net)
      const next = loop.next()
      await b.write('z')
      assert.equal((await next).value?.length, 1)
      await loop.return?.()

      await clogWith(a)
      const writing = a.write(new Uint8Array(1_000_000)).catch(() => {})
      assert.equal(failure(() => a.moveTo(owner)).name, 'Busy')
      a.abort()
      await writing
    })

    test('of a socket that is over fails as everything on it does', async () => {
      await using pair = await pairOver(transport)
      const { network: net, a, b } = pair
      const owner = new Owner('new', net)
      await a.close()
      assert.deepEqual([failure(() => a.moveTo(owner)).name, failure(() => a.moveTo(owner)).code], ['Closed', 'CLOSED'])
      b.abort()
      assert.equal(failure(() => owner.adopt(b)).code, 'ABORTED')
      assert.deepEqual(owner.sockets(), [])
    })

    test('what is no owner, or one of another network, is refused by a native error, and so is what is no socket', async () => {
      await using pair = await pairOver(transport)
      await using other = new Network({ driver: memory() })
      const { network: net, a, b } = pair
      for (const no of [undefined, null, 'owner', {}, a]) assert.equal(failure(() => a.moveTo(no as never)).name, 'TypeError')
      for (const owner of [other, new Owner('theirs', other)]) {
        const error = failure(() => a.moveTo(owner))
        assert.deepEqual([error.name, error.code], ['RangeError', 'ERR_OUT_OF_RANGE'])
      }
      for (const no of [undefined, null, 5, {}, net]) assert.equal(failure(() => net.adopt(no as never)).name, 'TypeError')
      await assert.rejects(net.connect('tcp://127.0.0.1:1', { owner: other }), RangeError)
      await assert.rejects(net.listen(AT, { owner: 'mine' as never }), TypeError)
      assert.throws(() => new Owner(5 as never), TypeError)
      assert.throws(() => new Owner('x', 'y' as never), TypeError)
      assert.equal(a.owner, net)
      await a.write('x')
      assert.equal((await b.read())?.length, 1)
    })
  })
}

describe('moveTo of other sockets', () => {
  test('of a listener: what it accepts from then on belongs to the new owner', async () => {
    await using net = new Network({ driver: memory() })
    const { listener, accepted } = await dialled(net)
    const owner = new Owner('new', net)
    const accepting = listener.accept()
    assert.equal(failure(() => listener.moveTo(owner)).name, 'Busy')
    hold(await net.connect(listener.endpoint))
    await accepting
    const told = moves(net)
    listener.moveTo(owner)
    assert.equal(told.length, 1)
    const [, later] = await Promise.all([net.connect(listener.endpoint), listener.accept()])
    assert.deepEqual([listener.owner, later.owner, accepted.owner], [owner, owner, net])
    assert.deepEqual(await owner.end(), { closed: 2, aborted: 0 })
    assert.equal(failure(() => listener.moveTo(net)).code, 'CLOSED')
  })

  test('of a TLS listener goes past a ready connection that is over', async () => {
    const { ca, cert, key } = await testCredentials()
    await using net = new Network()
    const [first, second] = [new Owner('first', net), new Owner('second', net)]
    const listener = await net.listen('tls://127.0.0.1:0', { tls: { cert, key }, owner: first })
    const client = await net.connect(listener.endpoint.replace('tls', 'tcp'))
    listener.tryAccept()
    await client.startTls({ ca, serverName: 'localhost' })
    await until('it is ready', () => listener.stats.ready === 1)
    for (const socket of first.sockets()) if (socket !== listener) socket.abort()
    listener.moveTo(second)
    assert.deepEqual([listener.owner, second.sockets()], [second, [listener]])
  })

  test('of the listener of a server is Busy', async () => {
    await using net = new Network({ driver: memory() })
    const server = await net.serve(AT, {}, () => {})
    assert.equal(failure(() => server.listeners[0]?.moveTo(net)).name, 'Busy')
  })

  test('of a datagram socket, with the datagrams that wait', async () => {
    await using net = new Network()
    const [socket, sender] = await Promise.all([net.bind('udp://127.0.0.1:0'), net.bind('udp://127.0.0.1:0')])
    const owner = new Owner('new', net)
    const receiving = socket.receive()
    assert.equal(failure(() => socket.moveTo(owner)).name, 'Busy')
    await sender.send('one', socket.endpoint)
    await receiving
    await sender.send('two', socket.endpoint)
    await socket.waitReadable()
    socket.moveTo(owner)
    assert.equal(Buffer.from((await socket.receive()).data).toString(), 'two')
    assert.deepEqual([socket.owner, owner.sockets()], [owner, [socket]])
    assert.deepEqual(await owner.end(), { closed: 1, aborted: 0 })
    assert.equal(failure(() => socket.moveTo(net)).name, 'Closed')
  })

  test('during an upgrade is Busy, and behind it of the object that goes on', async () => {
    await using pair = await pairOver('tcp')
    const { network: net, a, b } = pair
    const owner = new Owner('new', net)
    const upgrading = rejection(a.startTls({ verify: false }))
    await b.waitReadable()
    assert.equal(failure(() => a.moveTo(owner)).name, 'Busy')
    b.abort()
    await upgrading
    assert.ok(['Broken', 'TlsError'].includes(failure(() => a.moveTo(owner)).name) || failure(() => a.moveTo(owner)).name === 'Closed')
    assert.equal(a.owner, net)
  })

  test('what toNode was given goes on with the owner it has', async () => {
    await using pair = await pairOver('tcp')
    const owner = new Owner('new', pair.network)
    pair.a.moveTo(owner)
    const socket = pair.a.toNode()
    assert.equal(failure(() => pair.a.moveTo(pair.network)).code, 'CONSUMED')
    assert.deepEqual(
      owner.sockets().map(({ id }) => id),
      [pair.a.id],
    )
    await owner.end({ abort: true })
    assert.equal(socket.destroyed, true)
  })
})

describe('moving out of a server', () => {
  test('it is neither ended, nor counted, nor waited for any more, also behind its handler', async () => {
    await using net = new Network({ driver: memory() })
    const keeper = new Owner('keeper', net)
    const kept: Connection[] = []
    const server = await net.serve(AT, { limits: { connections: 1 }, lifetime: 1_000_000 }, async (connection) => {
      await connection.read()
      connection.moveTo(keeper)
      kept.push(connection)
    })
    const client = await net.connect(server.endpoints[0])
    await client.write('x')
    await until('it was moved', () => kept.length === 1)
    await settle(5)
    const { active, accepted } = server.stats
    assert.deepEqual([active, accepted, server.connections(), keeper.sockets()], [0, 1, [], kept])
    // There is room for the next.
    const second = await net.connect(server.endpoints[0])
    await second.write('x')
    await until('the second was moved', () => kept.length === 2)
    assert.deepEqual(await server.drain({ within: 0 }).then(({ finished, aborted }) => [finished, aborted]), [0, 0])
    assert.equal(kept[0]?.state, 'open')
    await kept[0]?.write('y')
    assert.equal((await client.read())?.length, 1)
    assert.equal((await keeper.end()).closed, 2)
  })

  test('a handler that goes on without its connection is no longer of the server', async () => {
    await using net = new Network({ driver: memory() })
    const gone: Connection[] = []
    const server = await net.serve(AT, {}, async (connection) => {
      connection.moveTo(net)
      gone.push(connection)
      await new Promise(() => {})
    })
    hold(await net.connect(server.endpoints[0]))
    await until('it was moved', () => gone.length === 1)
    assert.deepEqual(await server.close(), { clean: true, unsent: 0 })
    assert.equal(gone[0]?.state, 'open')
  })
})

describe('the async context', () => {
  test('what is opened inside run belongs to the owner, also behind an await; not outside', async () => {
    await using net = new Network({ driver: memory() })
    const owner = new Owner('context', net)
    const opened = await owner.run(async () => {
      await settle(2)
      const listener = await net.listen(AT)
      const nested = new Owner('nested', net)
      const [client, accepted] = await Promise.all([net.connect(listener.endpoint), listener.accept()])
      const server = await net.serve(AT, {}, () => {})
      const named = await net.connect(listener.endpoint, { owner: nested })
      return { listener, client, accepted, server, named, nested }
    })
    const { listener, client, accepted, server, named, nested } = opened
    assert.deepEqual([listener.owner, client.owner, accepted.owner, named.owner], [owner, owner, owner, nested])
    assert.deepEqual([owner.owners(), net.owners()], [[server], [owner, nested]])
    assert.equal((await net.connect(listener.endpoint)).owner, net)
    await owner.end()
    assert.equal((await rejection(net.connect(server.endpoints[0]))).code, 'ECONNREFUSED')
  })

  test('a nested owner and a run within a run go by the innermost', async () => {
    await using net = new Network({ driver: memory() })
    const outer = new Owner('outer', net)
    const inner = outer.run(() => new Owner('inner'))
    assert.deepEqual(outer.owners(), [inner])
    const listener = await net.listen(AT)
    const [one, two] = await outer.run(() =>
      Promise.all([inner.run(() => net.connect(listener.endpoint)), net.connect(listener.endpoint)] as const),
    )
    assert.deepEqual([one.owner, two.owner], [inner, outer])
  })

  test('an owner of another network binds nothing', async () => {
    await using net = new Network({ driver: memory() })
    await using other = new Network({ driver: memory() })
    const listener = await net.listen(AT)
    const client = await new Owner('theirs', other).run(() => net.connect(listener.endpoint))
    assert.equal(client.owner, net)
  })

  test('serve binds nothing by itself; a handler that wants it makes an owner and runs in it', async () => {
    await using net = new Network({ driver: memory() })
    const backend = await net.listen(AT)
    const seen: [Connection, Owner][] = []
    const server = await net.serve(AT, {}, async (connection) => {
      await net.connect(backend.endpoint).then((client) => seen.push([client, net]))
      await using owner = new Owner('handler', net)
      await owner.run(async () => {
        seen.push([await net.connect(backend.endpoint), owner])
        await connection.read()
      })
    })
    const client = await net.connect(server.endpoints[0])
    await until('both were dialled', () => seen.length === 2)
    for (const [connection, owner] of seen) assert.equal(connection.owner, owner)
    await client.end()
    assert.equal((await seen[1]?.[0].closed)?.clean, true)
    assert.equal(seen[0]?.[0].state, 'open')
  })

  for (const driver of DRIVERS) {
    test(`handlers run in the context they were given in, whoever makes them run (${driver})`, { skip: missing(driver) }, async () => {
      await using net = networkOn(driver)
      const [mine, guest] = [new Owner('mine', net), new Owner('guest', net)]
      const seen: Owner[] = []
      const note = (): void => void seen.push(net.ownerOf(undefined))
      const serve = () =>
        net.serve(AT, { limits: { connections: 2 }, alarm: { threshold: 1, cooldown: 0, call: note } }, async (connection) => {
          note()
          connection.deliver('active', note)
          await connection.closed
        })
      const servers = [await serve(), await mine.run(serve)]
      for (const [i, server] of servers.entries()) {
        seen.length = 0
        const talk = async (): Promise<Connection> => {
          const client = await net.connect(server.endpoints[0], { owner: net })
          await until('it is served', () => seen.length >= 2)
          await client.write('1')
          await until('it was delivered to', () => seen.length >= 3)
          await client.write('2')
          await until('it was again', () => seen.length >= 4)
          return client
        }
        const client = await guest.run(talk)
        // Whoever makes room is not who the next one belongs to either.
        server.limits.connections = 1
        const waiting = await net.connect(server.endpoints[0])
        guest.run(() => (server.limits.connections = 2))
        await until('the next is served', () => seen.length >= 6)
        assert.deepEqual(new Set(seen), new Set([i === 0 ? net : mine]))
        await Promise.all([client.close(), waiting.close(), server.close()])
      }
    })
  }

  test('run gives what its function gives, and fails as it fails', async () => {
    await using net = new Network({ driver: memory() })
    const owner = new Owner('one', net)
    assert.equal(
      owner.run(() => 5),
      5,
    )
    assert.throws(
      () =>
        owner.run(() => {
          throw new Error('mine')
        }),
      /mine/,
    )
    assert.throws(() => owner.run('x' as never), TypeError)
    assert.equal(owner.signal.aborted, false)
  })

  test('without a parent an owner belongs to the default network', async () => {
    await using owner = new Owner('mine')
    assert.ok(network().owners().includes(owner))
    assert.equal(owner.shared, network().shared)
    const socket = Connection.fromNode((await rawSocket()) as Socket, { owner })
    assert.deepEqual(owner.sockets(), [socket])
  })
})

async function rawSocket(): Promise<Socket> {
  const server = createServer((peer) => peer.on('error', () => {}).resume())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { createConnection } = await import('node:net')
  const socket = createConnection({ port: (server.address() as { port: number }).port, host: '127.0.0.1' }).pause()
  await once(socket, 'connect')
  server.close()
  return socket
}
