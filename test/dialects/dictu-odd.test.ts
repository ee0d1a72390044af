/** Dictu's sockets where programs are odd: arguments, moments, several calls at once, peers that go. */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { describe, test } from 'node:test'
import type { Connection, DatagramSocket, Listener } from 'fairlead'
import { fromBytes, Result, ResultSocket, Socket, type SocketObject, toBytes } from 'fairlead/dictu'
import { Random, settle } from 'fairlead/testing'
import { collect } from '../support/garbage.js'
import { hasIpv6 } from '../support/ipv6.js'
import { descriptors, pattern, until } from '../support/pairs.js'
import { accepted, datagram, fatal, isLinux, kept, listening, loose, pair, portOf, refused, stream } from './dictu-sockets.js'

const REFUSED = 'Connection refused'
const isNode = !('bun' in process.versions) && !('Deno' in globalThis)
/** Bun and Deno tell of a broadcast that is not allowed as something else, or later. */
const tellsBroadcasts = { skip: !isNode }
const driverOf = (socket: SocketObject): string => (socket.beneath as Connection | Listener | DatagramSocket).driver

describe('dictu: strings of bytes', () => {
  const samples: Uint8Array[] = [
    new TextEncoder().encode('aé€😀\u0000\ufeffz\u{1f480}'),
    Uint8Array.of(0xff, 0xc3, 0x28, 0xa9, 0xe2, 0x82, 0x41, 0xf0, 0x9f, 0x98),
    // An overlong form, half a pair, and a character beyond the last.
    Uint8Array.of(0xc0, 0x80, 0xed, 0xb2, 0x80, 0xf4, 0x90, 0x80, 0x80),
  ]

  test('any bytes are the same again, whole and cut anywhere', () => {
    const random = new Random(4)
    const many = Array.from({ length: 200 }, () => random.bytes(40))
    for (const bytes of [...samples, ...many]) {
      assert.deepEqual(toBytes(fromBytes(bytes)), bytes)
      for (let at = 0; at <= bytes.length; at++)
        assert.deepEqual(toBytes(fromBytes(bytes.subarray(0, at)) + fromBytes(bytes.subarray(at))), bytes)
    }
    const long = pattern(100_000)
    assert.deepEqual(toBytes(fromBytes(long)), long)
  })

  test('text is UTF-8, half a pair the replacement character', () => {
    const texts = [
      '',
      'plain',
      'é€😀\u{1f480}',
      '\ud800',
      'a\udbff',
      '\udfff',
      '\ud800\ud800\udc00',
      '\u07ff\u0800\uffff\u{10000}\u{10ffff}',
    ]
    for (const text of texts) {
      assert.deepEqual(toBytes(text), new TextEncoder().encode(text))
      // Beside an escape it goes the slow way.
      assert.deepEqual(toBytes(`\udcff${text}`), Uint8Array.of(0xff, ...new TextEncoder().encode(text)))
    }
    assert.equal(fromBytes(Uint8Array.of(0x68, 0xc3)), 'h\udcc3')
    assert.equal(fromBytes(Uint8Array.of(0xff, 0xf0, 0x9f, 0x92, 0x80)), '\udcff\u{1f480}')
  })

  test('characters survive the wire cut at every offset, also passed on piece by piece', { skip: !isLinux }, async () => {
    const [first, second] = [await pair(), await pair()]
    for (const bytes of samples) {
      for (let at = 1; at < bytes.length; at++) {
        assert.equal(await first.client.write(fromBytes(bytes)), bytes.length)
        const relay = async (size: number): Promise<string> => {
          let got = ''
          for (let left = size; left > 0; left = size - toBytes(got).length) got += (await first.socket.recv(left)) as string
          assert.equal(await second.client.write(got), size)
          return got
        }
        assert.deepEqual(toBytes((await relay(at)) + (await relay(bytes.length - at))), bytes)
        let got = ''
        while (toBytes(got).length < bytes.length) got += (await second.socket.recv(bytes.length)) as string
        assert.deepEqual(toBytes(got), bytes)
      }
    }
  })
})

