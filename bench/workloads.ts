/** What is measured, how, and the bar it has to meet. */

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { developmentAuthority } from 'fairlead/testing'
import { type Child, onCore, withChildren } from './child.js'
import { hasErlang } from './dialects.js'
import { ratios, type Row, spread } from './statistics.js'

export interface Effort {
  /** Runs whose median counts. */
  readonly runs: number
  /** Less of everything, for a quick look. */
  readonly quick: boolean
}

export type Workload = (effort: Effort) => Promise<Row[]>

/** Whether the Node that runs is of the oldest supported line, on which its own TLS is costlier than on later ones. */
const oldest = Number(process.versions.node.split('.')[0]) < 22

interface Subject {
  readonly name: string
  /** Most times the cost of the first subject. */
  readonly most?: number
  /** Name of a subject it must beat. */
  readonly below?: string
}

interface Shape {
  readonly connections: number
  readonly size: number
  /** Requests per run and subject. */
  readonly requests: number
}

const SHAPES: Record<string, Shape> = {
  '64 × 64 B': { connections: 64, size: 64, requests: 96_000 },
  '16 × 16 KiB': { connections: 16, size: 16 * 1024, requests: 32_000 },
}

/** Slices of a run, in turn for each subject, so that a disturbance of the machine falls on all of them. */
const SLICES = 6
/** Slices before those that count, of this many requests: the compiler has to have seen the paths that matter. */
const WARMUPS = 2
const WARMUP = 12_000

interface Cost {
  /** Microseconds of the server's processor time per request. */
  cpu: number
  /** Requests per second. */
  rate: number
}

/** The verbs of `load.ts` for a kind of load. What may get lost is counted by the server. */
interface Load {
  readonly connect: string
  readonly slice: string
  readonly counted?: true
  /** Each message behind its length, in four bytes. */
  readonly framed?: true
  /** What the first subject is called in bars. Default: bare. */
  readonly base?: string
}

const STREAMS: Load = { connect: 'connect', slice: 'slice' }

/** One run: a fresh process for each server and one for the load, then slices in turn. */
function runEchoes(
  subjects: readonly Subject[],
  shape: Shape,
  effort: Effort,
  reversed: boolean,
  verbs: Load,
  tls?: Credentials,
): Promise<Cost[]> {
  const perSlice = Math.ceil(shape.requests / SLICES / shape.connections / (effort.quick ? 4 : 1))
  return withChildren(async (start) => {
    const load = start('load', 1)
    const servers: Child[] = []
    for (const { name } of subjects) {
      const server = start('servers', 0, name, JSON.stringify(tls ?? {}))
      const port = await server.call<number>('open')
      const { connections, size } = shape
      await load.call(verbs.connect, { target: name, port, connections, size, framed: verbs.framed, ca: tls?.ca })
      servers.push(server)
    }
    const costs = subjects.map(() => ({ cpu: 0, time: 0, requests: 0 }))
    const order = subjects.map((_, i) => i)
    for (let slice = -WARMUPS; slice < SLICES; slice++) {
      const requests = slice < 0 ? WARMUP / shape.connections : perSlice
      for (const i of (slice % 2 === 0) === reversed ? [...order].reverse() : order) {
        const server = servers[i] as Child
        const handled = verbs.counted ? await server.call<number>('handled') : 0
        const before = await server.call<number>('cpu')
        const time = await load.call<number>(verbs.slice, { target: (subjects[i] as Subject).name, requests })
        const cpu = (await server.call<number>('cpu')) - before
        if (slice < 0) continue
        const cost = costs[i] as { cpu: number; time: number; requests: number }
        cost.cpu += cpu
        cost.time += time
        cost.requests += verbs.counted ? (await server.call<number>('handled')) - handled : perSlice * shape.connections
      }
    }
    return costs.map(({ cpu, time, requests }) => ({ cpu: cpu / requests, rate: (requests / time) * 1_000 }))
  })
}

interface Credentials {
  readonly cert: string
  readonly key: string
  readonly ca: string
}

async function echoes(protocol: string, subjects: readonly Subject[], effort: Effort, tls?: Credentials): Promise<Row[]> {
  const rows: Row[] = []
  for (const [form, shape] of Object.entries(SHAPES)) {
    rows.push(...(await compared(`${protocol} echo, ${form}`, subjects, shape, effort, STREAMS, tls)))
  }
  return rows
}

