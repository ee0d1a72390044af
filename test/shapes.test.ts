/** Each API as its documentation shows it, over real sockets. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { bind, connect as dial, type Connection, type Listener, listen as listenAt, Network, network } from 'fairlead'
import * as deno from 'fairlead/deno'
import { TCPServerSocket, TCPSocket, UDPSocket } from 'fairlead/direct-sockets'
import { settle } from 'fairlead/testing'
import { binding, connect, SocketError } from 'fairlead/wintertc'
import { freshPath, removePaths, testCredentials } from './matrix.js'

const utf8 = (text: string) => new TextEncoder().encode(text)
const text = (bytes: Uint8Array | null | undefined) => new TextDecoder().decode(bytes ?? undefined)

async function all<T>(values: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const value of values) found.push(value)
  return found
}

/** A listener whose connections go to `handler`, until the test is over. */
async function serving(
  t: { after(fn: () => unknown): void },
  handler: (connection: Connection) => Promise<unknown>,
  endpoint = 'tcp://127.0.0.1:0',
  alpn?: string[],
) {
  const { cert, key } = await testCredentials()
  const listener: Listener = await listenAt(endpoint, endpoint.startsWith('tls') ? { tls: { cert, key, alpn } } : {})
  const handled: Promise<unknown>[] = []
  const accepting = (async () => {
    for await (const connection of listener.connections()) handled.push(connection.use(() => handler(connection)).catch(() => {}))
  })().catch(() => {})
  t.after(async () => {
    await listener.close()
    await accepting
    await Promise.all(handled)
  })
  const { host, port } = new URL(listener.endpoint)
  return { host, port: Number(port), hostname: '127.0.0.1' }
}

async function echo(connection: Connection): Promise<void> {
  for await (const chunk of connection) await connection.write(chunk)
  await connection.close()
}

/** A port nobody listens at. */
async function freePort(): Promise<number> {
  const listener = await listenAt('tcp://127.0.0.1:0')
  const { port } = new URL(listener.endpoint)
  await listener.close()
  return Number(port)
}

