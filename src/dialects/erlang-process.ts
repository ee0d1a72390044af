/**
 * Processes: an async function with a mailbox, found through the async context it runs in. Each owns an {@link Owner}, so that
 * its sockets end with it. What runs outside of all of them is the main process, which never ends.
 */

import { AsyncLocalStorage } from 'node:async_hooks'
import { inspect } from 'node:util'
import { Broken, Busy, Closed, type Connection, network, Owner } from '../index.js'
import { matches, type Timeout } from './erlang-terms.js'

let lastId = 0

/** The name of a process, or of the process that stands for a socket. */
export class Pid {
  readonly id: number = ++lastId

  toString(): string {
    return `<0.${this.id}.0>`
  }
}

/** What `monitor` gives. */
export class Ref {
  readonly id: number = ++lastId

  toString(): string {
    return `#Ref<0.${this.id}>`
  }
}

/** What `exit(Reason)` throws: let it pass. `reason` is what linked and monitoring processes are told. */
export class Exit extends Error {
  readonly reason: unknown

  constructor(reason: unknown) {
    super(`the process exits: ${reason instanceof Error ? reason.message : inspect(reason, { depth: 3, breakLength: 140 })}`)
    this.name = 'Exit'
    this.reason = reason
  }
}

/** A message that a pattern fits, and which one. */
interface Taken {
  readonly message: unknown
  readonly which: number
}

/** A message in a mailbox. */
interface Mail {
  readonly message: unknown
  /** The socket it came from, which takes it along to a new owner. */
  readonly from: object | undefined
  /** Called once it has left the mailbox. */
  readonly taken: (() => void) | undefined
}

type SignalKind = 'link' | 'exit'
/** What the message of a monitor calls that which is no more. */
type MonitorName = readonly ['process', Pid] | readonly ['port', object]

/** Whatever has a pid and can be linked: a process, or what stands for a socket, which runs nothing. @internal */
export class Linkable {
  readonly pid: Pid = new Pid()
  readonly links: Set<Linkable> = new Set()
  readonly monitors: Map<Ref, { readonly process: Process; readonly name: MonitorName }> = new Map()
  /** Why it is no more. */
  over: { readonly reason: unknown } | undefined
  readonly #signalled: ((from: Pid, reason: unknown, kind: SignalKind) => void) | undefined

  /** @param signalled what an exit signal does to it */
  constructor(signalled?: (from: Pid, reason: unknown, kind: SignalKind) => void) {
    this.#signalled = signalled
    known.set(this.pid, this)
  }

  /** An exit signal: of somebody linked who ended, or sent with `exit`. */
  signal(from: Pid, reason: unknown, kind: SignalKind): void {
    if (this.over === undefined) this.#signalled?.(from, reason, kind)
  }

  /** Says goodbye to everybody who wants to know. */
  leave(reason: unknown): void {
    if (this.over !== undefined) return
    this.over = { reason }
    for (const other of this.links) {
      other.links.delete(this)
      other.signal(this.pid, reason, 'link')
    }
    this.links.clear()
    for (const [ref, { process, name }] of this.monitors) {
      process.monitoring.delete(ref)
      process.put(['DOWN', ref, ...name, reason])
    }
    this.monitors.clear()
  }

  link(other: Linkable): void {
    this.links.add(other)
    other.links.add(this)
  }

  unlink(other: Linkable): void {
    this.links.delete(other)
    other.links.delete(this)
  }
}

/** Places of messages that were taken, in front of a mailbox, before it is made shorter. */
const COMPACTED = 1024

/** The place of the first pattern that a message fits, or -1. */
function fitting(patterns: readonly unknown[], message: unknown): number {
  for (let i = 0; i < patterns.length; i++) if (matches(patterns[i], message)) return i
  return -1
}

/** Messages that may be taken, by all processes, before the event loop has its turn. */
const BETWEEN_TURNS = 256
let talks = 0

const known: WeakMap<Pid, Linkable> = new WeakMap()
const context: AsyncLocalStorage<Process> = new AsyncLocalStorage()

/** @internal */
export class Process extends Linkable {
  readonly owner: Owner
  readonly monitoring: Map<Ref, Linkable> = new Map()
  trapExit = false
  /** From `#head` on; what stands before it has been taken. */
  #mailbox: (Mail | undefined)[] = []
  #head = 0
  /** Every `receive` that waits has seen the messages up to here. */
  #seen = 0
  #offering = false
  /** Each `receive` that waits: whether it takes this message. */
  readonly #waiting: Set<(mail: Mail) => boolean> = new Set()
  /** Blocked calls, for when the process is ended from outside. */
  readonly #blocked: Set<(exit: Exit) => void> = new Set()

