/** `fairlead listen`: a local end for the first client, or for each in turn, or a program for each. */

import type { Connection, Listener } from '../index.js'
import type { Invocation } from './arguments.js'
import { bound, clientIdle, MOST_PROGRAMS, serveClients, tellLost } from './clients.js'
import { checkDatagramOptions, Cutter, datagramCounts, Everybody, isDatagram } from './datagrams.js'
import { join, type JoinReport, type Stream } from './join.js'
import { lent, localPlace, type LocalPlace, networkPlace, type NetworkPlace, openLocal, summary, verdictOf } from './places.js'
import { counted, exitCodeOf, nameOf } from './report.js'
import { checkTlsOptions } from './security.js'
import { isTls, listenOptions, serveEach } from './serving.js'
import type { Session } from './session.js'

export async function listenCommand({ operands, options }: Invocation, session: Session): Promise<number> {
  const at = networkPlace(operands[0] as string, 'listen')
  const place = localPlace(operands[1] ?? 'stdio:', 'listen')
  checkTlsOptions(options, 'listen', { listening: isTls(at), dialling: isTls(at) })
  checkDatagramOptions(options, 'listen', isDatagram(at.endpoint))
  if (isDatagram(at.endpoint)) return datagrams(session, at, place)
  const listening = await listenOptions(at, options, 'listen', session)
  if (options.keep && place.kind === 'exec') {
    return serveEach(session, at, listening, async (client) => openLocal(place, 'takes', options, client))
  }
  const listener = await session.network.listen(at.endpoint, listening)
  session.reporter.say(`listening at ${listener.endpoint}`)
  session.reporter.event('listening', { endpoint: listener.endpoint })
  return options.keep ? inTurn(session, listener, place) : first(session, listener, place)
}

async function first(session: Session, listener: Listener, place: LocalPlace): Promise<number> {
  const { options, reporter, signal } = session
  const connectTimeout = options['connect-timeout']
  const client = await listener.accept({ signal, ...(connectTimeout !== undefined && { timeout: connectTimeout }) })
  await listener.close()
  reporter.detail(`${nameOf(client.remote)} connected`)
  session.limitTime()
  let local: Stream
  try {
    local = openLocal(place, 'takes', options, client)
  } catch (error) {
    client.abort(error)
    throw error
  }
  const { carried, stop, told } = counted(reporter, place.kind === 'file')
  try {
    const report = await join(client, local, { idle: options['idle-timeout'], signal, carried })
    reporter.event('done', { ...summary(report), ...told() })
  } finally {
    stop()
  }
  const failure = await verdictOf(local)
  return failure === undefined ? 0 : reporter.failure(failure)
}

/** Clients one after the other. Standard streams and descriptors go from one to the next; a file is opened for each. */
async function inTurn(session: Session, listener: Listener, place: LocalPlace): Promise<number> {
  const { options, reporter, signal } = session
  const shared = place.kind === 'file' ? undefined : openLocal(place, 'takes', options)
  let exit = 0
  for (;;) {
    let client: Connection
    try {
      client = await listener.accept({ signal })
    } catch (error) {
      const cause = session.causeOf(error)
      if (signal.aborted && exitCodeOf(cause) === 130) break
      throw cause
    }
    try {
      const local = shared === undefined ? openLocal(place, 'takes', options, client) : lent(shared)
      const report = await turn(session, client, local, place.kind)
      if (report.outcome === 'reader-gone') break
    } catch (error) {
      client.abort(error)
      if (signal.aborted) break
      exit = reporter.failure(error, nameOf(client.remote))
    }
  }
  await listener.close()
  await shared?.close()
  return signal.aborted ? 0 : exit
}

async function turn(session: Session, client: Connection, local: Stream, kind: LocalPlace['kind']): Promise<JoinReport> {
  const { reporter, signal } = session
  reporter.detail(`${nameOf(client.remote)} connected`)
  const each = session.perConnection(signal)
  const { carried, stop, told } = counted(reporter, kind === 'file')
  try {
    // Standard streams outlive the client, whose end is the end of its turn; a file has one client and is complete with it.
    const report = await join(client, local, { ...each, untilEnd: kind !== 'file', carried })
    reporter.event('done', { remote: nameOf(client.remote), ...summary(report), ...told() })
    return report
  } finally {
    stop()
    each.end()
  }
}

/** Many clients at once: a program for each, or one local end for all. */
async function datagrams(session: Session, at: NetworkPlace, place: LocalPlace): Promise<number> {
  const { options, reporter, signal } = session
  const keep = options.keep ?? false
  if (place.kind === 'exec') {
    const limit = options.limit ?? MOST_PROGRAMS
    const open = async (client: Parameters<typeof openLocal>[3]) => openLocal(place, 'takes', options, client)
    return serveClients(session, at, { limit, keep, cutter: () => new Cutter(options), open })
  }
  const socket = await bound(session, at)
  const everybody = new Everybody(socket, {
    cutter: new Cutter(options),
    patience: options['connect-timeout'],
    idle: keep ? undefined : clientIdle(options),
    changed: (from) => {
      reporter.event('client', { remote: nameOf(from) })
      reporter.detail(`${nameOf(from)} sends`)
    },
  })
  session.limitTime()
  signal.addEventListener('abort', () => everybody.stop(), { once: true })
  const local = openLocal(place, 'takes', options)
  const { carried, stop, told } = counted(reporter, place.kind === 'file')
  try {
    const report = await join(everybody, local, { untilEnd: true, carried })
    reporter.event('done', { ...summary(report), ...datagramCounts(socket.stats), ...told() })
  } finally {
    stop()
  }
  tellLost(reporter, socket)
  // Datagrams have no end but ours, so with --keep Ctrl-C is the orderly one.
  if (signal.aborted && !(keep && exitCodeOf(signal.reason) === 130)) throw signal.reason
  return 0
}
