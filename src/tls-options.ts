/** The settings of TLS, checked and loaded once, for many handshakes. */

import { isIP } from 'node:net'
import type * as tls from 'node:tls'
import { milliseconds, oneOf, wholeNumber } from './arguments.js'
import type { Authorities, Identity, IdentityOptions, PemSource } from './credentials.js'
import { checkCiphers, loadAuthorities, loadIdentity, loadRevocations } from './credentials.js'
import { invalidType, OptionError, outOfRange, refuseUnknown } from './errors.js'
import { referenceName } from './identity.js'
import { nodeCrypto, nodeTls } from './builtin.js'
import { policyKey, SessionCache, sharedSessions } from './sessions.js'
import { LIMITS } from './stream.js'
import { tlsError } from './verdict.js'

export type TlsVersion = 'TLSv1' | 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3'

/** Settings that clients and servers share. */
export interface TlsSettings extends IdentityOptions {
  /** Authorities that may vouch for the peer. Default `'bundled'`. */
  ca?: Authorities | undefined
  /** Revocation lists, PEM or paths; one for each authority of the chain, or verification fails with `BAD_CRL`. */
  crl?: PemSource | readonly PemSource[] | undefined
  /** Application protocols, the preferred first (RFC 7301). */
  alpn?: readonly string[] | undefined
  /** Fail with `ALPN_MISMATCH` if the peer does not negotiate one of `alpn`. Default false. */
  alpnRequired?: boolean | undefined
  /** SHA-256 of public keys, base64; the peer's or one of its chain must be among them. Checked even without `verify`. */
  pins?: readonly string[] | undefined
  /** Default `'TLSv1.2'`. */
  minVersion?: TlsVersion | undefined
  /** Default `'TLSv1.3'`. */
  maxVersion?: TlsVersion | undefined
  /** OpenSSL cipher list; TLS 1.3 suites by their full names. Default: Node's. */
  ciphers?: string | undefined
  /** Most intermediate certificates between the peer's and the authority. Default: OpenSSL's 100. */
  depth?: number | undefined
  /** Milliseconds for the whole handshake. Default 10,000. */
  handshakeTimeout?: number | undefined
  /** Gets each line of the key log (NSS format) of every handshake: for looking at captured traffic, never in production. */
  keylog?: ((line: string) => void) | undefined
  /** Take an end without close_notify for an end. Makes truncation by anyone on the path undetectable. Default false. */
  allowTruncation?: boolean | undefined
}

export interface ClientTlsOptions extends TlsSettings {
  /** Verify chain, dates and name of the server. Default true. */
  verify?: boolean | undefined
  /** The name to ask for and to verify. Default: the host of the endpoint. */
  serverName?: string | undefined
  /** Resume sessions: `true` (default) from a cache of the process, or from a cache of your own. */
  sessions?: boolean | SessionCache | undefined
}

export interface ServerTlsOptions extends TlsSettings {
  /** Ask clients for a certificate; `'require'` refuses those without a verified one. Default `'none'`. */
  clientCert?: 'none' | 'request' | 'require' | undefined
  /**
   * Certificates by the name the client asks for, case and final dot aside; `*.example.com` covers one label. Names not found
   * get `cert`. A function may take its time within the handshake deadline.
   */
  sni?: Readonly<Record<string, IdentityOptions>> | SniFunction | undefined
  /** Let clients resume sessions (tickets). Default true; always off where client certificates are asked for. */
  sessions?: boolean | undefined
}

export type SniFunction = (name: string) => IdentityOptions | undefined | Promise<IdentityOptions | undefined>

/** What `connect`, `listen`, `serve` and `startTls` take as `tls`. */
export type TlsOptions = ClientTlsOptions & Omit<ServerTlsOptions, 'sessions'>

const SHARED =
  'cert key passphrase ca crl alpn alpnRequired pins minVersion maxVersion ciphers depth handshakeTimeout keylog allowTruncation sessions'.split(
    ' ',
  )
const CLIENT_TLS_OPTIONS = [...SHARED, 'verify', 'serverName']
const SERVER_TLS_OPTIONS = [...SHARED, 'clientCert', 'sni']

const VERSIONS: readonly TlsVersion[] = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3']
const CLIENT_CERT = ['none', 'request', 'require'] as const

/** The checked settings both roles need at each handshake. */
export interface Prepared {
  readonly alpn: readonly string[] | undefined
  readonly alpnRequired: boolean
  readonly pins: ReadonlySet<string> | undefined
  readonly depth: number | undefined
  readonly handshakeTimeout: number
  readonly keylog: ((line: string) => void) | undefined
  readonly allowTruncation: boolean
}

