/** The efuns over real sockets: states, results in their order, callbacks, flow control, hand-over and policy. */

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { connect, type Connection, Denied, listen, Network } from 'fairlead'
import {
  CONSTANTS,
  createDriver,
  type Efuns,
  MODES,
  RESULTS,
  type ResultName,
  socketError,
  type SocketFacts,
  type SocketStatus,
} from 'fairlead/fluffos'
import { settle, VirtualClock } from 'fairlead/testing'
import { socketsOpen } from '../matrix.js'
import { stage } from './fluffos-objects.js'

const { DATAGRAM, STREAM, STREAM_BINARY, STREAM_TLS } = MODES
const R = RESULTS
const utf8 = new TextDecoder()

after(async () => {
  await settle()
  assert.deepEqual(socketsOpen(), [])
})

describe('states and results', () => {
  test('each call in the wrong state gives the result of the original', async (t) => {
    const { actor } = stage(t)
    const { efuns } = actor()
    const unbound = efuns.socket_create(STREAM, 'read')
    assert.equal(await efuns.socket_listen(unbound, 'listen'), R.EENOADDR)
    assert.equal(efuns.socket_accept(unbound, 'read', 'write'), R.EENOTLISTN)
    assert.equal(efuns.socket_write(unbound, 'x'), R.EENOTCONN)
    assert.equal(await efuns.socket_bind(unbound, 0), R.EESUCCESS)
    assert.equal(await efuns.socket_bind(unbound, 0), R.EEISBOUND)
    assert.equal(await efuns.socket_listen(unbound, 'listen'), R.EESUCCESS)
    assert.equal(await efuns.socket_listen(unbound, 'listen'), R.EEISCONN)
    assert.equal(efuns.socket_write(unbound, 'x'), R.EENOTCONN)
    assert.equal(efuns.socket_connect(unbound, '127.0.0.1 1', 'read', 'write'), R.EEISLISTEN)
    const connecting = efuns.socket_create(STREAM, 'read')
    const at = efuns.socket_address(unbound, 1).replace('0.0.0.0', '127.0.0.1')
    assert.equal(efuns.socket_connect(connecting, at, 'read', 'write'), R.EESUCCESS)
    assert.equal(efuns.socket_connect(connecting, at, 'read', 'write'), R.EEISCONN)
    assert.equal(await efuns.socket_bind(connecting, 0), R.EEISBOUND)
    assert.equal(await efuns.socket_listen(connecting, 'listen'), R.EEISCONN)
    assert.equal(efuns.socket_accept(connecting, 'read', 'write'), R.EENOTLISTN)
    for (const [fd, result] of [
      [99, R.EEFDRANGE],
      [-1, R.EEFDRANGE],
      [unbound, R.EEBADF],
    ] as const) {
      if (fd === unbound) assert.equal(efuns.socket_close(fd), R.EESUCCESS)
      assert.equal(await efuns.socket_bind(fd, 0), result)
      assert.equal(await efuns.socket_listen(fd, 'listen'), result)
      assert.equal(efuns.socket_accept(fd, 'read', 'write'), result)
      assert.equal(efuns.socket_connect(fd, 'nonsense', 'read', 'write'), result)
      assert.equal(efuns.socket_write(fd, 'x'), result)
      assert.equal(efuns.socket_close(fd), result)
      assert.equal(efuns.socket_release(fd, {}, 'release'), result)
      assert.equal(efuns.socket_acquire(fd, 'read', 'write', 'close'), result)
    }
  })

  test('the state is CLOSED, UNBOUND, BOUND, LISTEN, DATA_XFER as the socket goes', async (t) => {
    const { actor, pair } = stage(t)
    const one = actor()
    const fd = one.efuns.socket_create(STREAM, 'read')
    assert.equal(one.state(fd), 'UNBOUND')
    const binding = one.efuns.socket_bind(fd, 0)
    assert.equal(one.state(fd), 'UNBOUND')
    await binding
    assert.equal(one.state(fd), 'BOUND')
    await one.efuns.socket_listen(fd, 'listen')
    assert.equal(one.state(fd), 'LISTEN')
    one.efuns.socket_close(fd)
    assert.equal(one.state(fd), 'CLOSED')
    assert.deepEqual(one.efuns.socket_status(fd), [-1, 'CLOSED', 'MUD', '', '', 0])
    const { client, server, fd: dialled, peer } = await pair(STREAM)
    assert.equal(client.state(dialled), 'DATA_XFER')
    assert.equal(server.state(peer), 'DATA_XFER')
  })

  test('datagram sockets do not listen, accept or connect, and modes beyond 6 do not exist', async (t) => {
    const { actor } = stage(t)
    const { efuns } = actor()
    const fd = efuns.socket_create(DATAGRAM, 'read')
    assert.equal(await efuns.socket_listen(fd, 'listen'), R.EEMODENOTSUPP)
    assert.equal(efuns.socket_accept(fd, 'read', 'write'), R.EEMODENOTSUPP)
    assert.equal(efuns.socket_connect(fd, '127.0.0.1 1', 'read', 'write'), R.EEMODENOTSUPP)
    assert.equal(efuns.socket_create(-1, 'read'), R.EEMODENOTSUPP)
    assert.equal(efuns.socket_create(7, 'read'), R.EEMODENOTSUPP)
  })

  test('checks come in the order of the original', async (t) => {
    const { actor, pair } = stage(t)
    const { efuns } = actor()
    const bound = efuns.socket_create(STREAM, 'read')
    assert.equal(efuns.socket_write(bound, 5, 'nonsense'), R.EENOTCONN)
    await efuns.socket_bind(bound, 0)
    assert.equal(await efuns.socket_bind(bound, 70_000, 'nonsense'), R.EEISBOUND)
    await efuns.socket_listen(bound, 'listen')
    assert.equal(efuns.socket_connect(bound, 'nonsense', 'read', 'write'), R.EEISLISTEN)
    const datagram = efuns.socket_create(DATAGRAM, 'read')
    assert.equal(efuns.socket_connect(datagram, 'nonsense', 'read', 'write'), R.EEMODENOTSUPP)
    assert.equal(efuns.socket_write(datagram, 5), R.EENOADDR)
    assert.equal(efuns.socket_write(datagram, 5, 'nonsense'), R.EEBADADDR)
    assert.equal(efuns.socket_write(datagram, 5, '127.0.0.1 0'), R.EETYPENOTSUPP)
    const { client, fd } = await pair(STREAM)
    assert.equal(client.efuns.socket_connect(fd, 'nonsense', 'read', 'write'), R.EEISCONN)
    assert.equal(client.efuns.socket_write(fd, 5, 'nonsense'), R.EEBADADDR)
    assert.equal(client.efuns.socket_write(fd, new Uint8Array(16 * 1024 * 1024)), R.EECALLBACK)
    assert.equal(client.efuns.socket_write(fd, 5, 'nonsense'), R.EEBADADDR)
    assert.equal(client.efuns.socket_write(fd, 5), R.EEALREADY)
  })

  test('a descriptor is the lowest that is free', (t) => {
    const { actor } = stage(t)
    const { efuns } = actor()
    const made = () => efuns.socket_create(STREAM, 'read')
    assert.deepEqual([made(), made(), made()], [0, 1, 2])
    efuns.socket_close(1)
    assert.deepEqual([made(), made()], [1, 3])
  })

  test('each of the 32 codes has its text, and nothing else has one', () => {
    const names = Object.keys(RESULTS) as ResultName[]
    const texts = names.filter((name) => RESULTS[name] < 0).map((name) => socketError(RESULTS[name]))
    assert.equal(new Set(texts).size, 32)
    assert.equal(socketError(R.EECALLBACK), 'Wait for callback')
    assert.equal(socketError(R.EESOCKET), 'Problem creating socket')
    assert.equal(socketError(R.EEBADDATA), 'Data nested too deeply')
    for (const other of [0, 1, -33, Number.NaN]) assert.equal(socketError(other), 'socket_error: invalid error number')
  })

  test('arguments of a wrong type are errors of LPC', async (t) => {
    const { actor } = stage(t)
    const { efuns } = actor()
    const wrong = efuns as unknown as Record<keyof Efuns, (...all: unknown[]) => unknown>
    const bad = (position: number) => ({ name: 'LpcError', message: new RegExp(`^Bad argument ${position} to `) })
    assert.throws(() => wrong.socket_create('STREAM', 'read'), bad(1))
    assert.throws(() => wrong.socket_create(STREAM, undefined), bad(2))
    assert.throws(() => wrong.socket_create(STREAM, 'read', 5), bad(3))
    assert.throws(() => wrong.socket_create(STREAM, '#read'), { message: 'Illegal function name in argument 2 to socket_create()' })
    await assert.rejects(async () => wrong.socket_bind(0, '80'), bad(2))
    await assert.rejects(async () => wrong.socket_listen(0.5, 'listen'), bad(1))
    assert.throws(() => wrong.socket_write(0, 'x', 5), bad(3))
    assert.throws(() => wrong.socket_write(0, 'x', '127.0.0.1\0 80'), bad(3))
    assert.throws(() => wrong.socket_release(0, 'ob', 'release'), bad(2))
  })
})

