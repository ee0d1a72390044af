/** Dictu's `Socket`, in both styles, over real sockets. Texts and numbers are those of the original on Linux. */

import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { connect as dial, type Connection, listen as listenAt } from 'fairlead'
import { fromBytes, Result, ResultSocket, type ResultSocketObject, Socket, type SocketObject, toBytes } from 'fairlead/dictu'
import { accepted, datagram, fatal, isLinux, kept, listening, loose, pair, portOf, refused, stream } from './dictu-sockets.js'

describe('dictu: the module', () => {
  test('errno is 0 at first, and strerror() without an error is fatal', { skip: !isLinux || 'Deno' in globalThis }, () => {
    // In a process of its own: others here have failed before.
    const { stdout } = spawnSync(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        "import { Socket } from 'fairlead/dictu'; try { Socket.strerror() } catch (error) { console.log(Socket.errno, error.message) }",
      ],
      { encoding: 'utf8' },
    )
    assert.equal(stdout, '0 strerror() argument should be > 0\n')
  })

  test('constants have the numbers of the system', { skip: !isLinux }, () => {
    for (const module of [Socket, ResultSocket]) {
      const { AF_INET, SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOL_SOCKET, SO_REUSEADDR, SO_BROADCAST } = module
      assert.deepEqual(
        [AF_INET, SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOL_SOCKET, SO_REUSEADDR, SO_BROADCAST],
        [2, 1, 2, 3, 5, 1, 2, 6],
      )
    }
    assert.equal('errno' in ResultSocket || 'strerror' in ResultSocket, false)
  })

  test('create gives a socket, or nil and the number of the error', { skip: !isLinux }, () => {
    assert.equal(String(Socket.create(Socket.AF_INET, Socket.SOCK_STREAM)), '<Socket>')
    assert.equal(Object.prototype.toString.call(Socket.create(2.9, 1.9)), '[object socket]')
    refused(Socket.create(99, 1), 97, 'Address family not supported by protocol')
    refused(Socket.create(2, 99), 22, 'Invalid argument')
    refused(Socket.create(2, -1), 22, 'Invalid argument')
    // The system looks at flags, at the family and at the type, in this order.
    refused(Socket.create(99, 99), 22, 'Invalid argument')
    refused(Socket.create(99, 11), 97, 'Address family not supported by protocol')
    refused(Socket.create(2, 11), 22, 'Invalid argument')
    refused(Socket.create(2, 0), 94, 'Socket type not supported')
    refused(Socket.create(2, Socket.SOCK_RAW), 93, 'Protocol not supported')
    refused(Socket.create(2, Socket.SOCK_SEQPACKET), 94, 'Socket type not supported')
    refused(Socket.create(Number.NaN, 1), 97, 'Address family not supported by protocol')
  })

  test('errno keeps the last error through what succeeds, and strerror takes any other', { skip: !isLinux }, async () => {
    refused(Socket.create(2, 99), 22, 'Invalid argument')
    assert.equal(await stream().bind('127.0.0.1', 0), true)
    assert.equal(Socket.errno, 22)
    assert.equal(Socket.strerror(98), 'Address already in use')
    assert.equal(Socket.strerror(41), 'Unknown error 41')
    assert.equal(Socket.strerror(133.9), 'Memory page has hardware error')
    assert.equal(Socket.strerror(), 'Invalid argument')
    await fatal(() => Socket.strerror(0), 'strerror() argument should be > 0')
    await fatal(() => Socket.strerror(-1), 'strerror() argument should be > 0')
    await fatal(() => Socket.strerror(134), 'strerror() argument should be <= 133')
    await fatal(() => loose(Socket).strerror?.(1, 2), 'strerror() takes either 0 or 1 arguments (2 given)')
  })

  test('every text is the one of this system', { skip: !isLinux || spawnSync('python3', ['-V']).status !== 0 }, () => {
    const script = 'import os\nfor n in range(1, 134): print(os.strerror(n))'
    const { stdout } = spawnSync('python3', ['-c', script], { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } })
    assert.deepEqual(
      Array.from({ length: 133 }, (_, i) => Socket.strerror(i + 1)),
      stdout.trim().split('\n'),
    )
  })

  test('misuse is fatal, with the text of the original', async () => {
    for (const module of [Socket, ResultSocket]) {
      await fatal(() => loose(module).create?.(), 'create() takes 2 arguments (0 given)')
      await fatal(() => loose(module).create?.(1, 2, 3), 'create() takes 2 arguments (3 given)')
      await fatal(() => loose(module).create?.('2', 1), 'create() arguments must be a numbers')
    }
    const result = kept(ResultSocket.create(2, 1).unwrap())
    for (const socket of [loose(stream()), loose(result)]) {
      await fatal(() => socket.bind?.('127.0.0.1'), 'bind() takes 2 arguments (1 given)')
      await fatal(() => socket.bind?.(1, 1), 'host passed to bind() must be a string')
      await fatal(() => socket.bind?.('127.0.0.1', '1'), 'port passed to bind() must be a number')
      await fatal(() => socket.listen?.(1, 2), 'listen() takes 0 or 1 arguments (2 given)')
      await fatal(() => socket.listen?.('1'), 'listen() argument must be a number')
      await fatal(() => socket.accept?.(1), 'accept() takes no arguments (1 given)')
      await fatal(() => socket.connect?.(), 'connect() takes two arguments (0 given)')
      await fatal(() => socket.connect?.(1, 1), 'host passed to bind() must be a string')
      await fatal(() => socket.connect?.('127.0.0.1', null), 'port passed to bind() must be a number')
      await fatal(() => socket.write?.(), 'write() takes 1 argument (0 given)')
      await fatal(() => socket.write?.(5), 'write() argument must be a string')
      await fatal(() => socket.recv?.(), 'recv() takes 1 argument (0 given)')
      await fatal(() => socket.recv?.('5'), 'recv() argument must be a number')
      await fatal(() => socket.close?.(1), 'close() takes no arguments (1 given)')
      await fatal(() => socket.setsockopt?.(1), 'setsocketopt() takes 2 arguments (1 given)')
      await fatal(() => socket.setsockopt?.(1, '2'), 'setsocketopt() arguments must be numbers')
    }
    await fatal(() => loose(stream()).setsocketopt?.(1), 'setsocketopt() takes 2 arguments (1 given)')
    await fatal(() => loose(result).recv?.(-1), 'recv() argument must be greater than 1')
  })
})

