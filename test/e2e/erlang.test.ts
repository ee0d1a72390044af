/** Against Erlang/OTP itself, in both directions: every expression that a test gives to `erl` is evaluated there. */

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test, type TestContext } from 'node:test'
import { connect as dial, listen as coreListen } from 'fairlead'
import { _, after as afterwards, erlang, exit, gen_udp, inet, process_flag, receive, spawn, ssl } from 'fairlead/erlang'
import { type Authority } from 'fairlead/testing'
import {
  against,
  authority,
  ends,
  type Erlang,
  fits,
  LOCAL,
  ok,
  own,
  type Own,
  pair,
  PATTERN,
  pattern,
  stranger,
  TRANSPORTS,
} from './erlang-peer.js'
import { folder } from './program.js'

describe('packets', () => {
  for (const transport of TRANSPORTS) {
    for (const we of ['connect', 'listen'] as const) {
      for (const packet of [0, 1, 2, 4]) {
        against(`${transport}, we ${we}, {packet, ${packet}}: sizes around every limit arrive byte for byte, both ways`, async (erl) => {
          const { ours, socket, theirs } = await pair(
            erl,
            transport,
            we,
            ['binary', ['packet', packet], ['active', false]],
            `binary, {packet, ${packet}}, {active, false}`,
          )
          await erl.eval(PATTERN)
          for (const size of fits(packet)) {
            const length = packet === 0 ? size : 0
            const received = erl.eval(`${theirs}:recv(S, ${length}, 5000) =:= {ok, Pattern(${size})}`)
            assert.equal(await ours.send(socket, pattern(size)), 'ok')
            assert.equal(await received, 'true', `${size} bytes to Erlang`)
            const sent = erl.eval(`${theirs}:send(S, Pattern(${size}))`)
            assert.deepEqual(await ours.recv(socket, length, 5_000), ['ok', pattern(size)], `${size} bytes from Erlang`)
            assert.equal(await sent, 'ok')
          }
          assert.equal(await ours.close(socket), 'ok')
          assert.equal(await erl.eval(`${theirs}:recv(S, 0, 5000)`), '{error,closed}')
        })
      }
    }
  }

  const frames = (packet: number) =>
    [[97, 98, 99], [], [100, 101]].flatMap((data) => [...Array<number>(packet - 1).fill(0), data.length, ...data])
  const MODES = [false, true, 'once', 2] as const
  for (const transport of TRANSPORTS) {
    const tag = transport === 'gen_tcp' ? 'tcp' : 'ssl'
    for (const packet of [1, 2, 4]) {
      for (const active of MODES) {
        against(
          `${transport}, {packet, ${packet}}, {active, ${active}}: frames of Erlang's, cut everywhere and joined, are found`,
          async (erl) => {
            const { ours, socket, theirs } = await pair(
              erl,
              transport,
              'connect',
              ['binary', ['packet', packet], ['active', active]],
              'binary, {packet, raw}, {active, false}, {nodelay, true}',
            )
            const api = (transport === 'gen_tcp' ? inet : ssl) as typeof inet
            const bytes = frames(packet)
            await erl.eval(`F = <<${bytes.join(',')}>>`)
            const late = afterwards(5_000, () => assert.fail('no message'))
            const next = async (): Promise<unknown> => {
              if (active === false) return ok(await ours.recv(socket, 0, 5_000))
              const [what, , data] = (await receive([tag, socket, _], [`${tag}_passive`, socket], late)) as readonly [
                string,
                unknown,
                unknown,
              ]
              if (what !== tag) assert.equal(api.setopts(socket, [['active', active]]), 'ok')
              else if (active === 'once') assert.equal(api.setopts(socket, [['active', 'once']]), 'ok')
              return what === tag ? data : next()
            }
            for (let at = 0; at <= bytes.length; at++) {
              await erl.eval(`${theirs}:send(S, binary:part(F, 0, ${at})), ${theirs}:send(S, binary:part(F, ${at}, ${bytes.length - at}))`)
              for (const text of ['abc', '', 'de'])
                assert.equal(String.fromCharCode(...((await next()) as Uint8Array)), text, `cut at ${at}`)
            }
            await erl.eval(`${theirs}:send(S, [F, F, F])`)
            for (const text of ['abc', '', 'de', 'abc', '', 'de', 'abc', '', 'de'])
              assert.equal(String.fromCharCode(...((await next()) as Uint8Array)), text, 'joined')
          },
        )

        against(
          `${transport}, {packet, ${packet}}, {active, ${active}}: our frames, cut everywhere and joined, are found by Erlang`,
          async (erl) => {
            const { ours, socket, theirs } = await pair(
              erl,
              transport,
              'listen',
              ['binary', ['active', false], ['nodelay', true]],
              `binary, {packet, ${packet}}, {active, ${active}}`,
            )
            const setopts = transport === 'gen_tcp' ? 'inet:setopts' : 'ssl:setopts'
            const next =
              active === false
                ? `{ok, X} = ${theirs}:recv(S, 0, 5000), X`
                : `receive {${tag}, S, X} -> ${active === 'once' ? `ok = ${setopts}(S, [{active, once}]),` : ''} X; {${tag}_passive, S} -> ok = ${setopts}(S, [{active, ${active}}]), Next() after 5000 -> none end`
            await erl.eval(`Get = fun Next() -> ${next} end`)
            const bytes = frames(packet)
            for (let at = 0; at <= bytes.length; at++) {
              assert.equal(await ours.send(socket, Uint8Array.from(bytes.slice(0, at))), 'ok')
              assert.equal(await ours.send(socket, Uint8Array.from(bytes.slice(at))), 'ok')
              assert.equal(await erl.eval('[Get(), Get(), Get()]'), '[<<97,98,99>>,<<>>,<<100,101>>]', `cut at ${at}`)
            }
          },
        )
      }
    }
  }
})

