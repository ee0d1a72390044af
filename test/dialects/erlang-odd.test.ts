/** Odd moments: owners that end while something waits, hand-overs under way, arguments that are none. */

import assert from 'node:assert/strict'
import { describe } from 'node:test'
import { connect as dial } from 'fairlead'
import {
  _,
  after,
  erlang,
  Exit,
  exit,
  format_error,
  gen_tcp,
  gen_udp,
  inet,
  is_process_alive,
  link,
  monitor,
  receive,
  self,
  spawn,
  ssl,
} from 'fairlead/erlang'
import { bytes, LOCAL, ok, soon, test, theFiles, WORLDS } from './erlang-worlds.js'

const RAW = ['binary', ['active', false]] as const
const LARGE = new Uint8Array(8 * 1024 * 1024).map((_byte, i) => i % 251)

describe('processes that end', () => {
  for (const { name, kind, api, pair } of WORLDS) {
    test(`${name}: a socket given away while a send waits outlives its old owner`, async (t) => {
      const main = self()
      const [left, right] = await pair(t, RAW, RAW)
      const first = spawn(async () => {
        await receive('go')
        const sending = api.send(left, LARGE)
        erlang.send(main, ['given', api.controlling_process(left, main), sending])
      })
      const ref = monitor('process', first)
      assert.equal(api.controlling_process(left, first), 'ok')
      erlang.send(first, 'go')
      assert.equal((await receive(['given', _, _], soon))[1], 'ok')
      await receive(['DOWN', ref, _, _, _], soon)
      assert.deepEqual(await api.recv(right, LARGE.length, 10_000), ['ok', LARGE])
      assert.equal(await api.send(left, 'more'), 'ok')
      assert.deepEqual(await api.recv(right, 4, 5_000), ['ok', bytes('more')])
    })

    test(`${name}: what its owner sent before it ended arrives, however much that is`, async (t) => {
      const [left, right] = await pair(t, RAW, RAW)
      const owner = spawn(async () => {
        await receive('go')
        void api.send(left, LARGE)
        void api.send(left, 'the end')
      })
      assert.equal(api.controlling_process(left, owner), 'ok')
      erlang.send(owner, 'go')
      assert.deepEqual(await api.recv(right, LARGE.length, 10_000), ['ok', LARGE])
      assert.deepEqual(await api.recv(right, 7, 5_000), ['ok', bytes('the end')])
      assert.deepEqual(await api.recv(right, 0, 5_000), ['error', 'closed'])
    })

    test(`${name}: a process that is ended in recv or send says nothing more, whoever owns the socket`, async (t) => {
      const main = self()
      for (const owns of [true, false]) {
        for (const what of ['recv', 'send'] as const) {
          const [left] = await pair(t, RAW, RAW)
          const waiting = spawn(async () => {
            await receive('go')
            const result = (what === 'recv' ? api.recv(left, 0) : api.send(left, LARGE)).then(
              (value) => erlang.send(main, ['went on', value]),
              (error: unknown) => assert.ok(error instanceof Exit && error.reason === 'killed'),
            )
            erlang.send(main, 'waits')
            await result
            erlang.send(main, 'went on')
          })
          const ref = monitor('process', waiting)
          if (owns) assert.equal(api.controlling_process(left, waiting), 'ok')
          erlang.send(waiting, 'go')
          await receive('waits', soon)
          exit(waiting, 'kill')
          assert.deepEqual((await receive(['DOWN', ref, _, _, _], soon))[4], 'killed')
          assert.equal(await receive(_, after(20)), 'timeout')
        }
      }
    })

    test(`${name}: a reader that is ended takes nothing from the next one`, async (t) => {
      const [left, right] = await pair(t, RAW, RAW)
      const main = self()
      const reader = spawn(async () => {
        erlang.send(main, 'reads')
        await api.recv(left, 0)
      })
      await receive('reads', soon)
      exit(reader, 'kill')
      const reading = api.recv(left, 4, 5_000)
      await api.send(right, 'data')
      assert.deepEqual(await reading, ['ok', bytes('data')])
    })

    test(`${name}: E33 messages over the limit of a mailbox keep their order, to an owner that waits for them`, async (t) => {
      const [left, right] = await pair(t, [...RAW, ['packet', 4]], ['binary', ['packet', 4], ['active', true]])
      const main = self()
      const size = 50_000
      for (let i = 0; i < 40; i++) await api.send(left, new Uint8Array(size).fill(i))
      await receive(after(100))
      const owner = spawn(async () => {
        const seen: unknown[] = []
        while (seen.length < 40) seen.push((await receive([kind, right, _], soon))[2][0])
        erlang.send(main, ['seen', seen])
      })
      await receive(after(5))
      assert.equal(api.controlling_process(right, owner), 'ok')
      assert.deepEqual((await receive(['seen', _], soon))[1], [...Array(40).keys()])
    })
  }

  test('calls that nobody awaits harm nobody when their process is ended', async () => {
    const { cert, key } = await theFiles()
    const own = [LOCAL, ['certfile', cert], ['keyfile', key]] as const
    const [plain, secure] = [ok(await gen_tcp.listen(0, [LOCAL, ...RAW])), ok(await ssl.listen(0, own))]
    const number = ok(inet.port(plain))
    const unhandled: unknown[] = []
    const note = (error: unknown) => void unhandled.push(error)
    process.on('unhandledRejection', note)
    for (const call of [
      () => gen_tcp.connect([127, 0, 0, 1], number, []),
      () => ssl.connect([127, 0, 0, 1], number, []),
      () => gen_tcp.listen(0, [LOCAL]),
      () => ssl.listen(0, own),
      () => gen_udp.open(0),
      () => gen_tcp.accept(plain),
      () => ssl.accept(secure),
      () => ssl.transport_accept(secure),
      () => receive('never'),
    ]) {
      const one = spawn(() => {
        void call()
      })
      const other = spawn(async () => {
        void call()
        await receive('never')
      })
      await new Promise((resolve) => setImmediate(resolve))
      exit(other, 'kill')
      assert.equal(is_process_alive(one) || is_process_alive(other), false)
    }
    await receive(after(50))
    process.off('unhandledRejection', note)
    assert.deepEqual(unhandled, [])
    for (const one of [plain]) await gen_tcp.close(one)
    await ssl.close(secure)
  })

  test('a process that was ended sends, starts, links and asks nothing any more', async () => {
    const main = self()
    for (const call of [
      () => erlang.send(main, 'sent'),
      () => spawn(() => erlang.send(main, 'started')),
      () => link(main),
      () => self(),
      () => exit(main, 'x'),
      () => gen_tcp.listen(0, []),
    ]) {
      const outcome = new Promise((resolve) => {
        const one = spawn(async () => {
          await new Promise((go) => setImmediate(go))
          try {
            await call()
            resolve('went on')
          } catch (error) {
            resolve(error)
          }
        })
        queueMicrotask(() => exit(one, 'kill'))
      })
      assert.ok((await outcome) instanceof Exit, String(call))
    }
    assert.equal(await receive(_, after(0)), 'timeout')
  })

  test('exit of oneself ends at once, and so does a link with a process that is no more', async () => {
    const main = self()
    const gone = spawn(() => undefined)
    await receive(after(1))
    for (const [call, reason] of [
      [() => exit(self(), 'boom'), 'boom'],
      [() => exit(self(), 'normal'), 'normal'],
      [() => link(gone), 'noproc'],
    ] as const) {
      const [pid, ref] = erlang.spawn_monitor(() => {
        call()
        erlang.send(main, 'alive')
      })
      assert.deepEqual(await receive(['DOWN', ref, _, _, _], soon), ['DOWN', ref, 'process', pid, reason])
      assert.equal(is_process_alive(pid), false)
    }
    assert.equal(await receive(_, after(0)), 'timeout')
  })

  test('a listening socket is given away while an accept waits', async () => {
    const listening = ok(await gen_tcp.listen(0, [LOCAL, ...RAW]))
    const accepting = gen_tcp.accept(listening, 5_000)
    const owner = spawn(() => receive('end'))
    assert.equal(gen_tcp.controlling_process(listening, owner), 'ok')
    const socket = ok(await gen_tcp.connect([127, 0, 0, 1], ok(inet.port(listening)), RAW))
    ok(await accepting)
    erlang.send(owner, 'end')
    assert.deepEqual(await gen_tcp.accept(listening, 5_000), ['error', 'closed'])
    await gen_tcp.close(socket)
  })

  test('gen_udp: a socket is given away while a recv waits, and a reader that is ended takes nothing', async () => {
    const socket = ok(await gen_udp.open(0, [...RAW, LOCAL]))
    const sender = ok(await gen_udp.open(0, [...RAW, LOCAL]))
    const reader = spawn(() => gen_udp.recv(socket, 0))
    await receive(after(5))
    exit(reader, 'kill')
    const to = ok(inet.sockname(socket)) as readonly [readonly [127, 0, 0, 1], number]
    const reading = gen_udp.recv(socket, 0, 5_000)
    const owner = spawn(() => receive('end'))
    assert.equal(gen_udp.controlling_process(socket, owner), 'ok')
    assert.equal(await gen_udp.send(sender, to, 'data'), 'ok')
    assert.deepEqual(ok(await reading)[2], bytes('data'))
    erlang.send(owner, 'end')
    await gen_udp.close(sender)
  })
})

