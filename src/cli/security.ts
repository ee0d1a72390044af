/** From options of the command line to settings of TLS. */

import { homedir } from 'node:os'
import { join } from 'node:path'
import { readFileSync } from 'node:fs'
import { type ParsedEndpoint, type ServerTlsOptions, TlsError, type TlsOptions } from '../index.js'
import { type OptionName, type Options, UsageError } from './arguments.js'
import type { Reporter } from './report.js'

/** What clients and servers take alike. */
type Settings = Omit<TlsOptions, 'sessions'>

/** Options that mean nothing without TLS towards the peer. */
const TOWARDS_PEER: readonly OptionName[] = ['insecure', 'ca', 'crl', 'server-name', 'pin', 'client-cert', 'client-key']
const OF_ANY_TLS: readonly OptionName[] = ['alpn', 'min-tls', 'max-tls', 'ciphers', 'allow-truncation']
const OF_LISTENING: readonly OptionName[] = ['require-client-cert', 'client-ca']
const CREDENTIALS: readonly OptionName[] = ['cert', 'key', 'passphrase']

/** Refuses TLS settings where there is no TLS: they would promise a protection that is not there. */
export function checkTlsOptions(options: Options, command: string, sides: { listening: boolean; dialling: boolean }): void {
  const onlyDials = command === 'connect' || command === 'send'
  const idle = [
    ...(sides.dialling ? [] : TOWARDS_PEER),
    ...(sides.listening ? [] : OF_LISTENING),
    ...(sides.dialling || sides.listening ? [] : OF_ANY_TLS),
    ...((onlyDials ? sides.dialling : sides.listening) ? [] : CREDENTIALS),
  ]
  const given = idle.find((name) => options[name] !== undefined)
  if (given === undefined) return
  const where = onlyDials ? 'a tls: endpoint or --starttls' : 'a tls: endpoint on the side it is for'
  throw new UsageError(`--${given} needs ${where}`, command)
}

/** Says on the terminal what was given up. */
export function warnInsecure(options: Options, reporter: Reporter): void {
  if (options.insecure)
    reporter.warn('--insecure: the certificate of the peer is NOT verified; anybody on the way can read and change everything')
}

function shared(options: Options): Settings {
  const { alpn, ciphers } = options
  return {
    ...(alpn !== undefined && { alpn: alpn.split(',').map((name) => name.trim()), alpnRequired: true }),
    ...(options['min-tls'] !== undefined && { minVersion: `TLSv${options['min-tls']}` as 'TLSv1.2' | 'TLSv1.3' }),
    ...(options['max-tls'] !== undefined && { maxVersion: `TLSv${options['max-tls']}` as 'TLSv1.2' | 'TLSv1.3' }),
    ...(ciphers !== undefined && { ciphers }),
    ...(options['allow-truncation'] && { allowTruncation: true }),
  }
}

/** A certificate and its key, which may be in one file. */
function credentials(cert: string | undefined, key: string | undefined, options: Options, command: string): Settings {
  if (cert === undefined && key !== undefined) throw new UsageError('a key needs its certificate: --cert', command)
  if (cert === undefined) return {}
  return { cert, key: key ?? cert, ...(options.passphrase !== undefined && { passphrase: secret(options.passphrase) }) }
}

/** The first line of a file: command lines are seen by everybody on the machine. */
function secret(path: string): string {
  try {
    return readFileSync(path, 'utf8').split(/\r?\n/)[0] as string
  } catch (error) {
    throw new TlsError('MISSING_FILE', `the passphrase file cannot be read: ${(error as Error).message}`, { cause: error })
  }
}

/** What may stand before a pin. A digest of its own can begin with a slash: only its 44 characters tell which is whose. */
const ALGORITHM = /^sha256(?:\/\/?|:)(?=.{44}$)/i

/** For the side that dials. In a relay `--cert` is for the listening side, and `--client-cert` for this one. */
export function clientTls(options: Options, command: 'connect' | 'relay' | 'send'): TlsOptions {
  const { ca, crl, pin } = options
  const [cert, key] = command === 'relay' ? [options['client-cert'], options['client-key']] : [options.cert, options.key]
  const serverName = options['server-name']
  return {
    ...shared(options),
    ...credentials(cert, key, options, command),
    ...(options.insecure && { verify: false }),
    ...(ca !== undefined && { ca }),
    ...(crl !== undefined && { crl }),
    ...(serverName !== undefined && { serverName }),
    ...(pin !== undefined && { pins: pin.map((spelled) => spelled.replace(ALGORITHM, '')) }),
  }
}

/** Where certificates made on the spot are kept. */
export function stateDirectory(options: Options): string {
  return options.state ?? join(process.env['XDG_STATE_HOME'] || join(homedir(), '.local', 'state'), 'fairlead')
}

export interface Made {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

/** A certificate for this machine, from an authority that is made on first use. */
export async function developmentCertificate(options: Options, host?: string): Promise<Made> {
  // Loaded when first needed: most runs of the program make no certificate.
  const { developmentAuthority } = await import('../testing/index.js')
  const authority = await developmentAuthority({ directory: join(stateDirectory(options), 'authority') })
  const own = host === undefined || ['localhost', '127.0.0.1', '::1', '0.0.0.0', '::'].includes(host)
  const names = ['localhost', '127.0.0.1', '::1', ...(own ? [] : [host])]
  return authority.issueFiles(own ? 'localhost' : host.replace(/[^\w.-]/g, '_'), { names })
}

/** For the side that listens; without `--cert` a certificate is made, and it is said how clients verify it. */
export async function serverTls(
  options: Options,
  endpoint: ParsedEndpoint,
  command: string,
  reporter: Reporter,
): Promise<ServerTlsOptions> {
  const given = credentials(options.cert, options.key, options, command)
  const clients = clientCertificates(options, command)
  if (given.cert !== undefined) return { ...shared(options), ...given, ...clients }
  const { ca, cert, key } = await developmentCertificate(options, 'host' in endpoint ? endpoint.host : undefined)
  reporter.say(`no --cert: using a development certificate; clients verify it with --ca ${ca}`)
  reporter.event('certificate', { ca, cert })
  return { ...shared(options), cert, key, ...clients }
}

function clientCertificates(options: Options, command: string): ServerTlsOptions {
  const ca = options['client-ca']
  if (!options['require-client-cert']) return ca === undefined ? {} : { ca, clientCert: 'request' }
  if (ca === undefined) throw new UsageError('--require-client-cert needs --client-ca, the authorities to verify clients by', command)
  return { ca, clientCert: 'require' }
}
