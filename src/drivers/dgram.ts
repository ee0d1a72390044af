/** Datagrams of the node driver, on `node:dgram`. */

import type { Address } from '../address.js'
import type { BindSettings, DatagramHandle } from '../driver.js'

export async function bind(at: Address, settings: BindSettings): Promise<DatagramHandle> {
  throw Object.assign(new Error(`not yet ${at.family} ${settings.type}`), { code: 'UNSUPPORTED' })
}
