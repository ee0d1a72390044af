/** Options of sockets that cannot be asked: what they were made with and what was set since is remembered. */

import type { KeepAlive, OptionHandle } from '../driver.js'

const KEEP_ALIVE_PARTS = { idle: 'keepAliveIdle', interval: 'keepAliveInterval', count: 'keepAliveCount' } as const

/** What a driver throws for an option it does not have. */
function noSuchOption(name: string): Error {
  return Object.assign(new Error(`${name} cannot be reached here`), { code: 'ENOPROTOOPT', option: name })
}

/** Keep-alive among remembered values: `false`, or the parts that are known. */
export function keepAliveOf(values: ReadonlyMap<string, unknown>): Partial<KeepAlive> | false {
  if (values.get('keepAlive') !== true) return false
  const known = Object.entries(KEEP_ALIVE_PARTS).map(([part, name]) => [part, values.get(name)])
  return Object.fromEntries(known.filter(([, value]) => value !== undefined))
}

/** Keep-alive as it is remembered: a switch, and its parts as options of their own. */
export function keepAliveValues(keepAlive: Partial<KeepAlive> | false): [string, unknown][] {
  const parts = Object.entries(KEEP_ALIVE_PARTS).map(([part, name]) => [name, keepAlive && keepAlive[part as keyof KeepAlive]] as const)
  return [
    ['keepAlive', keepAlive !== false],
    ...parts.filter(([, value]) => typeof value === 'number').map(([name, value]): [string, unknown] => [name, value]),
  ]
}

export class Remembered implements OptionHandle {
  #values: ReadonlyMap<string, unknown>
  readonly #settable: ReadonlySet<string>
  readonly #apply: ((name: string, value: unknown) => void) | undefined

  /**
   * @param values what can be read, keep-alive as {@link keepAliveValues} has it
   * @param settable what can be set
   * @param apply sets it for real, or throws; a part of `keepAlive` comes as the whole of it, and only while it is on
   */
  constructor(values: ReadonlyMap<string, unknown>, settable: ReadonlySet<string>, apply?: (name: string, value: unknown) => void) {
    this.#values = values
    this.#settable = settable
    this.#apply = apply
  }

  get values(): ReadonlyMap<string, unknown> {
    return this.#values
  }

  get(name: string): unknown {
    const value = this.#values.get(name)
    if (value === undefined) throw noSuchOption(name)
    return name === 'keepAlive' ? keepAliveOf(this.#values) : value
  }

  set(name: string, value: unknown): void {
    const news = name === 'keepAlive' ? keepAliveValues(value as Partial<KeepAlive> | false) : [[name, value] as const]
    for (const [one] of news) if (!this.#settable.has(one)) throw noSuchOption(one)
    const values = new Map([...this.#values, ...news])
    if (!name.startsWith('keepAlive')) this.#apply?.(name, value)
    else if (name === 'keepAlive' || values.get('keepAlive')) this.#apply?.('keepAlive', keepAliveOf(values))
    this.#values = values
  }
}
