// The semantics of Pike's files and ports, by the numbers under which they were observed, over real sockets.

import assert from 'node:assert/strict'
import { linkSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { master, rm, Stdio, strerror } from 'fairlead/pike'
import { closedPort, listening, log, pair, portOf, raw, thrown, turns } from './pike-sockets.js'

describe('reading and writing', () => {
  test('P1 read(n), read(n, 1) and read() give what is there, then "" for ever', async (t) => {
    const [file, peer] = await pair(t)
    await peer.write('hello')
    assert.equal(await file.read(2), 'he')
    assert.equal(await file.read(1024, 1), 'llo')
    await peer.write('abc')
    peer.close('w')
    assert.equal(await file.read(10), 'abc')
    assert.equal(file.errno(), 0)
    assert.deepEqual([await file.read(10), file.errno(), await file.read(), await file.read(1, 1), file.errno()], ['', 0, '', '', 0])
  })

  test('P2 a reset is told once, with 0 and errno 104, and then reads as the end', async (t) => {
    const [file, socket] = await raw(t)
    socket.resetAndDestroy()
    assert.deepEqual([await file.read(1024, 1), file.errno()], [0, 104])
    assert.deepEqual([await file.read(1024, 1), file.errno()], ['', 0])
    assert.deepEqual([await file.write('x'), file.errno()], [-1, 32])
  })

  test('P2 what came before a reset is returned, and read() tells the errno with it', async (t) => {
    const [file, socket] = await raw(t)
    socket.write('hello')
    assert.equal(await file.peek(10), 1)
    const all = file.read()
    await turns()
    socket.resetAndDestroy()
    assert.equal(await all, 'hello')
    assert.equal(file.errno(), 104)
    assert.deepEqual([await file.read(), file.errno()], ['', 0])
  })

  test('P3 writing to a peer that has closed succeeds first and then gives −1 with errno 32', async (t) => {
    const [file, socket] = await raw(t)
    socket.destroy()
    assert.equal(await file.read(), '')
    assert.equal(await file.write('x'), 1)
    let count = 1
    while (count > 0) count = await file.write('x')
    assert.deepEqual([count, file.errno(), strerror(file.errno())], [-1, 32, 'Broken pipe'])
    assert.deepEqual([await file.read(), file.errno()], ['', 0])
  })

  test('what arrived before a write failed can still be read', async (t) => {
    const [file, socket] = await raw(t)
    socket.write('rest')
    assert.equal(await file.peek(10), 1)
    socket.resetAndDestroy()
    let count = 1
    while (count > 0) count = await file.write('x')
    assert.equal(count, -1)
    assert.deepEqual([await file.read(1024, 1), file.errno()], ['rest', 0])
    assert.deepEqual([await file.read(), file.errno(), await file.write('x'), file.errno()], ['', 0, -1, 32])
  })

  test('P4 close("w") ends one direction and gives 0; the other works on', async (t) => {
    const [file, peer] = await pair(t)
    await file.write('ask')
    assert.equal(file.close('w'), 0)
    assert.equal(await peer.read(), 'ask')
    await peer.write('answer')
    assert.equal(await file.read(6), 'answer')
    assert.deepEqual([await file.write('x'), file.errno()], [-1, 32])
    assert.equal(file.close('q'), 0)
    assert.equal(file.close('r'), 1)
    assert.equal(file.is_open(), 0)
  })

  test('P5 close gives 1 each time, and a closed file throws', async (t) => {
    const [file] = await pair(t)
    assert.deepEqual([file.close(), file.close()], [1, 1])
    await assert.rejects(file.read(), thrown(/^File not open\.$/))
    await assert.rejects(file.write('x'), thrown(/^File not open for write\.$/))
    assert.throws(() => file.query_address(), thrown(/Connection not open/))
    assert.equal(file.errno(), 0)
  })

  test('P6 a file that was never opened throws, and close gives 1', async () => {
    const file = new Stdio.File()
    await assert.rejects(file.read(3, 1), thrown(/^File not open\.$/))
    await assert.rejects(file.write('x'), thrown(/^File not open for write\.$/))
    assert.throws(() => file.query_address(), thrown(/Connection not open/))
    assert.equal(file.close(), 1)
  })

  test('P7 write takes arrays, formats, lone percent signs, nothing and bytes, and refuses wide characters', async (t) => {
    const [file, peer] = await pair(t)
    assert.equal(await file.write(['ab', 'c', Uint8Array.of(0x64)]), 4)
    assert.equal(await file.write('%d-%s', 5, 'x'), 3)
    assert.equal(await file.write('100%'), 4)
    assert.equal(await file.write(''), 0)
    assert.equal(await file.write('\xff\x00'), 2)
    await assert.rejects(file.write('\u1234'), thrown(/cannot output wide strings/))
    file.close('w')
    assert.equal(await peer.read(), 'abcd5-x100%\xff\x00')
    await assert.rejects(file.read(-1), thrown(/negative/))
    assert.equal(await file.read(0), '')
  })

  test('every byte survives, in both directions and in any amount', async (t) => {
    const [file, peer] = await pair(t)
    const data = Array.from({ length: 300_000 }, (_, i) => String.fromCharCode((i * 7) % 256)).join('')
    const wrote = file.write(data)
    assert.equal(await peer.read(data.length), data)
    assert.equal(await wrote, data.length)
  })

  test('a file reads for one task after the other', async (t) => {
    const [file, peer] = await pair(t)
    const reads = [file.read(2), file.read(2), file.read(2)]
    await peer.write('aabbcc')
    assert.deepEqual(await Promise.all(reads), ['aa', 'bb', 'cc'])
  })

  test('closing a file wakes whoever reads it, with 0 and errno 9', async (t) => {
    const [file] = await pair(t)
    const read = file.read()
    assert.equal(file.close(), 1)
    assert.deepEqual([await read, file.errno()], [0, 9])
  })
})

describe('connecting', () => {
  test('a port where nobody listens is 0 with errno 111, and a name or service that is none throws', async (t) => {
    const file = new Stdio.File()
    assert.equal(await file.connect('127.0.0.1', await closedPort(t)), 0)
    assert.deepEqual([file.errno(), strerror(file.errno()), file.is_open()], [111, 'Connection refused', 0])
    await assert.rejects(file.read(1), thrown(/^File not open/))
    await assert.rejects(file.connect('nosuch.invalid', 80), thrown(/^Invalid address 'nosuch.invalid'$/))
    await assert.rejects(file.connect('127.0.0.1', 'nosuchservice'), thrown(/^Invalid service 'nosuchservice'$/))
    assert.deepEqual([await file.connect('127.0.0.1', 0), file.errno()], [0, 111])
  })

  test('addresses with NUL, CR or LF and ports beyond 65535 are refused', async () => {
    const file = new Stdio.File()
    for (const host of ['127.0.0.1\0.example', 'a\r\nb', 'a\nb', ''])
      await assert.rejects(file.connect(host, 80), thrown(/^Invalid address/))
    await assert.rejects(file.connect('127.0.0.1', 70_000), thrown(/Invalid port 70000/))
    await assert.rejects(file.connect('127.0.0.1', -1), thrown(/Invalid port -1/))
    assert.deepEqual([await file.connect('/run/a\0b'), file.errno()], [0, 22])
  })

  test('a name that is none throws in any mode, and async_connect calls back with 0', async () => {
    const file = new Stdio.File()
    file.set_nonblocking(() => undefined)
    await assert.rejects(file.connect('nosuch.invalid', 80), thrown(/^Invalid address/))
    const events = log()
    const other = new Stdio.File()
    assert.equal(
      other.async_connect('nosuch.invalid', 80, (ok) => events.add(ok)),
      1,
    )
    assert.throws(() => new Stdio.File().async_connect('127.0.0.1', 'nosuchservice', () => undefined), thrown(/^Invalid service/))
    await events.until(1)
    assert.deepEqual(events.seen, [0])
  })

  test('a file that is closed while it is being connected stays closed', async (t) => {
    const port = await listening(t)
    const number = portOf(port.query_address())
    const file = new Stdio.File()
    const connecting = file.connect('127.0.0.1', number)
    assert.deepEqual([await file.connect('127.0.0.1', number), file.errno()], [0, 106])
    file.close()
    assert.deepEqual([await connecting, file.is_open()], [0, 0])
    const called: unknown[] = []
    assert.equal(
      file.async_connect('127.0.0.1', number, (ok) => called.push(ok)),
      1,
    )
    file.close()
    file.set_nonblocking(() => called.push('read'))
    assert.equal(await file.connect('127.0.0.1', number), 1)
    file.close()
    await turns()
    assert.deepEqual([called, file.is_open()], [[], 0])
  })

  test('connecting twice is 0 with errno 106', async (t) => {
    const [file] = await pair(t)
    assert.deepEqual([await file.connect('127.0.0.1', 80), file.errno()], [0, 106])
  })

  test('the local address can be chosen, and data sent along', async (t) => {
    const port = await listening(t)
    const number = portOf(port.query_address())
    const file = new Stdio.File()
    t.after(() => file.close())
    assert.equal(await file.connect('127.0.0.1', number, '127.0.0.2', 0), 1)
    assert.match(String(file.query_address(1)), /^127\.0\.0\.2 \d+$/)
    const first = await port.accept()
    assert.ok(first)
    first.close()
    const other = new Stdio.File()
    t.after(() => other.close())
    assert.equal(await other.connect('127.0.0.1', String(number), 'hello'), '')
    const peer = await port.accept()
    assert.ok(peer)
    assert.equal(await peer.read(5), 'hello')
    peer.close()
  })

  test('open_socket makes an object that has no address yet', async (t) => {
    const file = new Stdio.File()
    assert.equal(file.open_socket(), 1)
    assert.deepEqual([file.is_open(), file.query_address(), file.query_address(1)], [1, 0, '0.0.0.0 0'])
    const port = await listening(t)
    assert.equal(await file.connect('127.0.0.1', portOf(port.query_address())), 1)
    file.close()
    assert.equal(file.is_open(), 0)
  })

  test('P19 async_connect calls back with 1 or 0 and its arguments, never at once', async (t) => {
    const port = await listening(t)
    const events = log()
    const file = new Stdio.File()
    t.after(() => file.close())
    assert.equal(
      file.async_connect('127.0.0.1', portOf(port.query_address()), (ok, ...args) => events.add(ok, ...args), 'a', 2),
      1,
    )
    assert.deepEqual(events.seen, [])
    await events.until(1)
    const refused = new Stdio.File()
    refused.async_connect('127.0.0.1', await closedPort(t), (ok) => events.add(ok, refused.errno()))
    await events.until(2)
    assert.deepEqual(events.seen, [
      [1, 'a', 2],
      [0, 111],
    ])
  })

  test('P15 addresses are an IP address and a port, and 0 for what has none', async (t) => {
    const [file, peer] = await pair(t)
    assert.match(String(file.query_address()), /^127\.0\.0\.1 \d+$/)
    assert.equal(file.query_address(), peer.query_address(1))
    assert.equal(file.query_address(true), peer.query_address())
    const both = await listening(t, undefined, '::')
    assert.match(String(both.query_address()), /^:: \d+$/)
    for (const host of ['127.0.0.1', '::1']) {
      const client = new Stdio.File()
      assert.equal(await client.connect(host, portOf(both.query_address())), 1)
      const server = await both.accept()
      assert.ok(server)
      assert.equal(String(server.query_address()).split(' ')[0], host)
      client.close()
      server.close()
    }
    const pipe = new Stdio.File()
    const end = pipe.pipe()
    assert.deepEqual([pipe.query_address(), end.query_address(1)], [0, 0])
    pipe.close()
    end.close()
  })
})

describe('ports', () => {
  test('a port in use is 0 with errno 98, a foreign address 99', async (t) => {
    const port = await listening(t)
    const other = new Stdio.Port()
    assert.deepEqual([await other.bind(portOf(port.query_address()), 0, '127.0.0.1'), other.errno()], [0, 98])
    assert.deepEqual([await other.bind(0, 0, '192.0.2.1'), other.errno()], [0, 99])
    await assert.rejects(other.bind(0, 0, 'nosuch.invalid'), thrown(/^Invalid address/))
    await assert.rejects(other.accept(), thrown(/^port->accept\(\): Port not open\.$/))
    assert.throws(() => other.query_address(), thrown(/not bound yet/))
  })

  test('an object that was not bound listens nowhere', async () => {
    const port = new Stdio.Port()
    assert.throws(() => port.query_address(), thrown(/not bound yet/))
    port.close()
  })

  test('accept of a port that is closed meanwhile gives 0', async (t) => {
    const port = await listening(t)
    const accepting = port.accept()
    port.close()
    assert.deepEqual([await accepting, port.errno()], [0, 9])
  })

  test('the accept callback gets the id, and accept does not wait', async (t) => {
    const events = log()
    const port = new Stdio.Port()
    t.after(() => port.close())
    port.set_id('me')
    const accepted = async (id: unknown): Promise<void> => {
      const file = await port.accept()
      assert.ok(file)
      events.add(id, await file.read(1))
      file.close()
    }
    assert.equal(await port.bind(0, accepted, '127.0.0.1'), 1)
    assert.deepEqual([await port.accept(), port.errno(), port.query_id()], [0, 11, 'me'])
    for (const letter of 'ab') {
      const file = new Stdio.File()
      await file.connect('127.0.0.1', portOf(port.query_address()))
      await file.write(letter)
      file.close()
    }
    await events.until(2)
    assert.deepEqual(events.seen, [
      ['me', 'a'],
      ['me', 'b'],
    ])
  })

  test('binding again moves the port', async (t) => {
    const port = await listening(t)
    const before = port.query_address()
    assert.equal(await port.bind(0, 0, '127.0.0.1'), 1)
    assert.notEqual(port.query_address(), before)
    const file = new Stdio.File()
    assert.equal(await file.connect('127.0.0.1', portOf(before)), 0)
  })

  test('P18 UNIX sockets: both ways, half close, errno 98 and 111 of what is stale, 2 and 22', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'fairlead-pike-'))
    t.after(() => rmSync(folder, { recursive: true, force: true }))
    const path = join(folder, 's')
    const port = new Stdio.Port()
    t.after(() => port.close())
    assert.equal(await port.bind_unix(path), 1)
    assert.equal(port.query_address(), 0)
    const file = new Stdio.File()
    assert.equal(await file.connect_unix(path), 1)
    const peer = await port.accept()
    assert.ok(peer)
    await file.write('hello')
    file.close('w')
    assert.equal(await peer.read(), 'hello')
    await peer.write('there')
    peer.close()
    assert.equal(await file.read(), 'there')
    assert.equal(file.query_address(), 0)
    file.close()
    const stale = join(folder, 'stale')
    linkSync(path, stale)
    await port[Symbol.asyncDispose]()
    assert.deepEqual([await port.bind(stale), port.errno()], [0, 98])
    assert.deepEqual([await file.connect(stale), file.errno()], [0, 111])
    assert.deepEqual([await file.connect(path), file.errno()], [0, 2])
    assert.deepEqual([await file.connect(join(folder, 'x'.repeat(200))), file.errno()], [0, 22])
    assert.deepEqual([await port.bind(join(folder, 'x'.repeat(200))), port.errno()], [0, 22])
    assert.equal(rm(stale), 1)
  })
})

