// A manifest as a client gets it.
import type { CacheOutcome } from '../../http/cache-status.ts'
import type { Digest } from '../../oci/digest.ts'
import type { FetchedManifest, ManifestHead } from '../../upstream/face/answers.ts'

export interface ServedManifest {
  readonly digest: Digest
  readonly mediaType: string
  /** In bytes, as Content-Length says it. */
  readonly size: number
  /** Always present on `get`; on `head` only if they came anyway. */
  readonly bytes?: Buffer
  readonly cache: CacheOutcome
}

/** Serves Docker schema 1, which is not kept: its digest is not that of its bytes. */
export function passedThrough(found: ManifestHead | FetchedManifest): ServedManifest {
  const { digest, mediaType } = found
  const cache: CacheOutcome = { state: 'bypass', fwdStatus: 200 }
  return 'bytes' in found
    ? { digest, mediaType, size: found.bytes.length, bytes: found.bytes, cache }
    : { digest, mediaType, size: found.size, cache }
}
