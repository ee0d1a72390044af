/** Strings as Pike has them, one character for each byte, and its formats. */

import type { Bytes } from '../index.js'
import { PikeError } from './pike-errno.js'

const WIDE = /[^\x00-\xff]/

/** Bytes as a string of as many characters, from U+0000 to U+00FF. */
export function fromBytes(bytes: Uint8Array): string {
  // Without a Buffer of its own for each piece, which costs more than the text.
  return Buffer.prototype.latin1Slice.call(bytes, 0, bytes.length)
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
  throw new PikeError(`Bad argument 1 to ${where.replace('Stdio.File->', '')}. Expected string|array(string).`)
}

/** What can be written: bytes, several pieces, or a format when arguments follow. */
export type Writable = string | Bytes | readonly (string | Bytes)[]

/** The bytes of `write(data, ...args)`. */
export function written(data: Writable, args: readonly unknown[], where: string): Uint8Array {
  if (args.length > 0)
    return toBytes(sprintf(Array.isArray(data) ? data.map(piece).join('') : piece(data as string | Bytes), ...args), where)
  if (!Array.isArray(data)) return toBytes(data as string | Bytes, where)
  return Buffer.concat(data.map((one: string | Bytes) => toBytes(one, where)))
}

/** A piece of a format. */
function piece(data: string | Bytes): string {
  return typeof data === 'string' ? data : fromBytes(toBytes(data, 'write()'))
}

interface Spec {
  readonly left: boolean
  /** What fills the field. */
  readonly pad: string
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
    const chosen = this.#chosen !== undefined
    const index = this.#chosen ?? this.#next++
    this.#chosen = undefined
    if (index < 0) throw new PikeError('sprintf: No last argument.')
    if (index >= this.#all.length && chosen) throw new PikeError(`sprintf: Not enough arguments to [${index}].`)
    if (index >= this.#all.length) throw new PikeError('sprintf: Too few arguments to sprintf.')
    this.#last = index
    return this.#all[index]
  }

  /** The argument that is taken next is this one, and the others keep their order; without an index, the last one again. */
  choose(index: number = this.#last): void {
    this.#chosen = index
  }
}

/** `%`, flags, width, precision, modifiers of the argument, and the conversion. */
const FORMAT = /%(?:\[(\d+)\]|(<))?((?:[-+ 0|^_!@~]|'[^']*')*)(\*|\d+)?(?:\.(\*|\d+))?([a-zA-Z%{])/y

/**
 * Text by a format: `%s` a string, `%d` `%u` whole numbers, `%x` `%X` `%o` `%b` in other bases, `%c` a character, `%f` `%e` `%g`
 * numbers, `%O` any value as it would stand in a program, `%q` a string in quotes, `%H` a string behind its length, `%F` a number in four bytes, `%t` the name of a type,
 * `%n` nothing, `%%` a percent
 * sign, `%{…%}` its inside for each element of an array. With width and precision (`*` takes them from the arguments), the flags
 * `-` left, `|` centred, `0` zeros in front, `'x'` other characters, `~` those of an argument, `+` and ` ` signs, `@` once for each element
 * of an array, `%[n]` the argument n, `%<` the same argument again. Pike: `sprintf`.
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
    if (conversion === '%' || conversion === 'n') {
      if (conversion === '%') text += '%'
      continue
    }
    if (conversion === '{') {
      if (index !== undefined) args.choose(Number(index))
      const end = closing(format, at)
      text += repeated(format.slice(at, end), args)
      at = end + 2
      continue
    }
    const number = (value: string | undefined) => (value === '*' ? Number(whole(args)) : value === undefined ? undefined : Number(value))
    const signs = flags.replace(/'[^']*'/g, '')
    const wide = number(width) ?? 0
    const exact = number(precision)
    if (!(wide >= 0 && wide <= WIDEST)) throw new PikeError(`sprintf: Illegal width ${wide}.`)
    if (exact !== undefined && !(exact >= 0 && exact <= WIDEST)) throw new PikeError(`sprintf: Illegal precision ${exact}.`)
    const pad = signs.includes('~') ? String(args.take()) : (/'([^']+)'/.exec(flags)?.[1] ?? ' ')
    if (index !== undefined) args.choose(Number(index))
    else if (again !== undefined) args.choose()
    const spec: Spec = {
      left: signs.includes('-'),
      pad,
      centre: signs.includes('|'),
      zero: signs.includes('0'),
      sign: signs.includes('+') ? '+' : signs.includes(' ') ? ' ' : '',
      width: wide,
      precision: exact,
      conversion,
    }
    if (!signs.includes('@')) {
      text += converted(spec, args)
      continue
    }
    const position = args.position
    const elements = args.take()
    if (!Array.isArray(elements)) throw wrong(position, 'array', elements)
    for (const element of elements as readonly unknown[]) text += converted(spec, new Arguments([element]))
  }
  return text
}

/** The widest field: more can only be a mistake, or an attack on the memory. */
const WIDEST = 16 * 1024 * 1024

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
      const text = string(args)
      return padded(spec, precision === undefined ? text : text.slice(0, precision))
    }
    case 'q':
      return padded(spec, quoted(string(args)))
    case 'H': {
      const text = string(args)
      const size = Math.max(1, spec.width)
      if (text.length >= 256 ** size) throw new PikeError(`sprintf: Length of string to %${size}H too large.`)
      return character({ ...spec, width: size }, text.length) + text
    }
    case 't':
      return padded(spec, typeName(args.take()))
    case 'F':
      return binary(spec, args)
    case 'O':
      return padded(spec, literal(args.take(), 0))
  }
  throw new PikeError(`sprintf: Error in format string, ${conversion} is not a format.`)
}

