// The operator's own credentials: `configs.<host>.auth` first, then docker's config.json with its
// helpers. Files are looked at when used, at most once a second and at once after a refusal, so that
// rotated secrets are seen; one that goes away leaves what it was.
import { LRUCache } from 'lru-cache'

import { CredentialHelpers, HelperTimeout } from './helper.ts'
import { ANONYMOUS, fingerprintOf } from './credentials.ts'
import type {
  Credential,
  CredentialSeeker,
  CredentialSource,
  TokenCredential,
} from './credentials.ts'
import { credentialOf, parseDockerConfig, serverUrl, splitAuth } from './docker-config.ts'
import type { DockerConfig } from './docker-config.ts'
import { configForHost, exactConfig } from '../routing/host-config.ts'
import { ReadTimeout, SharedRead } from '../../files/shared-read.ts'
import { WatchedFile } from '../../files/watched-file.ts'
import { isSendable } from '../../http/authorization.ts'

/**
 * A secret that is somewhere else and may change there; `toString` names that place, for messages.
 */
export interface SecretReference {
  /** Returns it as it was `maxAgeMs` ago or later. */
  read(options?: { readonly maxAgeMs?: number | undefined }): Promise<string>
  /** It changed: the next `read` looks again. */
  recheck?(): void
  toString(): string
}

export type SecretText = string | SecretReference

/** The `auth` of a `configs` entry, in registries.yaml's own words. */
export interface AuthOptions {
  readonly username?: string | undefined
  readonly password?: SecretText | undefined
  /** base64 of user:password. */
  readonly auth?: SecretText | undefined
  readonly identity_token?: SecretText | undefined
  readonly realms?: readonly string[] | undefined
}

/** What registries said about how many requests a credential has left. */
export interface RemainingRequests {
  /** Undefined: the registry names no limit. */
  remaining(host: string, credential: Credential): number | undefined
}

export interface CredentialOptions {
  /** The `configs`, by host[:port] or "*". */
  readonly hosts: Readonly<
    Record<string, { readonly auth?: AuthOptions | readonly AuthOptions[] | undefined }>
  >
  /** docker's config.json; of several, the first that has a credential for the host. */
  readonly dockerConfigPaths?: readonly string[] | undefined
  readonly now?: () => number
  /** What is left of each, so that of several the one with most is used. */
  readonly rateLimits?: RemainingRequests | undefined
  /** How long one secret, file or helper is waited for, in milliseconds. Default 10 s. */
  readonly timeoutMs?: number | undefined
}

/**
 * One that the registry does not know is tried again after this: it may have been put right there.
 */
const REFUSED_MS = 5 * 60_000
const MAX_REFUSED = 1024

/** A secret, file or helper that was named cannot be read; the message holds no secret. */
export class CredentialError extends Error {
  override readonly name = 'CredentialError'
  /** It did not fail, it hangs: it may be there the next time. */
  readonly isTimeout: boolean

  constructor(message: string, options: { readonly cause?: unknown } = {}) {
    super(message, options)
    const { cause } = options
    this.isTimeout = cause instanceof ReadTimeout || cause instanceof HelperTimeout
  }
}

export class ConfiguredCredentials implements CredentialSource {
  readonly #hosts: CredentialOptions['hosts']
  readonly #docker: readonly WatchedFile<DockerConfig>[]
  readonly #helpers: CredentialHelpers
  readonly #rateLimits: CredentialOptions['rateLimits']
  /** By host, how often one of its credentials was given. */
  readonly #turns = new Map<string, number>()
  /** By host and fingerprint: a secret that was replaced is another one. */
  readonly #refused = new LRUCache<string, true>({ max: MAX_REFUSED, ttl: REFUSED_MS })
  readonly #lastRead = new Map<SecretText, string>()
  readonly #reads = new Map<SecretText, SharedRead<string>>()
  readonly #timeoutMs: number | undefined

  constructor(options: CredentialOptions) {
    this.#hosts = options.hosts
    this.#rateLimits = options.rateLimits
    const { dockerConfigPaths: paths = [], now, timeoutMs } = options
    this.#timeoutMs = timeoutMs
    this.#helpers = new CredentialHelpers(timeoutMs)
    const watched = { timeoutMs, ...(now && { now }) }
    this.#docker = paths.map((path) => new WatchedFile(path, readConfig, watched))
  }

