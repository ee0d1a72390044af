/** Against Erlang/OTP itself, in both directions: every expression that a test gives to `erl` is evaluated there. */

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test, type TestContext } from 'node:test'
import { connect as dial, type Connection, listen as coreListen } from 'fairlead'
import {
  _,
  after as afterwards,
  type Data,
  erlang,
  exit,
  type Failure,
  gen_tcp,
  gen_udp,
  inet,
  type Ok,
  process_flag,
  receive,
  spawn,
  ssl,
} from 'fairlead/erlang'
import { type Authority, developmentAuthority } from 'fairlead/testing'
import { folder, peerProgram, Program } from './program.js'

let authority: Authority
let stranger: Authority
before(async () => {
  authority = await developmentAuthority()
  stranger = await developmentAuthority()
})

/** Evaluates each line of its input, and prints what comes of it. */
const LOOP = `#!/usr/bin/env escript
main(_) -> logger:set_primary_config(level, none), {ok, _} = application:ensure_all_started(ssl), process_flag(trap_exit, true), loop(erl_eval:new_bindings()).
loop(Bindings) ->
  case io:get_line("") of
    eof -> halt(0);
    "forget\\n" -> loop(erl_eval:new_bindings());
    Line ->
      {ok, Tokens, _} = erl_scan:string(Line),
      {ok, Expressions} = erl_parse:parse_exprs(Tokens),
      loop(try erl_eval:exprs(Expressions, Bindings) of
        {value, Value, After} -> io:format("=~tw~n", [Value]), After
      catch Class:Reason -> io:format("!~tw~n", [{Class, Reason}]), Bindings end)
  end.
`

let files = 0

/** An Erlang node, one expression after the other. */
class Erlang {
  readonly #program: Program
  readonly files: string
  #answers = 0

  constructor(t: Pick<TestContext, 'after'>) {
    this.files = folder(t as TestContext)
    const script = join(this.files, 'loop.escript')
    writeFileSync(script, LOOP)
    this.#program = new Program(t as TestContext, 'escript', [script])
  }

  /** All variables are free again. */
  forget(): void {
    this.#program.send('forget\n')
  }

  /** The value of an expression, as Erlang writes it; an exception fails the test. */
  async eval(expression: string): Promise<string> {
    const { out } = this.#program
    const which = this.#answers++
    this.#program.send(`${expression.replaceAll('\n', ' ')}.\n`)
    const answer = await out.until(new RegExp(`^(?:[^\\n]*\\n){${which}}([=!])([^\\n]*)\\n`))
    assert.equal(answer[1], '=', `${expression} -> ${answer[2]}`)
    return answer[2] as string
  }

  /** Evaluates an expression whose value says nothing, and which may be under way when the test ends. */
  start(expression: string): void {
    this.eval(expression).catch(() => undefined)
  }

  /** A file of its own each time: Erlang remembers what was in one. */
  write(name: string, text: string): string {
    const path = join(this.files, `${++files}-${name}`)
    writeFileSync(path, text, { mode: 0o600 })
    return path
  }
}

/** One node for all tests, as long as they pass. */
let node: Erlang | undefined
const ends: (() => unknown)[] = []
after(async () => {
  for (const end of ends) await end()
})

/** A test with an Erlang node, in a process of its own. */
function against(name: string, fn: (erl: Erlang) => Promise<void>): void {
  void test(name, async (t) => {
    if (peerProgram(t, 'escript') === undefined) return
    node ??= new Erlang({ after: (end: unknown) => void ends.push(end as () => unknown) })
    const erl = node
    erl.forget()
    try {
      await new Promise<void>((resolve, reject) => spawn(() => fn(erl).then(resolve, reject)))
    } catch (error) {
      node = undefined
      throw error
    }
  })
}

function ok<T>(result: Ok<T> | Failure<unknown>): T {
  assert.equal(result[0], 'ok', JSON.stringify(result))
  return result[1] as T
}

