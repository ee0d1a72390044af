// The command line with the programs people use beside it: socat, nc, ncat, openssl, curl and haproxy.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { connect, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { before, describe, test, type TestContext } from 'node:test'
import { type Authority, developmentAuthority } from 'fairlead/testing'
import { fairlead, folder, listeningAt, peerProgram, Program, shell } from './program.js'

let authority: Authority
before(async () => {
  authority = await developmentAuthority()
})

interface Files {
  readonly at: string
  readonly ca: string
  readonly cert: string
  readonly key: string
  /** Certificate and key in one file, as haproxy and socat want them. */
  readonly both: string
}

async function files(t: TestContext): Promise<Files> {
  const at = folder(t)
  const { cert, key } = await authority.issue({ names: ['localhost', '127.0.0.1'] })
  const named = (name: string) => join(at, name)
  for (const [name, text] of Object.entries({ 'ca.pem': authority.cert, 'cert.pem': cert, 'key.pem': key, 'both.pem': cert + key })) {
    writeFileSync(named(name), text, { mode: 0o600 })
  }
  return { at, ca: named('ca.pem'), cert: named('cert.pem'), key: named('key.pem'), both: named('both.pem') }
}

const portOf = (endpoint: string): number => Number(/:(\d+)$/.exec(endpoint)?.[1])

/** A port that nobody has now: for programs that cannot be asked which one the system gave them. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

/** Resolves once somebody listens; a program that has not started yet refuses. */
async function answering(port: number, program: Program): Promise<void> {
  let gone = false
  void program.exited.then(() => (gone = true))
  for (;;) {
    const socket = connect(port, '127.0.0.1')
    const reached = await new Promise<boolean>((resolve) => socket.once('connect', () => resolve(true)).once('error', () => resolve(false)))
    socket.destroy()
    if (reached) return
    if (gone) throw new Error(`the program ended: ${program.err.text}`)
  }
}

/** A web server whose page is large enough to fill every buffer on the way. */
const PAGE = Buffer.alloc(3 * 1024 * 1024, 'fairlead ')
async function webServer(t: TestContext): Promise<number> {
  const server = createHttpServer((request, response) => {
    if (request.method === 'POST') request.pipe(response)
    else response.end(PAGE)
  }).listen(0, '127.0.0.1')
  await once(server as unknown as Server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as { port: number }).port
}

async function fetched(t: TestContext, args: readonly string[]): Promise<void> {
  const out = join(folder(t), 'page')
  const { code, err } = await new Program(t, 'curl', ['--silent', '--show-error', '--fail', '--output', out, ...args]).result()
  assert.equal(code, 0, err)
  assert.ok(readFileSync(out).equals(PAGE))
}

describe('socat', () => {
  test('connect to a TCP listener of socat, which answers after the end of the question', async (t) => {
    if (peerProgram(t, 'socat') === undefined) return
    const port = await freePort()
    const socat = new Program(t, 'socat', ['-t', '30', `TCP-LISTEN:${port},bind=127.0.0.1,reuseaddr,fork`, 'EXEC:sort,nofork'])
    await answering(port, socat)
    const { code, out, err } = await fairlead(t, ['connect', `tcp://127.0.0.1:${port}`])
      .finish('b\na\n')
      .result()
    assert.deepEqual([code, out], [0, 'a\nb\n'], err)
  })

  test('listen on a UNIX socket, where socat connects', async (t) => {
    if (peerProgram(t, 'socat') === undefined) return
    const path = join(folder(t), 's')
    const program = fairlead(t, ['listen', `unix:${path}`, 'exec:sort'])
    await listeningAt(program)
    const socat = new Program(t, 'socat', ['-t', '30', '-', `UNIX-CONNECT:${path}`])
    const { code, out } = await socat.finish('b\na\n').result()
    assert.deepEqual([code, out, await program.exited], [0, 'a\nb\n', 0])
  })

  test('listen over TLS, where socat verifies and connects', async (t) => {
    if (peerProgram(t, 'socat') === undefined) return
    const { ca, cert, key } = await files(t)
    const program = fairlead(t, ['listen', '--cert', cert, '--key', key, 'tls://localhost:0', 'exec:cat'])
    const port = portOf(await listeningAt(program))
    const socat = new Program(t, 'socat', ['-t', '30', '-', `OPENSSL:localhost:${port},cafile=${ca}`])
    const { code, out, err } = await socat.finish('hello').result()
    assert.deepEqual([code, out, await program.exited], [0, 'hello', 0], err + program.err.text)
  })

  test('connect as the program that socat runs, with one socket for its input and output', async (t) => {
    if (peerProgram(t, 'socat') === undefined) return
    const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)).listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.after(() => server.close())
    const { port } = server.address() as { port: number }
    const { code, out, err } = await shell(t, `echo hello | socat -t 30 - "EXEC:fairlead connect 'tcp\\://127.0.0.1\\:${port}'"`).result()
    assert.deepEqual([code, out], [0, 'hello\n'], err)
  })
})