describe('dictu: odd programs', { skip: !isLinux }, () => {
  test('misuse is thrown, and leaves errno and the socket as they were', async () => {
    const { client, socket } = await pair()
    refused(Socket.create(2, 99), 22, 'Invalid argument')
    const odd = loose(client)
    for (const [name, args] of Object.entries({ write: [5], recv: ['5'], accept: [1], listen: ['1'], bind: [1], connect: [1], close: [1] }))
      await assert.rejects(async () => odd[name]?.(...args), { name: 'FatalError' })
    assert.throws(() => odd['setsockopt']?.(), { name: 'FatalError' })
    assert.equal(Socket.errno, 22)
    assert.equal(await client.write('still here'), 10)
    assert.equal(await socket.recv(100), 'still here')
  })

  test('one style knows nothing of the errors of the other', async () => {
    refused(Socket.create(2, 99), 22, 'Invalid argument')
    const other = kept(ResultSocket.create(2, 1).unwrap())
    assert.equal((await other.connect('127.0.0.1', 0)).unwrapError(), REFUSED)
    assert.equal(Socket.errno, 22)
  })

  test('options by numbers that no option has are 92, at any moment', async () => {
    const { client, socket } = await pair()
    const { server } = await listening()
    const reserved = stream()
    await reserved.bind('127.0.0.1', 0)
    const bound = datagram()
    await bound.bind('127.0.0.1', 0)
    for (const any of [stream(), reserved, server, client, socket, datagram(), bound]) {
      for (const [level, option] of [
        [-1, 1],
        [1, -1],
        [77, 1],
        [1, 999],
        [Number.NaN, 1],
        [1, 2 ** 31],
      ] as const)
        refused(any.setsockopt(level, option), 92, 'Protocol not available')
    }
  })

  test('an option by its number is set where the driver can, and 92 elsewhere', async () => {
    const { client } = await pair()
    const [IPPROTO_IP, IP_TTL, SO_TIMESTAMP] = [0, 2, 29]
    const beneath = client.beneath as Connection
    if (beneath.driver !== 'kernel') return refused(client.setsockopt(IPPROTO_IP, IP_TTL, 77), 92, 'Protocol not available')
    assert.equal(client.setsockopt(IPPROTO_IP, IP_TTL, 77), true)
    assert.equal(beneath.get('ttl'), 77)
    refused(client.setsockopt(IPPROTO_IP, IP_TTL, 1000), 22, 'Invalid argument')
    assert.equal(client.setsockopt(Socket.SOL_SOCKET, SO_TIMESTAMP), true)
    assert.equal(client.setsockopt(Socket.SOL_SOCKET, Socket.SO_REUSEADDR, 0), true)
  })

  test('the size of a buffer may be any number, as the system has it', async () => {
    const [SO_SNDBUF, SO_RCVBUF] = [7, 8]
    for (const value of [0, 1, -1, 2 ** 31 - 1, 65_536]) {
      const [unbound, bound] = [datagram(), datagram()]
      assert.equal(await bound.bind('127.0.0.1', 0), true)
      for (const socket of [unbound, bound]) {
        for (const option of [SO_SNDBUF, SO_RCVBUF]) assert.equal(socket.setsockopt(Socket.SOL_SOCKET, option, value), true)
      }
      assert.equal(await unbound.bind('127.0.0.1', 0), true)
      if (value !== 65_536) continue
      for (const { beneath } of [unbound, bound]) assert.ok((beneath as DatagramSocket).get('sendBuffer') >= value)
    }
    const socket = stream()
    const can = socket.setsockopt(Socket.SOL_SOCKET, SO_SNDBUF, 0) === true
    assert.equal(await socket.bind('127.0.0.1', 0), true)
    assert.equal(can, driverOf(socket) === 'kernel')
  })

  test('SO_REUSEPORT lets streams share a port where the driver can', async () => {
    const [first, second] = [stream(), stream()]
    const can = [first, second].map((socket) => socket.setsockopt(Socket.SOL_SOCKET, 15))
    assert.equal(await first.bind('127.0.0.1', 0), true)
    assert.equal(await first.listen(), true)
    if (driverOf(first) === 'kernel') assert.deepEqual(can, [true, true])
    assert.equal(await second.bind('127.0.0.1', portOf(first)), can[0])
  })

  test('SO_BROADCAST lets a datagram socket connect to a broadcast address', tellsBroadcasts, async () => {
    const socket = datagram()
    refused(await socket.connect('127.255.255.255', 9), 13, 'Permission denied')
    assert.equal(socket.setsockopt(Socket.SOL_SOCKET, Socket.SO_BROADCAST), true)
    assert.equal(await socket.connect('127.255.255.255', 9), true)
    assert.equal(await socket.write('to all'), 6)
  })

  test('a refused connect leaves a datagram socket its address and its peer', tellsBroadcasts, async () => {
    const [bound, other] = [datagram(), datagram()]
    assert.equal(await bound.bind('127.0.0.1', 0), true)
    assert.equal(await other.connect('127.0.0.1', portOf(bound)), true)
    const [port, ownPort] = [portOf(bound), portOf(other)]
    assert.equal(await other.write('before'), 6)
    refused(await bound.connect('127.255.255.255', 9), 13, 'Permission denied')
    refused(await other.connect('127.255.255.255', 9), 13, 'Permission denied')
    for (const socket of [bound, other]) {
      refused(await socket.connect('127.0.0.1', 0), 22, 'Invalid argument')
      refused(await socket.connect('localhost', 9), 101, 'Network is unreachable')
      refused(await socket.connect('127.0.0.1', 65_536), 22, 'Invalid argument')
      refused(await socket.bind('127.0.0.1', 0), 22, 'Invalid argument')
    }
    assert.deepEqual([portOf(bound), portOf(other)], [port, ownPort])
    refused(await bound.write('x'), 89, 'Destination address required')
    assert.equal(await bound.recv(100), 'before')
    assert.equal(await other.write('behind'), 6)
    assert.equal(await bound.recv(100), 'behind')
  })

  test('a datagram socket connected again keeps its port', async () => {
    const [first, second, sender] = [datagram(), datagram(), datagram()]
    for (const socket of [first, second]) assert.equal(await socket.bind('127.0.0.1', 0), true)
    assert.equal(await sender.connect('127.0.0.1', portOf(first)), true)
    const port = portOf(sender)
    assert.equal(await sender.write('one'), 3)
    assert.equal(await sender.connect('127.0.0.1', portOf(second)), true)
    assert.equal(portOf(sender), port)
    assert.equal(await sender.write('two'), 3)
    assert.deepEqual([await first.recv(9), await second.recv(9)], ['one', 'two'])
  })

  test('an empty datagram is one', async () => {
    const [receiver, sender] = [datagram(), datagram()]
    assert.equal(await receiver.bind('127.0.0.1', 0), true)
    assert.equal(await sender.connect('127.0.0.1', portOf(receiver)), true)
    assert.equal(await sender.write(''), 0)
    assert.equal(await sender.write('x'), 1)
    assert.deepEqual([await receiver.recv(9), await receiver.recv(9)], ['', 'x'])
  })

  test('a stream whose connect was refused can be bound, can connect and can listen', async () => {
    const { server, port } = await listening()
    await server.close()
    const socket = stream()
    assert.equal(await socket.bind('127.0.0.1', 0), true)
    const own = portOf(socket)
    refused(await socket.connect('127.0.0.1', port), 111, REFUSED)
    refused(await socket.bind('127.0.0.1', 0), 22, 'Invalid argument')
    assert.equal(await socket.listen(), true)
    assert.equal(portOf(socket), own)
    const fresh = stream()
    refused(await fresh.connect('127.0.0.1', port), 111, REFUSED)
    assert.equal(await fresh.bind('127.0.0.1', 0), true)
    assert.equal(await fresh.connect('127.0.0.1', own), true)
  })

  test('a stream does not connect to itself', async () => {
    const socket = stream()
    assert.equal(await socket.bind('127.0.0.1', 0), true)
    refused(await socket.connect('127.0.0.1', portOf(socket)), 111, REFUSED)
  })

  test('a listening socket of the other family takes clients of this one, and tells their address', { skip: !hasIpv6 }, async () => {
    const server = kept(Socket.create(10, Socket.SOCK_STREAM))
    assert.equal(await server.listen(), true)
    const client = stream()
    assert.equal(await client.connect('127.0.0.1', portOf(server)), true)
    assert.equal(kept(await server.accept()).address, '127.0.0.1')
  })

  test('sizes of recv are whole numbers of 32 bits', async () => {
    const { client, socket } = await pair()
    await client.write('abcdef')
    assert.equal(await socket.recv(1.9), 'a')
    for (const size of [0, 0.5, -0, -0.9]) assert.equal(await socket.recv(size), '')
    for (const size of [-1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31, 1e12]) refused(await socket.recv(size), 22, 'Invalid argument')
    assert.equal(await socket.recv(2 ** 31 - 1), 'bcdef')
  })
})

