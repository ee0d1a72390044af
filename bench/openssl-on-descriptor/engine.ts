/** TLS by OpenSSL itself on a non-blocking descriptor: what a product would need, and no more than the questions of this folder ask. */

import { isIP } from 'node:net'
import { addressOf, callback, copyOf, crypto, koffi, ssl, text } from './foreign.js'

/** `ssl.h`, `tls1.h`, `x509_vfy.h`, `x509v3.h`, `pem.h` of OpenSSL 3. */
const CTRL = { mode: 33, readAhead: 41, sessionCache: 44, serverNameCallback: 53, hostName: 55, ticketKeys: 59, min: 123, max: 124 }
const RELEASE_BUFFERS = 0x10
/** ENABLE_PARTIAL_WRITE, ACCEPT_MOVING_WRITE_BUFFER, AUTO_RETRY */
const MODE = 0x01 | 0x02 | 0x04 | RELEASE_BUFFERS
const OP = { noRenegotiation: 0x4000_0000, serverPreference: 0x40_0000 }
const VERSIONS = { 'TLSv1.2': 0x0303, 'TLSv1.3': 0x0304 }
const ERROR = { ssl: 1, wantRead: 2, wantWrite: 3, wantLookup: 4, syscall: 5, zeroReturn: 6, wantClientHello: 11 }
const CRL_CHECK_ALL = 0x04 | 0x08
/** NO_PARTIAL_WILDCARDS, NEVER_CHECK_SUBJECT */
const HOST_FLAGS = 0x04 | 0x20
const UNEXPECTED_EOF = 294

export type Version = keyof typeof VERSIONS

export interface ContextOptions {
  readonly cert?: string | undefined
  readonly key?: string | undefined
  readonly ca?: string | undefined
  readonly crl?: string | undefined
  readonly depth?: number | undefined
  readonly version?: Version | undefined
  readonly alpn?: readonly string[] | undefined
  /** Answers in C's own stack, while the handshake is under way. */
  readonly sni?: ((name: string, handle: number) => Context | undefined) | undefined
  /** Asked before anything of the ClientHello is used; `later` suspends the handshake until it is continued. */
  readonly hello?: ((handle: number) => 'go on' | 'later') | undefined
  readonly keylog?: ((line: string) => void) | undefined
  readonly session?: ((session: number) => void) | undefined
  readonly ticketKeys?: Uint8Array | undefined
  /** `request` takes any certificate, and `verdict` says what it is worth. */
  readonly clientCert?: 'require' | 'request' | undefined
  /** Holds the buffers of idle connections, 16 KiB and more each. */
  readonly keepBuffers?: boolean | undefined
}

/** What OpenSSL had to say. */
export class EngineError extends Error {
  /** `close_notify` never came, errno, or the reason of OpenSSL. */
  readonly kind: 'truncated' | 'system' | 'openssl'
  readonly code: string

  constructor(kind: EngineError['kind'], code: string) {
    super(`${kind}: ${code}`)
    this.kind = kind
    this.code = code
  }
}

const ERRNO: Record<number, string> = { 32: 'EPIPE', 104: 'ECONNRESET', 0: 'EOF' }
const ERROR_TEXT = Buffer.alloc(256)

/** The oldest error of the thread's queue, which is then empty: what belongs to one call must not be read by the next. */
function takeError(): EngineError {
  const code = crypto.ERR_get_error()
  crypto.ERR_clear_error()
  crypto.ERR_error_string_n(code, ERROR_TEXT, ERROR_TEXT.length)
  const line = ERROR_TEXT.toString('latin1', 0, ERROR_TEXT.indexOf(0))
  return new EngineError((code & 0x7f_ffff) === UNEXPECTED_EOF ? 'truncated' : 'openssl', line.split(':').slice(4).join(':') || line)
}

function must(result: number): number {
  if (result <= 0) throw takeError()
  return result
}