function check(o: TlsSettings, handshakeTimeout: number = LIMITS.handshake): Prepared {
  const { alpn, pins, depth, keylog } = o
  const alpnRequired = bool('alpnRequired', o.alpnRequired, false)
  if (alpn !== undefined) {
    if (!Array.isArray(alpn) || alpn.some((name) => typeof name !== 'string')) throw invalidType('alpn', 'an array of strings', alpn)
    const bad = alpn.find((name) => name.length === 0 || Buffer.byteLength(name) > 255)
    if (bad !== undefined || alpn.length === 0) throw outOfRange('alpn', 'at least one name of 1 to 255 bytes', bad ?? alpn)
  }
  if (alpnRequired && alpn === undefined) throw outOfRange('alpn', 'given where alpnRequired is', alpn)
  if (pins !== undefined) {
    if (!Array.isArray(pins)) throw invalidType('pins', 'an array of base64 SHA-256 digests', pins)
    const bad = pins.find((pin) => typeof pin !== 'string' || !/^[A-Za-z0-9+/]{43}=$/.test(pin))
    if (bad !== undefined || pins.length === 0) throw outOfRange('pins', 'at least one base64 SHA-256 digest', bad ?? pins)
  }
  if (depth !== undefined) wholeNumber('depth', depth, 0)
  if (keylog !== undefined && typeof keylog !== 'function') throw invalidType('keylog', 'a function', keylog)
  if (keylog !== undefined && 'Deno' in globalThis) needsNode('keylog')
  return {
    alpn: alpn && [...alpn],
    alpnRequired,
    pins: pins && new Set(pins),
    depth,
    handshakeTimeout: milliseconds('handshakeTimeout', o.handshakeTimeout ?? handshakeTimeout),
    keylog,
    allowTruncation: bool('allowTruncation', o.allowTruncation, false),
  }
}

function bool(name: string, value: unknown, standard: boolean): boolean {
  if (value !== undefined && typeof value !== 'boolean') throw invalidType(name, 'true or false', value)
  return value ?? standard
}

/** What goes into an OpenSSL context, in a form that can be compared. */
interface ContextSettings {
  readonly ca: string[] | undefined
  readonly crl: string[] | undefined
  readonly minVersion: TlsVersion
  readonly maxVersion: TlsVersion
  readonly ciphers: string | undefined
}

function contextSettings(o: TlsSettings): ContextSettings {
  const minVersion = oneOf('minVersion', o.minVersion ?? 'TLSv1.2', VERSIONS)
  const maxVersion = oneOf('maxVersion', o.maxVersion ?? 'TLSv1.3', VERSIONS)
  if (VERSIONS.indexOf(minVersion) > VERSIONS.indexOf(maxVersion))
    throw outOfRange('minVersion', `at most maxVersion ${maxVersion}`, minVersion)
  if (o.ciphers !== undefined) {
    if (typeof o.ciphers !== 'string') throw invalidType('ciphers', 'an OpenSSL cipher list', o.ciphers)
    checkCiphers(o.ciphers)
  }
  if (o.crl !== undefined) needsNode('crl')
  return { ca: loadAuthorities(o.ca), crl: loadRevocations(o.crl), minVersion, maxVersion, ciphers: o.ciphers }
}

/** Bun and Deno, or one of them, take these options and do nothing about them; believing them done would be worse than knowing they are not. */
function needsNode(option: string): void {
  if (!('bun' in process.versions) && !('Deno' in globalThis)) return
  throw new OptionError('UNSUPPORTED_OPTION', `${option} does nothing on this runtime; it needs Node`, { op: 'tls', phase: 'option' })
}

function makeContext(
  settings: ContextSettings,
  identity: Identity | undefined,
  more: tls.SecureContextOptions,
  trust: boolean,
): tls.SecureContext {
  const { ca, crl, minVersion, maxVersion, ciphers } = settings
  try {
    return nodeTls().createSecureContext({
      minVersion,
      maxVersion,
      ...(ca && trust && { ca }),
      ...(crl && trust && { crl }),
      // Versions below 1.2 need it: OpenSSL 3 refuses their hashes at its default level.
      ...(ciphers !== undefined ? { ciphers } : minVersion < 'TLSv1.2' && { ciphers: `${nodeTls().DEFAULT_CIPHERS}:@SECLEVEL=0` }),
      ...(identity && { cert: identity.chain, key: identity.key }),
      ...more,
    })
  } catch (error) {
    const code = String((error as { code?: unknown }).code)
    if (/NO_CIPHER_MATCH/.test(code)) throw tlsError('UNKNOWN_CIPHER', {}, undefined, error)
    throw tlsError('BAD_KEY', {}, error instanceof Error ? error.message : undefined, error)
  }
}