  constructor(owner: Owner) {
    super()
    this.owner = owner
  }

  /** Puts a message at the end of the mailbox; that of a process that is no more takes none. */
  put(message: unknown, from?: object, taken?: () => void): void {
    if (this.over !== undefined) return taken?.()
    this.#mailbox.push({ message, from, taken })
    this.#offer()
  }

  /** Shows what is new to those who wait, each message once, whatever comes meanwhile. */
  #offer(): void {
    if (this.#offering) return
    this.#offering = true
    try {
      while (this.#seen < this.#mailbox.length) this.#show(this.#mailbox[this.#seen] as Mail)
    } finally {
      this.#offering = false
    }
  }

  #show(mail: Mail): void {
    for (const wants of this.#waiting) {
      if (!wants(mail)) continue
      this.#remove(this.#seen)
      // It has left, which may bring the next one.
      return mail.taken?.()
    }
    this.#seen++
  }

  #remove(at: number): void {
    if (at !== this.#head) {
      this.#mailbox.splice(at, 1)
      if (at < this.#seen) this.#seen--
      return
    }
    this.#mailbox[at] = undefined
    this.#head++
    this.#seen = Math.max(this.#seen, this.#head)
    if (this.#head < COMPACTED || this.#head * 2 < this.#mailbox.length) return
    this.#mailbox.splice(0, this.#head)
    this.#seen -= this.#head
    this.#head = 0
  }

  /** Moves the messages of a socket to another mailbox, in order. */
  handOver(from: object, to: Process): void {
    const mine = this.#mailbox.filter((mail) => mail?.from === from)
    if (mine.length === 0) return
    this.#mailbox = this.#mailbox.filter((mail) => mail !== undefined && mail.from !== from)
    this.#head = 0
    this.#seen = this.#mailbox.length
    // All before anybody takes one: what is taken makes room, in which the socket puts what came later.
    to.#mailbox.push(...mine)
    to.#offer()
  }

  /** The first message that a pattern fits, taken out of the mailbox. */
  take(patterns: readonly unknown[]): Taken | undefined {
    for (let i = this.#head; i < this.#mailbox.length; i++) {
      const { message, taken } = this.#mailbox[i] as Mail
      const which = fitting(patterns, message)
      if (which === -1) continue
      this.#remove(i)
      taken?.()
      return { message, which }
    }
    return undefined
  }

  /** Processes that talk to one another without end would leave the event loop no time to look at a socket. */
  #fairly<T extends Taken | undefined>(found: T): T | Promise<T> {
    if (++talks % BETWEEN_TURNS !== 0) return found
    return new Promise((resolve) => setImmediate(resolve, found))
  }

  /** As `take`, waiting for it; undefined when the time is over. */
  async receive(patterns: readonly unknown[], timeout: Timeout): Promise<Taken | undefined> {
    this.mustLive()
    const found = this.take(patterns)
    if (found !== undefined) return this.#fairly(found)
    let cancel: (() => void) | undefined
    let wants: ((mail: Mail) => boolean) | undefined
    try {
      const woken = await this.blocking(
        new Promise<Taken | undefined>((resolve, reject) => {
          const done = (result: Taken | undefined) => {
            this.#waiting.delete(wants as (mail: Mail) => boolean)
            resolve(result)
          }
          wants = ({ message }) => {
            try {
              const which = fitting(patterns, message)
              if (which !== -1) done({ message, which })
              return which !== -1
            } catch (error) {
              // A test in a pattern failed, which is the failure of who waits, not of who sends.
              this.#waiting.delete(wants as (mail: Mail) => boolean)
              reject(error as Error)
              return false
            }
          }
          this.#waiting.add(wants)
          // What has arrived at a socket, and nobody has looked at yet, is here already in the original.
          if (timeout === 0) twoTurns(() => done(undefined))
          else if (timeout !== 'infinity') cancel = alarm(timeout, () => done(undefined))
        }),
      )
      return await this.#fairly(woken)
    } finally {
      this.#waiting.delete(wants as (mail: Mail) => boolean)
      cancel?.()
    }
  }

  /** Is told, under that name, when `other` is no more; at once if it is not. */
  monitor(other: Linkable, name: MonitorName): Ref {
    const ref = new Ref()
    if (other.over !== undefined) this.put(['DOWN', ref, ...name, 'noproc'])
    else {
      other.monitors.set(ref, { process: this, name })
      this.monitoring.set(ref, other)
    }
    return ref
  }

  /** Undoes `monitor`. Whether there was something to undo. */
  demonitor(ref: Ref): boolean {
    this.monitoring.get(ref)?.monitors.delete(ref)
    return this.monitoring.delete(ref)
  }

