/** `fairlead connect`: an endpoint and a local end, joined. */

import { formatAddress, formatEndpoint } from '../index.js'
import type { Invocation } from './arguments.js'
import { join, type Stream } from './join.js'
import { dial, droppedBy, localPlace, networkPlace, openLocal, summary, verdictOf } from './places.js'
import { tally } from './report.js'
import { checkTlsOptions, warnInsecure } from './security.js'
import type { Session } from './session.js'

export async function connectCommand({ operands, options }: Invocation, session: Session): Promise<number> {
  const { network, reporter, signal } = session
  const to = networkPlace(operands[0] as string, 'connect')
  const place = localPlace(operands[1] ?? 'stdio:', 'connect')
  checkTlsOptions(options, 'connect', {
    listening: false,
    dialling: to.endpoint.transport.startsWith('tls') || options.starttls !== undefined,
  })
  warnInsecure(options, reporter)
  session.limitTime()
  const connection = await dial(network, to, options, 'connect', signal)
  const { security } = connection
  reporter.detail(`connected to ${formatEndpoint(to.endpoint)}${connection.remote ? ` at ${formatAddress(connection.remote)}` : ''}`)
  if (security !== null) {
    const { protocol, cipher, alpn, verified, peerCertificate } = security
    reporter.detail(
      `${protocol} ${cipher}${alpn ? ` ${alpn}` : ''}, ${verified ? 'verified' : 'NOT verified'}${peerCertificate ? `: ${peerCertificate.subject}` : ''}`,
    )
  }
  let local: Stream
  try {
    local = openLocal(place, 'gives', options, connection)
  } catch (error) {
    connection.abort(error)
    throw error
  }
  const { carried, stop } = tally(reporter)
  try {
    const report = await join(connection, local, { idle: options['idle-timeout'], signal, carried })
    reporter.event('done', summary(report))
  } finally {
    stop()
  }
  if (droppedBy(local) > 0) reporter.say(`${droppedBy(local)} bytes came back and were dropped: ${place.text} only gives`)
  const failure = await verdictOf(local)
  return failure === undefined ? 0 : reporter.failure(failure)
}
