import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { VirtualClock } from '#src/testing/clock.js'
import { type Address, formatAddress, type IpEndpoint, ipAddress, parseEndpoint } from '#src/address.js'
import { dialEndpoint, type Dialled } from '#src/connect.js'
import type { StreamHandle } from '#src/driver.js'
import { AddressError, Denied, type SocketError } from '#src/errors.js'
import { allOf, enforce, type Policy, type PolicyFunction, policyFrom, type PolicyRequest, publicOnly, toPolicy } from '#src/policy.js'
import { Cidr } from '#src/ranges.js'
import { cachingResolver, type ResolvedAddress, resolveEndpoint, type Resolver, systemResolver } from '#src/resolve.js'

/** Answers look-ups from a list, in turn; counts them. */
class Answers implements Resolver {
  readonly asked: string[] = []
  readonly #answers: readonly (readonly string[])[]

  constructor(...answers: readonly (readonly string[])[]) {
    this.#answers = answers
  }

  async lookup(name: string): Promise<readonly ResolvedAddress[]> {
    this.asked.push(name)
    const answer = this.#answers[(this.asked.length - 1) % this.#answers.length] ?? []
    return answer.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }))
  }
}

/** Connects to whatever it is told, and remembers it. */
class Gullible {
  readonly dialled: string[] = []
  readonly destroyed: string[] = []
  /** Where the system really connects to. */
  divert: ((to: Address) => Address) | undefined

  dial(to: Address, _settings: unknown, done: (error: unknown, handle?: StreamHandle) => void): () => void {
    const text = formatAddress(to)
    this.dialled.push(text)
    const handle = { local: undefined, remote: this.divert?.(to) ?? to, destroy: () => this.destroyed.push(text) }
    queueMicrotask(() => done(undefined, handle as unknown as StreamHandle))
    return () => {}
  }
}

const settings = { noDelay: true, keepAlive: false } as const

function dial(to: string, driver: Gullible, resolver: Resolver, policy: PolicyFunction | undefined): Promise<Dialled> {
  return dialEndpoint({ endpoint: parseEndpoint(to), driver, resolver, policy, clock: new VirtualClock(), settings })
}

async function refusal(promise: Promise<unknown>): Promise<SocketError> {
  try {
    await promise
  } catch (error) {
    return error as SocketError
  }
  throw new assert.AssertionError({ message: 'it was not refused' })
}

const ask = (policy: PolicyFunction, to: string, address?: string | Address, direction: PolicyRequest['direction'] = 'connect') => {
  const endpoint = parseEndpoint(to)
  const { host, port } = endpoint as IpEndpoint
  return policy({
    direction,
    endpoint,
    ...(host !== undefined && /[a-z]/.test(host) && !host.includes(':') && { name: host }),
    ...(address !== undefined && { address: typeof address === 'string' ? ipAddress(address, port) : address }),
  })
}

/** Spellings of hosts that lead into a private network, as a host in an endpoint and as the answer of a name server. */
const HOSTILE: readonly string[] = String.raw`
  127.0.0.1 127.1.2.3 0.0.0.0 0.1.2.3 10.0.0.1 172.16.0.1 172.31.255.255 192.168.0.1 100.64.0.1 169.254.169.254 192.0.0.1
  192.0.2.1 198.18.0.1 198.51.100.7 203.0.113.7 192.88.99.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 [::1] [::]
  [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::FFFF:10.0.0.1] [0:0:0:0:0:ffff:a9fe:a9fe] [::ffff:0.0.0.0]
  [::127.0.0.1] [::7f00:1] [::10.0.0.1] [::ffff:0:127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b::7f00:1] [64:ff9b::a00:1]
  [64:ff9b::8.8.8.8] [64:ff9b:1::7f00:1] [2002:7f00:1::] [2002:a00:1::1] [2002:808:808::1] [2001::f5ff:fffe]
  [2001:0:7f00:1::] [fe80::1] [fe80::1%lo] [fe80::1%25lo] [febf::1] [fec0::1] [fc00::1] [fd12:3456::1] [ff02::1] [ff05::2]
  [100::1] [2001:db8::1] [3fff::1] [5f00::1] [2001:10::1] [4000::1] [2606:4700::5efe:7f00:1]
  [2606:4700::200:5efe:10.0.0.1] [2001:2::1]
`
  .trim()
  .split(/\s+/)

