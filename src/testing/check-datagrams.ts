/** Datagrams: what holds on every driver and transport that has them. */

import assert from 'node:assert/strict'
import type { BindOptions } from '../bind.js'
import type { DatagramSocket } from '../datagram.js'
import { Busy, Cancelled, Closed, DeadlineError, SocketError } from '../errors.js'
import type { Network } from '../network.js'
import type { TraceEvent } from '../trace.js'
import { type CheckOptions, failsWith, latin1, Pace, type Property, register } from './check.js'
import { settle, type VirtualClock } from './clock.js'

/** Makes networks of one driver that have datagram sockets, and says where to bind them. */
export interface DatagramMaker {
  readonly name: string
  /** A fresh network with these limits; its clock, when it is a virtual one. */
  network(limits: { datagrams?: number; datagramBytes?: number }): Promise<{ network: Network; clock?: VirtualClock | undefined }>
  /** An endpoint nobody uses, with port 0 where there are ports. */
  endpoint(): Promise<string>
  readonly bind?: BindOptions | undefined
  /** The longest datagram, where the transport has one. */
  readonly longest?: number | undefined
}

/** What a property of datagrams gets. */
export class DatagramCase {
  readonly network: Network
  readonly time: Pace
  readonly longest: number | undefined
  readonly events: TraceEvent[] = []
  readonly #maker: DatagramMaker

  constructor(network: Network, time: Pace, maker: DatagramMaker) {
    this.network = network
    this.time = time
    this.longest = maker.longest
    this.#maker = maker
    network.trace.subscribe((event) => this.events.push(event))
  }

  endpoint(): Promise<string> {
    return this.#maker.endpoint()
  }

