// The datagram sockets of the node driver, below the level of the public class. What they do must not depend on how the
// runtime sends, so the whole file runs three times: as it is, with a runtime that never sends at once, and with nothing
// but the runtime's public face.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { networkInterfaces } from 'node:os'
import { describe, test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { IpAddress } from 'fairlead'
import { settle } from 'fairlead/testing'
import type { BindSettings, DatagramHandle } from '#src/driver.js'
import { bind } from '#src/drivers/dgram.js'
import { until } from './support/pairs.js'

const WAY = process.env['FAIRLEAD_TEST_DGRAM'] ?? ''
const hasIpv6 = networkInterfaces()['lo']?.some(({ family }) => family === 'IPv6') === true
const loopback = Object.entries(networkInterfaces()).find(([, all]) => all?.some(({ address }) => address === '127.0.0.1'))?.[0] ?? 'lo'

const V4: IpAddress = { family: 'ipv4', address: '127.0.0.1', port: 0 }
const V6: IpAddress = { family: 'ipv6', address: '::1', port: 0 }
const ANY: IpAddress = { family: 'ipv6', address: '::', port: 0 }

/** A datagram socket that waits, and what it has told. */
class Box {
  readonly handle: DatagramHandle
  readonly local: IpAddress
  /** Bytes that its queue has accounted for. */
  readonly account: { held: number }
  readableEvents = 0
  #wakeReader: (() => void) | undefined
  #wakeWriter: (() => void) | undefined

  constructor(handle: DatagramHandle, account: { held: number }) {
    this.handle = handle
    this.local = handle.local as IpAddress
    this.account = account
    handle.attach({
      readable: () => {
        this.readableEvents++
        this.#wakeReader?.()
      },
      writable: () => this.#wakeWriter?.(),
    })
  }

  async receive() {
    for (;;) {
      const waiting = new Promise<void>((resolve) => (this.#wakeReader = resolve))
      const datagram = this.handle.receive()
      if (datagram !== undefined) return datagram
      await waiting
    }
  }

  async text(): Promise<string> {
    return Buffer.from((await this.receive()).data).toString()
  }

  /** Resolves once it is taken; `done` tells once the system has it. */
  async give(data: Uint8Array, to: IpAddress | undefined, done: (error?: unknown) => void): Promise<void> {
    for (;;) {
      const room = new Promise<void>((resolve) => (this.#wakeWriter = resolve))
      if (this.handle.send(data, to, done)) return
      await room
    }
  }

  /** Resolves once the system has it. */
  send(data: string | Uint8Array, to?: IpAddress): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (error?: unknown) => (error === undefined ? resolve() : reject(error as Error))
      void this.give(typeof data === 'string' ? Buffer.from(data) : data, to, done)
    })
  }

  close(): Promise<void> {
    return new Promise((resolve) => this.handle.close(resolve))
  }
}

async function open(t: TestContext, at: IpAddress = V4, o: Partial<BindSettings> = {}): Promise<Box> {
  const account = { held: 0 }
  const handle = await bind(at, {
    type: 'datagram',
    reuseAddress: false,
    reusePort: false,
    ipv6Only: false,
    queue: { count: 1_024, bytes: 4 * 1024 * 1024 },
    held: (change) => (account.held += change),
    options: new Map(),
    ...o,
  })
  const box = new Box(handle, account)
  t.after(async () => {
    await box.close()
    assert.equal(account.held, 0, 'bytes counted that nobody holds any more')
  })
  return box
}

/** A socket of the runtime. */
async function plain(t: TestContext): Promise<{ socket: Socket; at: IpAddress }> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1')
  await once(socket, 'listening')
  t.after(() => void socket.close())
  return { socket, at: { ...V4, port: socket.address().port } }
}

/** Datagram sockets that hold this process, once those that were closed are gone. */
async function openSockets(): Promise<number> {
  await settle(2)
  return process.getActiveResourcesInfo().filter((name) => name.startsWith('UDP')).length
}

const code = (expected: string) => (error: unknown) => (error as { code?: unknown }).code === expected

for (const at of [V4, V6]) {
  describe(`over ${at.family}`, { skip: at === V6 && !hasIpv6 ? 'no IPv6 here' : false }, () => {
    test('port 0 becomes a real one; data comes whole, as plain bytes of their own, with who sent it', async (t) => {
      const [a, b] = [await open(t, at), await open(t, at)]
      assert.ok(a.local.port > 0)
      assert.deepEqual({ ...a.local, port: 0 }, at)
      await a.send('hello', b.local)
      const { data, from, truncated } = await b.receive()
      assert.deepEqual([Buffer.from(data).toString(), from, truncated], ['hello', a.local, false])
      assert.equal(Object.getPrototypeOf(data), Uint8Array.prototype)
      assert.equal(data.buffer.byteLength, 5)
      await b.send('and back', from as IpAddress)
      assert.equal(await a.text(), 'and back')
    })

    test('N12, N26: empty ones and the largest come whole; a larger one is refused, and the socket goes on', async (t) => {
      const [a, b] = [await open(t, at), await open(t, at)]
      await a.send('', b.local)
      assert.equal((await b.receive()).data.length, 0)
      const largest = new Uint8Array(65_507).map((_, i) => i)
      await a.send(largest, b.local)
      const got = await b.receive()
      assert.deepEqual([Buffer.compare(got.data, largest), got.truncated], [0, false])
      await assert.rejects(a.send(new Uint8Array(65_536), b.local), code('EMSGSIZE'))
      await a.send('still here', b.local)
      assert.equal(await b.text(), 'still here')
    })

    test('a connected socket sends to its peer, and hears nobody else', async (t) => {
      const [peer, stranger] = [await open(t, at), await open(t, at)]
      const a = await open(t, at, { to: peer.local })
      assert.deepEqual(a.handle.remote, peer.local)
      await stranger.send('let me in', a.local)
      await peer.send('welcome', a.local)
      assert.equal(await a.text(), 'welcome')
      await a.send('thanks')
      assert.equal(await peer.text(), 'thanks')
      assert.equal(a.handle.receive(), undefined)
    })

    test('a peer that is not there is told once, and the socket goes on', async (t) => {
      const gone = await open(t, at)
      const a = await open(t, at, { to: gone.local })
      await gone.close()
      await a.send('anybody?')
      await assert.rejects(a.receive(), code('ECONNREFUSED'))
      assert.equal(a.handle.receive(), undefined)
      const back = await open(t, gone.local)
      await a.send('hello again')
      assert.equal(await back.text(), 'hello again')
    })

    test('many sends to a peer that is not there succeed, and their errors are for whoever receives', async (t) => {
      const gone = await open(t, at)
      const a = await open(t, at, { to: gone.local })
      await gone.close()
      for (let i = 0; i < 20; i++) await a.send(`anybody? ${i}`)
      await assert.rejects(a.receive(), code('ECONNREFUSED'))
    })
  })
}

describe('dual stack', { skip: hasIpv6 ? false : 'no IPv6 here' }, () => {
  test('IPv4 peers are known and reached by their own addresses, IPv6 peers by theirs', async (t) => {
    const both = await open(t, ANY)
    for (const at of [V4, V6]) {
      const peer = await open(t, at)
      await peer.send('hello', { ...at, port: both.local.port })
      const { from } = await both.receive()
      assert.deepEqual(from, peer.local)
      await both.send('and back', from as IpAddress)
      const answer = await peer.receive()
      assert.deepEqual(answer.from, { ...at, port: both.local.port })
    }
  })

  test('connects to an IPv4 peer as well', async (t) => {
    const peer = await open(t)
    const a = await open(t, ANY, { to: peer.local })
    assert.deepEqual(a.handle.remote, peer.local)
    assert.equal(a.local.address, '127.0.0.1')
    await a.send('hello')
    const { from } = await peer.receive()
    await peer.send('and back', from as IpAddress)
    assert.equal(await a.text(), 'and back')
  })

  test('ipv6Only leaves the IPv4 port to others', async (t) => {
    const six = await open(t, ANY, { ipv6Only: true })
    const four = await open(t, { ...V4, address: '0.0.0.0', port: six.local.port })
    const peer = await open(t)
    await peer.send('hello', { ...V4, port: six.local.port })
    assert.equal(await four.text(), 'hello')
    assert.equal(six.handle.receive(), undefined)
    await assert.rejects(six.send('hello', peer.local))
    assert.equal(six.handle.options?.get('ipv6Only'), true)
  })
})

test('a caller may write over its memory as soon as it was taken', async (t) => {
  const [a, b] = [await open(t), await open(t)]
  const bytes = new Uint8Array(100)
  for (let i = 0; i < 200; i++) {
    bytes.fill(i)
    await a.give(i % 3 === 0 ? bytes.subarray(0, 40) : bytes, b.local, assert.ifError)
    bytes.fill(255)
  }
  for (let i = 0; i < 200; i++) {
    const { data } = await b.receive()
    assert.ok(data.length === (i % 3 === 0 ? 40 : 100) && data.every((byte) => byte === i), `datagram ${i}`)
  }
})

test('what is received later does not change what was received before', async (t) => {
  const [a, b] = [await open(t), await open(t)]
  await a.send('first', b.local)
  const first = await b.receive()
  await a.send('other', b.local)
  await b.receive()
  assert.equal(Buffer.from(first.data).toString(), 'first')
})

test('nobody receives: the newest are kept, as many as agreed, and the others counted', async (t) => {
  const a = await open(t)
  const b = await open(t, V4, { queue: { count: 10, bytes: 1_000_000 } })
  const flag = await open(t)
  for (let i = 0; i < 100; i++) await a.send(`number ${i}`, b.local)
  await until('all have come', () => b.handle.dropped === 90)
  assert.equal(b.account.held, 10 * 'number 90'.length)
  assert.ok(b.readableEvents >= 1)
  for (let i = 90; i < 100; i++) assert.equal(await b.text(), `number ${i}`)
  await a.send('after', flag.local)
  await flag.receive()
  assert.equal(b.handle.receive(), undefined)
})

test('nobody receives: the bytes kept are bounded as well', async (t) => {
  const a = await open(t)
  const b = await open(t, V4, { queue: { count: 1_000, bytes: 3_000 } })
  for (let i = 0; i < 20; i++) await a.send(new Uint8Array(1_000).fill(i), b.local)
  await until('all have come', () => b.handle.dropped === 17)
  assert.equal(b.account.held, 3_000)
  assert.equal((await b.receive()).data[0], 17)
})

test('datagrams that come before anybody asks are told of', async (t) => {
  const account = { held: 0 }
  const settings = { type: 'datagram', reuseAddress: false, reusePort: false, ipv6Only: false } as const
  const handle = await bind(V4, {
    ...settings,
    queue: { count: 10, bytes: 1_000 },
    held: (change) => (account.held += change),
    options: new Map(),
  })
  const a = await open(t)
  await a.send('early', handle.local as IpAddress)
  await until('it has come', () => account.held === 5)
  const box = new Box(handle, account)
  await until('it is told of', () => box.readableEvents > 0)
  assert.equal(await box.text(), 'early')
  await box.close()
})

test('what is in flight is bounded, told when there is room again, and sent', async (t) => {
  const a = await open(t)
  const b = await open(t)
  const COUNT = 200
  const piece = new Uint8Array(8 * 1024)
  let sent = 0
  let refused = 0
  const done = () => sent++
  for (let i = 0; i < COUNT; i++) {
    if (a.handle.send(piece, b.local, done)) continue
    refused++
    await a.give(piece, b.local, done)
  }
  // The system may throw away what it has no room for, the first ones it has.
  assert.equal((await b.receive()).data.length, piece.length)
  await until('all are done', () => sent === COUNT)
  // A runtime that sends at once has never anything in flight on the loopback interface.
  if (WAY !== '') assert.ok(refused > 0)
})

test('close sends what was taken, is idempotent, and leaves nothing behind', async (t) => {
  const b = await open(t)
  const a = await open(t)
  const outcomes: unknown[] = []
  let taken = 0
  while (taken < 20 && a.handle.send(Buffer.from(`last words ${taken}`), b.local, (error) => outcomes.push(error))) taken++
  assert.ok(taken > 0)
  await Promise.all([a.close(), a.close()])
  await a.close()
  assert.ok(outcomes.length === taken && outcomes.every((error) => error === undefined))
  for (let i = 0; i < taken; i++) assert.equal(await b.text(), `last words ${i}`)
  assert.equal(
    a.handle.send(Buffer.from('too late'), b.local, () => assert.fail('taken')),
    false,
  )
  const again = await open(t, a.local)
  assert.equal(again.local.port, a.local.port)
})

test('a socket may be closed by whoever is told that a datagram was sent', async (t) => {
  const [a, b] = [await open(t), await open(t)]
  const closed = new Promise<void>((resolve) => a.handle.send(Buffer.from('last words'), b.local, () => a.handle.close(resolve)))
  assert.equal(await b.text(), 'last words')
  await closed
})

test('a socket closed while it tells of a datagram gives it to nobody', async (t) => {
  const a = await open(t)
  const account = { held: 0 }
  const settings = {
    type: 'datagram',
    reuseAddress: false,
    reusePort: false,
    ipv6Only: false,
    options: new Map<string, unknown>(),
  } as const
  const handle = await bind(V4, { ...settings, queue: { count: 9, bytes: 99 }, held: (change) => (account.held += change) })
  const closed = new Promise<void>((resolve) => handle.attach({ readable: () => handle.close(resolve), writable() {} }))
  await a.send('hello', handle.local as IpAddress)
  await closed
  assert.deepEqual([handle.receive(), account.held], [undefined, 0])
})

test('an address in use, an address of nobody, and what this driver has none of are refused', async (t) => {
  const first = await open(t)
  const before = await openSockets()
  await assert.rejects(open(t, first.local), code('EADDRINUSE'))
  await assert.rejects(open(t, { ...V4, address: '192.0.2.1' }), code('EADDRNOTAVAIL'))
  await assert.rejects(open(t, V4, { type: 'seqpacket' }), code('UNSUPPORTED'))
  await assert.rejects(open(t, { family: 'unix', path: '/nowhere', abstract: false } as never), code('UNSUPPORTED'))
  await assert.rejects(open(t, V4, { to: { family: 'unix', path: '/nowhere', abstract: false } }), code('UNSUPPORTED'))
  await assert.rejects(open(t, V4, { options: new Map([['cork', true]]) }), code('ENOPROTOOPT'))
  assert.equal(await openSockets(), before)
})

test('reuseAddress shares an address; reusePort does where the runtime can, and is refused where not', async (t) => {
  const first = await open(t, V4, { reuseAddress: true })
  const second = await open(t, first.local, { reuseAddress: true })
  assert.deepEqual([second.local, second.handle.options?.get('reuseAddress')], [first.local, true])
  const third = await open(t, V4, { reusePort: true }).catch((error) => {
    assert.ok(code('UNSUPPORTED')(error) && (WAY !== '' || Number.parseInt(process.versions.node) < 24))
    return undefined
  })
  if (third === undefined) return
  assert.deepEqual((await open(t, third.local, { reusePort: true })).local, third.local)
})

describe('multicast', () => {
  const cases: { name: string; at: IpAddress; group: string; on: string }[] = [
    { name: 'IPv4, interface by address', at: { ...V4, address: '0.0.0.0' }, group: '239.255.7.1', on: '127.0.0.1' },
    { name: 'IPv4, interface by name', at: { ...V4, address: '0.0.0.0' }, group: '239.255.7.2', on: loopback },
    { name: 'IPv4 on a dual-stack socket', at: ANY, group: '239.255.7.3', on: '127.0.0.1' },
  ]
  for (const { name, at, group, on } of cases) {
    test(name, { skip: at === ANY && !hasIpv6 ? 'no IPv6 here' : false }, async (t) => {
      const member = await open(t, at)
      const sender = await open(t, { ...V4, address: '0.0.0.0' }, { options: new Map([['multicastInterface', on]]) })
      const to: IpAddress = { ...V4, address: group, port: member.local.port }
      member.handle.join(group, on, undefined)
      await sender.send('to all', to)
      assert.equal(await member.text(), 'to all')
      member.handle.leave(group, on, undefined)
      await sender.send('nobody is here', to)
      await sender.send('a word alone', { ...V4, port: member.local.port })
      assert.equal(await member.text(), 'a word alone')
      assert.throws(() => member.handle.leave(group, on, undefined), code('EADDRNOTAVAIL'))
    })
  }

  test('from one source alone', async (t) => {
    const member = await open(t, { ...V4, address: '0.0.0.0' })
    const group = '232.7.7.7'
    member.handle.join(group, '127.0.0.1', '127.0.0.2')
    const options = new Map([['multicastInterface', '127.0.0.1']])
    const [right, wrong] = [await open(t, { ...V4, address: '127.0.0.2' }, { options }), await open(t, V4, { options })]
    const to: IpAddress = { ...V4, address: group, port: member.local.port }
    await wrong.send('not from me', to)
    await right.send('from me', to)
    assert.equal(await member.text(), 'from me')
    member.handle.leave(group, '127.0.0.1', '127.0.0.2')
  })

  // The loopback interface has no route for them; test/e2e/datagrams.test.ts sends some between network namespaces.
  test('IPv6 groups are joined and left by name and address of the interface', { skip: hasIpv6 ? false : 'no IPv6 here' }, async (t) => {
    const { handle } = await open(t, ANY)
    handle.join('ff12::7:1', loopback, undefined)
    assert.throws(() => handle.join('ff12::7:1', '::1', undefined), code('EADDRINUSE'))
    handle.leave('ff12::7:1', '::1', undefined)
    assert.throws(() => handle.leave('ff12::7:1', loopback, undefined), code('EADDRNOTAVAIL'))
    handle.join('ff3e::7:1', loopback, '::1')
    handle.leave('ff3e::7:1', loopback, '::1')
    handle.options?.set('multicastInterface', loopback)
    assert.equal(handle.options?.get('multicastInterface'), loopback)
  })

  test('no group, no such interface, twice: refused, and the socket as it was', async (t) => {
    const a = await open(t, { ...V4, address: '0.0.0.0' })
    assert.throws(() => a.handle.join('10.0.0.1', undefined, undefined), code('EINVAL'))
    assert.throws(() => a.handle.join('239.1.1.1', 'no-such-if', undefined), code('ENODEV'))
    assert.throws(() => a.handle.join('ff02::1:7', 'no-such-if', undefined), code('ENODEV'))
    a.handle.join('239.1.1.1', '127.0.0.1', undefined)
    assert.throws(() => a.handle.join('239.1.1.1', '127.0.0.1', undefined), code('EADDRINUSE'))
    await a.send('to myself', { ...V4, port: a.local.port })
    assert.equal(await a.text(), 'to myself')
  })
})

test('options are set at creation and later, and read', async (t) => {
  const a = await open(t, V4, {
    options: new Map<string, unknown>([
      ['sendBuffer', 32_768],
      ['ttl', 9],
      ['reuseAddress', false],
    ]),
  })
  const options = a.handle.options
  assert.ok(options)
  assert.ok((options.get('sendBuffer') as number) >= 32_768)
  assert.equal(options.get('ttl'), 9)
  options.set('receiveBuffer', 65_536)
  assert.ok((options.get('receiveBuffer') as number) >= 65_536)
  for (const [name, standard, other] of [
    ['broadcast', false, true],
    ['multicastLoopback', true, false],
    ['multicastTtl', 1, 5],
  ] as const) {
    assert.equal(options.get(name), standard)
    options.set(name, other)
    assert.equal(options.get(name), other)
  }
  assert.deepEqual([options.get('type'), options.get('protocol')], ['datagram', 'udp'])
  for (const name of ['noDelay', 'constructor', '__proto__']) {
    assert.throws(() => options.get(name), code('ENOPROTOOPT'))
    assert.throws(() => options.set(name, true), code('ENOPROTOOPT'))
  }
})

test('broadcasting has to be allowed', async (t) => {
  const a = await open(t, { ...V4, address: '0.0.0.0' })
  const to: IpAddress = { ...V4, address: '127.255.255.255', port: a.local.port }
  await assert.rejects(a.send('all', to), code('EACCES'))
  a.handle.options?.set('broadcast', true)
  await a.send('all', to)
  assert.equal(await a.text(), 'all')
})

test('a socket of the runtime at the other end', async (t) => {
  const a = await open(t)
  const { socket, at } = await plain(t)
  socket.on('message', (data, { port, address }) => socket.send(`${data}, ${data.length}`, port, address))
  for (const word of ['one', 'two', 'three']) {
    await a.send(word, at)
    assert.equal(await a.text(), `${word}, ${word.length}`)
  }
})

test(
  'unref lets the process end, ref holds it, close gives everything back',
  { skip: process.versions['bun'] ? 'Bun tells of no resources' : false },
  async (t) => {
    const a = await open(t)
    const before = await openSockets()
    a.handle.unref()
    assert.equal(await openSockets(), before - 1)
    a.handle.ref()
    assert.equal(await openSockets(), before)
    await a.close()
    assert.equal(await openSockets(), before - 1)
  },
)

if (WAY === '') {
  const ways = {
    'a runtime that never sends at once': ['later', '--test-udp-no-try-send'],
    'nothing but the public face of the runtime': ['public', '--import', 'data:text/javascript,globalThis.Deno={}'],
  }
  for (const [name, [way, ...flags]] of Object.entries(ways)) {
    test(`all of this with ${name}`, async () => {
      const { NODE_TEST_CONTEXT: _, ...env } = process.env
      const child = spawn(process.execPath, [...flags, fileURLToPath(import.meta.url)], { env: { ...env, FAIRLEAD_TEST_DGRAM: way } })
      let output = ''
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk))
      const [status] = (await once(child, 'close')) as [number]
      assert.equal(status, 0, output)
    })
  }
}
