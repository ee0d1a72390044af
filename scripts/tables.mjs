// Writes the tables of docs/ that come from the code, between <!-- table NAME --> and <!-- end -->. With --check it only
// says which are out of date. Needs the built code.

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const load = (file) => import(pathToFileURL(join(root, 'dist', file)).href)

const code = (text) => `\`${text}\``

/** Milliseconds and bytes as people say them. */
function time(ms) {
  return ms % 1000 === 0 ? `${ms / 1000} s` : `${ms} ms`
}
function size(bytes) {
  for (const [unit, factor] of [
    ['MiB', 2 ** 20],
    ['KiB', 2 ** 10],
  ]) {
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor} ${unit}`
  }
  return `${bytes} bytes`
}

/** What each default is and how it is shown; a limit without a line here is an error, so that none stays undocumented. */
const LIMIT_TEXTS = {
  connect: [time, 'a dial: all attempts, proxies and TLS together'],
  handshake: [time, 'a TLS handshake'],
  line: [size, 'a line, or the search for a delimiter'],
  frame: [size, 'a length-prefixed frame, checked on its header before memory is reserved; `readAll`'],
  unsent: [size, 'unsent bytes of a connection when `write` starts to wait'],
  receive: [size, 'received bytes held for a connection, unless more is asked for explicitly'],
  total: [size, 'unsent and unread bytes of a network; beyond it writes wait and accepting pauses'],
  lingerTime: [time, 'draining unread input in the background at close'],
  lingerBytes: [size, 'the same, in bytes'],
  halfClosed: [time, 'a half-closed connection of a server'],
  datagrams: [String, 'datagrams of a socket that wait to be received; beyond it the oldest are dropped and counted'],
  datagramBytes: [size, 'the same, in bytes'],
  connections: [String, 'connections a server holds'],
  handshakes: [String, 'TLS handshakes in progress on the accepting side'],
  nameCache: [time, 'how long resolved names are kept'],
  keepAliveIdle: [time, 'TCP keep-alive: idle time before the first probe'],
  keepAliveInterval: [time, 'TCP keep-alive: time between probes'],
  keepAliveCount: [String, 'TCP keep-alive: probes without an answer'],
}

/** What an option takes or gives. */
const VALUE_TEXTS = {
  text: ({ most }) => `text, 1 to ${most} bytes`,
  keepAlive: () => 'boolean or `{ idle, interval, count }`',
  linger: ({ most }) => `ms, 0 to ${most}, or \`false\``,
  integer: ({ unit = 'number', least, most }) => `${unit}, ${least} to ${most}`,
  credentials: () => '`PeerCredentials`',
  errorCode: () => 'POSIX code or `null`',
  socketType: () => 'text',
  protocol: () => 'text',
  tcpInfo: () => '`TcpInfo`',
}
function valueText(value) {
  return VALUE_TEXTS[value.type]?.(value) ?? value.type
}

/** Pairs by their first word: `tcp: connection, listener; udp: datagram`. */
function grouped(pairs) {
  const groups = new Map()
  for (const [first, second] of pairs) groups.set(first, [...(groups.get(first) ?? []), second])
  return [...groups].map(([first, members]) => `${first}: ${members.join(', ')}`).join('; ')
}