describe('binding', () => {
  test('an address in use is EEADDRINUSE, one of another machine or a port that is none EEBIND', async (t) => {
    const { actor, listening } = stage(t)
    const { port } = await listening(STREAM)
    const { efuns } = actor()
    const fd = efuns.socket_create(STREAM, 'read')
    assert.equal(await efuns.socket_bind(fd, port), R.EEADDRINUSE)
    assert.equal(await efuns.socket_bind(fd, 0, '192.0.2.1 0'), R.EEBIND)
    assert.equal(await efuns.socket_bind(fd, 70_000), R.EEBIND)
    assert.equal(await efuns.socket_bind(fd, 0), R.EESUCCESS)
  })

  test('an address has to be numeric; the port beside it does not count', async (t) => {
    const { actor } = stage(t)
    const { efuns } = actor()
    const fd = efuns.socket_create(STREAM, 'read')
    for (const address of [
      'localhost 0',
      '127.0.0.1',
      '127.0.0.1  0',
      '127.0.0.1 http',
      '::1 0',
      '127.1 0',
      '127.0.0.1 99999',
      '127.0.0.1 0\n',
    ])
      assert.equal(await efuns.socket_bind(fd, 0, address), R.EEBADADDR, address)
    assert.equal(await efuns.socket_bind(fd, 1, '127.0.0.1 0'), R.EESUCCESS)
    assert.notEqual(efuns.socket_address(fd, 1), '127.0.0.1 1')
  })

  test('a socket that connects while it is being bound is not bound: EEISBOUND', async (t) => {
    const { actor, listening } = stage(t)
    const { port } = await listening(STREAM)
    const { efuns } = actor()
    const fd = efuns.socket_create(STREAM, 'read')
    const binding = efuns.socket_bind(fd, 0)
    assert.equal(efuns.socket_connect(fd, `127.0.0.1 ${port}`, 'read', 'write'), R.EESUCCESS)
    assert.equal(await binding, R.EEISBOUND)
  })

  test('a socket that is bound connects from there', async (t) => {
    const { actor, listening } = stage(t)
    const { at, server } = await listening(STREAM)
    const client = actor()
    const { efuns } = client
    const fd = efuns.socket_create(STREAM, 'read', 'close')
    await efuns.socket_bind(fd, 0, '127.0.0.1 0')
    const local = efuns.socket_address(fd, 1)
    assert.equal(efuns.socket_connect(fd, at, 'read', 'write'), R.EESUCCESS)
    await client.until('write')
    assert.equal(efuns.socket_address(fd, 1), local)
    await server.until('listen')
  })

  test('and so does one that is bound to all addresses', async (t) => {
    const { actor, listening } = stage(t)
    const { at, server } = await listening(STREAM)
    const client = actor()
    const { socket_address, socket_bind, socket_connect, socket_create } = client.efuns
    const fd = socket_create(STREAM, 'read', 'close')
    await socket_bind(fd, 0)
    const port = socket_address(fd, 1).split(' ')[1]
    assert.equal(socket_connect(fd, at, 'read', 'write'), R.EESUCCESS)
    await client.until('write')
    assert.equal(socket_address(fd, 1), `127.0.0.1 ${port}`)
    await server.until('listen')
  })

  test('what the system says of descriptors is EESOCKET, and of a signal EEINTR', async (t) => {
    let code = ''
    const { driver } = new Network()
    const failing = {
      ...driver,
      listen: () => Promise.reject(Object.assign(new Error(code), { code })),
      dial: driver.dial,
      bind: driver.bind,
    }
    const { actor } = stage(t, { network: new Network({ driver: failing }) })
    const { efuns } = actor()
    const fd = efuns.socket_create(STREAM, 'read')
    for (const [given, result] of [
      ['EMFILE', R.EESOCKET],
      ['EINTR', R.EEINTR],
      ['ENOPROTOOPT', R.EESETSOCKOPT],
      ['EACCES', R.EEBIND],
    ] as const) {
      code = given
      assert.equal(await efuns.socket_bind(fd, 0), result)
    }
  })

  test('a policy of the network that refuses is EESECURITY', async (t) => {
    const network = new Network({ policy: ({ direction }) => direction !== 'listen' })
    const { actor, driver } = stage(t, { network })
    const { efuns } = actor()
    const fd = efuns.socket_create(STREAM, 'read')
    assert.equal(await efuns.socket_bind(fd, 0), R.EESECURITY)
    assert.ok(driver.failure(fd) instanceof Denied)
  })
})

