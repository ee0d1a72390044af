/**
 * Memory for many datagrams in one call (recvmmsg(2), sendmmsg(2)), made when the first is asked for. What does not change
 * from call to call is written once.
 */

import { NAMES_AT_ONCE } from './kernel-address.js'
import { CONTROL, SEGMENT_CONTROL, writeSegment } from './kernel-control.js'
import { LAYOUTS, LINUX } from './kernel-layout.js'
import { Block } from './kernel-memory.js'
import type { System } from './kernel-system.js'

/** Datagrams of one call. */
export const AT_ONCE: number = NAMES_AT_ONCE
/** Room for one: more than IP carries. Not a power of two, as all would begin in the same lines of the cache. */
const ROOM = 64 * 1024 + 192
/** Control data of a UNIX datagram: credentials, and all descriptors that one can carry. It takes the room of several. */
const UNIX_CONTROL = 2048
/** Bytes that are on their way in one call. */
const OUT: number = 256 * 1024

const { msghdr: MESSAGE, mmsghdr: HEADER, iovec: VECTOR, sockaddr_storage: NAME } = LAYOUTS
const WORDS = HEADER.size / 4
const NAME_WORDS = NAME.size / 4
const NAMELEN = MESSAGE.msg_namelen / 4
const CONTROLLEN = MESSAGE.msg_controllen / 4
const FLAGS = MESSAGE.msg_flags / 4
const LENGTH = HEADER.msg_len / 4

function pointAt(headers: Block, message: number, vectors: Block): void {
  headers.setLong(vectors.address + message * VECTOR.size, message * HEADER.size + MESSAGE.msg_iov)
  headers.setLong(1, message * HEADER.size + MESSAGE.msg_iovlen)
}

/** Where datagrams come in. */
export class Inbox {
  readonly room: Block
  readonly names: Block
  readonly control: Block
  readonly #headers: Block
  readonly #words: Int32Array
  readonly #nameWords: Int32Array
  readonly #vectors: Block
  /** Headers that the system may have written to. */
  #used: number = AT_ONCE
  /** Room for control data that was given last time. */
  #control = 0

