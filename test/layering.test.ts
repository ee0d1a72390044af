import assert from 'node:assert/strict'
import { describe, test } from 'node:test'

interface Link {
  to: string
  type: boolean
  lazy: boolean
}
interface Layering {
  objection(from: string, link: Link): string | undefined
  check(all: Map<string, { name: string; text: string; lines: number; imports: Link[] }>): { problems: string[]; notes: string[] }
}
const { objection, check } = (await import(new URL('../../scripts/layering.mjs', import.meta.url).href)) as Layering

const value = (to: string): Link => ({ to, type: false, lazy: false })
const type = (to: string): Link => ({ to, type: true, lazy: false })
const file = (name: string, imports: Link[], text = '', lines = 10) => [name, { name, text, lines, imports }] as const

describe('the layering check', () => {
  for (const [from, link, allowed] of [
    ['connection', value('driver'), true],
    ['tls', type('driver'), true],
    ['tls', value('driver'), false],
    ['framing', type('driver'), false],
    ['network', value('drivers/node'), true],
    ['connection', value('drivers/node'), false],
    ['drivers/node', value('address'), true],
    ['drivers/node', value('drivers/memory'), true],
    ['drivers/node', value('connection'), false],
    ['cli/up', value('index'), true],
    ['cli/up', value('testing/index'), true],
    ['cli/up', value('errors'), false],
    ['dialects/pike', value('cli/up'), false],
    ['connect', value('cli/up'), false],
    ['connect', value('testing/clock'), false],
    ['testing/check', value('driver'), true],
    ['errors', type('stream'), false],
    ['connect', value('index'), false],
  ] as const) {
    test(`${from} ${allowed ? 'may' : 'may not'} import ${link.to}${link.type ? ' for its types' : ''}`, () => {
      assert.equal(objection(from, link) === undefined, allowed)
    })
  }

  test('a circle of run-time imports is a problem, one of types is a note', () => {
    const circle = (link: (to: string) => Link) => check(new Map([file('accept', [link('buffer')]), file('buffer', [link('accept')])]))
    assert.deepEqual(circle(value).problems, ['circular import: accept, buffer'])
    assert.deepEqual(circle(type).problems, [])
    assert.match(circle(type).notes.join('\n'), /in a circle: accept, buffer/)
  })

  test('long files, deep folders, drawers and barrels are problems', () => {
    const { problems } = check(
      new Map([
        file('accept', [], '', 801),
        file('cli/deep/up', []),
        file('utils', []),
        file('index', [], 'export const here = 1\n'),
        file('all', [], "export { a } from './accept.js'\n"),
      ]),
    )
    assert.equal(problems.length, 5, problems.join('\n'))
  })
})
