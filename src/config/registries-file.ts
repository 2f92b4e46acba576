// Reads a K3s registries.yaml as K3s does: YAML 1.1 into Go structs with yaml.v2, not strict. Whatever
// K3s ignores is a warning here, never an error; whatever makes K3s reject the file is an error.
import type { Pair, YAMLMap } from 'yaml'
import { isMap, isScalar, isSeq } from 'yaml'
import { isRegistry, normaliseRegistry } from '../oci/reference.ts'
import { EndpointError, normaliseEndpoint } from '../upstream/routing/endpoint.ts'
import { Rewrite, RewriteError } from '../upstream/routing/rewrite.ts'
import type {
  ConfiguredEndpoint,
  ConfiguredRewrite,
  HostConfig,
  Mirror,
  RegistrySettings,
} from './config.ts'
import type { KeyPath, Problem } from './problem.ts'
import { Secret } from './secret.ts'
import { suggest } from './suggest.ts'
import { shownKey } from './unknown-key.ts'
import { keyText, scalarText, startOf, YamlSource } from './yaml-source.ts'

export interface RegistriesFile extends RegistrySettings {
  readonly problems: readonly Problem[]
}

/** Reads a registries.yaml from its text. Messages call it `file`. */
export function readRegistriesFile(file: string, text: string): RegistriesFile {
  const source = new YamlSource(file, text, { version: '1.1' })
  if (source.problems.length > 0) {
    return { mirrors: [], configs: new Map(), problems: source.problems }
  }
  return new Decoder(source).decode()
}

/** Limits the entries, because aliases could multiply them without end. No real file has as many. */
const MAX_ENTRIES = 20_000
const MAX_MERGE_DEPTH = 10

type Fields = Readonly<Record<string, (value: unknown, path: KeyPath) => void>>

interface MirrorDraft {
  endpoints: ConfiguredEndpoint[]
  readonly rewrites: Map<string, ConfiguredRewrite>
}

interface HostDraft {
  auth?: { username?: string; password?: Secret; auth?: Secret; identity_token?: Secret }
  tls?: {
    ca_file?: string
    cert_file?: string
    key_file?: string
    insecure_skip_verify?: boolean
  }
}

// yaml.v2 decodes a repeated key of a struct into the same field again: two structs or maps are merged,
// and of two lists or scalars the last wins. A repeated key of a *map* starts from scratch: the last
// wins.
class Decoder {
  readonly #source: YamlSource
  readonly #problems: Problem[] = []
  readonly #mirrors = new Map<string, Mirror>()
  readonly #configs = new Map<string, HostConfig>()
  #entries = 0

  constructor(source: YamlSource) {
    this.#source = source
  }

