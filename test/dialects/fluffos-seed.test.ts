/** TLS options: what is promised of them, and the four programs of their documentation, over real sockets. */

import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { connect, type Connection, listen, Network, TlsError } from 'fairlead'
import { CONSTANTS, createDriver, MODES, RESULTS } from 'fairlead/fluffos'
import { type Authority, developmentAuthority, type Issued, memory, settle } from 'fairlead/testing'
import { type Actor, stage } from './fluffos-objects.js'

const { STREAM, STREAM_TLS, STREAM_TLS_BINARY } = MODES
const { SO_TLS_CERT, SO_TLS_KEY, SO_TLS_SNI_HOSTNAME, SO_TLS_VERIFY_PEER } = CONSTANTS
const utf8 = new TextDecoder()
const DAY = 24 * 3_600_000

let authority: Authority
let stranger: Authority
let directory: string
const issued: Record<string, Issued> = {}
const kept = process.env['SSL_CERT_FILE']

before(async () => {
  ;[authority, stranger] = await Promise.all([developmentAuthority(), developmentAuthority({ name: 'nobody trusts this one' })])
  directory = await mkdtemp(join(tmpdir(), 'fairlead-fluffos-'))
  // What the system trusts, as far as this process goes.
  const store = join(directory, 'store.pem')
  await writeFile(store, authority.cert)
  process.env['SSL_CERT_FILE'] = store
  const make = async (name: string, from: Authority, o: Parameters<Authority['issue']>[0]) => {
    issued[name] = await from.issue(o)
  }
  await Promise.all([
    make('api', authority, { names: ['service.example', 'news.mud.example'] }),
    make('dev', authority, { names: ['staging.example'], selfSigned: true }),
    make('other', authority, { names: ['other.example'] }),
    make('expired', authority, { names: ['service.example'], validFrom: Date.now() - 30 * DAY, validTo: Date.now() - DAY }),
    make('stranger', stranger, { names: ['service.example'] }),
    make('local', authority, { names: ['localhost', '127.0.0.1'] }),
    make('locked', authority, { names: ['localhost'], passphrase: 'secret' }),
  ])
  await mkdir(join(directory, 'mud', 'secure', 'tls'), { recursive: true })
  const { cert, key } = issued['local'] as Issued
  await writeFile(join(directory, 'mud', 'secure', 'tls', 'here.crt'), cert)
  await writeFile(join(directory, 'mud', 'secure', 'tls', 'here.key'), key)
  for (const [name, { cert, key }] of Object.entries(issued)) {
    await writeFile(join(directory, `${name}.crt`), cert)
    await writeFile(join(directory, `${name}.key`), key)
  }
})

after(async () => {
  if (kept === undefined) delete process.env['SSL_CERT_FILE']
  else process.env['SSL_CERT_FILE'] = kept
  await rm(directory, { recursive: true, force: true })
})

/** The net as the programs know it: their names are this machine, their ports are whatever was free. */
class Internet {
  readonly ports: Map<number, number> = new Map()
  readonly network: Network

  constructor() {
    const { driver } = new Network()
    const { ports } = this
    this.network = new Network({
      driver: {
        ...driver,
        bind: driver.bind,
        dial(to, settings, done) {
          if (to.family === 'unix') return driver.dial(to, settings, done)
          return driver.dial({ ...to, port: ports.get(to.port) ?? to.port }, settings, (error, handle) => {
            // The library makes sure that it is connected to where it wanted to go.
            if (handle !== undefined) Object.defineProperty(handle, 'remote', { value: to })
            done(error, handle)
          })
        },
        listen: async (at, settings) => {
          const handle = await driver.listen(at.family === 'unix' ? at : { ...at, port: 0 }, settings)
          if (at.family !== 'unix' && handle.local.family !== 'unix') ports.set(at.port, handle.local.port)
          return handle
        },
      },
      resolver: { lookup: async () => [{ address: '127.0.0.1', family: 4 }] },
    })
  }

  /** A TLS server of somebody else's at `port`; gives what it accepts. */
  async somebody(t: { after(fn: () => unknown): void }, port: number, name: string): Promise<() => Promise<Connection>> {
    const { cert, key } = issued[name] as Issued
    const listener = await listen('tls://127.0.0.1:0', { tls: { cert, key } })
    t.after(() => listener.close())
    this.ports.set(port, (listener.local as { port: number }).port)
    return () => listener.accept({ timeout: 10_000 })
  }
}

