/** Streams and listeners of the kernel driver, where the system's own manners show. */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect as connectNode, createServer, type Socket } from 'node:net'
import { constants } from 'node:os'
import { after, describe, test } from 'node:test'
import { Network } from 'fairlead'
import { type Driver, settle, type StreamHandle } from 'fairlead/testing'
import { systemClock } from '#src/deadline.js'
import type { Address, IpAddress } from '#src/address.js'
import type { DialSettings, ListenerHandle, ListenSettings } from '#src/driver.js'
import { writeAddress } from '#src/drivers/kernel-address.js'
import { LINUX } from '#src/drivers/kernel-layout.js'
import { Memory } from '#src/drivers/kernel-memory.js'
import type { System } from '#src/drivers/kernel-system.js'
import { freshPath, removePaths } from './matrix.js'
import { Ends, text } from './support/handles.js'
import { kernelMissing, type Watched, watchedKernel } from './support/kernel.js'
import { until } from './support/pairs.js'

const { errno } = constants
const skip = kernelMissing ?? false
const LOOPBACK: IpAddress = { family: 'ipv4', address: '127.0.0.1', port: 0 }
const DIAL: DialSettings = { noDelay: true, keepAlive: false }
const LISTEN: ListenSettings = { backlog: 511, ipv6Only: false, reusePort: false, noDelay: true, keepAlive: false }

after(removePaths)

function dial(driver: Driver, to: Address, settings: Partial<DialSettings> = {}): Promise<StreamHandle> {
  return new Promise((resolve, reject) => {
    driver.dial(to, { ...DIAL, ...settings }, (error, handle) => (handle === undefined ? reject(error as Error) : resolve(handle)))
  })
}

async function accepted(listener: ListenerHandle): Promise<StreamHandle> {
  for (;;) {
    const waiting = new Promise<void>((resolve) => listener.attach({ acceptable: resolve }))
    const handle = listener.accept()
    if (handle !== undefined) return handle
    await waiting
  }
}

function close(listener: ListenerHandle): Promise<void> {
  return new Promise((resolve) => listener.close(resolve))
}

interface World extends Watched {
  readonly listener: ListenerHandle
  readonly a: StreamHandle
  readonly b: StreamHandle
}

/** Two ends over a listener, all gone and nothing left when `body` is done. */
async function withPair(
  at: Address,
  body: (world: World) => Promise<unknown>,
  change?: (system: System) => Partial<System>,
): Promise<void> {
  const watched = watchedKernel(change)
  const listener = await watched.driver.listen(at, LISTEN)
  const [a, b] = await Promise.all([dial(watched.driver, listener.local), accepted(listener)])
  try {
    await body({ ...watched, listener, a, b })
  } finally {
    a.destroy(true)
    b.destroy(true)
    await close(listener)
    await settle(3)
  }
  watched.ledger.check()
}

const unixAt = async (): Promise<Address> => ({ family: 'unix', path: await freshPath(), abstract: false })

/** A `node:net` peer of a dialled handle. */
async function withNode(body: (a: StreamHandle, peer: Socket, watched: Watched) => Promise<unknown>): Promise<void> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const watched = watchedKernel()
  const port = (server.address() as { port: number }).port
  const [[peer], a] = await Promise.all([once(server, 'connection') as Promise<[Socket]>, dial(watched.driver, { ...LOOPBACK, port })])
  server.close()
  peer.on('error', () => {})
  try {
    await body(a, peer, watched)
  } finally {
    peer.destroy()
    a.destroy(true)
    await settle(3)
  }
  watched.ledger.check()
}

const flushed = (socket: Socket, data: string | Uint8Array) => new Promise<void>((resolve) => socket.write(data, () => resolve()))
const rejected = (promise: Promise<unknown>): Promise<NodeJS.ErrnoException> =>
  promise.then(
    (value) => assert.fail(`resolved with ${String(value)}`),
    (error: NodeJS.ErrnoException) => error,
  )

