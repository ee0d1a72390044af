/** The functions of processes: `spawn`, `receive`, links, monitors and exit signals. */

import type { Matched, Message } from './erlang-messages.js'
import { current, Exit, harmless, type Pid, Process, processOf, type Ref, start } from './erlang-process.js'
import { type Failure, isTimeout, type Ok, type Timeout } from './erlang-terms.js'

/**
 * Starts a process that runs `fn(...args)`, and gives its name at once. When `fn` returns it exits with the reason `normal`,
 * when it throws with what was thrown; its sockets are closed in order, either way.
 *
 * ```ts
 * import { _, erlang, receive, self, spawn } from 'fairlead/erlang'
 *
 * const parent = self()
 * const echo = spawn(async () => {
 *   const [, from, text] = await receive(['ask', _, _])
 *   erlang.send(from as typeof parent, ['answer', text])
 * })
 * erlang.send(echo, ['ask', self(), 'hello'])
 * console.log(await receive(['answer', _])) // [ 'answer', 'hello' ]
 * ```
 */
export function spawn<A extends readonly unknown[]>(fn: (...args: A) => unknown, ...args: A): Pid {
  current()
  return start(fn, args).pid
}

/** As {@link spawn}, linked to the calling process before it starts. @returns its pid */
export function spawn_link<A extends readonly unknown[]>(fn: (...args: A) => unknown, ...args: A): Pid {
  const parent = current()
  const child = start(fn, args)
  parent.link(child)
  return child.pid
}

/** As {@link spawn}, watched by the calling process: `{'DOWN', Ref, process, Pid, Reason}` comes when it exits. @returns `[Pid, Ref]` */
export function spawn_monitor<A extends readonly unknown[]>(fn: (...args: A) => unknown, ...args: A): readonly [Pid, Ref] {
  const pid = spawn(fn, ...args)
  return [pid, monitor('process', pid)]
}

/** The process that runs now; outside of all, the main process. @returns its pid */
export function self(): Pid {
  return current().pid
}

/** Sends any value to a process, as `Pid ! Message` does; to one that is no more it does nothing. @returns the message */
export function send<M>(to: Pid, message: M): M {
  current()
  const target = processOf(to)
  if (target === undefined) throw new Exit('badarg')
  if (target instanceof Process) target.put(message)
  return message
}

/** One branch of a {@link receive}. */
export class Clause<R> {
  readonly pattern: unknown
  readonly handler: (message: never) => R

  constructor(pattern: unknown, handler: (message: never) => R) {
    this.pattern = pattern
    this.handler = handler
  }
}

/** What a {@link receive} does when its time is over. */
export class After<R> {
  readonly timeout: Timeout
  readonly handler: () => R

  constructor(timeout: Timeout, handler: () => R) {
    this.timeout = timeout
    this.handler = handler
  }
}

/** A branch of {@link receive}: for a message that fits `pattern`, do `handler`, which is given the message. */
export function on<const P, R>(pattern: P, handler: (message: Matched<P>) => R): Clause<R> {
  return new Clause(pattern, handler as (message: never) => R)
}

/** The last branch of {@link receive}: what to do after so many milliseconds; without it, give `'timeout'`. 0 looks, and does not wait. */
export function after(timeout: Timeout): After<'timeout'>
export function after<R>(timeout: Timeout, handler: () => R): After<R>
export function after(timeout: Timeout, handler: () => unknown = () => 'timeout'): After<unknown> {
  if (!isTimeout(timeout)) throw new Exit('timeout_value')
  return new After(timeout, handler)
}

/** What a branch gives: the value of its handler, or for a bare pattern the message. */
export type Received<C> = C extends Clause<infer R> | After<infer R> ? Awaited<R> : Matched<C>

/**
 * Takes the first message out of the mailbox that one of the branches fits, in the order in which messages came, and waits for
 * one while there is none; all others stay where they are. A branch is a bare pattern, {@link on} with a handler, or, at the
 * end, `after`.
 *
 * ```ts
 * import { _, after, on, receive, self, erlang } from 'fairlead/erlang'
 *
 * erlang.send(self(), ['second', 2])
 * erlang.send(self(), ['first', 1])
 * console.log(await receive(['first', _])) // [ 'first', 1 ]
 * console.log(await receive(on(['second', _], ([, n]) => n), after(0))) // 2
 * console.log(await receive(after(0, () => 'nothing'))) // nothing
 * ```
 */
