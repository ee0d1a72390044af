/** The tables of docs/dialects/erlang.md say of the code what is true. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { erlang, gen_tcp, gen_udp, inet, ok, Exit, ssl, SSL_REASONS } from 'fairlead/erlang'

const text = readFileSync(new URL('../../../docs/dialects/erlang.md', import.meta.url), 'utf8')
const modules: Readonly<Record<string, object>> = { ssl, gen_tcp, gen_udp, inet, erlang }

describe('docs/dialects/erlang.md', () => {
  const rows = [...text.matchAll(/^\| `(\w+)\.(\w+)\([^|]*\| +(\w+) +\|/gm)]

  test('has a row for every function, and no row for one that is none', () => {
    const isClass = (value: unknown) => typeof value === 'function' && /^class\b/.test(String(value))
    const exported = Object.entries(modules).flatMap(([module, all]) =>
      Object.entries(all)
        .filter(([, value]) => typeof value === 'function' && !isClass(value))
        .map(([name]) => `${module}.${name}`),
    )
    assert.deepEqual([...new Set(rows.map(([, module, name]) => `${module}.${name}`))].sort(), exported.sort())
  })

  test('gives every function a status', () => {
    for (const [row, , , status = ''] of rows) assert.ok(['yes', 'differs', 'new'].includes(status), row)
  })

  test('names every reason', () => {
    for (const reason of Object.keys(SSL_REASONS)) {
      if (['no_peercert', 'protocol_not_negotiated', 'not_owner'].includes(reason)) continue
      assert.ok(text.includes(`\`${reason}\``), reason)
    }
  })
})

test('ok is the match with ok', () => {
  assert.equal(ok(['ok', 1]), 1)
  assert.equal(ok('ok'), 'ok')
  assert.throws(
    () => ok(['error', 'closed']),
    (error: unknown) => error instanceof Exit && Array.isArray(error.reason) && error.reason[0] === 'badmatch',
  )
})
