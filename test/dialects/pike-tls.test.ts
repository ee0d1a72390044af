// SSL.Context, SSL.File and SSL.Port over real sockets: P20 to P23 of the semantics, and what this dialect does more carefully.

import assert from 'node:assert/strict'
import { createPrivateKey } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { describe, test, type TestContext } from 'node:test'
import { SSL, Standards, Stdio } from 'fairlead/pike'
import { type Authority, developmentAuthority, type Issued } from 'fairlead/testing'
import { portOf, thrown } from './pike-sockets.js'

let made: Promise<{ authority: Authority; issued: Issued }> | undefined
const world = () =>
  (made ??= (async () => {
    const authority = await developmentAuthority()
    return { authority, issued: await authority.issue({ names: ['localhost', 'server.example'] }) }
  })())

/** The settings of a server, with the certificate as a program has it that has read its files. */
async function serverContext(globs: readonly string[] | 'its names' = ['*'], issued?: Issued): Promise<SSL.Context> {
  const { cert, key } = issued ?? (await world()).issued
  const context = new SSL.Context()
  context.add_cert(Standards.PEM.simple_decode(key), [Standards.PEM.simple_decode(cert)], globs === 'its names' ? undefined : globs)
  return context
}

async function clientContext(): Promise<SSL.Context> {
  const context = new SSL.Context()
  context.set_trusted_issuers([[Standards.PEM.simple_decode((await world()).authority.cert)]])
  return context
}

async function files(t: TestContext): Promise<[Stdio.File, Stdio.File]> {
  const port = new Stdio.Port()
  await port.bind(0, 0, '127.0.0.1')
  const file = new Stdio.File()
  assert.equal(await file.connect('localhost', portOf(port.query_address())), 1)
  const peer = await port.accept()
  assert.ok(peer)
  port.close()
  t.after(() => [file.close(), peer.close()])
  return [file, peer]
}

interface Shaken {
  client: SSL.File
  server: SSL.File
  results: [connected: number, accepted: number]
}

async function shaken(t: TestContext, client: SSL.Context, server: SSL.Context, name?: string): Promise<Shaken> {
  const [a, b] = await files(t)
  const [one, other] = [new SSL.File(a, client), new SSL.File(b, server)]
  t.after(() => [one.close(), other.close()])
  const results = await Promise.all([one.connect(name), other.accept()])
  return { client: one, server: other, results }
}

