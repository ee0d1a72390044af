import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import {
  type Address,
  addressOf,
  canonicalIp,
  type Endpoint,
  type EndpointObject,
  endpointOf,
  formatAddress,
  formatEndpoint,
  ipAddress,
  ipBytes,
  ipText,
  isIp,
  type ParsedEndpoint,
  parseEndpoint,
  sameAddress,
} from '#src/address.js'
import { AddressError, OptionError } from '#src/errors.js'
import { Cidr, classify, isGlobal } from '#src/ranges.js'

/** endpoint, its normal form, its one text (absent: as given). */
const GOOD: readonly (readonly [Endpoint, ParsedEndpoint, string?])[] = [
  ['tcp://localhost:80', { transport: 'tcp', host: 'localhost', port: 80 }],
  ['TCP://LocalHost:80', { transport: 'tcp', host: 'localhost', port: 80 }, 'tcp://localhost:80'],
  ['tls://127.0.0.1:443', { transport: 'tls', host: '127.0.0.1', port: 443 }],
  ['udp://_dns.example.:53', { transport: 'udp', host: '_dns.example.', port: 53 }],
  ['tcp://[::1]:0', { transport: 'tcp', host: '::1', port: 0 }],
  ['tcp://[0:0::00:1]:65535', { transport: 'tcp', host: '::1', port: 65535 }, 'tcp://[::1]:65535'],
  ['tcp://[::FFFF:7f00:1]:1', { transport: 'tcp', host: '::ffff:127.0.0.1', port: 1 }, 'tcp://[::ffff:127.0.0.1]:1'],
  ['tcp://[fe80::1%eth0]:80', { transport: 'tcp', host: 'fe80::1', port: 80, scope: 'eth0' }],
  ['tcp://[fe80::1%25eth0]:80', { transport: 'tcp', host: 'fe80::1', port: 80, scope: 'eth0' }, 'tcp://[fe80::1%eth0]:80'],
  ['tcp://[fe80::1%25]:80', { transport: 'tcp', host: 'fe80::1', port: 80, scope: '25' }],
  ['tcp://[fe80::1%25251]:80', { transport: 'tcp', host: 'fe80::1', port: 80, scope: '251' }],
  ['tcp://:8080', { transport: 'tcp', host: undefined, port: 8080 }, 'tcp://*:8080'],
  ['tcp://*:8080', { transport: 'tcp', host: undefined, port: 8080 }],
  ['tcp://münchen.example:1', { transport: 'tcp', host: 'xn--mnchen-3ya.example', port: 1 }, 'tcp://xn--mnchen-3ya.example:1'],
  ['unix:/run/app.sock', { transport: 'unix', path: '/run/app.sock', abstract: false }],
  ['unix:relative path?#[]', { transport: 'unix', path: 'relative path?#[]', abstract: false }],
  ['unix:@name', { transport: 'unix', path: 'name', abstract: true }],
  ['unix:@@name', { transport: 'unix', path: '@name', abstract: true }],
  ['unix:./@x', { transport: 'unix', path: './@x', abstract: false }],
  ['unix:%40x', { transport: 'unix', path: '@x', abstract: false }],
  ['unix:/a%20b%25%C3%BC', { transport: 'unix', path: '/a b%ü', abstract: false }, 'unix:/a b%25ü'],
  ['unix://host/x', { transport: 'unix', path: '//host/x', abstract: false }],
  ['tls+unix:/x', { transport: 'tls+unix', path: '/x', abstract: false }],
  ['unixgram:/x', { transport: 'unixgram', path: '/x', abstract: false }],
  ['unixpacket:@x', { transport: 'unixpacket', path: 'x', abstract: true }],
  [`unix:/${'a'.repeat(106)}`, { transport: 'unix', path: `/${'a'.repeat(106)}`, abstract: false }],
  [new URL('tcp://[::1]:80'), { transport: 'tcp', host: '::1', port: 80 }, 'tcp://[::1]:80'],
  [new URL('tls://münchen.example:80'), { transport: 'tls', host: 'xn--mnchen-3ya.example', port: 80 }, 'tls://xn--mnchen-3ya.example:80'],
  [new URL('unix:/a b'), { transport: 'unix', path: '/a b', abstract: false }, 'unix:/a b'],
  [{ transport: 'tcp', port: 80 }, { transport: 'tcp', host: undefined, port: 80 }, 'tcp://*:80'],
  [{ transport: 'tcp', host: '::1', port: 80 }, { transport: 'tcp', host: '::1', port: 80 }, 'tcp://[::1]:80'],
  [
    { transport: 'tcp', host: 'fe80::1%eth0', port: 80 },
    { transport: 'tcp', host: 'fe80::1', port: 80, scope: 'eth0' },
    'tcp://[fe80::1%eth0]:80',
  ],
  [
    { transport: 'tcp', host: 'fe80::1', scope: '2', port: 80, path: undefined },
    { transport: 'tcp', host: 'fe80::1', port: 80, scope: '2' },
    'tcp://[fe80::1%2]:80',
  ],
  [{ transport: 'unix', path: '@x%41' }, { transport: 'unix', path: '@x%41', abstract: false }, 'unix:%40x%2541'],
  [{ transport: 'unix', path: 'x', abstract: true }, { transport: 'unix', path: 'x', abstract: true }, 'unix:@x'],
]

