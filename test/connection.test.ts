/** The verbs of a connection and their rules of use, over memory and over real sockets. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Broken, Busy, Closed, type Connection, Deadline, FrameError, Network, SocketError } from 'fairlead'
import { connectionPair, Random, settle, VirtualClock } from 'fairlead/testing'
import { clogWith, drain, pairOver, pattern, rawPair, TRANSPORTS, until } from './support/pairs.js'

const text = (bytes: Uint8Array | null | undefined): string | null | undefined => (bytes ? Buffer.from(bytes).toString('latin1') : bytes)

/** The class and code of what a promise rejects with. */
async function failure(promise: Promise<unknown>): Promise<[string, string]> {
  try {
    const value = await promise
    assert.fail(`resolved with ${String(value)}`)
  } catch (error) {
    if (!(error instanceof Error) || error instanceof assert.AssertionError) throw error
    return [error.name, (error as { code?: string }).code ?? '']
  }
}

for (const transport of TRANSPORTS) {
  describe(`connection over ${transport}`, () => {
    test('read gives what came, then null at the end, and null again', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      await a.write('hello')
      assert.equal(text(await b.read()), 'hello')
      await a.end()
      assert.equal(await b.read(), null)
      assert.equal(await b.read(), null)
      assert.equal(b.tryRead(), null)
      assert.equal(await b.readInto(new Uint8Array(1)), null)
      assert.equal(await b.readLine(), null)
      assert.equal(await b.readUntil('x'), null)
      assert.equal(await b.readExactly(1), null)
      assert.equal(await b.peek(), null)
      assert.equal((await b.readAll()).length, 0)
      await b.waitReadable()
    })

    test('a limit cuts reads; what is left comes next; results share no memory', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      await a.write(pattern(60_000))
      await a.end()
      await b.peek(60_000)
      const sizes = [1, 7, 40_000, null, undefined]
      const got: Uint8Array[] = []
      for (const limit of sizes) {
        const bytes = await b.read({ limit })
        if (bytes === null) break
        assert.ok(limit === null || limit === undefined || bytes.length <= limit)
        assert.equal(Object.getPrototypeOf(bytes), Uint8Array.prototype, 'a plain Uint8Array')
        assert.ok(bytes.buffer.byteLength <= 2 * bytes.length, `${bytes.length} bytes pin ${bytes.buffer.byteLength}`)
        got.push(bytes)
      }
      assert.equal(new Set(got.map((bytes) => bytes.buffer)).size, got.length)
      assert.deepEqual(Buffer.concat([...got, await b.readAll()]), Buffer.from(pattern(60_000)))
    })

    test('one byte read from a large chunk does not pin the chunk, nor lose it when its memory is given away', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      await a.write(pattern(50_000))
      const first = (await b.read({ limit: 30_000 })) as Uint8Array
      const taken = first.length
      structuredClone(first.buffer, { transfer: [first.buffer as ArrayBuffer] })
      const one = (await b.read({ limit: 1 })) as Uint8Array
      assert.equal(one.buffer.byteLength, 1)
      assert.deepEqual(await b.readExactly(1), pattern(50_000).slice(taken + 1, taken + 2))
    })

    test('readInto fills from the start, 0 only for an empty buffer, and leaves the rest', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      await a.write('abcdef')
      await b.peek(6)
      const into = new Uint8Array(4)
      assert.equal(await b.readInto(new Uint8Array(0)), 0)
      assert.equal(await b.readInto(into), 4)
      assert.equal(text(into), 'abcd')
      assert.equal(await b.readInto(into.subarray(2)), 2)
      assert.equal(text(into), 'abef')
      await a.write('x')
      assert.equal(await b.readInto(Buffer.from(into.buffer)), 1)
    })

    test('readExactly waits for all, and gives an incomplete rest back', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      assert.equal((await b.readExactly(0))?.length, 0)
      const reading = b.readExactly(200_000)
      const data = pattern(200_000)
      await a.write(data.subarray(0, 1))
      await settle(2)
      const writing = a.write(data.subarray(1))
      assert.deepEqual(await reading, data)
      await writing
      await a.write('abc')
      await a.end()
      assert.deepEqual(await failure(b.readExactly(4)), ['FrameError', 'INCOMPLETE'])
      assert.deepEqual(await failure(b.readExactly(4)), ['FrameError', 'INCOMPLETE'])
      assert.equal(text(await b.readExactly(3)), 'abc')
      assert.equal(await b.readExactly(4), null)
    })

    test('readLine: LF and CRLF, empty lines, the encodings', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      await a.write('one\r\ntwo\n\n\r\nä\r\nä\nraw\r\n\r\r\n')
      assert.deepEqual([await b.readLine(), await b.readLine(), await b.readLine(), await b.readLine()], ['one', 'two', '', ''])
      assert.equal(await b.readLine({ encoding: 'utf8' }), 'ä')
      assert.equal(await b.readLine({ encoding: 'latin1' }), 'Ã¤')
      const raw = await b.readLine({ encoding: 'bytes' })
      assert.deepEqual(raw, new Uint8Array(Buffer.from('raw')))
      assert.equal(Object.getPrototypeOf(raw), Uint8Array.prototype)
      assert.equal(await b.readLine(), '\r')
    })

    test('readLine: malformed UTF-8 becomes U+FFFD, or FrameError that consumes nothing under fatal', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      await a.write(Uint8Array.of(0x61, 0xff, 0x0a))
      assert.deepEqual(await failure(b.readLine({ fatal: true })), ['FrameError', 'BAD_FRAME'])
      assert.equal(await b.readLine(), 'a\ufffd')
    })

    test('readLine: a partial last line stays readable, or is the last line if asked for', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      await a.write('whole\npart')
      await a.end()
      assert.equal(await b.readLine({ lastUnterminated: true }), 'whole')
      assert.deepEqual(await failure(b.readLine()), ['FrameError', 'INCOMPLETE'])
      assert.equal(text(await b.peek()), 'part')
      assert.equal(await b.readLine({ lastUnterminated: true }), 'part')
      assert.equal(await b.readLine({ lastUnterminated: true }), null)
    })

    test('readUntil: a delimiter of several bytes, cut anywhere, is consumed and not returned', async () => {
      const delimiter = Uint8Array.of(0, 1, 0)
      for (let cut = 0; cut <= 9; cut++) {
        await using pair = await pairOver(transport)
        const { a, b } = pair
        const data = Uint8Array.of(9, 0, 0, 1, 0, 0, 1, 1, 7)
        const reading = b.readUntil(delimiter)
        await a.write(data.subarray(0, cut))
        await settle(2)
        await a.write(data.subarray(cut))
        assert.deepEqual(await reading, Uint8Array.of(9, 0))
        assert.deepEqual(await b.readExactly(4), Uint8Array.of(0, 1, 1, 7))
        if (transport !== 'memory' && cut > 2) break
      }
    })

    test('limits exclude the delimiter; over the limit nothing is consumed', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      await a.write('abcd\nabcd\r\nabcde\nabcd--abcde--')
      await b.peek(30)
      assert.equal(await b.readLine({ limit: 4 }), 'abcd')
      assert.equal(await b.readLine({ limit: 4 }), 'abcd')
      assert.deepEqual(await failure(b.readLine({ limit: 4 })), ['FrameError', 'TOO_LONG'])
      assert.equal(await b.readLine({ limit: 5 }), 'abcde')
      assert.equal(text(await b.readUntil('--', { limit: 4 })), 'abcd')
      assert.deepEqual(await failure(b.readUntil('--', { limit: 4 })), ['FrameError', 'TOO_LONG'])
      await a.end()
      assert.deepEqual(await failure(b.readAll({ limit: 6 })), ['FrameError', 'TOO_LONG'])
      assert.equal(text(await b.readAll({ limit: 7 })), 'abcde--')
    })

    test('an endless line fails with the first byte over the limit, however it is cut', async () => {
      for (const step of [1, 2, 3, 5]) {
        await using pair = await pairOver(transport)
        const { a, b } = pair
        const reading = failure(b.readLine({ limit: 4 }))
        for (let at = 0; at < 5; at += step) {
          await a.write('abcde'.slice(at, at + step))
          await settle(2)
        }
        assert.deepEqual(await reading, ['FrameError', 'TOO_LONG'])
        assert.equal(text(await b.readExactly(5)), 'abcde')
      }
    })

    test('a last line without its end is not longer than the limit either', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      await a.write('abcde')
      await a.end()
      assert.deepEqual(await failure(b.readLine({ limit: 4, lastUnterminated: true })), ['FrameError', 'TOO_LONG'])
      assert.equal(await b.readLine({ limit: 5, lastUnterminated: true }), 'abcde')
    })

    test('a carriage return may stand one byte beyond the limit only in front of its line feed', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      const reading = b.readLine({ limit: 4 })
      await a.write('abcd\r')
      await settle(2)
      await a.write('\n')
      assert.equal(await reading, 'abcd')
      const other = failure(b.readLine({ limit: 4 }))
      await a.write('abcd\rx')
      assert.deepEqual(await other, ['FrameError', 'TOO_LONG'])
    })

    test('peek consumes nothing, waits for as many as asked, and gives fewer only before the end', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      const peeking = b.peek(4)
      await a.write('ab')
      await settle(2)
      await a.write('cdef')
      assert.equal(text(await peeking), 'abcd')
      const copy = (await b.peek(2)) as Uint8Array
      copy.fill(0)
      await a.end()
      assert.equal(text(await b.peek(100)), 'abcdef')
      assert.equal(text(await b.readAll()), 'abcdef')
    })

    test('tryRead never waits and gets what arrives between two calls', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      assert.equal(b.tryRead(), undefined)
      await a.write('xyz')
      let got: Uint8Array | null | undefined
      await until('the bytes are here', () => (got = b.tryRead(2)) !== undefined)
      assert.equal(text(got), 'xy')
      assert.equal(text(b.tryRead()), 'z')
      assert.equal(b.tryRead(), undefined)
    })

    test('unread goes in front of everything, also while a read waits and after the end was seen', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      await a.write('three')
      await b.peek()
      b.unread('two ')
      b.unread(Buffer.from('one '))
      assert.equal(text(await b.readExactly(13)), 'one two three')
      const waiting = b.read()
      b.unread('now')
      assert.equal(text(await waiting), 'now')
      await a.end()
      assert.equal(await b.read(), null)
      b.unread('late')
      assert.equal(text(await b.read()), 'late')
      assert.equal(await b.read(), null)
      await b.end()
      b.unread('after both ends')
      assert.equal(text(await b.readAll()), 'after both ends')
    })

    test('unread under a waiting search is searched too', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      const reading = b.readLine()
      await a.write('second')
      await until('it was read', () => b.stats.bytesRead === 6)
      b.unread('first\n')
      await a.write('\n')
      assert.equal(await reading, 'first')
      assert.equal(await b.readLine(), 'second')
    })

    test('unread copies: the buffer is yours again at once, and reading gives plain bytes', async () => {
      await using pair = await pairOver(transport)
      const mine = Buffer.from('mine')
      pair.b.unread(mine)
      mine.fill('x')
      const got = (await pair.b.read()) as Uint8Array
      assert.equal(text(got), 'mine')
      assert.equal(Object.getPrototypeOf(got), Uint8Array.prototype)
      pair.b.unread('text')
      const other = (await pair.b.read()) as Uint8Array
      assert.equal(Object.getPrototypeOf(other), Uint8Array.prototype)
      assert.equal(other.buffer.byteLength, 4)
    })

    test('T8: one reader slot; every other claimant gets Busy and disturbs nothing', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      const reading = b.read()
      const into = new Uint8Array(1)
      for (const [op, start] of [
        ['read', () => b.read()],
        ['readInto', () => b.readInto(into)],
        ['readExactly', () => b.readExactly(1)],
        ['readUntil', () => b.readUntil('x')],
        ['readLine', () => b.readLine()],
        ['readAll', () => b.readAll()],
        ['peek', () => b.peek()],
        ['waitReadable', () => b.waitReadable()],
        ['iterator', () => b.chunks().next()],
        ['tryRead', async () => b.tryRead()],
      ] as const) {
        await assert.rejects(start(), (error: unknown) => {
          assert.ok(error instanceof Busy, `${op}: ${String(error)}`)
          assert.equal(error.op, op)
          return true
        })
      }
      await a.write('mine')
      assert.equal(text(await reading), 'mine')
    })

    test('a loop holds the slot; breaking out of it gives it back, closes nothing and loses nothing', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      await a.write('abcdef')
      for await (const chunk of b.chunks({ limit: 2 })) {
        assert.equal(text(chunk), 'ab')
        assert.deepEqual(await failure(b.read()), ['Busy', 'BUSY'])
        assert.throws(() => b.unread('x'), Busy)
        break
      }
      b.unread('ab')
      for await (const chunk of b) {
        assert.equal(text(chunk)?.slice(0, 2), 'ab')
        break
      }
      await a.write('!')
      await a.end()
      let rest = ''
      for await (const chunk of b) rest += text(chunk)
      assert.equal(rest, 'cdef!')
      assert.equal(b.state, 'read-ended')
    })

    test('an iterator stepped twice at once: the second is Busy, the first gets the bytes', async () => {
      await using pair = await pairOver(transport)
      const chunks = pair.b.chunks()
      const first = chunks.next()
      assert.deepEqual(await failure(chunks.next()), ['Busy', 'BUSY'])
      await pair.a.write('x')
      assert.equal(text((await first).value), 'x')
      await chunks.return?.()
    })

    test('an iterator left while a step waits gives the slot back and loses nothing', async () => {
      await using pair = await pairOver(transport)
      const chunks = pair.b.chunks()
      const waiting = chunks.next()
      await chunks.return?.()
      assert.deepEqual(await waiting, { done: true, value: undefined })
      await pair.a.write('kept')
      assert.equal(text(await pair.b.read()), 'kept')
    })

    test('an iterator may look while the deadline of each step is its own', async () => {
      await using pair = await pairOver(transport)
      const deadline = new Deadline()
      const steps = pair.b.chunks({ deadline })
      await pair.a.write('x')
      assert.equal(text((await steps.next()).value), 'x')
      const waiting = steps.next()
      deadline.set(1)
      assert.deepEqual(await failure(waiting), ['DeadlineError', 'DEADLINE'])
      assert.deepEqual(await steps.next(), { done: true, value: undefined })
      await pair.a.write('y')
      assert.equal(text(await pair.b.read()), 'y')
    })

    test('T3: every container of bytes, with its offset; strings are UTF-8; several pieces are one write', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      const memory = Uint8Array.from('0123456789', (digit) => digit.charCodeAt(0))
      await a.write(memory.subarray(1, 3))
      await a.write(Buffer.from(memory.buffer, 3, 2))
      await a.write(new DataView(memory.buffer, 5, 2))
      await a.write(memory.buffer.slice(7))
      await a.write('ä')
      await a.write([memory.subarray(0, 1), new Uint8Array(0), Buffer.from('!'), new Uint16Array([0x2b2b])])
      await a.write([])
      await a.write('')
      await a.end()
      assert.equal(Buffer.from(await b.readAll()).toString('utf8'), '123456789ä0!++')
    })

    test('writes keep their order, whoever waits', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      const writes = Array.from({ length: 200 }, (_, i) => a.write(pattern(1 + ((i * 7919) % 20_000), i)))
      const flushed = a.flush()
      const ending = a.end()
      const got = await b.readAll()
      await Promise.all([...writes, flushed, ending])
      assert.deepEqual(Buffer.from(got), Buffer.concat(Array.from({ length: 200 }, (_, i) => pattern(1 + ((i * 7919) % 20_000), i))))
    })

    test('the buffer of a settled write is yours again: overwriting it changes nothing that was sent', async () => {
      await using pair = await pairOver(transport, { limits: { unsent: 1024 * 1024 } })
      const { a, b } = pair
      const sizes = Array.from({ length: 300 }, (_, i) => 1 + ((i * 6151) % 30_000))
      const writing = (async () => {
        for (const [i, size] of sizes.entries()) {
          const mine = Buffer.from(pattern(size, i))
          await a.write(i % 3 === 0 ? [mine.subarray(0, size >> 1), mine.subarray(size >> 1)] : mine)
          mine.fill(0xee)
        }
        await a.end()
      })()
      await settle(20)
      const got = await b.readAll()
      await writing
      assert.ok(Buffer.concat(sizes.map((size, i) => pattern(size, i))).equals(got))
    })

    test('end closes one direction; the other works on; ending twice is fine (T35, T36, T37)', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      await a.write('question')
      await a.end()
      await a.end()
      assert.equal(a.state, 'write-ended')
      assert.deepEqual(await failure(a.write('more')), ['Closed', 'ENDED'])
      assert.deepEqual(await failure(a.write('')), ['Closed', 'ENDED'])
      assert.deepEqual(await failure(a.waitWritable()), ['Closed', 'ENDED'])
      await a.flush()
      assert.equal(text(await b.readAll()), 'question')
      assert.equal(b.state, 'read-ended')
      await b.write('answer')
      await b.end()
      assert.equal(text(await a.readAll()), 'answer')
      assert.deepEqual(await a.closed, { clean: true, unsent: 0 })
      assert.deepEqual(await b.closed, { clean: true, unsent: 0 })
      assert.equal(a.state, 'closed')
      assert.deepEqual(pair.network.sockets(), [])
    })

    test('stats and facts', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      assert.notEqual(a.id, b.id)
      assert.equal(a.driver, pair.network.driver.name)
      assert.equal(a.security, null)
      assert.equal(a.owner, pair.network)
      assert.deepEqual(
        pair.network
          .sockets()
          .map(({ id }) => id)
          .sort(),
        [a.id, b.id].sort(),
      )
      if (transport !== 'unix') assert.deepEqual([a.local, a.remote], [b.remote, b.local])
      await a.write('12345')
      await b.readExactly(3)
      assert.equal(a.stats.bytesWritten, 5)
      assert.deepEqual([b.stats.bytesRead, b.stats.unread], [5, 2])
      assert.ok(Math.abs(Date.now() - a.stats.openedAt) < 60_000)
    })

    test('arguments of a wrong type or range are native errors, as rejections, and cost nothing', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      await a.write('intact')
      await b.peek(6)
      const type = ['TypeError', 'ERR_INVALID_ARG_TYPE']
      const range = ['RangeError', 'ERR_OUT_OF_RANGE']
      for (const [start, expected] of [
        [() => b.read({ limit: -1 }), range],
        [() => b.read({ limit: 0 }), range],
        [() => b.read({ limit: 1.5 }), type],
        [() => b.read({ limit: '1' as never }), type],
        [() => b.read({ limit: Number.NaN }), range],
        [() => b.read({ timeout: -1 }), range],
        [() => b.read({ timeout: Number.NaN }), range],
        [() => b.read({ timeout: '5' as never }), type],
        [() => b.read({ deadline: 'soon' as never }), type],
        [() => b.read({ deadline: new Date(Number.NaN) }), range],
        [() => b.read({ deadline: -5 }), range],
        [() => b.read({ signal: {} as never }), type],
        [() => b.read(5 as never), type],
        [() => b.readInto([1] as never), type],
        [() => b.readExactly(-1), range],
        [() => b.readExactly(1.5), type],
        [() => b.readExactly(Number.POSITIVE_INFINITY), range],
        [() => b.readExactly(undefined as never), type],
        [() => b.readUntil(''), range],
        [() => b.readUntil(10 as never), type],
        [() => b.readUntil('x', { limit: 0 }), range],
        [() => b.readLine({ encoding: 'utf16' as never }), range],
        [() => b.readAll({ limit: -1 }), range],
        [() => b.peek(0), range],
        [() => b.peek(1e9), range],
        [() => b.waitReadable({ timeout: -1 }), range],
        [() => a.write(5 as never), type],
        [() => a.write(null as never), type],
        [() => a.write([1] as never), type],
        [() => a.write('x', { timeout: -1 }), range],
        [() => a.writeSome({} as never), type],
        [() => a.flush({ timeout: '1' as never }), type],
        [() => a.end({ timeout: Number.NaN }), range],
        [() => a.waitWritable({ signal: 1 as never }), type],
      ] as const) {
        assert.deepEqual(await failure(start()), expected, start.toString())
      }
      assert.throws(() => b.tryRead(0), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' })
      assert.throws(() => b.unread(7 as never), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' })
      await assert.rejects(b.peek(0), /^RangeError: n must be/)
      assert.equal(text(await b.read(null as never)), 'intact')
      await a.write('x', null as never)
      assert.equal(text(await b.read({ limit: Number.POSITIVE_INFINITY })), 'x')
    })

    test('use closes on return and aborts on throw', async () => {
      await using pair = await pairOver(transport)
      const { a, b } = pair
      assert.equal(await a.use(async (connection) => (await connection.write('bye'), 7)), 7)
      assert.equal((await a.closed).clean, true)
      assert.equal(text(await b.readAll()), 'bye')
      const mistake = new Error('my mistake')
      await assert.rejects(
        b.use(() => Promise.reject(mistake)),
        mistake,
      )
      const report = await b.closed
      assert.equal(report.clean, false)
      assert.ok(report.reason instanceof Closed)
      assert.equal(report.reason.cause, mistake)
    })

    test('await using closes', async () => {
      await using pair = await pairOver(transport)
      {
        await using connection: Connection = pair.a
        await connection.write('x')
      }
      assert.equal(text(await pair.b.readAll()), 'x')
      assert.deepEqual(await failure(pair.a.read()), ['Closed', 'CLOSED'])
    })

    test('Node’s iterable streams find the chunks of a connection', async () => {
      await using pair = await pairOver(transport)
      const source = pair.b as unknown as Record<symbol, () => AsyncIterable<Uint8Array>>
      const protocol = Symbol.for('Stream.toAsyncStreamable')
      assert.equal(typeof source[protocol], 'function')
      await pair.a.write('x')
      await pair.a.end()
      let all = ''
      for await (const chunk of (source[protocol] as () => AsyncIterable<Uint8Array>).call(source)) all += text(chunk)
      assert.equal(all, 'x')
    })
  })
}

