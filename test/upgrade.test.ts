import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Connection, Network, ServerTls, type TraceEvent } from 'fairlead'
import { testCredentials } from './matrix.js'

/** A mail-like server on a real socket: upgrades on the line STARTTLS, and records every line it executes. */
async function serving(network: Network, executed: string[]) {
  const { cert, key } = await testCredentials()
  return network.serve('tcp://127.0.0.1:0', {}, async (plain) => {
    await plain.write('220 ready\r\n')
    let connection: Connection = plain
    for (;;) {
      const line = await connection.readLine()
      if (line === null) return
      executed.push(line)
      if (line === 'STARTTLS') connection = await connection.startTls({ cert, key, reply: '220 go ahead\r\n' })
      else await connection.write(`250 ${line}\r\n`)
    }
  })
}

test('an upgrade in both roles keeps number and counters, tells one tls event each, and consumes the plain connection', async () => {
  await using network = new Network()
  const events: TraceEvent[] = []
  network.trace.subscribe((event) => events.push(event))
  const server = await serving(network, [])
  const { ca } = await testCredentials()
  const plain = await network.connect(server.listeners[0]!.endpoint)
  assert.equal(plain.security, null)
  await plain.readLine()
  await plain.write('STARTTLS\r\n')
  assert.equal(await plain.readLine(), '220 go ahead')
  const before = plain.stats
  const secure = await plain.startTls({ ca, serverName: 'localhost' })
  assert.equal(secure.id, plain.id)
  assert.equal(secure.security?.verified, true)
  assert.ok(secure.stats.bytesRead >= before.bytesRead && secure.stats.bytesWritten >= before.bytesWritten)
  await assert.rejects(plain.write('x'), { name: 'Closed', code: 'CONSUMED' })
  await plain[Symbol.asyncDispose]()
  await secure.write('NOOP\r\n')
  assert.equal(await secure.readLine(), '250 NOOP')
  await secure.close()
  await server.close()
  const of = (type: string) => events.filter((event) => event.type === type && event.id === plain.id).length
  assert.deepEqual([of('open'), of('tls'), of('close')], [1, 1, 1])
  assert.equal(events.filter(({ type }) => type === 'tls').length, 2)
})

test('plain text behind STARTTLS in the same segment is never executed, cut at every offset (attack 19, X6)', async () => {
  await using network = new Network()
  const injected = 'STARTTLS\r\nDELE 1\r\nQUIT\r\n'
  for (let cut = 10; cut <= injected.length; cut++) {
    const executed: string[] = []
    const server = await serving(network, executed)
    const attacker = await network.connect(server.listeners[0]!.endpoint)
    await attacker.readLine()
    await attacker.write(injected.slice(0, cut))
    await attacker.flush()
    if (cut < injected.length) await attacker.write(injected.slice(cut))
    // The server answers nothing, or a go-ahead followed by the end of the handshake it cannot make of this.
    await attacker.readAll().catch(() => {})
    await attacker.close()
    await server.close()
    assert.deepEqual(executed, ['STARTTLS'], `cut at ${cut}`)
  }
})

test('startTls refuses under a pending read and the connection goes on', async () => {
  await using network = new Network()
  const server = await serving(network, [])
  const plain = await network.connect(server.listeners[0]!.endpoint)
  await plain.readLine()
  const reading = plain.readLine()
  await assert.rejects(plain.startTls({ verify: false }), { name: 'Busy' })
  await plain.write('NOOP\r\n')
  assert.equal(await reading, '250 NOOP')
  await plain.close()
  await server.close()
})

test('what was read ahead of the go-ahead fails the client and aborts the connection', async () => {
  await using network = new Network()
  await using listener = await network.listen('tcp://127.0.0.1:0')
  const [client, server] = await Promise.all([network.connect(listener.endpoint), listener.accept()])
  await server.write('220 go ahead\r\n* forged reply\r\n')
  assert.equal(await client.readLine(), '220 go ahead')
  await client.waitReadable()
  await assert.rejects(client.startTls({ verify: false }), { name: 'TlsError', code: 'PLAINTEXT_BUFFERED' })
  assert.equal(client.state, 'closed')
  await server.readAll().catch(() => {})
  await server.close()
})

test('the dialled host is whom the certificate must name, unless told otherwise', async () => {
  await using network = new Network()
  const server = await serving(network, [])
  const { ca } = await testCredentials()
  const upgrade = async (endpoint: string, o: object) => {
    const plain = await network.connect(endpoint)
    await plain.readLine()
    await plain.write('STARTTLS\r\n')
    await plain.readLine()
    return plain.startTls({ ca, ...o })
  }
  const { port } = server.listeners[0]!.local as { port: number }
  await (await upgrade(`tcp://localhost:${port}`, {})).close()
  await assert.rejects(upgrade(`tcp://localhost:${port}`, { serverName: 'elsewhere.example' }), { code: 'NAME_MISMATCH' })
  await server.close()
})

