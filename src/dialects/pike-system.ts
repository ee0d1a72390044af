/** Functions that are no methods: names, files, tasks, and what happens to errors that nobody catches. */

import { lstatSync, readFileSync, rmdirSync, statSync, unlinkSync } from 'node:fs'
import { hostName, network, SocketError } from '../index.js'
import { numberOf } from './dictu-errno.js'
import { remember } from './pike-errno.js'
import { fromBytes, sprintf, toBytes } from './pike-strings.js'

/** Where errors go that were thrown in a callback or in a task, for which nobody waits. */
export interface Master {
  /** Called with what was thrown. By default it writes the error with its stack to the error output; assign another function. */
  handle_error: (error: unknown) => void
}

const MASTER: Master = {
  handle_error: (error) => {
    console.error(error)
  },
}

/** The object that hears of errors which nobody catches. Pike: `master()`. */
export function master(): Master {
  return MASTER
}

/** Reports what a callback threw; the socket lives on, as in the original. @internal */
export function report(error: unknown): void {
  try {
    MASTER.handle_error(error)
  } catch (failure) {
    console.error(failure)
  }
}

/**
 * Calls a callback. Resolves when what it returned is done; never rejects: what it throws is reported. Undefined where there is
 * nothing to wait for. @internal
 */
export function call(fn: (...args: never[]) => unknown, ...args: readonly unknown[]): Promise<void> | undefined {
  try {
    const result = fn(...(args as never[]))
    if (typeof (result as PromiseLike<unknown> | null | undefined)?.then !== 'function') return undefined
    return Promise.resolve(result as PromiseLike<unknown>).then(ignore, report)
  } catch (error) {
    report(error)
    return undefined
  }
}

function ignore(): void {}

/** The name of this machine. Pike: `gethostname`. */
export function gethostname(): string {
  return hostName()
}

/** The name that was asked for, its IPv4 addresses, and other names of it. */
export type HostEntry = readonly [name: string, ips: readonly string[], aliases: readonly string[]]

/**
 * The addresses of a name; 0 if it is unknown. Pike: `gethostbyname`.
 *
 * @param name a name, or an IPv4 address, which is its own
 */
export async function gethostbyname(name: string): Promise<HostEntry | 0> {
  try {
    const found = await network().lookup(name, { family: 4 })
    remember(0)
    return [name, [...new Set(found.map(({ address }) => address))], []]
  } catch (error) {
    if (!(error instanceof SocketError)) throw error
    remember(numberOf('ENOENT'))
    return 0
  }
}

/**
 * The names of an address; 0 if it has none. Pike: `gethostbyaddr`.
 *
 * @param address an IP address
 */
export async function gethostbyaddr(address: string): Promise<HostEntry | 0> {
  try {
    const [name = address, ...aliases] = await network().reverse(address)
    remember(0)
    return [name, [address], aliases]
  } catch (error) {
    if (!(error instanceof SocketError)) throw error
    remember(numberOf('ENOENT'))
    return 0
  }
}

/** Facts of a file. Times are seconds since 1970. */
export interface FileStat {
  readonly mode: number
  readonly size: number
  readonly atime: number
  readonly mtime: number
  readonly ctime: number
  readonly uid: number
  readonly gid: number
  readonly isreg: boolean
  readonly isdir: boolean
  readonly islnk: boolean
  readonly issock: boolean
}

/**
 * Facts of the file at a path; 0 if there is none, with the reason in `errno()`. Pike: `file_stat`.
 *
 * @param symlink 1: of a link itself rather than of what it leads to
 */
export function file_stat(path: string, symlink: 0 | 1 | boolean = 0): FileStat | 0 {
  const stat = system(() => (symlink ? lstatSync(path) : statSync(path)))
  if (stat === undefined) return 0
  const seconds = (ms: number) => Math.floor(ms / 1000)
  return {
    mode: stat.mode,
    size: stat.isDirectory() ? -2 : stat.size,
    atime: seconds(stat.atimeMs),
    mtime: seconds(stat.mtimeMs),
    ctime: seconds(stat.ctimeMs),
    uid: stat.uid,
    gid: stat.gid,
    isreg: stat.isFile(),
    isdir: stat.isDirectory(),
    islnk: stat.isSymbolicLink(),
    issock: stat.isSocket(),
  }
}

