/**
 * Dialling: from an endpoint to one connected handle.
 *
 * RFC 8305 ("Happy Eyeballs"), and where this differs from what others do:
 *
 * - One look-up of both families (`getaddrinfo` answers them together, in the order of RFC 6724), so the 50 ms
 *   "resolution delay" of the RFC has no object. Node, Go and curl do the same.
 * - Families alternate, beginning with that of the first address (section 4, "First Address Family Count" 1). Go keeps
 *   two lists and races only their heads; Node and we go through one list.
 * - 250 ms between attempts (section 5). Node cuts an attempt off when the next one starts, so that a host more than
 *   250 ms away cannot be reached at all; here, as the RFC wants, it goes on beside the next.
 * - A failed attempt starts the next at once, and the delay counts from there.
 * - Go gives each address its share of the time left, at least 2 s (`partialDeadline`). The same here, but an
 *   attempt is cut off only while another address waits for its turn: with none left there is nothing to gain.
 * - TCP connects to itself when a dial to a closed port of the ephemeral range is given that port as its source.
 *   Like Go, we notice and dial again.
 */

import type { Address, IpAddress, IpEndpoint, ParsedEndpoint } from './address.js'
import { formatAddress, formatEndpoint, addressOf, isUnixEndpoint, sameAddress } from './address.js'
import { milliseconds } from './arguments.js'
import { arm, momentOf, spanning } from './deadline.js'
import type { Clock, DialSettings, Driver, StreamHandle } from './driver.js'
import type { Attempt, ErrorFacts, Phase } from './errors.js'
import { AddressError, Cancelled, CODES, DeadlineError, Denied, show, SocketError, systemFailure, SystemFailure } from './errors.js'
import { enforce, type PolicyFunction } from './policy.js'
import { lookUp, type Resolver } from './resolve.js'
import { LIMITS, type Wait } from './stream.js'

/** Milliseconds from the start of one attempt to that of the next, RFC 8305 section 8. */
const STAGGER = 250
/** Below this the RFC forbids to go (section 8): it would be a flood. */
const LEAST_STAGGER = 10
/** A share of the total time smaller than this is not worth an attempt. */
const LEAST_SHARE = 2_000
/** How often a connection that met itself is dialled again. */
const SELF_RETRIES = 3
/** Most addresses of one name that are tried: a hostile name must not make a port scan of one dial. */
const MOST_ADDRESSES = 64

/** A handle that won, the address it is connected to, and the attempts that failed before. */
export interface Dialled {
  readonly handle: StreamHandle
  readonly address: Address
  readonly attempts: readonly Attempt[]
}

/** An attempt that failed, with what the platform said. */
interface Failure {
  readonly attempt: Attempt
  readonly error: unknown
}

export interface RaceOptions {
  readonly driver: Pick<Driver, 'dial'>
  readonly clock: Clock
  /** In order of preference; raced in the order of {@link interleave}. At least one. */
  readonly addresses: readonly Address[]
  readonly settings: DialSettings
  /** Milliseconds between attempts, at least 10. Default 250. `Infinity`: one after the other. */
  readonly stagger?: number | undefined
  readonly wait?: Wait | undefined
  /** `op` and `endpoint` for errors. */
  readonly facts?: ErrorFacts | undefined
  /** Looks at a connected handle before it wins; what it throws is the failure of that attempt. */
  readonly confirm?: ((handle: StreamHandle, address: Address) => void) | undefined
  /** What failed before the race: addresses the policy refused. */
  readonly failures?: readonly Failure[] | undefined
}

/** The families of `addresses` in turn, beginning with the first; within a family the order stays. */
export function interleave(addresses: readonly Address[]): Address[] {
  const first = addresses[0]?.family
  const preferred = addresses.filter(({ family }) => family === first)
  const others = addresses.filter(({ family }) => family !== first)
  const mixed: Address[] = []
  for (let i = 0; i < Math.max(preferred.length, others.length); i++) {
    for (const address of [preferred[i], others[i]]) if (address) mixed.push(address)
  }
  return mixed
}

/**
 * The moment until which to try one of `remaining` addresses: an equal share of the time left, at least 2 s, at most
 * all. The arithmetic of `partialDeadline` in Go's `net/dial.go`. Moments are milliseconds; `deadline` may be `Infinity`.
 */
