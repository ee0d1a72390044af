import { networkInterfaces } from 'node:os'

/** Whether this machine has IPv6 at all. */
export const hasIpv6: boolean = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === '::1'))