  constructor(system: System) {
    this.room = new Block(system, AT_ONCE * ROOM)
    this.names = new Block(system, AT_ONCE * NAME.size)
    this.control = new Block(system, AT_ONCE * CONTROL)
    this.#vectors = new Block(system, AT_ONCE * VECTOR.size)
    this.#headers = new Block(system, AT_ONCE * HEADER.size)
    this.#words = new Int32Array(this.#headers.bytes.buffer)
    this.#nameWords = new Int32Array(this.names.bytes.buffer)
    for (let i = 0; i < AT_ONCE; i++) {
      this.#headers.setLong(this.names.address + this.nameAt(i), i * HEADER.size + MESSAGE.msg_name)
      this.#headers.setLong(this.control.address + this.controlAt(i), i * HEADER.size + MESSAGE.msg_control)
      pointAt(this.#headers, i, this.#vectors)
      this.#vectors.setLong(this.room.address + i * ROOM, i * VECTOR.size + VECTOR.iov_base)
      this.#vectors.setLong(ROOM, i * VECTOR.size + VECTOR.iov_len)
    }
  }

  /** One datagram, with at most `control` bytes of control data. */
  one(system: System, fd: number, flags: number, control: number): number {
    this.#reset(control)
    this.#used = 1
    return system.recvmsg(fd, this.#headers.address, flags)
  }

  /** One in as much memory as there is, as datagrams of UNIX sockets know no limit of 64 KiB; with room for all descriptors. */
  large(system: System, fd: number): number {
    this.#vectors.setLong(this.room.bytes.length, VECTOR.iov_len)
    const result = this.one(system, fd, LINUX.MSG_CMSG_CLOEXEC, UNIX_CONTROL)
    this.#vectors.setLong(ROOM, VECTOR.iov_len)
    return result
  }

  /** At most `most` datagrams; how many. */
  many(system: System, fd: number, most: number): number {
    this.#reset(CONTROL)
    const count = system.recvmmsg(fd, this.#headers.address, most, 0, null)
    this.#used = count > 0 ? count : 1
    return count
  }

  /** The system puts what it gave in the place of what it may give. */
  #reset(control: number): void {
    const words = this.#words
    const count = control === this.#control ? this.#used : AT_ONCE
    this.#control = control
    for (let i = 0; i < count; i++) {
      words[i * WORDS + NAMELEN] = NAME.size
      words[i * WORDS + CONTROLLEN] = control
    }
  }

  /** Nothing came along, and nothing was cut off. */
  isPlain(i: number): boolean {
    const words = this.#words
    return words[i * WORDS + CONTROLLEN] === 0 && ((words[i * WORDS + FLAGS] as number) & LINUX.MSG_TRUNC) === 0
  }

  /** It is of the same sender as the one before it, over IPv4; what another says is settled by reading it. */
  isOfSame(i: number): boolean {
    if (i === 0 || this.#words[i * WORDS + NAMELEN] !== LAYOUTS.sockaddr_in.size) return false
    const words = this.#nameWords
    const at = i * NAME_WORDS
    return words[at] === words[at - NAME_WORDS] && words[at + 1] === words[at + 1 - NAME_WORDS]
  }

  /** Moves what came first in each of the first `count` rooms together, so that it can be copied out at once. */
  pack(count: number): void {
    const { bytes } = this.room
    const words = this.#words
    let end = words[LENGTH] as number
    for (let i = 1; i < count; i++) {
      const length = words[i * WORDS + LENGTH] as number
      bytes.copyWithin(end, i * ROOM, i * ROOM + length)
      end += length
    }
  }

  nameAt(i: number): number {
    return i * NAME.size
  }

  controlAt(i: number): number {
    return i * CONTROL
  }

  length(i: number): number {
    return this.#words[i * WORDS + LENGTH] as number
  }

  nameLength(i: number): number {
    return this.#words[i * WORDS + NAMELEN] as number
  }

  controlLength(i: number): number {
    return this.#words[i * WORDS + CONTROLLEN] as number
  }

  flags(i: number): number {
    return this.#words[i * WORDS + FLAGS] as number
  }
}

/** Where datagrams go out from. */
export class Outbox {
  readonly #room: Block
  readonly #headers: Block
  readonly #words: Int32Array
  readonly #vectors: Block
  readonly #control: Block
  /** Messages that are ready, the bytes of them, and where the one that is being made begins. */
  #messages = 0
  #used = 0
  #start = 0
  /** Datagrams in each. */
  readonly #counts: number[] = []

  constructor(system: System) {
    this.#room = new Block(system, OUT)
    this.#headers = new Block(system, AT_ONCE * HEADER.size)
    this.#words = new Int32Array(this.#headers.bytes.buffer)
    this.#vectors = new Block(system, AT_ONCE * VECTOR.size)
    this.#control = new Block(system, AT_ONCE * SEGMENT_CONTROL)
    for (let i = 0; i < AT_ONCE; i++) pointAt(this.#headers, i, this.#vectors)
  }

  clear(): void {
    this.#messages = this.#used = this.#start = 0
  }

  get full(): boolean {
    return this.#messages === AT_ONCE
  }

  fits(size: number): boolean {
    return this.#used + size <= OUT
  }

  /** Adds to the message that is being made. */
  put(data: Uint8Array): void {
    this.#room.bytes.set(data, this.#used)
    this.#used += data.length
  }

  /** Ends a message of `count` datagrams of `segment` bytes, but for the last, which may have less. */
  end(count: number, segment: number, name: number, nameLength: number): void {
    const i = this.#messages
    const at = i * HEADER.size
    this.#headers.setLong(name, at + MESSAGE.msg_name)
    this.#words[i * WORDS + NAMELEN] = nameLength
    const cut = count > 1
    if (cut) writeSegment(this.#control, i * SEGMENT_CONTROL, segment)
    this.#headers.setLong(cut ? this.#control.address + i * SEGMENT_CONTROL : 0, at + MESSAGE.msg_control)
    this.#words[i * WORDS + CONTROLLEN] = cut ? SEGMENT_CONTROL : 0
    this.#vectors.setLong(this.#room.address + this.#start, i * VECTOR.size + VECTOR.iov_base)
    this.#vectors.setLong(this.#used - this.#start, i * VECTOR.size + VECTOR.iov_len)
    this.#counts[i] = count
    this.#start = this.#used
    this.#messages++
  }

  /** Datagrams of the first message; 0 where there is none. */
  get first(): number {
    return this.#messages === 0 ? 0 : (this.#counts[0] as number)
  }

  /** Hands over what is ready; how many datagrams the system took, or what it says to the first message. */
  send(system: System, fd: number, flags: number): number {
    const { address } = this.#headers
    if (this.#messages === 1) {
      const result = system.sendmsg(fd, address, flags)
      return result < 0 ? result : this.first
    }
    const sent = system.sendmmsg(fd, address, this.#messages, flags)
    if (sent < 0) return sent
    let datagrams = 0
    for (let i = 0; i < sent; i++) datagrams += this.#counts[i] as number
    return datagrams
  }
}
