/**
 * The talk room: who is there, what they say, who hears it. It does no input or output: lines come in through a
 * {@link Guest}, texts go out through a {@link Door}.
 */

import { printable } from '../index.js'

/** How the room reaches a guest. */
export interface Door {
  /** One line without its line feed. */
  send(text: string): void
  /** Everything sent so far is delivered, then the guest is shown out. */
  close(): void
}

/** Most bytes of a line. */
export const LONGEST_LINE = 1_024
const LONGEST_NAME = 24
/** Lines a guest may send in one go, and how many of them grow back each second. */
const BURST = 20
const PER_SECOND = 4
/** Lines refused in a row after which a guest is shown out. */
const MOST_REFUSED = 100
/** Most guests at a time: whatever one says goes out as often as there are others. */
export const MOST_GUESTS = 1_000
/** Guests that may speak as soon as they come, and how many more each second: coming and going must not be a way around the limit on lines. */
export const MOST_COMING = 20
export const COMING_PER_SECOND = 4
/** Comings, goings and new names that are told in one go, and how many more each second: a crowd must not drown what is said. */
const MOST_NEWS = 40
const NEWS_PER_SECOND = 4
/** Characters of the names that `/who` lists. */
const MOST_LISTED = 1_000

const HELP = [
  '* Every line you send, everybody else gets. Lines that begin with / are commands:',
  '*   /name NAME   be called NAME (/nick is the same)',
  '*   /who         who is here',
  '*   /quit        leave',
  '*   //text       send a line that begins with /',
]

/** So many at once, and so many more each second. */
export class Bucket {
  readonly #most: number
  readonly #perSecond: number
  readonly #now: () => number
  #tokens: number
  #filledAt: number

  /** @param first how many there are to begin with */
  constructor(most: number, perSecond: number, now: () => number, first: number = most) {
    this.#most = most
    this.#perSecond = perSecond
    this.#now = now
    this.#tokens = first
    this.#filledAt = now()
  }

  /** Whether there is one more. */
  take(): boolean {
    const now = this.#now()
    this.#tokens = Math.min(this.#most, this.#tokens + ((now - this.#filledAt) / 1_000) * this.#perSecond)
    this.#filledAt = now
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}

export class Room {
  readonly #guests: Map<string, Guest> = new Map()
  readonly #now: () => number
  readonly #coming: Bucket
  readonly #news: Bucket
  /** What was said while something else was being told. */
  readonly #untold: { readonly but: Guest | undefined; readonly text: string }[] = []
  #telling = false
  #last = 0

  /** @param now milliseconds of a clock that never goes back */
  constructor(now: () => number) {
    this.#now = now
    this.#coming = new Bucket(MOST_COMING, COMING_PER_SECOND, now)
    this.#news = new Bucket(MOST_NEWS, NEWS_PER_SECOND, now)
  }

  get size(): number {
    return this.#guests.size
  }