/** Every object of a PEM text, read by `read` and given to `use`, which does not keep it. */
function forEachPem(
  pem: string,
  read: (bio: number) => number,
  free: (object: number) => number,
  use: (object: number, i: number) => void,
): void {
  const bytes = Buffer.from(pem)
  const bio = must(crypto.BIO_new_mem_buf(bytes, bytes.length))
  try {
    for (let i = 0; ; i++) {
      const object = read(bio)
      if (object === 0) break
      try {
        use(object, i)
      } finally {
        free(object)
      }
    }
  } finally {
    crypto.BIO_free(bio)
    // The end of the text is an error to OpenSSL.
    crypto.ERR_clear_error()
    // Until here OpenSSL read from them.
    bytes.fill(0)
  }
}

const certificatesOf = (pem: string, use: (x509: number, i: number) => void) =>
  forEachPem(pem, (bio) => crypto.PEM_read_bio_X509(bio, 0, 0, 0), crypto.X509_free, use)

const contexts = new Map<number, Context>()

/** Callbacks are made once for all contexts: each takes native memory for ever, and the context they are for is their last argument. */
const callbacks = {
  serverName: lazily('int ServerName(int64_t ssl, int64_t *alert, int64_t context)', onServerName),
  hello: lazily('int ClientHello(int64_t ssl, int64_t *alert, int64_t context)', onClientHello),
  alpn: lazily('int Alpn(int64_t ssl, int64_t out, int64_t outlen, int64_t in, uint32_t inlen, int64_t context)', onAlpn),
  keylog: lazily('void KeyLog(int64_t ssl, const char *line)', onKeyLog),
  verify: lazily('int Verify(int ok, int64_t store)', () => 1),
  session: lazily('int NewSession(int64_t ssl, int64_t session)', onSession),
}

function lazily(definition: string, fn: (...args: never[]) => unknown): () => number {
  let made: number | undefined
  return () => (made ??= callback(definition, fn))
}

/** What a callback threw: nothing may pass through the frames of OpenSSL, so it is kept until the call that led here is over. */
let thrown: { error: unknown } | undefined

function guarded<T>(otherwise: T, fn: () => T): T {
  try {
    return fn()
  } catch (error) {
    thrown ??= { error }
    return otherwise
  }
}

function onServerName(handle: number, _alert: unknown, context: number): number {
  // SSL_TLSEXT_ERR_ALERT_FATAL, SSL_TLSEXT_ERR_OK
  return guarded(2, () => {
    const chosen = contexts.get(context)?.o.sni?.(text(ssl.SSL_get_servername(handle, 0)), handle)
    if (chosen !== undefined) ssl.SSL_set_SSL_CTX(handle, chosen.handle)
    return 0
  })
}

function onClientHello(handle: number, _alert: unknown, context: number): number {
  // SSL_CLIENT_HELLO_ERROR, _RETRY, _SUCCESS
  return guarded(0, () => (contexts.get(context)?.o.hello?.(handle) === 'later' ? -1 : 1))
}

function onAlpn(_handle: number, out: number, outlen: number, list: number, length: number, context: number): number {
  return guarded(2, () => {
    const offered = copyOf(list, length)
    for (const { name, at } of contexts.get(context)?.protocols ?? []) {
      for (let i = 0; i < offered.length; i += 1 + (offered[i] as number)) {
        if (!offered.subarray(i + 1, i + 1 + (offered[i] as number)).equals(name)) continue
        new BigUint64Array(koffi.view(BigInt(out), 8))[0] = BigInt(at)
        new Uint8Array(koffi.view(BigInt(outlen), 1))[0] = name.length
        return 0
      }
    }
    return 2
  })
}

const engines = new Map<number, Engine>()

function onKeyLog(handle: number, line: string): void {
  guarded(undefined, () => engines.get(handle)?.context.o.keylog?.(line))
}

function onSession(handle: number, session: number): number {
  // 1: the reference is ours.
  return guarded(0, () => {
    const keep = engines.get(handle)?.context.o.session
    keep?.(session)
    return keep === undefined ? 0 : 1
  })
}

/** One `SSL_CTX`. OpenSSL counts references: freeing it while connections use it is safe. */
export class Context {
  readonly handle: number
  readonly o: ContextOptions
  /** Application protocols and where OpenSSL finds them: memory that is held as long as the context. */
  readonly protocols: readonly { name: Buffer; at: number }[]

