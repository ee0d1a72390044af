/**
 * The sockets of Erlang/OTP: `ssl` as it was at first, with what it became since, `gen_tcp`, `gen_udp`, `inet`, and processes
 * for them to belong to. The same names, arguments, results and messages; what blocks there is awaited here.
 *
 * ```ts
 * import { gen_tcp, inet, ok, spawn } from 'fairlead/erlang'
 *
 * const listening = ok(await gen_tcp.listen(0, ['binary', ['packet', 4], ['active', false], ['ip', [127, 0, 0, 1]]]))
 * spawn(async () => {
 *   const socket = ok(await gen_tcp.connect('localhost', ok(inet.port(listening)), [['packet', 4]]))
 *   ok(await gen_tcp.send(socket, 'hello'))
 * })
 * const socket = ok(await gen_tcp.accept(listening))
 * console.log(await gen_tcp.recv(socket, 5)) // [ 'error', 'einval' ]: a packet comes whole
 * console.log(new TextDecoder().decode(ok(await gen_tcp.recv(socket, 0)))) // hello
 * await gen_tcp.close(socket)
 * await gen_tcp.close(listening)
 * ```
 */

import * as erlang from './erlang-functions.js'
import * as ssl from './erlang-ssl.js'
import * as gen_tcp from './erlang-tcp.js'
import * as gen_udp from './erlang-udp.js'
import * as inet from './erlang-inet.js'

export { erlang, gen_tcp, gen_udp, inet, ssl }

export {
  accept,
  close,
  connect,
  controlling_process,
  format_error,
  listen,
  peername,
  pid,
  port,
  recv,
  send,
  setopts,
  sockname,
} from './erlang-ssl.js'
export {
  after,
  demonitor,
  exit,
  is_process_alive,
  link,
  monitor,
  ok,
  on,
  process_flag,
  type Received,
  receive,
  self,
  spawn,
  spawn_link,
  spawn_monitor,
  unlink,
} from './erlang-functions.js'
export { Exit, Pid, Ref } from './erlang-process.js'
export type { HttpPacket, HttpUri, HttpVersion } from './erlang-http.js'
export type { Data, HeaderData, Matched, Message } from './erlang-messages.js'
export type { ActiveMode, ConnectorOption, DataOf, ListenerOption, SocketOption } from './erlang-options.js'
export type { PacketType } from './erlang-packets.js'
export { SSL_REASONS, type Posix, type SslAtom, type SslReason, type TcpReason, type TlsAlert, type UdpReason } from './erlang-reasons.js'
export type { SocketAddress } from './erlang-socket.js'
export { _ } from './erlang-terms.js'
export type { Failure, HostAddress, IoData, IoList, Ip4Tuple, Ip6Tuple, IpTuple, LocalAddress, Ok, Timeout } from './erlang-terms.js'
export type { ProtocolVersion, TlsClientOption, TlsOption, TlsServerOption, VerifyCode } from './erlang-tls.js'
