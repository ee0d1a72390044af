/** `Stdio.Port`: listening. */

import { Closed, type Connection, type Endpoint, listen, type Listener } from '../index.js'
import { descriptorOf, isDescriptor } from './pike-descriptors.js'
import { EAFNOSUPPORT, EAGAIN, EBADF, EINVAL, errnoOf, PikeError } from './pike-errno.js'
import { type File, fileOf, invalidAddress, isBadPath, isPath, portNumber, type PortName, type SocketOption } from './pike-file.js'
import { addressText, type Given } from './pike-stream.js'
import { call, report } from './pike-system.js'

/** Called with the id of the port when somebody has come, whom `accept` then gives. */
export type AcceptCallback = (id: never) => unknown

/** As the original; the system has a lower bound of its own. */
const BACKLOG = 16_384

let insides: (port: Port) => Listener | undefined

/** What a port listens by. @internal */
export function listenerOf(port: Port): Listener | undefined {
  return insides(port)
}

/**
 * Listens at a TCP port or a UNIX socket. Pike: `Stdio.Port`; an object that was just made does not listen here, while in the
 * original it listens at some port of all interfaces.
 *
 * ```ts
 * import { Stdio } from 'fairlead/pike'
 *
 * const port = new Stdio.Port()
 * await port.bind(0, 0, '127.0.0.1')
 * console.log(port.query_address()) // such as "127.0.0.1 40123"
 * port.close()
 * ```
 */
export class Port {
  #listener: Listener | undefined
  #errno = 0
  #id: unknown = 0
  #callback: AcceptCallback | undefined
  #nonblocking = false
  /** Connections that the callback was called for. */
  readonly #waiting: Connection[] = []
  #taken: (() => void) | undefined

  static {
    insides = (port) => port.#listener
  }

  /**
   * Listens at a port, until now at another one perhaps. With a callback, that is called when somebody has come, and `accept` does
   * not wait.
   *
   * @param port a number, 0 for any; the name of a service; or the path of a UNIX socket, with a slash in it
   * @param accept_callback 0: none
   * @param ip an address or a name of this machine; default all IPv4 addresses; `"::"`: all of IPv6 and IPv4
   * @param reuse_port 1: others may listen at the same port
   * @returns 1, or 0 with `errno()`: 98 in use, 99 not an address of this machine, 13 not allowed
   * @throws PikeError `Invalid address`, `Invalid service`
   */
  async bind(port: PortName, accept_callback?: Given<AcceptCallback>, ip?: string | 0, reuse_port?: 0 | 1 | boolean): Promise<0 | 1> {
    if (isPath(port)) return this.bind_unix(port, accept_callback)
    const host = ip || '0.0.0.0'
    const endpoint: Endpoint = { transport: 'tcp', host, port: portNumber(port) }
    const make = () => listen(endpoint, { backlog: BACKLOG, ...(reuse_port && { reusePort: true }) })
    return this.#listen(make, accept_callback, host)
  }

  /**
   * Listens at a UNIX socket, which only the user of this process may connect to.
   *
   * @returns 1, or 0 with `errno()`: 98 the path exists, also where nobody answers there, 2 its folder does not, 22 it is too long, or has NUL, CR or LF
   */
  async bind_unix(path: string, accept_callback?: Given<AcceptCallback>): Promise<0 | 1> {
    if (isBadPath(path)) {
      this.#errno = EINVAL
      return 0
    }
    const make = () => listen({ transport: 'unix', path }, { backlog: BACKLOG, unlinkStale: false })
    return this.#listen(make, accept_callback, path)
  }

