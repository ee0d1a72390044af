// Runs the compiled tests with Node's own runner: all of them, or those whose file name contains one of the arguments.
//   npm test            node scripts/test.mjs framing tls            node scripts/test.mjs tls --test-name-pattern=N18
// Node 20's runner takes no patterns, and given a directory it would run the support files as tests, so files are listed here.

import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
/** Milliseconds for one file, so that a test that hangs fails by name rather than by the patience of whoever waits. */
const LONGEST = 300_000

/** The compiled test files, relative to the root, whose name contains one of `words` (all, without words). */
export function testFiles(words = []) {
  return readdirSync(join(root, 'build', 'test'), { recursive: true })
    .filter((file) => file.endsWith('.test.js') && (words.length === 0 || words.some((word) => file.includes(word))))
    .map((file) => relative(root, join(root, 'build', 'test', file)))
    .sort()
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const given = process.argv.slice(2)
  const files = testFiles(given.filter((word) => !word.startsWith('-')))
  if (files.length === 0) {
    console.error(`no compiled test matches ${given.join(' ')}`)
    process.exit(1)
  }
  const flags = [
    '--enable-source-maps',
    '--test',
    '--test-reporter=spec',
    `--test-timeout=${LONGEST}`,
    ...given.filter((word) => word.startsWith('-')),
  ]
  const { status } = spawnSync(process.execPath, [...flags, ...files], { cwd: root, stdio: 'inherit' })
  process.exit(status ?? 1)
}
