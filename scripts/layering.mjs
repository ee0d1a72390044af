// Checks which file of src/ may import which, and how large files may grow. The rules are the tables below;
// docs/architecture.md says why. Prints what is wrong, one line each, and the size of the core.

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Core files that may use `driver.ts` at run time; {@link DRIVER_TYPES} may name its types only. */
const DRIVER_USERS = ['connection', 'datagram', 'unix', 'accept', 'connect', 'select', 'network']
const DRIVER_TYPES = [
  ...[
    'bind',
    'datagram-in',
    'datagram-life',
    'datagram-out',
    'inbound',
    'outbound',
    'relay',
    'passing',
    'adopt',
    'interop',
    'lifetime',
    'owner',
    'deadline',
    'server',
    'resolve',
    'names',
    'options',
  ],
  ...['tls', 'carriers/handle', 'carriers/native', 'carriers/portable'],
]
/** The only core files that know a concrete driver: one for its default, one to adopt a socket of Node's. */
const CHOOSERS = ['network', 'interop']
/** They may use this module of the drivers: sockets of Node's, and its TLS sockets, are streams like any other. */
const STREAM_HANDLE = 'drivers/duplex'
const STREAM_HANDLERS = ['carriers/portable']
/** What drivers may import, besides each other. */
const BELOW_DRIVERS = ['driver', 'address', 'errors', 'deadline', 'buffer', 'builtin']
/** Nothing in here imports anything of ours but the files after it; they are what everything stands on. */
const FOUNDATIONS = {
  errors: [],
  stream: ['errors', 'address', 'deadline', 'trace', 'owner'],
  trace: ['stream', 'errors'],
  address: ['errors'],
}
/** Folders that stand on the public doors alone, and the doors. */
const OUTSIDERS = ['cli', 'dialects', 'inspector', 'shapes']
const DOORS = ['index', 'testing/index', 'drivers/kernel', 'dialects/dictu', 'dialects/erlang', 'dialects/ioto', 'dialects/pike']

const LONGEST_FILE = 800
/** Lines of code, neither blank nor comment, of the files directly in src/; docs/architecture.md says what they are. */
const LARGEST_CORE = 11_700
const DEEPEST = 2
/** Names of a mechanism, not of a topic: each becomes a drawer. */
const DRAWERS = /^(?:utils?|common|helpers?|types|interfaces|constants|core|misc|shared|lib)(?:\.ts)?$/