const tables = {
  async errors() {
    const { CODES, EXIT_CODES } = await load('errors.js')
    const rows = Object.entries(CODES).flatMap(([name, codes]) =>
      Object.entries(codes).map(([key, sentence], i) => [i === 0 ? code(name) : '', code(key), sentence, i === 0 ? EXIT_CODES[name] : '']),
    )
    return [['class', 'code', 'meaning', 'exit code'], ...rows]
  },
  async limits() {
    const { LIMITS } = await load('stream.js')
    const rows = Object.entries(LIMITS).map(([name, value]) => {
      if (!(name in LIMIT_TEXTS)) throw new Error(`scripts/tables.mjs has no text for the limit ${name}`)
      const [show, text] = LIMIT_TEXTS[name]
      return [code(name), show(value), text]
    })
    return [['limit', 'default', 'of what'], ...rows]
  },
  /** What each option is, what takes it and when it may be set. */
  async options() {
    const { OPTIONS } = await load('options.js')
    const rows = Object.entries(OPTIONS).map(([name, { value, on, when, text }]) => [
      code(name),
      valueText(value),
      grouped(on.map((one) => one.split(' '))),
      when === 'never' ? 'read only' : when,
      text,
    ])
    return [['option', 'value', 'sockets', 'when it may be set', 'meaning'], ...rows]
  },
  /** What the system calls each option, and what each driver can do with it. */
  async optionDrivers() {
    const { OPTIONS } = await load('options.js')
    const can = (kinds) => grouped(Object.entries(kinds ?? {}).map(([kind, ways]) => [ways.replaceAll(' ', ', '), kind]))
    const rows = Object.entries(OPTIONS).map(([name, { constant, systems, node, memory, newer }]) => [
      code(name),
      constant.map(code).join(', '),
      systems === undefined ? 'all' : systems.join(', '),
      can(node) + (node && newer ? '; newer versions only' : ''),
      can(memory),
    ])
    return [['option', 'constant', 'systems', 'node', 'memory'], ...rows]
  },
  /** What each driver guarantees: `yes`, or what is missing. */
  async guarantees() {
    const drivers = []
    for (const file of readdirSync(join(root, 'dist', 'drivers')).filter((entry) => entry.endsWith('.js'))) {
      // A driver's file exports its maker under the name of the file; the others are parts.
      const maker = (await load(`drivers/${file}`))[file.slice(0, -'.js'.length)]
      if (maker !== undefined) drivers.push(maker())
    }
    drivers.sort((a, b) => a.name.localeCompare(b.name))
    const names = [...new Set(drivers.flatMap((driver) => Object.keys(driver.guarantees)))]
    const cell = (value) => (value === true ? 'yes' : (value ?? ''))
    return [
      ['guarantee', ...drivers.map((driver) => driver.name)],
      ...names.map((name) => [code(name), ...drivers.map((driver) => cell(driver.guarantees[name]))]),
    ]
  },
}

function markdown(rows) {
  const cells = rows.map((row) => row.map((cell) => String(cell).replaceAll('|', '\\|')))
  const widths = cells[0].map((_, i) => Math.max(3, ...cells.map((row) => row[i].length)))
  const line = (row) => `| ${row.map((cell, i) => cell.padEnd(widths[i])).join(' | ')} |`
  return [line(cells[0]), line(widths.map((width) => '-'.repeat(width))), ...cells.slice(1).map(line)].join('\n')
}

/** The text with its tables made anew. */
export async function renew(text) {
  const parts = text.split(/(<!-- table \w+ -->\n)[\s\S]*?(?=<!-- end -->)/)
  for (const [i, part] of parts.entries()) {
    const name = /^<!-- table (\w+) -->\n$/.exec(part)?.[1]
    if (name === undefined) continue
    if (!(name in tables)) throw new Error(`there is no table ${name}, but ${Object.keys(tables).join(', ')}`)
    parts[i] = `${part}\n${markdown(await tables[name]())}\n\n`
  }
  return parts.join('')
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (!existsSync(join(root, 'dist', 'errors.js'))) throw new Error('run `npm run build` first')
  for (const name of readdirSync(join(root, 'docs')).filter((file) => file.endsWith('.md'))) {
    const file = join(root, 'docs', name)
    const text = readFileSync(file, 'utf8')
    const fresh = await renew(text)
    if (fresh === text) continue
    console.log(`docs/${name}: tables ${process.argv.includes('--check') ? 'are out of date, run `npm run docs`' : 'written'}`)
    if (process.argv.includes('--check')) process.exitCode = 1
    else writeFileSync(file, fresh)
  }
}
