// A registry for tests on a real socket. It serves the content that a test adds, counts what it
// sends, and has the faults that a test sets. It asserts nothing.
import type { IncomingMessage, ServerResponse } from 'node:http'
import { parseDigest, type Algorithm, type Digest } from '../../src/oci/digest.ts'
import { bytesContent, contentDigest, syntheticContent, type TestContent } from './content.ts'
import { neededScope, refusal, type RegistryAuth } from './registry-auth.ts'
import { parseTarget, type RegistryTarget } from './registry-target.ts'
import {
  Faults,
  type ActiveFault,
  type Fault,
  type RequestKind,
  type SigningHost,
} from './faults.ts'
import { buildImage, buildIndex, documentPart, MEDIA_TYPES, opaqueLayer } from './images.ts'
import type { BuiltImage, ImageType, TestDescriptor, TestLayer } from './images.ts'
import { LoopbackServer, type LoopbackOptions } from './loopback-server.ts'
import { RegistryContent } from './registry-content.ts'
import { answer, errorAnswer, rangedAnswer, respond, type Answer } from './responder.ts'

export interface RegistryOptions extends LoopbackOptions {
  /** Content that several registries share. Default: new, empty content. */
  readonly content?: RegistryContent
  readonly auth?: RegistryAuth
  /** The path where the API starts. Default: "/v2". */
  readonly root?: string
  /** Whether Range is honoured on blobs. Default: true. */
  readonly ranges?: boolean
  /** Whether the referrers API exists or answers 404. Default: 'api'. */
  readonly referrers?: 'api' | 'none'
  /** The most entries in a page of tags, repositories or referrers. Default: no limit. */
  readonly pageSize?: number
  /**
   * The parameter of the position in `Link`. Default: "last"; for others the position is opaque.
   */
  readonly cursor?: string
  /** Redirects (307) a GET of a blob to a signed URL there. HEAD is answered directly. */
  readonly redirectBlobs?: SigningHost
  /**
   * Answers 404 for a manifest whose type is not in the Accept header, as ghcr.io does. Default:
   * false.
   */
  readonly strictAccept?: boolean
}

export interface RegistryRequestRecord {
  readonly method: string
  /** Path and query, undecoded. */
  readonly url: string
  readonly headers: IncomingMessage['headers']
  readonly kind: RequestKind
  readonly repository?: string | undefined
  /** The tag or digest in the path. */
  readonly reference?: string | undefined
  /** The requested digest, or the digest of the manifest that the tag points to. */
  readonly digest?: Digest | undefined
  readonly atMs: number
  /** 0 until a response starts. */
  status: number
  /** Body bytes handed to the kernel. */
  bytes: number
  /** True if the whole response was sent. */
  finished: boolean
}

export interface ImageOptions {
  /** The layers, or the number of small random ones. Default: 2. */
  readonly layers?: number | readonly (Uint8Array | TestLayer)[]
  readonly type?: ImageType
  /** Makes an index of linux/amd64 and linux/arm64, each with its own layers. */
  readonly multiArch?: boolean
  /** Seed of the random layers. Default: repository and tag. */
  readonly seed?: string
}

export interface AddedImage {
  /** What the tag points to: the manifest or the index. */
  readonly digest: Digest
  readonly mediaType: string
  readonly bytes: Buffer
  /** One per architecture: amd64 first. */
  readonly images: readonly BuiltImage[]
  /** Descriptors of every config and layer. */
  readonly blobs: readonly TestDescriptor[]
  /** Descriptors of every layer, in order. */
  readonly layers: readonly TestDescriptor[]
}

export interface AddBlobOptions {
  /** The only repository in which it can be read. Default: all. */
  readonly repository?: string
  readonly algorithm?: Algorithm
}

export class TestRegistry implements AsyncDisposable {
  /** Every request received, in order. */
  readonly requests: RegistryRequestRecord[] = []
  readonly content: RegistryContent
  /** May be changed while it runs, except what `listen` has used. */
  options: RegistryOptions
  readonly #faults = new Faults()
  #server!: LoopbackServer

  constructor(options: RegistryOptions) {
    this.options = options
    this.content = options.content ?? new RegistryContent()
  }

