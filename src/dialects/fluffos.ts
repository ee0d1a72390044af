/**
 * The sockets of FluffOS, the MUD driver: the efuns of its socket package, for objects that call them and are called back.
 * What they promise is in `fluffos-efuns.ts`; where they differ from the original, and why, in `docs/dialects/fluffos.md`.
 */

import { isAbsolute, join, normalize } from 'node:path'
import { type Address, type Authorities, type Connection, type Network, network as defaultNetwork, Owner } from '../index.js'
import { CONSTANTS, MODES, modeName, OPTIONS, RESULTS, type Failure, type Mode, type Result, socketError } from './fluffos-constants.js'
import {
  type Callback,
  type Efuns,
  type Lpc,
  LpcError,
  type Master,
  type SocketFacts,
  type SocketOperation,
  type SocketStatus,
} from './fluffos-efuns.js'
import { Slot, type World } from './fluffos-slot.js'
import { cut, placeOf, statusTable } from './fluffos-text.js'
import { type LpcValue, markObject } from './fluffos-values.js'

export { CONSTANTS, MODES, OPTIONS, RESULTS, socketError } from './fluffos-constants.js'
export type { Constants, Failure, Mode, ModeName, OptionNumber, Result, ResultName } from './fluffos-constants.js'
export { LpcError } from './fluffos-efuns.js'
export type { Callback, Efuns, Lpc, Master, SocketFacts, SocketOperation, SocketState, SocketStatus } from './fluffos-efuns.js'
export { DEEPEST, decodeValue, encodeFrame, encodeValue, LpcClass, LpcFloat, LpcValueError, mudFrames } from './fluffos-values.js'
export type { DecodeOptions, Decoded, EncodeOptions, FrameOptions, LpcFunction, LpcInt, LpcValue } from './fluffos-values.js'

export interface DriverOptions<Include extends object = object> {
  /** Says who may do what. Without a `valid_socket` nobody may do anything. */
  master: Master
  /** What programs are given besides efuns and constants: definitions of the mudlib. */
  include?: Include | undefined
  /** Where sockets are opened. Default: the network of the process. */
  network?: Network | undefined
  /** A directory that paths of certificates and keys are inside of. Default: they are paths of the system. */
  mudlib?: string | undefined
  /** The address of the MUD, for sockets that are bound to none. Default: all. */
  ip?: string | undefined
  /** Whether there is IPv6. Default false, as in the original. */
  ipv6?: boolean | undefined
  /** Whom clients trust. Default `'system'`: the store of the system, or what `SSL_CERT_FILE` says. */
  ca?: Authorities | undefined
  /** Most bytes of a frame of mode `MUD`. Default 262,144. */
  maximumByteTransfer?: number | undefined
  /** Most elements of an array that is received. Default 15,000. */
  maximumArraySize?: number | undefined
  /** Most pairs of a mapping that is received. Default 150,000. */
  maximumMappingSize?: number | undefined
  /** Gets what a callback, or the master, threw. Default: standard error. */
  log?: ((error: unknown, where: string) => void) | undefined
}

/**
 * A driver: objects, and the sockets they own. The sockets of the objects are one table, whose places are the descriptors.
 *
 * ```ts
 * import { createDriver } from 'fairlead/fluffos'
 *
 * await using driver = createDriver({ master: { valid_socket: () => 1 } })
 * const echo = driver.load('/daemon/echo', ({ STREAM, socket_create, socket_bind, socket_listen, socket_accept, socket_write }) => ({
 *   async start() {
 *     const fd = socket_create(STREAM, 'read', 'closed')
 *     await socket_bind(fd, 0)
 *     await socket_listen(fd, 'listening')
 *     return fd
 *   },
 *   listening: (fd: number) => socket_accept(fd, 'read', 'write'),
 *   read: (fd: number, text: string) => socket_write(fd, text),
 * }))
 * const fd = await echo.start()
 * console.log(driver.efuns(echo).socket_address(fd)) // 0.0.0.0 0
 * ```
 */