/** The first subject is what the others are compared with. */
async function compared(
  workload: string,
  subjects: readonly Subject[],
  shape: Shape,
  effort: Effort,
  verbs: Load,
  tls?: Credentials,
): Promise<Row[]> {
  const rows: Row[] = []
  const runs: Cost[][] = []
  for (let i = 0; i < effort.runs; i++) runs.push(await runEchoes(subjects, shape, effort, i % 2 === 1, verbs, tls))
  const cpuOf = (i: number) => runs.map((run) => (run[i] as Cost).cpu)
  subjects.forEach(({ name, most, below }, i) => {
    const ratio = spread(ratios(cpuOf(i), cpuOf(0)))
    const rival = below === undefined ? -1 : subjects.findIndex((subject) => subject.name === below)
    const bars = [...(most === undefined ? [] : [`≤ ${most} × ${verbs.base ?? 'bare'}`]), ...(below === undefined ? [] : [`< ${below}`])]
    const wins = rival === -1 || spread(ratios(cpuOf(i), cpuOf(rival))).median < 1
    rows.push({
      workload,
      subject: name,
      measure: verbs.slice === STREAMS.slice ? 'CPU µs per request' : 'CPU µs per datagram',
      value: spread(cpuOf(i)),
      rate: spread(runs.map((run) => (run[i] as Cost).rate)).median,
      ratio,
      ...(bars.length > 0 && { bar: bars.join(', '), met: wins && (most === undefined || ratio.median <= most) }),
    })
  })
  return rows
}

const tcpEcho: Workload = (effort) =>
  echoes(
    'TCP',
    [{ name: 'node:net data' }, { name: 'node:net for await' }, { name: 'fairlead', most: 1.15, below: 'node:net for await' }],
    effort,
  )

const tlsEcho: Workload = async (effort) => {
  const authority = await developmentAuthority()
  const { cert, key } = await authority.issue({ names: ['localhost', '127.0.0.1'] })
  const subjects = [
    { name: 'node:tls data' },
    { name: 'fairlead tls', most: oldest ? 1.5 : 2 },
    { name: 'fairlead tls, allowTruncation', most: 1.1 },
  ]
  return echoes('TLS', subjects, effort, { cert, key, ca: authority.cert })
}

/** Both sides are the same but for how chunks and messages reach the program. */
const delivery: Workload = async (effort) => [
  ...(await echoes('TCP', [{ name: 'fairlead' }, { name: 'deliver', most: 1.02 }], effort)),
  ...(await compared(
    '16 × 256 messages of 64 B',
    [{ name: 'messages, for await' }, { name: 'messages, deliver', below: 'messages, for await' }],
    { connections: 16, size: 16 * 1024, requests: 16_000 },
    effort,
    STREAMS,
  )),
]

/** On the core, and in the dialect that has the same program. */
const DIALECTS: readonly (readonly [core: string, dialect: string])[] = [
  ['read and write', 'fairlead/dictu'],
  ['readInto and write', 'fairlead/ioto'],
  ['deliver and write', 'fairlead/fluffos'],
  ['read and write', 'fairlead/pike'],
]

/** Most times the cost of the core. */
const DIALECT = 1.2

/** Text that MUDs write, beside JSON of the same value. */
async function values(effort: Effort): Promise<Row[]> {
  const pairs = [
    ['JSON.stringify', 'encodeFrame'],
    ['JSON.parse', 'decodeValue'],
  ] as const
  const runs: Record<string, number>[] = []
  for (let run = 0; run < effort.runs; run++) {
    runs.push(await withChildren((start) => start('servers', 0).call('values', effort.quick ? 2_000 : 10_000)))
  }
  const row = { workload: 'a value of 10 kB', measure: 'CPU µs per value' }
  return pairs.flatMap(([base, subject]): Row[] => {
    const costs = (name: string) => runs.map((run) => run[name] as number)
    const ratio = spread(ratios(costs(subject), costs(base)))
    return [
      { ...row, subject: base, value: spread(costs(base)) },
      { ...row, subject, value: spread(costs(subject)), ratio, bar: `≤ 4 × ${base}`, met: ratio.median <= 4 },
    ]
  })
}

