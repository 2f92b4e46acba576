// The hosts behind one cell of the matrix: an upstream with the cell's fault, one that is well, and
// what they have; and what a client is given by the server in between.
import type { Digest } from '../../src/oci/digest.ts'
import type { KeyPair } from '../support/certificates.ts'
import { syntheticBytes } from '../support/content.ts'
import type { ActiveFault } from '../support/faults.ts'
import type { TestDescriptor } from '../support/images.ts'
import { type RawResponse, rawRequest } from '../support/raw-client.ts'
import type { RegistryAuth } from '../support/registry-auth.ts'
import { startRegistry, type RegistryOptions, TestRegistry } from '../support/registry.ts'
import { startStorageHost, type TestStorageHost } from '../support/storage-host.ts'
import { startTokenServer, type TestTokenServer } from '../support/token-server.ts'
import { type Subject, type Trouble, TROUBLES } from './troubles.ts'

export const TARGETS = [
  'manifest by tag',
  'manifest by digest',
  'blob',
  'large blob',
  'referrers',
  'token',
  'token of a blob',
] as const

export type Target = (typeof TARGETS)[number]

export interface Cell {
  readonly target: Target
  readonly fault: string
  readonly held: boolean
  readonly endpoints: 1 | 2
  /** Unique: the registry's and the repository's name are made of it. */
  readonly number: number
}

/** What a client was given, in the words of the table; `ms`: how long that took. */
export interface Given {
  readonly told: string
  readonly cacheStatus: string
  readonly retryAfter: number | undefined
  readonly ms: number
}

/** A part of a pull, as the test's registries have it. */
export interface Wanted {
  readonly path: string
  readonly bytes: Buffer
  /** What a held answer holds: before the registries had what they have now. */
  readonly before: Buffer
}

const TAG = 'latest'
const SMALL = 96 * 1024
const LARGE = 1536 * 1024
const SHORT_TOKEN_MS = 450
/** Nobody can be there: the tcpmux port of an address of this cell's own. */
const refusedHost = ({ number }: Cell) => `127.77.${number >> 8}.${number & 255}:1`
const unknownHost = ({ number }: Cell) => `cell-${number}.chandlery.invalid`

export const registryOf = ({ number }: Cell) => `cell-${number}.test`
export const repositoryOf = ({ number }: Cell) => `cells/cell-${number}`

/** What all upstreams of a cell have; `old` is what they had when it was held. */
export function fill(registry: TestRegistry, cell: Cell, { old = false } = {}): Wanted {
  const repository = repositoryOf(cell)
  const size = cell.target === 'large blob' ? LARGE : SMALL
  const seed = `cell ${cell.number}`
  const layer = syntheticBytes(seed, 0, size)
  const image = registry.addImage(repository, TAG, { layers: [layer] })
  if (cell.target === 'blob' || cell.target === 'large blob' || cell.target === 'token of a blob') {
    const path = `blobs/${image.layers[0]!.digest}`
    return { path, bytes: layer, before: layer }
  }
  const { digest, bytes: before } = image
  if (cell.target === 'referrers') {
    const { mediaType } = image
    const subject = { mediaType, digest, size: before.length }
    return fillReferrers(registry, repository, subject, old)
  }
  if (cell.target === 'manifest by digest') {
    return { path: `manifests/${digest}`, bytes: before, before }
  }
  const path = `manifests/${TAG}`
  if (old) return { path, bytes: before, before }
  const { bytes } = registry.addImage(repository, TAG, { layers: 1, seed: `${seed} moved` })
  return { path, bytes, before }
}

function fillReferrers(
  registry: TestRegistry,
  repository: string,
  subject: TestDescriptor,
  old: boolean,
): Wanted {
  const add = (artifactType: string) => {
    return registry.addReferrer(repository, subject, { artifactType })
  }
  const first = add('application/vnd.test.first')
  const all = old ? [first] : [first, add('application/vnd.test.second')]
  return { path: `referrers/${subject.digest}`, bytes: digestsOf(all), before: digestsOf([first]) }
}

