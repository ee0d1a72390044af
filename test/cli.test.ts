// The command line as its users meet it: child processes, real sockets, exit codes.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { constants, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { describe, test, type TestContext } from 'node:test'
import { createServer as createTlsServer } from 'node:tls'
import fc from 'fast-check'
import { Broken, EXIT_CODES } from 'fairlead'
import { Cutter } from '#src/cli/datagrams.js'
import { join as joined, type Stream } from '#src/cli/join.js'
import { clientTls } from '#src/cli/security.js'
import { fairlead, folder, listeningAt, Output, peerProgram, shell } from './e2e/program.js'
import { accepted, authority, closing, credentials, dialled, digest, echo, everything, listening, PAYLOAD } from './e2e/sockets.js'

const lines = (text: string): Record<string, unknown>[] =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)

/** A named pipe. */
function named(t: TestContext): string {
  const path = join(folder(t), 'pipe')
  execFileSync('mkfifo', [path])
  return path
}

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

  for (const words of [
    ['help', 'connect'],
    ['connect', '--help'],
    ['connect', '-h'],
  ]) {
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
    [['--quiet', 'connect', 'tcp://a:1'], /a command comes first, and its options behind it: fairlead COMMAND --quiet/],
    [['connect', '--keep', 'tcp://a:1'], /connect has no option --keep; listen has it/],
    [['connect', '--drain', '1s', 'tcp://a:1'], /connect has no option --drain; up, listen and relay have it/],
    [['connect'], /connect wants ENDPOINT/],
    [['connect', 'tcp://a:1', 'stdio:', 'more'], /unexpected "more"/],
    [['connect', '--timeout', 'soon', 'tcp://a:1'], /--timeout must be a time as 500ms, 5s, 2m or 1h, got "soon"/],
    [['connect', '--timeout'], /--timeout wants a value/],
    [['connect', '--timeout', '25d', 'tcp://a:1'], /--timeout must be at most 24d, got "25d"/],
    [['connect', '--json=yes', 'tcp://a:1'], /--json takes no value/],
    [['connect', '--driver', 'kernle', 'tcp://a:1'], /--driver must be one of node, kernel, got "kernle"; did you mean kernel\?/],
    [['connect', '--starttls', 'smpt', 'tcp://a:1'], /must be one of smtp.*did you mean smtp\?/],
    [['connect', '--starttls', 'smtp', 'tls://a:1'], /use tcp:\/\/a:1/],
    [['connect', '--ca', 'x', 'tcp://a:1'], /--ca needs a tls: endpoint/],
    [['connect', 'exec:cat'], /wants a network endpoint first/],
    [['listen', '--mode', '999', 'unix:/run/x'], /octal/],
    [['relay', 'tcp://127.0.0.1:0', 'stdio:'], /many clients cannot share stdio:; fairlead listen --keep/],
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

  for (const [option, phase] of [
    ['--timeout', 'everything'],
    ['--idle-timeout', 'no byte in either direction'],
  ] as const) {
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
    for (const [options, expected] of [
      [[], EXIT_CODES.Broken],
      [['--allow-truncation'], 0],
    ] as const) {
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

describe('pipes', () => {
  for (const way of ['socket', 'pipe']) {
    test(`a ${way} closed by its reader ends the program quietly`, async (t) => {
      const server = createServer((socket) => {
        socket.on('error', () => undefined)
        const more = () => {
          while (!socket.destroyed && socket.write(PAYLOAD.subarray(0, 65_536)));
        }
        socket.on('drain', more)
        more()
      })
      const at = await listening(t, server)
      if (way === 'pipe') {
        const program = shell(t, `fairlead connect ${at} </dev/null | head -c1 | od -An -c; echo "\${PIPESTATUS[0]}"`)
        const { out, err } = await program.result()
        assert.deepEqual([out.trim().split(/\s+/), err], [['\\0', '0'], ''])
      } else {
        const program = fairlead(t, ['connect', at])
        await once(program.stdout, 'readable')
        program.stdout.destroy()
        assert.equal(await program.exited, 0)
        assert.equal(program.err.text, '')
      }
    })
  }

  test('it ends as well while the other direction is stopped by a full pipe', async (t) => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined)
      socket.pause()
      socket.write('one')
    })
    const at = await listening(t, server)
    const program = fairlead(t, ['connect', at])
    const socket = await accepted(server)
    program.stdin.write(PAYLOAD)
    await once(program.stdout, 'readable')
    program.stdout.destroy()
    socket.write('two')
    assert.equal(await program.exited, 0)
    assert.equal(program.err.text, '')
  })

  test('standard input from a file and output to a file', async (t) => {
    const at = await listening(t, echo())
    const cwd = folder(t)
    writeFileSync(join(cwd, 'in'), PAYLOAD)
    const { code, err } = await shell(t, `fairlead connect ${at} <in >out`, { cwd }).result()
    assert.equal(code, 0, err)
    assert.equal(digest(readFileSync(join(cwd, 'out'))), digest(PAYLOAD))
  })

  test('a full disk is told, with the exit code of the system', { skip: !existsSync('/dev/full') && 'no /dev/full' }, async (t) => {
    const at = await listening(t, echo())
    const { code, err } = await shell(t, `echo hello | fairlead connect ${at} >/dev/full`).result()
    assert.equal(code, EXIT_CODES.SystemFailure)
    assert.match(err, /standard output.*ENOSPC/)
  })

  test('a full disk is told at once, though the input goes on', { skip: !existsSync('/dev/full') && 'no /dev/full' }, async (t) => {
    const server = createServer((socket) => void socket.on('error', () => undefined).write('some bytes'))
    const program = shell(t, `exec fairlead connect ${await listening(t, server)} >/dev/full`)
    assert.equal(await program.exited, EXIT_CODES.SystemFailure)
    assert.match(program.err.text, /standard output: no space is left on the device \(ENOSPC\)/)
  })

  test(
    'programs that share the pipe of standard output find it as it was',
    { skip: !existsSync('/proc/self/fdinfo') && 'no /proc' },
    async (t) => {
      const at = await listening(t, echo())
      const { out, err } = await shell(t, `(echo hello | fairlead connect ${at}; cat /proc/self/fdinfo/1) | cat`).result()
      const [, flags = ''] = /^hello\n(?:.*\n)*flags:\s*([0-7]+)/.exec(out) ?? []
      assert.equal(Number.parseInt(flags, 8) & constants.O_NONBLOCK, 0, out + err)
    },
  )

  test('an open descriptor as an end', async (t) => {
    const at = await listening(t, echo())
    const cwd = folder(t)
    const { code, err } = await shell(
      t,
      `echo through 3 >in; fairlead relay fd:3 ${at} 3<in && fairlead connect ${at} fd:4 4<>in; cat in`,
      { cwd },
    ).result()
    assert.equal(code, 0, err)
    assert.match((await fairlead(t, ['connect', at, 'fd:99']).result()).err, /fd:99.*EBADF/)
  })

  test('a socket as an open descriptor, in both directions', async (t) => {
    const program = fairlead(t, ['connect', await listening(t, echo()), 'fd:3'], { stdio: ['pipe', 'pipe', 'pipe', 'pipe'] })
    const socket = program.child.stdio[3] as Socket
    socket.end('both ways')
    assert.equal((await everything(socket)).toString(), 'both ways')
    const { code, err } = await program.result()
    assert.equal(code, 0, err)
  })
})

