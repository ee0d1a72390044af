/** Cipher suites: their names, lists of them, and what connections agree on. */

import assert from 'node:assert/strict'
import { describe } from 'node:test'
import { getCiphers } from 'node:tls'
import { Exit, ssl } from 'fairlead/erlang'
import { LOCAL, ok, test, theFiles } from './erlang-worlds.js'

const GCM: ssl.CipherSuite = { key_exchange: 'ecdhe_ecdsa', cipher: 'aes_128_gcm', mac: 'aead', prf: 'sha256' }

describe('cipher suites', () => {
  test('every suite of the TLS library has a form and two names, and each leads to the others', () => {
    // Those that distributions build Node with may have older ones.
    for (const openssl of getCiphers()
      .map((name) => name.toUpperCase())
      .filter((name) => /AES|CHACHA20/.test(name))) {
      const suite = ssl.str_to_suite(openssl)
      assert.ok('key_exchange' in suite, openssl)
      assert.equal(ssl.suite_to_openssl_str(suite), openssl)
      assert.deepEqual(ssl.str_to_suite(ssl.suite_to_str(suite) as string), suite)
    }
    return Promise.resolve()
  })

  test('a name of either kind gives the suite, what is none not_recognized', () => {
    for (const name of ['ECDHE-ECDSA-AES128-GCM-SHA256', 'TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256'])
      assert.deepEqual(ssl.str_to_suite(name), GCM)
    assert.equal(ssl.suite_to_str(GCM), 'TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256')
    assert.equal(ssl.suite_to_openssl_str(GCM), 'ECDHE-ECDSA-AES128-GCM-SHA256')
    const older: ssl.CipherSuite = { key_exchange: 'rsa', cipher: 'aes_256_cbc', mac: 'sha256', prf: 'default_prf' }
    assert.deepEqual(ssl.str_to_suite('AES256-SHA256'), older)
    for (const none of ['FOO', '', 'constructor']) assert.deepEqual(ssl.str_to_suite(none), ['error', ['not_recognized', none]])
    const odd = { ...GCM, prf: 'sha384' } as const
    assert.deepEqual(ssl.suite_to_str(odd), ['error', ['not_recognized', odd]])
    assert.deepEqual(ssl.suite_to_openssl_str('x' as never), ['error', ['not_recognized', 'x']])
    return Promise.resolve()
  })

  test('lists by kind and version, as suites and by their names', () => {
    const only13 = ssl.cipher_suites('exclusive', 'tlsv1.3')
    assert.ok(only13.length >= 3 && only13.every(({ key_exchange }) => key_exchange === 'any'))
    const all = ssl.cipher_suites('all', 'tlsv1.3')
    assert.equal(all.length, only13.length + ssl.cipher_suites('all', 'tlsv1.2').length)
    assert.ok(ssl.cipher_suites('default', 'tlsv1.2').some((suite) => ssl.suite_to_str(suite) === ssl.suite_to_str(GCM)))
    assert.ok(ssl.cipher_suites('anonymous', 'tlsv1.2', 'openssl').includes('PSK-AES128-GCM-SHA256'))
    assert.ok(!ssl.cipher_suites('all', 'tlsv1.2', 'openssl').includes('PSK-AES128-GCM-SHA256'))
    assert.ok(ssl.cipher_suites('all', 'tlsv1.1').every(({ mac }) => mac === 'sha'))
    assert.deepEqual(ssl.cipher_suites('foo' as never, 'tlsv1.2'), [])
    assert.deepEqual(ssl.cipher_suites('all', 'tlsv1.9' as never), [])
    return Promise.resolve()
  })

  test('filters choose, prepend puts in front and append at the end', () => {
    const all = ssl.cipher_suites('default', 'tlsv1.2')
    const dhe = [['key_exchange', (value: string) => value === 'dhe_rsa']] as const
    const chosen = ssl.filter_cipher_suites(all, [...dhe, ['mac', (mac) => mac === 'aead']])
    assert.ok(chosen.length > 0 && chosen.every(({ key_exchange, mac }) => key_exchange === 'dhe_rsa' && mac === 'aead'))
    const count = all.filter(({ key_exchange }) => key_exchange === 'dhe_rsa').length
    const isDhe = ({ key_exchange }: ssl.CipherSuite) => key_exchange === 'dhe_rsa'
    const [front, back] = [ssl.prepend_cipher_suites(dhe, all), ssl.append_cipher_suites(dhe, all)]
    assert.ok(front.slice(0, count).every(isDhe) && !front.slice(count).some(isDhe) && front.length === all.length)
    assert.ok(back.slice(-count).every(isDhe) && !back.slice(0, -count).some(isDhe))
    const last = all.at(-1) as ssl.CipherSuite
    assert.deepEqual(ssl.prepend_cipher_suites([last], all), [last, ...all.slice(0, -1)])
    assert.deepEqual(ssl.append_cipher_suites([all[0] as ssl.CipherSuite], all), [...all.slice(1), all[0]])
    const unknown = { ...GCM, cipher: 'rot13' } as never
    assert.deepEqual(ssl.filter_cipher_suites([unknown, GCM], []), [GCM])
    const isBadarg = (error: unknown) => error instanceof Exit && error.reason === 'badarg'
    for (const bad of [null, 'x', [1], [['foo', () => true]]]) {
      assert.throws(() => ssl.filter_cipher_suites(all, bad as never), isBadarg)
      assert.throws(() => ssl.prepend_cipher_suites(bad as never, all), isBadarg)
      assert.throws(() => ssl.append_cipher_suites([], bad as never), isBadarg)
    }
    return Promise.resolve()
  })

  test('a connection has the suite that ciphers asks for, as a suite or by either name, and says so', async () => {
    const { cert, key } = await theFiles()
    const listening = ok(await ssl.listen(0, [LOCAL, ['certfile', cert], ['keyfile', key]]))
    const cbc: ssl.CipherSuite = { key_exchange: 'ecdhe_ecdsa', cipher: 'aes_256_cbc', mac: 'sha384', prf: 'sha384' }
    const tls13: ssl.CipherSuite = { key_exchange: 'any', cipher: 'chacha20_poly1305', mac: 'aead', prf: 'sha256' }
    for (const [ciphers, suite] of [
      [[GCM], GCM],
      [['TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384'], cbc],
      ['ECDHE-ECDSA-AES256-SHA384', cbc],
      ['TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384:NONE-SUCH', cbc],
      [[tls13], tls13],
    ] as const) {
      const accepting = ssl.accept(listening)
      const client = ok(await ssl.connect('127.0.0.1', ok(ssl.port(listening)), [['ciphers', ciphers]]))
      const server = ok(await accepting)
      for (const socket of [client, server])
        assert.deepEqual(ssl.connection_information(socket, ['selected_cipher_suite']), ['ok', [['selected_cipher_suite', suite]]])
      assert.deepEqual(ok(ssl.connection_info(client))[1], ssl.suite_to_str(suite))
      for (const socket of [client, server]) await ssl.close(socket)
    }
    assert.deepEqual(await ssl.connect('127.0.0.1', 1, [['ciphers', [{ ...GCM, mac: 'sha' }]]]), ['error', 'ecipher'])
    const none = [
      ['ciphers', [GCM]],
      ['versions', ['tlsv1.3']],
    ] as const
    assert.deepEqual(await ssl.connect('127.0.0.1', 1, none), ['error', 'ecipher'])
    assert.deepEqual(await ssl.connect('127.0.0.1', 1, [['ciphers', [1 as never]]]), ['error', 'eoptions'])
    await ssl.close(listening)
  })

  test('a server whose list names suites of TLS 1.2 alone speaks no 1.3, and one with a kind of them does', async () => {
    const { cert, key } = await theFiles()
    for (const [ciphers, protocol] of [
      ['ECDHE-ECDSA-AES128-GCM-SHA256:!PSK', 'tlsv1.2'],
      ['HIGH:!aNULL', 'tlsv1.3'],
      ['ECDHE-ECDSA-AES128-GCM-SHA256:TLS_AES_128_GCM_SHA256', 'tlsv1.3'],
    ] as const) {
      const listening = ok(await ssl.listen(0, [LOCAL, ['certfile', cert], ['keyfile', key], ['ciphers', ciphers]]))
      const accepting = ssl.accept(listening)
      const client = ok(await ssl.connect('127.0.0.1', ok(ssl.port(listening)), []))
      assert.deepEqual(ok(ssl.connection_information(ok(await accepting), ['protocol'])), [['protocol', protocol]], ciphers)
      await ssl.close(client)
      await ssl.close(listening)
    }
  })
})
