import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as addresses from '#src/address.js'
import { matchesDns, matchesIdentity, referenceName } from '#src/identity.js'
import { alternativeNames, formatIp } from '#src/x509.js'
import { developmentAuthority } from 'fairlead/testing'
import { X509Certificate } from 'node:crypto'

const ipBytes = (text: string) => addresses.ipBytes(text) as Uint8Array
const names = (dns: string[], ips: string[] = []) => ({ dns, ips: ips.map(ipBytes), others: 0 })

/** Pattern, host, whether it matches: the table of Go's `crypto/x509` (verify_test.go, matchHostnamesTests), then our own. */
const DNS: readonly (readonly [string, string, boolean])[] = [
  ['a.b.c', 'a.b.c', true],
  ['a.b.c', 'b.b.c', false],
  ['', 'b.b.c', false],
  ['a.b.c', '', false],
  ['example.com', 'example.com', true],
  ['example.com', 'www.example.com', false],
  ['*.example.com', 'example.com', false],
  ['*.example.com', 'www.example.com', true],
  ['*.example.com', 'www.example.com.', true],
  ['*.example.com', 'xyz.www.example.com', false],
  ['*.example.com', 'https://www.example.com', false],
  ['*.example..com', 'www.example..com', false],
  ['www*.example.com', 'www1.example.com', false],
  ['*.*.example.com', 'xyz.www.example.com', false],
  ['*.www.*.com', 'xyz.www.example.com', false],
  ['*bar.example.com', 'foobar.example.com', false],
  ['f*.example.com', 'foobar.example.com', false],
  ['*b*.example.com', 'abc.example.com', false],
  ['*', 'www.example.com', false],
  ['*.', 'www.example.com', false],
  ['*.com', 'example.com', false],
  ['*', 'com', false],
  ['*.example.com', '.example.com', false],
  ['www.example.com', '*.example.com', false],
  ['*.example.com', '*.example.com', false],
  ['EXAMPLE.com', 'example.COM', true],
  ['*.EXAMPLE.com', 'www.example.COM', true],
  ['example.com.', 'example.com', true],
  ['example.com', 'example.com.', true],
  ['example.com..', 'example.com', false],
  ['example.com', 'example.com..', false],
  ['foo_bar.example.com', 'foo_bar.example.com', true],
  ['a.*.example.com', 'a.b.example.com', false],
  ['*www.example.com', 'www.example.com', false],
  ['.example.com', 'www.example.com', false],
  ['example', 'example', true],
  ['192.0.2.1', '192.0.2.1', false],
  ['*.0.2.1', '192.0.2.1', false],
  ['example.com\0', 'example.com', false],
  ['example.com\0.evil.example', 'example.com', false],
  ['example.com', 'example.com\0', false],
  ['example.com\0.evil.example', 'example.com\0.evil.example', false],
  ['exa mple.com', 'exa mple.com', false],
  [' example.com', 'example.com', false],
  ['example.com\n', 'example.com', false],
  ['-example.com', '-example.com', false],
  ['example-.com', 'example-.com', false],
  ['xn--bcher-kva.example', 'bücher.example', true],
  ['xn--bcher-kva.example', 'BÜCHER.example', true],
  ['b\u00fccher.example', 'bücher.example', false],
  ['*.xn--bcher-kva.example', 'www.bücher.example', true],
  ['xn--*.example.com', 'xn--bcher-kva.example.com', false],
  ['*.example.com', 'bücher.example.com', true],
  [`${'a'.repeat(64)}.example`, `${'a'.repeat(64)}.example`, false],
  ['example.com, DNS:other.example', 'other.example', false],
  ['"example.com"', 'example.com', false],
  ['ex\u0430mple.com', 'example.com', false],
  ['example.com:443', 'example.com', false],
  ['user@example.com', 'example.com', false],
  ['%65xample.com', 'example.com', false],
]

test(`names against patterns: ${DNS.length} rows (attack 16)`, () => {
  for (const [pattern, host, expected] of DNS) {
    assert.equal(matchesIdentity(names([pattern]), host), expected, `${JSON.stringify(pattern)} for ${JSON.stringify(host)}`)
  }
})

