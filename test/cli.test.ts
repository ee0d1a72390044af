// The command line as its users meet it: child processes, real sockets, exit codes.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { describe, test, type TestContext } from 'node:test'
import { createServer as createTlsServer, connect as tlsConnect } from 'node:tls'
import { type Authority, developmentAuthority, EXIT_CODES } from 'fairlead'
import { fairlead, folder, listeningAt, Output, type Program, shell } from './e2e/program.js'

let made: Promise<Authority> | undefined
const authority = (): Promise<Authority> => (made ??= developmentAuthority())

/** Certificate files in a folder of the test. */
async function credentials(t: TestContext, names = ['localhost', '127.0.0.1']): Promise<{ ca: string; cert: string; key: string; pem: { cert: string; key: string } }> {
  const pem = await (await authority()).issue({ names })
  const at = folder(t)
  const files = { ca: join(at, 'ca.pem'), cert: join(at, 'cert.pem'), key: join(at, 'key.pem') }
  writeFileSync(files.ca, (await authority()).cert)
  writeFileSync(files.cert, pem.cert)
  writeFileSync(files.key, pem.key)
  return { ...files, pem }
}

/** Listens, and keeps the sockets that come to end them with the test. */
async function listening(t: TestContext, server: Server, at: string | undefined = undefined): Promise<string> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
  })
  if (at === undefined) server.listen(0, '127.0.0.1')
  else server.listen(at)
  await once(server, 'listening')
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const address = server.address()
  return typeof address === 'object' && address !== null ? `tcp://127.0.0.1:${address.port}` : `unix:${address}`
}

async function accepted(server: Server, event = 'connection'): Promise<Socket> {
  const [socket] = (await once(server, event)) as [Socket]
  socket.on('error', () => undefined)
  return socket
}

/** A server that does one thing to each client. */
function echo(): Server {
  return createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket))
}

const lines = (text: string): Record<string, unknown>[] =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)

describe('arguments', () => {
  test('--version prints the version of the package', async (t) => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
    assert.deepEqual(await fairlead(t, ['--version']).result(), { code: 0, out: `fairlead ${version}\n`, err: '' })
  })

  test('without a command the help goes to standard error and the exit code is that of wrong usage', async (t) => {
    const { code, out, err } = await fairlead(t, []).result()
    assert.deepEqual([code, out], [EXIT_CODES.Usage, ''])
    assert.match(err, /Commands:\n {2}up/)
  })

  for (const words of [['help', 'connect'], ['connect', '--help'], ['connect', '-h']]) {
    test(`${words.join(' ')} shows options and an example for each common task`, async (t) => {
      const { code, out } = await fairlead(t, words).result()
      assert.equal(code, 0)
      assert.match(out, /^Usage: fairlead connect/)
      assert.match(out, /Examples:\n {2}# talk to a server\n {2}fairlead connect tcp:/)
      assert.match(out, /--starttls PROTOCOL/)
    })
  }

  const wrong: [string[], RegExp][] = [
    [['conect'], /unknown command "conect"; did you mean connect\?/],
    [['connect', '--isecure', 'tls://a:1'], /unknown option --isecure; did you mean --insecure\?/],
    [['connect', '-x', 'tcp://a:1'], /unknown option -x/],
    [['connect', '--keep', 'tcp://a:1'], /connect has no option --keep; listen has/],
    [['connect'], /connect wants ENDPOINT/],
    [['connect', 'tcp://a:1', 'stdio:', 'more'], /unexpected "more"/],
    [['connect', '--timeout', 'soon', 'tcp://a:1'], /--timeout must be a time as 500ms, 5s, 2m or 1h, got "soon"/],
    [['connect', '--timeout'], /--timeout wants a value/],
    [['connect', '--json=yes', 'tcp://a:1'], /--json takes no value/],
    [['connect', '--driver', 'kernel', 'tcp://a:1'], /no kernel driver yet/],
    [['connect', '--starttls', 'smpt', 'tcp://a:1'], /must be one of smtp.*did you mean smtp\?/],
    [['connect', '--starttls', 'smtp', 'tls://a:1'], /use tcp:\/\/a:1/],
    [['connect', '--ca', 'x', 'tcp://a:1'], /--ca needs a tls: endpoint/],
    [['connect', 'exec:cat'], /wants a network endpoint first/],
    [['listen', '--mode', '999', 'unix:/tmp/x'], /octal/],
    [['up', '--tcp-port', '70000'], /a port from 0 to 65535/],
    [['connect', '--pin', 'abc', '--insecure', 'tls://127.0.0.1:1'], /base64 SHA-256/],
  ]
  for (const [args, message] of wrong) {
    test(`${args.join(' ')}: exit ${EXIT_CODES.Usage} and why`, async (t) => {
      const { code, out, err } = await fairlead(t, args).result()
      assert.match(err, message)
      assert.deepEqual([code, out], [EXIT_CODES.Usage, ''])
    })
  }

  for (const [endpoint, message] of [
    ['tcp://127.0.0.1:http', /bad port "http" in "tcp:\/\/127\.0\.0\.1:http"/],
    ['tcpp://a:1', /unknown scheme "tcpp".*did you mean "tcp"/],
    ['stdoi:', /did you mean "stdio"/],
    ['fd:one', /bad descriptor "one"/],
    ['exec:', /no command/],
  ] as const) {
    test(`the endpoint ${endpoint}: the bad part is shown`, async (t) => {
      const { code, err } = await fairlead(t, ['relay', endpoint, 'stdio:']).result()
      assert.match(err, message)
      assert.equal(code, EXIT_CODES.AddressError)
    })
  }
})

