/** Strings as Pike has them, one character for each byte, and its formats. */

import type { Bytes } from '../index.js'
import { PikeError } from './pike-errno.js'

const WIDE = /[^\x00-\xff]/

/** Bytes as a string of as many characters, from U+0000 to U+00FF. */
export function fromBytes(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}

/** Whether a string has characters that are no bytes. */
export function isWide(text: string): boolean {
  return WIDE.test(text)
}

/**
 * The bytes of what is written: a string of characters up to U+00FF, or bytes as they are.
 *
 * @throws PikeError for a wider character, or for something else
 */
export function toBytes(data: string | Bytes, where: string): Uint8Array {
  if (typeof data === 'string') {
    if (WIDE.test(data)) throw new PikeError(`${where}: cannot output wide strings.`)
    return Buffer.from(data, 'latin1')
  }
  if (data instanceof Uint8Array) return data
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  if (data instanceof ArrayBuffer) return new Uint8Array(data)
  throw new PikeError(`Bad argument 1 to ${where}. Expected string.`)
}

/** What can be written: bytes, several pieces, or a format when arguments follow. */
export type Writable = string | Bytes | readonly (string | Bytes)[]

/** The bytes of `write(data, ...args)`. */
export function written(data: Writable, args: readonly unknown[], where: string): Uint8Array {
  if (args.length > 0 && typeof data === 'string') return toBytes(sprintf(data, ...args), where)
  if (!Array.isArray(data)) return toBytes(data as string | Bytes, where)
  return Buffer.concat(data.map((piece: string | Bytes) => toBytes(piece, where)))
}

interface Spec {
  readonly left: boolean
  readonly centre: boolean
  readonly zero: boolean
  readonly sign: '' | '+' | ' '
  readonly width: number
  readonly precision: number | undefined
  readonly conversion: string
}

/** Takes the arguments of a format one after the other, by number, or the last one again. */
class Arguments {
  readonly #all: readonly unknown[]
  #next = 0
  #last = -1
  #chosen: number | undefined

  constructor(all: readonly unknown[]) {
    this.#all = all
  }

