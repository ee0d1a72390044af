// The command line on datagrams, and `send`: child processes, real sockets, and the programs people use beside it.

import assert from 'node:assert/strict'
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Socket as TcpSocket } from 'node:net'
import { join } from 'node:path'
import { describe, test, type TestContext } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { createServer as createSecureServer } from 'node:tls'
import { EXIT_CODES } from 'fairlead'
import { fairlead, folder, listeningAt, peerProgram, Program, shell } from './program.js'
import { accepted, credentials, digest, everything, listening, PAYLOAD } from './sockets.js'

/** A datagram socket of the platform, with what came to it. */
class Peer {
  readonly socket: Socket
  readonly #arrived: { readonly text: string; readonly from: RemoteInfo }[] = []
  #wake: (() => void) | undefined

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('message', (data, from) => {
      this.#arrived.push({ text: data.toString('latin1'), from })
      this.#wake?.()
    })
  }

  static async open(t: TestContext, port = 0): Promise<Peer> {
    const socket = createSocket('udp4').bind(port, '127.0.0.1')
    await once(socket, 'listening')
    t.after(() => socket.close())
    return new Peer(socket)
  }

  get at(): string {
    return `udp://127.0.0.1:${this.socket.address().port}`
  }

  async next(): Promise<{ text: string; from: RemoteInfo }> {
    for (;;) {
      const first = this.#arrived.shift()
      if (first !== undefined) return first
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }

  /** The text of the next one. */
  async text(): Promise<string> {
    return (await this.next()).text
  }

  send(text: string, to: string | RemoteInfo): void {
    const port = typeof to === 'string' ? Number(to.split(':').at(-1)) : to.port
    this.socket.send(text, port, '127.0.0.1')
  }
}

