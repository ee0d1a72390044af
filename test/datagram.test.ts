/** Datagram sockets: the same behaviour over memory and over the sockets of Node. */

import assert from 'node:assert/strict'
import { networkInterfaces } from 'node:os'
import { describe, test } from 'node:test'
import {
  bind,
  cachingResolver,
  type Codec,
  codecs,
  connect,
  type Datagram,
  type DatagramSocket,
  Interests,
  LIMITS,
  Network,
  type NetworkOptions,
  Owner,
  type PolicyRequest,
  select,
  SocketError,
  type TraceEvent,
} from 'fairlead'
import { memory, Random, settle, VirtualClock } from 'fairlead/testing'
import { DRIVERS, missing, networkOn } from './support/drivers.js'
import { until } from './support/pairs.js'

const text = (datagram: { data: Uint8Array }) => new TextDecoder().decode(datagram.data)
const port = (socket: DatagramSocket) => (socket.local as { port: number }).port
const hasIpv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === '::1'))
const noIpv6 = hasIpv6 ? false : 'this machine has no IPv6 loopback address'
/** So that a test that waits in vain fails soon. */
const soon = { timeout: 5_000 }

async function failure(promise: Promise<unknown>): Promise<SocketError> {
  const error = await promise.then(
    (value) => assert.fail(`resolved with ${String(value)}`),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof SocketError, String(error))
  return error
}

function thrown(fn: () => unknown): SocketError {
  try {
    fn()
  } catch (error) {
    assert.ok(error instanceof SocketError, String(error))
    return error
  }
  return assert.fail('did not throw')
}

/** A machine with nothing but a loopback interface has nowhere to send a broadcast to. */
function noRoute(error: unknown): undefined {
  assert.equal((error as SocketError).code, 'ENETUNREACH')
}

interface Ground extends AsyncDisposable {
  readonly network: Network
  readonly events: TraceEvent[]
  readonly a: DatagramSocket
  readonly b: DatagramSocket
}

