/** `fairlead relay`: each client of A gets a connection of its own to B, many at once. */

import type { Connection } from '../index.js'
import { type Invocation, UsageError } from './arguments.js'
import { join, type Stream } from './join.js'
import { dial, type LocalPlace, openLocal, parsePlace, type Place, summary, verdictOf } from './places.js'
import { tally } from './report.js'
import { checkTlsOptions, warnInsecure } from './security.js'
import { isTls, listenOptions, serveEach } from './serving.js'
import type { Session } from './session.js'

export async function relayCommand({ operands, options }: Invocation, session: Session): Promise<number> {
  const a = parsePlace(operands[0] as string)
  const b = parsePlace(operands[1] as string)
  const dialling = b.kind === 'network' && (isTls(b) || options.starttls !== undefined)
  checkTlsOptions(options, 'relay', { listening: a.kind === 'network' && isTls(a), dialling })
  warnInsecure(options, session.reporter)
  if (a.kind !== 'network') return once(session, a, b)
  if (b.kind === 'stdio' || b.kind === 'fd') {
    throw new UsageError(`many clients cannot share ${b.text}; fairlead listen --keep ${a.text} serves them in turn`, 'relay')
  }
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