/** Settings of a client, loaded: for any number of handshakes with one server. */
export interface ClientTls extends Prepared {
  readonly role: 'client'
  readonly verify: boolean
  /** Canonical; undefined only where nothing is verified. */
  readonly serverName: string | undefined
  /** What goes into the client hello: an IP address may not (RFC 6066). */
  readonly sni: string | undefined
  readonly context: tls.SecureContext
  readonly sessions: SessionCache | undefined
  readonly sessionKey: string
}

/** Where the connection goes, for what the options leave open. */
export interface ClientTarget {
  /** Host of the endpoint: the default of `serverName`. */
  readonly host?: string | undefined
  /** Text of the endpoint: sessions are kept for each. */
  readonly endpoint?: string | undefined
  readonly handshakeTimeout?: number | undefined
}

/**
 * Checks and loads the settings of a client.
 *
 * @throws TlsError for certificates, keys and files (`MISSING_FILE`, `BAD_PEM`, `BAD_PASSPHRASE`, `KEY_MISMATCH`, …),
 *   `NEEDS_SERVER_NAME`; `OptionError/UNKNOWN_OPTION`; native errors for types and ranges
 */
export function prepareClient(o: ClientTlsOptions, target: ClientTarget = {}): ClientTls {
  refuseUnknown(o, CLIENT_TLS_OPTIONS, 'tls')
  const prepared = check(o, target.handshakeTimeout)
  const verify = bool('verify', o.verify, true)
  if (o.serverName !== undefined && typeof o.serverName !== 'string') throw invalidType('serverName', 'a string', o.serverName)
  const given = o.serverName ?? target.host
  const serverName = given === undefined || given === '' ? undefined : referenceName(given)
  if (o.serverName !== undefined && serverName === undefined) throw outOfRange('serverName', 'a host name or an IP address', o.serverName)
  if (verify && serverName === undefined) throw tlsError('NEEDS_SERVER_NAME', {}, given)
  const settings = contextSettings(o)
  const identity = loadIdentity(o, '')
  const { sessions = true } = o
  if (typeof sessions !== 'boolean' && !(sessions instanceof SessionCache))
    throw invalidType('sessions', 'true, false or a SessionCache', sessions)
  const { alpn, alpnRequired, pins, depth } = prepared
  return {
    ...prepared,
    role: 'client',
    verify,
    serverName,
    sni: serverName !== undefined && isIP(serverName) === 0 ? serverName : undefined,
    context: makeContext(settings, identity, { secureOptions: nodeCrypto().constants.SSL_OP_NO_RENEGOTIATION }, true),
    sessions: sessions === true ? sharedSessions : sessions === false ? undefined : sessions,
    sessionKey: policyKey({
      verify,
      serverName,
      endpoint: target.endpoint,
      settings,
      identity: identity && [identity.chain, identity.leaf.fingerprint256],
      alpn,
      alpnRequired,
      pins: pins && [...pins].sort(),
      depth,
    }),
  }
}

/** One generation of a server's settings. */
export interface ServerSettings extends Prepared {
  readonly clientCert: 'none' | 'request' | 'require'
  readonly context: tls.SecureContext
  /** The context for a canonical server name; undefined: the default one. Errors and rejections end that handshake. */
  readonly choose: ((name: string) => tls.SecureContext | undefined | Promise<tls.SecureContext | undefined>) | undefined
}

/**
 * Settings of a server, checked and loaded once, for any number of listeners, connections and handshakes: `listen` takes it as
 * `tls`, `startTls` as `settings`. Sessions can be resumed across all of them.
 *
 * ```ts
 * import { listen, ServerTls } from 'fairlead'
 * import { developmentAuthority } from 'fairlead/testing'
 *
 * const authority = await developmentAuthority()
 * const { cert, key } = await authority.issue()
 * const settings = new ServerTls({ cert, key })
 * await using listener = await listen('tls://127.0.0.1:0', { tls: settings })
 * ```
 *
 * @throws `TlsError`: `NEEDS_CERTIFICATE`, `MISSING_FILE`, `BAD_PEM`, `BAD_PASSPHRASE`, `KEY_MISMATCH`, `UNKNOWN_CIPHER`, …
 */
export class ServerTls {
  readonly role = 'server'
  readonly #handshakeTimeout: number | undefined
  #settings: ServerSettings
  /** What opens the tickets of clients that were served under the same settings. */
  #tickets: { policy: string; keys: Buffer; id: string } | undefined

  /** @param handshakeTimeout of settings that name none, milliseconds, default 10,000 */
  constructor(o: ServerTlsOptions, handshakeTimeout?: number) {
    this.#handshakeTimeout = handshakeTimeout
    this.#settings = this.#load(o)
  }

