/** Ends on this machine that are not sockets of the network: standard streams, descriptors, files and programs. */

import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from 'node:fs'
import { isatty } from 'node:tty'
import { printable, SystemFailure } from '../index.js'
import {
  endOf,
  failed,
  FileSink,
  FileSource,
  NodeSink,
  NodeSource,
  Receipt,
  type Sink,
  sinkOf,
  socketOf,
  type Source,
  sourceOf,
  TerminalSink,
} from './directions.js'
import type { Stream } from './join.js'

/** A pair of directions as one stream. Either may be missing: then it has ended, or takes nothing. */
export class LocalStream implements Stream {
  readonly name: string
  readonly isOutput: boolean
  readonly endsWithPeer: boolean
  /** Bytes that came for an end that only gives. */
  dropped = 0
  readonly #source: Source | undefined
  readonly #sink: Sink | undefined
  readonly #release: (aborted: boolean) => Promise<void>
  #broken: { readonly reason: unknown } | undefined
  #ended = false

  constructor(
    name: string,
    parts: { source?: Source | undefined; sink?: Sink | undefined },
    more: { isOutput?: boolean; endsWithPeer?: boolean; release?: (aborted: boolean) => Promise<void> } = {},
  ) {
    this.name = name
    this.#source = parts.source
    this.#sink = parts.sink
    this.isOutput = more.isOutput ?? false
    this.endsWithPeer = more.endsWithPeer ?? false
    this.#release = more.release ?? (async () => undefined)
  }

