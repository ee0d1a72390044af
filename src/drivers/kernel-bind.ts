/** Making datagram sockets: options first, then a name, then the peer. */

import type { Address } from '../address.js'
import type { BindSettings, DatagramHandle } from '../driver.js'
import { familyOf, writeAddress } from './kernel-address.js'
import { KernelDatagrams, localOf } from './kernel-datagram.js'
import { KernelPackets } from './kernel-packets.js'
import { LAYOUTS, LINUX } from './kernel-layout.js'
import { applyOptions } from './kernel-options.js'
import { bindUnix, type Unlink } from './kernel-paths.js'
import type { Poll } from './kernel-poll.js'
import { nameOf } from './kernel-stream.js'
import { must } from './kernel-system.js'

const { SOCK_DGRAM, SOCK_SEQPACKET, SOCK_NONBLOCK, SOCK_CLOEXEC } = LINUX

/** Makes a datagram socket and binds it; with `to` in the settings, connects it as well. */
export function bindDatagram(poll: Poll, at: Address, settings: BindSettings): DatagramHandle {
  const { system, memory } = poll
  const { to } = settings
  if (settings.type === 'seqpacket' && at.family !== 'unix') {
    throw Object.assign(new Error('sequenced packets are of UNIX-domain sockets alone'), { code: 'UNSUPPORTED' })
  }
  const type = settings.type === 'seqpacket' ? SOCK_SEQPACKET : SOCK_DGRAM
  const fd = must('socket', system.socket(familyOf(at), type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0))
  let unlink: Unlink | undefined
  try {
    applyOptions(poll, { descriptor: fd }, 'datagram', settings.options)
    if (at.family === 'unix') unlink = nameUnix(poll, fd, at, type)
    else {
      const { reuseAddress, reusePort, ipv6Only } = settings
      applyOptions(poll, { descriptor: fd }, 'datagram', new Map(Object.entries({ reuseAddress, reusePort, ipv6Only })))
      must('bind', system.bind(fd, memory.name.address, writeAddress(memory.name, at)))
    }
    if (settings.type === 'seqpacket' && to === undefined) return new KernelPackets(poll, fd, localOf(poll, fd, at), unlink, settings)
    if (to !== undefined) must('connect', system.connect(fd, memory.name.address, writeAddress(memory.name, to)))
    const remote = to && (to.family === 'unix' ? { ...to } : (nameOf(poll, 'getpeername', fd) ?? { ...to }))
    return new KernelDatagrams(poll, { fd, local: localOf(poll, fd, at), remote, unlink }, settings)
  } catch (error) {
    unlink?.()
    system.close(fd)
    throw error
  }
}

/** A socket without a name gets an abstract one of the system, so that it can be answered (unix(7), autobind). */
function nameUnix(poll: Poll, fd: number, at: Address & { family: 'unix' }, type: number): Unlink | undefined {
  if (at.path !== '' || at.abstract) return bindUnix(poll, fd, at, type)
  if (type !== SOCK_DGRAM) return undefined
  const { system, memory } = poll
  writeAddress(memory.name, at)
  must('bind', system.bind(fd, memory.name.address, LAYOUTS.sockaddr_un.sun_path))
  return undefined
}
