/** Cipher suites as `ssl` has them: what they are made of, their names, and lists of them. */

import { DEFAULT_CIPHERS, getCiphers } from 'node:tls'
import { Exit } from './erlang-process.js'
import type { Failure, Ok } from './erlang-terms.js'
import type { ProtocolVersion } from './erlang-tls.js'

/** `any` is TLS 1.3, which agrees on keys apart from the suite. */
export type KeyExchange =
  | 'any'
  | 'ecdhe_ecdsa'
  | 'ecdhe_rsa'
  | 'ecdhe_psk'
  | 'dhe_rsa'
  | 'dhe_psk'
  | 'rsa'
  | 'rsa_psk'
  | 'psk'
  | 'srp_rsa'
  | 'srp_anon'
export type SuiteCipher = `aes_${128 | 256}_${'gcm' | 'ccm' | 'ccm_8' | 'cbc'}` | 'chacha20_poly1305'
export type SuiteMac = 'aead' | 'sha' | 'sha256' | 'sha384'
export type SuitePrf = 'default_prf' | 'sha256' | 'sha384'

/** A cipher suite: the map of the original. */
export interface CipherSuite {
  readonly key_exchange: KeyExchange
  readonly cipher: SuiteCipher
  readonly mac: SuiteMac
  readonly prf: SuitePrf
}

/** Which suites: those a test says yes to for the part that is named. */
export type SuiteFilter = readonly [part: keyof CipherSuite, test: (value: KeyExchange | SuiteCipher | SuiteMac | SuitePrf) => boolean]

interface Known {
  readonly suite: CipherSuite
  /** By the names of IANA and of OpenSSL. */
  readonly iana: string
  readonly openssl: string
}

let table: readonly Known[] | undefined

/** The suites of the TLS library, those that Node prefers first. */
function known(): readonly Known[] {
  if (table !== undefined) return table
  const names = getCiphers().map((name) => name.toUpperCase())
  const preferred = DEFAULT_CIPHERS.split(':').filter((name) => names.includes(name))
  return (table = [...new Set([...preferred, ...names])].flatMap((openssl) => {
    const iana = ianaName(openssl)
    const suite = iana === undefined ? undefined : suiteOf(iana)
    return suite === undefined ? [] : [{ suite, iana: iana as string, openssl }]
  }))
}

/** `ECDHE-RSA-AES128-SHA` as `TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA`, which says all that the short name leaves out. */
function ianaName(openssl: string): string | undefined {
  if (openssl.startsWith('TLS_')) return openssl
  const parts = /^(?:([A-Z]+(?:-[A-Z]+)?)-)?(?:AES-?(128|256)(?:-(GCM|CBC|CCM8?))?|CHACHA20-POLY1305)(?:-(SHA(?:256|384)?))?$/.exec(openssl)
  if (parts === null) return undefined
  const [, exchange = 'RSA', bits, mode = 'CBC', hash] = parts
  const keys = exchange.replace(/^SRP/, 'SRP-SHA').replace('-', '_').replace('-', '_')
  const cipher = bits === undefined ? 'CHACHA20_POLY1305_SHA256' : `AES_${bits}_${mode.replace('CCM8', 'CCM_8')}`
  return `TLS_${keys}_WITH_${cipher}${hash === undefined ? '' : `_${hash}`}`
}

const EXCHANGES: Readonly<Record<string, KeyExchange>> = { SRP_SHA: 'srp_anon', SRP_SHA_RSA: 'srp_rsa' }

function suiteOf(iana: string): CipherSuite | undefined {
  const parts = /^TLS_(?:(\w+)_WITH_)?((?:AES_(?:128|256)_(?:GCM|CCM_8|CCM|CBC))|CHACHA20_POLY1305)(?:_(SHA(?:256|384)?))?$/.exec(iana)
  if (parts === null) return undefined
  const [, exchange, cipher = '', hash] = parts
  const key_exchange = exchange === undefined ? 'any' : (EXCHANGES[exchange] ?? (exchange.toLowerCase() as KeyExchange))
  const hashed = hash?.toLowerCase() as 'sha' | 'sha256' | 'sha384' | undefined
  const mac = cipher.endsWith('CBC') ? (hashed as SuiteMac) : 'aead'
  // Suites that are older than TLS 1.2 have the hash that its version says, whatever they sign with (RFC 5246).
  const older = hashed === undefined || hashed === 'sha' || (mac === 'sha256' && /^(?:dhe_rsa|rsa|rsa_psk)$/.test(key_exchange))
  return { key_exchange, cipher: cipher.toLowerCase() as SuiteCipher, mac, prf: older ? 'default_prf' : (hashed as SuitePrf) }
}