describe('connecting', () => {
  test('the server listens, the client may write, then there is data', async (t) => {
    const { actor, listening } = stage(t)
    const { server, at } = await listening(STREAM)
    const client = actor()
    const order: string[] = []
    const accept = server.also['listen'] as (fd: number) => void
    server.also = { listen: (fd: number) => (order.push('listen'), accept(fd)), read: () => order.push('read') }
    client.also = { write: (fd: number) => (order.push('write'), client.efuns.socket_write(fd, 'hello')) }
    const fd = client.efuns.socket_create(STREAM, 'read', 'close')
    assert.equal(client.efuns.socket_connect(fd, at, 'read', 'write'), R.EESUCCESS)
    assert.equal(client.state(fd), 'DATA_XFER')
    assert.equal(client.efuns.socket_write(fd, 'too early'), R.EEALREADY)
    const [, , text] = await server.until('read')
    assert.equal(text, 'hello')
    assert.equal(order.at(-1), 'read')
    assert.deepEqual(order.slice(0, 2).sort(), ['listen', 'write'])
  })

  test('a refused connection is the close callback, in state DATA_XFER, and no write callback', async (t) => {
    const { actor, driver, listening } = stage(t)
    const { server, at, fd: nobody } = await listening(STREAM)
    server.efuns.socket_close(nobody)
    const client = actor()
    const fd = client.efuns.socket_create(STREAM, 'read', 'close')
    client.also['close'] = () => assert.equal(client.state(fd), 'DATA_XFER')
    client.efuns.socket_connect(fd, at, 'read', 'write')
    assert.deepEqual(await client.next(), ['close', fd])
    assert.equal(client.state(fd), 'CLOSED')
    assert.equal((driver.failure(fd) as { code: string }).code, 'ECONNREFUSED')
    assert.equal(client.happened.length, 1)
  })

  test('names, host:port and [ip]:port serve as well as ip and port', async (t) => {
    const resolver = { lookup: async () => [{ address: '127.0.0.1', family: 4 as const }] }
    const { actor, listening } = stage(t, { network: new Network({ resolver }) })
    const { server, port } = await listening(STREAM)
    for (const address of [`mud.example.org ${port}`, `mud.example.org:${port}`, `127.0.0.1:${port}`]) {
      const client = actor()
      const fd = client.efuns.socket_create(STREAM, 'read', 'close')
      assert.equal(client.efuns.socket_connect(fd, address, 'read', 'write'), R.EESUCCESS)
      assert.deepEqual(await client.next(), ['write', fd])
      await server.until('listen')
    }
  })

  test('with IPv6 an address of it can be bound and connected to', async (t) => {
    const { actor } = stage(t, { ipv6: true })
    const server = actor()
    const fd = server.efuns.socket_create(STREAM, 'read', 'close')
    if ((await server.efuns.socket_bind(fd, 0, '::1 0')) !== R.EESUCCESS) return t.skip('no IPv6 here')
    await server.efuns.socket_listen(fd, 'listen')
    const at = server.efuns.socket_address(fd, 1)
    assert.match(at, /^::1 \d+$/)
    const client = actor()
    for (const address of [at, at.replace('::1 ', '[::1]:')]) {
      const one = client.efuns.socket_create(STREAM, 'read', 'close')
      assert.equal(client.efuns.socket_connect(one, address, 'read', 'write'), R.EESUCCESS)
      await client.until('write')
    }
  })

  test('what is no address is EEBADADDR', (t) => {
    const { actor } = stage(t)
    const { efuns } = actor()
    const fd = efuns.socket_create(STREAM, 'read')
    const bad = [
      '',
      '127.0.0.1',
      '127.0.0.1 ',
      '127.0.0.1 -1',
      '127.0.0.1 65536',
      '::1 80',
      '[::1]:80',
      '1.2.3 80',
      '0x7f000001 80',
      '2130706433 80',
    ]
    bad.push('a b 80', 'host\n 80', 'host\r\n:80', '-:80'.repeat(300), `${'a'.repeat(2000)} 80`, 'a..b 80', 'tcp://a:80')
    for (const address of bad) assert.equal(efuns.socket_connect(fd, address, 'read', 'write'), R.EEBADADDR, address)
    assert.equal(efuns.socket_connect(fd, '127.0.0.1 1', 'read', 'write'), R.EESUCCESS)
  })

  test('a close while it connects is silent', async (t) => {
    const { actor, listening } = stage(t)
    const { at } = await listening(STREAM)
    const client = actor()
    const fd = client.efuns.socket_create(STREAM, 'read', 'close')
    client.efuns.socket_connect(fd, at, 'read', 'write')
    assert.equal(client.efuns.socket_close(fd), R.EESUCCESS)
    assert.equal(client.state(fd), 'CLOSING')
    assert.equal(client.efuns.socket_close(fd), R.EEBADF)
    while (client.state(fd) !== 'CLOSED') await settle()
    assert.deepEqual(client.happened, [])
  })
})

