/** `fairlead listen`: a local end for the first client, or for each in turn, or a program for each. */

import type { Connection, Listener } from '../index.js'
import type { Invocation } from './arguments.js'
import { join, type JoinReport, type Stream } from './join.js'
import { lent, localPlace, type LocalPlace, networkPlace, openLocal, summary, verdictOf } from './places.js'
import { exitCodeOf, nameOf, tally } from './report.js'
import { checkTlsOptions } from './security.js'
import { isTls, listenOptions, serveEach } from './serving.js'
import type { Session } from './session.js'

export async function listenCommand({ operands, options }: Invocation, session: Session): Promise<number> {
  const at = networkPlace(operands[0] as string, 'listen')
  const place = localPlace(operands[1] ?? 'stdio:', 'listen')
  checkTlsOptions(options, 'listen', { listening: isTls(at), dialling: isTls(at) })
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
  const { carried, stop } = tally(reporter)
  try {
    reporter.event('done', summary(await join(client, local, { idle: options['idle-timeout'], signal, carried })))
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
      const report = await turn(session, client, local, shared !== undefined)
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

async function turn(session: Session, client: Connection, local: Stream, untilEnd: boolean): Promise<JoinReport> {
  const { reporter, signal } = session
  reporter.detail(`${nameOf(client.remote)} connected`)
  const each = session.perConnection()
  const { carried, stop } = tally(reporter)
  try {
    const report = await join(client, local, { ...each, signal: either(signal, each.signal), untilEnd, carried })
    reporter.event('done', { remote: nameOf(client.remote), ...summary(report) })
    return report
  } finally {
    stop()
    each.end()
  }
}

/** Aborts with the first of two. (`AbortSignal.any` came with Node 20.3.) */
function either(a: AbortSignal, b: AbortSignal | undefined): AbortSignal {
  if (b === undefined) return a
  const controller = new AbortController()
  for (const one of [a, b]) {
    if (one.aborted) controller.abort(one.reason)
    else one.addEventListener('abort', () => controller.abort(one.reason), { once: true, signal: controller.signal })
  }
  return controller.signal
}
