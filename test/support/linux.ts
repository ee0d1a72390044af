/** What this machine lets tests do. */

import { foreign } from '#src/drivers/kernel-foreign.js'
import { LINUX } from '#src/drivers/kernel-layout.js'
import { Block } from '#src/drivers/kernel-memory.js'
import { systemOf } from '#src/drivers/kernel-system.js'

/**
 * Whether this process may do what the options `mark` and `priority` need, CAP_NET_ADMIN or CAP_NET_RAW over its network. That is
 * found by doing it, as in a container having a capability does not mean that it reaches so far.
 */
export const mayMark: boolean = (() => {
  try {
    const system = systemOf(foreign((what) => new Error(what)))
    const fd = system.socket(LINUX.AF_INET, LINUX.SOCK_STREAM, 0)
    const taken = system.setsockopt(fd, LINUX.SOL_SOCKET, LINUX.SO_MARK, new Block(system, 4).address, 4)
    system.close(fd)
    return taken === 0
  } catch {
    return false
  }
})()

export { hasIpv6 } from './ipv6.js'
