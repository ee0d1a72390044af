/** The options of the kernel driver: what the system is told, when, and what it says. `options.test.ts` has what all drivers share. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type Connection, type DatagramSocket, type Listener, Network, type OptionName, type SettableName, type TcpInfo } from 'fairlead'
import { driverOn } from '#src/drivers/kernel-driver.js'
import { foreign } from '#src/drivers/kernel-foreign.js'
import { LAYOUTS, LINUX } from '#src/drivers/kernel-layout.js'
import { interfaceOf, optionsOf } from '#src/drivers/kernel-options.js'
import { Poll } from '#src/drivers/kernel-poll.js'
import { type System, systemOf } from '#src/drivers/kernel-system.js'
import { hold } from './support/hold.js'
import { kernelMissing } from './support/kernel.js'
import { hasIpv6, mayMark } from './support/linux.js'
import { descriptors, until } from './support/pairs.js'

const skip = kernelMissing ?? false
const real: System | undefined = skip === false ? systemOf(foreign((what) => new Error(what))) : undefined

/** A poll on the system of this machine, with some of its calls replaced. */
const pollWith = (faults: Partial<System> = {}): Poll => new Poll({ ...(real as System), ...faults })
const networkOn = (poll: Poll): Network => new Network({ driver: driverOn(poll) })

const { IPPROTO_IP, IPPROTO_TCP, IPPROTO_IPV6, SOL_SOCKET } = LINUX
const numberIn = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true)

let folder = ''
let count = 0
const path = (): string => `unix:${join(folder, String(++count))}`
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fairlead-kernel-options-'))
})
after(() => rm(folder, { recursive: true, force: true }))

async function meet(net: Network, listener: Listener, options: object = {}): Promise<[Connection, Connection]> {
  return Promise.all([net.connect(listener.endpoint, options), listener.accept()])
}

const TCP_INFO: readonly Exclude<keyof TcpInfo, 'state'>[] = [
  ...(['retransmits', 'totalRetransmits', 'unacknowledged', 'lost', 'retransmitTimeout', 'roundTrip', 'roundTripVariation'] as const),
  ...(['leastRoundTrip', 'sendSegment', 'receiveSegment', 'pathMtu', 'congestionWindow', 'slowStartThreshold', 'receiveSpace'] as const),
  ...(['bytesAcknowledged', 'bytesReceived', 'notSentBytes', 'deliveryRate'] as const),
]

