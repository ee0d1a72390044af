/** What goes over the sockets of the efuns: text, bytes and values, flow control, ends, datagrams. */

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import fc from 'fast-check'
import { streamText } from '#src/dialects/fluffos-text.js'
import { bind, connect, Network } from 'fairlead'
import { encodeFrame, type LpcValue, MODES, RESULTS } from 'fairlead/fluffos'
import { settle, VirtualClock } from 'fairlead/testing'
import { socketsOpen } from '../matrix.js'
import { stage } from './fluffos-objects.js'

const { DATAGRAM, DATAGRAM_BINARY, MUD, STREAM, STREAM_BINARY } = MODES
const R = RESULTS
const utf8 = new TextDecoder()

after(async () => {
  await settle()
  assert.deepEqual(socketsOpen(), [])
})

describe('what is read', () => {
  async function raw(t: { after(fn: () => unknown): void }, mode: number, o: Parameters<typeof stage>[1] = {}) {
    const { listening, logged, driver } = stage(t, o)
    const { server, port } = await listening(mode)
    const client = await connect(`tcp://127.0.0.1:${port}`)
    t.after(() => client.close())
    await server.until('listen')
    return { server, client, logged, driver }
  }

  test('text ends at a NUL, and what is not UTF-8 is U+FFFD, each read by itself', async (t) => {
    const { server, client } = await raw(t, STREAM)
    for (const [sent, text] of [
      ['61e288', 'a\ufffd'],
      ['ae20620a', '\ufffd b\n'],
      ['78fffe79', 'x\ufffd\ufffdy'],
      ['eda080', '\ufffd'],
      ['c080f4908080', '\ufffd\ufffd'],
      ['e241f09f41', '\ufffdA\ufffdA'],
      ['610062', 'a'],
      ['0061', ''],
      ['efbbbf61', '\ufeffa'],
      ['c3a4e282acf09f9880', 'ä€😀'],
    ] as const) {
      await client.write(Buffer.from(sent, 'hex'))
      assert.equal((await server.until('read'))[2], text)
    }
  })

  test('binary sockets give the bytes', async (t) => {
    const { server, client } = await raw(t, STREAM_BINARY)
    await client.write(Buffer.from('6100fffe', 'hex'))
    assert.deepEqual((await server.until('read'))[2], Uint8Array.from([0x61, 0, 0xff, 0xfe]))
  })

  test('a read gives 65,534 bytes at most', async (t) => {
    const { server, client } = await raw(t, STREAM_BINARY)
    void client.write(new Uint8Array(300_000))
    for (let got = 0; got < 300_000;) {
      const { length } = (await server.until('read'))[2] as Uint8Array
      assert.ok(length <= 65_534)
      got += length
    }
  })

  test('values come one by one, whole, and what cannot be decoded as undefined', async (t) => {
    const { server, client } = await raw(t, MUD)
    const bytes = Buffer.concat([encodeFrame([1]), encodeFrame({ a: 'b' }), Buffer.from('000000027b7b', 'hex')])
    bytes.write('({', bytes.length - 2)
    await client.write(bytes.subarray(0, 3))
    await settle()
    await client.write(bytes.subarray(3))
    assert.deepEqual((await server.until('read'))[2], [1])
    assert.deepEqual((await server.until('read'))[2], new Map([['a', 'b']]))
    const undecodable = await server.until('read')
    assert.equal(undecodable.length, 3)
    assert.equal(undecodable[2], undefined)
    await client.write(encodeFrame('still here'))
    assert.equal((await server.until('read'))[2], 'still here')
  })

  for (const [what, header] of [
    ['0', '00000000'],
    ['below 0', 'ffffffff'],
    ['beyond the limit', '00000065'],
  ] as const) {
    test(`a frame whose length is ${what} ends the connection with the close callback`, async (t) => {
      const { server, client } = await raw(t, MUD, { maximumByteTransfer: 100 })
      await client.write(encodeFrame(1))
      await client.write(Buffer.from(header, 'hex'))
      assert.equal((await server.until('read'))[2], 1)
      assert.equal((await server.next())[0], 'close')
      assert.equal(await client.read(), null)
    })
  }

  test('a large array inside a legal frame is undefined, and the driver lives', async (t) => {
    const { server, client } = await raw(t, MUD, { maximumArraySize: 10 })
    await client.write(encodeFrame(Array.from({ length: 11 }, () => 1)))
    assert.equal((await server.until('read'))[2], undefined)
    await client.write(encodeFrame(2))
    assert.equal((await server.until('read'))[2], 2)
  })

  test('a callback that throws is logged, and the socket lives; one that rejects as well', async (t) => {
    const { server, client, logged } = await raw(t, STREAM)
    server.also['read'] = () => {
      throw new Error('oops')
    }
    await client.write('a')
    await server.until('read')
    server.also['read'] = async () => {
      throw new Error('later')
    }
    await client.write('b')
    await server.until('read')
    await settle()
    assert.deepEqual(
      logged.map(({ error, where }) => [(error as Error).message, where]),
      [
        ['oops', 'Actor: read'],
        ['later', 'Actor: read'],
      ],
    )
    server.also = {}
    await client.write('c')
    assert.equal((await server.until('read'))[2], 'c')
  })

  test('a name is looked up at each call, and a missing function skipped', async (t) => {
    const { driver, listening } = stage(t)
    const { at, server } = await listening(STREAM)
    const got: string[] = []
    let connected: () => void = () => {}
    const ready = new Promise<void>((resolve) => (connected = resolve))
    const object: Record<string, (fd: number, text: string) => void> = { connected: () => connected() }
    const { socket_create, socket_connect } = driver.efuns(object)
    const fd = socket_create(STREAM, 'toString', 'constructor')
    socket_connect(fd, at, 'heard', 'connected')
    await ready
    const [, , ...rest] = await server.until('listen')
    assert.deepEqual(rest, [])
    const peer = fd + 1
    server.efuns.socket_write(peer, 'nobody hears this')
    await settle()
    for (const name of ['first', 'second']) {
      const heard = new Promise<void>((resolve) => {
        object['heard'] = (_fd, text) => {
          got.push(`${name} ${text}`)
          resolve()
        }
      })
      server.efuns.socket_write(peer, name)
      await heard
    }
    assert.ok(got.at(-1)?.startsWith('second'))
  })
})