/** Spellings that `getaddrinfo(3)` or a URL parser understands and that are no endpoints here. */
const OLD: readonly string[] = String.raw`
  2130706433 0x7f.1 0x7f000001 0177.0.0.1 017700000001 127.1 127.0.1 0 0x0 127.0.0.1. ①②⑦.0.0.1 １２７.0.0.1 127。0。0。1
  127.0.0.1%00 [::1%] [::ffff:0x7f.1] [::ffff:127.1] [127.0.0.1] a@127.0.0.1 127.0.0.1#.example 127.0.0.1/.example
  127.0.0.1\.example
`
  .trim()
  .split(/\s+/)

describe('publicOnly', () => {
  test(`lets none of ${HOSTILE.length} hostile addresses through, as literals or as answers of a name server (M12, attack 12)`, async () => {
    assert.ok(HOSTILE.length >= 60)
    const driver = new Gullible()
    for (const host of HOSTILE) {
      const literal = await refusal(dial(`tcp://${host}:80`, driver, new Answers(), publicOnly()))
      assert.ok(literal instanceof Denied && literal.code === 'POLICY', host)
      assert.equal(literal.phase, 'policy')
      assert.match(literal.message, / is [a-z0-9-]+, not public/)

      const resolver = new Answers([host.replace(/[[\]]/g, '').replace('%25', '%')])
      const named = await refusal(dial('tcp://innocent.example:80', driver, resolver, publicOnly()))
      assert.ok(named instanceof Denied, host)
      assert.equal(named.attempts?.length, 1)
      assert.equal(resolver.asked.length, 1)
    }
    assert.deepEqual(driver.dialled, [])
  })

  test(`lets none of ${OLD.length} old spellings through: they are no endpoints and never reach a resolver (M12)`, async () => {
    const driver = new Gullible()
    const resolver = new Answers(['127.0.0.1'])
    for (const host of OLD) {
      const attempt = async () => await dial(`tcp://${host}:80`, driver, resolver, publicOnly())
      assert.ok((await refusal(attempt())) instanceof AddressError, host)
    }
    assert.deepEqual([driver.dialled, resolver.asked], [[], []])
  })

  test('lets public addresses through, and v4-mapped ones as what they are', async () => {
    for (const host of ['8.8.8.8', '[2606:4700::1111]', '[::ffff:8.8.8.8]']) {
      const driver = new Gullible()
      await dial(`tcp://${host}:80`, driver, new Answers(), publicOnly())
      assert.equal(driver.dialled.length, 1)
    }
  })

  test('refuses UNIX sockets', async () => {
    for (const to of ['unix:/run/docker.sock', 'unix:@x', 'tls+unix:/x'])
      assert.match(String(await refusal(dial(to, new Gullible(), new Answers(), publicOnly()))), /UNIX socket/)
  })

  test('makes the exceptions it is told, and NAT64 with a public address inside when asked', () => {
    const policy = publicOnly({ except: ['10.1.2.0/24', Cidr.parse('fd00::/8')] })
    assert.equal(ask(policy, 'tcp://10.1.2.3:80', '10.1.2.3'), true)
    assert.equal(ask(policy, 'tcp://10.1.2.3:80', '::ffff:10.1.2.3'), true)
    assert.equal(ask(policy, 'tcp://h:80', 'fd00::1'), true)
    assert.notEqual(ask(policy, 'tcp://h:80', '10.1.3.1'), true)
    assert.notEqual(ask(policy, 'tcp://h:80', '64:ff9b::8.8.8.8'), true)
    assert.equal(ask(publicOnly({ nat64: true }), 'tcp://h:80', '64:ff9b::8.8.8.8'), true)
    assert.notEqual(ask(publicOnly({ nat64: true }), 'tcp://h:80', '64:ff9b::10.0.0.1'), true)
  })

  test('is for dialling, unless told otherwise', () => {
    assert.equal(ask(publicOnly(), 'tcp://127.0.0.1:80', '127.0.0.1', 'listen'), true)
    assert.notEqual(ask(publicOnly({ directions: ['accept'] }), 'tcp://*:80', '127.0.0.1', 'accept'), true)
    assert.throws(() => publicOnly({ directions: ['both' as 'accept'] }), { code: 'ERR_OUT_OF_RANGE' })
    assert.throws(() => publicOnly({ excepted: [] } as object), { code: 'UNKNOWN_OPTION' })
  })
})

