/** The options of `ssl` that are about TLS: read, their files loaded and checked, and turned into settings of the core. */

import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import * as tls from 'node:tls'
import { type ClientTlsOptions, type IdentityOptions, ServerTls } from '../index.js'
import type { Role } from './erlang-options.js'
import type { SslAtom } from './erlang-reasons.js'
import { type CipherSuite, isSuite, opensslName } from './erlang-suites.js'
import { isByte, isWhole } from './erlang-terms.js'

/** 0: do not verify; 1: verify, a client may have no certificate; 2: a client must have one. */
export type VerifyCode = 0 | 1 | 2
export type ProtocolVersion = 'tlsv1.3' | 'tlsv1.2' | 'tlsv1.1' | 'tlsv1'

/** Options of TLS, for both ends. */
export type TlsOption =
  | readonly ['verify', VerifyCode | 'verify_none' | 'verify_peer']
  | readonly ['depth', number]
  | readonly ['certfile', string]
  | readonly ['keyfile', string]
  | readonly ['password', string]
  | readonly ['cacertfile', string]
  | readonly ['ciphers', string | readonly (string | CipherSuite)[]]
  | readonly ['cachetimeout', number]
  | readonly ['cert', Uint8Array | readonly Uint8Array[]]
  | readonly ['key', readonly [string, Uint8Array]]
  | readonly ['cacerts', readonly Uint8Array[]]
  | readonly ['versions', readonly ProtocolVersion[]]
  | readonly ['reuse_sessions', boolean]
  | readonly ['ssl_imp', 'old' | 'new']

export type TlsClientOption =
  | readonly ['server_name_indication', string | 'disable']
  | readonly ['alpn_advertised_protocols', readonly string[]]

export type TlsServerOption =
  | readonly ['fail_if_no_peer_cert', boolean]
  | readonly ['alpn_preferred_protocols', readonly string[]]
  | readonly ['sni_hosts', readonly (readonly [string, readonly TlsOption[]])[]]
  | readonly ['honor_cipher_order', boolean]

/** What a list of options says of TLS. */
export interface TlsChoice {
  verify: VerifyCode
  failIfNone: boolean
  depth: number
  certfile: string | undefined
  keyfile: string | undefined
  password: string | undefined
  cacertfile: string | undefined
  ciphers: string
  cert: readonly Uint8Array[] | undefined
  key: Uint8Array | undefined
  cacerts: readonly Uint8Array[] | undefined
  versions: readonly ProtocolVersion[] | undefined
  sessions: boolean
  serverName: string | undefined
  alpn: readonly string[] | undefined
  sniHosts: readonly (readonly [string, TlsChoice])[]
  /** Stop behind the first message of the client. */
  pauses: boolean
}

export function defaultTls(): TlsChoice {
  return {
    verify: 0,
    failIfNone: false,
    depth: 1,
    certfile: undefined,
    keyfile: undefined,
    password: undefined,
    cacertfile: undefined,
    ciphers: '',
    cert: undefined,
    key: undefined,
    cacerts: undefined,
    versions: undefined,
    sessions: true,
    serverName: undefined,
    alpn: undefined,
    sniHosts: [],
    pauses: false,
  }
}

type Setter = (value: unknown, into: TlsChoice) => boolean

function set<K extends keyof TlsChoice>(into: TlsChoice, key: K, value: TlsChoice[K]): true {
  into[key] = value
  return true
}

function text(key: 'certfile' | 'keyfile' | 'password' | 'cacertfile'): Setter {
  return (value, into) => typeof value === 'string' && !value.includes('\0') && set(into, key, value)
}

const isBytes = (value: unknown): value is Uint8Array => value instanceof Uint8Array
const isTexts = (value: unknown): value is readonly string[] => Array.isArray(value) && value.every((item) => typeof item === 'string')
const isDers = (value: unknown): value is readonly Uint8Array[] => Array.isArray(value) && value.every(isBytes)

