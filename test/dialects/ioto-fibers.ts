/** What the tests of Ioto's dialect have in common: programs on fibers, over the same wires. */

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import {
  rAllocSocket,
  rConnectSocket,
  rFreeSocket,
  rGetSocketAddr,
  rGetSocketError,
  rGetTicks,
  rListenSocket,
  rReadSocket,
  rSetSocketCerts,
  rSetSocketVerify,
  rSpawnFiber,
  rWriteSocket,
  type RSocket,
} from 'fairlead/ioto'
import { testCredentials } from '../matrix.js'

/** For files of the tests. */
export const folder: string = await mkdtemp(join(tmpdir(), 'fairlead-ioto-'))
after(() => rm(folder, { recursive: true, force: true }))

/** Runs `fn` on a fiber of its own. */
export function onFiber<T>(fn: () => Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    assert.equal(
      rSpawnFiber('test', () => fn().then(resolve, reject), null),
      0,
    )
  })
}

export type Made = (sp?: RSocket) => RSocket

/** A test that runs on a fiber; what it allocates with `made` is freed at its end. */
export function fiberTest(name: string, fn: (made: Made) => Promise<void>): void {
  test(name, () =>
    onFiber(async () => {
      const all: RSocket[] = []
      try {
        await fn((sp = rAllocSocket()) => {
          all.push(sp)
          return sp
        })
      } finally {
        for (const sp of all.reverse()) await rFreeSocket(sp)
      }
    }),
  )
}

export interface Way {
  readonly name: string
  server?(sp: RSocket): Promise<void>
  client?(sp: RSocket): Promise<void>
}

/** Paths of certificates that the ways over TLS use. */
export const files: Promise<{ ca: string; cert: string; key: string }> = (async () => {
  const { ca, cert, key } = await testCredentials()
  const paths = { ca: join(folder, 'ca.pem'), cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') }
  writeFileSync(paths.ca, ca)
  writeFileSync(paths.cert, cert)
  writeFileSync(paths.key, key)
  return paths
})()

/** The same programs over the same wires. */
export const WAYS: readonly Way[] = [
  { name: 'tcp' },
  {
    name: 'tls',
    async server(sp) {
      const { cert, key } = await files
      rSetSocketCerts(sp, key, cert, null, null)
      rSetSocketVerify(sp, 0, 0)
    },
    async client(sp) {
      rSetSocketCerts(sp, null, null, (await files).ca, null)
    },
  },
]

/** Listens on a free port and gives it. */
export async function serving(sp: RSocket, handler: (client: RSocket) => unknown, way: Way = { name: 'tcp' }): Promise<number> {
  await way.server?.(sp)
  assert.equal(await rListenSocket(sp, '127.0.0.1', 0, (_arg, client) => handler(client), null), 0, rGetSocketError(sp))
  return portOf(sp)
}

export function portOf(sp: RSocket): number {
  const at: { ip?: string; port?: number } = {}
  assert.equal(rGetSocketAddr(sp, at), 0)
  return at.port as number
}

export async function connected(sp: RSocket, port: number, way: Way = { name: 'tcp' }): Promise<RSocket> {
  await way.client?.(sp)
  assert.equal(await rConnectSocket(sp, 'localhost', port, rGetTicks() + 5_000), 0, rGetSocketError(sp))
  return sp
}

/** A client and the socket its server got, both to be freed by the test. */
export async function pair(made: Made, way: Way = { name: 'tcp' }): Promise<{ client: RSocket; server: RSocket }> {
  let got!: (sp: RSocket) => void
  const accepted = new Promise<RSocket>((resolve) => (got = resolve))
  const port = await serving(made(), got, way)
  const client = await connected(made(), port, way)
  return { client, server: made(await accepted) }
}

export const text = (bytes: Uint8Array, length: number): string => new TextDecoder().decode(bytes.subarray(0, length))

export async function echo(client: RSocket): Promise<void> {
  const buf = new Uint8Array(1024)
  for (let n = await rReadSocket(client, buf, buf.length, 0); n > 0; n = await rReadSocket(client, buf, buf.length, 0))
    await rWriteSocket(client, buf, n, 0)
  await rFreeSocket(client)
}
