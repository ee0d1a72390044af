/**
 * Bytes that go from one socket to another, or from a file to a socket, without coming into the process: splice(2) through a
 * pipe, and sendfile(2).
 */

import type { Splice } from '../driver.js'
import { LINUX } from './kernel-layout.js'
import type { Poll } from './kernel-poll.js'
import type { KernelStream } from './kernel-stream.js'
import { EAGAIN, must, type System } from './kernel-system.js'

/** What a pipe is asked to hold. Where the system refuses that (pipe(7), pipe-user-pages-soft), it holds less. */
const CAPACITY = 256 * 1024
const FLAGS = LINUX.SPLICE_F_MOVE | LINUX.SPLICE_F_NONBLOCK

export class KernelSplice implements Splice {
  readonly #system: System
  readonly #from: KernelStream
  readonly #to: KernelStream
  readonly #pipe: readonly [read: number, write: number]
  #held = 0
  #open = true

  constructor({ system, memory: { length } }: Poll, from: KernelStream, to: KernelStream) {
    must('pipe2', system.pipe2(length.address, LINUX.O_NONBLOCK | LINUX.O_CLOEXEC))
    this.#pipe = [length.int(), length.int(4)]
    this.#system = system
    this.#from = from
    this.#to = to
    system.fcntl(this.#pipe[1], LINUX.F_SETPIPE_SZ, CAPACITY)
  }

  get held(): number {
    return this.#held
  }

  fill(limit: number): number | null | undefined {
    if (!this.#open || !this.#from.readable) return undefined
    const count = this.#system.splice(this.#from.descriptor, null, this.#pipe[1], null, limit, FLAGS)
    // A pipe is full by the number of its pieces, too: only an empty one says that there was nothing to take.
    if (count === -EAGAIN && this.#held > 0) return undefined
    if (count > 0) this.#held += count
    // For the same reason few bytes do not mean that no more are there.
    return this.#from.took(count, count)
  }

  drain(): number {
    if (!this.#open || this.#held === 0 || !this.#to.writable) return 0
    const count = this.#to.sent(this.#system.splice(this.#pipe[0], null, this.#to.descriptor, null, this.#held, FLAGS))
    this.#held -= count
    return count
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    for (const end of this.#pipe) this.#system.close(end)
  }
}

/**
 * `sendfile` of an open file from `offset` on; what it gives. Pages of the file that are not in memory would be waited for, so
 * the system is told of what comes next (posix_fadvise(2)) before it is needed.
 */
export function sendFile({ system, memory: { length: at } }: Poll, fd: number, file: number, offset: number, length: number): number {
  if (offset % READ_AHEAD < length) system.posix_fadvise(file, offset, 2 * READ_AHEAD, LINUX.POSIX_FADV_WILLNEED)
  at.setLong(offset, 0)
  return system.sendfile(fd, file, at.address, length)
}

const READ_AHEAD = 1024 * 1024
