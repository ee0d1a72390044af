/**
 * Datagrams of the node driver, on `node:dgram`.
 *
 * Receiving: the runtime pushes, so what nobody has taken waits in a {@link DatagramQueue}. It reads into 64 KiB, more than
 * a datagram can have, so none is cut off.
 *
 * Sending: `Socket.send` looks the address up on a later turn and takes closures to say how it went. On Node the handle
 * below it is used instead, which says at once whether the system took a datagram; everything else goes the public way.
 */

import type { BindOptions, RemoteInfo, Socket, SocketOptions } from 'node:dgram'
import { getSystemErrorName } from 'node:util'
import type { Address, IpAddress } from '../address.js'
import { nodeDgram } from '../builtin.js'
import type { BindSettings, DatagramHandle, OptionHandle, RawDatagram, StreamEvents } from '../driver.js'
import { datagramOptions, interfaceFor, MADE_WITH } from './datagram-options.js'
import { addressFrom, hostFor } from './node-address.js'
import { DatagramQueue } from './queue.js'
import { refusal } from './refusal.js'
import { onDeno, onNode } from './runtime.js'

/** Bytes taken and not yet in the system at which `send` takes no more. The system's own buffer, of about as much, comes first. */
const IN_FLIGHT = 256 * 1024
/** The largest datagram that any system carries, and more. */
const LARGEST = 64 * 1024
/** Times a datagram is sent again where the system answers with what it has heard about an earlier one. */
const AGAIN = 16

/** Deno sends several in any order: the last first, mostly. */
const AT_ONCE = onDeno ? 1 : Number.POSITIVE_INFINITY

type Done = (error?: unknown) => void

/** Makes a UDP socket and binds it; with `to` in the settings, connects it as well. */
export async function bind(at: Address, settings: BindSettings): Promise<DatagramHandle> {
  if (at.family === 'unix' || settings.type !== 'datagram') throw refusal('UNSUPPORTED', 'node:dgram knows UDP alone')
  const overIpv6 = at.family === 'ipv6'
  const socket = newSocket(overIpv6, {
    reuseAddr: settings.reuseAddress,
    ...(overIpv6 && { ipv6Only: settings.ipv6Only }),
    ...(settings.reusePort && { reusePort: true }),
  })
  try {
    // A runtime that does not know the option ignores it.
    if (settings.reusePort && !stateOf(socket)?.reusePort) throw refusal('UNSUPPORTED', 'sharing a port needs Node 23.1 or later')
    await bound(socket, { address: hostFor(at), port: at.port })
    const { to } = settings
    const options = datagramOptions(socket, overIpv6, settings)
    // Before it connects: the peer may be a broadcast address, which has to be allowed.
    for (const [name, value] of settings.options) if (!MADE_WITH.has(name)) options.set(name, value)
    if (to?.family === 'unix') throw refusal('UNSUPPORTED', 'node:dgram knows UDP alone')
    if (to !== undefined) {
      await new Promise<void>((resolve, reject) => {
        const connected = (error?: Error | null) => (error ? reject(error) : resolve())
        socket.connect(to.port, hostFor(to, overIpv6), connected)
      })
    }
    return new NodeDatagrams(socket, at, settings, options)
  } catch (error) {
    throw givenUp(socket, error)
  }
}

/** Takes a UDP socket of this family over that others made. */
export async function adopt(fd: number, family: Address['family'], connected: boolean, settings: BindSettings): Promise<DatagramHandle> {
  if (family === 'unix' || settings.type !== 'datagram') throw refusal('UNSUPPORTED', 'node:dgram knows UDP alone')
  const overIpv6 = family === 'ipv6'
  const socket = newSocket(overIpv6, {})
  try {
    await bound(socket, { fd } as BindOptions)
    const at = named(socket.address(), undefined)
    if (at.family !== family) throw refusal('UNSUPPORTED', 'this system does not tell the family of a UDP socket that others made')
    const state = stateOf(socket)
    // CONNECT_STATE_CONNECTED: what the system knows already, the runtime does not ask.
    if (connected && state !== undefined) state.connectState = 2
    const to = connected ? named(socket.remoteAddress(), undefined) : undefined
    return new NodeDatagrams(socket, at, { ...settings, to }, datagramOptions(socket, overIpv6, settings))
  } catch (error) {
    throw givenUp(socket, error)
  }
}

