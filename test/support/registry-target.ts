// Parses what a request to a test registry is for from its path (spec, "Endpoints").
import type { RequestKind } from './faults.ts'

export interface RegistryTarget {
  readonly kind: RequestKind
  readonly repository?: string
  readonly reference?: string
}

const KINDS = new Map<string, RequestKind>([
  ['manifests', 'manifest'],
  ['blobs', 'blob'],
  ['referrers', 'referrers'],
])

/** Parses the path of `url`. `root` is the path where the API starts, usually "/v2". */
export function parseTarget(url: string, root: string): RegistryTarget {
  const path = decodeURIComponent((url.split('?')[0] ?? '').replace(/\/$/, ''))
  if (path === root) return { kind: 'ping' }
  if (!path.startsWith(`${root}/`)) return { kind: 'other' }
  const rest = path.slice(root.length + 1)
  if (rest === '_catalog') return { kind: 'catalog' }
  const tags = /^(.+)\/tags\/list$/.exec(rest)?.[1]
  if (tags !== undefined) return { kind: 'tags', repository: tags }
  const [, repository, kind, reference] =
    /^(.+)\/(manifests|blobs|referrers)\/([^/]+)$/.exec(rest) ?? []
  if (repository === undefined || reference === undefined) return { kind: 'other' }
  return { kind: KINDS.get(kind ?? '') ?? 'other', repository, reference }
}
