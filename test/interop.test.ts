/** Connections as Node's streams and the web's, and back. */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, createServer as createHttpServer, get, type IncomingMessage, request } from 'node:http'
import { connect as connectNet, createServer, Socket } from 'node:net'
import { Duplex, PassThrough, pipeline as pipelineOf, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { describe, test } from 'node:test'
import { Closed, Connection, Denied, Network, SocketError } from 'fairlead'
import { connectionPair, settle, VirtualClock } from 'fairlead/testing'
import { descriptors, drain, pairOver, pattern, rawPair, TRANSPORTS, until } from './support/pairs.js'

const text = (bytes: Uint8Array | null | undefined): string | null | undefined => (bytes ? Buffer.from(bytes).toString('latin1') : bytes)

async function rejection(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  const error = await promise.then(
    (value) => assert.fail(`resolved with ${String(value)}`),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof Error)
  return error
}

/** The names of the events of a stream, in the order in which they come. */
function eventsOf(stream: Duplex): string[] {
  const seen: string[] = []
  for (const name of ['connect', 'data', 'end', 'finish', 'error', 'close', 'timeout'])
    stream.on(name, () => void (seen.at(-1) !== name && seen.push(name)))
  return seen
}

for (const transport of TRANSPORTS) {
  describe(`toNode over ${transport}`, () => {
    test('a consumer in the manner of a database driver', async () => {
      await using pair = await pairOver(transport)
      const { b } = pair
      const socket = pair.a.toNode() as Socket
      const seen = eventsOf(socket)
      socket.connect(5432, 'localhost')
      await once(socket, 'connect')
      assert.equal(socket.setNoDelay(true), socket)
      assert.equal(socket.setKeepAlive(true, 1000), socket)
      assert.equal(socket.setTimeout(0), socket)
      assert.equal(socket.ref().unref().ref(), socket)
      assert.equal(socket.readyState, 'open')
      let got = ''
      socket.on('data', (chunk: Buffer) => {
        assert.ok(Buffer.isBuffer(chunk))
        got += chunk.toString('latin1')
      })
      socket.cork()
      socket.write('Parse')
      socket.write(Buffer.from('Bind'))
      socket.write('Sync', () => seen.push('flushed'))
      process.nextTick(() => socket.uncork())
      assert.equal(text(await b.readExactly(13)), 'ParseBindSync')
      await b.write('ReadyForQuery')
      await until('the answer is here', () => got === 'ReadyForQuery')
      socket.end('Terminate')
      assert.equal(text(await b.readAll()), 'Terminate')
      await b.close()
      await once(socket, 'close')
      assert.deepEqual(seen, ['connect', 'flushed', 'data', 'finish', 'end', 'close'])
      assert.equal(socket.bytesRead, 13)
      assert.equal(socket.bytesWritten, 22)
      assert.equal(socket.readyState, 'closed')
      await until('the connection is given back', () => pair.network.sockets().length === 0)
    })

    test('the end of the peer is an event, and the other direction works on', async () => {
      await using pair = await pairOver(transport)
      const socket = pair.a.toNode()
      await pair.b.write('question')
      await pair.b.end()
      let got = ''
      for await (const chunk of Readable.from(socket.iterator({ destroyOnReturn: false }))) got += String(chunk)
      assert.equal(got, 'question')
      socket.end('answer')
      assert.equal(text(await pair.b.readAll()), 'answer')
    })

    test('both ends at once: nothing that was buffered is lost, and end comes before close', async () => {
      for (let i = 0; i < 10; i++) {
        await using pair = await pairOver(transport)
        const socket = pair.a.toNode()
        const seen = eventsOf(socket).splice(0)
        socket.pause()
        socket.end('mine')
        await once(socket, 'finish')
        await pair.b.write(pattern(30_000))
        await pair.b.end()
        socket.read(0)
        await pair.b.readAll()
        await settle(i)
        const got = await drain(socket as Socket)
        assert.equal(got.length, 30_000)
        if (!socket.closed) await once(socket, 'close')
        assert.equal(socket.errored, null)
        assert.equal(seen.length, 0)
      }
    })

    test('what was read ahead and not yet sent goes along', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      await b.write('headers body')
      await a.readExactly(8)
      a.unread('BODY:')
      await a.write('before ')
      const socket = a.toNode() as Socket
      socket.write('after')
      assert.equal(text(await b.readExactly(12)), 'before after')
      await b.end()
      assert.equal((await drain(socket)).toString(), 'BODY:body')
      socket.destroy()
    })

    test('toNode refuses while an operation waits', async () => {
      await using pair = await pairOver(transport)
      const reading = pair.a.read()
      assert.throws(() => pair.a.toNode(), { name: 'Busy' })
      await pair.b.write('x')
      await reading
      pair.a.toNode().destroy()
    })

    test('pipeline in both directions: an echo of a megabyte, with backpressure', async () => {
      await using pair = await pairOver(transport)
      const echo = pair.b.toNode()
      const echoing = pipeline(echo, echo)
      const client = pair.a.toNode() as Socket
      const data = pattern(1 << 20)
      const got = drain(client)
      client.end(data)
      assert.ok((await got).equals(data))
      await echoing
    })

    test('destroy with an error aborts; without one closes in order', async () => {
      await using pair = await pairOver(transport)
      const socket = pair.a.toNode()
      const errors: unknown[] = []
      socket.on('error', (error) => errors.push(error))
      const mine = new Error('mine')
      socket.destroy(mine)
      await new Promise<void>((resolve) => socket.once('close', () => resolve()))
      assert.deepEqual(errors, [mine])
      await pair.b.readAll().catch(() => {})
      assert.ok(!pair.network.sockets().some(({ id }) => id === pair.a.id))

      await using other = await pairOver(transport)
      const closing = other.a.toNode()
      closing.destroy()
      await once(closing, 'close')
      assert.equal(await other.b.read(), null)
    })

    test('ended by its owner: close, without an error; idle: the error of that', async () => {
      await using pair = await pairOver(transport)
      for (const flowing of [true, false]) {
        const net = flowing ? pair.a : pair.b
        const socket = net.toNode()
        const seen = eventsOf(socket)
        if (flowing) socket.resume()
        else socket.pause()
        const closed = once(socket, 'close')
        if (flowing) await pair.b.write('x')
        await settle(3)
        for (const owned of pair.network.sockets()) if (owned.id === net.id) void owned.close()
        await closed
        assert.ok(!seen.includes('error'), seen.join())
      }
    })
  })
}