/** An upstream with the cell's fault; it is asked first. */
export class Troubled implements AsyncDisposable {
  readonly endpoint: string
  readonly #hosts: readonly (TestRegistry | TestStorageHost | TestTokenServer)[]
  readonly #fault: ActiveFault | undefined

  /** The first of the hosts is the registry; none: nobody can be there. */
  constructor(
    endpoint: string,
    hosts: readonly (TestRegistry | TestStorageHost | TestTokenServer)[] = [],
    fault?: ActiveFault,
  ) {
    this.endpoint = endpoint
    this.#hosts = hosts
    this.#fault = fault
  }

  /** How often its fault was met, or else it was connected to; undefined: nobody can tell. */
  get met(): number | undefined {
    const [registry] = this.#hosts
    return this.#fault?.hits ?? (registry instanceof TestRegistry ? registry.accepted : undefined)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const host of this.#hosts) await host.close()
  }
}

/** `untrusted`: of an authority that nobody knows. */
export async function startTroubled(cell: Cell, untrusted: KeyPair): Promise<Troubled> {
  const trouble = TROUBLES[cell.fault]!
  if (isForToken(cell)) return await startTroubledTokens(cell, trouble, untrusted)
  if (trouble.host === 'refused') return new Troubled(`http://${refusedHost(cell)}`)
  if (trouble.host === 'unknown') return new Troubled(`http://${unknownHost(cell)}`)
  const tls = trouble.host === 'untrusted' ? { tls: untrusted } : {}
  const { options, hosts } = await furnish(trouble)
  const registry = await startRegistry({ ...tls, ...options })
  const wanted = fill(registry, cell)
  const match = { kind: kindOf(cell) }
  const all = [registry, ...hosts]
  if (trouble.urls === 'expired once') {
    const expired = await startStorageHost({ lifetimeMs: -1000 })
    const once = registry.fault({ match, redirect: expired, times: 1 })
    return new Troubled(registry.url, [...all, expired], once)
  }
  const fault = trouble.fault?.(subjectOf(cell, registry, wanted))
  return new Troubled(registry.url, all, fault && registry.fault({ ...fault, match }))
}

async function furnish({
  urls,
  tokens,
}: Trouble): Promise<{ options: RegistryOptions; hosts: (TestStorageHost | TestTokenServer)[] }> {
  if (urls !== undefined) {
    const lifetimeMs = urls === 'expired' ? -1000 : 60_000
    const storage = await startStorageHost({ lifetimeMs })
    return { options: { redirectBlobs: storage }, hosts: [storage] }
  }
  if (tokens === undefined) return { options: {}, hosts: [] }
  const server = await startTokenServer({ lifetimeMs: SHORT_TOKEN_MS })
  return { options: { auth: { kind: 'token', tokens: server } }, hosts: [server] }
}

async function startTroubledTokens(
  cell: Cell,
  trouble: Trouble,
  untrusted: KeyPair,
): Promise<Troubled> {
  const tls = trouble.host === 'untrusted' ? { tls: untrusted } : {}
  const tokens = await startTokenServer({ ...tls, respond: 'token' })
  const registry = await startRegistry({ auth: authBy(tokens, cell, trouble) })
  fill(registry, cell)
  const body = trouble.host === undefined ? await tokenAnswer(tokens, cell) : ''
  const fault = trouble.fault?.({ size: body.length, soft: body.indexOf(':"') + 5 })
  return new Troubled(registry.url, [registry, tokens], fault && tokens.fault(fault))
}

function authBy(tokens: TestTokenServer, cell: Cell, { host }: Trouble): RegistryAuth {
  if (host === undefined || host === 'untrusted') return { kind: 'token', tokens }
  const there = host === 'refused' ? refusedHost(cell) : unknownHost(cell)
  const challenge = (scope: string | undefined) => {
    return `Bearer realm="http://${there}/token",service="${tokens.service}",scope="${scope}"`
  }
  return { kind: 'token', tokens, challenge }
}

