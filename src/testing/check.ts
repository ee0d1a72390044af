/**
 * The contract checker: properties of byte streams, listeners and codecs, each a named test citing its id, that run on
 * anyone's transport with anyone's test runner.
 */

import assert from 'node:assert/strict'
import type { Connection } from '../connection.js'
import { systemClock } from '../deadline.js'
import type { Broken, Busy, Cancelled, Closed, DeadlineError, SocketError, SystemFailure } from '../errors.js'
import { settle, type VirtualClock } from './clock.js'

/** Two connected ends. */
export interface ConnectionPair {
  readonly a: Connection
  readonly b: Connection
  /** The clock of both ends, when it is a virtual one: deadlines are then tested without waiting. */
  readonly clock?: VirtualClock | undefined
  /** Releases what the pair needed besides its ends, such as a listener. */
  dispose?(): Promise<unknown>
}

/** Makes connected pairs of one transport. */
export interface StreamMaker {
  readonly name: string
  pair(): Promise<ConnectionPair>
  /** A pair whose `a` can send nothing until `b` reads. Default: `pair` filled up by {@link clog}. Absent with `unbounded`. */
  clogged?(): Promise<ConnectionPair>
  /** This transport takes any number of bytes without a reader, so the properties of clogged pairs do not apply. */
  readonly unbounded?: boolean | undefined
  /** A pair whose `b` sends nothing until `a` reads; for the same with ends swapped. Default as for `clogged`. */
  cloggedBack?(): Promise<ConnectionPair>
}

/** What a property of a stream gets: `a` is the end that sends where the property has a direction. */
export interface StreamCase {
  readonly a: Connection
  readonly b: Connection
  readonly time: Pace
}

export interface Property<C> {
  readonly id: string
  readonly title: string
  /** Needs a pair on which `a` cannot send. */
  readonly clogged?: boolean
  /** Has a direction, so it is run with ends swapped as well (T31). */
  readonly directed?: boolean
  run(c: C): Promise<void>
}

/** `test` of `node:test`, or anything called alike. */
export type TestFunction = (name: string, options: { skip?: string }, fn: () => Promise<void>) => unknown

export interface CheckOptions {
  test: TestFunction
  /** id → why it is skipped. Skipped properties are registered as skipped tests with the reason. */
  skip?: Readonly<Record<string, string>> | undefined
  /** Only these ids. */
  only?: readonly string[] | undefined
  /** Milliseconds of real time after which a property that hangs fails and its sockets are aborted. Default 60,000. */
  watchdog?: number | undefined
}

/** Time as the case sees it: virtual where the pair has a clock, real otherwise. */
export class Pace {
  readonly #clock: VirtualClock | undefined

  constructor(clock?: VirtualClock) {
    this.#clock = clock
  }

  /** Whether milliseconds cost anything. */
  get real(): boolean {
    return this.#clock === undefined
  }

  /** How late a timer may be: none in virtual time, what a busy machine needs in real time. */
  get slack(): number {
    return this.real ? 1000 : 0
  }

