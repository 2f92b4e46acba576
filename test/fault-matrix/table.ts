// The response to each fault, written by hand from README.md ("When an upstream fails"). Nothing
// here is computed by the code under test. expected.ts derives the expectation for each cell.

/**
 * The responses if the only endpoint always has the fault.
 *
 * - `403 denied`: this status with this reason;
 * - `good`: the content, complete;
 * - `cut`: a response that breaks off;
 * - `none`: an empty list;
 * - `-`: cannot occur, see CANNOT_OCCUR.
 *
 * Under "held": the `detail` with which the held content is served, or `good`: the new content.
 *
 * A blob is `good` if another request, from the byte where it broke off, gets the rest. So is a blob
 * with extra bytes after its end: the manifest states its size, so they are not read, and the digest
 * is right.
 */
const ONLY_ENDPOINT = `
| fault                             | manifest              | blob                  | large blob            | referrers             | token                 | held: tag      | held: referrers | held: token    |
|-----------------------------------|-----------------------|-----------------------|-----------------------|-----------------------|-----------------------|----------------|-----------------|----------------|
| 403 JSON                          | 403 denied            | 403 denied            | 403 denied            | 403 denied            | 403 denied            | denied         | denied          | denied         |
| 403 HTML                          | 403 blocked           | 403 blocked           | 403 blocked           | 403 blocked           | 403 blocked           | denied         | denied          | denied         |
| 404                               | 404 not-found         | 404 not-found         | 404 not-found         | none                  | 403 token-refused     | upstream-gone  | upstream-gone   | denied         |
| 401                               | 403 needs-credentials | 403 needs-credentials | 403 needs-credentials | 403 needs-credentials | 403 needs-credentials | denied         | denied          | denied         |
| 429 with seconds                  | 503 rate-limited      | 503 rate-limited      | 503 rate-limited      | 503 rate-limited      | 503 rate-limited      | rate-limited   | rate-limited    | rate-limited   |
| 429 with a date                   | 503 rate-limited      | 503 rate-limited      | 503 rate-limited      | 503 rate-limited      | 503 rate-limited      | rate-limited   | rate-limited    | rate-limited   |
| 429 without a time                | 503 rate-limited      | 503 rate-limited      | 503 rate-limited      | 503 rate-limited      | 503 rate-limited      | rate-limited   | rate-limited    | rate-limited   |
| 429 with a second, once           | good                  | good                  | good                  | good                  | good                  | rate-limited   | rate-limited    | rate-limited   |
| 500                               | 502 server-error      | 502 server-error      | 502 server-error      | 502 server-error      | 502 server-error      | upstream-error | upstream-error  | upstream-error |
| 502 HTML                          | 502 server-error      | 502 server-error      | 502 server-error      | 502 server-error      | 502 server-error      | upstream-error | upstream-error  | upstream-error |
| 503                               | 502 server-error      | 502 server-error      | 502 server-error      | 502 server-error      | 502 server-error      | upstream-error | upstream-error  | upstream-error |
| 503 with seconds                  | 502 server-error      | 502 server-error      | 502 server-error      | 502 server-error      | 502 server-error      | upstream-error | upstream-error  | upstream-error |
| 200 HTML                          | 502 not-a-manifest    | 502 protocol          | 502 protocol          | 502 protocol          | 502 protocol          | upstream-error | upstream-error  | upstream-error |
| refused                           | 503 refused           | 503 refused           | 503 refused           | 503 refused           | 503 refused           | upstream-error | upstream-error  | upstream-error |
| reset                             | 502 reset             | 502 reset             | 502 reset             | 502 reset             | 502 reset             | upstream-error | upstream-error  | upstream-error |
| DNS failure                       | 503 name-not-resolved | 503 name-not-resolved | 503 name-not-resolved | 503 name-not-resolved | 503 name-not-resolved | upstream-error | upstream-error  | upstream-error |
| TLS failure                       | 502 not-trusted       | 502 not-trusted       | 502 not-trusted       | 502 not-trusted       | 502 not-trusted       | upstream-error | upstream-error  | upstream-error |
| hang before headers               | 504 timed-out         | 504 timed-out         | 504 timed-out         | 504 timed-out         | 504 timed-out         | upstream-error | upstream-error  | upstream-error |
| stall before the first byte       | 504 timed-out         | 504 timed-out         | 504 timed-out         | 504 timed-out         | 504 timed-out         | upstream-error | upstream-error  | upstream-error |
| stall in body                     | 504 timed-out         | good                  | good                  | 504 timed-out         | 504 timed-out         | upstream-error | upstream-error  | upstream-error |
| cut at byte 0                     | 502 cut               | 502 cut               | 502 cut               | 502 cut               | 502 reset             | upstream-error | upstream-error  | upstream-error |
| cut at byte k                     | 502 cut               | good                  | good                  | 502 cut               | 502 reset             | upstream-error | upstream-error  | upstream-error |
| corrupt byte                      | 502 wrong-digest      | 502 wrong-digest      | cut                   | 502 protocol          | 502 protocol          | upstream-error | upstream-error  | upstream-error |
| corrupt byte at the end           | 502 not-a-manifest    | 502 wrong-digest      | cut                   | 502 protocol          | 502 protocol          | upstream-error | upstream-error  | upstream-error |
| short body                        | 502 not-a-manifest    | 502 wrong-size        | 502 wrong-size        | 502 protocol          | 502 protocol          | upstream-error | upstream-error  | upstream-error |
| short body, no length             | 502 not-a-manifest    | good                  | good                  | 502 protocol          | 502 protocol          | upstream-error | upstream-error  | upstream-error |
| long body                         | 502 not-a-manifest    | 502 wrong-size        | 502 wrong-size        | 502 protocol          | 502 protocol          | upstream-error | upstream-error  | upstream-error |
| long body, no length              | 502 not-a-manifest    | good                  | good                  | 502 protocol          | 502 protocol          | upstream-error | upstream-error  | upstream-error |
| wrong Content-Range: place        | -                     | 502 protocol          | 502 protocol          | -                     | -                     | -              | -               | -              |
| wrong Content-Range: size         | -                     | 502 protocol          | 502 protocol          | -                     | -                     | -              | -               | -              |
| redirect to a dead host           | 503 refused           | 503 refused           | 503 refused           | 503 refused           | 503 refused           | upstream-error | upstream-error  | upstream-error |
| expired signed URL                | -                     | 403 denied            | 403 denied            | -                     | -                     | -              | -               | -              |
| expired signed URL, once          | -                     | good                  | good                  | -                     | -                     | -              | -               | -              |
| expired token in mid-blob         | -                     | good                  | good                  | -                     | -                     | -              | -               | -              |
`

