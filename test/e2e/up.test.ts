// `fairlead up`: what a newcomer does, with the commands as they are printed.

import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { describe, test, type TestContext } from 'node:test'
import { fairlead, folder, peerProgram, type Program, root, shell } from './program.js'

interface Up {
  readonly program: Program
  /** transport → commands, as printed. */
  readonly commands: Map<string, string[]>
  readonly endpoints: string[]
  readonly env: Record<string, string>
}

/** The endpoints and commands of what `up` prints. */
function printed(text: string): Pick<Up, 'commands' | 'endpoints'> {
  const commands = new Map<string, string[]>()
  const endpoints: string[] = []
  for (const line of text.split('\n')) {
    const [, endpoint, command] = /^ {2}(\S+)|^ {6}(\S.*)$/.exec(line) ?? []
    if (endpoint !== undefined) endpoints.push(endpoint)
    if (command !== undefined) {
      const transport = (endpoints.at(-1) as string).split(':')[0] as string
      commands.set(transport, [...(commands.get(transport) ?? []), command])
    }
  }
  return { commands, endpoints }
}

async function up(t: TestContext, args: readonly string[] = [], directory: string = folder(t)): Promise<Up> {
  const env = { XDG_STATE_HOME: join(directory, 'state of things'), XDG_RUNTIME_DIR: directory, HOME: directory }
  const program = fairlead(t, ['up', '--tcp-port', '0', '--tls-port', '0', '--udp-port', '0', ...args], { env })
  await program.out.until('Ctrl-C ends it.')
  return { program, env, ...printed(program.out.text) }
}

/** How much of a command says which program it is. */
const WORDS: Record<string, RegExp> = {
  fairlead: /main\.js'? connect |^fairlead /,
  nc: /^nc /,
  socat: /^socat /,
  openssl: /^openssl s_client /,
}

