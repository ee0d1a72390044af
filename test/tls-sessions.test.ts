import assert from 'node:assert/strict'
import { createHash, X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { developmentAuthority } from 'fairlead/testing'
import { SessionCache } from '#src/sessions.js'
import { type ClientTlsOptions, prepareServer, type ServerTlsOptions } from '#src/tls-options.js'
import { HOST, handshakes, pair, Peer, VERSIONS, world } from './tls-peers.js'

const pinOf = (cert: string) =>
  createHash('sha256')
    .update(new X509Certificate(cert).publicKey.export({ type: 'spki', format: 'der' }))
    .digest('base64')

/** Runs one connection to its clean end, so that tickets arrive, and says how it went. */
async function outcome(o: Parameters<typeof handshakes>[0]): Promise<{ result: string; resumed: boolean }> {
  const [client, server] = await handshakes(o)
  const ends = [client, server].map((one) => (one.status === 'fulfilled' ? new Peer(one.value.handle, one.value.info) : undefined))
  const [a, b] = ends
  if (a !== undefined && b !== undefined) {
    await b.write('hello')
    await b.end()
    await a.readAll()
  }
  for (const end of ends) end?.destroy()
  if (client.status === 'rejected') return { result: (client.reason as { code: string }).code, resumed: false }
  const { info } = client.value
  return {
    result: `${info.verified ? 'verified' : 'unverified'} ${info.verifyError?.code ?? ''} ${info.alpn ?? ''}`,
    resumed: info.resumed,
  }
}

test('a session is resumed under the settings it was made under (both versions, several times)', async () => {
  const { server } = await world()
  for (const version of VERSIONS) {
    const sessions = new SessionCache()
    const serverTls = prepareServer({ cert: server.cert, key: server.key })
    const run = () => outcome({ version, serverTls, client: { sessions } })
    assert.deepEqual(await run(), { result: 'verified  ', resumed: false })
    assert.deepEqual(await run(), { result: 'verified  ', resumed: true })
    assert.deepEqual(await run(), { result: 'verified  ', resumed: true })
  }
})

test('the peer certificate of a resumed connection is readable', async () => {
  const { server } = await world()
  for (const version of VERSIONS) {
    const sessions = new SessionCache()
    const serverTls = prepareServer({ cert: server.cert, key: server.key })
    await outcome({ version, serverTls, client: { sessions } })
    const both = await pair({ version, serverTls, client: { sessions } })
    assert.equal(both.client.info.resumed, true)
    assert.deepEqual(both.client.info.peerCertificate?.names.slice(0, 1), [HOST])
    assert.equal(both.client.info.peerChain.length, 2)
    both.client.destroy()
    both.server.destroy()
  }
})

test('no first setting changes the outcome of a second: 8 × 8 settings, 2 versions (X5, attack 18)', async () => {
  const { authority, server } = await world()
  const stranger = await developmentAuthority({ name: 'stranger' })
  const identity = await authority.issue({ names: [], purpose: 'client' })
  const wrongPin = `${'A'.repeat(43)}=`
  const settings: ClientTlsOptions[] = [
    {},
    { verify: false },
    { serverName: 'wrong.example' },
    { serverName: 'wrong.example', verify: false },
    { ca: stranger.cert },
    { pins: [pinOf(server.cert)] },
    { pins: [wrongPin], verify: false },
    { cert: identity.cert, key: identity.key, alpn: ['a'] },
  ]
  for (const version of VERSIONS) {
    const serverTls = prepareServer({ cert: server.cert, key: server.key, alpn: ['a'] })
    const fresh = await Promise.all(settings.map((client) => outcome({ version, serverTls, client: { ...client, sessions: false } })))
    assert.deepEqual(
      fresh.map(({ result }) => result.trim()),
      ['verified', 'verified', 'NAME_MISMATCH', 'unverified NAME_MISMATCH', 'UNKNOWN_ISSUER', 'verified', 'PIN_MISMATCH', 'verified  a'],
    )
    for (const [i, first] of settings.entries()) {
      for (const [j, second] of settings.entries()) {
        const sessions = new SessionCache()
        await outcome({ version, serverTls, client: { ...first, sessions } })
        const { result, resumed } = await outcome({ version, serverTls, client: { ...second, sessions } })
        assert.equal(result, (fresh[j] as { result: string }).result, `${version}, ${i} then ${j}`)
        if (i !== j) assert.equal(resumed, false, `${version}, ${i} then ${j} resumed`)
      }
    }
  }
})

test('what is judged again at resumption: dates and pins of the kept certificate', async () => {
  const { authority } = await world()
  const server = await authority.issue({ names: [HOST], validTo: Date.now() + 60_000 })
  for (const version of VERSIONS) {
    const sessions = new SessionCache()
    const serverTls = prepareServer({ cert: server.cert, key: server.key })
    await outcome({ version, serverTls, client: { sessions } })
    assert.equal(sessions.size, 1)
    const { now } = Date
    try {
      Date.now = () => now() + 120_000
      assert.equal((await outcome({ version, serverTls, client: { sessions } })).result, 'CERT_EXPIRED')
    } finally {
      Date.now = now
    }
  }
})

test('sessions of different endpoints are not mixed; sessions: false keeps and offers none', async () => {
  const { server } = await world()
  const sessions = new SessionCache()
  const serverTls = prepareServer({ cert: server.cert, key: server.key })
  await outcome({ serverTls, client: { sessions }, endpoint: 'tls://a:1' })
  assert.equal((await outcome({ serverTls, client: { sessions }, endpoint: 'tls://a:2' })).resumed, false)
  assert.equal((await outcome({ serverTls, client: { sessions }, endpoint: 'tls://a:1' })).resumed, true)
  assert.equal((await outcome({ serverTls, client: { sessions: false }, endpoint: 'tls://a:1' })).resumed, false)
})

test('a failed handshake leaves no session behind', async () => {
  for (const version of VERSIONS) {
    const sessions = new SessionCache()
    assert.equal((await outcome({ version, client: { sessions, serverName: 'wrong.example' } })).result, 'NAME_MISMATCH')
    assert.equal(sessions.size, 0)
  }
})

test('the cache is bounded; the least recently used settings go first', async () => {
  const { server } = await world()
  const sessions = new SessionCache(2)
  const serverTls = prepareServer({ cert: server.cert, key: server.key })
  const run = (endpoint: string) => outcome({ version: 'TLSv1.2', serverTls, client: { sessions }, endpoint })
  await run('a')
  await run('b')
  await run('a')
  await run('c')
  assert.equal(sessions.size, 2)
  assert.equal((await run('a')).resumed, true)
  assert.equal((await run('b')).resumed, false)
})

test('a server that asks for client certificates verifies each connection in full', async () => {
  const { authority, server } = await world()
  const client = await authority.issue({ names: [], purpose: 'client' })
  for (const version of VERSIONS) {
    const sessions = new SessionCache()
    const serverTls = prepareServer({ cert: server.cert, key: server.key, clientCert: 'require', ca: authority.cert })
    for (let i = 0; i < 2; i++) {
      assert.deepEqual(await outcome({ version, serverTls, client: { sessions, cert: client.cert, key: client.key } }), {
        result: 'verified  ',
        resumed: false,
      })
    }
  }
})

test('a reload that keeps the policy keeps sessions; one that changes it does not', async () => {
  const { authority, server } = await world()
  const renewed = await authority.issue({ names: [HOST] })
  for (const version of VERSIONS) {
    const sessions = new SessionCache()
    const o: ServerTlsOptions = { cert: server.cert, key: server.key }
    const serverTls = prepareServer(o)
    const run = () => outcome({ version, serverTls, client: { sessions } })
    await run()
    serverTls.reload({ cert: renewed.cert, key: renewed.key })
    assert.equal((await run()).resumed, true)
    serverTls.reload({ ...o, ca: authority.cert })
    assert.equal((await run()).resumed, false)
    serverTls.reload({ ...o, sessions: false })
    sessions.clear()
    await run()
    assert.equal((await run()).resumed, false)
  }
})
