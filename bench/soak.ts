/**
 * A mixed load with faults on the kernel driver, for five minutes unless told otherwise, which must end with the counts it
 * started with: descriptors, handles, sockets, and memory within bounds.
 *
 *     npm run soak -- [--seconds 300] [--seed 1]
 */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { codecs, type Connection, type ConnectOptions, DeadlineError, type ListenOptions, Network, relay, SocketError } from 'fairlead'
import { developmentAuthority, Random, settle } from 'fairlead/testing'
import type { CallName, System } from '#src/drivers/kernel-system.js'
import { watchedKernel } from '../test/support/kernel.js'

const { values: flags } = parseArgs({ options: { seconds: { type: 'string', default: '300' }, seed: { type: 'string', default: '1' } } })
const seconds = Number(flags.seconds)
const random = new Random(Number(flags.seed))
const { errno } = constants
/** Milliseconds in which every kind of load must have got somewhere. */
const PATIENCE = 20_000
const MIB = 2 ** 20
/** What the heap, and all of the process, may have more at the end than after the first, short run. */
const MORE_HEAP = 8 * MIB
const MORE_RESIDENT = 64 * MIB

const collect = (globalThis as { gc?: () => void }).gc
if (collect === undefined) throw new Error('run it with node --expose-gc')

/** What the system may say to a call that it did without harm before, and how often in a thousand it says so here. */
const FAULTS: Partial<Record<CallName, readonly [number, readonly number[]]>> = {
  socket: [2, [errno.EMFILE, errno.ENFILE, errno.ENOBUFS]],
  accept4: [5, [errno.ECONNABORTED, errno.EMFILE, errno.ENOMEM]],
  connect: [2, [errno.ENETUNREACH, errno.ECONNREFUSED]],
  recv: [0.5, [errno.ECONNRESET, errno.ETIMEDOUT]],
  send: [0.5, [errno.ECONNRESET, errno.EPIPE]],
  sendmsg: [1, [errno.ENOBUFS, errno.EPIPE]],
  sendmmsg: [1, [errno.ENOBUFS, errno.EPERM]],
  epoll_ctl: [1, [errno.ENOMEM, errno.ENOSPC]],
  setsockopt: [0.5, [errno.ENOPROTOOPT]],
  splice: [1, [errno.EPIPE]],
}

let faults = 0
let harm = false

function failing(system: System): Partial<System> {
  const changed: Record<string, unknown> = {}
  for (const [name, [often, codes]] of Object.entries(FAULTS)) {
    const call = system[name as CallName] as (...given: unknown[]) => number
    changed[name] = (...given: unknown[]) => {
      if (!harm || random.next() * 1000 >= often) return call(...given)
      faults++
      return -random.pick(codes)
    }
  }
  return changed as Partial<System>
}

const { driver, ledger } = watchedKernel(failing)
const folder = mkdtempSync(join(tmpdir(), 'fairlead-soak-'))
const file = join(folder, 'file')
writeFileSync(file, random.bytes(300_000))
const VICTIM = fileURLToPath(new URL('../test/support/victim.js', import.meta.url))
const authority = await developmentAuthority()
const { cert, key } = await authority.issue()
const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

/** Waits for `promise`, at most so long. */
async function within(ms: number, promise: Promise<unknown>): Promise<void> {
  const cancel = new AbortController()
  const patience = new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    cancel.signal.addEventListener('abort', () => clearTimeout(timer))
  })
  await Promise.race([patience, promise]).finally(() => cancel.abort())
}

/** Errors of the world are the load; any other is a defect. */
function expected(error: unknown): undefined {
  if (error instanceof SocketError) return undefined
  throw error
}

/** Nothing came in time, and nothing was lost by that. */
function late(error: unknown): null {
  if (error instanceof DeadlineError) return null
  throw error
}

interface Run {
  readonly network: Network
  readonly going: () => boolean
  /** Something of a kind was brought to its end. */
  did(kind: string): void
}

async function echo(connection: Connection): Promise<void> {
  for await (const chunk of connection) await connection.write(chunk)
}

