/** The kernel driver on the system calls of a {@link Poll}. */

import { adoptDatagram, adoptListener, adoptStream } from './kernel-adopt.js'
import { bindDatagram } from './kernel-bind.js'
import { dial } from './kernel-dial.js'
import { guarantees, type KernelDriver } from './kernel-later.js'
import { listen } from './kernel-listener.js'
import type { Poll } from './kernel-poll.js'

export function driverOn(poll: Poll): KernelDriver {
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