describe('what the system counts otherwise', { skip }, () => {
  const net = skip === false ? networkOn(pollWith()) : (undefined as never)
  let listener!: Listener
  let client!: Connection
  let server!: Connection
  before(async () => {
    listener = await net.listen('tcp://127.0.0.1:0')
    ;[client, server] = await meet(net, listener)
  })
  after(() => net?.close({ within: 0 }))

  test('milliseconds are rounded up to whole seconds, never to less than was asked for', () => {
    for (const name of ['keepAliveIdle', 'keepAliveInterval'] as const) {
      for (const [given, got] of [
        [1, 1_000],
        [1_000, 1_000],
        [1_001, 2_000],
        [32_766_001, 32_767_000],
      ] as const) {
        client.set(name, given)
        assert.equal(client.get(name), got)
      }
    }
    client.set('linger', 1)
    assert.equal(client.get('linger'), 1_000)
    client.set('linger', 0)
    assert.equal(client.get('linger'), 0)
    client.set('linger', false)
    assert.equal(client.get('linger'), false)
    client.set('userTimeout', 1)
    assert.equal(client.get('userTimeout'), 1)
    assert.equal(numberIn(client.get({ level: IPPROTO_TCP, name: LINUX.TCP_USER_TIMEOUT })), 1)
  })

  test('the wait of deferAccept is one of 1, 3, 7, 15, … seconds, no less than asked for', () => {
    for (const [given, got] of [
      [0, 0],
      [1, 1_000],
      [1_001, 3_000],
      [5_000, 7_000],
      [15_000, 15_000],
    ] as const) {
      listener.set('deferAccept', given)
      assert.equal(listener.get('deferAccept'), got)
    }
    listener.set('deferAccept', 0)
  })

  test('buffers are as the system has them: twice what was asked for', () => {
    client.set('sendBuffer', 20_000)
    client.set('receiveBuffer', 30_000)
    assert.deepEqual([client.get('sendBuffer'), client.get('receiveBuffer')], [40_000, 60_000])
  })

  test('keepAlive has parts that hold while it is off, and the default ones from the start', async () => {
    const quiet = hold(await net.connect(listener.endpoint, { keepAlive: false, keepAliveCount: 4 }))
    hold(await listener.accept())
    assert.equal(quiet.get('keepAlive'), false)
    assert.equal(quiet.get('keepAliveCount'), 4)
    quiet.set('keepAliveIdle', 3_000)
    assert.equal(quiet.get('keepAlive'), false)
    quiet.set('keepAlive', true)
    assert.deepEqual(quiet.get('keepAlive'), { idle: 3_000, interval: 15_000, count: 4 })
    quiet.set('keepAlive', { interval: 2_000 })
    assert.deepEqual(quiet.get('keepAlive'), { idle: 3_000, interval: 2_000, count: 4 })
  })

  test('tcpInfo tells of the connection, in milliseconds', async () => {
    await client.write('x'.repeat(5_000))
    await server.readExactly(5_000)
    const [sent, received] = [client.get('tcpInfo'), server.get('tcpInfo')]
    for (const name of TCP_INFO) assert.equal(typeof sent[name], 'number', name)
    assert.equal(sent.state, 'established')
    assert.equal(received.bytesReceived, 5_000)
    assert.equal(received.notSentBytes, 0)
    assert.ok(sent.roundTrip > 0 && sent.roundTrip < 1_000, String(sent.roundTrip))
    assert.ok(sent.retransmitTimeout >= 200 && sent.retransmitTimeout < 3_000, String(sent.retransmitTimeout))
    assert.ok(sent.congestionWindow > 0 && sent.sendSegment > 500 && sent.pathMtu >= sent.sendSegment)
    assert.ok((sent.leastRoundTrip as number) <= sent.roundTrip + 10)
    await client.end()
    await until('the end is acknowledged', () => client.get('tcpInfo').state === 'fin-wait-2')
    assert.equal(server.get('tcpInfo').state, 'close-wait')
  })
})

test('tcpInfo of an older system leaves out what that does not tell', { skip }, async () => {
  const system = real as System
  const poll = pollWith({
    getsockopt(fd, level, name, value, length) {
      const result = system.getsockopt(fd, level, name, value, length)
      if (level === IPPROTO_TCP && name === LINUX.TCP_INFO) poll.memory.length.setInt(LAYOUTS.tcp_info.tcpi_bytes_acked)
      return result
    },
  })
  await using net = networkOn(poll)
  await using listener = await net.listen('tcp://127.0.0.1:0')
  const [client] = await meet(net, listener)
  const info = client.get('tcpInfo')
  assert.equal(info.state, 'established')
  for (const name of ['bytesAcknowledged', 'bytesReceived', 'notSentBytes', 'leastRoundTrip', 'deliveryRate'])
    assert.ok(!(name in info), name)
})

