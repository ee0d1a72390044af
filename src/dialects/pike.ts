/**
 * Sockets as Pike 8 has them: `Stdio`, `SSL`, `Concurrent` and the functions beside them. What waits in Pike is awaited here, and
 * nothing else changes. Strings are strings of bytes, one character for each.
 */

import * as Concurrent from './pike-concurrent.js'
import { simple_decode } from './pike-context.js'
import * as SSL from './pike-ssl.js'
import * as Stdio from './pike-stdio.js'

export { Concurrent, SSL, Stdio }

/** The part of the module `Standards` that certificates need. */
export const Standards: { readonly PEM: { readonly simple_decode: (pem: string) => string } } = { PEM: { simple_decode } }

export { errno, PikeError, strerror } from './pike-errno.js'
export { sprintf } from './pike-strings.js'
export {
  file_stat,
  gethostbyaddr,
  gethostbyname,
  gethostname,
  master,
  rm,
  sleep,
  Thread,
  thread_create,
  werror,
  write,
  type FileStat,
  type HostEntry,
  type Master,
} from './pike-system.js'