describe('ends', () => {
  test('E26 gen_tcp: after shutdown of the input what had come is received first, then closed', async (t) => {
    const world = WORLDS[0] as (typeof WORLDS)[number]
    for (const active of [false, true]) {
      const [left, right] = await world.pair(t, RAW, [...RAW, ['packet', 4]])
      assert.equal(await world.api.send(left, [0, 0, 0, 3, 'abc', 0, 0, 0, 1, 'd']), 'ok')
      await receive(after(20))
      assert.equal(await world.api.shutdown(right, 'read'), 'ok')
      if (active) {
        world.api.setopts(right, [['active', true]])
        for (const text of ['abc', 'd']) assert.deepEqual(await receive(['tcp', right, _], soon), ['tcp', right, bytes(text)])
        assert.deepEqual(await receive(['tcp_closed', right], soon), ['tcp_closed', right])
      } else {
        for (const text of ['abc', 'd']) assert.deepEqual(await world.api.recv(right, 0), ['ok', bytes(text)])
        assert.deepEqual(await world.api.recv(right, 0), ['error', 'closed'])
      }
    }
  })

  test('E24 gen_tcp: a socket whose end was a message is closed, one whose end was received is not connected', async (t) => {
    const world = WORLDS[0] as (typeof WORLDS)[number]
    for (const active of [false, true]) {
      const [left, right] = await world.pair(t, RAW, ['binary', ['active', active]])
      await world.api.close(left)
      if (active) await receive(['tcp_closed', right], soon)
      else assert.deepEqual(await world.api.recv(right, 0), ['error', 'closed'])
      assert.deepEqual(await world.api.recv(right, 0), ['error', active ? 'closed' : 'enotconn'])
    }
  })
})

