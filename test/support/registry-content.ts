// The content of a test registry: repositories with manifests, tags and blobs.
import type { Algorithm, Digest } from '../../src/oci/digest.ts'
import { bytesContent, contentDigest, type TestContent } from './content.ts'
import type { TestDescriptor } from './images.ts'

export interface HeldManifest {
  readonly bytes: Buffer
  readonly mediaType: string
}

export interface HeldRepository {
  readonly manifests: Map<Digest, HeldManifest>
  readonly tags: Map<string, Digest>
  readonly blobs: Map<Digest, TestContent>
}

/** Blobs belong to one repository, as in real registries, or to all of them. */
export class RegistryContent {
  readonly repositories = new Map<string, HeldRepository>()
  readonly #everywhere = new Map<Digest, TestContent>()

  /** Returns the repository with this name, and creates it if necessary. */
  repository(name: string): HeldRepository {
    const held = this.repositories.get(name) ?? {
      manifests: new Map(),
      tags: new Map(),
      blobs: new Map(),
    }
    this.repositories.set(name, held)
    return held
  }

  addBlob(digest: Digest, content: TestContent, repository?: string): void {
    const blobs = repository === undefined ? this.#everywhere : this.repository(repository).blobs
    blobs.set(digest, content)
  }

  blob(repository: string, digest: Digest): TestContent | undefined {
    return this.repositories.get(repository)?.blobs.get(digest) ?? this.#everywhere.get(digest)
  }

  addManifest(
    repository: string,
    bytes: Buffer,
    mediaType: string,
    tag?: string,
    algorithm?: Algorithm,
  ): TestDescriptor {
    const digest = contentDigest(bytesContent(bytes), algorithm)
    const held = this.repository(repository)
    held.manifests.set(digest, { bytes, mediaType })
    if (tag !== undefined) held.tags.set(tag, digest)
    return { mediaType, digest, size: bytes.length }
  }

  /** Returns the descriptors of the manifests with this subject (spec, "Listing Referrers"). */
  referrers(repository: string, subject: Digest | undefined): TestDescriptor[] {
    const manifests =
      this.repositories.get(repository)?.manifests ?? new Map<Digest, HeldManifest>()
    return [...manifests].flatMap(([digest, { bytes, mediaType }]) => {
      const document = readDocument(bytes)
      if (subject === undefined || document?.subject?.digest !== subject) return []
      const artifactType = document.artifactType ?? document.config?.mediaType
      const { annotations } = document
      const described = { mediaType, digest, size: bytes.length }
      return [
        {
          ...described,
          ...(artifactType ? { artifactType } : {}),
          ...(annotations ? { annotations } : {}),
        },
      ]
    })
  }
}

interface ReferrerDocument {
  readonly subject?: { readonly digest?: string }
  readonly artifactType?: string
  readonly config?: { readonly mediaType?: string }
  readonly annotations?: Readonly<Record<string, string>>
}

function readDocument(bytes: Buffer): ReferrerDocument | undefined {
  try {
    const document: ReferrerDocument | null = JSON.parse(bytes.toString())
    return document ?? undefined
  } catch {
    return undefined
  }
}
