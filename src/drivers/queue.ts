/** What a driver holds of datagrams that nobody has received yet. */

import type { RawDatagram } from '../driver.js'

/**
 * Received datagrams in order, bounded in number and in bytes: a new one that does not fit pushes out the oldest, which
 * are counted. So a flood costs what was not read in time, and memory that is known beforehand.
 */
export class DatagramQueue {
  readonly #limits: { readonly count: number; readonly bytes: number }
  readonly #held: (change: number) => void
  #items: (RawDatagram | undefined)[] = []
  #head = 0
  #bytes = 0
  #dropped = 0

  /** @param held told of every change in the bytes of payload that are held */
  constructor(limits: { count: number; bytes: number }, held: (change: number) => void) {
    this.#limits = limits
    this.#held = held
  }

  /** Datagrams that wait. */
  get length(): number {
    return this.#items.length - this.#head
  }

  /** Datagrams thrown away since the start. */
  get dropped(): number {
    return this.#dropped
  }

  push(datagram: RawDatagram): void {
    const size = datagram.data.length
    const { count, bytes } = this.#limits
    if (count < 1 || size > bytes) {
      this.#dropped++
      return
    }
    while (this.length >= count || this.#bytes + size > bytes) {
      this.shift()
      this.#dropped++
    }
    this.#items.push(datagram)
    if (size > 0) {
      this.#bytes += size
      this.#held(size)
    }
  }

  /** The oldest, or undefined. */
  shift(): RawDatagram | undefined {
    const head = this.#head
    const datagram = this.#items[head]
    if (datagram === undefined) return undefined
    this.#items[head] = undefined
    this.#head = head + 1
    if (this.#head === this.#items.length) {
      this.#items.length = 0
      this.#head = 0
    } else if (this.#head > 64 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
    const size = datagram.data.length
    if (size > 0) {
      this.#bytes -= size
      this.#held(-size)
    }
    return datagram
  }

  /** Forgets all, uncounted: the socket closes. */
  clear(): void {
    this.#items = []
    this.#head = 0
    if (this.#bytes > 0) this.#held(-this.#bytes)
    this.#bytes = 0
  }
}
