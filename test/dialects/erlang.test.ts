/** `ssl` as it was promised: functions, options with their defaults, reasons with their texts, and today's functions. */

import assert from 'node:assert/strict'
import { describe } from 'node:test'
import { connect as dial, listen as coreListen } from 'fairlead'
import * as erlangDoor from 'fairlead/erlang'
import { _, accept, close, connect, controlling_process, erlang, format_error, gen_tcp, inet, listen, peername, pid } from 'fairlead/erlang'
import { port, receive, recv, self, send, setopts, sockname, spawn, ssl, SSL_REASONS, type SslReason } from 'fairlead/erlang'
import { developmentAuthority, type IssueOptions } from 'fairlead/testing'
import { bytes, LOCAL, ok, soon, test, theFiles } from './erlang-worlds.js'

async function own() {
  const { cert, key } = await theFiles()
  return [LOCAL, ['certfile', cert], ['keyfile', key]] as const
}

describe('the promise', () => {
  test('a server and a client talk with the defaults: list mode, active, no packets', async () => {
    const listening = ok(await listen(0, await own()))
    const main = self()
    spawn(async () => {
      const socket = ok(await connect('localhost', ok(port(listening)), []))
      assert.equal(await send(socket, ['hel', [108, [111]]]), 'ok')
      const [, , answer] = await receive(['ssl', socket, _], soon)
      erlang.send(main, ['answer', answer])
      await receive(['ssl_closed', socket], soon)
      erlang.send(main, 'closed')
    })
    const socket = ok(await accept(listening))
    assert.deepEqual(await receive(['ssl', socket, _], soon), ['ssl', socket, 'hello'])
    assert.equal(await send(socket, bytes('world')), 'ok')
    assert.deepEqual(await receive(['answer', _], soon), ['answer', 'world'])
    assert.deepEqual(ok(ssl.getopts(socket, ['mode', 'packet', 'nodelay', 'active'])), [
      ['mode', 'list'],
      ['packet', 0],
      ['nodelay', false],
      ['active', true],
    ])
    assert.equal(await close(socket), 'ok')
    assert.equal(await receive('closed', soon), 'closed')
    assert.equal(await close(listening), 'ok')
  })

  test('sockname, peername, port and pid', async () => {
    const listening = ok(await listen(0, (await own()).slice(1) as [readonly ['certfile', string], readonly ['keyfile', string]]))
    const number = ok(port(listening))
    assert.deepEqual(sockname(listening), ['ok', [[0, 0, 0, 0], number]])
    assert.deepEqual(peername(listening), ['error', 'enotconn'])
    const accepting = accept(listening)
    const client = ok(await connect([127, 0, 0, 1], number, []))
    const server = ok(await accepting)
    assert.deepEqual(peername(client), ['ok', [[127, 0, 0, 1], number]])
    assert.deepEqual(sockname(server), ['ok', [[127, 0, 0, 1], number]])
    assert.deepEqual(peername(server), sockname(client))
    assert.deepEqual(port(client), ['ok', ok(sockname(client))[1]])
    assert.ok(pid(client) instanceof erlangDoor.Pid)
    assert.notEqual(pid(client), pid(server))
    for (const socket of [client, server, listening]) await close(socket)
  })

  test('a passive socket is received from, and setopts takes nodelay', async () => {
    const listening = ok(await listen(0, [...(await own()), 'binary', ['active', false], ['packet', 2]]))
    const accepting = accept(listening, 5_000)
    const client = ok(await connect('127.0.0.1', ok(port(listening)), [['packet', 2]], 5_000))
    const server = ok(await accepting)
    await send(client, 'one')
    await send(client, 'two')
    assert.deepEqual(await recv(server, 0), ['ok', bytes('one')])
    assert.deepEqual(await recv(server, 0, 1_000), ['ok', bytes('two')])
    assert.deepEqual(await recv(server, 0, 10), ['error', 'timeout'])
    assert.equal(setopts(server, [['nodelay', true]]), 'ok')
    assert.equal(server.connection.get('noDelay'), true)
    for (const socket of [client, server, listening]) await close(socket)
  })

  test('a new owner gets the messages', async () => {
    const listening = ok(await listen(0, [...(await own()), ['packet', 1]]))
    const accepting = accept(listening)
    const client = ok(await connect('127.0.0.1', ok(port(listening)), [['packet', 1]]))
    const server = ok(await accepting)
    const main = self()
    const owner = spawn(async () => {
      const [, , data] = await receive(['ssl', server, _], soon)
      erlang.send(main, data)
      await receive('end')
    })
    assert.equal(controlling_process(server, owner), 'ok')
    await send(client, 'mine')
    assert.equal(await receive('mine', soon), 'mine')
    assert.deepEqual(controlling_process(server, self()), ['error', ['badcall', ['inhibit_msgs', self()]]])
    erlang.send(owner, 'end')
    for (const socket of [client, server, listening]) await close(socket)
  })
})

