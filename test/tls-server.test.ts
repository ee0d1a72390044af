import assert from 'node:assert/strict'
import { constants } from 'node:crypto'
import { test } from 'node:test'
import * as tls from 'node:tls'
import { Duplex } from 'node:stream'
import { type Connection, Network, type SocketError } from 'fairlead'
import { memory, settle, VirtualClock } from 'fairlead/testing'
import { systemClock } from '#src/deadline.js'
import type { Clock, StreamHandle } from '#src/driver.js'
import { memoryPair } from '#src/drivers/memory.js'
import { secure } from '#src/tls.js'
import { prepareClient, prepareServer, type ServerTlsOptions, type SniFunction } from '#src/tls-options.js'
import { CARRIERS, clientFailure, handshakes, HOST, pair, type PairOptions, Peer, VERSIONS, world } from './tls-peers.js'

const matrix = VERSIONS.flatMap((version) =>
  CARRIERS.map((portable) => ({ version, portable, name: `${version}${portable ? ', portable' : ''}` })),
)

/** Time that moves when told to. */
class ManualClock implements Clock {
  #now = 0
  #due: { when: number; fn: () => void }[] = []
  now(): number {
    return this.#now
  }
  wall(): number {
    return this.#now
  }
  at(when: number, fn: () => void): () => void {
    const entry = { when, fn }
    this.#due.push(entry)
    return () => {
      this.#due = this.#due.filter((one) => one !== entry)
    }
  }
  get armed(): number {
    return this.#due.length
  }
  advance(by: number): void {
    this.#now += by
    for (const entry of this.#due.filter(({ when }) => when <= this.#now)) {
      this.#due = this.#due.filter((one) => one !== entry)
      entry.fn()
    }
  }
}

async function serverSettings(): Promise<{ cert: string; key: string }> {
  const { server } = await world()
  return { cert: server.cert, key: server.key }
}

/** Names of the certificate a client asking for `name` is shown. */
async function shown(sni: ServerTlsOptions['sni'], name: string, more: Partial<PairOptions> = {}): Promise<string> {
  const [client, server] = await handshakes({
    server: { ...(await serverSettings()), sni },
    client: { serverName: name, verify: false },
    ...more,
  })
  for (const one of [client, server]) if (one.status === 'fulfilled') one.value.handle.destroy(false)
  if (server.status === 'rejected') return (server.reason as { code: string }).code
  return client.status === 'fulfilled' ? (client.value.info.peerCertificate?.names.join() ?? '') : (client.reason as { code: string }).code
}

test('the certificate goes by the name asked for, whatever its case and final dot (X9, M7)', async () => {
  const { authority } = await world()
  const only = ({ cert, key }: { cert: string; key: string }) => ({ cert, key })
  const b = only(await authority.issue({ names: ['b.example'] }))
  const wild = only(await authority.issue({ names: ['*.c.example'] }))
  const umlaut = only(await authority.issue({ names: ['xn--bcher-kva.example'] }))
  const table = { 'B.example.': b, '*.C.example': wild, 'bücher.example': umlaut }
  const expected: [string, string][] = [
    ['b.example', 'b.example'],
    ['B.EXAMPLE', 'b.example'],
    ['b.example.', 'b.example'],
    ['x.c.example', '*.c.example'],
    ['X.C.Example.', '*.c.example'],
    ['x.y.c.example', `${HOST},*.wild.example,127.0.0.1`],
    ['c.example', `${HOST},*.wild.example,127.0.0.1`],
    ['bücher.example', 'xn--bcher-kva.example'],
    ['other.example', `${HOST},*.wild.example,127.0.0.1`],
  ]
  for (const [name, names] of expected) {
    assert.equal(await shown(table, name), names, name)
    assert.equal(
      await shown(
        (asked) =>
          asked === 'b.example'
            ? b
            : asked.endsWith('.c.example') && asked.split('.').length === 3
              ? wild
              : asked.startsWith('xn--')
                ? umlaut
                : undefined,
        name,
      ),
      names,
      name,
    )
  }
})

