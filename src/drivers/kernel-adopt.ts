/** Sockets that others made and whose descriptors came here: inherited, received over a UNIX socket, or given away by a library. */

import type { BindSettings, DatagramHandle, ListenerHandle, ListenSettings, StreamHandle } from '../driver.js'
import { KernelDatagrams } from './kernel-datagram.js'
import { LINUX } from './kernel-layout.js'
import { KernelListener } from './kernel-listener.js'
import type { Poll } from './kernel-poll.js'
import { intOption, nameOf } from './kernel-socket.js'
import { KernelStream } from './kernel-stream.js'
import { must } from './kernel-system.js'
import { refusal } from './refusal.js'

const { SO_TYPE, SO_ACCEPTCONN, SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET } = LINUX

export function adoptStream(poll: Poll, fd: number): StreamHandle {
  if (valueOf(poll, fd, SO_TYPE) !== SOCK_STREAM || valueOf(poll, fd, SO_ACCEPTCONN) !== 0) throw unfit(fd, 'a connected stream socket')
  const remote = nameOf(poll, 'getpeername', fd)
  if (remote === undefined) throw refusal('ENOTCONN', `descriptor ${fd} is not connected`)
  settle(poll, fd)
  // Its giver may have made it so.
  return Object.assign(new KernelStream(poll, fd, nameOf(poll, 'getsockname', fd), remote), { lingers: true, shared: true })
}

export function adoptListener(poll: Poll, fd: number, settings: ListenSettings): ListenerHandle {
  if (valueOf(poll, fd, SO_TYPE) !== SOCK_STREAM || valueOf(poll, fd, SO_ACCEPTCONN) === 0) throw unfit(fd, 'a listening stream socket')
  const local = nameOf(poll, 'getsockname', fd)
  if (local === undefined) throw unfit(fd, 'a listening stream socket')
  settle(poll, fd)
  return new KernelListener(poll, fd, local, settings, true)
}

export function adoptDatagram(poll: Poll, fd: number, settings: BindSettings): DatagramHandle {
  const type = valueOf(poll, fd, SO_TYPE)
  const local = nameOf(poll, 'getsockname', fd)
  const listening = valueOf(poll, fd, SO_ACCEPTCONN) !== 0
  if ((type !== SOCK_DGRAM && type !== SOCK_SEQPACKET) || listening || local === undefined) throw unfit(fd, 'a datagram socket')
  settle(poll, fd)
  const parts = { fd, local, remote: nameOf(poll, 'getpeername', fd) }
  return new KernelDatagrams(poll, parts, { ...settings, type: type === SOCK_DGRAM ? 'datagram' : 'seqpacket' })
}

/** Throws what the system says of a descriptor that is no socket (EBADF, ENOTSOCK). */
function valueOf(poll: Poll, fd: number, name: number): number {
  return must('getsockopt', intOption(poll, fd, LINUX.SOL_SOCKET, name))
}

/** It stays open, and its giver's. */
function unfit(fd: number, expected: string): Error {
  return refusal('EINVAL', `descriptor ${fd} is not ${expected}`)
}

/** Makes a descriptor one that nothing waits on and no program started from here inherits. */
function settle({ system }: Poll, fd: number): void {
  const flags = must('fcntl', system.fcntl(fd, LINUX.F_GETFL, 0))
  if ((flags & LINUX.O_NONBLOCK) === 0) must('fcntl', system.fcntl(fd, LINUX.F_SETFL, flags | LINUX.O_NONBLOCK))
  must('fcntl', system.fcntl(fd, LINUX.F_SETFD, LINUX.FD_CLOEXEC))
}