describe('options', () => {
  test('an empty list is enooptions for listen, and fine for connect', async () => {
    assert.deepEqual(await listen(0, []), ['error', 'enooptions'])
    assert.deepEqual(await connect('127.0.0.1', 1, []), ['error', 'econnrefused'])
  })

  const bad: readonly unknown[] = [
    'bniary',
    ['packet', 3],
    ['packet', '1'],
    ['nodelay', 1],
    ['active', 'twice'],
    ['active', 40_000],
    ['backlog', -1],
    ['ip', 'localhost'],
    ['ip', [1, 2, 3]],
    ['verify', 3],
    ['verify', true],
    ['depth', 256],
    ['depth', -1],
    ['certfile', 1],
    ['keyfile', null],
    ['password', 1],
    ['cacertfile', undefined],
    ['ciphers', 1],
    ['cachetimeout', -1],
    ['mode', 'text'],
    ['header', -1],
    ['versions', ['tlsv1.1', 'tlsv1.3']],
    ['nodelay'],
    ['nodelay', true, 1],
    {},
    null,
    1,
  ]
  for (const option of bad) {
    test(`${JSON.stringify(option)} is eoptions`, async () => {
      assert.deepEqual(await listen(0, [...(await own()), option] as never), ['error', 'eoptions'])
      assert.deepEqual(await connect('127.0.0.1', 1, [option] as never), ['error', 'eoptions'])
    })
  }

  test('backlog is an option of listen alone, and what is no list no options', async () => {
    assert.deepEqual(await connect('127.0.0.1', 1, [['backlog', 1]] as never), ['error', 'eoptions'])
    assert.deepEqual(await listen(0, 'binary' as never), ['error', 'eoptions'])
    assert.deepEqual(await listen(-1, await own()), ['error', 'eoptions'])
    assert.deepEqual(await connect('127.0.0.1', 70_000, []), ['error', 'eoptions'])
  })

  test('every option of listen is taken', async () => {
    const { ca } = await theFiles()
    const all = [
      ...(await own()),
      'binary',
      'list',
      ['packet', 4],
      ['nodelay', true],
      ['active', false],
      ['backlog', 7],
      ['verify', 1],
    ] as const
    const more = [
      ['depth', 3],
      ['password', 'x'],
      ['cacertfile', ca],
      ['ciphers', ''],
      ['cachetimeout', 60],
      ['ip', '127.0.0.1'],
    ] as const
    const listening = ok(await listen(0, [...all, ...more]))
    assert.deepEqual(ok(sockname(listening))[0], [127, 0, 0, 1])
    await close(listening)
  })

  test('setopts of anything that is no option is eoptions, and changes nothing', async () => {
    const listening = ok(await listen(0, [...(await own()), ['active', false]]))
    const accepting = accept(listening)
    const client = ok(await connect('127.0.0.1', ok(port(listening)), [['active', false]]))
    const server = ok(await accepting)
    for (const options of [
      [['backlog', 1]],
      [['verify', 0]],
      ['inet'],
      'x',
      [
        ['packet', 1],
        ['packet', 3],
      ],
    ])
      assert.deepEqual(setopts(server, options as never), ['error', 'eoptions'])
    assert.deepEqual(ok(ssl.getopts(server, ['packet'])), [['packet', 0]])
    assert.deepEqual(ssl.getopts(server, ['pakcet']), ['error', 'eoptions'])
    assert.equal(setopts(server, []), 'ok')
    for (const socket of [client, server, listening]) await close(socket)
  })
})