describe('ends and resets of the kernel driver', { skip }, () => {
  test('bytes before a reset are given, then the reset, and the same again', () =>
    withNode(async (a, peer) => {
      const ends = new Ends(a)
      await flushed(peer, 'last words')
      peer.resetAndDestroy()
      assert.equal(text(await ends.read()), 'last words')
      for (let i = 0; i < 2; i++) assert.equal((await rejected(ends.read())).code, 'ECONNRESET')
    }))

  test('a write that met the reset first takes nothing from the reader: what came before it, then the reset, never an end', () =>
    withNode(async (a, peer) => {
      const ends = new Ends(a)
      await flushed(peer, 'last words')
      peer.resetAndDestroy()
      await settle(5)
      assert.throws(() => a.write(Uint8Array.of(1)), { code: 'ECONNRESET' })
      assert.throws(() => a.write(Uint8Array.of(1)), { code: 'EPIPE' })
      assert.equal(text(await ends.read(4)), 'last')
      assert.equal(text(await ends.read()), ' words')
      assert.equal((await rejected(ends.read())).code, 'ECONNRESET')
    }))

  test('ending a connection that was reset says so, to this and to the reader', () =>
    withNode(async (a, peer) => {
      const ends = new Ends(a)
      peer.resetAndDestroy()
      await settle(5)
      assert.equal((await rejected(ends.end())).code, 'ECONNRESET')
      assert.equal((await rejected(ends.read())).code, 'ECONNRESET')
    }))

  test('a reset behind the end of the peer leaves the end what it is', () =>
    withNode(async (a, peer) => {
      const ends = new Ends(a)
      peer.end('all')
      await once(peer, 'finish')
      peer.resetAndDestroy()
      await settle(5)
      assert.throws(() => a.write(Uint8Array.of(1)), { code: 'EPIPE' })
      assert.equal(text(await ends.read()), 'all')
      assert.equal(await ends.read(), null)
    }))

  test('a peer that answers, says something and resets is connected to, heard, and then broken', async () => {
    for (const words of ['', 'busy']) {
      const watched = watchedKernel()
      const listener = await watched.driver.listen(LOOPBACK, LISTEN)
      const dialling = dial(watched.driver, listener.local)
      // Taken and reset before the dialling side was told of anything.
      let b: StreamHandle | undefined
      while (b === undefined) b = listener.accept()
      if (words !== '') b.write(Buffer.from(words))
      b.destroy(true)
      const a = await dialling
      const ends = new Ends(a)
      if (words !== '') assert.equal(text(await ends.read()), words)
      assert.equal((await rejected(ends.read())).code, 'ECONNRESET')
      a.destroy(false)
      await close(listener)
      await settle(3)
      watched.ledger.check()
    }
  })

  test('destroyed with a reset, a peer over TCP is told so, also while input is unread', async () => {
    for (const unread of [false, true]) {
      await withPair(LOOPBACK, async ({ a, b }) => {
        const ends = new Ends(b)
        if (unread) b.write(Uint8Array.of(1))
        a.destroy(true)
        assert.equal((await rejected(ends.read())).code, 'ECONNRESET')
      })
    }
  })

  test('half-closed, the other direction works on, over TCP and UNIX', async () => {
    for (const at of [LOOPBACK, await unixAt()]) {
      await withPair(at, async ({ a, b }) => {
        const [one, two] = [new Ends(a), new Ends(b)]
        a.write(Buffer.from('x'))
        await one.end()
        assert.equal(text(await two.read()), 'x')
        assert.equal(await two.read(), null)
        const writing = two.write(new Uint8Array(500_000)).then(() => two.end())
        assert.equal((await one.readAll()).length, 500_000)
        await writing
      })
    }
  })

  test('what may be lost is asked of the system: unread input, output that is not acknowledged, and not the end itself', async () => {
    for (const at of [LOOPBACK, await unixAt()]) {
      await withPair(at, async ({ a, b }) => {
        const [one, two] = [new Ends(a), new Ends(b)]
        assert.equal(a.mayLose(), false)
        a.write(Buffer.from('x'))
        assert.equal(b.mayLose(), true, 'unread')
        assert.equal(text(await two.read()), 'x')
        assert.equal(b.mayLose(), false)
        await one.end()
        await until('the byte is acknowledged', () => !a.mayLose())
        assert.equal(await two.read(), null)
        // More than the peer's system takes: over TCP it is still here.
        while (b.write(new Uint8Array(65_536)) > 0);
        assert.equal(b.mayLose(), false, 'the peer has ended, so nothing will come that could reset this')
        assert.equal(a.mayLose(), true)
      })
    }
  })
})

