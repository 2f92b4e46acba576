// Conditional requests against a known entity tag (RFC 9110 13). Content here has no dates.

const ENTITY_TAG = /(?:W\/)?("[^"]*")|([^\s,"]+)/gi

/** Whether the content is to be sent (true) or 304 (false): If-None-Match, compared weakly. */
export function noneMatch(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return true
  if (ifNoneMatch.trim() === '*') return false
  const own = opaque(etag)
  for (const [, quoted, bare] of ifNoneMatch.matchAll(ENTITY_TAG)) {
    // Some clients leave out the quotes that belong to the tag.
    if ((quoted ?? `"${bare}"`) === own) return false
  }
  return true
}

/** Whether Range is to be honoured: no If-Range, or one that is the strong entity tag itself. */
export function ifRangeHolds(ifRange: string | undefined, etag: string): boolean {
  return ifRange === undefined || (etag.startsWith('"') && ifRange.trim() === etag)
}

function opaque(etag: string): string {
  return etag.startsWith('W/') ? etag.slice(2) : etag
}
