/** Ioto's TLS: the matrix of its client, its servers, and its settings. */

import assert from 'node:assert/strict'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { join } from 'node:path'
import { describe } from 'node:test'
import { type Connection, listen as listenAt, type ServerTlsOptions } from 'fairlead'
import type { IssueOptions } from 'fairlead/testing'
import {
  R_ERR_CANT_COMPLETE,
  R_ERR_CANT_CONNECT,
  R_ERR_CANT_INITIALIZE,
  R_ERR_CANT_READ,
  R_SOCKET_CONFIG_TLS,
  R_TLS_HAS_AUTHORITY,
  rAllocSocket,
  rConnectSocket,
  rFreeSocket,
  rFreeTlsSession,
  rGetSocketCustom,
  rGetSocketError,
  rGetTicks,
  rGetTlsSession,
  rIsSocketConnected,
  rIsSocketEof,
  rIsSocketSecure,
  rListenSocket,
  rReadSocket,
  rSetSocketCerts,
  rSetSocketCiphers,
  rSetSocketCustom,
  rSetSocketDefaultCerts,
  rSetSocketDefaultCiphers,
  rSetSocketDefaultVerify,
  rSetSocketVerify,
  rSetTls,
  rSetTlsAlpn,
  rSetTlsCerts,
  rSetTlsCiphers,
  rSetTlsDefaultAlpn,
  rSetTlsDefaultCerts,
  rSetTlsDefaultCiphers,
  rSetTlsDefaultVerify,
  rSetTlsSession,
  rSetTlsVerify,
  rWriteSocket,
  type RSocket,
  type RSocketCustom,
} from 'fairlead/ioto'
import { authority, beside, CA, CERT, client, file, greeter, hello, issue, issued, KEY, sayHello, stranger } from './ioto-certificates.js'
import { fiberTest, folder, portOf } from './ioto-fibers.js'

/** Tries a server that shows a certificate; verifies with the authority as told. */
async function attempt(
  tls: ServerTlsOptions,
  host: string,
  verify: readonly [number, number] | undefined,
): Promise<{ result: number; message: string }> {
  return beside(tls, async (port) => {
    const sp = rAllocSocket()
    rSetSocketCerts(sp, null, null, CA, null)
    if (verify !== undefined) rSetSocketVerify(sp, ...verify)
    const result = await rConnectSocket(sp, host, port, rGetTicks() + 10_000)
    if (result === 0) await hello(sp)
    else assert.equal(rIsSocketConnected(sp), false)
    await rFreeSocket(sp)
    return { result, message: rGetSocketError(sp) }
  })
}

interface Row {
  readonly certificate: IssueOptions & { from?: typeof authority }
  readonly host?: string
  readonly verify?: readonly [peer: number, issuer: number]
  readonly message?: string
}

/** What a certificate, a host and `rSetSocketVerify` come to. Without a message: connected. */
const MATRIX: readonly Row[] = [
  { certificate: { names: ['localhost'] } },
  {
    certificate: { names: ['other.example'] },
    verify: [1, 1],
    message: 'Certificate hostname mismatch. Expecting localhost got other.example',
  },
  {
    certificate: { names: ['other.example'] },
    verify: [1, 0],
    message: 'Certificate hostname mismatch. Expecting localhost got other.example',
  },
  { certificate: { names: ['other.example'] }, verify: [0, 1] },
  { certificate: { names: [], commonName: 'localhost' }, verify: [1, 1] },
  {
    certificate: { names: ['other.example'], commonName: 'localhost' },
    verify: [1, 1],
    message: 'Certificate hostname mismatch. Expecting localhost got localhost',
  },
  // Row 7: the original compares the address as if it were a name, and refuses. An address of the certificate is that address.
  { certificate: { names: ['127.0.0.1'] }, host: '127.0.0.1', verify: [1, 1] },
  { certificate: { names: [], commonName: '127.0.0.1' }, host: '127.0.0.1', verify: [1, 1] },
  { certificate: { names: ['localhost'], from: stranger }, verify: [1, 1], message: 'Certificate not trusted' },
  { certificate: { names: ['localhost'], from: stranger }, verify: [1, 0] },
  { certificate: { names: ['localhost'], selfSigned: true }, verify: [1, 1], message: 'Self-signed certificate' },
  {
    certificate: { names: ['other.example'], selfSigned: true },
    verify: [1, 0],
    message: 'Certificate hostname mismatch. Expecting localhost got other.example',
  },
]