/** What a callback was called with, once it is. */
function mailbox<T>(): { put: (mail: T) => void; got: Promise<T> } {
  let put: (mail: T) => void = () => {}
  const got = new Promise<T>((resolve) => (put = resolve))
  return { put, got }
}

describe('the programs of the documentation', () => {
  test('a client that verifies', async (t) => {
    const internet = new Internet()
    const accept = await internet.somebody(t, 443, 'api')
    const driver = createDriver({ master: { valid_socket: () => 1 }, network: internet.network })
    t.after(() => driver.close())
    const connected = mailbox<number>()
    const heard = mailbox<string>()
    const object = driver.load(
      '/client',
      ({ STREAM_TLS, SO_TLS_SNI_HOSTNAME, SO_TLS_VERIFY_PEER, socket_connect, socket_create, socket_set_option, socket_write }) => ({
        call_service() {
          const sock = socket_create(STREAM_TLS, 'heard', 'gone')
          socket_set_option(sock, SO_TLS_VERIFY_PEER, 1)
          socket_set_option(sock, SO_TLS_SNI_HOSTNAME, 'service.example')
          return socket_connect(sock, 'service.example:443', 'heard', 'ready')
        },
        ready(sock: number) {
          connected.put(sock)
          socket_write(sock, 'hello')
        },
        heard: (_sock: number, text: string) => heard.put(text),
      }),
    )
    assert.equal(object.call_service(), 1)
    const server = await accept()
    assert.equal(server.security?.serverName, 'service.example')
    assert.equal(server.security?.protocol, 'TLSv1.3')
    await connected.got
    assert.equal(utf8.decode((await server.readExactly(5)) ?? undefined), 'hello')
    await server.write('welcome')
    assert.equal(await heard.got, 'welcome')
    await server.close()
  })

  test('a client for development, with a certificate that nobody signed', async (t) => {
    const internet = new Internet()
    const accept = await internet.somebody(t, 8443, 'dev')
    const driver = createDriver({ master: { valid_socket: () => 1 }, network: internet.network })
    t.after(() => driver.close())
    const connected = mailbox<number>()
    const object = driver.load(
      '/client',
      ({ STREAM_TLS, SO_TLS_SNI_HOSTNAME, SO_TLS_VERIFY_PEER, socket_connect, socket_create, socket_set_option }) => ({
        call_staging() {
          const sock = socket_create(STREAM_TLS, 'heard', 'gone')
          socket_set_option(sock, SO_TLS_VERIFY_PEER, 0)
          socket_set_option(sock, SO_TLS_SNI_HOSTNAME, 'staging.example')
          socket_connect(sock, 'staging.example:8443', 'heard', 'ready')
        },
        ready: (sock: number) => connected.put(sock),
      }),
    )
    object.call_staging()
    const server = await accept()
    assert.equal(server.security?.serverName, 'staging.example')
    await connected.got
    await server.close()
  })

  test('an HTTPS client, which gives one callback to socket_connect', async (t) => {
    const internet = new Internet()
    const accept = await internet.somebody(t, 443, 'api')
    const driver = createDriver({ master: { valid_socket: () => 1 }, network: internet.network })
    t.after(() => driver.close())
    const closed = mailbox<string>()
    let body = ''
    const object = driver.load(
      '/http',
      ({ STREAM_TLS, SO_TLS_SNI_HOSTNAME, SO_TLS_VERIFY_PEER, socket_connect, socket_create, socket_set_option, socket_write }) => ({
        fetch_players() {
          const sock = socket_create(STREAM_TLS, 'answer', 'over')
          socket_set_option(sock, SO_TLS_VERIFY_PEER, 1)
          socket_set_option(sock, SO_TLS_SNI_HOSTNAME, 'news.mud.example')
          socket_connect(sock, 'news.mud.example:443', 'ask')
        },
        ask(sock: number) {
          socket_write(sock, 'GET /players HTTP/1.1\r\n' + 'Host: news.mud.example\r\n' + 'Connection: close\r\n\r\n')
        },
        answer(_sock: number, text: string) {
          body += text
        },
        over: () => closed.put(body),
      }),
    )
    object.fetch_players()
    const server = await accept()
    assert.equal(await server.readLine(), 'GET /players HTTP/1.1')
    assert.equal(await server.readLine(), 'Host: news.mud.example')
    assert.equal(await server.readLine(), 'Connection: close')
    assert.equal(await server.readLine(), '')
    await server.write('HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"players":7}')
    await server.close()
    assert.match(await closed.got, /\{"players":7\}$/)
  })

  for (const how of ['waited for', 'not waited for'] as const) {
    test(`a TLS server, socket_bind and socket_listen ${how}`, async (t) => {
      const internet = new Internet()
      const written = mailbox<string>()
      const driver = createDriver({
        master: { valid_socket: () => 1 },
        network: internet.network,
        mudlib: join(directory, 'mud'),
        include: { write: (text: string) => written.put(text) },
      })
      t.after(() => driver.close())
      const accepted = mailbox<number>()
      const object = driver.load(
        '/https',
        ({ STREAM_TLS, SO_TLS_CERT, SO_TLS_KEY, socket_accept, socket_bind, socket_create, socket_listen, socket_set_option, write }) => ({
          async serve() {
            const sock = socket_create(STREAM_TLS, 'heard', 'gone')
            socket_set_option(sock, SO_TLS_CERT, '/secure/tls/here.crt')
            socket_set_option(sock, SO_TLS_KEY, '/secure/tls/here.key')
            if (how === 'waited for') await socket_bind(sock, 8443)
            else void socket_bind(sock, 8443)
            return socket_listen(sock, 'called')
          },
          called(listening: number) {
            const caller = socket_accept(listening, 'caller_read', 'caller_write')
            accepted.put(caller)
          },
          caller_read(_sock: number, data: string) {
            write('in secret: ' + data)
          },
        }),
      )
      assert.equal(await object.serve(), 1)
      await using client = await connect(`tls://localhost:${internet.ports.get(8443)}`, { tls: { ca: authority.cert }, family: 4 })
      assert.ok((await accepted.got) > 0)
      await client.write('psst')
      assert.equal(await written.got, 'in secret: psst')
    })
  }
})