describe('local ends', () => {
  test('connect sends a file; what comes back is counted and told', async (t) => {
    const at = await listening(t, echo())
    const path = join(folder(t), 'f')
    writeFileSync(path, 'contents')
    const { code, err } = await fairlead(t, ['connect', at, `file:${path}`]).result()
    assert.equal(code, 0)
    assert.match(err, /8 bytes came back and were dropped/)
  })

  test('listen writes a file, over what was in it', async (t) => {
    const path = join(folder(t), 'f')
    writeFileSync(path, 'something longer that was there')
    const program = fairlead(t, ['listen', 'tcp://127.0.0.1:0', `file:${path}`])
    const socket = await dialled(await listeningAt(program))
    socket.end('new')
    assert.equal((await everything(socket)).length, 0)
    assert.equal(await program.exited, 0, program.err.text)
    assert.equal(readFileSync(path, 'utf8'), 'new')
  })

  test('a file that is not there: 4', async (t) => {
    const at = await listening(t, echo())
    const { code, err } = await fairlead(t, ['connect', at, 'file:/no/such/file']).result()
    assert.equal(code, EXIT_CODES.SystemFailure)
    assert.match(err, /file:\/no\/such\/file: no such file or directory \(ENOENT\)/)
  })

  test('a file that cannot be written is no file that was received', { skip: !existsSync('/dev/full') && 'no /dev/full' }, async (t) => {
    const program = fairlead(t, ['listen', 'tcp://127.0.0.1:0', 'file:/dev/full'])
    const at = await listeningAt(program)
    const { code, err } = await fairlead(t, ['send', '-', at]).finish('the only copy').result()
    assert.equal(code, EXIT_CODES.Broken)
    assert.match(err, /ECONNRESET/)
    assert.equal(await program.exited, EXIT_CODES.SystemFailure)
    assert.match(program.err.text, /file:\/dev\/full: no space is left on the device \(ENOSPC\)/)
  })

  test('a named pipe is sent as its writer gives it, and nobody waits for a writer beyond a deadline or Ctrl-C', async (t) => {
    const path = named(t)
    const server = createServer()
    const at = await listening(t, server)
    const late = fairlead(t, ['connect', '--timeout', '300ms', await listening(t, createServer()), `file:${path}`])
    assert.equal(await late.exited, EXIT_CODES.DeadlineError)
    const coming = accepted(server)
    const stopped = fairlead(t, ['connect', at, `file:${path}`])
    await coming
    stopped.interrupt()
    assert.equal(await stopped.exited, EXIT_CODES.Cancelled)

    const socket = accepted(server)
    const program = fairlead(t, ['connect', at, `file:${path}`])
    const all = everything(await socket)
    shell(t, `printf 'one\\ntwo\\n' >${path}`)
    assert.equal((await all).toString(), 'one\ntwo\n')
    assert.equal(await program.exited, 0, program.err.text)
  })

  test('a named pipe that receives: its reader gets everything; without one nothing counts as received', async (t) => {
    const path = named(t)
    const program = fairlead(t, ['listen', '--keep', 'tcp://127.0.0.1:0', `file:${path}`])
    const at = await listeningAt(program)
    const { code } = await fairlead(t, ['send', '-', at]).finish('for nobody').result()
    assert.notEqual(code, 0)
    await program.err.until(/nobody has the other end of the pipe open \(ENXIO\)/)
    const reader = shell(t, `exec 3<>${path}; echo ready; exec head -c 5 <&3`)
    await reader.out.until(/ready/)
    assert.equal((await fairlead(t, ['send', '-', at]).finish('bytes').result()).code, 0)
    await reader.out.until(/bytes/)
  })

  test('a terminal gets everything at its own pace, as a file and as a descriptor', async (t) => {
    if (peerProgram(t, 'socat') === undefined) return
    const terminal = shell(t, 'exec socat -d -d -u PTY,rawer STDOUT')
    await terminal.err.until(/starting data transfer loop/)
    const [, path = ''] = await terminal.err.until(/PTY is (\S+)/)
    const text = `${'some text'.repeat(30_000)}\n`
    const server = createServer((socket) => void socket.on('error', () => undefined).write(text))
    const program = shell(t, `exec fairlead connect ${await listening(t, server)} fd:5 5<>${path}`)
    const first = await Promise.race([terminal.out.until(/\n/), program.exited])
    assert.ok(typeof first === 'object', program.err.text)
    program.interrupt()
    assert.equal(await program.exited, EXIT_CODES.Cancelled, program.err.text)

    const receiver = fairlead(t, ['listen', 'tcp://127.0.0.1:0', `file:${path}`])
    const { code, err } = await fairlead(t, ['send', '-', await listeningAt(receiver)])
      .finish(text)
      .result()
    assert.equal(code, 0, err + receiver.err.text)
    await terminal.out.until(/\n[^]*\n/)
    assert.ok(terminal.out.text === text + text)
  })

  test('relay between two local ends', async (t) => {
    const cwd = folder(t)
    writeFileSync(join(cwd, 'in'), 'b\na\n')
    const { code, err } = await fairlead(t, ['relay', `file:${join(cwd, 'in')}`, 'exec:sort >out'], { cwd }).result()
    assert.equal(code, 0, err)
    assert.equal(readFileSync(join(cwd, 'out'), 'utf8'), 'a\nb\n')
  })

  test('a program learns whom it serves, and its pipeline ends with a client that breaks', async (t) => {
    const program = fairlead(t, ['listen', '--keep', 'tcp://127.0.0.1:0', 'exec:echo "$FAIRLEAD_REMOTE"; echo $$; sleep 1000 | cat'])
    const socket = await dialled(await listeningAt(program))
    const output = new Output(socket)
    const [, port, pid] = await output.until(/127\.0\.0\.1:(\d+)\n(\d+)\n/)
    assert.equal(Number(port), socket.localPort)
    socket.resetAndDestroy()
    await program.err.until(/ECONNRESET/)
    program.interrupt()
    assert.equal(await program.exited, 0)
    assert.throws(() => process.kill(Number(pid), 0), { code: 'ESRCH' })
  })
})