describe('reasons', () => {
  test('what cannot be used is told of by listen and connect, each file by its own atom', async () => {
    const { cert, key, ca, write, authority } = await theFiles()
    const other = await authority.issue()
    const [garbage, missing, wrongKey] = [write('garbage.pem', 'no certificate'), '/no/such/file', write('other.key', other.key)]
    const cases: readonly (readonly [readonly ssl.SslListenOption[], SslReason])[] = [
      [[LOCAL], 'enoservercert'],
      [
        [
          ['certfile', missing],
          ['keyfile', key],
        ],
        'ecertfile',
      ],
      [
        [
          ['certfile', garbage],
          ['keyfile', key],
        ],
        'ecertfile',
      ],
      [
        [
          ['certfile', cert],
          ['keyfile', missing],
        ],
        'ekeyfile',
      ],
      [
        [
          ['certfile', cert],
          ['keyfile', garbage],
        ],
        'ekeyfile',
      ],
      [[['certfile', cert]], 'ekeyfile'],
      [
        [
          ['certfile', cert],
          ['keyfile', wrongKey],
        ],
        'ekeymismatch',
      ],
      [
        [
          ['certfile', cert],
          ['keyfile', key],
          ['cacertfile', missing],
        ],
        'ecacertfile',
      ],
      [
        [
          ['certfile', cert],
          ['keyfile', key],
          ['cacertfile', garbage],
        ],
        'ecacertfile',
      ],
      [
        [
          ['certfile', cert],
          ['keyfile', key],
          ['ciphers', 'NONE-SUCH'],
        ],
        'ecipher',
      ],
    ]
    for (const [options, reason] of cases) {
      assert.deepEqual(await listen(0, options), ['error', reason])
      if (reason === 'enoservercert') continue
      assert.deepEqual(await connect('127.0.0.1', 1, options.filter(([name]) => name !== 'ip') as never), ['error', reason])
    }
    assert.deepEqual(
      await listen(0, [['certfile', write('both.pem', other.cert + other.key)], ['cacertfile', ca], LOCAL]).then(([tag]) => tag),
      'ok',
    )
  })

  test('what is no socket, or not in that state, has its own atom', async () => {
    const listening = ok(await listen(0, await own()))
    assert.deepEqual(await send({} as never, 'x'), ['error', 'ebadsocket'])
    assert.deepEqual(await recv(null as never, 0), ['error', 'ebadsocket'])
    assert.deepEqual(await close(1 as never), ['error', 'ebadsocket'])
    assert.deepEqual(await recv(listening as never, 0), ['error', 'enotconn'])
    const raw = await dial(`tcp://127.0.0.1:${ok(port(listening))}`)
    const transport = ok(await ssl.transport_accept(listening))
    assert.deepEqual(await send(transport as never, 'x'), ['error', 'ebadstate'])
    assert.deepEqual(await accept(transport as never), ['error', 'enotlistener'])
    assert.equal(await close(transport), 'ok')
    assert.deepEqual(await ssl.handshake(transport), ['error', 'closed'])
    raw.abort()
    assert.deepEqual(await accept(listening, -1), ['error', 'einval'])
    assert.deepEqual(await accept(listening, 20), ['error', 'timeout'])
    await close(listening)
    assert.deepEqual(await accept(listening), ['error', 'closed'])
  })

  const DAY = 24 * 3_600_000
  const verdicts: readonly (readonly [string, IssueOptions & { stranger?: boolean; links?: number }, SslReason | undefined])[] = [
    ['a good one', {}, undefined],
    ['an expired one', { validFrom: Date.now() - 9 * DAY, validTo: Date.now() - DAY }, 'epeercertexpired'],
    ['one not valid yet', { validFrom: Date.now() + DAY, validTo: Date.now() + 9 * DAY }, 'epeercertinvalid'],
    ['a self-signed one', { selfSigned: true }, 'eselfsignedcert'],
    ['one of a stranger', { stranger: true }, 'enoissuercert'],
    ['one for another host', { names: ['elsewhere.example'] }, 'epeercert'],
    ['one of clients', { purpose: 'client' }, 'epeercert'],
    ['one intermediate', { links: 1 }, undefined],
    ['two intermediates', { links: 2 }, 'echaintoolong'],
  ]
  for (const [name, { stranger, links = 0, ...issue }, reason] of verdicts) {
    test(`the certificate of a server, ${name}: ${String(reason ?? 'ok')} with verify 1 and 2, and ok with 0`, async () => {
      const { ca, authority, write } = await theFiles()
      let issuer = stranger === true ? await developmentAuthority() : authority
      for (let i = 0; i < links; i++) issuer = await issuer.intermediate()
      const issued = await issuer.issue({ names: ['localhost'], ...issue })
      const listening = ok(await listen(0, [LOCAL, ['certfile', write('v.pem', issued.cert)], ['keyfile', write('v.key', issued.key)]]))
      for (const verify of [0, 1, 2] as const) {
        const accepting = accept(listening, 5_000)
        const result = await connect(
          'localhost',
          ok(port(listening)),
          [
            ['verify', verify],
            ['cacertfile', ca],
          ],
          5_000,
        )
        if (reason === undefined || verify === 0) await close(ok(result))
        else assert.deepEqual(result, ['error', reason], `verify ${verify}`)
        const accepted = await accepting
        if (accepted[0] === 'ok') await close(accepted[1])
      }
      await close(listening)
    })
  }

  test('the name of the host is not looked at with server_name_indication disable', async () => {
    const { ca, authority, write } = await theFiles()
    const issued = await authority.issue({ names: ['elsewhere.example'] })
    const listening = ok(await listen(0, [LOCAL, ['certfile', write('e.pem', issued.cert)], ['keyfile', write('e.key', issued.key)]]))
    const accepting = accept(listening)
    const options = [
      ['verify', 1],
      ['cacertfile', ca],
      ['server_name_indication', 'disable'],
    ] as const
    const client = ok(await connect('localhost', ok(port(listening)), options))
    assert.deepEqual(ok(ssl.connection_information(ok(await accepting), ['sni_hostname'])), [['sni_hostname', 'undefined']])
    await close(client)
    const named = accept(listening)
    const other = ok(
      await connect('localhost', ok(port(listening)), [
        ['verify', 1],
        ['cacertfile', ca],
        ['server_name_indication', 'elsewhere.example'],
      ]),
    )
    assert.deepEqual(ok(ssl.connection_information(ok(await named), ['sni_hostname'])), [['sni_hostname', 'elsewhere.example']])
    await close(other)
    await close(listening)
  })

  test('what is no TLS at the other end is esslerrssl, and a client without a word esslaccept after the limit of the handshake', async () => {
    await using listener = await coreListen('tcp://127.0.0.1:0')
    const number = (listener.local as { port: number }).port
    const connecting = connect('127.0.0.1', number, [], 5_000)
    const peer = await listener.accept()
    await peer.write('220 this is no TLS at all\r\n')
    assert.deepEqual(await connecting, ['error', 'esslerrssl'])
    await peer.close()
    const listening = ok(await listen(0, await own()))
    const accepting = accept(listening, 5_000)
    const client = await dial(`tcp://127.0.0.1:${ok(port(listening))}`)
    await client.write('GET / HTTP/1.0\r\n\r\n')
    assert.deepEqual(await accepting, ['error', 'esslerrssl'])
    await client.close()
    await close(listening)
  })

  test('every reason has a text, bare and in its tuple, and what is none has one, too', () => {
    const seen = new Set<string>()
    for (const reason of Object.keys(SSL_REASONS)) {
      const text = format_error(reason)
      assert.ok(text.length > 5 && !text.startsWith('unknown'), reason)
      assert.equal(format_error(['error', reason]), text)
      seen.add(text)
    }
    assert.equal(seen.size, Object.keys(SSL_REASONS).length)
    for (const posix of ['econnrefused', 'eaddrinuse', 'einval', 'nxdomain', 'emsgsize'])
      assert.ok(!format_error(posix).startsWith('unknown'), posix)
    for (const tuple of [
      ['badcall', 1],
      ['badcast', 1],
      ['badinfo', 1],
    ])
      assert.ok(!format_error(tuple).startsWith('unknown'))
    assert.equal(format_error(['tls_alert', ['unknown_ca', 'text of the alert']]), 'text of the alert')
    const circle: unknown[] = []
    circle.push(circle)
    for (const odd of ['enosuch', 7, null, undefined, circle, 10n, Symbol('x'), { a: 1 }])
      assert.match(format_error(odd), /^unknown POSIX error/)
    return Promise.resolve()
  })
})

