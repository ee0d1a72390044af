/**
 * What talks to the operating system: the smallest interface that the memory, node and kernel drivers can all honestly
 * implement. Internal: nothing here is exported from the package's main door.
 *
 * The primitive is *give me bytes now, or tell me when to try again*, so that backpressure comes for free: a driver reads
 * nothing ahead but one chunk already in flight, and takes no more than it can hand over. Drivers carry bytes and
 * datagrams; they never do TLS, deadlines, ownership or framing. What a driver can do and guarantee is data
 * ({@link Driver.guarantees}): the docs table, the error texts and the skip lists of the tests come from it.
 *
 * Drivers throw and report plain platform errors with a POSIX `code`; they are wrapped at the public edge.
 */

import type { Address } from './address.js'

/** Tells what a handle is ready for. Called by the driver, never re-entrantly from inside a call to the handle. */
export interface StreamEvents {
  /** Bytes, the end, or an error can be had from `read`. May be spurious. */
  readable(): void
  /** `write` would take something again, or would throw. May be spurious. */
  writable(): void
}

/**
 * The options of one socket, by their names in `options.ts`, where values were checked already. Throws what the system
 * reported; `ENOPROTOOPT` where this driver cannot read or set the option.
 */
export interface OptionHandle {
  get(name: string): unknown
  set(name: string, value: unknown): void
  /** Options by the numbers of the system; absent where a driver cannot reach them. */
  getRaw?(level: number, name: number, length: number): Uint8Array
  setRaw?(level: number, name: number, value: Uint8Array): void
}

/** What the handles of all sockets have. */
interface Handle {
  ref(): void
  unref(): void
  /** The options of the socket; absent where the driver has none. A layer above passes those of the handle it stands on. */
  readonly options?: OptionHandle | undefined
  /** The descriptor, for drivers that know it; -1 once it was given back. */
  readonly descriptor?: number
  /** Gives the descriptor away, open and as it is: the handle is over without closing it. Throws where it cannot. */
  give?(): number
}

/** One established byte stream. */
export interface StreamHandle extends Handle {
  readonly local: Address | undefined
  readonly remote: Address | undefined
  /** Bytes taken by `write` and not yet handed to the system, or the peer for a driver in the process. */
  readonly unsent: number
  /** Must be called before anything else; until then nothing is read. Whoever takes a handle over calls it again. */
  attach(events: StreamEvents): void
  /**
   * Bytes that are here now, at most `limit`, in memory that is the caller's to keep and shared with nobody;
   * `null` at the peer's own end (never at a reset); `undefined` when there is nothing now: `readable` follows.
   * Throws what the system reported. Bytes that came before an error are given before it is thrown.
   */
  read(limit: number): Uint8Array | null | undefined
  /** As `read`, into memory of the caller; the count, never 0. */
  readInto(into: Uint8Array): number | null | undefined
  /**
   * Takes a prefix of `data` and returns its length; what it took is no longer needed by the caller. 0: nothing now,
   * `writable` follows. Throws when the write direction is broken; reading may go on.
   */
  write(data: Uint8Array): number
  /** `write` for several pieces, one system call where possible; takes a prefix of their concatenation. */
  writev(data: readonly Uint8Array[]): number
  /** Ends the write direction behind everything taken; `done` once the system has it. Called at most once. */
  shutdown(done: (error?: unknown) => void): void
  /** Gives the descriptor back at once. `reset` asks for a TCP reset rather than an orderly end. Idempotent. */
  destroy(reset: boolean): void
  /**
   * Whether input not yet given to `read` is or may be waiting in the system, or output is or may be in flight, so that
   * destroying now could cost the peer bytes it was promised.
   */
  mayLose(): boolean
  /**
   * Gives the platform's own socket away, unread and unwritten from here on; undefined if there is none or bytes were
   * already taken from it. Only for layers that can use it natively (TLS where truncation is allowed).
   */
  release?(): unknown
  /**
   * As `write`, with descriptors that go along with the first byte (SCM_RIGHTS, unix(7)); the system has its own references to
   * them once this returns more than 0. UNIX sockets only. Throws what `sendmsg` reported.
   */
  sendDescriptors?(data: Uint8Array, descriptors: readonly number[]): number
  /**
   * As `read`, with the descriptors that came along with these bytes, at most `most`: if there were more, or this process had no
   * room for them, all are closed at once and `surplus` is how many. What came is close-on-exec and the caller's to close.
   */
  receiveDescriptors?(limit: number, most: number): Received | null | undefined
  /** As `write`, of bytes `offset` and on of an open file (sendfile(2)); 0 at the end of the file. -1: nothing now, `writable` follows. */
  sendFile?(file: number, offset: number, length: number): number
  /** What moves bytes from this stream to `to` inside the system (splice(2)); undefined where the two do not fit together. */
  splice?(to: StreamHandle): Splice | undefined
}

