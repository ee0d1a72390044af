import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { describe, it } from 'node:test'
import { type Cell, compare, groupOf, type Samples } from '../bench/comparison.js'
import { textOf } from '../bench/page.js'
import { plot } from '../bench/plots.js'
import { start } from '../bench/subjects.js'

const values = (...all: number[]) => all.map((value) => ({ value }))
const about = { workload: 'w', measure: 'm', subjects: ['base', 'own', 'missing'] }

describe('a comparison', () => {
  const samples: Samples = new Map<string, string | { value: number }[]>([
    ['base', values(10, 20, 30)],
    ['own', values(11, 26, 36)],
    ['missing', 'not installed'],
    ['broken', 'failed: silence'],
  ])
  const verdictOf = (bar: { subject: string; most: number; of: string; always?: true; counts?: string }) =>
    groupOf({ ...about, bars: [bar] }, samples).verdicts[0]

  it('takes ratios run by run', () => {
    const own = groupOf(about, samples).lines[1]
    assert.deepEqual(own?.value, { median: 26, min: 11, max: 36 })
    assert.equal(own?.ratio?.median, 1.2)
  })

  it('says of each bar that it is met or missed, and how far', () => {
    assert.deepEqual(verdictOf({ subject: 'own', most: 1.2, of: 'base' }), {
      workload: 'w',
      subject: 'own',
      bar: '≤ 1.2 × base',
      reached: '1.200 ×',
      met: true,
    })
    assert.equal(verdictOf({ subject: 'own', most: 1.1, of: 'base' })?.met, false)
  })

  it('judges by the worst run where a bar holds in every one', () => {
    const verdict = verdictOf({ subject: 'own', most: 1.25, of: 'base', always: true })
    assert.deepEqual([verdict?.met, verdict?.reached], [false, '1.300 ×'])
  })

  it('turns a cost round where a bar is of counts', () => {
    const verdict = verdictOf({ subject: 'base', most: 1 / 3, of: 'own', counts: 'datagrams per CPU second' })
    assert.deepEqual([verdict?.bar, verdict?.reached], ['datagrams per CPU second ≥ 3 × own', '1.200 ×'])
  })

  it('judges no bar that needs a subject which is not there, and misses that of one that fails', () => {
    assert.equal(verdictOf({ subject: 'missing', most: 1, of: 'base' })?.met, undefined)
    assert.equal(verdictOf({ subject: 'own', most: 1, of: 'missing' })?.met, undefined)
    assert.equal(verdictOf({ subject: 'broken', most: 1, of: 'base' })?.met, false)
  })

  it('tells what was not measured in its table and its plot', () => {
    const group = groupOf(about, samples)
    assert.match(textOf(group), /missing +\| not measured: not installed/)
    assert.match(plot(group.lines), /not measured: not installed/)
  })

  const lacks = process.platform !== 'linux' ? 'Linux only' : spawnSync('cc', ['--version']).status !== 0 && 'no cc'
  it('leaves out who fails, and measures the others', { skip: lacks }, async (t) => {
    t.mock.method(console, 'error', () => {})
    const cell: Cell = {
      workload: 'echo',
      measure: 'CPU µs per request',
      subjects: ['C limit', 'fairlead node'],
      start: (subject) => start(subject, 'echo'),
      connect: (load, name, { port }) => load.run(`connect ${name} ${port} 4 64`),
      slice: async (load, name, server) => {
        if (name === 's1') throw new Error('silence')
        await server.ask('settle')
        return load.run(`echo ${name} 50 2`)
      },
      slices: 1,
      warmups: 0,
    }
    const { lines } = await compare(cell, { runs: 1, quick: true })
    assert.ok((lines[0]?.value?.median ?? 0) > 0 && (lines[0]?.rate ?? 0) > 0)
    assert.equal(lines[1]?.absent, 'failed: silence')
  })
})
