import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { checkStreams, settle, STREAM_PROPERTIES } from 'fairlead/testing'
import { removePaths, socketsOpen, TRANSPORTS } from './matrix.js'
import { skipsOn, SUBSET, SUBSET_ONLY } from './properties.js'

/** One transport alone, for those who work on it. */
const wanted = process.env['TRANSPORT']

for (const transport of TRANSPORTS) {
  if (wanted !== undefined && transport.transport !== wanted) continue
  describe(transport.name, { concurrency: false, skip: transport.missing ?? false }, () => {
    let open: string[]
    before(() => (open = socketsOpen()))
    const only = SUBSET_ONLY.includes(transport.transport) ? SUBSET : undefined
    const skip = skipsOn([...new Set(STREAM_PROPERTIES.map(({ id }) => id))], transport)
    checkStreams(transport, { test, only, skip })
    test(`S13 nothing is left open [${transport.name}]`, async () => {
      await transport.close()
      await settle(5)
      assert.deepEqual(socketsOpen(), open)
    })
  })
}

after(removePaths)