export function attemptDeadline(now: number, deadline: number, remaining: number): number {
  const left = deadline - now
  if (left <= 0 || left === Number.POSITIVE_INFINITY) return deadline
  return now + Math.min(left, Math.max(LEAST_SHARE, left / remaining))
}

/** One attempt in progress. */
interface Running {
  readonly address: Address
  readonly started: number
  retries: number
  over: boolean
  cancel?: () => void
  cancelTimer?: () => void
}

class Race {
  readonly #o: RaceOptions
  readonly #queue: Address[]
  readonly #running: Set<Running> = new Set()
  readonly #failures: Failure[]
  readonly #stagger: number
  readonly #resolve: (won: Dialled) => void
  readonly #reject: (error: unknown) => void
  #cancelNext: (() => void) | undefined
  #disarm: (() => void) | undefined
  /** The moment that `wait.timeout` means; a `Deadline` may move. */
  #until = Number.POSITIVE_INFINITY

  constructor(o: RaceOptions, resolve: (won: Dialled) => void, reject: (error: unknown) => void) {
    this.#o = o
    this.#queue = interleave(o.addresses).slice(0, MOST_ADDRESSES)
    this.#failures = [...(o.failures ?? [])]
    this.#stagger = milliseconds('stagger', o.stagger ?? STAGGER, LEAST_STAGGER)
    this.#resolve = resolve
    this.#reject = reject
  }

  start(): void {
    const { wait, clock } = this.#o
    this.#until = momentOf({ timeout: wait?.timeout }, clock)
    this.#disarm = arm(
      wait,
      clock,
      () => this.#facts(),
      (error) => this.#lose(interrupted(error, this.#o.facts)),
    )
    this.#next()
  }

  #facts(): ErrorFacts {
    const now = this.#o.clock.now()
    const pending = [...this.#running].map(({ address, started }) =>
      attemptOf(address, 'connect', now - started, 'PENDING', 'still trying when time was up'),
    )
    return { ...this.#o.facts, phase: 'connect', attempts: [...this.#failures.map(({ attempt }) => attempt), ...pending] }
  }

  /** Starts the next attempt, if there is one, and the delay before the one after it. */
  #next(): void {
    this.#cancelNext?.()
    this.#cancelNext = undefined
    const address = this.#queue.shift()
    if (address === undefined) {
      if (this.#running.size === 0) this.#lose(dialFailure(this.#failures, this.#o.facts ?? {}))
      return
    }
    const { clock, wait } = this.#o
    const started = clock.now()
    const running: Running = { address, started, retries: 0, over: false }
    this.#running.add(running)
    if (this.#queue.length > 0) {
      if (this.#stagger !== Number.POSITIVE_INFINITY) this.#cancelNext = clock.at(started + this.#stagger, () => this.#next())
      const until = attemptDeadline(started, Math.min(this.#until, momentOf({ deadline: wait?.deadline }, clock)), this.#queue.length + 1)
      if (until !== Number.POSITIVE_INFINITY) running.cancelTimer = clock.at(until, () => this.#cutOff(running))
    }
    this.#dial(running)
  }

  #dial(running: Running): void {
    const { driver, settings } = this.#o
    // A dial that was given up may still report; one that was retried must not be taken for the later one.
    let current = true
    const done = (error: unknown, handle?: StreamHandle) => {
      if (!current || running.over) {
        handle?.destroy(false)
        return
      }
      current = false
      delete running.cancel
      if (handle) this.#connected(running, handle)
      else this.#failed(running, error)
    }
    try {
      const cancel = driver.dial(running.address, settings, done)
      if (current && !running.over) running.cancel = cancel
      else if (current) cancel()
    } catch (error) {
      if (current) done(error)
    }
  }

  #connected(running: Running, handle: StreamHandle): void {
    const { confirm } = this.#o
    if (metItself(handle)) {
      handle.destroy(true)
      if (running.retries++ < SELF_RETRIES) this.#dial(running)
      else this.#failed(running, new SystemFailure('ESELFCONNECT', CODES.SystemFailure.ESELFCONNECT, { phase: 'connect' }))
      return
    }
    try {
      confirm?.(handle, running.address)
    } catch (error) {
      handle.destroy(true)
      if (!running.over) this.#failed(running, error)
      return
    }
    // A policy is code of others, which may have ended the race.
    if (running.over) return handle.destroy(true)
    this.#settle(running)
    this.#finish()
    this.#resolve({ handle, address: running.address, attempts: this.#failures.map(({ attempt }) => attempt) })
  }

  #failed(running: Running, error: unknown): void {
    this.#settle(running)
    this.#failures.push(failureOf(running.address, error, this.#o.clock.now() - running.started))
    this.#next()
  }

  /** The share of this attempt is over. It goes on if no other address waits for its turn. */
  #cutOff(running: Running): void {
    if (this.#queue.length === 0) return
    running.cancel?.()
    this.#failed(running, new SystemFailure('ETIMEDOUT', 'given up for the next address', { phase: 'connect' }))
  }

  #settle(running: Running): void {
    running.over = true
    running.cancelTimer?.()
    this.#running.delete(running)
  }

  #lose(error: unknown): void {
    this.#finish()
    this.#reject(error)
  }

  /** Leaves nothing behind: no timer, no attempt, no listener on the signal. */
  #finish(): void {
    this.#queue.length = 0
    this.#disarm?.()
    this.#cancelNext?.()
    for (const running of [...this.#running]) {
      this.#settle(running)
      running.cancel?.()
    }
  }
}