describe('active', () => {
  for (const transport of TRANSPORTS) {
    const tag = transport === 'gen_tcp' ? 'tcp' : 'ssl'
    against(`${transport}: our true, once and N get what Erlang sends, then the close`, async (erl) => {
      const { socket, theirs } = await pair(
        erl,
        transport,
        'connect',
        ['list', ['packet', 2], ['active', 'once']],
        'list, {packet, 2}, {active, false}',
      )
      await erl.eval(`[ok = ${theirs}:send(S, [$a + I]) || I <- lists:seq(0, 5)], ${theirs}:close(S)`)
      const late = afterwards(5_000, () => assert.fail('no message'))
      const api = (transport === 'gen_tcp' ? inet : ssl) as typeof inet
      assert.deepEqual(await receive([tag, socket, _], late), [tag, socket, 'a'])
      assert.equal(await receive(_, afterwards(20)), 'timeout')
      assert.equal(api.setopts(socket, [['active', 2]]), 'ok')
      for (const text of ['b', 'c']) assert.deepEqual(await receive([tag, socket, _], late), [tag, socket, text])
      assert.deepEqual(await receive(_, late), [`${tag}_passive`, socket])
      assert.equal(api.setopts(socket, [['active', true]]), 'ok')
      for (const text of ['d', 'e', 'f']) assert.deepEqual(await receive([tag, socket, _], late), [tag, socket, text])
      assert.deepEqual(await receive(_, late), [`${tag}_closed`, socket])
    })

    against(`${transport}: Erlang's true, once and N get what we send, then the close`, async (erl) => {
      const { ours, socket, theirs } = await pair(
        erl,
        transport,
        'listen',
        ['list', ['packet', 2], ['active', false]],
        'list, {packet, 2}, {active, once}',
      )
      for (const text of 'abcd') assert.equal(await ours.send(socket, text), 'ok')
      await ours.close(socket)
      const setopts = transport === 'gen_tcp' ? 'inet:setopts' : 'ssl:setopts'
      await erl.eval('Next = fun() -> receive M -> setelement(2, M, s) after 5000 -> none end end')
      assert.equal(await erl.eval('Next()'), `{${tag},s,[97]}`)
      assert.equal(
        await erl.eval(`${setopts}(S, [{active, 2}]), [Next(), Next(), Next()]`),
        `[{${tag},s,[98]},{${tag},s,[99]},{${tag}_passive,s}]`,
      )
      assert.equal(await erl.eval(`${setopts}(S, [{active, true}]), [Next(), Next()]`), `[{${tag},s,[100]},{${tag}_closed,s}]`)
      void theirs
    })
  }
})

