/** A process that is started with a socket of others as descriptor 3, which Erlang's sockets take over. Says what came of it. */

import { gen_tcp, gen_udp, inet, ok, spawn } from 'fairlead/erlang'

const say = (...what: unknown[]): void => void process.stdout.write(`${JSON.stringify(what)}\n`)

const ACTIONS: Record<string, () => Promise<void>> = {
  async listen() {
    const listening = ok(
      await gen_tcp.listen(0, [
        ['fd', 3],
        ['active', false],
        ['packet', 'line'],
      ]),
    )
    say(inet.sockname(listening), inet.getfd(listening))
    const socket = ok(await gen_tcp.accept(listening))
    say(await gen_tcp.recv(socket, 0))
    await gen_tcp.send(socket, 'from the heir\n')
    await gen_tcp.close(socket)
    await gen_tcp.close(listening)
  },
  async fdopen() {
    const socket = ok(
      await gen_tcp.fdopen(3, [
        ['active', false],
        ['packet', 2],
        ['nodelay', true],
      ]),
    )
    say(inet.getfd(socket), inet.getopts(socket, ['active', 'packet', 'nodelay']))
    await gen_tcp.send(socket, 'hello')
    say(await gen_tcp.recv(socket, 0))
    await gen_tcp.close(socket)
  },
  async open() {
    const socket = ok(
      await gen_udp.open(0, [
        ['fd', 3],
        ['active', false],
      ]),
    )
    say(inet.sockname(socket), inet.getfd(socket))
    const [from, port, data] = ok(await gen_udp.recv(socket, 0))
    await gen_udp.send(socket, from as [number, number, number, number], port, `${data} back`)
    await gen_udp.close(socket)
  },
}

spawn(async () => {
  await ACTIONS[process.argv[2] as string]?.()
})