test(
  'the options asked for are set before the socket is bound or connects, the type of service before the priority',
  { skip },
  async () => {
    const system = real as System
    const calls: (string | number)[] = []
    const poll = pollWith({
      setsockopt(fd, level, name, value, length) {
        calls.push(level === SOL_SOCKET ? name : level * 1000 + name)
        return system.setsockopt(fd, level, name, value, length)
      },
      bind: (...given) => (calls.push('bind'), system.bind(...given)),
      listen: (...given) => (calls.push('listen'), system.listen(...given)),
      connect: (...given) => (calls.push('connect'), system.connect(...given)),
    })
    await using net = networkOn(poll)
    const all = { priority: 5, typeOfService: 16, receiveBuffer: 50_000, bindToDevice: 'lo', maxSegment: 1_000 } as const
    await using listener = await net.listen('tcp://127.0.0.1:0', { ...all, reusePort: true, fastOpen: true })
    assert.deepEqual(calls.slice(calls.indexOf('bind')), ['bind', 'listen'])
    for (const name of [LINUX.SO_REUSEADDR, LINUX.SO_REUSEPORT, LINUX.SO_RCVBUF, LINUX.SO_BINDTODEVICE])
      assert.ok(calls.includes(name), String(name))
    calls.length = 0
    const [client, server] = await meet(net, listener, { ...all, from: 'tcp://127.0.0.1:0', reuseAddress: true, fastOpen: true })
    assert.deepEqual(calls.slice(calls.indexOf('bind'), calls.indexOf('connect') + 1), ['bind', 'connect'])
    assert.deepEqual([client.get('priority'), client.get('typeOfService'), client.get('bindToDevice')], [5, 16, 'lo'])
    assert.deepEqual([server.get('priority'), server.get('typeOfService'), server.get('bindToDevice')], [5, 16, 'lo'])
  },
)

/** Options of a TCP listener that its connections have, and two values of each. */
const INHERITED: readonly [SettableName, unknown, unknown][] = [
  ['noDelay', false, true],
  ['keepAlive', false, { idle: 4_000, interval: 5_000, count: 6 }],
  ['sendBuffer', 20_000, 30_000],
  ['receiveBuffer', 20_000, 30_000],
  ['linger', 3_000, false],
  ['ttl', 7, 9],
  ['typeOfService', 8, 16],
  ['userTimeout', 4_000, 5_000],
  ['notSentLowWater', 5_000, 6_000],
  ['congestionControl', 'reno', 'reno'],
  ['priority', 3, 4],
  ...(mayMark ? [['mark', 7, 4_000_000_000] as [SettableName, unknown, unknown]] : []),
]

describe('what a listener is given holds for its connections', { skip }, () => {
  const expected = (name: string, value: unknown): unknown => (name.endsWith('Buffer') ? (value as number) * 2 : value)
  const set = (socket: Pick<Listener, 'set'>, name: string, value: unknown) =>
    (socket.set as (name: string, value: unknown) => void)(name, value)
  const hosts = hasIpv6 ? ['tcp://127.0.0.1:0', 'tcp://[::1]:0', 'tcp://:0'] : ['tcp://127.0.0.1:0']

  for (const host of hosts) {
    for (const [name, first, second] of INHERITED) {
      test(`${host}: ${name}`, async () => {
        await using net = networkOn(pollWith())
        await using listener = await net.listen(host, { [name]: first })
        const port = new URL(listener.endpoint).port
        const to = host === 'tcp://:0' ? `tcp://127.0.0.1:${port}` : listener.endpoint
        const [, one] = await Promise.all([net.connect(to).then(hold), listener.accept()])
        assert.deepEqual(one.get(name), expected(name, first), 'from its making')
        // Its handshake is done before, and it waits to be accepted: it has the first value until then.
        const waiting = hold(await net.connect(to))
        set(listener, name, second)
        const two = await listener.accept()
        assert.equal((two.remote as { port: number }).port, (waiting.local as { port: number }).port)
        assert.deepEqual(two.get(name), expected(name, second), 'set while it waited')
        const [, three] = await Promise.all([net.connect(to).then(hold), listener.accept()])
        assert.deepEqual(three.get(name), expected(name, second), 'set before')
        assert.deepEqual(one.get(name), expected(name, first), 'those accepted stay as they are')
      })
    }
  }

  test('the buffers of UNIX sockets', async () => {
    await using net = networkOn(pollWith())
    await using listener = await net.listen(path(), { sendBuffer: 20_000 })
    const [, one] = await meet(net, listener)
    assert.deepEqual([one.get('sendBuffer'), listener.get('sendBuffer')], [40_000, 40_000])
    listener.set('receiveBuffer', 30_000)
    const [, two] = await meet(net, listener)
    assert.deepEqual([two.get('sendBuffer'), two.get('receiveBuffer')], [40_000, 60_000])
  })

  test('the largest segment, by what is sent', async () => {
    await using net = networkOn(pollWith())
    await using listener = await net.listen('tcp://127.0.0.1:0', { maxSegment: 1_000 })
    assert.equal(listener.get('maxSegment'), 1_000)
    const [client, server] = await meet(net, listener)
    for (const socket of [client, server]) assert.ok(socket.get('tcpInfo').sendSegment <= 1_000, String(socket.get('tcpInfo').sendSegment))
  })
})