describe('wintertc', () => {
  test('a socket is there at once, and what is written before it is open arrives', async (t) => {
    const { host, port } = await serving(t, echo)
    const socket = connect(host)
    assert.equal(socket.secureTransport, 'off')
    assert.equal(socket.upgraded, false)
    const writer = socket.writable.getWriter()
    const written = writer.write(utf8('Hello, '))
    await writer.write('World!\r\n')
    await written
    const info = await socket.opened
    assert.equal(info.remoteAddress, `127.0.0.1:${port}`)
    assert.match(info.localAddress ?? '', /^127\.0\.0\.1:\d+$/)
    assert.equal(info.alpn, null)
    const reader = socket.readable.getReader()
    let received = ''
    while (received.length < 15) received += text((await reader.read()).value)
    assert.equal(received, 'Hello, World!\r\n')
    await socket.close()
    assert.deepEqual(await reader.read(), { done: true, value: undefined })
  })

  test('without allowHalfOpen the end of the peer, once read, closes the socket', async (t) => {
    const { port, hostname } = await serving(t, async (connection) => {
      await connection.write('bye')
      await connection.end()
      await connection.readAll()
    })
    const socket = connect({ hostname, port })
    assert.equal(text(Buffer.concat(await all(socket.readable))), 'bye')
    await socket.closed
    await socket.writable.getWriter().closed
  })

  test('with allowHalfOpen writing goes on after the end of the peer', async (t) => {
    let got: (received: string) => void
    const received = new Promise<string>((resolve) => (got = resolve))
    const { port, hostname } = await serving(t, async (connection) => {
      await connection.end()
      got(text(await connection.readAll()))
    })
    const socket = connect({ hostname, port }, { allowHalfOpen: true })
    assert.deepEqual(await all(socket.readable), [])
    const writer = socket.writable.getWriter()
    await writer.write(utf8('still here'))
    await writer.close()
    await socket.closed
    assert.equal(await received, 'still here')
  })

  test('what cannot be connected to rejects opened and closed, and fails both streams', async () => {
    const socket = connect({ hostname: '127.0.0.1', port: await freePort() })
    const refused = (error: unknown) => {
      assert.ok(error instanceof SocketError && error instanceof TypeError)
      assert.match(error.message, /^SocketError: .*the connection was refused/)
      assert.equal(error.code, 'ECONNREFUSED')
      return true
    }
    await assert.rejects(socket.opened, refused)
    await assert.rejects(socket.closed, refused)
    await assert.rejects(socket.readable.getReader().read(), refused)
    await assert.rejects(socket.writable.getWriter().write('x'), refused)
  })

  test('an address, or options, that make no sense are thrown at once', () => {
    for (const address of ['localhost', 'localhost:65536', 'localhost:-1', { hostname: '', port: 1 }, { hostname: 'a', port: 1.5 }]) {
      assert.throws(() => connect(address), SocketError, JSON.stringify(address))
    }
    assert.throws(() => connect('a:1', { secureTransport: 'maybe' as never }), SocketError)
    assert.throws(() => connect('a:1', { sni: 'b' }), /sni and alpn need secureTransport/)
    assert.throws(() => connect('a:1').startTls(), /startTls needs a socket with secureTransport 'starttls'/)
  })

  test('closing before it is open rejects opened with the reason, and resolves closed', async (t) => {
    const { host } = await serving(t, echo)
    const socket = connect(host)
    const reason = new Error('changed my mind')
    const closed = socket.close(reason)
    await assert.rejects(socket.opened, reason)
    await closed
    assert.equal(closed, socket.closed)
  })

  test('a reset fails the readable and settles closed', async (t) => {
    const { host } = await serving(t, async (connection) => {
      await connection.read()
      connection.abort()
    })
    const socket = connect(host)
    await socket.writable.getWriter().write('x')
    await assert.rejects(socket.readable.getReader().read(), { code: 'ECONNRESET' })
    await socket.closed
  })

  test('TLS from the start: verified, with the protocol that was agreed on', async (t) => {
    const { ca } = await testCredentials()
    const { host } = await serving(t, echo, 'tls://127.0.0.1:0', ['h2', 'echo'])
    const socket = binding({ tls: { ca } }).connect(host, { secureTransport: 'on', sni: 'localhost', alpn: ['echo'] })
    assert.equal((await socket.opened).alpn, 'echo')
    await socket.writable.getWriter().write('hi')
    assert.equal(text((await socket.readable.getReader().read()).value), 'hi')
    await socket.close()
    const stranger = connect(host, { secureTransport: 'on', sni: 'localhost' })
    await assert.rejects(stranger.opened, { code: 'UNKNOWN_ISSUER' })
    await assert.rejects(stranger.closed, SocketError)
  })

  test('startTls makes a TLS socket of a plain one, behind everything written', async (t) => {
    const { cert, key, ca } = await testCredentials()
    const { host } = await serving(t, async (connection) => {
      assert.equal(await connection.readLine(), 'STARTTLS')
      await echo(await connection.startTls({ cert, key, reply: '220 ready\r\n' }))
    })
    const plain = binding({ tls: { ca } }).connect(host, { secureTransport: 'starttls' })
    const writer = plain.writable.getWriter()
    void writer.write('STARTTLS\r\n')
    writer.releaseLock()
    const reader = plain.readable.getReader()
    assert.equal(text((await reader.read()).value), '220 ready\r\n')
    reader.releaseLock()
    const secure = plain.startTls({ expectedServerHostname: 'localhost' })
    assert.equal(plain.upgraded, true)
    assert.equal(secure.secureTransport, 'on')
    await secure.opened
    await plain.closed
    await secure.writable.getWriter().write('secret')
    assert.equal(text((await secure.readable.getReader().read()).value), 'secret')
    assert.throws(() => plain.startTls(), /startTls was called before/)
    assert.throws(() => secure.startTls(), SocketError)
    await secure.close()
  })

  test('an upgrade that is given up, or fails early, closes the connection', async () => {
    await using net = new Network()
    await using listener = await net.listen('tcp://127.0.0.1:0')
    const { host } = new URL(listener.endpoint)
    const plain = binding({ network: net }).connect(host, { secureTransport: 'starttls' })
    const secure = plain.startTls()
    await secure.close(new Error('never mind'))
    await assert.rejects(secure.opened, /never mind/)
    await plain.closed
    assert.deepEqual(net.sockets(), [listener])
  })

  test('wrong settings leave nothing behind', async () => {
    await using net = new Network()
    const wrong = (o: object | null, message: RegExp) =>
      assert.throws(() => binding({ network: net }).connect('127.0.0.1:1', o as object), { name: 'TypeError', message })
    wrong({ highWaterMark: -1 }, /highWaterMark must be a number of bytes, not negative, got -1/)
    wrong({ highWaterMark: Number.NaN }, /highWaterMark/)
    assert.throws(() => connect(undefined as unknown as string), /hostname must be a name or an address, got undefined/)
    await settle(1)
    assert.deepEqual(net.sockets(), [])
    await connect('127.0.0.1:1', null as unknown as object).close()
  })

  test('startTls sends what is still waiting in the old stream first', async (t) => {
    let got: (received: Uint8Array | null) => void
    const received = new Promise<Uint8Array | null>((resolve) => (got = resolve))
    const { host } = await serving(t, async (connection) => {
      got(await connection.readExactly(7))
      connection.abort()
    })
    const plain = connect(host, { secureTransport: 'starttls', sni: 'localhost' })
    const writer = plain.writable.getWriter()
    void writer.write('ST')
    void writer.write('ART\n')
    writer.releaseLock()
    await assert.rejects(plain.startTls().opened, SocketError)
    // A record of a TLS handshake begins with 22.
    assert.deepEqual(await received, Uint8Array.of(...utf8('START\n'), 22))
  })

  test('highWaterMark is in bytes', async (t) => {
    const { host } = await serving(t, echo)
    const socket = connect(host, { highWaterMark: 10n })
    const writer = socket.writable.getWriter()
    assert.equal(writer.desiredSize, 10)
    const written = writer.write('four')
    assert.equal(writer.desiredSize, 6)
    await written
    await socket.close()
  })

  test('a binding object has a network, and its policy', async () => {
    await using network = new Network({ policy: { deny: ['127.0.0.0/8'] } as never })
    const socket = binding({ network }).connect('127.0.0.1:1')
    await assert.rejects(socket.opened, { code: 'POLICY' })
  })
})

