/**
 * Frames per second of processor time, both sides and everything between them counted: length-prefixed frames of 16 bytes
 * through a connection pair of the memory driver.
 *
 *     node build/bench/frames.js [count]
 */

import { fileURLToPath } from 'node:url'
import { Connection } from '#src/connection.js'
import { codecs } from '#src/codecs.js'
import { systemClock } from '#src/deadline.js'
import { memoryPair } from '#src/drivers/memory.js'
import type { MessageStream } from '#src/messages.js'
import { Budget, Owner } from '#src/owner.js'
import { LIMITS } from '#src/stream.js'
import { Trace } from '#src/trace.js'

const SIZE = 16
const CAPACITY = 256 * 1024

type Sends = Pick<MessageStream<never, Uint8Array>, 'send' | 'sendMany'>
type Receives = Pick<MessageStream<unknown, never>, 'receive' | 'messages'>

function pair() {
  const owner = new Owner('bench', { clock: systemClock, trace: new Trace(), limits: LIMITS, budget: new Budget(LIMITS.total) })
  const [a, b] = memoryPair({ capacity: CAPACITY })
  const framed = (handle: typeof a) => new Connection(handle, { owner, role: 'adopted', driver: 'memory' }).frames(codecs.lengthPrefixed())
  return [framed(a), framed(b)] as const
}

type Sending = (to: Sends, message: Uint8Array, count: number) => Promise<unknown>

const senders: Record<string, Sending> = {
  sendMany: (to, message, count) =>
    to.sendMany(
      (function* () {
        for (let i = 0; i < count; i++) yield message
      })(),
    ),
  'send, awaited one by one': async (to, message, count) => {
    for (let i = 0; i < count; i++) await to.send(message)
  },
  'send, 100 at a time': async (to, message, count) => {
    for (let i = 1; i <= count; i++) {
      const sent = to.send(message)
      if (i % 100 === 0) await sent
    }
  },
}

const receivers: Record<string, (from: Receives) => Promise<number>> = {
  'for await': async (from) => {
    let count = 0
    for await (const _ of from.messages()) count++
    return count
  },
  receive: async (from) => {
    let count = 0
    while ((await from.receive()) !== null) count++
    return count
  },
}

/** Frames per second of processor time. */
export async function measure(send: string, receive: string, count: number): Promise<number> {
  const [a, b] = pair()
  const message = new Uint8Array(SIZE).fill(7)
  const before = process.cpuUsage()
  const receiving = (receivers[receive] as (typeof receivers)[string])(b)
  await (senders[send] as Sending)(a, message, count)
  await a.end()
  const received = await receiving
  const { user, system } = process.cpuUsage(before)
  await Promise.all([a.close(), b.close()])
  if (received !== count) throw new Error(`${count} frames were sent and ${received} received`)
  return count / ((user + system) / 1e6)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const count = Number(process.argv[2] ?? 1_000_000)
  for (const receive of Object.keys(receivers)) {
    for (const send of Object.keys(senders)) {
      // The first run warms the compiler up; the figure is that of a program that has been running for a moment.
      await measure(send, receive, count / 10)
      const rate = await measure(send, receive, count)
      console.log(`${Math.round(rate).toLocaleString('en').padStart(12)} frames per CPU second  ${send}; ${receive}`)
    }
  }
}
