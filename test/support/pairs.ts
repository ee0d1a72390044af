/** Connected pairs over a network of their own, and pairs of which one end is a bare socket of the runtime. */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Connection, type ConnectOptions, Network, type NetworkOptions } from 'fairlead'
import { memory, settle } from 'fairlead/testing'

export type Transport = 'memory' | 'tcp' | 'unix'
export const TRANSPORTS: readonly Transport[] = ['memory', 'tcp', 'unix']

export interface NetworkPair extends AsyncDisposable {
  readonly network: Network
  /** The end that dialled. */
  readonly a: Connection
  /** The end that was accepted. */
  readonly b: Connection
}

/** Both ends through `connect` and `listen` of one network. */
export async function pairOver(transport: Transport, o: NetworkOptions = {}, dial: ConnectOptions = {}): Promise<NetworkPair> {
  const network = new Network(transport === 'memory' ? { driver: memory(), ...o } : o)
  const folder = transport === 'unix' ? mkdtempSync(join(tmpdir(), 'fairlead-')) : undefined
  const listener = await network.listen(folder === undefined ? 'tcp://127.0.0.1:0' : `unix:${join(folder, 's')}`)
  const [a, b] = await Promise.all([network.connect(listener.endpoint, dial), listener.accept()])
  await listener.close()
  return {
    network,
    a,
    b,
    [Symbol.asyncDispose]: async () => {
      await network.end({ abort: true })
      assert.equal(network.shared.budget.held, 0, 'bytes counted that nobody holds any more')
      if (folder !== undefined) rmSync(folder, { recursive: true })
    },
  }
}

export interface RawPair extends AsyncDisposable {
  readonly network: Network
  readonly connection: Connection
  /** Paused, and open until the test ends it. */
  readonly peer: Socket
}

/** A dialled connection whose peer is a socket of `node:net`. */
export async function rawPair(o: NetworkOptions = {}, dial: ConnectOptions = {}): Promise<RawPair> {
  const network = new Network(o)
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const [[peer], connection] = await Promise.all([
    once(server, 'connection') as Promise<[Socket]>,
    network.connect(`tcp://127.0.0.1:${port}`, dial),
  ])
  server.close()
  peer.on('error', () => {})
  return {
    network,
    connection,
    peer,
    [Symbol.asyncDispose]: async () => {
      peer.destroy()
      await network.end({ abort: true })
    },
  }
}

/** Turns the event loop until `holds`; fails with `what` after ten seconds. */
export async function until(what: string, holds: () => boolean): Promise<void> {
  const last = performance.now() + 10_000
  while (!holds()) {
    if (performance.now() > last) throw new Error(`waited in vain until ${what}`)
    await settle(1)
  }
}

/** Descriptors of this process, or undefined where the system does not tell. */
export function descriptors(): number | undefined {
  try {
    return readdirSync('/proc/self/fd').length
  } catch {
    return undefined
  }
}

/**
 * Writes until nothing more is taken; resolves with how many bytes were. The system moves bytes from the sender's buffer to the
 * receiver's later (what fills a window is acknowledged after 40 ms), and what stood in ours goes there then.
 */
export async function clogWith(connection: Connection, piece: Uint8Array = new Uint8Array(64 * 1024)): Promise<number> {
  let sent = 0
  for (let quiet = 0; quiet < 4;) {
    let settled = false
    const cancel = new AbortController()
    const writing = connection.writeSome(piece, { signal: cancel.signal }).catch((error: unknown) => {
      if (cancel.signal.aborted) return 0
      throw error
    })
    void writing.then(() => (settled = true))
    for (const last = performance.now() + 15; !settled && performance.now() < last;) await settle(1)
    if (!settled) cancel.abort()
    const count = await writing
    sent += count
    quiet = count === 0 ? quiet + 1 : 0
  }
  return sent
}

/** Everything that a bare socket receives until its end, joined. */
export async function drain(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of socket) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

/** `length` bytes that differ from one place to the next. */
export function pattern(length: number, seed: number = 0): Uint8Array {
  const bytes = new Uint8Array(length)
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >> 8) * 7 + seed) & 0xff
  return bytes
}
