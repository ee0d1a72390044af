import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { createInterface } from 'node:readline'
import { test, type TestContext } from 'node:test'
import { AddressError, type Listener, Network, OptionError, SystemFailure } from 'fairlead'
import type { Address } from '#src/address.js'
import type { ListenSettings } from '#src/driver.js'
import { listenUnix } from '#src/unix.js'
import { hold } from './support/hold.js'

interface Bench {
  net: Network
  /** A directory that nothing else uses. */
  folder: string
  path: string
}

function bench(t: TestContext): Bench {
  const folder = mkdtempSync(join(tmpdir(), 'fl-'))
  const net = new Network()
  t.after(async () => {
    await net.end({ abort: true })
    rmSync(folder, { recursive: true, force: true })
  })
  return { net, folder, path: join(folder, 'a.sock') }
}

const settings: ListenSettings = { backlog: 16, ipv6Only: false, reusePort: false, noDelay: true, keepAlive: false }
const modeOf = (path: string): number => lstatSync(path).mode & 0o777

async function answers(net: Network, path: string): Promise<boolean> {
  const client = await net.connect(`unix:${path}`).catch(() => undefined)
  client?.abort()
  return client !== undefined
}

/** Leaves a socket at `path` that nobody listens on, as a killed server does. */
async function leaveStale(path: string): Promise<void> {
  const aside = `${path}.aside`
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(aside, resolve))
  renameSync(aside, path)
  await new Promise((resolve) => server.close(resolve))
  assert.ok(lstatSync(path).isSocket())
}

async function talk(net: Network, listener: Listener, endpoint: string): Promise<void> {
  const [client, server] = await Promise.all([net.connect(endpoint), listener.accept({ timeout: 5_000 })])
  await client.write('hello')
  assert.equal(new TextDecoder().decode((await server.read()) as Uint8Array), 'hello')
  client.abort()
  server.abort()
}

test('a listener at a path is connected to by its endpoint, and takes the path along when it closes', async (t) => {
  const { net, folder, path } = bench(t)
  const listener = await net.listen(`unix:${path}`)
  assert.deepEqual(listener.local, { family: 'unix', path, abstract: false })
  assert.equal(listener.endpoint, `unix:${path}`)
  assert.deepEqual(readdirSync(folder), ['a.sock'], 'nothing else is left in the directory')
  await talk(net, listener, listener.endpoint)
  await listener.close()
  assert.deepEqual(readdirSync(folder), [])
})

test('a path relative to the working directory', async (t) => {
  const { net, path } = bench(t)
  const near = relative(process.cwd(), path)
  const listener = await net.listen({ transport: 'unix', path: near })
  await talk(net, listener, `unix:${path}`)
  await listener.close()
  assert.equal(existsSync(path), false)
})

for (const { name, given, mode } of [
  { name: 'by default the owner alone', given: undefined, mode: 0o600 },
  { name: 'a group', given: 0o660, mode: 0o660 },
  { name: 'everybody, whatever the umask says', given: 0o777, mode: 0o777 },
]) {
  test(`the permissions of the socket: ${name}`, async (t) => {
    const { net, path } = bench(t)
    hold(await net.listen(`unix:${path}`, { mode: given }))
    assert.equal(modeOf(path), mode)
  })
}

test('bad modes are refused, and so is a mode for an abstract name', async (t) => {
  const { net, path } = bench(t)
  await assert.rejects(net.listen(`unix:${path}`, { mode: 0o1000 }), RangeError)
  await assert.rejects(net.listen(`unix:${path}`, { mode: '660' as never }), TypeError)
  await assert.rejects(net.listen('unix:@fairlead-test', { mode: 0o600 }), OptionError)
  assert.equal(existsSync(path), false)
})

/** Connects as another user as fast as it can and says how often it tried and got in, until its input ends. */
const STRANGER = `
  const net = require('node:net')
  let tried = 0, entered = 0, over = false
  const next = () => {
    if (over) return console.log(JSON.stringify({ tried, entered }))
    tried++
    const socket = net.connect(process.argv[1])
    socket.on('connect', () => { entered++; socket.destroy() })
    socket.on('error', () => {})
    socket.on('close', () => setImmediate(next))
  }
  process.stdin.on('data', () => {}).on('end', () => { over = true })
  console.log('ready')
  for (let i = 0; i < 16; i++) next()
`

