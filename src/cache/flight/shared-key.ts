// Which requests may share work: the keys under which it is coalesced.
import { cdnHops } from '../../http/cdn-loop.ts'
import type { Requester } from '../../upstream/face/requester.ts'

/**
 * Returns the key of work that requests share if they came through equally many caches, under the
 * same configuration. If two caches led to each other and shared more, each would wait for work of
 * the other that waits for its own. Like this, a request waits only for requests that came through
 * as many caches, and a circle ends where a cache reads its own name in CDN-Loop.
 */
export function sharedKey(key: string, requester: Requester): string {
  const { epoch } = requester
  const shared = downloadKey(key, requester)
  // Work of an earlier configuration may fail for what has been put right since.
  return epoch === undefined ? shared : `${shared} in ${epoch.number}`
}

/** As `sharedKey`, for a download: it takes the sources of all who join, so configurations may mix. */
export function downloadKey(key: string, { cdnLoop }: Requester): string {
  return cdnLoop === undefined ? key : `${key} ${cdnHops(cdnLoop)}`
}
