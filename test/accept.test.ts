import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect as netConnect, type Socket } from 'node:net'
import { test, type TestContext } from 'node:test'
import {
  Closed,
  type Connection,
  DeadlineError,
  type Listener,
  Network,
  type NetworkOptions,
  SystemFailure,
  type TraceEvent,
} from 'fairlead'
import { developmentAuthority, type FaultyDriver, faulty, type Issued, memory, settle, VirtualClock } from 'fairlead/testing'
import { reachableEndpoint } from '#src/address.js'
import { hold } from './support/hold.js'

interface World {
  net: Network
  clock: VirtualClock
  driver: FaultyDriver
  events: TraceEvent[]
}

/** A network inside the process whose system calls fail on demand, under a clock that stands still. */
function world(t: TestContext, o: NetworkOptions = {}): World {
  const clock = new VirtualClock()
  const driver = faulty(memory())
  const net = new Network({ driver, clock, ...o })
  const events: TraceEvent[] = []
  net.trace.subscribe((event) => events.push(event))
  t.after(() => net.end({ abort: true }))
  return { net, clock, driver, events }
}

const AT = 'tcp://127.0.0.1:0'
const typed = (Class: new (...args: never[]) => Error, code: string) => (error: Error & { code?: string }) =>
  error instanceof Class && error.code === code

async function open(t: TestContext): Promise<World & { listener: Listener }> {
  const made = world(t)
  return { ...made, listener: await made.net.listen(AT) }
}

const dialMany = (net: Network, listener: Listener, count: number): Promise<Connection[]> =>
  Promise.all(Array.from({ length: count }, () => net.connect(listener.endpoint)))
const ofType = <T extends TraceEvent['type']>(events: TraceEvent[], type: T) =>
  events.filter((event): event is Extract<TraceEvent, { type: T }> => event.type === type)