describe('rebinding', () => {
  test('a name that resolves differently the second time gains nothing: 1,000 connects, 0 private (attack 12)', async () => {
    const driver = new Gullible()
    const resolver = new Answers(['93.184.216.34'], ['127.0.0.1'])
    let refused = 0
    for (let i = 0; i < 1000; i++) {
      const outcome = await dial('tcp://rebind.example:80', driver, resolver, publicOnly()).catch((error: unknown) => error)
      if (outcome instanceof Denied) refused++
    }
    assert.equal(resolver.asked.length, 1000, 'one look-up for each connect')
    assert.equal(refused, 500)
    assert.deepEqual(new Set(driver.dialled), new Set(['93.184.216.34:80']))
  })

  test('the policy is asked again also when the answer is remembered', async () => {
    const driver = new Gullible()
    const answers = new Answers(['93.184.216.34', '10.0.0.1'])
    const resolver = cachingResolver(answers, new VirtualClock())
    for (let i = 0; i < 3; i++) await dial('tcp://h.example:80', driver, resolver, publicOnly())
    assert.equal(answers.asked.length, 1)
    const closed: PolicyFunction = ({ address }) => address === undefined
    assert.ok((await refusal(dial('tcp://h.example:80', driver, resolver, closed))) instanceof Denied)
    assert.deepEqual(new Set(driver.dialled), new Set(['93.184.216.34:80']))
  })

  test('of several addresses only the allowed ones are dialled, and the refused ones are listed', async () => {
    const driver = new Gullible()
    const { attempts, address } = await dial('tcp://h.example:80', driver, new Answers(['127.0.0.1', '93.184.216.34', '::1']), publicOnly())
    assert.equal(formatAddress(address), '93.184.216.34:80')
    assert.deepEqual(driver.dialled, ['93.184.216.34:80'])
    assert.deepEqual(
      attempts.map(({ address: at, phase, code }) => [at, phase, code]),
      [
        ['127.0.0.1:80', 'policy', 'POLICY'],
        ['[::1]:80', 'policy', 'POLICY'],
      ],
    )
  })

  test('a connection that ended somewhere else is closed and refused', async () => {
    const driver = new Gullible()
    driver.divert = (to) => ipAddress('127.0.0.1', (to as { port: number }).port)
    const error = await refusal(dial('tcp://93.184.216.34:80', driver, new Answers(), publicOnly()))
    assert.ok(error instanceof Denied)
    assert.match(error.message, /connected to 127\.0\.0\.1:80 and not to 93\.184\.216\.34:80/)
    assert.deepEqual(driver.destroyed, ['93.184.216.34:80'])
  })

  test('the unspecified address is judged by where it leads', async () => {
    const driver = new Gullible()
    driver.divert = () => ipAddress('127.0.0.1', 80)
    assert.ok((await dial('tcp://0.0.0.0:80', driver, new Answers(), undefined)).handle)
    const policy = policyFrom({ deny: ['127.0.0.0/8'] })
    assert.match(String(await refusal(dial('tcp://0.0.0.0:80', driver, new Answers(), policy))), /127\.0\.0\.0\/8 is denied/)
  })
})

