/** The options that sockets within the process remember, as nothing stands behind them. */

import type { Address } from '../address.js'
import type { DialSettings, ListenSettings } from '../driver.js'
import { keepAliveValues, Remembered } from './remembered.js'

const BUFFERS = { sendBuffer: 64 * 1024, receiveBuffer: 64 * 1024 }
const IP = { ...BUFFERS, ttl: 64, typeOfService: 0 }
const TCP_SETTABLE: ReadonlySet<string> = new Set([
  ...Object.keys(IP),
  ...['noDelay', 'keepAlive', 'keepAliveIdle', 'keepAliveInterval', 'keepAliveCount'],
])
const UNIX_SETTABLE: ReadonlySet<string> = new Set(Object.keys(BUFFERS))

/** The values of a stream socket that was made so. */
export function streamValues(local: Address, settings: Pick<DialSettings, 'noDelay' | 'keepAlive' | 'options'>): Map<string, unknown> {
  const given = [...(settings.options ?? [])].filter(([name]) => name !== 'keepAlive')
  const unix = local.family === 'unix'
  const tcp = unix ? [] : ([['noDelay', settings.noDelay], ...keepAliveValues(settings.keepAlive)] as const)
  return new Map<string, unknown>([
    ...Object.entries(unix ? BUFFERS : IP),
    ...tcp,
    ...given,
    ['type', 'stream'],
    ['protocol', unix ? 'unix' : 'tcp'],
  ])
}

export function streamOptions(values: ReadonlyMap<string, unknown>): Remembered {
  return new Remembered(values, values.get('protocol') === 'unix' ? UNIX_SETTABLE : TCP_SETTABLE)
}

export function listenerOptions(local: Address, settings: ListenSettings): Remembered {
  const { ipv6Only, reusePort } = settings
  const values = streamValues(local, settings)
  if (local.family !== 'unix')
    for (const [name, value] of Object.entries({ ipv6Only, reusePort, reuseAddress: false })) if (!values.has(name)) values.set(name, value)
  return streamOptions(values)
}
