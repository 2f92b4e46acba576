// The random faults of an upstream's response.
import type { Fault } from '../support/faults.ts'

/** Returns the fault for content of this many bytes, at a fraction of its size. */
export type Trouble = (size: number, share: number) => Fault

/** The response fails, is slow or lacks headers, but its bytes are right. */
export const HONEST: Readonly<Record<string, Trouble>> = {
  none: () => ({}),
  cut: (size, share) => ({ cutAfter: Math.floor(size * share) }),
  reset: (size, share) => ({ resetAfter: Math.floor(size * share) }),
  resetBeforeHead: () => ({ resetAfter: -1 }),
  unmeasured: () => ({ announcedLength: 'none' }),
  unmeasuredCut: (size, share) => ({
    announcedLength: 'none',
    cutAfter: Math.floor(size * share),
  }),
  stall: (size, share) => ({ stall: { afterBytes: Math.floor(size * share) } }),
  stallBeforeHead: () => ({ stall: 'headers' }),
  drip: (size) => ({ drip: { bytes: Math.ceil(size / 6) + 1, everyMs: 5 } }),
  ignoreRange: () => ({ ignoreRange: true }),
  serverError: () => ({ status: 500 }),
  limited: () => ({ status: 429, headers: { 'retry-after': '0' } }),
  denied: () => ({ status: 403 }),
  gone: () => ({ status: 404 }),
  page: () => ({ status: 200, body: '<html>', headers: { 'content-type': 'text/html' } }),
}

/** The response looks complete, but its bytes or its size are wrong. */
export const LIES: Readonly<Record<string, Trouble>> = {
  corrupt: (size, share) => ({ corruptAt: Math.floor((size - 1) * share) }),
  other: () => ({ status: 200, body: 'something else' }),
  short: (size, share) => ({
    bodyLength: Math.floor(size * share),
    announcedLength: Math.floor(size * share),
  }),
  shortUnmeasured: (size, share) => ({
    bodyLength: Math.floor(size * share),
    announcedLength: 'none',
  }),
  long: (size) => ({ bodyLength: size + 7, announcedLength: size + 7 }),
  longUnmeasured: (size) => ({ bodyLength: size + 7, announcedLength: 'none' }),
}