const VERSIONS: Readonly<Record<ProtocolVersion, tls.SecureVersion>> = {
  tlsv1: 'TLSv1',
  'tlsv1.1': 'TLSv1.1',
  'tlsv1.2': 'TLSv1.2',
  'tlsv1.3': 'TLSv1.3',
}
const ORDER: readonly ProtocolVersion[] = ['tlsv1', 'tlsv1.1', 'tlsv1.2', 'tlsv1.3']
const CODES: Readonly<Record<string, VerifyCode>> = { verify_none: 0, verify_peer: 1 }

function isVersions(value: unknown): value is readonly ProtocolVersion[] {
  if (!isTexts(value) || value.length === 0) return false
  const places = value.map((name) => ORDER.indexOf(name as ProtocolVersion)).sort()
  // One stretch without a gap is all that can be told to the TLS library.
  return places.every((place, i) => place >= 0 && (i === 0 || place === (places[i - 1] as number) + 1))
}

function isProtocols(value: unknown): value is readonly string[] {
  return isTexts(value) && value.length > 0 && value.every((name) => name.length > 0 && Buffer.byteLength(name) <= 255)
}

const SHARED: Readonly<Record<string, Setter>> = {
  verify: (value, into) => {
    const code = typeof value === 'string' && Object.hasOwn(CODES, value) ? CODES[value] : value
    return (code === 0 || code === 1 || code === 2) && set(into, 'verify', code)
  },
  depth: (value, into) => isByte(value) && set(into, 'depth', value),
  certfile: text('certfile'),
  keyfile: text('keyfile'),
  password: text('password'),
  cacertfile: text('cacertfile'),
  ciphers: (value, into) => {
    if (typeof value === 'string') return set(into, 'ciphers', value)
    // An empty list is what an empty text is: what the library has by default.
    return (
      Array.isArray(value) &&
      value.every((one) => typeof one === 'string' || isSuite(one)) &&
      set(into, 'ciphers', value.map((one) => opensslName(one) ?? String(one)).join(':'))
    )
  },
  // Sessions are tickets, which say themselves how long they last.
  cachetimeout: (value) => isWhole(value, 0),
  cert: (value, into) => (isBytes(value) || (isDers(value) && value.length > 0)) && set(into, 'cert', isBytes(value) ? [value] : value),
  key: (value, into) => Array.isArray(value) && value.length === 2 && isBytes(value[1]) && set(into, 'key', value[1]),
  cacerts: (value, into) => isDers(value) && set(into, 'cacerts', value),
  versions: (value, into) => isVersions(value) && set(into, 'versions', value),
  reuse_sessions: (value, into) => typeof value === 'boolean' && set(into, 'sessions', value),
  ssl_imp: (value) => value === 'old' || value === 'new',
}

const CLIENT: Readonly<Record<string, Setter>> = {
  ...SHARED,
  server_name_indication: (value, into) => typeof value === 'string' && value !== '' && set(into, 'serverName', value),
  alpn_advertised_protocols: (value, into) => isProtocols(value) && set(into, 'alpn', value),
}

const SERVER: Readonly<Record<string, Setter>> = {
  ...SHARED,
  fail_if_no_peer_cert: (value, into) => typeof value === 'boolean' && set(into, 'failIfNone', value),
  alpn_preferred_protocols: (value, into) => isProtocols(value) && set(into, 'alpn', value),
  // The order of the server is the one that counts, always.
  honor_cipher_order: (value) => typeof value === 'boolean',
  handshake: (value, into) => (value === 'full' || value === 'hello') && set(into, 'pauses', value === 'hello'),
  sni_hosts: (value, into) => {
    if (!Array.isArray(value)) return false
    const hosts: (readonly [string, TlsChoice])[] = []
    for (const entry of value as readonly unknown[]) {
      if (!Array.isArray(entry) || typeof entry[0] !== 'string' || !Array.isArray(entry[1])) return false
      const choice = { ...into, sniHosts: [] }
      for (const option of entry[1] as readonly unknown[]) {
        if (!Array.isArray(option) || option.length !== 2 || !Object.hasOwn(SHARED, String(option[0]))) return false
        if (SHARED[String(option[0])]?.(option[1], choice) !== true) return false
      }
      hosts.push([entry[0], choice])
    }
    return set(into, 'sniHosts', hosts)
  },
}

