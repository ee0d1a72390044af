/** Connections that come and go: each is dialled over loopback, accepted, and closed in order on both sides. */

import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { type Listener, Network } from 'fairlead'

/** What every stream socket of the package has: segments sent at once, and probes of a silent peer. */
const OPTIONS = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 15_000 }

async function bare(server: Server): Promise<void> {
  const { port } = server.address() as { port: number }
  const accepting = once(server, 'connection') as Promise<[Socket]>
  const dialled = connect({ port, host: '127.0.0.1', ...OPTIONS })
  const [[accepted]] = await Promise.all([accepting, once(dialled, 'connect')])
  const closed = [accepted, dialled].map((socket) => once(socket.resume(), 'close'))
  for (const socket of [accepted, dialled]) socket.end()
  await Promise.all(closed)
}

async function ours(network: Network, listener: Listener): Promise<void> {
  const both = await Promise.all([network.connect(listener.endpoint), listener.accept()])
  await Promise.all(both.map((connection) => connection.close()))
}

/** Ways to make one, each from a server that listens. */
const WAYS: Record<string, () => Promise<() => Promise<void>>> = {
  'node:net': async () => {
    const server = createServer(OPTIONS).listen(0, '127.0.0.1')
    await once(server, 'listening')
    return () => bare(server)
  },
  fairlead: async () => {
    const network = new Network()
    const listener = await network.listen('tcp://127.0.0.1:0')
    return () => ours(network, listener)
  },
}

/** Microseconds of processor time that each of `count` takes, behind a quarter as many that do not count. */
export async function connections({ way, count }: { way: string; count: number }): Promise<number> {
  const one = await (WAYS[way] as () => Promise<() => Promise<void>>)()
  for (let i = 0; i < count / 4; i++) await one()
  const before = process.cpuUsage()
  for (let i = 0; i < count; i++) await one()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / count
}
