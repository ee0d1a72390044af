/** The module `SSL`: TLS over a file, and ports whose connections speak it. */

import { Closed, type Connection, listen, type Listener, SocketError, type TlsInfo } from '../index.js'
import { clientOptions, type Context, serverOptions, versionNumber } from './pike-context.js'
import { descriptorOf, isDescriptor } from './pike-descriptors.js'
import { EAGAIN, EBADF, EINVAL, errnoOf, EPIPE, PikeError } from './pike-errno.js'
import { invalidAddress, isBadPath, isPath, portNumber, type PortName, type File as StdioFile } from './pike-file.js'
import { addressText, ByteStream, channelOf, type Given } from './pike-stream.js'
import { fromBytes } from './pike-strings.js'
import { call, report } from './pike-system.js'

export { Constants, Context, type CertificateData, type CertificateFiles } from './pike-context.js'

/** Called with the file and its id when the handshake is done. */
export type HandshakeCallback = (file: File, id: never) => unknown

/** What is known of the peer's certificate. */
export interface PeerCertificateInfo {
  /** Whether it passed every check. */
  readonly verified: boolean
  /** Why not, in words; 0 if it did. */
  readonly error_code: string | 0
  readonly subject: string
  readonly issuer: string
  readonly names: readonly string[]
}

let make: (connection: Connection, context: Context) => File

/**
 * TLS over a connection, which belongs to it from then on. Pike: `SSL.File`; here it waits from the start, as files do.
 *
 * ```ts
 * import { SSL, Stdio } from 'fairlead/pike'
 *
 * const sock = new Stdio.File()
 * const other = sock.pipe()
 * other.close()
 * const ssl = new SSL.File(sock, new SSL.Context())
 * console.log(await ssl.connect('example.com')) // -1: nobody answers
 * ssl.close()
 * ```
 */
export class File extends ByteStream {
  readonly #context: Context
  #plain: Connection | undefined
  #timeout = 0
  /** Ends a handshake that is under way. */
  readonly #ending = new AbortController()
  #begun = false
  #failure: unknown
  #accepted: HandshakeCallback | 0 = 0

  static {
    make = (connection, context) => {
      const file = new File(undefined, context)
      file.#begun = true
      channelOf(file).attach(connection)
      return file
    }
  }

  /**
   * @param stream an open file, which cannot be used any more afterwards; 0 is for this library itself
   * @param context settings
   * @throws PikeError if the file is not open
   */
  constructor(stream: StdioFile | undefined, context: Context) {
    super()
    this.#context = context
    if (stream === undefined) return
    this.#plain = channelOf(stream).surrender()
  }

