/** The programs of `examples/`, run as a user runs them. */

import assert from 'node:assert/strict'
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Network } from 'fairlead'
import { pattern } from './support/pairs.js'

function run(name: string, ...args: string[]): ChildProcessWithoutNullStreams {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const child = spawn(process.execPath, [fileURLToPath(new URL(`../examples/${name}.js`, import.meta.url)), ...args], { env })
  child.stdout.setEncoding('utf8')
  child.stderr.setEncoding('utf8')
  return child
}

/** The first line that a program prints. */
async function firstLine(child: ChildProcessWithoutNullStreams): Promise<string> {
  const [text] = (await once(child.stdout, 'data')) as [string]
  return text.split('\n')[0] as string
}

/** What a program prints until it ends, and how it ends. */
async function finish(child: ChildProcessWithoutNullStreams): Promise<{ output: string; errors: string; code: number | null }> {
  let [output, errors] = ['', '']
  child.stdout.on('data', (text: string) => (output += text))
  child.stderr.on('data', (text: string) => (errors += text))
  const [code] = (await once(child, 'close')) as [number | null]
  return { output, errors, code }
}

test('the echo server, through the proxy, answers the line client, and both servers drain at a signal', async () => {
  const echo = run('echo-server', 'tcp://127.0.0.1:0')
  const endpoint = await firstLine(echo)
  const proxy = run('proxy', 'tcp://127.0.0.1:0', endpoint)
  const through = await firstLine(proxy)
  const client = run('line-client', through)
  client.stdin.end('one\ntwo\n')
  assert.deepEqual(await finish(client), { output: 'one\ntwo\n', errors: '', code: 0 })

  await using network = new Network()
  const connection = await network.connect(through)
  const data = pattern(3_000_000)
  const sending = connection.write(data).then(() => connection.end())
  assert.deepEqual(await connection.readAll(), data)
  await sending

  for (const server of [proxy, echo]) {
    const ended = finish(server)
    server.kill('SIGTERM')
    assert.deepEqual(await ended, { output: '', errors: '', code: 0 })
  }
  const refused = run('line-client', through)
  const { errors, code } = await finish(refused)
  assert.equal(code, 1)
  assert.match(errors, /^SystemFailure ECONNREFUSED: /)
})
