/** Sockets that are garbage without having been closed, and those that only look like it. */

import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { describe, test } from 'node:test'
import {
  codecs,
  type Connection,
  type Datagram,
  type DatagramSocket,
  Interests,
  type Listener,
  Network,
  select,
  type TraceEvent,
} from 'fairlead'
import { memory, settle } from 'fairlead/testing'
import { testCredentials } from './matrix.js'
import { collect, nothingCollects } from './support/garbage.js'
import { pairOver, pattern, rawPair, TRANSPORTS, until } from './support/pairs.js'

function abandonedOf(network: Network): (TraceEvent & { type: 'abandoned' })[] {
  const events: (TraceEvent & { type: 'abandoned' })[] = []
  network.trace.subscribe((event) => {
    if (event.type === 'abandoned') events.push(event)
  })
  return events
}

/** Collects garbage, and lets what was found be acted on, until `holds`. */
async function collectUntil(what: string, holds: () => boolean): Promise<void> {
  await until(what, () => {
    collect()
    return holds()
  })
}

/** Several collections, each with some turns of the loop behind it. */
async function collectOften(): Promise<void> {
  for (let i = 0; i < 3; i++) {
    collect()
    await settle(3)
  }
}

interface World extends AsyncDisposable {
  readonly network: Network
  readonly events: (TraceEvent & { type: 'abandoned' })[]
  /** The end that is kept. */
  readonly peer: Connection
  readonly id: number
}

/** A pair of which only one end is kept, once `use` has been called with the other. */
async function dropping(
  transport: (typeof TRANSPORTS)[number],
  use: (connection: Connection, peer: Connection) => unknown = () => {},
  which: 'a' | 'b' = 'a',
): Promise<World> {
  const pair = await pairOver(transport)
  const events = abandonedOf(pair.network)
  const peer = which === 'a' ? pair.b : pair.a
  await use(pair[which], peer)
  return { network: pair.network, events, peer, id: pair[which].id, [Symbol.asyncDispose]: pair[Symbol.asyncDispose] }
}