describe("today's functions", () => {
  test('transport_accept and handshake, and the socket has what the listening one has', async () => {
    const listening = ok(await listen(0, [...(await own()), 'binary', ['active', false]]))
    const connecting = connect('127.0.0.1', ok(port(listening)), [])
    const transport = ok(await ssl.transport_accept(listening, 5_000))
    const owner = self()
    assert.equal(controlling_process(transport, owner), 'ok')
    const server = ok(await ssl.handshake(transport, 5_000))
    const client = ok(await connecting)
    await send(client, 'x')
    assert.deepEqual(await recv(server, 1), ['ok', bytes('x')])
    assert.deepEqual(await ssl.handshake(transport), ['error', 'closed'])
    for (const socket of [client, server, listening]) await close(socket)
  })

  test('handshake with hello says what the client asks for, and goes on or not', async () => {
    const listening = ok(await listen(0, await own()))
    const options = [['alpn_advertised_protocols', ['h2', 'http/1.1']]] as const
    const connecting = connect('localhost', ok(port(listening)), options, 5_000)
    const [, paused, asked] = (await ssl.handshake(
      ok(await ssl.transport_accept(listening)),
      [['handshake', 'hello'], ...(await own()).slice(1)] as never,
      5_000,
    )) as unknown as ssl.Paused<string>
    assert.deepEqual([asked.sni, asked.alpn, asked.client_hello_versions], ['localhost', ['h2', 'http/1.1'], ['tlsv1.3', 'tlsv1.2']])
    const server = ok(
      await ssl.handshake_continue(paused, [...(await own()).slice(1), ['alpn_preferred_protocols', ['http/1.1']]] as never, 5_000),
    )
    const client = ok(await connecting)
    assert.deepEqual(
      [ssl.negotiated_protocol(client), ssl.negotiated_protocol(server)],
      [
        ['ok', 'http/1.1'],
        ['ok', 'http/1.1'],
      ],
    )
    const refused = connect('localhost', ok(port(listening)), [], 5_000)
    const [, cancelled] = (await ssl.handshake(ok(await ssl.transport_accept(listening)), [
      ['handshake', 'hello'],
      ...(await own()).slice(1),
    ] as never)) as unknown as ssl.Paused<string>
    assert.equal(await ssl.handshake_cancel(cancelled), 'ok')
    assert.equal((await refused)[0], 'error')
    for (const socket of [client, server, listening]) await close(socket)
  })

  test('a plain connection becomes one of TLS at both ends', async () => {
    const listening = ok(await gen_tcp.listen(0, [LOCAL, ['packet', 'line'], ['active', false]]))
    const accepting = gen_tcp.accept(listening)
    const client = ok(
      await gen_tcp.connect('localhost', ok(inet.port(listening)), [
        ['packet', 'line'],
        ['active', false],
      ]),
    )
    const server = ok(await accepting)
    await gen_tcp.send(client, 'STARTTLS\n')
    assert.deepEqual(await gen_tcp.recv(server, 0), ['ok', 'STARTTLS\n'])
    await gen_tcp.send(server, 'go\n')
    assert.deepEqual(await gen_tcp.recv(client, 0), ['ok', 'go\n'])
    const { ca } = await theFiles()
    const shaking = ssl.handshake(server, (await own()).slice(1) as never, 5_000)
    const secure = ok(
      await ssl.connect(
        client,
        [
          ['verify', 1],
          ['cacertfile', ca],
        ],
        5_000,
      ),
    )
    const other = ok(await shaking)
    await send(secure, 'in private\n')
    assert.deepEqual(await recv(other as never, 0), ['ok', 'in private\n'])
    assert.deepEqual(await gen_tcp.recv(client, 0), ['error', 'closed'])
    for (const socket of [secure, other]) await close(socket as never)
    await gen_tcp.close(listening)
  })

  test('a socket that is active, or has plain text waiting, does not become one of TLS', async () => {
    const listening = ok(await gen_tcp.listen(0, [LOCAL, ['active', false]]))
    const accepting = gen_tcp.accept(listening)
    const active = ok(await gen_tcp.connect('localhost', ok(inet.port(listening)), []))
    const server = ok(await accepting)
    assert.deepEqual(await ssl.connect(active, []), ['error', 'einval'])
    await gen_tcp.send(active, 'STARTTLS and what somebody put behind it')
    assert.deepEqual(await gen_tcp.recv(server, 8), ['ok', 'STARTTLS'])
    assert.deepEqual(await ssl.handshake(server, (await own()).slice(1) as never, 5_000), ['error', 'esslerrssl'])
    await gen_tcp.close(active)
    await gen_tcp.close(listening)
  })

  test('what is known of a connection: certificate, protocol, counters', async () => {
    const { ca, cert, key } = await theFiles()
    const listening = ok(
      await listen(0, [...(await own()), ['verify', 1], ['cacertfile', ca], ['alpn_preferred_protocols', ['a']], ['active', false]]),
    )
    const accepting = accept(listening)
    const client = ok(
      await connect('localhost', ok(port(listening)), [
        ['certfile', cert],
        ['keyfile', key],
        ['versions', ['tlsv1.2']],
        ['active', false],
      ]),
    )
    const server = ok(await accepting)
    assert.equal(ok(ssl.peercert(server))[0], 0x30)
    assert.deepEqual(ssl.negotiated_protocol(client), ['error', 'protocol_not_negotiated'])
    const [version, cipher] = ok(ssl.connection_info(client))
    assert.equal(version, 'tlsv1.2')
    assert.match(cipher, /^TLS_ECDHE_/)
    assert.deepEqual(ok(ssl.connection_information(client, ['protocol', 'session_resumption'])), [
      ['protocol', 'tlsv1.2'],
      ['session_resumption', false],
    ])
    await send(client, 'four')
    assert.deepEqual(await recv(server, 4), ['ok', 'four'])
    assert.deepEqual(ok(ssl.getstat(client, ['send_cnt', 'send_oct'])), [
      ['send_cnt', 1],
      ['send_oct', 4],
    ])
    assert.deepEqual(ok(ssl.getstat(server, ['recv_oct', 'recv_max'])), [
      ['recv_oct', 4],
      ['recv_max', 4],
    ])
    for (const socket of [client, server, listening]) await close(socket)
  })

  for (const version of ['tlsv1.2', 'tlsv1.3'] as const) {
    test(`a session of ${version} is resumed, unless reuse_sessions is false`, async () => {
      const listening = ok(await listen(0, [...(await own()), ['active', false], ['versions', [version]]]))
      const resumed: boolean[] = []
      for (const reuse of [true, true, false]) {
        const accepting = accept(listening)
        const client = ok(
          await connect('127.0.0.1', ok(port(listening)), [
            ['reuse_sessions', reuse],
            ['active', false],
          ]),
        )
        const server = ok(await accepting)
        // A ticket comes with what is received.
        await send(server, 'x')
        await recv(client, 1)
        resumed.push(client.connection.security?.resumed ?? false)
        await close(client)
        await close(server)
      }
      assert.deepEqual(resumed, [false, true, false])
      await close(listening)
    })
  }

  test('sni_hosts gives another certificate to who asks for another name', async () => {
    const { authority, write } = await theFiles()
    const issued = await authority.issue({ names: ['other.example'] })
    const hosts = [
      [
        'other.example',
        [
          ['certfile', write('o.pem', issued.cert)],
          ['keyfile', write('o.key', issued.key)],
        ],
      ],
    ] as const
    const listening = ok(await listen(0, [...(await own()), ['sni_hosts', hosts]]))
    const { ca } = await theFiles()
    for (const name of ['other.example', 'localhost']) {
      const accepting = accept(listening)
      const client = ok(
        await connect('127.0.0.1', ok(port(listening)), [
          ['verify', 1],
          ['cacertfile', ca],
          ['server_name_indication', name],
        ]),
      )
      await close(client)
      await close(ok(await accepting))
    }
    await close(listening)
  })

  test('certificates and keys as bytes', async () => {
    const { cert, key, ca } = await theFiles()
    const { readFileSync } = await import('node:fs')
    const der = (path: string) =>
      new Uint8Array(Buffer.from((readFileSync(path, 'utf8').match(/-----BEGIN [^-]+-----([^-]+)/) ?? [])[1] ?? '', 'base64'))
    const listening = ok(await listen(0, [LOCAL, ['cert', der(cert)], ['key', ['PrivateKeyInfo', der(key)]]]))
    const accepting = accept(listening)
    const client = ok(
      await connect('127.0.0.1', ok(port(listening)), [
        ['verify', 'verify_peer'],
        ['cacerts', [der(ca)]],
      ]),
    )
    await close(client)
    await close(ok(await accepting))
    await close(listening)
  })

  test('the application: start, stop, versions, ciphers, seed', () => {
    assert.deepEqual([ssl.start(), ssl.stop(), ssl.seed('x'), ssl.clear_pem_cache()], ['ok', 'ok', 'ok', 'ok'])
    assert.deepEqual(ssl.seed(7 as never), ['error', 'edata'])
    assert.deepEqual(ssl.versions()[1], ['supported', ['tlsv1.3', 'tlsv1.2']])
    assert.ok(ssl.cipher_suites('all', 'tlsv1.3', 'openssl').includes('TLS_AES_128_GCM_SHA256'))
    assert.ok(ok(ssl.ciphers()).split(':').includes('ECDHE-RSA-AES128-GCM-SHA256'))
    return Promise.resolve()
  })
})