test('a second Ctrl-C leaves no program behind', async (t) => {
  const program = fairlead(t, [
    'relay',
    'tcp://127.0.0.1:0',
    "exec:trap 'echo asked to end >&2; exit' TERM; echo here; for i in $(seq 3000); do sleep 0.01; done",
  ])
  const output = new Output(await dialled(await listeningAt(program)))
  await output.until(/here/)
  program.interrupt()
  await program.err.until(/Ctrl-C again/)
  program.interrupt()
  assert.equal(await program.exited, EXIT_CODES.Cancelled)
  await program.err.until(/asked to end/)
})

describe('joining', () => {
  test('a peer that stops reading and says why has said why', async () => {
    const why = new Broken('TLS_FAILED', 'the peer sent alert certificate_required')
    const told = new Promise<null>((_, reject) => setImmediate(reject, why))
    const peer: Stream = {
      read: () => told,
      write: () => Promise.reject(new Broken('EPIPE', 'the peer no longer reads')),
      end: async () => undefined,
      close: async () => undefined,
      abort: () => undefined,
    }
    const local: Stream = { ...peer, read: async () => Buffer.from('hello'), write: async () => undefined }
    await assert.rejects(joined(peer, local), why)
  })
})

describe('listen', () => {
  test('without --keep the second client is refused and the first is served', async (t) => {
    const program = fairlead(t, ['listen', '--json', 'tcp://127.0.0.1:0'])
    const [, at = ''] = await program.err.until(/"event":"listening".*"endpoint":"([^"]+)"/)
    const socket = await dialled(at)
    socket.write('x')
    await program.out.until('x')
    await assert.rejects(dialled(at), { code: 'ECONNREFUSED' })
    socket.end()
    program.finish()
    assert.equal(await program.exited, 0)
  })

  test('--connect-timeout limits the wait for a client: 5', async (t) => {
    const { code } = await fairlead(t, ['listen', '--connect-timeout', '200ms', 'tcp://127.0.0.1:0']).result()
    assert.equal(code, EXIT_CODES.DeadlineError)
  })

  test('--keep serves one client after the other, and standard input goes from one to the next without losing a byte', async (t) => {
    const program = fairlead(t, ['listen', '--keep', `unix:${join(folder(t), 's')}`])
    const at = await listeningAt(program)
    for (const name of ['one', 'two', 'three']) {
      const socket = await dialled(at)
      const output = new Output(socket)
      program.send(`to ${name}\n`)
      await output.until(`to ${name}\n`)
      socket.end(`from ${name}\n`)
      await output.ended
      assert.equal(output.text, `to ${name}\n`)
    }
    await program.out.until('from three\n')
    assert.equal(program.out.text, 'from one\nfrom two\nfrom three\n')
    program.interrupt()
    assert.equal(await program.exited, 0)
  })

  test('--keep with exec: gives each of many clients a program of its own, at once', async (t) => {
    const program = fairlead(t, ['listen', '--keep', 'tcp://127.0.0.1:0', 'exec:tr a-z A-Z'])
    const at = await listeningAt(program)
    const sockets = await Promise.all(Array.from({ length: 5 }, () => dialled(at)))
    const answers = sockets.map((socket) => everything(socket))
    for (const [i, socket] of [...sockets].reverse().entries()) socket.end(`client ${i}`)
    assert.deepEqual((await Promise.all(answers)).map(String), ['CLIENT 4', 'CLIENT 3', 'CLIENT 2', 'CLIENT 1', 'CLIENT 0'])
    program.interrupt()
    assert.equal(await program.exited, 0)
  })

  test('a UNIX socket has the permissions of --mode and is gone afterwards', async (t) => {
    const path = join(folder(t), 's')
    const program = fairlead(t, ['listen', '--mode', '660', `unix:${path}`])
    await listeningAt(program)
    assert.equal(statSync(path).mode & 0o777, 0o660)
    program.interrupt()
    assert.equal(await program.exited, 130)
    assert.equal(existsSync(path), false)
  })

  test('an address that is taken: 4', async (t) => {
    const at = await listening(t, createServer())
    const { code, err } = await fairlead(t, ['listen', at]).result()
    assert.equal(code, EXIT_CODES.SystemFailure)
    assert.match(err, /EADDRINUSE/)
  })
})

