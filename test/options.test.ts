/** Options: every row of the table on every kind of socket, driver and moment; values; TLS; bad input. */

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createConnection, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { after, before, describe, test } from 'node:test'
import {
  type Connection,
  type DatagramSocket,
  type Listener,
  Network,
  OptionError,
  type OptionName,
  OPTIONS,
  type OptionRow,
  SocketError,
  type SocketKind,
} from 'fairlead'
import { kernel } from 'fairlead/kernel'
import { faulty, memory, type Driver } from 'fairlead/testing'
import { node } from '#src/drivers/node.js'
import { abilityOf, getOption, type OptionTarget, setOption } from '#src/options.js'
import { kernelMissing } from './support/kernel.js'
import { hasIpv6, mayMark } from './support/linux.js'
import { until } from './support/pairs.js'
import { HOST, world } from './tls-peers.js'

const NAMES = Object.keys(OPTIONS) as OptionName[]
const rowOf = (name: OptionName): OptionRow => OPTIONS[name]

/** Two values that fit each option. */
const VALUES: Readonly<Record<string, readonly [unknown, unknown]>> = {
  boolean: [true, false],
  ms: [5_000, 7_000],
  bytes: [8_192, 16_384],
  hops: [3, 9],
  probes: [4, 6],
  integer: [8, 16],
  multicastInterface: ['127.0.0.1', '127.0.0.1'],
  bindToDevice: ['lo', 'lo'],
  // All but `reno` may be missing.
  congestionControl: ['reno', 'reno'],
  // The system has it as a number of retransmissions, after 1, 3, 7, 15, … seconds.
  deferAccept: [7_000, 15_000],
  // More needs a privilege.
  priority: [3, 6],
  keepAlive: [{ idle: 4_000 }, false],
  linger: [2_000, false],
}

function valuesOf(name: OptionName): readonly [unknown, unknown] {
  const { type, unit } = rowOf(name).value
  return VALUES[name] ?? (VALUES[unit && type !== 'linger' ? unit : type] as readonly [unknown, unknown])
}

function assertIs(name: OptionName, got: unknown, set: unknown): void {
  // The system may round a buffer up.
  if (name === 'sendBuffer' || name === 'receiveBuffer') assert.ok((got as number) >= (set as number), `${name} is ${String(got)}`)
  else if (name === 'keepAlive' && set !== false) assert.equal((got as { idle: number }).idle, (set as { idle: number }).idle)
  // A connection tells what it came to, less what its headers take.
  else if (name === 'maxSegment')
    assert.ok((got as number) <= (set as number) && (got as number) > (set as number) - 40, `${name} is ${String(got)}`)
  else assert.deepEqual(got, set, name)
}

type Options = Pick<Connection, 'get' | 'set' | 'driver'>
const set = (socket: Options, name: string, value: unknown): void => (socket.set as (name: string, value: unknown) => void)(name, value)

function refusal(code: string, ...words: string[]): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof OptionError, String(error))
    assert.equal(error.code, code, error.message)
    assert.equal(error.phase, 'option')
    for (const word of words) assert.ok(error.message.includes(word), `${error.message} does not say ${word}`)
    return true
  }
}

let folder = ''
let count = 0
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fairlead-options-'))
})
after(() => rm(folder, { recursive: true, force: true }))

interface Kind {
  readonly kind: SocketKind
  readonly transport: 'tcp' | 'unix' | 'udp'
  /** Where to open one. */
  readonly at: (host?: string) => string
}

const KINDS: readonly Kind[] = [
  { kind: 'connection', transport: 'tcp', at: (host = '127.0.0.1') => `tcp://${host}:0` },
  { kind: 'connection', transport: 'unix', at: () => `unix:${join(folder, String(++count))}` },
  { kind: 'listener', transport: 'tcp', at: (host = '127.0.0.1') => `tcp://${host}:0` },
  { kind: 'listener', transport: 'unix', at: () => `unix:${join(folder, String(++count))}` },
  { kind: 'datagram', transport: 'udp', at: (host = '127.0.0.1') => `udp://${host}:0` },
  { kind: 'datagram', transport: 'unix', at: () => `unixgram:${join(folder, String(++count))}` },
]

