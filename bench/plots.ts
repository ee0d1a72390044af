/** Bars of SVG with their spread, readable on light and on dark. */

import type { Line } from './comparison.js'
import type { Spread } from './statistics.js'

const WIDTH = 860
const LABELS = 270
const VALUES = 150
const ROW = 22
const HEAD = 30

const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600 }
  .base { fill: #8c959f }
  .other { fill: #6e9ecf }
  .node { fill: #b98d2f }
  .kernel { fill: #2f9e5b }
  .spread { stroke: #24292f; stroke-width: 1.5; fill: none }
  .absent { font-style: italic; opacity: 0.6 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .spread { stroke: #e6edf3 }
  }`

function classOf(subject: string): string {
  if (subject.startsWith('fairlead')) return subject.includes('kernel') ? 'kernel' : 'node'
  return subject.startsWith('C limit') ? 'base' : 'other'
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`)
}

export function figure(value: number): string {
  const digits = Math.abs(value) < 100 ? 2 : 0
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}

function barOf({ subject, value, absent }: Line, y: number, perUnit: number): string {
  const middle = y + ROW / 2
  const label = `<text x="${LABELS - 8}" y="${middle + 4}" text-anchor="end">${escaped(subject)}</text>`
  if (value === undefined)
    return `${label}<text class="absent" x="${LABELS}" y="${middle + 4}">not measured: ${escaped(absent ?? '')}</text>`
  const at = (units: number) => (LABELS + units * perUnit).toFixed(1)
  const { median, min, max } = value
  return [
    label,
    `<rect class="${classOf(subject)}" x="${LABELS}" y="${y + 3}" width="${(Math.max(median, 0) * perUnit).toFixed(1)}" height="${ROW - 6}" rx="2"/>`,
    `<path class="spread" d="M${at(min)} ${middle}H${at(max)}M${at(min)} ${middle - 4}v8M${at(max)} ${middle - 4}v8"/>`,
    `<text x="${WIDTH - 4}" y="${middle + 4}" text-anchor="end">${figure(median)} (${figure(min)}–${figure(max)})</text>`,
  ].join('')
}

/** One picture of all workloads of a group, each on a scale of its own. Shorter is better. */
export function plot(lines: readonly Line[]): string {
  const workloads = [...new Set(lines.map(({ workload }) => workload))]
  const parts: string[] = []
  let y = 8
  for (const workload of workloads) {
    const own = lines.filter((line) => line.workload === workload)
    const longest = Math.max(...own.map(({ value }) => (value as Spread | undefined)?.max ?? 0))
    const perUnit = longest > 0 ? (WIDTH - LABELS - VALUES) / longest : 0
    parts.push(`<text class="title" x="8" y="${y + 18}">${escaped(`${workload}: ${own[0]?.measure}`)}</text>`)
    y += HEAD
    for (const line of own) {
      parts.push(barOf(line, y, perUnit))
      y += ROW
    }
    y += 10
  }
  const about = escaped(workloads.join('; '))
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}" role="img" aria-label="${about}">
<style>${STYLE}
</style>
${parts.join('\n')}
</svg>
`
}
