/**
 * The benchmark: every workload side by side in one run, servers on core 0 and load on core 1.
 *
 *     npm run bench -- [--only NAME[,NAME]] [--quick] [--json] [--write]
 *
 * `--write` puts the figures of this Node into `bench/results.json` and the tables of all into `docs/performance.md`.
 * The exit code is 1 if a bar is missed.
 */

import { parseArgs } from 'node:util'
import { pinned } from './child.js'
import { type Report, tableOf, thisMachine, write } from './report.js'
import type { Row } from './statistics.js'
import { workloads } from './workloads.js'

const { values: flags } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    quick: { type: 'boolean' },
    json: { type: 'boolean' },
    write: { type: 'boolean' },
  },
})

const names = flags.only?.flatMap((list) => list.split(',')) ?? Object.keys(workloads)
for (const name of names) {
  if (workloads[name] !== undefined) continue
  console.error(`no workload ${name}; there are: ${Object.keys(workloads).join(', ')}`)
  process.exit(2)
}
if (!pinned) console.error('taskset or a second core is missing: nothing is pinned, the figures are worth less')

const effort = { runs: flags.quick ? 3 : 5, quick: flags.quick === true }
const rows: Record<string, readonly Row[]> = {}
for (const name of names) {
  rows[name] = await (workloads[name] as (typeof workloads)[string])(effort)
  if (!flags.json) console.log(`${tableOf(rows[name])}\n`)
}

const report: Report = { ...thisMachine(), date: new Date().toISOString().slice(0, 10), runs: effort.runs, rows }
if (flags.json) console.log(JSON.stringify(report, null, 2))
if (flags.write) {
  if (flags.quick) throw new Error('--quick figures are not for the record')
  write(report)
}
process.exitCode = Object.values(rows)
  .flat()
  .some((row) => row.met === false)
  ? 1
  : 0