function newSocket(overIpv6: boolean, o: Omit<SocketOptions, 'type' | 'lookup'> & { reusePort?: boolean }): Socket {
  const lookup = literally as unknown as NonNullable<SocketOptions['lookup']>
  return nodeDgram().createSocket({ ...o, type: overIpv6 ? 'udp6' : 'udp4', lookup })
}

/** `exclusive`: in a cluster worker the descriptor would otherwise live in the primary. */
function bound(socket: Socket, o: BindOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('error', reject)
    socket.bind({ ...o, exclusive: true }, () => {
      socket.off('error', reject)
      resolve()
    })
  })
}

/** Closes a socket that came to nothing, because of `error`. */
function givenUp(socket: Socket, error: unknown): unknown {
  socket.on('error', () => {})
  socket.close()
  return error
}

/** Addresses need no looking up; the runtime's own way takes a turn of the tick queue even so. */
function literally(address: string, family: number, done: (error: null, address: string, family: number) => void): void {
  done(null, address, family)
}

const SEEN = 256
/** The senders seen last, by port, and how the runtime spelled them: many datagrams share few senders. */
const seen: (IpAddress | undefined)[] = Array.from({ length: SEEN }, () => undefined)
const spelled: string[] = Array.from({ length: SEEN }, () => '')

function senderOf({ address, port }: { address: string; port: number }): IpAddress {
  const slot = port % SEEN
  const known = seen[slot]
  if (known !== undefined && known.port === port && spelled[slot] === address) return known
  spelled[slot] = address
  return (seen[slot] = Object.freeze(addressFrom(address, port)))
}

/** An address that the system told of a socket; `scope` is what it was asked for with. */
function named({ address, port }: { address: string; port: number }, scope: string | undefined): IpAddress {
  const told = addressFrom(address, port)
  return Object.freeze(scope === undefined || told.scope !== undefined ? told : { ...told, scope })
}

/** Memory of its own, without being a `Buffer`: runtimes that cut datagrams from a shared slab are copied from. */
function own(data: Buffer): Uint8Array {
  const { buffer } = data
  // Without offset and length, which older versions of V8 take long to check.
  return data.length === buffer.byteLength ? new Uint8Array(buffer) : new Uint8Array(data)
}

/** What is used of a socket's handle. Its `send` returns above 0 if the system has the datagram, 0 if it will, below 0 an error. */
interface Direct {
  readonly fd?: number
  onmessage: (count: number, handle: unknown, data: Buffer, sender: RemoteInfo) => void
  send(
    request: Request,
    list: readonly Uint8Array[],
    count: number,
    ...rest: readonly [number, string, boolean] | readonly [boolean]
  ): number
}

/** What libuv reports to when it sends later. */
interface Request {
  oncomplete?: (this: Request, error: number) => void
}

/** A request under way: what is sent, which is in nobody else's hands, and who wants to know. */
interface Sent extends Request {
  readonly list: readonly [Uint8Array]
  readonly to: IpAddress | undefined
  readonly done: Done
  readonly left: number
  readonly sender: NodeDatagrams
}

/** How requests are made on this Node, for sending to an address and to the connected peer; null where that is not as expected. */
const makers: { address?: (new () => Request) | null; peer?: (new () => Request) | null } = {}

/** What Node keeps in a socket of its own. */
function stateOf(socket: Socket): { handle?: Direct | null; reusePort?: boolean; connectState?: number } | undefined {
  const symbol = onNode ? Object.getOwnPropertySymbols(socket).find(({ description }) => description === 'state symbol') : undefined
  return symbol && (socket as unknown as Record<symbol, ReturnType<typeof stateOf>>)[symbol]
}

/** The handle of a bound socket, if it has the shape that is known here. */
function directHandle(socket: Socket): Direct | undefined {
  const handle = stateOf(socket)?.handle
  return typeof handle?.send === 'function' && handle.onmessage?.length === 4 ? handle : undefined
}

/** Lets `Socket.send` call the handle once, which is made to swallow it, to see what it is called with. */
function makerOf(socket: Socket, handle: Direct, connected: boolean, overIpv6: boolean): (new () => Request) | null {
  const kind = connected ? 'peer' : 'address'
  const known = makers[kind]
  if (known !== undefined) return known
  const host = overIpv6 ? '::1' : '127.0.0.1'
  const { send } = handle
  let given: readonly unknown[] = []
  handle.send = (...values) => {
    given = values
    return 1
  }
  if (connected) socket.send(slabCut(0))
  else socket.send(slabCut(0), 9, host)
  handle.send = send
  const [request, list, count, ...rest] = given as [Request | undefined, unknown, unknown, ...unknown[]]
  const expected = connected ? [false] : [9, host, false]
  const fits = Array.isArray(list) && count === 1 && rest.length === expected.length && rest.every((value, i) => value === expected[i])
  return (makers[kind] = fits && request !== undefined ? (request.constructor as new () => Request) : null)
}

