/**
 * A certificate authority for development, tests and examples, made on the spot. Its certificates are worth nothing to
 * anybody who was not given its own.
 */

import { createPrivateKey, KeyObject, randomBytes, webcrypto, X509Certificate } from 'node:crypto'
import { chmodSync, closeSync, existsSync, fchmodSync, lstatSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs'
import { isIP } from 'node:net'
import { join } from 'node:path'
import type * as X509 from '@peculiar/x509'
import { outOfRange, SystemFailure, systemFailure } from '../errors.js'
import { matchesIdentity } from '../identity.js'
import { alternativeNames } from '../x509.js'

export interface IssueOptions {
  /** DNS names (`*.example.com` too) and IP addresses it is for. Default `['localhost', '127.0.0.1', '::1']`. */
  names?: readonly string[] | undefined
  /** Common name of the subject; no check looks at it. Default: the first name. */
  commonName?: string | undefined
  /** What it may be used for. Default `'server'`. */
  purpose?: 'server' | 'client' | 'both' | 'signing' | undefined
  /** Epoch milliseconds. Default: an hour ago, for clocks that are a little behind. */
  validFrom?: number | undefined
  /** Epoch milliseconds. Default: in 397 days, the longest that browsers take. */
  validTo?: number | undefined
  /** Encrypts the key. */
  passphrase?: string | undefined
  /** Form of the key: PKCS#8 (default) or the traditional one of OpenSSL. */
  keyFormat?: 'pkcs8' | 'traditional' | undefined
  /** Signed with its own key rather than the authority's. */
  selfSigned?: boolean | undefined
}

/** PEM texts. */
export interface Issued {
  /** The certificate, then those between it and the authority. */
  readonly cert: string
  readonly key: string
  readonly serialNumber: string
}

/** A certificate and key on disk. */
export interface IssuedFiles {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

export interface AuthorityOptions {
  /**
   * Where to keep the authority and what it issues with `issueFiles`; made if it does not exist, with access for the owner
   * only, and used again while valid. Absent: in memory.
   */
  directory?: string | undefined
  name?: string | undefined
  validFrom?: number | undefined
  validTo?: number | undefined
}

export interface Authority {
  /** Its certificate, PEM: the `ca` of those who trust it. */
  readonly cert: string
  issue(o?: IssueOptions): Promise<Issued>
  /** Issues to files of the directory, or gives those there if they are still good for a day, these names and this purpose. */
  issueFiles(name: string, o?: IssueOptions): Promise<IssuedFiles>
  /** An authority below this one; what it issues has it in its chain. */
  intermediate(o?: { name?: string; pathLength?: number; validFrom?: number; validTo?: number }): Promise<Authority>
  /** A revocation list, PEM, of certificates with these serial numbers. */
  revoke(serialNumbers: readonly string[], o?: { validFrom?: number; validTo?: number }): Promise<string>
}

const HOUR = 3_600_000
const DAY = 24 * HOUR
const EC = { name: 'ECDSA', namedCurve: 'P-256' } as const
const SIGNING = { name: 'ECDSA', hash: 'SHA-256' } as const

type Library = typeof X509
let library: Promise<Library> | undefined

/** Loaded when first needed: it takes longer to load than everything else here together. */
function load(): Promise<Library> {
  library ??= (async () => {
    await import('reflect-metadata')
    const x509 = await import('@peculiar/x509')
    x509.cryptoProvider.set(webcrypto as never)
    return x509
  })()
  return library
}

/**
 * Makes an authority, or takes the one kept in `directory`.
 *
 * ```ts
 * import { connect, listen } from 'fairlead'
 * import { developmentAuthority } from 'fairlead/testing'
 *
 * const authority = await developmentAuthority()
 * const { cert, key } = await authority.issue({ names: ['localhost'] })
 * await using listener = await listen('tls://localhost:0', { tls: { cert, key } })
 * const accepting = listener.accept()
 * await using client = await connect(listener.endpoint, { tls: { ca: authority.cert } })
 * await using server = await accepting
 * ```
 *
 * @throws SystemFailure if the directory cannot be used, or others may write to it
 */
export async function developmentAuthority(o: AuthorityOptions = {}): Promise<Authority> {
  const { directory } = o
  if (directory !== undefined) {
    privateDirectory(directory)
    const kept = await readAuthority(directory)
    if (kept !== undefined) return kept
  }
  const x509 = await load()
  const keys = await generateKeys()
  const name = o.name ?? 'fairlead development authority'
  const subject = new x509.Name([{ CN: [name] }])
  const certificate = await x509.X509CertificateGenerator.create({
    ...common(o),
    subject: subject.toString(),
    issuer: subject.toString(),
    publicKey: keys.publicKey as never,
    signingKey: keys.privateKey as never,
    extensions: await authorityExtensions(x509, keys, undefined),
  })
  const cert = pem(certificate)
  if (directory !== undefined) {
    writePrivate(join(directory, 'authority-key.pem'), keyPem(keys, {}))
    writePrivate(join(directory, 'authority.pem'), cert)
  }
  return new DevelopmentAuthority(x509, certificate, keys, '', directory)
}

type Keys = webcrypto.CryptoKeyPair

async function generateKeys(): Promise<Keys> {
  return (await webcrypto.subtle.generateKey(EC, true, ['sign', 'verify'])) as Keys
}

function common(o: { validFrom?: number | undefined; validTo?: number | undefined }): {
  serialNumber: string
  notBefore: Date
  notAfter: Date
  signingAlgorithm: typeof SIGNING
} {
  const now = Date.now()
  // The first bit of a serial number is its sign (RFC 5280: positive, at most 20 bytes).
  const serial = randomBytes(16)
  serial[0] = ((serial[0] as number) & 0x7f) | 0x40
  return {
    serialNumber: serial.toString('hex'),
    notBefore: new Date(o.validFrom ?? now - HOUR),
    notAfter: new Date(o.validTo ?? now + 397 * DAY),
    signingAlgorithm: SIGNING,
  }
}

async function authorityExtensions(x509: Library, keys: Keys, pathLength: number | undefined): Promise<X509.Extension[]> {
  return [
    new x509.BasicConstraintsExtension(true, pathLength, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    await x509.SubjectKeyIdentifierExtension.create(keys.publicKey as never),
  ]
}

function pem(certificate: X509.X509Certificate): string {
  return armour('CERTIFICATE', certificate.rawData)
}

/** PEM with OpenSSL's own labels: the library calls a revocation list `CRL`. */
function armour(label: string, der: ArrayBuffer): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

function keyPem(keys: Keys, o: IssueOptions): string {
  const type = o.keyFormat === 'traditional' ? 'sec1' : 'pkcs8'
  const key = KeyObject.from(keys.privateKey as never)
  return key.export({
    type,
    format: 'pem',
    ...(o.passphrase !== undefined && { cipher: 'aes-256-cbc', passphrase: o.passphrase }),
  }) as string
}

class DevelopmentAuthority implements Authority {
  readonly cert: string
  readonly #x509: Library
  readonly #certificate: X509.X509Certificate
  readonly #keys: Keys
  /** PEM of this and those above it up to the root, which is not in it; empty for the root. */
  readonly #chain: string
  readonly #directory: string | undefined

  constructor(x509: Library, certificate: X509.X509Certificate, keys: Keys, chain: string, directory: string | undefined) {
    this.#x509 = x509
    this.#certificate = certificate
    this.#keys = keys
    this.#chain = chain
    this.#directory = directory
    this.cert = pem(certificate)
  }

  async issue(o: IssueOptions = {}): Promise<Issued> {
    const x509 = this.#x509
    const keys = await generateKeys()
    const { names = ['localhost', '127.0.0.1', '::1'], purpose = 'server' } = o
    const facts = common(o)
    const subject = new x509.Name([{ CN: [o.commonName ?? names[0] ?? 'nobody'] }]).toString()
    const certificate = await x509.X509CertificateGenerator.create({
      ...facts,
      subject,
      issuer: o.selfSigned ? subject : this.#certificate.subject,
      publicKey: keys.publicKey as never,
      signingKey: (o.selfSigned ? keys : this.#keys).privateKey as never,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension(usages(x509, purpose)),
        ...(names.length === 0
          ? []
          : [
              new x509.SubjectAlternativeNameExtension(
                names.map((value) => ({ type: isIP(value) === 0 ? ('dns' as const) : ('ip' as const), value })),
              ),
            ]),
        await x509.AuthorityKeyIdentifierExtension.create((o.selfSigned ? keys : this.#keys).publicKey as never),
      ],
    })
    return { cert: pem(certificate) + (o.selfSigned ? '' : this.#chain), key: keyPem(keys, o), serialNumber: facts.serialNumber }
  }

  async issueFiles(name: string, o: IssueOptions = {}): Promise<IssuedFiles> {
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name) || name.startsWith('authority')) {
      throw outOfRange('name', "letters, digits, '.', '_', '-', not beginning with 'authority'", name)
    }
    if (this.#directory === undefined) throw outOfRange('directory', 'given to developmentAuthority', undefined)
    const files: IssuedFiles = {
      ca: join(this.#directory, 'authority.pem'),
      cert: join(this.#directory, `${name}.pem`),
      key: join(this.#directory, `${name}-key.pem`),
    }
    if (this.#stillGood(files, o)) return files
    const { cert, key } = await this.issue(o)
    writePrivate(files.key, key)
    writePrivate(files.cert, cert)
    return files
  }

  #stillGood(files: IssuedFiles, o: IssueOptions): boolean {
    if (!existsSync(files.cert) || !existsSync(files.key)) return false
    try {
      const leaf = new X509Certificate(readFileSync(files.cert))
      const key = createPrivateKey({ key: readFileSync(files.key), ...(o.passphrase !== undefined && { passphrase: o.passphrase }) })
      const issuer = new X509Certificate(this.cert)
      const names = alternativeNames(leaf.raw)
      const wanted = o.names ?? ['localhost', '127.0.0.1', '::1']
      const usable = usages(this.#x509, o.purpose ?? 'server').every((usage) => leaf.keyUsage?.includes(usage))
      const named = wanted.every((name) => (name.startsWith('*.') ? names.dns.includes(name) : matchesIdentity(names, name)))
      return leaf.checkPrivateKey(key) && leaf.verify(issuer.publicKey) && Date.parse(leaf.validTo) > Date.now() + DAY && usable && named
    } catch {
      // Whatever is wrong with the files: they are made anew.
      return false
    }
  }

  async intermediate(o: { name?: string; pathLength?: number; validFrom?: number; validTo?: number } = {}): Promise<Authority> {
    const x509 = this.#x509
    const keys = await generateKeys()
    const facts = common(o)
    // An authority of the same name as its issuer would not count in the length of a path (RFC 5280 section 6.1).
    const name = o.name ?? `fairlead development intermediate ${facts.serialNumber.slice(0, 8)}`
    const certificate = await x509.X509CertificateGenerator.create({
      ...facts,
      subject: new x509.Name([{ CN: [name] }]).toString(),
      issuer: this.#certificate.subject,
      publicKey: keys.publicKey as never,
      signingKey: this.#keys.privateKey as never,
      extensions: [
        ...(await authorityExtensions(x509, keys, o.pathLength)),
        await x509.AuthorityKeyIdentifierExtension.create(this.#keys.publicKey as never),
      ],
    })
    return new DevelopmentAuthority(x509, certificate, keys, pem(certificate) + this.#chain, undefined)
  }

  async revoke(serialNumbers: readonly string[], o: { validFrom?: number; validTo?: number } = {}): Promise<string> {
    const now = Date.now()
    const list = await this.#x509.X509CrlGenerator.create({
      issuer: this.#certificate.subject,
      thisUpdate: new Date(o.validFrom ?? now - HOUR),
      nextUpdate: new Date(o.validTo ?? now + 30 * DAY),
      signingAlgorithm: SIGNING,
      signingKey: this.#keys.privateKey as never,
      entries: serialNumbers.map((serialNumber) => ({ serialNumber, revocationDate: new Date(now - HOUR) })),
    })
    return armour('X509 CRL', list.rawData)
  }
}

function usages(x509: Library, purpose: NonNullable<IssueOptions['purpose']>): string[] {
  const { serverAuth, clientAuth, codeSigning } = x509.ExtendedKeyUsage
  return { server: [serverAuth], client: [clientAuth], both: [serverAuth, clientAuth], signing: [codeSigning] }[purpose]
}

async function readAuthority(directory: string): Promise<Authority | undefined> {
  const files = [join(directory, 'authority.pem'), join(directory, 'authority-key.pem')] as const
  if (!files.every((path) => existsSync(path))) return undefined
  try {
    const [cert, key] = files.map((path) => readFileSync(path, 'latin1')) as [string, string]
    const kept = new X509Certificate(cert)
    const privateKey = createPrivateKey(key)
    if (!kept.checkPrivateKey(privateKey) || Date.parse(kept.validTo) < Date.now() + DAY) return undefined
    const x509 = await load()
    const der = privateKey.export({ type: 'pkcs8', format: 'der' })
    const spki = kept.publicKey.export({ type: 'spki', format: 'der' })
    const keys = {
      privateKey: await webcrypto.subtle.importKey('pkcs8', der, EC, true, ['sign']),
      publicKey: await webcrypto.subtle.importKey('spki', spki, EC, true, ['verify']),
    }
    return new DevelopmentAuthority(x509, new x509.X509Certificate(cert), keys, '', directory)
  } catch {
    // Damaged or foreign files are replaced like expired ones.
    return undefined
  }
}

/** Makes the directory, for the owner only, or makes sure that nobody else can have put a key there. */
function privateDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    const found = lstatSync(directory)
    if (!found.isDirectory()) throw new SystemFailure('ENOTDIR', `${directory} is not a directory`, { op: 'developmentAuthority' })
    const { getuid } = process
    if (getuid === undefined) return
    if (found.uid !== getuid()) throw new SystemFailure('EACCES', `${directory} belongs to another user`, { op: 'developmentAuthority' })
    if ((found.mode & 0o022) !== 0) throw new SystemFailure('EACCES', `others may write to ${directory}`, { op: 'developmentAuthority' })
    if ((found.mode & 0o077) !== 0) chmodSync(directory, 0o700)
  } catch (error) {
    throw systemFailure(error, { op: 'developmentAuthority', endpoint: `file:${directory}` })
  }
}

/** Never readable by others, not even for a moment, and never half written. */
function writePrivate(path: string, text: string): void {
  const temporary = `${path}.${randomBytes(6).toString('hex')}`
  try {
    const fd = openSync(temporary, 'wx', 0o600)
    try {
      fchmodSync(fd, 0o600)
      writeSync(fd, text)
    } finally {
      closeSync(fd)
    }
    renameSync(temporary, path)
  } catch (error) {
    throw systemFailure(error, { op: 'developmentAuthority', endpoint: `file:${path}` })
  }
}
