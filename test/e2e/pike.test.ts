// Pike's sockets here and in Pike 8 itself (Debian: pike8.0-core), in both directions: files, buffered lines, datagrams, UNIX
// sockets, TLS 1.2, callbacks with ends and resets of both kinds; and the same programs in both, with the same results.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test, type TestContext } from 'node:test'
import { sprintf, SSL, Standards, Stdio } from 'fairlead/pike'
import { authority } from './sockets.js'
import { at, dial, listening, NAME, pike, portOf } from './pike-peer.js'
import { folder, peerProgram, Program, root } from './program.js'

const md5 = (data: string): string => createHash('md5').update(data, 'latin1').digest('hex')

const PAYLOAD = Array.from({ length: 3_000_000 }, (_, i) => String.fromCharCode((i * 31 + (i >> 8)) & 255)).join('')

/** Sends everything, ends its direction, and gives back what it heard. */
async function exchanged(file: Stdio.File): Promise<string | 0> {
  const writing = file.write(PAYLOAD).then((count) => (file.close('w'), count))
  const answer = await file.read()
  assert.equal(await writing, PAYLOAD.length)
  return answer
}

describe('files', () => {
  const server = `
    Stdio.Port p = open(argv[1]);
    Stdio.File f = p->accept();
    string all = f->read();
    f->write(all + md5(all));
    f->close();
    return 0;`
  const client = `
    Stdio.File f = dial("127.0.0.1", argv[1]);
    string data = (string)enumerate(256) * 4000;
    f->write(data);
    f->close("w");
    string back = f->read();
    write("%s %d\\n", back == reverse(data) ? "same" : "different", f->errno());
    return 0;`

  for (const kind of ['TCP', 'UNIX']) {
    test(`a ${kind} server of Pike gives back what a file here sends`, async (t) => {
      const program = pike(t, server, kind === 'TCP' ? '0' : join(folder(t), 's'))
      if (program === undefined) return
      const answer = await exchanged(await dial(t, await at(program)))
      assert.ok(answer === PAYLOAD + md5(PAYLOAD), `${String(answer).length} bytes`)
      assert.equal((await program.result()).code, 0)
    })

    test(`a ${kind} client of Pike gets back what it sends to a port here`, async (t) => {
      const path = join(folder(t), 's')
      const [port, where] = await listening(t, kind === 'TCP' ? undefined : path)
      const program = pike(t, client, where)
      if (program === undefined) return
      const file = await port.accept()
      assert.ok(file)
      const all = await file.read()
      assert.equal(String(all).length, 1_024_000)
      assert.equal(await file.write([...String(all)].reverse().join('')), 1_024_000)
      file.close()
      assert.deepEqual(await program.result(), { code: 0, out: 'same 0\n', err: '' })
    })
  }

  test('half closes and short reads mean the same on both sides', async (t) => {
    const program = pike(
      t,
      `Stdio.Port p = open("0");
       Stdio.File f = p->accept();
       write("%s|%s\\n", f->read(2), f->read(100, 1));
       f->write("reply");
       write("%d\\n", f->close("w"));
       write("%O %d %d\\n", f->read(), f->errno(), f->close("r"));
       return 0;`,
    )
    if (program === undefined) return
    const file = await dial(t, await at(program))
    await file.write('hello')
    assert.equal(await file.read(), 'reply')
    assert.equal(await file.write('late'), 4)
    assert.equal(file.close(), 1)
    const { out } = await program.result()
    assert.equal(out.replace(/^at .*\n/, ''), 'he|llo\n0\n"late" 0 1\n')
  })

  test('a reset by Pike is 0 with errno 104 once, and one by a file here is that for Pike', async (t) => {
    const program = pike(
      t,
      `Stdio.Port p = open("0");
       Stdio.File f = p->accept();
       f->write("data"); f->read(2); f->linger(0); f->close();
       f = p->accept();
       f->write("x");
       write("%O ", f->read(4)); write("%O %d ", f->read(1), f->errno()); write("%O %d\\n", f->read(1), f->errno());
       return 0;`,
    )
    if (program === undefined) return
    const where = await at(program)
    const file = await dial(t, where)
    assert.equal(await file.read(4), 'data')
    await file.write('go')
    assert.deepEqual([await file.read(), file.errno()], [0, 104])
    assert.deepEqual([await file.read(), file.errno()], ['', 0])
    assert.deepEqual([await file.write('x'), file.errno()], [-1, 32])
    const other = await dial(t, where)
    await other.write('last')
    assert.equal(await other.read(1), 'x')
    other.linger(0)
    other.close()
    const { out } = await program.result()
    assert.equal(out.replace(/^at .*\n/, ''), '"last" 0 104 "" 0\n')
  })
})

