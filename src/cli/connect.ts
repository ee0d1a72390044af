/** `fairlead connect`: an endpoint and a local end, joined. */

import { type Connection, formatAddress, formatEndpoint } from '../index.js'
import type { Invocation } from './arguments.js'
import { checkDatagramOptions, Cutter, datagramCounts, dialDatagrams, isDatagram, PeerStream, quietTime } from './datagrams.js'
import { join, type Stream } from './join.js'
import { dial, droppedBy, localPlace, networkPlace, type NetworkPlace, openLocal, summary, verdictOf } from './places.js'
import { type Reporter, tally } from './report.js'
import { checkTlsOptions, warnInsecure } from './security.js'
import type { Session } from './session.js'

export async function connectCommand({ operands, options }: Invocation, session: Session): Promise<number> {
  const { reporter, signal } = session
  const to = networkPlace(operands[0] as string, 'connect')
  const place = localPlace(operands[1] ?? 'stdio:', 'connect')
  checkTlsOptions(options, 'connect', {
    listening: false,
    dialling: to.endpoint.transport.startsWith('tls') || options.starttls !== undefined,
  })
  checkDatagramOptions(options, 'connect', isDatagram(to.endpoint))
  warnInsecure(options, reporter)
  session.limitTime()
  const peer = await connected(session, to, 'connect')
  let local: Stream
  try {
    local = openLocal(place, 'gives', options, peer)
  } catch (error) {
    peer.abort(error)
    throw error
  }
  const { carried, stop } = tally(reporter)
  try {
    const report = await join(peer, local, { idle: options['idle-timeout'], signal, carried })
    reporter.event('done', { ...summary(report), ...(peer instanceof PeerStream && datagramCounts(peer.stats)) })
  } finally {
    stop()
  }
  if (droppedBy(local) > 0) reporter.say(`${droppedBy(local)} bytes came back and were dropped: ${place.text} only gives`)
  const failure = await verdictOf(local)
  return failure === undefined ? 0 : reporter.failure(failure)
}

/** A stream to a network endpoint, over whatever transport; `pace` is for datagrams. */
export async function connected(
  { network, reporter, options, signal: over }: Session,
  to: NetworkPlace,
  command: 'connect' | 'relay' | 'send',
  { signal = over, pace }: { signal?: AbortSignal; pace?: (bytes: number) => Promise<void> } = {},
): Promise<Connection | PeerStream> {
  const peer = isDatagram(to.endpoint)
    ? new PeerStream(await dialDatagrams(network, to.endpoint, options, signal), {
        wait: quietTime(options),
        cutter: new Cutter(options),
        pace,
      })
    : await dial(network, to, options, command, signal)
  reporter.detail(`connected to ${formatEndpoint(to.endpoint)}${peer.remote ? ` at ${formatAddress(peer.remote)}` : ''}`)
  if (!(peer instanceof PeerStream)) tellSecurity(peer, reporter)
  return peer
}

function tellSecurity({ security }: Connection, reporter: Reporter): void {
  if (security === null) return
  const { protocol, cipher, alpn, verified, peerCertificate } = security
  reporter.detail(
    `${protocol} ${cipher}${alpn ? ` ${alpn}` : ''}, ${verified ? 'verified' : 'NOT verified'}${peerCertificate ? `: ${peerCertificate.subject}` : ''}`,
  )
}
