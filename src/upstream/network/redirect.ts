// Where a redirect leads, and whether it is followed. Pure. Which addresses may be connected to is the
// transport's rule, because names must be resolved for it.
import type { Head } from './body-stream.ts'

/** A redirect is not followed. The message is for the operator and holds no query. */
export class RedirectRefused extends Error {
  override readonly name = 'RedirectRefused'
}

/** The longest DNS name (RFC 1035 2.3.4). URL has no limit. */
export const MAX_HOSTNAME = 255
const FOLLOWED = new Set([301, 302, 303, 307, 308])

/**
 * Returns the URL to ask next, or undefined if the answer is not a redirect. Throws RedirectRefused
 * without a usable Location, and from https to http: there the answer could be read and replaced.
 */
export function redirectTarget(answer: Head, from: URL): URL | undefined {
  if (!FOLLOWED.has(answer.status)) return undefined
  const location = answer.headers['location']
  const to = typeof location === 'string' ? parse(location, from) : undefined
  if (to === undefined) throw new RedirectRefused(`redirects (${answer.status}) to no URL`)
  if (to.protocol !== 'http:' && to.protocol !== 'https:') {
    throw new RedirectRefused(`redirects to ${to.protocol.slice(0, 20)} which is not followed`)
  }
  if (from.protocol === 'https:' && to.protocol === 'http:') {
    throw new RedirectRefused(`redirects from https to http://${to.host}, which is not followed`)
  }
  if (to.username !== '' || to.password !== '') {
    throw new RedirectRefused(`redirects to ${to.host} with a password, which is not followed`)
  }
  to.hash = ''
  return to
}

function parse(location: string, from: URL): URL | undefined {
  const to = URL.canParse(location, from) ? new URL(location, from) : undefined
  return to !== undefined && to.hostname.length <= MAX_HOSTNAME ? to : undefined
}
