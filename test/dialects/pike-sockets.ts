// Sockets of Pike's kind for tests, and ways to wait for what happens to them.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import type { TestContext } from 'node:test'
import { PikeError, Stdio } from 'fairlead/pike'

export const portOf = (address: string | 0): number => Number(String(address).split(' ')[1])

/** A port that listens at the loopback address. */
export async function listening(t: TestContext, ...rest: [accept?: (id: never) => unknown, ip?: string]): Promise<Stdio.Port> {
  const port = new Stdio.Port()
  t.after(() => port.close())
  assert.equal(await port.bind(0, rest[0] ?? 0, rest[1] ?? '127.0.0.1'), 1)
  return port
}

export async function pair(t: TestContext): Promise<[Stdio.File, Stdio.File]> {
  const port = await listening(t)
  const file = new Stdio.File()
  t.after(() => file.close())
  assert.equal(await file.connect('127.0.0.1', portOf(port.query_address())), 1)
  const peer = await port.accept()
  assert.ok(peer)
  t.after(() => peer.close())
  port.close()
  return [file, peer]
}

/** A file, and at the other end a socket of Node, which can do what files here do not: end at once, and reset. */
export async function raw(t: TestContext): Promise<[Stdio.File, Socket]> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const file = new Stdio.File()
  t.after(() => file.close())
  const [[socket]] = await Promise.all([
    once(server, 'connection') as Promise<[Socket]>,
    file.connect('127.0.0.1', (server.address() as { port: number }).port),
  ])
  socket.on('error', () => undefined)
  t.after(() => socket.destroy())
  server.close()
  return [file, socket]
}

/** A port where nobody listens. */
export async function closedPort(t: TestContext): Promise<number> {
  const port = await listening(t)
  const number = portOf(port.query_address())
  await port[Symbol.asyncDispose]()
  return number
}

export const thrown =
  (pattern: RegExp): ((error: unknown) => boolean) =>
  (error) =>
    error instanceof PikeError && pattern.test(error.message)

/** What callbacks saw, and a promise for the moment in which they have seen enough. */
export function log(): { seen: unknown[]; add: (...entry: unknown[]) => void; until: (length: number) => Promise<void> } {
  const seen: unknown[] = []
  let wake: (() => void) | undefined
  return {
    seen,
    add: (...entry) => {
      seen.push(entry.length === 1 ? entry[0] : entry)
      wake?.()
    },
    until: async (length) => {
      while (seen.length < length) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    },
  }
}

/** Lets everything that is under way on this machine come in. */
export async function turns(count = 20): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
}
