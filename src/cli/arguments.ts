/** What may stand on the command line: a table of options, a table of commands, and the parser that reads them. */

import { nearest, printable } from '../index.js'

type Kind = 'flag' | 'text' | 'list' | 'duration' | 'count' | 'rate'
type Group = 'General' | 'Time' | 'TLS' | 'TLS of the listening side' | 'Talk service' | 'Connection' | 'Datagrams'

interface OptionSpec<K extends Kind = Kind> {
  readonly kind: K
  readonly short?: string
  /** What the value is called in the help; flags have none. */
  readonly value?: string
  readonly help: string
  /** The only values there are. */
  readonly choices?: readonly string[]
  /** The heading it stands under in the help. */
  readonly group: Group
}

/** What was given on the command line. Times are milliseconds. */
export interface Options {
  help?: boolean
  json?: boolean
  quiet?: boolean
  verbose?: boolean
  driver?: string
  raw?: boolean
  keep?: boolean
  from?: string
  starttls?: string
  mode?: string
  limit?: number
  size?: number
  lines?: boolean
  wait?: number
  rate?: number
  drain?: number
  'connect-timeout'?: number
  'idle-timeout'?: number
  timeout?: number
  insecure?: boolean
  ca?: string
  crl?: string
  'server-name'?: string
  cert?: string
  key?: string
  passphrase?: string
  alpn?: string
  pin?: string[]
  'min-tls'?: string
  'max-tls'?: string
  ciphers?: string
  'allow-truncation'?: boolean
  'client-cert'?: string
  'client-key'?: string
  'require-client-cert'?: boolean
  'client-ca'?: string
  state?: string
  host?: string
  'tcp-port'?: number
  'tls-port'?: number
  'udp-port'?: number
  socket?: string
}
export type OptionName = keyof Options
type KindOf<V> = V extends boolean ? 'flag' : V extends string ? 'text' : V extends string[] ? 'list' : 'duration' | 'count' | 'rate'

function flag(group: Group, help: string, short?: string): OptionSpec<'flag'> {
  return { kind: 'flag', group, help, ...(short !== undefined && { short }) }
}
function text(group: Group, value: string, help: string, choices?: readonly string[]): OptionSpec<'text'> {
  return { kind: 'text', group, value, help, ...(choices && { choices }) }
}
function list(group: Group, value: string, help: string): OptionSpec<'list'> {
  return { kind: 'list', group, value, help }
}
function duration(group: Group, help: string): OptionSpec<'duration'> {
  return { kind: 'duration', group, value: 'TIME', help }
}
function count(group: Group, value: string, help: string): OptionSpec<'count'> {
  return { kind: 'count', group, value, help }
}

function rate(group: Group, help: string): OptionSpec<'rate'> {
  return { kind: 'rate', group, value: 'RATE', help }
}

export const STARTTLS: readonly string[] = ['smtp', 'imap', 'pop3', 'ftp', 'xmpp', 'postgres', 'ldap']
const VERSIONS = ['1.2', '1.3']