/** The packets of Erlang: beside the core, and, where it is installed, beside Erlang itself. */
async function packets(shape: Shape, effort: Effort, verbs: Load): Promise<Row[]> {
  const subjects = [{ name: 'frames, receive and send' }, { name: 'fairlead/erlang', most: DIALECT }]
  const workload = 'TCP echo, 64 × 64 B in {packet, 4}'
  const both = hasErlang() ? [...subjects, { name: 'Erlang/OTP' }] : subjects
  const rows = await compared(workload, both, shape, effort, { ...verbs, framed: true })
  const [, ours, theirs] = rows
  if (ours === undefined || theirs === undefined) return rows
  const met = ours.value.median <= theirs.value.median
  const perSecond = ({ subject, value: { median, min, max } }: Row): Row => ({
    workload,
    subject,
    measure: 'messages per CPU second',
    value: { median: 1e6 / median, min: 1e6 / max, max: 1e6 / min },
  })
  return [...rows, { ...perSecond(ours), bar: '≥ Erlang/OTP', met }, perSecond(theirs)]
}

const dialects: Workload = async (effort) => {
  const shape = { connections: 64, size: 64, requests: 96_000 }
  const verbs: Load = { ...STREAMS, base: 'core' }
  const rows = await packets(shape, effort, verbs)
  for (const [core, dialect] of DIALECTS) {
    rows.push(...(await compared('TCP echo, 64 × 64 B', [{ name: core }, { name: dialect, most: DIALECT }], shape, effort, verbs)))
  }
  return [...rows, ...(await values(effort))]
}

/** Rounds of `select` with 10 sockets ready among few and among many that are not. */
const rounds: Workload = async (effort) => {
  const sizes = [10, effort.quick ? 2_000 : 10_000]
  const costs: { cpu: number; time: number }[][] = sizes.map(() => [])
  for (let run = 0; run < effort.runs; run++) {
    for (const [i, size] of sizes.entries()) {
      await withChildren(async (start) => {
        const server = start('servers', 0, 'select')
        const load = start('load', 1)
        const port = await server.call<number>('open')
        await load.call('hold', { port, count: size + 10 })
        await load.call('speak', 10)
        const warm = await server.call<{ ready: number }>('rounds', 5_000)
        if (warm.ready < 9) throw new Error(`${warm.ready} sockets were ready`)
        costs[i]?.push(await server.call('rounds', effort.quick ? 10_000 : 40_000))
      })
    }
  }
  const [few = [], many = []] = costs
  const cpu = (all: readonly { cpu: number }[]) => all.map((one) => one.cpu)
  const rate = (all: readonly { time: number }[]) => spread(all.map(({ time }) => 1e6 / time)).median
  const ratio = spread(ratios(cpu(many), cpu(few)))
  const row = { workload: 'select, 10 ready', measure: 'CPU µs per round' }
  const subject = (size: number | undefined) => `${size?.toLocaleString('en')} idle beside them`
  return [
    { ...row, subject: subject(sizes[0]), value: spread(cpu(few)), rate: rate(few) },
    { ...row, subject: subject(sizes[1]), value: spread(cpu(many)), rate: rate(many), ratio, bar: '≤ 1.5 × few', met: ratio.median <= 1.5 },
  ]
}

const DATAGRAM = 100

/** Sending: in the process under test, to a socket that nobody reads. */
async function udpSends(effort: Effort): Promise<Row[]> {
  const names = ['node:dgram, 64 at a time', 'fairlead, awaited one by one', 'fairlead, sendMany']
  const count = effort.quick ? 40_000 : 200_000
  const costs: number[][] = names.map(() => [])
  for (let run = 0; run < effort.runs; run++) {
    await withChildren(async (start) => {
      const sink = start('servers', 1, 'node:dgram count')
      const port = await sink.call<number>('open')
      for (const [i, send] of names.entries()) {
        const sender = start('servers', 0)
        await sender.call('sendDatagrams', { send, port, size: DATAGRAM, count: count / 4 })
        const before = await sender.call<number>('cpu')
        await sender.call('sendDatagrams', { send, port, size: DATAGRAM, count })
        costs[i]?.push(((await sender.call<number>('cpu')) - before) / count)
      }
    })
  }
  return names.map((subject, i) => ({
    workload: 'UDP send, 100 B',
    subject,
    measure: 'CPU µs per datagram',
    value: spread(costs[i] as number[]),
    ratio: spread(ratios(costs[i] as number[], costs[0] as number[])),
  }))
}

const udp: Workload = async (effort) => [
  ...(await compared(
    'UDP echo, 64 × 100 B',
    [{ name: 'node:dgram echo' }, { name: 'fairlead echo, for await', most: 1.15 }, { name: 'fairlead echo, receiveMany and sendMany' }],
    { connections: 64, size: DATAGRAM, requests: 192_000 },
    effort,
    { connect: 'connectUdp', slice: 'sliceUdp' },
  )),
  ...(await compared(
    'UDP flood, 100 B',
    [{ name: 'node:dgram count' }, { name: 'fairlead count, for await', most: 1.15 }, { name: 'fairlead count, receiveMany' }],
    { connections: 1, size: DATAGRAM, requests: 300_000 },
    effort,
    { connect: 'connectUdp', slice: 'floodUdp', counted: true },
  )),
  ...(await udpSends(effort)),
]