type DriverName = 'memory' | 'node' | 'kernel'
const DRIVERS: readonly { readonly driver: Driver; readonly name: DriverName }[] = [
  { driver: memory(), name: 'memory' },
  { driver: node(), name: 'node' },
  ...(kernelMissing === undefined ? [{ driver: kernel(), name: 'kernel' } as const] : []),
]
if (kernelMissing !== undefined) test('the kernel driver', { skip: kernelMissing }, () => {})
/** Those with the system below them. */
const REAL = DRIVERS.filter(({ name }) => name !== 'memory')

/** A socket of each kind made with `options`, and what goes with it. */
async function open(net: Network, { kind, at }: Kind, options: object, host?: string): Promise<Options> {
  if (kind === 'datagram') return net.bind(at(host), options)
  if (kind === 'listener') return net.listen(at(host), options)
  const listener = await net.listen(at())
  const [client] = await Promise.all([net.connect(listener.endpoint, options), listener.accept()])
  return client
}

for (const { driver, name: driverName } of DRIVERS) {
  for (const kind of KINDS) {
    const missing = driverName === 'node' && kind.transport === 'unix' && kind.kind === 'datagram' && 'the runtime has no such sockets'
    describe(`${driverName}, ${kind.transport} ${kind.kind}`, { skip: missing }, () => {
      const net = new Network({ driver })
      after(() => net.close({ within: 0 }))
      for (const name of NAMES) {
        const row = rowOf(name)
        const applies = row.on.includes(`${kind.transport} ${kind.kind}`)
        // What only the making of a socket decides is known where it cannot be chosen, too.
        const fixed = row.when === 'any time' ? undefined : 'get'
        const ability = driver.lacks?.has(name) ? fixed : abilityOf(driverName, name, kind.kind)
        const can = (way: string) =>
          applies && abilityOf(driverName, name, kind.kind) !== undefined && ability?.split(' ').includes(way) === true
        // A refusal tells where the option applies, or which driver has it.
        const unsupported = refusal('UNSUPPORTED_OPTION', name, applies ? 'kernel' : (row.on[0] as string))
        // The system has it on sockets of IPv6 alone, and on one address it is on; the other drivers remember what they were told.
        const host = driverName === 'kernel' && name === 'ipv6Only' && applies ? '[::]' : undefined
        const skip = host !== undefined && !hasIpv6 && 'this machine has no IPv6'
        const denied = driverName === 'kernel' && name === 'mark' && applies && !mayMark
        const permission = { name: 'SystemFailure', code: 'EPERM' }

        test(`${name}: get${can('get') ? '' : ' is refused'}`, { skip }, async () => {
          const socket = await open(net, kind, {}, host)
          // What was never set and cannot be asked for is not known.
          const unknown = driverName === 'node' && ['ttl', 'multicastInterface'].includes(name)
          if (can('get') && !unknown) assert.notEqual(socket.get(name), undefined)
          else assert.throws(() => socket.get(name), unsupported)
        })

        test(`${name}: set on an open socket${can('set') ? '' : ' is refused'}`, { skip }, async () => {
          const socket = await open(net, kind, {}, host)
          if (denied) assert.throws(() => set(socket, name, valuesOf(name)[0]), permission)
          else if (can('set')) {
            for (const value of valuesOf(name)) {
              set(socket, name, value)
              assertIs(name, socket.get(name), value)
            }
          }
          if (can('set')) return
          const before = can('get') ? socket.get(name) : undefined
          const expected = !applies
            ? unsupported
            : row.when === 'never'
              ? refusal('WRONG_MOMENT', name, 'read')
              : row.when === 'any time'
                ? unsupported
                : refusal('WRONG_MOMENT', name, row.when)
          assert.throws(() => set(socket, name, valuesOf(name)?.[0] ?? 1), expected)
          // What the system knows of a connection goes on.
          if (can('get') && name !== 'tcpInfo') assert.deepEqual(socket.get(name), before)
        })

        if (row.when === 'never') continue
        test(`${name}: given at creation${can('create') ? '' : ' is refused'}`, { skip }, async () => {
          const live = net.sockets().length
          for (const value of valuesOf(name)) {
            if (!can('create')) {
              const exists = row.on.some((on) => on.endsWith(kind.kind))
              const error = await open(net, kind, { [name]: value }).then(
                () => assert.fail('it was taken'),
                (reason: unknown) => reason,
              )
              if (exists) unsupported(error)
              else refusal('UNKNOWN_OPTION', name)(error)
              continue
            }
            if (denied) {
              await assert.rejects(open(net, kind, { [name]: value }), permission)
              continue
            }
            const socket = await open(net, kind, { [name]: value }, host)
            assertIs(name, socket.get(name), value)
          }
          if (!can('create')) assert.ok(net.sockets().length <= live + 4, 'nothing but the listeners of the attempts is left')
        })
      }
    })
  }
}

