/** Is every end of the bytes below told for what it is? */

import { developmentAuthority } from 'fairlead/testing'
import { type Context, Engine, type EngineError, SLAB, type Version } from './engine.js'
import { contexts, descriptors, type Ends, readAll, shake } from './pairs.js'
import { close, endWriting, ready, receive, reset, send } from './sockets.js'
import { say, title } from './table.js'

type Side = 'client' | 'server'

interface Cut {
  readonly what: string
  readonly expected: string
  /** What the one side does after the data. */
  act(engine: Engine, fd: number): void
}

const CUTS: readonly Cut[] = [
  { what: 'close_notify', expected: 'close_notify', act: (engine) => void engine.shutdown() },
  {
    what: 'close_notify, then FIN',
    expected: 'close_notify',
    act(engine, fd) {
      engine.shutdown()
      endWriting(fd)
    },
  },
  { what: 'FIN between records', expected: 'truncated', act: (_engine, fd) => endWriting(fd) },
  {
    what: 'FIN within the header of a record',
    expected: 'truncated',
    act(_engine, fd) {
      send(fd, Buffer.from([23, 3, 3]))
      endWriting(fd)
    },
  },
  {
    what: 'FIN within a record',
    expected: 'truncated',
    act(_engine, fd) {
      send(fd, Buffer.from([23, 3, 3, 0, 100, 1, 2, 3]))
      endWriting(fd)
    },
  },
  {
    what: 'a forged record',
    expected: 'openssl',
    act: (_engine, fd) => void send(fd, Buffer.from([23, 3, 3, 0, 32, ...Buffer.alloc(32, 7)])),
  },
  { what: 'RST', expected: 'system ECONNRESET', act: (_engine, fd) => reset(fd) },
  {
    what: 'close_notify, then RST',
    expected: 'close_notify',
    act(engine, fd) {
      engine.shutdown()
      reset(fd)
    },
  },
]

function cut(one: Cut, from: Side, ends: Ends): string {
  const to = from === 'client' ? 'server' : 'client'
  const [source, sink] = [ends[from], ends[to]]
  const fd = { client: ends.clientFd, server: ends.serverFd }
  source.write(Buffer.from('data'))
  one.act(source, fd[from])
  ready(fd[to])
  const { text, end } = readAll(sink, fd[to])
  const kept = text === 'data' ? '' : `, data lost (${text})`
  const { received } = sink.ends
  const said = (end.startsWith('openssl') ? 'openssl' : end) + kept
  return received === (end === 'close_notify') ? said : `${said}, but SSL_get_shutdown says otherwise`
}

function inHandshake(how: 'FIN' | 'RST', server: Context): string {
  const [clientFd, serverFd] = descriptors()
  const engine = new Engine(server, serverFd, 'server')
  send(clientFd, Buffer.from([22, 3, 1, 0, 200, 1]))
  if (how === 'FIN') endWriting(clientFd)
  else reset(clientFd)
  ready(serverFd)
  try {
    let wait = engine.handshake()
    for (let i = 0; i < 3 && wait === 'read' && ready(serverFd, 50); i++) wait = engine.handshake()
    return wait
  } catch (error) {
    const { kind, code } = error as EngineError
    return kind === 'system' ? `system ${code}` : kind
  } finally {
    engine.free()
    close(serverFd)
    if (how === 'FIN') close(clientFd)
  }
}

/** A record that the socket did not take is encrypted already: what is offered instead of it is dropped without a word. */
function withdrawn(ends: Ends): string {
  const { client, server, serverFd } = ends
  let taken = 0
  const piece = Buffer.alloc(16_384, 97)
  for (let count = client.write(piece); count > 0; count = client.write(piece)) taken += count
  // The engine keeps a copy and counts it as taken; the first write after it is refused.
  let received = 0
  let foreign = 0
  for (let turn = 0; turn < 4_000 && received < taken; turn++) {
    client.flush()
    const count = server.read()
    if (count < 0) ready(serverFd, 20)
    else {
      received += count
      for (const byte of SLAB.subarray(0, count)) if (byte !== 97) foreign++
    }
  }
  return received === taken && foreign === 0
    ? 'all that was counted as taken arrives, and nothing else'
    : `${received} of ${taken}, ${foreign} foreign`
}

export async function answerEnds(): Promise<void> {
  const authority = await developmentAuthority()
  const { cert, key } = await authority.issue({ names: ['server.example'] })
  for (const version of ['TLSv1.2', 'TLSv1.3'] satisfies Version[]) {
    title(`Ends told to the reader, after the data (${version})`)
    const { server, client } = contexts({ cert, key, version }, { ca: authority.cert, version })
    for (const one of CUTS) {
      for (const from of ['client', 'server'] satisfies Side[]) {
        const ends = shake(server, client, { serverName: 'server.example' })
        say(`${one.what}, from the ${from}`, cut(one, from, ends), one.expected)
        ends.client.free()
        ends.server.free()
        // A reset has closed its own.
        if (!one.act.toString().includes('reset(')) close(from === 'client' ? ends.clientFd : ends.serverFd)
        close(from === 'client' ? ends.serverFd : ends.clientFd)
      }
    }
    say('FIN in the handshake', inHandshake('FIN', server), 'truncated')
    say('RST in the handshake', inHandshake('RST', server), 'system ECONNRESET')
    const ends = shake(server, client, { serverName: 'server.example' })
    say('a reader that stops, then goes on', withdrawn(ends), 'all that was counted as taken arrives, and nothing else')
    ends.free()
    plaintextAfter(server, client)
  }
}

/** The descriptor is where OpenSSL left it: nothing was read past close_notify unless read-ahead did, and then it is lost. */
function plaintextAfter(server: Context, client: Context): void {
  const ends = shake(server, client, { serverName: 'server.example' })
  ends.client.shutdown()
  send(ends.clientFd, Buffer.from('plain'))
  ready(ends.serverFd)
  const { end } = readAll(ends.server, ends.serverFd)
  const left = receive(ends.serverFd, 16).toString('latin1')
  say('plain text behind close_notify, read by recv()', `${end}, then ${JSON.stringify(left)}`, 'close_notify, then ""')
  ends.free()
}
