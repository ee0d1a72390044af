/**
 * The one table of `conformance`: id → where it is tested, and on which driver and transport it applies, applies in an
 * adapted form, or does not apply, and why. The skip lists of the checker come from here.
 */

import type { Transport } from './matrix.js'

export type Verdict = 'applies' | { readonly adapted: string } | { readonly not: string }

export interface Row {
  /** Test files that name the id; `checker` for the exported one, run by the files `conformance*.test.ts`. */
  readonly at: readonly string[]
  readonly verdict: Verdict
  /** Where it differs on a transport of the matrix. */
  readonly on?: Readonly<Record<string, Verdict>>
}

const UNBOUNDED: Verdict = { not: 'a memory pair without a capacity takes any number of bytes, so a write never waits' }
const UNIX_ABORT: Verdict = { not: 'a UNIX socket has no reset: an abort may read as a clean end there, which T19 allows' }
const NO_RESET: Readonly<Record<string, Verdict>> = { unix: UNIX_ABORT, 'kernel unix': UNIX_ABORT, 'kernel abstract': UNIX_ABORT }
const WAITING_SENDERS: Verdict = { not: 'a full UNIX socket makes its senders wait' }
const BOUNDED_BY_SYSTEM: Readonly<Record<string, Verdict>> = {
  'memory unixgram': WAITING_SENDERS,
  'kernel unixgram': WAITING_SENDERS,
  'kernel unixgram path': WAITING_SENDERS,
}
const OF_BUFFER: Verdict = { not: 'how long a UNIX datagram may be depends on the send buffer' }
const LONGEST_UNKNOWN: Readonly<Record<string, Verdict>> = {
  'memory unixgram': { not: 'a UNIX datagram has no longest length in the process' },
  'kernel unixgram': OF_BUFFER,
  'kernel unixgram path': OF_BUFFER,
}
const TLS_ONLY_READY: Verdict = { not: 'a TLS connection exists only after its handshake and cannot be unwrapped' }

const ORDERED: Verdict = { adapted: 'concurrent writes queue in order, none is lost, each is told its own outcome' }
const NOT_BUSY: Verdict = { adapted: 'waiting to write may run beside anything: no Busy, all wake' }

const checked: Row = { at: ['checker'], verdict: 'applies' }
const clogged = (verdict: Verdict = 'applies'): Row => ({ at: ['checker'], verdict, on: { unbounded: UNBOUNDED } })
const adapted = (why: string): Row => ({ at: ['checker'], verdict: { adapted: why } })
const not = (verdict: Verdict): Row => ({ at: [], verdict })
const at = (...files: string[]): Row => ({ at: files, verdict: 'applies' })

/** Transports on which only {@link SUBSET} is run; the others get everything. */
export const SUBSET_ONLY: readonly string[] = [
  ...['tcp6', 'adopted', 'tls1.2', 'tls over unix', 'choppy tls', 'portable tls', 'tls in tls'],
  ...['kernel tcp6', 'kernel abstract', 'kernel tls1.2', 'kernel tls over unix', 'kernel tls in tls'],
]

/** What differs between transports rather than between the layers above them. */
export const SUBSET: readonly string[] = [
  ...['T1', 'T3', 'T8', 'T10', 'T11', 'T13', 'T17', 'T18', 'T19', 'T20', 'T21', 'T22', 'T23', 'T26', 'T27', 'T28', 'T29', 'T31'],
  ...['T32', 'T33', 'T34', 'T36', 'T37', 'T38', 'G1', 'G2', 'G5', 'G7', 'G8', 'G9', 'G10', 'G11'],
  ...['N1', 'N7', 'N9', 'N10', 'N11', 'N13', 'N17', 'N28', 'X3', 'X4'],
]