/**
 * Races `addresses` as RFC 8305 says and gives the first handle that connects. Losers, and winners that come late, are
 * closed; when the promise settles, nothing of the race is left.
 *
 * @throws SystemFailure or Denied with `attempts` when all failed; DeadlineError and Cancelled list those still pending
 */
export function dialAddresses(o: RaceOptions): Promise<Dialled> {
  return new Promise((resolve, reject) => new Race(o, resolve, reject).start())
}

/** Its `wait`, of 30 s unless told otherwise, is for the look-up and all attempts together. */
export interface DialRequest extends Omit<RaceOptions, 'addresses' | 'facts' | 'confirm' | 'failures'> {
  readonly endpoint: ParsedEndpoint
  readonly resolver: Resolver
  readonly policy?: PolicyFunction | undefined
  /** Only addresses of this family. */
  readonly family?: 4 | 6 | undefined
}

/**
 * Looks the endpoint up once, asks the policy about every address, races those it allows, and asks the policy again
 * about the peer of the winner.
 *
 * @throws AddressError for an endpoint that cannot be dialled or a failed look-up; Denied where the policy refused every
 *   address; otherwise as {@link dialAddresses}
 */
export async function dialEndpoint(request: DialRequest): Promise<Dialled> {
  const { endpoint, clock, policy, driver, settings, stagger } = request
  const facts: ErrorFacts = { op: 'connect', endpoint: formatEndpoint(endpoint) }
  const left = spanning(request.wait ?? {}, clock, LIMITS.connect)
  refuseUndiallable(endpoint, facts)
  const literal = addressOf(endpoint)
  const name = literal === undefined ? (endpoint as IpEndpoint).host : undefined
  const subject = { direction: 'connect', endpoint, ...(name !== undefined && { name }) } as const
  if (literal === undefined) enforce(policy, subject, facts)
  const giveUp = (error: unknown) => {
    throw interrupted(error, facts)
  }
  const found = literal ? [literal] : await lookUp(endpoint as IpEndpoint, request, left(), facts).catch(giveUp)

  const addresses: Address[] = []
  const failures: Failure[] = []
  for (const address of found) {
    try {
      enforce(policy, { ...subject, address }, facts)
      refuseOtherFamily(address, settings.from)
      addresses.push(address)
    } catch (error) {
      failures.push(failureOf(address, error, 0))
    }
  }
  if (addresses.length === 0) throw dialFailure(failures, facts)
  const confirm = (handle: StreamHandle, address: Address) => {
    const { remote } = handle
    if (remote === undefined || remote.family === 'unix' || address.family === 'unix') return
    if (!isDialled(remote, address)) {
      throw new Denied('POLICY', `the system connected to ${formatAddress(remote)} and not to ${formatAddress(address)}`, {
        ...facts,
        phase: 'policy',
      })
    }
    enforce(policy, { ...subject, address: remote }, facts)
  }
  return await dialAddresses({ driver, clock, addresses, settings, stagger, wait: left(), facts, confirm, failures })
}

