/**
 * What crosses the files of the kernel driver: descriptors that are recycled while events of theirs are on the way, memory that is
 * collected while the system is pointed at it, turns of the loop that others want too, and processes that are killed.
 */

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readSync, writeFileSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { after, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { codecs, type Connection, type Listener, Network, SocketError } from 'fairlead'
import { Random, settle, type StreamHandle } from 'fairlead/testing'
import { systemClock } from '#src/deadline.js'
import type { System } from '#src/drivers/kernel-system.js'
import { freshPath, removePaths, testCredentials } from './matrix.js'
import { collect, nothingCollects } from './support/garbage.js'
import { kernelMissing, type Watched, watchedKernel } from './support/kernel.js'
import { hold } from './support/hold.js'
import { pattern } from './support/pairs.js'

const skip = kernelMissing ?? false
after(removePaths)

/** Files of this process, opened and closed all the time, so that a descriptor that the driver gave back is soon somebody else's. */
class Bystanders {
  readonly #path: string
  readonly #open: number[] = []

  constructor(path: string) {
    this.#path = path
    writeFileSync(path, 'mine')
  }

  change(random: Random): void {
    if (this.#open.length < 30 || random.next() < 0.5) this.#open.push(openSync(this.#path, 'r'))
    else closeSync(this.#open.splice(random.int(0, this.#open.length - 1), 1)[0] as number)
    this.check(random.pick(this.#open))
  }

  check(descriptor: number): void {
    const bytes = Buffer.alloc(4)
    assert.equal(readSync(descriptor, bytes, 0, 4, 0), 4)
    assert.equal(bytes.toString(), 'mine')
  }

  close(): void {
    for (const descriptor of this.#open) {
      this.check(descriptor)
      closeSync(descriptor)
    }
  }
}

/** What a race may end in: anything that has an error of its own. */
const quiet = (error: unknown): undefined => {
  assert.ok(error instanceof SocketError, String(error))
  return undefined
}

const abstract = (name: string): string => `unix:@fairlead-${process.pid}-${name}`

async function ended({ ledger }: Watched): Promise<void> {
  await settle(5)
  ledger.check()
}

describe('descriptors of the kernel driver', { skip }, () => {
  test('ten thousand openings and closings that race touch none that is recycled, and leave none', async () => {
    const watched = watchedKernel()
    const network = new Network({ driver: watched.driver })
    const random = new Random(6)
    const bystanders = new Bystanders(await freshPath())
    const data = pattern(100_000)

    const act = async (connection: Connection): Promise<void> => {
      bystanders.change(random)
      switch (random.int(0, 9)) {
        case 0:
          return connection.abort()
        case 1:
          connection.write('x').catch(quiet)
          return connection.abort()
        case 2:
          void connection.close()
          return connection.abort()
        case 3: {
          const reading = connection.read().catch(quiet)
          await Promise.resolve()
          connection.abort()
          return void (await reading)
        }
        case 4:
          connection.write(data).catch(quiet)
          await connection.read().catch(quiet)
          return connection.abort()
        case 5:
          await connection.write('bye').catch(quiet)
          await connection.end().catch(quiet)
          await connection.readAll().catch(quiet)
          return void (await connection.close())
        case 6:
          await settle(1)
          return connection.abort()
        case 7:
          connection.deliver('active', () => connection.abort())
          await connection.write('y').catch(quiet)
          return void (await connection.close({ timeout: 50 }))
        default:
          await connection.write('x').catch(quiet)
          return void (await connection.close({ timeout: 50 }))
      }
    }

    const listeners = await Promise.all([network.listen('tcp://127.0.0.1:0'), network.listen(abstract('races'))])
    const serving = listeners.map(async (listener) => {
      const open = new Set<Promise<void>>()
      for await (const connection of listener) {
        const acting = act(connection)
        open.add(acting)
        void acting.finally(() => open.delete(acting))
      }
      await Promise.all(open)
    })
    let opened = 0
    const lane = async () => {
      while (opened < 10_000) {
        const { endpoint } = listeners[opened++ % 2] as Listener
        const cancel = new AbortController()
        const dialling = network.connect(endpoint, { signal: cancel.signal })
        const when = random.int(0, 11)
        if (when === 0) cancel.abort()
        if (when === 1) queueMicrotask(() => cancel.abort())
        if (when === 2) setImmediate(() => cancel.abort())
        const connection = await dialling.catch(quiet)
        if (connection !== undefined) await act(connection)
      }
    }
    await Promise.all(Array.from({ length: 40 }, lane))
    await network.end({ within: 1_000 })
    await Promise.all(serving)
    bystanders.close()
    assert.ok((watched.ledger.calls.get('accept4') ?? 0) > 5_000)
    await ended(watched)
  })

  test('an event of a socket that was closed in the same turn is not told to the one that has its place and its number', async () => {
    const { driver, ledger } = watchedKernel()
    const settings = { noDelay: true, keepAlive: false, backlog: 511, ipv6Only: false, reusePort: false } as const
    const listener = await driver.listen({ family: 'ipv4', address: '127.0.0.1', port: 0 }, settings)
    const dial = () =>
      new Promise<StreamHandle>((resolve, reject) => {
        driver.dial(listener.local, settings, (error, handle) => (handle ? resolve(handle) : reject(error as Error)))
      })
    let recycled = 0
    const accepted: StreamHandle[] = []
    listener.attach({
      acceptable: () => {
        for (let handle = listener.accept(); handle !== undefined; handle = listener.accept()) accepted.push(handle)
      },
    })
    for (let round = 0; round < 50; round++) {
      const dialled = await Promise.all(Array.from({ length: 40 }, dial))
      while (accepted.length < dialled.length) await settle(1)
      const servers = accepted.splice(0)
      const fresh: StreamHandle[] = []
      let wrong = 0
      let told = 0
      for (const handle of servers) {
        handle.attach({
          readable: () => {
            if (handle.read(10) === undefined || told++ > 0) return
            const numbers = servers.map(({ descriptor }) => descriptor)
            // All others have something to say in this very batch.
            for (const other of servers) if (other !== handle) other.destroy(round % 2 === 0)
            for (const _ of servers) {
              driver.dial(listener.local, settings, (_error, other) => {
                if (other === undefined) return
                fresh.push(other)
                if (numbers.includes(other.descriptor)) recycled++
                other.attach({ readable: () => (other.read(10) === undefined ? undefined : wrong++), writable: () => {} })
              })
            }
          },
          writable: () => {},
        })
      }
      for (const handle of servers) while (handle.read(10) !== undefined);
      for (const handle of dialled) handle.attach({ readable: () => {}, writable: () => {} })
      for (const handle of dialled) assert.equal(handle.write(Uint8Array.of(1)), 1)
      while (fresh.length < servers.length || accepted.length < servers.length) await settle(1)
      await settle(2)
      assert.deepEqual([told, wrong], [1, 0])
      for (const handle of [...dialled, ...servers, ...fresh, ...accepted.splice(0)]) handle.destroy(true)
    }
    assert.ok(recycled > 500, `${recycled} descriptors were the same again`)
    await new Promise<void>((resolve) => listener.close(resolve))
    await settle(5)
    ledger.check()
  })

  test('what is closed twice, aborted while it closes, or given up by its owner at once is given back once', async () => {
    const watched = watchedKernel()
    const network = new Network({ driver: watched.driver })
    for (const at of ['tcp://127.0.0.1:0', abstract('twice'), 'udp://127.0.0.1:0', 'unixgram:@fairlead-twice']) {
      for (const how of ['close', 'abort', 'both', 'end'] as const) {
        const isDatagram = /^(?:udp|unixgram)/.test(at)
        const one = isDatagram ? await network.bind(at) : await network.listen(at)
        const sockets = isDatagram ? [one] : [one, await network.connect(one.endpoint), await (one as Listener).accept()]
        if (how === 'end') await network.end({ abort: true }).catch(() => {})
        for (const socket of sockets) {
          if (how !== 'abort') void socket.close()
          if (how !== 'close' && 'abort' in socket) (socket as Connection).abort()
          void socket.close()
        }
        await Promise.all(sockets.map((socket) => socket.close()))
        if (how === 'end') break
      }
      if (at.startsWith('unixgram')) break
      await settle(3)
      watched.ledger.check(false)
      if (network.signal.aborted) return ended(watched)
    }
    await network.end({ abort: true })
    await ended(watched)
  })
})

describe('memory of the kernel driver', { skip: skip || nothingCollects }, () => {
  /** Collects garbage before every call: the young most of the time, all of it now and then. */
  function collecting(system: System): Partial<System> {
    let calls = 0
    const changed: Record<string, unknown> = {}
    for (const [name, call] of Object.entries(system) as [string, (...given: unknown[]) => unknown][]) {
      if (name === 'address') continue
      changed[name] = (...given: unknown[]) => {
        if (calls++ % 40 === 0) collect()
        else collect({ type: 'minor' })
        return call.apply(system, given)
      }
    }
    return changed as Partial<System>
  }

  test('is alive whenever the system is pointed at it, however often garbage is collected, and nothing arrives wrong', async () => {
    const watched = watchedKernel(collecting)
    const network = new Network({ driver: watched.driver })
    const { ca, cert, key } = await testCredentials()
    for (const [at, listen, dial] of [
      ['tcp://127.0.0.1:0', {}, {}],
      [abstract('collect'), {}, {}],
      ['tls://127.0.0.1:0', { tls: { cert, key } }, { tls: { ca, serverName: 'localhost' } }],
    ] as const) {
      const listener = await network.listen(at, listen)
      const [a, b] = await Promise.all([network.connect(listener.endpoint, dial), listener.accept()])
      const sent: Uint8Array[] = []
      const receiving = b.readAll()
      for (const size of [1, 60, 4096, 4097, 70_000, 300_000]) {
        // Pieces that nobody holds but the write.
        const pieces = () => [pattern(size, 1), pattern(size >> 1, 2), pattern(9_000, 3)]
        sent.push(...pieces())
        await a.write(pieces())
        sent.push(pattern(size, 4))
        await a.write(pattern(size, 4))
      }
      await a.end()
      assert.deepEqual(Buffer.compare(Buffer.from((await receiving) as Uint8Array), Buffer.concat(sent)), 0)
      const reading = a.readInto(new Uint8Array(20_000))
      await b.write(pattern(5_000))
      assert.ok(((await reading) ?? 0) > 0)
      a.abort()
      b.abort()
      await listener.close()
    }
    for (const at of ['udp://127.0.0.1:0', 'unixgram:@fairlead-collect-a']) {
      const a = await network.bind(at)
      const b = await network.bind(at.replace('-a', '-b'))
      const batch = Array.from({ length: 40 }, (_, i) => ({ data: pattern(1 + i * 30, i), to: b.endpoint }))
      const sending = a.sendMany(batch)
      for (let i = 0; i < batch.length; i++) assert.deepEqual(Buffer.from((await b.receive()).data), Buffer.from(pattern(1 + i * 30, i)))
      assert.equal(await sending, batch.length)
      for (const size of [1, 100, 1_400, 9_000]) {
        await a.send(pattern(size, 5), b.endpoint)
        assert.deepEqual(Buffer.from((await b.receive()).data), Buffer.from(pattern(size, 5)))
      }
      await Promise.all([a.close(), b.close()])
    }
    await network.end({ abort: true })
    await ended(watched)
  })

  test('sockets that are garbage are closed, each once', async () => {
    const watched = watchedKernel()
    const network = new Network({ driver: watched.driver })
    const listener = hold(await network.listen('tcp://127.0.0.1:0'))
    const drop = async () => {
      for (let i = 0; i < 20; i++) await Promise.all([network.connect(listener.endpoint), listener.accept()])
    }
    await drop()
    const last = performance.now() + 10_000
    while (network.sockets().length > 1 && performance.now() < last) {
      // What was looked at lives to the end of its turn.
      await settle(1)
      collect()
      await settle(3)
    }
    assert.equal(network.sockets().length, 1)
    await network.end({ abort: true })
    await ended(watched)
  })
})

describe('turns of the event loop', { skip }, () => {
  /** A crowd of connections that never rest. */
  async function flood(count: number): Promise<{ readonly rounds: number; stop(): Promise<void> }> {
    const watched = watchedKernel()
    const network = new Network({ driver: watched.driver })
    const listener = await network.listen('tcp://127.0.0.1:0')
    let going = true
    const flow = { rounds: 0, stop: async () => {} }
    const bounce = async (connection: Connection, first: boolean) => {
      if (first) await connection.write('ball')
      for await (const chunk of connection) {
        if (!going) break
        flow.rounds++
        await connection.write(chunk)
      }
    }
    const pairs = await Promise.all(
      Array.from({ length: count }, () => Promise.all([network.connect(listener.endpoint), listener.accept()])),
    )
    const all = pairs.flatMap(([a, b]) => [bounce(a, true), bounce(b, false)])
    flow.stop = async () => {
      going = false
      await network.end({ abort: true })
      await Promise.allSettled(all)
      await ended(watched)
    }
    return flow
  }

  test('a flood of sockets leaves timers, immediates and files their turns', async () => {
    const flow = await flood(300)
    let [timers, immediates, files, latest, going] = [0, 0, 0, 0, true]
    const tick = () => {
      const due = systemClock.now() + 5
      systemClock.at(due, () => {
        timers++
        latest = Math.max(latest, systemClock.now() - due)
        if (going) tick()
      })
    }
    tick()
    const immediate = () => {
      immediates++
      if (going) setImmediate(immediate)
    }
    setImmediate(immediate)
    const last = performance.now() + 10_000
    while (performance.now() < last && (timers < 20 || immediates < 20 || files < 20 || flow.rounds < 5_000)) {
      await readFile('/proc/self/comm')
      files++
    }
    going = false
    const { rounds } = flow
    await flow.stop()
    assert.ok(performance.now() < last, `${timers} timers, ${immediates} immediates, ${files} files, ${rounds} rounds in ten seconds`)
    assert.ok(latest < 1_000, `a timer came ${latest.toFixed()} ms late`)
  })

  test('immediates, ticks and files that never rest leave the sockets theirs', async () => {
    const flow = await flood(1)
    let going = true
    const spin = () => {
      for (const until = performance.now() + 1; performance.now() < until;);
      if (going) setImmediate(spin)
    }
    for (let i = 0; i < 3; i++) setImmediate(spin)
    const reading = (async () => {
      while (going) await readFile('/proc/self/comm')
    })()
    const last = performance.now() + 10_000
    while (flow.rounds < 200 && performance.now() < last) await settle(1)
    going = false
    await reading
    assert.ok(flow.rounds >= 200, `${flow.rounds} rounds in ten seconds`)
    await flow.stop()
  })

  test('a promise settles in the turn in which its socket was told of, before the next timer or immediate', async () => {
    const { driver, ledger } = watchedKernel()
    const network = new Network({ driver })
    const listener = await network.listen('tcp://127.0.0.1:0')
    const pairs = await Promise.all(Array.from({ length: 20 }, () => Promise.all([network.connect(listener.endpoint), listener.accept()])))
    for (let round = 0; round < 20; round++) {
      const order: number[] = []
      let turn = 0
      const turns: number[] = []
      const reading = pairs.map(async ([, b], i) => {
        await b.read()
        order.push(i)
        turns.push(turn)
        // Further steps belong to the same turn: nothing waits for the next callback of somebody else.
        await Promise.resolve()
        await new Promise<void>((resolve) => process.nextTick(resolve))
        assert.equal(turns.at(-1), turn)
      })
      await settle(2)
      for (const [a] of pairs) await a.write('x')
      const count = () => {
        turn++
        if (order.length < pairs.length) setImmediate(count)
      }
      setImmediate(count)
      await Promise.all(reading)
      // In the order in which they became ready.
      assert.deepEqual(
        order,
        pairs.map((_, i) => i),
      )
      assert.equal(new Set(turns).size, 1, `told in ${new Set(turns).size} turns`)
    }
    await network.end({ abort: true })
    await settle(5)
    ledger.check()
  })
})

test('a worker thread is told that it cannot have the driver, and its end takes nobody along', { skip }, async () => {
  const door = JSON.stringify(import.meta.resolve('fairlead/kernel'))
  const worker = new Worker(
    `const { parentPort } = require('node:worker_threads')
     import(${door}).then(({ kernel }) => kernel()).catch(({ code, message }) => parentPort.postMessage([code, message]))
     setInterval(() => {}, 1_000)`,
    { eval: true },
  )
  const [[code, message]] = (await once(worker, 'message')) as [[string, string]]
  assert.equal(code, 'UNSUPPORTED')
  assert.match(message, /worker thread/)
  await worker.terminate()
})

describe('processes that are killed', { skip }, () => {
  const VICTIM = fileURLToPath(new URL('./support/victim.js', import.meta.url))

  /** A process on the kernel driver, and where it listens. */
  async function victim(...given: string[]): Promise<{ child: ChildProcess; endpoint: string; kill(): Promise<void> }> {
    const child = spawn(process.execPath, [VICTIM, ...given], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, FAIRLEAD_DRIVER: 'kernel' },
    })
    const [endpoint] = (await once(createInterface({ input: child.stdout as NodeJS.ReadableStream }), 'line')) as [string]
    const kill = async () => {
      child.kill('SIGKILL')
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    }
    return { child, endpoint, kill }
  }

  for (const transport of ['tcp', 'unix'] as const) {
    const place = async () => (transport === 'tcp' ? 'tcp://127.0.0.1:0' : `unix:${await freshPath()}`)

    test(`a peer over ${transport}: whatever waits for it is woken, and nothing is left`, async () => {
      const watched = watchedKernel()
      const network = new Network({ driver: watched.driver })
      const { endpoint, kill } = await victim('echo', await place())
      const [reader, writer, closer, framed, selected] = (await Promise.all(
        Array.from({ length: 5 }, () => network.connect(endpoint)),
      )) as [Connection, Connection, Connection, Connection, Connection]
      await reader.write('x')
      assert.equal((await reader.read())?.length, 1)
      const data = new Uint8Array(64 * 1024 * 1024)
      // It echoes, and nobody reads that: both ends are full before long.
      const waiting = [
        reader.read(),
        writer.write(data),
        closer.write(data).finally(() => closer.close()),
        framed.frames(codecs.lines()).receive(),
        selected.waitReadable(),
      ].map((one) => Promise.resolve(one).then(() => 'done', quiet))
      await settle(20)
      await kill()
      await Promise.all(waiting)
      await assert.rejects(network.connect(endpoint), { name: 'SystemFailure' })
      for (const connection of [reader, writer, selected]) await connection.close({ timeout: 1_000 })
      await network.end({ abort: true })
      await ended(watched)
    })

    test(`a relay over ${transport}: both its ends are told`, async () => {
      const watched = watchedKernel()
      const network = new Network({ driver: watched.driver })
      const listener = await network.listen(await place())
      const { endpoint, kill } = await victim('relay', await place(), listener.endpoint)
      const ends: Promise<unknown>[] = []
      for (let i = 0; i < 5; i++) {
        const [client, server] = await Promise.all([network.connect(endpoint), listener.accept()])
        await client.write('there')
        assert.equal((await server.readExactly(5))?.length, 5)
        await server.write('back')
        assert.equal((await client.readExactly(4))?.length, 4)
        if (i % 2 === 0) ends.push(client.write(new Uint8Array(64 * 1024 * 1024)).catch(quiet))
        ends.push(client.read().catch(quiet))
        if (i % 2 === 1) ends.push(server.read().catch(quiet))
        hold([client, server])
      }
      await settle(20)
      await kill()
      await Promise.all(ends)
      await network.end({ abort: true })
      await ended(watched)
    })

    test(`the process itself over ${transport}: its clients are told, and its place can be had again`, async () => {
      const watched = watchedKernel()
      const network = new Network({ driver: watched.driver })
      const { endpoint, kill } = await victim('busy', await place())
      const clients = await Promise.all(Array.from({ length: 10 }, () => network.connect(endpoint)))
      await (clients[0] as Connection).readExactly(10_000)
      await kill()
      for (const client of clients) {
        let bytes: Uint8Array | null | undefined
        do bytes = await client.read().catch(quiet)
        while (bytes)
      }
      // A path that nobody answers is taken over, a port is free.
      const again = await network.listen(endpoint)
      const [one, other] = await Promise.all([network.connect(endpoint), again.accept()])
      await one.write('x')
      assert.equal((await other.read())?.length, 1)
      await network.end({ abort: true })
      if (transport === 'unix') await rm(endpoint.slice('unix:'.length), { force: true })
      await ended(watched)
    })
  }
})
