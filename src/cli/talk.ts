/** The talk room on connections: what `fairlead up` serves. */

import { Closed, type Connection, Denied, FrameError, type Handler, SocketError } from '../index.js'
import { type Door, type Guest, LONGEST_LINE, type Room } from './room.js'

/** Bytes a guest may have waiting before counting as too slow. */
const MOST_WAITING = 64 * 1024
/** Bytes of one over-long line after which we stop looking for its end. */
const HOPELESS = 64 * 1024

/** Sends without waiting, so that one slow reader holds up nobody else; drops who is too slow. */
class Outbox implements Door {
  readonly #connection: Connection
  readonly #leave: AbortController = new AbortController()
  #waiting = 0

  constructor(connection: Connection) {
    this.#connection = connection
  }

  /** Aborts when the guest is to be shown out. */
  get leaving(): AbortSignal {
    return this.#leave.signal
  }

  send(text: string): void {
    if (this.#leave.signal.aborted) return
    const line = new TextEncoder().encode(`${text}\n`)
    if (this.#waiting + line.length > MOST_WAITING) {
      this.#connection.abort(new Denied('TOO_SLOW', 'the peer was too slow: it does not read what is said', { op: 'talk' }))
      return this.close()
    }
    this.#waiting += line.length
    const sent = () => {
      this.#waiting -= line.length
    }
    // A failed write is told to the reading side as well, which ends the visit.
    this.#connection.write(line).then(sent, sent)
  }

  close(): void {
    this.#leave.abort()
  }
}

/** Handles the connections of a talk service. */
export function talk(room: Room): Handler {
  return async (connection, { signal }) => {
    const door = new Outbox(connection)
    const guest = room.enter(transportOf(connection), door)
    const drain = () => guest.dismiss('* The server is closing. Goodbye.')
    if (signal.aborted) drain()
    signal.addEventListener('abort', drain, { once: true })
    try {
      await visit(connection, guest, door.leaving)
    } catch (error) {
      // Guests come and go as they like: a reset or an idle one is no failure of the handler.
      if (!(error instanceof SocketError)) throw error
      if (!(error instanceof Closed)) connection.abort(error)
    } finally {
      signal.removeEventListener('abort', drain)
      guest.left()
    }
  }
}

function transportOf({ security, remote, local }: Connection): string {
  const unix = (remote ?? local)?.family === 'unix'
  return security === null ? (unix ? 'UNIX' : 'TCP') : unix ? 'TLS over UNIX' : 'TLS'
}

async function visit(connection: Connection, guest: Guest, leaving: AbortSignal): Promise<void> {
  while (!leaving.aborted) {
    try {
      const text = await connection.readLine({ limit: LONGEST_LINE, lastUnterminated: true, signal: leaving })
      if (text === null) return
      guest.line(text)
    } catch (error) {
      if (leaving.aborted) return
      if (!(error instanceof FrameError && error.code === 'TOO_LONG')) throw error
      guest.tooLong()
      if (!(await skipLine(connection, leaving))) return guest.dismiss('* That line has no end. Goodbye.')
    }
  }
}

/** Drops everything up to the next line feed; false if it does not come. */
async function skipLine(connection: Connection, signal: AbortSignal): Promise<boolean> {
  for (let skipped = 0; skipped < HOPELESS;) {
    const bytes = await connection.read({ signal })
    if (bytes === null) return false
    const end = bytes.indexOf(0x0a)
    if (end >= 0) {
      connection.unread(bytes.subarray(end + 1))
      return true
    }
    skipped += bytes.length
  }
  return false
}