  async listen(): Promise<void> {
    const listener = (request: IncomingMessage, response: ServerResponse) => {
      void this.#serve(request, response)
    }
    this.#server = await LoopbackServer.listen(listener, this.options)
  }

  /** "http://127.0.0.1:34567" */
  get url(): string {
    return this.#server.url
  }

  /** "127.0.0.1:34567" */
  get host(): string {
    return this.#server.host
  }

  get port(): number {
    return this.#server.port
  }

  /** Connections accepted so far. */
  get accepted(): number {
    return this.#server.accepted
  }

  /** The protocol that each TLS connection negotiated by ALPN, in order; false if none. */
  get protocols(): readonly (string | false | null)[] {
    return this.#server.protocols
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#server.connections
  }

  addBlob(bytes: Uint8Array, options: AddBlobOptions = {}): TestDescriptor {
    return this.#addContent(bytesContent(bytes), options)
  }

  /** Adds a blob of any size that takes no memory. Its bytes are those of `syntheticBytes`. */
  addSyntheticBlob(
    size: number,
    seed: number | string,
    options: AddBlobOptions = {},
  ): TestDescriptor {
    return this.#addContent(syntheticContent(size, seed), options)
  }

  /** Adds any document, byte for byte. An object is written as JSON first. */
  addManifest(
    repository: string,
    document: Uint8Array | object,
    options: { mediaType?: string; tag?: string; algorithm?: Algorithm } = {},
  ): TestDescriptor {
    const mediaType = options.mediaType ?? MEDIA_TYPES.oci.manifest
    const bytes =
      document instanceof Uint8Array ? Buffer.from(document) : documentPart('', document).bytes
    return this.content.addManifest(repository, bytes, mediaType, options.tag, options.algorithm)
  }

  /** Adds an image with all its content, which can be read in this repository only. */
  addImage(repository: string, tag: string, options: ImageOptions = {}): AddedImage {
    const { type = 'oci', multiArch = false } = options
    const architectures = multiArch ? ['amd64', 'arm64'] : ['amd64']
    const built = architectures.map((architecture) => {
      const image = buildImage(type, layersOf(repository, tag, architecture, options), architecture)
      this.#addBuilt(repository, image, multiArch ? undefined : tag)
      return { architecture, image }
    })
    const images = built.map(({ image }) => image)
    const index = multiArch ? buildIndex(type, built) : undefined
    const top = index ?? images[0]?.manifest
    if (!top) throw new Error('an image has at least one architecture')
    const { digest, mediaType } = top.descriptor
    if (index) this.content.addManifest(repository, index.bytes, mediaType, tag)
    const layers = images.flatMap((image) => image.layers.map((layer) => layer.descriptor))
    const blobs = [...images.map((image) => image.config.descriptor), ...layers]
    return { digest, mediaType, bytes: top.bytes, images, blobs, layers }
  }

  /** Adds an OCI manifest with this subject, which the referrers API lists. */
  addReferrer(
    repository: string,
    subject: TestDescriptor,
    options: { artifactType?: string; annotations?: Record<string, string>; tag?: string } = {},
  ): TestDescriptor {
    const config = this.addBlob(Buffer.from('{}'), { repository })
    const { mediaType, digest, size } = subject
    const document = {
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.oci.manifest,
      artifactType: options.artifactType ?? 'application/vnd.test.artifact',
      config: { ...config, mediaType: 'application/vnd.oci.empty.v1+json' },
      layers: [],
      subject: { mediaType, digest, size },
      ...(options.annotations ? { annotations: options.annotations } : {}),
    }
    return this.addManifest(
      repository,
      document,
      options.tag === undefined ? {} : { tag: options.tag },
    )
  }

  /** Points the tag to a manifest of the repository. */
  tag(repository: string, tag: string, digest: Digest): void {
    this.content.repository(repository).tags.set(tag, digest)
  }

  removeTag(repository: string, tag: string): void {
    this.content.repository(repository).tags.delete(tag)
  }

  removeRepository(repository: string): void {
    this.content.repositories.delete(repository)
  }

  fault(fault: Fault): ActiveFault {
    return this.#faults.add(fault)
  }

  /** Removes all faults. Stalled responses go on. */
  clearFaults(): void {
    this.#faults.clear()
  }