test('spellings that Node’s client would not send find their certificate too (X9)', async () => {
  const { authority } = await world()
  const b = await authority.issue({ names: ['b.example'] })
  const serverTls = prepareServer({ ...(await serverSettings()), sni: { 'b.example': { cert: b.cert, key: b.key } } })
  for (const servername of ['B.ExAmPlE', 'b.example.', 'B.EXAMPLE.']) {
    const [a, below] = memoryPair()
    const accepting = secure(below, serverTls, { clock: systemClock })
    const socket = tls.connect({ socket: streamOver(a), servername, rejectUnauthorized: false })
    socket.on('error', () => {})
    const connected = new Promise((resolve) => socket.once('secureConnect', resolve))
    const { handle, info } = await accepting
    await connected
    assert.deepEqual(socket.getPeerCertificate().subject.CN, 'b.example', servername)
    assert.equal(info.serverName, servername)
    socket.destroy()
    handle.destroy(false)
  }
})

/** A handle as a plain stream for Node's own TLS. */
function streamOver(handle: StreamHandle): Duplex {
  const peer = new Peer(handle)
  return new Duplex({
    read() {
      void peer.read().then(
        (chunk) => this.push(chunk),
        (error: Error) => this.destroy(error),
      )
    },
    write(chunk: Uint8Array, _encoding, done) {
      void peer.write(chunk).then(() => done(), done)
    },
    final(done) {
      void peer.end().then(() => done(), done)
    },
    destroy(error, done) {
      peer.destroy()
      done(error)
    },
  })
}

test('a server name callback that throws, rejects or answers nonsense ends its connection alone (attack 20)', async () => {
  const bombs: [string, SniFunction, string][] = [
    [
      'throws',
      () => {
        throw new Error('boom')
      },
      'SNI_FAILED',
    ],
    ['rejects', () => Promise.reject(new Error('boom')), 'SNI_FAILED'],
    ['rejects with nothing', () => Promise.reject(), 'SNI_FAILED'],
    ['gives a number', (() => 7) as never, 'SNI_FAILED'],
    ['gives a bad key', () => ({ cert: 'x\n', key: 'y\n' }), 'SNI_FAILED'],
    ['gives a missing file', () => ({ cert: '/nowhere/c.pem', key: '/nowhere/k.pem' }), 'SNI_FAILED'],
  ]
  for (const portable of CARRIERS) {
    for (const [what, sni, code] of bombs) {
      assert.equal(await shown(sni, 'b.example', { portable }), code, what)
    }
    assert.match(await shown(() => undefined, 'b.example', { portable }), /^server\.example/)
  }
})

test('a server name callback that never answers is ended by the handshake deadline (attack 20)', async () => {
  const clock = new ManualClock()
  let asked!: () => void
  const asking = new Promise<void>((resolve) => {
    asked = resolve
  })
  const running = handshakes({
    clock,
    server: {
      ...(await serverSettings()),
      sni: () => {
        asked()
        return new Promise(() => {})
      },
    },
  })
  await asking
  clock.advance(9_999)
  await new Promise((resolve) => setImmediate(resolve))
  clock.advance(1)
  const [client, server] = await running
  assert.equal(server.status === 'rejected' && (server.reason as { code: string }).code, 'DEADLINE')
  assert.equal(client.status, 'rejected')
  assert.equal(clock.armed, 0)
})

test('keys of callbacks and of the table are checked when the settings are prepared', async () => {
  const { authority, server } = await world()
  const other = await authority.issue()
  assert.throws(() => prepareServer({ ...server, serialNumber: undefined } as never), { code: 'UNKNOWN_OPTION' })
  assert.throws(() => prepareServer({ sni: { 'a.example': { cert: server.cert, key: other.key } } }), {
    code: 'KEY_MISMATCH',
    message: /sni\["a\.example"\]\.cert/,
  })
})

