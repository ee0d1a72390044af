/** Byte streams of the kernel driver: TCP and UNIX sockets, by system calls. */

import { constants } from 'node:os'
import type { Address } from '../address.js'
import type { OptionHandle, Received, Splice, StreamEvents, StreamHandle } from '../driver.js'
import { receiveWithDescriptors, receiveWithoutDescriptors, sendWithDescriptors } from './kernel-descriptors.js'
import { LAYOUTS, LINUX } from './kernel-layout.js'
import { MOST_PIECES, PIECE } from './kernel-memory.js'
import { dontLinger, optionsOf } from './kernel-options.js'
import type { Place, Poll, Polled } from './kernel-poll.js'
import { intOption, nameOf, resetAtClose } from './kernel-socket.js'
import { KernelSplice, sendFile } from './kernel-splice.js'
import { EAGAIN, systemError } from './kernel-system.js'

const { EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLERR, EPOLLHUP, EPOLLRDHUP, MSG_NOSIGNAL, SOL_SOCKET, SO_ERROR } = LINUX
/** After these a short read does not mean that nothing is left: an end or an error lies behind it, or bytes behind an urgent one. */
const DOUBTFUL = EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI
const READABLE = EPOLLIN | DOUBTFUL
const WRITABLE = EPOLLOUT | EPOLLHUP | EPOLLERR
/** Pieces up to this size are cheaper to copy than to point at, and some of them lie where V8 moves them. */
const SMALL = 4 * 1024
const { ENOTCONN, ECONNRESET, ECONNABORTED, ECONNREFUSED, ETIMEDOUT, ENETDOWN, ENETRESET, ENETUNREACH, EHOSTUNREACH } = constants.errno
/** Errors of the connection. EPIPE is told for an end of this side, or behind the peer's; others are about what was to be sent. */
const LASTING: ReadonlySet<number> = new Set([
  ECONNRESET,
  ECONNABORTED,
  ECONNREFUSED,
  ETIMEDOUT,
  ENETDOWN,
  ENETRESET,
  ENETUNREACH,
  EHOSTUNREACH,
])

export class KernelStream implements StreamHandle, Polled {
  readonly unsent = 0
  /** Whether SO_LINGER may be set. */
  lingers = false
  /** Others may have the same socket by a descriptor of their own: whoever made it, or was given this one. */
  shared = false
  readonly #poll: Poll
  readonly #place: Place
  #fd: number
  #events: StreamEvents | undefined
  /** There may be something to read; unknown until it was tried. */
  #readable = true
  /** There may be room; the system tells once there is again. */
  #writable = true
  /** Not everything was taken, and nobody was told since that there is room. */
  #clogged = false
  /**
   * A short read says nothing. On UNIX sockets it never does: one stops behind bytes that came with descriptors (unix(7)),
   * whether or not anybody wants these.
   */
  #doubtful: boolean
  readonly #unix: boolean
  #ended = false
  #shut = false
  /**
   * What broke the connection, -errno. The system tells it once, to whatever asks first; a failed `send` leaves a socket that
   * reads as if the peer had ended it.
   */
  #failure = 0
  #options: OptionHandle | undefined
  #local: Address | undefined
  #remote: Address | undefined

  /** @param place where the descriptor is watched already */
  constructor(poll: Poll, fd: number, local: Address | undefined, remote: Address | undefined, place?: Place) {
    this.#poll = poll
    this.#fd = fd
    this.#local = local
    this.#remote = remote
    this.#doubtful = this.#unix = (remote ?? this.local)?.family === 'unix'
    if (place !== undefined) poll.pass(place, this)
    this.#place = place ?? poll.add(fd, this)
  }

  /** Takes in what was told of the descriptor before, as an event or an error. */
  inherit(failure: number, events: number): void {
    this.failed(failure)
    if ((events & DOUBTFUL) !== 0) this.#doubtful = true
  }