  constructor(o: ContextOptions) {
    this.o = o
    this.handle = must(ssl.SSL_CTX_new(ssl.TLS_method()))
    this.protocols = (o.alpn ?? []).map((protocol) => {
      const name = Buffer.alloc(protocol.length, protocol)
      return { name, at: addressOf(name) }
    })
    contexts.set(this.handle, this)
    this.#identity()
    this.#trust()
    this.#features()
  }

  #identity(): void {
    const { handle } = this
    const { cert, key } = this.o
    if (cert === undefined || key === undefined) return
    certificatesOf(cert, (x509, i) => {
      if (i === 0) must(ssl.SSL_CTX_use_certificate(handle, x509))
      // SSL_CTRL_CHAIN_CERT (89) with 1 counts a reference of its own.
      else must(ssl.SSL_CTX_ctrl(handle, 89, 1, x509))
    })
    const readKey = (bio: number) => crypto.PEM_read_bio_PrivateKey(bio, 0, 0, 0)
    forEachPem(key, readKey, crypto.EVP_PKEY_free, (one) => must(ssl.SSL_CTX_use_PrivateKey(handle, one)))
    must(ssl.SSL_CTX_check_private_key(handle))
  }

  #trust(): void {
    const { handle } = this
    const { ca, crl, depth } = this.o
    const store = ssl.SSL_CTX_get_cert_store(handle)
    if (ca !== undefined) certificatesOf(ca, (x509) => must(crypto.X509_STORE_add_cert(store, x509)))
    if (crl !== undefined) {
      const read = (bio: number) => crypto.PEM_read_bio_X509_CRL(bio, 0, 0, 0)
      forEachPem(crl, read, crypto.X509_CRL_free, (list) => must(crypto.X509_STORE_add_crl(store, list)))
      crypto.X509_VERIFY_PARAM_set_flags(ssl.SSL_CTX_get0_param(handle), CRL_CHECK_ALL)
    }
    if (depth !== undefined) ssl.SSL_CTX_set_verify_depth(handle, depth)
    // SSL_VERIFY_PEER, FAIL_IF_NO_PEER_CERT
    if (this.o.clientCert === 'require') ssl.SSL_CTX_set_verify(handle, 1 | 2, 0)
    if (this.o.clientCert === 'request') ssl.SSL_CTX_set_verify(handle, 1, callbacks.verify())
  }

  #features(): void {
    const { handle } = this
    const { alpn, hello, keylog, session, sni, ticketKeys, version } = this.o
    ssl.SSL_CTX_ctrl(handle, CTRL.mode, MODE & ~(this.o.keepBuffers ? RELEASE_BUFFERS : 0), 0)
    // Without it OpenSSL reads the header of a record and the rest of it by two system calls.
    ssl.SSL_CTX_ctrl(handle, CTRL.readAhead, 1, 0)
    ssl.SSL_CTX_set_options(handle, OP.noRenegotiation | OP.serverPreference)
    ssl.SSL_CTX_ctrl(handle, CTRL.min, VERSIONS[version ?? 'TLSv1.2'], 0)
    if (version !== undefined) ssl.SSL_CTX_ctrl(handle, CTRL.max, VERSIONS[version], 0)
    const id = Buffer.from('openssl-on-descriptor')
    ssl.SSL_CTX_set_session_id_context(handle, id, id.length)
    if (ticketKeys !== undefined) ssl.SSL_CTX_ctrl(handle, CTRL.ticketKeys, ticketKeys.length, addressOf(ticketKeys))
    if (alpn !== undefined && this.o.cert !== undefined) ssl.SSL_CTX_set_alpn_select_cb(handle, callbacks.alpn(), handle)
    else if (alpn !== undefined) {
      const wire = Buffer.concat(alpn.map((name) => Buffer.from([name.length, ...Buffer.from(name)])))
      ssl.SSL_CTX_set_alpn_protos(handle, wire, wire.length)
    }
    if (sni !== undefined) {
      ssl.SSL_CTX_callback_ctrl(handle, CTRL.serverNameCallback, callbacks.serverName())
      // SSL_CTRL_SET_TLSEXT_SERVERNAME_ARG
      ssl.SSL_CTX_ctrl(handle, 54, 0, handle)
    }
    if (hello !== undefined) ssl.SSL_CTX_set_client_hello_cb(handle, callbacks.hello(), handle)
    if (keylog !== undefined) ssl.SSL_CTX_set_keylog_callback(handle, callbacks.keylog())
    if (session !== undefined) {
      // SSL_SESS_CACHE_CLIENT, NO_INTERNAL
      ssl.SSL_CTX_ctrl(handle, CTRL.sessionCache, 0x001 | 0x300, 0)
      ssl.SSL_CTX_sess_set_new_cb(handle, callbacks.session())
    }
  }

  free(): void {
    contexts.delete(this.handle)
    ssl.SSL_CTX_free(this.handle)
  }
}

