/** The root object: a driver, a resolver, a clock, a policy, limits, and every socket that was opened with them. */

import type { Duplex } from 'node:stream'
import { Listener } from './accept.js'
import {
  addressOf,
  type Address,
  type DescriptorEndpoint,
  descriptorIn,
  type Endpoint,
  formatEndpoint,
  hostOf,
  type IpAddress,
  type IpTransport,
  isIp,
  isTls,
  isUnixEndpoint,
  type ParsedEndpoint,
  parseEndpoint,
  reachableEndpoint,
  type Transport,
} from './address.js'
import { adoptConnection, adoptDatagram, adoptListener, connectionOver } from './adopt.js'
import { limit, milliseconds, oneOf, wholeNumber } from './arguments.js'
import {
  atFirst,
  bindDatagram,
  type BindOptions,
  connectDatagram,
  type DatagramConnectOptions,
  type DatagramEndpoint,
  type Ground,
  isDatagram,
} from './bind.js'
import { dialEndpoint } from './connect.js'
import { Connection } from './connection.js'
import type { DatagramSocket } from './datagram.js'
import { refusePast, spanning, systemClock } from './deadline.js'
import type { Clock, Driver, ListenSettings, StreamSettings } from './driver.js'
import { kernelLater } from './drivers/kernel-later.js'
import { node } from './drivers/node.js'
import {
  AddressError,
  again,
  type ErrorFacts,
  invalidType,
  OptionError,
  outOfRange,
  refuseUnknown,
  show,
  SystemFailure,
  suggestion,
} from './errors.js'
import type { Origin } from './lifetime.js'
import { lookUpName, type NameOptions, namesOf } from './names.js'
import { type CreationOptions, creationNames, creationOptions, tcpSettings } from './options.js'
import { Budget, currentOwner, defaultOwner, type EndReport, Owner, placeOf, setDefaultOwner } from './owner.js'
import { enforce, type Policy, type PolicyFunction, toPolicy } from './policy.js'
import { cachingResolver, type ResolvedAddress, type Resolver, systemResolver } from './resolve.js'
import { type Interest, type Interests, type Ready, select, type Selectable } from './select.js'
import { type Handler, SERVER_OPTIONS, type ServeOptions, Server } from './server.js'
import { type Defaults, LIMITS, type Limits, type Wait } from './stream.js'
import { type ClientTlsOptions, prepareClient, prepareServer, type ServerTls, type ServerTlsOptions } from './tls-options.js'
import { Trace } from './trace.js'
import { listenUnix } from './unix.js'

/** What `connect` and `listen` share. */
interface OpenOptions extends Wait {
  owner?: Owner | undefined
  /** Default times of the connection, or of those that are accepted. */
  defaults?: Defaults | undefined
}

/** Dials on behalf of `connect`: a proxy client, a tunnel, a test double. It keeps the deadline it is given. */
export interface Dialer {
  connect(to: ParsedEndpoint, wait: Wait): Promise<Connection>
}

/** With the options of the socket, by the names of `docs/options.md`; `noDelay` and `keepAlive` are on unless switched off. */
export interface ConnectOptions extends OpenOptions, CreationOptions<'connection'> {
  /** Local address to connect from: `192.0.2.7`, `::1`, or with a port, `tcp://192.0.2.7:5000`. */
  from?: Endpoint | undefined
  /** Use this connection as the transport, or let this dialer make one. */
  via?: Connection | Dialer | undefined
  /** Settings for `tls:` and `tls+unix:`. */
  tls?: ClientTlsOptions | undefined
  /** Only addresses of this family. */
  family?: 4 | 6 | undefined
  /** Milliseconds between attempts at several addresses, at least 10. Default 250. */
  stagger?: number | undefined
}

/** With the options of the listener and of the connections it accepts, by the names of `docs/options.md`. */
export interface ListenOptions extends OpenOptions, CreationOptions<'listener'> {
  /** Length of the system's queue of connections nobody has taken. Default 511; the system may cap it. */
  backlog?: number | undefined
  /** Permissions of a UNIX socket. Default 0o600. */
  mode?: number | undefined
  /** Remove a UNIX socket at the path that nobody answers. Default true. */
  unlinkStale?: boolean | undefined
  /** Settings for `tls:` and `tls+unix:`: at least a certificate and its key. */
  tls?: ServerTlsOptions | ServerTls | undefined
}

