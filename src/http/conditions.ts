// Conditional requests (RFC 9110 section 13) for content with an entity tag and no date.

const ENTITY_TAG = /(?:W\/)?("[^"]*")|([^\s,"]+)/gi

/** Reports whether If-None-Match lets the content be sent; if not, the response is 304. Compares weakly. */
export function noneMatch(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return true
  if (ifNoneMatch.trim() === '*') return false
  const own = opaque(etag)
  for (const [, quoted, bare] of ifNoneMatch.matchAll(ENTITY_TAG)) {
    // Some clients omit the quotes of the tag.
    if ((quoted ?? `"${bare}"`) === own) return false
  }
  return true
}

/** Reports whether Range is to be honoured: If-Range is absent, or equals the strong entity tag. */
export function ifRangeHolds(ifRange: string | undefined, etag: string): boolean {
  return ifRange === undefined || (etag.startsWith('"') && ifRange.trim() === etag)
}

function opaque(etag: string): string {
  return etag.startsWith('W/') ? etag.slice(2) : etag
}