  get descriptor(): number {
    this.shared = true
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
    if ((events & DOUBTFUL) !== 0) this.#doubtful = true
    const isRelief = this.#clogged && (events & WRITABLE) !== 0
    if (isRelief) {
      this.#clogged = false
      this.#writable = true
    }
    try {
      if ((events & READABLE) !== 0) {
        this.#readable = true
        this.#events?.readable()
      }
    } finally {
      if (isRelief && this.#fd >= 0) this.#events?.writable()
    }
  }

  read(limit: number): Uint8Array | null | undefined {
    if (!this.#readable) return undefined
    const { memory } = this.#poll
    const most = limit < PIECE ? limit : PIECE
    const count = this.#receive(memory.slab.address, most)
    // Receiving into the memory that is given away, with nothing to copy, was tried: of 16 KiB reads it saved nothing that could be
    // measured, as what they cost is that memory itself, made, cold and collected.
    return typeof count === 'number' ? memory.slab.bytes.slice(0, count) : count
  }

  readInto(into: Uint8Array): number | null | undefined {
    if (!this.#readable) return undefined
    const { memory } = this.#poll
    const most = into.length
    if (most > SMALL) return this.#receive(into, most)
    const count = this.#receive(memory.slab.address, most)
    if (typeof count === 'number') into.set(memory.slab.bytes.subarray(0, count))
    return count
  }

  #receive(into: number | Uint8Array, most: number): number | null | undefined {
    const { system } = this.#poll
    if (!this.#unix) return this.took(system.recv(this.#fd, into, most, 0), most)
    const address = typeof into === 'number' ? into : system.address(into)
    return this.took(receiveWithoutDescriptors(this.#poll, this.#fd, address, most), most)
  }

  /** What it means that the system gave `count` of at most `most` bytes. */
  took(count: number, most: number): number | null | undefined {
    if (count > 0) {
      if (count < most && !this.#doubtful) this.#readable = false
      return count
    }
    if (count === -EAGAIN) {
      this.#readable = false
      return undefined
    }
    if (count < 0) this.#failure = count
    if (this.#failure !== 0) throw systemError('recv', this.#failure)
    this.#ended = true
    return null
  }

  write(data: Uint8Array): number {
    if (!this.#writable) return 0
    const { length } = data
    const { system, memory } = this.#poll
    if (length > SMALL) return this.sent(system.send(this.#fd, data, length, MSG_NOSIGNAL), length)
    memory.slab.bytes.set(data)
    return this.sent(system.send(this.#fd, memory.slab.address, length, MSG_NOSIGNAL), length)
  }

  writev(data: readonly Uint8Array[]): number {
    if (!this.#writable) return 0
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
    return this.sent(this.#poll.system.sendmsg(this.#fd, message.address, MSG_NOSIGNAL), total)
  }

  /** What it means that the system took `count` of `length` bytes. Fewer may have another reason than a lack of room. */
  sent(count: number, length: number = count): number {
    if (count >= 0) {
      if (count < length) this.#clogged = true
      return count
    }
    if (count === -EAGAIN) {
      this.#clogged = true
      this.#writable = false
      return 0
    }
    this.failed(count)
    throw systemError('send', count)
  }

  /** Remembers an error for the read direction, whose end it is. */
  failed(result: number): void {
    if (LASTING.has(-result)) this.#failure = result
  }

  sendDescriptors(data: Uint8Array, descriptors: readonly number[]): number {
    if (!this.#writable) return 0
    return this.sent(sendWithDescriptors(this.#poll, this.#fd, data, descriptors))
  }

  receiveDescriptors(limit: number, most: number): Received | null | undefined {
    if (!this.#readable) return undefined
    const { count, received } = receiveWithDescriptors(this.#poll, this.#fd, limit, most)
    const told = this.took(count, limit)
    return typeof told === 'number' ? received : told
  }

  sendFile(file: number, offset: number, length: number): number {
    if (!this.#writable) return -1
    const count = this.sent(sendFile(this.#poll, this.#fd, file, offset, length), length)
    return this.#writable ? count : -1
  }

  splice(to: StreamHandle): Splice | undefined {
    // What comes with descriptors would have the system drop them, see `receiveWithoutDescriptors`.
    return to instanceof KernelStream && !this.#unix ? new KernelSplice(this.#poll, this, to) : undefined
  }

  get readable(): boolean {
    return this.#readable
  }

  get writable(): boolean {
    return this.#writable
  }

  shutdown(done: (error?: unknown) => void): void {
    // A layer above may end what was destroyed meanwhile.
    const result = this.#fd < 0 ? -constants.errno.EBADF : this.#poll.system.shutdown(this.#fd, LINUX.SHUT_WR)
    this.#shut = result === 0
    // The system has forgotten that there was a connection, and may still know why.
    const why = result === -ENOTCONN ? this.#lastError() || this.#failure || result : result
    // EPIPE is a reset that came behind the peer's end, which is still to be read.
    this.failed(why)
    const error = why < 0 ? systemError('shutdown', why) : undefined
    queueMicrotask(() => done(error))
  }

  #lastError(): number {
    const error = intOption(this.#poll, this.#fd, SOL_SOCKET, SO_ERROR)
    return error > 0 ? -error : 0
  }

  mayLose(): boolean {
    // Behind the peer's end nothing comes that the system would answer with a reset.
    if (this.#fd < 0 || this.#ended) return false
    if (this.#queued(LINUX.SIOCINQ) > 0) return true
    // What was sent on a UNIX socket is in the peer's hands. On TCP the end itself counts as a byte that is on its way.
    return this.remote?.family !== 'unix' && this.#queued(LINUX.SIOCOUTQ) > (this.#shut ? 1 : 0)
  }

  /** Bytes in a queue of the system; a socket that broke has none to lose. */
  #queued(request: number): number {
    const { length } = this.#poll.memory
    return this.#poll.system.ioctl(this.#fd, request, length.address) < 0 ? 0 : length.int()
  }

  destroy(reset: boolean): void {
    const fd = this.#fd
    if (fd < 0) return
    // Errors go on saying whose they are.
    void this.local
    void this.remote
    this.#fd = -1
    if (reset) resetAtClose(this.#poll, fd)
    else if (this.lingers) dontLinger(this.#poll, fd)
    this.#poll.remove(this.#place, this.shared)
    this.#poll.system.close(fd)
  }

  give(): number {
    const fd = this.#fd
    void this.local
    void this.remote
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
