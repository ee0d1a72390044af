// The talk service: the room as a state machine, and the same on connections inside the process.

import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import fc from 'fast-check'
import { type Connection, type Datagram, type DatagramEndpoint, type DatagramSocket, Network } from 'fairlead'
import { memory, settle, VirtualClock } from 'fairlead/testing'
import { type Door, type Guest, LONGEST_LINE, Room } from '#src/cli/room.js'
import { talk } from '#src/cli/talk.js'
import { DatagramTalk, type DatagramTalkOptions } from '#src/cli/talk-datagrams.js'

/** A room with a clock that is moved by hand, and guests whose doors keep what was sent. */
class Stage {
  now = 0
  readonly room: Room = new Room(() => this.now)

  enter(transport = 'TCP'): { guest: Guest; heard: string[]; closed: () => boolean } {
    const heard: string[] = []
    let closed = false
    const door: Door = { send: (text) => heard.push(text), close: () => (closed = true) }
    const guest = this.room.enter(transport, door)
    return { guest, heard, closed: () => closed }
  }
}

const last = (heard: readonly string[]): string | undefined => heard.at(-1)

describe('the room', () => {
  test('a line from one goes to all others, with the name, and not back', () => {
    const stage = new Stage()
    const [a, b, c] = [stage.enter(), stage.enter('TLS'), stage.enter('UNIX')]
    const before = a.heard.length
    a.guest.line('hello there')
    assert.equal(a.heard.length, before)
    assert.deepEqual([last(b.heard), last(c.heard)], ['guest-1: hello there', 'guest-1: hello there'])
  })

  test('coming, renaming and leaving are told to the others', () => {
    const stage = new Stage()
    const [a, b] = [stage.enter(), stage.enter('UNIX')]
    assert.equal(last(a.heard), '* guest-2 came in over UNIX')
    b.guest.line('/name Grace')
    assert.deepEqual([last(a.heard), last(b.heard)], ['* guest-2 is Grace now', '* You are Grace now.'])
    b.guest.left()
    assert.equal(last(a.heard), '* Grace left')
    assert.equal(stage.room.size, 1)
  })

  test('/who lists names and transports, /help the commands, /quit says goodbye and closes', () => {
    const stage = new Stage()
    const [a, b] = [stage.enter(), stage.enter('TLS')]
    a.guest.line('/who')
    assert.equal(last(a.heard), '* Here: guest-1 (TCP), guest-2 (TLS)')
    a.guest.line('/help')
    assert.match(a.heard.join('\n'), /\/name NAME/)
    a.guest.line('/quit')
    assert.deepEqual([last(a.heard), a.closed(), last(b.heard)], ['* Goodbye.', true, '* guest-1 left'])
    a.guest.line('still here?')
    assert.equal(last(b.heard), '* guest-1 left')
  })

  test('an unknown command is answered, //text says a line that begins with /', () => {
    const stage = new Stage()
    const [a, b] = [stage.enter(), stage.enter()]
    a.guest.line('/whom')
    assert.match(last(a.heard) ?? '', /no command \/whom; \/help/)
    a.guest.line('//etc/passwd')
    assert.equal(last(b.heard), 'guest-1: /etc/passwd')
  })

  for (const [name, why] of [
    ['', /say which/],
    ['a\u001b[31m', /letters, digits/],
    ['\u202enimda', /letters, digits/],
    ['two words', /letters, digits/],
    ['x'.repeat(25), /at most 24/],
    ['GUEST-2', /somebody here has that name/],
    ['ｇuest-2', /somebody here has that name/],
  ] as const) {
    test(`the name ${JSON.stringify(name)} is refused, and nobody else hears of it`, () => {
      const stage = new Stage()
      const [a, b] = [stage.enter(), stage.enter()]
      const before = b.heard.length
      a.guest.line(`/nick ${name}`)
      assert.match(last(a.heard) ?? '', why)
      assert.match(last(a.heard) ?? '', /^\* You are still guest-1/)
      assert.equal(b.heard.length, before)
    })
  }

  test('names of other scripts are names', () => {
    const stage = new Stage()
    const a = stage.enter()
    a.guest.line('/name Zoë-李')
    assert.equal(a.guest.name, 'Zoë-李')
  })

  test('whatever one sends, others get one line of printable characters each (attack 14)', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary', maxLength: 60 }), { maxLength: 20 }), (lines) => {
        const stage = new Stage()
        const [a, b] = [stage.enter(), stage.enter()]
        for (const line of lines) {
          stage.now += 1_000
          a.guest.line(line)
        }
        for (const line of [...a.heard, ...b.heard]) assert.doesNotMatch(line, /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/)
      }),
    )
  })

  test('a flood is refused politely, once; a pause lets lines through again', () => {
    const stage = new Stage()
    const [a, b] = [stage.enter(), stage.enter()]
    const before = [a.heard.length, b.heard.length]
    for (let i = 0; i < 60; i++) a.guest.line(`line ${i}`)
    assert.equal(b.heard.length - (before[1] as number), 20)
    assert.equal(a.heard.length - (before[0] as number), 1)
    assert.match(last(a.heard) ?? '', /Slower, please/)
    stage.now += 500
    a.guest.line('better')
    assert.equal(last(b.heard), 'guest-1: better')
  })

  test('who floods on is shown out', () => {
    const stage = new Stage()
    const [a, b] = [stage.enter(), stage.enter()]
    for (let i = 0; i < 200; i++) a.guest.line('more')
    assert.deepEqual([last(a.heard), a.closed(), last(b.heard)], ['* Too many lines. Goodbye.', true, '* guest-1 left'])
  })

  test('a crowd whose connections break at the first word that is said to them leaves, and the room goes on', () => {
    const stage = new Stage()
    const a = stage.enter()
    let broken = false
    for (let i = 0; i < 20_000; i++) {
      // The driver tells of a broken connection in the very write that finds it.
      const door: Door = { send: () => broken && guest.left(), close: () => undefined }
      const guest = stage.room.enter('TCP', door)
    }
    broken = true
    a.guest.line('is anybody there?')
    assert.equal(stage.room.size, 1)
    a.guest.line('/who')
    assert.equal(last(a.heard), '* Here: guest-1 (TCP)')
  })

  test('coming and going is no way around the limit on lines', () => {
    const stage = new Stage()
    const a = stage.enter()
    for (let i = 0; i < 500; i++) {
      const { guest } = stage.enter()
      for (let line = 0; line < 20; line++) guest.line('buy this')
      guest.left()
      stage.now += 10
    }
    const bought = a.heard.filter((line) => line.endsWith('buy this')).length
    assert.ok(bought <= 20 * (20 + 5 * 4), `${bought} lines`)
  })

  test('who comes while a crowd comes and goes can speak a moment later', () => {
    const stage = new Stage()
    const a = stage.enter()
    for (let i = 0; i < 500; i++) stage.enter().guest.left()
    const { guest } = stage.enter()
    stage.now += 1_000
    guest.line('may I?')
    assert.match(last(a.heard) ?? '', /: may I\?$/)
  })

  test('a crowd that comes, is renamed and goes is not all that the others hear of', () => {
    const stage = new Stage()
    const a = stage.enter()
    for (let i = 0; i < 1_000; i++) {
      const { guest } = stage.enter()
      guest.line(`/name crowd-${i}`)
      guest.left()
    }
    assert.ok(a.heard.length < 100, `${a.heard.length} lines`)
    stage.now += 60_000
    stage.enter()
    assert.match(last(a.heard) ?? '', /came in over TCP/)
  })

  test('/who stays one short line in a crowd', () => {
    const stage = new Stage()
    const a = stage.enter()
    for (let i = 0; i < 2_000; i++) stage.enter()
    a.guest.line('/who')
    assert.match(last(a.heard) ?? '', /^\* Here: guest-1 \(TCP\), guest-2 \(TCP\), .* and 1\d\d\d more$/)
    assert.ok(Buffer.byteLength(last(a.heard) as string) <= 1_200)
  })
})