describe('what edges could hide', { skip }, () => {
  test('bytes behind an urgent one are found without anything more coming', () =>
    withPair(LOOPBACK, async ({ a, b, ledger }) => {
      const ends = new Ends(b)
      const MSG_OOB = 1
      assert.equal(ledger.system.send(a.descriptor as number, Buffer.from('before!'), 7, MSG_OOB), 7)
      a.write(Buffer.from('behind'))
      let all = ''
      while (all.length < 12) all += text(await ends.read())
      assert.equal(all, 'beforebehind')
    }))

  test('bytes behind descriptors that nobody wants are found, and the descriptors leave nothing', async () => {
    await withPair(await unixAt(), async ({ a, b }) => {
      const ends = new Ends(b)
      assert.equal(a.sendDescriptors?.(Buffer.from('with'), [a.descriptor as number]), 4)
      a.write(Buffer.from('behind'))
      let all = ''
      while (all.length < 10) all += text(await ends.read())
      assert.equal(all, 'withbehind')
    })
  })

  test('a socket that others have too is forgotten at its close, and watched anew when it comes back under its number', async () => {
    await withPair(await unixAt(), async ({ a, b, driver, ledger, listener }) => {
      const [d, c] = await Promise.all([dial(driver, listener.local), accepted(listener)])
      const fd = [...ledger.open].filter(([, call]) => call === 'accept4').at(-1)?.[0] as number
      // Twice on its way to b, so that closing c leaves the socket open, and what comes has the number that is free.
      for (let i = 0; i < 2; i++) assert.equal(a.sendDescriptors?.(Uint8Array.of(i), [fd]), 1)
      c.destroy(false)
      for (let i = 0; i < 2; i++) {
        const got = (b as Required<StreamHandle>).receiveDescriptors(10, 1)
        assert.deepEqual(got?.descriptors, [fd])
        ledger.adopt(fd)
        if (i > 0) {
          await settle(5)
          const waits = ledger.calls.get('epoll_wait')
          d.write(Uint8Array.of(7))
          await settle(5)
          assert.equal(ledger.calls.get('epoll_wait'), waits, 'it was adopted and closed before, and wakes nobody')
        } else d.write(Uint8Array.of(7))
        const back = (await driver.adoptStream?.(fd)) as StreamHandle
        assert.deepEqual([...((await new Ends(back).read()) as Uint8Array)], [7])
        d.write(Uint8Array.of(8))
        await until('more is told', () => back.read(10)?.[0] === 8)
        back.destroy(false)
      }
      d.destroy(false)
    })
  })

  test('an end that came along with bytes is told, however little is read at a time', async () => {
    for (const at of [LOOPBACK, await unixAt()]) {
      await withPair(at, async ({ a, b }) => {
        a.write(Buffer.from('abcdef'))
        await new Ends(a).end()
        await settle(3)
        const ends = new Ends(b)
        const pieces = []
        for (let piece = await ends.read(4); piece !== null; piece = await ends.read(4)) pieces.push(text(piece))
        assert.deepEqual(pieces, ['abcd', 'ef'])
      })
    }
  })

  test('a full socket takes nothing until it says so, and then everything arrives in order', async () => {
    for (const at of [LOOPBACK, await unixAt()]) {
      await withPair(at, async ({ a, b }) => {
        const [one, two] = [new Ends(a), new Ends(b)]
        const data = new Uint8Array(6_000_000)
        for (let i = 0; i < data.length; i++) data[i] = (i >> 8) ^ i
        const writing = one.write(data).then(() => one.end())
        await settle(20)
        const got = await two.readAll()
        await writing
        assert.ok(Buffer.from(got.buffer, got.byteOffset, got.length).equals(Buffer.from(data.buffer)))
        assert.ok(one.writableEvents > 0)
      })
    }
  })

  test('gathered pieces, small and large, of every number, arrive whole', async () => {
    await withPair(LOOPBACK, async ({ a, b }) => {
      const ends = new Ends(b)
      for (const sizes of [
        [1, 2, 3],
        [5_000, 1, 5_000, 2, 70_000],
        Array.from({ length: 300 }, (_, i) => i + 1),
        Array.from({ length: 200 }, () => 5_000),
      ]) {
        const pieces = sizes.map((size, i) => new Uint8Array(size).fill(i))
        const whole = Buffer.concat(pieces)
        let [sent, got] = [0, Buffer.alloc(0)]
        while (got.length < whole.length) {
          if (sent < whole.length) {
            const rest = whole.subarray(sent)
            sent += sent === 0 ? a.writev(pieces) : a.write(rest)
          }
          const chunk = b.read(65_536)
          if (chunk) got = Buffer.concat([got, chunk])
          else await settle(1)
        }
        assert.ok(got.equals(whole))
      }
      assert.equal(ends.handle, b)
    })
  })

  test('what is read is memory of its own: a byte pins a byte', () =>
    withPair(LOOPBACK, async ({ a, b }) => {
      const ends = new Ends(b)
      for (const size of [1, 64, 65, 4_096, 16_384, 16_384, 16_384, 1, 30_000, 16_384, 65_536]) {
        a.write(new Uint8Array(size).fill(size))
        let got = 0
        while (got < size) {
          const chunk = (await ends.read()) as Uint8Array
          assert.equal(Object.getPrototypeOf(chunk), Uint8Array.prototype)
          assert.equal(chunk.buffer.byteLength, chunk.length)
          assert.ok(chunk.every((byte) => byte === (size & 0xff)))
          got += chunk.length
        }
      }
    }))
})

