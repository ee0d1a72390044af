/** What files, TCP connections, UNIX sockets and TLS connections have in common. */

import type { Address } from '../index.js'
import { Channel, type EventCallback, type Given, type ReadCallback } from './pike-channel.js'
import { EAFNOSUPPORT, PikeError } from './pike-errno.js'
import type { Writable } from './pike-strings.js'

export type { EventCallback, Given, ReadCallback } from './pike-channel.js'
export type { Writable } from './pike-strings.js'

/** Bits of `mode()`: what a socket can do. */
const PROPERTIES = 0x1000 | 0x2000 | 16 | 4 | 2 | 1
/** It does not block at present: a bit of `mode()`. */
export const PROP_IS_NONBLOCKING = 1024

/** An address as the original writes it, `127.0.0.1 80`; 0 for a UNIX socket and for none. */
export function addressText(address: Address | undefined): string | 0 {
  if (address === undefined || address.family === 'unix') return 0
  return `${plainIp(address.address)} ${address.port}`
}

/** An IPv4 address that an IPv6 socket shows as `::ffff:192.0.2.1`, in its own form. */
export function plainIp(address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address
}

let channel: (stream: ByteStream) => Channel

/** The insides of a stream, for the classes of this dialect. @internal */
export function channelOf(stream: ByteStream): Channel {
  return channel(stream)
}

/** A stream of bytes, open or not. The methods that `Stdio.File`, `Stdio.FILE` and `SSL.File` share. */
export class ByteStream {
  readonly #channel: Channel = new Channel(this)

  static {
    channel = (stream) => stream.#channel
  }

  // Reading and writing

  /**
   * Everything up to the end, without arguments; `read(n)`: exactly `n` bytes, fewer only at the end; `read(n, 1)`: what is
   * there, at least one byte and at most `n`. Waits, unless the file does not block: then it gives what is there.
   *
   * @param length bytes
   * @param not_all 1: do not wait until all `length` bytes are there
   * @returns a string of bytes, `""` at the end, again and again; 0 with `errno()` 104 and the like for an error, and with 11
   *   where nothing is there of a file that does not block. What came before an error is returned, and `errno()` tells it.
   * @throws PikeError if the file is not open, or `length` is negative
   */
  read(length?: number, not_all?: 0 | 1 | boolean): Promise<string | 0> {
    return this.#channel.read(length, !not_all)
  }

  /**
   * Writes bytes, several pieces one after the other, or, when arguments follow, what a format makes of them. Waits until the
   * system has all of them, unless the file does not block: then it takes what is welcome now.
   *
   * @param data a string of bytes, bytes, or an array of them
   * @param args for the format, see `sprintf`
   * @returns how many bytes were taken: all, unless the file does not block; −1 for an error, with `errno()` 32 or 104
   * @throws PikeError if the file is not open, for characters beyond U+00FF, and for what `sprintf` throws
   */
  write(data: Writable, ...args: readonly unknown[]): Promise<number> {
    return this.#channel.write(data, args)
  }

  /**
   * Closes the file, or one direction of it: `"w"` sends the end of the stream, and reading goes on. Does not wait; what was
   * written is still sent. The callbacks of the file are not called for it.
   *
   * @param how `"r"`, `"w"` or both (default); other letters close nothing
   * @returns 1 if the file is closed altogether now, 0 if a direction is open
   */
  close(how: string = 'rw'): 0 | 1 {
    return this.#channel.close(how) ? 1 : 0
  }

  /** The error number of what was done last with this file, 0 if it succeeded. `strerror` has the text. */
  errno(): number {
    return this.#channel.errno
  }

  /** Whether the file is open: 1 or 0. */
  is_open(): 0 | 1 {
    return this.#channel.open ? 1 : 0
  }

  /**
   * The address at the other end, `"127.0.0.1 80"`; 0 if there is none, with `errno()` 97 of UNIX sockets and 107 of what is not connected.
   *
   * @param local 1: the address at this end
   * @throws PikeError if the file is not open
   */
  query_address(local: 0 | 1 | boolean = 0): string | 0 {
    const channel = this.#channel
    const { connection } = channel
    if (connection === undefined) {
      if (!channel.open && channel.socket === undefined) throw new PikeError('Stdio.File->query_address(): Connection not open.')
      channel.errno = channel.disconnected
      return 0
    }
    const text = addressText(local ? connection.local : connection.remote)
    channel.errno = text === 0 ? EAFNOSUPPORT : 0
    return text
  }