describe('dictu: several calls at once', { skip: !isLinux }, () => {
  /** Three loops that receive one byte at a time: who got which. */
  async function shared(socket: SocketObject, send: () => Promise<unknown>): Promise<string> {
    const got: string[] = []
    const loop = async (name: string): Promise<void> => {
      for (let i = 0; i < 3; i++) got.push(name + (await socket.recv(1)))
    }
    const loops = [loop('a'), loop('b'), loop('c')]
    await send()
    await Promise.all(loops)
    return got.join(' ')
  }

  test('loops that receive from one stream take turns', async () => {
    const { client, socket } = await pair()
    assert.equal(await shared(socket, () => client.write('123456789')), 'a1 b2 c3 a4 b5 c6 a7 b8 c9')
  })

  test('loops that receive from one datagram socket take turns', async () => {
    const [receiver, sender] = [datagram(), datagram()]
    await receiver.bind('127.0.0.1', 0)
    await sender.connect('127.0.0.1', portOf(receiver))
    const send = async (): Promise<void> => {
      for (const digit of '123456789') await sender.write(digit)
    }
    assert.equal(await shared(receiver, send), 'a1 b2 c3 a4 b5 c6 a7 b8 c9')
  })

  test('what is called before a socket is open waits for it', async () => {
    const { server, port } = await listening()
    const client = stream()
    const calls = [client.connect('127.0.0.1', port), client.write('first'), client.write(' words'), client.recv(5)]
    const socket = kept(await server.accept())
    let got = ''
    while (got.length < 11) got += (await socket.recv(100)) as string
    assert.equal(got, 'first words')
    await socket.write('reply')
    assert.deepEqual(await Promise.all(calls), [true, 5, 6, 'reply'])
    const other = stream()
    const opened = [other.bind('127.0.0.1', 0), other.listen(), other.accept()]
    assert.equal(await opened[1], true)
    await stream().connect('127.0.0.1', portOf(other))
    kept((await opened[2]) as SocketObject)
  })

  test('a connect disturbs nobody who waits for a datagram', tellsBroadcasts, async () => {
    const [receiver, sender] = [datagram(), datagram()]
    await receiver.bind('127.0.0.1', 0)
    await sender.bind('127.0.0.1', 0)
    const waiting = [receiver.recv(10), receiver.recv(10), receiver.recv(10)]
    await sender.connect('127.0.0.1', portOf(receiver))
    await sender.write('before')
    assert.equal(await waiting[0], 'before')
    assert.equal(await receiver.connect('127.0.0.1', portOf(sender)), true)
    await sender.write('behind')
    assert.equal(await waiting[1], 'behind')
    refused(await receiver.connect('127.255.255.255', 9), 13, 'Permission denied')
    await sender.write('last')
    assert.equal(await waiting[2], 'last')
  })

  test('what waits behind a connect that is refused is not connected', async () => {
    const { server, port } = await listening()
    await server.close()
    const client = stream()
    assert.deepEqual(await Promise.all([client.connect('127.0.0.1', port), client.write('x'), client.recv(1)]), [null, null, null])
    refused(await client.recv(1), 107, 'Transport endpoint is not connected')
  })

  test('clients that wait are accepted once each, by calls that wait and calls that come later', async () => {
    const { server, port } = await listening()
    const early = [server.accept(), server.accept()]
    const clients = await Promise.all(
      Array.from({ length: 60 }, async (_, i) => {
        const client = stream()
        assert.equal(await client.connect('127.0.0.1', port), true)
        assert.equal(await client.write(`${i}`), `${i}`.length)
        return client
      }),
    )
    const sockets = await Promise.all([...early, ...Array.from({ length: 58 }, () => server.accept())])
    const told = await Promise.all(sockets.map((socket) => kept(socket).recv(10)))
    assert.deepEqual(
      told.map(Number).sort((a, b) => a - b),
      Array.from({ length: 60 }, (_, i) => i),
    )
    await Promise.all(clients.map((client) => client.close()))
    assert.deepEqual(
      await Promise.all(sockets.map((socket) => socket?.recv(10))),
      sockets.map(() => ''),
    )
  })

  test('close gives 9 to every call that waits', async () => {
    const { server } = await listening()
    const { socket } = await pair()
    const bound = datagram()
    await bound.bind('127.0.0.1', 0)
    const calls = [server.accept(), server.accept(), socket.recv(1), socket.recv(0), socket.recv(1), bound.recv(1), bound.recv(1)]
    refused(Socket.create(2, 99), 22, 'Invalid argument')
    await Promise.all([server.close(), socket.close(), bound.close()])
    assert.deepEqual(
      await Promise.all(calls),
      calls.map(() => null),
    )
    assert.equal(Socket.errno, 9)
  })
})

