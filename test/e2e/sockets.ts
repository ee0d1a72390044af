/** Real sockets for tests of programs: servers, clients, certificates, and a payload that fills every buffer on the way. */

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type { TestContext } from 'node:test'
import { type Authority, developmentAuthority } from 'fairlead/testing'
import { folder } from './program.js'

let made: Promise<Authority> | undefined
export const authority = (): Promise<Authority> => (made ??= developmentAuthority())

/** Certificate files in a folder of the test. */
export async function credentials(
  t: TestContext,
  names = ['localhost', '127.0.0.1'],
): Promise<{ ca: string; cert: string; key: string; pem: { cert: string; key: string } }> {
  const pem = await (await authority()).issue({ names })
  const at = folder(t)
  const files = { ca: join(at, 'ca.pem'), cert: join(at, 'cert.pem'), key: join(at, 'key.pem') }
  writeFileSync(files.ca, (await authority()).cert)
  writeFileSync(files.cert, pem.cert)
  writeFileSync(files.key, pem.key)
  return { ...files, pem }
}

/** Listens, and keeps the sockets that come to end them with the test. */
export async function listening(t: TestContext, server: Server, at: string | undefined = undefined): Promise<string> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
  })
  if (at === undefined) server.listen(0, '127.0.0.1')
  else server.listen(at)
  await once(server, 'listening')
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const address = server.address()
  return typeof address === 'object' && address !== null ? `tcp://127.0.0.1:${address.port}` : `unix:${address}`
}

export async function accepted(server: Server, event = 'connection'): Promise<Socket> {
  const [socket] = (await once(server, event)) as [Socket]
  socket.on('error', () => undefined)
  return socket
}

/** A server that does one thing to each client. */
export function echo(): Server {
  return createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket))
}

export const PAYLOAD = Buffer.alloc(24 * 1024 * 1024)
for (let i = 0; i < PAYLOAD.length; i += 4) PAYLOAD.writeUInt32LE(i, i)
export const digest = (data: Buffer): string => createHash('sha256').update(data).digest('hex')

/** All of a stream. Not by iterating, which would destroy a socket together with its other direction. */
export async function everything(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = []
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  await new Promise<void>((resolve, reject) => {
    stream.once('end', resolve)
    stream.once('close', () => reject(new Error(`closed without an end, after ${Buffer.concat(chunks).length} bytes`)))
  })
  return Buffer.concat(chunks)
}

/** Whether a socket closed with an error. */
export const closing = (socket: Socket): Promise<boolean> => new Promise((resolve) => socket.once('close', resolve))

export const dialled = async (endpoint: string): Promise<Socket> => {
  const [, host, port] = /^tcp:\/\/(.*):(\d+)$/.exec(endpoint) ?? []
  const socket = host
    ? connect({ host, port: Number(port), allowHalfOpen: true })
    : connect({ path: endpoint.slice(5), allowHalfOpen: true })
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  return socket
}