describe('dialling', { skip }, () => {
  test('from an address, with and without a port, over IPv4, IPv6 and UNIX', async () => {
    const path = await freshPath()
    for (const [at, from] of [
      [LOOPBACK, { family: 'ipv4', address: '127.0.0.5', port: 0 }],
      [
        { family: 'ipv6', address: '::1', port: 0 },
        { family: 'ipv6', address: '::1', port: 0 },
      ],
      [await unixAt(), { family: 'unix', path, abstract: false }],
      [await unixAt(), { family: 'unix', path: `fairlead-${process.pid}`, abstract: true }],
    ] as const) {
      const { driver, ledger } = watchedKernel()
      const listener = await driver.listen(at, LISTEN)
      for (let round = 0; round < 2; round++) {
        const port = round === 0 ? 0 : 20_000 + (process.pid % 10_000)
        const settings = { from: from.family === 'unix' ? from : { ...from, port } }
        if (from.family === 'unix' && round > 0) continue
        const [a, b] = await Promise.all([dial(driver, listener.local, settings), accepted(listener)])
        if (from.family === 'unix') assert.deepEqual([a.local, b.remote], [from, from])
        else {
          assert.equal((a.local as { address: string }).address, from.address)
          if (port !== 0) assert.equal((a.local as { port: number }).port, port)
          assert.deepEqual(b.remote, a.local)
          assert.deepEqual(a.remote, b.local)
        }
        for (const handle of [a, b]) handle.destroy(true)
      }
      await close(listener)
      await settle(3)
      ledger.check()
    }
  })

  test('from an address where the system cannot wait with the choice of a port', async () => {
    const { driver } = watchedKernel((system) => ({
      setsockopt: (fd, level, name, ...value) =>
        level === LINUX.IPPROTO_IP && name === LINUX.IP_BIND_ADDRESS_NO_PORT
          ? -errno.ENOPROTOOPT
          : system.setsockopt(fd, level, name, ...value),
    }))
    const listener = await driver.listen(LOOPBACK, LISTEN)
    const from = { family: 'ipv4', address: '127.0.0.5', port: 0 } as const
    const [a, b] = await Promise.all([dial(driver, listener.local, { from }), accepted(listener)])
    assert.equal((a.local as IpAddress).address, from.address)
    for (const handle of [a, b]) handle.destroy(true)
    await close(listener)
  })

  test('nobody there: ECONNREFUSED, ENOENT, and no descriptor left', async () => {
    const { driver, ledger } = watchedKernel()
    const listener = await driver.listen(LOOPBACK, LISTEN)
    await close(listener)
    assert.equal((await rejected(dial(driver, listener.local))).code, 'ECONNREFUSED')
    assert.equal((await rejected(dial(driver, await unixAt()))).code, 'ENOENT')
    const from = { family: 'ipv4', address: '198.51.100.1', port: 0 } as const
    assert.equal((await rejected(dial(driver, { ...LOOPBACK, port: 9 }, { from }))).code, 'EADDRNOTAVAIL')
    await settle(3)
    ledger.check()
  })

  test('a socket that met itself is a port where nobody listens, unless its own port was asked for', async () => {
    const plain = watchedKernel()
    const listener = await plain.driver.listen(LOOPBACK, LISTEN)
    const to = listener.local
    await close(listener)
    const { driver, ledger } = watchedKernel((system) => ({
      // As if the system had chosen that very port.
      connect: (fd, name, length) => {
        const memory = new Memory(system)
        system.bind(fd, memory.name.address, writeAddress(memory.name, to))
        return system.connect(fd, name, length)
      },
    }))
    assert.equal((await rejected(dial(driver, to))).code, 'ECONNREFUSED')
    const other = await plain.driver.listen(LOOPBACK, LISTEN)
    await close(other)
    const self = await dial(plain.driver, other.local, { from: other.local })
    self.write(Buffer.from('echo'))
    assert.equal(text(await new Ends(self).read()), 'echo')
    self.destroy(true)
    await settle(3)
    ledger.check()
    plain.ledger.check()
  })

  test('cancelled at any moment it leaves nothing and says nothing', async () => {
    const { driver, ledger } = watchedKernel()
    const listener = await driver.listen(LOOPBACK, LISTEN)
    for (const turns of [0, 1, 2, 3]) {
      let told = 0
      const cancel = driver.dial(listener.local, DIAL, (_, handle) => {
        told++
        handle?.destroy(true)
      })
      for (let i = 0; i < turns; i++) await settle(1)
      const before = told
      cancel()
      await settle(3)
      assert.equal(told, before)
      listener.accept()?.destroy(true)
    }
    await close(listener)
    await settle(3)
    ledger.check()
  })

  test('waits for room in the backlog of a UNIX listener, as TCP does, and can be cancelled meanwhile', async () => {
    const { driver, ledger } = watchedKernel()
    const listener = await driver.listen(await unixAt(), { ...LISTEN, backlog: 1 })
    listener.pause()
    const first = await Promise.all([dial(driver, listener.local), dial(driver, listener.local)])
    let late: StreamHandle | undefined
    const dialling = dial(driver, listener.local).then((handle) => (late = handle))
    const cancel = driver.dial(listener.local, DIAL, () => assert.fail('it was cancelled'))
    await settle(10)
    assert.equal(late, undefined)
    cancel()
    listener.resume()
    const taken = [await accepted(listener), await accepted(listener)]
    await dialling
    taken.push(await accepted(listener))
    for (const handle of [...first, ...taken, late as unknown as StreamHandle]) handle.destroy(false)
    await close(listener)
    await settle(3)
    ledger.check()
  })
})