describe('lines', () => {
  const TEXT = 'one\ntwo\r\n\n' + 'x'.repeat(100_000) + '\nthree\0\xff\nlast'

  test('Stdio.FILE of Pike and of this library see the same lines', async (t) => {
    const program = pike(
      t,
      `Stdio.Port p = open("0");
       Stdio.FILE f = Stdio.FILE();
       f->assign(p->accept());
       while (string line = f->gets()) f->write("%d %s\\n", sizeof(line), md5(line));
       f->close();
       return 0;`,
    )
    if (program === undefined) return
    const file = new Stdio.FILE()
    await dial(t, await at(program), file)
    await file.write(TEXT)
    file.close('w')
    const there = await file.ngets()
    const own = new Stdio.FILE()
    const other = own.pipe()
    await other.write(TEXT)
    other.close()
    const here = (await own.ngets()).map((line) => `${line.length} ${md5(line)}`)
    own.close()
    assert.deepEqual(there, here)
    assert.equal(here.length, 6)
  })

  test('lines that Pike writes in pieces come whole', async (t) => {
    const [port, where] = await listening(t)
    const program = pike(
      t,
      `Stdio.FILE f = Stdio.FILE();
       f->assign(dial("127.0.0.1", argv[1]));
       foreach (argv[2] / "", string c) { f->write(c); sleep(0.002); }
       f->close();
       return 0;`,
      where,
      'ab\n\ncd\nef',
    )
    if (program === undefined) return
    const accepted = await port.accept()
    assert.ok(accepted)
    const file = new Stdio.FILE()
    file.assign(accepted)
    accepted.close()
    assert.deepEqual(await file.ngets(), ['ab', '', 'cd', 'ef'])
    file.close()
  })
})

describe('datagrams', () => {
  test('datagrams go both ways, empty ones and the largest included', async (t) => {
    const program = pike(
      t,
      `Stdio.UDP u = Stdio.UDP()->bind(0, "127.0.0.1");
       write("at %s\\n", (u->query_address() / " ")[1]);
       for (int i = 0; i < 4; i++) {
         mapping m = u->read();
         u->send(m->ip, m->port, sizeof(m->data) + " " + md5(m->data));
       }
       mapping m = u->read();
       u->send(m->ip, m->port, m->data);
       return 0;`,
    )
    if (program === undefined) return
    const port = Number(await at(program))
    const udp = new Stdio.UDP()
    t.after(() => udp.close())
    await udp.bind(0, '127.0.0.1')
    for (const data of ['', 'x', '\x00\xff\n', 'y'.repeat(65_507)]) {
      assert.equal(await udp.send('127.0.0.1', port, data), data.length)
      const answer = await udp.read(1000, '.', 20)
      assert.deepEqual(answer && [answer.data, answer.ip, answer.port], [`${data.length} ${md5(data)}`, '127.0.0.1', port])
    }
    const large = PAYLOAD.slice(0, 60_000)
    await udp.send('127.0.0.1', port, large)
    assert.equal(await udp.wait(20), 1)
    const answer = await udp.read()
    assert.equal(answer && answer.data, large)
    assert.equal((await program.result()).code, 0)
  })

  test('Pike asks, and an object with a callback answers', async (t) => {
    const udp = new Stdio.UDP()
    t.after(() => udp.close())
    await udp.bind(0, '127.0.0.1')
    udp.set_nonblocking(async (datagram) => {
      await udp.send(datagram.ip, datagram.port, `${datagram[1]} said ${datagram.data}`)
    })
    const program = pike(
      t,
      `Stdio.UDP u = Stdio.UDP()->bind(0, "127.0.0.1");
       u->send("127.0.0.1", (int)argv[1], "hello");
       write("%d %s %s\\n", u->wait(20), u->query_address(), u->read()->data);
       return 0;`,
      String(portOf(udp.query_address())),
    )
    if (program === undefined) return
    const { out } = await program.result()
    assert.match(out, /^1 (127\.0\.0\.1 \d+) \1 said hello\n$/)
  })
})

