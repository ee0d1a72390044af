/** Programs of a comparison: each pinned to a core, driven by lines, and measured by what the system says of it. */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { type Core, pinned } from './child.js'

/** Milliseconds after which an answer no longer comes. */
const LONGEST = 60_000

/** A program that cannot be measured here, and why. */
export class Absent extends Error {}

/** Microseconds of processor time of a process, its threads and its children until now. The scheduler counts in nanoseconds. */
export function processorTimeOf(pid: number): number {
  let nanoseconds = 0
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    nanoseconds += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'latin1').split(' ')[0])
    const children = readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1').trim()
    if (children !== '') nanoseconds += children.split(' ').reduce((sum, child) => sum + processorTimeOf(Number(child)) * 1_000, 0)
  }
  return nanoseconds / 1_000
}

/** Bytes of memory that a process has resident, its own and shared, exactly. */
export function residentOf(pid: number): number {
  return Number(/^Rss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'))?.[1]) * 1_024
}

export interface Spawning {
  readonly core: Core
  readonly env?: NodeJS.ProcessEnv | undefined
}

/** A program that answers each line of its input with one line. */
export class Program {
  readonly #process: ChildProcess
  readonly #name: string
  readonly #lines: AsyncIterator<string>

  constructor(command: readonly string[], { core, env }: Spawning) {
    const [file = '', ...args] = pinned ? ['taskset', '-c', String(core), ...command] : command
    this.#name = command.join(' ')
    this.#process = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, ...env } })
    // Its end is told by the end of its output.
    this.#process.on('error', () => {})
    this.#process.stdin?.on('error', () => {})
    this.#lines = createInterface({ input: this.#process.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]()
  }

  async line(): Promise<string> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${this.#name} says nothing`)), LONGEST)
    })
    try {
      const { value, done } = await Promise.race([this.#lines.next(), late])
      if (done === true) throw new Error(`${this.#name} ended`)
      return value
    } finally {
      clearTimeout(timer)
    }
  }

  async ask(line: string): Promise<string> {
    this.#process.stdin?.write(`${line}\n`)
    return this.line()
  }

  async end(): Promise<void> {
    if (this.#process.pid === undefined || this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const gone = once(this.#process, 'exit')
    this.#process.kill('SIGKILL')
    await gone
  }
}

/** What is loaded. Its process may be another than the one that was started. */
export interface Measured {
  readonly port: number
  readonly pid: number
  ask(line: string): Promise<string>
  end(): Promise<void>
}

/** @throws Absent if the program says that it cannot serve */
export async function serve(command: readonly string[], spawning: Spawning): Promise<Measured> {
  const program = new Program(command, spawning)
  const said = await program.line()
  const [, port, pid] = /^port (\d+) pid (\d+)$/.exec(said) ?? []
  if (port === undefined) {
    await program.end()
    throw new Absent(said.replace(/^absent /, ''))
  }
  return { port: Number(port), pid: Number(pid), ask: (line) => program.ask(line), end: () => program.end() }
}

export interface Taken {
  readonly ns: number
  readonly requests: number
  readonly p50: number
  readonly p99: number
  readonly p999: number
}

/** What runs the commands of `load.c`. */
export interface Loading {
  run<T = Taken>(line: string): Promise<T>
  end(): Promise<void>
}

/** The load generator of C. */
export class Load implements Loading {
  readonly #program: Program

  constructor(file: string) {
    this.#program = new Program([file], { core: 1 })
  }

  async run<T = Taken>(line: string): Promise<T> {
    const answer = JSON.parse(await this.#program.ask(line)) as T & { error?: string }
    if (answer.error !== undefined) throw new Error(`load: ${line}: ${answer.error}`)
    return answer
  }

  end(): Promise<void> {
    return this.#program.end()
  }
}
