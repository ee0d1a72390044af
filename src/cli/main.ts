#!/usr/bin/env node
/** The command line: finds the subcommand, runs it, and turns whatever ended it into an exit code. */

import { readFileSync } from 'node:fs'
import { commandNamed, type Invocation, parseArguments, UsageError } from './arguments.js'
import { commandHelp, generalHelp } from './help.js'
import { exitCodeOf, Interrupted, print, Reporter } from './report.js'
import { Session } from './session.js'

type Run = (invocation: Invocation, session: Session) => Promise<number>

/** Loaded when asked for: `--help` needs none of them. */
const RUNS: Readonly<Record<string, () => Promise<Run>>> = {
  up: async () => (await import('./up.js')).upCommand,
  connect: async () => (await import('./connect.js')).connectCommand,
  listen: async () => (await import('./listen.js')).listenCommand,
  send: async () => (await import('./send.js')).sendCommand,
  relay: async () => (await import('./relay.js')).relayCommand,
}

function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

async function main(args: readonly string[]): Promise<number> {
  const [word, ...rest] = args
  if (word === undefined) {
    process.stderr.write(generalHelp())
    return exitCodeOf(new UsageError('no command'))
  }
  if (word === '--version' || word === '-V' || word === 'version') return print(`fairlead ${version()}\n`)
  if (word === '--help' || word === '-h') return print(generalHelp())
  if (word === 'help') return print(rest[0] === undefined ? generalHelp() : commandHelp(commandNamed(rest[0])))
  const invocation = parseArguments(commandNamed(word), rest)
  if (invocation.options.help) return print(commandHelp(invocation.command))
  return run(invocation)
}

async function run(invocation: Invocation): Promise<number> {
  const { command, options } = invocation
  const reporter = new Reporter(options)
  const start = RUNS[command.name] as () => Promise<Run>
  const carryOut = await start()
  await using session = new Session(options, reporter)
  try {
    return await carryOut(invocation, session)
  } catch (error) {
    const cause = session.causeOf(error)
    return cause instanceof Interrupted ? exitCodeOf(cause) : reporter.failure(cause)
  }
}

// A terminal or a log that has gone away is no reason to fail: there is nobody left to tell.
process.stderr.on('error', () => undefined)

const args = process.argv.slice(2)
const report = (error: unknown) => new Reporter({ json: args.includes('--json') }).failure(error)
// Should the work ever dry up before it is done, that is no success, and nothing to be silent about.
process.once('beforeExit', () => process.exit(report(new Error('nothing is left to wait for, and the work is not done'))))
main(args)
  .catch(report)
  .then((code) => process.exit(code))
