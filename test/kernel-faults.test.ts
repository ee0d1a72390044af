/** Every error of every call that streams and listeners of the kernel driver make: what it ends in, and that nothing is left. */

import assert from 'node:assert/strict'
import { constants } from 'node:os'
import { describe, test } from 'node:test'
import { type Connection, Network, SocketError } from 'fairlead'
import { type Driver, settle } from 'fairlead/testing'
import type { CallName, System } from '#src/drivers/kernel-system.js'
import { freshPath, removePaths } from './matrix.js'
import { kernelMissing, watchedKernel } from './support/kernel.js'

const { errno } = constants
const skip = kernelMissing ?? false

/** Lets call number `nth` of this name fail; a descriptor that is to be closed is closed nevertheless, as the system does. */
function failing(name: CallName, nth: number, result: number): { change: (system: System) => Partial<System>; made: () => number } {
  let made = 0
  const change = (system: System) => {
    const real = system[name] as (...given: unknown[]) => number
    const call = (...given: unknown[]) => {
      if (++made !== nth) return real(...given)
      if (name === 'close') real(...given)
      return result
    }
    return { [name]: call } as Partial<System>
  }
  return { change, made: () => made }
}

/** The life of two connections: what came of it. */
async function live(driver: Driver, at: string, from: string | undefined): Promise<unknown> {
  const network = new Network({ driver })
  let trouble: unknown
  const check = async <T>(step: Promise<T>): Promise<T | undefined> =>
    step.catch((error: unknown) => {
      trouble ??= error
      return undefined
    })
  try {
    const listener = await check(network.listen(at))
    if (listener === undefined) return trouble
    for (const end of ['close', 'abort'] as const) {
      const stop = new AbortController()
      const accepting = listener.accept({ signal: stop.signal, timeout: 400 }).catch((error: SocketError) => {
        if (error.code !== 'CANCELLED') trouble ??= error
        return undefined
      })
      const a = await check(network.connect(listener.endpoint, { ...(from !== undefined && { from }) }))
      if (a === undefined) stop.abort()
      const b = await accepting
      if (a === undefined || b === undefined) return trouble
      await check(talk(a, b))
      if (end === 'close') {
        const reports = await Promise.all([a.close(), b.close()])
        trouble ??= reports.find((report) => report.reason !== undefined)?.reason
      } else a.abort()
      await check(
        b.readAll().catch((error: { code: string }) => (/^(ECONNRESET|CLOSED)$/.test(error.code) ? undefined : Promise.reject(error))),
      )
    }
    return trouble
  } finally {
    await network.end({ abort: true })
    await settle(3)
  }
}

async function talk(a: Connection, b: Connection): Promise<void> {
  await a.write('hello')
  assert.equal(Buffer.from((await b.readExactly(5)) ?? []).toString(), 'hello')
  const large = new Uint8Array(20_000).fill(7)
  await Promise.all([b.write([large, Uint8Array.of(1)]), a.readExactly(20_001)])
  await Promise.all([b.write(large), a.readInto(new Uint8Array(30_000))])
}

/** Whatever a call may say in its man page, and what no man page has. */
const ERRORS = ['ENOMEM', 'EACCES', 'ECONNRESET', 'EMFILE'] as const
/** Their failure changes nothing for anybody: names and sizes that are not known are left out, and a reserve is not kept. */
const HARMLESS: ReadonlySet<string> = new Set(['close', 'getpeername', 'ioctl', 'poll'])

describe('every error of every call, from listening to the close', { skip }, () => {
  for (const transport of ['tcp', 'unix'] as const) {
    test(transport, async () => {
      const where = async () => (transport === 'tcp' ? 'tcp://127.0.0.1:0' : `unix:${await freshPath()}`)
      const from = transport === 'tcp' ? '127.0.0.9' : undefined
      const clean = watchedKernel()
      assert.equal(await live(clean.driver, await where(), from), undefined)
      clean.ledger.check()
      const made = new Map(clean.ledger.calls)
      for (const needed of [
        'socket',
        'bind',
        'listen',
        'accept4',
        'connect',
        transport === 'tcp' ? 'recv' : 'recvmsg',
        'send',
        'sendmsg',
        'shutdown',
        'close',
        'epoll_ctl',
      ]) {
        assert.ok(made.has(needed), `${needed} is not made, so its errors are not tried`)
      }
      for (const [name, times] of made) {
        for (let nth = 1; nth <= Math.min(times, 6); nth++) {
          for (const code of ERRORS) {
            const { change } = failing(name as CallName, nth, -errno[code])
            const { driver, ledger } = watchedKernel(change)
            const what = `${code} at call ${nth} of ${name}`
            // Nothing is told where the event loop cannot be asked, and the process is to hear of it.
            if (name === 'epoll_wait') continue
            const trouble = await live(driver, await where(), from)
            if (trouble !== undefined) {
              assert.ok(trouble instanceof SocketError, `${what}: ${String(trouble)}`)
              assert.ok([code, 'ECONNRESET', 'EPIPE', 'DEADLINE'].includes(trouble.code), `${what}: ${trouble.code}`)
            } else if (['socket', 'bind', 'listen', 'connect', 'shutdown'].includes(name)) assert.fail(`${what} went unnoticed`)
            if (HARMLESS.has(name)) assert.equal(trouble, undefined, what)
            try {
              ledger.check()
            } catch (error) {
              throw new Error(`${what}: ${(error as Error).message}`, { cause: error })
            }
          }
        }
      }
      await removePaths()
    })
  }
})