describe('direct sockets', () => {
  const named = (name: string) => (error: unknown) => (error as Error).name === name

  test('a client and a server of this API talk to each other', async () => {
    const server = new TCPServerSocket('127.0.0.1')
    const { readable, localAddress, localPort } = await server.opened
    assert.equal(localAddress, '127.0.0.1')
    const client = new TCPSocket('127.0.0.1', localPort, { noDelay: true, keepAliveDelay: 60_000 })
    const opened = await client.opened
    assert.equal(opened.remoteAddress, '127.0.0.1')
    assert.equal(opened.remotePort, localPort)
    const acceptor = readable.getReader()
    const { value: accepted } = await acceptor.read()
    assert.ok(accepted instanceof TCPSocket)
    const other = await accepted.opened
    assert.equal(other.remotePort, opened.localPort)
    const writer = opened.writable.getWriter()
    await writer.ready
    await writer.write(utf8('PING').buffer)
    await writer.close()
    assert.equal(text(Buffer.concat(await all(other.readable))), 'PING')
    await other.writable.close()
    await accepted.closed
    assert.deepEqual(await all(opened.readable), [])
    await client.closed
    await client.close()
    acceptor.releaseLock()
    await server.close()
    await server.closed
  })

  test('the readable is a byte stream that fills a buffer of its reader', async (t) => {
    const { port } = await serving(t, echo)
    const socket = new TCPSocket('127.0.0.1', port)
    const { readable, writable } = await socket.opened
    const writer = writable.getWriter()
    await writer.write(utf8('abcdef'))
    const reader = readable.getReader({ mode: 'byob' })
    let { value } = await reader.read(new Uint8Array(4))
    assert.equal(text(value), 'abcd')
    assert.equal(value?.buffer.byteLength, 4)
    ;({ value } = await reader.read(new Uint8Array(4)))
    assert.equal(text(value), 'ef')
    await writer.close()
    const { done } = await reader.read(new Uint8Array(4))
    assert.equal(done, true)
    await socket.closed
  })

  test('close is refused while it is not open or a stream is locked, and idempotent after', async (t) => {
    const { port } = await serving(t, echo)
    const socket = new TCPSocket('127.0.0.1', port)
    await assert.rejects(socket.close(), named('InvalidStateError'))
    const { readable } = await socket.opened
    const reader = readable.getReader()
    await assert.rejects(socket.close(), named('InvalidStateError'))
    reader.releaseLock()
    // As the specification shows it: a writer that has closed its stream holds it still.
    const writer = (await socket.opened).writable.getWriter()
    await writer.write(utf8('A long message'))
    await writer.close()
    await socket.close()
    await socket.close()
    await socket.closed
  })

  test('what the network says is a NetworkError of both promises, with the error below as its cause', async () => {
    const socket = new TCPSocket('127.0.0.1', await freePort())
    await assert.rejects(
      socket.opened,
      (error: Error) => named('NetworkError')(error) && (error.cause as { code: string }).code === 'ECONNREFUSED',
    )
    await assert.rejects(socket.closed, named('NetworkError'))
    await assert.rejects(socket.close(), named('InvalidStateError'))
  })

  test('a reset fails the streams and closed', async (t) => {
    const { port } = await serving(t, async (connection) => {
      await connection.read()
      connection.abort()
    })
    const socket = new TCPSocket('127.0.0.1', port)
    const { readable, writable } = await socket.opened
    const writer = writable.getWriter()
    await writer.write(utf8('x'))
    await assert.rejects(readable.getReader().read(), named('NetworkError'))
    await writer.close().catch(() => {})
    await assert.rejects(socket.closed, named('NetworkError'))
  })

  test('arguments that make no sense are type errors at once', () => {
    const bad: (() => unknown)[] = [
      () => new TCPSocket('a', 65_536),
      () => new TCPSocket('a', 1, { keepAliveDelay: 999 }),
      () => new TCPSocket('a', 1, { sendBufferSize: 0 }),
      () => new TCPSocket('a', 1, { receiveBufferSize: 0 }),
      () => new TCPSocket('a', 1, { dnsQueryType: 'ipv5' as never }),
      () => new TCPServerSocket('localhost'),
      () => new TCPServerSocket('127.0.0.1', { localPort: 0 }),
      () => new TCPServerSocket('127.0.0.1', { backlog: 0 }),
      () => new TCPServerSocket('127.0.0.1', { ipv6Only: true }),
      () => new UDPSocket(),
      () => new UDPSocket({ remoteAddress: 'a' }),
      () => new UDPSocket({ remotePort: 1 }),
      () => new UDPSocket({ remoteAddress: 'a', remotePort: 1, localAddress: '127.0.0.1' }),
      () => new UDPSocket({ localPort: 5 }),
      () => new UDPSocket({ localAddress: '127.0.0.1', localPort: 0 }),
      () => new UDPSocket({ localAddress: 'localhost' }),
      () => new UDPSocket({ localAddress: '127.0.0.1', dnsQueryType: 'ipv4' }),
      () => new UDPSocket({ localAddress: '127.0.0.1', ipv6Only: true }),
      () => new UDPSocket({ localAddress: '127.0.0.1', multicastTimeToLive: 256 }),
    ]
    for (const make of bad) assert.throws(make, TypeError, String(make))
  })

  test('a chunk that is no bytes fails the writable with a TypeError', async (t) => {
    const { port } = await serving(t, echo)
    const socket = new TCPSocket('127.0.0.1', port)
    const { readable, writable } = await socket.opened
    await assert.rejects(writable.getWriter().write('text' as never), TypeError)
    await readable.cancel()
    await assert.rejects(socket.closed, TypeError)
  })

  test('the accepting stream ends when it is cancelled, and the port is free again', async () => {
    const server = new TCPServerSocket('127.0.0.1', { backlog: 5 })
    const { readable, localPort } = await server.opened
    const accepting = readable.getReader()
    const pending = accepting.read()
    await accepting.cancel()
    assert.deepEqual(await pending, { done: true, value: undefined })
    await server.closed
    const again = new TCPServerSocket('127.0.0.1', { localPort })
    await again.opened
    const taken = new TCPServerSocket('127.0.0.1', { localPort })
    await assert.rejects(taken.opened, named('NetworkError'))
    await again.close()
  })

  test('datagrams, bound and connected', async () => {
    const bound = new UDPSocket({ localAddress: '127.0.0.1' })
    const server = await bound.opened
    const connected = new UDPSocket({ remoteAddress: '127.0.0.1', remotePort: server.localPort })
    const client = await connected.opened
    assert.equal(client.remotePort, server.localPort)
    assert.equal(client.multicastController, undefined)
    const [asks, answers] = [client.writable.getWriter(), server.writable.getWriter()]
    await asks.write({ data: utf8('PING') })
    const receiver = server.readable.getReader()
    const { value: asked } = await receiver.read()
    assert.equal(text(asked?.data), 'PING')
    assert.equal(asked?.remotePort, client.localPort)
    await answers.write({ data: utf8('PONG'), remoteAddress: '127.0.0.1', remotePort: client.localPort })
    const reader = client.readable.getReader()
    const { value: answer } = await reader.read()
    assert.deepEqual(Object.keys(answer ?? {}), ['data'])
    assert.equal(text(answer?.data), 'PONG')
    await assert.rejects(answers.write({ data: utf8('to nobody') }), TypeError)
    await assert.rejects(asks.write({ data: utf8('x'), remoteAddress: '127.0.0.1', remotePort: 1 }), TypeError)
    await reader.cancel()
    await assert.rejects(connected.closed, TypeError)
    await receiver.cancel()
    await assert.rejects(bound.closed, TypeError)
  })

  test('multicast groups: what is none, what was joined before, and what was not', async () => {
    const socket = new UDPSocket({
      localAddress: '0.0.0.0',
      multicastAllowAddressSharing: true,
      multicastTimeToLive: 0,
      multicastLoopback: true,
    })
    const { multicastController: groups } = await socket.opened
    assert.ok(groups)
    for (const [group, sourceAddress] of [
      ['localhost', undefined],
      ['127.0.0.1', undefined],
      ['232.1.1.1', '::2'],
      ['232.1.1.1', '127.0.0.1'],
      ['232.1.1.1', '239.0.0.1'],
    ] as const) {
      await assert.rejects(groups.joinGroup(group, { sourceAddress }), TypeError, `${group} ${sourceAddress}`)
    }
    await assert.rejects(groups.leaveGroup('239.1.2.3'), named('InvalidStateError'))
    assert.deepEqual(groups.joinedGroups, [])
    // A machine without a route for multicasts cannot join any without being told an interface, for which this API has no word.
    const joined = await groups.joinGroup('239.1.2.3').then(
      () => true,
      (error: unknown) => !named('NetworkError')(error),
    )
    if (joined) {
      assert.deepEqual(groups.joinedGroups, ['239.1.2.3'])
      await assert.rejects(groups.joinGroup('239.1.2.3'), named('InvalidStateError'))
      await groups.leaveGroup('239.1.2.3')
    }
    await socket.close()
    await assert.rejects(groups.joinGroup('239.1.2.3'), named('InvalidStateError'))
  })
})

