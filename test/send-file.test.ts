/** Files as bytes of a stream: ranges, order, deadlines, and files that are not what they should be. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { after, describe, test } from 'node:test'
import { type Connection, SocketError, SystemFailure } from 'fairlead'
import { connectHandles, connectionPair, memoryPair, settle, type StreamHandle, VirtualClock } from 'fairlead/testing'
import { removePaths, TRANSPORTS } from './matrix.js'
import { descriptors, pattern, until } from './support/pairs.js'

const SIZE = 300_007
const bytes = Buffer.from(pattern(SIZE, 3))
const folder = mkdtempSync(join(tmpdir(), 'fairlead-'))
const path = join(folder, 'file')
writeFileSync(path, bytes)
const empty = join(folder, 'empty')
writeFileSync(empty, '')

after(async () => {
  for (const { close } of TRANSPORTS) await close()
  await removePaths()
  rmSync(folder, { recursive: true })
})

async function failure(promise: Promise<unknown>): Promise<SocketError> {
  const error = await promise.then(
    (value) => assert.fail(`resolved with ${String(value)}`),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof SocketError, String(error))
  return error
}

/** What arrives at `b` while `send` sends over `a` and then ends. */
async function sent<T>(a: Connection, b: Connection, send: () => Promise<T>): Promise<[result: T, got: Buffer]> {
  const getting = b.readAll()
  const result = await send()
  await a.end()
  return [result, Buffer.from(await getting)]
}

for (const transport of TRANSPORTS) {
  test(`sendFile sends a file, or a range of it, in its turn: ${transport.name}`, { skip: transport.missing ?? false }, async () => {
    const { a, b, dispose } = await transport.pair()
    const [counts, got] = await sent(a, b, () =>
      Promise.all([
        a.write('<').then(() => 1),
        a.sendFile(path),
        a.write('|').then(() => 1),
        a.sendFile(path, { start: 65_000, end: 65_537 }),
        a.sendFile(path, { start: SIZE - 1 }),
        a.sendFile(path, { start: SIZE }),
        a.sendFile(empty),
        a.write('>').then(() => 1),
      ]),
    )
    assert.deepEqual(counts, [1, SIZE, 1, 537, 1, 0, 0, 1])
    const parts = ['<', bytes, '|', bytes.subarray(65_000, 65_537), bytes.subarray(SIZE - 1), '>'].map((part) => Buffer.from(part as 'x'))
    assert.ok(got.equals(Buffer.concat(parts)))
    assert.equal(a.stats.bytesWritten, SIZE + 541)
    await Promise.all([a.close(), b.close()])
    await dispose?.()
  })
}