describe('values', () => {
  test('noDelay and keepAlive are on by default, with the times of the network', async () => {
    for (const { driver } of DRIVERS) {
      await using net = new Network({ driver, limits: { keepAliveIdle: 21_000 } })
      await using listener = await net.listen('tcp://127.0.0.1:0')
      const [client, server] = await Promise.all([net.connect(listener.endpoint), listener.accept()])
      for (const socket of [client, server]) {
        assert.equal(socket.get('noDelay'), true)
        assert.equal((socket.get('keepAlive') as { idle: number }).idle, 21_000)
        assert.equal(socket.get('keepAliveIdle'), 21_000)
        assert.equal(socket.get('type'), 'stream')
        assert.equal(socket.get('protocol'), 'tcp')
      }
    }
  })

  test('the parts of keepAlive are options of their own, and stay while it is off', async () => {
    await using net = new Network({ driver: memory() })
    await using listener = await net.listen('tcp://127.0.0.1:0')
    const client = await net.connect(listener.endpoint, { keepAlive: { interval: 3_000 }, keepAliveCount: 4 })
    assert.deepEqual(client.get('keepAlive'), { idle: 15_000, interval: 3_000, count: 4 })
    client.set('keepAlive', false)
    assert.equal(client.get('keepAlive'), false)
    client.set('keepAliveIdle', 8_000)
    assert.equal(client.get('keepAlive'), false)
    client.set('keepAlive', true)
    assert.deepEqual(client.get('keepAlive'), { idle: 8_000, interval: 3_000, count: 4 })
    client.set('keepAlive', { count: 2 })
    assert.deepEqual(client.get('keepAlive'), { idle: 8_000, interval: 3_000, count: 2 })
  })

  test('what is set on a listener holds for connections accepted from then on', async () => {
    for (const { driver } of DRIVERS) {
      await using net = new Network({ driver })
      await using listener = await net.listen('tcp://127.0.0.1:0', { noDelay: false })
      const meet = async () => (await Promise.all([listener.accept(), net.connect(listener.endpoint)]))[0]
      const first = await meet()
      listener.set('noDelay', true)
      listener.set('keepAlive', false)
      const second = await meet()
      assert.deepEqual([first.get('noDelay'), second.get('noDelay')], [false, true])
      assert.deepEqual([first.get('keepAlive') !== false, second.get('keepAlive')], [true, false])
    }
  })

  test('a server gives options of TCP to the endpoints that have them', async () => {
    await using net = new Network({ driver: memory() })
    const server = await net.serve(['tcp://127.0.0.1:0', 'unix:@options'], { noDelay: false }, () => {})
    assert.equal(server.listeners[0]?.get('noDelay'), false)
    await assert.rejects(
      net.serve('unix:@other', { noDelay: false }, () => {}),
      refusal('UNSUPPORTED_OPTION', 'noDelay', 'unix listener'),
    )
    await server.close()
  })

  test('datagrams over UNIX sockets have a type and a protocol', async () => {
    await using net = new Network({ driver: memory() })
    const socket: DatagramSocket = await net.bind('unixgram:@options')
    assert.deepEqual([socket.get('type'), socket.get('protocol')], ['datagram', 'unix'])
  })
})