describe('accepting', () => {
  test('each connection is told once, and can be taken at any time', async (t) => {
    const { listening } = stage(t)
    const { server, fd, port } = await listening(STREAM)
    server.also = {}
    await using one = await connect(`tcp://127.0.0.1:${port}`)
    await using two = await connect(`tcp://127.0.0.1:${port}`)
    await server.until('listen')
    await server.until('listen')
    await settle()
    assert.equal(server.happened.length, 2)
    const accept = () => server.efuns.socket_accept(fd, 'read', 'write')
    const first = accept()
    assert.equal(server.efuns.socket_write(first, 'hello'), R.EESUCCESS)
    assert.equal(utf8.decode((await one.read()) ?? undefined), 'hello')
    assert.ok(accept() > first)
    assert.equal(accept(), R.EEWOULDBLOCK)
    await two.close()
  })

  test('more than five wait for the first to be taken', async (t) => {
    const { listening } = stage(t)
    const { server, fd, port } = await listening(STREAM)
    server.also = {}
    const clients: Connection[] = []
    for (let i = 0; i < 7; i++) clients.push(await connect(`tcp://127.0.0.1:${port}`))
    for (let i = 0; i < 5; i++) await server.until('listen')
    await settle()
    assert.equal(server.happened.length, 5)
    for (let i = 0; i < 7; i++) {
      assert.ok(server.efuns.socket_accept(fd, 'read', 'write') >= 0)
      if (i < 2) await server.until('listen')
    }
    for (const client of clients) await client.close()
  })

  test('what has gone while it waited is EEACCEPT', async (t) => {
    const clock = new VirtualClock()
    const { listening } = stage(t, { network: new Network({ clock, defaults: { idle: 1_000 } }) })
    const { server, fd, port } = await listening(STREAM)
    server.also = {}
    await using client = await connect(`tcp://127.0.0.1:${port}`)
    await server.until('listen')
    await clock.advance(1_000)
    assert.equal(server.efuns.socket_accept(fd, 'read', 'write'), R.EEACCEPT)
    assert.equal(server.efuns.socket_accept(fd, 'read', 'write'), R.EEWOULDBLOCK)
    client.abort()
  })

  test('what waits is cut off when the listening socket is closed', async (t) => {
    const { listening } = stage(t)
    const { server, fd, port } = await listening(STREAM)
    server.also = {}
    await using client = await connect(`tcp://127.0.0.1:${port}`)
    await server.until('listen')
    server.efuns.socket_close(fd)
    await assert.rejects(client.read({ timeout: 5_000 }), { code: 'ECONNRESET' })
  })
})

