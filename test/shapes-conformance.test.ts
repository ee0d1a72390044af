/**
 * The contract through the adapters of `src/shapes`: each end of a pair is a connection over the streams, or the verbs, of a
 * socket of that shape, which is a connection itself. What a shape has no words for cannot be shown through it.
 */

import assert from 'node:assert/strict'
import { Duplex } from 'node:stream'
import type { ReadableStream, ReadableStreamDefaultReader, WritableStream, WritableStreamDefaultWriter } from 'node:stream/web'
import { describe, test } from 'node:test'
import { connect, Connection, listen, type Listener, network } from 'fairlead'
import * as deno from 'fairlead/deno'
import { TCPServerSocket, TCPSocket } from 'fairlead/direct-sockets'
import { checkStreams, type ConnectionPair, settle, STREAM_PROPERTIES, type StreamMaker } from 'fairlead/testing'
import { binding } from 'fairlead/wintertc'
import { testCredentials } from './matrix.js'
import { SUBSET } from './properties.js'

interface Shape extends StreamMaker {
  /** id → why it does not apply. */
  readonly skip: Readonly<Record<string, string>>
  /** Only these: the shape is checked in full over another transport. */
  readonly only?: readonly string[] | undefined
  /** A pair whose `a` is a connection of this library itself, which can do what the shape cannot. */
  fromPlain?(): Promise<ConnectionPair>
  close(): Promise<void>
}

/** A listener that is opened when first needed. */
function lazily<T>(open: () => Promise<T>): { get(): Promise<T>; end(close: (opened: T) => unknown): Promise<void> } {
  let opened: Promise<T> | undefined
  return {
    get: () => (opened ??= open()),
    async end(close) {
      if (opened !== undefined) await close(await opened)
    },
  }
}

/** The error of this library below one of a shape's, which has no code of the system. */
function below(error: Error | null): Error {
  if (error === null) return new Error('the stream was aborted')
  return error.cause instanceof Error ? error.cause : error
}

interface Streams {
  readonly readable: ReadableStream<Uint8Array>
  readonly writable: WritableStream<Uint8Array>
}

/** A pair of Web streams, and what closes their socket, as a stream of Node's. */
class OverStreams extends Duplex {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>
  readonly #close: () => Promise<void>

  constructor({ readable, writable }: Streams, close: () => Promise<void>) {
    super({ allowHalfOpen: true })
    this.#reader = readable.getReader()
    this.#writer = writable.getWriter()
    this.#close = close
    for (const { closed } of [this.#reader, this.#writer]) closed.catch(() => {})
  }

  override _read(): void {
    this.#reader.read().then(
      ({ done, value }) => this.push(done ? null : Buffer.from(value)),
      (error: Error) => this.destroy(below(error)),
    )
  }

  override _write(chunk: Uint8Array, _encoding: string, done: (error?: Error | null) => void): void {
    this.#writer.write(chunk).then(
      () => done(),
      (error: Error) => done(below(error)),
    )
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#writer.close().then(
      () => done(),
      (error: Error) => done(below(error)),
    )
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    void Promise.allSettled([this.#reader.cancel(error), this.#writer.abort(error)]).then(() => {
      this.#reader.releaseLock()
      this.#writer.releaseLock()
      this.#close().catch(() => {})
      done(error)
    })
  }
}

function overStreams(streams: object, socket: { close(): Promise<void> }): Connection {
  return Connection.fromNode(new OverStreams(streams as Streams, () => socket.close()))
}

/** WinterTC connects and does not listen: one end is a connection of this library itself. */
function wintertc(secure: boolean): Shape {
  const listener = lazily<Listener>(async () => {
    if (!secure) return listen('tcp://127.0.0.1:0')
    const { cert, key } = await testCredentials()
    return listen('tls://127.0.0.1:0', { tls: { cert, key } })
  })
  return {
    name: `wintertc ${secure ? 'tls' : 'tcp'}`,
    skip: {},
    only: secure ? SUBSET : undefined,
    async pair(): Promise<ConnectionPair> {
      const { endpoint, accept } = await listener.get().then((one) => ({ endpoint: one.endpoint, accept: one.accept() }))
      const { ca } = await testCredentials()
      const socket = binding({ tls: { ca } }).connect(new URL(endpoint).host, {
        secureTransport: secure ? 'on' : 'off',
        allowHalfOpen: true,
        ...(secure ? { sni: 'localhost' } : {}),
      })
      const [b] = await Promise.all([accept, socket.opened])
      return { a: overStreams(socket, socket), b }
    },
    close: () => listener.end((one) => one.close()),
  }
}

