/** Dialling, listening and serving: what holds on every driver and transport. */

import assert from 'node:assert/strict'
import type { Listener } from '../accept.js'
import type { Connection } from '../connection.js'
import { Broken, Cancelled, Closed, DeadlineError, SocketError, SystemFailure } from '../errors.js'
import type { ConnectOptions, ListenOptions, Network } from '../network.js'
import type { Handler, ServeOptions, Server } from '../server.js'
import type { TraceEvent } from '../trace.js'
import { type CheckOptions, failsWith, latin1, Pace, type Property, readToEnd, register } from './check.js'
import { DELIVERY } from './check-delivery.js'
import { OWNERSHIP } from './check-owners.js'
import { READINESS } from './check-readiness.js'
import { settle, type VirtualClock } from './clock.js'
import { Random } from './random.js'

/** Makes networks of one driver, and says where to listen on them. */
export interface NetworkMaker {
  readonly name: string
  /** A fresh network; its clock, when it is a virtual one. */
  network(): Promise<{ network: Network; clock?: VirtualClock | undefined }>
  /** An endpoint nobody uses, with port 0 where there are ports. */
  endpoint(): Promise<string>
  readonly listen?: ListenOptions | undefined
  readonly connect?: ConnectOptions | undefined
}

/** What a property of networks gets. */
export class NetworkCase {
  readonly network: Network
  readonly time: Pace
  readonly events: TraceEvent[] = []
  readonly #maker: NetworkMaker

  constructor(network: Network, time: Pace, maker: NetworkMaker) {
    this.network = network
    this.time = time
    this.#maker = maker
    network.trace.subscribe((event) => this.events.push(event))
  }

