// Every fenced example is a program: those of documents, and of doc comments where they are whole, are run, the others
// compiled. CONTRIBUTING.md has the conventions of the fences.

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { exportsOf } from './support/door.js'
import { commentFences, documentFences, documents, type Fence } from './support/fences.js'
import { kernelMissing } from './support/kernel.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
/** Below the root, so that `fairlead` means this package, and its built code. */
const compiled = join(root, 'build', 'docs')
/** Milliseconds for one example. */
const LONGEST = 20_000

const MODES: Record<string, string[]> = {
  ts: ['', 'no-run'],
  js: ['', 'no-run'],
  console: ['', 'run'],
  sh: [''],
  text: [''],
  json: [''],
  html: [''],
  typescript: [''],
  go: [''],
  python: [''],
}
/** What an example in a doc comment that imports nothing may use without showing where it comes from. */
const AT_HAND: Record<string, string> = {
  connection: 'Connection',
  listener: 'Listener',
  server: 'Server',
  network: 'Network',
  owner: 'Owner',
}

const fences = documentFences(root)
const isWhole = (fence: Fence): boolean => /^import\s/m.test(fence.text)
const comments = commentFences(root).filter((fence) => fence.language === 'ts')
/** Examples in doc comments that import what they need are whole programs, the others pieces of one. */
const pieces = comments.filter((fence) => !isWhole(fence))
const programs = [...fences.filter(({ language }) => language === 'ts' || language === 'js'), ...comments.filter(isWhole)]
const place = (fence: Fence): string => `${fence.file}:${fence.line}`
const nameOf = (fence: Fence): string => `${fence.file.replace(/[^\w]/g, '-')}-${fence.line}`

/** Those of `names` that stand in `text` as words. */
function used(text: string, names: readonly string[]): string[] {
  const words = new Set(text.match(/[A-Za-z_$][\w$]*/g))
  return names.filter((name) => words.has(name))
}

/** The fence as a module whose line numbers are those of the document. */
function moduleOf(fence: Fence, doors: Record<string, readonly string[]>): string {
  const lines = '\n'.repeat(fence.line - 1)
  if (!pieces.includes(fence)) return `${lines}\n${fence.text}export {}\n`
  const own = new Set([...fence.text.matchAll(/\b(?:const|let|using|class|function) (\w+)/g)].map(([, name]) => name))
  const hands = used(fence.text, Object.keys(AT_HAND)).filter((name) => !own.has(name))
  const types = hands.map((name) => AT_HAND[name] as string)
  const imports = Object.entries(doors).map(([from, names]) => {
    const imported = used(`${fence.text} ${types.join(' ')}`, names).filter((name) => !own.has(name))
    return `import { ${imported.join(', ')} } from '${from}'`
  })
  const declared = hands.map((name) => `; declare const ${name}: ${AT_HAND[name]}`)
  return `${lines}${imports.join('; ')}${declared.join('')}\n${fence.text}export {}\n`
}

let complaints: string[] = []

/** Compiles all examples in one go; what the compiler says is kept, to be told by the test of each. */
function compileAll(): void {
  rmSync(compiled, { recursive: true, force: true })
  mkdirSync(compiled, { recursive: true })
  const names = (door: string): string[] => exportsOf(join(root, 'dist', door)).map(({ name }) => name)
  const main = names('index.d.ts')
  const doors = { fairlead: main, 'fairlead/testing': names('testing/index.d.ts').filter((name) => !main.includes(name)) }
  for (const fence of [...programs, ...pieces]) writeFileSync(join(compiled, `${nameOf(fence)}.${fence.language}`), moduleOf(fence, doors))
  const settings = {
    extends: join(root, 'tsconfig.test.json'),
    compilerOptions: {
      rootDir: '.',
      outDir: 'out',
      noUnusedLocals: false,
      noUncheckedIndexedAccess: false,
      noUnusedParameters: false,
      isolatedDeclarations: false,
      verbatimModuleSyntax: false,
    },
    include: ['*.ts'],
    exclude: [],
  }
  writeFileSync(join(compiled, 'tsconfig.json'), JSON.stringify(settings))
  const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  const { stdout, stderr } = spawnSync(process.execPath, [compiler, '-p', compiled, '--pretty', 'false'], {
    cwd: compiled,
    encoding: 'utf8',
  })
  complaints = `${stdout}${stderr}`.split('\n').filter((line) => /error TS/.test(line))
}

/** What the compiler says of a fence; a name followed by ( or . cannot be the start of another's. */
const complaintsOf = (fence: Fence): string[] =>
  complaints.filter((line) => line.includes(`${nameOf(fence)}.ts(`)).map((line) => line.replace(/^[^(]*/, fence.file))

/** A folder with `fairlead` as a command. */
function commandFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-docs-'))
  const command = join(folder, 'fairlead')
  writeFileSync(command, `#!/bin/sh\nexec "${process.execPath}" "${join(root, 'dist', 'cli', 'main.js')}" "$@"\n`)
  chmodSync(command, 0o755)
  return folder
}