for (const driver of DRIVERS) {
  const networkOf = (o: NetworkOptions = {}) => networkOn(driver, o)

  async function ground(o: NetworkOptions = {}): Promise<Ground> {
    const network = networkOf(o)
    const events: TraceEvent[] = []
    network.trace.subscribe((event) => events.push(event))
    const [a, b] = [await network.bind('udp://127.0.0.1:0'), await network.bind('udp://127.0.0.1:0')]
    return {
      network,
      events,
      a,
      b,
      [Symbol.asyncDispose]: async () => {
        await network.end({ abort: true })
        assert.deepEqual(network.sockets(), [])
        assert.equal(network.shared.budget.held, 0, 'bytes counted that nobody holds any more')
      },
    }
  }

  describe(`datagrams over ${driver}`, { skip: missing(driver) }, () => {
    test('carry data, sender and order, and can be answered to', async () => {
      await using net = await ground()
      for (const word of ['one', 'two', 'three']) await net.a.send(word, net.b.endpoint)
      for (const word of ['one', 'two', 'three']) {
        const datagram = await net.b.receive(soon)
        assert.equal(text(datagram), word)
        assert.equal(datagram.data.constructor, Uint8Array)
        assert.equal(datagram.truncated, false)
        assert.deepEqual(datagram.from, net.a.local)
        await net.b.send(datagram.data, datagram.from)
        assert.equal(text(await net.a.receive(soon)), word)
      }
      const { datagramsRead, datagramsWritten, bytesRead, bytesWritten, unread, unsent, dropped } = net.a.stats
      const counts = { datagramsRead, datagramsWritten, bytesRead, bytesWritten, unread, unsent, dropped }
      assert.deepEqual(counts, { datagramsRead: 3, datagramsWritten: 3, bytesRead: 11, bytesWritten: 11, unread: 0, unsent: 0, dropped: 0 })
    })

    test('N12 an empty datagram is delivered as one of length 0', async () => {
      await using net = await ground()
      await net.a.send('', net.b.local)
      await net.a.send('x', net.b.local)
      assert.equal((await net.b.receive(soon)).data.length, 0)
      assert.equal(text(await net.b.receive(soon)), 'x')
      await net.a.send(new Uint8Array(0), net.b.local)
      const { length, truncated } = await net.b.receiveInto(new Uint8Array(4), soon)
      assert.deepEqual([length, truncated], [0, false])
    })

    test('may be given as any container of bytes, and an address in any spelling', async () => {
      await using net = await ground()
      const bytes = Uint8Array.of(9, 104, 105, 9)
      const to = { transport: 'udp', host: '127.0.0.1', port: port(net.b) } as const
      const ways: [Parameters<DatagramSocket['send']>[0], Parameters<DatagramSocket['send']>[1]][] = [
        ['hi', net.b.endpoint],
        [bytes.subarray(1, 3), new URL(net.b.endpoint)],
        [bytes.slice(1, 3).buffer, to],
        [new DataView(bytes.buffer, 1, 2), net.b.local],
        [Buffer.from('hi'), { family: 'ipv4', address: '127.0.0.1', port: port(net.b) }],
      ]
      for (const [data, at] of ways) {
        await net.a.send(data, at)
        assert.equal(text(await net.b.receive(soon)), 'hi')
      }
    })

    test('an address object that is changed is looked at again', async () => {
      await using net = await ground()
      const to = { family: 'ipv4' as const, address: '127.0.0.1', port: port(net.b) }
      await net.a.send('b', to)
      to.port = port(net.a)
      await net.a.send('a', to)
      assert.equal(text(await net.b.receive(soon)), 'b')
      assert.equal(text(await net.a.receive(soon)), 'a')
    })

    test('N25 a buffer that is too short tells truncation, and the next datagram is whole', async () => {
      await using net = await ground()
      for (const word of ['abcdef', 'gh', 'ijk']) await net.a.send(word, net.b.local)
      const into = new Uint8Array(3)
      const results = []
      for (let i = 0; i < 3; i++) {
        const { length, truncated, from } = await net.b.receiveInto(into, soon)
        assert.deepEqual(from, net.a.local)
        results.push([new TextDecoder().decode(into.subarray(0, length)), truncated])
      }
      assert.deepEqual(results, [
        ['abc', true],
        ['gh', false],
        ['ijk', false],
      ])
    })

    test('receiveMany gives what is there, at most so many, at least one', async () => {
      await using net = await ground()
      const waiting = net.b.receiveMany(10, soon)
      await net.a.send('1', net.b.local)
      assert.deepEqual((await waiting).map(text), ['1'])
      for (const word of ['2', '3', '4']) await net.a.send(word, net.b.local)
      await until('they arrived', () => net.b.stats.unread === 3)
      assert.deepEqual((await net.b.receiveMany(2, soon)).map(text), ['2', '3'])
      assert.deepEqual((await net.b.receiveMany(2, soon)).map(text), ['4'])
      await assert.rejects(net.b.receiveMany(0), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' })
    })

    test('tryReceive takes what is there; waitReadable consumes nothing', async () => {
      await using net = await ground()
      assert.equal(net.b.tryReceive(), undefined)
      const waiting = net.b.waitReadable(soon)
      await net.a.send('x', net.b.local)
      await waiting
      await net.b.waitReadable(soon)
      assert.equal(net.b.stats.unread, 1)
      assert.equal(text(net.b.tryReceive() as Datagram), 'x')
      assert.equal(net.b.tryReceive(), undefined)
      assert.equal(net.b.stats.unread, 0)
    })

    test('one reader at a time: a second is Busy', async () => {
      await using net = await ground()
      const first = net.b.receive(soon)
      for (const second of [
        () => net.b.receive(),
        () => net.b.receiveInto(new Uint8Array(1)),
        () => net.b.receiveMany(1),
        () => net.b.waitReadable(),
        () => net.b.messages().next(),
        async () => net.b.tryReceive(),
        async () => net.b.deliver('active', () => {}),
      ]) {
        assert.equal((await failure(second())).code, 'BUSY')
      }
      await net.a.send('x', net.b.local)
      assert.equal(text(await first), 'x')
      const loop = net.b.messages()
      const step = loop.next()
      assert.equal((await failure(net.b.receive())).code, 'BUSY')
      assert.equal((await failure(loop.next())).code, 'BUSY')
      await net.a.send('y', net.b.local)
      assert.equal(text((await step).value as Datagram), 'y')
      assert.equal((await failure(net.b.receive())).code, 'BUSY', 'a loop holds the slot between its steps')
      await loop.return?.()
      await net.a.send('z', net.b.local)
      assert.equal(text(await net.b.receive(soon)), 'z')
    })

    test('a loop ends at close; leaving one closes nothing and loses nothing', async () => {
      await using net = await ground()
      for (const word of ['1', '2', '3']) await net.a.send(word, net.b.local)
      const seen: string[] = []
      for await (const datagram of net.b) {
        seen.push(text(datagram))
        if (seen.length === 2) break
      }
      for await (const datagram of net.b.messages(soon)) {
        seen.push(text(datagram))
        void net.b.close()
      }
      assert.deepEqual(seen, ['1', '2', '3'])
      for await (const datagram of net.b) assert.fail(text(datagram))
    })

    test('N1 N3 a receive that timed out or was cancelled has consumed nothing; the past wins', async () => {
      await using net = await ground()
      const timed = await failure(net.b.receive({ timeout: 5 }))
      assert.deepEqual([timed.name, timed.op], ['DeadlineError', 'receive'])
      const controller = new AbortController()
      const cancelled = failure(net.b.receive({ signal: controller.signal }))
      controller.abort(new Error('enough'))
      assert.equal((await cancelled).name, 'Cancelled')
      await net.a.send('x', net.b.local)
      await net.b.waitReadable(soon)
      for (const wait of [{ timeout: 0 }, { deadline: 1 }, { deadline: new Date(1) }]) {
        assert.equal((await failure(net.b.receive(wait))).name, 'DeadlineError')
        assert.equal((await failure(net.a.send('never sent', net.b.local, wait))).name, 'DeadlineError')
        assert.equal((await failure(net.a.sendMany([{ data: 'never sent', to: net.b.local }], wait))).name, 'DeadlineError')
        assert.equal((await failure(net.a.waitWritable(wait))).name, 'DeadlineError')
      }
      assert.equal((await failure(net.a.send('never sent', net.b.local, { signal: AbortSignal.abort() }))).name, 'Cancelled')
      assert.equal(text(await net.b.receive(soon)), 'x')
      assert.equal(net.b.tryReceive(), undefined)
      await assert.rejects(net.b.receive({ timeout: -1 }), { name: 'RangeError' })
      await assert.rejects(net.b.receive({ timeuot: 1 } as never), { code: 'UNKNOWN_OPTION', message: /did you mean "timeout"/ })
    })

    test('N26 an oversized datagram is refused with the limit, and the socket goes on', async () => {
      await using net = await ground()
      const error = await failure(net.a.send(new Uint8Array(65_508), net.b.local))
      assert.deepEqual([error.name, error.code, error.op, error.bytesWritten], ['SystemFailure', 'EMSGSIZE', 'send', 0])
      assert.match(error.message, /65508 bytes.*65507/)
      await net.a.send(new Uint8Array(65_507), net.b.local)
      const datagram = await net.b.receive(soon)
      assert.deepEqual([datagram.data.length, datagram.truncated], [65_507, false])
      assert.equal(net.a.stats.datagramsWritten, 1)
    })

    test('N26 over IPv6 the limit is 65,527 bytes', { skip: noIpv6 }, async () => {
      await using net = await ground()
      await using six = await net.network.bind('udp://[::1]:0')
      const error = await failure(six.send(new Uint8Array(65_528), six.local))
      assert.equal(error.code, 'EMSGSIZE')
      assert.match(error.message, /65527/)
      await six.send(new Uint8Array(65_527), six.local)
      assert.equal((await six.receive(soon)).data.length, 65_527)
    })

    test('a socket for all interfaces reaches both families, and knows IPv4 peers as IPv4', { skip: noIpv6 }, async () => {
      await using net = await ground()
      await using both = await net.network.bind('udp://*:0')
      await using six = await net.network.bind('udp://[::1]:0')
      assert.equal(both.endpoint, `udp://127.0.0.1:${port(both)}`)
      await net.a.send('four', both.endpoint)
      const four = await both.receive(soon)
      assert.deepEqual(four.from, net.a.local)
      await both.send('back', four.from)
      const back = await net.a.receive(soon)
      assert.deepEqual([text(back), back.from], ['back', { family: 'ipv4', address: '127.0.0.1', port: port(both) }])
      await six.send('six', `udp://[::1]:${port(both)}`)
      assert.deepEqual((await both.receive(soon)).from, six.local)
      const wrong = await failure(net.a.send('x', six.local))
      assert.deepEqual([wrong.name, wrong.code], ['SystemFailure', 'EAFNOSUPPORT'])
      await using only = await net.network.bind('udp://[::]:0', { ipv6Only: true })
      assert.equal((await failure(only.send('x', net.a.local))).code, 'EAFNOSUPPORT')
    })

    test('a connected socket sends to its peer and hears nobody else', async () => {
      await using net = await ground()
      await using c = await net.network.connect(`udp://127.0.0.1:${port(net.a)}`)
      assert.deepEqual(c.remote, net.a.local)
      await net.b.send('stranger', c.local)
      await c.send('hello')
      const asked = await net.a.receive(soon)
      assert.equal(text(asked), 'hello')
      assert.deepEqual(asked.from, c.local)
      await net.a.send('welcome', asked.from)
      const answer = await c.receive(soon)
      assert.equal(text(answer), 'welcome')
      await c.send('again', answer.from)
      await c.send('and again', c.endpoint)
      assert.deepEqual([text(await net.a.receive(soon)), text(await net.a.receive(soon))], ['again', 'and again'])
      const elsewhere = await failure(c.send('x', net.b.local))
      assert.deepEqual([elsewhere.name, elsewhere.code], ['SystemFailure', 'EISCONN'])
      assert.match(elsewhere.message, new RegExp(`127.0.0.1:${port(net.a)}.*127.0.0.1:${port(net.b)}`))
      assert.equal((await failure(net.a.send('x'))).code, 'EDESTADDRREQ')
    })

    test('a peer that is not there is told once, and the socket goes on', async () => {
      await using net = await ground()
      const gone = await net.network.bind('udp://127.0.0.1:0')
      await using c = await net.network.connect(`udp://127.0.0.1:${port(gone)}`)
      await gone.close()
      await c.send('anybody?')
      const refused = await failure(c.receive(soon))
      assert.deepEqual([refused.name, refused.code, refused.op], ['Broken', 'ECONNREFUSED', 'receive'])
      assert.equal((await failure(c.receive({ timeout: 5 }))).name, 'DeadlineError')
      await using back = await net.network.bind(`udp://127.0.0.1:${port(gone)}`)
      await c.send('you?')
      assert.equal(text(await back.receive(soon)), 'you?')
      await back.send('me', c.local)
      assert.equal(text(await c.receive(soon)), 'me')
    })

    test('waitReadable and loops tell of a missing peer, too, and can be gone on with', async () => {
      await using net = await ground()
      const gone = await net.network.bind('udp://127.0.0.1:0')
      await using c = await net.network.connect(`udp://127.0.0.1:${port(gone)}`)
      await gone.close()
      const loop = c.messages(soon)
      for (let i = 0; i < 2; i++) {
        await c.send('anybody?')
        await c.waitReadable(soon)
        assert.equal((await failure(loop.next())).code, 'ECONNREFUSED')
      }
      assert.equal((await failure(c.receive({ timeout: 5 }))).name, 'DeadlineError', 'a failed step gives the slot back')
    })

    test('what nobody receives is bounded in number; the oldest are dropped and counted', async () => {
      await using net = await ground({ limits: { datagrams: 3 } })
      for (let i = 0; i < 10; i++) await net.a.send(String(i), net.b.local)
      await until('seven were dropped', () => net.b.stats.dropped === 7)
      assert.equal(net.b.stats.unread, 3)
      assert.equal(net.network.shared.budget.held, 3)
      assert.deepEqual((await net.b.receiveMany(10, soon)).map(text), ['7', '8', '9'])
    })

    test('and in bytes', async () => {
      await using net = await ground({ limits: { datagramBytes: 10 } })
      for (const word of ['aaaa', 'bbbb', 'cccccc', '0123456789ab', '']) await net.a.send(word, net.b.local)
      await until('two were dropped', () => net.b.stats.dropped === 2)
      assert.deepEqual((await net.b.receiveMany(10, soon)).map(text), ['bbbb', 'cccccc', ''])
    })

    test('sendMany sends all, from an array or as they come', async () => {
      await using net = await ground()
      const batch = Array.from({ length: 200 }, (_, i) => ({ data: String(i), to: net.b.local }))
      assert.equal(await net.a.sendMany(batch, soon), 200)
      const seen: string[] = []
      while (seen.length < 200) seen.push(...(await net.b.receiveMany(64, soon)).map(text))
      assert.deepEqual(
        seen,
        batch.map(({ data }) => data),
      )
      async function* slowly() {
        for (let i = 0; i < 3; i++) yield { data: String(i), to: net.b.endpoint }
      }
      assert.equal(await net.a.sendMany(slowly()), 3)
      assert.equal(await net.a.sendMany([]), 0)
      const past = await failure(net.a.sendMany([], { timeout: 0 }))
      assert.deepEqual([past.name, past.op, past.datagramsWritten], ['DeadlineError', 'sendMany', 0])
      await assert.rejects(net.a.sendMany(5 as never), { name: 'TypeError' })
    })

    test('a batch that does not come is given up at the deadline, the signal and the close', async () => {
      await using net = await ground()
      const { a, b } = net
      let givenUp = 0
      async function* stalling() {
        yield { data: 'x', to: b.local }
        await new Promise(() => {})
      }
      const counting = () => {
        const batch = stalling()
        return { [Symbol.asyncIterator]: () => ({ next: () => batch.next(), return: () => (givenUp++, batch.return()) }) }
      }
      const late = await failure(a.sendMany(counting(), { timeout: 20 }))
      assert.deepEqual([late.name, late.op, late.datagramsWritten], ['DeadlineError', 'sendMany', 1])
      const controller = new AbortController()
      const cancelled = failure(a.sendMany(counting(), { signal: controller.signal }))
      await b.receiveMany(1, soon)
      await b.receive(soon)
      controller.abort()
      assert.deepEqual([(await cancelled).name, (await cancelled).datagramsWritten], ['Cancelled', 1])
      const closed = failure(a.sendMany(counting()))
      await b.receive(soon)
      const owner = new Owner('heir', net.network)
      assert.match(thrown(() => a.moveTo(owner)).message, /moveTo while sendMany is pending/)
      await a.close()
      assert.deepEqual([(await closed).code, (await closed).datagramsWritten], ['CLOSED', 1])
      assert.equal((await failure(a.sendMany([]))).code, 'CLOSED')
      assert.equal(givenUp, 3)
    })

    test('a send that waits for a name is pending, and woken by close and abort', async () => {
      let told: AbortSignal | undefined
      const lookup = (_: string, { signal }: { signal?: AbortSignal | undefined } = {}) => {
        told = signal
        return new Promise<never>(() => {})
      }
      await using net = await ground({ resolver: { lookup } })
      for (const [socket, end] of [
        [net.a, () => net.a.close()],
        [net.b, () => net.b.abort()],
      ] as const) {
        const sending = failure(socket.send('x', 'udp://slow.test:5'))
        const busy = thrown(() => socket.moveTo(new Owner('heir', net.network)))
        assert.match(busy.message, /moveTo while send is pending/)
        await end()
        const { name, op } = await sending
        assert.deepEqual([name, op, told?.aborted], ['Closed', 'send', true])
      }
    })

    test('a failure ends sendMany, which tells how many were sent', async () => {
      await using net = await ground()
      let taken = 0
      function* batch() {
        for (const length of [1, 2, 70_000, 3]) {
          taken++
          yield { data: new Uint8Array(length), to: net.b.local }
        }
      }
      const error = await failure(net.a.sendMany(batch()))
      assert.deepEqual([error.code, error.op, error.datagramsWritten, taken], ['EMSGSIZE', 'sendMany', 2, 3])
      assert.equal((await net.b.receive(soon)).data.length, 1)
      assert.equal((await net.b.receive(soon)).data.length, 2)
      assert.equal(net.b.tryReceive(), undefined)
    })

    test('close wakes a receive, refuses everything after, and is told once', async () => {
      await using net = await ground()
      const { a, b } = net
      const { signal } = b
      const waiting = failure(b.receive())
      const sent = b.send('last words', a.local)
      const report = await b.close()
      assert.deepEqual(report, { clean: true, unsent: 0 })
      assert.equal(await b.close(), report)
      assert.equal(await b.closed, report)
      await sent
      assert.equal(text(await a.receive(soon)), 'last words')
      assert.deepEqual([(await waiting).code, (await waiting).op], ['CLOSED', 'receive'])
      for (const [op, verb] of [
        ['receive', () => b.receive()],
        ['receiveInto', () => b.receiveInto(new Uint8Array(1))],
        ['receiveMany', () => b.receiveMany(1)],
        ['waitReadable', () => b.waitReadable()],
        ['waitWritable', () => b.waitWritable()],
        ['send', () => b.send('x', a.local)],
        ['sendMany', () => b.sendMany([{ data: 'x', to: a.local }])],
        ['tryReceive', async () => b.tryReceive()],
        ['join', async () => b.join('239.1.2.3')],
        ['get', async () => b.get('broadcast')],
      ] as const) {
        const error = await failure(verb())
        assert.deepEqual([error.name, error.code, error.op], ['Closed', 'CLOSED', op])
      }
      assert.ok(signal.aborted)
      assert.equal((signal.reason as SocketError).code, 'CLOSED')
      const told = net.events.filter(({ id }) => id === b.id)
      assert.deepEqual(
        told.map((event) => [event.type, 'kind' in event && event.kind]),
        [
          ['open', 'datagram'],
          ['close', 'datagram'],
        ],
      )
      assert.ok(!net.network.sockets().includes(b))
    })

    test('abort gives its reason, and an owner ends its sockets', async () => {
      await using net = await ground()
      const waiting = failure(net.b.receive())
      net.b.abort(new Error('why not'))
      net.b.abort()
      const error = await waiting
      assert.deepEqual([error.name, error.code], ['Closed', 'ABORTED'])
      const report = await net.b.closed
      assert.equal(report.clean, false)
      assert.equal((report.reason as SocketError & { cause: Error }).cause.message, 'why not')
      const owner = new Owner('worker', net.network)
      const c = await net.network.bind('udp://127.0.0.1:0', { owner })
      assert.deepEqual(owner.sockets(), [c])
      assert.equal(c.owner, owner)
      await owner.end()
      assert.equal((await failure(c.receive())).name, 'Closed')
      assert.equal((await failure(net.network.bind('udp://127.0.0.1:0', { owner }))).code, 'OWNER_ENDED')
    })

    test('moves to another owner with what waits, but not under an operation', async () => {
      await using net = await ground()
      const owner = new Owner('heir', net.network)
      const seen: string[] = []
      const delivery = net.b.deliver('active', (datagram) => seen.push(text(datagram)))
      net.b.moveTo(owner)
      assert.deepEqual([net.b.owner, owner.sockets()], [owner, [net.b]])
      await net.a.send('1', net.b.local)
      await until('it was delivered', () => seen.length === 1)
      await delivery.stop()
      const waiting = net.b.receive(soon)
      assert.equal(thrown(() => net.b.moveTo(net.network)).code, 'BUSY')
      await net.a.send('2', net.b.local)
      assert.equal(text(await waiting), '2')
      await net.a.send('3', net.b.local)
      await net.b.waitReadable(soon)
      net.b.moveTo(net.network)
      await owner.end()
      assert.equal(text(await net.b.receive(soon)), '3')
      assert.equal(thrown(() => net.b.moveTo(owner)).code, 'OWNER_ENDED')
    })

    test('a signal gives up a bind and a connect that have begun', async () => {
      await using net = await ground()
      for (const open of [
        (signal: AbortSignal) => net.network.bind('udp://127.0.0.1:0', { signal }),
        (signal: AbortSignal) => net.network.connect(net.a.endpoint, { signal }),
      ]) {
        const controller = new AbortController()
        const opening = failure(open(controller.signal))
        controller.abort('changed my mind')
        const error = await opening
        assert.deepEqual([error.name, error.cause], ['Cancelled', 'changed my mind'])
      }
      assert.equal(net.network.sockets().length, 2)
    })

    test('what a context opens belongs to its owner, whose end gives up a look-up', async () => {
      const resolver = { lookup: () => new Promise<never>(() => {}) }
      await using net = await ground({ resolver })
      const owner = new Owner('context', net.network)
      const socket = await owner.run(() => net.network.bind('udp://127.0.0.1:0'))
      assert.equal(socket.owner, owner)
      const opening = failure(owner.run(() => net.network.connect('udp://slow.test:5')))
      const binding = failure(owner.run(() => net.network.bind('udp://slow.test:5')))
      const sending = failure(socket.send('x', 'udp://slow.test:5', { timeout: 20 }))
      assert.equal((await sending).name, 'DeadlineError')
      await owner.end()
      assert.deepEqual([(await opening).code, (await binding).code], ['OWNER_ENDED', 'OWNER_ENDED'])
    })

    test('can be selected: readable, writable, and closed once', async () => {
      await using net = await ground()
      using interests = new Interests().add(net.a).add(net.b)
      assert.deepEqual(await select(interests, { timeout: 0 }), [])
      assert.deepEqual(
        (await select([{ socket: net.a, writable: true }], { timeout: 0 })).map(({ writable }) => writable),
        [true],
      )
      const selecting = select(interests, soon)
      await net.a.send('x', net.b.local)
      const [ready] = await selecting
      assert.deepEqual([ready?.socket, ready?.readable], [net.b, true])
      assert.equal((await select(interests, { timeout: 0 })).length, 1, 'it is level-triggered')
      assert.equal(text(net.b.tryReceive() as Datagram), 'x')
      assert.deepEqual(await select(interests, { timeout: 0 }), [])
      await net.b.close()
      const [closed] = await select(interests, soon)
      assert.equal(closed?.broken?.code, 'CLOSED')
    })

    test('names are looked up once in 30 s, and the policy is asked for each address', async () => {
      const lookups: string[] = []
      const asked: string[] = []
      const resolver = {
        async lookup(name: string) {
          lookups.push(name)
          if (name === 'nowhere.test') throw Object.assign(new Error('no'), { code: 'ENOTFOUND' })
          return [
            { address: '::1', family: 6 as const },
            { address: '127.0.0.9', family: 4 as const },
            { address: '127.0.0.1', family: 4 as const },
          ]
        },
      }
      const policy = ({ direction, name, address }: PolicyRequest) => {
        const at = address && address.family !== 'unix' ? address.address : ''
        asked.push(`${direction} ${name ?? ''} ${at}`.trim())
        return (name !== 'forbidden.test' && at !== '127.0.0.9') || 'because'
      }
      await using net = await ground({ resolver: cachingResolver(resolver, performance), policy })
      asked.length = 0
      const to = `udp://friend.test:${port(net.b)}`
      await net.a.send('1', to)
      await net.a.send('2', to)
      assert.deepEqual([text(await net.b.receive(soon)), text(await net.b.receive(soon))], ['1', '2'])
      assert.deepEqual(asked.slice(0, 3), ['connect friend.test', 'connect friend.test 127.0.0.9', 'connect friend.test 127.0.0.1'])
      await net.a.send('3', net.b.local)
      assert.equal(asked.at(-1), 'connect  127.0.0.1')
      const denied = await failure(net.a.send('x', `udp://forbidden.test:${port(net.b)}`))
      assert.deepEqual([denied.name, denied.code, denied.op], ['Denied', 'POLICY', 'send'])
      const missing = await failure(net.a.send('x', 'udp://nowhere.test:5'))
      assert.deepEqual([missing.name, missing.code], ['AddressError', 'ENOTFOUND'])
      assert.deepEqual(lookups, ['friend.test', 'nowhere.test'])
    })

    test('multicast reaches those who joined, until they leave', async () => {
      await using net = await ground()
      const group = '239.255.77.41'
      await using one = await net.network.bind('udp://0.0.0.0:0', { reuseAddress: true })
      await using other = await net.network.bind(`udp://0.0.0.0:${port(one)}`, { reuseAddress: true })
      await using sender = await net.network.bind('udp://127.0.0.1:0', { multicastInterface: '127.0.0.1' })
      for (const socket of [one, other]) socket.join(group, { interface: '127.0.0.1' })
      await sender.send('all', `udp://${group}:${port(one)}`)
      assert.deepEqual([text(await one.receive(soon)), text(await other.receive(soon))], ['all', 'all'])
      const twice = thrown(() => one.join(group, { interface: '127.0.0.1' }))
      assert.deepEqual([twice.name, twice.code, twice.op], ['SystemFailure', 'EADDRINUSE', 'join'])
      other.leave(group, { interface: '127.0.0.1' })
      const never = thrown(() => other.leave(group, { interface: '127.0.0.1' }))
      assert.deepEqual([never.name, never.code, never.op], ['SystemFailure', 'EADDRNOTAVAIL', 'leave'])
    })

    test('a socket of both families joins groups of both', { skip: noIpv6 }, async () => {
      await using net = await ground()
      await using both = await net.network.bind('udp://*:0')
      both.join('239.255.77.42', { interface: '127.0.0.1' })
      await using sender = await net.network.bind('udp://127.0.0.1:0', { multicastInterface: '127.0.0.1' })
      await sender.send('both', `udp://239.255.77.42:${port(both)}`)
      const { data, from } = await both.receive(soon)
      assert.deepEqual([text({ data }), from], ['both', sender.local])
      both.leave('239.255.77.42', { interface: '127.0.0.1' })
    })

    test('a group is the same however it is spelled', { skip: noIpv6 }, async () => {
      await using net = await ground()
      const socket = await net.network.bind('udp://[::1]:0')
      socket.join('FF02:0:0::0:4242', { interface: '::1' })
      assert.equal(thrown(() => socket.join('ff02::4242', { interface: '::1' })).code, 'EADDRINUSE')
      socket.leave('ff02::4242', { interface: '::1' })
      assert.equal(thrown(() => socket.leave('ff02::4242', { interface: '::1' })).code, 'EADDRNOTAVAIL')
    })

    test('what is wrong with a group is told with the group', async () => {
      await using net = await ground()
      const { a } = net
      a.join('239.1.2.3', { interface: '127.0.0.1' })
      const twice = thrown(() => a.join('239.1.2.3', { interface: '127.0.0.1' }))
      assert.deepEqual([twice.name, twice.code, twice.op, twice.phase], ['SystemFailure', 'EADDRINUSE', 'join', 'option'])
      assert.equal(twice.message, 'cannot join 239.1.2.3 on "127.0.0.1": the address is already in use')
      const never = thrown(() => a.leave('232.1.2.3', { interface: '127.0.0.1', source: '192.0.2.7' }))
      assert.match(never.message, /^cannot leave 232\.1\.2\.3 on "127\.0\.0\.1" from "192\.0\.2\.7": /)
      a.leave('239.1.2.3', { interface: '127.0.0.1' })
    })

    test('a broadcast needs the option, also to connect', async () => {
      await using net = await ground()
      const to = 'udp://255.255.255.255:9'
      assert.deepEqual((await failure(net.network.connect(to))).code, 'EACCES')
      await using allowed = await net.network.connect(to, { broadcast: true }).catch(noRoute)
      if (allowed !== undefined) assert.equal(allowed.get('broadcast'), true)
      const refused = await failure(net.a.send('x', 'udp://255.255.255.255:9'))
      assert.deepEqual([refused.name, refused.code, refused.op], ['SystemFailure', 'EACCES', 'send'])
      await net.a.send('x', net.b.local)
      assert.equal(text(await net.b.receive(soon)), 'x')
    })

    test('with a codec, each datagram is one message, and a bad one names its sender', async () => {
      await using net = await ground()
      const loop = net.b.messages(codecs.lines(), soon)
      const lines = ['one\n', 'two', 'three\nthree and a half\n', '', 'four\n']
      for (const line of lines) await net.a.send(line, net.b.local)
      const seen: string[] = []
      const codes: string[] = []
      while (seen.length < 2) {
        try {
          for await (const { message, from } of loop) {
            assert.deepEqual(from, net.a.local)
            if (seen.push(String(message)) === 2) break
          }
        } catch (error) {
          assert.ok(error instanceof SocketError)
          assert.deepEqual([error.name, error.remote], ['FrameError', `127.0.0.1:${port(net.a)}`])
          codes.push(error.code)
        }
      }
      assert.deepEqual(seen, ['one', 'four'])
      assert.deepEqual(codes, ['INCOMPLETE', 'BAD_FRAME', 'INCOMPLETE'])
    })

    test('a codec that fails is a bad frame, and the loop may go on', async () => {
      await using net = await ground()
      const broken: Codec<string> = {
        ...codecs.lines(),
        decoder: () => {
          const decoder = codecs.lines().decoder()
          const next = () => {
            const line = decoder.next()
            if (line === 'bad') throw new Error('no word')
            return line
          }
          return { push: (data) => decoder.push(data), end: () => decoder.end(), rest: () => decoder.rest(), next } as typeof decoder
        },
      }
      for (const line of ['bad\n', 'good\n']) await net.a.send(line, net.b.local)
      const messages = net.b.messages(broken, soon)
      const error = await failure(messages.next())
      assert.deepEqual([error.name, error.code, (error.cause as Error).message], ['FrameError', 'BAD_FRAME', 'no word'])
      assert.equal((await messages.next()).value.message, 'good')
      await messages.return?.()
    })

    test('delivery: a handler gets them in order, then the loop may go on', async () => {
      await using net = await ground()
      const seen: string[] = []
      const delivery = net.b.deliver(2, async (datagram) => {
        await settle(1)
        seen.push(text(datagram))
      })
      for (const word of ['1', '2', '3']) await net.a.send(word, net.b.local)
      await until('two were delivered', () => seen.length === 2)
      assert.equal(delivery.mode, 'passive')
      assert.equal(text(await net.b.receive(soon)), '3')
      delivery.set('active')
      await net.a.send('4', net.b.local)
      await until('the fourth was delivered', () => seen.length === 3)
      await delivery.stop()
      const failing = net.b.deliver('active', () => {
        throw new Error('no')
      })
      await net.a.send('5', net.b.local)
      assert.equal((await failing.done).reason?.code, 'HANDLER_FAILED')
      assert.equal((await net.b.closed).reason?.code, 'HANDLER_FAILED')
      assert.equal(net.events.filter(({ type }) => type === 'error').length, 1)
    })

    test('a flood does not starve the event loop', async () => {
      await using net = await ground()
      let turns = 0
      const count = () => {
        if (++turns < 20) setImmediate(count)
        else void net.a.close()
      }
      setImmediate(count)
      await net.a.send('ball', net.a.local)
      for await (const { data, from } of net.a) {
        void net.a.send(data, from)
        await net.a.send(data, from).catch(() => {})
      }
      assert.equal(turns, 20)
    })

    test('bad arguments are typed, name the value, and leave the socket as it was', async () => {
      await using net = await ground()
      const { a, b, network } = net
      const cases: [string, string, RegExp, () => unknown][] = [
        ['AddressError', 'BAD_PORT', /65536.*0 to 65535/, () => network.bind('udp://127.0.0.1:65536')],
        ['AddressError', 'BAD_PORT', /-1.*0 to 65535/, () => network.bind('udp://127.0.0.1:-1')],
        ['AddressError', 'BAD_PORT', /-1/, () => network.bind({ transport: 'udp', host: '127.0.0.1', port: -1 })],
        ['AddressError', 'BAD_PORT', /65536/, () => a.send('x', 'udp://127.0.0.1:65536')],
        ['AddressError', 'BAD_PORT', /65536/, () => a.send('x', { family: 'ipv4', address: '127.0.0.1', port: 65_536 })],
        ['AddressError', 'BAD_PORT', /-1/, () => a.send('x', { family: 'ipv4', address: '127.0.0.1', port: -1 })],
        ['AddressError', 'BAD_PORT', /port 0.*1 to 65535/, () => a.send('x', 'udp://127.0.0.1:0')],
        ['AddressError', 'BAD_PORT', /port 0.*1 to 65535/, () => network.connect('udp://127.0.0.1:0')],
        ['AddressError', 'BAD_HOST', /localhost.*an address.*"ipv4"/, () => a.send('x', { family: 'ipv4', address: 'localhost', port: 5 })],
        ['AddressError', 'BAD_HOST', /127\.0\.0\.1.*"ipv6"/, () => a.send('x', { family: 'ipv6', address: '127.0.0.1', port: 5 })],
        ['AddressError', 'BAD_HOST', /"ipx"/, () => a.send('x', { family: 'ipx' as 'ipv4', address: '127.0.0.1', port: 5 })],
        ['AddressError', 'BAD_HOST', /\*:5.*a name or an address/, () => a.send('x', 'udp://*:5')],
        ['AddressError', 'BAD_SCHEME', /"tcp".*expected udp:/, () => a.send('x', 'tcp://127.0.0.1:5')],
        ['AddressError', 'BAD_ENDPOINT', /host and port for udp/, () => a.send('x', { family: 'unix', path: '/x', abstract: false })],
        ['AddressError', 'BAD_HOST', /127\.0\.0\.1.*224\.0\.0\.0 to 239\.255\.255\.255/, () => a.join('127.0.0.1')],
        ['AddressError', 'BAD_HOST', /"group\.test"/, () => a.join('group.test')],
        ['AddressError', 'BAD_HOST', /ff02::1/, () => a.join('ff02::1')],
        ['AddressError', 'BAD_HOST', /source "::1"/, () => a.join('232.1.2.3', { source: '::1' })],
        ['OptionError', 'UNKNOWN_OPTION', /did you mean "source"/, () => a.join('239.1.2.3', { sourse: 'x' } as never)],
        [
          'OptionError',
          'UNKNOWN_OPTION',
          /did you mean "reusePort"/,
          () => network.bind('udp://127.0.0.1:0', { reuseport: true } as never),
        ],
        ['OptionError', 'UNKNOWN_OPTION', /tls/, () => network.connect('udp://127.0.0.1:5', { tls: {} } as never)],
        ['SystemFailure', 'EADDRINUSE', /in use/, () => network.bind(a.endpoint)],
        ['SystemFailure', 'UNSUPPORTED', /udp:.*tcp:/, () => network.bind('tcp://127.0.0.1:0')],
      ]
      if (network.driver.guarantees.unixpacket !== true) {
        cases.push(['SystemFailure', 'UNSUPPORTED', /kernel/, () => network.bind('unixpacket:/tmp/x')])
        cases.push(['SystemFailure', 'UNSUPPORTED', /kernel/, () => network.connect('unixpacket:/tmp/x')])
      }
      for (const [name, code, message, fn] of cases) {
        const error = await failure((async () => fn())())
        assert.deepEqual([error.name, error.code], [name, code], `${error.message} of ${fn}`)
        assert.match(error.message, message)
      }
      const native: [string, () => unknown][] = [
        ['TypeError', () => a.send(5 as never, b.local)],
        ['TypeError', () => a.send('x', 5 as never)],
        ['TypeError', () => a.send('x', null as never)],
        ['TypeError', () => a.send('x', { family: 'ipv4', address: '127.0.0.1', port: '5' } as never)],
        ['TypeError', () => a.receiveInto('x' as never)],
        ['TypeError', () => a.receiveMany('x' as never)],
        ['TypeError', () => a.join(5 as never)],
        ['TypeError', () => a.join('239.1.2.3', { interface: 5 } as never)],
        ['TypeError', () => a.join('239.1.2.3', 5 as never)],
        ['TypeError', () => a.leave('239.1.2.3', null as never)],
        ['TypeError', () => a.sendMany([null] as never)],
        ['TypeError', () => a.sendMany('text' as never)],
        ['RangeError', () => a.receiveMany(0)],
        ['TypeError', () => network.bind('udp://127.0.0.1:0', 5 as never)],
        ['TypeError', () => network.connect('udp://127.0.0.1:5', null as never)],
        ['RangeError', () => network.connect('udp://127.0.0.1:5', { family: 5 as never })],
        ['TypeError', () => network.bind(5 as never)],
        ['TypeError', () => network.bind('udp://127.0.0.1:0', { broadcast: 1 } as never)],
      ]
      for (const [name, fn] of native) {
        const code = name === 'TypeError' ? 'ERR_INVALID_ARG_TYPE' : 'ERR_OUT_OF_RANGE'
        await assert.rejects((async () => fn())(), { name, code }, String(fn))
      }
      await a.send('x', b.local)
      assert.equal(text(await b.receive(soon)), 'x')
      assert.equal(network.sockets().length, 2)
    })

    test('the policy is asked before binding and connecting', async () => {
      const network = networkOf({ policy: { deny: ['127.0.0.9'], directions: ['listen', 'connect'] } })
      await using owner = network
      for (const fn of [() => owner.bind('udp://127.0.0.9:0'), () => owner.connect('udp://127.0.0.9:5')]) {
        assert.equal((await failure(fn())).code, 'POLICY')
      }
      await using a = await owner.bind('udp://127.0.0.1:0')
      assert.equal((await failure(a.send('x', 'udp://127.0.0.9:5'))).code, 'POLICY')
    })
  })
}

describe('datagrams in the process', () => {
  const virtual = (o: NetworkOptions & { capacity?: number | 'lockstep' | undefined } = {}) => {
    const { capacity, ...rest } = o
    const clock = new VirtualClock()
    return { clock, network: new Network({ driver: memory({ capacity }), clock, ...rest }) }
  }

  test('sends wait for a driver that takes no more; one that times out then was not sent', async () => {
    const { clock, network } = virtual({ capacity: 'lockstep' })
    const [a, b] = [await network.bind('udp://127.0.0.1:0'), await network.bind('udp://127.0.0.1:0')]
    const first = a.send('first', b.local)
    const controller = new AbortController()
    const withdrawn = failure(a.send('withdrawn', b.local, { signal: controller.signal }))
    const third = a.send('third', b.local)
    assert.equal(a.stats.unsent, 19)
    controller.abort()
    const error = await withdrawn
    assert.deepEqual([error.name, error.bytesWritten], ['Cancelled', 0])
    await Promise.all([first, third])
    assert.deepEqual((await b.receiveMany(5)).map(text), ['first', 'third'])
    assert.equal(a.stats.unsent, 0)
    const many = Array.from({ length: 50 }, (_, i) => ({ data: String(i), to: b.local }))
    assert.equal(await a.sendMany(many), 50)
    await a.waitWritable()
    assert.equal((await b.receiveMany(100)).length, 50)
    assert.equal(clock.pending, 0)
    await network.close()
  })

  test('a full queue of a UNIX-domain name makes its senders wait; deadlines are kept and close gives up in time', async () => {
    const { clock, network } = virtual({ limits: { datagrams: 2 } })
    const at = await network.bind('unixgram:@full')
    const from = await network.bind('unixgram:/from')
    await from.send('1', at.local)
    await from.send('2', 'unixgram:@full')
    const late = failure(from.send('3', at.local, { timeout: 50 }))
    const kept = from.send('4', at.local)
    const writable = from.waitWritable()
    await clock.advance(50)
    const error = await late
    assert.deepEqual([error.name, error.bytesWritten], ['DeadlineError', 0])
    const datagram = await at.receive()
    assert.deepEqual([text(datagram), datagram.from], ['1', { family: 'unix', path: '/from', abstract: false }])
    await Promise.all([kept, writable])
    assert.deepEqual([text(await at.receive()), text(await at.receive())], ['2', '4'])
    assert.equal(at.stats.dropped, 0)

    for (const word of ['5', '6', 'seven']) void from.send(word, at.local)
    const closing = from.close()
    await clock.advance(LIMITS.lingerTime)
    const report = await closing
    assert.deepEqual([report.clean, report.unsent, report.reason?.code], [false, 5, 'ETIMEDOUT'])
    await network.close()
    assert.equal(network.shared.budget.held, 0)
  })

  test('a socket that is closed while its network is full is forgotten', async () => {
    const clock = new VirtualClock()
    const network = new Network({ driver: memory({ capacity: 'lockstep' }), clock, limits: { total: 10 } })
    const [a, b] = [await network.bind('udp://127.0.0.1:0'), await network.bind('udp://127.0.0.1:0')]
    await a.send('0123456789', b.local)
    const waiting = b.send('x', a.local)
    const other = b.waitWritable()
    await b.receive()
    await Promise.all([waiting, other])
    await a.receive()
    let freed = 0
    const { budget } = network.shared
    const whenFree = budget.whenFree.bind(budget)
    budget.whenFree = (fn) => {
      freed++
      const stop = whenFree(fn)
      return () => {
        freed--
        return stop()
      }
    }
    await a.send('0123456789', b.local)
    await settle(1)
    void b.send('x', a.local)
    void b.send('y', a.local)
    await b.close()
    assert.equal(freed, 0)
    await network.close()
  })

  test('whatever is mixed, what is received is what was sent, in order, less what was dropped', async () => {
    const seen = { dropped: 0, withdrawn: 0 }
    for (let seed = 1; seed <= 15; seed++) {
      const random = new Random(seed)
      const capacity = ([undefined, 'lockstep', 20] as const)[seed % 3]
      const { clock, network } = virtual({ capacity, limits: { datagrams: 4, unsent: 30 } })
      const [a, b] = [await network.bind('udp://127.0.0.1:0'), await network.bind('udp://127.0.0.1:0')]
      const sent: Promise<string | undefined>[] = []
      const received: string[] = []
      for (let step = 0; step < 60; step++) {
        const what = random.int(0, 5)
        if (what < 3) {
          const word = `${step}`.padEnd(random.int(0, 11) + 2)
          const controller = new AbortController()
          const sending = a.send(word, b.local, { signal: controller.signal, timeout: random.int(0, 1) === 0 ? 1 : undefined })
          // One that was taken arrives all the same.
          sent.push(
            sending.then(
              () => word,
              (error: SocketError) => (error.bytesWritten === word.length ? word : undefined),
            ),
          )
          if (random.int(0, 3) === 0) controller.abort()
        } else if (what === 3) {
          const many = b.receiveMany(random.int(1, 3), { timeout: 1 }).catch(() => [])
          await clock.advance(1)
          received.push(...(await many).map(text))
        } else if (what === 4) {
          const one = b.tryReceive()
          if (one !== undefined) received.push(text(one))
        } else await clock.advance(random.int(0, 1))
      }
      await clock.advance(1)
      const words = (await Promise.all(sent)).filter((word) => word !== undefined)
      await settle(2)
      for (let one = b.tryReceive(); one !== undefined; one = b.tryReceive()) received.push(text(one))
      assert.equal(received.length + b.stats.dropped, words.length, `seed ${seed}`)
      seen.dropped += b.stats.dropped
      seen.withdrawn += sent.length - words.length
      const order = words.filter((word) => received.includes(word))
      assert.deepEqual(received, order, `seed ${seed}`)
      assert.deepEqual([a.stats.unsent, b.stats.unread], [0, 0])
      await network.close()
      assert.equal(network.shared.budget.held, 0)
      assert.equal(clock.pending, 0)
    }
    assert.ok(seen.dropped > 10 && seen.withdrawn > 10, JSON.stringify(seen))
  })

  test('close sends what was accepted before it', async () => {
    const { network } = virtual({ capacity: 'lockstep' })
    const [a, b] = [await network.bind('udp://127.0.0.1:0'), await network.bind('udp://127.0.0.1:0')]
    const sends = ['1', '2', '3'].map((word) => a.send(word, b.local))
    assert.deepEqual(await a.close(), { clean: true, unsent: 0 })
    await Promise.all(sends)
    assert.deepEqual((await b.receiveMany(5)).map(text), ['1', '2', '3'])
    const [c, d] = [await network.bind('udp://127.0.0.1:0'), await network.bind('udp://127.0.0.1:0')]
    const failed = ['1', '22'].map((word) => c.send(word, d.local))
    c.abort()
    await failed[0]
    assert.equal((await failure(failed[1] as Promise<void>)).code, 'ABORTED')
    assert.equal((await c.closed).unsent, 2)
    await network.close()
  })

  test('a sender that forgets its promises does not end the process', async () => {
    const { network } = virtual()
    const a = await network.bind('udp://127.0.0.1:0')
    void a.send('x')
    void a.send(new Uint8Array(70_000), a.local)
    void a.send('x', 'udp://nowhere.invalid:1', { timeout: 0 })
    void a.sendMany([{ data: 'x' }])
    await a.close()
    void a.sendMany([])
    void a.send('x', a.local)
    await settle(2)
    await network.close()
  })

  test('a deadline ends a look-up, and a later send asks again', async () => {
    let lookups = 0
    let answer: (found: { address: string; family: 4 }[]) => void = () => {}
    const resolver = {
      lookup: () =>
        new Promise<{ address: string; family: 4 }[]>((resolve) => {
          lookups++
          answer = resolve
        }),
    }
    const { clock, network } = virtual({ resolver })
    const a = await network.bind('udp://127.0.0.1:0')
    const late = failure(a.send('x', 'udp://slow.test:5', { timeout: 20 }))
    await clock.advance(20)
    const error = await late
    assert.deepEqual([error.name, error.phase], ['DeadlineError', 'resolve'])
    const sent = a.send('y', `udp://slow.test:${port(a)}`)
    await settle(1)
    answer([{ address: '127.0.0.1', family: 4 }])
    await sent
    assert.equal(text(await a.receive()), 'y')
    assert.equal(lookups, 2)
    await network.close()
  })

  test('ports: free ones are found, taken ones refused, and shared ones shared', async () => {
    const { network } = virtual()
    const first = await network.bind('udp://127.0.0.1:53')
    for (const at of ['udp://127.0.0.1:53', 'udp://0.0.0.0:53', 'udp://*:53']) {
      assert.equal((await failure(network.bind(at))).code, 'EADDRINUSE')
    }
    await network.bind('udp://127.0.0.2:53')
    await network.bind('udp://[::1]:53')
    assert.equal((await failure(network.bind('udp://192.0.2.1:0'))).code, 'EADDRNOTAVAIL')
    await first.close()
    await network.bind('udp://127.0.0.1:53')
    const shared = { reusePort: true }
    const group = [await network.bind('udp://127.0.0.1:54', shared), await network.bind('udp://127.0.0.1:54', shared)]
    assert.equal((await failure(network.bind('udp://127.0.0.1:54'))).code, 'EADDRINUSE')
    const senders = [await network.bind('udp://127.0.0.1:1000'), await network.bind('udp://127.0.0.1:1001')]
    for (const sender of senders) for (let i = 0; i < 3; i++) await sender.send(String(i), 'udp://127.0.0.1:54')
    await settle(1)
    assert.deepEqual(
      group.map(({ stats }) => stats.unread),
      [3, 3],
    )
    const stream = await network.listen('tcp://127.0.0.1:53')
    assert.equal(stream.endpoint, 'tcp://127.0.0.1:53')
    await network.close()
  })

  test('a broadcast reaches the sockets of all interfaces, source-specific groups one sender', async () => {
    const { network } = virtual()
    const all = await network.bind('udp://0.0.0.0:99')
    const one = await network.bind('udp://127.0.0.1:0', { broadcast: true })
    await one.send('everybody', 'udp://255.255.255.255:99')
    assert.equal(text(await all.receive()), 'everybody')
    const two = await network.bind('udp://127.0.0.2:0')
    all.join('232.9.9.9', { source: '127.0.0.2' })
    await one.send('one', 'udp://232.9.9.9:99')
    await two.send('two', 'udp://232.9.9.9:99')
    assert.equal(text(await all.receive()), 'two')
    two.set('multicastLoopback', false)
    await two.send('unheard', 'udp://232.9.9.9:99')
    all.leave('232.9.9.9', { source: '127.0.0.2' })
    await settle(1)
    assert.equal(all.tryReceive(), undefined)
    await network.close()
  })

  test('UNIX-domain names: bound, connected, missing', async () => {
    const { network } = virtual()
    const at = await network.bind('unixgram:/run/log')
    const client = await network.connect('unixgram:/run/log')
    await client.send('line')
    assert.deepEqual((await at.receive()).from, { family: 'unix', path: '', abstract: false })
    assert.equal((await failure(network.bind('unixgram:/run/log'))).code, 'EADDRINUSE')
    assert.equal((await failure(at.send('x', 'unixgram:/nobody'))).code, 'ENOENT')
    assert.equal((await failure(at.send('x', 'udp://127.0.0.1:5'))).code, 'BAD_SCHEME')
    assert.equal((await failure(network.connect('unixgram:/nobody'))).code, 'ENOENT')
    await at.close()
    assert.equal((await failure(client.send('x'))).code, 'ECONNREFUSED')
    await network.close()
  })
})

test('bind and connect of the module use the default network', async () => {
  await using at = await bind('udp://127.0.0.1:0')
  await using client = await connect(`udp://127.0.0.1:${port(at)}`)
  await client.send('hello')
  assert.equal(text(await at.receive(soon)), 'hello')
})
