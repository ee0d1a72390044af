/** The kernel driver beside the rest of a process: turns of the loop, descriptors, what keeps it alive, and what ends with it. */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { describe, test } from 'node:test'
import { type Connection, Network } from 'fairlead'
import { Random, settle } from 'fairlead/testing'
import { systemClock } from '#src/deadline.js'
import { LAYOUTS, LINUX } from '#src/drivers/kernel-layout.js'
import { EVENTS } from '#src/drivers/kernel-memory.js'
import { Poll, type Polled } from '#src/drivers/kernel-poll.js'
import type { System } from '#src/drivers/kernel-system.js'
import { kernelMissing, Ledger, watchedKernel } from './support/kernel.js'
import { systemOf } from '#src/drivers/kernel-system.js'
import { foreign } from '#src/drivers/kernel-foreign.js'
import { until } from './support/pairs.js'

const skip = kernelMissing ?? false
/** What is tested by programs of their own is tested with Node's flags. */
const alone = { skip: 'Deno' in globalThis ? 'started with the flags of Node' : false }

interface Ran {
  readonly stdout: string
  readonly stderr: string
  readonly status: number | null
  readonly signal: string | null
}

/** Runs a program with a network over the kernel driver in `network`, and two connected ends, `a` and `b`, of `listener`. */
function run(program: string): Ran {
  const begin = `
    import { Network } from 'fairlead'
    import { kernel } from 'fairlead/kernel'
    const network = new Network({ driver: kernel() })
    const listener = await network.listen('tcp://127.0.0.1:0')
    const [a, b] = await Promise.all([network.connect(listener.endpoint), listener.accept()])
    globalThis.held = [network, listener, a, b]
  `
  const flags = ['--no-warnings', '--input-type=module', '-e', begin + program]
  const { stdout, stderr, status, signal } = spawnSync(process.execPath, flags, {
    encoding: 'utf8',
    cwd: new URL('.', import.meta.url),
    timeout: 10_000,
  })
  return { stdout, stderr, status, signal }
}

function said(program: string): string {
  const { stdout, stderr, status, signal } = run(program)
  assert.deepEqual([stderr, status, signal], ['', 0, null])
  return stdout
}

/** Pairs of connected UNIX sockets, made by the system and watched by `poll`. */
function watchPair(poll: Poll, polled: Polled): { fd: number; peer: number; place: number } {
  const { system, memory } = poll
  const name = `\0fairlead-${process.pid}-${pairs++}`
  memory.name.view.setUint16(LAYOUTS.sockaddr_un.sun_family, LINUX.AF_UNIX, true)
  memory.name.bytes.set(Buffer.from(name), LAYOUTS.sockaddr_un.sun_path)
  const length = LAYOUTS.sockaddr_un.sun_path + name.length
  const type = LINUX.SOCK_STREAM | LINUX.SOCK_NONBLOCK | LINUX.SOCK_CLOEXEC
  const listener = system.socket(LINUX.AF_UNIX, type, 0)
  system.bind(listener, memory.name.address, length)
  system.listen(listener, 1)
  const peer = system.socket(LINUX.AF_UNIX, type, 0)
  assert.equal(system.connect(peer, memory.name.address, length), 0)
  const fd = system.accept4(listener, null, null, LINUX.SOCK_NONBLOCK)
  system.close(listener)
  return { fd, peer, place: poll.add(fd, polled) }
}
let pairs = 0

function pollOf(change: (system: System) => Partial<System> = () => ({})): { poll: Poll; ledger: Ledger } {
  const ledger = new Ledger(systemOf(foreign((what) => new Error(what))))
  return { poll: new Poll({ ...ledger.system, ...change(ledger.system) }), ledger }
}

