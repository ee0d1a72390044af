/** Descriptors sent, received and given away: by handles that can, and by those that cannot. */

import assert from 'node:assert/strict'
import { closeSync, fstatSync, openSync } from 'node:fs'
import { devNull } from 'node:os'
import { after, describe, test } from 'node:test'
import { Busy, Closed, Denied, Network, SocketError, SystemFailure } from 'fairlead'
import {
  type ConnectionPairOptions,
  connectHandles,
  memory,
  memoryPair,
  settle,
  type StreamHandle,
  type TestPair,
  VirtualClock,
} from 'fairlead/testing'
import { NETWORKS, removePaths } from './matrix.js'
import { hold } from './support/hold.js'
import { descriptors, pairOver, pattern, until } from './support/pairs.js'

const text = (bytes: Uint8Array | null | undefined): string => Buffer.from(bytes ?? []).toString('latin1')

async function failure(promise: Promise<unknown>): Promise<SocketError> {
  const error = await promise.then(
    (value) => assert.fail(`resolved with ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof SocketError, String(error))
  return error
}

const isOpen = (fd: number): boolean => {
  try {
    fstatSync(fd)
    return true
  } catch {
    return false
  }
}
const anyFile = (): number => openSync(devNull, 'r')

/** What is under way between two handles: where in the stream each message with descriptors begins. */
interface Wire {
  readonly parcels: { readonly at: number; readonly count: number; readonly made: readonly number[] }[]
  sent: number
  received: number
}

/**
 * A handle in memory as one of a UNIX socket: descriptors go along with bytes, and arrive as new ones, here of the null device.
 * A read stops before the next parcel, as in the system.
 */
function passing(handle: StreamHandle, out: Wire, into: Wire, o: { fails?: () => string | undefined; number?: number } = {}): StreamHandle {
  const { write, writev, read } = handle
  const name = { family: 'unix', path: '/run/test', abstract: false } as const
  let given = false
  const upTo = (limit: number): number => {
    const next = into.parcels.find(({ at }) => at > into.received)
    return next === undefined ? limit : Math.min(limit, next.at - into.received)
  }
  const counted = (chunk: Uint8Array | null | undefined): Uint8Array | null | undefined => {
    into.received += chunk?.length ?? 0
    return chunk
  }
  Object.defineProperty(handle, 'local', { value: name })
  Object.defineProperty(handle, 'descriptor', { get: () => (given ? -1 : (o.number ?? 1_000)) })
  return Object.assign(handle, {
    write: (data: Uint8Array) => {
      const count = write.call(handle, data)
      out.sent += count
      return count
    },
    writev: (data: readonly Uint8Array[]) => {
      const count = writev.call(handle, data)
      out.sent += count
      return count
    },
    read: (limit: number) => {
      for (const parcel of into.parcels.filter(({ at }) => at === into.received)) for (const fd of parcel.made) closeSync(fd)
      return counted(read.call(handle, upTo(limit)))
    },
    sendDescriptors: (data: Uint8Array, numbers: readonly number[]) => {
      const code = o.fails?.()
      if (code !== undefined) throw Object.assign(new Error(`sendmsg ${code}`), { code })
      const count = write.call(handle, data)
      if (count > 0) out.parcels.push({ at: out.sent, count: numbers.length, made: numbers.map(anyFile) })
      out.sent += count
      return count
    },
    receiveDescriptors: (limit: number, most: number) => {
      const parcel = into.parcels.find(({ at }) => at === into.received)
      const data = counted(read.call(handle, upTo(limit)))
      if (!data) return data
      const all = parcel?.made ?? []
      if (all.length <= most) return { data, descriptors: all, surplus: 0 }
      for (const fd of all) closeSync(fd)
      return { data, descriptors: [], surplus: all.length }
    },
    give: () => {
      given = true
      return o.number ?? 1_000
    },
  })
}

function passingPair(o: ConnectionPairOptions & { fails?: () => string | undefined; number?: number } = {}): TestPair {
  const { fails, number, ...rest } = o
  const [one, other] = memoryPair(rest)
  const wires: [Wire, Wire] = [
    { parcels: [], sent: 0, received: 0 },
    { parcels: [], sent: 0, received: 0 },
  ]
  const own = { ...(fails && { fails }), ...(number !== undefined && { number }) }
  return connectHandles(passing(one, wires[0], wires[1], own), passing(other, wires[1], wires[0]), rest)
}

describe('descriptors', () => {
  test('come with the bytes they were sent with, in order among the writes', async () => {
    await using pair = passingPair()
    const [one, two] = [anyFile(), anyFile()]
    await Promise.all([
      pair.a.write('before'),
      pair.a.sendDescriptors([one]),
      pair.a.sendDescriptors([one, two], Buffer.from('two of them')),
      pair.a.write('after'),
    ])
    await pair.a.end()
    assert.deepEqual(await pair.b.receiveDescriptors(), { data: new Uint8Array(Buffer.from('before')), descriptors: [] })
    const first = await pair.b.receiveDescriptors()
    assert.deepEqual(first?.data, Uint8Array.of(0))
    assert.equal(first?.descriptors.length, 1)
    const second = await pair.b.receiveDescriptors({ limit: 11 })
    assert.equal(text(second?.data), 'two of them')
    assert.equal(second?.descriptors.length, 2)
    assert.equal(text((await pair.b.receiveDescriptors())?.data), 'after')
    assert.equal(await pair.b.receiveDescriptors(), null)
    for (const fd of [...(first?.descriptors ?? []), ...(second?.descriptors ?? [])]) closeSync(fd)
    // The sender's own stay its own.
    closeSync(one)
    closeSync(two)
    assert.equal(pair.a.stats.bytesWritten, 6 + 1 + 11 + 5)
    assert.equal(pair.b.stats.bytesRead, 6 + 1 + 11 + 5)
  })

  test('beyond what was asked for are refused, none stays open, and no byte is lost', async () => {
    const before = descriptors()
    await using pair = passingPair()
    const fd = anyFile()
    await pair.a.sendDescriptors([fd, 1, 2], Buffer.from('three'))
    await pair.a.sendDescriptors([fd], Buffer.from('one'))
    const error = await failure(pair.b.receiveDescriptors({ max: 2 }))
    assert.ok(error instanceof Denied)
    assert.equal(error.code, 'DESCRIPTORS')
    assert.match(error.message, /3 came, at most 2 were asked for/)
    assert.equal(text(await pair.b.readExactly(5)), 'three')
    const next = await pair.b.receiveDescriptors({ max: 1 })
    assert.equal(text(next?.data), 'one')
    for (const one of next?.descriptors ?? []) closeSync(one)
    closeSync(fd)
    await until('none is left open', () => (descriptors() ?? 0) <= (before ?? 0))
  })

  test('that this process has no room for are refused as such', async () => {
    await using pair = passingPair()
    await pair.a.write('some')
    const handle = pair.b.life.handle as { receiveDescriptors: unknown }
    handle.receiveDescriptors = (limit: number) => ({ data: pair.b.life.handle.read(limit), descriptors: [], surplus: 2 })
    assert.equal((await failure(pair.b.receiveDescriptors())).code, 'EMFILE')
    assert.equal(text(await pair.b.read()), 'some')
  })

  test('that come with bytes of another read are closed', async () => {
    const before = descriptors()
    await using pair = passingPair()
    await pair.a.sendDescriptors([0, 1], Buffer.from('read plainly'))
    assert.equal(text(await pair.b.read()), 'read plainly')
    await until('none is left open', () => (descriptors() ?? 0) <= (before ?? 0))
  })

  test('are received once they come; a receive that is cancelled has taken nothing', async () => {
    const clock = new VirtualClock()
    await using pair = passingPair({ clock })
    const late = failure(pair.b.receiveDescriptors({ timeout: 100 }))
    assert.ok((await failure(pair.b.read())) instanceof Busy)
    await clock.advance(100)
    assert.equal((await late).code, 'DEADLINE')
    const waiting = pair.b.receiveDescriptors()
    await pair.a.sendDescriptors([0])
    const received = await waiting
    assert.equal(received?.descriptors.length, 1)
    for (const fd of received?.descriptors ?? []) closeSync(fd)
  })

  test('are sent when their turn comes, with what else waits for room', async () => {
    const clock = new VirtualClock()
    await using pair = passingPair({ capacity: 1000, clock })
    const filling = pair.a.write(pattern(200_000))
    const sending = pair.a.sendDescriptors([0], pattern(5_000, 1))
    const late = failure(pair.a.sendDescriptors([1], new Uint8Array(1), { timeout: 50 }))
    await clock.advance(50)
    const error = await late
    assert.deepEqual([error.code, error.bytesWritten], ['DEADLINE', 0])
    assert.equal((await pair.b.readExactly(200_000))?.length, 200_000)
    const first = await pair.b.receiveDescriptors()
    assert.equal(first?.descriptors.length, 1)
    const rest = await pair.b.readExactly(5_000 - (first?.data.length ?? 0))
    assert.deepEqual(Buffer.concat([first?.data as Uint8Array, rest as Uint8Array]), Buffer.from(pattern(5_000, 1)))
    await Promise.all([filling, sending])
    for (const fd of first?.descriptors ?? []) closeSync(fd)
  })

  test('that the system refuses fail alone; what breaks the stream breaks it', async () => {
    let code: string | undefined = 'EBADF'
    await using pair = passingPair({ fails: () => code })
    const refused = await failure(pair.a.sendDescriptors([9_999]))
    assert.ok(refused instanceof SystemFailure)
    assert.deepEqual([refused.code, refused.op, refused.bytesWritten], ['EBADF', 'sendDescriptors', 0])
    assert.match(refused.message, /^cannot send these descriptors: there is no such descriptor/)
    await pair.a.write('goes on')
    assert.equal(text(await pair.b.read()), 'goes on')
    code = 'EPIPE'
    assert.equal((await failure(pair.a.sendDescriptors([0]))).code, 'EPIPE')
    assert.equal((await failure(pair.a.write('x'))).code, 'EPIPE')
  })

  test('of sockets are given away: the objects are consumed once they are sent, and not before', async () => {
    await using pair = passingPair({ capacity: 10 })
    const number = anyFile()
    await using passed = passingPair({ number })
    const closed: unknown[] = []
    void passed.a.closed.then((report) => closed.push(report))
    const filling = pair.a.write(pattern(100_000))
    const sending = pair.a.sendDescriptors([passed.a])
    await settle(3)
    assert.equal(passed.a.state, 'open')
    await pair.b.readExactly(100_000)
    const got = await pair.b.receiveDescriptors()
    await Promise.all([filling, sending])
    assert.equal(got?.descriptors.length, 1)
    for (const fd of got?.descriptors ?? []) closeSync(fd)
    assert.equal(isOpen(number), false, 'the sender needs its own no more')
    const error = await failure(passed.a.write('x'))
    assert.ok(error instanceof Closed)
    assert.equal(error.code, 'CONSUMED')
    await settle(1)
    assert.deepEqual(closed, [{ clean: true, unsent: 0 }])
    assert.equal(passed.owner.sockets().includes(passed.a), false)
  })

  test('of a socket that is in use, or closed meanwhile, are not sent, and it stays what it is', async () => {
    await using pair = passingPair({ capacity: 10 })
    await using passed = passingPair()
    const reading = passed.a.read()
    assert.equal((await failure(pair.a.sendDescriptors([passed.a]))).code, 'BUSY')
    await passed.b.write('x')
    await reading
    const filling = pair.a.write(pattern(100_000))
    const sending = failure(pair.a.sendDescriptors([passed.a]))
    const behind = pair.a.write('behind')
    await passed.a.close()
    await pair.b.readExactly(100_000)
    assert.equal((await sending).code, 'CLOSED')
    assert.equal(text(await pair.b.readExactly(6)), 'behind')
    await Promise.all([filling, behind])
  })

  test('are checked before anything is sent', async () => {
    await using pair = passingPair()
    const out = { name: 'RangeError' }
    await assert.rejects(pair.a.sendDescriptors([]), { ...out, message: /^descriptors must be 1 to 253 of them/ })
    await assert.rejects(pair.a.sendDescriptors(Array.from({ length: 254 }, (_, i) => i)), out)
    await assert.rejects(pair.a.sendDescriptors([-1]), out)
    await assert.rejects(pair.a.sendDescriptors([0, 0]), { ...out, message: /all different/ })
    await assert.rejects(pair.a.sendDescriptors([0], new Uint8Array(0)), { ...out, message: /^data must be at least one byte/ })
    await assert.rejects(pair.a.sendDescriptors(['0'] as never), {
      name: 'TypeError',
      message: /^descriptors\[0\] must be a number, a Conn/,
    })
    await assert.rejects(pair.a.sendDescriptors(5 as never), { name: 'TypeError' })
    await assert.rejects(pair.b.receiveDescriptors({ max: 254 }), out)
    await assert.rejects(pair.b.receiveDescriptors({ most: 4 } as never), { code: 'UNKNOWN_OPTION' })
    assert.equal((await failure(pair.a.sendDescriptors([0], Buffer.from('x'), { timeout: 0 }))).code, 'DEADLINE')
    assert.equal(pair.b.tryRead(), undefined)
  })

  test('travel over UNIX connections alone, and a driver that cannot says who can', async () => {
    await using tcp = await pairOver('tcp')
    const overTcp = await failure(tcp.a.sendDescriptors([0]))
    assert.equal(overTcp.code, 'UNSUPPORTED')
    assert.match(overTcp.message, /^descriptors travel over unix: connections alone, not over tcp:/)
    assert.equal((await failure(tcp.a.receiveDescriptors())).code, 'UNSUPPORTED')
    await using network = new Network({ driver: memory() })
    await using listener = await network.listen('unix:@descriptors')
    await using client = await network.connect(listener.endpoint)
    for (const promise of [client.sendDescriptors([0]), client.receiveDescriptors()]) {
      const error = await failure(promise)
      assert.equal(error.code, 'UNSUPPORTED')
      assert.match(error.message, /^the driver memory cannot, and the driver kernel can, (?:send|receive) descriptors/)
    }
  })
})

describe('release', () => {
  test('gives the descriptor away and consumes the connection', async () => {
    await using pair = passingPair({ number: 77 })
    const events: string[] = []
    pair.trace.subscribe((event) => event.type === 'close' && events.push(event.report.clean ? 'clean' : 'not'))
    assert.equal(pair.a.descriptor, 77)
    assert.equal(pair.a.release(), 77)
    assert.equal(pair.a.descriptor, undefined)
    assert.deepEqual(await pair.a.closed, { clean: true, unsent: 0 })
    assert.equal((await failure(pair.a.read())).code, 'CONSUMED')
    assert.throws(() => pair.a.release(), { code: 'CONSUMED' })
    assert.deepEqual(events, ['clean'])
  })

  test('is refused while something is pending, unread or unsent', async () => {
    await using pair = passingPair({ capacity: 100 })
    const reading = pair.a.read()
    assert.throws(() => pair.a.release(), { name: 'Busy', code: 'BUSY', message: /release while read has it/ })
    await pair.b.write('x')
    await reading
    await pair.b.write('unread')
    await pair.a.peek()
    assert.throws(() => pair.a.release(), { name: 'Busy', code: 'UNREAD', message: /6 of them/ })
    await pair.a.read()
    const loop = pair.a[Symbol.asyncIterator]()
    const step = loop.next()
    await pair.b.write('y')
    await step
    assert.throws(() => pair.a.release(), { code: 'BUSY' })
    await loop.return?.()
    await pair.a.write(pattern(1_000))
    assert.throws(() => pair.a.release(), { name: 'Busy', code: 'UNSENT' })
    await pair.b.readExactly(1_000)
    assert.equal(pair.a.release(), 1_000)
  })

  test('is refused by drivers that cannot, and who can is said', async () => {
    const unsupported = {
      name: 'SystemFailure',
      code: 'UNSUPPORTED',
      message: /^the driver memory cannot, and the driver kernel can, give/,
    }
    await using network = new Network({ driver: memory() })
    await using listener = await network.listen('tcp://127.0.0.1:0')
    await using client = await network.connect(listener.endpoint)
    await using socket = await network.bind('udp://127.0.0.1:0')
    assert.throws(() => client.release(), unsupported)
    assert.throws(() => listener.release(), unsupported)
    assert.throws(() => socket.release(), unsupported)
    for (const { descriptor } of [client, listener, socket]) assert.equal(descriptor, undefined)
  })
})

after(removePaths)

const CELLS = (await NETWORKS()).filter(({ driver, missing }) => driver === 'kernel' && missing === undefined)
for (const cell of CELLS) {
  describe(`the descriptors of ${cell.name}`, () => {
    test('a listener and a connection are released and adopted, and go on', { skip: cell.transport.includes('tls') }, async () => {
      const { network } = await cell.network()
      const first = await network.listen(await cell.endpoint())
      const { endpoint } = first
      const fd = first.release()
      assert.equal((await failure(first.accept())).code, 'CONSUMED')
      await using listener = await network.listen({ fd })
      // One at a path was bound beside it, and is known to the system by that name.
      if (listener.local.family !== 'unix') assert.equal(listener.endpoint, endpoint)
      const before = await network.connect(endpoint)
      await using server = await listener.accept()
      await server.write('one')
      await before.readExactly(3)
      await using after = await network.connect({ fd: before.release() })
      assert.deepEqual(after.remote, server.local)
      await after.write('two')
      assert.equal(text(await server.read()), 'two')
      await server.close()
      assert.equal(await after.read(), null)
      await network.end({ abort: true })
    })

    test('a listener that others have, too, is closed without its clients', { skip: cell.transport.includes('tls') }, async () => {
      const { network } = await cell.network()
      const passing = await network.listen(`unix:@fairlead-${process.pid}-shared`)
      const [boss, worker] = await Promise.all([network.connect(passing.endpoint), passing.accept()])
      const given = async (fd: number | undefined): Promise<number> => {
        await boss.sendDescriptors([fd as number])
        return (await worker.receiveDescriptors())?.descriptors[0] as number
      }
      let listener = await network.listen(cell.transport === 'kernel unix' ? `unix:@fairlead-${process.pid}-kept` : await cell.endpoint())
      const { endpoint } = listener
      const clients = []
      for (let i = 0; i < 3; i++) {
        const next = await given(listener.descriptor)
        clients.push(await network.connect(endpoint))
        await listener.close()
        listener = await network.listen({ fd: next })
      }
      for (const client of clients) {
        await using server = await listener.accept()
        await server.write('served')
        assert.equal(text(await client.readExactly(6)), 'served')
      }
      await network.end({ abort: true })
    })

    test('cross a UNIX connection', { skip: cell.transport !== 'kernel unix' }, async () => {
      const { network } = await cell.network()
      await using listener = await network.listen(await cell.endpoint())
      const connected = async () => {
        const [client, server] = await Promise.all([network.connect(listener.endpoint), listener.accept()])
        return { client: hold(client), server: hold(server) }
      }
      const [way, passed] = [await connected(), await connected()]
      const socket = await network.bind('udp://127.0.0.1:0')
      const other = await network.listen('tcp://127.0.0.1:0')
      const { endpoint } = other
      await way.client.sendDescriptors([passed.client, other, socket], Buffer.from('three'))
      const got = await way.server.receiveDescriptors()
      assert.equal(text(got?.data), 'three')
      assert.equal(got?.descriptors.length, 3)
      const [stream, listening, datagrams] = (got?.descriptors ?? []) as unknown as [number, number, number]
      for (const { closed } of [passed.client, other, socket]) assert.equal((await closed).clean, true)
      await using adopted = await network.connect({ fd: stream })
      await adopted.write('hello')
      assert.equal(text(await passed.server.read()), 'hello')
      await using again = await network.listen({ fd: listening })
      assert.equal(again.endpoint, endpoint)
      await (await network.connect(endpoint)).close()
      await (await again.accept()).close()
      await using udp = await network.bind({ fd: datagrams })
      await udp.send('to itself', udp.endpoint)
      assert.equal(text((await udp.receive({ timeout: 10_000 })).data), 'to itself')

      const before = descriptors()
      await way.client.sendDescriptors([0, 1, 2], Buffer.from('more'))
      assert.equal((await failure(way.server.receiveDescriptors({ max: 1 }))).code, 'DESCRIPTORS')
      await until('none is left open', () => (descriptors() ?? 0) <= (before ?? 0))
      assert.equal(text(await way.server.read()), 'more')
      assert.equal((await failure(way.client.sendDescriptors([9_999]))).code, 'EBADF')
      await way.client.write('still there')
      assert.equal(text(await way.server.read()), 'still there')
      await way.server.end()
      assert.equal(await way.client.read(), null, 'what was refused has not broken the connection')
      await network.end({ abort: true })
    })
  })
}
