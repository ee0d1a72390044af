/**
 * The kernel driver of a program that asks for it in the environment. Every import of the package knows this module, for the
 * sake of that variable; all else of the driver is loaded when a network is made with it.
 */

import type { Address } from '../address.js'
import type { DialSettings, Driver, Guarantees, StreamHandle } from '../driver.js'

/** It takes over sockets of every kind. */
export type KernelDriver = Driver & Required<Pick<Driver, 'adoptStream' | 'adoptListener' | 'adoptDatagram'>>

export const guarantees: Guarantees = {
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

/** As `kernel()`; where it cannot be used, that is told to whoever opens a socket. */
export function kernelLater(): Driver {
  if (loading === undefined) {
    // Not when the first socket is opened: what cannot be loaded for want of descriptors, Node never loads again.
    loading = import('./kernel.js').then((module) => (loaded = module.kernel()))
    loading.catch(() => {})
  }
  return LATER
}

let loading: Promise<KernelDriver> | undefined
let loaded: KernelDriver | undefined

const now = () => loading as Promise<KernelDriver>

const LATER: KernelDriver = {
  name: 'kernel',
  guarantees,
  dial: (to, settings, done) => (loaded === undefined ? dialLater(to, settings, done) : loaded.dial(to, settings, done)),
  listen: async (at, settings) => (await now()).listen(at, settings),
  bind: async (at, settings) => (await now()).bind(at, settings),
  adoptStream: async (descriptor) => (await now()).adoptStream(descriptor),
  adoptListener: async (descriptor, settings) => (await now()).adoptListener(descriptor, settings),
  adoptDatagram: async (descriptor, settings) => (await now()).adoptDatagram(descriptor, settings),
}

function dialLater(to: Address, settings: DialSettings, done: (error: unknown, handle?: StreamHandle) => void): () => void {
  let cancel: (() => void) | undefined
  let isCancelled = false
  now().then(
    (driver) => {
      if (!isCancelled) cancel = driver.dial(to, settings, done)
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