/** Heap and external memory of one connection that has been accepted and is waited for, nothing having been sent. */
const idle: Workload = async (effort) => {
  const count = effort.quick ? 2_000 : 10_000
  const names = ['node:net data', 'fairlead']
  const values: number[][] = names.map(() => [])
  for (let run = 0; run < effort.runs; run++) {
    for (const [i, name] of names.entries()) {
      const bytes = await withChildren(async (start) => {
        const server = start('servers', 0, name)
        const load = start('load', 1)
        const port = await server.call<number>('open')
        // What the first connection loads and compiles is not the cost of one connection.
        await load.call('hold', { port, count: 200 })
        const before = await server.call<{ heap: number }>('memory')
        await load.call('hold', { port, count })
        const after = await server.call<{ heap: number }>('memory')
        return (after.heap - before.heap) / count
      })
      values[i]?.push(bytes)
    }
  }
  const [bare = [], ours = []] = values
  const above = spread(ours.map((value, i) => value - (bare[i] as number)))
  const workload = `${count.toLocaleString('en')} idle connections`
  const measure = 'heap bytes per connection'
  return [
    { workload, subject: 'node:net data', measure, value: spread(bare) },
    { workload, subject: 'fairlead', measure, value: spread(ours), ratio: spread(ratios(ours, bare)) },
    { workload, subject: 'fairlead above node:net', measure, value: above, bar: '≤ 1,536', met: above.median <= 1_536 },
  ]
}

const frames: Workload = async (effort) => {
  const count = effort.quick ? 200_000 : 1_000_000
  const receive = 'for await'
  const rows: Row[] = []
  for (const send of ['sendMany', 'send, 100 at a time', 'send, awaited one by one']) {
    const rates: number[] = []
    for (let run = 0; run < effort.runs; run++) {
      rates.push(await withChildren((start) => start('servers', 0).call<number>('frames', { send, receive, count })))
    }
    const value = spread(rates)
    rows.push({
      workload: `${count.toLocaleString('en')} frames of 16 bytes`,
      subject: `${send}; ${receive}`,
      measure: 'frames per CPU second',
      value,
      bar: '≥ 1,500,000',
      met: value.median >= 1_500_000,
    })
  }
  return rows
}

/** Writers whose peers never read: what the process holds for each, heap and external memory. */
const stall: Workload = async (effort) => {
  const COUNT = 20
  const held: number[] = []
  const unsent: number[] = []
  for (let run = 0; run < effort.runs; run++) {
    await withChildren(async (start) => {
      const server = start('servers', 0, 'flood')
      const load = start('load', 1)
      const port = await server.call<number>('open')
      const before = await server.call<{ heap: number; external: number }>('memory')
      await load.call('ignore', { port, count: COUNT })
      let written = -1
      for (let last = -2; last !== written;) {
        last = written
        await new Promise((resolve) => setTimeout(resolve, 100))
        const now = await server.call<{ unsent: number; written: number }[]>('unsent')
        written = now.reduce((sum, one) => sum + one.written + one.unsent, 0)
      }
      const after = await server.call<{ heap: number; external: number }>('memory')
      held.push((after.heap + after.external - before.heap - before.external) / COUNT)
      unsent.push(Math.max(...(await server.call<{ unsent: number }[]>('unsent')).map((one) => one.unsent)))
    })
  }
  const workload = 'writer, peer never reads'
  const bar = '≤ 1,048,576'
  const [memory, counted] = [spread(held), spread(unsent)]
  return [
    { workload, subject: 'fairlead, memory', measure: 'bytes per connection', value: memory, bar, met: memory.max <= 2 ** 20 },
    { workload, subject: 'fairlead, stats.unsent', measure: 'bytes, the most of 20', value: counted, bar, met: counted.max <= 2 ** 20 },
  ]
}

const DEADLINE = 2_000
/** A client counts from when it knows that it is connected, which may be a little after the server has accepted it. */
const EARLY = 50
/** Milliseconds behind its deadline that a client may still be there: the time to accept a thousand of them included. */
const LATE = 250

