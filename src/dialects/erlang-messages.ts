/** The messages that sockets and processes send to a mailbox, and what a pattern makes of them. */

import type { HttpPacket } from './erlang-http.js'
import type { Pid, Ref } from './erlang-process.js'
import type { SslReason, TcpReason, UdpReason } from './erlang-reasons.js'
import type { StreamSocket } from './erlang-socket.js'
import type { SslSocket } from './erlang-ssl.js'
import type { InetSocket } from './erlang-inet.js'
import type { TcpSocket } from './erlang-tcp.js'
import type { IpTuple, _ } from './erlang-terms.js'
import type { UdpSocket } from './erlang-udp.js'

/** What a socket receives: bytes as text in list mode, a `Uint8Array` in binary mode, or what `{packet, http}` makes of them. */
export type Data = string | Uint8Array | HeaderData | HttpPacket | HttpPacket<Uint8Array>
/** `{header, N}` in binary mode: the first N bytes as numbers, then the rest; of fewer bytes than N the numbers alone. */
export type HeaderData = readonly [...number[], Uint8Array] | readonly number[]

/** By the atom in front. */
interface Messages {
  ssl: readonly ['ssl', SslSocket<Data>, Data]
  ssl_closed: readonly ['ssl_closed', SslSocket<Data>]
  ssl_error: readonly ['ssl_error', SslSocket<Data>, SslReason]
  ssl_passive: readonly ['ssl_passive', SslSocket<Data>]
  tcp: readonly ['tcp', TcpSocket<Data>, Data]
  http: readonly ['http', TcpSocket<Data>, HttpPacket | HttpPacket<Uint8Array>]
  tcp_closed: readonly ['tcp_closed', TcpSocket<Data>]
  tcp_error: readonly ['tcp_error', TcpSocket<Data>, TcpReason]
  tcp_passive: readonly ['tcp_passive', TcpSocket<Data>]
  udp: readonly ['udp', UdpSocket<Data>, IpTuple | readonly ['local', string], number, Data]
  udp_error: readonly ['udp_error', UdpSocket<Data>, UdpReason]
  udp_passive: readonly ['udp_passive', UdpSocket<Data>]
  EXIT: readonly ['EXIT', Pid, unknown]
  DOWN: readonly ['DOWN', Ref, 'process', Pid, unknown] | readonly ['DOWN', Ref, 'port', InetSocket, unknown]
}

/** What sockets and processes send. */
export type Message = Messages[keyof Messages]

type Guard<T> = (value: unknown) => value is T & {}

/** The values that fit a pattern, by the pattern alone. */
type Shape<P> = P extends typeof _
  ? unknown
  : P extends Guard<infer T>
    ? T
    : P extends (value: never) => unknown
      ? unknown
      : P extends readonly unknown[]
        ? { readonly [I in keyof P]: Shape<P[I]> }
        : P

/** What a socket in a pattern receives. */
type Content<S> = S extends StreamSocket<infer D> | UdpSocket<infer D> ? D : Data

/** The messages that fit a pattern. */
export type Matched<P> = P extends readonly [infer Tag extends 'ssl' | 'tcp', infer S, typeof _]
  ? readonly [Tag, S extends typeof _ ? Messages[Tag][1] : S, Content<S>]
  : P extends readonly [infer Tag extends keyof Messages, ...unknown[]]
    ? Extract<Messages[Tag], { readonly length: P['length'] }> & Shape<P>
    : Shape<P>
