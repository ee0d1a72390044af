/** `gen_udp` and `inet`. */

import assert from 'node:assert/strict'
import { describe } from 'node:test'
import { bind } from 'fairlead'
import { _, after, erlang, gen_tcp, gen_udp, inet, type IpTuple, receive, self, spawn } from 'fairlead/erlang'
import { bytes, LOCAL, ok, soon, test } from './erlang-worlds.js'

const HERE: IpTuple = [127, 0, 0, 1]

async function udp<const O extends readonly gen_udp.UdpOption[]>(options: O) {
  const socket = ok(await gen_udp.open(0, [LOCAL, ...options]))
  return [socket, ok(inet.port(socket))] as const
}

describe('gen_udp', () => {
  test('a datagram is sent by address and port, as a tuple or a name, and received whole', async () => {
    const [left, from] = await udp(['binary', ['active', false]])
    const [right, to] = await udp(['binary', ['active', false]])
    assert.equal(await gen_udp.send(left, HERE, to, 'one'), 'ok')
    assert.equal(await gen_udp.send(left, 'localhost', to, [116, 'wo']), 'ok')
    assert.equal(await gen_udp.send(left, [HERE, to], bytes('three')), 'ok')
    for (const text of ['one', 'two', 'three']) assert.deepEqual(await gen_udp.recv(right, 0, 5_000), ['ok', [HERE, from, bytes(text)]])
    assert.deepEqual(await gen_udp.recv(right, 0, 10), ['error', 'timeout'])
    for (const socket of [left, right]) assert.equal(await gen_udp.close(socket), 'ok')
  })

  test('an active socket sends its owner messages; once, and N with udp_passive', async () => {
    const [left, from] = await udp([['active', false]])
    const [right, to] = await udp([['active', 'once']])
    for (const text of ['a', 'b', 'c', 'd']) await gen_udp.send(left, HERE, to, text)
    assert.deepEqual(await receive(_, soon), ['udp', right, HERE, from, 'a'])
    assert.equal(await receive(_, after(20)), 'timeout')
    assert.deepEqual(await gen_udp.recv(right, 0), ['ok', [HERE, from, 'b']])
    assert.equal(inet.setopts(right, [['active', 1]]), 'ok')
    assert.deepEqual(await receive(_, soon), ['udp', right, HERE, from, 'c'])
    assert.deepEqual(await receive(_, soon), ['udp_passive', right])
    assert.equal(inet.setopts(right, [['active', true]]), 'ok')
    assert.deepEqual(await receive(_, soon), ['udp', right, HERE, from, 'd'])
    assert.deepEqual(await gen_udp.recv(right, 0), ['error', 'einval'])
    for (const socket of [left, right]) await gen_udp.close(socket)
  })

  test('a connected socket sends without an address and hears of its peer alone', async () => {
    const [left, from] = await udp(['list', ['active', false]])
    await using peer = await bind('udp://127.0.0.1:0')
    await using stranger = await bind('udp://127.0.0.1:0')
    const port = (peer.local as { port: number }).port
    assert.deepEqual(await gen_udp.send(left, 'nobody'), ['error', 'einval'])
    assert.equal(await gen_udp.connect(left, '127.0.0.1', port), 'ok')
    assert.deepEqual(inet.peername(left), ['ok', [HERE, port]])
    assert.equal(await gen_udp.send(left, 'hello'), 'ok')
    assert.deepEqual((await peer.receive()).data, bytes('hello'))
    await stranger.send('not me', `udp://127.0.0.1:${from}`)
    await peer.send('me', `udp://127.0.0.1:${from}`)
    assert.deepEqual(await gen_udp.recv(left, 0, 5_000), ['ok', [HERE, port, 'me']])
    await gen_udp.close(left)
  })

  test('an owner ends with its sockets, and gives them away', async () => {
    const [left] = await udp([['active', false]])
    const main = self()
    const owner = spawn(async () => {
      erlang.send(main, ['mine', await receive(['udp', _, _, _, _], soon)])
    })
    const [right, to] = await udp([['active', true]])
    assert.equal(gen_udp.controlling_process(right, owner), 'ok')
    assert.deepEqual(gen_udp.controlling_process(right, main), ['error', 'not_owner'])
    await gen_udp.send(left, HERE, to, 'x')
    const [, [, , , , data]] = (await receive(['mine', _], soon)) as ['mine', ['udp', unknown, unknown, unknown, unknown]]
    assert.equal(data, 'x')
    await receive(after(5))
    assert.deepEqual(await gen_udp.send(right, HERE, to, 'x'), ['error', 'closed'])
    await gen_udp.close(left)
  })

  test('bad arguments are einval, what is too long emsgsize, a busy port eaddrinuse, a closed socket closed', async () => {
    const [socket, port] = await udp([['active', false]])
    for (const options of [['bniary'], [['active', 'x']], [['ip', 'localhost']], [['packet', 4]], 'x', [['ttl', 0]]])
      assert.deepEqual(await gen_udp.open(0, options as never), ['error', 'einval'])
    assert.deepEqual(await gen_udp.open(-1), ['error', 'einval'])
    assert.deepEqual(await gen_udp.open(port, [LOCAL]), ['error', 'eaddrinuse'])
    assert.deepEqual(await gen_udp.send(socket, HERE, 0, 'x'), ['error', 'einval'])
    assert.deepEqual(await gen_udp.send(socket, HERE, port, [300]), ['error', 'einval'])
    assert.deepEqual(await gen_udp.send(socket, HERE, port, new Uint8Array(65_508)), ['error', 'emsgsize'])
    const waiting = gen_udp.recv(socket, 0)
    assert.equal(await gen_udp.close(socket), 'ok')
    assert.equal(await gen_udp.close(socket), 'ok')
    assert.deepEqual(await waiting, ['error', 'closed'])
    assert.deepEqual(await gen_udp.recv(socket, 0), ['error', 'closed'])
    assert.deepEqual(inet.sockname(socket), ['error', 'einval'])
  })

  test('options, counters and the header of numbers', async () => {
    const [left] = await udp([
      ['active', false],
      ['broadcast', true],
      ['recbuf', 100_000],
      ['sndbuf', 100_000],
      ['ttl', 9],
    ])
    const [right, to] = await udp(['binary', ['active', false], ['header', 2]])
    assert.deepEqual(ok(inet.getopts(left, ['mode', 'active', 'broadcast'])), [
      ['mode', 'list'],
      ['active', false],
      ['broadcast', true],
    ])
    await gen_udp.send(left, HERE, to, 'abcd')
    assert.deepEqual(ok(await gen_udp.recv(right, 0, 5_000))[2], [97, 98, bytes('cd')])
    assert.deepEqual(ok(inet.getstat(left, ['send_cnt', 'send_oct'])), [
      ['send_cnt', 1],
      ['send_oct', 4],
    ])
    assert.deepEqual(
      inet.setopts(left, [
        ['multicast_ttl', 2],
        ['multicast_loop', true],
      ]),
      'ok',
    )
    assert.deepEqual(inet.setopts(left, [['inet6']] as never), ['error', 'einval'])
    const system = Object.fromEntries(ok(inet.getopts(left, ['recbuf', 'sndbuf', 'ttl', 'multicast_ttl', 'multicast_loop'])))
    assert.ok(Number(system['recbuf']) >= 100_000 && Number(system['sndbuf']) >= 100_000)
    assert.deepEqual([system['ttl'], system['multicast_ttl'], system['multicast_loop']], [9, 2, true])
    assert.deepEqual(inet.getopts(left, ['ttl', 'tlt']), ['error', 'einval'])
    await gen_udp.send(left, HERE, to, 'a')
    assert.deepEqual(ok(await gen_udp.recv(right, 0, 5_000))[2], [97])
    assert.deepEqual(await gen_udp.send(left, undefined as never, 'x'), ['error', 'einval'])
    for (const socket of [left, right]) await gen_udp.close(socket)
  })
})

