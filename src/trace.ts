/**
 * The event stream: everything that can be observed of a network is one of these. Nothing in the core logs; logs,
 * metrics, the inspector and the tests subscribe here. Every event is also published on
 * `node:diagnostics_channel` as `fairlead:<type>`.
 */

import { channel } from 'node:diagnostics_channel'
import type { CloseReport } from './stream.js'

/** Facts that every event of one socket repeats. `id` is unique in the process. */
interface Base {
  /** Epoch milliseconds. */
  readonly at: number
  readonly id: number
}

export interface OpenEvent extends Base {
  readonly type: 'open'
  readonly kind: 'connection' | 'listener' | 'datagram'
  readonly role: 'dialled' | 'accepted' | 'adopted' | 'bound'
  readonly driver: string
  readonly local: string
  readonly remote: string
  readonly owner: string
  /** The listener that accepted it. */
  readonly listener?: number
}

export interface TlsEvent extends Base {
  readonly type: 'tls'
  readonly protocol: string
  readonly cipher: string
  readonly alpn: string | null
  readonly serverName: string | null
  readonly resumed: boolean
  readonly verified: boolean
}

export interface CloseEvent extends Base {
  readonly type: 'close'
  readonly kind: 'connection' | 'listener' | 'datagram'
  readonly report: CloseReport
  readonly bytesRead: number
  readonly bytesWritten: number
  /** Milliseconds since the open event. */
  readonly duration: number
}

/** Something went wrong that no caller was waiting for: a handler threw, a handshake failed, accepting failed. */
export interface ErrorEvent extends Base {
  readonly type: 'error'
  readonly op: string
  readonly error: unknown
}

/** A server or listener refused, parked or lost connections. */
export interface RefusedEvent extends Base {
  readonly type: 'refused'
  readonly reason: 'limit' | 'per-address' | 'policy' | 'draining' | 'descriptors' | 'handshakes' | 'unserved'
  readonly count: number
  readonly estimated: boolean
  readonly remote?: string
}

export interface DrainEvent extends Base {
  readonly type: 'drain'
  readonly stage: 'listeners-closed' | 'handlers-told' | 'done'
  readonly connections: number
}

/** A socket went from one owner to another. */
export interface MoveEvent extends Base {
  readonly type: 'move'
  /** Names of the owners. */
  readonly from: string
  readonly to: string
}

/** Nobody had the object of a socket any more, and it had not been closed: it is closed now. */
export interface AbandonedEvent extends Base {
  readonly type: 'abandoned'
  readonly kind: 'connection' | 'listener' | 'datagram'
  /** The calls that opened it, a line each, if `trace.recordOrigins` was set then. */
  readonly where?: string
}

export type TraceEvent = OpenEvent | TlsEvent | CloseEvent | ErrorEvent | RefusedEvent | DrainEvent | MoveEvent | AbandonedEvent

const CHANNELS = {
  open: channel('fairlead:open'),
  tls: channel('fairlead:tls'),
  close: channel('fairlead:close'),
  error: channel('fairlead:error'),
  refused: channel('fairlead:refused'),
  drain: channel('fairlead:drain'),
  move: channel('fairlead:move'),
  abandoned: channel('fairlead:abandoned'),
}

export class Trace {
  /** Remember where each socket is opened, for `abandoned` events; costs a stack trace for each. Default false. */
  recordOrigins: boolean = false
  readonly #subscribers: Set<(event: TraceEvent) => void> = new Set()

  /** Calls `fn` with every event from now on, in order; returns what ends that. A subscriber that throws is dropped. */
  subscribe(fn: (event: TraceEvent) => void): () => void {
    this.#subscribers.add(fn)
    return () => this.#subscribers.delete(fn)
  }

  /** Whether anybody listens to events of this type: lets hot paths skip making one. */
  wants(type: TraceEvent['type']): boolean {
    return this.#subscribers.size > 0 || CHANNELS[type].hasSubscribers
  }

  emit(event: TraceEvent): void {
    for (const fn of this.#subscribers) {
      try {
        fn(event)
      } catch {
        // An observer must not disturb what it observes; one that throws has lost its place.
        this.#subscribers.delete(fn)
      }
    }
    const published = CHANNELS[event.type]
    if (published.hasSubscribers) published.publish(event)
  }
}

let lastId = 0

/** The number of a new socket, unique in the process. */
export function nextId(): number {
  return ++lastId
}