async function stranger(path: string): Promise<() => Promise<{ tried: number; entered: number }>> {
  const child = spawn(process.execPath, ['-e', STRANGER, path], { uid: 65_534, gid: 65_534, cwd: '/', stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  assert.equal((await lines.next()).value, 'ready')
  return async () => {
    child.stdin.end()
    const last: { tried: number; entered: number } = JSON.parse((await lines.next()).value as string)
    for await (const line of lines) Object.assign(last, JSON.parse(line as string))
    return last
  }
}

const asRoot = process.getuid?.() === 0 ? false : 'only root can become another user'

test('another user never gets in while a socket starts, not even under umask 0 (attack 13)', { skip: asRoot }, async (t) => {
  const { net, folder, path } = bench(t)
  chmodSync(folder, 0o755)
  chownSync(folder, 0, 0)
  const umask = process.umask(0)
  try {
    const stop = await stranger(path)
    for (let round = 0; round < 300; round++) await (await net.listen(`unix:${path}`)).close()
    const { tried, entered } = await stop()
    t.diagnostic(`${tried} tries`)
    assert.ok(tried > 100)
    assert.equal(entered, 0)
    const again = await stranger(path)
    const open = await net.listen(`unix:${path}`, { mode: 0o666 })
    await open.accept({ timeout: 5_000 })
    await again().then((seen) => assert.ok(seen.entered > 0, 'the stranger can get in where he may'))
  } finally {
    process.umask(umask)
  }
})

test('a socket that nobody answers is replaced', async (t) => {
  const { net, folder, path } = bench(t)
  await leaveStale(path)
  const { ino } = lstatSync(path)
  const listener = await net.listen(`unix:${path}`)
  assert.notEqual(lstatSync(path).ino, ino)
  await talk(net, listener, listener.endpoint)
  assert.deepEqual(readdirSync(folder), ['a.sock'])
})

test('a socket that somebody answers is left alone: EADDRINUSE', async (t) => {
  const { net, folder, path } = bench(t)
  const listener = await net.listen(`unix:${path}`)
  await assert.rejects(net.listen(`unix:${path}`), (error: SystemFailure) => {
    assert.ok(error instanceof SystemFailure)
    assert.deepEqual([error.code, error.op, error.phase], ['EADDRINUSE', 'listen', 'listen'])
    assert.match(error.message, /somebody listens there/)
    return true
  })
  assert.deepEqual(readdirSync(folder), ['a.sock'])
  // The probe was a connection of its own.
  ;(await listener.accept()).abort()
  await talk(net, listener, listener.endpoint)
})

for (const { name, make } of [
  { name: 'a file', make: (path: string) => writeFileSync(path, 'precious') },
  { name: 'a directory', make: (path: string) => mkdirSync(path) },
  { name: 'a symbolic link', make: (path: string) => symlinkSync('/nowhere', path) },
]) {
  test(`${name} at the path is never removed: ENOTSOCK`, async (t) => {
    const { net, folder, path } = bench(t)
    make(path)
    const before = lstatSync(path)
    await assert.rejects(net.listen(`unix:${path}`), (error: SystemFailure) => error.code === 'ENOTSOCK' && error.message.includes(name))
    assert.equal(lstatSync(path).ino, before.ino)
    assert.deepEqual(readdirSync(folder), ['a.sock'])
  })
}

test('a directory that does not exist, or may not be written, is told', async (t) => {
  const { net, folder } = bench(t)
  await assert.rejects(net.listen(`unix:${folder}/no/such.sock`), { code: 'ENOENT', op: 'listen' })
  writeFileSync(join(folder, 'file'), '')
  await assert.rejects(net.listen(`unix:${folder}/file/a.sock`), { code: 'ENOTDIR' })
})

test('of five servers that find the same dead socket exactly one starts, and it is reached (attack 13)', async (t) => {
  const { net, folder, path } = bench(t)
  for (let round = 0; round < 20; round++) {
    await leaveStale(path)
    const outcomes = await Promise.allSettled(Array.from({ length: 5 }, () => net.listen(`unix:${path}`)))
    const started = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []))
    const codes = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [(outcome.reason as SystemFailure).code] : []))
    assert.deepEqual([started.length, codes], [1, ['EADDRINUSE', 'EADDRINUSE', 'EADDRINUSE', 'EADDRINUSE']])
    assert.equal(await answers(net, path), true)
    await started[0]?.close()
    assert.deepEqual(readdirSync(folder), [])
  }
})

// N23: what a close does to the path. X7: only what is still ours is removed.

test('a path that was removed by others stays removed, and closing is fine (N23)', async (t) => {
  const { net, path } = bench(t)
  const listener = await net.listen(`unix:${path}`)
  unlinkSync(path)
  assert.equal((await listener.close()).clean, true)
  assert.equal(existsSync(path), false)
})

test('a file put in the place of the socket survives the close (N23, X7)', async (t) => {
  const { net, path } = bench(t)
  const listener = await net.listen(`unix:${path}`)
  unlinkSync(path)
  writeFileSync(path, 'not a socket')
  await listener.close()
  assert.equal(statSync(path).size, 12)
})

test('the socket of a successor survives the close of its predecessor, and goes on answering (N23, X7)', async (t) => {
  const { net, path } = bench(t)
  const old = await net.listen(`unix:${path}`)
  unlinkSync(path)
  const successor = await net.listen(`unix:${path}`)
  await old.close()
  await talk(net, successor, successor.endpoint)
})

