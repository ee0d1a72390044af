/** Ioto's sockets over real ones: plain, and with TLS, for which `ioto-tls.test.ts` has the rest. */

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { openSync, readFileSync, closeSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { connect as dial, listen as listenAt, network, type TraceEvent } from 'fairlead'
import * as ioto from 'fairlead/ioto'
import {
  R_ERR_BAD_ARGS,
  R_ERR_BAD_STATE,
  R_ERR_BUSY,
  R_ERR_CANT_COMPLETE,
  R_ERR_CANT_CONNECT,
  R_ERR_CANT_OPEN,
  R_ERR_CANT_READ,
  R_ERR_CANT_WRITE,
  R_ERR_MEMORY,
  R_ERR_TIMEOUT,
  R_READABLE,
  R_WRITABLE,
  rAllocSocket,
  rCheckInternet,
  rCloseSocket,
  rConnectSocket,
  rDisconnectSocket,
  rFreeSocket,
  rGetElapsedTicks,
  rGetFiber,
  rGetRemainingTicks,
  rGetSocketAddr,
  rGetSocketError,
  rGetSocketHandle,
  rGetSocketLimit,
  rGetSocketWait,
  rGetTicks,
  rGetTime,
  rInit,
  rIsMain,
  rIsSocketClosed,
  rIsSocketConnected,
  rIsSocketEof,
  rIsSocketSecure,
  rListenSocket,
  rReadSocket,
  rReadSocketSync,
  rResetSocket,
  rResumeFiber,
  rSendFile,
  rServiceEvents,
  rSetFiberLimits,
  rSetSocketBlocking,
  rSetSocketCerts,
  rSetSocketError,
  rSetSocketLimit,
  rSetSocketLinger,
  rSetSocketNoDelay,
  rSetSocketVerify,
  rSleep,
  rSpawnFiber,
  rStop,
  rTerm,
  rWaitForIO,
  rWriteSocket,
  rWriteSocketSync,
  rYieldFiber,
  type RFiber,
  type RSocket,
} from 'fairlead/ioto'
import { hasIpv6 } from '../support/ipv6.js'
import { connected, echo, fiberTest, folder, onFiber, pair, portOf, serving, text, WAYS } from './ioto-fibers.js'

// First: the limit is of the process, and others here have sockets that are freed a moment later.
describe('ioto: the limit of accepted sockets', () => {
  fiberTest('beyond the limit a client is accepted and closed', async (made) => {
    assert.equal(rGetSocketLimit(), 1000)
    let got!: (sp: RSocket) => void
    let accepted = new Promise<RSocket>((resolve) => (got = resolve))
    const port = await serving(made(), (client) => got(client))
    rSetSocketLimit(1)
    try {
      await connected(made(), port)
      const first = await accepted
      const refused = await connected(made(), port)
      assert.equal(await rReadSocket(refused, new Uint8Array(1), 1, rGetTicks() + 5_000), R_ERR_CANT_READ)
      accepted = new Promise<RSocket>((resolve) => (got = resolve))
      await rFreeSocket(first)
      await connected(made(), port)
      await rFreeSocket(await accepted)
    } finally {
      rSetSocketLimit(1000)
    }
  })
})

for (const way of WAYS) {
  describe(`ioto over ${way.name}`, () => {
    fiberTest('the examples of the documentation', async () => {
      const listener = rAllocSocket()
      const port = await serving(listener, echo, way)
      const sock = rAllocSocket()
      await way.client?.(sock)
      const status = await rConnectSocket(sock, 'localhost', port, 0)
      if (status < 0) assert.fail(rGetSocketError(sock))
      assert.equal(rIsSocketClosed(sock), false)
      assert.equal(rIsSocketEof(sock), false)
      assert.equal(rIsSocketSecure(sock), way.name === 'tls')
      const buf = new TextEncoder().encode('hello')
      const deadline = rGetTime() + 30 * 1000
      assert.equal(await rWriteSocket(sock, buf, buf.length, deadline), 5)
      const into = new Uint8Array(16)
      let count = 0
      while (count < 5) count += await rReadSocket(sock, into.subarray(count), 16 - count, deadline)
      assert.equal(text(into, count), 'hello')
      await rCloseSocket(sock)
      assert.equal(rIsSocketClosed(sock), true)
      await rFreeSocket(sock)
      await rFreeSocket(listener)
    })

    fiberTest("the original's own test: ten thousand lines arrive", async (made) => {
      const line = `${'0123456789'.repeat(5)}x\n`
      assert.equal(line.length, 52)
      let received = 0
      let done!: () => void
      const finished = new Promise<void>((resolve) => (done = resolve))
      const port = await serving(
        made(),
        async (client) => {
          const buf = new Uint8Array(8192)
          for (let n = await rReadSocket(client, buf, buf.length); n > 0; n = await rReadSocket(client, buf, buf.length)) received += n
          assert.equal(rGetSocketError(client), '')
          await rFreeSocket(client)
          done()
        },
        way,
      )
      const client = await connected(made(), port, way)
      const buf = new TextEncoder().encode(line)
      for (let i = 0; i < 10_000; i++) assert.equal(await rWriteSocket(client, buf, buf.length), 52)
      await rFreeSocket(client)
      await finished
      assert.equal(received, 520_000)
    })

    fiberTest('the same over IPv6', async (made) => {
      if (!hasIpv6) return
      let got!: (sp: RSocket) => void
      const accepted = new Promise<RSocket>((resolve) => (got = resolve))
      const listener = made()
      await way.server?.(listener)
      assert.equal(await rListenSocket(listener, '::1', 0, (_arg, client) => got(client), null), 0, rGetSocketError(listener))
      const client = made()
      await way.client?.(client)
      rSetSocketVerify(client, 0, 0)
      if (way.name === 'tcp') client.tls = null
      assert.equal(await rConnectSocket(client, '::1', portOf(listener), rGetTicks() + 5_000), 0, rGetSocketError(client))
      const server = made(await accepted)
      const at: { ip?: string; port?: number } = {}
      assert.deepEqual([rGetSocketAddr(server, at), at], [0, { ip: '::1', port: portOf(listener) }])
      assert.equal(await rWriteSocket(client, 'hello', 5), 5)
      assert.equal(await rReadSocket(server, new Uint8Array(9), 9), 5)
    })

    fiberTest('a read takes what is there, at most as much as asked for; a deadline leaves the socket as it was', async (made) => {
      const { client, server } = await pair(made, way)
      const buf = new Uint8Array(10)
      for (const clock of [rGetTicks, rGetTime]) {
        const from = rGetTicks()
        assert.equal(await rReadSocket(client, buf, 10, clock() + 30), R_ERR_TIMEOUT)
        assert.ok(rGetElapsedTicks(from) >= 29)
        assert.equal(await rReadSocket(client, buf, 10, clock() - 1), R_ERR_TIMEOUT)
        assert.equal(rIsSocketEof(client), false)
        assert.equal(await rWriteSocket(server, 'hello', 5, clock() + 5_000), 5)
        assert.equal(await rReadSocket(client, buf, 3, clock() + 5_000), 3)
        assert.equal(text(buf, 3), 'hel')
        // What is there is given, however late.
        assert.equal(await rReadSocket(client, buf, 10, clock() - 1), 2)
      }
    })

    fiberTest('the end comes behind the data, again and again', async (made) => {
      const { client, server } = await pair(made, way)
      await rWriteSocket(server, 'bye', 3)
      await rCloseSocket(server)
      const buf = new Uint8Array(10)
      assert.equal(await rReadSocket(client, buf, 10), 3)
      for (let i = 0; i < 2; i++) assert.equal(await rReadSocket(client, buf, 10), R_ERR_CANT_READ)
      assert.equal(rReadSocketSync(client, buf, 10), R_ERR_CANT_READ)
      assert.equal(rIsSocketEof(client), true)
      assert.equal(rIsSocketClosed(client), false)
      assert.equal(rGetSocketError(client), '')
      assert.equal(await rWriteSocket(client, 'x', 1), R_ERR_CANT_WRITE)
    })

    fiberTest('a reset is an end, too, of which a message tells', async (made) => {
      const { client, server } = await pair(made, way)
      ;(server.beneath as { abort(): void }).abort()
      assert.equal(await rReadSocket(client, new Uint8Array(1), 1), R_ERR_CANT_READ)
      assert.equal(rIsSocketEof(client), true)
      assert.notEqual(rGetSocketError(client), '')
    })

    fiberTest('closing from another fiber wakes a read with -29, closed and at the end', async (made) => {
      const { client } = await pair(made, way)
      const reading = rReadSocket(client, new Uint8Array(1), 1)
      rSpawnFiber('closer', () => rCloseSocket(client), null)
      assert.equal(await reading, R_ERR_CANT_READ)
      assert.equal(rIsSocketClosed(client), true)
      assert.equal(rIsSocketEof(client), true)
      assert.equal(rGetSocketHandle(client), -1)
    })

    fiberTest('closing with unread input is an end for the peer, not a reset', async (made) => {
      const { client, server } = await pair(made, way)
      await rWriteSocket(client, 'never read', 10)
      await (server.beneath as { waitReadable(): Promise<void> }).waitReadable()
      void rCloseSocket(server)
      assert.equal(await rReadSocket(client, new Uint8Array(1), 1), R_ERR_CANT_READ)
      assert.equal(rGetSocketError(client), '')
    })

    fiberTest('eight mebibytes are written while the peer reads', async (made) => {
      const { client, server } = await pair(made, way)
      const size = 8 * 1024 * 1024
      const writing = rWriteSocket(client, new Uint8Array(size), size, rGetTicks() + 60_000)
      const buf = new Uint8Array(65_536)
      let received = 0
      while (received < size) received += await rReadSocket(server, buf, buf.length)
      assert.equal(await writing, size)
      assert.equal(client.written, size)
    })

    fiberTest('without a reader a write is -38 at its deadline, and tells how much went out', async (made) => {
      const { client } = await pair(made, way)
      const size = 32 * 1024 * 1024
      const from = rGetTicks()
      assert.equal(await rWriteSocket(client, new Uint8Array(size), size, rGetTicks() + 100), R_ERR_TIMEOUT)
      assert.ok(rGetElapsedTicks(from) >= 99)
      assert.ok(client.written > 0 && client.written < size, String(client.written))
      while (rWriteSocketSync(client, new Uint8Array(65_536), 65_536) > 0);
      // What does not wait says how much is welcome: nothing.
      assert.equal(rWriteSocketSync(client, new Uint8Array(10), 10), 0)
    })

    fiberTest('the calls that do not wait', async (made) => {
      const { client, server } = await pair(made, way)
      const buf = new Uint8Array(10)
      assert.equal(rReadSocketSync(client, buf, 10), 0)
      assert.equal(rWriteSocketSync(server, 'hello', 5), 5)
      assert.equal(await rWaitForIO(rGetSocketWait(client), R_READABLE, rGetTicks() + 5_000), R_READABLE)
      assert.equal(rReadSocketSync(client, buf, 3), 3)
      assert.equal(rReadSocketSync(client, buf, 10), 2)
      assert.equal(await rWaitForIO(rGetSocketWait(client), R_READABLE, rGetTicks() + 20), 0)
      assert.equal(await rWaitForIO(rGetSocketWait(client), R_READABLE | R_WRITABLE, 0), R_WRITABLE)
      assert.equal(rWriteSocketSync(client, buf, 0), way.name === 'tls' ? R_ERR_BAD_STATE : 0)
      assert.equal(rIsSocketEof(client), false)
      const reading = rReadSocket(client, buf, 1)
      assert.equal(rReadSocketSync(client, buf, 1), R_ERR_BUSY)
      assert.equal(await rReadSocket(client, buf, 1), R_ERR_BUSY)
      await rWriteSocket(server, 'x', 1)
      assert.equal(await reading, 1)
    })

    fiberTest('disconnecting ends both directions and leaves the socket to be closed', async (made) => {
      const { client, server } = await pair(made, way)
      await rDisconnectSocket(client)
      assert.deepEqual([rIsSocketClosed(client), rIsSocketConnected(client)], [false, false])
      assert.equal(await rReadSocket(client, new Uint8Array(1), 1), R_ERR_CANT_READ)
      assert.equal(rWriteSocketSync(client, 'x', 1), R_ERR_CANT_WRITE)
      assert.equal(await rReadSocket(server, new Uint8Array(1), 1), R_ERR_CANT_READ)
      await rDisconnectSocket(null)
    })

    fiberTest('a socket connects again after closing, after a reset, and while it is open', async (made) => {
      const port = await serving(made(), echo, way)
      const client = await connected(made(), port, way)
      const first = client.beneath
      await connected(client, port, way)
      assert.notEqual(client.beneath, first)
      await rCloseSocket(client)
      await connected(client, port, way)
      await rResetSocket(client)
      assert.deepEqual([rIsSocketClosed(client), rIsSocketEof(client), rIsSocketConnected(client)], [false, false, false])
      await connected(client, port, way)
      assert.equal(rIsSocketConnected(client), true)
    })

    fiberTest('fibers run beside each other, each client on its own', async (made) => {
      const order: string[] = []
      const port = await serving(
        made(),
        async (client) => {
          assert.equal(rIsMain(), false)
          order.push(rGetFiber()?.name ?? '')
          await echo(client)
        },
        way,
      )
      const silent = await connected(made(), port, way)
      const busy = await connected(made(), port, way)
      await rWriteSocket(busy, 'x', 1)
      assert.equal(await rReadSocket(busy, new Uint8Array(1), 1, rGetTicks() + 5_000), 1)
      assert.deepEqual(order, ['socket', 'socket'])
      assert.equal(rReadSocketSync(silent, new Uint8Array(1), 1), 0)
    })
  })
}

describe('ioto: sockets', () => {
  fiberTest('a fresh socket is not closed, not at its end, not secure, not connected', async () => {
    const sp = rAllocSocket()
    assert.deepEqual([rIsSocketClosed(sp), rIsSocketEof(sp), rIsSocketSecure(sp), rIsSocketConnected(sp)], [false, false, false, false])
    assert.equal(rGetSocketHandle(sp), -1)
    assert.equal(rGetSocketError(sp), '')
    assert.equal(await rReadSocket(sp, new Uint8Array(1), 1), -9)
    assert.equal(rReadSocketSync(sp, new Uint8Array(1), 1), -9)
    assert.equal(await rWriteSocket(sp, 'x', 1), -9)
    await rCloseSocket(sp)
    await rCloseSocket(sp)
    assert.deepEqual([rIsSocketClosed(sp), rIsSocketEof(sp)], [true, true])
    assert.equal(await rReadSocket(sp, new Uint8Array(1), 1), R_ERR_CANT_READ)
    assert.equal(await rWriteSocket(sp, 'x', 0), R_ERR_CANT_WRITE)
  })

  fiberTest('null is a closed socket, and bad arguments are -6', async (made) => {
    const buf = new Uint8Array(4)
    assert.deepEqual(
      [rIsSocketClosed(null), rIsSocketEof(null), rIsSocketSecure(null), rIsSocketConnected(null)],
      [true, true, false, false],
    )
    await rFreeSocket(null)
    await rCloseSocket(null)
    await rResetSocket(null)
    rSetSocketNoDelay(null, 1)
    rSetSocketLinger(null, 1)
    rSetSocketBlocking(null, true)
    rSetSocketVerify(null, 1, 1)
    rSetSocketCerts(null, null, null, null, null)
    assert.equal(rGetSocketError(null), '')
    assert.equal(rGetSocketHandle(null), -1)
    assert.equal(rGetSocketWait(null), null)
    assert.equal(rGetSocketAddr(null, {}), R_ERR_BAD_ARGS)
    assert.equal(rGetSocketAddr(made(), null), R_ERR_BAD_ARGS)
    assert.equal(rGetSocketAddr(made(), {}), R_ERR_CANT_COMPLETE)
    const { client } = await pair(made)
    for (const sp of [null, client]) {
      const of = sp === null ? buf : null
      assert.equal(await rReadSocket(sp, of, 4), R_ERR_BAD_ARGS)
      assert.equal(rReadSocketSync(sp, of, 4), R_ERR_BAD_ARGS)
      assert.equal(await rWriteSocket(sp, of, 4), R_ERR_BAD_ARGS)
      assert.equal(rWriteSocketSync(sp, of, 4), R_ERR_BAD_ARGS)
    }
    for (const size of [0, 5, -1, 1.5, Number.NaN]) assert.equal(await rReadSocket(client, buf, size), R_ERR_BAD_ARGS)
    for (const size of [5, -1, 1.5]) assert.equal(await rWriteSocket(client, buf, size), R_ERR_BAD_ARGS)
    assert.equal(await rWriteSocket(client, buf, 0), 0)
    assert.equal(await rConnectSocket(null, 'localhost', 80), R_ERR_BAD_ARGS)
    assert.equal(await rListenSocket(null, null, 0, () => {}, null), R_ERR_BAD_ARGS)
    assert.equal(await rListenSocket(made(), null, 0, null as never, null), R_ERR_BAD_ARGS)
    assert.equal(await rWaitForIO(null, R_READABLE), R_ERR_BAD_ARGS)
    assert.equal(await rWaitForIO(rGetSocketWait(client), 1), R_ERR_BAD_ARGS)
    assert.equal(await rWaitForIO(rGetSocketWait(rAllocSocket()), R_READABLE), -9)
    assert.equal(await rSendFile(null, 0, 0, 0), R_ERR_BAD_ARGS)
    assert.equal(await rSendFile(client, -1, 0, 0), R_ERR_BAD_ARGS)
  })

  fiberTest('connect tells why it fails, by number and by message', async (made) => {
    const unused = await listenAt('tcp://127.0.0.1:0')
    const port = Number(new URL(unused.endpoint).port)
    await unused.close()
    const sp = made()
    const fails = async (host: string | null, at: number, code: number, message: string, deadline = 0) => {
      assert.equal(await rConnectSocket(sp, host, at, deadline), code)
      assert.equal(rGetSocketError(sp), message)
      assert.equal(rIsSocketConnected(sp), false)
    }
    await fails(null, 80, R_ERR_CANT_COMPLETE, 'Host address required for connection')
    await fails('', 80, R_ERR_BAD_ARGS, 'Cannot find address of :80')
    await fails('127.0.0.1', -1, R_ERR_BAD_ARGS, 'Cannot find address of 127.0.0.1:-1')
    await fails('127.0.0.1', 65_616, R_ERR_BAD_ARGS, 'Cannot find address of 127.0.0.1:65616')
    await fails('a\r\nb', 80, R_ERR_BAD_ARGS, 'Cannot find address of a\\u{d}\\u{a}b:80')
    await fails('a\0b', 80, R_ERR_BAD_ARGS, 'Cannot find address of a\\u{0}b:80')
    await fails('no-such-name.invalid', 80, R_ERR_BAD_ARGS, 'Cannot find address of no-such-name.invalid:80')
    await fails('127.0.0.1', 0, R_ERR_CANT_CONNECT, 'Cannot connect socket to 127.0.0.1:0')
    await fails('127.0.0.1', port, R_ERR_CANT_CONNECT, `Cannot connect socket to 127.0.0.1:${port}`)
    const alive = await serving(made(), rFreeSocket)
    await fails('127.0.0.1', alive, R_ERR_CANT_CONNECT, `Cannot connect socket to 127.0.0.1:${alive}`, rGetTicks() - 1)
    assert.equal(await rConnectSocket(sp, '127.0.0.1', alive, rGetTime() + 5_000), 0)
    assert.equal(rGetSocketError(sp), '')
  })

  fiberTest('closing ends a connecting and a listening', async (made) => {
    const server = await listenAt('tcp://127.0.0.1:0')
    const port = Number(new URL(server.endpoint).port)
    const sp = made()
    const connecting = rConnectSocket(sp, '127.0.0.1', port, 0)
    await rCloseSocket(sp)
    assert.equal(await connecting, R_ERR_CANT_CONNECT)
    assert.equal(rIsSocketConnected(sp), false)
    const listening = rListenSocket(sp, '127.0.0.1', 0, () => {}, null)
    await rCloseSocket(sp)
    assert.equal(await listening, R_ERR_CANT_OPEN)
    assert.equal(rGetSocketHandle(sp), -1)
    // Connecting anew gives the one before it up.
    const [first, second] = await Promise.all([rConnectSocket(sp, '127.0.0.1', port, 0), rConnectSocket(sp, '127.0.0.1', port, 0)])
    assert.deepEqual([first, second, rGetSocketError(sp)], [R_ERR_CANT_CONNECT, 0, ''])
    await server.close()
  })

  fiberTest('a listener takes any address of the machine, and tells which one it has', async (made) => {
    const at: { ip?: string; port?: number } = {}
    const every = hasIpv6 ? '::' : '0.0.0.0'
    for (const [host, ip] of [
      ['127.0.0.1', '127.0.0.1'],
      ['localhost', '127.0.0.1'],
      ['0.0.0.0', '0.0.0.0'],
      ['127.0.0.2', '127.0.0.2'],
      ...(hasIpv6 ? [['::1', '::1'] as const] : []),
      ['::', every],
      [null, every],
    ] as const) {
      const sp = made()
      assert.equal(await rListenSocket(sp, host, 0, (_arg, client) => rFreeSocket(client), null), 0, `${host}: ${rGetSocketError(sp)}`)
      assert.equal(rGetSocketAddr(sp, at), 0)
      assert.equal(at.ip, ip)
      assert.ok((at.port ?? 0) > 0)
    }
    // All interfaces are those of both versions.
    const client = await connected(made(), at.port as number)
    assert.equal(rGetSocketAddr(client, at), 0)
    assert.match(at.ip ?? '', /^(?:127\.0\.0\.1|::1)$/)
  })

  fiberTest('listen tells why it fails', async (made) => {
    const first = made()
    const port = await serving(first, rFreeSocket)
    const sp = made()
    assert.equal(await rListenSocket(sp, '127.0.0.1', port, () => {}, null), R_ERR_CANT_OPEN)
    assert.match(rGetSocketError(sp), new RegExp(`^Cannot bind address 127\\.0\\.0\\.1:${port}, errno \\d+$`))
    assert.equal(await rListenSocket(sp, 'no-such-name.invalid', 0, () => {}, null), R_ERR_CANT_COMPLETE)
    assert.equal(rGetSocketError(sp), 'Cannot resolve address no-such-name.invalid:0')
    assert.equal(await rListenSocket(sp, null, -1, () => {}, null), R_ERR_CANT_COMPLETE)
    assert.equal(rIsSocketClosed(sp), false)
  })

  fiberTest('the argument of the listener comes first, and closing it leaves its clients', async (made) => {
    const given: unknown[] = []
    let got!: (sp: RSocket) => void
    const accepted = new Promise<RSocket>((resolve) => (got = resolve))
    const listener = made()
    const arg = { data: 1 }
    await rListenSocket(listener, '127.0.0.1', 0, (...args) => given.push(args[0]) && got(args[1]), arg)
    const client = await connected(made(), portOf(listener))
    const server = made(await accepted)
    assert.equal(given[0], arg)
    assert.equal(server.flags, ioto.R_SOCKET_SERVER)
    assert.equal(listener.flags, ioto.R_SOCKET_LISTENER)
    await rFreeSocket(listener)
    await rWriteSocket(server, 'x', 1)
    assert.equal(await rReadSocket(client, new Uint8Array(1), 1), 1)
  })

  fiberTest('a handler that throws loses its client alone, and the trace tells', async (made) => {
    const events: TraceEvent[] = []
    const unsubscribe = network().trace.subscribe((event) => events.push(event))
    const port = await serving(made(), async (sp) => {
      await rReadSocket(sp, new Uint8Array(1), 1)
      throw new Error('a bug')
    })
    const client = await connected(made(), port)
    await rWriteSocket(client, 'x', 1)
    assert.equal(await rReadSocket(client, new Uint8Array(1), 1), R_ERR_CANT_READ)
    unsubscribe()
    const told = events.find((event) => event.type === 'error')
    assert.equal(told?.type === 'error' && (told.error as Error).message, 'a bug')
    const next = await connected(made(), port)
    await rWriteSocket(next, 'x', 1)
    assert.equal(await rReadSocket(next, new Uint8Array(1), 1), R_ERR_CANT_READ)
  })

  fiberTest('the first message stays until the next connect', async () => {
    const sp = rAllocSocket()
    assert.equal(rSetSocketError(sp, 'first %s', 'one'), R_ERR_CANT_COMPLETE)
    assert.equal(rSetSocketError(sp, 'second'), -21)
    assert.equal(rGetSocketError(sp), 'first one')
    assert.equal(rSetSocketError(null, 'none'), -21)
    await rConnectSocket(sp, null, 1)
    assert.equal(rGetSocketError(sp), 'Host address required for connection')
  })

  fiberTest('whether names can be looked up', async () => {
    assert.equal(await rCheckInternet('localhost'), true)
    assert.equal(await rCheckInternet('no-such-name.invalid'), false)
  })

  fiberTest('no delay and linger', async (made) => {
    const { client, server } = await pair(made)
    const beneath = client.beneath as { get(name: 'noDelay'): boolean }
    rSetSocketNoDelay(client, 0)
    assert.equal(beneath.get('noDelay'), false)
    rSetSocketNoDelay(client, 1)
    assert.equal(beneath.get('noDelay'), true)
    rSetSocketNoDelay(rAllocSocket(), 1)
    // With linger 0, too, the peer gets what was written, and an end.
    rSetSocketLinger(client, 0)
    await rWriteSocket(client, 'last', 4)
    await rCloseSocket(client)
    const buf = new Uint8Array(10)
    assert.equal(await rReadSocket(server, buf, 10), 4)
    assert.equal(await rReadSocket(server, buf, 10), R_ERR_CANT_READ)
    assert.equal(rGetSocketError(server), '')
  })

  fiberTest('closing takes no longer than the linger time to send what nobody reads', async (made) => {
    const { client } = await pair(made)
    const size = 32 * 1024 * 1024
    await rWriteSocket(client, new Uint8Array(size), size, rGetTicks() + 50)
    rSetSocketLinger(client, 1)
    const from = rGetTicks()
    await rCloseSocket(client)
    assert.ok(rGetElapsedTicks(from) < 4_000)
  })

  fiberTest('a part of a file', async (made) => {
    const { client, server } = await pair(made)
    const path = join(folder, 'file')
    writeFileSync(path, Buffer.alloc(200_000, 'abcdefghij'))
    const fd = openSync(path, 'r')
    try {
      const sending = rSendFile(client, fd, 3, 150_000)
      let got = ''
      const buf = new Uint8Array(65_536)
      while (got.length < 150_000) got += text(buf, await rReadSocket(server, buf, buf.length))
      assert.equal(await sending, 150_000)
      assert.equal(got.slice(0, 10), 'defghijabc')
      assert.equal(await rSendFile(client, fd, 199_990, 100), 10)
      assert.equal(await rSendFile(client, fd, 0, 0), 0)
      const secure = rAllocSocket()
      rSetSocketVerify(secure, 0, 0)
      assert.equal(await rSendFile(secure, fd, 0, 1), -1)
    } finally {
      closeSync(fd)
    }
    assert.equal(await rSendFile(client, 999_999, 0, 1), -9)
    assert.deepEqual(await Promise.all([rSendFile(client, 0, 1.5, 1), rSendFile(client, 0, 0, 0.5)]), [R_ERR_BAD_ARGS, R_ERR_BAD_ARGS])
    assert.equal(await rSendFile(rAllocSocket(), 0, 0, 1), -9)
    await rCloseSocket(client)
    assert.equal(await rSendFile(client, 0, 0, 1), R_ERR_CANT_WRITE)
  })

  fiberTest('writing to a peer that has gone is the negative errno', async (made) => {
    const server = await listenAt('tcp://127.0.0.1:0')
    const client = await connected(made(), Number(new URL(server.endpoint).port))
    ;(await server.accept()).abort()
    await server.close()
    let result = 0
    while (result >= 0) result = await rWriteSocket(client, 'x', 1)
    assert.ok(result === -32 || result === -104, String(result))
    assert.notEqual(rGetSocketError(client), '')
    assert.equal(await rWriteSocket(client, 'x', 1), result)
  })
})

describe('ioto: fibers and time', () => {
  test('whatever waits is refused outside of a fiber', async () => {
    const sp = rAllocSocket()
    assert.equal(rIsMain(), true)
    assert.equal(rGetFiber(), null)
    const buf = new Uint8Array(1)
    for (const [name, call] of [
      ['rConnectSocket', () => rConnectSocket(sp, 'localhost', 80)],
      ['rListenSocket', () => rListenSocket(sp, null, 0, () => {}, null)],
      ['rReadSocket', () => rReadSocket(sp, buf, 1)],
      ['rWriteSocket', () => rWriteSocket(sp, buf, 1)],
      ['rSendFile', () => rSendFile(sp, 0, 0, 1)],
      ['rWaitForIO', () => rWaitForIO(rGetSocketWait(sp), R_READABLE)],
    ] as const) {
      assert.equal(await call(), R_ERR_BAD_STATE)
      assert.equal(rGetSocketError(sp), `${name} must be called from a fiber`)
      sp.message = ''
    }
    await assert.rejects(rYieldFiber(), /must be called from a fiber/)
  })

  test('a fiber starts when its maker waits, and takes its argument', async () => {
    const order: string[] = []
    await onFiber(async () => {
      let finished!: () => void
      const done = new Promise<void>((resolve) => (finished = resolve))
      const fn = (arg: string) => {
        order.push(arg, rGetFiber()?.name ?? '')
        finished()
      }
      assert.equal(rSpawnFiber('worker', fn, 'spawned'), 0)
      order.push('still here')
      await done
    })
    assert.deepEqual(order, ['still here', 'spawned', 'worker'])
    assert.equal(rSpawnFiber('none', null as never, null), R_ERR_BAD_ARGS)
  })

  test('yield and resume hand values over, in both directions', async () => {
    let fiber!: RFiber
    const got: unknown[] = []
    rSpawnFiber(
      'worker',
      async () => {
        fiber = rGetFiber() as RFiber
        got.push(await rYieldFiber('first'))
        got.push(await rYieldFiber('second'))
      },
      null,
    )
    await onFiber(async () => {
      // From a fiber, the call returns and the other one runs later.
      assert.equal(await rResumeFiber(fiber, 'a'), null)
    })
    assert.equal(await rResumeFiber(fiber, 'b'), null)
    assert.equal(fiber.done, true)
    assert.equal(await rResumeFiber(fiber, 'c'), null)
    assert.deepEqual(got, ['a', 'b'])
  })

  test('from outside, resuming gives what the fiber yields next', async () => {
    let fiber!: RFiber
    rSpawnFiber(
      'worker',
      async () => {
        fiber = rGetFiber() as RFiber
        for (let n = 1; (await rYieldFiber(n)) !== 'stop'; n++);
      },
      null,
    )
    await Promise.resolve()
    await Promise.resolve()
    assert.equal(await rResumeFiber(fiber, 'go'), 2)
    assert.equal(await rResumeFiber(fiber, 'go'), 3)
    assert.equal(await rResumeFiber(fiber, 'stop'), null)
  })

  test('beyond the limit there is no memory for a fiber', async () => {
    rSetFiberLimits(1, 0, 0)
    try {
      await onFiber(async () =>
        assert.equal(
          rSpawnFiber('more', () => {}, null),
          R_ERR_MEMORY,
        ),
      )
    } finally {
      rSetFiberLimits(0)
    }
  })

  test('the clocks, sleeping, and the loop', async () => {
    let ran = 0
    assert.equal(
      rInit((arg: number) => {
        ran = arg
        void rSleep(10).then(rStop)
      }, 7),
      0,
    )
    const from = rGetTicks()
    await rServiceEvents()
    await rServiceEvents()
    assert.equal(ran, 7)
    assert.ok(rGetElapsedTicks(from) >= 9)
    assert.equal(rGetRemainingTicks(rGetTicks() - 100, 50), 0)
    assert.ok(rGetRemainingTicks(rGetTicks(), 5_000) > 4_000)
    assert.ok(Math.abs(rGetTime() - Date.now()) < 1_000)
    assert.equal(rGetTicks(), Math.floor(rGetTicks()))
    rTerm()
    assert.equal(rInit(), 0)
    rTerm()
  })
})

describe('ioto against other programs', { skip: spawnSync('socat', ['-V']).status !== 0 }, () => {
  fiberTest('a client of socat', async (made) => {
    const port = await serving(made(), echo)
    const socat = spawn('socat', ['-t', '10', '-', `TCP:127.0.0.1:${port}`])
    socat.stdin.end('a line\n')
    const parts: Buffer[] = []
    socat.stdout.on('data', (part: Buffer) => parts.push(part))
    const [status] = await once(socat, 'close')
    assert.equal(Buffer.concat(parts).toString(), 'a line\n')
    assert.equal(status, 0)
  })
})

describe('ioto beside this library', () => {
  fiberTest('speaks with its connections', async (made) => {
    const port = await serving(made(), echo)
    await using client = await dial(`tcp://127.0.0.1:${port}`)
    await client.write('hello')
    await client.end()
    assert.equal(new TextDecoder().decode(await client.readAll()), 'hello')
  })
})

describe('ioto: the table of docs/dialects/ioto.md', () => {
  test('has every function, and no other', () => {
    const page = readFileSync(new URL('../../../docs/dialects/ioto.md', import.meta.url), 'utf8')
    const rows = [...page.matchAll(/^\| `(r[A-Z]\w*)[^`]*` +\| (\S+) +\|/gm)].map(([, name, status]) => [name as string, status] as const)
    const offered = rows.filter(([, status]) => status !== 'no').map(([name]) => name)
    const functions = Object.keys(ioto).filter((name) => /^r[A-Z]/.test(name))
    assert.deepEqual(offered.sort(), functions.sort())
    for (const [name, status] of rows) assert.ok(['yes', 'differs', 'no'].includes(status as string), `${name}: ${status}`)
  })

  test('has every result code with its number', () => {
    const page = readFileSync(new URL('../../../docs/dialects/ioto.md', import.meta.url), 'utf8')
    const told = Object.fromEntries([...page.matchAll(/`(R_ERR(?:_\w+)?)` (-\d+)/g)].map(([, name, number]) => [name, Number(number)]))
    assert.deepEqual([ioto.INVALID_SOCKET, ioto.SOCKET_ERROR], [-1, -1])
    assert.deepEqual(told, Object.fromEntries(Object.entries(ioto).filter(([name]) => name.startsWith('R_ERR'))))
  })

  test('has every flag and mask with its number', () => {
    const page = readFileSync(new URL('../../../docs/dialects/ioto.md', import.meta.url), 'utf8')
    const told = Object.fromEntries([...page.matchAll(/`(R_\w+)` (0x[\da-f]+)/g)].map(([, name, number]) => [name, Number(number)]))
    const others = Object.entries(ioto).filter(([name]) => name.startsWith('R_') && !/^R_(?:ERR|OK)/.test(name))
    assert.deepEqual(told, Object.fromEntries(others))
    assert.deepEqual([ioto.R_OK, ioto.TPS], [0, 1000])
  })
})
