/**
 * Byte streams inside the process: connected pairs, and a whole network of listeners on names and ports that never
 * leaves it. A verified fake: the contract checker runs on it as on real sockets.
 *
 * What is in a pipe counts as handed to the system, as with the send and receive buffers of a kernel: it can be read
 * after the writer has closed, and also after the writer has reset, before the error.
 */

import { type Address, type IpAddress, UNNAMED } from '../address.js'
import type {
  BindSettings,
  DatagramHandle,
  DialSettings,
  Driver,
  Guarantees,
  ListenerHandle,
  ListenSettings,
  StreamEvents,
  StreamHandle,
} from '../driver.js'
import { MemoryDatagrams } from './memory-datagrams.js'
import { DynamicPorts, failure, isWildcard, keyOf, Named, soon } from './memory-machine.js'
import { listenerOptions, streamOptions, streamValues } from './memory-options.js'
import type { Remembered } from './remembered.js'

/** Bytes one direction holds: a number, `Infinity`, or `'lockstep'`: only what a waiting reader asked for. */
export type Capacity = number | 'lockstep'

export interface PairOptions {
  /**
   * Bytes each direction holds before its writer has to wait. Default `Infinity`: a writer never waits.
   * `'lockstep'` holds nothing: bytes are taken only while a read that found nothing is outstanding on the other side,
   * and no more than it asked for.
   */
  capacity?: Capacity | undefined
  /** Addresses of the two ends; default unnamed. */
  addresses?: readonly [Address, Address] | undefined
}

export interface MemoryOptions {
  /** Bytes each direction of a connection holds. Default 64 KiB. */
  capacity?: Capacity | undefined
  /** IP addresses of this machine besides 127.0.0.0/8, ::1 and the wildcards. Others are not reachable. */
  addresses?: readonly string[] | undefined
}

const CHUNK = 64 * 1024
const FIRST_CHUNK = 256

interface Chunk {
  bytes: Uint8Array
  start: number
  end: number
}

/** One direction. */
class Pipe {
  readonly #capacity: number
  readonly #lockstep: boolean
  /** In lockstep, what the waiting reader would still take. */
  #hunger = 0
  #chunks: Chunk[] = []
  #head = 0
  #tail: Chunk | undefined
  length = 0
  /** Nothing more will be written. */
  ended = false
  /** What reading throws once the bytes are gone. */
  error: NodeJS.ErrnoException | undefined
  /** Nothing more will be read. */
  readerGone = false

  constructor(capacity: Capacity) {
    this.#lockstep = capacity === 'lockstep'
    this.#capacity = capacity === 'lockstep' ? 0 : capacity
  }

  get room(): number {
    return this.#lockstep ? this.#hunger : this.#capacity - this.length
  }

  /** A reader found nothing and waits for at most `limit` bytes; whether a writer may go on because of that. */
  starve(limit: number): boolean {
    if (!this.#lockstep) return false
    this.#hunger = limit
    return true
  }

  push(data: Uint8Array): number {
    const room = this.room
    const count = data.length < room ? data.length : room
    if (count <= 0) return 0
    const part = count === data.length ? data : data.subarray(0, count)
    const tail = this.#tail
    if (tail !== undefined && tail.bytes.length - tail.end >= count) {
      tail.bytes.set(part, tail.end)
      tail.end += count
    } else {
      this.#append(part, tail)
    }
    this.length += count
    this.#hunger -= count
    return count
  }

  /** A lone piece is copied exactly; what piles up behind it goes into ever larger chunks, so that a million bytes are not a million chunks. */
  #append(part: Uint8Array, tail: Chunk | undefined): void {
    const size = tail === undefined ? part.length : Math.max(part.length, Math.min(CHUNK, Math.max(FIRST_CHUNK, tail.bytes.length * 2)))
    const bytes = new Uint8Array(size)
    bytes.set(part)
    this.#tail = { bytes, start: 0, end: part.length }
    this.#chunks.push(this.#tail)
  }

  /** At most `limit` bytes, which must be there. */
  take(limit: number): Uint8Array {
    const chunk = this.#chunks[this.#head] as Chunk
    const have = chunk.end - chunk.start
    if (have > limit) {
      const part = chunk.bytes.slice(chunk.start, chunk.start + limit)
      chunk.start += limit
      this.length -= limit
      return part
    }
    this.#drop(chunk)
    this.length -= have
    // A few bytes must not pin a whole chunk.
    return have * 2 < chunk.bytes.length ? chunk.bytes.slice(chunk.start, chunk.end) : chunk.bytes.subarray(chunk.start, chunk.end)
  }

