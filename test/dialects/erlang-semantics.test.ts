/** What the sockets of Erlang do, by the numbers of the list that was made of the original (E1 to E40). */

import assert from 'node:assert/strict'
import { describe } from 'node:test'
import { rootCertificates } from 'node:tls'
import { connect as dial, listen as coreListen } from 'fairlead'
import { _, after, erlang, gen_tcp, inet, receive, self, spawn, ssl, type SocketOption } from 'fairlead/erlang'
import { hasIpv6 } from '../support/ipv6.js'
import { bytes, LOCAL, ok, RAW, soon, test, theFiles, withPeer, WORLDS } from './erlang-worlds.js'

describe('framing', () => {
  for (const [packet, header] of [
    [0, []],
    [1, [5]],
    [2, [0, 5]],
    [4, [0, 0, 0, 5]],
  ] as const) {
    test(`E1 {packet, ${packet}} sends ${header.length} bytes of big-endian length that count the payload alone`, async () => {
      const [socket, peer] = await withPeer([
        ['packet', packet],
        ['active', false],
      ])
      assert.equal(await gen_tcp.send(socket, 'hello'), 'ok')
      assert.deepEqual(await peer.readExactly(header.length + 5), Uint8Array.of(...header, ...bytes('hello')))
      await gen_tcp.close(socket)
      await peer.close()
    })
  }

  for (const world of WORLDS) {
    for (const packet of [1, 2, 4] as const) {
      test(`E2 ${world.name}, {packet, ${packet}}: an empty send is an empty packet`, async (t) => {
        const [left, right] = await world.pair(t, [...RAW, ['packet', packet]], [...RAW, ['packet', packet]])
        assert.equal(await world.api.send(left, ''), 'ok')
        assert.equal(await world.api.send(left, 'x'), 'ok')
        assert.deepEqual(await world.api.recv(right, 0), ['ok', bytes('')])
        assert.deepEqual(await world.api.recv(right, 0), ['ok', bytes('x')])
      })

      test(`E5 ${world.name}, {packet, ${packet}}: sizes around the limits arrive whole`, async (t) => {
        const [left, right] = await world.pair(t, [...RAW, ['packet', packet]], [...RAW, ['packet', packet]])
        for (const size of [0, 1, 254, 255, 256, 65_534, 65_535, 65_536, 200_000]) {
          if (size >= 256 ** packet) continue
          const data = new Uint8Array(size).map((_byte, i) => i * 7)
          const sent = world.api.send(left, data)
          assert.deepEqual(await world.api.recv(right, 0, 5_000), ['ok', data])
          assert.equal(await sent, 'ok')
        }
      })
    }

    test(`E2 ${world.name}: an empty send on a raw socket sends nothing`, async (t) => {
      const [left, right] = await world.pair(t, RAW, RAW)
      assert.equal(await world.api.send(left, []), 'ok')
      assert.equal(await world.api.send(left, 'x'), 'ok')
      assert.deepEqual(await world.api.recv(right, 0), ['ok', bytes('x')])
    })

    for (const [packet, size] of [
      [1, 256],
      [2, 65_536],
    ] as const) {
      test(`E6 ${world.name}, {packet, ${packet}}: ${size} bytes are refused, nothing is sent, and the socket goes on`, async (t) => {
        const [left, right] = await world.pair(t, [...RAW, ['packet', packet]], [...RAW, ['packet', packet]])
        const reason = world.kind === 'tcp' ? 'emsgsize' : ['badarg', ['packet_to_large', size, size - 1]]
        assert.deepEqual(await world.api.send(left, new Uint8Array(size)), ['error', reason])
        assert.equal(await world.api.send(left, 'fits'), 'ok')
        assert.deepEqual(await world.api.recv(right, 0), ['ok', bytes('fits')])
      })
    }

    test(`E8 ${world.name}: another packet type holds for what has not been taken`, async (t) => {
      const [left, right] = await world.pair(t, RAW, [...RAW, ['packet', 2]])
      await world.api.send(left, Uint8Array.of(0, 3, 97, 98, 99, 0, 2, 100, 101))
      assert.deepEqual(await world.api.recv(right, 0), ['ok', bytes('abc')])
      assert.equal(world.api.setopts(right, [['packet', 0]]), 'ok')
      assert.deepEqual(await world.api.recv(right, 4, 1_000), ['ok', Uint8Array.of(0, 2, 100, 101)])
    })
  }

  test('E3 packet types that only cut put nothing in front of what is sent', async () => {
    for (const packet of ['line', 'asn1', 'cdr', 'sunrm', 'fcgi', 'tpkt', 'http', 'httph'] as const) {
      const [socket, peer] = await withPeer([
        ['packet', packet],
        ['active', false],
      ])
      assert.equal(await gen_tcp.send(socket, 'hello'), 'ok')
      assert.deepEqual(await peer.readExactly(5), bytes('hello'), packet)
      await gen_tcp.close(socket)
      await peer.close()
    }
  })

  test('E4 one send has one header, however deep its lists are', async () => {
    const [socket, peer] = await withPeer([
      ['packet', 4],
      ['active', false],
    ])
    assert.equal(await gen_tcp.send(socket, [1, [2, Uint8Array.of(3, 4)], 'five', [[bytes('t')]]]), 'ok')
    assert.deepEqual(await peer.readExactly(13), Uint8Array.of(0, 0, 0, 9, 1, 2, 3, 4, ...bytes('fivet')))
    assert.deepEqual(await gen_tcp.send(socket, [256]), ['error', 'einval'])
    assert.deepEqual(await gen_tcp.send(socket, '€'), ['error', 'einval'])
    await gen_tcp.close(socket)
    await peer.close()
  })

  test('E7 frames are found wherever the stream is cut', async () => {
    const stream = Uint8Array.of(0, 3, 97, 98, 99, 0, 0, 0, 2, 100, 101)
    for (let at = 0; at <= stream.length; at++) {
      const [socket, peer] = await withPeer([...RAW, ['packet', 2]])
      await peer.write(stream.slice(0, at))
      const first = gen_tcp.recv(socket, 0, 5_000)
      await peer.write(stream.slice(at))
      assert.deepEqual(await first, ['ok', bytes('abc')], `cut at ${at}`)
      assert.deepEqual(await gen_tcp.recv(socket, 0, 5_000), ['ok', bytes('')])
      assert.deepEqual(await gen_tcp.recv(socket, 0, 5_000), ['ok', bytes('de')])
      await gen_tcp.close(socket)
      await peer.close()
    }
  })
})

