/**
 * The driver for Linux by plain system calls and epoll, all in TypeScript: what `node:net` hides or loses, it shows.
 *
 * @module
 */

import type { Driver, Guarantees } from '../driver.js'
import { dial } from './kernel-dial.js'
import { foreign } from './kernel-foreign.js'
import { listen } from './kernel-listener.js'
import { Poll } from './kernel-poll.js'
import { systemOf } from './kernel-system.js'

const guarantees: Guarantees = {
  resetIsNeverEnd: true,
  dataBeforeError: true,
  acceptStops: true,
  unservedExact: true,
  keepAliveExact: true,
  unix: true,
  abstractUnix: true,
  unixgram: true,
  unixpacket: true,
  truncationTold: true,
  descriptors: true,
  adoption: true,
}

export function kernel(): Driver {
  const poll = new Poll(systemOf(foreign()))
  return {
    name: 'kernel',
    guarantees,
    dial: (to, settings, done) => dial(poll, to, settings, done),
    listen: async (at, settings) => listen(poll, at, settings),
    bind: async () => {
      throw new Error('not yet')
    },
  }
}
