/** The `http` and `httph` packet types: one line of an HTTP head at a time, as `erlang:decode_packet/3` gives it. */

/** The versions as `{Major, Minor}`. */
export type HttpVersion = readonly [number, number]
/** `T` is `Uint8Array` with the types that end in `_bin`. */
export type HttpUri<T extends string | Uint8Array = string> =
  | '*'
  | readonly ['abs_path', T]
  | readonly ['absoluteURI', 'http' | 'https', T, number | 'undefined', T]
  | readonly ['scheme', T, T]
  | T
/** Methods and field names that are known are atoms, and so text with `_bin`, too. */
export type HttpPacket<T extends string | Uint8Array = string> =
  | readonly ['http_request', string | T, HttpUri<T>, HttpVersion]
  | readonly ['http_response', HttpVersion, number, T]
  | readonly ['http_header', number, string | T, T, T]
  | readonly ['http_error', T]
  | 'http_eoh'

/** Known field names; the number in `http_header` is the place, from 1, and 0 for a name that is not among them. */
const FIELDS: readonly string[] = (
  'Cache-Control Connection Date Pragma Transfer-Encoding Upgrade Via Accept Accept-Charset Accept-Encoding Accept-Language ' +
  'Authorization From Host If-Modified-Since If-Match If-None-Match If-Range If-Unmodified-Since Max-Forwards Proxy-Authorization ' +
  'Range Referer User-Agent Age Location Proxy-Authenticate Public Retry-After Server Vary Warning Www-Authenticate Allow ' +
  'Content-Base Content-Encoding Content-Language Content-Length Content-Location Content-Md5 Content-Range Content-Type Etag ' +
  'Expires Last-Modified Accept-Ranges Set-Cookie Set-Cookie2 X-Forwarded-For Cookie Keep-Alive Proxy-Connection'
).split(' ')
const NUMBERS: ReadonlyMap<string, number> = new Map(FIELDS.map((name, i) => [name.toLowerCase(), i + 1]))

/** A request or status line, with its line end. */
export function httpStart(line: string): HttpPacket {
  const response = /^HTTP\/(\d+)\.(\d+)[ \t]+(\d+)(?:[ \t]+([^\n]*?))?\r?\n$/.exec(line)
  if (response !== null) return ['http_response', [Number(response[1]), Number(response[2])], Number(response[3]), response[4] ?? '']
  const request =
    /^([^\s()<>@,;:\\"/[\]?={}\u0000-\u001f\u007f-\u00ff]+)[ \t]+([^\s]+)(?:[ \t]+HTTP\/(\d+)\.(\d+)[^\n]*|[ \t]*\r?)\n$/.exec(line)
  if (request === null) return ['http_error', line]
  const [, method = '', uri = '', major, minor] = request
  return ['http_request', method, uriOf(uri), major === undefined ? [0, 9] : [Number(major), Number(minor)]]
}

function uriOf(text: string): HttpUri {
  if (text === '*') return '*'
  if (text.startsWith('/') || text.length === 1) return ['abs_path', text]
  const absolute = /^(https?):\/\/(\[[^\]/]*\]|[^/:]*)(?::([^/]*))?(\/.*)?$/i.exec(text)
  if (absolute !== null) {
    const [, scheme = '', host = '', port = '', path = '/'] = absolute
    return ['absoluteURI', scheme.toLowerCase() as 'http' | 'https', host, /^\d+$/.test(port) ? Number(port) : 'undefined', path]
  }
  const at = text.indexOf(':')
  return at >= 0 ? ['scheme', text.slice(0, at), text.slice(at + 1)] : text
}

/** A field line, with what continues it and its line end. */
export function httpField(line: string): HttpPacket {
  if (line === '\r\n' || line === '\n') return 'http_eoh'
  const field = /^([^\s:()<>@,;\\"/[\]?={}\u0000-\u001f\u007f-\u00ff]*):[ \t]*([^]*?)\r?\n$/.exec(line)
  if (field === null) return ['http_error', line]
  const [, raw = '', value = ''] = field
  const number = NUMBERS.get(raw.toLowerCase()) ?? 0
  return ['http_header', number, number > 0 ? (FIELDS[number - 1] as string) : titled(raw), raw, value]
}

/** The longest name that the original writes anew. */
const TITLED = 50

/** As the original writes the names that it does not know: the first letter of each part large. */
function titled(name: string): string {
  if (name.length > TITLED) return name
  let text = ''
  let up = true
  for (const letter of name) {
    text += up ? letter.toUpperCase() : letter.toLowerCase()
    // Of several dashes in a row every second one counts.
    up = !up && letter === '-'
  }
  return text
}

/** Methods that are atoms. */
const METHODS: ReadonlySet<string> = new Set(['OPTIONS', 'GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'TRACE'])

/** A packet of `http_bin` and `httph_bin`: what is no atom is bytes. */
export function httpBytes(packet: HttpPacket): HttpPacket<Uint8Array> {
  if (packet === 'http_eoh') return packet
  switch (packet[0]) {
    case 'http_request':
      return ['http_request', METHODS.has(packet[1]) ? packet[1] : bytesOf(packet[1]), uriBytes(packet[2]), packet[3]]
    case 'http_response':
      return ['http_response', packet[1], packet[2], bytesOf(packet[3])]
    case 'http_header':
      return ['http_header', packet[1], packet[1] > 0 ? packet[2] : bytesOf(packet[2]), bytesOf(packet[3]), bytesOf(packet[4])]
    default:
      return ['http_error', bytesOf(packet[1])]
  }
}

function uriBytes(uri: HttpUri): HttpUri<Uint8Array> {
  if (typeof uri === 'string') return uri === '*' ? '*' : bytesOf(uri)
  switch (uri[0]) {
    case 'abs_path':
      return ['abs_path', bytesOf(uri[1])]
    case 'scheme':
      return ['scheme', bytesOf(uri[1]), bytesOf(uri[2])]
    default:
      return ['absoluteURI', uri[1], bytesOf(uri[2]), uri[3], bytesOf(uri[4])]
  }
}

function bytesOf(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'latin1'))
}
