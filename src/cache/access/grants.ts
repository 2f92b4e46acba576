// Which repository may read what: links in memory, written to the store behind the answer. A link
// in repository R says that R has the content: the upstream gave it there, or gave a manifest
// there that names it. Not the decision itself: see access.ts.
import type { Descriptor } from '../../oci/descriptor.ts'
import type { Digest } from '../../oci/digest.ts'
import type { ManifestSummary } from '../../oci/manifest.ts'
import type { Repository } from '../../oci/reference.ts'
import type { Link, Links } from '../../store/records/links.ts'
import type { CacheObserver } from '../observer.ts'
import { RecordCache } from '../flight/record-cache.ts'
import type { WriteBehind } from '../flight/write-behind.ts'

/** A manifest that names more than this is hostile or broken: the rest needs a HEAD each. */
export const MAX_GRANTS_PER_MANIFEST = 4096

/**
 * No legal repository name starts with a dot, so it meets no real one. A link here says that the registry itself
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

  /** The link of `digest` in `repo`, from memory alone. */
  peek(repo: Repository, kind: Link['kind'], digest: Digest): Link | undefined {
    return this.#records.peek(keyOf(repo, kind, digest))
  }

  /** The link of `digest` in `repo`. An unreadable one counts as none and is reported. */
  find(repo: Repository, kind: Link['kind'], digest: Digest): Promise<Link | undefined> {
    return this.#records.load(keyOf(repo, kind, digest), () => this.#links.get(repo, kind, digest))
  }

  /** Whether the registry was seen to have `digest`, from memory alone. */
  peekOrigin(registry: string, kind: Link['kind'], digest: Digest): boolean {
    return this.peek({ registry, name: REGISTRY_WIDE }, kind, digest) !== undefined
  }

  /** Whether the registry was seen to have `digest`, in any of its repositories. */
  async hasOrigin(registry: string, kind: Link['kind'], digest: Digest): Promise<boolean> {
    return (await this.find({ registry, name: REGISTRY_WIDE }, kind, digest)) !== undefined
  }

  /** The upstream gave (or answered a HEAD for) `digest` under `repo` itself. */
  recordFetched(repo: Repository, digest: Digest, link: Link): void {
    const kept = link.kind === 'blob' ? asNamed(link, this.peek(repo, 'blob', digest)) : link
    this.#record(repo, digest, kept, true)
    this.#record({ registry: repo.registry, name: REGISTRY_WIDE }, digest, kept, false)
  }

  /**
   * A manifest of `repo` names these: the registry checked at push that the repository has them
   * (OCI distribution spec, "Pushing Manifests"). `subject` may be absent there, so it grants
   * nothing. `persist: false` for links that only memory lacks, as after a restart.
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

  /** `replace`: this link knows better than one that is there already. */
  #record(repo: Repository, digest: Digest, link: Link, replace: boolean): void {
    const key = keyOf(repo, link.kind, digest)
    const known = this.#records.peek(key)
    if (known !== undefined && (!replace || sameLink(known, link))) return
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

function sameLink(a: Link, b: Link): boolean {
  return a.mediaType === b.mediaType && a.size === b.size && a.grantedBy === b.grantedBy
}

/**
 * Size and type of a blob are a manifest's to say, whose own digest vouches for them. A header that
 * is wrong once (a page with 200, a proxy in between) would make good bytes look damaged for ever.
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
