/**
 * Sends each line of standard input and prints the line that comes back: `node line-client.js ENDPOINT`. A server that does
 * not answer within five seconds ends it.
 */

import { createInterface } from 'node:readline'
import { connect, SocketError } from 'fairlead'

const [to] = process.argv.slice(2)
if (to === undefined) throw new Error('usage: node line-client.js ENDPOINT')

try {
  await using connection = await connect(to, { timeout: 5_000 })
  for await (const line of createInterface({ input: process.stdin })) {
    await connection.write(`${line}\n`)
    const answer = await connection.readLine({ timeout: 5_000 })
    if (answer === null) break
    console.log(answer)
  }
} catch (error) {
  if (!(error instanceof SocketError)) throw error
  console.error(`${error.name} ${error.code}: ${error.message}`)
  process.exitCode = 1
}
