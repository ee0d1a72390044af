/**
 * Bytes that go from one socket to another, or from a file to a socket, without coming into the process: splice(2) through a
 * pipe, and sendfile(2).
 */

import type { Splice } from '../driver.js'
import { LINUX } from './kernel-layout.js'
import type { Memory } from './kernel-memory.js'
import { EAGAIN, must, type System, systemError } from './kernel-system.js'

/** What a pipe is asked to hold. Where the system refuses that (pipe(7), pipe-user-pages-soft), it holds 16 pages. */
const LARGE_PIPE = 256 * 1024
const USUAL_PIPE = 64 * 1024
const FLAGS = LINUX.SPLICE_F_MOVE | LINUX.SPLICE_F_NONBLOCK

/** Where a splice takes from or gives to: the socket, and what it is told of the outcome of a call on it. */
export interface SpliceEnd {
  readonly descriptor: number
  /** There may be something to take, or room to give to. */
  readonly willing: boolean
  /** It had nothing, or no room. */
  exhausted(): void
  /** What is remembered of an error that was reported here. */
  failed(error: unknown): void
}

export class KernelSplice implements Splice {
  readonly #system: System
  readonly #from: SpliceEnd
  readonly #to: SpliceEnd
  readonly #pipe: readonly [read: number, write: number]
  readonly #capacity: number
  #held = 0
  #open = true

  constructor(system: System, { length }: Memory, from: SpliceEnd, to: SpliceEnd) {
    must('pipe2', system.pipe2(length.address, LINUX.O_NONBLOCK | LINUX.O_CLOEXEC))
    this.#pipe = [length.int(), length.int(4)]
    this.#system = system
    this.#from = from
    this.#to = to
    this.#capacity = system.fcntl(this.#pipe[1], LINUX.F_SETPIPE_SZ, LARGE_PIPE) < 0 ? USUAL_PIPE : LARGE_PIPE
  }

  get held(): number {
    return this.#held
  }

  fill(limit: number): number | null | undefined {
    const room = Math.min(limit, this.#capacity - this.#held)
    if (!this.#open || !this.#from.willing || room <= 0) return undefined
    const count = this.#system.splice(this.#from.descriptor, null, this.#pipe[1], null, room, FLAGS)
    if (count > 0) {
      this.#held += count
      return count
    }
    if (count === 0) return null
    if (count !== -EAGAIN) {
      const error = systemError('splice', count)
      this.#from.failed(error)
      throw error
    }
    // A pipe is full by the number of its pieces, too: only an empty one says that there was nothing to take.
    if (this.#held === 0) this.#from.exhausted()
    return undefined
  }

  drain(): number {
    if (!this.#open || this.#held === 0 || !this.#to.willing) return 0
    const count = this.#system.splice(this.#pipe[0], null, this.#to.descriptor, null, this.#held, FLAGS)
    if (count > 0) {
      this.#held -= count
      return count
    }
    if (count !== -EAGAIN) {
      const error = systemError('splice', count)
      this.#to.failed(error)
      throw error
    }
    this.#to.exhausted()
    return 0
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
export function sendFile(system: System, { length: at }: Memory, fd: number, file: number, offset: number, length: number): number {
  if (offset % READ_AHEAD < length) system.posix_fadvise(file, offset, 2 * READ_AHEAD, LINUX.POSIX_FADV_WILLNEED)
  at.setLong(offset, 0)
  return system.sendfile(fd, file, at.address, length)
}

const READ_AHEAD = 1024 * 1024
