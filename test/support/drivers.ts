/** The drivers, for tests that loop over them and open networks of their own. */

import { Network, type NetworkOptions } from 'fairlead'
import { kernel } from 'fairlead/kernel'
import { memory } from 'fairlead/testing'
import { node } from '#src/drivers/node.js'
import { kernelMissing } from './kernel.js'

export type DriverName = 'memory' | 'node' | 'kernel'

export const DRIVERS: readonly DriverName[] = ['memory', 'node', 'kernel']

/** What `new Network()` takes; `scripts/test.mjs` runs the tests that say nothing else once on each. */
export const STANDARD: DriverName = process.env['FAIRLEAD_DRIVER'] === 'kernel' ? 'kernel' : 'node'

/** Why a driver cannot be tested here; what `skip` wants. */
export function missing(driver: DriverName): string | false {
  return (driver === 'kernel' && kernelMissing) || false
}

export function networkOn(driver: DriverName, o: NetworkOptions = {}): Network {
  return new Network({ driver: driver === 'memory' ? memory() : driver === 'kernel' ? kernel() : node(), ...o })
}