describe('dictu: nil and errno', { skip: !isLinux }, () => {
  test('the examples of the documentation', async () => {
    const socket = kept(Socket.create(Socket.AF_INET, Socket.SOCK_STREAM))
    if (!socket.setsockopt(Socket.SOL_SOCKET, Socket.SO_REUSEADDR)) assert.fail(Socket.strerror())
    // The host of the example is a name, which is not looked up.
    refused(await socket.bind('host', 10), 99, 'Cannot assign requested address')
    if (!(await socket.bind('127.0.0.1', 0))) assert.fail(Socket.strerror())
    if (!(await socket.listen())) assert.fail(Socket.strerror())
    const peer = stream()
    assert.equal(await peer.connect('127.0.0.1', portOf(socket)), true)
    const client = await socket.accept()
    if (client === null) assert.fail(Socket.strerror())
    if (!(await client.write('Some Data'))) assert.fail(Socket.strerror())
    assert.equal(await peer.recv(2048), 'Some Data')
    assert.equal(await peer.write('answer'), 6)
    if (!(await client.recv(2048))) assert.fail(Socket.strerror())
    assert.equal(await client.close(), null)
    assert.equal(await socket.close(), null)
  })

  test("the original's own tests: types, bind, setsockopt", async () => {
    for (const value of [Socket.errno, Socket.AF_INET, Socket.SOCK_STREAM, Socket.SOL_SOCKET, Socket.SO_REUSEADDR])
      assert.equal(typeof value, 'number')
    const socket = stream()
    assert.equal(await socket.bind('127.0.0.1', 0), true)
    assert.equal(await socket.bind('aaa', 8080), null)
    assert.equal(stream().setsockopt(Socket.SOL_SOCKET, Socket.SO_REUSEADDR), true)
  })

  test('bind takes an IPv4 address in every old spelling, and no name', async () => {
    for (const host of ['127.0.0.1', '127.1', '0x7f.1', '0177.0.0.01', '2130706433', '127.0.1'])
      assert.equal(await stream().bind(host, 0), true, host)
    for (const host of ['', 'aaa', 'localhost', '127.0.0.1.1', '256.0.0.1', '127.0.0.1 x', '08.0.0.1', '0x', '1..2', '::1', '4294967296'])
      refused(await stream().bind(host, 0), 99, 'Cannot assign requested address')
  })

  test('bind refuses a second bind, an address in use or of another machine, and a port out of range', async () => {
    const socket = stream()
    assert.equal(await socket.bind('127.0.0.1', 0), true)
    refused(await socket.bind('127.0.0.1', 0), 22, 'Invalid argument')
    refused(await stream().bind('127.0.0.1', portOf(socket)), 98, 'Address already in use')
    refused(await stream().bind('192.0.2.1', 0), 99, 'Cannot assign requested address')
    for (const port of [65_536 + 80, -1, Number.NaN, Number.POSITIVE_INFINITY])
      refused(await stream().bind('127.0.0.1', port), 22, 'Invalid argument')
    const { server } = await listening()
    refused(await server.bind('127.0.0.1', 0), 22, 'Invalid argument')
  })

  test('sockets of other families can be made and not bound', async () => {
    for (const type of [Socket.SOCK_STREAM, Socket.SOCK_DGRAM, Socket.SOCK_RAW, Socket.SOCK_SEQPACKET]) kept(Socket.create(1, type))
    for (const type of [Socket.SOCK_STREAM, Socket.SOCK_DGRAM]) kept(Socket.create(10, type))
    refused(Socket.create(10, Socket.SOCK_RAW), 93, 'Protocol not supported')
    refused(await kept(Socket.create(1, 1)).listen(), 22, 'Invalid argument')
    refused(await kept(Socket.create(10, 1)).bind('127.0.0.1', 0), 22, 'Invalid argument')
    refused(await kept(Socket.create(1, 1)).bind('127.0.0.1', 0), 22, 'Invalid argument')
  })

  test('listen works with any backlog, without bind and again', async () => {
    for (const backlog of [0, 1, -1, 1e9]) {
      const socket = stream()
      assert.equal(await socket.bind('127.0.0.1', 0), true)
      assert.equal(await socket.listen(backlog), true)
      await (await dial({ transport: 'tcp', host: '127.0.0.1', port: portOf(socket) })).close()
      kept(await socket.accept())
    }
    const unbound = stream()
    assert.equal(await unbound.listen(), true)
    assert.notEqual(portOf(unbound), 0)
    assert.equal(await unbound.listen(5), true)
    refused(await datagram().listen(), 95, 'Operation not supported')
    const { client } = await pair()
    refused(await client.listen(), 22, 'Invalid argument')
  })

  test('an address is reserved between bind and listen, and nobody who came early is served', async () => {
    const socket = stream()
    assert.equal(await socket.bind('127.0.0.1', 0), true)
    const port = portOf(socket)
    const early = await dial({ transport: 'tcp', host: '127.0.0.1', port })
    assert.equal(await socket.listen(), true)
    assert.equal(portOf(socket), port)
    await assert.rejects(async () => {
      if ((await early.read()) === null) throw new Error('ended')
    })
    const accepting = socket.accept()
    const late = kept(await dial({ transport: 'tcp', host: '127.0.0.1', port }))
    await late.write('late')
    assert.equal(await kept(await accepting).recv(10), 'late')
    early.abort()
  })

  test('accept gives a new socket, which knows the address, or nil', async () => {
    const { client, socket } = await pair()
    assert.equal(socket.address, '127.0.0.1')
    assert.equal(client.address, null)
    refused(await stream().accept(), 22, 'Invalid argument')
    refused(await client.accept(), 22, 'Invalid argument')
    refused(await datagram().accept(), 95, 'Operation not supported')
  })

  test('write counts bytes, and any bytes survive the way there and back', async () => {
    const { client, socket } = await pair()
    assert.equal(await client.write('hé€'), 6)
    assert.equal(await socket.recv(4096), 'hé€')
    assert.equal(await client.write(''), 0)
    const all = Uint8Array.from({ length: 256 }, (_, i) => i)
    assert.equal(await client.write(fromBytes(all)), 256)
    let got = ''
    while (toBytes(got).length < 256) got += await socket.recv(7)
    assert.deepEqual(toBytes(got), all)
  })

  test('recv gives what is there, at most as much as asked for, and cuts characters as they come', async () => {
    const { client, socket } = await pair()
    await client.write('hello')
    assert.equal(await socket.recv(3), 'hel')
    assert.equal(await socket.recv(4096), 'lo')
    assert.equal(await socket.recv(0), '')
    await client.write('hé')
    const cut = (await socket.recv(2)) as string
    assert.deepEqual(toBytes(cut + (await socket.recv(2))), new TextEncoder().encode('hé'))
    refused(await socket.recv(-1), 22, 'Invalid argument')
  })

  test('the end is an empty string again and again, behind what was sent before it', async () => {
    const { client, socket } = await pair()
    await client.write('last words')
    await client.close()
    assert.equal(await socket.recv(4096), 'last words')
    for (let i = 0; i < 3; i++) assert.equal(await socket.recv(4096), '')
    // The other direction is still there.
    assert.equal(await socket.write('x'), 1)
  })

  test('a reset is 104, and writing to a peer that has gone is 32 or 104, not the end of the process', async () => {
    const { client, socket } = await accepted()
    client.abort()
    refused(await socket.recv(10), 104, 'Connection reset by peer')
    assert.equal(await socket.write('x'), null)
    assert.ok([32, 104].includes(Socket.errno))
    refused(await stream().write('x'), 32, 'Broken pipe')
    refused(await stream().recv(1), 107, 'Transport endpoint is not connected')
    const { server } = await listening()
    refused(await server.write('x'), 32, 'Broken pipe')
    refused(await server.recv(1), 107, 'Transport endpoint is not connected')
  })

  test('a large write arrives whole while the peer reads', async () => {
    const { client, socket } = await pair()
    const size = 4 * 1024 * 1024
    const writing = client.write('x'.repeat(size)).then(async (count) => {
      await client.close()
      return count
    })
    let got = 0
    for (let part = await socket.recv(65_536); part !== ''; part = await socket.recv(65_536)) got += (part as string).length
    assert.equal(got, size)
    assert.equal(await writing, size)
  })

  test('after close everything is 9, and closing again does nothing', async () => {
    const { client, socket } = await pair()
    assert.equal(await socket.close(), null)
    assert.equal(await socket.close(), null)
    for (const call of [
      () => socket.recv(1),
      () => socket.write('x'),
      () => socket.accept(),
      () => socket.listen(),
      () => socket.bind('127.0.0.1', 0),
      () => socket.connect('127.0.0.1', 1),
      () => socket.setsockopt(1, 2),
    ])
      refused(await call(), 9, 'Bad file descriptor')
    assert.equal(await client.recv(1), '')
  })

  test('close wakes accept and recv with 9', async () => {
    const { server } = await listening()
    const accepting = server.accept()
    const { socket } = await pair()
    const receiving = socket.recv(1)
    await Promise.all([server.close(), socket.close()])
    assert.equal(await accepting, null)
    assert.equal(await receiving, null)
    assert.equal(Socket.errno, 9)
  })

  test('close ends what is being opened, with 9', async () => {
    const { port } = await listening()
    for (const begin of [
      (socket: SocketObject) => socket.connect('127.0.0.1', port),
      (socket: SocketObject) => socket.bind('127.0.0.1', 0),
      (socket: SocketObject) => socket.listen(),
    ]) {
      const socket = stream()
      const opening = begin(socket)
      await socket.close()
      refused(await opening, 9, 'Bad file descriptor')
    }
  })

  test('several calls at once get their turn in order', async () => {
    const { client, socket } = await pair()
    const parts = [socket.recv(1), socket.recv(1), socket.recv(1), socket.recv(10)]
    await Promise.all([client.write('ab'), client.write('c'), client.write('def')])
    const got = await Promise.all(parts)
    assert.equal(got.join(''), 'abcdef'.slice(0, got.join('').length))
    const fresh = stream()
    const calls = await Promise.all([fresh.bind('127.0.0.1', 0), fresh.listen(1), fresh.bind('127.0.0.1', 0)])
    assert.deepEqual(calls, [true, true, null])
  })

  test('setsockopt and its other spelling', async () => {
    const socket = stream()
    assert.equal(socket.setsockopt(Socket.SOL_SOCKET, Socket.SO_REUSEADDR), true)
    assert.equal(socket.setsocketopt(Socket.SOL_SOCKET, Socket.SO_BROADCAST), true)
    refused(socket.setsockopt(Socket.SOL_SOCKET, 999), 92, 'Protocol not available')
    refused(socket.setsockopt(77, 1), 92, 'Protocol not available')
    assert.equal(socket.setsockopt(6, 1, 0), true)
    assert.equal(socket.setsockopt(Socket.SOL_SOCKET, 9), true)
    const listener = await listenAt('tcp://127.0.0.1:0')
    kept(listener)
    assert.equal(await socket.connect('127.0.0.1', Number(new URL(listener.endpoint).port)), true)
    const beneath = socket.beneath as Connection
    assert.equal(beneath.get('noDelay'), false)
    assert.equal(socket.setsockopt(6, 1), true)
    assert.equal(beneath.get('noDelay'), true)
    refused(socket.setsockopt(77, 1), 92, 'Protocol not available')
    refused(datagram().setsockopt(6, 1), 92, 'Protocol not available')
  })

  test('connect tells why it fails', async () => {
    const { server, port } = await listening()
    const client = stream()
    for (const host of ['localhost', '', 'example.com']) refused(await client.connect(host, port), 101, 'Network is unreachable')
    refused(await client.connect('127.0.0.1', 0), 111, 'Connection refused')
    refused(await client.connect('127.0.0.1', 65_536 + port), 22, 'Invalid argument')
    await server.close()
    refused(await client.connect('127.0.0.1', port), 111, 'Connection refused')
    const other = await listening()
    assert.equal(await client.connect('0x7f.1', other.port), true)
    refused(await client.connect('127.0.0.1', other.port), 106, 'Transport endpoint is already connected')
    refused(await other.server.connect('127.0.0.1', other.port), 106, 'Transport endpoint is already connected')
  })

  test('a socket that was bound connects from its address', async () => {
    const { server, port } = await listening()
    const client = stream()
    assert.equal(await client.bind('127.0.0.2', 0), true)
    const own = portOf(client)
    assert.equal(await client.connect('127.0.0.1', port), true)
    assert.equal(kept(await server.accept()).address, '127.0.0.2')
    assert.equal(portOf(client), own)
  })

  test('SO_REUSEADDR lets datagram sockets share a port, if it is set before bind', async () => {
    const [first, second, third] = [datagram(), datagram(), datagram()]
    for (const socket of [first, second]) assert.equal(socket.setsockopt(Socket.SOL_SOCKET, Socket.SO_REUSEADDR), true)
    assert.equal(await first.bind('127.0.0.1', 0), true)
    assert.equal(await second.bind('127.0.0.1', portOf(first)), true)
    refused(await third.bind('127.0.0.1', portOf(first)), 98, 'Address already in use')
  })

  test('datagrams: bound ones receive, connected ones send', async () => {
    const receiver = datagram()
    assert.equal(receiver.setsockopt(Socket.SOL_SOCKET, Socket.SO_BROADCAST), true)
    assert.equal(await receiver.bind('127.0.0.1', 0), true)
    assert.equal(receiver.setsockopt(Socket.SOL_SOCKET, Socket.SO_REUSEADDR), true)
    refused(await receiver.write('x'), 89, 'Destination address required')
    const sender = datagram()
    refused(await sender.recv(1), 107, 'Transport endpoint is not connected')
    assert.equal(await sender.connect('127.0.0.1', portOf(receiver)), true)
    assert.equal(await sender.write('one datagram'), 12)
    assert.equal(await receiver.recv(3), 'one')
    assert.equal(await sender.write('the next'), 8)
    assert.equal(await receiver.recv(4096), 'the next')
    refused(await sender.write('x'.repeat(70_000)), 90, 'Message too long')
    // Connecting keeps the address, and what has come before.
    assert.equal(await sender.write('early'), 5)
    assert.equal(await sender.write('as early'), 8)
    const port = portOf(receiver)
    assert.equal(await receiver.connect('127.0.0.1', portOf(sender)), true)
    assert.equal(portOf(receiver), port)
    assert.equal(await receiver.recv(4096), 'early')
    assert.equal(await receiver.recv(4096), 'as early')
    assert.equal(await receiver.write('answer'), 6)
    assert.equal(await sender.recv(4096), 'answer')
  })

  // Deno does not report it.
  test('a datagram that nobody receives is 111', { skip: 'Deno' in globalThis }, async () => {
    const [receiver, sender] = [datagram(), datagram()]
    assert.equal(await receiver.bind('127.0.0.1', 0), true)
    assert.equal(await sender.connect('127.0.0.1', portOf(receiver)), true)
    await receiver.close()
    assert.equal(await sender.write('anybody?'), 8)
    refused(await sender.recv(1), 111, 'Connection refused')
  })
})