async function tokenAnswer(tokens: TestTokenServer, cell: Cell): Promise<string> {
  const scope = `repository:${repositoryOf(cell)}:pull`
  const answer = await fetch(`${tokens.realm}?service=${tokens.service}&scope=${scope}`)
  return await answer.text()
}

function subjectOf({ target }: Cell, registry: TestRegistry, { path, bytes }: Wanted): Subject {
  const size = target === 'referrers' ? listSize(registry, path) : bytes.length
  const soft =
    target === 'referrers'
      ? 0
      : kindOfTarget(target) === 'blob'
        ? 1000
        : bytes.indexOf('sha256:') + 70
  return { size, soft }
}

/** Of the registry's answer: it writes the list as one page. */
function listSize(registry: TestRegistry, path: string): number {
  const [repository = ''] = registry.content.repositories.keys()
  const digest = path.slice('referrers/'.length) as Digest
  const manifests = registry.content.referrers(repository, digest)
  const mediaType = 'application/vnd.oci.image.index.v1+json'
  return JSON.stringify({ schemaVersion: 2, mediaType, manifests }).length
}

export function isForToken({ target }: Pick<Cell, 'target'>): boolean {
  return target === 'token' || target === 'token of a blob'
}

function kindOf({ target }: Cell): 'blob' | 'referrers' | 'manifest' {
  return kindOfTarget(target)
}

function kindOfTarget(target: Target): 'blob' | 'referrers' | 'manifest' {
  if (target === 'referrers') return 'referrers'
  return target.includes('blob') ? 'blob' : 'manifest'
}

/** What a client of the server at `url` is given for the cell. */
export async function ask(url: string, cell: Cell, wanted: Wanted): Promise<Given> {
  const startedAt = performance.now()
  const from = `${url}/v2/${repositoryOf(cell)}/${wanted.path}?ns=${registryOf(cell)}`
  const range = TROUBLES[cell.fault]!.ranged && wanted.path.startsWith('blobs/')
  const first = range ? wanted.bytes.length / 2 : 0
  using response = await rawRequest(from, range ? { headers: { range: `bytes=${first}-` } } : {})
  const { bytes, complete } = await response.body()
  const ms = performance.now() - startedAt
  const cacheStatus = response.headers.get('cache-status') ?? ''
  const retryAfter = response.headers.get('retry-after')
  const expected = {
    ...wanted,
    bytes: wanted.bytes.subarray(cell.target === 'referrers' ? 0 : first),
  }
  const told = complete ? tell(response, bytes, expected, cacheStatus) : 'cut'
  return { told, cacheStatus, retryAfter: retryAfter === null ? undefined : +retryAfter, ms }
}

function tell(response: RawResponse, body: Buffer, wanted: Wanted, cacheStatus: string): string {
  const { status } = response
  if (status >= 400) return `${status} ${reasonIn(body)}`
  const isList = wanted.path.startsWith('referrers/')
  const bytes = isList ? digestsIn(body) : body
  const detail = /; hit;.*\bdetail=([\w-]+)/.exec(cacheStatus)?.[1]
  if (detail !== undefined && bytes.equals(wanted.before)) return detail
  if (bytes.equals(wanted.bytes) && detail === undefined) return 'good'
  if (isList && bytes.length === 0) return 'none'
  return `${status}, ${bytes.length} bytes that are not the content; ${cacheStatus}`
}

function reasonIn(body: Buffer): string {
  const { errors }: { errors?: { detail?: { reason?: string } }[] } = JSON.parse(body.toString())
  return String(errors?.[0]?.detail?.reason)
}

function digestsIn(body: Buffer): Buffer {
  const { manifests }: { manifests: { digest: string }[] } = JSON.parse(body.toString())
  return digestsOf(manifests)
}

/** What of a list is compared: it is written anew on its way. */
function digestsOf(found: readonly { readonly digest: string }[]): Buffer {
  const digests = found.map(({ digest }) => digest)
  return Buffer.from(digests.toSorted().join(' '))
}
