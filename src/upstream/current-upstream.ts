// One face over the upstreams of successive configurations. A request goes through the upstream of the
// configuration that it came in under, also after a reload.
import type { Repository } from '../oci/reference.ts'
import type { Requester, UpstreamFace } from './face/requester.ts'

type Asked<K extends keyof UpstreamFace> = Parameters<UpstreamFace[K]>

export class CurrentUpstream implements UpstreamFace {
  readonly #current: () => UpstreamFace

  constructor(current: () => UpstreamFace) {
    this.#current = current
  }

  headManifest(...asked: Asked<'headManifest'>): ReturnType<UpstreamFace['headManifest']> {
    return this.#of(asked[2]).headManifest(...asked)
  }

  getManifest(...asked: Asked<'getManifest'>): ReturnType<UpstreamFace['getManifest']> {
    return this.#of(asked[2]).getManifest(...asked)
  }

  headBlob(...asked: Asked<'headBlob'>): ReturnType<UpstreamFace['headBlob']> {
    return this.#of(asked[2]).headBlob(...asked)
  }

  blobSources(...asked: Asked<'blobSources'>): ReturnType<UpstreamFace['blobSources']> {
    return this.#of(asked[1]).blobSources(...asked)
  }

  tags(...asked: Asked<'tags'>): ReturnType<UpstreamFace['tags']> {
    return this.#of(asked[2]).tags(...asked)
  }

  referrers(...asked: Asked<'referrers'>): ReturnType<UpstreamFace['referrers']> {
    return this.#of(asked[2]).referrers(...asked)
  }

  budget(repo: Repository): ReturnType<UpstreamFace['budget']> {
    return this.#current().budget(repo)
  }

  #of({ epoch }: Requester): UpstreamFace {
    return epoch?.upstream ?? this.#current()
  }
}
