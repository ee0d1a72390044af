/** `fairlead relay`: each client of A gets a connection of its own to B, many at once. */

import { Cancelled, Connection, DeadlineError, Denied, relay } from '../index.js'
import { type Invocation, UsageError } from './arguments.js'
import { type Client, MOST_CLIENTS, MOST_PROGRAMS, serveClients } from './clients.js'
import { connected } from './connect.js'
import { checkDatagramOptions, Cutter, dialDatagrams, isDatagram, PeerStream } from './datagrams.js'
import { join, type JoinOptions, type JoinReport, type Stream } from './join.js'
import { type LocalPlace, type NetworkPlace, openLocal, parsePlace, type Place, summary, verdictOf } from './places.js'
import { nameOf, tally } from './report.js'
import { checkTlsOptions, warnInsecure } from './security.js'
import { isTls, listenOptions, serveEach } from './serving.js'
import type { Session } from './session.js'

export async function relayCommand({ operands, options }: Invocation, session: Session): Promise<number> {
  const a = parsePlace(operands[0] as string)
  const b = parsePlace(operands[1] as string)
  const dialling = b.kind === 'network' && (isTls(b) || options.starttls !== undefined)
  checkTlsOptions(options, 'relay', { listening: a.kind === 'network' && isTls(a), dialling })
  const datagrams = [a, b].map((place) => place.kind === 'network' && isDatagram(place.endpoint))
  if (a.kind === 'network' && b.kind === 'network' && datagrams[0] !== datagrams[1]) {
    throw new UsageError(`a stream does not keep datagrams apart: ${a.text} and ${b.text} must both be udp:, or neither`, 'relay')
  }
  checkDatagramOptions(options, 'relay', datagrams.includes(true))
  warnInsecure(options, session.reporter)
  if (a.kind !== 'network') return once(session, a, b)
  if (b.kind === 'stdio' || b.kind === 'fd') {
    throw new UsageError(`many clients cannot share ${b.text}; fairlead listen --keep ${a.text} serves them in turn`, 'relay')
  }
  if (datagrams[0]) return relayDatagrams(session, a, b)
  const listening = await listenOptions(a, options, 'relay', session)
  return serveEach(session, a, listening, (client, signal) => opened(session, b, client, signal), carry)
}

async function opened(session: Session, place: Place, client: Connection | undefined, signal: AbortSignal): Promise<Stream> {
  if (place.kind !== 'network') return openLocal(place, 'takes', session.options, client)
  return connected(session, place, 'relay', { signal })
}

/** Two connections are joined by the library, which can leave the bytes with the system. */
async function carry(client: Connection, peer: Stream, o: JoinOptions): Promise<JoinReport> {
  if (!(peer instanceof Connection)) return join(client, peer, o)
  const { idle, signal } = o
  try {
    return { ...(await relay(client, peer, { idle, signal })), outcome: 'ended' }
  } catch (error) {
    if (error instanceof Cancelled && signal?.aborted) throw signal.reason
    if (!(error instanceof Denied && error.code === 'IDLE')) throw error
    throw new DeadlineError('DEADLINE', `the deadline passed: no byte in either direction for ${idle} ms`, { op: 'relay', cause: error })
  }
}

function relayDatagrams(session: Session, a: NetworkPlace, b: NetworkPlace | LocalPlace): Promise<number> {
  const { options, network, reporter } = session
  const local = b.kind !== 'network'
  return serveClients(session, a, {
    limit: options.limit ?? (b.kind === 'exec' ? MOST_PROGRAMS : MOST_CLIENTS),
    keep: true,
    cutter: local ? () => new Cutter(options) : undefined,
    open: async (client, signal) => (local ? openLocal(b, 'takes', options, client) : beyond(client, signal)),
  })

  /** A socket towards B. That nobody receives there is told once for each client, which may send on: somebody may come. */
  async function beyond(client: Client, signal: AbortSignal): Promise<Stream> {
    let told = false
    const refused = (error: unknown) => {
      if (!told) reporter.failure(error, nameOf(client.remote))
      told = true
    }
    return new PeerStream(await dialDatagrams(network, (b as NetworkPlace).endpoint, options, signal), { wait: 0, refused })
  }
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
