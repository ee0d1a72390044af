import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testCredentials } from './matrix.js'
import { CARRIERS, HOST, pair, Peer, VERSIONS, world } from './tls-peers.js'
import { type Connection, Network } from 'fairlead'
import { connectHandles, memory } from 'fairlead/testing'
import { systemClock } from '#src/deadline.js'
import type { StreamHandle } from '#src/driver.js'
import { memoryPair } from '#src/drivers/memory.js'
import { prepareClient, prepareServer } from '#src/tls-options.js'
import { secure } from '#src/tls.js'

const matrix = VERSIONS.flatMap((version) =>
  CARRIERS.map((portable) => ({ version, portable, name: `${version}${portable ? ', portable' : ''}` })),
)

/** A handle that cuts what is written to it after so many more bytes, and can then end or reset below. */
function cutting(below: StreamHandle): { handle: StreamHandle; left: number; written: number } {
  const control = { left: Number.POSITIVE_INFINITY, written: 0, handle: undefined as unknown as StreamHandle }
  const take = (data: Uint8Array): number => {
    const pass = data.subarray(0, control.left)
    const taken = pass.length === 0 ? 0 : below.write(pass)
    control.left -= taken
    control.written += taken
    return taken < pass.length ? taken : data.length
  }
  control.handle = {
    local: below.local,
    remote: below.remote,
    get unsent() {
      return below.unsent
    },
    attach: (events) => below.attach(events),
    read: (limit) => below.read(limit),
    readInto: (into) => below.readInto(into),
    write: take,
    writev(data) {
      let total = 0
      for (const piece of data) {
        const taken = take(piece)
        total += taken
        if (taken < piece.length) break
      }
      return total
    },
    shutdown: (done) => below.shutdown(done),
    destroy: (reset) => below.destroy(reset),
    mayLose: () => below.mayLose(),
    ref: () => below.ref(),
    unref: () => below.unref(),
  }
  return control
}