/** What is sent lies here until the system has it, which mostly is at once; then the next one does. */
let slab: Buffer = Buffer.alloc(0)
let lastCut: Buffer = slab
const LIST: [Uint8Array] = [slab]
let spare: Request | undefined

function slabCut(size: number): Buffer {
  // Not a cut of the runtime's pool, as it may have to be given away.
  if (slab.length === 0) slab = Buffer.allocUnsafeSlow(LARGEST)
  if (lastCut.length !== size || lastCut.buffer !== slab.buffer) lastCut = slab.subarray(0, size)
  return lastCut
}

function failure(errno: number, syscall: string): Error {
  const code = getSystemErrorName(errno)
  return Object.assign(new Error(`${syscall} ${code}`), { code, errno, syscall })
}

class NodeDatagrams implements DatagramHandle {
  readonly local: Address
  readonly remote: IpAddress | undefined
  readonly options: OptionHandle
  readonly #socket: Socket
  readonly #overIpv6: boolean
  readonly #queue: DatagramQueue
  readonly #direct: Direct | undefined
  readonly #maker: (new () => Request) | null
  #events: StreamEvents | undefined
  /** The datagram that arrives now, while its taker is told of it. */
  #arriving: RawDatagram | undefined
  #error: { error: unknown } | undefined
  #inFlight = 0
  #requests = 0
  #full = false
  /** Who wants to know when it is closed, from the first call of `close`. */
  #closing: (() => void)[] | undefined
  #state: 'open' | 'released' | 'closed' = 'open'