describe('dictu: results', { skip: !isLinux }, () => {
  const fresh = (): ResultSocketObject => kept(ResultSocket.create(ResultSocket.AF_INET, ResultSocket.SOCK_STREAM).unwrap())

  test('a Result has a value or the text of an error', async () => {
    const good = Result.suc(2)
    const bad = Result.err<number>('no')
    assert.deepEqual([String(good), String(bad)], ['<Result Suc>', '<Result Err>'])
    assert.deepEqual([good.success(), bad.success()], [true, false])
    assert.equal(good.unwrap(), 2)
    assert.equal(bad.unwrapError(), 'no')
    await fatal(() => bad.unwrap(), "Attempted unwrap() on an error Result value 'no'")
    await fatal(() => good.unwrapError(), 'Attempted unwrapError() on a success Result value')
    const both = (result: Result<number>) =>
      result.match(
        (value) => value + 1,
        (text) => `${text}!`,
      )
    assert.deepEqual([both(good), both(bad)], [3, 'no!'])
    const wrapped = good.matchWrap(
      (value) => value * 2,
      () => 'none',
    )
    assert.equal(wrapped.unwrap(), 4)
    const same = bad.matchWrap(
      (value) => value,
      (text) => `${text}?`,
    )
    assert.equal(same.unwrapError(), 'no?')
    // What is a Result already is wrapped as well, as there.
    const nested = good.matchWrap(
      () => bad,
      (text) => text,
    )
    assert.equal(nested.unwrap(), bad)
    assert.deepEqual([good.matchError(() => 0), bad.matchError(() => 0)], [2, 0])
  })

  test('every call gives a Result, but for close', async () => {
    const server = fresh()
    assert.equal(server.setsockopt(ResultSocket.SOL_SOCKET, ResultSocket.SO_REUSEADDR).unwrap(), null)
    assert.equal((await server.bind('127.0.0.1', 0)).unwrap(), null)
    assert.equal((await server.bind('127.0.0.1', 0)).unwrapError(), 'Invalid argument')
    assert.equal((await server.accept()).unwrapError(), 'Invalid argument')
    assert.equal((await server.listen()).unwrap(), null)
    const client = fresh()
    assert.equal((await client.write('x')).unwrapError(), 'Broken pipe')
    assert.equal((await client.recv(1)).unwrapError(), 'Transport endpoint is not connected')
    assert.equal((await client.connect('127.0.0.1', portOf(server))).unwrap(), null)
    assert.equal((await client.connect('127.0.0.1', portOf(server))).unwrapError(), 'Transport endpoint is already connected')
    const [socket, address] = (await server.accept()).unwrap()
    kept(socket)
    assert.equal(address, '127.0.0.1')
    assert.equal((await client.write('hé€')).unwrap(), 6)
    assert.equal((await socket.recv(4096)).unwrap(), 'hé€')
    assert.equal((await socket.recv(0)).unwrap(), '')
    assert.equal(await client.close(), null)
    assert.equal((await client.recv(1)).unwrapError(), 'Bad file descriptor')
    assert.equal((await socket.recv(1)).unwrap(), '')
    assert.equal(client.setsockopt(1, 2).unwrapError(), 'Bad file descriptor')
    assert.equal(fresh().setsockopt(1, 999).unwrapError(), 'Protocol not available')
    assert.equal(ResultSocket.create(2, 3).unwrapError(), 'Protocol not supported')
    assert.equal(String(socket), '<Socket>')
  })
})

