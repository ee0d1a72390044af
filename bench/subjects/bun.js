// Bun's own sockets: `bun bun.js MODE`. Speaks as bench/serve.ts does.

import { createInterface } from 'node:readline'

const mode = process.argv[2] ?? 'echo'
const MEBI = 1 << 20
const CHUNK = new Uint8Array(64 * 1024).fill(97)
const everyone = new Set()
let handled = 0

/** Sends what is held; `write` says how many bytes the system took. */
function drain(socket) {
  const state = socket.data
  while (state.held.length > 0) {
    const [first] = state.held
    const taken = socket.write(first)
    if (taken < first.length) {
      state.held[0] = first.subarray(Math.max(taken, 0))
      return false
    }
    state.held.shift()
  }
  return true
}

/** The chunk is the runtime's, which may use it again: what is held is a copy. */
function write(socket, chunk) {
  const { held } = socket.data
  if (held.length > 0) {
    held.push(chunk.slice())
    return false
  }
  const taken = socket.write(chunk)
  if (taken === chunk.length) return true
  held.push(chunk.slice(Math.max(taken, 0)))
  return false
}

function fill(socket) {
  const state = socket.data
  while (state.count > 0) {
    state.count -= CHUNK.length
    if (!write(socket, CHUNK)) return
  }
}

const handlers = {
  echo: (socket, chunk) => write(socket, chunk),
  sink(socket, chunk) {
    const state = socket.data
    for (state.count += chunk.length; state.count >= MEBI; state.count -= MEBI) write(socket, CHUNK.subarray(0, 1))
  },
  source(socket, chunk) {
    socket.data.count += chunk.length * MEBI
    if (socket.data.held.length === 0) fill(socket)
  },
  fanout(socket, chunk) {
    for (const other of everyone) if (other !== socket) write(other, chunk)
  },
}

async function open() {
  if (mode.startsWith('udp')) {
    const socket = await Bun.udpSocket({
      hostname: '127.0.0.1',
      socket: {
        data(self, data, port, address) {
          handled++
          if (mode === 'udp-echo') self.send(data, port, address)
        },
      },
    })
    return socket.port
  }
  return Bun.listen({
    hostname: '127.0.0.1',
    port: 0,
    socket: {
      open(socket) {
        socket.data = { held: [], count: 0 }
        if (mode === 'fanout') everyone.add(socket)
      },
      close: (socket) => everyone.delete(socket),
      // The load ends with resets.
      error: (socket) => everyone.delete(socket),
      data: handlers[mode],
      drain(socket) {
        if (drain(socket) && mode === 'source') fill(socket)
      },
    },
  }).port
}

async function send(port, size, count) {
  const socket = await Bun.udpSocket({ connect: { port, hostname: '127.0.0.1' } })
  const batch = Array.from({ length: 64 }, () => new Uint8Array(size).fill(97))
  for (let left = count; left > 0;) {
    const sent = socket.sendMany(left < batch.length ? batch.slice(0, left) : batch)
    left -= sent
    if (sent === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  socket.close()
}

console.log(`port ${await open()} pid ${process.pid}`)
createInterface({ input: process.stdin })
  .on('line', async (line) => {
    const [verb, ...numbers] = line.split(' ')
    if (verb === 'settle') Bun.gc(true)
    if (verb === 'send') await send(...numbers.map(Number))
    console.log(verb === 'handled' ? handled : 'done')
  })
  .on('close', () => process.exit())
