/** The `http` and `httph` packet types: one line of an HTTP head at a time, as `erlang:decode_packet/3` gives it. */

/** The versions as `{Major, Minor}`. */
export type HttpVersion = readonly [number, number]
export type HttpUri =
  | '*'
  | readonly ['abs_path', string]
  | readonly ['absoluteURI', 'http' | 'https', string, number | 'undefined', string]
  | readonly ['scheme', string, string]
export type HttpPacket =
  | readonly ['http_request', string, HttpUri, HttpVersion]
  | readonly ['http_response', HttpVersion, number, string]
  | readonly ['http_header', number, string, string, string]
  | readonly ['http_error', string]
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
  const response = /^HTTP\/(\d+)\.(\d+)[ \t]+(\d+)(?:[ \t]+([^\r\n]*))?\r?\n$/.exec(line)
  if (response !== null) return ['http_response', [Number(response[1]), Number(response[2])], Number(response[3]), response[4] ?? '']
  const request = /^([^\s()<>@,;:\\"/[\]?={}]+)[ \t]+([^\s]+)(?:[ \t]+HTTP\/(\d+)\.(\d+))?[ \t]*\r?\n$/.exec(line)
  if (request === null) return ['http_error', line]
  const [, method = '', uri = '', major, minor] = request
  return ['http_request', method, uriOf(uri), major === undefined ? [0, 9] : [Number(major), Number(minor)]]
}

function uriOf(text: string): HttpUri {
  if (text === '*') return '*'
  const absolute = /^(https?):\/\/([^/:]*)(?::(\d*))?(\/.*)?$/i.exec(text)
  if (absolute !== null) {
    const [, scheme = '', host = '', port = '', path = '/'] = absolute
    return ['absoluteURI', scheme.toLowerCase() as 'http' | 'https', host, port === '' ? 'undefined' : Number(port), path]
  }
  const at = text.indexOf(':')
  return at > 0 && !text.startsWith('/') ? ['scheme', text.slice(0, at), text.slice(at + 1)] : ['abs_path', text]
}

/** A field line, with what continues it and its line end. */
export function httpField(line: string): HttpPacket {
  if (line === '\r\n' || line === '\n') return 'http_eoh'
  const field = /^([^\s:()<>@,;\\"/[\]?={}\u0000-\u001f\u007f]*):[ \t]*([^]*?)\r?\n$/.exec(line)
  if (field === null) return ['http_error', line]
  const [, raw = '', value = ''] = field
  const number = NUMBERS.get(raw.toLowerCase()) ?? 0
  return ['http_header', number, number > 0 ? (FIELDS[number - 1] as string) : titled(raw), raw, value]
}

/** As the original writes the names that it does not know: the first letter of each part large. */
function titled(name: string): string {
  return name.toLowerCase().replace(/(^|-)([a-z])/g, (_, dash: string, letter: string) => dash + letter.toUpperCase())
}
