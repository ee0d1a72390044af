// Moments between two states, each as pike8.0 was seen to have it: one direction closed, not connected yet, nothing there yet,
// callbacks whose id was never set; and what is refused.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Concurrent, errno, file_stat, rm, sprintf, SSL, Stdio } from 'fairlead/pike'
import { listening, log, pair, portOf, raw, thrown, turns } from './pike-sockets.js'

async function lines(text: string): Promise<Stdio.FILE> {
  const file = new Stdio.FILE()
  const other = file.pipe()
  await other.write(text)
  other.close()
  return file
}

describe('between two states', () => {
  test('P4 after close("r") reading gives the end, and after close("w") writing nothing is 0', async (t) => {
    const [file, peer] = await pair(t)
    assert.equal(file.close('r'), 0)
    assert.deepEqual([await file.read(1), await file.read(1, 1), await file.read(), file.errno()], ['', '', '', 0])
    assert.equal(await file.write('x'), 1)
    peer.close('w')
    assert.deepEqual([await peer.write(''), peer.errno(), await peer.write('x'), peer.errno()], [0, 0, -1, 32])
  })

  test('a socket that is not connected is 0 with errno 107 to read, −1 with 32 to write', async () => {
    const file = new Stdio.File()
    file.open_socket()
    assert.deepEqual([await file.read(1), file.errno(), await file.write('x'), file.errno()], [0, 107, -1, 32])
    assert.deepEqual([file.query_address(), file.errno()], [0, 107])
    assert.notEqual(file.mode(), 0)
    file.close()
    await assert.rejects(file.read(1), thrown(/^File not open\.$/))
  })

  test('P8 what arrived while nobody looked is there at the first read that does not block', async (t) => {
    const [file, peer] = await pair(t)
    file.set_nonblocking()
    await peer.write('hello')
    await peer.write(' you')
    await turns()
    assert.deepEqual([await file.read(2), file.errno()], ['he', 0])
    assert.deepEqual([await file.read(), file.errno(), await file.read(1), file.errno()], ['llo you', 0, 0, 11])
    assert.deepEqual([await file.read(0), file.errno()], ['', 0])
  })

  test('peek tells a reset, which reads as the end then', async (t) => {
    const [file, socket] = await raw(t)
    socket.resetAndDestroy()
    assert.deepEqual([await file.peek(5), file.errno()], [-1, 104])
    assert.deepEqual([await file.peek(5, 1), file.errno()], [-1, 32])
    assert.deepEqual([await file.read(5), file.errno(), await file.write('x'), file.errno()], ['', 0, -1, 32])
  })

  test('P18 what has no address says why: errno 97', async () => {
    const file = new Stdio.File()
    const other = file.pipe()
    assert.deepEqual([file.query_address(), file.errno(), other.query_address(1), other.errno()], [0, 97, 0, 97])
    file.close()
    other.close()
  })

  test('P7 an array and arguments are a format of all pieces', async () => {
    const file = new Stdio.File()
    const other = file.pipe()
    assert.equal(await file.write(['%s-', '%s'], 'a', 'b'), 3)
    assert.equal(await other.read(10, 1), 'a-b')
    await assert.rejects(file.write(5 as never), thrown(/^Bad argument 1 to write\(\)\. Expected string\|array\(string\)\.$/))
    file.close()
    other.close()
  })
})

describe('callbacks', () => {
  test('get the file where no id was set, and what was set otherwise', async (t) => {
    const [file, peer] = await pair(t)
    const events = log()
    const read = (id: unknown, data: string): void => {
      events.add(id === file ? 'file' : id, data)
      file.set_id('me')
    }
    file.set_nonblocking(
      read,
      (id: unknown) => events.add('write', id === file),
      (id: unknown) => events.add('close', id),
    )
    assert.equal(file.query_id(), 0)
    await events.until(1)
    await peer.write('one')
    await events.until(2)
    await peer.write('two')
    await events.until(3)
    peer.close()
    await events.until(4)
    assert.deepEqual(events.seen, [
      ['write', true],
      ['file', 'one'],
      ['me', 'two'],
      ['close', 'me'],
    ])
  })

  test('may read the rest themselves, and throw in close, after which the file is open', async (t) => {
    const [file, peer] = await pair(t)
    const events = log()
    file.set_nonblocking(
      async (_id, data) => {
        const more = await file.read(3)
        events.add(data, more, file.errno())
      },
      0,
      () => events.add('close'),
    )
    await peer.write('hello')
    await events.until(1)
    assert.deepEqual(events.seen, [['hello', 0, 11]])
    peer.close()
    await events.until(2)
    assert.deepEqual([events.seen[1], file.is_open()], ['close', 1])
  })

  test('of a closed direction are not called', async (t) => {
    const [file, peer] = await pair(t)
    const events = log()
    const all = [() => events.add('read'), () => events.add('write'), () => events.add('close')] as const
    file.close('r')
    file.set_nonblocking(all[0], 0, all[2])
    await peer.write('x')
    peer.close('w')
    await turns()
    assert.deepEqual(events.seen, [])
    const [other, its] = await pair(t)
    other.close('w')
    other.set_nonblocking(...all)
    its.close()
    await events.until(1)
    await turns()
    assert.deepEqual(events.seen, ['close'])
  })
})