describe('deno', () => {
  test('an echo server in a loop, and its client', async () => {
    const listener = await deno.listen({ port: 0, hostname: '127.0.0.1' })
    assert.deepEqual(Object.keys(listener.addr), ['transport', 'hostname', 'port'])
    const serving = (async () => {
      for await (const conn of listener) void conn.readable.pipeTo(conn.writable)
    })()
    const conn = await deno.connect({ port: listener.addr.port })
    assert.deepEqual(conn.remoteAddr, { transport: 'tcp', hostname: '127.0.0.1', port: listener.addr.port })
    conn.setNoDelay()
    conn.setKeepAlive(true)
    assert.equal(await conn.write(utf8('hello world')), 11)
    const buffer = new Uint8Array(100)
    const count = await conn.read(buffer)
    assert.equal(count, 11)
    assert.equal(text(buffer.subarray(0, count ?? 0)), 'hello world')
    assert.equal(await conn.read(new Uint8Array(0)), 0)
    await conn.closeWrite()
    assert.equal(await conn.read(buffer), null)
    await assert.rejects(conn.write(utf8('x')), deno.errors.BrokenPipe)
    conn.close()
    listener.close()
    await serving
  })

  test('readable and writable, the latter closed before the former is read to its end', async (t) => {
    const { port } = await serving(t, async (connection) => connection.write((await connection.readAll()).reverse()))
    const conn = await deno.connect({ port })
    const writer = conn.writable.getWriter()
    await writer.write(utf8('stressed'))
    await writer.close()
    assert.equal(text(Buffer.concat(await all(conn.readable))), 'desserts')
    conn.close()
  })

  test('errors are those of Deno by name', async () => {
    const port = await freePort()
    await assert.rejects(deno.connect({ port }), (error: Error & { code?: string }) => {
      assert.ok(error instanceof deno.errors.ConnectionRefused && error instanceof Error)
      assert.equal(error.name, 'ConnectionRefused')
      assert.equal(error.code, 'ECONNREFUSED')
      return true
    })
    using listener = await deno.listen({ port: 0, hostname: '127.0.0.1' })
    await assert.rejects(deno.listen({ port: listener.addr.port, hostname: '127.0.0.1' }), deno.errors.AddrInUse)
    await assert.rejects(deno.connect({ path: await freshPath(), transport: 'unix' }), deno.errors.NotFound)
    await assert.rejects(deno.connect({ port: 65_536 }), TypeError)
    await assert.rejects(deno.connect({ port, transport: 'sctp' as never }), /Unsupported transport: 'sctp'/)
    await removePaths()
  })

  test('what waits when a connection is closed is Interrupted, what comes later BadResource', async () => {
    using listener = await deno.listen({ port: 0, hostname: '127.0.0.1' })
    const conn = await deno.connect({ port: listener.addr.port })
    using _peer = await listener.accept()
    const reading = conn.read(new Uint8Array(1))
    await assert.rejects(conn.read(new Uint8Array(1)), deno.errors.Busy)
    conn.close()
    await assert.rejects(reading, deno.errors.Interrupted)
    await assert.rejects(conn.read(new Uint8Array(1)), deno.errors.BadResource)
    await assert.rejects(conn.write(new Uint8Array(1)), deno.errors.BadResource)
    assert.throws(() => conn.close(), deno.errors.BadResource)
    const accepting = listener.accept()
    listener.close()
    await assert.rejects(accepting, deno.errors.BadResource)
    await assert.rejects(listener.accept(), deno.errors.BadResource)
  })

  test('a signal cancels connecting with its reason', async (t) => {
    const { port } = await serving(t, echo)
    const reason = new Error('too late')
    await assert.rejects(deno.connect({ port, signal: AbortSignal.abort(reason) }), reason)
  })

  test('a reset is ConnectionReset', async (t) => {
    const { port } = await serving(t, async (connection) => {
      await connection.read()
      connection.abort()
    })
    using conn = await deno.connect({ port })
    await conn.write(utf8('x'))
    await assert.rejects(conn.read(new Uint8Array(1)), deno.errors.ConnectionReset)
  })

  test('UNIX sockets', async () => {
    const path = await freshPath()
    using listener = await deno.listen({ path, transport: 'unix' })
    assert.deepEqual(listener.addr, { transport: 'unix', path })
    using conn = await deno.connect({ path, transport: 'unix' })
    using peer = await listener.accept()
    assert.deepEqual(conn.remoteAddr, { transport: 'unix', path })
    await conn.write(utf8('x'))
    assert.equal(await peer.read(new Uint8Array(2)), 1)
    await removePaths()
  })

  test('TLS: listenTls, connectTls and handshake', async () => {
    const { ca, cert, key } = await testCredentials()
    using listener = await deno.listenTls({ port: 0, hostname: '127.0.0.1', cert, key, alpnProtocols: ['echo'] })
    const iterator = listener[Symbol.asyncIterator]()
    const accepted = iterator.next()
    const { port } = listener.addr
    using conn = await deno.connectTls({ port, hostname: '127.0.0.1', caCerts: [ca], alpnProtocols: ['echo'] })
    using peer = (await accepted).value as deno.TlsConn
    void iterator.next()
    assert.deepEqual(await conn.handshake(), { alpnProtocol: 'echo' })
    assert.deepEqual(await peer.handshake(), { alpnProtocol: 'echo' })
    await conn.write(utf8('secret'))
    const buffer = new Uint8Array(10)
    assert.equal(await peer.read(buffer), 6)
    await assert.rejects(deno.connectTls({ port }), deno.errors.InvalidData)
    await assert.rejects(deno.connectTls({ port, cert } as never), /cert and key must be given together/)
    await assert.rejects(deno.listenTls({ port: 0 } as never), TypeError)
  })

  test('startTls under a pending read is Busy, and the connection is closed, since it was used up', async () => {
    using listener = await deno.listen({ port: 0, hostname: '127.0.0.1' })
    const [plain, peer] = await Promise.all([deno.connect({ port: listener.addr.port }), listener.accept()])
    const reading = plain.read(new Uint8Array(1)).catch((error: unknown) => error)
    await assert.rejects(deno.startTls(plain), deno.errors.Busy)
    assert.ok((await reading) instanceof Error)
    await assert.rejects(peer.read(new Uint8Array(1)), deno.errors.ConnectionReset)
    peer.close()
  })

  test('startTls uses the plain connection up', async (t) => {
    const { ca, cert, key } = await testCredentials()
    const { port } = await serving(t, async (connection) => {
      await connection.readLine()
      await echo(await connection.startTls({ cert, key, reply: '!' }))
    })
    const plain = await deno.connect({ port })
    await plain.write(utf8('STARTTLS\n'))
    assert.equal(await plain.read(new Uint8Array(10)), 1)
    using secure = await deno.startTls(plain, { caCerts: [ca], hostname: 'localhost' })
    await assert.rejects(plain.write(utf8('x')), deno.errors.BadResource)
    await assert.rejects(deno.startTls(plain), deno.errors.BadResource)
    await secure.write(utf8('secret'))
    assert.equal(await secure.read(new Uint8Array(10)), 6)
  })

  test('datagrams, and multicast membership on an interface', async () => {
    using server = await deno.listenDatagram({ port: 0, transport: 'udp' })
    using client = await deno.listenDatagram({ port: 0, transport: 'udp', reuseAddress: true, loopback: true })
    assert.equal(await client.send(utf8('one'), server.addr), 3)
    const [data, from] = await server.receive()
    assert.equal(text(data), 'one')
    assert.deepEqual(from, client.addr)
    await client.send(utf8('longer'), server.addr)
    const [cut] = await server.receive(new Uint8Array(4))
    assert.equal(text(cut), 'long')
    const all: string[] = []
    const receiving = (async () => {
      for await (const [message] of server) all.push(text(message))
      return all
    })()
    await client.send(utf8('three'), server.addr)
    const membership = await client.joinMulticastV4('239.1.2.3', '127.0.0.1')
    await membership.setLoopback(false)
    await membership.setTTL(2)
    await membership.leave()
    await using bound = await bind('udp://127.0.0.1:0')
    await client.send(utf8('x'), { transport: 'udp', hostname: '127.0.0.1', port: (bound.local as { port: number }).port })
    await bound.receive()
    while (all.length === 0) await settle(1)
    server.close()
    assert.deepEqual(await receiving, ['three'])
    await assert.rejects(server.receive(), deno.errors.BadResource)
    await assert.rejects(client.send(utf8('x'), { transport: 'udp', hostname: '127.0.0.1', port: 65_536 }), TypeError)
  })

  test('a plain client of this library is served alike', async () => {
    using listener = await deno.listen({ port: 0, hostname: '127.0.0.1' })
    await using client = await dial(`tcp://127.0.0.1:${listener.addr.port}`)
    using conn = await listener.accept()
    await client.write('ping')
    const buffer = new Uint8Array(4)
    assert.equal(await conn.read(buffer), 4)
    assert.equal(text(buffer), 'ping')
  })
})

test('S13 nothing is left open', async () => {
  for (let turns = 0; turns < 200 && network().sockets().length > 0; turns++) await settle(1)
  assert.deepEqual(network().sockets(), [])
})
