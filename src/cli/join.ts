/** Two streams joined: what one gives, the other gets, in both directions, each with an end of its own. */

import { DeadlineError } from '../index.js'

/** What can be joined. A `Connection` is one; so are the local ends of `local.ts`. */
export interface Stream {
  /** Some bytes, or `null` at the end. A signal ends the wait and costs no byte. */
  read(o?: { signal?: AbortSignal | undefined }): Promise<Uint8Array | null>
  /** Settles when more would be welcome. Rejects with {@link ReaderGone} where nobody reads any more. */
  write(data: Uint8Array): Promise<void>
  /** Ends the write direction behind everything written. */
  end(): Promise<void>
  /** Both directions in order; never rejects. */
  close(o?: { timeout?: number | undefined }): Promise<unknown>
  /** Both directions at once. Wakes whatever waits. */
  abort(reason?: unknown): void
  /** Resolves when everything written has been handed on. */
  flush?(o?: { timeout?: number | undefined }): Promise<void>
  readonly stats?: { readonly bytesRead: number; readonly bytesWritten: number }
  /** Whether the whole program ends when nobody reads this any more, as with the output of a pipeline. */
  readonly isOutput?: boolean
  /** Whether the other end's end is the end of all: a person at a terminal has nothing to add to a finished dialogue. */
  readonly endsWithPeer?: boolean
}

/** Whoever read what we write has gone, as `head` does. Not a failure of ours. */
export class ReaderGone extends Error {
  readonly code: string = 'EPIPE'

  constructor(name: string, cause?: unknown) {
    super(`nobody reads ${name} any more`, { cause })
    this.name = 'ReaderGone'
  }
}

export interface JoinOptions {
  /** Milliseconds without a byte in either direction. */
  idle?: number | undefined
  /** Ends the join with its reason. */
  signal?: AbortSignal | undefined
  /** The end of `a` ends all; what `b` has not given yet stays in it. */
  untilEnd?: boolean | undefined
  /** Called with each piece that was carried. */
  carried?: ((direction: 'forth' | 'back', bytes: Uint8Array) => void) | undefined
}

export interface JoinReport {
  /** Bytes from `a` to `b`, and from `b` to `a`. */
  readonly forth: number
  readonly back: number
  /** Both directions ended in order, or the reader of the output went away. */
  readonly outcome: 'ended' | 'reader-gone'
}

/** Milliseconds that what came before a failure has to reach the other end. */
const LAST_BYTES = 2_000
/** Milliseconds for an orderly end once nobody reads our output. */
const FAREWELL = 1_000

/**
 * Carries bytes both ways until both directions have ended, then closes both streams. An end is passed on at once as
 * an end, whatever the other direction is doing. A failure is passed on as a failure: the other stream is aborted, so
 * that its peer never takes a broken stream for a complete one.
 *
 * @throws what broke first
 */
export function join(a: Stream, b: Stream, o: JoinOptions = {}): Promise<JoinReport> {
  return new Join(a, b, o).run()
}

class Join {
  readonly #a: Stream
  readonly #b: Stream
  readonly #o: JoinOptions
  readonly #counts: { forth: number; back: number } = { forth: 0, back: 0 }
  /** Wakes the reads when the join is over, without touching what they have not taken. */
  readonly #over: AbortController = new AbortController()
  #quiet = false
  #farewell: NodeJS.Timeout | undefined
  #failure: { readonly error: unknown; readonly by?: Stream } | undefined
  #activeAt = Date.now()

  constructor(a: Stream, b: Stream, o: JoinOptions) {
    this.#a = a
    this.#b = b
    this.#o = o
  }