describe('verification of a server', () => {
  for (const [what, name, code] of [
    ['of an authority that nobody trusts', 'stranger', 'UNKNOWN_ISSUER'],
    ['that is out of date', 'expired', 'CERT_EXPIRED'],
    ['for another host', 'other', 'NAME_MISMATCH'],
  ] as const) {
    test(`is on by default: a certificate ${what} is the close callback and never the write callback`, async (t) => {
      const internet = new Internet()
      const accept = await internet.somebody(t, 443, name)
      const { actor, driver } = stage(t, { network: internet.network })
      const client = actor()
      const fd = client.efuns.socket_create(STREAM_TLS, 'read', 'close')
      client.also['close'] = () => assert.equal(client.state(fd), 'HANDSHAKE')
      assert.equal(client.efuns.socket_connect(fd, 'service.example:443', 'read', 'write'), RESULTS.EESUCCESS)
      assert.equal(client.state(fd), 'HANDSHAKE')
      assert.equal(client.efuns.socket_write(fd, 'x'), RESULTS.EENOTCONN)
      const accepting = accept().then(
        (connection) => connection.close(),
        () => {},
      )
      assert.deepEqual(await client.next(), ['close', fd])
      assert.equal(client.state(fd), 'CLOSED')
      const error = driver.failure(fd)
      assert.ok(error instanceof TlsError)
      // Deno says of each that it is not trusted, before it looks at the dates.
      assert.equal(error.code, 'Deno' in globalThis && code === 'CERT_EXPIRED' ? 'UNKNOWN_ISSUER' : code)
      await driver.close()
      await settle()
      assert.equal(client.happened.length, 1)
      void accepting
    })
  }

  test('is of the name that was set, also where the address is a number', async (t) => {
    const internet = new Internet()
    const accept = await internet.somebody(t, 443, 'other')
    const { actor } = stage(t, { network: internet.network })
    const client = actor()
    const { socket_connect, socket_create, socket_get_option, socket_set_option } = client.efuns
    const fd = socket_create(STREAM_TLS, 'read', 'close')
    socket_set_option(fd, SO_TLS_SNI_HOSTNAME, 'other.example')
    socket_connect(fd, '127.0.0.1 443', 'read', 'write')
    assert.equal(socket_get_option(fd, SO_TLS_SNI_HOSTNAME), '')
    const server = await accept()
    assert.equal(server.security?.serverName, 'other.example')
    assert.deepEqual(await client.next(), ['write', fd])
    await server.close()
  })

  test('of a name that is none does not start: EECONNECT', (t) => {
    const client = stage(t).actor()
    const fd = client.efuns.socket_create(STREAM_TLS, 'read', 'close')
    for (const name of ['not a name', 'a\r\nb', 'http://a', '1.2.3']) {
      client.efuns.socket_set_option(fd, SO_TLS_SNI_HOSTNAME, name)
      assert.equal(client.efuns.socket_connect(fd, '127.0.0.1 443', 'read', 'write'), RESULTS.EECONNECT)
    }
    assert.equal(client.state(fd), 'UNBOUND')
  })

  test('without a name is of the address, and no name is sent', async (t) => {
    const internet = new Internet()
    const accept = await internet.somebody(t, 443, 'local')
    const client = stage(t, { network: internet.network }).actor()
    const fd = client.efuns.socket_create(STREAM_TLS, 'read', 'close')
    client.efuns.socket_connect(fd, '127.0.0.1 443', 'read', 'write')
    const server = await accept()
    assert.equal(server.security?.serverName, null)
    assert.deepEqual(await client.next(), ['write', fd])
    await server.close()
  })

  test('is as it was set before the connection; later it is too late', async (t) => {
    const internet = new Internet()
    const accept = await internet.somebody(t, 443, 'stranger')
    const client = stage(t, { network: internet.network }).actor()
    const fd = client.efuns.socket_create(STREAM_TLS, 'read', 'close')
    client.efuns.socket_connect(fd, 'service.example:443', 'read', 'write')
    client.efuns.socket_set_option(fd, SO_TLS_VERIFY_PEER, 0)
    accept().catch(() => {})
    assert.deepEqual(await client.next(), ['close', fd])
  })

  test('a stream that is cut off is the close callback, and says so', async (t) => {
    const internet = new Internet()
    const { cert, key } = issued['api'] as Issued
    const listener = await listen('tcp://127.0.0.1:0')
    t.after(() => listener.close())
    internet.ports.set(443, (listener.local as { port: number }).port)
    const { actor, driver } = stage(t, { network: internet.network })
    const client = actor()
    const fd = client.efuns.socket_create(STREAM_TLS, 'read', 'close')
    client.efuns.socket_connect(fd, 'service.example:443', 'read', 'write')
    const below = await listener.accept()
    const secured = await below.startTls({ cert, key, implicit: true })
    await client.until('write')
    secured.abort()
    await client.until('close')
    assert.ok(driver.failure(fd) instanceof Error)
  })
})

