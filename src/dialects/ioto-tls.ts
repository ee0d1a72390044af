/** The TLS settings of a socket, read when it connects or listens, and the judging of peers by the rules of the original. */

import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { DEFAULT_CIPHERS, getCiphers } from 'node:tls'
import { domainToASCII } from 'node:url'
import { type ClientTlsOptions, ipAddress, isIp, printable, type ServerTlsOptions, SessionCache, type TlsInfo, TlsError } from '../index.js'
import { R_SOCKET_CONFIG_TLS, R_TLS_HAS_AUTHORITY } from './ioto-codes.js'
import type { RSocket } from './ioto-socket.js'

/** Milliseconds for a handshake, whatever the deadline of the call: a silent peer must not hold it for ever. */
const HANDSHAKE = 30_000

/** What may be set; null and -1 are: not set. */
interface Settings {
  key: string | null
  cert: string | null
  ca: string | null
  revoke: string | null
  ciphers: string | null
  verifyPeer: number
  verifyIssuer: number
  alpn: string | null
}

const UNSET: Settings = {
  key: null,
  cert: null,
  ca: null,
  revoke: null,
  ciphers: null,
  verifyPeer: -1,
  verifyIssuer: -1,
  alpn: null,
}

/** Settings of the process, for what a socket has none of its own for. */
const defaults: Settings = { ...UNSET }

/** The TLS layer of a socket: `sp.tls`. */
export class RTls {
  /** @internal */
  readonly own: Settings = { ...UNSET }
  /** @internal where the sessions of this socket go, and come from. */
  sessions: RTlsSession = new SessionCache(1)