describe('toNode', () => {
  test('an idle connection that is ended by its deadline destroys its stream with that error', async () => {
    const clock = new VirtualClock()
    await using pair = await pairOver('memory', { clock }, { defaults: { idle: 1000 } })
    const socket = pair.a.toNode()
    const failed = once(socket, 'error')
    socket.resume()
    await clock.advance(1000)
    assert.ok((await failed)[0] instanceof Denied)
    assert.equal(socket.destroyed, true)
  })

  test('setTimeout emits timeout once after that time without traffic, and again after more traffic', async () => {
    const clock = new VirtualClock()
    await using pair = connectionPair({ clock })
    const socket = pair.a.toNode() as Socket
    let count = 0
    socket.on('timeout', () => count++)
    socket.resume()
    socket.setTimeout(100)
    await clock.advance(60)
    await pair.b.write('x')
    await clock.advance(99)
    assert.equal(count, 0)
    await clock.advance(1)
    assert.equal(count, 1)
    await clock.advance(1000)
    assert.equal(count, 1)
    socket.write('y')
    await clock.advance(100)
    assert.equal(count, 2)
    socket.setTimeout(0)
    socket.write('y')
    await clock.advance(1000)
    assert.equal(count, 2)
    let called = 0
    socket.setTimeout(50, () => called++)
    await clock.advance(50)
    assert.equal(called, 1)
    assert.throws(() => socket.setTimeout(-1), RangeError)
    assert.throws(() => socket.setTimeout('5' as never), TypeError)
    socket.setTimeout(50)
    socket.destroy()
    await once(socket, 'close')
    assert.equal(clock.pending, 0)
  })

  test('the addresses are those of a socket', async () => {
    await using pair = await pairOver('tcp')
    const local = pair.a.local as { port: number }
    const socket = pair.a.toNode() as Socket
    assert.deepEqual(socket.address(), { address: '127.0.0.1', port: local.port, family: 'IPv4' })
    assert.deepEqual(
      [
        socket.remoteAddress,
        socket.remotePort,
        socket.remoteFamily,
        socket.localAddress,
        socket.localPort,
        socket.connecting,
        socket.pending,
      ],
      ['127.0.0.1', (pair.b.local as { port: number }).port, 'IPv4', '127.0.0.1', local.port, false, false],
    )
    socket.destroy()
    assert.equal(socket.readyState, 'closed')
  })

  test('destroySoon sends what was written first', async () => {
    await using pair = await pairOver('tcp')
    const socket = pair.a.toNode() as Socket
    socket.write(pattern(300_000))
    socket.destroySoon()
    assert.equal((await pair.b.readAll()).length, 300_000)
    await pair.b.close()
    assert.equal(socket.destroyed, true)
  })

  test('a reset of the peer is an error event with the code that Node has for it', async () => {
    await using raw = await rawPair()
    const socket = raw.connection.toNode()
    socket.resume()
    raw.peer.resetAndDestroy()
    const [error] = (await once(socket, 'error')) as [SocketError]
    assert.ok(error instanceof SocketError)
    assert.equal(error.code, 'ECONNRESET')
    assert.equal(socket.destroyed, true)
  })

  test('resetAndDestroy resets', async () => {
    await using raw = await rawPair()
    const socket = raw.connection.toNode() as Socket
    socket.resetAndDestroy()
    raw.peer.resume()
    await once(socket, 'close')
    assert.deepEqual(raw.network.sockets(), [])
  })

  test('reading inside a data event does not stall the stream', async () => {
    await using pair = await pairOver('tcp')
    const socket = pair.a.toNode()
    let got = 0
    socket.on('data', (chunk: Buffer) => {
      got += chunk.length
      socket.pause()
      socket.read(0)
      socket.resume()
    })
    for (let i = 0; i < 50; i++) {
      await pair.b.write(pattern(20_000))
      await until('the chunk has come', () => got === 20_000 * (i + 1))
    }
    socket.destroy()
  })

  test('an HTTP server: a fetch, keep-alive, a POST of 5 MB, a response of 5 MB', async () => {
    const http = createHttpServer((incoming, response) => {
      if (incoming.method === 'GET') return void response.end(`hello ${incoming.url}`)
      const chunks: Buffer[] = []
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk)).on('end', () => response.end(Buffer.concat(chunks)))
    })
    await using network = new Network()
    await using listener = await network.listen('tcp://127.0.0.1:0')
    let connections = 0
    const accepting = (async () => {
      for await (const connection of listener) {
        connections++
        http.emit('connection', connection.toNode())
      }
    })()
    const url = `http://${listener.endpoint.slice(6)}`
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    for (let i = 0; i < 3; i++) {
      const [response] = (await once(get(`${url}/${i}`, { agent }), 'response')) as [IncomingMessage]
      assert.equal(String(Buffer.concat(await response.toArray())), `hello /${i}`)
    }
    assert.equal(connections, 1, 'kept alive')
    const body = Buffer.from(pattern(5_000_000))
    const posting = request(`${url}/`, { agent, method: 'POST' })
    posting.end(body)
    const [response] = (await once(posting, 'response')) as [IncomingMessage]
    assert.ok(Buffer.concat(await response.toArray()).equals(body))
    assert.equal(connections, 1)
    const fetched = await fetch(`${url}/fetched`, { headers: { connection: 'close' } })
    assert.equal(await fetched.text(), 'hello /fetched')
    agent.destroy()
    http.closeAllConnections()
    await listener.close()
    await accepting
    await until('all connections have ended', () => network.sockets().length === 0)
  })

  test('an HTTP client over a connection', async () => {
    const http = createHttpServer((_, response) => response.end('from the server'))
    http.listen(0, '127.0.0.1')
    await once(http, 'listening')
    const { port } = http.address() as { port: number }
    await using network = new Network()
    const connection = await network.connect(`tcp://127.0.0.1:${port}`)
    const asking = get({ createConnection: () => connection.toNode() as Socket, path: '/', headers: { host: 'x', connection: 'close' } })
    const [response] = (await once(asking, 'response')) as [IncomingMessage]
    assert.equal(String(Buffer.concat(await response.toArray())), 'from the server')
    http.close()
    await until('the connection has ended', () => network.sockets().length === 0)
  })
})

