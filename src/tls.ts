/**
 * TLS over any byte stream: client and server, over every driver and over TLS itself. Node's OpenSSL does the handshake
 * and the records; verification, sessions, ends and deadlines are decided here.
 */

import type { X509Certificate } from 'node:crypto'
import type { EventEmitter } from 'node:events'
import type * as tls from 'node:tls'
import { nodeCrypto, nodeTls } from './builtin.js'
import { hasEngine } from './carriers/engine.js'
import { TlsStream } from './carriers/handle.js'
import { NativeTls, releasedSocket } from './carriers/native.js'
import { PortableTls } from './carriers/portable.js'
import { refusePast, within } from './deadline.js'
import type { Clock, StreamHandle } from './driver.js'
import type { ErrorFacts, SocketError, TlsError } from './errors.js'
import type { SessionEntry } from './sessions.js'
import type { Wait } from './stream.js'
import { type ClientTls, canonicalSni, type ServerSettings, ServerTls } from './tls-options.js'
import { handshakeFailure, tlsError } from './verdict.js'
import { chainOf, judgeChain, judgeName, judgePins, opensslVerdict } from './verify.js'
import { type CertificateFacts, factsOf } from './x509.js'

/** What is known of an established TLS connection. */
export interface TlsInfo {
  /** `'TLSv1.2'` or `'TLSv1.3'`. */
  readonly protocol: string
  /** IANA name of the cipher suite. */
  readonly cipher: string
  /** The negotiated application protocol. */
  readonly alpn: string | null
  /** The name the client asked for. */
  readonly serverName: string | null
  readonly resumed: boolean
  /** Whether the peer's certificate passed every check. */
  readonly verified: boolean
  /** Why it did not, where the settings let that pass; `null` also when the peer has no certificate. */
  readonly verifyError: TlsError | null
  readonly peerCertificate: CertificateFacts | null
  /** The peer's certificate and those above it as far as they are known, the root last if it is. */
  readonly peerChain: readonly CertificateFacts[]
}

class Info implements TlsInfo {
  readonly protocol: string
  readonly cipher: string
  readonly alpn: string | null
  readonly serverName: string | null
  readonly resumed: boolean
  readonly verified: boolean
  readonly verifyError: TlsError | null
  readonly #chain: readonly X509Certificate[]
  #facts: readonly CertificateFacts[] | undefined

  /** @param error what is wrong with the peer's certificate */
  constructor(socket: tls.TLSSocket, serverName: string | null, chain: readonly X509Certificate[], error: TlsError | undefined) {
    const cipher = socket.getCipher()
    this.protocol = socket.getProtocol() ?? 'unknown'
    this.cipher = cipher?.standardName ?? cipher?.name ?? 'unknown'
    this.alpn = typeof socket.alpnProtocol === 'string' ? socket.alpnProtocol : null
    this.serverName = serverName
    this.resumed = socket.isSessionReused()
    this.verified = chain.length > 0 && error === undefined
    this.verifyError = error ?? null
    this.#chain = chain
  }

  /** Read from the certificates when first asked for: most connections never are. */
  get peerChain(): readonly CertificateFacts[] {
    this.#facts ??= this.#chain.map(factsOf)
    return this.#facts
  }

  get peerCertificate(): CertificateFacts | null {
    return this.peerChain[0] ?? null
  }
}

export interface SecureOptions {
  readonly clock: Clock
  readonly wait?: Wait | undefined
  readonly facts?: ErrorFacts | undefined
  /** Bytes already taken from below, the first for TLS. */
  readonly first?: Uint8Array | undefined
  /** Use public means only, whatever this runtime offers; for tests. */
  readonly portable?: boolean | undefined
}

export interface Secured {
  readonly handle: StreamHandle
  readonly info: TlsInfo
}

/** What carries the bytes of one handshake and, once it is accepted, is the new stream. */
interface Carrier extends StreamHandle {
  begin(make: (transport: EventEmitter) => tls.TLSSocket, first: Uint8Array | undefined, progress: () => void): void
  established(): void
  finished(): void
  readonly failed: { error: unknown } | undefined
}

