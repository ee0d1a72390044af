/** Local facts: this machine's name and addresses, look-ups both ways, services. */

import assert from 'node:assert/strict'
import { isIPv4, isIPv6 } from 'node:net'
import { hostname } from 'node:os'
import { describe, test } from 'node:test'
import { AddressError, hostName, interfaces, lookup, Network, type Resolver, service, type Wait } from 'fairlead'
import { memory, VirtualClock } from 'fairlead/testing'
import { servicesIn } from '#src/names.js'
import { systemResolver } from '#src/resolve.js'

const ADDRESSES = [
  { address: '192.0.2.7', family: 4 },
  { address: '2001:db8::7', family: 6 },
] as const

/** A network whose resolver answers with what it is told to. */
function world(resolver: Partial<Resolver>): { net: Network; clock: VirtualClock } {
  const clock = new VirtualClock()
  const lookupNothing = async () => assert.fail('nothing is looked up')
  return { net: new Network({ driver: memory(), clock, resolver: { lookup: lookupNothing, ...resolver } }), clock }
}

const failing = (code: string) => async () => {
  throw Object.assign(new Error(code), { code })
}

describe('this machine', () => {
  test('has a name', () => {
    assert.equal(hostName(), hostname())
    assert.ok(hostName().length > 0)
  })

  test('has addresses, the loopback one among them, each within its network', () => {
    const all = interfaces()
    const loopback = all.find(({ address }) => address === '127.0.0.1')
    assert.equal(loopback?.loopback, true)
    assert.equal(loopback?.family, 4)
    assert.match(loopback?.mac ?? '', /^[\da-f]{2}(:[\da-f]{2}){5}$/)
    for (const { address, family, cidr, scope, interface: name } of all) {
      assert.ok(family === 4 ? isIPv4(address) : isIPv6(address), address)
      const [, length] = cidr.split('/')
      assert.ok(Number(length) <= (family === 4 ? 32 : 128))
      assert.ok(name.length > 0)
      assert.equal(scope !== undefined, /^fe[89ab]/i.test(address), `${address} has a scope if it is link-local`)
    }
  })
})

describe('lookup', () => {
  test('gives all addresses in the order of the resolver, or those of one family', async () => {
    const { net } = world({ lookup: async (_, { family }) => ADDRESSES.filter((one) => !family || one.family === family) })
    assert.deepEqual(await net.lookup('Example.COM'), [...ADDRESSES])
    assert.deepEqual(await net.lookup('example.com', { family: 6 }), [ADDRESSES[1]])
    await net.close()
  })

  test('an IP address is its own, and nobody is asked', async () => {
    const { net } = world({})
    assert.deepEqual(await net.lookup('192.0.2.7'), [ADDRESSES[0]])
    assert.deepEqual(await net.lookup('2001:DB8::7'), [ADDRESSES[1]])
    await assert.rejects(net.lookup('192.0.2.7', { family: 6 }), { name: 'AddressError', code: 'ENODATA' })
    await net.close()
  })

  test('the loopback name of this machine, by the system', async () => {
    assert.ok((await lookup('localhost')).some(({ address }) => address === '127.0.0.1' || address === '::1'))
  })

  test('a deadline and a signal end the wait and tell the resolver', async () => {
    const asked: AbortSignal[] = []
    const never = (signal: AbortSignal | undefined) => {
      asked.push(signal as AbortSignal)
      return new Promise<never>(() => {})
    }
    const { net, clock } = world({ lookup: (_, { signal }) => never(signal), reverse: (_, { signal }) => never(signal) })
    const verbs = [
      (o: Wait) => net.lookup('example.com', o),
      (o: Wait) => net.reverse('192.0.2.7', o),
      (o: Wait) => net.connect('tcp://example.com:80', o),
      (o: Wait) => net.listen('tcp://example.com:80', o),
      (o: Wait) => net.bind('udp://example.com:53', o),
      (o: Wait) => net.connect('udp://example.com:53', o),
    ]
    for (const verb of verbs) {
      const late = assert.rejects(verb({ timeout: 50 }), { name: 'DeadlineError', phase: 'resolve' })
      await clock.advance(50)
      await late
      const controller = new AbortController()
      const cancelled = assert.rejects(verb({ signal: controller.signal }), { name: 'Cancelled', phase: 'resolve' })
      controller.abort()
      await cancelled
      assert.deepEqual(
        asked.splice(0).map(({ aborted }) => aborted),
        [true, true],
      )
      await assert.rejects(verb({ timeout: 0 }), { name: 'DeadlineError' })
      assert.equal(asked.length, 0, 'nobody is asked when the deadline has passed')
    }
    await net.close()
  })

  test('failures are typed, and bad names refused before anybody is asked', async () => {
    for (const [given, code] of [
      ['ENOTFOUND', 'ENOTFOUND'],
      ['EAI_AGAIN', 'EAI_AGAIN'],
      ['ESERVFAIL', 'RESOLVE_FAILED'],
    ] as const) {
      const { net } = world({ lookup: failing(given) })
      await assert.rejects(net.lookup('example.com'), { name: 'AddressError', code, op: 'lookup', phase: 'resolve' })
    }
    const { net } = world({})
    for (const name of ['', '*', 'a b', '0x7f.1', '2130706433', 'exa\nmple.com', 'a..b', 'x'.repeat(64), '[::1]']) {
      await assert.rejects(
        net.lookup(name),
        { name: 'AddressError', code: 'BAD_HOST', op: 'lookup', message: /^bad name ".*": expected a host name or an IP address$/ },
        name,
      )
    }
    for (const o of [null, 5, 'x']) await assert.rejects(net.lookup('example.com', o as never), { code: 'ERR_INVALID_ARG_TYPE' })
    for (const name of [undefined, null, 5, {}]) await assert.rejects(net.lookup(name as never), { name: 'TypeError' })
    await assert.rejects(net.lookup('example.com', { family: 5 as never }), { name: 'RangeError', message: /^family must be 4 or 6/ })
    await assert.rejects(net.lookup('example.com', { famly: 4 } as never), { code: 'UNKNOWN_OPTION' })
  })
})