describe('callbacks', () => {
  test('P8 a file that does not block gives what is there, errno 11 for nothing, and short counts', async (t) => {
    const [file, peer] = await pair(t)
    file.set_nonblocking()
    assert.deepEqual([await file.read(10), file.errno()], [0, 11])
    await peer.write('ab')
    assert.equal(await file.peek(5), 1)
    assert.equal(await file.read(10), 'ab')
    const big = 'x'.repeat(10_000_000)
    const first = await file.write(big)
    assert.ok(first > 0 && first < big.length, String(first))
    let count = first
    while (count > 0) count = await file.write(big)
    assert.deepEqual([count, file.errno()], [0, 11])
    peer.close()
    assert.equal(await file.peek(5), 1)
    assert.notEqual(await file.read(10), 'ab')
  })

  test('P8 at the end a file that does not block gives ""', async (t) => {
    const [file, peer] = await pair(t)
    file.set_nonblocking()
    peer.close()
    assert.equal(await file.peek(5), 1)
    assert.deepEqual([await file.read(10), file.errno(), await file.peek(0, 1), file.errno()], ['', 0, -1, 32])
  })

  test('P9 data come before the close callback, in pieces of at most 65536, and that comes once', async (t) => {
    const [file, peer] = await pair(t)
    const events = log()
    file.set_id('me')
    let text = ''
    const read = (id: unknown, data: string) => {
      assert.ok(data.length <= Stdio.DATA_CHUNK_SIZE)
      if (text === '') events.add('read', id)
      text += data
    }
    file.set_nonblocking(read, 0, (id: unknown) => events.add('close', id, file.errno()))
    const sent = 'x'.repeat(500_000)
    await peer.write(sent)
    peer.close()
    await events.until(2)
    await turns()
    assert.equal(text.length, sent.length)
    assert.deepEqual(events.seen, [
      ['read', 'me'],
      ['close', 'me', 0],
    ])
  })

  test('P9 a reset comes to the close callback with errno 104', async (t) => {
    const [file, socket] = await raw(t)
    const events = log()
    file.set_nonblocking(
      (_id, data) => events.add(data),
      0,
      () => events.add('close', file.errno()),
    )
    socket.write('hello')
    await events.until(1)
    socket.resetAndDestroy()
    await events.until(2)
    await turns()
    assert.deepEqual(events.seen, ['hello', ['close', 104]])
  })

  test('P10 a refused connection calls close, with errno 111, and then write, once each', async (t) => {
    const number = await closedPort(t)
    const events = log()
    const file = new Stdio.File()
    file.open_socket()
    const callbacks = [() => events.add('read'), () => events.add('write'), () => events.add('close', file.errno())] as const
    file.set_nonblocking(...callbacks)
    assert.equal(await file.connect('127.0.0.1', number), 1)
    await events.until(2)
    await turns()
    assert.deepEqual(events.seen, [['close', 111], 'write'])
  })

  test('P10 without a read callback the close callback is never called', async (t) => {
    const [file, peer] = await pair(t)
    const events = log()
    file.set_nonblocking(0, 0, () => events.add('close'))
    await peer.write('hello')
    peer.close()
    assert.equal(await file.peek(5), 1)
    await turns()
    assert.deepEqual(events.seen, [])
    const refused = new Stdio.File()
    refused.set_nonblocking(
      0,
      () => events.add('write'),
      () => events.add('close'),
    )
    assert.equal(await refused.connect('127.0.0.1', await closedPort(t)), 1)
    await events.until(1)
    await turns()
    assert.deepEqual(events.seen, ['write'])
  })

  test('P10 the write callback comes once, and again after something was written', async (t) => {
    const [file] = await pair(t)
    const events = log()
    file.set_nonblocking(0, () => events.add('write'))
    await events.until(1)
    await turns()
    assert.equal(events.seen.length, 1)
    assert.equal(await file.write('x'), 1)
    await events.until(2)
    await turns()
    assert.equal(events.seen.length, 2)
  })

  test('a program that writes whenever it can sends everything in order', async (t) => {
    const [file, peer] = await pair(t)
    let left = Array.from({ length: 3_000_000 }, (_, i) => String.fromCharCode(i % 251)).join('')
    const sent = left
    file.set_nonblocking(0, async () => {
      left = left.slice(await file.write(left))
      if (left === '') file.close()
    })
    assert.equal(await peer.read(), sent)
  })

  test("P11 one's own close calls nothing, and after the peer's end one can still write", async (t) => {
    const [file, peer] = await pair(t)
    const events = log()
    file.set_nonblocking(
      () => events.add('read'),
      0,
      () => events.add('close'),
    )
    peer.close('w')
    await events.until(1)
    assert.deepEqual([file.is_open(), await file.write('late')], [1, 4])
    assert.equal(await peer.read(4), 'late')
    const [mine] = await pair(t)
    mine.set_nonblocking(
      () => events.add('read'),
      0,
      () => events.add('close'),
    )
    mine.close()
    await turns()
    assert.deepEqual(events.seen, ['close'])
  })

  test('a program that asks again after the end is told again, and does not stop the others', async (t) => {
    const [file, peer] = await pair(t)
    let count = 0
    const again = () => {
      count++
      file.set_nonblocking(() => undefined, 0, again)
    }
    again()
    peer.close()
    while (count < 5) await turns(1)
    file.close()
    const last = count
    await turns()
    assert.equal(count, last)
  })

  test('P12 set_blocking forgets callbacks, set_blocking_keep_callbacks does not, and the id is 0', async (t) => {
    const [file, peer] = await pair(t)
    const read = () => undefined
    assert.equal(file.query_id(), 0)
    file.set_nonblocking(read, 0, 0)
    assert.deepEqual(file.query_callbacks(), [read, 0, 0, 0, 0])
    assert.notEqual(file.mode() & Stdio.PROP_IS_NONBLOCKING, 0)
    file.set_blocking_keep_callbacks()
    assert.deepEqual([file.query_read_callback(), file.mode() & Stdio.PROP_IS_NONBLOCKING], [read, 0])
    file.set_blocking()
    assert.deepEqual(file.query_callbacks(), [0, 0, 0, 0, 0])
    await peer.write('x')
    assert.equal(await file.read(1), 'x')
  })

  test('a callback that is taken away leaves what comes then to read', async (t) => {
    const [file, peer] = await pair(t)
    const events = log()
    file.set_nonblocking((_id, data) => {
      events.add(data)
      file.set_blocking()
    })
    await peer.write('first')
    await events.until(1)
    await peer.write('second')
    assert.equal(await file.read(6), 'second')
    file.set_read_callback((_id, data) => events.add(data))
    await peer.write('third')
    await events.until(2)
    assert.deepEqual(events.seen, ['first', 'third'])
  })

  test('a callback that throws is reported, and the file lives on', async (t) => {
    const [file, peer] = await pair(t)
    const events = log()
    const before = master().handle_error
    t.after(() => (master().handle_error = before))
    master().handle_error = (error) => events.add('reported', (error as Error).message)
    file.set_nonblocking((_id, data) => {
      if (data === 'bad') throw new Error('no')
      if (data === 'late') return Promise.reject(new Error('too late'))
      events.add(data)
      return undefined
    })
    for (const [i, data] of ['bad', 'late', 'good'].entries()) {
      await peer.write(data)
      await events.until(i + 1)
    }
    assert.deepEqual(events.seen, [['reported', 'no'], ['reported', 'too late'], 'good'])
    assert.equal(file.is_open(), 1)
  })

  test('the next data wait for a callback that takes its time', async (t) => {
    const [file, peer] = await pair(t)
    const events = log()
    let busy = false
    file.set_nonblocking(async (_id, data: string) => {
      assert.equal(busy, false)
      busy = true
      await turns(3)
      busy = false
      for (const letter of data) events.add(letter)
    })
    for (const letter of 'abc') await peer.write(letter)
    await events.until(3)
    assert.deepEqual(events.seen, ['a', 'b', 'c'])
  })

  test('P13 there are no urgent data: read_oob gives "", write_oob −1 with errno 95', async (t) => {
    const [file] = await pair(t)
    assert.deepEqual([await file.read_oob(), file.errno(), await file.write_oob('x'), file.errno()], ['', 0, -1, 95])
  })
})

