/** The node driver: sockets that move to the shared slab while they live. */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { Network } from 'fairlead'
import { Random } from 'fairlead/testing'
import { rawPair } from './support/pairs.js'

/** More small chunks than it takes to move to the slab. */
const MANY = 24

test('small chunks, then large ones, then small ones again: every byte arrives once and in order, then the end', async () => {
  await using network = new Network()
  await using listener = await network.listen('tcp://127.0.0.1:0')
  const random = new Random(7)
  for (let round = 0; round < 20; round++) {
    const [a, b] = await Promise.all([network.connect(listener.endpoint), listener.accept()])
    const sent: Buffer[] = []
    const writing = (async () => {
      for (let i = 0; i < 60; i++) {
        const size = i % 20 < 12 ? random.int(1, 200) : random.int(1, 100_000)
        const piece = Buffer.alloc(size, (i * 7 + round) % 251)
        sent.push(piece)
        await a.write(piece)
        // Answered one by one at first, so that chunks are small and the reader waits between them.
        if (i < MANY) assert.equal((await a.readExactly(1))?.length, 1)
      }
      await a.end()
    })()
    const received: Uint8Array[] = []
    let count = 0
    for await (const chunk of b) {
      received.push(chunk)
      count += chunk.length
      for (let owed = 0, sum = 0; owed < Math.min(MANY, sent.length); owed++) {
        sum += sent[owed]!.length
        if (sum <= count && sum > count - chunk.length) await b.write('.')
      }
    }
    await writing
    assert.ok(Buffer.concat(received).equals(Buffer.concat(sent)))
    await Promise.all([a.close(), b.close()])
  }
})

test('readInto moves to the slab at once, and a read after it still gives memory of its own', async () => {
  await using raw = await rawPair()
  const { connection, peer } = raw
  const into = new Uint8Array(4)
  peer.write('abcdef')
  assert.equal(await connection.readInto(into), 4)
  assert.equal(Buffer.from(into).toString(), 'abcd')
  const rest = (await connection.read()) as Uint8Array
  peer.write('xyz')
  const more = (await connection.read()) as Uint8Array
  assert.deepEqual([Buffer.from(rest).toString(), Buffer.from(more).toString()], ['ef', 'xyz'])
  assert.notEqual(rest.buffer, more.buffer)
  assert.equal(more.buffer.byteLength, 3)
})

for (const ending of ['end', 'reset'] as const) {
  test(`the ${ending} of a peer behind many small chunks is told for what it is, also while nobody reads`, async () => {
    await using raw = await rawPair()
    const { connection, peer } = raw
    for (let i = 0; i < MANY; i++) {
      peer.write(`${i};`)
      assert.equal(Buffer.from((await connection.read()) as Uint8Array).toString(), `${i};`)
    }
    if (ending === 'end') {
      peer.end('last')
      assert.equal(Buffer.from(await connection.readAll()).toString(), 'last')
      assert.equal(await connection.read(), null)
      await connection.write('the other direction is open')
      const [answer] = (await once(peer.resume(), 'data')) as [Buffer]
      assert.equal(answer.toString(), 'the other direction is open')
    } else {
      peer.resetAndDestroy()
      await assert.rejects(connection.readAll(), { name: 'Broken', code: 'ECONNRESET' })
    }
  })
}

test('a read that begins just before a write fails is told of the reset, too', async () => {
  await using raw = await rawPair()
  const { connection, peer } = raw
  peer.resetAndDestroy()
  await once(peer, 'close')
  const reading = connection.read({ timeout: 5_000 })
  void connection.write('too late')
  await assert.rejects(reading, { name: 'Broken', code: 'ECONNRESET' })
})

test('a connection that moved to the slab holds back a peer that nobody reads from', async () => {
  await using raw = await rawPair()
  const { connection, peer } = raw
  for (let i = 0; i < MANY; i++) {
    peer.write('ping')
    await connection.readExactly(4)
  }
  const piece = Buffer.alloc(1024 * 1024)
  let accepted = 0
  while (peer.writableLength < 8 * piece.length) {
    peer.write(piece)
    accepted += piece.length
  }
  assert.ok(connection.stats.unread <= 64 * 1024)
  const got = (await connection.readExactly(accepted)) as Uint8Array
  assert.equal(got.length, accepted)
})
