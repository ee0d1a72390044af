/** Sockets that others made and whose descriptors came here: inherited, received over a UNIX socket, or given away by a library. */

import { LINUX } from './kernel-layout.js'
import type { Poll } from './kernel-poll.js'
import { must } from './kernel-system.js'

export interface Found {
  /** AF_INET, AF_INET6 or AF_UNIX. */
  readonly domain: number
  /** SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET. */
  readonly type: number
  readonly listening: boolean
}

/** What kind of socket a descriptor is. Throws what the system says of one that is none (EBADF, ENOTSOCK). */
export function inspect(poll: Poll, fd: number): Found {
  return {
    domain: valueOf(poll, fd, LINUX.SO_DOMAIN),
    type: valueOf(poll, fd, LINUX.SO_TYPE),
    listening: valueOf(poll, fd, LINUX.SO_ACCEPTCONN) !== 0,
  }
}

function valueOf({ system, memory: { option, length } }: Poll, fd: number, name: number): number {
  length.setInt(4)
  must('getsockopt', system.getsockopt(fd, LINUX.SOL_SOCKET, name, option.address, length.address))
  return option.int()
}

/** A descriptor of another kind than was asked for, which stays open and its giver's. */
export function unfit(fd: number, expected: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`the descriptor ${fd} is not ${expected}`), { code: 'EINVAL', syscall: 'getsockopt' })
}

/** Makes a descriptor one that nothing waits on and no program started from here inherits. */
export function settle({ system }: Poll, fd: number): void {
  const flags = must('fcntl', system.fcntl(fd, LINUX.F_GETFL, 0))
  if ((flags & LINUX.O_NONBLOCK) === 0) must('fcntl', system.fcntl(fd, LINUX.F_SETFL, flags | LINUX.O_NONBLOCK))
  must('fcntl', system.fcntl(fd, LINUX.F_SETFD, LINUX.FD_CLOEXEC))
}