describe('SSL.File', () => {
  test('P20 handshake, five bytes each way, and everything up to close_notify', async (t) => {
    const { client, server, results } = await shaken(t, await clientContext(), await serverContext(), 'server.example')
    assert.deepEqual(results, [1, 1])
    assert.equal(await client.write('hello'), 5)
    assert.equal(await server.read(5), 'hello')
    assert.equal(await server.write('there'), 5)
    assert.equal(await client.read(1024, 1), 'there')
    const all = 'x'.repeat(200_000)
    const reading = client.read()
    assert.equal(await server.write(all), all.length)
    assert.equal(server.close(), 1)
    assert.equal(await reading, all)
    assert.deepEqual([await client.read(), client.errno()], ['', 0])
    assert.match(String(client.query_address()), /^(?:127\.0\.0\.1|::1) \d+$/)
  })

  test('P20 TLS 1.2 where the context says so', async (t) => {
    const context = await clientContext()
    context.max_version = SSL.Constants.PROTOCOL_TLS_1_2
    const { client, server, results } = await shaken(t, context, await serverContext(), 'localhost')
    assert.deepEqual(results, [1, 1])
    assert.deepEqual([client.query_version(), server.query_version()], [SSL.Constants.PROTOCOL_TLS_1_2, SSL.Constants.PROTOCOL_TLS_1_2])
    assert.match(String(client.query_suite()), /^TLS_ECDHE/)
    assert.deepEqual([client.get_server_name(), server.get_server_name()], ['localhost', 'localhost'])
    const [leaf] = client.get_peer_certificates() || []
    assert.equal(leaf, Standards.PEM.simple_decode((await world()).issued.cert))
    const info = client.get_peer_certificate_info()
    assert.ok(info)
    assert.deepEqual([info.verified, info.error_code, server.get_peer_certificates()], [true, 0, 0])
  })

  const refusals: [string, (context: SSL.Context) => void, string | undefined, string][] = [
    ['a name that is not in the certificate', () => undefined, 'other.example', 'NAME_MISMATCH'],
    ['an issuer nobody trusts', (context) => context.set_trusted_issuers([]), 'localhost', 'UNKNOWN_ISSUER'],
  ]
  for (const [what, change, name, code] of refusals) {
    test(`P21 ${what} is −1 with errno 32, and so is what is written then`, async (t) => {
      const context = await clientContext()
      change(context)
      const { client, server, results } = await shaken(t, context, await serverContext(), name)
      assert.equal(results[0], -1)
      assert.deepEqual([client.errno(), (client.query_failure() as { code: string }).code], [32, code])
      assert.deepEqual([await client.write('x'), client.errno(), await server.read()], [-1, 32, 0])
      assert.equal(client.close(), 1)
    })
  }

  test('P21 a certificate that has expired, or vouches for itself, is refused', async (t) => {
    const { authority } = await world()
    const day = 86_400_000
    const bad = [
      await authority.issue({ names: ['localhost'], validFrom: Date.now() - 3 * day, validTo: Date.now() - day }),
      await authority.issue({ names: ['localhost'], selfSigned: true }),
    ]
    const codes: unknown[] = []
    for (const issued of bad) {
      const { client, results } = await shaken(t, await clientContext(), await serverContext(['*'], issued), 'localhost')
      codes.push(results[0], client.errno(), (client.query_failure() as { code: string }).code)
    }
    assert.deepEqual(codes, [-1, 32, 'CERT_EXPIRED', -1, 32, 'SELF_SIGNED'])
  })

  test('P21 a chain by way of an authority in between is accepted', async (t) => {
    const between = await (await world()).authority.intermediate()
    const issued = await between.issue({ names: ['localhost'] })
    const context = new SSL.Context()
    context.add_cert(issued.key, issued.cert, ['*'])
    assert.deepEqual((await shaken(t, await clientContext(), context)).results, [1, 1])
  })

  test('P21 without a name given, the host that was connected to must be in the certificate', async (t) => {
    const { results } = await shaken(t, await clientContext(), await serverContext())
    assert.deepEqual(results, [1, 1])
    const other = await (await world()).authority.issue({ names: ['other.example'] })
    const { results: refused } = await shaken(t, await clientContext(), await serverContext(['*'], other))
    assert.equal(refused[0], -1)
  })

  test('verification can be switched off, and is on by default', async (t) => {
    const trusting = new SSL.Context()
    trusting.verify_certificates = 0
    const { client, results } = await shaken(t, trusting, await serverContext())
    assert.deepEqual(results, [1, 1])
    const info = client.get_peer_certificate_info()
    assert.ok(info)
    assert.deepEqual([info.verified, info.error_code], [false, 'UNKNOWN_ISSUER'])
    assert.equal((await shaken(t, new SSL.Context(), await serverContext())).results[0], -1)
  })

  test('P21b a certificate without "*" is only for clients that ask for one of its names', async (t) => {
    const server = await serverContext('its names')
    assert.deepEqual((await shaken(t, await clientContext(), server, 'server.example')).results, [1, 1])
    const trusting = new SSL.Context()
    trusting.verify_certificates = 0
    assert.equal((await shaken(t, trusting, server, 'other.example')).results[0], -1)
  })

  test('a certificate is chosen by the patterns it was added for', async (t) => {
    const { authority } = await world()
    const server = await serverContext()
    const special = await authority.issue({ names: ['a.special.example'] })
    server.add_cert(special.key, special.cert, ['*.special.example'])
    const { results } = await shaken(t, await clientContext(), server, 'a.special.example')
    assert.deepEqual(results, [1, 1])
    assert.deepEqual((await shaken(t, await clientContext(), server, 'localhost')).results, [1, 1])
    assert.deepEqual(
      server.get_certificates().map(({ globs }) => globs),
      [['*'], ['*.special.example']],
    )
  })

  test('P22 a server that insists on a certificate refuses clients without one, and one that asks does not', async (t) => {
    const { authority } = await world()
    const server = await serverContext()
    server.set_authorities([authority.cert])
    server.max_version = SSL.Constants.PROTOCOL_TLS_1_2
    server.auth_level = SSL.Constants.AUTHLEVEL_require
    const without = await shaken(t, await clientContext(), server, 'localhost')
    assert.deepEqual([...without.results, without.client.errno()], [-1, 0, 32])
    const mine = await clientContext()
    const certificate = await authority.issue({ names: ['client.example'], purpose: 'client' })
    mine.add_cert(certificate.key, [certificate.cert])
    const withOne = await shaken(t, mine, server, 'localhost')
    assert.deepEqual(withOne.results, [1, 1])
    assert.ok(withOne.server.get_peer_certificates())
    server.auth_level = SSL.Constants.AUTHLEVEL_ask
    assert.deepEqual((await shaken(t, await clientContext(), server, 'localhost')).results, [1, 1])
  })

  test('P23 set_timeout ends a handshake with a silent peer, with errno 110', async (t) => {
    const server = createServer(() => undefined).listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.after(() => server.close())
    const file = new Stdio.File()
    await file.connect('127.0.0.1', (server.address() as AddressInfo).port)
    const ssl = new SSL.File(file, await clientContext())
    ssl.set_timeout(0.05)
    assert.deepEqual([await ssl.connect('localhost'), ssl.errno(), ssl.query_timeout()], [-1, 110, 0.05])
    assert.deepEqual([await ssl.write('x'), ssl.errno()], [-1, 32])
  })

  test('closing a file ends its handshake at once', async (t) => {
    const [file] = await files(t)
    const ssl = new SSL.File(file, await clientContext())
    const connecting = ssl.connect('localhost')
    assert.deepEqual([ssl.is_open(), ssl.close(), ssl.is_open()], [1, 1, 0])
    assert.equal(await connecting, -1)
    await assert.rejects(ssl.write('x'), thrown(/not open/))
  })

  test('P23 a peer that does not speak TLS is −1 with errno 32', async (t) => {
    const [file, peer] = await files(t)
    const ssl = new SSL.File(file, await clientContext())
    await peer.write('220 hello, this is something else\r\n')
    assert.deepEqual([await ssl.connect('localhost'), ssl.errno()], [-1, 32])
    ssl.close()
  })

  test('an end without close_notify is 0 with errno 104, never ""', async (t) => {
    const port = new SSL.Port(await serverContext())
    t.after(() => port.close())
    await port.bind(0, 0, '127.0.0.1')
    const relay = createServer((near) => {
      const far = connect(portOf(port.query_address()), '127.0.0.1')
      far.pipe(near)
      near.pipe(far).on('error', () => undefined)
      near.on('error', () => undefined)
      cut = () => {
        far.unpipe(near)
        near.end()
      }
    }).listen(0, '127.0.0.1')
    let cut = (): unknown => undefined
    t.after(() => relay.close())
    await once(relay, 'listening')
    const file = new Stdio.File()
    await file.connect('localhost', (relay.address() as AddressInfo).port)
    const ssl = new SSL.File(file, await clientContext())
    const [connected, server] = await Promise.all([ssl.connect(), port.accept()])
    assert.ok(connected === 1 && server)
    await server.write('half')
    assert.equal(await ssl.read(4), 'half')
    cut()
    assert.deepEqual([await ssl.read(), ssl.errno()], [0, 104])
    ssl.close()
    server.linger(0)
    server.close()
  })

  test('callbacks over TLS: the handshake first, then data, then the end', async (t) => {
    const [a, b] = await files(t)
    const [client, server] = [new SSL.File(a, await clientContext()), new SSL.File(b, await serverContext())]
    t.after(() => [client.close(), server.close()])
    const seen: unknown[] = []
    const ended = new Promise<void>((resolve) => {
      client.set_accept_callback((file) => seen.push(file === client))
      client.set_id('me')
      client.set_nonblocking(
        (id: string, data) => seen.push(id, data),
        0,
        (id: string) => {
          seen.push('end', id, client.errno())
          resolve()
        },
      )
    })
    assert.equal(await client.connect('localhost'), 1)
    assert.deepEqual([await client.read(10, 1), client.errno(), await client.write('x'), client.errno()], ['', 11, 0, 11])
    assert.equal(await server.accept(), 1)
    await server.write('hello')
    server.close()
    await ended
    assert.deepEqual(seen, [true, 'me', 'hello', 'end', 'me', 0])
  })

  test('misuse throws: a file that is not open, a second handshake, half a close', async (t) => {
    const context = await clientContext()
    assert.throws(() => new SSL.File(new Stdio.File(), context), thrown(/^File not open\.$/))
    const { client } = await shaken(t, context, await serverContext(), 'localhost')
    await assert.rejects(client.connect('localhost'), thrown(/already configured/))
    assert.throws(() => client.close('w'), thrown(/both directions/))
    assert.deepEqual([client.close(), client.close()], [1, 1])
    await assert.rejects(client.read(), thrown(/not open/))
  })

  test('protocols are agreed upon', async (t) => {
    const [client, server] = [await clientContext(), await serverContext()]
    client.advertised_protocols = ['spdy/3', 'h2']
    server.advertised_protocols = ['h2']
    const both = await shaken(t, client, server, 'localhost')
    assert.deepEqual([both.client.query_application_protocol(), both.server.query_application_protocol()], ['h2', 'h2'])
  })
})

