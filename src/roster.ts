/**
 * Who is here, by number, in the order in which they came: what a `Map` is, but for the garbage of one that many come to and
 * leave. A `Map` makes a new table every so often, and the old one keeps what it held and leads to the new one; once one of
 * them is old, which takes two collections, all that went through its successors lives until the next major one. Here the
 * tables hold numbers, and what they stand for lies in one array.
 */
export class Roster<T> {
  readonly #places: Map<number, number> = new Map()
  readonly #values: (T | undefined)[] = []
  readonly #free: number[] = []

  get size(): number {
    return this.#places.size
  }

  get(id: number): T | undefined {
    const place = this.#places.get(id)
    return place === undefined ? undefined : this.#values[place]
  }

  /** Takes the place of whoever has this number. */
  set(id: number, value: T): void {
    const place = this.#places.get(id) ?? this.#free.pop() ?? this.#values.length
    this.#places.set(id, place)
    this.#values[place] = value
  }

  /** Whether it was here. */
  delete(id: number): boolean {
    const place = this.#places.get(id)
    if (place === undefined) return false
    this.#places.delete(id)
    this.#values[place] = undefined
    this.#free.push(place)
    return true
  }

  *values(): IterableIterator<T> {
    for (const place of this.#places.values()) yield this.#values[place] as T
  }
}
