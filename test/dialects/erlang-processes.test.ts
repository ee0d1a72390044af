/** Processes: mailboxes, patterns, links, exit signals, monitors, and the sockets that end with them. */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe } from 'node:test'
import { connect as dial } from 'fairlead'
import {
  _,
  after,
  demonitor,
  erlang,
  Exit,
  exit,
  gen_tcp,
  inet,
  is_process_alive,
  link,
  monitor,
  on,
  process_flag,
  type Pid,
  receive,
  type Ref,
  self,
  spawn,
  spawn_link,
  spawn_monitor,
  unlink,
} from 'fairlead/erlang'
import { bytes, LOCAL, ok, soon, test } from './erlang-worlds.js'

const forever = () => receive('never')

describe('receive', () => {
  test('takes the first message that a branch fits, and leaves all others where they are', async () => {
    for (const message of [1, ['a', 1], ['b', 2], ['a', 3]]) erlang.send(self(), message)
    assert.deepEqual(await receive(['b', _], soon), ['b', 2])
    assert.deepEqual(await receive(['a', _], ['b', _], soon), ['a', 1])
    assert.equal(await receive(), 1)
    assert.deepEqual(await receive(), ['a', 3])
  })

  test('runs the handler of the branch that fits, and waits for it', async () => {
    erlang.send(self(), ['add', 2, 3])
    const sum = await receive(
      on(['no'], () => 'no'),
      on(['add', _, _], async ([, a, b]) => Number(a) + Number(b)),
      soon,
    )
    assert.equal(sum, 5)
  })

  test('after 0 looks and does not wait, after a time gives up, and infinity never does', async () => {
    assert.equal(await receive(_, after(0)), 'timeout')
    assert.equal(
      await receive(
        _,
        after(10, () => 'late'),
      ),
      'late',
    )
    const pid = self()
    spawn(() => erlang.send(pid, 'x'))
    assert.equal(await receive(_, after('infinity')), 'x')
    assert.throws(() => after(-1), Exit)
  })

  test('patterns: literals, tuples of the same length, bytes, tests', async () => {
    const big = (value: unknown): value is number => typeof value === 'number' && value > 10
    for (const message of [['t'], ['t', 1, 2], ['t', 5], ['t', 50], ['bytes', bytes('ab')]]) erlang.send(self(), message)
    assert.deepEqual(await receive(['t', big], soon), ['t', 50])
    assert.deepEqual(await receive(['t', _], soon), ['t', 5])
    assert.deepEqual(await receive(['bytes', bytes('ab')], soon), ['bytes', bytes('ab')])
    const [, n] = await (erlang.send(self(), ['n', 11]), receive(['n', big], soon))
    assert.equal(n + 1, 12)
  })

  test('who waits looks at each new message once, however many there are', async () => {
    let looks = 0
    const waiting = receive((message: unknown) => {
      looks++
      return message === 'special'
    })
    for (let i = 0; i < 1_000; i++) erlang.send(self(), i)
    erlang.send(self(), 'special')
    assert.equal(await waiting, 'special')
    assert.equal(looks, 1_001)
    for (let i = 0; i < 1_000; i++) assert.equal(await receive(), i)
  })

  test('several that wait are served in their order, and messages that others leave stay in theirs', async () => {
    const first = receive(['a', _])
    const second = receive(['a', _])
    const third = receive(['b', _], ['a', 9])
    for (const message of [
      ['c', 0],
      ['a', 1],
      ['c', 2],
      ['b', 3],
      ['a', 4],
      ['a', 5],
    ])
      erlang.send(self(), message)
    assert.deepEqual(
      [await first, await second, await third],
      [
        ['a', 1],
        ['a', 4],
        ['b', 3],
      ],
    )
    for (const message of [
      ['c', 0],
      ['c', 2],
      ['a', 5],
    ])
      assert.deepEqual(await receive(), message)
    assert.equal(await receive(_, after(0)), 'timeout')
  })

  test('a mailbox of 100,000 messages is read from its front, its middle and its end', async () => {
    const many = 100_000
    for (let i = 0; i < many; i++) erlang.send(self(), i)
    assert.equal(await receive(many - 1), many - 1)
    assert.equal(await receive(50_000), 50_000)
    const start = process.cpuUsage()
    for (let i = 0; i < many - 1; i++) if (i !== 50_000) assert.equal(await receive(), i)
    // Of the processor, whatever else it does: a tenth of a second; of the square of their number it would be ten.
    const { user } = process.cpuUsage(start)
    assert.ok(user < 3_000_000, `${user} us`)
    assert.equal(await receive(_, after(0)), 'timeout')
  })

  test('a test in a pattern that throws is the failure of who waits, and the message stays', async () => {
    const failing = receive(() => {
      throw new Error('in the test')
    })
    erlang.send(self(), 'stays')
    await assert.rejects(failing, /in the test/)
    assert.equal(await receive(), 'stays')
  })

  test('messages of one sender come in order, however fast they are', async () => {
    const pid = self()
    spawn(() => {
      for (let i = 0; i < 1_000; i++) erlang.send(pid, i)
    })
    for (let i = 0; i < 1_000; i++) assert.equal(await receive(_, soon), i)
  })
})

