/**
 * Listening at a path: what `bind(2)` leaves open. Measured on Node 20:
 *
 * - the socket is reachable with the permissions of the umask before anybody can change them;
 * - a path that exists is EADDRINUSE for ever, also when its server died without cleaning up;
 * - closing a server unlinks whatever then has its path, such as the socket of its successor.
 *
 * So the socket is bound inside a fresh directory that is ours alone (0700), given its permissions there, and then linked
 * to its name, which `link(2)` does whole or, if the name is taken, not at all. What the runtime unlinks at the close is
 * the name in that directory, long gone; the public name is removed by us, before the descriptor goes, if it is still
 * the very socket we made. (redis does bind, chmod, listen, which libuv does not offer; Go unlinks unconditionally;
 * systemd and OpenSSH refuse to remove what answers.)
 */

import { type BigIntStats, linkSync, lstatSync, renameSync, unlinkSync } from 'node:fs'
import { chmod, link, lstat, mkdtemp, rmdir, unlink } from 'node:fs/promises'
import { endpointOf, LONGEST_PATH, type UnixAddress } from './address.js'
import { wholeNumber } from './arguments.js'
import type { Driver, ListenerHandle, ListenSettings } from './driver.js'
import { type CodeOf, type ErrorFacts, OptionError, show, systemCode, systemFailure, SystemFailure } from './errors.js'

/** Only the user of the process may connect, unless asked otherwise. */
const MODE = 0o600
/** Rounds of finding the name taken by something that is gone when looked at. */
const ROUNDS = 8
/** What a file system or a sandbox says that cannot link sockets. */
const NO_LINKS: ReadonlySet<string> = new Set(['ENOTSUP', 'EOPNOTSUPP', 'EPERM', 'ENOSYS', 'EXDEV', 'EMLINK', 'EINVAL'])

export interface UnixListenOptions {
  /** Permissions of the socket; connecting needs to write. Default 0o600. */
  mode?: number | undefined
  /** Remove a socket at the path that nobody answers. Default true. */
  unlinkStale?: boolean | undefined
  facts?: ErrorFacts | undefined
}

/** A socket as the file system knows it. Numbers of inodes are used again; together with the time of creation they are not. */
interface Identity {
  readonly dev: bigint
  readonly ino: bigint
  readonly mtimeNs: bigint
}

/**
 * Listens at a path or an abstract name. The path is removed when the listener closes, if it is still its own.
 *
 * @throws AddressError/PATH_TOO_LONG, BAD_PATH
 * @throws SystemFailure/EADDRINUSE when somebody answers at the path, ENOTSOCK when it is not a socket (it is left alone),
 *   EACCES, ENOENT, …
 */
export async function listenUnix(
  driver: Driver,
  at: UnixAddress,
  settings: ListenSettings,
  o: UnixListenOptions = {},
): Promise<ListenerHandle> {
  const place = new Place(driver, at, settings, o)
  // A driver inside the process has names without files, and Windows has pipes instead.
  if (at.abstract || driver.name === 'memory' || process.platform === 'win32') return driver.listen(at, settings)
  return (await place.listenAside()) ?? place.listenInPlace()
}

class Place {
  readonly #driver: Driver
  readonly #at: UnixAddress
  readonly #settings: ListenSettings
  readonly #mode: number
  readonly #unlinkStale: boolean
  readonly #facts: ErrorFacts

  constructor(driver: Driver, at: UnixAddress, settings: ListenSettings, o: UnixListenOptions) {
    this.#driver = driver
    this.#at = at
    this.#settings = settings
    this.#facts = { op: 'listen', phase: 'listen', ...o.facts }
    this.#mode = wholeNumber('mode', o.mode ?? MODE, 0, 0o777)
    this.#unlinkStale = o.unlinkStale ?? true
    // Checks the path: a NUL would cut it, and so would its length.
    endpointOf(at)
    if (at.abstract && o.mode !== undefined) {
      throw new OptionError('UNSUPPORTED_OPTION', 'an abstract name has no permissions, so mode does not apply', {
        ...this.#facts,
        phase: 'option',
      })
    }
  }

