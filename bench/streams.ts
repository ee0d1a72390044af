/** Servers of the core that echo, and the two that hostile clients meet. */

import { type Connection, listen, type ListenOptions } from 'fairlead'

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

export function unsent(): { unsent: number; written: number }[] {
  return stalled.map(({ stats }) => ({ unsent: stats.unsent, written: stats.bytesWritten }))
}

async function fairlead(handler: (connection: Connection) => Promise<void>, o?: ListenOptions): Promise<number> {
  const listener = await listen(o?.tls === undefined ? 'tcp://127.0.0.1:0' : 'tls://127.0.0.1:0', o)
  const serving = async () => {
    for await (const connection of listener) void handler(connection)
  }
  void serving()
  return (listener.local as { port: number }).port
}

export const streamServers: Record<string, (credentials: { cert: string; key: string }) => Promise<number>> = {
  fairlead: () => fairlead(echo),
  'fairlead tls': (credentials) => fairlead(echo, { tls: credentials }),
  'fairlead tls, allowTruncation': (credentials) => fairlead(echo, { tls: { ...credentials, allowTruncation: true } }),
  lines: () => fairlead(lines),
  flood: () => fairlead(flood),
}
