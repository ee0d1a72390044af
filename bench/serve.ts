/**
 * The servers of Node that are compared, one to a process: `node serve.js FAMILY WAY MODE`, with TLS credentials in `BENCH_TLS`.
 *
 * Every program that is compared speaks as this one does: it says `port N pid N`, or `absent REASON`; then it answers lines of its
 * input, each with one line, and ends with it.
 */

import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import net, { type AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import tls from 'node:tls'
import type { Connection, DatagramSocket, Network, NetworkOptions } from 'fairlead'

const MEBI = 1 << 20
const CHUNK = new Uint8Array(64 * 1024).fill(97)
const ACKNOWLEDGEMENT = new Uint8Array(1).fill(97)
/** Bytes of a buffer that a connection is read into. */
const ROOM = 64 * 1024
/** Datagrams taken or given at a time. */
const MANY = 64

const [family = 'net', way = 'events', mode = 'echo'] = process.argv.slice(2)
const credentials = process.env.BENCH_TLS === undefined ? undefined : (JSON.parse(process.env.BENCH_TLS) as { cert: string; key: string })

let handled = 0

/** Acknowledges each mebibyte. */
class Sink {
  #received = 0

  /** How many have become whole. */
  take(size: number): number {
    this.#received += size
    const whole = Math.floor(this.#received / MEBI)
    this.#received -= whole * MEBI
    return whole
  }
}

const bareSockets = new Set<net.Socket>()

const bareHandlers: Record<string, (socket: net.Socket) => unknown> = {
  'events echo': (socket) => socket.on('data', (chunk) => socket.write(chunk)),
  'for-await echo': async (socket) => {
    for await (const chunk of socket) socket.write(chunk)
  },
  'events sink': (socket) => {
    const sink = new Sink()
    socket.on('data', ({ length }) => {
      for (let whole = sink.take(length); whole > 0; whole--) socket.write(ACKNOWLEDGEMENT)
    })
  },
  'events source': (socket) => {
    let owed = 0
    const fill = () => {
      while (owed > 0) {
        owed -= CHUNK.length
        if (!socket.write(CHUNK)) return
      }
    }
    socket.on('drain', fill)
    socket.on('data', ({ length }) => {
      const idle = owed <= 0
      owed += length * MEBI
      if (idle) fill()
    })
  },
  'events fanout': (socket) => {
    bareSockets.add(socket)
    socket.on('close', () => bareSockets.delete(socket))
    socket.on('data', (chunk) => {
      for (const other of bareSockets) if (other !== socket) other.write(chunk)
    })
  },
}

async function bare(): Promise<number> {
  const handler = bareHandlers[`${way} ${mode}`] as (socket: net.Socket) => unknown
  const handle = async (socket: net.Socket) => {
    socket.on('error', () => socket.destroy())
    try {
      await handler(socket)
    } catch {
      socket.destroy()
    }
  }
  const server =
    credentials === undefined ? net.createServer({ noDelay: true }, handle) : tls.createServer({ noDelay: true, ...credentials }, handle)
  server.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 })
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

const connections = new Set<Connection>()

const handlers: Record<string, (connection: Connection) => Promise<unknown>> = {
  'chunk echo': async (connection) => {
    for await (const chunk of connection) await connection.write(chunk)
  },
  'readInto echo': async (connection) => {
    const buffer = new Uint8Array(ROOM)
    for (let count = await connection.readInto(buffer); count !== null; count = await connection.readInto(buffer)) {
      await connection.write(buffer.subarray(0, count))
    }
  },
  'framed echo': async (connection) => {
    const { codecs } = await import('fairlead')
    const messages = connection.frames(codecs.lengthPrefixed())
    for (let message = await messages.receive(); message !== null; message = await messages.receive()) await messages.send(message)
  },
  'active echo': (connection) => connection.deliver('active', (chunk) => connection.write(chunk)).done,
  'chunk sink': async (connection) => {
    const sink = new Sink()
    for await (const { length } of connection) {
      for (let whole = sink.take(length); whole > 0; whole--) await connection.write(ACKNOWLEDGEMENT)
    }
  },
  'readInto sink': async (connection) => {
    const sink = new Sink()
    const buffer = new Uint8Array(ROOM)
    for (let count = await connection.readInto(buffer); count !== null; count = await connection.readInto(buffer)) {
      for (let whole = sink.take(count); whole > 0; whole--) await connection.write(ACKNOWLEDGEMENT)
    }
  },
  'active sink': (connection) => {
    const sink = new Sink()
    return connection.deliver('active', async ({ length }) => {
      for (let whole = sink.take(length); whole > 0; whole--) await connection.write(ACKNOWLEDGEMENT)
    }).done
  },
  'chunk source': async (connection) => {
    for await (const { length } of connection) {
      for (let owed = length * MEBI; owed > 0; owed -= CHUNK.length) await connection.write(CHUNK)
    }
  },
  'chunk fanout': async (connection) => {
    connections.add(connection)
    void connection.closed.then(() => connections.delete(connection))
    for await (const chunk of connection) {
      for (const other of connections) if (other !== connection) void other.write(chunk)
    }
  },
}

/** The driver of this process, said by the family: `node`, `kernel`. */
async function drivers(): Promise<NetworkOptions> {
  if (family !== 'kernel') return {}
  // A program that is compared where it is there: not known to the compiler.
  const door = 'fairlead/kernel'
  const { kernel } = (await import(door)) as { kernel: () => NetworkOptions['driver'] }
  return { driver: kernel() }
}

/** Loaded here: a server of `node:net` has nothing of the package in its heap. */
async function ours(): Promise<number> {
  const { Network } = await import('fairlead')
  const network = new Network(await drivers())
  if (mode.startsWith('udp')) return ourDatagrams(network)
  const handler = handlers[`${way.replace(' truncation', '')} ${mode}`] as (connection: Connection) => Promise<unknown>
  const listener = await network.listen(credentials === undefined ? 'tcp://127.0.0.1:0' : 'tls://127.0.0.1:0', {
    backlog: 4_096,
    ...(credentials !== undefined && { tls: { ...credentials, allowTruncation: way.endsWith('truncation') } }),
  })
  const handle = async (connection: Connection) => {
    try {
      await handler(connection)
      await connection.close()
    } catch {
      connection.abort()
    }
  }
  const serving = async () => {
    for await (const connection of listener) void handle(connection)
  }
  void serving()
  return (listener.local as { port: number }).port
}

const datagramHandlers: Record<string, (socket: DatagramSocket) => Promise<void>> = {
  'one udp-echo': async (socket) => {
    for await (const { data, from } of socket) await socket.send(data, from)
  },
  'many udp-echo': async (socket) => {
    for (;;) {
      const batch = await socket.receiveMany(MANY)
      await socket.sendMany(batch.map(({ data, from }) => ({ data, to: from })))
    }
  },
  'one udp-sink': async (socket) => {
    for await (const _ of socket) handled++
  },
  'many udp-sink': async (socket) => {
    for (;;) handled += (await socket.receiveMany(MANY)).length
  },
}

let sender: ((port: number, size: number, count: number) => Promise<unknown>) | undefined

async function ourDatagrams(network: Network): Promise<number> {
  const socket = await network.bind('udp://127.0.0.1:0')
  const handler = datagramHandlers[`${way} ${mode}`]
  if (handler !== undefined) void handler(socket)
  sender = async (port, size, count) => {
    const one = { data: new Uint8Array(size).fill(97), to: `udp://127.0.0.1:${port}` }
    const all = function* () {
      for (let i = 0; i < count; i++) yield one
    }
    if (way === 'many') await socket.sendMany(all())
    else for (let i = 0; i < count; i++) await socket.send(one.data, one.to)
  }
  return (socket.local as { port: number }).port
}

async function bareDatagrams(): Promise<number> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1')
  await once(socket, 'listening')
  socket.on('message', (data, { port, address }) => {
    handled++
    if (mode === 'udp-echo') socket.send(data, port, address)
  })
  sender = async (port, size, count) => {
    const out = createSocket('udp4')
    out.connect(port, '127.0.0.1')
    await once(out, 'connect')
    const data = Buffer.alloc(size, 97)
    for (let left = count; left > 0;) {
      const now = Math.min(left, MANY)
      left -= now
      await new Promise<void>((resolve, reject) => {
        let waiting = now
        const sent = (error: Error | null) => {
          if (error !== null) reject(error)
          else if (--waiting === 0) resolve()
        }
        for (let i = 0; i < now; i++) out.send(data, sent)
      })
    }
    out.close()
  }
  return socket.address().port
}

async function settle(): Promise<void> {
  for (let i = 0; i < 4; i++) {
    globalThis.gc?.()
    await new Promise((resolve) => setImmediate(resolve))
  }
}

async function command(line: string): Promise<string> {
  const [verb, ...numbers] = line.split(' ')
  if (verb === 'handled') return String(handled)
  if (verb === 'settle') await settle()
  if (verb === 'send') {
    const [port = 0, size = 0, count = 0] = numbers.map(Number)
    await sender?.(port, size, count)
  }
  return 'done'
}

async function open(): Promise<string> {
  try {
    const port = await (family === 'net' ? (mode.startsWith('udp') ? bareDatagrams() : bare()) : ours())
    return `port ${port} pid ${process.pid}`
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const missing = code === 'ERR_PACKAGE_PATH_NOT_EXPORTED' || code === 'ERR_MODULE_NOT_FOUND'
    return `absent ${missing ? 'not there' : message.split('\n')[0]}`
  }
}

console.log(await open())
createInterface({ input: process.stdin })
  .on('line', async (line) => console.log(await command(line)))
  .on('close', () => process.exit())