describe('arguments that are none', () => {
  const junk = [undefined, null, 0, 1.5, 'x', {}, [], Symbol('x'), Object.create(null)] as never[]

  test('no function of a socket module raises for what is no socket', async () => {
    for (const value of junk) {
      for (const call of [
        () => inet.setopts(value, []),
        () => inet.getopts(value, []),
        () => inet.getstat(value),
        () => inet.port(value),
        () => gen_udp.controlling_process(value, self()),
        () => ssl.setopts(value, []),
        () => ssl.getstat(value),
        () => ssl.connection_information(value, value),
      ])
        assert.equal(call()[0], 'error')
      assert.equal(await inet.close(value), 'ok')
      assert.equal(await gen_udp.close(value), 'ok')
      assert.equal((await ssl.handshake_continue(value, value))[0], 'error')
      for (const call of [() => inet.pid(value), () => inet.monitor(value), () => ssl.pid(value)])
        assert.throws(call, (error: unknown) => error instanceof Exit && error.reason === 'badarg')
    }
  })

  test('format_error gives a text for anything at all', async () => {
    const circle = Object.create(null) as Record<string, unknown>
    circle['self'] = circle
    const hostile = {
      toJSON() {
        throw new Error('no')
      },
    }
    for (const value of [...junk, 'constructor', '__proto__', ['toString', 1], ['error', 'valueOf'], circle, hostile, [circle]]) {
      assert.match(format_error(value), /^unknown POSIX error: /)
      assert.equal(typeof inet.format_error(value as never), 'string')
    }
    return Promise.resolve()
  })

  test('a connection to port 0 is refused, as by the system', async () => {
    assert.deepEqual(await gen_tcp.connect([127, 0, 0, 1], 0, []), ['error', 'econnrefused'])
    assert.deepEqual(await ssl.connect([127, 0, 0, 1], 0, []), ['error', 'econnrefused'])
  })
})