describe('IPv4 and IPv6 on one socket', { skip: skip || (!hasIpv6 && 'this machine has no IPv6') }, () => {
  const raw = (socket: Pick<Listener, 'get'>, v4: number, v6: number) => [
    numberIn(socket.get({ level: IPPROTO_IP, name: v4 })),
    numberIn(socket.get({ level: IPPROTO_IPV6, name: v6 })),
  ]

  test('the hop limit and the traffic class are set for both', async () => {
    await using net = networkOn(pollWith())
    await using listener = await net.listen('tcp://:0', { ttl: 7, typeOfService: 8 })
    assert.deepEqual(raw(listener, LINUX.IP_TTL, LINUX.IPV6_UNICAST_HOPS), [7, 7])
    assert.deepEqual(raw(listener, LINUX.IP_TOS, LINUX.IPV6_TCLASS), [8, 8])
    listener.set('ttl', 9)
    assert.deepEqual(raw(listener, LINUX.IP_TTL, LINUX.IPV6_UNICAST_HOPS), [9, 9])
    const port = new URL(listener.endpoint).port
    for (const host of ['127.0.0.1', '[::1]']) {
      const [, server] = await Promise.all([net.connect(`tcp://${host}:${port}`).then(hold), listener.accept()])
      assert.deepEqual([server.get('ttl'), server.get('typeOfService')], [9, 8], host)
      server.set('ttl', 11)
      assert.equal(server.get('ttl'), 11)
    }
  })

  test('so are those of multicasts', async () => {
    await using net = networkOn(pollWith())
    const socket: DatagramSocket = await net.bind('udp://:0', { multicastTtl: 5, multicastLoopback: false, multicastInterface: 'lo' })
    assert.deepEqual(raw(socket, LINUX.IP_MULTICAST_TTL, LINUX.IPV6_MULTICAST_HOPS), [5, 5])
    assert.deepEqual(raw(socket, LINUX.IP_MULTICAST_LOOP, LINUX.IPV6_MULTICAST_LOOP), [0, 0])
    assert.equal(socket.get('multicastInterface'), 'lo')
    assert.deepEqual(socket.get({ level: IPPROTO_IP, name: LINUX.IP_MULTICAST_IF }), new Uint8Array([127, 0, 0, 1]))
    socket.set('multicastInterface', '::1')
    assert.equal(socket.get('multicastInterface'), '::1')
    socket.set('multicastInterface', '127.0.0.1')
    assert.equal(socket.get('multicastInterface'), '127.0.0.1')
    for (const bad of ['nowhere', '192.0.2.1', '2001:db8::1', '0']) {
      assert.throws(() => socket.set('multicastInterface', bad), { name: 'SystemFailure', code: 'ENODEV' }, bad)
    }
    assert.equal(socket.get('multicastInterface'), '127.0.0.1')
  })

  test('ipv6Only is off unless asked for, and means what it says', async () => {
    await using net = networkOn(pollWith())
    await using both = await net.listen('tcp://[::]:0')
    await using one = await net.listen('tcp://[::]:0', { ipv6Only: true })
    assert.deepEqual([both.get('ipv6Only'), one.get('ipv6Only')], [false, true])
    await using v4 = await net.listen('tcp://127.0.0.1:0', { ipv6Only: true })
    assert.equal(v4.get('ipv6Only'), false)
    await assert.rejects(net.connect(`tcp://127.0.0.1:${new URL(one.endpoint).port}`), { code: 'ECONNREFUSED' })
    hold(await net.connect(`tcp://127.0.0.1:${new URL(both.endpoint).port}`))
  })
})

