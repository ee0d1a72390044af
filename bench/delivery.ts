/** Servers that echo what is delivered to a handler, beside the same with `for await`; and one that selects. */

import { codecs, type Connection, Interests, listen, select } from 'fairlead'

type Handling = (connection: Connection) => Promise<unknown>

/** Bytes of a message, and messages that are answered together: what is measured is the delivery and not the answer. */
const MESSAGE = 64
const TOGETHER = 256

/** Takes messages, and answers so many at a time with as many bytes. */
function counter(connection: Connection): () => Promise<void> | undefined {
  const answer = new Uint8Array(MESSAGE * TOGETHER)
  let count = 0
  return () => (++count % TOGETHER === 0 ? connection.write(answer) : undefined)
}

const handlings: Record<string, Handling> = {
  deliver: (connection) => connection.deliver('active', (chunk) => connection.write(chunk)).done,
  'messages, for await': async (connection) => {
    const take = counter(connection)
    for await (const _ of connection.frames(codecs.fixed(MESSAGE))) {
      const answered = take()
      if (answered !== undefined) await answered
    }
  },
  'messages, deliver': (connection) => connection.frames(codecs.fixed(MESSAGE)).deliver('active', counter(connection)).done,
}

async function serving(handle: Handling): Promise<number> {
  const listener = await listen('tcp://127.0.0.1:0')
  const accepting = async () => {
    for await (const connection of listener) handle(connection).then(() => connection.close(), connection.abort.bind(connection))
  }
  void accepting()
  return (listener.local as { port: number }).port
}

const interests = new Interests()

/** Rounds over what has been accepted, nothing being read; microseconds of processor time and of time for each. */
export async function rounds(count: number): Promise<{ cpu: number; time: number; ready: number }> {
  let ready = 0
  const before = process.cpuUsage()
  const start = performance.now()
  for (let i = 0; i < count; i++) ready += (await select(interests)).length
  const { user, system } = process.cpuUsage(before)
  return { cpu: (user + system) / count, time: ((performance.now() - start) * 1_000) / count, ready: ready / count }
}

export const deliveryServers: Record<string, () => Promise<number>> = {
  ...Object.fromEntries(Object.entries(handlings).map(([name, handle]) => [name, () => serving(handle)])),
  select: () => serving(async (connection) => (interests.add(connection), connection.closed)),
}
