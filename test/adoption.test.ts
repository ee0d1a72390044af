/** Sockets that others made: taken over by their descriptors, and those that a service manager hands over. */

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, connect as dial, createServer, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { bind, connect, inheritedDescriptors, listen, Network, serve, SystemFailure } from 'fairlead'
import { memory } from 'fairlead/testing'
import type { StreamHandle } from '#src/driver.js'
import { node } from '#src/drivers/node.js'
import { testCredentials } from './matrix.js'
import { kernelMissing, watchedKernel } from './support/kernel.js'
import { pairOver } from './support/pairs.js'

const ADOPTER = fileURLToPath(new URL('./support/adopter.js', import.meta.url))
const DRIVERS = [node(), ...(kernelMissing === undefined ? [watchedKernel().driver] : [])].filter(({ adoptStream }) => adoptStream)
const onLinux = process.platform === 'linux'

interface Holder {
  _handle?: { fd: number }
}
const fdOf = (socket: unknown): number => (socket as Holder)._handle?.fd as number

let names = 0
const freshName = (): string => `fairlead-${process.pid}-${++names}`

type Line = Record<string, unknown>

/** The process of `support/adopter.ts` with these descriptors from 3 on; `next` is what it says next. */
class Adopter {
  readonly child: ChildProcess
  readonly #lines: AsyncIterator<string>

  constructor(driver: string, action: string, fds: readonly number[], given: object = {}, env: Record<string, string> = {}) {
    const environment = { ...process.env, FAIRLEAD_DRIVER: driver, ...env }
    this.child = spawn(process.execPath, [ADOPTER, action, JSON.stringify(given)], {
      stdio: ['pipe', 'pipe', 'inherit', ...fds],
      env: environment,
    })
    this.#lines = createInterface({ input: this.child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]()
  }

  async next(): Promise<Line> {
    const { value, done } = await this.#lines.next()
    assert.ok(!done, 'the process said nothing more')
    return JSON.parse(value as string) as Line
  }

  async all(): Promise<Line[]> {
    const lines: Line[] = []
    for (let step = await this.#lines.next(); !step.done; step = await this.#lines.next())
      lines.push(JSON.parse(step.value as string) as Line)
    return lines
  }

  async done(): Promise<void> {
    if (this.child.exitCode === null) await once(this.child, 'exit')
    assert.equal(this.child.exitCode, 0)
  }
}

/** A listener of Node's, and what closes it without a connection taken. */
async function nodeListener(at: object): Promise<{ fd: number; port: number; let_go: () => void }> {
  const server = createServer()
  await once(server.listen(at), 'listening')
  const bound = server.address() as AddressInfo | string | null
  const port = typeof bound === 'object' ? (bound?.port ?? 0) : 0
  return { fd: fdOf(server), port, let_go: () => server.close() }
}

/** Both ends of a connection of Node's; nothing is read at the first. */
async function nodePair(at: object): Promise<[Socket, Socket]> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true })
  await once(server.listen(at), 'listening')
  const accepted = once(server, 'connection') as Promise<[Socket]>
  const where = 'path' in at ? at : (server.address() as AddressInfo)
  const dialled = dial({ ...(where as { port: number }), allowHalfOpen: true } as never)
  // Or it would read what the other process is to read.
  dialled.pause()
  await once(dialled, 'connect')
  const [socket] = await accepted
  server.close()
  return [socket, dialled]
}