describe('turns of the loop', { skip }, () => {
  test('a batch is bounded, and the rest follow in the next turns, with timers and others in between', async () => {
    const { poll, ledger } = pollOf()
    const told: number[] = []
    const many = Array.from({ length: EVENTS + 40 }, (_, i) => watchPair(poll, { polled: () => told.push(i) }))
    const perTurn: number[] = []
    while (told.length < many.length) {
      const before = told.length
      await new Promise((resolve) => setImmediate(resolve))
      perTurn.push(told.length - before)
    }
    assert.deepEqual(
      perTurn.filter((count) => count > 0),
      [EVENTS, 40],
    )
    assert.equal(new Set(told).size, many.length)
    for (const { fd, peer, place } of many) {
      for (const each of [fd, peer]) poll.system.close(each)
      poll.remove(place)
    }
    await settle(3)
    ledger.check()
  })

  test('what is told of a socket that was closed in the same batch reaches nobody, also when another has its place', async () => {
    const { poll, ledger } = pollOf()
    const told: string[] = []
    const places: ReturnType<typeof watchPair>[] = []
    const closeAll = () => {
      for (const { fd, peer, place } of places.splice(0)) {
        for (const each of [fd, peer]) poll.system.close(each)
        poll.remove(place)
      }
    }
    const first: Polled = {
      polled() {
        told.push('first')
        closeAll()
        for (let i = 0; i < 3; i++) places.push(watchPair(poll, { polled: () => told.push('new') }))
      },
    }
    for (let i = 0; i < 3; i++) places.push(watchPair(poll, first))
    await until('the new ones are told', () => told.includes('new'))
    assert.deepEqual(told.slice(0, 2), ['first', 'new'])
    await settle(2)
    assert.equal(told.filter((which) => which === 'first').length, 1)
    closeAll()
    await settle(3)
    ledger.check()
  })

  test('a handle that throws when it is told: the process hears of it, the others of the batch are told in the next turn', alone, () => {
    const out = said(`
      const thrown = []
      process.on('uncaughtException', (error) => thrown.push(error.message))
      const driver = kernel()
      const dial = (to) => new Promise((resolve, reject) => driver.dial(to, { noDelay: true, keepAlive: false }, (e, h) => (e ? reject(e) : resolve(h))))
      const handles = await Promise.all(Array.from({ length: 5 }, () => dial(listener.local)))
      const peers = await Promise.all(handles.map(() => listener.accept()))
      for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve))
      const told = []
      handles.forEach((handle, i) => handle.attach({ readable() { told.push(i); if (i !== 4) throw new Error('reader ' + i) }, writable() {} }))
      for (const peer of peers) await peer.write('x')
      for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve))
      console.log(told.sort().join(), thrown.sort().join())
      for (const handle of handles) handle.destroy(true)
      await network.end({ abort: true })
    `)
    assert.equal(out, '0,1,2,3,4 reader 0,reader 1,reader 2,reader 3\n')
  })

  test('under a flood timers, immediates and files of the process go on, and so do sockets beside busy immediates', async () => {
    const { driver, ledger } = watchedKernel()
    const network = new Network({ driver })
    const listener = await network.listen('tcp://127.0.0.1:0')
    const counts = { echoes: 0, timers: 0, immediates: 0, files: 0 }
    const isEnough = () => counts.timers > 10 && counts.files > 10 && counts.immediates > 10 && counts.echoes > 2_000
    let over = false
    const tick = () => {
      counts.timers++
      if (!over) systemClock.at(systemClock.now() + 1, tick)
    }
    tick()
    const spin = () => {
      counts.immediates++
      if (!over) setImmediate(spin)
    }
    setImmediate(spin)
    const reading = (async () => {
      while (!over) {
        await readFile('/proc/self/stat')
        counts.files++
      }
    })()
    const echo = async (connection: Connection) => {
      for await (const chunk of connection) {
        counts.echoes++
        await connection.write(chunk)
      }
    }
    const clients = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const [a, b] = await Promise.all([network.connect(listener.endpoint), listener.accept()])
        void echo(a).catch(() => {})
        void echo(b).catch(() => {})
        await a.write('x')
        return a
      }),
    )
    await until('all have had their turns', isEnough)
    over = true
    await reading
    assert.equal(clients.length, 20)
    await network.end({ abort: true })
    await settle(3)
    ledger.check()
  })
})

