/** The comparisons: every subject side by side, the load and the limit being programs of C. */

import { readdirSync } from 'node:fs'
import { developmentAuthority } from 'fairlead/testing'
import { Child } from './child.js'
import {
  addTo,
  type Bar,
  type Cell,
  compare,
  type Group,
  groupOf,
  type Line,
  type Sample,
  sample,
  type Samples,
  together,
} from './comparison.js'
import { Absent, Load, type Loading, type Measured, residentOf, type Taken } from './peers.js'
import { compileC } from './programs.js'
import { RELAYS, startRelay } from './relays.js'
import {
  type Credentials,
  DGRAM,
  KERNEL,
  KERNEL_INTO,
  LIMIT,
  LIMIT_TOGETHER,
  NET,
  NET_ITERATED,
  NEWEST_NET,
  NODE_DRIVER,
  start,
} from './subjects.js'
import type { Effort } from './workloads.js'

export type Comparison = (effort: Effort) => Promise<Group>

const PER_REQUEST = 'CPU µs per request'
const KIBI = 1_024

const EVERYONE = [
  ...[LIMIT, NET, NET_ITERATED, NEWEST_NET, 'Bun', 'Deno', 'Go', 'Erlang'],
  ...[NODE_DRIVER, 'fairlead node, readInto', 'fairlead node, framed', 'fairlead node, active'],
  ...[KERNEL, KERNEL_INTO, 'fairlead kernel, framed', 'fairlead kernel, active', 'fairlead kernel on the newest Node'],
]
const FEW = [LIMIT, NET, 'Bun', NODE_DRIVER, KERNEL, KERNEL_INTO]

interface Shape {
  readonly connections: number
  readonly size: number
  /** Requests of a slice, over all connections. */
  readonly requests: number
  readonly depth?: number
}

function echoOf(shape: Shape, subjects: readonly string[], more: Partial<Cell> = {}): Cell {
  const { connections, size, requests, depth = 1 } = shape
  const bytes = size < KIBI ? `${size} B` : `${size / KIBI} KiB`
  return {
    workload: `echo, ${connections.toLocaleString('en')} × ${bytes}${depth > 1 ? `, ${depth} at a time` : ''}`,
    measure: PER_REQUEST,
    subjects,
    start: (subject) => start(subject, 'echo'),
    connect: (load, name, { port }) => load.run(`connect ${name} ${port} ${connections} ${size}`),
    slice: (load, name, _, { share, warming }) => {
      // What the compiler has to see does not get less where a look is quick.
      const each = Math.max(1, Math.round((requests * (warming ? 1 : share)) / connections))
      return load.run(`echo ${name} ${Math.max(each, depth)} ${depth}`)
    },
    ...more,
  }
}

const small: Comparison = (effort) => {
  const bars: Bar[] = [
    { subject: KERNEL, most: 1.2, of: LIMIT },
    { subject: KERNEL, most: 1.3, of: LIMIT, always: true },
    { subject: KERNEL, most: 1.1, of: 'Bun' },
    { subject: KERNEL, most: 1, of: 'Go' },
    { subject: KERNEL, most: 0.8, of: NET },
  ]
  return compare(echoOf({ connections: 64, size: 64, requests: 16_000 }, EVERYONE, { bars }), effort)
}

const large: Comparison = (effort) => {
  const bars: Bar[] = [
    { subject: KERNEL, most: 1.35, of: LIMIT },
    { subject: KERNEL_INTO, most: 1.15, of: LIMIT },
    { subject: KERNEL, most: 1, of: 'Bun' },
    { subject: KERNEL, most: 0.85, of: NET },
    { subject: KERNEL, most: 0.5, of: NEWEST_NET },
  ]
  return compare(echoOf({ connections: 16, size: 16 * KIBI, requests: 8_000 }, EVERYONE, { bars }), effort)
}

/** A quick look leaves some out. */
const sizesOf = ({ quick }: Effort, few: readonly number[] = [64, 16 * KIBI]): readonly number[] => (quick ? few : [64, KIBI, 16 * KIBI])

