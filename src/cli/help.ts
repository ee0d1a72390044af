/** The help texts, made from the tables of `arguments.ts`. */

import { EXIT_CODES } from '../index.js'
import { type Command, COMMANDS, type OptionName, OPTIONS, usageLine } from './arguments.js'

const WIDTH = 100

/** Exit codes of the classes that end a command, with what they mean to whoever typed it. */
const EXITS: readonly (readonly [number, string])[] = [
  [0, 'everything was carried and both ends agreed on the end; or the reader of our output went away'],
  [EXIT_CODES.Unexpected, 'something unexpected, or a program of exec: that failed'],
  [EXIT_CODES.Usage, 'the command line is wrong'],
  [EXIT_CODES.AddressError, 'the endpoint is malformed, or its name cannot be looked up'],
  [EXIT_CODES.SystemFailure, 'the system said no: refused, address in use, no permission, no such file'],
  [EXIT_CODES.DeadlineError, 'a deadline passed'],
  [EXIT_CODES.TlsError, 'TLS: a certificate, a handshake or a setting'],
  [EXIT_CODES.Broken, 'the connection broke: a reset, or an end that was not the real one'],
  [EXIT_CODES.Denied, 'a policy or a limit'],
  [EXIT_CODES.Cancelled, 'interrupted by Ctrl-C (143: by SIGTERM)'],
]

export function generalHelp(): string {
  return [
    'fairlead: sockets that run straight',
    '',
    'Usage: fairlead COMMAND [OPTIONS] …',
    '',
    'Commands:',
    ...COMMANDS.map(({ name, summary }) => columns(name, summary, 10)),
    '',
    'Endpoints:',
    columns('tcp://host:port', 'tls://host:port for TLS, udp://host:port for datagrams', 18),
    columns('unix:/path', 'unix:@name for an abstract one, tls+unix:/path for TLS', 18),
    columns('stdio:', 'standard input and output', 18),
    columns('exec:COMMAND', 'the input and output of a program, run by sh', 18),
    columns('file:PATH', 'a file: read where it sends, written where it receives', 18),
    columns('fd:N', 'an open file descriptor', 18),
    '',
    'Exit codes:',
    ...EXITS.map(([code, meaning]) => columns(String(code), meaning, 5)),
    '',
    'fairlead help COMMAND, or COMMAND --help, shows its options and examples.',
    'fairlead --version shows the version.',
    '',
  ].join('\n')
}

export function commandHelp(command: Command): string {
  const groups = [...new Set(command.options.map((name) => OPTIONS[name].group))].filter((group) => group !== 'General')
  return [
    `Usage: ${usageLine(command)}`,
    '',
    ...wrap(`${capital(command.summary)}. ${command.about}`, WIDTH),
    ...(command.operands.length > 0 ? ['', ...command.operands.map(({ name, help }) => columns(name, help, 10))] : []),
    '',
    'Examples:',
    ...command.examples.flatMap(([what, line]) => [`  # ${what}`, `  ${line}`]),
    ...[...groups, 'General'].flatMap((group) => [
      '',
      `${group}:`,
      ...optionLines(command.options.filter((name) => OPTIONS[name].group === group)),
    ]),
    '',
    'Times are 500ms, 5s, 2m, 1h; a bare number is seconds.',
    '',
  ].join('\n')
}

function optionLines(names: readonly OptionName[]): string[] {
  return names.map((name) => {
    const { short, value, help } = OPTIONS[name]
    return columns(`${short ? `-${short}, ` : '    '}--${name}${value ? ` ${value}` : ''}`, help, 28)
  })
}

function columns(left: string, right: string, width: number): string {
  const [first = '', ...more] = wrap(right, WIDTH - width - 2)
  const head = left.length < width ? `  ${left.padEnd(width)}${first}` : `  ${left}\n${' '.repeat(width + 2)}${first}`
  return [head, ...more.map((line) => ' '.repeat(width + 2) + line)].join('\n')
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}