describe('text', () => {
  test('of any bytes is what Unicode says, but for how many U+FFFD stand for what is wrong', () => {
    const loose = new TextDecoder('utf-8', { ignoreBOM: true })
    const strip = (text: string) => text.replaceAll('\ufffd', '')
    const byte = fc.oneof(fc.nat(255), fc.constantFrom(0x80, 0xa0, 0xbf, 0xc0, 0xc3, 0xe0, 0xe2, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0xff))
    const bytes = fc.oneof(
      fc.array(byte.filter((one) => one !== 0)).map((all) => Uint8Array.from(all)),
      fc.string({ unit: 'binary' }).map((text) => new TextEncoder().encode(text.replaceAll('\0', ''))),
    )
    fc.assert(
      fc.property(bytes, (bytes) => {
        const [ours, theirs] = [streamText(bytes), loose.decode(bytes)]
        assert.equal(strip(ours), strip(theirs))
        assert.ok(ours.length <= theirs.length)
        assert.equal(ours === theirs || theirs.includes('\ufffd'), true)
      }),
      { seed: 20_261_120, numRuns: 2_000, interruptAfterTimeLimit: 1_000 },
    )
  })
})

describe('what is written', () => {
  test('stream sockets take strings, buffers and arrays of numbers, and nothing else', async (t) => {
    const { client, server, fd, peer } = await stage(t).pair(STREAM_BINARY)
    const { socket_write } = client.efuns
    assert.equal(socket_write(fd, 'ä'), R.EESUCCESS)
    assert.equal(socket_write(fd, Uint8Array.from([0, 255])), R.EESUCCESS)
    assert.equal(socket_write(fd, [1, -1, 2n ** 32n + 5n, 1.5, 'x']), R.EESUCCESS)
    for (const nothing of ['', new Uint8Array(0), []]) assert.equal(socket_write(fd, nothing), R.EESUCCESS)
    for (const bad of [5, 1.5, new Map(), {}, () => 1, client, null] as LpcValue[]) assert.equal(socket_write(fd, bad), R.EETYPENOTSUPP)
    let got = Buffer.alloc(0)
    while (got.length < 24) got = Buffer.concat([got, (await server.until('read'))[2] as Uint8Array])
    assert.equal(got.toString('hex'), 'c3a400ff' + '01000000' + 'ffffffff' + '05000000' + '00000000' + '00000000')
    assert.equal(socket_write(fd, 'x', '127.0.0.1 1'), R.EEBADADDR)
    assert.equal(server.efuns.socket_write(peer, 'back'), R.EESUCCESS)
    assert.deepEqual((await client.until('read'))[2], new Uint8Array(Buffer.from('back')))
  })

  test('mode MUD sends the bytes of the original', async (t) => {
    const { listening } = stage(t)
    const { server, port } = await listening(MUD)
    await using client = await connect(`tcp://127.0.0.1:${port}`)
    server.also['listen'] = (fd: number) => {
      const peer = server.efuns.socket_accept(fd, 'read', 'write')
      assert.equal(server.efuns.socket_write(peer, 5), R.EESUCCESS)
      assert.equal(server.efuns.socket_write(peer, ['ä\n', new Map([[1, 1.5]])]), R.EESUCCESS)
    }
    await using other = await connect(`tcp://127.0.0.1:${port}`)
    assert.equal(Buffer.from((await other.readExactly(6)) ?? '').toString('hex'), '000000023500')
    const text = Buffer.from('({"ä\r",([1:1.500000,]),})\0')
    assert.equal(Buffer.from((await other.readExactly(4)) ?? '').readUInt32BE(), text.length)
    assert.deepEqual(await other.readExactly(text.length), new Uint8Array(text))
    await client.close()
  })

  test('mode MUD takes any value but an object', async (t) => {
    const { client, server, fd } = await stage(t).pair(MUD)
    const { socket_write } = client.efuns
    for (const value of [1, 'two', [3, [1.5]], new Map<LpcValue, LpcValue>([['k', 4]])] as LpcValue[]) {
      assert.equal(socket_write(fd, value), R.EESUCCESS)
      assert.deepEqual((await server.until('read'))[2], value)
    }
    assert.equal(socket_write(fd, client), R.EETYPENOTSUPP)
    assert.equal(socket_write(fd, [client, 1]), R.EESUCCESS)
    assert.deepEqual((await server.until('read'))[2], [0, 1])
    assert.equal(
      socket_write(fd, () => 1),
      R.EESUCCESS,
    )
    assert.equal((await server.until('read'))[2], 0)
    let deep: LpcValue = 1
    for (let i = 0; i < 101; i++) deep = [deep]
    assert.equal(socket_write(fd, deep), R.EEBADDATA)
    assert.equal(socket_write(fd, 'nul\0'), R.EETYPENOTSUPP)
  })

  test('what the peer does not take is EECALLBACK, then EEALREADY, until the write callback', async (t) => {
    const { listening } = stage(t)
    const { server, port } = await listening(STREAM_BINARY)
    let peer = -1
    server.also['listen'] = (fd: number) => (peer = server.efuns.socket_accept(fd, 'read', 'write'))
    await using client = await connect(`tcp://127.0.0.1:${port}`)
    await server.until('listen')
    const data = Buffer.alloc(16 * 1024 * 1024, 'fairlead')
    assert.equal(server.efuns.socket_write(peer, data), R.EECALLBACK)
    assert.equal(server.efuns.socket_write(peer, 'more'), R.EEALREADY)
    data.fill(0)
    const got = (await client.readExactly(data.length)) as Uint8Array
    assert.ok(Buffer.from(got).equals(Buffer.alloc(data.length, 'fairlead')))
    assert.deepEqual(await server.until('write'), ['write', peer])
    assert.equal(server.efuns.socket_write(peer, 'more'), R.EESUCCESS)
    assert.equal(utf8.decode((await client.readExactly(4)) ?? undefined), 'more')
  })

  test('a close sends what was taken, in state CLOSING, and calls nobody', async (t) => {
    const { listening } = stage(t)
    const { server, port } = await listening(STREAM_BINARY)
    let peer = -1
    server.also['listen'] = (fd: number) => (peer = server.efuns.socket_accept(fd, 'read', 'write'))
    await using client = await connect(`tcp://127.0.0.1:${port}`)
    await server.until('listen')
    const length = 16 * 1024 * 1024
    assert.equal(server.efuns.socket_write(peer, new Uint8Array(length)), R.EECALLBACK)
    assert.equal(server.efuns.socket_close(peer), R.EESUCCESS)
    assert.equal(server.state(peer), 'CLOSING')
    assert.equal(server.efuns.socket_write(peer, 'x'), R.EEBADF)
    assert.equal(server.efuns.socket_create(STREAM, 'read'), peer + 1)
    void client.write('nobody reads this')
    assert.equal((await client.readExactly(length))?.length, length)
    assert.equal(await client.read(), null)
    await client.close()
    while (server.state(peer) !== 'CLOSED') await settle()
    assert.equal(server.happened.length, 1)
  })

  test('a close gives up on a peer that has not read for 30 seconds', async (t) => {
    const clock = new VirtualClock()
    const { listening } = stage(t, { network: new Network({ clock }) })
    const { server, port } = await listening(STREAM_BINARY)
    let peer = -1
    server.also['listen'] = (fd: number) => (peer = server.efuns.socket_accept(fd, 'read', 'write'))
    const client = await connect(`tcp://127.0.0.1:${port}`)
    await server.until('listen')
    assert.equal(server.efuns.socket_write(peer, new Uint8Array(32 * 1024 * 1024)), R.EECALLBACK)
    server.efuns.socket_close(peer)
    for (let seconds = 0; server.state(peer) !== 'CLOSED'; seconds += 5) {
      assert.equal(server.state(peer), 'CLOSING')
      assert.ok(seconds <= 120)
      await clock.advance(5_000)
    }
    await assert.rejects(client.readAll({ limit: 2 ** 27 }))
    client.abort()
  })

  test('a write to a connection that broke calls the close callback inside the call, and is EESEND', async (t) => {
    const { driver } = new Network()
    let broken = false
    const network = new Network({
      driver: {
        ...driver,
        listen: driver.listen,
        bind: driver.bind,
        dial: (to, settings, done) =>
          driver.dial(to, settings, (error, handle) => {
            if (handle === undefined) return done(error)
            const write = handle.write.bind(handle)
            handle.write = (data) => {
              if (broken) throw Object.assign(new Error('EPIPE'), { code: 'EPIPE' })
              return write(data)
            }
            done(error, handle)
          }),
      },
    })
    const { actor, listening } = stage(t, { network })
    const { at } = await listening(STREAM)
    const client = actor()
    const fd = client.efuns.socket_create(STREAM, 'read', 'close')
    client.efuns.socket_connect(fd, at, 'read', 'write')
    await client.until('write')
    broken = true
    let inside = false
    client.also['close'] = () => {
      inside = true
      assert.equal(client.efuns.socket_write(fd, 'again'), R.EESEND)
    }
    assert.equal(client.efuns.socket_write(fd, 'x'), R.EESEND)
    assert.ok(inside)
    assert.equal(client.state(fd), 'CLOSED')
    assert.equal(client.happened.filter(([name]) => name === 'close').length, 1)
  })
})

