/** Driver × transport: makers of connected pairs, for whatever is tested on all of them. */

import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { type AddressInfo, createConnection, createServer, type Server, type Socket } from 'node:net'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConnectOptions, type ListenOptions, Network } from 'fairlead'
import {
  developmentAuthority,
  connectHandles,
  connectionPair,
  faulty,
  memory,
  settle,
  VirtualClock,
  type Capacity,
  type ConnectionPair,
  type DatagramMaker,
  type Driver,
  type FaultPlan,
  type NetworkMaker,
  type StreamHandle,
  type StreamMaker,
} from 'fairlead/testing'
import { systemClock } from '#src/deadline.js'
import { node } from '#src/drivers/node.js'
import { prepareClient, prepareServer } from '#src/tls-options.js'
import { secure } from '#src/tls.js'
import { kernelMissing, type Watched, watchedKernel } from './support/kernel.js'

/** The drivers that are tested. */
export type DriverName = 'memory' | 'node' | 'kernel'

export interface Transport extends StreamMaker {
  readonly driver: DriverName
  readonly transport: string
  /** Why it cannot be tested on this machine. */
  readonly missing?: string | undefined
  /** Gives back what the pairs stood on; fails if the driver did what it must not. */
  close(): Promise<void>
}

function inMemory(transport: string, capacity: Capacity, faults?: FaultPlan): Transport {
  return {
    driver: 'memory',
    transport,
    name: `memory ${transport}`,
    unbounded: capacity === Number.POSITIVE_INFINITY,
    async pair(): Promise<ConnectionPair> {
      const clock = new VirtualClock()
      const pair = connectionPair({ capacity, clock, faults: [faults, faults] })
      return { a: pair.a, b: pair.b, clock, dispose: () => pair.owner.end({ abort: true }) }
    },
    async close() {},
  }
}

interface Way {
  at(): Promise<string>
  listen?(): Promise<ListenOptions>
  connect?(): Promise<ConnectOptions>
  missing?: string | undefined
  driver?: Driver | undefined
  /** What becomes of a fresh pair before it is handed out. */
  wrap?(pair: ConnectionPair): Promise<ConnectionPair>
}

/** Pairs over one listener of one network, which are opened when first needed. */
function overNetwork(transport: string, way: Way, name: DriverName = 'node', watched?: Watched): Transport {
  const driver = watched?.driver ?? way.driver ?? node()
  let network: Network | undefined
  let listening: ReturnType<Network['listen']> | undefined
  const { missing } = way
  return {
    driver: name,
    transport,
    name: `${name} ${transport.replace(`${name} `, '')}`,
    missing,
    async pair(): Promise<ConnectionPair> {
      network ??= new Network({ driver })
      const net = network
      listening ??= Promise.all([way.at(), way.listen?.()]).then(([at, o]) => net.listen(at, o))
      const listener = await listening
      const [a, b] = await Promise.all([net.connect(listener.endpoint, await way.connect?.()), listener.accept()])
      return way.wrap?.({ a, b }) ?? { a, b }
    },
    async close() {
      await network?.end({ abort: true })
      // What the sockets of a driver share is given back a turn later.
      await settle(3)
      watched?.ledger.check()
    },
  }
}

/** The same over the kernel driver, with a ledger of what that does. */
function overKernel(transport: string, way: Way): Transport {
  const missing = kernelMissing ?? way.missing
  return overNetwork(`kernel ${transport}`, { ...way, missing }, 'kernel', missing === undefined ? watchedKernel() : undefined)
}

let folder: Promise<string> | undefined
let names = 0

/** A UNIX socket path that nobody uses. */
export async function freshPath(): Promise<string> {
  folder ??= mkdtemp(join(tmpdir(), 'fairlead-'))
  return join(await folder, `s${++names}`)
}

export async function removePaths(): Promise<void> {
  if (folder !== undefined) await rm(await folder, { recursive: true, force: true })
  folder = undefined
}

/** What keeps the process alive and is a TCP socket, or work on one; the runner has pipes of its own. */
export function socketsOpen(): string[] {
  return process.getActiveResourcesInfo().filter((name) => /^(TCP|SimpleWrite|Connect|Shutdown)/.test(name))
}

const hasIpv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === '::1'))

let credentials: Promise<{ ca: string; cert: string; key: string }> | undefined

/** A certificate for `localhost` and the authority that vouches for it, made once. */
export function testCredentials(): Promise<{ ca: string; cert: string; key: string }> {
  credentials ??= developmentAuthority().then(async (authority) => ({ ca: authority.cert, ...(await authority.issue()) }))
  return credentials
}

type Version = 'TLSv1.2' | 'TLSv1.3'

function overTls(at: () => Promise<string>, version: Version): Way {
  const versions = { minVersion: version, maxVersion: version } as const
  return {
    at,
    listen: async () => {
      const { cert, key } = await testCredentials()
      return { tls: { cert, key, ...versions } }
    },
    connect: async () => ({ tls: { ca: (await testCredentials()).ca, serverName: 'localhost', ...versions } }),
  }
}

