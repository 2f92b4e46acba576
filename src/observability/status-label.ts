// Turns the status codes of upstreams into a bounded set of label values, whatever upstreams send.

/** Codes that registries, storage hosts, token servers and their front ends use; 520 to 530 are Cloudflare's. */
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
 * Returns the label of an outcome. A status in common use, or a reason that is not a status, is its own
 * label. Any other status becomes its class ("4xx"), or "other" if it has none.
 */
export function statusLabel(outcome: string): string {
  if (!/^\d/.test(outcome) || KNOWN.has(outcome)) return outcome
  return /^[1-5]\d\d$/.test(outcome) ? `${outcome.charAt(0)}xx` : 'other'
}
