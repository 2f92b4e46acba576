// Builds entries of `mirrors` as the configuration parses them from a file.
import type { Mirror } from '../../src/config/config.ts'
import { normaliseEndpoint } from '../../src/upstream/routing/endpoint.ts'
import { Rewrite } from '../../src/upstream/routing/rewrite.ts'

export interface WrittenMirror {
  readonly endpoint?: readonly string[]
  /** In the order in which they are tried. */
  readonly rewrite?: Readonly<Record<string, string>>
  readonly hosts?: readonly string[]
}

export function mirrorFrom(registry: string, written: WrittenMirror = {}): Mirror {
  const { endpoint = [], rewrite = {}, hosts = [] } = written
  return {
    registry,
    endpoints: endpoint.map((text) => ({ ...normaliseEndpoint(text), written: text })),
    rewrites: Object.entries(rewrite).map(([pattern, replacement]) => ({
      rewrite: new Rewrite(pattern, replacement),
    })),
    hosts,
  }
}
