// What a client is told, fault by fault: written by hand from design ("Failure"), as a reader would
// want to check it. Nothing here is computed by the code under test.

/**
 * One endpoint has the fault each time it is asked, and there is no other.
 *
 * `403 denied`: this status with this reason. `good`: the content, complete. `cut`: a response that
 * began and breaks off. `none`: an empty list. `-`: cannot occur, see CANNOT_OCCUR. Under "held": the
 * `detail` that what is held is served with, or `good`: what the upstream has by now.
 *
 * Blobs are `good` where asking again from where it broke brings the rest; so is one with something
 * behind its end, which nobody takes: its manifest says how long it is, and its digest is right.
 */
export const ONE_ENDPOINT = `
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
| wrong Content-Range: size         | -                     | 502 wrong-size        | 502 wrong-size        | -                     | -                     | -              | -               | -              |
| redirect to a dead host           | 503 refused           | 503 refused           | 503 refused           | 503 refused           | 503 refused           | upstream-error | upstream-error  | upstream-error |
| expired signed URL                | -                     | 403 denied            | 403 denied            | -                     | -                     | -              | -               | -              |
| expired signed URL, once          | -                     | good                  | good                  | -                     | -                     | -              | -               | -              |
| expired token in mid-blob         | -                     | good                  | good                  | -                     | -                     | -              | -               | -              |
`

/**
 * With a second endpoint that is well, every cell is `good`: what that endpoint has, complete. But for
 * these, where wrong bytes were sent before anybody could know: the response is cut, and the next one
 * is good. Of a small blob nothing is sent before it is verified, of a large one all but its end.
 */
export const TWO_ENDPOINTS: Readonly<Record<string, string>> = {
  'large blob, corrupt byte': 'cut',
}

/** Held content by digest is served without asking anybody, so no fault can be met at all. */
export const SERVED_WITHOUT_ASKING = ['manifest by digest', 'blob', 'large blob', 'token of a blob']

/** Why a cell with `-` cannot occur. */
export const CANNOT_OCCUR: Readonly<Record<string, string>> = {
  'wrong Content-Range: place': 'only blobs are asked for by Range',
  'wrong Content-Range: size': 'only blobs are asked for by Range',
  'expired signed URL': 'only blobs are redirected to signed URLs',
  'expired signed URL, once': 'only blobs are redirected to signed URLs',
  'expired token in mid-blob': 'only blobs are asked for again from where they broke',
}

/** The table as fault → column → cell. */
export function readTable(table: string): Map<string, Map<string, string>> {
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
