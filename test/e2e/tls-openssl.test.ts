/** Against OpenSSL's own client and server: handshakes, ends, truncation, client certificates, garbage. */

import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { connect, listen, serve } from 'fairlead'
import { type Authority, developmentAuthority, type Issued } from 'fairlead/testing'

const openssl = spawnSync('openssl', ['version']).status === 0
const skip = openssl ? false : 'openssl is not installed'
const VERSIONS = [
  ['TLSv1.2', '-tls1_2'],
  ['TLSv1.3', '-tls1_3'],
] as const

let directory: string
let authority: Authority
let server: Issued
let client: Issued
const path = (name: string): string => join(directory, name)

before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'fairlead-openssl-'))
  authority = await developmentAuthority()
  server = await authority.issue({ names: ['localhost', '127.0.0.1'] })
  client = await authority.issue({ names: [], commonName: 'client', purpose: 'client' })
  const files = {
    'ca.pem': authority.cert,
    'server.pem': server.cert,
    'server.key': server.key,
    'client.pem': client.cert,
    'client.key': client.key,
  }
  for (const [name, text] of Object.entries(files)) writeFileSync(path(name), text, { mode: 0o600 })
})

after(() => rmSync(directory, { recursive: true, force: true }))

interface Run {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

async function finished(child: ChildProcess): Promise<Run> {
  let out = ''
  let err = ''
  child.stdout?.on('data', (chunk: Buffer) => (out += chunk.toString('latin1')))
  child.stderr?.on('data', (chunk: Buffer) => (err += chunk.toString('latin1')))
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, out, err }
}

/** `openssl s_client` that sends `input` and goes on until the server ends. */
function sClient(port: number, input: string, ...more: string[]): Promise<Run> {
  const child = spawn('openssl', [
    's_client',
    '-connect',
    `127.0.0.1:${port}`,
    '-CAfile',
    path('ca.pem'),
    '-verify_return_error',
    '-quiet',
    '-no_ign_eof',
    ...more,
  ])
  child.stdin.write(input)
  return finished(child)
}

const portOf = (listener: { readonly local: unknown } | undefined): number => (listener as { local: { port: number } }).local.port

for (const [version, flag] of VERSIONS) {
  test(`s_client talks to a server and gets a clean end (${version})`, { skip }, async () => {
    const echo = await serve('tls://127.0.0.1:0', { tls: { cert: server.cert, key: server.key } }, async (connection) => {
      await connection.write(`you said ${await connection.readLine()}\n`)
    })
    const { code, out, err } = await sClient(portOf(echo.listeners[0]), 'hello\n', flag)
    assert.match(out, /you said hello/)
    assert.doesNotMatch(err, /unexpected eof/i)
    assert.equal(code, 0, err)
    await echo.close()
  })

  test(`s_client without and with a certificate, where one is required (${version})`, { skip }, async () => {
    const tls = { cert: server.cert, key: server.key, clientCert: 'require', ca: authority.cert } as const
    const subjects: (string | undefined)[] = []
    const strict = await serve('tls://127.0.0.1:0', { tls }, async (connection) => {
      subjects.push(connection.security?.peerCertificate?.subject)
      await connection.write('welcome\n')
    })
    const port = portOf(strict.listeners[0])
    const refused = await sClient(port, '', flag)
    assert.doesNotMatch(refused.out, /welcome/)
    assert.match(refused.err, /alert (handshake failure|certificate required)/)
    const admitted = await sClient(port, '', flag, '-cert', path('client.pem'), '-key', path('client.key'))
    assert.match(admitted.out, /welcome/)
    assert.deepEqual(subjects, ['CN=client'])
    await strict.close()
  })

  test(`s_server is verified, answers, and ends cleanly; killed, it is a truncation (${version})`, { skip }, async () => {
    for (const how of ['end', 'kill'] as const) {
      const probe = createServer().listen(0, '127.0.0.1')
      await once(probe, 'listening')
      const { port } = probe.address() as { port: number }
      probe.close()
      await once(probe, 'close')
      // Only its web server ends connections with close_notify; its `Q` command just drops them.
      const mode = how === 'end' ? ['-www'] : []
      const common = ['-accept', `127.0.0.1:${port}`, '-cert', path('server.pem'), '-key', path('server.key'), '-naccept', '1']
      const child = spawn('openssl', ['s_server', ...common, flag, ...mode])
      child.stderr.resume()
      for await (const chunk of child.stdout) if (String(chunk).includes('ACCEPT')) break
      const connection = await connect(`tls://127.0.0.1:${port}`, { tls: { ca: authority.cert, sessions: false } })
      assert.equal(connection.security?.verified, true)
      assert.equal(connection.security?.protocol, version)
      const gone = once(child, 'exit')
      if (how === 'end') {
        await connection.write('GET / HTTP/1.0\r\n\r\n')
        assert.match(Buffer.from(await connection.readAll()).toString(), /HTTP\/1\.0 200 ok/i)
      } else {
        child.stdin.write('from openssl\n')
        assert.equal(await connection.readLine(), 'from openssl')
        child.kill('SIGKILL')
        await assert.rejects(connection.read(), { name: 'Broken', code: 'TLS_TRUNCATED' })
      }
      await connection.close()
      await gone
    }
  })

  test(`a renegotiation that s_client asks for does not happen (${version})`, { skip }, async () => {
    await using listener = await listen('tls://127.0.0.1:0', { tls: { cert: server.cert, key: server.key } })
    const accepting = listener.accept()
    const child = spawn('openssl', ['s_client', '-connect', `127.0.0.1:${portOf(listener)}`, flag])
    const running = finished(child)
    await using connection = await accepting
    const reading = connection.readAll().catch((error: unknown) => error)
    child.stdin.write('R\n')
    child.stdin.end()
    const { err } = await running
    await reading
    if (version === 'TLSv1.2') assert.match(err, /no renegotiation|no_renegotiation/i)
    await connection.close()
  })
}
