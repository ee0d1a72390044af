/**
 * Erlang terms as they are written here: an atom is a string, a tuple an array, a binary a `Uint8Array`, and a string, which
 * in Erlang is a list of bytes, a string with one character per byte.
 */

/** Milliseconds, a whole number that is not negative. */
export type Timeout = number | 'infinity'
export type Ok<T> = readonly ['ok', T]
export type Failure<R> = readonly ['error', R]

export type Ip4Tuple = readonly [number, number, number, number]
export type Ip6Tuple = readonly [number, number, number, number, number, number, number, number]
export type IpTuple = Ip4Tuple | Ip6Tuple
/** A host name, the text of an IP address, or an address as a tuple. */
export type HostAddress = string | IpTuple
/** A UNIX-domain socket by its path. */
export type LocalAddress = readonly ['local', string]

/** Bytes, text of one byte per character, or lists of these, nested at will. */
export type IoData = string | Uint8Array | IoList
export type IoList = readonly (number | string | Uint8Array | IoList)[]

/** Lists nested deeper than this are taken for circular. */
const DEEPEST = 10_000

/**
 * The bytes of `data` behind `room` bytes that are yet to be written, or undefined for what is no `IoData`. Without `room` a `Uint8Array` is
 * given back as it is.
 */
export function ioBytes(data: unknown, room: number = 0): Uint8Array | undefined {
  if (data instanceof Uint8Array) return room === 0 ? data : joined([data], room, data.length)
  if (typeof data === 'string') return isByteText(data) ? joined([data], room, data.length) : undefined
  if (!Array.isArray(data)) return undefined
  const pieces: (Uint8Array | string | number)[] = []
  let length = 0
  const open: { list: readonly unknown[]; at: number }[] = [{ list: data, at: 0 }]
  for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
    if (top.at === top.list.length) {
      open.pop()
      continue
    }
    const item = top.list[top.at++]
    if (Array.isArray(item)) {
      if (open.length === DEEPEST) return undefined
      open.push({ list: item, at: 0 })
    } else if (item instanceof Uint8Array || (typeof item === 'string' && isByteText(item))) {
      pieces.push(item)
      length += item.length
    } else if (isByte(item)) {
      pieces.push(item)
      length++
    } else return undefined
  }
  return joined(pieces, room, length)
}

function joined(pieces: readonly (Uint8Array | string | number)[], room: number, length: number): Uint8Array {
  // From the pool where it is small: what is sent now does not live long.
  const all: Uint8Array = Buffer.allocUnsafe(room + length)
  let at = room
  for (const piece of pieces) {
    if (typeof piece === 'number') all[at++] = piece
    else if (typeof piece === 'string') for (let i = 0; i < piece.length; i++) all[at++] = piece.charCodeAt(i)
    else {
      all.set(piece, at)
      at += piece.length
    }
  }
  return all
}

function isByteText(text: string): boolean {
  return !/[^\u0000-\u00ff]/.test(text)
}

export function isByte(value: unknown): value is number {
  return isWhole(value, 0, 255)
}

export function isWhole(value: unknown, least: number, most: number = Number.MAX_SAFE_INTEGER): value is number {
  return Number.isInteger(value) && (value as number) >= least && (value as number) <= most
}

export function isTimeout(value: unknown): value is Timeout {
  return value === 'infinity' || isWhole(value, 0)
}

/** Bytes as Erlang shows them in list mode: one character each. */
export function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}

export function isIpTuple(value: unknown): value is IpTuple {
  if (!Array.isArray(value)) return false
  if (value.length === 4) return value.every(isByte)
  return value.length === 8 && value.every((word) => isWhole(word, 0, 65_535))
}

/** The text of an address: `127.0.0.1`, `::1`. */
export function ipTextOf(tuple: IpTuple): string {
  if (tuple.length === 4) return tuple.join('.')
  // IPv4 in the form of IPv6 (RFC 4291, section 2.5.5.2).
  if (tuple.slice(0, 6).join() === '0,0,0,0,0,65535')
    return `::ffff:${[tuple[6] >> 8, tuple[6] & 255, tuple[7] >> 8, tuple[7] & 255].join('.')}`
  const text = tuple.map((word) => word.toString(16)).join(':')
  return new URL(`http://[${text}]/`).hostname.slice(1, -1)
}

/** The tuple of the text of an address, or undefined; old spellings such as `127.1` are none. */
export function ipTupleOf(text: string): IpTuple | undefined {
  if (/^\d{1,3}(\.\d{1,3}){3}$/.test(text)) {
    const bytes = text.split('.').map(Number)
    return isIpTuple(bytes) ? bytes : undefined
  }
  const bare = text.replace(/%.*$/, '')
  if (!/^[0-9a-f:.]*:[0-9a-f:.]*$/i.test(bare) || !URL.canParse(`http://[${bare}]/`)) return undefined
  const [head = '', tail] = new URL(`http://[${bare}]/`).hostname.slice(1, -1).split('::')
  const words = (part: string) => (part === '' ? [] : part.split(':').map((word) => Number.parseInt(word, 16)))
  const [before, after] = [words(head), words(tail ?? '')]
  const tuple = [...before, ...Array.from({ length: 8 - before.length - after.length }, () => 0), ...after]
  return isIpTuple(tuple) ? tuple : undefined
}

/** One to four numbers, decimal, hexadecimal or octal, of which the last stands for all bytes that are left (`inet_aton`). */
export function looseIp4(text: string): Ip4Tuple | undefined {
  const parts = text.split('.')
  if (parts.length > 4 || !parts.every((part) => /^(?:0x[0-9a-f]{1,8}|0[0-7]{0,11}|[1-9]\d{0,9})$/i.test(part))) return undefined
  const numbers = parts.map((part) => (/^0\d/.test(part) ? Number.parseInt(part, 8) : Number(part)))
  const last = numbers.pop() as number
  if (numbers.some((number) => number > 255) || last >= 256 ** (4 - numbers.length)) return undefined
  for (let rest = 3 - numbers.length; rest >= 0; rest--) numbers.push(Math.floor(last / 256 ** rest) % 256)
  return numbers as unknown as Ip4Tuple
}

/** In a pattern: anything at all. */
export const _: unique symbol = Symbol('_')

/** Whether `value` has the shape of `pattern`: `_` is anything, a function a test, an array a tuple, everything else itself. */
export function matches(pattern: unknown, value: unknown): boolean {
  if (pattern === _) return true
  if (typeof pattern === 'function') return pattern === value || Boolean((pattern as (value: unknown) => unknown)(value))
  if (Array.isArray(pattern)) {
    if (!Array.isArray(value) || pattern.length !== value.length) return false
    for (let i = 0; i < pattern.length; i++) if (!matches(pattern[i], value[i])) return false
    return true
  }
  if (pattern instanceof Uint8Array && value instanceof Uint8Array)
    return pattern.length === value.length && pattern.every((byte, i) => byte === value[i])
  return Object.is(pattern, value)
}
