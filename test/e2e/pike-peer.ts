// Pike 8 itself (Debian: pike8.0-core) as a peer, and sockets of Pike's kind for it.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { Stdio } from 'fairlead/pike'
import { folder, peerProgram, Program } from './program.js'

export const NAME = 'pike8.0'
export const portOf = (address: string | 0): number => Number(String(address).split(' ')[1])

/** Functions of Pike that every program below may use. */
const PRELUDE = `
string md5(string s) { return String.string2hex(Crypto.MD5.hash(s)); }
Stdio.File dial(string host, string port) {
  Stdio.File f = Stdio.File();
  if (!(has_value(port, "/") ? f->connect_unix(port) : f->connect(host, (int)port))) exit(3, "connect: %d\\n", f->errno());
  return f;
}
Stdio.Port open(string where) {
  Stdio.Port p = Stdio.Port();
  if (!(has_value(where, "/") ? p->bind_unix(where) : p->bind((int)where, 0, "127.0.0.1"))) exit(3, "bind: %d\\n", p->errno());
  write("at %s\\n", has_value(where, "/") ? where : (p->query_address() / " ")[1]);
  return p;
}
`

/** Runs a program of Pike; \`undefined\` after having skipped the test where there is no Pike. */
export function pike(t: TestContext, body: string, ...args: string[]): Program | undefined {
  if (peerProgram(t, NAME) === undefined) return undefined
  const path = join(folder(t), 'program.pike')
  writeFileSync(path, `${PRELUDE}\nint main(int argc, array(string) argv) {\n${body}\n}\n`)
  const program = new Program(t, NAME, [path, ...args])
  // Of a program that has ended the runtime throws away what nobody has begun to read.
  void program.out
  return program
}

/** The port or path that a program listens at. */
export async function at(program: Program): Promise<string> {
  program.err.ended.catch(() => undefined)
  const [, where = ''] = await program.out.until(/at (\S+)\n/)
  return where
}

export async function dial(t: TestContext, where: string, file: Stdio.File = new Stdio.File()): Promise<Stdio.File> {
  t.after(() => file.close())
  const done = where.includes('/') ? await file.connect(where) : await file.connect('127.0.0.1', Number(where))
  assert.equal(done, 1, `errno ${file.errno()}`)
  return file
}

export async function listening(t: TestContext, path?: string): Promise<[Stdio.Port, string]> {
  const port = new Stdio.Port()
  t.after(() => port.close())
  assert.equal(await (path === undefined ? port.bind(0, 0, '127.0.0.1') : port.bind(path)), 1)
  return [port, path ?? String(portOf(port.query_address()))]
}