/** Whether the system would probe a silent peer of a TCP socket: the timer that it has armed once nothing is in flight. */
async function isProbing(socket: Connection): Promise<boolean> {
  const ports = [socket.local, socket.remote].map((address) => (address as { port: number }).port)
  const [local, remote] = ports.map((port) => port.toString(16).toUpperCase().padStart(4, '0'))
  const established = new RegExp(`:${local} \\w+:${remote} 01 \\w+:\\w+ (\\w\\w):`)
  let timer: string | undefined
  await until('everything is acknowledged', () => {
    timer = established.exec(readFileSync('/proc/net/tcp', 'latin1'))?.[1]
    return timer !== '01'
  })
  assert.ok(timer !== undefined, 'the connection is in the table of the system')
  return timer === '02'
}

const untold = !existsSync('/proc/net/tcp') && 'the system does not tell'
for (const { driver, name } of REAL)
  test(`${name}: the system does as it is told, however a socket was made and read`, { skip: untold }, async () => {
    await using net = new Network({ driver })
    await using listener = await net.listen('tcp://127.0.0.1:0')
    const [client, server] = await Promise.all([net.connect(listener.endpoint), listener.accept()])
    // Small messages in a row make the driver read another way, through another object.
    for (let i = 0; i < 24; i++) {
      await Promise.all([client.write('ping'), server.readExactly(4)])
      await Promise.all([server.write('pong'), client.readExactly(4)])
    }
    for (const socket of [client, server]) {
      assert.equal(await isProbing(socket), true)
      socket.set('keepAlive', false)
      assert.equal(await isProbing(socket), false)
      socket.set('keepAliveIdle', 1)
      assert.equal(await isProbing(socket), false)
      socket.set('keepAlive', true)
      assert.equal(await isProbing(socket), true)
    }
    const quiet = await Promise.all([net.connect(listener.endpoint, { keepAlive: false }), listener.accept()])
    assert.deepEqual(await Promise.all(quiet.map(isProbing)), [false, true])
  })

describe('below TLS', () => {
  for (const { driver, name } of [...DRIVERS, { driver: faulty(memory()), name: 'faulty' }]) {
    for (const allowTruncation of [false, true]) {
      test(`${name}${allowTruncation ? ', truncation allowed' : ''}: options are those of the socket`, async () => {
        const { authority, server: issued } = await world()
        await using net = new Network({ driver })
        await using listener = await net.listen('tls://127.0.0.1:0', {
          tls: { cert: issued.cert, key: issued.key, allowTruncation },
          noDelay: false,
        })
        const tls = { ca: authority.cert, serverName: HOST, allowTruncation }
        const [client, server] = await Promise.all([
          net.connect(listener.endpoint, { tls, keepAlive: { idle: 33_000 } }),
          listener.accept(),
        ])
        assert.equal(client.get('keepAliveIdle'), 33_000)
        assert.equal(client.get('noDelay'), true)
        assert.equal(server.get('noDelay'), false)
        for (const socket of [client, server]) {
          socket.set('noDelay', false)
          socket.set('noDelay', true)
          socket.set('keepAlive', false)
          assert.deepEqual([socket.get('noDelay'), socket.get('keepAlive')], [true, false])
          if (name === 'kernel') assert.equal(socket.get('tcpInfo').state, 'established')
          else assert.throws(() => socket.get('tcpInfo'), refusal('UNSUPPORTED_OPTION', 'kernel'))
        }
        await client.write('still here')
        assert.deepEqual(await server.readExactly(10), new Uint8Array(Buffer.from('still here')))
      })
    }
  }
})