/** The service on a network inside the process. */
async function service(
  t: TestContext,
  capacity?: number,
): Promise<{ network: Network; room: Room; join: () => Promise<Connection>; stop: () => Promise<unknown> }> {
  const network = new Network({ driver: memory(capacity === undefined ? {} : { capacity }) })
  t.after(() => network.close({ within: 0 }))
  const room = new Room(() => network.clock.now())
  const server = await network.serve('tcp://127.0.0.1:0', {}, talk(room))
  const join = () => network.connect(server.endpoints[0])
  return { network, room, join, stop: () => server.drain({ within: 60_000 }) }
}

/** Reads lines until one matches. */
async function until(connection: Connection, pattern: RegExp): Promise<string> {
  for (let line = await connection.readLine(); line !== null; line = await connection.readLine()) if (pattern.test(line)) return line
  throw new Error(`the connection ended without ${pattern}`)
}

describe('the service', () => {
  test('lines go from one connection to the others', async (t) => {
    const { join } = await service(t)
    const [a, b] = [await join(), await join()]
    await until(b, /Welcome, guest-2/)
    await a.write('hello\r\n')
    assert.equal(await until(b, /guest-1:/), 'guest-1: hello')
  })

  test('/quit is answered, then the connection ends in order', async (t) => {
    const { join } = await service(t)
    const a = await join()
    await a.write('/quit\n')
    await until(a, /^\* Goodbye\.$/)
    assert.equal(await a.readLine(), null)
  })

  test('a last line without its line feed is said, too', async (t) => {
    const { join } = await service(t)
    const [a, b] = [await join(), await join()]
    await a.write('the end')
    await a.end()
    await until(b, /^guest-1: the end$/)
    await until(b, /^\* guest-1 left$/)
  })

  for (const size of [LONGEST_LINE, LONGEST_LINE + 1]) {
    test(`a line of ${size} bytes is ${size > LONGEST_LINE ? 'refused politely, and the next one gets through' : 'said'}`, async (t) => {
      const { join } = await service(t)
      const [a, b] = [await join(), await join()]
      await a.write(`${'x'.repeat(size)}\nnext\n`)
      if (size > LONGEST_LINE) await until(a, /too long and nobody got it/)
      const said = await until(b, /^guest-1: /)
      assert.equal(said, size > LONGEST_LINE ? 'guest-1: next' : `guest-1: ${'x'.repeat(size)}`)
    })
  }

  test('a line that never ends shows its sender out (attack 9), and nobody else notices', async (t) => {
    const { join } = await service(t)
    const [a, b] = [await join(), await join()]
    const flooding = (async () => {
      for (;;) await a.write('x'.repeat(4_096))
    })()
    flooding.catch(() => undefined)
    await until(a, /That line has no end/)
    await until(b, /^\* guest-1 left$/)
    await assert.rejects(flooding)
  })

  test('who does not read is dropped, and holds nobody up (attack 2)', async (t) => {
    const { room, join } = await service(t, 4_096)
    const [slow, a, b] = [await join(), await join(), await join()]
    const others = [a, b].map(async (guest) => {
      while ((await guest.readLine()) !== '* guest-1 left');
    })
    while (room.size === 3) {
      room.tell(undefined, 'x'.repeat(1_000))
      await new Promise(setImmediate)
    }
    await Promise.all(others)
    await assert.rejects(slow.readAll(), { name: 'Broken' })
  })

  test('draining says goodbye to everybody and ends every connection in order', async (t) => {
    const { join, stop } = await service(t)
    const guests = [await join(), await join(), await join()]
    await until(guests[2] as Connection, /Welcome/)
    const stopped = stop()
    for (const guest of guests) {
      await until(guest, /^\* The server is closing\. Goodbye\.$/)
      assert.equal(await until(guest, /nothing more/).catch((error: Error) => error.message), 'the connection ended without /nothing more/')
    }
    assert.deepEqual({ ...((await stopped) as object), elapsed: 0 }, { finished: 3, aborted: 0, elapsed: 0 })
  })
})