/** Both ends upgraded once more, inside TLS. */
async function inTls({ a, b }: ConnectionPair): Promise<ConnectionPair> {
  const { ca, cert, key } = await testCredentials()
  // The server first: what the client says before is plain text to it.
  const [accepted, inner] = await Promise.all([b.startTls({ cert, key }), a.startTls({ ca, serverName: 'localhost' })])
  return { a: inner, b: accepted }
}

/** Reads and writes of few bytes, and many that find nothing at first. */
const CHOPPY: FaultPlan = { slice: 300, ragged: true, stutter: 0.2, seed: 9 }

/** Two ends of a UNIX-domain connection, below the level of connections. */
async function unixHandles(): Promise<[StreamHandle, StreamHandle]> {
  const driver = node()
  const settings = { noDelay: true, keepAlive: false, backlog: 1, ipv6Only: false, reusePort: false } as const
  const listener = await driver.listen({ family: 'unix', path: await freshPath(), abstract: false }, settings)
  const accepted = new Promise<StreamHandle>((resolve) => {
    listener.attach({
      acceptable: () => {
        const handle = listener.accept()
        if (handle !== undefined) resolve(handle)
      },
    })
  })
  const dialled = new Promise<StreamHandle>((resolve, reject) => {
    driver.dial(listener.local, settings, (error, handle) => (handle ? resolve(handle) : reject(error as Error)))
  })
  const pair = await Promise.all([dialled, accepted])
  await new Promise<void>((resolve) => listener.close(resolve))
  return pair
}

/** TLS by public means alone, which other runtimes use. */
function portableTls(): Transport {
  const how = { clock: systemClock, portable: true }
  return {
    driver: 'node',
    transport: 'portable tls',
    name: 'node portable tls',
    async pair(): Promise<ConnectionPair> {
      const { ca, cert, key } = await testCredentials()
      const [one, other] = await unixHandles()
      const [client, server] = await Promise.all([
        secure(one, prepareClient({ ca, serverName: 'localhost' }), how),
        secure(other, prepareServer({ cert, key }), how),
      ])
      const pair = connectHandles(client.handle, server.handle)
      return { a: pair.a, b: pair.b, dispose: () => pair.owner.end({ abort: true }) }
    },
    async close() {},
  }
}

/** Sockets that Node made and somebody else had before: the plain path through the runtime's streams. */
function adopted(): Transport {
  const network = new Network()
  let server: Server | undefined
  return {
    driver: 'node',
    transport: 'adopted',
    name: 'node adopted',
    async pair(): Promise<ConnectionPair> {
      if (server === undefined) {
        server = createServer({ allowHalfOpen: true, pauseOnConnect: true })
        await once(server.listen(0, '127.0.0.1'), 'listening')
      }
      const accepted = once(server, 'connection')
      const { port } = server.address() as AddressInfo
      const dialled = createConnection({ port, host: '127.0.0.1', allowHalfOpen: true })
      const [[socket]] = await Promise.all([accepted, once(dialled, 'connect')])
      dialled.pause()
      return { a: network.fromNode(dialled), b: network.fromNode(socket as Socket) }
    },
    async close() {
      server?.close()
      await network.end({ abort: true })
    },
  }
}

const loopback4 = async () => 'tcp://127.0.0.1:0'
const secure4 = async () => 'tls://127.0.0.1:0'

const noIpv6 = hasIpv6 ? undefined : 'this machine has no IPv6 loopback address'

const tcp4: Way = { at: loopback4 }
const tcp6: Way = { at: async () => 'tcp://[::1]:0', missing: noIpv6 }
const unix: Way = { at: async () => `unix:${await freshPath()}` }
const abstract: Way = { at: async () => `unix:@fairlead-${process.pid}-${++names}` }
const tls13 = overTls(secure4, 'TLSv1.3')
const tls12 = overTls(secure4, 'TLSv1.2')
const tlsOverUnix = overTls(async () => `tls+unix:${await freshPath()}`, 'TLSv1.3')
const tlsInTls: Way = { ...tls13, wrap: inTls }

export const TRANSPORTS: readonly Transport[] = [
  inMemory('unbounded', Number.POSITIVE_INFINITY),
  inMemory('limited', 65_536),
  inMemory('lockstep', 'lockstep'),
  inMemory('choppy', 4096, CHOPPY),
  overNetwork('tcp4', tcp4),
  overNetwork('tcp6', tcp6),
  adopted(),
  overNetwork('unix', unix),
  overNetwork('tls1.3', tls13),
  overNetwork('tls1.2', tls12),
  overNetwork('tls over unix', tlsOverUnix),
  overNetwork('choppy tls', { ...tls13, driver: faulty(memory(), { ...CHOPPY, slice: 1500 }) }, 'memory'),
  portableTls(),
  overNetwork('tls in tls', tlsInTls),
  overKernel('tcp4', tcp4),
  overKernel('tcp6', tcp6),
  overKernel('unix', unix),
  overKernel('abstract', abstract),
  overKernel('tls1.3', tls13),
  overKernel('tls1.2', tls12),
  overKernel('tls over unix', tlsOverUnix),
  overKernel('tls in tls', tlsInTls),
]

