// Datagram sockets with other programs at the other end: socat, ncat and nc, members of multicast groups, floods, and
// machines of their own in network namespaces.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { describe, test, type TestContext } from 'node:test'
import { type Datagram, type DatagramSocket, Network } from 'fairlead'
import { peerProgram, Program, root } from './program.js'

const hasIpv6 = networkInterfaces()['lo']?.some(({ family }) => family === 'IPv6') === true
const textOf = ({ data }: Datagram): string => Buffer.from(data).toString()
const portOf = (socket: DatagramSocket): number => (socket.local as { port: number }).port
/** Long enough for a program to start on a busy machine. */
const PATIENCE = { timeout: 20_000 }

function network(t: TestContext): Network {
  const net = new Network()
  t.after(() => net.end({ abort: true }))
  return net
}

/** A port that nobody has now: for programs that cannot be asked which one the system gave them. */
async function freePort(): Promise<number> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const { port } = socket.address()
  socket.close()
  await once(socket, 'close')
  return port
}

/**
 * The first answer of a program that is perhaps not there yet: until it is, the socket hears that nobody listens, or
 * nothing at all, and goes on.
 */
async function firstAnswer(socket: DatagramSocket, question: string): Promise<string> {
  const until = performance.now() + PATIENCE.timeout
  for (;;) {
    await socket.send(question)
    try {
      return textOf(await socket.receive({ timeout: 100 }))
    } catch (error) {
      const { code } = error as { code?: string }
      if ((code !== 'ECONNREFUSED' && code !== 'DEADLINE') || performance.now() > until) throw error
    }
  }
}

/** Answers every datagram in capitals until the socket is closed. */
async function shout(socket: DatagramSocket): Promise<void> {
  for await (const datagram of socket) await socket.send(textOf(datagram).toUpperCase(), datagram.from)
}

describe('programs that ask', () => {
  const clients: { name: string; command: string; args: (port: number) => string[]; at?: string; ipv6?: boolean }[] = [
    { name: 'socat over IPv4', command: 'socat', args: (port) => ['-t', '30', '-', `UDP4:127.0.0.1:${port}`] },
    { name: 'socat over IPv6', command: 'socat', args: (port) => ['-t', '30', '-', `UDP6:[::1]:${port}`], at: '[::1]', ipv6: true },
    {
      name: 'socat over IPv4 to a dual-stack socket',
      command: 'socat',
      args: (port) => ['-', `UDP4:127.0.0.1:${port}`],
      at: '*',
      ipv6: true,
    },
    { name: 'socat over IPv6 to a dual-stack socket', command: 'socat', args: (port) => ['-', `UDP6:[::1]:${port}`], at: '*', ipv6: true },
    { name: 'ncat -u', command: 'ncat', args: (port) => ['-u', '127.0.0.1', String(port)] },
    { name: 'nc -u', command: 'nc', args: (port) => ['-u', '127.0.0.1', String(port)] },
  ]
  for (const { name, command, args, at = '127.0.0.1', ipv6 = false } of clients) {
    test(name, { skip: ipv6 && !hasIpv6 ? 'no IPv6 here' : false }, async (t) => {
      if (peerProgram(t, command) === undefined) return
      const socket = await network(t).bind(`udp://${at}:0`)
      const serving = shout(socket)
      const program = new Program(t, command, args(portOf(socket)))
      program.send('question\n')
      await program.out.until('QUESTION\n')
      program.send('another\n')
      await program.out.until('ANOTHER\n')
      await socket.close()
      await serving
    })
  }

  test('a dual-stack socket knows IPv4 clients by their IPv4 addresses', { skip: hasIpv6 ? false : 'no IPv6 here' }, async (t) => {
    if (peerProgram(t, 'socat') === undefined) return
    const socket = await network(t).bind('udp://*:0')
    new Program(t, 'socat', ['-u', '-', `UDP4:127.0.0.1:${portOf(socket)},bind=127.0.0.3`]).finish('hello')
    const { from } = await socket.receive(PATIENCE)
    assert.equal(from.family === 'ipv4' && from.address, '127.0.0.3')
  })

  test('a datagram of 60,000 bytes comes whole', async (t) => {
    if (peerProgram(t, 'socat') === undefined) return
    const socket = await network(t).bind('udp://127.0.0.1:0')
    const text = 'fairlead '.repeat(7_000).slice(0, 60_000)
    new Program(t, 'socat', ['-u', '-b', '65507', 'SYSTEM:sleep 0.2; cat', `UDP4-SENDTO:127.0.0.1:${portOf(socket)}`]).finish(text)
    let received = ''
    while (received.length < text.length) received += textOf(await socket.receive(PATIENCE))
    assert.equal(received, text)
  })
})

