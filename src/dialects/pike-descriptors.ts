/** Descriptors: their numbers checked, taken over, and received along with bytes. */

import { closeSync } from 'node:fs'
import { type Connection, DeadlineError, network } from '../index.js'
import { PikeError } from './pike-errno.js'

const MOST_DESCRIPTOR = 0x7fff_ffff
/** Descriptors that one message of the system can carry. */
export const MOST_TOGETHER = 253

/** Whether a number can be that of a descriptor. @throws PikeError for what is no whole number */
export function isDescriptor(fd: unknown, caller: string): fd is number {
  if (!Number.isInteger(fd)) throw new PikeError(`Bad argument 1 to ${caller}(). Expected int.`)
  return (fd as number) >= 0 && (fd as number) <= MOST_DESCRIPTOR
}

/** The number that the system knows a socket by, −1 where the driver does not tell. */
export function descriptorOf(socket: { readonly descriptor: number | undefined } | undefined): number {
  return socket?.descriptor ?? -1
}

/** Whether descriptors can travel over a connection. */
export function carriesDescriptors({ local, remote }: Connection): boolean {
  return (local?.family === 'unix' || remote?.family === 'unix') && network().driver.guarantees.descriptors === true
}

/** Closes a descriptor that is this program's, and that no socket has. */
export function discard(fd: number): void {
  try {
    closeSync(fd)
  } catch (error) {
    // Whoever was given the number may have closed it.
    if ((error as { code?: unknown }).code !== 'EBADF') throw error
  }
}

/** What a descriptor that came is for. */
export type Receiver = (fd: number) => Promise<void>

/** The next bytes, behind the descriptors that came along with them; `null` at the end. Cancelled, it has taken nothing. */
export async function received(
  connection: Connection,
  limit: number | undefined,
  receiver: Receiver,
  wait: { readonly timeout?: number; readonly signal?: AbortSignal } = {},
): Promise<Uint8Array | null> {
  const got = await connection.receiveDescriptors({ limit, max: MOST_TOGETHER, ...wait })
  for (const fd of got?.descriptors ?? []) await receiver(fd)
  return got && got.data
}

/** As `received`, of what is here now; undefined if that is nothing. */
export async function receivedNow(connection: Connection, limit: number, receiver: Receiver): Promise<Uint8Array | null | undefined> {
  try {
    return await received(connection, limit, receiver, { timeout: 1 })
  } catch (error) {
    if (error instanceof DeadlineError) return undefined
    throw error
  }
}

/** What pushes bytes to a handler: a delivery of the core, or one that takes descriptors as well. */
export interface Push {
  readonly mode: unknown
  readonly done: Promise<{ readonly reason?: unknown }>
  set(mode: 'active' | 'passive'): void
}

/** Pushes bytes to a handler, one call at a time, with the descriptors before them given to the receiver. */
export class Intake implements Push {
  readonly done: Promise<{ readonly reason?: unknown }>
  mode: 'active' | 'passive' = 'active'
  #cancel = new AbortController()
  #wake: (() => void) | undefined

  constructor(connection: Connection, receiver: Receiver, handler: (chunk: Uint8Array) => unknown) {
    this.done = this.#run(connection, receiver, handler)
  }

  set(mode: 'active' | 'passive'): void {
    if (mode === this.mode) return
    this.mode = mode
    if (mode === 'passive') return this.#cancel.abort()
    this.#cancel = new AbortController()
    this.#wake?.()
  }

  async #run(connection: Connection, receiver: Receiver, handler: (chunk: Uint8Array) => unknown): Promise<{ readonly reason?: unknown }> {
    for (;;) {
      while (this.mode === 'passive') {
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
      }
      const { signal } = this.#cancel
      try {
        const chunk = await received(connection, undefined, receiver, { signal })
        if (chunk === null) return {}
        await handler(chunk)
      } catch (reason) {
        if (!signal.aborted) return { reason }
      }
    }
  }
}