const grid: Comparison = (effort) =>
  together(
    [1, 64, 1_000].flatMap((connections) =>
      sizesOf(effort)
        .filter((size) => connections !== 64 || size !== 64)
        .map((size) => {
          const requests = connections === 1 ? 4_000 : size > KIBI ? 6_000 : 10_000
          return () => compare(echoOf({ connections, size, requests }, FEW), effort)
        }),
    ),
  )

const MANY = 10_000

/** What a connection costs where there are many, beside its own figure at 64. */
const crowd: Comparison = (effort) => {
  const cells = sizesOf(effort, [64]).map((size) => async () => {
    const subjects = size === 64 ? [...FEW, 'Go', 'Deno'] : FEW
    const cell = echoOf({ connections: MANY, size, requests: 20_000 }, subjects, { apart: true, slices: 3, warmups: 1 })
    const samples = await sample(cell, effort)
    if (size !== 64) return groupOf(cell, samples)
    // What grows for the limit as well is the system's.
    const few = new Map([LIMIT, KERNEL].map((subject) => [subject, `${subject} at 64`]))
    const own = await sample(echoOf({ connections: 64, size, requests: 16_000 }, [...few.keys()]), effort)
    for (const [subject, name] of few) samples.set(name, own.get(subject) as Sample[] | string)
    const bars = [{ subject: KERNEL, most: 1.3, of: few.get(KERNEL) as string }]
    return groupOf({ ...cell, subjects: [...subjects, ...few.values()], bars }, samples)
  })
  return together(cells)
}

const pipelined: Comparison = (effort) => {
  const subjects = [...FEW, NET_ITERATED, NEWEST_NET, 'Deno', 'Go']
  return compare(echoOf({ connections: 64, size: 64, requests: 100_000, depth: 16 }, subjects), effort)
}

const bulk: Comparison = (effort) => {
  const cell = (workload: string, verb: 'push' | 'pull', subjects: readonly string[]): Cell => ({
    workload,
    measure: 'CPU µs per MiB',
    subjects,
    start: (subject) => start(subject, verb === 'push' ? 'sink' : 'source'),
    connect: (load, name, { port }) => load.run(`connect ${name} ${port} 1 ${verb === 'push' ? 64 * KIBI : 1}`),
    slice: (load, name, _, { share }) => load.run(`${verb} ${name} ${Math.ceil(256 * share)}`),
  })
  const both = [LIMIT, NET, NEWEST_NET, 'Bun', 'Deno', 'Go', NODE_DRIVER, KERNEL]
  return together([
    () => compare(cell('one way, in', 'push', [...both, KERNEL_INTO, 'fairlead kernel, active', 'Erlang']), effort),
    () => compare(cell('one way, out', 'pull', both), effort),
  ])
}

const fanout: Comparison = (effort) => {
  const LISTENERS = 1_000
  const cell: Cell = {
    workload: 'one message of 64 B to 1,000 connections',
    measure: 'CPU µs per message and listener',
    subjects: [LIMIT, NET, NEWEST_NET, 'Bun', 'Deno', 'Go', NODE_DRIVER, KERNEL],
    start: (subject) => start(subject, 'fanout'),
    connect: (load, name, server) => connectAll(load, name, server, LISTENERS + 1),
    slice: (load, name, _, { share }) => load.run(`fanout ${name} ${Math.ceil(12 * share)}`),
    bars: [{ subject: KERNEL, most: 0.6, of: NET }],
  }
  return compare(cell, effort)
}

const requests: Comparison = (effort) => {
  const cell: Cell = {
    workload: 'connect, request of 64 B, close, 16 at a time',
    measure: PER_REQUEST,
    subjects: [LIMIT, NET, NEWEST_NET, 'Bun', 'Deno', 'Go', 'Erlang', NODE_DRIVER, KERNEL],
    start: (subject) => start(subject, 'echo'),
    slice: (load, _, { port }, { share }) => load.run(`requests ${port} ${Math.ceil(3_000 * share)} 16 64`),
    bars: [{ subject: KERNEL, most: 0.6, of: NET }],
  }
  return compare(cell, effort)
}

