/** The server name of a ClientHello that is still in the socket (RFC 8446 section 4.1.2, RFC 6066 section 3): no callback is needed to know it. */

/** A name, `null` for none, `undefined` while more has to come; garbage has none, as OpenSSL will find out by itself. */
export function serverNameOf(bytes: Buffer): string | null | undefined {
  const message = handshakeMessage(bytes)
  if (message === undefined || message === null) return message
  try {
    // version, random
    let at = 4 + 2 + 32
    at += 1 + message.readUInt8(at)
    at += 2 + message.readUInt16BE(at)
    at += 1 + message.readUInt8(at)
    const end = at + 2 + message.readUInt16BE(at)
    for (at += 2; at < end; at += 4 + message.readUInt16BE(at + 2)) {
      if (message.readUInt16BE(at) !== 0) continue
      // length of the list, type host_name, length of the name
      const length = message.readUInt16BE(at + 7)
      return message.readUInt8(at + 6) === 0 ? message.toString('latin1', at + 9, at + 9 + length) : null
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
  }
  return null
}

/** The first handshake message put together from its records. */
function handshakeMessage(bytes: Buffer): Buffer | null | undefined {
  const parts: Buffer[] = []
  let have = 0
  for (let at = 0; at + 5 <= bytes.length;) {
    if (bytes[at] !== 22) return null
    const length = bytes.readUInt16BE(at + 3)
    const part = bytes.subarray(at + 5, at + 5 + length)
    parts.push(part)
    have += part.length
    at += 5 + length
    const message = Buffer.concat(parts)
    if (have >= 4 && have >= 4 + message.readUIntBE(1, 3)) return message
  }
  return undefined
}