test('an interface is found by its name, its number and its addresses', { skip }, () => {
  const poll = pollWith()
  const local = new Uint8Array([127, 0, 0, 1])
  const { index } = interfaceOf(poll, 'lo', false)
  assert.ok(index > 0)
  assert.deepEqual(interfaceOf(poll, 'lo', false), { index, ipv4: local })
  assert.deepEqual(interfaceOf(poll, '127.0.0.1', false), { index, ipv4: local })
  assert.equal(interfaceOf(poll, String(index), true).index, index)
  assert.equal(interfaceOf(poll, 'fe80::1%lo', true).index, index)
  for (const bad of ['', 'nowhere', 'a'.repeat(63), '..', 'lo/x', '::5%nowhere']) {
    for (const ipv6 of [false, true]) assert.throws(() => interfaceOf(poll, bad, ipv6), { code: 'ENODEV' }, bad)
  }
})

test('both ends of a UNIX connection know the process at the other', { skip }, async () => {
  await using net = networkOn(pollWith())
  await using listener = await net.listen(path())
  const [client, server] = await meet(net, listener)
  const own = { pid: process.pid, uid: process.geteuid?.(), gid: process.getegid?.() }
  assert.deepEqual(client.get('peerCredentials'), own)
  assert.deepEqual(server.get('peerCredentials'), own)
})

test('an address of its own is bound as it was asked for', { skip }, async () => {
  await using net = networkOn(pollWith())
  await using listener = await net.listen('tcp://127.0.0.1:0')
  await using free = await net.listen('tcp://127.0.0.1:0', { reuseAddress: false })
  assert.equal(free.get('reuseAddress'), false)
  const from = free.endpoint
  await free.close()
  const [client] = await meet(net, listener, { from, reuseAddress: false })
  assert.equal(client.get('reuseAddress'), false)
  assert.equal((client.local as { port: number }).port, Number(new URL(from).port))
})

test('error is what waits in the socket, once', { skip }, async () => {
  await using net = networkOn(pollWith())
  await using listener = await net.listen('tcp://127.0.0.1:0')
  const [client, server] = await meet(net, listener)
  assert.equal(client.get('error'), null)
  server.abort()
  await until('the reset is here', () => client.get('tcpInfo').state === 'closed')
  assert.equal(client.get('error'), 'ECONNRESET')
  assert.equal(client.get('error'), null)
  // The system now takes it for an end; its reader must not.
  await assert.rejects(client.read(), { name: 'Broken', code: 'ECONNRESET' })
})

test('an error read by number is the reader’s, too', { skip }, async () => {
  await using net = networkOn(pollWith())
  await using listener = await net.listen('tcp://127.0.0.1:0')
  const [client, server] = await meet(net, listener)
  server.abort()
  await until('the reset is here', () => client.get('tcpInfo').state === 'closed')
  assert.equal(numberIn(client.get({ level: SOL_SOCKET, name: LINUX.SO_ERROR })), constants.errno.ECONNRESET)
  await assert.rejects(client.read(), { name: 'Broken', code: 'ECONNRESET' })
})

