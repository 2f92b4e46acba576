// Which kind of failure an answer or a network error is, and what to do about it: pure, one row per
// case. The message is for the operator: it names the configuration key to change, and no secret.
import { bareType } from '../oci/media-types.ts'
import { parseRetryAfter } from '../http/retry-after.ts'
import { isObject } from '../oci/descriptor.ts'
import type { Credential } from './credentials.ts'
import type { Headers } from './exchange.ts'
import { UpstreamError } from './failure.ts'
import type { FailureReason } from './failure.ts'
import { asText, parseObject } from './json-object.ts'

/** Who was asked, and as whom. */
export interface Asked {
  /** The endpoint's `key`. */
  readonly endpoint: string
  /** What was asked: the endpoint, or where a redirect or a challenge led. */
  readonly url: URL
  /** Its key in `configs`: the endpoint's `host`, or that of `url`. */
  readonly host: string
  readonly redirected: boolean
  readonly credential: Credential['kind']
  /** Whether a token server accepted who we are, so that a refusal is about what we asked for. */
  readonly identified: boolean
}

export interface Refusal {
  readonly status: number
  readonly headers: Headers
  /** The beginning of the body; may be empty (HEAD). */
  readonly body: string
}

type Verdict = readonly [reason: FailureReason, what: string]

/** What an answer that is not the content means. `nowMs` is for dates in Retry-After. */
export function diagnoseAnswer(refusal: Refusal, asked: Asked, nowMs: number): UpstreamError {
  const [reason, what] = judge(refusal, asked)
  const retryAfterMs = readRetryAfter(refusal.headers, nowMs)
  const wait = reason === 'rate-limited' ? describeWait(retryAfterMs) : ''
  return new UpstreamError(reason, `${asked.endpoint}: ${what}${wait}`, {
    endpoint: asked.endpoint,
    status: refusal.status,
    retryAfterMs,
  })
}

function judge(refusal: Refusal, asked: Asked): Verdict {
  const { status } = refusal
  const said = quoteError(refusal)
  if (isRateLimit(refusal)) return ['rate-limited', `rate limited (${status})${said}`]
  if (status === 401) return judge401(asked, said)
  if (status === 403 || status === 451) return judge403(refusal, asked, said)
  if (status === 404 || status === 410) return ['not-found', `not found (${status})${said}`]
  if (status === 400) return judge400(refusal, asked, said)
  if (status === 408) return ['timed-out', `gave up waiting for our request (408)`]
  if (status === 508) return ['loop', loopMessage(asked)]
  if (status >= 500) return ['server-error', `server error (${status})${said}`]
  return ['protocol', `answered ${status}, which does not answer the request${said}`]
}

function judge401(asked: Asked, said: string): Verdict {
  const key = `configs."${asked.host}".auth`
  if (asked.redirected) {
    const cure = `write ${asked.url.origin} in mirrors.<registry>.endpoint if that is the registry`
    return [
      'denied',
      `it redirects to ${asked.url.host}, which asks for credentials: ${cure}${said}`,
    ]
  }
  if (asked.credential === 'bearer') {
    const cure = 'it may have expired, log in again'
    return [
      'bad-credentials',
      `it refuses the registrytoken that dockerConfig has for ${asked.host}: ${cure}${said}`,
    ]
  }
  if (asked.credential === 'anonymous') {
    return ['needs-credentials', `private or unknown to it: set ${key} if it is private${said}`]
  }
  if (asked.identified) {
    return ['denied', `unknown to it, or not for the user in ${key}${said}`]
  }
  return ['bad-credentials', `it refuses the credentials in ${key}${said}`]
}

function judge403(refusal: Refusal, asked: Asked, said: string): Verdict {
  if (refusal.status === 451 || isHtml(refusal)) {
    const cure = 'list another endpoint before it in mirrors.<registry>.endpoint'
    return ['blocked', `${asked.url.host} blocks us (HTML ${refusal.status}): ${cure}${said}`]
  }
  if (asked.redirected)
    return ['denied', `${asked.url.host}, where it redirects to, refuses (403)${said}`]
  if (asked.credential !== 'anonymous') {
    return ['denied', `not for the user in configs."${asked.host}".auth (403)${said}`]
  }
  return ['denied', `not for everybody (403): set configs."${asked.host}".auth${said}`]
}

