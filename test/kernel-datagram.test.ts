/** Datagrams of the kernel driver, where the system's own manners show: what every driver promises is in the conformance tests. */

import assert from 'node:assert/strict'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { constants, networkInterfaces } from 'node:os'
import { after, afterEach, describe, test } from 'node:test'
import { type Datagram, formatAddress, type IpAddress, Network, sameAddress, type SocketError, SystemFailure } from 'fairlead'
import { settle } from 'fairlead/testing'
import type { Address } from '#src/address.js'
import type { BindSettings, DatagramHandle, OutgoingDatagram, RawDatagram } from '#src/driver.js'
import { LAYOUTS, LINUX } from '#src/drivers/kernel-layout.js'
import { newControl, readControl } from '#src/drivers/kernel-control.js'
import { Block, Memory } from '#src/drivers/kernel-memory.js'
import { writeAddress } from '#src/drivers/kernel-address.js'
import type { System } from '#src/drivers/kernel-system.js'
import { freshPath, removePaths } from './matrix.js'
import { hold } from './support/hold.js'
import { kernelMissing, type Watched, watchedKernel } from './support/kernel.js'
import { until } from './support/pairs.js'

const { errno } = constants
const skip = kernelMissing ?? false
const hasIpv6 = networkInterfaces()['lo']?.some(({ family }) => family === 'IPv6') === true
const V4: IpAddress = { family: 'ipv4', address: '127.0.0.1', port: 0 }

const SETTINGS: BindSettings = {
  type: 'datagram',
  reuseAddress: false,
  reusePort: false,
  ipv6Only: false,
  queue: { count: 1_024, bytes: 4 * 1024 * 1024 },
  held: () => {},
  options: new Map(),
}

after(removePaths)

let names = 0
const fresh = (): `unixgram:@${string}` => `unixgram:@kd${process.pid}-${++names}`
const text = ({ data }: { data: Uint8Array }): string => Buffer.from(data).toString()

/** What is to be given back after a test, and what it did with the system. */
const watched: { network: Network; ledger: Watched['ledger'] }[] = []

function world(change?: (system: System) => Partial<System>, limits?: { datagrams: number }): Network {
  const { driver, ledger } = watchedKernel(change)
  const network = new Network({ driver, limits })
  watched.push({ network, ledger })
  return network
}

afterEach(async () => {
  for (const { network, ledger } of watched.splice(0)) {
    await network.end({ abort: true })
    await settle(3)
    ledger.check()
    assert.equal(network.shared.budget.held, 0, 'bytes counted that nobody holds any more')
  }
})

async function refused(promise: Promise<unknown>): Promise<SocketError> {
  return promise.then(
    () => assert.fail('it should have failed'),
    (error: SocketError) => error,
  )
}

/** A handle of the driver, and what it was told. */
class Box {
  readonly handle: DatagramHandle
  #readable: () => void = () => {}
  #writable: () => void = () => {}