describe('sendFile', () => {
  test('takes a path, a URL, a descriptor and a FileHandle; the latter two stay open and where they are', async () => {
    const before = descriptors()
    const fd = openSync(path, 'r')
    const handle = await open(path)
    for (const file of [path, pathToFileURL(path), { fd }, handle]) {
      await using pair = connectionPair()
      const [count, got] = await sent(pair.a, pair.b, () => pair.a.sendFile(file, { start: 1, end: 100_000 }))
      assert.equal(count, 99_999)
      assert.ok(got.equals(bytes.subarray(1, 100_000)))
    }
    const two = Buffer.alloc(2)
    assert.equal(readSync(fd, two), 2)
    assert.ok(two.equals(bytes.subarray(0, 2)))
    closeSync(fd)
    await handle.close()
    await until('all files are closed', () => (descriptors() ?? 0) <= (before ?? 0))
  })

  test('of what is no file, or cannot be read, says so, and the connection goes on', async () => {
    await using pair = connectionPair()
    const pipe = join(folder, 'pipe')
    execFileSync('mkfifo', [pipe])
    const missing = join(folder, 'missing')
    for (const [file, code, message] of [
      [folder, 'NOT_A_FILE', /only a regular file/],
      [pipe, 'NOT_A_FILE', /pipe": only a regular file/],
      [missing, 'ENOENT', /cannot send ".*missing": no such file/],
      [{ fd: 9_999 }, 'EBADF', /cannot send descriptor 9999: there is no such descriptor/],
    ] as const) {
      const error = await failure(pair.a.sendFile(file))
      assert.ok(error instanceof SystemFailure, String(error))
      assert.equal(error.code, code)
      assert.equal(error.op, 'sendFile')
      assert.equal(error.bytesWritten, 0)
      assert.match(error.message, message)
    }
    await pair.a.write('still there')
    assert.equal(Buffer.from((await pair.b.read()) ?? []).toString(), 'still there')
  })

  test('of more bytes than there are sends none', async () => {
    await using pair = connectionPair()
    for (const range of [{ end: SIZE + 1 }, { start: SIZE + 1 }, { start: SIZE + 1, end: SIZE + 5 }]) {
      const error = await failure(pair.a.sendFile(path, range))
      assert.equal(error.code, 'FILE_TOO_SHORT')
      const wanted = range.end === undefined ? `${range.start} and on` : `${range.end}`
      assert.ok(error.message.endsWith(`it has ${SIZE} bytes, and bytes up to ${wanted} were to be sent`), error.message)
      assert.equal(error.bytesWritten, 0)
    }
  })

  test('of a file that shrinks meanwhile says how far it came, and what follows it is sent', async () => {
    await using pair = connectionPair({ capacity: 1024 })
    const shrinking = join(folder, 'shrinking')
    writeFileSync(shrinking, bytes)
    const sending = failure(pair.a.sendFile(shrinking))
    const behind = pair.a.write('behind')
    let got = (await pair.b.read()) ?? new Uint8Array(0)
    truncateSync(shrinking, 70_000)
    const error = sending.then((reason) => {
      assert.equal(reason.code, 'FILE_TOO_SHORT')
      return reason.bytesWritten as number
    })
    void error.then(() => pair.a.end())
    const rest = await pair.b.readAll()
    got = Buffer.concat([got, rest])
    const written = await error
    await behind
    assert.ok(written < SIZE && written >= 65_536, `${written}`)
    assert.ok(Buffer.from(got).equals(Buffer.concat([bytes.subarray(0, written), Buffer.from('behind')])))
  })

  test('of a file that grows meanwhile sends what it had', async () => {
    await using pair = connectionPair({ capacity: 1024 })
    const growing = join(folder, 'growing')
    writeFileSync(growing, bytes.subarray(0, 100_000))
    const sending = pair.a.sendFile(growing)
    await pair.b.readExactly(1000)
    writeFileSync(growing, 'more', { flag: 'a' })
    assert.equal((await pair.b.readExactly(99_000))?.length, 99_000)
    assert.equal(await sending, 100_000)
    assert.equal(pair.b.tryRead(), undefined)
  })

  test('that is cut off by its deadline or a signal says how much went out, and no more goes out', async () => {
    const clock = new VirtualClock()
    await using pair = connectionPair({ capacity: 4096, clock })
    const late = failure(pair.a.sendFile(path, { timeout: 1_000 }))
    const got = (await pair.b.readExactly(10_000)) as Uint8Array
    await settle(5)
    await clock.advance(1_000)
    const error = await late
    assert.equal(error.code, 'DEADLINE')
    const written = error.bytesWritten as number
    const ahead = written - pair.b.stats.bytesRead
    assert.ok(written >= 10_000 && ahead >= 0 && ahead <= 4096, `${written}, of which ${ahead} were on their way`)
    await pair.a.end()
    const rest = await pair.b.readAll()
    assert.ok(Buffer.concat([got, rest]).equals(bytes.subarray(0, written)))
    assert.equal((await failure(connectionPair().a.sendFile(path, { timeout: 0 }))).code, 'DEADLINE')
  })

  test('of a connection that is closed, aborted or broken ends, and leaves no file open', async () => {
    const before = descriptors()
    for (const end of ['abort', 'close', 'peer'] as const) {
      await using pair = connectionPair({ capacity: 1024, clock: new VirtualClock() })
      const error = failure(pair.a.sendFile(path))
      await pair.b.read()
      if (end === 'peer') pair.b.abort()
      else void pair.a[end]()
      const { code } = await error
      assert.ok(['ABORTED', 'CLOSED', 'ECONNRESET', 'EPIPE'].includes(code), code)
      assert.equal((await failure(pair.a.sendFile(path))).code, code)
    }
    await until('all files are closed', () => (descriptors() ?? 0) <= (before ?? 0))
  })

  test('of wrong arguments names them', async () => {
    await using pair = connectionPair()
    await assert.rejects(pair.a.sendFile(5 as never), { name: 'TypeError', message: /^file must be/ })
    await assert.rejects(pair.a.sendFile({ fd: -1 }), { name: 'RangeError', message: /^fd must be/ })
    await assert.rejects(pair.a.sendFile(path, { start: -1 }), { name: 'RangeError', message: /^start/ })
    await assert.rejects(pair.a.sendFile(path, { start: 5, end: 4 }), { name: 'RangeError', message: /^end must be at least start, 5/ })
    await assert.rejects(pair.a.sendFile(path, { length: 4 } as never), { code: 'UNKNOWN_OPTION' })
  })
})

/** A handle that sends files by itself, as the kernel driver does. */
function sendingFiles(handle: StreamHandle, calls: number[], fail?: (offset: number) => string | undefined): StreamHandle {
  return Object.assign(handle, {
    sendFile(file: number, offset: number, length: number): number {
      const code = fail?.(offset)
      if (code !== undefined) throw Object.assign(new Error(code), { code })
      const piece = new Uint8Array(Math.min(length, 50_000))
      const count = readSync(file, piece, 0, piece.length, offset)
      if (count === 0) return 0
      const taken = handle.write(piece.subarray(0, count))
      calls.push(taken)
      return taken === 0 ? -1 : taken
    },
  })
}

describe('sendFile where the system sends files', () => {
  test('leaves it to the system, in turn and to the last byte', async () => {
    const calls: number[] = []
    const [one, other] = memoryPair({ capacity: 20_000 })
    await using pair = connectHandles(sendingFiles(one, calls), other)
    const [counts, got] = await sent(pair.a, pair.b, () =>
      Promise.all([pair.a.write(bytes), pair.a.sendFile(path, { start: 7 }), pair.a.write('end')]),
    )
    assert.equal(counts[1], SIZE - 7)
    assert.ok(got.equals(Buffer.concat([bytes, bytes.subarray(7), Buffer.from('end')])))
    assert.ok(calls.length > 10)
  })

  test('reads the file where the system has no way for it, and breaks where the socket did', async () => {
    for (const [code, from] of [
      ['EINVAL', 0],
      ['ENOSYS', 60_000],
    ] as const) {
      const [one, other] = memoryPair({ capacity: 20_000 })
      await using pair = connectHandles(
        sendingFiles(one, [], (offset) => (offset >= from ? code : undefined)),
        other,
      )
      const [count, got] = await sent(pair.a, pair.b, () => pair.a.sendFile(path))
      assert.equal(count, SIZE)
      assert.ok(got.equals(bytes))
    }
    const [one, other] = memoryPair({ capacity: 20_000 })
    await using pair = connectHandles(
      sendingFiles(one, [], (offset) => (offset >= 5_000 ? 'EPIPE' : undefined)),
      other,
    )
    const error = failure(pair.a.sendFile(path))
    await pair.b.read()
    assert.equal((await error).code, 'EPIPE')
    assert.equal((await failure(pair.a.write('x'))).code, 'EPIPE')
  })

  test('lets others run meanwhile, and knows files larger than 4 GiB', async () => {
    const large = join(folder, 'large')
    writeFileSync(large, '')
    truncateSync(large, 2 ** 36 + 5)
    const [one, other] = memoryPair()
    const offsets: number[] = []
    const taking = (_file: number, offset: number, length: number): number => {
      offsets.push(offset)
      return length
    }
    await using pair = connectHandles(Object.assign(one, { sendFile: taking }), other)
    let over = false
    let turns = 0
    const sending = pair.a.sendFile(large).finally(() => (over = true))
    while (!over) {
      await new Promise(setImmediate)
      turns++
    }
    assert.equal(await sending, 2 ** 36 + 5)
    assert.ok((offsets.at(-1) as number) > 2 ** 36 - 2 ** 21)
    assert.ok(turns > 5, `${turns} turns of the event loop`)
  })

  test('notices a file that shrinks', async () => {
    const shrinking = join(folder, 'shrinking too')
    writeFileSync(shrinking, bytes)
    const [one, other] = memoryPair({ capacity: 20_000 })
    await using pair = connectHandles(sendingFiles(one, []), other)
    const sending = failure(pair.a.sendFile(shrinking))
    await pair.b.read()
    truncateSync(shrinking, 20_000)
    void sending.then(() => pair.a.end())
    const got = await pair.b.readAll()
    const error = await sending
    assert.equal(error.code, 'FILE_TOO_SHORT')
    assert.ok(got.length <= 40_000)
  })
})
