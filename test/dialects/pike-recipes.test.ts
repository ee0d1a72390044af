// Every recipe of the promise, run over real sockets.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo, Server } from 'node:net'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { Concurrent, SSL, Stdio } from 'fairlead/pike'
import { developmentAuthority } from 'fairlead/testing'
import * as recipes from './pike-recipes.js'
import { portOf } from './pike-sockets.js'

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'fairlead-pike-'))
  t.after(() => rmSync(path, { recursive: true, force: true }))
  return path
}

async function started(t: TestContext, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  return (server.address() as AddressInfo).port
}

const PAGE = 'a page\n'.repeat(10_000)
const website = (t: TestContext): Promise<number> =>
  started(
    t,
    createHttpServer((_request, response) => response.end(PAGE)),
  )

/** A client of a server that serves for ever: says one thing, gives what comes back. */
async function ask(port: number, text: string, path?: string): Promise<string | 0> {
  const sock = new Stdio.File()
  assert.equal(await (path === undefined ? sock.connect('127.0.0.1', port) : sock.connect_unix(path)), 1)
  await sock.write(text)
  const answer = await sock.read()
  sock.close()
  return answer
}

/** Waits until a server has bound its port. */
async function bound(port: Stdio.Port): Promise<number> {
  for (;;) {
    try {
      return portOf(port.query_address())
    } catch {
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}

test('recipe 1: a TCP client', async (t) => {
  const output = new recipes.Output()
  const port = await website(t)
  assert.equal(await recipes.tcpClient(output, '127.0.0.1', port), 0)
  assert.ok(Number(/^heard (\d+) bytes\n$/.exec(output.out)?.[1]) > PAGE.length, output.out)
  const closed = new Stdio.Port()
  await closed.bind(0, 0, '127.0.0.1')
  const number = portOf(closed.query_address())
  await closed[Symbol.asyncDispose]()
  assert.equal(await recipes.tcpClient(output, '127.0.0.1', number), 1)
  assert.equal(output.err, `no way to 127.0.0.1:${number}: Connection refused\n`)
})

test('recipe 2: a TCP server', async () => {
  const output = new recipes.Output()
  const port = new Stdio.Port()
  const serving = recipes.tcpServer(output, port, 0)
  const number = await bound(port)
  for (const word of ['one', 'two']) assert.equal(await ask(number, word), 'Got it\n')
  const second = new recipes.Output()
  assert.equal(await recipes.tcpServer(second, new Stdio.Port(), number), 1)
  assert.equal(second.err, `cannot listen at ${number}: Address already in use\n`)
  port.close()
  assert.equal(await serving, 0)
  assert.equal(output.out, 'up at 0\nheard: one\nheard: two\n')
})

test('recipe 3: both ways, and line by line', async () => {
  const output = new recipes.Output()
  const port = new Stdio.Port()
  await port.bind(0, 0, '127.0.0.1')
  const client = recipes.bothWays(output, '127.0.0.1', portOf(port.query_address()))
  const peer = await port.accept()
  assert.ok(peer)
  assert.equal(await peer.read(19), 'Who is it, please?\n')
  await peer.write('Pike')
  while (!output.out.includes('Pike')) await new Promise((resolve) => setImmediate(resolve))
  await peer.write('and a line\r\nand more')
  assert.equal(await client, 0)
  assert.equal(output.out, 'First: Pike\nThen: and a line\r\n')
  peer.close()
  port.close()
})

test('recipes 4 and 5: a UDP client and a UDP server', async () => {
  const [client, server] = [new recipes.Output(), new recipes.Output()]
  const udp = new Stdio.UDP()
  const serving = recipes.udpServer(server, udp, 0, 2)
  let number = 0
  while (number === 0) {
    await new Promise((resolve) => setImmediate(resolve))
    try {
      number = portOf(udp.query_address())
    } catch {
      continue
    }
  }
  assert.equal(await recipes.udpClient(client, ['program', '127.0.0.1', String(number)]), 0)
  assert.equal(await recipes.udpClient(client, ['program', 'localhost', String(number), 'again']), 0)
  assert.equal(await serving, 0)
  assert.match(
    client.out,
    /^out 'anybody there' to 127\.0\.0\.1:\d+\nin 'back: anybody there' from 127\.0\.0\.1 \d+\nout 'again' to localhost:\d+\nin 'back: again' from 127\.0\.0\.1 \d+\n$/,
  )
  assert.match(server.out, /^UDP up at 0\nin 'anybody there' from 127\.0\.0\.1 \d+\n/)
  const usage = new recipes.Output()
  assert.equal(await recipes.udpClient(usage, ['program']), 1)
  assert.equal(usage.err, 'program: host and port, please\n')
})

test('recipe 5: a UDP server says why it cannot bind', async (t) => {
  const taken = new Stdio.UDP()
  t.after(() => taken.close())
  await taken.bind(0)
  const output = new recipes.Output()
  const number = portOf(taken.query_address())
  assert.equal(await recipes.udpServer(output, new Stdio.UDP(), number, 1), 1)
  assert.equal(output.err, `no UDP port ${number}: Address already in use\n`)
})

test('recipes 6 and 7: a UNIX client and a UNIX server', async (t) => {
  const path = join(folder(t), 'mysocket')
  writeFileSync(path, 'what an earlier run left')
  const [client, server] = [new recipes.Output(), new recipes.Output()]
  assert.equal(await recipes.unixClient(client, path), 1)
  assert.equal(client.err, `no way to ${path}: Connection refused\n`)
  const port = new Stdio.Port()
  const serving = recipes.unixServer(server, port, path)
  await bound(port)
  assert.equal(await recipes.unixClient(client, path), 0)
  assert.equal(client.out, 'Answer: Got it\n\n')
  assert.equal(await ask(0, 'again', path), 'Got it\n')
  port.close()
  assert.equal(await serving, 0)
  assert.equal(server.out, `UNIX up at ${path}\nheard: one line by UNIX\n\nheard: again\n`)
})

test('recipes 8 and 9: a TLS client and a TLS server, with the certificate verified', async (t) => {
  const at = folder(t)
  const authority = await developmentAuthority()
  const { cert, key } = await authority.issue({ names: ['localhost'] })
  const [ca, certFile, keyFile] = ['ca.pem', 'server.pem', 'server.key'].map((name) => join(at, name)) as [string, string, string]
  writeFileSync(ca, authority.cert)
  writeFileSync(certFile, cert)
  writeFileSync(keyFile, key)
  const server = new recipes.Output()
  const port = await recipes.sslServer(server, 0, certFile, keyFile)
  assert.ok(port instanceof SSL.Port, server.err)
  t.after(() => port.close())
  assert.equal(server.out, 'TLS up at 0\n')

  // The client trusts whom its runtime trusts, so it runs in a process that is told to trust this authority.
  const client = async (env: NodeJS.ProcessEnv, number: number): Promise<[string, string, number]> => {
    const module = new URL('./pike-recipes.js', import.meta.url).href
    const program = `
      import { Output, sslClient } from ${JSON.stringify(module)}
      const output = new Output()
      process.exitCode = await sslClient(output, ['program', 'localhost', '${number}'])
      process.stdout.write(output.out)
      process.stderr.write(output.err)`
    const child = spawn(process.execPath, ['--input-type=module', '--eval', program], { env: { ...process.env, ...env } })
    const texts = ['', '']
    child.stdout.on('data', (data) => (texts[0] += data))
    child.stderr.on('data', (data) => (texts[1] += data))
    const [code] = (await once(child, 'close')) as [number]
    return [texts[0] as string, texts[1] as string, code]
  }
  const [out, err, code] = await client({ NODE_EXTRA_CA_CERTS: ca }, portOf(port.query_address()))
  assert.deepEqual([out, code], ['HTTP/1.0 200 OK\r\n\r\nover TLS\n\n', 0], err)
  assert.equal(server.out, 'TLS up at 0\nheard: GET / HTTP/1.0\r\nHost: localhost\r\n\r\n\n')
  assert.deepEqual(await client({ NODE_EXTRA_CA_CERTS: '' }, portOf(port.query_address())), ['', 'no handshake\n', 1])

  const website = await started(
    t,
    createHttpsServer({ cert, key }, (_request, response) => response.end('over TLS')),
  )
  const [page] = await client({ NODE_EXTRA_CA_CERTS: ca }, website)
  assert.match(page, /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\nover TLS\n$/)

  const without = new recipes.Output()
  assert.equal(await recipes.sslServer(without, 0, join(at, 'missing.pem'), keyFile), 1)
  assert.equal(without.err, 'no TLS port: Invalid argument\n')
})

test('recipe 10: the address of the peer', async (t) => {
  const output = new recipes.Output()
  const port = await website(t)
  await recipes.peerAddress(output, 'localhost', port)
  assert.match(output.out, new RegExp(`^peer: (?:127\\.0\\.0\\.1|::1) ${port}\n$`))
})

test("recipe 11: one's own address", async (t) => {
  const output = new recipes.Output()
  const sock = new Stdio.File()
  t.after(() => sock.close())
  await sock.connect('127.0.0.1', await website(t))
  await recipes.ownAddress(output, sock)
  const [first, second, ...rest] = output.out.trimEnd().split('\n')
  assert.match(String(first), /^here: 127\.0\.0\.1 \d+$/)
  assert.equal(second, `name: ${hostname()}`)
  for (const line of rest) assert.match(line, /^address: \d+\.\d+\.\d+\.\d+$/)
})

test('recipe 12: several clients in one loop', async () => {
  const output = new recipes.Output()
  const port = new Stdio.Port()
  const serving = recipes.multiplexed(output, port, 0, 2)
  const number = await bound(port)
  const clients = [new Stdio.File(), new Stdio.File()]
  for (const client of clients) await client.connect('127.0.0.1', number)
  for (const [i, client] of clients.reverse().entries()) {
    await client.write(`hello ${i}`)
    assert.equal(await client.read(1024, 1), `back: hello ${i}`)
  }
  for (const client of clients) client.close()
  assert.equal(await serving, 0)
  port.close()
  assert.equal(output.out.match(/joined: 127\.0\.0\.1 \d+\n/g)?.length, 2)
  assert.equal(output.out.match(/left\n/g)?.length, 2)
})

test('recipe 13: a future', async (t) => {
  const output = new recipes.Output()
  const port = await website(t)
  const result = await recipes.withFutures(output, '127.0.0.1', port)
  assert.ok(result instanceof Concurrent.Settled)
  const response = result.get() as string
  assert.ok(response.endsWith(PAGE))
  assert.equal(output.out, `page of ${response.length} bytes\n`)
  const closed = new Stdio.Port()
  await closed.bind(0, 0, '127.0.0.1')
  const number = portOf(closed.query_address())
  await closed[Symbol.asyncDispose]()
  await recipes.withFutures(output, '127.0.0.1', number)
  assert.equal(output.err, 'no page: no connection\n')
})

test('recipe 14: options', async (t) => {
  const [port, sock, udp] = [new Stdio.Port(), new Stdio.File(), new Stdio.UDP()]
  t.after(() => [port.close(), sock.close(), udp.close()])
  assert.equal(await recipes.options(port, sock, udp, 0), 1)
  assert.match(String(port.query_address()), /^127\.0\.0\.1 \d+$/)
  assert.equal(await sock.connect('127.0.0.1', portOf(port.query_address())), 1)
  assert.equal(await udp.bind(0, '127.0.0.1'), udp)
})
