/** Runs subjects side by side: every run has fresh processes, in which slices of load go to each in turn. */

import { Absent, Load, type Loading, type Measured, processorTimeOf, type Taken } from './peers.js'
import { compileC } from './programs.js'
import { ratios, type Spread, spread } from './statistics.js'
import type { Effort } from './workloads.js'

/** A subject of a comparison. */
export interface Line {
  readonly workload: string
  readonly subject: string
  readonly measure: string
  /** Why nothing was measured. */
  readonly absent?: string | undefined
  readonly value?: Spread | undefined
  /** Against the first subject of the same run. */
  readonly ratio?: Spread | undefined
  /** Requests, messages or MiB per second. */
  readonly rate?: number | undefined
  /** Microseconds. */
  readonly p50?: number | undefined
  readonly p99?: number | undefined
  readonly p999?: number | undefined
}

/** What a subject has to reach, and what it did. */
export interface Verdict {
  readonly workload: string
  readonly subject: string
  readonly bar: string
  /** What is compared, as median; or why it could not be. */
  readonly reached: string
  /** Undefined: could not be judged. */
  readonly met?: boolean | undefined
}

export interface Group {
  readonly lines: readonly Line[]
  readonly verdicts: readonly Verdict[]
}

/** At most so many times the value of another subject, the median over the runs; or in every run. */
export interface Bar {
  readonly subject: string
  readonly most: number
  readonly of: string
  readonly always?: true
  /** Says it the other way round: at least so many times the count per processor second. */
  readonly counts?: string
}

export interface Sample {
  readonly value: number
  readonly rate?: number | undefined
  readonly p50?: number | undefined
  readonly p99?: number | undefined
  readonly p999?: number | undefined
}

/** A subject that ended, fell silent or answered wrongly. The load may have ended with it. */
class Failed extends Error {
  readonly subject: string

  constructor(subject: string, cause: unknown) {
    super(`failed: ${(cause as Error).message}`, { cause })
    this.subject = subject
  }
}

/** Samples by subject, one for each run; or why there are none. */
export type Samples = Map<string, Sample[] | string>

export interface Cell {
  readonly workload: string
  readonly measure: string
  readonly subjects: readonly string[]
  readonly start: (subject: string) => Promise<Measured>
  /** Before the first slice; `name` is the subject's for the load. */
  readonly connect?: (load: Loading, name: string, server: Measured) => Promise<unknown>
  /** One slice, and what it handled. */
  readonly slice: (load: Loading, name: string, server: Measured, how: Slice) => Promise<Taken>
  /** What loads. Default: the program of C. */
  readonly load?: () => Loading
  /** What counts. Default: processor time per request. */
  readonly counts?: 'p99'
  /** The measure per microsecond of processor time and request. Default 1. */
  readonly scale?: number
  /** Slices that count. Default 4. */
  readonly slices?: number
  /** Slices before. Default 2. */
  readonly warmups?: number
  /** One subject after the other instead of in turn, where their connections together are too many for the load. */
  readonly apart?: true
  readonly bars?: readonly Bar[]
}

export interface Slice {
  /** Of the full load: less in a quick look. */
  readonly share: number
  /** Whether it is one of those that do not count. */
  readonly warming: boolean
}

interface Contestant {
  readonly subject: string
  readonly name: string
  readonly server: Measured
  cpu: number
  time: number
  requests: number
  readonly slices: Taken[]
}

async function sliceOf(cell: Cell, load: Loading, contestant: Contestant, how: Slice): Promise<void> {
  const { subject, name, server } = contestant
  const measured = async (): Promise<[taken: Taken, cpu: number]> => {
    const before = processorTimeOf(server.pid)
    const taken = await cell.slice(load, name, server, how)
    return [taken, processorTimeOf(server.pid) - before]
  }
  const [taken, cpu] = await measured().catch((error) => Promise.reject(new Failed(subject, error)))
  if (how.warming) return
  contestant.cpu += cpu
  contestant.time += taken.ns
  contestant.requests += taken.requests
  contestant.slices.push(taken)
}

function sampleOf({ counts, scale = 1 }: Cell, { cpu, time, requests, slices }: Contestant): Sample {
  // Where the load times nothing, its percentiles are zero.
  const latency = (pick: (taken: Taken) => number) => {
    const { median } = spread(slices.map(pick))
    return median === 0 ? undefined : median / 1_000
  }
  const p99 = latency((taken) => taken.p99)
  return {
    value: counts === 'p99' ? (p99 as number) : (cpu / requests) * scale,
    rate: requests / (time / 1e9),
    p50: latency(({ p50 }) => p50),
    p99,
    p999: latency(({ p999 }) => p999),
  }
}

