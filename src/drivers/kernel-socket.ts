/** What the driver does to any of its sockets: the calls that are more than one line because they want memory. */

import type { Address } from '../address.js'
import { readAddress, writeAddress } from './kernel-address.js'
import { LAYOUTS, LINUX } from './kernel-layout.js'
import type { Poll } from './kernel-poll.js'
import { must } from './kernel-system.js'

const { SOCK_NONBLOCK, SOCK_CLOEXEC } = LINUX
const NAME = LAYOUTS.sockaddr_storage.size

/** A new socket, or -errno. Nothing waits on it, and no program started from here inherits it; so it is with those below. */
export function newSocket({ system }: Poll, family: number, type: number): number {
  return system.socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
}

export function bindTo({ system, memory: { name } }: Poll, fd: number, at: Address): number {
  return system.bind(fd, name.address, writeAddress(name, at))
}

export function connectTo({ system, memory: { name } }: Poll, fd: number, to: Address): number {
  return system.connect(fd, name.address, writeAddress(name, to))
}

/** A connection that waits, or -errno; {@link nameRead} has its peer. */
export function acceptFrom({ system, memory: { name, length } }: Poll, fd: number): number {
  length.setInt(NAME)
  return system.accept4(fd, name.address, length.address, SOCK_NONBLOCK | SOCK_CLOEXEC)
}

/** The address that the system wrote last. */
export function nameRead({ memory: { name, length } }: Poll): Address {
  return readAddress(name, length.int())
}

/** `getsockname` or `getpeername`: 0, or -errno; {@link nameRead} has the name. */
export function askName({ system, memory: { name, length } }: Poll, call: 'getsockname' | 'getpeername', fd: number): number {
  length.setInt(NAME)
  return system[call](fd, name.address, length.address)
}

/** The same; undefined for a socket that has none any more. */
export function nameOf(poll: Poll, call: 'getsockname' | 'getpeername', fd: number): Address | undefined {
  return askName(poll, call, fd) < 0 ? undefined : nameRead(poll)
}

/** The name of an open socket. */
export function localOf(poll: Poll, fd: number): Address {
  must('getsockname', askName(poll, 'getsockname', fd))
  return nameRead(poll)
}

/** The value of an option that is a number, or -errno; none of those that are asked for is negative. */
export function intOption({ system, memory: { option, length } }: Poll, fd: number, level: number, name: number): number {
  length.setInt(4)
  const result = system.getsockopt(fd, level, name, option.address, length.address)
  return result < 0 ? result : option.int()
}

/** Sets an option that is a number: 0, or -errno. */
export function setIntOption({ system, memory: { option } }: Poll, fd: number, level: number, name: number, value: number): number {
  option.setInt(value)
  return system.setsockopt(fd, level, name, option.address, 4)
}

/** Makes the close of a TCP socket a reset, which drops what is not sent yet. */
export function resetAtClose(poll: Poll, fd: number): void {
  setLinger(poll, fd, 1)
}

/** Makes closing a matter of the system's background, also for a socket that lingers. */
export function dontWaitAtClose(poll: Poll, fd: number): void {
  setLinger(poll, fd, 0)
}

/** SO_LINGER, with a time of 0. */
function setLinger({ system, memory: { option } }: Poll, fd: number, on: 0 | 1): void {
  option.setInt(on, LAYOUTS.linger.l_onoff)
  option.setInt(0, LAYOUTS.linger.l_linger)
  system.setsockopt(fd, LINUX.SOL_SOCKET, LINUX.SO_LINGER, option.address, LAYOUTS.linger.size)
}
