/**
 * One epoll descriptor for all sockets of a driver, itself watched by the runtime's event loop.
 *
 * Edge-triggered: a socket is added once, for everything, and remembers what it was told; nothing is asked of the system
 * when a reader comes or goes. A read that gave less than was asked for has emptied the socket (epoll(7), question 9), but
 * for an end behind it, which is told as EPOLLRDHUP; so an echo costs one `recv` and one `send`.
 *
 * What the runtime calls for a watched descriptor runs outside of its callback scope: promises would settle only when the
 * next scope closes. So that call only asks for an immediate, which runs right after the poll phase of the same turn.
 *
 * Tried and measured to give nothing, per request of 64 bytes on Node 20: to dispatch in that call and drain the microtasks with
 * the runtime's own means (8.2 µs either way at 4 connections, 5.8 and 5.9 at 64); to stop the watch and go on by immediates as
 * long as there is something to tell (8.2 and 8.7 at 4, the same at 64, but 38 and 33 at a single connection, where each
 * pause costs the stopping and the starting). What is left of a turn is two calls of the system, the runtime's epoll_wait and ours.
 */

import { constants } from 'node:os'
import { LAYOUTS, LINUX } from './kernel-layout.js'
import { EVENTS, Memory } from './kernel-memory.js'
import { must, type System, systemError } from './kernel-system.js'
import type { Watch } from './kernel-foreign.js'

/** What is told of events, as a mask of EPOLL constants. */
export interface Polled {
  polled(events: number): void
}

const { EEXIST } = constants.errno
const { size: SIZE, data: DATA } = LAYOUTS.epoll_event
const INTEREST = (LINUX.EPOLLIN | LINUX.EPOLLOUT | LINUX.EPOLLPRI | LINUX.EPOLLRDHUP | LINUX.EPOLLET) >>> 0

/** A place in the table of sockets. */
export type Place = number

export class Poll {
  readonly system: System
  readonly memory: Memory
  #epoll = -1
  /** libuv wants a descriptor that nothing else in the process gives it. */
  #watched = -1
  #watch: Watch | undefined
  #reserve = -1
  readonly #sockets: (Polled | undefined)[] = []
  readonly #descriptors: number[] = []
  /** How often each place was taken: it tells those apart that had it one after the other. */
  readonly #generations: number[] = []
  readonly #free: Place[] = []
  #count = 0
  /** Which of them keep the process alive, and how many do. */
  readonly #holds: boolean[] = []
  #held = 0
  #scheduled = false
  #resting = false
  /** The batch being told, and how far it is. */
  #told = 0
  #batch = 0
  readonly #turn = (): void => this.#dispatch()
  readonly #wake = (): void => this.#schedule()
  readonly #exit = (): void => this.#close()

  constructor(system: System) {
    this.system = system
    this.memory = new Memory(system)
  }