  /** Throws `Exit` in a process that was ended from outside. */
  mustLive(): void {
    if (this.over !== undefined) throw new Exit(this.over.reason)
  }

  /** What `promise` gives, unless the process is ended first, which `left` is told at once. */
  async blocking<T>(promise: Promise<T>, left?: () => void): Promise<T> {
    if (this.root) return promise
    this.mustLive()
    let stop: ((exit: Exit) => void) | undefined
    const ended = new Promise<never>((_resolve, reject) => {
      stop = (exit) => {
        left?.()
        reject(exit)
      }
      this.#blocked.add(stop)
    })
    try {
      return await Promise.race([promise, ended])
    } finally {
      this.#blocked.delete(stop as (exit: Exit) => void)
      this.mustLive()
    }
  }

  /** As `blocking`, where nobody has to look: a call that was not awaited and a process that has ended harm nobody. */
  quietly<T>(promise: Promise<T>, left?: () => void): Promise<T> {
    const result = this.blocking(promise, left)
    result.catch(() => {})
    return result
  }

  get root(): boolean {
    return this === main
  }

  override signal(from: Pid, reason: unknown, kind: SignalKind): void {
    if (this.over !== undefined) return
    if (kind === 'exit' && reason === 'kill') return this.end('killed')
    if (this.trapExit) return this.put(['EXIT', from, reason])
    if (reason === 'normal' && from !== this.pid) return
    this.end(reason)
  }

  /** Ends it: everybody is told, what it waits for fails with `Exit`, its sockets are flushed and closed. */
  end(reason: unknown): void {
    // The main program is no process that something could end: whoever links it hears of it as a message or not at all.
    if (this.over !== undefined || this.root) return
    this.leave(reason)
    for (const [ref, other] of this.monitoring) other.monitors.delete(ref)
    this.monitoring.clear()
    const exit = new Exit(reason)
    for (const stop of this.#blocked) stop(exit)
    this.#head = 0
    this.#seen = 0
    for (const mail of this.#mailbox.splice(0)) mail?.taken?.()
    void this.owner.end()
  }
}

let main: Process | undefined

/** The process that runs now; throws `Exit` in one that was ended. @internal */
export function current(): Process {
  const process = context.getStore() ?? (main ??= new Process(network()))
  process.mustLive()
  return process
}

/** @internal */
export function processOf(pid: unknown): Linkable | undefined {
  return pid instanceof Pid ? known.get(pid) : undefined
}

/**
 * Takes a socket out of the hands of the process that opened it: it ends with its owner through their link, and can so be given
 * away while something waits, which the core does not allow. @internal
 */
export function keep(socket: Pick<Connection, 'moveTo'>, owner: Owner = network()): void {
  try {
    socket.moveTo(owner)
  } catch (error) {
    // What is over already belongs to nobody, and what is busy goes nowhere before it is over.
    if (!(error instanceof Closed || error instanceof Broken || error instanceof Busy)) throw error
  }
}

/** Calls `fn` when the event loop has looked for input. @internal */
export function twoTurns(fn: () => void): void {
  setImmediate(() => setImmediate(fn))
}

/** Calls `fn` in `milliseconds`; returns what cancels that. @internal */
export function alarm(milliseconds: number, fn: () => void): () => void {
  const { clock } = network()
  return clock.at(clock.now() + milliseconds, fn)
}

/** A call whose process is ended meanwhile fails with `Exit`, which nobody has to look at: with its process whoever called is gone. @internal */
export function harmless<T>(call: () => Promise<T>): Promise<T> {
  const result = new Promise<T>((resolve, reject) => {
    call().then(resolve, (error: unknown) => {
      if (error instanceof Exit) result.catch(() => {})
      reject(error as Error)
    })
  })
  return result
}

/** Starts a process of `fn(...args)`. @internal */
export function start<A extends readonly unknown[]>(fn: (...args: A) => unknown, args: A): Process {
  if (typeof fn !== 'function') throw new Exit('badarg')
  const owner = new Owner('process', network())
  const process = new Process(owner)
  const run = async () => {
    try {
      await owner.run(() => context.run(process, () => fn(...args)))
      process.end('normal')
    } catch (error) {
      crashed(process, error)
    }
  }
  queueMicrotask(() => {
    if (process.over === undefined) void run()
  })
  return process
}

function crashed(ended: Process, error: unknown): void {
  if (error instanceof Exit) return ended.end(error.reason)
  if (ended.over !== undefined) return
  // As Erlang logs it: an error that nobody is told of would otherwise be lost.
  if (ended.links.size + ended.monitors.size === 0) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    process.emitWarning(`Error in process ${ended.pid} with exit value: ${text}`, 'ErlangProcess')
  }
  ended.end(error)
}
