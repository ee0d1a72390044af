/** What was received and not read yet: a list of chunks, cut and searched without joining them. */

/** A view this much smaller than the memory behind it is copied, so that one byte never pins 64 KiB. */
const PINNED = 2

export class ReceiveBuffer {
  readonly #chunks: Uint8Array[] = []
  #length = 0

  get length(): number {
    return this.#length
  }

  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return
    this.#chunks.push(chunk)
    this.#length += chunk.length
  }

  /** Puts bytes in front of everything. */
  unshift(chunk: Uint8Array): void {
    if (chunk.length === 0) return
    this.#chunks.unshift(chunk)
    this.#length += chunk.length
  }

  /** The first bytes, at most `limit` and at most those of the first chunk; there must be some. */
  shift(limit: number): Uint8Array {
    const first = this.#chunks[0] as Uint8Array
    if (first.length <= limit) {
      this.#chunks.shift()
      this.#length -= first.length
      return trimmed(first)
    }
    this.#chunks[0] = first.subarray(limit)
    this.#length -= limit
    // A copy: whoever owns a result may give its memory away, and the rest must not go with it.
    return first.slice(0, limit)
  }

  /** Exactly the first `count` bytes; there must be as many. */
  take(count: number): Uint8Array {
    const first = this.#chunks[0]
    if (count === 0 || first === undefined) return new Uint8Array(0)
    if (first.length >= count) return this.shift(count)
    const joined = this.peek(count)
    this.drop(count)
    return joined
  }

  /** Moves bytes into `into`, as many as there are or fit; returns how many. */
  copyInto(into: Uint8Array): number {
    const count = this.#copy(into)
    this.drop(count)
    return count
  }

  drop(count: number): void {
    let left = Math.min(count, this.#length)
    this.#length -= left
    while (left > 0) {
      const first = this.#chunks[0] as Uint8Array
      if (first.length <= left) {
        this.#chunks.shift()
        left -= first.length
      } else {
        this.#chunks[0] = first.subarray(left)
        left = 0
      }
    }
  }

  /** A copy of the first `count` bytes, or of all if there are fewer; nothing is consumed. */
  peek(count: number): Uint8Array {
    const copy = new Uint8Array(Math.min(count, this.#length))
    this.#copy(copy)
    return copy
  }

  #copy(into: Uint8Array): number {
    let at = 0
    for (const chunk of this.#chunks) {
      const room = into.length - at
      if (room === 0) break
      const part = chunk.length > room ? chunk.subarray(0, room) : chunk
      into.set(part, at)
      at += part.length
    }
    return at
  }

  /**
   * Where `delimiter` first stands at or behind `from`, or -1. A search that is resumed at
   * `length - delimiter.length + 1` of the last time looks at every byte once.
   */
  indexOf(delimiter: Uint8Array, from: number): number {
    const lead = delimiter[0] as number
    let start = 0
    for (let i = 0; i < this.#chunks.length; i++) {
      const chunk = this.#chunks[i] as Uint8Array
      let at = Math.max(0, from - start)
      while (at < chunk.length) {
        at = chunk.indexOf(lead, at)
        if (at === -1) break
        if (this.#matches(delimiter, i, at)) return start + at
        at++
      }
      start += chunk.length
    }
    return -1
  }

  #matches(delimiter: Uint8Array, index: number, at: number): boolean {
    let i = index
    let position = at
    for (const byte of delimiter) {
      while (position >= (this.#chunks[i] as Uint8Array).length) {
        position = 0
        if (++i >= this.#chunks.length) return false
      }
      if ((this.#chunks[i] as Uint8Array)[position++] !== byte) return false
    }
    return true
  }
}

function trimmed(view: Uint8Array): Uint8Array {
  return view.length * PINNED < view.buffer.byteLength ? view.slice() : view
}