describe('exit codes', () => {
  test('refused: 4', async (t) => {
    const server = createServer()
    const at = await listening(t, server)
    server.close()
    await once(server, 'close')
    const { code, err } = await fairlead(t, ['connect', at]).result()
    assert.equal(code, EXIT_CODES.SystemFailure)
    assert.match(err, /^fairlead: [^\n]*the connection was refused \(ECONNREFUSED\)\n$/)
  })

  test('a name that does not exist: 3', async (t) => {
    const { code, err } = await fairlead(t, ['connect', 'tcp://no-such-name.invalid:80']).result()
    assert.equal(code, EXIT_CODES.AddressError)
    assert.match(err, /no-such-name\.invalid/)
  })

  for (const [option, phase] of [['--timeout', 'everything'], ['--idle-timeout', 'no byte in either direction']] as const) {
    test(`${option} has passed: 5`, async (t) => {
      const server = createServer({ allowHalfOpen: true }, (socket) => socket.resume())
      const at = await listening(t, server)
      const program = fairlead(t, ['connect', option, '300ms', at])
      assert.equal(await program.exited, EXIT_CODES.DeadlineError)
      assert.match(program.err.text, new RegExp(`${phase}`))
    })
  }

  test('--connect-timeout covers TLS: 5', async (t) => {
    const server = createServer((socket) => socket.resume())
    const at = await listening(t, server)
    const { code, err } = await fairlead(t, ['connect', '--connect-timeout', '300ms', at.replace('tcp', 'tls')]).result()
    assert.equal(code, EXIT_CODES.DeadlineError, err)
  })

  test('TLS that cannot be verified: 6, with one line that says why', async (t) => {
    const { pem } = await credentials(t)
    const server = createTlsServer({ cert: pem.cert, key: pem.key })
    const at = await listening(t, server)
    const { code, err, out } = await fairlead(t, ['connect', at.replace('tcp', 'tls')]).result()
    assert.equal(code, EXIT_CODES.TlsError)
    assert.match(err, /^fairlead: [^\n]*(?:UNKNOWN_ISSUER|SELF_SIGNED)\)\n$/)
    assert.equal(out, '')
  })

  test('a reset: 7, and what came before it is there', async (t) => {
    const server = createServer()
    const at = await listening(t, server)
    const program = fairlead(t, ['connect', at])
    const socket = await accepted(server)
    socket.write('before')
    await program.out.until('before')
    socket.resetAndDestroy()
    assert.equal(await program.exited, EXIT_CODES.Broken)
    assert.match(program.err.text, /the peer reset the connection \(ECONNRESET\)/)
  })

  test('a TLS stream cut off without close_notify: 7; with --allow-truncation it is an end', async (t) => {
    const { ca, pem } = await credentials(t)
    for (const [options, expected] of [[[], EXIT_CODES.Broken], [['--allow-truncation'], 0]] as const) {
      const server = createTlsServer({ cert: pem.cert, key: pem.key }, (socket) => {
        socket.on('error', () => undefined)
        socket.write('partial', () => (socket as unknown as { _parent?: Socket })._parent?.end())
        ;(raw.shift() as Socket).end()
      })
      const raw: Socket[] = []
      server.on('connection', (socket: Socket) => raw.push(socket))
      const at = await listening(t, server)
      const { code, err } = await fairlead(t, ['connect', '--ca', ca, ...options, at.replace('tcp', 'tls')]).result()
      assert.equal(code, expected, err)
    }
  })

  test('Ctrl-C: 130, quietly', async (t) => {
    const server = createServer()
    const at = await listening(t, server)
    const program = fairlead(t, ['connect', at])
    await accepted(server)
    program.interrupt()
    assert.equal(await program.exited, 130)
    assert.equal(program.err.text, '')
  })

  test('a program of exec: that fails: 1', async (t) => {
    const at = await listening(t, echo())
    const { code, err } = await fairlead(t, ['connect', at, 'exec:exit 9']).result()
    assert.equal(code, 1, err)
    assert.match(err, /exec:exit 9 ended with exit code 9/)
  })
})