describe('exit and links', () => {
  test('a process that returns exits normally, one that throws or exits with that reason', async () => {
    const [normal, first] = spawn_monitor(() => undefined)
    assert.deepEqual(await receive(['DOWN', first, 'process', normal, _], soon), ['DOWN', first, 'process', normal, 'normal'])
    const [leaves, second] = spawn_monitor(() => exit('enough'))
    assert.deepEqual(await receive(['DOWN', second, _, _, _], soon), ['DOWN', second, 'process', leaves, 'enough'])
    const error = new Error('broken')
    const [, third] = spawn_monitor(() => Promise.reject(error))
    assert.equal((await receive(['DOWN', third, _, _, _], soon))[4], error)
  })

  test('a linked process ends with the other, unless that was normal', async () => {
    const [parent, ref] = spawn_monitor(async () => {
      spawn_link(() => undefined)
      spawn_link(async () => {
        await receive(after(5))
        exit('crash')
      })
      await forever()
    })
    assert.deepEqual(await receive(['DOWN', ref, _, _, _], soon), ['DOWN', ref, 'process', parent, 'crash'])
  })

  test('who traps exits gets them as messages', async () => {
    assert.equal(process_flag('trap_exit', true), false)
    const child = spawn_link(() => exit('why'))
    assert.deepEqual(await receive(['EXIT', child, _], soon), ['EXIT', child, 'why'])
    const gone = spawn(() => undefined)
    await receive(after(5))
    link(gone)
    assert.deepEqual(await receive(['EXIT', gone, _], soon), ['EXIT', gone, 'noproc'])
  })

  test('unlink and demonitor end what they undo', async () => {
    process_flag('trap_exit', true)
    const child = spawn_link(async () => {
      await receive('go')
      exit('why')
    })
    const ref = monitor('process', child)
    unlink(child)
    demonitor(ref)
    erlang.send(child, 'go')
    assert.equal(await receive(_, after(20)), 'timeout')
    assert.equal(is_process_alive(child), false)
  })

  test('exit(Pid, Reason) ends who waits, kill also who traps exits', async () => {
    const [a, first] = spawn_monitor(forever)
    await receive(after(1))
    exit(a, 'please')
    assert.equal((await receive(['DOWN', first, _, _, _], soon))[4], 'please')
    const [b, second] = spawn_monitor(async () => {
      process_flag('trap_exit', true)
      erlang.send(test, ['got', await receive(['EXIT', _, _])])
      await forever()
    })
    const test = self()
    await receive(after(1))
    exit(b, 'please')
    assert.deepEqual((await receive(['got', _], soon))[1], ['EXIT', self(), 'please'])
    exit(b, 'kill')
    assert.equal((await receive(['DOWN', second, _, _, _], soon))[4], 'killed')
  })

  test('a process that was ended from outside stops at its next call', async () => {
    let went = 'nowhere'
    const [pid, ref] = spawn_monitor(async () => {
      await receive('go', after(200))
      went = 'on'
    })
    await receive(after(1))
    exit(pid, 'kill')
    await receive(['DOWN', ref, _, _, _], soon)
    await receive(after(250))
    assert.equal(went, 'nowhere')
  })

  test('a crash that nobody is told of is a warning of the runtime', async () => {
    const warned = once(process, 'warning')
    const pid = spawn(() => {
      throw new Error('unheard')
    })
    const [warning] = (await warned) as [Error]
    assert.equal(warning.name, 'ErlangProcess')
    assert.match(warning.message, new RegExp(`^Error in process ${pid} with exit value: Error: unheard`))
  })

  test('monitor of a process that is no more says noproc at once', async () => {
    const pid = spawn(() => undefined)
    await receive(after(5))
    const ref = monitor('process', pid)
    assert.deepEqual(await receive(['DOWN', ref, _, _, _], soon), ['DOWN', ref, 'process', pid, 'noproc'])
  })
})

