/** What a driver says no with; like what the system reports it is wrapped at the public edge. */
export function refusal(code: string, message: string): Error {
  return Object.assign(new Error(message), { code })
}