const LOCAL = ['ip', [127, 0, 0, 1]] as const
const SIZES = [0, 1, 2, 127, 254, 255, 256, 1_023, 16_384, 16_385, 65_534, 65_535, 65_536, 300_000]
const fits = (packet: number) => SIZES.filter((size) => (packet === 0 ? size > 0 : size < 256 ** packet))
/** The same bytes in both languages: the first `size` numbers modulo 251. */
const pattern = (size: number) => new Uint8Array(size).map((_byte, i) => i % 251)
const PATTERN = 'Pattern = fun(N) -> << <<(I rem 251)>> || I <- lists:seq(0, N - 1) >> end'

type Own = { cert: string; key: string; ca: string }
async function own(erl: Erlang): Promise<Own> {
  const { cert, key } = await authority.issue({ names: ['localhost', '127.0.0.1'], purpose: 'both' })
  return { cert: erl.write('cert.pem', cert), key: erl.write('key.pem', key), ca: erl.write('ca.pem', authority.cert) }
}

const TRANSPORTS = ['gen_tcp', 'tlsv1.2', 'tlsv1.3'] as const
type Module = typeof gen_tcp
/** Both modules have these functions in the same form. */
const moduleOf = (transport: string): Module => (transport === 'gen_tcp' ? gen_tcp : ssl) as unknown as Module
const portOf = (socket: unknown) => ok(socket instanceof ssl.SslListenSocket ? ssl.port(socket) : inet.port(socket as gen_tcp.ListenSocket))

interface Pair {
  readonly ours: Module
  readonly socket: gen_tcp.TcpSocket
  /** Name of the module in Erlang; the socket there is bound to `S`. */
  readonly theirs: string
}

