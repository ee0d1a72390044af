// An end goes through at once in either direction, whatever the other direction is doing: every command, every transport.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { describe, test, type TestContext } from 'node:test'
import { createServer as createTlsServer, connect as tlsConnect } from 'node:tls'
import { fairlead, folder, listeningAt, type Program, shell } from './program.js'
import { accepted, credentials, dialled, digest, everything, listening, PAYLOAD } from './sockets.js'

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

const ofSocket = (socket: Socket): End => ({ input: socket, output: socket })
const ofProgram = (program: Program): End => ({ input: program.stdin, output: program.stdout })
const exits = (program: Program) => async () => assert.equal(await program.exited, 0, program.err.text)

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
    const socket = tlsConnect({
      port: Number(port),
      host: '127.0.0.1',
      servername: 'localhost',
      ca: readFileSync(ca),
      allowHalfOpen: true,
    } as never)
    socket.on('error', () => undefined)
    await once(socket, 'secureConnect')
    t.after(() => socket.destroy())
    return { near: ofProgram(program), far: ofSocket(socket), over: exits(program) }
  },
  'relay unix to tcp': async (t) => {
    const server = createServer({ allowHalfOpen: true })
    const at = await listening(t, server)
    const program = fairlead(t, ['relay', `unix:${join(folder(t), 's')}`, at])
    // It may arrive before our own side knows that it is connected.
    const far = accepted(server)
    const near = await dialled(await listeningAt(program))
    t.after(() => near.destroy())
    return { near: ofSocket(near), far: ofSocket(await far), over: async () => assert.equal(program.child.exitCode, null) }
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
