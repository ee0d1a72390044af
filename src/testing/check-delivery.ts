/** Delivery: what `deliver` promises on every driver and transport, for bytes, messages and datagrams. */

import assert from 'node:assert/strict'
import { codecs } from '../codecs.js'
import type { Connection } from '../connection.js'
import type { Delivery } from '../delivery.js'
import { Broken, Busy } from '../errors.js'
import { clog, failsWith, latin1, type Property, readToEnd } from './check.js'
import type { NetworkCase } from './check-network.js'
import { settle } from './clock.js'
import { Random } from './random.js'

const text = (chunks: readonly Uint8Array[]): string | null => latin1(new Uint8Array(Buffer.concat(chunks)))

/** Collects what is delivered to `connection`. */
function collect(connection: Connection, mode: 'active' | 'once' | number): { delivery: Delivery; chunks: Uint8Array[] } {
  const chunks: Uint8Array[] = []
  const delivery = connection.deliver(mode, (chunk) => void chunks.push(chunk))
  return { delivery, chunks }
}

export const DELIVERY: readonly Property<NetworkCase>[] = [
  {
    id: 'V1',
    title: 'active: everything in order, then the one end, told when the last handler call is over',
    async run(c) {
      const [a, b] = await c.pair(await c.listen())
      const { delivery, chunks } = collect(b, 'active')
      assert.equal(delivery.mode, 'active')
      const random = new Random(7)
      const sent: Uint8Array[] = []
      for (let i = 0; i < 50; i++) {
        const chunk = random.bytes(random.int(1, 5_000))
        sent.push(chunk)
        await a.write(chunk)
      }
      await a.end()
      const report = await delivery.done
      assert.deepEqual([report.clean, report.unsent, report.reason], [true, 0, undefined])
      assert.deepEqual(Buffer.concat(chunks), Buffer.concat(sent))
      await b.write('the other direction works on')
      await b.end()
      assert.equal(latin1(await readToEnd(a)), 'the other direction works on')
    },
  },
  {
    id: 'V2',
    title: 'once and a count: so many chunks and no more, then passive, where reading works',
    async run(c) {
      const [a, b] = await c.pair(await c.listen())
      const { delivery, chunks } = collect(b, 'once')
      await a.write('first')
      while (chunks.length === 0) await settle(1)
      assert.equal(delivery.mode, 'passive')
      await a.write('second')
      await settle(10)
      assert.equal(text(chunks), 'first')
      assert.equal(latin1(await b.readExactly(6)), 'second')
      delivery.set(2)
      await a.write('third')
      while (chunks.length < 2) await settle(1)
      assert.equal(delivery.mode, 1)
      await a.write('fourth')
      while (chunks.length < 3) await settle(1)
      assert.equal(delivery.mode, 'passive')
      assert.equal(text(chunks), 'firstthirdfourth')
      await delivery.stop()
    },
  },
  {
    id: 'V3',
    title: 'a slow handler is waited for: no second call meanwhile, and the writer is held up',
    async run(c) {
      const [a, b] = await c.pair(await c.listen())
      let calls = 0
      let release: () => void = () => {}
      const gate = new Promise<void>((resolve) => (release = resolve))
      let bytes = 0
      const delivery = b.deliver('active', (chunk) => {
        calls++
        bytes += chunk.length
        return calls === 1 ? gate : undefined
      })
      const filled = await clog(a, c.time.real ? undefined : 0)
      assert.equal(calls, 1)
      release()
      await a.end()
      assert.equal((await delivery.done).clean, true)
      assert.equal(bytes, filled)
    },
  },
  {
    id: 'V4',
    title: 'changing modes at any moment, also from inside the handler, loses and repeats nothing',
    async run(c) {
      const [a, b] = await c.pair(await c.listen())
      const random = new Random(11)
      const chunks: Uint8Array[] = []
      const modes = ['active', 'once', 'passive', 3] as const
      const delivery = b.deliver('active', async (chunk) => {
        chunks.push(chunk)
        if (random.int(0, 3) === 0) await settle(1)
        delivery.set(random.pick(modes))
      })
      const sent: Uint8Array[] = []
      const sending = (async () => {
        for (let i = 0; i < 300; i++) {
          const chunk = random.bytes(random.int(1, 700))
          sent.push(chunk)
          await a.write(chunk)
          if (i % 8 === 0) await settle(1)
        }
        await a.end()
      })()
      let over = false
      void delivery.done.then(() => (over = true))
      for (let i = 0; !over; i++) {
        if (delivery.mode === 'passive') {
          const chunk = b.tryRead(random.int(1, 300))
          if (chunk === null) break
          if (chunk !== undefined) chunks.push(chunk)
        }
        if (i % 3 === 0) delivery.set(random.pick(modes))
        await settle(1)
      }
      await sending
      await delivery.stop()
      if (!over) for (let chunk = await b.read(); chunk !== null; chunk = await b.read()) chunks.push(chunk)
      assert.deepEqual(Buffer.concat(chunks), Buffer.concat(sent))
    },
  },
  {
    id: 'V5',
    title: 'stop waits for a handler under way, and gives the reader slot back with everything unread',
    async run(c) {
      const [a, b] = await c.pair(await c.listen())
      let release: () => void = () => {}
      let entered = false
      const delivery = b.deliver('active', () => {
        entered = true
        return new Promise<void>((resolve) => (release = resolve))
      })
      assert.throws(() => b.deliver('active', () => {}), Busy)
      await failsWith(b.read(), 'read beside a delivery', Busy)
      await a.write('first')
      while (!entered) await settle(1)
      await a.write('second')
      let stopped = false
      const stopping = delivery.stop().then(() => (stopped = true))
      await settle(5)
      assert.equal(stopped, false)
      release()
      await stopping
      assert.equal((await delivery.done).clean, true)
      assert.equal(latin1(await b.readExactly(6)), 'second')
      await b.deliver('once', () => {}).stop()
    },
  },
  {
    id: 'V6',
    title: 'a handler that throws or rejects is reported once and the socket closed with that reason',
    async run(c) {
      const listener = await c.listen()
      for (const handler of [
        () => {
          throw new Error('my mistake')
        },
        () => Promise.reject(new Error('my mistake')),
      ]) {
        const [a, b] = await c.pair(listener)
        const delivery = b.deliver('active', handler)
        await a.write('x')
        const { clean, reason } = await delivery.done
        assert.equal(clean, false)
        assert.ok(reason instanceof Broken && reason.code === 'HANDLER_FAILED')
        assert.equal((reason.cause as Error).message, 'my mistake')
        assert.equal((await b.closed).reason, reason)
        assert.equal(c.events.filter((event) => event.type === 'error' && event.id === b.id).length, 1)
      }
    },
  },
  {
    id: 'V7',
    title: 'a close on this side ends the delivery, also while it waits',
    async run(c) {
      const [, b] = await c.pair(await c.listen())
      const { delivery, chunks } = collect(b, 'active')
      await settle(2)
      await b.close()
      await delivery.done
      assert.deepEqual(chunks, [])
      delivery.set('passive')
      await delivery.stop()
    },
  },
  {
    id: 'V8',
    title: 'messages are delivered one by one, and those that were not stay for receive',
    async run(c) {
      const [a, b] = await c.pair(await c.listen())
      const [from, to] = [a.frames(codecs.lengthPrefixed({ bytes: 2 })), b.frames(codecs.lengthPrefixed({ bytes: 2 }))]
      const seen: (string | null)[] = []
      const delivery = to.deliver(2, (message) => void seen.push(latin1(message)))
      for (const word of ['one', 'two', 'three', 'four']) await from.send(new TextEncoder().encode(word))
      while (delivery.mode !== 'passive') await settle(1)
      assert.deepEqual(seen, ['one', 'two'])
      assert.equal(latin1(await to.receive()), 'three')
      delivery.set('active')
      await from.end()
      assert.equal((await delivery.done).clean, true)
      assert.deepEqual(seen, ['one', 'two', 'four'])
    },
  },
]
