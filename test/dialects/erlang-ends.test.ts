/** How connections end: closes, half closes, resets, and sends that nobody takes, by the numbers of the same list. */

import assert from 'node:assert/strict'
import { describe } from 'node:test'
import { _, erlang, gen_tcp, inet, receive, self, spawn, ssl } from 'fairlead/erlang'
import { bytes, RAW, soon, test, withPeer, WORLDS } from './erlang-worlds.js'

describe('ends', () => {
  for (const world of WORLDS.filter(({ kind }) => kind === 'ssl')) {
    test(`E23 ${world.name}: once the peer has closed, send says so, and what came before can still be received`, async (t) => {
      const [left, right] = await world.pair(t, RAW, RAW)
      await world.api.send(left, 'pending')
      await world.api.close(left)
      let sent = await world.api.send(right, 'x')
      // The end of the peer is on its way: it is told of as soon as it is here.
      while (sent === 'ok') {
        await new Promise((resolve) => setImmediate(resolve))
        sent = await world.api.send(right, 'x')
      }
      assert.deepEqual(sent, ['error', 'closed'])
      assert.deepEqual(await world.api.recv(right, 0), ['ok', bytes('pending')])
      assert.deepEqual(await world.api.recv(right, 0), ['error', 'closed'])
    })

    test(`E24 ${world.name}: after close everything says closed, and names say einval`, async (t) => {
      const [left] = await world.pair(t, RAW, RAW)
      const socket = left as ssl.SslSocket
      assert.equal(await ssl.close(socket), 'ok')
      assert.equal(await ssl.close(socket), 'ok')
      const closed = ['error', 'closed']
      assert.deepEqual(await ssl.send(socket, 'x'), closed)
      assert.deepEqual(await ssl.recv(socket, 0), closed)
      assert.deepEqual(ssl.setopts(socket, [['nodelay', true]]), closed)
      assert.deepEqual(ssl.getopts(socket, ['mode']), closed)
      assert.deepEqual(await ssl.shutdown(socket, 'write'), closed)
      assert.deepEqual(ssl.controlling_process(socket, self()), closed)
      assert.deepEqual(ssl.peercert(socket), closed)
      assert.deepEqual(ssl.sockname(socket), ['error', 'einval'])
      assert.deepEqual(ssl.peername(socket), ['error', 'einval'])
    })
  }

  test('E23 gen_tcp: after the peer has gone, the first send is taken and a later one says closed', async () => {
    const [socket, peer] = await withPeer(RAW)
    peer.abort()
    let sent = await gen_tcp.send(socket, 'x')
    while (sent === 'ok') {
      await new Promise((resolve) => setImmediate(resolve))
      sent = await gen_tcp.send(socket, 'x')
    }
    assert.deepEqual(sent, ['error', 'closed'])
    await gen_tcp.close(socket)
  })

  test('E24 gen_tcp: closed, then enotconn; after close, closed and einval', async () => {
    const [socket, peer] = await withPeer(RAW)
    await peer.close()
    assert.deepEqual(await gen_tcp.recv(socket, 0), ['error', 'closed'])
    assert.deepEqual(await gen_tcp.recv(socket, 0), ['error', 'enotconn'])
    assert.equal(await gen_tcp.close(socket), 'ok')
    assert.equal(await gen_tcp.close(socket), 'ok')
    assert.deepEqual(await gen_tcp.send(socket, 'x'), ['error', 'closed'])
    assert.deepEqual(await gen_tcp.recv(socket, 0), ['error', 'closed'])
    assert.deepEqual(await gen_tcp.shutdown(socket, 'write'), ['error', 'closed'])
    assert.deepEqual(gen_tcp.controlling_process(socket, self()), ['error', 'closed'])
    for (const result of [inet.sockname(socket), inet.peername(socket), inet.getopts(socket, ['mode']), inet.port(socket)])
      assert.deepEqual(result, ['error', 'einval'])
    assert.deepEqual(inet.setopts(socket, ['binary']), ['error', 'einval'])
  })

  for (const show of [false, true]) {
    test(`E25 gen_tcp: a reset ${show ? 'is econnreset with show_econnreset' : 'looks like an end in order'}`, async () => {
      const [passive, first] = await withPeer([...RAW, ['show_econnreset', show]])
      first.abort()
      assert.deepEqual(await gen_tcp.recv(passive, 0), ['error', show ? 'econnreset' : 'closed'])
      const [active, second] = await withPeer(['binary', ['show_econnreset', show]])
      second.abort()
      if (show) assert.deepEqual(await receive(_, soon), ['tcp_error', active, 'econnreset'])
      assert.deepEqual(await receive(_, soon), ['tcp_closed', active])
    })
  }

  for (const world of WORLDS.filter(({ kind }) => kind === 'ssl')) {
    for (const show of [true, false]) {
      test(`E25 ${world.name}: a connection cut off is ${show ? 'told from one that was closed' : 'closed, with show_econnreset false'}`, async (t) => {
        const [left, right] = await world.pair(t, RAW, [...RAW, ['show_econnreset', show]])
        left.connection.abort()
        const [, reason] = (await world.api.recv(right, 0, 5_000)) as ['error', string]
        assert.ok(show ? reason === 'econnreset' || reason === 'esslerrssl' : reason === 'closed', reason)
        assert.deepEqual(await world.api.recv(right, 0, 5_000), ['error', 'closed'])
        const [one, other] = await world.pair(t, RAW, ['binary', ['show_econnreset', show]])
        one.connection.abort()
        if (show) assert.equal((await receive(['ssl_error', other, _], soon))[0], 'ssl_error')
        assert.deepEqual(await receive(_, soon), ['ssl_closed', other])
      })
    }
  }

  test('E26 gen_tcp: the end of the peer ends the socket, unless exit_on_close is false', async () => {
    const [usual, first] = await withPeer(RAW)
    await first.end()
    assert.deepEqual(await gen_tcp.recv(usual, 0), ['error', 'closed'])
    assert.deepEqual(await gen_tcp.send(usual, 'x'), ['error', 'closed'])
    assert.equal(await first.read(), null)
    await first.close()
    const [half, second] = await withPeer([...RAW, ['exit_on_close', false]])
    await second.end()
    assert.deepEqual(await gen_tcp.recv(half, 0), ['error', 'closed'])
    assert.equal(await gen_tcp.send(half, 'still'), 'ok')
    assert.deepEqual(await second.readExactly(5), bytes('still'))
    await gen_tcp.close(half)
    await second.close()
  })

  test('E24 gen_tcp: after recv has said closed, setopts of active says it once more as a message', async () => {
    const [socket, peer] = await withPeer(RAW)
    await peer.close()
    assert.deepEqual(await gen_tcp.recv(socket, 0), ['error', 'closed'])
    assert.equal(inet.setopts(socket, [['active', false]]), 'ok')
    assert.equal(inet.setopts(socket, [['active', 'once']]), 'ok')
    assert.deepEqual(await receive(_, soon), ['tcp_closed', socket])
    assert.deepEqual(inet.setopts(socket, [['active', 'once']]), ['error', 'einval'])
    await gen_tcp.close(socket)
    const [half, other] = await withPeer([...RAW, ['exit_on_close', false]])
    await other.end()
    // The connection is not given up, so it is still one.
    for (let i = 0; i < 2; i++) assert.deepEqual(await gen_tcp.recv(half, 0), ['error', 'closed'])
    await gen_tcp.close(half)
    await other.close()
  })

  for (const world of WORLDS) {
    test(`${world.name}: {linger, {true, 0}} makes the close a reset, of the owner's end as well`, async (t) => {
      for (const how of ['close', 'end']) {
        const [left, right] = await world.pair(t, [...RAW, ['linger', [true, 0]]], [...RAW, ['show_econnreset', true]])
        assert.deepEqual(world.api.getopts(left, ['linger']), ['ok', [['linger', [true, 0]]]])
        if (how === 'close') await world.api.close(left)
        else {
          const owner = spawn(() => receive('go'))
          assert.equal(world.api.controlling_process(left, owner), 'ok')
          erlang.send(owner, 'go')
        }
        const [, reason] = (await world.api.recv(right, 0, 5_000)) as ['error', string]
        assert.ok(reason === 'econnreset' || (world.kind === 'ssl' && reason === 'esslerrssl'), reason)
      }
      for (const bad of [true, [true], [1, 0], [true, -1], [true, 1, 1]])
        assert.equal(world.api.setopts((await world.pair(t, RAW, RAW))[0], [['linger', bad as never]])[0], 'error')
    })

    test(`${world.name}: {linger, {true, N}} gives up what the peer has not taken in N seconds`, async (t) => {
      const closing = async (seconds: number) => {
        const [left, right] = await world.pair(t, [...RAW, ['linger', [true, seconds]]], RAW)
        const sending = world.api.send(left, new Uint8Array(32 * 1024 * 1024))
        const start = performance.now()
        const closed = world.api.close(left).then(() => [seconds, performance.now() - start] as const)
        return { right, sending, closed }
      }
      const [long, short] = [await closing(60), await closing(1)]
      const [seconds, took] = await Promise.race([long.closed, short.closed])
      assert.equal(seconds, 1)
      assert.ok(took > 900, `${took} ms`)
      assert.deepEqual(await short.sending, ['error', 'closed'])
      long.right.connection.abort()
      await long.closed
      assert.deepEqual(await long.sending, ['error', 'closed'])
    })
  }

  for (const { name, kind, api, pair } of WORLDS) {
    test(`${name}: shutdown of both directions delivers what was sent and is the end for both`, async (t) => {
      const [left, right] = await pair(t, RAW, RAW)
      assert.equal(await api.send(left, 'last'), 'ok')
      assert.equal(await api.shutdown(left, 'read_write'), 'ok')
      assert.deepEqual(await api.send(left, 'x'), ['error', 'closed'])
      assert.deepEqual(await api.recv(left, 0), ['error', 'closed'])
      assert.deepEqual(await api.recv(right, 4, 5_000), ['ok', bytes('last')])
      assert.deepEqual(await api.recv(right, 0, 5_000), ['error', 'closed'])
      if (kind === 'ssl') assert.deepEqual(await api.shutdown(left, 'read_write'), ['error', 'closed'])
    })
  }

  test('E26 gen_tcp: shutdown ends one direction', async () => {
    const [socket, peer] = await withPeer(RAW)
    assert.equal(await gen_tcp.shutdown(socket, 'write'), 'ok')
    assert.deepEqual(await gen_tcp.send(socket, 'x'), ['error', 'closed'])
    assert.equal(await peer.read(), null)
    await peer.write('last')
    assert.deepEqual(await gen_tcp.recv(socket, 4), ['ok', bytes('last')])
    assert.equal(await gen_tcp.shutdown(socket, 'read'), 'ok')
    assert.deepEqual(await gen_tcp.recv(socket, 0), ['error', 'closed'])
    await gen_tcp.close(socket)
    await peer.close()
  })

  test('E39 gen_tcp: send_timeout ends a send that nobody takes', async () => {
    const [socket, peer] = await withPeer([...RAW, ['send_timeout', 50]])
    const chunk = new Uint8Array(65_536)
    let result = await gen_tcp.send(socket, chunk)
    while (result === 'ok') result = await gen_tcp.send(socket, chunk)
    assert.deepEqual(result, ['error', 'timeout'])
    peer.abort()
    await gen_tcp.close(socket)
  })
})
