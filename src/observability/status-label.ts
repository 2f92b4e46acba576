// Status codes that upstreams choose, as values of a label: bounded, whatever they send.

/** What registries, storage hosts, token servers and the fronts before them answer; 520 to 530 are Cloudflare's. */
const KNOWN: ReadonlySet<string> = new Set(
  [
    [200, 201, 202, 203, 204, 206],
    [300, 301, 302, 303, 304, 307, 308],
    [400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417],
    [421, 422, 425, 426, 428, 429, 431, 451],
    [500, 501, 502, 503, 504, 505, 507, 508, 511],
    [520, 521, 522, 523, 524, 525, 526, 530],
  ]
    .flat()
    .map(String),
)

/**
 * Returns the label of an outcome: a status that is in common use and a reason that is no status
 * stand for themselves, another status for its class ("4xx"), and what has no class is "other".
 */
export function statusLabel(outcome: string): string {
  if (!/^\d/.test(outcome) || KNOWN.has(outcome)) return outcome
  return /^[1-5]\d\d$/.test(outcome) ? `${outcome.charAt(0)}xx` : 'other'
}
