/** Every error of every call that relays, files, descriptors and adoption make: what it ends in, and that nothing is left. */

import assert from 'node:assert/strict'
import { closeSync, fstatSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { constants, devNull, tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { type Connection, Network, relay, SocketError } from 'fairlead'
import { settle } from 'fairlead/testing'
import { LINUX } from '#src/drivers/kernel-layout.js'
import type { CallName, System } from '#src/drivers/kernel-system.js'
import { kernelMissing, type Watched, watchedKernel } from './support/kernel.js'
import { pattern } from './support/pairs.js'

const { errno } = constants
const ERRORS = ['ENOMEM', 'EINVAL', 'EBADF', 'ECONNRESET', 'EMFILE', 'EPIPE'] as const
const CALLS = [
  'pipe2',
  'splice',
  'sendfile',
  'posix_fadvise',
  'sendmsg',
  'recvmsg',
  'fcntl',
  'getsockopt',
  'getsockname',
  'shutdown',
] as const satisfies readonly CallName[]
const SIZE = 100_000
const bytes = Buffer.from(pattern(SIZE, 3))
const folder = mkdtempSync(join(tmpdir(), 'fairlead-'))
const path = join(folder, 'file')
writeFileSync(path, bytes)
after(() => rmSync(folder, { recursive: true }))

/** What does not come to its end is told as a deadline, which nothing here may end in. */
const wait = { timeout: 10_000 } as const
let names = 0

async function failure(step: Promise<unknown>): Promise<SocketError | undefined> {
  return step.then(
    () => undefined,
    (error: unknown) => {
      assert.ok(error instanceof SocketError, String(error))
      assert.notEqual(error.code, 'DEADLINE', error.message)
      return error
    },
  )
}

async function pair(network: Network, at: string): Promise<[Connection, Connection]> {
  const listener = await network.listen(at)
  try {
    return await Promise.all([network.connect(listener.endpoint, wait), listener.accept(wait)])
  } finally {
    await listener.close()
  }
}

async function relayed(network: Network): Promise<void> {
  const [[client, a], [b, server]] = await Promise.all([pair(network, 'tcp://127.0.0.1:0'), pair(network, 'tcp://127.0.0.1:0')])
  const relaying = failure(relay(a, b, wait))
  const asking = client.write(bytes, wait).then(() => client.end(wait))
  asking.catch((error) => client.abort(error))
  const got = await server.readAll(wait).catch(() => undefined)
  // Half a stream is never taken for a whole one.
  if (got !== undefined) assert.ok(bytes.equals(got), `${got.length} bytes came`)
  await server.write('answer', wait).catch(() => {})
  await server.end(wait).catch((error) => server.abort(error))
  const answer = await client.readAll(wait).catch(() => undefined)
  if (answer !== undefined) assert.equal(Buffer.from(answer).toString(), 'answer')
  if ((await relaying) === undefined) assert.ok(got !== undefined && answer !== undefined)
  for (const one of [client, server]) one.abort()
}

async function filed(network: Network): Promise<void> {
  const [a, b] = await pair(network, 'tcp://127.0.0.1:0')
  const reading = b.readExactly(SIZE, wait).catch(() => null)
  const error = await failure(a.sendFile(path, wait))
  if (error !== undefined) a.abort()
  const got = await reading
  if (error === undefined) assert.ok(got !== null && bytes.equals(got))
  // What the system said of the file is not the end of the connection.
  if ((await failure(b.end(wait))) !== undefined) b.abort()
  const end = await a.read(wait).catch((reason: SocketError) => reason.code)
  if (error === undefined) assert.ok(end === null || end === 'ECONNRESET', String(end))
  for (const one of [a, b]) one.abort()
}

async function passed(network: Network, { ledger }: Watched): Promise<void> {
  const [a, b] = await pair(network, `unix:@fairlead-${process.pid}-${++names}`)
  const socket = await network.listen('tcp://127.0.0.1:0')
  const own = openSync(devNull, 'r')
  const { descriptor } = socket
  const sending = failure(a.sendDescriptors([own, socket], Buffer.from('two'), wait))
  if ((await sending) === undefined) ledger.given(descriptor as number)
  else a.abort()
  const received = await b.receiveDescriptors(wait).catch(() => null)
  for (const fd of received?.descriptors ?? []) {
    ledger.given(fd)
    ledger.adopt(fd)
    const adopted = await network.listen({ fd }).catch((error: unknown) => {
      assert.ok(error instanceof SocketError, String(error))
    })
    if (adopted !== undefined) await adopted.close()
    else {
      fstatSync(fd)
      ledger.given(fd)
      closeSync(fd)
    }
  }
  fstatSync(own)
  closeSync(own)
  await socket.close()
  for (const one of [a, b]) one.abort()
}

/** All of it; what it could not even begin is no matter here. */
async function live(watched: Watched): Promise<void> {
  const network = new Network({ driver: watched.driver })
  try {
    for (const step of [relayed, filed, passed]) {
      await step(network, watched).catch((error: unknown) => {
        if (!(error instanceof SocketError) || error.code === 'DEADLINE') throw error
      })
    }
  } finally {
    await network.end({ abort: true })
    await settle(5)
  }
}

describe('every error of every call of relays, files, descriptors and adoption', { skip: kernelMissing ?? false }, () => {
  test('made by all of them', async () => {
    const clean = watchedKernel()
    await live(clean)
    clean.ledger.check()
    for (const name of CALLS) assert.ok(clean.ledger.calls.has(name), `${name} is not made, so its errors are not tried`)
  })

  for (const name of CALLS) {
    test(name, async () => {
      for (let nth = 1; nth <= 8; nth++) {
        for (const code of ERRORS) {
          // Behind these the peer is gone, which then is not so.
          if ((name === 'splice' || name === 'shutdown') && (code === 'ECONNRESET' || code === 'EPIPE')) continue
          let made = 0
          const change = (system: System): Partial<System> => {
            const real = system[name] as (...given: unknown[]) => number
            return { [name]: (...given: unknown[]) => (++made === nth ? -errno[code] : real(...given)) }
          }
          const watched = watchedKernel(change)
          try {
            await live(watched)
            watched.ledger.check()
          } catch (error) {
            throw new Error(`${code} at call ${nth} of ${name}: ${(error as Error).message}`, { cause: error })
          }
          if (made < nth) return
        }
      }
    })
  }
})

test('a socket that is refused cannot hold up who closes it (SO_LINGER)', { skip: kernelMissing ?? false }, async () => {
  const calls: string[] = []
  const { driver, ledger } = watchedKernel((system) => ({
    setsockopt: (fd, level, option, value, length) => {
      if (option === LINUX.SO_LINGER) calls.push(`linger ${fd}`)
      return system.setsockopt(fd, level, option, value, length)
    },
    close: (fd) => {
      calls.push(`close ${fd}`)
      return system.close(fd)
    },
  }))
  const network = new Network({ driver })
  const [a, b] = await pair(network, `unix:@fairlead-${process.pid}-${++names}`)
  calls.length = 0
  await a.sendDescriptors([0, 1], undefined, wait)
  assert.equal((await failure(b.receiveDescriptors({ max: 1, ...wait })))?.code, 'DESCRIPTORS')
  const refused = calls.filter((call) => call.startsWith('close')).map((call) => call.slice(6))
  assert.deepEqual(
    calls,
    refused.flatMap((fd) => [`linger ${fd}`, `close ${fd}`]),
  )
  assert.equal(refused.length, 2)
  await network.end({ abort: true })
  await settle(5)
  ledger.check()
})

describe('descriptors that nobody asked for', { skip: kernelMissing ?? false }, () => {
  // Dropped by the system, a socket whose sender has set SO_LINGER would keep the reader within its call for as long as that says.
  test('cannot make a read wait: their linger is taken off before they are closed', async () => {
    const harmless = new Set<number>()
    const closed: number[] = []
    const { driver, ledger } = watchedKernel((system) => ({
      setsockopt(fd, level, name, value, length) {
        if (level === LINUX.SOL_SOCKET && name === LINUX.SO_LINGER) harmless.add(fd)
        return system.setsockopt(fd, level, name, value, length)
      },
      close(fd) {
        if (harmless.delete(fd)) closed.push(fd)
        return system.close(fd)
      },
    }))
    const network = new Network({ driver })
    const [a, b] = await pair(network, `unix:@fairlead-${process.pid}-unasked`)
    const sent = openSync(devNull, 'r')
    const reads = [() => b.read(wait), () => b.readInto(new Uint8Array(16), wait), () => b.readInto(new Uint8Array(100_000), wait)]
    for (const read of reads) {
      await a.sendDescriptors([sent], Buffer.from('!'), wait)
      assert.ok(await read())
    }
    assert.equal(closed.length, reads.length)
    closeSync(sent)
    await network.end({ abort: true })
    await settle(3)
    ledger.check()
  })
})