export const OPTIONS: { readonly [K in OptionName]-?: OptionSpec<KindOf<NonNullable<Options[K]>>> } = {
  help: flag('General', 'show the help of this command', 'h'),
  json: flag('General', 'write events as JSON, one object a line, to standard error'),
  quiet: flag('General', 'say nothing but failures', 'q'),
  verbose: flag('General', 'say more: addresses, TLS facts, every attempt of a failed dial', 'v'),
  driver: text('General', 'NAME', 'what talks to the system: node (default) or kernel', ['node', 'kernel']),

  raw: flag('Connection', 'write what the peer sends as it is, even to a terminal'),
  keep: flag('Connection', 'go on with the next client when one is done', 'k'),
  from: text('Connection', 'ENDPOINT', 'connect from this local address, tcp://192.0.2.7:0'),
  starttls: text('Connection', 'PROTOCOL', `ask for TLS in the words of a protocol: ${STARTTLS.join(', ')}`, STARTTLS),
  mode: text('Connection', 'OCTAL', 'permissions of a UNIX socket that is made (default 600)'),
  limit: count('Connection', 'N', 'most connections at a time (default 10000, of up 1000), or clients of udp: (1000, with exec: 100)'),
  drain: duration('Connection', 'how long connections may take to end after Ctrl-C (default 5s)'),

  size: count('Datagrams', 'BYTES', 'most bytes of a datagram that is made from a stream (default 1200)'),
  lines: flag('Datagrams', 'make a datagram of each line, with its line feed, rather than of each piece as it comes'),
  wait: duration('Datagrams', 'how long to go on receiving once the input has ended and nothing comes (default 1s)'),
  rate: rate('Datagrams', 'bytes a second, 500k or 10M (default 1M); what comes faster than it is taken is lost'),

  'connect-timeout': duration('Time', 'for the look-up, all attempts and TLS together (default 30s)'),
  'idle-timeout': duration('Time', 'without a byte in either direction; for clients of udp:, without a datagram from one (default 60s)'),
  timeout: duration('Time', 'for everything'),

  insecure: flag('TLS', 'do not verify the certificate of the peer; said on the terminal every time'),
  ca: text('TLS', 'FILE', 'trust these authorities: a PEM file, "system" or "bundled" (default)'),
  crl: text('TLS', 'FILE', 'a PEM file of revocation lists'),
  'server-name': text('TLS', 'NAME', 'the name to ask for (SNI) and to verify (default: the host)'),
  cert: text('TLS', 'FILE', 'the certificate to show, with its chain, PEM'),
  key: text('TLS', 'FILE', 'its private key, PEM (default: in the file of --cert)'),
  passphrase: text('TLS', 'FILE', 'a file that holds the passphrase of the key'),
  alpn: text('TLS', 'NAMES', 'application protocols in order of preference, h2,http/1.1; one must be agreed on'),
  pin: list('TLS', 'SHA256', 'the peer must have a key with this hash (SPKI, base64); may be repeated'),
  'min-tls': text('TLS', 'VERSION', 'oldest version to accept (default 1.2)', VERSIONS),
  'max-tls': text('TLS', 'VERSION', 'newest version to accept', VERSIONS),
  ciphers: text('TLS', 'LIST', 'cipher suites in the words of OpenSSL'),
  'allow-truncation': flag('TLS', 'take an end without close_notify for an end'),

  'client-cert': text('TLS', 'FILE', 'the certificate to show to B'),
  'client-key': text('TLS', 'FILE', 'its private key'),
  'require-client-cert': flag('TLS of the listening side', 'refuse clients without a certificate that --client-ca vouches for'),
  'client-ca': text('TLS of the listening side', 'FILE', 'the authorities of client certificates, PEM'),

  state: text('Talk service', 'DIR', 'where the certificate is kept (default $XDG_STATE_HOME/fairlead)'),
  host: text('Talk service', 'ADDRESS', 'the address to listen at (default 127.0.0.1)'),
  'tcp-port': count('Talk service', 'PORT', 'default 7000; another one if that is taken'),
  'tls-port': count('Talk service', 'PORT', 'default 7001; another one if that is taken'),
  'udp-port': count('Talk service', 'PORT', 'default 7002; another one if that is taken'),
  socket: text('Talk service', 'PATH', 'the UNIX socket (default in $XDG_RUNTIME_DIR, else in the state directory)'),
}

export interface Command {
  readonly name: string
  readonly summary: string
  readonly about: string
  readonly operands: readonly { readonly name: string; readonly help: string; readonly optional?: boolean }[]
  readonly options: readonly OptionName[]
  /** What for, and the command. */
  readonly examples: readonly (readonly [string, string])[]
}

const GENERAL: readonly OptionName[] = ['json', 'quiet', 'verbose', 'driver', 'help']
const TIME: readonly OptionName[] = ['connect-timeout', 'idle-timeout', 'timeout']
const TRUST: readonly OptionName[] = [
  'insecure',
  'ca',
  'crl',
  'server-name',
  'alpn',
  'pin',
  'min-tls',
  'max-tls',
  'ciphers',
  'allow-truncation',
]
const CREDENTIALS: readonly OptionName[] = ['cert', 'key', 'passphrase']
const CLIENTS: readonly OptionName[] = ['require-client-cert', 'client-ca']

const LOCAL = 'stdio: (default), exec:COMMAND, file:PATH or fd:N'