describe('TLS', () => {
  const tlsEcho = async (t: TestContext, options: object = {}) => {
    const { pem, ...files } = await credentials(t)
    const server = createTlsServer({ cert: pem.cert, key: pem.key, allowHalfOpen: true, ...options }, (socket) => socket.pipe(socket))
    const at = (await listening(t, server)).replace('tcp', 'tls')
    return { ...files, server, at }
  }

  test('--insecure says so every time, also with --quiet, and connects', async (t) => {
    const { at } = await tlsEcho(t)
    const { code, out, err } = await fairlead(t, ['connect', '--quiet', '--insecure', at]).finish('hello').result()
    assert.deepEqual([code, out], [0, 'hello'])
    assert.match(err, /^fairlead: warning: --insecure: the certificate of the peer is NOT verified/)
  })

  test('a pin of the right key connects, of another does not: 6', async (t) => {
    const { at, ca } = await tlsEcho(t)
    const pin = (
      await shell(
        t,
        `openssl s_client -connect ${at.slice(6)} </dev/null 2>/dev/null | openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64`,
      ).result()
    ).out.trim()
    const right = await fairlead(t, ['connect', '--ca', ca, '--pin', `sha256/${pin}`, at])
      .finish('hello')
      .result()
    assert.deepEqual([right.code, right.out], [0, 'hello'], right.err)
    const wrong = await fairlead(t, ['connect', '--ca', ca, '--pin', `${'A'.repeat(43)}=`, at]).result()
    assert.equal(wrong.code, EXIT_CODES.TlsError)
    assert.match(wrong.err, /PIN_MISMATCH/)
  })

  for (const pin of [
    '/PdqZ3eEpVdm+u/ko/cwxzOMo1bk4TyHIlByibiA5E0=',
    '//dqZ3eEpVdm+u/ko/cwxzOMo1bk4TyHIlByibiA5E0=',
    `${'A'.repeat(43)}=`,
  ]) {
    test(`the pin ${pin} may be spelled bare and behind sha256/, sha256// and sha256:`, () => {
      const spelled = ['', 'sha256/', 'sha256//', 'sha256:', 'SHA256:'].map((prefix) => prefix + pin)
      assert.deepEqual(
        spelled.map((spelling) => clientTls({ pin: [spelling] }, 'connect').pins),
        spelled.map(() => [pin]),
      )
    })
  }

  test('ALPN is negotiated and told; without a common protocol: 6', async (t) => {
    const { at, ca } = await tlsEcho(t, { ALPNProtocols: ['x-two'] })
    const { code, err } = await fairlead(t, ['connect', '--json', '--ca', ca, '--alpn', 'x-one,x-two', at]).finish().result()
    assert.equal(code, 0, err)
    assert.equal(lines(err).find(({ event }) => event === 'tls')?.['alpn'], 'x-two')
    assert.equal((await fairlead(t, ['connect', '--ca', ca, '--alpn', 'x-one', at]).result()).code, EXIT_CODES.TlsError)
  })

  test('--server-name is asked for and verified', async (t) => {
    const { at, ca } = await tlsEcho(t)
    const right = await fairlead(t, ['connect', '--json', '--ca', ca, '--server-name', 'localhost', at]).finish().result()
    assert.equal(lines(right.err).find(({ event }) => event === 'tls')?.['serverName'], 'localhost')
    const wrong = await fairlead(t, ['connect', '--ca', ca, '--server-name', 'other.example', at]).result()
    assert.equal(wrong.code, EXIT_CODES.TlsError)
    assert.match(wrong.err, /NAME_MISMATCH/)
  })

  test('client certificates: shown by connect, required by listen; keys may be encrypted', async (t) => {
    const server = await credentials(t)
    const { cert, key } = await (await authority()).issue({ names: ['client'], purpose: 'client', passphrase: 'open sesame' })
    const at = folder(t)
    writeFileSync(join(at, 'client.pem'), cert + key)
    writeFileSync(join(at, 'word'), 'open sesame\n')
    writeFileSync(join(at, 'wrong'), 'sesame\n')
    const listener = fairlead(t, [
      'listen',
      '--keep',
      '--cert',
      server.cert,
      '--key',
      server.key,
      '--require-client-cert',
      '--client-ca',
      server.ca,
      'tls://localhost:0',
      'exec:cat',
    ])
    const endpoint = await listeningAt(listener)
    const client = (file: string) =>
      fairlead(t, ['connect', '--ca', server.ca, '--cert', join(at, 'client.pem'), '--passphrase', join(at, file), endpoint])
    const { code, out, err } = await client('word').finish('hello').result()
    assert.deepEqual([code, out], [0, 'hello'], err)
    const wrong = await client('wrong').result()
    assert.equal(wrong.code, EXIT_CODES.TlsError)
    assert.match(wrong.err, /BAD_PASSPHRASE/)
    const none = await fairlead(t, ['connect', '--ca', server.ca, endpoint]).finish('hello').result()
    assert.equal(none.code, EXIT_CODES.Broken)
    assert.match(none.err, /certificate_required \(TLS_FAILED\)/)
  })

  test('listen without --cert makes a certificate, kept for the next time, and says how to verify it', async (t) => {
    const state = folder(t)
    const program = fairlead(t, ['listen', '--state', state, 'tls://localhost:0'])
    const [, ca = ''] = await program.err.until(/verify it with --ca (\S+)\n/)
    const client = fairlead(t, ['connect', '--ca', ca, await listeningAt(program)]).finish('hello')
    await program.out.until('hello')
    program.finish('answer')
    const { code, out } = await client.result()
    assert.deepEqual([code, out], [0, 'answer'])
    assert.equal(statSync(ca).mode & 0o077, 0)
  })
})