describe('backpressure', () => {
  for (const transport of ['tcp', 'unix'] as const) {
    test(`M10: a writer that is never read holds no more than the caps, over ${transport}`, async () => {
      await using pair = await pairOver(transport)
      const { a } = pair
      let offered = 0
      let waiting = false
      const writing = (async () => {
        const piece = new Uint8Array(64 * 1024)
        for (;;) {
          waiting = true
          await a.write(piece)
          waiting = false
          offered += piece.length
        }
      })().catch((error: unknown) => error)
      let still = 0
      let last = -1
      await until('the writer waits', () => {
        still = waiting && offered === last ? still + 1 : 0
        last = offered
        return still > 300
      })
      assert.ok(a.stats.unsent <= 128 * 1024, `${a.stats.unsent} bytes unsent`)
      assert.ok(offered < 64 * 1024 * 1024)
      a.abort()
      assert.ok((await writing) instanceof Closed)
    })
  }

  test('what a write could not hand over is counted, and the count returns to nothing', async () => {
    await using pair = await pairOver('tcp')
    const { a, b } = pair
    const sent = await clogWith(a)
    const { budget } = pair.network.shared
    assert.ok(budget.held >= a.stats.unsent, `${budget.held} held of ${a.stats.unsent}`)
    assert.ok(a.stats.unsent > 0)
    void a.end()
    assert.equal((await b.readAll({ limit: 1 << 30 })).length, sent)
    assert.equal(budget.held, 0)
  })

  test('nothing is read ahead without a reader but one chunk', async () => {
    await using pair = await pairOver('tcp')
    const { a, b } = pair
    await a.write('x')
    await b.read()
    void a.write(new Uint8Array(32 * 1024 * 1024))
    await settle(300)
    assert.ok(b.stats.bytesRead <= 1)
    assert.ok(a.stats.bytesWritten < 32 * 1024 * 1024, 'the writer waits for a reader')
    assert.equal((await b.readExactly(32 * 1024 * 1024))?.length, 32 * 1024 * 1024)
  })

  test('a write that the deadline cuts short says exactly how much went out', async () => {
    await using pair = await pairOver('tcp')
    const { a, b } = pair
    const before = await clogWith(a, new Uint8Array(300_000))
    const error = await a.write(new Uint8Array(1_000_000), { timeout: 5 }).catch((reason: unknown) => reason)
    assert.ok(error instanceof SocketError)
    assert.equal(error.code, 'DEADLINE')
    const written = error.bytesWritten as number
    assert.ok(written >= 0 && written < 1_000_000)
    const ending = a.write('end').then(() => a.end())
    const got = await b.readAll({ limit: 1 << 30 })
    await ending
    assert.equal(got.length, before + written + 3)
    assert.equal(a.stats.bytesWritten, got.length)
    assert.equal(text(got.slice(-3)), 'end')
  })

  test('writeSome takes at least one byte and says how many', async () => {
    await using pair = await pairOver('tcp')
    const { a, b } = pair
    assert.equal(await a.writeSome(''), 0)
    assert.equal(await a.writeSome('abc'), 3)
    assert.equal(text(await b.readExactly(3)), 'abc')
    const clogged = await clogWith(a)
    const some = a.writeSome(new Uint8Array(1_000_000))
    const receiving = b.readExactly(clogged)
    const count = await some
    assert.ok(count >= 1 && count <= 1_000_000, `${count}`)
    await receiving
    await a.end()
    assert.equal((await b.readAll()).length, count)
  })

  test('T23: waitWritable waits while clogged, beside a write, and wakes when the peer reads', async () => {
    await using pair = await pairOver('tcp')
    const { a, b } = pair
    const clogged = await clogWith(a)
    const order: string[] = []
    const waits = [a.waitWritable().then(() => order.push('writable')), a.waitWritable().then(() => order.push('writable'))]
    await settle(50)
    assert.equal(order.length, 0)
    order.push('reading')
    await b.readExactly(clogged)
    await Promise.all(waits)
    assert.deepEqual(order, ['reading', 'writable', 'writable'])
  })

  test('flush waits until the system has everything', async () => {
    await using pair = await pairOver('tcp')
    const { a, b } = pair
    const clogged = await clogWith(a)
    let flushed = false
    const flushing = a.flush().then(() => (flushed = true))
    await settle(50)
    assert.equal(flushed, false)
    await b.readExactly(clogged)
    await flushing
    assert.equal(a.stats.unsent, 0)
  })

  test('a network whose cap is reached still moves what peers read', async () => {
    await using pair = await pairOver('tcp', { limits: { total: 1000 } })
    const { a, b } = pair
    const clogged = await clogWith(a)
    void a.write(pattern(200_000))
    assert.equal((await b.readExactly(clogged + 200_000))?.length, clogged + 200_000)
  })

  test('a limit of one unsent byte still writes', async () => {
    await using pair = await pairOver('tcp', { limits: { unsent: 1 } })
    await pair.a.waitWritable()
    await pair.a.write('x')
    assert.equal(text(await pair.b.read()), 'x')
  })
})