/** The setters of the options that one end takes. */
export function tlsSetters(role: Exclude<Role, 'set'>): Readonly<Record<string, Setter>> {
  return role === 'listen' ? SERVER : CLIENT
}

/** A reason instead of settings. */
export class Unusable {
  readonly reason: SslAtom

  constructor(reason: SslAtom) {
    this.reason = reason
  }
}

const PEM = /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[^-]*-----END (?:X509 |TRUSTED )?CERTIFICATE-----/g

function certificates(path: string, reason: SslAtom): X509Certificate[] | Unusable {
  try {
    const found = readFileSync(path, 'latin1').match(PEM) ?? []
    return found.length === 0 ? new Unusable(reason) : found.map((block) => new X509Certificate(block))
  } catch {
    // A file that cannot be read and one that holds no certificate are the same to the original.
    return new Unusable(reason)
  }
}

function fromDers(ders: readonly Uint8Array[], reason: SslAtom): X509Certificate[] | Unusable {
  try {
    return ders.map((der) => new X509Certificate(der))
  } catch {
    return new Unusable(reason)
  }
}

function privateKey({ keyfile, certfile, key, password }: TlsChoice): KeyObject | Unusable {
  const passphrase = password === undefined ? {} : { passphrase: password }
  try {
    if (key !== undefined) return derKey(Buffer.from(key))
    return createPrivateKey({ key: readFileSync(keyfile ?? certfile ?? '', 'latin1'), ...passphrase })
  } catch {
    // Missing, damaged, or locked with another password.
    return new Unusable('ekeyfile')
  }
}

function derKey(key: Buffer): KeyObject {
  for (const type of ['pkcs8', 'pkcs1', 'sec1'] as const) {
    try {
      return createPrivateKey({ key, format: 'der', type })
    } catch {
      // Of another form.
    }
  }
  throw new TypeError('no private key')
}

/** The own certificate with its chain and key, loaded and checked; undefined where there is none. */
function identity(choice: TlsChoice): IdentityOptions | Unusable | undefined {
  const { certfile, cert } = choice
  if (certfile === undefined && cert === undefined) return undefined
  const chain = cert !== undefined ? fromDers(cert, 'ecertfile') : certificates(certfile as string, 'ecertfile')
  if (chain instanceof Unusable) return chain
  const key = privateKey(choice)
  if (key instanceof Unusable) return key
  if (chain[0]?.checkPrivateKey(key) !== true) return new Unusable('ekeymismatch')
  return { cert: chain.map(String).join(''), key: key.export({ type: 'pkcs8', format: 'pem' }) as string }
}

/** The names of a cipher list that the TLS library knows; as OpenSSL has always done, others are passed over. */
function knownCiphers(list: string): string | undefined {
  return list
    .split(/[:, ]+/)
    .map((name) => opensslName(name) ?? name)
    .filter((name) => name !== '' && isCipher(name))
    .join(':')
}

function isCipher(name: string): boolean {
  if (name.startsWith('TLS_')) return tls.getCiphers().includes(name.toLowerCase())
  if (/^[!+@-]/.test(name)) return true
  try {
    tls.createSecureContext({ ciphers: name, maxVersion: 'TLSv1.2' })
    return true
  } catch {
    // The only answer to a name that is none.
    return false
  }
}

/**
 * The places in {@link ORDER} of the versions that `versions` and `ciphers` leave: a list that names suites alone is the whole of them,
 * where the TLS library would go on with its own for TLS 1.3.
 */
