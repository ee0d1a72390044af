import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { CODEC_PROPERTIES, DATAGRAM_PROPERTIES, NETWORK_PROPERTIES, STREAM_PROPERTIES } from 'fairlead/testing'
import { DATAGRAMS, TRANSPORTS } from './matrix.js'
import { kernelMissing } from './support/kernel.js'
import { PROPERTIES, SUBSET, SUBSET_ONLY, verdictOn } from './properties.js'

const CHECKED = [...STREAM_PROPERTIES, ...NETWORK_PROPERTIES, ...CODEC_PROPERTIES, ...DATAGRAM_PROPERTIES].map(({ id }) => id)

test('the table has every id of the contract and no other', () => {
  const count = (letter: string, most: number) => Array.from({ length: most }, (_, i) => `${letter}${i + 1}`)
  assert.deepEqual(Object.keys(PROPERTIES), [
    ...count('T', 39),
    ...count('G', 12),
    ...count('N', 40),
    ...count('S', 18),
    ...count('F', 9),
    ...count('X', 10),
    ...count('D', 17),
    ...count('R', 8),
    ...count('V', 8),
    ...count('O', 7),
  ])
})

test('what the table sends to the checker is in the checker, and the other way round', () => {
  const claimed = Object.keys(PROPERTIES).filter((id) => PROPERTIES[id]?.at.includes('checker'))
  assert.deepEqual([...new Set([...CHECKED, 'T31'])].sort(), claimed.sort())
})

test('every other place named in the table names the id', () => {
  for (const [id, { at, verdict }] of Object.entries(PROPERTIES)) {
    assert.equal(at.length === 0, typeof verdict === 'object' && 'not' in verdict, `${id} is tested nowhere`)
    for (const file of at) {
      if (file === 'checker') continue
      const path = new URL(file.replace(/\.ts$/, '.js'), import.meta.url)
      assert.ok(existsSync(path), `${file}, named for ${id}, does not exist`)
      assert.match(readFileSync(path, 'utf8'), new RegExp(`\\b${id}\\b`), `${file} does not name ${id}`)
    }
  }
})

test('every exception has a reason and a transport that exists', () => {
  const transports = [...TRANSPORTS, ...DATAGRAMS()].map(({ transport }) => transport)
  for (const name of SUBSET_ONLY) assert.ok(transports.includes(name), name)
  for (const id of SUBSET) assert.ok(id in PROPERTIES, id)
  for (const [id, { on = {}, verdict }] of Object.entries(PROPERTIES)) {
    for (const name of Object.keys(on)) assert.ok(transports.includes(name), `${id}: ${name}`)
    for (const one of [verdict, ...Object.values(on)]) {
      if (one !== 'applies') assert.match(String(Object.values(one)[0]), /\w{2,} \w+/, `${id} needs a reason`)
    }
  }
})

test('the kernel driver is left out where it cannot be, with the reason, and nowhere else', () => {
  const can = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch) && process.versions['bun'] === undefined
  if (can) assert.equal(kernelMissing, undefined)
  else assert.match(kernelMissing ?? '', /the kernel driver cannot be used here: \w+/)
  for (const { driver, missing } of [...TRANSPORTS, ...DATAGRAMS()]) {
    if (driver === 'kernel' && kernelMissing !== undefined) assert.equal(missing, kernelMissing)
    if (driver !== 'kernel' && missing !== undefined) assert.match(missing, /IPv6/)
  }
})

test('the skip list is exactly this', () => {
  const skipped: Record<string, string[]> = {}
  for (const transport of [...TRANSPORTS, ...DATAGRAMS()]) {
    if (SUBSET_ONLY.includes(transport.transport)) continue
    const ids = Object.keys(PROPERTIES).filter((id) => PROPERTIES[id]?.at.includes('checker'))
    skipped[transport.transport] = ids.filter(
      (id) => typeof verdictOn(id, transport) === 'object' && 'not' in (verdictOn(id, transport) as object),
    )
  }
  assert.deepEqual(skipped, {
    unbounded: ['T23', 'T24', 'T25', 'T26', 'T27', 'T28', 'T29', 'T30', 'T38', 'T39', 'G8', 'G9', 'N28'],
    limited: [],
    lockstep: [],
    choppy: [],
    tcp4: [],
    unix: ['N10', 'X3'],
    'tls1.3': [],
    'memory udp4': [],
    'memory udp6': [],
    'memory unixgram': ['N26', 'D11'],
    'kernel tcp4': [],
    'kernel unix': ['N10', 'X3'],
    'kernel tls1.3': [],
    udp4: [],
    udp6: [],
    'kernel udp4': [],
    'kernel udp6': [],
    'kernel unixgram': ['N26', 'D11'],
    'kernel unixgram path': ['N26', 'D11'],
  })
})