describe('SSL.Port', () => {
  test('calls back once for each connection, with the file, which accept gives as well', async (t) => {
    const port = new SSL.Port(await serverContext())
    t.after(() => port.close())
    port.set_id('port')
    const seen: unknown[] = []
    const served = async (file: SSL.File, id: string): Promise<void> => {
      const same = await port.accept()
      seen.push(same === file, id, await file.read(1))
      await file.write('y')
      file.close()
    }
    assert.equal(await port.bind(0, served, '127.0.0.1'), 1)
    for (const letter of 'ab') {
      const file = new Stdio.File()
      await file.connect('localhost', portOf(port.query_address()))
      const ssl = new SSL.File(file, await clientContext())
      assert.equal(await ssl.connect(), 1)
      await ssl.write(letter)
      assert.equal(await ssl.read(), 'y')
      ssl.close()
    }
    assert.deepEqual(seen, [true, 'port', 'a', true, 'port', 'b'])
    assert.deepEqual([await port.accept(), port.errno()], [0, 11])
  })

  test('without a callback accept waits', async (t) => {
    const port = new SSL.Port(await serverContext())
    t.after(() => port.close())
    await port.bind(0, 0, '127.0.0.1')
    const file = new Stdio.File()
    await file.connect('localhost', portOf(port.query_address()))
    const ssl = new SSL.File(file, await clientContext())
    const [connected, accepted] = await Promise.all([ssl.connect(), port.accept()])
    assert.equal(connected, 1)
    assert.ok(accepted)
    await accepted.write('x')
    assert.equal(await ssl.read(1), 'x')
    accepted.close()
    ssl.close()
    const waiting = port.accept()
    port.close()
    assert.deepEqual([await waiting, port.errno()], [0, 9])
    await assert.rejects(port.accept(), thrown(/Port not open/))
  })

  test('files that are missing are errno 2, a context without a certificate 22', async () => {
    const context = new SSL.Context()
    const port = new SSL.Port(context)
    assert.deepEqual([await port.bind(0), port.errno()], [0, 22])
    context.certificates = [{ cert_file: '/nonexistent/cert.pem', key_file: '/nonexistent/key.pem' }]
    assert.deepEqual([await port.bind(0), port.errno()], [0, 2])
  })
})

