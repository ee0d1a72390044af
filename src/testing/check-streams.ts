/** Which properties a stream is checked for, and the check itself. */

import { type CheckOptions, clog, type ConnectionPair, Pace, type Property, register, type StreamCase, type StreamMaker } from './check.js'
import { DEADLINES } from './check-deadlines.js'
import { CLOGGED, ONE_WAY } from './check-oneway.js'
import { TWO_WAY } from './check-twoway.js'

/** Every property of streams, in the order in which they are run. */
export const STREAM_PROPERTIES: readonly Property<StreamCase>[] = [...ONE_WAY, ...CLOGGED, ...TWO_WAY, ...DEADLINES]

function swapped(pair: ConnectionPair): ConnectionPair {
  return { ...pair, a: pair.b, b: pair.a, dispose: () => pair.dispose?.() ?? Promise.resolve() }
}

async function open(maker: StreamMaker, clogged: boolean, backwards: boolean): Promise<ConnectionPair> {
  const ready = backwards ? maker.cloggedBack : maker.clogged
  if (clogged && ready) return ready.call(maker)
  const made = await maker.pair()
  const pair = backwards ? swapped(made) : made
  if (clogged) await clog(pair.a, pair.clock ? 0 : undefined)
  return pair
}

async function release(pair: ConnectionPair): Promise<void> {
  pair.a.abort()
  pair.b.abort()
  await Promise.all([pair.a.closed, pair.b.closed])
  await pair.dispose?.()
}

/**
 * Checks that streams keep their contract: registers one test for each property, each with a fresh pair, and each that
 * has a direction once more with ends swapped (T31).
 *
 * ```ts
 * import { test } from 'node:test'
 * import { checkStreams, connectionPair } from 'fairlead/testing'
 *
 * checkStreams({ name: 'memory', pair: async () => connectionPair({ capacity: 4096 }) }, { test, only: ['T1', 'T17'] })
 * ```
 *
 * @returns the ids of the properties that were registered
 */
export function checkStreams(maker: StreamMaker, o: CheckOptions): string[] {
  const unbounded = maker.unbounded === true
  const properties = STREAM_PROPERTIES.filter((property) => !(unbounded && property.clogged))
  const start = (backwards: boolean) => async (property: Property<StreamCase>) => {
    const pair = await open(maker, property.clogged === true, backwards)
    return { subject: { a: pair.a, b: pair.b, time: new Pace(pair.clock) }, close: () => release(pair) }
  }
  const ids = register(maker.name, properties, o, start(false))
  if (o.skip?.['T31'] === undefined && (o.only === undefined || o.only.includes('T31'))) {
    const directed = properties.filter(({ directed }) => directed === true)
    if (register(maker.name, directed, o, start(true), 'T31 ends swapped: ').length > 0) ids.push('T31')
  }
  return ids
}
