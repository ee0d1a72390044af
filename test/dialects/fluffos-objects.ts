/** Objects of a driver for tests: they write down each callback, and can be waited for. */

import assert from 'node:assert/strict'
import { createDriver, type Driver, type DriverOptions, type Efuns, RESULTS, type SocketStatus } from 'fairlead/fluffos'

export type Happening = readonly [callback: string, fd: number, ...more: unknown[]]

/** An object whose callbacks `read`, `write`, `close`, `listen` and `release` are noted, and then do what `also` says. */
export class Actor {
  readonly efuns: Efuns
  readonly happened: Happening[] = []
  /** What a callback does besides. */
  also: Partial<Record<string, (...parameters: never[]) => unknown>> = {}
  #seen = 0
  #waiting: (() => void) | undefined

  constructor(driver: Driver) {
    this.efuns = driver.efuns(this)
  }

  #note(callback: string, fd: number, ...more: unknown[]): unknown {
    this.happened.push([callback, fd, ...more])
    this.#waiting?.()
    return this.also[callback]?.(fd as never, ...(more as never[]))
  }

  read(fd: number, ...more: unknown[]): unknown {
    return this.#note('read', fd, ...more)
  }
  write(fd: number): unknown {
    return this.#note('write', fd)
  }
  close(fd: number): unknown {
    return this.#note('close', fd)
  }
  listen(fd: number): unknown {
    return this.#note('listen', fd)
  }
  release(fd: number, target: object): unknown {
    return this.#note('release', fd, target)
  }
  resolved(...answer: unknown[]): void {
    this.#note('resolved', 0, ...answer)
  }

  /** The next callback that nobody has asked for yet. */
  async next(): Promise<Happening> {
    while (this.#seen >= this.happened.length) await new Promise<void>((resolve) => (this.#waiting = resolve))
    return this.happened[this.#seen++] as Happening
  }

  /** The next callback of this name; what was before it is passed over. */
  async until(callback: string): Promise<Happening> {
    for (;;) {
      const happening = await this.next()
      if (happening[0] === callback) return happening
    }
  }

  /** Everything read from now on, as one text, until it is this long. */
  async text(length: number): Promise<string> {
    let text = ''
    while (text.length < length) text += String((await this.until('read'))[2])
    return text
  }

  state(fd: number): string {
    return (this.efuns.socket_status(fd) as SocketStatus)[1]
  }
}

export interface Stage {
  readonly driver: Driver
  /** What was logged. */
  readonly logged: { error: unknown; where: string }[]
  actor(): Actor
  /** An actor that listens, and accepts whoever comes; its descriptor, and where to connect to. */
  listening(mode: number): Promise<{ server: Actor; fd: number; at: string; port: number }>
  /** Two actors that are connected. */
  pair(mode: number): Promise<{ client: Actor; server: Actor; fd: number; peer: number }>
}

/** A driver that lets everybody do everything, until the test is over. */
export function stage(t: { after(fn: () => unknown): void }, o: Partial<DriverOptions> = {}): Stage {
  const logged: Stage['logged'] = []
  const driver = createDriver({ master: { valid_socket: () => 1 }, log: (error, where) => logged.push({ error, where }), ...o })
  t.after(() => driver.close())
  const actor = () => new Actor(driver)

  async function listening(mode: number) {
    const server = actor()
    const { socket_accept, socket_address, socket_bind, socket_create, socket_listen } = server.efuns
    server.also['listen'] = (fd: number) => socket_accept(fd, 'read', 'write')
    const fd = socket_create(mode, 'read', 'close')
    assert.equal(await socket_bind(fd, 0, '127.0.0.1 0'), RESULTS.EESUCCESS)
    assert.equal(await socket_listen(fd, 'listen'), RESULTS.EESUCCESS)
    const at = socket_address(fd, 1)
    return { server, fd, at, port: Number(at.split(' ')[1]) }
  }

  async function pair(mode: number) {
    const { server, at } = await listening(mode)
    let peer = -1
    server.also['listen'] = (fd: number) => (peer = server.efuns.socket_accept(fd, 'read', 'write'))
    const client = actor()
    const fd = client.efuns.socket_create(mode, 'read', 'close')
    assert.equal(client.efuns.socket_connect(fd, at, 'read', 'write'), RESULTS.EESUCCESS)
    await Promise.all([client.until('write'), server.until('listen')])
    return { client, server, fd, peer }
  }

  return { driver, logged, actor, listening, pair }
}