  /** Somebody came in, by way of `transport`. */
  enter(transport: string, door: Door): Guest {
    const lines = new Bucket(BURST, PER_SECOND, this.#now, this.#coming.take() ? BURST : 0)
    const guest = new Guest(this, door, transport, this.#freeName(), lines)
    this.#guests.set(keyOf(guest.name), guest)
    door.send(`* Welcome, ${guest.name}. Every line you send, everybody else gets. /name NAME, /who, /help, /quit.`)
    this.announce(guest, `${guest.name} came in over ${transport}`)
    return guest
  }

  /** Sends a line to everybody but one. */
  tell(but: Guest | undefined, text: string): void {
    this.#untold.push({ but, text })
    // A door that finds its connection broken lets its guest out there and then, which is told in turn.
    if (this.#telling) return
    this.#telling = true
    try {
      for (let next = this.#untold.shift(); next !== undefined; next = this.#untold.shift())
        for (const guest of [...this.#guests.values()]) if (guest !== next.but && guest.here) guest.door.send(next.text)
    } finally {
      this.#telling = false
    }
  }

  /** @internal Tells what became of a guest, unless there was too much of that lately. */
  announce(guest: Guest, text: string): void {
    if (this.#news.take()) this.tell(guest, `* ${text}`)
  }

  #freeName(): string {
    for (;;) {
      const name = `guest-${++this.#last}`
      if (!this.#guests.has(name)) return name
    }
  }

  /** Gives a guest another name, or says why not. */
  rename(guest: Guest, name: string): string | undefined {
    if (!/^[\p{L}\p{N}][\p{L}\p{M}\p{N}._-]*$/u.test(name)) return 'a name has letters, digits, dots, hyphens and underscores'
    if ([...name].length > LONGEST_NAME) return `a name has at most ${LONGEST_NAME} letters`
    const holder = this.#guests.get(keyOf(name))
    if (holder !== undefined && holder !== guest) return 'somebody here has that name'
    this.#guests.delete(keyOf(guest.name))
    this.#guests.set(keyOf(name), guest)
    return undefined
  }

  /** Who is here, as far as it fits a line. */
  who(): string {
    let text = ''
    let left = this.#guests.size
    for (const { name, transport } of this.#guests.values()) {
      const one = `${text === '' ? '' : ', '}${name} (${transport})`
      if (text.length + one.length > MOST_LISTED) return `${text} and ${left} more`
      text += one
      left--
    }
    return text
  }

  /** @internal */
  remove(guest: Guest): boolean {
    return this.#guests.delete(keyOf(guest.name))
  }
}

/** Names that look the same are the same. */
function keyOf(name: string): string {
  return name.normalize('NFKC').toLowerCase()
}

export class Guest {
  readonly door: Door
  readonly transport: string
  readonly #room: Room
  readonly #lines: Bucket
  #name: string
  #refused = 0
  #here = true

  /** @internal made by `room.enter` */
  constructor(room: Room, door: Door, transport: string, name: string, lines: Bucket) {
    this.door = door
    this.transport = transport
    this.#room = room
    this.#name = name
    this.#lines = lines
  }

  get name(): string {
    return this.#name
  }

  get here(): boolean {
    return this.#here
  }

  /** A line of this guest, without its end. */
  line(text: string): void {
    if (!this.#here || !this.#admit()) return
    if (text.trim() === '') return
    if (text.startsWith('/') && !text.startsWith('//')) this.#command(text)
    else this.#room.tell(this, `${this.#name}: ${shown(text.startsWith('//') ? text.slice(1) : text)}`)
  }

  /** A line that was longer than {@link LONGEST_LINE}. */
  tooLong(): void {
    if (this.#here && this.#admit()) this.door.send(`* That line was too long and nobody got it; a line has at most ${LONGEST_LINE} bytes.`)
  }

  /** Whether the guest was shown out for sending too many lines. */
  get flooded(): boolean {
    return this.#refused >= MOST_REFUSED
  }

  /** Refusals are told once, so that a flood is not answered with another. */
  #admit(): boolean {
    if (this.#lines.take()) {
      this.#refused = 0
      return true
    }
    this.#refused++
    if (this.#refused === 1) this.door.send(`* Slower, please: that line was dropped; ${PER_SECOND} lines a second get through.`)
    if (this.flooded) this.dismiss('* Too many lines. Goodbye.')
    return false
  }

  #command(text: string): void {
    const [, word = '', rest = ''] = /^\/(\S*)\s*(.*)$/s.exec(text) ?? []
    switch (word.toLowerCase()) {
      case 'name':
      case 'nick':
        return this.#rename(rest.trim())
      case 'who':
        return this.door.send(`* Here: ${this.#room.who()}`)
      case 'help':
        for (const line of HELP) this.door.send(line)
        return
      case 'quit':
        return this.dismiss('* Goodbye.')
      default:
        this.door.send(`* There is no command /${shown(word.slice(0, LONGEST_NAME))}; /help lists them.`)
    }
  }

  #rename(name: string): void {
    const old = this.#name
    const objection = name === '' ? 'say which: /name NAME' : this.#room.rename(this, name)
    if (objection !== undefined) return this.door.send(`* You are still ${old}: ${objection}.`)
    this.#name = name
    this.door.send(`* You are ${name} now.`)
    this.#room.announce(this, `${old} is ${name} now`)
  }

  /** Shows the guest out with a last word. */
  dismiss(text: string): void {
    if (!this.#here) return
    this.door.send(text)
    this.left()
    this.door.close()
  }

  /** The guest is gone. */
  left(): void {
    if (!this.#here) return
    this.#here = false
    this.#room.remove(this)
    this.#room.announce(this, `${this.#name} left`)
  }
}

/** What one guest wrote, harmless on the terminal of another. */
function shown(text: string): string {
  return printable(text.replaceAll('\t', ' '))
}