describe('ends', () => {
  against('gen_tcp: a half close of Erlang, and the answer after it', async (erl) => {
    const { ours, socket } = await pair(
      erl,
      'gen_tcp',
      'connect',
      ['binary', ['active', false], ['exit_on_close', false]],
      'binary, {active, false}, {exit_on_close, false}',
    )
    await erl.eval('ok = gen_tcp:send(S, "question"), gen_tcp:shutdown(S, write)')
    assert.deepEqual(ok(await ours.recv(socket, 8)), new Uint8Array(Buffer.from('question')))
    assert.deepEqual(await ours.recv(socket, 0), ['error', 'closed'])
    assert.equal(await ours.send(socket, 'answer'), 'ok')
    await ours.close(socket)
    assert.equal(await erl.eval('gen_tcp:recv(S, 6, 5000)'), '{ok,<<97,110,115,119,101,114>>}')
  })

  against('gen_tcp: our half close, and the answer of Erlang after it', async (erl) => {
    const { ours, socket } = await pair(
      erl,
      'gen_tcp',
      'listen',
      ['list', ['active', false]],
      'binary, {active, false}, {exit_on_close, false}',
    )
    assert.equal(await ours.send(socket, 'q'), 'ok')
    assert.equal(await ours.shutdown(socket, 'write'), 'ok')
    assert.equal(
      await erl.eval('{ok, Q} = gen_tcp:recv(S, 1, 5000), E = gen_tcp:recv(S, 0, 5000), ok = gen_tcp:send(S, "a"), {Q, E}'),
      '{<<113>>,{error,closed}}',
    )
    assert.deepEqual(await ours.recv(socket, 1, 5_000), ['ok', 'a'])
  })

  for (const show of [true, false]) {
    against(`gen_tcp: a reset of Erlang's ${show ? 'is told of with show_econnreset' : 'reads as a close, as there'}`, async (erl) => {
      const { ours, socket } = await pair(
        erl,
        'gen_tcp',
        'connect',
        ['binary', ['active', false], ['show_econnreset', show]],
        'binary, {active, false}',
      )
      await erl.eval('inet:setopts(S, [{linger, {true, 0}}]), gen_tcp:close(S)')
      assert.deepEqual(await ours.recv(socket, 0, 5_000), ['error', show ? 'econnreset' : 'closed'])
    })
  }

  for (const version of ['tlsv1.2', 'tlsv1.3']) {
    against(`${version}: a connection of Erlang's that is cut off is told from one that is closed`, async (erl) => {
      const { ours, socket } = await pair(erl, version, 'listen', ['binary', ['active', false]], 'binary, {active, false}')
      const { ours: second, socket: cut } = { ours, socket }
      await erl.eval('ok = ssl:send(S, "x")')
      assert.deepEqual(ok(await second.recv(cut, 1)), Uint8Array.of(120))
      // The connection below is closed without a word of TLS.
      await erl.eval(
        '[begin inet:setopts(P, [{linger, {true, 0}}]), catch port_close(P) end || P <- erlang:ports(), {name, "tcp_inet"} =:= erlang:port_info(P, name), {ok, _} <- [inet:peername(P)]], ok',
      )
      const [, reason] = await second.recv(cut, 0, 5_000)
      assert.ok(reason === 'econnreset' || reason === 'esslerrssl', String(reason))
      assert.deepEqual(await second.recv(cut, 0, 5_000), ['error', 'closed'])
    })

    against(`${version}: once Erlang has closed, send says so and what came before can be received`, async (erl) => {
      const { ours, socket } = await pair(erl, version, 'connect', ['list', ['active', false]], 'binary, {active, false}')
      await erl.eval('ok = ssl:send(S, "pending"), ssl:close(S)')
      let sent = await ours.send(socket, 'x')
      while (sent === 'ok') {
        await new Promise((resolve) => setTimeout(resolve, 1))
        sent = await ours.send(socket, 'x')
      }
      assert.deepEqual(sent, ['error', 'closed'])
      assert.deepEqual(await ours.recv(socket, 0), ['ok', 'pending'])
      assert.deepEqual(await ours.recv(socket, 0), ['error', 'closed'])
    })
  }
})

