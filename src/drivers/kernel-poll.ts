/**
 * One epoll descriptor for all sockets of a driver, itself watched by the runtime's event loop.
 *
 * Edge-triggered: a socket is added once, for everything, and remembers what it was told; nothing is asked of the system
 * when a reader comes or goes. A read that gave less than was asked for has emptied the socket (epoll(7), question 9), but
 * for an end behind it, which is told as EPOLLRDHUP; so an echo costs one `recv` and one `send`.
 *
 * What the runtime calls for a watched descriptor runs outside of its callback scope: promises would settle only when the
 * next scope closes. So that call only asks for an immediate, which runs right after the poll phase of the same turn.
 */

import { LAYOUTS, LINUX } from './kernel-layout.js'
import { EVENTS, Memory } from './kernel-memory.js'
import { must, type System } from './kernel-system.js'
import type { Watch } from './kernel-foreign.js'

/** What is told of events, as a mask of EPOLL constants. */
export interface Polled {
  polled(events: number): void
}

const { size: SIZE, data: DATA } = LAYOUTS.epoll_event
const INTEREST = LINUX.EPOLLIN | LINUX.EPOLLOUT | LINUX.EPOLLRDHUP | LINUX.EPOLLET

/** A place in the table of sockets; its generation tells those apart that had it one after the other. */
export interface Place {
  readonly index: number
  readonly generation: number
}

export class Poll {
  readonly system: System
  readonly memory: Memory
  #epoll = -1
  /** libuv wants a descriptor that nothing else in the process gives it. */
  #watched = -1
  #watch: Watch | undefined
  #sockets: (Polled | undefined)[] = []
  #generations: number[] = []
  #free: number[] = []
  #count = 0
  /** Sockets that keep the process alive. */
  #held = 0
  #scheduled = false
  readonly #turn = (): void => this.#dispatch()
  readonly #wake = (): void => this.#schedule()
  readonly #exit = (): void => this.#close()

  constructor(system: System) {
    this.system = system
    this.memory = new Memory(system)
  }

  /** Watches a descriptor from here on; what it is ready for already is told in the next turn. */
  add(descriptor: number, polled: Polled): Place {
    if (this.#epoll < 0) this.#open()
    const index = this.#free.pop() ?? this.#sockets.length
    const generation = (this.#generations[index] ?? 0) + 1
    const { events } = this.memory
    events.view.setUint32(0, INTEREST >>> 0, true)
    events.view.setUint32(DATA, index, true)
    events.view.setUint32(DATA + 4, generation, true)
    try {
      must('epoll_ctl', this.system.epoll_ctl(this.#epoll, LINUX.EPOLL_CTL_ADD, descriptor, events.address))
    } catch (error) {
      this.#free.push(index)
      this.#generations[index] ??= 0
      this.#sockets[index] = undefined
      this.#rest()
      throw error
    }
    this.#sockets[index] = polled
    this.#generations[index] = generation
    this.#count++
    this.hold()
    return { index, generation }
  }

  /**
   * Forgets a place. The system forgets a descriptor when it is closed; one that lives on, here or in another process, must
   * be taken out first.
   */
  remove(place: Place, stillOpen?: number): void {
    if (stillOpen !== undefined) this.system.epoll_ctl(this.#epoll, LINUX.EPOLL_CTL_DEL, stillOpen, this.memory.events.address)
    this.#sockets[place.index] = undefined
    this.#free.push(place.index)
    this.#count--
  }

  /** A socket that keeps the process alive, or no longer does. */
  hold(): void {
    if (this.#held++ === 0) this.#watch?.ref()
  }

  release(): void {
    if (--this.#held === 0) this.#watch?.unref()
    this.#rest()
  }

  /** Gives everything back when there is no socket left. */
  #rest(): void {
    if (this.#count === 0) this.#close()
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
    if (this.#watched >= 0) this.system.close(this.#watched)
    if (this.#epoll >= 0) this.system.close(this.#epoll)
    this.#watched = this.#epoll = -1
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
    const count = this.system.epoll_wait(this.#epoll, address, EVENTS, 0)
    if (count === EVENTS) this.#schedule()
    for (let i = 0; i < count; i++) {
      const at = i * SIZE
      const index = view.getUint32(at + DATA, true)
      // A socket told before may have closed this one, and another may have its place by now.
      if (this.#generations[index] !== view.getUint32(at + DATA + 4, true)) continue
      this.#sockets[index]?.polled(view.getUint32(at, true))
    }
  }
}