describe('hand-over', () => {
  test('a socket goes to whoever acquires it in the release callback, with callbacks of its own', async (t) => {
    const all = stage(t)
    const { client, server, fd, peer } = await all.pair(STREAM)
    const heir = all.actor()
    heir.also['release'] = (given: number, target: object) => {
      assert.equal(given, fd)
      assert.equal(target, heir)
      assert.equal((heir.efuns.socket_status(fd) as SocketStatus)[5], 0)
      assert.equal(client.efuns.socket_release(fd, heir, 'release'), R.EESOCKRLSD)
      assert.equal(server.efuns.socket_acquire(fd, 'read', 'write', 'close'), R.EESECURITY)
      assert.equal(heir.efuns.socket_acquire(fd, 'read', 'write', 'close'), R.EESUCCESS)
    }
    assert.equal(client.efuns.socket_release(fd, heir, 'release'), R.EESUCCESS)
    assert.equal((heir.efuns.socket_status(fd) as SocketStatus)[5], heir)
    assert.equal(client.efuns.socket_write(fd, 'x'), R.EESECURITY)
    assert.equal(client.efuns.socket_close(fd), R.EESECURITY)
    server.efuns.socket_write(peer, 'to the heir')
    assert.equal((await heir.until('read'))[2], 'to the heir')
    server.efuns.socket_close(peer)
    await heir.until('close')
    assert.equal(client.happened.length, 1)
  })

  test('one that nobody acquires stays with its owner', async (t) => {
    const all = stage(t)
    const { client, fd } = await all.pair(STREAM)
    const other = all.actor()
    assert.equal(client.efuns.socket_release(fd, other, 'release'), R.EESOCKNOTRLSD)
    assert.equal(client.efuns.socket_release(fd, other, 'missing'), R.EESOCKNOTRLSD)
    assert.equal(
      client.efuns.socket_release(fd, other, () => 'mine'),
      R.EESOCKNOTRLSD,
    )
    assert.equal(other.efuns.socket_acquire(fd, 'read', 'write', 'close'), R.EESOCKNOTRLSD)
    assert.equal(client.efuns.socket_write(fd, 'still mine'), R.EESUCCESS)
  })
})