async function run(cell: Cell, effort: Effort, turn: number, samples: Samples): Promise<void> {
  const load = cell.load?.() ?? new Load(compileC('load.c'))
  const contestants: Contestant[] = []
  const { slices = 4, warmups = 2 } = cell
  const share = effort.quick ? 0.3 : 1
  const connect = async ({ name, server }: Contestant) => cell.connect?.(load, name, server)
  try {
    for (const [i, subject] of cell.subjects.entries()) {
      if (typeof samples.get(subject) === 'string') continue
      try {
        const server = await cell.start(subject)
        const contestant = { subject, name: `s${i}`, server, cpu: 0, time: 0, requests: 0, slices: [] }
        contestants.push(contestant)
        if (!cell.apart) await connect(contestant)
      } catch (error) {
        if (!(error instanceof Absent)) throw new Failed(subject, error)
        samples.set(subject, error.message)
      }
    }
    const both = [contestants, [...contestants].reverse()] as const
    if (cell.apart) {
      for (const contestant of both[turn % 2] as Contestant[]) {
        await connect(contestant).catch((error) => Promise.reject(new Failed(contestant.subject, error)))
        for (let i = -warmups; i < slices; i++) await sliceOf(cell, load, contestant, { share, warming: i < 0 })
        await load.run(`close ${contestant.name}`)
      }
    } else {
      for (let i = -warmups; i < slices; i++) {
        for (const contestant of both[(i + warmups + turn) % 2] as Contestant[])
          await sliceOf(cell, load, contestant, { share, warming: i < 0 })
      }
    }
    for (const contestant of contestants) addTo(samples, contestant.subject, sampleOf(cell, contestant))
  } finally {
    await Promise.all([load.end(), ...contestants.map(({ server }) => server.end())])
  }
}

export function addTo(samples: Samples, subject: string, sample: Sample): void {
  const known = samples.get(subject)
  if (typeof known === 'string') return
  if (known === undefined) samples.set(subject, [sample])
  else known.push(sample)
}

/** Who fails is left out, and the run made again: a fault of one does not cost the figures of the others. */
export async function sample(cell: Cell, effort: Effort): Promise<Samples> {
  const samples: Samples = new Map()
  for (let i = 0; i < effort.runs;) {
    try {
      await run(cell, effort, i, samples)
      i++
    } catch (error) {
      if (!(error instanceof Failed)) throw error
      console.error(`${cell.workload}: ${error.subject} ${error.message}`)
      samples.set(error.subject, error.message)
    }
  }
  return samples
}

export async function compare(cell: Cell, effort: Effort): Promise<Group> {
  return groupOf(cell, await sample(cell, effort))
}

export function groupOf(
  { workload, measure, subjects, bars = [] }: Pick<Cell, 'workload' | 'measure' | 'subjects' | 'bars'>,
  samples: Samples,
): Group {
  const measured = (subject: string | undefined) => {
    const found = subject === undefined ? undefined : samples.get(subject)
    return Array.isArray(found) ? found : undefined
  }
  const base = measured(subjects[0])
  const lines = subjects.map((subject): Line => {
    const found = measured(subject)
    if (found === undefined) return { workload, subject, measure, absent: String(samples.get(subject) ?? 'not there') }
    const median = (pick: (sample: Sample) => number | undefined) => {
      const values = found.map(pick).filter((value) => value !== undefined)
      return values.length === 0 ? undefined : spread(values).median
    }
    const values = found.map(valueOf)
    return {
      workload,
      subject,
      measure,
      value: spread(values),
      ratio: base && spread(ratios(values, base.map(valueOf))),
      rate: median(({ rate }) => rate),
      p50: median(({ p50 }) => p50),
      p99: median(({ p99 }) => p99),
      p999: median(({ p999 }) => p999),
    }
  })
  const verdicts = bars.map((bar) => judge(workload, bar, samples))
  return { lines, verdicts }
}

const valueOf = ({ value }: Sample) => value

function judge(workload: string, bar: Bar, samples: Samples): Verdict {
  const { subject, most, of, always, counts } = bar
  const factor = (value: number) => String(Math.round(value * 100) / 100)
  const what = counts !== undefined ? `${counts} ≥ ${factor(1 / most)} ×` : most === 1 ? '≤' : `≤ ${factor(most)} ×`
  const said = { workload, subject, bar: `${what} ${of}${always ? ', in every run' : ''}` }
  const [own, other] = [samples.get(subject) ?? 'not there', samples.get(of) ?? 'not there']
  if (typeof own === 'string') return { ...said, reached: own, ...(own.startsWith('failed') && { met: false }) }
  if (typeof other === 'string') return { ...said, reached: `${of}: ${other}` }
  const { median, max } = spread(ratios(own.map(valueOf), other.map(valueOf)))
  const reached = always ? max : median
  return { ...said, reached: `${(counts === undefined ? reached : 1 / reached).toFixed(3)} ×`, met: reached <= most }
}

/** Several cells of one name. */
export async function together(cells: readonly (() => Promise<Group>)[]): Promise<Group> {
  const groups: Group[] = []
  for (const cell of cells) groups.push(await cell())
  return { lines: groups.flatMap(({ lines }) => lines), verdicts: groups.flatMap(({ verdicts }) => verdicts) }
}
