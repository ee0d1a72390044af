/** What is made of five runs. */

export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const median = sorted.length % 2 === 1 ? sorted[middle] : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2
  return { median: median as number, min: sorted[0] as number, max: sorted[sorted.length - 1] as number }
}

/** One line of the report. */
export interface Row {
  readonly workload: string
  readonly subject: string
  /** What is counted, with its unit. */
  readonly measure: string
  readonly value: Spread
  /** Requests per second of wall-clock time; the load, not the server, is usually what bounds it. */
  readonly rate?: number | undefined
  /** Against the bare subject of the same run: the median over the runs, not the quotient of two medians. */
  readonly ratio?: Spread | undefined
  /** What the row must meet, in words, and whether it does. */
  readonly bar?: string | undefined
  readonly met?: boolean | undefined
}

/** Quotients run by run. */
export function ratios(values: readonly number[], base: readonly number[]): number[] {
  return values.map((value, i) => value / (base[i] as number))
}