describe('nc and ncat', () => {
  test('nc fetches from listen', async (t) => {
    if (peerProgram(t, 'nc') === undefined) return
    const program = fairlead(t, ['listen', 'tcp://127.0.0.1:0']).finish('served')
    const port = portOf(await listeningAt(program))
    const { code, out, err } = await new Program(t, 'nc', ['-N', '127.0.0.1', String(port)]).finish('asked').result()
    assert.deepEqual([code, out], [0, 'served'], err)
    assert.equal((await program.result()).out, 'asked')
  })

  test('nc -U talks to a UNIX socket', async (t) => {
    if (peerProgram(t, 'nc') === undefined) return
    const path = join(folder(t), 's')
    const program = fairlead(t, ['listen', `unix:${path}`, 'exec:tr a-z A-Z'])
    await listeningAt(program)
    const { code, out } = await new Program(t, 'nc', ['-N', '-U', path]).finish('shout').result()
    assert.deepEqual([code, out], [0, 'SHOUT'])
  })

  test('connect to ncat, which runs a program for each client', async (t) => {
    if (peerProgram(t, 'ncat') === undefined) return
    const port = await freePort()
    const ncat = new Program(t, 'ncat', ['-l', '-k', '127.0.0.1', String(port), '-c', 'sed -u s/question/answer/'])
    await answering(port, ncat)
    // The answer first: ncat drops what its program says after the end of what it hears.
    const program = fairlead(t, ['connect', `tcp://127.0.0.1:${port}`]).send('question\n')
    await program.out.until('answer\n')
    assert.equal((await program.finish().result()).code, 0)
  })

  test('connect over TLS to ncat', async (t) => {
    if (peerProgram(t, 'ncat') === undefined) return
    const { ca, cert, key } = await files(t)
    const port = await freePort()
    const ncat = new Program(t, 'ncat', [
      '-l',
      '-k',
      '--ssl',
      '--ssl-cert',
      cert,
      '--ssl-key',
      key,
      '127.0.0.1',
      String(port),
      '-c',
      'head -n1',
    ])
    await answering(port, ncat)
    // ncat ends a TLS connection without close_notify, and that is told.
    const program = fairlead(t, ['connect', '--ca', ca, '--allow-truncation', `tls://localhost:${port}`])
    program.send('hello\n')
    await program.out.until('hello\n')
  })
})

describe('openssl', () => {
  test('connect to s_server: verified, with what it says of the connection', async (t) => {
    if (peerProgram(t, 'openssl') === undefined) return
    const { ca, cert, key } = await files(t)
    const port = await freePort()
    const server = new Program(t, 'openssl', [
      's_server',
      '-accept',
      `127.0.0.1:${port}`,
      '-cert',
      cert,
      '-key',
      key,
      '-rev',
      '-quiet',
      '-tls1_2',
    ])
    await answering(port, server)
    const program = fairlead(t, ['connect', '--json', '--ca', ca, `tls://localhost:${port}`]).send('abc\n')
    await program.out.until('cba\n')
    const [, protocol] = await program.err.until(/"protocol":"([^"]+)"/)
    assert.equal(protocol, 'TLSv1.2')
    program.finish('CLOSE\n')
    assert.equal(await program.exited, 0, program.err.text)
  })

  test('s_client verifies listen, and ends with close_notify', async (t) => {
    if (peerProgram(t, 'openssl') === undefined) return
    const { ca, cert, key } = await files(t)
    const program = fairlead(t, ['listen', '--cert', cert, '--key', key, 'tls://localhost:0'])
    const port = portOf(await listeningAt(program))
    const client = new Program(t, 'openssl', [
      's_client',
      '-quiet',
      '-verify_return_error',
      '-verify_hostname',
      'localhost',
      '-CAfile',
      ca,
      '-connect',
      `localhost:${port}`,
    ])
    client.send('from openssl\n')
    await program.out.until('from openssl\n')
    program.finish('from fairlead\n')
    await client.out.until('from fairlead\n')
  })

  test('a certificate signed by an unknown authority is refused by both', async (t) => {
    if (peerProgram(t, 'openssl') === undefined) return
    const { cert, key } = await files(t)
    const other = join(folder(t), 'other.pem')
    writeFileSync(other, (await developmentAuthority()).cert)
    const program = fairlead(t, ['listen', '--keep', '--cert', cert, '--key', key, 'tls://localhost:0', 'exec:cat'])
    const at = await listeningAt(program)
    assert.equal((await fairlead(t, ['connect', '--ca', other, at]).result()).code, 6)
    const client = new Program(t, 'openssl', [
      's_client',
      '-quiet',
      '-verify_return_error',
      '-CAfile',
      other,
      '-connect',
      `localhost:${portOf(at)}`,
    ])
    assert.notEqual((await client.result()).code, 0)
  })
})

