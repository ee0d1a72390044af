/** What the command line tells: notices and failures for people, events for programs, and a progress line. */

import { createHash, type Hash } from 'node:crypto'
import { isatty } from 'node:tty'
import { EXIT_CODES, type ErrorClass, formatAddress, type Network, printable, SocketError, type TraceEvent } from '../index.js'
import { type Options, UsageError } from './arguments.js'

/** The exit code of whatever ended a command. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof Interrupted) return error.signal === 'SIGTERM' ? 143 : EXIT_CODES.Cancelled
  if (error instanceof UsageError) return EXIT_CODES.Usage
  if (error instanceof SocketError) return EXIT_CODES[error.name as ErrorClass] ?? EXIT_CODES.Unexpected
  // Native range and type errors come from what was typed: a pin that is no digest, a cipher list that is none.
  if ((error instanceof RangeError || error instanceof TypeError) && /^ERR_(INVALID_ARG|OUT_OF_RANGE)/.test(codeOf(error) ?? ''))
    return EXIT_CODES.Usage
  return EXIT_CODES.Unexpected
}

/** Ctrl-C, or SIGTERM. */
export class Interrupted extends Error {
  readonly signal: NodeJS.Signals

  constructor(signal: NodeJS.Signals) {
    super(`interrupted by ${signal}`)
    this.name = 'Interrupted'
    this.signal = signal
  }
}

function codeOf(error: unknown): string | undefined {
  const code = typeof error === 'object' && error !== null ? (error as { code?: unknown }).code : undefined
  return typeof code === 'string' ? code : undefined
}

/** One line that says why. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return printable(String(error))
  const facts = error as { code?: unknown; endpoint?: unknown; op?: unknown; phase?: unknown }
  const about =
    typeof facts.endpoint === 'string' && facts.phase !== 'parse' && !error.message.includes(facts.endpoint) ? `${facts.endpoint}: ` : ''
  const code = error instanceof SocketError ? ` (${error.code})` : ''
  return printable(`${about}${error.message.split('\n')[0]}${error.message.includes(code.trim()) && code ? '' : code}`)
}

/** Bytes of standard error that wait to be read before lines are left out. */
const MOST_UNTOLD = 1024 * 1024

export class Reporter {
  readonly json: boolean
  readonly quiet: boolean
  readonly verbose: boolean
  #progress: string | undefined
  #untold = 0

  constructor(options: Options) {
    this.json = options.json ?? false
    this.quiet = options.quiet ?? false
    this.verbose = options.verbose ?? false
  }

  /** For people; with `--json` the events say it. */
  say(text: string): void {
    if (!this.quiet && !this.json) this.#line(`fairlead: ${printable(text)}`)
  }

  detail(text: string): void {
    if (this.verbose) this.say(text)
  }

  /** Said even where `--quiet` was asked for. */
  warn(text: string): void {
    if (this.json) this.event('warning', { message: text })
    else this.#line(`fairlead: warning: ${printable(text)}`)
  }

  event(event: string, facts: Readonly<Record<string, unknown>> = {}): void {
    if (this.json)
      this.#line(
        JSON.stringify({ event, at: Date.now(), ...facts }).replace(
          /[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g,
          spelled,
        ),
      )
  }

  /** Tells why something failed; the exit code that goes with it. `about` says what, where there are many. */
  failure(error: unknown, about?: string): number {
    const exit = exitCodeOf(error)
    if (error instanceof Interrupted) return exit
    if (this.json) {
      this.event('error', { ...errorFacts(error), exit, ...(about !== undefined && { about }) })
      return exit
    }
    this.#line(`fairlead: ${about === undefined ? '' : `${printable(about)}: `}${reasonOf(error)}`)
    const attempts = error instanceof SocketError ? (error.attempts ?? []) : []
    if (this.verbose || attempts.length > 1) {
      for (const { address, phase, duration, code, message } of attempts) {
        this.#line(printable(`fairlead:   ${address}: ${phase}: ${message} (${code}) after ${Math.round(duration)} ms`))
      }
    }
    if (this.verbose && error instanceof Error && error.cause instanceof Error) this.#line(`fairlead:   because: ${reasonOf(error.cause)}`)
    if (error instanceof UsageError) this.#line(`fairlead: see fairlead ${error.command ? `help ${error.command}` : '--help'}`)
    return exit
  }

  /** Passes the event stream of a network on. */
  follow(network: Network): void {
    if (this.json) network.trace.subscribe((event) => this.event(event.type, traceFacts(event)))
    else {
      network.trace.subscribe((event) => {
        if (event.type === 'refused') this.say(refusal(event.count, event.reason))
        if (event.type === 'error') this.say(`${event.op}: ${reasonOf(event.error)}`)
      })
    }
  }

