/** `SSL.Context`: whom to trust and who one is, and the forms in which Pike has certificates. */

import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import type { ClientTlsOptions, IdentityOptions, ServerTlsOptions, TlsVersion } from '../index.js'
import { PikeError } from './pike-errno.js'
import { fromBytes, toBytes } from './pike-strings.js'

/** Numbers of TLS versions, and whether a server asks for certificates: not, if there is one, always. Pike: `SSL.Constants`. */
export const Constants: {
  readonly PROTOCOL_TLS_1_0: 0x301
  readonly PROTOCOL_TLS_1_1: 0x302
  readonly PROTOCOL_TLS_1_2: 0x303
  readonly PROTOCOL_TLS_1_3: 0x304
  readonly AUTHLEVEL_none: 1
  readonly AUTHLEVEL_ask: 2
  readonly AUTHLEVEL_require: 3
} = {
  PROTOCOL_TLS_1_0: 0x301,
  PROTOCOL_TLS_1_1: 0x302,
  PROTOCOL_TLS_1_2: 0x303,
  PROTOCOL_TLS_1_3: 0x304,
  AUTHLEVEL_none: 1,
  AUTHLEVEL_ask: 2,
  AUTHLEVEL_require: 3,
}

const VERSIONS: Readonly<Record<number, TlsVersion>> = {
  [Constants.PROTOCOL_TLS_1_0]: 'TLSv1',
  [Constants.PROTOCOL_TLS_1_1]: 'TLSv1.1',
  [Constants.PROTOCOL_TLS_1_2]: 'TLSv1.2',
  [Constants.PROTOCOL_TLS_1_3]: 'TLSv1.3',
}

/** The number of a version that was negotiated; −1 for none. */
export function versionNumber(name: string | undefined): number {
  const found = Object.entries(VERSIONS).find(([, version]) => version === name)
  return found === undefined ? -1 : Number(found[0])
}

/** The files of a certificate, with its chain behind it, and of its key. */
export interface CertificateFiles {
  readonly cert_file: string
  readonly key_file?: string | undefined
}

/** A certificate or a key: a string of DER bytes, DER or PEM as bytes, or PEM text. */
export type CertificateData = string | Uint8Array

interface Identity extends IdentityOptions {
  /** Patterns of names it is for; `*` any, also none. */
  readonly globs: readonly string[]
  readonly certificates: readonly string[]
}

function isPem(data: CertificateData): data is string {
  return typeof data === 'string' ? data.includes('-----BEGIN') : Buffer.from(data.subarray(0, 11)).toString('latin1') === '-----BEGIN '
}

/** A certificate as PEM; of PEM with several, all. @throws PikeError for what is none */
export function certificatePem(data: CertificateData): string {
  if (isPem(data)) return typeof data === 'string' ? data : fromBytes(data)
  try {
    return new X509Certificate(toBytes(data, 'SSL.Context')).toString()
  } catch (error) {
    throw error instanceof PikeError ? error : new PikeError('Failed to decode certificate.', error)
  }
}

function keyPem(data: CertificateData): string {
  if (isPem(data)) return typeof data === 'string' ? data : fromBytes(data)
  const key = Buffer.from(toBytes(data, 'SSL.Context'))
  let failure: unknown
  for (const type of ['pkcs8', 'pkcs1', 'sec1'] as const) {
    try {
      const found: KeyObject = createPrivateKey({ key, format: 'der', type })
      return found.export({ type: 'pkcs8', format: 'pem' }) as string
    } catch (error) {
      failure = error
    }
  }
  throw new PikeError('Failed to decode private key.', failure)
}

/** The names of a certificate, as patterns; none in a certificate that has none. */
function namesOf(pem: string): string[] {
  try {
    const names = new X509Certificate(pem).subjectAltName ?? ''
    return [...names.matchAll(/(?:DNS|IP Address):([^,\s]+)/g)].map((match) => (match[1] as string).toLowerCase())
  } catch (error) {
    throw new PikeError('Failed to decode certificate.', error)
  }
}

/** Whether a name fits a pattern of `*` and `?`. */
function fits(pattern: string, name: string): boolean {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*/g, '.*')
    .replace(/\?/g, '.')
  return new RegExp(`^${source}$`, 'i').test(name)
}

let asClient: (context: Context, serverName: string | undefined) => ClientTlsOptions
let asServer: (context: Context) => ServerTlsOptions

/** What a client of a context does. @internal */
export function clientOptions(context: Context, serverName: string | undefined): ClientTlsOptions {
  return asClient(context, serverName)
}

/** What a server of a context does. @internal */
export function serverOptions(context: Context): ServerTlsOptions {
  return asServer(context)
}

/**
 * Settings of TLS for clients and servers. Pike: `SSL.Context`. What differs: a client verifies unless told otherwise, and the
 * versions are TLS 1.2 and 1.3, while the original verifies nothing and has TLS 1.0 to 1.2.
 */
export class Context {
  static {
    asClient = (context, serverName) => context.#clientOptions(serverName)
    asServer = (context) => context.#serverOptions()
  }

