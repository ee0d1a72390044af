/** `fairlead relay`: each client of A gets a connection of its own to B, many at once. */

import { type Connection, formatEndpoint, type ListenOptions, type Server } from '../index.js'
import type { Invocation } from './arguments.js'
import { join, type Stream } from './join.js'
import { isTls, listenOptions } from './listen.js'
import { dial, type LocalPlace, openLocal, parsePlace, type Place, summary, type NetworkPlace, verdictOf } from './places.js'
import { nameOf, tally } from './report.js'
import { checkTlsOptions, warnInsecure } from './security.js'
import type { Session } from './session.js'

/** Milliseconds that connections have to end after Ctrl-C. */
const DRAIN = 5_000

export async function relayCommand({ operands, options }: Invocation, session: Session): Promise<number> {
  const a = parsePlace(operands[0] as string)
  const b = parsePlace(operands[1] as string)
  const dialling = b.kind === 'network' && (isTls(b) || options.starttls !== undefined)
  checkTlsOptions(options, 'relay', { listening: a.kind === 'network' && isTls(a), dialling })
  warnInsecure(options, session.reporter)
  if (a.kind !== 'network') return once(session, a, b)
  const listening = await listenOptions(a, options, 'relay', session)
  return serveEach(session, a, listening, (client, signal) => opened(session, b, client, signal))
}

async function opened(session: Session, place: Place, client: Connection | undefined, signal: AbortSignal): Promise<Stream> {
  if (place.kind !== 'network') return openLocal(place, 'takes', session.options, client)
  return dial(session.network, place, session.options, 'relay', signal)
}

/** A local A has one client: itself. */
async function once(session: Session, a: LocalPlace, b: Place): Promise<number> {
  const { options, reporter, signal } = session
  session.limitTime()
  const peer = await opened(session, b, undefined, signal)
  let local: Stream
  try {
    local = openLocal(a, 'gives', options)
  } catch (error) {
    peer.abort(error)
    throw error
  }
  const { carried, stop } = tally(reporter)
  try {
    reporter.event('done', summary(await join(peer, local, { idle: options['idle-timeout'], signal, carried })))
  } finally {
    stop()
  }
  const failure = (await verdictOf(local)) ?? (await verdictOf(peer))
  return failure === undefined ? 0 : reporter.failure(failure)
}

/** Joins each client to what `open` gives, until Ctrl-C. A client that fails disturbs no other. */
export async function serveEach(
  session: Session,
  at: NetworkPlace,
  listening: ListenOptions,
  open: (client: Connection, signal: AbortSignal) => Promise<Stream>,
): Promise<number> {
  const { network, options, signal } = session
  const server = await network.serve(
    at.endpoint,
    // How long a half-closed pair may last is for the two ends to say, and for --idle-timeout.
    { ...listening, halfClosed: Number.POSITIVE_INFINITY, ...(options.limit !== undefined && { limits: { connections: options.limit } }) },
    (client) => serveOne(session, client, open),
  )
  announce(session, server)
  await interrupted(signal)
  await drained(session, server)
  return 0
}

async function serveOne(session: Session, client: Connection, open: (client: Connection, signal: AbortSignal) => Promise<Stream>): Promise<void> {
  const { reporter } = session
  const name = nameOf(client.remote)
  const each = session.perConnection()
  try {
    // Nobody needs the far end of a client that has gone; its signal tells.
    const peer = await open(client, client.signal)
    reporter.detail(`${name} connected`)
    const report = await join(client, peer, each)
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

/** Ends a server in order: no new clients, and time for those that are there. */
export async function drained({ options, reporter }: Session, server: Server): Promise<void> {
  const { active } = server.stats
  const within = options.drain ?? DRAIN
  if (active > 0) reporter.say(`draining ${active} connection${active === 1 ? '' : 's'} within ${within} ms; Ctrl-C again ends at once`)
  const report = await server.drain({ within })
  reporter.event('drained', { ...report })
  if (report.aborted > 0) reporter.say(`${report.aborted} of them had to be cut off`)
}