describe('defaults', () => {
  test('of reads and writes hold unless the call says otherwise', async () => {
    await using pair = connectionPair({ capacity: 10, defaults: { read: 5, write: 6 }, limits: { unsent: 10 } })
    const { a } = pair
    assert.deepEqual(await failure(a.read()), ['DeadlineError', 'DEADLINE'])
    assert.deepEqual(await failure(a.readLine({})), ['DeadlineError', 'DEADLINE'])
    assert.deepEqual(await failure(a.write(new Uint8Array(1000))), ['DeadlineError', 'DEADLINE'])
    const reading = a.read({ timeout: Number.POSITIVE_INFINITY })
    assert.deepEqual(await failure(a.write(new Uint8Array(1000))), ['DeadlineError', 'DEADLINE'])
    await pair.b.write('x')
    assert.equal(text(await reading), 'x')
  })

  test('of a network, of a listener and of a dial', async () => {
    await using network = new Network({ defaults: { read: 1 } })
    await using listener = await network.listen('tcp://127.0.0.1:0', { defaults: { read: Number.POSITIVE_INFINITY, write: 3 } })
    const [client, server] = await Promise.all([network.connect(listener.endpoint), listener.accept()])
    assert.deepEqual(await failure(client.read()), ['DeadlineError', 'DEADLINE'])
    const reading = server.read()
    await client.write('x')
    assert.equal(text(await reading), 'x')
  })
})

