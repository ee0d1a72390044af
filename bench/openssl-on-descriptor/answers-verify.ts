/** Does OpenSSL's own judging of a server give fairlead's verdicts? */

import { webcrypto } from 'node:crypto'
import { connect, listen, type ClientTlsOptions, SocketError } from 'fairlead'
import { type Authority, developmentAuthority, type Issued } from 'fairlead/testing'
import { Context } from './engine.js'
import { crypto, text } from './foreign.js'
import { shake } from './pairs.js'
import { say, title } from './table.js'

const DAY = 86_400_000
const HOST = 'server.example'

interface Case {
  readonly what: string
  readonly server: { readonly cert: string; readonly key: string }
  readonly client?: ClientTlsOptions
  readonly name?: string
  /** Verdict of both, or where they differ `fairlead / OpenSSL`. */
  readonly expected: string
}

/** X509_V_ERR_…, as the codes of fairlead that `verdict.ts` makes of them. */
const CODES: Record<number, string> = {
  0: 'good',
  2: 'UNKNOWN_ISSUER',
  3: 'BAD_CRL',
  9: 'CERT_NOT_YET_VALID',
  10: 'CERT_EXPIRED',
  12: 'BAD_CRL',
  18: 'SELF_SIGNED',
  19: 'UNKNOWN_ISSUER',
  20: 'UNKNOWN_ISSUER',
  21: 'UNKNOWN_ISSUER',
  22: 'CHAIN_TOO_LONG',
  23: 'REVOKED',
  25: 'CHAIN_TOO_LONG',
  26: 'BAD_PURPOSE',
  62: 'NAME_MISMATCH',
  64: 'NAME_MISMATCH',
}

async function byFairlead({ server, client, name = HOST }: Case, ca: string): Promise<string> {
  await using listener = await listen('tls://127.0.0.1:0', { tls: { cert: server.cert, key: server.key } })
  const accepted = listener.accept().catch((error: unknown) => error)
  try {
    await using connection = await connect(listener.endpoint, { tls: { ca, serverName: name, sessions: false, ...client } })
    void connection
    const other = await accepted
    if (!(other instanceof Error)) (other as { abort(): void }).abort()
    return 'good'
  } catch (error) {
    return error instanceof SocketError ? error.code : `${(error as { code?: string }).code}`
  }
}

function byOpenssl({ server, client, name = HOST }: Case, ca: string): string {
  const contexts = {
    server: new Context({ cert: server.cert, key: server.key }),
    client: new Context({ ca, crl: client?.crl as string | undefined, depth: client?.depth }),
  }
  try {
    const ends = shake(contexts.server, contexts.client, { serverName: name })
    const { verdict } = ends.client
    const got = CODES[verdict] ?? `${verdict} ${text(crypto.X509_verify_cert_error_string(verdict))}`
    // A failed verification ends the handshake, and the server is told why by an alert.
    const consistent = (ends.clientError !== undefined) === (verdict !== 0)
    ends.free()
    return consistent ? got : `${got}, but the handshake did otherwise`
  } catch {
    return 'refused'
  } finally {
    contexts.server.free()
    contexts.client.free()
  }
}

/** A certificate with names that `issue` would not give: `ip` addresses as DNS names, too. Trusted as its own authority. */
async function odd(names: readonly string[]): Promise<{ cert: string; key: string }> {
  await import('reflect-metadata')
  const x509 = await import('@peculiar/x509')
  x509.cryptoProvider.set(webcrypto as never)
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  const keys = (await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=odd',
    keys: keys as never,
    signingAlgorithm: algorithm,
    extensions: [new x509.SubjectAlternativeNameExtension(names.map((value) => ({ type: 'dns' as const, value })))],
  })
  const key = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64')
  return { cert: certificate.toString('pem'), key: `-----BEGIN PRIVATE KEY-----\n${key}\n-----END PRIVATE KEY-----\n` }
}

async function chains(authority: Authority, server: Issued): Promise<Case[]> {
  const stranger = await developmentAuthority({ name: 'stranger' })
  const strange = await stranger.issue({ names: [HOST] })
  const deep = await (await (await authority.intermediate()).intermediate()).issue({ names: [HOST] })
  const narrow = await (await (await authority.intermediate({ pathLength: 0 })).intermediate()).issue({ names: [HOST] })
  const past = { validFrom: Date.now() - 9 * DAY, validTo: Date.now() - DAY }
  return [
    { what: 'good', server, expected: 'good' },
    { what: 'expired', server: await authority.issue({ names: [HOST], ...past }), expected: 'CERT_EXPIRED' },
    {
      what: 'not yet valid',
      server: await authority.issue({ names: [HOST], validFrom: Date.now() + DAY }),
      expected: 'CERT_NOT_YET_VALID',
    },
    { what: 'self-signed', server: await authority.issue({ names: [HOST], selfSigned: true }), expected: 'SELF_SIGNED' },
    { what: 'unknown issuer', server: strange, expected: 'UNKNOWN_ISSUER' },
    { what: 'unknown issuer, root sent along', server: { ...strange, cert: strange.cert + stranger.cert }, expected: 'UNKNOWN_ISSUER' },
    { what: 'for clients only', server: await authority.issue({ names: [HOST], purpose: 'client' }), expected: 'BAD_PURPOSE' },
    { what: 'revoked', server, client: { crl: await authority.revoke([server.serialNumber]) }, expected: 'REVOKED' },
    { what: 'clean revocation list', server, client: { crl: await authority.revoke(['7f00']) }, expected: 'good' },
    { what: 'revocation list out of date', server, client: { crl: await authority.revoke([], past) }, expected: 'BAD_CRL' },
    { what: 'revocation list of somebody else', server, client: { crl: await stranger.revoke([]) }, expected: 'BAD_CRL' },
    { what: 'two intermediates, two allowed', server: deep, client: { depth: 2 }, expected: 'good' },
    // OpenSSL stops looking for issuers at the depth, and then misses the root before it counts.
    { what: 'two intermediates, one allowed', server: deep, client: { depth: 1 }, expected: 'CHAIN_TOO_LONG' },
    { what: 'two intermediates, none allowed', server: deep, client: { depth: 0 }, expected: 'CHAIN_TOO_LONG' },
    { what: 'path length exceeded', server: narrow, expected: 'CHAIN_TOO_LONG' },
  ]
}

