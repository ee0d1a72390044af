/** Resumption, server names, application protocols, reload, key log, certificates of clients. */

import { randomBytes, X509Certificate } from 'node:crypto'
import { type Authority, developmentAuthority, type Issued } from 'fairlead/testing'
import { serverNameOf } from './client-hello.js'
import { Context, type ContextOptions, Engine, freeSession, type PeerOptions, type Version } from './engine.js'
import { ssl } from './foreign.js'
import { contexts, descriptors, type Ends, readAll, shake } from './pairs.js'
import { close, ready, receive, send } from './sockets.js'
import { say, title } from './table.js'

const VERSIONS: readonly Version[] = ['TLSv1.2', 'TLSv1.3']
const HOST = 'server.example'

interface World {
  readonly authority: Authority
  readonly server: Issued
}

/** A handshake, a message each way so that tickets arrive, and what there is to say of it. */
function exchange<T>(server: Context, client: Context, peer: PeerOptions, ask: (ends: Ends) => T, inOrder = true): T {
  const ends = shake(server, client, peer)
  try {
    if (ends.clientError === undefined && ends.serverError === undefined) {
      ends.server.write(Buffer.from('x'))
      ready(ends.clientFd)
      readAll(ends.client, ends.clientFd)
      // The session of a connection freed before either close_notify is one that OpenSSL does not resume.
      if (inOrder) ends.client.shutdown()
    }
    return ask(ends)
  } finally {
    ends.free()
  }
}

const outcome = ({ client, clientError }: Ends) =>
  clientError !== undefined ? clientError.code : `${client.resumed ? 'resumed' : 'full'}, verdict ${client.verdict}`

function resumption({ authority, server: { cert, key } }: World, version: Version): void {
  title(`Resumption (${version})`)
  const kept: number[] = []
  const options: ContextOptions = { cert, key, version, ticketKeys: randomBytes(80) }
  const { server, client } = contexts(options, { ca: authority.cert, version, session: (session) => kept.push(session) })
  const newest = () => kept.at(-1)
  /** OpenSSL resumes a session of TLS 1.3 once. */
  const made = () => {
    exchange(server, client, { serverName: HOST }, () => {})
    return newest()
  }
  made()
  say('sessions told by one full handshake', String(kept.length), version === 'TLSv1.3' ? '2' : '1')
  const chain = (ends: Ends) =>
    `${outcome(ends)}, certificates sent ${ends.client.chain('sent').length}, verified ${ends.client.chain('verified').length}`
  say(
    'offered again',
    exchange(server, client, { serverName: HOST, session: newest() }, chain),
    'resumed, verdict 0, certificates sent 1, verified 0',
  )
  const other = exchange(server, client, { serverName: 'other.example', session: newest() }, outcome)
  say('offered under a name the certificate is not for', other, 'resumed, verdict 0')
  const trustless = contexts(options, { version })
  const nobody = exchange(server, trustless.client, { serverName: HOST, session: newest() }, outcome)
  say('offered by a client that trusts nobody', nobody, 'resumed, verdict 0')
  const careless: number[] = []
  const blind = new Context({ version, session: (session) => careless.push(session) })
  exchange(server, blind, { serverName: HOST, verify: false }, () => {})
  const strict = exchange(server, client, { serverName: HOST, session: careless.at(-1) }, outcome)
  say('made without verification, offered with it', strict, 'resumed, verdict 20')
  const heir = exchange(server, client, { serverName: HOST, session: newest() }, outcome)
  if (version === 'TLSv1.3') say('what that connection was given, offered with verification', heir, 'resumed, verdict 20')
  const used = made()
  exchange(server, client, { serverName: HOST, session: used }, () => {})
  const again = exchange(server, client, { serverName: HOST, session: used }, outcome)
  say('offered a second time', again, version === 'TLSv1.3' ? 'full, verdict 0' : 'resumed, verdict 0')
  const reloaded = exchange(new Context(options), client, { serverName: HOST, session: made() }, outcome)
  say('offered to another context with the same ticket keys (a reload)', reloaded, 'resumed, verdict 0')
  const strangers = exchange(
    new Context({ ...options, ticketKeys: randomBytes(80) }),
    client,
    { serverName: HOST, session: made() },
    outcome,
  )
  say('offered to a context with other ticket keys', strangers, 'full, verdict 0')
  exchange(server, client, { serverName: HOST }, () => {}, false)
  const aborted = exchange(server, client, { serverName: HOST, session: newest() }, outcome)
  say('of a connection that was freed without close_notify', aborted, 'full, verdict 0')
  for (const session of [...kept, ...careless]) freeSession(session)
}

const leafName = ({ client }: Ends) => new X509Certificate(client.chain('sent')[0] as Buffer).subject

