/** What streams and listeners are made with, and what connections get from the listener that takes them. */

import type { DialSettings, KeepAlive, ListenSettings, OptionHandle } from '../driver.js'
import { applyOptions, type Holder, optionsOf } from './kernel-options.js'
import type { Poll } from './kernel-poll.js'

type Made = Pick<DialSettings & ListenSettings, 'noDelay' | 'keepAlive' | 'options'>

const STANDARD_KEEP_ALIVE: KeepAlive = { idle: 15_000, interval: 15_000, count: 9 }
const KEEP_ALIVE = ['keepAlive', 'keepAliveIdle', 'keepAliveInterval', 'keepAliveCount'] as const
/** It comes behind the handshake, whose own acknowledgement would wait 200 ms for bytes to go with. */
const AFTERWARDS: ReadonlySet<string> = new Set(['quickAck'])
/** What the system does not give to accepted connections. */
const NOT_INHERITED = { tcp: ['priority'], unix: ['sendBuffer', 'receiveBuffer'] } as const

/** What was asked for, and what the network has for the rest. The times of keep-alive hold, too, when it is switched on later. */
function everything({ noDelay, keepAlive, options }: Made, unix: boolean): Map<string, unknown> {
  const all = new Map(options)
  if (unix) return all
  const { idle, interval, count } = keepAlive || STANDARD_KEEP_ALIVE
  const standard = { keepAliveIdle: idle, keepAliveInterval: interval, keepAliveCount: count }
  for (const [name, value] of Object.entries(standard)) if (!all.has(name)) all.set(name, value)
  return all.set('noDelay', noDelay).set('keepAlive', keepAlive && {})
}

/** Sets what a new stream socket is made with, before it is bound, connects or listens. */
export function makeStream(poll: Poll, holder: Holder, kind: 'connection' | 'listener', unix: boolean, made: Made): void {
  if (!unix || made.options !== undefined) applyOptions(poll, holder, kind, everything(made, unix), AFTERWARDS)
}

/** Gives a connection that was just made what could not be set before, and what closing it has to know. */
export function connected(poll: Poll, holder: Holder, { options }: Pick<Made, 'options'>): void {
  if (options === undefined) return
  holder.lingers = options.has('linger')
  if (options.has('quickAck')) optionsOf(poll, holder, 'connection').set('quickAck', options.get('quickAck'))
}

/**
 * The options of a listener that connections must be given when they are accepted. Those of TCP have what the listener had when
 * their handshake was done, but for one, so what is set later has to reach those that wait; those of UNIX sockets have nothing
 * of it. A listener that others made stays as it is, so its connections are given everything.
 */
export class Inheritance {
  readonly options: OptionHandle
  readonly #poll: Poll
  readonly #given: Map<string, unknown>

  constructor(poll: Poll, holder: Holder, unix: boolean, made: Made, adopted: boolean) {
    this.#poll = poll
    const lost: readonly string[] = NOT_INHERITED[unix ? 'unix' : 'tcp']
    const given = new Map(adopted ? everything(made, unix) : [...(made.options ?? [])].filter(([name]) => lost.includes(name)))
    this.#given = given
    const own = optionsOf(poll, holder, 'listener')
    const get = (name: string): unknown => (given.has(name) ? given.get(name) : own.get(name))
    this.options = {
      ...own,
      get(name) {
        if (!adopted) return own.get(name)
        const value = get(name)
        if (name !== 'keepAlive' || value === false) return value
        return { idle: get('keepAliveIdle'), interval: get('keepAliveInterval'), count: get('keepAliveCount') }
      },
      set(name, value) {
        own.set(name, value)
        if (name.startsWith('keepAlive')) for (const part of KEEP_ALIVE) given.set(part, own.get(part))
        else if (name !== 'deferAccept') given.set(name, value)
      },
    }
  }

  /** Gives a connection that was just accepted what it has not got by itself. */
  pass(connection: Holder): void {
    if (this.#given.size === 0) return
    try {
      applyOptions(this.#poll, connection, 'connection', this.#given)
    } catch {
      // The listener took these values, so it is the connection that is over already: its reader is told how.
    }
  }
}