describe('copies and pipes', () => {
  test('a copy lives on when the original is closed, and shares what is unread', async (t) => {
    const [file, peer] = await pair(t)
    const copy = new Stdio.FILE()
    copy.assign(file)
    await peer.write('one\ntwo\n')
    assert.equal(await copy.gets(), 'one')
    assert.equal(await file.read(2), 'tw')
    assert.equal(file.close(), 1)
    assert.equal(await copy.gets(), 'o')
    const third = copy.dup()
    assert.equal(copy.close(), 1)
    assert.equal(await third.write('x'), 1)
    assert.equal(await peer.read(1), 'x')
    third.close()
    assert.equal(await peer.read(), '')
  })

  test('proxy copies one file to another in the background', async (t) => {
    const [file, peer] = await pair(t)
    const [sink, far] = await pair(t)
    sink.proxy(file)
    await peer.write('through')
    assert.equal(await far.read(7), 'through')
    peer.close()
    sink.close()
    assert.equal(await far.read(), '')
  })

  test('pipe gives two ends, each with its own end of stream', async () => {
    const file = new Stdio.File()
    const other = file.pipe(Stdio.PROP_BIDIRECTIONAL)
    await file.write('ab')
    file.close('w')
    assert.equal(await other.read(), 'ab')
    await other.write('cd')
    other.close()
    assert.equal(await file.read(), 'cd')
    file.close()
  })
})

