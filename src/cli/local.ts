/** Ends on this machine that are not sockets of the network: standard streams, descriptors, files and programs. */

import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, constants, fstatSync, openSync, read, readFileSync, write } from 'node:fs'
import { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import { isatty } from 'node:tty'
import { Broken, type CodeOf, CODES, printable, SystemFailure } from '../index.js'
import { ReaderGone, type Stream } from './join.js'

/** A direction that gives bytes. */
interface Source {
  read(signal?: AbortSignal): Promise<Uint8Array | null>
  destroy(reason: unknown): void
}

/** A direction that takes bytes. */
interface Sink {
  write(data: Uint8Array): Promise<void>
  end(): Promise<void>
  destroy(reason: unknown): void
}

const PIECE = 64 * 1024

const isGone = (error: unknown): boolean => ['EPIPE', 'ECONNRESET'].includes((error as { code?: string }).code ?? '')

/** What a local end fails with, as an error of the library. */
function failed(error: unknown, op: string, name: string): Error {
  const code = (error as { code?: string }).code ?? 'UNKNOWN'
  const table: Record<string, string> = CODES.SystemFailure
  const why = table[code] ?? (error instanceof Error ? error.message : String(error))
  if (code === 'ECONNRESET') return new Broken(code, `${name}: ${CODES.Broken.ECONNRESET}`, { op, cause: error })
  return new SystemFailure(code as CodeOf<'SystemFailure'>, `${name}: ${why}`, { op, endpoint: name, cause: error })
}

/** Reads a Node stream on demand. */
class NodeSource implements Source {
  readonly #name: string
  readonly #stream: Readable
  #started = false
  #ended = false
  #error: { readonly error: unknown } | undefined
  #wake: (() => void) | undefined

  constructor(name: string, stream: Readable) {
    this.#name = name
    this.#stream = stream
  }

  /** Listening for `readable` starts the reading ahead, so it waits for the first reader. */
  #start(): void {
    if (this.#started) return
    this.#started = true
    const wake = () => this.#wake?.()
    const end = () => {
      this.#ended = true
      wake()
    }
    this.#stream
      .on('readable', wake)
      .on('end', end)
      .on('close', end)
      .on('error', (error: NodeJS.ErrnoException) => {
        // A terminal that is hung up reads as EIO.
        if (error.code === 'EIO' || error.code === 'EOF') return end()
        this.#error ??= { error: failed(error, 'read', this.#name) }
        wake()
      })
  }

  async read(signal?: AbortSignal): Promise<Uint8Array | null> {
    this.#start()
    for (;;) {
      signal?.throwIfAborted()
      const bytes = this.#stream.read() as Buffer | null
      if (bytes !== null) return bytes
      if (this.#error !== undefined) throw this.#error.error
      if (this.#ended) return null
      await this.#change(signal)
    }
  }

  #change(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#wake = undefined
        signal?.removeEventListener('abort', wake)
        resolve()
      }
      this.#wake = wake
      signal?.addEventListener('abort', wake, { once: true })
    })
  }

  destroy(reason: unknown): void {
    this.#error ??= { error: reason }
    this.#stream.destroy()
    this.#wake?.()
  }
}

/** Writes to a Node stream and waits for each piece. */
class NodeSink implements Sink {
  readonly #name: string
  readonly #stream: Writable
  readonly #finish: () => Promise<void> | void

  /** @param finish how this kind of stream is ended behind the last piece */
  constructor(name: string, stream: Writable, finish: () => Promise<void> | void) {
    this.#name = name
    this.#stream = stream
    this.#finish = finish
    // Failures are told by the callback of the write they belong to.
    stream.on('error', () => undefined)
  }

  write(data: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#stream.write(data, (error) => (error ? reject(this.#failure(error)) : resolve()))
    })
  }

  #failure(error: Error): Error {
    return isGone(error) ? new ReaderGone(this.#name, error) : failed(error, 'write', this.#name)
  }

  async end(): Promise<void> {
    try {
      await this.#finish()
    } catch (error) {
      throw this.#failure(error as Error)
    }
  }

  destroy(_reason: unknown): void {
    this.#stream.destroy()
  }
}

/** Reads a regular file or a device that is always ready; a thread of the pool does it, so nothing else waits. */
class FileSource implements Source {
  /** The call in progress: the descriptor must not be closed, and its number given away, under it. */
  busy: Promise<unknown> = Promise.resolve()
  readonly #name: string
  readonly #fd: number
  #gone: { readonly reason: unknown } | undefined

  constructor(name: string, fd: number) {
    this.#name = name
    this.#fd = fd
  }