  /** Returns the body bytes of this content that were sent, without those of a storage host. */
  bytesSent(digest: Digest): number {
    return this.requestsFor(digest).reduce((sum, request) => sum + request.bytes, 0)
  }

  requestsFor(digest: Digest): RegistryRequestRecord[] {
    return this.requests.filter((request) => request.digest === digest)
  }

  /** Stops listening and cuts all connections. `start` listens on the same port again. */
  async stop(): Promise<void> {
    await this.#server.stop()
  }

  async start(): Promise<void> {
    await this.#server.start()
  }

  async close(): Promise<void> {
    await this.#server.stop()
    this.#faults.clear()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #addContent(content: TestContent, options: AddBlobOptions): TestDescriptor {
    const digest = contentDigest(content, options.algorithm)
    this.content.addBlob(digest, content, options.repository)
    return { mediaType: 'application/octet-stream', digest, size: content.size }
  }

  #addBuilt(repository: string, image: BuiltImage, tag: string | undefined): void {
    for (const { descriptor, content } of [image.config, ...image.layers]) {
      this.content.addBlob(descriptor.digest, content, repository)
    }
    const { bytes, descriptor } = image.manifest
    this.content.addManifest(repository, bytes, descriptor.mediaType, tag)
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const method = request.method ?? 'GET'
    const url = request.url ?? '/'
    const { headers } = request
    const target = parseTarget(url, this.options.root ?? '/v2')
    const digest = this.#digestOf(target)
    const outcome = { status: 0, bytes: 0, finished: false, atMs: Date.now() }
    const record: RegistryRequestRecord = { method, url, headers, ...target, digest, ...outcome }
    this.requests.push(record)
    const { auth = { kind: 'open' } } = this.options
    const refused = refusal(auth, request.headers.authorization, neededScope(target))
    const active = refused ? undefined : this.#faults.take(record)
    const planned = refused ?? this.#plan(request, record, active?.fault)
    await respond(response, planned, method === 'HEAD', record, active)
  }

  #digestOf(target: RegistryTarget): Digest | undefined {
    if (target.reference === undefined) return undefined
    const digest = parseDigest(target.reference)
    if (digest) return digest
    const repository = this.content.repositories.get(target.repository ?? '')
    return repository?.tags.get(target.reference)
  }

  #plan(request: IncomingMessage, record: RegistryRequestRecord, fault?: Fault): Answer {
    const target = fault?.redirect
    if (target !== undefined) return this.#redirect(record, target)
    if (record.method !== 'GET' && record.method !== 'HEAD') return errorAnswer(405, 'UNSUPPORTED')
    switch (record.kind) {
      case 'ping':
        return answer(200, '{}', { 'content-type': 'application/json' })
      case 'manifest':
        return this.#manifest(request, record)
      case 'blob':
        return this.#blob(request, record, fault)
      case 'tags':
        return this.#tags(record)
      case 'referrers':
        return this.#referrers(record)
      case 'catalog':
        return this.#page(
          record,
          [...this.content.repositories.keys()].toSorted(),
          (repositories) => ({ repositories }),
        )
      case 'token':
      case 'other':
        return errorAnswer(404, 'UNSUPPORTED')
    }
    throw new Error(`no such kind: ${String(record.kind)}`)
  }

  #redirect(record: RegistryRequestRecord, target: SigningHost | string): Answer {
    if (typeof target === 'string') return answer(307, '', { location: target })
    const content = record.digest && this.content.blob(record.repository ?? '', record.digest)
    if (!record.digest || !content) return errorAnswer(404, 'BLOB_UNKNOWN')
    return answer(307, '', { location: target.signedUrl(record.digest, content) })
  }

  #manifest(request: IncomingMessage, record: RegistryRequestRecord): Answer {
    const repository = this.content.repositories.get(record.repository ?? '')
    if (!repository) return errorAnswer(404, 'NAME_UNKNOWN')
    const manifest = record.digest && repository.manifests.get(record.digest)
    if (!manifest || !record.digest) return errorAnswer(404, 'MANIFEST_UNKNOWN')
    const accepted = (request.headers.accept ?? '').includes(manifest.mediaType)
    if (this.options.strictAccept && !accepted) return errorAnswer(404, 'MANIFEST_UNKNOWN')
    return answer(200, manifest.bytes, {
      'content-type': manifest.mediaType,
      'docker-content-digest': record.digest,
      etag: `"${record.digest}"`,
    })
  }

  #blob(request: IncomingMessage, record: RegistryRequestRecord, fault?: Fault): Answer {
    const { digest, method } = record
    const content = digest && this.content.blob(record.repository ?? '', digest)
    if (!content) return errorAnswer(404, 'BLOB_UNKNOWN')
    const { redirectBlobs } = this.options
    if (redirectBlobs && method === 'GET') return this.#redirect(record, redirectBlobs)
    const ranges = this.options.ranges !== false && !fault?.ignoreRange && method === 'GET'
    return rangedAnswer(content, ranges ? request.headers.range : undefined, {
      'content-type': 'application/octet-stream',
      'docker-content-digest': digest,
      etag: `"${digest}"`,
      ...(this.options.ranges === false ? {} : { 'accept-ranges': 'bytes' }),
    })
  }

  #tags(record: RegistryRequestRecord): Answer {
    const repository = this.content.repositories.get(record.repository ?? '')
    if (!repository) return errorAnswer(404, 'NAME_UNKNOWN')
    const name = record.repository
    return this.#page(record, [...repository.tags.keys()].toSorted(), (tags) => ({ name, tags }))
  }

  #referrers(record: RegistryRequestRecord): Answer {
    if (this.options.referrers === 'none') return answer(404, '404 page not found\n')
    const wanted = new URL(record.url, this.url).searchParams.get('artifactType')
    const all = this.content.referrers(record.repository ?? '', record.digest)
    const found = all.filter((d) => wanted === null || d.artifactType === wanted)
    const byDigest = new Map(found.map((d) => [d.digest as string, d]))
    const mediaType = MEDIA_TYPES.oci.index
    const index = (keys: string[]) => ({
      schemaVersion: 2,
      mediaType,
      manifests: keys.map((k) => byDigest.get(k)),
    })
    return this.#page(record, [...byDigest.keys()].toSorted(), index, {
      'content-type': mediaType,
      ...(wanted === null ? {} : { 'oci-filters-applied': 'artifactType' }),
    })
  }

  // Returns one page of sorted keys, with `n`, `last` (or the registry's own cursor) and Link as in
  // the spec.
  #page(
    record: RegistryRequestRecord,
    keys: readonly string[],
    body: (page: string[]) => unknown,
    headers: Record<string, string> = { 'content-type': 'application/json' },
  ): Answer {
    const url = new URL(record.url, this.url)
    const cursor = this.options.cursor ?? 'last'
    const given = url.searchParams.get(cursor)
    const after =
      given !== null && cursor !== 'last' ? Buffer.from(given, 'base64url').toString() : given
    const n = Math.min(
      Number(url.searchParams.get('n') ?? Infinity),
      this.options.pageSize ?? Infinity,
    )
    const rest = keys.filter((key) => after === null || key > after)
    const page = rest.slice(0, n)
    const last = page.at(-1)
    const more = last !== undefined && rest.length > page.length
    if (more) {
      url.searchParams.set(
        cursor,
        cursor === 'last' ? last : Buffer.from(last).toString('base64url'),
      )
    }
    const link = more ? { link: `<${url.pathname}${url.search}>; rel="next"` } : {}
    return answer(200, JSON.stringify(body(page)), { ...headers, ...link })
  }
}

function layersOf(
  repository: string,
  tag: string,
  architecture: string,
  options: ImageOptions,
): TestLayer[] {
  const { type = 'oci', layers = 2, seed = `${repository}:${tag}` } = options
  if (typeof layers === 'number') {
    return Array.from({ length: layers }, (_, i) =>
      opaqueLayer(type, `${seed} ${architecture} ${i}`),
    )
  }
  return layers.map((layer) => {
    if (!(layer instanceof Uint8Array)) return layer
    const content = bytesContent(layer)
    const { size } = content
    return {
      content,
      descriptor: { mediaType: MEDIA_TYPES[type].layer, digest: contentDigest(content), size },
    }
  })
}

/** Starts a registry on a free loopback port: `await using registry = await startRegistry()`. */
export async function startRegistry(options: RegistryOptions = {}): Promise<TestRegistry> {
  const registry = new TestRegistry(options)
  await registry.listen()
  return registry
}
