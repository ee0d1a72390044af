/**
 * The seam to foreign functions: how this runtime calls the C library, and how its event loop watches a descriptor. One
 * provider for each way; nothing else in the package knows them.
 *
 * What crosses is numbers: descriptors, flags, counts, and addresses of memory that the driver holds for as long as the
 * system may use it; or a `Uint8Array` that is used during the call alone.
 */

import { createRequire } from 'node:module'

/** Where the system reads or writes: an address, or memory whose address is taken for the time of the call. */
export type Pointer = number | Uint8Array | null

/** `int` has 32 bits, `long` the size of a pointer, as have counts; a pointer is a {@link Pointer}. */
export type Kind = 'int' | 'long' | 'pointer'

/** A function of the C library: what it takes and what it gives. */
export interface Signature {
  readonly name: string
  readonly takes: readonly Kind[]
  readonly gives: 'int' | 'long'
}

/** Calls it; -1 means that {@link Foreign.errno} has the reason. */
export type Call = (...given: Pointer[]) => number

/** A descriptor that the event loop watches for being readable. It keeps the process alive unless told otherwise. */
export interface Watch {
  ref(): void
  unref(): void
  close(): void
}

export interface Foreign {
  readonly provider: string
  declare(signature: Signature): Call
  /** The `errno` of the call before; right only if asked at once. */
  errno(): number
  /** Where this memory lies. It must not be moved or freed as long as the number is in use: over 64 bytes, and held. */
  address(memory: Uint8Array): number
  /** Calls `ready` in each turn of the event loop in which the descriptor is readable. */
  watch(descriptor: number, ready: () => void): Watch
}

interface Koffi {
  load(library: null): { func(name: string, result: string, takes: readonly string[]): Call }
  errno(): number
  address(memory: Uint8Array): bigint
  readonly node: { poll(descriptor: number, ready: () => void): Watch & { unref(): void } }
}

const KOFFI_TYPES = { int: 'int', long: 'intptr_t', pointer: 'void *' } as const

/** Through the package `koffi`: Node 20 and later, with prebuilt binaries. */
function throughKoffi(koffi: Koffi): Foreign {
  const library = koffi.load(null)
  return {
    provider: 'koffi',
    declare: ({ name, takes, gives }) =>
      library.func(
        name,
        KOFFI_TYPES[gives],
        takes.map((kind) => KOFFI_TYPES[kind]),
      ),
    errno: () => koffi.errno(),
    address: (memory) => Number(koffi.address(memory)),
    watch: (descriptor, ready) => koffi.node.poll(descriptor, ready),
  }
}

/** The provider for this runtime; throws what it lacks, as text. */
export function foreign(): Foreign {
  const require = createRequire(import.meta.url)
  return throughKoffi(require('koffi') as Koffi)
}