describe('policy rules', () => {
  test('a refusal names the verb, the endpoint, the address and the rule', () => {
    const endpoint = parseEndpoint('tcp://db.internal:5432')
    const request: PolicyRequest = { direction: 'connect', endpoint, address: ipAddress('10.0.0.7', 5432), name: 'db.internal' }
    assert.throws(
      () => enforce(policyFrom({ deny: ['10.0.0.0/8'] }), request, { op: 'connect' }),
      (error) => {
        assert.ok(error instanceof Denied)
        assert.equal(error.message, 'the policy refused to connect to tcp://db.internal:5432 at 10.0.0.7:5432: 10.0.0.0/8 is denied')
        assert.deepEqual(
          [error.code, error.op, error.endpoint, error.remote, error.phase],
          ['POLICY', 'connect', 'tcp://db.internal:5432', '10.0.0.7:5432', 'policy'],
        )
        return true
      },
    )
  })

  test('what a denied range carries is denied in every IPv6 spelling', () => {
    const policy = policyFrom({ deny: ['10.0.0.0/8'] })
    for (const address of [
      '10.1.2.3',
      '::ffff:10.1.2.3',
      '::10.1.2.3',
      '64:ff9b::10.1.2.3',
      '2002:a01:203::1',
      '2606::5efe:10.1.2.3',
      '2001::f5fe:fdfc',
    ]) {
      assert.notEqual(ask(policy, 'tcp://h:80', address), true, address)
    }
    assert.equal(ask(policy, 'tcp://h:80', '11.1.2.3'), true)
  })

  test('an allowed range allows itself, v4-mapped too, and nothing that merely carries it', () => {
    const policy = policyFrom({ allow: ['10.0.0.0/8', '::/0'], deny: ['10.6.6.6'] })
    assert.equal(ask(policy, 'tcp://h:80', '10.1.2.3'), true)
    assert.equal(ask(policy, 'tcp://h:80', '::ffff:10.1.2.3'), true)
    assert.equal(ask(policy, 'tcp://h:80', '2606::1'), true)
    assert.equal(ask(policy, 'tcp://h:80', '::ffff:11.1.2.3'), 'nothing allows it')
    assert.equal(ask(policy, 'tcp://h:80', '10.6.6.6'), '10.6.6.6/32 is denied')
    assert.equal(ask(policyFrom({ allow: ['10.0.0.0/8'] }), 'tcp://h:80', '64:ff9b::10.1.2.3'), 'nothing allows it')
    assert.equal(ask(policy, 'unix:/x'), 'nothing allows it')
  })

  test('names are matched without regard to case, a final dot or the script', () => {
    const policy = policyFrom({ allow: ['Example.COM', '*.example.org.', 'münchen.example'] })
    for (const host of ['example.com', 'EXAMPLE.com.', 'a.example.org', 'a.b.example.org', 'xn--mnchen-3ya.example']) {
      assert.equal(ask(policy, `tcp://${host}:80`, '1.1.1.1'), true, host)
    }
    for (const host of ['a.example.com', 'example.org', 'badexample.org', 'example.com.evil'])
      assert.equal(ask(policy, `tcp://${host}:80`, '1.1.1.1'), 'nothing allows it', host)
  })

  test('a name that no pattern can allow is refused before it is looked up', async () => {
    const resolver = new Answers(['93.184.216.34'])
    const rules: readonly Policy[] = [
      { allow: ['good.example'] },
      { deny: ['*.example'] },
      { ports: [443] },
      { allow: ['10.0.0.0/8'], deny: ['h.example'] },
    ]
    for (const rule of rules)
      assert.ok((await refusal(dial('tcp://h.example:80', new Gullible(), resolver, toPolicy(rule)))) instanceof Denied)
    assert.deepEqual(resolver.asked, [])
    await refusal(dial('tcp://h.example:80', new Gullible(), resolver, policyFrom({ allow: ['10.0.0.0/8'] })))
    assert.deepEqual(resolver.asked, ['h.example'], 'a range can be judged only after the look-up')
  })

  test('ports are numbers and ranges; UNIX sockets have none', () => {
    const policy = policyFrom({ ports: [443, '8000-8002'] })
    for (const port of [443, 8000, 8002]) assert.equal(ask(policy, `tcp://h:${port}`, '1.1.1.1'), true)
    for (const port of [80, 7999, 8003]) assert.equal(ask(policy, `tcp://h:${port}`, '1.1.1.1'), `port ${port} is not allowed`)
    assert.notEqual(ask(policy, 'unix:/x'), true)
    assert.equal(ask(policyFrom({ ports: [443], allow: ['unix:/x'] }), 'unix:/x'), true)
    for (const bad of ['http', '1-', '2-1', 65536, -1, 1.5]) assert.throws(() => policyFrom({ ports: [bad] }), { code: 'ERR_OUT_OF_RANGE' })
  })

  test('UNIX sockets are matched by path, and no pattern is left through ".."', () => {
    const policy = policyFrom({ allow: ['unix:/run/app/*', 'unix:@me'] })
    for (const to of ['unix:/run/app/a.sock', 'tls+unix:/run//app/./b/c', 'unix:@me']) assert.equal(ask(policy, to), true, to)
    for (const to of ['unix:/run/apps', 'unix:/run/app/../x', 'unix:@me2', 'unix:me', 'unix:@/run/app/x', 'tcp://127.0.0.1:1'])
      assert.equal(ask(policy, to), 'nothing allows it', to)
    const closed = policyFrom({ deny: ['unix:/run/docker.sock', 'unix:relative/*'] })
    for (const to of ['unix:/run/docker.sock', 'unix:/run/./docker.sock', 'unix://run//docker.sock', 'unix:/x/../run/docker.sock']) {
      assert.equal(ask(closed, to), 'unix:/run/docker.sock is denied', to)
    }
    assert.equal(ask(closed, `unix:${process.cwd()}/relative/x`), 'unix:relative/* is denied')
    assert.equal(ask(closed, 'unix:@/run/docker.sock'), true)
    assert.equal(ask(policyFrom({ allow: ['unix:/*'] }), 'unix:/x'), true)
  })

  test('rules are for dialling unless they name directions; all interfaces are "::" to them', () => {
    const policy = policyFrom({ allow: ['10.0.0.0/8'], directions: ['accept', 'listen'] })
    assert.equal(ask(policy, 'tcp://127.0.0.1:80', '127.0.0.1'), true)
    assert.equal(ask(policy, 'tcp://*:80', '10.0.0.1', 'accept'), true)
    assert.equal(ask(policy, 'tcp://*:80', '11.0.0.1', 'accept'), 'nothing allows it')
    assert.equal(ask(policy, 'tcp://*:80', undefined, 'listen'), 'nothing allows it')
    assert.equal(ask(policyFrom({ allow: ['::'], directions: ['listen'] }), 'tcp://*:80', undefined, 'listen'), true)
  })

  test('mistakes in rules are told at once', () => {
    for (const bad of ['', '*', '*.', 'a b', '10.0.0.0/99', '127.1', 'http://x'])
      assert.throws(() => policyFrom({ allow: [bad] }), AddressError, bad)
    assert.throws(() => policyFrom({ deny: [5 as unknown as string] }), { code: 'ERR_INVALID_ARG_TYPE' })
    assert.throws(() => policyFrom({ alow: [] } as object), /did you mean "allow"/)
    assert.throws(() => toPolicy('public' as unknown as Policy), { code: 'ERR_INVALID_ARG_TYPE' })
  })

  test('a policy that throws, or answers with anything but a verdict, refuses', () => {
    const request: PolicyRequest = { direction: 'connect', endpoint: parseEndpoint('tcp://h:80') }
    const broken: readonly (() => unknown)[] = [
      () => undefined,
      () => 1,
      () => Promise.resolve(true),
      () => ({ allow: true }),
      () => assert.fail('oops'),
    ]
    for (const policy of broken) {
      assert.throws(
        () => enforce(policy as PolicyFunction, request),
        (error) => error instanceof Denied && error.cause instanceof Error,
      )
    }
    assert.throws(() => enforce(() => false, request), /refused to connect to tcp:\/\/h:80$/)
    assert.throws(() => enforce(() => '', request), Denied)
    enforce(undefined, request)
  })

  test('several policies allow what all of them allow', () => {
    const policy = allOf(publicOnly(), { ports: [443] })
    assert.equal(ask(policy, 'tcp://h:443', '8.8.8.8'), true)
    assert.match(String(ask(policy, 'tcp://h:443', '10.0.0.1')), /private/)
    assert.match(String(ask(policy, 'tcp://h:80', '8.8.8.8')), /port 80/)
  })
})

