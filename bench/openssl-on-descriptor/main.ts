/**
 * Can OpenSSL work on a descriptor, called from TypeScript? `docs/tls-on-descriptor.md` has the answers; this asks.
 *   npm run build && npm run build:test && node build/bench/openssl-on-descriptor/main.js [answers | echo | idle] [runs]
 */

import { answerEnds } from './answers-ends.js'
import { answerFeatures } from './answers-features.js'
import { answerHazards } from './answers-hazards.js'
import { answerVerify } from './answers-verify.js'
import { measureEcho, measureIdle } from './echo.js'
import { crypto, text } from './foreign.js'
import { surprises } from './table.js'

const [what = 'answers', runs = '3'] = process.argv.slice(2)
if (what === 'echo') await measureEcho(Number(runs))
if (what === 'idle') await measureIdle(Number(runs))
if (what === 'answers') {
  const { bun, deno, node } = process.versions
  console.log(`${bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node ${node}`}, ${text(crypto.OpenSSL_version(0))}`)
  await answerVerify()
  await answerEnds()
  await answerFeatures()
  await answerHazards()
  console.log(`\n${surprises()} answers are not what the report says`)
  process.exitCode = surprises() === 0 ? 0 : 1
}