/**
 * Memory that stays with a process for each connection that was accepted and says nothing. What grows in steps, such as the young
 * generation of V8, is part of the first figure; the second has less of it, as the steps are behind.
 */
const resident: Comparison = async (effort) => {
  const subjects = [LIMIT, NET, NEWEST_NET, 'Bun', 'Deno', 'Go', 'Erlang', NODE_DRIVER, KERNEL]
  const count = effort.quick ? MANY / 4 : MANY
  const more = count * 0.75
  const [first, then]: [Samples, Samples] = [new Map(), new Map()]
  for (let turn = 0; turn < effort.runs; turn++) {
    for (const subject of subjects) {
      if (typeof first.get(subject) === 'string') continue
      const load = new Load(compileC('load.c'))
      let server: Measured | undefined
      try {
        server = await start(subject, 'echo')
        // What the first connections load and compile is not the cost of one.
        const before = await heldBy(server, load, 'few', 500)
        const many = await heldBy(server, load, 'many', count)
        addTo(first, subject, { value: (many - before) / count })
        addTo(then, subject, { value: ((await heldBy(server, load, 'more', more)) - many) / more })
      } catch (error) {
        const reason = `${error instanceof Absent ? '' : 'failed: '}${(error as Error).message}`
        for (const samples of [first, then]) samples.set(subject, reason)
      } finally {
        await Promise.all([load.end(), server?.end()])
      }
    }
  }
  const workload = `${count.toLocaleString('en')} idle connections`
  const measure = 'resident bytes per connection'
  const { lines } = groupOf({ workload, measure, subjects }, first)
  const others = groupOf({ workload: `${more.toLocaleString('en')} more idle connections`, measure, subjects }, then)
  const { value, absent = '' } = lines.find(({ subject }) => subject === KERNEL) as Line
  const said = { workload, subject: KERNEL, bar: '≤ 2,048 bytes each' }
  const judged = value && { reached: `${Math.round(value.median).toLocaleString('en')} bytes`, met: value.median <= 2_048 }
  const verdict = { ...said, ...(judged ?? { reached: absent, ...(absent.startsWith('failed') && { met: false }) }) }
  return { lines: [...lines, ...others.lines], verdicts: [verdict] }
}

/** Milliseconds after which a connection that was queued should have been accepted. */
const ACCEPTED = 20_000