describe('ioto: how a client judges a server', () => {
  for (const [i, { certificate, host = 'localhost', verify, message }] of MATRIX.entries()) {
    const { from = authority, ...options } = certificate
    const what = `${from === stranger ? 'unknown authority' : options.selfSigned ? 'self-signed' : 'right authority'}, for ${JSON.stringify(options)}`
    fiberTest(`row ${i + 1}: ${what}, ${host}, ${verify ?? 'default'}: ${message ?? 'connected'}`, async () => {
      const { cert, key } = await from.issue(options)
      assert.deepEqual(await attempt({ cert, key }, host, verify), {
        result: message === undefined ? 0 : R_ERR_CANT_COMPLETE,
        message: message ?? '',
      })
    })
  }

  fiberTest('row 11 goes on: a self-signed certificate is tolerated without the issuer, and without any verification', async () => {
    const { cert, key } = await authority.issue({ names: ['localhost'], selfSigned: true })
    for (const verify of [
      [1, 0],
      [0, 0],
    ] as const)
      assert.equal((await attempt({ cert, key }, 'localhost', verify)).result, 0)
  })

  fiberTest('a tolerated issuer excuses neither dates nor purpose nor the name', async () => {
    const now = Date.now()
    const expired = { validFrom: now - 2e6, validTo: now - 1e6 }
    const early = { validFrom: now + 1e6, validTo: now + 2e6 }
    for (const from of [authority, stranger]) {
      for (const verify of [
        [1, 1],
        [1, 0],
      ] as const) {
        const tried = async (options: IssueOptions) => attempt(await issue({ names: ['localhost'], ...options }, from), 'localhost', verify)
        assert.equal((await tried(expired)).message, 'Certificate has expired')
        assert.equal((await tried({ ...expired, selfSigned: true })).message, 'Certificate has expired')
        assert.equal((await tried(early)).message, 'Certificate verification error 9')
      }
    }
    const client = await issue({ names: ['localhost'], purpose: 'client' })
    assert.equal((await attempt(client, 'localhost', [1, 0])).message, 'Certificate verification error 26')
    assert.equal((await attempt(client, 'localhost', [0, 1])).result, 0)
  })

  fiberTest('names match whole left-most labels, in any case; an address never by a name alternative', async () => {
    const wild = await issue({ names: ['*.localhost'] })
    assert.match((await attempt(wild, 'localhost', [1, 1])).message, /hostname mismatch/)
    const { cert, key } = await authority.issue({ names: ['LOCALHOST'] })
    assert.equal((await attempt({ cert, key }, 'localhost', [1, 1])).result, 0)
    const other = await issue({ names: ['127.0.0.2'] })
    assert.match((await attempt(other, '127.0.0.1', [1, 1])).message, /hostname mismatch/)
  })

  fiberTest('without an authority of its own the store of the system judges', async (made) => {
    const kept = process.env['SSL_CERT_FILE']
    try {
      for (const [store, message] of [
        [CA, ''],
        [file(stranger.cert), 'Certificate not trusted'],
      ] as const) {
        process.env['SSL_CERT_FILE'] = store
        await beside(issued, async (port) => {
          const sp = made()
          rSetTls(sp)
          assert.equal(await rConnectSocket(sp, 'localhost', port, 0), message === '' ? 0 : R_ERR_CANT_COMPLETE)
          assert.equal(rGetSocketError(sp), message)
        })
      }
    } finally {
      if (kept === undefined) delete process.env['SSL_CERT_FILE']
      else process.env['SSL_CERT_FILE'] = kept
    }
  })

  fiberTest('the server is told the name that was dialled, and no address', async (made) => {
    const listener = await listenAt('tls://127.0.0.1:0', { tls: issued })
    for (const [host, name] of [
      ['localhost', 'localhost'],
      ['127.0.0.1', undefined],
    ] as const) {
      const accepting = listener.accept()
      const sp = await client(made, Number(new URL(listener.endpoint).port), () => {}, host)
      const server = await accepting
      assert.equal(server.security?.serverName ?? undefined, name)
      await rFreeSocket(sp)
      await server.close()
    }
    await listener.close()
  })

  fiberTest('a list of revoked certificates counts', async (made) => {
    const good = await authority.issue({ names: ['localhost'] })
    const bad = await authority.issue({ names: ['localhost'] })
    const list = file(await authority.revoke([bad.serialNumber]))
    for (const [{ cert, key }, message] of [
      [good, ''],
      [bad, 'Certificate verification error 23'],
    ] as const) {
      await beside({ cert, key }, async (port) => {
        const sp = made()
        rSetSocketCerts(sp, null, null, CA, list)
        assert.equal(await rConnectSocket(sp, 'localhost', port, 0), message === '' ? 0 : R_ERR_CANT_COMPLETE)
        assert.equal(rGetSocketError(sp), message)
      })
    }
  })
})

