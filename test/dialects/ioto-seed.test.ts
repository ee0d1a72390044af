/** The documentation of Ioto's sockets, example by example in its order, and the program that this library's page carries over. */

import assert from 'node:assert/strict'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { type Connection, listen as listenAt } from 'fairlead'
import {
  rAllocSocket,
  rCloseSocket,
  rConnectSocket,
  rFreeSocket,
  rGetElapsedTicks,
  rGetSocketError,
  rGetTicks,
  rGetTime,
  rIsSocketClosed,
  rIsSocketEof,
  rIsSocketSecure,
  rListenSocket,
  rReadSocket,
  rSetSocketCerts,
  rSetSocketCiphers,
  rSetSocketVerify,
  rSleep,
  rWriteSocket,
  type RSocket,
} from 'fairlead/ioto'
import { testCredentials } from '../matrix.js'
import { hasIpv6 } from '../support/ipv6.js'
import { fiberTest, files, pair, portOf, text } from './ioto-fibers.js'

describe('ioto: the examples of the documentation', () => {
  fiberTest('a socket is allocated and freed', async () => {
    const sock = rAllocSocket()
    await rFreeSocket(sock)
    assert.equal(rIsSocketClosed(sock), true)
  })

  fiberTest('connecting, and listening on all interfaces', async (made) => {
    const data = { served: 0 }
    async function connectionHandler(arg: typeof data, client: RSocket) {
      arg.served++
      await rWriteSocket(client, 'served', 6, 0)
      await rFreeSocket(client)
    }
    const listener = made()
    assert.equal(await rListenSocket(listener, null, 0, connectionHandler, data), 0)
    const hosts = ['localhost', '127.0.0.1', ...(hasIpv6 ? ['::1'] : [])]
    for (const host of hosts) {
      const sock = made()
      const status = await rConnectSocket(sock, host, portOf(listener), 0)
      if (status < 0) assert.fail(`${host}: ${rGetSocketError(sock)}`)
      const buf = new Uint8Array(6)
      assert.equal(await rReadSocket(sock, buf, 6, 0), 6)
    }
    assert.equal(data.served, hosts.length)
  })

  fiberTest('testing a socket, closing and freeing it', async (made) => {
    const { client: sock, server } = await pair(made)
    assert.deepEqual([rIsSocketClosed(sock), rIsSocketEof(sock), rIsSocketSecure(sock)], [false, false, false])
    await rCloseSocket(server)
    await rReadSocket(sock, new Uint8Array(1), 1, 0)
    if (rIsSocketEof(sock)) assert.equal(rIsSocketClosed(sock), false)
    else assert.fail('there is no more data')
    await rCloseSocket(sock)
    assert.equal(rIsSocketClosed(sock), true)
    await rFreeSocket(sock)
  })

  fiberTest('reading and writing until a deadline that is a time', async (made) => {
    const { client: sock, server } = await pair(made)
    const deadline = rGetTime() + 30 * 1000
    const out = new TextEncoder().encode('a block of data')
    assert.equal(await rWriteSocket(server, out, out.length, deadline), out.length)
    const buf = new Uint8Array(1024)
    const count = await rReadSocket(sock, buf, buf.length, deadline)
    assert.equal(text(buf, count), 'a block of data')
  })

  fiberTest('the deadline zero is none: the call waits, and other fibers run', async (made) => {
    const { client: sock, server } = await pair(made)
    const from = rGetTicks()
    const reading = rReadSocket(sock, new Uint8Array(1), 1, 0)
    await rSleep(50)
    await rWriteSocket(server, 'x', 1, 0)
    assert.equal(await reading, 1)
    assert.ok(rGetElapsedTicks(from) >= 49)
  })

  fiberTest('certificates, ciphers and verification, on both sides', async (made) => {
    const { ca, cert, key } = await files
    const listener = made()
    rSetSocketCerts(listener, key, cert, ca, null)
    rSetSocketCiphers(listener, 'TLS_CHACHA20_POLY1305_SHA256')
    rSetSocketVerify(listener, 0, 0)
    const handler = async (_arg: null, client: RSocket) => {
      await rWriteSocket(client, 'secret', 6, 0)
      await rFreeSocket(client)
    }
    assert.equal(await rListenSocket(listener, null, 0, handler, null), 0, rGetSocketError(listener))
    const sock = made()
    rSetSocketCerts(sock, null, null, ca, null)
    rSetSocketVerify(sock, 1, 1)
    assert.equal(await rConnectSocket(sock, 'localhost', portOf(listener), 0), 0, rGetSocketError(sock))
    assert.equal(rIsSocketSecure(sock), true)
    assert.equal((sock.beneath as Connection).security?.cipher, 'TLS_CHACHA20_POLY1305_SHA256')
    const buf = new Uint8Array(16)
    assert.equal(text(buf, await rReadSocket(sock, buf, buf.length, 0)), 'secret')
  })
})

test('ioto: the program that docs/dialects/ioto.md carries over asks a TLS server its question', async () => {
  const page = readFileSync(new URL('../../../docs/dialects/ioto.md', import.meta.url), 'utf8')
  const [, program = ''] = /^```ts no-run\n([\s\S]*?)^```/m.exec(page) ?? []
  const { cert, key } = await testCredentials()
  const listener = await listenAt('tls://127.0.0.1:0', { tls: { cert, key } })
  const serving = (async () => {
    await using client = await listener.accept()
    const question = await client.readLine()
    await client.write(`answer to ${question}\n`)
    await client.end()
    await client.readAll()
  })()
  // Its names and its output are this test's; it has no types of its own.
  const answers: string[] = []
  const given = { port: Number(new URL(listener.endpoint).port), answered: (data: Uint8Array) => answers.push(text(data, data.length)) }
  const replaced: readonly (readonly [string, string])[] = [
    ["'server.example', 4433", `'localhost', globalThis.iotoProgram.port`],
    ["'ca.pem'", JSON.stringify((await files).ca)],
    ['process.stdout.write(', 'globalThis.iotoProgram.answered('],
  ]
  let code = program
  for (const [theirs, ours] of replaced) {
    assert.ok(code.includes(theirs), theirs)
    code = code.replace(theirs, ours)
  }
  // Below the root, so that `fairlead/ioto` means this package.
  const path = new URL(`ioto-program-${process.pid}.mjs`, import.meta.url)
  Object.assign(globalThis, { iotoProgram: given })
  writeFileSync(path, code)
  try {
    await import(path.href)
  } finally {
    rmSync(path)
    Reflect.deleteProperty(globalThis, 'iotoProgram')
  }
  assert.deepEqual(answers, ['answer to question\n'])
  await serving
  await listener.close()
})