/** endpoint, code, the part of the message that names what is wrong. */
const BAD: readonly (readonly [string | object, string, string])[] = [
  ['', 'BAD_ENDPOINT', 'no scheme in ""'],
  ['/run/x', 'BAD_ENDPOINT', 'no scheme'],
  ['localhost:80', 'BAD_SCHEME', 'did you mean "tcp://localhost:80"?'],
  ['tpc://h:1', 'BAD_SCHEME', 'did you mean "tcp"?'],
  ['http://h:1', 'BAD_SCHEME', 'unknown scheme "http"'],
  ['tcp:h:1', 'BAD_ENDPOINT', 'no "//" after "tcp:"'],
  ['tcp://h', 'BAD_PORT', 'no port in "tcp://h"'],
  ['tcp://h:', 'BAD_PORT', 'no port'],
  ['tcp://h:99999', 'BAD_PORT', 'bad port "99999" in "tcp://h:99999": expected 0 to 65535'],
  ['tcp://h:65536', 'BAD_PORT', 'bad port "65536"'],
  ['tcp://h:+80', 'BAD_PORT', 'bad port "+80"'],
  ['tcp://h:-1', 'BAD_PORT', 'bad port "-1"'],
  ['tcp://h:0x50', 'BAD_PORT', 'bad port "0x50"'],
  ['tcp://h: 80', 'BAD_PORT', 'bad port " 80"'],
  ['tcp://h:080', 'BAD_PORT', 'bad port "080"'],
  ['tcp://h:８０', 'BAD_PORT', 'bad port "８０"'],
  ['tcp://h:80\n', 'BAD_PORT', 'bad port "80\\n"'],
  ['tcp://h:80/', 'BAD_ENDPOINT', 'unexpected "/"'],
  ['tcp://h:80?x', 'BAD_ENDPOINT', 'unexpected "?x"'],
  ['tcp://h:80#x', 'BAD_ENDPOINT', 'unexpected "#x"'],
  ['tcp://u:secret@h:80', 'BAD_ENDPOINT', 'user information in "tcp://…@h:80"'],
  ['u:secret@h:80', 'BAD_SCHEME', '"…@h:80"'],
  ['tcp://::1:80', 'BAD_HOST', 'bad host "::1"'],
  ['tcp://[::1:80', 'BAD_HOST', 'no "]"'],
  ['tcp://[::1]', 'BAD_PORT', 'no port'],
  ['tcp://[::1]80', 'BAD_PORT', 'unexpected "80"'],
  ['tcp://[127.0.0.1]:80', 'BAD_HOST', 'bad host "[127.0.0.1]"'],
  ['tcp://[::1%]:80', 'BAD_HOST', 'bad scope ""'],
  ['tcp://[fe80::1%a b]:80', 'BAD_HOST', 'bad scope "a b"'],
  ['tcp://[1::2::3]:80', 'BAD_HOST', 'bad host'],
  ['tcp://[1:2:3:4:5:6:7:8:9]:80', 'BAD_HOST', 'bad host'],
  ['tcp://[1:2:3:4:5:6:7:8::]:80', 'BAD_HOST', 'bad host'],
  ['tcp://[::1.2.3]:80', 'BAD_HOST', 'bad host'],
  ['tcp://[::01.2.3.4]:80', 'BAD_HOST', 'bad host'],
  ['tcp://[1.2.3.4::]:80', 'BAD_HOST', 'bad host'],
  ['tcp://[::12345]:80', 'BAD_HOST', 'bad host'],
  ['tcp://[:1]:80', 'BAD_HOST', 'bad host'],
  // Spellings that getaddrinfo(3) or the URL standard take for 127.0.0.1 or another IPv4 address (M12).
  ...[
    '2130706433',
    '0x7f.1',
    '0x7f000001',
    '0X7F.0.0.1',
    '0177.0.0.1',
    '017700000001',
    '127.1',
    '127.0.1',
    '127.0.0.01',
    '127.0.0.1.',
    '127.0.0.0x1',
    '127.0.0.256',
    '127.0.0.1.1',
    '①②⑦.0.0.1',
    '１２７.0.0.1',
    '127。0。0。1',
    '١٢٧.0.0.1',
    '0',
    '0x',
    '1.2.3.4.5',
  ].map((host) => [`tcp://${host}:80`, 'BAD_HOST', `bad host "${host}"`] as const),
  ['tcp://a b:80', 'BAD_HOST', 'bad host "a b"'],
  ['tcp://a%41:80', 'BAD_HOST', 'bad host "a%41"'],
  ['tcp://a\0b:80', 'BAD_HOST', 'bad host "a\\u0000b"'],
  ['tcp://\u001b[2J:80', 'BAD_HOST', 'bad host "\\u001b[2J"'],
  ['tcp://\u202ea:80', 'BAD_HOST', 'bad host "\\u{202e}a"'],
  ['tcp://-a.b:80', 'BAD_HOST', 'bad host "-a.b"'],
  ['tcp://a-.b:80', 'BAD_HOST', 'bad host "a-.b"'],
  ['tcp://a..b:80', 'BAD_HOST', 'bad host "a..b"'],
  ['tcp://.:80', 'BAD_HOST', 'bad host "."'],
  ['tcp://**:80', 'BAD_HOST', 'bad host "**"'],
  [`tcp://${'a'.repeat(64)}:80`, 'BAD_HOST', 'expected labels of at most 63 bytes'],
  [`tcp://${'ab.'.repeat(90)}:80`, 'BAD_HOST', 'expected a name of at most 253 bytes'],
  ['tcp://ü%31.example:80', 'BAD_HOST', 'bad host'],
  ['unix:', 'BAD_PATH', 'no path'],
  ['unix:@', 'BAD_PATH', 'no path'],
  ['unix:/a%00b', 'BAD_PATH', 'a NUL in the path'],
  ['unix:/a\0b', 'BAD_PATH', 'a NUL in the path'],
  ['unix:@a%00b', 'BAD_PATH', 'a NUL in the path'],
  ['unix:/a%zz', 'BAD_PATH', 'bad escape "%zz"'],
  ['unix:/a%4', 'BAD_PATH', 'bad escape "%4"'],
  ['unix:/a%FF', 'BAD_PATH', 'not UTF-8'],
  ['unix:/\ud800', 'BAD_PATH', 'half a surrogate pair'],
  [`unix:/${'a'.repeat(107)}`, 'PATH_TOO_LONG', 'a path of 108 bytes'],
  [`unix:/${'ü'.repeat(54)}`, 'PATH_TOO_LONG', 'a path of 109 bytes'],
  [`unix:@${'a'.repeat(108)}`, 'PATH_TOO_LONG', 'expected at most 107'],
  [{ transport: 'tcp', host: 'h', port: 65536 }, 'BAD_PORT', 'bad port 65536 in { transport: "tcp", host: "h", port: 65536 }'],
  [{ transport: 'tcp', host: 'h', port: 1.5 }, 'BAD_PORT', 'bad port 1.5'],
  [{ transport: 'tcp', host: 'h', port: Number.NaN }, 'BAD_PORT', 'bad port NaN'],
  [{ transport: 'tcp', host: '[::1]', port: 1 }, 'BAD_HOST', 'without brackets'],
  [{ transport: 'tcp', host: 'h', port: 1, scope: 'eth0' }, 'BAD_HOST', 'a scope for "h"'],
  [{ transport: 'tcp', host: 'fe80::1%a', port: 1, scope: 'b' }, 'BAD_HOST', 'two scopes'],
  [{ transport: 'tcp', host: 'h', port: 1, path: '/x' }, 'BAD_ENDPOINT', 'path or abstract'],
  [{ transport: 'unix', path: '/x', port: 1 }, 'BAD_ENDPOINT', 'host, port or scope'],
  [{ transport: 'unix', path: '' }, 'BAD_PATH', 'no path'],
  [{ transport: 'unix', path: 'a\0b' }, 'BAD_PATH', 'a NUL'],
  [{ transport: 'sctp', host: 'h', port: 1 }, 'BAD_SCHEME', 'unknown transport "sctp"'],
]

