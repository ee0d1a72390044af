import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { memory, memoryPair, Random, settle, type Driver, type ListenerHandle, type PairOptions, type StreamHandle } from 'fairlead/testing'
import { bytes, Ends, text } from './support/handles.js'

const pair = (o?: PairOptions): [Ends, Ends] => {
  const [a, b] = memoryPair(o)
  return [new Ends(a), new Ends(b)]
}

describe('memoryPair', () => {
  test('what is written is read, in order, and the buffer of the writer is his again', async () => {
    const [a, b] = pair()
    const data = bytes('one')
    assert.equal(a.handle.write(data), 3)
    data.fill(0)
    assert.equal(a.handle.writev([bytes(' two'), bytes(''), bytes(' three')]), 10)
    assert.equal(text(await b.read(2)), 'on')
    assert.equal(text(await b.read()), 'e')
    assert.equal(text(await b.read()), ' two three')
    assert.equal(b.handle.read(1), undefined)
  })

  test('events never come from inside a call, and many writes make one', async () => {
    const [a, b] = pair()
    b.handle.read(1)
    for (let i = 0; i < 100; i++) a.handle.write(bytes('x'))
    assert.equal(b.readableEvents, 0)
    await settle(1)
    assert.equal(b.readableEvents, 1)
  })

  test('a small read is an exact copy: it pins no larger memory', async () => {
    const [a, b] = pair()
    a.handle.write(bytes('first'))
    for (let i = 0; i < 50; i++) a.handle.write(bytes('x'))
    assert.equal((await b.read())?.buffer.byteLength, 5)
    assert.equal((await b.read(3))?.buffer.byteLength, 3)
    assert.equal((await b.read())?.buffer.byteLength, 47)
  })

  test('a million small writes become a few chunks', async () => {
    const [a, b] = pair()
    for (let i = 0; i < 1_000_000; i++) a.handle.write(new Uint8Array([i & 255]))
    let reads = 0
    let count = 0
    for (let part = b.handle.read(1 << 20); part; part = b.handle.read(1 << 20)) {
      for (const byte of part) assert.equal(byte, count++ & 255)
      reads++
    }
    assert.equal(count, 1_000_000)
    assert.ok(reads < 40, `${reads} chunks`)
  })

  test('readInto fills from several chunks', async () => {
    const [a, b] = pair()
    a.handle.write(bytes('ab'))
    a.handle.write(bytes('cdef'))
    const into = new Uint8Array(5)
    assert.equal(b.handle.readInto(into), 5)
    assert.equal(text(into), 'abcde')
    assert.equal(b.handle.readInto(into), 1)
    assert.equal(b.handle.readInto(into), undefined)
  })

  test('a limited pipe takes what fits and says when there is room', async () => {
    const [a, b] = pair({ capacity: 4 })
    assert.equal(a.handle.write(bytes('abcdef')), 4)
    assert.equal(a.handle.write(bytes('ef')), 0)
    await settle(1)
    assert.equal(a.writableEvents, 0)
    assert.equal(text(b.handle.read(1)), 'a')
    assert.equal(a.writableEvents, 0)
    await settle(1)
    assert.equal(a.writableEvents, 1)
    assert.equal(a.handle.writev([bytes('ef')]), 1)
  })

  test('in lockstep bytes pass only while a read is outstanding, and no more than it asked for', async () => {
    const [a, b] = pair({ capacity: 'lockstep' })
    assert.equal(a.handle.write(bytes('abc')), 0)
    await settle(1)
    assert.equal(a.writableEvents, 0)
    assert.equal(b.handle.read(2), undefined)
    await settle(1)
    assert.equal(a.writableEvents, 1)
    assert.equal(a.handle.write(bytes('abc')), 2)
    assert.equal(a.handle.write(bytes('c')), 0)
    assert.equal(text(await b.read()), 'ab')
    assert.equal(a.handle.write(bytes('c')), 0)
  })

  for (const capacity of [1, 7, 65_536, Number.POSITIVE_INFINITY, 'lockstep'] as const) {
    test(`1 MiB arrives whole with capacity ${capacity}`, async () => {
      const random = new Random(3)
      const data = random.bytes(capacity === 1 ? 4096 : 1 << 20)
      const [a, b] = pair({ capacity })
      const writing = (async () => {
        for (let at = 0; at < data.length;) {
          const length = random.int(1, 16_384)
          await a.write(data.subarray(at, at + length))
          at += length
        }
        await a.end()
      })()
      assert.deepEqual(await b.readAll(random.int(1, 16_384)), data)
      await writing
    })
  }

  test('shutdown ends one direction behind the data, the other works on', async () => {
    const [a, b] = pair()
    a.handle.write(bytes('x'))
    await a.end()
    assert.throws(() => a.handle.write(bytes('y')), { code: 'EPIPE' })
    assert.equal(text(await b.read()), 'x')
    assert.equal(await b.read(), null)
    assert.equal(await b.read(), null)
    await b.write(bytes('back'))
    assert.equal(text(await a.read()), 'back')
  })

  test('destroy leaves the peer what was written, then the end, and its writes fail', async () => {
    const [a, b] = pair()
    a.handle.write(bytes('x'))
    a.handle.destroy(false)
    a.handle.destroy(true)
    assert.equal(text(await b.read()), 'x')
    assert.equal(await b.read(), null)
    assert.throws(() => b.handle.write(bytes('y')), { code: 'EPIPE' })
    assert.throws(() => a.handle.write(bytes('y')), { code: 'EBADF' })
  })

  test('a reset comes after the data before it and is never an end', async () => {
    const [a, b] = pair()
    a.handle.write(bytes('x'))
    a.handle.destroy(true)
    assert.throws(() => b.handle.write(bytes('y')), { code: 'ECONNRESET' })
    assert.equal(text(await b.read()), 'x')
    assert.throws(() => b.handle.read(1), { code: 'ECONNRESET' })
    assert.throws(() => b.handle.read(1), { code: 'ECONNRESET' })
  })

  test('an end sent before a reset stays an end', async () => {
    const [a, b] = pair()
    await a.end()
    a.handle.destroy(true)
    assert.equal(await b.read(), null)
    assert.throws(() => b.handle.write(bytes('y')), { code: 'EPIPE' })
  })

  test('destroy wakes a peer that waits to write', async () => {
    const [a, b] = pair({ capacity: 1 })
    const writing = a.write(bytes('abc'))
    await settle(1)
    b.handle.destroy(true)
    await assert.rejects(writing, { code: 'ECONNRESET' })
  })

  test('two ends that only talk to each other do not starve the event loop', async () => {
    const [a, b] = pair()
    let going = true
    let trips = 0
    const bounce = async (end: Ends) => {
      for (let data = await end.read(); data !== null && going; data = await end.read()) {
        trips++
        await end.write(data)
      }
      end.handle.destroy(false)
    }
    await a.write(bytes('x'))
    const both = Promise.all([bounce(a), bounce(b)])
    await settle(3)
    going = false
    await both
    assert.ok(trips > 100)
  })

  test('a capacity that is no number of bytes is refused', () => {
    assert.throws(() => memoryPair({ capacity: 0 }), { name: 'RangeError', message: /capacity.*got 0/ })
    assert.throws(() => memoryPair({ capacity: 1.5 }), { name: 'RangeError' })
  })
})

