/** Programs under test: started, watched line by line, and never left behind. */

import { type ChildProcess, spawn, type SpawnOptions } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'

export const root: string = fileURLToPath(new URL('../../..', import.meta.url))
const main: string = join(root, 'dist', 'cli', 'main.js')

/** A folder with `fairlead` as a command. */
let commands: string | undefined
function commandFolder(): string {
  if (commands !== undefined) return commands
  const path = mkdtempSync(join(tmpdir(), 'fairlead-bin-'))
  process.on('exit', () => rmSync(path, { recursive: true, force: true }))
  writeFileSync(join(path, 'fairlead'), `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`, { mode: 0o755 })
  commands = path
  return path
}

/** What a stream has given so far, and a way to wait for more. */
export class Output {
  text = ''
  bytes = 0
  readonly ended: Promise<void>
  readonly #waiting: Set<() => void> = new Set()
  #over = false

  constructor(stream: Readable) {
    this.ended = new Promise((resolve) => {
      const end = () => {
        this.#over = true
        resolve()
        this.#wake()
      }
      stream.on('end', end).on('close', end).on('error', end)
    })
    stream.on('data', (chunk: Buffer) => {
      this.bytes += chunk.length
      if (this.text.length < 1_000_000) this.text += chunk.toString('latin1')
      this.#wake()
    })
  }

  #wake(): void {
    for (const wake of this.#waiting) wake()
  }

  /** Resolves with the match once the output contains it; rejects with what came when the output ends without it. */
  until(pattern: RegExp | string): Promise<RegExpExecArray> {
    const wanted = typeof pattern === 'string' ? new RegExp(pattern.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')) : pattern
    return new Promise((resolve, reject) => {
      const look = () => {
        const match = wanted.exec(this.text)
        if (match === null && !this.#over) return
        this.#waiting.delete(look)
        if (match !== null) resolve(match)
        else reject(new Error(`the output ended without ${wanted}: ${JSON.stringify(this.text.slice(-2_000))}`))
      }
      this.#waiting.add(look)
      look()
    })
  }
}

export class Program {
  readonly child: ChildProcess
  readonly stdin: Writable
  readonly stdout: Readable
  readonly exited: Promise<number | string>
  readonly err: Output
  #out: Output | undefined

  /** In a process group of its own, so that what it started goes with it. */
  constructor(t: TestContext, command: string, args: readonly string[], o: SpawnOptions = {}) {
    this.child = spawn(command, [...args], { stdio: ['pipe', 'pipe', 'pipe'], ...o, env: { ...process.env, ...o.env }, detached: true })
    const { stdin, stdout, stderr } = this.child
    this.stdin = stdin as Writable
    this.stdout = stdout as Readable
    this.stdin.on('error', () => undefined)
    this.err = new Output(stderr as Readable)
    this.exited = new Promise((resolve, reject) => {
      this.child.once('error', reject)
      // What it wrote before is in the pipes then, which the event loop looks at in its next turn.
      const told = (result: number | string) => setImmediate(() => setImmediate(() => resolve(result)))
      this.child.once('exit', (code, signal) => told(code ?? (signal as string)))
    })
    t.after(async () => {
      this.kill('SIGKILL')
      this.stdout.destroy()
      await this.exited.catch(() => undefined)
    })
  }

  /** Standard output, read from the first time this is asked for. */
  get out(): Output {
    this.#out ??= new Output(this.stdout)
    return this.#out
  }

  send(text: string): this {
    this.stdin.write(text)
    return this
  }

  /** Sends a last text and the end. */
  finish(text: string = ''): this {
    this.stdin.end(text)
    return this
  }

  kill(signal: NodeJS.Signals): void {
    try {
      process.kill(-(this.child.pid as number), signal)
    } catch {
      // It has exited already.
    }
  }

  interrupt(): void {
    this.child.kill('SIGINT')
  }

  /** Ends the input, waits for the exit, and gives everything. */
  async result(): Promise<{ code: number | string; out: string; err: string }> {
    const { out } = this
    if (this.stdin.writable) this.stdin.end()
    const code = await this.exited
    await Promise.all([out.ended, this.err.ended])
    return { code, out: out.text, err: this.err.text }
  }
}

export function fairlead(t: TestContext, args: readonly string[], o: SpawnOptions = {}): Program {
  return new Program(t, process.execPath, [main, ...args], o)
}

/** A line for bash, where `fairlead` is the program under test. */
export function shell(t: TestContext, line: string, o: SpawnOptions = {}): Program {
  return new Program(t, 'bash', ['-c', line], { ...o, env: { PATH: `${commandFolder()}:${process.env['PATH']}`, ...o.env } })
}

/** The endpoint that a listening program prints. */
export async function listeningAt(program: Program): Promise<string> {
  const [, endpoint = ''] = await program.err.until(/listening at (\S+)\n/)
  return endpoint
}

export function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'fairlead-cli-'))
  t.after(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** Where a peer program is, or undefined after having skipped the test by its name; under CI its absence is a failure. */
export function peerProgram(t: TestContext, name: string): string | undefined {
  const path = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin']
    .map((at) => join(at, name))
    .find((file) => existsSync(file))
  if (path !== undefined) return path
  if (process.env['CI'] === 'true') throw new Error(`${name} is not installed`)
  t.skip(`${name} is not installed`)
  return undefined
}
