// Fourteen small programs as a person who knows Pike writes them here: with `await` where Pike waits, and nothing else. Each is a
// function of its arguments, so that tests can run it; it writes by what it is given, and servers stop when their port is closed.

import { Concurrent, file_stat, gethostbyname, gethostname, rm, sprintf, SSL, Stdio, strerror, thread_create } from 'fairlead/pike'

/** What a program prints. */
export class Output {
  out = ''
  err = ''
  readonly write = (format: string, ...args: unknown[]): void => {
    this.out += sprintf(format, ...args)
  }
  readonly werror = (format: string, ...args: unknown[]): void => {
    this.err += sprintf(format, ...args)
  }
}

export async function tcpClient({ write, werror }: Output, host: string, number: number): Promise<number> {
  const sock = new Stdio.File()
  if (!(await sock.connect(host, number))) {
    werror('no way to %s:%d: %s\n', host, number, strerror(sock.errno()))
    return 1
  }
  await sock.write('GET / HTTP/1.0\r\nHost: ' + host + '\r\n\r\n')
  const answer = await sock.read()
  write('heard %d bytes\n', (answer as string).length)
  sock.close()
  return 0
}

export async function tcpServer({ write, werror }: Output, listener: Stdio.Port, number: number): Promise<number> {
  if (!(await listener.bind(number))) {
    werror('cannot listen at %d: %s\n', number, strerror(listener.errno()))
    return 1
  }
  write('up at %d\n', number)
  while (true) {
    const sock = await listener.accept()
    if (!sock) break
    const data = await sock.read(1024, 1)
    if (data) {
      write('heard: %s\n', data)
      await sock.write('Got it\n')
    }
    sock.close()
  }
  return 0
}

export async function bothWays({ write, werror }: Output, host: string, port: number): Promise<number> {
  const sock = new Stdio.File()
  if (!(await sock.connect(host, port))) {
    werror('no connection\n')
    return 1
  }
  await sock.write('Who is it, please?\n')
  let response = await sock.read(1024, 1)
  write('First: %s\n', response)
  const buffered = new Stdio.FILE()
  buffered.assign(sock)
  response = await buffered.gets()
  write('Then: %s\n', response)
  sock.close()
  buffered.close()
  return 0
}

export async function udpClient({ write, werror }: Output, argv: string[]): Promise<number> {
  if (argv.length < 3) {
    werror('%s: host and port, please\n', argv[0])
    return 1
  }
  const host = argv[1] as string
  const port = Number(argv[2])
  const msg = argv[3] ?? 'anybody there'
  const udp = new Stdio.UDP()
  await udp.send(host, port, msg)
  write("out '%s' to %s:%d\n", msg, host, port)
  const response = await udp.read(1024, '.', 5.0)
  if (response) {
    const data = response[0]
    const from = response[1]
    write("in '%s' from %s\n", data, from)
  } else {
    write('nothing in time\n')
  }
  udp.close()
  return 0
}

export async function udpServer({ write, werror }: Output, udp: Stdio.UDP, port: number, rounds: number): Promise<number> {
  if (!(await udp.bind(port))) {
    werror('no UDP port %d: %s\n', port, strerror(udp.errno()))
    return 1
  }
  write('UDP up at %d\n', port)
  udp.set_option(Stdio.PORT_BROADCAST, 1)
  for (let round = 0; round < rounds; round++) {
    const data = await udp.read()
    if (!data) {
      werror('nothing read: %s\n', strerror(udp.errno()))
      continue
    }
    const msg = data[0]
    const from = data[1]
    write("in '%s' from %s\n", msg, from)
    const addr = from.split(' ')
    await udp.send(addr[0] as string, Number(addr[1]), 'back: ' + msg)
  }
  udp.close()
  return 0
}

export async function unixClient({ write, werror }: Output, path: string): Promise<number> {
  const sock = new Stdio.File()
  if (!(await sock.connect(path))) {
    werror('no way to %s: %s\n', path, strerror(sock.errno()))
    return 1
  }
  await sock.write('one line by UNIX\n')
  const response = await sock.read()
  write('Answer: %s\n', response)
  sock.close()
  return 0
}

export async function unixServer({ write, werror }: Output, port: Stdio.Port, path: string): Promise<number> {
  if (file_stat(path)) {
    rm(path)
  }
  if (!(await port.bind(path))) {
    werror('cannot listen at path %s: %s\n', path, strerror(port.errno()))
    return 1
  }
  write('UNIX up at %s\n', path)
  while (true) {
    const sock = await port.accept()
    if (!sock) break
    const data = await sock.read(1024, 1)
    if (data) {
      write('heard: %s\n', data)
      await sock.write('Got it\n')
    }
    sock.close()
  }
  port.close()
  rm(path)
  return 0
}