describe('the policy of the master', () => {
  test('knows an address by one spelling, whichever was given', (t) => {
    const asked: unknown[] = []
    const valid_socket = (_caller: object, operation: string, [, , address, port]: SocketFacts): boolean => {
      if (operation === 'connect') asked.push(`${address} ${port}`)
      return operation === 'create'
    }
    const { efuns } = stage(t, { master: { valid_socket }, ipv6: true }).actor()
    const fd = efuns.socket_create(STREAM, 'read')
    for (const address of ['::1 80', '[::1]:80', '127.0.0.1 80', '127.0.0.1:80', 'localhost:80'])
      assert.equal(efuns.socket_connect(fd, address, 'read', 'write'), R.EESECURITY)
    assert.deepEqual(asked, ['::1 80', '::1 80', '127.0.0.1 80', '127.0.0.1 80', 'localhost 80'])
  })

  test('is asked first, with what is known', async (t) => {
    const asked: unknown[][] = []
    const names = new Map<unknown, string>([[0, '0']])
    const valid_socket = (caller: object, operation: string, info: SocketFacts): number => {
      asked.push([names.get(caller), operation, info[0], names.get(info[1]), info[2], info[3]])
      return 1
    }
    const { actor, listening } = stage(t, { master: { valid_socket } })
    const { server, port } = await listening(STREAM)
    const client = actor()
    names.set(server, 'server')
    names.set(client, 'client')
    asked.length = 0
    const { efuns } = client
    const fd = efuns.socket_create(STREAM, 'read', 'close')
    efuns.socket_connect(fd, `127.0.0.1 ${port}`, 'read', 'write')
    efuns.socket_connect(fd, 'any thing', 'read', 'write')
    await Promise.all([client.until('write'), server.until('listen')])
    efuns.socket_write(fd, 'x')
    efuns.socket_connect(fd, 'elsewhere:5', 'read', 'write')
    await efuns.socket_bind(99, 0)
    efuns.socket_close(fd)
    efuns.socket_close(fd)
    assert.deepEqual(asked, [
      ['client', 'create', -1, 'client', 'N/A', -1],
      ['client', 'connect', fd, 'client', '127.0.0.1', port],
      ['client', 'connect', fd, 'client', 'any', 0],
      ['server', 'accept', 0, 'server', '0.0.0.0', 0],
      ['client', 'write', fd, 'client', '127.0.0.1', port],
      ['client', 'connect', fd, 'client', '127.0.0.1', port],
      ['client', 'bind', 99, '0', '', 0],
      ['client', 'close', fd, 'client', '127.0.0.1', port],
      ['client', 'close', fd, '0', '127.0.0.1', port],
    ])
  })

  for (const [what, master] of [
    ['0', { valid_socket: () => 0 }],
    ['nothing', { valid_socket: () => undefined }],
    ['a promise', { valid_socket: async () => 1 }],
    ['an error', { valid_socket: () => assert.fail('no') }],
    ['no function', {}],
  ] as const) {
    test(`refuses with ${what}`, async (t) => {
      const { actor } = stage(t, { master })
      const { efuns } = actor()
      assert.equal(efuns.socket_create(99, 'read'), R.EESECURITY)
      assert.equal(await efuns.socket_bind(99, 0), R.EESECURITY)
      assert.equal(efuns.socket_write(99, 'x'), R.EESECURITY)
      assert.equal(efuns.socket_close(-1), R.EESECURITY)
    })
  }

  test("what is another object's is refused to everybody else", async (t) => {
    const { actor } = stage(t)
    const fd = actor().efuns.socket_create(STREAM, 'read')
    const { efuns } = actor()
    assert.equal(await efuns.socket_bind(fd, 0), R.EESECURITY)
    assert.equal(await efuns.socket_listen(fd, 'listen'), R.EESECURITY)
    assert.equal(efuns.socket_connect(fd, 'nonsense', 'read', 'write'), R.EESECURITY)
    assert.equal(efuns.socket_close(fd), R.EESECURITY)
    assert.throws(() => efuns.socket_set_option(fd, CONSTANTS.SO_TLS_VERIFY_PEER, 0), /Security violation/)
  })
})