  /** The lowest version. Default TLS 1.2. */
  min_version: number = Constants.PROTOCOL_TLS_1_2
  /** The highest version. Default TLS 1.3. */
  max_version: number = Constants.PROTOCOL_TLS_1_3
  /** Whether a server asks for certificates: a constant `AUTHLEVEL_…`. Default 0: it does not. */
  auth_level: number = 0
  /** Whether a client verifies chain, dates and name of the server. Default 1; 0 trusts anyone. */
  verify_certificates: 0 | 1 | boolean = 1
  /** Kept for programs that set it: a self-signed certificate is never accepted unless it is a trusted issuer itself. */
  require_trust: 0 | 1 | boolean = 0
  /** Application protocols, the preferred first. Default 0: none. */
  advertised_protocols: readonly string[] | 0 = 0
  /** Whether sessions are resumed. Default 1. */
  use_cache: 0 | 1 | boolean = 1
  /** Cipher suites as a list of OpenSSL; default: those of the runtime. The original has numbers in `preferred_suites`. */
  ciphers: string | undefined = undefined
  readonly #identities: Identity[] = []
  #issuers: readonly (readonly CertificateData[])[] = []
  #authorities: readonly CertificateData[] = []

  /**
   * Adds a certificate.
   *
   * @param key the private key, DER in any of its three forms, or PEM
   * @param certs the certificate and those above it; DER or PEM
   * @param globs patterns of the names it is for; `"*"` makes it the one for any client. Default: the names in the certificate
   * @throws PikeError for what is no certificate or no key
   */
  add_cert(key: CertificateData, certs: readonly CertificateData[] | CertificateData, globs?: readonly string[]): void {
    const list = typeof certs === 'string' || certs instanceof Uint8Array ? [certs] : certs
    const pem = list.map(certificatePem)
    const [leaf] = pem
    if (leaf === undefined) throw new PikeError('No certificates.')
    this.#identities.push({ cert: pem.join('\n'), key: keyPem(key), globs: globs ?? namesOf(leaf), certificates: pem })
  }

  /** Files of certificates, which are for any client; read when a port is bound or a handshake begins. Not a list of DER, as in the original. */
  get certificates(): readonly CertificateFiles[] {
    return this.#files
  }

  set certificates(list: readonly CertificateFiles[]) {
    for (const { cert_file } of list)
      if (typeof cert_file !== 'string') throw new PikeError('Bad certificates: expected cert_file and key_file.')
    this.#files = [...list]
  }

  #files: readonly CertificateFiles[] = []

  /** Certificates of authorities that may vouch for the peer, each with those above it. Without any: those the runtime brings. */
  set_trusted_issuers(issuers: readonly (readonly CertificateData[])[]): void {
    this.#issuers = issuers.map((chain) => chain.map(certificatePem))
  }

  get_trusted_issuers(): readonly (readonly CertificateData[])[] {
    return this.#issuers
  }

  /** Certificates of authorities whose client certificates a server takes; they are trusted besides the issuers. */
  set_authorities(authorities: readonly CertificateData[]): void {
    this.#authorities = authorities.map(certificatePem)
  }

  get_authorities(): readonly CertificateData[] {
    return this.#authorities
  }

  /** The certificates that were added: the patterns of their names, and the chains as PEM. */
  get_certificates(): readonly { readonly globs: readonly string[]; readonly certificates: readonly string[] }[] {
    return this.#identities.map(({ globs, certificates }) => ({ globs, certificates }))
  }

  #common(): Pick<ClientTlsOptions, 'ca' | 'alpn' | 'ciphers' | 'minVersion' | 'maxVersion' | 'sessions'> & { sessions: boolean } {
    const trusted = [...this.#issuers.flat(), ...this.#authorities] as string[]
    return {
      minVersion: VERSIONS[this.min_version],
      maxVersion: VERSIONS[this.max_version],
      sessions: Boolean(this.use_cache),
      ...(trusted.length > 0 && { ca: trusted.join('\n') }),
      ...(this.advertised_protocols && this.advertised_protocols.length > 0 && { alpn: this.advertised_protocols }),
      ...(this.ciphers !== undefined && { ciphers: this.ciphers }),
    }
  }

  #default(): IdentityOptions | undefined {
    const [files] = this.#files
    if (files !== undefined) return { cert: files.cert_file, key: files.key_file }
    const found = this.#identities.find(({ globs }) => globs.includes('*'))
    return found && { cert: found.cert, key: found.key }
  }

  #clientOptions(serverName: string | undefined): ClientTlsOptions {
    const identity = this.#identities[0] ?? this.#default()
    return {
      ...this.#common(),
      verify: Boolean(this.verify_certificates),
      ...(serverName !== undefined && { serverName }),
      ...(identity && { cert: identity.cert, key: identity.key }),
    }
  }

  #serverOptions(): ServerTlsOptions {
    const byDefault = this.#default()
    const others = this.#identities.map((one) => ({ globs: one.globs, identity: { cert: one.cert, key: one.key } }))
    const choose = (name: string) => {
      const matches = others.flatMap(({ globs, identity }) => globs.filter((glob) => fits(glob, name)).map((glob) => ({ glob, identity })))
      // The pattern that says most.
      return matches.sort((a, b) => b.glob.length - a.glob.length)[0]?.identity
    }
    const needed = others.length > 1 || (others.length > 0 && byDefault === undefined)
    return {
      ...this.#common(),
      clientCert:
        this.auth_level === Constants.AUTHLEVEL_require ? 'require' : this.auth_level === Constants.AUTHLEVEL_ask ? 'request' : 'none',
      ...byDefault,
      ...(needed && { sni: choose }),
    }
  }
}

/**
 * The bytes of the first block of a PEM text, as a string of DER. Pike: `Standards.PEM.simple_decode`.
 *
 * @throws PikeError where there is none
 */
export function simple_decode(pem: string): string {
  const [, body] = /-----BEGIN [^-]+-----([^-]*)-----END [^-]+-----/.exec(pem) ?? []
  if (body === undefined) throw new PikeError('No PEM message found.')
  return fromBytes(Buffer.from(body.replace(/[^\n]*:[^\n]*\n/g, ''), 'base64'))
}