describe('ioto: how a server judges its clients', () => {
  fiberTest('by default a client needs a certificate of a known authority', async (made) => {
    const { port, greeted } = await greeter(made, (sp) => rSetSocketCerts(sp, null, null, CA, null))
    // In TLS 1.3 the client is through before the server has judged it.
    const bare = await client(made, port)
    assert.equal(await rWriteSocket(bare, 'GET ', 4), 4)
    assert.equal(await rReadSocket(bare, new Uint8Array(1), 1, rGetTicks() + 5_000), R_ERR_CANT_READ)
    assert.equal(rIsSocketEof(bare), true)
    assert.equal(greeted(), 0)
    const own = await authority.issue({ purpose: 'client' })
    const [cert, key] = [file(own.cert), file(own.key)]
    await hello(await client(made, port, (sp) => rSetSocketCerts(sp, key, cert, null, null)))
    assert.equal(greeted(), 1)
    const foreign = await stranger.issue({ purpose: 'client' })
    const [other, otherKey] = [file(foreign.cert), file(foreign.key)]
    const unknown = await client(made, port, (sp) => rSetSocketCerts(sp, otherKey, other, null, null))
    assert.equal(await rReadSocket(unknown, new Uint8Array(1), 1, rGetTicks() + 5_000), R_ERR_CANT_READ)
    assert.equal(greeted(), 1)
  })

  fiberTest('without the issuer any certificate will do, if its dates are right, but none will not', async (made) => {
    const { port, greeted } = await greeter(made, (sp) => rSetSocketVerify(sp, 1, 0))
    const bare = await client(made, port)
    assert.equal(await rReadSocket(bare, new Uint8Array(1), 1, rGetTicks() + 5_000), R_ERR_CANT_READ)
    const old = await stranger.issue({ purpose: 'client', validFrom: Date.now() - 2e6, validTo: Date.now() - 1e6 })
    const [oldCert, oldKey] = [file(old.cert), file(old.key)]
    const late = await client(made, port, (sp) => rSetSocketCerts(sp, oldKey, oldCert, null, null))
    assert.equal(await rReadSocket(late, new Uint8Array(1), 1, rGetTicks() + 5_000), R_ERR_CANT_READ)
    assert.equal(greeted(), 0)
    const foreign = await stranger.issue({ purpose: 'client' })
    const [cert, key] = [file(foreign.cert), file(foreign.key)]
    await hello(await client(made, port, (sp) => rSetSocketCerts(sp, key, cert, null, null)))
    assert.equal(greeted(), 1)
  })

  fiberTest('with verification off nobody needs a certificate', async (made) => {
    for (const off of [0, false] as const) {
      const { port } = await greeter(made, (sp) => rSetSocketVerify(sp, off, off))
      await hello(await client(made, port))
    }
  })

  fiberTest('the matrix of its clients: certificate by certificate, as verified', async (made) => {
    const now = Date.now()
    const own = async (o: IssueOptions, from = authority) => {
      const { cert, key } = await from.issue({ purpose: 'client', ...o })
      return [file(key), file(cert)] as const
    }
    const certificates = {
      known: await own({}),
      foreign: await own({}, stranger),
      selfSigned: await own({ selfSigned: true }),
      expired: await own({ validFrom: now - 2e6, validTo: now - 1e6 }),
      early: await own({ validFrom: now + 1e6, validTo: now + 2e6 }),
      ofServer: await own({ purpose: 'server' }),
      none: [null, null] as const,
    }
    const all = Object.keys(certificates)
    const rows: readonly (readonly [verify: readonly [number, number], welcome: readonly string[]])[] = [
      [[1, 1], ['known']],
      [[-1, -1], ['known']],
      [
        [1, 0],
        ['known', 'foreign', 'selfSigned'],
      ],
      [[0, 1], all],
      [[0, 0], all],
    ]
    for (const [verify, welcome] of rows) {
      const { port, greeted } = await greeter(made, (sp) => {
        rSetSocketCerts(sp, null, null, CA, null)
        rSetSocketVerify(sp, ...verify)
      })
      const served: string[] = []
      for (const [name, [key, cert]] of Object.entries(certificates)) {
        const sp = await client(made, port, (it) => rSetSocketCerts(it, key, cert, null, null))
        if ((await rReadSocket(sp, new Uint8Array(5), 5, rGetTicks() + 5_000)) > 0) served.push(name)
        else assert.equal(rIsSocketEof(sp), true)
        await rFreeSocket(sp)
      }
      assert.deepEqual(served, welcome, verify.join())
      assert.equal(greeted(), welcome.length)
    }
  })

  fiberTest('in TLS 1.2 the connecting of a client without a certificate fails', async (made) => {
    const { port } = await greeter(made, (sp) => rSetSocketCerts(sp, null, null, CA, null))
    rSetSocketCustom((_sp, _cmd, arg) => (arg.maxVersion = 'TLSv1.2'))
    try {
      const bare = made()
      rSetSocketCerts(bare, null, null, CA, null)
      assert.equal(await rConnectSocket(bare, 'localhost', port, rGetTicks() + 5_000), R_ERR_CANT_COMPLETE)
      assert.equal(rGetSocketError(bare), 'Cannot upgrade socket to TLS')
    } finally {
      rSetSocketCustom(null)
    }
  })

  fiberTest('the default authority is not one for listeners', async (made) => {
    rSetSocketDefaultCerts(null, null, CA, null)
    const own = await authority.issue({ purpose: 'client' })
    const [cert, key] = [file(own.cert), file(own.key)]
    const { port, greeted } = await greeter(made, () => {})
    const sp = made()
    rSetSocketCerts(sp, key, cert, null, null)
    assert.equal(await rConnectSocket(sp, 'localhost', port, rGetTicks() + 5_000), 0, rGetSocketError(sp))
    assert.equal(await rReadSocket(sp, new Uint8Array(1), 1, rGetTicks() + 5_000), R_ERR_CANT_READ)
    assert.equal(greeted(), 0)
  })

  fiberTest('a listener without a certificate listens, and every handshake fails', async (made) => {
    const sp = made()
    rSetTls(sp)
    rSetTls(sp)
    assert.equal(rIsSocketSecure(sp), true)
    let served = false
    assert.equal(await rListenSocket(sp, '127.0.0.1', 0, () => (served = true), null), 0)
    const dialler = made()
    rSetSocketVerify(dialler, 0, 0)
    assert.equal(await rConnectSocket(dialler, 'localhost', portOf(sp), rGetTicks() + 5_000), R_ERR_CANT_COMPLETE)
    assert.equal(rGetSocketError(dialler), 'Cannot upgrade socket to TLS')
    assert.equal(served, false)
  })
})