describe('callbacks', () => {
  /** Tells each event on a line, and answers every piece. */
  const SERVER = `
    Stdio.Port p = open("0");
    int count = (int)argv[1];
    for (int i = 0; i < count; i++) {
      Stdio.File f = p->accept();
      string got = "";
      f->set_nonblocking(lambda(mixed id, string data) { got += data; f->write(data); },
                         0,
                         lambda(mixed id) { write("%d close %d %d\\n", i, f->errno(), sizeof(got)); f->close(); });
      float until = time(0) + 20.0;
      while (f->is_open() && time(0) < until) Pike.DefaultBackend(0.1);
    }
    return 0;`

  test("Pike's callbacks see ends and resets of files here", async (t) => {
    const program = pike(t, SERVER, '3')
    if (program === undefined) return
    const where = await at(program)
    const ended = await dial(t, where)
    await ended.write('hello')
    assert.equal(await ended.read(5), 'hello')
    ended.close()
    await program.out.until('0 close 0 5')
    const half = await dial(t, where)
    await half.write('world!')
    half.close('w')
    assert.equal(await half.read(), 'world!')
    await program.out.until('1 close 0 6')
    const reset = await dial(t, where)
    await reset.write('abc')
    assert.equal(await reset.read(3), 'abc')
    reset.linger(0)
    reset.close()
    await program.out.until('2 close 104 3')
    assert.equal((await program.result()).code, 0)
  })

  test('callbacks here see ends and resets of Pike, after all the data', async (t) => {
    const events: string[] = []
    let over: (() => void) | undefined
    const done = new Promise<void>((resolve) => (over = resolve))
    const port = new Stdio.Port()
    t.after(() => port.close())
    const accepted = async (): Promise<void> => {
      const file = await port.accept()
      assert.ok(file)
      t.after(() => file.close())
      let got = 0
      file.set_nonblocking(
        async (_id, data) => {
          got += data.length
          file.set_blocking_keep_callbacks()
          await file.write('k')
        },
        0,
        () => {
          events.push(`close ${file.errno()} ${got}`)
          file.close()
          if (events.length === 2) over?.()
        },
      )
    }
    await port.bind(0, accepted, '127.0.0.1')
    const program = pike(
      t,
      `Stdio.File f = dial("127.0.0.1", argv[1]);
       f->write("x" * 1000000); f->read(1); f->close();
       f = dial("127.0.0.1", argv[1]);
       f->write("abc"); f->read(1); f->linger(0); f->close();
       return 0;`,
      String(portOf(port.query_address())),
    )
    if (program === undefined) return
    assert.equal((await program.result()).code, 0)
    await done
    assert.equal(events[1], 'close 104 3')
    // The first one closes while answers of this side are on their way to it, so that the end may be one or the other.
    assert.match(String(events[0]), /^close (?:0|104) \d+$/)
  })

  test('a megabyte each way between two programs that never wait', async (t) => {
    const program = pike(t, SERVER, '1')
    if (program === undefined) return
    const file = await dial(t, await at(program))
    const data = PAYLOAD.slice(0, 1_000_000)
    let [sent, got] = [0, '']
    // Pike's side keeps what it cannot send for nobody, so no more than the system can take is on its way.
    let writing = false
    const more = async (): Promise<void> => {
      if (writing) return
      writing = true
      while (sent < data.length && sent - got.length < 50_000) {
        const count = await file.write(data.slice(sent, sent + 10_000))
        if (count <= 0) break
        sent += count
      }
      writing = false
    }
    await new Promise<void>((resolve) => {
      const read = async (_id: unknown, piece: string): Promise<void> => {
        got += piece
        await more()
        if (got.length === data.length) resolve()
      }
      file.set_nonblocking(read)
      void more()
    })
    assert.ok(got === data)
    file.close()
    assert.equal((await program.result()).code, 0)
  })
})

