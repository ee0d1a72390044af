/** Which runtime this is, for what a driver cannot find out by looking for it. */

export const onBun: boolean = process.versions['bun'] !== undefined
export const onDeno: boolean = 'Deno' in globalThis
export const onNode: boolean = !onBun && !onDeno
