/** The programs that are compared, found or compiled on the spot, and what version each is. */

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../', import.meta.url))
const compiled = join(root, 'build', 'bench', 'bin')
/** Where `scripts/runtimes.mjs` keeps what it fetches. */
const runtimes = join(root, 'node_modules', '.cache', 'runtimes', 'node_modules')

export function inBench(path: string): string {
  return join(root, 'bench', path)
}

function output(command: string, args: readonly string[]): string | undefined {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  return status === 0 ? `${stdout}${stderr}`.trim() : undefined
}

/** Compiled once for each text of the source. */
function compile(source: string, command: (from: string, to: string) => readonly string[]): string | undefined {
  const from = inBench(source)
  const mark = createHash('sha256').update(readFileSync(from)).digest('hex').slice(0, 12)
  const to = join(compiled, `${source.replace(/[/.]/g, '-')}-${mark}`)
  if (existsSync(to)) return to
  mkdirSync(compiled, { recursive: true })
  const [compiler = '', ...args] = command(from, to)
  const { error, status, stderr } = spawnSync(compiler, args, { encoding: 'utf8' })
  if (error !== undefined) return undefined
  if (status !== 0) throw new Error(`${compiler} ${source}: ${stderr}`)
  return to
}

/** A program of C. A comparison without its load and its limit is none. */
export function compileC(source: string): string {
  const file = compile(source, (from, to) => ['cc', '-O2', '-o', to, from])
  if (file === undefined) throw new Error('cc is missing: the load and the limit are compiled on the spot')
  return file
}

export function compileGo(source: string): string | undefined {
  return compile(source, (from, to) => ['go', 'build', '-o', to, from])
}

/** The binary of a runtime that has been fetched: `npm run test:runtimes` does. */
export function runtime(path: string): string | undefined {
  const file = join(runtimes, path)
  return existsSync(file) ? file : undefined
}

export function installed(command: string): boolean {
  return spawnSync('which', [command]).status === 0
}

/** By what each says of itself. */
export function versions(): Record<string, string> {
  const said: Record<string, string | undefined> = {
    fairlead: packaged('package.json'),
    koffi: packaged('node_modules/koffi/package.json'),
    Node: process.version.slice(1),
    'newest Node': version(runtime(NEWEST)),
    Bun: version(runtime(BUN)),
    Deno: version(runtime(DENO)),
    Go: version('go', 'version'),
    Erlang: erlang(),
    cc: version('cc'),
    socat: version('socat', '-V'),
    haproxy: version('haproxy', '-v'),
    Linux: release(),
  }
  return Object.fromEntries(Object.entries(said).filter((entry): entry is [string, string] => entry[1] !== undefined))
}

export const NEWEST = `node-${process.platform}-${process.arch}/bin/node`
export const BUN = '.bin/bun'
export const DENO = '.bin/deno'

function version(command: string | undefined, flag = '--version'): string | undefined {
  return command === undefined ? undefined : /\d+(\.\d+)+[^\s,)]*/.exec(output(command, [flag]) ?? '')?.[0]
}

function packaged(manifest: string): string | undefined {
  const file = join(root, manifest)
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version : undefined
}

function erlang(): string | undefined {
  return installed('escript')
    ? output('erl', ['-noshell', '-eval', 'io:format("~s", [erlang:system_info(otp_release)]), halt().'])
    : undefined
}
