/** A file as bytes of a stream, in its turn among the writes. */

import { close, constants, fstat, open, read } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { wholeNumber } from './arguments.js'
import { type ErrorFacts, invalidType, outOfRange, show, SystemFailure, systemCode, systemFailure } from './errors.js'
import type { Lifetime } from './lifetime.js'
import type { Feed } from './outbound.js'
import type { Wait } from './stream.js'

export interface SendFileOptions extends Wait {
  /** The first byte to send, from 0. Default 0. */
  start?: number | undefined
  /** The first byte not to send, as in `slice`. Default: the length that the file has when its turn has come. */
  end?: number | undefined
}

/** A path, the number of an open descriptor, or a handle of `node:fs/promises`, which both stay open. */
export type FileSource = string | URL | { readonly fd: number } | FileHandle

/** Bytes of a file that are in memory, where the system cannot send it by itself. */
const PIECE = 64 * 1024
/** Most bytes that the system is asked to send at a time: it takes them at once, and others wait meanwhile. */
const MOST = 128 * 1024
/** What a named pipe without a writer would keep `open` waiting for ever without; Windows has none. */
const FLAGS = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)
/** What `sendfile(2)` says about the file rather than the socket, or for not knowing the file system: reading it will tell. */
const OF_THE_FILE: ReadonlySet<string> = new Set('EBADF EINVAL EIO EISDIR ENOSYS ENOTSUP EOPNOTSUPP EOVERFLOW ESPIPE'.split(' '))

/** As `Connection.sendFile`. */
export async function sendFile(life: Lifetime, file: FileSource, o: SendFileOptions): Promise<number> {
  if (typeof o !== 'object' || o === null) throw invalidType('options', 'an object', o)
  const { start = 0, end, ...wait } = o
  wholeNumber('start', start, 0)
  if (end !== undefined && wholeNumber('end', end, 0) < start) throw outOfRange('end', `at least start, ${start}`, end)
  const feed = new FileFeed(life, sourceOf(file), start, end)
  try {
    return await life.out.feed(feed, wait)
  } finally {
    feed.stop()
  }
}

function sourceOf(file: FileSource): string | URL | { readonly fd: number } {
  if (typeof file === 'string' || file instanceof URL) return file
  const fd: unknown = Object(file).fd
  if (typeof fd !== 'number') throw invalidType('file', 'a path, { fd } or a FileHandle', file)
  wholeNumber('fd', fd, 0, 2 ** 31 - 1)
  return file
}

/** Opens the file when its turn comes, so that what is sent is what it holds then. */
class FileFeed implements Feed {
  readonly op = 'sendFile'
  over = false
  failure: unknown
  readonly #life: Lifetime
  readonly #facts: ErrorFacts
  /** Held: a `FileHandle` that is garbage closes its descriptor. */
  readonly #source: string | URL | { readonly fd: number }
  #at: number
  #end: number | undefined
  #fd = -1
  #state: 'waiting' | 'asking' | 'ready' = 'waiting'
  #stopped = false
  /** The system sends the file by itself. */
  #direct: boolean
  #memory: Uint8Array | undefined
  #piece: Uint8Array | undefined

  constructor(life: Lifetime, source: string | URL | { readonly fd: number }, start: number, end: number | undefined) {
    this.#life = life
    // As it was when this was asked for.
    this.#facts = { ...life.facts(this.op), phase: 'write' }
    this.#source = source
    this.#at = start
    this.#end = end
    this.#direct = life.handle.sendFile !== undefined
  }

  hand(): number {
    if (this.#state === 'waiting') this.#begin()
    if (this.#state !== 'ready' || this.over) return 0
    return this.#direct ? this.#handDirectly() : this.#handPiece()
  }

  #handDirectly(): number {
    let count: number
    try {
      count = this.#life.handle.sendFile?.(this.#fd, this.#at, Math.min(MOST, this.#left)) ?? -1
    } catch (error) {
      if (!OF_THE_FILE.has(systemCode(error) ?? '')) throw error
      this.#direct = false
      return this.#handPiece()
    }
    if (count === 0) this.#fail(this.#short())
    return this.#moved(Math.max(0, count))
  }

  #handPiece(): number {
    const piece = this.#piece
    if (piece === undefined) {
      this.#read()
      return 0
    }
    const count = this.#life.handle.write(piece)
    this.#piece = count === piece.length ? undefined : piece.subarray(count)
    return this.#moved(count)
  }

  #moved(count: number): number {
    this.#at += count
    if (this.#left === 0) this.over = true
    return count
  }

  get #left(): number {
    return (this.#end as number) - this.#at
  }

  #begin(): void {
    this.#state = 'asking'
    const source = this.#source
    if (typeof source === 'object' && 'fd' in source) {
      this.#fd = source.fd
      return this.#measure()
    }
    open(source, FLAGS, (error, fd) => {
      if (!error) this.#fd = fd
      this.#answered(error, () => this.#measure())
    })
  }

  #measure(): void {
    fstat(this.#fd, (error, stat) => {
      this.#answered(error, () => {
        if (!stat.isFile()) return this.#fail(this.#error('NOT_A_FILE', 'only a regular file can be sent'))
        const end = this.#end ?? stat.size
        if (stat.size < end || stat.size < this.#at) return this.#fail(this.#short(`${stat.size}`))
        this.#end = end
        this.#state = 'ready'
        this.over = this.#left === 0
        this.#life.out.writable()
      })
    })
  }

  #read(): void {
    this.#state = 'asking'
    this.#memory ??= new Uint8Array(PIECE)
    const size = Math.min(PIECE, this.#left)
    read(this.#fd, this.#memory, 0, size, this.#at, (error, count) => {
      this.#answered(error, () => {
        if (count === 0) return this.#fail(this.#short())
        this.#piece = (this.#memory as Uint8Array).subarray(0, count)
        this.#state = 'ready'
        this.#life.out.writable()
      })
    })
  }

  /** Goes on with what the system was asked for, unless nobody wants it any more. */
  #answered(error: Error | null, next: () => void): void {
    if (this.#stopped) this.#close()
    else if (error) this.#fail(systemFailure(error, this.#facts, this.#failed))
    else next()
  }

  #short(size: string = `no more than ${this.#at}`): SystemFailure {
    const wanted = this.#end === undefined ? `${this.#at} and on` : `${this.#end}`
    return this.#error('FILE_TOO_SHORT', `it has ${size} bytes, and bytes up to ${wanted} were to be sent`)
  }

  #error(code: SystemFailure['code'], what: string): SystemFailure {
    return new SystemFailure(code, `${this.#failed}: ${what}`, this.#facts)
  }

  get #failed(): string {
    const source = this.#source
    const name = typeof source === 'string' ? show(source) : 'fd' in source ? `descriptor ${source.fd}` : show(source.href)
    return `cannot send ${name}`
  }

  #fail(error: unknown): void {
    this.failure = error
    this.over = true
    this.#state = 'ready'
    // Not from inside `hand`, whose caller looks by itself.
    queueMicrotask(() => this.#life.out.writable())
  }

  /** Nobody waits for it any more. What the system was asked for comes to its end first: the descriptor may be used until then. */
  stop(): void {
    this.#stopped = true
    if (this.#state !== 'asking') this.#close()
  }

  #close(): void {
    const fd = this.#fd
    this.#fd = -1
    const source = this.#source
    if (fd >= 0 && (typeof source === 'string' || source instanceof URL)) close(fd, () => {})
  }
}