interface Stranger {
  readonly socket: DatagramSocket
  send(text: string): Promise<void>
  /** Receives until a text matches. */
  until(pattern: RegExp): Promise<string>
  /** What has come so far and was not received. */
  heard(): Promise<string[]>
}

/** The service on a datagram socket, on a network inside the process whose clock is moved by hand. */
async function datagrams(
  t: TestContext,
  o: DatagramTalkOptions & { host?: string } = {},
): Promise<{ clock: VirtualClock; room: Room; come: () => Promise<Stranger>; stop: () => Promise<void> }> {
  const { host = '127.0.0.1', ...options } = o
  const clock = new VirtualClock()
  const network = new Network({ driver: memory({ addresses: [host] }), clock })
  const room = new Room(() => clock.now())
  const socket = await network.bind(`udp://${host}:0`)
  const controller = new AbortController()
  const served = new DatagramTalk(socket, room, clock, options).serve(controller.signal)
  const stop = () => {
    controller.abort()
    return served
  }
  t.after(async () => {
    await stop()
    await network.close({ within: 0 })
  })
  const come = async (): Promise<Stranger> => {
    const own = await network.connect(socket.endpoint as DatagramEndpoint)
    const text = ({ data }: Datagram) => new TextDecoder().decode(data)
    return {
      socket: own,
      send: (line) => own.send(line),
      until: async (pattern) => {
        for (;;) {
          const line = text(await own.receive())
          if (pattern.test(line)) return line
        }
      },
      heard: async () => {
        await settle()
        const all: string[] = []
        for (let next = own.tryReceive(); next !== undefined; next = own.tryReceive()) all.push(text(next))
        return all
      },
    }
  }
  return { clock, room, come, stop }
}

