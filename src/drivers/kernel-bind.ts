/** Making datagram sockets: options first, then a name, then the peer. */

import type { Address } from '../address.js'
import type { BindSettings, DatagramHandle } from '../driver.js'
import { familyOf } from './kernel-address.js'
import { KernelDatagrams } from './kernel-datagram.js'
import { KernelPackets } from './kernel-packets.js'
import { LINUX } from './kernel-layout.js'
import { applyOptions } from './kernel-options.js'
import { bindUnix, type Unlink } from './kernel-paths.js'
import type { Poll } from './kernel-poll.js'
import { bindTo, connectTo, localOf, nameOf, newSocket } from './kernel-socket.js'
import { must } from './kernel-system.js'
import { refusal } from './refusal.js'

const { SOCK_DGRAM, SOCK_SEQPACKET } = LINUX

/** Makes a datagram socket and binds it; with `to` in the settings, connects it as well. */
export function bindDatagram(poll: Poll, at: Address, settings: BindSettings): DatagramHandle {
  const { to } = settings
  if (settings.type === 'seqpacket' && at.family !== 'unix') {
    throw refusal('UNSUPPORTED', 'sequenced packets are of UNIX-domain sockets alone')
  }
  const type = settings.type === 'seqpacket' ? SOCK_SEQPACKET : SOCK_DGRAM
  const fd = must('socket', newSocket(poll, familyOf(at), type))
  let unlink: Unlink | undefined
  try {
    const { reuseAddress, reusePort, ipv6Only, options } = settings
    const made = at.family === 'unix' ? options : new Map([...options, ...Object.entries({ reuseAddress, reusePort, ipv6Only })])
    applyOptions(poll, { descriptor: fd }, 'datagram', made)
    if (at.family === 'unix') unlink = nameUnix(poll, fd, at, type)
    else must('bind', bindTo(poll, fd, at))
    if (settings.type === 'seqpacket' && to === undefined) return new KernelPackets(poll, fd, boundTo(poll, fd, at), unlink, settings)
    if (to !== undefined) must('connect', connectTo(poll, fd, to))
    const remote = to && (to.family === 'unix' ? { ...to } : (nameOf(poll, 'getpeername', fd) ?? { ...to }))
    return new KernelDatagrams(poll, { fd, local: boundTo(poll, fd, at), remote, unlink }, settings)
  } catch (error) {
    unlink?.()
    poll.system.close(fd)
    throw error
  }
}

/** The local name of a socket, with the scope it was asked for with. */
function boundTo(poll: Poll, fd: number, at: Address): Address {
  const told = localOf(poll, fd)
  return Object.freeze(told.family !== 'unix' && at.family !== 'unix' && at.scope !== undefined ? { ...told, scope: at.scope } : told)
}

/** A socket without a name gets an abstract one of the system, so that it can be answered (unix(7), autobind). */
function nameUnix(poll: Poll, fd: number, at: Address & { family: 'unix' }, type: number): Unlink | undefined {
  if (at.path !== '' || at.abstract) return bindUnix(poll, fd, at, type)
  if (type !== SOCK_DGRAM) return undefined
  must('bind', bindTo(poll, fd, at))
  return undefined
}