export interface NetworkOptions {
  driver?: Driver | undefined
  /** Default: the system's, with answers kept for `limits.nameCache`. */
  resolver?: Resolver | undefined
  clock?: Clock | undefined
  /** Asked at every connect, listen and accept. Default: everything is allowed. */
  policy?: Policy | undefined
  limits?: Partial<Limits> | undefined
  defaults?: Defaults | undefined
  name?: string | undefined
}

const OPEN_OPTIONS = ['timeout', 'deadline', 'signal', 'owner', 'defaults', 'tls'] as const
const CONNECT_OPTIONS: ReadonlySet<string> = new Set([...OPEN_OPTIONS, 'from', 'via', 'family', 'stagger', ...creationNames('connection')])
const LISTEN_OPTIONS = [...OPEN_OPTIONS, 'backlog', 'mode', 'unlinkStale', ...creationNames('listener')]
const BIND_OPTIONS: readonly string[] = ['timeout', 'deadline', 'signal', 'owner', ...creationNames('datagram')]
const SERVE_OPTIONS = [...LISTEN_OPTIONS, ...SERVER_OPTIONS]

const BACKLOG = 511

/**
 * A world of sockets of its own. Module-level functions use a default one.
 *
 * ```ts
 * import { Network, publicOnly } from 'fairlead'
 *
 * await using network = new Network({ policy: publicOnly(), limits: { connections: 100 } })
 * console.log(network.sockets().length) // 0
 * ```
 */
export class Network extends Owner {
  readonly driver: Driver
  readonly resolver: Resolver
  readonly #policy: PolicyFunction | undefined
  readonly #defaults: Defaults

  constructor(o: NetworkOptions = {}) {
    refuseUnknown(o, ['driver', 'resolver', 'clock', 'policy', 'limits', 'defaults', 'name'], 'Network')
    const limits = limitsOf(o.limits)
    super(o.name ?? 'network', { clock: o.clock ?? systemClock, trace: new Trace(), limits, budget: new Budget(limits.total) })
    this.driver = o.driver ?? chosenDriver()
    this.resolver = o.resolver ?? cachingResolver(systemResolver, this.shared.clock, limits.nameCache)
    this.#policy = o.policy === undefined ? undefined : toPolicy(o.policy)
    this.#defaults = defaultsOf({}, o.defaults, 'Network')
  }

  get clock(): Clock {
    return this.shared.clock
  }

  get trace(): Trace {
    return this.shared.trace
  }

  get limits(): Readonly<Limits> {
    return this.shared.limits
  }

  /**
   * Connects to an endpoint. `timeout` and `deadline` (default 30 s) cover look-up, all attempts, proxies and TLS.
   *
   * To a `udp:` or `unixgram:` endpoint it gives a datagram socket that exchanges datagrams with that peer alone; no
   * packet is sent for that, so a peer that is not there shows later.
   *
   * `{ fd }` takes over a connected stream socket that others made, as it is; `{ fd, transport: 'tls' }` does the TLS handshake
   * of a client on it. What is no such socket is left alone (`ENOTSOCK`, `EBADF`, `EINVAL`, `ENOTCONN`); from then on it is
   * closed if this fails.
   *
   * @throws `AddressError`, `Denied`, `SystemFailure` with `attempts`, `DeadlineError`, `Cancelled`, `TlsError`
   */
  connect(to: DatagramEndpoint, o?: DatagramConnectOptions): Promise<DatagramSocket>
  connect(to: Endpoint | DescriptorEndpoint, o?: ConnectOptions): Promise<Connection>
  async connect(to: Endpoint | DescriptorEndpoint, o: ConnectOptions | DatagramConnectOptions = {}): Promise<Connection | DatagramSocket> {
    const given = descriptorIn(to)
    if (given !== undefined) return this.#adopt(given, o as ConnectOptions)
    const endpoint = parsedFor(to as Endpoint, 'connect')
    return isDatagram(endpoint) ? this.#connectDatagram(endpoint, o as DatagramConnectOptions) : this.#connectStream(endpoint, o)
  }