describe('SSL.Context', () => {
  test('keys come in every form, and what is none is refused', async () => {
    const { cert, key } = (await world()).issued
    const object = createPrivateKey(key)
    const forms: (string | Uint8Array)[] = [key, Buffer.from(key), object.export({ type: 'pkcs8', format: 'der' })]
    const type = object.asymmetricKeyType === 'ec' ? 'sec1' : 'pkcs1'
    forms.push(object.export({ type, format: 'der' } as { type: 'pkcs1'; format: 'der' }))
    for (const form of forms) new SSL.Context().add_cert(form, [cert], ['*'])
    assert.throws(() => new SSL.Context().add_cert('nonsense', [cert]), thrown(/private key/))
    assert.throws(() => new SSL.Context().add_cert(key, ['nonsense']), thrown(/certificate/))
    assert.throws(() => new SSL.Context().add_cert(key, []), thrown(/No certificates/))
    assert.throws(() => Standards.PEM.simple_decode('nothing'), thrown(/No PEM/))
  })

  test('the defaults are those of today', () => {
    const context = new SSL.Context()
    assert.deepEqual(
      [context.min_version, context.max_version, context.auth_level, context.verify_certificates, context.advertised_protocols],
      [0x303, 0x304, 0, 1, 0],
    )
  })
})
