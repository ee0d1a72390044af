import type { StreamHandle } from 'fairlead/testing'

/** Waits and reads on a bare driver handle, for tests below the level of connections. */
export class Ends {
  readonly handle: StreamHandle
  readableEvents = 0
  writableEvents = 0
  #wakeReader: (() => void) | undefined
  #wakeWriter: (() => void) | undefined

  constructor(handle: StreamHandle) {
    this.handle = handle
    handle.attach({
      readable: () => {
        this.readableEvents++
        this.#wakeReader?.()
      },
      writable: () => {
        this.writableEvents++
        this.#wakeWriter?.()
      },
    })
  }

  async read(limit = 65_536): Promise<Uint8Array | null> {
    for (;;) {
      const waiting = new Promise<void>((resolve) => (this.#wakeReader = resolve))
      const bytes = this.handle.read(limit)
      if (bytes !== undefined) return bytes
      await waiting
    }
  }

  async readAll(limit?: number): Promise<Uint8Array> {
    const all: Uint8Array[] = []
    for (let bytes = await this.read(limit); bytes !== null; bytes = await this.read(limit)) all.push(bytes)
    return new Uint8Array(Buffer.concat(all))
  }

  async write(data: Uint8Array): Promise<void> {
    for (let rest = data; rest.length > 0;) {
      const waiting = new Promise<void>((resolve) => (this.#wakeWriter = resolve))
      const count = this.handle.write(rest)
      rest = rest.subarray(count)
      if (rest.length > 0) await waiting
    }
  }

  end(): Promise<void> {
    return new Promise((resolve, reject) => this.handle.shutdown((error) => (error ? reject(error as Error) : resolve())))
  }
}

export const text = (bytes: Uint8Array | null | undefined): string | null | undefined => (bytes ? new TextDecoder().decode(bytes) : bytes)
export const bytes = (value: string): Uint8Array => new TextEncoder().encode(value)