describe('up', () => {
  for (const [transport, peers] of Object.entries({
    tcp: ['fairlead', 'nc', 'socat'],
    tls: ['fairlead', 'openssl', 'socat'],
    udp: ['fairlead', 'nc', 'socat'],
    unix: ['fairlead', 'nc', 'socat'],
  })) {
    for (const peer of peers) {
      test(`the ${transport} command with ${peer} works as printed`, async (t) => {
        if (peer !== 'fairlead' && peerProgram(t, peer) === undefined) return
        const { commands, env } = await up(t)
        const command = commands.get(transport)?.find((line) => (WORDS[peer] as RegExp).test(line))
        assert.ok(command, JSON.stringify([...commands]))
        const [one, other] = [shell(t, command, { env }), shell(t, command, { env })]
        // Over UDP nobody is there before the first line.
        if (transport === 'udp') for (const guest of [one, other]) guest.send('/join\n')
        await one.out.until('Welcome, guest-')
        await other.out.until('Welcome, guest-')
        one.send('/name Ada\n')
        await other.out.until(/is Ada now\n/)
        one.send('hello from here\n')
        await other.out.until('Ada: hello from here\n')
        other.send('/quit\n')
        await other.out.until('* Goodbye.\n')
        await one.out.until(/\* guest-\d left\n/)
      })
    }
  }

  test('lines cross from every transport to every other', async (t) => {
    const { commands, env } = await up(t)
    const guests = ['tcp', 'tls', 'udp', 'unix'].map((transport) => shell(t, commands.get(transport)?.[0] as string, { env }))
    guests[2]?.send('/join\n')
    for (const guest of guests) await guest.out.until('Welcome')
    for (const [i, guest] of guests.entries()) {
      guest.send(`greetings from ${i}\n`)
      for (const other of guests) if (other !== guest) await other.out.until(`greetings from ${i}\n`)
      assert.doesNotMatch(guest.out.text, new RegExp(`greetings from ${i}`))
    }
  })

  test('Ctrl-C says goodbye to everybody, ends in order with 0, and takes the socket away', async (t) => {
    const { program, endpoints, env, commands } = await up(t)
    const path = endpoints.find((endpoint) => endpoint.startsWith('unix:'))?.slice(5) as string
    assert.ok(existsSync(path))
    const guests = ['tcp', 'tls', 'unix'].map((transport) => shell(t, commands.get(transport)?.[0] as string, { env }))
    for (const guest of guests) await guest.out.until('Welcome')
    program.interrupt()
    for (const guest of guests) {
      await guest.out.until('* The server is closing. Goodbye.\n')
      const { code, err } = await guest.result()
      assert.equal(code, 0, err)
    }
    assert.equal(await program.exited, 0, program.err.text)
    assert.equal(existsSync(path), false)
  })

  test('a guest on UDP hears that the server is closing, and leaves after a silence', async (t) => {
    const { program, commands, env } = await up(t, ['--idle-timeout', '1s'])
    const [silent, guest] = ['udp', 'udp'].map((transport) => shell(t, commands.get(transport)?.[0] as string, { env }))
    guest?.send('/join\n')
    await guest?.out.until('Welcome, guest-1')
    silent?.send('hello\n')
    await silent?.out.until('* You have said nothing for a long time. Goodbye')
    guest?.send('back again\n')
    await guest?.out.until('Welcome, guest-3')
    program.interrupt()
    await guest?.out.until('* The server is closing. Goodbye.\n')
    assert.equal(await program.exited, 0, program.err.text)
  })

  test('ports that are taken are replaced, which is said', async (t) => {
    const taken = createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    t.after(() => taken.close())
    const { port } = taken.address() as { port: number }
    const bound = createSocket('udp4').bind(0, '127.0.0.1')
    await once(bound, 'listening')
    t.after(() => bound.close())
    const { program, endpoints } = await up(t, ['--tcp-port', String(port), '--udp-port', String(bound.address().port)])
    await program.err.until(`tcp://127.0.0.1:${port} is taken; using a free port`)
    await program.err.until(`udp://127.0.0.1:${bound.address().port} is taken; using a free port`)
    assert.notEqual(endpoints[0], `tcp://127.0.0.1:${port}`)
  })

  test('a second one beside the first has a UNIX socket of its own, and leaves that of the first alone', async (t) => {
    const directory = folder(t)
    const first = await up(t, [], directory)
    const second = await up(t, [], directory)
    const [one, two] = [first, second].map(({ endpoints }) => endpoints.at(-1))
    assert.notEqual(one, two)
    second.program.interrupt()
    assert.equal(await second.program.exited, 0)
    const client = connect((one as string).slice(5))
    await once(client, 'connect')
    client.destroy()
  })

  test('the certificate is made once, and its files are for the owner only', async (t) => {
    const directory = folder(t)
    const authority = join(directory, 'state of things', 'fairlead', 'authority')
    await up(t, [], directory)
    const before = readdirSync(authority).map((name) => [
      name,
      statSync(join(authority, name)).mtimeMs,
      statSync(join(authority, name)).mode & 0o077,
    ])
    assert.ok(before.length >= 3)
    for (const [name, , others] of before) assert.equal(others, 0, String(name))
    await up(t, [], directory)
    assert.deepEqual(
      readdirSync(authority).map((name) => [name, statSync(join(authority, name)).mtimeMs, 0]),
      before,
    )
  })

  test('a state directory that cannot be used is told in one line', async (t) => {
    // Below a file nobody can make a directory, not even root, who may write everywhere.
    const file = join(folder(t), 'file')
    writeFileSync(file, '')
    const { code, err } = await fairlead(t, ['up', '--state', join(file, 'x')]).result()
    assert.notEqual(code, 0)
    assert.match(err, /^fairlead: [^\n]*file\/x[^\n]*\n$/)
  })

  test('--json tells where it listens and what authority to trust', async (t) => {
    const directory = folder(t)
    const program = fairlead(t, ['up', '--json', '--tcp-port', '0', '--tls-port', '0', '--udp-port', '0', '--state', directory])
    await program.err.until(/"event":"certificate"/)
    const events = program.err.text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, string>)
    const listening = events.filter(({ event }) => event === 'listening')
    assert.deepEqual(
      listening.map(({ endpoint }) => endpoint?.split(':')[0]),
      ['tcp', 'tls', 'udp', 'unix'],
    )
    assert.equal(program.out.text, '')
  })

  test('garbage on the TLS port is an error for its sender, and nothing for the others', async (t) => {
    const { commands, env, endpoints } = await up(t)
    const guest = shell(t, commands.get('tls')?.[0] as string, { env })
    await guest.out.until('Welcome')
    const garbage = connect(Number(endpoints[1]?.split(':').at(-1)), '127.0.0.1')
    garbage.on('error', () => undefined).resume()
    garbage.write('GET / HTTP/1.0\r\n\r\n')
    await new Promise((resolve) => garbage.once('close', resolve))
    guest.send('/who\n')
    await guest.out.until('* Here: guest-1 (TLS)\n')
  })
})