/** The differences if the CDN has the fault. */
export const AT_CDN: Readonly<Record<string, string>> = {
  // Chandlery's credentials are for the registry; it has none for the CDN.
  '401': '403 denied',
}

/**
 * Wrong bytes that were sent before they could be detected: the response is cut, and the next one
 * comes from another endpoint. A small blob is verified before any of it is sent; a large one is
 * sent except for its end.
 */
export const SENT_BEFORE_KNOWN = ['large blob, corrupt byte']

/** Why a cell with `-` cannot occur. */
export const CANNOT_OCCUR: Readonly<Record<string, string>> = {
  'wrong Content-Range: place': 'only blobs are asked for by Range',
  'wrong Content-Range: size': 'only blobs are asked for by Range',
  'expired signed URL': 'only blobs are redirected to signed URLs',
  'expired signed URL, once': 'only blobs are redirected to signed URLs',
  'expired token in mid-blob': 'only blobs are asked for again from where they broke',
}

/** The cells, by fault and column. */
export const TABLE: ReadonlyMap<string, ReadonlyMap<string, string>> = readTable(ONLY_ENDPOINT)

export const FAULTS: readonly string[] = [...TABLE.keys()]

/** Returns the cell of a fault in a column, or undefined if the fault cannot occur there. */
export function inTable(fault: string, column: string): string | undefined {
  const cell = TABLE.get(fault)?.get(column)
  if (cell === undefined) throw new Error(`the table has no cell ${fault}, ${column}`)
  return cell === '-' ? undefined : cell
}

function readTable(table: string): Map<string, Map<string, string>> {
  const [head = [], , ...rows] = table.trim().split('\n').map(readRow)
  return new Map(
    rows.map(([fault = '', ...cells]) => {
      return [fault, new Map(cells.map((cell, index) => [head[index + 1] ?? '', cell]))]
    }),
  )
}

function readRow(line: string): string[] {
  return line
    .split('|')
    .slice(1, -1)
    .map((cell) => cell.trim())
}