const DIAL = { noDelay: true, keepAlive: false } as const
const LISTEN = { backlog: 4, ipv6Only: false, reusePort: false, noDelay: true, keepAlive: false } as const
const ip = (address: string, port: number) => ({ family: address.includes(':') ? 'ipv6' : 'ipv4', address, port }) as const
const unix = (path: string, abstract = false) => ({ family: 'unix', path, abstract }) as const

const dial = (driver: Driver, to: ListenerHandle['local'], from?: ListenerHandle['local']) =>
  new Promise<StreamHandle>((resolve, reject) =>
    driver.dial(to, { ...DIAL, from }, (error, handle) => (handle ? resolve(handle) : reject(error as Error))),
  )

describe('memory()', () => {
  test('port 0 gets a free port, and both ends know both addresses', async () => {
    const driver = memory()
    const listener = await driver.listen(ip('127.0.0.1', 0), LISTEN)
    const local = listener.local as ReturnType<typeof ip>
    assert.ok(local.port > 0)
    let acceptable = 0
    listener.attach({ acceptable: () => acceptable++ })
    const here = await dial(driver, local)
    await settle(1)
    assert.equal(acceptable, 1)
    const there = listener.accept() as StreamHandle
    assert.equal(listener.accept(), undefined)
    assert.deepEqual(here.remote, local)
    assert.deepEqual(there.local, local)
    assert.deepEqual(there.remote, here.local)
    const [a, b] = [new Ends(here), new Ends(there)]
    await a.write(bytes('hello'))
    assert.equal(text(await b.read()), 'hello')
  })

  test('taken names, closed ports and foreign addresses have the codes of the system', async () => {
    const driver = memory({ addresses: ['10.0.0.1'] })
    const listener = await driver.listen(ip('127.0.0.1', 80), LISTEN)
    await assert.rejects(driver.listen(ip('127.0.0.1', 80), LISTEN), { code: 'EADDRINUSE' })
    await assert.rejects(driver.listen(ip('192.0.2.1', 80), LISTEN), { code: 'EADDRNOTAVAIL' })
    await driver.listen(ip('10.0.0.1', 80), LISTEN)
    await assert.rejects(dial(driver, ip('127.0.0.1', 81)), { code: 'ECONNREFUSED' })
    await assert.rejects(dial(driver, ip('192.0.2.1', 80)), { code: 'ENETUNREACH' })
    await assert.rejects(dial(driver, unix('/none')), { code: 'ENOENT' })
    await assert.rejects(dial(driver, unix('none', true)), { code: 'ECONNREFUSED' })
    await assert.rejects(dial(driver, ip('127.0.0.1', 80), ip('192.0.2.1', 0)), { code: 'EADDRNOTAVAIL' })
    await new Promise<void>((resolve) => listener.close(resolve))
    await assert.rejects(dial(driver, ip('127.0.0.1', 80)), { code: 'ECONNREFUSED' })
    await driver.listen(ip('127.0.0.1', 80), LISTEN)
  })

  test('N16: wildcard and dual-stack listeners conflict as they do on Linux', async () => {
    const both = memory()
    await both.listen(ip('::', 80), LISTEN)
    await assert.rejects(both.listen(ip('0.0.0.0', 80), LISTEN), { code: 'EADDRINUSE' })
    await dial(both, ip('127.0.0.1', 80))
    await dial(both, ip('::1', 80))
    const apart = memory()
    await apart.listen(ip('::', 80), { ...LISTEN, ipv6Only: true })
    await assert.rejects(dial(apart, ip('127.0.0.1', 80)), { code: 'ECONNREFUSED' })
    await apart.listen(ip('0.0.0.0', 80), LISTEN)
    await dial(apart, ip('127.0.0.1', 80))
  })

  test('a dial waits while the backlog is full, can be given up, and is refused when the listener closes', async () => {
    const driver = memory()
    const listener = await driver.listen(unix('/s'), { ...LISTEN, backlog: 1 })
    const first = new Ends(await dial(driver, unix('/s')))
    const outcome: string[] = []
    const second = dial(driver, unix('/s')).then(() => outcome.push('second'))
    const cancel = driver.dial(unix('/s'), DIAL, () => outcome.push('given up'))
    const fourth = dial(driver, unix('/s')).catch((error: NodeJS.ErrnoException) => outcome.push(String(error.code)))
    await settle(2)
    assert.deepEqual(outcome, [])
    cancel()
    assert.ok(listener.accept())
    await second
    await new Promise<void>((resolve) => listener.close(resolve))
    await fourth
    assert.deepEqual(outcome, ['second', 'ECONNREFUSED'])
    assert.deepEqual(listener.unserved, { count: 1, estimated: false })
    first.handle.destroy(false)
  })

  test('nothing is accepted while paused', async () => {
    const driver = memory()
    const listener = await driver.listen(unix('x', true), LISTEN)
    let acceptable = 0
    listener.attach({ acceptable: () => acceptable++ })
    listener.pause()
    await dial(driver, unix('x', true))
    await settle(1)
    assert.equal(listener.accept(), undefined)
    assert.equal(acceptable, 0)
    listener.resume()
    await settle(1)
    assert.equal(acceptable, 1)
    assert.ok(listener.accept())
  })

  test('a dial given up after it connected leaves a reset at the other end', async () => {
    const driver = memory()
    const listener = await driver.listen(unix('/s'), LISTEN)
    listener.attach({ acceptable: () => cancel() })
    const cancel = driver.dial(unix('/s'), DIAL, () => {})
    await settle(2)
    const there = listener.accept()
    assert.ok(there)
  })

  test('a local port is taken while its connection lives', async () => {
    const driver = memory()
    await driver.listen(ip('127.0.0.1', 80), LISTEN)
    const first = await dial(driver, ip('127.0.0.1', 80), ip('127.0.0.1', 1234))
    assert.deepEqual(first.local, ip('127.0.0.1', 1234))
    await assert.rejects(dial(driver, ip('127.0.0.1', 80), ip('127.0.0.1', 1234)), { code: 'EADDRINUSE' })
    first.destroy(false)
    await dial(driver, ip('127.0.0.1', 80), ip('127.0.0.1', 1234))
  })

  test('listeners that share a port take turns', async () => {
    const driver = memory()
    const [one, two] = [
      await driver.listen(ip('127.0.0.1', 80), { ...LISTEN, reusePort: true }),
      await driver.listen(ip('127.0.0.1', 80), { ...LISTEN, reusePort: true }),
    ]
    await dial(driver, ip('127.0.0.1', 80))
    await dial(driver, ip('127.0.0.1', 80))
    assert.ok(one.accept())
    assert.ok(two.accept())
  })
})