describe('endpoints', () => {
  for (const [given, normal, text] of GOOD) {
    test(`${typeof given === 'string' ? given.slice(0, 40) : given instanceof URL ? `URL ${given}` : JSON.stringify(given)} is understood`, () => {
      const parsed = parseEndpoint(given)
      assert.deepEqual(parsed, normal)
      assert.ok(Object.isFrozen(parsed))
      assert.equal(parseEndpoint(parsed), parsed)
      assert.equal(formatEndpoint(given), text ?? given)
      assert.deepEqual(parseEndpoint(formatEndpoint(given)), normal)
    })
  }

  for (const [given, code, part] of BAD) {
    test(`${JSON.stringify(given).slice(0, 50)} is refused with ${code} and the bad part`, () => {
      assert.throws(
        () => parseEndpoint(given as Endpoint),
        (error) => {
          assert.ok(error instanceof AddressError, String(error))
          assert.equal(error.code, code)
          assert.equal(error.phase, 'parse')
          assert.ok(error.message.includes(part), error.message)
          assert.match(error.message, / in .*: expected /s)
          assert.doesNotMatch(error.message + error.endpoint, /secret|[\0-\x1f\u202e]/)
          return true
        },
      )
    })
  }

  test('wrong types and unknown keys are named', () => {
    for (const wrong of [undefined, null, 5, true, Symbol('x')]) {
      assert.throws(() => parseEndpoint(wrong as unknown as Endpoint), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' })
    }
    assert.throws(
      () => parseEndpoint({ transport: 'tcp', host: 'h', port: '80' } as unknown as EndpointObject),
      /endpoint\.port must be a number.*"80"/,
    )
    assert.throws(
      () => parseEndpoint({ transport: 'tcp', host: 5, port: 80 } as unknown as EndpointObject),
      /endpoint\.host must be a string/,
    )
    assert.throws(() => parseEndpoint({ transport: 'unix', path: 5 } as unknown as EndpointObject), /endpoint\.path must be a string/)
    assert.throws(
      () => parseEndpoint({ transport: 'unix', path: 'x', abstract: 1 } as unknown as EndpointObject),
      /endpoint\.abstract must be a boolean/,
    )
    assert.throws(
      () => parseEndpoint({ hots: 'h' } as unknown as EndpointObject),
      (error) => error instanceof OptionError && /did you mean "host"/.test(error.message),
    )
  })

  test('an endpoint object is read by its own properties alone', () => {
    const inherited = Object.create({ host: '127.0.0.1' }) as EndpointObject
    Object.assign(inherited, { transport: 'tcp', port: 80 })
    assert.equal(formatEndpoint(inherited), 'tcp://*:80')
    assert.throws(() => parseEndpoint(JSON.parse('{"transport":"tcp","port":1,"__proto__":{"host":"x"}}') as EndpointObject), OptionError)
  })

  const port = fc.integer({ min: 0, max: 65535 })
  const scope = fc.option(fc.stringMatching(/^[A-Za-z0-9._~:-]{1,15}$/), { nil: undefined })
  const label = fc.stringMatching(/^[a-z_](?:[a-z0-9_-]{0,20}[a-z0-9_])?$/)
  const path = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 60 }).filter((s) => !s.includes('\0') && Buffer.byteLength(s) <= 107)
  const endpoint: fc.Arbitrary<EndpointObject> = fc.oneof(
    fc.record({ transport: fc.constantFrom('tcp', 'tls', 'udp'), host: fc.ipV4(), port }),
    fc.record({ transport: fc.constantFrom('tcp', 'tls', 'udp'), host: fc.ipV6(), port, scope }),
    fc.record({
      transport: fc.constantFrom('tcp', 'tls'),
      host: fc.array(label, { minLength: 1, maxLength: 5 }).map((labels) => labels.join('.')),
      port,
    }),
    fc.record({ transport: fc.constantFrom('unix', 'tls+unix', 'unixgram', 'unixpacket'), path, abstract: fc.boolean() }),
  )

  test('parse after format is the identity, and the text holds no control character', () => {
    fc.assert(
      fc.property(endpoint, (given) => {
        const parsed = parseEndpoint(given)
        const text = formatEndpoint(parsed)
        assert.deepEqual(parseEndpoint(text), parsed)
        assert.equal(formatEndpoint(text), text)
        assert.doesNotMatch(text, /[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/u)
      }),
      { numRuns: 2000 },
    )
  })

  test('any text parses or is an AddressError', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 200 }),
      fc
        .tuple(fc.constantFrom('tcp://', 'tls://[', 'unix:', 'unix:@', 'udp://'), fc.string({ unit: 'binary', maxLength: 120 }))
        .map((parts) => parts.join('')),
    )
    fc.assert(
      fc.property(text, (given) => {
        try {
          const parsed = parseEndpoint(given)
          assert.deepEqual(parseEndpoint(formatEndpoint(parsed)), parsed)
        } catch (error) {
          assert.ok(error instanceof AddressError, String(error))
          assert.doesNotMatch(error.message, /[\0-\x1f\x7f]/)
        }
      }),
      { numRuns: 3000 },
    )
  })
})

