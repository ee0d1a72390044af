// `fairlead connect --starttls`: the dialogue of each protocol against a scripted server on a real socket.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { before, describe, test, type TestContext } from 'node:test'
import { TLSSocket } from 'node:tls'
import { EXIT_CODES } from 'fairlead'
import { type Authority, developmentAuthority } from 'fairlead/testing'
import { fairlead, folder, Output } from './program.js'

let authority: Authority
let pem: { cert: string; key: string }
before(async () => {
  authority = await developmentAuthority()
  pem = await authority.issue({ names: ['127.0.0.1', 'mail.example'] })
})

type Step = { readonly say: string } | { readonly hear: RegExp }

const say = (text: string): Step => ({ say: text })
const hear = (pattern: RegExp): Step => ({ hear: pattern })

const bytes = (hex: string): string => Buffer.from(hex.replaceAll(' ', ''), 'hex').toString('latin1')
const LDAP_REQUEST = bytes(`30 1d 02 01 01 77 18 80 16 ${Buffer.from('1.3.6.1.4.1.1466.20037').toString('hex')}`)
const quoted = (text: string): RegExp => new RegExp(text.replace(/[^\w]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`))

/** What an honest server says and hears; the last thing it says is its "go ahead". */
const HONEST: Record<string, Step[]> = {
  smtp: [
    say('220-mail.example here\r\n220 ready\r\n'),
    hear(/^EHLO \[127\.0\.0\.1\]\r\n$/),
    say('250-mail.example\r\n250-SIZE 1000\r\n250-STARTTLS\r\n250 8BITMIME\r\n'),
    hear(/^STARTTLS\r\n$/),
    say('220 go ahead\r\n'),
  ],
  imap: [say('* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n'), hear(/^a001 STARTTLS\r\n$/), say('* CAPABILITY x\r\na001 OK begin\r\n')],
  pop3: [say('+OK ready <1@mail.example>\r\n'), hear(/^STLS\r\n$/), say('+OK begin\r\n')],
  ftp: [say('220-Welcome\r\n 220 is not the end\r\n220 ready\r\n'), hear(/^AUTH TLS\r\n$/), say('234 go ahead\r\n')],
  xmpp: [
    hear(/<stream:stream [^>]*to='mail\.example' version='1\.0'>$/),
    say("<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1' version='1.0'>"),
    say("<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>"),
    hear(/^<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'\/>$/),
    say("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
  ],
  postgres: [hear(quoted(bytes('00 00 00 08 04 d2 16 2f'))), say('S')],
  ldap: [hear(quoted(LDAP_REQUEST)), say(bytes('30 0c 02 01 01 78 07 0a 01 00 04 00 04 00'))],
}

/** What a server says that does not want TLS. */
const UNWILLING: Record<string, [string, Step[]][]> = {
  smtp: [
    ['does not offer it', [say('220 ready\r\n'), hear(/EHLO/), say('250-mail.example\r\n250 SIZE 10\r\n')]],
    [
      'refuses',
      [say('220 ready\r\n'), hear(/EHLO/), say('250-mail.example\r\n250 STARTTLS\r\n'), hear(/STARTTLS/), say('454 not now\u001b[2J\r\n')],
    ],
    ['greets with an error', [say('554 no\r\n')]],
  ],
  imap: [
    ['refuses', [say('* OK ready\r\n'), hear(/STARTTLS/), say('a001 BAD no\r\n')]],
    ['is authenticated before TLS could start', [say('* PREAUTH hello\r\n')]],
  ],
  pop3: [['refuses', [say('+OK\r\n'), hear(/STLS/), say('-ERR no\r\n')]]],
  ftp: [['refuses', [say('220 ready\r\n'), hear(/AUTH/), say('502 what\r\n')]]],
  xmpp: [
    ['does not offer it', [hear(/>$/), say("<stream:stream id='1'><stream:features/>")]],
    [
      'refuses',
      [
        hear(/>$/),
        say("<stream:stream id='1'><stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>"),
        hear(/starttls/),
        say("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>"),
      ],
    ],
  ],
  postgres: [
    ['refuses', [hear(/./s), say('N')]],
    ['answers with an error message', [hear(/./s), say('E\0\0\0\x08FATL')]],
  ],
  ldap: [
    ['refuses', [hear(/./s), say(bytes('30 0c 02 01 01 78 07 0a 01 35 04 00 04 00'))]],
    ['answers with something else', [hear(/./s), say('HTTP/1.1 400 Bad Request\r\n\r\n')]],
    ['gives a hostile length', [hear(/./s), say(bytes('30 84 ff ff ff ff'))]],
  ],
}

/** A server that plays `steps` with its first client; resolves when it has. */
async function playing(t: TestContext, steps: readonly Step[], after = ''): Promise<{ at: string; played: Promise<Socket> }> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const played = (async () => {
    const [socket] = (await once(server, 'connection')) as [Socket]
    socket.on('error', () => undefined)
    t.after(() => socket.destroy())
    let heard = ''
    const listen = (chunk: Buffer) => {
      heard += chunk.toString('latin1')
      wake()
    }
    let wake = () => undefined as void
    socket.on('data', listen)
    for (const [i, step] of steps.entries()) {
      if ('say' in step) socket.write(step.say + (i === steps.length - 1 ? after : ''), 'latin1')
      else {
        while (!step.hear.test(heard)) await new Promise<void>((resolve) => (wake = resolve))
        heard = ''
      }
    }
    socket.off('data', listen)
    socket.pause()
    return socket
  })()
  played.catch(() => undefined)
  t.after(() => server.close())
  const address = server.address() as { port: number }
  return { at: `tcp://127.0.0.1:${address.port}`, played }
}

describe('--starttls', () => {
  for (const [protocol, steps] of Object.entries(HONEST)) {
    test(`${protocol}: the dialogue, then a verified TLS connection`, async (t) => {
      const ca = join(folder(t), 'ca.pem')
      writeFileSync(ca, authority.cert)
      const { at, played } = await playing(t, steps)
      const program = fairlead(t, ['connect', '--starttls', protocol, '--ca', ca, '--server-name', 'mail.example', at]).finish('over TLS')
      const secure = new TLSSocket(await played, { isServer: true, ...pem } as never)
      secure.on('error', () => undefined)
      const heard = new Output(secure)
      await heard.until('over TLS')
      secure.end('and back')
      const { code, out, err } = await program.result()
      assert.deepEqual([code, out], [0, 'and back'], err)
    })

    // CVE-2011-0411, CVE-2021-23222: what stands behind the "go ahead" in plain text must never be taken for TLS.
    test(`${protocol}: plain text behind the go-ahead is refused (attack 19)`, async (t) => {
      const { at } = await playing(t, steps, '250 injected\r\n')
      const { code, out, err } = await fairlead(t, [
        'connect',
        '--insecure',
        '--starttls',
        protocol,
        '--server-name',
        'mail.example',
        at,
      ]).result()
      assert.match(err, /PLAINTEXT_BUFFERED/)
      assert.deepEqual([code, out], [EXIT_CODES.TlsError, ''])
    })

    for (const [what, refusal] of UNWILLING[protocol] ?? []) {
      test(`${protocol}: a server that ${what}: 6, with its own words made harmless, and nothing is sent in plain text`, async (t) => {
        const { at, played } = await playing(t, refusal)
        const program = fairlead(t, ['connect', '--starttls', protocol, at]).finish('secret')
        const rest = new Output(await played)
        const { code, out, err } = await program.result()
        assert.match(err, /STARTTLS_REFUSED/)
        assert.doesNotMatch(err, /[\u0000-\u0009\u000b-\u001f]/)
        assert.deepEqual([code, out], [EXIT_CODES.TlsError, ''])
        await rest.ended
        assert.equal(rest.text, '')
      })
    }
  }

  test('a certificate of another name: 6', async (t) => {
    const ca = join(folder(t), 'ca.pem')
    writeFileSync(ca, authority.cert)
    const { at, played } = await playing(t, HONEST['pop3'] as Step[])
    const program = fairlead(t, ['connect', '--starttls', 'pop3', '--ca', ca, '--server-name', 'other.example', at])
    const secure = new TLSSocket(await played, { isServer: true, ...pem } as never)
    secure.on('error', () => undefined).resume()
    const { code, err } = await program.result()
    assert.match(err, /NAME_MISMATCH/)
    assert.equal(code, EXIT_CODES.TlsError)
  })

  test('xmpp: a name with markup in it is refused, not sent (attack 26)', async (t) => {
    const { at, played } = await playing(t, [])
    const program = fairlead(t, ['connect', '--starttls', 'xmpp', '--server-name', "a' evil='", at])
    const rest = new Output(await played)
    assert.equal((await program.result()).code, EXIT_CODES.Usage)
    await rest.ended
    assert.equal(rest.text, '')
  })

  test('--connect-timeout covers the dialogue: 5', async (t) => {
    const { at } = await playing(t, [say('220 ready\r\n'), hear(/EHLO/)])
    const { code, err } = await fairlead(t, ['connect', '--connect-timeout', '300ms', '--starttls', 'smtp', at]).result()
    assert.equal(code, EXIT_CODES.DeadlineError, err)
  })
})
