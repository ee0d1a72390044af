import assert from 'node:assert/strict'
import { createPrivateKey, generateKeyPairSync } from 'node:crypto'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { DEFAULT_CIPHERS } from 'node:tls'
import { pathToFileURL } from 'node:url'
import { type Authority, developmentAuthority, type Issued } from 'fairlead/testing'
import { systemAuthorities } from '#src/credentials.js'
import { prepareClient, prepareServer, type ServerTlsOptions } from '#src/tls-options.js'
import { HOST, pair } from './tls-peers.js'

let directory: string
let authority: Authority
let issued: Issued

before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'fairlead-tls-'))
  authority = await developmentAuthority()
  issued = await authority.issue({ names: [HOST] })
  writeFileSync(join(directory, 'cert.pem'), issued.cert)
  writeFileSync(join(directory, 'key.pem'), issued.key)
})

after(() => rmSync(directory, { recursive: true, force: true }))

const encrypted = (type: 'pkcs8' | 'sec1') =>
  createPrivateKey(issued.key).export({ type, format: 'pem', cipher: 'aes-128-cbc', passphrase: 'right' }) as string

test('certificates and keys are taken as text, path, URL, bytes and function', async () => {
  const paths = [join(directory, 'cert.pem'), join(directory, 'key.pem')] as const
  const forms: ServerTlsOptions[] = [
    { cert: issued.cert, key: issued.key },
    { cert: paths[0], key: paths[1] },
    { cert: pathToFileURL(paths[0]), key: pathToFileURL(paths[1]) },
    { cert: Buffer.from(issued.cert), key: new Uint8Array(Buffer.from(issued.key)) },
    { cert: () => issued.cert, key: () => paths[1] },
    { cert: issued.cert + issued.key, key: undefined },
    { cert: `comment\r\n${issued.cert.replaceAll('\n', '\r\n')}`, key: `comment\n${issued.key}` },
  ]
  for (const server of forms) {
    const both = await pair({ server, client: { ca: authority.cert } })
    both.client.destroy()
    both.server.destroy()
  }
})

test('encrypted keys open with their passphrase: PKCS#8 and traditional', async () => {
  for (const type of ['pkcs8', 'sec1'] as const) {
    const both = await pair({ server: { cert: issued.cert, key: encrypted(type), passphrase: 'right' }, client: { ca: authority.cert } })
    both.client.destroy()
    both.server.destroy()
  }
})

test('an encrypted traditional RSA key opens, and one without need of it ignores a passphrase', () => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const text = privateKey.export({ type: 'pkcs1', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'right' }) as string
  assert.match(text, /DEK-Info: AES-256-CBC/)
  assert.throws(() => prepareServer({ cert: issued.cert, key: text, passphrase: 'right' }), { code: 'KEY_MISMATCH' })
  prepareServer({ cert: issued.cert, key: issued.key, passphrase: 'unneeded' })
})