/**
 * One handshake over `below`, which from then on belongs to the new handle; on failure it is destroyed. Nothing is given
 * out before the peer has been judged.
 *
 * The new handle's `read` gives `null` only for close_notify and throws `Broken/TLS_TRUNCATED` where the bytes below end
 * without one, after everything that was decrypted. Its `shutdown` sends close_notify and then ends below.
 *
 * @throws TlsError; `Broken` if the stream below broke; `DeadlineError` and `Cancelled`
 */
export async function secure(below: StreamHandle, settings: ClientTls | ServerTls, o: SecureOptions): Promise<Secured> {
  const chosen = settings instanceof ServerTls ? settings.settings : settings
  const facts: ErrorFacts = { phase: 'tls', ...o.facts }
  const about = () => ({ op: 'handshake', ...facts })
  const limit = chosen.handshakeTimeout
  const timeout = o.wait?.timeout ?? limit
  const wait: Wait = { ...o.wait, timeout: timeout > limit ? limit : timeout }
  const carrier = carry(below, chosen.allowTruncation, o)
  try {
    refusePast(wait, o.clock, about)
    return { handle: carrier, info: await within(new Handshake(chosen, facts).over(carrier, o.first), wait, o.clock, about) }
  } catch (error) {
    carrier.destroy(false)
    throw error
  }
}

/** The fastest way that tells what has to be told. */
function carry(below: StreamHandle, allowTruncation: boolean, o: SecureOptions): Carrier {
  if (o.portable || !hasEngine()) return new PortableTls(below, allowTruncation)
  const socket = allowTruncation && !o.first?.length ? releasedSocket(below) : undefined
  return socket === undefined ? new TlsStream(below, allowTruncation) : new NativeTls(socket, below)
}

/** The settings' side of a handshake: makes the `TLSSocket` and judges the peer. One of `#error` and `#info` is the outcome. */
class Handshake {
  #error: SocketError | undefined
  #info: TlsInfo | undefined
  readonly #settings: ClientTls | ServerSettings
  readonly #facts: ErrorFacts
  #offered: SessionEntry | undefined
  #entry: Omit<SessionEntry, 'session'> | undefined

  constructor(settings: ClientTls | ServerSettings, facts: ErrorFacts) {
    this.#settings = settings
    this.#facts = facts
  }