  now(): number {
    return (this.#clock ?? systemClock).now()
  }

  wall(): number {
    return (this.#clock ?? systemClock).wall()
  }

  async pass(ms: number): Promise<void> {
    if (this.#clock) return this.#clock.advance(ms)
    await new Promise<void>((resolve) => systemClock.at(systemClock.now() + ms, resolve))
  }

  /** What `promise` settles to, while time passes for it as far as needed, at most `most` milliseconds. */
  async run<T>(promise: Promise<T>, most: number): Promise<T> {
    let settled = false
    const done = () => (settled = true)
    promise.then(done, done)
    for (let left = most; this.#clock && !settled && left >= 0; left -= 1) await this.#clock.advance(1)
    return promise
  }

  /** Fails if `promise` settles before `ms` have passed. */
  async stillPending(promise: Promise<unknown>, what: string, ms = 30): Promise<void> {
    let outcome: string | undefined
    promise.then(
      () => (outcome ??= 'resolved'),
      (error: unknown) => (outcome ??= `rejected: ${String(error)}`),
    )
    await this.pass(ms)
    await settle(4)
    assert.equal(outcome, undefined, `${what} should still be waiting, but it ${outcome}`)
  }
}

const MOST_BUFFERED = 64 * 1024 * 1024

/** A class of errors of this library. */
export type ErrorClass =
  | typeof Closed
  | typeof Broken
  | typeof Busy
  | typeof Cancelled
  | typeof DeadlineError
  | typeof SystemFailure
  | typeof SocketError

/** The error with which `promise` fails, which must be of one of these classes (and have this code). */
export async function failsWith(
  promise: Promise<unknown>,
  what: string,
  classes: ErrorClass | ErrorClass[],
  code?: string,
): Promise<SocketError> {
  const error = await promise.then(
    (value) => assert.fail(`${what} should have failed, but resolved to ${describe(value)}`),
    (reason: unknown) => reason,
  )
  const wanted = Array.isArray(classes) ? classes : [classes]
  const names = wanted.map(({ name }) => name).join(' or ')
  if (!wanted.some((Class) => error instanceof Class)) {
    throw new assert.AssertionError({
      message: `${what} should have failed with ${names}, but failed with ${String(error)}`,
      actual: error,
      expected: names,
    })
  }
  if (code !== undefined) assert.equal((error as SocketError).code, code, `${what}: code`)
  return error as SocketError
}

function describe(value: unknown): string {
  return value instanceof Uint8Array ? `${value.length} bytes` : String(value)
}

/** Everything up to the end. */
export async function readToEnd(connection: Connection, limit?: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  for (let chunk = await connection.read({ limit }); chunk !== null; chunk = await connection.read({ limit })) {
    assert.ok(chunk.length > 0, 'read gave an empty chunk')
    chunks.push(chunk)
  }
  return new Uint8Array(Buffer.concat(chunks))
}

/** Exactly `count` bytes. */
export async function readCount(connection: Connection, count: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(count)
  for (let at = 0; at < count;) {
    const chunk = await connection.read({ limit: count - at })
    assert.ok(chunk !== null, `the stream ended after ${at} of ${count} bytes`)
    bytes.set(chunk, at)
    at += chunk.length
  }
  return bytes
}

export const latin1 = (bytes: Uint8Array | null): string | null =>
  bytes && Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')

/**
 * Fills every buffer between the ends, so that `connection` can send nothing until its peer reads: what a "clogged"
 * maker does. The system moves bytes between its buffers on its own time, so a pipe counts as full when it took nothing
 * for `patience` milliseconds of real time (default 60, as Linux may acknowledge what fills a window 40 ms late; 0 suffices
 * inside the process).
 *
 * @returns how many bytes that took
 * @throws an assertion error when it has taken 64 MiB: no system buffers that much, so nothing holds the writer back
 */
export async function clog(connection: Connection, patience = 60): Promise<number> {
  const filler = new Uint8Array(64 * 1024).fill(0x2e)
  let total = 0
  for (let quiet = 0; quiet < 4;) {
    const abort = new AbortController()
    let settled = false
    const writing = connection.writeSome(filler, { signal: abort.signal }).finally(() => (settled = true))
    await settle(6)
    if (!settled && patience > 0) await new Promise<void>((resolve) => setTimeout(resolve, patience / 4))
    if (!settled) abort.abort()
    const count = await writing.catch((error: unknown) => {
      if (!abort.signal.aborted) throw error
      return 0
    })
    total += count
    assert.ok(total < MOST_BUFFERED, `${total} bytes were taken without a reader`)
    quiet = count === 0 ? quiet + 1 : 0
  }
  return total
}

/** Runs `fn` under a watchdog in real time, which also keeps the process alive meanwhile. */
export async function guarded(fn: () => Promise<void>, cleanUp: () => Promise<unknown>, watchdog: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const bite = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new assert.AssertionError({ message: `nothing happened for ${watchdog} ms: it hangs` })), watchdog)
  })
  try {
    await Promise.race([fn(), bite])
    await Promise.race([cleanUp(), bite])
  } catch (error) {
    await Promise.race([cleanUp(), settle(50)]).catch(() => {})
    throw error
  } finally {
    clearTimeout(timer)
  }
}

/** Registers every property that is asked for, with its reason where it is skipped. */
export function register<C>(
  name: string,
  properties: readonly Property<C>[],
  o: CheckOptions,
  open: (property: Property<C>) => Promise<{ subject: C; close(): Promise<unknown> }>,
  prefix = '',
): string[] {
  const ids: string[] = []
  for (const property of properties) {
    if (o.only && !o.only.includes(property.id)) continue
    ids.push(property.id)
    const reason = o.skip?.[property.id]
    o.test(`${prefix}${property.id} ${property.title} [${name}]`, reason === undefined ? {} : { skip: reason }, async () => {
      let close: () => Promise<unknown> = async () => {}
      const run = async () => {
        const opened = await open(property)
        close = () => opened.close()
        await property.run(opened.subject)
      }
      await guarded(run, () => close(), o.watchdog ?? 60_000)
    })
  }
  return ids
}
