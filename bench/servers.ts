/** The servers that are measured: `node servers.js SUBJECT [PEM of certificate and key]`. One process serves one subject. */

import net, { type AddressInfo } from 'node:net'
import tls from 'node:tls'
import { type Connection, listen, type ListenOptions } from 'fairlead'
import { answer } from './child.js'
import { deliveryServers, rounds } from './delivery.js'
import { dialectServers, processorTime, valueCosts } from './dialects.js'
import { handledSoFar, udpSenders, udpServers } from './udp.js'

const [subject = '', credentials = '{}'] = process.argv.slice(2)
const { cert, key } = JSON.parse(credentials) as { cert: string; key: string }

function portOf(server: net.Server): Promise<number> {
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port)))
}

function onData(socket: net.Socket): void {
  socket.on('data', (chunk) => socket.write(chunk))
  socket.on('error', () => socket.destroy())
}

async function forAwait(socket: net.Socket): Promise<void> {
  try {
    for await (const chunk of socket) socket.write(chunk)
  } catch {
    socket.destroy()
  }
}

async function echo(connection: Connection): Promise<void> {
  try {
    for await (const chunk of connection) await connection.write(chunk)
    await connection.close()
  } catch {
    connection.abort()
  }
}

/** A first line within two seconds, or away; then line by line. */
async function lines(connection: Connection): Promise<void> {
  try {
    for (let line = await connection.readLine({ timeout: 2_000 }); line !== null; line = await connection.readLine()) {
      await connection.write(`${line}\n`)
    }
    await connection.close()
  } catch {
    connection.abort()
  }
}

/** Writes until writing waits, and then goes on waiting. */
async function flood(connection: Connection): Promise<void> {
  stalled.push(connection)
  try {
    for (;;) await connection.write(new Uint8Array(16 * 1024).fill(97))
  } catch {
    connection.abort()
  }
}

const stalled: Connection[] = []

async function fairlead(handler: (connection: Connection) => Promise<void>, o?: ListenOptions): Promise<number> {
  const listener = await listen(o?.tls === undefined ? 'tcp://127.0.0.1:0' : 'tls://127.0.0.1:0', o)
  const serving = async () => {
    for await (const connection of listener) void handler(connection)
  }
  void serving()
  return (listener.local as { port: number }).port
}

const subjects: Record<string, () => Promise<number>> = {
  'node:net data': () => portOf(net.createServer({ noDelay: true }, onData)),
  'node:net for await': () => portOf(net.createServer({ noDelay: true }, forAwait)),
  fairlead: () => fairlead(echo),
  'node:tls data': () => portOf(tls.createServer({ noDelay: true, cert, key }, onData)),
  'fairlead tls': () => fairlead(echo, { tls: { cert, key } }),
  'fairlead tls, allowTruncation': () => fairlead(echo, { tls: { cert, key, allowTruncation: true } }),
  lines: () => fairlead(lines),
  flood: () => fairlead(flood),
  ...deliveryServers,
  ...dialectServers,
  ...udpServers,
}

async function memory(): Promise<{ heap: number; external: number; resident: number }> {
  for (let i = 0; i < 4; i++) {
    globalThis.gc?.()
    await new Promise((resolve) => setImmediate(resolve))
  }
  const { heapUsed, external, rss } = process.memoryUsage()
  return { heap: heapUsed, external, resident: rss }
}

answer({
  open: () => (subjects[subject] as () => Promise<number>)(),
  /** Microseconds of processor time until now, all threads counted. */
  cpu: processorTime,
  memory,
  rounds,
  /** Datagrams until now. */
  handled: () => handledSoFar(),
  sendDatagrams: (o: { send: string; port: number; size: number; count: number }) =>
    (udpSenders[o.send] as (typeof udpSenders)[string])(o.port, o.size, o.count),
  unsent: () => stalled.map(({ stats }) => ({ unsent: stats.unsent, written: stats.bytesWritten })),
  async frames({ send, receive, count }: { send: string; receive: string; count: number }) {
    const { measure } = await import('./frames.js')
    await measure(send, receive, count / 10)
    return measure(send, receive, count)
  },
  connections: async (o: { way: string; count: number }) => (await import('./connections.js')).connections(o),
  values: (count: number) => valueCosts(count),
  deadlines: async (o: { count: number; seconds: number }) => (await import('./deadlines.js')).measure(o.count, o.seconds),
})
