/** The efuns, as an object of LPC sees them, and the words they use. */

import type { Constants, Failure, Mode, OptionNumber, Result } from './fluffos-constants.js'
import type { LpcValue } from './fluffos-values.js'

/**
 * Whom to call back: the name of a function, which is looked up in the owner of the socket at each call (a missing one is
 * skipped), or a function.
 */
export type Callback = string | ((...parameters: never[]) => unknown)

/** What one socket is: `[descriptor of the system, state, mode, local address, remote address, owner]`. */
export type SocketStatus = readonly [fd: number, state: SocketState, mode: string, local: string, remote: string, owner: object | 0]

export type SocketState = 'CLOSED' | 'CLOSING' | 'UNBOUND' | 'BOUND' | 'LISTEN' | 'HANDSHAKE' | 'DATA_XFER'

/** What the policy is asked about. */
export type SocketOperation = 'create' | 'bind' | 'listen' | 'accept' | 'connect' | 'write' | 'close' | 'release' | 'acquire'

/** What the policy is told: the descriptor, who owns it, and the address and port of the peer. */
export type SocketFacts = readonly [descriptor: number, owner: object | 0, address: string, port: number]

/** The master object: who may do what with sockets. */
export interface Master {
  /**
   * Asked before everything that is done with a socket; what it gives, other than 0 and nothing, allows it. Without this
   * function, where it throws, and where it gives a promise, nothing is allowed.
   *
   * @param caller the object that called the efun
   * @param operation which one, without `socket_`
   * @param info `[-1, caller, 'N/A', -1]` for `create`; otherwise descriptor and owner (0 for a closed one) with the
   *   address and port of the peer (`'0.0.0.0'` and 0 without one, `''` and 0 for a descriptor out of range), for `connect`
   *   those that it is to connect to, as they were given
   */
  valid_socket?(caller: object, operation: SocketOperation, info: SocketFacts): unknown
}

/** An error of LPC: a wrong argument, as the original reports it, by ending the function that called the efun. */
export class LpcError extends Error {
  override readonly name: string = 'LpcError'
}

/**
 * The functions of the socket package, bound to the object that calls them. Nothing in them blocks; only binding and
 * listening, which the system does in its own time here, give a promise.
 *
 * Common to all that give a result, in this order: `EESECURITY` where `valid_socket` refuses, `EEFDRANGE` for a descriptor
 * that never was, `EEBADF` for one that is closed or closing, `EESECURITY` for a socket of another object. Arguments of a
 * wrong type throw an {@link LpcError}.
 */
export interface Efuns {
  /**
   * Makes a socket.
   *
   * @param mode `MUD`, `STREAM`, `DATAGRAM`, `STREAM_BINARY`, `DATAGRAM_BINARY`, `STREAM_TLS` or `STREAM_TLS_BINARY`
   * @param read called with what arrives: `(fd, data)`, on datagram sockets `(fd, data, 'ip port')`
   * @param close called with `(fd)` when the other side, or an error, ended the connection; never for datagram modes
   * @returns a descriptor, 0 or more: the lowest that is free; `EESECURITY`, `EEMODENOTSUPP`
   */
  socket_create(mode: Mode | (number & {}), read: Callback, close?: Callback): number

  /**
   * Binds to an address of this machine. Datagram sockets receive from then on.
   *
   * @param port 0 for any free one; not used where `address` is given
   * @param address `'ip port'` or `'ip:port'`; without it, the address of the driver, or all
   * @returns `EESUCCESS`; `EEISBOUND`, `EEBADADDR`, `EEADDRINUSE`, `EEBIND` for all else the system says (and ports beyond
   *   65,535), `EESOCKET` where it is out of descriptors
   */
  socket_bind(fd: number, port: number, address?: string): Promise<Result>

  /**
   * Waits for connections, five of which may wait in turn for `socket_accept`. On TLS sockets `SO_TLS_CERT` and
   * `SO_TLS_KEY` must have been set. A `socket_bind` that was not waited for is.
   *
   * @param listen called with `(fd)`, once for each connection; it takes the place of the read callback
   * @returns `EESUCCESS`; `EEMODENOTSUPP`, `EENOADDR`, `EEISCONN`, `EELISTEN` for a certificate or key that is missing,
   *   cannot be read, or is not the other's
   */
  socket_listen(fd: number, listen: Callback): Promise<Result>

  /**
   * Takes a connection that waits. The new socket has the mode and the close callback of the listening one, and belongs to
   * the caller. With TLS it is in state `HANDSHAKE` until its write callback is called.
   *
   * @param read `(fd, data)`
   * @param write `(fd)`: what was written is on its way; with TLS also when the handshake is done
   * @returns a descriptor; `EEMODENOTSUPP`, `EENOTLISTN`, `EEWOULDBLOCK` where none waits, `EEACCEPT` for one that has gone
   */
  socket_accept(fd: number, read: Callback, write: Callback): number