export class Driver<Include extends object = object> {
  readonly #options: DriverOptions<Include>
  readonly #world: World
  readonly #slots: Slot[] = []
  /** The objects that live, and the efuns of each. */
  readonly #objects: WeakMap<object, Efuns> = new WeakMap()
  readonly #destructed: WeakSet<object> = new WeakSet()
  readonly #players: WeakMap<object, Connection> = new WeakMap()
  readonly #names: WeakMap<object, string> = new WeakMap()
  #keys = 0

  /** @internal made by {@link createDriver} */
  constructor(o: DriverOptions<Include>) {
    if (typeof o?.master !== 'object' || o.master === null) throw new TypeError('createDriver needs a master object')
    this.#options = o
    const network = o.network ?? defaultNetwork()
    const { ca = 'system', ipv6 = false, maximumArraySize, maximumByteTransfer, maximumMappingSize } = o
    this.#world = {
      network,
      owner: new Owner('fluffos', network),
      ca,
      ipv6,
      frames: { maximumArraySize, maximumByteTransfer, maximumMappingSize, isObject: (value) => this.#objects.has(value) },
      call: (slot, callback, ...parameters) => this.#call(slot.owner, callback, parameters),
      isObject: (value) => typeof value === 'object' && value !== null && this.#objects.has(value),
    }
  }