describe('the end', () => {
  test('of the peer is the close callback, in which a half-closed peer can still be written to', async (t) => {
    const { listening } = stage(t)
    const { server, port } = await listening(STREAM)
    await using client = await connect(`tcp://127.0.0.1:${port}`)
    await server.until('listen')
    server.also['close'] = (fd: number) => {
      assert.equal(server.state(fd), 'DATA_XFER')
      assert.equal(server.efuns.socket_write(fd, 'goodbye'), R.EESUCCESS)
    }
    await client.write('last words')
    await client.end()
    assert.equal((await server.until('read'))[2], 'last words')
    const [, fd] = await server.until('close')
    assert.equal(server.state(fd), 'CLOSED')
    assert.equal(utf8.decode(await client.readAll()), 'goodbye')
  })

  test('by a reset is the close callback, once, and says why', async (t) => {
    const { driver, listening } = stage(t)
    const { server, port } = await listening(STREAM)
    const client = await connect(`tcp://127.0.0.1:${port}`)
    await server.until('listen')
    client.abort()
    const [, fd] = await server.until('close')
    assert.equal((driver.failure(fd) as { code: string }).code, 'ECONNRESET')
    await settle()
    assert.equal(server.happened.length, 2)
  })

  test('by a reset, too, lets the close callback try to write, which is EESEND', async (t) => {
    const { listening, logged } = stage(t)
    const { server, port } = await listening(STREAM)
    const client = await connect(`tcp://127.0.0.1:${port}`)
    await server.until('listen')
    let result = 0
    server.also['close'] = (fd: number) => (result = server.efuns.socket_write(fd, 'anybody there?'))
    client.abort()
    await server.until('close')
    await settle()
    assert.ok(result === R.EESEND || result === R.EESUCCESS, `${result}`)
    assert.equal(server.happened.length, 2)
    assert.deepEqual(logged, [])
  })

  test('a socket made in the place of one that was closed in its close callback stays', async (t) => {
    const { client, server, fd, peer } = await stage(t).pair(STREAM)
    let made = -1
    client.also['close'] = () => {
      client.efuns.socket_close(fd)
      made = client.efuns.socket_create(STREAM, 'read', 'close')
    }
    server.efuns.socket_close(peer)
    await client.until('close')
    await settle()
    assert.equal(client.state(made), 'UNBOUND')
  })

  test('of the owner closes its sockets without a callback, and it can do nothing more', async (t) => {
    const { client, driver, server, fd } = await (async () => {
      const all = stage(t)
      return { ...all, ...(await all.pair(STREAM)) }
    })()
    driver.destruct(client)
    assert.equal(server.state(fd), 'CLOSED')
    await server.until('close')
    assert.deepEqual(client.happened, [['write', fd]])
    assert.throws(() => client.efuns.socket_create(STREAM, 'read'), { name: 'LpcError' })
  })
})