/** Whether the process whose number is in a file is there, or will be. */
function isRunning(pidFile: string): boolean {
  try {
    return process.kill(Number(readFileSync(pidFile, 'utf8')), 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}

/** An endpoint where nobody is. */
async function nowhere(): Promise<string> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const { port } = socket.address()
  await new Promise<void>((resolve) => socket.close(() => resolve()))
  return `udp://127.0.0.1:${port}`
}

const portOf = (endpoint: string): string => endpoint.split(':').at(-1) as string

describe('arguments', () => {
  const wrong: [string[], RegExp][] = [
    [['connect', '--ca', 'x', 'udp://a:1'], /--ca needs a tls: endpoint or --starttls/],
    [['connect', '--starttls', 'smtp', 'udp://a:1'], /--starttls is for streams, not for udp:/],
    [['listen', '--mode', '600', 'udp://:1'], /--mode is for streams/],
    [['listen', '--cert', 'x', 'udp://:1'], /--cert needs a tls: endpoint/],
    [['connect', '--lines', 'tcp://a:1'], /--lines is for udp: endpoints/],
    [['connect', '--line', 'tcp://a:1'], /did you mean --lines\?/],
    [['connect', '--size', '65508', 'udp://a:1'], /--size must be a size from 1 to 65507 bytes, got "65508"/],
    [['connect', '--rate', '1M', 'udp://a:1'], /connect has no option --rate; send has/],
    [['send', '--rate', 'fast', 'x', 'udp://a:1'], /--rate must be bytes a second as 1200, 500k or 10M, got "fast"/],
    [['send', '--rate', '1M', 'x', 'tcp://a:1'], /--rate is for udp: endpoints/],
    [['send', 'tcp://a:1', 'x'], /send wants FILE first and ENDPOINT second/],
    [['send', 'x'], /send wants ENDPOINT/],
    [['relay', 'udp://127.0.0.1:0', 'tcp://127.0.0.1:1'], /a stream does not keep datagrams apart.*must both be udp:, or neither/],
    [['relay', 'unix:/x', 'udp://127.0.0.1:1'], /a stream does not keep datagrams apart/],
    [['relay', 'udp://127.0.0.1:0', 'stdio:'], /many clients cannot share stdio:/],
    [['up', '--udp-port', '70000'], /a port from 0 to 65535/],
  ]
  for (const [args, message] of wrong) {
    test(`${args.join(' ')}: exit ${EXIT_CODES.Usage} and why`, async (t) => {
      const { code, out, err } = await fairlead(t, args).result()
      assert.match(err, message)
      assert.deepEqual([code, out], [EXIT_CODES.Usage, ''])
    })
  }

  test('a scheme of a slip of the hand is corrected', async (t) => {
    const { code, err } = await fairlead(t, ['connect', 'upd://a:1']).result()
    assert.match(err, /did you mean "udp"/)
    assert.equal(code, EXIT_CODES.AddressError)
  })

  test('help shows an example for each common task', async (t) => {
    const { out } = await fairlead(t, ['send', '--help']).result()
    assert.match(out, /Examples:\n {2}# a file to fairlead listen [^\n]+\n {2}fairlead send photo\.jpg tcp:/)
    assert.match(out, /--rate RATE/)
  })
})

describe('connect', () => {
  test('a question in one datagram, and what comes back until nothing comes', async (t) => {
    const peer = await Peer.open(t)
    const program = fairlead(t, ['connect', '--wait', '300ms', peer.at]).finish('one\ntwo\n')
    const { text, from } = await peer.next()
    assert.equal(text, 'one\ntwo\n')
    peer.send('answer\n', from)
    peer.send('', from)
    peer.send('and more\n', from)
    const { code, out, err } = await program.result()
    assert.deepEqual([code, out, err], [0, 'answer\nand more\n', ''])
  })

  test('--lines makes a datagram of each line, and of what stands behind the last', async (t) => {
    const peer = await Peer.open(t)
    fairlead(t, ['connect', '--lines', peer.at]).finish('one\n\nthree\nthe end')
    assert.deepEqual([await peer.text(), await peer.text(), await peer.text(), await peer.text()], ['one\n', '\n', 'three\n', 'the end'])
  })

  test('a line that comes in pieces is one datagram, and one over --size several', async (t) => {
    const peer = await Peer.open(t)
    const program = fairlead(t, ['connect', '--lines', '--size', '10', peer.at])
    for (const piece of ['a\nbc', 'de', 'fg\n', '0123456789', 'x\n']) {
      await new Promise((resolve) => program.stdin.write(piece, resolve))
    }
    const all = []
    for (let i = 0; i < 4; i++) all.push(await peer.text())
    assert.deepEqual(all, ['a\n', 'bcdefg\n', '0123456789', 'x\n'])
  })

  test('what a read gives goes out in datagrams of at most --size', async (t) => {
    const peer = await Peer.open(t)
    fairlead(t, ['connect', '--size', '4', peer.at]).finish('0123456789')
    assert.deepEqual([await peer.text(), await peer.text(), await peer.text()], ['0123', '4567', '89'])
  })

  test('where nobody receives: 4, in one line', async (t) => {
    const at = await nowhere()
    const { code, err } = await fairlead(t, ['connect', at]).finish('hello').result()
    assert.equal(code, EXIT_CODES.SystemFailure)
    assert.equal(err, `fairlead: ${at}: nobody receives datagrams there: refused (ECONNREFUSED)\n`)
  })

  test('where nobody receives any more: 7, though the input goes on', async (t) => {
    const peer = await Peer.open(t)
    const program = fairlead(t, ['connect', peer.at]).send('hello')
    peer.send('answer', (await peer.next()).from)
    await program.out.until('answer')
    await new Promise<void>((resolve) => peer.socket.close(() => resolve()))
    t.mock.method(peer.socket, 'close', () => undefined)
    program.send('again')
    assert.equal(await program.exited, EXIT_CODES.Broken)
    assert.match(program.err.text, /^fairlead: [^\n]*ECONNREFUSED\)\n$/)
  })

  test('Ctrl-C: 130; --idle-timeout: 5', async (t) => {
    const peer = await Peer.open(t)
    const program = fairlead(t, ['connect', peer.at]).send('hello')
    await peer.next()
    program.interrupt()
    assert.equal(await program.exited, 130)
    const idle = fairlead(t, ['connect', '--idle-timeout', '200ms', peer.at])
    assert.equal(await idle.exited, EXIT_CODES.DeadlineError)
  })

  test('--from binds the local end, --json counts', async (t) => {
    const peer = await Peer.open(t)
    const program = fairlead(t, ['connect', '--json', '--wait', '100ms', '--from', '127.0.0.9', peer.at]).finish('hello')
    assert.equal((await peer.next()).from.address, '127.0.0.9')
    const { code, err } = await program.result()
    assert.equal(code, 0, err)
    const events = err
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    assert.deepEqual(
      events.map(({ event, kind }) => [event, kind]),
      [
        ['open', 'datagram'],
        ['close', 'datagram'],
        ['done', undefined],
      ],
    )
    const { received, sent, datagramsReceived, datagramsSent } = events[2] as Record<string, unknown>
    assert.deepEqual({ received, sent, datagramsReceived, datagramsSent }, { received: 0, sent: 5, datagramsReceived: 0, datagramsSent: 1 })
  })

  test('a program as the other end', async (t) => {
    const peer = await Peer.open(t)
    const program = fairlead(t, ['connect', '--wait', '200ms', peer.at, 'exec:echo question; head -n1 >&2'])
    peer.send('answer\n', (await peer.next()).from)
    const { code, err } = await program.result()
    assert.deepEqual([code, err], [0, 'answer\n'])
  })
})

describe('listen', () => {
  test('hears many clients at once, and answers whom it heard from last', async (t) => {
    const program = fairlead(t, ['listen', 'udp://127.0.0.1:0'])
    const at = await listeningAt(program)
    const [a, b] = [await Peer.open(t), await Peer.open(t)]
    program.send('nobody is there yet\n')
    a.send('from a\n', at)
    await program.out.until('from a\n')
    assert.equal(await a.text(), 'nobody is there yet\n')
    b.send('from b\n', at)
    await program.out.until('from b\n')
    program.send('to b\n')
    assert.equal(await b.text(), 'to b\n')
    a.send('from a again\n', at)
    await program.out.until('from a again\n')
    program.send('to a\n')
    assert.equal(await a.text(), 'to a\n')
    program.interrupt()
    assert.equal(await program.exited, 130)
  })

  test('ends with 0 after a silence, or with --keep at Ctrl-C', async (t) => {
    const peer = await Peer.open(t)
    const ending = fairlead(t, ['listen', '--idle-timeout', '200ms', 'udp://127.0.0.1:0'])
    peer.send('hello', await listeningAt(ending))
    await ending.out.until('hello')
    assert.equal(await ending.exited, 0)
    const lasting = fairlead(t, ['listen', '--keep', 'udp://127.0.0.1:0'])
    peer.send('hello', await listeningAt(lasting))
    await lasting.out.until('hello')
    lasting.interrupt()
    assert.equal(await lasting.exited, 0)
  })

  test('--connect-timeout limits the wait for the first datagram, --timeout everything: 5', async (t) => {
    for (const args of [
      ['--connect-timeout', '200ms'],
      ['--keep', '--timeout', '200ms'],
    ]) {
      const { code, err } = await fairlead(t, ['listen', ...args, 'udp://127.0.0.1:0']).result()
      assert.equal(code, EXIT_CODES.DeadlineError, err)
    }
  })

  test('an address that is taken: 4', async (t) => {
    const { code, err } = await fairlead(t, ['listen', (await Peer.open(t)).at]).result()
    assert.equal(code, EXIT_CODES.SystemFailure)
    assert.match(err, /EADDRINUSE/)
  })

  test('exec: gives each address a program of its own, which learns whom it serves and ends when that falls silent', async (t) => {
    const program = fairlead(t, [
      'listen',
      '--json',
      '--idle-timeout',
      '500ms',
      'udp://127.0.0.1:0',
      'exec:echo "$FAIRLEAD_REMOTE"; cat; echo bye',
    ])
    const [, at = ''] = await program.err.until(/"event":"listening".*"endpoint":"([^"]+)"/)
    const peers = [await Peer.open(t), await Peer.open(t), await Peer.open(t)]
    for (const [i, peer] of peers.entries()) peer.send(`client ${i}`, at)
    for (const [i, peer] of peers.entries()) {
      let came = ''
      while (!came.endsWith('bye\n')) came += await peer.text()
      assert.equal(came, `127.0.0.1:${portOf(peer.at)}\nclient ${i}bye\n`)
    }
    assert.equal(await program.exited, 0)
    const done = program.err.text.split('\n').filter((line) => line.includes('"event":"done"'))
    assert.equal(done.length, 3)
    assert.match(done[0] as string, /"received":8,.*"outcome":"ended","datagramsReceived":1,"datagramsSent":\d,"dropped":0/)
  })

  test('after Ctrl-C a program has --drain to end, then it is cut off', async (t) => {
    const serving = ['--keep', '--drain', '400ms', 'udp://127.0.0.1:0']
    const program = fairlead(t, ['listen', ...serving, 'exec:[ "$(head -c 4)" = stay ] && sleep 100 || echo bye'])
    const at = await listeningAt(program)
    const [stubborn, polite] = [await Peer.open(t), await Peer.open(t)]
    stubborn.send('stay', at)
    polite.send('ends', at)
    assert.equal(await polite.text(), 'bye\n')
    program.interrupt()
    assert.equal(await program.exited, 0)
    assert.match(program.err.text, new RegExp(`127\\.0\\.0\\.1:${portOf(stubborn.at)}: the deadline passed: 400 ms to drain`))
  })

  test('there are at most --limit clients; who comes then is not heard, and that is told', async (t) => {
    const program = fairlead(t, ['listen', '--keep', '--limit', '1', 'udp://127.0.0.1:0', 'exec:cat'])
    const at = await listeningAt(program)
    const [known, other] = [await Peer.open(t), await Peer.open(t)]
    known.send('one', at)
    assert.equal(await known.text(), 'one')
    other.send('me too', at)
    other.send('and again', at)
    await program.err.until(/2 datagrams of new clients dropped: --limit is 1\n/)
    known.send('two', at)
    assert.equal(await known.text(), 'two')
    program.interrupt()
    assert.equal(await program.exited, 0)
  })

  for (const [name, command] of Object.entries({
    nc: (port: string) => `nc -u 127.0.0.1 ${port}`,
    ncat: (port: string) => `ncat -u 127.0.0.1 ${port}`,
    socat: (port: string) => `socat - UDP:127.0.0.1:${port}`,
    fairlead: (port: string) => `fairlead connect udp://127.0.0.1:${port}`,
  })) {
    test(`${name} talks to a program of listen`, async (t) => {
      if (name !== 'fairlead' && peerProgram(t, name) === undefined) return
      const program = fairlead(t, ['listen', '--keep', 'udp://127.0.0.1:0', 'exec:stdbuf -o0 tr a-z A-Z'])
      const client = shell(t, command(portOf(await listeningAt(program))))
      client.send('hello\n')
      await client.out.until('HELLO\n')
      client.send('again\n')
      await client.out.until('AGAIN\n')
    })
  }
})