function refuseUndiallable(endpoint: ParsedEndpoint, facts: ErrorFacts): void {
  if (isUnixEndpoint(endpoint)) return
  const text = show(formatEndpoint(endpoint))
  const more = { ...facts, phase: 'parse' } as const
  if (endpoint.host === undefined) throw new AddressError('BAD_HOST', `no host in ${text}: expected a host to connect to`, more)
  if (endpoint.port === 0) throw new AddressError('BAD_PORT', `port 0 in ${text}: expected 1 to 65535 to connect to`, more)
}

function refuseOtherFamily(address: Address, from: Address | undefined): void {
  if (from === undefined || from.family === address.family) return
  const message = `cannot connect from ${formatAddress(from)} (${from.family}) to ${formatAddress(address)} (${address.family})`
  throw new SystemFailure('EAFNOSUPPORT', message, { phase: 'bind' })
}

/** Whether `remote` is where `address` leads. "Unspecified" leads to this host; a scope may be a name here and a number there. */
function isDialled(remote: IpAddress, address: IpAddress): boolean {
  if (address.address === '0.0.0.0' || address.address === '::') return remote.port === address.port
  const { scope: _a, ...there } = remote
  const { scope: _b, ...asked } = address
  return sameAddress(there, asked)
}

function metItself({ local, remote }: StreamHandle): boolean {
  if (local === undefined || remote === undefined || local.family === 'unix' || local.port === 0) return false
  return sameAddress(local, remote)
}

function attemptOf(address: Address, phase: Phase, duration: number, code: string, message: string): Attempt {
  return { address: formatAddress(address), phase, duration, code, message }
}

function failureOf(address: Address, error: unknown, duration: number): Failure {
  const { code, message, phase = isBindError(error) ? 'bind' : 'connect' } = systemFailure(error)
  return { attempt: attemptOf(address, phase, duration, code, message), error }
}

function isBindError(error: unknown): boolean {
  return !(error instanceof SocketError) && (error as { syscall?: unknown } | null | undefined)?.syscall === 'bind'
}

/** Says little about the host that was dialled: there is no route from here, or it was never asked. */
const UNTELLING: ReadonlySet<string> = new Set(['POLICY', 'EAFNOSUPPORT', 'EADDRNOTAVAIL', 'ENETUNREACH', 'EHOSTUNREACH'])

/** The error of a dial of which every attempt failed: that of the last attempt that says something of the host, with all of them listed. */
function dialFailure(failures: readonly Failure[], facts: ErrorFacts): SocketError {
  const telling = failures.filter(({ attempt }) => !UNTELLING.has(attempt.code)).at(-1) ?? (failures.at(-1) as Failure)
  const { attempt, error } = telling
  const Class = (error instanceof SocketError ? error.constructor : SystemFailure) as new (
    code: string,
    message: string,
    facts: ErrorFacts,
  ) => SocketError
  const attempts = failures.map((one) => one.attempt)
  const all = { ...facts, remote: attempt.address, phase: attempt.phase, attempts }
  const intro = `cannot connect to ${facts.endpoint ?? attempt.address}`
  if (failures.length > 1) {
    const errors = failures.map((one) => one.error)
    return new Class(attempt.code, `${intro}: ${listed(attempts)}`, { ...all, cause: new AggregateError(errors, 'every attempt failed') })
  }
  // A refusal of ours tells all of it already.
  if (error instanceof SocketError && error.message.includes(attempt.address))
    return new Class(attempt.code, error.message, { ...all, cause: error.cause })
  return new Class(attempt.code, `${intro}: ${attempt.address}: ${attempt.message}`, { ...all, cause: error })
}

const MOST_LISTED = 8

function listed(attempts: readonly Attempt[]): string {
  const shown = attempts.slice(0, MOST_LISTED).map(({ address, code }) => `${address} ${code}`)
  return shown.join(', ') + (attempts.length > MOST_LISTED ? ` and ${attempts.length - MOST_LISTED} more` : '')
}

/** A deadline or a cancellation with what had been tried in its message; anything else as it is. */
function interrupted(error: unknown, facts: ErrorFacts | undefined): unknown {
  if (!(error instanceof DeadlineError || error instanceof Cancelled)) return error
  const tried = error.attempts?.length ? ` (${listed(error.attempts)})` : error.phase === 'resolve' ? ' (looking up the name)' : ''
  const message = `${error.message} to ${facts?.endpoint ?? 'the address'}${tried}`
  const known = { ...error, cause: error.cause }
  return error instanceof DeadlineError ? new DeadlineError('DEADLINE', message, known) : new Cancelled('CANCELLED', message, known)
}