describe('datagrams', () => {
  test('are received from when the socket is bound, with where they came from', async (t) => {
    const { actor } = stage(t)
    const one = actor()
    const fd = one.efuns.socket_create(DATAGRAM, 'read', 'close')
    assert.equal(await one.efuns.socket_bind(fd, 0, '127.0.0.1 0'), R.EESUCCESS)
    const [host, port] = one.efuns.socket_address(fd, 1).split(' ')
    await using peer = await bind('udp://127.0.0.1:0')
    const from = peer.endpoint.replace('udp://', '').replace(':', ' ')
    const to = `udp://${host}:${port}`
    await peer.send('ä', to)
    assert.deepEqual(await one.next(), ['read', fd, 'ä', from])
    await peer.send('a\0b', to)
    assert.equal((await one.next())[2], 'a')
    await peer.send(Buffer.from('ff', 'hex'), to)
    assert.deepEqual((await one.next())[2], Uint8Array.of(255))
    await peer.send('', to)
    assert.equal((await one.next())[2], '')
    await peer.send('and it lives', to)
    assert.equal((await one.next())[2], 'and it lives')
    assert.equal(one.efuns.socket_write(fd, 'answer', from), R.EESUCCESS)
    const answer = await peer.receive()
    assert.equal(utf8.decode(answer.data), 'answer')
    assert.equal(answer.from.family === 'ipv4' && answer.from.port, Number(port))
  })

  test('are sent by a socket that is not bound, in order, before it closes', async (t) => {
    const { actor } = stage(t)
    const one = actor()
    await using peer = await bind('udp://127.0.0.1:0')
    const to = peer.endpoint.replace('udp://', '').replace(':', ' ')
    const fd = one.efuns.socket_create(DATAGRAM_BINARY, 'read')
    for (const text of ['a', 'b', 'c']) assert.equal(one.efuns.socket_write(fd, text, to), R.EESUCCESS)
    assert.equal(one.state(fd), 'UNBOUND')
    assert.equal(one.efuns.socket_close(fd), R.EESUCCESS)
    for (const text of ['a', 'b', 'c']) assert.equal(utf8.decode((await peer.receive()).data), text)
  })

  test('may be sent while the socket is being bound', async (t) => {
    const { actor } = stage(t)
    const one = actor()
    await using peer = await bind('udp://127.0.0.1:0')
    const to = peer.endpoint.replace('udp://', '').replace(':', ' ')
    const fd = one.efuns.socket_create(DATAGRAM, 'read')
    const binding = one.efuns.socket_bind(fd, 0, '127.0.0.1 0')
    for (const text of ['a', 'b', 'c']) assert.equal(one.efuns.socket_write(fd, text, to), R.EESUCCESS)
    assert.equal(await binding, R.EESUCCESS)
    assert.equal(one.efuns.socket_write(fd, 'd', to), R.EESUCCESS)
    for (const text of ['a', 'b', 'c', 'd']) assert.equal(utf8.decode((await peer.receive()).data), text)
    await peer.send('answer', `udp://${one.efuns.socket_address(fd, 1).replace(' ', ':')}`)
    assert.equal((await one.until('read'))[2], 'answer')
  })

  test('wait, 256 KiB of them, and no more', (t) => {
    const { actor } = stage(t)
    const { efuns } = actor()
    const fd = efuns.socket_create(DATAGRAM, 'read')
    const results = Array.from({ length: 5 }, () => efuns.socket_write(fd, new Uint8Array(65_507), '127.0.0.1 9'))
    assert.deepEqual(results, [R.EESUCCESS, R.EESUCCESS, R.EESUCCESS, R.EESUCCESS, R.EEWOULDBLOCK])
  })

  test('that cannot be sent say so', (t) => {
    const { actor } = stage(t)
    const { efuns } = actor()
    const fd = efuns.socket_create(DATAGRAM, 'read')
    assert.equal(efuns.socket_write(fd, 'x'), R.EENOADDR)
    assert.equal(efuns.socket_write(fd, 'x', 'nonsense'), R.EEBADADDR)
    assert.equal(efuns.socket_write(fd, 'x', 'localhost 5'), R.EEBADADDR)
    assert.equal(efuns.socket_write(fd, 5, '127.0.0.1 5'), R.EETYPENOTSUPP)
    assert.equal(efuns.socket_write(fd, [1], '127.0.0.1 5'), R.EETYPENOTSUPP)
    assert.equal(efuns.socket_write(fd, 'x', '127.0.0.1 0'), R.EESENDTO)
    assert.equal(efuns.socket_write(fd, new Uint8Array(65_508), '127.0.0.1 5'), R.EESENDTO)
  })

  test('a port in use is EEADDRINUSE', async (t) => {
    const { actor } = stage(t)
    const { efuns } = actor()
    const [one, other] = [efuns.socket_create(DATAGRAM, 'read'), efuns.socket_create(DATAGRAM, 'read')]
    await efuns.socket_bind(one, 0)
    assert.equal(await efuns.socket_bind(other, Number(efuns.socket_address(one, 1).split(' ')[1])), R.EEADDRINUSE)
  })
})