describe('inet', () => {
  test('addresses and their texts', async () => {
    assert.deepEqual(inet.parse_address('127.0.0.1'), ['ok', [127, 0, 0, 1]])
    assert.deepEqual(inet.parse_address('::1'), ['ok', [0, 0, 0, 0, 0, 0, 0, 1]])
    assert.deepEqual(inet.parse_address('fe80::1:2'), ['ok', [0xfe80, 0, 0, 0, 0, 0, 1, 2]])
    assert.deepEqual(inet.parse_address('::ffff:1.2.3.4'), ['ok', [0, 0, 0, 0, 0, 0xffff, 0x0102, 0x0304]])
    for (const [text, address] of [
      ['127.1', [127, 0, 0, 1]],
      ['1.2.3', [1, 2, 0, 3]],
      ['0x7f.0.0.010', [127, 0, 0, 8]],
      ['16909060', [1, 2, 3, 4]],
      ['1.2.65535', [1, 2, 255, 255]],
    ] as const) {
      assert.deepEqual(inet.parse_address(text), ['ok', address], text)
      assert.deepEqual(inet.parse_ipv4_address(text), ['ok', address], text)
    }
    for (const text of ['127.1', '1.2.3', '16909060']) assert.deepEqual(inet.parse_strict_address(text), ['error', 'einval'], text)
    assert.deepEqual(inet.parse_strict_address('1.2.3.4'), ['ok', [1, 2, 3, 4]])
    assert.deepEqual(inet.parse_strict_address('::2'), ['ok', [0, 0, 0, 0, 0, 0, 0, 2]])
    for (const text of [
      '256.0.0.1',
      '1.2.3.256',
      '1.2.65536',
      '4294967296',
      '1.',
      '.1',
      '08',
      '1.2.3.4.5',
      '0x',
      'localhost',
      '',
      '1:2',
      ':::',
    ])
      assert.deepEqual(inet.parse_address(text), ['error', 'einval'], text)
    assert.deepEqual(inet.parse_ipv4_address('::1'), ['error', 'einval'])
    assert.deepEqual(inet.parse_ipv6_address('::'), ['ok', [0, 0, 0, 0, 0, 0, 0, 0]])
    assert.equal(inet.ntoa([10, 0, 0, 1]), '10.0.0.1')
    assert.equal(inet.ntoa([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]), '2001:db8::1')
    assert.equal(inet.ntoa([0, 0, 0, 0, 0, 0xffff, 0x102, 0x304]), '::ffff:1.2.3.4')
    assert.deepEqual(inet.ntoa([1, 2, 3] as never), ['error', 'einval'])
    assert.deepEqual(await inet.getaddr('localhost', 'inet'), ['ok', [127, 0, 0, 1]])
    assert.deepEqual(await inet.getaddr([127, 0, 0, 1], 'inet'), ['ok', [127, 0, 0, 1]])
    assert.deepEqual(await inet.getaddr('127.0.0.1', 'inet6'), ['error', 'nxdomain'])
    assert.deepEqual(await inet.getaddr([127, 0, 0, 1], 'inet6'), ['error', 'eafnosupport'])
    assert.deepEqual(await inet.getaddr('no such host', 'inet'), ['error', 'nxdomain'])
    assert.equal(ok(inet.gethostname()).includes('.'), false)
    assert.ok(
      ok(inet.getifaddrs()).some(([, addresses]) => addresses.some(([what, value]) => what === 'addr' && String(value) === '127,0,0,1')),
    )
    assert.equal(inet.format_error('econnrefused'), 'connection refused')
    assert.equal(inet.format_error('enosuch'), 'unknown POSIX error')
  })

  test('getstat counts packets with their lengths as they are given to the program', async () => {
    const listening = ok(await gen_tcp.listen(0, [LOCAL, ['packet', 1], ['active', false]]))
    const accepting = gen_tcp.accept(listening)
    const client = ok(await gen_tcp.connect('127.0.0.1', ok(inet.port(listening)), []))
    const server = ok(await accepting)
    await gen_tcp.send(client, [3, 'abc', 1, 'd', 9, 'part'])
    const counters = ['recv_cnt', 'recv_oct', 'recv_max', 'recv_avg', 'send_cnt', 'send_oct', 'send_max'] as const
    const counts = () => ok(inet.getstat(server, counters)).map(([, count]) => count)
    assert.deepEqual(counts(), [0, 0, 0, 0, 0, 0, 0])
    for (const text of ['abc', 'd']) assert.deepEqual(await gen_tcp.recv(server, 0), ['ok', text])
    await gen_tcp.send(server, 'hello')
    assert.deepEqual(counts(), [2, 6, 4, 3, 1, 6, 6])
    for (const socket of [client, server, listening]) await inet.close(socket)
  })

  test('options that the system knows are asked of it, and left out where the driver does not tell', async () => {
    const listening = ok(await gen_tcp.listen(0, [LOCAL, ['active', false]]))
    const accepting = gen_tcp.accept(listening)
    const client = ok(await gen_tcp.connect('127.0.0.1', ok(inet.port(listening)), [['active', false]]))
    const server = ok(await accepting)
    const names = ['recbuf', 'active', 'sndbuf', 'ttl', 'priority']
    for (const socket of [client, server, listening]) {
      const told = ok(inet.getopts(socket, names))
      if (process.env['FAIRLEAD_DRIVER'] === 'kernel') {
        assert.deepEqual(
          told.map(([name]) => name),
          names,
        )
        for (const [name, value] of told) assert.equal(typeof value, name === 'active' ? 'boolean' : 'number')
      } else assert.deepEqual(told, [['active', false]])
      assert.deepEqual(inet.getopts(socket, ['recbuf', 'recfub']), ['error', 'einval'])
    }
    for (const socket of [client, server, listening]) await inet.close(socket)
  })

  test('a port that is only looked at: unrecv puts bytes back, getstat counts', async () => {
    const listening = ok(await gen_tcp.listen(0, [LOCAL, 'binary', ['active', false]]))
    const accepting = gen_tcp.accept(listening)
    const client = ok(await gen_tcp.connect('127.0.0.1', ok(inet.port(listening)), []))
    const server = ok(await accepting)
    await gen_tcp.send(client, 'abcdef')
    assert.deepEqual(await gen_tcp.recv(server, 4), ['ok', bytes('abcd')])
    assert.equal(gen_tcp.unrecv(server, 'cd'), 'ok')
    assert.deepEqual(await gen_tcp.recv(server, 4), ['ok', bytes('cdef')])
    assert.equal(gen_tcp.unrecv(server, bytes('xy')), 'ok')
    assert.deepEqual(await gen_tcp.recv(server, 0), ['ok', bytes('xy')])
    // As in the original, what was put back counts again.
    assert.deepEqual(ok(inet.getstat(server, ['recv_oct'])), [['recv_oct', 10]])
    assert.deepEqual(inet.getstat(server, ['recv_otc' as never]), ['error', 'einval'])
    assert.deepEqual(inet.getstat(listening, ['recv_cnt']), ['ok', [['recv_cnt', 0]]])
    for (const socket of [client, server, listening]) await inet.close(socket)
  })
})
