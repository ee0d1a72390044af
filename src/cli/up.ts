/** `fairlead up`: the talk service on every transport, with commands to try it with. */

import { chmodSync, mkdirSync, realpathSync } from 'node:fs'
import { delimiter, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  type DatagramSocket,
  formatEndpoint,
  type ParsedEndpoint,
  parseEndpoint,
  type ServeOptions,
  type Server,
  SystemFailure,
} from '../index.js'
import type { Invocation, Options } from './arguments.js'
import { print } from './report.js'
import { drained, interrupted } from './serving.js'
import { MOST_GUESTS, Room } from './room.js'
import { developmentCertificate, type Made, stateDirectory } from './security.js'
import type { Session } from './session.js'
import { talk } from './talk.js'
import { DatagramTalk } from './talk-datagrams.js'

export async function upCommand({ options }: Invocation, session: Session): Promise<number> {
  const { network, reporter, signal } = session
  const made = await developmentCertificate(options)
  const idle = options['idle-timeout']
  const serving: ServeOptions = {
    tls: { cert: made.cert, key: made.key },
    ...(idle !== undefined && { defaults: { idle } }),
    limits: { connections: options.limit ?? MOST_GUESTS },
  }
  const room = new Room(() => network.clock.now())
  const server = await serveSomewhere(session, await wanted(options), serving, talk(room))
  const socket = await bindSomewhere(session, `udp://${authorityOf(options)}:${options['udp-port'] ?? 7002}`)
  const talking = new DatagramTalk(socket, room, network.clock, { idle, limit: options.limit }).serve(signal)
  const endpoints = inOrder(server, socket)
  for (const endpoint of endpoints) reporter.event('listening', { endpoint })
  reporter.event('certificate', { ca: made.ca })
  if (!reporter.json) void print(welcome(endpoints, made))
  await Promise.race([interrupted(signal), talking])
  await Promise.all([drained(session, server), talking])
  return 0
}

/** The ports before the path. */
function inOrder({ endpoints }: Server, { endpoint }: DatagramSocket): string[] {
  return [...endpoints.slice(0, 2), endpoint, ...endpoints.slice(2)]
}

function authorityOf({ host = '127.0.0.1' }: Options): string {
  return host.includes(':') && !host.startsWith('[') ? `[${host}]` : host
}

async function wanted(options: Options): Promise<string[]> {
  const authority = authorityOf(options)
  return [
    `tcp://${authority}:${options['tcp-port'] ?? 7000}`,
    `tls://${authority}:${options['tls-port'] ?? 7001}`,
    formatEndpoint({ transport: 'unix', path: socketPath(options) }),
  ]
}

/** In a directory that only its owner may enter. */
function socketPath(options: Options): string {
  if (options.socket !== undefined) return options.socket.startsWith('@') ? `./${options.socket}` : options.socket
  const runtime = process.env['XDG_RUNTIME_DIR']
  const directory = options.state === undefined && runtime ? join(runtime, 'fairlead') : resolve(stateDirectory(options))
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  chmodSync(directory, 0o700)
  return join(directory, 'talk.sock')
}

/** Serves at all of `endpoints`; in place of one that is taken, at the next best. */
async function serveSomewhere(
  session: Session,
  endpoints: readonly string[],
  serving: ServeOptions,
  handler: ReturnType<typeof talk>,
): Promise<Server> {
  const rest = [...endpoints]
  for (;;) {
    try {
      return await session.network.serve(rest, serving, handler)
    } catch (error) {
      if (!(error instanceof SystemFailure && error.code === 'EADDRINUSE')) throw error
      const i = rest.findIndex((endpoint) => formatEndpoint(endpoint) === error.endpoint)
      if (i < 0 || rest[i] !== endpoints[i]) throw error
      rest[i] = instead(session, rest[i] as string)
    }
  }
}

async function bindSomewhere(session: Session, endpoint: string): Promise<DatagramSocket> {
  try {
    return await session.network.bind(endpoint)
  } catch (error) {
    if (!(error instanceof SystemFailure && error.code === 'EADDRINUSE')) throw error
    return session.network.bind(instead(session, endpoint))
  }
}

/** Says that an endpoint is taken, and gives the next best. */
function instead({ reporter }: Session, taken: string): string {
  const endpoint = parseEndpoint(taken)
  const other = formatEndpoint(
    'port' in endpoint ? { ...endpoint, port: 0 } : { ...endpoint, path: endpoint.path.replace(/(?:\.sock)?$/, `-${process.pid}.sock`) },
  )
  reporter.say(`${taken} is taken; using ${'port' in endpoint ? 'a free port' : other}`)
  return other
}

function welcome(endpoints: readonly string[], { ca }: Made): string {
  const self = ownCommand()
  const blocks = endpoints.map((endpoint) => {
    const parsed = parseEndpoint(endpoint)
    const note = parsed.transport === 'udp' ? '   (the first line you send lets you in)' : ''
    return [`  ${endpoint}${note}`, ...commandsFor(parsed, ca, self).map((command) => `      ${command}`)].join('\n')
  })
  return [
    'The talk service is up: every line that one sends, everybody else gets.',
    'Join it from two other terminals, by any of these:',
    '',
    blocks.join('\n\n'),
    '',
    `The certificate is for localhost; its authority is ${ca}`,
    'Ctrl-C ends it.',
    '',
  ].join('\n')
}

/** What joins the talk at an endpoint, as it can be pasted into a shell. */
export function commandsFor(endpoint: ParsedEndpoint, ca: string, self: string): string[] {
  if (!('port' in endpoint)) {
    const path = shellWord(endpoint.path)
    return [
      `${self} connect ${shellWord(formatEndpoint(endpoint))}`,
      `nc -U ${path}`,
      `socat - ${shellWord(`UNIX-CONNECT:${socatWord(endpoint.path)}`)}`,
    ]
  }
  const { host = '127.0.0.1', port } = endpoint
  const address = host.includes(':') ? `[${host}]` : host
  const trust = shellWord(ca)
  if (endpoint.transport === 'tcp') {
    return [
      `${self} connect ${shellWord(formatEndpoint(endpoint))}`,
      `nc ${shellWord(host)} ${port}`,
      `socat - ${shellWord(`TCP:${address}:${port}`)}`,
    ]
  }
  if (endpoint.transport === 'udp') {
    return [
      `${self} connect ${shellWord(formatEndpoint(endpoint))}`,
      `nc -u ${shellWord(host)} ${port}`,
      `socat - ${shellWord(`UDP:${address}:${port}`)}`,
    ]
  }
  return [
    `${self} connect --ca ${trust} ${shellWord(formatEndpoint(endpoint))}`,
    `openssl s_client -quiet -verify_return_error -verify_hostname localhost -servername localhost -CAfile ${trust} -connect ${shellWord(`${address}:${port}`)}`,
    `socat - ${shellWord(`OPENSSL:${address}:${port},commonname=localhost,snihost=localhost,cafile=${socatWord(ca)}`)}`,
  ]
}

/** How this program is called: by its name where that is what the shell finds, else by its file. */
function ownCommand(): string {
  const file = realpathSync(fileURLToPath(new URL('main.js', import.meta.url)))
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    try {
      if (folder !== '' && realpathSync(join(folder, 'fairlead')) === file) return 'fairlead'
    } catch {
      // Not in this folder.
    }
  }
  return `node ${shellWord(file)}`
}

function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}

/** socat gives these a meaning of their own. */
function socatWord(text: string): string {
  return text.replace(/[\\,:!"'()[\]{}]/g, '\\$&')
}
