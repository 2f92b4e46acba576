// On whose behalf something is read. Not the client itself: only what the upstream has to see.
import { cdnHops } from '../../http/cdn-loop.ts'
import type { Requester } from '../../upstream/face/requester.ts'

/** Passed through every read; a client's own credential can take the configured one's place later. */
export type Caller = Requester

/**
 * The key of work that callers share, if they came through equally many caches. With others it is
 * not shared: of two caches that lead to each other, each would wait for work of the other that
 * waits for its own. So everybody waits only for those who came further, and a chain of them ends
 * where a cache reads its own name in CDN-Loop.
 */
export function sharedKey(key: string, caller: Caller): string {
  const { epoch } = caller
  const shared = downloadKey(key, caller)
  // Work that began otherwise may fail for what has been put right meanwhile.
  return epoch === undefined ? shared : `${shared} in ${epoch.number}`
}

/** The same for a download, which takes the sources of all who join it. */
export function downloadKey(key: string, { cdnLoop }: Caller): string {
  return cdnLoop === undefined ? key : `${key} ${cdnHops(cdnLoop)}`
}