describe('addresses', () => {
  const CANONICAL: readonly (readonly [string, string | undefined])[] = [
    ['1.2.3.4', '1.2.3.4'],
    ['0.0.0.0', '0.0.0.0'],
    ['1.2.3', undefined],
    ['1.2.3.4.', undefined],
    ['1.2.3.04', undefined],
    ['1.2.3.4 ', undefined],
    ['', undefined],
    ['::', '::'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['::ffff:102:304', '::ffff:1.2.3.4'],
    ['64:ff9b::1.2.3.4', '64:ff9b::102:304'],
    [':::', undefined],
    ['1:::2', undefined],
    ['::1::', undefined],
    [':1:2:3:4:5:6:7', undefined],
    ['1:2:3:4:5:6:7:', undefined],
    ['::g', undefined],
    ['::1%eth0', undefined],
  ]
  for (const [given, canonical] of CANONICAL) {
    test(`${JSON.stringify(given)} is ${canonical ?? 'not an IP address'}`, () => {
      assert.equal(canonicalIp(given), canonical)
      assert.equal(isIp(given), canonical === undefined ? (given.includes('%') ? 6 : 0) : canonical.includes(':') ? 6 : 4)
    })
  }

  test('IPv6 text and bytes are inverse to each other, and agree with the platform', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (random) => {
        // Runs of zeros are what the canonical form is about.
        const bytes = random.map((byte, i) => ((random[i >> 1] as number) & 1 ? 0 : byte))
        const text = ipText(bytes)
        assert.deepEqual(ipBytes(text), bytes)
        if (!text.includes('.')) assert.equal(new URL(`http://[${text}]/`).hostname, `[${text}]`)
      }),
    )
  })

  test('an address is shown as it is written, an unnamed socket as nothing', () => {
    assert.equal(formatAddress(ipAddress('127.0.0.1', 80)), '127.0.0.1:80')
    assert.equal(formatAddress(ipAddress('::1', 80)), '[::1]:80')
    assert.equal(formatAddress(ipAddress('FE80::1%eth0', 80)), '[fe80::1%eth0]:80')
    assert.equal(formatAddress({ family: 'unix', path: '/x', abstract: false }), '/x')
    assert.equal(formatAddress({ family: 'unix', path: '@x', abstract: false }), './@x')
    assert.equal(formatAddress({ family: 'unix', path: 'x', abstract: true }), '@x')
    assert.equal(formatAddress({ family: 'unix', path: '', abstract: false }), '')
    assert.equal(formatAddress({ family: 'unix', path: '\u001b[2J', abstract: true }), '@\\u{1b}[2J')
    assert.throws(() => ipAddress('localhost', 80), AddressError)
  })

  test('an address becomes the endpoint that reaches it, and back', () => {
    const all: Address[] = [
      ipAddress('127.0.0.1', 80),
      ipAddress('fe80::1%eth0', 80),
      { family: 'unix', path: '@x', abstract: false },
      { family: 'unix', path: 'x', abstract: true },
    ]
    for (const address of all) assert.deepEqual(addressOf(endpointOf(address)), address)
    assert.equal(formatEndpoint(endpointOf(ipAddress('::1', 80), 'tls')), 'tls://[::1]:80')
    assert.equal(addressOf(parseEndpoint('tcp://localhost:80')), undefined)
    assert.equal(addressOf(parseEndpoint('tcp://*:80')), undefined)
  })

  test('two addresses are the same place or not', () => {
    const unix = (path: string, abstract = false): Address => ({ family: 'unix', path, abstract })
    assert.ok(sameAddress(ipAddress('::1', 80), ipAddress('0:0::1', 80)))
    assert.ok(sameAddress(ipAddress('::ffff:1.2.3.4', 80), ipAddress('1.2.3.4', 80)))
    assert.ok(sameAddress(unix('/x'), unix('/x')))
    assert.ok(!sameAddress(ipAddress('::1', 80), ipAddress('::1', 81)))
    assert.ok(!sameAddress(ipAddress('fe80::1%a', 80), ipAddress('fe80::1%b', 80)))
    assert.ok(!sameAddress(ipAddress('::1.2.3.4', 80), ipAddress('1.2.3.4', 80)))
    assert.ok(!sameAddress(unix('x'), unix('x', true)))
    assert.ok(!sameAddress(unix(''), unix('')))
    assert.ok(!sameAddress(unix('/x'), ipAddress('::1', 80)))
  })
})