  /** What a handshake that starts now uses. @internal */
  get settings(): ServerSettings {
    return this.#settings
  }

  /**
   * Reads certificates and keys again and uses them from the next handshake on. Connections and handshakes that are there
   * already keep theirs. On an error nothing changes.
   */
  reload(o: ServerTlsOptions): void {
    this.#settings = this.#load(o)
  }

  #load(o: ServerTlsOptions): ServerSettings {
    refuseUnknown(o, SERVER_TLS_OPTIONS, 'tls')
    const prepared = check(o, this.#handshakeTimeout)
    const { sni } = o
    const { constants, randomBytes } = nodeCrypto()
    const { SSL_OP_NO_RENEGOTIATION, SSL_OP_NO_TICKET } = constants
    const clientCert = oneOf('clientCert', o.clientCert ?? 'none', CLIENT_CERT)
    const settings = contextSettings(o)
    const identity = loadIdentity(o, '')
    if (identity === undefined && sni === undefined) throw tlsError('NEEDS_CERTIFICATE')
    // A resumed session would not show the client's certificate again, so it could not be judged again.
    const resume = bool('sessions', o.sessions, true) && clientCert === 'none'
    const policy = policyKey({ settings, clientCert, pins: o.pins, depth: o.depth, alpn: o.alpn })
    const tickets = this.#tickets?.policy === policy ? this.#tickets : { policy, keys: randomBytes(48), id: policy.slice(0, 32) }
    const more: tls.SecureContextOptions = {
      secureOptions: SSL_OP_NO_RENEGOTIATION | (resume ? 0 : SSL_OP_NO_TICKET),
      sessionIdContext: tickets.id,
      ticketKeys: tickets.keys,
      honorCipherOrder: true,
    }
    const contextOf = (one: Identity | undefined) => makeContext(settings, one, more, clientCert !== 'none')
    const context = contextOf(identity)
    const choose = chooser(sni, contextOf)
    this.#tickets = tickets
    return { ...prepared, clientCert, context, choose }
  }
}

/** The settings of a server, loaded unless they are already; `handshakeTimeout` where they name none. */
export function prepareServer(o: ServerTlsOptions | ServerTls, handshakeTimeout?: number): ServerTls {
  return o instanceof ServerTls ? o : new ServerTls(o, handshakeTimeout)
}

type Choose = NonNullable<ServerSettings['choose']>

function chooser(sni: ServerTlsOptions['sni'], contextOf: (identity: Identity) => tls.SecureContext): Choose | undefined {
  if (sni === undefined) return undefined
  needsNode('sni')
  if (typeof sni === 'function') return dynamicChooser(sni, contextOf)
  if (typeof sni !== 'object' || sni === null) throw invalidType('sni', 'an object or a function', sni)
  const contexts = new Map<string, tls.SecureContext>()
  for (const [name, options] of Object.entries(sni)) {
    const canonical = canonicalSni(name)
    if (canonical === undefined) throw outOfRange('sni', 'names of hosts, or *. and such a name', name)
    contexts.set(canonical, contextOf(identityOf(options, `sni[${JSON.stringify(name)}].`)))
  }
  return (name) => contexts.get(name) ?? contexts.get(`*${name.slice(name.indexOf('.'))}`)
}

function dynamicChooser(sni: SniFunction, contextOf: (identity: Identity) => tls.SecureContext): Choose {
  // A callback that answers with the same object again does not make OpenSSL parse it again.
  const made = new WeakMap<IdentityOptions, tls.SecureContext>()
  return async (name) => {
    const options = await sni(name)
    if (options === undefined || options === null) return undefined
    if (typeof options !== 'object') throw invalidType('what sni returned', 'an object with cert and key', options)
    const known = made.get(options)
    if (known !== undefined) return known
    const context = contextOf(identityOf(options, 'sni().'))
    made.set(options, context)
    return context
  }
}

function identityOf(options: IdentityOptions, where: string): Identity {
  refuseUnknown(options, ['cert', 'key', 'passphrase'], 'sni')
  const identity = loadIdentity(options, where)
  if (identity === undefined) throw tlsError('NEEDS_CERTIFICATE', {}, `${where}cert`)
  return identity
}

/** Lower case, A-labels, without the final dot; a wildcard keeps its star. */
export function canonicalSni(name: string): string | undefined {
  const rest = name.startsWith('*.') ? referenceName(name.slice(2)) : referenceName(name)
  if (rest === undefined || isIP(rest) !== 0) return undefined
  return name.startsWith('*.') ? `*.${rest}` : rest
}