  over(carrier: Carrier, first: Uint8Array | undefined): Promise<TlsInfo> {
    return new Promise((resolve, reject) => {
      const progress = () => {
        const { failed } = carrier
        if (this.#error !== undefined) reject(this.#error)
        else if (this.#info !== undefined) {
          carrier.finished()
          resolve(this.#info)
        } else if (failed !== undefined)
          reject(failed.error === null ? tlsError('HANDSHAKE_CLOSED', this.#facts) : handshakeFailure(failed.error, this.#facts))
      }
      try {
        carrier.begin((transport) => this.#start(transport as never, () => carrier.established()), first, progress)
      } catch (error) {
        reject(handshakeFailure(error, this.#facts))
      }
    })
  }

  /** `secured` is called as soon as OpenSSL is done, before anything is judged. */
  #start(transport: never, secured: () => void): tls.TLSSocket {
    const settings = this.#settings
    const isClient = 'role' in settings
    const socket = isClient ? this.#connect(transport, settings) : this.#accept(transport, settings)
    const { keylog } = settings
    if (keylog !== undefined) socket.on('keylog', (line: Buffer) => this.#log(keylog, line))
    socket.once(isClient ? 'secureConnect' : 'secure', () => {
      secured()
      if (this.#error !== undefined) return
      if (isClient) this.#judgeServer(socket, settings)
      else this.#judgeClient(socket, settings)
    })
    return socket
  }

  #connect(transport: never, { context, sni, alpn, sessions, sessionKey }: ClientTls): tls.TLSSocket {
    this.#offered = sessions?.take(sessionKey)
    const socket = nodeTls().connect({
      socket: transport,
      secureContext: context,
      // The judging is done below, at one place for full and resumed handshakes.
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
      ...(sni !== undefined && { servername: sni }),
      ...(alpn && { ALPNProtocols: [...alpn] }),
      ...(this.#offered && { session: this.#offered.session }),
    })
    if (sessions !== undefined) {
      socket.on('session', (session: Buffer) => {
        if (this.#info !== undefined && this.#entry !== undefined) sessions.put(sessionKey, { ...this.#entry, session })
      })
    }
    return socket
  }

  #accept(transport: never, { context, alpn, clientCert, choose }: ServerSettings): tls.TLSSocket {
    return new (nodeTls().TLSSocket)(transport, {
      isServer: true,
      secureContext: context,
      requestCert: clientCert !== 'none',
      // Makes OpenSSL itself refuse, with an alert, a client without any certificate.
      rejectUnauthorized: clientCert === 'require',
      ...(alpn && { ALPNProtocols: [...alpn] }),
      ...(choose && { SNICallback: (name: string, done: SniDone) => this.#choose(choose, name, done) }),
    })
  }

  /** A key log that throws ends the handshake it was told of, not the process. */
  #log(keylog: (line: string) => void, line: Buffer): void {
    try {
      keylog(line.toString('latin1').trimEnd())
    } catch (error) {
      this.#error ??= tlsError('HANDSHAKE_FAILED', this.#facts, 'the keylog function failed', error)
    }
  }

  /** Whatever the callback does ends at most this handshake. */
  #choose(choose: NonNullable<ServerSettings['choose']>, name: string, done: SniDone): void {
    const refuse = (cause: unknown) => {
      this.#error = tlsError('SNI_FAILED', this.#facts, undefined, cause)
      done(this.#error)
    }
    const canonical = canonicalSni(name)
    if (canonical === undefined) return done(null, undefined)
    try {
      const chosen = choose(canonical)
      if (chosen instanceof Promise) chosen.then((context) => done(null, context), refuse)
      else done(null, chosen)
    } catch (error) {
      refuse(error)
    }
  }

  #judgeServer(socket: tls.TLSSocket, { verify, serverName, depth, sni }: ClientTls): void {
    const offered = socket.isSessionReused() ? this.#offered : undefined
    const chain = offered ? offered.chain.map((raw) => new (nodeCrypto().X509Certificate)(raw)) : chainOf(socket)
    const failure = offered ? offered.failure : opensslVerdict(socket.authorizationError)
    const facts = this.#facts
    const error = judgeChain({ failure, chain, depth, host: serverName }, facts) ?? judgeName(chain, serverName, facts)
    this.#entry = { once: socket.getProtocol() === 'TLSv1.3', chain: chain.map((one) => one.raw), failure }
    this.#conclude(socket, sni ?? null, chain, error, verify, 'the server chose none')
  }

  #judgeClient(socket: tls.TLSSocket, { clientCert, depth }: ServerSettings): void {
    const chain = clientCert === 'none' ? [] : chainOf(socket)
    const must = clientCert === 'require'
    const facts = { failure: opensslVerdict(serverVerdict(socket)), chain, depth, host: undefined }
    const error = must || chain.length > 0 ? judgeChain(facts, this.#facts) : undefined
    this.#conclude(socket, nameOf(socket), chain, error, must, 'the client offered none')
  }

  /** What `error`, found with the certificate of the peer, means where it `must` be right; and all else that is asked for. */
  #conclude(
    socket: tls.TLSSocket,
    serverName: string | null,
    chain: readonly X509Certificate[],
    error: TlsError | undefined,
    must: boolean,
    noAlpn: string,
  ): void {
    const { pins, alpnRequired } = this.#settings
    // A client that is asked for a certificate, and no more than asked, may have none.
    const none = chain.length === 0 && error === undefined
    const pinError = pins && !none ? judgePins(chain, pins, this.#facts) : undefined
    if (must && error !== undefined) this.#error = error
    else if (pinError !== undefined) this.#error = pinError
    else if (alpnRequired && typeof socket.alpnProtocol !== 'string') this.#error = tlsError('ALPN_MISMATCH', this.#facts, noAlpn)
    else this.#info = new Info(socket, serverName, chain, error)
  }
}

type SniDone = (error: Error | null, context?: tls.SecureContext) => void

function nameOf(socket: tls.TLSSocket): string | null {
  const name = (socket as { servername?: unknown }).servername
  return typeof name === 'string' && name !== '' ? name : null
}

/** Node judges clients only in its own `tls.Server`; the question to OpenSSL is the same. */
function serverVerdict(socket: tls.TLSSocket): unknown {
  const { ssl } = socket as unknown as { ssl?: { verifyError?: () => { code?: string } | null } | null }
  return ssl?.verifyError ? ssl.verifyError() : socket.authorized ? undefined : socket.authorizationError
}
