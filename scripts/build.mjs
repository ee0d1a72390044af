// Compiles src/ to dist/, or with the argument "test" what stands around it (test/, bench/, examples/) to build/.
//
// The modules of src/ become a few chunks, and dist/ has a file for each module that only passes on what its chunk exports: a program
// that imports the package loads two files rather than seventy, in half the time and with half the heap. Tests see the same chunks,
// whether they import a door or a module behind it.
//
// Files of deleted sources are removed after compiling, not before, so that a build never leaves a gap under a running test.

import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { rollup } from '@rollup/wasm-node'

const root = fileURLToPath(new URL('..', import.meta.url))
const test = process.argv[2] === 'test'
const output = join(root, test ? 'build' : 'dist')
/** Where the modules of src/ are compiled to. */
const compiled = join(root, 'build/src')

const compiler = fileURLToPath(new URL('bin/tsc', import.meta.resolve('typescript/package.json')))

const NO_DECLARATIONS = ['--declaration', 'false', '--declarationMap', 'false', '--isolatedDeclarations', 'false']

function compile(...options) {
  const { status } = spawnSync(process.execPath, [compiler, '-p', ...options], { cwd: root, stdio: 'inherit' })
  if (status !== 0) process.exit(status ?? 1)
}

if (test) compile('tsconfig.test.json')
else {
  // Comments are for who reads the declarations; programs that load the package need not read them each time.
  compile('tsconfig.json', '--emitDeclarationOnly')
  compile('tsconfig.json', '--outDir', compiled, ...NO_DECLARATIONS, '--removeComments')
}

const written = test ? new Set() : await chunks()

for (const file of readdirSync(output, { recursive: true })) {
  if (written.has(file.split(sep).join('/'))) continue
  const stem = /^(.*?)(?:\.d\.ts|\.js)(?:\.map)?$/.exec(file)?.[1]
  if (stem !== undefined && !existsSync(join(root, test ? '' : 'src', `${stem}.ts`))) rmSync(join(output, file))
}

/** Writes the chunks and what passes them on; the names of the files. */
async function chunks() {
  const files = readdirSync(compiled, { recursive: true }).filter((file) => file.endsWith('.js'))
  const names = files.map((file) => nameOf(join(compiled, file))).filter((name) => existsSync(join(root, 'src', `${name}.ts`)))
  const bundle = await rollup({
    input: Object.fromEntries(names.map((name) => [name, moduleFile(name)])),
    external: (id) => !/^[./]/.test(id) && !id.startsWith(root),
    // Tests import what no door exports.
    treeshake: false,
    plugins: [
      { name: 'source maps of the compiler', load: (id) => ({ code: read(id), map: read(`${id}.map`) }) },
      // V8 keeps a source with a single letter outside of Latin-1 in twice the memory.
      { name: 'ASCII', renderChunk: (code) => ({ code: code.replace(/[^\x00-\x7f]/g, escaped), map: null }) },
    ],
    onwarn: (warning) => {
      // Modules that declare types only are empty, and the compiler's helpers for `using` ask for a `this`.
      if (warning.code !== 'EMPTY_BUNDLE' && warning.code !== 'THIS_IS_UNDEFINED') throw new Error(warning.message)
    },
  })
  const { output: chunks } = await bundle.write({
    dir: output,
    format: 'es',
    sourcemap: true,
    chunkFileNames: 'chunks/[name].js',
    manualChunks: chunkOf,
    minifyInternalExports: false,
    hoistTransitiveImports: false,
    generatedCode: 'es2015',
  })
  await bundle.close()
  return new Set(chunks.map(({ fileName }) => fileName))
}

/** What is loaded together; undefined for a module that stays one by itself. */
function chunkOf(id, { getModuleInfo }) {
  const [folder, file] = nameOf(id).split('/')
  if (reachable(moduleFile('index'), getModuleInfo).has(id)) return 'core'
  if (folder === 'drivers' && file.startsWith('kernel')) return 'kernel'
  if (folder === 'testing' || folder === 'drivers') return 'testing'
  if (folder === 'dialects') return /^[a-z]+/.exec(file)?.[0]
  return undefined
}

/** The modules that are loaded with one. */
function reachable(id, getModuleInfo, found = new Set()) {
  if (found.has(id)) return found
  found.add(id)
  for (const to of getModuleInfo(id)?.importedIds ?? []) if (to.startsWith(compiled)) reachable(to, getModuleInfo, found)
  return found
}

/** Sources have such letters in strings and patterns only, comments being gone. */
function escaped(letter) {
  return `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`
}

function moduleFile(name) {
  return join(compiled, `${name}.js`)
}

function nameOf(id) {
  return relative(compiled, id).split(sep).join('/').slice(0, -3)
}

function read(file) {
  return readFileSync(file, 'utf8')
}
