/**
 * The kernel driver over a system that keeps a ledger: which descriptors are open, and what memory may be pointed at. A call on a
 * descriptor that is not open, one closed twice, one that stays open, an address outside of live memory: each is a fault.
 */

import assert from 'node:assert/strict'
import { kernel } from 'fairlead/kernel'
import { driverOn } from '#src/drivers/kernel-driver.js'
import { foreign } from '#src/drivers/kernel-foreign.js'
import { LAYOUTS, LINUX } from '#src/drivers/kernel-layout.js'
import { Poll } from '#src/drivers/kernel-poll.js'
import { type System, systemOf } from '#src/drivers/kernel-system.js'
import type { Driver } from 'fairlead/testing'

/** Why the kernel driver cannot be used here. */
export const kernelMissing: string | undefined = lacking()

function lacking(): string | undefined {
  try {
    kernel()
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

type Pointer = Parameters<System['bind']>[1]

interface Region {
  readonly memory: WeakRef<Uint8Array>
  readonly address: number
  readonly length: number
}

const { msghdr: MSG, mmsghdr: MMSG, iovec: IOV, cmsghdr: CMSG } = LAYOUTS
/** Forgotten regions are looked for whenever so many have come. */
const MANY = 512

export class Ledger {
  /** Open descriptors, and the call that opened each. */
  readonly open: Map<number, string> = new Map()
  /** Descriptors that came with a message: whoever received them closes them, by other means. */
  readonly passed: Set<number> = new Set()
  readonly faults: string[] = []
  /** Calls made, by name. */
  readonly calls: Map<string, number> = new Map()
  /** Watches of the event loop that are not closed. */
  watches = 0
  readonly system: System
  readonly #regions: Map<number, Region> = new Map()
  #asked = 0

  constructor(system: System) {
    this.system = this.#wrap(system)
  }

  /** Takes note of a descriptor that others made, which the driver is to take over. */
  adopt(descriptor: number): void {
    this.open.set(descriptor, 'adopted')
  }

  /** Takes note of a descriptor that the driver gave away. */
  given(descriptor: number): void {
    if (!this.open.delete(descriptor) && !this.passed.delete(descriptor)) this.#fault(`gave ${descriptor} away, which is not open`)
  }

  /** Fails if anything went wrong, or, with `empty`, if anything is still open. */
  check(empty: boolean = true): void {
    assert.deepEqual(this.faults, [], 'the driver used what it had not')
    if (!empty) return
    assert.deepEqual([...this.open], [], 'descriptors were left open')
    assert.equal(this.watches, 0, 'a watch was left')
  }

  #fault(text: string): void {
    if (this.faults.length < 20) this.faults.push(`${text}\n${(new Error().stack ?? '').split('\n').slice(3, 9).join('\n')}`)
  }

  #opened(descriptor: number, call: string): number {
    if (descriptor < 0) return descriptor
    this.passed.delete(descriptor)
    if (this.open.has(descriptor))
      this.#fault(`${call} gave ${descriptor}, which ${this.open.get(descriptor)} opened and somebody else closed`)
    this.open.set(descriptor, call)
    return descriptor
  }

  #uses(descriptor: number, call: string): void {
    if (!this.open.has(descriptor) && !this.passed.has(descriptor)) this.#fault(`${call} on ${descriptor}, which is not open`)
  }

  /** The memory at an address, alive and long enough. */
  #at(pointer: Pointer, length: number, call: string): Uint8Array | undefined {
    if (pointer === null) return undefined
    if (typeof pointer !== 'number') {
      if (pointer.length < length) this.#fault(`${call} with ${length} bytes of memory that has ${pointer.length}`)
      return pointer
    }
    if (!Number.isSafeInteger(pointer)) this.#fault(`${call} with the address ${pointer}`)
    const region = this.#regions.get(pointer) ?? this.#around(pointer)
    const memory = region?.memory.deref()
    if (region === undefined || memory === undefined) {
      this.#fault(`${call} with ${region === undefined ? 'an address that nobody asked for' : 'the address of memory that is gone'}`)
      return undefined
    }
    const offset = pointer - region.address
    if (offset + length > region.length) this.#fault(`${call} with ${length} bytes at ${offset} of a block of ${region.length}`)
    return memory.subarray(offset)
  }

  #vectors(message: Uint8Array, call: string): void {
    const view = new DataView(message.buffer, message.byteOffset, MSG.size)
    const long = (at: number, of: DataView = view) => Number(of.getBigUint64(at, true))
    const [name, control, count] = [long(MSG.msg_name), long(MSG.msg_control), long(MSG.msg_iovlen)]
    if (name !== 0) this.#at(name, view.getUint32(MSG.msg_namelen, true), `${call} msg_name`)
    if (control !== 0) this.#at(control, long(MSG.msg_controllen), `${call} msg_control`)
    const vectors = this.#at(long(MSG.msg_iov), count * IOV.size, `${call} msg_iov`)
    if (vectors === undefined) return
    const pieces = new DataView(vectors.buffer, vectors.byteOffset, count * IOV.size)
    for (let i = 0; i < count; i++) {
      const length = long(i * IOV.size + IOV.iov_len, pieces)
      if (length > 0) this.#at(long(i * IOV.size + IOV.iov_base, pieces), length, `${call} piece ${i}`)
    }
  }

  /** Descriptors that came along with a message. */
  #received(message: Uint8Array, call: string): void {
    const view = new DataView(message.buffer, message.byteOffset, MSG.size)
    const [from, length] = [Number(view.getBigUint64(MSG.msg_control, true)), Number(view.getBigUint64(MSG.msg_controllen, true))]
    const control = from === 0 || length < CMSG.size ? undefined : this.#at(from, length, call)
    if (control === undefined) return
    const parts = new DataView(control.buffer, control.byteOffset, length)
    for (let at = 0; at + CMSG.size <= length;) {
      const long = Number(parts.getBigUint64(at + CMSG.cmsg_len, true))
      if (long < CMSG.size) return
      const rights =
        parts.getInt32(at + CMSG.cmsg_level, true) === LINUX.SOL_SOCKET && parts.getInt32(at + CMSG.cmsg_type, true) === LINUX.SCM_RIGHTS
      for (let each = at + CMSG.size; rights && each + 4 <= at + long; each += 4) this.passed.add(parts.getInt32(each, true))
      at += Math.ceil(long / 8) * 8
    }
  }

  #wrap(system: System): System {
    const count = (name: string) => this.calls.set(name, (this.calls.get(name) ?? 0) + 1)
    const uses = (fd: number, name: string) => {
      count(name)
      this.#uses(fd, name)
    }
    const named = (name: Pointer, length: Pointer, call: string) => {
      const size = this.#at(length, 4, call)
      if (size !== undefined) this.#at(name, new DataView(size.buffer, size.byteOffset, 4).getInt32(0, true), call)
    }
    const message = (fd: number, at: Pointer, call: string) => {
      uses(fd, call)
      const header = this.#at(at, MSG.size, call)
      if (header !== undefined) this.#vectors(header, call)
      return header
    }
    const messages = (fd: number, at: Pointer, length: number, call: string) => {
      uses(fd, call)
      const all = this.#at(at, length * MMSG.size, call)
      for (let i = 0; all !== undefined && i < length; i++) this.#vectors(all.subarray(i * MMSG.size), `${call} message ${i}`)
    }
    // What is not named here is passed on with its first argument taken for a descriptor.
    const checked: Partial<System> = {
      socket: (...o) => (count('socket'), this.#opened(system.socket(...o), 'socket')),
      epoll_create1: (flags) => (count('epoll_create1'), this.#opened(system.epoll_create1(flags), 'epoll_create1')),
      accept4: (fd, name, length, flags) => {
        uses(fd, 'accept4')
        named(name, length, 'accept4')
        return this.#opened(system.accept4(fd, name, length, flags), 'accept4')
      },
      bind: (fd, name, length) => (uses(fd, 'bind'), this.#at(name, length, 'bind'), system.bind(fd, name, length)),
      connect: (fd, name, length) => (uses(fd, 'connect'), this.#at(name, length, 'connect'), system.connect(fd, name, length)),
      recv: (fd, into, length, flags) => (uses(fd, 'recv'), this.#at(into, length, 'recv'), system.recv(fd, into, length, flags)),
      send: (fd, data, length, flags) => (uses(fd, 'send'), this.#at(data, length, 'send'), system.send(fd, data, length, flags)),
      sendmsg: (fd, at, flags) => (message(fd, at, 'sendmsg'), system.sendmsg(fd, at, flags)),
      sendto: (fd, data, length, flags, name, size) => {
        uses(fd, 'sendto')
        this.#at(data, length, 'sendto')
        this.#at(name, size, 'sendto')
        return system.sendto(fd, data, length, flags, name, size)
      },
      recvmsg: (fd, at, flags) => {
        const header = message(fd, at, 'recvmsg')
        const result = system.recvmsg(fd, at, flags)
        if (header !== undefined && result >= 0) this.#received(header, 'recvmsg')
        return result
      },
      sendmmsg: (fd, at, length, flags) => (messages(fd, at, length, 'sendmmsg'), system.sendmmsg(fd, at, length, flags)),
      recvmmsg: (fd, at, length, flags, wait) => (messages(fd, at, length, 'recvmmsg'), system.recvmmsg(fd, at, length, flags, wait)),
      close: (fd) => {
        if (this.passed.delete(fd)) count('close')
        else uses(fd, 'close')
        this.open.delete(fd)
        return system.close(fd)
      },
      getsockopt: (fd, level, name, value, length) => (
        uses(fd, 'getsockopt'),
        named(value, length, 'getsockopt'),
        system.getsockopt(fd, level, name, value, length)
      ),
      setsockopt: (fd, level, name, value, length) => (
        uses(fd, 'setsockopt'),
        this.#at(value, length, 'setsockopt'),
        system.setsockopt(fd, level, name, value, length)
      ),
      getsockname: (fd, name, length) => (
        uses(fd, 'getsockname'),
        named(name, length, 'getsockname'),
        system.getsockname(fd, name, length)
      ),
      getpeername: (fd, name, length) => (
        uses(fd, 'getpeername'),
        named(name, length, 'getpeername'),
        system.getpeername(fd, name, length)
      ),
      epoll_ctl: (epoll, op, fd, event) => {
        uses(epoll, 'epoll_ctl')
        this.#uses(fd, 'epoll_ctl')
        this.#at(event, LAYOUTS.epoll_event.size, 'epoll_ctl')
        return system.epoll_ctl(epoll, op, fd, event)
      },
      epoll_wait: (epoll, events, most, timeout) => {
        uses(epoll, 'epoll_wait')
        this.#at(events, most * LAYOUTS.epoll_event.size, 'epoll_wait')
        if (timeout !== 0) this.#fault('epoll_wait that waits')
        return system.epoll_wait(epoll, events, most, timeout)
      },
      ioctl: (fd, request, value) => (uses(fd, 'ioctl'), this.#at(value, 4, 'ioctl'), system.ioctl(fd, request, value)),
      fcntl: (fd, command, value) => {
        uses(fd, 'fcntl')
        const result = system.fcntl(fd, command, value)
        return command === LINUX.F_DUPFD_CLOEXEC ? this.#opened(result, 'fcntl') : result
      },
      splice: (from, fromOffset, to, toOffset, length, flags) => {
        uses(from, 'splice')
        this.#uses(to, 'splice')
        return system.splice(from, fromOffset, to, toOffset, length, flags)
      },
      // The file is the caller's, here and below.
      sendfile: (to, from, offset, length) => (
        uses(to, 'sendfile'),
        this.#at(offset, 8, 'sendfile'),
        system.sendfile(to, from, offset, length)
      ),
      pipe2: (pair, flags) => {
        count('pipe2')
        const both = this.#at(pair, 8, 'pipe2')
        const result = system.pipe2(pair, flags)
        if (both === undefined || result < 0) return result
        const view = new DataView(both.buffer, both.byteOffset, 8)
        this.#opened(view.getInt32(0, true), 'pipe2')
        this.#opened(view.getInt32(4, true), 'pipe2')
        return result
      },
      poll: (all, length, timeout) => {
        count('poll')
        const asked = this.#at(all, length * LAYOUTS.pollfd.size, 'poll')
        const view = asked && new DataView(asked.buffer, asked.byteOffset, length * LAYOUTS.pollfd.size)
        for (let i = 0; view !== undefined && i < length; i++) this.#uses(view.getInt32(i * LAYOUTS.pollfd.size, true), 'poll')
        if (timeout !== 0) this.#fault('poll that waits')
        return system.poll(all, length, timeout)
      },
      posix_fadvise: (...o) => (count('posix_fadvise'), system.posix_fadvise(...o)),
      if_nametoindex: (name) => (count('if_nametoindex'), system.if_nametoindex(name)),
      address: (memory) => {
        const address = system.address(memory)
        this.#regions.set(address, { memory: new WeakRef(memory), address, length: memory.length })
        if (++this.#asked % MANY === 0) this.#sweep()
        return address
      },
      watch: (fd, ready) => {
        this.#uses(fd, 'watch')
        const watch = system.watch(fd, ready)
        this.watches++
        let closed = false
        return {
          ref: () => watch.ref(),
          unref: () => watch.unref(),
          close: () => {
            if (closed) this.#fault('a watch closed twice')
            closed = true
            this.watches--
            watch.close()
          },
        }
      },
    }
    const rest: Record<string, unknown> = {}
    for (const [name, call] of Object.entries(system)) {
      if (name in checked || typeof call !== 'function') continue
      rest[name] = (fd: number, ...o: unknown[]) => (uses(fd, name), (call as (...given: unknown[]) => number)(fd, ...o))
    }
    return { ...system, ...rest, ...checked }
  }

  #around(pointer: number): Region | undefined {
    for (const region of this.#regions.values()) {
      if (pointer > region.address && pointer < region.address + region.length && region.memory.deref() !== undefined) return region
    }
    return undefined
  }

  #sweep(): void {
    for (const [address, { memory }] of this.#regions) if (memory.deref() === undefined) this.#regions.delete(address)
  }
}

export interface Watched {
  readonly driver: Driver
  readonly ledger: Ledger
}

/** A kernel driver of its own, and the ledger of what it does. `change` puts faults between the driver and the ledger. */
export function watchedKernel(change: (system: System) => Partial<System> = () => ({})): Watched {
  const ledger = new Ledger(systemOf(foreign((what) => new Error(what))))
  const driver = driverOn(new Poll({ ...ledger.system, ...change(ledger.system) }))
  return { driver, ledger }
}
