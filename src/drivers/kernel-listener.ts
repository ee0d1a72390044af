/** Listening and accepting, by system calls. */

import type { Address } from '../address.js'
import type { ListenerHandle, ListenSettings, StreamHandle } from '../driver.js'
import { familyOf, readAddress, writeAddress } from './kernel-address.js'
import { tune } from './kernel-dial.js'
import { LAYOUTS, LINUX } from './kernel-layout.js'
import type { Place, Poll, Polled } from './kernel-poll.js'
import { KernelStream, nameOf } from './kernel-stream.js'
import { EAGAIN, must, systemError } from './kernel-system.js'

const { SOCK_STREAM, SOCK_NONBLOCK, SOCK_CLOEXEC, EPOLLIN } = LINUX

export function listen(poll: Poll, at: Address, settings: ListenSettings): ListenerHandle {
  const { system, memory } = poll
  const fd = must('socket', system.socket(familyOf(at), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0))
  try {
    if (at.family !== 'unix') {
      memory.option.setInt(1)
      must('setsockopt', system.setsockopt(fd, LINUX.SOL_SOCKET, LINUX.SO_REUSEADDR, memory.option.address, 4))
      tune(poll, fd, settings)
    }
    if (at.family === 'ipv6') {
      memory.option.setInt(settings.ipv6Only ? 1 : 0)
      must('setsockopt', system.setsockopt(fd, LINUX.IPPROTO_IPV6, LINUX.IPV6_V6ONLY, memory.option.address, 4))
    }
    must('bind', system.bind(fd, memory.name.address, writeAddress(memory.name, at)))
    must('listen', system.listen(fd, settings.backlog))
    return new KernelListener(poll, fd, nameOf(poll, 'getsockname', fd) ?? at)
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

  constructor(poll: Poll, fd: number, local: Address) {
    this.#poll = poll
    this.#fd = fd
    this.local = local
    this.#shared = local.family !== 'unix' && (local.address === '::' || local.address === '0.0.0.0') ? undefined : local
    this.#place = poll.add(fd, this)
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
    if (fd >= 0) return new KernelStream(this.#poll, fd, this.#shared, readAddress(memory.name, memory.length.int()))
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