  takeInto(into: Uint8Array): number {
    let count = 0
    while (count < into.length && this.length > 0) {
      const chunk = this.#chunks[this.#head] as Chunk
      const part = Math.min(into.length - count, chunk.end - chunk.start)
      into.set(chunk.bytes.subarray(chunk.start, chunk.start + part), count)
      chunk.start += part
      count += part
      this.length -= part
      if (chunk.start === chunk.end) this.#drop(chunk)
    }
    return count
  }

  #drop(chunk: Chunk): void {
    if (this.#tail === chunk) this.#tail = undefined
    this.#head++
    if (this.#head === this.#chunks.length) {
      this.#chunks.length = 0
      this.#head = 0
    } else if (this.#head > 64 && this.#head * 2 > this.#chunks.length) {
      this.#chunks = this.#chunks.slice(this.#head)
      this.#head = 0
    }
  }

  clear(): void {
    this.#chunks = []
    this.#head = 0
    this.#tail = undefined
    this.length = 0
  }
}

class MemoryStream implements StreamHandle {
  readonly local: Address | undefined
  readonly remote: Address | undefined
  readonly unsent = 0
  readonly #incoming: Pipe
  readonly #outgoing: Pipe
  #peer!: MemoryStream
  #events: StreamEvents | undefined
  #destroyed = false
  /** The last read found nothing, or none was tried yet: the reader wants to hear of news. */
  #wantsRead = true
  #wantsWrite = false
  #readableDue = false
  #writableDue = false
  /** What its options were at first; a pair made outside a network has no others than a UNIX socket. */
  made: () => ReadonlyMap<string, unknown> = pairValues
  /** Told when it is destroyed. */
  gone: (() => void) | undefined
  #options: Remembered | undefined

  constructor(incoming: Pipe, outgoing: Pipe, local: Address, remote: Address) {
    this.#incoming = incoming
    this.#outgoing = outgoing
    this.local = local
    this.remote = remote
  }

  static pair(capacity: Capacity, addresses: readonly [Address, Address]): [MemoryStream, MemoryStream] {
    const [there, back] = [new Pipe(capacity), new Pipe(capacity)]
    const one = new MemoryStream(back, there, addresses[0], addresses[1])
    const other = new MemoryStream(there, back, addresses[1], addresses[0])
    one.#peer = other
    other.#peer = one
    return [one, other]
  }

  attach(events: StreamEvents): void {
    this.#events = events
    this.#wantsRead = true
    const { length, ended, error } = this.#incoming
    if (length > 0 || ended || error) this.#readable()
  }

  read(limit: number): Uint8Array | null | undefined {
    const pipe = this.#incoming
    if (pipe.length === 0) return this.#nothing(limit)
    const bytes = pipe.take(limit)
    this.#drained()
    return bytes
  }

  readInto(into: Uint8Array): number | null | undefined {
    const pipe = this.#incoming
    if (pipe.length === 0) return this.#nothing(into.length)
    const count = pipe.takeInto(into)
    this.#drained()
    return count
  }

