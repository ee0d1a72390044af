/**
 * The words with which a client asks for TLS, one dialogue per protocol. Each ends with the server's "go ahead" as the
 * last byte read; anything beyond it is plain text that somebody slipped in, and the upgrade refuses it
 * (CVE-2011-0411).
 */

import { type Connection, TlsError, type Wait } from '../index.js'
import { quote, UsageError } from './arguments.js'

export interface Party {
  /** The name of the server, as a certificate would have it. */
  readonly serverName: string
  readonly wait: Wait
}

type Dialogue = (c: Connection, party: Party) => Promise<void>

const DIALOGUES: Readonly<Record<string, Dialogue>> = { smtp, imap, pop3, ftp, xmpp, postgres, ldap }

/** Asks for TLS in the words of `protocol`; the connection is then ready for `startTls`. @throws TlsError/STARTTLS_REFUSED */
export async function askForTls(protocol: string, c: Connection, party: Party): Promise<void> {
  await (DIALOGUES[protocol] as Dialogue)(c, party)
}

function refused(what: string, answer: string | null): TlsError {
  const said = answer === null ? 'and closed the connection' : `and said ${quote(answer)}`
  return new TlsError('STARTTLS_REFUSED', `the server ${what}, ${said}`, { op: 'starttls', phase: 'tls' })
}

async function line(c: Connection, { wait }: Party): Promise<string | null> {
  return c.readLine({ ...wait, encoding: 'latin1', limit: 4_096, lastUnterminated: true })
}

/** Lines that one answer may have: no honest server needs more to say yes. */
const MOST_LINES = 100

/** The last line of a reply of RFC 5321 §4.2.1 and RFC 959 §4.2, and all of them. */
async function reply(c: Connection, party: Party): Promise<{ code: string; last: string | null; all: string[] }> {
  const all: string[] = []
  for (let last = await line(c, party); last !== null && all.length < MOST_LINES; last = await line(c, party)) {
    all.push(last)
    // FTP lets the lines between the first and the last look like anything.
    if (/^\d{3}(?: |$)/.test(last) && last.slice(0, 3) === all[0]?.slice(0, 3)) return { code: last.slice(0, 3), last, all }
    if (!/^\d{3}-/.test(all[0] as string)) return { code: '', last, all }
  }
  return { code: '', last: all.at(-1) ?? null, all }
}

/** RFC 3207. */
async function smtp(c: Connection, party: Party): Promise<void> {
  const greeting = await reply(c, party)
  if (greeting.code !== '220') throw refused('did not greet as an SMTP server does', greeting.last)
  await c.write(`EHLO ${addressLiteral(c)}\r\n`, party.wait)
  const hello = await reply(c, party)
  if (hello.code !== '250') throw refused('does not speak ESMTP', hello.last)
  if (!hello.all.slice(1).some((word) => /^250[ -]STARTTLS\s*$/i.test(word))) throw refused('does not offer STARTTLS', hello.last)
  await c.write('STARTTLS\r\n', party.wait)
  const ready = await reply(c, party)
  if (ready.code !== '220') throw refused('refused STARTTLS', ready.last)
}

/** RFC 5321 §4.1.3: how a client without a name of its own says hello. */
function addressLiteral(c: Connection): string {
  const { local } = c
  if (local === undefined || local.family === 'unix') return 'localhost'
  return local.family === 'ipv6' ? `[IPv6:${local.address}]` : `[${local.address}]`
}

/** RFC 9051 §6.2.1. */
async function imap(c: Connection, party: Party): Promise<void> {
  const greeting = await line(c, party)
  // After PREAUTH there is no STARTTLS any more: somebody may have put it there to prevent it.
  if (greeting === null || !/^\* OK\b/i.test(greeting)) throw refused('did not greet as an IMAP server that can start TLS', greeting)
  await c.write('a001 STARTTLS\r\n', party.wait)
  let answer = await line(c, party)
  for (let n = 0; answer !== null && answer.startsWith('* ') && n < MOST_LINES; n++) answer = await line(c, party)
  if (answer === null || !/^a001 OK\b/i.test(answer)) throw refused('refused STARTTLS', answer)
}

/** RFC 2595 §4. */
async function pop3(c: Connection, party: Party): Promise<void> {
  const greeting = await line(c, party)
  if (greeting === null || !/^\+OK\b/i.test(greeting)) throw refused('did not greet as a POP3 server does', greeting)
  await c.write('STLS\r\n', party.wait)
  const answer = await line(c, party)
  if (answer === null || !/^\+OK\b/i.test(answer)) throw refused('refused STLS', answer)
}