test('ten calls of accept wait at once and are served in their order (N24)', async (t) => {
  const { net, listener } = await open(t)
  const order: number[] = []
  const accepting = Array.from({ length: 10 }, async (_, i) => {
    const connection = await listener.accept()
    order.push(i)
    return connection
  })
  const clients = await dialMany(net, listener, 10)
  const served = await Promise.all(accepting)
  assert.deepEqual(order, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  assert.deepEqual(
    served.map((connection) => connection.remote),
    clients.map((client) => client.local),
  )
  assert.equal(listener.stats.accepted, 10)
})

test('a deadline in the past wins over a connection that is ready, and takes nothing (N1)', async (t) => {
  const { net, listener } = await open(t)
  const client = await net.connect(listener.endpoint)
  await assert.rejects(listener.accept({ timeout: 0 }), typed(DeadlineError, 'DEADLINE'))
  await assert.rejects(listener.accept({ deadline: 1 }), typed(DeadlineError, 'DEADLINE'))
  await assert.rejects(listener.accept({ signal: AbortSignal.abort('no') }), { code: 'CANCELLED', cause: 'no' })
  const server = await listener.accept()
  assert.deepEqual(server.remote, client.local)
})

test('an accept that times out or is cancelled leaves its place in the queue to the next', async (t) => {
  const { net, clock, listener } = await open(t)
  const controller = new AbortController()
  const cancelled = assert.rejects(listener.accept({ signal: controller.signal }), {
    code: 'CANCELLED',
    op: 'accept',
    endpoint: listener.endpoint,
  })
  const late = assert.rejects(listener.accept({ timeout: 50 }), typed(DeadlineError, 'DEADLINE'))
  const patient = listener.accept({ timeout: 1_000 })
  controller.abort()
  await clock.advance(49)
  assert.equal(clock.pending, 2, 'not before its deadline')
  await clock.advance(1)
  await Promise.all([cancelled, late])
  const client = await net.connect(listener.endpoint)
  assert.deepEqual((await patient).remote, client.local)
  assert.equal(clock.pending, 0, 'no timer is left')
})

test('wrong arguments are rejections, also from accept', async (t) => {
  const { listener } = await open(t)
  await assert.rejects(listener.accept({ timeout: -1 }), RangeError)
  await assert.rejects(listener.accept({ timeout: '1' as never }), TypeError)
})

test('nothing is taken from the backlog while nobody waits', async (t) => {
  const { net } = world(t)
  const listener = await net.listen(AT, { backlog: 1 })
  hold(await net.connect(listener.endpoint))
  let connected = false
  const second = net.connect(listener.endpoint).then(() => (connected = true))
  await settle(5)
  assert.equal(connected, false, 'the first still holds the only place')
  hold(await listener.accept())
  await second
  assert.equal(listener.stats.accepted, 1)
})

test('tryAccept gives what is there, never takes from a waiting accept, and refuses once closed', async (t) => {
  const { net, listener } = await open(t)
  assert.equal(listener.tryAccept(), undefined)
  const [first] = await dialMany(net, listener, 2)
  assert.deepEqual(listener.tryAccept()?.remote, first?.local)
  assert.notEqual(listener.tryAccept(), undefined)
  assert.equal(listener.tryAccept(), undefined)
  const waiting = listener.accept()
  hold(await net.connect(listener.endpoint))
  assert.equal(listener.tryAccept(), undefined, 'it belongs to who waited first')
  await waiting
  await listener.close()
  assert.throws(() => listener.tryAccept(), typed(Closed, 'CLOSED'))
})

test('a loop over a listener ends when the listener closes; leaving the loop closes nothing', async (t) => {
  const { net, listener } = await open(t)
  await dialMany(net, listener, 3)
  for await (const connection of listener) {
    assert.equal(connection.state, 'open')
    break
  }
  let count = 0
  const looping = (async () => {
    for await (const _ of listener.connections()) count++
  })()
  await settle(5)
  await listener.close()
  await looping
  assert.equal(count, 2)
})

test('close wakes every accept with Closed, is idempotent, and leaves accepted connections alone', async (t) => {
  const { net, listener, events } = await open(t)
  const client = await net.connect(listener.endpoint)
  const server = await listener.accept()
  const waiting = [listener.accept(), listener.accept()].map((promise) => assert.rejects(promise, typed(Closed, 'CLOSED')))
  assert.deepEqual(await listener.close(), { clean: true, unsent: 0 })
  assert.deepEqual(await listener.close(), { clean: true, unsent: 0 })
  assert.deepEqual(await listener.closed, { clean: true, unsent: 0 })
  await Promise.all(waiting)
  await assert.rejects(listener.accept(), typed(Closed, 'CLOSED'))
  await client.write('still here')
  assert.equal(new TextDecoder().decode((await server.read()) as Uint8Array), 'still here')
  await assert.rejects(net.connect(listener.endpoint), { code: 'ECONNREFUSED' })
  const mine = events.filter((event) => event.id === listener.id).map((event) => event.type)
  assert.deepEqual(mine, ['open', 'close'])
})

test('connections nobody took are counted as unserved at the close (X8)', async (t) => {
  const { net, listener, events } = await open(t)
  await dialMany(net, listener, 3)
  hold(await listener.accept())
  await listener.close()
  assert.deepEqual(listener.stats.unserved, { count: 2, estimated: false })
  assert.deepEqual(
    ofType(events, 'refused').map(({ reason, count }) => ({ reason, count })),
    [{ reason: 'unserved', count: 2 }],
  )
})

test('an owner that ends takes its listener along', async (t) => {
  const { net, listener } = await open(t)
  const waiting = assert.rejects(listener.accept(), typed(Closed, 'CLOSED'))
  await net.close()
  await waiting
  assert.equal((await listener.closed).clean, true)
})

const IGNORED = [
  'ECONNABORTED',
  'ECONNRESET',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'ENETDOWN',
  'ENETUNREACH',
  'ENONET',
  'ENOPROTOOPT',
  'ENOSR',
  'EOPNOTSUPP',
  'EPERM',
  'EPROTO',
  'EPROTONOSUPPORT',
  'ESOCKTNOSUPPORT',
  'ETIMEDOUT',
]

test('the fifteen errors that are about one dead connection never surface (S11, N14)', async (t) => {
  const { net, driver, listener, events } = await open(t)
  for (const code of IGNORED) {
    driver.fail('accept', code)
    const [server] = await Promise.all([listener.accept(), net.connect(listener.endpoint)])
    assert.equal(server.state, 'open', code)
  }
  driver.fail('accept', 'ECONNABORTED', 1_000)
  await Promise.all([listener.accept(), net.connect(listener.endpoint)])
  assert.equal(listener.stats.vanished, IGNORED.length + 1_000)
  assert.deepEqual(ofType(events, 'error'), [])
})

test('any other error of accept surfaces, to one caller at a time, and accepting goes on (S11)', async (t) => {
  const { net, driver, listener } = await open(t)
  const first = assert.rejects(listener.accept(), (error: SystemFailure) => {
    assert.ok(error instanceof SystemFailure)
    assert.deepEqual([error.code, error.op, error.phase, error.endpoint], ['EBADF', 'accept', 'accept', listener.endpoint])
    return true
  })
  const second = listener.accept()
  driver.fail('accept', 'EBADF' as never)
  await first
  hold(await net.connect(listener.endpoint))
  assert.equal((await second).state, 'open')
})

for (const code of ['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM']) {
  test(`${code} from accept is tried again every 100 ms, each time with an event, until it is over (S10)`, async (t) => {
    const { net, clock, driver, listener, events } = await open(t)
    driver.fail('accept', code, Number.POSITIVE_INFINITY)
    hold(await net.connect(listener.endpoint))
    const accepting = listener.accept()
    await clock.advance(950)
    assert.equal(listener.stats.exhausted, 10)
    assert.deepEqual(
      ofType(events, 'error').map(({ op, error }) => [op, (error as SystemFailure).code]),
      Array.from({ length: 10 }, () => ['accept', code]),
    )
    driver.heal('accept')
    await settle(5)
    assert.equal(listener.stats.accepted, 0, 'not before the next try')
    await clock.advance(50)
    assert.equal((await accepting).state, 'open')
    assert.equal(clock.pending, 0)
  })
}

test('accepting pauses while the network holds as many bytes as it may', async (t) => {
  const { net, listener } = await open(t)
  const { budget } = net.shared
  budget.change(budget.limit)
  hold(await net.connect(listener.endpoint))
  const accepting = listener.accept()
  await settle(5)
  assert.equal(listener.stats.accepted, 0)
  budget.change(-budget.limit)
  assert.equal((await accepting).state, 'open')
})

test('a suspended listener takes nobody, keeps what is established, and goes on at the same port (S4)', async (t) => {
  const { net, listener } = await open(t)
  const first = await net.connect(listener.endpoint)
  const served = await listener.accept()
  listener.suspend()
  assert.equal(listener.suspended, true)
  const accepting = listener.accept()
  const second = await net.connect(listener.endpoint)
  await settle(5)
  assert.equal(listener.stats.accepted, 1)
  assert.equal(listener.tryAccept(), undefined)
  await first.write('x')
  assert.deepEqual(await served.read(), new Uint8Array([120]))
  listener.resume()
  assert.deepEqual((await accepting).remote, second.local)
})

test('a policy is asked about each peer; who is refused costs nobody else anything', async (t) => {
  const { net, events } = world(t, { policy: { directions: ['accept'], deny: ['127.0.0.2'] } })
  const listener = await net.listen(AT)
  const accepting = listener.accept()
  const refused = await net.connect(listener.endpoint, { from: '127.0.0.2' })
  const client = await net.connect(listener.endpoint)
  assert.deepEqual((await accepting).remote, client.local)
  await assert.rejects(refused.read(), { code: 'ECONNRESET' })
  assert.equal(listener.stats.refused, 1)
  const [event] = ofType(events, 'refused')
  assert.deepEqual([event?.reason, event?.count, event?.remote?.startsWith('127.0.0.2:')], ['policy', 1, true])
})

test('accepted connections carry the default times of their listener (S18)', async (t) => {
  const { net, clock } = world(t)
  const listener = await net.listen(AT, { defaults: { read: 20 } })
  hold(await net.connect(listener.endpoint))
  const reading = assert.rejects((await listener.accept()).read(), typed(DeadlineError, 'DEADLINE'))
  await clock.advance(20)
  await reading
})

test('every accepted connection makes one open and one close event that name its listener (S12)', async (t) => {
  const { net, listener, events } = await open(t)
  const clients = await dialMany(net, listener, 5)
  for (const client of clients) {
    const server = await listener.accept()
    if (server.id % 2 === 0) server.abort()
    else await server.close()
    client.abort()
  }
  const opens = ofType(events, 'open').filter((event) => event.listener === listener.id)
  const closes = ofType(events, 'close').filter((event) => opens.some(({ id }) => id === event.id))
  assert.deepEqual([opens.length, closes.length, new Set(closes.map(({ id }) => id)).size], [5, 5, 5])
  assert.deepEqual([...new Set(opens.map(({ role }) => role))], ['accepted'])
})

test('the endpoint of a listener is what connect reaches it by', () => {
  const local = { family: 'ipv6', address: '::', port: 7 } as const
  const v4 = { family: 'ipv4', address: '0.0.0.0', port: 7 } as const
  const parsed = (transport: 'tcp' | 'tls', host: string | undefined) => ({ transport, host, port: 0 })
  assert.equal(reachableEndpoint(parsed('tcp', undefined), local), 'tcp://127.0.0.1:7')
  assert.equal(reachableEndpoint(parsed('tcp', '0.0.0.0'), v4), 'tcp://127.0.0.1:7')
  assert.equal(reachableEndpoint(parsed('tcp', '::'), local), 'tcp://[::1]:7')
  assert.equal(reachableEndpoint(parsed('tls', 'localhost'), { ...v4, address: '127.0.0.1' }), 'tls://localhost:7')
})

// TLS

let made: Promise<{ ca: string; issued: Issued }> | undefined

/** A TLS listener inside the process, under a clock that stands still; `plain` dials without TLS, `secure` with it. */
async function tls(t: TestContext, o: NetworkOptions = {}) {
  made ??= developmentAuthority().then(async (authority) => ({ ca: authority.cert, issued: await authority.issue() }))
  const { ca, issued } = await made
  const opened = world(t, o)
  const { cert, key } = issued
  const listener = await opened.net.listen('tls://127.0.0.1:0', { tls: { cert, key } })
  const plain = () => opened.net.connect(listener.endpoint.replace('tls:', 'tcp:'))
  const secure = () => opened.net.connect(listener.endpoint, { tls: { ca }, timeout: 3_600_000 })
  return { ...opened, listener, plain, secure, issued }
}

/** Lets handshakes go on, which take several turns of the loop, until `reached`. */
async function until(reached: () => boolean): Promise<void> {
  for (let turn = 0; turn < 10_000 && !reached(); turn++) await settle(1)
  assert.ok(reached())
}

test('a TLS listener gives connections whose handshake is done, with one open, one tls and one close event (S12)', async (t) => {
  const { listener, secure, events } = await tls(t)
  const [server, client] = await Promise.all([listener.accept(), secure()])
  assert.equal(server.security?.protocol, 'TLSv1.3')
  await client.write('hello\n')
  assert.equal(await server.readLine(), 'hello')
  await Promise.all([server.close(), client.close()])
  assert.deepEqual(
    events.filter(({ id }) => id === server.id).map(({ type }) => type),
    ['open', 'tls', 'close'],
  )
})

test('a stalled handshake is closed at its deadline, and holds up nobody meanwhile (S9, attack 6)', async (t) => {
  const { clock, listener, plain, secure, events } = await tls(t)
  const stalled = await Promise.all(Array.from({ length: 100 }, plain))
  const accepting = listener.accept()
  await until(() => listener.stats.handshaking === 100)
  await secure()
  assert.equal((await accepting).state, 'open')
  await clock.advance(9_990)
  assert.equal(listener.stats.handshaking, 100)
  await clock.advance(20)
  assert.deepEqual([listener.stats.handshaking, listener.stats.handshakeFailures, listener.stats.accepted], [0, 100, 1])
  for (const client of stalled) assert.equal(await client.read().catch(() => null), null)
  const errors = ofType(events, 'error')
  assert.deepEqual(
    [errors.length, ...new Set(errors.map(({ op, error }) => `${op} ${(error as DeadlineError).code}`))],
    [100, 'accept DEADLINE'],
  )
})

test('garbage, and a client that vanishes in mid-handshake, cost an error event and one open and close each (S9, S12)', async (t) => {
  const { listener, plain, secure, events } = await tls(t)
  const accepting = listener.accept()
  await (await plain()).write('GET / HTTP/1.1\r\n\r\n')
  ;(await plain()).abort()
  await (await plain()).close()
  await until(() => listener.stats.handshakeFailures === 3)
  const errors = ofType(events, 'error')
  assert.deepEqual(
    errors.map(({ error }) => (error as { phase: string }).phase),
    ['tls', 'tls', 'tls'],
  )
  assert.ok(errors.some(({ error }) => (error as { code: string }).code === 'NOT_TLS'))
  assert.ok(errors.every(({ error }) => (error as { remote?: string }).remote?.startsWith('127.0.0.1:')))
  for (const { id } of errors) {
    assert.deepEqual(
      events.filter((event) => event.id === id).map(({ type }) => type),
      ['open', 'error', 'close'],
    )
  }
  await secure()
  assert.equal((await accepting).state, 'open')
})

test('at most so many handshakes are in progress; the rest waits in the backlog', async (t) => {
  const { clock, listener, plain } = await tls(t, { limits: { handshakes: 8 } })
  const accepting = assert.rejects(listener.accept(), typed(Closed, 'CLOSED'))
  await Promise.all(Array.from({ length: 20 }, plain))
  await until(() => listener.stats.handshaking === 8)
  await clock.advance(10_000)
  await until(() => listener.stats.handshaking === 8)
  assert.equal(listener.stats.handshakeFailures, 8)
  await listener.close()
  await accepting
  await until(() => listener.stats.handshaking === 0)
  assert.deepEqual([listener.stats.handshakeFailures, listener.stats.unserved.count], [8, 12])
})

test('nothing is taken, and no handshake begins, while nobody waits', async (t) => {
  const { listener, plain } = await tls(t)
  await plain()
  await settle(10)
  assert.equal(listener.stats.handshaking, 0)
})

test('connections whose handshake is done and that nobody takes are dropped at the close, and counted', async (t) => {
  const { listener, secure, events } = await tls(t)
  const accepting = listener.accept()
  await Promise.all([secure(), secure(), secure()])
  await accepting
  await until(() => listener.stats.ready === 2)
  await listener.close()
  assert.deepEqual([listener.stats.ready, listener.stats.unserved.count], [0, 2])
  const accepted = ofType(events, 'open').filter((event) => event.listener === listener.id)
  const closed = ofType(events, 'close').filter(({ id }) => accepted.some((event) => event.id === id))
  assert.deepEqual([accepted.length, closed.length], [3, 2])
})

test('a listener that is closed in the very turn in which a handshake is done keeps no connection that nobody can take', async (t) => {
  const { net, events, issued } = await tls(t)
  const { cert, key } = issued
  for (let later = 0; later < 16; later++) {
    // With TLS 1.2 this is told in the turn in which the server's part is done.
    const closeLater = async () => {
      for (let turns = 0; turns < later; turns++) await undefined
      await listener.close()
    }
    const settings = { cert, key, maxVersion: 'TLSv1.2', keylog: () => void closeLater() } as const
    const listener = await net.listen('tls://127.0.0.1:0', { tls: settings })
    const accepting = listener.accept().then(
      (connection) => connection.close(),
      () => undefined,
    )
    const connecting = net.connect(listener.endpoint, { tls: { verify: false }, timeout: 3_600_000 }).then(
      (connection) => connection.read({ timeout: 3_600_000 }).catch(() => null),
      () => null,
    )
    await accepting
    await until(() => listener.stats.handshaking === 0)
    await settle(20)
    const accepted = ofType(events, 'open').filter((event) => event.listener === listener.id)
    const left = accepted.filter((event) => !ofType(events, 'close').some(({ id }) => id === event.id))
    assert.deepEqual([accepted.length, left.length, listener.stats.ready], [1, 0, 0], `${later} turns later`)
    await connecting
  }
})

test('new TLS settings hold from the next handshake on; settings that cannot be used change nothing', async (t) => {
  const { net, listener, secure, issued } = await tls(t)
  const [before] = await Promise.all([listener.accept(), secure()])
  assert.throws(() => listener.reloadTls({ cert: issued.cert, key: 'not a key' }), { name: 'TlsError' })
  await Promise.all([listener.accept(), secure()])
  const other = await developmentAuthority()
  const accepting = listener.accept()
  const { cert, key } = await other.issue()
  listener.reloadTls({ cert, key })
  await assert.rejects(secure(), { name: 'TlsError' })
  await Promise.all([accepting, net.connect(listener.endpoint, { tls: { ca: other.cert } })])
  assert.equal(before.state, 'open')
  const plain = await net.listen(AT)
  assert.throws(() => plain.reloadTls({ cert, key }), { name: 'TlsError' })
})

// Over real sockets

function real(t: TestContext): { net: Network; events: TraceEvent[] } {
  const net = new Network()
  const events: TraceEvent[] = []
  net.trace.subscribe((event) => events.push(event))
  t.after(() => net.end({ abort: true }))
  return { net, events }
}

const portOf = (listener: Listener): number => (listener.local as { port: number }).port

test('a listener on all interfaces is reached over IPv4 and IPv6 by its own endpoint, and gives its port back at once (N16)', async (t) => {
  const { net } = real(t)
  let port = 0
  for (let round = 0; round < 20; round++) {
    const listener = await net.listen(`tcp://*:${port}`)
    port = portOf(listener)
    for (const host of ['127.0.0.1', '[::1]']) {
      const [server, client] = await Promise.all([listener.accept(), net.connect(`tcp://${host}:${port}`)])
      assert.deepEqual(server.remote, client.local)
      server.abort()
      client.abort()
    }
    const [server] = await Promise.all([listener.accept(), net.connect(listener.endpoint)])
    server.abort()
    await listener.close()
  }
})

test('an address in use, an unknown address and a missing certificate are typed errors that can be read (S14)', async (t) => {
  const { net } = real(t)
  const listener = await net.listen(AT)
  await assert.rejects(net.listen(listener.endpoint), (error: SystemFailure) => {
    assert.ok(error instanceof SystemFailure)
    assert.deepEqual([error.code, error.op, error.endpoint, error.phase], ['EADDRINUSE', 'listen', listener.endpoint, 'listen'])
    assert.match(error.message, /in use/)
    return true
  })
  await assert.rejects(net.listen('tcp://192.0.2.1:0'), typed(SystemFailure, 'EADDRNOTAVAIL'))
  await assert.rejects(net.listen('tls://127.0.0.1:0'), { code: 'NEEDS_CERTIFICATE' })
})

test('connections nobody takes wait in the system’s queue; the node driver parks 64, closes the others and counts them (X8)', async (t) => {
  const { net } = real(t)
  const waits = net.driver.guarantees.acceptStops === true
  const [served, refused] = waits ? [100, 0] : [64, 36]
  const listener = await net.listen(AT)
  let closed = 0
  const gone = withResolvers()
  if (waits) gone.resolve()
  const sockets: Socket[] = []
  t.after(() => sockets.forEach((socket) => socket.destroy()))
  for (let i = 0; i < 100; i++) {
    const socket = netConnect(portOf(listener), '127.0.0.1')
    socket.on('error', () => {})
    socket.on('close', () => (++closed === 36 ? gone.resolve() : undefined))
    socket.resume()
    sockets.push(socket)
  }
  await gone.promise
  assert.deepEqual(listener.stats.unserved, { count: refused, estimated: false })
  for (let i = 0; i < served; i++) await listener.accept({ timeout: 5_000 })
  assert.equal(listener.tryAccept(), undefined)
  assert.equal(listener.stats.accepted, served)
  if (!waits) return
  // Who still waits when the listener is closed is reset by the system, and counted, too.
  for (let i = 0; i < 5; i++) {
    const socket = netConnect(portOf(listener), '127.0.0.1')
    socket.on('error', () => {})
    sockets.push(socket)
    await once(socket, 'connect')
  }
  await listener.close()
  assert.deepEqual(listener.stats.unserved, { count: 5, estimated: false })
})

test('a thousand clients that connect and reset at once: as many closes as opens, nothing surfaces, no reset reads as an end (attack 5)', async (t) => {
  const { net, events } = real(t)
  const listener = await net.listen(AT)
  const outcomes: string[] = []
  const serving = (async () => {
    for await (const connection of listener) {
      connection.read({ timeout: 10_000 }).then(
        (bytes) => outcomes.push(bytes === null ? 'end' : 'bytes'),
        (error: { code: string }) => outcomes.push(error.code),
      )
    }
  })()
  for (let round = 0; round < 20; round++) {
    const sockets = Array.from({ length: 50 }, () => netConnect(portOf(listener), '127.0.0.1'))
    await Promise.all(
      sockets.map(async (socket) => {
        await once(socket, 'connect')
        socket.resetAndDestroy()
      }),
    )
  }
  while (listener.stats.accepted + listener.stats.vanished + listener.stats.unserved.count < 1_000) await settle(1)
  while (outcomes.length < listener.stats.accepted) await settle(1)
  await listener.close()
  await serving
  assert.deepEqual([...new Set(outcomes)], ['ECONNRESET'])
  const opens = ofType(events, 'open').filter((event) => event.kind === 'connection')
  const closes = ofType(events, 'close').filter((event) => event.kind === 'connection')
  assert.deepEqual(opens.map(({ id }) => id).sort(), closes.map(({ id }) => id).sort())
  assert.equal(opens.length, listener.stats.accepted)
})

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve!: () => void
  const promise = new Promise<void>((done) => (resolve = done))
  return { promise, resolve }
}