  /** Arguments count from 1 in messages, after the format. */
  get position(): number {
    return (this.#chosen ?? this.#next) + 1
  }

  take(): unknown {
    const index = this.#chosen ?? this.#next++
    this.#chosen = undefined
    if (index < 0 || index >= this.#all.length) throw new PikeError('sprintf: Too few arguments to sprintf.')
    this.#last = index
    return this.#all[index]
  }

  /** The argument that is taken next is this one, and the others keep their order; without an index, the last one again. */
  choose(index: number = this.#last): void {
    this.#chosen = index
  }
}

/** `%`, flags, width, precision, modifiers of the argument, and the conversion. */
const FORMAT = /%(?:\[(\d+)\]|(<))?([-+ 0|]*)(\*|\d+)?(?:\.(\*|\d+))?([a-zA-Z%{])/y

/**
 * Text by a format: `%s` a string, `%d` `%u` whole numbers, `%x` `%X` `%o` `%b` in other bases, `%c` a character, `%f` `%e` `%g`
 * numbers, `%O` any value as it would stand in a program, `%q` a string in quotes, `%H` a string behind its length, `%%` a percent
 * sign, `%{…%}` its inside for each element of an array. With width and precision (`*` takes them from the arguments), the flags
 * `-` left, `|` centred, `0` zeros in front, `+` and ` ` signs, `%[n]` the argument n, `%<` the same argument again. Pike: `sprintf`.
 *
 * @throws PikeError for a format that is none, and arguments that are too few or of the wrong type
 *
 * ```ts
 * import { sprintf } from 'fairlead/pike'
 *
 * console.log(sprintf('%s:%d %04x', 'localhost', 80, 255)) // localhost:80 00ff
 * ```
 */
export function sprintf(format: string, ...args: readonly unknown[]): string {
  return formatted(format, new Arguments(args))
}

function formatted(format: string, args: Arguments): string {
  let text = ''
  for (let at = 0; at < format.length;) {
    const percent = format.indexOf('%', at)
    if (percent === -1) return text + format.slice(at)
    text += format.slice(at, percent)
    FORMAT.lastIndex = percent
    const match = FORMAT.exec(format)
    if (match === null) throw new PikeError(`sprintf: Error in format string, ${format[percent + 1] ?? 'nothing'} is not a format.`)
    at = FORMAT.lastIndex
    const [, index, again, flags = '', width, precision, conversion = ''] = match
    if (conversion === '%') {
      text += '%'
      continue
    }
    if (conversion === '{') {
      if (index !== undefined) args.choose(Number(index))
      const end = closing(format, at)
      text += repeated(format.slice(at, end), args)
      at = end + 2
      continue
    }
    const number = (value: string | undefined) => (value === '*' ? whole(args) : value === undefined ? undefined : Number(value))
    const wide = number(width) ?? 0
    const exact = number(precision)
    if (index !== undefined) args.choose(Number(index))
    else if (again !== undefined) args.choose()
    text += converted(
      {
        left: flags.includes('-') || wide < 0,
        centre: flags.includes('|'),
        zero: flags.includes('0'),
        sign: flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : '',
        width: Math.abs(wide),
        precision: exact,
        conversion,
      },
      args,
    )
  }
  return text
}

/** Where the `%}` of the `%{` before `from` stands. */
function closing(format: string, from: number): number {
  let depth = 1
  for (const found of format.slice(from).matchAll(/%[%{}]/g)) {
    depth += found[0] === '%{' ? 1 : found[0] === '%}' ? -1 : 0
    if (depth === 0) return from + found.index
  }
  throw new PikeError('sprintf: Missing %} in format string.')
}

/** The inside of `%{…%}`, once for each element; an element that is an array gives several arguments. */
function repeated(inside: string, args: Arguments): string {
  const position = args.position
  const elements = args.take()
  if (!Array.isArray(elements)) throw wrong(position, 'array', elements)
  return elements.map((element: unknown) => formatted(inside, new Arguments(Array.isArray(element) ? element : [element]))).join('')
}

const BASES: Readonly<Record<string, number>> = { d: 10, u: 10, x: 16, X: 16, o: 8, b: 2 }

function converted(spec: Spec, args: Arguments): string {
  const { conversion, precision } = spec
  if (conversion in BASES) return integer(spec, whole(args))
  switch (conversion) {
    case 'c':
      return character(spec, whole(args))
    case 'e':
    case 'E':
    case 'f':
    case 'g':
    case 'G':
      return real(spec, args)
    case 's': {
      const position = args.position
      const value = args.take()
      const text = value instanceof Uint8Array ? fromBytes(value) : value
      if (typeof text !== 'string') throw wrong(position, 'string', value)
      return padded(spec, precision === undefined ? text : text.slice(0, precision))
    }
    case 'q':
      return padded(spec, quoted(String(args.take())))
    case 'H': {
      const text = String(args.take())
      return character(spec, text.length) + text
    }
    case 'O':
      return padded(spec, literal(args.take(), 0))
  }
  throw new PikeError(`sprintf: Error in format string, ${conversion} is not a format.`)
}

function wrong(position: number, expected: string, value: unknown): PikeError {
  return new PikeError(`sprintf: Wrong type for argument ${position + 1}: expected ${expected}, got ${typeName(value)}.`)
}

function typeName(value: unknown): string {
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'float'
  if (Array.isArray(value)) return 'array'
  return typeof value === 'object' ? 'mapping' : typeof value
}

function whole(args: Arguments): number {
  const position = args.position
  const value = args.take()
  if (typeof value === 'bigint') return Number(value)
  if (typeof value === 'boolean') return Number(value)
  if (typeof value !== 'number') throw wrong(position, 'integer', value)
  return Math.trunc(value)
}

/** A character by its number; with a width, so many bytes, the highest first, or the lowest with `-`. */
function character({ width, left }: Spec, value: number): string {
  if (width < 2) return String.fromCodePoint(value)
  const bytes = Array.from({ length: width }, (_, i) => String.fromCharCode(Number((BigInt(value) >> BigInt(8 * i)) & 255n)))
  return (left ? bytes : bytes.reverse()).join('')
}

function integer(spec: Spec, value: number): string {
  const digits = BigInt(Math.abs(value)).toString(BASES[spec.conversion])
  const sign = value < 0 ? '-' : spec.sign
  const text = spec.conversion === 'X' ? digits.toUpperCase() : digits
  return spec.zero && !spec.left ? sign + text.padStart(spec.width - sign.length, '0') : padded(spec, sign + text)
}

/** Digits behind the point, or in all for `%g`, unless the format says how many. */
const DIGITS = 3

function real(spec: Spec, args: Arguments): string {
  const position = args.position
  const value = args.take()
  if (typeof value !== 'number') throw wrong(position, 'float', value)
  const text = realDigits(spec.conversion.toLowerCase(), Math.abs(value), spec.precision ?? DIGITS)
  const sign = value < 0 ? '-' : spec.sign
  const digits = spec.conversion < 'a' ? text.toUpperCase() : text
  return spec.zero && !spec.left ? sign + digits.padStart(spec.width - sign.length, '0') : padded(spec, sign + digits)
}

function realDigits(conversion: string, size: number, digits: number): string {
  const exponential = (count: number) => size.toExponential(count).replace(/e([+-])(\d)$/, 'e$10$2')
  if (conversion === 'f') return size.toFixed(digits)
  if (conversion === 'e') return exponential(digits)
  const count = Math.max(1, digits)
  const exponent = Number(/e(.*)$/.exec(size.toExponential(count - 1))?.[1])
  if (exponent < -4 || exponent >= count) return exponential(count - 1).replace(/\.?0+e/, 'e')
  const text = size.toFixed(count - 1 - exponent)
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text
}

function padded({ left, centre, width }: Spec, text: string): string {
  if (text.length >= width) return text
  if (centre) return text.padStart(text.length + Math.floor((width - text.length) / 2)).padEnd(width)
  return left ? text.padEnd(width) : text.padStart(width)
}

const ESCAPES: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '"': '\\"', '\\': '\\\\' }

function quoted(text: string): string {
  return `"${text.replace(/["\\\x00-\x1f\x7f-\uffff]/g, (c) => ESCAPES[c] ?? `\\${c.charCodeAt(0).toString(8)}`)}"`
}

/** How deep `%O` looks; deeper values are only named. */
const DEEPEST = 8

function literal(value: unknown, depth: number): string {
  const pad = '    '.repeat(depth)
  // A string of several lines stands on several lines.
  if (typeof value === 'string') return quoted(value).replace(/\\n(?!")/g, `\\n"\n${pad}"`)
  if (value === null || value === undefined) return '0'
  if (value instanceof Uint8Array) return literal(fromBytes(value), depth)
  if (typeof value !== 'object') return typeof value === 'function' ? value.name || 'function' : String(Number(value))
  if (depth >= DEEPEST) return '...'
  const block = (open: string, close: string, indent: string, items: string[]) => {
    if (items.length === 0) return `${open} ${close}`
    const count = `/* ${items.length} element${items.length === 1 ? '' : 's'} */`
    return `${open} ${count}\n${items.map((one) => `${pad}${indent}${one}`).join(',\n')}\n${pad}${close}`
  }
  const below = (one: unknown) => literal(one, depth + 1)
  if (Array.isArray(value)) return block('({', '})', '    ', value.map(below))
  const { constructor } = value
  if (constructor !== undefined && constructor !== Object) return `${constructor.name}()`
  const items = Object.entries(value).map(([key, one]) => `${quoted(key)}: ${below(one)}`)
  return block('([', '])', '  ', items)
}