describe('datagrams of a stream', () => {
  const cut = (chunks: readonly Uint8Array[], o: { size: number; lines?: boolean }) => {
    const cutter = new Cutter(o)
    return [...chunks.flatMap((chunk) => [...cutter.cut(chunk)]), ...cutter.rest()].map((piece) => Buffer.from(piece).toString('latin1'))
  }
  /** Letters and line feeds, in pieces. */
  const pieces = fc.array(fc.array(fc.constantFrom(10, 97, 98, 99), { maxLength: 20 }).map((bytes) => Uint8Array.from(bytes)))

  test('nothing is lost, nothing is empty, nothing is over the size', () => {
    fc.assert(
      fc.property(pieces, fc.integer({ min: 1, max: 12 }), fc.boolean(), (chunks, size, lines) => {
        const made = cut(chunks, { size, lines })
        assert.equal(made.join(''), Buffer.concat(chunks).toString('latin1'))
        for (const one of made) assert.ok(one.length > 0 && one.length <= size, one)
      }),
    )
  })

  test('with --lines it does not matter in what pieces the lines come', () => {
    fc.assert(
      fc.property(pieces, fc.integer({ min: 1, max: 12 }), (chunks, size) => {
        const made = cut(chunks, { size, lines: true })
        assert.deepEqual(made, cut([Buffer.concat(chunks)], { size, lines: true }))
        for (const one of made) assert.ok(!one.slice(0, -1).includes('\n'), 'a datagram of two lines')
        for (const one of made.slice(0, -1)) assert.ok(one.endsWith('\n') || one.length === size, 'half a line')
      }),
    )
  })
})

