/** The core's only door. */

export { Listener, type ListenerStats } from './accept.js'
export {
  endpointOf,
  formatAddress,
  formatEndpoint,
  ipAddress,
  isIp,
  parseEndpoint,
  sameAddress,
  type Address,
  type DescriptorEndpoint,
  type Endpoint,
  type EndpointObject,
  type IpAddress,
  type IpEndpoint,
  type ParsedEndpoint,
  type Transport,
  type UnixAddress,
  type UnixEndpoint,
} from './address.js'
export { codecs, json, type HeaderOptions, type LengthOptions, type LineEnding, type LinesOptions, type MaxOptions } from './codecs.js'
export type { BindOptions, DatagramConnectOptions, DatagramEndpoint } from './bind.js'
export { Connection, type StartTlsOptions } from './connection.js'
export { DatagramSocket, type GroupOptions } from './datagram.js'
export type { DatagramUrl } from './datagram-life.js'
export type { Datagram } from './datagram-in.js'
export type { Outgoing } from './datagram-out.js'
export { Deadline } from './deadline.js'
export { Delivery, type DeliveryMode } from './delivery.js'
export {
  AddressError,
  Broken,
  Busy,
  Cancelled,
  Closed,
  CODES,
  DeadlineError,
  Denied,
  EXIT_CODES,
  FrameError,
  nearest,
  OptionError,
  printable,
  SocketError,
  SystemFailure,
  TlsError,
  type Attempt,
  type CodeOf,
  type ErrorClass,
  type ErrorCode,
  type Phase,
} from './errors.js'
export {
  defineCodec,
  FrameDecoder,
  FrameInput,
  FrameOutput,
  mapped,
  type Codec,
  type CodecParts,
  type Cut,
  type Decoder,
  type FrameFacts,
  type Mapping,
} from './framing.js'
export { MessageStream, type DetachOptions } from './messages.js'
export {
  bind,
  connect,
  listen,
  lookup,
  Network,
  network,
  reverse,
  serve,
  type ConnectOptions,
  type Dialer,
  type ListenOptions,
  type NetworkOptions,
} from './network.js'
export { inheritedDescriptors, type InheritedDescriptor, type InheritedOptions } from './inherited.js'
export { hostName, interfaces, service, type InterfaceAddress, type NameOptions, type Service } from './names.js'
export {
  OPTIONS,
  type CreationOptions,
  type OptionAbility,
  type OptionInputs,
  type OptionMoment,
  type OptionName,
  type OptionRow,
  type OptionTransport,
  type OptionValues,
  type OptionValueType,
  type PeerCredentials,
  type RawOption,
  type SettableName,
  type SocketKind,
  type TcpInfo,
} from './options.js'
export { Owner, type EndReport, type Owned } from './owner.js'
export {
  allOf,
  policyFrom,
  publicOnly,
  type Direction,
  type Policy,
  type PolicyFunction,
  type PolicyRequest,
  type PolicyRules,
  type PolicyVerdict,
  type PublicOnlyOptions,
} from './policy.js'
export { Cidr, classify, isGlobal, type AddressRange, type Classification } from './ranges.js'
export { relay, type RelayOptions, type RelayReport } from './relay.js'
export type { ReceivedDescriptors, ReceiveDescriptorsOptions } from './passing.js'
export type { FileSource, SendFileOptions } from './send-file.js'
export { cachingResolver, systemResolver, type LookupOptions, type ResolvedAddress, type Resolver } from './resolve.js'
export { Interests, select, type Interest, type InterestOptions, type Readiness, type Ready, type Selectable } from './select.js'
export {
  Server,
  type DrainReport,
  type Handler,
  type AlarmOptions,
  type ServeContext,
  type ServeOptions,
  type ServerLimits,
  type ServerStats,
} from './server.js'
export {
  LIMITS,
  type Bytes,
  type CloseReport,
  type ConnectionState,
  type ConnectionStats,
  type DatagramStats,
  type Defaults,
  type Limits,
  type LimitOptions,
  type LineOptions,
  type ReadOptions,
  type Wait,
} from './stream.js'
export { SessionCache } from './sessions.js'
export type { TlsInfo } from './tls.js'
export {
  ServerTls,
  type ClientTlsOptions,
  type ServerTlsOptions,
  type SniFunction,
  type TlsOptions,
  type TlsVersion,
} from './tls-options.js'
export type { Authorities, IdentityOptions, Pem, PemSource } from './credentials.js'
export type { AlternativeNames, CertificateFacts } from './x509.js'
export { Trace, type TraceEvent } from './trace.js'
