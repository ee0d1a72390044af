/**
 * The driver for Linux by plain system calls and epoll, all in TypeScript: what `node:net` hides or loses, it shows.
 *
 * @module
 */

import { SystemFailure } from '../errors.js'
import { driverOn } from './kernel-driver.js'
import { foreign } from './kernel-foreign.js'
import type { KernelDriver } from './kernel-later.js'
import { Poll } from './kernel-poll.js'
import { systemOf } from './kernel-system.js'

/**
 * Talks to Linux itself, through foreign functions: `koffi`, or `node:ffi` where the Node has it.
 *
 * ```ts
 * import { Network } from 'fairlead'
 * import { kernel } from 'fairlead/kernel'
 *
 * await using network = new Network({ driver: kernel() })
 * await using listener = await network.listen('tcp://127.0.0.1:0')
 * await using client = await network.connect(listener.endpoint, { userTimeout: 10_000 })
 * console.log(client.driver, client.get('userTimeout')) // kernel 10000
 * ```
 *
 * @throws `SystemFailure` (`UNSUPPORTED`) with what is missing: Linux, x86-64 or arm64, a way to call foreign functions
 */
export function kernel(): KernelDriver {
  shared ??= driverOn(
    new Poll(systemOf(foreign((what) => new SystemFailure('UNSUPPORTED', `the kernel driver cannot be used here: ${what}`)))),
  )
  return shared
}

/** One for all networks of a thread: its sockets wake the event loop once, whoever they belong to. */
let shared: KernelDriver | undefined
