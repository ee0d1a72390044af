/** What a declaration file exports, by name: of the files that make up a door, which only declare and re-export. */

import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

export interface Exported {
  readonly name: string
  /** Whether it exists for the compiler only. */
  readonly type: boolean
}

export function exportsOf(path: string): Exported[] {
  const text = readFileSync(path, 'utf8').replace(/\/\*[\s\S]*?\*\//g, '')
  const found = new Map<string, boolean>()
  for (const [, typed, list = ''] of text.matchAll(/^export\s+(type\s+)?\{([^}]*)\}/gm)) {
    for (const item of list.split(',').map((word) => word.trim())) {
      if (item !== '') found.set(item.split(/\s+/).at(-1) as string, typed !== undefined || item.startsWith('type '))
    }
  }
  for (const [, name = ''] of text.matchAll(/^export (?:declare )?(?:type|interface) (\w+)/gm)) found.set(name, true)
  for (const [, name = ''] of text.matchAll(/^export declare (?:abstract )?(?:class|function|const|let|enum) (\w+)/gm))
    found.set(name, false)
  for (const [, typed, from = ''] of text.matchAll(/^export (type )?\* from '([^']+)'/gm)) {
    for (const { name, type } of exportsOf(join(dirname(path), from.replace(/\.js$/, '.d.ts'))))
      found.set(name, type || typed !== undefined)
  }
  return [...found].map(([name, type]) => ({ name, type })).sort((a, b) => (a.name < b.name ? -1 : 1))
}
