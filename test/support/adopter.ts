/** A process that takes over the descriptors it is started with, from 3 on, and says what became of them, a line each. */

import { spawnSync } from 'node:child_process'
import { fstatSync, openSync } from 'node:fs'
import { devNull } from 'node:os'
import { bind, connect, formatAddress, inheritedDescriptors, listen, Network, serve } from 'fairlead'

const [, , action, text = '{}'] = process.argv
const given = JSON.parse(text) as { cert?: string; key?: string; ca?: string; unset?: boolean }

function say(what: object): void {
  process.stdout.write(`${JSON.stringify(what)}\n`)
}

const isOpen = (fd: number): boolean => {
  try {
    fstatSync(fd)
    return true
  } catch {
    return false
  }
}

/** What an attempt fails with. */
async function failing(attempt: () => Promise<unknown>): Promise<unknown> {
  try {
    await attempt()
    return 'nothing'
  } catch (error) {
    const { code, name, message } = error as { code: string; name: string; message: string }
    return { name, code, message }
  }
}

const ACTIONS: Record<string, () => Promise<unknown>> = {
  async listener() {
    const { cert, key } = given
    await using listener = cert === undefined ? await listen({ fd: 3 }) : await listen({ fd: 3, transport: 'tls' }, { tls: { cert, key } })
    const { local, endpoint, descriptor, driver } = listener
    say({ local: formatAddress(local), endpoint, descriptor, driver })
    await using client = await listener.accept()
    say({ noDelay: local.family === 'unix' || client.get('noDelay'), policy: client.endpoint })
    for await (const chunk of client) await client.write(chunk)
  },

  async server() {
    const found = inheritedDescriptors({ unset: given.unset })
    const server = await serve(found, {}, (client) => client.write(`you reached ${client.endpoint}`))
    say({ found, endpoints: server.endpoints, left: process.env['LISTEN_FDS'] ?? null })
    process.stdin.resume().on('end', () => void server.close())
    await Promise.all(server.listeners.map(({ closed }) => closed))
  },

  async stream() {
    const { ca } = given
    await using client =
      ca === undefined ? await connect({ fd: 3 }) : await connect({ fd: 3, transport: 'tls' }, { tls: { ca, serverName: 'localhost' } })
    const { local, remote, descriptor, driver, endpoint, security } = client
    say({
      local: local && formatAddress(local),
      remote: remote && formatAddress(remote),
      descriptor,
      driver,
      endpoint,
      tls: security?.protocol,
    })
    await client.write('from the child')
    await client.end()
    say({ got: Buffer.from(await client.readAll()).toString() })
  },

  async datagrams() {
    await using socket = await bind({ fd: 3 })
    const { local, remote, endpoint, descriptor } = socket
    say({ local: formatAddress(local), remote: remote && formatAddress(remote), endpoint, descriptor })
    for (let i = 0; i < 2; i++) {
      const { data, from } = await socket.receive()
      await socket.send(data, remote === undefined ? from : undefined)
    }
  },

  /** 3: a TCP listener, 4: a TCP connection, 5: a UDP socket, 6: a UNIX listener, 7: a UNIX connection. */
  async wrong() {
    const file = openSync(devNull, 'r')
    const nothing = 9_999
    const verbs = { listen, connect, bind } as Record<string, (at: { fd: number }) => Promise<unknown>>
    const expected: Record<string, number[]> = { listen: [4, 5, 7], connect: [3, 5, 6], bind: [3, 4, 6, 7] }
    for (const [name, fds] of Object.entries(expected)) {
      for (const fd of [...fds, file, nothing]) {
        const said = await failing(async () => verbs[name]?.({ fd }))
        say({ verb: name, fd: fd === file ? 'file' : fd === nothing ? 'nothing' : fd, said, open: isOpen(fd) })
      }
    }
  },

  async policy() {
    await using network = new Network({ policy: ({ direction, address }) => `no ${direction} of ${address && formatAddress(address)}` })
    for (const verb of ['listen', 'connect', 'bind'] as const) {
      const fd = { listen: 3, connect: 4, bind: 5 }[verb]
      const said = await failing(() => network[verb]({ fd }))
      for (let turns = 0; isOpen(fd) && turns < 100; turns++) await new Promise((resolve) => setImmediate(resolve))
      say({ verb, said, open: isOpen(fd) })
    }
  },

  async twice() {
    await using listener = await listen({ fd: 3 })
    say({ said: await failing(() => listen({ fd: 3 })), open: isOpen(3), still: listener.descriptor })
  },

  /** Whether a child of this process gets the descriptor, too. */
  async inheritance() {
    await using listener = await listen({ fd: 3 })
    const { status } = spawnSync('sh', ['-c', 'test -e /proc/self/fd/3'])
    say({ inherited: status === 0, descriptor: listener.descriptor })
  },

  async inherited() {
    say({ found: inheritedDescriptors() })
  },
}

await ACTIONS[action as string]?.()
