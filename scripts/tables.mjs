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

/** What each guarantee means where it is kept; one without a line here is an error, as above. */
const GUARANTEE_TEXTS = {
  resetIsNeverEnd: 'a reset is never taken for an end',
  dataBeforeError: 'bytes that came before a reset or a failed write stay readable',
  acceptStops: 'accepting stops while nobody takes connections: they wait in the queue of the system',
  unservedExact: 'connections that were closed unserved are counted exactly',
  keepAliveExact: 'interval and number of keep-alive probes are as asked for',
  unix: '`unix:` streams',
  abstractUnix: 'abstract names, `unix:@name`',
  unixgram: '`unixgram:`, datagrams',
  unixpacket: '`unixpacket:`, messages in order over a connection',
  truncationTold: 'a datagram that was cut off is told as `truncated`',
  descriptors: 'descriptors are sent and received over UNIX sockets',
  adoption: 'sockets of others are taken over by their descriptors',
}

/** All drivers, the plainest first. The last needs a system to do anything, and none to say what it would do. */
async function drivers() {
  const [{ memory }, { node }, { driverOn }] = await Promise.all(
    ['memory', 'node', 'kernel-driver'].map((name) => load(`drivers/${name}.js`)),
  )
  return [memory(), node(), driverOn(undefined)]
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
    const { OPTIONS, abilityOf } = await load('options.js')
    const rows = Object.entries(OPTIONS).map(([name, { constant, on, systems, newer }]) => {
      const kinds = [...new Set(on.map((one) => one.split(' ')[1]))]
      const can = (driver) => {
        if (driver === 'kernel' && !(systems ?? ['linux']).includes('linux')) return ''
        const abilities = kinds.map((kind) => [abilityOf(driver, name, kind)?.replaceAll(' ', ', '), kind])
        return grouped(abilities.filter(([ability]) => ability !== undefined))
      }
      const node = can('node')
      return [
        code(name),
        constant.map(code).join(', '),
        systems === undefined ? 'all' : systems.join(', '),
        can('memory'),
        node + (node && newer ? '; newer versions only' : ''),
        can('kernel'),
      ]
    })
    return [['option', 'constant', 'systems', ...(await drivers()).map(({ name }) => name)], ...rows]
  },
  /** How many of the options of each kind of socket a driver can do something with, and what only the last has. */
  async driverOptions() {
    const { OPTIONS, abilityOf } = await load('options.js')
    const names = (await drivers()).map(({ name }) => name)
    const rows = [...new Set(Object.values(OPTIONS).flatMap(({ on }) => on))].map((socket) => {
      const [transport, kind] = socket.split(' ')
      // Datagram sockets of a transport that the runtime does not have are not counted.
      const has = (driver, name) => !(driver === 'node' && socket === 'unix datagram') && abilityOf(driver, name, kind) !== undefined
      const options = Object.keys(OPTIONS).filter((name) => OPTIONS[name].on.includes(`${transport} ${kind}`))
      const counts = names.map((driver) => options.filter((name) => has(driver, name)).length)
      const alone = options.filter((name) => !has('memory', name) && !has('node', name))
      return [socket, options.length, ...counts, alone.map(code).join(', ')]
    })
    return [['socket', 'options', ...names, 'with the kernel driver alone'], ...rows]
  },
  /** What each driver guarantees: `yes`, or what is missing. */
  async guarantees() {
    const all = await drivers()
    const names = [...new Set(all.flatMap((driver) => Object.keys(driver.guarantees)))]
    const rows = names.map((name) => {
      if (!(name in GUARANTEE_TEXTS)) throw new Error(`scripts/tables.mjs has no text for the guarantee ${name}`)
      return [GUARANTEE_TEXTS[name], code(name), ...all.map(({ guarantees }) => (guarantees[name] === true ? 'yes' : guarantees[name]))]
    })
    return [['what', 'guarantee', ...all.map((driver) => driver.name)], ...rows]
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
