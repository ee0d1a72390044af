/** What goes wrong if one lets it. What may end the process is tried in one of its own: `node answers-hazards.js CASE`. */

import { spawnSync } from 'node:child_process'
import * as nodeCrypto from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { developmentAuthority } from 'fairlead/testing'
import { Context, Engine, SLAB } from './engine.js'
import { callback, crypto, koffi, ssl } from './foreign.js'
import { descriptors, type Ends, shake } from './pairs.js'
import { accept, close, connect, listener, ready, receive } from './sockets.js'
import { say, title } from './table.js'

const HOST = 'server.example'
/** SSL_OP_ENABLE_KTLS, BIO_CTRL_GET_KTLS_SEND */
const KTLS = 8
const GET_KTLS_SEND = 73
const file = fileURLToPath(import.meta.url)

async function world(): Promise<{ server: Context; client: Context; pem: { cert: string; key: string } }> {
  const authority = await developmentAuthority()
  const pem = await authority.issue({ names: [HOST] })
  return { server: new Context(pem), client: new Context({ ca: authority.cert }), pem }
}

/** A handshake with a context whose server name callback does `what`, in a process of its own. */
async function inCallback(what: (ends: { server: () => Engine }) => void): Promise<string> {
  const { client, pem } = await world()
  const ends: { server?: Engine } = {}
  const context = new Context({
    ...pem,
    sni: () => {
      what({ server: () => ends.server as Engine })
      return undefined
    },
  })
  const [clientFd, serverFd] = descriptors()
  const one = new Engine(client, clientFd, 'client', { serverName: HOST })
  ends.server = new Engine(context, serverFd, 'server')
  one.handshake()
  ready(serverFd)
  return ends.server.handshake()
}

const CASES: Record<string, () => Promise<string> | string> = {
  'process.exit in a callback': () => inCallback(() => process.exit(0)),
  'SSL_free in a callback': () => inCallback(({ server }) => server().free()),
  /** Without a guard: what koffi makes of an exception. */
  'an exception that leaves a callback': () => {
    const compare = callback('int Compare(int64_t a, int64_t b)', () => {
      throw new Error('of the callback')
    })
    const qsort = koffi.load('libc.so.6').func('qsort', 'void', ['uint8_t *', 'size_t', 'size_t', 'int64_t']) as (
      ...args: unknown[]
    ) => void
    try {
      qsort(Buffer.from([2, 1]), 2, 1, compare)
      return 'is lost'
    } catch (error) {
      return `comes out of the call: ${(error as Error).message}`
    }
  },
  'a worker that ends with connections open': async () => {
    const source = `import(${JSON.stringify(import.meta.url)}).then((m) => m.inWorker())`
    const worker = new Worker(source, { eval: true })
    const message = await new Promise((resolve, reject) => worker.on('message', resolve).on('error', reject))
    return `${String(message)}, ended with ${await worker.terminate()}`
  },
}

/** A handshake within a worker; its connections are left open. */
export async function inWorker(): Promise<void> {
  const { parentPort } = await import('node:worker_threads')
  const { server, client } = await world()
  const ends = shake(server, client, { serverName: HOST })
  parentPort?.postMessage(ends.clientError?.message ?? ends.client.version)
  await new Promise((resolve) => parentPort?.on('message', resolve))
}

function inChild(name: string): string {
  const { stdout, status, signal } = spawnSync(process.execPath, [...process.execArgv, file, name], { encoding: 'utf8', timeout: 20_000 })
  return `${stdout.trim()} (${signal ?? status})`
}

function errorQueue(ends: Ends): void {
  title('The queue of errors of the thread')
  const leaves = (fn: () => unknown) => {
    crypto.ERR_clear_error()
    try {
      fn()
    } catch {
      // The failure is what was wanted.
    }
    return crypto.ERR_peek_error() !== 0
  }
  const failing: Record<string, () => unknown> = {
    X509Certificate: () => new nodeCrypto.X509Certificate('nothing'),
    createPrivateKey: () => nodeCrypto.createPrivateKey('nothing'),
    createHash: () => nodeCrypto.createHash('nothing'),
    createCipheriv: () => nodeCrypto.createCipheriv('nothing', '', ''),
    verify: () => nodeCrypto.verify('nothing', SLAB, 'nothing', SLAB),
  }
  const left = Object.keys(failing).filter((name) => leaves(failing[name] as () => unknown))
  say('failed calls of node:crypto that leave errors behind', left.join(' ') || 'none')
  const asked = () => {
    const result = ssl.SSL_read(ends.client.handle, 0, 0)
    return String(ssl.SSL_get_error(ends.client.handle, result))
  }
  crypto.ERR_clear_error()
  const nothing = Buffer.from('nothing')
  const leave = () => void crypto.PEM_read_bio_X509(crypto.BIO_new_mem_buf(nothing, 7), 0, 0, 0)
  say('SSL_get_error where there is nothing to read', asked(), '2')
  leave()
  say('the same with an error of something else in the queue (SSL_ERROR_SSL)', asked(), '1')
  crypto.ERR_clear_error()
  const message = () => {
    try {
      nodeCrypto.createPrivateKey('nothing')
    } catch (error) {
      return (error as Error).message
    }
    return 'none'
  }
  const clean = message()
  leave()
  say('what node:crypto says while an error of ours is in the queue', message() === clean ? 'the same' : `${message()} for ${clean}`)
  crypto.ERR_clear_error()
}

