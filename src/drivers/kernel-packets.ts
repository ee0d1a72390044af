/**
 * Sequenced packets (unix(7), SOCK_SEQPACKET) are exchanged by two that are connected. So a socket that is bound listens, and
 * the first that connects is its peer, and the only one: others are refused from then on.
 */

import type { Address } from '../address.js'
import type { BindSettings, DatagramHandle, OptionHandle, RawDatagram, StreamEvents } from '../driver.js'
import { KernelDatagrams } from './kernel-datagram.js'
import { optionsOf } from './kernel-options.js'
import type { Unlink } from './kernel-paths.js'
import type { Place, Poll, Polled } from './kernel-poll.js'
import { acceptFrom, nameRead } from './kernel-socket.js'
import { EAGAIN, must, systemError } from './kernel-system.js'

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
    const fd = acceptFrom(this.#poll, this.#fd)
    if (fd === -EAGAIN) return undefined
    if (fd < 0) throw systemError('accept4', fd)
    try {
      this.#peer = new KernelDatagrams(this.#poll, { fd, local: this.local, remote: nameRead(this.#poll) }, this.#settings)
    } catch (error) {
      this.#poll.system.close(fd)
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
    this.#refed = true
    this.#peer?.ref()
    if (this.#fd >= 0) this.#poll.hold(this.#place, true)
  }

  unref(): void {
    this.#refed = false
    this.#peer?.unref()
    if (this.#fd >= 0) this.#poll.hold(this.#place, false)
  }
}