describe('fromNode', () => {
  /** A server that gives its accepted socket, and a client socket as Node makes them by default. */
  async function sockets(o: { pauseOnConnect?: boolean } = {}): Promise<{ client: Socket; server: Socket }> {
    const listening = createServer({ allowHalfOpen: true, ...o })
    listening.listen(0, '127.0.0.1')
    await once(listening, 'listening')
    const client = connectNet((listening.address() as { port: number }).port, '127.0.0.1')
    const [[server]] = await Promise.all([once(listening, 'connection') as Promise<[Socket]>, once(client, 'connect')])
    listening.close()
    return { client, server }
  }

  test('a socket that is not paused: bytes that came before are not lost', async () => {
    await using network = new Network()
    const { client, server } = await sockets()
    server.write('early')
    await once(client, 'readable')
    assert.equal(client.readableLength, 5)
    const connection = network.fromNode(client)
    server.write(' late')
    assert.equal(text(await connection.readExactly(10)), 'early late')
    assert.equal(connection.remote?.family, 'ipv4')
    assert.equal((connection.local as { port: number }).port, client.localPort)
    server.destroy()
  })

  test('a paused socket, with bytes and the end already there', async () => {
    await using network = new Network()
    const { client, server } = await sockets({ pauseOnConnect: true })
    client.end('all')
    await once(client, 'finish')
    const connection = network.fromNode(server)
    assert.equal(text(await connection.readAll()), 'all')
    await connection.write('answer')
    await connection.close()
    assert.equal((await drain(client)).toString(), 'answer')
  })

  test('the peer’s end does not end our direction, though Node’s default is that', async () => {
    await using network = new Network()
    const { client, server } = await sockets()
    const connection = network.fromNode(client)
    server.end('question')
    assert.equal(text(await connection.readAll()), 'question')
    await settle(5)
    await connection.write('answer')
    await connection.end()
    assert.equal((await drain(server)).toString(), 'answer')
    assert.deepEqual(await connection.closed, { clean: true, unsent: 0 })
  })

  test('a reset is a reset, and the descriptor is given back', async () => {
    await using network = new Network()
    const before = descriptors()
    const { client, server } = await sockets()
    const connection = network.fromNode(client)
    server.resetAndDestroy()
    await assert.rejects(connection.read(), { name: 'Broken', code: 'ECONNRESET' })
    await until('it is given back', () => (descriptors() ?? 0) <= (before ?? 0))
    assert.deepEqual(network.sockets(), [])
  })

  test('the owner of the socket destroying it breaks the connection, it does not end it', async () => {
    await using network = new Network()
    const { client, server } = await sockets()
    const connection = network.fromNode(client)
    const reading = rejection(connection.read())
    client.destroy()
    assert.deepEqual([(await reading).name, (await reading).code], ['Broken', 'ECONNABORTED'])
    server.destroy()
  })

  test('any Duplex of bytes will do', async () => {
    await using network = new Network()
    const [one, other] = duplexes()
    const a = network.fromNode(one)
    const b = network.fromNode(other)
    await a.write('over anything')
    await a.end()
    assert.equal(text(await b.readAll()), 'over anything')
    const data = pattern(300_000)
    const writing = b.write(data).then(() => b.end())
    assert.deepEqual(await a.readAll(), data)
    await writing
    assert.deepEqual(
      [await a.closed, await b.closed],
      [
        { clean: true, unsent: 0 },
        { clean: true, unsent: 0 },
      ],
    )
  })

  test('a Duplex that fails is Broken, with its error as the cause', async () => {
    await using network = new Network()
    const stream = new PassThrough()
    const connection = network.fromNode(stream)
    const mine = new Error('mine')
    const reading = rejection(connection.read())
    stream.destroy(mine)
    const error = await reading
    assert.deepEqual([error.name, error.code], ['Broken', 'BROKEN'])
    assert.equal((error.cause as Error).cause, mine, 'the first failure, and why')
  })

  test('to Node and back, with a stream of ours', async () => {
    await using pair = await pairOver('tcp')
    const again = Connection.fromNode(pair.a.toNode(), { owner: pair.network })
    await again.write('round and ')
    await pair.b.write('about')
    assert.equal(text(await pair.b.readExactly(10)), 'round and ')
    assert.equal(text(await again.readExactly(5)), 'about')
    await pair.b.end()
    assert.equal(await again.read(), null)
    await again.close()
  })

  test('what cannot be adopted is refused', async () => {
    await using network = new Network()
    const type = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' }
    assert.throws(() => network.fromNode({} as never), type)
    assert.throws(() => network.fromNode(new Readable() as never), type)
    assert.throws(() => network.fromNode(new PassThrough({ objectMode: true })), type)
    assert.throws(() => network.fromNode(new PassThrough().setEncoding('utf8')), type)
    assert.throws(() => network.fromNode(new PassThrough().resume()), type)
    assert.throws(() => network.fromNode(new PassThrough().destroy()), Closed)
    assert.throws(() => network.fromNode(new PassThrough().end()), Closed)
    const connecting = new Socket()
    connecting.on('error', () => {}).connect(1, '127.0.0.1')
    assert.throws(() => network.fromNode(connecting), type)
    connecting.destroy()
    assert.deepEqual(network.sockets(), [])
  })
})