/** Connects, says, hears and ends in every way there is. */
async function talk(run: Run, kind: string, at: string, o: ConnectOptions): Promise<void> {
  const { network } = run
  const cancel = new AbortController()
  const dialling = network.connect(at, { ...o, timeout: 5_000, signal: cancel.signal })
  if (random.next() < 0.03) setImmediate(() => cancel.abort())
  const connection = await dialling
  let [sent, heard] = [0, 0]
  const hear = (bytes: Uint8Array | null) => {
    for (const byte of bytes ?? []) assert.equal(byte, heard++ & 0xff, 'a byte came that was not sent')
  }
  try {
    for (let i = random.int(1, 20); i > 0; i--) {
      const data = new Uint8Array(random.next() < 0.99 ? random.int(1, 2_000) : random.int(1, 300_000))
      for (let at = 0; at < data.length; at++) data[at] = sent++
      const writing = connection.write(random.next() < 0.5 ? data : [data.subarray(0, data.length >> 1), data.subarray(data.length >> 1)])
      writing.catch(() => {})
      if (random.next() < 0.02) return connection.abort()
      if (random.next() < 0.05) hear(await connection.read({ timeout: 5 }).catch(late))
      else hear(await connection.readExactly(sent - heard, { timeout: 10_000 }))
      await writing
    }
    switch (random.int(0, 4)) {
      case 0:
        await connection.end()
        hear(await connection.readAll({ timeout: 10_000 }))
        // On a UNIX socket an abort, of a server that met a fault, may read as an end.
        if (/^(?:tcp|tls)/.test(kind)) assert.equal(heard, sent, 'bytes were lost')
        break
      case 1:
        return connection.abort()
      case 2:
        void connection.close()
        break
      default:
        await connection.close({ timeout: 5_000 })
    }
  } catch (error) {
    expected(error)
  } finally {
    run.did(kind)
    await connection.close({ timeout: 1_000 })
  }
}

/** Keeps `count` of `work` going; what the world does to one is the end of that one. */
function lanes(run: Run, count: number, work: () => Promise<void>): Promise<unknown>[] {
  return Array.from({ length: count }, async () => {
    while (run.going()) {
      await work().catch(expected)
      await settle(1)
    }
  })
}

async function streams(run: Run): Promise<Promise<unknown>[]> {
  const tls = { listen: { tls: { cert, key } }, dial: { tls: { ca: authority.cert, serverName: 'localhost' } } }
  const places: [string, string, number, ListenOptions, ConnectOptions][] = [
    ['tcp4', 'tcp://127.0.0.1:0', 30, {}, {}],
    ['tcp6', 'tcp://[::1]:0', 10, {}, {}],
    ['unix', `unix:${join(folder, 's')}`, 15, {}, {}],
    ['abstract', `unix:@fairlead-soak-${process.pid}`, 10, {}, {}],
    ['tls', 'tls://127.0.0.1:0', 10, tls.listen, tls.dial],
  ]
  const all: Promise<unknown>[] = []
  for (const [kind, at, count, listen, dial] of places) {
    const server = await run.network.serve(at, { ...listen, limits: { connections: 25 } }, echo)
    all.push(...lanes(run, count, () => talk(run, kind, server.endpoints[0] as string, dial)))
    if (kind !== 'tcp4') continue
    for (const inner of [`unix:${join(folder, 'r')}`, 'tcp://127.0.0.1:0']) {
      const between = await run.network.serve(inner, {}, async (client) => {
        const target = await run.network.connect(server.endpoints[0] as string)
        try {
          await relay(client, target, { timeout: 20_000 })
        } finally {
          target.abort()
        }
      })
      all.push(...lanes(run, 5, () => talk(run, 'relay', between.endpoints[0] as string, {})))
    }
  }
  return all
}