describe('relay', () => {
  test('each client has a socket of its own to B; every datagram arrives as it was, also an empty one', async (t) => {
    const behind = await Peer.open(t)
    const program = fairlead(t, ['relay', 'udp://127.0.0.1:0', behind.at])
    const front = await listeningAt(program)
    const [a, b] = [await Peer.open(t), await Peer.open(t)]
    a.send('from a', front)
    const first = await behind.next()
    b.send('from b', front)
    const second = await behind.next()
    assert.deepEqual([first.text, second.text], ['from a', 'from b'])
    assert.notEqual(first.from.port, second.from.port)
    behind.send('to b', second.from)
    behind.send('to a', first.from)
    assert.deepEqual([await a.text(), await b.text()], ['to a', 'to b'])
    for (const text of ['', 'x'.repeat(60_000), 'two\nlines\n']) {
      a.send(text, front)
      const { text: came, from } = await behind.next()
      assert.ok(came === text)
      assert.equal(from.port, first.from.port)
      behind.send(text, from)
      assert.ok((await a.text()) === text)
    }
    program.interrupt()
    assert.equal(await program.exited, 0)
  })

  test('the socket of a silent client is given back; when it comes again it has another', async (t) => {
    const behind = await Peer.open(t)
    const program = fairlead(t, ['relay', '--json', '--idle-timeout', '300ms', 'udp://127.0.0.1:0', behind.at])
    const [, front = ''] = await program.err.until(/"event":"listening".*"endpoint":"([^"]+)"/)
    const client = await Peer.open(t)
    client.send('one', front)
    const first = await behind.next()
    // What the far end says does not keep a client that is silent: its address may be forged.
    behind.send('still there?', first.from)
    await program.err.until(/"event":"done".*"received":3,"sent":12,/)
    client.send('two', front)
    const second = await behind.next()
    assert.notEqual(second.from.port, first.from.port)
    behind.send('welcome back', second.from)
    assert.deepEqual([await client.text(), await client.text()], ['still there?', 'welcome back'])
  })

  test('a B that is not there is told once for each client, and may come later', async (t) => {
    const at = await nowhere()
    const program = fairlead(t, ['relay', 'udp://127.0.0.1:0', at])
    const front = await listeningAt(program)
    const client = await Peer.open(t)
    client.send('anybody?', front)
    await program.err.until(/ECONNREFUSED/)
    client.send('anybody?', front)
    const behind = await Peer.open(t, Number(portOf(at)))
    for (let answered = false; !answered;) {
      client.send('now?', front)
      answered = await Promise.race([
        behind.next().then(() => true),
        new Promise<boolean>((resolve) => setTimeout(() => resolve(false), 100)),
      ])
    }
    assert.equal(program.err.text.match(/ECONNREFUSED/g)?.length, 1, program.err.text)
  })

  test('between a program and a UDP service', async (t) => {
    const behind = await Peer.open(t)
    const program = fairlead(t, ['relay', '--wait', '200ms', 'exec:echo question; head -n1 >&2', behind.at])
    behind.send('answer\n', (await behind.next()).from)
    const { code, err } = await program.result()
    assert.deepEqual([code, err], [0, 'answer\n'])
  })

  test('socat asks a socat through it', async (t) => {
    if (peerProgram(t, 'socat') === undefined) return
    const port = portOf(await nowhere())
    const server = new Program(t, 'socat', ['-d', '-d', `UDP-RECVFROM:${port},bind=127.0.0.1,fork`, 'EXEC:tr a-z A-Z'])
    await server.err.until(/starting accept loop|receiving on/i)
    const program = fairlead(t, ['relay', 'udp://127.0.0.1:0', `udp://127.0.0.1:${port}`])
    const front = portOf(await listeningAt(program))
    const client = shell(t, `echo hello | socat -t5 - UDP:127.0.0.1:${front}`)
    await client.out.until('HELLO\n')
  })
})

