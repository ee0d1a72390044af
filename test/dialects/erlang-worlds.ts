/** Pairs of connected sockets of `gen_tcp` and `ssl`, so that one body tests both. */

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test as nodeTest, type TestContext, type TestOptions } from 'node:test'
import { type Connection, listen as coreListen } from 'fairlead'
import {
  after,
  type Data,
  type Failure,
  gen_tcp,
  inet,
  type Ok,
  type SocketOption,
  spawn,
  ssl,
  type Timeout,
  type IoData,
  type Pid,
} from 'fairlead/erlang'
import { type Authority, developmentAuthority } from 'fairlead/testing'

/** A test that runs in a process of its own, with an empty mailbox, and leaves no socket behind. */
export function test(name: string, fn: (t: TestContext) => Promise<void>): void
export function test(name: string, options: TestOptions, fn: (t: TestContext) => Promise<void>): void
export function test(name: string, ...rest: readonly unknown[]): void {
  const fn = rest.at(-1) as (t: TestContext) => Promise<void>
  void nodeTest(
    name,
    rest.length > 1 ? (rest[0] as TestOptions) : {},
    (t) => new Promise<void>((resolve, reject) => spawn(() => fn(t).then(resolve, reject))),
  )
}

/** What `['ok', Value]` holds; any other result fails the test. */
export function ok<T>(result: Ok<T> | Failure<unknown>): T {
  assert.equal(result[0], 'ok', `expected ok, got ${JSON.stringify(result)}`)
  return result[1] as T
}

/** For what comes at once, be the machine as busy as it may. */
export const soon = after(30_000, () => assert.fail('no message came'))

export const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'latin1'))
export const LOCAL: readonly ['ip', readonly [127, 0, 0, 1]] = ['ip', [127, 0, 0, 1]]

export interface Files {
  readonly folder: string
  readonly authority: Authority
  readonly ca: string
  readonly cert: string
  readonly key: string
  /** Writes a file and gives its path. */
  write(name: string, text: string): string
}

export async function files(): Promise<Files> {
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-erlang-'))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  const authority = await developmentAuthority()
  const server = await authority.issue({ names: ['localhost', '127.0.0.1'], purpose: 'both' })
  const write = (name: string, text: string) => {
    const path = join(folder, name)
    writeFileSync(path, text, { mode: 0o600 })
    return path
  }
  const [ca, cert, key] = [write('ca.pem', authority.cert), write('cert.pem', server.cert), write('key.pem', server.key)]
  return { folder, authority, ca, cert, key, write }
}

let shared: Promise<Files> | undefined
export function theFiles(): Promise<Files> {
  shared ??= files()
  return shared
}

export type AnySocket = ssl.SslSocket | gen_tcp.TcpSocket
type Result<T> = Promise<Ok<T> | Failure<unknown>>

/** The functions that both modules have. */
export interface Api {
  send(socket: AnySocket, data: IoData): Promise<'ok' | Failure<unknown>>
  recv(socket: AnySocket, length: number, timeout?: Timeout): Result<Data>
  close(socket: AnySocket): Promise<unknown>
  shutdown(socket: AnySocket, how: 'read' | 'write' | 'read_write'): Promise<'ok' | Failure<unknown>>
  setopts(socket: AnySocket, options: readonly SocketOption[]): 'ok' | Failure<unknown>
  getopts(socket: AnySocket, names: readonly string[]): Ok<readonly (readonly [string, unknown])[]> | Failure<unknown>
  controlling_process(socket: AnySocket, pid: Pid): 'ok' | Failure<unknown>
}

export interface World {
  readonly name: string
  readonly kind: 'tcp' | 'ssl'
  readonly api: Api
  /** Two ends, the connected one first. */
  pair(t: TestContext, client: readonly SocketOption[], server: readonly SocketOption[]): Promise<readonly [AnySocket, AnySocket]>
}

const tcpWorld: World = {
  name: 'gen_tcp',
  kind: 'tcp',
  api: { ...gen_tcp, setopts: inet.setopts, getopts: inet.getopts } as unknown as Api,
  async pair(t, client, server) {
    const listening = ok(await gen_tcp.listen(0, [LOCAL, ...server]))
    const accepting = gen_tcp.accept(listening)
    const left = ok(await gen_tcp.connect([127, 0, 0, 1], ok(inet.port(listening)), client)) as AnySocket
    const right = ok(await accepting) as AnySocket
    t.after(() => Promise.all([gen_tcp.close(left as never), gen_tcp.close(right as never), gen_tcp.close(listening)]))
    return [left, right]
  },
}

function sslWorld(version: 'tlsv1.2' | 'tlsv1.3'): World {
  return {
    name: `ssl over ${version}`,
    kind: 'ssl',
    api: ssl as unknown as Api,
    async pair(t, client, server) {
      const { cert, key } = await theFiles()
      const listening = ok(await ssl.listen(0, [LOCAL, ['certfile', cert], ['keyfile', key], ...server]))
      const accepting = ssl.accept(listening)
      const left = ok(await ssl.connect([127, 0, 0, 1], ok(ssl.port(listening)), [['versions', [version]], ...client])) as AnySocket
      const right = ok(await accepting) as AnySocket
      t.after(() => Promise.all([ssl.close(left as never), ssl.close(right as never), ssl.close(listening)]))
      return [left, right]
    },
  }
}

export const WORLDS: readonly World[] = [tcpWorld, sslWorld('tlsv1.2'), sslWorld('tlsv1.3')]

/** Passive, in binary mode. */
export const RAW: readonly SocketOption[] = ['binary', ['active', false]]

/** A passive socket of `gen_tcp` and a plain connection at its other end. */
export async function withPeer(options: readonly SocketOption[]): Promise<readonly [gen_tcp.TcpSocket, Connection]> {
  await using listener = await coreListen('tcp://127.0.0.1:0')
  const port = (listener.local as { port: number }).port
  const socket = ok(await gen_tcp.connect([127, 0, 0, 1], port, options)) as gen_tcp.TcpSocket
  return [socket, await listener.accept()]
}