describe('sockets of processes', () => {
  for (const how of ['returns', 'crashes', 'is killed'] as const) {
    test(`a process that ${how} leaves no socket behind, and its listener no port`, async () => {
      const main = self()
      const pid = spawn_monitor(async () => {
        const listening = ok(await gen_tcp.listen(0, [LOCAL]))
        erlang.send(main, ['port', ok(inet.port(listening))])
        await gen_tcp.accept(listening)
        erlang.send(main, 'accepted')
        if (how === 'crashes') exit('crash')
        if (how === 'is killed') await forever()
      })[0]
      const [, port] = await receive(['port', _], soon)
      await using client = await dial(`tcp://127.0.0.1:${String(port)}`)
      await receive('accepted', soon)
      if (how === 'is killed') exit(pid, 'kill')
      assert.equal(await client.read({ timeout: 5_000 }), null)
      await assert.rejects(dial(`tcp://127.0.0.1:${String(port)}`), { code: 'ECONNREFUSED' })
    })
  }

  test('an accept of a process that is ended takes no connection from the others', async () => {
    const listening = ok(await gen_tcp.listen(0, [LOCAL]))
    const first = spawn(() => gen_tcp.accept(listening))
    await receive(after(5))
    const second = gen_tcp.accept(listening, 5_000)
    exit(first, 'kill')
    const socket = ok(await gen_tcp.connect('127.0.0.1', ok(inet.port(listening)), []))
    await gen_tcp.close(ok(await second))
    await gen_tcp.close(socket)
    await gen_tcp.close(listening)
  })

  test('an exit signal to the process of a socket resets it, and its owner hears of it', async () => {
    process_flag('trap_exit', true)
    const listening = ok(await gen_tcp.listen(0, [LOCAL]))
    const accepting = gen_tcp.accept(listening)
    const socket = ok(await gen_tcp.connect('127.0.0.1', ok(inet.port(listening)), []))
    const accepted = ok(await accepting)
    const ref = inet.monitor(accepted)
    exit(inet.pid(socket), 'broken')
    assert.deepEqual(await receive(['EXIT', _, _], soon), ['EXIT', inet.pid(socket), 'broken'])
    assert.deepEqual(await gen_tcp.send(socket, 'x'), ['error', 'closed'])
    await gen_tcp.close(accepted)
    assert.deepEqual(await receive(['DOWN', ref, _, _, _], soon), ['DOWN', ref, 'port', accepted, 'normal'])
    await gen_tcp.close(listening)
  })

  test('monitors of sockets name the socket, say noproc of one that is closed, and are undone', async () => {
    const listening = ok(await gen_tcp.listen(0, [LOCAL]))
    const other = ok(await gen_tcp.listen(0, [LOCAL]))
    const refs = [inet.monitor(listening), inet.monitor(other)]
    assert.equal(inet.cancel_monitor(refs[1] as Ref), true)
    assert.equal(inet.cancel_monitor(refs[1] as Ref), false)
    for (const one of [listening, other]) await gen_tcp.close(one)
    assert.deepEqual(await receive(['DOWN', _, _, _, _], soon), ['DOWN', refs[0], 'port', listening, 'normal'])
    const late = inet.monitor(listening)
    assert.deepEqual(await receive(_, soon), ['DOWN', late, 'port', listening, 'noproc'])
    const ended = monitor(
      'process',
      spawn(() => 1),
    )
    await receive(['DOWN', ended, _, _, _], soon)
    assert.deepEqual([demonitor(ended), demonitor(ended, ['info']), demonitor(ended, ['flush', 'info'])], [true, false, false])
    const running = spawn(forever)
    assert.equal(demonitor(monitor('process', running), ['flush', 'info']), true)
    exit(running, 'kill')
    assert.equal(await receive(_, after(5)), 'timeout')
  })

  for (const [how, reason] of [
    ['returns', 'normal'],
    ['exits', 'why'],
    ['is killed', 'killed'],
  ] as const) {
    test(`the monitor of a socket whose owner ${how} is told ${reason}`, async () => {
      const main = self()
      const listening = ok(await gen_tcp.listen(0, [LOCAL]))
      const accepting = gen_tcp.accept(listening)
      const owner = spawn(async () => {
        erlang.send(main, ['socket', ok(await gen_tcp.connect('127.0.0.1', ok(inet.port(listening)), []))])
        await receive('go')
        if (how === 'exits') exit('why')
      })
      const accepted = ok(await accepting)
      const socket = (await receive(['socket', _], soon))[1] as gen_tcp.TcpSocket
      const ref = inet.monitor(socket)
      if (how === 'is killed') exit(owner, 'kill')
      else erlang.send(owner, 'go')
      assert.deepEqual(await receive(['DOWN', ref, _, _, _], soon), ['DOWN', ref, 'port', socket, reason])
      for (const one of [accepted, listening]) await inet.close(one)
    })
  }

  test('a loop that only looks for messages sees what arrives at a socket', async () => {
    const listening = ok(await gen_tcp.listen(0, [LOCAL]))
    const accepting = gen_tcp.accept(listening)
    const client = ok(await gen_tcp.connect('127.0.0.1', ok(inet.port(listening)), []))
    const accepted = ok(await accepting)
    await gen_tcp.send(client, 'x')
    let looks = 0
    // A loop that left the others no time would never end.
    while ((await receive(['tcp', accepted, 'x'], after(0))) === 'timeout') assert.ok(++looks < 100_000)
    assert.equal(inet.setopts(accepted, [['active', 'once']]), 'ok')
    for (const one of [client, accepted, listening]) await inet.close(one)
  })

  test('processes that talk to one another without end leave sockets and timers their turns', async () => {
    const listening = ok(await gen_tcp.listen(0, [LOCAL]))
    const accepting = gen_tcp.accept(listening)
    const client = ok(await gen_tcp.connect('127.0.0.1', ok(inet.port(listening)), []))
    const accepted = ok(await accepting)
    let talked = 0
    const pong = spawn(async () => {
      for (;;) erlang.send((await receive(['ping', _]))[1] as Pid, 'pong')
    })
    const ping = spawn(async () => {
      for (; talked < 1_000_000; talked++) {
        erlang.send(pong, ['ping', self()])
        await receive('pong')
      }
    })
    await gen_tcp.send(client, 'x')
    assert.deepEqual(await receive(['tcp', accepted, _], soon), ['tcp', accepted, 'x'])
    assert.equal(await receive('never', after(5)), 'timeout')
    for (const one of [ping, pong]) exit(one, 'kill')
    assert.ok(talked < 1_000_000)
    for (const one of [client, accepted, listening]) await inet.close(one)
  })

  test('an active socket holds no more than 1 MiB for an owner that does not look', async () => {
    const listening = ok(await gen_tcp.listen(0, [LOCAL, 'binary', ['active', false]]))
    const accepting = gen_tcp.accept(listening)
    const socket = ok(await gen_tcp.connect('127.0.0.1', ok(inet.port(listening)), ['binary']))
    const accepted = ok(await accepting)
    const data = new Uint8Array(16 * 1024 * 1024).map((_byte, i) => i % 251)
    const sending = gen_tcp.send(accepted, data)
    await receive(after(50))
    const held = ok(inet.getstat(socket, ['recv_oct']))[0]?.[1] as number
    assert.ok(held < 2 * 1024 * 1024, `${held} bytes`)
    let at = 0
    while (at < data.length) {
      const [, , chunk] = await receive(['tcp', socket, _], soon)
      assert.deepEqual(chunk[0], data[at])
      at += chunk.length
    }
    assert.equal(await sending, 'ok')
    for (const one of [socket, accepted, listening]) await inet.close(one)
  })

  test('what a socket of a process opens in the core belongs to the process, too', async () => {
    const main = self()
    const listening = ok(await gen_tcp.listen(0, [LOCAL]))
    const port = ok(inet.port(listening))
    spawn(async () => {
      const connection = await dial(`tcp://127.0.0.1:${port}`)
      erlang.send(main, ['closed', connection.closed])
    })
    const [, closed] = await receive(['closed', _], soon)
    assert.equal((await (closed as Promise<{ clean: boolean }>)).clean, true)
    await gen_tcp.close(listening)
  })
})
