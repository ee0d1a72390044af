/** Properties that need more than a pair of ends, or belong to one layer only. */

import assert from 'node:assert/strict'
import { createConnection } from 'node:net'
import { after, describe, test } from 'node:test'
import { getHeapStatistics } from 'node:v8'
import { DeadlineError, Network, type SocketError, TlsError, type TraceEvent } from 'fairlead'
import { clog, connectionPair, faulty, memory, settle, VirtualClock } from 'fairlead/testing'
import { removePaths, testCredentials, TRANSPORTS } from './matrix.js'

after(removePaths)

function transport(name: string) {
  const found = TRANSPORTS.find((one) => one.transport === name)
  assert.ok(found)
  return found
}

/** Bytes of heap that one round of `fn` takes, the median of many rounds so that collections in between do not count. */
async function allocated(rounds: number, fn: () => Promise<void>): Promise<number> {
  const taken: number[] = []
  for (let i = 0; i < rounds; i++) {
    const before = getHeapStatistics().used_heap_size
    await fn()
    taken.push(getHeapStatistics().used_heap_size - before)
  }
  return taken.sort((a, b) => a - b)[rounds >> 1] as number
}

describe('N22: allocations per operation stay within a fixed budget', () => {
  const PER_ROUND = 200
  for (const [name, budget, op] of [
    ['write and read of 64 bytes', 2500, 'read'],
    ['write and readInto of 64 bytes', 2300, 'readInto'],
  ] as const) {
    test(`${name}: at most ${budget} bytes of heap`, async () => {
      const { a, b } = connectionPair()
      const [data, into] = [new Uint8Array(64), new Uint8Array(64)]
      const round = async () => {
        for (let i = 0; i < PER_ROUND; i++) {
          await a.write(data)
          if (op === 'read') await b.read()
          else await b.readInto(into)
        }
      }
      // What the compilers allocate while warming up is not the operations'.
      for (let i = 0; i < 50; i++) await round()
      const each = (await allocated(101, round)) / PER_ROUND
      a.abort()
      b.abort()
      assert.ok(each <= budget, `${each.toFixed(0)} bytes`)
    })
  }
})

describe('N27: a write that timed out over TLS', () => {
  for (const name of ['tls1.3', 'tls1.2']) {
    test(`leaves a stream that can be used, and says how much of it went out [${name}]`, async () => {
      const { a, b } = await transport(name).pair()
      const filled = await clog(a)
      const error = await a.write(new Uint8Array(100_000), { timeout: 1 }).catch((reason: unknown) => reason)
      assert.ok(error instanceof DeadlineError)
      const sent = filled + (error.bytesWritten as number)
      const marked = a.write('marker').then(() => a.end())
      let count = 0
      let tail = ''
      for await (const chunk of b) {
        count += chunk.length
        tail = (tail + Buffer.from(chunk).toString('latin1')).slice(-6)
      }
      await marked
      assert.equal(tail, 'marker')
      assert.equal(count, sent + 6)
      a.abort()
      b.abort()
    })
  }
  after(() => Promise.all(['tls1.3', 'tls1.2'].map((name) => transport(name).close())))
})

