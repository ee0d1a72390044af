/**
 * The seam to foreign functions: how this runtime calls the C library, and how its event loop watches a descriptor. One
 * provider for each way; nothing else in the package knows them.
 *
 * What crosses is numbers: descriptors, flags, counts, and addresses of memory that the driver holds for as long as the
 * system may use it; or a `Uint8Array` that is used during the call alone.
 */

import { createRequire } from 'node:module'
import { isMainThread } from 'node:worker_threads'
import { SUPPORTED_MACHINES } from './kernel-layout.js'
import { onBun, onDeno } from './runtime.js'

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

const require = createRequire(import.meta.url)

interface PollHandle extends Watch {
  start(ready: () => void): void
  stop(): void
}

interface Koffi {
  load(library: null): { func(name: string, result: string, takes: readonly string[]): Call }
  errno(): number
  address(memory: Uint8Array): bigint
  readonly node: { poll(descriptor: number, ready: () => void): PollHandle }
}

/** Through the package `koffi`, which has prebuilt binaries: Node and Deno. */
function throughKoffi(): Foreign {
  const koffi = require('koffi') as Koffi
  const library = koffi.load(null)
  const types = { int: 'int', long: 'intptr_t', pointer: 'void *' } as const
  return {
    provider: 'koffi',
    declare: ({ name, takes, gives }) => {
      const kinds = takes.map((kind) => types[kind])
      return library.func(name, types[gives], kinds)
    },
    errno: () => koffi.errno(),
    address: (memory) => Number(koffi.address(memory)),
    watch(descriptor, ready) {
      if (!onDeno) return koffi.node.poll(descriptor, ready)
      // Deno tells of a descriptor once, and again only when it is watched anew: after what `ready` does in its immediate.
      let open = true
      const again = () => {
        if (!open) return
        handle.stop()
        handle.start(told)
      }
      const told = () => {
        ready()
        setImmediate(again)
      }
      const handle = koffi.node.poll(descriptor, told)
      return {
        ref: () => handle.ref(),
        unref: () => handle.unref(),
        close() {
          open = false
          // Deno ends the process a little after a handle is closed.
          handle.stop()
          handle.unref()
        },
      }
    },
  }
}

type Native = (...given: unknown[]) => number | bigint
type NativeType = 'int32' | 'int64' | 'uint64' | 'pointer' | 'void'

interface NodeFfi {
  readonly DynamicLibrary: new (path: null) => {
    getFunction(name: string, signature: { return: NativeType; arguments: readonly NativeType[] }): Native
    registerCallback(signature: { return: NativeType; arguments: readonly NativeType[] }, fn: () => void): bigint
    unregisterCallback(pointer: bigint): void
  }
  getInt32(address: bigint): number
  getRawPointer(memory: Uint8Array): bigint
  getCurrentEventLoop(): bigint
}

/** `uv_handle_type` of uv.h. */
const UV_POLL = 8
const UV_READABLE = 1

/** Through `node:ffi`, which Node has of its own since 26; a call costs about twice what it does through koffi. */
function throughNode(): Foreign {
  const ffi = require('node:ffi') as NodeFfi
  const library = new ffi.DynamicLibrary(null)
  const types = { int: 'int32', long: 'int64', pointer: 'pointer' } as const
  const uv = (name: string, gives: NativeType, ...takes: NativeType[]) => library.getFunction(name, { return: gives, arguments: takes })
  const [size, init, start] = [
    uv('uv_handle_size', 'uint64', 'int32'),
    uv('uv_poll_init', 'int32', 'pointer', 'pointer', 'int32'),
    uv('uv_poll_start', 'int32', 'pointer', 'int32', 'pointer'),
  ]
  const [closeHandle, ref, unref] = [
    uv('uv_close', 'void', 'pointer', 'pointer'),
    uv('uv_ref', 'void', 'pointer'),
    uv('uv_unref', 'void', 'pointer'),
  ]
  const errnoAt = library.getFunction('__errno_location', { return: 'pointer', arguments: [] })() as unknown as bigint
  return {
    provider: 'node:ffi',
    declare({ name, takes, gives }) {
      const call = library.getFunction(name, { return: types[gives], arguments: takes.map((kind) => types[kind]) })
      const wide = takes.map((kind) => kind !== 'int')
      return (...given) => Number(call(...given.map((value, i) => (wide[i] && typeof value === 'number' ? BigInt(value) : value))))
    },
    errno: () => ffi.getInt32(errnoAt),
    address: (memory) => Number(ffi.getRawPointer(memory)),
    watch(descriptor, ready) {
      const memory = new Uint8Array(Number(size(UV_POLL)) + 64)
      const handle = ffi.getRawPointer(memory)
      const failed = Number(init(ffi.getCurrentEventLoop(), handle, descriptor))
      if (failed < 0) throw Object.assign(new Error(`uv_poll_init failed with ${failed}`), { errno: failed })
      const told = library.registerCallback({ return: 'void', arguments: ['pointer', 'int32', 'int32'] }, ready)
      start(handle, UV_READABLE, told)
      const closed = library.registerCallback({ return: 'void', arguments: ['pointer'] }, () => {
        // libuv is done with the memory only now.
        setImmediate(() => {
          library.unregisterCallback(told)
          library.unregisterCallback(closed)
          void memory
        })
      })
      return {
        ref: () => void ref(handle),
        unref: () => void unref(handle),
        close: () => void closeHandle(handle, closed),
      }
    },
  }
}

/** Ways to call foreign functions, the best first; each throws where the runtime does not have it. @internal */
export const PROVIDERS: readonly (() => Foreign)[] = [throughKoffi, throughNode]

/** Why this runtime or machine cannot, as text; undefined where it can be tried. */
function obstacle(): string | undefined {
  if (process.platform !== 'linux') return `it is for Linux, and this is ${process.platform}`
  if (!SUPPORTED_MACHINES.includes(process.arch)) return `it knows x86-64 and arm64, and this machine is ${process.arch}`
  if (onBun) return 'Bun has no means to watch a descriptor: it ends the process at uv_poll_start'
  // It runs no `exit` then, where the watch would be closed.
  if (!isMainThread) return 'a worker thread that is terminated with a descriptor watched takes the whole process along'
  return undefined
}

/** The first provider that this runtime has; `missing` is given what stands against it, as text. */
export function foreign(missing: (what: string) => Error): Foreign {
  const against = obstacle()
  if (against !== undefined) throw missing(against)
  const reasons = []
  for (const provider of PROVIDERS) {
    try {
      return provider()
    } catch (error) {
      reasons.push((error as Error).message.split('\n')[0])
    }
  }
  throw missing(`it needs the package koffi (npm install koffi) or a Node with node:ffi: ${reasons.join('; ')}`)
}
