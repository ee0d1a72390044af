/** Fenced blocks of Markdown files and of doc comments, each with the place it came from. */

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Fence {
  /** Relative to the root. */
  readonly file: string
  /** Of the opening fence, from 1. */
  readonly line: number
  readonly language: string
  /** What follows the language: `run`, `no-run` or nothing. */
  readonly mode: string
  readonly text: string
}

const OPENING = /^(\s*)(`{3,})(.*)$/

/** The fences of one text; `prefix` is what every line of a comment starts with. */
export function fencesOf(file: string, source: string, prefix: RegExp = /^/): Fence[] {
  const found: Fence[] = []
  const lines = source.split('\n').map((line) => line.replace(prefix, ''))
  for (let i = 0; i < lines.length; i++) {
    const [, indent = '', ticks, info = ''] = OPENING.exec(lines[i] as string) ?? []
    if (ticks === undefined) continue
    const start = i
    const text: string[] = []
    for (i++; i < lines.length && (lines[i] as string).trim() !== ticks; i++) text.push((lines[i] as string).slice(indent.length))
    if (i === lines.length) throw new Error(`${file}:${start + 1}: this fence is never closed`)
    const [language = '', mode = ''] = info.trim().split(/\s+/)
    found.push({ file, line: start + 1, language, mode, text: `${text.join('\n')}\n` })
  }
  return found
}

function filesIn(root: string, folder: string, ending: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith(ending))
    .map((file) => join(folder, file))
    .sort()
}

/** All Markdown files of the project, relative to its root. */
export function documents(root: string): string[] {
  const top = readdirSync(root).filter((file) => file.endsWith('.md'))
  return [...top.sort(), ...filesIn(root, 'docs', '.md')]
}

export function documentFences(root: string): Fence[] {
  return documents(root).flatMap((file) => fencesOf(file, readFileSync(join(root, file), 'utf8')))
}

/** The examples inside the doc comments of the sources. */
export function commentFences(root: string): Fence[] {
  return filesIn(root, 'src', '.ts').flatMap((file) => {
    const source = readFileSync(join(root, file), 'utf8')
    // Only what stands in a doc comment counts: everything else becomes an empty line, so that line numbers stay.
    const comments = source.replace(/\/\*\*[\s\S]*?\*\/|[^\n]+/g, (part) => (part.startsWith('/**') ? part : ''))
    return fencesOf(file, comments, /^\s*\*? ?/)
  })
}