export const PROPERTIES: Readonly<Record<string, Row>> = {
  T1: checked,
  T2: checked,
  T3: checked,
  T4: checked,
  T5: adapted('range and type errors are native, as rejections'),
  T6: checked,
  T7: adapted('an operation that need not wait settles at once, but lets the loop turn every few milliseconds; T21 has the cancellation'),
  T8: checked,
  T9: checked,
  T10: checked,
  T11: checked,
  T12: checked,
  T13: checked,
  T14: checked,
  T15: checked,
  T16: checked,
  T17: checked,
  T18: checked,
  T19: checked,
  T20: checked,
  T21: checked,
  T22: checked,
  T23: clogged(),
  T24: clogged(NOT_BUSY),
  T25: clogged(ORDERED),
  T26: clogged(ORDERED),
  T27: clogged(),
  T28: clogged(),
  T29: clogged(),
  T30: clogged(),
  T31: checked,
  T32: checked,
  T33: checked,
  T34: checked,
  T35: checked,
  T36: checked,
  T37: checked,
  T38: clogged(ORDERED),
  T39: clogged(NOT_BUSY),

  G1: checked,
  G2: checked,
  G3: adapted('one reads, the others are told Busy, and nothing is lost'),
  G4: { at: ['checker'], verdict: ORDERED },
  G5: checked,
  G6: checked,
  G7: checked,
  G8: clogged(),
  G9: clogged(),
  G10: checked,
  G11: checked,
  G12: checked,

  N1: checked,
  N2: checked,
  N3: checked,
  N4: checked,
  N5: adapted('on real clocks up to 25 ms; the rest in virtual time'),
  N6: checked,
  N7: checked,
  N8: checked,
  N9: checked,
  N10: { at: ['checker'], verdict: 'applies', on: NO_RESET },
  N11: checked,
  N12: checked,
  N13: adapted('there is no half-close of reading; ending the write direction is tested'),
  N14: { at: ['checker', 'accept.test.ts'], verdict: 'applies' },
  N15: { at: ['checker', 'dial.test.ts'], verdict: 'applies' },
  N16: { at: ['checker', 'accept.test.ts', 'memory.test.ts'], verdict: 'applies' },
  N17: checked,
  N18: at('dial.test.ts'),
  N19: at('dial.test.ts'),
  N20: at('dial.test.ts'),
  N21: { at: ['checker', 'dial.test.ts'], verdict: 'applies' },
  N22: at('conformance-more.test.ts'),
  N23: at('unix.test.ts'),
  N24: { at: ['checker', 'accept.test.ts'], verdict: 'applies' },
  N25: checked,
  N26: { at: ['checker'], verdict: 'applies', on: LONGEST_UNKNOWN },
  N27: {
    at: ['conformance-more.test.ts'],
    verdict: {
      adapted: 'records are whole at every deadline, so a write that timed out leaves the stream usable; bytesWritten tells what went out',
    },
  },
  N28: clogged(),
  N29: not({ not: 'left to OpenSSL’s own limits' }),
  N30: not(TLS_ONLY_READY),
  N31: at('tls-ends.test.ts'),
  N32: at('tls-server.test.ts'),
  N33: not(TLS_ONLY_READY),
  N34: not(TLS_ONLY_READY),
  N35: at('tls-ends.test.ts'),
  N36: not(TLS_ONLY_READY),
  N37: at('tls-ends.test.ts'),
  N38: at('tls-ends.test.ts'),
  N39: not(TLS_ONLY_READY),
  N40: checked,

  S1: { at: ['checker', 'server.test.ts'], verdict: { adapted: 'the node driver parks what it cannot leave in the backlog' } },
  S2: at('server.test.ts'),
  S3: at('server.test.ts'),
  S4: {
    at: ['checker', 'accept.test.ts', 'server.test.ts'],
    verdict: { adapted: 'while suspended, new clients wait in the backlog (node: parked) rather than being refused' },
  },
  S5: { at: ['checker', 'server.test.ts'], verdict: 'applies' },
  S6: { at: ['checker', 'server.test.ts'], verdict: 'applies' },
  S7: { at: ['checker', 'server.test.ts'], verdict: 'applies' },
  S8: at('server.test.ts'),
  S9: at('conformance-more.test.ts'),
  S10: {
    at: ['accept.test.ts', 'server.test.ts'],
    verdict: { adapted: 'exact counts and cadence with the fault injector; the node driver infers' },
  },
  S11: { at: ['accept.test.ts', 'server.test.ts'], verdict: { adapted: 'exact with the fault injector; the node driver is never told' } },
  S12: { at: ['checker', 'accept.test.ts', 'server.test.ts'], verdict: 'applies' },
  S13: { at: ['checker', 'server.test.ts'], verdict: 'applies' },
  S14: at('accept.test.ts'),
  S15: at('server.test.ts'),
  S16: at('server.test.ts'),
  S17: { at: ['checker', 'server.test.ts'], verdict: 'applies' },
  S18: at('accept.test.ts'),

  F1: { at: ['checker', 'framing.test.ts'], verdict: 'applies' },
  F2: { at: ['checker', 'framing.test.ts'], verdict: 'applies' },
  F3: at('framing.test.ts'),
  F4: { at: ['checker', 'framing.test.ts'], verdict: 'applies' },
  F5: at('framing.test.ts'),
  F6: at('framing.test.ts'),
  F7: { at: ['checker', 'framing.test.ts', 'fuzz/framing.test.ts'], verdict: 'applies' },
  F8: { at: ['checker', 'framing.test.ts', 'messages.test.ts'], verdict: 'applies' },
  F9: at('messages.test.ts'),

  X1: at('tls-server.test.ts'),
  X2: at('tls-ends.test.ts'),
  X3: { at: ['checker'], verdict: 'applies', on: NO_RESET },
  X4: checked,
  X5: at('tls-sessions.test.ts'),
  X6: at('conformance-more.test.ts'),
  X7: at('unix.test.ts'),
  X8: { at: ['accept.test.ts', 'server.test.ts'], verdict: { adapted: 'exact where the driver knows, an estimate on the node driver' } },
  X9: at('tls-server.test.ts'),
  X10: at('fuzz/history.test.ts'),

  D1: checked,
  D2: checked,
  D3: checked,
  D4: checked,
  D5: checked,
  D6: checked,
  D7: checked,
  D8: checked,
  D9: checked,
  D10: checked,
  D11: { at: ['checker'], verdict: 'applies', on: BOUNDED_BY_SYSTEM },
  D12: checked,
  D13: checked,
  D14: checked,
  D15: checked,
  D16: checked,
  D17: checked,

  R1: checked,
  R2: checked,
  R3: checked,
  R4: checked,
  R5: checked,
  R6: checked,
  R7: checked,
  R8: checked,

  V1: checked,
  V2: checked,
  V3: checked,
  V4: checked,
  V5: checked,
  V6: checked,
  V7: checked,
  V8: checked,

  O1: checked,
  O2: checked,
  O3: checked,
  O4: checked,
  O5: checked,
  O6: checked,
  O7: checked,
}

/** What holds for one property on one transport of the matrix. */
export function verdictOn(id: string, { transport }: Pick<Transport, 'transport'>): Verdict {
  const row = PROPERTIES[id]
  if (row === undefined) throw new Error(`the table has no row for ${id}`)
  if (SUBSET_ONLY.includes(transport) && !SUBSET.includes(id)) return { not: 'only the named subset is run here' }
  return row.on?.[transport] ?? row.verdict
}

/** id → why it is not run on a transport, for the checker. */
export function skipsOn(ids: readonly string[], transport: Pick<Transport, 'transport'>): Record<string, string> {
  const skips: Record<string, string> = {}
  for (const id of ids) {
    const verdict = verdictOn(id, transport)
    if (typeof verdict === 'object' && 'not' in verdict) skips[id] = verdict.not
  }
  return skips
}
