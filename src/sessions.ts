/**
 * TLS sessions of a client. OpenSSL resumes a session without looking at the certificate, the name or the pins again, so
 * a session is only ever offered under the very settings it was made under, and what it was made with is kept and judged
 * again each time.
 */

import { nodeCrypto } from './builtin.js'

/** One session with the certificates it was verified with. */
export interface SessionEntry {
  readonly session: Buffer
  /** TLS 1.3 tickets are used once (RFC 8446 appendix C.4). */
  readonly once: boolean
  /** DER, the leaf first. */
  readonly chain: readonly Uint8Array[]
  /** Why OpenSSL did not accept the chain; only where the settings do not verify. */
  readonly failure: string | undefined
}

/**
 * Sessions by the settings they were made under; the least recently used go first. One is shared by all clients of a
 * process unless they bring their own.
 */
export class SessionCache {
  readonly #limit: number
  readonly #entries: Map<string, SessionEntry[]> = new Map()

  /** @param limit most settings that sessions are held for, default 1,000 */
  constructor(limit = 1_000) {
    this.#limit = limit
  }

  get size(): number {
    return this.#entries.size
  }

  clear(): void {
    this.#entries.clear()
  }

  /** The newest session for these settings. @internal */
  take(key: string): SessionEntry | undefined {
    const entries = this.#entries.get(key)
    const entry = entries?.at(-1)
    if (entries === undefined || entry === undefined) return undefined
    this.#entries.delete(key)
    if (entry.once) entries.pop()
    if (entries.length > 0) this.#entries.set(key, entries)
    return entry
  }

  /** @internal */
  put(key: string, entry: SessionEntry): void {
    const entries = this.#entries.get(key) ?? []
    this.#entries.delete(key)
    this.#entries.set(key, entry.once ? [...entries, entry].slice(-TICKETS) : [entry])
    const [oldest] = this.#entries.keys()
    if (this.#entries.size > this.#limit) this.#entries.delete(oldest as string)
  }
}

/** A TLS 1.3 server sends two tickets in each full handshake, and not all send a new one when a session is resumed. */
const TICKETS = 4

export const sharedSessions: SessionCache = new SessionCache()

/** A key that differs when any of the settings does. */
export function policyKey(settings: object): string {
  return nodeCrypto().createHash('sha256').update(JSON.stringify(settings)).digest('base64')
}
