// Runs the compiled tests with Node's own runner: all of them, or those whose file name contains one of the arguments.
//   npm test            node scripts/test.mjs framing tls            node scripts/test.mjs tls --test-name-pattern=N18
// What users see over sockets of the default driver is run once more on the kernel driver, where that can be used.
// Node 20's runner takes no patterns, and given a directory it would run the support files as tests, so files are listed here.

import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
/** Milliseconds for one file, so that a test that hangs fails by name rather than by the patience of whoever waits. */
const LONGEST = 300_000

/** What is loaded before each test file. */
export const IN_FRONT = ['--import', './build/test/support/unnoticed.js']

/** The compiled test files, relative to the root, whose name contains one of `words` (all, without words). */
export function testFiles(words = []) {
  return readdirSync(join(root, 'build', 'test'), { recursive: true })
    .filter(
      (file) =>
        file.endsWith('.test.js') && !file.startsWith('on-kernel') && (words.length === 0 || words.some((word) => file.includes(word))),
    )
    .map((file) => relative(root, join(root, 'build', 'test', file)))
    .sort()
}

/**
 * Tests that say nothing of a driver, by the driver of `new Network()`: the core, the commands, real peers, and of each dialect
 * what leans on sockets most. Files that name all drivers themselves (conformance, delivery, select, datagram) are not among them.
 */
const DRIVERLESS = [
  ...['abandoned', 'accept', 'cli', 'closing', 'connection', 'dial', 'errors', 'interop', 'owner', 'relay', 'server'],
  ...['shapes', 'talk', 'tls-ends', 'tls-server', 'tls-sessions', 'tls-sockets', 'tls-verify', 'trace', 'unix', 'upgrade', 'via'],
  ...[
    'e2e/cli-datagrams',
    'e2e/datagrams',
    'e2e/erlang',
    'e2e/erlang-values',
    'e2e/half-close',
    'e2e/peers',
    'e2e/pike',
    'e2e/pike-descriptors',
    'e2e/starttls',
    'e2e/tls-openssl',
    'e2e/up',
  ],
  ...[
    'dictu',
    'dictu-odd',
    'erlang',
    'erlang-descriptors',
    'erlang-ends',
    'erlang-inet',
    'erlang-odd',
    'erlang-processes',
    'erlang-semantics',
    'erlang-suites',
    'fluffos',
    'fluffos-data',
    'ioto',
    'ioto-odd',
    'ioto-peers',
    'ioto-seed',
    'ioto-tls',
    'pike',
    'pike-descriptors',
    'pike-tls',
    'pike-udp',
  ].map((dialect) => `dialects/${dialect}`),
]

/** Those of `files` that are to be run on the kernel driver too: made here, as files that choose it and import the test. */
async function onKernel(files) {
  const folder = join(root, 'build', 'test', 'on-kernel')
  rmSync(folder, { recursive: true, force: true })
  const chosen = files.filter((file) => DRIVERLESS.includes(relative(join('build', 'test'), file).replace(/\.test\.js$/, '')))
  const usable = await import('fairlead/kernel').then(({ kernel }) => kernel()).catch(() => undefined)
  if (usable === undefined || process.env['FAIRLEAD_DRIVER'] !== undefined) return []
  mkdirSync(folder, { recursive: true })
  return chosen.map((file) => {
    const made = join(folder, relative(join('build', 'test'), file).replaceAll(sep, '-'))
    writeFileSync(made, `process.env['FAIRLEAD_DRIVER'] = 'kernel'\nawait import(${JSON.stringify(join(root, file))})\n`)
    return relative(root, made)
  })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const given = process.argv.slice(2)
  const files = testFiles(given.filter((word) => !word.startsWith('-')))
  if (files.length === 0) {
    console.error(`no compiled test matches ${given.join(' ')}`)
    process.exit(1)
  }
  const flags = [
    ...['--enable-source-maps', ...IN_FRONT],
    '--test',
    '--test-reporter=spec',
    `--test-timeout=${LONGEST}`,
    ...given.filter((word) => word.startsWith('-')),
  ]
  const { status } = spawnSync(process.execPath, [...flags, ...files, ...(await onKernel(files))], { cwd: root, stdio: 'inherit' })
  process.exit(status ?? 1)
}
