// The registries that are served: which one a request means (design: "How a request names its
// registry"), and the endpoints of each in the order in which they are tried. Does no I/O.
import { OciError } from '../../oci/errors.ts'
import {
  isRegistry,
  isRepositoryName,
  looksLikeRegistry,
  normaliseRegistry,
  type Repository,
} from '../../oci/reference.ts'
import type { Target } from '../../oci/target.ts'
import { defaultEndpoint, type Endpoint, type EndpointAddress, EndpointError } from './endpoint.ts'
import { isPrivateHost } from '../address/private-host.ts'
import type { Rewrite } from './rewrite.ts'

/** One entry of `mirrors`. */
export interface MirrorOptions {
  /** host[:port], or `*` for every registry without an entry of its own. */
  readonly registry: string
  readonly endpoints: readonly EndpointAddress[]
  /** In the order of the file. Never applied to the registry's own endpoint. */
  readonly rewrites: readonly { readonly rewrite: Rewrite }[]
  /** Host headers (port optional) that mean this registry. */
  readonly hosts: readonly string[]
}

export interface RegistriesOptions {
  /** For requests that name no registry. */
  readonly defaultRegistry: string
  /**
   * Whether a registry's own endpoint is tried after the listed ones. An entry without endpoints
   * keeps it, as in K3s.
   */
  readonly defaultEndpoints: boolean
  readonly mirrors: readonly MirrorOptions[]
}

/** What a request names besides its path: the `ns` query parameter and the Host header. */
export interface RequestNaming {
  readonly ns?: string | readonly string[] | undefined
  readonly host?: string | undefined
}

export interface Routed {
  readonly registry: string
  /** Absent for ping and catalog. */
  readonly repository?: Repository
  /** `<name>` exactly as it stood in the client's path. */
  readonly clientName?: string
  /** What stood before /v2: '' or '/docker.io'. */
  readonly clientPrefix: string
  /** The client's `ns`, to be echoed in OCI-Namespace and kept in links. */
  readonly ns?: string
  /** The registry was named (ns, prefix, first component, Host), not just defaulted. */
  readonly named: boolean
}

const DOCKER_HUB = 'docker.io'
const ANY = '*'

/** Throws EndpointError if the key of a mirror is not a registry. */
export class Registries {
  readonly names: readonly string[]
  readonly #defaultRegistry: string
  readonly #defaultEndpoints: boolean
  readonly #entries = new Map<string, readonly Endpoint[]>()
  readonly #hosts = new Map<string, string>()
  readonly #any: readonly Endpoint[] | undefined

