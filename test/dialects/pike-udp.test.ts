// Pike's datagrams, futures and functions beside its files, by the numbers under which they were observed.

import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import { Concurrent, master, sprintf, Stdio, strerror, thread_create } from 'fairlead/pike'
import { listening, log, pair, portOf, thrown, turns } from './pike-sockets.js'

describe('Stdio.UDP', () => {
  async function two(t: TestContext): Promise<[Stdio.UDP, Stdio.UDP, number]> {
    const [a, b] = [new Stdio.UDP(), new Stdio.UDP()]
    t.after(() => [a.close(), b.close()])
    assert.equal(await a.bind(0, '127.0.0.1'), a)
    assert.equal(await b.bind(0, '127.0.0.1'), b)
    return [a, b, portOf(b.query_address())]
  }

  test('P16 a datagram has data, ip and port, and by position the data and the sender', async (t) => {
    const [a, b, port] = await two(t)
    assert.equal(await a.send('127.0.0.1', port, 'hello'), 5)
    const looked = await b.read(Stdio.UDP.MSG_PEEK)
    const got = await b.read()
    assert.ok(looked && got)
    assert.deepEqual(Object.entries(got), [
      ['data', 'hello'],
      ['ip', '127.0.0.1'],
      ['port', portOf(a.query_address())],
    ])
    assert.deepEqual([got[0], got[1], looked.data], ['hello', a.query_address(), 'hello'])
    b.set_nonblocking()
    assert.deepEqual([await b.read(), b.errno()], [0, 11])
    await assert.rejects(b.read(4), thrown(/Illegal 'flags'/))
  })

  test('P16 empty datagrams and the largest ones', async (t) => {
    const [a, b, port] = await two(t)
    for (const size of [0, 65_507]) {
      assert.equal(await a.send('127.0.0.1', port, 'x'.repeat(size)), size)
      const got = await b.read()
      assert.equal(got && got.data.length, size)
    }
    await assert.rejects(a.send('127.0.0.1', port, 'x'.repeat(65_508)), thrown(/^Too big message$/))
    await assert.rejects(a.send('nosuch.invalid', port, 'x'), thrown(/^Invalid address/))
  })

  test('wait and read with a time give up, and read cuts off what is beyond its length', async (t) => {
    const [a, b, port] = await two(t)
    assert.equal(await b.wait(0.01), 0)
    assert.deepEqual([await b.read(100, '.', 0.01), b.errno()], [0, 11])
    await a.send('127.0.0.1', port, 'hello')
    assert.equal(await b.wait(5), 1)
    const got = await b.read(2, '.', 5)
    assert.deepEqual(got && [got.data, got[0]], ['he', 'he'])
  })

  test('callbacks get datagrams with their extra arguments', async (t) => {
    const [a, b, port] = await two(t)
    const events = log()
    assert.equal(
      b.set_nonblocking((got, ...extra: unknown[]) => events.add(got.data, ...extra), 1, 'x'),
      b,
    )
    await a.send('127.0.0.1', port, 'one')
    await a.send('127.0.0.1', port, 'two')
    await events.until(2)
    assert.deepEqual(events.seen, [
      ['one', 1, 'x'],
      ['two', 1, 'x'],
    ])
    b.set_read_callback()
    await a.send('127.0.0.1', port, 'three')
    assert.equal(await b.wait(5), 1)
    assert.equal(events.seen.length, 2)
  })

  test('P17 two objects share a fixed port, unless no_reuseaddr is set or the port was chosen by the system', async (t) => {
    const [a, b, port] = await two(t)
    const third = new Stdio.UDP()
    t.after(() => third.close())
    assert.deepEqual([await third.bind(port, '127.0.0.1'), third.errno()], [0, 98])
    b.close()
    await turns()
    assert.equal(await third.bind(port, '127.0.0.1'), third)
    assert.equal(await a.bind(port, '127.0.0.1'), a)
    assert.deepEqual([await b.bind(port, '127.0.0.1', 1), b.errno()], [0, 98])
  })

  test('a peer that is not there is told to a connected object, which lives on', async (t) => {
    const [a, b, port] = await two(t)
    assert.equal(await a.connect('127.0.0.1', port), 1)
    assert.equal(await a.send('127.0.0.1', port, 'x'), 1)
    assert.equal((await b.read()) && 1, 1)
    await b[Symbol.asyncDispose]()
    await a.send('127.0.0.1', port, 'x')
    await assert.rejects(a.read(), thrown(/errno 111/))
    assert.equal(a.errno(), 111)
  })

  test('what is not bound throws, but send binds', async (t) => {
    const udp = new Stdio.UDP()
    t.after(() => udp.close())
    await assert.rejects(udp.read(), thrown(/not open/))
    await assert.rejects(udp.wait(1), thrown(/not bound/))
    assert.throws(() => udp.query_address(), thrown(/not bound/))
    assert.equal(udp.set_option(Stdio.PORT_BROADCAST, 1), 1)
    const [, b, port] = await two(t)
    assert.equal(await udp.send('127.0.0.1', port, 'x'), 1)
    const got = await b.read()
    assert.equal(got && `0.0.0.0 ${got.port}`, udp.query_address())
    assert.deepEqual([udp.close(), udp.close(), udp.get_type()], [1, 1, [2, 0]])
  })

  test('tasks that read at the same time get one datagram each, and no callback beside them', async (t) => {
    const [a, b, port] = await two(t)
    const events = log()
    const reads = [b.read(), b.read()]
    b.set_read_callback((got) => events.add(got.data))
    for (const data of ['one', 'two', 'three']) await a.send('127.0.0.1', port, data)
    assert.deepEqual(
      (await Promise.all(reads)).map((got) => got && got.data),
      ['one', 'two'],
    )
    await events.until(1)
    assert.deepEqual(events.seen, ['three'])
    const closing = b.read()
    b.close()
    assert.deepEqual([await closing, b.errno()], [0, 9])
  })

  test('an error that wait has seen is told by the next read', async (t) => {
    const [a, b, port] = await two(t)
    await a.connect('127.0.0.1', port)
    await b[Symbol.asyncDispose]()
    await a.send('127.0.0.1', port, 'x')
    assert.deepEqual([await a.wait(5), a.errno()], [1, 0])
    await assert.rejects(a.read(), thrown(/errno 111/))
    assert.equal(await a.wait(0), 0)
  })

  test('options give 0, or −1 with an errno', async (t) => {
    const [a] = await two(t)
    assert.deepEqual([a.enable_broadcast(), a.set_multicast_ttl(3), a.enable_multicast('127.0.0.1')], [0, 0, 0])
    assert.deepEqual([a.add_membership('127.0.0.1'), a.errno()], [-1, 22])
    assert.equal(a.add_membership('239.1.2.3', '127.0.0.1'), 0)
    assert.equal(a.drop_membership('239.1.2.3', '127.0.0.1'), 0)
    a.set_buffer(65_536)
    assert.throws(() => a.set_option('keepAlive', 1), thrown(/no option/))
  })

  test('IPv4 senders are plain on a socket of both families', async (t) => {
    const udp = new Stdio.UDP()
    t.after(() => udp.close())
    assert.equal(await udp.bind(0, '::'), udp)
    const other = new Stdio.UDP()
    t.after(() => other.close())
    await other.send('127.0.0.1', portOf(udp.query_address()), 'x')
    const got = await udp.read()
    assert.equal(got && got.ip, '127.0.0.1')
  })
})