describe('ioto: settings of TLS', () => {
  fiberTest('what cannot be read or used fails connecting with -22 and listening with -26', async (made) => {
    const missing = join(folder, 'missing')
    const junk = file('junk')
    const other = file((await authority.issue()).key)
    for (const [first, second, third, message] of [
      [null, null, missing, `Unable to set certificate locations: ${missing}`],
      [null, null, junk, `Unable to set certificate locations: ${junk}`],
      [KEY, missing, null, `Unable to read certificate ${missing}`],
      [KEY, junk, null, `Unable to read certificate ${junk}`],
      [KEY, file('-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'), null, 'Unable to load certificate '],
      [missing, CERT, null, `Unable to read key ${missing}`],
      [junk, CERT, null, `Unable to read key ${junk}`],
      [file('-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n'), CERT, null, 'Unable to use key '],
      [null, CERT, null, `Unable to use key ${CERT}`],
      [other, CERT, null, `Check of private key file failed: ${other}`],
    ] as const) {
      const sp = made()
      rSetSocketCerts(sp, first, second, third, null)
      await beside(issued, async (port) => assert.equal(await rConnectSocket(sp, 'localhost', port, 0), R_ERR_CANT_CONNECT, message))
      assert.ok(rGetSocketError(sp).startsWith(message), rGetSocketError(sp))
      assert.equal(await rListenSocket(sp, '127.0.0.1', 0, () => {}, null), R_ERR_CANT_INITIALIZE)
      assert.ok(rGetSocketError(sp).startsWith(message), rGetSocketError(sp))
    }
  })

  fiberTest('certificates come as PEM, as DER and in place, in the documented order and in that of the header', async (made) => {
    const certDer = file(new X509Certificate(issued.cert).raw)
    const keyDer = file(createPrivateKey(issued.key).export({ type: 'pkcs8', format: 'der' }))
    const caDer = file(new X509Certificate(authority.cert).raw)
    const both = file(issued.cert + issued.key)
    const orders: ((sp: RSocket) => void)[] = [
      (sp) => rSetSocketCerts(sp, KEY, CERT, CA, null),
      (sp) => rSetSocketCerts(sp, CA, KEY, CERT, null),
      (sp) => rSetSocketCerts(sp, null, KEY, CERT, null),
      (sp) => rSetSocketCerts(sp, null, keyDer, certDer, null),
      (sp) => rSetSocketCerts(sp, null, null, both, null),
      (sp) => rSetSocketCerts(sp, keyDer, certDer, caDer, null),
      (sp) => rSetSocketCerts(sp, `@${issued.key}`, `@${issued.cert}`, null),
      (sp) => rSetSocketCerts(sp, null, both, null),
      (sp) => {
        rSetSocketCerts(sp, KEY, null, null)
        rSetSocketCerts(sp, null, CERT, null)
      },
      (sp) => {
        rSetTls(sp)
        if (sp.tls) rSetTlsCerts(sp.tls, KEY, CERT, null)
      },
    ]
    for (const set of orders) {
      const sp = made()
      set(sp)
      rSetSocketVerify(sp, 0, 0)
      assert.equal(await rListenSocket(sp, '127.0.0.1', 0, sayHello, null), 0, rGetSocketError(sp))
      await hello(await client(made, portOf(sp)))
      const first = made()
      rSetSocketCerts(first, CA, null, null)
      assert.equal(await rConnectSocket(first, 'localhost', portOf(sp), 0), 0, rGetSocketError(first))
      await rFreeSocket(sp)
    }
  })

  fiberTest('ciphers: of either kind, by commas or colons; switched on before TLS is', async (made) => {
    const { port } = await greeter(made, (sp) => rSetSocketVerify(sp, 0, 0))
    const suite = (sp: RSocket) => (sp.beneath as Connection).security?.cipher
    const older = (sp: RSocket) => (sp.beneath as Connection).security?.protocol
    const chosen = await client(made, port, (sp) => rSetSocketCiphers(sp, 'TLS_CHACHA20_POLY1305_SHA256'))
    assert.equal(suite(chosen), 'TLS_CHACHA20_POLY1305_SHA256')
    const plain = made()
    rSetSocketCiphers(plain, 'ECDHE-ECDSA-AES256-GCM-SHA384,ECDHE-ECDSA-AES128-GCM-SHA256')
    assert.equal(rIsSocketSecure(plain), true)
    rSetSocketCerts(plain, null, null, CA, null)
    assert.equal(await rConnectSocket(plain, 'localhost', port, 0), 0, rGetSocketError(plain))
    assert.equal(older(plain), 'TLSv1.3')
    // Those of TLS 1.2 are for TLS 1.2, of either side.
    await beside({ ...issued, maxVersion: 'TLSv1.2' }, async (at) => {
      for (const bits of [256, 128]) {
        const hash = bits === 256 ? 'SHA384' : 'SHA256'
        const sp = await client(made, at, (it) => rSetSocketCiphers(it, `ECDHE-ECDSA-AES${bits}-GCM-${hash}`))
        assert.deepEqual([older(sp), suite(sp)], ['TLSv1.2', `TLS_ECDHE_ECDSA_WITH_AES_${bits}_GCM_${hash}`])
      }
    })
    const chooser = await greeter(made, (sp) => {
      rSetSocketVerify(sp, 0, 0)
      rSetSocketCiphers(sp, 'TLS_AES_128_GCM_SHA256,ECDHE-ECDSA-AES128-GCM-SHA256')
    })
    assert.equal(suite(await client(made, chooser.port)), 'TLS_AES_128_GCM_SHA256')
    const apart = made()
    rSetSocketCerts(apart, null, null, CA, null)
    rSetSocketCiphers(apart, 'TLS_CHACHA20_POLY1305_SHA256')
    rSetSocketCustom((_sp, _cmd, arg) => (arg.minVersion = 'TLSv1.3'))
    try {
      assert.equal(await rConnectSocket(apart, 'localhost', chooser.port, 0), R_ERR_CANT_COMPLETE)
    } finally {
      rSetSocketCustom(null)
    }
    for (const none of ['', ',', '::']) {
      const sp = made()
      rSetSocketCiphers(sp, none)
      assert.equal(await rConnectSocket(sp, 'localhost', port, 0), R_ERR_CANT_CONNECT)
      assert.equal(rGetSocketError(sp), `Unable to define ciphers "${none}"`)
    }
    const bad = made()
    rSetTls(bad)
    if (bad.tls) rSetTlsCiphers(bad.tls, 'NO-SUCH-CIPHER')
    assert.equal(await rConnectSocket(bad, 'localhost', port, 0), R_ERR_CANT_CONNECT)
    assert.equal(rGetSocketError(bad), 'Unable to define ciphers "NO-SUCH-CIPHER"')
    rSetSocketCerts(bad, KEY, CERT, null)
    assert.equal(await rListenSocket(bad, '127.0.0.1', 0, () => {}, null), R_ERR_CANT_INITIALIZE)
  })

  fiberTest('the settings of a TLS layer that is not there do nothing, and what is left out stays as it was', async (made) => {
    const sp = made()
    rSetTlsCerts(sp.tls, KEY, CERT, CA, null)
    rSetTlsCiphers(sp.tls, 'NO-SUCH-CIPHER')
    rSetTlsVerify(sp.tls, 0, 0)
    rSetTlsAlpn(sp.tls, 'mqtt')
    rSetTlsSession(sp, rGetTlsSession(sp))
    assert.equal(rIsSocketSecure(sp), false)
    rSetSocketCerts(sp, null, null, CA, null)
    ;(rSetSocketCerts as (it: RSocket, ...args: (string | undefined)[]) => void)(sp, KEY, CERT)
    const { port } = await greeter(made, (it) => rSetSocketCerts(it, null, null, CA, null))
    const own = await authority.issue({ purpose: 'client' })
    rSetSocketCerts(sp, file(own.key), file(own.cert), null, null)
    assert.equal(await rConnectSocket(sp, 'localhost', port, rGetTicks() + 5_000), 0, rGetSocketError(sp))
    await hello(sp)
  })

  fiberTest('what a socket has not set comes from the process', async (made) => {
    rSetSocketDefaultCerts(KEY, CERT, CA, null)
    rSetSocketDefaultVerify(1, 0)
    rSetSocketDefaultCiphers('TLS_AES_128_GCM_SHA256')
    rSetTlsDefaultAlpn('ours')
    try {
      const server = made()
      rSetTls(server)
      if (server.tls) rSetTlsVerify(server.tls, 0, 0)
      assert.equal(await rListenSocket(server, '127.0.0.1', 0, sayHello, null), 0)
      const sp = made()
      rSetSocketVerify(sp, -1, -1)
      assert.equal(await rConnectSocket(sp, 'localhost', portOf(server), 0), 0, rGetSocketError(sp))
      const { security } = sp.beneath as Connection
      assert.deepEqual([security?.cipher, security?.alpn], ['TLS_AES_128_GCM_SHA256', 'ours'])
      await beside(await issue({}, stranger), async (port) => assert.equal(await rConnectSocket(sp, 'localhost', port, 0), 0))
      rSetSocketVerify(sp, 1, 1)
      await beside(await issue({}, stranger), async (port) =>
        assert.equal(await rConnectSocket(sp, 'localhost', port, 0), R_ERR_CANT_COMPLETE),
      )
    } finally {
      // Null keeps certificates, so these are given back in a way nobody here looks at.
      rSetTlsDefaultCerts(null, null, null)
      rSetTlsDefaultVerify(-1, -1)
      rSetTlsDefaultCiphers(null)
      rSetTlsDefaultAlpn(null)
    }
  })

  fiberTest('application protocols', async (made) => {
    const { port } = await greeter(made, (sp) => {
      rSetSocketVerify(sp, 0, 0)
      if (sp.tls) rSetTlsAlpn(sp.tls, 'mqtt')
    })
    const sp = await client(made, port, (it) => {
      if (it.tls) rSetTlsAlpn(it.tls, 'http/1.1, mqtt')
    })
    assert.equal((sp.beneath as Connection).security?.alpn, 'mqtt')
    const other = made()
    rSetSocketCerts(other, null, null, CA)
    if (other.tls) rSetTlsAlpn(other.tls, 'unknown')
    assert.equal(await rConnectSocket(other, 'localhost', port, 0), R_ERR_CANT_COMPLETE)
  })

  fiberTest('a session taken from one socket is resumed by another, and judged again', async (made) => {
    const { port } = await greeter(made, (sp) => rSetSocketVerify(sp, 0, 0))
    const first = await client(made, port)
    assert.equal(rGetTlsSession(rAllocSocket()), null)
    await hello(first)
    const session = rGetTlsSession(first)
    assert.notEqual(session, null)
    const resumed = (sp: RSocket) => (sp.beneath as Connection).security?.resumed
    const second = await client(made, port, (sp) => rSetTlsSession(sp, session))
    assert.equal(resumed(second), true)
    await hello(second)
    assert.equal(resumed(await client(made, port)), false)
    rFreeTlsSession(session)
    assert.equal(rGetTlsSession(first), null)
    rFreeTlsSession(null)
    // A session made without verification does not excuse the certificate.
    await beside(await issue({}, stranger), async (at) => {
      const loose = made()
      rSetSocketCerts(loose, null, null, CA)
      rSetSocketVerify(loose, 0, 0)
      assert.equal(await rConnectSocket(loose, 'localhost', at, 0), 0)
      await hello(loose)
      const strict = made()
      rSetSocketCerts(strict, null, null, CA)
      rSetTlsSession(strict, rGetTlsSession(loose))
      assert.equal(await rConnectSocket(strict, 'localhost', at, 0), R_ERR_CANT_COMPLETE)
      assert.equal(rGetSocketError(strict), 'Certificate not trusted')
    })
  })

  fiberTest('the hook of the process sees and changes the settings', async (made) => {
    const seen: unknown[] = []
    const { port } = await greeter(made, (sp) => rSetSocketVerify(sp, 0, 0))
    const hook: RSocketCustom = (sp, cmd, arg, flags) => {
      seen.push([rIsSocketSecure(sp), cmd, flags])
      arg.maxVersion = 'TLSv1.2'
    }
    rSetSocketCustom(hook)
    try {
      assert.equal(rGetSocketCustom(), hook)
      const sp = await client(made, port)
      assert.equal((sp.beneath as Connection).security?.protocol, 'TLSv1.2')
    } finally {
      rSetSocketCustom(null)
    }
    assert.deepEqual(seen, [[true, R_SOCKET_CONFIG_TLS, R_TLS_HAS_AUTHORITY]])
  })

  fiberTest('a message does not show what stands in place of a file', async (made) => {
    const foreign = await issue({}, stranger)
    const refusals = [
      [`@${foreign.key}`, `@${issued.cert}`, 'Check of private key file failed: @…'],
      ['@no key', `@${issued.cert}`, 'Unable to use key @…'],
      [`@${issued.key}`, '@no certificate', 'Unable to load certificate @…'],
    ] as const
    for (const [key, cert, message] of refusals) {
      const sp = made()
      rSetSocketCerts(sp, key, cert, null)
      assert.equal(await rListenSocket(sp, '127.0.0.1', 0, sayHello, null), R_ERR_CANT_INITIALIZE)
      assert.equal(rGetSocketError(sp), message)
    }
    const sp = made()
    rSetSocketCerts(sp, null, null, '@no certificate')
    assert.equal(await rConnectSocket(sp, '127.0.0.1', 9, 0), R_ERR_CANT_CONNECT)
    assert.equal(rGetSocketError(sp), 'Unable to set certificate locations: @…')
  })

  fiberTest('what the hook of the process throws is not lost', async (made) => {
    const mistake = new Error('a mistake of the program')
    rSetSocketCustom(() => {
      throw mistake
    })
    try {
      const sp = made()
      rSetSocketVerify(sp, 0, 0)
      await assert.rejects(rListenSocket(sp, '127.0.0.1', 0, sayHello, null), mistake)
      await assert.rejects(rConnectSocket(sp, '127.0.0.1', 9, 0), mistake)
    } finally {
      rSetSocketCustom(null)
    }
  })
})