  /** The careful way; undefined where it cannot be gone: no room for a longer path, no links, no file at all. */
  async listenAside(): Promise<ListenerHandle | undefined> {
    const { path } = this.#at
    const beside = path.slice(0, path.lastIndexOf('/') + 1)
    if (Buffer.byteLength(`${beside}.XXXXXX/s`) > LONGEST_PATH) return undefined
    const folder = await mkdtemp(`${beside}.`).catch((error: unknown) => {
      throw this.#failure(error)
    })
    const aside = `${folder}/s`
    let handle: ListenerHandle | undefined
    try {
      handle = await this.#driver.listen({ family: 'unix', path: aside, abstract: false }, this.#settings)
      const made = identityOf(aside)
      if (made !== undefined) {
        await chmod(aside, this.#mode)
        await this.#publish(aside, folder)
        return owning(handle, this.#at, made, false)
      }
      await closing(handle)
      return undefined
    } catch (error) {
      if (handle !== undefined) await closing(handle)
      const code = systemCode(error)
      if (!(error instanceof SystemFailure) && code !== undefined && NO_LINKS.has(code)) return undefined
      throw this.#failure(error)
    } finally {
      await unlink(aside).catch(ignoreMissing)
      await rmdir(folder).catch(ignoreMissing)
    }
  }

  /** Gives the socket its name, in the place of a dead one if need be. */
  async #publish(aside: string, folder: string): Promise<void> {
    for (let round = 0; round < ROUNDS; round++) {
      try {
        return await link(aside, this.#at.path)
      } catch (error) {
        if (systemCode(error) !== 'EEXIST') throw error
      }
      const stale = await this.#findStale()
      if (stale !== undefined) this.#remove(stale, `${folder}/old`)
    }
    throw this.#error('EADDRINUSE', `the path ${show(this.#at.path)} is taken again and again by others`)
  }

  /** The dead socket at the path, undefined when nothing is there any more; throws when it must stay. */
  async #findStale(): Promise<Identity | undefined> {
    const { path } = this.#at
    const stat = await lstat(path, { bigint: true }).catch(ignoreMissing)
    if (stat === undefined) return undefined
    if (!stat.isSocket()) throw this.#error('ENOTSOCK', `${show(path)} exists and is not a socket but ${kindOf(stat)}; it is left alone`)
    if (!this.#unlinkStale) throw this.#error('EADDRINUSE', `the path ${show(path)} is taken`)
    const refusal = await this.#probe()
    if (refusal === 'ENOENT') return undefined
    if (refusal === 'ECONNREFUSED') return identity(stat)
    const why = refusal === undefined ? 'somebody listens there' : `connecting to it fails with ${refusal}, so it may be alive`
    throw this.#error('EADDRINUSE', `the path ${show(path)} is taken: ${why}`)
  }

  /** Why a connection is refused; undefined when it is not. */
  #probe(): Promise<string | undefined> {
    return new Promise((resolve) => {
      this.#driver.dial(this.#at, { noDelay: false, keepAlive: false }, (error, handle) => {
        handle?.destroy(false)
        resolve(handle === undefined ? (systemCode(error) ?? 'UNKNOWN') : undefined)
      })
    })
  }

  /**
   * Removes a dead socket. Another process may have found it dead, too, and have put its own in its place a moment ago: so
   * it is looked at again, then moved away, which is atomic, and what was moved is looked at once more; what is not the
   * dead one is put back. All without giving up the processor, to keep the moment short in which the path is empty.
   */
  #remove(stale: Identity, grave: string): void {
    const { path } = this.#at
    if (!isStill(stale, path) || !attempt(() => renameSync(path, grave))) return
    if (!isStill(stale, grave)) attempt(() => linkSync(grave, path))
    unlinkSync(grave)
  }

  /** Binds at the path itself. Between bind and chmod the permissions are those of the umask. */
  async listenInPlace(): Promise<ListenerHandle> {
    const { path } = this.#at
    let handle: ListenerHandle | undefined
    try {
      const stale = await this.#findStale()
      if (stale !== undefined && isStill(stale, path)) attempt(() => unlinkSync(path))
      handle = await this.#driver.listen(this.#at, this.#settings)
      const made = identityOf(path)
      if (made === undefined) return handle
      owning(handle, this.#at, made, true)
      await chmod(path, this.#mode)
      return handle
    } catch (error) {
      if (handle !== undefined) await closing(handle)
      throw this.#failure(error)
    }
  }

  #failure(error: unknown): Error {
    return systemFailure(error, this.#facts, `cannot listen at ${show(this.#at.path)}`)
  }

  #error(code: CodeOf<'SystemFailure'>, message: string): SystemFailure {
    return new SystemFailure(code, message, this.#facts)
  }
}

/**
 * `handle` by its public name, which its first close removes if it is still its own.
 *
 * @param inPlace the runtime bound the public name, and will unlink it at the close whatever it is then
 */
function owning(handle: ListenerHandle, at: UnixAddress, made: Identity, inPlace: boolean): ListenerHandle {
  const { path } = at
  const closeHandle = handle.close.bind(handle)
  const close = (done: () => void) => {
    handle.close = closeHandle
    // The inode of a bound socket is not used again while its descriptor is open, so this comes before the close.
    const own = isStill(made, path)
    if (own) attempt(() => unlinkSync(path))
    // The path is somebody else's now: it steps aside while the runtime unlinks what it takes for its own.
    const aside = `${path}.${process.pid}`
    const moved = inPlace && !own && attempt(() => renameSync(path, aside))
    closeHandle(done)
    if (moved) attempt(() => renameSync(aside, path))
  }
  // Whoever has the descriptor from then on has the path, too.
  const giveHandle = handle.give?.bind(handle)
  const give =
    giveHandle &&
    (() => {
      const descriptor = giveHandle()
      handle.close = closeHandle
      return descriptor
    })
  return Object.assign(handle, { local: at, close, ...(give && { give }) })
}

function kindOf(stat: BigIntStats): string {
  if (stat.isFile()) return 'a file'
  if (stat.isDirectory()) return 'a directory'
  if (stat.isSymbolicLink()) return 'a symbolic link'
  return stat.isFIFO() ? 'a pipe' : 'a device'
}

function identity({ dev, ino, mtimeNs }: BigIntStats): Identity {
  return { dev, ino, mtimeNs }
}

function identityOf(path: string): Identity | undefined {
  const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false })
  return stat && identity(stat)
}

/** Whether a path is that of this very socket. */
function isStill({ dev, ino, mtimeNs }: Identity, path: string): boolean {
  const now = identityOf(path)
  return now !== undefined && now.dev === dev && now.ino === ino && now.mtimeNs === mtimeNs
}

/** Does what others may have done before; whether there was anything to do. */
function attempt(fn: () => void): boolean {
  try {
    fn()
    return true
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') ignoreMissing(error)
    return false
  }
}

function closing(handle: ListenerHandle): Promise<void> {
  return new Promise((resolve) => handle.close(resolve))
}

function ignoreMissing(error: unknown): undefined {
  const code = systemCode(error)
  if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error
}
