/** Ioto's TLS with peers that misbehave, and with openssl. */

import assert from 'node:assert/strict'
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { after, describe } from 'node:test'
import { connect as dial, listen as listenAt } from 'fairlead'
import {
  R_ERR_CANT_COMPLETE,
  R_ERR_CANT_CONNECT,
  R_ERR_CANT_READ,
  rCloseSocket,
  rConnectSocket,
  rFreeSocket,
  rGetSocketError,
  rGetSocketHandle,
  rGetTicks,
  rIsSocketConnected,
  rIsSocketEof,
  rReadSocket,
  rSetSocketCerts,
  rSetSocketCustom,
  rSetSocketVerify,
  rSpawnFiber,
  rWriteSocket,
  type RSocket,
} from 'fairlead/ioto'
import { authority, CA, CERT, client, file, greeter, hello, issued, KEY } from './ioto-certificates.js'
import { fiberTest } from './ioto-fibers.js'

describe('ioto: TLS with peers that misbehave', () => {
  fiberTest('a peer that does not speak TLS is -21, a silent one -22 at the deadline', async (made) => {
    const listener = await listenAt('tcp://127.0.0.1:0')
    const port = Number(new URL(listener.endpoint).port)
    const sp = made()
    rSetSocketVerify(sp, 0, 0)
    const accepting = listener.accept().then(async (connection) => {
      await connection.write('HTTP/1.0 400 no\r\n\r\n')
      return connection
    })
    assert.equal(await rConnectSocket(sp, '127.0.0.1', port, rGetTicks() + 5_000), R_ERR_CANT_COMPLETE)
    assert.equal(rGetSocketError(sp), 'Cannot upgrade socket to TLS')
    await (await accepting).close()
    assert.equal(await rConnectSocket(sp, '127.0.0.1', port, rGetTicks() + 100), R_ERR_CANT_CONNECT)
    assert.equal(rGetSocketError(sp), `Cannot connect socket to 127.0.0.1:${port}`)
    await listener.close()
  })

  fiberTest('without a deadline a silent peer has the time of a handshake', async (made) => {
    const listener = await listenAt('tcp://127.0.0.1:0')
    let given: number | undefined
    rSetSocketCustom((_sp, _cmd, arg) => {
      given = arg.handshakeTimeout
      arg.handshakeTimeout = 50
    })
    try {
      const sp = made()
      rSetSocketVerify(sp, 0, 0)
      assert.equal(await rConnectSocket(sp, '127.0.0.1', Number(new URL(listener.endpoint).port), 0), R_ERR_CANT_CONNECT)
      assert.equal(given, 30_000)
    } finally {
      rSetSocketCustom(null)
      await listener.close()
    }
  })

  fiberTest('closing ends a handshake at once, and so does connecting anew', async (made) => {
    const listener = await listenAt('tcp://127.0.0.1:0')
    const port = Number(new URL(listener.endpoint).port)
    for (const end of [rCloseSocket, rFreeSocket, (it: RSocket) => rConnectSocket(it, null, 0)]) {
      const sp = made()
      rSetSocketVerify(sp, 0, 0)
      const connecting = rConnectSocket(sp, '127.0.0.1', port, 0)
      const peer = await listener.accept()
      // Its greeting has come: it waits for the answer.
      await peer.waitReadable()
      assert.deepEqual([rIsSocketConnected(sp), rGetSocketHandle(sp)], [false, -1])
      rSpawnFiber('ender', () => end(sp), null)
      assert.equal(await connecting, R_ERR_CANT_CONNECT)
      await peer.readAll({ timeout: 5_000 }).catch(() => {})
      assert.notEqual(peer.state, 'open')
      peer.abort()
    }
    await listener.close()
  })

  fiberTest('a listener freed during a handshake ends it, and calls no handler', async (made) => {
    const { port, greeted, listener } = await greeter(made, (sp) => rSetSocketVerify(sp, 0, 0))
    const peer = await dial(`tcp://127.0.0.1:${port}`)
    // A part of a record: the handshake is under way when another has come behind it.
    await peer.write(new Uint8Array([22, 3, 1, 1, 0, 1]))
    await hello(await client(made, port))
    await rFreeSocket(listener)
    await peer.readAll({ timeout: 5_000 }).catch((error: unknown) => assert.doesNotMatch(String(error), /DEADLINE/))
    assert.equal(greeted(), 1)
    peer.abort()
  })

  fiberTest('peers that send garbage, or nothing, keep no other from being served', async (made) => {
    const { port, greeted } = await greeter(made, (sp) => rSetSocketVerify(sp, 0, 0))
    const silent = await Promise.all(Array.from({ length: 20 }, () => dial(`tcp://127.0.0.1:${port}`)))
    for (const garbage of [
      'GET / HTTP/1.0\r\n\r\n',
      '\0\0\0\0\0\0',
      new Uint8Array(70_000).fill(22),
      new Uint8Array([22, 3, 1, 255, 255]),
    ]) {
      const peer = await dial(`tcp://127.0.0.1:${port}`)
      await peer.write(garbage).catch(() => {})
      await peer.end().catch(() => {})
      await peer.readAll({ timeout: 5_000 }).catch((error: unknown) => assert.doesNotMatch(String(error), /DEADLINE/))
      peer.abort()
      const next = await client(made, port)
      await hello(next)
      await rFreeSocket(next)
    }
    assert.equal(greeted(), 4)
    for (const peer of silent) peer.abort()
  })

  fiberTest('a stream cut off without close_notify is an end of which a message tells', async (made) => {
    const listener = await listenAt('tcp://127.0.0.1:0')
    const cut = (async () => {
      const raw = await listener.accept()
      const secure = await raw.startTls({ ...issued, role: 'server', implicit: true })
      await secure.write('hello')
      await secure.flush()
      secure.abort()
    })()
    const sp = await client(made, Number(new URL(listener.endpoint).port))
    const buf = new Uint8Array(10)
    let result = 1
    while (result > 0) result = await rReadSocket(sp, buf, 10)
    assert.equal(result, R_ERR_CANT_READ)
    assert.equal(rIsSocketEof(sp), true)
    assert.notEqual(rGetSocketError(sp), '')
    await cut
    await listener.close()
  })
})