describe('owners and resets', () => {
  for (const transport of TRANSPORTS) {
    against(`${transport}: a socket whose owner ends in Erlang is closed for us`, async (erl) => {
      const { ours, socket, theirs } = await pair(erl, transport, 'connect', ['list', ['active', false]], 'binary, {active, false}')
      await erl.eval(
        `Owner = spawn(fun() -> receive go -> ok = ${theirs}:send(S, "last") end end), ok = ${theirs}:controlling_process(S, Owner), Owner ! go`,
      )
      assert.deepEqual(await ours.recv(socket, 4, 5_000), ['ok', 'last'])
      assert.deepEqual(await ours.recv(socket, 0, 5_000), ['error', 'closed'])
    })

    against(`${transport}: a socket whose owner ends here is closed for Erlang`, async (erl) => {
      const { ours, socket, theirs } = await pair(erl, transport, 'listen', ['list', ['active', false]], 'binary, {active, false}')
      const owner = spawn(async () => {
        await receive('go')
        await ours.send(socket, 'last')
      })
      assert.equal(ours.controlling_process(socket, owner), 'ok')
      erlang.send(owner, 'go')
      assert.equal(await erl.eval(`{${theirs}:recv(S, 4, 5000), ${theirs}:recv(S, 0, 5000)}`), '{{ok,<<108,97,115,116>>},{error,closed}}')
    })

    against(`${transport}: what we reset is over for Erlang, and its next connection works`, async (erl) => {
      const first = await pair(erl, transport, 'listen', ['list', ['active', false]], 'binary, {active, false}')
      // Otherwise this process would end with the socket.
      process_flag('trap_exit', true)
      exit(inet.pid(first.socket), 'kill')
      assert.equal(await erl.eval(`${first.theirs}:recv(S, 0, 5000)`), '{error,closed}')
      erl.forget()
      const { ours, socket, theirs } = await pair(erl, transport, 'listen', ['list', ['active', false]], 'binary, {active, false}')
      await ours.send(socket, 'x')
      assert.equal(await erl.eval(`${theirs}:recv(S, 1, 5000)`), '{ok,<<120>>}')
    })
  }

  for (const version of ['tlsv1.2', 'tlsv1.3']) {
    against(`${version}: shutdown of the write direction is a close for the other end, both ways`, async (erl) => {
      const one = await pair(erl, version, 'listen', ['list', ['active', false]], 'binary, {active, false}')
      assert.equal(await one.ours.shutdown(one.socket, 'write'), 'ok')
      assert.equal(await erl.eval('ssl:recv(S, 0, 5000)'), '{error,closed}')
      erl.forget()
      // It ends the connection below without the alert that TLS has for it.
      const other = await pair(erl, version, 'connect', ['list', ['active', false]], 'binary, {active, false}')
      await erl.eval('ssl:shutdown(S, write)')
      assert.deepEqual(await other.ours.recv(other.socket, 0, 5_000), ['error', 'esslerrssl'])
      assert.deepEqual(await other.ours.send(other.socket, 'x'), ['error', 'closed'])
    })
  }

  against('gen_udp: datagrams, both ways', async (erl) => {
    const socket = ok(await gen_udp.open(0, [LOCAL, 'binary', ['active', false]]))
    const port = Number(
      await erl.eval('{ok, U} = gen_udp:open(0, [{ip, {127,0,0,1}}, binary, {active, false}]), {ok, Port} = inet:port(U), Port'),
    )
    for (const size of [0, 1, 1_400, 8_000]) {
      assert.equal(await gen_udp.send(socket, [127, 0, 0, 1], port, pattern(size)), 'ok')
      assert.equal(
        await erl.eval(
          `{ok, {From, FromPort, D${size}}} = gen_udp:recv(U, 0, 5000), ok = gen_udp:send(U, From, FromPort, D${size}), FromPort`,
        ),
        String(ok(inet.port(socket))),
      )
      assert.deepEqual(await gen_udp.recv(socket, 0, 5_000), ['ok', [[127, 0, 0, 1], port, pattern(size)]])
    }
    await gen_udp.close(socket)
  })

  test('without a time of its own a handshake with a silent peer fails after 10 s: esslaccept, esslconnect; with one, after that', async () => {
    const { cert, key } = await authority.issue()
    const at = folder({ after: (end: unknown) => void ends.push(end as () => unknown) } as unknown as TestContext)
    const [certfile, keyfile] = [join(at, 'c.pem'), join(at, 'k.pem')]
    writeFileSync(certfile, cert)
    writeFileSync(keyfile, key)
    const listening = ok(await ssl.listen(0, [LOCAL, ['certfile', certfile], ['keyfile', keyfile]]))
    await using silent = await coreListen('tcp://127.0.0.1:0')
    const accepting = ssl.accept(listening)
    const connecting = ssl.connect('127.0.0.1', (silent.local as { port: number }).port, [])
    await using client = await dial(`tcp://127.0.0.1:${ok(ssl.port(listening))}`)
    const patient = ok(await ssl.listen(0, [LOCAL, ['certfile', certfile], ['keyfile', keyfile]]))
    const waiting = ssl.accept(patient, 10_500)
    await using other = await dial(`tcp://127.0.0.1:${ok(ssl.port(patient))}`)
    assert.deepEqual(
      [await accepting, await connecting],
      [
        ['error', 'esslaccept'],
        ['error', 'esslconnect'],
      ],
    )
    assert.deepEqual(await waiting, ['error', 'timeout'])
    other.abort()
    client.abort()
    await ssl.close(patient)
    await ssl.close(listening)
  })
})