function versionsOf(versions: readonly ProtocolVersion[] | undefined, ciphers: string | undefined): readonly number[] | undefined {
  const names = ciphers?.split(':').filter((name) => !/^[!+@-]/.test(name)) ?? []
  const places = versions?.map((version) => ORDER.indexOf(version))
  if (names.length === 0 || names.some((name) => opensslName(name) === undefined)) return places
  const newest = ORDER.length - 1
  const has = (isNew: boolean) => names.some((name) => name.startsWith('TLS_') === isNew)
  return (places ?? [newest - 1, newest]).filter((place) => has(place === newest))
}

interface SharedSettings extends IdentityOptions {
  ca?: string
  ciphers?: string
  minVersion?: tls.SecureVersion
  maxVersion?: tls.SecureVersion
  alpn?: readonly string[]
  depth?: number
}

function shared(choice: TlsChoice): SharedSettings | Unusable {
  const own = identity(choice)
  if (own instanceof Unusable) return own
  const { cacertfile, cacerts, versions, alpn, verify, depth } = choice
  const given =
    cacerts !== undefined
      ? fromDers(cacerts, 'ecacertfile')
      : cacertfile !== undefined
        ? certificates(cacertfile, 'ecacertfile')
        : undefined
  if (given instanceof Unusable) return given
  const ciphers = choice.ciphers === '' ? undefined : knownCiphers(choice.ciphers)
  if (ciphers === '' || ciphers?.split(':').every((name) => /^[!+@-]/.test(name))) return new Unusable('ecipher')
  const places = versionsOf(versions, ciphers)
  if (places?.length === 0) return new Unusable('ecipher')
  return {
    ...own,
    ...(given !== undefined && { ca: given.map(String).join('') }),
    ...(ciphers !== undefined && { ciphers }),
    ...(places !== undefined && {
      minVersion: VERSIONS[ORDER[Math.min(...places)] as ProtocolVersion],
      maxVersion: VERSIONS[ORDER[Math.max(...places)] as ProtocolVersion],
    }),
    ...(alpn !== undefined && { alpn }),
    ...(verify > 0 && { depth }),
  }
}

/** Settings of a client, or why there are none. */
export function clientSettings(choice: TlsChoice): ClientTlsOptions | Unusable {
  const settings = shared(choice)
  if (settings instanceof Unusable) return settings
  const { verify, serverName, sessions } = choice
  const named = serverName === undefined || serverName === 'disable' ? {} : { serverName }
  return { ...settings, ...named, sessions, verify: verify > 0 && serverName !== 'disable' }
}

/** What a server makes handshakes with. */
export interface Serving {
  readonly settings: ServerTls
  /** A client may have no certificate, but what it has must be good. */
  readonly judges: boolean
  /** `handshake` gives what the client says in its first message, and goes on with `handshake_continue`. */
  readonly pauses: boolean
  /** What they were made of, for a handshake with more options. */
  readonly choice: TlsChoice
}

/** Settings of a server, or why there are none. */
export function serverSettings(choice: TlsChoice): Serving | Unusable {
  const given = shared(choice)
  if (given instanceof Unusable) return given
  const sni: Record<string, IdentityOptions> = {}
  for (const [host, options] of choice.sniHosts) {
    const own = identity(options)
    if (own instanceof Unusable) return own
    if (own !== undefined) sni[host] = own
  }
  const hasSni = Object.keys(sni).length > 0
  if (given.cert === undefined && !hasSni) return new Unusable('enoservercert')
  const { verify, failIfNone, sessions } = choice
  const clientCert = verify === 0 ? 'none' : verify === 2 || failIfNone ? 'require' : 'request'
  return {
    // Each handshake has a time of its own.
    settings: new ServerTls({ ...given, sessions, clientCert, handshakeTimeout: Number.POSITIVE_INFINITY, ...(hasSni && { sni }) }),
    judges: clientCert === 'request',
    pauses: choice.pauses,
    choice,
  }
}