  #nothing(limit: number): null | undefined {
    this.#mustBeOpen('read')
    const pipe = this.#incoming
    if (pipe.error) throw pipe.error
    if (pipe.ended) return null
    this.#wantsRead = true
    if (pipe.starve(limit)) this.#drained()
    return undefined
  }

  #drained(): void {
    const peer = this.#peer
    if (peer.#wantsWrite && this.#incoming.room > 0) peer.#writable()
  }

  write(data: Uint8Array): number {
    this.#mustTake()
    const count = this.#outgoing.push(data)
    if (count < data.length) this.#wantsWrite = true
    if (count > 0 && this.#peer.#wantsRead) this.#peer.#readable()
    return count
  }

  writev(data: readonly Uint8Array[]): number {
    this.#mustTake()
    let total = 0
    for (const piece of data) {
      const count = this.#outgoing.push(piece)
      total += count
      if (count < piece.length) {
        this.#wantsWrite = true
        break
      }
    }
    if (total > 0 && this.#peer.#wantsRead) this.#peer.#readable()
    return total
  }

  #mustTake(): void {
    this.#mustBeOpen('write')
    if (this.#outgoing.ended) throw failure('EPIPE', 'write', 'the write direction was shut down')
    if (this.#incoming.error) throw failure(this.#incoming.error.code as string, 'write', 'the peer reset the connection')
    if (this.#outgoing.readerGone) throw failure('EPIPE', 'write', 'the peer closed the connection')
  }

  #mustBeOpen(syscall: string): void {
    if (this.#destroyed) throw failure('EBADF', syscall, 'the handle was destroyed')
  }

  shutdown(done: (error?: unknown) => void): void {
    this.#outgoing.ended = true
    this.#peer.#readable()
    soon(() => done())
  }

  destroy(reset: boolean): void {
    if (this.#destroyed) return
    this.#destroyed = true
    this.gone?.()
    this.#events = undefined
    this.#incoming.clear()
    this.#incoming.readerGone = true
    // An end that was sent before the reset stays an end here, where both are told apart exactly.
    if (reset && !this.#outgoing.ended) this.#outgoing.error = failure('ECONNRESET', 'read', 'the peer reset the connection')
    this.#outgoing.ended = true
    this.#peer.#readable()
    this.#peer.#writable()
  }

  mayLose(): boolean {
    return false
  }

  get options(): Remembered {
    this.#options ??= streamOptions(this.made())
    return this.#options
  }

  // Nothing outside the process can wake a stream inside it, so it never keeps the process alive.
  ref(): void {}
  unref(): void {}

  #readable(): void {
    if (this.#readableDue || this.#events === undefined) return
    this.#readableDue = true
    this.#wantsRead = false
    soon(this.#tellReadable)
  }

  #writable(): void {
    if (this.#writableDue || this.#events === undefined) return
    this.#writableDue = true
    this.#wantsWrite = false
    soon(this.#tellWritable)
  }

  readonly #tellReadable = (): void => {
    this.#readableDue = false
    this.#events?.readable()
  }

  readonly #tellWritable = (): void => {
    this.#writableDue = false
    this.#events?.writable()
  }
}

function checkedCapacity(capacity: Capacity): Capacity {
  if (capacity === 'lockstep' || (capacity > 0 && (Number.isInteger(capacity) || capacity === Number.POSITIVE_INFINITY))) return capacity
  throw Object.assign(new RangeError(`capacity must be 'lockstep' or a whole number of bytes, at least 1, got ${String(capacity)}`), {
    code: 'ERR_OUT_OF_RANGE',
  })
}

/** Two connected ends. */
export function memoryPair(o: PairOptions = {}): [StreamHandle, StreamHandle] {
  return MemoryStream.pair(checkedCapacity(o.capacity ?? Number.POSITIVE_INFINITY), o.addresses ?? [UNNAMED, UNNAMED])
}

const pairValues = (): ReadonlyMap<string, unknown> => streamValues(UNNAMED, { noDelay: true, keepAlive: false })

/** A dial that has not reached the queue of its listener yet. */
interface Dialling {
  connect(): void
  refuse(error: Error): void
}

class MemoryListener implements ListenerHandle {
  readonly local: Address
  readonly unserved: { count: number; estimated: boolean } = { count: 0, estimated: false }
  readonly settings: ListenSettings
  readonly #leave: (listener: MemoryListener) => void
  readonly #queue: StreamHandle[] = []
  readonly #waiting: Set<Dialling> = new Set()
  #events: { acceptable(): void } | undefined
  #paused = false
  #closed = false
  readonly options: Remembered

  constructor(local: Address, settings: ListenSettings, leave: (listener: MemoryListener) => void) {
    this.local = local
    this.settings = settings
    this.options = listenerOptions(local, settings)
    this.#leave = leave
  }

  attach(events: { acceptable(): void }): void {
    this.#events = events
    this.#tell()
  }

  /** Connects now if the backlog has room, as TCP does before anybody accepts; else when it has. Returns what gives up. */
  enter(dialling: Dialling): () => void {
    if (this.#queue.length < Math.max(1, this.settings.backlog)) dialling.connect()
    else this.#waiting.add(dialling)
    return () => this.#waiting.delete(dialling)
  }

  offer(handle: StreamHandle): void {
    this.#queue.push(handle)
    this.#tell()
  }

  accept(): StreamHandle | undefined {
    if (this.#paused || this.#closed) return undefined
    const handle = this.#queue.shift()
    if (handle !== undefined) {
      const [next] = this.#waiting
      if (next !== undefined) {
        this.#waiting.delete(next)
        next.connect()
      }
    }
    return handle
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    this.#tell()
  }

  close(done: () => void): void {
    if (!this.#closed) {
      this.#closed = true
      this.#leave(this)
      for (const handle of this.#queue.splice(0)) {
        this.unserved.count++
        handle.destroy(true)
      }
      for (const dialling of this.#waiting) dialling.refuse(failure('ECONNREFUSED', 'connect', 'the listener closed'))
      this.#waiting.clear()
      this.#events = undefined
    }
    soon(done)
  }

  ref(): void {}
  unref(): void {}

  #tell(): void {
    if (this.#queue.length > 0) soon(() => (this.#paused || this.#queue.length === 0 ? undefined : this.#events?.acceptable()))
  }
}

const GUARANTEES: Guarantees = Object.freeze({
  resetIsNeverEnd: true,
  dataBeforeError: true,
  acceptStops: true,
  unservedExact: true,
  keepAliveExact: true,
  unix: true,
  abstractUnix: true,
  unixgram: true,
  unixpacket: 'not in the process; the kernel driver has them',
  truncationTold: true,
  descriptors: 'there are none in the process; the kernel driver can',
  adoption: 'there are none in the process; the kernel driver can',
})

class MemoryNetwork implements Driver {
  readonly name = 'memory'
  readonly guarantees: Guarantees = GUARANTEES
  readonly #capacity: Capacity
  readonly #addresses: ReadonlySet<string>
  readonly #listeners: Named<string, MemoryListener> = new Named()
  /** Local ends of dialled connections, `address:port`. */
  readonly #bound: Set<string> = new Set()
  readonly #ports: DynamicPorts = new DynamicPorts()
  #turn = 0
  #datagrams: MemoryDatagrams | undefined

  constructor(o: MemoryOptions) {
    this.#capacity = checkedCapacity(o.capacity ?? CHUNK)
    this.#addresses = new Set(o.addresses ?? [])
  }

  dial(to: Address, settings: DialSettings, done: (error: unknown, handle?: StreamHandle) => void): () => void {
    let over = false
    let leave: (() => void) | undefined
    const finish = (error: unknown, handle?: StreamHandle) => {
      if (over) return handle?.destroy(true)
      over = true
      if (handle) done(null, handle)
      else done(error)
    }
    soon(() => {
      if (over) return
      try {
        const listener = this.#find(to)
        leave = listener.enter({
          connect: () => {
            // The system finishes a dial on its own time; a caller that gave up meanwhile leaves a reset in the queue.
            try {
              const [here, there] = this.#join(to, settings)
              const { values } = listener.options
              there.made = () => values
              listener.offer(there)
              soon(() => finish(null, here))
            } catch (error) {
              finish(error)
            }
          },
          refuse: (error) => finish(error),
        })
      } catch (error) {
        finish(error)
      }
    })
    return () => {
      over = true
      leave?.()
    }
  }

  #join(to: Address, settings: DialSettings): [MemoryStream, MemoryStream] {
    const from = this.#from(to, settings.from)
    const pair = MemoryStream.pair(this.#capacity, [from, to])
    const [here] = pair
    here.made = () => streamValues(to, settings)
    if (from.family !== 'unix') {
      const key = keyOf(from)
      this.#bound.add(key)
      here.gone = () => this.#bound.delete(key)
    }
    return pair
  }

  #from(to: Address, from: Address | undefined): Address {
    if (from !== undefined && from.family !== to.family)
      throw failure('EINVAL', 'bind', `the local address is ${from.family}, the peer ${to.family}`)
    if (to.family === 'unix') return from ?? UNNAMED
    const wanted = from as IpAddress | undefined
    const address = wanted === undefined || isWildcard(wanted.address) ? to.address : wanted.address
    if (!this.#isLocal(address)) throw failure('EADDRNOTAVAIL', 'bind', address)
    if (!wanted?.port) return { ...to, address, port: this.#freePort(address) }
    const local = { ...to, address, port: wanted.port }
    if (this.#bound.has(keyOf(local)) || this.#listeners.has(keyOf(local))) throw failure('EADDRINUSE', 'bind', keyOf(local))
    return local
  }

  #freePort(address: string): number {
    const isListenedAt = (port: number) => ['0.0.0.0', '::', address].some((name) => this.#listeners.has(`${name}:${port}`))
    return this.#ports.next((port) => !this.#bound.has(`${address}:${port}`) && !isListenedAt(port), 'EADDRNOTAVAIL')
  }

  #isLocal(address: string): boolean {
    return isWildcard(address) || address === '::1' || /^127\.\d+\.\d+\.\d+$/.test(address) || this.#addresses.has(address)
  }

  #find(to: Address): MemoryListener {
    if (to.family === 'unix') {
      const listener = this.#pick(keyOf(to))
      if (listener) return listener
      throw failure(to.abstract ? 'ECONNREFUSED' : 'ENOENT', 'connect', keyOf(to))
    }
    if (!this.#isLocal(to.address)) throw failure('ENETUNREACH', 'connect', keyOf(to))
    const any = to.family === 'ipv4' ? '0.0.0.0' : '::'
    const listener = this.#pick(keyOf(to)) ?? this.#pick(`${any}:${to.port}`) ?? this.#dualStack(to)
    if (listener) return listener
    throw failure('ECONNREFUSED', 'connect', keyOf(to))
  }

  #dualStack(to: IpAddress): MemoryListener | undefined {
    const listener = this.#pick(`:::${to.port}`)
    return listener?.settings.ipv6Only ? undefined : listener
  }

  #pick(key: string): MemoryListener | undefined {
    const listeners = this.#listeners.get(key)
    return listeners.length === 0 ? undefined : listeners[this.#turn++ % listeners.length]
  }

  async listen(at: Address, settings: ListenSettings): Promise<ListenerHandle> {
    let local = at
    if (at.family !== 'unix') {
      if (!this.#isLocal(at.address)) throw failure('EADDRNOTAVAIL', 'listen', keyOf(at))
      if (at.port === 0) local = { ...at, port: this.#freePort(at.address) }
    }
    for (const key of conflicting(local, settings)) {
      if (this.#bound.has(key)) throw failure('EADDRINUSE', 'listen', key)
      if (
        this.#listeners.get(key).some((other) => !(settings.reusePort && other.settings.reusePort) && !disjoint(local, settings, other))
      ) {
        throw failure('EADDRINUSE', 'listen', key)
      }
    }
    const listener = new MemoryListener(local, settings, (gone) => this.#listeners.remove(keyOf(local), gone))
    this.#listeners.add(keyOf(local), listener)
    return listener
  }

  async bind(at: Address, settings: BindSettings): Promise<DatagramHandle> {
    this.#datagrams ??= new MemoryDatagrams(this.#capacity === 'lockstep' ? 0 : this.#capacity, (address) => this.#isLocal(address))
    return this.#datagrams.bind(at, settings)
  }
}

/** Names whose listeners a new one could collide with: its own, and on a dual-stack wildcard the other family's. */
function conflicting(local: Address, settings: ListenSettings): string[] {
  const own = keyOf(local)
  if (local.family === 'unix') return [own]
  if (local.address === '::' && !settings.ipv6Only) return [own, `0.0.0.0:${local.port}`]
  if (local.address === '0.0.0.0') return [own, `:::${local.port}`]
  return [own]
}

function disjoint(local: Address, settings: ListenSettings, other: MemoryListener): boolean {
  if (keyOf(local) === keyOf(other.local)) return false
  return settings.ipv6Only || other.settings.ipv6Only
}

/**
 * A network inside the process: listeners on IP addresses with ports and on UNIX-domain names, found only by dials
 * through the same driver. Port 0 is given a free one; a taken name is `EADDRINUSE`, one where nobody listens
 * `ECONNREFUSED` (`ENOENT` for a path), an address that is not this machine's `EADDRNOTAVAIL` or `ENETUNREACH`.
 *
 * ```ts
 * const network = new Network({ driver: memory() })
 * ```
 */
export function memory(o: MemoryOptions = {}): Driver {
  return new MemoryNetwork(o)
}
