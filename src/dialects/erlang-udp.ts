/** `gen_udp`: datagram sockets. */

import {
  type Address,
  bind,
  Broken,
  type Datagram,
  type DatagramSocket,
  type Delivery,
  type EndpointObject,
  lookup,
  sameAddress,
} from '../index.js'
import type { Data, HeaderData } from './erlang-messages.js'
import { type ActiveMode, isCount, isDescriptor, systemValue } from './erlang-options.js'
import { alarm, current, Exit, keep, Linkable, type Pid, Process, processOf, harmless } from './erlang-process.js'
import { posixReason, type UdpReason } from './erlang-reasons.js'
import { addressPair, type SocketAddress, withHeader } from './erlang-socket.js'
import {
  type Failure,
  type HostAddress,
  ioBytes,
  type IoData,
  type IpTuple,
  ipTextOf,
  ipTupleOf,
  isIpTuple,
  isTimeout,
  isWhole,
  type LocalAddress,
  type Ok,
  textOf,
  type Timeout,
} from './erlang-terms.js'

export type UdpOption =
  | 'binary'
  | 'list'
  | 'inet'
  | 'inet6'
  | readonly ['mode', 'binary' | 'list']
  | readonly ['active', ActiveMode]
  | readonly ['header', number]
  | readonly ['ip', string | IpTuple]
  | readonly ['ifaddr', string | IpTuple]
  | readonly ['fd', number]
  | readonly ['reuseaddr', boolean]
  | readonly ['broadcast', boolean]
  | readonly ['recbuf', number]
  | readonly ['sndbuf', number]
  | readonly ['ttl', number]
  | readonly ['multicast_ttl', number]
  | readonly ['multicast_loop', boolean]
  | readonly ['multicast_if', IpTuple]
  | readonly ['add_membership', readonly [IpTuple, IpTuple]]
  | readonly ['drop_membership', readonly [IpTuple, IpTuple]]

/** What is received under a list of options. */
export type UdpDataOf<O extends readonly unknown[]> = number extends O['length']
  ? Data
  : Extract<O[number], 'binary' | readonly ['mode', 'binary']> extends never
    ? string
    : Extract<O[number], readonly ['header', number]> extends never
      ? Uint8Array
      : Uint8Array | HeaderData

interface Settings {
  mode: 'binary' | 'list'
  active: ActiveMode
  header: number
  ip: IpTuple | undefined
  /** The descriptor of a socket that is bound already. */
  fd: number | undefined
  family: 4 | 6
  reuseaddr: boolean
  broadcast: boolean | undefined
  recbuf: number | undefined
  sndbuf: number | undefined
  ttl: number | undefined
  multicastTtl: number | undefined
  multicastLoop: boolean | undefined
  multicastIf: IpTuple | undefined
}

type Membership = readonly ['join' | 'leave', IpTuple, IpTuple]
/** `[Address, Port, Data]`. */
export type Received<D> = readonly [IpTuple | LocalAddress, number, D]

/** Bytes in messages that the owner has not taken out of its mailbox; then the system's own queue has to do. */
const MAILBOX = 1024 * 1024

/** A bound datagram socket; `D` is what it receives. */
export class UdpSocket<D = Data> {
  declare readonly data: D
  readonly #socket: DatagramSocket
  readonly #settings: Settings
  readonly #bond: Linkable
  #owner: Process
  #delivery: Delivery
  #peer: Address | undefined
  #queue: Datagram[] = []
  #waiting = 0
  #receiver: ((result: Ok<unknown> | Failure<UdpReason>) => void) | undefined
  #closed = false
  #counts = { recv_cnt: 0, recv_oct: 0, recv_max: 0, send_cnt: 0, send_oct: 0, send_max: 0 }

  /** @internal */
  constructor(socket: DatagramSocket, settings: Settings, owner: Process) {
    this.#socket = socket
    this.#settings = settings
    this.#owner = owner
    this.#bond = new Linkable((from, reason, kind) => {
      if (reason === 'normal' && (kind === 'exit' || from !== this.#owner.pid)) return
      this.#bond.leave(reason)
      void this.close()
    })
    this.#bond.link(owner)
    keep(socket)
    if (typeof settings.active === 'number') this.#activate(settings.active)
    this.#delivery = this.#deliver()
  }

  get #wants(): boolean {
    if (this.#closed) return false
    return this.#receiver !== undefined || (this.#settings.active !== false && this.#waiting < MAILBOX)
  }