describe('recv', () => {
  for (const world of WORLDS) {
    const { api } = world
    test(`E9 ${world.name}: a length is waited for exactly, and 0 gives all there is`, async (t) => {
      const [left, right] = await world.pair(t, RAW, RAW)
      const five = api.recv(right, 5)
      await api.send(left, 'abc')
      await api.send(left, 'defgh')
      assert.deepEqual(await five, ['ok', bytes('abcde')])
      assert.deepEqual(await api.recv(right, 0), ['ok', bytes('fgh')])
    })

    test(`E10 ${world.name}: a timeout loses no byte`, async (t) => {
      const [left, right] = await world.pair(t, RAW, RAW)
      await api.send(left, '01234')
      assert.deepEqual(await api.recv(right, 10, 20), ['error', 'timeout'])
      await api.send(left, '56789')
      assert.deepEqual(await api.recv(right, 10, 5_000), ['ok', bytes('0123456789')])
      assert.deepEqual(await api.recv(right, 0, 0), ['error', 'timeout'])
    })

    test(`E11 E15 ${world.name}: what is no whole packet at the end is closed`, async (t) => {
      const [left, right] = await world.pair(t, RAW, [...RAW, ['packet', 1]])
      await api.send(left, Uint8Array.of(1, 97, 0, 5, 98))
      await api.close(left)
      assert.deepEqual(await api.recv(right, 0, 5_000), ['ok', bytes('a')])
      assert.deepEqual(await api.recv(right, 0, 5_000), ['ok', bytes('')])
      assert.deepEqual(await api.recv(right, 0, 5_000), ['error', 'closed'])
    })

    test(`E12 ${world.name}: a length on a socket with packets, a negative one and one over 64 MiB are refused`, async (t) => {
      const [left, right] = await world.pair(t, RAW, [...RAW, ['packet', 1]])
      await api.send(left, Uint8Array.of(1, 97))
      assert.deepEqual(await api.recv(right, 1), ['error', 'einval'])
      assert.deepEqual(await api.recv(right, -1), ['error', 'einval'])
      assert.deepEqual(await api.recv(left, 67_108_865), ['error', 'enomem'])
      assert.deepEqual(await api.recv(right, 0), ['ok', bytes('a')])
    })

    test(`E14 ${world.name}: packet_size is the largest payload`, async (t) => {
      const options: readonly SocketOption[] = ['binary', ['packet', 4], ['packet_size', 10]]
      const rest = Uint8Array.of(0, 0, 0, 11, ...bytes('0123456789A'))
      const reason = world.kind === 'tcp' ? 'emsgsize' : ['invalid_packet', rest]
      const [left, right] = await world.pair(t, [...RAW, ['packet', 4]], [...options, ['active', false]])
      await api.send(left, '0123456789')
      assert.deepEqual(await api.recv(right, 0), ['ok', bytes('0123456789')])
      await api.send(left, '0123456789A')
      assert.deepEqual(await api.recv(right, 0), ['error', reason])
      assert.deepEqual(await api.recv(right, 0), ['error', world.kind === 'tcp' ? 'enotconn' : 'closed'])
      const [one, other] = await world.pair(t, [...RAW, ['packet', 4]], options)
      await api.send(one, '0123456789A')
      assert.deepEqual(await receive(_, soon), [`${world.kind}_error`, other, reason])
      // Of ssl the error is the last message.
      if (world.kind === 'tcp') assert.deepEqual(await receive(_, soon), ['tcp_closed', other])
      assert.equal(await receive(_, after(20)), 'timeout')
    })

    test(`E15 ${world.name}: an active socket gives the whole packets, the empty one too, then the close`, async (t) => {
      const [left, right] = await world.pair(t, RAW, ['binary', ['packet', 1]])
      await api.send(left, Uint8Array.of(1, 97, 0, 5, 98))
      await api.close(left)
      assert.deepEqual(await receive(_, soon), [world.kind, right, bytes('a')])
      assert.deepEqual(await receive(_, soon), [world.kind, right, bytes('')])
      assert.deepEqual(await receive(_, soon), [`${world.kind}_closed`, right])
    })

    test(`E17 ${world.name}: recv on an active socket is refused and takes nothing, and so is a second recv`, async (t) => {
      const [left, right] = await world.pair(t, RAW, ['binary'])
      assert.deepEqual(await api.recv(right, 0), ['error', 'einval'])
      await api.send(left, 'x')
      assert.deepEqual(await receive([_, right, _], soon), [world.kind, right, bytes('x')])
      const first = api.recv(left, 0)
      assert.deepEqual(await api.recv(left, 0), ['error', 'ealready'])
      await api.send(right, 'y')
      assert.deepEqual(await first, ['ok', bytes('y')])
    })

    test(`E18 ${world.name}: a recv that waits is told of the close`, async (t) => {
      const [left] = await world.pair(t, RAW, RAW)
      const waiting = api.recv(left, 0)
      await api.close(left)
      assert.deepEqual(await waiting, ['error', 'closed'])
    })
  }

  const text = (latin: string) => Uint8Array.from(Buffer.from(latin, 'latin1'))
  const decoded: readonly (readonly [
    SocketOption & readonly ['packet', unknown],
    string,
    readonly (string | readonly unknown[])[],
    string,
  ])[] = [
    [
      ['packet', 'asn1'],
      '\x30\x03abc\x30\x82\x00\x01d\x30\x80\x1f\x81\x01\x02ef\x04',
      ['\x30\x03abc', '\x30\x82\x00\x01d', '\x30\x80', '\x1f\x81\x01\x02ef'],
      'closed',
    ],
    [['packet', 'asn1'], '\x30\x85\x00\x00\x00\x00\x01a', [], 'emsgsize'],
    [['packet', 'sunrm'], '\x80\x00\x00\x02ab\x00\x00\x00\x01c', ['\x80\x00\x00\x02ab', '\x00\x00\x00\x01c'], 'closed'],
    [['packet', 'tpkt'], '\x03\x00\x00\x06ab\x02\x00\x00\x04', ['\x03\x00\x00\x06ab'], 'emsgsize'],
    [
      ['packet', 'cdr'],
      'GIOP\x01\x00\x01\x00\x01\x00\x00\x00aGIOP\x01\x00\x00\x00\x00\x00\x00\x01b',
      ['GIOP\x01\x00\x01\x00\x01\x00\x00\x00a', 'GIOP\x01\x00\x00\x00\x00\x00\x00\x01b'],
      'closed',
    ],
    [['packet', 'cdr'], 'GIOX\x01\x00\x01\x00\x01\x00\x00\x00a', [], 'emsgsize'],
    [
      ['packet', 'fcgi'],
      '\x01\x01\x00\x01\x00\x02\x03\x00ab...\x01\x01\x00\x01\x00\x00\x00\x00',
      ['\x01\x01\x00\x01\x00\x02\x03\x00ab', '\x01\x01\x00\x01\x00\x00\x00\x00'],
      'closed',
    ],
  ]
  for (const [option, stream, packets, end] of decoded) {
    test(`E38 ${JSON.stringify(option)} cuts ${JSON.stringify(stream)}, byte by byte as well`, async () => {
      for (const step of [stream.length, 1]) {
        const [socket, peer] = await withPeer([...RAW, ['nodelay', true], option])
        const feeding = (async () => {
          for (let at = 0; at < stream.length; at += step) await peer.write(text(stream.slice(at, at + step)))
          await peer.end()
        })()
        for (const packet of packets) assert.deepEqual(await gen_tcp.recv(socket, 0, 5_000), ['ok', text(String(packet))])
        assert.deepEqual(await gen_tcp.recv(socket, 0, 5_000), ['error', end])
        await feeding.catch(() => undefined)
        await gen_tcp.close(socket)
        await peer.close()
      }
    })
  }

  test('E38 http gives requests, fields and ends as tuples, with a tag of their own in active mode', async () => {
    const [socket, peer] = await withPeer([['packet', 'http']])
    await peer.write('GET /x HTTP/1.1\r\nHost: a\r\nx-odd: b\r\n c\r\n\r\njunk\r\n')
    const expected = [
      ['http_request', 'GET', ['abs_path', '/x'], [1, 1]],
      ['http_header', 14, 'Host', 'Host', 'a'],
      ['http_header', 0, 'X-Odd', 'x-odd', 'b\r\n c'],
      'http_eoh',
      ['http_error', 'junk\r\n'],
    ]
    for (const packet of expected) assert.deepEqual(await receive(_, soon), ['http', socket, packet])
    await gen_tcp.close(socket)
    const [answered, server] = await withPeer([
      ['packet', 'http'],
      ['active', false],
    ])
    await server.write('HTTP/1.0 200 OK\r\n\r\n')
    assert.deepEqual(await gen_tcp.recv(answered, 0), ['ok', ['http_response', [1, 0], 200, 'OK']])
    // Nothing stands behind the head but what the program asks for.
    inet.setopts(answered, [['packet', 'raw']])
    await server.write('body')
    assert.deepEqual(await gen_tcp.recv(answered, 6), ['ok', '\r\nbody'])
    await gen_tcp.close(answered)
    await peer.close()
    await server.close()
  })

  test('E38 http_bin gives bytes for all that is no atom, and httph begins with the fields', async () => {
    const [socket, peer] = await withPeer([['packet', 'http_bin']])
    await peer.write('GET /x HTTP/1.1\r\nHost: a\r\nx-odd: b\r\n\r\nFOO * HTTP/1.0\r\n\r\nGET http://h:81/p HTTP/1.1\r\n\r\njunk\r\n')
    for (const packet of [
      ['http_request', 'GET', ['abs_path', bytes('/x')], [1, 1]],
      ['http_header', 14, 'Host', bytes('Host'), bytes('a')],
      ['http_header', 0, bytes('X-Odd'), bytes('x-odd'), bytes('b')],
      'http_eoh',
      ['http_request', bytes('FOO'), '*', [1, 0]],
      'http_eoh',
      ['http_request', 'GET', ['absoluteURI', 'http', bytes('h'), 81, bytes('/p')], [1, 1]],
      'http_eoh',
      ['http_error', bytes('junk\r\n')],
    ])
      assert.deepEqual(await receive(_, soon), ['http', socket, packet])
    await gen_tcp.close(socket)
    await peer.close()
    for (const packet of ['httph', 'httph_bin'] as const) {
      const [fields, server] = await withPeer([
        ['packet', packet],
        ['active', false],
      ])
      await server.write('Host: a\r\n\r\n')
      const text = (latin: string) => (packet === 'httph' ? latin : bytes(latin))
      assert.deepEqual(await gen_tcp.recv(fields, 0), ['ok', ['http_header', 14, 'Host', text('Host'), text('a')]])
      assert.deepEqual(await gen_tcp.recv(fields, 0), ['ok', 'http_eoh'])
      await gen_tcp.close(fields)
      await server.close()
    }
  })

  test('E13 a length that cannot be is refused on its header', async () => {
    for (const header of [
      [0xff, 0xff, 0xff, 0xff],
      [0x80, 0, 0, 0],
      [0x7f, 0xff, 0xff, 0xff],
    ]) {
      for (const active of [false, true]) {
        const [socket, peer] = await withPeer(['binary', ['packet', 4], ['active', active]])
        await peer.write(Uint8Array.from(header))
        if (active) {
          assert.deepEqual(await receive(['tcp_error', socket, _], soon), ['tcp_error', socket, 'emsgsize'])
          assert.deepEqual(await receive(['tcp_closed', socket], soon), ['tcp_closed', socket])
        } else {
          assert.deepEqual(await gen_tcp.recv(socket, 0), ['error', 'emsgsize'])
          assert.deepEqual(await gen_tcp.recv(socket, 0), ['error', 'enotconn'])
        }
        await gen_tcp.close(socket)
        await peer.close()
      }
    }
  })

  test('E16 lines keep their end, an unterminated one is dropped, a long one is too large or cut', async () => {
    const lines: readonly SocketOption[] = ['list', ['packet', 'line'], ['active', false]]
    const [socket, peer] = await withPeer(lines)
    await peer.write('ab\none\r\ntail')
    await peer.end()
    assert.deepEqual(await gen_tcp.recv(socket, 0), ['ok', 'ab\n'])
    assert.deepEqual(await gen_tcp.recv(socket, 0), ['ok', 'one\r\n'])
    assert.deepEqual(await gen_tcp.recv(socket, 0), ['error', 'closed'])
    await peer.close()

    const [small, second] = await withPeer([...lines, ['packet_size', 5]])
    await second.write('abcdefgh\n')
    assert.deepEqual(await gen_tcp.recv(small, 0), ['error', 'emsgsize'])
    await second.close()

    const [buffered, third] = await withPeer([...lines, ['buffer', 8]])
    await third.write('0123456789\n')
    assert.deepEqual(await gen_tcp.recv(buffered, 0), ['ok', '01234567'])
    assert.deepEqual(await gen_tcp.recv(buffered, 0), ['ok', '89\n'])
    await gen_tcp.close(buffered)
    await third.close()
  })
})