  #setting<K extends keyof Settings>(name: K): Settings[K] {
    const own = this.own[name]
    return own === null || own === -1 ? defaults[name] : own
  }

  /** @internal whether the peer's certificate is judged at all, and whether its issuer is. */
  get verify(): { peer: boolean; issuer: boolean } {
    return { peer: this.#setting('verifyPeer') !== 0, issuer: this.#setting('verifyIssuer') !== 0 }
  }

  /** @internal @throws ConfigError */
  client(): ClientTlsOptions {
    const ca = this.#setting('ca')
    return {
      ...this.#shared(ca),
      // All judging is done by `objection`, by the rules of the original.
      verify: false,
      sessions: this.sessions,
    }
  }

  /** @internal @throws ConfigError */
  server(): ServerTlsOptions {
    const { peer, issuer } = this.verify
    const settings: ServerTlsOptions = { ...this.#shared(this.own.ca), clientCert: peer ? (issuer ? 'require' : 'request') : 'none' }
    // Without a certificate it listens all the same, and every handshake fails.
    return settings.cert === undefined ? { ...settings, sni: () => undefined } : settings
  }

  #shared(ca: string | null): ClientTlsOptions & ServerTlsOptions & { sessions?: never } {
    const [cert, key, revoke] = [this.#setting('cert'), this.#setting('key'), this.#setting('revoke')]
    const ciphers = this.#setting('ciphers')
    const alpn = this.#setting('alpn')
    const names = alpn?.split(/[,\s]+/).filter((name) => name !== '')
    return {
      handshakeTimeout: HANDSHAKE,
      // A store of the system is wanted only where it is looked at.
      ca: ca !== null ? authorities(ca) : this.verify.peer && this.verify.issuer ? 'system' : 'bundled',
      ...(cert !== null && identity(cert, key)),
      ...(revoke !== null && { crl: pem(revoke, `Unable to set certificate locations: ${nameOf(revoke)}`) }),
      ...(ciphers !== null && { ciphers: completed(ciphers) }),
      ...(names && names.length > 0 && { alpn: names }),
    }
  }
}

/** Sessions to resume, of one socket for another: opaque. */
export type RTlsSession = SessionCache

/** The settings cannot be used; the message is the socket's. Never leaves this dialect. */
export class ConfigError extends Error {}

/** What a message calls a source: its path, and never a key that stands in place. */
const nameOf = (source: string): string => (source.startsWith('@') ? '@…' : source)

/** PEM text of a file, or what stands behind `@`; DER becomes PEM by `convert`. */
function pem(source: string, refusal: string, convert?: (der: Buffer) => string): string {
  if (source.startsWith('@')) return source.slice(1)
  try {
    const bytes = readFileSync(source)
    return bytes.includes('-----BEGIN') || convert === undefined ? bytes.toString('latin1') : convert(bytes)
  } catch (cause) {
    throw new ConfigError(refusal, { cause })
  }
}

const certificate = (der: Buffer): string => new X509Certificate(der).toString()
const privateKey = (key: Buffer): string => {
  for (const type of ['pkcs8', 'pkcs1', 'sec1'] as const) {
    try {
      return createPrivateKey({ key, format: 'der', type }).export({ type: 'pkcs8', format: 'pem' }) as string
    } catch {
      // It is of another type, or of none.
    }
  }
  throw new Error('no private key')
}

function authorities(path: string): string {
  const refusal = `Unable to set certificate locations: ${nameOf(path)}`
  const text = pem(path, refusal, certificate)
  if (!text.includes('-----BEGIN')) throw new ConfigError(refusal)
  return text
}

function identity(cert: string, key: string | null): { cert: string; key?: string } {
  const chain = pem(cert, `Unable to read certificate ${cert}`, certificate)
  try {
    void new X509Certificate(chain)
  } catch (cause) {
    throw new ConfigError(`Unable to load certificate ${nameOf(cert)}`, { cause })
  }
  // Without a key it is looked for in the file of the certificate.
  const source = nameOf(key ?? cert)
  const secret = key === null ? chain : pem(key, `Unable to read key ${key}`, privateKey)
  let own: ReturnType<typeof createPrivateKey>
  try {
    own = createPrivateKey(secret)
  } catch (cause) {
    throw new ConfigError(`Unable to use key ${source}`, { cause })
  }
  if (!new X509Certificate(chain).checkPrivateKey(own)) throw new ConfigError(`Check of private key file failed: ${source}`)
  return { cert: chain, key: secret }
}

/** A list of suites of one kind leaves those of the other as they are: the default's, as far as it names them one by one. */
function completed(ciphers: string): string {
  const given = ciphers.replaceAll(',', ':')
  if (/^:*$/.test(given)) throw new ConfigError(`Unable to define ciphers "${ciphers}"`)
  const isNew = (name: string) => name.startsWith('TLS_')
  const kinds = new Set(given.split(':').map(isNew))
  const known = new Set(getCiphers())
  const others = DEFAULT_CIPHERS.split(':').filter((name) => known.has(name.toLowerCase()) && !kinds.has(isNew(name)))
  return [...others.filter(isNew), given, ...others.filter((name) => !isNew(name))].join(':')
}

/** The message for settings that the library refuses. */
export function configMessage(error: unknown, tls: RTls): string | undefined {
  if (error instanceof ConfigError) return error.message
  const code = error instanceof TlsError ? error.code : undefined
  if (code === 'UNKNOWN_CIPHER') return `Unable to define ciphers "${tls.own.ciphers ?? defaults.ciphers}"`
  if (code === 'MISSING_FILE' || code === 'BAD_PEM' || code === 'BAD_KEY' || code === 'NEEDS_CERTIFICATE' || code === 'BAD_PASSPHRASE')
    return 'Cannot configure TLS'
  return error instanceof TypeError || error instanceof RangeError ? 'Cannot configure TLS' : undefined
}

/** OpenSSL's numbers (`X509_V_ERR_*`) for the verdicts of this library. */
const NUMBERS: Readonly<Record<string, number>> = { CERT_NOT_YET_VALID: 9, REVOKED: 23, BAD_CRL: 3, CHAIN_TOO_LONG: 22, BAD_PURPOSE: 26 }

/**
 * Why the peer of a handshake is not acceptable, or undefined. `host` is the name it was dialled by, undefined for a client of a
 * server. Without `issuer` one that is not known is tolerated, and nothing else.
 */
export function objection(info: TlsInfo, host: string | undefined, verify: RTls['verify']): string | undefined {
  if (!verify.peer) return undefined
  try {
    return flaw(info, host, verify.issuer)
  } catch {
    // What cannot be read cannot be trusted.
    return 'Certificate verification error 1'
  }
}

function flaw(info: TlsInfo, host: string | undefined, issuer: boolean): string | undefined {
  const leaf = info.peerCertificate
  if (leaf === null) return 'Certificate verification error 1'
  const now = Date.now()
  // OpenSSL tells one reason alone, which may be the issuer.
  if (info.peerChain.some(({ validTo }) => validTo < now)) return 'Certificate has expired'
  if (info.peerChain.some(({ validFrom }) => validFrom > now)) return 'Certificate verification error 9'
  const code = info.verifyError?.code
  switch (code) {
    case undefined:
    case 'NAME_MISMATCH':
      break
    case 'SELF_SIGNED':
      if (issuer) return 'Self-signed certificate'
      break
    case 'UNKNOWN_ISSUER':
      if (issuer) return leaf.issuer === leaf.subject ? 'Self-signed certificate' : 'Certificate not trusted'
      break
    case 'CERT_EXPIRED':
      return 'Certificate has expired'
    default:
      return `Certificate verification error ${NUMBERS[code] ?? 1}`
  }
  if (host === undefined || code === undefined || isFor(leaf.names, host)) return undefined
  // As with OpenSSL's `X509_check_host`, the common name counts where there is no other name.
  const common = commonNames(leaf.raw)
  if (leaf.names.every((name) => isIp(name) !== 0) && isFor(common, host)) return undefined
  return `Certificate hostname mismatch. Expecting ${host} got ${printable(common[0] ?? '')}`
}

/** Whether one of the names is the host, or covers it by `*` as its whole left-most label. */
function isFor(names: readonly string[], host: string): boolean {
  if (isIp(host) !== 0)
    return names.some((name) => name === host || (isIp(name) !== 0 && ipAddress(name, 0).address === ipAddress(host, 0).address))
  const wanted = domainToASCII(host.replace(/\.$/, ''))
  const parent = /^[^.]+(\..+\..+)$/.exec(wanted)?.[1]
  return names.some((given) => {
    const name = given.toLowerCase()
    return wanted !== '' && (name === wanted || (parent !== undefined && name === `*${parent}`))
  })
}

function commonNames(raw: Uint8Array): string[] {
  const { subject } = new X509Certificate(raw).toLegacyObject()
  const names: string | readonly string[] = subject?.CN ?? []
  return typeof names === 'string' ? [names] : [...names]
}

/** Attaches TLS where there is none yet. */
function attached(sp: RSocket): RTls {
  sp.tls ??= new RTls()
  return sp.tls
}

type Certificates = [first: string | null, second: string | null, third: string | null, revoke?: string | null]

/** The documented order is key, certificate, authority; that of the released header authority, key, certificate. The files tell. */
function setCerts(of: Settings, [first, second, third, revoke = null]: Certificates): void {
  const a = contentOf(first)
  const b = contentOf(second)
  const isHeader = (a.certificate && !a.key) || (b.key && !b.certificate) || contentOf(third).key
  const [key, cert, ca] = isHeader ? [second, third, first] : [first, second, third]
  Object.assign(of, Object.fromEntries(Object.entries({ key, cert, ca, revoke }).filter(([, value]) => value != null)))
}

function contentOf(source: string | null): { certificate: boolean; key: boolean } {
  let text = ''
  for (const convert of [certificate, privateKey]) {
    try {
      if (source !== null && text === '') text = pem(source, '', convert)
    } catch {
      // It is something else, or nothing; whoever uses it will tell.
    }
  }
  return { certificate: text.includes('CERTIFICATE-----'), key: text.includes('PRIVATE KEY-----') }
}

/** In C `false` is 0. */
function setVerify(of: Settings, peer: number | boolean, issuer: number | boolean): void {
  of.verifyPeer = Number(peer)
  of.verifyIssuer = Number(issuer)
}

/** Ioto's `rSetTls`: switches TLS on, before connecting or listening. Again it does nothing. */
export function rSetTls(sp: RSocket | null): void {
  if (sp != null) attached(sp)
}

/**
 * Ioto's `rSetSocketCerts`: files of certificates, PEM or DER, or PEM text behind `@`. They are read when the socket connects or
 * listens; what is wrong with them fails that. Switches TLS on.
 *
 * @param args `privateKey`, `certificate`, `authority`, `revoke` (a list of revoked certificates); null leaves what was set. The
 *   order of the released header, authority, key, certificate, is recognized by what is in the files
 */
export function rSetSocketCerts(sp: RSocket | null, ...args: Certificates): void {
  if (sp != null) setCerts(attached(sp).own, args)
}

/**
 * Ioto's `rSetSocketCiphers`: OpenSSL names, separated by commas or colons: of TLS 1.3 or of those before it. A list that names none
 * fails the connecting or listening. Switches TLS on.
 */
export function rSetSocketCiphers(sp: RSocket | null, ciphers: string | null): void {
  if (sp != null) rSetTlsCiphers(attached(sp), ciphers)
}

/**
 * Ioto's `rSetSocketVerify`: how the peer is judged. Switches TLS on.
 *
 * @param verifyPeer 0: not at all; 1: its certificate must be in order, and on a listener clients must have one; -1: as the process
 *   (default, there 1)
 * @param verifyIssuer 0: an issuer that is not known, also the certificate itself, is tolerated; 1: it is not; -1: as the process
 *   (default, there 1)
 */
export function rSetSocketVerify(sp: RSocket | null, verifyPeer: number | boolean, verifyIssuer: number | boolean): void {
  if (sp != null) rSetTlsVerify(attached(sp), verifyPeer, verifyIssuer)
}

/** Ioto's `rSetTlsCerts`: as `rSetSocketCerts`, of `sp.tls`; null does nothing, as for those below. */
export function rSetTlsCerts(tls: RTls | null, ...args: Certificates): void {
  if (tls != null) setCerts(tls.own, args)
}

/** Ioto's `rSetTlsCiphers`: as `rSetSocketCiphers`, of `sp.tls`. */
export function rSetTlsCiphers(tls: RTls | null, ciphers: string | null): void {
  if (tls != null) tls.own.ciphers = ciphers
}

/** Ioto's `rSetTlsVerify`: as `rSetSocketVerify`, of `sp.tls`. */
export function rSetTlsVerify(tls: RTls | null, verifyPeer: number | boolean, verifyIssuer: number | boolean): void {
  if (tls != null) setVerify(tls.own, verifyPeer, verifyIssuer)
}

/** Ioto's `rSetTlsAlpn`: the application protocol, or several separated by commas or blanks, the preferred first. */
export function rSetTlsAlpn(tls: RTls | null, alpn: string | null): void {
  if (tls != null) tls.own.alpn = alpn
}

/** Ioto's `rSetSocketDefaultCerts`: as `rSetSocketCerts`, for the process. The authority is for clients alone. */
export function rSetSocketDefaultCerts(...args: Certificates): void {
  setCerts(defaults, args)
}

/** Ioto's `rSetSocketDefaultCiphers`: as `rSetSocketCiphers`, for the process; null for those of the runtime. */
export function rSetSocketDefaultCiphers(ciphers: string | null): void {
  defaults.ciphers = ciphers
}

/** Ioto's `rSetSocketDefaultVerify`: as `rSetSocketVerify`, for the process; -1 is 1. */
export function rSetSocketDefaultVerify(verifyPeer: number | boolean, verifyIssuer: number | boolean): void {
  setVerify(defaults, verifyPeer, verifyIssuer)
}

/** Ioto's `rSetTlsDefaultCerts`: another name of `rSetSocketDefaultCerts`. */
export const rSetTlsDefaultCerts: typeof rSetSocketDefaultCerts = rSetSocketDefaultCerts
/** Ioto's `rSetTlsDefaultCiphers`: another name of `rSetSocketDefaultCiphers`. */
export const rSetTlsDefaultCiphers: typeof rSetSocketDefaultCiphers = rSetSocketDefaultCiphers
/** Ioto's `rSetTlsDefaultVerify`: another name of `rSetSocketDefaultVerify`. */
export const rSetTlsDefaultVerify: typeof rSetSocketDefaultVerify = rSetSocketDefaultVerify

/** Ioto's `rSetTlsDefaultAlpn`: as `rSetTlsAlpn`, for the process; null for none. */
export function rSetTlsDefaultAlpn(alpn: string | null): void {
  defaults.alpn = alpn
}

/** Ioto's `rGetTlsSession`: the session of a connected socket, for `rSetTlsSession` of another; null before the server has sent one. */
export function rGetTlsSession(sp: RSocket | null): RTlsSession | null {
  const sessions = sp?.tls?.sessions
  return sessions === undefined || sessions.size === 0 ? null : sessions
}

/** Ioto's `rSetTlsSession`: the session to resume, behind `rSetTls` and before connecting to the same place with the same settings. */
export function rSetTlsSession(sp: RSocket | null, session: RTlsSession | null): void {
  if (sp?.tls != null && session !== null) sp.tls.sessions = session
}

/** Ioto's `rFreeTlsSession`: forgets a session. */
export function rFreeTlsSession(session: RTlsSession | null): void {
  session?.clear()
}

/** Called before each handshake of a client and each listener: `arg` are the settings about to be used, to be changed in place. */
export type RSocketCustom = (
  sp: RSocket,
  cmd: typeof R_SOCKET_CONFIG_TLS,
  arg: ClientTlsOptions | ServerTlsOptions,
  flags: number,
) => unknown

let custom: RSocketCustom | null = null

/** Ioto's `rSetSocketCustom`: one hook of the process for TLS settings; null for none. */
export function rSetSocketCustom(hook: RSocketCustom | null): void {
  custom = hook
}

/** Ioto's `rGetSocketCustom`: the hook of `rSetSocketCustom`, null for none. */
export function rGetSocketCustom(): RSocketCustom | null {
  return custom
}

/** The settings, as the hook leaves them. */
export function customized<T extends ClientTlsOptions | ServerTlsOptions>(sp: RSocket, settings: T): T {
  custom?.(sp, R_SOCKET_CONFIG_TLS, settings, typeof settings.ca === 'string' && settings.ca.includes('-----') ? R_TLS_HAS_AUTHORITY : 0)
  return settings
}
