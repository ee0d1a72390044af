/** Certificates, keys, authorities and revocation lists: read, checked, and refused with a code of their own. */

import type { KeyObject, X509Certificate } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { invalidType, show, type TlsError } from './errors.js'
import { nodeCrypto, nodeTls } from './builtin.js'
import { tlsError } from './verdict.js'

/** PEM text, the path of a PEM file (any string without `-----BEGIN`), a `file:` URL, or PEM as bytes. */
export type Pem = string | URL | Uint8Array
/** PEM, or a function that is asked for it each time the settings are prepared or reloaded. */
export type PemSource = Pem | (() => Pem)

/** PEM text, and what messages call it: the option it came in, with the file. */
interface Material {
  readonly text: string
  readonly name: string
}

function readPem(source: PemSource, name: string): Material {
  const given: unknown = typeof source === 'function' ? source() : source
  if (given instanceof Uint8Array) return { text: Buffer.from(given.buffer, given.byteOffset, given.byteLength).toString('latin1'), name }
  if (typeof given === 'string' && given.includes('-----BEGIN')) return { text: given, name }
  if (typeof given === 'string' && /[\n\r]/.test(given)) throw badPem(name, 'it has no -----BEGIN line')
  if (typeof given !== 'string' && !(given instanceof URL)) throw invalidType(name, 'PEM text, a path, a file: URL or bytes', given)
  const file = `${name} ${show(String(given))}`
  try {
    return { text: readFileSync(given, 'latin1'), name: file }
  } catch (error) {
    const why = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable'
    throw tlsError('MISSING_FILE', {}, `${file} (${why})`, error)
  }
}

function badPem(name: string, why: string, cause?: unknown): TlsError {
  return tlsError('BAD_PEM', {}, `${name}: ${why}`, cause)
}

/** Header lines of encrypted traditional keys have hyphens in them, though never five. */
const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----[^-]*(?:-(?!----)[^-]*)*-----END \1-----/g

/** The blocks of one kind; text around them is allowed, as OpenSSL allows it. */
function blocks(pem: string, kind: RegExp): string[] {
  return [...pem.matchAll(BLOCK)].filter((match) => kind.test(match[1] as string)).map((match) => match[0])
}

/** All certificates of a PEM text, at least one. */
export function certificatesOf(pem: string, name: string): X509Certificate[] {
  const found = blocks(pem, /^(X509 |TRUSTED )?CERTIFICATE$/)
  if (found.length === 0) throw badPem(name, 'there is no certificate in it')
  return found.map((block, i) => {
    try {
      return new (nodeCrypto().X509Certificate)(block)
    } catch (error) {
      throw badPem(name, `certificate ${i + 1} of ${found.length} cannot be read`, error)
    }
  })
}

/** The private key of a PEM text: PKCS#8 or traditional, encrypted or not. */
function privateKeyOf({ text: pem, name }: Material, passphrase: string | undefined): KeyObject {
  const [text] = blocks(pem, /PRIVATE KEY$/)
  if (text === undefined) throw badPem(name, 'there is no private key in it')
  const encrypted = text.includes('BEGIN ENCRYPTED') || text.includes('4,ENCRYPTED')
  if (encrypted && passphrase === undefined) throw tlsError('BAD_PASSPHRASE', {}, `${name} is encrypted and no passphrase was given`)
  try {
    return nodeCrypto().createPrivateKey({ key: text, ...(passphrase !== undefined && { passphrase }) })
  } catch (error) {
    if (!isBase64(text)) throw badPem(name, 'the private key is damaged', error)
    if (encrypted) throw tlsError('BAD_PASSPHRASE', {}, name, error)
    throw tlsError('BAD_KEY', {}, name, error)
  }
}

function isBase64(block: string): boolean {
  const lines = block.split(/\r?\n/).filter((line) => line !== '' && !line.startsWith('-----') && !line.includes(':'))
  const body = lines.join('')
  return body.length > 0 && body.length % 4 === 0 && /^[A-Za-z0-9+/]+={0,2}$/.test(body)
}

/** A certificate with its chain and its key, checked to belong together. */
export interface Identity {
  /** PEM: the leaf first. */
  readonly chain: string
  /** PEM, PKCS#8, not encrypted. */
  readonly key: string
  readonly leaf: X509Certificate
}

export interface IdentityOptions {
  /** Certificate, the leaf first, then its chain. */
  cert?: PemSource | undefined
  /** Private key; absent: the one in `cert`. */
  key?: PemSource | undefined
  passphrase?: string | undefined
}

export function loadIdentity(o: IdentityOptions, where: string): Identity | undefined {
  if (o.passphrase !== undefined && typeof o.passphrase !== 'string') throw invalidType(`${where}passphrase`, 'a string', o.passphrase)
  if (o.cert === undefined) {
    if (o.key !== undefined) throw tlsError('NEEDS_CERTIFICATE', {}, `${where}key was given without ${where}cert`)
    return undefined
  }
  const cert = readPem(o.cert, `${where}cert`)
  const certificates = certificatesOf(cert.text, cert.name)
  const leaf = certificates[0] as X509Certificate
  const key = privateKeyOf(o.key === undefined ? cert : readPem(o.key, `${where}key`), o.passphrase)
  if (!leaf.checkPrivateKey(key)) throw tlsError('KEY_MISMATCH', {}, `${cert.name} is for ${show(leaf.subject ?? '')}`)
  return { chain: certificates.map(String).join(''), key: key.export({ type: 'pkcs8', format: 'pem' }) as string, leaf }
}