for (const { version, portable, name } of matrix) {
  test(`data, then close_notify: data, then a clean end, both ways (${name}; N31)`, async () => {
    const { client, server } = await pair({ version, portable })
    await client.write('question')
    await client.end()
    assert.equal((await server.readAll()).toString(), 'question')
    assert.equal(await server.read(), null, 'and again')
    await server.write('answer')
    await server.end()
    assert.equal((await client.readAll()).toString(), 'answer')
    client.destroy()
    server.destroy()
  })

  for (const from of ['client', 'server'] as const) {
    for (const [cut, code] of [
      ['FIN', 'TLS_TRUNCATED'],
      ['FIN inside a record', 'TLS_TRUNCATED'],
      ['RST', 'ECONNRESET'],
      ['RST inside a record', 'ECONNRESET'],
    ] as const) {
      test(`${cut} from the ${from} without close_notify is ${code}, after the data (${name}; X2, F17)`, async () => {
        const plain = memoryPair()
        const at = from === 'client' ? 0 : 1
        const control = cutting(plain[at])
        const below: [StreamHandle, StreamHandle] = at === 0 ? [control.handle, plain[1]] : [plain[0], control.handle]
        const both = await pair({ version, portable, below })
        const [sender, receiver] = from === 'client' ? [both.client, both.server] : [both.server, both.client]
        await sender.write('all there')
        await sender.flush()
        if (cut.endsWith('record')) {
          control.left = 20
          await sender.write('x'.repeat(1_000))
        }
        if (cut.startsWith('FIN')) plain[at].shutdown(() => {})
        else plain[at].destroy(true)
        await assert.rejects(receiver.readAll(), (error: Error & { code: string; received: Buffer }) => {
          assert.equal(error.code, code)
          assert.equal(error.received.toString(), 'all there')
          return true
        })
        sender.destroy()
        receiver.destroy()
      })
    }

    test(`a FIN without close_notify from the ${from} is an end where truncation is allowed (${name}; N38)`, async () => {
      const { client, server, below } = await pair({
        version,
        portable,
        client: { allowTruncation: true },
        server: { ...(await certificate()), allowTruncation: true },
      })
      const [sender, receiver, plain] = from === 'client' ? [client, server, below[0]] : [server, client, below[1]]
      await sender.write('all there')
      await sender.flush()
      plain.shutdown(() => {})
      assert.equal((await receiver.readAll()).toString(), 'all there')
      sender.destroy()
      receiver.destroy()
    })
  }

  test(`a close_notify that finds the peer gone, behind the peer's own, costs nothing (${name}; T17)`, async () => {
    const { client, server, below } = await pair({ version, portable })
    await client.write('question')
    assert.equal(Buffer.from((await server.read()) as Uint8Array).toString(), 'question')
    await server.end()
    assert.equal(await client.read(), null)
    below[1].destroy(true)
    await client.end()
    client.destroy()
    server.destroy()
  })

  test(`a close_notify that finds the peer gone without its own is a failure (${name})`, async () => {
    const { client, server, below } = await pair({ version, portable })
    await client.write('question')
    assert.equal(Buffer.from((await server.read()) as Uint8Array).toString(), 'question')
    below[1].destroy(true)
    await assert.rejects(client.end())
    client.destroy()
    server.destroy()
  })

  test(`bytes written at the first moment, before the other side has finished, arrive (${name})`, async () => {
    for (const capacity of [64, 700, 65_536]) {
      const { authority, server: identity } = await world()
      const how = { clock: systemClock, portable }
      const bounds = { minVersion: version, maxVersion: version }
      const [a, b] = memoryPair({ capacity })
      const early = async (securing: ReturnType<typeof secure>) => {
        const peer = new Peer((await securing).handle)
        const writing = peer.write('early')
        assert.equal(Buffer.from((await peer.read()) as Uint8Array).toString(), 'early')
        await writing
        return peer
      }
      const [client, server] = await Promise.all([
        early(secure(a, prepareClient({ ca: authority.cert, serverName: HOST, sessions: false, ...bounds }), how)),
        early(secure(b, prepareServer({ cert: identity.cert, key: identity.key, ...bounds }), how)),
      ])
      client.destroy()
      server.destroy()
    }
  })

  test(`a writer that waits is woken when the peer goes away, read or unread (${name}; T27, T28)`, async () => {
    for (const unread of [false, true]) {
      const { client, server, below } = await pair({ version, portable, below: memoryPair({ capacity: 10_000 }) })
      if (unread) await server.write('unread')
      const writing = client.write(Buffer.alloc(1 << 20))
      await new Promise((resolve) => setImmediate(resolve))
      below[1].destroy(true)
      await assert.rejects(writing)
      client.destroy()
      server.destroy()
    }
  })

  test(`a peer that does not read bounds what is taken (${name}; N28)`, async () => {
    const { client, server } = await pair({ version, portable, below: memoryPair({ capacity: 10_000 }) })
    const piece = Buffer.alloc(10_000)
    let taken = 0
    for (let turns = 0; turns < 50; turns++) {
      for (let count = client.handle.write(piece); count > 0; count = client.handle.write(piece)) taken += count
      await new Promise((resolve) => setImmediate(resolve))
    }
    assert.ok(taken < 500_000, String(taken))
    assert.ok(client.handle.unsent > 0)
    client.destroy()
    server.destroy()
  })

  test(`4 MiB each way at once arrive whole (${name}; T32)`, async () => {
    const { client, server } = await pair({ version, portable, below: memoryPair({ capacity: 10_000 }) })
    const data = Buffer.alloc(4 << 20)
    for (let i = 0; i < data.length; i++) data[i] = (i * 31 + (i >> 8)) & 0xff
    const one = async (peer: Peer) => {
      await peer.write(data)
      await peer.end()
    }
    const [fromClient, fromServer] = await Promise.all([server.readAll(), client.readAll(), one(client), one(server)])
    assert.ok(data.equals(fromClient))
    assert.ok(data.equals(fromServer))
    client.destroy()
    server.destroy()
  })
}

async function certificate(): Promise<{ cert: string; key: string }> {
  const { world } = await import('./tls-peers.js')
  const { server } = await world()
  return { cert: server.cert, key: server.key }
}