  async read(signal?: AbortSignal): Promise<Uint8Array | null> {
    signal?.throwIfAborted()
    if (this.#gone !== undefined) throw this.#gone.reason
    const into = new Uint8Array(PIECE)
    const reading = new Promise<number>((resolve, reject) => {
      read(this.#fd, into, 0, PIECE, null, (error, n) => (error ? reject(failed(error, 'read', this.#name)) : resolve(n)))
    })
    this.busy = reading.catch(() => undefined)
    const count = await reading
    return count === 0 ? null : into.subarray(0, count)
  }

  destroy(reason: unknown): void {
    this.#gone ??= { reason }
  }
}

/** Writes to a regular file or a device. */
class FileSink implements Sink {
  busy: Promise<unknown> = Promise.resolve()
  readonly #name: string
  readonly #fd: number
  readonly #finish: () => void
  #gone: { readonly reason: unknown } | undefined

  constructor(name: string, fd: number, finish: () => void) {
    this.#name = name
    this.#fd = fd
    this.#finish = finish
  }

  async write(data: Uint8Array): Promise<void> {
    for (let rest = data; rest.length > 0;) {
      if (this.#gone !== undefined) throw this.#gone.reason
      const piece = rest
      const writing = new Promise<number>((resolve, reject) => {
        write(this.#fd, piece, 0, piece.length, null, (error, n) => {
          if (error) reject(isGone(error) ? new ReaderGone(this.#name, error) : failed(error, 'write', this.#name))
          else resolve(n)
        })
      })
      this.busy = writing.catch(() => undefined)
      rest = rest.subarray(await writing)
    }
  }

  async end(): Promise<void> {
    this.#finish()
  }

  destroy(reason: unknown): void {
    this.#gone ??= { reason }
  }
}

/** Shows text of a peer on a terminal without letting it do anything else there. */
class TerminalSink implements Sink {
  readonly #sink: Sink
  readonly #decoder: StringDecoder = new StringDecoder('utf8')

  constructor(sink: Sink) {
    this.#sink = sink
  }

  write(data: Uint8Array): Promise<void> {
    return this.#sink.write(Buffer.from(forTerminal(this.#decoder.write(data as Buffer))))
  }

  async end(): Promise<void> {
    await this.#sink.write(Buffer.from(forTerminal(this.#decoder.end())))
    await this.#sink.end()
  }

  destroy(reason: unknown): void {
    this.#sink.destroy(reason)
  }
}

/** Text with every control character but line feed, tab and carriage return spelled out. */
export function forTerminal(text: string): string {
  return text
    .split(/([\n\t\r])/)
    .map((part, i) => (i % 2 === 0 ? printable(part) : part))
    .join('')
}

/**
 * Gives a descriptor's end to whoever reads it, now. libuv never closes 0, 1 and 2, and a free number among them would go
 * to the next file that is opened, so the null device takes its place.
 */
function hangUp(fd: number): void {
  closeSync(fd)
  if (fd <= 2) openSync('/dev/null', constants.O_RDWR)
}

function sourceOf(name: string, fd: number): Source {
  const stat = fstatSync(fd)
  if (fd === 0 && isatty(0)) return new NodeSource(name, process.stdin)
  if (stat.isFIFO() || stat.isSocket() || isatty(fd)) {
    return new NodeSource(name, new Socket({ fd, readable: true, writable: false, allowHalfOpen: true }))
  }
  return new FileSource(name, fd)
}

function sinkOf(name: string, fd: number): Sink {
  const stat = fstatSync(fd)
  if (isatty(fd)) {
    // The shell goes on using the terminal, so nothing is closed.
    return fd === 1 ? new NodeSink(name, process.stdout, () => undefined) : new FileSink(name, fd, () => undefined)
  }
  if (stat.isSocket()) {
    const socket = new Socket({ fd, readable: false, writable: true, allowHalfOpen: true })
    return new NodeSink(name, socket, () => new Promise((resolve, reject) => socket.end((error?: Error | null) => (error ? reject(error) : resolve()))))
  }
  if (stat.isFIFO()) {
    const socket = new Socket({ fd, readable: false, writable: true })
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
    return new NodeSink(name, socket, async () => {
      socket.destroy()
      await closed
      if (fd <= 2) hangUp(fd)
    })
  }
  return new FileSink(name, fd, () => hangUp(fd))
}

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

/** An open descriptor, in the directions it was opened for. */
export function descriptor(fd: number): LocalStream {
  const name = `fd:${fd}`
  try {
    const { reads, writes } = directionsOf(fd)
    return new LocalStream(name, { source: reads ? sourceOf(name, fd) : undefined, sink: writes ? sinkOf(name, fd) : undefined }, { isOutput: writes })
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
  const fd = opened(name, path, 'r')
  const source = new FileSource(name, fd)
  return new LocalStream(name, { source }, { release: closer(fd, source) })
}

/** Files this process has emptied: the first stream to a file begins it anew, the next ones go on behind it. */
const begun: Set<string> = new Set()

/** A file that receives; it gives nothing back. */
export function fileToReceive(path: string): LocalStream {
  const name = `file:${printable(path)}`
  // Append, also the first: several clients at once must not write over each other.
  const append = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND
  const fd = opened(name, path, begun.has(path) ? append : append | constants.O_TRUNC)
  begun.add(path)
  const sink = new FileSink(name, fd, () => undefined)
  return new LocalStream(name, { sink }, { release: closer(fd, sink) })
}

function opened(name: string, path: string, flags: string | number): number {
  try {
    return openSync(path, flags, 0o666)
  } catch (error) {
    throw failed(error, 'open', name)
  }
}

function closer(fd: number, part: { readonly busy: Promise<unknown> }): () => Promise<void> {
  let closed: Promise<void> | undefined
  return () => (closed ??= part.busy.then(() => closeSync(fd)))
}

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
  const sink = new NodeSink(name, stdin, () => new Promise((resolve, reject) => stdin.end((error?: Error | null) => (error ? reject(error) : resolve()))))
  const release = async (aborted: boolean) => {
    if (aborted) signalGroup(child, 'SIGTERM')
    await gone(child, exited)
  }
  const stream = new LocalStream(name, { source: new NodeSource(name, stdout), sink }, { release })
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
