// The table of docs/dialects/pike.md has every function that there is, and no other.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import * as pike from 'fairlead/pike'

const { Concurrent, SSL, Stdio } = pike
const page = readFileSync(new URL('../../../docs/dialects/pike.md', import.meta.url), 'utf8')

const STATUSES = ['yes', 'differs', 'new', 'no'] as const
const rows = [...page.matchAll(/^\| `(?:(\w+)\.)?(\w+)\b[^`]*` +\| (\w+) +\|(.*)\|$/gm)].map(
  ([, of = '', name = '', status = '', note = '']) => ({
    of,
    name,
    status,
    note: note.trim(),
  }),
)

/** Names of methods and accessors, without those of the classes below. */
function methods(of: { prototype: object }, without?: { prototype: object }): string[] {
  const names = new Set<string>()
  for (
    let at: object | null = of.prototype;
    at !== null && at !== without?.prototype && at !== Object.prototype;
    at = Object.getPrototypeOf(at) as object | null
  ) {
    for (const name of Object.getOwnPropertyNames(at)) if (name !== 'constructor') names.add(name)
  }
  return [...names]
}

const KINDS: Record<string, string[]> = {
  file: methods(Stdio.File),
  FILE: methods(Stdio.FILE, Stdio.File),
  port: methods(Stdio.Port),
  udp: methods(Stdio.UDP),
  Stdio: Object.keys(Stdio),
  SSL: Object.keys(SSL),
  context: [...methods(SSL.Context), ...Object.keys(new SSL.Context())],
  ssl: methods(SSL.File, Stdio.ByteStream),
  sslport: methods(SSL.Port),
  Concurrent: Object.keys(Concurrent),
  future: methods(Concurrent.Future),
  promise: methods(Concurrent.Promise, Concurrent.Future),
  '': Object.keys(pike).filter((name) => !['Stdio', 'SSL', 'Concurrent'].includes(name)),
}

for (const [kind, names] of Object.entries(KINDS)) {
  test(`the table has what there is of ${kind || 'the module'}`, () => {
    const told = rows.filter((row) => row.of === kind && row.status !== 'no').map((row) => row.name)
    assert.deepEqual([...new Set(told)].sort(), [...new Set(names)].sort())
  })
}

test('each row has a status, and a note where it differs or is missing', () => {
  assert.equal(rows.length, page.match(/^\| `/gm)?.length)
  for (const row of rows) {
    assert.ok((STATUSES as readonly string[]).includes(row.status), row.name)
    assert.ok(Object.hasOwn(KINDS, row.of), row.of)
    if (row.status === 'differs' || row.status === 'no') assert.notEqual(row.note, '', row.name)
    if (row.status === 'no') assert.ok(!(KINDS[row.of] as string[]).includes(row.name), row.name)
  }
})
