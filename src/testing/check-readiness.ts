/** Readiness: what `select` promises on every driver and transport. */

import assert from 'node:assert/strict'
import type { Connection } from '../connection.js'
import { Broken, Busy, Cancelled, Closed } from '../errors.js'
import { Interests, select } from '../select.js'
import { clog, failsWith, latin1, type Property, readCount } from './check.js'
import type { NetworkCase } from './check-network.js'
import { settle } from './clock.js'

/** Until `socket` is reported readable. */
async function readable(socket: Connection): Promise<void> {
  const [ready] = await select([{ socket, readable: true }])
  assert.equal(ready?.socket, socket)
  assert.equal(ready?.readable, true)
}

export const READINESS: readonly Property<NetworkCase>[] = [
  {
    id: 'R1',
    title: 'polling an idle socket gives nothing, and data that came is reported until it is read: nothing is consumed',
    async run(c) {
      const [a, b] = await c.pair(await c.listen())
      assert.deepEqual(await select([b], { timeout: 0 }), [])
      await a.write('word')
      for (let i = 0; i < 3; i++) await readable(b)
      assert.equal(latin1(await b.readExactly(4)), 'word')
      assert.deepEqual(await select([b], { timeout: 0 }), [])
    },
  },
  {
    id: 'R2',
    title: 'all that are ready are reported in one round, and none that is not',
    async run(c) {
      const listener = await c.listen()
      const pairs: [Connection, Connection][] = []
      for (let i = 0; i < 6; i++) pairs.push(await c.pair(listener))
      const chosen = pairs.filter((_, i) => i % 2 === 0)
      for (const [a] of chosen) await a.write('x')
      for (const [, b] of chosen) await b.waitReadable()
      const ready = await select(pairs.map(([, b]) => b))
      assert.deepEqual(new Set(ready.map(({ socket }) => socket)), new Set(chosen.map(([, b]) => b)))
      assert.ok(ready.every((one) => one.readable && !one.writable && !one.acceptable && !one.ended && one.broken === undefined))
    },
  },
  {
    id: 'R3',
    title: 'a round waits for news, its deadline gives an empty list, a signal is Cancelled; the reader slot stays free',
    async run(c) {
      const [a, b] = await c.pair(await c.listen())
      const began = c.time.now()
      assert.deepEqual(await c.time.run(select([b], { timeout: 20 }), 60), [])
      assert.ok(c.time.now() - began >= (c.time.real ? 19 : 0))
      const abort = new AbortController()
      const waiting = select([b], { signal: abort.signal })
      abort.abort(new Error('given up'))
      await failsWith(waiting, 'select', Cancelled)
      const next = select([b])
      await a.write('x')
      assert.equal((await next).length, 1)
      assert.equal(latin1(await b.read()), 'x')
    },
  },
  {
    id: 'R4',
    title: 'a socket is writable while a write would be taken at once, and not while the peer stops reading',
    async run(c) {
      const [a, b] = await c.pair(await c.listen())
      const interest = { socket: a, readable: false, writable: true }
      assert.deepEqual(
        (await select([interest])).map(({ socket, writable, readable }) => ({ socket, writable, readable })),
        [{ socket: a, writable: true, readable: false }],
      )
      const filled = await clog(a, c.time.real ? undefined : 0)
      assert.deepEqual(await select([interest], { timeout: 0 }), [])
      const waiting = select([interest])
      await readCount(b, filled)
      assert.equal((await waiting)[0]?.writable, true)
    },
  },
  {
    id: 'R5',
    title: 'a listener is acceptable while a connection waits, and the round takes none',
    async run(c) {
      const listener = await c.listen()
      assert.deepEqual(await select([listener], { timeout: 0 }), [])
      const dialling = c.connect(listener.endpoint)
      for (let i = 0; i < 2; i++) {
        const [ready] = await select([listener])
        assert.deepEqual([ready?.socket, ready?.acceptable], [listener, true])
      }
      const [b, a] = await Promise.all([listener.accept(), dialling])
      await a.write('x')
      assert.equal(latin1(await b.read()), 'x')
      assert.deepEqual(await select([listener], { timeout: 0 }), [])
    },
  },
  {
    id: 'R6',
    title: 'the end is reported behind the data, and a close on this side as broken with Closed',
    async run(c) {
      const [a, b] = await c.pair(await c.listen())
      await a.write('x')
      await a.end()
      await readable(b)
      assert.equal(latin1(await b.readExactly(1)), 'x')
      const [ready] = await select([b])
      assert.deepEqual([ready?.readable, ready?.ended, ready?.broken], [true, true, undefined])
      assert.equal(await b.read(), null)
      const waiting = select([{ socket: a, readable: true }])
      await settle(2)
      a.abort()
      assert.ok((await waiting)[0]?.broken instanceof Closed)
    },
  },
  {
    id: 'R7',
    title: 'a socket that the peer resets is reported broken with the error',
    async run(c) {
      const [a, b] = await c.pair(await c.listen())
      await a.write('x')
      assert.equal(latin1(await b.read()), 'x')
      const waiting = select([b])
      a.abort()
      const [ready] = await waiting
      // A UNIX socket has no reset.
      if (ready?.ended) assert.equal(await b.read(), null)
      else {
        assert.ok(ready?.broken instanceof Broken)
        await failsWith(b.read(), 'read', Broken)
      }
    },
  },
  {
    id: 'R8',
    title: 'a lasting set is level-triggered and fair: a chatty socket hides no other, and one that is taken out is not told of',
    async run(c) {
      const listener = await c.listen()
      const [chatty, toChatty] = await c.pair(listener)
      const [quiet, toQuiet] = await c.pair(listener)
      using set = new Interests().add(toChatty).add(toQuiet)
      let over = false
      const chatter = (async () => {
        while (!over) await chatty.write('chatter')
      })()
      const drained = async (rounds: number) => {
        let seen = 0
        for (let i = 0; i < rounds; i++) {
          for (const { socket } of await select(set)) {
            if (socket === toQuiet) seen++
            else toChatty.tryRead()
          }
        }
        return seen
      }
      assert.equal(await drained(20), 0)
      await quiet.write('x')
      await toQuiet.waitReadable()
      assert.equal(await drained(20), 20)
      assert.equal(set.delete(toQuiet), true)
      assert.equal(await drained(5), 0)
      assert.equal(set.size, 1)
      over = true
      toChatty.abort()
      await chatter.catch(() => {})
      const first = select(set, { timeout: 1_000 })
      first.catch(() => {})
      if (set.size > 0) await failsWith(select(set), 'a second round', Busy)
      await c.time.run(first, 1_100)
    },
  },
]
