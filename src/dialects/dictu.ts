/**
 * Dictu's `Socket` module (dictu-lang.com): blocking sockets of a small scripting language, in both of its styles.
 * `docs/dialects/dictu.md` has every function, what is different here, and why.
 */

export { FatalError } from './dictu-misuse.js'
export { Result } from './dictu-result.js'
export { ResultSocket, type ResultSocketModule, type ResultSocketObject } from './dictu-result-socket.js'
export { Socket, type SocketModule, type SocketObject } from './dictu-socket.js'
export { fromBytes, toBytes } from './dictu-text.js'