describe('by number', { skip }, () => {
  const net = skip === false ? networkOn(pollWith()) : (undefined as never)
  let listener!: Listener
  let client!: Connection
  before(async () => {
    listener = await net.listen('tcp://127.0.0.1:0')
    const [one, two] = await meet(net, listener)
    client = one
    hold(two)
  })
  after(() => net?.close({ within: 0 }))

  test('what is set is what the system has, and as many bytes come as it gives', () => {
    const userTimeout = { level: IPPROTO_TCP, name: LINUX.TCP_USER_TIMEOUT }
    client.set(userTimeout, 5_000)
    assert.equal(client.get('userTimeout'), 5_000)
    assert.deepEqual(client.get({ ...userTimeout, length: 100 }), new Uint8Array([0x88, 0x13, 0, 0]))
    assert.deepEqual(client.get({ ...userTimeout, length: 1 }), new Uint8Array([0x88]))
    const congestion = { level: IPPROTO_TCP, name: LINUX.TCP_CONGESTION }
    client.set(congestion, new TextEncoder().encode('reno'))
    assert.equal(new TextDecoder().decode(client.get({ ...congestion, length: 16 })).replaceAll('\0', ''), 'reno')
    const linger = { level: SOL_SOCKET, name: LINUX.SO_LINGER }
    client.set(linger, new Uint8Array([1, 0, 0, 0, 5, 0, 0, 0]))
    assert.equal(client.get('linger'), 5_000)
    client.set(linger, new Uint8Array(8))
    assert.ok(client.get({ level: IPPROTO_TCP, name: LINUX.TCP_INFO, length: 65_535 }).length >= 104)
  })

  test('what came does not change with what is read next', () => {
    const first = client.get({ level: SOL_SOCKET, name: LINUX.SO_TYPE })
    client.get({ level: IPPROTO_TCP, name: LINUX.TCP_INFO, length: 200 })
    assert.deepEqual(first, new Uint8Array([1, 0, 0, 0]))
    assert.equal(first.buffer.byteLength, 4)
  })

  test('what the system does not know or take is told with its code', () => {
    assert.throws(() => client.get({ level: IPPROTO_TCP, name: 9_999 }), { name: 'SystemFailure', code: 'ENOPROTOOPT', op: 'get' })
    assert.throws(() => client.set({ level: SOL_SOCKET, name: 9_999 }, 1), { name: 'SystemFailure', code: 'ENOPROTOOPT', op: 'set' })
    assert.throws(() => client.set({ level: SOL_SOCKET, name: LINUX.SO_LINGER }, new Uint8Array(1)), { code: 'EINVAL' })
    assert.throws(() => client.set({ level: SOL_SOCKET, name: LINUX.SO_LINGER }, new Uint8Array(0)), { code: 'EINVAL' })
    client.set({ level: SOL_SOCKET, name: LINUX.SO_LINGER }, new Uint8Array(65_535))
    assert.equal(client.get('linger'), false)
  })
})

