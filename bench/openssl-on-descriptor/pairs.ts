/** Two ends in one process, taken through their handshakes in turn. */

import { Context, type ContextOptions, Engine, type EngineError, type PeerOptions, SLAB, type Wait } from './engine.js'
import { accept, close, connect, listener, ready } from './sockets.js'

export interface Ends {
  readonly client: Engine
  readonly server: Engine
  readonly clientFd: number
  readonly serverFd: number
  readonly clientError: EngineError | undefined
  readonly serverError: EngineError | undefined
  free(): void
}

/** A connected pair of descriptors. */
export function descriptors(): [client: number, server: number] {
  const { fd, port } = listener()
  const client = connect(port)
  ready(fd)
  const server = accept(fd)
  close(fd)
  return [client, server]
}

/** Both handshakes, as far as they come. */
export function shake(server: Context, client: Context, peer: PeerOptions = {}): Ends {
  const [clientFd, serverFd] = descriptors()
  const ends = { client: new Engine(client, clientFd, 'client', peer), server: new Engine(server, serverFd, 'server') }
  const errors: { client?: EngineError; server?: EngineError } = {}
  const over = { client: false, server: false }
  for (let turn = 0; turn < 40 && !(over.client && over.server); turn++) {
    for (const side of ['client', 'server'] as const) {
      if (over[side]) continue
      try {
        over[side] = (ends[side].handshake() satisfies Wait) === 'done'
      } catch (error) {
        errors[side] = error as EngineError
        over[side] = true
        // What the other end is still told comes by the socket alone.
      }
    }
    if (!over.client) ready(clientFd, 1)
    if (!over.server) ready(serverFd, 1)
  }
  return {
    ...ends,
    clientFd,
    serverFd,
    clientError: errors.client,
    serverError: errors.server,
    free() {
      for (const end of [ends.client, ends.server]) end.free()
      for (const fd of [clientFd, serverFd]) close(fd)
    },
  }
}

export function contexts(server: ContextOptions, client: ContextOptions): { server: Context; client: Context } {
  return { server: new Context(server), client: new Context(client) }
}

/** All there is to be read now: text, and how it ended. */
export function readAll(engine: Engine, fd: number): { text: string; end: string } {
  let received = ''
  for (;;) {
    try {
      const count = engine.read()
      if (count === 0) return { text: received, end: 'close_notify' }
      if (count > 0) received += SLAB.toString('latin1', 0, count)
      else if (!ready(fd, 50)) return { text: received, end: 'open' }
    } catch (error) {
      const { kind, code } = error as EngineError
      return { text: received, end: kind === 'truncated' ? 'truncated' : `${kind} ${code}` }
    }
  }
}