/** What came with descriptors. */
export interface Received {
  readonly data: Uint8Array
  readonly descriptors: readonly number[]
  readonly surplus: number
}

/** Bytes on their way from one stream to another that never come into the process. */
export interface Splice {
  /** Bytes taken from the source that the target has not got yet. */
  readonly held: number
  /** Takes bytes from the source, as its `read` does: how many, `null` at its end, `undefined` when there is nothing now. */
  fill(limit: number): number | null | undefined
  /** Gives the target of what is held, as its `write` does: how many, 0 when it takes nothing now. */
  drain(): number
  /** Gives up what is held and the memory for it. Idempotent. */
  close(): void
}

/** An accepting socket. Connections are taken with `accept`; nothing is read from one before it is taken. */
export interface ListenerHandle extends Handle {
  readonly local: Address
  /** Called once: `acceptable` when `accept` may have something or throws. */
  attach(events: { acceptable(): void }): void
  /** A connection that is here now, or undefined. Throws what `accept(2)` reported. */
  accept(): StreamHandle | undefined
  /** Stop or go on taking connections from the system's queue; a driver that cannot stop parks a few and counts the rest. */
  pause(): void
  resume(): void
  /** Connections closed unserved by the driver since the start, and whether that count is an estimate. */
  readonly unserved: { count: number; estimated: boolean }
  close(done: () => void): void
}

/** One datagram as the system gave it. */
export interface RawDatagram {
  /** Memory that is the caller's to keep, shared at most with datagrams that came with it, 16 KiB of them. */
  readonly data: Uint8Array
  readonly from: Address
  /** The system cut it off: it was longer than what it was read into. */
  readonly truncated: boolean
  /** The local address it was sent to, the interface it came in by, and the hops it had left, where the driver can tell. */
  readonly to?: Address | undefined
  readonly interface?: string | undefined
  readonly ttl?: number | undefined
}

/** One datagram for the system; without `to` it goes to the connected peer. */
export interface OutgoingDatagram {
  readonly data: Uint8Array
  readonly to: Address | undefined
}

/** A bound, and perhaps connected, datagram socket. */
export interface DatagramHandle extends Handle {
  readonly local: Address
  /** The peer of a connected socket. */
  readonly remote: Address | undefined
  /** Datagrams thrown away because the queue was full, the oldest first. */
  readonly dropped: number
  attach(events: StreamEvents): void
  /**
   * The next datagram that is here now, or undefined: `readable` follows. Throws what the system reported, such as
   * ECONNREFUSED for a peer that is not there; the socket goes on.
   */
  receive(): RawDatagram | undefined
  /**
   * Takes one whole datagram, to the connected peer where `to` is undefined, and returns true; what it took is no longer
   * needed by the caller. False: nothing now, `writable` follows. `done` is called once for each that was taken, perhaps
   * from inside the call: the system has it, or refused it (EMSGSIZE, EACCES, ECONNREFUSED, …).
   */
  send(data: Uint8Array, to: Address | undefined, done: (error?: unknown) => void): boolean
  /** As `receive`, for all that are here now, at most `most`, at least one. What was reported behind one waits for the next call. */
  receiveMany?(most: number): RawDatagram[] | undefined
  /**
   * Hands whole datagrams to the system, those of `batch` from `first` on, in order; how many. 0: nothing now, `writable`
   * follows. Throws what was reported for the one at `first`, which is not sent; those after it are not tried then.
   */
  sendMany?(batch: readonly OutgoingDatagram[], first: number): number
  /** Joins or leaves a multicast group, on one interface (its address or name) or the system's choice, from one source or any. */
  join(group: string, interfaceName: string | undefined, source: string | undefined): void
  leave(group: string, interfaceName: string | undefined, source: string | undefined): void
  /** Gives the descriptor back; datagrams that were taken are sent first. Idempotent. */
  close(done: () => void): void
}