describe('dialling', () => {
  test('--from binds the local end', async (t) => {
    const server = createServer((socket) => socket.end(String(socket.remoteAddress)))
    const at = await listening(t, server)
    const { code, out, err } = await fairlead(t, ['connect', '--from', 'tcp://127.0.0.9:0', at]).result()
    assert.deepEqual([code, out], [0, '127.0.0.9'], err)
  })

  test('an abstract UNIX name', { skip: process.platform !== 'linux' && 'Linux alone has abstract names' }, async (t) => {
    const name = `fairlead-test-${process.pid}`
    const program = fairlead(t, ['listen', `unix:@${name}`, 'exec:cat'])
    await listeningAt(program)
    const { code, out, err } = await fairlead(t, ['connect', `unix:@${name}`])
      .finish('hello')
      .result()
    assert.deepEqual([code, out], [0, 'hello'], err)
  })
})

describe('events', () => {
  test('--json: each connection opens and closes once, the end has counters, and an error has class, code and exit code', async (t) => {
    const at = await listening(t, echo())
    const { out, err } = await fairlead(t, ['connect', '--json', at]).finish('hello').result()
    const events = lines(err)
    assert.deepEqual(
      events.map(({ event }) => event),
      ['open', 'close', 'done'],
    )
    assert.equal(out, 'hello')
    const { received, sent, outcome } = events.at(-1) as Record<string, unknown>
    assert.deepEqual({ received, sent, outcome }, { received: 5, sent: 5, outcome: 'ended' })

    const failed = await fairlead(t, ['connect', '--json', 'tcp://127.0.0.1:http']).result()
    const [error] = lines(failed.err)
    assert.deepEqual([error?.['event'], error?.['class'], error?.['code'], error?.['exit']], ['error', 'AddressError', 'BAD_PORT', 3])
    assert.equal(lines((await fairlead(t, ['connect', '--json', '--nonsense']).result()).err)[0]?.['exit'], EXIT_CODES.Usage)
  })

  test('nothing a peer says reaches the terminal as a control character (attack 14)', async (t) => {
    const { code, err } = await fairlead(t, ['connect', 'tcp://a\u001b[2J:1']).result()
    assert.equal(code, EXIT_CODES.AddressError)
    assert.doesNotMatch(err, /[\u0000-\u0009\u000b-\u001f\u007f]/)
  })
})