export interface PeerOptions {
  readonly serverName?: string | undefined
  readonly verify?: boolean | undefined
  readonly session?: number | undefined
}

/** Decrypted bytes are put here; what is wanted of them has to be copied before the next read. */
export const SLAB: Buffer = Buffer.alloc(64 * 1024)
const SLAB_AT = addressOf(SLAB)

export type Wait = 'done' | 'read' | 'write' | 'hello'

/** One `SSL` on a descriptor that is not its own: `free` comes before the descriptor is closed. */
export class Engine {
  readonly context: Context
  readonly handle: number
  /** A record that OpenSSL holds encrypted and the socket did not take; it has to be offered again with the same bytes. */
  #pending: Uint8Array | undefined
  /** After SSL_ERROR_SSL or SSL_ERROR_SYSCALL nothing may be called but SSL_free. */
  #broken = false

  constructor(context: Context, fd: number, role: 'client' | 'server', peer: PeerOptions = {}) {
    this.context = context
    this.handle = must(ssl.SSL_new(context.handle))
    if (context.o.keylog !== undefined || context.o.session !== undefined) engines.set(this.handle, this)
    must(ssl.SSL_set_fd(this.handle, fd))
    if (role === 'server') ssl.SSL_set_accept_state(this.handle)
    else this.#asClient(peer)
  }

