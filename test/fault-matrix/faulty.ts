// An endpoint that has a fault, or whose token server or CDN has it, on real sockets.
import type { Digest } from '../../src/oci/digest.ts'
import type { KeyPair } from '../support/certificates.ts'
import type { ActiveFault, FaultMatch } from '../support/faults.ts'
import { MEDIA_TYPES } from '../support/images.ts'
import type { LoopbackOptions } from '../support/loopback-server.ts'
import type { RegistryAuth } from '../support/registry-auth.ts'
import type { RegistryContent } from '../support/registry-content.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { startStorageHost, type TestStorageHost } from '../support/storage-host.ts'
import { startTokenServer, type TestTokenServer } from '../support/token-server.ts'
import type { Cell, Host } from './cells.ts'
import type { Wanted } from './content.ts'
import type { Subject, Trouble } from './troubles.ts'

type TestHost = TestRegistry | TestTokenServer | TestStorageHost

export interface FaultyOptions {
  readonly cell: Pick<Cell, 'content' | 'host' | 'number'>
  readonly trouble: Trouble
  /** How many requests meet the fault. Default: all. */
  readonly times?: number
  readonly repository: string
  readonly wanted: Wanted
  /** The content of the endpoint. */
  readonly content: RegistryContent
  /** A certificate of an unknown authority. */
  readonly untrusted: KeyPair
}

interface Parts {
  readonly hosts?: readonly TestHost[]
  readonly fault?: ActiveFault | undefined
  /** The host that has the fault. */
  readonly culprit?: TestHost
}

/** The cell's own. */
const addressOf = (number: number) => `127.77.${number >> 8}.${number & 255}`
/** Nothing listens on port 1 (tcpmux). */
export const refusedHost = (number: number) => `${addressOf(number)}:1`

export class Faulty implements AsyncDisposable {
  readonly url: string
  readonly #parts: Parts

  constructor(url: string, parts: Parts = {}) {
    this.url = url
    this.#parts = parts
  }

  /** How often the fault was met. Undefined if that cannot be observed. */
  get met(): number | undefined {
    const { fault, culprit } = this.#parts
    return fault?.hits ?? culprit?.accepted
  }

  /** The fault was met as often as it may be. */
  get isOver(): boolean {
    const { fault } = this.#parts
    return fault !== undefined && fault.hits >= (fault.fault.times ?? Infinity)
  }

  /**
   * The requests that the host with the fault has answered well, without questions whether it is
   * there.
   */
  get served(): number {
    const requests = this.#parts.culprit?.requests ?? []
    return requests.filter((request) => {
      return request.status >= 200 && request.status < 300 && !request.url.endsWith('/v2/')
    }).length
  }

  /** True if nothing listens at the host's address any more. */
  async stop(): Promise<void> {
    await this.#parts.culprit?.stop()
  }

  async start(): Promise<void> {
    await this.#parts.culprit?.start()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const host of this.#parts.hosts ?? []) await host.close()
  }
}

export async function startFaulty(options: FaultyOptions): Promise<Faulty> {
  return await STARTS[options.cell.host](options)
}

const STARTS: Readonly<Record<Host, (options: FaultyOptions) => Promise<Faulty>>> = {
  endpoint: startEndpoint,
  'token server': startTokens,
  'token renewal': startTokens,
  CDN: startCdn,
}

async function startEndpoint(options: FaultyOptions): Promise<Faulty> {
  const { content, trouble, cell } = options
  if (isAbsent(options)) return new Faulty(`http://${absentHost(options)}`)
  const tokens = trouble.tokens && (await startTokenServer({ uses: 1 }))
  const auth = tokens && { auth: { kind: 'token' as const, tokens } }
  const registry = await startRegistry({ content, ...culpritOptions(options), ...auth })
  return new Faulty(registry.url, {
    hosts: [registry, ...(tokens ? [tokens] : [])],
    culprit: registry,
    fault: setFault(registry, options, subjectOf(options), { kind: kindOf(cell) }),
  })
}