export const COMMANDS: readonly Command[] = [
  {
    name: 'up',
    summary: 'run the talk service on TCP, TLS, UDP and UNIX, to try things with',
    about:
      'Every line that one sends, everybody else gets. Prints the endpoints and commands to try them with. ' +
      'The certificate is made on first use. Ctrl-C drains, a second one ends at once.',
    operands: [],
    options: ['host', 'tcp-port', 'tls-port', 'udp-port', 'socket', 'state', 'limit', 'idle-timeout', 'drain', ...GENERAL],
    examples: [
      ['run it', 'fairlead up'],
      ['on ports the system picks', 'fairlead up --tcp-port 0 --tls-port 0 --udp-port 0'],
    ],
  },
  {
    name: 'connect',
    summary: 'join standard input and output to an endpoint',
    about:
      'Ends when both directions have ended; an end goes through at once, whatever the other direction is doing. ' +
      'To udp: each read of the input is a datagram of at most --size bytes, which at a terminal is a line; nc -u and socat do the same. ' +
      'Datagrams have no end: the command ends once the input has ended and nothing comes for --wait.',
    operands: [
      { name: 'ENDPOINT', help: 'tcp://host:port, tls://host:port, udp://host:port, unix:/path, unix:@name, tls+unix:/path' },
      { name: 'LOCAL', help: `what to join to it: ${LOCAL}; a file is sent`, optional: true },
    ],
    options: ['starttls', 'from', 'raw', 'size', 'lines', 'wait', ...TIME, ...TRUST, ...CREDENTIALS, ...GENERAL],
    examples: [
      ['talk to a server', 'fairlead connect tcp://127.0.0.1:7000'],
      ['over TLS, with an authority of your own', 'fairlead connect --ca ca.pem tls://localhost:7001'],
      ['a mail server that starts in plain text', 'fairlead connect --starttls smtp tcp://mail.example.org:587'],
      ['with a client certificate', 'fairlead connect --cert me.pem --key me.key tls://internal.example.org:443'],
      ['a question in one datagram, and what comes back', "printf 'stats' | fairlead connect --wait 300ms udp://127.0.0.1:11211"],
      ['a log, each line a datagram', 'tail -f app.log | fairlead connect --lines udp://loghost:514'],
    ],
  },
  {
    name: 'listen',
    summary: 'join standard input and output, or a program, to the first client',
    about:
      'Without --keep it serves the first client and ends with it. With --keep clients take turns; with exec: each has a program of its own. ' +
      'At udp: many clients are served at once: everything that comes goes to LOCAL, and the answer to whom we heard from last; ' +
      'with exec: each address has a program, which ends when that falls silent. Without --keep it ends when all have.',
    operands: [
      { name: 'ENDPOINT', help: 'where to listen; port 0 is any free port, an empty host every interface' },
      { name: 'LOCAL', help: `what to join to the client: ${LOCAL}; a file is written`, optional: true },
    ],
    options: [
      'keep',
      'raw',
      'size',
      'lines',
      'mode',
      'limit',
      'drain',
      ...TIME,
      ...CREDENTIALS,
      ...CLIENTS,
      'alpn',
      'min-tls',
      'max-tls',
      'ciphers',
      'state',
      'allow-truncation',
      ...GENERAL,
    ],
    examples: [
      ['wait for one client', 'fairlead listen tcp://127.0.0.1:9000'],
      ['receive a file from fairlead send', 'fairlead listen tcp://:9000 file:photo.jpg'],
      ['a program for each client', "fairlead listen --keep unix:/run/upper.sock 'exec:tr a-z A-Z'"],
      ['everything that is sent to a UDP port', 'fairlead listen --keep udp://:514'],
      ['over TLS with a certificate made on the spot', 'fairlead listen tls://localhost:9001'],
    ],
  },
  {
    name: 'relay',
    summary: 'give each client of A a connection of its own to B',
    about:
      'Serves many clients at once, until Ctrl-C. Where A is tls:, it ends TLS here; where B is tls:, it starts TLS here. ' +
      'Where A is udp:, each address has a socket of its own to B, which must be udp: too, until it falls silent. ' +
      'If A is local (stdio:, exec:, file:, fd:) there is one connection and the command ends with it.',
    operands: [
      { name: 'A', help: 'where to listen, or a local end' },
      { name: 'B', help: 'where to connect, or a local end: exec: starts a program for each client' },
    ],
    options: [
      'limit',
      'mode',
      'starttls',
      'from',
      'drain',
      'raw',
      'size',
      'lines',
      'wait',
      ...TIME,
      ...TRUST,
      ...CREDENTIALS,
      ...CLIENTS,
      'client-cert',
      'client-key',
      'state',
      ...GENERAL,
    ],
    examples: [
      ['a port in front of another', 'fairlead relay tcp://:8080 tcp://127.0.0.1:80'],
      ['TLS in front of a plain server', 'fairlead relay --cert site.pem tls://:443 tcp://127.0.0.1:8080'],
      ['a plain door to a TLS server', 'fairlead relay tcp://127.0.0.1:8080 tls://example.org:443'],
      ['a name server behind another address', 'fairlead relay --idle-timeout 10s udp://:5353 udp://192.0.2.53:53'],
      ['a UNIX socket as a TCP port', 'fairlead relay tcp://127.0.0.1:2375 unix:/var/run/docker.sock'],
    ],
  },
  {
    name: 'send',
    summary: 'carry a file to an endpoint',
    about:
      'Ends with 0 once the peer has ended behind our end, which says that it has taken everything; fairlead listen with file: does ' +
      'so when the file is written, and both tell its size and SHA-256. To udp: the file goes out in datagrams at --rate, which may be lost.',
    operands: [
      { name: 'FILE', help: 'a path; or - for standard input, exec:COMMAND, fd:N' },
      { name: 'ENDPOINT', help: 'tcp://host:port, tls://host:port, unix:/path, tls+unix:/path, udp://host:port' },
    ],
    options: ['starttls', 'from', 'size', 'lines', 'wait', 'rate', ...TIME, ...TRUST, ...CREDENTIALS, ...GENERAL],
    examples: [
      ['a file to fairlead listen tcp://:9000 file:photo.jpg', 'fairlead send photo.jpg tcp://desk.example.org:9000'],
      [
        'over TLS, given up after a minute without progress',
        'fairlead send --idle-timeout 1m --ca ca.pem photo.jpg tls://desk.example.org:9001',
      ],
      ['what a program gives', "fairlead send 'exec:tar cz src' unix:/run/sink.sock"],
      ['in datagrams of 512 bytes, 100 kB a second', 'fairlead send --size 512 --rate 100k firmware.bin udp://192.0.2.7:6900'],
    ],
  },
]

