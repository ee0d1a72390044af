/** The root object: options, limits, policy, owners. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { allOf, connect, Denied, listen, LIMITS, Network, network, Owner, publicOnly, SocketError } from 'fairlead'
import { memory, VirtualClock } from 'fairlead/testing'
import { descriptors, pairOver, until } from './support/pairs.js'

async function rejection(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  const error = await promise.then(
    (value) => assert.fail(`resolved with ${String(value)}`),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof Error)
  return error
}

describe('options', () => {
  test('unknown names are refused with the nearest known one', async () => {
    await using net = new Network({ driver: memory() })
    const unknown = (code: string, near: string) => (error: unknown) => {
      assert.ok(error instanceof SocketError)
      assert.equal(error.name, 'OptionError')
      assert.equal(error.code, code)
      assert.ok(error.message.includes(`did you mean "${near}"`), error.message)
      return true
    }
    assert.throws(() => new Network({ drivers: memory() } as never), unknown('UNKNOWN_OPTION', 'driver'))
    assert.throws(() => new Network({ limits: { conect: 5 } as never }), unknown('UNKNOWN_OPTION', 'connect'))
    assert.throws(() => new Network({ limits: { lingertime: 5 } as never }), unknown('UNKNOWN_OPTION', 'lingerTime'))
    await assert.rejects(net.connect('tcp://127.0.0.1:1', { timeOut: 5 } as never), unknown('UNKNOWN_OPTION', 'timeout'))
    await assert.rejects(net.connect('tcp://127.0.0.1:1', { form: 'x' } as never), unknown('UNKNOWN_OPTION', 'from'))
    await assert.rejects(net.listen('tcp://127.0.0.1:0', { backlogs: 5 } as never), unknown('UNKNOWN_OPTION', 'backlog'))
    await assert.rejects(
      net.serve('tcp://127.0.0.1:0', { limit: {} } as never, () => {}),
      (error: SocketError) => error.code === 'UNKNOWN_OPTION',
    )
    await assert.rejects(
      net.connect('tcp://127.0.0.1:1', { xyzzy: 1 } as never),
      (error: SocketError) => !error.message.includes('did you mean'),
    )
  })

  test('limits are checked, frozen, and default to the documented ones', () => {
    assert.equal(new Network({ driver: memory() }).limits, LIMITS)
    const net = new Network({ driver: memory(), limits: { line: 10, total: Number.POSITIVE_INFINITY } })
    assert.deepEqual({ ...net.limits }, { ...LIMITS, line: 10, total: Number.POSITIVE_INFINITY })
    assert.ok(Object.isFrozen(net.limits))
    assert.throws(() => new Network({ limits: { line: -1 } }), {
      name: 'RangeError',
      code: 'ERR_OUT_OF_RANGE',
      message: /^limits\.line must be/,
    })
    assert.throws(() => new Network({ limits: { line: Number.NaN } }), { name: 'RangeError' })
    assert.throws(() => new Network({ limits: { line: '5' as never } }), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' })
  })

  test('limits hold: a line, a peek, a readAll', async () => {
    await using pair = await pairOver('memory', { limits: { line: 3, receive: 8, frame: 4 } })
    await pair.a.write('abcdefgh')
    await pair.a.end()
    assert.equal((await rejection(pair.b.readLine())).code, 'TOO_LONG')
    assert.equal((await rejection(pair.b.peek(9))).code, 'ERR_OUT_OF_RANGE')
    assert.equal((await rejection(pair.b.readAll())).code, 'TOO_LONG')
    assert.equal((await pair.b.read())?.length, 8)
  })

  test('wrong types and ranges are native errors, as rejections', async () => {
    await using net = new Network({ driver: memory() })
    for (const [o, name] of [
      [{ timeout: -1 }, 'RangeError'],
      [{ timeout: 'x' }, 'TypeError'],
      [{ signal: 5 }, 'TypeError'],
      [{ stagger: 1 }, 'RangeError'],
    ] as const) {
      assert.equal((await rejection(net.connect('tcp://127.0.0.1:1', o as never))).name, name, JSON.stringify(o))
    }
    assert.equal((await rejection(net.listen('tcp://127.0.0.1:0', { backlog: 0 }))).name, 'RangeError')
    assert.equal((await rejection(net.listen('tcp://127.0.0.1:0', { backlog: 1.5 }))).name, 'TypeError')
    assert.equal((await rejection(net.connect(5 as never))).name, 'TypeError')
    assert.equal((await rejection(net.listen('udp://127.0.0.1:1'))).code, 'UNSUPPORTED')
    assert.equal((await rejection(net.connect('tcp://127.0.0.1:1', { tls: {} }))).code, 'BAD_VALUE')
    assert.equal((await rejection(net.connect('tcp://127.0.0.1:1', { from: 'tcp://example.com' }))).code, 'BAD_HOST')
  })
})

describe('policy', () => {
  test('is asked for every connect, listen and accept, and its refusal is Denied with the reason', async () => {
    const asked: string[] = []
    let refuse: string | undefined
    await using net = new Network({
      driver: memory(),
      policy: ({ direction, address }) => {
        asked.push(`${direction} ${address?.family === 'ipv4' ? address.address : ''}`)
        return refuse === direction ? 'not today' : true
      },
    })
    await using listener = await net.listen('tcp://127.0.0.1:0')
    const [a, b] = await Promise.all([net.connect(listener.endpoint), listener.accept()])
    assert.deepEqual([...new Set(asked)].sort(), ['accept 127.0.0.1', 'connect 127.0.0.1', 'listen 127.0.0.1'])
    await Promise.all([a.close(), b.close()])

    refuse = 'connect'
    const refused = await rejection(net.connect(listener.endpoint))
    assert.ok(refused instanceof Denied)
    assert.equal(refused.code, 'POLICY')
    assert.equal(refused.phase, 'policy')
    assert.match(refused.message, /not today/)
    refuse = 'listen'
    assert.equal((await rejection(net.listen('tcp://127.0.0.1:0'))).code, 'POLICY')
    refuse = 'accept'
    const accepting = rejection(listener.accept())
    const client = await net.connect(listener.endpoint)
    assert.equal((await client.read().catch((error: Error) => error.name)) ?? 'end', 'Broken')
    assert.equal(listener.stats.refused, 1)
    await listener.close()
    assert.equal((await accepting).name, 'Closed')
  })

  test('publicOnly refuses what is not public; several policies are all asked', async () => {
    await using net = new Network({ driver: memory(), policy: publicOnly() })
    for (const to of [
      'tcp://127.0.0.1:80',
      'tcp://[::1]:80',
      'tcp://10.0.0.1:80',
      'tcp://[::ffff:127.0.0.1]:80',
      'unix:/run/x',
      'tcp://0.0.0.0:80',
    ]) {
      assert.equal((await rejection(net.connect(to))).name, 'Denied', to)
    }
    await using both = new Network({ driver: memory(), policy: allOf({ ports: [1] }, { deny: ['127.0.0.0/8'] }) })
    assert.equal((await rejection(both.connect('tcp://127.0.0.1:1'))).name, 'Denied')
  })
})

describe('owners', () => {
  test('sockets belong to the network unless another owner is named', async () => {
    await using net = new Network({ driver: memory() })
    const owner = new Owner('mine', net.shared)
    await using listener = await net.listen('tcp://127.0.0.1:0')
    const [a, b] = await Promise.all([net.connect(listener.endpoint, { owner }), listener.accept()])
    assert.equal(a.owner, owner)
    assert.equal(b.owner, net)
    assert.deepEqual(owner.sockets(), [a])
    assert.deepEqual(net.sockets(), [listener, b])
    assert.deepEqual(await owner.end(), { closed: 1, aborted: 0 })
    assert.equal(owner.signal.aborted, true)
    assert.equal((await a.closed).clean, true)
    assert.equal(await b.read(), null)
    assert.equal((await rejection(net.connect(listener.endpoint, { owner }))).code, 'OWNER_ENDED')
  })

  test('close ends listeners and connections; await using does it; twice is harmless', async () => {
    const before = descriptors()
    const net = new Network()
    const listener = await net.listen('tcp://127.0.0.1:0')
    const [a, b] = await Promise.all([net.connect(listener.endpoint), listener.accept()])
    const accepting = rejection(listener.accept())
    const reading = rejection(a.read())
    const [first, second] = await Promise.all([net.close(), net.close({ within: 100 })])
    assert.equal(first.aborted + second.aborted, 0)
    assert.deepEqual(net.sockets(), [])
    assert.equal((await accepting).name, 'Closed')
    assert.equal((await reading).name, 'Closed')
    assert.equal((await b.closed).clean, true)
    await until('the descriptors are given back', () => (descriptors() ?? 0) <= (before ?? 0))
  })

  test('end with abort is immediate', async () => {
    await using pair = await pairOver('tcp')
    const report = await pair.network.end({ abort: true })
    assert.deepEqual(report, { closed: 0, aborted: 2 })
    assert.equal((await pair.a.closed).clean, false)
  })
})

describe('the default network', () => {
  test('is what the module-level functions use', async () => {
    await using listener = await listen('tcp://127.0.0.1:0')
    await using client = await connect(listener.endpoint)
    await using server = await listener.accept()
    assert.equal(client.owner, network())
    assert.equal(server.owner, network())
  })

  test('module-level functions reject, they never throw', async () => {
    const promise = connect('tcp://')
    assert.ok(promise instanceof Promise)
    assert.equal((await rejection(promise)).name, 'AddressError')
    assert.equal((await rejection(listen('nonsense' as never))).name, 'AddressError')
  })
})

test('a network has the clock, the driver and the limits it was given', async () => {
  const clock = new VirtualClock()
  const driver = memory()
  await using net = new Network({ driver, clock, name: 'n' })
  assert.deepEqual([net.driver, net.clock, net.name], [driver, clock, 'n'])
})