describe('descriptors', { skip }, () => {
  test('five thousand pairs opened and closed across each other touch no descriptor that is not theirs', async () => {
    const { driver, ledger } = watchedKernel()
    const network = new Network({ driver })
    const listener = await network.listen('tcp://127.0.0.1:0')
    const random = new Random(11)
    let left = 5_000
    let [heard, broken] = [0, 0]
    const once = async () => {
      const [a, b] = await Promise.all([network.connect(listener.endpoint), listener.accept()])
      const reading = b.read().then(
        (bytes) => bytes !== null && heard++,
        () => broken++,
      )
      if (random.int(0, 3) > 0) void a.write('x').catch(() => {})
      for (let turns = random.int(0, 2); turns > 0; turns--) await settle(1)
      const ways = [() => a.abort(), () => void a.close(), () => b.abort(), () => void b.close()]
      for (const way of random.int(0, 1) === 0 ? ways : ways.reverse()) if (random.int(0, 2) > 0) way()
      await settle(random.int(0, 2))
      a.abort()
      b.abort()
      await reading
    }
    const worker = async () => {
      while (left-- > 0) await once()
    }
    await Promise.all(Array.from({ length: 16 }, worker))
    assert.ok(heard > 50 && broken > 50, `${heard} heard, ${broken} broken`)
    await network.end({ abort: true })
    await settle(3)
    ledger.check()
  })

  test('a program started from here has none of them', alone, () => {
    const out = said(`
      const { spawnSync } = await import('node:child_process')
      const { stdout } = spawnSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
      console.log(stdout.split('\\n').filter((line) => / ([3-9]|\\d\\d+) -> (socket|anon_inode)/.test(line)).join('\\n'))
      await network.end({ abort: true })
    `)
    assert.equal(out, '\n')
  })

  test('a driver without sockets has no descriptor and no watch, a turn after the last one', async () => {
    const { driver, ledger } = watchedKernel()
    const network = new Network({ driver })
    for (let i = 0; i < 3; i++) {
      const listener = await network.listen('tcp://127.0.0.1:0')
      const [a, b] = await Promise.all([network.connect(listener.endpoint), listener.accept()])
      await listener.close()
      a.abort()
      b.abort()
      await settle(3)
      ledger.check()
    }
    assert.equal(ledger.calls.get('epoll_create1'), 3)
    await network.end()
  })

  test('a driver without sockets has no descriptor, also when the last ones did not keep the process alive', async () => {
    const { driver, ledger } = watchedKernel()
    const network = new Network({ driver })
    const listener = await network.listen('tcp://127.0.0.1:0')
    const [a, b] = await Promise.all([network.connect(listener.endpoint), listener.accept()])
    const socket = await network.bind('udp://127.0.0.1:0')
    for (const one of [listener, a, b, socket]) one.unref()
    await Promise.all([listener.close(), socket.close()])
    a.abort()
    b.abort()
    await settle(3)
    ledger.check()
    await network.end()
  })
})

describe('what keeps a process alive', { skip }, () => {
  test('nothing when all that is open was unreferenced; a listener or a connection that was not does', alone, () => {
    assert.equal(said(`for (const one of [listener, a, b]) one.unref(); process.on('exit', () => console.log('ended'))`), 'ended\n')
    for (const keeper of ['listener', 'a', 'b']) {
      const out = said(`
        for (const one of [listener, a, b]) one.unref()
        ${keeper}.ref()
        process.on('exit', () => console.log('ended'))
        setTimeout(() => { console.log('alive'); ${keeper}.unref() }, 150).unref()
      `)
      assert.equal(out, 'alive\nended\n', keeper)
    }
  })

  test('nothing when all is closed', alone, () => {
    assert.equal(said(`await network.close(); process.on('exit', () => console.log('ended'))`), 'ended\n')
  })

  test('it ends in order with sockets open: by exit, by an exception, by a signal', alone, () => {
    assert.equal(run('process.exit(3)').status, 3)
    assert.equal(run(`setImmediate(() => { throw new Error('x') })`).status, 1)
    assert.equal(run(`process.kill(process.pid, 'SIGTERM')`).signal, 'SIGTERM')
  })
})