describe('a broken peer', () => {
  test('T10, T11: writing to a peer that is gone breaks, and stays broken', async () => {
    await using raw = await rawPair()
    const { connection, peer } = raw
    peer.destroy()
    const breaking = (async () => {
      for (;;) {
        await connection.write(new Uint8Array(100))
        await settle(1)
      }
    })()
    await assert.rejects(breaking, Broken)
    for (let i = 0; i < 3; i++) await assert.rejects(connection.write('x'), Broken)
    await assert.rejects(connection.flush(), Broken)
    await assert.rejects(connection.end(), Broken)
    assert.equal(connection.signal.aborted, true, 'the signal says so, also when it is asked for late')
  })

  test('a slow reader gets everything that a fast one gets', async () => {
    await using raw = await rawPair()
    const { connection, peer } = raw
    const data = pattern(500_000)
    const sending = connection.write(data).then(() => connection.end())
    const got = await drain(peer)
    await sending
    assert.ok(got.equals(data))
  })

  test('an interrupted frame: the partial bytes, then what broke it', async () => {
    await using raw = await rawPair()
    const { connection, peer } = raw
    peer.write('no line feed')
    await connection.peek(12)
    peer.resetAndDestroy()
    await assert.rejects(connection.readLine({ lastUnterminated: true }), Broken)
    assert.equal(text(await connection.read()), 'no line feed')
    await assert.rejects(connection.read(), { name: 'Broken', code: 'ECONNRESET' })
    await assert.rejects(connection.readAll(), (error: unknown) => !(error instanceof FrameError) && error instanceof Broken)
  })
})

