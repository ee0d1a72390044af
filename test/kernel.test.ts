import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { describe, test } from 'node:test'
import { Network } from 'fairlead'
import { kernel } from 'fairlead/kernel'
import { type Foreign, foreign, PROVIDERS } from '#src/drivers/kernel-foreign.js'
import { driverOn } from '#src/drivers/kernel-driver.js'
import { Poll } from '#src/drivers/kernel-poll.js'
import { systemOf } from '#src/drivers/kernel-system.js'

const lacking = (() => {
  try {
    kernel()
    return undefined
  } catch (error) {
    return (error as Error).message
  }
})()
const skip = lacking === undefined ? false : lacking

/** What a program says that is run with the package at hand, or its error. */
function run(program: string, env: Record<string, string> = {}, ...flags: string[]): string {
  const { stdout, stderr } = spawnSync(process.execPath, [...flags, '--no-warnings', '--input-type=module', '-e', program], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    cwd: new URL('.', import.meta.url),
  })
  return stdout + stderr
}

describe('choosing the kernel driver', { skip }, () => {
  const which = "import { Network } from 'fairlead'; console.log(new Network().driver.name)"

  test('by FAIRLEAD_DRIVER', () => {
    assert.equal(run(which, { FAIRLEAD_DRIVER: 'kernel' }), 'kernel\n')
    assert.equal(run(which, { FAIRLEAD_DRIVER: 'node' }), 'node\n')
    assert.equal(run(which, { FAIRLEAD_DRIVER: '' }), 'node\n')
  })

  test('a driver that there is none of is refused by name', () => {
    assert.match(run(which, { FAIRLEAD_DRIVER: 'windows' }), /FAIRLEAD_DRIVER must be node or kernel, got "windows"/)
  })

  test('descriptors that have run out before its first socket is opened are missed only for as long as they are', () => {
    const program = `
      import { closeSync, openSync } from 'node:fs'
      import { Network } from 'fairlead'
      const network = new Network()
      for (let quiet = 0; quiet < 20; quiet++) {
        await new Promise(setImmediate)
        if (process.getActiveResourcesInfo().some((name) => /^(FSReq|FileHandle)/.test(name))) quiet = 0
      }
      const files = []
      const verbs = [() => network.listen('tcp://127.0.0.1:0'), () => network.bind('udp://127.0.0.1:0'), () => network.connect('tcp://127.0.0.1:1')]
      const codes = []
      const all = async () => {
        for (const verb of verbs) codes.push(await verb().then((one) => one.close().then(() => 'open'), ({ code }) => code))
      }
      try {
        for (;;) files.push(openSync('/dev/null'))
      } catch {}
      await all()
      for (const file of files) closeSync(file)
      await all()
      console.log(...codes)`
    const limited = spawnSync(
      'sh',
      ['-c', 'ulimit -n 64; exec "$@"', 'sh', process.execPath, '--no-warnings', '--input-type=module', '-e', program],
      {
        encoding: 'utf8',
        cwd: new URL('.', import.meta.url),
        env: { ...process.env, FAIRLEAD_DRIVER: 'kernel' },
      },
    )
    assert.equal(limited.stdout + limited.stderr, 'EMFILE EMFILE EMFILE open open ECONNREFUSED\n')
  })

  test('where it cannot be used, whoever opens a socket is told so', () => {
    const program = `
      import { Network } from 'fairlead'
      Object.defineProperty(process, 'platform', { value: 'plan9' })
      const network = new Network()
      const late = new AbortController()
      const verbs = [
        () => network.connect('tcp://127.0.0.1:1'),
        () => network.connect('tcp://127.0.0.1:1', { signal: late.signal }),
        () => network.listen('tcp://127.0.0.1:0'),
        () => network.bind('udp://127.0.0.1:0'),
        () => network.connect({ fd: 0 }),
        () => network.listen({ fd: 0 }),
        () => network.bind({ fd: 0 }),
      ]
      const told = verbs.map((verb) => verb().then(() => 'open', ({ code, message }) => code + ' ' + /this is plan9/.test(message)))
      late.abort()
      for (const one of told) console.log(await one)
      console.log(network.driver.name, network.driver.guarantees.descriptors, await network.connect('tcp://127.0.0.1:1').catch(({ code }) => code))`
    const refused = Array.from({ length: 7 }, (_, i) => (i === 1 ? 'CANCELLED false' : 'UNSUPPORTED true'))
    assert.equal(run(program, { FAIRLEAD_DRIVER: 'kernel' }), `${refused.join('\n')}\nkernel true UNSUPPORTED\n`)
  })

  test('one for all networks of a thread', () => {
    assert.equal(kernel(), kernel())
  })
})

describe('where the kernel driver cannot be', () => {
  const missing = (what: string) => new Error(what)
  const elsewhere = (name: 'platform' | 'arch', value: string, fn: () => void) => {
    const real = Object.getOwnPropertyDescriptor(process, name) as PropertyDescriptor
    Object.defineProperty(process, name, { ...real, value })
    try {
      fn()
    } finally {
      Object.defineProperty(process, name, real)
    }
  }

  test('another system or machine is told by name', () => {
    elsewhere('platform', 'win32', () => assert.throws(() => foreign(missing), /it is for Linux, and this is win32/))
    if (process.platform !== 'linux') return
    elsewhere('arch', 'mips', () => assert.throws(() => foreign(missing), /knows x86-64 and arm64, and this machine is mips/))
  })

  test('without a way to call foreign functions it says what to install', { skip }, () => {
    // Nothing of that name can be found from here on.
    const blind = "import Module from 'node:module'; Module._resolveFilename = (name) => { throw new Error('no ' + name) };"
    const told = run(
      `${blind} import { kernel } from 'fairlead/kernel'; try { kernel() } catch (error) { console.log(error.code, error.message) }`,
    )
    const other = PROVIDERS.length > 1 && Number(process.versions.node.split('.')[0]) >= 26
    if (!other) assert.match(told, /UNSUPPORTED the kernel driver cannot be used here: it needs the package koffi \(npm install koffi\)/)
  })
})

describe('ways to call foreign functions', { skip }, () => {
  for (const provider of PROVIDERS) {
    let found: Foreign | undefined
    let reason: string | boolean = false
    try {
      found = provider()
    } catch (error) {
      reason = `not in this runtime: ${(error as Error).message.split('\n')[0]}`
    }
    test(`${provider.name}: a connection there and back, errors with their codes, and nothing left open`, { skip: reason }, async () => {
      const network = new Network({ driver: driverOn(new Poll(systemOf(found as Foreign))) })
      await using listener = await network.listen('tcp://127.0.0.1:0')
      await using client = await network.connect(listener.endpoint)
      await using server = await listener.accept()
      await client.write('there\n')
      assert.equal(await server.readLine({ timeout: 10_000 }), 'there')
      await server.write(new Uint8Array(100_000))
      await server.end()
      assert.equal((await client.readAll()).length, 100_000)
      await listener.close()
      await assert.rejects(network.connect(listener.endpoint), { code: 'ECONNREFUSED' })
      await network.close()
    })
  }
})