describe('listening and handshakes', () => {
  test('a listening socket tells the options that it gives on, each counter of active adds up', async () => {
    const listening = ok(await gen_tcp.listen(0, [LOCAL, 'binary', ['packet', 2], ['active', 2]]))
    assert.deepEqual(ok(inet.getopts(listening, ['packet', 'mode'])), [
      ['packet', 2],
      ['mode', 'binary'],
    ])
    const accepting = gen_tcp.accept(listening)
    const socket = ok(await gen_tcp.connect([127, 0, 0, 1], ok(inet.port(listening)), [['active', false]]))
    const accepted = ok(await accepting)
    assert.equal(
      inet.setopts(accepted, [
        ['active', 2],
        ['active', 3],
      ]),
      'ok',
    )
    assert.deepEqual(ok(inet.getopts(accepted, ['active'])), [['active', 7]])
    for (const one of [socket, accepted, listening]) await inet.close(one)
  })

  test('options of a handshake are added to those of the listening socket, and its names are known before', async () => {
    const { cert, key } = await theFiles()
    const listening = ok(await ssl.listen(0, [LOCAL, ['certfile', cert], ['keyfile', key]]))
    const number = ok(ssl.port(listening))
    for (const paused of [false, true]) {
      const connecting = ssl.connect([127, 0, 0, 1], number, [['alpn_advertised_protocols', ['h2']]], 5_000)
      const plain = ok(await ssl.transport_accept(listening))
      assert.deepEqual(ok(ssl.sockname(plain)), [[127, 0, 0, 1], number])
      assert.deepEqual(ok(ssl.port(plain)), number)
      assert.deepEqual(ok(ssl.peername(plain))[0], [127, 0, 0, 1])
      const more = [['alpn_preferred_protocols', ['h2']]] as const
      let server: ssl.SslSocket<string>
      if (paused) {
        const [tag, waiting] = await ssl.handshake(plain, [['handshake', 'hello']], 5_000)
        assert.equal(tag, 'ok')
        server = ok(await ssl.handshake_continue(waiting as ssl.TransportSocket<string>, more, 5_000))
      } else server = ok(await ssl.handshake(plain, more, 5_000))
      const client = ok(await connecting)
      assert.deepEqual(ssl.negotiated_protocol(client), ['ok', 'h2'])
      for (const socket of [client, server]) await ssl.close(socket)
      assert.deepEqual(ssl.sockname(plain), ['error', 'einval'])
    }
    const gone = spawn(() => undefined)
    const silent = await dial(`tcp://127.0.0.1:${number}`)
    const waiting = ok(await ssl.transport_accept(listening))
    assert.deepEqual(ssl.controlling_process(waiting, gone), ['error', 'badarg'])
    await ssl.close(waiting)
    await silent.close()
    await ssl.close(listening)
  })

  test('a chain that is too long is refused without a look at the name, too', async () => {
    const { authority, write } = await theFiles()
    const middle = await authority.intermediate()
    const { cert, key } = await middle.issue({ names: ['elsewhere'], purpose: 'both' })
    const own = [
      ['certfile', write('long.pem', cert)],
      ['keyfile', write('long.key', key)],
    ] as const
    const listening = ok(await ssl.listen(0, [LOCAL, ...own]))
    const ca = ['cacertfile', write('root.pem', authority.cert)] as const
    for (const depth of [0, 1]) {
      const accepting = ssl.accept(listening, 5_000)
      const options = [ca, ['verify', 1], ['depth', depth], ['server_name_indication', 'disable']] as const
      const result = await ssl.connect([127, 0, 0, 1], ok(ssl.port(listening)), options, 5_000)
      if (depth === 0) assert.deepEqual(result, ['error', 'echaintoolong'])
      else await ssl.close(ok(result))
      const accepted = await accepting
      if (accepted[0] === 'ok') await ssl.close(accepted[1])
    }
    await ssl.close(listening)
  })

  test('a handshake of a process that is ended is over, also on a socket of gen_tcp', async () => {
    const { cert, key } = await theFiles()
    const own = [
      ['certfile', cert],
      ['keyfile', key],
    ] as const
    const plain = ok(await gen_tcp.listen(0, [LOCAL, ...RAW]))
    const secure = ok(await ssl.listen(0, [LOCAL, ...own]))
    const main = self()
    for (const [number, wait] of [
      [ok(inet.port(plain)), async () => ssl.handshake(ok(await gen_tcp.accept(plain)), own)],
      [ok(ssl.port(secure)), async () => ssl.accept(secure)],
      [ok(ssl.port(secure)), async () => ssl.handshake(ok(await ssl.transport_accept(secure)))],
    ] as const) {
      const server = spawn(async () => {
        erlang.send(main, 'accepts')
        await wait()
      })
      await receive('accepts', soon)
      const silent = await dial(`tcp://127.0.0.1:${number}`)
      // It is accepted within a turn.
      for (let i = 0; i < 5; i++) await receive(after(0))
      exit(server, 'kill')
      const end = await silent.read({ timeout: 10_000 }).catch((error: { code?: string }) => error.code)
      assert.ok(end === null || end === 'ECONNRESET', String(end))
      await silent.close()
    }
    await gen_tcp.close(plain)
    await ssl.close(secure)
  })

  test('two sends and an upgrade in one turn', async () => {
    const { cert, key } = await theFiles()
    const listening = ok(await gen_tcp.listen(0, [LOCAL, ...RAW]))
    const accepting = gen_tcp.accept(listening)
    const plain = ok(await gen_tcp.connect([127, 0, 0, 1], ok(inet.port(listening)), RAW))
    const accepted = ok(await accepting)
    for (const text of ['a', 'b']) assert.equal(await gen_tcp.send(accepted, text), 'ok')
    const shaking = ssl.handshake(
      accepted,
      [
        ['certfile', cert],
        ['keyfile', key],
      ],
      5_000,
    )
    assert.deepEqual(await gen_tcp.recv(plain, 2, 5_000), ['ok', bytes('ab')])
    const client = ok(await ssl.connect(plain, [], 5_000))
    const server = ok(await shaking)
    for (const socket of [client, server]) await ssl.close(socket)
    await gen_tcp.close(listening)
  })
})