export async function sslClient({ write, werror }: Output, argv: string[]): Promise<number> {
  if (argv.length < 3) {
    werror('%s: host and port, please\n', argv[0])
    return 1
  }
  const host = argv[1] as string
  const port = Number(argv[2])
  const settings = new SSL.Context()
  const sock = new Stdio.File()
  if (!(await sock.connect(host, port))) {
    werror('no connection: %s\n', strerror(sock.errno()))
    return 1
  }
  const ssl = new SSL.File(sock, settings)
  const result = await ssl.connect()
  if (result < 0) {
    werror('no handshake\n')
    return 1
  }
  await ssl.write('GET / HTTP/1.0\r\nHost: ' + host + '\r\n\r\n')
  const response = await ssl.read()
  write('%s\n', response)
  ssl.close()
  return 0
}

export async function sslServer({ write, werror }: Output, port: number, cert_file: string, key_file: string): Promise<SSL.Port | 1> {
  async function greet(ssl: SSL.File): Promise<void> {
    const data = await ssl.read(4096, 1)
    if (data) {
      write('heard: %s\n', data)
      await ssl.write('HTTP/1.0 200 OK\r\n\r\nover TLS\n')
    }
    ssl.close()
  }
  const settings = new SSL.Context()
  if (file_stat(cert_file)) {
    settings.certificates = [
      {
        cert_file,
        key_file,
      },
    ]
  }
  const secure = new SSL.Port(settings)
  if (!(await secure.bind(port, greet))) {
    werror('no TLS port: %s\n', strerror(secure.errno()))
    return 1
  }
  write('TLS up at %d\n', port)
  return secure
}

export async function peerAddress({ write }: Output, host: string, port: number): Promise<void> {
  const sock = new Stdio.File()
  if (await sock.connect(host, port)) {
    const far = sock.query_address()
    write('peer: %s\n', far)
    sock.close()
  }
}

export async function ownAddress({ write }: Output, sock: Stdio.File): Promise<void> {
  const near = sock.query_address(1)
  write('here: %s\n', near)
  const hostname = gethostname()
  write('name: %s\n', hostname)
  const found = await gethostbyname(hostname)
  if (!found) return
  const [, ips] = found
  for (const ip of ips) {
    write('address: %s\n', ip)
  }
}

export async function multiplexed({ write, werror }: Output, listener: Stdio.Port, port: number, departures: number): Promise<number> {
  if (!(await listener.bind(port))) {
    werror('no port: %s\n', strerror(listener.errno()))
    return 1
  }
  let clients: Stdio.File[] = []
  write('all up at %d\n', port)
  while (departures > 0) {
    const watched = [...clients, listener]
    const ready = await Stdio.select(watched)
    if (!ready || ready[0].length === 0) continue
    if (ready[0].includes(listener)) {
      const guest = await listener.accept()
      if (guest) {
        clients.push(guest)
        write('joined: %s\n', guest.query_address())
      }
    }
    for (const client of clients) {
      if (ready[0].includes(client)) {
        const data = await client.read(1024, 1)
        if (!data || data.length === 0) {
          write('left\n')
          client.close()
          clients = clients.filter((one) => one !== client)
          departures--
        } else {
          write('heard: %s\n', data)
          await client.write('back: ' + data)
        }
      }
    }
  }
  return 0
}

export async function withFutures({ write, werror }: Output, host: string, port: number): Promise<unknown> {
  function fetched(): Concurrent.Future<string> {
    const result = new Concurrent.Promise<string>()
    thread_create(async () => {
      const sock = new Stdio.File()
      if (!(await sock.connect(host, port))) {
        result.failure({ error: 'no connection' })
        return
      }
      await sock.write('GET / HTTP/1.0\r\nHost: ' + host + '\r\n\r\n')
      const response = await sock.read()
      sock.close()
      result.success(response as string)
    })
    return result.future()
  }
  const f = fetched()
  f.on_success((response: string) => {
    write('page of %d bytes\n', response.length)
  })
  f.on_failure((err: { error: string }) => {
    werror('no page: %s\n', err.error)
  })
  return await f.wait()
}

export async function options(port: Stdio.Port, sock: Stdio.File, udp: Stdio.UDP, number: number): Promise<0 | 1> {
  port.set_option(Stdio.PORT_REUSE_ADDRESS, 1)
  sock.set_option(Stdio.KEEPALIVE, 1)
  sock.set_option(Stdio.NO_DELAY, 1)
  sock.set_buffer(65536, 65536)
  sock.set_nonblocking(1, 0, 0)
  udp.set_option(Stdio.PORT_BROADCAST, 1)
  udp.set_option(Stdio.MULTICAST, 1)
  return port.bind(number, 0, '127.0.0.1')
}