  constructor(socket: Socket, at: IpAddress, settings: BindSettings, options: OptionHandle) {
    this.#socket = socket
    this.#overIpv6 = at.family === 'ipv6'
    this.#queue = new DatagramQueue(settings.queue, settings.held)
    this.local = named(socket.address(), at.scope)
    this.remote = settings.to && named(socket.remoteAddress(), (settings.to as IpAddress).scope)
    this.options = options
    this.#direct = directHandle(socket)
    this.#maker = this.#direct ? makerOf(socket, this.#direct, this.remote !== undefined, this.#overIpv6) : null
    socket.on('error', (error) => this.#tell(error))
    if (this.#direct === undefined) socket.on('message', (data, sender) => this.#take(data, sender))
    else {
      this.#direct.onmessage = (count, _, data, sender) => {
        if (count < 0) this.#tell(failure(count, 'recvmsg'))
        else this.#take(data, sender)
      }
    }
  }

  get dropped(): number {
    return this.#queue.dropped
  }

  attach(events: StreamEvents): void {
    this.#events = events
    if (this.#queue.length > 0 || this.#error !== undefined) queueMicrotask(() => this.#events?.readable())
  }

  #take(data: Buffer, sender: RemoteInfo): void {
    if (this.#closing !== undefined) return
    const from = senderOf(sender)
    // Between binding and connecting anybody could send.
    const { remote } = this
    if (remote !== undefined && (from.port !== remote.port || from.address !== remote.address)) return
    const datagram = { data: own(data), from, truncated: false }
    // Where some wait already, the taker has not asked in vain since it was told.
    if (this.#queue.length > 0 || this.#events === undefined) return this.#queue.push(datagram)
    this.#arriving = datagram
    this.#events.readable()
    if (this.#arriving === undefined) return
    this.#arriving = undefined
    this.#queue.push(datagram)
  }

  #tell(error: unknown): void {
    if (this.#closing !== undefined) return
    this.#error = { error }
    this.#events?.readable()
  }

  receive(): RawDatagram | undefined {
    const arriving = this.#arriving
    if (arriving !== undefined) {
      this.#arriving = undefined
      return arriving
    }
    if (this.#error !== undefined) {
      const { error } = this.#error
      this.#error = undefined
      throw error
    }
    return this.#queue.length === 0 ? undefined : this.#queue.shift()
  }

  send(data: Uint8Array, to: Address | undefined, done: Done): boolean {
    const full = this.#requests > 0 && (this.#requests >= AT_ONCE || this.#inFlight + data.length > IN_FLIGHT)
    if (full || this.#closing !== undefined) {
      this.#full = true
      return false
    }
    this.#hand(data, to as IpAddress | undefined, done, AGAIN)
    return true
  }

  #hand(data: Uint8Array, to: IpAddress | undefined, done: Done, left: number): void {
    if (this.#maker === null) this.#handPlainly(Buffer.from(data), to, done, left)
    else this.#handDirectly(data, to, done, left, this.#maker)
  }

  #handDirectly(data: Uint8Array, to: IpAddress | undefined, done: Done, left: number, maker: new () => Request): void {
    let bytes: Buffer
    if (this.#requests === 0 && data.length <= LARGEST) {
      bytes = slabCut(data.length)
      bytes.set(data)
    } else bytes = Buffer.from(data)
    LIST[0] = bytes
    const direct = this.#direct as Direct
    spare ??= new maker()
    const result =
      to === undefined ? direct.send(spare, LIST, 1, true) : direct.send(spare, LIST, 1, to.port, hostFor(to, this.#overIpv6), true)
    if (result > 0) return done()
    if (result < 0) return this.#failed(failure(result, 'send'), data, to, done, left)
    // It waits in libuv, which has no copy.
    if (bytes.buffer === slab.buffer) slab = Buffer.alloc(0)
    Object.assign(spare, { list: [bytes], to, done, left, sender: this, oncomplete: NodeDatagrams.#onComplete })
    spare = undefined
    this.#inFlight += bytes.length
    this.#requests++
  }

  /** One function for all requests. */
  static #onComplete(this: Request, error: number): void {
    const { list, to, done, left, sender } = this as Sent
    sender.#completed(list[0], to, done, left, error < 0 ? failure(error, 'send') : undefined)
  }

  #handPlainly(bytes: Buffer, to: IpAddress | undefined, done: Done, left: number): void {
    this.#inFlight += bytes.length
    this.#requests++
    const sent = (error?: unknown) => this.#completed(bytes, to, done, left, error ?? undefined)
    try {
      if (to === undefined) this.#socket.send(bytes, sent)
      else this.#socket.send(bytes, to.port, hostFor(to, this.#overIpv6), sent)
    } catch (error) {
      queueMicrotask(() => sent(error))
    }
  }

  #completed(bytes: Uint8Array, to: IpAddress | undefined, done: Done, left: number, error: unknown): void {
    this.#inFlight -= bytes.length
    this.#requests--
    if (error === undefined) done()
    else this.#failed(error, bytes, to, done, left)
    if (this.#closing !== undefined) this.#release()
    else if (this.#full && this.#inFlight <= IN_FLIGHT / 2) {
      this.#full = false
      this.#events?.writable()
    }
  }

  /** The system may refuse a datagram with the answer to an earlier one, which is for whoever receives: then it is sent again. */
  #failed(error: unknown, data: Uint8Array, to: IpAddress | undefined, done: Done, left: number): void {
    if (left === 0 || (error as { code?: unknown }).code !== 'ECONNREFUSED') return done(error)
    queueMicrotask(() => this.#tell(error))
    this.#hand(data, to, done, left - 1)
  }

  join(group: string, interfaceName: string | undefined, source: string | undefined): void {
    const at = interfaceName === undefined ? undefined : interfaceFor(interfaceName, group.includes(':'))
    if (source === undefined) this.#socket.addMembership(group, at)
    else this.#socket.addSourceSpecificMembership(source, group, at)
  }

  leave(group: string, interfaceName: string | undefined, source: string | undefined): void {
    const at = interfaceName === undefined ? undefined : interfaceFor(interfaceName, group.includes(':'))
    if (source === undefined) this.#socket.dropMembership(group, at)
    else this.#socket.dropSourceSpecificMembership(source, group, at)
  }

  close(done: () => void): void {
    if (this.#state === 'closed') return done()
    ;(this.#closing ??= []).push(done)
    this.#arriving = undefined
    this.#error = undefined
    this.#queue.clear()
    this.#release()
  }

  #release(): void {
    if (this.#state !== 'open' || this.#requests > 0) return
    this.#state = 'released'
    this.#socket.close(() => {
      this.#state = 'closed'
      for (const done of this.#closing ?? []) done()
    })
  }

  get descriptor(): number {
    return this.#state === 'open' ? (this.#direct?.fd ?? -1) : -1
  }

  ref(): void {
    this.#socket.ref()
  }

  unref(): void {
    this.#socket.unref()
  }
}
