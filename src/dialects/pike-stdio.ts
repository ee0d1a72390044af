/** The module `Stdio`: what is in it, and `select` over all of them. */

import { type Selectable, select as selectSockets } from '../index.js'
import { PikeError } from './pike-errno.js'
import { Port, listenerOf } from './pike-port.js'
import { type ByteStream, channelOf } from './pike-stream.js'
import { socketOf, UDP } from './pike-udp.js'

export { FILE, File, KEEPALIVE, MULTICAST, NO_DELAY, PORT_BROADCAST, PORT_REUSE_ADDRESS } from './pike-file.js'
export type { PortName, SocketOption } from './pike-file.js'
export { Port, type AcceptCallback } from './pike-port.js'
export { ByteStream, PROP_IS_NONBLOCKING, type EventCallback, type Given, type ReadCallback, type Writable } from './pike-stream.js'
export { UDP, UdpMessage, type UdpCallback } from './pike-udp.js'
export { read_file, werror } from './pike-system.js'

/** A pair for processes. */
export const PROP_IPC = 1
/** It can do without blocking. */
export const PROP_NONBLOCK = 2
/** One direction can be closed alone. */
export const PROP_SHUTDOWN = 4
/** What is written waits in a buffer. */
export const PROP_BUFFERED = 8
/** Both directions. */
export const PROP_BIDIRECTIONAL = 16
/** The other end is the one to write to. */
export const PROP_REVERSE = 32
/** Descriptors can be sent. */
export const PROP_SEND_FD = 64
/** A terminal. */
export const PROP_TTY = 128
/** Most bytes that a read callback gets at once. */
export const DATA_CHUNK_SIZE = 65_536

/** What `select` looks at. */
export type Selectee = ByteStream | Port | UDP

/** Of those that were asked about: which can be read, which can be written, and which failed. */
export type Selected<R extends Selectee, W extends Selectee, E extends Selectee> = readonly [readable: R[], writable: W[], failed: E[]]

/**
 * Waits until something can be done with one of several objects. An end and an error count as readable, and so does somebody who has
 * come to a port. The original has no such function; there one sets callbacks.
 *
 * @param read those to be read or accepted from
 * @param write those to be written to
 * @param except those of which errors are to be told besides
 * @param timeout seconds; 0 looks; default: for ever
 * @returns three arrays by position; 0 after the time
 * @throws PikeError for an object that is not open
 *
 * ```ts
 * import { Stdio } from 'fairlead/pike'
 *
 * const file = new Stdio.File()
 * const other = file.pipe()
 * await other.write('hello')
 * const ready = await Stdio.select([file], [], [], 5)
 * console.log(ready && ready[0].includes(file)) // true
 * file.close()
 * other.close()
 * ```
 */
export async function select<R extends Selectee, W extends Selectee = never, E extends Selectee = never>(
  read: readonly R[],
  write: readonly W[] = [],
  except: readonly E[] = [],
  timeout?: number,
): Promise<Selected<R, W, E> | 0> {
  const sockets = new Map<Selectee, Selectable>()
  for (const one of [...read, ...write, ...except]) sockets.set(one, selectable(one))
  const wanted = (list: readonly Selectee[], o: { readable?: boolean; writable?: boolean }) =>
    list.map((one) => ({ socket: sockets.get(one) as Selectable, ...o }))
  const interests = [...wanted(read, { readable: true }), ...wanted(except, { readable: true }), ...wanted(write, { writable: true })]
  const found = await selectSockets(interests, timeout === undefined ? undefined : { timeout: Math.max(0, timeout) * 1000 })
  if (found.length === 0) return 0
  const ready = new Map(found.map((one) => [one.socket, one]))
  const those = <S extends Selectee>(list: readonly S[], test: (one: (typeof found)[number]) => boolean) =>
    list.filter((one) => {
      const is = ready.get(sockets.get(one) as Selectable)
      return is !== undefined && test(is)
    })
  return [
    those(read, (one) => one.readable || one.acceptable || one.ended || one.broken !== undefined),
    those(write, (one) => one.writable || one.broken !== undefined),
    those(except, (one) => one.broken !== undefined),
  ]
}

function selectable(one: Selectee): Selectable {
  const socket = one instanceof Port ? listenerOf(one) : one instanceof UDP ? socketOf(one) : channelOf(one).connection
  if (socket === undefined) throw new PikeError('Stdio.select(): File not open.')
  return socket
}