  #deliver(): Delivery {
    const delivery = this.#socket.deliver(this.#wants ? 'active' : 'passive', (datagram) => this.#arrived(datagram))
    void delivery.done.then(({ reason }) => {
      if (this.#closed || this.#delivery !== delivery) return
      // A peer that is not there is told of once, and the socket goes on.
      if (reason instanceof Broken) {
        this.#delivery = this.#deliver()
        this.#failed(posixReason(reason))
      }
    })
    return delivery
  }

  #regulate(): void {
    const wants = this.#wants
    if (wants !== (this.#delivery.mode !== 'passive')) this.#delivery.set(wants ? 'active' : 'passive')
  }

  #arrived(datagram: Datagram): void {
    if (this.#peer !== undefined && !sameAddress(this.#peer, datagram.from)) return
    const { length } = datagram.data
    this.#counts.recv_cnt++
    this.#counts.recv_oct += length
    this.#counts.recv_max = Math.max(this.#counts.recv_max, length)
    this.#queue.push(datagram)
    this.#serve()
  }

  #serve(): void {
    const receiver = this.#receiver
    if (receiver !== undefined) {
      const datagram = this.#queue.shift()
      if (datagram !== undefined) {
        this.#receiver = undefined
        receiver(['ok', this.#shaped(datagram)])
      }
    }
    while (this.#settings.active !== false && this.#waiting < MAILBOX) {
      const datagram = this.#queue.shift()
      if (datagram === undefined) break
      this.#post(datagram)
    }
    this.#regulate()
  }

  #shaped({ from, data }: Datagram): Received<unknown> {
    const { mode, header } = this.#settings
    const shaped = mode === 'list' ? textOf(data) : withHeader(data, header)
    if (from.family === 'unix') return [['local', from.path], 0, shaped]
    return [ipTupleOf(from.address) as IpTuple, from.port, shaped]
  }

  #post(datagram: Datagram): void {
    const size = datagram.data.length + 256
    this.#waiting += size
    const { active } = this.#settings
    if (active === 'once') this.#settings.active = false
    if (typeof active === 'number') this.#settings.active = active > 1 ? active - 1 : false
    this.#owner.put(['udp', this, ...this.#shaped(datagram)], this, () => {
      this.#waiting -= size
      if (!this.#closed) this.#serve()
    })
    if (active === 1) this.#owner.put(['udp_passive', this], this)
  }

  #failed(reason: UdpReason): void {
    const receiver = this.#receiver
    if (receiver !== undefined) {
      this.#receiver = undefined
      receiver(['error', reason])
    } else if (this.#settings.active !== false) this.#owner.put(['udp_error', this, reason], this)
    this.#regulate()
  }

  /** @internal */
  get pid(): Pid {
    return this.#bond.pid
  }

  /** @internal */
  get closed(): boolean {
    return this.#closed
  }

  /** @internal */
  get descriptor(): number | undefined {
    return this.#socket.descriptor
  }

  /** @internal */
  async recv(length: unknown, timeout: unknown): Promise<Ok<unknown> | Failure<UdpReason>> {
    if (!isWhole(length, 0) || !isTimeout(timeout)) return ['error', 'einval']
    if (this.#closed) return ['error', 'closed']
    if (this.#settings.active !== false) return ['error', 'einval']
    if (this.#receiver !== undefined) return ['error', 'ealready']
    const datagram = this.#queue.shift()
    if (datagram !== undefined) return ['ok', this.#shaped(datagram)]
    const process = current()
    let cancelled = () => {}
    const result = new Promise<Ok<unknown> | Failure<UdpReason>>((resolve) => {
      let cancel: (() => void) | undefined
      const receiver = (received: Ok<unknown> | Failure<UdpReason>) => {
        cancel?.()
        resolve(received)
      }
      this.#receiver = receiver
      const late = () => {
        if (this.#receiver !== receiver) return
        this.#receiver = undefined
        this.#regulate()
        receiver(['error', 'timeout'])
      }
      // Of a process that was ended meanwhile, which takes nothing from the next reader.
      cancelled = late
      if (timeout !== 'infinity') cancel = alarm(Math.max(1, timeout), late)
      this.#regulate()
    })
    return process.quietly(result, cancelled)
  }

  /** @internal */
  async send(to: EndpointObject | undefined, data: unknown): Promise<'ok' | Failure<UdpReason>> {
    if (this.#closed) return ['error', 'closed']
    const bytes = ioBytes(data)
    if (bytes === undefined) return ['error', 'einval']
    const target = to ?? this.#peer
    if (target === undefined) return ['error', 'einval']
    try {
      await current().blocking(this.#socket.send(bytes, target))
    } catch (error) {
      if (error instanceof Exit) throw error
      return ['error', posixReason(error)]
    }
    this.#counts.send_cnt++
    this.#counts.send_oct += bytes.length
    this.#counts.send_max = Math.max(this.#counts.send_max, bytes.length)
    return 'ok'
  }

  /** @internal */
  async connect(to: EndpointObject): Promise<'ok' | Failure<UdpReason>> {
    if (this.#closed) return ['error', 'closed']
    try {
      const [first] = await lookup(to.host as string, { family: this.#settings.family })
      if (first === undefined) return ['error', 'nxdomain']
      this.#peer = { family: first.family === 6 ? 'ipv6' : 'ipv4', address: first.address, port: to.port as number }
      return 'ok'
    } catch (error) {
      return ['error', posixReason(error)]
    }
  }

  /** @internal */
  async close(): Promise<'ok'> {
    if (!this.#closed) {
      this.#closed = true
      for (const process of this.#bond.links) this.#bond.unlink(process)
      this.#bond.leave('normal')
      this.#receiver?.(['error', 'closed'])
      this.#receiver = undefined
    }
    await this.#socket.close()
    return 'ok'
  }

  /** @internal */
  controlling(pid: unknown): 'ok' | Failure<UdpReason | 'badarg'> {
    if (this.#closed) return ['error', 'closed']
    const [caller, to] = [current(), processOf(pid)]
    if (caller !== this.#owner) return ['error', 'not_owner']
    if (!(to instanceof Process) || to.over !== undefined) return ['error', 'badarg']
    if (to === caller) return 'ok'
    this.#bond.unlink(caller)
    this.#bond.link(to)
    this.#owner = to
    caller.handOver(this, to)
    return 'ok'
  }

  /** @internal */
  address(side: 'local' | 'remote'): Ok<SocketAddress> | Failure<'einval' | 'enotconn'> {
    if (this.#closed) return ['error', 'einval']
    const address = side === 'local' ? this.#socket.local : this.#peer
    return address === undefined ? ['error', 'enotconn'] : ['ok', addressPair(address)]
  }

  /** @internal */
  setopts(list: unknown): 'ok' | 'einval' | 'enoprotoopt' {
    if (this.#closed) return 'einval'
    const changed = { ...this.#settings }
    const memberships: Membership[] = []
    if (!readUdpOptions(list, changed, memberships, true)) return 'einval'
    const asked = (list as readonly UdpOption[]).filter((option) => option[0] === 'active').at(-1) as
      | readonly ['active', ActiveMode]
      | undefined
    const before = this.#settings.active
    const count = typeof asked?.[1] === 'number' ? (typeof before === 'number' ? before : 0) + asked[1] : undefined
    if (count !== undefined && !isCount(count)) return 'einval'
    try {
      applyUdp(this.#socket, changed, memberships)
    } catch (error) {
      return posixReason(error) === 'enoprotoopt' ? 'enoprotoopt' : 'einval'
    }
    Object.assign(this.#settings, changed, { active: before })
    if (count !== undefined) this.#activate(count)
    else if (asked !== undefined) this.#settings.active = asked[1]
    this.#serve()
    return 'ok'
  }

  #activate(count: number): void {
    this.#settings.active = count > 0 ? count : false
    if (count <= 0) this.#owner.put(['udp_passive', this], this)
  }

  /** @internal */
  getopts(names: unknown): readonly (readonly [string, unknown])[] | undefined {
    if (!Array.isArray(names)) return undefined
    const { mode, active, header, broadcast, reuseaddr } = this.#settings
    const values: Readonly<Record<string, unknown>> = { mode, active, header, reuseaddr, broadcast: broadcast ?? false }
    const found: (readonly [string, unknown])[] = []
    for (const name of names as readonly string[]) {
      const system = Object.hasOwn(SYSTEM, name) ? SYSTEM[name] : undefined
      const value =
        system !== undefined ? systemValue(() => this.#socket.get(system)) : Object.hasOwn(values, name) ? values[name] : undefined
      if (value === undefined && system === undefined) return undefined
      if (value !== undefined) found.push([name, value])
    }
    return found
  }

  /** @internal */
  stats(): Readonly<Record<string, number>> {
    const { recv_cnt, recv_oct, send_cnt, send_oct } = this.#counts
    return {
      ...this.#counts,
      recv_avg: recv_cnt === 0 ? 0 : Math.trunc(recv_oct / recv_cnt),
      recv_dvi: 0,
      send_avg: send_cnt === 0 ? 0 : Math.trunc(send_oct / send_cnt),
      send_pend: this.#socket.stats.unsent,
    }
  }
}

/** Options whose value the system knows. */
const SYSTEM: Readonly<Record<string, 'receiveBuffer' | 'sendBuffer' | 'ttl' | 'multicastTtl' | 'multicastLoopback'>> = {
  recbuf: 'receiveBuffer',
  sndbuf: 'sendBuffer',
  ttl: 'ttl',
  multicast_ttl: 'multicastTtl',
  multicast_loop: 'multicastLoopback',
}

function defaults(): Settings {
  return {
    mode: 'list',
    active: true,
    header: 0,
    ip: undefined,
    fd: undefined,
    family: 4,
    reuseaddr: false,
    broadcast: undefined,
    recbuf: undefined,
    sndbuf: undefined,
    ttl: undefined,
    multicastTtl: undefined,
    multicastLoop: undefined,
    multicastIf: undefined,
  }
}

function readUdpOptions(list: unknown, into: Settings, memberships: Membership[], open: boolean): boolean {
  return Array.isArray(list) && (list as readonly unknown[]).every((option) => readUdpOption(option, into, memberships, open))
}

function readUdpOption(option: unknown, into: Settings, memberships: Membership[], open: boolean): boolean {
  if (option === 'binary' || option === 'list') return put(into, 'mode', option)
  if (option === 'inet' || option === 'inet6') return !open && put(into, 'family', option === 'inet6' ? 6 : 4)
  if (!Array.isArray(option) || option.length !== 2) return false
  const [name, value] = option as readonly unknown[]
  switch (name) {
    case 'mode':
      return (value === 'binary' || value === 'list') && put(into, 'mode', value)
    case 'active':
      return (typeof value === 'boolean' || value === 'once' || isCount(value)) && put(into, 'active', value)
    case 'header':
      return isWhole(value, 0) && put(into, 'header', value)
    case 'ip':
    case 'ifaddr': {
      const ip = typeof value === 'string' ? ipTupleOf(value) : isIpTuple(value) ? value : undefined
      return !open && ip !== undefined && put(into, 'ip', ip)
    }
    case 'fd':
      return !open && isDescriptor(value) && put(into, 'fd', value)
    case 'reuseaddr':
      return typeof value === 'boolean' && put(into, 'reuseaddr', value)
    case 'broadcast':
      return typeof value === 'boolean' && put(into, 'broadcast', value)
    case 'recbuf':
    case 'sndbuf':
      return isWhole(value, 1) && put(into, name, value)
    case 'ttl':
      return isWhole(value, 1, 255) && put(into, 'ttl', value)
    case 'multicast_ttl':
      return isWhole(value, 0, 255) && put(into, 'multicastTtl', value)
    case 'multicast_loop':
      return typeof value === 'boolean' && put(into, 'multicastLoop', value)
    case 'multicast_if':
      return isIpTuple(value) && put(into, 'multicastIf', value)
    case 'add_membership':
    case 'drop_membership': {
      if (!Array.isArray(value) || !isIpTuple(value[0]) || !isIpTuple(value[1])) return false
      memberships.push([name === 'add_membership' ? 'join' : 'leave', value[0], value[1]])
      return true
    }
    default:
      return false
  }
}

function put<K extends keyof Settings>(into: Settings, key: K, value: Settings[K]): true {
  into[key] = value
  return true
}

function applyUdp(socket: DatagramSocket, settings: Settings, memberships: readonly Membership[]): void {
  const { broadcast, recbuf, sndbuf, ttl, multicastTtl, multicastLoop, multicastIf } = settings
  if (broadcast !== undefined) socket.set('broadcast', broadcast)
  if (recbuf !== undefined) socket.set('receiveBuffer', recbuf)
  if (sndbuf !== undefined) socket.set('sendBuffer', sndbuf)
  if (ttl !== undefined) socket.set('ttl', ttl)
  if (multicastTtl !== undefined) socket.set('multicastTtl', multicastTtl)
  if (multicastLoop !== undefined) socket.set('multicastLoopback', multicastLoop)
  if (multicastIf !== undefined) socket.set('multicastInterface', ipTextOf(multicastIf))
  for (const [what, group, via] of memberships) {
    socket[what](ipTextOf(group), via.every((part) => part === 0) ? {} : { interface: ipTextOf(via) })
  }
}

/**
 * Opens a socket at a port, 0 for any free one, at all addresses of the machine or at `ip`. Active and in list mode unless the
 * options say otherwise.
 *
 * @returns `['ok', Socket]`, or an error: `einval`, `eaddrinuse`, `eacces`, `eaddrnotavail`
 */
export function open<const O extends readonly UdpOption[] = readonly []>(
  port: number,
  options?: O,
): Promise<Ok<UdpSocket<UdpDataOf<O>>> | Failure<UdpReason>> {
  return harmless(async () => {
    const settings = defaults()
    const memberships: Membership[] = []
    if (!isWhole(port, 0, 65_535) || !readUdpOptions(options ?? [], settings, memberships, false)) return ['error', 'einval']
    const process = current()
    process.mustLive()
    const { ip, reuseaddr, fd } = settings
    // What is bound already has its place.
    if (fd !== undefined && (port !== 0 || ip !== undefined)) return ['error', 'einval']
    if (ip?.length === 8) settings.family = 6
    const host = ip !== undefined ? ipTextOf(ip) : settings.family === 6 ? '::' : '0.0.0.0'
    try {
      const { owner } = process
      const socket =
        fd === undefined
          ? await bind({ transport: 'udp', host, port }, { owner, ...(reuseaddr && { reuseAddress: true }) })
          : await bind({ fd }, { owner })
      if (fd !== undefined) settings.family = socket.local.family === 'ipv6' ? 6 : 4
      try {
        applyUdp(socket, settings, memberships)
      } catch (error) {
        socket.abort()
        throw error
      }
      return ['ok', new UdpSocket<UdpDataOf<O>>(socket, settings, process)]
    } catch (error) {
      process.mustLive()
      return ['error', posixReason(error)]
    }
  })
}

function target(address: unknown, port: unknown): EndpointObject | undefined {
  if (!isWhole(port, 1, 65_535)) return undefined
  if (isIpTuple(address)) return { transport: 'udp', host: ipTextOf(address), port }
  return typeof address === 'string' && address !== '' ? { transport: 'udp', host: address, port } : undefined
}

/**
 * Sends one datagram: `send(Socket, Address, Port, Data)`, `send(Socket, [Address, Port], Data)`, or, once connected,
 * `send(Socket, Data)`.
 *
 * @returns `'ok'`, or an error: `einval`, `emsgsize`, `nxdomain`, `econnrefused`, `closed`
 */
export function send(socket: UdpSocket<unknown>, data: IoData): Promise<'ok' | Failure<UdpReason>>
export function send(socket: UdpSocket<unknown>, to: readonly [HostAddress, number], data: IoData): Promise<'ok' | Failure<UdpReason>>
export function send(socket: UdpSocket<unknown>, address: HostAddress, port: number, data: IoData): Promise<'ok' | Failure<UdpReason>>
export function send(socket: UdpSocket<unknown>, ...args: readonly unknown[]): Promise<'ok' | Failure<UdpReason>> {
  return harmless(async () => {
    if (!(socket instanceof UdpSocket)) return ['error', 'einval']
    if (args.length === 1) return socket.send(undefined, args[0])
    const [address, port] = args.length > 2 ? args : Array.isArray(args[0]) ? (args[0] as readonly unknown[]) : []
    const to = target(address, port)
    return to === undefined ? ['error', 'einval'] : socket.send(to, args.at(-1))
  })
}

/**
 * The next datagram of a passive socket. `length` is there for the form of the call: a datagram comes whole.
 *
 * @returns `['ok', [Address, Port, Data]]`, or an error: `timeout`, `closed`, `einval` on an active socket
 */
export function recv<D>(
  socket: UdpSocket<D>,
  length: number,
  timeout: Timeout = 'infinity',
): Promise<Ok<Received<D>> | Failure<UdpReason>> {
  return harmless(async () => {
    if (!(socket instanceof UdpSocket)) return ['error', 'einval']
    return (await socket.recv(length, timeout)) as Ok<Received<D>> | Failure<UdpReason>
  })
}

/** From now on the socket sends to, and hears of, one peer alone. @returns `'ok'`, or `einval`, `nxdomain`, `closed` */
export function connect(socket: UdpSocket<unknown>, address: HostAddress, port: number): Promise<'ok' | Failure<UdpReason>> {
  return harmless(async () => {
    const to = target(address, port)
    return socket instanceof UdpSocket && to !== undefined ? socket.connect(to) : ['error', 'einval']
  })
}

/** Closes a socket. @returns `'ok'`, also the second time */
export async function close(socket: UdpSocket<unknown>): Promise<'ok'> {
  return socket instanceof UdpSocket ? socket.close() : 'ok'
}

/** Makes another process the owner, with the messages of the socket that wait. @returns `'ok'`, or `not_owner`, `badarg`, `closed` */
export function controlling_process(socket: UdpSocket<unknown>, pid: Pid): 'ok' | Failure<UdpReason | 'badarg'> {
  return socket instanceof UdpSocket ? socket.controlling(pid) : ['error', 'einval']
}