/** A connection that we or they dialled. `options` and `theirOptions` are of each end. */
async function pair(
  erl: Erlang,
  transport: string,
  we: 'connect' | 'listen',
  options: readonly unknown[],
  theirOptions: string,
): Promise<Pair> {
  const ours = moduleOf(transport)
  const theirs = transport === 'gen_tcp' ? 'gen_tcp' : 'ssl'
  const { cert, key } = await own(erl)
  const secure = transport === 'gen_tcp' ? [] : [['versions', [transport]]]
  const theirSecure = transport === 'gen_tcp' ? '' : `, {versions, ['${transport}']}, {verify, verify_none}`
  if (we === 'connect') {
    const credentials = transport === 'gen_tcp' ? '' : `, {certfile, "${cert}"}, {keyfile, "${key}"}`
    await erl.eval(`{ok, L} = ${theirs}:listen(0, [{ip, {127,0,0,1}}, {reuseaddr, true}, ${theirOptions}${theirSecure}${credentials}])`)
    const port = await erl.eval(`{ok, {_, Port}} = ${transport === 'gen_tcp' ? 'inet' : 'ssl'}:sockname(L), Port`)
    const accepting =
      transport === 'gen_tcp'
        ? erl.eval('{ok, S} = gen_tcp:accept(L, 5000), ok')
        : erl.eval('{ok, TS} = ssl:transport_accept(L, 5000), {ok, S} = ssl:handshake(TS, 5000), ok')
    const socket = ok(await ours.connect([127, 0, 0, 1], Number(port), [...options, ...secure] as never)) as gen_tcp.TcpSocket
    assert.equal(await accepting, 'ok')
    return { ours, socket, theirs }
  }
  const credentials =
    transport === 'gen_tcp'
      ? []
      : [
          ['certfile', cert],
          ['keyfile', key],
        ]
  const listening = ok(await ours.listen(0, [LOCAL, ...options, ...secure, ...credentials] as never))
  const accepting = ours.accept(listening)
  const connecting = erl.eval(`{ok, S} = ${theirs}:connect({127,0,0,1}, ${portOf(listening)}, [${theirOptions}${theirSecure}], 5000), ok`)
  const socket = ok(await accepting) as gen_tcp.TcpSocket
  assert.equal(await connecting, 'ok')
  return { ours, socket, theirs }
}

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

  for (const transport of TRANSPORTS) {
    against(`${transport}: frames of Erlang's, cut at every place and joined, are found`, async (erl) => {
      const { ours, socket, theirs } = await pair(
        erl,
        transport,
        'connect',
        ['binary', ['packet', 2], ['active', false]],
        'binary, {packet, raw}, {active, false}, {nodelay, true}',
      )
      const frames = '<<0,3,"abc",0,0,0,2,"de">>'
      for (let at = 0; at <= 11; at++) {
        await erl.eval(`${theirs}:send(S, binary:part(${frames}, 0, ${at})), ${theirs}:send(S, binary:part(${frames}, ${at}, 11 - ${at}))`)
        for (const text of ['abc', '', 'de'])
          assert.equal(String.fromCharCode(...(ok(await ours.recv(socket, 0, 5_000)) as Uint8Array)), text)
      }
    })

    against(`${transport}: our frames, cut at every place and joined, are found by Erlang`, async (erl) => {
      const { ours, socket, theirs } = await pair(
        erl,
        transport,
        'listen',
        ['binary', ['active', false], ['nodelay', true]],
        'binary, {packet, 2}, {active, false}',
      )
      const frames = Uint8Array.of(0, 3, 97, 98, 99, 0, 0, 0, 2, 100, 101)
      for (let at = 0; at <= 11; at++) {
        await ours.send(socket, frames.slice(0, at))
        await ours.send(socket, frames.slice(at))
        const three = '[begin {ok, X} = ' + theirs + ':recv(S, 0, 5000), X end || _ <- [1,2,3]]'
        assert.equal(await erl.eval(three), '[<<97,98,99>>,<<>>,<<100,101>>]')
      }
    })
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

/** A value as Erlang writes it. */
function written(value: unknown, shape: 'list' | 'binary'): string {
  if (value instanceof Uint8Array) return `<<${value.join(',')}>>`
  if (typeof value === 'number') return String(value)
  if (Array.isArray(value)) return `{${value.map((part) => written(part, shape)).join(',')}}`
  const text = String(value)
  return shape === 'list' ? `[${[...text].map((letter) => letter.charCodeAt(0)).join(',')}]` : text
}

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

  against('{packet, http} cuts as Erlang does', async (erl) => {
    const heads = [
      'GET /x HTTP/1.1\r\nHost: a\r\nX-Foo-bar: v \r\n more\r\ncookie:c\r\n\r\n',
      'OPTIONS * HTTP/1.0\r\n\r\n',
      'CONNECT h:80 HTTP/1.1\r\n\r\n',
      'GET http://h:81/p HTTP/1.1\r\n\r\nGET https://h HTTP/1.1\r\n\r\n',
      'HTTP/1.0 200 OK\r\nServer: s\r\n\r\n',
      'HTTP/1.1 404 Not Found at all\nbad line\r\n\r\n',
      'junk\r\n\r\n',
      'GET /old\r\n\r\n',
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
          ['packet', 'http'],
          ['active', false],
        ]),
      )
      const results: string[] = []
      for (;;) {
        const result = await gen_tcp.recv(socket, 0, 5_000)
        if (result[0] === 'error') break
        results.push(JSON.stringify(result[1]))
      }
      void feed()
      // Strings and atoms are both strings here, tuples and lists both arrays.
      await erl.eval(
        `Json = fun J(X) when is_atom(X) -> [$", atom_to_list(X), $"]; J(X) when is_integer(X) -> integer_to_list(X); J(X) when is_tuple(X) -> [$[, lists:join(",", [J(Y) || Y <- tuple_to_list(X)]), $]]; J(X) -> [$", lists:flatmap(fun($\\r) -> "\\\\r"; ($\\n) -> "\\\\n"; (C) -> [C] end, X), $"] end`,
      )
      const theirs = await erl.eval(
        `(fun() -> {ok, S} = gen_tcp:connect({127,0,0,1}, ${port}, [{packet, http}, {active, false}]), Get = fun G() -> case gen_tcp:recv(S, 0, 5000) of {ok, D} -> [[Json(D), 10] | G()]; {error, _} -> [] end end, list_to_binary(Get()) end)()`,
      )
      const text = Buffer.from(theirs.slice(2, -2).split(',').map(Number)).toString('latin1')
      assert.equal(`${results.join('\n')}\n`, text, head)
      await gen_tcp.close(socket)
    }
  })
})
