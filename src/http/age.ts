// The Age header (RFC 9111 section 5.1): how long ago the origin gave or confirmed a response.

/** What a cache says that is older than it can count (RFC 9111 section 1.2.2). */
const MAX_SECONDS = 2 ** 31

/** Returns the whole seconds from `at` to `now` (both in milliseconds); 0 if the clock went back. */
export function ageSeconds(at: number, now: number): number {
  return Math.min(Math.max(0, Math.floor((now - at) / 1000)), MAX_SECONDS)
}
