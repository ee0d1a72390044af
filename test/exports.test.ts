// What is tested here is what users get: the packed tarball, unpacked where a dependency would lie.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { exportsOf } from './support/door.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
/** Bytes of the tarball and of what it unpacks to. */
const LARGEST = { packed: 700_000, unpacked: 2_800_000 }

interface Manifest {
  exports: Record<string, string | { types: string; default: string }>
  bin: Record<string, string>
  dependencies?: Record<string, string>
}
interface Packed {
  filename: string
  size: number
  unpackedSize: number
  files: { path: string }[]
}

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest
const project = mkdtempSync(join(tmpdir(), 'fairlead-exports-'))
const installed = join(project, 'node_modules', 'fairlead')
let packed: Packed

function run(command: string, args: string[], cwd: string = project): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd,
    encoding: 'utf8',
    timeout: 120_000,
    env: { ...process.env, NO_COLOR: '1' },
  })
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${error?.message ?? `${stdout}\n${stderr}`}`)
  return stdout
}

const tool = (path: string): string => join(root, 'node_modules', path)

before(() => {
  const listing = run('npm', ['pack', '--json', '--ignore-scripts', '--loglevel=error', '--pack-destination', project], root)
  // One element, in an array with npm up to 11 and by name since.
  packed = Object.values(JSON.parse(listing) as Record<string, Packed>)[0] as Packed
  mkdirSync(installed, { recursive: true })
  run('tar', ['-xzf', packed.filename, '-C', installed, '--strip-components=1'])
  for (const name of [...Object.keys(manifest.dependencies ?? {}), '@types/node']) {
    const link = join(project, 'node_modules', name)
    mkdirSync(dirname(link), { recursive: true })
    symlinkSync(tool(name), link)
  }
  writeFileSync(join(project, 'package.json'), '{ "private": true, "type": "module" }\n')
})

after(() => rmSync(project, { recursive: true, force: true }))

describe('the packed package', () => {
  for (const [door, target] of Object.entries(manifest.exports)) {
    if (typeof target === 'string') continue
    const name = door.replace(/^\./, 'fairlead')

    test(`${name} exports at run time exactly the values it declares`, () => {
      const program = `console.log(JSON.stringify(Object.keys(await import('${name}')).sort()))`
      const names = JSON.parse(run(process.execPath, ['--input-type=module', '--eval', program])) as string[]
      const declared = exportsOf(join(installed, target.types)).filter(({ type }) => !type)
      assert.deepEqual(
        names,
        declared.map((each) => each.name),
      )
      assert.ok(names.length > 0)
    })
  }

  test('its declarations compile in a strict project that does not skip library checks', () => {
    const doors = Object.keys(manifest.exports).filter((door) => typeof manifest.exports[door] === 'object')
    writeFileSync(
      join(project, 'use.ts'),
      doors.map((door, i) => `export * as door${i} from '${door.replace(/^\./, 'fairlead')}'\n`).join(''),
    )
    const flags = ['--strict', '--exactOptionalPropertyTypes', '--noUncheckedIndexedAccess', '--noEmit', '--module', 'nodenext']
    const settings = ['--target', 'es2022', '--lib', 'es2022,esnext.disposable', '--types', 'node']
    run(process.execPath, [tool('typescript/bin/tsc'), ...flags, ...settings, 'use.ts'])
  })

  test('imports on its own, prints nothing and lets the process end', () => {
    assert.equal(run(process.execPath, ['--input-type=module', '--eval', "await import('fairlead')"]), '')
  })

  test('loads few files, and no module of Node’s that is costly and often not needed', () => {
    const found = new Set<string>()
    const follow = (file: string): void => {
      if (found.has(file)) return
      found.add(file)
      for (const [, to] of readFileSync(file, 'utf8').matchAll(/^(?:import|export) (?:[^'"();]*? from )?'(\.{1,2}\/[^']+)'/gm)) {
        follow(join(dirname(file), to as string))
      }
    }
    follow(join(installed, 'dist/index.js'))
    assert.deepEqual(
      [...found].map((file) => relative(installed, file)),
      ['dist/index.js', 'dist/chunks/core.js'],
    )
    const program = "import 'fairlead'; console.log(process.moduleLoadList.join())"
    const loaded = new Set(run(process.execPath, ['--input-type=module', '-e', program]).trim().split(','))
    assert.ok(loaded.has('NativeModule net'))
    for (const name of ['tls', 'crypto', 'dgram']) assert.ok(!loaded.has(`NativeModule ${name}`), name)
  })

  test('loads none of its dependencies before they are needed', () => {
    // `reflect-metadata`, which must come before the certificate library, leaves this trace.
    const program = "await import('fairlead'); console.log(typeof Reflect.getMetadata)"
    assert.equal(run(process.execPath, ['--input-type=module', '--eval', program]), 'undefined\n')
  })

  test('has a command that explains itself', () => {
    const path = join(installed, manifest.bin['fairlead'] as string)
    assert.match(readFileSync(path, 'utf8'), /^#!\/usr\/bin\/env node\n/)
    assert.match(run(process.execPath, [path, '--help']), /fairlead/)
  })

  test('carries code, declarations and papers only, and stays small', () => {
    const strays = packed.files
      .map((file) => file.path)
      .filter((path) => !/^(?:dist\/.*\.(?:js|d\.ts)|package\.json|README\.md|LICENSE|CHANGELOG\.md)$/.test(path))
    assert.deepEqual(strays, [])
    assert.ok(packed.size <= LARGEST.packed, `packed: ${packed.size} bytes`)
    assert.ok(packed.unpackedSize <= LARGEST.unpacked, `unpacked: ${packed.unpackedSize} bytes`)
  })

  test('publint finds nothing', async () => {
    const { publint } = await import('publint')
    const { formatMessage } = await import('publint/utils')
    const { messages } = await publint({ pkgDir: installed, pack: false, strict: true })
    const manifestSeen = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as Record<string, unknown>
    assert.deepEqual(
      messages.map((message) => formatMessage(message, manifestSeen)),
      [],
    )
  })

  test('attw finds nothing', () => {
    run(process.execPath, [
      tool('@arethetypeswrong/cli/dist/index.js'),
      packed.filename,
      '--profile',
      'esm-only',
      '--no-color',
      '--no-emoji',
    ])
  })
})