test('implicit: what was received and not read begins TLS, with settings loaded once and sessions that resume', async () => {
  await using network = new Network()
  const { ca, cert, key } = await testCredentials()
  const settings = new ServerTls({ cert, key })
  const listener = await network.listen('tcp://127.0.0.1:0')
  const resumed: boolean[] = []
  for (let i = 0; i < 2; i++) {
    const [plain, accepted] = await Promise.all([network.connect(listener.endpoint), listener.accept()])
    const connecting = plain.startTls({ ca, serverName: 'localhost', maxVersion: 'TLSv1.2' })
    assert.ok((await accepted.peek()) !== null)
    const [client, server] = await Promise.all([connecting, accepted.startTls({ settings, implicit: true })])
    await client.write('x')
    assert.equal((await server.read())?.length, 1)
    resumed.push(client.security?.resumed === true)
    await Promise.all([client.close(), server.close()])
  }
  assert.deepEqual(resumed, [false, true])
})

test('settings stand for all other TLS options, of a server alone; the connection goes on as it was', async () => {
  await using network = new Network()
  const { cert, key } = await testCredentials()
  const settings = new ServerTls({ cert, key })
  const listener = await network.listen('tcp://127.0.0.1:0')
  const [plain, accepted] = await Promise.all([network.connect(listener.endpoint), listener.accept()])
  await assert.rejects(accepted.startTls({ settings, cert }), { name: 'OptionError', code: 'BAD_VALUE' })
  await assert.rejects(plain.startTls({ settings }), { name: 'OptionError', code: 'BAD_VALUE' })
  await plain.write('x')
  assert.equal((await accepted.read())?.length, 1)
})

test('one ServerTls serves several listeners and is reloaded for all', async () => {
  await using network = new Network()
  const { ca, cert, key } = await testCredentials()
  const settings = new ServerTls({ cert, key })
  const listeners = await Promise.all([1, 2].map(() => network.listen('tls://127.0.0.1:0', { tls: settings })))
  const secured = async () => {
    for (const listener of listeners) {
      const accepting = listener.accept()
      const client = await network.connect(listener.endpoint, { tls: { ca, serverName: 'localhost', alpn: ['h2'] } })
      const server = await accepting
      assert.equal(client.security?.alpn ?? null, server.security?.alpn ?? null)
      alpn.push(client.security?.alpn ?? null)
      await Promise.all([client.close(), server.close()])
    }
  }
  const alpn: (string | null)[] = []
  await secured()
  settings.reload({ cert, key, alpn: ['h2'] })
  await secured()
  assert.deepEqual(alpn, [null, null, 'h2', 'h2'])
})

test('an upgrade that another has overtaken, or a close, fails with what became of the connection and touches nothing', async () => {
  const { ca, cert, key } = await testCredentials()
  await using network = new Network()
  const listener = await network.listen('tcp://127.0.0.1:0')
  for (const implicit of [true, false]) {
    const dial = () => Promise.all([network.connect(listener.endpoint), listener.accept()])
    const [client, server] = await dial()
    // Before the client speaks, or its first record is plain text that came too early.
    const answering = server.startTls({ cert, key })
    const upgrading = client.startTls({ ca, serverName: 'localhost', implicit })
    const second = client.startTls({ ca, serverName: 'localhost', implicit })
    await assert.rejects(second, { name: 'Closed', code: 'CONSUMED', op: 'startTls' })
    const [secure, accepted] = await Promise.all([upgrading, answering])
    await secure.write('fine')
    assert.equal(Buffer.from((await accepted.read()) ?? []).toString(), 'fine')

    const [closed] = await dial()
    const late = closed.startTls({ ca, serverName: 'localhost', implicit })
    void closed.close()
    await assert.rejects(late, { name: 'Closed', code: 'CLOSED', op: 'startTls' })
    const [aborted] = await dial()
    const later = aborted.startTls({ ca, serverName: 'localhost', implicit })
    aborted.abort()
    await assert.rejects(later, { name: 'Closed', code: 'ABORTED', op: 'startTls' })
  }
})

test('an upgrade that fails before its handshake says that it was the upgrade', async () => {
  const { ca } = await testCredentials()
  await using network = new Network()
  const listener = await network.listen('tcp://127.0.0.1:0')
  const [client] = await Promise.all([network.connect(listener.endpoint), listener.accept()])
  const clogged = client.write(new Uint8Array(2 ** 24))
  const signal = AbortSignal.abort('why')
  await assert.rejects(client.startTls({ ca, signal }), { name: 'Cancelled', op: 'startTls', cause: 'why' })
  await assert.rejects(client.startTls({ ca, timeout: 5 }), { name: 'DeadlineError', op: 'startTls', phase: 'tls' })
  client.abort()
  await assert.rejects(clogged)
})
