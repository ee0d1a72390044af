import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Connection, type Dialer, formatEndpoint, Network, policyFrom } from 'fairlead'
import { testCredentials } from './matrix.js'

/** A proxy that takes a line with the endpoint to reach, and a dialer that speaks to it. */
async function tunnel(network: Network): Promise<{ dialer: Dialer; close(): Promise<unknown>; asked: string[] }> {
  const asked: string[] = []
  const proxy = await network.serve('tcp://127.0.0.1:0', {}, async (client) => {
    const to = (await client.readLine()) as string
    asked.push(to)
    const target = await network.connect(to)
    await client.write('ok\n')
    const back = (async () => {
      for await (const chunk of target) await client.write(chunk)
      await client.end()
    })()
    // A client that breaks off ends the loop below, and nobody waits for this one.
    back.catch(() => {})
    for await (const chunk of client) await target.write(chunk)
    await target.end()
    await back
    await target.close()
  })
  const endpoint = proxy.listeners[0]!.endpoint
  const dialer: Dialer = {
    async connect(to, wait) {
      const connection = await network.connect(endpoint, wait)
      await connection.write(`${formatEndpoint(to).replace('tls:', 'tcp:')}\n`)
      assert.equal(await connection.readLine(wait), 'ok')
      return connection
    },
  }
  return { dialer, close: () => proxy.close(), asked }
}

async function echo(connection: Connection): Promise<void> {
  for await (const chunk of connection) await connection.write(chunk)
}

test('via a dialer a connection reaches what the dialer reaches, in both directions and to the end', async () => {
  await using network = new Network()
  const proxy = await tunnel(network)
  const server = await network.serve('tcp://127.0.0.1:0', {}, echo)
  const at = server.listeners[0]!.endpoint
  const connection = await network.connect(at, { via: proxy.dialer })
  await connection.write('through the tunnel')
  await connection.end()
  assert.equal(Buffer.from(await connection.readAll()).toString(), 'through the tunnel')
  assert.deepEqual(proxy.asked, [at])
  await connection.close()
  await server.close()
  await proxy.close()
})

test('TLS via a dialer is end to end: the certificate must name the endpoint, not the proxy', async () => {
  await using network = new Network()
  const { ca, cert, key } = await testCredentials()
  const proxy = await tunnel(network)
  const server = await network.serve('tls://127.0.0.1:0', { tls: { cert, key } }, echo)
  const { port } = server.listeners[0]!.local as { port: number }
  const connection = await network.connect(`tls://localhost:${port}`, { via: proxy.dialer, tls: { ca } })
  assert.equal(connection.security?.verified, true)
  assert.equal(connection.security?.serverName, 'localhost')
  await connection.write('secret')
  assert.equal(Buffer.from((await connection.readExactly(6)) as Uint8Array).toString(), 'secret')
  await connection.close()

  const elsewhere = await network.serve('tls://127.0.0.2:0', { tls: { cert, key } }, echo)
  const misnamed = network.connect(elsewhere.listeners[0]!.endpoint, { via: proxy.dialer, tls: { ca } })
  await assert.rejects(misnamed, { name: 'TlsError', code: 'NAME_MISMATCH' })
  await elsewhere.close()
  await server.close()
  await proxy.close()
})

test('via a connection TLS is spoken on it, and it is consumed', async () => {
  await using network = new Network()
  const { ca, cert, key } = await testCredentials()
  const server = await network.serve('tls://127.0.0.1:0', { tls: { cert, key } }, echo)
  const { port } = server.listeners[0]!.local as { port: number }
  const plain = await network.connect(`tcp://127.0.0.1:${port}`)
  const secure = await network.connect('tls://localhost:1', { via: plain, tls: { ca } })
  assert.equal(secure.id, plain.id)
  await assert.rejects(plain.read(), { name: 'Closed', code: 'CONSUMED' })
  await secure.write('x')
  assert.equal((await secure.readExactly(1))?.[0], 'x'.charCodeAt(0))
  await secure.close()
  await server.close()
})

test('the policy is asked about the endpoint before a dialer is', async () => {
  await using network = new Network({ policy: policyFrom({ deny: ['10.0.0.0/8', '*.internal.example'] }) })
  let dialled = 0
  const dialer: Dialer = {
    async connect() {
      dialled++
      throw new Error('not reached')
    },
  }
  await assert.rejects(network.connect('tcp://10.1.2.3:80', { via: dialer }), { name: 'Denied', code: 'POLICY' })
  await assert.rejects(network.connect('tcp://db.internal.example:80', { via: dialer }), { name: 'Denied', code: 'POLICY' })
  assert.equal(dialled, 0)
})

test('the deadline of a connect covers its dialer, which is told what is left of it', async () => {
  await using network = new Network()
  const dialer: Dialer = {
    connect: (_to, wait) => network.connect('tcp://127.0.0.1:9', { ...wait, timeout: Math.min(wait.timeout ?? 0, 0) }),
  }
  await assert.rejects(network.connect('tcp://192.0.2.1:80', { via: dialer, timeout: 1_000 }), { name: 'DeadlineError' })
  await assert.rejects(network.connect('tcp://192.0.2.1:80', { via: {} as Dialer }), { code: 'ERR_INVALID_ARG_TYPE' })
})

test('from binds the local end; what is not a literal address is refused', async () => {
  await using network = new Network()
  await using listener = await network.listen('tcp://127.0.0.1:0')
  for (const from of ['127.0.0.3', 'tcp://127.0.0.3', 'tcp://127.0.0.3:0']) {
    const connection = await network.connect(listener.endpoint, { from })
    const accepted = await listener.accept()
    assert.deepEqual(connection.local && 'address' in connection.local && connection.local.address, '127.0.0.3')
    assert.deepEqual(accepted.remote && 'address' in accepted.remote && accepted.remote.address, '127.0.0.3')
    await Promise.all([connection.close(), accepted.close()])
  }
  await assert.rejects(network.connect(listener.endpoint, { from: 'tcp://localhost:0' }), { name: 'AddressError', code: 'BAD_HOST' })
  await assert.rejects(network.connect(listener.endpoint, { from: '203.0.113.77' }), { name: 'SystemFailure', code: 'EADDRNOTAVAIL' })
})

test('a local address of another transport, a bad one and a family there is none of are refused by name', async () => {
  await using network = new Network()
  const listener = await network.listen('tcp://127.0.0.1:0')
  await assert.rejects(network.connect(listener.endpoint, { from: 'udp://127.0.0.1:0' }), {
    code: 'BAD_HOST',
    op: 'connect',
    message: /udp/,
  })
  await assert.rejects(network.connect('udp://127.0.0.1:9', { from: 'tcp://127.0.0.1:0' }), {
    code: 'BAD_HOST',
    op: 'connect',
    message: /tcp/,
  })
  await assert.rejects(network.connect(listener.endpoint, { from: '127.0.0.1:70000' }), { name: 'AddressError', op: 'connect' })
  await assert.rejects(network.connect(listener.endpoint, { family: 5 as 4 }), { name: 'RangeError', message: /5/ })
})
