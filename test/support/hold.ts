/**
 * Keeps a socket from being garbage, and so from being closed, for as long as the tests of a file run: for those that only have
 * to be there, while the other end is looked at.
 */
export function hold<T>(socket: T): T {
  held.push(socket)
  return socket
}

const held: unknown[] = []
