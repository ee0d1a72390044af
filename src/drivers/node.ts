/** The default driver, on `node:net`: works wherever Node's API does. */

import { readFileSync, readSync, writeSync } from 'node:fs'
import { createServer, type ListenOptions, type Server, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { type Address, sameAddress, UNNAMED } from '../address.js'
import type {
  BindSettings,
  DatagramHandle,
  DialSettings,
  Driver,
  Guarantees,
  ListenerHandle,
  ListenSettings,
  StreamHandle,
} from '../driver.js'
import { adopt, bind } from './dgram.js'
import { examine } from './examine.js'
import { DuplexHandle, type DuplexHooks, SLAB } from './duplex.js'
import { addressFrom, hostFor } from './node-address.js'
import { refusal } from './refusal.js'
import type { Remembered } from './remembered.js'
import { onNode } from './runtime.js'
import { EXACT_KEEP_ALIVE, LACKS, listenerOptions, socketOptions, TCP, tcpValues, tune, wholeSeconds } from './socket-options.js'

/** Descriptors the process may have (RLIMIT_NOFILE) where the system shows it. */
const DESCRIPTORS = descriptorLimit()
/** Connections accepted by the runtime and not yet taken; beyond it they are closed and counted. */
const PARKED = Math.max(1, Math.min(64, Math.floor(DESCRIPTORS / 16)))
/**
 * A connection whose descriptor is this high is closed and counted. Descriptors are given out from the lowest, so this
 * many are in use; at the limit itself libuv would accept and close connections without a word.
 */
const TOO_HIGH = DESCRIPTORS - Math.min(32, Math.floor(DESCRIPTORS / 8))

const onWindows = process.platform === 'win32'

const adoptionHere =
  process.platform === 'linux'
    ? true
    : 'what is no socket of the kind is closed rather than left alone; no UNIX listeners; of UDP IPv4 alone'

const guarantees: Guarantees = {
  resetIsNeverEnd: true,
  dataBeforeError: true,
  acceptStops: 'the runtime goes on accepting: up to 64 connections are parked unread, more are closed and counted',
  unservedExact: 'connections the runtime dropped for want of descriptors are inferred, and marked as estimated',
  keepAliveExact: 'the interval and the number of probes are the runtime’s on older versions of Node',
  unix: onWindows ? 'named pipes only' : true,
  abstractUnix: process.platform === 'linux' && onNode ? true : 'Linux on Node only',
  unixgram: 'not in the runtime; the kernel driver has them',
  unixpacket: 'not in the runtime; the kernel driver has them',
  truncationTold: 'the runtime reads up to 64 KiB, which no UDP datagram exceeds',
  descriptors: 'not in the runtime; the kernel driver has them',
  adoption: onNode && !onWindows ? adoptionHere : 'Node only, and not on Windows',
}

/** Talks through the runtime's own sockets. */
export function node(): Driver {
  const adoption = onNode && !onWindows && { adoptStream, adoptListener, adoptDatagram }
  return { name: 'node', guarantees, lacks: LACKS, dial, listen, bind, ...adoption }
}

function dial(to: Address, settings: DialSettings, done: (error: unknown, handle?: StreamHandle) => void): () => void {
  const socket = new Socket({ allowHalfOpen: true })
  const making = makingOf(settings)
  let over = false
  const finish = (error: unknown) => {
    if (over) return
    over = true
    socket.off('error', finish).off('connect', connected)
    if (error === undefined) return done(undefined, handleOf(socket, to, making.hooks))
    socket.destroy()
    done(error)
  }
  const connected = () => finish(undefined)
  socket.on('error', finish).on('connect', connected)
  // Paused before it connects, or Node starts reading at once.
  socket.pause()
  try {
    if (to.family === 'unix') socket.connect({ path: systemPath(to) })
    else {
      const from = settings.from?.family === 'unix' ? undefined : settings.from
      // The runtime knows these as options of a new socket alone; it sets them once connected.
      tune(socket, making.values)
      socket.connect({
        host: hostFor(to),
        port: to.port,
        family: to.family === 'ipv6' ? 6 : 4,
        ...(from && { localAddress: from.address, localPort: from.port }),
      })
    }
  } catch (error) {
    // `connect` throws for a port or address it does not like; `done` must not run before the canceller is returned.
    queueMicrotask(() => finish(error))
  }
  return () => {
    if (over) return
    over = true
    socket.on('error', () => {})
    socket.destroy()
  }
}

function systemPath(address: { path: string; abstract: boolean }): string {
  return address.abstract ? `\0${address.path}` : address.path
}

/** For sockets that others made and may know, with options that nothing is known of. */
const THEIRS: DuplexHooks = {
  judgeEnd: lastWord,
  prompt: onNode,
  descriptor: (stream) => descriptor(stream as Socket),
  options: (current, unix) => socketOptions(current as () => Socket, unix ? 'unix' : TCP),
}
const OURS: DuplexHooks = { ...THEIRS, direct, offer }

/** Hooks of our own sockets that were made with `values`. */
function hooksFor(values: ReadonlyMap<string, unknown>): DuplexHooks {
  return { ...OURS, options: (current, unix) => socketOptions(current as () => Socket, unix ? 'unix' : values) }
}

/** What sockets are made with. */
interface Making {
  readonly settings: Pick<DialSettings, 'noDelay' | 'keepAlive' | 'options'>
  readonly values: ReadonlyMap<string, unknown>
  readonly hooks: DuplexHooks
}

/** That of the last dial: one program's dials mostly ask for the same. */
let lastMaking: Making | undefined

function makingOf(settings: Making['settings']): Making {
  const last = lastMaking
  if (last !== undefined && last.settings.noDelay === settings.noDelay && !last.settings.options && !settings.options) {
    const [a, b] = [last.settings.keepAlive, settings.keepAlive]
    if (a === b || (a && b && a.idle === b.idle && a.interval === b.interval && a.count === b.count)) return last
  }
  const values = tcpValues(settings)
  return (lastMaking = { settings, values, hooks: hooksFor(values) })
}

/** The addresses made last: one listener's connections mostly share theirs, and many clients come from one host. */
let lastLocal: Address = UNNAMED
let lastRemoteText = ''

/** A connected `net.Socket` as a handle. `peer` is what was dialled, for sockets that do not know their peer. */
export function handleOf(socket: Socket, peer?: Address, hooks: DuplexHooks = THEIRS, name: Address = UNNAMED): DuplexHandle {
  const bound = ipOf(socket.localAddress, socket.localPort)
  const local = bound ?? name
  // A TCP peer that has gone already has no name any more.
  const unnamed = bound === undefined ? UNNAMED : undefined
  const text = socket.remoteAddress
  if (text !== lastRemoteText) lastRemoteText = text ?? ''
  const remote = ipOf(text === undefined ? undefined : lastRemoteText, socket.remotePort) ?? (peer?.family === 'unix' ? peer : unnamed)
  if (!sameAddress(local, lastLocal)) lastLocal = local
  // The runtime keeps what it said, twice 150 bytes for each connection; we have our own.
  const said = socket as { _peername?: unknown; _sockname?: unknown }
  said._peername = said._sockname = undefined
  if (hooks !== THEIRS) withoutEndListener(socket)
  return new DuplexHandle(socket, lastLocal, remote, hooks)
}

/** What is used of a socket beyond its public face. */
interface Inside {
  _handle: { useUserBuffer?: unknown } | null
  server?: unknown
  _server?: unknown
}

/**
 * Node lets a socket read into memory that is used again (`onread`), which saves an allocation of 64 KiB and the readable
 * stream's bookkeeping at each read, but takes that for sockets one makes oneself only. Those of a server, and those that
 * were dialled, are therefore made once more around the same handle.
 */
function direct(stream: Duplex, take: (count: number) => boolean): Duplex | undefined {
  const socket = stream as Socket & Inside
  const handle = socket._handle
  if (!onNode || typeof handle?.useUserBuffer !== 'function') return undefined
  const options = { handle, allowHalfOpen: true, manualStart: true, onread: { buffer: SLAB, callback: take } }
  const again = new Socket(options as unknown as ConstructorParameters<typeof Socket>[0]) as Socket & Inside
  withoutEndListener(again)
  // A server counts its connections down by these.
  again.server = socket.server
  again._server = socket._server
  socket._handle = null
  return again
}

/** Node's own listener does nothing where the peer's end leaves the other direction open, and costs each connection a list of two. */
function withoutEndListener(socket: Socket): void {
  for (const listener of socket.listeners('end')) socket.off('end', listener as () => void)
}

function ipOf(address: string | undefined, port: number | undefined): Address | undefined {
  return address === undefined || port === undefined ? undefined : addressFrom(address, port)
}

function descriptor(socket: Socket & { encrypted?: boolean }): number | undefined {
  const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd
  // What is left on the descriptor of a TLS socket are records, not bytes of its stream.
  if (socket.encrypted === true) return undefined
  return onNode && !onWindows && typeof fd === 'number' && fd >= 0 ? fd : undefined
}

/**
 * `write(2)` itself, which says how much the system took. Not for sockets that others made, whose `bytesWritten` would miss these,
 * and dearer than the runtime's own way for small pieces.
 */
function offer(stream: Duplex, data: Uint8Array): number {
  const fd = descriptor(stream as Socket)
  if (fd === undefined) return 0
  try {
    return writeSync(fd, data)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0
    throw error
  }
}

const scratch = new Uint8Array(64 * 1024)

/**
 * What the system says at an `end`. libuv (before 2026) takes a hang-up behind a short read for an end of file without
 * asking the system: a reset then looks like a clean end. Reading once more asks: 0 is an end, ECONNRESET is not.
 */
function lastWord(stream: Duplex): { data?: Uint8Array; error?: unknown } | undefined {
  const fd = descriptor(stream as Socket)
  if (fd === undefined) return undefined
  let data: Uint8Array | undefined
  try {
    for (let count = readSync(fd, scratch, 0, scratch.length, null); count > 0; count = readSync(fd, scratch, 0, scratch.length, null)) {
      const more = new Uint8Array((data?.length ?? 0) + count)
      if (data) more.set(data)
      more.set(scratch.subarray(0, count), data?.length ?? 0)
      data = more
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return data ? { data, error } : { error }
  }
  return data && { data }
}

async function adoptStream(fd: number): Promise<StreamHandle> {
  const known = examine(fd, 'stream')
  if (isInUse(fd)) throw refusal('EEXIST', `descriptor ${fd} is that of an open socket of this process`)
  const settings = { fd, allowHalfOpen: true, readable: true, writable: true, manualStart: true }
  const socket = new Socket(settings as ConstructorParameters<typeof Socket>[0])
  if (known === undefined && socket.remoteAddress === undefined && socket.localAddress !== undefined) {
    socket.on('error', ignore).destroy()
    throw refusal('ENOTCONN', `descriptor ${fd} is not connected`)
  }
  return handleOf(socket, undefined, OURS, known?.local)
}

/** libuv refuses a descriptor that it waits on, and would take that of a socket nobody reads a second time. */
function isInUse(fd: number): boolean {
  const { _getActiveHandles: handles } = process as { _getActiveHandles?(): { _handle?: { fd?: number } | null }[] }
  return handles?.call(process).some(({ _handle }) => _handle?.fd === fd) ?? false
}

async function adoptListener(fd: number, settings: ListenSettings): Promise<ListenerHandle> {
  const known = examine(fd, 'listener')
  const server = await serving(settings, { fd })
  const bound = server.address()
  const local = typeof bound === 'object' && bound ? addressFrom(bound.address, bound.port) : known?.local
  if (local === undefined) {
    server.close()
    throw refusal('UNSUPPORTED', `this system does not tell where descriptor ${fd} listens`)
  }
  return new NodeListener(server, local, listenerOptions(settings, local.family === 'unix'))
}

function adoptDatagram(fd: number, settings: BindSettings): Promise<DatagramHandle> {
  const known = examine(fd, 'datagram')
  return adopt(fd, known?.family ?? 'ipv4', known?.connected ?? false, settings)
}

/** A server that listens at `where`. */
async function serving(settings: ListenSettings, where: ListenOptions & { fd?: number }): Promise<Server> {
  const server = createServer({
    allowHalfOpen: true,
    pauseOnConnect: true,
    noDelay: settings.noDelay,
    // Where more can be set than the server knows of, each connection is given all of it.
    ...(settings.keepAlive && !EXACT_KEEP_ALIVE && { keepAlive: true, keepAliveInitialDelay: wholeSeconds(settings.keepAlive.idle) }),
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    // `exclusive`: in a cluster worker the descriptor would otherwise live in the primary, with an accept queue of its own.
    server.listen({ ...where, backlog: settings.backlog, exclusive: true }, () => {
      server.off('error', reject)
      resolve()
    })
  })
  return server
}

async function listen(at: Address, settings: ListenSettings): Promise<ListenerHandle> {
  const { ipv6Only, reusePort } = settings
  const where =
    at.family === 'unix' ? { path: systemPath(at) } : { host: hostFor(at), port: at.port, ipv6Only, ...(reusePort && { reusePort }) }
  const server = await serving(settings, where)
  const bound = server.address()
  const local = at.family !== 'unix' && bound !== null && typeof bound === 'object' ? { ...at, port: bound.port } : at
  return new NodeListener(server, local, listenerOptions(settings, at.family === 'unix'))
}

class NodeListener implements ListenerHandle {
  readonly local: Address
  readonly unserved: { count: number; estimated: boolean } = { count: 0, estimated: false }
  readonly #server: Server
  readonly #parked: Socket[] = []
  #events: { acceptable(): void } | undefined
  #error: unknown
  #closed = false
  #paused = false
  readonly options: Remembered
  #making: Pick<Making, 'values' | 'hooks'>
  /** Connections come from the runtime without something that they are made with. */
  #tunes: boolean

  constructor(server: Server, local: Address, options: Remembered) {
    this.#server = server
    this.local = local
    this.options = options
    this.#making = { values: options.values, hooks: hooksFor(options.values) }
    this.#tunes = local.family !== 'unix' && (EXACT_KEEP_ALIVE || this.#making.values.has('typeOfService'))
    server.on('connection', (socket) => this.#park(socket))
    server.on('error', (error) => {
      this.#error = error
      this.#events?.acceptable()
    })
  }

  #park(socket: Socket): void {
    const high = (descriptor(socket) ?? 0) >= TOO_HIGH
    if (this.#closed || this.#parked.length >= PARKED || high) {
      this.unserved.count++
      if (high) this.unserved.estimated = true
      socket.on('error', () => {})
      socket.destroy()
      return
    }
    // A parked socket that fails has nobody to tell; whoever takes it will see it destroyed.
    socket.on('error', ignore)
    this.#parked.push(socket)
    if (!this.#paused) this.#events?.acceptable()
  }

  attach(events: { acceptable(): void }): void {
    this.#events = events
    if (this.#parked.length > 0) queueMicrotask(() => events.acceptable())
  }

  accept(): StreamHandle | undefined {
    if (this.#error !== undefined) {
      const error = this.#error
      this.#error = undefined
      throw error
    }
    const socket = this.#parked.shift()
    if (socket === undefined) return undefined
    const { values } = this.options
    if (values !== this.#making.values) {
      this.#making = { values, hooks: hooksFor(values) }
      this.#tunes = true
    }
    if (this.#tunes && !socket.destroyed) tune(socket, values)
    const handle = handleOf(socket, undefined, this.#making.hooks)
    socket.off('error', ignore)
    return handle
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    if (this.#parked.length > 0) queueMicrotask(() => this.#events?.acceptable())
  }

  close(done: () => void): void {
    if (this.#closed) return done()
    this.#closed = true
    for (const socket of this.#parked.splice(0)) {
      this.unserved.count++
      socket.destroy()
    }
    // `close` waits for every connection ever accepted; the listening descriptor itself is gone at once.
    this.#server.close()
    setImmediate(done)
  }

  get descriptor(): number {
    return descriptor(this.#server as unknown as Socket) ?? -1
  }

  ref(): void {
    this.#server.ref()
  }

  unref(): void {
    this.#server.unref()
  }
}

function ignore(): void {}

function descriptorLimit(): number {
  try {
    return Number(/^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1] ?? Number.POSITIVE_INFINITY)
  } catch {
    // Only Linux has it.
    return Number.POSITIVE_INFINITY
  }
}
