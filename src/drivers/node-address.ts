/** IP addresses as the runtime spells them, and as we do. */

import type { IpAddress } from '../address.js'

/** On a dual-stack socket IPv4 peers come in IPv6 clothes; limits and policies want to know them by their own name. */
export function addressFrom(text: string, port: number): IpAddress {
  const [literal, scope] = text.split('%') as [string, string | undefined]
  const address = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(literal)?.[1] ?? literal
  return { family: address.includes(':') ? 'ipv6' : 'ipv4', address, port, ...(scope !== undefined && { scope }) }
}

/** The text that reaches an address; over a socket of IPv6 alone, one of IPv4 in IPv6 clothes. */
export function hostFor(to: IpAddress, overIpv6: boolean = to.family === 'ipv6'): string {
  if (to.family === 'ipv4') return overIpv6 ? `::ffff:${to.address}` : to.address
  return to.scope === undefined ? to.address : `${to.address}%${to.scope}`
}