describe('active', () => {
  for (const world of WORLDS) {
    const { api } = world
    const [data, closed, passive] = [world.kind, `${world.kind}_closed`, `${world.kind}_passive`]

    test(`E19 ${world.name}: all data, then one message of the close`, async (t) => {
      const [left, right] = await world.pair(t, [...RAW, ['packet', 1]], ['binary', ['packet', 1]])
      for (const text of ['a', 'b', 'c']) await api.send(left, text)
      await api.close(left)
      for (const text of ['a', 'b', 'c']) assert.deepEqual(await receive([_, right, _], soon), [data, right, bytes(text)])
      assert.deepEqual(await receive([closed, right], soon), [closed, right])
      assert.equal(await receive(after(20)), 'timeout')
    })

    test(`E20 ${world.name}: once is one message each time, the close is one, too`, async (t) => {
      const [left, right] = await world.pair(t, [...RAW, ['packet', 1]], ['binary', ['packet', 1], ['active', 'once']])
      for (const text of ['a', 'b']) await api.send(left, text)
      await api.close(left)
      assert.deepEqual(await receive([data, right, _], soon), [data, right, bytes('a')])
      assert.equal(await receive(_, after(20)), 'timeout')
      assert.deepEqual(api.getopts(right, ['active']), ['ok', [['active', false]]])
      assert.equal(api.setopts(right, [['active', 'once']]), 'ok')
      assert.deepEqual(await receive([data, right, _], soon), [data, right, bytes('b')])
      assert.equal(await receive(_, after(20)), 'timeout')
      assert.equal(api.setopts(right, [['active', 'once']]), 'ok')
      assert.deepEqual(await receive(_, soon), [closed, right])
      assert.deepEqual(api.setopts(right, [['active', 'once']]), ['error', world.kind === 'tcp' ? 'einval' : 'closed'])
    })

    test(`E21 ${world.name}: a passive socket says nothing; made active it gives what came and the close`, async (t) => {
      const [left, right] = await world.pair(t, [...RAW, ['packet', 1]], [...RAW, ['packet', 1]])
      await api.send(left, 'a')
      await api.send(left, 'b')
      await api.close(left)
      assert.equal(await receive(_, after(20)), 'timeout')
      assert.equal(api.setopts(right, [['active', true]]), 'ok')
      assert.deepEqual(await receive(_, soon), [data, right, bytes('a')])
      assert.deepEqual(await receive(_, soon), [data, right, bytes('b')])
      assert.deepEqual(await receive(_, soon), [closed, right])
    })

    test(`E22 ${world.name}: {active, N} counts down to passive, and what is set is added`, async (t) => {
      const [left, right] = await world.pair(t, [...RAW, ['packet', 1]], ['binary', ['packet', 1], ['active', 1]])
      for (const text of ['a', 'b', 'c', 'd']) await api.send(left, text)
      assert.deepEqual(await receive(_, soon), [data, right, bytes('a')])
      assert.deepEqual(await receive(_, soon), [passive, right])
      assert.deepEqual(api.getopts(right, ['active']), ['ok', [['active', false]]])
      assert.equal(api.setopts(right, [['active', 1]]), 'ok')
      assert.equal(api.setopts(left, [['active', 2]]), 'ok')
      assert.equal(api.setopts(left, [['active', 3]]), 'ok')
      assert.deepEqual(api.getopts(left, ['active']), ['ok', [['active', 5]]])
      assert.deepEqual(api.setopts(left, [['active', 32_767]]), ['error', world.kind === 'tcp' ? 'einval' : 'eoptions'])
      assert.equal(api.setopts(left, [['active', -9]]), 'ok')
      assert.deepEqual(await receive([passive, left], soon), [passive, left])
      assert.deepEqual(await receive([data, right, _], soon), [data, right, bytes('b')])
      assert.deepEqual(await receive([passive, right], soon), [passive, right])
      assert.deepEqual(await api.recv(right, 0), ['ok', bytes('c')])
    })

    test(`E37 ${world.name}: {header, N} puts the first bytes in front as numbers`, async (t) => {
      const [left, right] = await world.pair(t, RAW, ['binary', ['header', 2], ['active', false]])
      await api.send(left, 'abcd')
      assert.deepEqual(await api.recv(right, 0), ['ok', [97, 98, bytes('cd')]])
    })

    test(`E37 ${world.name}: {header, N} of fewer bytes is the numbers alone, and nothing in list mode`, async (t) => {
      const sending: readonly SocketOption[] = [...RAW, ['packet', 1]]
      const [left, right] = await world.pair(t, sending, [...sending, ['header', 3]])
      for (const text of ['ab', 'abc', '']) await api.send(left, text)
      assert.deepEqual(await api.recv(right, 0), ['ok', [97, 98]])
      assert.deepEqual(await api.recv(right, 0), ['ok', [97, 98, 99, bytes('')]])
      assert.deepEqual(await api.recv(right, 0), ['ok', []])
      assert.equal(api.setopts(right, ['list']), 'ok')
      await api.send(left, 'abcd')
      assert.deepEqual(await api.recv(right, 0), ['ok', 'abcd'])
    })

    test(`E22 ${world.name}: a counter begins anew from true, once and false, and its bounds are those of 16 bits`, async (t) => {
      const [left] = await world.pair(t, RAW, RAW)
      const refused = ['error', world.kind === 'tcp' ? 'einval' : 'eoptions']
      // What was set, what comes of it, the mode then, and whether a message says that it is passive.
      const steps: readonly (readonly [unknown, unknown, unknown, boolean])[] = [
        [0, 'ok', false, true],
        [1, 'ok', 1, false],
        [32_767, refused, 1, false],
        [-32_768, 'ok', false, true],
        [32_768, refused, false, false],
        [-32_769, refused, false, false],
        [true, 'ok', true, false],
        [5, 'ok', 5, false],
        ['once', 'ok', 'once', false],
        [5, 'ok', 5, false],
        [-5, 'ok', false, true],
        ['once', 'ok', 'once', false],
        [-3, 'ok', false, true],
        [32_767, 'ok', 32_767, false],
        [1, refused, 32_767, false],
      ]
      for (const [value, result, mode, says] of steps) {
        assert.deepEqual(api.setopts(left, [['active', value as number]]), result, String(value))
        assert.deepEqual(api.getopts(left, ['active']), ['ok', [['active', mode]]])
        assert.deepEqual(await receive(_, after(0)), says ? [passive, left] : 'timeout')
      }
    })

    test(`${world.name}: list mode gives text of one character per byte`, async (t) => {
      const [left, right] = await world.pair(t, [], [])
      await api.send(left, Uint8Array.of(0, 65, 255))
      assert.deepEqual(await receive([_, right, _], soon), [data, right, '\u0000A\u00ff'])
    })
  }
})

