/** What can stand where an endpoint is wanted: network endpoints, and ends on this machine. */

import {
  type Address,
  AddressError,
  type Connection,
  formatAddress,
  type Network,
  type ParsedEndpoint,
  parseEndpoint,
  printable,
} from '../index.js'
import { nearestWord, type Options, quote, UsageError } from './arguments.js'
import type { JoinReport, Stream } from './join.js'
import { descriptor, type Exit, fileToReceive, fileToSend, program, standardStreams } from './local.js'
import { clientTls } from './security.js'
import { askForTls } from './starttls.js'

export type Place =
  | { readonly kind: 'network'; readonly text: string; readonly endpoint: ParsedEndpoint }
  | { readonly kind: 'stdio'; readonly text: string }
  | { readonly kind: 'exec'; readonly text: string; readonly command: string }
  | { readonly kind: 'file'; readonly text: string; readonly path: string }
  | { readonly kind: 'fd'; readonly text: string; readonly fd: number }

export type LocalPlace = Exclude<Place, { kind: 'network' }>
export type NetworkPlace = Extract<Place, { kind: 'network' }>

const SCHEMES = ['tcp', 'tls', 'unix', 'tls+unix', 'udp', 'stdio', 'exec', 'file', 'fd']

/** @throws AddressError that names the bad part */
export function parsePlace(text: string): Place {
  if (text === '-') return { kind: 'stdio', text: 'stdio:' }
  const [, scheme = '', rest = ''] = /^([A-Za-z][A-Za-z0-9+.-]*):(.*)$/s.exec(text) ?? []
  switch (scheme.toLowerCase()) {
    case 'stdio':
      if (rest !== '') throw bad('BAD_ENDPOINT', `unexpected ${quote(rest)}`, text, 'stdio: alone')
      return { kind: 'stdio', text }
    case 'exec':
      if (rest.trim() === '') throw bad('BAD_ENDPOINT', 'no command', text, 'exec:COMMAND')
      return { kind: 'exec', text, command: rest }
    case 'file':
      if (rest === '' || rest.includes('\0')) throw bad('BAD_PATH', rest === '' ? 'no path' : 'a NUL in the path', text, 'file:PATH')
      return { kind: 'file', text, path: rest.startsWith('//') ? rest.slice(rest.startsWith('///') ? 2 : 0) : rest }
    case 'fd':
      if (!/^\d{1,6}$/.test(rest))
        throw bad('BAD_ENDPOINT', `bad descriptor ${quote(rest)}`, text, 'fd:N with the number of an open descriptor')
      return { kind: 'fd', text, fd: Number(rest) }
    default:
      return { kind: 'network', text, endpoint: networkEndpoint(text, scheme) }
  }
}

function networkEndpoint(text: string, scheme: string): ParsedEndpoint {
  try {
    return parseEndpoint(text)
  } catch (error) {
    const near = nearestWord(scheme.toLowerCase(), SCHEMES)
    if (error instanceof AddressError && error.code === 'BAD_SCHEME' && !error.message.includes('did you mean') && near) {
      throw bad('BAD_SCHEME', `unknown scheme ${quote(scheme)}`, text, `one of ${SCHEMES.join(', ')}; did you mean "${near}"?`)
    }
    throw error
  }
}

function bad(code: 'BAD_ENDPOINT' | 'BAD_PATH' | 'BAD_SCHEME', what: string, text: string, expected: string): AddressError {
  return new AddressError(code, `${what} in ${quote(text)}: expected ${expected}`, { endpoint: printable(text), phase: 'parse' })
}

export function networkPlace(text: string, command: string): NetworkPlace {
  const place = parsePlace(text)
  if (place.kind === 'network') return place
  throw new UsageError(`${command} wants a network endpoint first (tcp:, tls:, unix:, tls+unix:, udp:), got ${quote(text)}`, command)
}

export function localPlace(text: string, command: string): LocalPlace {
  const place = parsePlace(text)
  if (place.kind !== 'network') return place
  throw new UsageError(
    `${command} joins a local end (stdio:, exec:, file:, fd:) to the network, got ${quote(text)}; fairlead relay joins two endpoints`,
    command,
  )
}

/** Opens an end on this machine. A file is read or written, as `role` says. */
export function openLocal(place: LocalPlace, role: 'gives' | 'takes', options: Options, peer?: Ends): Stream {
  switch (place.kind) {
    case 'stdio':
      return standardStreams(options.raw ?? false)
    case 'fd':
      return descriptor(place.fd)
    case 'file':
      return role === 'gives' ? fileToSend(place.path) : fileToReceive(place.path)
    case 'exec':
      return program(place.command, surroundings(peer))
  }
}

/** The two addresses of a stream. */
interface Ends {
  readonly local: Address | undefined
  readonly remote: Address | undefined
}

/** What a program learns of the peer it serves. */
function surroundings(peer: Ends | undefined): Record<string, string> {
  const address = (name: string, value: Address | undefined) => (value ? { [name]: formatAddress(value) } : {})
  return { ...address('FAIRLEAD_LOCAL', peer?.local), ...address('FAIRLEAD_REMOTE', peer?.remote) }
}

/** Connects to a network endpoint, in the words of `--starttls` where asked for. */
export async function dial(
  network: Network,
  { endpoint, text }: NetworkPlace,
  options: Options,
  role: 'connect' | 'relay' | 'send',
  signal: AbortSignal,
): Promise<Connection> {
  const secure = endpoint.transport === 'tls' || endpoint.transport === 'tls+unix'
  const { starttls } = options
  if (secure && starttls !== undefined) {
    throw new UsageError(
      `--starttls starts in plain text, but ${quote(text)} is TLS from the first byte; use ${text.replace(/^tls(?:\+(unix))?/, (_, unix) => unix ?? 'tcp')}`,
      role,
    )
  }
  const tls = secure || starttls !== undefined ? clientTls(options, role) : undefined
  const wait = { deadline: Date.now() + (options['connect-timeout'] ?? network.limits.connect), signal }
  const from = options.from === undefined ? {} : { from: options.from }
  const connection = await network.connect(endpoint, { ...wait, ...from, ...(secure && tls && { tls }) })
  if (starttls === undefined || tls === undefined) return connection
  const host = 'host' in endpoint ? endpoint.host : undefined
  const serverName = tls.serverName ?? host
  try {
    await askForTls(starttls, connection, { serverName: serverName ?? 'localhost', wait })
    return await connection.startTls({ ...tls, ...(serverName !== undefined && { serverName }), ...wait, role: 'client' })
  } catch (error) {
    connection.abort(error)
    throw error
  }
}

/** A standard stream that several clients use in turn: it outlives each of them. */
export function lent(stream: Stream): Stream {
  return {
    isOutput: stream.isOutput ?? false,
    read: (o) => stream.read(o),
    write: (data) => stream.write(data),
    end: async () => undefined,
    close: async () => undefined,
    abort: () => undefined,
  }
}

/** Why a program's end counts as a failure, if it does. */
export async function verdictOf(stream: Stream): Promise<Error | undefined> {
  const exited = (stream as { exited?: Promise<Exit> }).exited
  if (exited === undefined) return undefined
  const { code, signal, error } = await exited
  if (error instanceof Error) return error
  if (code === 0) return undefined
  const { name } = stream as { name?: string }
  return new Error(`${name ?? 'the program'} ${signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`}`)
}

/** What came for an end that only gives. */
export function droppedBy(stream: Stream): number {
  return (stream as { dropped?: number }).dropped ?? 0
}

export function summary({ forth, back, outcome }: JoinReport): Record<string, unknown> {
  return { received: forth, sent: back, outcome }
}