  decode(): RegistriesFile {
    this.#struct(this.#source.root, [], {
      mirrors: (value, path) => this.#map(value, path, (...entry) => this.#mirror(...entry)),
      configs: (value, path) => this.#map(value, path, (...entry) => this.#hostConfig(...entry)),
      auths: (value, path) =>
        this.#warn(value, path, 'K3s ignores auths; write configs.<host>.auth'),
    })
    if (this.#source.documents > 1) {
      this.#warn(this.#source.root, [], 'K3s reads only the first document, and so does Chandlery')
    }
    return {
      mirrors: [...this.#mirrors.values()],
      configs: this.#configs,
      problems: this.#problems,
    }
  }

  #mirror(key: unknown, value: unknown, path: KeyPath): void {
    const registry = normaliseRegistry(keyText(key))
    if (!this.#isHost(key, registry, path)) return
    const draft: MirrorDraft = { endpoints: [], rewrites: new Map() }
    this.#struct(value, path, {
      endpoint: (list, at) => (draft.endpoints = this.#endpoints(list, at)),
      rewrite: (map, at) => this.#map(map, at, (...entry) => this.#rule(draft, ...entry)),
    })
    this.#mirrors.set(registry, {
      registry,
      endpoints: draft.endpoints,
      rewrites: [...draft.rewrites.values()],
      hosts: [],
      place: this.#place(key),
    })
  }

  #rule(draft: MirrorDraft, key: unknown, value: unknown, path: KeyPath): void {
    const pattern = keyText(key)
    const replacement = this.#text(value, path)
    if (replacement === undefined) return
    draft.rewrites.delete(pattern)
    try {
      const rewrite = new Rewrite(pattern, replacement)
      draft.rewrites.set(pattern, { rewrite, place: this.#place(key) })
    } catch (error) {
      if (!(error instanceof RewriteError)) throw error
      this.#warn(key, path, `rule ignored, as K3s does: ${error.message}`)
    }
  }

  #endpoints(list: unknown, path: KeyPath): ConfiguredEndpoint[] {
    const endpoints: ConfiguredEndpoint[] = []
    for (const [i, item] of this.#list(list, path).entries()) {
      const text = this.#text(item, [...path, i])
      if (text === undefined) continue
      try {
        endpoints.push({ ...normaliseEndpoint(text), written: text })
      } catch (error) {
        if (!(error instanceof EndpointError)) throw error
        this.#warn(item, [...path, i], `endpoint ignored: ${error.message}`)
      }
    }
    return endpoints
  }

  #hostConfig(key: unknown, value: unknown, path: KeyPath): void {
    const host = keyText(key).toLowerCase()
    if (!this.#isHost(key, host, path)) return
    const draft: HostDraft = {}
    this.#struct(value, path, {
      auth: (map, at) => this.#auth(draft, map, at),
      tls: (map, at) => this.#tls(draft, map, at),
    })
    const { cert_file, key_file } = draft.tls ?? {}
    if (Boolean(cert_file) !== Boolean(key_file)) {
      const message = 'cert_file and key_file belong together; add the other or leave both out'
      this.#error(value, [...path, 'tls'], message)
    }
    const { auth, ...rest } = draft
    this.#configs.set(host, { ...rest, ...(auth && { auth: [auth] }), place: this.#place(key) })
  }

  #auth(draft: HostDraft, value: unknown, path: KeyPath): void {
    if (isNull(this.#source.resolve(value))) return void delete draft.auth
    const auth = (draft.auth ??= {})
    const secret = (name: 'password' | 'auth' | 'identity_token') => (node: unknown, at: KeyPath) =>
      assign(auth, name, this.#text(node, at), (text) => new Secret(text))
    this.#struct(value, path, {
      username: (node, at) => assign(auth, 'username', this.#text(node, at), (text) => text),
      password: secret('password'),
      auth: secret('auth'),
      identity_token: secret('identity_token'),
      token: (node, at) => {
        this.#warn(
          node,
          at,
          'K3s has no key named token and ignores it; write username and password, or identity_token',
        )
      },
    })
  }

  #tls(draft: HostDraft, value: unknown, path: KeyPath): void {
    if (isNull(this.#source.resolve(value))) return void delete draft.tls
    const tls = (draft.tls ??= {})
    const file = (name: 'ca_file' | 'cert_file' | 'key_file') => (node: unknown, at: KeyPath) =>
      assign(tls, name, this.#text(node, at), (text) => text)
    this.#struct(value, path, {
      ca_file: file('ca_file'),
      cert_file: file('cert_file'),
      key_file: file('key_file'),
      insecure_skip_verify: (node, at) => {
        const truth = this.#boolean(node, at)
        if (truth !== undefined) tls.insecure_skip_verify = truth
      },
    })
  }

  /** Decodes a Go struct: known keys go to their fields, others are ignored. */
  #struct(value: unknown, path: KeyPath, fields: Fields): void {
    const seen = new Set<string>()
    for (const { key, value: field } of this.#pairs(value, path)) {
      const name = keyText(key)
      const at = [...path, name]
      if (seen.has(name)) this.#warn(key, at, 'given twice; K3s merges the two, and the last wins')
      seen.add(name)
      if (Object.hasOwn(fields, name)) fields[name]?.(field, at)
      else this.#warn(key, [...path, shownKey(name)], ignoredMessage(name, Object.keys(fields)))
    }
  }

  /** Decodes a Go map: every key is an entry. */
  #map(
    value: unknown,
    path: KeyPath,
    entry: (key: unknown, value: unknown, path: KeyPath) => void,
  ): void {
    const seen = new Set<string>()
    for (const { key, value: field } of this.#pairs(value, path)) {
      const name = keyText(key)
      if (seen.has(name)) this.#warn(key, [...path, name], 'given twice; the last wins')
      seen.add(name)
      entry(key, field, [...path, name])
    }
  }

  #pairs(value: unknown, path: KeyPath, depth = 0): Pair[] {
    const node = this.#source.resolve(value)
    if (isNull(node)) return []
    if (!isMap(node)) {
      this.#error(value, path, 'is not a map; K3s rejects such a file')
      return []
    }
    this.#entries += node.items.length
    if (this.#entries > MAX_ENTRIES || depth > MAX_MERGE_DEPTH) {
      if (!this.#problems.some(({ message }) => message === TOO_MUCH)) {
        this.#error(value, path, TOO_MUCH)
      }
      return []
    }
    return this.#merged(node, path, depth)
  }

  /** Returns the pairs of a map after those that `<<` merges in. The map's own keys win. */
  #merged(map: YAMLMap, path: KeyPath, depth: number): Pair[] {
    const own = map.items.filter(({ key }) => !isMergeKey(key))
    const names = new Set(own.map(({ key }) => keyText(key)))
    const inherited = map.items
      .filter(({ key }) => isMergeKey(key))
      .flatMap(({ value }) => {
        const node = this.#source.resolve(value)
        return isSeq(node) ? node.items : [value]
      })
      .flatMap((value) => this.#pairs(value, path, depth + 1))
      .filter(({ key }) => !names.has(keyText(key)))
    return [...inherited, ...own]
  }

  #list(value: unknown, path: KeyPath): readonly unknown[] {
    const node = this.#source.resolve(value)
    if (isSeq(node)) return node.items
    if (!isNull(node)) this.#error(value, path, 'is not a list; K3s rejects such a file')
    return []
  }

  /** Decodes a Go string: a scalar of any type as it is written, null as the empty string. */
  #text(value: unknown, path: KeyPath): string | undefined {
    const node = this.#source.resolve(value)
    if (isNull(node)) return ''
    if (isScalar(node)) return scalarText(node)
    this.#error(value, path, 'is not a string; K3s rejects such a file')
    return undefined
  }

  #boolean(value: unknown, path: KeyPath): boolean | undefined {
    const node = this.#source.resolve(value)
    if (isNull(node)) return false
    if (isScalar(node) && typeof node.value === 'boolean') return node.value
    this.#error(value, path, 'is neither true nor false; K3s rejects such a file')
    return undefined
  }

  #isHost(key: unknown, name: string, path: KeyPath): boolean {
    if (name === '*' || isRegistry(name)) return true
    this.#warn(key, path, 'ignored: not the name of a registry; write host or host:port')
    return false
  }

  #place(node: unknown) {
    return this.#source.place(startOf(node) ?? 0)
  }

  #warn(node: unknown, path: KeyPath, message: string): void {
    this.#problems.push({ severity: 'warning', at: this.#place(node), path, message })
  }

  #error(node: unknown, path: KeyPath, message: string): void {
    this.#problems.push({ severity: 'error', at: this.#place(node), path, message })
  }
}

const TOO_MUCH = 'aliases or merges expand to too much content; write it out'

const OWN_KEYS = new Set(['hosts', 'realms', 'resolve'])

function ignoredMessage(name: string, known: readonly string[]): string {
  if (OWN_KEYS.has(name)) return `K3s ignores it; move it to Chandlery's own file`
  const near = suggest(name, known)
  return near === undefined ? 'unknown key, ignored' : `unknown key, ignored; did you mean ${near}?`
}

/** Sets a field, or removes it for an empty string: K3s treats a Go zero value as not given. */
function assign<T, K extends string>(
  target: { [key in K]?: T },
  key: K,
  text: string | undefined,
  convert: (text: string) => T,
): void {
  if (text) target[key] = convert(text)
  else delete target[key]
}

function isNull(node: unknown): boolean {
  return node === null || node === undefined || (isScalar(node) && node.value === null)
}

function isMergeKey(key: unknown): boolean {
  return isScalar(key) && key.type === 'PLAIN' && scalarText(key) === '<<'
}