  /**
   * Listens by a descriptor that listens already: one that this process was started with, received, or was given. It is closed
   * with the port.
   *
   * @param fd its number; 0 is what service managers start a program with
   * @returns 1, or 0 with `errno()`: 9 there is none, 88 it is no socket, 22 it does not listen, 17 another object of this process
   *   has it, 95 the driver cannot
   * @throws PikeError for what is no whole number
   */
  async listen_fd(fd: number, accept_callback?: Given<AcceptCallback>): Promise<0 | 1> {
    // The port is closed first, and its own descriptor with it.
    const none = !isDescriptor(fd, 'listen_fd') || fd === descriptorOf(this.#listener)
    if (!none) return this.#listen(() => listen({ fd }), accept_callback, '')
    this.close()
    this.#errno = EBADF
    return 0
  }

  /** The number that the system knows the port by, −1 where there is none or the driver does not tell. */
  query_fd(): number {
    return descriptorOf(this.#listener)
  }

  async #listen(make: () => Promise<Listener>, callback: Given<AcceptCallback>, host: string): Promise<0 | 1> {
    this.close()
    this.#errno = 0
    let listener: Listener
    try {
      listener = await make()
    } catch (error) {
      const thrown = invalidAddress(error, host)
      if (thrown instanceof PikeError) throw thrown
      this.#errno = errnoOf(thrown)
      return 0
    }
    // Somebody was faster with another address.
    this.close()
    this.#listener = listener
    this.#callback = typeof callback === 'function' ? callback : undefined
    this.#nonblocking = Boolean(callback)
    if (this.#callback !== undefined) void this.#serve(listener).catch(report)
    return 1
  }

  /** Calls the callback for each connection that comes, one after the other. */
  async #serve(listener: Listener): Promise<void> {
    for (;;) {
      const connection = await this.#next(listener)
      if (connection === undefined) return
      this.#waiting.push(connection)
      if (this.#callback !== undefined) await call(this.#callback, this.#id)
      // The original calls again and again until somebody accepts; here it waits for that.
      while (this.#waiting.length > 0 && this.#listener === listener) {
        await new Promise<void>((resolve) => {
          this.#taken = resolve
        })
      }
    }
  }

  async #next(listener: Listener): Promise<Connection | undefined> {
    try {
      return await listener.accept()
    } catch (error) {
      if (!(error instanceof Closed)) this.#errno = errnoOf(error)
      return undefined
    }
  }

  /**
   * Takes the next connection. Waits for one, unless the port has a callback.
   *
   * @returns a file that waits; 0 with `errno()` 11 if nobody has come to a port that does not wait, 9 if it was closed meanwhile,
   *   24 without descriptors
   * @throws PikeError if the port does not listen
   */
  async accept(): Promise<File | 0> {
    const listener = this.#listener
    if (listener === undefined) throw new PikeError('port->accept(): Port not open.')
    this.#errno = 0
    const waiting = this.#waiting.shift()
    if (waiting !== undefined) {
      this.#taken?.()
      return fileOf(waiting)
    }
    try {
      const connection = this.#nonblocking ? (this.#callback === undefined ? listener.tryAccept() : undefined) : await listener.accept()
      if (connection !== undefined) return fileOf(connection)
      this.#errno = EAGAIN
    } catch (error) {
      this.#errno = error instanceof Closed ? EBADF : errnoOf(error)
    }
    return 0
  }

  /** The address it listens at, `"127.0.0.1 80"`; 0 with `errno()` 97 of a UNIX socket. @throws PikeError if it does not listen */
  query_address(): string | 0 {
    if (this.#listener === undefined) throw new PikeError('Stdio.Port->query_address(): Socket not bound yet.')
    const text = addressText(this.#listener.local)
    this.#errno = text === 0 ? EAFNOSUPPORT : 0
    return text
  }

  /** The error number of what was done last, 0 if it succeeded. */
  errno(): number {
    return this.#errno
  }

  /** Sets what the callback gets. Default 0. */
  set_id(id: unknown): void {
    this.#id = id
  }

  /** What `set_id` was given; default 0. */
  query_id(): unknown {
    return this.#id
  }

  /**
   * Sets an option: `Stdio.PORT_REUSE_ADDRESS`, which is always on. The original has no such method.
   *
   * @returns 1
   */
  set_option(option: SocketOption, _value: 0 | 1 | boolean): 0 | 1 {
    if (option === 'reuseAddress' || option === 'keepAlive' || option === 'noDelay') return 1
    throw new PikeError(`Bad argument 1 to set_option(): ${String(option)} is no option of a port.`)
  }

  /** Stops listening. Connections that were accepted live on; a socket in the file system is removed. */
  close(): void {
    const listener = this.#listener
    this.#listener = undefined
    this.#callback = undefined
    for (const connection of this.#waiting.splice(0)) connection.abort()
    this.#taken?.()
    void listener?.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** Closes, and waits until the port can be used again. */
  async [Symbol.asyncDispose](): Promise<void> {
    const listener = this.#listener
    this.close()
    await listener?.closed
  }
}