for (const { name: driver } of DRIVERS) {
  describe(`adoption with the ${driver} driver`, { skip: !onLinux }, () => {
    for (const [what, at, text] of [
      ['tcp4', { port: 0, host: '127.0.0.1' }, /^127\.0\.0\.1:\d+$/],
      ['an abstract name', { path: `\0${freshName()}` }, /^@fairlead-/],
    ] as const) {
      test(`a listener at ${what} is taken over as it is`, async () => {
        const { fd, port, let_go } = await nodeListener(at)
        const adopter = new Adopter(driver, 'listener', [fd])
        const said = await adopter.next()
        let_go()
        assert.match(said['local'] as string, text)
        // Older versions of Node pad abstract names with zeros.
        const local = (said['local'] as string).replaceAll('\\u{0}', '')
        assert.equal(said['endpoint'], port === 0 ? `unix:${local}` : `tcp://127.0.0.1:${port}`)
        assert.equal(said['descriptor'], 3)
        assert.equal(said['driver'], driver)
        await using client = await connect(said['endpoint'] as string)
        assert.equal((await adopter.next())['noDelay'], true)
        await client.write('hello')
        await client.end()
        assert.equal(Buffer.from(await client.readAll()).toString(), 'hello')
        await adopter.done()
      })
    }

    test('TLS is served on a listener, and spoken over a connection', async () => {
      const { ca, cert, key } = await testCredentials()
      const { fd, let_go } = await nodeListener({ port: 0, host: '127.0.0.1' })
      const adopter = new Adopter(driver, 'listener', [fd], { cert, key })
      const { endpoint } = (await adopter.next()) as { endpoint: string }
      let_go()
      assert.match(endpoint, /^tls:/)
      const [socket, dialled] = await nodePair({ port: 0, host: '127.0.0.1' })
      const other = new Adopter(driver, 'stream', [fdOf(dialled)], { ca })
      await using client = await connect(endpoint, { tls: { ca, serverName: 'localhost' } })
      await client.write('hello')
      await client.end()
      assert.equal(Buffer.from(await client.readAll()).toString(), 'hello')
      await using network = new Network({ driver: node() })
      await using server = await network.fromNode(socket).startTls({ role: 'server', cert, key })
      assert.equal(Buffer.from(await server.readAll()).toString(), 'from the child')
      await server.write('over TLS')
      await server.close()
      assert.equal((await other.next())['tls'], 'TLSv1.3')
      assert.deepEqual(await other.next(), { got: 'over TLS' })
      await Promise.all([adopter.done(), other.done()])
      dialled.destroy()
    })

    for (const [what, at, local] of [
      ['tcp', { port: 0, host: '127.0.0.1' }, /^127\.0\.0\.1:\d+$/],
      ['unix', { path: `\0${freshName()}` }, /^(?:@.*)?$/],
    ] as const) {
      test(`a ${what} connection is taken over with both directions`, async () => {
        const [socket, dialled] = await nodePair(at)
        const adopter = new Adopter(driver, 'stream', [fdOf(dialled)])
        const said = await adopter.next()
        assert.match(said['local'] as string, local)
        if (what === 'tcp') assert.equal(said['remote'], `127.0.0.1:${socket.localPort}`)
        assert.equal(said['descriptor'], 3)
        assert.equal(said['endpoint'], '')
        dialled.pause()
        const chunks: Buffer[] = []
        for await (const chunk of socket) {
          chunks.push(chunk as Buffer)
          if (Buffer.concat(chunks).length === 14) break
        }
        assert.equal(Buffer.concat(chunks).toString(), 'from the child')
        dialled.destroy()
        await adopter.child.stdin?.end()
        // The loop above has destroyed it, which is an end to the child.
        assert.deepEqual(await adopter.next(), { got: '' })
        await adopter.done()
      })
    }

    for (const family of ['udp4', 'udp6'] as const) {
      test(`a ${family} socket is taken over, and answers`, async () => {
        const socket = createSocket(family)
        const host = family === 'udp4' ? '127.0.0.1' : '::1'
        await new Promise<void>((resolve) => socket.bind(0, host, resolve))
        const [symbol] = Object.getOwnPropertySymbols(socket).filter(({ description }) => description === 'state symbol')
        const { handle } = (socket as unknown as Record<symbol, { handle: { fd: number } }>)[symbol as symbol] as { handle: { fd: number } }
        const adopter = new Adopter(driver, 'datagrams', [handle.fd])
        const said = (await adopter.next()) as { local: string; endpoint: string; descriptor: number; remote?: string }
        socket.close()
        assert.equal(said.local, family === 'udp4' ? `127.0.0.1:${said.local.split(':').at(-1)}` : `[::1]:${said.local.split(':').at(-1)}`)
        assert.equal(said.endpoint, `udp://${said.local}`)
        assert.equal(said.remote, undefined)
        assert.equal(said.descriptor, 3)
        await using client = await connect(said.endpoint as 'udp://')
        for (const text of ['one', 'two']) {
          await client.send(text)
          assert.equal(Buffer.from((await client.receive({ timeout: 10_000 })).data).toString(), text)
        }
        await adopter.done()
      })
    }

    test('a connected UDP socket knows its peer', async () => {
      await using peer = await bind('udp://127.0.0.1:0')
      const socket = createSocket('udp4')
      await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve))
      await new Promise<void>((resolve) => socket.connect((peer.local as { port: number }).port, '127.0.0.1', resolve))
      const { port } = socket.address()
      const [symbol] = Object.getOwnPropertySymbols(socket).filter(({ description }) => description === 'state symbol')
      const { handle } = (socket as unknown as Record<symbol, { handle: { fd: number } }>)[symbol as symbol] as { handle: { fd: number } }
      const adopter = new Adopter(driver, 'datagrams', [handle.fd])
      const said = await adopter.next()
      socket.close()
      assert.equal(said['remote'], peer.endpoint.slice('udp://'.length))
      for (const text of ['one', 'two']) {
        await peer.send(text, `udp://127.0.0.1:${port}`)
        assert.equal(Buffer.from((await peer.receive({ timeout: 10_000 })).data).toString(), text)
      }
      await adopter.done()
    })

    test('what is not a socket of the kind is refused by name and left open', async () => {
      const tcp = await nodeListener({ port: 0, host: '127.0.0.1' })
      const unix = await nodeListener({ path: `\0${freshName()}` })
      const [a, b] = await nodePair({ port: 0, host: '127.0.0.1' })
      const [c, d] = await nodePair({ path: `\0${freshName()}` })
      const socket = createSocket('udp4')
      await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve))
      const [symbol] = Object.getOwnPropertySymbols(socket).filter(({ description }) => description === 'state symbol')
      const udp = ((socket as unknown as Record<symbol, { handle: { fd: number } }>)[symbol as symbol] as { handle: { fd: number } }).handle
        .fd
      const adopter = new Adopter(driver, 'wrong', [tcp.fd, fdOf(a), udp, unix.fd, fdOf(c)])
      const lines = await adopter.all()
      assert.equal(lines.length, 3 + 3 + 4 + 6)
      for (const { verb, fd, said, open } of lines) {
        const { name, code, message } = said as { name: string; code: string; message: string }
        const expected = fd === 'file' ? ['ENOTSOCK'] : fd === 'nothing' ? ['EBADF'] : ['EINVAL', 'UNSUPPORTED']
        assert.equal(name, 'SystemFailure', `${String(verb)} ${String(fd)}`)
        assert.ok(expected.includes(code), `${String(verb)} ${String(fd)}: ${code}`)
        assert.match(message, /^cannot take over fd \d+: /)
        assert.equal(open, fd !== 'nothing', `${String(verb)} ${String(fd)}: ${message}`)
      }
      await adopter.done()
      for (const one of [a, b, c, d]) one.destroy()
      tcp.let_go()
      unix.let_go()
      socket.close()
    })

    test('the policy is asked with the address, and what it refuses is closed', async () => {
      const { fd, port, let_go } = await nodeListener({ port: 0, host: '127.0.0.1' })
      const [a, b] = await nodePair({ port: 0, host: '127.0.0.1' })
      const socket = createSocket('udp4')
      await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve))
      const [symbol] = Object.getOwnPropertySymbols(socket).filter(({ description }) => description === 'state symbol')
      const udp = ((socket as unknown as Record<symbol, { handle: { fd: number } }>)[symbol as symbol] as { handle: { fd: number } }).handle
        .fd
      const adopter = new Adopter(driver, 'policy', [fd, fdOf(b), udp])
      const said = await adopter.all()
      const reasons = [
        `no listen of 127.0.0.1:${port}`,
        `no connect of 127.0.0.1:${a.localPort}`,
        `no listen of 127.0.0.1:${socket.address().port}`,
      ]
      for (const [i, line] of said.entries()) {
        const { name, code, message } = line['said'] as { name: string; code: string; message: string }
        assert.deepEqual([name, code], ['Denied', 'POLICY'])
        assert.ok(message.endsWith(reasons[i] as string), message)
        assert.equal(line['open'], false)
      }
      await adopter.done()
      a.destroy()
      b.destroy()
      socket.close()
      let_go()
    })

    test('a descriptor that is in use already is refused, and the first user goes on', async () => {
      const { fd, let_go } = await nodeListener({ port: 0, host: '127.0.0.1' })
      const adopter = new Adopter(driver, 'twice', [fd])
      const { said, open, still } = await adopter.next()
      assert.equal((said as { name: string }).name, 'SystemFailure')
      assert.equal((said as { code: string }).code, 'EEXIST')
      assert.deepEqual([open, still], [true, 3])
      await adopter.done()
      let_go()
    })

    test('is not inherited by the children of this process', async () => {
      const { fd, let_go } = await nodeListener({ port: 0, host: '127.0.0.1' })
      const adopter = new Adopter(driver, 'inheritance', [fd])
      assert.deepEqual(await adopter.next(), { inherited: false, descriptor: 3 })
      await adopter.done()
      let_go()
    })

    test('sockets of a service manager are served by their names', async () => {
      const [one, two] = [await nodeListener({ port: 0, host: '127.0.0.1' }), await nodeListener({ path: `\0${freshName()}` })]
      // A process knows its number only once it runs, so the shell sets it.
      const child = spawn(
        'sh',
        [
          '-c',
          'LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:control exec "$0" "$@"',
          process.execPath,
          ADOPTER,
          'server',
          '{"unset":true}',
        ],
        { stdio: ['pipe', 'pipe', 'inherit', one.fd, two.fd], env: { ...process.env, FAIRLEAD_DRIVER: driver } },
      )
      const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]()
      const said = JSON.parse((await lines.next()).value as string) as { found: object[]; endpoints: string[]; left: string | null }
      one.let_go()
      two.let_go()
      assert.deepEqual(said.found, [
        { fd: 3, name: 'web' },
        { fd: 4, name: 'control' },
      ])
      assert.equal(said.left, null)
      for (const endpoint of said.endpoints) {
        await using client = await connect(endpoint)
        assert.equal(Buffer.from(await client.readAll()).toString(), `you reached ${endpoint}`)
      }
      child.stdin?.end()
      await once(child, 'exit')
    })
  })
}

