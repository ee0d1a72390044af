/** The measured server: `node server.js SUBJECT CREDENTIALS`, driven as those of the bench are. */

import { answer } from '../child.js'
import { Context, Engine, SLAB } from './engine.js'
import { accept, close, listener, Poller } from './sockets.js'

const [subject = '', credentials = '{}'] = process.argv.slice(2)
const { cert, key } = JSON.parse(credentials) as { cert: string; key: string }

/** One connection: the engine, its descriptor, and what to do when it may go on. */
class Served {
  readonly #poller: Poller
  readonly #fd: number
  readonly #engine: Engine
  readonly #react: (served: Served) => void
  #open = false
  #writing = false
  #wake: (() => void) | undefined

  constructor(poller: Poller, context: Context, fd: number, react: (served: Served) => void) {
    this.#poller = poller
    this.#fd = fd
    this.#engine = new Engine(context, fd, 'server')
    this.#react = react
    poller.add(fd, () => this.#onEvent())
  }

  #onEvent(): void {
    try {
      if (!this.#open) {
        this.#open = this.#engine.handshake() === 'done'
        if (this.#open) this.#react(this)
        return
      }
      if (this.#writing && !this.#engine.flush()) return
      if (this.#writing) this.#poller.want(this.#fd, 'read')
      this.#writing = false
      const wake = this.#wake
      this.#wake = undefined
      if (wake === undefined) this.#react(this)
      else wake()
    } catch {
      this.close()
    }
  }

  /** As `Engine.read`. */
  read(): number {
    return this.#engine.read()
  }

  get more(): boolean {
    return this.#engine.hasPending
  }

  /** False: no more until the next event. */
  write(bytes: Uint8Array): boolean {
    this.#engine.write(bytes)
    if (this.#engine.flush()) return true
    this.#writing = true
    this.#poller.want(this.#fd, 'write')
    return false
  }

  event(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }

  close(): void {
    this.#poller.remove(this.#fd)
    this.#engine.shutdown()
    this.#engine.free()
    close(this.#fd)
  }
}

/** At each event, without promises; the bytes go back from where OpenSSL put them, or in a chunk of their own. */
function onEvent(own: boolean): (served: Served) => void {
  return (served) => {
    do {
      const count = served.read()
      if (count < 0) return
      if (count === 0) return served.close()
      if (!served.write(own ? Buffer.from(SLAB.subarray(0, count)) : SLAB.subarray(0, count))) return
    } while (served.more)
  }
}

/** The same as a loop that awaits; the first reaction starts it, and from then on events only wake it. */
async function loop(served: Served): Promise<void> {
  try {
    for (;;) {
      const count = served.read()
      if (count === 0) break
      if (count < 0) await served.event()
      else if (!served.write(Buffer.from(SLAB.subarray(0, count))) || !served.more) await served.event()
    }
  } catch {
    // The end of this connection, whatever it was.
  }
  served.close()
}

const subjects: Record<string, (served: Served) => void> = {
  'engine, in place': onEvent(false),
  'engine, chunks': onEvent(true),
  'engine, in place, keeping buffers': onEvent(false),
  'engine, chunks, promises': (served) => void loop(served),
}

function open(): number {
  const context = new Context({ cert, key, keepBuffers: subject.endsWith('keeping buffers') })
  const poller = new Poller()
  const { fd, port } = listener()
  const react = subjects[subject] as (served: Served) => void
  poller.add(fd, () => {
    for (let accepted = accept(fd); accepted >= 0; accepted = accept(fd)) new Served(poller, context, accepted, react)
  })
  return port
}

answer({
  open,
  cpu: () => {
    const { user, system } = process.cpuUsage()
    return user + system
  },
  resident: () => process.memoryUsage.rss(),
})