describe('the service on datagrams', () => {
  test('the first line lets in and is said; what others say comes back, a datagram a line', async (t) => {
    const { come } = await datagrams(t)
    const [a, b] = [await come(), await come()]
    await a.send('/join\n')
    assert.match(await a.until(/./), /^\* Welcome, guest-1\..*\n$/)
    await b.send('hello\r\n')
    await b.until(/Welcome, guest-2/)
    assert.equal(await a.until(/came in/), '* guest-2 came in over UDP\n')
    assert.equal(await a.until(/./), 'guest-2: hello\n')
    assert.deepEqual(await b.heard(), [])
  })

  test('guests on streams and on datagrams hear each other', async (t) => {
    const { come, room } = await datagrams(t)
    const heard: string[] = []
    const other = room.enter('TCP', { send: (text) => heard.push(text), close: () => undefined })
    const a = await come()
    await a.send('/who')
    await a.until(/^\* Here: guest-1 \(TCP\), guest-2 \(UDP\)\n$/)
    other.line('from a stream')
    assert.equal(await a.until(/:/), 'guest-1: from a stream\n')
    await a.send('from a datagram')
    await settle()
    assert.equal(heard.at(-1), 'guest-2: from a datagram')
  })

  test('who is let in while a crowd comes over streams is not told that a line was dropped which is none', async (t) => {
    const { come, room, clock } = await datagrams(t)
    for (let i = 0; i < 30; i++) room.enter('TCP', { send: () => undefined, close: () => undefined })
    const [joins, speaks] = [await come(), await come()]
    await joins.send('/join\n')
    await speaks.send('hello\n')
    assert.match((await joins.heard()).join(''), /^\* Welcome[^\n]*\n\* guest-32 came in over UDP\n$/)
    assert.match((await speaks.heard()).join(''), /^\* Welcome[^\n]*\n\* Slower, please[^\n]*\n$/)
    await clock.advance(1_000)
    await speaks.send('hello\n')
    assert.equal(await joins.until(/:/), 'guest-32: hello\n')
  })

  test('a datagram of several lines is several lines, and one that is too long is refused politely', async (t) => {
    const { come } = await datagrams(t)
    const [a, b] = [await come(), await come()]
    await a.send('')
    await a.until(/Welcome/)
    await b.send(`one\ntwo\n${'x'.repeat(LONGEST_LINE + 1)}\nthree`)
    await b.until(/too long and nobody got it/)
    await a.until(/came in/)
    assert.deepEqual(await a.heard(), ['guest-2: one\n', 'guest-2: two\n', 'guest-2: three\n'])
  })

  test('/quit leaves; the next line comes in again as somebody new', async (t) => {
    const { come, room } = await datagrams(t)
    const a = await come()
    await a.send('/quit\n')
    await a.until(/^\* Goodbye\.\n$/)
    assert.equal(room.size, 0)
    await a.send('back\n')
    await a.until(/Welcome, guest-2/)
  })

  test('a long silence lets out, each guest in its own time', async (t) => {
    const { come, room, clock } = await datagrams(t, { idle: 1_000 })
    const [a, b] = [await come(), await come()]
    for (const one of [a, b]) {
      await one.send('hello')
      await one.until(/Welcome/)
    }
    await clock.advance(600)
    await b.send('still here')
    await a.until(/still here/)
    await clock.advance(399)
    assert.equal(room.size, 2)
    await clock.advance(1)
    await a.until(/said nothing for a long time/)
    assert.equal(room.size, 1)
    await clock.advance(600)
    await b.until(/said nothing for a long time/)
    assert.equal(room.size, 0)
    assert.equal(clock.pending, 0)
  })

  test('draining says goodbye to everybody and closes the socket', async (t) => {
    const { come, stop } = await datagrams(t)
    const a = await come()
    await a.send('hello')
    await a.until(/Welcome/)
    await stop()
    await a.until(/^\* The server is closing\. Goodbye\.\n$/)
    await a.send('anybody?')
    await assert.rejects(a.socket.receive(), { code: 'ECONNREFUSED' })
  })

  test('an address that anybody may have forged gets no more than it sent until it has echoed a code (attack 22)', async (t) => {
    const { come, room } = await datagrams(t, { isProven: () => false })
    const [a, forged] = [await come(), await come()]
    for (const text of ['', 'x', 'hi', 'hello', '/join\n', '/who\n', 'a line that is much longer', 'y'.repeat(60_000), 'abcde\n']) {
      await forged.send(text)
      const back = await forged.heard()
      assert.ok(Buffer.byteLength(back.join('')) <= text.length, `${text.length} bytes made ${back.join('').length}`)
      assert.ok(back.length <= 1)
    }
    assert.equal(room.size, 0)
    await a.send('/join\n')
    const code = await a.until(/^[a-z2-9]{5}\n$/)
    await forged.send(code)
    await forged.until(/^[a-z2-9]{5}\n$/)
    assert.equal(room.size, 0, 'the code of one address is not that of another')
    await a.send(code)
    await a.until(/Welcome, guest-1/)
    assert.deepEqual(await forged.heard(), [])
  })

  test('a code is good for a minute, and not for three', async (t) => {
    const { come, room, clock } = await datagrams(t, { isProven: () => false })
    const a = await come()
    await a.send('/join\n')
    const old = await a.until(/^[a-z2-9]{5}\n$/)
    await clock.advance(180_000)
    await a.send(old)
    const code = await a.until(/^[a-z2-9]{5}\n$/)
    assert.equal(room.size, 0)
    await clock.advance(60_000)
    await a.send(code)
    await a.until(/Welcome/)
  })

  test('loopback alone counts as proven: from elsewhere the first answer is a code', async (t) => {
    const { come, room } = await datagrams(t, { host: '192.0.2.1' })
    const a = await come()
    await a.send('hello from afar\n')
    await a.until(/^[a-z2-9]{5}\n/)
    assert.equal(room.size, 0)
  })

  test('who floods is shown out, and not let in again before a silence', async (t) => {
    const { come, room, clock } = await datagrams(t)
    const a = await come()
    for (let i = 0; i < 130; i++) await a.send(`line ${i}`)
    await a.until(/Too many lines/)
    await a.send('again')
    await settle()
    assert.equal(room.size, 0)
    await clock.advance(9_000)
    await a.send('again')
    await clock.advance(9_000)
    await a.send('again')
    await settle()
    assert.equal(room.size, 0)
    await clock.advance(10_000)
    await a.send('again')
    await a.until(/Welcome, guest-2/)
  })

  test('coming and going is no way around the limit on lines', async (t) => {
    const { come, room } = await datagrams(t)
    const heard: string[] = []
    room.enter('TCP', { send: (text) => heard.push(text), close: () => undefined })
    const a = await come()
    for (let i = 0; i < 200; i++) await a.send(i % 2 === 0 ? 'here' : '/quit')
    await settle()
    assert.ok(heard.length <= 3 * 21, `${heard.length} lines`)
  })

  test('there are at most so many guests, and those who are here stay', async (t) => {
    const { come, room } = await datagrams(t, { limit: 2 })
    const guests = [await come(), await come(), await come()]
    for (const guest of guests) await guest.send('hello')
    await settle()
    assert.equal(room.size, 2)
    assert.deepEqual(await guests[2]?.heard(), [])
  })
})
