/** Connecting without waiting: the system is asked to start, and told to say when it has done so (connect(2)). */

import { constants } from 'node:os'
import { type Address, sameAddress } from '../address.js'
import { systemClock } from '../deadline.js'
import type { DialSettings, StreamHandle } from '../driver.js'
import { familyOf } from './kernel-address.js'
import { LINUX } from './kernel-layout.js'
import { connected, makeStream } from './kernel-made.js'
import type { Place, Poll, Polled } from './kernel-poll.js'
import { bindTo, connectTo, intOption, nameOf, newSocket, setIntOption } from './kernel-socket.js'
import { KernelStream } from './kernel-stream.js'
import { EAGAIN, ECONNRESET, EINPROGRESS, must, systemError } from './kernel-system.js'

const { SOL_SOCKET, SO_ERROR, SO_REUSEADDR, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT } = LINUX
const DONE = LINUX.EPOLLOUT | LINUX.EPOLLERR | LINUX.EPOLLHUP
const { ECONNREFUSED, ENOPROTOOPT, EPIPE } = constants.errno

/**
 * Milliseconds between attempts at a UNIX listener whose backlog is full, and for how long. TCP waits by itself then; here the
 * system says EAGAIN and will not tell when there is room. A burst of clients is over within that time; a listener
 * that takes nobody for longer is reported as the system does, also to those who only ask whether somebody is there.
 */
const RETRY = 10
const RETRIES = 200

type Done = (error: unknown, handle?: StreamHandle) => void

export function dial(poll: Poll, to: Address, settings: DialSettings, done: Done): () => void {
  const attempt = new Dial(poll, to, settings, done)
  attempt.start()
  return () => attempt.cancel()
}

class Dial implements Polled {
  readonly #poll: Poll
  readonly #to: Address
  readonly #settings: DialSettings
  readonly #done: Done
  #fd = -1
  #place: Place | undefined
  #over = false
  #retries = 0
  #stopRetry: (() => void) | undefined

  constructor(poll: Poll, to: Address, settings: DialSettings, done: Done) {
    this.#poll = poll
    this.#to = to
    this.#settings = settings
    this.#done = done
  }

  /** What it comes to is never told before this returns. */
  start(): void {
    try {
      this.#make()
      this.#connect()
    } catch (error) {
      queueMicrotask(() => this.#fail(error))
    }
  }

  cancel(): void {
    if (this.#over) return
    this.#over = true
    this.#close()
  }

  #make(): void {
    const { from } = this.#settings
    const to = this.#to
    this.#fd = must('socket', newSocket(this.#poll, familyOf(to), LINUX.SOCK_STREAM))
    makeStream(this.#poll, { descriptor: this.#fd }, 'connection', to.family === 'unix', this.#settings)
    if (from === undefined) return
    if (from.family !== 'unix') {
      // A port that is asked for may still be cooling down; one that is not is better chosen when the peer is known, as then
      // it needs to be free for that peer alone (ip(7)).
      const [level, name] = from.port === 0 ? [IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT] : [SOL_SOCKET, SO_REUSEADDR]
      const isRefused = name === SO_REUSEADDR && this.#settings.options?.get('reuseAddress') === false
      const result = isRefused ? 0 : setIntOption(this.#poll, this.#fd, level, name, 1)
      // What emulates Linux may not know how to wait with the choice, and then makes it at once.
      if (result !== -ENOPROTOOPT) must('setsockopt', result)
    }
    must('bind', bindTo(this.#poll, this.#fd, from))
  }

  #connect(): void {
    const result = connectTo(this.#poll, this.#fd, this.#to)
    if (result === 0) return queueMicrotask(() => this.#succeed(0, 0))
    if (result === -EINPROGRESS) {
      this.#place = this.#poll.add(this.#fd, this)
      return
    }
    if (result !== -EAGAIN || this.#to.family !== 'unix' || ++this.#retries > RETRIES) throw systemError('connect', result)
    this.#stopRetry = systemClock.at(systemClock.now() + RETRY, () => {
      try {
        this.#connect()
      } catch (error) {
        this.#fail(error)
      }
    })
  }

  polled(events: number): void {
    if ((events & DONE) === 0) return
    const error = intOption(this.#poll, this.#fd, SOL_SOCKET, SO_ERROR)
    if (error < 0) return this.#fail(systemError('getsockopt', error))
    const failure = -error
    // A peer that refuses is told otherwise: this one answered, and then was gone. What it said before is not lost to that.
    const isReset = failure === -ECONNRESET || failure === -EPIPE
    if (failure !== 0 && !isReset) return this.#fail(systemError('connect', failure))
    this.#succeed(failure, events)
  }

  #succeed(failure: number, events: number): void {
    if (this.#over) return
    let stream: KernelStream | undefined
    try {
      const to = this.#to
      const local = to.family === 'unix' ? undefined : nameOf(this.#poll, 'getsockname', this.#fd)
      // Two ends that meet in one socket: the system chose the very port that was dialled, where nobody listens (RFC 9293, 3.5).
      if (local !== undefined && sameAddress(local, to) && !this.#asksForPort) throw systemError('connect', -ECONNREFUSED)
      stream = new KernelStream(this.#poll, this.#fd, local, isAnywhere(to) ? undefined : to, this.#place)
      stream.inherit(failure, events)
      connected(this.#poll, stream, this.#settings)
    } catch (error) {
      if (stream !== undefined) {
        this.#over = true
        stream.destroy(true)
        return this.#done(error)
      }
      return this.#fail(error)
    }
    this.#over = true
    this.#done(undefined, stream)
  }

  get #asksForPort(): boolean {
    const { from } = this.#settings
    return from !== undefined && from.family !== 'unix' && from.port !== 0
  }

  #fail(error: unknown): void {
    if (this.#over) return
    this.#over = true
    this.#close()
    this.#done(error)
  }

  #close(): void {
    this.#stopRetry?.()
    if (this.#fd >= 0) this.#poll.system.close(this.#fd)
    this.#fd = -1
    if (this.#place === undefined) return
    this.#poll.remove(this.#place)
  }
}

/** Whether the system itself makes an address of it. */
function isAnywhere(to: Address): boolean {
  return to.family !== 'unix' && (to.address === '0.0.0.0' || to.address === '::')
}
