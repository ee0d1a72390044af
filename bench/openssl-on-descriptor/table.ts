/** What was asked and what came out, and whether that is what the report says. */

let wrong = 0

export function title(text: string): void {
  console.log(`\n${text}`)
}

/** @param expected what the report says; absent where it depends on the machine or the version */
export function say(what: string, got: string, expected?: string): void {
  const right = expected === undefined || got === expected
  if (!right) wrong++
  console.log(`  ${right ? ' ' : '!'} ${what.padEnd(86)} ${got}${right ? '' : `   (the report says: ${expected})`}`)
}

export function surprises(): number {
  return wrong
}