  /** Redraws the line that a transfer has on a terminal; `undefined` takes it away. */
  progress(line: string | undefined): void {
    if (line === this.#progress) return
    process.stderr.write(`\r\u001b[K${line ?? ''}`)
    this.#progress = line
  }

  #line(text: string): void {
    // A log that nobody reads must not fill the memory: what peers do decides how much there is to tell.
    if (process.stderr.writableLength > MOST_UNTOLD) {
      this.#untold++
      return
    }
    const line = this.#progress
    if (line !== undefined) this.progress(undefined)
    if (this.#untold > 0) {
      const untold = this.#untold
      this.#untold = 0
      this.warn(`${untold} lines were left out, since nobody read them`)
    }
    process.stderr.write(`${text}\n`)
    if (line !== undefined) this.progress(line)
  }
}

function spelled(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}

export function errorFacts(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { message: String(error) }
  const { code, op, endpoint, local, remote, phase, attempts } = error as Partial<SocketError>
  return { class: error.name, code, message: error.message, op, endpoint, local, remote, phase, attempts }
}

function traceFacts(event: TraceEvent): Record<string, unknown> {
  const { type: _type, ...facts } = event
  if (event.type === 'error') return { ...facts, error: errorFacts(event.error) }
  if (event.type !== 'close') return facts
  const { reason, ...report } = event.report
  return { ...facts, report: { ...report, ...(reason && { reason: errorFacts(reason) }) } }
}

function refusal(count: number, reason: string): string {
  // How many wait in the queue of the system is not known.
  if (count === 0) return `who comes now has to wait: ${reason}`
  return `refused ${count} connection${count === 1 ? '' : 's'}: ${reason}`
}

/** `1.4 MiB` */
export function inUnits(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  const power = Math.min(units.length - 1, bytes < 1 ? 0 : Math.floor(Math.log2(bytes) / 10))
  return power === 0 ? `${bytes} B` : `${(bytes / 2 ** (10 * power)).toFixed(1)} ${units[power]}`
}

/**
 * Writes to standard output, and gives the exit code for that. Nothing else may touch `process.stdout` where it is a pipe:
 * Node makes it one that never waits, which the programs that share it do not expect.
 */
export function print(text: string): Promise<0> {
  return new Promise((resolve) => process.stdout.on('error', () => undefined).write(text, () => resolve(0)))
}

export interface Tally {
  carried(direction: 'forth' | 'back', bytes: Uint8Array): void
  stop(): void
}

/** Milliseconds until a transfer counts as long, and between two looks at it. */
const LONG = 1_000
const LOOK = 250

/**
 * A progress line on a terminal that shows nothing else of the transfer.
 *
 * @param o.silent nothing goes to standard output
 * @param o.total bytes that there are to send
 */
export function tally(reporter: Reporter, o: { silent?: boolean | undefined; total?: number | undefined } = {}): Tally {
  if (reporter.json || reporter.quiet || !process.stderr.isTTY || (isatty(1) && !o.silent))
    return { carried: () => undefined, stop: () => undefined }
  const start = Date.now()
  const counts = { forth: 0, back: 0 }
  const draw = () => {
    const seconds = (Date.now() - start) / 1_000
    const rate = inUnits(Math.round((counts.forth + counts.back) / seconds))
    const share = o.total ? ` of ${inUnits(o.total)} (${Math.floor((counts.back / o.total) * 100)} %)` : ''
    const received = o.silent && counts.forth === 0 ? '' : `received ${inUnits(counts.forth)}  `
    reporter.progress(`${received}sent ${inUnits(counts.back)}${share}  ${rate}/s  ${Math.round(seconds)} s`)
  }
  let timer: NodeJS.Timeout | undefined = setTimeout(() => {
    draw()
    timer = setInterval(draw, LOOK).unref()
  }, LONG).unref()
  return {
    carried: (direction, bytes) => {
      counts[direction] += bytes.length
    },
    stop: () => {
      clearInterval(timer)
      timer = undefined
      reporter.progress(undefined)
    },
  }
}

/** A tally that also knows what a file came to, for both ends to compare. */
export function counted(reporter: Reporter, isFile: boolean): Tally & { told(): { sha256?: string } } {
  const { carried, stop } = tally(reporter)
  if (!isFile) return { carried, stop, told: () => ({}) }
  const sum = new Sum()
  return {
    carried: (direction, bytes) => {
      if (direction === 'forth') sum.add(bytes)
      carried(direction, bytes)
    },
    stop,
    told: () => {
      const sha256 = sum.digest()
      reporter.say(`received ${sum.size}, sha256 ${sha256}`)
      return { sha256 }
    },
  }
}

/** What was carried, in bytes and as a digest. */
export class Sum {
  #bytes = 0
  readonly #hash: Hash = createHash('sha256')

  add(data: Uint8Array): void {
    this.#bytes += data.length
    this.#hash.update(data)
  }

  /** `1.4 MiB (1468006 bytes)` */
  get size(): string {
    return this.#bytes < 1024 ? `${this.#bytes} byte${this.#bytes === 1 ? '' : 's'}` : `${inUnits(this.#bytes)} (${this.#bytes} bytes)`
  }

  /** SHA-256 in hexadecimal digits; to be asked for once. */
  digest(): string {
    return this.#hash.digest('hex')
  }
}

/** `127.0.0.1:80`, or what stands for a socket without a name. */
export function nameOf(address: Parameters<typeof formatAddress>[0] | undefined): string {
  return (address && formatAddress(address)) || 'unnamed'
}
