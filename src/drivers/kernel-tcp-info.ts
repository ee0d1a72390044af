/** What the system knows of a TCP connection: `struct tcp_info` of linux/tcp.h, which grows with the system. */

import { LAYOUTS, LINUX } from './kernel-layout.js'

const INFO = LAYOUTS.tcp_info

const STATES = new Map([
  [LINUX.TCP_ESTABLISHED, 'established'],
  [LINUX.TCP_SYN_SENT, 'syn-sent'],
  [LINUX.TCP_SYN_RECV, 'syn-received'],
  [LINUX.TCP_FIN_WAIT1, 'fin-wait-1'],
  [LINUX.TCP_FIN_WAIT2, 'fin-wait-2'],
  [LINUX.TCP_TIME_WAIT, 'time-wait'],
  [LINUX.TCP_CLOSE, 'closed'],
  [LINUX.TCP_CLOSE_WAIT, 'close-wait'],
  [LINUX.TCP_LAST_ACK, 'last-ack'],
  [LINUX.TCP_LISTEN, 'listen'],
  [LINUX.TCP_CLOSING, 'closing'],
])

/** No round trip was measured yet. */
const UNMEASURED = 0xffff_ffff

/** The `TcpInfo` of `options.ts`, from the first `length` bytes, which is what this system has; what it lacks is left out. */
export function tcpInfo(view: DataView, length: number): Record<string, unknown> {
  const int = (at: number) => view.getUint32(at, true)
  const ms = (at: number) => int(at) / 1000
  const long = (at: number) => Number(view.getBigUint64(at, true))
  const info: Record<string, unknown> = {
    state: STATES.get(view.getUint8(INFO.tcpi_state)),
    retransmits: int(INFO.tcpi_retrans),
    totalRetransmits: int(INFO.tcpi_total_retrans),
    unacknowledged: int(INFO.tcpi_unacked),
    lost: int(INFO.tcpi_lost),
    retransmitTimeout: ms(INFO.tcpi_rto),
    roundTrip: ms(INFO.tcpi_rtt),
    roundTripVariation: ms(INFO.tcpi_rttvar),
    sendSegment: int(INFO.tcpi_snd_mss),
    receiveSegment: int(INFO.tcpi_rcv_mss),
    pathMtu: int(INFO.tcpi_pmtu),
    congestionWindow: int(INFO.tcpi_snd_cwnd),
    slowStartThreshold: int(INFO.tcpi_snd_ssthresh),
    receiveSpace: int(INFO.tcpi_rcv_space),
  }
  if (length >= INFO.tcpi_bytes_acked + 8) info['bytesAcknowledged'] = long(INFO.tcpi_bytes_acked)
  if (length >= INFO.tcpi_bytes_received + 8) info['bytesReceived'] = long(INFO.tcpi_bytes_received)
  if (length >= INFO.tcpi_notsent_bytes + 4) info['notSentBytes'] = int(INFO.tcpi_notsent_bytes)
  if (length >= INFO.tcpi_min_rtt + 4 && int(INFO.tcpi_min_rtt) !== UNMEASURED) info['leastRoundTrip'] = ms(INFO.tcpi_min_rtt)
  if (length >= INFO.tcpi_delivery_rate + 8) info['deliveryRate'] = long(INFO.tcpi_delivery_rate)
  return info
}