describe('listening', { skip }, () => {
  test('nothing is taken while nobody takes: clients wait in the backlog, also after a pause', async () => {
    const { driver, ledger } = watchedKernel()
    const listener = await driver.listen(LOOPBACK, LISTEN)
    let told = 0
    listener.attach({ acceptable: () => told++ })
    listener.pause()
    const clients = await Promise.all(Array.from({ length: 5 }, () => dial(driver, listener.local)))
    await settle(3)
    assert.equal(told, 0)
    assert.equal(ledger.calls.get('accept4'), undefined)
    listener.resume()
    await settle(2)
    assert.equal(told, 1)
    const taken = []
    for (let handle = listener.accept(); handle !== undefined; handle = listener.accept()) taken.push(handle)
    assert.equal(taken.length, 5)
    for (const handle of [...clients, ...taken]) handle.destroy(true)
    await close(listener)
    await settle(3)
    ledger.check()
  })

  test('one event takes a bounded number, and the rest follow in later turns', async () => {
    const { driver, ledger } = watchedKernel()
    const listener = await driver.listen(await unixAt(), LISTEN)
    const taken: StreamHandle[] = []
    const rounds: number[] = []
    listener.pause()
    const clients = await Promise.all(Array.from({ length: 200 }, () => dial(driver, listener.local)))
    listener.attach({
      acceptable() {
        const before = taken.length
        for (let handle = listener.accept(); handle !== undefined; handle = listener.accept()) taken.push(handle)
        rounds.push(taken.length - before)
      },
    })
    listener.resume()
    await until('all are taken', () => taken.length === 200)
    assert.deepEqual(
      rounds.filter((count) => count > 0),
      [64, 64, 64, 8],
    )
    for (const handle of [...clients, ...taken]) handle.destroy(true)
    await close(listener)
    await settle(3)
    ledger.check()
  })

  test('S10: out of descriptors: told each time while somebody waits, not when nobody does, and a reserve is let go meanwhile', async () => {
    let full = false
    let spare = 0
    const { driver, ledger } = watchedKernel((system) => ({
      accept4: (...o) => (full ? -errno.EMFILE : system.accept4(...o)),
      fcntl: (fd, command, value) => {
        if (full) return -errno.EMFILE
        if (command === LINUX.F_DUPFD_CLOEXEC) spare++
        return system.fcntl(fd, command, value)
      },
    }))
    const network = new Network({ driver })
    const listener = await network.listen('tcp://127.0.0.1:0')
    const before = [...ledger.open].length
    full = true
    const started = systemClock.now()
    const waiting = listener.accept()
    await settle(5)
    assert.equal(listener.stats.exhausted, 0, 'nobody waits')
    const client = connectNode(Number(new URL(listener.endpoint).port), '127.0.0.1')
    client.on('error', () => {})
    await until('it is told', () => listener.stats.exhausted > 0)
    assert.equal([...ledger.open].length, before - 1, 'whoever is told has a descriptor to work with')
    await until('it is told again', () => listener.stats.exhausted > 2)
    const elapsed = systemClock.now() - started
    assert.ok(elapsed >= 200, `each 100 ms: ${elapsed}`)
    full = false
    const connection = await waiting
    assert.equal([...ledger.open].length, before + 1, 'and it is kept again')
    assert.equal(listener.stats.exhausted, 3)
    client.destroy()
    connection.abort()
    await network.end({ abort: true })
    await settle(3)
    assert.ok(spare >= 3)
    ledger.check()
  })

  test('X8: those who wait at the close are counted, over TCP and UNIX', async () => {
    for (const at of [LOOPBACK, await unixAt()]) {
      const { driver, ledger } = watchedKernel()
      const listener = await driver.listen(at, LISTEN)
      const clients = await Promise.all(Array.from({ length: 7 }, () => dial(driver, listener.local)))
      const served = await accepted(listener)
      await close(listener)
      assert.deepEqual(listener.unserved, { count: 6, estimated: false })
      for (const handle of [...clients, served]) handle.destroy(true)
      await settle(3)
      ledger.check()
    }
  })

  test('S18: connections inherit no delay and keep-alive with its times from the listener, at no call of their own', async () => {
    const { driver, ledger } = watchedKernel()
    await using network = new Network({ driver })
    const listener = await network.listen('tcp://127.0.0.1:0', {
      keepAlive: true,
      keepAliveIdle: 11_000,
      keepAliveInterval: 3_000,
      keepAliveCount: 4,
    })
    const client = connectNode(Number(new URL(listener.endpoint).port), '127.0.0.1')
    const before = ledger.calls.get('setsockopt')
    const connection = await listener.accept()
    assert.equal(ledger.calls.get('setsockopt'), before)
    const names = ['noDelay', 'keepAlive', 'keepAliveIdle', 'keepAliveInterval', 'keepAliveCount'] as const
    assert.deepEqual(
      names.map((name) => connection.get(name)),
      [true, { idle: 11_000, interval: 3_000, count: 4 }, 11_000, 3_000, 4],
    )
    client.destroy()
  })

  test('names of UNIX sockets: 107 bytes, abstract ones with any byte, and a path that another has', async () => {
    const { driver, ledger } = watchedKernel()
    const base = await freshPath()
    const long = base + 'x'.repeat(107 - base.length)
    for (const at of [
      { family: 'unix', path: long, abstract: false },
      { family: 'unix', path: `f${process.pid}`.padEnd(107, 'y'), abstract: true },
      { family: 'unix', path: `a\0b ü${process.pid}`, abstract: true },
    ] as const) {
      const listener = await driver.listen(at, LISTEN)
      assert.deepEqual(listener.local, at)
      assert.equal((await rejected(driver.listen(at, LISTEN))).code, 'EADDRINUSE')
      const [a, b] = await Promise.all([dial(driver, at), accepted(listener)])
      assert.deepEqual([a.remote, b.local], [at, at])
      for (const handle of [a, b]) handle.destroy(true)
      await close(listener)
    }
    await settle(3)
    ledger.check()
  })
})