const BAD: readonly (readonly [string, string, RegExp, () => ServerTlsOptions])[] = [
  [
    'a missing file',
    'MISSING_FILE',
    /^a certificate or key file cannot be read: cert "\/nowhere\/cert\.pem" \(ENOENT\)$/,
    () => ({ cert: '/nowhere/cert.pem', key: issued.key }),
  ],
  ['a directory for a file', 'MISSING_FILE', /\(EISDIR\)$/, () => ({ cert: directory, key: issued.key })],
  ['a missing key file', 'MISSING_FILE', /key "\/nowhere\/key\.pem"/, () => ({ cert: issued.cert, key: '/nowhere/key.pem' })],
  ['text that is not PEM', 'BAD_PEM', /^the text is not valid PEM: cert: /, () => ({ cert: 'not\nPEM', key: issued.key })],
  ['bytes that are not PEM', 'BAD_PEM', /cert: there is no certificate in it$/, () => ({ cert: new Uint8Array(100), key: issued.key })],
  [
    'a damaged certificate',
    'BAD_PEM',
    /cert: certificate 1 of 1 cannot be read$/,
    () => ({ cert: issued.cert.replace(/\n[A-Za-z0-9+/]{10}/, '\nAAAAAAAAAA'), key: issued.key }),
  ],
  ['a key for a certificate', 'BAD_PEM', /there is no certificate in it/, () => ({ cert: issued.key, key: issued.key })],
  ['a certificate for a key', 'BAD_PEM', /there is no private key in it/, () => ({ cert: issued.cert, key: issued.cert })],
  [
    'a damaged key',
    'BAD_PEM',
    /the private key is damaged/,
    () => ({ cert: issued.cert, key: issued.key.replace(/\n[A-Za-z0-9+/]{10}/, '\n??????????') }),
  ],
  [
    'a key that is no key',
    'BAD_KEY',
    /^the private key cannot be used: key$/,
    () => ({ cert: issued.cert, key: issued.key.replace(/\n[A-Za-z0-9+/]{10}/, '\nAAAAAAAAAA') }),
  ],
  [
    'a missing passphrase',
    'BAD_PASSPHRASE',
    /key is encrypted and no passphrase was given$/,
    () => ({ cert: issued.cert, key: encrypted('pkcs8') }),
  ],
  [
    'a missing passphrase of a traditional key',
    'BAD_PASSPHRASE',
    /no passphrase was given$/,
    () => ({ cert: issued.cert, key: encrypted('sec1') }),
  ],
  [
    'a wrong passphrase',
    'BAD_PASSPHRASE',
    /^the passphrase of the private key is missing or wrong: key$/,
    () => ({ cert: issued.cert, key: encrypted('pkcs8'), passphrase: 'wrong' }),
  ],
  [
    'a wrong passphrase of a traditional key',
    'BAD_PASSPHRASE',
    /missing or wrong: key$/,
    () => ({ cert: issued.cert, key: encrypted('sec1'), passphrase: 'wrong' }),
  ],
  ['an empty passphrase', 'BAD_PASSPHRASE', /missing or wrong/, () => ({ cert: issued.cert, key: encrypted('sec1'), passphrase: '' })],
  ['a key without certificate', 'NEEDS_CERTIFICATE', /key was given without cert/, () => ({ key: issued.key })],
  ['no certificate', 'NEEDS_CERTIFICATE', /needs a certificate and a key/, () => ({})],
  ['an unknown cipher', 'UNKNOWN_CIPHER', /no known cipher: "NOPE"$/, () => ({ cert: issued.cert, key: issued.key, ciphers: 'NOPE' })],
  [
    'an unknown cipher among known ones',
    'UNKNOWN_CIPHER',
    /"TLS_AES_512_GCM"$/,
    () => ({ cert: issued.cert, key: issued.key, ciphers: 'HIGH:!aNULL:TLS_AES_128_GCM_SHA256:TLS_AES_512_GCM' }),
  ],
  [
    'an authority that is no certificate',
    'BAD_PEM',
    /ca\[1\]: there is no certificate/,
    () => ({ cert: issued.cert, key: issued.key, ca: [issued.cert, issued.key] }),
  ],
  [
    'a revocation list that is none',
    'BAD_PEM',
    /crl: there is no revocation list/,
    () => ({ cert: issued.cert, key: issued.key, crl: issued.cert }),
  ],
  [
    'a damaged revocation list',
    'BAD_PEM',
    /crl: the revocation list cannot be read/,
    () => ({ cert: issued.cert, key: issued.key, crl: '-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n' }),
  ],
]

for (const [what, code, says, options] of BAD) {
  test(`${what} is ${code}`, () => {
    assert.throws(
      () => prepareServer(options()),
      (error: Error & { code: string }) => {
        assert.equal(error.code, code, String(error))
        assert.match(error.message, says)
        assert.doesNotMatch(error.message, /\n/)
        return true
      },
    )
  })
}

test('a key of another certificate is KEY_MISMATCH', async () => {
  const other = await authority.issue({ names: [HOST] })
  assert.throws(() => prepareServer({ cert: issued.cert, key: other.key }), { code: 'KEY_MISMATCH' })
  assert.throws(() => prepareClient({ serverName: HOST, cert: issued.cert, key: other.key }), { code: 'KEY_MISMATCH' })
})

