/** The clients of a bound datagram socket: each address a stream of its own, until it falls silent. */

import { type Address, type DatagramSocket, DeadlineError, formatAddress } from '../index.js'
import type { Options } from './arguments.js'
import { type Cutter, datagramCounts, isRefusal } from './datagrams.js'
import { Bell } from './directions.js'
import { join, type Stream } from './join.js'
import { type NetworkPlace, summary, verdictOf } from './places.js'
import type { Reporter } from './report.js'
import { AGAIN, drainTime, interrupted } from './serving.js'
import type { Session } from './session.js'

/** Milliseconds without a datagram from a client after which it counts as gone. */
const IDLE = 60_000
/** Programs at a time for clients that it costs nothing to forge, and sockets. */
export const MOST_PROGRAMS = 100
export const MOST_CLIENTS = 1_000
/** Bytes and datagrams of one client that wait to be read before the oldest are dropped. */
const MOST_QUEUED = 256 * 1024
const MOST_WAITING = 256
/** Bytes that the system is asked to hold of what nobody has taken yet; it may give less. */
const RECEIVE_BUFFER = 1024 * 1024
/** Milliseconds between two lines about clients that were refused. */
const SELDOM = 1_000

export const clientIdle = (options: Options): number => options['idle-timeout'] ?? IDLE

interface ClientStats {
  bytesRead: number
  bytesWritten: number
  datagramsRead: number
  datagramsWritten: number
  dropped: number
}

/**
 * One address. Only its own datagrams keep it: an address somebody else forged is not sent things for ever because the far
 * end has much to say.
 */
export class Client implements Stream {
  readonly remote: Address
  readonly stats: ClientStats = { bytesRead: 0, bytesWritten: 0, datagramsRead: 0, datagramsWritten: 0, dropped: 0 }
  readonly #socket: DatagramSocket
  readonly #cutter: Cutter | undefined
  readonly #idle: number
  readonly #queue: Uint8Array[] = []
  #queued = 0
  #heardAt: number = Date.now()
  #timer: NodeJS.Timeout | undefined
  #over = false
  #failure: { readonly reason: unknown } | undefined
  readonly #bell: Bell = new Bell()

  /** @param cutter makes datagrams of bytes; absent where each piece that is written is one */
  constructor(socket: DatagramSocket, remote: Address, idle: number, cutter?: Cutter) {
    this.remote = remote
    this.#socket = socket
    this.#cutter = cutter
    this.#idle = idle
    this.#watch()
  }