  /**
   * Shakes hands as a client. Waits until that is done, unless the file does not block: then 1 means that it is under way.
   *
   * @param server_name the name that the certificate must have; default: the host that the file was connected to
   * @returns 1; −1 with `errno()` if it failed: 32 where either side refused, 104 where the peer broke off, 110 after the timeout. The
   *   original gives an object of the session in most of these cases, and tells at the first `write`.
   * @throws PikeError where a handshake was begun already
   */
  connect(server_name?: string): Promise<1 | -1> {
    const o = clientOptions(this.#context, server_name)
    return this.#begin((plain) => plain.startTls({ ...o, role: 'client', ...this.#wait() }), -1)
  }

  /**
   * Shakes hands as a server.
   *
   * @returns 1; 0 with `errno()` if it failed
   * @throws PikeError where a handshake was begun already
   */
  accept(): Promise<1 | 0> {
    const o = serverOptions(this.#context)
    // What a client has sent already is the beginning of its handshake, or else no handshake at all.
    return this.#begin((plain) => plain.startTls({ ...o, role: 'server', implicit: true, ...this.#wait() }), 0)
  }

  #wait(): { handshakeTimeout?: number; signal: AbortSignal } {
    const { signal } = this.#ending
    return this.#timeout > 0 ? { handshakeTimeout: this.#timeout * 1000, signal } : { signal }
  }

  async #begin<F extends 0 | -1>(shake: (plain: Connection) => Promise<Connection>, failed: F): Promise<1 | F> {
    const plain = this.#plain
    if (this.#begun || plain === undefined) throw new PikeError('A connection is already configured!')
    this.#begun = true
    const channel = channelOf(this)
    channel.errno = 0
    const attempt = shake(plain).then(
      (connection) => this.#established(connection),
      (error: unknown) => this.#refused(error),
    )
    if (channel.nonblocking) {
      channel.dialling(attempt)
      return 1
    }
    try {
      channel.attach(await attempt)
      return 1
    } catch (error) {
      channel.errno = errnoOf(error)
      return failed
    }
  }

  #established(connection: Connection): Connection {
    if (this.#plain === undefined) {
      connection.abort()
      throw new Closed('CLOSED', 'the file was closed')
    }
    this.#plain = undefined
    if (this.#accepted !== 0) queueMicrotask(() => void (this.#accepted && call(this.#accepted, this, channelOf(this).id)))
    return connection
  }

  #refused(error: unknown): never {
    // A file that was closed meanwhile is only closed.
    if (this.#plain !== undefined) this.#failure = error
    this.#plain?.abort()
    this.#plain = undefined
    throw error
  }

  /** As of `Stdio.File`; `""` with `errno()` 11 where nothing is there of a file that does not block. */
  override async read(length?: number, not_all?: 0 | 1 | boolean): Promise<string | 0> {
    if (this.#isRefused) return this.#refuse()
    const data = await super.read(length, not_all)
    return data === 0 && channelOf(this).errno === EAGAIN ? '' : data
  }

  override async write(...args: Parameters<ByteStream['write']>): Promise<number> {
    if (!this.#isRefused) return super.write(...args)
    this.#refuse()
    return -1
  }

  /** The handshake failed: what is written goes nowhere, and says so. */
  get #isRefused(): boolean {
    return this.#failure !== undefined && !channelOf(this).open
  }

  #refuse(): 0 {
    channelOf(this).errno = EPIPE
    return 0
  }

  override is_open(): 0 | 1 {
    return this.#plain !== undefined ? 1 : super.is_open()
  }

  override query_address(local: 0 | 1 | boolean = 0): string | 0 {
    const plain = this.#plain
    return plain === undefined ? super.query_address(local) : addressText(local ? plain.local : plain.remote)
  }

  /**
   * Closes both directions; returns 1. The peer is told (close_notify).
   *
   * @throws PikeError for one direction alone
   */
  override close(how: string = 'rw'): 0 | 1 {
    if (!(how.includes('r') && how.includes('w'))) throw new PikeError('Can only close the connection in both directions simultaneously.')
    if (this.#plain !== undefined) {
      this.#ending.abort()
      this.#plain.abort()
      this.#plain = undefined
    }
    this.#failure = undefined
    return super.close('rw')
  }

  // Facts and settings

  get #info(): TlsInfo | null {
    return channelOf(this).connection?.security ?? null
  }

  /** Why the handshake failed, as this library tells it; undefined if it did not. The original has no such method. */
  query_failure(): unknown {
    return this.#failure
  }

  /** Seconds for the handshake; 0: those of this library, 10. */
  set_timeout(seconds: number): void {
    this.#timeout = seconds
  }

  query_timeout(): number {
    return this.#timeout
  }

  /** Sets a callback for the end of the handshake; 0: none. */
  set_accept_callback(callback: HandshakeCallback | 0): void {
    this.#accepted = callback
  }

  query_accept_callback(): HandshakeCallback | 0 {
    return this.#accepted
  }

  /** The peer's certificate and those above it, DER; 0 if it sent none. */
  get_peer_certificates(): string[] | 0 {
    const chain = this.#info?.peerChain ?? []
    return chain.length === 0 ? 0 : chain.map(({ raw }) => fromBytes(raw))
  }

  /** Facts of the peer's certificate; 0 if it sent none. */
  get_peer_certificate_info(): PeerCertificateInfo | 0 {
    const info = this.#info
    if (info === null || info.peerCertificate === null) return 0
    const { subject, issuer, names } = info.peerCertificate
    return { verified: info.verified, error_code: info.verifyError?.code ?? 0, subject, issuer, names }
  }

  /** The application protocol that was agreed upon; 0 if there is none. */
  query_application_protocol(): string | 0 {
    return this.#info?.alpn ?? 0
  }

  /** The version as a number, 0x303 or 0x304; −1 before the handshake. */
  query_version(): number {
    return versionNumber(this.#info?.protocol)
  }

  /** The cipher suite by its IANA name; 0 before the handshake. The original has its number. */
  query_suite(): string | 0 {
    return this.#info?.cipher ?? 0
  }

  /** The name the client asked for; 0 if it did not. */
  get_server_name(): string | 0 {
    return this.#info?.serverName ?? 0
  }

  query_context(): Context {
    return this.#context
  }
}

/** Called with a file whose handshake is done, and with the id of the port. */
export type TlsCallback = (file: File, id: never) => unknown

/**
 * Listens, and shakes hands with those who come. Pike: `SSL.Port`.
 *
 * The callback is called once for each connection; it gets the file, and `accept` gives the same one as long as nobody took it. (The
 * original calls again and again until somebody calls `accept`.)
 */
export class Port {
  readonly #context: Context
  #listener: Listener | undefined
  #callback: TlsCallback | undefined
  #errno = 0
  #id: unknown = 0
  readonly #finished: File[] = []

  /** @param context settings with a certificate */
  constructor(context: Context) {
    this.#context = context
  }