for (const { driver, name: driverName } of REAL)
  describe(`${driverName}: bad input`, () => {
    let net!: Network
    let listener!: Listener
    let client!: Connection
    let datagrams!: DatagramSocket
    before(async () => {
      net = new Network({ driver })
      listener = await net.listen('tcp://127.0.0.1:0')
      ;[client] = await Promise.all([net.connect(listener.endpoint), listener.accept()])
      datagrams = await net.bind('udp://127.0.0.1:0')
    })
    after(() => net.close())

    test('an unknown name is refused with the nearest known one', async () => {
      for (const socket of [client, listener, datagrams] as Options[]) {
        assert.throws(() => socket.get('noDealy' as never), refusal('UNKNOWN_OPTION', '"noDelay"'))
        assert.throws(() => set(socket, 'recieveBuffer', 1), refusal('UNKNOWN_OPTION', '"receiveBuffer"'))
        assert.throws(() => socket.get('toString' as never), refusal('UNKNOWN_OPTION', 'toString'))
        assert.throws(() => socket.get('__proto__' as never), refusal('UNKNOWN_OPTION', '__proto__'))
        for (const bad of [undefined, null, 5, Symbol('x')]) assert.throws(() => socket.get(bad as never), { name: 'TypeError' })
      }
      await assert.rejects(net.connect(listener.endpoint, { noDelai: true } as never), refusal('UNKNOWN_OPTION', 'noDelay'))
    })

    test('a value of the wrong type or out of range is a native error that names it, and changes nothing', async () => {
      const { noDelay, keepAlive } = { noDelay: client.get('noDelay'), keepAlive: client.get('keepAlive') }
      for (const value of [undefined, null, 0, 1, 'true', {}, []]) {
        assert.throws(() => set(client, 'noDelay', value), {
          name: 'TypeError',
          code: 'ERR_INVALID_ARG_TYPE',
          message: /^noDelay must be a boolean/,
        })
      }
      for (const value of ['5', null, {}, true, 1.5, 5n]) assert.throws(() => set(client, 'keepAliveIdle', value), { name: 'TypeError' })
      for (const value of [0, -1, 32_767_001, Number.NaN, Number.POSITIVE_INFINITY]) {
        assert.throws(() => set(client, 'keepAliveIdle', value), {
          name: 'RangeError',
          message: /keepAliveIdle must be 1 to 32767000, got/,
        })
      }
      for (const value of [null, 'on', 5]) assert.throws(() => set(client, 'keepAlive', value), { name: 'TypeError' })
      assert.throws(() => set(client, 'keepAlive', { idle: 0 }), { name: 'RangeError', message: /^keepAlive\.idle must be/ })
      assert.throws(() => set(client, 'keepAlive', { idle: 5, intervall: 5 }), refusal('UNKNOWN_OPTION', 'interval'))
      assert.throws(() => set(client, 'congestionControl', 'x'.repeat(16)), { name: 'RangeError' })
      assert.throws(() => set(client, 'congestionControl', ''), { name: 'RangeError' })
      assert.throws(() => set(client, 'congestionControl', 'a\0b'), { name: 'RangeError' })
      assert.throws(() => set(client, 'linger', true), { name: 'TypeError' })
      assert.throws(() => set(datagrams, 'multicastTtl', 256), { name: 'RangeError', message: /multicastTtl must be 0 to 255, got 256/ })
      assert.throws(() => set(datagrams, 'ttl', 0), { name: 'RangeError' })
      assert.deepEqual({ noDelay: client.get('noDelay'), keepAlive: client.get('keepAlive') }, { noDelay, keepAlive })
      await assert.rejects(net.connect(listener.endpoint, { noDelay: 'yes' as never }), { name: 'TypeError', message: /^noDelay/ })
      await assert.rejects(net.listen('tcp://127.0.0.1:0', { ipv6Only: 1 as never }), { name: 'TypeError', message: /^ipv6Only/ })
      await assert.rejects(net.bind('udp://127.0.0.1:0', { broadcast: 'no' as never }), { name: 'TypeError', message: /^broadcast/ })
    })

    test('what the system says is a SystemFailure with its code', () => {
      assert.throws(
        () => datagrams.set('multicastInterface', '192.0.2.1'),
        (error: unknown) => {
          assert.ok(error instanceof SocketError)
          assert.equal(error.name, 'SystemFailure')
          assert.equal(error.op, 'set')
          assert.match(error.code, /^E[A-Z]+$/)
          assert.match(error.message, /^cannot set multicastInterface to "192\.0\.2\.1": /)
          return true
        },
      )
      assert.throws(() => datagrams.set('multicastInterface', 'nowhere'), {
        code: 'ENODEV',
        message: 'cannot set multicastInterface to "nowhere": there is no such network interface',
      })
    })

    test('raw options are refused by drivers that cannot reach them, and checked first', () => {
      for (const socket of [client, listener, datagrams]) {
        if (driverName === 'kernel') {
          socket.set({ level: 1, name: 2 }, 1)
          assert.deepEqual(socket.get({ level: 1, name: 2 }), new Uint8Array([1, 0, 0, 0]))
        } else {
          assert.throws(() => socket.get({ level: 6, name: 1 }), refusal('UNSUPPORTED_OPTION', 'kernel'))
          assert.throws(() => socket.set({ level: 6, name: 1 }, 1), refusal('UNSUPPORTED_OPTION', 'kernel'))
        }
        assert.throws(() => socket.get({ level: 6 } as never), { name: 'TypeError', message: /^name/ })
        assert.throws(() => socket.get({ level: -1, name: 1 }), { name: 'RangeError', message: /^level/ })
        assert.throws(() => socket.get({ level: 6, name: 1, length: 0 }), { name: 'RangeError', message: /^length/ })
        assert.throws(() => socket.set({ level: 6, name: 1 }, '1' as never), { name: 'TypeError', message: /^value/ })
        assert.throws(() => socket.set({ level: 6, name: 1 }, 2 ** 31), { name: 'RangeError', message: /^value/ })
        assert.throws(() => socket.set({ level: 6, name: 1 }, new Uint8Array(65_536)), { name: 'RangeError', message: /^value/ })
        assert.throws(() => socket.get({ level: 6, nam: 1 } as never), refusal('UNKNOWN_OPTION', 'name'))
      }
    })

    test('what was given as via has been made already', async () => {
      await assert.rejects(net.connect('tcp://example.com:80', { via: client, noDelay: true }), refusal('WRONG_MOMENT', 'noDelay', 'via'))
      assert.equal(client.state, 'open')
    })

    test('a stream that is no socket has none', async () => {
      const adopted = net.fromNode(new PassThrough())
      assert.throws(() => adopted.get('noDelay'), refusal('UNSUPPORTED_OPTION', 'noDelay'))
      adopted.abort()
      await adopted.closed
    })

    test('a socket made by others can be set, and tells what was set', async () => {
      const server = createServer((socket) => socket.end())
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      const { port } = server.address() as { port: number }
      const socket = createConnection({ port, host: '127.0.0.1' })
      await new Promise((resolve) => socket.once('connect', resolve))
      const adopted = net.fromNode(socket)
      assert.throws(() => adopted.get('noDelay'), refusal('UNSUPPORTED_OPTION', 'noDelay'))
      adopted.set('noDelay', true)
      assert.equal(adopted.get('noDelay'), true)
      await adopted.close()
      await new Promise((resolve) => server.close(resolve))
    })

    test('after the close every access is Closed', async () => {
      const [one, own, bound] = await Promise.all([
        net.connect(listener.endpoint),
        net.listen('tcp://127.0.0.1:0'),
        net.bind('udp://127.0.0.1:0'),
      ])
      await Promise.all([one.close(), own.close(), bound.close()])
      for (const socket of [one, own, bound] as Options[]) {
        assert.throws(() => socket.get('type'), { name: 'Closed', code: 'CLOSED', op: 'get' })
        assert.throws(() => set(socket, 'noDelay', true), { name: 'Closed', code: 'CLOSED', op: 'set' })
      }
    })
  })