/** Runs a script in a process group of its own, and ends what it left running. */
async function shell(script: string, folder: string): Promise<string> {
  const { NODE_TEST_CONTEXT: _, ...inherited } = process.env
  const env = { ...inherited, NO_COLOR: '1', PATH: `${folder}${delimiter}${process.env['PATH']}` }
  const child = spawn('bash', ['-c', `exec 2>&1\n${script}`], {
    cwd: folder,
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: LONGEST,
  })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  const ended = new Promise<string | undefined>((resolve, reject) => {
    child.on('error', reject)
    child.on('exit', (_code, signal) => resolve(signal === null ? undefined : `ended by ${signal} (an example has ${LONGEST} ms)`))
  })
  const printed = once(child.stdout, 'close')
  const signal = await ended
  try {
    process.kill(-(child.pid as number), 'SIGKILL')
  } catch {
    // Nothing was left of the group.
  }
  await printed
  assert.equal(signal, undefined, output)
  return output
}

/** Whether `output` is what is shown, where … stands for anything and space at the ends does not count. */
function matches(output: string, shown: string): boolean {
  const pattern = shown
    .trim()
    .split('…')
    .map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&').replace(/\s+/g, '\\s+'))
    .join('[\\s\\S]*')
  return new RegExp(`^${pattern}$`).test(output.trim())
}

/** The commands of a console fence and what each is said to print. */
function dialogue(fence: Fence): { command: string; shown: string }[] {
  return fence.text
    .split(/^\$ /m)
    .slice(1)
    .map((part) => {
      const [, command = '', shown = ''] = /^((?:[^\n]*\\\n)*[^\n]*)\n([\s\S]*)$/.exec(part) ?? []
      return { command, shown }
    })
}

async function converse(fence: Fence, folder: string): Promise<void> {
  const steps = dialogue(fence)
  assert.ok(steps.length > 0, 'no line starts with "$ "')
  const mark = (i: number): string => `@@ step ${i} @@`
  const output = await shell(steps.map(({ command }, i) => `echo '${mark(i)}'\n${command}\n`).join(''), folder)
  steps.forEach(({ command, shown }, i) => {
    const printed = (output.split(`${mark(i)}\n`)[1] ?? '').split('@@ step ')[0] as string
    assert.ok(matches(printed, shown), `$ ${command}\nis shown to print\n${shown}\nbut prints\n${printed}`)
  })
}

describe('documents', () => {
  for (const file of documents(root)) {
    test(`${file}: every relative link leads somewhere`, () => {
      const text = readFileSync(join(root, file), 'utf8').replace(/^```[\s\S]*?^```/gm, '')
      const targets = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, to = '']) => to.split('#')[0] as string)
      const dead = targets.filter((to) => to !== '' && !/^[a-z]+:/.test(to) && !existsSync(join(root, dirname(file), to)))
      assert.deepEqual(dead, [])
    })
  }

  test('the tables that come from the code are up to date (npm run docs writes them)', () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, 'scripts', 'tables.mjs'), '--check'], { encoding: 'utf8' })
    assert.equal(status, 0, `${stdout}${stderr}`)
  })

  for (const fence of fences) {
    test(`${place(fence)}: the fence says what it is`, () => {
      assert.ok(MODES[fence.language]?.includes(fence.mode), `"${fence.language} ${fence.mode}": expected one of ${JSON.stringify(MODES)}`)
    })
  }
})

describe('examples', () => {
  let folder: string
  before(() => {
    compileAll()
    folder = commandFolder()
  })
  after(() => rmSync(folder, { recursive: true, force: true }))

  for (const fence of pieces) {
    test(`${place(fence)}: the example compiles`, () => assert.deepEqual(complaintsOf(fence), []))
  }

  for (const fence of programs) {
    test(`${place(fence)}: the example ${fence.mode === 'no-run' ? 'compiles' : 'runs'}`, async (t) => {
      assert.deepEqual(complaintsOf(fence), [])
      if (fence.mode === 'no-run') return
      if (kernelMissing !== undefined && fence.text.includes("'fairlead/kernel'")) return t.skip(kernelMissing)
      const file = join(compiled, fence.language === 'ts' ? 'out' : '.', `${nameOf(fence)}.js`)
      const output = await shell(`"${process.execPath}" --enable-source-maps "${file}" </dev/null; echo "exit $?"`, folder)
      assert.ok(/(?:^|\n)exit 0\n$/.test(output), output)
    })
  }

  for (const fence of fences.filter(({ language, mode }) => language === 'console' && mode === 'run')) {
    test(`${place(fence)}: the commands do what is shown`, () => converse(fence, folder))
  }
})
