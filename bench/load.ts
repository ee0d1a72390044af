/** What loads the servers: plain `node:net` and `node:tls` clients in a process of their own. */

import { once } from 'node:events'
import net from 'node:net'
import tls from 'node:tls'
import { answer } from './child.js'
import { UdpClients } from './udp.js'

/** The clients of one echo server. */
class Echoes {
  readonly #sockets: net.Socket[] = []
  readonly #message: Buffer
  #quota = 0
  #done: () => void = () => {}
  #running = 0

  /** @param framed behind its length, in four bytes */
  constructor(size: number, framed: boolean) {
    const header = Buffer.alloc(framed ? 4 : 0)
    if (framed) header.writeUInt32BE(size)
    this.#message = Buffer.concat([header, Buffer.alloc(size, 97)])
  }

  async connect(port: number, connections: number, ca: string | undefined): Promise<void> {
    for (let i = 0; i < connections; i++) {
      const where = { port, host: '127.0.0.1', noDelay: true }
      const socket = ca === undefined ? net.connect(where) : tls.connect({ ...where, ca, servername: 'localhost' })
      await once(socket, ca === undefined ? 'connect' : 'secureConnect')
      this.#sockets.push(socket)
    }
  }

  /** `requests` on each connection, one after the other; resolves with the milliseconds that took. */
  async slice(requests: number): Promise<number> {
    this.#quota = requests
    const start = performance.now()
    const done = new Promise<void>((resolve) => {
      this.#done = resolve
    })
    this.#running = this.#sockets.length
    for (const socket of this.#sockets) this.#drive(socket)
    await done
    return performance.now() - start
  }

  /** So many mebibytes on the first connection; the server answers a byte for each. */
  async push(mebibytes: number): Promise<number> {
    const [socket] = this.#sockets
    if (socket === undefined) throw new Error('nothing is connected')
    const start = performance.now()
    let answered = 0
    const done = new Promise<void>((resolve) => {
      const onData = ({ length }: Buffer) => {
        answered += length
        if (answered < mebibytes) return
        socket.off('data', onData)
        resolve()
      }
      socket.on('data', onData)
    })
    for (let left = mebibytes * 2 ** 20; left > 0; left -= this.#message.length) {
      if (!socket.write(this.#message)) await once(socket, 'drain')
    }
    await done
    return performance.now() - start
  }

  #drive(socket: net.Socket): void {
    const message = this.#message
    let received = 0
    let left = this.#quota
    const onData = (chunk: Buffer) => {
      received += chunk.length
      if (received < message.length) return
      received -= message.length
      if (--left > 0) {
        socket.write(message)
        return
      }
      socket.off('data', onData)
      if (--this.#running === 0) this.#done()
    }
    socket.on('data', onData)
    socket.write(message)
  }
}

const echoes = new Map<string, Echoes>()
const udp = new Map<string, UdpClients>()
const held: net.Socket[] = []

/** Connections from several addresses, as one address has ports for less than 30,000 to one server. */
async function hold({ port, count }: { port: number; count: number }): Promise<void> {
  const BATCH = 50
  for (let i = 0; i < count; i += BATCH) {
    const localAddress = `127.0.0.${2 + Math.floor(i / 1_000)}`
    const batch = Array.from({ length: Math.min(BATCH, count - i) }, () => net.connect({ port, host: '127.0.0.1', localAddress }))
    await Promise.all(batch.map((socket) => once(socket, 'connect')))
    held.push(...batch)
  }
}

const lives: Promise<number>[] = []

/** Clients that send a byte of their first line every `interval` milliseconds, spread evenly over that time. */
async function trickle({ port, count, interval }: { port: number; count: number; interval: number }): Promise<void> {
  const TICK = 5
  const turns: Set<net.Socket>[] = Array.from({ length: interval / TICK }, () => new Set())
  let turn = 0
  const timer = setInterval(() => {
    turn = (turn + 1) % turns.length
    for (const socket of turns[turn] as Set<net.Socket>) socket.write('a')
  }, TICK)
  for (let i = 0; i < count; i++) {
    const socket = net.connect({ port, host: '127.0.0.1', noDelay: true })
    await once(socket, 'connect')
    const start = performance.now()
    const mine = turns[i % turns.length] as Set<net.Socket>
    mine.add(socket)
    socket.on('error', () => {}).resume()
    const life = new Promise<number>((resolve) => {
      socket.on('close', () => {
        mine.delete(socket)
        resolve(performance.now() - start)
      })
    })
    lives.push(life)
  }
  void Promise.all(lives).then(() => clearInterval(timer))
}

/** How long each slow client lived, milliseconds, once all are gone. */
function gone(): Promise<number[]> {
  return Promise.all(lives)
}

/** One honest client for `time` milliseconds; the median of its round trips in microseconds. */
async function roundTrips({ port, time }: { port: number; time: number }): Promise<{ median: number; count: number }> {
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true })
  await once(socket, 'connect')
  const trips: number[] = []
  const until = performance.now() + time
  while (performance.now() < until) {
    const start = performance.now()
    socket.write('an honest line\n')
    await once(socket, 'data')
    trips.push((performance.now() - start) * 1_000)
  }
  socket.destroy()
  trips.sort((a, b) => a - b)
  return { median: trips[trips.length >> 1] as number, count: trips.length }
}

answer({
  async connect(o: { target: string; port: number; connections: number; size: number; framed?: true; ca?: string }) {
    const target = new Echoes(o.size, o.framed === true)
    await target.connect(o.port, o.connections, o.ca)
    echoes.set(o.target, target)
  },
  slice: (o: { target: string; requests: number }) => (echoes.get(o.target) as Echoes).slice(o.requests),
  push: (o: { target: string; requests: number }) => (echoes.get(o.target) as Echoes).push(o.requests),
  async connectUdp(o: { target: string; port: number; connections: number; size: number }) {
    const target = new UdpClients(o.size)
    await target.connect(o.port, o.connections)
    udp.set(o.target, target)
  },
  sliceUdp: (o: { target: string; requests: number }) => (udp.get(o.target) as UdpClients).slice(o.requests),
  floodUdp: (o: { target: string; requests: number }) => (udp.get(o.target) as UdpClients).flood(o.requests),
  hold,
  /** The first `count` of those held send a byte. */
  speak: (count: number) => held.slice(0, count).forEach((socket) => socket.write('x')),
  trickle,
  gone,
  roundTrips,
  /** Connects and never reads. */
  async ignore({ port, count }: { port: number; count: number }) {
    for (let i = 0; i < count; i++) {
      const socket = net.connect({ port, host: '127.0.0.1' }).pause()
      await once(socket, 'connect')
      held.push(socket)
    }
  },
})
