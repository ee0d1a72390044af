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

export async function tcpClient({ write, werror }: Output, remote_host: string, remote_port: number): Promise<number> {
  const sock = new Stdio.File()
  if (!(await sock.connect(remote_host, remote_port))) {
    werror("Couldn't connect to %s:%d: %s\n", remote_host, remote_port, strerror(sock.errno()))
    return 1
  }
  await sock.write('GET / HTTP/1.0\r\nHost: ' + remote_host + '\r\n\r\n')
  const answer = await sock.read()
  write('Received %d bytes\n', (answer as string).length)
  sock.close()
  return 0
}

export async function tcpServer({ write, werror }: Output, mainsock: Stdio.Port, server_port: number): Promise<number> {
  if (!(await mainsock.bind(server_port))) {
    werror("Couldn't be a tcp server on port %d: %s\n", server_port, strerror(mainsock.errno()))
    return 1
  }
  write('Server listening on port %d\n', server_port)
  while (true) {
    const sock = await mainsock.accept()
    if (!sock) break
    const data = await sock.read(1024, 1)
    if (data) {
      write('Received: %s\n', data)
      await sock.write('Acknowledged\n')
    }
    sock.close()
  }
  return 0
}

export async function bothWays({ write, werror }: Output, host: string, port: number): Promise<number> {
  const sock = new Stdio.File()
  if (!(await sock.connect(host, port))) {
    werror('Connection failed\n')
    return 1
  }
  await sock.write('What is your name?\n')
  let response = await sock.read(1024, 1)
  write('Response: %s\n', response)
  const sock2 = new Stdio.FILE()
  sock2.assign(sock)
  response = await sock2.gets()
  write('Line: %s\n', response)
  sock.close()
  sock2.close()
  return 0
}

export async function udpClient({ write, werror }: Output, argv: string[]): Promise<number> {
  if (argv.length < 3) {
    werror('Usage: %s host port [message]\n', argv[0])
    return 1
  }
  const host = argv[1] as string
  const port = Number(argv[2])
  const msg = argv[3] ?? 'Hello, UDP!'
  const udp = new Stdio.UDP()
  await udp.send(host, port, msg)
  write("Sent '%s' to %s:%d\n", msg, host, port)
  const response = await udp.read(1024, '.', 5.0)
  if (response) {
    const data = response[0]
    const from = response[1]
    write("Received '%s' from %s\n", data, from)
  } else {
    write('No response (timeout)\n')
  }
  udp.close()
  return 0
}

export async function udpServer({ write, werror }: Output, udp: Stdio.UDP, port: number, rounds: number): Promise<number> {
  if (!(await udp.bind(port))) {
    werror('Failed to bind to port %d: %s\n', port, strerror(udp.errno()))
    return 1
  }
  write('UDP server listening on port %d\n', port)
  udp.set_option(Stdio.PORT_BROADCAST, 1)
  for (let round = 0; round < rounds; round++) {
    const data = await udp.read()
    if (!data) {
      werror('Read error: %s\n', strerror(udp.errno()))
      continue
    }
    const msg = data[0]
    const from = data[1]
    write("Received '%s' from %s\n", msg, from)
    const addr = from.split(' ')
    await udp.send(addr[0] as string, Number(addr[1]), 'Echo: ' + msg)
  }
  udp.close()
  return 0
}

export async function unixClient({ write, werror }: Output, socket_path: string): Promise<number> {
  const sock = new Stdio.File()
  if (!(await sock.connect(socket_path))) {
    werror("Couldn't connect to %s: %s\n", socket_path, strerror(sock.errno()))
    return 1
  }
  await sock.write('Hello via UNIX socket!\n')
  const response = await sock.read()
  write('Server response: %s\n', response)
  sock.close()
  return 0
}

export async function unixServer({ write, werror }: Output, port: Stdio.Port, socket_path: string): Promise<number> {
  if (file_stat(socket_path)) {
    rm(socket_path)
  }
  if (!(await port.bind(socket_path))) {
    werror("Couldn't bind to %s: %s\n", socket_path, strerror(port.errno()))
    return 1
  }
  write('UNIX domain socket server listening on %s\n', socket_path)
  while (true) {
    const sock = await port.accept()
    if (!sock) break
    const data = await sock.read(1024, 1)
    if (data) {
      write('Received: %s\n', data)
      await sock.write('Acknowledged\n')
    }
    sock.close()
  }
  port.close()
  rm(socket_path)
  return 0
}

