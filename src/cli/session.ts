/** What the subcommands share while they run: a network, a reporter, and what may end them early. */

import { Cancelled, DeadlineError, Network } from '../index.js'
import type { Options } from './arguments.js'
import type { JoinOptions } from './join.js'
import { Interrupted, type Reporter } from './report.js'

export class Session implements AsyncDisposable {
  readonly network: Network
  readonly reporter: Reporter
  readonly options: Options
  readonly #controller: AbortController = new AbortController()
  readonly #interrupts: (() => void)[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(options: Options, reporter: Reporter) {
    this.options = options
    this.reporter = reporter
    // Both this network and the default one, which a library below may use.
    if (options.driver !== undefined) process.env['FAIRLEAD_DRIVER'] = options.driver
    this.network = new Network()
    reporter.follow(this.network)
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      const interrupt = () => this.#interrupt(signal)
      process.on(signal, interrupt)
      this.#interrupts.push(() => process.off(signal, interrupt))
    }
  }

  /** Aborts with `Interrupted` at Ctrl-C and SIGTERM, or with `DeadlineError` when `--timeout` has passed. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  #interrupt(signal: NodeJS.Signals): void {
    // Whoever asks twice does not want to wait.
    if (this.signal.aborted) process.exit(signal === 'SIGTERM' ? 143 : 130)
    this.#controller.abort(new Interrupted(signal))
  }

  /** Starts `--timeout` for the whole command. */
  limitTime(): void {
    const { timeout } = this.options
    if (timeout !== undefined) this.#timer = setTimeout(() => this.#controller.abort(passed(timeout)), timeout)
  }

  /** What a join of one connection among many goes by, at most until a signal aborts. `end` is to be called when it is over. */
  perConnection(until?: AbortSignal): JoinOptions & { readonly end: () => void } {
    const { timeout } = this.options
    const controller = new AbortController()
    const timer = timeout === undefined ? undefined : setTimeout(() => controller.abort(passed(timeout)), timeout)
    // `AbortSignal.any` came with Node 20.3.
    const follow = () => controller.abort(until?.reason)
    if (until?.aborted) follow()
    until?.addEventListener('abort', follow, { once: true })
    const end = () => {
      clearTimeout(timer)
      until?.removeEventListener('abort', follow)
    }
    return { idle: this.options['idle-timeout'], signal: controller.signal, end }
  }

  /** The cause of a failure that is only an echo of this session's own end. */
  causeOf(error: unknown): unknown {
    return this.signal.aborted && (error instanceof Cancelled || error === this.signal.reason) ? this.signal.reason : error
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer)
    for (const stop of this.#interrupts) stop()
    await this.network.close({ within: FAREWELL })
  }
}

/** Milliseconds for connections that still hand over what they accepted. */
const FAREWELL = 2_000

function passed(timeout: number): DeadlineError {
  return new DeadlineError('DEADLINE', `the deadline passed: ${timeout} ms for everything`, { op: 'timeout' })
}