  #asClient({ serverName, session, verify = true }: PeerOptions): void {
    const { handle } = this
    ssl.SSL_set_connect_state(handle)
    if (verify) ssl.SSL_set_verify(handle, 1, 0)
    if (serverName !== undefined) {
      const param = ssl.SSL_get0_param(handle)
      if (isIP(serverName) !== 0) must(crypto.X509_VERIFY_PARAM_set1_ip_asc(param, serverName))
      else {
        crypto.X509_VERIFY_PARAM_set_hostflags(param, HOST_FLAGS)
        must(ssl.SSL_set1_host(handle, serverName))
        must(ssl.SSL_ctrl(handle, CTRL.hostName, 0, serverName))
      }
    }
    if (session !== undefined) must(ssl.SSL_set_session(handle, session))
  }

  handshake(): Wait {
    crypto.ERR_clear_error()
    const result = ssl.SSL_do_handshake(this.handle)
    if (result === 1) return this.#rethrown('done')
    const wait = this.#why(result)
    if (wait !== 'end') return wait
    this.#broken = true
    throw new EngineError('truncated', 'close_notify in the handshake')
  }

  /** How many bytes are now in the slab; 0 is close_notify and nothing else; -1: not now. */
  read(): number {
    crypto.ERR_clear_error()
    const result = ssl.SSL_read(this.handle, SLAB_AT, SLAB.length)
    // Tickets come by callback here, and what that throws must not be held against the next connection.
    if (result > 0) return thrown === undefined ? result : this.#rethrown(result)
    return this.#why(result) === 'end' ? 0 : -1
  }

  /** Whether OpenSSL has bytes that no event of the descriptor will tell of. */
  get hasPending(): boolean {
    return ssl.SSL_has_pending(this.handle) === 1
  }

  /** How many bytes were taken, at most a record's: taken is also what could not leave yet. */
  write(bytes: Uint8Array): number {
    if (!this.flush()) return 0
    const piece = bytes.length > 16_384 ? bytes.subarray(0, 16_384) : bytes
    crypto.ERR_clear_error()
    const result = ssl.SSL_write(this.handle, piece, piece.length)
    if (result > 0) return result
    if (this.#why(result) === 'end') throw new EngineError('openssl', 'closed')
    this.#pending = Uint8Array.from(piece)
    return piece.length
  }

  /** Whether all that was taken has left. */
  flush(): boolean {
    const pending = this.#pending
    if (pending === undefined) return true
    crypto.ERR_clear_error()
    const result = ssl.SSL_write(this.handle, pending, pending.length)
    if (result <= 0) {
      this.#why(result)
      return false
    }
    this.#pending = undefined
    return true
  }

  /** Sends close_notify. */
  shutdown(): boolean {
    if (this.#broken) return false
    crypto.ERR_clear_error()
    const result = ssl.SSL_shutdown(this.handle)
    return result >= 0 || this.#why(result) === 'end'
  }

  /** Whether the peer's close_notify has come, and ours has gone. */
  get ends(): { received: boolean; sent: boolean } {
    const ends = ssl.SSL_get_shutdown(this.handle)
    return { received: (ends & 2) !== 0, sent: (ends & 1) !== 0 }
  }

  get resumed(): boolean {
    return ssl.SSL_session_reused(this.handle) === 1
  }

  get version(): string {
    return text(ssl.SSL_get_version(this.handle))
  }

  get alpn(): string | null {
    const out = Buffer.alloc(16)
    ssl.SSL_get0_alpn_selected(this.handle, out, out.subarray(8))
    const length = out.readUInt32LE(8)
    return length === 0 ? null : copyOf(Number(out.readBigUInt64LE(0)), length).toString('latin1')
  }

  /** `X509_V_ERR_…`; 0 is a certificate that passed, or none that was looked at. */
  get verdict(): number {
    return ssl.SSL_get_verify_result(this.handle)
  }

  /** DER of the peer's certificates: as they were sent, or as they were verified. */
  chain(which: 'sent' | 'verified'): Buffer[] {
    const stack = which === 'sent' ? ssl.SSL_get_peer_cert_chain(this.handle) : ssl.SSL_get0_verified_chain(this.handle)
    if (stack === 0) return []
    return Array.from({ length: crypto.OPENSSL_sk_num(stack) }, (_, i) => derOf(crypto.OPENSSL_sk_value(stack, i)))
  }

  free(): void {
    engines.delete(this.handle)
    ssl.SSL_free(this.handle)
  }

  /** What a result of 0 or less means. Calls that give more leave the queue of errors alone and are not asked about. */
  #why(result: number): Wait | 'end' {
    const errno = koffi.errno()
    switch (ssl.SSL_get_error(this.handle, result)) {
      case ERROR.wantRead:
        return this.#rethrown('read')
      case ERROR.wantWrite:
        return this.#rethrown('write')
      case ERROR.wantClientHello:
      case ERROR.wantLookup:
        return this.#rethrown('hello')
      case ERROR.zeroReturn:
        return this.#rethrown('end')
      case ERROR.syscall:
        this.#broken = true
        crypto.ERR_clear_error()
        throw new EngineError(errno === 0 ? 'truncated' : 'system', ERRNO[errno] ?? String(errno))
      default: {
        this.#broken = true
        const error = takeError()
        this.#rethrown('end')
        throw error
      }
    }
  }

  /** What a callback threw within the call that is over now. */
  #rethrown<T>(value: T): T {
    const held = thrown
    thrown = undefined
    if (held === undefined) return value
    this.#broken = true
    throw held.error
  }
}

export function derOf(x509: number): Buffer {
  const length = must(crypto.i2d_X509(x509, null))
  const der = Buffer.alloc(length)
  const at = Buffer.alloc(8)
  at.writeBigUInt64LE(BigInt(addressOf(der)))
  crypto.i2d_X509(x509, at)
  return der
}

export function freeSession(session: number): void {
  ssl.SSL_SESSION_free(session)
}
