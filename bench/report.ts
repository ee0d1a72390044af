/** Rows as a table, in `bench/results.json`, and between the markers of `docs/performance.md`. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Row, Spread } from './statistics.js'

export interface Machine {
  readonly node: string
  readonly cpu: string
}

export interface Report extends Machine {
  readonly date: string
  readonly runs: number
  /** By workload. */
  readonly rows: Record<string, readonly Row[]>
}

export function thisMachine(): Machine {
  const about = existsSync('/proc/cpuinfo') ? readFileSync('/proc/cpuinfo', 'utf8') : ''
  return { node: process.version, cpu: /^model name\s*:\s*(.+)$/m.exec(about)?.[1]?.trim() ?? process.arch }
}

const HEADINGS = ['workload', 'subject', 'measure', 'median (min–max)', 'requests/s', 'ratio (min–max)', 'bar', 'met']

export function tableOf(rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.workload,
    row.subject,
    row.measure,
    shown(row.value),
    row.rate === undefined ? '' : grouped(row.rate, 0),
    row.ratio === undefined ? '' : shown(row.ratio, 2),
    row.bar ?? '',
    row.met === undefined ? '' : row.met ? 'yes' : '**no**',
  ])
  return columns(HEADINGS, cells)
}

export function columns(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = headings.map((heading, i) => Math.max(heading.length, 3, ...rows.map((row) => (row[i] as string).length)))
  const line = (parts: readonly string[]) => `| ${parts.map((part, i) => part.padEnd(widths[i] as number)).join(' | ')} |`
  return [line(headings), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n')
}

function shown({ median, min, max }: Spread, digits: number = Math.abs(median) < 100 ? 2 : 0): string {
  return `${grouped(median, digits)} (${grouped(min, digits)}–${grouped(max, digits)})`
}

function grouped(value: number, digits: number): string {
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}

/** From `build/bench/`, where this runs. */
export function inRepository(path: string): string {
  return fileURLToPath(new URL(`../../${path}`, import.meta.url))
}

/** Replaces the workloads that were run in the report of the same major version; other versions keep theirs. */
export function write(report: Report): void {
  const file = inRepository('bench/results.json')
  const known = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Report[]) : []
  const same = known.find(({ node }) => major(node) === major(report.node))
  const merged = { ...report, rows: { ...same?.rows, ...report.rows } }
  const reports = [...known.filter((one) => one !== same), merged].sort((a, b) => major(a.node) - major(b.node))
  writeFileSync(file, `${JSON.stringify(reports, null, 2)}\n`)

  between('bench', reports.map(sectionOf).join('\n\n'))
}

/** Replaces what the page has between two markers. */
export function between(name: string, content: string): void {
  const page = inRepository('docs/performance.md')
  const text = readFileSync(page, 'utf8')
  const [opening, closing] = [`<!-- ${name}:start -->`, `<!-- ${name}:end -->`]
  const [start, end] = [text.indexOf(opening), text.indexOf(closing)]
  if (start === -1 || end < start) throw new Error(`${page} has no ${opening} … ${closing}`)
  writeFileSync(page, `${text.slice(0, start)}${opening}\n\n${content}\n\n${text.slice(end)}`)
}

function sectionOf({ node, cpu, date, runs, rows }: Report): string {
  const all = Object.values(rows).flat()
  return `#### Node ${node.slice(1)}\n\n${cpu}, ${date}, medians of ${runs} runs.\n\n${tableOf(all)}`
}

function major(version: string): number {
  return Number(/\d+/.exec(version)?.[0])
}
