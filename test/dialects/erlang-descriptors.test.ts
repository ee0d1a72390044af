/** Erlang's sockets by the numbers of their descriptors: `{fd, N}`, `gen_tcp:fdopen` and `inet:getfd`. */

import assert from 'node:assert/strict'
import { spawn as start } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, fstatSync, openSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { describe } from 'node:test'
import { fileURLToPath } from 'node:url'
import { bind, connect, listen, network } from 'fairlead'
import { gen_tcp, gen_udp, inet } from 'fairlead/erlang'
import { LOCAL, ok, test } from './erlang-worlds.js'

const HEIR = fileURLToPath(new URL('./erlang-heir.js', import.meta.url))
const NONE = 99_999

/** The process of `erlang-heir.ts` with this descriptor: what it says next, and its end. */
function heir(action: string, fd: number | undefined): { next: () => Promise<unknown>; done: Promise<unknown> } {
  const child = start(process.execPath, [HEIR, action], { stdio: ['ignore', 'pipe', 'inherit', fd as number] })
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]()
  return { next: async () => JSON.parse((await lines.next()).value as string) as unknown, done: once(child, 'exit') }
}

const text = (bytes: Uint8Array | null): string => Buffer.from(bytes ?? []).toString()

const skip =
  process.platform !== 'linux' ? 'tested on Linux' : network().driver.adoptStream === undefined && 'the driver takes no descriptor over'

describe('descriptors that others made', { skip }, () => {
  test('{fd, N} listens by a socket that listens', async () => {
    const listener = await listen('tcp://127.0.0.1:0')
    const { next, done } = heir('listen', listener.descriptor)
    const { port } = listener.local as { port: number }
    assert.deepEqual(await next(), [
      ['ok', [[127, 0, 0, 1], port]],
      ['ok', 3],
    ])
    const at = listener.endpoint
    // Or those who come would be shared with the heir.
    await listener.close()
    const client = await connect(at)
    await client.write('hello\n')
    assert.deepEqual(await next(), [['ok', 'hello\n']])
    assert.equal(text(await client.readAll()), 'from the heir\n')
    await client.close()
    await done
  })

  test('fdopen makes a socket of a connection', async () => {
    await using listener = await listen('tcp://127.0.0.1:0')
    const [client, server] = await Promise.all([connect(listener.endpoint), listener.accept()])
    const { next, done } = heir('fdopen', server.descriptor)
    assert.deepEqual(await next(), [
      ['ok', 3],
      [
        'ok',
        [
          ['active', false],
          ['packet', 2],
          ['nodelay', true],
        ],
      ],
    ])
    assert.equal(text(await client.readExactly(7)), '\0\x05hello')
    await client.write('\0\x05there')
    assert.deepEqual(await next(), [['ok', 'there']])
    await Promise.all([client.close(), server.close()])
    await done
  })

  test('{fd, N} opens a datagram socket that is bound', async () => {
    const socket = await bind('udp://127.0.0.1:0')
    const { next, done } = heir('open', socket.descriptor)
    const { port } = socket.local as { port: number }
    assert.deepEqual(await next(), [
      ['ok', [[127, 0, 0, 1], port]],
      ['ok', 3],
    ])
    await socket.close()
    await using peer = await bind('udp://127.0.0.1:0')
    await peer.send('there and', `udp://127.0.0.1:${port}`)
    assert.equal(text((await peer.receive()).data), 'there and back')
    await done
  })

  test('what is wrong with a descriptor is told, and it stays open', async () => {
    const file = openSync('/dev/null', 'r')
    await using listener = await listen('tcp://127.0.0.1:0')
    const fd = listener.descriptor as number
    for (const [number, reasons] of [
      [NONE, ['ebadf', 'ebadf', 'ebadf']],
      [file, ['enotsock', 'enotsock', 'enotsock']],
      [fd, ['eexist', 'einval', 'einval']],
      [-1, ['einval', 'einval', 'einval']],
      ['3', ['einval', 'einval', 'einval']],
    ] as const) {
      const told = [
        await gen_tcp.listen(0, [['fd', number as number]]),
        await gen_tcp.fdopen(number as number, []),
        await gen_udp.open(0, [['fd', number as number]]),
      ]
      assert.deepEqual(
        told,
        reasons.map((reason) => ['error', reason]),
        String(number),
      )
    }
    assert.ok(fstatSync(file).isCharacterDevice())
    closeSync(file)
    assert.ok(fstatSync(fd).isSocket())
  })

  test('an address beside a descriptor is einval, as are options that are none', async () => {
    assert.deepEqual(await gen_tcp.listen(4000, [['fd', NONE]]), ['error', 'einval'])
    assert.deepEqual(await gen_tcp.listen(0, [['fd', NONE], LOCAL]), ['error', 'einval'])
    assert.deepEqual(
      await gen_udp.open(0, [
        ['fd', NONE],
        ['ip', '127.0.0.1'],
      ]),
      ['error', 'einval'],
    )
    assert.deepEqual(await gen_tcp.fdopen(NONE, [['fd', 3] as never]), ['error', 'einval'])
    assert.deepEqual(await gen_tcp.connect('localhost', 9, [['fd', 3] as never]), ['error', 'einval'])
  })

  test('getfd has the number of an open socket', async () => {
    const listening = ok(await gen_tcp.listen(0, [LOCAL]))
    const accepting = gen_tcp.accept(listening)
    const client = ok(await gen_tcp.connect('127.0.0.1', ok(inet.port(listening)), []))
    const server = ok(await accepting)
    const udp = ok(await gen_udp.open(0, []))
    const all = [listening, client, server, udp]
    const numbers = all.map((socket) => ok(inet.getfd(socket)))
    assert.equal(new Set(numbers).size, 4)
    for (const number of numbers) assert.ok(fstatSync(number).isSocket())
    for (const socket of all) {
      await inet.close(socket)
      assert.deepEqual(inet.getfd(socket), ['error', 'einval'])
    }
    assert.deepEqual(inet.getfd('x' as never), ['error', 'einval'])
  })
})