  #watch(): void {
    const left = this.#heardAt + this.#idle - Date.now()
    if (left > 0) this.#timer = setTimeout(() => this.#watch(), left)
    else this.stop()
  }

  get local(): Address {
    return this.#socket.local
  }

  /** A datagram of this client. */
  offer(data: Uint8Array): void {
    this.#heardAt = Date.now()
    if (this.#over) this.stats.dropped++
    else {
      this.#queue.push(data)
      this.#queued += data.length
    }
    while (this.#queue.length > MOST_WAITING || this.#queued > MOST_QUEUED) {
      this.#queued -= (this.#queue.shift() as Uint8Array).length
      this.stats.dropped++
    }
    this.#bell.ring()
  }

  async read({ signal }: { signal?: AbortSignal | undefined } = {}): Promise<Uint8Array | null> {
    for (;;) {
      signal?.throwIfAborted()
      if (this.#failure !== undefined) throw this.#failure.reason
      const data = this.#queue.shift()
      if (data !== undefined) {
        this.#queued -= data.length
        this.stats.datagramsRead++
        this.stats.bytesRead += data.length
        return data
      }
      if (this.#over) return null
      await this.#bell.wait(signal)
    }
  }

  async write(data: Uint8Array): Promise<void> {
    for (const piece of this.#cutter?.cut(data) ?? [data]) await this.#send(piece)
  }

  async #send(data: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.reason
    try {
      await this.#socket.send(data, this.remote)
      this.stats.datagramsWritten++
      this.stats.bytesWritten += data.length
    } catch (error) {
      // Whoever is not there now may be so again before it counts as silent.
      if (!isRefusal(error)) throw error
    }
  }

  async end(): Promise<void> {
    for (const piece of this.#cutter?.rest() ?? []) await this.#send(piece)
    // Nobody is there to answer any more.
    this.stop()
  }

  /** Takes nothing more; what is queued can still be read, then it ends. */
  stop(): void {
    clearTimeout(this.#timer)
    this.#over = true
    this.#bell.ring()
  }

  async close(): Promise<void> {
    this.stop()
  }

  abort(reason?: unknown): void {
    this.#failure ??= { reason }
    this.stop()
  }
}

interface Serving {
  /** Most clients at a time. Who comes when there are so many is not heard: a flood of forged addresses must not push out those we know. */
  limit: number
  /** Go on when all clients have gone. */
  keep: boolean
  /** Makes the datagrams of a client, where what it is joined to gives bytes. */
  cutter?: (() => Cutter) | undefined
  open: (client: Client, signal: AbortSignal) => Promise<Stream>
}

interface Served {
  readonly client: Client
  readonly served: Promise<void>
}

/** A bound socket, whose endpoint is told. */
export async function bound({ network, reporter, signal }: Session, at: NetworkPlace): Promise<DatagramSocket> {
  const socket = await network.bind(at.endpoint, { signal, receiveBuffer: RECEIVE_BUFFER })
  const { endpoint } = socket
  reporter.say(`listening at ${endpoint}`)
  reporter.event('listening', { endpoint })
  return socket
}

/** Joins each client to what `open` gives, until Ctrl-C. A client that fails disturbs no other. */
export async function serveClients(session: Session, at: NetworkPlace, { limit, keep, cutter, open }: Serving): Promise<number> {
  const { options, reporter, signal } = session
  const socket = await bound(session, at)
  const clients = new Map<string, Served>()
  const over = new AbortController()
  const cut = new AbortController()
  void interrupted(signal).then(() => over.abort())
  const refused = seldom(reporter, limit)

  const come = (from: Address, name: string): Client | undefined => {
    if (clients.size >= limit) return refused()
    const client = new Client(socket, from, clientIdle(options), cutter?.())
    const served = serve(session, client, name, open, cut.signal).then(() => {
      clients.delete(name)
      if (clients.size === 0 && !keep) over.abort()
    })
    clients.set(name, { client, served })
    return client
  }

  while (!over.signal.aborted) {
    try {
      const { data, from, truncated } = await socket.receive({ signal: over.signal })
      const name = formatAddress(from)
      // Half a message must not pass for a whole one.
      if (!truncated) (clients.get(name)?.client ?? come(from, name))?.offer(data)
    } catch (error) {
      if (!over.signal.aborted && !isRefusal(error)) throw error
    }
  }
  await drain(session, [...clients.values()], cut)
  await socket.close()
  tellLost(reporter, socket)
  return 0
}

/** Takes nothing more, and gives what serves the clients some time to end; then it is cut off. */
async function drain({ options, reporter }: Session, clients: readonly Served[], cut: AbortController): Promise<void> {
  const within = drainTime(options)
  if (clients.length > 0)
    reporter.detail(`draining ${clients.length} client${clients.length === 1 ? '' : 's'} within ${within} ms; ${AGAIN}`)
  const late = () => cut.abort(new DeadlineError('DEADLINE', `the deadline passed: ${within} ms to drain`, { op: 'drain' }))
  const timer = setTimeout(late, within)
  for (const { client } of clients) client.stop()
  await Promise.all(clients.map(({ served }) => served))
  clearTimeout(timer)
}

/** Says how many datagrams came faster than they were taken: what was received is not all there was. */
export function tellLost(reporter: Reporter, { stats: { dropped } }: DatagramSocket): void {
  if (dropped === 0) return
  reporter.say(`${dropped} datagram${dropped === 1 ? '' : 's'} came faster than they could be taken, and were lost`)
  reporter.event('lost', { count: dropped })
}

async function serve(session: Session, client: Client, name: string, open: Serving['open'], cut: AbortSignal): Promise<void> {
  const { reporter, signal } = session
  const each = session.perConnection(cut)
  reporter.event('client', { remote: name })
  reporter.detail(`${name} came`)
  try {
    const peer = await open(client, signal)
    const report = await join(client, peer, { signal: each.signal })
    reporter.event('done', { remote: name, ...summary(report), ...datagramCounts(client.stats) })
    const failure = await verdictOf(peer)
    if (failure !== undefined) reporter.failure(failure, name)
  } catch (error) {
    client.abort(error)
    if (!signal.aborted || cut.aborted) reporter.failure(error, name)
  } finally {
    each.end()
  }
}

/** Counts, and tells now and then. */
function seldom(reporter: Reporter, limit: number): () => undefined {
  let count = 0
  let timer: NodeJS.Timeout | undefined
  return () => {
    count++
    timer ??= setTimeout(() => {
      reporter.event('refused', { reason: 'limit', count })
      reporter.say(`${count} datagram${count === 1 ? '' : 's'} of new clients dropped: --limit is ${limit}`)
      count = 0
      timer = undefined
    }, SELDOM).unref()
    return undefined
  }
}
