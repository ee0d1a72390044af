/** Serving many clients at once, each joined to a stream of its own, and an orderly end. */

import { type Connection, formatEndpoint, type ListenOptions, type Server } from '../index.js'
import { type Options, UsageError } from './arguments.js'
import { join, type JoinOptions, type JoinReport, type Stream } from './join.js'
import { type NetworkPlace, summary, verdictOf } from './places.js'
import { nameOf } from './report.js'
import { serverTls } from './security.js'
import type { Session } from './session.js'

/** Milliseconds that connections have to end after Ctrl-C. */
const DRAIN = 5_000

export const drainTime = (options: Options): number => options.drain ?? DRAIN

export const isTls = ({ endpoint }: NetworkPlace): boolean => endpoint.transport.startsWith('tls')

/** What `listen` and `relay` pass on to the network. */
export async function listenOptions(at: NetworkPlace, options: Options, command: string, session: Session): Promise<ListenOptions> {
  const { mode } = options
  if (mode !== undefined && !/^[0-7]{3,4}$/.test(mode))
    throw new UsageError(`--mode must be an octal number such as 660, got "${mode}"`, command)
  return {
    ...(mode !== undefined && { mode: Number.parseInt(mode, 8) }),
    ...(isTls(at) && { tls: await serverTls(options, at.endpoint, command, session.reporter) }),
  }
}

/** What carries bytes between a client and what it is joined to. */
export type Carry = (client: Connection, peer: Stream, o: JoinOptions) => Promise<JoinReport>

/** Joins each client to what `open` gives, until Ctrl-C. A client that fails disturbs no other. */
export async function serveEach(
  session: Session,
  at: NetworkPlace,
  listening: ListenOptions,
  open: (client: Connection, signal: AbortSignal) => Promise<Stream>,
  carry: Carry = join,
): Promise<number> {
  const { network, options, signal } = session
  const server = await network.serve(
    at.endpoint,
    // How long a half-closed pair may last is for the two ends to say, and for --idle-timeout.
    { ...listening, halfClosed: Number.POSITIVE_INFINITY, ...(options.limit !== undefined && { limits: { connections: options.limit } }) },
    (client) => serveOne(session, client, open, carry),
  )
  announce(session, server)
  await interrupted(signal)
  await drained(session, server)
  return 0
}

async function serveOne(
  session: Session,
  client: Connection,
  open: (client: Connection, signal: AbortSignal) => Promise<Stream>,
  carry: Carry,
): Promise<void> {
  const { reporter } = session
  const name = nameOf(client.remote)
  const each = session.perConnection()
  try {
    // Nobody needs the far end of a client that has gone; its signal tells.
    const peer = await open(client, client.signal)
    reporter.detail(`${name} connected`)
    const report = await carry(client, peer, each)
    reporter.event('done', { id: client.id, remote: name, ...summary(report) })
    const failure = await verdictOf(peer)
    if (failure !== undefined) reporter.failure(failure, name)
  } catch (error) {
    reporter.failure(error, name)
    client.abort(error)
  } finally {
    each.end()
  }
}

export function announce(session: Session, server: Server): void {
  for (const { endpoint } of server.listeners) {
    session.reporter.say(`listening at ${formatEndpoint(endpoint)}`)
    session.reporter.event('listening', { endpoint })
  }
}

export function interrupted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

/** What a second Ctrl-C does. */
export const AGAIN = 'Ctrl-C again ends at once'

/** Ends a server in order: no new clients, and time for those that are there. */
export async function drained({ options, reporter }: Session, server: Server): Promise<void> {
  const { active } = server.stats
  const within = drainTime(options)
  const draining = server.drain({ within })
  if (active > 0) reporter.say(`draining ${active} connection${active === 1 ? '' : 's'} within ${within} ms; ${AGAIN}`)
  const report = await draining
  reporter.event('drained', { ...report })
  if (report.aborted > 0) reporter.say(`${report.aborted} of them had to be cut off`)
}
