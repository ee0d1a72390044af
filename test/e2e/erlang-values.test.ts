/** What Erlang/OTP itself makes of the same input: decoders, addresses, suites, options. */

import assert from 'node:assert/strict'
import { describe } from 'node:test'
import { type Connection, listen as coreListen } from 'fairlead'
import { _, after as afterwards, type Data, type Failure, gen_tcp, inet, type Ok, receive, ssl } from 'fairlead/erlang'
import { against, ok, own, pair, TRANSPORTS, written } from './erlang-peer.js'

describe('decoders', () => {
  const inputs: Readonly<Record<string, readonly string[]>> = {
    line: ['ab\none\r\ntail', '\n\n', 'x'],
    asn1: ['\x30\x03abc\x04\x01z', '\x30\x82\x00\x03abc!', '\x30\x80xy', '\x1f\x81\x01\x02ab\x30', '\x30\x85\x00\x00\x00\x00\x01a'],
    cdr: ['GIOP\x01\x00\x00\x00\x00\x00\x00\x02abGIOP\x01\x00\x01\x00\x01\x00\x00\x00c', 'GIOX\x01\x00\x00\x00\x00\x00\x00\x02ab'],
    sunrm: ['\x80\x00\x00\x02ab\x00\x00\x00\x01c\x00'],
    fcgi: ['\x01\x01\x00\x01\x00\x02\x03\x00ab...\x01\x01\x00\x01\x00\x00\x00\x00', '\x02\x01\x00\x01\x00\x02\x01\x00ab.'],
    tpkt: ['\x03\x00\x00\x06ab\x03\x00\x00\x04\x03', '\x02\x00\x00\x06ab', '\x03\x00\x00\x02ab'],
    '1': ['\x02ab\x00\x05c'],
    '2': ['\x00\x02ab\x00\x00\x00'],
    '4': ['\x00\x00\x00\x02ab\xff\xff\xff\xffz', '\x7f\xff\xff\xff'],
  }
  for (const [packet, streams] of Object.entries(inputs)) {
    against(`{packet, ${packet}} cuts as Erlang does`, async (erl) => {
      const type = /^\d$/.test(packet) ? Number(packet) : packet
      for (const stream of streams) {
        const data = Buffer.from(stream, 'latin1')
        await using listener = await coreListen('tcp://127.0.0.1:0')
        const { port } = listener.local as { port: number }
        const feed = async () => {
          const peer: Connection = await listener.accept()
          await peer.write(data)
          await peer.end()
        }
        void feed()
        const socket = ok(await gen_tcp.connect([127, 0, 0, 1], port, ['binary', ['packet', type as 'line'], ['active', false]]))
        const results: string[] = []
        for (let result: Ok<Data> | Failure<unknown> = ['ok', '']; result[0] === 'ok';) {
          result = await gen_tcp.recv(socket, 0, 5_000)
          results.push(result[0] === 'ok' ? written(result[1], 'binary') : String(result[1]))
        }
        void feed()
        const loop = `Get = fun G(T) -> case gen_tcp:recv(T, 0, 5000) of {ok, D} -> [D | G(T)]; {error, R} -> [R] end end`
        const theirs = await erl.eval(
          `begin ${loop}, {ok, S} = gen_tcp:connect({127,0,0,1}, ${port}, [binary, {packet, ${packet}}, {active, false}]), Result = Get(S), gen_tcp:close(S), Result end`
            .replace('begin ', '(fun() -> ')
            .replace(/ end$/, ' end)()'),
        )
        assert.equal(`[${results.join(',')}]`, theirs, JSON.stringify(stream))
        await gen_tcp.close(socket)
      }
    })
  }

  for (const packet of ['http', 'http_bin', 'httph', 'httph_bin'] as const)
    against(`{packet, ${packet}} cuts as Erlang does`, async (erl) => {
      const heads = [
        'GET /x HTTP/1.1\r\nHost: a\r\nX-Foo-bar: v \r\n more\r\ncookie:c\r\n\r\n',
        'OPTIONS * HTTP/1.0\r\n\r\n',
        'CONNECT h:80 HTTP/1.1\r\n\r\n',
        'GET http://h:81/p HTTP/1.1\r\n\r\nGET https://h HTTP/1.1\r\n\r\nGET HTTP://H:80 HTTP/1.1\r\n\r\n',
        'GET http://h:x/p HTTP/1.1\r\n\r\nGET https://h:/p HTTP/1.1\r\n\r\nGET ftp://x/y HTTP/1.1\r\n\r\n',
        'HTTP/1.0 200 OK\r\nServer: s\r\n\r\nHTTP/1.1 200\r\n\r\n',
        'HTTP/1.1  200  x y \r\n\r\nHTTP/11.12 200 x\r\n\r\nHTTP/1.1 abc\r\n\r\n',
        'HTTP/1.1 404 Not Found at all\nbad line\r\n\r\n',
        'junk\r\n\r\n',
        'GET /old\r\n\r\nGET\r\n\r\nGET /x HTTP/1\r\n\r\nGET /x FOO/1.1\r\n\r\n',
        'GET foo HTTP/1.1\r\n\r\nget /x HTTP/1.1\r\n\r\nGET  /two   HTTP/1.1 \r\n\r\n',
        'HEAD / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\n\r\nPUT / HTTP/1.1\r\n\r\nDELETE / HTTP/1.1\r\n\r\nTRACE / HTTP/1.1\r\n\r\nPATCH / HTTP/1.1\r\n\r\n',
        'GET /x y HTTP/1.1\r\n\r\n GET / HTTP/1.1\r\n\r\n\r\nGET /x HTTP/1.1\r\n\r\n',
        'GET / HTTP/1.1\nA: b\n\nGET / HTTP/1.1\r\nA : b\r\n: c\r\nA:\r\na: b  \r\n\r\n',
        `GET / HTTP/1.1\r\nwww-authenticate: b\r\nx-FORWARDED-for:c\r\naVeryLongHeaderName-that-goes-on: v\r\n${'a'.repeat(49)}b: v\r\n${'a'.repeat(50)}b: v\r\n\r\n`,
        'GET / HTTP/1.1x\r\nx--y: a\r\n-x: b\r\nX_y: c\r\r\nm\u0080: d\r\n\r\nM\u0080 / HTTP/1.1\r\n\r\nGET : HTTP/1.1\r\n\r\nGET :v HTTP/1.1\r\n\r\n',
        'GET / HTTP/1.1\r\n\tfoo\r\n\r\nG@T / HTTP/1.1\r\n\r\n',
      ]
      for (const head of heads) {
        await using listener = await coreListen('tcp://127.0.0.1:0')
        const { port } = listener.local as { port: number }
        const feed = async () => {
          const peer = await listener.accept()
          await peer.write(head)
          await peer.end()
        }
        void feed()
        const socket = ok(
          await gen_tcp.connect([127, 0, 0, 1], port, [
            ['packet', packet],
            ['active', false],
          ]),
        )
        const results: string[] = []
        for (;;) {
          const result = await gen_tcp.recv(socket, 0, 5_000)
          if (result[0] === 'error') break
          results.push(
            JSON.stringify(result[1], (_key, value: unknown) =>
              value instanceof Uint8Array ? { bytes: Buffer.from(value).toString('latin1') } : value,
            ),
          )
        }
        void feed()
        // Strings and atoms are both strings here, tuples and lists both arrays.
        await erl.eval(
          `Json = fun J(X) when is_atom(X) -> [$", atom_to_list(X), $"]; J(X) when is_integer(X) -> integer_to_list(X); J(X) when is_binary(X) -> ["{\\"bytes\\":", J(binary_to_list(X)), $}]; J(X) when is_tuple(X) -> [$[, lists:join(",", [J(Y) || Y <- tuple_to_list(X)]), $]]; J(X) -> [$", lists:flatmap(fun($\\r) -> "\\\\r"; ($\\n) -> "\\\\n"; ($\\t) -> "\\\\t"; (C) -> [C] end, X), $"] end`,
        )
        const theirs = await erl.eval(
          `(fun() -> {ok, S} = gen_tcp:connect({127,0,0,1}, ${port}, [{packet, ${packet}}, {active, false}]), Get = fun G() -> case gen_tcp:recv(S, 0, 5000) of {ok, D} -> [[Json(D), 10] | G()]; {error, _} -> [] end end, list_to_binary(Get()) end)()`,
        )
        const text = Buffer.from(theirs.slice(2, -2).split(',').map(Number)).toString('latin1')
        assert.equal(`${results.join('\n')}\n`, text, head)
        await gen_tcp.close(socket)
      }
    })
})