export interface BindSettings {
  type: 'datagram' | 'seqpacket'
  /** The peer to connect to. */
  to?: Address | undefined
  reuseAddress: boolean
  reusePort: boolean
  ipv6Only: boolean
  /** What a driver that cannot leave datagrams with the system may hold of them. */
  queue: { count: number; bytes: number }
  /** Told of bytes held in that queue and given from it. */
  held(change: number): void
  /** What was asked for, by its name in `options.ts`, to set before the socket is bound; what has a field here is in it, too. */
  options: ReadonlyMap<string, unknown>
}

/** What every stream socket is made with. */
export interface StreamSettings {
  noDelay: boolean
  /** Keep-alive idle and interval times in milliseconds and number of probes; `false` switches it off. */
  keepAlive: KeepAlive | false
  /** What was asked for, by its name in `options.ts`, to set before connecting or listening; what has a field is in it, too. */
  options?: ReadonlyMap<string, unknown> | undefined
}

export interface DialSettings extends StreamSettings {
  /** Local address to bind before connecting. */
  from?: Address | undefined
}

export interface KeepAlive {
  idle: number
  interval: number
  count: number
}

export interface ListenSettings extends StreamSettings {
  backlog: number
  ipv6Only: boolean
  reusePort: boolean
}

/** What a driver guarantees, as data. `true` is exact; a text says what is missing. */
export interface Guarantees {
  /** A reset is never taken for an end. */
  resetIsNeverEnd: true | string
  /** Bytes that arrived before a reset or a failed write stay readable. */
  dataBeforeError: true | string
  /** Accepting really stops while nobody takes connections. */
  acceptStops: true | string
  /** Connections closed unserved are counted exactly. */
  unservedExact: true | string
  /** Keep-alive interval and count are set as asked. */
  keepAliveExact: true | string
  /** UNIX-domain stream sockets, and abstract names. */
  unix: true | string
  abstractUnix: true | string
  /** UNIX-domain datagram and sequenced-packet sockets. */
  unixgram: true | string
  unixpacket: true | string
  /** A datagram longer than what it is read into is told. */
  truncationTold: true | string
  /** Descriptors can be sent and received over UNIX sockets. */
  descriptors: true | string
  /** Sockets of others can be taken over by their descriptors. */
  adoption: true | string
}

export interface Driver {
  readonly name: string
  readonly guarantees: Guarantees
  /** Options that this driver can set in principle, and not in this version of the runtime. */
  readonly lacks?: ReadonlySet<string> | undefined
  /** Starts connecting; calls `done` exactly once unless cancelled by the returned function, which closes what came late. */
  dial(to: Address, settings: DialSettings, done: (error: unknown, handle?: StreamHandle) => void): () => void
  listen(at: Address, settings: ListenSettings): Promise<ListenerHandle>
  /** Makes a datagram socket. Rejects with code UNSUPPORTED where this driver has none of this type and family. */
  bind(at: Address, settings: BindSettings): Promise<DatagramHandle>
  /**
   * Take over a descriptor that others made, with its state and its options as they are; it is closed with the handle. Reject
   * what is no socket of the kind (ENOTSOCK, EBADF, EINVAL) and leave it open then. Absent where a driver cannot.
   */
  adoptStream?(descriptor: number): Promise<StreamHandle>
  adoptListener?(descriptor: number, settings: ListenSettings): Promise<ListenerHandle>
  adoptDatagram?(descriptor: number, settings: BindSettings): Promise<DatagramHandle>
}

/** Time. Moments are monotonic milliseconds with an arbitrary origin. */
export interface Clock {
  now(): number
  /** The wall-clock time, epoch milliseconds, of this moment. */
  wall(): number
  /** Calls `fn` once at `when` or soon after, never before. Returns what cancels it. */
  at(when: number, fn: () => void): () => void
}