const running: ChildProcessWithoutNullStreams[] = []
after(() => running.forEach((peer) => peer.kill('SIGKILL')))

/** A server of openssl on a free port. */
async function opensslServer(...more: string[]): Promise<{ peer: ChildProcessWithoutNullStreams; port: number; output: () => string }> {
  const peer = spawn('openssl', ['s_server', '-accept', '127.0.0.1:0', '-cert', CERT, '-key', KEY, '-CAfile', CA, ...more])
  running.push(peer)
  let out = ''
  const port = await new Promise<number>((resolve) =>
    peer.stdout.on('data', (part: Buffer) => {
      out += String(part)
      const told = /ACCEPT [\d.]+:(\d+)\n/.exec(out)?.[1]
      if (told !== undefined) resolve(Number(told))
    }),
  )
  return { peer, port, output: () => out }
}

describe('ioto against openssl', { skip: spawnSync('openssl', ['version']).status !== 0 }, () => {
  for (const version of ['-tls1_2', '-tls1_3']) {
    fiberTest(`a client of openssl, ${version}`, async (made) => {
      const { port } = await greeter(made, (sp) => rSetSocketVerify(sp, 0, 0))
      const args = ['s_client', '-connect', `127.0.0.1:${port}`, '-CAfile', CA, '-verify_return_error', '-quiet', '-no_ign_eof', version]
      const peer = spawn('openssl', args)
      let out = ''
      peer.stdout.on('data', (part: Buffer) => {
        out += String(part)
        if (out.includes('hello')) peer.stdin.end()
      })
      const [status] = await once(peer, 'close')
      assert.equal(out, 'hello')
      assert.equal(status, 0)
    })

    fiberTest(`a server of openssl that wants a certificate, ${version}`, async (made) => {
      const { peer, port, output } = await opensslServer('-Verify', '1', '-naccept', '1', version)
      const over = once(peer, 'close')
      const own = await authority.issue({ purpose: 'client' })
      const sp = await client(made, port, (it) => rSetSocketCerts(it, file(own.key), file(own.cert), null))
      assert.equal(await rWriteSocket(sp, 'from here\n', 10), 10)
      peer.stdin.write('hello')
      await hello(sp)
      await rFreeSocket(sp)
      await over
      assert.match(output(), /from here/)
    })

    fiberTest(`a server of openssl that is killed is no end in order, ${version}`, async (made) => {
      const { peer, port } = await opensslServer(version)
      const sp = await client(made, port)
      peer.stdin.write('hello')
      await hello(sp)
      peer.kill('SIGKILL')
      assert.equal(await rReadSocket(sp, new Uint8Array(1), 1, rGetTicks() + 5_000), R_ERR_CANT_READ)
      assert.equal(rIsSocketEof(sp), true)
      assert.match(rGetSocketError(sp), /close_notify|reset/)
    })
  }

  fiberTest('TLS 1.1 is refused on both sides', async (made) => {
    const old = ['-tls1_1', '-cipher', 'ALL:@SECLEVEL=0']
    const { peer, port } = await opensslServer(...old)
    const sp = made()
    rSetSocketVerify(sp, 0, 0)
    assert.equal(await rConnectSocket(sp, 'localhost', port, rGetTicks() + 5_000), R_ERR_CANT_COMPLETE)
    peer.kill('SIGKILL')
    const server = await greeter(made, (it) => rSetSocketVerify(it, 0, 0))
    const dialler = spawn('openssl', ['s_client', '-connect', `127.0.0.1:${server.port}`, ...old])
    dialler.stdin.end()
    const [status] = await once(dialler, 'close')
    assert.notEqual(status, 0)
    assert.equal(server.greeted(), 0)
  })
})
