// A manifest as a client gets it.
import type { CacheOutcome } from '../../http/cache-status.ts'
import type { Digest } from '../../oci/digest.ts'
import type { FetchedManifest, ManifestHead } from '../../upstream/face/answers.ts'

export interface ServedManifest {
  readonly digest: Digest
  readonly mediaType: string
  /** Bytes, as Content-Length. */
  readonly size: number
  /** Always there on get; on head only where they came anyway. */
  readonly bytes?: Buffer
  readonly cache: CacheOutcome
}

/** Docker schema 1: its digest says nothing of its bytes, so it is neither kept nor remembered. */
export function passedThrough(found: ManifestHead | FetchedManifest): ServedManifest {
  const { digest, mediaType } = found
  const cache: CacheOutcome = { state: 'bypass', fwdStatus: 200 }
  return 'bytes' in found
    ? { digest, mediaType, size: found.bytes.length, bytes: found.bytes, cache }
    : { digest, mediaType, size: found.size, cache }
}
