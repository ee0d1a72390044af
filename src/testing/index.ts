/** `fairlead/testing`: a contract checker for anyone's transport, a network inside the process, time and faults under control. */

export type { Clock, Driver, Guarantees, ListenerHandle, StreamEvents, StreamHandle } from '../driver.js'
export { memory, memoryPair, type Capacity, type MemoryOptions, type PairOptions } from '../drivers/memory.js'
export {
  developmentAuthority,
  type Authority,
  type AuthorityOptions,
  type Issued,
  type IssuedFiles,
  type IssueOptions,
} from './authority.js'
export {
  clog,
  Pace,
  type CheckOptions,
  type ConnectionPair,
  type Property,
  type StreamCase,
  type StreamMaker,
  type TestFunction,
} from './check.js'
export { checkCodec, CODEC_PROPERTIES, type CodecCase, type CodecMaker } from './check-codec.js'
export { checkDatagrams, DATAGRAM_PROPERTIES, DatagramCase, type DatagramMaker } from './check-datagrams.js'
export { checkNetworks, NETWORK_PROPERTIES, NetworkCase, type NetworkMaker } from './check-network.js'
export { checkStreams, STREAM_PROPERTIES } from './check-streams.js'
export { settle, VirtualClock, type VirtualClockOptions } from './clock.js'
export { faulty, FaultyDriver, FaultyStream, type Cut, type FaultPlan, type FaultPlans } from './faults.js'
export { connectHandles, connectionPair, type ConnectionPairOptions, type TestPair } from './memory.js'
export { Random } from './random.js'
