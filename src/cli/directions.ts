/** One direction of a local end: what gives bytes, and what takes them. */

import { closeSync, constants, fstatSync, openSync, read, write } from 'node:fs'
import { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import { isatty, ReadStream, WriteStream } from 'node:tty'
import { Broken, type CodeOf, CODES, printable, SystemFailure } from '../index.js'
import { ReaderGone } from './join.js'

/** A direction that gives bytes. */
export interface Source {
  read(signal?: AbortSignal): Promise<Uint8Array | null>
  destroy(reason: unknown): void
}

/** A direction that takes bytes. */
export interface Sink {
  write(data: Uint8Array): Promise<void>
  end(): Promise<void>
  destroy(reason: unknown): void
}

const PIECE = 64 * 1024

/** Wakes the one who waits. */
export class Bell {
  #wake: (() => void) | undefined

  /** Resolves at the next ring, or when the signal aborts. */
  wait(signal?: AbortSignal): Promise<void> {
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

  ring(): void {
    this.#wake?.()
  }
}

const isGone = (error: unknown): boolean =>
  ['EPIPE', 'ECONNRESET', 'ERR_STREAM_DESTROYED'].includes((error as { code?: string }).code ?? '')

/** What sockets do not fail with. */
const OF_FILES: Readonly<Record<string, string>> = {
  EISDIR: 'it is a directory',
  ENOSPC: 'no space is left on the device',
  ENXIO: 'nobody has the other end of the pipe open',
}

/** What a local end fails with, as an error of the library. */
export function failed(error: unknown, op: string, name: string): Error {
  const code = (error as { code?: string }).code ?? 'UNKNOWN'
  const table: Record<string, string> = { ...CODES.SystemFailure, ...OF_FILES }
  // `ENOSPC: no space left on device, write`
  const why = table[code] ?? (error instanceof Error ? error.message.replace(/^[A-Z]\w+: (.*), \w+(?: '.*')?$/s, '$1') : String(error))
  if (code === 'ECONNRESET') return new Broken(code, `${name}: ${CODES.Broken.ECONNRESET}`, { op, cause: error })
  return new SystemFailure(code as CodeOf<'SystemFailure'>, `${name}: ${why}`, { op, endpoint: name, cause: error })
}

/** Reads a Node stream on demand. */
export class NodeSource implements Source {
  readonly #name: string
  readonly #stream: Readable
  #started = false
  #ended = false
  #error: { readonly error: unknown } | undefined
  readonly #bell: Bell = new Bell()

  constructor(name: string, stream: Readable) {
    this.#name = name
    this.#stream = stream
  }

  /** Listening for `readable` starts the reading ahead, so it waits for the first reader, unless that may come too late. */
  start(): this {
    if (this.#started) return this
    this.#started = true
    const wake = () => this.#bell.ring()
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
    return this
  }

  async read(signal?: AbortSignal): Promise<Uint8Array | null> {
    this.start()
    for (;;) {
      signal?.throwIfAborted()
      const bytes = this.#stream.read() as Buffer | null
      if (bytes !== null) return bytes
      if (this.#error !== undefined) throw this.#error.error
      if (this.#ended) return null
      await this.#bell.wait(signal)
    }
  }

  destroy(reason: unknown): void {
    this.#error ??= { error: reason }
    this.#stream.destroy()
    this.#bell.ring()
  }
}

/** Writes to a Node stream and waits for each piece. */
export class NodeSink implements Sink {
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

/** Ends a Node stream. One that is destroyed already never calls back. */
export function endOf(stream: Writable): Promise<void> {
  if (stream.destroyed) return Promise.resolve()
  return new Promise((resolve, reject) => {
    stream.once('close', resolve)
    stream.end((error?: Error | null) => (error ? reject(error) : resolve()))
  })
}

/** Reads a regular file or a device that is always ready; a thread of the pool does it, so nothing else waits. */
export class FileSource implements Source {
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

/**
 * Gives nothing, and ends when a sink has taken everything: the end that a sender sees then says that what it sent is
 * complete, and not merely that nobody has anything to say.
 */
export class Receipt implements Source {
  readonly #bell: Bell = new Bell()
  #over = false
  #failure: { readonly error: unknown } | undefined

  async read(signal?: AbortSignal): Promise<null> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure.error
      if (this.#over) return null
      signal?.throwIfAborted()
      await this.#bell.wait(signal)
    }
  }

  /** What makes this receipt true. A sink that fails gives none: whoever sends must not take its end for one. */
  for(sink: Sink): Sink {
    const carefully = async (work: Promise<void>) => {
      try {
        await work
      } catch (error) {
        const told =
          error instanceof ReaderGone ? new SystemFailure('EPIPE' as CodeOf<'SystemFailure'>, error.message, { cause: error }) : error
        this.destroy(told)
        throw told
      }
    }
    return {
      write: (data) => carefully(sink.write(data)),
      end: async () => {
        await carefully(sink.end())
        this.#over = true
        this.#bell.ring()
      },
      destroy: (reason) => sink.destroy(reason),
    }
  }

  destroy(reason: unknown): void {
    this.#failure ??= { error: reason }
    this.#bell.ring()
  }
}

/** Writes to a regular file or a device. */
export class FileSink implements Sink {
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
export class TerminalSink implements Sink {
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

/**
 * The same pipe, opened for us alone. Node's own way of writing to a pipe is never to wait, which is a property of what was
 * opened: programs that share it, as the commands of `(a; b) | c` do, would fail with EAGAIN ever after.
 */
function openedAgain(fd: number): number {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK)
  } catch {
    return fd
  }
}

export function sourceOf(name: string, fd: number): Source {
  const stat = fstatSync(fd)
  if (isatty(fd)) return new NodeSource(name, fd === 0 ? process.stdin : new ReadStream(fd))
  if (stat.isFIFO() || stat.isSocket()) {
    return new NodeSource(name, new Socket({ fd, readable: true, writable: false, allowHalfOpen: true }))
  }
  return new FileSource(name, fd)
}

/** Both directions of a socket in one: the runtime takes a descriptor once. */
export function socketOf(name: string, fd: number): { source: Source; sink: Sink } {
  const socket = new Socket({ fd, readable: true, writable: true, allowHalfOpen: true })
  return { source: new NodeSource(name, socket), sink: new NodeSink(name, socket, () => endOf(socket)) }
}

export function sinkOf(name: string, fd: number): Sink {
  const stat = fstatSync(fd)
  if (isatty(fd)) {
    // The shell goes on using the terminal, so nothing is closed. Not a file: reading makes the descriptor one that never waits.
    return new NodeSink(name, fd === 1 ? process.stdout : new WriteStream(fd), () => undefined)
  }
  if (stat.isSocket()) {
    const socket = new Socket({ fd, readable: false, writable: true, allowHalfOpen: true })
    return new NodeSink(name, socket, () => endOf(socket))
  }
  if (stat.isFIFO()) {
    const own = openedAgain(fd)
    const socket = new Socket({ fd: own, readable: false, writable: true })
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
    return new NodeSink(name, socket, async () => {
      socket.destroy()
      await closed
      if (own !== fd || fd <= 2) hangUp(fd)
    })
  }
  return new FileSink(name, fd, () => hangUp(fd))
}
