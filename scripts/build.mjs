// Compiles src/ to dist/, or with the argument "test" what stands around it (test/, bench/, examples/) to build/.
// Files of deleted sources are removed after compiling, not before, so that a build never leaves a gap under a running test.

import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const test = process.argv[2] === 'test'
const sources = join(root, test ? '.' : 'src')
const output = join(root, test ? 'build' : 'dist')

const compiler = fileURLToPath(new URL('bin/tsc', import.meta.resolve('typescript/package.json')))
const { status } = spawnSync(process.execPath, [compiler, '-p', join(root, test ? 'tsconfig.test.json' : 'tsconfig.json')], {
  stdio: 'inherit',
})
if (status !== 0) process.exit(status ?? 1)

for (const file of readdirSync(output, { recursive: true })) {
  const stem = /^(.*?)(?:\.d\.ts|\.js)(?:\.map)?$/.exec(file)?.[1]
  if (stem !== undefined && !existsSync(join(sources, `${stem}.ts`))) rmSync(join(output, file))
}
