/** `fairlead send`: a file to an endpoint, and the word of the peer that it has all of it. */

import { statSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import type { Connection } from '../index.js'
import { type Invocation, quote, UsageError } from './arguments.js'
import { connected } from './connect.js'
import { checkDatagramOptions, datagramCounts, isDatagram, PeerStream } from './datagrams.js'
import { join, type Stream } from './join.js'
import { standardInput } from './local.js'
import { droppedBy, type LocalPlace, networkPlace, openLocal, parsePlace, summary, verdictOf } from './places.js'
import { type Reporter, Sum, tally } from './report.js'
import { checkTlsOptions, warnInsecure } from './security.js'
import type { Session } from './session.js'

/** Bytes a second: what most paths carry, and most receivers keep up with. */
const RATE = 1024 * 1024
/** Milliseconds of sending that may be made up for in one go. */
const BURST = 20
/** Milliseconds until it is said what is waited for. */
const LONG = 2_000

export async function sendCommand({ operands, options }: Invocation, session: Session): Promise<number> {
  const { reporter, signal } = session
  const place = fileToGive(operands[0] as string)
  const to = networkPlace(operands[1] as string, 'send')
  const datagrams = isDatagram(to.endpoint)
  checkTlsOptions(options, 'send', {
    listening: false,
    dialling: to.endpoint.transport.startsWith('tls') || options.starttls !== undefined,
  })
  checkDatagramOptions(options, 'send', datagrams)
  warnInsecure(options, reporter)
  session.limitTime()
  // A file that is not there is no reason to disturb anybody.
  const local = place.kind === 'stdio' ? standardInput() : openLocal(place, 'gives', options)
  let peer: Connection | PeerStream
  try {
    peer = await connected(session, to, 'send', { pace: pacer(options.rate ?? RATE, signal) })
  } catch (error) {
    local.abort(error)
    await local.close()
    throw error
  }
  const sum = new Sum()
  const { carried, stop } = tally(reporter, { silent: true, total: sizeOf(place) })
  const receiver = peer instanceof PeerStream ? peer : new Receiver(peer, reporter)
  try {
    const report = await join(receiver, local, {
      idle: options['idle-timeout'],
      signal,
      carried: (direction, bytes) => {
        if (direction === 'back') sum.add(bytes)
        carried(direction, bytes)
      },
    })
    stop()
    const sha256 = sum.digest()
    if (receiver instanceof Receiver) {
      reporter.say(`sent ${sum.size}, sha256 ${sha256}`)
      reporter.event('done', { ...summary(report), confirmed: !receiver.endedEarly, sha256 })
    } else {
      const { datagramsWritten: count } = receiver.stats
      reporter.say(`sent ${sum.size} in ${count} datagram${count === 1 ? '' : 's'}, sha256 ${sha256}`)
      reporter.say('datagrams may be lost, doubled or come in another order: nothing confirms that they arrived')
      reporter.event('done', { ...summary(report), ...datagramCounts(receiver.stats), confirmed: false, sha256 })
    }
  } finally {
    stop()
  }
  if (droppedBy(local) > 0) reporter.detail(`${droppedBy(local)} bytes came back and were dropped`)
  const failure = await verdictOf(local)
  return failure === undefined ? 0 : reporter.failure(failure)
}

/** A path, or a local end that gives bytes. */
function fileToGive(text: string): LocalPlace {
  if (!/^(?:-$|(?:stdio|file|fd|exec|tcp|tls|udp|unix|tls\+unix|unixgram|unixpacket):)/i.test(text))
    return { kind: 'file', text, path: text }
  const place = parsePlace(text)
  if (place.kind !== 'network') return place
  throw new UsageError(`send wants FILE first and ENDPOINT second, got ${quote(text)}`, 'send')
}

function sizeOf(place: LocalPlace): number | undefined {
  if (place.kind !== 'file') return undefined
  const stat = statSync(place.path, { throwIfNoEntry: false })
  return stat?.isFile() ? stat.size : undefined
}

/** Knows whether the end of the peer came after ours, which says that it has taken everything. */
class Receiver implements Stream {
  endedEarly = false
  readonly #connection: Connection
  readonly #reporter: Reporter
  #sent = false
  #waiting: NodeJS.Timeout | undefined

  constructor(connection: Connection, reporter: Reporter) {
    this.#connection = connection
    this.#reporter = reporter
  }

  get stats(): Connection['stats'] {
    return this.#connection.stats
  }

  async read(o?: { signal?: AbortSignal | undefined }): Promise<Uint8Array | null> {
    const bytes = await this.#connection.read(o)
    if (bytes === null) {
      clearTimeout(this.#waiting)
      this.endedEarly = !this.#sent
      if (this.endedEarly)
        this.#reporter.warn('the peer ended its direction before everything was sent: nothing will confirm that it took all of it')
    }
    return bytes
  }

  write(data: Uint8Array): Promise<void> {
    return this.#connection.write(data)
  }

  async end(): Promise<void> {
    this.#sent = true
    await this.#connection.end()
    this.#waiting = setTimeout(() => this.#reporter.say('everything is sent; waiting for the end of the peer'), LONG)
    this.#waiting.unref()
  }

  flush(o?: { timeout?: number | undefined }): Promise<void> {
    return this.#connection.flush(o)
  }

  close(o?: { timeout?: number | undefined }): Promise<unknown> {
    clearTimeout(this.#waiting)
    return this.#connection.close(o)
  }

  abort(reason?: unknown): void {
    clearTimeout(this.#waiting)
    this.#connection.abort(reason)
  }
}

/** Spreads bytes over time. */
function pacer(rate: number, signal: AbortSignal): (bytes: number) => Promise<void> {
  let due = performance.now()
  return async (bytes) => {
    const early = due - performance.now()
    // A timer fires a millisecond late or more; what that costs is made up for.
    if (early >= 1) await pause(Math.ceil(early), undefined, { signal })
    due = Math.max(due, performance.now() - BURST) + (bytes / rate) * 1_000
  }
}