const NO_ABORT = 'this shape cannot reset a connection; that it shows a reset of its peer is tested by itself'

function direct(): Shape {
  const server = lazily(async () => {
    const socket = new TCPServerSocket('127.0.0.1')
    const { readable, localPort } = await socket.opened
    return { socket, reader: readable.getReader(), localPort }
  })
  const accept = async () => {
    const { value: socket } = await (await server.get()).reader.read()
    assert.ok(socket)
    return overStreams(await socket.opened, socket)
  }
  return {
    name: 'direct sockets',
    skip: { N10: NO_ABORT, X3: NO_ABORT },
    async pair(): Promise<ConnectionPair> {
      const { localPort } = await server.get()
      const accepted = accept()
      const socket = new TCPSocket('127.0.0.1', localPort)
      return { a: overStreams(await socket.opened, socket), b: await accepted }
    },
    async fromPlain(): Promise<ConnectionPair> {
      const { localPort } = await server.get()
      const [a, b] = await Promise.all([connect(`tcp://127.0.0.1:${localPort}`), accept()])
      return { a, b }
    },
    close: () =>
      server.end(async ({ socket, reader }) => {
        reader.releaseLock()
        await socket.close()
      }),
  }
}

/** `read`, `write`, `closeWrite` and `close` as a stream of Node's. */
class OverConn extends Duplex {
  readonly #conn: deno.Conn

  constructor(conn: deno.Conn) {
    super({ allowHalfOpen: true })
    this.#conn = conn
  }

  override _read(): void {
    const buffer = Buffer.alloc(16_384)
    this.#conn.read(buffer).then(
      (count) => this.push(count === null ? null : buffer.subarray(0, count)),
      (error: Error) => this.destroy(below(error)),
    )
  }

  override _write(chunk: Uint8Array, _encoding: string, done: (error?: Error | null) => void): void {
    this.#writeAll(chunk).then(
      () => done(),
      (error: Error) => done(below(error)),
    )
  }

  async #writeAll(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length;) at += await this.#conn.write(chunk.subarray(at))
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#conn.closeWrite().then(
      () => done(),
      (error: Error) => done(below(error)),
    )
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#conn[Symbol.dispose]()
    done(error)
  }
}

function overDeno(): Shape {
  const listener = lazily(() => deno.listen({ port: 0, hostname: '127.0.0.1' }))
  return {
    name: 'deno',
    skip: { N10: NO_ABORT, X3: NO_ABORT },
    async pair(): Promise<ConnectionPair> {
      const one = await listener.get()
      const [a, b] = await Promise.all([deno.connect({ port: one.addr.port }), one.accept()])
      return { a: Connection.fromNode(new OverConn(a)), b: Connection.fromNode(new OverConn(b)) }
    },
    async fromPlain(): Promise<ConnectionPair> {
      const one = await listener.get()
      const [a, b] = await Promise.all([connect(`tcp://127.0.0.1:${one.addr.port}`), one.accept()])
      return { a, b: Connection.fromNode(new OverConn(b)) }
    },
    close: () => listener.end((one) => one.close()),
  }
}

/** Waits for the lingering of connections that ended in order. */
async function allClosed(): Promise<void> {
  for (let turns = 0; turns < 400 && network().sockets().length > 0; turns++) await settle(1)
  assert.deepEqual(network().sockets(), [])
}

for (const shape of [wintertc(false), wintertc(true), direct(), overDeno()]) {
  describe(shape.name, { concurrency: false }, () => {
    checkStreams(shape, { test, skip: shape.skip, only: shape.only, watchdog: 15_000 })
    const { fromPlain: pair, name } = shape
    if (pair) checkStreams({ name: `${name}, from a plain connection`, pair }, { test, only: Object.keys(shape.skip) })
    test(`S13 nothing is left open [${shape.name}]`, async () => {
      await shape.close()
      await allClosed()
    })
  })
}

test('every exception names a property that exists, and has a reason', () => {
  const ids = new Set([...STREAM_PROPERTIES.map(({ id }) => id), 'T31'])
  for (const { skip } of [wintertc(false), wintertc(true), direct(), overDeno()]) {
    for (const [id, reason] of Object.entries(skip)) {
      assert.ok(ids.has(id), id)
      assert.match(reason, /\w{2,} \w+/)
    }
  }
})
