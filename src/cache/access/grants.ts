// Records which repository has what, as links. A link in repository R says that R has the content: the
// upstream gave it there, or gave a manifest there that names it. What follows from a link is decided in
// access.ts.
import type { Descriptor } from '../../oci/descriptor.ts'
import type { Digest } from '../../oci/digest.ts'
import type { ManifestSummary } from '../../oci/manifest.ts'
import type { Repository } from '../../oci/reference.ts'
import type { Link, Links } from '../../store/records/links.ts'
import type { CacheObserver } from '../observer.ts'
import { RecordCache } from '../flight/record-cache.ts'
import type { WriteBehind } from '../flight/write-behind.ts'

/** A manifest that names more is hostile or broken: each of the rest needs a HEAD. */
export const MAX_GRANTS_PER_MANIFEST = 4096

/**
 * Stands for a whole registry; no repository name starts with a dot. A link here says that the registry
 * was seen to have the content, in whatever repository.
 */
const REGISTRY_WIDE = '.registry'

export interface GrantsOptions {
  readonly links: Pick<Links, 'get' | 'put'>
  readonly writes: WriteBehind
  readonly observer: Pick<CacheObserver, 'storeError'>
}

const MAX_LINKS = 100_000

export class Grants {
  readonly #links: Pick<Links, 'get' | 'put'>
  readonly #records: RecordCache<Link>

  constructor({ links, writes, observer }: GrantsOptions) {
    this.#links = links
    this.#records = new RecordCache({ name: 'link', writes, observer, capacity: MAX_LINKS })
  }

  /** Returns the link of `digest` in `repo` if it is in memory. */
  peek(repo: Repository, kind: Link['kind'], digest: Digest): Link | undefined {
    return this.#records.peek(keyOf(repo, kind, digest))
  }

  /** Returns the link of `digest` in `repo`. One that cannot be read counts as absent and is reported. */
  find(repo: Repository, kind: Link['kind'], digest: Digest): Promise<Link | undefined> {
    return this.#records.load(keyOf(repo, kind, digest), () => this.#links.get(repo, kind, digest))
  }

  /** Reports whether the registry is known, from memory, to have `digest`. */
  peekOrigin(registry: string, kind: Link['kind'], digest: Digest): boolean {
    return this.peek({ registry, name: REGISTRY_WIDE }, kind, digest) !== undefined
  }

  /** Reports whether the registry was seen to have `digest`, in any of its repositories. */
  async hasOrigin(registry: string, kind: Link['kind'], digest: Digest): Promise<boolean> {
    return (await this.find({ registry, name: REGISTRY_WIDE }, kind, digest)) !== undefined
  }

  /** Records that the upstream gave `digest` under `repo` itself, or answered a HEAD for it. */
  recordFetched(repo: Repository, digest: Digest, link: Link): void {
    const kept = link.kind === 'blob' ? asNamed(link, this.peek(repo, 'blob', digest)) : link
    this.#record(repo, digest, kept, true)
    this.#record({ registry: repo.registry, name: REGISTRY_WIDE }, digest, kept, false)
  }

  /**
   * Records what a manifest of `repo` names: the registry checked at push that the repository has it
   * (OCI distribution spec, "Pushing Manifests"). A `subject` may be absent there, so it grants
   * nothing. `persist: false` is for links that only memory lacks, as after a restart.
   */
  recordNamed(
    repo: Repository,
    summary: Pick<ManifestSummary, 'children' | 'blobs'>,
    from: { grantedBy: Link['grantedBy']; at: number },
    persist = true,
  ): void {
    const { children, blobs } = summary
    const granted = children.slice(0, MAX_GRANTS_PER_MANIFEST).map((child) => {
      return { descriptor: child, link: linkTo('manifest', child, from) }
    })
    for (const blob of blobs.slice(0, MAX_GRANTS_PER_MANIFEST - granted.length)) {
      granted.push({ descriptor: blob, link: linkTo('blob', blob, from) })
    }
    for (const { descriptor, link } of granted) {
      if (persist) this.#record(repo, descriptor.digest, link, false)
      else this.#remember(repo, descriptor.digest, link)
    }
  }

  #remember(repo: Repository, digest: Digest, link: Link): void {
    const key = keyOf(repo, link.kind, digest)
    if (this.#records.peek(key) === undefined) this.#records.put(key, link)
  }

  /**
   * Records a link; without `replace`, only if there is none yet. One that differs only in its time is
   * recorded too, because that is the age of what is served. The store rarely writes it: see Records#put.
   */
  #record(repo: Repository, digest: Digest, link: Link, replace: boolean): void {
    const key = keyOf(repo, link.kind, digest)
    if (!replace && this.#records.peek(key) !== undefined) return
    this.#records.put(key, link, async () => {
      if (!replace && (await this.#isStored(repo, link.kind, digest))) return
      await this.#links.put(repo, digest, link)
    })
  }

  /** A link that cannot be read is replaced. */
  async #isStored(repo: Repository, kind: Link['kind'], digest: Digest): Promise<boolean> {
    return (await this.#links.get(repo, kind, digest).catch(() => undefined)) !== undefined
  }
}

function keyOf(repo: Repository, kind: Link['kind'], digest: Digest): string {
  return `${kind} ${repo.registry}/${repo.name}@${digest}`
}

/**
 * Returns a blob's link with the size and type that a manifest named, which the manifest's digest
 * vouches for, and never with those of a response: one wrong header (an error page with 200, a proxy in
 * between) would make good bytes look damaged for ever.
 */
function asNamed({ kind, grantedBy, at }: Link, named: Link | undefined): Link {
  return {
    kind,
    ...(named?.mediaType !== undefined && { mediaType: named.mediaType }),
    ...(named?.size !== undefined && { size: named.size }),
    grantedBy,
    at,
  }
}

function linkTo(
  kind: Link['kind'],
  descriptor: Descriptor,
  from: { grantedBy: Link['grantedBy']; at: number },
): Link {
  const { mediaType, size } = descriptor
  return { kind, mediaType, size, grantedBy: from.grantedBy, at: from.at }
}