describe('what the system refuses', { skip }, () => {
  test('is told with its code, and leaves no descriptor', async () => {
    await using net = networkOn(pollWith())
    await using listener = await net.listen('tcp://127.0.0.1:0')
    hold(await Promise.all([net.connect(listener.endpoint), listener.accept()]))
    const before = descriptors()
    const cases: [object, string][] = [
      [{ congestionControl: 'nosuch' }, 'ENOENT'],
      [{ bindToDevice: 'nowhere' }, 'ENODEV'],
      ...(mayMark
        ? []
        : ([
            [{ mark: 1 }, 'EPERM'],
            [{ priority: 7 }, 'EPERM'],
          ] as [object, string][])),
    ]
    for (const [options, code] of cases) {
      await assert.rejects(net.connect(listener.endpoint, options), { name: 'SystemFailure', code })
      await assert.rejects(net.listen('tcp://127.0.0.1:0', options), { name: 'SystemFailure', code })
    }
    await assert.rejects(net.bind('udp://127.0.0.1:0', { bindToDevice: 'nowhere' }), { name: 'SystemFailure', code: 'ENODEV' })
    assert.equal(descriptors(), before)
    assert.throws(() => listener.set('congestionControl', 'nosuch'), { name: 'SystemFailure', code: 'ENOENT', op: 'set' })
  })

  test('every option that fails, at every moment, is told with its code and leaves no descriptor', async () => {
    const system = real as System
    let failing = 0
    const poll = pollWith({
      setsockopt: (fd, level, name, value, length) => (--failing === 0 ? -105 : system.setsockopt(fd, level, name, value, length)),
    })
    await using net = networkOn(poll)
    await using listener = await net.listen('tcp://127.0.0.1:0')
    hold(await Promise.all([net.connect(listener.endpoint), listener.accept()]))
    const before = descriptors()
    const options = { userTimeout: 5_000, ttl: 5, quickAck: true }
    const wildcard = hasIpv6 ? '[::]' : '0.0.0.0'
    const ways = [
      async () => net.connect(listener.endpoint, options),
      async () => net.listen(`tcp://${wildcard}:0`, { ttl: 5, userTimeout: 5_000 }),
      async () => net.listen(path(), { sendBuffer: 5_000 }),
      async () => net.bind(`udp://${wildcard}:0`, { ttl: 5, multicastTtl: 3, reuseAddress: true, multicastInterface: 'lo' }),
    ]
    for (const way of ways) {
      let refused = 0
      for (let at = 1; ; at++) {
        failing = at
        const outcome = await way().catch((error: unknown) => error as { name: string; code: string })
        const done = failing > 0
        failing = 0
        if ('close' in outcome) {
          outcome.abort()
          await outcome.closed
        } else {
          refused++
          assert.equal(outcome.name, 'SystemFailure')
          assert.equal(outcome.code, 'ENOBUFS')
        }
        if (done) break
      }
      assert.ok(refused > 0, String(way))
      // Those that were dialled wait to be accepted.
      for (let one = listener.tryAccept(); one !== undefined; one = listener.tryAccept()) one.abort()
      await until('nothing is left open', () => descriptors() === before)
    }
  })

  test('is UNSUPPORTED_OPTION where the system does not know the option', async () => {
    const poll = pollWith({ getsockopt: () => -92, setsockopt: () => -92 })
    const net = networkOn(poll)
    const failure = await net.listen('unix:@fairlead-options', { sendBuffer: 5_000 }).catch((error: unknown) => error as Error)
    assert.deepEqual(
      { ...failure, cause: String((failure as Error).cause) },
      {
        code: 'ENOPROTOOPT',
        op: 'listen',
        phase: 'listen',
        endpoint: 'unix:@fairlead-options',
        cause: 'Error: cannot set sendBuffer to 5000: setsockopt ENOPROTOOPT',
      },
    )
    await using listener = await net.listen('unix:@fairlead-options')
    assert.throws(() => listener.get('sendBuffer'), { name: 'OptionError', code: 'UNSUPPORTED_OPTION', message: /it needs linux/ })
    assert.throws(() => listener.set('sendBuffer', 5_000), { name: 'OptionError', code: 'UNSUPPORTED_OPTION', message: /it needs linux/ })
  })

  test('where the listener took it, is the matter of the connection, which is given all the same', async () => {
    const system = real as System
    let accepting = false
    const poll = pollWith({ setsockopt: (...given) => (accepting ? -22 : system.setsockopt(...given)) })
    await using net = networkOn(poll)
    await using listener = await net.listen('tcp://127.0.0.1:0')
    listener.set('ttl', 5)
    const client = await net.connect(listener.endpoint)
    accepting = true
    const server = await listener.accept()
    accepting = false
    await client.write('hello')
    assert.equal(new TextDecoder().decode(await server.readExactly(5)), 'hello')
  })

  test('a closed socket has none, and no other socket is touched', async () => {
    const poll = pollWith()
    const driver = driverOn(poll)
    const settings = { backlog: 5, ipv6Only: false, reusePort: false, noDelay: true, keepAlive: false } as const
    const handle = await driver.listen({ family: 'ipv4', address: '127.0.0.1', port: 0 }, settings)
    const { options } = handle
    await new Promise<void>((resolve) => handle.close(resolve))
    for (const name of ['noDelay', 'keepAlive', 'type', 'ttl'] as const satisfies readonly OptionName[]) {
      assert.throws(() => options?.get(name), { code: 'EBADF' })
    }
    assert.throws(() => options?.set('noDelay', true), { code: 'EBADF' })
    assert.throws(() => options?.getRaw?.(SOL_SOCKET, LINUX.SO_TYPE, 4), { code: 'EBADF' })
    assert.throws(() => options?.setRaw?.(SOL_SOCKET, LINUX.SO_KEEPALIVE, new Uint8Array(4)), { code: 'EBADF' })
  })

  test('what is no option is none', () => {
    const options = optionsOf(pollWith(), { descriptor: -1 }, 'connection')
    for (const name of ['nosuch', 'constructor', '__proto__']) assert.throws(() => options.get(name), { code: 'ENOPROTOOPT' })
    for (const name of ['type', 'tcpInfo', 'toString']) assert.throws(() => options.set(name, 1), { code: 'ENOPROTOOPT' })
  })
})