  /**
   * Listens at a port. Settings are those of the context at this moment.
   *
   * @param port a number, 0 for any; the name of a service; or the path of a UNIX socket
   * @param callback gets the file of each connection; 0: none, then `accept` waits
   * @param ip as of `Stdio.Port`
   * @param reuse_port 1: others may listen at the same port
   * @returns 1, or 0 with `errno()`: as `Stdio.Port`, 2 a file that is missing, 22 a certificate or key that cannot be used, or none
   */
  async bind(port: PortName, callback?: Given<TlsCallback>, ip?: string | 0, reuse_port?: 0 | 1 | boolean): Promise<0 | 1> {
    const host = ip || '0.0.0.0'
    const endpoint = isPath(port)
      ? ({ transport: 'tls+unix', path: port } as const)
      : ({ transport: 'tls', host, port: portNumber(port) } as const)
    if (isPath(port) && isBadPath(port)) return this.#fails(EINVAL)
    const options = isPath(port) ? { unlinkStale: false } : reuse_port ? { reusePort: true } : {}
    return this.#listen(() => listen(endpoint, { ...options, backlog: 16_384, tls: serverOptions(this.#context) }), callback, host)
  }

  /** As `listen_fd` of `Stdio.Port`, with a callback as that of `bind`. */
  async listen_fd(fd: number, callback?: Given<TlsCallback>): Promise<0 | 1> {
    if (!isDescriptor(fd, 'listen_fd') || fd === this.query_fd()) return this.#fails(EBADF)
    return this.#listen(() => listen({ fd, transport: 'tls' }, { tls: serverOptions(this.#context) }), callback, '')
  }

  /** The number that the system knows the port by, −1 where there is none or the driver does not tell. */
  query_fd(): number {
    return descriptorOf(this.#listener)
  }

  #fails(errno: number): 0 {
    this.close()
    this.#errno = errno
    return 0
  }

  async #listen(make: () => Promise<Listener>, callback: Given<TlsCallback>, host: string): Promise<0 | 1> {
    this.close()
    this.#errno = 0
    try {
      const listener = await make()
      this.close()
      this.#listener = listener
    } catch (error) {
      const thrown = invalidAddress(error, host)
      if (thrown instanceof PikeError) throw thrown
      this.#errno = errnoOf(thrown)
      return 0
    }
    this.#callback = typeof callback === 'function' ? callback : undefined
    if (this.#callback !== undefined) void this.#serve(this.#listener, this.#callback).catch(report)
    return 1
  }

  /** As `bind`, at a UNIX socket. */
  bind_unix(path: string, callback?: Given<TlsCallback>): Promise<0 | 1> {
    return this.bind(isPath(path) ? path : `./${path}`, callback)
  }

  async #serve(listener: Listener, callback: TlsCallback): Promise<void> {
    for await (const connection of listener) {
      const file = make(connection, this.#context)
      this.#finished.push(file)
      void call(callback, file, this.#id)
      // Whoever got it as an argument has taken it.
      const at = this.#finished.indexOf(file)
      if (at !== -1) this.#finished.splice(at, 1)
    }
  }

  /**
   * Takes a connection whose handshake is done. Waits for one, unless the port has a callback.
   *
   * @returns a file; 0 with `errno()` 11 if there is none, 9 if the port was closed meanwhile
   * @throws PikeError if the port does not listen
   */
  async accept(): Promise<File | 0> {
    const file = this.#finished.shift()
    if (file !== undefined) return file
    const listener = this.#listener
    if (listener === undefined) throw new PikeError('port->accept(): Port not open.')
    this.#errno = 0
    try {
      if (this.#callback === undefined) return make(await listener.accept(), this.#context)
      this.#errno = EAGAIN
    } catch (error) {
      if (!(error instanceof SocketError)) throw error
      this.#errno = error instanceof Closed ? EBADF : errnoOf(error)
    }
    return 0
  }

  /** The address it listens at; 0 of a UNIX socket. @throws PikeError if it does not listen */
  query_address(): string | 0 {
    if (this.#listener === undefined) throw new PikeError('Stdio.Port->query_address(): Socket not bound yet.')
    return addressText(this.#listener.local)
  }

  /** The error number of what was done last, 0 if it succeeded. */
  errno(): number {
    return this.#errno
  }

  /** Sets what the callback gets as its second argument. Default 0. */
  set_id(id: unknown): void {
    this.#id = id
  }

  query_id(): unknown {
    return this.#id
  }

  query_context(): Context {
    return this.#context
  }

  /** Stops listening. Connections that were accepted live on. */
  close(): void {
    const listener = this.#listener
    this.#listener = undefined
    this.#callback = undefined
    for (const file of this.#finished.splice(0)) file.close()
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