export async function sslClient({ write, werror }: Output, argv: string[]): Promise<number> {
  if (argv.length < 3) {
    werror('Usage: %s host port\n', argv[0])
    return 1
  }
  const host = argv[1] as string
  const port = Number(argv[2])
  const ctx = new SSL.Context()
  const sock = new Stdio.File()
  if (!(await sock.connect(host, port))) {
    werror('Connection failed: %s\n', strerror(sock.errno()))
    return 1
  }
  const ssl = new SSL.File(sock, ctx)
  const result = await ssl.connect()
  if (result < 0) {
    werror('SSL handshake failed\n')
    return 1
  }
  await ssl.write('GET / HTTP/1.0\r\nHost: ' + host + '\r\n\r\n')
  const response = await ssl.read()
  write('%s\n', response)
  ssl.close()
  return 0
}

export async function sslServer({ write, werror }: Output, port: number, cert_file: string, key_file: string): Promise<SSL.Port | 1> {
  async function handle_ssl_client(ssl: SSL.File): Promise<void> {
    const data = await ssl.read(4096, 1)
    if (data) {
      write('Received: %s\n', data)
      await ssl.write('HTTP/1.0 200 OK\r\n\r\nSSL Connection Successful!\n')
    }
    ssl.close()
  }
  const ctx = new SSL.Context()
  if (file_stat(cert_file)) {
    ctx.certificates = [
      {
        cert_file: cert_file,
        key_file: key_file,
      },
    ]
  }
  const ssl_port = new SSL.Port(ctx)
  if (!(await ssl_port.bind(port, handle_ssl_client))) {
    werror('Failed to bind SSL port: %s\n', strerror(ssl_port.errno()))
    return 1
  }
  write('SSL server listening on port %d\n', port)
  return ssl_port
}

export async function peerAddress({ write }: Output, host: string, port: number): Promise<void> {
  const sock = new Stdio.File()
  if (await sock.connect(host, port)) {
    const other_end = sock.query_address()
    write('Connected to: %s\n', other_end)
    sock.close()
  }
}

export async function ownAddress({ write }: Output, sock: Stdio.File): Promise<void> {
  const local_addr = sock.query_address(1)
  write('Local address: %s\n', local_addr)
  const hostname = gethostname()
  write('Hostname: %s\n', hostname)
  const found = await gethostbyname(hostname)
  if (!found) return
  const [, ips] = found
  for (const ip of ips) {
    write('Local IP: %s\n', ip)
  }
}

export async function multiplexed({ write, werror }: Output, listen_sock: Stdio.Port, port: number, departures: number): Promise<number> {
  if (!(await listen_sock.bind(port))) {
    werror('Bind failed: %s\n', strerror(listen_sock.errno()))
    return 1
  }
  let clients: Stdio.File[] = []
  write('Multiplexed server on port %d\n', port)
  while (departures > 0) {
    const read_fds = [...clients, listen_sock]
    const ready = await Stdio.select(read_fds)
    if (!ready || ready[0].length === 0) continue
    if (ready[0].includes(listen_sock)) {
      const new_client = await listen_sock.accept()
      if (new_client) {
        clients.push(new_client)
        write('New client: %s\n', new_client.query_address())
      }
    }
    for (const client of clients) {
      if (ready[0].includes(client)) {
        const data = await client.read(1024, 1)
        if (!data || data.length === 0) {
          write('Client disconnected\n')
          client.close()
          clients = clients.filter((one) => one !== client)
          departures--
        } else {
          write('Received: %s\n', data)
          await client.write('Echo: ' + data)
        }
      }
    }
  }
  return 0
}

export async function withFutures({ write, werror }: Output, host: string, port: number): Promise<unknown> {
  function async_http_get(): Concurrent.Future<string> {
    const result = new Concurrent.Promise<string>()
    thread_create(async () => {
      const sock = new Stdio.File()
      if (!(await sock.connect(host, port))) {
        result.failure({ error: 'Connection failed' })
        return
      }
      await sock.write('GET / HTTP/1.0\r\nHost: ' + host + '\r\n\r\n')
      const response = await sock.read()
      sock.close()
      result.success(response as string)
    })
    return result.future()
  }
  const f = async_http_get()
  f.on_success((response: string) => {
    write('Got response of %d bytes\n', response.length)
  })
  f.on_failure((err: { error: string }) => {
    werror('Request failed: %s\n', err.error)
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
