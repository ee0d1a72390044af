/** Connections over memory, faults included, without a network. */

import { Connection } from '../connection.js'
import { systemClock } from '../deadline.js'
import type { Clock, StreamHandle } from '../driver.js'
import { memoryPair, type PairOptions } from '../drivers/memory.js'
import { Budget, Owner } from '../owner.js'
import { type Defaults, type Limits, LIMITS } from '../stream.js'
import { Trace } from '../trace.js'
import { type FaultPlan, FaultyStream } from './faults.js'

export interface ConnectionPairOptions extends PairOptions {
  /** The clock of both ends. Default: real time. */
  clock?: Clock | undefined
  limits?: Partial<Limits> | undefined
  defaults?: Defaults | undefined
  /** Faults of the first and of the second end. */
  faults?: readonly [FaultPlan | undefined, FaultPlan | undefined] | undefined
  /** Who hears of both ends. */
  trace?: Trace | undefined
}

export interface TestPair extends AsyncDisposable {
  readonly a: Connection
  readonly b: Connection
  /** The handles under the two ends where a plan was given, to be cut, silenced or reset. */
  readonly faults: readonly [FaultyStream | undefined, FaultyStream | undefined]
  readonly owner: Owner
  readonly trace: Trace
}

/**
 * Two connections joined in memory.
 *
 * ```ts
 * import { connectionPair } from 'fairlead/testing'
 *
 * await using pair = connectionPair()
 * await pair.a.write('hello\n')
 * console.log(await pair.b.readLine()) // hello
 * ```
 */
export function connectionPair(o: ConnectionPairOptions = {}): TestPair {
  const [one, other] = memoryPair(o)
  return connectHandles(one, other, o)
}

/** Connections on two handles that are joined already, over any driver. */
export function connectHandles(one: StreamHandle, other: StreamHandle, o: Omit<ConnectionPairOptions, keyof PairOptions> = {}): TestPair {
  const limits = { ...LIMITS, ...o.limits }
  const trace = o.trace ?? new Trace()
  const owner = new Owner('testing', { clock: o.clock ?? systemClock, trace, limits, budget: new Budget(limits.total) })
  const faults = [o.faults?.[0] && new FaultyStream(one, o.faults[0]), o.faults?.[1] && new FaultyStream(other, o.faults[1])] as const
  const origin = { owner, driver: 'memory', defaults: o.defaults }
  const a = new Connection(faults[0] ?? one, { ...origin, role: 'dialled' })
  const b = new Connection(faults[1] ?? other, { ...origin, role: 'accepted' })
  return {
    a,
    b,
    faults,
    owner,
    trace,
    [Symbol.asyncDispose]: async () => {
      await owner.end({ abort: true })
    },
  }
}
