/**
 * The numbers of Linux: constants of its interface and the layouts of its structures, each with the header that has it.
 * `test/kernel-layout.test.ts` compares all of them with what the C compiler of the machine says. The headers of libc are
 * those of glibc, the ones under `linux/` those of the system itself.
 *
 * x86-64 and arm64 have the same numbers in all that is used here, but for the one structure that x86-64 packs.
 */

export const SUPPORTED_MACHINES: readonly string[] = ['x64', 'arm64']

/** By header, name and value. */
export const HEADERS = {
  'sys/socket.h': {
    AF_UNIX: 1,
    AF_INET: 2,
    AF_INET6: 10,
    SOCK_STREAM: 1,
    SOCK_DGRAM: 2,
    SOCK_SEQPACKET: 5,
    SOCK_NONBLOCK: 0o4000,
    SOCK_CLOEXEC: 0o2000000,
    SOL_SOCKET: 1,
    SO_REUSEADDR: 2,
    SO_TYPE: 3,
    SO_ERROR: 4,
    SO_BROADCAST: 6,
    SO_SNDBUF: 7,
    SO_RCVBUF: 8,
    SO_KEEPALIVE: 9,
    SO_PRIORITY: 12,
    SO_LINGER: 13,
    SO_REUSEPORT: 15,
    SO_PASSCRED: 16,
    SO_PEERCRED: 17,
    SO_BINDTODEVICE: 25,
    SO_ACCEPTCONN: 30,
    SO_MARK: 36,
    SO_PROTOCOL: 38,
    SO_DOMAIN: 39,
    SO_MEMINFO: 55,
    MSG_CTRUNC: 8,
    MSG_TRUNC: 0x20,
    MSG_ERRQUEUE: 0x2000,
    MSG_NOSIGNAL: 0x4000,
    MSG_CMSG_CLOEXEC: 0x40000000,
    SHUT_WR: 1,
    SCM_RIGHTS: 1,
    SCM_CREDENTIALS: 2,
  },
  'netinet/in.h': {
    IPPROTO_IP: 0,
    IPPROTO_TCP: 6,
    IPPROTO_UDP: 17,
    IPPROTO_IPV6: 41,
    IP_TOS: 1,
    IP_TTL: 2,
    IP_PKTINFO: 8,
    IP_RECVERR: 11,
    IP_RECVTTL: 12,
    IP_BIND_ADDRESS_NO_PORT: 24,
    IP_MULTICAST_IF: 32,
    IP_MULTICAST_TTL: 33,
    IP_MULTICAST_LOOP: 34,
    MCAST_JOIN_GROUP: 42,
    MCAST_LEAVE_GROUP: 45,
    MCAST_JOIN_SOURCE_GROUP: 46,
    MCAST_LEAVE_SOURCE_GROUP: 47,
    IPV6_UNICAST_HOPS: 16,
    IPV6_MULTICAST_IF: 17,
    IPV6_MULTICAST_HOPS: 18,
    IPV6_MULTICAST_LOOP: 19,
    IPV6_RECVERR: 25,
    IPV6_V6ONLY: 26,
    IPV6_RECVPKTINFO: 49,
    IPV6_PKTINFO: 50,
    IPV6_RECVHOPLIMIT: 51,
    IPV6_HOPLIMIT: 52,
    IPV6_TCLASS: 67,
  },
  'netinet/tcp.h': {
    TCP_NODELAY: 1,
    TCP_MAXSEG: 2,
    TCP_CORK: 3,
    TCP_KEEPIDLE: 4,
    TCP_KEEPINTVL: 5,
    TCP_KEEPCNT: 6,
    TCP_DEFER_ACCEPT: 9,
    TCP_INFO: 11,
    TCP_QUICKACK: 12,
    TCP_CONGESTION: 13,
    TCP_USER_TIMEOUT: 18,
    TCP_FASTOPEN: 23,
    TCP_NOTSENT_LOWAT: 25,
    TCP_FASTOPEN_CONNECT: 30,
    TCP_ESTABLISHED: 1,
    TCP_SYN_SENT: 2,
    TCP_SYN_RECV: 3,
    TCP_FIN_WAIT1: 4,
    TCP_FIN_WAIT2: 5,
    TCP_TIME_WAIT: 6,
    TCP_CLOSE: 7,
    TCP_CLOSE_WAIT: 8,
    TCP_LAST_ACK: 9,
    TCP_LISTEN: 10,
    TCP_CLOSING: 11,
  },
  'netinet/udp.h': {
    UDP_SEGMENT: 103,
    UDP_GRO: 104,
  },
  'linux/errqueue.h': {
    SO_EE_ORIGIN_LOCAL: 1,
  },
  'sys/epoll.h': {
    EPOLL_CLOEXEC: 0o2000000,
    EPOLL_CTL_ADD: 1,
    EPOLL_CTL_DEL: 2,
    EPOLL_CTL_MOD: 3,
    EPOLLIN: 1,
    EPOLLPRI: 2,
    EPOLLOUT: 4,
    EPOLLERR: 8,
    EPOLLHUP: 0x10,
    EPOLLRDHUP: 0x2000,
    EPOLLET: 0x80000000,
  },
  'poll.h': {
    POLLIN: 1,
  },
  'fcntl.h': {
    F_DUPFD_CLOEXEC: 1030,
    F_SETFD: 2,
    F_GETFL: 3,
    F_SETFL: 4,
    FD_CLOEXEC: 1,
    O_NONBLOCK: 0o4000,
    O_CLOEXEC: 0o2000000,
    SPLICE_F_MOVE: 1,
    SPLICE_F_NONBLOCK: 2,
    F_SETPIPE_SZ: 1031,
    POSIX_FADV_WILLNEED: 3,
  },
  'linux/sockios.h': {
    SIOCINQ: 0x541b,
    SIOCOUTQ: 0x5411,
    SIOCGIFNAME: 0x8910,
  },
} as const

