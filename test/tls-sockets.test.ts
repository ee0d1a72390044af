import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import tls from 'node:tls'
import { connect, type Connection, listen, serve, type Server } from 'fairlead'
import type { TlsOptions } from '#src/tls-options.js'
import { HOST, type Version, VERSIONS, world } from './tls-peers.js'

/** Strict, which is carried on Node's stream handles, and lenient, which is native. */
const MODES: readonly boolean[] = [false, true]
const matrix = VERSIONS.flatMap((version) =>
  MODES.map((allowTruncation) => ({ version, allowTruncation, name: `${version}${allowTruncation ? ', truncation allowed' : ''}` })),
)

async function settings(version: Version, allowTruncation: boolean): Promise<{ server: TlsOptions; client: TlsOptions }> {
  const { authority, server } = await world()
  const both = { minVersion: version, maxVersion: version, allowTruncation }
  return {
    server: { cert: server.cert, key: server.key, ...both },
    client: { ca: authority.cert, serverName: HOST, sessions: false, ...both },
  }
}

async function connected(
  endpoint: string,
  version: Version,
  allowTruncation: boolean,
): Promise<{ client: Connection; server: Connection; close(): Promise<void> }> {
  const { server, client } = await settings(version, allowTruncation)
  const listener = await listen(endpoint, { tls: server as never })
  const [a, b] = await Promise.all([connect(listener.endpoint, { tls: client as never }), listener.accept()])
  return {
    client: a,
    server: b,
    async close() {
      a.abort()
      b.abort()
      await Promise.all([a.closed, b.closed, listener.close()])
    },
  }
}

const portOf = ({ listeners: [listener] }: Server): number => (listener as unknown as { local: { port: number } }).local.port

const data = Buffer.alloc(3_000_000)
for (let i = 0; i < data.length; i++) data[i] = (i * 7 + (i >> 9)) & 0xff

for (const { version, allowTruncation, name } of matrix) {
  test(`bytes and ends over TCP, both ways at once (${name})`, async () => {
    const { client, server, close } = await connected('tls://127.0.0.1:0', version, allowTruncation)
    const send = async (one: Connection) => {
      await one.write(data)
      await one.end()
    }
    const [up, down] = await Promise.all([server.readAll(), client.readAll(), send(client), send(server)])
    assert.ok(data.equals(up))
    assert.ok(data.equals(down))
    assert.equal((await client.close()).clean, true)
    assert.equal((await server.close()).clean, true)
    await close()
  })

  test(`a peer that does not read stops the writer, and what was written arrives (${name})`, async () => {
    const { client, server, close } = await connected('tls://127.0.0.1:0', version, allowTruncation)
    let written = 0
    let waiting = false
    const writing = (async () => {
      while (written < 64 << 20 && !waiting) {
        const write = client.write(data.subarray(0, 65_536))
        written += 65_536
        const turned = new Promise<string>((resolve) => setImmediate(() => setImmediate(() => setImmediate(() => resolve('waits')))))
        waiting = (await Promise.race([write, turned])) === 'waits'
        if (waiting) await write
      }
      await client.end()
    })()
    await new Promise((resolve) => setImmediate(resolve))
    let got = 0
    while (!waiting) await new Promise((resolve) => setImmediate(resolve))
    assert.ok(client.stats.unsent < 512 * 1024, String(client.stats.unsent))
    for await (const chunk of server) got += chunk.length
    await writing
    assert.equal(got, written)
    await close()
  })

  test(`an abort is a reset for the other side, after the data it had read (${name})`, async () => {
    const { client, server, close } = await connected('tls://127.0.0.1:0', version, allowTruncation)
    await server.write('before')
    assert.equal(Buffer.from((await client.readExactly(6)) as Uint8Array).toString(), 'before')
    server.abort()
    await assert.rejects(client.read(), { code: 'ECONNRESET', name: 'Broken' })
    await close()
  })

  for (const how of ['FIN', 'RST'] as const) {
    test(`${how} without close_notify from Node's own TLS server (${name}; F17, N38)`, async () => {
      const options = await settings(version, allowTruncation)
      const raws: net.Socket[] = []
      const peer = tls.createServer(options.server as tls.TlsOptions, (socket) => socket.write('all there'))
      peer.on('connection', (raw: net.Socket) => raws.push(raw))
      peer.listen(0, '127.0.0.1')
      await once(peer, 'listening')
      const client = await connect(`tls://127.0.0.1:${(peer.address() as net.AddressInfo).port}`, { tls: options.client as never })
      assert.equal(Buffer.from((await client.readExactly(9)) as Uint8Array).toString(), 'all there')
      const raw = raws[0] as net.Socket
      // `destroy` of the socket below TLS: no alert is written.
      if (how === 'RST') raw.resetAndDestroy()
      else raw.destroy()
      if (how === 'RST') await assert.rejects(client.read(), { code: 'ECONNRESET' })
      else if (allowTruncation) assert.equal(await client.read(), null)
      else await assert.rejects(client.read(), { code: 'TLS_TRUNCATED' })
      await client.close()
      peer.close()
    })
  }

  test(`Node's own TLS client sees a clean end, at once and behind data (${name}; X1)`, async () => {
    const options = await settings(version, allowTruncation)
    for (const text of ['', 'data', 'x'.repeat(300_000)]) {
      const server = await serve('tls://127.0.0.1:0', { tls: options.server as never }, async (connection) => {
        if (text !== '') await connection.write(text)
      })
      const socket = tls.connect({
        port: portOf(server),
        host: '127.0.0.1',
        servername: HOST,
        ca: options.client.ca as string,
      })
      let got = 0
      socket.on('data', (chunk: Buffer) => (got += chunk.length))
      await once(socket, 'end')
      assert.equal(got, text.length)
      socket.destroy()
      await server.close()
    }
  })
}

