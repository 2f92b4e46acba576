// A link: follows redirects by hand, so that Authorization stays behind and each one is judged.
import { UpstreamError } from '../face/failure.ts'
import type { UpstreamObserver } from '../face/observer.ts'
import { RedirectRefused, redirectTarget } from '../network/redirect.ts'
import type { Endpoint } from '../routing/endpoint.ts'
import type { MeasuredRequest } from './measure.ts'
import { laneOf } from './request.ts'
import type { AuthorizedRequest, ExchangeResponse, Link, ReachedResponse } from './request.ts'

interface Parts {
  readonly observer: Pick<UpstreamObserver, 'upstreamRedirect'> | undefined
  readonly now: () => number
}

const MAX_REDIRECTS = 10

export function redirects(
  { observer, now }: Parts,
  next: Link<MeasuredRequest, ExchangeResponse>,
): Link<AuthorizedRequest, ReachedResponse> {
  const follow: Link<AuthorizedRequest, ReachedResponse> = async (request, signal) => {
    const { endpoint, grant, urlList } = request
    const sentAtMs = now()
    let url = firstUrl(request)
    let authorization = grant?.header
    const common = { ...request, lane: laneOf(request), identified: grant?.scheme === 'bearer' }
    for (let followed = 0; followed <= MAX_REDIRECTS; followed++) {
      urlList.push(url)
      const response = await next({ ...common, url, authorization }, signal)
      const target = targetOf(endpoint, response, url)
      if (target === undefined) return { ...response, sentAtMs }
      response.body.discard()
      const { status } = response
      observer?.upstreamRedirect?.({ endpoint: endpoint.key, host: target.host, status })
      // Never sent again once left behind: the other host must not choose what is asked with it.
      if (target.origin !== url.origin) authorization = undefined
      url = target
    }
    throw refused(endpoint, `more than ${MAX_REDIRECTS} redirects`)
  }
  return async (request, signal) => {
    const response = await follow(request, signal)
    if (!isRefusedElsewhere(response)) return response
    // A signed URL may have expired on the way: ask the registry for a fresh one, once.
    response.body.discard()
    return await follow(request, signal)
  }
}

function firstUrl({ endpoint: { base }, name, path, query = '' }: AuthorizedRequest): URL {
  const url = new URL(base)
  url.pathname = `${base.pathname}/${name}/${path}`
  url.search = query
  return url
}

function targetOf(endpoint: Endpoint, response: ExchangeResponse, url: URL): URL | undefined {
  try {
    return redirectTarget(response, url)
  } catch (error) {
    response.body.discard()
    if (error instanceof RedirectRefused) throw refused(endpoint, error.message)
    throw error
  }
}

function isRefusedElsewhere({ status, asked }: ExchangeResponse): boolean {
  return asked.redirected && (status === 401 || status === 403)
}

function refused({ key }: Endpoint, what: string): UpstreamError {
  return new UpstreamError('redirect-refused', `${key}: ${what}`, { endpoint: key })
}