  async run(): Promise<JoinReport> {
    const { signal, idle } = this.#o
    const cancel = () => this.#fail(signal?.reason)
    if (signal?.aborted) cancel()
    signal?.addEventListener('abort', cancel, { once: true })
    const stopIdle = idle === undefined ? undefined : this.#watchIdle(idle)
    try {
      await Promise.all([this.#carry(this.#a, this.#b, 'forth'), this.#carry(this.#b, this.#a, 'back')])
    } finally {
      signal?.removeEventListener('abort', cancel)
      stopIdle?.()
      clearTimeout(this.#farewell)
    }
    return this.#finish()
  }

  async #finish(): Promise<JoinReport> {
    if (this.#failure !== undefined && !this.#quiet) {
      this.#a.abort(this.#failure.error)
      this.#b.abort(this.#failure.error)
      // What was aborted may still have a program to wait for.
      await Promise.all([this.#a.close(), this.#b.close()])
      throw this.#failure.error
    }
    const wait = this.#quiet ? { timeout: FAREWELL } : {}
    await Promise.all([this.#a.close(wait), this.#b.close(wait)])
    return { ...this.#counts, outcome: this.#quiet ? 'reader-gone' : 'ended' }
  }

  async #carry(from: Stream, to: Stream, direction: 'forth' | 'back'): Promise<void> {
    for (;;) {
      let bytes: Uint8Array | null
      try {
        bytes = await from.read({ signal: this.#over.signal })
      } catch (error) {
        return this.#readFailed(error, from, to)
      }
      this.#activeAt = Date.now()
      try {
        if (bytes === null) {
          await to.end()
          this.#ended(from, to)
          return
        }
        await to.write(bytes)
      } catch (error) {
        return this.#writeFailed(error, to)
      }
      this.#activeAt = Date.now()
      this.#counts[direction] += bytes.length
      this.#o.carried?.(direction, bytes)
    }
  }

  #ended(from: Stream, to: Stream): void {
    if (to.endsWithPeer || (this.#o.untilEnd && from === this.#a)) this.#over.abort()
  }

  /** Half a stream must not pass for a whole one: what came before is handed on, then the other end is aborted. */
  async #readFailed(error: unknown, from: Stream, to: Stream): Promise<void> {
    if (this.#over.signal.aborted) return
    // Why a peer stopped reading is in the last thing it said, such as an alert of TLS.
    if (this.#failure?.by === from) this.#failure = { error }
    await to.flush?.({ timeout: LAST_BYTES }).catch(() => undefined)
    this.#fail(error)
  }

  /**
   * One direction is over; the other goes on, since the bytes that came before the failure, and those of a peer that
   * merely stopped reading, are still to be had.
   */
  #writeFailed(error: unknown, to: Stream): void {
    if (this.#over.signal.aborted) return
    if (!(error instanceof ReaderGone)) {
      // What cannot be written to our own output does not get better by waiting for the input.
      if (to.isOutput) return this.#fail(error)
      this.#failure ??= { error, by: to }
      return
    }
    if (!to.isOutput) return
    this.#quiet = true
    this.#over.abort()
    // The other direction may be stopped by a full pipe.
    this.#farewell = setTimeout(() => {
      this.#a.abort(error)
      this.#b.abort(error)
    }, FAREWELL)
  }

  #fail(error: unknown): void {
    if (this.#over.signal.aborted) return
    this.#failure ??= { error }
    this.#over.abort()
    this.#a.abort(error)
    this.#b.abort(error)
  }

  #watchIdle(idle: number): () => void {
    let timer: NodeJS.Timeout | undefined
    const moved = () => [this.#a, this.#b].reduce((sum, { stats }) => sum + (stats?.bytesRead ?? 0) + (stats?.bytesWritten ?? 0), 0)
    let before = moved()
    const check = () => {
      // A long piece on its way to a slow peer is life, too.
      const now = moved()
      if (now !== before) this.#activeAt = Math.max(this.#activeAt, Date.now() - idle / 2)
      before = now
      const left = this.#activeAt + idle - Date.now()
      if (left > 0) timer = setTimeout(check, Math.ceil(left))
      else this.#fail(new DeadlineError('DEADLINE', `the deadline passed: no byte in either direction for ${idle} ms`, { op: 'join' }))
    }
    timer = setTimeout(check, idle)
    return () => clearTimeout(timer)
  }
}
