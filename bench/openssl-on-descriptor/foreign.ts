/** The functions of OpenSSL that Node's binary exports, and those of libc, by `koffi`. Handles are plain numbers: addresses below 2^53. */

import { createRequire } from 'node:module'

/** What is used of koffi 3. */
interface Library {
  func(name: string, result: string, args: readonly string[]): (...args: never[]) => unknown
}

export interface PollHandle {
  close(): void
}

interface Koffi {
  load(path: string | null, o?: { deep: boolean }): Library
  address(value: unknown): bigint
  errno(value?: number): number
  proto(definition: string): object
  register(fn: (...args: never[]) => unknown, type: unknown): bigint
  unregister(callback: bigint): void
  pointer(type: object): object
  view(address: bigint | number, length: number): ArrayBuffer
  decode: { string(address: bigint | number): string }
  readonly node: { poll(fd: number, o: { readable: boolean }, fn: () => void): PollHandle }
}

export const koffi: Koffi = createRequire(import.meta.url)('koffi') as Koffi

/** Result and arguments: i int, l long and handles, b address of bytes, s text, v nothing. */
const TYPES: Record<string, string> = { i: 'int', l: 'int64_t', b: 'uint8_t *', s: 'const char *', v: 'void' }

function bind<const T extends Record<string, string>>(library: Library, table: T): { [K in keyof T]: (...args: unknown[]) => number } {
  const bound: Record<string, unknown> = {}
  for (const [name, signature] of Object.entries(table)) {
    const [result, ...args] = Array.from(signature, (letter) => TYPES[letter] as string)
    bound[name] = library.func(name, result as string, args)
  }
  return bound as { [K in keyof T]: (...args: unknown[]) => number }
}

/** A file to take OpenSSL from instead of the program itself, such as `libssl.so.3`. */
const path = process.env['OPENSSL_LIBRARY']
// In Node such a file would otherwise call into the OpenSSL of the program, whatever the versions of the two.
const load = (file: string) => koffi.load(file, { deep: true })
const own = path === undefined ? koffi.load(null) : load(path)

export const ssl = bind(own, {
  TLS_method: 'l',
  SSL_CTX_new: 'll',
  SSL_CTX_free: 'vl',
  SSL_CTX_ctrl: 'llill',
  SSL_CTX_set_options: 'lll',
  SSL_CTX_set_verify: 'vlil',
  SSL_CTX_set_verify_depth: 'vli',
  SSL_CTX_get0_param: 'll',
  SSL_CTX_get_cert_store: 'll',
  SSL_CTX_use_certificate: 'ill',
  SSL_CTX_use_PrivateKey: 'ill',
  SSL_CTX_check_private_key: 'il',
  SSL_CTX_set_session_id_context: 'ilbi',
  SSL_CTX_set_alpn_protos: 'ilbi',
  SSL_CTX_set_alpn_select_cb: 'vlll',
  SSL_CTX_callback_ctrl: 'llil',
  SSL_CTX_set_client_hello_cb: 'vlll',
  SSL_CTX_set_keylog_callback: 'vll',
  SSL_CTX_sess_set_new_cb: 'vll',
  SSL_new: 'll',
  SSL_free: 'vl',
  SSL_set_fd: 'ili',
  SSL_ctrl: 'llils',
  SSL_set_connect_state: 'vl',
  SSL_set_accept_state: 'vl',
  SSL_do_handshake: 'il',
  SSL_read: 'illi',
  SSL_write: 'ilbi',
  SSL_has_pending: 'il',
  SSL_shutdown: 'il',
  SSL_get_shutdown: 'il',
  SSL_get_error: 'ili',
  SSL_set_SSL_CTX: 'lll',
  SSL_get0_param: 'll',
  SSL_set1_host: 'ils',
  SSL_set_verify: 'vlil',
  SSL_get_verify_result: 'll',
  SSL_get_peer_cert_chain: 'll',
  SSL_get0_verified_chain: 'll',
  SSL_get0_alpn_selected: 'vlbb',
  SSL_get_version: 'sl',
  SSL_get_servername: 'sli',
  SSL_session_reused: 'il',
  SSL_set_session: 'ill',
  SSL_get_wbio: 'll',
  SSL_SESSION_free: 'vl',
})

export const crypto = bind(path === undefined ? own : load(path.replace('libssl', 'libcrypto')), {
  OpenSSL_version: 'si',
  ERR_clear_error: 'v',
  ERR_get_error: 'l',
  ERR_peek_error: 'l',
  BIO_ctrl: 'llill',
  ERR_error_string_n: 'vlbl',
  BIO_new_mem_buf: 'lbi',
  BIO_free: 'il',
  PEM_read_bio_X509: 'lllll',
  PEM_read_bio_X509_CRL: 'lllll',
  PEM_read_bio_PrivateKey: 'lllll',
  X509_free: 'vl',
  X509_CRL_free: 'vl',
  EVP_PKEY_free: 'vl',
  X509_STORE_add_cert: 'ill',
  X509_STORE_add_crl: 'ill',
  X509_VERIFY_PARAM_set_flags: 'ill',
  X509_VERIFY_PARAM_set_hostflags: 'vli',
  X509_VERIFY_PARAM_set1_ip_asc: 'ils',
  X509_verify_cert_error_string: 'sl',
  i2d_X509: 'ilb',
  OPENSSL_sk_num: 'il',
  OPENSSL_sk_value: 'lli',
  EVP_default_properties_is_fips_enabled: 'il',
})

export const libc = bind(koffi.load('libc.so.6'), {
  socket: 'iiii',
  bind: 'iibi',
  listen: 'iii',
  accept4: 'iilli',
  connect: 'iibi',
  getsockname: 'iibb',
  setsockopt: 'iiiibi',
  shutdown: 'iii',
  close: 'ii',
  poll: 'ibli',
  recv: 'libli',
  send: 'libli',
  epoll_create1: 'ii',
  epoll_ctl: 'iiiib',
  epoll_wait: 'iibii',
})

/** A text from the library: `const char *` is read at once, before anything can free it. */
export function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

/** Number of an address taken of bytes, which have to be held by the caller for as long as it is used. */
export function addressOf(bytes: Uint8Array): number {
  return Number(koffi.address(bytes))
}

/** A copy of bytes that the library owns. */
export function copyOf(address: number, length: number): Buffer {
  return Buffer.from(new Uint8Array(koffi.view(BigInt(address), length)))
}

/** A native function that calls `fn`; for the life of the process, as nothing else would be safe while an `SSL_CTX` refers to it. */
export function callback(definition: string, fn: (...args: never[]) => unknown): number {
  return Number(koffi.register(fn, koffi.pointer(koffi.proto(definition))))
}
