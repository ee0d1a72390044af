/** What the documentation says of functions and results is what there is; and how fast values are. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { createDriver, decodeValue, encodeFrame, RESULTS } from 'fairlead/fluffos'

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

describe('a nested value of 10 kB', () => {
  const value = {
    version: 3,
    players: Array.from({ length: 60 }, (_, i) => ({
      name: `player number ${i}`,
      hp: i * 7,
      title: 'the "great" explorer of lands',
      room: ['domains', 'town', i],
      stats: { str: 12, dex: 0.5 + i, con: 'ok' },
      friends: [[i], [i, [i + 1, 'ü']]],
    })),
  }
  const json = JSON.stringify(value)
  const payload = encodeFrame(value).subarray(4)

  /** Milliseconds for twenty calls. */
  function time(work: () => unknown): number {
    const before = performance.now()
    for (let i = 0; i < 20; i++) work()
    return performance.now() - before
  }

  /** How many times as long as `theirs` `ours` takes: least against least, measured in turns, as this machine has other work too. */
  function ratio(ours: () => unknown, theirs: () => unknown): number {
    let [mine, other] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]
    for (let round = 0; round < 150; round++) {
      mine = Math.min(mine, time(ours))
      other = Math.min(other, time(theirs))
    }
    return mine / other
  }

  // Other runtimes have another JSON to compare with.
  const skip = 'bun' in process.versions || 'Deno' in globalThis
  test('is encoded and decoded in at most four times what JSON takes', { skip }, (t) => {
    assert.ok(json.length > 10_000)
    const encode = ratio(
      () => encodeFrame(value),
      () => JSON.stringify(value),
    )
    const decode = ratio(
      () => decodeValue(payload),
      () => JSON.parse(json),
    )
    t.diagnostic(`encode ${encode.toFixed(2)} of JSON.stringify, decode ${decode.toFixed(2)} of JSON.parse`)
    // From V8 13.8 on, JSON.stringify is twice as fast as it was.
    assert.ok(encode <= (Number.parseInt(process.versions.v8, 10) < 13 ? 4 : 6), `encode takes ${encode} times as long as JSON.stringify`)
    assert.ok(decode <= 4, `decode takes ${decode} times as long as JSON.parse`)
  })
})
