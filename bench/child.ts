/** Processes of a benchmark: each pinned to a core, driven by calls over the channel that Node gives a child. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

interface Call {
  readonly id: number
  readonly verb: string
  readonly argument: unknown
}

interface Answer {
  readonly id: number
  readonly value?: unknown
  readonly error?: string
}

export type Verbs = Record<string, (argument: never) => unknown>

/** In a child: answers calls until the parent goes away. */
export function answer(verbs: Verbs): void {
  process.on('message', async ({ id, verb, argument }: Call) => {
    try {
      const run = verbs[verb]
      if (run === undefined) throw new Error(`no verb ${verb}`)
      process.send?.({ id, value: await run(argument as never) })
    } catch (error) {
      process.send?.({ id, error: String((error as Error).stack ?? error) })
    }
  })
  process.on('disconnect', () => process.exit())
}

/** The process that serves in place of this one. */
let instead: string | undefined

/** From now on {@link processorTime} is that of another process. */
export function standIn(pid: string | undefined): void {
  instead = pid
}

/** The kernel counts in hundredths of a second (`USER_HZ`). */
const TICK = 10_000

/** Microseconds of processor time of what serves, all threads counted. */
export function processorTime(): number {
  if (instead === undefined) {
    const { user, system } = process.cpuUsage()
    return user + system
  }
  // Fields 14 and 15 of proc_pid_stat(5); the second may have blanks of its own.
  const fields = readFileSync(`/proc/${instead}/stat`, 'latin1').split(') ').at(-1)?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) * TICK
}

/** Whether processes can be pinned: `taskset` is there, and at least two cores. */
export const pinned: boolean = spawnSync('taskset', ['-c', '1', 'true']).status === 0

/** A call that takes longer has met a fault: a server that does not answer, a client that waits for ever. */
const LONGEST = 60_000

/** Servers run on core 0, what loads them on core 1. */
export type Core = 0 | 1

/** The command line that runs this Node on one core, where the system can do that. */
export function onCore(core: Core, args: readonly string[]): [string, string[]] {
  return pinned ? ['taskset', ['-c', String(core), process.execPath, ...args]] : [process.execPath, [...args]]
}

interface Waiting {
  readonly resolve: (value: never) => void
  readonly reject: (error: Error) => void
}

export class Child {
  readonly #process: ChildProcess
  readonly #waiting: Map<number, Waiting> = new Map()
  #calls = 0

  constructor(module: string, core: Core, args: readonly string[] = []) {
    const file = fileURLToPath(new URL(`${module}.js`, import.meta.url))
    const [command, rest] = onCore(core, ['--expose-gc', file, ...args])
    this.#process = spawn(command, rest, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    this.#process.on('message', ({ id, value, error }: Answer) => {
      const waiting = this.#waiting.get(id)
      this.#waiting.delete(id)
      if (error === undefined) waiting?.resolve(value as never)
      else waiting?.reject(new Error(`${module}: ${error}`))
    })
    this.#process.on('exit', (code, signal) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`${module} ended with ${signal ?? code}`))
      this.#waiting.clear()
    })
  }

  call<T = undefined>(verb: string, argument?: unknown): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const id = ++this.#calls
      const timer = setTimeout(() => reject(new Error(`${verb} took longer than ${LONGEST} ms`)), LONGEST)
      this.#waiting.set(id, {
        resolve: (value) => {
          clearTimeout(timer)
          resolve(value)
        },
        reject: (error) => {
          clearTimeout(timer)
          reject(error)
        },
      })
      this.#process.send({ id, verb, argument } satisfies Call)
    })
  }

  async end(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const gone = once(this.#process, 'exit')
    this.#process.kill('SIGKILL')
    await gone
  }
}

/** Runs `fn` with children that are gone when it is done. */
export async function withChildren<T>(fn: (start: (module: string, core: Core, ...args: string[]) => Child) => Promise<T>): Promise<T> {
  const children: Child[] = []
  try {
    return await fn((module, core, ...args) => {
      const child = new Child(module, core, args)
      children.push(child)
      return child
    })
  } finally {
    await Promise.all(children.map((child) => child.end()))
  }
}
