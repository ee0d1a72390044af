/** The servers that are measured: `node servers.js SUBJECT [PEM of certificate and key]`. One process serves one subject. */

import { answer, processorTime } from './child.js'
import type { udpSenders } from './udp.js'

const [subject = '', credentials = '{}'] = process.argv.slice(2)

type Servers = Record<string, (credentials: { cert: string; key: string }) => Promise<number>>

/** Looked through in this order, so that a bare server has nothing of the package in its heap, and ours no dialect. */
const FAMILIES: readonly (() => Promise<Servers>)[] = [
  async () => (await import('./bare.js')).bareServers,
  async () => (await import('./streams.js')).streamServers,
  async () => (await import('./delivery.js')).deliveryServers,
  async () => (await import('./udp.js')).udpServers,
  async () => (await import('./dialects.js')).dialectServers,
]

async function open(): Promise<number> {
  for (const load of FAMILIES) {
    const serve = (await load())[subject]
    if (serve !== undefined) return serve(JSON.parse(credentials))
  }
  throw new Error(`no subject ${subject}`)
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
  open,
  /** Microseconds of processor time until now, all threads counted. */
  cpu: processorTime,
  memory,
  rounds: async (count: number) => (await import('./delivery.js')).rounds(count),
  /** Datagrams until now. */
  handled: async () => (await import('./udp.js')).handledSoFar(),
  sendDatagrams: async (o: { send: string; port: number; size: number; count: number }) =>
    ((await import('./udp.js')).udpSenders[o.send] as (typeof udpSenders)[string])(o.port, o.size, o.count),
  unsent: async () => (await import('./streams.js')).unsent(),
  async frames({ send, receive, count }: { send: string; receive: string; count: number }) {
    const { measure } = await import('./frames.js')
    await measure(send, receive, count / 10)
    return measure(send, receive, count)
  },
  connections: async (o: { way: string; count: number }) => (await import('./connections.js')).connections(o),
  values: async (count: number) => (await import('./dialects.js')).valueCosts(count),
  deadlines: async (o: { count: number; seconds: number }) => (await import('./deadlines.js')).measure(o.count, o.seconds),
})