  /**
   * Makes an object of a program: a function that is given the efuns, bound to the new object, the constants, and what is
   * included, and gives the object. A function `create` of it is called then.
   *
   * @param name what logs call it, such as `/daemon/intermud`
   */
  load<T extends object>(name: string, program: (lpc: Lpc<Include>) => T): T {
    const made: { object?: T } = {}
    const self = (): T => {
      if (made.object === undefined) throw new LpcError(`${name}: efuns can be called once the object is there; do it in create()`)
      return made.object
    }
    const efuns = this.#bound(self)
    const object = program({ ...efuns, ...CONSTANTS, ...(this.#options.include as Include), this_object: self })
    made.object = object
    this.#register(object, name, efuns)
    const { create } = object as { create?: unknown }
    if (typeof create === 'function') create.call(object)
    return object
  }

  /** The efuns of an object: one of `load`, or any other, which becomes an object of this driver. */
  efuns(object: object): Efuns {
    const known = this.#objects.get(object)
    if (known !== undefined) return known
    const efuns = this.#bound(() => object)
    this.#register(object, object.constructor?.name ?? 'object', efuns)
    return efuns
  }

  #register(object: object, name: string, efuns: Efuns): void {
    markObject(object)
    this.#objects.set(object, efuns)
    this.#names.set(object, name)
  }

  /** Ends an object: its sockets are closed, and nothing of it is called any more. */
  destruct(object: object): void {
    this.#destructed.add(object)
    for (const slot of this.#slots) if (slot.isOpen && slot.owner === object) slot.end()
  }

  /** Makes an object a person's, whose address `socket_address` gives for it. */
  interactive(object: object, connection: Connection): void {
    this.efuns(object)
    this.#players.set(object, connection)
  }

  /** Why the last socket of this descriptor ended, or the last thing that went wrong with it; undefined if nothing did. */
  failure(fd: number): unknown {
    return this.#slots[fd]?.failure
  }

  /** Closes all sockets, without a callback. What was taken is sent, for up to 5 seconds. */
  async close(): Promise<void> {
    for (const slot of this.#slots) if (slot.isOpen) slot.end()
    await this.#world.owner.end()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #call(object: object, callback: Callback | undefined, parameters: readonly unknown[]): void {
    if (callback === undefined || this.#destructed.has(object)) return
    const found: unknown = typeof callback === 'string' ? functionOf(object, callback) : callback
    if (typeof found !== 'function') return
    const where = `${this.#names.get(object) ?? 'object'}: ${typeof callback === 'string' ? callback : 'a callback'}`
    try {
      const result: unknown = found.apply(object, parameters)
      if (isThenable(result)) result.then(undefined, (error: unknown) => this.#log(error, where))
    } catch (error) {
      this.#log(error, where)
    }
  }

  #log(error: unknown, where: string): void {
    const { log } = this.#options
    if (log !== undefined) log(error, where)
    else console.error(where, error)
  }

  /** Whether the master lets `caller` do this. */
  #valid(caller: object, operation: SocketOperation, facts: SocketFacts): boolean {
    try {
      const verdict = this.#options.master.valid_socket?.(caller, operation, facts)
      if (isThenable(verdict)) throw new LpcError('valid_socket gave a promise, which allows nothing: it has to say at once')
      return verdict !== undefined && verdict !== null && verdict !== 0 && verdict !== false
    } catch (error) {
      this.#log(error, 'master: valid_socket')
      return false
    }
  }

  /** The checks that are common to all, in their order. @param anyones whether it may be another object's */
  #find(caller: object, operation: SocketOperation, fd: number, to?: string, anyones = false): Slot | Failure {
    const slot = this.#slots[fd]
    if (!this.#valid(caller, operation, this.#facts(fd, slot, to))) return RESULTS.EESECURITY
    if (slot === undefined) return RESULTS.EEFDRANGE
    if (!slot.isOpen) return RESULTS.EEBADF
    return anyones || slot.owner === caller ? slot : RESULTS.EESECURITY
  }

  #facts(fd: number, slot: Slot | undefined, to: string | undefined): SocketFacts {
    if (slot === undefined) return [fd, 0, '', 0]
    const { remote } = slot
    const peer = remote === undefined && to !== undefined ? cut(to) : hostAndPort(remote, this.#world.ipv6)
    return [fd, slot.isOpen ? slot.owner : 0, peer.host, peer.port]
  }

  #place(mode: Mode, owner: object): Slot {
    const free = this.#slots.findIndex((slot) => slot.state === 'CLOSED')
    const fd = free === -1 ? this.#slots.length : free
    return (this.#slots[fd] = new Slot(this.#world, fd, mode, owner))
  }

  /** The slot of a descriptor whose options `caller` may see and set. */
  #optioned(caller: object, fd: number, option: number): Slot {
    const slot = this.#slots[fd]
    if (slot === undefined || !slot.isOpen) throw new LpcError(`Bad socket descriptor: ${fd}`)
    if (slot.owner !== caller) throw new LpcError(`Security violation attempted: socket ${fd} is another object's`)
    if (!(option >= 1 && option <= 4)) throw new LpcError(`Unknown socket option: ${option}`)
    return slot
  }

  #status(fd: number): SocketStatus {
    const slot = this.#slots[fd] as Slot
    if (slot.state === 'CLOSED') return [-1, 'CLOSED', 'MUD', '', '', 0]
    const owner = slot.isOpen && slot.target === undefined ? slot.owner : 0
    return [slot.id, slot.state, modeName(slot.mode), dotted(slot.local), dotted(slot.remote), owner]
  }

  /** A file of the mudlib, which nothing in `path` leads out of; or of the system. */
  #path(path: string): string {
    const { mudlib } = this.#options
    return mudlib === undefined ? path : join(mudlib, normalize(isAbsolute(path) ? path : `/${path}`))
  }

  #bound(self: () => object): Efuns {
    const caller = (efun: string): object => {
      const object = self()
      if (this.#destructed.has(object)) throw new LpcError(`${efun}() called by a destructed object`)
      return object
    }

    const socket_create: Efuns['socket_create'] = (mode, read, close) => {
      const me = caller('socket_create')
      int('socket_create', 1, mode)
      callable('socket_create', 2, read)
      if (close !== undefined) callable('socket_create', 3, close)
      if (!this.#valid(me, 'create', [-1, me, 'N/A', -1])) return RESULTS.EESECURITY
      if (mode < MODES.MUD || mode > MODES.STREAM_TLS_BINARY) return RESULTS.EEMODENOTSUPP
      const slot = this.#place(mode as Mode, me)
      slot.read = read
      if (!slot.isDatagram) slot.close = close
      return slot.fd
    }

    const socket_bind: Efuns['socket_bind'] = async (fd, port, address) => {
      const me = caller('socket_bind')
      int('socket_bind', 1, fd)
      int('socket_bind', 2, port)
      if (address !== undefined) text('socket_bind', 3, address)
      const slot = this.#find(me, 'bind', fd)
      if (typeof slot === 'number') return slot
      if (slot.state !== 'UNBOUND' || slot.binding !== undefined) return RESULTS.EEISBOUND
      const { ip, ipv6 } = this.#options
      const given = address === undefined ? undefined : placeOf(address, false, this.#world.ipv6)
      if (address !== undefined && given === undefined) return RESULTS.EEBADADDR
      const at = given ?? { host: ip ?? (ipv6 ? undefined : '0.0.0.0'), port }
      if (at.port < 0 || at.port > 65_535) return RESULTS.EEBIND
      const binding = slot.bind(at.host, at.port)
      slot.binding = binding
      try {
        return await binding
      } finally {
        slot.binding = undefined
      }
    }

    const socket_listen: Efuns['socket_listen'] = async (fd, listen) => {
      const me = caller('socket_listen')
      int('socket_listen', 1, fd)
      callable('socket_listen', 2, listen)
      const allowed = this.#find(me, 'listen', fd)
      if (typeof allowed === 'number') return allowed
      await allowed.binding
      if (!allowed.isOpen) return RESULTS.EEBADF
      if (allowed.isDatagram) return RESULTS.EEMODENOTSUPP
      if (allowed.state === 'UNBOUND') return RESULTS.EENOADDR
      if (allowed.state !== 'BOUND') return RESULTS.EEISCONN
      return allowed.listen(listen, (path) => this.#path(path))
    }

    const socket_accept: Efuns['socket_accept'] = (fd, read, write) => {
      const me = caller('socket_accept')
      int('socket_accept', 1, fd)
      callable('socket_accept', 2, read)
      callable('socket_accept', 3, write)
      const slot = this.#find(me, 'accept', fd)
      if (typeof slot === 'number') return slot
      if (slot.isDatagram) return RESULTS.EEMODENOTSUPP
      if (slot.state !== 'LISTEN') return RESULTS.EENOTLISTN
      const connection = slot.next()
      if (connection === undefined) return RESULTS.EEWOULDBLOCK
      if (connection.signal.aborted) return RESULTS.EEACCEPT
      const accepted = this.#place(slot.mode, me)
      accepted.read = read
      accepted.write = write
      accepted.close = slot.close
      accepted.accepted(connection, slot)
      return accepted.fd
    }

    const socket_connect = (fd: number, address: string, first: Callback, second?: Callback): Result => {
      const me = caller('socket_connect')
      int('socket_connect', 1, fd)
      text('socket_connect', 2, address)
      callable('socket_connect', 3, first)
      if (second !== undefined) callable('socket_connect', 4, second)
      const slot = this.#find(me, 'connect', fd, address)
      if (typeof slot === 'number') return slot
      if (slot.isDatagram) return RESULTS.EEMODENOTSUPP
      if (slot.state === 'LISTEN') return RESULTS.EEISLISTEN
      if (slot.state !== 'UNBOUND' && slot.state !== 'BOUND') return RESULTS.EEISCONN
      const to = placeOf(address, true, this.#world.ipv6)
      if (to === undefined) return RESULTS.EEBADADDR
      if (slot.isTls && slot.sni !== '' && placeOf(`${slot.sni} 0`, true, true) === undefined) return RESULTS.EECONNECT
      if (second !== undefined) slot.read = first
      slot.write = second ?? first
      slot.connect(to)
      return RESULTS.EESUCCESS
    }

    const socket_write: Efuns['socket_write'] = (fd, message: LpcValue, address) => {
      const me = caller('socket_write')
      int('socket_write', 1, fd)
      if (address !== undefined) text('socket_write', 3, address)
      const slot = this.#find(me, 'write', fd)
      if (typeof slot === 'number') return slot
      if (!slot.isDatagram) {
        if (slot.state !== 'DATA_XFER') return RESULTS.EENOTCONN
        return address === undefined ? slot.send(message) : RESULTS.EEBADADDR
      }
      if (address === undefined) return RESULTS.EENOADDR
      const to = placeOf(address, false, this.#world.ipv6)
      return to === undefined ? RESULTS.EEBADADDR : slot.sendTo(message, to)
    }

    const socket_close: Efuns['socket_close'] = (fd) => {
      const me = caller('socket_close')
      int('socket_close', 1, fd)
      const slot = this.#find(me, 'close', fd)
      if (typeof slot === 'number') return slot
      slot.end()
      return RESULTS.EESUCCESS
    }

    const socket_release: Efuns['socket_release'] = (fd, target, callback) => {
      const me = caller('socket_release')
      int('socket_release', 1, fd)
      if (typeof target !== 'object' || target === null) throw badArgument('socket_release', 2, 'an object', target)
      callable('socket_release', 3, callback)
      const slot = this.#find(me, 'release', fd)
      if (typeof slot === 'number') return slot
      if (slot.target !== undefined) return RESULTS.EESOCKRLSD
      slot.target = target
      this.#call(typeof callback === 'string' ? target : me, callback, [fd, target])
      if (slot.target === undefined) return RESULTS.EESUCCESS
      slot.target = undefined
      return RESULTS.EESOCKNOTRLSD
    }

    const socket_acquire: Efuns['socket_acquire'] = (fd, read, write, close) => {
      const me = caller('socket_acquire')
      int('socket_acquire', 1, fd)
      for (const [i, callback] of [read, write, close].entries()) callable('socket_acquire', i + 2, callback)
      const slot = this.#find(me, 'acquire', fd, undefined, true)
      if (typeof slot === 'number') return slot
      if (slot.target === undefined) return RESULTS.EESOCKNOTRLSD
      if (slot.target !== me) return RESULTS.EESECURITY
      slot.target = undefined
      slot.owner = me
      Object.assign(slot, { read, write, close: slot.isDatagram ? undefined : close })
      return RESULTS.EESUCCESS
    }

    const socket_address = ((place: number | object, local = 0) => {
      if (typeof place === 'object' && place !== null) {
        const remote = this.#players.get(place)?.remote
        return remote === undefined ? 0 : spaced(remote, this.#world.ipv6)
      }
      int('socket_address', 1, place)
      const slot = this.#slots[place]
      return slot === undefined ? ' 0' : spaced(local === 0 ? slot.remote : slot.isOpen ? slot.local : undefined, this.#world.ipv6)
    }) as Efuns['socket_address']

    const socket_status = ((fd?: number) => {
      if (fd === undefined) return this.#slots.map((_, i) => this.#status(i))
      int('socket_status', 1, fd)
      return this.#slots[fd] === undefined ? 0 : this.#status(fd)
    }) as Efuns['socket_status']

    const socket_set_option: Efuns['socket_set_option'] = (fd, option, value) => {
      int('socket_set_option', 1, fd)
      int('socket_set_option', 2, option)
      const slot = this.#optioned(caller('socket_set_option'), fd, option)
      if (option === OPTIONS.SO_TLS_VERIFY_PEER) {
        if (value !== 0 && value !== 1) throw badArgument('socket_set_option', 3, '0 or 1', value)
        slot.verify = value
      } else {
        text('socket_set_option', 3, value)
        slot[TEXT_OPTIONS[option as keyof typeof TEXT_OPTIONS]] = value as string
      }
    }

    const socket_get_option: Efuns['socket_get_option'] = (fd, option) => {
      int('socket_get_option', 1, fd)
      int('socket_get_option', 2, option)
      const slot = this.#optioned(caller('socket_get_option'), fd, option)
      return option === OPTIONS.SO_TLS_VERIFY_PEER ? slot.verify : slot[TEXT_OPTIONS[option as keyof typeof TEXT_OPTIONS]]
    }

    const resolve: Efuns['resolve'] = (address, callback) => {
      const me = caller('resolve')
      text('resolve', 1, address)
      callable('resolve', 2, callback)
      const key = ++this.#keys
      void this.#lookUp(address).then(({ name, ip }) => this.#call(me, callback, [name, ip, key]))
      return key
    }

    return {
      socket_create,
      socket_bind,
      socket_listen,
      socket_accept,
      socket_connect,
      socket_write,
      socket_close,
      socket_release,
      socket_acquire,
      socket_error: (code) => socketError(code),
      socket_address,
      socket_status,
      dump_socket_status: () => statusTable(this.#slots.map((_, i) => this.#status(i))),
      socket_set_option,
      socket_get_option,
      resolve,
    }
  }

  async #lookUp(address: string): Promise<{ name: string | 0; ip: string | 0 }> {
    const { network, ipv6 } = this.#world
    try {
      if (placeOf(`${address} 0`, false, true) === undefined) {
        const found = await network.lookup(address, ipv6 ? {} : { family: 4 })
        return { name: address, ip: found[0]?.address ?? 0 }
      }
    } catch {
      return { name: address, ip: 0 }
    }
    const names = await network.reverse(address).catch(() => [])
    return { name: names[0] ?? 0, ip: address }
  }
}

/**
 * Makes a driver.
 *
 * @param o `master` says who may do what with sockets; `include` is what programs can name besides efuns and constants
 */
export function createDriver<Include extends object = object>(o: DriverOptions<Include>): Driver<Include> {
  return new Driver(o)
}

const TEXT_OPTIONS = { 2: 'sni', 3: 'cert', 4: 'key' } as const

function badArgument(efun: string, position: number, expected: string, value: unknown): LpcError {
  const got = value === null ? 'null' : typeof value === 'number' ? `${value}` : typeof value
  return new LpcError(`Bad argument ${position} to ${efun}(): expected ${expected}, got ${got}`)
}

function int(efun: string, position: number, value: unknown): void {
  if (!Number.isSafeInteger(value)) throw badArgument(efun, position, 'an int', value)
}

function text(efun: string, position: number, value: unknown): void {
  if (typeof value !== 'string') throw badArgument(efun, position, 'a string', value)
  if (value.includes('\0')) throw badArgument(efun, position, 'a string without NUL', value)
}

function callable(efun: string, position: number, value: unknown): void {
  if (typeof value !== 'function' && typeof value !== 'string') throw badArgument(efun, position, 'a string or a function', value)
  if (typeof value === 'string' && value.startsWith('#')) throw new LpcError(`Illegal function name in argument ${position} to ${efun}()`)
}

/** A function of the object, or of its class; what all objects of JavaScript have is none of theirs. */
function functionOf(object: object, name: string): unknown {
  for (let at: object | null = object; at !== null && at !== Object.prototype; at = Object.getPrototypeOf(at) as object | null) {
    const own = Object.getOwnPropertyDescriptor(at, name)
    if (own !== undefined) return name === 'constructor' ? undefined : (object as Record<string, unknown>)[name]
  }
  return undefined
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
}

function hostAndPort(address: Address | undefined, ipv6: boolean): { host: string; port: number } {
  if (address === undefined || address.family === 'unix') return { host: ipv6 ? '::' : '0.0.0.0', port: 0 }
  return { host: address.address, port: address.port }
}

function spaced(address: Address | undefined, ipv6: boolean): string {
  const { host, port } = hostAndPort(address, ipv6)
  return `${host} ${port}`
}

/** An address as `socket_status` writes it. */
function dotted(address: Address | undefined): string {
  if (address === undefined || address.family === 'unix') return ''
  const host = address.address === '0.0.0.0' || address.address === '::' ? '*' : address.address
  return `${host}.${address.port === 0 ? '*' : address.port}`
}
