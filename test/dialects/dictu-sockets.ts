/** Dictu's sockets for tests, closed when all of a file have run, and what a refused or a fatal call leaves behind. */

import assert from 'node:assert/strict'
import { after } from 'node:test'
import { connect as dial, type Connection } from 'fairlead'
import { FatalError, Socket, type SocketObject } from 'fairlead/dictu'

export const isLinux: boolean = process.platform === 'linux'
const open: { close(): Promise<unknown> }[] = []
after(async () => {
  for (const socket of open) await socket.close()
})

export function kept<T extends { close(): Promise<unknown> }>(socket: T | null): T {
  assert.ok(socket)
  open.push(socket)
  return socket
}

export const stream = (): SocketObject => kept(Socket.create(Socket.AF_INET, Socket.SOCK_STREAM))
export const datagram = (): SocketObject => kept(Socket.create(Socket.AF_INET, Socket.SOCK_DGRAM))
export const portOf = (socket: { beneath: unknown }): number => (socket.beneath as { local: { port: number } }).local.port

/** What a refused call leaves behind. */
export function refused(result: unknown, number: number, text: string): void {
  assert.equal(result, null)
  assert.equal(Socket.errno, number)
  assert.equal(Socket.strerror(), text)
}

export async function listening(): Promise<{ server: SocketObject; port: number }> {
  const server = stream()
  assert.equal(await server.bind('127.0.0.1', 0), true)
  assert.equal(await server.listen(), true)
  return { server, port: portOf(server) }
}

/** A pair: a client of this library and the accepted socket of the dialect. */
export async function accepted(): Promise<{ client: Connection; socket: SocketObject }> {
  const { server, port } = await listening()
  const accepting = server.accept()
  const client = kept(await dial({ transport: 'tcp', host: '127.0.0.1', port }))
  return { client, socket: kept(await accepting) }
}

export async function pair(): Promise<{ client: SocketObject; socket: SocketObject }> {
  const { server, port } = await listening()
  const client = stream()
  assert.equal(await client.connect('127.0.0.1', port), true)
  return { client, socket: kept(await server.accept()) }
}

export function fatal(call: () => unknown, text: string): Promise<void> {
  return assert.rejects(
    async () => call(),
    (error) => {
      assert.ok(error instanceof FatalError && error instanceof TypeError)
      assert.equal(error.message, text)
      assert.equal(error.exitCode, 70)
      return true
    },
  )
}

// Calls with wrong arguments, which the compiler refuses.
export const loose = (value: unknown): Record<string, (...args: unknown[]) => unknown> => value as never
