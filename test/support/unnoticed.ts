/**
 * Loaded in front of every test file on Node: nobody is told of garbage, except in files that collect it (`garbage.ts`). A socket that
 * nobody holds is closed when it is collected, which is for the runtime to say: a test that looks at one end and has dropped the
 * other would fail once in a hundred runs.
 */

const NOTICED = Symbol.for('fairlead.test.noticed')
const { FinalizationRegistry } = globalThis

globalThis.FinalizationRegistry = class<T> extends FinalizationRegistry<T> {
  constructor(cleanup: (held: T) => void) {
    super((held) => {
      if (NOTICED in globalThis) cleanup(held)
    })
  }
}
