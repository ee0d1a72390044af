/** Sockets by system calls, and one epoll descriptor watched by the event loop: as much as an echo server and its tests need. */

import { koffi, libc, type PollHandle } from './foreign.js'

const AF_INET = 2
/** SOCK_STREAM, SOCK_NONBLOCK, SOCK_CLOEXEC */
const STREAM = 1 | 0o4000 | 0o2000000
const NON_BLOCKING = 0o4000 | 0o2000000
const EPOLL = { add: 1, remove: 2, change: 3, in: 0x001, out: 0x004 }
/** Packed on x86-64 only (`sys/epoll.h`). */
const EVENT = process.arch === 'x64' ? { size: 12, data: 4 } : { size: 16, data: 8 }
const BATCH = 256

function check(result: number, call: string): number {
  if (result >= 0) return result
  throw Object.assign(new Error(`${call}: errno ${koffi.errno()}`), { errno: koffi.errno() })
}

function loopback(port: number): Buffer {
  const address = Buffer.alloc(16)
  address.writeUInt16LE(AF_INET, 0)
  address.writeUInt16BE(port, 2)
  address.writeUInt32BE(0x7f00_0001, 4)
  return address
}

export function listener(): { fd: number; port: number } {
  const fd = check(libc.socket(AF_INET, STREAM, 0), 'socket')
  const address = loopback(0)
  check(libc.bind(fd, address, 16), 'bind')
  check(libc.listen(fd, 1_024), 'listen')
  const length = Buffer.from([16, 0, 0, 0])
  check(libc.getsockname(fd, address, length), 'getsockname')
  return { fd, port: address.readUInt16BE(2) }
}

/** A connection, or -1. */
export function accept(fd: number): number {
  const accepted = libc.accept4(fd, 0, 0, NON_BLOCKING)
  if (accepted >= 0) setOption(accepted, 6, 1, Buffer.from([1, 0, 0, 0]))
  return accepted
}

/** To a listener of this machine, whose backlog takes it at once. */
export function connect(port: number): number {
  const fd = check(libc.socket(AF_INET, STREAM, 0), 'socket')
  libc.connect(fd, loopback(port), 16)
  setOption(fd, 6, 1, Buffer.from([1, 0, 0, 0]))
  return fd
}

function setOption(fd: number, level: number, name: number, value: Buffer): void {
  check(libc.setsockopt(fd, level, name, value, value.length), 'setsockopt')
}

export function close(fd: number): void {
  check(libc.close(fd), 'close')
}

/** The closing will be a reset. */
export function reset(fd: number): void {
  setOption(fd, 1, 13, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]))
  close(fd)
}

/** Waits, with the whole process, until there is something to read or to be written; for the tests, whose both ends live here. */
export function ready(fd: number, milliseconds = 2_000): boolean {
  const request = Buffer.alloc(8)
  request.writeInt32LE(fd, 0)
  request.writeInt16LE(1, 4)
  return libc.poll(request, 1, milliseconds) > 0
}

export function receive(fd: number, length: number, peek = false): Buffer {
  const bytes = Buffer.alloc(length)
  return bytes.subarray(0, Math.max(0, libc.recv(fd, bytes, length, peek ? 2 : 0)))
}

export function send(fd: number, bytes: Uint8Array): number {
  // MSG_NOSIGNAL
  return libc.send(fd, bytes, bytes.length, 0x4000)
}

export function endWriting(fd: number): void {
  libc.shutdown(fd, 1)
}

/** Level-triggered events of many descriptors: a reader that stops before the socket is empty costs no call to find that out. */
export class Poller {
  readonly #epoll: number
  readonly #handle: PollHandle
  readonly #events: Buffer = Buffer.alloc(EVENT.size * BATCH)
  readonly #handlers: Map<number, () => void> = new Map()

  constructor() {
    this.#epoll = check(libc.epoll_create1(0o2000000), 'epoll_create1')
    // Promises settle only within Node's own callbacks, so events are dealt with in the immediate behind the poll phase.
    let waiting = false
    const run = () => {
      waiting = false
      this.#dispatch()
    }
    this.#handle = koffi.node.poll(this.#epoll, { readable: true }, () => {
      if (!waiting) setImmediate(run)
      waiting = true
    })
  }

  add(fd: number, handler: () => void): void {
    this.#handlers.set(fd, handler)
    this.#control(EPOLL.add, fd, EPOLL.in)
  }

  /** Waits for room to write, or to read, and for nothing else. */
  want(fd: number, what: 'read' | 'write'): void {
    this.#control(EPOLL.change, fd, what === 'read' ? EPOLL.in : EPOLL.out)
  }

  #control(operation: number, fd: number, events: number): void {
    const event = Buffer.alloc(EVENT.size)
    event.writeUInt32LE(events, 0)
    event.writeInt32LE(fd, EVENT.data)
    check(libc.epoll_ctl(this.#epoll, operation, fd, event), 'epoll_ctl')
  }

  /** Before the descriptor is closed. */
  remove(fd: number): void {
    this.#handlers.delete(fd)
    libc.epoll_ctl(this.#epoll, EPOLL.remove, fd, this.#events)
  }

  #dispatch(): void {
    const count = libc.epoll_wait(this.#epoll, this.#events, BATCH, 0)
    const fds = Array.from({ length: Math.max(0, count) }, (_, i) => this.#events.readInt32LE(i * EVENT.size + EVENT.data))
    for (const fd of fds) this.#handlers.get(fd)?.()
  }

  close(): void {
    this.#handle.close()
    close(this.#epoll)
  }
}