/** `'bundled'`: those Node brings, with NODE_EXTRA_CA_CERTS; `'system'`: those of this machine; PEM: these and no others. */
export type Authorities = 'bundled' | 'system' | PemSource | readonly PemSource[]

/** PEM texts, or undefined for Node's own. */
export function loadAuthorities(ca: Authorities | undefined): string[] | undefined {
  if (ca === undefined || ca === 'bundled') return undefined
  if (ca === 'system') return systemAuthorities()
  return fromEach(ca, 'ca', ({ text, name }) => certificatesOf(text, name).map(String))
}

/** What `read` makes of one source or of each of several. */
function fromEach(given: PemSource | readonly PemSource[], option: string, read: (given: Material) => string[]): string[] {
  if (!Array.isArray(given)) return read(readPem(given as PemSource, option))
  return given.flatMap((source: PemSource, i) => read(readPem(source, `${option}[${i}]`)))
}

/** Where systems keep their authorities, in files and in directories of files (the places OpenSSL, Go and curl look in). */
const STORES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/cert.pem',
  '/usr/local/share/certs/ca-root-nss.crt',
  '/etc/ssl/certs',
  '/etc/pki/tls/certs',
  '/system/etc/security/cacerts',
]

/** The certificates of the system store; `SSL_CERT_FILE` and `SSL_CERT_DIR` come first, as with OpenSSL. */
export function systemAuthorities(environment: NodeJS.ProcessEnv = process.env): string[] {
  const { SSL_CERT_FILE: file, SSL_CERT_DIR: directories } = environment
  if (file || directories) {
    const found = [file, ...(directories?.split(':') ?? [])].flatMap((path) => (path ? authoritiesIn(path) : []))
    if (found.length > 0) return found
    throw tlsError('MISSING_FILE', {}, `no certificate in SSL_CERT_FILE ${show(file)}, SSL_CERT_DIR ${show(directories)}`)
  }
  for (const path of STORES) {
    const found = authoritiesIn(path)
    if (found.length > 0) return found
  }
  // Where the store is no file (macOS, Windows), newer Nodes can ask the system.
  const ask = (nodeTls() as { getCACertificates?: (type: 'system') => string[] }).getCACertificates
  const found = ask?.('system') ?? []
  if (found.length > 0) return found
  throw tlsError('MISSING_FILE', {}, `no system store found, looked in ${STORES.join(', ')}`)
}

/** The certificates in a file or in the files of a directory; none where there is no such thing. */
function authoritiesIn(path: string): string[] {
  const stat = statSync(path, { throwIfNoEntry: false })
  if (stat === undefined) return []
  // Not parsed one by one: a store may hold a certificate that this OpenSSL does not know how to read.
  if (!stat.isDirectory()) return blocks(readPem(path, 'the system store').text, /^(TRUSTED )?CERTIFICATE$/)
  const names = readdirSync(path).filter((name) => /\.(pem|crt|cer|0)$/.test(name))
  return [...new Set(names.flatMap((name) => authoritiesIn(join(path, name))))]
}

/** Revocation lists, PEM. */
export function loadRevocations(given: PemSource | readonly PemSource[] | undefined): string[] | undefined {
  if (given === undefined) return undefined
  return fromEach(given, 'crl', ({ text, name }) => {
    const found = blocks(text, /^X509 CRL$/)
    if (found.length === 0) throw badPem(name, 'there is no revocation list in it')
    for (const crl of found) {
      try {
        nodeTls().createSecureContext({ crl })
      } catch (error) {
        throw badPem(name, 'the revocation list cannot be read', error)
      }
    }
    return found
  })
}

/** Refuses a cipher list with a name in it that OpenSSL does not know; OpenSSL itself would ignore that name. */
export function checkCiphers(ciphers: string): void {
  for (const token of ciphers.split(/[:, ]+/)) {
    const name = token.replace(/^[!+-]/, '')
    if (name === '' || name.startsWith('@')) continue
    // Node's own list names ciphers and kinds of them that its OpenSSL no longer has.
    if ((defaults ??= new Set(nodeTls().DEFAULT_CIPHERS.split(':'))).has(token)) continue
    const known = name.startsWith('TLS_') ? nodeTls().getCiphers().includes(name.toLowerCase()) : isCipher(name)
    if (!known) throw tlsError('UNKNOWN_CIPHER', {}, show(name))
  }
}

let defaults: ReadonlySet<string> | undefined

function isCipher(name: string): boolean {
  try {
    nodeTls().createSecureContext({ ciphers: name, maxVersion: 'TLSv1.2' })
    return true
  } catch {
    // OpenSSL's only answer to a name it does not know.
    return false
  }
}