test('only the first close looks at the path (N23)', async (t) => {
  const { net, path } = bench(t)
  const listener = await net.listen(`unix:${path}`)
  await listener.close()
  writeFileSync(path, '')
  await listener.close()
  listener.abort()
  assert.equal(existsSync(path), true)
})

test('an aborted listener and one whose network ends remove their paths, too (N23)', async (t) => {
  const { net, folder, path } = bench(t)
  const first = await net.listen(`unix:${path}`)
  first.abort(new Error('enough'))
  assert.equal((await first.closed).clean, false)
  assert.deepEqual(readdirSync(folder), [])
  hold(await net.listen(`unix:${path}`))
  await net.close()
  assert.deepEqual(readdirSync(folder), [])
})

test('accepted connections outlive the path (N23)', async (t) => {
  const { net, path } = bench(t)
  const listener = await net.listen(`unix:${path}`)
  const [client, server] = await Promise.all([net.connect(`unix:${path}`), listener.accept()])
  await listener.close()
  await server.write('on')
  assert.equal(new TextDecoder().decode((await client.read()) as Uint8Array), 'on')
})

test('a path of 107 bytes works, one of 108 and one with a NUL are refused before anything is made', async (t) => {
  const { net, folder } = bench(t)
  const long = join(folder, 'x'.repeat(107 - folder.length - 1))
  const listener = await net.listen(`unix:${long}`)
  await talk(net, listener, `unix:${long}`)
  await assert.rejects(net.listen(`unix:${long}y`), (error: AddressError) => error.code === 'PATH_TOO_LONG')
  await assert.rejects(net.listen({ transport: 'unix', path: `${folder}/a\0b` }), AddressError)
  const direct = (path: string) => listenUnix(new Network().driver, { family: 'unix', path, abstract: false }, settings)
  await assert.rejects(direct(`${long}y`), { code: 'PATH_TOO_LONG' })
  await assert.rejects(direct(`${folder}/a\0b`), { code: 'BAD_PATH' })
  await assert.rejects(direct(''), { code: 'BAD_PATH' })
  await listener.close()
  assert.deepEqual(readdirSync(folder), [])
})

test('where there is no room for a longer path the socket is bound in place, and the rules hold: mode, stale, successor', async (t) => {
  const { net, folder } = bench(t)
  const deep = join(folder, 'd'.repeat(107 - folder.length - 4))
  mkdirSync(deep)
  const path = `${deep}/s`
  assert.ok(path.length > 104 - 1 && path.length <= 107)
  const first = await net.listen(`unix:${path}`, { mode: 0o640 })
  assert.equal(modeOf(path), 0o640)
  await talk(net, first, first.endpoint)
  await assert.rejects(net.listen(`unix:${path}`), { code: 'EADDRINUSE' })
  unlinkSync(path)
  const second = await net.listen(`unix:${path}`)
  await first.close()
  await talk(net, second, second.endpoint)
  await second.close()
  assert.deepEqual(readdirSync(deep), [])
  writeFileSync(path, '')
  await assert.rejects(net.listen(`unix:${path}`), { code: 'ENOTSOCK' })
})

test('a socket bound in place that cannot be given its permissions is closed', async (t) => {
  const { net, folder } = bench(t)
  const deep = join(folder, 'd'.repeat(99 - folder.length))
  mkdirSync(deep)
  const path = join(deep, 'a.sock')
  const closed: boolean[] = []
  const hostile = async (at: Address, o: ListenSettings) => {
    const handle = await net.driver.listen(at, o)
    const close = handle.close.bind(handle)
    // As another process could that may write here.
    unlinkSync(path)
    symlinkSync('nowhere', path)
    const noted = (done: () => void) => {
      closed.push(true)
      close(done)
    }
    return Object.assign(handle, { close: noted })
  }
  const driver = Object.create(net.driver, { listen: { value: hostile } }) as typeof net.driver
  await assert.rejects(listenUnix(driver, { family: 'unix', path, abstract: false }, settings, {}), { code: 'ENOENT', op: 'listen' })
  assert.deepEqual(closed, [true])
})

test('an abstract name needs no path', { skip: process.platform === 'linux' ? false : 'Linux only' }, async (t) => {
  const { net } = bench(t)
  const name = `unix:@fairlead-${process.pid}-${Date.now()}`
  const listener = await net.listen(name)
  await talk(net, listener, name)
  await assert.rejects(net.listen(name), { code: 'EADDRINUSE' })
  await listener.close()
  await (await net.listen(name)).close()
})

test('a hundred starts and stops leave no file and no descriptor (S13)', async (t) => {
  const { net, folder, path } = bench(t)
  const count = (): number => readdirSync('/proc/self/fd').length
  await (await net.listen(`unix:${path}`)).close()
  const before = count()
  for (let round = 0; round < 100; round++) await (await net.listen(`unix:${path}`)).close()
  assert.ok(count() <= before, `${before} before, ${count()} after`)
  assert.deepEqual(readdirSync(folder), [])
})
