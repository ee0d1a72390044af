// Runs the tests on other runtimes: all of them on the newest Node, the contract checker and the ends of TLS on Bun and Deno.
//   npm run test:runtimes             node scripts/runtimes.mjs bun deno            (--update fetches the newest again)
// The runtimes come from npm when first asked for, several hundred MB, into node_modules/.cache. A test that fails is an
// error unless test/runtimes.json lists it for that runtime: { "test": part of its full name,
// "on": another part, such as a transport, "reason", "sometimes"? }.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { IN_FRONT, testFiles } from './test.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const cache = join(root, 'node_modules', '.cache', 'runtimes')
const reports = join(root, 'build', 'runtimes')
/** Milliseconds for one runtime. */
const LONGEST = 480_000
/** The contract checker, and the ends of TLS streams, which are made by other means there. */
const CONTRACT = ['conformance', 'tls-ends', 'tls-sockets']

const runtimes = {
  node: {
    package: `node-${process.platform}-${process.arch}`,
    binary: (name) => join(name, 'bin', 'node'),
    files: () => testFiles(),
    command: (files, report) => [
      ...['--enable-source-maps', ...IN_FRONT, '--test', `--test-timeout=${LONGEST / 2}`, '--test-concurrency=2'],
      '--test-reporter=junit',
      ...[`--test-reporter-destination=${report}`, ...files],
    ],
  },
  bun: {
    package: 'bun',
    binary: () => join('.bin', 'bun'),
    files: () => testFiles(CONTRACT),
    // Files of one run share their modules, so one file's clean-up would close what another one still uses.
    alone: true,
    // A bare path would be a filter on names rather than a file.
    command: (files, report) => [
      'test',
      '--timeout=60000',
      '--reporter=junit',
      `--reporter-outfile=${report}`,
      ...files.map((file) => `./${file}`),
    ],
  },
  deno: {
    package: 'deno',
    binary: () => join('.bin', 'deno'),
    files: () => testFiles(CONTRACT),
    command: (files, report) => ['test', '--allow-all', '--no-check', `--junit-path=${report}`, ...files],
  },
}

function run(command, args, options = {}) {
  return spawnSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 256 * 1024 * 1024, ...options })
}

/** The path of the runtime's binary, fetched where it is missing. */
function fetch(runtime, update) {
  const binary = join(cache, 'node_modules', runtime.binary(runtime.package))
  if (existsSync(binary) && !update) return binary
  mkdirSync(cache, { recursive: true })
  const manifest = join(cache, 'package.json')
  if (!existsSync(manifest)) writeFileSync(manifest, '{ "private": true }\n')
  const { status, stderr } = run('npm', ['install', '--no-audit', '--no-fund', '--loglevel=error', `${runtime.package}@latest`], {
    cwd: cache,
  })
  if (status !== 0 || !existsSync(binary)) throw new Error(`cannot install ${runtime.package}: ${stderr.trim()}`)
  return binary
}

