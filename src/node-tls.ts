/** `node:tls`, loaded when it is first used: that takes a fifth of what importing the package takes, and many programs never use it. */

import { createRequire } from 'node:module'
import type * as Tls from 'node:tls'

let loaded: typeof Tls | undefined

export function nodeTls(): typeof Tls {
  return (loaded ??= createRequire(import.meta.url)('node:tls') as typeof Tls)
}
