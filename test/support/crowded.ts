/** An echo server for a process with few descriptors; answers each line of its input with its figures. */

import { readdirSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { serve } from 'fairlead'

const server = await serve('tcp://127.0.0.1:0', {}, async (connection) => {
  for await (const chunk of connection) await connection.write(chunk)
})
console.log(JSON.stringify({ port: new URL(server.endpoints[0]).port }))

/** RLIMIT_NOFILE as the test sets it, and what the node driver parks then: a sixteenth. */
const LIMIT = 64
const parked = LIMIT / 16

for await (const _ of createInterface({ input: process.stdin })) {
  const { active, unserved, accepted } = server.stats
  const free = LIMIT - readdirSync('/proc/self/fd').length
  console.log(JSON.stringify({ active, accepted, unserved: unserved.count, parked, free, cpu: process.cpuUsage().user / 1_000 }))
}
await server.close()