/** OpenSSL has encrypted what it was given first, and sends that, whatever it is given next. */
function otherBytes(ends: Ends): string {
  const [first, second] = [Buffer.alloc(16_384, 97), Buffer.alloc(16_384, 98)]
  let sent = 0
  for (let count = 1; count > 0; sent += Math.max(0, count)) count = ssl.SSL_write(ends.client.handle, first, first.length)
  let [as, bs, retried] = [0, 0, false]
  while (as + bs < sent + 16_384) {
    const count = ends.server.read()
    if (count > 0) for (const byte of SLAB.subarray(0, count)) byte === 97 ? as++ : bs++
    else if (!retried) retried = ssl.SSL_write(ends.client.handle, second, second.length) > 0
    else if (!ready(ends.serverFd, 100)) break
  }
  return `16384 b offered, ${bs} b and ${as - sent} more a arrived`
}

/** A descriptor closed before `SSL_free` belongs to somebody else by the time OpenSSL writes to it. */
function recycled(server: Context, client: Context): string {
  const ends = shake(server, client, { serverName: HOST })
  close(ends.clientFd)
  const { fd, port } = listener()
  // The lowest free number is taken again.
  const stranger = fd === ends.clientFd ? fd : connect(port)
  const other = fd === ends.clientFd ? -1 : accept(fd)
  ends.client.shutdown()
  if (other === -1) return 'not met'
  ready(other, 50)
  const got = receive(other, 64).length
  for (const one of [stranger, other, fd, ends.serverFd]) close(one)
  return got > 0 ? 'the stranger gets it' : 'not met'
}

function costs(): void {
  title('Costs, ns (the median of nine)')
  const of = (count: number, fn: () => void) => {
    const times = Array.from({ length: 9 }, () => {
      const start = process.hrtime.bigint()
      for (let i = 0; i < count; i++) fn()
      return Number(process.hrtime.bigint() - start) / count
    })
    return times.sort((a, b) => a - b)[4] as number
  }
  say('ERR_clear_error()', of(100_000, () => crypto.ERR_clear_error()).toFixed(0))
  let called = 0
  const compare = callback('int Count(int64_t a, int64_t b)', () => ++called)
  const search = koffi.load('libc.so.6').func('bsearch', 'int64_t', ['uint8_t *', 'uint8_t *', 'size_t', 'size_t', 'int64_t']) as (
    ...args: unknown[]
  ) => number
  const bytes = Buffer.alloc(64 * 1024)
  search(bytes, bytes, bytes.length, 1, compare)
  const each = called
  say('one callback from C', (of(2_000, () => void search(bytes, bytes, bytes.length, 1, compare)) / each).toFixed(0))
}

export async function answerHazards(): Promise<void> {
  const { server, client } = await world()
  const fresh = () => shake(server, client, { serverName: HOST })
  errorQueue(fresh())
  title('Memory and descriptors')
  say('a write that waits, offered again with other bytes', otherBytes(fresh()), '16384 b offered, 0 b and 16384 more a arrived')
  say('SSL_shutdown after its descriptor was closed and given to somebody else', recycled(server, client), 'the stranger gets it')
  title('The process (text, then status or signal)')
  say('an exception that leaves a callback', inChild('an exception that leaves a callback'), 'comes out of the call: of the callback (0)')
  say('process.exit in a callback', inChild('process.exit in a callback'), ' (0)')
  say('SSL_free in a callback', inChild('SSL_free in a callback'))
  say('a worker that ends with connections open', inChild('a worker that ends with connections open'), 'TLSv1.3, ended with 1 (0)')
  title('The build')
  say('FIPS', crypto.EVP_default_properties_is_fips_enabled(0) === 1 ? 'on' : 'off')
  const { client: kernel } = await world()
  ssl.SSL_CTX_set_options(kernel.handle, KTLS)
  const offered = shake(server, kernel, { verify: false })
  say('records by the kernel (KTLS)', crypto.BIO_ctrl(ssl.SSL_get_wbio(offered.client.handle), GET_KTLS_SEND, 0, 0) === 1 ? 'on' : 'off')
  offered.free()
  costs()
}

const [, started, wanted = ''] = process.argv
if (started === file && CASES[wanted] !== undefined) console.log(await (CASES[wanted] as () => Promise<string>)())