describe('opening', () => {
  test('E27 gen_tcp: accept and listen say what is wrong', async () => {
    const listening = ok(await gen_tcp.listen(0, [LOCAL]))
    const port = ok(inet.port(listening))
    assert.deepEqual(await gen_tcp.accept(listening, 50), ['error', 'timeout'])
    assert.deepEqual(await gen_tcp.accept(listening, 0), ['error', 'timeout'])
    assert.deepEqual(await gen_tcp.listen(port, [LOCAL]), ['error', 'eaddrinuse'])
    assert.deepEqual(await gen_tcp.listen(-1, [LOCAL]), ['error', 'einval'])
    assert.deepEqual(await gen_tcp.listen(65_536, [LOCAL]), ['error', 'einval'])
    assert.deepEqual(await gen_tcp.send(listening as never, 'x'), ['error', 'enotconn'])
    assert.deepEqual(await gen_tcp.recv(listening as never, 0), ['error', 'enotconn'])
    const socket = ok(await gen_tcp.connect('127.0.0.1', port, []))
    assert.deepEqual(await gen_tcp.accept(socket as never), ['error', 'einval'])
    await gen_tcp.close(socket)
    const waiting = gen_tcp.accept(listening)
    await gen_tcp.close(ok(await waiting))
    const never = gen_tcp.accept(listening)
    await gen_tcp.close(listening)
    assert.deepEqual(await never, ['error', 'closed'])
    assert.deepEqual(await gen_tcp.accept(listening), ['error', 'closed'])
    assert.deepEqual(await gen_tcp.connect('127.0.0.1', port, []), ['error', 'econnrefused'])
    assert.deepEqual(await gen_tcp.connect('127.0.0.1', 70_000, []), ['error', 'einval'])
    assert.deepEqual(await gen_tcp.connect('no such host', 1, []), ['error', 'nxdomain'])
    assert.deepEqual(await gen_tcp.listen(0, [['ip', [192, 0, 2, 1]]]), ['error', 'eaddrnotavail'])
    assert.deepEqual(await gen_tcp.connect([127, 0, 0, 1], port, ['inet6']), ['error', 'eafnosupport'])
    assert.deepEqual(await gen_tcp.connect([0, 0, 0, 0, 0, 0, 0, 1], port, ['inet']), ['error', 'eafnosupport'])
    assert.deepEqual(await ssl.connect([127, 0, 0, 1], port, ['inet6']), ['error', 'eafnosupport'])
    assert.deepEqual(await gen_tcp.listen(0, ['inet6', LOCAL]), ['error', 'einval'])
    assert.deepEqual(await gen_tcp.connect('127.1', port, []), ['error', 'econnrefused'])
    assert.deepEqual(await gen_tcp.connect('127.0.0.1', port, [['ip', [192, 0, 2, 1]]]), ['error', 'eaddrnotavail'])
  })

  test('E28 ssl: a handshake with a silent peer times out, one with a peer that goes is closed', async () => {
    await using listener = await coreListen('tcp://127.0.0.1:0')
    const { port } = listener.local as { port: number }
    assert.deepEqual(await ssl.connect('127.0.0.1', port, [], 100), ['error', 'timeout'])
    ;(await listener.accept()).abort()
    const connecting = ssl.connect('127.0.0.1', port, [], 5_000)
    await (await listener.accept()).close()
    assert.deepEqual(await connecting, ['error', 'closed'])

    const { cert, key } = await theFiles()
    const listening = ok(await ssl.listen(0, [LOCAL, ['certfile', cert], ['keyfile', key]]))
    const silent = await dial(`tcp://127.0.0.1:${ok(ssl.port(listening))}`)
    assert.deepEqual(await ssl.accept(listening, 100), ['error', 'timeout'])
    silent.abort()
    const gone = await dial(`tcp://127.0.0.1:${ok(ssl.port(listening))}`)
    await gone.close()
    assert.deepEqual(await ssl.accept(listening, 5_000), ['error', 'closed'])
    await ssl.close(listening)
  })

  test('E28 ssl: a handshake whose time is over before it begins ends the connection at once, too', async () => {
    await using listener = await coreListen('tcp://127.0.0.1:0')
    const { port } = listener.local as { port: number }
    const { write } = await theFiles()
    // So many that they alone take more than the millisecond that there is.
    const authorities = write('many.pem', rootCertificates.join('\n').repeat(5))
    const plain = ok(await gen_tcp.connect('127.0.0.1', port, [['active', false]]))
    const peer = await listener.accept()
    const options = [
      ['cacertfile', authorities],
      ['verify', 1],
    ] as const
    assert.deepEqual(await ssl.connect(plain, options, 1), ['error', 'timeout'])
    const end = await peer.readAll({ timeout: 5_000 }).catch((error: { code?: string }) => error.code)
    assert.ok(end instanceof Uint8Array || end === 'ECONNRESET', String(end))
    await peer.close()
  })

  for (const world of WORLDS) {
    test(`E32 ${world.name}: an accepted socket has the options of the listening one`, async (t) => {
      const given: readonly SocketOption[] = [
        'binary',
        ['packet', 2],
        ['active', false],
        ['nodelay', true],
        ['keepalive', true],
        ['send_timeout', 77],
      ]
      const [, right] = await world.pair(t, RAW, given)
      const names = ['mode', 'packet', 'active', 'nodelay', 'keepalive', 'send_timeout']
      assert.deepEqual(ok(world.api.getopts(right, names)), [
        ['mode', 'binary'],
        ['packet', 2],
        ['active', false],
        ['nodelay', true],
        ['keepalive', true],
        ['send_timeout', 77],
      ])
      assert.equal(right.connection.get('noDelay'), true)
    })
  }

  test('E32 gen_tcp: what is set on a listening socket holds for those accepted from then on', async () => {
    const listening = ok(await gen_tcp.listen(0, [LOCAL]))
    assert.equal(inet.setopts(listening, ['binary', ['packet', 4], ['active', false]]), 'ok')
    const accepting = gen_tcp.accept(listening)
    const socket = ok(await gen_tcp.connect('127.0.0.1', ok(inet.port(listening)), [['packet', 4]]))
    const accepted = ok(await accepting)
    await gen_tcp.send(socket, 'x')
    assert.deepEqual(await gen_tcp.recv(accepted, 0), ['ok', bytes('x')])
    for (const one of [socket, accepted, listening]) await inet.close(one)
  })

  test('E35 gen_tcp: addresses are tuples, and those of UNIX sockets are local paths', async () => {
    if (hasIpv6) {
      const six = ok(await gen_tcp.listen(0, ['inet6', ['ip', [0, 0, 0, 0, 0, 0, 0, 1]]]))
      assert.deepEqual(ok(inet.sockname(six))[0], [0, 0, 0, 0, 0, 0, 0, 1])
      await gen_tcp.close(six)
    }
    const { folder } = await theFiles()
    const path = `${folder}/s`
    const listening = ok(await gen_tcp.listen(0, [['ip', ['local', path]]]))
    const accepting = gen_tcp.accept(listening)
    const socket = ok(await gen_tcp.connect(['local', path], 0, RAW))
    const accepted = ok(await accepting)
    assert.deepEqual(inet.sockname(listening), ['ok', ['local', path]])
    assert.deepEqual(inet.peername(socket), ['ok', ['local', path]])
    assert.deepEqual(inet.peername(accepted), ['ok', ['local', '']])
    assert.equal(await gen_tcp.send(accepted, 'hi'), 'ok')
    assert.deepEqual(await gen_tcp.recv(socket, 2), ['ok', bytes('hi')])
    for (const one of [socket, accepted]) await gen_tcp.close(one)
    await gen_tcp.close(listening)
    assert.deepEqual(await gen_tcp.connect(['local', `${folder}/missing`], 0, RAW), ['error', 'enoent'])
    const long: readonly ['local', string] = ['local', `${folder}/${'a'.repeat(200)}`]
    assert.deepEqual(await gen_tcp.listen(0, [['ip', long]]), ['error', 'einval'])
    assert.deepEqual(await gen_tcp.connect(long, 0, RAW), ['error', 'einval'])
  })

  test('E40 several accepts that wait are served in order, and time out in the order of their times', async () => {
    const listening = ok(await gen_tcp.listen(0, [LOCAL, ...RAW]))
    const ended: number[] = []
    const timed = [90, 30, 60].map((time, i) => gen_tcp.accept(listening, time).then(() => ended.push(i)))
    await Promise.all(timed)
    assert.deepEqual(ended, [1, 2, 0])
    const waiting = [gen_tcp.accept(listening), gen_tcp.accept(listening), gen_tcp.accept(listening)]
    const port = ok(inet.port(listening))
    for (const [i, accepting] of waiting.entries()) {
      const socket = ok(await gen_tcp.connect('127.0.0.1', port, RAW))
      const accepted = ok(await accepting)
      await gen_tcp.send(socket, String(i))
      assert.deepEqual(await gen_tcp.recv(accepted, 1), ['ok', bytes(String(i))])
      await gen_tcp.close(socket)
      await gen_tcp.close(accepted)
    }
    await gen_tcp.close(listening)
  })
})

