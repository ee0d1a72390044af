/** Ownership: what belongs to whom and ends with it, on every driver and transport. */

import assert from 'node:assert/strict'
import { codecs } from '../codecs.js'
import { Busy, Closed } from '../errors.js'
import { Network } from '../network.js'
import { Owner } from '../owner.js'
import { failsWith, latin1, type Property, readToEnd } from './check.js'
import type { NetworkCase } from './check-network.js'
import { settle } from './clock.js'

export const OWNERSHIP: readonly Property<NetworkCase>[] = [
  {
    id: 'O1',
    title: 'what is opened for an owner belongs to it and to no other, and can be listed',
    async run(c) {
      const owner = new Owner('mine', c.network)
      const listener = await c.listen(undefined, { owner })
      const [dialled, accepted] = await c.pair(listener)
      assert.deepEqual([listener.owner, accepted.owner, dialled.owner], [owner, owner, c.network])
      assert.deepEqual(new Set(owner.sockets()), new Set([listener, accepted]))
      assert.ok(c.network.owners().includes(owner))
      await Promise.all([accepted.close(), dialled.close()])
      // A socket that lingers for its peer's end still lives.
      while (owner.sockets().length > 1) await settle(1)
      assert.deepEqual(owner.sockets(), [listener])
    },
  },
  {
    id: 'O2',
    title: 'an owner that ends flushes and closes what it has, wakes it, and takes no more',
    async run(c) {
      const owner = new Owner('mine', c.network)
      const listener = await c.listen()
      const [a, b] = await Promise.all([c.connect(listener.endpoint, { owner }), listener.accept()])
      await a.write('last words')
      const waiting = a.read()
      const ending = owner.end()
      await failsWith(waiting, 'read', Closed)
      assert.equal(latin1(await readToEnd(b)), 'last words')
      await b.close()
      assert.deepEqual(await ending, { closed: 1, aborted: 0 })
      assert.equal(owner.signal.aborted, true)
      assert.deepEqual(owner.sockets(), [])
      assert.ok(!c.network.owners().includes(owner))
      await failsWith(c.connect(listener.endpoint, { owner }), 'connect', Closed, 'OWNER_ENDED')
      assert.deepEqual(await owner.end(), { closed: 0, aborted: 0 })
    },
  },
  {
    id: 'O3',
    title: 'owners end with theirs, at once where that is asked',
    async run(c) {
      const outer = new Owner('outer', c.network)
      const inner = new Owner('inner', outer)
      const listener = await c.listen()
      const [a] = await Promise.all([c.connect(listener.endpoint, { owner: inner }), listener.accept()])
      assert.deepEqual(outer.sockets(), [a])
      const report = await outer.end({ abort: true })
      assert.equal(report.aborted, 1)
      assert.equal(inner.signal.aborted, true)
      assert.equal((await a.closed).clean, false)
    },
  },
  {
    id: 'O4',
    title: 'moveTo takes unread bytes and queued messages along, and is told',
    async run(c) {
      const [from, to] = [new Owner('from', c.network), new Owner('to', c.network)]
      const listener = await c.listen()
      const [a, b] = await Promise.all([c.connect(listener.endpoint), listener.accept()])
      b.moveTo(from)
      await a.write('unread')
      await b.waitReadable()
      b.moveTo(to)
      assert.equal(b.owner, to)
      assert.deepEqual([from.sockets(), to.sockets()], [[], [b]])
      await from.end({ abort: true })
      assert.equal(latin1(await b.readExactly(6)), 'unread')
      const [sender, receiver] = [a.frames(codecs.lengthPrefixed({ bytes: 1 })), b.frames(codecs.lengthPrefixed({ bytes: 1 }))]
      for (const word of ['one', 'two']) await sender.send(new TextEncoder().encode(word))
      assert.equal(latin1(await receiver.receive()), 'one')
      b.moveTo(c.network)
      await to.end()
      assert.equal(latin1(await receiver.receive()), 'two')
      const moves = c.events.filter((event) => event.type === 'move' && event.id === b.id)
      assert.equal(moves.length, 3)
    },
  },
  {
    id: 'O5',
    title: 'moveTo refuses while an operation is pending, an owner that has ended and one of another network; nothing changes',
    async run(c) {
      const listener = await c.listen()
      const [a, b] = await c.pair(listener)
      const owner = new Owner('mine', c.network)
      const waiting = b.read()
      assert.throws(() => b.moveTo(owner), Busy)
      await a.write('x')
      assert.equal(latin1(await waiting), 'x')
      const ended = new Owner('ended', c.network)
      await ended.end()
      assert.throws(() => b.moveTo(ended), { name: 'Closed', code: 'OWNER_ENDED' })
      await using other = new Network()
      assert.throws(() => b.moveTo(other), /network/)
      assert.throws(() => b.moveTo({} as Owner), TypeError)
      assert.equal(b.owner, c.network)
      await a.write('y')
      assert.equal(latin1(await b.read()), 'y')
      b.abort()
      assert.throws(() => b.moveTo(owner), Closed)
    },
  },
  {
    id: 'O6',
    title: 'what is opened inside run belongs to that owner, wherever the code awaits; the rest does not',
    async run(c) {
      const listener = await c.listen()
      const owner = new Owner('handler', c.network)
      const accepting = [listener.accept(), listener.accept()]
      const [inside, outside] = await Promise.all([
        owner.run(async () => {
          await settle(2)
          return c.connect(listener.endpoint)
        }),
        c.connect(listener.endpoint),
      ])
      await Promise.all(accepting)
      assert.deepEqual([inside.owner, outside.owner], [owner, c.network])
      inside.moveTo(c.network)
      await owner.end()
      assert.equal(inside.state, 'open')
    },
  },
  {
    id: 'O7',
    title: 'a delivery goes along when its socket is moved: nothing is lost or repeated',
    async run(c) {
      const [a, b] = await c.pair(await c.listen())
      const owner = new Owner('mine', c.network)
      const chunks: Uint8Array[] = []
      const delivery = b.deliver('active', (chunk) => void chunks.push(chunk))
      await a.write('before ')
      while (chunks.length === 0) await settle(1)
      b.moveTo(owner)
      await a.write('after')
      await a.end()
      assert.equal((await delivery.done).clean, true)
      assert.equal(Buffer.concat(chunks).toString(), 'before after')
      assert.equal(b.owner, owner)
    },
  },
]
