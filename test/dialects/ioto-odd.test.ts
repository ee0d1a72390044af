/** What programs do to Ioto's sockets that they should not: many fibers on one, closing at any moment, odd arguments, odd peers. */

import assert from 'node:assert/strict'
import { closeSync, ftruncateSync, openSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { connect as dial, type Connection, listen as listenAt, network, type TraceEvent } from 'fairlead'
import {
  R_ERR_BAD_ARGS,
  R_ERR_BAD_VALUE,
  R_ERR_BASE,
  R_ERR_CANT_COMPLETE,
  R_ERR_CANT_CONNECT,
  R_ERR_CANT_READ,
  R_ERR_CANT_WRITE,
  R_ERR_TIMEOUT,
  R_IO,
  R_READABLE,
  R_WRITABLE,
  rAllocSocket,
  rCloseSocket,
  rConnectSocket,
  rDisconnectSocket,
  rFreeSocket,
  rGetFiber,
  rGetSocketAddr,
  rGetSocketError,
  rGetSocketHandle,
  rGetSocketLimit,
  rGetSocketWait,
  rGetTicks,
  rGetTime,
  rIsSocketClosed,
  rIsSocketConnected,
  rIsSocketEof,
  rIsSocketSecure,
  rListenSocket,
  rReadSocket,
  rReadSocketSync,
  rResumeFiber,
  rSendFile,
  rSetFiberLimits,
  rSetSocketCerts,
  rSetSocketCiphers,
  rSetSocketLimit,
  rSetSocketLinger,
  rSetSocketNoDelay,
  rSetSocketVerify,
  rSleep,
  rSpawnFiber,
  rWaitForIO,
  rWriteSocket,
  rWriteSocketSync,
  type RFiber,
  type RSocket,
} from 'fairlead/ioto'
import { collect, nothingCollects } from '../support/garbage.js'
import { connected, echo, fiberTest, folder, onFiber, pair, portOf, serving, text, WAYS } from './ioto-fibers.js'

/** Fills a connection whose peer does not read, until the system has no more room for it. */
async function saturate(sp: RSocket): Promise<void> {
  const data = new Uint8Array(1 << 20)
  for (let full = 0; full < 3; full++) {
    if (rWriteSocketSync(sp, data, data.length) > 0) full = 0
    await rSleep(2)
  }
}

/** Everything that arrives until the end. */
async function drained(sp: RSocket): Promise<Buffer> {
  const parts: Buffer[] = []
  const buf = new Uint8Array(65_536)
  for (let n = await rReadSocket(sp, buf, buf.length); n > 0; n = await rReadSocket(sp, buf, buf.length)) {
    parts.push(Buffer.from(buf.subarray(0, n)))
  }
  return Buffer.concat(parts)
}

// First: the limit is of the process, and others here have sockets that are freed a moment later.
describe('ioto: the places of accepted sockets', () => {
  fiberTest('a socket freed twice gives its place back once', async (made) => {
    const kept = rGetSocketLimit()
    let got!: (sp: RSocket) => void
    const port = await serving(made(), (client) => got(made(client)))
    const served = async () => {
      const accepted = new Promise<RSocket>((resolve) => (got = resolve))
      await connected(made(), port)
      return accepted
    }
    rSetSocketLimit(1)
    try {
      const first = await served()
      await Promise.all([rFreeSocket(first), rFreeSocket(first)])
      await rFreeSocket(first)
      await served()
      const refused = await connected(made(), port)
      assert.equal(await rReadSocket(refused, new Uint8Array(1), 1, rGetTicks() + 5_000), R_ERR_CANT_READ)
      for (const none of [0, -1, Number.NaN]) {
        rSetSocketLimit(none)
        assert.equal(rGetSocketLimit(), 0)
      }
    } finally {
      rSetSocketLimit(kept)
    }
  })
})

for (const way of WAYS) {
  describe(`ioto over ${way.name}: deadlines that have passed`, () => {
    fiberTest('a read takes what the system has by then', async (made) => {
      const { client, server } = await pair(made, way)
      await rWriteSocket(server, 'hello', 5)
      await rSleep(50)
      const buf = new Uint8Array(9)
      for (const clock of [rGetTicks, rGetTime]) {
        assert.equal(await rReadSocket(client, buf, 9, clock() - 10), clock === rGetTicks ? 5 : R_ERR_TIMEOUT)
      }
    })

    fiberTest('a write sends what is welcome then', async (made) => {
      const { client, server } = await pair(made, way)
      assert.equal(await rWriteSocket(client, 'hello', 5, rGetTicks() - 10), 5)
      assert.equal(client.written, 5)
      const buf = new Uint8Array(9)
      assert.equal(await rReadSocket(server, buf, 9, rGetTicks() + 5_000), 5)
      await saturate(client)
      assert.equal(await rWriteSocket(client, buf, 9, rGetTicks() - 10), R_ERR_TIMEOUT)
      assert.equal(client.written, 0)
      rSpawnFiber('reader', () => drained(server), null)
      await rCloseSocket(client)
      assert.equal(await rWriteSocket(client, buf, 9, rGetTicks() - 10), R_ERR_CANT_WRITE)
    })

    fiberTest('who polls with them does not keep other fibers from running', async (made) => {
      const { client, server } = await pair(made, way)
      rSpawnFiber('writer', () => rSleep(10).then(() => rWriteSocket(server, 'x', 1)), null)
      const buf = new Uint8Array(1)
      let result: number = R_ERR_TIMEOUT
      while (result === R_ERR_TIMEOUT) result = await rReadSocket(client, buf, 1, rGetTicks() - 1)
      assert.equal(result, 1)
      await saturate(client)
      rSpawnFiber('reader', () => rSleep(10).then(() => drained(server)), null)
      result = R_ERR_TIMEOUT
      while (result === R_ERR_TIMEOUT) result = await rWriteSocket(client, buf, 1, rGetTicks() - 1)
      assert.equal(result, 1)
    })
  })

  describe(`ioto over ${way.name}: many fibers on one socket`, () => {
    fiberTest('what each writes stays together, whatever it does with its buffer afterwards', async (made) => {
      const { client, server } = await pair(made, way)
      const size = 5_000
      const all = drained(server)
      const writers = Array.from({ length: 26 }, (_, i) =>
        onFiber(async () => {
          const buf = new Uint8Array(size)
          for (let round = 0; round < 10; round++) {
            buf.fill(97 + i)
            assert.equal(await rWriteSocket(client, buf, size), size)
            buf.fill(0)
          }
        }),
      )
      await Promise.all(writers)
      await rCloseSocket(client)
      const got = await all
      assert.equal(got.length, 26 * 10 * size)
      for (let at = 0; at < got.length; at += size) assert.ok(got.subarray(at, at + size).every((byte) => byte === got[at]))
    })

    fiberTest('closing from another fiber wakes whatever waits, and nothing waits for ever', async (made) => {
      for (const [expected, prepare, call] of [
        [R_ERR_CANT_READ, undefined, (sp: RSocket) => rReadSocket(sp, new Uint8Array(1), 1)],
        [R_ERR_CANT_READ, undefined, (sp: RSocket) => rReadSocket(sp, new Uint8Array(1), 1, rGetTicks() + 60_000)],
        [R_ERR_CANT_WRITE, saturate, (sp: RSocket) => rWriteSocket(sp, new Uint8Array(1 << 20), 1 << 20)],
        [R_READABLE, undefined, (sp: RSocket) => rWaitForIO(rGetSocketWait(sp), R_READABLE)],
        [R_WRITABLE, saturate, (sp: RSocket) => rWaitForIO(rGetSocketWait(sp), R_WRITABLE)],
        [R_IO, saturate, (sp: RSocket) => rWaitForIO(rGetSocketWait(sp), R_IO, rGetTicks() + 60_000)],
      ] as const) {
        for (const end of [rCloseSocket, rFreeSocket]) {
          const { client, server } = await pair(made, way)
          await prepare?.(client)
          const waiting = call(client)
          rSpawnFiber('closer', () => rSleep(5).then(() => end(client)), null)
          assert.equal(await waiting, expected, call.toString())
          assert.equal(rIsSocketClosed(client), true)
          assert.equal(rGetSocketError(client), '')
          rSpawnFiber('reader', () => drained(server), null)
        }
      }
    })

    fiberTest('waiting to write ends when the peer breaks the connection', async (made) => {
      const { client, server } = await pair(made, way)
      await saturate(client)
      rSpawnFiber('breaker', () => rSleep(5).then(() => (server.beneath as Connection).abort()), null)
      assert.equal(await rWaitForIO(rGetSocketWait(client), R_WRITABLE), R_WRITABLE)
      const result = await rWriteSocket(client, 'x', 1)
      assert.ok(result < 0 && result !== R_ERR_TIMEOUT, String(result))
      // Nor do settings fail that have nobody to tell.
      rSetSocketNoDelay(client, 1)
      rSetSocketLinger(client, 1)
      await rDisconnectSocket(client)
      rSetSocketNoDelay(client, 0)
      assert.equal(rIsSocketConnected(client), false)
    })

    fiberTest('a socket closed in passing and connected anew has nothing of what came before', async (made) => {
      const listener = made()
      const port = await serving(listener, echo, way)
      const sp = await connected(made(), port, way)
      const reading = rReadSocket(sp, new Uint8Array(1), 1)
      const writing = rWriteSocket(sp, new Uint8Array(64 << 20), 64 << 20)
      void rCloseSocket(sp)
      assert.equal(await rConnectSocket(sp, 'localhost', port, rGetTicks() + 5_000), 0)
      assert.deepEqual(await Promise.all([reading, writing]), [R_ERR_CANT_READ, R_ERR_CANT_WRITE])
      assert.deepEqual([rIsSocketEof(sp), rIsSocketConnected(sp), rGetSocketError(sp)], [false, true, ''])
      await rWriteSocket(sp, 'x', 1)
      assert.equal(await rReadSocket(sp, new Uint8Array(1), 1), 1)
    })

    fiberTest('of fibers that connect one socket at once the last has it, and no connection is left behind', async (made) => {
      const port = await serving(made(), echo, way)
      const sp = await connected(made(), port, way)
      const sockets = () => network().sockets().length
      const before = sockets()
      for (let round = 0; round < 5; round++) {
        await rWriteSocket(sp, 'unread', 6)
        const results = await Promise.all([1, 2, 3].map(() => rConnectSocket(sp, 'localhost', port, rGetTicks() + 5_000)))
        assert.deepEqual(results, [R_ERR_CANT_CONNECT, R_ERR_CANT_CONNECT, 0])
        assert.equal(rGetSocketError(sp), '')
        const ended = [rConnectSocket(sp, 'localhost', port, rGetTicks() + 5_000), rCloseSocket(sp)]
        assert.deepEqual(await Promise.all(ended), [R_ERR_CANT_CONNECT, undefined])
        assert.deepEqual([rIsSocketClosed(sp), rGetSocketHandle(sp)], [true, -1])
        assert.equal(await rConnectSocket(sp, 'localhost', port, rGetTicks() + 5_000), 0)
      }
      // Servers of those that were given up learn of it a moment later.
      while (sockets() > before) await rSleep(1)
    })

    fiberTest('connecting anew does not wait until the peer before has read what was written', async (made) => {
      const { client, server } = await pair(made, way)
      await saturate(client)
      const port = await serving(made(), echo, way)
      const from = rGetTicks()
      assert.equal(await rConnectSocket(client, 'localhost', port, rGetTicks() + 4_000), 0)
      assert.ok(rGetTicks() - from < 4_000)
      assert.ok((await drained(server)).length > 1 << 16)
      assert.equal(rGetSocketError(server), '')
    })

    fiberTest('disconnecting wakes a read of another fiber; the address stays known', async (made) => {
      const { client } = await pair(made, way)
      const reading = rReadSocket(client, new Uint8Array(1), 1)
      rSpawnFiber('other', () => rDisconnectSocket(client), null)
      assert.equal(await reading, R_ERR_CANT_READ)
      const at: { ip?: string; port?: number } = {}
      assert.equal(rGetSocketAddr(client, at), 0)
      assert.deepEqual([rIsSocketClosed(client), (at.port ?? 0) > 0, rGetSocketError(client)], [false, true, ''])
      assert.equal(await rWaitForIO(rGetSocketWait(client), R_IO), R_IO)
    })
  })
}

describe('ioto: files', () => {
  const path = join(folder, 'odd-file')
  const size = 4 << 20

  fiberTest('a file is sent whole among the writes of other fibers, and is counted', async (made) => {
    writeFileSync(path, Buffer.alloc(size, 'f'))
    const fd = openSync(path, 'r')
    try {
      const { client, server } = await pair(made)
      const all = drained(server)
      const first = rWriteSocket(client, '<', 1)
      const sending = rSendFile(client, fd, 0, size)
      const behind = [rWriteSocket(client, '>', 1), rSendFile(client, fd, 0, 1)]
      assert.deepEqual(await Promise.all([first, sending, ...behind]), [1, size, 1, 1])
      assert.equal(client.written, 1)
      await rCloseSocket(client)
      const got = await all
      assert.equal(got.length, size + 3)
      assert.deepEqual([got.indexOf('<'), got.indexOf('>')], [0, size + 1])
    } finally {
      closeSync(fd)
    }
  })

  fiberTest('a file that is cut off meanwhile gives what there was of it', async (made) => {
    writeFileSync(path, Buffer.alloc(16 * size, 'f'))
    const fd = openSync(path, 'r+')
    try {
      const { client, server } = await pair(made)
      const sending = rSendFile(client, fd, 0, 16 * size)
      await rWaitForIO(rGetSocketWait(server), R_READABLE)
      ftruncateSync(fd, 0)
      const all = drained(server)
      const sent = await sending
      assert.ok(sent > 0 && sent < 16 * size, String(sent))
      assert.equal(client.written, sent)
      assert.equal(await rWriteSocket(client, 'on', 2), 2)
      await rCloseSocket(client)
      assert.equal((await all).length, sent + 2)
    } finally {
      closeSync(fd)
    }
  })

  fiberTest('what is no regular file is -1, and one that cannot be read its errno', async (made) => {
    const { client, server } = await pair(made)
    const directory = openSync(folder, 'r')
    const unreadable = openSync(join(folder, 'write-only'), 'w')
    try {
      assert.equal(await rSendFile(client, directory, 0, 10), R_ERR_BASE)
      assert.match(rGetSocketError(client), /no regular file/)
      writeFileSync(join(folder, 'write-only'), 'content')
      assert.equal(await rSendFile(client, unreadable, 0, 7), -9)
      assert.equal(await rSendFile(client, unreadable, Number.MAX_SAFE_INTEGER, 7), R_ERR_BAD_ARGS)
      assert.equal(await rWriteSocket(client, 'on', 2), 2)
      assert.equal(await rReadSocket(server, new Uint8Array(9), 9), 2)
    } finally {
      closeSync(directory)
      closeSync(unreadable)
    }
  })

  fiberTest('closing from another fiber, and a peer that breaks the connection, end it', async (made) => {
    writeFileSync(path, Buffer.alloc(16 * size, 'f'))
    const fd = openSync(path, 'r')
    try {
      const closed = await pair(made)
      const arrived = (sp: RSocket) => rWaitForIO(rGetSocketWait(sp), R_READABLE)
      rSpawnFiber('closer', () => arrived(closed.server).then(() => rCloseSocket(closed.client)), null)
      assert.equal(await rSendFile(closed.client, fd, 0, 16 * size), R_ERR_CANT_WRITE)
      assert.ok(closed.client.written > 0 && closed.client.written < 16 * size)
      rSpawnFiber('reader', () => drained(closed.server), null)
      const { client, server } = await pair(made)
      rSpawnFiber('breaker', () => arrived(server).then(() => (server.beneath as Connection).abort()), null)
      const result = await rSendFile(client, fd, 0, 16 * size)
      assert.ok(result === -32 || result === -104, String(result))
      assert.notEqual(rGetSocketError(client), '')
    } finally {
      closeSync(fd)
    }
  })
})

describe('ioto: odd arguments', () => {
  fiberTest('a deadline that is no number is a bad argument, and no wait for ever', async (made) => {
    const { client } = await pair(made)
    const buf = new Uint8Array(1)
    for (const deadline of [Number.NaN, '1000', {}, null, 10n] as number[]) {
      assert.equal(await rReadSocket(client, buf, 1, deadline), R_ERR_BAD_ARGS)
      assert.equal(await rWriteSocket(client, buf, 1, deadline), R_ERR_BAD_ARGS)
      assert.equal(await rWaitForIO(rGetSocketWait(client), R_READABLE, deadline), R_ERR_BAD_ARGS)
      assert.equal(await rConnectSocket(made(), '127.0.0.1', 9, deadline), R_ERR_BAD_ARGS)
    }
    assert.equal(rIsSocketConnected(client), true)
    assert.equal(await rWriteSocket(client, buf, 1, Number.POSITIVE_INFINITY), 1)
    assert.equal(await rWriteSocket(client, buf, 1, -1), 1)
  })

  fiberTest('what was never set is as null', async () => {
    const none = undefined as unknown as null
    const buf = new Uint8Array(1)
    assert.deepEqual(
      [rIsSocketClosed(none), rIsSocketEof(none), rIsSocketSecure(none), rIsSocketConnected(none)],
      [true, true, false, false],
    )
    await rFreeSocket(none)
    await rCloseSocket(none)
    rSetSocketLinger(none, 1)
    rSetSocketVerify(none, 1, 1)
    rSetSocketCerts(none, null, null, null)
    rSetSocketCiphers(none, 'x')
    assert.deepEqual([rGetSocketError(none), rGetSocketHandle(none), rGetSocketWait(none)], ['', -1, null])
    const results = [
      rConnectSocket(none, 'localhost', 80),
      rListenSocket(none, null, 0, () => {}, null),
      rReadSocket(none, buf, 1),
      rWriteSocket(none, buf, 1),
      rWaitForIO(none, R_READABLE),
      rSendFile(none, 0, 0, 1),
    ]
    for (const result of await Promise.all(results)) assert.equal(result, R_ERR_BAD_ARGS)
    assert.deepEqual([rReadSocketSync(none, buf, 1), rWriteSocketSync(none, buf, 1)], [R_ERR_BAD_ARGS, R_ERR_BAD_ARGS])
    assert.equal(await rResumeFiber(none), null)
    assert.equal(await rResumeFiber(null, 1), null)
  })

  fiberTest('a host or a buffer of another type is refused by number', async (made) => {
    const sp = made()
    for (const host of [undefined, 12, {}] as unknown as string[]) assert.equal(await rConnectSocket(sp, host, 80), R_ERR_CANT_COMPLETE)
    assert.equal(await rListenSocket(sp, 12 as unknown as string, 0, () => {}, null), R_ERR_CANT_COMPLETE)
    assert.equal(await rConnectSocket(sp, '127.0.0.1', '80' as unknown as number), R_ERR_BAD_ARGS)
    const { client } = await pair(made)
    for (const buf of ['abc', new ArrayBuffer(3), [1, 2, 3], new DataView(new ArrayBuffer(3))] as unknown as Uint8Array[]) {
      assert.equal(await rReadSocket(client, buf, 3), R_ERR_BAD_ARGS)
      assert.equal(rReadSocketSync(client, buf, 3), R_ERR_BAD_ARGS)
      if (typeof buf !== 'string') assert.equal(await rWriteSocket(client, buf, 3), R_ERR_BAD_ARGS)
    }
    for (const size of [-1, 4, 0.5, Number.NaN, Number.POSITIVE_INFINITY, '3' as unknown as number]) {
      assert.equal(await rWriteSocket(client, 'abc', size), R_ERR_BAD_ARGS)
      assert.equal(rWriteSocketSync(client, 'abc', size), R_ERR_BAD_ARGS)
    }
  })

  fiberTest('text is as long as its bytes, and a Buffer is bytes', async (made) => {
    const { client, server } = await pair(made)
    assert.equal(await rWriteSocket(client, 'é…', 5), 5)
    assert.equal(await rWriteSocket(client, 'é…', 6), R_ERR_BAD_ARGS)
    const buf = Buffer.alloc(9)
    let count = 0
    while (count < 5) count += await rReadSocket(server, buf.subarray(count), 9 - count)
    assert.equal(text(buf, 5), 'é…')
  })

  fiberTest('a linger time beyond what the system can count is the longest it can, and none is none', async (made) => {
    const port = await serving(made(), rFreeSocket)
    for (const [seconds, kept] of [
      [1e9, 65_535],
      [Number.POSITIVE_INFINITY, 65_535],
      [1.5, 1],
      [Number.NaN, -1],
      [-7, -1],
    ] as const) {
      const sp = made()
      rSetSocketLinger(sp, seconds)
      assert.equal(sp.linger, kept)
      await connected(sp, port)
      await rCloseSocket(sp)
    }
  })

  fiberTest('whatever the linger time, the peer gets what was written, and an end', async (made) => {
    const [size, part] = [300_000, 150_000]
    for (const seconds of [-1, 0, 1]) {
      for (const unread of [false, true]) {
        let got!: (sp: RSocket) => void
        const accepted = new Promise<RSocket>((resolve) => (got = resolve))
        const port = await serving(made(), (sp) => got(sp))
        const client = made()
        rSetSocketLinger(client, seconds)
        await connected(client, port)
        if (network().driver.name === 'kernel') {
          assert.equal((client.beneath as Connection).get('linger'), seconds < 0 ? false : seconds * 1000)
        }
        const server = made(await accepted)
        if (unread) {
          await rWriteSocket(server, 'never read', 10)
          await rWaitForIO(rGetSocketWait(client), R_READABLE)
        }
        const writing = rWriteSocket(client, new Uint8Array(size), size)
        const buf = new Uint8Array(part)
        let count = 0
        while (count < part) count += await rReadSocket(server, buf, part)
        assert.equal(await writing, size)
        void rCloseSocket(client)
        assert.equal(count + (await drained(server)).length, size)
        assert.equal(rGetSocketError(server), '')
      }
    }
  })

  fiberTest('sleeping for what is no time is not for ever', async () => {
    for (const ms of [Number.NaN, -1, undefined as unknown as number]) await rSleep(ms)
  })

  fiberTest('the handle is the descriptor, or a number that cannot be one', async (made) => {
    for (const way of WAYS) {
      const { client, server } = await pair(made, way)
      for (const sp of [client, server]) {
        const handle = rGetSocketHandle(sp)
        const known = (sp.beneath as Connection).descriptor
        if (known === undefined) assert.ok(handle >= 2 ** 30)
        else {
          assert.equal(handle, known)
          if (process.platform === 'linux') assert.match(readlinkSync(`/proc/self/fd/${handle}`), /^socket:/)
        }
      }
      assert.notEqual(rGetSocketHandle(client), rGetSocketHandle(server))
      await rCloseSocket(client)
      assert.equal(rGetSocketHandle(client), -1)
    }
  })

  fiberTest('a socket whose address is no IP address has none to tell', async (made) => {
    const path = join(folder, 's')
    const listener = await listenAt(`unix:${path}`)
    const sp = made()
    sp.beneath = await dial(`unix:${path}`)
    assert.equal(rGetSocketAddr(sp, {}), R_ERR_BAD_VALUE)
    await listener.close()
  })

  fiberTest('an accepted socket of a listener for both versions tells an IPv4 address in its own form', async (made) => {
    let got!: (sp: RSocket) => void
    const accepted = new Promise<RSocket>((resolve) => (got = resolve))
    const listener = made()
    await rListenSocket(listener, null, 0, (_arg, client) => got(client), null)
    assert.equal(await rConnectSocket(made(), '127.0.0.1', portOf(listener)), 0)
    const at: { ip?: string; port?: number } = {}
    assert.equal(rGetSocketAddr(made(await accepted), at), 0)
    assert.deepEqual(at, { ip: '127.0.0.1', port: portOf(listener) })
  })
})

describe('ioto: handlers and fibers', () => {
  fiberTest('a handler that throws at once, or behind freeing its client, harms no other', async (made) => {
    const events: TraceEvent[] = []
    const unsubscribe = network().trace.subscribe((event) => events.push(event))
    let calls = 0
    const port = await serving(made(), (client) => {
      calls++
      if (calls === 1) throw new Error('at once')
      if (calls === 3) return echo(client)
      return rFreeSocket(client).then(() => {
        throw new Error('behind')
      })
    })
    for (let i = 0; i < 2; i++) {
      const sp = made()
      // The reset may be there before the connecting is told.
      const result = await rConnectSocket(sp, 'localhost', port, rGetTicks() + 5_000)
      if (result === 0) assert.equal(await rReadSocket(sp, new Uint8Array(1), 1, rGetTicks() + 5_000), R_ERR_CANT_READ)
      else assert.equal(result, R_ERR_CANT_CONNECT)
    }
    const sp = await connected(made(), port)
    await rWriteSocket(sp, 'x', 1)
    assert.equal(await rReadSocket(sp, new Uint8Array(1), 1, rGetTicks() + 5_000), 1)
    unsubscribe()
    const told = events.flatMap((event) => (event.type === 'error' ? [(event.error as Error).message] : []))
    assert.deepEqual(told, ['at once', 'behind'])
  })

  fiberTest('without a fiber for it a client is closed, and the next is served', async (made) => {
    const port = await serving(made(), echo)
    rSetFiberLimits(1)
    try {
      const refused = await connected(made(), port)
      assert.equal(await rReadSocket(refused, new Uint8Array(1), 1, rGetTicks() + 5_000), R_ERR_CANT_READ)
    } finally {
      rSetFiberLimits(0)
    }
    const served = await connected(made(), port)
    await rWriteSocket(served, 'x', 1)
    assert.equal(await rReadSocket(served, new Uint8Array(1), 1, rGetTicks() + 5_000), 1)
  })

  fiberTest('thousands of fibers run beside each other, hundreds of them with a connection', async (made) => {
    const port = await serving(made(), echo)
    let sleepers = 0
    let echoes = 0
    const all: Promise<void>[] = []
    for (let i = 0; i < 5_000; i++) {
      all.push(
        onFiber(async () => {
          await rSleep(i % 7)
          sleepers++
        }),
      )
    }
    for (let i = 0; i < 300; i++) {
      all.push(
        onFiber(async () => {
          const sp = rAllocSocket()
          assert.equal(await rConnectSocket(sp, '127.0.0.1', port, rGetTicks() + 30_000), 0, rGetSocketError(sp))
          const buf = new Uint8Array(8)
          await rWriteSocket(sp, 'ping', 4)
          if ((await rReadSocket(sp, buf, 8, rGetTicks() + 30_000)) === 4) echoes++
          await rFreeSocket(sp)
        }),
      )
    }
    await Promise.all(all)
    assert.deepEqual([sleepers, echoes], [5_000, 300])
  })

  test('fibers that are done are garbage, also those of a chain', { skip: nothingCollects }, async () => {
    const fibers: WeakRef<RFiber>[] = []
    const note = () => fibers.push(new WeakRef(rGetFiber() as RFiber))
    await new Promise<void>((resolve) => {
      const next = (left: number): void => {
        note()
        if (left === 0) resolve()
        else rSpawnFiber('next', next, left - 1)
      }
      rSpawnFiber('first', next, 500)
    })
    for (let i = 0; i < 500; i++) {
      await onFiber(async () => {
        note()
        await rSleep(0)
      })
    }
    let left = fibers.length
    for (let i = 0; i < 20 && left > 10; i++) {
      collect()
      await rSleep(1)
      left = fibers.filter((fiber) => fiber.deref() !== undefined).length
    }
    assert.ok(left <= 10, `${left} of ${fibers.length}`)
  })

  test('a listener that no variable holds goes on serving', { skip: nothingCollects }, async () => {
    let stop!: () => Promise<void>
    const port = await onFiber(async () => {
      const listener = rAllocSocket()
      await rListenSocket(listener, '127.0.0.1', 0, (_arg, client) => echo(client), null)
      const weak = new WeakRef(listener)
      stop = () => rFreeSocket(weak.deref() ?? null)
      return portOf(listener)
    })
    for (let i = 0; i < 5; i++) {
      collect()
      await rSleep(1)
    }
    await onFiber(async () => {
      const sp = rAllocSocket()
      assert.equal(await rConnectSocket(sp, '127.0.0.1', port, rGetTicks() + 5_000), 0)
      await rWriteSocket(sp, 'x', 1)
      assert.equal(await rReadSocket(sp, new Uint8Array(1), 1, rGetTicks() + 5_000), 1)
      await rFreeSocket(sp)
    })
    await stop()
  })
})
