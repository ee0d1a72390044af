/** How many sockets the process has descriptors for. */

import { readdirSync, readFileSync } from 'node:fs'

/** Descriptors left to the rest of the process. */
const RESERVE = 64

/**
 * Room for sockets, of which the caller holds `used`. Counting the open ones costs a directory listing, so it is done
 * each time half of what was left is used up: rarely while there are many, at every connection when they run short.
 */
export class Descriptors {
  readonly #limit: number = descriptorLimit()
  #ceiling = 0
  #measureAt = 0

  allow(used: number): boolean {
    if (this.#limit === Number.POSITIVE_INFINITY) return true
    if (used >= this.#measureAt) this.measure(used)
    return used < this.#ceiling
  }

  measure(used: number): void {
    const reserve = Math.min(RESERVE, Math.floor(this.#limit / 4))
    const room = Math.max(0, this.#limit - reserve - openDescriptors())
    this.#ceiling = Math.max(1, used + room)
    this.#measureAt = used + Math.max(1, Math.floor(room / 2))
  }
}

/** The soft limit of RLIMIT_NOFILE where the system shows it (Linux); else none that is known. */
function descriptorLimit(): number {
  try {
    const soft = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1]
    return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft)
  } catch {
    return Number.POSITIVE_INFINITY
  }
}

/** Where even listing them needs a descriptor that is not to be had, all are taken. */
function openDescriptors(): number {
  try {
    return readdirSync('/proc/self/fd').length - 1
  } catch {
    return Number.POSITIVE_INFINITY
  }
}
