/** What others are measured against: the same in plain Node. Nothing of the package is loaded beside them. */

import net, { type AddressInfo } from 'node:net'
import type { TlsOptions } from 'node:tls'

function portOf(server: net.Server): Promise<number> {
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port)))
}

function onData(socket: net.Socket): void {
  socket.on('data', (chunk) => socket.write(chunk))
  socket.on('error', () => socket.destroy())
}

async function forAwait(socket: net.Socket): Promise<void> {
  try {
    for await (const chunk of socket) socket.write(chunk)
  } catch {
    socket.destroy()
  }
}

export const bareServers: Record<string, (credentials: TlsOptions) => Promise<number>> = {
  'node:net data': () => portOf(net.createServer({ noDelay: true }, onData)),
  'node:net for await': () => portOf(net.createServer({ noDelay: true }, forAwait)),
  'node:tls data': async (credentials) => {
    const { createServer } = await import('node:tls')
    return portOf(createServer({ noDelay: true, ...credentials }, onData))
  },
}