describe('Stdio.FILE', () => {
  async function holding(text: string): Promise<Stdio.FILE> {
    const file = new Stdio.FILE()
    const other = file.pipe()
    await other.write(text)
    other.close()
    return file
  }
  const lines = async (text: string): Promise<(string | 0)[]> => {
    await using file = await holding(text)
    const all: (string | 0)[] = []
    do all.push(await file.gets())
    while (all.at(-1) !== 0)
    return all
  }

  test('P14 gets takes the \\n away alone, and the tail once', async () => {
    assert.deepEqual(await lines('one\ntwo\r\nthree'), ['one', 'two\r', 'three', 0])
    assert.deepEqual(await lines('\n\nx\r\r\n'), ['', '', 'x\r\r', 0])
    assert.deepEqual(await lines('a\0b\n'), ['a\0b', 0])
    assert.deepEqual(await lines(''), [0])
  })

  test('gets(1) gives whole lines alone and leaves the tail', async () => {
    await using file = await holding('one\ntwo')
    assert.deepEqual([await file.gets(1), await file.gets(1), await file.read()], ['one', 0, 'two'])
  })

  test('ngets, getchar, unread, ungets and peek share one buffer', async () => {
    await using file = await holding('one\ntwo\nthree\nfour')
    assert.deepEqual(await file.ngets(2), ['one', 'two'])
    assert.equal(await file.getchar(), 't'.charCodeAt(0))
    file.unread('T')
    file.ungets('zz')
    assert.equal(await file.peek(), 1)
    assert.equal(await file.gets(), 'zz')
    assert.equal(await file.read(6), 'Three\n')
    assert.deepEqual([await file.ngets(), await file.ngets(), await file.getchar()], [['four'], [], -1])
  })

  test('lines can be looped over, also with any run of \\r and \\n between them', async () => {
    await using file = await holding('a\r\n\r\nb\n')
    const seen: unknown[] = []
    for await (const pair of file.line_iterator(1)) seen.push(pair)
    assert.deepEqual(seen, [
      [0, 'a'],
      [1, 'b'],
    ])
    await using other = await holding('a\r\n\nb')
    const all: string[] = []
    for await (const line of other) all.push(line)
    assert.deepEqual(all, ['a\r', '', 'b'])
  })

  test('a long line is read whole, in time in proportion to its length', async () => {
    const line = 'x'.repeat(1_000_000)
    assert.deepEqual(await lines(`${line}\n`), [line, 0])
  })

  test('set_charset makes text of bytes, printf writes by a format, and set_nonblocking throws', async () => {
    const file = new Stdio.FILE()
    const other = new Stdio.FILE()
    other.assign(file.pipe())
    file.set_charset('utf-8')
    other.set_charset('utf-8')
    assert.equal(await file.printf('%s\n', 'größe \u1234'), 12)
    assert.equal(await other.gets(), 'größe \u1234')
    assert.throws(() => file.set_charset('nonsense'), thrown(/Unknown charset/))
    assert.throws(() => file.set_nonblocking(), thrown(/buffered files/))
    await assert.rejects(new Stdio.FILE().gets(), thrown(/^File not open\.$/))
    file.close()
    other.close()
  })
})

