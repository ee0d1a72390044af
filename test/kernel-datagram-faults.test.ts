/** Every error of every call that datagram sockets of the kernel driver make: what it ends in, and that nothing is left. */

import assert from 'node:assert/strict'
import { constants } from 'node:os'
import { after, describe, test } from 'node:test'
import { type DatagramSocket, Network, SocketError } from 'fairlead'
import { type Driver, settle } from 'fairlead/testing'
import type { CallName, System } from '#src/drivers/kernel-system.js'
import { freshPath, removePaths } from './matrix.js'
import { kernelMissing, watchedKernel } from './support/kernel.js'

const { errno } = constants
const skip = kernelMissing ?? false

after(removePaths)

/** Lets call number `nth` of this name fail; what is to be closed is closed nevertheless, as the system does. */
function failing(name: CallName, nth: number, result: number): (system: System) => Partial<System> {
  let made = 0
  return (system) => {
    const real = system[name] as (...given: unknown[]) => number
    const call = (...given: unknown[]) => {
      if (++made !== nth) return real(...given)
      if (name === 'close') real(...given)
      return result
    }
    return { [name]: call } as Partial<System>
  }
}

interface Life {
  readonly open: (network: Network) => Promise<[DatagramSocket, DatagramSocket]>
  readonly connected: boolean
  readonly group?: boolean
  readonly calls: readonly CallName[]
}

const COMMON = ['socket', 'bind', 'recvmsg', 'sendmmsg', 'getsockname', 'epoll_ctl', 'close'] as const

const LIVES: Readonly<Record<string, Life>> = {
  udp: {
    open: async (network) => [
      await network.bind('udp://127.0.0.1:0', { receiveDetails: true, receiveErrors: true }),
      await network.bind('udp://127.0.0.1:0', { receiveDetails: true, multicastInterface: '127.0.0.1' }),
    ],
    connected: false,
    group: true,
    calls: [...COMMON, 'sendto', 'recvmmsg', 'sendmsg', 'setsockopt', 'ioctl'],
  },
  'udp, connected': {
    open: async (network) => {
      const a = await network.bind('udp://127.0.0.1:0')
      return [a, await network.connect(a.endpoint as 'udp://x:1')]
    },
    connected: true,
    calls: [...COMMON, 'send', 'connect', 'getpeername', 'recvmmsg', 'sendmsg'],
  },
  unixgram: {
    open: async (network) => {
      const a = await network.bind(`unixgram:${await freshPath()}`)
      return [a, await network.connect(a.endpoint as `unixgram:${string}`)]
    },
    connected: true,
    calls: [...COMMON, 'send', 'connect'],
  },
  unixpacket: {
    open: async (network) => {
      const at = `unixpacket:${await freshPath()}` as const
      return [await network.bind(at), await network.connect(at)]
    },
    connected: true,
    calls: [...COMMON, 'send', 'connect', 'listen', 'accept4', 'setsockopt'],
  },
}

/** The life of two sockets; the errors that came of it. */
async function live(driver: Driver, { open, connected, group }: Life): Promise<unknown[]> {
  const network = new Network({ driver })
  const troubles: unknown[] = []
  const check = <T>(step: Promise<T> | T): Promise<T | undefined> =>
    Promise.resolve(step).catch((error: unknown) => {
      troubles.push(error)
      return undefined
    })
  /** What is lost with an error of sending does not come. */
  const receive = (socket: DatagramSocket) =>
    check(socket.receiveMany(10, { timeout: 5 }).catch((error) => (error.code === 'DEADLINE' ? [] : Promise.reject(error))))
  try {
    const pair = await check(open(network))
    if (pair === undefined) return troubles
    const [a, b] = pair
    const to = connected ? undefined : a.local
    if (group) await check((async () => a.join('239.255.7.9', { interface: 'lo' }))())
    await check(b.send('one', to))
    await receive(a)
    const batch = [...['two', 'two', 'two', 'the longer'].map((data) => ({ data, to })), { data: '', to }]
    await check(b.sendMany(batch))
    await receive(a)
    await check(b.sendMany(batch.slice(0, 2)))
    await receive(a)
    await receive(a)
    await check(b.send(new Uint8Array(20_000), to))
    await check(a.receive({ timeout: 5 }).catch((error) => (error.code === 'DEADLINE' ? undefined : Promise.reject(error))))
    assert.equal(typeof a.stats.dropped, 'number')
    // Both go on after whatever it was.
    const reports = await Promise.all([a.close(), b.close()])
    troubles.push(...reports.map(({ reason }) => reason).filter((reason) => reason !== undefined))
    return troubles
  } finally {
    await network.end({ abort: true })
    await settle(3)
  }
}

/** What may be said to any call, what is handled, and what no man page has. */
const ERRORS = ['ENOMEM', 'ENOBUFS', 'EACCES', 'ECONNREFUSED', 'EMFILE', 'EINVAL', 'EIO', 'EMSGSIZE', 'EINTR', 'EHOSTUNREACH'] as const
/** Their failure changes nothing that anybody asked for: counts, names and room that are not known are left out. */
const HARMLESS: ReadonlySet<string> = new Set(['close', 'getpeername', 'ioctl'])
/** What sockets cannot be made without. */
const NEEDED: ReadonlySet<string> = new Set(['socket', 'bind', 'listen', 'connect', 'getsockname'])

describe('every error of every call, from binding to the close', { skip }, () => {
  for (const [title, life] of Object.entries(LIVES)) {
    test(title, async () => {
      const clean = watchedKernel()
      assert.deepEqual(await live(clean.driver, life), [])
      clean.ledger.check()
      const made = new Map(clean.ledger.calls)
      for (const needed of life.calls) assert.ok(made.has(needed), `${needed} is not made, so its errors are not tried`)
      for (const [name, times] of made) {
        // Nothing is told where the event loop cannot be asked, and the process is to hear of it.
        if (name === 'epoll_wait' || name === 'if_nametoindex') continue
        for (let nth = 1; nth <= Math.min(times, 3); nth++) {
          for (const code of ERRORS) {
            const { driver, ledger } = watchedKernel(failing(name as CallName, nth, -errno[code]))
            const what = `${code} at call ${nth} of ${name}`
            const troubles = await live(driver, life)
            for (const trouble of troubles) {
              assert.ok(trouble instanceof SocketError, `${what}: ${String(trouble)}`)
              const own = [code as string, ...(title === 'unixpacket' ? ['ECONNRESET', 'EPIPE'] : [])]
              assert.ok(own.includes(trouble.code), `${what}: ${trouble.code} ${trouble.message}`)
            }
            if (NEEDED.has(name)) assert.ok(troubles.length > 0, `${what} went unnoticed`)
            if (HARMLESS.has(name)) assert.deepEqual(troubles, [], what)
            // The peer of a packet socket that could not be made is told, too.
            if (title !== 'unixpacket') assert.ok(troubles.length <= 1, `${what}: ${troubles.length} errors of one`)
            try {
              ledger.check()
            } catch (error) {
              throw new Error(`${what}: ${(error as Error).message}`, { cause: error })
            }
          }
        }
      }
    })
  }
})