describe('S9: handshakes that do not happen', () => {
  test('a stalled one is closed at its deadline without holding an accept slot, a client that vanishes costs nothing', async () => {
    const { ca, cert, key } = await testCredentials()
    const clock = new VirtualClock()
    const network = new Network({ driver: memory(), clock, limits: { handshakes: 8 } })
    const events: TraceEvent[] = []
    network.trace.subscribe((event) => events.push(event))
    const listener = await network.listen('tls://127.0.0.1:0', { tls: { cert, key, handshakeTimeout: 5_000 } })
    const plain = listener.endpoint.replace('tls:', 'tcp:')
    const accepting = listener.accept()
    const stalled = await Promise.all(Array.from({ length: 5 }, () => network.connect(plain)))
    const vanishing = await network.connect(plain)
    await vanishing.write('\x16\x03')
    vanishing.abort()
    const dialling = network.connect(listener.endpoint, { tls: { ca, serverName: 'localhost' } })
    const [client, served] = await Promise.all([dialling, accepting])
    await client.write('x')
    assert.equal((await served.read())?.length, 1)
    assert.equal(listener.stats.handshaking, 5)
    await clock.advance(4_999)
    assert.equal(listener.stats.handshaking, 5)
    await clock.advance(1)
    assert.equal(listener.stats.handshaking, 0)
    assert.equal(listener.stats.handshakeFailures, 6)
    for (const end of stalled) {
      const outcome = await end.read().catch(() => null)
      assert.equal(outcome, null)
    }
    const failed = events.filter((event) => event.type === 'error')
    assert.equal(failed.length, 6)
    await network.end({ abort: true })
    const count = (type: string) => events.filter((event) => event.type === type).length
    assert.equal(count('open'), count('close'))
  })

  test('garbage on a TLS port is an error for that client alone', async () => {
    const { ca, cert, key } = await testCredentials()
    const network = new Network()
    const errors: unknown[] = []
    network.trace.subscribe((event) => (event.type === 'error' ? errors.push(event.error) : undefined))
    const listener = await network.listen('tls://127.0.0.1:0', { tls: { cert, key } })
    const accepting = listener.accept()
    const { port } = listener.local as { port: number }
    const raw = createConnection(port, '127.0.0.1')
    raw.on('error', () => {})
    raw.resume()
    raw.write('GET / HTTP/1.1\r\n\r\n')
    await new Promise((resolve) => raw.once('close', resolve))
    const [client] = await Promise.all([network.connect(listener.endpoint, { tls: { ca, serverName: 'localhost' } }), accepting])
    assert.equal(client.state, 'open')
    assert.equal(errors.length, 1)
    assert.ok(errors[0] instanceof TlsError)
    await network.end({ abort: true })
  })
})

describe('X2: TLS whose transport ends without close_notify', () => {
  for (const version of ['TLSv1.3', 'TLSv1.2'] as const) {
    test(`is Broken, never an end, wherever the stream is cut [${version}]`, async () => {
      const { ca, cert, key } = await testCredentials()
      const reply = new Uint8Array(2_000).fill(7)
      let [handshakes, prefixes] = [0, 0]
      for (let after = 100; after < 4_500; after += 97) {
        const driver = faulty(memory(), (role) => (role === 'accepted' ? { cut: { after, of: 'write', by: 'end' } } : undefined))
        const network = new Network({ driver })
        const tls = { cert, key, minVersion: version, maxVersion: version }
        const server = await network.serve('tls://127.0.0.1:0', { tls }, async (connection) => {
          await connection.write(reply.subarray(0, 1_000))
          await connection.write(reply.subarray(1_000))
        })
        const verdict = await network
          .connect(server.endpoints[0], { tls: { ca, serverName: 'localhost', sessions: false } })
          .then((client) => client.readAll())
          .then(
            (all) => `a clean end after ${all.length} bytes`,
            (error: SocketError) => error.code,
          )
        if (verdict === 'TLS_TRUNCATED') prefixes++
        else if (verdict !== `a clean end after ${reply.length} bytes`) {
          handshakes++
          assert.match(verdict, /^HANDSHAKE_CLOSED|HANDSHAKE_FAILED$/, `cut after ${after} bytes`)
        }
        await network.end({ abort: true })
      }
      assert.ok(handshakes > 3 && prefixes > 10, `${handshakes} during the handshake, ${prefixes} behind it`)
    })
  }
})

describe('X6: an upgrade with plain text left over', () => {
  for (const role of ['client', 'server'] as const) {
    for (const when of ['read and not consumed', 'arrived and not read'] as const) {
      test(`fails as ${role}, with the text ${when}, and aborts`, async () => {
        const { cert, key } = await testCredentials()
        const { a, b } = connectionPair()
        await b.write('STARTTLS\r\ninjected command\r\n')
        if (when === 'read and not consumed') await a.readLine()
        await settle(1)
        const o = role === 'client' ? { serverName: 'localhost' } : { cert, key }
        const error = await a.startTls({ ...o, role }).catch((reason: unknown) => reason)
        assert.ok(error instanceof TlsError)
        assert.equal(error.code, 'PLAINTEXT_BUFFERED')
        assert.equal(a.state, 'closed')
        await assert.rejects(b.read(), { name: 'Broken' })
      })
    }
  }
})