describe('programs that answer', () => {
  const servers: { name: string; command: string; args: (port: number) => string[] }[] = [
    { name: 'socat', command: 'socat', args: (port) => [`UDP4-RECVFROM:${port},bind=127.0.0.1,fork`, 'EXEC:tr a-z A-Z'] },
    { name: 'ncat -u -l', command: 'ncat', args: (port) => ['-u', '-l', '127.0.0.1', String(port), '-c', 'sed -u s/question/QUESTION/'] },
  ]
  for (const { name, command, args } of servers) {
    test(`${name}, not there yet at first`, async (t) => {
      if (peerProgram(t, command) === undefined) return
      const port = await freePort()
      const socket = await network(t).connect(`udp://127.0.0.1:${port}`)
      await socket.send('anybody?')
      await assert.rejects(socket.receive(PATIENCE), { name: 'Broken', code: 'ECONNREFUSED', op: 'receive' })
      new Program(t, command, args(port))
      assert.match(await firstAnswer(socket, 'question\n'), /QUESTION/)
    })
  }

  test('nc -u -l shows what it hears, and says what it is told', async (t) => {
    if (peerProgram(t, 'nc') === undefined) return
    const port = await freePort()
    const program = new Program(t, 'nc', ['-u', '-l', '127.0.0.1', String(port)])
    const socket = await network(t).connect(`udp://127.0.0.1:${port}`)
    program.send('answer\n')
    assert.equal(await firstAnswer(socket, 'question\n'), 'answer\n')
    await program.out.until('question\n')
  })
})

describe('multicast on the loopback interface', () => {
  test('socat is a member', async (t) => {
    if (peerProgram(t, 'socat') === undefined) return
    const port = await freePort()
    const member = new Program(t, 'socat', ['-u', `UDP4-RECV:${port},ip-add-membership=239.255.13.1:127.0.0.1`, '-'])
    const socket = await network(t).bind('udp://0.0.0.0:0', { multicastInterface: '127.0.0.1' })
    let heard = false
    const hearing = member.out.until('to all\n').then(() => (heard = true))
    // Nothing tells when it has joined.
    for (const end = performance.now() + PATIENCE.timeout; !heard && performance.now() < end;) {
      await socket.send('to all\n', `udp://239.255.13.1:${port}`)
      await Promise.race([hearing, new Promise((resolve) => setTimeout(resolve, 50))])
    }
    await hearing
  })

  test('socat sends to a group that was joined, and after leaving nothing comes', async (t) => {
    if (peerProgram(t, 'socat') === undefined) return
    const socket = await network(t).bind('udp://0.0.0.0:0')
    const send = (text: string) =>
      new Program(t, 'socat', ['-u', '-', `UDP4-DATAGRAM:239.255.13.2:${portOf(socket)},ip-multicast-if=127.0.0.1`]).finish(text).exited
    socket.join('239.255.13.2', { interface: '127.0.0.1' })
    await send('to the group')
    assert.equal(textOf(await socket.receive(PATIENCE)), 'to the group')
    socket.leave('239.255.13.2', { interface: '127.0.0.1' })
    await send('to nobody')
    assert.equal(socket.tryReceive(), undefined)
  })
})

/** Sends to a port until it is killed. */
const FLOOD = `
  import { createSocket } from 'node:dgram'
  const socket = createSocket({ type: 'udp4', lookup: (address, family, done) => done(null, address, 4) })
  const data = Buffer.alloc(100)
  const again = () => {
    for (let i = 0; i < 64; i++) socket.send(data, Number(process.argv[1]), '127.0.0.1')
    setImmediate(again)
  }
  again()`

function flood(t: TestContext, socket: DatagramSocket): Program {
  return new Program(t, process.execPath, ['--input-type=module', '-e', FLOOD, String(portOf(socket))])
}