test('types, ranges and unknown names are refused', () => {
  const good = { cert: issued.cert, key: issued.key }
  const wrong = (o: object, code: string, says?: RegExp) =>
    assert.throws(
      () => prepareServer({ ...good, ...o } as ServerTlsOptions),
      (error: Error & { code: string }) => {
        assert.equal(error.code, code, `${JSON.stringify(Object.keys(o))}: ${error}`)
        if (says) assert.match(error.message, says)
        return true
      },
    )
  wrong({ clientcert: 'none' }, 'UNKNOWN_OPTION', /did you mean "clientCert"\?/)
  wrong({ verify: true }, 'UNKNOWN_OPTION')
  wrong({ clientCert: 'maybe' }, 'ERR_OUT_OF_RANGE')
  wrong({ minVersion: 'TLSv3' }, 'ERR_OUT_OF_RANGE')
  wrong({ minVersion: 'TLSv1.3', maxVersion: 'TLSv1.2' }, 'ERR_OUT_OF_RANGE')
  wrong({ alpn: 'h2' }, 'ERR_INVALID_ARG_TYPE')
  wrong({ alpn: [''] }, 'ERR_OUT_OF_RANGE')
  wrong({ alpn: ['x'.repeat(256)] }, 'ERR_OUT_OF_RANGE')
  wrong({ alpnRequired: true }, 'ERR_OUT_OF_RANGE')
  wrong({ pins: ['short'] }, 'ERR_OUT_OF_RANGE')
  wrong({ depth: -1 }, 'ERR_OUT_OF_RANGE')
  wrong({ handshakeTimeout: Number.NaN }, 'ERR_OUT_OF_RANGE')
  wrong({ handshakeTimeout: '1' }, 'ERR_INVALID_ARG_TYPE')
  wrong({ allowTruncation: 1 }, 'ERR_INVALID_ARG_TYPE')
  wrong({ keylog: true }, 'ERR_INVALID_ARG_TYPE')
  wrong({ cert: 7 }, 'ERR_INVALID_ARG_TYPE')
  wrong({ passphrase: 7 }, 'ERR_INVALID_ARG_TYPE')
  wrong({ ciphers: 7 }, 'ERR_INVALID_ARG_TYPE')
  wrong({ sni: 7 }, 'ERR_INVALID_ARG_TYPE')
  wrong({ sni: { 'a b': good } }, 'ERR_OUT_OF_RANGE')
  wrong({ sni: { 'a.example': { cert: issued.cert, kee: '' } } }, 'UNKNOWN_OPTION', /did you mean "key"/)
  wrong({ sni: { 'a.example': {} } }, 'NEEDS_CERTIFICATE')
  assert.throws(() => prepareClient({ serverName: HOST, verify: 'no' as never }), { code: 'ERR_INVALID_ARG_TYPE' })
  assert.throws(() => prepareClient({ serverName: HOST, sessions: {} as never }), { code: 'ERR_INVALID_ARG_TYPE' })
  assert.throws(() => prepareClient({ serverName: HOST, clientCert: 'none' } as never), { code: 'UNKNOWN_OPTION' })
})

test('the system store honours SSL_CERT_FILE and SSL_CERT_DIR', () => {
  writeFileSync(join(directory, 'store.pem'), authority.cert + issued.cert)
  assert.equal(systemAuthorities({ SSL_CERT_FILE: join(directory, 'store.pem') }).length, 2)
  const store = join(directory, 'store')
  mkdirSync(store)
  writeFileSync(join(store, '12345678.0'), authority.cert)
  writeFileSync(join(store, 'notes.txt'), 'nothing')
  symlinkSync('/nowhere', join(store, 'dangling.pem'))
  assert.deepEqual(systemAuthorities({ SSL_CERT_DIR: `${store}:/nowhere` }).length, 1)
  assert.throws(() => systemAuthorities({ SSL_CERT_DIR: '/nowhere' }), { code: 'MISSING_FILE' })
})

test('an authority on disk is for the owner only, and used again', async () => {
  const home = join(directory, 'home')
  const first = await developmentAuthority({ directory: home })
  const files = await first.issueFiles('localhost')
  for (const [path, mode] of [
    [home, 0o700] as const,
    ...Object.values(files).map((path) => [path, 0o600] as const),
    [join(home, 'authority-key.pem'), 0o600] as const,
  ]) {
    assert.equal(statSync(path as string).mode & 0o777, mode, path as string)
  }
  const cert = readFileSync(files.cert, 'latin1')
  const second = await developmentAuthority({ directory: home })
  assert.equal(second.cert, first.cert)
  await second.issueFiles('localhost')
  assert.equal(readFileSync(files.cert, 'latin1'), cert, 'the certificate is still good')
  await second.issueFiles('localhost', { names: ['localhost', 'other.example'] })
  assert.notEqual(readFileSync(files.cert, 'latin1'), cert, 'it does not name everything')
  const both = await pair({ server: { cert: files.cert, key: files.key }, client: { ca: files.ca, serverName: 'other.example' } })
  both.client.destroy()
  both.server.destroy()
  await assert.rejects(first.issueFiles('../x'), { code: 'ERR_OUT_OF_RANGE' })
})

test('an authority that is about to expire is replaced; a directory others may write to is refused', async () => {
  const home = join(directory, 'old')
  const first = await developmentAuthority({ directory: home, validTo: Date.now() + 3_600_000 })
  assert.notEqual((await developmentAuthority({ directory: home })).cert, first.cert)
  const open = join(directory, 'open')
  mkdirSync(open)
  chmodSync(open, 0o777)
  await assert.rejects(developmentAuthority({ directory: open }), { code: 'EACCES', message: /others may write/ })
  writeFileSync(join(directory, 'file'), '')
  await assert.rejects(developmentAuthority({ directory: join(directory, 'file') }), { name: 'SystemFailure' })
})

test('the default cipher list of the runtime is a cipher list', () => {
  const { cert, key } = issued
  prepareServer({ cert, key, ciphers: DEFAULT_CIPHERS })
  assert.throws(() => prepareServer({ cert, key, ciphers: `${DEFAULT_CIPHERS}:!NOSUCH` }), { code: 'UNKNOWN_CIPHER' })
})