async function names(authority: Authority): Promise<Case[]> {
  const of = (list: readonly string[]) => authority.issue({ names: list })
  const plain = await of([HOST, '127.0.0.1', '::1'])
  const wild = await of(['*.wild.example'])
  const unicode = await of(['xn--mnchen-3ya.example'])
  const rows: [what: string, server: { cert: string; key: string }, name: string, expected: string][] = [
    ['other name', await of(['other.example', '192.0.2.1']), HOST, 'NAME_MISMATCH'],
    ['common name only', await authority.issue({ names: [], commonName: HOST }), HOST, 'NAME_MISMATCH'],
    ['common name beside other names', await authority.issue({ names: ['other.example'], commonName: HOST }), HOST, 'NAME_MISMATCH'],
    ['upper case asked for', plain, 'SERVER.Example', 'good'],
    ['final dot asked for', plain, `${HOST}.`, 'good / NAME_MISMATCH'],
    ['final dot in the certificate', await of([`${HOST}.`]), HOST, 'good / NAME_MISMATCH'],
    ['upper case in the certificate', await of(['SERVER.example']), HOST, 'good'],
    ['wildcard', wild, 'a.wild.example', 'good'],
    ['wildcard, two labels', wild, 'a.b.wild.example', 'NAME_MISMATCH'],
    ['wildcard, no label', wild, 'wild.example', 'NAME_MISMATCH'],
    ['wildcard for an A-label', wild, 'xn--mnchen-3ya.wild.example', 'good'],
    ['wildcard of a top level', await of(['*.example']), HOST, 'NAME_MISMATCH'],
    ['wildcard alone', await of(['*']), 'localhost', 'NAME_MISMATCH'],
    ['partial wildcard', await of(['s*.wild.example']), 'server.wild.example', 'NAME_MISMATCH'],
    ['wildcard in the second label', await of(['a.*.example']), 'a.wild.example', 'NAME_MISMATCH'],
    ['U-label asked for', unicode, 'münchen.example', 'good / NAME_MISMATCH'],
    ['underscore', await of(['_a.wild.example']), '_a.wild.example', 'good'],
    ['IPv4 address', plain, '127.0.0.1', 'good'],
    ['IPv6 address', plain, '::1', 'good'],
    ['IPv6 address, long form', plain, '0:0:0:0:0:0:0:1', 'good'],
    ['IPv6 address in brackets', plain, '[::1]', 'good / NAME_MISMATCH'],
    ['IPv4-mapped address', plain, '::ffff:127.0.0.1', 'NAME_MISMATCH'],
    ['other address', plain, '127.0.0.2', 'NAME_MISMATCH'],
    [
      'address as common name only',
      await authority.issue({ names: ['other.example'], commonName: '127.0.0.1' }),
      '127.0.0.1',
      'NAME_MISMATCH',
    ],
    ['NUL in the certificate', await of([`${HOST}\0.evil.example`]), HOST, 'NAME_MISMATCH'],
    ['name that begins with a dot asked for', wild, '.wild.example', 'ERR_OUT_OF_RANGE / good'],
    ['NUL asked for', plain, `${HOST}\0.evil.example`, 'ERR_OUT_OF_RANGE / good'],
    ['empty name asked for', plain, '', 'ERR_OUT_OF_RANGE / refused'],
  ]
  return rows.map(([what, server, name, expected]) => ({ what, server, name, expected }))
}

export async function answerVerify(): Promise<void> {
  const authority = await developmentAuthority()
  const compare = async (one: Case, ca: string) => {
    const [ours, theirs] = [await byFairlead(one, ca), byOpenssl(one, ca)]
    say(one.what, ours === theirs ? ours : `${ours} / ${theirs}`, one.expected)
  }
  title('Verdicts on chains: fairlead / OpenSSL where they differ')
  for (const one of await chains(authority, await authority.issue({ names: [HOST, '127.0.0.1'] }))) await compare(one, authority.cert)
  title('Verdicts on names, with NO_PARTIAL_WILDCARDS and NEVER_CHECK_SUBJECT')
  for (const one of await names(authority)) await compare(one, authority.cert)
  const address = await odd(['127.0.0.1'])
  await compare({ what: 'address as a DNS name', server: address, name: '127.0.0.1', expected: 'NAME_MISMATCH' }, address.cert)
}