  // Callbacks and modes

  /**
   * Makes the file call back instead of wait. Data come to `read_callback`, their end and errors to `close_callback` (with
   * `errno()` 0 or the error), in this order, and only if both are given; `write_callback` is called when the file can be
   * written, and again when it can after something was written.
   *
   * @param read_callback a function; another true value: no callback, but do not block
   */
  set_nonblocking(
    read_callback?: Given<ReadCallback>,
    write_callback?: Given<EventCallback>,
    close_callback?: Given<EventCallback>,
    read_oob_callback?: Given<ReadCallback>,
    write_oob_callback?: Given<EventCallback>,
  ): void {
    this.#channel.nonblocking = true
    this.set_callbacks(read_callback, write_callback, close_callback, read_oob_callback, write_oob_callback)
  }

  /** Makes the file wait again, and forgets its callbacks. */
  set_blocking(): void {
    this.#channel.nonblocking = false
    this.set_callbacks()
  }

  /** Makes the file wait; its callbacks stay. */
  set_blocking_keep_callbacks(): void {
    this.#channel.nonblocking = false
  }

  /** Makes the file not wait; its callbacks stay. */
  set_nonblocking_keep_callbacks(): void {
    this.#channel.nonblocking = true
  }

  /** All five callbacks, those that are left out none; whether the file waits stays as it is. */
  set_callbacks(
    read_callback?: Given<ReadCallback>,
    write_callback?: Given<EventCallback>,
    close_callback?: Given<EventCallback>,
    read_oob_callback?: Given<ReadCallback>,
    write_oob_callback?: Given<EventCallback>,
  ): void {
    this.#channel.close_callback = close_callback
    this.#channel.readOob = read_oob_callback ?? 0
    this.#channel.writeOob = write_oob_callback ?? 0
    this.#channel.read_callback = read_callback
    this.#channel.write_callback = write_callback
  }

  /** The five callbacks: read, write, close, and those of urgent data. */
  query_callbacks(): [Given<ReadCallback>, Given<EventCallback>, Given<EventCallback>, Given<ReadCallback>, Given<EventCallback>] {
    const { read_callback, write_callback, close_callback, readOob, writeOob } = this.#channel
    return [read_callback, write_callback, close_callback, readOob, writeOob]
  }

  /** Sets the callback for data; 0: none. Changes nothing else. */
  set_read_callback(callback: Given<ReadCallback>): void {
    this.#channel.read_callback = callback
  }

  /** The callback for data; 0: none. */
  query_read_callback(): Given<ReadCallback> {
    return this.#channel.read_callback
  }

  /** Sets the callback for "can be written"; 0: none. */
  set_write_callback(callback: Given<EventCallback>): void {
    this.#channel.write_callback = callback
  }

  /** The callback for "can be written"; 0: none. */
  query_write_callback(): Given<EventCallback> {
    return this.#channel.write_callback
  }

  /** Sets the callback for the end and for errors, which needs a read callback besides; 0: none. */
  set_close_callback(callback: Given<EventCallback>): void {
    this.#channel.close_callback = callback
  }

  /** The callback for the end; 0: none. */
  query_close_callback(): Given<EventCallback> {
    return this.#channel.close_callback
  }

  /** Sets what callbacks get as their first argument. Default 0: they get the file. */
  set_id(id: unknown): void {
    this.#channel.id = id
  }

  /** What `set_id` was given; default 0. */
  query_id(): unknown {
    return this.#channel.id
  }

  /** What the file is and can, as bits: a socket, and {@link PROP_IS_NONBLOCKING}; 0 if it is not open. */
  mode(): number {
    if (!this.#channel.open && this.#channel.socket === undefined) return 0
    return PROPERTIES | (this.#channel.nonblocking ? PROP_IS_NONBLOCKING : 0)
  }

  /**
   * How the file is closed.
   *
   * @param seconds 0: at once and with a reset; otherwise in order
   * @returns 0, as the system
   */
  linger(seconds: number = -1): 0 {
    this.#channel.abrupt = seconds === 0
    return 0
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.close()
  }

  /** Closes the file, and waits until that is done. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { connection } = this.#channel
    this.close()
    await connection?.closed
  }
}
