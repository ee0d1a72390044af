/** Ends of TLS streams for the tests: pairs over memory, and readers that wait for events instead of polling. */

import { systemClock } from '#src/deadline.js'
import type { Clock, StreamHandle } from '#src/driver.js'
import { memoryPair } from '#src/drivers/memory.js'
import { secure, type Secured, type TlsInfo } from '#src/tls.js'
import { type ClientTlsOptions, prepareClient, prepareServer, type ServerTls, type ServerTlsOptions } from '#src/tls-options.js'
import { type Authority, developmentAuthority, type Issued } from 'fairlead/testing'

export type Version = 'TLSv1.2' | 'TLSv1.3'
export const VERSIONS: readonly Version[] = ['TLSv1.2', 'TLSv1.3']
/** Both ways of carrying TLS: on Node's stream handles, and by public means alone. */
export const CARRIERS: readonly boolean[] = [false, true]
export const HOST = 'server.example'

let made: Promise<{ authority: Authority; server: Issued }> | undefined

/** One authority and one server certificate for all tests of a file. */
export function world(): Promise<{ authority: Authority; server: Issued }> {
  made ??= (async () => {
    const authority = await developmentAuthority()
    return { authority, server: await authority.issue({ names: [HOST, '*.wild.example', '127.0.0.1'] }) }
  })()
  return made
}

/** Reads and writes a handle with promises. */
export class Peer {
  readonly handle: StreamHandle
  readonly info: TlsInfo | undefined
  #waiting: (() => void)[] = []

  constructor(handle: StreamHandle, info?: TlsInfo) {
    this.handle = handle
    this.info = info
    const wake = () => {
      for (const fn of this.#waiting.splice(0)) fn()
    }
    handle.attach({ readable: wake, writable: wake })
  }

  async read(limit = 65_536): Promise<Uint8Array | null> {
    for (;;) {
      const result = this.handle.read(limit)
      if (result !== undefined) return result
      await this.#event()
    }
  }

  /** Everything until the end; an error is thrown with what came before it as `received`. */
  async readAll(): Promise<Buffer> {
    const parts: Uint8Array[] = []
    try {
      for (let part = await this.read(); part !== null; part = await this.read()) parts.push(part)
    } catch (error) {
      throw Object.assign(error as Error, { received: Buffer.concat(parts) })
    }
    return Buffer.concat(parts)
  }

  async write(data: Uint8Array | string): Promise<void> {
    let rest = typeof data === 'string' ? Buffer.from(data) : data
    while (rest.length > 0) {
      const taken = this.handle.write(rest)
      rest = rest.subarray(taken)
      if (taken === 0) await this.#event()
    }
  }

  /** What was written has left this end. */
  async flush(): Promise<void> {
    while (this.handle.unsent > 0) await this.#event()
  }

  end(): Promise<void> {
    return new Promise((resolve, reject) =>
      this.handle.shutdown((error) => (error === undefined || error === null ? resolve() : reject(error as Error))),
    )
  }

  destroy(reset = false): void {
    this.handle.destroy(reset)
  }

  #event(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve))
  }
}

export interface PairOptions {
  client?: ClientTlsOptions
  server?: ServerTlsOptions
  /** Settings already prepared, for sessions and reloading. */
  serverTls?: ServerTls
  version?: Version
  portable?: boolean
  clock?: Clock
  below?: [StreamHandle, StreamHandle]
  /** Text of the endpoint that sessions are kept for. */
  endpoint?: string
}

/** Both handshakes at once; each outcome for itself. */
export async function handshakes(o: PairOptions = {}): Promise<[PromiseSettledResult<Secured>, PromiseSettledResult<Secured>]> {
  const { authority, server } = await world()
  const { version, portable = false, clock = systemClock } = o
  const bounds = version && { minVersion: version, maxVersion: version }
  const client = prepareClient({ ca: authority.cert, serverName: HOST, sessions: false, ...bounds, ...o.client }, { endpoint: o.endpoint })
  const tls = o.serverTls ?? prepareServer({ cert: server.cert, key: server.key, ...o.server })
  const [a, b] = o.below ?? memoryPair()
  return Promise.allSettled([secure(a, client, { clock, portable }), secure(b, tls, { clock, portable })])
}

export interface Pair {
  client: Peer & { info: TlsInfo }
  server: Peer & { info: TlsInfo }
  below: [StreamHandle, StreamHandle]
}

/** An established pair; fails if either handshake does. */
export async function pair(o: PairOptions = {}): Promise<Pair> {
  const below = o.below ?? memoryPair()
  const results = await handshakes({ ...o, below })
  const [client, server] = results.map((result) => {
    if (result.status === 'rejected') throw result.reason
    return new Peer(result.value.handle, result.value.info)
  }) as [Pair['client'], Pair['server']]
  return { client, server, below }
}

/** The error of a client's handshake; fails if there is none. */
export async function clientFailure(o: PairOptions): Promise<Error & { code: string; message: string }> {
  const [client, server] = await handshakes(o)
  if (server.status === 'fulfilled') server.value.handle.destroy(false)
  if (client.status === 'fulfilled') {
    client.value.handle.destroy(false)
    throw new Error('the handshake succeeded')
  }
  return client.reason as Error & { code: string }
}
