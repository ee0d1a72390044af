/**
 * The talk room on a datagram socket. A guest is an address: its first line lets it in, `/quit` or a long silence lets it
 * out. Every datagram is a line, or several.
 *
 * A sender's address is easily forged, and the room has much to say: whoever could let another in would have it flooded
 * with what everybody says. So an address other than loopback, which no other machine can use, has to show that it hears
 * us: it is given a code, and let in when it sends that. Until then no answer is longer than what it answers.
 */

import { createHmac, randomBytes } from 'node:crypto'
import { type Address, classify, type Datagram, type DatagramSocket, formatAddress, type Network, SocketError } from '../index.js'
import { Bucket, COMING_PER_SECOND, type Door, type Guest, LONGEST_LINE, MOST_COMING, MOST_GUESTS, type Room } from './room.js'

/** Milliseconds of silence after which a guest has left. */
const IDLE = 300_000
/** Milliseconds of silence after which an address that was shown out for flooding is heard again. */
const SHUN = 10_000
/** Bytes a guest may have waiting before lines are left out. */
const MOST_WAITING = 64 * 1024
/** Milliseconds that a code is good for, at least. */
const CODE_LIFE = 60_000
const CODE_LENGTH = 5
const LETTERS = 'abcdefghijkmnpqrstuvwxyz23456789'

/** Sends each text as a datagram; what does not get away in time is lost, as datagrams are. */
class Mailbox implements Door {
  readonly #socket: DatagramSocket
  readonly #to: Address
  #waiting = 0

  constructor(socket: DatagramSocket, to: Address) {
    this.#socket = socket
    this.#to = to
  }

  send(text: string): void {
    const line = new TextEncoder().encode(`${text}\n`)
    if (this.#waiting + line.length > MOST_WAITING) return
    this.#waiting += line.length
    const sent = () => {
      this.#waiting -= line.length
    }
    // A guest that is gone falls silent, and that ends its visit.
    this.#socket.send(line, this.#to).then(sent, sent)
  }

  close(): void {}
}

interface Visit {
  readonly guest: Guest
  heardAt: number
}

export interface DatagramTalkOptions {
  /** Milliseconds of silence after which a guest has left. Default 5 min. */
  idle?: number | undefined
  /** Most guests at a time. Default 1,000. */
  limit?: number | undefined
  /** Whether nobody else can have sent from this address. Default: loopback alone. */
  isProven?: ((address: Address) => boolean) | undefined
}

export class DatagramTalk {
  readonly #socket: DatagramSocket
  readonly #room: Room
  readonly #clock: Network['clock']
  readonly #idle: number
  readonly #limit: number
  readonly #isProven: (address: Address) => boolean
  readonly #secret: Uint8Array = randomBytes(32)
  /** Who was heard longest ago comes first. */
  readonly #visits: Map<string, Visit> = new Map()
  readonly #coming: Bucket
  #cancel: (() => void) | undefined

  constructor(socket: DatagramSocket, room: Room, clock: Network['clock'], o: DatagramTalkOptions = {}) {
    this.#socket = socket
    this.#room = room
    this.#clock = clock
    this.#idle = o.idle ?? IDLE
    this.#limit = o.limit ?? MOST_GUESTS
    this.#isProven = o.isProven ?? isLoopback
    this.#coming = new Bucket(MOST_COMING, COMING_PER_SECOND, () => clock.now())
  }

  /** Serves until the signal aborts, then says goodbye to everybody and closes the socket. */
  async serve(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !this.#socket.signal.aborted) {
      try {
        this.#take(await this.#socket.receive({ signal }))
      } catch (error) {
        // What the system says about one guest is not about the others; a signal and a close end the loop.
        if (!(error instanceof SocketError)) throw error
      }
    }
    this.#cancel?.()
    for (const { guest } of this.#visits.values()) guest.dismiss('* The server is closing. Goodbye.')
    await this.#socket.close()
  }

  #take({ data, from }: Datagram): void {
    const name = formatAddress(from)
    const text = new TextDecoder().decode(data)
    const visit = this.#visits.get(name)
    if (visit?.guest.here) this.#hear(name, visit, text)
    else if (visit !== undefined && this.#clock.now() - visit.heardAt < SHUN) this.#renew(name, visit)
    else if (this.#isProven(from) || this.#codes(name).includes(text.trim())) this.#come(name, from, text)
    else this.#ask(from, name, data.length)
  }

  #hear(name: string, visit: Visit, text: string): void {
    this.#renew(name, visit)
    const { guest } = visit
    for (const line of text.replace(/\n$/, '').split('\n')) {
      if (!guest.here) break
      if (Buffer.byteLength(line) > LONGEST_LINE) guest.tooLong()
      else guest.line(line.replace(/\r$/, ''))
    }
    // Who was shown out for flooding is remembered, so as not to be let in again at once.
    if (!guest.here && !guest.flooded) this.#visits.delete(name)
  }

  #come(name: string, from: Address, text: string): void {
    if (this.#visits.size >= this.#limit || !this.#coming.take()) return
    const visit: Visit = { guest: this.#room.enter('UDP', new Mailbox(this.#socket, from)), heardAt: 0 }
    // What lets a guest in is not for the room.
    const line = text.trim()
    if (line === '' || /^\/join\b/.test(line) || this.#codes(name).includes(line)) this.#renew(name, visit)
    else this.#hear(name, visit, text)
  }

  /** Gives out a code, in no more bytes than there were in the question. */
  #ask(from: Address, name: string, length: number): void {
    const text = `${this.#codes(name)[0]}\n* Send that code to join the talk: every line that one sends, everybody else gets.\n`
    void this.#socket.send(length < CODE_LENGTH + 1 ? '?'.repeat(Math.min(length, 1)) : text.slice(0, length), from)
  }

  /** The codes of an address that are good now, the newest first. Nothing is kept for whoever asks for one. */
  #codes(name: string): string[] {
    const period = Math.floor(this.#clock.now() / CODE_LIFE)
    return [period, period - 1].map((n) => {
      const digest = createHmac('sha256', this.#secret).update(`${n} ${name}`).digest()
      return Array.from(digest.subarray(0, CODE_LENGTH), (byte) => LETTERS[byte % LETTERS.length]).join('')
    })
  }

  #renew(name: string, visit: Visit): void {
    visit.heardAt = this.#clock.now()
    this.#visits.delete(name)
    this.#visits.set(name, visit)
    this.#cancel ??= this.#clock.at(visit.heardAt + this.#idle, () => this.#sweep())
  }

  /** Lets out who has fallen silent, and looks again when the next one may have. */
  #sweep(): void {
    this.#cancel = undefined
    for (const [name, { guest, heardAt }] of this.#visits) {
      const until = heardAt + this.#idle
      if (until > this.#clock.now()) {
        this.#cancel = this.#clock.at(until, () => this.#sweep())
        return
      }
      guest.dismiss('* You have said nothing for a long time. Goodbye; your next line lets you in again.')
      this.#visits.delete(name)
    }
  }
}

/** Datagrams that claim to come from it do: the system takes them from nowhere else. */
function isLoopback(address: Address): boolean {
  if (address.family === 'unix') return true
  const { range, embedded } = classify(address)
  return range === 'loopback' || (range === 'v4-mapped' && embedded?.range === 'loopback')
}
