/**
 * An echo server: `node echo-server.js [endpoint …]`, by default `tcp://127.0.0.1:7000`. Ctrl-C lets those who are being
 * served finish, for five seconds.
 */

import { serve } from 'fairlead'

const endpoints = process.argv.length > 2 ? process.argv.slice(2) : ['tcp://127.0.0.1:7000']

const server = await serve(endpoints, { defaults: { idle: 60_000 } }, async (connection) => {
  for await (const chunk of connection) await connection.write(chunk)
})
for (const endpoint of server.endpoints) console.log(endpoint)

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => server.drain({ within: 5_000 }))