describe('send', () => {
  const SHA256 = digest(PAYLOAD)
  const payload = (t: TestContext): string => {
    const path = join(folder(t), 'payload')
    writeFileSync(path, PAYLOAD)
    return path
  }

  for (const transport of ['tcp', 'tls', 'unix']) {
    test(`a file arrives exactly over ${transport}, and both ends tell its size and SHA-256`, async (t) => {
      const at = folder(t)
      const { ca, cert, key } = await credentials(t)
      const endpoint = transport === 'unix' ? `unix:${join(at, 's')}` : `${transport}://127.0.0.1:0`
      const receiver = fairlead(t, [
        'listen',
        ...(transport === 'tls' ? ['--cert', cert, '--key', key] : []),
        endpoint,
        `file:${join(at, 'out')}`,
      ])
      const to = await listeningAt(receiver)
      const { code, out, err } = await fairlead(t, ['send', ...(transport === 'tls' ? ['--ca', ca] : []), payload(t), to]).result()
      assert.deepEqual([code, out, err], [0, '', `fairlead: sent 24.0 MiB (${PAYLOAD.length} bytes), sha256 ${SHA256}\n`])
      // Whoever sent it may rely on it: the file is complete before the sender learns of the end.
      assert.ok(readFileSync(join(at, 'out')).equals(PAYLOAD))
      assert.equal(await receiver.exited, 0)
      assert.match(receiver.err.text, new RegExp(`received 24\\.0 MiB \\(${PAYLOAD.length} bytes\\), sha256 ${SHA256}\\n$`))
    })
  }

  test('it waits for the end of the peer, and what comes back is dropped', async (t) => {
    const server = createServer({ allowHalfOpen: true })
    const at = await listening(t, server)
    const program = fairlead(t, ['send', '--json', '-', at]).finish('contents')
    const socket = await accepted(server)
    socket.write('thank you')
    socket.resume()
    await once(socket, 'end')
    assert.equal(program.child.exitCode, null)
    socket.end()
    const { code, out, err } = await program.result()
    assert.deepEqual([code, out], [0, ''])
    assert.match(err, /"event":"done".*"received":9,"sent":8,"outcome":"ended","confirmed":true,"sha256":"[0-9a-f]{64}"/)
  })

  test('a peer that ended before has confirmed nothing, which is told', async (t) => {
    const server = createServer({ allowHalfOpen: true }, (socket) => socket.resume().end())
    const at = await listening(t, server)
    const program = fairlead(t, ['send', '-', at])
    await program.err.until('warning: the peer ended its direction before everything was sent')
    const { code, err } = await program.finish('contents').result()
    assert.equal(code, 0)
    assert.match(err, /sent 8 bytes, sha256/)
  })

  test('a peer that breaks off: 7; a file that is not there: 4, and nobody is disturbed', async (t) => {
    const server = createServer((socket) => socket.once('data', () => socket.resetAndDestroy()))
    const at = await listening(t, server)
    const { code, err } = await fairlead(t, ['send', payload(t), at]).result()
    assert.equal(code, EXIT_CODES.Broken, err)
    const quiet = createServer(() => assert.fail('there was a connection'))
    const missing = await fairlead(t, ['send', '/no/such/file', await listening(t, quiet)]).result()
    assert.equal(missing.code, EXIT_CODES.SystemFailure)
    assert.match(missing.err, /file:\/no\/such\/file: no such file or directory \(ENOENT\)/)
  })

  test('a program that fails: 1', async (t) => {
    const server = createServer((socket) => socket.resume())
    const { code, err } = await fairlead(t, ['send', 'exec:echo part; exit 3', await listening(t, server)]).result()
    assert.equal(code, 1)
    assert.match(err, /ended with exit code 3/)
  })

  test('what a program said before there was a connection is sent, and its end', async (t) => {
    const { ca, pem } = await credentials(t)
    const pidFile = join(folder(t), 'pid')
    const secure = createSecureServer(pem)
    const server = createServer(async (socket) => {
      // The handshake begins when the program has exited and the runtime knows it.
      while (isRunning(pidFile)) await pause(5)
      secure.emit('connection', socket)
    })
    const at = (await listening(t, server)).replace('tcp:', 'tls:')
    const said = once(secure, 'secureConnection').then(async ([socket]) => (await everything(socket as TcpSocket)).toString())
    const { code, err } = await fairlead(t, [
      'send',
      '--ca',
      ca,
      `exec:echo $$ > ${pidFile}.new; mv ${pidFile}.new ${pidFile}; echo all of it`,
      at,
    ]).result()
    assert.equal(code, 0, err)
    assert.equal(await said, 'all of it\n')
  })

  test('over UDP in datagrams of --size at --rate, and it is plain that nobody confirms them', async (t) => {
    const peer = await Peer.open(t)
    const path = join(folder(t), 'f')
    const contents = PAYLOAD.subarray(0, 50_000).toString('latin1')
    writeFileSync(path, contents, 'latin1')
    const start = performance.now()
    const program = fairlead(t, ['send', '--size', '1000', '--rate', '100k', '--wait', '100ms', path, peer.at])
    let all = ''
    for (let i = 0; i < 50; i++) {
      const { text } = await peer.next()
      assert.equal(text.length, 1000)
      all += text
    }
    assert.ok(performance.now() - start >= 400, 'faster than 100 kB a second')
    assert.ok(all === contents)
    const { code, err } = await program.result()
    assert.equal(code, 0)
    assert.match(err, /sent 48\.8 KiB \(50000 bytes\) in 50 datagrams, sha256 [0-9a-f]{64}\n.*nothing confirms that they arrived\n$/)
  })

  test('over UDP to listen, which ends the file after a silence', async (t) => {
    const at = folder(t)
    const receiver = fairlead(t, ['listen', '--idle-timeout', '2s', 'udp://127.0.0.1:0', `file:${join(at, 'out')}`])
    const to = await listeningAt(receiver)
    // So little that it fits the receive buffer, however slow the receiver is.
    writeFileSync(join(at, 'in'), PAYLOAD.subarray(0, 100_000))
    assert.equal((await fairlead(t, ['send', '--quiet', join(at, 'in'), to]).result()).code, 0)
    assert.equal(await receiver.exited, 0, receiver.err.text)
    assert.ok(readFileSync(join(at, 'out')).equals(PAYLOAD.subarray(0, 100_000)))
  })

  test('over UDP where nobody receives: 4', async (t) => {
    const path = join(folder(t), 'f')
    writeFileSync(path, 'contents')
    const { code, err } = await fairlead(t, ['send', path, await nowhere()]).result()
    assert.equal(code, EXIT_CODES.SystemFailure)
    assert.match(err, /^fairlead: [^\n]*nobody receives datagrams there: refused \(ECONNREFUSED\)\n$/)
  })

  test('a file from socat, and one for nc', async (t) => {
    if (peerProgram(t, 'socat') === undefined || peerProgram(t, 'nc') === undefined) return
    const at = folder(t)
    const receiver = fairlead(t, ['listen', 'tcp://127.0.0.1:0', `file:${join(at, 'out')}`])
    const port = portOf(await listeningAt(receiver))
    const { code } = await shell(t, `socat - TCP:127.0.0.1:${port} <'${payload(t)}'`).result()
    assert.equal(code, 0)
    assert.equal(await receiver.exited, 0)
    assert.ok(readFileSync(join(at, 'out')).equals(PAYLOAD))

    const nc = shell(t, `exec nc -N -v -l 127.0.0.1 ${port} </dev/null >'${join(at, 'nc')}'`)
    await nc.err.until(/Listening/)
    const sent = await fairlead(t, ['send', payload(t), `tcp://127.0.0.1:${port}`]).result()
    assert.equal(sent.code, 0, sent.err)
    assert.equal(await nc.exited, 0)
    assert.ok(readFileSync(join(at, 'nc')).equals(PAYLOAD))
  })

  test('a long transfer has a progress line on a terminal, with its share of the whole', async (t) => {
    if (peerProgram(t, 'socat') === undefined) return
    const at = folder(t)
    const server = createServer({ allowHalfOpen: true }, (socket) => socket.resume())
    const to = await listening(t, server)
    writeFileSync(join(at, 'in'), 'x'.repeat(3_000))
    const script = join(at, 'transfer')
    writeFileSync(script, `#!/bin/sh\nexec fairlead send in ${to}\n`, { mode: 0o755 })
    const program = shell(t, `exec socat - "EXEC:${script},pty,setsid,stderr,opost=0"`, { cwd: at })
    const socket = await accepted(server)
    await program.out.until(/sent 2\.9 KiB of 2\.9 KiB \(100 %\) {2}.*\/s/)
    await program.out.until('everything is sent; waiting for the end of the peer')
    socket.end()
    await program.out.until(/sent 2\.9 KiB \(3000 bytes\), sha256/)
    assert.equal(await program.exited, 0)
  })
})
