/**
 * Descriptors on their way from one process to another: SCM_RIGHTS over UNIX sockets (unix(7), cmsg(3)).
 *
 * The system gives room for as many as the buffer for them holds and closes the rest without a word; so there is always room
 * for all that one message can carry, and if that is more than was asked for all are closed here, and counted.
 */

import type { Received } from '../driver.js'
import { LAYOUTS, LINUX } from './kernel-layout.js'
import { type Block, type Memory, PIECE } from './kernel-memory.js'
import type { Poll } from './kernel-poll.js'
import { dontWaitAtClose } from './kernel-socket.js'

const { iovec: IOV, msghdr: MSG, cmsghdr: CMSG } = LAYOUTS
/** SCM_MAX_FD of linux/net/scm.h: most descriptors of one message. */
const MOST_DESCRIPTORS = 253
const CONTROL = CMSG.size + 4 * MOST_DESCRIPTORS

/** One piece at `address`, with `control` bytes of control messages. */
function message({ vector, message: header, control }: Memory, address: number, length: number, controlLength: number): void {
  vector.setLong(address, IOV.iov_base)
  vector.setLong(length, IOV.iov_len)
  header.bytes.fill(0, 0, MSG.size)
  header.setLong(vector.address, MSG.msg_iov)
  header.setLong(1, MSG.msg_iovlen)
  if (controlLength === 0) return
  header.setLong(control.address, MSG.msg_control)
  header.setLong(controlLength, MSG.msg_controllen)
}

/** `sendmsg` of `data`, at most 64 KiB of it, with `descriptors`; what it gives. */
export function sendWithDescriptors({ system, memory }: Poll, fd: number, data: Uint8Array, descriptors: readonly number[]): number {
  const { slab, control, message: header } = memory
  const length = Math.min(data.length, PIECE)
  slab.bytes.set(length < data.length ? data.subarray(0, length) : data)
  const size = CMSG.size + 4 * descriptors.length
  message(memory, slab.address, length, size)
  control.setLong(size, CMSG.cmsg_len)
  control.setInt(LINUX.SOL_SOCKET, CMSG.cmsg_level)
  control.setInt(LINUX.SCM_RIGHTS, CMSG.cmsg_type)
  for (const [i, descriptor] of descriptors.entries()) control.setInt(descriptor, CMSG.size + 4 * i)
  return system.sendmsg(fd, header.address, LINUX.MSG_NOSIGNAL)
}

/**
 * As `recv`, on a UNIX socket, of descriptors that nobody asked for. A plain `recv` has the system drop them, within the call: a
 * socket whose sender has made its close wait would hold up this process for as long as the sender likes.
 */
export function receiveWithoutDescriptors(poll: Poll, fd: number, address: number, length: number): number {
  const { system, memory } = poll
  message(memory, address, length, CONTROL)
  const count = system.recvmsg(fd, memory.message.address, LINUX.MSG_CMSG_CLOEXEC)
  if (count >= 0) refuseDescriptors(poll, memory.control, memory.message.long(MSG.msg_controllen))
  return count
}

/** `recvmsg` of at most `limit` bytes: what it gives, and with more than 0 what came. */
export function receiveWithDescriptors(
  poll: Poll,
  fd: number,
  limit: number,
  most: number,
): { count: number; received: Received | undefined } {
  const { system, memory } = poll
  const { slab, message: header } = memory
  message(memory, slab.address, Math.min(limit, PIECE), CONTROL)
  const count = system.recvmsg(fd, header.address, LINUX.MSG_CMSG_CLOEXEC)
  if (count < 0) return { count, received: undefined }
  const descriptors = descriptorsOf(memory.control, header.long(MSG.msg_controllen))
  // The process had no room for all of them (EMFILE): how many were lost is not told.
  const lost = (header.int(MSG.msg_flags) & LINUX.MSG_CTRUNC) !== 0 ? 1 : 0
  const came = descriptors.length + lost
  const refused = lost > 0 || came > most
  if (refused) refuse(poll, descriptors.splice(0))
  if (count === 0) return { count, received: undefined }
  return { count, received: { data: slab.bytes.slice(0, count), descriptors, surplus: refused ? came : 0 } }
}

/** Closes those that came along with something, in the first `length` bytes of its control data. */
export function refuseDescriptors(poll: Poll, control: Block, length: number): void {
  if (length > 0) refuse(poll, descriptorsOf(control, length))
}

function refuse(poll: Poll, descriptors: readonly number[]): void {
  for (const descriptor of descriptors) {
    dontWaitAtClose(poll, descriptor)
    poll.system.close(descriptor)
  }
}

function descriptorsOf(control: Block, end: number): number[] {
  const found = []
  for (let at = 0; at + CMSG.size <= end;) {
    const length = control.long(at + CMSG.cmsg_len)
    if (length < CMSG.size) break
    if (control.int(at + CMSG.cmsg_level) === LINUX.SOL_SOCKET && control.int(at + CMSG.cmsg_type) === LINUX.SCM_RIGHTS) {
      for (let one = at + CMSG.size; one + 4 <= at + length; one += 4) found.push(control.int(one))
    }
    at += (length + 7) & ~7
  }
  return found
}
