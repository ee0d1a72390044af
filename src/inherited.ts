/** Sockets that a service manager opened for this process: the protocol of `sd_listen_fds(3)`, which systemd and others speak. */

import { fstatSync } from 'node:fs'
import { flag } from './arguments.js'
import { refuseUnknown, show, SystemFailure, systemCode } from './errors.js'

export interface InheritedDescriptor {
  /** The number of the descriptor, from 3. */
  readonly fd: number
  /** As configured (`FileDescriptorName=`); `unknown` where the manager names none. */
  readonly name: string
}

export interface InheritedOptions {
  /** Remove the variables from the environment, so that no child takes them for its own. Default false. */
  unset?: boolean | undefined
}

/** SD_LISTEN_FDS_START */
const FIRST = 3
const MOST = 65_536
const VARIABLES = ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']

/**
 * The descriptors that were handed to this process, in their order; none without `LISTEN_PID` and `LISTEN_FDS`, or where
 * `LISTEN_PID` is another process: a parent, whose environment was inherited. `listen`, `serve` and `bind` take what it gives.
 *
 * ```ts
 * import { inheritedDescriptors, serve } from 'fairlead'
 *
 * const given = inheritedDescriptors({ unset: true })
 * await using server = await serve(given.length > 0 ? given : 'tcp://127.0.0.1:0', {}, (client) => client.write('hello\n'))
 * console.log(given.length) // 0 where no service manager has started it
 * ```
 *
 * @throws `SystemFailure` `EINVAL` for variables that cannot be meant, `EBADF` for a descriptor that is not open; nothing is
 *   unset then
 */
export function inheritedDescriptors(o: InheritedOptions = {}): InheritedDescriptor[] {
  refuseUnknown(o, ['unset'], 'inheritedDescriptors')
  const unset = o.unset !== undefined && flag('unset', o.unset)
  const found = described(process.env)
  if (unset) for (const name of VARIABLES) delete process.env[name]
  return found
}

function described({ LISTEN_PID: pid, LISTEN_FDS: fds, LISTEN_FDNAMES: text }: NodeJS.ProcessEnv): InheritedDescriptor[] {
  if (pid === undefined || fds === undefined) return []
  if (whole('LISTEN_PID', pid, 1, 2 ** 31 - 1) !== process.pid) return []
  const count = whole('LISTEN_FDS', fds, 0, MOST)
  const names = text === undefined ? undefined : text.split(':')
  if (names !== undefined && names.length !== count && !(count === 0 && text === ''))
    throw bad('LISTEN_FDNAMES', text, `${count} names with colons between them, as LISTEN_FDS says`)
  return Array.from({ length: count }, (_, i) => {
    mustBeOpen(FIRST + i)
    return { fd: FIRST + i, name: names?.[i] ?? 'unknown' }
  })
}

function mustBeOpen(fd: number): void {
  try {
    fstatSync(fd)
  } catch (cause) {
    if (systemCode(cause) !== 'EBADF') throw cause
    throw new SystemFailure('EBADF', `descriptor ${fd} is not open, and LISTEN_FDS says it was handed over`, {
      op: 'inheritedDescriptors',
      cause,
    })
  }
}

function whole(name: string, text: string, least: number, most: number): number {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= least && value <= most)) throw bad(name, text, `a whole number, ${least} to ${most}`)
  return value
}

function bad(name: string, text: string | undefined, expected: string): SystemFailure {
  return new SystemFailure('EINVAL', `the environment variable ${name} must be ${expected}, got ${show(text)}`, {
    op: 'inheritedDescriptors',
  })
}
