/** What is compared, by name. */

import { fileURLToPath } from 'node:url'
import { Absent, type Measured, serve } from './peers.js'
import { BUN, compileC, compileGo, DENO, inBench, installed, NEWEST, runtime } from './programs.js'

export type Mode = 'echo' | 'sink' | 'source' | 'fanout' | 'udp-echo' | 'udp-sink'

export interface Credentials {
  readonly cert: string
  readonly key: string
  readonly ca: string
}

/** The command that serves in a mode; or why there is none. */
type Command = (mode: Mode) => readonly string[] | { readonly absent: string }

const nodeServer = fileURLToPath(new URL('serve.js', import.meta.url))

const onNode =
  (family: string, way: string, binary: () => string | undefined = () => process.execPath): Command =>
  (mode) => {
    const file = binary()
    return file === undefined ? NOT_FETCHED : [file, '--expose-gc', nodeServer, family, way, mode]
  }

const newest = () => runtime(NEWEST)
const NOT_FETCHED = { absent: 'not fetched: npm run test:runtimes does' }
const NOT_INSTALLED = { absent: 'not installed' }

export const LIMIT = 'C limit'
export const LIMIT_TOGETHER = 'C limit, segments together'
export const NET = 'node:net'
export const NET_ITERATED = 'node:net, for await'
export const NEWEST_NET = 'node:net on the newest Node'
export const DGRAM = 'node:dgram'
export const NODE_DRIVER = 'fairlead node'
export const KERNEL = 'fairlead kernel'
export const KERNEL_INTO = 'fairlead kernel, readInto'

const commands: Record<string, Command> = {
  [LIMIT]: (mode) => [compileC('limit.c'), mode],
  [LIMIT_TOGETHER]: () => [compileC('limit.c'), 'udp-together'],
  [NET]: onNode('net', 'events'),
  [NET_ITERATED]: onNode('net', 'for-await'),
  [NEWEST_NET]: onNode('net', 'events', newest),
  [DGRAM]: onNode('net', 'events'),
  'node:dgram on the newest Node': onNode('net', 'events', newest),
  Bun: (mode) => {
    const bun = runtime(BUN)
    return bun === undefined ? NOT_FETCHED : [bun, inBench('subjects/bun.js'), mode]
  },
  Deno: (mode) => {
    const deno = runtime(DENO)
    return deno === undefined ? NOT_FETCHED : [deno, 'run', '--allow-net', '--v8-flags=--expose-gc', inBench('subjects/deno.js'), mode]
  },
  Go: (mode) => {
    const go = compileGo('subjects/server.go')
    return go === undefined ? NOT_INSTALLED : [go, mode]
  },
  Erlang: (mode) => (installed('escript') ? ['escript', inBench('subjects/server.escript'), mode] : NOT_INSTALLED),
  'Erlang, {packet, 4}': () => (installed('escript') ? ['escript', inBench('subjects/server.escript'), 'packet4'] : NOT_INSTALLED),
  'node:tls': onNode('net', 'events'),
  [NODE_DRIVER]: onNode('node', 'chunk'),
  'fairlead node, readInto': onNode('node', 'readInto'),
  'fairlead node, framed': onNode('node', 'framed'),
  'fairlead node, active': onNode('node', 'active'),
  'fairlead node, allowTruncation': onNode('node', 'chunk truncation'),
  'fairlead node, one by one': onNode('node', 'one'),
  'fairlead node, many': onNode('node', 'many'),
  [KERNEL]: onNode('kernel', 'chunk'),
  [KERNEL_INTO]: onNode('kernel', 'readInto'),
  'fairlead kernel, framed': onNode('kernel', 'framed'),
  'fairlead kernel, active': onNode('kernel', 'active'),
  'fairlead kernel, allowTruncation': onNode('kernel', 'chunk truncation'),
  'fairlead kernel, one by one': onNode('kernel', 'one'),
  'fairlead kernel, many': onNode('kernel', 'many'),
  'fairlead kernel on the newest Node': onNode('kernel', 'chunk', newest),
}

/** Starts a subject on the core of the servers. @throws Absent where there is none, with the reason */
export async function start(name: string, mode: Mode, tls?: Credentials): Promise<Measured> {
  const command = (commands[name] as Command)(mode)
  if ('absent' in command) throw new Absent(command.absent)
  const env = tls === undefined ? undefined : { BENCH_TLS: JSON.stringify(tls) }
  return serve(command, { core: 0, env })
}