  /** Watches a descriptor from here on; what it is ready for already is told in the next turn. It keeps the process alive. */
  add(descriptor: number, polled: Polled, interest: number = INTEREST): Place {
    if (this.#epoll < 0) this.#open()
    const place = this.#free.pop() ?? this.#sockets.length
    const generation = ((this.#generations[place] ?? 0) + 1) >>> 0
    const { view, address } = this.memory.event
    view.setUint32(0, interest, true)
    view.setUint32(DATA, place, true)
    view.setUint32(DATA + 4, generation, true)
    let result = this.system.epoll_ctl(this.#epoll, LINUX.EPOLL_CTL_ADD, descriptor, address)
    // A socket that was closed here and lives on elsewhere has come back, under the number it had.
    if (result === -EEXIST && !this.#descriptors.includes(descriptor))
      result = this.system.epoll_ctl(this.#epoll, LINUX.EPOLL_CTL_MOD, descriptor, address)
    this.#sockets[place] = result < 0 ? undefined : polled
    this.#descriptors[place] = result < 0 ? -1 : descriptor
    this.#generations[place] = generation
    if (result < 0) {
      this.#free.push(place)
      this.#rest()
      throw systemError('epoll_ctl', result)
    }
    this.#count++
    this.hold(place, true)
    return place
  }

  /** Watches for other events; what it is ready for already is told in the next turn. False where the system would not. */
  change(place: Place, interest: number): boolean {
    const { view, address } = this.memory.event
    view.setUint32(0, interest, true)
    view.setUint32(DATA, place, true)
    view.setUint32(DATA + 4, this.#generations[place] as number, true)
    return this.system.epoll_ctl(this.#epoll, LINUX.EPOLL_CTL_MOD, this.#descriptors[place] as number, address) === 0
  }

  /** Tells another of what happens at a place from now on. */
  pass(place: Place, polled: Polled): void {
    this.#sockets[place] = polled
  }

  /**
   * Forgets a place. The system itself forgets a socket when its last descriptor is closed, here and in every process: one that
   * may have another is taken out first, or it would go on waking this process up.
   */
  remove(place: Place, shared: boolean = false): void {
    if (shared) this.system.epoll_ctl(this.#epoll, LINUX.EPOLL_CTL_DEL, this.#descriptors[place] as number, this.memory.event.address)
    this.#sockets[place] = undefined
    this.#descriptors[place] = -1
    this.hold(place, false)
    this.#free.push(place)
    this.#count--
    this.#rest()
  }

  /** Whether what has this place keeps the process alive. */
  hold(place: Place, does: boolean): void {
    if (this.#holds[place] === does) return
    this.#holds[place] = does
    if (does && this.#held++ === 0) this.#watch?.ref()
    if (!does && --this.#held === 0) this.#watch?.unref()
  }

  /**
   * Keeps a descriptor back for {@link spendReserve}: a process that has run out of them cannot open its log, load a module or
   * look up a name any more, to say or do something about it. Where there is none to keep, it goes without.
   */
  keepReserve(): void {
    if (this.#reserve >= 0 || this.#epoll < 0) return
    this.#reserve = this.system.fcntl(this.#epoll, LINUX.F_DUPFD_CLOEXEC, 0)
  }

  /** Descriptors have run out: lets that one go, for whoever is told. */
  spendReserve(): void {
    if (this.#reserve >= 0) this.system.close(this.#reserve)
    this.#reserve = -1
  }

  /** Gives everything back when there is no socket left: a turn later, as one may follow another. */
  #rest(): void {
    if (this.#count > 0 || this.#resting || this.#epoll < 0) return
    this.#resting = true
    setImmediate(() => {
      this.#resting = false
      if (this.#count === 0) this.#close()
    })
  }

  #open(): void {
    const { system } = this
    this.#epoll = must('epoll_create1', system.epoll_create1(LINUX.EPOLL_CLOEXEC))
    try {
      this.#watched = must('fcntl', system.fcntl(this.#epoll, LINUX.F_DUPFD_CLOEXEC, 0))
      this.#watch = system.watch(this.#watched, this.#wake)
      this.#watch.unref()
    } catch (error) {
      this.#close()
      throw error
    }
    // A worker that ends with a handle of libuv's open takes the process along.
    process.once('exit', this.#exit)
  }

  #close(): void {
    process.off('exit', this.#exit)
    this.#watch?.close()
    this.#watch = undefined
    this.spendReserve()
    if (this.#watched >= 0) this.system.close(this.#watched)
    if (this.#epoll >= 0) this.system.close(this.#epoll)
    this.#watched = this.#epoll = -1
    this.#told = this.#batch = 0
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(this.#turn)
  }

  /** Tells what happened, for at most {@link EVENTS} sockets in one turn, so that timers and others get theirs. */
  #dispatch(): void {
    this.#scheduled = false
    if (this.#epoll < 0) return
    const { view, address } = this.memory.events
    if (this.#told >= this.#batch) {
      this.#told = 0
      this.#batch = must('epoll_wait', this.system.epoll_wait(this.#epoll, address, EVENTS, 0))
    }
    try {
      while (this.#told < this.#batch) {
        const at = this.#told++ * SIZE
        const place = view.getUint32(at + DATA, true)
        // A socket told before may have closed this one, and another may have its place by now.
        if (this.#generations[place] !== view.getUint32(at + DATA + 4, true)) continue
        this.#sockets[place]?.polled(view.getUint32(at, true))
      }
    } finally {
      // What one of them throws is the process's to hear; the others are told in the next turn, as nobody will say it again.
      if (this.#told < this.#batch || this.#batch === EVENTS) this.#schedule()
    }
  }
}