const ENTITIES = { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' }
const text = (xml) =>
  xml.replace(/&(?:#(\d+)|#x([\da-f]+)|(\w+));/gi, (_, n, x, name) => (name ? ENTITIES[name] : String.fromCodePoint(n ?? `0x${x}`)))

/**
 * The tests of a JUnit report, by full name. The three runtimes nest differently: Node and Bun by elements, where Bun's
 * outermost one is the file; Deno by ` > ` inside the name.
 */
function parse(xml, kind) {
  const tests = []
  const path = []
  const pattern =
    /<testsuite\s[^>]*?\bname="([^"]*)"[^>]*?(\/?)>|<\/testsuite>|<testcase\s[^>]*?\bname="([^"]*)"[^>]*?(?:\/>|>([\s\S]*?)<\/testcase>)/g
  for (const [, suite, empty, name, body = ''] of xml.matchAll(pattern)) {
    if (suite !== undefined) {
      if (!empty) path.push(text(suite))
    } else if (name === undefined) path.pop()
    else {
      const above = kind === 'deno' ? [] : kind === 'bun' ? path.slice(1) : path
      const skipped = body.includes('<skipped')
      const failed = !skipped && (body.includes('<failure') || body.includes('<error'))
      const message = /<(?:failure|error)[^>]*?\bmessage="([^"]*)"/.exec(body)?.[1] ?? ''
      tests.push({ name: [...above, text(name)].join(' > '), state: failed ? 'fail' : skipped ? 'skip' : 'pass', message: text(message) })
    }
  }
  // Groups are not tests. One fails with its members, which are what is looked at, or by itself, in a hook.
  const within = (group, state) =>
    tests.some((test) => test.name.startsWith(`${group.name} > `) && (state === undefined || test.state === state))
  return tests.filter((test) => !within(test, test.state === 'fail' ? 'fail' : undefined))
}

/** Runs some files in one process of a runtime. What is wrong with the run itself goes to `problems`. */
function runFiles(kind, binary, files, i, problems) {
  const report = join(reports, `${kind}-${i}.xml`)
  rmSync(report, { force: true })
  const result = run(binary, runtimes[kind].command(files, report), { timeout: LONGEST, env: { ...process.env, NO_COLOR: '1' } })
  const tests = existsSync(report) ? parse(readFileSync(report, 'utf8'), kind) : []
  if (tests.length === 0)
    problems.push(`wrote no report (${result.error?.message ?? `exit ${result.status}`}); its output ends:\n${tail(result)}`)
  else if (result.status !== 0 && !tests.some((test) => test.state === 'fail'))
    problems.push(`failed outside any test (exit ${result.status}, ${result.signal}); its output ends:\n${tail(result)}`)
  return { tests, output: `${result.stdout}\n${result.stderr}` }
}

/** Runs one runtime. @returns the row of the table and what to complain about */
function examine(kind, known, update) {
  const runtime = runtimes[kind]
  const binary = fetch(runtime, update)
  const version = run(binary, ['--version'])
    .stdout.trim()
    .split('\n')[0]
    .replace(/^[a-z]+ |^v| \(.*$/g, '')
  const files = runtime.files()
  if (files.length === 0) throw new Error('there is no compiled test to run')
  const started = performance.now()
  const problems = []
  const outcomes = (runtime.alone ? files.map((file) => [file]) : [files]).map((group, i) => runFiles(kind, binary, group, i, problems))
  const seconds = Math.round((performance.now() - started) / 1000)
  writeFileSync(join(reports, `${kind}.log`), outcomes.map(({ output }) => output).join('\n'))

  const tests = outcomes.flatMap((outcome) => outcome.tests)
  const expects = (entry, test) => test.name.includes(entry.test) && test.name.includes(entry.on ?? '')
  const failed = tests.filter((test) => test.state === 'fail')
  const unknown = failed.filter((test) => !known.some((entry) => expects(entry, test)))
  problems.push(...unknown.map((test) => `${test.name}\n    ${test.message.split('\n').slice(0, 3).join('\n    ')}`))
  const notes = known
    .filter((entry) => !entry.sometimes && !failed.some((test) => expects(entry, test)))
    .map((entry) => `${entry.test}${entry.on ? ` [${entry.on}]` : ''}: listed as different, but nothing of that name failed`)
  const count = (state) => tests.filter((test) => test.state === state).length
  return {
    row: {
      runtime: `${kind} ${version}`,
      files: files.length,
      pass: count('pass'),
      skip: count('skip'),
      known: failed.length - unknown.length,
      FAIL: problems.length,
      seconds,
    },
    problems,
    notes,
  }
}

function tail({ stdout, stderr }) {
  return `${stdout}\n${stderr}`
    .trimEnd()
    .split('\n')
    .slice(-20)
    .map((line) => `    ${line}`)
    .join('\n')
}

function table(rows) {
  const columns = Object.keys(rows[0])
  const widths = columns.map((column) => Math.max(column.length, ...rows.map((row) => String(row[column]).length)))
  const line = (cells) => cells.map((cell, i) => (i === 0 ? String(cell).padEnd(widths[i]) : String(cell).padStart(widths[i]))).join('  ')
  return [line(columns), ...rows.map((row) => line(columns.map((column) => row[column])))].join('\n')
}

const given = process.argv.slice(2)
const update = given.includes('--update')
const wanted = given.filter((word) => word in runtimes)
const stray = given.find((word) => word !== '--update' && !(word in runtimes))
if (stray !== undefined) {
  console.error(`${stray}: expected --update or some of ${Object.keys(runtimes).join(', ')}`)
  process.exit(2)
}
for (const what of [[], ['test']]) {
  const { status } = run(process.execPath, [join(root, 'scripts', 'build.mjs'), ...what], { stdio: 'inherit' })
  if (status !== 0) process.exit(1)
}
mkdirSync(reports, { recursive: true })
const known = JSON.parse(readFileSync(join(root, 'test', 'runtimes.json'), 'utf8'))
const rows = []
for (const kind of wanted.length > 0 ? wanted : Object.keys(runtimes)) {
  let outcome
  try {
    outcome = examine(kind, known[kind], update)
  } catch (error) {
    outcome = { row: { runtime: kind, files: 0, pass: 0, skip: 0, known: 0, FAIL: 1, seconds: 0 }, problems: [error.message], notes: [] }
  }
  rows.push(outcome.row)
  for (const problem of outcome.problems) console.error(`${kind}: ${problem}`)
  for (const note of outcome.notes) console.log(`${kind}: note: ${note}`)
  if (outcome.problems.length > 0) process.exitCode = 1
}
console.log(table(rows))