describe('types', () => {
  test('what is received has the type that the options say', async () => {
    const listening = ok(await gen_tcp.listen(0, [LOCAL, 'binary', ['active', false]]))
    const accepting = gen_tcp.accept(listening)
    const client = ok(await gen_tcp.connect('127.0.0.1', ok(inet.port(listening)), []))
    const server = ok(await accepting)
    await gen_tcp.send(client, 'ab')
    await gen_tcp.send(server, 'cd')
    const received: Uint8Array = ok(await gen_tcp.recv(server, 2))
    const [, , text] = await receive(['tcp', client, _], soon)
    const upper: string = text.toUpperCase()
    assert.deepEqual([received, upper], [bytes('ab'), 'CD'])
    const result = await gen_tcp.recv(server, 0, 0)
    if (result[0] === 'error' && result[1] === 'timeout') assert.equal(result.length, 2)
    for (const socket of [client, server, listening]) await inet.close(socket)
  })

  test('what is wrong does not compile', () => {
    const wrong = (socket: gen_tcp.TcpSocket<string>, listening: gen_tcp.ListenSocket<string>) => {
      // @ts-expect-error there is no such length
      void gen_tcp.listen(0, [['packet', 3]])
      // @ts-expect-error a server alone has a queue
      void ssl.connect('localhost', 1, [['backlog', 1]])
      // @ts-expect-error verify is one of three
      void ssl.listen(0, [['verify', 3]])
      // @ts-expect-error a listening socket receives nothing
      void gen_tcp.recv(listening, 0)
      // @ts-expect-error a socket of gen_tcp is none of ssl
      void ssl.send(socket, 'x')
      // @ts-expect-error three numbers are no address
      void gen_tcp.connect([127, 0, 0], 1, [])
      // @ts-expect-error an object is nothing to send
      void gen_tcp.send(socket, { a: 1 })
    }
    assert.equal(typeof wrong, 'function')
    return Promise.resolve()
  })
})