describe('owners', () => {
  for (const world of WORLDS) {
    const { api } = world
    test(`E31 ${world.name}: a socket ends with its owner, in order`, async (t) => {
      const [left, right] = await world.pair(t, RAW, RAW)
      const owner = spawn(async () => {
        await receive('go')
        await api.send(left, 'last')
      })
      assert.equal(api.controlling_process(left, owner), 'ok')
      erlang.send(owner, 'go')
      assert.deepEqual(await api.recv(right, 4, 5_000), ['ok', bytes('last')])
      assert.deepEqual(await api.recv(right, 0, 5_000), ['error', 'closed'])
      assert.deepEqual(await api.send(left, 'x'), ['error', 'closed'])
    })

    test(`E33 ${world.name}: messages that wait go to the new owner, in order`, async (t) => {
      const [left, right] = await world.pair(t, [...RAW, ['packet', 1]], ['binary', ['packet', 1], ['active', 2]])
      for (const text of ['a', 'b', 'c']) await api.send(left, text)
      assert.deepEqual(await receive([`${world.kind}_passive`, right], soon), [`${world.kind}_passive`, right])
      const main = self()
      const owner = spawn(async () => {
        await receive('go')
        api.setopts(right, [['active', true]])
        const seen: unknown[] = []
        for (let i = 0; i < 3; i++) seen.push((await receive([world.kind, right, _], soon))[2])
        erlang.send(main, ['seen', seen])
        await receive('end')
      })
      assert.equal(api.controlling_process(right, owner), 'ok')
      erlang.send(owner, 'go')
      assert.deepEqual(await receive(['seen', _], soon), ['seen', [bytes('a'), bytes('b'), bytes('c')]])
      assert.equal(await receive(_, after(0)), 'timeout')
      erlang.send(owner, 'end')
    })

    test(`${world.name}: a socket is given away while a send waits, and the send goes on`, async (t) => {
      const [left, right] = await world.pair(t, RAW, RAW)
      const data = new Uint8Array(8 * 1024 * 1024).map((_byte, i) => i % 251)
      const sending = api.send(left, data)
      const owner = spawn(async () => void (await receive('end')))
      assert.equal(api.controlling_process(left, owner), 'ok')
      assert.deepEqual(await api.recv(right, data.length, 10_000), ['ok', data])
      assert.equal(await sending, 'ok')
      erlang.send(owner, 'end')
      assert.deepEqual(await api.recv(right, 0, 5_000), ['error', 'closed'])
    })

    test(`E34 ${world.name}: only the owner gives a socket away, and anybody may send and close`, async (t) => {
      const [left, right] = await world.pair(t, RAW, RAW)
      const main = self()
      const other = spawn(async () => {
        erlang.send(main, ['tried', api.controlling_process(left, self()), await api.send(left, 'hi'), await api.close(left)])
      })
      const reason = world.kind === 'tcp' ? 'not_owner' : ['badcall', ['inhibit_msgs', other]]
      assert.deepEqual(await receive(['tried', _, _, _], soon), ['tried', ['error', reason], 'ok', 'ok'])
      assert.deepEqual(await api.recv(right, 2), ['ok', bytes('hi')])
      assert.deepEqual(await api.recv(right, 0), ['error', 'closed'])
    })
  }
})