  async read(o?: { signal?: AbortSignal | undefined }): Promise<Uint8Array | null> {
    if (this.#broken !== undefined) throw this.#broken.reason
    return (await this.#source?.read(o?.signal)) ?? null
  }

  async write(data: Uint8Array): Promise<void> {
    if (this.#broken !== undefined) throw this.#broken.reason
    if (this.#sink === undefined) this.dropped += data.length
    else await this.#sink.write(data)
  }

  async end(): Promise<void> {
    if (this.#ended) return
    this.#ended = true
    await this.#sink?.end()
  }

  async close(): Promise<void> {
    // What broke while it was written has been told; a descriptor that cannot be closed has no one left to tell.
    await this.end().catch(() => undefined)
    await this.#release(false)
  }

  abort(reason?: unknown): void {
    if (this.#broken !== undefined) return
    this.#broken = { reason }
    this.#source?.destroy(reason)
    this.#sink?.destroy(reason)
    void this.#release(true)
  }
}

/** Standard input and output. On a terminal what a peer sends cannot drive it, unless `raw`. */
export function standardStreams(raw: boolean): LocalStream {
  const source = sourceOf('standard input', 0)
  const output = sinkOf('standard output', 1)
  const sink = isatty(1) && !raw ? new TerminalSink(output) : output
  return new LocalStream('stdio:', { source, sink }, { isOutput: true, endsWithPeer: isatty(0) })
}

/** Standard input alone. */
export function standardInput(): LocalStream {
  return new LocalStream('stdio:', { source: sourceOf('standard input', 0) })
}

/** An open descriptor, in the directions it was opened for. */
export function descriptor(fd: number): LocalStream {
  const name = `fd:${fd}`
  try {
    const { reads, writes } = directionsOf(fd)
    const parts =
      reads && writes && fstatSync(fd).isSocket()
        ? socketOf(name, fd)
        : { source: reads ? sourceOf(name, fd) : undefined, sink: writes ? sinkOf(name, fd) : undefined }
    return new LocalStream(name, parts, { isOutput: writes })
  } catch (error) {
    throw failed(error, 'open', name)
  }
}

/** The access mode of a descriptor; where the system does not tell, sockets and files are taken to have both. */
function directionsOf(fd: number): { reads: boolean; writes: boolean } {
  fstatSync(fd)
  let flags: number
  try {
    flags = Number.parseInt(/^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1] ?? '2', 8)
  } catch {
    return { reads: true, writes: true }
  }
  const mode = flags & 3
  return { reads: mode !== constants.O_WRONLY, writes: mode !== constants.O_RDONLY }
}

/** A file that is sent. What comes back is counted and dropped. */
export function fileToSend(path: string): LocalStream {
  const name = `file:${printable(path)}`
  const fd = opened(name, path, constants.O_RDONLY)
  const source = sourceOf(name, fd)
  return new LocalStream(name, { source }, source instanceof FileSource ? { release: closer(fd, source) } : {})
}

/** Files this process has emptied: the first stream to a file begins it anew, the next ones go on behind it. */
const begun: Set<string> = new Set()

/** A file that receives; it gives nothing back but its end, once everything is written. */
export function fileToReceive(path: string): LocalStream {
  const name = `file:${printable(path)}`
  // Append, also the first: several clients at once must not write over each other.
  const append = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND
  const fd = opened(name, path, begun.has(path) ? append : append | constants.O_TRUNC)
  begun.add(path)
  const source = new Receipt()
  const isPipe = fstatSync(fd).isFIFO()
  const sink = isPipe ? sinkOf(name, fd) : new FileSink(name, fd, () => undefined)
  return new LocalStream(name, { source, sink: source.for(sink) }, sink instanceof FileSink ? { release: closer(fd, sink) } : {})
}

function opened(name: string, path: string, flags: number): number {
  try {
    // A named pipe without anybody at its other end would not even let itself be opened, and Ctrl-C would wait with it. What is
    // no pipe is read and written by waiting for it: a terminal or a serial line has no room now and then.
    const nonblock = statSync(path, { throwIfNoEntry: false })?.isFIFO() ? constants.O_NONBLOCK : 0
    return openSync(path, flags | nonblock, 0o666)
  } catch (error) {
    throw failed(error, 'open', name)
  }
}

function closer(fd: number, part: { readonly busy: Promise<unknown> }): () => Promise<void> {
  let closed: Promise<void> | undefined
  return () => (closed ??= part.busy.then(() => closeSync(fd)))
}

/** Programs that are running. They have process groups of their own, so whoever ends us does not end them. */
const running: Set<ChildProcess> = new Set()
process.on('exit', () => {
  for (const child of running) signalGroup(child, 'SIGTERM')
})

/** Milliseconds that a program has to exit once its input and output have ended, and again after SIGTERM. */
const PATIENCE = 5_000

/**
 * A program run by the shell, its input and output joined. It is in a process group of its own, so that a pipeline ends
 * as a whole.
 */
export function program(command: string, env: Readonly<Record<string, string>> = {}): LocalStream & { readonly exited: Promise<Exit> } {
  const name = `exec:${printable(command)}`
  const child = spawn('/bin/sh', ['-c', command], { stdio: ['pipe', 'pipe', 'inherit'], detached: true, env: { ...process.env, ...env } })
  const { stdin, stdout } = child
  if (stdin === null || stdout === null) throw new SystemFailure('UNKNOWN', `${name}: the program has no input or output`)
  const exited = exitOf(child, name)
  running.add(child)
  void exited.then(() => running.delete(child))
  const sink = new NodeSink(name, stdin, () => endOf(stdin))
  const release = async (aborted: boolean) => {
    if (aborted) signalGroup(child, 'SIGTERM')
    await gone(child, exited)
  }
  // Once the program has exited, Node throws away what nobody listens for, and its end is told no more.
  const source = new NodeSource(name, stdout).start()
  const stream = new LocalStream(name, { source, sink }, { release })
  return Object.assign(stream, { exited })
}

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** Why it could not be started. */
  readonly error?: unknown
}

function exitOf(child: ChildProcess, name: string): Promise<Exit> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve({ code: null, signal: null, error: failed(error, 'spawn', name) }))
    child.once('exit', (code, signal) => resolve({ code, signal }))
  })
}

async function gone(child: ChildProcess, exited: Promise<Exit>): Promise<void> {
  const timers = (['SIGTERM', 'SIGKILL'] as const).map((signal, i) => setTimeout(() => signalGroup(child, signal), (i + 1) * PATIENCE))
  await exited
  for (const timer of timers) clearTimeout(timer)
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  try {
    process.kill(-child.pid, signal)
  } catch {
    // It exited a moment ago.
  }
}