/** The command line asks for something that does not exist. */
export class UsageError extends Error {
  readonly code: string = 'USAGE'
  /** The command whose help answers it. */
  readonly command: string | undefined

  constructor(message: string, command?: string) {
    super(message)
    this.name = 'UsageError'
    this.command = command
  }
}

export interface Invocation {
  readonly command: Command
  readonly operands: readonly string[]
  readonly options: Options
}

/** Reads what stands behind the name of `command`. @throws UsageError */
export function parseArguments(command: Command, args: readonly string[]): Invocation {
  const options: Options = {}
  const operands: string[] = []
  const rest = [...args]
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === '--') {
      operands.push(...rest.splice(0))
    } else if (word.startsWith('--')) {
      const [name = '', inline] = splitOnce(word.slice(2), '=')
      take(command, known(command, name), inline, rest, options)
    } else if (word.length > 1 && word.startsWith('-')) {
      takeShort(command, word, rest, options)
    } else operands.push(word)
  }
  if (options.help !== true) checkOperands(command, operands)
  return { command, operands, options }
}

function splitOnce(word: string, at: string): [string, string | undefined] {
  const i = word.indexOf(at)
  return i < 0 ? [word, undefined] : [word.slice(0, i), word.slice(i + 1)]
}

function known(command: Command, name: string): OptionName {
  if (command.options.includes(name as OptionName)) return name as OptionName
  const where = COMMANDS.filter(({ options }) => options.includes(name as OptionName)).map((other) => other.name)
  if (where.length > 0)
    throw new UsageError(`${command.name} has no option --${name}; ${listed(where)} ${where.length > 1 ? 'have' : 'has'} it`, command.name)
  const near = nearestWord(name, command.options)
  throw new UsageError(`unknown option --${printable(name)}${near ? `; did you mean --${near}?` : ''}`, command.name)
}

/** `up, listen and relay` */
function listed(words: readonly string[]): string {
  return [words.slice(0, -1).join(', '), ...words.slice(-1)].filter((part) => part !== '').join(' and ')
}

/** `-qk` is `-q -k`; no short option takes a value. */
function takeShort(command: Command, word: string, rest: string[], options: Options): void {
  for (const letter of word.slice(1)) {
    const name = command.options.find((option) => OPTIONS[option].short === letter)
    if (name === undefined) {
      const near = nearestWord(word.replace(/^-+/, ''), command.options)
      throw new UsageError(`unknown option ${printable(word)}${near ? `; did you mean --${near}?` : ''}`, command.name)
    }
    take(command, name, undefined, rest, options)
  }
}

function take(command: Command, name: OptionName, inline: string | undefined, rest: string[], options: Options): void {
  const spec: OptionSpec = OPTIONS[name]
  const into = options as Record<OptionName, unknown>
  if (spec.kind === 'flag') {
    if (inline !== undefined) throw new UsageError(`--${name} takes no value`, command.name)
    into[name] = true
    return
  }
  const value = inline ?? rest.shift()
  if (value === undefined) throw new UsageError(`--${name} wants a value: ${spec.value ?? ''}`, command.name)
  if (spec.choices !== undefined && !spec.choices.includes(value)) throw new UsageError(notAChoice(name, value, spec.choices), command.name)
  if (spec.kind === 'list') into[name] = [...((into[name] as string[] | undefined) ?? []), value]
  else if (spec.kind === 'duration') into[name] = parseDuration(name, value, command.name)
  else if (spec.kind === 'rate') into[name] = parseRate(name, value, command.name)
  else if (spec.kind === 'count') into[name] = parseCount(name, value, command.name)
  else into[name] = value
}

