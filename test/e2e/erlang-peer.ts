/** Erlang/OTP as a peer: every expression that a test gives to `erl` is evaluated there. */

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test, type TestContext } from 'node:test'
import { _, type Failure, gen_tcp, inet, type Ok, spawn, ssl } from 'fairlead/erlang'
import { type Authority, developmentAuthority } from 'fairlead/testing'
import { folder, peerProgram, Program } from './program.js'

export let authority: Authority
export let stranger: Authority
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
    "forget\\n" -> flush(), loop(erl_eval:new_bindings());
    Line ->
      {ok, Tokens, _} = erl_scan:string(Line),
      {ok, Expressions} = erl_parse:parse_exprs(Tokens),
      loop(try erl_eval:exprs(Expressions, Bindings) of
        {value, Value, After} -> io:format("=~tw~n", [Value]), After
      catch Class:Reason -> io:format("!~tw~n", [{Class, Reason}]), Bindings end)
  end.
flush() -> receive _ -> flush() after 0 -> ok end.
`

let files = 0

/** An Erlang node, one expression after the other. */
export class Erlang {
  readonly #program: Program
  readonly files: string
  #answers = 0

  constructor(t: Pick<TestContext, 'after'>) {
    this.files = folder(t as TestContext)
    const script = join(this.files, 'loop.escript')
    writeFileSync(script, LOOP)
    this.#program = new Program(t as TestContext, 'escript', [script])
  }

  /** All variables are free again, and the mailbox is empty. */
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
export const ends: (() => unknown)[] = []
after(async () => {
  for (const end of ends) await end()
})

/** A test with an Erlang node, in a process of its own. */
export function against(name: string, fn: (erl: Erlang) => Promise<void>): void {
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

export function ok<T>(result: Ok<T> | Failure<unknown>): T {
  assert.equal(result[0], 'ok', JSON.stringify(result))
  return result[1] as T
}

export const LOCAL = ['ip', [127, 0, 0, 1]] as const
export const SIZES = [0, 1, 2, 127, 254, 255, 256, 1_023, 16_384, 16_385, 65_534, 65_535, 65_536, 300_000]
export const fits = (packet: number) => SIZES.filter((size) => (packet === 0 ? size > 0 : size < 256 ** packet))
/** The same bytes in both languages: the first `size` numbers modulo 251. */
export const pattern = (size: number) => new Uint8Array(size).map((_byte, i) => i % 251)
export const PATTERN = 'Pattern = fun(N) -> << <<(I rem 251)>> || I <- lists:seq(0, N - 1) >> end'

export type Own = { cert: string; key: string; ca: string }
export async function own(erl: Erlang): Promise<Own> {
  const { cert, key } = await authority.issue({ names: ['localhost', '127.0.0.1'], purpose: 'both' })
  return { cert: erl.write('cert.pem', cert), key: erl.write('key.pem', key), ca: erl.write('ca.pem', authority.cert) }
}

export const TRANSPORTS = ['gen_tcp', 'tlsv1.2', 'tlsv1.3'] as const
export type Module = typeof gen_tcp
/** Both modules have these functions in the same form. */
export const moduleOf = (transport: string): Module => (transport === 'gen_tcp' ? gen_tcp : ssl) as unknown as Module
export const portOf = (socket: unknown) =>
  ok(socket instanceof ssl.SslListenSocket ? ssl.port(socket) : inet.port(socket as gen_tcp.ListenSocket))

export interface Pair {
  readonly ours: Module
  readonly socket: gen_tcp.TcpSocket
  /** Name of the module in Erlang; the socket there is bound to `S`. */
  readonly theirs: string
}

/** A connection that we or they dialled. `options` and `theirOptions` are of each end. */
export async function pair(
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

/** A value as Erlang writes it. */
export function written(value: unknown, shape: 'list' | 'binary'): string {
  if (value instanceof Uint8Array) return `<<${value.join(',')}>>`
  if (typeof value === 'number') return String(value)
  if (Array.isArray(value)) return `{${value.map((part) => written(part, shape)).join(',')}}`
  const text = String(value)
  return shape === 'list' ? `[${[...text].map((letter) => letter.charCodeAt(0)).join(',')}]` : text
}
