/** Events: one open and one close for each connection, told to subscribers and on diagnostics channels. */

import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { test } from 'node:test'
import { Network, type TraceEvent } from 'fairlead'
import { connectionPair, memory, settle, VirtualClock } from 'fairlead/testing'
import { pairOver, rawPair, TRANSPORTS, until } from './support/pairs.js'

/** Everything a network tells from now on. */
function listenTo(network: Network): TraceEvent[] {
  const events: TraceEvent[] = []
  network.trace.subscribe((event) => events.push(event))
  return events
}

/** The events of the connection `id`, each by its type. */
function typesOf(events: readonly TraceEvent[], id: number): string[] {
  return events.filter((event) => event.id === id).map(({ type }) => type)
}

for (const transport of TRANSPORTS) {
  test(`S12: exactly one open and one close for each connection, however it ends, over ${transport}`, async () => {
    await using network = new Network(transport === 'memory' ? { driver: memory() } : {})
    const events = listenTo(network)
    const at = transport === 'unix' ? 'unix:@fairlead-trace-test' : 'tcp://127.0.0.1:0'
    await using listener = await network.listen(at)
    const ids: number[] = []
    const endings = [
      async (a: Awaited<ReturnType<Network['connect']>>) => void (await a.close()),
      async (a: Awaited<ReturnType<Network['connect']>>) => {
        await Promise.all([a.close(), a.close({ timeout: 5 }), a[Symbol.asyncDispose]()])
        a.abort()
      },
      async (a: Awaited<ReturnType<Network['connect']>>) => a.abort(),
      async (a: Awaited<ReturnType<Network['connect']>>) => {
        a.abort()
        await a.close()
      },
      async (a: Awaited<ReturnType<Network['connect']>>) => {
        await a.end()
        await a.readAll({ timeout: 5000 }).catch(() => {})
        await a.close()
      },
      async (a: Awaited<ReturnType<Network['connect']>>) => {
        await a.use(() => Promise.reject(new Error('no'))).catch(() => {})
      },
      async (a: Awaited<ReturnType<Network['connect']>>) => {
        const stream = a.toNode()
        stream.end()
        stream.resume()
        await once(stream, 'close')
      },
      async (a: Awaited<ReturnType<Network['connect']>>) => {
        a.toNode().destroy()
      },
    ]
    for (const end of endings) {
      const [a, b] = await Promise.all([network.connect(listener.endpoint), listener.accept()])
      ids.push(a.id, b.id)
      const answering = b.use(async () => {
        for await (const chunk of b) await b.write(chunk)
      })
      await end(a)
      await answering.catch(() => {})
    }
    await until('all have ended', () => ids.every((id) => typesOf(events, id).includes('close')))
    await settle(20)
    for (const [i, id] of ids.entries()) assert.deepEqual(typesOf(events, id), ['open', 'close'], `ending ${i >> 1}`)
  })
}

test('open and close say who, whose, how much and how long', async () => {
  const clock = new VirtualClock()
  await using network = new Network({ driver: memory(), clock, name: 'my network' })
  const events = listenTo(network)
  await using listener = await network.listen('tcp://127.0.0.1:0')
  const [a, b] = await Promise.all([network.connect(listener.endpoint), listener.accept()])
  await a.write('12345')
  await b.readExactly(5)
  await b.write('12')
  await clock.advance(250)
  await a.readExactly(2)
  a.abort(new Error('why'))
  const own = events.filter(({ id }) => id === a.id)
  const [opened, closed] = own
  assert.equal(own.length, 2)
  assert.ok(opened?.type === 'open' && closed?.type === 'close')
  assert.deepEqual(
    { kind: opened.kind, role: opened.role, driver: opened.driver, owner: opened.owner, remote: opened.remote, at: opened.at },
    {
      kind: 'connection',
      role: 'dialled',
      driver: 'memory',
      owner: 'my network',
      remote: listener.endpoint.slice(6),
      at: clock.wall() - 250,
    },
  )
  assert.deepEqual(
    { kind: closed.kind, read: closed.bytesRead, written: closed.bytesWritten, duration: closed.duration, clean: closed.report.clean },
    { kind: 'connection', read: 2, written: 5, duration: 250, clean: false },
  )
  assert.equal(closed.report, await a.closed)
  const accepted = events.find(({ id, type }) => id === b.id && type === 'open')
  assert.ok(accepted?.type === 'open')
  assert.equal(accepted.role, 'accepted')
  assert.ok(
    events.some(({ id, type }) => id === accepted.listener && type === 'open'),
    'the listener is told of, too',
  )
})

test('a reset is the reason of the close event, once', async () => {
  await using raw = await rawPair()
  const events = listenTo(raw.network)
  const reading = raw.connection.read().catch(() => {})
  raw.peer.resetAndDestroy()
  await reading
  await raw.connection.close()
  const closes = events.filter((event) => event.type === 'close')
  assert.equal(closes.length, 1)
  assert.ok(closes[0]?.type === 'close')
  assert.equal(closes[0].report.reason?.code, 'ECONNRESET')
})

test('a connection that failed to upgrade has ended, and says so once', async () => {
  await using pair = await pairOver('tcp')
  const events = listenTo(pair.network)
  const { a, b } = pair
  const upgrading = a.startTls({ verify: false }).catch((error: unknown) => error)
  await b.read()
  await b.write('this is no TLS at all, not in the least\n')
  assert.ok((await upgrading) instanceof Error)
  assert.deepEqual(typesOf(events, a.id), ['close'])
  assert.equal((await a.closed).clean, false)
  assert.ok(!pair.network.sockets().some(({ id }) => id === a.id))
})

test('an upgrade belongs to its owner while it is under way', async () => {
  await using pair = await pairOver('tcp')
  const { a } = pair
  const upgrading = a.startTls({ verify: false }).catch((error: unknown) => error)
  await pair.b.waitReadable()
  assert.ok(pair.network.sockets().some(({ id }) => id === a.id))
  await pair.network.end({ abort: true })
  assert.ok((await upgrading) instanceof Error)
  assert.equal((await a.closed).clean, false)
})

test('everything is published on diagnostics channels too', async () => {
  const seen: TraceEvent[] = []
  const note = (event: unknown) => void seen.push(event as TraceEvent)
  subscribe('fairlead:open', note)
  subscribe('fairlead:close', note)
  try {
    await using pair = await pairOver('tcp')
    await Promise.all([pair.a.close(), pair.b.close()])
    for (const { id } of [pair.a, pair.b]) assert.deepEqual(typesOf(seen, id), ['open', 'close'])
  } finally {
    unsubscribe('fairlead:open', note)
    unsubscribe('fairlead:close', note)
  }
})

test('a subscriber that throws is dropped and disturbs nobody; one that left hears nothing', async () => {
  await using pair = connectionPair()
  const heard: string[] = []
  pair.trace.subscribe(() => {
    heard.push('thrower')
    throw new Error('mine')
  })
  const leave = pair.trace.subscribe(() => heard.push('leaver'))
  pair.trace.subscribe(({ type }) => heard.push(type))
  leave()
  assert.equal((await pair.a.close()).clean, true)
  assert.equal((await pair.b.close()).clean, true)
  assert.deepEqual(heard, ['thrower', 'close', 'close'])
})