  /**
   * Starts to connect. Either the write callback follows, or the close callback: nothing may be written before.
   *
   * @param address `'ip port'`, as the original; also `'host:port'` and `'host port'`, whose name is looked up
   * @param read `(fd, data)`; left out, as in `socket_connect(fd, address, connected)`, it stays the one of `socket_create`
   * @param write `(fd)`: once when connected, and each time that what was held back has been sent
   * @returns `EESUCCESS`; `EEMODENOTSUPP`, `EEISLISTEN`, `EEISCONN`, `EEBADADDR`, `EECONNECT` for a name in
   *   `SO_TLS_SNI_HOSTNAME` that is none
   */
  socket_connect(fd: number, address: string, read: Callback, write: Callback): Result
  socket_connect(fd: number, address: string, connected: Callback): Result

  /**
   * Sends a message. Mode `MUD` takes any value but an object; stream modes take strings, sent as UTF-8, buffers
   * (`Uint8Array`) and arrays of numbers, four bytes for each; datagram modes strings and buffers.
   *
   * @param address `'ip port'` or `'ip:port'`, for datagrams, and only for them
   * @returns `EESUCCESS`, or `EECALLBACK` where the rest is sent as the peer takes it, and the write callback called then;
   *   `EEALREADY` before that, and nothing is taken. `EENOTCONN`, `EENOADDR`, `EEBADADDR`, `EETYPENOTSUPP`, `EEBADDATA`,
   *   `EESENDTO`, `EEWOULDBLOCK` for a datagram where 256 KiB of them wait; `EESEND` for a connection that broke, after its close callback was called
   */
  socket_write(fd: number, message: LpcValue, address?: string): Result

  /** Closes. What was taken is sent first; no callback is called any more. @returns `EESUCCESS` */
  socket_close(fd: number): Result

  /**
   * Offers a socket to another object: calls `callback` in it with `(fd, target)`, and it has to `socket_acquire` in there.
   *
   * @returns `EESUCCESS`; `EESOCKNOTRLSD` if it did not, and nothing has changed; `EESOCKRLSD` while it is being offered
   */
  socket_release(fd: number, target: object, callback: Callback): Result

  /** Takes a socket that is offered to the caller, with callbacks of its own. @returns `EESUCCESS`; `EESOCKNOTRLSD` */
  socket_acquire(fd: number, read: Callback, write: Callback, close: Callback): Result

  /** The text of a negative result; `'socket_error: invalid error number'` for what is none. */
  socket_error(code: number): string

  /**
   * The address of the peer, or with `local` other than 0 the own one, as `'ip port'`; `'0.0.0.0 0'` where there is none,
   * `' 0'` for a descriptor out of range. For an object: the address of the person behind it, 0 where there is none.
   */
  socket_address(fd: number, local?: number): string
  socket_address(player: object, local?: number): string | 0

  /** One socket, 0 for a descriptor out of range; all of them without an argument. */
  socket_status(): SocketStatus[]
  socket_status(fd: number): SocketStatus | 0

  /** All sockets as a table for people. */
  dump_socket_status(): string

  /**
   * Sets an option, for the connection that is made after it; later it has no effect.
   *
   * `SO_TLS_VERIFY_PEER` (0, or 1, the default): clients verify the certificate of the server: its chain against the
   * system's store, its dates, and that it is for the host of the address or of `SO_TLS_SNI_HOSTNAME`.
   * `SO_TLS_SNI_HOSTNAME` (string): the name that a client asks for, and verifies. `SO_TLS_CERT` and `SO_TLS_KEY` (string):
   * paths of the PEM files of a server.
   *
   * @throws LpcError for a descriptor that is out of range or closed, an unknown option, a value of a wrong type, and a
   *   socket of another object
   */
  socket_set_option(fd: number, option: OptionNumber | (number & {}), value: string | number): void

  /**
   * The value of an option: 0 or 1 for `SO_TLS_VERIFY_PEER`, a string for the others, empty where it is not set. The name is
   * used up by `socket_connect`, the paths by `socket_listen`.
   *
   * @throws LpcError as {@link Efuns.socket_set_option}
   */
  socket_get_option(fd: number, option: OptionNumber | (number & {})): string | number

  /**
   * Looks up the address of a name, or the name of an address, and calls back with `(name, ip, key)`; what was not found is
   * 0.
   *
   * @returns the key, unique in the driver
   */
  resolve(address: string, callback: Callback): number
}

/** What a program of an object is given: the efuns, the constants, and what the driver includes. */
export type Lpc<Include extends object = object> = Efuns & Constants & Readonly<Include> & { this_object(): object }

/** The codes that `socket_create` and `socket_accept` may give instead of a descriptor. */
export type { Failure }
