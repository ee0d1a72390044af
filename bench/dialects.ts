/** The same echo in each dialect and on the core, and in Erlang itself; and the values of a MUD beside JSON. */

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { type Address, codecs, type Connection, listen } from 'fairlead'
import { standIn } from './child.js'

/** Bytes asked for at once. */
const MOST = 1_024

/** Of an address of TCP. */
function portOf(socket: { readonly local?: Address | undefined } | null): number {
  return (socket as { readonly local: { readonly port: number } }).local.port
}

/** Handles every connection of a listener of the core. */
async function onCore(handle: (connection: Connection) => Promise<unknown>): Promise<number> {
  const listener = await listen('tcp://127.0.0.1:0')
  const accepting = async () => {
    for await (const connection of listener) handle(connection).then(() => connection.close(), connection.abort.bind(connection))
  }
  void accepting()
  return portOf(listener)
}

// A process serves one of these, and loads no dialect but its own.
export const dialectServers: Record<string, () => Promise<number>> = {
  'frames, receive and send': () =>
    onCore(async (connection) => {
      const messages = connection.frames(codecs.lengthPrefixed())
      for (let data = await messages.receive(); data !== null; data = await messages.receive()) await messages.send(data)
    }),
  'read and write': () =>
    onCore(async (connection) => {
      for (let data = await connection.read({ limit: MOST }); data !== null; data = await connection.read({ limit: MOST })) {
        await connection.write(data)
      }
    }),
  'readInto and write': () =>
    onCore(async (connection) => {
      const buffer = new Uint8Array(MOST)
      for (let count = await connection.readInto(buffer); count !== null; count = await connection.readInto(buffer)) {
        await connection.write(buffer.subarray(0, count))
      }
    }),
  'deliver and write': () => onCore((connection) => connection.deliver('active', (data) => void connection.write(data)).done),

  async 'fairlead/erlang'() {
    const { gen_tcp, inet, ok, spawn } = await import('fairlead/erlang')
    const listening = ok(await gen_tcp.listen(0, ['binary', ['packet', 4], ['active', false], ['ip', [127, 0, 0, 1]], ['nodelay', true]]))
    const accepting = async () => {
      for (;;) {
        const socket = ok(await gen_tcp.accept(listening))
        const loop = async () => {
          for (;;) {
            const received = await gen_tcp.recv(socket, 0)
            if (received[0] === 'error' || (await gen_tcp.send(socket, received[1])) !== 'ok') return
          }
        }
        gen_tcp.controlling_process(socket, spawn(loop))
      }
    }
    void accepting()
    return ok(inet.port(listening))
  },
  async 'fairlead/dictu'() {
    const { Socket } = await import('fairlead/dictu')
    type Stream = NonNullable<ReturnType<typeof Socket.create>>
    const server = Socket.create(Socket.AF_INET, Socket.SOCK_STREAM) as Stream
    if (!(await server.bind('127.0.0.1', 0)) || !(await server.listen())) throw new Error(Socket.strerror())
    const loop = async (socket: Stream) => {
      for (let text = await socket.recv(MOST); text; text = await socket.recv(MOST)) await socket.write(text)
      await socket.close()
    }
    const accepting = async () => {
      for (let socket = await server.accept(); socket !== null; socket = await server.accept()) void loop(socket)
    }
    void accepting()
    return portOf(server.beneath)
  },
  async 'fairlead/ioto'() {
    const ioto = await import('fairlead/ioto')
    const server = ioto.rAllocSocket()
    return new Promise((resolve) => {
      const start = async () => {
        await ioto.rListenSocket(server, '127.0.0.1', 0, (_, socket) => loop(socket), null)
        resolve(portOf(server.beneath))
      }
      const loop = async (socket: Parameters<typeof ioto.rFreeSocket>[0]) => {
        const buffer = new Uint8Array(MOST)
        for (;;) {
          const count = await ioto.rReadSocket(socket, buffer, MOST)
          if (count < 0 || (await ioto.rWriteSocket(socket, buffer, count)) < 0) return ioto.rFreeSocket(socket)
        }
      }
      ioto.rSpawnFiber('listen', start, null)
    })
  },
  async 'fairlead/fluffos'() {
    const { createDriver } = await import('fairlead/fluffos')
    const driver = createDriver({ master: { valid_socket: () => 1 } })
    const echo = driver.load(
      '/echo',
      ({ STREAM_BINARY, socket_create, socket_bind, socket_listen, socket_accept, socket_write, socket_address }) => ({
        async start() {
          const fd = socket_create(STREAM_BINARY, 'read', 'closed')
          await socket_bind(fd, 0, '127.0.0.1 0')
          await socket_listen(fd, 'listening')
          return Number(socket_address(fd, 1).split(' ')[1])
        },
        listening: (fd: number) => socket_accept(fd, 'read', 'write'),
        read: (fd: number, data: Uint8Array) => socket_write(fd, data),
      }),
    )
    return echo.start()
  },
  async 'fairlead/pike'() {
    const { Stdio } = await import('fairlead/pike')
    const port = new Stdio.Port()
    if ((await port.bind(0, 0, '127.0.0.1')) === 0) throw new Error('no port')
    type File = Exclude<Awaited<ReturnType<typeof port.accept>>, 0>
    const loop = async (file: File) => {
      for (let text = await file.read(MOST, 1); text; text = await file.read(MOST, 1)) await file.write(text)
      await file.close()
    }
    const accepting = async () => {
      for (let file = await port.accept(); file !== 0; file = await port.accept()) void loop(file)
    }
    void accepting()
    return Number(String(port.query_address()).split(' ')[1])
  },
  'Erlang/OTP': original,
}