/** IP names, host, whether it matches. */
const IPS: readonly (readonly [string[], string, boolean])[] = [
  [['192.0.2.1'], '192.0.2.1', true],
  [['192.0.2.1'], '192.0.2.2', false],
  [['192.0.2.1'], '[192.0.2.1]', true],
  [['2001:db8::1'], '2001:db8::1', true],
  [['2001:db8::1'], '[2001:db8::1]', true],
  [['2001:db8::1'], '2001:DB8:0:0:0:0:0:1', true],
  [['2001:db8::1'], '2001:db8::2', false],
  [['::ffff:192.0.2.1'], '192.0.2.1', false],
  [['192.0.2.1'], '::ffff:192.0.2.1', false],
  [['::ffff:192.0.2.1'], '::ffff:192.0.2.1', true],
  [['::ffff:192.0.2.1'], '::ffff:c000:201', true],
  [['fe80::1'], 'fe80::1%eth0', true],
  [['::'], '::', true],
  [['::1'], '::', false],
  [['1::'], '1::', true],
  [['192.0.2.1'], '3221225985', false],
  [['192.0.2.1'], '0xc0.0.2.1', false],
  [['192.0.2.1'], '192.0.513', false],
]

test(`IP addresses are compared as bytes, and only with IP names: ${IPS.length} rows`, () => {
  for (const [ips, host, expected] of IPS) assert.equal(matchesIdentity(names([], ips), host), expected, `${ips} for ${host}`)
  assert.equal(matchesIdentity(names(['192.0.2.1', '*.0.2.1']), '192.0.2.1'), false)
  assert.equal(matchesIdentity({ dns: [], ips: [new Uint8Array(0), new Uint8Array(5)], others: 0 }, '192.0.2.1'), false)
})

test('a certificate without DNS or IP names covers nothing, whatever its common name says', async () => {
  const authority = await developmentAuthority()
  const { cert } = await authority.issue({ names: [], commonName: 'example.com' })
  const found = alternativeNames(new X509Certificate(cert).raw)
  assert.deepEqual(found, { dns: [], ips: [], others: 0 })
  assert.equal(matchesIdentity(found, 'example.com'), false)
})

test('names are read from the bytes of the certificate', async () => {
  const authority = await developmentAuthority()
  const { cert } = await authority.issue({ names: ['a.example', '*.b.example', '192.0.2.7', '2001:db8::7', 'quoted", DNS:evil.example'] })
  const { dns, ips } = alternativeNames(new X509Certificate(cert).raw)
  assert.deepEqual(dns, ['a.example', '*.b.example', 'quoted", DNS:evil.example'])
  assert.deepEqual(ips.map(formatIp), ['192.0.2.7', '2001:db8::7'])
  assert.equal(matchesIdentity({ dns, ips, others: 0 }, 'evil.example'), false)
})

test('damaged certificates name nobody and do not throw, wherever they are cut or changed', async () => {
  const authority = await developmentAuthority()
  const raw = new X509Certificate((await authority.issue({ names: ['a.example'] })).cert).raw
  for (let at = 0; at < raw.length; at++) alternativeNames(raw.subarray(0, at))
  for (let at = 0; at < raw.length; at++) {
    const changed = Uint8Array.from(raw)
    changed[at] = (changed[at] as number) ^ 0xff
    alternativeNames(changed)
  }
})

test('addresses in text and back', () => {
  for (const text of ['::', '::1', '1::', '2001:db8::1:0:0:1', '1:2:3:4:5:6:7:8', '127.0.0.1', 'fe80::1', '1:0:0:2::3']) {
    const written = formatIp(ipBytes(text))
    assert.deepEqual(ipBytes(written), ipBytes(text), `${text} → ${written}`)
  }
  assert.equal(formatIp(ipBytes('2001:0db8:0:0:1:0:0:1')), '2001:db8::1:0:0:1')
})

test('what can be asked for: DNS names and addresses in canonical form', () => {
  assert.equal(referenceName('Example.COM.'), 'example.com')
  assert.equal(referenceName('bücher.example'), 'xn--bcher-kva.example')
  assert.equal(referenceName('[::1]'), '::1')
  for (const bad of ['', '.', 'a..b', 'a b', 'a/b', 'a%00b', 'a:1', '*.a.example', 'ⓐ/b']) assert.equal(referenceName(bad), undefined, bad)
  assert.equal(matchesDns('*.a.example', 'b.a.example'), true)
})