describe('addresses and tables', () => {
  test('socket_address tells both ends, and what there is not', async (t) => {
    const all = stage(t)
    const { client, server, fd, peer } = await all.pair(STREAM)
    assert.equal(client.efuns.socket_address(fd), server.efuns.socket_address(peer, 1))
    assert.equal(client.efuns.socket_address(fd, 1), server.efuns.socket_address(peer))
    assert.equal(client.efuns.socket_address(client.efuns.socket_create(STREAM, 'read')), '0.0.0.0 0')
    assert.equal(client.efuns.socket_address(99), ' 0')
    const player = {}
    assert.equal(client.efuns.socket_address(player), 0)
    await using listener = await listen('tcp://127.0.0.1:0')
    await using dialled = await connect(listener.endpoint)
    await using person = await listener.accept()
    all.driver.interactive(player, person)
    assert.equal(client.efuns.socket_address(player), `127.0.0.1 ${(dialled.local as { port: number }).port}`)
  })

  test('socket_status has a row for each place', async (t) => {
    const all = stage(t)
    const one = all.actor()
    const { efuns } = one
    const [a, b] = [efuns.socket_create(STREAM_BINARY, 'read'), efuns.socket_create(STREAM_TLS, 'read')]
    await efuns.socket_bind(a, 0)
    const port = efuns.socket_address(a, 1).split(' ')[1]
    efuns.socket_close(efuns.socket_create(DATAGRAM, 'read'))
    const rows = efuns.socket_status()
    assert.deepEqual(rows[a]?.slice(1), ['BOUND', 'STREAM', `*.${port}`, '', one])
    assert.deepEqual(rows[b], [-1, 'UNBOUND', 'STREAM_TLS', '', '', one])
    assert.deepEqual(rows[2], [-1, 'CLOSED', 'MUD', '', '', 0])
    assert.equal(efuns.socket_status(99), 0)
    const lines = efuns.dump_socket_status().split('\n')
    assert.match(lines[0] as string, /^Fd +State +Mode +Local Address +Remote Address$/)
    assert.equal(lines.length, 2 + 3 + 1)
    assert.match(lines[2] as string, new RegExp(`^\\d+ +BOUND +STREAM +\\*\\.${port}$`))
  })

  test('resolve finds addresses of names and names of addresses, and 0', async (t) => {
    const resolver = {
      lookup: async (name: string) => {
        if (name === 'mud.example.org') return [{ address: '192.0.2.7', family: 4 as const }]
        throw Object.assign(new Error('no'), { code: 'ENOTFOUND' })
      },
      reverse: async (address: string) => (address === '192.0.2.7' ? ['mud.example.org'] : []),
    }
    const one = stage(t, { network: new Network({ resolver }) }).actor()
    const key = one.efuns.resolve('mud.example.org', 'resolved')
    assert.deepEqual(await one.until('resolved'), ['resolved', 0, 'mud.example.org', '192.0.2.7', key])
    assert.equal(one.efuns.resolve('192.0.2.7', 'resolved'), key + 1)
    assert.deepEqual(await one.until('resolved'), ['resolved', 0, 'mud.example.org', '192.0.2.7', key + 1])
    one.efuns.resolve('nobody.example.org', 'resolved')
    assert.deepEqual((await one.until('resolved')).slice(2, 4), ['nobody.example.org', 0])
    one.efuns.resolve('192.0.2.8', 'resolved')
    assert.deepEqual((await one.until('resolved')).slice(2, 4), [0, '192.0.2.8'])
    one.efuns.resolve('no such\nname', 'resolved')
    assert.deepEqual((await one.until('resolved')).slice(2, 4), ['no such\nname', 0])
  })
})