function string(args: Arguments): string {
  const position = args.position
  const value = args.take()
  const text = value instanceof Uint8Array ? fromBytes(value) : value
  if (typeof text !== 'string') throw wrong(position, 'string', value)
  return text
}

function wrong(position: number, expected: string, value: unknown): PikeError {
  return new PikeError(`sprintf: Wrong type for argument ${position + 1}: expected ${expected}, got ${typeName(value)}.`)
}

function typeName(value: unknown): string {
  if (typeof value === 'number') return Number.isInteger(value) ? 'int' : 'float'
  if (Array.isArray(value)) return 'array'
  return typeof value === 'object' ? 'mapping' : typeof value
}

function whole(args: Arguments): number | bigint {
  const position = args.position
  const value = args.take()
  if (typeof value === 'bigint') return value
  if (typeof value === 'boolean') return Number(value)
  if (typeof value !== 'number' || !Number.isInteger(value)) throw wrong(position, 'integer', value)
  return value
}

/** A character by its number; with a width, so many bytes, the highest first, or the lowest with `-`. */
function character({ width, left }: Spec, value: number | bigint): string {
  if (width === 0) {
    if (!(value >= 0 && value <= 0x10ffff)) throw new PikeError(`sprintf: ${value} is no character.`)
    return String.fromCodePoint(Number(value))
  }
  const bytes = Array.from({ length: width }, (_, i) => String.fromCharCode(Number((BigInt(value) >> BigInt(8 * i)) & 255n)))
  return (left ? bytes : bytes.reverse()).join('')
}

function integer(spec: Spec, given: number | bigint): string {
  const value = spec.conversion === 'u' && given < 0 ? BigInt.asUintN(64, BigInt(given)) : BigInt(given)
  const digits = (value < 0n ? -value : value).toString(BASES[spec.conversion])
  const sign = value < 0n ? '-' : spec.sign
  const text = spec.conversion === 'X' ? digits.toUpperCase() : digits
  return spec.zero ? sign + text.padStart(spec.width - sign.length, '0') : padded(spec, sign + text)
}

/** A number as IEEE 754 has it, the highest byte first: four bytes, or eight. */
function binary({ width }: Spec, args: Arguments): string {
  const position = args.position
  const value = args.take()
  if (typeof value !== 'number') throw wrong(position, 'float', value)
  const bytes = Buffer.alloc(width === 8 ? 8 : 4)
  if (width === 8) bytes.writeDoubleBE(value)
  else bytes.writeFloatBE(value)
  return fromBytes(bytes)
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
  return spec.zero ? sign + digits.padStart(spec.width - sign.length, '0') : padded(spec, sign + digits)
}

function realDigits(conversion: string, size: number, digits: number): string {
  if (!Number.isFinite(size)) return String(size).slice(0, 3).toLowerCase()
  const exponential = (count: number) => size.toExponential(Math.min(count, 100)).replace(/e([+-])(\d)$/, 'e$10$2')
  if (conversion === 'f') return fixed(size, digits)
  if (conversion === 'e') return exponential(digits)
  const count = Math.max(1, digits)
  const exponent = Number(/e(.*)$/.exec(size.toExponential(count - 1))?.[1])
  if (exponent < -4 || exponent >= count) return exponential(count - 1).replace(/\.?0+e/, 'e')
  const text = size.toFixed(count - 1 - exponent)
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text
}

/** As C: all digits of large numbers, and halves to the even neighbour. */
function fixed(size: number, digits: number): string {
  if (size >= 1e21) return `${BigInt(size)}${digits > 0 ? `.${'0'.repeat(digits)}` : ''}`
  const count = Math.min(digits, 100)
  const text = size.toFixed(count)
  const exact = size.toFixed(Math.min(100, count + 60))
  const isHalf = count < 40 && /^50*$/.test(exact.slice(exact.indexOf('.') + 1 + count))
  if (!isHalf || /[02468]$/.test(text)) return digits > count ? text + '0'.repeat(digits - count) : text
  // toFixed went up; the even neighbour is below.
  return exact.slice(0, exact.indexOf('.') + (count === 0 ? 0 : 1 + count))
}

function padded({ left, centre, width, pad }: Spec, text: string): string {
  if (text.length >= width) return text
  if (centre) return text.padStart(text.length + Math.floor((width - text.length) / 2), pad).padEnd(width, pad)
  return left ? text.padEnd(width, pad) : text.padStart(width, pad)
}

const ESCAPES: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '"': '\\"', '\\': '\\\\' }

function quoted(text: string): string {
  const escaped = (c: string, at: number) => {
    const code = c.charCodeAt(0)
    const isLong = code > 0xff || /\d/.test(text.charAt(at + 1))
    return ESCAPES[c] ?? (isLong ? `\\u${code.toString(16).padStart(4, '0')}` : `\\${code.toString(8)}`)
  }
  return `"${text.replace(/["\\\x00-\x1f\x7f-\uffff]/g, escaped)}"`
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