  async bind(o?: BindOptions): Promise<DatagramSocket> {
    return this.network.bind(await this.endpoint(), { ...this.#maker.bind, ...o })
  }

  /** Two bound sockets, the first of which sends to the second. */
  async pair(): Promise<[DatagramSocket, DatagramSocket]> {
    return [await this.bind(), await this.bind()]
  }

  /** A socket connected to `peer`, bound where a reply can reach it. */
  async connect(peer: DatagramSocket): Promise<DatagramSocket> {
    const own = await this.endpoint()
    // A UNIX socket without a name of its own could not be answered.
    return this.network.connect(peer.endpoint as `udp://${string}`, own.startsWith('unix') ? { from: own } : {})
  }
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

export const DATAGRAM_PROPERTIES: readonly Property<DatagramCase>[] = [
  {
    id: 'D1',
    title: 'a datagram arrives whole, with its sender, who can be answered',
    async run(c) {
      const [a, b] = await c.pair()
      await a.send('question', b.endpoint)
      const got = await b.receive()
      assert.equal(latin1(got.data), 'question')
      assert.equal(got.truncated, false)
      assert.deepEqual(got.from, a.local)
      await b.send('answer', got.from)
      assert.equal(latin1((await a.receive()).data), 'answer')
    },
  },
  {
    id: 'D2',
    title: 'boundaries and order are kept; receiving gives one at a time, memory that is the receiver’s own',
    async run(c) {
      const [a, b] = await c.pair()
      const texts = ['one', 'two', 'three', 'four']
      for (const text of texts) await a.send(text, b.endpoint)
      const got = []
      for (let i = 0; i < texts.length; i++) got.push(await b.receive())
      assert.deepEqual(
        got.map(({ data }) => latin1(data)),
        texts,
      )
      got[0]?.data.fill(0)
      assert.equal(latin1(got[1]?.data as Uint8Array), 'two')
      for (const { data } of got) assert.equal(Object.getPrototypeOf(data), Uint8Array.prototype)
    },
  },
  {
    id: 'D3',
    title: 'every container of bytes can be sent, and is the sender’s again when the send settles',
    async run(c) {
      const [a, b] = await c.pair()
      const word = bytes('..word..')
      const inner = word.subarray(2, 6)
      const forms = [inner, Buffer.from(inner), new DataView(word.buffer, 2, 4), inner.slice().buffer, 'word']
      for (const form of forms) {
        await a.send(form, b.endpoint)
        assert.equal(latin1((await b.receive()).data), 'word')
      }
      const reused = bytes('first')
      await a.send(reused, b.endpoint)
      reused.fill(0x2e)
      assert.equal(latin1((await b.receive()).data), 'first')
    },
  },
  {
    id: 'N12',
    title: 'an empty datagram is delivered with length 0 and is no end',
    async run(c) {
      const [a, b] = await c.pair()
      await a.send('', b.endpoint)
      await a.send('after', b.endpoint)
      assert.equal((await b.receive()).data.length, 0)
      assert.equal(latin1((await b.receive()).data), 'after')
    },
  },
  {
    id: 'N25',
    title: 'a buffer too short for a datagram says so; the next one is whole',
    async run(c) {
      const [a, b] = await c.pair()
      await a.send('longer than four', b.endpoint)
      await a.send('next', b.endpoint)
      const into = new Uint8Array(4)
      const { length, truncated, from } = await b.receiveInto(into)
      assert.deepEqual([length, truncated, latin1(into), from], [4, true, 'long', a.local])
      assert.deepEqual((({ length, truncated }) => [length, truncated])(await b.receiveInto(into)), [4, false])
      assert.equal(latin1(into), 'next')
    },
  },
  {
    id: 'N26',
    title: 'a datagram over the limit is refused with the limit in the error, and the socket is as it was',
    async run(c) {
      assert.ok(c.longest !== undefined)
      const [a, b] = await c.pair()
      const error = await failsWith(a.send(new Uint8Array(c.longest + 1), b.endpoint), 'send', SocketError)
      assert.equal(error.code, 'EMSGSIZE')
      assert.match(error.message, new RegExp(`${c.longest}`))
      await a.send('short', b.endpoint)
      assert.equal(latin1((await b.receive()).data), 'short')
      assert.equal(a.stats.datagramsWritten, 1)
    },
  },
  {
    id: 'D4',
    title: 'a deadline in the past wins over a datagram that is there, which is not lost',
    async run(c) {
      const [a, b] = await c.pair()
      await a.send('kept', b.endpoint)
      await b.waitReadable()
      await failsWith(b.receive({ timeout: 0 }), 'receive', DeadlineError, 'DEADLINE')
      await failsWith(b.receiveInto(new Uint8Array(8), { deadline: 1 }), 'receiveInto', DeadlineError)
      await failsWith(b.receive({ signal: AbortSignal.abort(new Error('no')) }), 'receive', Cancelled)
      assert.equal(latin1((await b.receive()).data), 'kept')
    },
  },
  {
    id: 'D5',
    title: 'a receive that is given up takes nothing with it, and none fails before its deadline',
    async run(c) {
      const [a, b] = await c.pair()
      const began = c.time.now()
      const waiting = b.receive({ timeout: c.time.real ? 200 : 20 })
      waiting.catch(() => {})
      await c.time.stillPending(waiting, 'receive', c.time.real ? 5 : 19)
      if (!c.time.real) await c.time.pass(1)
      await failsWith(waiting, 'receive', DeadlineError)
      assert.ok(c.time.now() - began >= 20)
      const abort = new AbortController()
      const given = b.receive({ signal: abort.signal })
      abort.abort(new Error('given up'))
      await failsWith(given, 'receive', Cancelled)
      await a.send('x', b.endpoint)
      assert.equal(latin1((await b.receive()).data), 'x')
    },
  },
  {
    id: 'D6',
    title: 'a second receiver is Busy, and the first gets its datagram',
    async run(c) {
      const [a, b] = await c.pair()
      const first = b.receive()
      await failsWith(b.receive(), 'receive', Busy)
      await failsWith(b.receiveMany(3), 'receiveMany', Busy)
      assert.throws(() => b.tryReceive(), Busy)
      await a.send('x', b.endpoint)
      assert.equal(latin1((await first).data), 'x')
    },
  },
  {
    id: 'D7',
    title: 'close wakes what waits with Closed, each time from then on, and what was sent before it arrives',
    async run(c) {
      const [a, b] = await c.pair()
      const waiting = a.receive()
      const sending = a.send('last words', b.endpoint)
      const closing = a.close()
      await failsWith(waiting, 'receive', Closed, 'CLOSED')
      await sending
      const report = await closing
      assert.deepEqual([report.clean, report.unsent], [true, 0])
      assert.equal(latin1((await b.receive()).data), 'last words')
      for (const operation of [a.receive(), a.receiveInto(new Uint8Array(1)), a.send('x', b.endpoint), a.waitReadable(), a.waitWritable()])
        await failsWith(operation, 'an operation after close', Closed, 'CLOSED')
      assert.throws(() => a.tryReceive(), Closed)
      assert.deepEqual(await a.close(), await a.closed)
      a.abort()
    },
  },
  {
    id: 'D8',
    title: 'abort is immediate and tells its reason',
    async run(c) {
      const [a] = await c.pair()
      const waiting = a.receive()
      a.abort(new Error('enough'))
      await failsWith(waiting, 'receive', Closed, 'ABORTED')
      const { clean, reason } = await a.closed
      assert.deepEqual([clean, reason?.code], [false, 'ABORTED'])
      assert.equal(a.signal.aborted, true)
    },
  },
  {
    id: 'D9',
    title: 'a connected socket sends to its peer and hears nobody else',
    async run(c) {
      const b = await c.bind()
      const stranger = await c.bind()
      const a = await c.connect(b)
      assert.deepEqual(a.remote, b.local)
      await a.send('hello')
      const { from } = await b.receive()
      await stranger.send('psst', from).catch(() => {})
      await b.send('hello yourself', from)
      const got = await a.receive()
      assert.equal(latin1(got.data), 'hello yourself')
      assert.equal(a.tryReceive(), undefined)
      await failsWith(b.send('to nobody'), 'a send without an address', SocketError)
    },
  },
  {
    id: 'D10',
    title: 'a peer that is not there is reported to the caller and never fatal to the socket',
    async run(c) {
      const b = await c.bind()
      const a = await c.connect(b)
      await a.send('once')
      await b.close()
      // The answer to the first may come with the second, as ICMP does.
      let told: unknown
      for (let i = 0; i < 20 && told === undefined; i++) {
        told = await a.send('is anybody there').then(
          () => undefined,
          (error: unknown) => error,
        )
        told ??= await a.receive({ timeout: 50 }).catch((error: unknown) => (error instanceof DeadlineError ? undefined : error))
        if (!c.time.real) await c.time.pass(50)
      }
      assert.ok(told instanceof SocketError, `told ${String(told)}`)
      assert.match(told.code, /ECONNREFUSED|ENOENT/)
      assert.equal((await a.close()).clean, true)
      const fresh = await c.bind()
      const lone = await c.bind()
      await lone.send('nobody', b.endpoint).catch(() => {})
      await settle(5)
      await fresh.send('still here', lone.endpoint)
      const text = async () => latin1((await lone.receive()).data)
      assert.equal(await text().catch(text), 'still here')
    },
  },
  {
    id: 'D11',
    title: 'what nobody receives is bounded: the oldest is dropped and counted',
    async run(c) {
      const [a, b] = await c.pair()
      for (let i = 0; i < 20; i++) await a.send(`${i}`, b.endpoint)
      for (let i = 0; i < 1_000 && b.stats.dropped < 12; i++) await c.time.pass(1)
      const got: (string | null)[] = []
      while (!got.includes('19')) got.push(latin1((await b.receive()).data))
      assert.ok(got.length <= 8, `${got.length} were kept`)
      assert.equal(got.length + b.stats.dropped, 20)
      assert.deepEqual(
        got,
        Array.from({ length: got.length }, (_, i) => `${20 - got.length + i}`),
      )
    },
  },
  {
    id: 'D12',
    title: 'iteration gives every datagram; leaving it loses nothing; it ends when the socket is closed',
    async run(c) {
      const [a, b] = await c.pair()
      for (const text of ['one', 'two', 'three']) await a.send(text, b.endpoint)
      for await (const { data } of b) {
        assert.equal(latin1(data), 'one')
        break
      }
      assert.equal(latin1((await b.receive()).data), 'two')
      const seen: (string | null)[] = []
      const loop = (async () => {
        for await (const { data } of b) seen.push(latin1(data))
      })()
      await settle(5)
      while (seen.length === 0) await settle(1)
      await b.close()
      await loop
      assert.deepEqual(seen, ['three'])
    },
  },
  {
    id: 'D13',
    title: 'many are sent and received at once, in order, from arrays and generators',
    async run(c) {
      const [a, b] = await c.pair()
      const batch = (from: number) => Array.from({ length: 4 }, (_, i) => ({ data: `${from + i}`, to: b.endpoint }))
      assert.equal(await a.sendMany(batch(0)), 4)
      const got: (string | null)[] = []
      while (got.length < 4) for (const { data } of await b.receiveMany(3)) got.push(latin1(data))
      async function* later() {
        for (const one of batch(4)) yield one
      }
      assert.equal(await a.sendMany(later()), 4)
      while (got.length < 8) for (const { data } of await b.receiveMany(100)) got.push(latin1(data))
      assert.deepEqual(got, ['0', '1', '2', '3', '4', '5', '6', '7'])
      const cut = a.sendMany([
        { data: 'good', to: b.endpoint },
        { data: 'bad', to: 'tcp://127.0.0.1:1' },
      ])
      await failsWith(cut, 'sendMany', SocketError)
      assert.equal(latin1((await b.receive()).data), 'good')
    },
  },
  {
    id: 'D14',
    title: 'a flood does not keep the loop from turning',
    async run(c) {
      const [a, b] = await c.pair()
      let [turns, received, over] = [0, 0, false]
      const count = () => {
        turns++
        if (!over) setImmediate(count)
      }
      setImmediate(count)
      const flood = (async () => {
        for (let i = 0; turns < 5; i++) {
          assert.ok(i < 2_000_000, `the loop turned ${turns} times during two million sends`)
          await a.send('x', b.endpoint)
        }
        over = true
        while (received === 0) await settle(1)
        await b.close()
      })()
      for await (const datagram of b) received += datagram.data.length
      await flood
    },
  },
  {
    id: 'D15',
    title: 'one open and one close event for each socket, with its counters',
    async run(c) {
      const [a, b] = await c.pair()
      await a.send('four', b.endpoint)
      await b.receive()
      await Promise.all([a.close(), b.close(), b.close()])
      const of = (type: string, id: number) => c.events.filter((event) => event.type === type && event.id === id)
      for (const { id } of [a, b]) {
        assert.equal(of('open', id).length, 1)
        assert.equal(of('close', id).length, 1)
      }
      const [closed] = of('close', b.id)
      assert.ok(closed?.type === 'close' && closed.kind === 'datagram')
      assert.deepEqual([closed.bytesRead, closed.bytesWritten, closed.report.clean], [4, 0, true])
      assert.deepEqual(c.network.sockets(), [])
    },
  },
  {
    id: 'D16',
    title: 'bad input is refused with the value in the error, and the socket is as it was',
    async run(c) {
      const [a, b] = await c.pair()
      const refused: [Promise<unknown>, RegExp][] = [
        [a.send('x', 'udp://127.0.0.1:65536'), /65536/],
        [a.send('x', 'udp://127.0.0.1:-1'), /-1/],
        [a.send('x', 'tcp://127.0.0.1:1'), /tcp/],
        [a.send(7 as unknown as string, b.endpoint), /7/],
        [a.receive({ timeout: -1 }), /-1/],
        [a.receive({ timeuot: 1 } as unknown as { timeout: number }), /timeuot/],
        [a.receiveMany(0), /0/],
        [a.receiveInto('x' as unknown as Uint8Array), /Uint8Array/],
        [c.network.bind('udp://127.0.0.1:99999'), /99999/],
        [c.network.bind('tcp://127.0.0.1:0'), /tcp/],
      ]
      for (const [operation, wanted] of refused) {
        const error = await operation.then(
          () => assert.fail(`took what should match ${wanted}`),
          (reason: unknown) => reason as Error & { code?: string },
        )
        assert.match(error.message, wanted)
        assert.equal(typeof error.code, 'string')
      }
      await a.send('x', b.endpoint)
      assert.equal(latin1((await b.receive()).data), 'x')
    },
  },
  {
    id: 'D17',
    title: 'an address in use is refused, and free again as soon as its socket is closed',
    async run(c) {
      const a = await c.bind()
      const error = await failsWith(c.network.bind(a.endpoint), 'bind', SocketError)
      assert.match(error.code, /EADDRINUSE/)
      await a.close()
      const again = await c.network.bind(a.endpoint)
      assert.deepEqual(again.local, a.local)
    },
  },
]

/**
 * Checks that datagram sockets keep their contract: registers one test for each property.
 *
 * ```ts
 * import { test } from 'node:test'
 * import { Network } from 'fairlead'
 * import { checkDatagrams, type DatagramMaker, memory } from 'fairlead/testing'
 *
 * const maker: DatagramMaker = {
 *   name: 'memory udp',
 *   network: async (limits) => ({ network: new Network({ driver: memory(), limits }) }),
 *   endpoint: async () => 'udp://127.0.0.1:0',
 *   longest: 65_507,
 * }
 * checkDatagrams(maker, { test, only: ['D1', 'N12'] })
 * ```
 *
 * @returns the ids of the properties that were registered
 */
export function checkDatagrams(maker: DatagramMaker, o: CheckOptions): string[] {
  return register(maker.name, DATAGRAM_PROPERTIES, o, async ({ id }) => {
    const { network, clock } = await maker.network(id === 'D11' ? { datagrams: 8 } : {})
    return { subject: new DatagramCase(network, new Pace(clock), maker), close: () => network.end({ abort: true }) }
  })
}
