// Which kind of failure an answer or a network error is, and what to do about it: pure, one row per
// case. The message is for the operator: it names the configuration key to change, and no secret.
import { bareType } from '../../oci/media-types.ts'
import { parseRetryAfter } from '../../http/retry-after.ts'
import { isObject } from '../../oci/descriptor.ts'
import type { Credential } from '../credentials/credentials.ts'
import { UpstreamError } from '../face/failure.ts'
import type { FailureReason } from '../face/failure.ts'
import { asText, parseObject } from '../../oci/json-object.ts'
import type { Headers } from '../../http/headers.ts'

/** Who was asked, and as whom. */
export interface Asked {
  /** The endpoint's `key`. */
  readonly endpoint: string
  /** What was asked: the endpoint, or where a redirect or a challenge led. */
  readonly url: URL
  /** Its key in `configs`: the endpoint's `host`, or that of `url`. */
  readonly host: string
  /** The key in `configs` under which our credential is: the endpoint's `host`. */
  readonly authHost: string
  /** It is not the endpoint that was asked, but where it redirected to. */
  readonly redirected: boolean
  /** It is not the endpoint that was asked, but its token server. */
  readonly forToken: boolean
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
  const retryAfterMs = readRetryAfter(refusal.headers, nowMs)
  const [reason, what] = judge(refusal, asked, retryAfterMs)
  return new UpstreamError(reason, `${asked.endpoint}: ${what}${quoteError(refusal)}`, {
    endpoint: asked.endpoint,
    status: refusal.status,
    retryAfterMs,
  })
}

function judge(refusal: Refusal, asked: Asked, retryAfterMs: number | undefined): Verdict {
  const { status } = refusal
  const who = subjectOf(asked)
  if (isRateLimit(refusal)) return ['rate-limited', rateLimit(status, asked, retryAfterMs)]
  if (status === 401) return judge401(asked, who)
  if (status === 403 || status === 451) return judge403(refusal, asked, who)
  if (status === 404 || status === 410) return ['not-found', `${who} does not have it (${status})`]
  if (status === 400) return judge400(refusal, asked, who)
  if (status === 408)
    return ['timed-out', `${who} timed out waiting for our request (408): ${ELSEWHERE}`]
  if (status === 508) return ['loop', loopMessage(asked)]
  if (status >= 500) return ['server-error', `${who} failed (${status}): ${ELSEWHERE}`]
  const cure = `check ${writtenIn(asked)} and its path`
  return ['protocol', `${who} answered ${status}, which does not answer the request: ${cure}`]
}

const ELSEWHERE = 'look there, or list another endpoint before it in mirrors.<registry>.endpoint'

/** Who answered, after the endpoint's own name. */
function subjectOf({ url, redirected, forToken }: Asked): string {
  if (forToken) return `its token server ${url.host}`
  return redirected ? `${url.host}, where it redirects to,` : 'it'
}

/** Where what was asked is written. */
export function writtenIn({ endpoint, redirected, forToken }: Asked): string {
  if (forToken) return `the realm that ${endpoint} names`
  return redirected ? `where ${endpoint} redirects to` : 'mirrors.<registry>.endpoint'
}

function rateLimit(status: number, asked: Asked, retryAfterMs: number | undefined): string {
  const time = retryAfterMs === undefined ? '' : ` for ${Math.ceil(retryAfterMs / 1000)} s`
  const login = `set configs."${asked.authHost}".auth: a user may have a higher limit`
  const elsewhere = 'list another endpoint in mirrors.<registry>.endpoint'
  const cure = asked.credential === 'anonymous' ? login : elsewhere
  return `${subjectOf(asked)} is rate-limiting us (${status})${time}: ${cure}`
}

function judge401(asked: Asked, who: string): Verdict {
  const key = `configs."${asked.authHost}".auth`
  if (asked.redirected) {
    const cure = `write ${asked.url.origin} in mirrors.<registry>.endpoint if that is the registry`
    return ['denied', `${who} asks for credentials (401): ${cure}`]
  }
  if (asked.credential === 'bearer') {
    const token = `the registrytoken of ${asked.authHost} in dockerConfig`
    return ['bad-credentials', `${who} refuses ${token} (401): it may be too old, get a new one`]
  }
  if (asked.credential === 'anonymous') {
    const cure = `check the name, and if it is private set ${key}`
    return ['needs-credentials', `${who} asks for credentials (401): ${cure}`]
  }
  if (asked.identified) {
    const cure = `check the name, and what the user in ${key} or dockerConfig may read`
    return ['denied', `${who} accepts our credentials, but denies this user access (401): ${cure}`]
  }
  const cure = `check ${key}, or dockerConfig where that is not set`
  return ['bad-credentials', `${who} refuses our credentials (401): ${cure}`]
}

