import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { checkNetworks, settle } from 'fairlead/testing'
import { NETWORKS, removePaths, socketsOpen } from './matrix.js'

/** One transport alone, for those who work on it. */
const wanted = process.env['TRANSPORT']

for (const network of await NETWORKS()) {
  if (wanted !== undefined && network.transport !== wanted) continue
  describe(network.name, { concurrency: false, skip: network.missing ?? false }, () => {
    let open: string[]
    before(() => (open = socketsOpen()))
    checkNetworks(network, { test })
    test(`S13 nothing is left open [${network.name}]`, async () => {
      await settle(10)
      assert.deepEqual(socketsOpen(), open)
      network.close?.()
    })
  })
}

after(removePaths)
