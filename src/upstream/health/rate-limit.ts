// Reads how many requests a registry still grants from its headers: Docker Hub's (100;w=21600), or
// those of the IETF's draft and its predecessors. Pure.
import type { Headers } from '../../http/headers.ts'

export interface RateLimit {
  /** Requests granted in a window. */
  readonly limit: number
  /** Requests left in the window. */
  readonly remaining: number
  /** When the window ends, in milliseconds since 1970. */
  readonly untilMs: number
  /** What the registry counts by: an address, or an account's id. */
  readonly source?: string
}

const DEFAULT_WINDOW_S = 60
const MAX_WINDOW_S = 7 * 86_400
const MAX_SOURCE = 64
const PREFIXES = ['ratelimit', 'x-ratelimit']

/** Returns undefined if the headers name no limit that makes sense. */
export function parseRateLimit(headers: Headers, nowMs: number): RateLimit | undefined {
  for (const prefix of PREFIXES) {
    const limit = readItem(headers[`${prefix}-limit`])
    const remaining = readItem(headers[`${prefix}-remaining`])
    if (limit === undefined || remaining === undefined || limit.value === 0) continue
    const window = remaining.window ?? limit.window
    const seconds = window ?? readReset(headers[`${prefix}-reset`], nowMs) ?? DEFAULT_WINDOW_S
    const source = readSource(headers['docker-ratelimit-source'])
    return {
      ...(source !== undefined && { source }),
      limit: limit.value,
      remaining: Math.min(remaining.value, limit.value),
      untilMs: nowMs + Math.min(seconds, MAX_WINDOW_S) * 1000,
    }
  }
  return undefined
}

/** Reads "100", "100;w=21600", or the first item of such a list. */
function readItem(header: string | string[] | undefined) {
  const text = typeof header === 'string' ? header : header?.[0]
  const item = /^\s*(\d{1,12})\s*(?:;([^,]*))?(?:,|$)/.exec(text ?? '')
  if (item === null) return undefined
  const window = /(?:^|;)\s*w\s*=\s*(\d{1,9})\s*(?:;|$)/.exec(item[2] ?? '')?.[1]
  return { value: Number(item[1]), window: window === undefined ? undefined : Number(window) }
}

/** Refuses anything unusual: the value is shown in metrics. */
function readSource(header: string | string[] | undefined): string | undefined {
  if (typeof header !== 'string' || header.length > MAX_SOURCE) return undefined
  return /^[\w.:-]+$/.test(header) ? header : undefined
}

/** Reads seconds, or seconds since 1970. */
function readReset(header: string | string[] | undefined, nowMs: number): number | undefined {
  if (typeof header !== 'string' || !/^\s*\d{1,12}\s*$/.test(header)) return undefined
  const seconds = Number(header)
  return seconds > 1e9 ? Math.max(0, Math.ceil(seconds - nowMs / 1000)) : seconds
}