  constructor(options: RegistriesOptions) {
    this.#defaultRegistry = normaliseRegistry(options.defaultRegistry)
    this.#defaultEndpoints = options.defaultEndpoints
    for (const mirror of withoutRepeats(options.mirrors)) this.#add(mirror)
    const any = options.mirrors.find((mirror) => mirror.registry === ANY)
    if (any !== undefined) this.#any = listedEndpoints(any)
    this.names = [...this.#entries.keys()]
  }

  /** Whether requests for it are answered: it is listed, or `*` is and it is not a private one. */
  serves(registry: string): boolean {
    return this.endpoints(registry).length > 0
  }

  /**
   * Where to ask, in order; the registry's own endpoint comes last unless it is listed earlier.
   * Empty: not served.
   */
  endpoints(registry: string): readonly Endpoint[] {
    const name = normaliseRegistry(registry)
    const listed = this.#entries.get(name)
    if (listed !== undefined) return listed
    const own = this.#any === undefined ? undefined : publicEndpoint(name)
    if (this.#any === undefined || own === undefined) return []
    return inOrder(this.#any, own, this.#defaultEndpoints)
  }

  /**
   * Finds the registry and the repository a request means. Throws NAME_UNKNOWN and NAME_INVALID.
   */
  route(target: Target, request: RequestNaming): Routed {
    const ns = readNs(request.ns)
    const clientPrefix = target.prefix === undefined ? '' : `/${target.prefix}`
    const about = { clientPrefix, ...(ns !== undefined && { ns }) }
    const explicit = ns ?? target.prefix
    if (!('name' in target)) return { ...about, ...this.#routeRoot(explicit, request.host) }
    const { registry, name, named } = this.#split(target.name, ns, explicit, request.host)
    const repository = { registry, name: completeName(registry, name) }
    if (!isRepositoryName(repository.name)) refuseName(repository.name)
    return { ...about, registry, repository, clientName: target.name, named }
  }

  #routeRoot(
    explicit: string | undefined,
    host: string | undefined,
  ): { registry: string; named: boolean } {
    if (explicit !== undefined) return { registry: this.#served(explicit), named: true }
    const hosted = this.#byHost(host)
    return { registry: hosted ?? this.#defaultRegistry, named: hosted !== undefined }
  }

  #split(
    path: string,
    ns: string | undefined,
    explicit: string | undefined,
    host: string | undefined,
  ): { registry: string; name: string; named: boolean } {
    const slash = path.indexOf('/')
    const first = slash < 0 ? path : path.slice(0, slash)
    const rest = slash < 0 ? '' : path.slice(slash + 1)
    if (explicit !== undefined) {
      const registry = this.#served(explicit)
      // With ns, a client may have the registry in its path as well: mirrors with a path, rewrites.
      const repeated = ns !== undefined && normaliseRegistry(first) === registry
      return { registry, name: repeated ? rest : path, named: true }
    }
    if (this.#isNamedBy(first))
      return { registry: normaliseRegistry(first), name: rest, named: true }
    const hosted = this.#byHost(host)
    const meant = hosted ?? this.#defaultRegistry
    // Before that one is looked for: who named a registry is told of that, not of the default.
    if (normaliseRegistry(meant) === DOCKER_HUB && looksLikeRegistry(first)) this.#refuse(first)
    return { registry: this.#served(meant), name: path, named: hosted !== undefined }
  }

  /**
   * Whether a first path component is a registry: one that is listed, or, with `*` what looks like
   * one.
   */
  #isNamedBy(first: string): boolean {
    if (this.#entries.has(normaliseRegistry(first))) return true
    return looksLikeRegistry(first) && this.serves(first)
  }

  #byHost(host: string | undefined): string | undefined {
    if (host === undefined || this.#hosts.size === 0) return undefined
    const lower = host.toLowerCase()
    return this.#hosts.get(lower) ?? this.#hosts.get(lower.replace(/:\d*$/, ''))
  }

  #served(registry: string): string {
    return this.serves(registry) ? normaliseRegistry(registry) : this.#refuse(registry)
  }

  #refuse(registry: string): never {
    const shown = quote(registry)
    const key = isRegistry(registry.toLowerCase())
    const cure = key ? `add it under mirrors in the configuration: ${shown}: {}` : 'it is no host'
    const why = this.#any !== undefined && key ? ' ("*" covers no private or loopback host)' : ''
    throw new OciError('NAME_UNKNOWN', `registry ${shown} is not served here${why}; ${cure}`)
  }

  #add(mirror: MirrorOptions): void {
    const registry = normaliseRegistry(mirror.registry)
    if (!isRegistry(registry)) {
      throw new EndpointError(`mirrors: ${quote(mirror.registry)} is no registry (host[:port])`)
    }
    const own = defaultEndpoint(registry)
    this.#entries.set(registry, inOrder(listedEndpoints(mirror), own, this.#defaultEndpoints))
    for (const host of mirror.hosts) this.#hosts.set(host.toLowerCase(), registry)
  }
}

/** docker.io may be listed under several of its names: the real one counts, else the first. */
function withoutRepeats(mirrors: readonly MirrorOptions[]): MirrorOptions[] {
  const byName = new Map<string, MirrorOptions>()
  for (const mirror of mirrors) {
    const name = normaliseRegistry(mirror.registry)
    if (name !== ANY && (!byName.has(name) || mirror.registry === name)) byName.set(name, mirror)
  }
  return [...byName.values()]
}

function listedEndpoints(mirror: MirrorOptions): Endpoint[] {
  const rewrites = mirror.rewrites.map(({ rewrite }) => rewrite)
  const byKey = new Map<string, Endpoint>()
  for (const endpoint of mirror.endpoints) {
    if (!byKey.has(endpoint.key)) {
      byKey.set(endpoint.key, { ...endpoint, isDefault: false, rewrites })
    }
  }
  return [...byKey.values()]
}

/**
 * The listed endpoints, then the own one. Where the own one is listed it keeps its place, is not
 * asked a second time and gets no rewrites (K3s documents `https://host:443` to force them).
 */
function inOrder(listed: readonly Endpoint[], own: Endpoint, useOwn: boolean): Endpoint[] {
  const endpoints = listed.map((endpoint) => (endpoint.key === own.key ? own : endpoint))
  const wanted = useOwn || listed.length === 0
  return wanted && !endpoints.includes(own) ? [...endpoints, own] : endpoints
}

/**
 * The own endpoint of a registry that only `*` covers; undefined where it needs an entry of its
 * own.
 */
function publicEndpoint(registry: string): Endpoint | undefined {
  if (!isRegistry(registry)) return undefined
  try {
    const own = defaultEndpoint(registry)
    return isPrivateHost(own.base.hostname) ? undefined : own
  } catch (error) {
    if (error instanceof EndpointError) return undefined
    throw error
  }
}

function readNs(ns: string | readonly string[] | undefined): string | undefined {
  const [first, ...others] = typeof ns === 'string' ? [ns] : (ns ?? [])
  if (first === undefined) return undefined
  if (others.some((other) => other !== first)) {
    throw new OciError('NAME_INVALID', 'the query holds several different ns parameters')
  }
  if (isRegistry(first.toLowerCase())) return first
  throw new OciError(
    'NAME_INVALID',
    `ns=${quote(first)} is no registry: host or host:port is needed`,
  )
}

function completeName(registry: string, name: string): string {
  return registry === DOCKER_HUB && name !== '' && !name.includes('/') ? `library/${name}` : name
}

function refuseName(name: string): never {
  const shown = name === '' ? 'a registry without a repository' : quote(name)
  throw new OciError(
    'NAME_INVALID',
    `${shown} is no repository name: lower-case letters and digits, separated by '.', '_', '__', '-' or '/', up to 255`,
  )
}

function quote(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}