function same(one: CipherSuite, other: CipherSuite): boolean {
  return one.key_exchange === other.key_exchange && one.cipher === other.cipher && one.mac === other.mac && one.prf === other.prf
}

function find(which: unknown): Known | undefined {
  if (typeof which === 'string') return known().find(({ iana, openssl }) => which === iana || which === openssl)
  return isSuite(which) ? known().find(({ suite }) => same(suite, which)) : undefined
}

/** The name that OpenSSL has for a suite or for another name of it; undefined for what is none that is known. @internal */
export function opensslName(which: unknown): string | undefined {
  return find(which)?.openssl
}

/** The suite of a connection, by its IANA name; the name itself for one that has no form here. @internal */
export function suiteByName(name: string): CipherSuite | string {
  return find(name)?.suite ?? name
}

const ORDER: readonly ProtocolVersion[] = ['tlsv1', 'tlsv1.1', 'tlsv1.2', 'tlsv1.3']

/** The first version that has a suite. */
function since({ key_exchange, mac }: CipherSuite): ProtocolVersion {
  return key_exchange === 'any' ? 'tlsv1.3' : mac === 'sha' ? 'tlsv1' : 'tlsv1.2'
}

/** Suites in which the server shows no certificate. */
const ANONYMOUS: ReadonlySet<KeyExchange> = new Set(['psk', 'dhe_psk', 'ecdhe_psk', 'srp_anon'])

export type SuiteKind = 'all' | 'default' | 'anonymous' | 'exclusive' | 'exclusive_anonymous'

/**
 * The cipher suites that can be used with a version: `all` with certificates, those that Node's own list names (`default`), those
 * without certificates (`anonymous`), or those of that version alone (`exclusive`, `exclusive_anonymous`). With `'rfc'` or
 * `'openssl'` their names.
 *
 * ```ts
 * import { ssl } from 'fairlead/erlang'
 *
 * const suites = ssl.filter_cipher_suites(ssl.cipher_suites('default', 'tlsv1.2'), [['mac', (mac) => mac === 'aead']])
 * console.log(suites.some(({ cipher }) => cipher === 'aes_128_gcm')) // true
 * const first = ssl.cipher_suites('exclusive', 'tlsv1.3', 'rfc')[0]
 * console.log(first) // TLS_AES_256_GCM_SHA384
 * ```
 *
 * @returns the list, bare; empty for a kind or version that is none
 */
export function cipher_suites(kind: SuiteKind, version: ProtocolVersion): readonly CipherSuite[]
export function cipher_suites(kind: SuiteKind, version: ProtocolVersion, names: 'rfc' | 'openssl'): readonly string[]
export function cipher_suites(
  kind: SuiteKind,
  version: ProtocolVersion,
  names?: 'rfc' | 'openssl',
): readonly CipherSuite[] | readonly string[] {
  const place = ORDER.indexOf(version)
  const listed = new Set(DEFAULT_CIPHERS.split(':'))
  const found = known().filter(({ suite, openssl }) => {
    const from = ORDER.indexOf(since(suite))
    const anonymous = ANONYMOUS.has(suite.key_exchange)
    switch (kind) {
      case 'all':
        return from <= place && !anonymous
      case 'default':
        return from <= place && listed.has(openssl)
      case 'anonymous':
        return from <= place && anonymous
      case 'exclusive':
        return from === place && !anonymous
      case 'exclusive_anonymous':
        return from === place && anonymous
      default:
        return false
    }
  })
  return names === undefined ? found.map(({ suite }) => suite) : found.map((one) => (names === 'rfc' ? one.iana : one.openssl))
}

