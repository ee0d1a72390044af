/**
 * Sequenced packets (unix(7), SOCK_SEQPACKET) are exchanged by two that are connected. So a socket that is bound listens, and
 * the first that connects is its peer, and the only one: others are refused from then on.
 */

import type { Address } from '../address.js'
import type { BindSettings, DatagramHandle, OptionHandle, RawDatagram, StreamEvents } from '../driver.js'
import { KernelDatagrams } from './kernel-datagram.js'
import { LAYOUTS, LINUX } from './kernel-layout.js'
import { optionsOf } from './kernel-options.js'
import type { Unlink } from './kernel-paths.js'
import type { Place, Poll, Polled } from './kernel-poll.js'
import { nameOf } from './kernel-stream.js'
import { EAGAIN, must, systemError } from './kernel-system.js'

const { SOCK_NONBLOCK, SOCK_CLOEXEC } = LINUX

export class KernelPackets implements DatagramHandle, Polled {
  readonly local: Address
  readonly #poll: Poll
  readonly #settings: BindSettings
  readonly #unlink: Unlink | undefined
  readonly #waiting: OptionHandle
  #place: Place
  #fd: number
  #peer: KernelDatagrams | undefined
  #events: StreamEvents | undefined
  #refed = true

  constructor(poll: Poll, fd: number, local: Address, unlink: Unlink | undefined, settings: BindSettings) {
    this.#poll = poll
    this.#settings = settings
    this.#unlink = unlink
    this.local = local
    this.#fd = fd
    this.#waiting = optionsOf(poll, this, 'datagram')
    must('listen', poll.system.listen(fd, 1))
    this.#place = poll.add(fd, this)
  }

  get remote(): Address | undefined {
    return this.#peer?.remote
  }

  get dropped(): number {
    return 0
  }

  get options(): OptionHandle {
    return this.#peer?.options ?? this.#waiting
  }

  get descriptor(): number {
    return this.#peer?.descriptor ?? this.#fd
  }

  attach(events: StreamEvents): void {
    this.#events = events
    this.#peer?.attach(events)
  }

  polled(): void {
    if (this.#peer !== undefined || this.#fd < 0) return
    try {
      this.#accept()
    } catch {
      // Whoever receives or sends tries again, and is told.
    }
    this.#events?.readable()
    this.#events?.writable()
  }

  /** The first that connects; the name stays taken, and whoever else comes is refused. */
  #accept(): KernelDatagrams | undefined {
    if (this.#peer !== undefined || this.#fd < 0) return this.#peer
    const { system, memory } = this.#poll
    memory.length.setInt(LAYOUTS.sockaddr_storage.size)
    const fd = system.accept4(this.#fd, memory.name.address, memory.length.address, SOCK_NONBLOCK | SOCK_CLOEXEC)
    if (fd === -EAGAIN) return undefined
    if (fd < 0) throw systemError('accept4', fd)
    try {
      const remote = nameOf(this.#poll, 'getpeername', fd)
      this.#peer = new KernelDatagrams(this.#poll, { fd, local: this.local, remote }, this.#settings)
    } catch (error) {
      system.close(fd)
      throw error
    }
    this.#stopListening()
    if (this.#events !== undefined) this.#peer.attach(this.#events)
    if (!this.#refed) this.#peer.unref()
    return this.#peer
  }

  #stopListening(): void {
    if (this.#fd < 0) return
    this.#poll.system.close(this.#fd)
    this.#fd = -1
    this.#poll.remove(this.#place)
    if (this.#refed) this.#poll.release()
  }

  receive(): RawDatagram | undefined {
    return this.#accept()?.receive()
  }

  send(data: Uint8Array, to: Address | undefined, done: (error?: unknown) => void): boolean {
    try {
      return this.#accept()?.send(data, to, done) ?? false
    } catch (error) {
      done(error)
      return true
    }
  }

  join(): void {
    throw systemError('setsockopt', -95)
  }

  leave(): void {
    this.join()
  }

  close(done: () => void): void {
    this.#unlink?.()
    this.#stopListening()
    if (this.#peer === undefined) queueMicrotask(done)
    else this.#peer.close(done)
  }

  ref(): void {
    this.#peer?.ref()
    if (this.#refed || (this.#peer === undefined && this.#fd < 0)) return
    this.#refed = true
    if (this.#fd >= 0) this.#poll.hold()
  }

  unref(): void {
    this.#peer?.unref()
    if (!this.#refed) return
    this.#refed = false
    if (this.#fd >= 0) this.#poll.release()
  }
}
