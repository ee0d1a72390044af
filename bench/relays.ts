/** Relays between the load and a sink: both on the core of the load, the relay alone on that of the servers. */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pinned } from './child.js'
import { Absent, type Measured, serve } from './peers.js'
import { compileC, installed } from './programs.js'

const cli = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

interface Relay {
  readonly command: (from: number, to: number, folder: string) => readonly string[]
  readonly needs?: string
}

const fairlead = (driver: string): Relay => ({
  command: (from, to) => {
    const ends = [`tcp://127.0.0.1:${from}`, `tcp://127.0.0.1:${to}`]
    return [process.execPath, cli, 'relay', '--quiet', '--driver', driver, ...ends]
  },
})

/** As its manual has it for TCP, one thread, with the buffers it comes with. */
const haproxy = (options: string): Relay => ({
  needs: 'haproxy',
  command: (from, to, folder) => {
    const file = join(folder, 'haproxy.cfg')
    const text = `global
  nbthread 1
  maxconn 1000
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
${options}
listen relay
  bind 127.0.0.1:${from}
  server sink 127.0.0.1:${to}
`
    writeFileSync(file, text)
    return ['haproxy', '-db', '-q', '-f', file]
  },
})

const relays: Record<string, Relay> = {
  socat: {
    needs: 'socat',
    command: (from, to) => ['socat', `TCP-LISTEN:${from},bind=127.0.0.1,reuseaddr,fork,backlog=128`, `TCP:127.0.0.1:${to}`],
  },
  haproxy: haproxy(''),
  'haproxy, splice-auto': haproxy('  option splice-auto'),
  'fairlead relay, node': fairlead('node'),
  'fairlead relay, kernel': fairlead('kernel'),
}

export const RELAYS: readonly string[] = Object.keys(relays)

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

/** Until somebody listens; the relay says in its own way that it does. */
async function listening(port: number, relay: ChildProcess): Promise<void> {
  let said = ''
  relay.stderr?.on('data', (chunk) => {
    said += chunk
  })
  for (let tries = 0; relay.exitCode === null && tries < 400; tries++) {
    const socket = connect(port, '127.0.0.1')
    try {
      await once(socket, 'connect')
      return
    } catch {
      // Not yet.
      await new Promise((resolve) => setTimeout(resolve, 25))
    } finally {
      socket.destroy()
    }
  }
  throw new Absent(said.trim().split('\n')[0] || 'does not listen')
}

/** @throws Absent where there is no such relay */
export async function startRelay(name: string): Promise<Measured> {
  const { command, needs } = relays[name] as Relay
  if (needs !== undefined && !installed(needs)) throw new Absent('not installed')
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-bench-'))
  const sink = await serve([compileC('limit.c'), 'sink'], { core: 1 })
  const port = await freePort()
  const [file = '', ...args] = [...(pinned ? ['taskset', '-c', '0'] : []), ...command(port, sink.port, folder)]
  const relay = spawn(file, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  // It would outlive the bench: nothing tells it that its caller has gone.
  const orphaned = () => relay.kill()
  process.once('exit', orphaned)
  const end = async () => {
    process.off('exit', orphaned)
    if (relay.exitCode === null && relay.signalCode === null) {
      const gone = once(relay, 'exit')
      // Its children go with it; of socat, those of the connections that the load has closed have gone.
      relay.kill('SIGTERM')
      // One that spins would not see it.
      const impatient = setTimeout(() => relay.kill('SIGKILL'), 2_000)
      await gone
      clearTimeout(impatient)
    }
    await sink.end()
    rmSync(folder, { recursive: true })
  }
  try {
    await listening(port, relay)
  } catch (error) {
    await end()
    throw error
  }
  return { port, pid: relay.pid as number, ask: () => Promise.reject(new Error('a relay answers nothing')), end }
}