type Names<T> = T extends unknown ? keyof T & string : never
export type ConstantName = Names<(typeof HEADERS)[keyof typeof HEADERS]>

/** All constants, by name. */
export const LINUX: Readonly<Record<ConstantName, number>> = Object.assign({}, ...Object.values(HEADERS)) as Record<ConstantName, number>

/** Structures: the header, the size, and the offsets of the members that are used, laid out as arm64 has them. */
const ALIGNED = {
  sockaddr_in: { header: 'netinet/in.h', size: 16, sin_family: 0, sin_port: 2, sin_addr: 4 },
  sockaddr_in6: { header: 'netinet/in.h', size: 28, sin6_family: 0, sin6_port: 2, sin6_addr: 8, sin6_scope_id: 24 },
  sockaddr_un: { header: 'sys/un.h', size: 110, sun_family: 0, sun_path: 2 },
  sockaddr_storage: { header: 'sys/socket.h', size: 128 },
  epoll_event: { header: 'sys/epoll.h', size: 16 as number, events: 0, data: 8 as number },
  pollfd: { header: 'poll.h', size: 8, fd: 0, events: 4 },
  iovec: { header: 'sys/uio.h', size: 16, iov_base: 0, iov_len: 8 },
  msghdr: {
    header: 'sys/socket.h',
    size: 56,
    msg_name: 0,
    msg_namelen: 8,
    msg_iov: 16,
    msg_iovlen: 24,
    msg_control: 32,
    msg_controllen: 40,
    msg_flags: 48,
  },
  mmsghdr: { header: 'sys/socket.h', size: 64, msg_len: 56 },
  cmsghdr: { header: 'sys/socket.h', size: 16, cmsg_len: 0, cmsg_level: 8, cmsg_type: 12 },
  linger: { header: 'sys/socket.h', size: 8, l_onoff: 0, l_linger: 4 },
  ucred: { header: 'sys/socket.h', size: 12, pid: 0, uid: 4, gid: 8 },
  ifreq: { header: 'net/if.h', size: 40, ifr_name: 0, ifr_ifindex: 16 },
  in_pktinfo: { header: 'netinet/in.h', size: 12, ipi_ifindex: 0, ipi_addr: 8 },
  in6_pktinfo: { header: 'netinet/in.h', size: 20, ipi6_addr: 0, ipi6_ifindex: 16 },
  ip_mreqn: { header: 'netinet/in.h', size: 12, imr_address: 4, imr_ifindex: 8 },
  group_req: { header: 'netinet/in.h', size: 136 },
  group_source_req: { header: 'netinet/in.h', size: 264, gsr_interface: 0, gsr_group: 8, gsr_source: 136 },
  sock_extended_err: {
    header: 'linux/errqueue.h',
    size: 16,
    ee_errno: 0,
    ee_origin: 4,
    ee_info: 8,
  },
  /** It grows with the system, which says how much of it there is; the size is that of what is used. */
  tcp_info: {
    header: 'linux/tcp.h',
    size: 168,
    tcpi_state: 0,
    tcpi_rto: 8,
    tcpi_snd_mss: 16,
    tcpi_rcv_mss: 20,
    tcpi_unacked: 24,
    tcpi_lost: 32,
    tcpi_retrans: 36,
    tcpi_pmtu: 60,
    tcpi_rtt: 68,
    tcpi_rttvar: 72,
    tcpi_snd_ssthresh: 76,
    tcpi_snd_cwnd: 80,
    tcpi_rcv_space: 96,
    tcpi_total_retrans: 100,
    tcpi_bytes_acked: 120,
    tcpi_bytes_received: 128,
    tcpi_notsent_bytes: 144,
    tcpi_min_rtt: 148,
    tcpi_delivery_rate: 160,
  },
} as const

export type Layouts = typeof ALIGNED

/** The layouts on a machine, as `process.arch` has it: x86-64 packs one structure as 32-bit programs have it. */
export function layoutsOf(machine: string): Layouts {
  return machine === 'x64' ? { ...ALIGNED, epoll_event: { ...ALIGNED.epoll_event, size: 12, data: 4 } } : ALIGNED
}

/** The layouts on this machine. */
export const LAYOUTS: Layouts = layoutsOf(process.arch)