describe('dictu: peers that go', { skip: !isLinux }, () => {
  const MORE_THAN_FITS = 'x'.repeat(32 * 1024 * 1024)

  test('a write cut short by close gives the bytes that went out, and what waits behind it 9', async () => {
    const { client, socket } = await pair()
    const writes = [client.write(MORE_THAN_FITS), client.write('y')]
    await settle(3)
    const closing = client.close()
    const [count, behind] = await Promise.all(writes)
    assert.ok((count as number) > 0 && (count as number) < MORE_THAN_FITS.length)
    refused(behind, 9, 'Bad file descriptor')
    ;(socket.beneath as Connection).abort()
    await closing
  })

  test('a write cut short by a reset gives the bytes that went out, and the next one fails', async () => {
    const { client, socket } = await accepted()
    const writing = socket.write(MORE_THAN_FITS)
    await client.read()
    client.abort()
    const count = await writing
    assert.ok(count !== null && count > 0 && count < MORE_THAN_FITS.length)
    assert.equal(await socket.write('x'), null)
    assert.ok([32, 104].includes(Socket.errno))
  })

  test('what came before a reset is received before it is told, each time', async () => {
    const { client, socket } = await accepted()
    await client.write('last words')
    assert.equal(await socket.recv(4), 'last')
    client.abort()
    let got = ''
    for (let part = await socket.recv(4); part !== null; part = await socket.recv(4)) got += part
    assert.ok(' words'.startsWith(got))
    for (let i = 0; i < 2; i++) refused(await socket.recv(4), 104, 'Connection reset by peer')
  })

  test('sockets that nobody has any more are closed', { skip: !isNode }, async () => {
    const client = stream()
    // Those of the tests before this one are to be gone.
    for (let i = 0; i < 3; i++) {
      collect()
      await settle(3)
    }
    const before = descriptors() as number
    const drop = async (): Promise<void> => {
      const server = Socket.create(2, 1) as SocketObject
      await server.bind('127.0.0.1', 0)
      await server.listen()
      assert.equal(await client.connect('127.0.0.1', portOf(server)), true)
      await server.accept()
      for (const type of [Socket.SOCK_STREAM, Socket.SOCK_DGRAM]) await (Socket.create(2, type) as SocketObject).bind('127.0.0.1', 0)
      assert.equal(descriptors(), before + 5)
    }
    await drop()
    await until('they are closed', () => {
      collect()
      return descriptors() === before + 1
    })
    assert.equal(await client.recv(1), '')
  })

  test('a socket that nobody has but a call that waits stays open', { skip: !isNode }, async () => {
    const { server, port } = await listening()
    const client = stream()
    const waiting = (async () => {
      const socket = await server.accept()
      const got = await socket?.recv(10)
      await socket?.close()
      return got
    })()
    await client.connect('127.0.0.1', port)
    for (let i = 0; i < 3; i++) {
      collect()
      await settle(3)
    }
    await client.write('found')
    assert.equal(await waiting, 'found')
  })
})