describe('servers', () => {
  async function bound(actor: Actor, cert: string, key: string): Promise<number> {
    const { socket_bind, socket_create, socket_set_option } = actor.efuns
    const fd = socket_create(STREAM_TLS, 'read', 'close')
    if (cert !== '') socket_set_option(fd, SO_TLS_CERT, join(directory, cert))
    if (key !== '') socket_set_option(fd, SO_TLS_KEY, join(directory, key))
    assert.equal(await socket_bind(fd, 0, '127.0.0.1 0'), RESULTS.EESUCCESS)
    return fd
  }

  for (const [what, cert, key] of [
    ['no certificate', '', ''],
    ['no key', 'local.crt', ''],
    ['a certificate that is not there', 'nowhere.crt', 'local.key'],
    ["another's key", 'local.crt', 'api.key'],
    ['a key for a certificate', 'local.key', 'local.key'],
    ['a key that is encrypted', 'locked.crt', 'locked.key'],
  ] as const) {
    test(`with ${what} do not listen: EELISTEN, and the state stays BOUND`, async (t) => {
      const one = stage(t).actor()
      const fd = await bound(one, cert, key)
      assert.equal(await one.efuns.socket_listen(fd, 'listen'), RESULTS.EELISTEN)
      assert.equal(one.state(fd), 'BOUND')
      one.efuns.socket_set_option(fd, SO_TLS_CERT, join(directory, 'local.crt'))
      one.efuns.socket_set_option(fd, SO_TLS_KEY, join(directory, 'local.key'))
      assert.equal(await one.efuns.socket_listen(fd, 'listen'), RESULTS.EESUCCESS)
      assert.equal(one.efuns.socket_get_option(fd, SO_TLS_CERT), '')
    })
  }

  async function secure(t: { after(fn: () => unknown): void }, mode: number = STREAM_TLS, network?: Network) {
    const all = stage(t, { ca: authority.cert, network })
    const server = all.actor()
    const { socket_accept, socket_address, socket_bind, socket_create, socket_listen, socket_set_option } = server.efuns
    const fd = socket_create(mode, 'read', 'close')
    socket_set_option(fd, SO_TLS_CERT, join(directory, 'local.crt'))
    socket_set_option(fd, SO_TLS_KEY, join(directory, 'local.key'))
    await socket_bind(fd, 0, '127.0.0.1 0')
    await socket_listen(fd, 'listen')
    const state: string[] = []
    const accepted: number[] = []
    server.also['listen'] = (listening: number) => {
      const peer = socket_accept(listening, 'read', 'write')
      accepted.push(peer)
      state.push(server.state(peer), `${server.efuns.socket_write(peer, 'too early')}`)
    }
    const at = socket_address(fd, 1)
    return { ...all, server, fd, at, endpoint: `127.0.0.1:${at.split(' ')[1]}`, state, accepted }
  }

  test('accept in state HANDSHAKE, and write from the write callback on', async (t) => {
    const { server, endpoint, state } = await secure(t)
    server.also['write'] = (fd: number) => assert.equal(server.efuns.socket_write(fd, 'welcome'), RESULTS.EESUCCESS)
    await using client = await connect(`tls://${endpoint}`, { tls: { ca: authority.cert } })
    assert.equal(utf8.decode((await client.readExactly(7)) ?? undefined), 'welcome')
    assert.deepEqual(state, ['HANDSHAKE', `${RESULTS.EENOTCONN}`])
    assert.equal((await server.until('write'))[0], 'write')
  })

  for (const driver of [undefined, memory()]) {
    test(`a client whose hello has been waiting can still be accepted, over ${driver?.name ?? 'node'}`, async (t) => {
      const network = new Network({ driver })
      const { server, endpoint, fd } = await secure(t, STREAM_TLS, network)
      server.also = {}
      const dialling = network.connect(`tls://${endpoint}`, { tls: { ca: authority.cert } })
      await server.until('listen')
      await settle()
      assert.ok(server.efuns.socket_accept(fd, 'read', 'write') > fd)
      const [client] = await Promise.all([dialling, server.until('write')])
      await client.close()
    })
  }

  test('a handshake that fails is the close callback', async (t) => {
    const { server, endpoint, driver } = await secure(t)
    await using client = await connect(`tcp://${endpoint}`)
    await client.write('GET / HTTP/1.0\r\n\r\n')
    const [, fd] = await server.until('close')
    assert.equal(server.state(fd), 'CLOSED')
    assert.ok(driver.failure(fd) instanceof Error)
    assert.equal(server.happened.filter(([name]) => name === 'write').length, 0)
  })

  test('a close during the handshake is silent', async (t) => {
    const { server, endpoint, accepted } = await secure(t)
    await using client = await connect(`tcp://${endpoint}`)
    await server.until('listen')
    assert.equal(server.efuns.socket_close(accepted[0] as number), RESULTS.EESUCCESS)
    await client.read().catch(() => {})
    await settle()
    assert.equal(server.happened.length, 1)
  })

  for (const mode of [STREAM_TLS, STREAM_TLS_BINARY]) {
    test(`two sockets of mode ${mode} of one driver talk to each other`, async (t) => {
      const { server, actor, at } = await secure(t, mode)
      const client = actor()
      const fd = client.efuns.socket_create(mode, 'read', 'close')
      assert.equal(client.efuns.socket_connect(fd, at, 'read', 'write'), RESULTS.EESUCCESS)
      const [[, near], [, far]] = await Promise.all([client.until('write'), server.until('write')])
      assert.equal(client.state(near), 'DATA_XFER')
      assert.equal(client.efuns.socket_write(near, Buffer.from('61e288', 'hex')), RESULTS.EESUCCESS)
      const expected = mode === STREAM_TLS ? 'a\ufffd' : Uint8Array.from([0x61, 0xe2, 0x88])
      assert.deepEqual((await server.until('read'))[2], expected)
      assert.equal(server.efuns.socket_write(far, 'back'), RESULTS.EESUCCESS)
      assert.equal(server.efuns.socket_write(far, ' again'), RESULTS.EESUCCESS)
      assert.equal(server.efuns.socket_close(far), RESULTS.EESUCCESS)
      assert.equal(await client.text('back again'.length).then((text) => (mode === STREAM_TLS ? text : 'back again')), 'back again')
      await client.until('close')
    })
  }

  test('a close sends what is pending, also over TLS', async (t) => {
    const { server, endpoint } = await secure(t, STREAM_TLS_BINARY)
    const length = 8 * 1024 * 1024
    server.also['write'] = (fd: number) => {
      if (server.happened.filter(([name]) => name === 'write').length > 1) return
      assert.equal(server.efuns.socket_write(fd, new Uint8Array(length)), RESULTS.EECALLBACK)
      assert.equal(server.efuns.socket_write(fd, 'x'), RESULTS.EEALREADY)
      assert.equal(server.efuns.socket_close(fd), RESULTS.EESUCCESS)
      assert.equal(server.state(fd), 'CLOSING')
    }
    await using client = await connect(`tls://${endpoint}`, { tls: { ca: authority.cert } })
    assert.equal((await client.readAll({ limit: length })).length, length)
  })

  test('a refused TLS connection is EESUCCESS, and then the close callback', async (t) => {
    const { server, fd, at, actor } = await secure(t)
    server.efuns.socket_close(fd)
    const client = actor()
    const dialled = client.efuns.socket_create(STREAM_TLS, 'read', 'close')
    assert.equal(client.efuns.socket_connect(dialled, at, 'read', 'write'), RESULTS.EESUCCESS)
    assert.deepEqual(await client.next(), ['close', dialled])
  })

  test('paths stay inside of the mudlib', async (t) => {
    const one = stage(t, { mudlib: join(directory, 'mud') }).actor()
    const { socket_bind, socket_create, socket_listen, socket_set_option } = one.efuns
    const fd = socket_create(STREAM_TLS, 'read')
    await socket_bind(fd, 0, '127.0.0.1 0')
    for (const [cert, key, result] of [
      ['/../local.crt', '/../local.key', RESULTS.EELISTEN],
      ['../../local.crt', 'x/../../local.key', RESULTS.EELISTEN],
      ['secure/tls/here.crt', '/secure/../secure/tls/here.key', RESULTS.EESUCCESS],
    ] as const) {
      socket_set_option(fd, SO_TLS_CERT, cert)
      socket_set_option(fd, SO_TLS_KEY, key)
      assert.equal(await socket_listen(fd, 'listen'), result)
    }
  })
})