describe('TLS 1.2', () => {
  async function certificate(t: TestContext): Promise<{ cert: string; key: string; ca: string }> {
    const at = folder(t)
    const issued = await (await authority()).issue({ names: ['localhost'], keyFormat: 'traditional' })
    const files = { cert: join(at, 'cert.pem'), key: join(at, 'key.pem'), ca: join(at, 'ca.pem') }
    writeFileSync(files.cert, issued.cert)
    writeFileSync(files.key, issued.key)
    writeFileSync(files.ca, (await authority()).cert)
    return files
  }

  test('a client here verifies and uses a server of Pike', async (t) => {
    const { cert, key } = await certificate(t)
    const program = pike(
      t,
      `SSL.Context ctx = SSL.Context();
       ctx->add_cert(Standards.PEM.simple_decode(Stdio.read_file(argv[2])), ({ Standards.PEM.simple_decode(Stdio.read_file(argv[1])) }), ({ "*" }));
       Stdio.Port p = open("0");
       SSL.File f = SSL.File(p->accept(), ctx);
       f->set_blocking();
       if (!f->accept()) exit(4);
       string all = f->read(1000000);
       f->write(md5(all) + all);
       f->close();
       return 0;`,
      cert,
      key,
    )
    if (program === undefined) return
    const file = await dial(t, await at(program))
    const context = new SSL.Context()
    context.set_trusted_issuers([[Standards.PEM.simple_decode((await authority()).cert)]])
    const ssl = new SSL.File(file, context)
    t.after(() => ssl.close())
    assert.equal(await ssl.connect('localhost'), 1, String(ssl.query_failure()))
    assert.equal(ssl.query_version(), SSL.Constants.PROTOCOL_TLS_1_2)
    const data = PAYLOAD.slice(0, 1_000_000)
    assert.equal(await ssl.write(data), data.length)
    assert.ok((await ssl.read()) === md5(data) + data, `errno ${ssl.errno()} ${program.err.text}`)
    assert.equal(ssl.errno(), 0)
  })

  test('a client of Pike verifies and uses a port here', async (t) => {
    const { cert, key, ca } = await certificate(t)
    const context = new SSL.Context()
    context.certificates = [{ cert_file: cert, key_file: key }]
    const port = new SSL.Port(context)
    t.after(() => port.close())
    const served = async (file: SSL.File): Promise<void> => {
      const all = await file.read(100_000)
      await file.write(`${md5(String(all))}${all}`)
      file.close()
    }
    assert.equal(await port.bind(0, served, '127.0.0.1'), 1)
    const program = pike(
      t,
      `SSL.Context ctx = SSL.Context();
       ctx->verify_certificates = 1;
       ctx->auth_level = SSL.Constants.AUTHLEVEL_require;
       ctx->set_trusted_issuers(({ ({ Standards.PEM.simple_decode(Stdio.read_file(argv[2])) }) }));
       SSL.File f = SSL.File(dial("127.0.0.1", argv[1]), ctx);
       f->set_blocking();
       if (!f->connect("localhost")) exit(4, "no handshake\\n");
       string data = (string)enumerate(256) * 400;
       data = data[..99999];
       write("%d ", f->write(data));
       string back = f->read();
       write("%s %d %x\\n", back == md5(data) + data ? "same" : "different", f->errno(), f->query_version());
       return 0;`,
      String(portOf(port.query_address())),
      ca,
    )
    if (program === undefined) return
    const { out, err } = await program.result()
    assert.equal(out, '100000 same 0 303\n', err)
  })

  test('a server of Pike whose issuer nobody trusts is refused', async (t) => {
    const { cert, key } = await certificate(t)
    const program = pike(
      t,
      `SSL.Context ctx = SSL.Context();
       ctx->add_cert(Standards.PEM.simple_decode(Stdio.read_file(argv[2])), ({ Standards.PEM.simple_decode(Stdio.read_file(argv[1])) }), ({ "*" }));
       Stdio.Port p = open("0");
       SSL.File f = SSL.File(p->accept(), ctx);
       f->set_blocking();
       f->accept();
       string s = f->read();
       write("%O\\n", s || "");
       return 0;`,
      cert,
      key,
    )
    if (program === undefined) return
    const ssl = new SSL.File(await dial(t, await at(program)), new SSL.Context())
    assert.deepEqual([await ssl.connect('localhost'), ssl.errno(), await ssl.write('secret')], [-1, 32, -1])
    ssl.close()
    const { out } = await program.result()
    assert.equal(out.replace(/^at .*\n/, ''), '""\n')
  })
})