/** Files, descriptors and messages between two ends of a UNIX connection. */
async function passing(run: Run): Promise<Promise<unknown>[]> {
  const listener = await run.network.listen(`unix:@fairlead-soak-pass-${process.pid}`)
  return lanes(run, 1, async () => {
    const [a, b] = await Promise.all([run.network.connect(listener.endpoint, { timeout: 5_000 }), listener.accept({ timeout: 5_000 })])
    const given: number[] = []
    try {
      const sending = a.sendFile(file)
      sending.catch(() => {})
      assert.equal((await b.readExactly(300_000, { timeout: 10_000 }))?.length, 300_000)
      await sending
      for (let i = 0; i < 3; i++) given.push(openSync(file, 'r'))
      await a.sendDescriptors(given)
      if (random.next() < 0.3) {
        await assert.rejects(b.receiveDescriptors({ max: 2, timeout: 5_000 }), SocketError)
        return run.did('descriptors too many')
      }
      const received = await b.receiveDescriptors({ max: 3, timeout: 5_000 })
      for (const descriptor of received?.descriptors ?? []) closeSync(descriptor)
      const [left, right] = [a.frames(codecs.lengthPrefixed()), b.frames(codecs.lengthPrefixed())]
      for (let i = 0; i < 50; i++) await left.send(new Uint8Array(i * 20))
      for (let i = 0; i < 50; i++) assert.equal((await right.receive({ timeout: 5_000 }))?.length, i * 20)
      run.did('descriptors and files')
    } finally {
      for (const descriptor of given) closeSync(descriptor)
      a.abort()
      b.abort()
    }
  })
}

async function datagrams(run: Run): Promise<Promise<unknown>[]> {
  const all: Promise<unknown>[] = []
  for (const at of ['udp://127.0.0.1:0', 'udp://[::1]:0', 'unixgram']) {
    const place = () => (at === 'unixgram' ? `unixgram:@fairlead-soak-${process.pid}-${random.int(0, 2 ** 30)}` : at)
    const server = await run.network.bind(place())
    all.push(
      (async () => {
        for (;;) {
          const batch = await server.receiveMany(32).catch(expected)
          if (batch === undefined && !run.going()) return
          for (const { data, from } of batch ?? []) await server.send(data, from, { timeout: 100 }).catch(expected)
        }
      })(),
      ...lanes(run, 5, async () => {
        const socket = await run.network.bind(place())
        try {
          for (let i = random.int(1, 10); i > 0; i--) {
            const data = new Uint8Array(random.int(0, 5_000))
            data.fill(data.length)
            if (random.next() < 0.3) {
              await socket.sendMany(
                Array.from({ length: 20 }, () => ({ data, to: server.endpoint })),
                { timeout: 100 },
              )
            } else await socket.send(data, server.endpoint, { timeout: 100 })
            const { data: got } = await socket.receive({ timeout: 200 })
            assert.ok(
              got.every((byte) => byte === (got.length & 0xff)),
              'a datagram came that was not sent',
            )
            for (; socket.tryReceive() !== undefined;);
            if (random.next() < 0.3) break
          }
          run.did(at)
        } finally {
          void socket.close()
        }
      }),
    )
  }
  return all
}

/** Others that are killed, in the middle of things. */
function killing(run: Run): Promise<unknown>[] {
  return lanes(run, 1, async () => {
    const target = await run.network.listen('tcp://127.0.0.1:0')
    const role = random.pick(['echo', 'relay', 'busy'])
    const env = { ...process.env, FAIRLEAD_DRIVER: 'kernel' }
    const child = spawn(process.execPath, [VICTIM, role, 'tcp://127.0.0.1:0', target.endpoint], { stdio: ['pipe', 'pipe', 'inherit'], env })
    const exit = once(child, 'exit')
    const lines = createInterface({ input: child.stdout })
    const [endpoint] = (await once(lines, 'line')) as [string]
    const open = await Promise.all(Array.from({ length: 10 }, () => run.network.connect(endpoint, { timeout: 5_000 }).catch(expected)))
    const waiting = open.map(async (connection) => {
      await connection?.write(new Uint8Array(random.int(1, 4 * MIB))).catch(expected)
      for (let bytes; (bytes = await connection?.read().catch(expected));) assert.ok(bytes.length > 0)
    })
    await pause(random.int(0, 300))
    child.kill('SIGKILL')
    await exit
    await Promise.all(waiting)
    lines.close()
    for (const connection of open) connection?.abort()
    await target.close()
    run.did('killed')
  })
}

/** Sockets that nobody holds any more. */
function forgetting(run: Run): Promise<unknown>[] {
  return lanes(run, 1, async () => {
    const listener = await run.network.listen('tcp://127.0.0.1:0')
    for (let i = 0; i < 10; i++) {
      await run.network.connect(listener.endpoint, { timeout: 1_000 }).catch(expected)
      await listener.accept({ timeout: 1_000 }).catch(expected)
    }
    await listener.close()
    await pause(100)
    run.did('forgotten')
  })
}