const trickle: Workload = async (effort) => {
  const COUNT = 1_000
  const alone: number[] = []
  const beside: number[] = []
  const lives: number[] = []
  for (let run = 0; run < effort.runs; run++) {
    await withChildren(async (start) => {
      const server = start('servers', 0, 'lines')
      const port = await server.call<number>('open')
      const honest = start('load', 1)
      const slow = start('load', 1)
      await honest.call('roundTrips', { port, time: 300 })
      alone.push((await honest.call<{ median: number }>('roundTrips', { port, time: 700 })).median)
      await slow.call('trickle', { port, count: COUNT, interval: 250 })
      beside.push((await honest.call<{ median: number }>('roundTrips', { port, time: 700 })).median)
      lives.push(...(await slow.call<number[]>('gone')))
    })
  }
  const workload = '1,000 slow-trickle clients'
  const measure = 'µs, median round trip'
  const ratio = spread(ratios(beside, alone))
  const life = spread(lives)
  const met = life.min >= DEADLINE - EARLY && life.max <= DEADLINE + LATE
  return [
    { workload, subject: 'honest client alone', measure, value: spread(alone) },
    {
      workload,
      subject: 'honest client beside them',
      measure,
      value: spread(beside),
      ratio,
      bar: '≤ 1.2 × alone',
      met: ratio.median <= 1.2,
    },
    { workload, subject: 'their lives', measure: 'ms until closed', value: life, bar: `${DEADLINE - EARLY} to ${DEADLINE + LATE}`, met },
  ]
}

/** Connections dialled, accepted and closed again, both ends in one process. */
const connections: Workload = async (effort) => {
  const ways = ['node:net', 'fairlead']
  const count = effort.quick ? 2_000 : 8_000
  const costs: number[][] = ways.map(() => [])
  for (let run = 0; run < effort.runs; run++) {
    for (const [i, way] of ways.entries()) {
      costs[i]?.push(await withChildren((start) => start('servers', 0).call<number>('connections', { way, count })))
    }
  }
  return ways.map((subject, i) => ({
    workload: 'connections, one after the other',
    subject,
    measure: 'CPU µs per dial, accept and close',
    value: spread(costs[i] as number[]),
    ratio: spread(ratios(costs[i] as number[], costs[0] as number[])),
  }))
}

/** Live deadlines, each renewed ten times a second. */
const deadlines: Workload = async (effort) => {
  const o = effort.quick ? { count: 20_000, seconds: 2 } : { count: 100_000, seconds: 5 }
  const shares: number[] = []
  const early: number[] = []
  for (let run = 0; run < effort.runs; run++) {
    const measured = await withChildren((start) => start('servers', 0).call<{ share: number; early: number }>('deadlines', o))
    shares.push(measured.share)
    early.push(measured.early)
  }
  const workload = `${o.count.toLocaleString('en')} deadlines renewed 10 × a second`
  const [share, fired] = [spread(shares), spread(early)]
  return [
    { workload, subject: '`Deadline.set` under a read', measure: '% of a core', value: share, bar: '< 5', met: share.median < 5 },
    { workload, subject: 'reads that ended early', measure: 'of all', value: fired, bar: '0', met: fired.max === 0 },
  ]
}

/** Wall-clock time of a process that does nothing, and of one that imports the package. */
const importing: Workload = async (effort) => {
  const once = (file: string): number => {
    const [command, args] = onCore(0, [fileURLToPath(new URL(`${file}.js`, import.meta.url))])
    const start = performance.now()
    if (spawnSync(command, args, { stdio: 'inherit' }).status !== 0) throw new Error(`${file} failed`)
    return performance.now() - start
  }
  const bare: number[] = []
  const ours: number[] = []
  const spawns = 2 * effort.runs
  for (let i = 0; i < spawns + 1; i++) {
    const [nothing, importer] = [once('start-bare'), once('start-import')]
    // The first pair fills the file cache.
    if (i === 0) continue
    bare.push(nothing)
    ours.push(importer)
  }
  const workload = 'start-up'
  const more = spread(ours.map((time, i) => time - (bare[i] as number)))
  return [
    { workload, subject: 'an empty module', measure: 'ms', value: spread(bare) },
    { workload, subject: "import 'fairlead'", measure: 'ms', value: spread(ours), ratio: spread(ratios(ours, bare)) },
    { workload, subject: 'the import alone', measure: 'ms', value: more, bar: '< 60', met: more.median < 60 },
  ]
}

export const workloads: Record<string, Workload> = {
  echo: tcpEcho,
  tls: tlsEcho,
  udp,
  delivery,
  dialects,
  select: rounds,
  connections,
  idle,
  frames,
  stall,
  trickle,
  deadlines,
  import: importing,
}