/** Whether there is an Erlang to compare with. */
export function hasErlang(): boolean {
  return process.platform === 'linux' && spawnSync('escript', [], { stdio: 'ignore' }).error === undefined
}

/** Its input is a pipe of this process, with which it ends. */
async function original(): Promise<number> {
  const script = fileURLToPath(new URL('../../bench/echo.escript', import.meta.url))
  const { stdout } = spawn('escript', [script], { stdio: ['pipe', 'pipe', 'inherit'] })
  const [line] = (await once(stdout, 'data')) as [Buffer]
  const [port, pid] = line.toString().trim().split(' ')
  standIn(pid)
  return Number(port)
}

/** 10 kB of what a MUD tells another: strings that need escapes, ints and floats, lists in lists. */
const VALUE = {
  version: 3,
  players: Array.from({ length: 60 }, (_, i) => ({
    name: `player number ${i}`,
    hp: i * 7,
    title: 'the "great" explorer of lands',
    room: ['domains', 'town', i],
    stats: { str: 12, dex: 0.5 + i, con: 'ok' },
    friends: [[i], [i, [i + 1, 'ü']]],
  })),
}

/** Microseconds of processor time that one value takes, by what is done with it. */
export async function valueCosts(count: number): Promise<Record<string, number>> {
  const { decodeValue, encodeFrame } = await import('fairlead/fluffos')
  const json = JSON.stringify(VALUE)
  const payload = encodeFrame(VALUE).subarray(4)
  const ways = {
    'JSON.stringify': () => JSON.stringify(VALUE),
    encodeFrame: () => encodeFrame(VALUE),
    'JSON.parse': () => JSON.parse(json) as unknown,
    decodeValue: () => decodeValue(payload),
  }
  const SLICES = 10
  const costs: Record<string, number> = {}
  // The first slice is for the compiler.
  for (let slice = 0; slice <= SLICES; slice++) {
    for (const [name, run] of Object.entries(ways)) {
      const before = process.cpuUsage()
      for (let i = 0; i < count / SLICES; i++) run()
      const { user, system } = process.cpuUsage(before)
      if (slice > 0) costs[name] = (costs[name] ?? 0) + (user + system) / count
    }
  }
  return costs
}