describe('in disorder', () => {
  const LENGTH = 600_000
  const data = pattern(LENGTH)

  /** Sends `data` by every verb that writes, under deadlines that pass; what went out is what the verbs said. */
  async function send(connection: Connection, random: Random): Promise<void> {
    for (let at = 0; at < LENGTH;) {
      const mine = Buffer.from(data.subarray(at, at + random.int(1, random.int(0, 5) === 0 ? 150_000 : 3_000)))
      const half = random.int(0, mine.length)
      const o = random.int(0, 3) === 0 ? { timeout: random.int(0, 2) } : undefined
      try {
        const kind = random.int(0, 4)
        if (kind === 0) at += await connection.writeSome(mine, o)
        else {
          await connection.write(kind === 1 ? [mine.subarray(0, half), mine.subarray(half)] : mine, o)
          at += mine.length
        }
      } catch (error) {
        assert.ok(error instanceof SocketError && error.code === 'DEADLINE', String(error))
        at += error.bytesWritten ?? assert.fail('bytesWritten is missing')
      }
      mine.fill(0)
      if (random.int(0, 6) === 0) await connection.flush({ timeout: 1 }).catch(() => {})
      if (random.int(0, 6) === 0) await connection.waitWritable({ timeout: 1 }).catch(() => {})
      if (random.int(0, 3) === 0) await settle(1)
    }
    await connection.end()
  }

  /** Receives by every verb that reads, leaving off in the middle in every way. */
  async function receive(connection: Connection, random: Random): Promise<Buffer> {
    const seen: Uint8Array[] = []
    let count = 0
    const keep = (bytes: Uint8Array) => {
      seen.push(bytes)
      count += bytes.length
    }
    for (;;) {
      const o = random.int(0, 2) === 0 ? { timeout: random.int(0, 2) } : undefined
      try {
        const kind = random.int(0, 10)
        if (kind === 0) {
          const into = new Uint8Array(random.int(1, 70_000))
          const got = await connection.readInto(into, o)
          if (got === null) break
          keep(into.subarray(0, got))
        } else if (kind === 1) {
          const got = await connection.readExactly(random.int(1, 100_000), o)
          if (got === null) break
          keep(got)
        } else if (kind === 2) {
          const got = await connection.readUntil(Uint8Array.of(random.int(0, 255)), { ...o, limit: random.int(1, 2_000) })
          if (got === null) break
          // The delimiter is not part of the result; the data tells what it was.
          keep(data.slice(count, count + got.length + 1))
          assert.deepEqual(got, data.slice(count - got.length - 1, count - 1))
        } else if (kind === 3) {
          const got = await connection.peek(random.int(1, 5_000), o)
          if (got === null) break
          assert.deepEqual(got, data.slice(count, count + got.length))
        } else if (kind === 4) {
          const got = await connection.read(o)
          if (got === null) break
          const back = random.int(0, got.length)
          connection.unread(got.subarray(back))
          keep(got.slice(0, back))
        } else if (kind === 5) {
          const got = connection.tryRead(random.int(1, 10_000))
          if (got === null) break
          if (got === undefined) await settle(1)
          else keep(got)
        } else if (kind === 6) {
          let steps = random.int(1, 5)
          for await (const chunk of connection.chunks({ ...o, limit: random.int(1, 60_000) })) {
            keep(chunk)
            if (--steps === 0) break
          }
        } else if (kind === 7) {
          const reader = connection.readable.getReader()
          const reading = reader.read()
          if (random.int(0, 1) === 0) await settle(1)
          await reader.cancel()
          const { value } = await reading
          if (value !== undefined) keep(value)
        } else {
          const got = await connection.read({ ...o, limit: random.int(1, 100_000) })
          if (got === null) break
          keep(got)
        }
      } catch (error) {
        assert.ok(error instanceof SocketError, String(error))
        assert.match(error.code, /^(DEADLINE|TOO_LONG|INCOMPLETE)$/)
        if (random.int(0, 3) === 0) await settle(1)
      }
    }
    return Buffer.concat(seen)
  }

  for (const transport of TRANSPORTS) {
    test(`every verb in every order, both ways at once: no byte is lost, doubled or out of place, over ${transport}`, async () => {
      for (let seed = 1; seed <= 6; seed++) {
        await using pair = await pairOver(transport)
        const { a, b } = pair
        const [, , there, back] = await Promise.all([
          send(a, new Random(seed)),
          send(b, new Random(seed + 100)),
          receive(b, new Random(seed + 200)),
          receive(a, new Random(seed + 300)),
        ])
        assert.ok(there.equals(data), `seed ${seed}: ${there.length} bytes of ${LENGTH}`)
        assert.ok(back.equals(data), `seed ${seed}: ${back.length} bytes of ${LENGTH}`)
        assert.equal((await a.closed).clean, true)
      }
    })
  }
})