/** RFC 4217 §4: the control connection. */
async function ftp(c: Connection, party: Party): Promise<void> {
  let greeting = await reply(c, party)
  // 120: ready in some minutes, and then the greeting.
  if (greeting.code === '120') greeting = await reply(c, party)
  if (greeting.code !== '220') throw refused('did not greet as an FTP server does', greeting.last)
  await c.write('AUTH TLS\r\n', party.wait)
  const answer = await reply(c, party)
  if (answer.code !== '234') throw refused('refused AUTH TLS', answer.last)
}

/** RFC 6120 §5. */
async function xmpp(c: Connection, party: Party): Promise<void> {
  // Refused rather than escaped: a name with markup in it is an attempt at something.
  if (/[^\w.:-]/.test(party.serverName))
    throw new UsageError(`--server-name must be a host name, got ${quote(party.serverName)}`, 'connect')
  await c.write(
    `<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='${party.serverName}' version='1.0'>`,
    party.wait,
  )
  const features = await xmlUntil(c, party, /<\/(?:\w+:)?features\s*>$|<(?:\w+:)?features\s*\/>$|<\/(?:\w+:)?stream\s*>$/)
  if (!features.includes('urn:ietf:params:xml:ns:xmpp-tls')) throw refused('does not offer STARTTLS', features)
  await c.write("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", party.wait)
  const answer = await xmlUntil(c, party, /<(?:proceed|failure)\b[^>]*>$/)
  if (!/<proceed\b[^>]*\/>$/.test(answer)) {
    if (!/<proceed\b/.test(answer)) throw refused('refused STARTTLS', answer)
    await xmlUntil(c, party, /<\/proceed\s*>$/)
  }
}

/** Reads tag by tag, so that no byte behind the last one is taken. */
async function xmlUntil(c: Connection, { wait }: Party, end: RegExp): Promise<string> {
  let text = ''
  while (text.length < 65_536) {
    const piece = await c.readUntil('>', { ...wait, limit: 16_384 })
    if (piece === null) throw refused('did not answer as an XMPP server does', text === '' ? null : text)
    text += `${Buffer.from(piece).toString('latin1')}>`
    if (end.test(text)) return text
  }
  throw refused('did not answer as an XMPP server does', text.slice(0, 80))
}

/** SSLRequest, PostgreSQL protocol 3, §55.2.10: one byte comes back, and CVE-2021-23222 is a second one. */
async function postgres(c: Connection, party: Party): Promise<void> {
  await c.write(Uint8Array.of(0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f), party.wait)
  const answer = await c.readExactly(1, party.wait)
  if (answer?.[0] === 0x53) return
  // 'E' begins an error message of servers that know no TLS at all; 'N' is a plain no.
  throw refused('does not offer TLS', answer === null ? null : String.fromCharCode(answer[0] as number))
}

const STARTTLS_OID = '1.3.6.1.4.1.1466.20037'

/** RFC 4511 §4.14: an extended request, and the extended response with result code 0. */
async function ldap(c: Connection, party: Party): Promise<void> {
  const name = new TextEncoder().encode(STARTTLS_OID)
  const request = [0x02, 0x01, 0x01, 0x77, name.length + 2, 0x80, name.length, ...name]
  await c.write(Uint8Array.of(0x30, request.length, ...request), party.wait)
  const head = await c.readExactly(2, party.wait)
  if (head === null || head[0] !== 0x30) throw refused('did not answer as an LDAP server does', head && hex(head))
  const body = await c.readExactly(await berLength(c, head[1] as number, party), party.wait)
  const result = body && ldapResult(body)
  if (result === 0) return
  throw refused(
    result === undefined ? 'did not answer as an LDAP server does' : `refused StartTLS with result code ${result}`,
    body && hex(body),
  )
}

/** A length of X.690 §8.1.3; an answer to this request never needs more than 64 KiB. */
async function berLength(c: Connection, first: number, { wait }: Party): Promise<number> {
  if (first < 0x80) return first
  const count = first & 0x7f
  if (count === 0 || count > 2) throw refused('did not answer as an LDAP server does', `a length of ${count} bytes`)
  const bytes = (await c.readExactly(count, wait)) ?? new Uint8Array()
  return bytes.reduce((sum, byte) => sum * 256 + byte, 0)
}

/** The result code of an extended response to message 1, or undefined if these bytes are none. */
function ldapResult(body: Uint8Array): number | undefined {
  if (body[0] !== 0x02 || body[1] !== 1 || body[2] !== 1 || body[3] !== 0x78) return undefined
  const long = (body[4] as number) >= 0x80 ? (body[4] as number) & 0x7f : 0
  const at = 5 + long
  return body[at] === 0x0a && body[at + 1] === 1 ? body[at + 2] : undefined
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.subarray(0, 32)).toString('hex')
}