describe('adoption', () => {
  test('is refused by a driver that has no descriptors, which says who can', async () => {
    await using network = new Network({ driver: memory() })
    for (const attempt of [() => network.listen({ fd: 3 }), () => network.connect({ fd: 3 }), () => network.bind({ fd: 3 })]) {
      await assert.rejects(attempt(), (error: SystemFailure) => {
        assert.ok(error instanceof SystemFailure)
        assert.equal(error.code, 'UNSUPPORTED')
        assert.match(error.message, /^the driver memory cannot take over a descriptor: .*kernel driver can/)
        return true
      })
    }
  })

  test('a handshake that fails is told as one, and not as connecting', async () => {
    const driver = memory()
    await using network = new Network({ driver })
    await using listener = await network.listen('tcp://127.0.0.1:0')
    const adoptStream = (): Promise<StreamHandle> =>
      new Promise((resolve, reject) => {
        driver.dial(listener.local, { noDelay: true, keepAlive: false }, (error, handle) => (handle ? resolve(handle) : reject(error)))
      })
    Object.assign(driver, { adoptStream })
    const failing = assert.rejects(network.connect({ fd: 3, transport: 'tls' }, { tls: { serverName: 'localhost' } }), {
      name: 'TlsError',
      code: 'HANDSHAKE_CLOSED',
      op: 'connect',
      endpoint: 'fd 3',
      phase: 'tls',
    })
    const peer = await listener.accept()
    await peer.read()
    await peer.close()
    await failing
  })

  test('refuses options of a socket that is to be made, and names wrong ones', async () => {
    const moment = { name: 'OptionError', code: 'WRONG_MOMENT' }
    await assert.rejects(listen({ fd: 3 }, { mode: 0o600 }), moment)
    await assert.rejects(listen({ fd: 3 }, { ipv6Only: true }), moment)
    await assert.rejects(connect({ fd: 3 }, { noDelay: true }), { ...moment, message: /^noDelay is for a new socket/ })
    await assert.rejects(connect({ fd: 3 }, { from: '127.0.0.1' }), moment)
    await assert.rejects(bind({ fd: 3 }, { reuseAddress: true }), moment)
    await assert.rejects(listen({ fd: 3 }, { tls: {} }), { code: 'BAD_VALUE' })
    await assert.rejects(connect({ fd: 3 }, { tls: {} }), { code: 'BAD_VALUE' })
    await assert.rejects(connect({ fd: 3, transport: 'tls' }), { name: 'TlsError', code: 'NEEDS_SERVER_NAME' })
    await assert.rejects(bind({ fd: 3, transport: 'tls' }), { code: 'UNSUPPORTED' })
    await assert.rejects(listen({ fd: -1 }), { name: 'RangeError' })
    await assert.rejects(listen({ fd: 1.5 }), { name: 'RangeError' })
    await assert.rejects(listen({ fd: '3' } as never), { name: 'TypeError' })
    await assert.rejects(listen({ fd: 3, port: 4 } as never), { code: 'UNKNOWN_OPTION' })
    await assert.rejects(connect({ fd: 3, transport: 'udp' } as never), { name: 'RangeError', message: /'tls', or absent/ })
    await assert.rejects(listen({ fd: 3 }, { timeout: 0 }), { code: 'DEADLINE' })
    await assert.rejects(
      serve([{ fd: -1 }], {}, () => {}),
      { name: 'RangeError' },
    )
  })

  test('of a connection that this process has open is refused, also of one that nobody reads', { skip: !onLinux }, async () => {
    for (const driver of DRIVERS) {
      await using pair = await pairOver('tcp', { driver })
      for (const { descriptor } of [pair.a, pair.b])
        await assert.rejects(pair.network.connect({ fd: descriptor as number }), { code: 'EEXIST', message: /^cannot take over fd/ })
      await pair.a.write('x')
      assert.equal((await pair.b.read())?.length, 1)
    }
  })

  test('gives the number of a descriptor where the driver knows one', { skip: !onLinux }, async () => {
    await using tcp = await pairOver('tcp', { driver: node() })
    assert.ok((tcp.a.descriptor ?? -1) > 2)
    await tcp.a.close()
    assert.equal(tcp.a.descriptor, undefined)
    await using socket = await tcp.network.bind('udp://127.0.0.1:0')
    assert.ok((socket.descriptor ?? -1) > 2)
    await socket.close()
    assert.equal(socket.descriptor, undefined)
    await using inMemory = await pairOver('memory')
    assert.equal(inMemory.a.descriptor, undefined)
  })
})

