/** Strings of bytes as strings of JavaScript, and host arguments. */

const ESCAPED = /[\udc80-\udcff]/
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * The bytes that `write` sends for a string: UTF-8, and for each of U+DC80 to U+DCFF that is half of no pair the one byte it
 * stands for (see {@link fromBytes}).
 */
export function toBytes(text: string): Uint8Array {
  return new Uint8Array(encoded(text))
}

/** As {@link toBytes}, in memory that may be shared with others: for sending. */
export function encoded(text: string): Uint8Array {
  // A whole pair matches too; it costs the slow way and nothing else.
  return ESCAPED.test(text) ? unescaped(text) : Buffer.from(text)
}

/** Byte by byte into memory of its own: as `Buffer.from`, but for the escapes. */
function unescaped(text: string): Uint8Array {
  // Three bytes for a unit at most; a pair has four.
  const bytes = new Uint8Array(text.length * 3)
  let length = 0
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at)
    if (unit < 0x80) bytes[length++] = unit
    else if (unit >= 0xdc80 && unit <= 0xdcff) bytes[length++] = unit - 0xdc00
    else {
      const point = text.codePointAt(at) as number
      if (point > 0xffff) at++
      length += writeCharacter(bytes, length, point)
    }
  }
  return bytes.subarray(0, length)
}

/** UTF-8 of a character from U+0080 on, and of U+FFFD for half a pair; its length. */
function writeCharacter(bytes: Uint8Array, at: number, point: number): number {
  const character = point >= 0xd800 && point <= 0xdfff ? 0xfffd : point
  const length = character < 0x800 ? 2 : character < 0x10000 ? 3 : 4
  let rest = character
  for (let i = length - 1; i > 0; i--) {
    bytes[at + i] = 0x80 | (rest & 0x3f)
    rest >>>= 6
  }
  bytes[at] = ((0xf00 >> length) & 0xff) | rest
  return length
}

/**
 * The string `recv` gives for bytes: UTF-8, where every byte that is not part of it becomes one of U+DC80 to U+DCFF, which
 * {@link toBytes} turns back (as Python's `surrogateescape` does, PEP 383). So any bytes survive, also a character cut in two.
 *
 * ```ts
 * import { fromBytes, toBytes } from 'fairlead/dictu'
 *
 * const cut = fromBytes(Uint8Array.of(0x68, 0xc3))
 * console.log(toBytes(cut + fromBytes(Uint8Array.of(0xa9)))) // the three bytes of 'hé'
 * ```
 */
export function fromBytes(bytes: Uint8Array): string {
  try {
    return UTF8.decode(bytes)
  } catch {
    return escaped(bytes)
  }
}

/** Units that `String.fromCharCode` is given at once: engines limit the number of arguments. */
const UNITS_AT_ONCE = 8192

function escaped(bytes: Uint8Array): string {
  const units = new Uint16Array(bytes.length)
  let count = 0
  for (let at = 0; at < bytes.length;) {
    const first = bytes[at] as number
    const length = sequence(bytes, at)
    if (length === 0) units[count++] = 0xdc00 + first
    else if (length === 1) units[count++] = first
    else {
      let point = first & (0xff >> (length + 1))
      for (let i = 1; i < length; i++) point = (point << 6) | ((bytes[at + i] as number) & 0x3f)
      if (point > 0xffff) {
        units[count++] = 0xd7c0 + (point >> 10)
        units[count++] = 0xdc00 + (point & 0x3ff)
      } else units[count++] = point
    }
    at += Math.max(1, length)
  }
  let text = ''
  for (let at = 0; at < count; at += UNITS_AT_ONCE) {
    const part = units.subarray(at, Math.min(count, at + UNITS_AT_ONCE))
    // Spread, they would go through an iterator: ten times the time.
    text += Reflect.apply(String.fromCharCode, undefined, part)
  }
  return text
}

/** Bytes of the well-formed character at `at`; 0 if there is none (Unicode, table 3-7). */
function sequence(bytes: Uint8Array, at: number): number {
  const first = bytes[at] as number
  if (first < 0x80) return 1
  const length = first >= 0xc2 && first <= 0xdf ? 2 : (first & 0xf0) === 0xe0 ? 3 : first >= 0xf0 && first <= 0xf4 ? 4 : 0
  if (length === 0 || at + length > bytes.length) return 0
  const second = bytes[at + 1] as number
  const least = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80
  const most = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf
  if (second < least || second > most) return 0
  for (let i = at + 2; i < at + length; i++) if (((bytes[i] as number) & 0xc0) !== 0x80) return 0
  return length
}

/**
 * An IPv4 address in any spelling of `inet_aton(3)`: one to four numbers, decimal, octal behind `0` or hexadecimal behind
 * `0x`, the last of which fills what is left. Undefined for all else: names too, there is no look-up.
 */
export function ipv4Of(host: string): string | undefined {
  const parts = host.split('.')
  if (parts.length > 4) return undefined
  const numbers = parts.map((part) => {
    if (/^0[0-7]*$/.test(part)) return Number.parseInt(part, 8)
    return /^(?:[1-9]\d*|0[xX][\da-fA-F]+)$/.test(part) ? Number(part) : Number.NaN
  })
  const last = numbers.pop() as number
  const room = 256 ** (4 - numbers.length)
  if (!(last < room) || !numbers.every((number) => number < 256)) return undefined
  const value = numbers.reduce((sum, number, i) => sum + number * 256 ** (3 - i), last)
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255].join('.')
}
