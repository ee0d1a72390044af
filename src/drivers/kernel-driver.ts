/** The kernel driver on the system calls of a {@link Poll}. */

import type { Driver, Guarantees } from '../driver.js'
import { adoptDatagram, adoptListener, adoptStream } from './kernel-adopt.js'
import { bindDatagram } from './kernel-bind.js'
import { dial } from './kernel-dial.js'
import { listen } from './kernel-listener.js'
import type { Poll } from './kernel-poll.js'

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

export function driverOn(poll: Poll): Driver {
  return {
    name: 'kernel',
    guarantees,
    dial: (to, settings, done) => dial(poll, to, settings, done),
    listen: async (at, settings) => listen(poll, at, settings),
    bind: async (at, settings) => bindDatagram(poll, at, settings),
    adoptStream: async (descriptor) => adoptStream(poll, descriptor),
    adoptListener: async (descriptor, settings) => adoptListener(poll, descriptor, settings),
    adoptDatagram: async (descriptor, settings) => adoptDatagram(poll, descriptor, settings),
  }
}