describe('Concurrent', () => {
  test('P24 a value comes once, a failure as it is, and a second one throws', async () => {
    const events = log()
    const promise = new Concurrent.Promise<string>()
    const future = promise.future()
    future.on_success((value, extra: number) => events.add(value, extra), 5)
    assert.equal(future.state, 'pending')
    promise.success('v')
    assert.deepEqual(events.seen, [])
    assert.throws(() => promise.success('w'), thrown(/already been finalised/))
    assert.throws(() => promise.failure('w'), thrown(/already been finalised/))
    promise.try_success('w')
    assert.equal(await future.get(), 'v')
    assert.equal(await future, 'v')
    assert.equal((await future.wait()).get(), 'v')
    const failed = new Concurrent.Promise()
    const why = { error: 'Connection failed' }
    failed.future().on_failure((failure) => events.add(failure))
    failed.failure(why)
    await assert.rejects(failed.future().get(), (error) => error === why)
    assert.equal((await failed.future().wait()).state, 'rejected')
    await events.until(2)
    assert.deepEqual(events.seen, [['v', 5], why])
  })

  test('futures can be mapped, joined, raced and timed', async () => {
    const { resolve, reject, all, race, results, traverse, fold } = Concurrent
    assert.equal(await resolve(2).map((n) => n + 1), 3)
    assert.equal(await resolve(2).map_with((n) => resolve(n * 2)), 4)
    assert.equal(await resolve(2).then((n) => resolve(`${n}`)), '2')
    assert.equal(await reject('no').recover((failure) => `${String(failure)}!`), 'no!')
    assert.equal(await reject('no').thencatch((failure) => failure), 'no')
    assert.equal(await reject('no').recover_with(() => resolve(1)), 1)
    assert.equal(
      await reject('no').transform(
        () => 1,
        () => 2,
      ),
      2,
    )
    assert.equal(await resolve(1).transform_with(() => resolve(7)), 7)
    assert.deepEqual(await all(resolve(1), [resolve('a')]), [1, 'a'])
    assert.deepEqual(await results([resolve(1), resolve(2)]), [1, 2])
    assert.deepEqual(await resolve(1).zip(resolve(2)), [1, 2])
    assert.deepEqual(await traverse([resolve(1), resolve(2)], (n, more: number) => n + more, 10), [11, 12])
    assert.equal(await fold([resolve(1), resolve(2)], 10, (n, sum) => n + sum), 13)
    assert.equal(await race(new Concurrent.Promise<number>(), resolve(5).delay(0.01)), 5)
    await assert.rejects(
      resolve(1)
        .filter(() => 0)
        .get(),
    )
    await assert.rejects(all(resolve(1), reject('x')).get(), (error) => error === 'x')
    await assert.rejects(new Concurrent.Promise().timeout(0.01).get(), thrown(/^Timeout\.$/))
    assert.equal(await resolve(1).timeout(5), 1)
    assert.equal(
      resolve(1)
        .map(() => 0)
        .try_get(),
      0,
    )
    const promise = new Concurrent.Promise<unknown[]>()
    const one = promise.depend() as Concurrent.Promise<unknown>
    promise.depend(resolve(2))
    one.success(1)
    assert.deepEqual(await promise, [1, 2])
    assert.deepEqual(await new Concurrent.Promise<number>().depend(reject('x'), resolve(3)).max_failures(-1), ['x', 3])
    assert.equal(await new Concurrent.Promise<number>().depend(new Concurrent.Promise(), resolve(3)).first_completed(), 3)
  })

  test('thread_create runs beside the others, and reports what is thrown', async (t) => {
    const order: string[] = []
    const thread = thread_create(async (name: string) => {
      order.push(name)
      return 5
    }, 'inner')
    order.push('outer')
    assert.deepEqual([await thread.wait(), order, thread.status()], [5, ['outer', 'inner'], 2])
    const before = master().handle_error
    t.after(() => (master().handle_error = before))
    const reported: unknown[] = []
    master().handle_error = (error) => reported.push(error)
    assert.equal(
      await thread_create(() => {
        throw new Error('no')
      }).wait(),
      0,
    )
    assert.equal(reported.length, 1)
  })
})