test('aborts with writes under way cost the connection and nothing else', async () => {
  for (const allowTruncation of MODES) {
    const { server, client } = await settings('TLSv1.3', allowTruncation)
    await using listener = await listen('tls://127.0.0.1:0', { tls: server as never })
    for (let round = 0; round < 40; round++) {
      const [a, b] = await Promise.all([connect(listener.endpoint, { tls: client as never }), listener.accept()])
      for (const one of [a, b]) {
        for (let i = 0; i < round % 4; i++) one.write(data.subarray(0, 1 + round * 20_000)).catch(() => {})
      }
      for (let turns = round % 5; turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve))
      ;(round % 2 === 0 ? a : b).abort()
      await (round % 2 === 0 ? b : a).readAll().catch(() => {})
      a.abort()
      b.abort()
      await Promise.all([a.closed, b.closed])
    }
  }
})

test('TLS over a UNIX socket', { skip: process.platform === 'win32' }, async () => {
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-'))
  try {
    for (const allowTruncation of MODES) {
      const { client, server, close } = await connected(`tls+unix:${join(directory, `${allowTruncation}`)}`, 'TLSv1.3', allowTruncation)
      await client.write('over unix')
      await client.end()
      assert.equal(Buffer.from(await server.readAll()).toString(), 'over unix')
      assert.equal(server.security?.serverName, HOST)
      await close()
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
})

test('garbage on a TLS port is an error for its sender and nothing for the others', async () => {
  const { authority, server: identity } = await world()
  let served = 0
  const server = await serve('tls://127.0.0.1:0', { tls: { cert: identity.cert, key: identity.key } }, async (connection) => {
    served++
    await connection.write('hello')
  })
  const port = portOf(server)
  const vandals = ['GET / HTTP/1.1\r\n\r\n', '\0'.repeat(100), '\xff'.repeat(70_000), '\x16\x03\x01\xff\xff'].map((text) => {
    const socket = net.connect(port, '127.0.0.1', () => socket.end(Buffer.from(text, 'latin1')))
    socket.on('error', () => {}).resume()
    return new Promise((resolve) => socket.once('close', resolve))
  })
  const client = await connect(`tls://127.0.0.1:${port}`, { tls: { ca: authority.cert, serverName: HOST } })
  assert.equal(Buffer.from(await client.readAll()).toString(), 'hello')
  await client.close()
  await Promise.all(vandals)
  await server.close()
  assert.equal(served, 1)
})