describe('ranges', () => {
  test('a range holds what lies in it, in either reading of a v4-mapped address', () => {
    const ten = Cidr.parse('10.0.0.0/8')
    for (const inside of ['10.0.0.0', '10.255.255.255', '::ffff:10.1.2.3', ipAddress('10.1.2.3', 80)]) assert.ok(ten.contains(inside))
    for (const outside of ['11.0.0.0', '9.255.255.255', '::10.0.0.1', '::', 'localhost', '']) assert.ok(!ten.contains(outside))
    assert.ok(!ten.contains({ family: 'unix', path: '/x', abstract: false }))
    assert.ok(Cidr.parse('fe80::/10').contains('febf::1%eth0'))
    assert.ok(!Cidr.parse('fe80::/10').contains('fec0::1'))
    assert.ok(Cidr.parse('0.0.0.0/0').contains('255.255.255.255'))
    assert.ok(!Cidr.parse('0.0.0.0/0').contains('::1'))
    assert.ok(Cidr.parse('::/0').contains('::ffff:1.2.3.4'))
    assert.ok(!Cidr.parse('::/0').contains('1.2.3.4'))
    assert.ok(Cidr.parse('::1').contains('::1'))
    assert.ok(!Cidr.parse('::1').contains('::2'))
    assert.ok(Cidr.parse('192.0.2.128/25').contains('192.0.2.200'))
    assert.ok(!Cidr.parse('192.0.2.128/25').contains('192.0.2.127'))
    assert.equal(String(Cidr.parse('FD00::/8')), 'fd00::/8')
    assert.equal(String(Cidr.parse('127.0.0.1')), '127.0.0.1/32')
  })

  for (const bad of [
    '',
    '10.0.0.0/33',
    '::/129',
    '10.0.0.0/',
    '10.0.0.0/08',
    '10.0.0.0/-1',
    '10.0.0.0/8/8',
    '10/8',
    'localhost/8',
    '::1%eth0/128',
  ]) {
    test(`${JSON.stringify(bad)} is not a range`, () => {
      assert.throws(
        () => Cidr.parse(bad),
        (error) => error instanceof AddressError && error.code === 'BAD_CIDR',
      )
    })
  }

  test('bits behind the prefix are refused with the range that was meant', () => {
    assert.throws(() => Cidr.parse('10.1.2.3/8'), /bad range "10\.1\.2\.3\/8": expected 10\.0\.0\.0\/8/)
  })

  const KINDS: readonly (readonly [string, string, string?])[] = [
    ['8.8.8.8', 'global'],
    ['2606:4700::1111', 'global'],
    ['0.0.0.0', 'unspecified'],
    ['0.1.2.3', 'this-network'],
    ['10.0.0.1', 'private'],
    ['172.16.0.1', 'private'],
    ['172.32.0.1', 'global'],
    ['192.168.1.1', 'private'],
    ['100.64.0.1', 'cgnat'],
    ['127.255.255.255', 'loopback'],
    ['169.254.169.254', 'link-local'],
    ['192.0.0.8', 'reserved'],
    ['192.0.2.1', 'documentation'],
    ['198.51.100.1', 'documentation'],
    ['203.0.113.1', 'documentation'],
    ['192.88.99.1', '6to4-relay'],
    ['198.19.0.1', 'benchmarking'],
    ['224.0.0.1', 'multicast'],
    ['240.0.0.1', 'reserved'],
    ['255.255.255.255', 'broadcast'],
    ['::', 'unspecified'],
    ['::1', 'loopback'],
    ['::ffff:10.0.0.1', 'v4-mapped', 'private'],
    ['::ffff:8.8.8.8', 'v4-mapped', 'global'],
    ['::127.0.0.1', 'v4-compatible', 'loopback'],
    ['::ffff:0:127.0.0.1', 'v4-translated', 'loopback'],
    ['64:ff9b::127.0.0.1', 'nat64', 'loopback'],
    ['64:ff9b:1::10.0.0.1', 'nat64', 'private'],
    ['64:ff9b:1:a00:0:100::', 'nat64', 'private'],
    ['100::1', 'discard'],
    ['100:0:0:1::1', 'reserved'],
    ['2001::1', 'teredo', 'reserved'],
    ['2001:0:0:0:0:0:f5ff:fffe', 'teredo', 'private'],
    ['2001:2::1', 'benchmarking'],
    ['2001:10::1', 'orchid'],
    ['2001:20::1', 'orchid'],
    ['2001:1ff::1', 'reserved'],
    ['2001:200::1', 'global'],
    ['2001:db8::1', 'documentation'],
    ['2002:a00:1::1', '6to4', 'private'],
    ['3fff::1', 'documentation'],
    ['5f00::1', 'srv6'],
    ['fc00::1', 'unique-local'],
    ['fdff::1', 'unique-local'],
    ['fe80::1%eth0', 'link-local'],
    ['fec0::1', 'site-local'],
    ['ff02::1', 'multicast'],
    ['4000::1', 'reserved'],
    ['2606::5efe:10.0.0.1', 'isatap', 'private'],
    ['2606::200:5efe:8.8.8.8', 'isatap', 'global'],
  ]
  for (const [address, range, embedded] of KINDS) {
    test(`${address} is ${range}${embedded ? ` around ${embedded}` : ''}`, () => {
      const found = classify(address)
      assert.equal(found.range, range)
      if (embedded) assert.equal(found.embedded?.range, embedded)
      assert.equal(isGlobal(address), range === 'global' || (range === 'v4-mapped' && embedded === 'global'))
    })
  }

  test('what is no address cannot be classified', () => {
    assert.throws(() => classify('localhost'), AddressError)
    assert.throws(() => classify({ family: 'unix', path: '/x', abstract: false }), AddressError)
  })
})
