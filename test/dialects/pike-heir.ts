/** A process that is started with sockets of others, by the number of which Pike's objects take them over. Says what came of it, line by line. */

import { Stdio } from 'fairlead/pike'

const [, , action, fd = '3'] = process.argv
const number = Number(fd)

const say = (...what: unknown[]): void => void process.stdout.write(`${JSON.stringify(what)}\n`)

const ACTIONS: Record<string, () => Promise<void>> = {
  async port() {
    const port = new Stdio.Port()
    say(await port.listen_fd(number), port.errno(), port.query_fd(), port.query_address())
    const file = await port.accept()
    if (file) await file.write(`${String(await file.read())} from the heir`)
    if (file) file.close()
    port.close()
  },
  async callback() {
    const port = new Stdio.Port()
    port.set_id('an id')
    let tell: ((id: unknown) => void) | undefined
    const called = new Promise<unknown>((resolve) => {
      tell = resolve
    })
    say(await port.listen_fd(number, (id: unknown) => tell?.(id)))
    say(await called)
    const file = await port.accept()
    say(file && (await file.read()), port.errno())
    port.close()
  },
  async file() {
    // What the descriptor is turns out later; nothing is awaited before it is used.
    const file = new Stdio.File(number, 'rw')
    say(file.is_open(), file.query_fd())
    await file.write('hello ')
    say(await file.read(5), file.errno(), file.query_address())
    file.close()
  },
  async lines() {
    const file = new Stdio.FILE(number === 0 ? 'stdin' : number)
    say(await file.gets(), await file.gets())
    await file.printf('%d lines\n', 2)
    file.close()
  },
  async events() {
    const file = new Stdio.File(number)
    await new Promise<void>((resolve) => {
      file.set_nonblocking(
        (_id: unknown, data) => say('read', data),
        0,
        () => resolve(),
      )
    })
    say('closed', file.errno())
    file.close()
  },
  async udp() {
    const udp = new Stdio.UDP()
    say((await udp.set_fd(number)) === udp, udp.errno(), udp.query_fd(), udp.query_address())
    const asked = await udp.read()
    if (asked) await udp.send(asked.ip, asked.port, `${asked.data} back`)
    udp.close()
  },
}

await ACTIONS[action as string]?.()
