/** The kernel driver on the system calls of a {@link Poll}. */

import type { DialSettings, Driver, Guarantees, StreamHandle } from '../driver.js'
import type { Address } from '../address.js'
import type * as Dialling from './kernel-dial.js'
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

/**
 * Each kind of socket is loaded when the first one is opened: this module is part of every import of the package, for the sake
 * of a variable of the environment, and most programs never use it.
 */
export function driverOn(poll: Poll): Driver {
  return {
    name: 'kernel',
    guarantees,
    dial: (to, settings, done) => dial(poll, to, settings, done),
    listen: async (at, settings) => (await import('./kernel-listener.js')).listen(poll, at, settings),
    bind: async (at, settings) => (await import('./kernel-bind.js')).bindDatagram(poll, at, settings),
    adoptStream: async (descriptor) => (await import('./kernel-adopt.js')).adoptStream(poll, descriptor),
    adoptListener: async (descriptor, settings) => (await import('./kernel-adopt.js')).adoptListener(poll, descriptor, settings),
    adoptDatagram: async (descriptor, settings) => (await import('./kernel-adopt.js')).adoptDatagram(poll, descriptor, settings),
  }
}

let dialling: typeof Dialling | undefined

function dial(poll: Poll, to: Address, settings: DialSettings, done: (error: unknown, handle?: StreamHandle) => void): () => void {
  if (dialling !== undefined) return dialling.dial(poll, to, settings, done)
  let cancel: (() => void) | undefined
  let isCancelled = false
  void import('./kernel-dial.js').then((module) => {
    dialling = module
    if (!isCancelled) cancel = module.dial(poll, to, settings, done)
  }, done)
  return () => {
    isCancelled = true
    cancel?.()
  }
}