describe('inheritedDescriptors', () => {
  const withEnvironment = <T>(variables: Record<string, string | undefined>, fn: () => T): T => {
    const before = Object.fromEntries(Object.keys(variables).map((name) => [name, process.env[name]]))
    const set = (all: Record<string, string | undefined>) => {
      for (const [name, value] of Object.entries(all)) {
        if (value === undefined) delete process.env[name]
        else process.env[name] = value
      }
    }
    set(variables)
    try {
      return fn()
    } finally {
      set(before)
    }
  }
  const own = `${process.pid}`

  test('finds none without the variables, or with those of another process', () => {
    for (const variables of [
      { LISTEN_PID: undefined, LISTEN_FDS: undefined },
      { LISTEN_PID: own, LISTEN_FDS: undefined },
      { LISTEN_PID: undefined, LISTEN_FDS: '1' },
      { LISTEN_PID: `${process.ppid}`, LISTEN_FDS: '2', LISTEN_FDNAMES: 'a' },
      { LISTEN_PID: own, LISTEN_FDS: '0', LISTEN_FDNAMES: '' },
    ]) {
      assert.deepEqual(
        withEnvironment({ LISTEN_FDNAMES: undefined, ...variables }, () => inheritedDescriptors()),
        [],
      )
    }
  })

  test('names what has no name unknown', () => {
    assert.deepEqual(
      withEnvironment({ LISTEN_PID: own, LISTEN_FDS: '1', LISTEN_FDNAMES: undefined }, () => {
        const found = inheritedDescriptors()
        assert.equal(process.env['LISTEN_FDS'], '1')
        assert.deepEqual(inheritedDescriptors({ unset: true }), found)
        assert.equal(process.env['LISTEN_FDS'], undefined)
        assert.deepEqual(inheritedDescriptors(), [])
        return found
      }),
      [{ fd: 3, name: 'unknown' }],
    )
  })

  test('refuses what cannot be meant, and unsets nothing then', () => {
    for (const [variables, code, message] of [
      [{ LISTEN_PID: 'x' }, 'EINVAL', /LISTEN_PID must be a whole number/],
      [{ LISTEN_FDS: '-1' }, 'EINVAL', /LISTEN_FDS must be a whole number, 0 to 65536, got "-1"/],
      [{ LISTEN_FDS: '1e3' }, 'EINVAL', /LISTEN_FDS/],
      [{ LISTEN_FDS: '65537' }, 'EINVAL', /LISTEN_FDS/],
      [{ LISTEN_FDS: '1', LISTEN_FDNAMES: 'a:b' }, 'EINVAL', /LISTEN_FDNAMES must be 1 names/],
      [{ LISTEN_FDS: '60000' }, 'EBADF', /is not open, and LISTEN_FDS says/],
    ] as const) {
      withEnvironment({ LISTEN_PID: own, LISTEN_FDS: '1', LISTEN_FDNAMES: undefined, ...variables }, () => {
        assert.throws(() => inheritedDescriptors({ unset: true }), { name: 'SystemFailure', code, message })
        assert.notEqual(process.env['LISTEN_FDS'], undefined)
      })
    }
    assert.throws(() => inheritedDescriptors({ unset: 1 as never }), { name: 'TypeError' })
    assert.throws(() => inheritedDescriptors({ name: 'x' } as never), { code: 'UNKNOWN_OPTION' })
  })
})
