/** A process that is to be killed: what it does is its first argument. Prints where it listens, in a line. */

import { bind, connect, listen, relay } from 'fairlead'

// Whoever started it may be gone before it was killed.
process.stdin.on('end', () => process.exit()).resume()

const [role, at = 'tcp://127.0.0.1:0', to = ''] = process.argv.slice(2)

if (role === 'relay') {
  const listener = await listen(at)
  console.log(listener.endpoint)
  for await (const client of listener) void relay(client, await connect(to)).catch(() => {})
} else if (role === 'busy') {
  // Everything the driver has is in use: half-way connections, a full send buffer, datagrams, a path in the file system.
  const listener = await listen(at)
  const datagrams = await bind('udp://127.0.0.1:0')
  console.log(listener.endpoint)
  for await (const client of listener) {
    void client.write(new Uint8Array(64 * 1024 * 1024)).catch(() => {})
    void datagrams.receive().catch(() => {})
  }
} else {
  const listener = await listen(at)
  console.log(listener.endpoint)
  for await (const client of listener) {
    void (async () => {
      for await (const chunk of client) await client.write(chunk)
    })().catch(() => {})
  }
}
