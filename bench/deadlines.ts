/**
 * Live deadlines that are renewed all the time, as a server does at each sign of life of a peer: `count` connections each
 * read under a {@link Deadline} of their own, which is set to 30 s from now ten times a second. The clock is read once for
 * those that are renewed in one turn of the loop, since reading it costs more than renewing a deadline. At last nobody
 * renews them any more, and they all end.
 *
 *     node build/bench/deadlines.js [count] [seconds]
 */

import { fileURLToPath } from 'node:url'
import { Deadline } from 'fairlead'
import { connectionPair } from 'fairlead/testing'

const LENGTH = 30_000
const RENEWALS_PER_SECOND = 10
/** Turns of the loop in which they are renewed, in equal parts; few, as it is not the turns that are measured. */
const TURNS_PER_SECOND = 20
const SETTLE = 2_000

export interface Measured {
  /** Per cent of one core that the process uses while it renews them. */
  readonly share: number
  /** Reads that ended before their deadline. */
  readonly early: number
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

function renew(deadlines: readonly Deadline[], from: number, count: number, at: number): void {
  for (let i = from; i < from + count; i++) deadlines[i]?.set(at)
}

export async function measure(count: number, seconds: number): Promise<Measured> {
  const deadlines: Deadline[] = []
  const reads: Promise<unknown>[] = []
  let early = 0
  for (let i = 0; i < count / 2; i++) {
    const { a, b } = connectionPair()
    for (const connection of [a, b]) {
      // Spread as they are after a while, so that in each second as many timers are due as later on.
      const deadline = new Deadline(Date.now() + LENGTH * (1 + Math.random()))
      const ended = () => {
        if (Date.now() < deadline.at) early++
      }
      deadlines.push(deadline)
      reads.push(connection.read({ deadline }).then(ended, ended))
    }
  }
  globalThis.gc?.()

  const part = (count * RENEWALS_PER_SECOND) / TURNS_PER_SECOND
  const begun = performance.now()
  let turns = 0
  let next = 0
  const timer = setInterval(() => {
    const at = Date.now() + LENGTH
    // What a late timer has missed is made up for.
    for (; turns < ((performance.now() - begun) / 1_000) * TURNS_PER_SECOND; turns++) {
      renew(deadlines, next, part, at)
      next = (next + part) % count
    }
  }, 1_000 / TURNS_PER_SECOND)
  await sleep(SETTLE)
  const [startTime, startUse] = [performance.now(), process.cpuUsage()]
  await sleep(seconds * 1_000)
  const { user, system } = process.cpuUsage(startUse)
  const share = (user + system) / 10 / (performance.now() - startTime)
  clearInterval(timer)

  const at = Date.now() + 1_000
  for (const deadline of deadlines) deadline.set(at)
  await Promise.all(reads)
  return { share, early }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [count = 100_000, seconds = 10] = process.argv.slice(2).map(Number)
  console.log(await measure(count, seconds))
}