describe('options', () => {
  test('have the documented defaults, and give what was set', (t) => {
    const { socket_create, socket_get_option, socket_set_option } = stage(t).actor().efuns
    const fd = socket_create(STREAM_TLS, 'read')
    assert.equal(socket_get_option(fd, SO_TLS_VERIFY_PEER), 1)
    for (const option of [SO_TLS_SNI_HOSTNAME, SO_TLS_CERT, SO_TLS_KEY]) {
      assert.equal(socket_get_option(fd, option), '')
      socket_set_option(fd, option, `value ${option}`)
      assert.equal(socket_get_option(fd, option), `value ${option}`)
    }
    socket_set_option(fd, SO_TLS_VERIFY_PEER, 0)
    assert.equal(socket_get_option(fd, SO_TLS_VERIFY_PEER), 0)
    const plain = socket_create(STREAM, 'read')
    socket_set_option(plain, SO_TLS_VERIFY_PEER, 0)
  })

  test('a bad descriptor, an unknown option and a value of a wrong type are errors', (t) => {
    const { socket_close, socket_create, socket_get_option, socket_set_option } = stage(t).actor().efuns
    const fd = socket_create(STREAM_TLS, 'read')
    const closed = socket_create(STREAM_TLS, 'read')
    socket_close(closed)
    const saying = (message: string | RegExp) => ({ name: 'LpcError', message })
    for (const bad of [99, -1, closed]) {
      assert.throws(() => socket_set_option(bad, SO_TLS_VERIFY_PEER, 1), saying(`Bad socket descriptor: ${bad}`))
      assert.throws(() => socket_get_option(bad, SO_TLS_VERIFY_PEER), saying(`Bad socket descriptor: ${bad}`))
    }
    for (const unknown of [0, 5, -1]) {
      assert.throws(() => socket_set_option(fd, unknown, 1), saying(`Unknown socket option: ${unknown}`))
      assert.throws(() => socket_get_option(fd, unknown), saying(`Unknown socket option: ${unknown}`))
    }
    for (const [option, value] of [
      [SO_TLS_VERIFY_PEER, 2],
      [SO_TLS_VERIFY_PEER, '1'],
      [SO_TLS_SNI_HOSTNAME, 1],
      [SO_TLS_CERT, 0],
      [SO_TLS_KEY, undefined],
    ] as const)
      assert.throws(() => socket_set_option(fd, option, value as never), saying(/^Bad argument 3 to socket_set_option\(\)/))
    assert.throws(() => socket_get_option('x' as never, 1), saying(/^Bad argument 1/))
  })
})