test('application protocols: chosen by the server’s order, refused where none is common, required where asked', async () => {
  const { cert, key } = await serverSettings()
  for (const portable of CARRIERS) {
    const both = await pair({ portable, server: { cert, key, alpn: ['h2', 'http/1.1'] }, client: { alpn: ['http/1.1', 'h2'] } })
    assert.equal(both.client.info.alpn, 'h2')
    assert.equal(both.server.info.alpn, 'h2')
    both.client.destroy()
    both.server.destroy()
    const [client, server] = await handshakes({ portable, server: { cert, key, alpn: ['a'] }, client: { alpn: ['b'] } })
    assert.equal(client.status === 'rejected' && (client.reason as { code: string }).code, 'ALPN_MISMATCH')
    assert.equal(server.status === 'rejected' && (server.reason as { code: string }).code, 'ALPN_MISMATCH')
    assert.equal((await clientFailure({ portable, client: { alpn: ['b'], alpnRequired: true } })).code, 'ALPN_MISMATCH')
    const [, refusing] = await handshakes({ portable, server: { cert, key, alpn: ['a'], alpnRequired: true } })
    assert.equal(refusing.status === 'rejected' && (refusing.reason as { code: string }).code, 'ALPN_MISMATCH')
  }
})

test('no common version, no common cipher: each its code on both sides', async () => {
  const { cert, key } = await serverSettings()
  const codes = async (o: PairOptions) =>
    (await handshakes(o)).map((one) => (one.status === 'rejected' ? (one.reason as { code: string }).code : 'ok'))
  assert.deepEqual(await codes({ client: { maxVersion: 'TLSv1.2' }, server: { cert, key, minVersion: 'TLSv1.3' } }), [
    'VERSION_MISMATCH',
    'VERSION_MISMATCH',
  ])
  const [client, server] = await codes({
    client: { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256' },
    server: { cert, key, maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES256-GCM-SHA384' },
  })
  assert.equal(server, 'NO_SHARED_CIPHER')
  assert.equal(client, 'PEER_ALERT', 'the alert does not say more')
})

test('old versions only where asked for', async () => {
  const { cert, key } = await serverSettings()
  const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1' } as const
  assert.equal((await clientFailure({ client: { ...old } })).code, 'VERSION_MISMATCH')
  const both = await pair({ client: { ...old }, server: { cert, key, ...old } })
  assert.equal(both.client.info.protocol, 'TLSv1.1')
  both.client.destroy()
  both.server.destroy()
})

test('a reload changes what new handshakes get and leaves the others alone', async () => {
  const { authority } = await world()
  const serverTls = prepareServer(await serverSettings())
  const before = await pair({ serverTls })
  const renewed = await authority.issue({ names: [HOST] })
  serverTls.reload({ cert: renewed.cert, key: renewed.key })
  const after = await pair({ serverTls })
  assert.notEqual(after.client.info.peerCertificate?.fingerprint, before.client.info.peerCertificate?.fingerprint)
  await before.client.write('still here')
  await before.client.end()
  assert.equal((await before.server.readAll()).toString(), 'still here')
  assert.throws(() => serverTls.reload({ cert: renewed.cert, key: (before as unknown as { nothing?: string }).nothing ?? '/nowhere' }), {
    code: 'MISSING_FILE',
  })
  const last = await pair({ serverTls })
  assert.equal(
    last.client.info.peerCertificate?.fingerprint,
    after.client.info.peerCertificate?.fingerprint,
    'a failed reload changes nothing',
  )
  for (const { client, server } of [before, after, last]) {
    client.destroy()
    server.destroy()
  }
})

const GARBAGE: readonly (readonly [string, Uint8Array, string])[] = [
  ['an HTTP request', Buffer.from('GET / HTTP/1.1\r\n\r\n'), 'NOT_TLS'],
  ['SSH', Buffer.from('SSH-2.0-OpenSSH_9.2\r\n'), 'NOT_TLS'],
  ['zeroes', new Uint8Array(1_000), 'NOT_TLS'],
  ['0xff', new Uint8Array(1_000).fill(0xff), 'NOT_TLS'],
  ['a handshake record of rubbish', Buffer.from([22, 3, 1, 0, 5, 9, 9, 9, 9, 9]), 'HANDSHAKE_FAILED'],
  ['an application record', Buffer.from([23, 3, 3, 0, 2, 1, 1]), 'NOT_TLS'],
]

for (const portable of CARRIERS) {
  test(`garbage fails its own handshake, at once and with a code${portable ? ' (portable)' : ''}`, async () => {
    for (const [what, bytes, code] of GARBAGE) {
      for (const role of ['server', 'client'] as const) {
        const [a, b] = memoryPair()
        const settings = role === 'server' ? prepareServer(await serverSettings()) : prepareClient({ serverName: HOST })
        const failing = secure(b, settings, { clock: systemClock, portable })
        const peer = new Peer(a)
        await peer.write(bytes)
        await assert.rejects(failing, (error: Error & { code: string }) => {
          assert.equal(error.name, 'TlsError')
          if (role === 'server')
            assert.ok(error.code === code || error.code === 'NOT_TLS' || error.code === 'HANDSHAKE_FAILED', `${what}: ${error.code}`)
          assert.doesNotMatch(error.message, /\n/)
          return true
        })
        peer.destroy()
      }
    }
  })

  test(`an end or a reset during the handshake is told as such${portable ? ' (portable)' : ''}`, async () => {
    for (const role of ['server', 'client'] as const) {
      for (const [reset, code] of [
        [false, 'HANDSHAKE_CLOSED'],
        [true, 'ECONNRESET'],
      ] as const) {
        const [a, b] = memoryPair()
        const settings = role === 'server' ? prepareServer(await serverSettings()) : prepareClient({ serverName: HOST })
        const failing = secure(b, settings, { clock: systemClock, portable })
        if (reset) a.destroy(true)
        else {
          a.attach({ readable() {}, writable() {} })
          a.shutdown(() => {})
        }
        await assert.rejects(failing, { code }, `${role} ${code}`)
        a.destroy(false)
      }
    }
  })

  test(`a handshake ends at its deadline, at the caller's, and by a signal, and takes the transport with it (N32)${portable ? ' (portable)' : ''}`, async () => {
    const settings = prepareServer({ ...(await serverSettings()), handshakeTimeout: 500 })
    const run = async (wait: object | undefined, act: (clock: ManualClock) => void) => {
      const clock = new ManualClock()
      const [a, b] = memoryPair()
      const peer = new Peer(a)
      const failing = secure(b, settings, { clock, portable, wait: wait as never })
      failing.catch(() => {})
      act(clock)
      const error = await failing.then(
        () => assert.fail('succeeded'),
        (reason: Error & { code: string; phase: string }) => reason,
      )
      assert.equal(clock.armed, 0)
      await peer.readAll().catch(() => {})
      peer.destroy()
      return `${error.code} ${error.phase}`
    }
    assert.equal(await run(undefined, (clock) => clock.advance(500)), 'DEADLINE tls')
    assert.equal(await run({ timeout: 100 }, (clock) => clock.advance(100)), 'DEADLINE tls')
    assert.equal(await run({ timeout: 0 }, () => {}), 'DEADLINE tls')
    const controller = new AbortController()
    assert.equal(await run({ signal: controller.signal }, () => controller.abort()), 'CANCELLED tls')
    assert.equal(await run({ signal: AbortSignal.abort() }, () => {}), 'CANCELLED tls')
  })
}

test('a handshakeTimeout that is undefined is that of the network, for clients and for servers', async () => {
  const clock = new VirtualClock()
  const network = new Network({ driver: memory(), clock, limits: { handshake: 50 } })
  const silent = await network.listen('tcp://127.0.0.1:0')
  const plain = silent.endpoint
  const outcomes: Promise<void>[] = []
  const failing = (handshake: Promise<unknown>) => outcomes.push(assert.rejects(handshake, { name: 'DeadlineError', phase: 'tls' }))
  failing(network.connect(plain.replace('tcp:', 'tls:'), { tls: { handshakeTimeout: undefined } }))
  const held = [await silent.accept(), await network.connect(plain)]
  failing((held[1] as Connection).startTls({ handshakeTimeout: undefined, serverName: HOST }))
  const { cert, key } = (await world()).server
  const listener = await network.listen('tls://127.0.0.1:0', { tls: { cert, key, handshakeTimeout: undefined } })
  const accepting = listener.accept().catch(() => undefined)
  held.push(await network.connect(listener.endpoint.replace('tls:', 'tcp:')))
  await settle(3)
  assert.equal(listener.stats.handshaking, 1)
  await clock.advance(50)
  await Promise.all(outcomes)
  assert.equal(listener.stats.handshaking, 0)
  assert.equal(held.length, 3)
  await network.end({ abort: true })
  await accepting
})

test('new settings of a listener that name no handshakeTimeout have that of the network, as the first ones had', async () => {
  const clock = new VirtualClock()
  const network = new Network({ driver: memory(), clock, limits: { handshake: 50 } })
  const { cert, key } = (await world()).server
  const listener = await network.listen('tls://127.0.0.1:0', { tls: { cert, key } })
  listener.reloadTls({ cert, key })
  const accepting = listener.accept().catch(() => undefined)
  const silent = await network.connect(listener.endpoint.replace('tls:', 'tcp:'))
  await settle(3)
  assert.equal(listener.stats.handshaking, 1)
  await clock.advance(50)
  assert.equal(listener.stats.handshaking, 0)
  assert.equal(await silent.read().catch(() => null), null)
  await network.end({ abort: true })
  await accepting
})

test('a timeout that is null leaves a handshake the time that it has', async () => {
  const clock = new VirtualClock()
  const network = new Network({ driver: memory(), clock, limits: { handshake: 50 } })
  const listener = await network.listen('tcp://127.0.0.1:0')
  const [client, silent] = await Promise.all([network.connect(listener.endpoint), listener.accept()])
  const upgrading = assert.rejects(client.startTls({ serverName: HOST, timeout: null as never }), { name: 'DeadlineError', phase: 'tls' })
  await settle(3)
  await clock.advance(50)
  await network.end({ abort: true })
  await upgrading
  assert.equal(silent.state, 'closed')
})

test('an upgrade that is aborted in the very turn in which its handshake is done fails, and otherwise is one that talks', async () => {
  const { cert, key } = (await world()).server
  const outcomes = new Set<string>()
  for (let later = 0; later < 16; later++) {
    await using network = new Network({ driver: memory() })
    const listener = await network.listen('tcp://127.0.0.1:0')
    const [client, server] = await Promise.all([network.connect(listener.endpoint), listener.accept()])
    // With TLS 1.2 this is told in the turn in which the server's part is done.
    const abortLater = async () => {
      for (let turns = 0; turns < later; turns++) await undefined
      server.abort()
    }
    const sent = server.startTls({ cert, key, maxVersion: 'TLSv1.2', keylog: () => void abortLater() }).then(
      async (upgraded) => {
        await upgraded.write('done')
        await upgraded.flush()
        return 'done'
      },
      (error: SocketError) => (error.code === 'ABORTED' ? '' : error.code),
    )
    const got = client.startTls({ verify: false }).then(
      async (upgraded) => Buffer.from((await upgraded.read().catch(() => null)) ?? '').toString(),
      () => '',
    )
    const outcome = await Promise.all([sent, got])
    assert.equal(outcome[0], outcome[1], `${later} turns later`)
    outcomes.add(outcome[0])
  }
  assert.deepEqual([...outcomes], ['', 'done'])
})

const ENDINGS: readonly (readonly [string, (ends: { a: Peer; b: Peer }) => Promise<void>])[] = [
  ['at once', ({ a }) => a.end()],
  [
    'behind data',
    async ({ a }) => {
      await a.write('data')
      await a.end()
    },
  ],
  [
    'behind much data that the peer is slow to take',
    async ({ a, b }) => {
      const writing = a.write(Buffer.alloc(300_000)).then(() => a.end())
      for (let got = 0; got < 300_000;) got += (await b.read(1_000))?.length ?? assert.fail('too early')
      await writing
    },
  ],
  [
    'after the peer’s end',
    async ({ a, b }) => {
      await b.end()
      assert.equal(await a.read(), null)
      await a.end()
    },
  ],
  [
    'with input unread',
    async ({ a, b }) => {
      await b.write('unread')
      await b.flush()
      await a.end()
    },
  ],
  [
    'with input half read',
    async ({ a, b }) => {
      await b.write('unread')
      await a.read(2)
      await a.end()
    },
  ],
  [
    'both at once',
    async ({ a, b }) => {
      await Promise.all([a.end(), b.end()])
    },
  ],
]

for (const { version, portable, name } of matrix) {
  for (const [what, act] of ENDINGS) {
    test(`an end ${what} puts close_notify on the wire (${name}; X1, M2)`, async () => {
      for (const from of ['client', 'server'] as const) {
        const both = await pair({ version, portable, below: memoryPair({ capacity: 20_000 }) })
        const [a, b] = from === 'client' ? [both.client, both.server] : [both.server, both.client]
        await act({ a, b })
        // Anything but close_notify would be TLS_TRUNCATED.
        assert.equal((await b.readAll()).length >= 0, true)
        a.destroy()
        b.destroy()
      }
    })
  }
}

test('close_notify and nothing else is what is written at an end (TLS 1.2: an alert record)', async () => {
  const { client, server, below } = await pair({ version: 'TLSv1.2' })
  const wire = new Peer(below[1])
  await client.end()
  const bytes = Buffer.from((await wire.readAll()) as Uint8Array)
  assert.equal(bytes[0], 21, 'an alert')
  assert.equal(bytes.length, 5 + bytes.readUInt16BE(3), 'one record')
  client.destroy()
  server.destroy()
})

test('bytes that were already taken from below are the first for TLS', async () => {
  const [a, b] = memoryPair()
  const { authority } = await world()
  const connecting = secure(a, prepareClient({ ca: authority.cert, serverName: HOST, sessions: false }), { clock: systemClock })
  const early = new Peer(b)
  const first = (await early.read(20)) as Uint8Array
  const server = await secure(b, prepareServer(await serverSettings()), { clock: systemClock, first })
  const client = await connecting
  assert.equal(client.info.verified, true)
  client.handle.destroy(false)
  server.handle.destroy(false)
})

test('a key log is written for those who ask', async () => {
  const lines: string[] = []
  const both = await pair({ version: 'TLSv1.3', client: { keylog: (line) => lines.push(line) } })
  assert.ok(lines.length >= 4)
  for (const line of lines) assert.match(line, /^[A-Z0-9_]+ [0-9a-f]{64} [0-9a-f]+$/)
  both.client.destroy()
  both.server.destroy()
})

test('a key log function that throws ends its own handshake', async () => {
  const [client, server] = await handshakes({
    version: 'TLSv1.3',
    client: {
      keylog() {
        throw new Error('boom')
      },
    },
  })
  assert.equal(client.status === 'rejected' && (client.reason as { code: string }).code, 'HANDSHAKE_FAILED')
  if (server.status === 'fulfilled') server.value.handle.destroy(false)
})

test('renegotiation is refused (attack 7)', async () => {
  assert.ok(constants.SSL_OP_NO_RENEGOTIATION, 'the option of OpenSSL that does it')
  const [a, b] = memoryPair()
  const accepting = secure(b, prepareServer(await serverSettings()), { clock: systemClock })
  const socket = tls.connect({ socket: streamOver(a), servername: HOST, rejectUnauthorized: false, maxVersion: 'TLSv1.2' })
  const failed = new Promise<string>((resolve) => socket.on('error', (error: Error & { code?: string }) => resolve(String(error.code))))
  const connected = new Promise((resolve) => socket.once('secureConnect', resolve))
  const server = new Peer((await accepting).handle)
  await connected
  const reading = server.readAll().catch((error: unknown) => error)
  socket.renegotiate({}, () => {})
  assert.match(await failed, /NO_RENEGOTIATION/)
  socket.destroy()
  await reading
  server.destroy()
})

test('a record that was tampered with breaks the connection, after what came before', async () => {
  for (const portable of CARRIERS) {
    const { client, server, below } = await pair({ portable })
    await client.write('intact')
    await client.flush()
    below[0].write(Buffer.from([23, 3, 3, 0, 30, ...new Uint8Array(30)]))
    await assert.rejects(server.readAll(), (error: Error & { code: string; received: Buffer; name: string }) => {
      assert.equal(error.code, 'TLS_FAILED')
      assert.equal(error.name, 'Broken')
      assert.equal(error.received.toString(), 'intact')
      return true
    })
    client.destroy()
    server.destroy()
  }
})