export interface NetworkCell extends NetworkMaker {
  readonly driver: DriverName
  readonly transport: string
  readonly missing?: string | undefined
  /** Fails if the driver did what it must not, or left something open. */
  close?(): void
}

/** Where dialling, listening and serving are tested. */
export async function NETWORKS(): Promise<readonly NetworkCell[]> {
  const { ca, cert, key } = await testCredentials()
  const real = async () => ({ network: new Network({ driver: node() }) })
  const virtual = async () => {
    const clock = new VirtualClock()
    return { network: new Network({ driver: memory(), clock }), clock }
  }
  const tls = { listen: { tls: { cert, key } }, connect: { tls: { ca, serverName: 'localhost' } } }
  const inFile = async () => `unix:${await freshPath()}`
  const cells: NetworkCell[] = [
    { driver: 'memory', transport: 'memory tcp', name: 'memory tcp', network: virtual, endpoint: loopback4 },
    { driver: 'memory', transport: 'memory unix', name: 'memory unix', network: virtual, endpoint: async () => `unix:@s${++names}` },
    { driver: 'node', transport: 'tcp4', name: 'node tcp4', network: real, endpoint: loopback4 },
    { driver: 'node', transport: 'unix', name: 'node unix', network: real, endpoint: inFile },
    { driver: 'node', transport: 'tls1.3', name: 'node tls1.3', network: real, endpoint: secure4, ...tls },
  ]
  const onKernel = (transport: string, cell: Omit<NetworkCell, 'driver' | 'transport' | 'name' | 'network'>) => {
    const missing = kernelMissing ?? cell.missing
    const watched = missing === undefined ? watchedKernel() : undefined
    const network = async () => ({ network: new Network({ driver: watched?.driver }) })
    const name = `kernel ${transport}`
    cells.push({ ...cell, driver: 'kernel', transport: name, name, network, missing, close: () => watched?.ledger.check() })
  }
  onKernel('tcp4', { endpoint: loopback4 })
  onKernel('tcp6', { endpoint: tcp6.at, missing: noIpv6 })
  onKernel('unix', { endpoint: inFile })
  onKernel('tls1.3', { endpoint: secure4, ...tls })
  return cells
}

export interface DatagramCell extends DatagramMaker {
  readonly driver: DriverName
  readonly transport: string
  readonly missing?: string | undefined
  /** Fails if the driver did what it must not, or left something open. */
  close?(): void
}

/** Where datagrams are tested. */
export function DATAGRAMS(): readonly DatagramCell[] {
  const real: DatagramMaker['network'] = async (limits) => ({ network: new Network({ driver: node(), limits }) })
  const virtual: DatagramMaker['network'] = async (limits) => {
    const clock = new VirtualClock()
    return { network: new Network({ driver: memory(), clock, limits }), clock }
  }
  const udp4 = { endpoint: async () => 'udp://127.0.0.1:0', longest: 65_507 }
  const udp6 = { endpoint: async () => 'udp://[::1]:0', longest: 65_527 }
  const unixgram = { endpoint: async () => `unixgram:@d${process.pid}-${++names}` }
  const cells: DatagramCell[] = [
    { driver: 'memory', transport: 'memory udp4', name: 'memory udp4', network: virtual, ...udp4 },
    { driver: 'memory', transport: 'memory udp6', name: 'memory udp6', network: virtual, ...udp6 },
    { driver: 'memory', transport: 'memory unixgram', name: 'memory unixgram', network: virtual, ...unixgram },
    { driver: 'node', transport: 'udp4', name: 'node udp4', network: real, ...udp4 },
    { driver: 'node', transport: 'udp6', name: 'node udp6', network: real, missing: noIpv6, ...udp6 },
  ]
  const onKernel = (transport: string, cell: Omit<DatagramCell, 'driver' | 'transport' | 'name' | 'network'>) => {
    const missing = kernelMissing ?? cell.missing
    const watched = missing === undefined ? watchedKernel() : undefined
    const network: DatagramMaker['network'] = async (limits) => ({ network: new Network({ driver: watched?.driver, limits }) })
    const name = `kernel ${transport}`
    cells.push({ ...cell, driver: 'kernel', transport: name, name, network, missing, close: () => watched?.ledger.check() })
  }
  onKernel('udp4', udp4)
  onKernel('udp6', { ...udp6, missing: noIpv6 })
  onKernel('unixgram', unixgram)
  onKernel('unixgram path', { endpoint: async () => `unixgram:${await freshPath()}` })
  return cells
}
