/**
 * Memory that the system is pointed at. V8 frees what nothing refers to and the system does not refer, so all of it is made
 * once, held here, and used for the length of one call each.
 */

import { LAYOUTS } from './kernel-layout.js'
import type { System } from './kernel-system.js'

/** Most bytes taken or given in one call. */
export const PIECE: number = 64 * 1024
/** Pieces of one gathered write. */
export const MOST_PIECES = 64
export const EVENTS = 256

/** A part of memory whose place is known. */
export class Block {
  readonly bytes: Uint8Array
  readonly view: DataView
  readonly address: number

  constructor(system: System, size: number) {
    // Small arrays lie in V8's own heap, where they move.
    this.bytes = new Uint8Array(Math.max(size, 128))
    this.view = new DataView(this.bytes.buffer)
    this.address = system.address(this.bytes)
  }

  int(at = 0): number {
    return this.view.getInt32(at, true)
  }

  setInt(value: number, at = 0): void {
    this.view.setInt32(at, value, true)
  }

  /** An address or a count of 64 bits, as far as a number goes. */
  setLong(value: number, at: number): void {
    this.view.setUint32(at, value >>> 0, true)
    this.view.setUint32(at + 4, value / 0x1_0000_0000, true)
  }

  long(at: number): number {
    return this.view.getUint32(at, true) + this.view.getUint32(at + 4, true) * 0x1_0000_0000
  }
}

/** What the handles of one driver share; each use is over before the next begins. */
export class Memory {
  /** Where everything that is read, and what is small and written, passes through. */
  readonly slab: Block
  readonly events: Block
  /** What a socket is added to epoll with: {@link events} may hold a batch that is being told. */
  readonly event: Block
  readonly name: Block
  /** The length of a name or of an option, and where the system puts what it really was. */
  readonly length: Block
  readonly option: Block
  readonly message: Block
  readonly vector: Block
  readonly control: Block

  constructor(system: System) {
    this.slab = new Block(system, PIECE)
    this.events = new Block(system, EVENTS * LAYOUTS.epoll_event.size)
    this.event = new Block(system, LAYOUTS.epoll_event.size)
    this.name = new Block(system, LAYOUTS.sockaddr_storage.size)
    this.length = new Block(system, 8)
    this.option = new Block(system, 1024)
    this.message = new Block(system, LAYOUTS.msghdr.size)
    this.vector = new Block(system, MOST_PIECES * LAYOUTS.iovec.size)
    this.control = new Block(system, 2048)
  }
}
