// Deno's own sockets: `deno run --allow-net deno.js MODE`. Speaks as bench/serve.ts does.

const mode = Deno.args[0] ?? 'echo'
const MEBI = 1 << 20
const CHUNK = new Uint8Array(64 * 1024).fill(97)
const everyone = new Set()

async function writeAll(connection, data) {
  for (let at = 0; at < data.length;) at += await connection.write(at === 0 ? data : data.subarray(at))
}

const handlers = {
  echo: (connection, chunk) => writeAll(connection, chunk),
  async sink(connection, chunk, state) {
    for (state.count += chunk.length; state.count >= MEBI; state.count -= MEBI) await connection.write(CHUNK.subarray(0, 1))
  },
  async source(connection, chunk) {
    for (let owed = chunk.length * MEBI; owed > 0; owed -= CHUNK.length) await writeAll(connection, CHUNK)
  },
  async fanout(connection, chunk) {
    const writes = []
    for (const other of everyone) if (other !== connection) writes.push(writeAll(other, chunk))
    await Promise.all(writes)
  },
}

async function serve(connection) {
  const handler = handlers[mode]
  const buffer = new Uint8Array(64 * 1024)
  const state = { count: 0 }
  everyone.add(connection)
  try {
    connection.setNoDelay(true)
    for (let count = await connection.read(buffer); count !== null; count = await connection.read(buffer)) {
      await handler(connection, buffer.subarray(0, count), state)
    }
  } finally {
    everyone.delete(connection)
    connection.close()
  }
}

const listener = Deno.listen({ hostname: '127.0.0.1', port: 0 })
const accepting = async () => {
  // A connection that its peer resets ends by itself.
  for await (const connection of listener) serve(connection).catch(() => undefined)
}
void accepting()
console.log(`port ${listener.addr.port} pid ${Deno.pid}`)

async function commands() {
  for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    for (const verb of text.trim().split('\n')) {
      if (verb === 'settle') globalThis.gc?.()
      console.log('done')
    }
  }
  Deno.exit()
}
void commands()