describe('lines and formats', () => {
  test('ngets(n) is 0 at the end, ngets() an empty array, ngets(0) everything', async () => {
    const file = await lines('a\nb\nc')
    assert.deepEqual([await file.ngets(2), await file.ngets(1, 1), await file.ngets(5), await file.ngets(5)], [['a', 'b'], 0, ['c'], 0])
    assert.deepEqual(await file.ngets(), [])
    assert.deepEqual(await (await lines('a\nb\nc')).ngets(0), ['a', 'b', 'c'])
  })

  test('bytes that are no UTF-8 throw', async () => {
    const file = await lines('\xc3\xa4\n\xff\n')
    file.set_charset('utf-8')
    assert.equal(await file.gets(), 'ä')
    await assert.rejects(file.gets(), thrown(/utf-8/))
  })

  test('formats that are odd', () => {
    const calls: [expected: string, format: string, ...args: unknown[]][] = [
      ['*********x|', "%'*'10s|", 'x'],
      ['a....|', "%-'.'5s|", 'a'],
      ['00042|', "%'0'5d|", 42],
      ['---------x|', '%~10s|', '-', 'x'],
      ['ab|', '%@s|', ['a', 'b']],
      ['00000005|', '%-08d|', 5],
      ['    a|', '%^5s|', 'a'],
      ['5', '%_d', 5],
      ['a', '%!s', 'a'],
      ['2 0.2 0.12 4 -2', '%.0f %.1f %.2f %.0f %.0f', 2.5, 0.25, 0.125, 3.5, -2.5],
      ['99999999999999991611392.0', '%.1f', 1e23],
      ['18446744073709551615', '%u', -1],
      ['1180591620717411303424', '%d', 1n << 70n],
      ['A', '%1c', 321],
      ['"\\u1234\\0a" "\\u00001"', '%O %q', '\u1234\0a', '\x001'],
      ['', '%n'],
      ['int string array', '%t %t %t', 1, 'a', []],
      ['?\x80\0\0?\xf0\0\0\0\0\0\0', '%F%8F', 1, 1],
    ]
    assert.deepEqual(
      calls.map(([, format, ...args]) => sprintf(format, ...args)),
      calls.map(([expected]) => expected),
    )
    const wrong: [message: RegExp, format: string, ...args: unknown[]][] = [
      [/argument 2: expected string, got int\.$/, '%s', 5],
      [/argument 2: expected integer, got float\.$/, '%d', 1.9],
      [/argument 2: expected integer, got float\.$/, '%d', Number.NaN],
      [/argument 2: expected string, got int\.$/, '%q', 5],
      [/Not enough arguments to \[5\]\.$/, '%[5]s', 'a'],
      [/No last argument\.$/, '%<s', 'a'],
      [/Illegal width -5\.$/, '%*s', -5, 'a'],
      [/Illegal width/, '%99999999999s', 'a'],
      [/too large\.$/, '%H', 'x'.repeat(300)],
    ]
    for (const [message, format, ...args] of wrong) assert.throws(() => sprintf(format, ...args), thrown(message), format)
    assert.equal(sprintf('%.120f', 1.5).length, 122)
  })
})

describe('what is refused', () => {
  test('CR, LF and NUL in the path of a UNIX socket', async () => {
    for (const path of ['/tmp/a\rb', '/tmp/a\nb', '/tmp/a\0b']) {
      const [file, port, ssl] = [new Stdio.File(), new Stdio.Port(), new SSL.Port(new SSL.Context())]
      assert.deepEqual([await file.connect_unix(path), file.errno(), await file.connect(path), file.errno()], [0, 22, 0, 22])
      assert.deepEqual([await port.bind_unix(path), port.errno(), await ssl.bind_unix(path), ssl.errno()], [0, 22, 0, 22])
    }
    assert.deepEqual([file_stat('/tmp\0x'), errno(), rm('/tmp\0x'), errno()], [0, 2, 0, 2])
  })

  test('a local address that is none, by its own name', async () => {
    const file = new Stdio.File()
    for (const address of ['127.0.0.1\0', '127.0.0.1\r\n', '127.0.0.1:5/x?y', 'nosuch.invalid']) {
      const named = (error: unknown): boolean => thrown(/^Invalid address/)(error) && (error as Error).message.includes(address)
      assert.throws(() => file.open_socket(0, address), named)
      await assert.rejects(file.connect('127.0.0.1', 1, address, 0), named)
    }
    assert.equal(file.is_open(), 0)
  })

  test('datagrams: port 0, lengths below 0, and settings out of range', async (t) => {
    const udp = new Stdio.UDP()
    t.after(() => udp.close())
    assert.deepEqual([udp.enable_broadcast(), udp.errno()], [-1, 9])
    await udp.bind(0, '127.0.0.1')
    assert.deepEqual([await udp.send('127.0.0.1', 0, 'x'), udp.errno()], [-1, 22])
    await assert.rejects(udp.read(-1, '.', 1), thrown(/^Bad argument 1 to read/))
    assert.deepEqual([udp.set_multicast_ttl(300), udp.errno()], [-1, 22])
    assert.deepEqual([udp.enable_multicast('127.0.0.1\0'), udp.errno()], [-1, 22])
  })

  test('a second result: those of several futures hold failures, too', async () => {
    const any = new Concurrent.Promise<unknown>()
    any.depend(Concurrent.reject(1), Concurrent.resolve(2)).any_results()
    assert.deepEqual(await any.get(), [1, 2])
  })

  test('the accept callback gets 0 unless an id was set', async (t) => {
    const events = log()
    const port = await listening(t, (id: unknown) => events.add(id))
    const file = new Stdio.File()
    await file.connect('127.0.0.1', portOf(port.query_address()))
    await events.until(1)
    assert.deepEqual(events.seen, [0])
    file.close()
  })
})