test('the types are those of the table', () => {
  // Compiled, not run.
  const typed = (connection: Connection, network: Network): void => {
    connection.get('noDelay') satisfies boolean
    connection.get('tcpInfo').roundTrip satisfies number
    connection.get({ level: 6, name: 1 }) satisfies Uint8Array
    connection.set('keepAlive', { idle: 5 })
    // @ts-expect-error a number is no boolean
    connection.set('noDelay', 1)
    // @ts-expect-error it can be read alone
    connection.set('type', 'stream')
    // @ts-expect-error there is no such option
    connection.get('noDelai')
    // @ts-expect-error it is an option of listeners
    void network.connect('tcp://192.0.2.7:1', { deferAccept: 5 })
    void network.listen('tcp://*:1', { deferAccept: 5, reusePort: true })
    void network.bind('udp://*:1', { multicastTtl: 5 })
  }
  assert.equal(typeof typed, 'function')
})

describe('a driver that has everything', () => {
  const values = new Map<unknown, unknown>()
  const target: OptionTarget = {
    kind: 'connection',
    transport: 'tcp',
    driver: 'kernel',
    facts: { op: 'get' },
    handle: {
      get: (name) => values.get(name),
      set: (name, value) => void values.set(name, value),
      getRaw: (level, name, length) => new Uint8Array(length).fill(level + name),
      setRaw: (level, name, value) => void values.set(`${level}/${name}`, value),
    },
  }

  test('is given values that were checked, numbers of raw options as an int', () => {
    setOption(target, 'userTimeout', 5_000)
    assert.equal(getOption(target, 'userTimeout'), 5_000)
    setOption(target, 'keepAlive', true)
    assert.deepEqual(values.get('keepAlive'), {})
    setOption(target, 'linger', false)
    assert.equal(values.get('linger'), false)
    setOption(target, { level: 6, name: 3 }, 1)
    assert.deepEqual(values.get('6/3'), new Uint8Array(Int32Array.of(1).buffer))
    setOption(target, { level: 6, name: 3 }, new Uint16Array([7]))
    assert.equal((values.get('6/3') as Uint8Array).length, 2)
    assert.deepEqual(getOption(target, { level: 6, name: 3 }), new Uint8Array([9, 9, 9, 9]))
    assert.deepEqual(getOption(target, { level: 6, name: 3, length: 1 }), new Uint8Array([9]))
    assert.throws(() => setOption(target, 'maxSegment', 1_000), refusal('WRONG_MOMENT', 'before connect', 'connect'))
  })

  test('is not named as the one that can when its system cannot', () => {
    const handle = {
      get: () => assert.fail(),
      set: () => {
        throw Object.assign(new Error('no'), { code: 'ENOPROTOOPT' })
      },
    }
    assert.throws(
      () => setOption({ ...target, handle, facts: { op: 'set' } }, 'quickAck', true),
      (error: Error) => {
        refusal('UNSUPPORTED_OPTION', 'quickAck')(error)
        assert.doesNotMatch(error.message, /the driver kernel can,/)
        assert.equal((error.cause as Error).message, 'no')
        return true
      },
    )
  })

  test('what the system refuses keeps its code and its own error as cause', () => {
    const cause = Object.assign(new Error('no'), { code: 'EPERM' })
    const handle = {
      get: () => assert.fail(),
      set: () => {
        throw cause
      },
    }
    assert.throws(() => setOption({ ...target, handle, facts: { op: 'set' } }, 'mark', 1), {
      name: 'SystemFailure',
      code: 'EPERM',
      cause,
      op: 'set',
    })
  })
})