  async listen(at?: string, o?: ListenOptions): Promise<Listener> {
    return this.network.listen(at ?? (await this.#maker.endpoint()), { ...this.#maker.listen, ...o })
  }

  connect(to: string, o?: ConnectOptions): Promise<Connection> {
    return this.network.connect(to, { ...this.#maker.connect, ...o })
  }

  async serve(handler: Handler, o?: ServeOptions): Promise<Server> {
    return this.network.serve(await this.#maker.endpoint(), { ...this.#maker.listen, ...o }, handler)
  }

  /** A dialled and accepted connection. */
  async pair(listener: Listener): Promise<[Connection, Connection]> {
    return Promise.all([this.connect(listener.endpoint), listener.accept()])
  }
}

/** Turns the loop until `condition` holds. */
async function until(condition: () => boolean, what: string): Promise<void> {
  for (let i = 0; !condition(); i++) {
    if (i > 5000) assert.fail(`${what} did not come about`)
    await settle(1)
    // Other processes of the system, too, need a moment now and then.
    if (i % 50 === 49) await new Promise<void>((resolve) => setTimeout(resolve, 2))
  }
}

const goneCodes = ['ECONNREFUSED', 'ENOENT']

const DIALLING_AND_SERVING: readonly Property<NetworkCase>[] = [
  {
    id: 'N1',
    title: 'a past accept deadline wins over a connection that is ready, which is not lost',
    async run(c) {
      const listener = await c.listen()
      const dialling = c.connect(listener.endpoint)
      await settle(5)
      await failsWith(listener.accept({ timeout: 0 }), 'accept', DeadlineError, 'DEADLINE')
      const [a, b] = await Promise.all([dialling, listener.accept()])
      await a.write('x')
      assert.equal(latin1(await b.read()), 'x')
    },
  },
  {
    id: 'N4',
    title: 'accept never fails before its deadline, and an accept given up takes no connection',
    async run(c) {
      const listener = await c.listen()
      const began = c.time.now()
      const accepting = listener.accept({ timeout: 20 })
      accepting.catch(() => {})
      await c.time.stillPending(accepting, 'accept', c.time.real ? 5 : 19)
      if (!c.time.real) await c.time.pass(1)
      await failsWith(accepting, 'accept', DeadlineError)
      assert.ok(c.time.now() - began >= 20)
      const abort = new AbortController()
      const given = listener.accept({ signal: abort.signal })
      abort.abort(new Error('given up'))
      await failsWith(given, 'accept', Cancelled)
      await c.pair(listener)
    },
  },
  {
    id: 'N9',
    title: 'closing a listener unblocks every accept with Closed; what it accepted lives on',
    async run(c) {
      const listener = await c.listen()
      const [a, b] = await c.pair(listener)
      const waiting = [listener.accept(), listener.accept()]
      for (const accepting of waiting) accepting.catch(() => {})
      await settle(2)
      const report = await listener.close()
      assert.equal(report.clean, true)
      for (const accepting of waiting) await failsWith(accepting, 'accept', Closed, 'CLOSED')
      await failsWith(listener.accept(), 'accept', Closed, 'CLOSED')
      await a.write('x')
      assert.equal(latin1(await b.read()), 'x')
      assert.deepEqual(await listener.close(), report)
    },
  },
  {
    id: 'N14',
    title: 'clients that vanish before they are accepted never make accept fail',
    async run(c) {
      const listener = await c.listen()
      const accepted: Connection[] = []
      const loop = (async () => {
        for await (const connection of listener) accepted.push(connection)
      })()
      for (let i = 0; i < 20; i++) {
        const dialled = await c.connect(listener.endpoint)
        dialled.abort()
      }
      const last = await c.connect(listener.endpoint)
      await last.write('last')
      const seen: string[] = []
      await until(() => {
        for (const connection of accepted.splice(0)) {
          void readToEnd(connection).then(
            (bytes) => seen.push(latin1(bytes) as string),
            (error: unknown) => seen.push((error as SocketError).name),
          )
        }
        if (seen.length > 0 && last.state === 'open') void last.end()
        return seen.includes('last')
      }, 'the honest client’s turn')
      await listener.close()
      await loop
      assert.ok(
        seen.every((outcome) => ['last', '', 'Broken'].includes(outcome)),
        seen.join(),
      )
    },
  },
  {
    id: 'N15',
    title: 'errors of dialling and listening are typed and tell operation, endpoint, phase and attempts',
    async run(c) {
      const listener = await c.listen()
      const taken = await failsWith(c.listen(listener.endpoint, { unlinkStale: false }), 'a second listen', SystemFailure, 'EADDRINUSE')
      assert.equal(taken.op, 'listen')
      assert.equal(taken.endpoint, listener.endpoint)
      await listener.close()
      const error = await failsWith(c.connect(listener.endpoint), 'connecting to a closed listener', SystemFailure)
      assert.ok(goneCodes.includes(error.code), error.code)
      assert.equal(error.op, 'connect')
      assert.equal(error.endpoint, listener.endpoint)
      assert.equal(error.attempts?.length, 1)
      const [attempt] = error.attempts
      assert.ok(
        attempt && goneCodes.includes(attempt.code) && attempt.duration >= 0 && attempt.address !== '' && attempt.phase === 'connect',
      )
      assert.ok(error.cause !== undefined && error.message !== '')
      for (const wrong of [
        '',
        'no-scheme',
        'tcp://',
        'tcp://host',
        'tcp://host:65536',
        'unix:',
        'tcp://[::g]:1',
        'ftp://x:1',
        'tcp://0x7f.1:1',
      ]) {
        const refused = await failsWith(c.connect(wrong), `connecting to ${JSON.stringify(wrong)}`, SocketError)
        assert.equal(refused.name, 'AddressError', wrong)
      }
    },
  },
  {
    id: 'N16',
    title: 'closing frees the address at once: listen, close, listen again, many times',
    async run(c) {
      const first = await c.listen()
      const { endpoint } = first
      await first.close()
      for (let i = 0; i < 20; i++) {
        const listener = await c.listen(endpoint)
        assert.equal(listener.endpoint, endpoint)
        const [a, b] = await c.pair(listener)
        await listener.close()
        b.abort()
        a.abort()
      }
    },
  },
  {
    id: 'N21',
    title: 'a signal cancels a dial promptly, and has no effect once it is done',
    async run(c) {
      const listener = await c.listen()
      const abort = new AbortController()
      await failsWith(c.connect(listener.endpoint, { signal: AbortSignal.abort(new Error('before')) }), 'connect', Cancelled)
      await failsWith(c.connect(listener.endpoint, { timeout: 0 }), 'connect', DeadlineError)
      const during = c.connect(listener.endpoint, { signal: abort.signal })
      abort.abort(new Error('during'))
      const error = await failsWith(during, 'connect', Cancelled)
      assert.equal((error.cause as Error).message, 'during')
      const later = new AbortController()
      const accepting = listener.accept()
      const a = await c.connect(listener.endpoint, { signal: later.signal })
      later.abort()
      await a.write('x')
      let b = await accepting
      // What was cancelled half-way may have reached the listener first.
      let got = await b.read().catch(() => null)
      while (got === null) {
        b = await listener.accept()
        got = await b.read().catch(() => null)
      }
      assert.equal(latin1(got), 'x')
    },
  },
  {
    id: 'N24',
    title: 'ten tasks accept at once: each gets a connection of its own, in order of asking',
    async run(c) {
      const listener = await c.listen()
      const order: number[] = []
      const accepting = Array.from({ length: 10 }, async (_, i) => {
        const connection = await listener.accept()
        order.push(i)
        return connection
      })
      const dialled: Connection[] = []
      for (let i = 0; i < 10; i++) dialled.push(await c.connect(listener.endpoint))
      const accepted = await Promise.all(accepting)
      assert.equal(new Set(accepted.map(({ id }) => id)).size, 10)
      assert.deepEqual(order, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
      await Promise.all(dialled.map((connection, i) => connection.write(`${i}`)))
      const got = await Promise.all(accepted.map(async (connection) => latin1(await connection.read())))
      assert.deepEqual(got.sort(), ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
    },
  },
  {
    id: 'N40',
    title: 'a connection accepted after its peer wrote and closed yields the data, then the end',
    async run(c) {
      const listener = await c.listen()
      const accepting = listener.accept()
      const dialled = await c.connect(listener.endpoint)
      await dialled.write('buffered')
      const closing = dialled.close()
      await settle(3)
      const b = await accepting
      assert.equal(latin1(await readToEnd(b)), 'buffered')
      await b.close()
      assert.equal((await closing).clean, true)
    },
  },
  {
    id: 'S4',
    title: 'suspended, established connections live on and nobody new is accepted; then the same address goes on',
    async run(c) {
      const listener = await c.listen()
      const [a, b] = await c.pair(listener)
      listener.suspend()
      const accepting = listener.accept()
      const dialling = c.connect(listener.endpoint, { timeout: 10_000 })
      dialling.catch(() => {})
      await c.time.stillPending(accepting, 'accept')
      await a.write('x')
      assert.equal(latin1(await b.read()), 'x')
      listener.resume()
      const [late, served] = await Promise.all([dialling, accepting])
      await served.write('y')
      assert.equal(latin1(await late.read()), 'y')
    },
  },
  {
    id: 'S12',
    title: 'exactly one open and one close event for each socket, however it ends',
    async run(c) {
      const listener = await c.listen()
      for (let i = 0; i < 6; i++) {
        const [a, b] = await c.pair(listener)
        if (i % 3 === 0) {
          const closing = a.close()
          await readToEnd(b)
          await b.close()
          await closing
        } else if (i % 3 === 1) {
          a.abort()
          await b.read().catch(() => {})
          await b.close()
        } else {
          void a.close({ timeout: 0 })
          b.abort()
        }
        await Promise.all([a.closed, b.closed])
      }
      await listener.close()
      const count = (type: string) => c.events.filter((event) => event.type === type).map(({ id }) => id)
      const opened = count('open')
      assert.equal(opened.length, 13)
      assert.equal(new Set(opened).size, 13)
      assert.deepEqual(count('close').sort(), opened.sort())
    },
  },
  {
    id: 'S13',
    title: '100 times listen, connect, close leave no socket behind',
    async run(c) {
      for (let i = 0; i < 100; i++) {
        const listener = await c.listen()
        const [a, b] = await c.pair(listener)
        await Promise.all([a.close(), b.close(), listener.close()])
      }
      await until(() => c.network.sockets().length === 0, 'an empty registry')
    },
  },
  {
    id: 'S1',
    title: 'a limit of N with N + 5 clients: N are served, each exit admits one',
    async run(c) {
      let serving = 0
      let peak = 0
      const server = await c.serve(
        async (connection) => {
          peak = Math.max(peak, ++serving)
          await connection.write('!')
          await connection.read()
          serving--
        },
        { limits: { connections: 5 } },
      )
      const clients = Array.from({ length: 10 }, async () => {
        const client = await c.connect(server.endpoints[0])
        assert.equal(latin1(await client.read()), '!')
        await settle(3)
        assert.ok(serving <= 5, `${serving} are served`)
        await client.close()
      })
      await Promise.all(clients)
      assert.equal(peak, 5)
      await server.close()
    },
  },
  {
    id: 'S5',
    title: 'drain ends within its time, whether handlers cooperate or not, and leaves none',
    async run(c) {
      for (const cooperative of [true, false]) {
        const server = await c.serve(async (connection, { signal }) => {
          await connection.write('!')
          await connection.read(cooperative ? { signal } : {})
        })
        const client = await c.connect(server.endpoints[0])
        await client.read()
        const began = c.time.now()
        const draining = server.drain({ within: 50 })
        const report = await c.time.run(draining, 1000)
        assert.ok(c.time.now() - began <= 60 + c.time.slack)
        assert.equal(report.finished + report.aborted, 1)
        if (!cooperative) assert.equal(report.aborted, 1)
        assert.equal(server.connections().length, 0)
        client.abort()
      }
    },
  },
  {
    id: 'S6',
    title: 'draining closes the listener before handlers are told',
    async run(c) {
      let refused: string | undefined
      const server = await c.serve(async (connection, { signal }) => {
        await connection.write('!')
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
        refused = await c.connect(server.endpoints[0]).then(
          () => 'connected',
          (error: SocketError) => error.code,
        )
      })
      const client = await c.connect(server.endpoints[0])
      await client.read()
      await c.time.run(server.drain({ within: 1000 }), 2000)
      assert.ok(goneCodes.includes(refused ?? ''), refused)
      const stages = c.events.flatMap((event) => (event.type === 'drain' ? [event.stage] : []))
      assert.deepEqual(stages, ['listeners-closed', 'handlers-told', 'done'])
    },
  },
  {
    id: 'S7',
    title: 'a handler that throws costs its connection alone, and is reported',
    async run(c) {
      let calls = 0
      const server = await c.serve((connection) => {
        calls++
        if (calls === 1) throw new Error('thrown')
        return connection.read().then(() => {
          if (calls === 2) throw new Error('rejected')
          return connection.write('served')
        })
      })
      for (let i = 0; i < 2; i++) {
        // A connection that is reset as soon as it stands may be told to the client as a failed dial.
        const client = await c.connect(server.endpoints[0]).catch((error: SocketError) => assert.equal(error.code, 'ECONNRESET'))
        await client?.write('x').catch(() => {})
        await client?.read().catch((error: unknown) => assert.ok(error instanceof Broken, String(error)))
        await client?.close()
      }
      const client = await c.connect(server.endpoints[0])
      await client.write('x')
      assert.equal(latin1(await readToEnd(client)), 'served')
      await client.close()
      const reported = c.events.flatMap((event) => (event.type === 'error' ? [String((event.error as Error).message ?? event.error)] : []))
      assert.equal(reported.length, 2)
      assert.equal(server.stats.handlerErrors, 2)
      await server.close()
    },
  },
  {
    id: 'S17',
    title: 'a stampede of clients that end in every way: the counters balance to 0',
    async run(c) {
      const random = new Random(17)
      const server = await c.serve(
        async (connection) => {
          for await (const chunk of connection) {
            await connection.write(chunk)
            if (chunk.length % 7 === 0) throw new Error('bad luck')
          }
        },
        { limits: { connections: 20 } },
      )
      const clients = Array.from({ length: 100 }, async () => {
        const client = await c.connect(server.endpoints[0]).catch(() => undefined)
        if (client === undefined) return
        await client.write(random.bytes(random.int(1, 100))).catch(() => {})
        if (random.int(0, 2) === 0) await client.read({ limit: 10 }).catch(() => {})
        if (random.int(0, 1) === 0) client.abort()
        else await client.close({ timeout: 1000 })
        await client.closed
      })
      await c.time.run(Promise.all(clients), 60_000)
      await until(() => server.stats.active === 0, 'no active connection')
      assert.equal(server.connections().length, 0)
      await c.time.run(server.close(), 10_000)
      await until(() => c.network.sockets().length === 0, 'an empty registry')
      const count = (type: string) => c.events.filter((event) => event.type === type).length
      assert.equal(count('open'), count('close'))
    },
  },
]

/** Every property of networks, in the order in which they are run. */
export const NETWORK_PROPERTIES: readonly Property<NetworkCase>[] = [...DIALLING_AND_SERVING, ...READINESS, ...DELIVERY, ...OWNERSHIP]

/**
 * Checks dialling, listening and serving over a driver: registers one test for each property, each on a fresh network.
 *
 * ```ts
 * import { test } from 'node:test'
 * import { Network } from 'fairlead'
 * import { checkNetworks, memory } from 'fairlead/testing'
 *
 * checkNetworks(
 *   {
 *     name: 'memory',
 *     network: async () => ({ network: new Network({ driver: memory() }) }),
 *     endpoint: async () => 'tcp://127.0.0.1:0',
 *   },
 *   { test, only: ['N24', 'S13'] },
 * )
 * ```
 *
 * @returns the ids of the properties that were registered
 */
export function checkNetworks(maker: NetworkMaker, o: CheckOptions): string[] {
  return register(maker.name, NETWORK_PROPERTIES, o, async () => {
    const { network, clock } = await maker.network()
    return {
      subject: new NetworkCase(network, new Pace(clock), maker),
      close: () => network.end({ abort: true }),
    }
  })
}