const DAY = 24 * 3_600_000

describe('verdicts', () => {
  type Verdict = readonly [name: string, make: (erl: Erlang) => Promise<Own & { depth?: number }>, reason: string | undefined]
  const issued = async (erl: Erlang, o: Parameters<Authority['issue']>[0], from: Authority = authority): Promise<Own> => {
    const { cert, key } = await from.issue({ names: ['localhost', '127.0.0.1'], purpose: 'both', ...o })
    return { cert: erl.write('peer.pem', cert), key: erl.write('peer.key', key), ca: erl.write('ca.pem', authority.cert) }
  }
  const chained = async (erl: Erlang, links: number, depth: number) => {
    let issuer = authority
    for (let i = 0; i < links; i++) issuer = await issuer.intermediate()
    return { ...(await issued(erl, {}, issuer)), depth }
  }
  const verdicts: readonly Verdict[] = [
    ['a good certificate', (erl) => issued(erl, {}), undefined],
    ['one that has expired', (erl) => issued(erl, { validFrom: Date.now() - 9 * DAY, validTo: Date.now() - DAY }), 'epeercertexpired'],
    ['one that is not valid yet', (erl) => issued(erl, { validFrom: Date.now() + DAY, validTo: Date.now() + 9 * DAY }), 'epeercertinvalid'],
    ['a self-signed one', (erl) => issued(erl, { selfSigned: true }), 'eselfsignedcert'],
    ['one of an authority that is not trusted', (erl) => issued(erl, {}, stranger), 'enoissuercert'],
    ['one intermediate where one is allowed', (erl) => chained(erl, 1, 1), undefined],
    ['two intermediates where one is allowed', (erl) => chained(erl, 2, 1), 'echaintoolong'],
    ['two intermediates where two are allowed', (erl) => chained(erl, 2, 2), undefined],
  ]
  for (const version of ['tlsv1.2', 'tlsv1.3'] as const) {
    for (const [name, make, reason] of verdicts) {
      against(`${version}: our client is shown ${name}: ${reason ?? 'ok'}`, async (erl) => {
        const { cert, key, ca, depth = 1 } = await make(erl)
        await erl.eval(
          `{ok, L} = ssl:listen(0, [{ip, {127,0,0,1}}, {certfile, "${cert}"}, {keyfile, "${key}"}, {versions, ['${version}']}])`,
        )
        const port = Number(await erl.eval('{ok, {_, Port}} = ssl:sockname(L), Port'))
        erl.start('{ok, TS} = ssl:transport_accept(L, 5000), ssl:handshake(TS, 5000), ok')
        const result = await ssl.connect(
          'localhost',
          port,
          [
            ['verify', 1],
            ['cacertfile', ca],
            ['depth', depth],
          ],
          5_000,
        )
        if (reason === undefined) await ssl.close(ok(result))
        else assert.deepEqual(result, ['error', reason])
      })

      against(`${version}: our server is shown ${name}: ${reason ?? 'ok'}`, async (erl) => {
        const { cert, key, ca, depth = 1 } = await make(erl)
        const server = await own(erl)
        for (const verify of [1, 2] as const) {
          const options = [
            LOCAL,
            ['certfile', server.cert],
            ['keyfile', server.key],
            ['cacertfile', ca],
            ['depth', depth],
            ['versions', [version]],
          ] as const
          const listening = ok(await ssl.listen(0, [...options, ['verify', verify]]))
          const accepting = ssl.accept(listening, 5_000)
          erl.start(
            `ssl:connect({127,0,0,1}, ${ok(ssl.port(listening))}, [{certfile, "${cert}"}, {keyfile, "${key}"}, {verify, verify_none}, {versions, ['${version}']}], 5000), ok`,
          )
          const result = await accepting
          if (reason === undefined) assert.equal(ok(ssl.peercert(ok(result)))[0], 0x30)
          else assert.deepEqual(result, ['error', reason], `verify ${verify}`)
          await ssl.close(listening)
        }
      })
    }

    against(`${version}: Erlang's client takes our certificate, and refuses one it does not know`, async (erl) => {
      const { cert, key, ca } = await own(erl)
      const other = erl.write('other.pem', stranger.cert)
      const listening = ok(await ssl.listen(0, [LOCAL, ['certfile', cert], ['keyfile', key], ['versions', [version]]]))
      const connect = (file: string) =>
        erl.eval(
          `element(1, ssl:connect("localhost", ${ok(ssl.port(listening))}, [{verify, verify_peer}, {cacertfile, "${file}"}, {versions, ['${version}']}], 5000))`,
        )
      const first = ssl.accept(listening, 5_000)
      assert.equal(await connect(ca), 'ok')
      ok(await first)
      const second = ssl.accept(listening, 5_000)
      assert.equal(await connect(other), 'error')
      const refused = await second
      // Under 1.3 the client judges after the server is done.
      if (version === 'tlsv1.2') assert.deepEqual(refused, ['error', 'esslerrssl'])
    })

    against(`${version}: a client of Erlang's without a certificate passes verify 1 and not verify 2`, async (erl) => {
      const { cert, key, ca } = await own(erl)
      for (const verify of [1, 2] as const) {
        const listening = ok(
          await ssl.listen(0, [
            LOCAL,
            ['certfile', cert],
            ['keyfile', key],
            ['cacertfile', ca],
            ['verify', verify],
            ['versions', [version]],
          ]),
        )
        const accepting = ssl.accept(listening, 5_000)
        erl.start(`ssl:connect({127,0,0,1}, ${ok(ssl.port(listening))}, [{verify, verify_none}, {versions, ['${version}']}], 5000), ok`)
        const result = await accepting
        if (verify === 1) assert.deepEqual(ssl.peercert(ok(result)), ['error', 'no_peercert'])
        else assert.deepEqual(result, ['error', 'esslerrssl'])
        await ssl.close(listening)
      }
    })
  }
})