test('TLS in TLS in TLS carries bytes and ends (N37)', async () => {
  const outer = await pair()
  const middle = await pair({ below: [outer.client.handle, outer.server.handle] })
  const { client, server } = await pair({ below: [middle.client.handle, middle.server.handle] })
  const data = Buffer.alloc(300_000, 'abcdefg')
  const reading = server.readAll()
  await client.write(data)
  await client.end()
  assert.ok(data.equals(await reading))
  await server.write('back')
  await server.end()
  assert.equal((await client.readAll()).toString(), 'back')
  client.destroy()
  server.destroy()
})

test('a limit and memory of the reader are respected', async () => {
  const { client, server } = await pair()
  await client.write('0123456789')
  const first = await server.read(4)
  assert.equal(Buffer.from(first as Uint8Array).toString(), '0123')
  const into = new Uint8Array(3)
  assert.equal(server.handle.readInto(into), 3)
  assert.equal(Buffer.from(into).toString(), '456')
  assert.equal(server.handle.readInto(new Uint8Array(16)), 3)
  assert.equal(server.handle.readInto(new Uint8Array(16)), undefined)
  await client.write('ab')
  assert.equal(server.handle.readInto(into), 2)
  assert.equal((first as Uint8Array).buffer.byteLength, 4, 'a small read pins no slab')
  client.destroy()
  server.destroy()
})

test('a failed write below breaks writing; what the peer sent before stays readable (N35)', async () => {
  const { client, server, below } = await pair()
  await server.write('last words')
  below[1].destroy(true)
  await assert.rejects(async () => {
    for (;;) await client.write('x'.repeat(1_000))
  })
  await assert.rejects(client.readAll(), (error: Error & { code: string; received: Buffer }) => {
    assert.equal(error.received.toString(), 'last words')
    return true
  })
  client.destroy()
  server.destroy()
})

for (const version of VERSIONS) {
  test(`bytes written straight after connect reach a server that has not finished its handshake (${version})`, async () => {
    const { authority, server: identity } = await world()
    const network = new Network({ driver: memory() })
    const tls = { cert: identity.cert, key: identity.key, minVersion: version, maxVersion: version }
    const listener = await network.listen('tls://127.0.0.1:0', { tls })
    const accepting = listener.accept()
    const client = await network.connect(listener.endpoint, { tls: { ca: authority.cert, serverName: HOST } })
    await client.write('early')
    await client.flush()
    const server = await accepting
    assert.equal(Buffer.from((await server.read()) as Uint8Array).toString(), 'early')
    await network.end({ abort: true })
  })
}

test('TLS in TLS that has ended leaves nothing of the outer session unread, which would make the close a reset', async () => {
  const [one, other] = memoryPair()
  let [sent, read] = [0, 0]
  const counting =
    <T>(write: (data: T) => number) =>
    (data: T): number => {
      const count = write.call(one, data)
      sent += count
      return count
    }
  Object.assign(one, { write: counting(one.write), writev: counting(one.writev) })
  const { readInto } = other
  // One record at a time, as if each had come by itself.
  other.readInto = (into) => {
    const header = readInto.call(other, into.subarray(0, 5))
    if (header !== 5) return header
    const length = new DataView(into.buffer, into.byteOffset).getUint16(3)
    assert.equal(readInto.call(other, into.subarray(5, 5 + length)), length)
    read += 5 + length
    return 5 + length
  }
  await using pair = connectHandles(one, other)
  const { ca, cert, key } = await testCredentials()
  const inside = (a: Connection, b: Connection) =>
    Promise.all([a.startTls({ ca, serverName: 'localhost' }), b.startTls({ role: 'server', implicit: true, cert, key })])
  const [a, b] = await inside(...(await inside(pair.a, pair.b)))
  await a.write('all')
  await a.end()
  assert.equal(Buffer.from(await b.readAll()).toString(), 'all')
  await b.end()
  await b.close()
  assert.equal(read, sent)
  await a.close()
})
