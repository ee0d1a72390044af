/** What the documentation says of functions and results is what there is. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { createDriver, RESULTS } from 'fairlead/fluffos'

const document = readFileSync(new URL('../../../docs/dialects/fluffos.md', import.meta.url), 'utf8')

/** The cells of the rows of the table below a heading. */
function rows(heading: string): string[][] {
  const from = document.indexOf(`\n${heading}\n`)
  assert.notEqual(from, -1, heading)
  const lines = document.slice(from + heading.length + 2).split('\n')
  const start = lines.findIndex((line) => line.startsWith('|'))
  const end = lines.findIndex((line, i) => i > start && !line.startsWith('|'))
  return lines.slice(start + 2, end).map((line) =>
    line
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )
}

describe('the document', () => {
  test('has a row for every efun, with the arguments it takes, and says which are awaited', async () => {
    const efuns = createDriver({ master: {} }).efuns({})
    const documented = rows('## Functions')
    const there = documented.filter(([, status]) => status !== 'no')
    assert.deepEqual(there.map(([name]) => /^`(\w+)\(/.exec(name as string)?.[1]).sort(), Object.keys(efuns).sort())
    for (const [name, status, note] of documented) {
      const [, efun] = /^`(\w+)\(/.exec(name as string) ?? []
      assert.match(status as string, /^(?:yes|awaited|no)$/)
      if (status === 'no') assert.ok((note as string).length > 20, `${efun} needs a reason`)
    }
    const results = await Promise.all([efuns.socket_bind(0, 0), efuns.socket_listen(0, 'x')])
    assert.deepEqual(results, [RESULTS.EESECURITY, RESULTS.EESECURITY])
    const awaited = documented
      .filter(([, status]) => status === 'awaited')
      .map(([name]) => (name as string).slice(1, (name as string).indexOf('(')))
    assert.deepEqual(awaited, ['socket_bind', 'socket_listen'])
  })

  test('has a row for each of the 32 codes, with its number', () => {
    const documented = rows('### Results').map(([name, number]) => [(name as string).slice(1, -1), Number(number)])
    assert.deepEqual(Object.fromEntries(documented), Object.fromEntries(Object.entries(RESULTS).filter(([, number]) => number < 0)))
    assert.equal(documented.length, 32)
  })
})