describe('relay', () => {
  test('serves many clients at once, each with a connection of its own', async (t) => {
    let connections = 0
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      connections++
      socket.pipe(socket)
    })
    const at = await listening(t, server)
    const program = fairlead(t, ['relay', 'tcp://127.0.0.1:0', at])
    const front = await listeningAt(program)
    const sockets = await Promise.all(Array.from({ length: 50 }, () => dialled(front)))
    const answers = sockets.map((socket) => everything(socket))
    for (const [i, socket] of sockets.entries()) socket.end(`client ${i}`)
    assert.deepEqual(
      (await Promise.all(answers)).map(String),
      sockets.map((_, i) => `client ${i}`),
    )
    assert.equal(connections, 50)
    program.interrupt()
    assert.equal(await program.exited, 0)
  })

  test('a client whose B cannot be reached is reset, is told of, and disturbs no other', async (t) => {
    const path = join(folder(t), 'later')
    const program = fairlead(t, ['relay', 'tcp://127.0.0.1:0', `unix:${path}`])
    const front = await listeningAt(program)
    // The reset may come before the client knows that it was connected.
    const early = connect(Number(front.split(':').at(-1)), '127.0.0.1')
    const reset = once(early, 'data').then(
      () => undefined,
      (error: NodeJS.ErrnoException) => error.code,
    )
    assert.equal(await reset, 'ECONNRESET')
    await program.err.until(/127\.0\.0\.1:\d+: .*ENOENT/)
    await listening(t, echo(), path)
    const socket = await dialled(front)
    socket.end('hello')
    assert.equal(String(await everything(socket)), 'hello')
  })

  for (const side of ['client', 'server']) {
    test(`a reset by the ${side} is passed on as a reset, never as an end`, async (t) => {
      const server = createServer({ allowHalfOpen: true })
      const at = await listening(t, server)
      const program = fairlead(t, ['relay', 'tcp://127.0.0.1:0', at])
      const arrives = accepted(server)
      const client = await dialled(await listeningAt(program))
      const behind = await arrives
      client.write('ping')
      await once(behind, 'data')
      behind.write('pong')
      await once(client, 'data')
      const [resets, sees] = side === 'client' ? [client, behind] : [behind, client]
      let ended = false
      sees.on('end', () => {
        ended = true
      })
      const failed = closing(sees)
      resets.resetAndDestroy()
      assert.equal(await failed, true)
      assert.equal(ended, false)
    })
  }

  test('Ctrl-C drains: who is served may finish, who comes is refused; a second one ends at once', async (t) => {
    const at = await listening(t, echo())
    const program = fairlead(t, ['relay', '--json', 'tcp://127.0.0.1:0', at])
    const [, front = ''] = await program.err.until(/"event":"listening".*"endpoint":"([^"]+)"/)
    const [first, second] = [await dialled(front), await dialled(front)]
    for (const socket of [first, second]) {
      socket.write('here')
      await once(socket, 'data')
    }
    program.interrupt()
    await program.err.until(/"event":"drain".*"stage":"listeners-closed","connections":2/)
    await assert.rejects(dialled(front), { code: 'ECONNREFUSED' })
    first.end('more')
    assert.equal(String(await everything(first)), 'more')
    program.interrupt()
    assert.equal(await program.exited, 130)
  })

  test('--idle-timeout ends a client that says nothing, and its connection to B', async (t) => {
    const server = createServer({ allowHalfOpen: true })
    const at = await listening(t, server)
    const program = fairlead(t, ['relay', '--idle-timeout', '200ms', 'tcp://127.0.0.1:0', at])
    const arrives = accepted(server)
    const client = await dialled(await listeningAt(program))
    const behind = await arrives
    behind.resume()
    client.resume()
    await Promise.all([closing(client), closing(behind)])
    await program.err.until('no byte in either direction for 200 ms')
  })
})