describe('curl through relay', () => {
  const relay = async (t: TestContext, args: readonly string[]) => {
    const program = fairlead(t, ['relay', ...args])
    return portOf(await listeningAt(program))
  }

  test('plain on both sides, several requests at once', async (t) => {
    if (peerProgram(t, 'curl') === undefined) return
    const port = await relay(t, ['tcp://127.0.0.1:0', `tcp://127.0.0.1:${await webServer(t)}`])
    await Promise.all([1, 2, 3, 4].map(() => fetched(t, [`http://127.0.0.1:${port}/`])))
  })

  test('TLS ends in the relay', async (t) => {
    if (peerProgram(t, 'curl') === undefined) return
    const { ca, cert, key } = await files(t)
    const port = await relay(t, ['--cert', cert, '--key', key, 'tls://localhost:0', `tcp://127.0.0.1:${await webServer(t)}`])
    await fetched(t, ['--cacert', ca, `https://localhost:${port}/`])
  })

  test('TLS starts in the relay', async (t) => {
    if (peerProgram(t, 'curl') === undefined) return
    const { ca, cert, key } = await files(t)
    const secure = await relay(t, ['--cert', cert, '--key', key, 'tls://localhost:0', `tcp://127.0.0.1:${await webServer(t)}`])
    const port = await relay(t, ['--ca', ca, 'tcp://127.0.0.1:0', `tls://localhost:${secure}`])
    await fetched(t, [`http://127.0.0.1:${port}/`])
  })

  test('a UNIX socket in front', async (t) => {
    if (peerProgram(t, 'curl') === undefined) return
    const path = join(folder(t), 's')
    await relay(t, [`unix:${path}`, `tcp://127.0.0.1:${await webServer(t)}`])
    await fetched(t, ['--unix-socket', path, 'http://localhost/'])
  })

  test('an upload that comes back', async (t) => {
    if (peerProgram(t, 'curl') === undefined) return
    const port = await relay(t, ['tcp://127.0.0.1:0', `tcp://127.0.0.1:${await webServer(t)}`])
    const page = join(folder(t), 'page')
    writeFileSync(page, PAGE)
    await fetched(t, ['--data-binary', `@${page}`, `http://127.0.0.1:${port}/`])
  })
})

describe('haproxy', () => {
  /** haproxy with one frontend and one server, in TCP mode. */
  const haproxy = async (t: TestContext, bind: (port: number) => string, server: string): Promise<number | undefined> => {
    const program = peerProgram(t, 'haproxy')
    if (program === undefined) return undefined
    const at = folder(t)
    const port = await freePort()
    writeFileSync(
      join(at, 'haproxy.cfg'),
      `global
  maxconn 100
defaults
  mode tcp
  timeout connect 10s
  timeout client 30s
  timeout server 30s
frontend in
  bind ${bind(port)}
  default_backend out
backend out
  server one ${server}
`,
    )
    await answering(port, new Program(t, program, ['-db', '-f', join(at, 'haproxy.cfg')]))
    return port
  }

  test('in front of relay: haproxy verifies the TLS that ends there', async (t) => {
    if (peerProgram(t, 'curl') === undefined) return
    const { ca, cert, key } = await files(t)
    const program = fairlead(t, ['relay', '--cert', cert, '--key', key, 'tls://127.0.0.1:0', `tcp://127.0.0.1:${await webServer(t)}`])
    const secure = portOf(await listeningAt(program))
    const port = await haproxy(
      t,
      (n) => `127.0.0.1:${n}`,
      `127.0.0.1:${secure} ssl verify required ca-file ${ca} sni str(localhost) verifyhost localhost`,
    )
    if (port !== undefined) await fetched(t, [`http://127.0.0.1:${port}/`])
  })

  test('behind relay: TLS that ends in haproxy is verified', async (t) => {
    if (peerProgram(t, 'curl') === undefined) return
    const { ca, both } = await files(t)
    const port = await haproxy(t, (n) => `127.0.0.1:${n} ssl crt ${both}`, `127.0.0.1:${await webServer(t)}`)
    if (port === undefined) return
    const program = fairlead(t, ['relay', '--ca', ca, 'tcp://127.0.0.1:0', `tls://localhost:${port}`])
    await fetched(t, [`http://127.0.0.1:${portOf(await listeningAt(program))}/`])
  })
})
