import assert from 'node:assert/strict'
import { createHash, X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { developmentAuthority } from 'fairlead/testing'
import type { ClientTlsOptions, ServerTlsOptions } from '#src/tls-options.js'
import { prepareClient } from '#src/tls-options.js'
import { clientFailure, HOST, handshakes, pair, VERSIONS, world } from './tls-peers.js'

const DAY = 86_400_000

const pinOf = (cert: string) =>
  createHash('sha256')
    .update(new X509Certificate(cert).publicKey.export({ type: 'spki', format: 'der' }))
    .digest('base64')

interface Row {
  what: string
  code: string
  says: RegExp
  setup(): Promise<{ client?: ClientTlsOptions; server: ServerTlsOptions }>
}

const ROWS: readonly Row[] = [
  {
    what: 'expired',
    code: 'CERT_EXPIRED',
    says: /^the certificate has expired: server\.example, CN=.* was valid until \w+ +\d+ /,
    setup: async () => ({
      server: await (await world()).authority.issue({ names: [HOST], validFrom: Date.now() - 9 * DAY, validTo: Date.now() - DAY }),
    }),
  },
  {
    what: 'not yet valid',
    code: 'CERT_NOT_YET_VALID',
    says: /^the certificate is not valid yet: server\.example, CN=.* is valid from /,
    setup: async () => ({ server: await (await world()).authority.issue({ names: [HOST], validFrom: Date.now() + DAY }) }),
  },
  {
    what: 'self-signed',
    code: 'SELF_SIGNED',
    says: /^the certificate is self-signed and not trusted: server\.example, CN=server\.example$/,
    setup: async () => ({ server: await (await world()).authority.issue({ names: [HOST], selfSigned: true }) }),
  },
  {
    what: 'of an unknown issuer',
    code: 'UNKNOWN_ISSUER',
    says: /^the certificate was issued by an authority that is not trusted: server\.example, the issuer is CN=stranger$/,
    setup: async () => ({ server: await (await developmentAuthority({ name: 'stranger' })).issue({ names: [HOST] }) }),
  },
  {
    what: 'of an unknown issuer that sends its own root along',
    code: 'UNKNOWN_ISSUER',
    says: /issuer is CN=stranger$/,
    setup: async () => {
      const stranger = await developmentAuthority({ name: 'stranger' })
      const { cert, key } = await stranger.issue({ names: [HOST] })
      return { server: { cert: cert + stranger.cert, key } }
    },
  },
  {
    what: 'for another name',
    code: 'NAME_MISMATCH',
    says: /^the certificate does not name this server: server\.example; the certificate is for other\.example, 192\.0\.2\.1$/,
    setup: async () => ({ server: await (await world()).authority.issue({ names: ['other.example', '192.0.2.1'] }) }),
  },
  {
    what: 'with the name as common name only',
    code: 'NAME_MISMATCH',
    says: /the certificate names no host at all$/,
    setup: async () => ({ server: await (await world()).authority.issue({ names: [], commonName: HOST }) }),
  },
  {
    what: 'for clients only',
    code: 'BAD_PURPOSE',
    says: /^the certificate may not be used for this purpose: server\.example/,
    setup: async () => ({ server: await (await world()).authority.issue({ names: [HOST], purpose: 'client' }) }),
  },
  {
    what: 'revoked',
    code: 'REVOKED',
    says: /^the certificate has been revoked: server\.example/,
    setup: async () => {
      const { authority } = await world()
      const server = await authority.issue({ names: [HOST] })
      return { server, client: { crl: await authority.revoke([server.serialNumber]) } }
    },
  },
  {
    what: 'with a revocation list out of date',
    code: 'BAD_CRL',
    says: /^the revocation list is missing, invalid or out of date: server\.example.*CRL_HAS_EXPIRED/,
    setup: async () => {
      const { authority, server } = await world()
      return {
        server: only(server),
        client: { crl: await authority.revoke([], { validFrom: Date.now() - 9 * DAY, validTo: Date.now() - DAY }) },
      }
    },
  },
  {
    what: 'with the revocation list of somebody else',
    code: 'BAD_CRL',
    says: /UNABLE_TO_GET_CRL/,
    setup: async () => {
      const { server } = await world()
      return { server: only(server), client: { crl: await (await developmentAuthority({ name: 'stranger' })).revoke([]) } }
    },
  },
  {
    what: 'with more intermediates than allowed',
    code: 'CHAIN_TOO_LONG',
    says: /server\.example, 2 intermediate certificates, at most 1 allowed$/,
    setup: async () => {
      const { authority } = await world()
      const second = await (await authority.intermediate()).intermediate()
      return { server: only(await second.issue({ names: [HOST] })), client: { depth: 1 } }
    },
  },
  {
    what: 'under an authority that may have none below it',
    code: 'CHAIN_TOO_LONG',
    says: /PATH_LENGTH_EXCEEDED/,
    setup: async () => {
      const { authority } = await world()
      const second = await (await authority.intermediate({ pathLength: 0 })).intermediate()
      return { server: only(await second.issue({ names: [HOST] })) }
    },
  },
  {
    what: 'with a key that is not pinned',
    code: 'PIN_MISMATCH',
    says: /^the key of the peer is not one of the pinned keys: it is [A-Za-z0-9+/]{43}=$/,
    setup: async () => ({ server: only((await world()).server), client: { pins: [`${'A'.repeat(43)}=`] } }),
  },
  {
    what: 'with a key that is not pinned, even where nothing is verified',
    code: 'PIN_MISMATCH',
    says: /pinned/,
    setup: async () => ({ server: only((await world()).server), client: { verify: false, pins: [`${'A'.repeat(43)}=`] } }),
  },
]

const only = ({ cert, key }: { cert: string; key: string }) => ({ cert, key })

for (const version of VERSIONS) {
  for (const { what, code, says, setup } of ROWS) {
    test(`a certificate ${what} is ${code} (${version})`, async () => {
      const { client, server } = await setup()
      const error = await clientFailure({ version, server: only(server as never), ...(client && { client }) })
      assert.equal(error.code, code)
      assert.match(error.message, says)
      assert.equal(error.name, 'TlsError')
      assert.equal((error as { phase?: string }).phase, 'tls')
    })
  }
}

test('good certificates pass: directly, over intermediates, by wildcard, by address, pinned, with a clean revocation list', async () => {
  const { authority, server } = await world()
  const deep = await (await authority.intermediate()).intermediate()
  const issued = await deep.issue({ names: [HOST] })
  const [, second] = issued.cert.split(/(?<=-----END CERTIFICATE-----\n)/)
  const cases: [string, ClientTlsOptions, ServerTlsOptions][] = [
    ['direct', {}, only(server)],
    ['two intermediates', { depth: 2 }, only(issued)],
    ['wildcard', { serverName: 'a.wild.example' }, only(server)],
    ['final dot and upper case', { serverName: 'SERVER.Example.' }, only(server)],
    ['address', { serverName: '127.0.0.1' }, only(server)],
    ['pin of the leaf', { pins: [`${'A'.repeat(43)}=`, pinOf(server.cert)] }, only(server)],
    ['pin of an intermediate', { pins: [pinOf(second as string)] }, only(issued)],
    ['pin of the root', { pins: [pinOf(authority.cert)] }, only(server)],
    ['revocation list', { crl: await authority.revoke(['7f00']) }, only(server)],
  ]
  for (const [what, client, options] of cases) {
    const both = await pair({ client, server: options }).catch((error: unknown) => assert.fail(`${what}: ${String(error)}`))
    assert.equal(both.client.info.verified, true, what)
    assert.equal(both.client.info.verifyError, null, what)
    both.client.destroy()
    both.server.destroy()
  }
})

test('without verification the connection stands and says why it would not have', async () => {
  for (const { code, what, setup } of ROWS.filter(({ code }) => code !== 'PIN_MISMATCH')) {
    const { client, server } = await setup()
    const both = await pair({ client: { ...client, verify: false }, server: only(server as never) })
    assert.equal(both.client.info.verified, false, what)
    assert.equal(both.client.info.verifyError?.code, code, what)
    both.client.destroy()
    both.server.destroy()
  }
})

test('what is known of the peer is readable', async () => {
  const { authority } = await world()
  const middle = await authority.intermediate({ name: 'middle' })
  const issued = await middle.issue({ names: [HOST, '192.0.2.1'] })
  const { client, server } = await pair({ server: { ...only(issued), alpn: ['b', 'a'] }, client: { alpn: ['a', 'b'] }, version: 'TLSv1.3' })
  const { info } = client
  assert.equal(info.protocol, 'TLSv1.3')
  assert.match(info.cipher, /^TLS_(AES|CHACHA)/)
  assert.equal(info.alpn, 'b')
  assert.equal(info.serverName, HOST)
  assert.equal(info.resumed, false)
  assert.deepEqual(info.peerCertificate?.names, [HOST, '192.0.2.1'])
  assert.equal(info.peerCertificate?.issuer, 'CN=middle')
  assert.equal(info.peerCertificate?.pin, pinOf(issued.cert))
  assert.deepEqual(
    info.peerChain.map(({ subject }) => subject),
    [`CN=${HOST}`, 'CN=middle', 'CN=fairlead development authority'],
  )
  assert.equal(server.info.serverName, HOST)
  assert.equal(server.info.alpn, 'b')
  assert.equal(server.info.peerCertificate, null)
  assert.equal(server.info.verified, false)
  assert.equal(server.info.verifyError, null)
  client.destroy()
  server.destroy()
})

test('control characters in a certificate do not reach messages or facts', async () => {
  const { authority } = await world()
  const server = await authority.issue({ names: ['evil\u001b[2J\nDNS:x'], commonName: 'evil\u001b[2J' })
  const error = await clientFailure({ server: only(server) })
  assert.equal(error.code, 'NAME_MISMATCH')
  assert.doesNotMatch(error.message, /[\u0000-\u001f]/)
  const { client, server: other } = await pair({ server: only(server), client: { verify: false } })
  assert.doesNotMatch(JSON.stringify(client.info.peerCertificate?.names) + client.info.peerCertificate?.subject, /[\u0000-\u001f]/)
  client.destroy()
  other.destroy()
})

test('verification needs a name; an impossible one is refused', () => {
  assert.throws(() => prepareClient({}), { code: 'NEEDS_SERVER_NAME' })
  assert.throws(() => prepareClient({}, { host: 'a b' }), { code: 'NEEDS_SERVER_NAME' })
  assert.throws(() => prepareClient({ serverName: 'a b' }), { code: 'ERR_OUT_OF_RANGE' })
  prepareClient({ verify: false })
  prepareClient({}, { host: '::1' })
})

test('the store of the system and the bundled one do not trust a stranger', async () => {
  for (const ca of ['system', 'bundled'] as const) assert.equal((await clientFailure({ client: { ca } })).code, 'UNKNOWN_ISSUER')
})

test('client certificates: required, requested, refused', async () => {
  const { authority, server } = await world()
  const good = only(await authority.issue({ names: [], commonName: 'client', purpose: 'client' }))
  const wrong = only(await authority.issue({ names: [], commonName: 'client', purpose: 'server' }))
  const stranger = only(await (await developmentAuthority()).issue({ purpose: 'client' }))
  const expired = only(await authority.issue({ purpose: 'client', validFrom: Date.now() - 9 * DAY, validTo: Date.now() - DAY }))
  for (const version of VERSIONS) {
    const outcome = async (clientCert: 'require' | 'request' | 'none', client: ClientTlsOptions) => {
      const [a, b] = await handshakes({ version, client, server: { ...only(server), ca: authority.cert, clientCert } })
      if (a.status === 'fulfilled') a.value.handle.destroy(false)
      if (b.status === 'fulfilled') b.value.handle.destroy(false)
      if (b.status === 'rejected') return (b.reason as { code: string }).code
      return `${b.value.info.verified} ${b.value.info.verifyError?.code ?? '-'} ${b.value.info.peerCertificate?.subject ?? '-'}`
    }
    assert.equal(await outcome('require', good), 'true - CN=client')
    assert.equal(await outcome('require', {}), 'NO_CERTIFICATE')
    assert.equal(await outcome('require', stranger), 'UNKNOWN_ISSUER')
    assert.equal(await outcome('require', expired), 'CERT_EXPIRED')
    assert.equal(await outcome('require', wrong), 'BAD_PURPOSE')
    assert.equal(await outcome('request', good), 'true - CN=client')
    assert.equal(await outcome('request', {}), 'false - -')
    assert.match(await outcome('request', stranger), /^false UNKNOWN_ISSUER CN=/)
    assert.equal(await outcome('none', good), 'false - -')
  }
})
