/**
 * Modules of Node's that take long to load, a third of what importing the package takes, and that many programs never use: they
 * are loaded when they are first used.
 */

import type * as Crypto from 'node:crypto'
import type * as Dgram from 'node:dgram'
import { createRequire } from 'node:module'
import type * as Tls from 'node:tls'

const load = createRequire(import.meta.url)

let tls: typeof Tls | undefined
let crypto: typeof Crypto | undefined
let dgram: typeof Dgram | undefined

export function nodeTls(): typeof Tls {
  return (tls ??= load('node:tls') as typeof Tls)
}

export function nodeCrypto(): typeof Crypto {
  return (crypto ??= load('node:crypto') as typeof Crypto)
}

export function nodeDgram(): typeof Dgram {
  return (dgram ??= load('node:dgram') as typeof Dgram)
}