/** Two streams joined crosswise. */
function duplexes(): [Duplex, Duplex] {
  const make = (): Duplex & { other?: Duplex } =>
    new Duplex({
      read() {},
      write(this: Duplex & { other?: Duplex }, chunk, _encoding, done) {
        setImmediate(() => {
          this.other?.push(chunk)
          done()
        })
      },
      final(this: Duplex & { other?: Duplex }, done) {
        this.other?.push(null)
        done()
      },
    })
  const [one, other] = [make(), make()]
  one.other = other
  other.other = one
  return [one, other]
}

for (const transport of TRANSPORTS) {
  describe(`web streams over ${transport}`, () => {
    test('pipeTo both ways: an echo', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      const echoing = b.readable.pipeTo(b.writable)
      const data = pattern(400_000)
      const sending = new Blob([data]).stream().pipeTo(a.writable)
      const chunks: Uint8Array[] = []
      for await (const chunk of a.readable) chunks.push(chunk)
      await Promise.all([sending, echoing])
      assert.ok(Buffer.concat(chunks).equals(data))
      assert.deepEqual(
        [await a.closed, await b.closed].map(({ clean }) => clean),
        [true, true],
      )
    })

    test('the streams are the same ones each time, and hold the slot only once they are read', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      assert.equal(a.readable, a.readable)
      assert.equal(a.writable, a.writable)
      const reader = a.readable.getReader()
      assert.equal(a.readable.locked, true)
      await b.write('x')
      assert.equal(text(await a.read()), 'x')
      const reading = reader.read()
      assert.equal((await rejection(a.read())).name, 'Busy')
      await b.write('y')
      assert.equal(text((await reading).value), 'y')
      reader.releaseLock()
    })

    test('cancelling gives the slot back, also under a waiting read, and loses nothing', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      const reader = a.readable.getReader()
      const waiting = reader.read()
      await settle(2)
      await reader.cancel('enough')
      assert.deepEqual(await waiting, { done: true, value: undefined })
      await b.write('kept')
      assert.equal(text(await a.read()), 'kept')
      assert.equal(a.state, 'open')
      const again = a.readable.getReader()
      await b.write('again')
      assert.equal(text((await again.read()).value), 'again')
    })

    test('a second reader of the slot gets Busy and spoils nothing', async () => {
      await using pair = await pairOver(transport)
      const waiting = pair.a.read()
      await assert.rejects(pair.a.readable.getReader().read(), { name: 'Busy' })
      await pair.b.write('x')
      assert.equal(text(await waiting), 'x')
      await pair.b.write('y')
      assert.equal(text((await pair.a.readable.getReader().read()).value), 'y')
    })

    test('nothing is fetched before it is asked for', async () => {
      await using pair = await pairOver(transport)
      await pair.b.write('x')
      pair.a.readable.getReader()
      await settle(10)
      assert.equal(pair.a.stats.bytesRead, 0)
    })

    test('closing the writer ends the direction, aborting it aborts the connection', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      const writer = a.writable.getWriter()
      await writer.write('text and ')
      await writer.write(Buffer.from('bytes'))
      await writer.close()
      assert.equal(text(await b.readAll()), 'text and bytes')
      const reason = new Error('reason')
      await b.writable.abort(reason)
      assert.equal((await b.closed).reason?.cause, reason)
    })

    test('an error of the connection is the error of the streams', async () => {
      await using pair = await pairOver(transport)
      const reading = rejection(pair.a.readable.getReader().read())
      await settle(2)
      pair.a.abort()
      assert.equal((await reading).code, 'ABORTED')
      await assert.rejects(pair.a.writable.getWriter().write('x'), { code: 'ABORTED' })
    })
  })
}

test('a Node pipeline from a file-like source to a connection and back to a sink', async () => {
  await using pair = await pairOver('tcp')
  const data = pattern(700_000)
  const finished = pipeline(Readable.from([Buffer.from(data)]), pair.a.toNode())
  const sink: Buffer[] = []
  for await (const chunk of pair.b) sink.push(Buffer.from(chunk))
  await pair.b.end()
  await finished.catch(() => {})
  assert.ok(Buffer.concat(sink).equals(data))
  assert.equal(typeof pipelineOf, 'function')
})