export function receive<const C extends readonly unknown[]>(
  ...branches: C
): Promise<C extends readonly [] ? Message : Received<C[number]>> {
  return harmless(async () => {
    const last = branches.at(-1)
    const timing = last instanceof After ? last : undefined
    const clauses = timing === undefined ? branches : branches.slice(0, -1)
    if (clauses.some((clause) => clause instanceof After)) throw new Exit('badarg')
    const patterns = clauses.map((clause) => (clause instanceof Clause ? clause.pattern : clause))
    // Without any branch, whatever comes; `receive after` alone waits for nothing.
    const process = current()
    const found = await process.receive(branches.length === 0 ? [() => true] : patterns, timing?.timeout ?? 'infinity')
    if (found === undefined) return (timing as After<unknown>).handler() as never
    const clause = clauses[found.which]
    return (clause instanceof Clause ? await (clause.handler as (message: unknown) => unknown)(found.message) : found.message) as never
  })
}

/**
 * `exit(Reason)` ends the calling process, by throwing {@link Exit}. `exit(Pid, Reason)` sends an exit signal: a process that
 * traps exits gets it as `{'EXIT', From, Reason}`, any other ends with it, unless it is `normal`; `kill` ends every process.
 * The program of a process that is ended that way stops at the next call of this module it makes or is waiting in.
 */
export function exit(reason: unknown): never
export function exit(pid: Pid, reason: unknown): true
export function exit(...args: readonly [unknown] | readonly [Pid, unknown]): true {
  if (args.length === 1) throw new Exit(args[0])
  const target = processOf(args[0])
  if (target === undefined) throw new Exit('badarg')
  const me = current()
  target.signal(me.pid, args[1], 'exit')
  me.mustLive()
  return true
}

/**
 * Links the calling process with another: each gets an exit signal when the other ends, with `noproc` at once if it has.
 *
 * @returns `true`
 */
export function link(pid: Pid): true {
  const [me, other] = [current(), processOf(pid)]
  if (other === undefined) throw new Exit('badarg')
  if (other.over !== undefined) me.signal(pid, 'noproc', 'link')
  else if (other !== me) me.link(other)
  me.mustLive()
  return true
}

/** Undoes {@link link}. @returns `true`, also where there was no link */
export function unlink(pid: Pid): true {
  const other = processOf(pid)
  if (other === undefined) throw new Exit('badarg')
  current().unlink(other)
  return true
}

/**
 * From now on the calling process is told when another ends: `{'DOWN', Ref, process, Pid, Reason}`, with `noproc` at once for one
 * that has.
 *
 * @returns what {@link demonitor} takes
 */
export function monitor(type: 'process', pid: Pid): Ref {
  const [me, other] = [current(), processOf(pid)]
  if (type !== 'process' || other === undefined) throw new Exit('badarg')
  return me.monitor(other, ['process', pid])
}

/**
 * Undoes {@link monitor}; `flush` also throws a message away that has come already.
 *
 * @returns `true`, also the second time; with `info` whether there was something to undo
 */
export function demonitor(ref: Ref, options: readonly ('flush' | 'info')[] = []): boolean {
  if (!Array.isArray(options)) throw new Exit('badarg')
  const me = current()
  const undone = me.demonitor(ref)
  if (options.includes('flush')) me.take([['DOWN', ref, () => true, () => true, () => true]])
  return options.includes('info') ? undone : true
}

/** `process_flag('trap_exit', true)`: exit signals become messages `{'EXIT', From, Reason}`. @returns the old value */
export function process_flag(flag: 'trap_exit', value: boolean): boolean {
  if (flag !== 'trap_exit' || typeof value !== 'boolean') throw new Exit('badarg')
  const process = current()
  const before = process.trapExit
  process.trapExit = value
  return before
}

/**
 * Whether a process, or the one that stands for a socket, has not ended.
 *
 * @returns `true` or `false`; ends the caller with `badarg` for what is no pid
 */
export function is_process_alive(pid: Pid): boolean {
  const process = processOf(pid)
  if (process === undefined) throw new Exit('badarg')
  return process.over === undefined
}

/**
 * What `{ok, Value} = …` and `ok = …` are in Erlang: gives the value, or ends the process with `{badmatch, Result}`.
 *
 * ```ts
 * import { gen_udp, inet, ok } from 'fairlead/erlang'
 *
 * const socket = ok(await gen_udp.open(0, ['binary', ['active', false]]))
 * console.log(ok(inet.sockname(socket))[0]) // [ 0, 0, 0, 0 ]
 * ok(await gen_udp.close(socket))
 * ```
 */
export function ok<T>(result: Ok<T> | Failure<unknown>): T
export function ok(result: 'ok' | Failure<unknown>): 'ok'
export function ok(result: unknown): unknown {
  if (result === 'ok') return 'ok'
  if (Array.isArray(result) && result[0] === 'ok' && result.length === 2) return result[1]
  throw new Exit(['badmatch', result])
}
