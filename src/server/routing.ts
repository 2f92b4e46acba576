// Where a request belongs, as the routes are told.
import type { Requester } from '../cache/caches.ts'
import type { Repository } from '../oci/reference.ts'
import type { Target } from '../oci/target.ts'

export interface Routed {
  readonly registry: string
  /** Canonical; absent for ping and catalog. */
  readonly repository?: Repository | undefined
  /** `<name>` exactly as it stood in the client's path. */
  readonly clientName?: string | undefined
  /** What stood before /v2: '' or '/docker.io'. */
  readonly clientPrefix: string
  readonly ns?: string | undefined
  /** The registry was named by the request, and is not just the default. */
  readonly named: boolean
}

/** A route below a repository, and on whose behalf it is read. */
export type RoutedRepository = Routed & {
  readonly repository: Repository
  readonly requester: Requester
}

export interface Router {
  /** Throws OciError NAME_UNKNOWN or NAME_INVALID. */
  route(target: Target, request: { ns?: string; host?: string }): Routed
}