interface Counts {
  readonly descriptors: number
  readonly handles: string
  readonly inLedger: number
  readonly watches: number
  readonly sockets: number
  readonly bytesHeld: number
  readonly heap: number
  readonly resident: number
}

/** One run of everything, from nothing to nothing; what there is afterwards. */
async function soak(milliseconds: number): Promise<Counts & { done: ReadonlyMap<string, number> }> {
  const network = new Network({ driver, name: 'soak', limits: { lingerTime: 1_000 } })
  const end = performance.now() + milliseconds
  const done = new Map<string, number>()
  const moved = new Map<string, number>()
  const run: Run = {
    network,
    going: () => performance.now() < end,
    did: (kind) => {
      done.set(kind, (done.get(kind) ?? 0) + 1)
      moved.set(kind, performance.now())
    },
  }
  harm = false
  const work = [...(await streams(run)), ...(await passing(run)), ...(await datagrams(run)), ...killing(run), ...forgetting(run)]
  harm = true
  const failed = Promise.all(work)
  failed.catch(() => {})
  for (let next = performance.now() + 30_000; run.going();) {
    await within(500, failed)
    for (const [kind, when] of moved) {
      assert.ok(performance.now() - when < PATIENCE, `nothing of "${kind}" came to an end for ${PATIENCE} ms`)
    }
    ledger.check(false)
    if (performance.now() < next) continue
    next += 30_000
    const { heapUsed, rss } = process.memoryUsage()
    const total = [...done.values()].reduce((all, count) => all + count, 0)
    console.log(
      `${((end - performance.now()) / 1000).toFixed()} s to go: ${total} done, ${faults} faults, ${network.sockets().length} sockets, ` +
        `${(heapUsed / MIB).toFixed(1)} MiB heap, ${(rss / MIB).toFixed()} MiB resident`,
    )
  }
  harm = false
  await within(3_000, failed)
  await network.end({ within: 2_000 })
  await failed
  // What a collection finds is finalized later, and makes more garbage.
  for (let [least, idle] = [Number.POSITIVE_INFINITY, 0]; idle < 10; idle++) {
    await pause(50)
    collect?.()
    const { heapUsed } = process.memoryUsage()
    if (heapUsed < least - MIB / 10) idle = 0
    least = Math.min(least, heapUsed)
  }
  ledger.check()
  const { heapUsed, rss } = process.memoryUsage()
  return {
    descriptors: readdirSync('/proc/self/fd').length,
    handles: process
      .getActiveResourcesInfo()
      // The console's come with the first line that is written.
      .filter((name) => !/^(?:Pipe|TTY)Wrap$/.test(name))
      .sort()
      .join(' '),
    inLedger: ledger.open.size,
    watches: ledger.watches,
    sockets: network.sockets().length,
    bytesHeld: network.shared.budget.held,
    heap: heapUsed,
    resident: rss,
    done,
  }
}

try {
  const start = await soak(Math.min(20_000, (seconds * 1000) / 4))
  console.log(`after a short run: ${start.descriptors} descriptors, ${(start.heap / MIB).toFixed(1)} MiB heap`)
  faults = 0
  const last = await soak(seconds * 1000)
  for (const [kind, count] of last.done) console.log(`${String(count).padStart(9)} ${kind}`)
  const calls = [...ledger.calls.values()].reduce((all, count) => all + count, 0)
  console.log(`${String(faults).padStart(9)} faults, in ${calls} calls`)
  const mib = (value: number) => `${(value / MIB).toFixed(1)} MiB`
  console.table({
    start: { ...start, done: undefined, heap: mib(start.heap), resident: mib(start.resident) },
    end: { ...last, done: undefined, heap: mib(last.heap), resident: mib(last.resident) },
  })
  for (const name of ['descriptors', 'handles', 'inLedger', 'watches', 'sockets', 'bytesHeld'] as const) {
    assert.deepEqual(last[name], start[name], `${name} at the end and at the start`)
  }
  assert.ok(last.heap < start.heap + MORE_HEAP, 'the heap grew')
  assert.ok(last.resident < start.resident + MORE_RESIDENT, 'the process grew')
  console.log('the end has the counts of the start')
} finally {
  rmSync(folder, { recursive: true, force: true })
}