describe('values', () => {
  against('suites have the form and the names that Erlang gives them, and one that is asked for is agreed on', async (erl) => {
    const { cert, key } = await own(erl)
    let known = 0
    for (const name of ssl.cipher_suites('all', 'tlsv1.3', 'rfc').concat(ssl.cipher_suites('anonymous', 'tlsv1.2', 'rfc'))) {
      const theirs = await erl.eval(
        `(fun() -> case ssl:str_to_suite("${name}") of M when is_map(M) -> {maps:get(key_exchange, M), maps:get(cipher, M), maps:get(mac, M), maps:get(prf, M)}; _ -> none end end)()`,
      )
      if (theirs === 'none') continue
      known++
      const { key_exchange, cipher, mac, prf } = ssl.str_to_suite(name) as ssl.CipherSuite
      assert.equal(`{${key_exchange},${cipher},${mac},${prf}}`, theirs, name)
      const openssl = ssl.suite_to_openssl_str(ssl.str_to_suite(name) as ssl.CipherSuite)
      assert.equal(
        await erl.eval(`list_to_binary(ssl:suite_to_openssl_str(ssl:str_to_suite("${name}")))`),
        written(Buffer.from(String(openssl)), 'binary'),
        name,
      )
    }
    assert.ok(known > 40, String(known))
    await erl.eval(`{ok, L} = ssl:listen(0, [{ip, {127,0,0,1}}, {certfile, "${cert}"}, {keyfile, "${key}"}])`)
    const port = Number(await erl.eval('{ok, {_, Port}} = ssl:sockname(L), Port'))
    for (const name of ['TLS_CHACHA20_POLY1305_SHA256', 'TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384']) {
      const accepting = erl.eval(
        '(fun() -> {ok, TS} = ssl:transport_accept(L, 5000), {ok, S} = ssl:handshake(TS, 5000), {ok, [{selected_cipher_suite, C}]} = ssl:connection_information(S, [selected_cipher_suite]), list_to_atom(ssl:suite_to_str(C)) end)()',
      )
      ok(await ssl.connect('localhost', port, [['ciphers', [ssl.str_to_suite(name) as ssl.CipherSuite]]], 5_000))
      assert.equal((await accepting).replaceAll("'", ''), name)
    }
  })

  against('addresses are read and written as Erlang does', async (erl) => {
    const {
      parse_address,
      parse_strict_address,
      parse_ipv4_address,
      parse_ipv4strict_address,
      parse_ipv6_address,
      parse_ipv6strict_address,
    } = inet
    const parsers = {
      parse_address,
      parse_strict_address,
      parse_ipv4_address,
      parse_ipv4strict_address,
      parse_ipv6_address,
      parse_ipv6strict_address,
    }
    const texts = [
      '127.1',
      '1.2.3',
      '1.2.3.4',
      '1.2.3.4.5',
      '1',
      '16909060',
      '4294967295',
      '4294967296',
      '0x7f.1',
      '010.0.0.1',
      '08.1',
      '1.2.3.256',
      '1.256.3',
      '1.2.65535',
      '1.2.65536',
      '',
      '1.',
      '.1',
      '1..2',
      ' 1.2.3.4',
      'a',
      '::',
      '::1',
      '1::',
      '::1.2.3.4',
      '::ffff:1.2.3.4',
      '1:2:3:4:5:6:7:8',
      '1:2:3:4:5:6:7',
      '1::2::3',
      ':1',
      '12345::',
      'fe80::1',
      'FE80::A',
    ]
    for (const text of texts) {
      for (const [which, parse] of Object.entries(parsers)) {
        assert.equal(written(parse(text), 'binary'), await erl.eval(`inet:${which}("${text}")`), `${which}("${text}")`)
      }
    }
    for (const address of [
      [127, 0, 0, 1],
      [0, 0, 0, 0, 0, 0xffff, 258, 772],
      [0, 0, 0, 0, 0, 0, 0, 1],
      [0, 0, 0, 0, 0, 0, 0, 0],
      [0xfe80, 0, 0, 0, 1, 0, 0, 1],
      [1, 0, 2, 0, 3, 0, 4, 0],
    ])
      assert.equal(
        await erl.eval(`list_to_binary(inet:ntoa({${address.join()}}))`),
        written(Buffer.from(String(inet.ntoa(address as never))), 'binary'),
        String(address),
      )
  })

  for (const transport of TRANSPORTS) {
    against(`${transport}: {active, V}, one after the other, does as in Erlang`, async (erl) => {
      const { socket } = await pair(erl, transport, 'connect', ['binary', ['active', false]], 'binary, {active, false}')
      const api = (transport === 'gen_tcp' ? inet : ssl) as typeof inet
      const [setopts, getopts] = transport === 'gen_tcp' ? ['inet:setopts', 'inet:getopts'] : ['ssl:setopts', 'ssl:getopts']
      for (const value of [
        0,
        -1,
        1,
        32_767,
        -32_768,
        true,
        5,
        'once',
        5,
        -5,
        true,
        0,
        'once',
        -3,
        10,
        -10,
        10,
        -11,
        32_767,
        1,
        false,
        3,
      ] as const) {
        const result = api.setopts(socket, [['active', value]])
        const mode = (ok(api.getopts(socket, ['active']))[0] as readonly [string, unknown])[1]
        const said = await receive(_, afterwards(0))
        const theirs = await erl.eval(
          `(fun() -> R = case ${setopts}(S, [{active, ${value}}]) of ok -> ok; {error, _} -> error end, {ok, [{active, M}]} = ${getopts}(S, [active]), {R, M, receive {_, S} -> passive after 20 -> none end} end)()`,
        )
        assert.equal(
          `{${result === 'ok' ? 'ok' : 'error'},${String(mode)},${said === 'timeout' ? 'none' : 'passive'}}`,
          theirs,
          String(value),
        )
      }
    })

    against(`${transport}: {header, N} gives what Erlang's gives`, async (erl) => {
      const { ours, socket, theirs } = await pair(
        erl,
        transport,
        'connect',
        ['binary', ['packet', 1], ['header', 3], ['active', false]],
        'binary, {packet, 1}, {header, 3}, {active, false}',
      )
      for (const text of ['abcd', 'abc', 'ab', '']) {
        assert.equal(await ours.send(socket, text), 'ok')
        const got = await erl.eval(`{ok, D${text.length}} = ${theirs}:recv(S, 0, 5000), D${text.length}`)
        await erl.eval(`${theirs}:send(S, "${text}")`)
        const data = ok(await ours.recv(socket, 0, 5_000)) as unknown as readonly (number | Uint8Array)[]
        const tail = data.at(-1)
        const numbers = data.filter((one) => typeof one === 'number')
        const list = tail instanceof Uint8Array ? `[${numbers.join(',')}|${written(tail, 'binary')}]` : `[${numbers.join(',')}]`
        assert.equal(list, got, text)
      }
    })
  }

  against('{linger, {true, 0}} resets the connection, both ways', async (erl) => {
    const one = await pair(
      erl,
      'gen_tcp',
      'connect',
      ['binary', ['active', false], ['linger', [true, 0]]],
      'binary, {active, false}, {show_econnreset, true}',
    )
    await one.ours.close(one.socket)
    assert.equal(await erl.eval('gen_tcp:recv(S, 0, 5000)'), '{error,econnreset}')
    erl.forget()
    const other = await pair(
      erl,
      'gen_tcp',
      'connect',
      ['binary', ['active', false], ['show_econnreset', true]],
      'binary, {active, false}, {linger, {true, 0}}',
    )
    await erl.eval('gen_tcp:close(S)')
    assert.deepEqual(await other.ours.recv(other.socket, 0, 5_000), ['error', 'econnreset'])
  })
})