describe('dictu: the reverse proxy of the documentation', { skip: !isLinux || spawnSync('socat', ['-V']).status !== 0 }, () => {
  test('relays a client of socat to an echo server of socat', async (t) => {
    const backend = await listenAt('tcp://127.0.0.1:0')
    const backendPort = new URL(backend.endpoint).port
    await backend.close()
    const echo = spawn('socat', ['-d', '-d', `TCP-LISTEN:${backendPort},bind=127.0.0.1,reuseaddr`, 'EXEC:cat'], { stdio: 'pipe' })
    t.after(() => stop(echo))
    await once(echo.stderr, 'data')

    const server = stream()
    server.setsockopt(Socket.SOL_SOCKET, Socket.SO_REUSEADDR)
    await server.bind('127.0.0.1', 0)
    await server.listen()
    const visitor = spawn('socat', ['-', `TCP:127.0.0.1:${portOf(server)}`], { stdio: 'pipe' })
    t.after(() => stop(visitor))
    visitor.stdin.write('through the proxy\n')

    const client = kept(await server.accept())
    const target = stream()
    assert.equal(await target.connect('127.0.0.1', Number(backendPort)), true)
    await target.write((await client.recv(2048)) as string)
    await client.write((await target.recv(2048)) as string)
    assert.equal(String((await once(visitor.stdout, 'data'))[0]), 'through the proxy\n')
    visitor.stdin.end()
    assert.equal(await client.recv(2048), '')
  })
})

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill()
  await once(child, 'exit')
}

describe('dictu: the table of docs/dialects/dictu.md', () => {
  test('has every function, and no other', () => {
    const page = readFileSync(new URL('../../../docs/dialects/dictu.md', import.meta.url), 'utf8')
    const told = new Set([...page.matchAll(/^\| `(?:Socket|socket|result)\.(\w+)\b[^`]*`/gm)].map(([, name]) => name as string))
    const methods = (value: object): string[] =>
      Object.getOwnPropertyNames(Object.getPrototypeOf(value)).filter((name) => name !== 'constructor' && name !== 'toString')
    const socket = Socket.create(2, 1) as SocketObject
    const made = new Set([
      ...Object.keys(Socket),
      ...methods(socket),
      ...methods(ResultSocket.create(2, 1).unwrap()),
      ...methods(Result.suc(1)),
    ])
    assert.deepEqual([...told].sort(), [...made].sort())
    for (const [row] of page.matchAll(/^\| `(?:Socket|socket|result)\..*$/gm)) assert.match(row, /\| (?:yes|differs|new) +\|/)
  })
})