for (const transport of TRANSPORTS) {
  describe(`garbage over ${transport}`, { skip: nothingCollects }, () => {
    for (const which of ['a', 'b'] as const) {
      test(`a connection that was ${which === 'a' ? 'dialled' : 'accepted'} and dropped is closed in order, and told`, async () => {
        await using world = await dropping(transport, () => {}, which)
        const { network, events, peer, id } = world
        const ended = peer.read()
        await collectUntil('it is told', () => events.length > 0)
        assert.equal(await ended, null)
        assert.deepEqual(
          events.map((event) => [event.id, event.kind, event.where]),
          [[id, 'connection', undefined]],
        )
        await peer.close()
        await until('the descriptor is given back', () => network.sockets().length === 0)
        await collectOften()
        assert.equal(events.length, 1)
      })
    }

    test('what was closed, aborted or broke is garbage as soon as nobody has it, with every error it was given', async () => {
      await using network = transport === 'memory' ? new Network({ driver: memory() }) : new Network()
      const listener = await network.listen(transport === 'unix' ? `unix:@fairlead-garbage-${process.pid}` : 'tcp://127.0.0.1:0')
      const seen: WeakRef<object>[] = []
      const use = async () => {
        for (const how of ['close', 'abort', 'break', 'close', 'abort', 'break'] as const) {
          const [a, b] = await Promise.all([network.connect(listener.endpoint), listener.accept()])
          seen.push(new WeakRef(a), new WeakRef(b))
          await a.write('x')
          await b.read()
          await (how === 'close' ? a.close() : a.abort())
          if (how === 'break') await b.write(pattern(1 << 22)).catch(() => {})
          await a.write('late').catch(() => {})
          await b.close()
          await b.read().catch(() => {})
        }
      }
      await use()
      // But for those of the last promises that were made and of the function that has just run.
      await collectUntil('nearly all of them are gone', () => seen.filter((one) => one.deref() !== undefined).length <= 2)
      await listener.close()
    })

    test('so is one that was read in part, and one that carries messages', async () => {
      await using half = await dropping(transport, async (connection, peer) => {
        await peer.write('ab')
        await connection.read({ limit: 1 })
      })
      await collectUntil('it is told', () => half.events.length === 1)
      await half.peer.close()

      await using framed = await dropping(transport, async (connection, peer) => {
        const stream = connection.frames(codecs.lines())
        await peer.write('one\ntwo\n')
        assert.equal(await stream.receive(), 'one')
      })
      await collectUntil('it is told', () => framed.events.length === 1)
    })

    test('one whose loop was left, whose delivery is passive, whose signal or promise was asked for', async () => {
      await using world = await dropping(transport, async (connection, peer) => {
        await peer.write('x')
        for await (const _ of connection) break
        connection.deliver('passive', () => {})
        assert.equal(connection.signal.aborted, false)
        told = connection.closed
      })
      await collectUntil('it is told', () => world.events.length === 1)
      await world.peer.close()
      assert.equal((await told)?.clean, true)
    })
    let told: Connection['closed'] | undefined

    test('what was written before arrives, however slowly the peer reads', async () => {
      const sent = pattern(16_000_000)
      await using world = await dropping(transport, (connection) => void connection.write(sent))
      await collectOften()
      assert.equal(world.events.length, 0)
      let received = 0
      for (let chunk = await world.peer.read(); chunk !== null; chunk = await world.peer.read()) {
        assert.ok(Buffer.from(chunk).equals(sent.subarray(received, received + chunk.length)))
        if (received >> 21 !== (received += chunk.length) >> 21) collect()
        if (received === sent.length) await collectUntil('it is told', () => world.events.length === 1)
      }
      assert.equal(received, sent.length)
    })

    test('nothing is told of what was closed, aborted, or ended with its owner', async () => {
      await using closed = await dropping(transport, (connection) => connection.close())
      await using aborted = await dropping(transport, (connection) => connection.abort())
      await using ended = await dropping(transport, (connection) => connection.owner.end({ abort: true }))
      await collectOften()
      assert.deepEqual([closed.events, aborted.events, ended.events], [[], [], []])
    })

    test('a listener that was dropped stops listening, and is told', async () => {
      await using network = new Network(transport === 'memory' ? { driver: memory() } : {})
      const events = abandonedOf(network)
      const endpoint = await (async () => (await network.listen('tcp://127.0.0.1:0')).endpoint)()
      await collectUntil('it is told', () => events.length === 1)
      assert.equal(events[0]?.kind, 'listener')
      await until('it is gone', () => network.sockets().length === 0)
      await assert.rejects(network.connect(endpoint), { code: 'ECONNREFUSED' })
    })
  })

  describe(`not garbage over ${transport}`, { skip: nothingCollects }, () => {
    const USES: Record<string, (connection: Connection, got: (text: string) => void) => unknown> = {
      'a read': (connection, got) => void connection.read().then((data) => got(String(Buffer.from(data as Uint8Array)))),
      'a line': (connection, got) => void connection.readLine().then((line) => got(String(line))),
      'a wait': (connection, got) => void connection.waitReadable().then(() => got('hello')),
      'a loop': (connection, got) => void lines(connection, got).catch(ignore),
      'a loop over chunks, in its body': (connection, got) => void slowly(connection, got).catch(ignore),
      'a loop over messages': (connection, got) => void messages(connection, got).catch(ignore),
      'a delivery': (connection, got) => void connection.deliver('active', (data) => got(String(Buffer.from(data)))),
      'a delivery of messages': (connection, got) => void connection.frames(codecs.lines()).deliver('active', got),
      'a Node stream': (connection, got) => void connection.toNode().on('data', (data: Buffer) => got(String(data))),
      'a Web stream': (connection, got) => void web(connection, got).catch(ignore),
      'Node’s own stream over a loop': (connection, got) =>
        void Readable.from(connection)
          .on('error', ignore)
          .on('data', (data: Uint8Array) => got(String(Buffer.from(data)))),
      'a selection': (connection, got) => void select([connection]).then(() => got('hello')),
      use: (connection, got) =>
        void connection.use(async (it) => {
          await settle(12)
          got(String(await it.readLine()))
        }),
      'await using': (connection, got) =>
        void (async () => {
          await using _held = connection
          await settle(40)
          got('hello')
        })(),
    }
    for (const [name, use] of transport === 'unix' ? [] : Object.entries(USES)) {
      test(`${name} keeps its connection while it waits`, async () => {
        let got = ''
        await using world = await dropping(transport, (connection) => use(connection, (text) => (got += text)))
        await collectOften()
        assert.equal(world.events.length, 0)
        await world.peer.write('hello\n')
        await collectUntil('it is received', () => got.trim() === 'hello')
        await world.peer.close()
      })
    }

    test('a listener that somebody accepts from, loops over or selects from', async () => {
      await using network = new Network(transport === 'memory' ? { driver: memory() } : {})
      const events = abandonedOf(network)
      const accepted: Connection[] = []
      let selected = 0
      const open = async (use: (listener: Listener) => void): Promise<string> => {
        const listener = await network.listen('tcp://127.0.0.1:0')
        use(listener)
        return listener.endpoint
      }
      const endpoints = [
        await open((listener) => void listener.accept().then((one) => accepted.push(one))),
        await open((listener) => void acceptAll(listener, accepted)),
        await open((listener) => void select([listener]).then(() => selected++)),
      ]
      await collectOften()
      assert.equal(events.length, 0)
      const clients = await Promise.all(endpoints.map((endpoint) => network.connect(endpoint)))
      await until('two were accepted and one seen', () => accepted.length === 2 && selected === 1)
      for (const client of clients) await client.close()
    })

    test('a connection of a server, whatever its handler does with it', async () => {
      await using network = new Network(transport === 'memory' ? { driver: memory() } : {})
      const events = abandonedOf(network)
      let finish: () => void = () => {}
      const server = await network.serve('tcp://127.0.0.1:0', {}, () => new Promise<void>((resolve) => (finish = resolve)))
      const client = await network.connect(server.endpoints[0])
      await until('it is served', () => server.stats.active === 1)
      await collectOften()
      assert.deepEqual([events.length, server.stats.active, client.state], [0, 1, 'open'])
      finish()
      assert.equal(await client.read(), null)
    })
  })
}

