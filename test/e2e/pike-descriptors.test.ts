// Descriptors between Pike's sockets here and Pike 8 itself: by inheritance, and over UNIX sockets, in both directions.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { fstatSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { describe, test, type TestContext } from 'node:test'
import { Stdio } from 'fairlead/pike'
import { STANDARD } from '../support/drivers.js'
import { at, dial, listening, NAME, pike } from './pike-peer.js'
import { folder, peerProgram, root } from './program.js'

describe('descriptors', () => {
  const HEIR = join(root, 'build', 'test', 'dialects', 'pike-heir.js')

  /** Pike with a descriptor of this process as its number 3; what it writes. */
  function given(t: TestContext, fd: number, body: string): Promise<string> | undefined {
    if (peerProgram(t, NAME) === undefined) return undefined
    const path = join(folder(t), 'program.pike')
    writeFileSync(path, `int main() {\n${body}\n}\n`)
    const child = spawn(NAME, [path], { stdio: ['ignore', 'pipe', 'inherit', fd] })
    t.after(() => child.kill('SIGKILL'))
    return text(child.stdout as NodeJS.ReadableStream)
  }

  test('Pike listens by the number of a port here', async (t) => {
    const [port, number] = await listening(t)
    const said = given(
      t,
      port.query_fd(),
      `Stdio.Port p = Stdio.Port();
       int ok = p->listen_fd(3);
       Stdio.File f = p->accept();
       f->write("%d %d", ok, p->query_fd());
       f->close();
       return 0;`,
    )
    if (said === undefined) return
    await port[Symbol.asyncDispose]()
    const file = await dial(t, number)
    assert.equal(await file.read(), '1 3')
    await said
  })

  test('a port here listens by what Pike leaves it as standard input', async (t) => {
    const program = pike(
      t,
      `Stdio.Port p = open("0");
       object child = Process.create_process(argv[1..], ([ "stdin": Stdio.File(p->query_fd(), "rw") ]));
       p->close();
       return child->wait();`,
      process.execPath,
      HEIR,
      'port',
      '0',
    )
    if (program === undefined) return
    const number = await at(program)
    await program.out.until(`[1,0,0,"127.0.0.1 ${number}"]\n`)
    const file = await dial(t, number)
    await file.write('hello')
    file.close('w')
    assert.equal(await file.read(), 'hello from the heir')
    assert.equal((await program.result()).code, 0)
  })

  test('Pike goes on with a connection of this process', async (t) => {
    const [port, number] = await listening(t)
    const [file, peer] = [await dial(t, number), await port.accept()]
    assert.ok(peer)
    t.after(() => peer.close())
    const said = given(
      t,
      peer.query_fd(),
      `Stdio.File f = Stdio.File(3, "rw");
       f->write("from Pike");
       // It does not block, as its other owner wants it.
       f->peek(10.0);
       write("%s", f->read(4));
       return 0;`,
    )
    if (said === undefined) return
    assert.equal(await file.read(9), 'from Pike')
    await file.write('here')
    assert.equal(await said, 'here')
  })

  const skip = STANDARD === 'kernel' ? false : 'the node driver sends no descriptors'

  test('a connection that is sent to Pike over a UNIX socket', { skip }, async (t) => {
    const path = join(folder(t), 's')
    const [port] = await listening(t, path)
    const program = pike(
      t,
      `Stdio.File f = class { inherit Stdio.File; void receive_fd(Stdio.Fd fd) { fd->write("from Pike"); fd->close(); } }();
       f->connect_unix(argv[1]);
       write("%s %s\\n", f->read(5), f->read(5));
       return 0;`,
      path,
    )
    if (program === undefined) return
    const peer = await port.accept()
    assert.ok(peer)
    const [tcp, number] = await listening(t)
    for (const words of ['first', 'other']) {
      const [file, end] = [await dial(t, number), await tcp.accept()]
      assert.ok(end)
      peer.send_fd(end)
      end.close()
      assert.equal(await peer.write(words), 5)
      assert.equal(await file.read(), 'from Pike')
    }
    peer.close()
    assert.equal((await program.result()).out, 'first other\n')
  })

  test('a connection that Pike sends over a UNIX socket', { skip }, async (t) => {
    const path = join(folder(t), 's')
    const [port] = await listening(t, path)
    const [tcp, number] = await listening(t)
    class Receiving extends Stdio.File {
      readonly came: Stdio.File[] = []

      override receive_fd(file: Stdio.File): unknown {
        return this.came.push(file)
      }
    }
    const program = pike(
      t,
      `Stdio.File f = Stdio.File();
       f->connect_unix(argv[1]);
       Stdio.File tcp = dial("127.0.0.1", argv[2]), no = Stdio.File(argv[0]);
       f->send_fd(tcp);
       f->send_fd(no);
       tcp->close();
       write("%d\\n", f->write("hello"));
       return 0;`,
      path,
      number,
    )
    if (program === undefined) return
    const accepted = await port.accept()
    assert.ok(accepted)
    const file = new Receiving()
    t.after(() => [file, ...file.came].map((one) => one.close()))
    file.assign(accepted)
    accepted.close()
    assert.equal(await file.read(), 'hello')
    const [came, no] = file.came as [Stdio.File, Stdio.File]
    const end = await tcp.accept()
    assert.ok(end)
    await came.write('through Pike')
    assert.equal(await end.read(12), 'through Pike')
    end.close()
    // A file of the file system, whose number is there for others.
    assert.deepEqual([await no.read(1), no.errno(), no.is_open()], [0, 88, 1])
    assert.ok(fstatSync(no.query_fd()).isFile())
    assert.equal((await program.result()).out, '5\n')
  })
})