function notAChoice(name: OptionName, value: string, choices: readonly string[]): string {
  const near = nearestWord(value, choices)
  return `--${name} must be one of ${choices.join(', ')}, got ${quote(value)}${near ? `; did you mean ${near}?` : ''}`
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** What a timer of the runtime can wait for, in milliseconds; one that is longer would fire at once. */
const LONGEST = 2 ** 31 - 1

/** Milliseconds of `500ms`, `5s`, `1.5m`, `2h`, `1d`; a bare number is seconds. */
function parseDuration(name: string, value: string, command: string): number {
  const [, digits, unit = 's'] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)?$/.exec(value) ?? []
  const milliseconds = Math.round(Number(digits) * (UNITS[unit] as number))
  if (digits === undefined || milliseconds <= 0)
    throw new UsageError(`--${name} must be a time as 500ms, 5s, 2m or 1h, got ${quote(value)}`, command)
  if (milliseconds > LONGEST) throw new UsageError(`--${name} must be at most 24d, got ${quote(value)}`, command)
  return milliseconds
}

/** Bytes of `64k`, `1.5M` or `1G`, powers of 1024 as `dd` has them; a bare number is bytes. */
function parseRate(name: string, value: string, command: string): number {
  const [, digits, unit = ''] = /^(\d+(?:\.\d+)?)([kKmMgG])?$/.exec(value) ?? []
  const bytes = Math.round(Number(digits) * 1024 ** ' kmg'.indexOf(unit.toLowerCase() || ' '))
  if (digits === undefined || bytes <= 0)
    throw new UsageError(`--${name} must be bytes a second as 1200, 500k or 10M, got ${quote(value)}`, command)
  return bytes
}

/** What a number counts, by what it is called in the help. */
const RANGES: Readonly<Record<'PORT' | 'BYTES' | 'N', readonly [least: number, most: number, expected: string]>> = {
  PORT: [0, 65_535, 'a port from 0 to 65535'],
  // What an IPv4 packet holds behind its own header and that of UDP.
  BYTES: [1, 65_507, 'a size from 1 to 65507 bytes'],
  N: [1, 999_999_999, 'a whole number above 0'],
}

function parseCount(name: string, value: string, command: string): number {
  const [least, most, expected] = RANGES[OPTIONS[name as OptionName].value as keyof typeof RANGES]
  const count = /^\d{1,9}$/.test(value) ? Number(value) : Number.NaN
  if (count >= least && count <= most) return count
  throw new UsageError(`--${name} must be ${expected}, got ${quote(value)}`, command)
}

export function quote(value: string): string {
  return `"${printable(value.length > 80 ? `${value.slice(0, 77)}…` : value)}"`
}

function checkOperands(command: Command, operands: readonly string[]): void {
  const missing = command.operands.find(({ optional }, i) => !optional && operands[i] === undefined)
  if (missing) throw new UsageError(`${command.name} wants ${missing.name}: ${missing.help}`, command.name)
  const extra = operands[command.operands.length]
  if (extra !== undefined) throw new UsageError(`unexpected ${quote(extra)}: ${usageLine(command)}`, command.name)
}

export function usageLine(command: Command): string {
  const operands = command.operands.map(({ name, optional }) => (optional ? `[${name}]` : name))
  return ['fairlead', command.name, '[OPTIONS]', ...operands].join(' ')
}

/** The command called `name`. @throws UsageError with the nearest one */
export function commandNamed(name: string): Command {
  const command = COMMANDS.find((one) => one.name === name)
  if (command !== undefined) return command
  if (name.startsWith('-')) throw new UsageError(`a command comes first, and its options behind it: fairlead COMMAND ${printable(name)} …`)
  const names = COMMANDS.map((one) => one.name)
  const near = nearestWord(name, names)
  throw new UsageError(`unknown command ${quote(name)}${near ? `; did you mean ${near}?` : `: expected ${names.join(', ')}`}`)
}

/** The word that `given` begins, or that is a slip of the hand away. */
export function nearestWord(given: string, words: readonly string[]): string | undefined {
  const begun = given.length > 1 ? words.filter((word) => word.startsWith(given)) : []
  return begun.length === 1 ? begun[0] : nearest(given, words)
}