/** Both ways of one end of a join, whatever it is made of. */
interface End {
  readonly input: Writable
  readonly output: Readable
}

interface Rig {
  /** Behind the near end of the program, and behind the far one. */
  near: End
  far: End
  /** Called when everything has ended. */
  over(): Promise<void>
}

const PAYLOAD = Buffer.alloc(24 * 1024 * 1024)
for (let i = 0; i < PAYLOAD.length; i += 4) PAYLOAD.writeUInt32LE(i, i)
const digest = (data: Buffer): string => createHash('sha256').update(data).digest('hex')

/** All of a stream. Not by iterating, which would destroy a socket together with its other direction. */
async function everything(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = []
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  await new Promise<void>((resolve, reject) => {
    stream.once('end', resolve)
    stream.once('close', () => reject(new Error(`closed without an end, after ${Buffer.concat(chunks).length} bytes`)))
  })
  return Buffer.concat(chunks)
}

const ofSocket = (socket: Socket): End => ({ input: socket, output: socket })
const ofProgram = (program: Program): End => ({ input: program.stdin, output: program.stdout })
const exits = (program: Program) => async () => assert.equal(await program.exited, 0, program.err.text)

const dialled = async (endpoint: string): Promise<Socket> => {
  const [, host, port] = /^tcp:\/\/(.*):(\d+)$/.exec(endpoint) ?? []
  const socket = host ? connect({ host, port: Number(port), allowHalfOpen: true }) : connect({ path: endpoint.slice(5), allowHalfOpen: true })
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  return socket
}