describe('on a terminal', () => {
  /** The program on a pseudo-terminal of socat, with what a server sends to it. */
  const terminal = async (t: TestContext, options: string, greeting: string): Promise<Program | undefined> => {
    if (peerProgram(t, 'socat') === undefined) return undefined
    const server = createServer((socket) => socket.on('error', () => undefined).end(greeting)).listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.after(() => server.close())
    const { port } = server.address() as { port: number }
    const quoted = `fairlead connect ${options} 'tcp\\://127.0.0.1\\:${port}'`
    return shell(t, `socat - "EXEC:${quoted},pty,setsid,ctty,echo=0,opost=0"`, { cwd: root })
  }

  const HOSTILE = 'a\u001b]0;title\u0007b\u009b2Jc\u202ed\tä\n'

  test('control characters of the peer are spelled out (attack 14)', async (t) => {
    const program = await terminal(t, '', HOSTILE)
    if (program === undefined) return
    await program.out.until('\n')
    assert.equal(Buffer.from(program.out.text, 'latin1').toString(), 'a\\u{1b}]0;title\\u{7}b\\u{9b}2Jc\\u{202e}d\tä\n')
  })

  test('with --raw they are not', async (t) => {
    const program = await terminal(t, '--raw', HOSTILE)
    if (program === undefined) return
    await program.out.until('\n')
    assert.equal(Buffer.from(program.out.text, 'latin1').toString(), HOSTILE)
  })

  test('the end of the peer ends the program, though nobody ended the input', async (t) => {
    const program = await terminal(t, '', 'bye\n')
    if (program === undefined) return
    await program.out.until('bye\n')
    assert.equal(await program.exited, 0)
  })
})

describe('the progress line', () => {
  test('a long transfer has one on a terminal, which is taken away at the end', async (t) => {
    if (peerProgram(t, 'socat') === undefined) return
    const at = folder(t)
    const sockets: Socket[] = []
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => undefined)
      sockets.push(socket)
      socket.write(Buffer.alloc(1_500))
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.after(() => server.close())
    const { port } = server.address() as { port: number }
    const script = join(at, 'transfer')
    writeFileSync(script, `#!/bin/sh\nexec fairlead connect tcp://127.0.0.1:${port} </dev/null >out\n`, { mode: 0o755 })
    const program = shell(t, `exec socat - "EXEC:${script},pty,setsid,stderr,opost=0"`, { cwd: at })
    await program.out.until(/received 1\.5 KiB {2}sent 0 B {2}.*\/s/)
    for (const socket of sockets) socket.end()
    await program.out.until(/\r\u001b\[K$/)
    assert.equal(await program.exited, 0)
    assert.equal(statSync(join(at, 'out')).size, 1_500)
  })
})