describe('dictu: the end of a program', { skip: !isLinux || 'Deno' in globalThis }, () => {
  /** What a program in a process of its own says until it ends, which it must by itself; each line of it is told. */
  async function run(program: string, told: (line: string) => unknown = () => {}): Promise<string> {
    const script = `import { Socket } from 'fairlead/dictu'\nconst portOf = (socket) => socket.beneath.local.port\n${program}`
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'], timeout: 60_000 })
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (text.endsWith('\n')) void told(text.trim())
    })
    const [code] = await once(child, 'close')
    assert.equal(code, 0)
    return said
  }

  test('sockets that nobody waits for do not put it off', async () => {
    const program = `
      globalThis.kept = Array.from({ length: 4 }, (_, i) => Socket.create(Socket.AF_INET, i < 2 ? Socket.SOCK_STREAM : Socket.SOCK_DGRAM))
      const [server, reserved, receiver, sender] = kept
      for (const socket of [server, reserved, receiver]) await socket.bind('127.0.0.1', 0)
      await server.listen()
      const client = Socket.create(Socket.AF_INET, Socket.SOCK_STREAM)
      await client.connect('127.0.0.1', portOf(server))
      await Promise.all([(await server.accept()).close(), client.close()])
      await sender.connect('127.0.0.1', portOf(receiver))
      await sender.write('datagram')
      console.log(await receiver.recv(100))`
    assert.equal(await run(program), 'datagram\n')
  })

  test('a call that waits does', async () => {
    const streams = `
      const server = Socket.create(Socket.AF_INET, Socket.SOCK_STREAM)
      await server.bind('127.0.0.1', 0)
      await server.listen()
      console.log(portOf(server))
      const socket = await server.accept()
      console.log(await socket.recv(100))
      await socket.close()`
    const said = await run(streams, async (line) => {
      if (!/^\d+$/.test(line)) return
      const client = stream()
      await client.connect('127.0.0.1', Number(line))
      await client.write('waited for')
    })
    assert.match(said, /^\d+\nwaited for\n$/)
    const datagrams = `
      const socket = Socket.create(Socket.AF_INET, Socket.SOCK_DGRAM)
      await socket.bind('127.0.0.1', 0)
      console.log(portOf(socket))
      console.log(await socket.recv(100))`
    const heard = await run(datagrams, async (line) => {
      if (!/^\d+$/.test(line)) return
      const sender = datagram()
      await sender.connect('127.0.0.1', Number(line))
      await sender.write('waited for')
    })
    assert.match(heard, /^\d+\nwaited for\n$/)
  })
})