/**
 * The suite of a name, that of the RFCs or that of OpenSSL.
 *
 * @returns the suite, bare, or `['error', ['not_recognized', Name]]`
 */
export function str_to_suite(name: string): CipherSuite | Failure<readonly ['not_recognized', string]> {
  return (typeof name === 'string' ? find(name)?.suite : undefined) ?? ['error', ['not_recognized', name]]
}

/** The name that the RFCs have for a suite. @returns the name, bare, or `['error', ['not_recognized', Suite]]` */
export function suite_to_str(suite: CipherSuite): string | Failure<readonly ['not_recognized', CipherSuite]> {
  return (isSuite(suite) ? find(suite)?.iana : undefined) ?? ['error', ['not_recognized', suite]]
}

/** The name that OpenSSL has for a suite. @returns the name, bare, or `['error', ['not_recognized', Suite]]` */
export function suite_to_openssl_str(suite: CipherSuite): string | Failure<readonly ['not_recognized', CipherSuite]> {
  return (isSuite(suite) ? find(suite)?.openssl : undefined) ?? ['error', ['not_recognized', suite]]
}

const PARTS: ReadonlySet<unknown> = new Set(['key_exchange', 'cipher', 'mac', 'prf'])

function isFilters(value: unknown): value is readonly SuiteFilter[] {
  const isFilter = (one: unknown) => Array.isArray(one) && one.length === 2 && PARTS.has(one[0]) && typeof one[1] === 'function'
  return Array.isArray(value) && value.every(isFilter)
}

/** Whether it has the form of a suite, be there one or not. @internal */
export function isSuite(value: unknown): value is CipherSuite {
  return typeof value === 'object' && value !== null && [...PARTS].every((part) => Object.hasOwn(value, part as string))
}

function isSuites(value: unknown): value is readonly CipherSuite[] {
  return Array.isArray(value) && value.every(isSuite)
}

function passes(suite: CipherSuite, filters: readonly SuiteFilter[]): boolean {
  return filters.every(([part, test]) => test(suite[part]))
}

/** The suites that pass all of the filters, and that the TLS library has. @returns the list, bare; ends the process with `badarg` for what is none */
export function filter_cipher_suites(suites: readonly CipherSuite[], filters: readonly SuiteFilter[]): readonly CipherSuite[] {
  if (!isSuites(suites) || !isFilters(filters)) throw new Exit('badarg')
  return suites.filter((suite) => find(suite) !== undefined && passes(suite, filters))
}

/** The first are suites, or filters that say which of `suites`. */
function split(
  first: readonly CipherSuite[] | readonly SuiteFilter[],
  suites: readonly CipherSuite[],
): readonly [readonly CipherSuite[], readonly CipherSuite[]] {
  if (!isSuites(suites) || !(isSuites(first) || isFilters(first))) throw new Exit('badarg')
  const chosen = isSuites(first) ? first.filter((suite) => find(suite) !== undefined) : suites.filter((suite) => passes(suite, first))
  return [chosen, suites.filter((suite) => !chosen.some((one) => same(one, suite)))]
}

/** `suites` with the deferred ones, or those that pass the filters, at the end. @returns the list, bare */
export function append_cipher_suites(
  deferred: readonly CipherSuite[] | readonly SuiteFilter[],
  suites: readonly CipherSuite[],
): readonly CipherSuite[] {
  const [chosen, others] = split(deferred, suites)
  return [...others, ...chosen]
}

/** `suites` with the preferred ones, or those that pass the filters, in front. @returns the list, bare */
export function prepend_cipher_suites(
  preferred: readonly CipherSuite[] | readonly SuiteFilter[],
  suites: readonly CipherSuite[],
): readonly CipherSuite[] {
  const [chosen, others] = split(preferred, suites)
  return [...chosen, ...others]
}

/** All cipher suites with certificates up to TLS 1.2, as the old module had them. @returns `['ok', Names]`, OpenSSL's, joined with colons */
export function ciphers(): Ok<string> {
  return ['ok', cipher_suites('all', 'tlsv1.2', 'openssl').join(':')]
}
