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
 * The sockets are loaded when a driver is made: this module is part of every import of the package, for the sake of a variable
 * of the environment, and most programs never use it.
 */
export function driverOn(poll: Poll): Driver {
  // Not when the first one is opened: what cannot be loaded for want of descriptors, Node never loads again.
  const sockets = [import('./kernel-dial.js'), import('./kernel-listener.js'), import('./kernel-bind.js'), import('./kernel-adopt.js')]
  // Who opens one is told why not.
  for (const loading of sockets) loading.catch(() => {})
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
  import('./kernel-dial.js').then(
    (module) => {
      dialling = module
      if (!isCancelled) cancel = module.dial(poll, to, settings, done)
    },
    (error) => {
      if (!isCancelled) done(error)
    },
  )
  return () => {
    isCancelled = true
    cancel?.()
  }
}
