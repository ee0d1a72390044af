// The talk service: the room as a state machine, and the same on connections inside the process.

import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import fc from 'fast-check'
import { type Connection, Network } from 'fairlead'
import { memory } from 'fairlead/testing'
import { type Door, type Guest, LONGEST_LINE, Room } from '#src/cli/room.js'
import { talk } from '#src/cli/talk.js'

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
