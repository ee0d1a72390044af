/**
 * Gives each client of one endpoint its own connection to another: `node proxy.js LISTEN CONNECT`. Each direction ends when
 * its sender ends it, whatever the other does; a side that breaks breaks the other, so that nobody takes half for all.
 */

import { connect, type Connection, serve } from 'fairlead'

const [at, to] = process.argv.slice(2)
if (at === undefined || to === undefined) throw new Error('usage: node proxy.js LISTEN CONNECT')

async function pump(from: Connection, into: Connection): Promise<void> {
  for await (const chunk of from) await into.write(chunk)
  await into.end()
}

const server = await serve(at, {}, async (client, { signal }) => {
  const upstream = await connect(to, { timeout: 5_000, signal })
  await upstream.use(() => Promise.all([pump(client, upstream), pump(upstream, client)]))
})
for (const endpoint of server.endpoints) console.log(endpoint)

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => server.drain({ within: 5_000 }))