describe('certificates and ciphers', () => {
  test('E29 ciphers: names that are not known are passed over, a list without any known one is ecipher', async () => {
    const { cert, key } = await theFiles()
    const listen = (ciphers: string) => ssl.listen(0, [LOCAL, ['certfile', cert], ['keyfile', key], ['ciphers', ciphers]])
    assert.deepEqual(await listen('NO-SUCH-CIPHER'), ['error', 'ecipher'])
    for (const list of ['', 'HIGH:!aNULL', 'NO-SUCH-CIPHER:ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES128-GCM-SHA256'])
      await ssl.close(ok(await listen(list)))
  })

  test('E30 a password opens the key, a wrong one or none is ekeyfile', async () => {
    const { authority, write } = await theFiles()
    for (const keyFormat of ['pkcs8', 'traditional'] as const) {
      const issued = await authority.issue({ passphrase: 'sesame', keyFormat })
      const [cert, key] = [write(`locked-${keyFormat}.pem`, issued.cert), write(`locked-${keyFormat}.key`, issued.key)]
      const own = [LOCAL, ['certfile', cert], ['keyfile', key]] as const
      assert.deepEqual(await ssl.listen(0, own), ['error', 'ekeyfile'])
      assert.deepEqual(await ssl.listen(0, [...own, ['password', 'wrong']]), ['error', 'ekeyfile'])
      await ssl.close(ok(await ssl.listen(0, [...own, ['password', 'sesame']])))
    }
  })

  for (const version of ['tlsv1.2', 'tlsv1.3'] as const) {
    test(`E36 verify 2 and a client without a certificate, ${version}`, async () => {
      const { ca, cert, key } = await theFiles()
      const own = [LOCAL, ['certfile', cert], ['keyfile', key], ['cacertfile', ca], ['verify', 2], ['versions', [version]]] as const
      const listening = ok(await ssl.listen(0, own))
      for (const active of [true, false]) {
        const accepting = ssl.accept(listening)
        const connected = await ssl.connect('127.0.0.1', ok(ssl.port(listening)), [['active', active]])
        assert.deepEqual(await accepting, ['error', 'esslerrssl'])
        if (version === 'tlsv1.2') assert.deepEqual(connected, ['error', 'esslerrssl'])
        else if (active) {
          const [, , reason] = await receive(['ssl_error', ok(connected), _], soon)
          assert.deepEqual([reason[0], (reason[1] as readonly string[])[0]], ['tls_alert', 'certificate_required'])
        } else assert.deepEqual(await ssl.recv(ok(connected), 0), ['error', 'closed'])
      }
      await ssl.close(listening)
    })
  }
})