async function serverNames({ authority, server }: World): Promise<void> {
  title('Server names')
  const a = await authority.issue({ names: ['a.example'] })
  const client = new Context({ ca: authority.cert })
  const chosen = new Context({ cert: a.cert, key: a.key })
  const base = { cert: server.cert, key: server.key }
  const byCallback = new Context({ ...base, sni: (name) => (name === 'a.example' ? chosen : undefined) })
  say('by callback: the certificate of the name', exchange(byCallback, client, { serverName: 'a.example' }, leafName), 'CN=a.example')
  say('by callback: the default one', exchange(byCallback, client, { serverName: HOST }, leafName), `CN=${HOST}`)
  const throwing = new Context({
    ...base,
    sni: () => {
      throw new Error('of the callback')
    },
  })
  const failed = exchange(
    throwing,
    client,
    { serverName: HOST },
    ({ clientError, serverError }) => `${serverError?.message} / ${clientError?.code}`,
  )
  say('by callback that throws: server / client', failed, 'of the callback / tlsv1 unrecognized name')
  const narrow = new Context({ ...base, version: 'TLSv1.3', sni: () => new Context({ cert: a.cert, key: a.key, version: 'TLSv1.2' }) })
  const versions = exchange(narrow, client, { serverName: 'a.example' }, (ends) => ends.client.version)
  say('by callback: whose bounds of versions hold', versions, 'TLSv1.3')
  suspended(base, chosen, client)
  peeked(base, chosen, client)
}

/** The only way to wait for something: the handshake is left at the ClientHello and taken up again. */
function suspended(base: ContextOptions, chosen: Context, client: Context): void {
  let asked = 0
  const answers: Context[] = []
  const later = new Context({
    ...base,
    hello: (handle) => {
      asked++
      const [answer] = answers
      if (answer === undefined) return 'later'
      ssl.SSL_set_SSL_CTX(handle, answer.handle)
      return 'go on'
    },
  })
  const [clientFd, serverFd] = descriptors()
  const [one, two] = [new Engine(client, clientFd, 'client', { serverName: 'a.example' }), new Engine(later, serverFd, 'server')]
  one.handshake()
  ready(serverFd)
  const waits = [two.handshake(), two.handshake()].join()
  answers.push(chosen)
  let done = false
  for (let turn = 0; turn < 20 && !done; turn++) {
    two.handshake()
    ready(clientFd, 10)
    done = one.handshake() === 'done'
  }
  const got = new X509Certificate(one.chain('sent')[0] as Buffer).subject
  say(
    'an answer that takes time, by the ClientHello callback',
    `${waits}, asked ${asked} times, ${got}`,
    'hello,hello, asked 3 times, CN=a.example',
  )
  for (const engine of [one, two]) engine.free()
  for (const fd of [clientFd, serverFd]) close(fd)
}

/** The name is read before there is an engine, so there is nothing to call back, and nothing to suspend. */
function peeked(base: ContextOptions, chosen: Context, client: Context): void {
  const [clientFd, serverFd] = descriptors()
  const one = new Engine(client, clientFd, 'client', { serverName: 'a.example' })
  one.handshake()
  ready(serverFd)
  const hello = receive(serverFd, 16_384, true)
  const name = serverNameOf(hello)
  const two = new Engine(name === 'a.example' ? chosen : new Context(base), serverFd, 'server')
  let done = false
  for (let turn = 0; turn < 20 && !done; turn++) {
    two.handshake()
    ready(clientFd, 10)
    done = one.handshake() === 'done'
  }
  say('by a look at the ClientHello in the socket', leafName({ client: one } as Ends), 'CN=a.example')
  for (const engine of [one, two]) engine.free()
  for (const fd of [clientFd, serverFd]) close(fd)
  const halves = inTwoRecords(hello)
  say('the same in two records', String(serverNameOf(halves)), 'a.example')
  let early = 0
  for (const whole of [hello, halves]) {
    for (let length = 0; length < whole.length; length++) if (serverNameOf(whole.subarray(0, length)) !== undefined) early++
  }
  say('answers from a part of a ClientHello', String(early), '0')
}

function inTwoRecords(record: Buffer): Buffer {
  const header = (length: number) => Buffer.from([22, 3, 1, length >> 8, length & 255])
  const [first, second] = [record.subarray(5, 50), record.subarray(50)]
  return Buffer.concat([header(first.length), first, header(second.length), second])
}

function protocols({ authority, server: { cert, key } }: World): void {
  title('Application protocols')
  const server = new Context({ cert, key, alpn: ['b', 'a'] })
  const ask = (alpn: readonly string[] | undefined) => {
    const client = new Context({ ca: authority.cert, alpn })
    const answer = exchange(
      server,
      client,
      { serverName: HOST },
      (ends) => ends.clientError?.code ?? `${ends.client.alpn}, ${ends.server.alpn}`,
    )
    client.free()
    return answer
  }
  say('the order of the server counts', ask(['a', 'b']), 'b, b')
  say('none in common', ask(['c']), 'tlsv1 alert no application protocol')
  say('none offered', ask(undefined), 'null, null')
}