  /**
   * Throws CredentialError, also if a secret cannot be read in time. Files that were looked at a
   * moment ago are looked at again where a credential was tried in vain: it may just have been
   * replaced.
   */
  async credentialFor(endpoint: CredentialSeeker): Promise<Credential> {
    const maxAgeMs = (endpoint.except?.size ?? 0) > 0 ? 0 : undefined
    const auth = this.#configOf(endpoint)?.auth ?? []
    const all = 'at' in auth ? auth : [auth]
    const readSecret = (secret: SecretText) => this.#readSecret(secret, maxAgeMs)
    const configured = this.#choose(endpoint, await readAll(all, endpoint.host, readSecret))
    return configured ?? (await this.#fromDocker(endpoint, maxAgeMs)) ?? ANONYMOUS
  }

  refused(host: string, credential: Credential): void {
    this.#refused.set(refusedKey(host, credential), true)
  }

  /** Reads everything once, so that it is known should it go away. */
  async prepare(): Promise<void> {
    const readSecret = (secret: SecretText) => this.#readSecret(secret)
    const all = Object.entries(this.#hosts).flatMap(([host, { auth = [] }]) => {
      return ('at' in auth ? auth : [auth]).map((each) => readAuth(each, host, readSecret))
    })
    await Promise.allSettled([...all, ...this.#docker.map((file) => file.current())])
  }

  /** Has the next caller read every file again. */
  recheck(): void {
    for (const file of this.#docker) file.recheck()
    for (const { auth = [] } of Object.values(this.#hosts)) {
      for (const each of 'at' in auth ? auth : [auth]) {
        for (const secret of [each.password, each.auth, each.identity_token]) {
          if (typeof secret === 'object') secret.recheck?.()
        }
      }
    }
  }

  async #readSecret(secret: SecretText, maxAgeMs?: number): Promise<string> {
    if (typeof secret === 'string') return withoutBreak(secret)
    const former = this.#lastRead.get(secret)
    try {
      const text = withoutBreak(await this.#sharedRead(secret).run(() => secret.read({ maxAgeMs })))
      this.#lastRead.set(secret, text)
      return text
    } catch (error) {
      if (former === undefined) throw error
      return former
    }
  }

  #sharedRead(secret: Exclude<SecretText, string>): SharedRead<string> {
    const read = this.#reads.get(secret) ?? new SharedRead(secret.toString(), this.#timeoutMs)
    this.#reads.set(secret, read)
    return read
  }

  #configOf({ host, byClient }: CredentialSeeker) {
    return byClient === true ? exactConfig(this.#hosts, host) : configForHost(this.#hosts, host)
  }

  /**
   * Of those that the registry knows, as far as we know, the one with most requests left; equals in
   * turn.
   */
  #choose({ host, except }: CredentialSeeker, all: readonly Credential[]): Credential | undefined {
    if (all.length < 2) return all[0]
    const untried = preferring(all, (each) => except?.has(fingerprintOf(each)) !== true)
    const known = preferring(untried, (each) => !this.#refused.has(refusedKey(host, each)))
    const left = known.map((each) => this.#rateLimits?.remaining(host, each) ?? Infinity)
    const best = known.filter((_, i) => left[i] === Math.max(...left))
    const turn = this.#turns.get(host) ?? 0
    this.#turns.set(host, turn + 1)
    return best[turn % best.length]
  }

  async #fromDocker(
    seeker: CredentialSeeker,
    maxAgeMs: number | undefined,
  ): Promise<Credential | undefined> {
    let failure: unknown
    for (const file of this.#docker) {
      try {
        const found = await this.#fromDockerConfig(file, seeker, maxAgeMs)
        if (found !== undefined) return found
      } catch (error) {
        failure ??= error
      }
    }
    if (failure !== undefined) throw failure
    return undefined
  }

  async #fromDockerConfig(
    file: WatchedFile<DockerConfig>,
    seeker: CredentialSeeker,
    maxAgeMs: number | undefined,
  ): Promise<Credential | undefined> {
    try {
      const config = await file.current(maxAgeMs)
      return config && ((await this.#fromHelper(config, seeker)) ?? stored(config, seeker.host))
    } catch (error) {
      throw new CredentialError(`${file.path}: ${describe(error)}`, { cause: error })
    }
  }

  async #fromHelper(
    config: DockerConfig,
    { host, byClient }: CredentialSeeker,
  ): Promise<Credential | undefined> {
    const suffix = config.helper(host) ?? (byClient === true ? undefined : config.store)
    return suffix === undefined || suffix === ''
      ? undefined
      : await this.#helpers.get(suffix, serverUrl(host))
  }
}

function refusedKey(host: string, credential: Credential): string {
  return `${host} ${fingerprintOf(credential)}`
}

/** Those that are so, or all where none is. */
function preferring<T>(all: readonly T[], isSo: (one: T) => boolean): readonly T[] {
  const some = all.filter(isSo)
  return some.length === 0 ? all : some
}

function stored(config: DockerConfig, host: string): Credential | undefined {
  const credential = config.auth(host)
  if (credential?.kind !== 'bearer' || isSendable(credential.token)) return credential
  throw new TypeError(`the registrytoken of "${host}" is too long or holds what no token may`)
}

function readConfig(bytes: Buffer): DockerConfig {
  return parseDockerConfig(bytes.toString())
}

type ReadSecret = (secret: SecretText) => Promise<string>

/** Those that can be read, where any can. */
async function readAll(
  all: readonly AuthOptions[],
  host: string,
  readSecret: ReadSecret,
): Promise<Credential[]> {
  const read = await Promise.allSettled(all.map((auth) => readAuth(auth, host, readSecret)))
  const found = read.flatMap((each) => (each.status === 'fulfilled' ? (each.value ?? []) : []))
  const failed = read.find((each) => each.status === 'rejected')
  if (found.length === 0 && failed !== undefined) throw failed.reason
  return found
}

async function readAuth(
  auth: AuthOptions,
  host: string,
  readSecret: ReadSecret,
): Promise<TokenCredential | undefined> {
  try {
    const credential = await readWritten(auth, readSecret)
    if (credential === undefined || credential.kind === 'anonymous') return undefined
    return auth.realms === undefined ? credential : { ...credential, realms: auth.realms }
  } catch (error) {
    throw new CredentialError(`configs."${host}".auth: ${describe(error)}`, { cause: error })
  }
}

async function readWritten(
  auth: AuthOptions,
  readSecret: ReadSecret,
): Promise<TokenCredential | undefined> {
  if (auth.identity_token !== undefined) {
    const token = await readSecret(auth.identity_token)
    const { username } = auth
    return { kind: 'identity', token, ...(username !== undefined && { username }) }
  }
  if (auth.auth !== undefined) {
    const pair = splitAuth(await readSecret(auth.auth))
    if (pair === undefined) throw new Error('auth is not base64 of user:password')
    return credentialOf(...pair)
  }
  if (auth.username === undefined || auth.password === undefined) return undefined
  return credentialOf(auth.username, await readSecret(auth.password))
}

function withoutBreak(text: string): string {
  return text.replace(/\r?\n$/, '')
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