describe('names', () => {
  const endpoint = parseEndpoint('tcp://h.example:80') as IpEndpoint & { host: string }
  const facts = { op: 'connect', endpoint: 'tcp://h.example:80' }
  const failing = (thrown: unknown): Resolver => ({ lookup: async () => await Promise.reject(thrown) })

  test('the system resolver knows this host, and answers with literals', async () => {
    for (const { address, family } of await systemResolver.lookup('localhost', {})) assert.equal(address.includes(':') ? 6 : 4, family)
    for (const { family } of await systemResolver.lookup('localhost', { family: 4 })) assert.equal(family, 4)
    await assert.rejects(systemResolver.lookup('localhost', { signal: AbortSignal.abort() }), { name: 'AbortError' })
  })

  test('answers keep their order, are canonical, and each stands once', async () => {
    const found = await resolveEndpoint(
      endpoint,
      new Answers(['::FFFF:1.2.3.4', '1.2.3.4', '2606:0::1', '2606::1', 'fe80::1%eth0']),
      {},
      facts,
    )
    assert.deepEqual(found.map(formatAddress), ['[::ffff:1.2.3.4]:80', '[2606::1]:80', '[fe80::1%eth0]:80'])
    const v4 = await resolveEndpoint(endpoint, new Answers(['2606::1', '1.2.3.4']), { family: 4 }, facts)
    assert.deepEqual(v4.map(formatAddress), ['1.2.3.4:80'])
  })

  const CODES: readonly (readonly [unknown, string])[] = [
    [Object.assign(new Error('x'), { code: 'ENOTFOUND' }), 'ENOTFOUND'],
    [Object.assign(new Error('x'), { code: 'EAI_AGAIN' }), 'EAI_AGAIN'],
    [Object.assign(new Error('x'), { code: 'ENODATA' }), 'ENODATA'],
    [Object.assign(new Error('x'), { code: 'EAI_FAIL' }), 'RESOLVE_FAILED'],
    [Object.assign(new Error('x'), { code: 'constructor' }), 'RESOLVE_FAILED'],
    ['a text', 'RESOLVE_FAILED'],
    [undefined, 'RESOLVE_FAILED'],
  ]
  for (const [thrown, code] of CODES) {
    test(`a look-up that fails with ${String(thrown)} ${(thrown as { code?: string })?.code ?? ''} is ${code}`, async () => {
      const error = await refusal(resolveEndpoint(endpoint, failing(thrown), {}, facts))
      assert.ok(error instanceof AddressError)
      assert.deepEqual([error.code, error.phase, error.op, error.endpoint], [code, 'resolve', 'connect', 'tcp://h.example:80'])
      assert.match(error.message, /"h\.example"/)
      assert.equal(error.cause, thrown)
    })
  }

  test('no answer is ENODATA, and an answer that is no address is an error', async () => {
    assert.equal((await refusal(resolveEndpoint(endpoint, new Answers([]), {}, facts))).code, 'ENODATA')
    assert.equal((await refusal(resolveEndpoint(endpoint, new Answers(['::1']), { family: 4 }, facts))).code, 'ENODATA')
    for (const answer of [
      [{ address: '0x7f.1', family: 4 }],
      [{ address: 'localhost', family: 4 }],
      [{}],
      [null],
      null,
      'x',
    ] as unknown[]) {
      const resolver = { lookup: async () => answer } as Resolver
      assert.equal((await refusal(resolveEndpoint(endpoint, resolver, {}, facts))).code, 'RESOLVE_FAILED', JSON.stringify(answer))
    }
  })

  test('a remembered answer lasts its time; failures are not remembered', async () => {
    const clock = new VirtualClock()
    const answers = new Answers(['1.1.1.1'], ['2.2.2.2'])
    const resolver = cachingResolver(answers, clock, 30_000)
    const first = async (name: string, family?: 4 | 6) => (await resolver.lookup(name, { family }))[0]?.address
    assert.equal(await first('h'), '1.1.1.1')
    await clock.advance(29_999)
    assert.equal(await first('H'), '1.1.1.1')
    await clock.advance(1)
    assert.equal(await first('h'), '2.2.2.2')
    assert.equal(await first('h', 4), '1.1.1.1', 'another family is another question')

    let calls = 0
    const flaky = cachingResolver(
      { lookup: async () => await (++calls === 1 ? Promise.reject(new Error('once')) : Promise.resolve([])) },
      clock,
    )
    await assert.rejects(flaky.lookup('h', {}), /once/)
    await flaky.lookup('h', {})
    assert.equal(calls, 2)
  })

  test('look-ups of one name at one time are one, and none of them cancels the others', async () => {
    const clock = new VirtualClock()
    let calls = 0
    let answer: (found: readonly ResolvedAddress[]) => void = () => {}
    const resolver = cachingResolver(
      {
        lookup: async (_name, { signal }) => {
          calls++
          assert.equal(signal, undefined)
          return await new Promise((resolve) => (answer = resolve))
        },
      },
      clock,
    )
    const both = [resolver.lookup('h', {}), resolver.lookup('h', { signal: new AbortController().signal })]
    answer([{ address: '1.1.1.1', family: 4 }])
    assert.deepEqual(await Promise.all(both), [[{ address: '1.1.1.1', family: 4 }], [{ address: '1.1.1.1', family: 4 }]])
    assert.equal(calls, 1)
  })

  test('the memory for names is bounded', async () => {
    const answers = new Answers(['1.1.1.1'])
    const resolver = cachingResolver(answers, new VirtualClock())
    for (let i = 0; i < 1025; i++) await resolver.lookup(`h${i}`, {})
    await resolver.lookup('h1024', {})
    assert.equal(answers.asked.length, 1025)
    await resolver.lookup('h0', {})
    assert.equal(answers.asked.length, 1026)
  })
})