async function startTokens(options: FaultyOptions): Promise<Faulty> {
  const { content, trouble, cell } = options
  const isRenewal = cell.host === 'token renewal'
  const uses = isRenewal ? 1 : Infinity
  const tokens = await startTokenServer({ ...culpritOptions(options), respond: 'token', uses })
  const registry = await startRegistry({ content, auth: authBy(tokens, options) })
  const body = trouble.host === undefined ? await tokenAnswer(tokens, options) : ''
  const subject = { size: body.length, soft: body.indexOf(':"') + 5 }
  if (isRenewal) {
    const { size } = subjectOf(options)
    registry.fault({ match: { kind: 'blob' }, cutAfter: Math.floor(size / 2), times: 1 })
  }
  tokens.requests.length = 0
  return new Faulty(registry.url, {
    hosts: [registry, tokens],
    // Where nobody is at the token server, only that the endpoint was asked can be seen.
    culprit: isAbsent(options) ? registry : tokens,
    fault: setFault(tokens, options, subject, { from: isRenewal ? 2 : 1 }),
  })
}

async function startCdn(options: FaultyOptions): Promise<Faulty> {
  const { content, trouble } = options
  const lifetimeMs = trouble.urls === 'expired' ? -1000 : 60_000
  const storage = await startStorageHost({ ...culpritOptions(options), lifetimeMs })
  const registry = await startRegistry({ content, redirectBlobs: storage })
  const hosts = [registry, storage]
  const elsewhere = (redirect: TestStorageHost | string, times = Infinity) => {
    const match = { kind: 'blob', method: 'GET' } as const
    return registry.fault({ match, redirect, times })
  }
  if (trouble.urls === 'expired once') {
    const expired = await startStorageHost({ lifetimeMs: -1000 })
    return new Faulty(registry.url, { hosts: [...hosts, expired], fault: elsewhere(expired, 1) })
  }
  if (isAbsent(options)) {
    return new Faulty(registry.url, {
      hosts,
      fault: elsewhere(`http://${absentHost(options)}/blob`),
    })
  }
  const fault = setFault(storage, options, subjectOf(options), { kind: 'blob' })
  return new Faulty(registry.url, { hosts, culprit: storage, fault })
}

/** The address of the host leads to nobody, now and later. */
function isAbsent({ trouble, times }: FaultyOptions): boolean {
  return trouble.host === 'unknown' || (trouble.host === 'refused' && times === undefined)
}

function absentHost({ trouble, cell: { number } }: FaultyOptions): string {
  return trouble.host === 'unknown' ? `cell-${number}.chandlery.invalid` : refusedHost(number)
}

function culpritOptions({ trouble, untrusted, cell, times }: FaultyOptions): LoopbackOptions {
  if (trouble.host === 'untrusted') return { tls: untrusted }
  // Nobody else is given a port there while it does not listen.
  return times === undefined ? {} : { host: addressOf(cell.number) }
}

function setFault(
  culprit: TestHost,
  { trouble, times }: FaultyOptions,
  subject: Subject,
  match: FaultMatch,
): ActiveFault | undefined {
  const fault = trouble.fault?.(subject)
  return fault && culprit.fault({ ...fault, match, ...(times !== undefined && { times }) })
}

function authBy(tokens: TestTokenServer, options: FaultyOptions): RegistryAuth {
  if (!isAbsent(options)) return { kind: 'token', tokens }
  const realm = `http://${absentHost(options)}/token`
  const challenge = (scope: string | undefined) => {
    return `Bearer realm="${realm}",service="${tokens.service}",scope="${scope}"`
  }
  return { kind: 'token', tokens, challenge }
}

async function tokenAnswer(
  tokens: TestTokenServer,
  { repository }: FaultyOptions,
): Promise<string> {
  const scope = `repository:${repository}:pull`
  const answer = await fetch(`${tokens.realm}?service=${tokens.service}&scope=${scope}`)
  return await answer.text()
}

function kindOf({ content }: Pick<Cell, 'content'>): 'blob' | 'referrers' | 'manifest' {
  if (content === 'referrers') return 'referrers'
  return content.includes('blob') ? 'blob' : 'manifest'
}

function subjectOf({ cell, content, repository, wanted }: FaultyOptions): Subject {
  const { path, bytes } = wanted
  const kind = kindOf(cell)
  if (kind === 'referrers') return { size: listSize(content, repository, path), soft: 0 }
  return { size: bytes.length, soft: kind === 'blob' ? 1000 : bytes.indexOf('sha256:') + 70 }
}

/** Returns the length in bytes of the list as the registry writes it. */
function listSize(content: RegistryContent, repository: string, path: string): number {
  const manifests = content.referrers(repository, path.slice('referrers/'.length) as Digest)
  const mediaType = MEDIA_TYPES.oci.index
  return JSON.stringify({ schemaVersion: 2, mediaType, manifests }).length
}