const IMPORT = /^[ \t]*(?:import|export)\s+(type\s+)?(?:[^'"`;=()]*?\bfrom\s*)?'(\.{1,2}\/[^']+)'/gm
const LAZY_IMPORT = /\bimport\(\s*'(\.{1,2}\/[^']+)'\s*\)/g

/** @typedef {{ name: string, text: string, lines: number, imports: { to: string, type: boolean, lazy: boolean }[] }} Module */

/** How many lines of a source are code. */
function code(text) {
  return text.split('\n').filter((line) => !/^\s*(?:\/\/|\/?\*|$)/.test(line)).length
}

/** @returns {Map<string, Module>} by path under src without extension */
export function modules(root) {
  const src = join(root, 'src')
  const found = new Map()
  for (const file of readdirSync(src, { recursive: true, withFileTypes: true })) {
    if (!file.isFile() || !file.name.endsWith('.ts')) continue
    const path = join(file.parentPath ?? file.path, file.name)
    const name = relative(src, path).split(sep).join('/').slice(0, -3)
    const text = readFileSync(path, 'utf8')
    const target = (specifier) =>
      relative(src, join(dirname(path), specifier))
        .split(sep)
        .join('/')
        .replace(/\.js$/, '')
    const imports = [
      ...[...text.matchAll(IMPORT)].map(([, type, to]) => ({ to: target(to), type: type !== undefined, lazy: false })),
      // In a type position `import('…')` is one of declarations only, which these sources do not use.
      ...[...text.matchAll(LAZY_IMPORT)].map(([, to]) => ({ to: target(to), type: false, lazy: true })),
    ]
    found.set(name, { name, text, lines: text.split('\n').length - 1, imports })
  }
  return found
}

const folderOf = (name) => (name.includes('/') ? name.slice(0, name.indexOf('/')) : '')
const isCore = (name) => folderOf(name) === ''

/** Why `from` may not import `to`, or undefined. */
export function objection(from, { to, type }) {
  const [folder, target] = [folderOf(from), folderOf(to)]
  if (OUTSIDERS.includes(folder)) {
    return target === folder || DOORS.includes(to)
      ? undefined
      : `${folder}/ may import its own files and the doors ${DOORS.join(', ')} only`
  }
  if (OUTSIDERS.includes(target)) return `nothing imports ${target}/`
  if (folder === 'testing') return undefined
  if (target === 'testing') return 'nothing below testing/ may import it'
  if (folder === 'drivers') {
    return target === 'drivers' || BELOW_DRIVERS.includes(to)
      ? undefined
      : `a driver may import ${BELOW_DRIVERS.join(', ')} and other drivers only`
  }
  if (target === 'carriers' && folder !== 'carriers' && from !== 'tls') return 'only tls.ts knows how TLS is carried'
  if (from === 'index') return undefined
  if (to === 'index') return 'the door is for users, import the file itself'
  if (from === 'driver') return type ? undefined : 'driver.ts declares, it uses nothing at run time'
  if (from in FOUNDATIONS && !FOUNDATIONS[from].includes(to))
    return `${from}.ts may import ${FOUNDATIONS[from].join(', ') || 'nothing'} only`
  if (to === STREAM_HANDLE && STREAM_HANDLERS.includes(from)) return undefined
  if (target === 'drivers') return CHOOSERS.includes(from) ? undefined : `only ${CHOOSERS.join(', ')} know a concrete driver`
  if (to !== 'driver' || DRIVER_USERS.includes(from)) return undefined
  if (!DRIVER_TYPES.includes(from)) return `only ${[...DRIVER_USERS, ...DRIVER_TYPES].join(', ')} may import driver`
  return type ? undefined : 'may import driver with `import type` only'
}

/** Groups of modules that import each other in a circle, by the imports that `counts` accepts. Tarjan's algorithm. */
export function cycles(all, counts) {
  const state = new Map()
  const stack = []
  const groups = []
  const visit = (name) => {
    const own = { index: state.size, low: state.size, open: true }
    state.set(name, own)
    stack.push(name)
    for (const link of all.get(name).imports) {
      if (!counts(link) || !all.has(link.to)) continue
      const seen = state.get(link.to)
      if (seen === undefined) own.low = Math.min(own.low, visit(link.to).low)
      else if (seen.open) own.low = Math.min(own.low, seen.index)
    }
    if (own.low !== own.index) return own
    const group = stack.splice(stack.indexOf(name))
    for (const member of group) state.get(member).open = false
    if (group.length > 1) groups.push(group.sort())
    return own
  }
  for (const name of all.keys()) if (!state.has(name)) visit(name)
  return groups
}

/** Whether a file does nothing but re-export: that is what doors are for. */
function isBarrel({ text }) {
  const bare = text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '')
  return /\bfrom\b/.test(bare) && bare.replace(/export\s+(?:type\s+)?(?:\*|\{[^}]*\})\s*from\s*'[^']+'/g, '').trim() === ''
}

/** @returns {{ problems: string[], notes: string[] }} */
export function check(all) {
  const problems = []
  const notes = []
  for (const module of all.values()) {
    const file = `src/${module.name}.ts`
    for (const link of module.imports) {
      if (!all.has(link.to)) continue // the compiler reports what is missing
      const reason = objection(module.name, link)
      if (reason !== undefined) problems.push(`${file} imports ${link.to}.ts: ${reason}`)
    }
    if (module.lines > LONGEST_FILE) problems.push(`${file} has ${module.lines} lines, more than ${LONGEST_FILE}`)
    const parts = file.split('/').slice(1)
    if (parts.length > DEEPEST) problems.push(`${file} lies deeper than ${DEEPEST} levels`)
    for (const part of parts) if (DRAWERS.test(part)) problems.push(`${file}: ${part} names a mechanism, not a topic`)
    if (module.name === 'index' && !isBarrel(module)) problems.push(`${file} is the door and may only re-export`)
    if (!DOORS.includes(module.name) && isBarrel(module)) problems.push(`${file} only re-exports, but is not a door`)
  }
  for (const group of cycles(all, (link) => !link.type && !link.lazy)) problems.push(`circular import: ${group.join(', ')}`)
  for (const group of cycles(all, () => true)) notes.push(`types refer to each other in a circle: ${group.join(', ')}`)

  const lines = (test) => [...all.values()].filter((module) => test(module.name)).reduce((sum, module) => sum + code(module.text), 0)
  const core = lines(isCore)
  const drivers = lines((name) => folderOf(name) === 'drivers')
  if (core > LARGEST_CORE) problems.push(`the core has ${core} lines of code, more than ${LARGEST_CORE}`)
  notes.push(`core: ${core} lines of code of at most ${LARGEST_CORE}; drivers: ${drivers}; everything: ${lines(() => true)}`)
  return { problems, notes }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { problems, notes } = check(modules(fileURLToPath(new URL('..', import.meta.url))))
  for (const note of notes) console.log(`layering: ${note}`)
  for (const problem of problems) console.error(`layering: ${problem}`)
  process.exitCode = problems.length > 0 ? 1 : 0
}
