/** What a client says in its first message of a handshake (RFC 8446, section 4.1.2), before anything is decided. */

import type { Connection, Wait } from '../index.js'

/** What a ClientHello asks for. */
export interface HelloExtensions {
  /** The name of the server. */
  readonly sni?: string
  /** Application protocols, the preferred first. */
  readonly alpn?: readonly string[]
  /** Versions, as `tlsv1.3`; absent from clients that speak nothing newer than 1.2. */
  readonly client_hello_versions?: readonly string[]
}

const HANDSHAKE = 22
const CLIENT_HELLO = 1
const SERVER_NAME = 0
const ALPN = 16
const SUPPORTED_VERSIONS = 43
/** A ClientHello longer than this is none that anybody sends. */
const LONGEST = 64 * 1024
const VERSIONS: Readonly<Record<number, string>> = { 0x0301: 'tlsv1', 0x0302: 'tlsv1.1', 0x0303: 'tlsv1.2', 0x0304: 'tlsv1.3' }

/** Waits for a ClientHello and reads it, consuming nothing; undefined for what is none. */
export async function peekHello(connection: Connection, wait: Wait): Promise<HelloExtensions | undefined> {
  const body: number[] = []
  for (let at = 0; at < LONGEST;) {
    const header = await connection.peek(at + 5, wait)
    if (header === null || header.length < at + 5 || header[at] !== HANDSHAKE) return undefined
    const length = wordAt(header, at + 3)
    const record = await connection.peek(at + 5 + length, wait)
    if (record === null || record.length < at + 5 + length) return undefined
    body.push(...record.subarray(at + 5, at + 5 + length))
    at += 5 + length
    if (body.length < 4) continue
    if (body[0] !== CLIENT_HELLO) return undefined
    const size = ((body[1] as number) << 16) | ((body[2] as number) << 8) | (body[3] as number)
    if (body.length >= 4 + size) return extensionsOf(Uint8Array.from(body.slice(4, 4 + size)))
  }
  return undefined
}

function wordAt(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)
}

/** What stands in the hello, which is not checked: the handshake will do that. */
function extensionsOf(hello: Uint8Array): HelloExtensions {
  // Version and random, then the session, the cipher suites and the compression methods, each behind its length.
  let at = 34
  at += 1 + (hello[at] ?? 0)
  at += 2 + wordAt(hello, at)
  at += 1 + (hello[at] ?? 0)
  const end = Math.min(hello.length, at + 2 + wordAt(hello, at))
  at += 2
  let found: HelloExtensions = {}
  while (at + 4 <= end) {
    const [type, length] = [wordAt(hello, at), wordAt(hello, at + 2)]
    const data = hello.subarray(at + 4, at + 4 + length)
    at += 4 + length
    if (type === SERVER_NAME) found = { ...found, sni: textOf(data.subarray(5, 5 + wordAt(data, 3))) }
    else if (type === ALPN) found = { ...found, alpn: protocolsOf(data.subarray(2)) }
    else if (type === SUPPORTED_VERSIONS) found = { ...found, client_hello_versions: versionsOf(data.subarray(1)) }
  }
  return found
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1')
}

function protocolsOf(list: Uint8Array): string[] {
  const found: string[] = []
  for (let at = 0; at < list.length; at += 1 + (list[at] as number))
    found.push(textOf(list.subarray(at + 1, at + 1 + (list[at] as number))))
  return found
}

function versionsOf(list: Uint8Array): string[] {
  const found: string[] = []
  for (let at = 0; at + 1 < list.length; at += 2) {
    const name = VERSIONS[wordAt(list, at)]
    if (name !== undefined) found.push(name)
  }
  return found
}
