/**
 * The system calls that the kernel driver makes: what they take, and what they give, which is -errno for what failed.
 * All are made on non-blocking descriptors, so none of them waits.
 */

import { constants } from 'node:os'
import type { Foreign, Kind, Pointer, Signature, Watch } from './kernel-foreign.js'

/** Every call: what it gives, or -errno. Arguments are those of its man page; sizes and offsets are whole numbers below 2^53. */
export interface System {
  socket(domain: number, type: number, protocol: number): number
  bind(fd: number, name: Pointer, length: number): number
  listen(fd: number, backlog: number): number
  accept4(fd: number, name: Pointer, length: Pointer, flags: number): number
  connect(fd: number, name: Pointer, length: number): number
  recv(fd: number, into: Pointer, length: number, flags: number): number
  send(fd: number, data: Pointer, length: number, flags: number): number
  sendto(fd: number, data: Pointer, length: number, flags: number, name: Pointer, nameLength: number): number
  recvmsg(fd: number, message: Pointer, flags: number): number
  sendmsg(fd: number, message: Pointer, flags: number): number
  recvmmsg(fd: number, messages: Pointer, count: number, flags: number, timeout: Pointer): number
  sendmmsg(fd: number, messages: Pointer, count: number, flags: number): number
  shutdown(fd: number, how: number): number
  close(fd: number): number
  getsockopt(fd: number, level: number, name: number, value: Pointer, length: Pointer): number
  setsockopt(fd: number, level: number, name: number, value: Pointer, length: number): number
  getsockname(fd: number, name: Pointer, length: Pointer): number
  getpeername(fd: number, name: Pointer, length: Pointer): number
  epoll_create1(flags: number): number
  epoll_ctl(epoll: number, op: number, fd: number, event: Pointer): number
  epoll_wait(epoll: number, events: Pointer, most: number, timeout: number): number
  poll(descriptors: Pointer, count: number, timeout: number): number
  ioctl(fd: number, request: number, value: Pointer): number
  fcntl(fd: number, command: number, value: number): number
  fchmod(fd: number, mode: number): number
  splice(from: number, fromOffset: Pointer, to: number, toOffset: Pointer, length: number, flags: number): number
  sendfile(to: number, from: number, offset: Pointer, length: number): number
  pipe2(descriptors: Pointer, flags: number): number
  posix_fadvise(fd: number, offset: number, length: number, advice: number): number
  if_nametoindex(name: Pointer): number
  address(memory: Uint8Array): number
  watch(descriptor: number, ready: () => void): Watch
}

export type CallName = Exclude<keyof System, 'address' | 'watch'>

const [int, long, pointer]: readonly ['int', 'long', 'pointer'] = ['int', 'long', 'pointer']

const SIGNATURES: Readonly<Record<CallName, readonly [Signature['gives'], readonly Kind[]]>> = {
  socket: [int, [int, int, int]],
  bind: [int, [int, pointer, int]],
  listen: [int, [int, int]],
  accept4: [int, [int, pointer, pointer, int]],
  connect: [int, [int, pointer, int]],
  recv: [long, [int, pointer, long, int]],
  send: [long, [int, pointer, long, int]],
  sendto: [long, [int, pointer, long, int, pointer, int]],
  recvmsg: [long, [int, pointer, int]],
  sendmsg: [long, [int, pointer, int]],
  recvmmsg: [int, [int, pointer, int, int, pointer]],
  sendmmsg: [int, [int, pointer, int, int]],
  shutdown: [int, [int, int]],
  close: [int, [int]],
  getsockopt: [int, [int, int, int, pointer, pointer]],
  setsockopt: [int, [int, int, int, pointer, int]],
  getsockname: [int, [int, pointer, pointer]],
  getpeername: [int, [int, pointer, pointer]],
  epoll_create1: [int, [int]],
  epoll_ctl: [int, [int, int, int, pointer]],
  epoll_wait: [int, [int, pointer, int, int]],
  poll: [int, [pointer, long, int]],
  ioctl: [int, [int, long, pointer]],
  fcntl: [int, [int, int, long]],
  fchmod: [int, [int, int]],
  splice: [long, [int, pointer, int, pointer, long, int]],
  sendfile: [long, [int, int, pointer, long]],
  pipe2: [int, [pointer, int]],
  posix_fadvise: [int, [int, long, long, int]],
  if_nametoindex: [int, [pointer]],
}

/** The calls of this system through `foreign`. */
export function systemOf(foreign: Foreign): System {
  const system: Record<string, unknown> = { address: foreign.address, watch: foreign.watch }
  for (const [name, [gives, takes]] of Object.entries(SIGNATURES)) system[name] = checked(foreign, { name, gives, takes })
  return system as unknown as System
}

/** One function for each number of arguments, as collecting them in an array would cost more than many of the calls. */
function checked(foreign: Foreign, signature: Signature): (...given: never[]) => number {
  const call = foreign.declare(signature) as (...given: unknown[]) => number
  const { errno } = foreign
  switch (signature.takes.length) {
    case 1:
      return (a) => {
        const result = call(a)
        return result < 0 ? -errno() : result
      }
    case 2:
      return (a, b) => {
        const result = call(a, b)
        return result < 0 ? -errno() : result
      }
    case 3:
      return (a, b, c) => {
        const result = call(a, b, c)
        return result < 0 ? -errno() : result
      }
    case 4:
      return (a, b, c, d) => {
        const result = call(a, b, c, d)
        return result < 0 ? -errno() : result
      }
    case 5:
      return (a, b, c, d, e) => {
        const result = call(a, b, c, d, e)
        return result < 0 ? -errno() : result
      }
    default:
      return (a, b, c, d, e, f) => {
        const result = call(a, b, c, d, e, f)
        return result < 0 ? -errno() : result
      }
  }
}

const CODES = new Map(Object.entries(constants.errno).map(([code, number]) => [number, code]))
// Two names of one number: the one that documents use.
CODES.set(constants.errno.EAGAIN, 'EAGAIN').set(constants.errno.EOPNOTSUPP, 'EOPNOTSUPP')

export const EAGAIN: number = constants.errno.EAGAIN
export const ECONNRESET: number = constants.errno.ECONNRESET
export const EINPROGRESS: number = constants.errno.EINPROGRESS
export const ECONNREFUSED: number = constants.errno.ECONNREFUSED
export const EADDRINUSE: number = constants.errno.EADDRINUSE
export const EMSGSIZE: number = constants.errno.EMSGSIZE
export const EINVAL: number = constants.errno.EINVAL
export const EIO: number = constants.errno.EIO

/** What a call reported with `result`, as an error with its POSIX code. */
export function systemError(call: string, result: number): NodeJS.ErrnoException {
  const code = CODES.get(-result) ?? `E${-result}`
  return Object.assign(new Error(`${call} ${code}`), { code, errno: result, syscall: call })
}

/** The result of a call, or throws what it reported. */
export function must(call: string, result: number): number {
  if (result < 0) throw systemError(call, result)
  return result
}
