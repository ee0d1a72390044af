/** Connecting without waiting: the system is asked to start, and told to say when it has done so (connect(2)). */

import type { Address } from '../address.js'
import type { DialSettings, StreamHandle } from '../driver.js'
import { familyOf, writeAddress } from './kernel-address.js'
import { LINUX } from './kernel-layout.js'
import { makeStream } from './kernel-options.js'
import type { Place, Poll } from './kernel-poll.js'
import { KernelStream } from './kernel-stream.js'
import { EINPROGRESS, must, systemError } from './kernel-system.js'

const { SOCK_STREAM, SOCK_NONBLOCK, SOCK_CLOEXEC } = LINUX

export function dial(poll: Poll, to: Address, settings: DialSettings, done: (error: unknown, handle?: StreamHandle) => void): () => void {
  const { system, memory } = poll
  let over = false
  let fd = -1
  let place: Place | undefined
  const close = () => {
    if (fd >= 0) system.close(fd)
    if (place !== undefined) {
      poll.remove(place)
      poll.release()
    }
  }
  const fail = (error: unknown) => {
    if (over) return
    over = true
    close()
    done(error)
  }
  const succeed = () => {
    if (over) return
    over = true
    if (place !== undefined) {
      poll.remove(place, fd)
      poll.release()
    }
    try {
      const stream = new KernelStream(poll, fd, undefined, to.family === 'unix' ? to : undefined)
      stream.lingers = settings.options?.has('linger') === true
      done(undefined, stream)
    } catch (error) {
      system.close(fd)
      done(error)
    }
  }
  try {
    fd = must('socket', system.socket(familyOf(to), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0))
    makeStream(poll, { descriptor: fd }, 'connection', to.family === 'unix', settings)
    if (settings.from !== undefined) must('bind', system.bind(fd, memory.name.address, writeAddress(memory.name, settings.from)))
    const result = system.connect(fd, memory.name.address, writeAddress(memory.name, to))
    if (result === 0) queueMicrotask(succeed)
    else if (result !== -EINPROGRESS) throw systemError('connect', result)
    else {
      place = poll.add(fd, {
        polled() {
          memory.length.setInt(4)
          must('getsockopt', system.getsockopt(fd, LINUX.SOL_SOCKET, LINUX.SO_ERROR, memory.option.address, memory.length.address))
          const error = memory.option.int()
          if (error === 0) succeed()
          else fail(systemError('connect', -error))
        },
      })
    }
  } catch (error) {
    queueMicrotask(() => fail(error))
  }
  return () => {
    if (over) return
    over = true
    close()
  }
}