describe('reverse', () => {
  test('gives names as they are compared, and only what may be one', async () => {
    const { net } = world({ reverse: async () => ['Host.Example.', 'host.example', 'b', 'evil\n[31m', 'a b', 5 as never, 'x'.repeat(64)] })
    assert.deepEqual(await net.reverse('192.0.2.7'), ['host.example', 'b'])
  })

  test('the resolver is given the canonical address, without its scope', async () => {
    const asked: string[] = []
    const { net } = world({
      reverse: async (address) => {
        asked.push(address)
        return ['a']
      },
    })
    await net.reverse('2001:DB8:0::7')
    await net.reverse('fe80::1%lo')
    assert.deepEqual(asked, ['2001:db8::7', 'fe80::1'])
  })

  test('no name is ENOTFOUND, whichever way the resolver says so; other failures keep their code', async () => {
    for (const reverse of [async () => [], failing('ENOTFOUND'), failing('ENODATA'), async () => ['\u0007']]) {
      await assert.rejects(world({ reverse }).net.reverse('192.0.2.7'), {
        name: 'AddressError',
        code: 'ENOTFOUND',
        message: /192\.0\.2\.7/,
      })
    }
    await assert.rejects(world({ reverse: failing('ETIMEOUT') }).net.reverse('192.0.2.7'), { name: 'AddressError', code: 'EAI_AGAIN' })
    await assert.rejects(world({ reverse: async () => 'x' as never }).net.reverse('192.0.2.7'), {
      name: 'AddressError',
      code: 'RESOLVE_FAILED',
    })
  })

  test('what is no IP address, and a resolver that cannot', async () => {
    const { net } = world({ reverse: async () => assert.fail('nothing is looked up') })
    for (const address of ['example.com', '127.1', '', '[::1]']) {
      await assert.rejects(net.reverse(address), { name: 'AddressError', code: 'BAD_HOST' })
    }
    for (const address of [undefined, 5]) await assert.rejects(net.reverse(address as never), { name: 'TypeError' })
    await assert.rejects(world({}).net.reverse('192.0.2.7'), { name: 'SystemFailure', code: 'UNSUPPORTED' })
  })

  test('the system answers or says that there is none, and is given up when nobody waits', async () => {
    const net = new Network()
    const names = await net.reverse('127.0.0.1').catch((error: unknown) => error)
    assert.ok(names instanceof AddressError || (names as string[]).length > 0)
    await assert.rejects(systemResolver.reverse?.('127.0.0.1', { signal: AbortSignal.abort() }) as Promise<never>, { name: 'AbortError' })
    await net.close()
  })
})

describe('services', () => {
  test('by name, by alias, by port, over TCP unless told otherwise', () => {
    const https = service('https')
    assert.deepEqual([https.name, https.port, https.protocol], ['https', 443, 'tcp'])
    assert.equal(service('domain', 'udp').protocol, 'udp')
    assert.equal(service(22).name, 'ssh')
    assert.equal(service('www').port, 80)
  })

  test('what is not there, and what cannot be', () => {
    assert.throws(() => service('no-such-service'), { name: 'AddressError', code: 'ENOTFOUND', message: /"no-such-service" over tcp/ })
    assert.throws(() => service('tftp'), { code: 'ENOTFOUND' })
    assert.throws(() => service(65_536), { name: 'RangeError' })
    assert.throws(() => service(-1), { name: 'RangeError' })
    assert.throws(() => service(undefined as never), { name: 'TypeError' })
    assert.throws(() => service('ssh', 'sctp' as never), { name: 'RangeError' })
  })

  test('rows are read as services(5) has them', () => {
    const text = '# a comment\n\nhttp\t\t80/tcp\twww www-http # the web\n  smtp 25/tcp\r\nx 1/sctp\nbroken line\n#ssh 22/tcp\n'
    assert.deepEqual(servicesIn(text), [
      { name: 'http', port: 80, protocol: 'tcp', aliases: ['www', 'www-http'] },
      { name: 'smtp', port: 25, protocol: 'tcp', aliases: [] },
    ])
  })
})