/** Everything that joins two ends, and the transports it joins. */
const RIGS: Record<string, (t: TestContext) => Promise<Rig>> = {
  'connect tcp': async (t) => {
    const server = createServer({ allowHalfOpen: true })
    const at = await listening(t, server)
    const program = fairlead(t, ['connect', at])
    return { near: ofProgram(program), far: ofSocket(await accepted(server)), over: exits(program) }
  },
  'connect unix, between real pipes': async (t) => {
    const server = createServer({ allowHalfOpen: true })
    const at = await listening(t, server, join(folder(t), 's'))
    // Only the last program may hold the output, or its end would not be seen before bash has ended, too.
    const cats = 'exec 3<&0 4>&1; mkfifo i o; cat <&3 >i 3<&- 4>&- & cat <o >&4 3<&- 4>&- &'
    const program = shell(t, `${cats} exec fairlead connect '${at}' <i >o 3<&- 4>&-`, { cwd: folder(t) })
    return { near: ofProgram(program), far: ofSocket(await accepted(server)), over: exits(program) }
  },
  'connect tls': async (t) => {
    const { ca, pem } = await credentials(t)
    const server = createTlsServer({ cert: pem.cert, key: pem.key, allowHalfOpen: true })
    const at = await listening(t, server)
    const program = fairlead(t, ['connect', '--ca', ca, at.replace('tcp', 'tls')])
    const far = await accepted(server, 'secureConnection')
    // A Node server that ends in the turn of its handshake sends no close_notify (TLS 1.3), and the end is none.
    await new Promise(setImmediate)
    return { near: ofProgram(program), far: ofSocket(far), over: exits(program) }
  },
  'listen tcp': async (t) => {
    const program = fairlead(t, ['listen', 'tcp://127.0.0.1:0'])
    const socket = await dialled(await listeningAt(program))
    t.after(() => socket.destroy())
    return { near: ofProgram(program), far: ofSocket(socket), over: exits(program) }
  },
  'listen tls': async (t) => {
    const { ca, cert, key } = await credentials(t)
    const program = fairlead(t, ['listen', '--cert', cert, '--key', key, 'tls://127.0.0.1:0'])
    const { port } = new URL((await listeningAt(program)).replace('tls', 'http'))
    const socket = tlsConnect({ port: Number(port), host: '127.0.0.1', servername: 'localhost', ca: readFileSync(ca), allowHalfOpen: true } as never)
    socket.on('error', () => undefined)
    await once(socket, 'secureConnect')
    t.after(() => socket.destroy())
    return { near: ofProgram(program), far: ofSocket(socket), over: exits(program) }
  },
  'relay unix to tcp': async (t) => {
    const server = createServer({ allowHalfOpen: true })
    const at = await listening(t, server)
    const program = fairlead(t, ['relay', `unix:${join(folder(t), 's')}`, at])
    const near = await dialled(await listeningAt(program))
    t.after(() => near.destroy())
    return { near: ofSocket(near), far: ofSocket(await accepted(server)), over: async () => assert.equal(program.child.exitCode, null) }
  },
}

describe('half-close', () => {
  for (const [name, make] of Object.entries(RIGS)) {
    for (const swap of [false, true]) {
      const [first, other] = swap ? ['far', 'near'] : ['near', 'far']
      /** The end that ends first is `a`. */
      const rig = async (t: TestContext) => {
        const { near, far, over } = await make(t)
        return swap ? { a: far, b: near, over } : { a: near, b: far, over }
      }

      test(`${name}: the ${first} end ends while the ${other} end is idle, and still gets its answer`, async (t) => {
        const { a, b, over } = await rig(t)
        a.input.end('question')
        assert.equal((await everything(b.output)).toString(), 'question')
        b.input.end('answer')
        assert.equal((await everything(a.output)).toString(), 'answer')
        await over()
      })

      test(`${name}: the ${first} end ends while what the ${other} end sends is stopped by a full pipe`, async (t) => {
        const { a, b, over } = await rig(t)
        b.input.write(PAYLOAD)
        a.input.end('question')
        assert.equal((await everything(b.output)).toString(), 'question')
        assert.ok(b.input.writableLength > 0, 'the pipe was not full')
        b.input.end()
        assert.equal(digest(await everything(a.output)), digest(PAYLOAD))
        await over()
      })

      test(`${name}: the ${first} end sends on and ends after the ${other} end has finished`, async (t) => {
        const { a, b, over } = await rig(t)
        b.input.end('done')
        assert.equal((await everything(a.output)).toString(), 'done')
        a.input.end(PAYLOAD)
        assert.equal(digest(await everything(b.output)), digest(PAYLOAD))
        await over()
      })
    }

    test(`${name}: both ends end at once, behind a full pipe each`, async (t) => {
      const { near, far, over } = await make(t)
      near.input.end(PAYLOAD)
      far.input.end(PAYLOAD)
      const [there, back] = await Promise.all([everything(far.output), everything(near.output)])
      assert.deepEqual([digest(there), digest(back)], [digest(PAYLOAD), digest(PAYLOAD)])
      await over()
    })
  }
})
