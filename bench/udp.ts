/** Datagram servers that are measured, and their load. */

import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { bind, type DatagramSocket } from 'fairlead'

let handled = 0

/** Datagrams the server of this process has handled. */
export function handledSoFar(): number {
  return handled
}

async function bare(onMessage: (socket: Socket) => void): Promise<number> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1')
  await once(socket, 'listening')
  onMessage(socket)
  return socket.address().port
}

async function fairlead(serve: (socket: DatagramSocket) => Promise<void>): Promise<number> {
  const socket = await bind('udp://127.0.0.1:0')
  void serve(socket)
  return (socket.local as { port: number }).port
}

const MANY = 64

export const udpServers: Record<string, () => Promise<number>> = {
  'node:dgram echo': () =>
    bare((socket) =>
      socket.on('message', (data, { port, address }) => {
        handled++
        socket.send(data, port, address)
      }),
    ),
  'fairlead echo, for await': () =>
    fairlead(async (socket) => {
      for await (const { data, from } of socket) {
        handled++
        await socket.send(data, from)
      }
    }),
  'fairlead echo, receiveMany and sendMany': () =>
    fairlead(async (socket) => {
      for (;;) {
        const batch = await socket.receiveMany(MANY)
        handled += batch.length
        await socket.sendMany(batch.map(({ data, from }) => ({ data, to: from })))
      }
    }),
  'node:dgram count': () => bare((socket) => socket.on('message', () => handled++)),
  'fairlead count, for await': () =>
    fairlead(async (socket) => {
      for await (const _ of socket) handled++
    }),
  'fairlead count, receiveMany': () =>
    fairlead(async (socket) => {
      for (;;) handled += (await socket.receiveMany(MANY)).length
    }),
}

/** Sends `count` datagrams to a port of this machine. */
export const udpSenders: Record<string, (port: number, size: number, count: number) => Promise<void>> = {
  async 'node:dgram, 64 at a time'(port, size, count) {
    const socket = createSocket('udp4').bind(0, '127.0.0.1')
    await once(socket, 'listening')
    const data = Buffer.alloc(size, 97)
    for (let i = 0; i < count; i++) {
      socket.send(data, port, '127.0.0.1')
      // It looks up the address on a later turn.
      if (i % MANY === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    await new Promise((resolve) => setImmediate(resolve))
    socket.close()
  },
  async 'fairlead, awaited one by one'(port, size, count) {
    await using socket = await bind('udp://127.0.0.1:0')
    const data = new Uint8Array(size).fill(97)
    const to = `udp://127.0.0.1:${port}`
    for (let i = 0; i < count; i++) await socket.send(data, to)
  },
  async 'fairlead, sendMany'(port, size, count) {
    await using socket = await bind('udp://127.0.0.1:0')
    const one = { data: new Uint8Array(size).fill(97), to: `udp://127.0.0.1:${port}` }
    const all = function* () {
      for (let i = 0; i < count; i++) yield one
    }
    await socket.sendMany(all())
  },
}

/** Milliseconds of silence after which a datagram counts as lost. */
const LOST = 200

/** The clients of one server. */
export class UdpClients {
  readonly #sockets: Socket[] = []
  readonly #message: Buffer

  constructor(size: number) {
    this.#message = Buffer.alloc(size, 97)
  }

  async connect(port: number, connections: number): Promise<void> {
    for (let i = 0; i < connections; i++) {
      const socket = createSocket('udp4')
      socket.connect(port, '127.0.0.1')
      await once(socket, 'connect')
      this.#sockets.push(socket)
    }
  }

  /** `requests` from each client, one after the other; resolves with the milliseconds that took. */
  async slice(requests: number): Promise<number> {
    const start = performance.now()
    await Promise.all(this.#sockets.map((socket) => this.#drive(socket, requests)))
    return performance.now() - start
  }

  #drive(socket: Socket, requests: number): Promise<void> {
    return new Promise((resolve) => {
      let left = requests
      const again = () => socket.send(this.#message)
      const timer = setInterval(again, LOST)
      const onMessage = () => {
        if (--left > 0) {
          again()
          if (left % 100 === 0) timer.refresh()
          return
        }
        clearInterval(timer)
        socket.off('message', onMessage)
        resolve()
      }
      socket.on('message', onMessage)
      again()
    })
  }

  /** `count` datagrams, as fast as the system takes them; resolves with the milliseconds that took. */
  async flood(count: number): Promise<number> {
    const start = performance.now()
    const [socket] = this.#sockets
    for (let i = 0; i < count; i++) {
      socket?.send(this.#message)
      if (i % 32 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    return performance.now() - start
  }
}
