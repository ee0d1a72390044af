/** Byte streams of the kernel driver: TCP and UNIX sockets, by system calls. */

import type { Address } from '../address.js'
import type { OptionHandle, StreamEvents, StreamHandle } from '../driver.js'
import { readAddress } from './kernel-address.js'
import { LAYOUTS, LINUX } from './kernel-layout.js'
import { MOST_PIECES, PIECE } from './kernel-memory.js'
import { dontLinger, optionsOf } from './kernel-options.js'
import type { Place, Poll, Polled } from './kernel-poll.js'
import { EAGAIN, systemError } from './kernel-system.js'

const { EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLRDHUP, MSG_NOSIGNAL } = LINUX
const ENDING = EPOLLRDHUP | EPOLLHUP | EPOLLERR
const READABLE = EPOLLIN | ENDING
const WRITABLE = EPOLLOUT | EPOLLHUP | EPOLLERR
/** Pieces up to this size are cheaper to copy than to point at, and some of them lie where V8 moves them. */
const SMALL = 4 * 1024

export class KernelStream implements StreamHandle, Polled {
  readonly unsent = 0
  readonly #poll: Poll
  #fd: number
  #place: Place
  #events: StreamEvents | undefined
  /** There may be something to read; unknown until it was tried. */
  #readable = true
  #writable = true
  /** The end, or an error, may lie behind what a short read gave. */
  #ending = false
  #refed = true
  #options: OptionHandle | undefined
  /** Whether SO_LINGER may be set. */
  lingers = false
  #local: Address | undefined
  #remote: Address | undefined

  constructor(poll: Poll, fd: number, local: Address | undefined, remote: Address | undefined) {
    this.#poll = poll
    this.#fd = fd
    this.#local = local
    this.#remote = remote
    this.#place = poll.add(fd, this)
  }

  get descriptor(): number {
    return this.#fd
  }

  get local(): Address | undefined {
    return (this.#local ??= this.#fd < 0 ? undefined : nameOf(this.#poll, 'getsockname', this.#fd))
  }

  get remote(): Address | undefined {
    return (this.#remote ??= this.#fd < 0 ? undefined : nameOf(this.#poll, 'getpeername', this.#fd))
  }

  get options(): OptionHandle {
    return (this.#options ??= optionsOf(this.#poll, this, 'connection'))
  }

  attach(events: StreamEvents): void {
    this.#events = events
  }

  polled(events: number): void {
    if ((events & ENDING) !== 0) this.#ending = true
    if ((events & READABLE) !== 0) {
      this.#readable = true
      this.#events?.readable()
    }
    if (!this.#writable && (events & WRITABLE) !== 0) {
      this.#writable = true
      this.#events?.writable()
    }
  }

  read(limit: number): Uint8Array | null | undefined {
    if (!this.#readable) return undefined
    const { slab } = this.#poll.memory
    const count = this.#receive(slab.address, limit < PIECE ? limit : PIECE)
    return typeof count === 'number' ? slab.bytes.slice(0, count) : count
  }

  readInto(into: Uint8Array): number | null | undefined {
    if (!this.#readable) return undefined
    if (into.length > SMALL) return this.#receive(into, into.length)
    const { slab } = this.#poll.memory
    const count = this.#receive(slab.address, into.length)
    if (typeof count === 'number') into.set(slab.bytes.subarray(0, count))
    return count
  }

  #receive(where: number | Uint8Array, most: number): number | null | undefined {
    const count = this.#poll.system.recv(this.#fd, where, most, 0)
    if (count > 0) {
      if (count < most && !this.#ending) this.#readable = false
      return count
    }
    if (count === 0) return null
    if (count === -EAGAIN) {
      this.#readable = false
      return undefined
    }
    throw systemError('recv', count)
  }

  write(data: Uint8Array): number {
    const { length } = data
    if (length > SMALL) return this.#sent(this.#poll.system.send(this.#fd, data, length, MSG_NOSIGNAL), length)
    const { slab } = this.#poll.memory
    slab.bytes.set(data)
    return this.#sent(this.#poll.system.send(this.#fd, slab.address, length, MSG_NOSIGNAL), length)
  }

  writev(data: readonly Uint8Array[]): number {
    const { vector, message, slab } = this.#poll.memory
    const { iov_base, iov_len, size } = LAYOUTS.iovec
    let [pieces, total, copied] = [0, 0, 0]
    let copyFrom = -1
    const point = (base: number, length: number) => {
      vector.setLong(base, pieces * size + iov_base)
      vector.setLong(length, pieces * size + iov_len)
      pieces++
    }
    const flush = () => {
      if (copyFrom >= 0) point(slab.address + copyFrom, copied - copyFrom)
      copyFrom = -1
    }
    for (const piece of data) {
      if (piece.length <= SMALL) {
        if (copied + piece.length > PIECE) break
        if (copyFrom < 0) copyFrom = copied
        slab.bytes.set(piece, copied)
        copied += piece.length
      } else {
        if (pieces + 2 >= MOST_PIECES) break
        flush()
        point(this.#poll.system.address(piece), piece.length)
      }
      total += piece.length
    }
    flush()
    message.bytes.fill(0)
    message.setLong(vector.address, LAYOUTS.msghdr.msg_iov)
    message.setLong(pieces, LAYOUTS.msghdr.msg_iovlen)
    return this.#sent(this.#poll.system.sendmsg(this.#fd, message.address, MSG_NOSIGNAL), total)
  }

  #sent(count: number, length: number): number {
    if (count === length) return count
    if (count >= 0) {
      this.#writable = false
      return count
    }
    if (count !== -EAGAIN) throw systemError('send', count)
    this.#writable = false
    return 0
  }

  shutdown(done: (error?: unknown) => void): void {
    const result = this.#poll.system.shutdown(this.#fd, LINUX.SHUT_WR)
    queueMicrotask(() => done(result < 0 ? systemError('shutdown', result) : undefined))
  }

  mayLose(): boolean {
    if (this.#fd < 0) return false
    return this.#queued(LINUX.SIOCINQ) !== 0 || this.#queued(LINUX.SIOCOUTQ) !== 0
  }

  /** Bytes in a queue of the system; a socket that broke has none to lose. */
  #queued(request: number): number {
    const { length } = this.#poll.memory
    return this.#poll.system.ioctl(this.#fd, request, length.address) < 0 ? 0 : length.int()
  }

  destroy(reset: boolean): void {
    const fd = this.#fd
    if (fd < 0) return
    void this.local
    void this.remote
    this.#fd = -1
    const { system, memory } = this.#poll
    if (reset) {
      memory.option.setInt(1)
      memory.option.setInt(0, 4)
      system.setsockopt(fd, LINUX.SOL_SOCKET, LINUX.SO_LINGER, memory.option.address, LAYOUTS.linger.size)
    } else if (this.lingers) dontLinger(this.#poll, fd)
    system.close(fd)
    this.#poll.remove(this.#place)
    this.unref()
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

/** `getsockname` or `getpeername`; undefined for a socket that has none any more. */
export function nameOf(poll: Poll, call: 'getsockname' | 'getpeername', fd: number): Address | undefined {
  const { name, length } = poll.memory
  length.setInt(LAYOUTS.sockaddr_storage.size)
  if (poll.system[call](fd, name.address, length.address) < 0) return undefined
  return readAddress(name, length.int())
}