function judge403(refusal: Refusal, asked: Asked, who: string): Verdict {
  const { status } = refusal
  if (status === 451 || isHtml(refusal)) {
    const how = status === 451 ? 'for legal reasons (451)' : 'with a web page (403)'
    const cure = 'list another endpoint before it in mirrors.<registry>.endpoint'
    return ['blocked', `${asked.url.host} blocks us ${how}: ${cure}`]
  }
  if (asked.redirected) {
    const cure = 'check what it allows our address, and the clocks'
    return ['denied', `${who} refuses this (403): ${cure}`]
  }
  const key = `configs."${asked.authHost}".auth`
  if (asked.credential === 'anonymous') {
    return ['denied', `${who} refuses this without credentials (403): set ${key}`]
  }
  const cure = `check what the user in ${key} or dockerConfig may read`
  return ['denied', `${who} does not let our user have it (403): ${cure}`]
}

function judge400(refusal: Refusal, asked: Asked, who: string): Verdict {
  // nginx and Go's net/http say so when a request without TLS comes to their TLS port.
  if (
    /plain HTTP request was sent to HTTPS port|HTTP request to an HTTPS server/i.test(refusal.body)
  ) {
    return ['not-plain-http', notPlainHttp(asked)]
  }
  // A name or tag this registry could never hold.
  if (/^(NAME|TAG|DIGEST|MANIFEST)_INVALID$|_UNKNOWN$/.test(readError(refusal.body).code ?? '')) {
    return ['not-found', `${who} can have nothing of that name (400)`]
  }
  const cure = `check ${writtenIn(asked)} and its path`
  return ['protocol', `${who} calls our request malformed (400): ${cure}`]
}

function isRateLimit(refusal: Refusal): boolean {
  if (refusal.status === 429) return true
  return refusal.status < 500 && readError(refusal.body).code === 'TOOMANYREQUESTS'
}

/** A page for people: a block, a login, a portal. */
export function isHtml(refusal: Pick<Refusal, 'headers' | 'body'>): boolean {
  const type = bareType(first(refusal.headers['content-type']))
  return type === 'text/html' || /^\s*<(!doctype html|html)\b/i.test(refusal.body)
}

function loopMessage(asked: Asked): string {
  const cure = 'take it out of mirrors.<registry>.endpoint, or this server out of its endpoints'
  return `asking ${asked.url.host} leads back to this server, a loop (508): ${cure}`
}

/** The cure is the scheme: it alone decides. */
export function notPlainHttp(asked: Asked): string {
  return `${asked.url.host} speaks HTTPS: write https://${asked.url.host} in ${writtenIn(asked)}`
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

// What it says about itself (protocol.md A6: no shape of it may be relied on).

const MAX_QUOTE = 200

function quoteError(refusal: Refusal): string {
  if (isHtml(refusal)) return ''
  const { code, message } = readError(refusal.body)
  const parts = [code, message].filter((part) => part !== undefined && part !== '')
  return parts.length === 0 ? '' : `; it says: ${tidy(parts.join(' '))}`
}

/**
 * The first error of an error body of any shape: OCI's, {message}, {details}, {error}; else
 * nothing.
 */
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

/**
 * One line of printable text without secrets that it may repeat: it goes into logs and messages.
 */
function tidy(text: string): string {
  const start = text.slice(0, 10 * MAX_QUOTE).replaceAll(/[^\x20-\x7e]+/g, ' ')
  const line = withoutSecrets(start).trim()
  return line.length > MAX_QUOTE ? `${line.slice(0, MAX_QUOTE)}…` : line
}

/** Without signatures in URLs, tokens and passwords. */
function withoutSecrets(text: string): string {
  return text
    .replaceAll(/\b(https?:\/\/)[^\s/?#"'<>]*@/gi, '$1')
    .replaceAll(/\b(https?:\/\/[^\s?#"'<>]*)[?#][^\s"'<>]*/gi, '$1?...')
    .replaceAll(/\b(bearer|basic)\s+[\w+/=~.-]{8,}/gi, '$1 ...')
    .replaceAll(/\beyJ[\w-]{8,}[\w.-]*/g, '...')
}

function first(header: string | string[] | undefined): string | undefined {
  return typeof header === 'string' ? header : header?.[0]
}
