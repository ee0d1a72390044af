/** Certificates, TLS servers and TLS clients for the tests of Ioto's dialect. */

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Connection, listen as listenAt, type ServerTlsOptions } from 'fairlead'
import { type Authority, developmentAuthority, type IssueOptions } from 'fairlead/testing'
import {
  rConnectSocket,
  rFreeSocket,
  rGetSocketError,
  rGetTicks,
  rIsSocketSecure,
  rListenSocket,
  rReadSocket,
  rSetSocketCerts,
  rWriteSocket,
  type RSocket,
} from 'fairlead/ioto'
import { folder, type Made, portOf } from './ioto-fibers.js'

export const authority: Authority = await developmentAuthority()
export const stranger: Authority = await developmentAuthority({ name: 'stranger' })

/** A certificate and its key. */
export async function issue(o: IssueOptions = {}, from: Authority = authority): Promise<{ cert: string; key: string }> {
  const { cert, key } = await from.issue(o)
  return { cert, key }
}

let files = 0
/** A file with this content. */
export function file(content: string | Uint8Array): string {
  const path = join(folder, `f${++files}`)
  writeFileSync(path, content)
  return path
}
export const CA: string = file(authority.cert)

/** A TLS server of this library that sends `hello`, while `fn` runs. */
export async function beside<T>(tls: ServerTlsOptions, fn: (port: number) => Promise<T>): Promise<T> {
  const listener = await listenAt('tls://127.0.0.1:0', { tls })
  const greeting = (async () => {
    for await (const connection of listener.connections()) void greet(connection)
  })()
  try {
    return await fn(Number(new URL(listener.endpoint).port))
  } finally {
    await listener.close()
    await greeting
  }
}

async function greet(connection: Connection): Promise<void> {
  await connection.write('hello').catch(() => {})
  await connection.readAll().catch(() => {})
  await connection.close()
}

export async function hello(sp: RSocket): Promise<void> {
  const buf = new Uint8Array(5)
  let count = 0
  while (count < 5) {
    const n = await rReadSocket(sp, buf.subarray(count), 5 - count, rGetTicks() + 5_000)
    assert.ok(n > 0, `${n} ${rGetSocketError(sp)}`)
    count += n
  }
  assert.equal(new TextDecoder().decode(buf), 'hello')
}

export const issued: Awaited<ReturnType<typeof issue>> = await issue({ names: ['localhost', '127.0.0.1'] })
export const CERT: string = file(issued.cert)
export const KEY: string = file(issued.key)

/** A TLS listener of the dialect that sends `hello` to whoever gets through. */
export async function greeter(
  made: Made,
  prepare: (sp: RSocket) => void,
): Promise<{ port: number; greeted: () => number; listener: RSocket }> {
  const sp = made()
  let count = 0
  rSetSocketCerts(sp, KEY, CERT, null, null)
  prepare(sp)
  const result = await rListenSocket(
    sp,
    '127.0.0.1',
    0,
    async (_arg, client) => {
      count++
      assert.equal(rIsSocketSecure(client), true)
      await rWriteSocket(client, 'hello', 5)
      await rReadSocket(client, new Uint8Array(1), 1)
      await rFreeSocket(client)
    },
    null,
  )
  assert.equal(result, 0, rGetSocketError(sp))
  return { port: portOf(sp), greeted: () => count, listener: sp }
}

export async function client(
  made: Made,
  port: number,
  prepare: (sp: RSocket) => void = () => {},
  host: string = 'localhost',
): Promise<RSocket> {
  const sp = made()
  rSetSocketCerts(sp, null, null, CA, null)
  prepare(sp)
  assert.equal(await rConnectSocket(sp, host, port, rGetTicks() + 10_000), 0, rGetSocketError(sp))
  return sp
}

export async function sayHello(_arg: unknown, sp: RSocket): Promise<void> {
  await rWriteSocket(sp, 'hello', 5)
  await rFreeSocket(sp)
}