  async #adopt(given: DescriptorEndpoint, o: ConnectOptions): Promise<Connection> {
    refuseUnknown(o, CONNECT_OPTIONS, 'connect')
    refuseMade(o, OPEN_OPTIONS, 'connect')
    const defaults = defaultsOf(this.#defaults, o.defaults, 'connect')
    if (given.transport === undefined) plain(o.tls, { op: 'connect', endpoint: `fd ${given.fd}` })
    return adoptConnection(this.#ground(o.owner), given, o, defaults)
  }

  async #connectDatagram(endpoint: ParsedEndpoint, o: DatagramConnectOptions): Promise<DatagramSocket> {
    refuseUnknown(o, [...BIND_OPTIONS, 'from', 'family'], 'connect')
    const from = o.from === undefined ? undefined : fromAddress(o.from, ['udp', 'unixgram'])
    return connectDatagram(this.#ground(o.owner), endpoint, from, o)
  }

  /**
   * Binds a datagram socket: `udp://host:port` (port 0: any free one; an empty host: all of them, IPv4 and IPv6), or
   * `unixgram:/path` where the driver has them. `{ fd }` takes over a bound socket that others made, as `connect` does.
   *
   * @throws `AddressError`, `Denied`, `SystemFailure`, `OptionError`, `DeadlineError`, `Cancelled`
   */
  async bind(at: Endpoint | DescriptorEndpoint, o: BindOptions = {}): Promise<DatagramSocket> {
    refuseUnknown(o, BIND_OPTIONS, 'bind')
    const given = descriptorIn(at)
    if (given !== undefined) {
      refuseMade(o, OPEN_OPTIONS, 'bind')
      return adoptDatagram(this.#ground(o.owner), given, o)
    }
    return bindDatagram(this.#ground(o.owner), parsedFor(at as Endpoint, 'bind'), o)
  }

  #ground(owner: Owner | undefined): Ground {
    return { driver: this.driver, resolver: this.resolver, policy: this.#policy, owner: this.ownerOf(owner) }
  }

  async #connectStream(to: Endpoint, o: ConnectOptions): Promise<Connection> {
    refuseUnknown(o, CONNECT_OPTIONS, 'connect')
    const endpoint = streamEndpoint(to, 'connect')
    const text = formatEndpoint(endpoint)
    const facts: ErrorFacts = { op: 'connect', endpoint: text }
    const defaults = defaultsOf(this.#defaults, o.defaults, 'connect')
    const { limits } = this.shared
    const owner = this.ownerOf(o.owner)
    const where = placeOf(this.shared)
    const tls = isTls(endpoint)
      ? prepareClient(o.tls ?? {}, { host: hostOf(endpoint), endpoint: text, handshakeTimeout: limits.handshake })
      : plain(o.tls, facts)
    const from = o.from === undefined ? undefined : (fromAddress(o.from, ['tcp', 'tls']) as IpAddress)
    if (o.family !== undefined) oneOf('family', o.family, [4, 6])
    const settings = { ...this.#made('connection', endpoint, o, facts), from }
    const origin: Origin = { owner, role: 'dialled', driver: this.driver.name, endpoint: text, defaults }
    return owner.opening(o, facts, async (wait) => {
      const left = spanning(wait, this.clock, limits.connect)
      if (o.via !== undefined) return this.#connectVia(endpoint, o.via, left, o, facts)
      const { driver, resolver, clock } = this
      const { stagger, family } = o
      const request = { endpoint, driver, resolver, clock, policy: this.#policy, settings, wait: left(), stagger, family }
      const { handle } = await dialEndpoint(request)
      const connection = await connectionOver(handle, tls, origin, left(), facts)
      return connection.given(where)
    })
  }

  async #connectVia(
    endpoint: ParsedEndpoint,
    via: Connection | Dialer,
    left: () => Wait,
    o: ConnectOptions,
    facts: ErrorFacts,
  ): Promise<Connection> {
    const literal = addressOf(endpoint)
    // What the far end of a tunnel resolves is out of reach: the policy sees the endpoint, and the address if it is literal.
    enforce(this.#policy, { direction: 'connect', endpoint, ...(literal && { address: literal }) }, facts)
    if (!(via instanceof Connection) && typeof via?.connect !== 'function') throw invalidType('via', 'a Connection or a Dialer', via)
    const transport = via instanceof Connection ? via : await via.connect(endpoint, left())
    if (o.owner !== undefined) o.owner.adopt(transport)
    if (!isTls(endpoint)) return transport
    return transport.startTls({ serverName: hostOf(endpoint), ...o.tls, ...left(), role: 'client' })
  }

  /**
   * Listens at an endpoint: `tcp://host:port` (port 0: any free one; an empty host: all of them, IPv4 and IPv6), `tls://`,
   * `unix:/path`, `unix:@name`, `tls+unix:/path`. `{ fd }` takes over a socket that listens already, as `connect` does, and
   * `{ fd, transport: 'tls' }` serves TLS on it; `noDelay` and `keepAlive` are those of the connections it accepts.
   *
   * @throws `AddressError`, `Denied`, `SystemFailure`, `TlsError` for credentials that do not serve
   */
  async listen(at: Endpoint | DescriptorEndpoint, o: ListenOptions = {}): Promise<Listener> {
    refuseUnknown(o, LISTEN_OPTIONS, 'listen')
    const given = descriptorIn(at)
    const asked = given ? undefined : streamEndpoint(at as Endpoint, 'listen')
    const facts: ErrorFacts = { op: 'listen', endpoint: asked ? formatEndpoint(asked) : `fd ${given?.fd}`, phase: 'listen' }
    const defaults = defaultsOf(this.#defaults, o.defaults, 'listen')
    const tls = isTls(asked ?? at) ? prepareServer(o.tls ?? {}, this.limits.handshake) : plain(o.tls, facts)
    const ground = this.#ground(o.owner)
    const { owner, driver, policy } = ground
    const where = placeOf(this.shared)
    if (given) refuseMade(o, [...OPEN_OPTIONS, 'backlog', ...creationNames('connection')], 'listen')
    const settings: ListenSettings = {
      ...this.#made('listener', asked, o, facts),
      backlog: wholeNumber('backlog', o.backlog ?? BACKLOG, 1, 65_535),
      ipv6Only: o.ipv6Only ?? false,
      reusePort: o.reusePort ?? false,
    }
    const unix = { mode: o.mode, unlinkStale: o.unlinkStale, facts }
    const open = (address: Address) =>
      address.family === 'unix' ? listenUnix(driver, address, settings, unix) : driver.listen(address, settings)
    return owner.opening(o, facts, async (wait) => {
      refusePast(wait, this.clock, () => facts)
      const [handle, endpoint] = asked
        ? [await atFirst(ground, asked, wait, facts, open), asked]
        : await adoptListener(ground, given as DescriptorEndpoint, settings, facts)
      const accepting = { ...facts, op: 'accept' }
      const listener = new Listener(handle, {
        owner,
        driver: driver.name,
        endpoint: isUnixEndpoint(endpoint) ? formatEndpoint(endpoint) : reachableEndpoint(endpoint, handle.local),
        defaults,
        tls,
        policy: policy && ((address: Address) => enforce(policy, { direction: 'accept', endpoint, address }, accepting)),
      })
      return listener.given(where)
    })
  }

  /** What a stream socket is made with. */
  #made(
    kind: 'connection' | 'listener',
    endpoint: ParsedEndpoint | undefined,
    o: ConnectOptions | ListenOptions,
    facts: ErrorFacts,
  ): StreamSettings {
    const transport = endpoint !== undefined && isUnixEndpoint(endpoint) ? 'unix' : 'tcp'
    const options = creationOptions({ kind, transport, driver: this.driver, facts }, o)
    if (options.size > 0 && 'via' in o && o.via !== undefined) {
      const [first] = options.keys()
      const message = `${first} is an option of the socket below, which whoever gives it as via has made`
      throw new OptionError('WRONG_MOMENT', message, { ...facts, phase: 'option' })
    }
    return { ...tcpSettings(options, this.limits), ...(options.size > 0 && { options }) }
  }

  /**
   * Listens at one or several endpoints and calls `handler` for each connection, within limits. The handler resolves:
   * the connection is closed; it rejects: the connection is aborted and the failure reported as an `error` event.
   */
  async serve(
    at: Endpoint | DescriptorEndpoint | readonly (Endpoint | DescriptorEndpoint)[],
    o: ServeOptions,
    handler: Handler,
  ): Promise<Server> {
    refuseUnknown(o, SERVE_OPTIONS, 'serve')
    return Server.open(this, at, o, handler)
  }

  /**
   * The addresses of a name, best first, by the resolver of this network; an IP address is its own. The policy is asked
   * when something connects to one of them, not here.
   *
   * @throws `AddressError`, `DeadlineError`, `Cancelled`
   */
  async lookup(name: string, o: NameOptions = {}): Promise<ResolvedAddress[]> {
    return lookUpName(this.resolver, this.clock, name, o)
  }

  /**
   * The names of an IP address. They are what its owner claims: only a name whose look-up gives the address back is one.
   *
   * @throws `AddressError` (`ENOTFOUND` where it has none), `DeadlineError`, `Cancelled`
   */
  async reverse(address: string, o?: Wait): Promise<string[]> {
    return namesOf(this.resolver, this.clock, address, o)
  }

  /** {@link select}, which takes sockets of any network. */
  select<S extends Selectable>(interests: Interests<S> | Iterable<S | Interest<S>>, o?: Wait): Promise<Ready<S>[]> {
    return select(interests, o)
  }

  /** A connection over a Node stream, which it takes over. */
  fromNode(stream: Duplex): Connection {
    return Connection.fromNode(stream, { owner: this.ownerOf(undefined), defaults: this.#defaults })
  }

  /** Ends every socket in order within `within` milliseconds (default 5 s), then aborts what is left. */
  close(o: { within?: number | undefined } = {}): Promise<EndReport> {
    return this.end(o)
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** Whom something belongs to that is opened with this `owner` option. @internal */
  ownerOf(owner: Owner | undefined): Owner {
    const current = owner ?? currentOwner()
    if (owner !== undefined && !(owner instanceof Owner)) throw invalidType('owner', 'an Owner', owner)
    if (current?.shared === this.shared) return current
    if (owner !== undefined) throw outOfRange('owner', `an owner of the network ${this.name}`, owner.name)
    return this
  }
}

function chosenDriver(): Driver {
  const name = process.env['FAIRLEAD_DRIVER'] ?? 'node'
  if (name === 'node' || name === '') return node()
  if (name === 'kernel') return kernelLater()
  throw new SystemFailure('UNSUPPORTED', `FAIRLEAD_DRIVER must be node or kernel, got ${show(name)}${suggestion(name, ['node', 'kernel'])}`)
}

/** Times of the connections, checked, those of `given` before those of the network. */
function defaultsOf(network: Defaults, given: Defaults | undefined, op: string): Defaults {
  if (given === undefined) return network
  refuseUnknown(given, ['read', 'write', 'idle'], `${op} defaults`)
  for (const [name, value] of Object.entries(given)) {
    if (value !== undefined && milliseconds(`defaults.${name}`, value) === 0) throw outOfRange(`defaults.${name}`, 'more than 0', value)
  }
  return { ...network, ...given }
}

const TIMES: ReadonlySet<string> = new Set([
  'connect',
  'handshake',
  'lingerTime',
  'halfClosed',
  'nameCache',
  'keepAliveIdle',
  'keepAliveInterval',
])
/** Counts of which none would leave a stream that cannot move. */
const NEEDED: ReadonlySet<string> = new Set([
  'line',
  'frame',
  'receive',
  'total',
  'datagrams',
  'datagramBytes',
  'connections',
  'handshakes',
])

function limitsOf(given: Partial<Limits> | undefined): Readonly<Limits> {
  if (given === undefined) return LIMITS
  refuseUnknown(given, Object.keys(LIMITS), 'limits')
  const limits = { ...LIMITS }
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue
    limits[name as keyof Limits] = TIMES.has(name)
      ? milliseconds(`limits.${name}`, value)
      : limit(`limits.${name}`, value, NEEDED.has(name) ? 1 : 0)
  }
  return Object.freeze(limits)
}

function streamEndpoint(endpoint: Endpoint, op: string): ParsedEndpoint {
  const parsed = parsedFor(endpoint, op)
  if (['tcp', 'tls', 'unix', 'tls+unix'].includes(parsed.transport)) return parsed
  throw new SystemFailure('UNSUPPORTED', `${op} takes tcp:, tls:, unix: and tls+unix: endpoints, got ${show(formatEndpoint(parsed))}`, {
    op,
  })
}

function parsedFor(endpoint: Endpoint, op: string): ParsedEndpoint {
  try {
    return parseEndpoint(endpoint)
  } catch (error) {
    throw error instanceof AddressError ? again(error, { op }) : error
  }
}

/** TLS settings on a plain endpoint are a mistake that would send secrets in the clear. */
function plain(tls: object | undefined, facts: ErrorFacts): undefined {
  if (tls === undefined) return undefined
  throw new OptionError('BAD_VALUE', `the option tls needs a tls: or tls+unix: endpoint, got ${show(facts.endpoint)}`, {
    ...facts,
    phase: 'option',
  })
}

/** Options of a socket that is to be made, for one that was. */
function refuseMade(o: object, allowed: readonly string[], op: string): void {
  const [name] = Object.entries(o).flatMap(([key, value]) => (value === undefined || allowed.includes(key) ? [] : [key]))
  if (name === undefined) return
  const message = `${name} is for a new socket, and the one of a descriptor is as others made it; set what can be set on it afterwards`
  throw new OptionError('WRONG_MOMENT', message, { op, phase: 'option' })
}

/** The local address to connect from: of one of these transports, the first where it is a bare address. */
function fromAddress(from: Endpoint, transports: readonly [IpTransport, ...Transport[]]): Address {
  const endpoint = parsedFor(typeof from === 'string' ? withPort(from, transports[0]) : from, 'connect')
  const address = addressOf(endpoint)
  if (address !== undefined && transports.includes(endpoint.transport)) return address
  const expected = `a literal address, bare or as one of ${transports.join(':, ')}:`
  throw new AddressError('BAD_HOST', `from must be ${expected}, got ${show(formatEndpoint(endpoint))}`, { op: 'connect', phase: 'bind' })
}

/** A bare address, `192.0.2.7` or `::1`, or an endpoint without a port: any port then. */
function withPort(from: string, transport: IpTransport): string {
  if (isIp(from) === 4) return `${transport}://${from}:0`
  if (isIp(from) === 6) return `${transport}://[${from}]:0`
  return /^[a-z]+:\/\/(?:[^:[\]]+|\[[^\]]+\])$/.test(from) ? `${from}:0` : from
}

let defaultNetwork: Network | undefined

/** The network of the module-level functions, made when it is first needed. */
export function network(): Network {
  defaultNetwork ??= new Network()
  return defaultNetwork
}

setDefaultOwner(network)

/** {@link Network.connect} on the default network. */
export function connect(to: DatagramEndpoint, o?: DatagramConnectOptions): Promise<DatagramSocket>
export function connect(to: Endpoint | DescriptorEndpoint, o?: ConnectOptions): Promise<Connection>
export function connect(to: Endpoint | DescriptorEndpoint, o?: ConnectOptions): Promise<Connection | DatagramSocket> {
  return onDefault<Connection | DatagramSocket>((net) => net.connect(to, o))
}

/** {@link Network.bind} on the default network. */
export function bind(at: Endpoint | DescriptorEndpoint, o?: BindOptions): Promise<DatagramSocket> {
  return onDefault((net) => net.bind(at, o))
}

/** {@link Network.listen} on the default network. */
export function listen(at: Endpoint | DescriptorEndpoint, o?: ListenOptions): Promise<Listener> {
  return onDefault((net) => net.listen(at, o))
}

/** {@link Network.serve} on the default network. */
export function serve(
  at: Endpoint | DescriptorEndpoint | readonly (Endpoint | DescriptorEndpoint)[],
  o: ServeOptions,
  handler: Handler,
): Promise<Server> {
  return onDefault((net) => net.serve(at, o, handler))
}

/** {@link Network.lookup} on the default network. */
export function lookup(name: string, o?: NameOptions): Promise<ResolvedAddress[]> {
  return onDefault((net) => net.lookup(name, o))
}

/** {@link Network.reverse} on the default network. */
export function reverse(address: string, o?: Wait): Promise<string[]> {
  return onDefault((net) => net.reverse(address, o))
}

async function onDefault<T>(fn: (net: Network) => Promise<T>): Promise<T> {
  return fn(defaultOwner() as Network)
}
