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

/** The ports of the dynamic range (RFC 6335), given out in turn. */
export class DynamicPorts {
  #last = 65_535

  /** The next one that is free; an error with `code` where none is. */
  next(isFree: (port: number) => boolean, code: string): number {
    for (let tries = 0; tries < 65_536 - FIRST_DYNAMIC; tries++) {
      this.#last = this.#last >= 65_535 ? FIRST_DYNAMIC : this.#last + 1
      if (isFree(this.#last)) return this.#last
    }
    throw failure(code, 'bind', 'no free port is left')
  }
}

const FIRST_DYNAMIC = 49_152

/** Several may have one name. */
export class Named<Name, Socket> {
  readonly #sockets: Map<Name, readonly Socket[]> = new Map()

  has(name: Name): boolean {
    return this.#sockets.has(name)
  }

  /** Those of a name, in the order they came. */
  get(name: Name): readonly Socket[] {
    return this.#sockets.get(name) ?? []
  }

  add(name: Name, socket: Socket): void {
    this.#sockets.set(name, [...this.get(name), socket])
  }

  remove(name: Name, socket: Socket): void {
    const left = this.get(name).filter((other) => other !== socket)
    if (left.length > 0) this.#sockets.set(name, left)
    else this.#sockets.delete(name)
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