test('tryWrite never waits: it takes what is welcome, in order, and nothing while others wait', async () => {
  await using pair = connectionPair({ capacity: 100, limits: { unsent: 50 } })
  const { a, b } = pair
  const bytes = new Uint8Array(1_000).map((_, i) => i)
  const first = a.tryWrite(bytes)
  assert.equal(first, 150)
  assert.equal(a.tryWrite('more'), 0)
  assert.deepEqual(await b.readExactly(150), bytes.slice(0, 150))
  await a.waitWritable()
  assert.ok(a.tryWrite(bytes.subarray(first)) >= 50)
  assert.equal(a.tryWrite(''), 0)
  const waiting = a.write(new Uint8Array(500))
  assert.equal(a.tryWrite('x'), 0)
  b.abort()
  await assert.rejects(waiting, Broken)
  assert.throws(() => a.tryWrite('x'), Broken)
  a.abort()
  assert.throws(() => a.tryWrite('x'), Closed)
})

test('tryWrite, which never waits, arms no deadline', () => {
  const clock = new VirtualClock()
  const { a, b } = connectionPair({ clock, defaults: { write: 1_000 } })
  assert.equal(a.tryWrite('x'), 1)
  assert.equal(clock.pending, 0)
  a.abort()
  b.abort()
})
