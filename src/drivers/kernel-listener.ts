/** Listening and accepting, by system calls. */

import { constants } from 'node:os'
import type { Address } from '../address.js'
import type { ListenerHandle, ListenSettings, OptionHandle, StreamHandle } from '../driver.js'
import { familyOf } from './kernel-address.js'
import { LAYOUTS, LINUX } from './kernel-layout.js'
import { Inheritance, makeStream } from './kernel-made.js'
import { applyOptions } from './kernel-options.js'
import type { Place, Poll, Polled } from './kernel-poll.js'
import { acceptFrom, bindTo, localOf, nameRead, newSocket, resetAtClose } from './kernel-socket.js'
import { KernelStream } from './kernel-stream.js'
import { EAGAIN, must, systemError } from './kernel-system.js'

const { EPOLLIN, EPOLLERR, EPOLLHUP } = LINUX
const { EMFILE, ENFILE } = constants.errno
/** Connections that one event takes before others get their turn. */
const BATCH = 64

export function listen(poll: Poll, at: Address, settings: ListenSettings): ListenerHandle {
  const { system } = poll
  const fd = must('socket', newSocket(poll, familyOf(at), LINUX.SOCK_STREAM))
  try {
    if (at.family !== 'unix') {
      const { ipv6Only, reusePort } = settings
      const made = new Map(Object.entries({ reuseAddress: true, ipv6Only, reusePort }))
      applyOptions(poll, { descriptor: fd }, 'listener', made)
    }
    makeStream(poll, { descriptor: fd }, 'listener', at.family === 'unix', settings)
    must('bind', bindTo(poll, fd, at))
    must('listen', system.listen(fd, settings.backlog))
    return new KernelListener(poll, fd, localOf(poll, fd), settings)
  } catch (error) {
    system.close(fd)
    throw error
  }
}

export class KernelListener implements ListenerHandle, Polled {
  readonly local: Address
  readonly unserved: { count: number; estimated: boolean } = { count: 0, estimated: false }
  readonly #poll: Poll
  #fd: number
  readonly #place: Place
  #events: { acceptable(): void } | undefined
  /** There may be a connection; unknown until it was tried. */
  #acceptable = true
  #paused = false
  /** Connections taken by what {@link ListenerHandle.attach} gave, while that runs. */
  #taken: number | undefined
  readonly #inheritance: Inheritance
  /** Its connections have what it has. */
  lingers = false
  /** Others may have the same socket by a descriptor of their own: whoever waits in it is theirs, too. */
  #shared: boolean

  /** @param adopted others made it */
  constructor(poll: Poll, fd: number, local: Address, settings: ListenSettings, adopted: boolean = false) {
    this.#poll = poll
    this.#fd = fd
    this.local = local
    this.#shared = adopted
    this.lingers = adopted || settings.options?.has('linger') === true
    this.#inheritance = new Inheritance(poll, this, local.family === 'unix', settings, adopted)
    this.#place = poll.add(fd, this)
    poll.keepReserve()
  }

  get descriptor(): number {
    this.#shared = true
    return this.#fd
  }

  get options(): OptionHandle {
    return this.#inheritance.options
  }

  attach(events: { acceptable(): void }): void {
    this.#events = events
  }

  polled(events: number): void {
    if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) === 0) return
    this.#acceptable = true
    this.#tell()
  }

  /** Says that connections may be taken, so many at a time. */
  #tell(): void {
    if (this.#paused || !this.#acceptable || this.#fd < 0) return
    this.#taken = 0
    try {
      this.#events?.acceptable()
    } finally {
      this.#taken = undefined
    }
  }

  accept(): StreamHandle | undefined {
    if (!this.#acceptable || this.#fd < 0) return undefined
    if (this.#taken === BATCH) {
      this.#taken++
      setImmediate(() => this.#tell())
    }
    if (this.#taken !== undefined && this.#taken++ >= BATCH) return undefined
    this.#poll.keepReserve()
    const fd = acceptFrom(this.#poll, this.#fd)
    return fd < 0 ? this.#failed(fd) : this.#open(fd)
  }

  #open(fd: number): StreamHandle {
    try {
      const stream = new KernelStream(this.#poll, fd, this.#localOf(), nameRead(this.#poll))
      stream.lingers = this.lingers
      this.#inheritance.pass(stream)
      return stream
    } catch (error) {
      // The peer must not take this for an end.
      resetAtClose(this.#poll, fd)
      this.#poll.system.close(fd)
      this.unserved.count++
      throw error
    }
  }

  /** What a connection has as its own address; undefined where that has to be asked for, as the listener has several. */
  #localOf(): Address | undefined {
    const { local } = this
    return local.family !== 'unix' && (local.address === '::' || local.address === '0.0.0.0') ? undefined : local
  }

  #failed(result: number): undefined {
    // The system gives out a descriptor before it looks for a connection, so for want of one it does not say that nobody waits.
    const isFull = result === -EMFILE || result === -ENFILE
    if (result === -EAGAIN || (isFull && !this.#isWaitedFor())) {
      this.#acceptable = false
      return undefined
    }
    if (isFull) this.#poll.spendReserve()
    throw systemError('accept4', result)
  }

  #isWaitedFor(): boolean {
    const { system, memory } = this.#poll
    memory.option.setInt(this.#fd, LAYOUTS.pollfd.fd)
    memory.option.view.setUint16(LAYOUTS.pollfd.events, LINUX.POLLIN, true)
    return system.poll(memory.option.address, 1, 0) !== 0
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    if (this.#acceptable) queueMicrotask(() => this.#tell())
  }

  close(done: () => void): void {
    const fd = this.#fd
    if (fd >= 0) {
      if (!this.#shared) this.#countUnserved()
      this.#fd = -1
      this.#poll.remove(this.#place, true)
      this.#poll.system.close(fd)
    }
    done()
  }

  /** Those whom the system resets at the close. */
  #countUnserved(): void {
    const { system, memory } = this.#poll
    if (this.local.family !== 'unix') {
      // Of a listener these are those who wait (tcp(7), tcp_get_info in the kernel's source).
      const { tcpi_unacked: WAITING } = LAYOUTS.tcp_info
      memory.length.setInt(WAITING + 4)
      memory.option.setInt(0, WAITING)
      const result = system.getsockopt(this.#fd, LINUX.IPPROTO_TCP, LINUX.TCP_INFO, memory.option.address, memory.length.address)
      if (result === 0) this.unserved.count += memory.option.int(WAITING)
      return
    }
    // UNIX sockets do not say how many wait: they are taken and closed.
    for (;;) {
      const fd = acceptFrom(this.#poll, this.#fd)
      if (fd < 0) return
      system.close(fd)
      this.unserved.count++
    }
  }

  give(): number {
    const fd = this.#fd
    this.#fd = -1
    this.#poll.remove(this.#place, true)
    return fd
  }

  ref(): void {
    if (this.#fd >= 0) this.#poll.hold(this.#place, true)
  }

  unref(): void {
    if (this.#fd >= 0) this.#poll.hold(this.#place, false)
  }
}
