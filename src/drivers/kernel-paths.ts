/** UNIX-domain sockets in the file system, for sockets without connections: what a bind leaves there, and what it finds. */

import { lstatSync, unlinkSync } from 'node:fs'
import { resolve } from 'node:path'
import type { UnixAddress } from '../address.js'
import { LINUX } from './kernel-layout.js'
import type { Poll } from './kernel-poll.js'
import { bindTo, connectTo, newSocket } from './kernel-socket.js'
import { EADDRINUSE, ECONNREFUSED, must } from './kernel-system.js'

/** Only the user of the process may send, as to a listener. */
const MODE = 0o600

/** Takes the name away again, if it still is that of the socket that was bound. */
export type Unlink = () => void

/** Binds to a path or an abstract name; in the place of a socket that nobody has open any more. */
export function bindUnix(poll: Poll, fd: number, at: UnixAddress, type: number): Unlink {
  const { system } = poll
  if (at.abstract) {
    must('bind', bindTo(poll, fd, at))
    return () => {}
  }
  // What bind(2) makes has the permissions that the socket has (unix(7)).
  must('fchmod', system.fchmod(fd, MODE))
  let result = bindTo(poll, fd, at)
  if (result === -EADDRINUSE && isDead()) {
    unlinkSync(at.path)
    result = bindTo(poll, fd, at)
  }
  must('bind', result)
  const path = resolve(at.path)
  const made = identity(path)
  return () => {
    try {
      if (made !== undefined && identity(path) === made) unlinkSync(path)
    } catch {
      // A name that may not be removed stays, and is one that nobody answers: whoever binds to it next takes it.
    }
  }

  function isDead(): boolean {
    if (!lstatSync(at.path).isSocket()) return false
    const probe = must('socket', newSocket(poll, LINUX.AF_UNIX, type))
    const answer = connectTo(poll, probe, at)
    system.close(probe)
    return answer === -ECONNREFUSED
  }
}

/** Numbers of inodes are used again; together with the time of creation they are not. */
function identity(path: string): string | undefined {
  const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false })
  return stat && `${stat.dev} ${stat.ino} ${stat.mtimeNs}`
}
