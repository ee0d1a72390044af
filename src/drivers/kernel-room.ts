/**
 * Room for datagrams at a UNIX socket that is not connected: epoll tells of it only to those that are (`unix_dgram_poll` in
 * net/unix/af_unix.c). So another socket connects to the receiver, for as long as it takes.
 */

import type { Address } from '../address.js'
import { LINUX } from './kernel-layout.js'
import type { Place, Poll, Polled } from './kernel-poll.js'
import { connectTo, newSocket } from './kernel-socket.js'

export class Room implements Polled {
  readonly #poll: Poll
  readonly #tell: () => void
  #fd: number
  #place: Place | undefined

  /** Calls `tell` once when the queue at `to` may have room, or nobody is there any more; unless it is closed before. */
  constructor(poll: Poll, to: Address, tell: () => void) {
    this.#poll = poll
    this.#tell = tell
    this.#fd = newSocket(poll, LINUX.AF_UNIX, LINUX.SOCK_DGRAM)
    const connected = this.#fd >= 0 && connectTo(poll, this.#fd, to) === 0
    try {
      if (connected) this.#place = poll.add(this.#fd, this)
    } catch {
      // There is nothing to wait with, as below.
    }
    // Who sends again is told why it cannot, or comes back here.
    if (this.#place === undefined) setImmediate(() => this.polled(LINUX.EPOLLOUT))
  }

  polled(events: number): void {
    if (this.#fd < -1 || (events & (LINUX.EPOLLOUT | LINUX.EPOLLERR | LINUX.EPOLLHUP)) === 0) return
    this.close()
    this.#tell()
  }

  close(): void {
    if (this.#fd >= 0) this.#poll.system.close(this.#fd)
    this.#fd = -2
    if (this.#place === undefined) return
    this.#poll.remove(this.#place)
    this.#place = undefined
  }
}
