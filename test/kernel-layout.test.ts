// The numbers of `kernel-layout.ts` against the C compiler: what its headers say is what the system means. Every number is an
// assertion of C, so that nothing has to be linked or run, and a compiler for another machine can be asked, too.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { after, before, describe, test } from 'node:test'
import { HEADERS, LAYOUTS, layoutsOf, LINUX } from '#src/drivers/kernel-layout.js'

type Layouts = Readonly<Record<string, Readonly<Record<string, number | string>>>>

/** Structures that newer systems make longer; their size is that of what is used. */
const GROWING: ReadonlySet<string> = new Set(['tcp_info'])

/** What headers need and do not include themselves. */
const BEFORE = ['#define _GNU_SOURCE', '#include <stddef.h>', '#include <time.h>', '#include <sys/ioctl.h>']

/** One file of C for each header, as some of them (netinet/tcp.h and linux/tcp.h) do not go together. */
function programs(layouts: Layouts): Map<string, string> {
  const files = new Map<string, string[]>()
  const assertion = (header: string, claim: string, text: string) => {
    const lines = files.get(header) ?? [...BEFORE, `#include <${header}>`]
    files.set(header, [...lines, `_Static_assert(${claim}, "${text}");`])
  }
  for (const [header, constants] of Object.entries(HEADERS)) {
    // Constants of the interface are unsigned where they are masks; all fit 32 bits.
    for (const [name, value] of Object.entries(constants)) assertion(header, `(unsigned)(${name}) == ${value}u`, `${name} is not ${value}`)
  }
  for (const [name, { header, size, ...members }] of Object.entries(layouts)) {
    const compare = GROWING.has(name) ? '>=' : '=='
    assertion(header as string, `sizeof(struct ${name}) ${compare} ${size}`, `struct ${name} is not of ${size} bytes`)
    for (const [member, offset] of Object.entries(members)) {
      assertion(header as string, `offsetof(struct ${name}, ${member}) == ${offset}`, `${name}.${member} is not at ${offset}`)
    }
  }
  return new Map([...files].map(([header, lines]) => [header, `${lines.join('\n')}\n`]))
}

/** Why there is nothing to ask, or undefined. */
function lacking(compiler: string): string | undefined {
  const { error, status, stderr } = spawnSync(compiler, ['-fsyntax-only', '-x', 'c', '-'], {
    input: '#include <sys/socket.h>\n#include <linux/tcp.h>\n',
    encoding: 'utf8',
  })
  if (error !== undefined) return `no ${compiler} here`
  return status === 0 ? undefined : `${compiler}: ${stderr.split('\n')[0]}`
}

/** The compiler of this machine, and the one for the other that is supported, as Debian calls it. */
const CROSS = process.arch === 'x64' ? 'aarch64-linux-gnu-gcc' : 'x86_64-linux-gnu-gcc'
const COMPILERS = [
  { compiler: 'cc', machine: process.arch, elsewhere: process.platform !== 'linux' && 'not on linux' },
  { compiler: CROSS, machine: process.arch === 'x64' ? 'arm64' : 'x64', elsewhere: false },
] as const

for (const { compiler, machine, elsewhere } of COMPILERS) {
  const skip = elsewhere || lacking(compiler) || false
  describe(`constants and layouts as ${compiler} has them`, { skip }, () => {
    let folder!: string
    before(async () => {
      folder = await mkdtemp(join(tmpdir(), 'fairlead-layout-'))
    })
    after(() => rm(folder, { recursive: true, force: true }))

    for (const [header, text] of programs(layoutsOf(machine))) {
      test(`<${header}>`, async () => {
        const file = join(folder, `${basename(header, '.h')}.c`)
        await writeFile(file, text)
        const { status, stderr } = spawnSync(compiler, ['-std=c11', '-fsyntax-only', file], { encoding: 'utf8' })
        assert.equal(status, 0, stderr)
      })
    }

    test('a wrong number would be seen', async () => {
      const file = join(folder, 'wrong.c')
      const [, text = ''] = [...programs({ ...layoutsOf(machine), linger: { header: 'sys/socket.h', size: 8, l_onoff: 1 } })].find(
        ([header]) => header === 'sys/socket.h',
      ) as [string, string]
      await writeFile(file, text)
      const { status, stderr } = spawnSync(compiler, ['-std=c11', '-fsyntax-only', file], { encoding: 'utf8' })
      assert.notEqual(status, 0)
      assert.match(stderr, /linger\.l_onoff is not at 1/)
    })
  })
}

/** Where machines choose numbers of their own; arm64 has those that are meant for all, asm-generic, but for what is not used here. */
const GENERIC = ['asm-generic/socket.h', 'asm-generic/ioctls.h', 'asm-generic/fcntl.h', 'linux/sockios.h']

test(
  'what machines may number for themselves is numbered as arm64 has it',
  { skip: COMPILERS[0].elsewhere || lacking('cc') || false },
  () => {
    const claims = Object.entries(LINUX).map(
      ([name, value]) => `#ifdef ${name}\n_Static_assert((unsigned)(${name}) == ${value}u, "${name}");\n#endif`,
    )
    const input = [...GENERIC.map((header) => `#include <${header}>`), ...claims, ''].join('\n')
    const { status, stderr } = spawnSync('cc', ['-std=c11', '-fsyntax-only', '-x', 'c', '-'], { input, encoding: 'utf8' })
    assert.equal(status, 0, stderr)
    const { stdout } = spawnSync('cc', ['-E', '-x', 'c', '-'], { input, encoding: 'utf8' })
    for (const name of ['SO_REUSEPORT', 'SO_PEERCRED', 'O_NONBLOCK', 'SIOCOUTQ']) assert.ok(stdout.includes(`"${name}"`), name)
  },
)

test('x86-64 packs the events of epoll, and nothing else differs on arm64', () => {
  // sys/epoll.h: __EPOLL_PACKED is __attribute__ ((__packed__)) in bits/epoll.h of x86, and nothing elsewhere.
  const { epoll_event: packed, ...same } = layoutsOf('x64')
  const { epoll_event: aligned, ...others } = layoutsOf('arm64')
  assert.deepEqual(same, others)
  assert.deepEqual([packed.size, packed.data], [12, 4])
  assert.deepEqual([aligned.size, aligned.data], [16, 8])
  assert.deepEqual(LAYOUTS, layoutsOf(process.arch))
})

test('members lie inside of their structures, and a name has one value', () => {
  for (const [name, { header: _, size, ...members }] of Object.entries(LAYOUTS as Layouts)) {
    for (const [member, offset] of Object.entries(members)) assert.ok((offset as number) < (size as number), `${name}.${member}`)
  }
  const names = Object.values(HEADERS).flatMap((constants) => Object.keys(constants))
  assert.deepEqual(names.sort(), Object.keys(LINUX).sort())
})

test('nothing is in the tables that no part of the driver uses', async () => {
  const folder = fileURLToPath(new URL('../../src/drivers/', import.meta.url))
  const files = (await readdir(folder)).filter((name) => name.startsWith('kernel') && name !== 'kernel-layout.ts')
  const text = (await Promise.all(files.map((name) => readFile(join(folder, name), 'utf8')))).join('\n')
  const words = new Set(text.match(/\w+/g))
  const members = Object.values(LAYOUTS).flatMap(({ header: _, size: __, ...rest }) => Object.keys(rest))
  const unused = [...Object.keys(LINUX), ...Object.keys(LAYOUTS), ...members].filter((name) => !words.has(name))
  assert.deepEqual(unused, [])
})