/**
 * Removes a file or an empty directory. Pike: `rm`.
 *
 * @returns 1, or 0 with the reason in `errno()`: 2 there is none, 13 not allowed, 39 the directory is not empty
 */
export function rm(path: string): 0 | 1 {
  const done = system(() => {
    if (lstatSync(path).isDirectory()) rmdirSync(path)
    else unlinkSync(path)
    return true
  })
  return done ? 1 : 0
}

/** What a file holds, a string of bytes; 0 if it cannot be read, with the reason in `errno()`. Pike: `Stdio.read_file`. */
export function read_file(path: string): string | 0 {
  const bytes = system(() => readFileSync(path))
  return bytes === undefined ? 0 : fromBytes(bytes)
}

function system<T>(fn: () => T): T | undefined {
  try {
    const result = fn()
    remember(0)
    return result
  } catch (error) {
    const { code } = error as { code?: unknown }
    if (typeof code !== 'string') throw error
    // A NUL in a path: the system would see another path, which is not there.
    remember(numberOf(code === 'ERR_INVALID_ARG_VALUE' ? 'ENOENT' : code))
    return undefined
  }
}

/** Calls `fn` after some seconds; what it returns cancels that. @internal */
export function after(seconds: number, fn: () => void): () => void {
  const { clock } = network()
  return clock.at(clock.now() + Math.max(0, seconds) * 1000, fn)
}

/** Waits. Pike: `sleep`, which lets nothing else run meanwhile; here callbacks go on. @param seconds fractions are fine */
export function sleep(seconds: number): Promise<void> {
  return new Promise((resolve) => {
    after(seconds, resolve)
  })
}

/** A task that was started by {@link thread_create}. Pike: `Thread.Thread`. */
export class Thread<T = unknown> {
  readonly #result: Promise<{ value: T } | undefined>
  #status: 0 | 2 = 0

  /** @internal */
  constructor(run: () => T | PromiseLike<T>) {
    this.#result = (async () => {
      await undefined
      try {
        return { value: await run() }
      } catch (error) {
        report(error)
        return undefined
      } finally {
        this.#status = 2
      }
    })()
  }

  /** 0 while it runs, 2 when it has ended. Pike: `status`. */
  status(): 0 | 2 {
    return this.#status
  }

  /** Waits for its end; resolves with what it returned, 0 if it threw, which was reported then. Pike: `wait`. */
  async wait(): Promise<Awaited<T> | 0> {
    const result = await this.#result
    return result === undefined ? 0 : ((await result.value) as Awaited<T>)
  }
}

/**
 * Starts a task beside the others: `fn(...args)`, a moment later. All tasks share one thread here, and take turns wherever one
 * awaits. What it throws goes to `master().handle_error`. Pike: `thread_create`.
 *
 * @param fn gets `args`; may be `async`
 * @returns the task, whose `wait` gives what `fn` returned
 */
export function thread_create<A extends readonly unknown[], T>(fn: (...args: A) => T | PromiseLike<T>, ...args: A): Thread<T> {
  return new Thread(() => fn(...args))
}

/**
 * Writes to the standard output. Pike: `write`.
 *
 * @param format text as it is, or with `args` a format of `sprintf`
 * @returns the count of bytes
 * @throws PikeError for characters beyond U+00FF, and for what `sprintf` throws
 */
export function write(format: string, ...args: readonly unknown[]): number {
  return put(process.stdout, format, args)
}

/** Writes to the error output, otherwise as {@link write}. Pike: `werror`. */
export function werror(format: string, ...args: readonly unknown[]): number {
  return put(process.stderr, format, args)
}

function put(stream: NodeJS.WriteStream, format: string, args: readonly unknown[]): number {
  const bytes = toBytes(args.length === 0 ? format : sprintf(format, ...args), 'write()')
  stream.write(bytes)
  return bytes.length
}
