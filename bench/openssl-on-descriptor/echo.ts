/** What an echo and an idle connection cost: the engine beside `node:tls`, fairlead's TLS and the same loop in C. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { developmentAuthority } from 'fairlead/testing'
import { pinned, withChildren } from '../child.js'
import { spread } from '../statistics.js'

const SHAPES = [
  { name: '64 × 64 B', connections: 64, size: 64, requests: 9_600 },
  { name: '16 × 16 KiB', connections: 16, size: 16 * 1024, requests: 3_200 },
]
const SLICES = 4
const ENGINES = ['engine, in place', 'engine, in place, keeping buffers', 'engine, chunks', 'engine, chunks, promises']
const SUBJECTS = ['C', 'node:tls data', 'fairlead tls', 'fairlead tls, allowTruncation', ...ENGINES]
const IDLE = 1_000

interface Server {
  readonly port: number
  /** Microseconds of processor time until now. */
  cpu(): Promise<number>
  resident(): Promise<number>
}

type Start = Parameters<Parameters<typeof withChildren>[0]>[0]

interface Limit {
  readonly process: ChildProcess
  readonly server: Server
}

/** Compiles and starts the echo in C; undefined where the compiler or the headers of OpenSSL are missing. */
async function limit(cert: string, key: string): Promise<Limit | undefined> {
  const folder = mkdtempSync(join(tmpdir(), 'openssl-on-descriptor-'))
  const file = (name: string) => join(folder, name)
  writeFileSync(file('cert.pem'), cert)
  writeFileSync(file('key.pem'), key, { mode: 0o600 })
  const source = fileURLToPath(new URL('../../../bench/openssl-on-descriptor/limit.c', import.meta.url))
  const { status } = spawnSync('cc', ['-O2', '-o', file('limit'), source, '-lssl', '-lcrypto'], { stdio: 'inherit' })
  if (status !== 0) return undefined
  const args = [file('limit'), file('cert.pem'), file('key.pem')]
  const child = spawn(pinned ? 'taskset' : (args.shift() as string), pinned ? ['-c', '0', ...args] : args, {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [line] = (await once(child.stdout as NonNullable<typeof child.stdout>, 'data')) as [Buffer]
  rmSync(folder, { recursive: true })
  const read = (name: string) => readFileSync(`/proc/${child.pid}/${name}`, 'latin1')
  return {
    process: child,
    server: {
      port: Number(line.toString()),
      cpu: async () => Number(read('schedstat').split(' ')[0]) / 1_000,
      resident: async () => Number(read('statm').split(' ')[1]) * 4_096,
    },
  }
}

async function started(start: Start, name: string, credentials: { cert: string; key: string }): Promise<Server> {
  const module = name.startsWith('engine') ? 'openssl-on-descriptor/server' : 'servers'
  const child = start(module, 0, name, JSON.stringify(credentials))
  const port = await child.call<number>('open')
  const resident = async () => {
    if (module === 'servers') return (await child.call<{ resident: number }>('memory')).resident
    return child.call<number>('resident')
  }
  return { port, cpu: () => child.call<number>('cpu'), resident }
}

type Use<T> = (servers: readonly [string, Server][], start: Start) => Promise<T>

async function withServers<T>(names: readonly string[], use: Use<T>, credentials: { cert: string; key: string }): Promise<T> {
  const c = names.includes('C') ? await limit(credentials.cert, credentials.key) : undefined
  try {
    return await withChildren(async (start) => {
      const servers: [string, Server][] = []
      for (const name of names) {
        if (name !== 'C') servers.push([name, await started(start, name, credentials)])
        else if (c !== undefined) servers.push([name, c.server])
      }
      return use(servers, start)
    })
  } finally {
    c?.process.kill()
  }
}

/** One run: all servers at once, loaded in turn, so that what disturbs the machine falls on all of them. */
async function echoes(
  shape: (typeof SHAPES)[number],
  ca: string,
  credentials: { cert: string; key: string },
): Promise<Map<string, number>> {
  const run: Use<Map<string, number>> = async (servers, start) => {
    const load = start('load', 1)
    const { connections, size, requests } = shape
    for (const [target, { port }] of servers) await load.call('connect', { target, port, connections, size, ca })
    const costs = new Map<string, number>()
    for (let slice = -2; slice < SLICES; slice++) {
      for (const [target, server] of slice % 2 === 0 ? servers : [...servers].reverse()) {
        const before = await server.cpu()
        await load.call('slice', { target, requests: requests / connections })
        if (slice >= 0) costs.set(target, (costs.get(target) ?? 0) + ((await server.cpu()) - before) / requests / SLICES)
      }
    }
    return costs
  }
  return withServers(SUBJECTS, run, credentials)
}

/** Resident bytes per connection that has said and heard one message and then nothing. */
async function idle(name: string, ca: string, credentials: { cert: string; key: string }): Promise<number> {
  const run: Use<number> = async ([first], start) => {
    if (first === undefined) return Number.NaN
    const [, server] = first
    const load = start('load', 1)
    const speak = async (target: string, connections: number) => {
      await load.call('connect', { target, port: server.port, connections, size: 64, ca })
      await load.call('slice', { target, requests: 1 })
    }
    await speak('warm', 200)
    const before = await server.resident()
    await speak('counted', IDLE)
    return ((await server.resident()) - before) / IDLE
  }
  return withServers([name], run, credentials)
}

const figure = (values: readonly number[], digits = 2) => {
  const { median, min, max } = spread(values)
  return `${median.toFixed(digits)} (${min.toFixed(digits)}–${max.toFixed(digits)})`
}

export async function measureEcho(runs: number): Promise<void> {
  const authority = await developmentAuthority()
  const credentials = await authority.issue({ names: ['localhost'] })
  for (const shape of SHAPES) {
    const all: Map<string, number>[] = []
    for (let i = 0; i < runs; i++) all.push(await echoes(shape, authority.cert, credentials))
    const names = [...(all[0]?.keys() ?? [])]
    const costs = (name: string) => all.map((run) => run.get(name) as number)
    const against = (name: string, base: string) => {
      const bases = costs(base)
      return names.includes(base) ? figure(costs(name).map((cost, i) => cost / (bases[i] as number))) : ''
    }
    console.log(`\n| TLS 1.3 echo, ${shape.name} | CPU µs per request | × C | × node:tls |\n| --- | --- | --- | --- |`)
    for (const name of names) {
      console.log(`| ${name} | ${figure(costs(name))} | ${against(name, 'C')} | ${against(name, 'node:tls data')} |`)
    }
  }
}

export async function measureIdle(runs: number): Promise<void> {
  const authority = await developmentAuthority()
  const credentials = await authority.issue({ names: ['localhost'] })
  console.log(`\n| ${IDLE} idle TLS 1.3 connections | resident KiB each |\n| --- | --- |`)
  for (const name of [
    'C',
    'node:tls data',
    'fairlead tls',
    'engine, in place',
    'engine, in place, keeping buffers',
    'engine, chunks, promises',
  ]) {
    const values: number[] = []
    for (let i = 0; i < runs; i++) values.push((await idle(name, authority.cert, credentials)) / 1_024)
    console.log(`| ${name} | ${figure(values, 1)} |`)
  }
}