describe('objects', () => {
  test('a program is given efuns, constants and what is included, and create is called', async (t) => {
    const driver = createDriver({ master: { valid_socket: () => 1 }, include: { PORT: 8443, greeting: 'hello' } })
    t.after(() => driver.close())
    const object = driver.load('/ob', ({ PORT, EESUCCESS, STREAM, socket_create, this_object }) => ({
      fd: -1,
      create() {
        this.fd = socket_create(STREAM, 'read')
      },
      facts: () => [PORT, EESUCCESS, this_object()],
    }))
    assert.equal(object.fd, 0)
    assert.deepEqual(object.facts(), [8443, 1, object])
    assert.throws(
      () =>
        driver.load('/early', ({ socket_create }) => {
          socket_create(0, 'read')
          return {}
        }),
      /create\(\)/,
    )
  })

  test('a driver that was closed is closed once more without harm, and its sockets are gone', async () => {
    const driver = createDriver({ master: { valid_socket: () => 1 } })
    const { socket_bind, socket_create, socket_status } = driver.efuns({})
    await socket_bind(socket_create(STREAM, 'read'), 0)
    await driver.close()
    await driver.close()
    assert.equal(socket_status()[0]?.[1], 'CLOSED')
    assert.equal(await socket_bind(socket_create(STREAM, 'read'), 0), R.EEBIND)
  })

  test('a driver needs a master', () => {
    assert.throws(() => createDriver({} as never), TypeError)
  })
})