describe('dictu: misuse of a Result', () => {
  test('is fatal, with the text of the original', async () => {
    const good = loose(Result.suc(1))
    const bad = loose(Result.err('no'))
    const keep = (value: unknown): unknown => value
    await fatal(() => good['success']?.(1), 'success() takes no arguments (1 given)')
    await fatal(() => good['unwrap']?.(1, 2), 'unwrap() takes no arguments (2 given)')
    await fatal(() => bad['unwrapError']?.(1), 'unwrapError() takes no arguments (1 given)')
    // The Result counts: these are functions of the language.
    await fatal(() => good['match']?.(keep), "Function 'match' expected 3 argument(s) but got 2.")
    await fatal(() => good['matchWrap']?.(keep, keep, keep), "Function 'matchWrap' expected 3 argument(s) but got 4.")
    await fatal(() => good['matchError']?.(), "Function 'matchError' expected 2 argument(s) but got 1.")
    await fatal(() => good['match']?.(5, keep), "'number' is not callable")
    await fatal(() => bad['matchWrap']?.(keep, 'x'), "'string' is not callable")
    await fatal(() => bad['matchError']?.(null), "'nil' is not callable")
    // Only the one that applies is called.
    assert.equal(good['match']?.(keep, null), 1)
    assert.equal(good['matchError']?.(null), 1)
  })

  test('what a callback throws comes out', () => {
    const boom = (): never => {
      throw new RangeError('boom')
    }
    assert.throws(() => Result.suc(1).match(boom, boom), { message: 'boom' })
    assert.throws(() => Result.err('no').matchWrap(boom, boom), { message: 'boom' })
    assert.throws(() => Result.err('no').matchError(boom), { message: 'boom' })
  })
})