describe('many at once', () => {
  test('growing numbers of files exchange random amounts with callbacks, every byte in order, and close after all of it', async (t) => {
    const port = new Stdio.Port()
    t.after(() => port.close())
    let state = 42
    const random = (below: number) => (state = (state * 1_103_515_245 + 12_345) & 0x7fffffff) % below
    const text = (length: number, shift: number) => Array.from({ length }, (_, i) => String.fromCharCode((i * 7 + shift) & 255)).join('')
    /** Sends a text piece by piece as it may, takes all that comes, and ends when both is done. */
    const exchange = (file: Stdio.File, out: string): Promise<string> =>
      new Promise((resolve) => {
        let [left, got] = [out, '']
        file.set_nonblocking(
          (_id, data) => {
            got += data
          },
          async () => {
            if (left === '') return void file.set_write_callback(0)
            left = left.slice(Math.max(0, await file.write(left.slice(0, 1 + random(40_000)))))
            if (left === '') file.close('w')
          },
          () => {
            assert.equal(file.errno(), 0)
            resolve(got)
          },
        )
      })
    const accepted = new Map<number, Promise<string>>()
    const came = async (): Promise<void> => {
      const file = await port.accept()
      assert.ok(file)
      t.after(() => file.close())
      const number = portOf(file.query_address())
      accepted.set(number, exchange(file, text(number % 50_000, number)))
    }
    await port.bind(0, came, '127.0.0.1')
    for (const count of [1, 3, 8, 20]) {
      const all = Array.from({ length: count }, async (_, i) => {
        const file = new Stdio.File()
        t.after(() => file.close())
        assert.equal(await file.connect('127.0.0.1', portOf(port.query_address())), 1)
        const number = portOf(file.query_address(1))
        const out = text(random(300_000), i)
        const got = await exchange(file, out)
        assert.ok(got === text(number % 50_000, number))
        assert.ok((await accepted.get(number)) === out)
      })
      await Promise.all(all)
    }
  })
})