describe('under a flood', () => {
  test('timers, deadlines and other sockets go on', async (t) => {
    const net = network(t)
    const victim = await net.bind('udp://127.0.0.1:0')
    let count = 0
    const counting = (async () => {
      for await (const _ of victim) count++
    })()
    const quiet = await net.bind('udp://127.0.0.1:0')
    const serving = shout(quiet)
    await using listener = await net.listen('tcp://127.0.0.1:0')
    const [a, b] = await Promise.all([net.connect(listener.endpoint), listener.accept()])
    const client = await net.connect(quiet.endpoint as `udp://${string}`)
    flood(t, victim)
    for (const end = performance.now() + PATIENCE.timeout; count < 10_000 && performance.now() < end;) {
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    assert.ok(count >= 10_000)
    const before = count
    for (let i = 0; i < 20; i++) {
      const start = performance.now()
      await a.write(`line ${i}\n`)
      assert.equal(await b.readLine({ timeout: 2_000 }), `line ${i}`)
      await client.send(`datagram ${i}`)
      assert.equal(textOf(await client.receive({ timeout: 2_000 })), `DATAGRAM ${i}`)
      await assert.rejects(a.read({ timeout: 10 }), { code: 'DEADLINE' })
      assert.ok(performance.now() - start < 2_000)
    }
    assert.ok(count > before)
    await Promise.all([victim.close(), quiet.close()])
    await Promise.all([counting, serving])
  })

  test('nobody receives: as many as agreed are kept, the others are counted, and the newest are there', async (t) => {
    const net = network(t)
    const { datagrams } = net.limits
    const socket = await net.bind('udp://127.0.0.1:0')
    const program = flood(t, socket)
    for (const end = performance.now() + PATIENCE.timeout; socket.stats.dropped < 20_000 && performance.now() < end;) {
      await new Promise((resolve) => setTimeout(resolve, 10))
      assert.ok(socket.stats.unread <= datagrams * 100)
    }
    program.kill('SIGKILL')
    await program.exited
    assert.ok(socket.stats.dropped >= 20_000)
    assert.equal(socket.stats.unread, datagrams * 100)
    for (let i = 0; i < datagrams; i++) assert.equal(socket.tryReceive()?.data.length, 100)
    assert.equal(socket.stats.unread, 0)
  })

  test('a sender that never pauses lets timers run', async (t) => {
    const net = network(t)
    const [a, b] = [await net.bind('udp://127.0.0.1:0'), await net.bind('udp://127.0.0.1:0')]
    let ticks = 0
    const timer = setInterval(() => ticks++, 1)
    t.after(() => clearInterval(timer))
    const data = new Uint8Array(100)
    const to = b.local
    while (ticks < 10) await a.send(data, to)
    const many = function* () {
      while (ticks < 20) yield { data, to }
    }
    assert.ok((await a.sendMany(many())) > 0)
    assert.ok(b.stats.unread > 0)
  })
})

describe('two machines', () => {
  /** Two network namespaces joined by a cable; undefined after having skipped the test. */
  function machines(t: TestContext): { near: string; far: string } | undefined {
    const ip = peerProgram(t, 'ip')
    if (ip === undefined) return undefined
    const run = (...args: string[]) => spawnSync(ip, args, { encoding: 'utf8' })
    const [near, far] = ['near', 'far'].map((name) => `fairlead-${name}-${process.pid}`) as [string, string]
    if (process.getuid?.() !== 0 || run('netns', 'add', near).status !== 0) {
      t.skip('needs the right to make network namespaces')
      return undefined
    }
    t.after(() => {
      for (const name of [near, far]) run('netns', 'del', name)
    })
    const lines = [
      `netns add ${far}`,
      `link add cable netns ${near} type veth peer name cable netns ${far}`,
      ...[near, far].flatMap((name, i) => [
        `-n ${name} link set lo up`,
        `-n ${name} address add 10.77.0.${i + 1}/24 dev cable`,
        `-n ${name} address add fd77::${i + 1}/64 dev cable nodad`,
        `-n ${name} link set cable up`,
      ]),
    ]
    for (const line of lines) {
      const { status, stderr } = run(...line.split(' '))
      if (status !== 0) {
        t.skip(`ip ${line}: ${stderr}`)
        return undefined
      }
    }
    // The cable is seen a moment after it is plugged in.
    for (const name of [near, far]) while (!run('-n', name, 'link', 'show', 'cable').stdout.includes('state UP'));
    return { near, far }
  }

  /** Runs a module in a network namespace. */
  function within(t: TestContext, machine: string, code: string): Program {
    const from = JSON.stringify(join(root, 'dist', 'index.js'))
    const source = `import { bind } from ${from}\nconst text = ({ data }) => Buffer.from(data).toString()\n${code}`
    return new Program(t, 'ip', ['netns', 'exec', machine, process.execPath, '--input-type=module', '-e', source])
  }

  const groups: [name: string, group: string, at: string, o: string][] = [
    ['IPv4, interface by name', '239.255.14.1', '*', '{ interface: "cable" }'],
    ['IPv4, interface by address', '239.255.14.2', '0.0.0.0', '{ interface: "10.77.0.2" }'],
    ['IPv4, from one source', '232.14.14.14', '0.0.0.0', '{ interface: "cable", source: "10.77.0.1" }'],
    ['IPv6, interface by name', 'ff12::14:1', '*', '{ interface: "cable" }'],
    ['IPv6, interface by address', 'ff15::14:2', '[::]', '{ interface: "fd77::2" }'],
    ['IPv6, from one source', 'ff3e::14:3', '[::]', '{ interface: "cable", source: "fd77::1" }'],
  ]
  test('multicast reaches the members on the other one, by address and name of the interface, from any source or one', async (t) => {
    const both = machines(t)
    if (both === undefined) return
    for (const [name, group, at, o] of groups) {
      const member = within(
        t,
        both.far,
        `const socket = await bind('udp://${at}:0')
        socket.join('${group}', ${o})
        console.log('port', socket.local.port)
        const first = await socket.receive({ timeout: 15_000 })
        console.log('heard', text(first))
        await socket.send('welcome', first.from)
        await socket.close()`,
      )
      const [, port] = await member.out.until(/port (\d+)/).catch((error) => assert.fail(`${name}: ${error} ${member.err.text}`))
      const ipv6 = group.includes(':')
      const sender = within(
        t,
        both.near,
        `const socket = await bind('udp://${ipv6 ? '[fd77::1]' : '10.77.0.1'}:0', { multicastInterface: 'cable', multicastTtl: 2 })
        await socket.send('to all', 'udp://${ipv6 ? `[${group}]` : group}:${port}')
        console.log('heard', text(await socket.receive({ timeout: 15_000 })))
        await socket.close()`,
      )
      const [asked, answered] = await Promise.all([member.result(), sender.result()])
      assert.deepEqual([asked.code, answered.code, answered.out], [0, 0, 'heard welcome\n'], name + asked.err + answered.err)
      assert.match(asked.out, /heard to all/, name)
    }
  })

  test('multicastLoopback keeps a sender’s own machine out', async (t) => {
    const both = machines(t)
    if (both === undefined) return
    const program = within(
      t,
      both.near,
      `const member = await bind('udp://0.0.0.0:0')
      member.join('239.255.14.9', { interface: 'cable' })
      const socket = await bind('udp://10.77.0.1:0', { multicastInterface: 'cable', multicastLoopback: false })
      const to = 'udp://239.255.14.9:' + member.local.port
      await socket.send('not here', to)
      socket.set('multicastLoopback', true)
      await socket.send('here', to)
      console.log(text(await member.receive({ timeout: 15_000 })))
      await Promise.all([member.close(), socket.close()])`,
    )
    const { code, out, err } = await program.result()
    assert.deepEqual([code, out], [0, 'here\n'], err)
  })

  test('a broadcast reaches the other one, where the sender was allowed to send it', async (t) => {
    const both = machines(t)
    if (both === undefined) return
    const hearer = within(
      t,
      both.far,
      `const socket = await bind('udp://0.0.0.0:0')
      console.log('port', socket.local.port)
      console.log('heard', text(await socket.receive({ timeout: 15_000 })))
      await socket.close()`,
    )
    const [, port] = await hearer.out.until(/port (\d+)/)
    const sender = within(
      t,
      both.near,
      `const socket = await bind('udp://0.0.0.0:0')
      const refused = await socket.send('all', 'udp://10.77.0.255:${port}').catch((error) => error.code)
      socket.set('broadcast', true)
      await socket.send('all', 'udp://10.77.0.255:${port}')
      console.log(refused)
      await socket.close()`,
    )
    const [asked, said] = await Promise.all([hearer.result(), sender.result()])
    assert.deepEqual([said.out, asked.code], ['EACCES\n', 0], said.err + asked.err)
    assert.match(asked.out, /heard all/)
  })

  test('link-local addresses are reached and told with their interface', async (t) => {
    const both = machines(t)
    if (both === undefined) return
    for (const [i, name] of [both.near, both.far].entries()) {
      spawnSync('ip', ['-n', name, 'address', 'add', `fe80::77:${i + 1}/64`, 'dev', 'cable', 'nodad'])
    }
    const echo = within(
      t,
      both.far,
      `const socket = await bind('udp://[fe80::77:2%cable]:0')
      console.log('port', socket.local.port)
      const { data, from } = await socket.receive({ timeout: 15_000 })
      console.log('from', from.address, from.scope)
      await socket.send(data, from)
      await socket.close()`,
    )
    const [, port] = await echo.out.until(/port (\d+)/)
    const asker = within(
      t,
      both.near,
      `const socket = await bind('udp://[fe80::77:1%cable]:0')
      await socket.send('hello', 'udp://[fe80::77:2%cable]:${port}')
      console.log(text(await socket.receive({ timeout: 15_000 })))
      await socket.close()`,
    )
    const [there, here] = await Promise.all([echo.result(), asker.result()])
    assert.deepEqual([there.code, here.code, here.out], [0, 0, 'hello\n'], there.err + here.err)
    assert.match(there.out, /from fe80::77:1 cable/)
  })
})