  constructor(handle: DatagramHandle) {
    this.handle = handle
    handle.attach({ readable: () => this.#readable(), writable: () => this.#writable() })
  }

  static async open(network: Network, at: Address = V4, settings: Partial<BindSettings> = {}): Promise<Box> {
    return new Box(await network.driver.bind(at, { ...SETTINGS, ...settings }))
  }

  async many(most: number): Promise<RawDatagram[]> {
    for (;;) {
      const waiting = new Promise<void>((resolve) => (this.#readable = resolve))
      const list = this.handle.receiveMany?.(most)
      if (list !== undefined) return list
      await waiting
    }
  }

  async one(): Promise<RawDatagram> {
    for (;;) {
      const waiting = new Promise<void>((resolve) => (this.#readable = resolve))
      const datagram = this.handle.receive()
      if (datagram !== undefined) return datagram
      await waiting
    }
  }

  async give(batch: readonly OutgoingDatagram[]): Promise<void> {
    for (let first = 0; first < batch.length;) {
      const waiting = new Promise<void>((resolve) => (this.#writable = resolve))
      const sent = this.handle.sendMany?.(batch, first) ?? assert.fail()
      if (sent === 0) await waiting
      first += sent
    }
  }

  close(): Promise<void> {
    return new Promise((resolve) => this.handle.close(resolve))
  }
}

/** Bytes that tell where they belong. */
const filled = (length: number, seed: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 7 + seed * 31) & 255)

describe('what comes along with a datagram', { skip }, () => {
  for (const at of ['udp://127.0.0.1:0', 'udp://*:0', ...(hasIpv6 ? ['udp://[::1]:0'] : [])] as const) {
    test(`its destination, interface and hops are told where they are asked for [${at}]`, async () => {
      const network = world()
      const b = await network.bind(at as 'udp://*:0', { receiveDetails: true })
      const from = at.includes('[') ? 'udp://[::1]:0' : 'udp://127.0.0.1:0'
      const a = await network.bind(from, { ttl: 33 })
      const { port } = b.local as IpAddress
      await a.send('x', b.endpoint)
      const { to, interface: name, ttl } = await b.receive()
      const { family, address } = a.local as IpAddress
      assert.deepEqual([to, name, ttl], [{ family, address, port }, 'lo', 33])
      assert.equal(b.get('receiveDetails'), true)
      b.set('receiveDetails', false)
      await a.send('y', b.endpoint)
      const bare = await b.receive()
      assert.deepEqual([bare.to, bare.interface, bare.ttl], [undefined, undefined, undefined])
    })
  }

  test('a group is the destination of what was sent to it', async () => {
    const network = world()
    const b = await network.bind('udp://0.0.0.0:0', { receiveDetails: true })
    const a = await network.bind('udp://127.0.0.1:0', { multicastInterface: 'lo' })
    const { port } = b.local as IpAddress
    for (const at of ['lo', '1', '127.0.0.1']) {
      b.join('239.255.7.1', { interface: at })
      await a.send(at, `udp://239.255.7.1:${port}`)
      const got = await b.receive()
      assert.deepEqual([text(got), (got.to as IpAddress).address], [at, '239.255.7.1'])
      b.leave('239.255.7.1', { interface: at })
    }
    b.join('239.255.7.2', { interface: 'lo', source: '127.0.0.1' })
    await a.send('from the source', `udp://239.255.7.2:${port}`)
    assert.equal(text(await b.receive()), 'from the source')
    b.leave('239.255.7.2', { interface: 'lo', source: '127.0.0.1' })
    for (const name of ['nosuch0', '203.0.113.9']) {
      assert.throws(
        () => b.join('239.255.7.1', { interface: name }),
        (error: SocketError) => error.code === 'ENODEV',
      )
    }
  })

  test('a control message that claims more than there is is not believed', () => {
    const { ledger } = watchedKernel()
    const block = new Block(ledger.system, 256)
    block.setInt(500)
    block.setInt(LINUX.IPPROTO_UDP, 8)
    block.setInt(LINUX.UDP_GRO, 12)
    assert.equal(readControl(block, 0, 24, newControl()).segment, 0)
    block.setInt(20)
    block.setInt(7, 16)
    assert.equal(readControl(block, 0, 24, newControl()).segment, 7)
    block.setInt(8)
    assert.equal(readControl(block, 0, 24, newControl()).segment, 0)
  })
})

describe('what the network says', { skip }, () => {
  test('without a peer, an error names the destination it is of, once, and sending goes on', async () => {
    const network = world()
    const a = await network.bind('udp://127.0.0.1:0', { receiveErrors: true })
    const b = await network.bind('udp://127.0.0.1:0')
    const gone = await network.bind('udp://127.0.0.1:0')
    await gone.close()
    await a.send('anybody?', gone.local)
    await a.waitReadable()
    await a.send('still here', b.local)
    await a.send('here, too', b.local)
    assert.deepEqual([text(await b.receive()), text(await b.receive())], ['still here', 'here, too'])
    const error = await refused(a.receive())
    assert.deepEqual([error.name, error.code, error.remote], ['Broken', 'ECONNREFUSED', gone.endpoint.slice('udp://'.length)])
    assert.equal(a.tryReceive(), undefined)
    assert.equal(a.get('receiveErrors'), true)
  })

  test('with a peer, the error is told once, and what was sent with it goes out', async () => {
    const network = world()
    const gone = await network.bind('udp://127.0.0.1:0')
    const a = await network.connect(gone.endpoint as 'udp://x:1')
    await gone.close()
    await a.send('anybody?')
    const error = await refused(a.receive())
    assert.deepEqual([error.code, error.remote], ['ECONNREFUSED', gone.endpoint.slice('udp://'.length)])
    const again = hold(await network.bind(gone.endpoint))
    await a.send('now?')
    assert.equal(text(await again.receive()), 'now?')
  })

  test('the path MTU is in the error of a datagram that is too long for it', async () => {
    let memory: Uint8Array[] = []
    let told = 0
    const network = world((system) => ({
      address: (bytes) => {
        memory.push(bytes)
        return system.address(bytes)
      },
      sendto: (...given) => (told === 0 ? -errno.EMSGSIZE : system.sendto(...given)),
      recvmsg: (fd, at, flags) => {
        if ((flags & LINUX.MSG_ERRQUEUE) === 0 || told++ > 0) return system.recvmsg(fd, at, flags)
        const blockAt = (address: number) => memory.find((bytes) => system.address(bytes) === address) ?? assert.fail()
        const header = new DataView(blockAt(at as number).buffer)
        const long = (offset: number) => Number(header.getBigUint64(offset, true))
        const control = new DataView(blockAt(long(LAYOUTS.msghdr.msg_control)).buffer)
        const { cmsg_len, cmsg_level, cmsg_type, size } = LAYOUTS.cmsghdr
        const { ee_errno, ee_origin, ee_info } = LAYOUTS.sock_extended_err
        control.setUint32(cmsg_len, 32, true)
        control.setInt32(cmsg_level, LINUX.IPPROTO_IP, true)
        control.setInt32(cmsg_type, LINUX.IP_RECVERR, true)
        control.setInt32(size + ee_errno, errno.EMSGSIZE, true)
        control.setUint8(size + ee_origin, LINUX.SO_EE_ORIGIN_LOCAL)
        control.setUint32(size + ee_info, 1_500, true)
        header.setBigUint64(LAYOUTS.msghdr.msg_controllen, 32n, true)
        return 0
      },
    }))
    const a = await network.bind('udp://127.0.0.1:0', { receiveErrors: true })
    const error = await refused(a.send(new Uint8Array(2_000), 'udp://127.0.0.1:9'))
    assert.ok(error instanceof SystemFailure)
    assert.deepEqual([error.code, error.message], ['EMSGSIZE', 'the datagram has 2000 bytes, the limit is 1472'])
    memory = []
  })

  test('whoever sent before the socket was connected is not heard', async () => {
    let connecting = false
    let stranger: number | undefined
    const network = world((system) => ({
      connect: (fd, name, length) => {
        if (connecting) {
          // Somebody else is quicker than the call.
          const memory = new Memory(system)
          memory.length.setInt(LAYOUTS.sockaddr_storage.size)
          system.getsockname(fd, memory.name.address, memory.length.address)
          stranger = system.socket(LINUX.AF_INET, LINUX.SOCK_DGRAM, 0)
          system.sendto(stranger, Buffer.from('psst'), 4, 0, memory.name.address, memory.length.int())
          system.close(stranger)
        }
        return system.connect(fd, name, length)
      },
    }))
    const b = await network.bind('udp://127.0.0.1:0')
    connecting = true
    const a = await network.connect(b.endpoint as 'udp://x:1', { from: 'udp://127.0.0.1:0' })
    assert.ok(stranger !== undefined)
    await b.send('from the peer', a.local)
    assert.equal(text(await a.receive()), 'from the peer')
    assert.equal(a.tryReceive(), undefined)
  })

  test('a system that takes nothing now is waited for', async () => {
    let left = 0
    const busy = () => left-- > 0
    const network = world((system) => ({
      send: (...given) => (busy() ? -errno.EAGAIN : system.send(...given)),
      sendto: (...given) => (busy() ? -errno.EAGAIN : system.sendto(...given)),
      sendmsg: (...given) => (busy() ? -errno.EAGAIN : system.sendmsg(...given)),
      sendmmsg: (...given) => (busy() ? -errno.EAGAIN : system.sendmmsg(...given)),
    }))
    const b = await network.bind('udp://127.0.0.1:0')
    for (const a of [await network.bind('udp://127.0.0.1:0'), await network.connect(b.endpoint as 'udp://x:1')]) {
      const to = a.remote === undefined ? b.local : undefined
      left = 3
      await a.send('one', to)
      left = 3
      assert.equal(await a.sendMany([{ data: 'two', to }]), 1)
      left = 3
      assert.equal(await a.sendMany(['three', 'of different', 'lengths'].map((data) => ({ data, to }))), 3)
      for (const wanted of ['one', 'two', 'three', 'of different', 'lengths']) assert.equal(text(await b.receive()), wanted)
    }
  })

  test('where the system will not say when, it is asked again', async () => {
    let left = 3
    const network = world((system) => ({
      sendto: (...given) => (left-- > 0 ? -errno.EAGAIN : system.sendto(...given)),
      epoll_ctl: (epoll, op, fd, event) => (op === LINUX.EPOLL_CTL_MOD ? -errno.ENOMEM : system.epoll_ctl(epoll, op, fd, event)),
    }))
    const b = await network.bind('udp://127.0.0.1:0')
    await b.send('to itself', b.local)
    assert.equal(text(await b.receive()), 'to itself')
  })

  test('what the system dropped is counted', async () => {
    const network = world()
    const b = await Box.open(network, V4, { options: new Map([['receiveBuffer', 2_304]]) })
    const a = await Box.open(network)
    let sent = 0
    for (; sent < 500; sent++) a.handle.send(new Uint8Array(100), b.handle.local, () => {})
    let got = 0
    while (b.handle.receive() !== undefined) got++
    assert.ok(got < sent)
    assert.equal(got + b.handle.dropped, sent)
    await Promise.all([a.close(), b.close()])
    assert.equal(got + b.handle.dropped, sent)
  })
})

describe('many at once', { skip }, () => {
  /** Lengths of the datagrams of one batch: runs that are cut from one message, and what interrupts them. */
  const BATCHES: Readonly<Record<string, readonly number[]>> = {
    one: [100],
    'a run': Array.from({ length: 10 }, () => 100),
    'a run that fills a message': Array.from({ length: 64 }, () => 200),
    'a run that is longer than a message': Array.from({ length: 131 }, () => 50),
    'a shorter last': [100, 100, 100, 99],
    'a shorter last of one byte': [100, 100, 1],
    'shorter and shorter': [100, 99, 98, 97, 96],
    'longer and longer': [96, 97, 98, 99],
    'empty ones between': [0, 100, 100, 0, 100, 0, 0],
    'the smallest': [1, 1, 1, 1],
    'what V8 keeps in its own heap, and what not': [63, 63, 64, 64, 65, 65],
    'as many bytes as a message has': [...Array.from({ length: 45 }, () => 1_455), 32],
    'one byte more': [...Array.from({ length: 45 }, () => 1_455), 33],
    'large ones': [20_000, 20_000, 20_000, 20_000, 5],
    'the largest': [65_507, 65_507, 65_507, 65_507, 65_507],
    'more than a call takes': Array.from({ length: 40 }, () => 9_000),
  }
  for (const [title, lengths] of Object.entries(BATCHES)) {
    test(`every datagram arrives as it was: ${title}`, async () => {
      const network = world()
      const b = await Box.open(network, V4, { options: new Map([['receiveBuffer', 4 * 1024 * 1024]]) })
      const a = await Box.open(network)
      // 1: not put together; 7: not all of what was put together is wanted.
      for (const most of [1, 7, 1_000]) {
        const batch = lengths.map((length, i) => ({ data: filled(length, i), to: b.handle.local }))
        for (let first = 0; first < batch.length; first += 40) {
          const part = batch.slice(first, first + 40)
          await a.give(part)
          const got: RawDatagram[] = []
          while (got.length < part.length) {
            const list = most === 1 ? [await b.one()] : await b.many(most)
            assert.ok(list.length <= most)
            got.push(...list)
          }
          assert.deepEqual(
            got.map(({ data }) => data),
            part.map(({ data }) => data),
          )
          assert.ok(got.every(({ from, truncated }) => !truncated && from === got[0]?.from))
          assert.deepEqual(got[0]?.from, a.handle.local)
        }
      }
      await Promise.all([a.close(), b.close()])
    })
  }

  test('runs go to each of several destinations, in order', async () => {
    const network = world()
    const [a, b, c] = await Promise.all([Box.open(network), Box.open(network), Box.open(network)])
    const batch = Array.from({ length: 90 }, (_, i) => ({ data: filled(10, i), to: (i % 9 < 4 ? b : c).handle.local }))
    await a.give(batch)
    for (const box of [b, c]) {
      const wanted = batch.filter(({ to }) => to === box.handle.local)
      const got: RawDatagram[] = []
      while (got.length < wanted.length) got.push(...(await box.many(64)))
      assert.deepEqual(
        got.map(({ data }) => data),
        wanted.map(({ data }) => data),
      )
    }
    await Promise.all([a.close(), b.close(), c.close()])
  })

  test('senders of both families are told apart, and what one sends in a row comes from the same object', { skip: !hasIpv6 }, async () => {
    const network = world()
    const b = await Box.open(network, { family: 'ipv6', address: '::', port: 0 })
    const { port } = b.handle.local as IpAddress
    const senders = await Promise.all(
      [V4, V4, { ...V4, family: 'ipv6', address: '::1' } as const, { ...V4, family: 'ipv6', address: '::1' } as const].map((at) =>
        Box.open(network, at),
      ),
    )
    const told = new Set<string>()
    let last: Address | undefined
    for (let round = 0; round < 8; round++) {
      for (const [i, { handle }] of senders.entries()) {
        const { family, address } = handle.local as IpAddress
        assert.equal(
          handle.sendMany?.(
            Array.from({ length: 1 + (i % 2) * 4 }, () => ({ data: filled(10, i), to: { family, address, port } })),
            0,
          ) !== 0,
          true,
        )
      }
      const got: RawDatagram[] = []
      while (got.length < 12) got.push(...(await b.many(64)))
      for (const { data, from } of got) {
        assert.deepEqual(from, senders[senders.findIndex((_, i) => Buffer.compare(filled(10, i), data) === 0)]?.handle.local)
        // Addresses are remembered by a few bits of them, so one may have been forgotten for another that came between.
        if (last !== undefined && sameAddress(last, from)) assert.equal(from, last)
        last = from
        told.add(formatAddress(from))
      }
      // The socket for both answers either.
      for (const { handle } of senders) assert.equal(b.handle.sendMany?.([{ data: filled(3, round), to: handle.local }], 0), 1)
      for (const sender of senders) assert.deepEqual((await sender.one()).data, filled(3, round))
    }
    assert.equal(told.size, 4)
    await Promise.all([b, ...senders].map((box) => box.close()))
  })

  test('an address that its owner changes is looked at again', async () => {
    const network = world()
    const [a, b, c] = await Promise.all([Box.open(network), Box.open(network), Box.open(network)])
    const to = { ...(b.handle.local as IpAddress) }
    a.handle.send(filled(3, 1), to, () => {})
    to.port = (c.handle.local as IpAddress).port
    a.handle.send(filled(3, 2), to, () => {})
    assert.equal(a.handle.sendMany?.([{ data: filled(3, 3), to }], 0), 1)
    assert.deepEqual((await b.one()).data, filled(3, 1))
    assert.deepEqual([(await c.one()).data, (await c.one()).data], [filled(3, 2), filled(3, 3)])
    await Promise.all([a.close(), b.close(), c.close()])
  })

  test('more destinations than are remembered, mixed with those that are', async () => {
    const network = world()
    const [a, b] = await Promise.all([Box.open(network), Box.open(network)])
    const { port } = b.handle.local as IpAddress
    const all = Array.from({ length: 700 }, (_, i): IpAddress =>
      Object.freeze({ family: 'ipv4', address: `127.0.${i >> 8}.${i & 255}`, port }),
    )
    // Those that nobody has are sent to, too: nobody is at that port of theirs.
    for (let round = 0; round < 3; round++) {
      const batch = all.flatMap((to, i) => [
        { data: filled(20, i), to },
        { data: filled(30, i), to: b.handle.local },
      ])
      const got: RawDatagram[] = []
      for (let first = 0; first < batch.length; first += 100) {
        await a.give(batch.slice(first, first + 100))
        while (got.length < (first + 100) / 2) got.push(...(await b.many(100)).filter(({ data }) => data.length === 30))
      }
      for (const [i, { data }] of got.entries()) assert.deepEqual(data, filled(30, i))
    }
    await Promise.all([a.close(), b.close()])
  })

  test('memory that datagrams have in common is bounded and nobody else’s', async () => {
    const network = world()
    const b = await Box.open(network, V4, { options: new Map([['receiveBuffer', 4 * 1024 * 1024]]) })
    const a = await Box.open(network)
    for (let round = 0; round < 4; round++) {
      await a.give(Array.from({ length: 60 }, (_, i) => ({ data: filled(1_000, i), to: b.handle.local })))
      const got: RawDatagram[] = []
      while (got.length < 60) got.push(...(await b.many(64)))
      for (const [i, { data }] of got.entries()) {
        assert.ok(data.buffer.byteLength <= 16 * 1024)
        data.fill(i)
      }
      for (const [i, { data }] of got.entries()) assert.ok(data.every((byte) => byte === i))
    }
    await Promise.all([a.close(), b.close()])
  })

  test('nothing that waits is lost when the ways of receiving are mixed', async () => {
    const network = world()
    const b = await network.bind('udp://127.0.0.1:0', { receiveBuffer: 4 * 1024 * 1024 })
    const a = await network.bind('udp://127.0.0.1:0')
    const all = Array.from({ length: 400 }, (_, i) => `${i}`)
    await a.sendMany(all.map((data) => ({ data, to: b.local })))
    const got: string[] = []
    for (let round = 0; got.length < all.length; round++) {
      const list: Datagram[] =
        round % 3 === 0 ? [await b.receive()] : round % 3 === 1 ? await b.receiveMany(5) : [b.tryReceive() ?? (await b.receive())]
      got.push(...list.map(text))
    }
    assert.deepEqual(got, all)
  })

  test('whatever is sent in whatever way arrives in order, whatever way it is received', async () => {
    for (let seed = 1; seed <= 12; seed++) {
      let state = seed * 0x9e3779b1
      const below = (n: number) => {
        state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x1234567
        return ((state ^ (state >>> 12)) >>> 0) % n
      }
      const network = world()
      const b = await Box.open(network, V4, {
        options: new Map<string, unknown>([
          ['receiveBuffer', 4 * 1024 * 1024],
          ['receiveDetails', seed % 2 === 0],
        ]),
      })
      const a = await Box.open(network)
      const SIZES = [0, 1, 63, 64, 65, 500, 1_472, 9_000]
      const sent: Uint8Array[] = []
      const got: Uint8Array[] = []
      for (let round = 0; round < 40; round++) {
        const size = SIZES[below(SIZES.length)] as number
        const batch = Array.from({ length: 1 + below(100) }, () => {
          const data = filled(below(8) === 0 ? below(size + 1) : size, sent.length)
          sent.push(data)
          return { data, to: b.handle.local }
        })
        if (below(3) === 0) for (const { data, to } of batch) a.handle.send(data, to, (error) => assert.equal(error, undefined))
        else await a.give(batch)
        // Some rounds receive nothing, or not all; a turn of the loop has the rest taken over.
        if (below(3) === 0) await settle(1)
        while (got.length < sent.length && below(40) > 0) {
          if (below(2) === 0) got.push((await b.one()).data)
          else got.push(...(await b.many(1 + below(70))).map(({ data }) => data))
        }
      }
      while (got.length < sent.length) got.push(...(await b.many(64)).map(({ data }) => data))
      assert.equal(b.handle.dropped, 0, `seed ${seed}`)
      for (const [i, data] of got.entries()) assert.ok(Buffer.compare(data, sent[i] as Uint8Array) === 0, `datagram ${i}, seed ${seed}`)
      await Promise.all([a.close(), b.close()])
    }
  })

  for (const [title, code, size] of [
    ['a device that cannot cut', 'EIO', 100],
    ['a system that does not know it', 'EINVAL', 100],
    ['a path that is too narrow for the pieces', 'EINVAL', 2_000],
    ['the same as Linux 6 says it', 'EMSGSIZE', 2_000],
  ] as const) {
    test(`what cannot be cut is sent one by one, and it is remembered: ${title}`, async () => {
      let tried = 0
      let memory: Uint8Array[] = []
      const network = world((system) => {
        const cut = (at: number) => {
          const header = memory.find((bytes) => system.address(bytes) === at) ?? assert.fail()
          return new DataView(header.buffer).getUint32(LAYOUTS.msghdr.msg_controllen, true) > 0
        }
        const failing = (at: unknown) => {
          if (!cut(at as number)) return 0
          tried++
          return -errno[code]
        }
        return {
          address: (bytes) => {
            memory.push(bytes)
            return system.address(bytes)
          },
          sendmsg: (fd, at, flags) => failing(at) || system.sendmsg(fd, at, flags),
          sendmmsg: (fd, at, count, flags) => failing(at) || system.sendmmsg(fd, at, count, flags),
        }
      })
      const [a, b] = await Promise.all([Box.open(network), Box.open(network)])
      for (let round = 0; round < 3; round++) {
        const batch = Array.from({ length: 20 }, (_, i) => ({ data: filled(size, i), to: b.handle.local }))
        await a.give(batch)
        const got: RawDatagram[] = []
        while (got.length < 20) got.push(...(await b.many(64)))
        assert.deepEqual(
          got.map(({ data }) => data),
          batch.map(({ data }) => data),
        )
      }
      assert.equal(tried, 1)
      await Promise.all([a.close(), b.close()])
      memory = []
    })
  }

  test('a destination that cannot be sent to does not end the cutting', async () => {
    let messages = 0
    const network = world((system) => ({
      sendmsg: (...given) => (messages++, system.sendmsg(...given)),
      sendmmsg: (fd, at, count, flags) => ((messages += count), system.sendmmsg(fd, at, count, flags)),
    }))
    const [a, b] = await Promise.all([Box.open(network), Box.open(network)])
    const nowhere: IpAddress = { family: 'ipv4', address: '127.0.0.1', port: 0 }
    const run = (to: Address) => Array.from({ length: 20 }, (_, i) => ({ data: filled(100, i), to }))
    assert.throws(() => a.handle.sendMany?.(run(nowhere), 0), { code: 'EINVAL' })
    messages = 0
    await a.give(run(b.handle.local))
    assert.equal(messages, 1)
    const got: RawDatagram[] = []
    while (got.length < 20) got.push(...(await b.many(64)))
    await Promise.all([a.close(), b.close()])
  })

  test('an error of sending is of the datagram at which the call began', async () => {
    const network = world()
    const [a, b] = await Promise.all([Box.open(network), Box.open(network)])
    const away: IpAddress = { family: 'ipv4', address: '255.255.255.255', port: 9 }
    const batch = [b.handle.local, b.handle.local, away, b.handle.local].map((to, i) => ({ data: filled(10, i), to }))
    assert.equal(a.handle.sendMany?.(batch, 0), 2)
    assert.throws(() => a.handle.sendMany?.(batch, 2), { code: 'EACCES' })
    assert.equal(a.handle.sendMany?.(batch, 3), 1)
    await Promise.all([a.close(), b.close()])
  })

  test('a datagram that was cut off says so', async () => {
    let memory: Uint8Array[] = []
    let room: number | undefined
    const network = world((system) => {
      const blockAt = (address: number) => memory.find((bytes) => system.address(bytes) === address) ?? assert.fail()
      const narrow = (at: unknown, call: () => number) => {
        if (room === undefined) return call()
        const vectors = new DataView(
          blockAt(Number(new DataView(blockAt(at as number).buffer).getBigUint64(LAYOUTS.msghdr.msg_iov, true))).buffer,
        )
        const before = vectors.getUint32(LAYOUTS.iovec.iov_len, true)
        vectors.setUint32(LAYOUTS.iovec.iov_len, room, true)
        const result = call()
        vectors.setUint32(LAYOUTS.iovec.iov_len, before, true)
        return result
      }
      return {
        address: (bytes) => {
          memory.push(bytes)
          return system.address(bytes)
        },
        recvmsg: (fd, at, flags) => narrow(at, () => system.recvmsg(fd, at, flags)),
        recvmmsg: (fd, at, count, flags, wait) => narrow(at, () => system.recvmmsg(fd, at, count, flags, wait)),
      }
    })
    for (const at of [V4, { family: 'unix', path: `kd-cut-${process.pid}`, abstract: true } as const]) {
      const b = await Box.open(network, at)
      const a = await Box.open(network, at.family === 'unix' ? { ...at, path: `${at.path}-2` } : at)
      for (const most of [1, 8]) {
        for (const length of [4, 5]) a.handle.send(filled(length, 1), b.handle.local, () => {})
        room = 4
        const got: RawDatagram[] = []
        while (got.length < 2) got.push(...(most === 1 ? [await b.one()] : await b.many(most)))
        room = undefined
        // Only the first of several in one call has the narrow room here.
        assert.deepEqual([got[0]?.truncated, got[0]?.data], [false, filled(4, 1)])
        if (most === 1 || at.family === 'unix') assert.deepEqual([got[1]?.truncated, got[1]?.data], [true, filled(5, 1).subarray(0, 4)])
      }
      await Promise.all([a.close(), b.close()])
    }
    memory = []
  })
})

describe('UNIX-domain datagrams', { skip }, () => {
  test('a path is its owner’s alone, goes at the close, and one that nobody answers is taken', async () => {
    const network = world()
    const path = await freshPath()
    const a = await network.bind(`unixgram:${path}`)
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.equal((await refused(network.bind(`unixgram:${path}`))).code, 'EADDRINUSE')
    await a.close()
    assert.equal(existsSync(path), false)

    const { system } = watchedKernel().ledger
    const memory = new Memory(system)
    const dead = system.socket(LINUX.AF_UNIX, LINUX.SOCK_DGRAM, 0)
    assert.equal(system.bind(dead, memory.name.address, writeAddress(memory.name, { family: 'unix', path, abstract: false })), 0)
    system.close(dead)
    assert.equal(existsSync(path), true)
    const b = await network.bind(`unixgram:${path}`)
    const c = await network.connect(`unixgram:${path}`)
    await c.send('found')
    assert.equal(text(await b.receive()), 'found')
  })

  test('a file that is no socket, and a name that is another’s by now, are left alone', async () => {
    const network = world()
    const { renameSync, writeFileSync } = await import('node:fs')
    const path = await freshPath()
    writeFileSync(path, 'kept')
    assert.equal((await refused(network.bind(`unixgram:${path}`))).code, 'EADDRINUSE')
    assert.equal(statSync(path).size, 4)
    const own = await freshPath()
    const a = await network.bind(`unixgram:${own}`)
    renameSync(path, own)
    await a.close()
    assert.equal(statSync(own).size, 4)
  })

  test('who connects without a name gets one, and can be answered', async () => {
    const network = world()
    const b = await network.bind(fresh())
    const a = await network.connect(b.endpoint as `unixgram:${string}`)
    assert.ok(a.local.family === 'unix' && a.local.abstract && a.local.path.length > 0)
    await a.send('question')
    await b.send('answer', (await b.receive()).from)
    assert.equal(text(await a.receive()), 'answer')
  })

  test('who has no name is told as nobody', async () => {
    const network = world()
    const b = await network.bind(fresh())
    const { system } = watchedKernel().ledger
    const memory = new Memory(system)
    const fd = system.socket(LINUX.AF_UNIX, LINUX.SOCK_DGRAM, 0)
    system.sendto(fd, Buffer.from('x'), 1, 0, memory.name.address, writeAddress(memory.name, b.local))
    system.close(fd)
    assert.deepEqual((await b.receive()).from, { family: 'unix', path: '', abstract: false })
  })

  for (const way of ['connected', 'by address', 'large'] as const) {
    test(`a full queue makes the sender wait, until there is room [${way}]`, async () => {
      const network = world()
      const b = await network.bind(fresh())
      const a = way === 'connected' ? await network.connect(b.endpoint as `unixgram:${string}`) : await network.bind(fresh())
      const COUNT = way === 'large' ? 60 : 300
      const data = (i: number) => (way === 'large' ? filled(40_000, i) : filled(8, i))
      let sent = 0
      const sending = (async () => {
        for (let i = 0; i < COUNT; i++, sent++) await a.send(data(i), way === 'connected' ? undefined : b.local)
      })()
      await settle(20)
      assert.ok(sent < COUNT)
      for (let i = 0; i < COUNT; i++) assert.deepEqual((await b.receive({ timeout: 5_000 })).data, data(i))
      await sending
    })
  }

  test('who waits for room is told when the receiver is gone', async () => {
    const network = world()
    const b = await network.bind(fresh())
    const a = await network.bind(fresh())
    const sending = (async () => {
      for (;;) await a.send('x', b.local)
    })()
    sending.catch(() => {})
    await settle(20)
    await b.close()
    assert.match((await refused(sending)).code, /ECONNREFUSED|ENOENT/)
  })

  test('a closed socket waits for no room', async () => {
    const network = world()
    const b = await network.bind(fresh())
    const a = await network.bind(fresh())
    const sending = (async () => {
      for (;;) await a.send('x', b.local)
    })()
    sending.catch(() => {})
    await settle(20)
    a.abort()
    assert.equal((await refused(sending)).code, 'ABORTED')
  })

  test('one of more than 64 KiB arrives whole; what the system cannot carry is refused with the limit', async () => {
    const network = world()
    const b = await network.bind(fresh(), { receiveBuffer: 400_000 })
    const a = await network.bind(fresh(), { sendBuffer: 100_000 })
    await a.send(filled(150_000, 3), b.local)
    assert.deepEqual((await b.receive()).data, filled(150_000, 3))
    const limit = a.get('sendBuffer') - 32
    const error = await refused(a.send(new Uint8Array(limit + 1), b.local))
    assert.deepEqual([error.code, error.message], ['EMSGSIZE', `the datagram has ${limit + 1} bytes, the limit is ${limit}`])
    await a.send('short', b.local)
    assert.equal(text(await b.receive()), 'short')
  })
})

/** Sends with standard output along, as a stranger might. */
function sendDescriptor(system: System, type: number, to: Address): void {
  const { message, vector, control, name, slab } = new Memory(system)
  const fd = system.socket(LINUX.AF_UNIX, type, 0)
  const length = writeAddress(name, to)
  if (type === LINUX.SOCK_SEQPACKET) assert.equal(system.connect(fd, name.address, length), 0)
  const { cmsg_len, cmsg_level, cmsg_type, size } = LAYOUTS.cmsghdr
  control.setLong(size + 4, cmsg_len)
  control.setInt(LINUX.SOL_SOCKET, cmsg_level)
  control.setInt(LINUX.SCM_RIGHTS, cmsg_type)
  control.setInt(1, size)
  vector.setLong(slab.address, LAYOUTS.iovec.iov_base)
  vector.setLong(5, LAYOUTS.iovec.iov_len)
  const named = type === LINUX.SOCK_DGRAM
  message.setLong(named ? name.address : 0, LAYOUTS.msghdr.msg_name)
  message.setInt(named ? length : 0, LAYOUTS.msghdr.msg_namelen)
  message.setLong(vector.address, LAYOUTS.msghdr.msg_iov)
  message.setLong(1, LAYOUTS.msghdr.msg_iovlen)
  message.setLong(control.address, LAYOUTS.msghdr.msg_control)
  message.setLong(size + 4, LAYOUTS.msghdr.msg_controllen)
  assert.equal(system.sendmsg(fd, message.address, 0), 5)
  system.close(fd)
}

test('descriptors that come with datagrams are not taken, so none is left open', { skip }, async () => {
  const network = world()
  const { system } = watchedKernel().ledger
  const descriptors = () => readdirSync('/proc/self/fd').length
  const a = await network.bind(fresh())
  const at = `unixpacket:@kp${process.pid}-${++names}` as const
  const b = await network.bind(at)
  // What is made at first use is made.
  await a.send('to itself', a.local)
  await a.receive()
  sendDescriptor(system, LINUX.SOCK_SEQPACKET, b.local)
  const before = descriptors()
  assert.equal((await b.receive()).data.length, 5)
  assert.equal(descriptors(), before)
  for (let i = 0; i < 3; i++) {
    sendDescriptor(system, LINUX.SOCK_DGRAM, a.local)
    assert.equal((await a.receiveMany(3)).length, 1)
  }
  assert.equal(descriptors(), before)
})

describe('sequenced packets', { skip }, () => {
  const packets = (): `unixpacket:@${string}` => `unixpacket:@kp${process.pid}-${++names}`

  test('two exchange them, both ways, whole and in order, empty ones, too', async () => {
    const network = world()
    const at = packets()
    const b = await network.bind(at)
    assert.equal(b.remote, undefined)
    const first = b.receive()
    const a = await network.connect(at)
    await a.send('one')
    await a.send('')
    await a.send(filled(100_000, 1))
    assert.equal(text(await first), 'one')
    assert.equal((await b.receive()).data.length, 0)
    assert.deepEqual((await b.receive()).data, filled(100_000, 1))
    await b.send('back')
    assert.equal(text(await a.receive()), 'back')
    assert.deepEqual([a.get('type'), b.get('type')], ['seqpacket', 'seqpacket'])
  })

  test('the first that connects is the peer, and the only one', async () => {
    const network = world()
    const path = await freshPath()
    const b = await network.bind(`unixpacket:${path}`)
    const a = await network.connect(`unixpacket:${path}`)
    await a.send('x')
    await b.receive()
    assert.equal((await refused(network.connect(`unixpacket:${path}`))).code, 'ECONNREFUSED')
    assert.deepEqual([a.remote, b.local], [b.local, a.remote])
    await b.close()
    assert.equal(existsSync(path), false)
    assert.equal((await refused(network.connect(`unixpacket:${path}`))).code, 'ENOENT')
  })

  test('the end of the peer is told each time, behind what it sent', async () => {
    const network = world()
    const at = packets()
    const b = await network.bind(at)
    const a = await network.connect(at)
    await a.send('last words')
    await a.close()
    assert.equal(text(await b.receive()), 'last words')
    for (let i = 0; i < 2; i++) assert.equal((await refused(b.receive())).code, 'ECONNRESET')
    assert.equal((await refused(b.send('x'))).code, 'EPIPE')
    assert.equal((await b.close()).clean, true)
  })

  test('a full peer makes the sender wait', async () => {
    const network = world()
    const at = packets()
    const b = await network.bind(at)
    const a = await network.connect(at)
    const COUNT = 400
    let sent = 0
    const sending = (async () => {
      for (; sent < COUNT; sent++) await a.send(filled(2_000, sent))
    })()
    await settle(20)
    assert.ok(sent < COUNT)
    for (let i = 0; i < COUNT; i++) assert.deepEqual((await b.receive({ timeout: 5_000 })).data, filled(2_000, i))
    await sending
  })

  test('there is nobody to send to before one connects; the one that is bound may begin', async () => {
    const network = world()
    const at = packets()
    const b = await network.bind(at)
    assert.equal((await refused(b.send('nobody'))).code, 'EDESTADDRREQ')
    const a = await network.connect(at)
    await until('the peer is there', () => b.remote !== undefined)
    await b.send('hello')
    assert.equal(text(await a.receive()), 'hello')
    await b.close()
    assert.equal((await refused(a.receive())).code, 'ECONNRESET')
  })

  test('one that nobody connects to is closed as any other', async () => {
    const network = world()
    const b = await network.bind(packets())
    const waiting = b.receive()
    b.unref().ref()
    await b.close()
    assert.equal((await refused(waiting)).code, 'CLOSED')
    assert.equal((await refused(network.driver.bind(V4, { ...SETTINGS, type: 'seqpacket' }))).code, 'UNSUPPORTED')
  })
})

describe('its descriptor', { skip }, () => {
  test('is given away with what waits in it, unless something was taken from it', async () => {
    const network = world()
    const a = await Box.open(network)
    const b = await Box.open(network)
    a.handle.send(filled(3, 1), b.handle.local, () => {})
    const fd = b.handle.give?.() ?? assert.fail()
    assert.equal(b.handle.descriptor, -1)
    await b.close()
    const again = new Box((await network.driver.adoptDatagram?.(fd, SETTINGS)) ?? assert.fail())
    assert.deepEqual((await again.one()).data, filled(3, 1))
    let held = 0
    const c = await Box.open(network, V4, { held: (change) => (held += change) })
    a.handle.send(filled(3, 1), c.handle.local, () => {})
    await until('it is taken over, as nobody asks for it', () => held === 3)
    assert.throws(() => c.handle.give?.(), { code: 'EBUSY' })
    await c.one()
    await Promise.all([a.close(), again.close(), c.close()])
  })
})
