/** Comparisons as text, in `bench/compared.json`, in `docs/plots/` and between their markers in `docs/performance.md`. */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { Group, Line, Verdict } from './comparison.js'
import { figure, plot } from './plots.js'
import { between, columns, inRepository, thisMachine } from './report.js'
import type { Spread } from './statistics.js'

/** One name of `--only`, as it was measured last. */
export interface Measurement extends Group {
  readonly date: string
  readonly runs: number
  readonly versions: Versions
}

type Versions = Readonly<Record<string, string>>

export interface Comparisons {
  readonly cpu: string
  /** Of the last run; those of a group may be older. */
  readonly versions: Versions
  readonly groups: Readonly<Record<string, Measurement>>
}

const shown = ({ median, min, max }: Spread): string => `${figure(median)} (${figure(min)}–${figure(max)})`
const whole = (value: number | undefined): string => (value === undefined ? '' : Math.round(value).toLocaleString('en'))

/** One table for each measure. */
export function linesOf(lines: readonly Line[]): string {
  const measures = [...new Set(lines.map(({ measure }) => measure))]
  return measures
    .map((measure) =>
      tableOf(
        lines.filter((line) => line.measure === measure),
        measure,
      ),
    )
    .join('\n\n')
}

function tableOf(lines: readonly Line[], measure: string): string {
  const optional = (['rate', 'p50', 'p99', 'p999'] as const).filter((name) => lines.some((line) => line[name] !== undefined))
  const names = { rate: 'per second', p50: 'p50 µs', p99: 'p99 µs', p999: 'p99.9 µs' }
  const headings = ['workload', 'subject', `${measure}, median (min–max)`, '× the first', ...optional.map((name) => names[name])]
  const rows = lines.map((line) => [
    line.workload,
    line.subject,
    line.value === undefined ? `not measured: ${line.absent}` : shown(line.value),
    line.ratio === undefined ? '' : line.ratio.median.toFixed(2),
    ...optional.map((name) => whole(line[name])),
  ])
  return columns(headings, rows)
}

export function verdictsOf(verdicts: readonly Verdict[]): string {
  const rows = verdicts.map(({ workload, subject, bar, reached, met }) => {
    return [workload, subject, bar, reached, met === undefined ? 'not measured' : met ? 'met' : '**missed**']
  })
  return columns(['workload', 'subject', 'bar', 'reached', ''], rows)
}

export function textOf({ lines, verdicts }: Group): string {
  return verdicts.length === 0 ? linesOf(lines) : `${linesOf(lines)}\n\n${verdictsOf(verdicts)}`
}

/** Replaces the groups that were run; others keep their figures. */
export function writeComparisons(groups: Readonly<Record<string, Measurement>>, versions: Versions, names: readonly string[]): void {
  const file = inRepository('bench/compared.json')
  const known = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Comparisons) : undefined
  const merged: Record<string, Measurement> = {}
  for (const name of names) {
    const group = groups[name] ?? known?.groups[name]
    if (group !== undefined) merged[name] = group
  }
  const all: Comparisons = { cpu: thisMachine().cpu, versions, groups: merged }
  writeFileSync(file, `${JSON.stringify(all, null, 2)}\n`)
  mkdirSync(inRepository('docs/plots'), { recursive: true })
  for (const [name, { lines }] of Object.entries(merged)) writeFileSync(inRepository(`docs/plots/${name}.svg`), plot(lines))
  between('compared', pageOf(all))
}

function pageOf({ cpu, versions, groups }: Comparisons): string {
  const all = Object.values(groups)
  const verdicts = all.flatMap((group) => group.verdicts)
  const missed = verdicts.filter(({ met }) => met === false).length
  const unknown = verdicts.filter(({ met }) => met === undefined).length
  const named = (some: Versions) => Object.entries(some).map(([name, version]) => `${name} ${version}`)
  const said = named(versions)
  const counts = `${verdicts.length - missed - unknown} of ${verdicts.length} bars are met, ${missed} missed, ${unknown} not measured.`
  const sections = Object.entries(groups).map(([name, { date, runs, lines, versions: own }]) => {
    const others = named(own).filter((one) => !said.includes(one))
    const since = others.length === 0 ? '' : `; then ${others.join(', ')}`
    return `#### ${name}\n\n${date}, medians of ${runs} runs${since}.\n\n![${name}](plots/${name}.svg)\n\n${linesOf(lines)}`
  })
  return [`${cpu}; ${said.join(', ')}.`, counts, verdictsOf(verdicts), ...sections].join('\n\n')
}
