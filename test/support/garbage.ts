/** Garbage, collected when a test says so. */

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** Why nothing can be, on this runtime. */
export const nothingCollects: false | string =
  (process.versions['bun'] !== undefined || 'Deno' in globalThis) && 'nothing collects on demand'

if (!nothingCollects) setFlagsFromString('--expose-gc')

/** Collects all garbage, or the young alone. */
export const collect: (o?: { type: 'minor' }) => void = nothingCollects ? () => {} : runInNewContext('gc')

// See `unnoticed.ts`.
Object.assign(globalThis, { [Symbol.for('fairlead.test.noticed')]: true })