function judge400(refusal: Refusal, asked: Asked, said: string): Verdict {
  // nginx and Go's net/http say so when a request without TLS comes to their TLS port.
  if (
    /plain HTTP request was sent to HTTPS port|HTTP request to an HTTPS server/i.test(refusal.body)
  ) {
    return ['not-plain-http', notPlainHttp(asked)]
  }
  // A name or tag this registry could never hold.
  if (/^(NAME|TAG|DIGEST|MANIFEST)_INVALID$|_UNKNOWN$/.test(readError(refusal.body).code ?? '')) {
    return ['not-found', `not found (400)${said}`]
  }
  return ['protocol', `refuses the request as malformed (400)${said}`]
}

function isRateLimit(refusal: Refusal): boolean {
  if (refusal.status === 429) return true
  return refusal.status < 500 && readError(refusal.body).code === 'TOOMANYREQUESTS'
}

function isHtml(refusal: Refusal): boolean {
  const type = bareType(first(refusal.headers['content-type']))
  return type === 'text/html' || /^\s*<(!doctype html|html)\b/i.test(refusal.body)
}

function loopMessage(asked: Asked): string {
  const cure = 'take it out of mirrors.<registry>.endpoint, or this server out of its endpoints'
  return `asking ${asked.url.host} is a loop, it leads back to who asks (508): ${cure}`
}

/** The cure is the scheme: it alone decides. */
export function notPlainHttp(asked: Asked): string {
  return `the server speaks HTTPS: write https://${asked.url.host} in mirrors.<registry>.endpoint`
}

// How long to wait.

/** Retry-After, or what Docker Hub and others send instead: seconds, or seconds since 1970. */
function readRetryAfter(headers: Headers, nowMs: number): number | undefined {
  const standard = parseRetryAfter(first(headers['retry-after']), nowMs)
  if (standard !== undefined) return standard
  for (const name of ['x-retry-after', 'ratelimit-reset', 'x-ratelimit-reset']) {
    const text = first(headers[name])?.trim() ?? ''
    if (!/^\d{1,12}$/.test(text)) continue
    const seconds = Number(text) > 1e9 ? Math.ceil(Number(text) - nowMs / 1000) : Number(text)
    return parseRetryAfter(String(Math.max(seconds, 0)), nowMs)
  }
  return undefined
}

function describeWait(retryAfterMs: number | undefined): string {
  if (retryAfterMs === undefined) return ''
  return `, for ${Math.ceil(retryAfterMs / 1000)} s`
}

// What it says about itself (protocol.md A6: any shape must do).

const MAX_QUOTE = 200

function quoteError(refusal: Refusal): string {
  if (isHtml(refusal)) return ''
  const { code, message } = readError(refusal.body)
  const parts = [code, message].filter((part) => part !== undefined && part !== '')
  return parts.length === 0 ? '' : `: ${tidy(parts.join(' '))}`
}

/** The first error of an error body of any shape: OCI's, {message}, {details}, {error}; else nothing. */
export function readError(body: string): { code?: string; message?: string } {
  const json = parseObject(body)
  const errors: unknown[] = Array.isArray(json?.['errors']) ? json['errors'] : []
  const error = errors.find(isObject) ?? json
  const code = asText(error?.['code'])
  const message = [error?.['message'], error?.['details'], error?.['error']]
    .map(asText)
    .find((text) => text !== undefined)
  return { ...(code !== undefined && { code }), ...(message !== undefined && { message }) }
}

/** One line of printable text: it goes into logs and messages. */
function tidy(text: string): string {
  const line = text.replaceAll(/[^\x20-\x7e]+/g, ' ').trim()
  return line.length > MAX_QUOTE ? `${line.slice(0, MAX_QUOTE)}…` : line
}

function first(header: string | string[] | undefined): string | undefined {
  return typeof header === 'string' ? header : header?.[0]
}