describe('what is around', () => {
  test('strerror has the texts of the system', () => {
    assert.deepEqual([0, 32, 104, 111, 9999, -1].map(strerror), [
      'Success',
      'Broken pipe',
      'Connection reset by peer',
      'Connection refused',
      'Error 9999',
      'Error -1',
    ])
  })

  test('sprintf knows the formats of Pike', () => {
    assert.equal(sprintf('%s:%d %x %X %o %b %c %%', 'a', -5, 255, 255, 8, 5, 65), 'a:-5 ff FF 10 101 A %')
    assert.equal(
      sprintf('[%5s][%-5s][%|5s][%05d][%+d][%.2s][%*d]', 'a', 'b', 'c', -42, 5, 'xyz', 4, 7),
      '[    a][b    ][  c  ][-0042][+5][xy][   7]',
    )
    assert.equal(sprintf('%f %.1f %e %g', 1.5, 3.14159, 12345.678, 0.1), '1.500 3.1 1.235e+04 0.1')
    assert.equal(sprintf('%[1]s %[0]s %s %<s', 'a', 'b'), 'b a a a')
    assert.equal(sprintf('%{<%s>%}', ['a', 'b']), '<a><b>')
    assert.equal(
      sprintf('%{%s=%d %}', [
        ['a', 1],
        ['b', 2],
      ]),
      'a=1 b=2 ',
    )
    assert.equal(sprintf('%O %q', 'a\n', 'b"'), '"a\\n" "b\\""')
    assert.throws(() => sprintf('%d'), thrown(/Too few arguments/))
    assert.throws(() => sprintf('%d', 'x'), thrown(/expected integer, got string/))
    assert.throws(() => sprintf('%k', 1), thrown(/k is not a format/))
  })

  test('select tells what can be read and written, and 0 after the time', async (t) => {
    const port = await listening(t)
    const [file, peer] = await pair(t)
    assert.equal(await Stdio.select([port, file], [], [], 0), 0)
    assert.deepEqual(await Stdio.select([file], [file]), [[], [file], []])
    await peer.write('x')
    assert.deepEqual(await Stdio.select([port, file]), [[file], [], []])
    await file.read(1)
    peer.close()
    assert.deepEqual(await Stdio.select([port, file]), [[file], [], []])
    const client = new Stdio.File()
    t.after(() => client.close())
    await client.connect('127.0.0.1', portOf(port.query_address()))
    assert.deepEqual(await Stdio.select([port]), [[port], [], []])
    await assert.rejects(Stdio.select([new Stdio.File()]), thrown(/not open/))
  })

  test('options hold from before connecting on', async (t) => {
    const port = await listening(t)
    const file = new Stdio.File()
    t.after(() => file.close())
    assert.equal(file.set_option(Stdio.KEEPALIVE, 1), 1)
    assert.equal(file.set_option(Stdio.NO_DELAY, 1), 1)
    file.set_buffer(65_536, 65_536)
    file.set_nonblocking(1, 0, 0)
    file.set_blocking()
    assert.equal(await file.connect('127.0.0.1', portOf(port.query_address())), 1)
    assert.deepEqual([file.set_keepalive(0), file.set_nodelay(), file.linger(5)], [1, 1, 0])
    assert.throws(() => file.set_buffer(-1), thrown(/Bad argument/))
    assert.equal(port.set_option(Stdio.PORT_REUSE_ADDRESS, 1), 1)
  })
})
