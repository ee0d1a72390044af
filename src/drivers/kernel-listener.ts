/** Listening and accepting, by system calls. */

import type { Address } from '../address.js'
import type { ListenerHandle, ListenSettings, OptionHandle, StreamHandle } from '../driver.js'
import { familyOf, readAddress, writeAddress } from './kernel-address.js'
import { LAYOUTS, LINUX } from './kernel-layout.js'
import { applyOptions, Inheritance, makeStream } from './kernel-options.js'
import type { Place, Poll, Polled } from './kernel-poll.js'
import { KernelStream, nameOf } from './kernel-stream.js'
import { EAGAIN, must, systemError } from './kernel-system.js'

const { SOCK_STREAM, SOCK_NONBLOCK, SOCK_CLOEXEC, EPOLLIN } = LINUX

export function listen(poll: Poll, at: Address, settings: ListenSettings): ListenerHandle {
  const { system, memory } = poll
  const fd = must('socket', system.socket(familyOf(at), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0))
  try {
    if (at.family !== 'unix') {
      const { ipv6Only, reusePort } = settings
      const made = new Map([['reuseAddress', true], ['ipv6Only', ipv6Only], ...(reusePort ? [['reusePort', true] as const] : [])])
      applyOptions(poll, { descriptor: fd }, 'listener', made)
    }
    makeStream(poll, { descriptor: fd }, 'listener', at.family === 'unix', settings)
    must('bind', system.bind(fd, memory.name.address, writeAddress(memory.name, at)))
    must('listen', system.listen(fd, settings.backlog))
    return new KernelListener(poll, fd, nameOf(poll, 'getsockname', fd) ?? at, settings.options)
  } catch (error) {
    system.close(fd)
    throw error
  }
}

class KernelListener implements ListenerHandle, Polled {
  readonly local: Address
  readonly unserved: { count: number; estimated: boolean } = { count: 0, estimated: false }
  readonly #poll: Poll
  #fd: number
  readonly #place: Place
  #events: { acceptable(): void } | undefined
  #acceptable = true
  #paused = false
  #refed = true
  /** What all its connections have as their own address, unless it listens at several. */
  readonly #shared: Address | undefined

  readonly #inheritance: Inheritance
  /** Its connections have what it has. */
  lingers = false

  constructor(poll: Poll, fd: number, local: Address, made: ReadonlyMap<string, unknown> | undefined) {
    this.#poll = poll
    this.#fd = fd
    this.local = local
    this.lingers = made?.has('linger') === true
    this.#inheritance = new Inheritance(poll, this, local.family === 'unix', made)
    this.#shared = local.family !== 'unix' && (local.address === '::' || local.address === '0.0.0.0') ? undefined : local
    this.#place = poll.add(fd, this)
  }

  get descriptor(): number {
    return this.#fd
  }

  get options(): OptionHandle {
    return this.#inheritance.options
  }

  attach(events: { acceptable(): void }): void {
    this.#events = events
  }

  polled(events: number): void {
    if ((events & EPOLLIN) === 0) return
    this.#acceptable = true
    if (!this.#paused) this.#events?.acceptable()
  }

  accept(): StreamHandle | undefined {
    if (!this.#acceptable || this.#fd < 0) return undefined
    const { system, memory } = this.#poll
    memory.length.setInt(LAYOUTS.sockaddr_storage.size)
    const fd = system.accept4(this.#fd, memory.name.address, memory.length.address, SOCK_NONBLOCK | SOCK_CLOEXEC)
    if (fd >= 0) {
      const stream = new KernelStream(this.#poll, fd, this.#shared, readAddress(memory.name, memory.length.int()))
      stream.lingers = this.lingers
      this.#inheritance.pass(stream)
      return stream
    }
    if (fd !== -EAGAIN) throw systemError('accept4', fd)
    this.#acceptable = false
    return undefined
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    if (this.#acceptable) queueMicrotask(() => this.#events?.acceptable())
  }

  close(done: () => void): void {
    if (this.#fd >= 0) {
      this.#poll.system.close(this.#fd)
      this.#fd = -1
      this.#poll.remove(this.#place)
      this.unref()
    }
    done()
  }

  ref(): void {
    if (this.#refed || this.#fd < 0) return
    this.#refed = true
    this.#poll.hold()
  }

  unref(): void {
    if (!this.#refed) return
    this.#refed = false
    this.#poll.release()
  }
}