describe('upgrades', () => {
  against('a plain connection becomes one of TLS, Erlang the server', async (erl) => {
    const { cert, key, ca } = await own(erl)
    const { ours, socket } = await pair(
      erl,
      'gen_tcp',
      'connect',
      ['list', ['packet', 'line'], ['active', false]],
      'binary, {packet, line}, {active, false}',
    )
    assert.equal(await ours.send(socket, 'STARTTLS\n'), 'ok')
    const shaking = erl.eval(
      `{ok, _} = gen_tcp:recv(S, 0, 5000), ok = gen_tcp:send(S, "go\\n"), {ok, T} = ssl:handshake(S, [{certfile, "${cert}"}, {keyfile, "${key}"}], 5000), ssl:send(T, "hi\\n")`,
    )
    assert.deepEqual(await ours.recv(socket, 0, 5_000), ['ok', 'go\n'])
    const secure = ok(
      await ssl.connect(
        socket,
        [
          ['verify', 1],
          ['cacertfile', ca],
        ],
        5_000,
      ),
    )
    assert.equal(await shaking, 'ok')
    assert.deepEqual(await ssl.recv(secure, 0, 5_000), ['ok', 'hi\n'])
    assert.deepEqual(await ours.send(socket, 'x'), ['error', 'closed'])
  })

  against('a plain connection becomes one of TLS, Erlang the client', async (erl) => {
    const { cert, key } = await own(erl)
    const { ours, socket } = await pair(
      erl,
      'gen_tcp',
      'listen',
      ['list', ['packet', 'line'], ['active', false]],
      'binary, {packet, line}, {active, false}',
    )
    const shaking = erl.eval(
      'ok = gen_tcp:send(S, "STARTTLS\\n"), {ok, T} = ssl:connect(S, [{verify, verify_none}], 5000), ssl:recv(T, 0, 5000)',
    )
    assert.deepEqual(await ours.recv(socket, 0, 5_000), ['ok', 'STARTTLS\n'])
    const secure = ok(
      await ssl.handshake(
        socket,
        [
          ['certfile', cert],
          ['keyfile', key],
        ],
        5_000,
      ),
    )
    assert.equal(await ssl.send(secure, 'hi\n'), 'ok')
    assert.equal(await shaking, '{ok,<<104,105,10>>}')
  })

  against('what is negotiated: version, application protocol, session', async (erl) => {
    const { cert, key } = await own(erl)
    await erl.eval(
      `{ok, L} = ssl:listen(0, [{ip, {127,0,0,1}}, {certfile, "${cert}"}, {keyfile, "${key}"}, {alpn_preferred_protocols, [<<"b">>, <<"a">>]}])`,
    )
    const port = Number(await erl.eval('{ok, {_, Port}} = ssl:sockname(L), Port'))
    const accepting = erl.eval('{ok, TS} = ssl:transport_accept(L, 5000), {ok, S} = ssl:handshake(TS, 5000), ok')
    const socket = ok(await ssl.connect('localhost', port, [['alpn_advertised_protocols', ['a', 'b']]], 5_000))
    await accepting
    assert.deepEqual(ssl.negotiated_protocol(socket), ['ok', 'b'])
    assert.deepEqual(ok(ssl.connection_information(socket, ['protocol'])), [['protocol', 'tlsv1.3']])
  })
})
