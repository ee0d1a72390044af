/**
 * Control messages, cmsg(3): what goes along with a datagram. In: its destination, interface and hops (ip(7), ipv6(7)), the
 * size of the datagrams that were put together (udp(7)), what the error queue tells. Out: the size to cut into.
 */

import type { Address } from '../address.js'
import { readAddress } from './kernel-address.js'
import { LAYOUTS, LINUX } from './kernel-layout.js'
import type { Block } from './kernel-memory.js'

const { cmsghdr: HEADER, sock_extended_err: ERROR } = LAYOUTS
const { IPPROTO_IP, IPPROTO_IPV6, IPPROTO_UDP, SOL_SOCKET } = LINUX
const DATA = HEADER.size

/** Room for all that can come along with one datagram. */
export const CONTROL = 256
/** What one {@link writeSegment} takes. */
export const SEGMENT_CONTROL: number = DATA + 8

/** What came along with a datagram; one object for all, as most is looked at and forgotten. */
export interface Control {
  /** Bytes of each of the datagrams that were put together, 0 where it is one. */
  segment: number
  /** Where in the block the destination is, -1 where it was not told, and its family. */
  to: number
  family: number
  /** The number of the interface it came in by, and the hops it had left, -1 where they were not told. */
  interface: number
  hops: number
  credentials: boolean
  /** What the error queue tells. */
  error: Reported | undefined
}

/** An error of an earlier datagram (ip(7), IP_RECVERR). */
export interface Reported {
  readonly errno: number
  readonly origin: number
  /** Of EMSGSIZE: the path MTU. */
  readonly info: number
  /** Who said so: a router, or the destination; undefined for this machine. */
  readonly by: Address | undefined
}

export function newControl(): Control {
  return { segment: 0, to: -1, family: 0, interface: -1, hops: -1, credentials: false, error: undefined }
}

/** Reads the control messages in `length` bytes of `block` from `at` on. */
export function readControl(block: Block, at: number, length: number, into: Control): Control {
  into.segment = 0
  into.to = into.interface = into.hops = -1
  into.credentials = false
  into.error = undefined
  const { view } = block
  const end = at + length
  while (at + DATA <= end) {
    const size = view.getUint32(at + HEADER.cmsg_len, true)
    if (size < DATA || at + size > end) break
    const level = view.getInt32(at + HEADER.cmsg_level, true)
    const type = view.getInt32(at + HEADER.cmsg_type, true)
    const data = at + DATA
    if (level === IPPROTO_UDP) {
      if (type === LINUX.UDP_GRO) into.segment = view.getInt32(data, true)
    } else if (level === IPPROTO_IP) {
      if (type === LINUX.IP_PKTINFO) {
        into.interface = view.getInt32(data + LAYOUTS.in_pktinfo.ipi_ifindex, true)
        into.to = data + LAYOUTS.in_pktinfo.ipi_addr
        into.family = LINUX.AF_INET
      } else if (type === LINUX.IP_TTL) into.hops = view.getInt32(data, true)
      else if (type === LINUX.IP_RECVERR) into.error = readError(block, data, at + size)
    } else if (level === IPPROTO_IPV6) {
      if (type === LINUX.IPV6_PKTINFO) {
        into.interface = view.getInt32(data + LAYOUTS.in6_pktinfo.ipi6_ifindex, true)
        into.to = data + LAYOUTS.in6_pktinfo.ipi6_addr
        into.family = LINUX.AF_INET6
      } else if (type === LINUX.IPV6_HOPLIMIT) into.hops = view.getInt32(data, true)
      else if (type === LINUX.IPV6_RECVERR) into.error = readError(block, data, at + size)
    } else if (level === SOL_SOCKET && type === LINUX.SCM_CREDENTIALS) into.credentials = true
    // Each begins where the one before ends, rounded up to the size of a pointer.
    at += (size + 7) & ~7
  }
  return into
}

function readError(block: Block, at: number, end: number): Reported {
  const { view } = block
  const by = at + ERROR.size
  const family = end - by >= 2 ? view.getUint16(by, true) : 0
  return {
    errno: view.getInt32(at + ERROR.ee_errno, true),
    origin: view.getUint8(at + ERROR.ee_origin),
    info: view.getUint32(at + ERROR.ee_info, true),
    by: family === LINUX.AF_INET || family === LINUX.AF_INET6 ? readAddress(block, end - by, by) : undefined,
  }
}

/** Tells the system to cut what is sent into datagrams of `size` bytes (udp(7), UDP_SEGMENT). */
export function writeSegment({ view }: Block, at: number, size: number): void {
  view.setUint32(at + HEADER.cmsg_len, DATA + 2, true)
  view.setUint32(at + HEADER.cmsg_len + 4, 0, true)
  view.setInt32(at + HEADER.cmsg_level, IPPROTO_UDP, true)
  view.setInt32(at + HEADER.cmsg_type, LINUX.UDP_SEGMENT, true)
  view.setUint16(at + DATA, size, true)
}