async function reload({ authority, server }: World): Promise<void> {
  title('Reload')
  const client = new Context({ ca: authority.cert })
  const old = new Context({ cert: server.cert, key: server.key })
  const { cert, key } = await authority.issue({ names: [HOST], commonName: 'new' })
  const fresh = new Context({ cert, key })
  const established = shake(old, client, { serverName: HOST })
  const [clientFd, serverFd] = descriptors()
  const [one, two] = [new Engine(client, clientFd, 'client', { serverName: HOST }), new Engine(old, serverFd, 'server')]
  one.handshake()
  ready(serverFd)
  old.free()
  let done = false
  for (let turn = 0; turn < 20 && !done; turn++) {
    two.handshake()
    ready(clientFd, 10)
    done = one.handshake() === 'done'
  }
  say('a handshake that had begun', leafName({ client: one } as Ends), `CN=${HOST}`)
  established.client.write(Buffer.from('still here'))
  ready(established.serverFd)
  say('a connection of the freed context', readAll(established.server, established.serverFd).text, 'still here')
  say('a handshake behind it', exchange(fresh, client, { serverName: HOST }, leafName), 'CN=new')
  for (const engine of [one, two]) engine.free()
  for (const fd of [clientFd, serverFd]) close(fd)
  established.free()
}

function keyLog({ authority, server: { cert, key } }: World): void {
  title('Key log')
  for (const version of VERSIONS) {
    const lines: string[] = []
    const both = contexts(
      { cert, key, version },
      { ca: authority.cert, version, keylog: (line) => lines.push(line.split(' ')[0] as string) },
    )
    exchange(both.server, both.client, { serverName: HOST }, () => {})
    const expected =
      version === 'TLSv1.2'
        ? 'CLIENT_RANDOM'
        : 'CLIENT_HANDSHAKE_TRAFFIC_SECRET CLIENT_TRAFFIC_SECRET_0 EXPORTER_SECRET SERVER_HANDSHAKE_TRAFFIC_SECRET SERVER_TRAFFIC_SECRET_0'
    say(`lines (${version})`, lines.sort().join(' '), expected)
  }
  const keylog = () => {
    throw new Error('of the key log')
  }
  const both = contexts({ cert, key }, { ca: authority.cert, keylog })
  say(
    'one that throws ends its own handshake',
    String(exchange(both.server, both.client, { serverName: HOST }, (ends) => ends.clientError?.message)),
    'of the key log',
  )
}

async function clients({ authority, server: { cert, key } }: World): Promise<void> {
  const good = await authority.issue({ names: [], commonName: 'client', purpose: 'client' })
  const wrong = await authority.issue({ names: [], commonName: 'client', purpose: 'server' })
  const strange = await (await developmentAuthority({ name: 'stranger' })).issue({ purpose: 'client' })
  const rows = [
    ['good', good, 'verdict 0', 'verdict 0'],
    ['none', undefined, 'peer did not return a certificate', 'verdict 0'],
    ['of a stranger', strange, 'certificate verify failed', 'verdict 21'],
    ['for servers only', wrong, 'certificate verify failed', 'verdict 26'],
  ] as const
  for (const version of VERSIONS) {
    title(`Certificates of clients (${version})`)
    for (const [what, own, required, requested] of rows) {
      for (const [clientCert, expected] of [['require', required] as const, ['request', requested] as const]) {
        const both = contexts(
          { cert, key, ca: authority.cert, clientCert, version },
          { ca: authority.cert, version, cert: own?.cert, key: own?.key },
        )
        const said = exchange(
          both.server,
          both.client,
          { serverName: HOST },
          ({ server, serverError }) => serverError?.code ?? `verdict ${server.verdict}`,
        )
        say(`${clientCert}: ${what}`, said, expected)
      }
    }
  }
}

async function others({ server: { cert, key } }: World): Promise<void> {
  title('What the other side is told')
  const stranger = await developmentAuthority({ name: 'stranger' })
  for (const version of VERSIONS) {
    const { server, client } = contexts({ cert, key, version }, { ca: stranger.cert, version })
    const told = exchange(server, client, { serverName: HOST }, (ends) => ends.serverError?.code ?? 'nothing')
    say(`the server, of a certificate that is not trusted (${version})`, told, 'tlsv1 alert unknown ca')
  }
  const [clientFd, serverFd] = descriptors()
  const plain = new Engine(new Context({ cert, key }), serverFd, 'server')
  send(clientFd, Buffer.from('GET / HTTP/1.1\r\n\r\n'))
  ready(serverFd)
  let said = ''
  try {
    plain.handshake()
  } catch (error) {
    said = (error as { code: string }).code
  }
  say('the server, of plain HTTP', said, 'http request')
  plain.free()
  for (const fd of [clientFd, serverFd]) close(fd)
}

export async function answerFeatures(): Promise<void> {
  const authority = await developmentAuthority()
  const world = { authority, server: await authority.issue({ names: [HOST] }) }
  for (const version of VERSIONS) resumption(world, version)
  await serverNames(world)
  protocols(world)
  await reload(world)
  keyLog(world)
  await clients(world)
  await others(world)
}
