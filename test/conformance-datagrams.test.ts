import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { checkDatagrams, DATAGRAM_PROPERTIES, settle } from 'fairlead/testing'
import { DATAGRAMS, removePaths } from './matrix.js'
import { skipsOn } from './properties.js'

/** One transport alone, for those who work on it. */
const wanted = process.env['TRANSPORT']

const socketsOpen = () => process.getActiveResourcesInfo().filter((name) => name.startsWith('UDP'))

for (const cell of DATAGRAMS()) {
  if (wanted !== undefined && cell.transport !== wanted) continue
  describe(cell.name, { concurrency: false, skip: cell.missing ?? false }, () => {
    let open: string[]
    before(() => (open = socketsOpen()))
    const ids = DATAGRAM_PROPERTIES.map(({ id }) => id)
    checkDatagrams(cell, { test, skip: skipsOn(ids, cell) })
    test(`S13 nothing is left open [${cell.name}]`, async () => {
      await settle(10)
      assert.deepEqual(socketsOpen(), open)
      cell.close?.()
    })
  })
}

after(removePaths)