describe('the same in both', () => {
  test('formats', async (t) => {
    // As Pike writes the arguments, and as they are written here.
    const calls: [format: string, there: string, ...here: unknown[]][] = [
      ['%d %5d|%-5d|%05d|%+d|% d', '1,3,4,-5,6,7', 1, 3, 4, -5, 6, 7],
      ['%x %X %o %b %8b %08x %x', '255,255,8,5,5,48879,-255', 255, 255, 8, 5, 5, 48_879, -255],
      ['%s|%5s|%-5s|%|5s|%|6s|%.2s|%6.2s', '"a","b","c","d","e","xyz","xyz"', 'a', 'b', 'c', 'd', 'e', 'xyz', 'xyz'],
      ['%c%c %%', '65,98', 65, 98],
      ['%f %.1f %8.2f %-8.2f| %e %.2e %E', '1.5,3.14159,2.5,2.5,12345.678,0.00012,1.0', 1.5, 3.14159, 2.5, 2.5, 12_345.678, 0.00012, 1],
      ['%g %g %g %g %g', '0.1,100000.0,1e10,1e-5,123456789.0', 0.1, 100_000, 1e10, 1e-5, 123_456_789],
      ['%O %O %O %O', '"a\\n\\"b\\"\\\\",5,1.5,({})', 'a\n"b"\\', 5, 1.5, []],
      ['%O', '({1,({"a","b"})})', [1, ['a', 'b']]],
      ['%O', '(["a":(["b":2])])', { a: { b: 2 } }],
      ['%q', '"say \\"hi\\"\\n\\1"', 'say "hi"\n\x01'],
      ['%[1]s %[0]s %s %<s', '"a","b","c"', 'a', 'b', 'c'],
      ['%*d|%-*d', '5,42,4,7', 5, 42, 4, 7],
      ['%.3d %+.2f % .1f %07.2f', '5,1.25,2.5,-1.5', 5, 1.25, 2.5, -1.5],
      [
        '%{<%s>%} %{%s=%d %}',
        '({"a","b"}),({({"x",1}),({"y",2})})',
        ['a', 'b'],
        [
          ['x', 1],
          ['y', 2],
        ],
      ],
      ['%H %4c', '"abc",1819043176', 'abc', 1_819_043_176],
      ['%O', '({"a\\nb\\n"})', ['a\nb\n']],
    ]
    const quoted = (text: string): string => JSON.stringify(text)
    const body = calls.map(([format, there]) => `write("%s\\0", sprintf(${quoted(format)},${there}));`).join('\n')
    const program = pike(t, `${body}\nreturn 0;`)
    if (program === undefined) return
    const { out, err } = await program.result()
    assert.deepEqual(
      calls.map(([format, , ...args]) => sprintf(format, ...args)),
      out.split('\0').slice(0, -1),
      err,
    )
  })

  test('what misuse throws', async (t) => {
    const program = pike(
      t,
      `function told = lambda(function f) { mixed e = catch { f(); }; write("%s\\n", e ? (describe_error(e) / "\\n")[0] : "nothing"); };
       Stdio.File f = Stdio.File(); Stdio.UDP u = Stdio.UDP(); Stdio.Port p = Stdio.Port(0); p->close();
       told(lambda() { f->read(); }); told(lambda() { f->write("x"); }); told(lambda() { f->query_address(); });
       told(lambda() { f->connect("nosuch.invalid", 1); }); told(lambda() { f->connect("127.0.0.1", "nosuchservice"); });
       told(lambda() { p->accept(); }); told(lambda() { p->query_address(); });
       told(lambda() { u->read(); }); told(lambda() { u->query_address(); }); told(lambda() { u->wait(1); });
       told(lambda() { Stdio.FILE()->set_nonblocking(); }); told(lambda() { Stdio.FILE()->gets(); });
       told(lambda() { SSL.File(Stdio.File(), SSL.Context()); });
       Stdio.File end = f->pipe();
       told(lambda() { f->read(-1); }); told(lambda() { f->write("\\x1234"); });
       return 0;`,
    )
    if (program === undefined) return
    const { out, err } = await program.result()
    const told: string[] = []
    const tell = async (fn: () => unknown): Promise<void> => {
      try {
        await fn()
        told.push('nothing')
      } catch (error) {
        told.push((error as Error).message)
      }
    }
    const [f, u, p] = [new Stdio.File(), new Stdio.UDP(), new Stdio.Port()]
    for (const fn of [() => f.read(), () => f.write('x'), () => f.query_address(), () => f.connect('nosuch.invalid', 1)]) await tell(fn)
    await tell(() => f.connect('127.0.0.1', 'nosuchservice'))
    for (const fn of [() => p.accept(), () => p.query_address(), () => u.read(), () => u.query_address(), () => u.wait(1)]) await tell(fn)
    await tell(() => new Stdio.FILE().set_nonblocking())
    await tell(() => new Stdio.FILE().gets())
    await tell(() => new SSL.File(new Stdio.File(), new SSL.Context()))
    const end = f.pipe()
    await tell(() => f.read(-1))
    await tell(() => f.write('\u1234'))
    f.close()
    end.close()
    assert.deepEqual(told, out.trimEnd().split('\n'), err)
  })

  test('moments between two states', async (t) => {
    const program = pike(
      t,
      `Stdio.Port p = Stdio.Port(0, 0, "127.0.0.1"); Stdio.File a, b;
       function told = lambda(mixed ... all) { write("%s\\n", map(all, lambda(mixed one) { return sprintf("%O", one); }) * " "); };
       function pair = lambda() { a = Stdio.File(); a->connect("127.0.0.1", (int)(p->query_address() / " ")[1]); b = p->accept(); };
       pair(); told(a->close("x"), a->close("r"), a->read(1), a->errno(), a->close("r"), a->write("x"), a->close("w"));
       pair(); told(a->close("w"), a->write("x"), a->errno(), a->write(""), a->errno(), a->close("w"), a->close());
       pair(); b->linger(0); b->close(); told(a->peek(1), a->errno(), a->read(1), a->errno(), a->write("x"), a->errno());
       pair(); b->write("hello"); sleep(0.1); a->set_nonblocking(); told(a->read(2), a->errno(), a->read(), a->read(1), a->errno());
       a = Stdio.File(); told(a->open_socket(), a->query_address(1), a->query_address(), a->errno(), a->read(1), a->errno(), a->write("x"), a->errno());
       Stdio.FILE f = Stdio.FILE(); Stdio.File o = f->pipe(); o->write("a\\nb\\nc"); o->close("w");
       told(f->ngets(2)[1], f->ngets(1, 1), f->gets(), f->ngets(1), f->getchar(), sizeof(f->ngets()));
       return 0;`,
    )
    if (program === undefined) return
    const { out, err } = await program.result()
    const told: string[] = []
    const tell = (...all: unknown[]): unknown => told.push(all.map((one) => sprintf('%O', one)).join(' '))
    const [port, where] = await listening(t)
    const pair = async (): Promise<[Stdio.File, Stdio.File]> => {
      const a = await dial(t, where)
      const b = await port.accept()
      assert.ok(b)
      t.after(() => b.close())
      return [a, b]
    }
    let [a, b] = await pair()
    tell(a.close('x'), a.close('r'), await a.read(1), a.errno(), a.close('r'), await a.write('x'), a.close('w'))
    ;[a, b] = await pair()
    tell(a.close('w'), await a.write('x'), a.errno(), await a.write(''), a.errno(), a.close('w'), a.close())
    ;[a, b] = await pair()
    b.linger(0)
    b.close()
    tell(await a.peek(1), a.errno(), await a.read(1), a.errno(), await a.write('x'), a.errno())
    ;[a, b] = await pair()
    await b.write('hello')
    await a.peek(5)
    a.set_nonblocking()
    tell(await a.read(2), a.errno(), await a.read(), await a.read(1), a.errno())
    a = new Stdio.File()
    tell(a.open_socket(), a.query_address(1), a.query_address(), a.errno(), await a.read(1), a.errno(), await a.write('x'), a.errno())
    const f = new Stdio.FILE()
    const o = f.pipe()
    await o.write('a\nb\nc')
    o.close('w')
    tell(((await f.ngets(2)) || [])[1], await f.ngets(1, 1), await f.gets(), await f.ngets(1), await f.getchar(), (await f.ngets()).length)
    for (const one of [a, f, o]) one.close()
    assert.deepEqual(told, out.trimEnd().split('\n'), err)
  })

  test('the program of docs/dialects/pike.md', async (t) => {
    if (peerProgram(t, NAME) === undefined) return
    const page = readFileSync(join(root, 'docs', 'dialects', 'pike.md'), 'utf8')
    const carried = page.slice(page.indexOf('## A program carried over'))
    const [there, here] = ['text', 'js no-run'].map((kind) => carried.split(`\`\`\`${kind}\n`)[1]?.split('```')[0]) as [string, string]
    const at = folder(t)
    const before = join(at, 'chat.pike')
    writeFileSync(before, there)
    // Where `fairlead` means this package.
    const after = join(root, 'build', `chat-${process.pid}.mjs`)
    writeFileSync(after, here)
    t.after(() => rmSync(after))

    const heard = async (program: Program): Promise<string[]> => {
      const [, port = ''] = await program.out.until(/at 127\.0\.0\.1 (\d+)\n/)
      const clients: Stdio.FILE[] = []
      const lines: (string | 0)[] = []
      for (let i = 0; i < 3; i++) {
        const client = new Stdio.FILE()
        await dial(t, port, client)
        for (const other of clients) lines.push(await other.gets())
        clients.push(client)
      }
      const [a, b, c] = clients as [Stdio.FILE, Stdio.FILE, Stdio.FILE]
      await a.write('hello, ')
      await a.write('all\nand again\nnot yet')
      for (const client of [b, c]) lines.push(...((await client.ngets(2)) || []))
      b.close()
      for (const client of [a, c]) lines.push(await client.gets())
      c.close('w')
      lines.push(await c.gets(), await a.gets())
      a.close()
      program.kill('SIGTERM')
      return lines.map(String)
    }
    const transcript = await heard(new Program(t, NAME, [before, '0']))
    assert.deepEqual(await heard(new Program(t, process.execPath, [after, '0'])), transcript)
    assert.equal(transcript.filter((line) => line === 'hello, all').length, 2)
  })
})
