/** Descriptors: what a socket is to the system, given away, sent to other processes and received from them. */

import { closeSync } from 'node:fs'
import { wholeNumber } from './arguments.js'
import type { StreamHandle } from './driver.js'
import { Busy, CODES, Denied, type ErrorFacts, invalidType, outOfRange, systemCode, SystemFailure, systemFailure } from './errors.js'
import type { Feed } from './outbound.js'
import type { Wait } from './stream.js'

/** SCM_MAX_FD of Linux, unix(7): descriptors that one message can carry. */
export const MOST_DESCRIPTORS = 253
/** What one call receives unless told otherwise. */
export const FEW_DESCRIPTORS = 16

/** A socket of ours whose descriptor can be given away. */
export interface Giver {
  /** Throws why it cannot be given away now; nothing has changed then. */
  mayGive(op: string): void
  /** Gives the descriptor, open and as it is; the object is `CONSUMED` from then on. */
  give(op: string): number
  readonly number: number | undefined
}

/** What `receiveDescriptors` gives. */
export interface ReceivedDescriptors {
  /** The bytes that the descriptors came with, at least one. */
  readonly data: Uint8Array
  /** Numbers of open descriptors, close-on-exec and yours: adopt them (`connect({ fd })`, …) or close them. */
  readonly descriptors: number[]
}

export interface ReceiveDescriptorsOptions extends Wait {
  /** Most bytes to return, at least 1. Default: whatever is there, at most 64 KiB. */
  limit?: number | null | undefined
  /** Most descriptors to accept, 0 to 253. Default 16. If more come all are closed. */
  max?: number | undefined
}

/** The descriptor of a handle, if it knows one that is open. */
export function descriptorOf(handle: { readonly descriptor?: number }): number | undefined {
  const { descriptor } = handle
  return descriptor !== undefined && descriptor >= 0 ? descriptor : undefined
}

/** Calls `handle.give`, which `mustGive` has found. */
export function giveUp(handle: { give?(): number }, facts: ErrorFacts): number {
  try {
    return (handle as { give(): number }).give()
  } catch (error) {
    throw systemFailure(error, facts)
  }
}

/** Throws unless a descriptor can be given away now, with nothing under way and nothing held that would be lost with it. */
export function mustGive(
  handle: { give?(): number },
  driver: string,
  facts: ErrorFacts,
  { pending, unread = 0, unsent = 0 }: { pending?: string | undefined; unread?: number; unsent?: number } = {},
): void {
  if (handle.give === undefined)
    throw new SystemFailure('UNSUPPORTED', `${whoCannot(driver)} give the descriptor of this socket away`, facts)
  if (pending !== undefined) throw new Busy('BUSY', `${CODES.Busy.BUSY}: ${facts.op} while ${pending} has it`, facts)
  if (unread > 0) throw new Busy('UNREAD', `${CODES.Busy.UNREAD}: ${unread} of them at ${facts.op}`, facts)
  if (unsent > 0) throw new Busy('UNSENT', `${CODES.Busy.UNSENT}: ${unsent} of them at ${facts.op}`, facts)
}

/** Of a driver that has it for other sockets it is the layer above, TLS, that has not. */
function whoCannot(driver: string): string {
  return driver === 'kernel' ? 'the driver kernel cannot' : `the driver ${driver} cannot, and the driver kernel can,`
}

/** Throws unless descriptors can travel over this stream. */
export function mustPass(handle: StreamHandle, method: 'sendDescriptors' | 'receiveDescriptors', driver: string, facts: ErrorFacts): void {
  const { local, remote } = handle
  const verb = method === 'sendDescriptors' ? 'send' : 'receive'
  if (local?.family !== 'unix' && remote?.family !== 'unix')
    throw new SystemFailure(
      'UNSUPPORTED',
      `descriptors travel over unix: connections alone, not over ${facts.endpoint ?? 'this one'}`,
      facts,
    )
  if (handle[method] === undefined)
    throw new SystemFailure('UNSUPPORTED', `${whoCannot(driver)} ${verb} descriptors over this connection`, facts)
}

/** Why the descriptors that came, so many of them, were all closed: more than `most`, or than this process has room for. */
export function whyClosed(surplus: number, most: number, facts: ErrorFacts): SystemFailure | Denied {
  if (surplus <= most) return new SystemFailure('EMFILE', `${CODES.SystemFailure.EMFILE} for those that came; all were closed`, facts)
  return new Denied('DESCRIPTORS', `${CODES.Denied.DESCRIPTORS}: ${surplus} came, at most ${most} were asked for`, facts)
}

/** What a sender gives: numbers, which stay its own, and sockets of ours. */
export type Passed = number | Giver

export function checkedPassed(given: unknown): Passed[] {
  if (!Array.isArray(given)) throw invalidType('descriptors', 'an array of descriptors and sockets', given)
  if (given.length === 0 || given.length > MOST_DESCRIPTORS)
    throw outOfRange('descriptors', `1 to ${MOST_DESCRIPTORS} of them`, `${given.length}`)
  if (new Set(given).size < given.length) throw outOfRange('descriptors', 'all different', 'one of them twice')
  return given.map((value: unknown, i) => {
    if (typeof value === 'number') return wholeNumber(`descriptors[${i}]`, value, 0, 2 ** 31 - 1)
    const { giver } = Object(value) as { giver?: Giver }
    if (giver === undefined) throw invalidType(`descriptors[${i}]`, 'a number, a Connection, a Listener or a DatagramSocket', value)
    return giver
  })
}

/** What `sendmsg` says about the stream; anything else is about the descriptors, and the stream goes on. */
const OF_THE_STREAM: ReadonlySet<string> = new Set(Object.keys(CODES.Broken).concat('ENOTCONN'))

/** Bytes with descriptors along with the first of them. */
export class DescriptorFeed implements Feed {
  readonly op = 'sendDescriptors'
  over = false
  failure: unknown
  readonly #handle: StreamHandle
  readonly #passed: readonly Passed[]
  readonly #facts: () => ErrorFacts
  #data: Uint8Array
  #sent = false

  constructor(handle: StreamHandle, passed: readonly Passed[], data: Uint8Array, facts: () => ErrorFacts) {
    this.#handle = handle
    this.#passed = passed
    this.#data = data
    this.#facts = facts
  }

  hand(): number {
    const count = this.#sent ? this.#handle.write(this.#data) : this.#first()
    this.#data = this.#data.subarray(count)
    if (this.#data.length === 0) this.over = true
    return count
  }

  #first(): number {
    let numbers: number[]
    try {
      // What was free to go when this was asked for may be in use or gone by now.
      numbers = this.#passed.map((one) => (typeof one === 'number' ? one : numberOf(one, this.op)))
    } catch (error) {
      return this.#fail(error)
    }
    let count: number
    try {
      count = this.#handle.sendDescriptors?.(this.#data, numbers) ?? 0
    } catch (error) {
      if (OF_THE_STREAM.has(systemCode(error) ?? '')) throw error
      return this.#fail(systemFailure(error, { ...this.#facts(), phase: 'write' }, 'cannot send these descriptors'))
    }
    if (count === 0) return 0
    this.#sent = true
    // The system has references of its own.
    for (const one of this.#passed) if (typeof one !== 'number') closeSync(one.give(this.op))
    return count
  }

  #fail(error: unknown): 0 {
    this.over = true
    this.failure = error
    return 0
  }
}

function numberOf(giver: Giver, op: string): number {
  giver.mayGive(op)
  return giver.number as number
}
