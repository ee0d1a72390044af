/**
 * The benchmark: every workload side by side in one run, servers on core 0 and load on core 1.
 *
 *     npm run bench -- [--only NAME[,NAME]] [--quick] [--json] [--write]
 *
 * `own` are the workloads that this package is held to by itself and beside bare Node; `compared` those beside other runtimes and a
 * limit in C; both are names too. `--write` puts the figures into `bench/results.json` and `bench/compared.json`, and tables and
 * plots of all into `docs/`. The exit code is 1 if a bar is missed.
 */

import { parseArgs } from 'node:util'
import { pinned } from './child.js'
import { comparisons } from './compared.js'
import { type Measurement, textOf, writeComparisons } from './page.js'
import { versions } from './programs.js'
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

const sets: Record<string, readonly string[]> = { own: Object.keys(workloads), compared: Object.keys(comparisons) }
const given = flags.only?.flatMap((list) => list.split(',')) ?? Object.keys(sets)
const names = new Set(given.flatMap((name) => sets[name] ?? [name]))
for (const name of names) {
  if (workloads[name] !== undefined || comparisons[name] !== undefined) continue
  console.error(`no workload ${name}; there are: ${[...Object.keys(sets), ...Object.values(sets).flat()].join(', ')}`)
  process.exit(2)
}
if (!pinned) console.error('taskset or a second core is missing: nothing is pinned, the figures are worth less')
if (flags.write && flags.quick) {
  console.error('--quick figures are not for the record')
  process.exit(2)
}

// What was started ends with an exit, and with nothing else.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130))

const effort = { runs: flags.quick ? 3 : 5, quick: flags.quick === true }
const date = new Date().toISOString().slice(0, 10)
const programs = versions()
const reportOf = (some: Report['rows']): Report => ({ ...thisMachine(), date, runs: effort.runs, rows: some })
const rows: Record<string, readonly Row[]> = {}
const groups: Record<string, Measurement> = {}
let missed = false
for (const name of names) {
  const [workload, comparison] = [workloads[name], comparisons[name]]
  try {
    if (workload !== undefined) rows[name] = await workload(effort)
    else if (process.platform !== 'linux') console.error(`${name}: measured on Linux only`)
    else if (comparison !== undefined) groups[name] = { date, runs: effort.runs, versions: programs, ...(await comparison(effort)) }
  } catch (error) {
    // The others are worth their time all the same.
    console.error(`${name}:`, error)
    missed = true
  }
  // At once: a long run that is cut short has not been for nothing.
  if (flags.write && rows[name] !== undefined) write(reportOf({ [name]: rows[name] }))
  if (flags.write && groups[name] !== undefined) writeComparisons({ [name]: groups[name] }, programs, Object.keys(comparisons))
  if (flags.json) continue
  if (rows[name] !== undefined) console.log(`${tableOf(rows[name])}\n`)
  if (groups[name] !== undefined) console.log(`${textOf(groups[name])}\n`)
}

if (flags.json) console.log(JSON.stringify({ ...reportOf(rows), compared: { versions: programs, groups } }, null, 2))
missed ||= Object.values(rows).some((some) => some.some(({ met }) => met === false))
missed ||= Object.values(groups).some(({ verdicts }) => verdicts.some(({ met }) => met === false))
process.exitCode = missed ? 1 : 0