describe('garbage', { skip: nothingCollects }, () => {
  test('a connection that was moved out of its server and dropped is closed', async () => {
    await using network = new Network({ driver: memory() })
    const events = abandonedOf(network)
    const server = await network.serve('tcp://127.0.0.1:0', {}, (connection) => connection.moveTo(network))
    const client = await network.connect(server.endpoints[0])
    await collectUntil('it is told', () => events.length === 1)
    assert.equal(await client.read(), null)
  })

  test('a datagram socket is closed, unless somebody receives, loops or is delivered to', async () => {
    await using network = new Network()
    const events = abandonedOf(network)
    const got: string[] = []
    const note = ({ data }: Datagram): void => void got.push(String(Buffer.from(data)))
    const open = async (use: (socket: DatagramSocket) => unknown): Promise<DatagramSocket['endpoint']> => {
      const socket = await network.bind('udp://127.0.0.1:0')
      use(socket)
      return socket.endpoint
    }
    await open(() => {})
    const endpoints = [
      await open((socket) => void socket.receive().then(note)),
      await open((socket) => void datagrams(socket, note)),
      await open((socket) => void socket.deliver('active', note)),
    ]
    await collectUntil('it is told', () => events.length === 1)
    assert.equal(events[0]?.kind, 'datagram')
    await collectOften()
    await using sender = await network.bind('udp://127.0.0.1:0')
    for (const endpoint of endpoints) await sender.send('x', endpoint)
    await until('all three are received', () => got.length === 3)
  })

  test('a connection over TLS is closed with close_notify, dialled or upgraded', async () => {
    const { ca, cert, key } = await testCredentials()
    await using network = new Network()
    const events = abandonedOf(network)
    const listener = await network.listen('tls://127.0.0.1:0', { tls: { cert, key } })
    const dial = async (): Promise<void> => {
      await network.connect(listener.endpoint, { tls: { ca, serverName: 'localhost' } })
    }
    const [accepted] = await Promise.all([listener.accept(), dial()])
    await collectUntil('it is told', () => events.length === 1)
    assert.equal(await accepted.read(), null)

    await using pair = await pairOver('tcp')
    const told = abandonedOf(pair.network)
    const upgrade = async (): Promise<void> => {
      await pair.a.startTls({ ca, serverName: 'localhost' })
    }
    const [upgraded] = await Promise.all([pair.b.startTls({ role: 'server', cert, key }), upgrade()])
    await collectUntil('it is told', () => told.length === 1)
    assert.equal(told[0]?.id, pair.a.id)
    assert.equal(await upgraded.read(), null)
  })

  test('one whose Node stream was dropped unused, and one that only a dropped set of interests refers to', async () => {
    for (const use of [
      (connection: Connection) => connection.toNode(),
      (connection: Connection) => connection.toNode().write('x'),
      (connection: Connection) => new Interests().add(connection),
      (connection: Connection) => select(new Interests().add(connection), { timeout: 0 }),
    ]) {
      await using pair = await dropping('tcp', use)
      await collectUntil('it is told', () => pair.events.length === 1)
      assert.equal(pair.events[0]?.id, pair.id)
      await pair.peer.readAll()
    }
    await using network = new Network()
    const events = abandonedOf(network)
    const open = async () => void new Interests().add(await network.listen('tcp://127.0.0.1:0'))
    await open()
    await collectUntil('the listener is told', () => events.length === 1)
    assert.equal(events[0]?.kind, 'listener')
  })

  test('a set that somebody holds keeps its sockets', async () => {
    await using network = new Network()
    const events = abandonedOf(network)
    const interests = new Interests()
    const open = async () => {
      const listener = await network.listen('tcp://127.0.0.1:0')
      interests.add(listener)
      return listener.endpoint
    }
    const endpoint = await open()
    await collectOften()
    await using _client = await network.connect(endpoint)
    const [ready] = await select(interests)
    assert.deepEqual([ready?.acceptable, events], [true, []])
  })

  test('what one that is over had received and nobody read is held no longer, and nothing is told', async () => {
    for (const end of [(peer: Connection) => peer.abort(), (peer: Connection) => peer.end()]) {
      await using pair = await dropping('tcp', async (connection, peer) => {
        await peer.write('unread')
        await connection.peek(6)
        await connection.end()
        void end(peer)
        await assert.rejects(connection.readExactly(100))
        await connection.closed
      })
      assert.equal(pair.network.shared.budget.held, 6)
      await collectUntil('it is forgotten', () => pair.network.shared.budget.held === 0)
      assert.deepEqual(pair.events, [])
    }
  })

  test('an adopted socket of Node’s is closed', async () => {
    await using raw = await rawPair()
    const events = abandonedOf(raw.network)
    const id = (() => raw.network.fromNode(raw.peer).id)()
    await collectUntil('it is told', () => events.length === 1)
    assert.equal(events[0]?.id, id)
    assert.equal(await raw.connection.read(), null)
  })

  test('where it was opened is told, if the trace was asked to remember', async () => {
    await using network = new Network({ driver: memory() })
    network.trace.recordOrigins = true
    const events = abandonedOf(network)
    await openInHere(network)
    await collectUntil('three are told', () => events.length === 3)
    assert.deepEqual(events.map(({ kind }) => kind).sort(), ['connection', 'connection', 'listener'])
    for (const { where } of events) assert.match(where ?? '', /openInHere.*abandoned\.test/)
  })
})

/** How these end when their network does is not what is tested here. */
function ignore(): void {}

async function openInHere(network: Network): Promise<void> {
  const listener = await network.listen('tcp://127.0.0.1:0')
  const dialling = network.connect(listener.endpoint)
  await listener.accept()
  await dialling
}

async function lines(connection: Connection, got: (text: string) => void): Promise<void> {
  for await (const chunk of connection) got(String(Buffer.from(chunk)))
}

async function slowly(connection: Connection, got: (text: string) => void): Promise<void> {
  connection.unread('first')
  for await (const chunk of connection.chunks()) {
    await settle(20)
    if (chunk.length !== 5) got(String(Buffer.from(chunk)))
  }
}

async function messages(connection: Connection, got: (text: string) => void): Promise<void> {
  for await (const line of connection.frames(codecs.lines())) got(line)
}

async function datagrams(socket: DatagramSocket, note: (datagram: Datagram) => void): Promise<void> {
  for await (const datagram of socket) note(datagram)
}

async function web(connection: Connection, got: (text: string) => void): Promise<void> {
  for await (const chunk of connection.readable) got(String(Buffer.from(chunk)))
}

async function acceptAll(listener: Listener, into: Connection[]): Promise<void> {
  for await (const connection of listener) into.push(connection)
}