/** Connected is what the system has queued; accepted is what counts. */
async function connectAll(load: Loading, name: string, server: Measured, count: number): Promise<void> {
  const descriptors = () => readdirSync(`/proc/${server.pid}/fd`).length
  const before = descriptors()
  await load.run(`connect ${name} ${server.port} ${count} 64`)
  for (const late = performance.now() + ACCEPTED; descriptors() < before + count;) {
    if (performance.now() > late) throw new Error(`${descriptors() - before} of ${count} connections were accepted`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  // What has been accepted has now been handed to the program as well.
  await server.ask('settle')
}

async function heldBy(server: Measured, load: Loading, name: string, count: number): Promise<number> {
  await connectAll(load, name, server, count)
  return residentOf(server.pid)
}

const relay: Comparison = (effort) =>
  together(
    [1, 64].map((streams) => () => {
      const own = 'fairlead relay, kernel'
      const cell: Cell = {
        workload: `relay, ${streams === 1 ? 'one stream' : `${streams} streams`}`,
        measure: 'CPU ms per GB',
        // From µs per MiB.
        scale: 1e9 / 2 ** 20 / 1_000,
        subjects: RELAYS,
        start: startRelay,
        connect: (load, name, { port }) => load.run(`connect ${name} ${port} ${streams} ${64 * KIBI}`),
        slice: (load, name, _, { share }) => load.run(`push ${name} ${Math.ceil(128 * share)}`),
        bars: [
          { subject: own, most: 1, of: 'socat' },
          { subject: own, most: 1.3, of: 'haproxy' },
        ],
      }
      return compare(cell, effort)
    }),
  )

/** The commands of `load.c` over TLS, which is Node's. */
class TlsLoad implements Loading {
  readonly #child = new Child('load', 1)
  readonly #ca: string
  readonly #connections = new Map<string, number>()

  constructor(ca: string) {
    this.#ca = ca
  }

  async run<T = Taken>(line: string): Promise<T> {
    const [verb, target = '', ...rest] = line.split(' ')
    const [first = 0, connections = 0, size = 0] = rest.map(Number)
    if (verb === 'connect') {
      this.#connections.set(target, connections)
      return this.#child.call<T>('connect', { target, port: first, connections, size, ca: this.#ca })
    }
    const time = await this.#child.call<number>(verb === 'push' ? 'push' : 'slice', { target, requests: first })
    const count = verb === 'push' ? first : first * (this.#connections.get(target) as number)
    return { ns: time * 1e6, requests: count, p50: 0, p99: 0, p999: 0 } as T
  }

  end(): Promise<void> {
    return this.#child.end()
  }
}

const tls: Comparison = async (effort) => {
  const authority = await developmentAuthority()
  const { cert, key } = await authority.issue({ names: ['localhost', '127.0.0.1'] })
  const credentials: Credentials = { cert, key, ca: authority.cert }
  const load = () => new TlsLoad(credentials.ca)
  const subjects = ['node:tls', NODE_DRIVER, 'fairlead node, allowTruncation', KERNEL, 'fairlead kernel, allowTruncation']
  const echo = (shape: Shape): Cell => {
    const cell = echoOf(shape, subjects, { load, bars: [{ subject: KERNEL, most: 1, of: NODE_DRIVER }] })
    return { ...cell, workload: `TLS ${cell.workload}`, start: (subject) => start(subject, 'echo', credentials) }
  }
  const sink: Cell = {
    workload: 'TLS one way, in',
    measure: 'CPU µs per MiB',
    subjects,
    load,
    start: (subject) => start(subject, 'sink', credentials),
    connect: (loading, name, { port }) => loading.run(`connect ${name} ${port} 1 ${64 * KIBI}`),
    slice: (loading, name, _, { share }) => loading.run(`push ${name} ${Math.ceil(64 * share)}`),
  }
  return together([
    () => compare(echo({ connections: 64, size: 64, requests: 12_000 }), effort),
    () => compare(echo({ connections: 16, size: 16 * KIBI, requests: 4_000 }), effort),
    () => compare(sink, effort),
  ])
}

const DATAGRAM = 100
const DATAGRAM_SUBJECTS = [LIMIT, DGRAM, 'node:dgram on the newest Node', 'Bun', 'Go']
const OUR_DATAGRAMS = ['fairlead node, one by one', 'fairlead node, many', 'fairlead kernel, one by one', 'fairlead kernel, many']
const PER_DATAGRAM = 'CPU µs per datagram'
const PER_SECOND = 'datagrams per CPU second'

const udpEcho: Comparison = (effort) => {
  const cell: Cell = {
    workload: 'UDP echo, 64 × 100 B',
    measure: PER_DATAGRAM,
    subjects: [...DATAGRAM_SUBJECTS, ...OUR_DATAGRAMS],
    start: (subject) => start(subject, 'udp-echo'),
    connect: (load, name, { port }) => load.run(`udp ${name} ${port} 64 ${DATAGRAM}`),
    slice: (load, name, _, { share, warming }) => load.run(`udp-echo ${name} ${Math.ceil(250 * (warming ? 1 : share))}`),
  }
  return compare(cell, effort)
}

/** Segments that the system cuts up come faster than anyone takes them; single ones do not. */
const udpIn: Comparison = (effort) => {
  const cell = (workload: string, segments: number, count: number, more: Partial<Cell> = {}): Cell => ({
    workload,
    measure: PER_DATAGRAM,
    subjects: [...DATAGRAM_SUBJECTS, ...OUR_DATAGRAMS],
    start: (subject) => start(subject, 'udp-sink'),
    // What the server has no room for is lost, and costs it nothing.
    slice: async (load, _, server, { share, warming }) => {
      const before = Number(await server.ask('handled'))
      const taken = await load.run(`flood ${server.port} ${Math.ceil(count * (warming ? 1 : share))} ${DATAGRAM} ${segments}`)
      return { ...taken, requests: Number(await server.ask('handled')) - before }
    },
    ...more,
  })
  const flood: Partial<Cell> = {
    subjects: [LIMIT, LIMIT_TOGETHER, ...DATAGRAM_SUBJECTS.slice(1), ...OUR_DATAGRAMS],
    bars: [{ subject: 'fairlead kernel, many', most: 1 / 3, of: DGRAM, counts: PER_SECOND }],
  }
  return together([
    () => compare(cell('UDP flood in, 100 B', 64, 250_000, flood), effort),
    () => compare(cell('UDP in, 100 B, sent one by one', 1, 50_000), effort),
  ])
}

const udpOut: Comparison = (effort) => {
  const receivers = new WeakMap<Loading, Promise<{ port: number }>>()
  const cell: Cell = {
    workload: 'UDP flood out, 100 B',
    measure: PER_DATAGRAM,
    subjects: [LIMIT, 'C limit, segmented', ...DATAGRAM_SUBJECTS.slice(1), ...OUR_DATAGRAMS],
    start: async (subject) => {
      if (subject !== 'C limit, segmented') return start(subject, 'udp-sink')
      const server = await start(LIMIT, 'udp-sink')
      return { ...server, ask: (line) => server.ask(`${line} 64`) }
    },
    slice: async (load, _, server, { share, warming }) => {
      const receiver = receivers.get(load) ?? load.run<{ port: number }>('receive')
      receivers.set(load, receiver)
      const count = Math.ceil(40_000 * (warming ? 1 : share))
      const { port } = await receiver
      const { datagrams: before } = await load.run<{ datagrams: number }>('received')
      const since = performance.now()
      await server.ask(`send ${port} ${DATAGRAM} ${count}`)
      const ns = (performance.now() - since) * 1e6
      const { datagrams: after } = await load.run<{ datagrams: number }>('received')
      if (after - before === 0) throw new Error('no datagram arrived')
      return { ns, requests: count, p50: 0, p99: 0, p999: 0 }
    },
    bars: [{ subject: 'fairlead kernel, many', most: 1 / 5, of: DGRAM, counts: PER_SECOND }],
  }
  return compare(cell, effort)
}

const packets: Comparison = (effort) => {
  const subjects = ['Erlang, {packet, 4}', 'fairlead node, framed', 'fairlead kernel, framed']
  const cell = echoOf({ connections: 64, size: 64, requests: 16_000 }, subjects)
  return compare({ ...cell, workload: 'messages behind a length, 64 × 64 B' }, effort)
}

/** Everyone at the same rate, half of what Bun does at most; latency counts from when a request was due. */
const latency: Comparison = (effort) => {
  const rates = new WeakMap<Loading, number>()
  const shape = { connections: 64, size: 64, requests: 16_000 }
  const echo = echoOf(shape, ['Bun', LIMIT, NET, 'Go', NODE_DRIVER, KERNEL, KERNEL_INTO])
  const cell: Cell = {
    ...echo,
    workload: 'echo, 64 × 64 B, at half the load of Bun',
    measure: 'p99 µs',
    counts: 'p99',
    slices: 2,
    slice: async (load, name, server, how) => {
      if (!how.warming) return load.run(`paced ${name} ${rates.get(load) ?? 50_000} ${Math.ceil(1_000 * how.share)}`)
      const taken = await echo.slice(load, name, server, how)
      if (name === 's0') rates.set(load, Math.round(taken.requests / (taken.ns / 1e9) / 2))
      return taken
    },
    bars: [{ subject: KERNEL, most: 1.1, of: 'Bun' }],
  }
  return compare(cell, effort)
}

export const comparisons: Record<string, Comparison> = {
  'echo-small': small,
  'echo-large': large,
  'echo-grid': grid,
  'echo-crowd': crowd,
  pipelined,
  bulk,
  fanout,
  requests,
  resident,
  relay,
  'tls-drivers': tls,
  'udp-echo': udpEcho,
  'udp-in': udpIn,
  'udp-out': udpOut,
  packets,
  latency,
}
