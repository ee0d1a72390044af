/** What streams and datagrams inside the process share: errors, events in order, and the names of addresses. */

import type { Address } from '../address.js'

export function failure(code: string, syscall: string, text: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${syscall} ${code}: ${text}`), { code, syscall })
}

/** Microtasks in a row after which events wait for the loop to turn, so that two ends cannot starve timers and sockets. */
const LONGEST_RUN = 512
let due: (() => void)[] = []
let run = 0

/** Calls `fn` soon and never from inside the current call; many in one go. */
export function soon(fn: () => void): void {
  if (due.push(fn) > 1) return
  if (++run < LONGEST_RUN) queueMicrotask(flush)
  else setImmediate(flush)
}

function flush(): void {
  if (run >= LONGEST_RUN) run = 0
  const batch = due
  due = []
  for (let i = 0; i < batch.length; i++) {
    try {
      ;(batch[i] as () => void)()
    } catch (error) {
      // One owner's mistake must not cost the others their events.
      for (const rest of batch.slice(i + 1)) soon(rest)
      throw error
    }
  }
}

/** What names an address on its machine. */
export function keyOf(address: Address): string {
  if (address.family !== 'unix') return `${address.address}:${address.port}`
  return address.abstract ? `unix:@${address.path}` : `unix:${address.path}`
}

export function isWildcard(address: string): boolean {
  return address === '0.0.0.0' || address === '::'
}