describe('linger', { skip }, () => {
  /** Longer than any of this takes, in seconds. */
  const LONG = 30

  for (const [how, options, set] of [
    ['asked for', { linger: LONG * 1000 }, undefined],
    ['set later', {}, (socket: Connection) => socket.set('linger', LONG * 1000)],
    [
      'set by number',
      {},
      (socket: Connection) => socket.set({ level: SOL_SOCKET, name: LINUX.SO_LINGER }, new Uint8Array([1, 0, 0, 0, LONG, 0, 0, 0])),
    ],
  ] as const) {
    test(`${how}, does not make closing wait with the whole process`, async () => {
      await using net = networkOn(pollWith())
      await using listener = await net.listen('tcp://127.0.0.1:0', { receiveBuffer: 4_096 })
      const [client, server] = await meet(net, listener, options)
      set?.(client)
      hold(server)
      // More than the peer takes, so that the system has something to wait for.
      await assert.rejects(client.write(new Uint8Array(8 * 2 ** 20), { timeout: 1 }), { name: 'DeadlineError' })
      await until('the queue of the system is full', () => (client.get('tcpInfo').notSentBytes as number) > 0)
      const handle = client.get('linger')
      assert.equal(handle, LONG * 1000)
      const start = performance.now()
      await client.close({ timeout: 1 })
      assert.ok(performance.now() - start < (LONG * 1000) / 2)
    })
  }

  test('a listener’s holds for its connections', async () => {
    await using net = networkOn(pollWith())
    await using listener = await net.listen('tcp://127.0.0.1:0', { linger: LONG * 1000 })
    const [client, server] = await meet(net, listener, { receiveBuffer: 4_096 })
    hold(client)
    await assert.rejects(server.write(new Uint8Array(8 * 2 ** 20), { timeout: 1 }), { name: 'DeadlineError' })
    const start = performance.now()
    await server.close({ timeout: 1 })
    assert.ok(performance.now() - start < (LONG * 1000) / 2)
  })

  test('of 0 resets', async () => {
    await using net = networkOn(pollWith())
    await using listener = await net.listen('tcp://127.0.0.1:0')
    const [client, server] = await meet(net, listener, { linger: 0 })
    const state = () => server.get('tcpInfo').state
    await client.close()
    await until('the reset is here', () => state() === 'closed')
  })
})

const table = '/proc/sys/net/ipv4/tcp_fastopen'
const fast = skip === false && (Number(readFileSync(table, 'utf8')) & 3) === 3
test('fastOpen carries the first bytes in the first segment', { skip: skip || (!fast && `${table} is not 3`) }, async () => {
  await using net = networkOn(pollWith())
  await using listener = await net.listen('tcp://127.0.0.1:0', { fastOpen: true })
  for (let i = 0; i < 3; i++) {
    const client = await net.connect(listener.endpoint, { fastOpen: true })
    assert.deepEqual([client.remote, client.get('fastOpen')], [listener.local, true])
    await client.write('first')
    const server = await listener.accept()
    assert.equal(new TextDecoder().decode(await server.readExactly(5)), 'first')
    await Promise.all([client.close(), server.close()])
  }
})
