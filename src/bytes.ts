/** Bytes in whatever container callers have them: views of them, copies, and their text. */

import { invalidType } from './errors.js'
import type { Bytes } from './stream.js'

/** `data` as a view, without copying; a string as UTF-8. Throws a `TypeError` that names it for anything else. */
export function bytesOf(data: Bytes | string, name: string): Uint8Array {
  if (data instanceof Uint8Array) return data
  if (typeof data === 'string') return Buffer.from(data, 'utf8')
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  if (data instanceof ArrayBuffer) return new Uint8Array(data)
  throw invalidType(name, 'a string, an ArrayBuffer, a typed array or a DataView', data)
}

/** As `bytesOf`, of one piece or several; empty ones are left out. */
export function piecesOf(data: Bytes | string | readonly Bytes[]): Uint8Array[] {
  if (!Array.isArray(data)) {
    const view = bytesOf(data as Bytes | string, 'data')
    return view.length > 0 ? [view] : []
  }
  const pieces: Uint8Array[] = []
  for (const [i, piece] of data.entries()) {
    const view = bytesOf(piece as Bytes, `data[${i}]`)
    if (view.length > 0) pieces.push(view)
  }
  return pieces
}

/** Memory of its own; the `slice` of a `Buffer` would share it. */
export function copyOf(view: Uint8Array): Uint8Array {
  const copy = new Uint8Array(view.length)
  copy.set(view)
  return copy
}

/** The same memory with `Buffer`'s methods. */
export function bufferOf(view: Uint8Array): Buffer {
  return Buffer.from(view.buffer, view.byteOffset, view.byteLength)
}

const STRICT: InstanceType<typeof TextDecoder> = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** The text of well-formed UTF-8; a `TypeError` for anything else. */
export function strictText(view: Uint8Array): string {
  return STRICT.decode(view)
}
