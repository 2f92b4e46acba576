// Loads the effective configuration from flags, variables and files, or reports everything that is
// wrong with it. All relative paths, those in files included, are relative to the working directory,
// as in distribution and K3s: the same path means the same file wherever it is written.
import { type ConfigFile, readConfigFile } from './config-file.ts'
import { type Config, mergeRegistries, registrySettingsOf, settingsOf } from './config.ts'
import { type Environment, type Flags, type Overrides, readOverrides } from './env.ts'
import { lintRewrites } from './lint.ts'
import { formatListenAddress } from './listen-address.ts'
import { ConfigError, inReadingOrder, type KeyPath, type Problem } from './problem.ts'
import { readText } from './read-text.ts'
import { checkReferences, type Locate, namedFiles } from './referenced-files.ts'
import { type RegistriesFile, readRegistriesFile } from './registries-file.ts'
import { proxiesOf, ProxyError } from '../upstream/network/proxy/egress-proxy.ts'
import { suggest } from './suggest.ts'

export interface Loaded {
  readonly config: Config
  readonly warnings: readonly Problem[]
  /** The configuration files themselves. */
  readonly sources: readonly string[]
  /** The files that the configuration names. */
  readonly files: readonly string[]
}

/**
 * Loads the configuration: a flag wins over a variable, a variable over the file, the file over the
 * default. Without a file the defaults apply. Throws ConfigError with every problem, warnings
 * included, if at least one is an error.
 */
export async function loadConfig(flags: Flags, env: Environment): Promise<Loaded> {
  const overrides = readOverrides(flags, env)
  const [ours, k3s] = await Promise.all([
    openConfig(overrides.config),
    openK3s(overrides.registries),
  ])
  const sources = [overrides.config, overrides.registries].filter((file) => file !== undefined)
  const problems = [...overrides.problems, ...ours.problems, ...k3s.problems]
  if (!ours.content) throw new ConfigError(inReadingOrder(problems), sources)

  const config = combine(ours, ours.content, k3s, overrides)
  problems.push(
    ...listenConflict(config, overrides, flags, ours.source.valuePlace(['admin', 'listen'])),
  )
  problems.push(...environmentProxies(env))
  problems.push(...sharedHosts(config))
  problems.push(...lintRewrites(config.mirrors))
  problems.push(...unusedConfigs(config))
  problems.push(...(await checkReferences(config, env, locate(ours, config))))
  const files = namedFiles(config)
  if (problems.some(({ severity }) => severity === 'error')) {
    throw new ConfigError(inReadingOrder(problems), [...sources, ...files])
  }
  return { config, warnings: inReadingOrder(problems), sources, files }
}

async function openConfig(file: string | undefined): Promise<ConfigFile> {
  if (file === undefined) return readConfigFile('', '')
  const text = await readText(file)
  if (typeof text === 'string') return readConfigFile(file, text)
  return { ...readConfigFile(file, ''), content: undefined, problems: [text] }
}

async function openK3s(file: string | undefined): Promise<RegistriesFile> {
  if (file === undefined) return { mirrors: [], configs: new Map(), problems: [] }
  const text = await readText(file)
  if (typeof text === 'string') return readRegistriesFile(file, text)
  return { mirrors: [], configs: new Map(), problems: [text] }
}

function combine(
  ours: ConfigFile,
  content: NonNullable<ConfigFile['content']>,
  k3s: RegistriesFile,
  overrides: Overrides,
): Config {
  const settings = settingsOf(content)
  const { listen, adminListen, directory, logLevel } = overrides
  return {
    ...settings,
    ...(listen && { listen }),
    ...(adminListen && { admin: { ...settings.admin, listen: adminListen } }),
    ...(directory !== undefined && { storage: { ...settings.storage, directory } }),
    ...(logLevel && { log: { level: logLevel } }),
    ...mergeRegistries(registrySettingsOf(content, ours.source), k3s),
  }
}

/**
 * Returns a function that finds the place of a key in Chandlery's own file. Problems with an entry of
 * the K3s file get that entry's place there and are only warnings.
 */
function locate(ours: ConfigFile, config: Config): Locate {
  return (path) => {
    const [section, host] = path
    const entry = section === 'configs' ? config.configs[String(host)] : undefined
    if (entry?.place && entry.place.file !== ours.source.file) {
      return { severity: 'warning', at: entry.place }
    }
    return { severity: 'error', at: ours.source.valuePlace(asWritten(path, ours)) }
  }
}

/** Returns the path with the host as spelled in the file, which may have upper-case letters. */
function asWritten([section, host, ...rest]: KeyPath, { source }: ConfigFile): KeyPath {
  if (section === undefined || host === undefined) return section === undefined ? [] : [section]
  const key = source.keys([section]).find((written) => written.toLowerCase() === host)
  return [section, key ?? host, ...rest]
}

function listenConflict(
  { listen, admin }: Config,
  overrides: Overrides,
  flags: Flags,
  at: Problem['at'],
): Problem[] {
  const same = listen.port === admin.listen.port && listen.port !== 0
  const hosts = [listen.host, admin.listen.host]
  if (!same || (hosts[0] !== hosts[1] && !hosts.some(isEveryAddress))) return []
  const message = `listen already uses ${formatListenAddress(admin.listen)}; give admin.listen another port`
  const where = (overrides.listen ?? overrides.adminListen) ? 'listen addresses' : at
  const path = typeof where === 'string' ? [] : ['admin', 'listen']
  const isUsage = flags.listen !== undefined || flags.adminListen !== undefined
  return [{ severity: 'error', at: where, path, message, ...(isUsage && { isUsage }) }]
}

/** Checks the proxies of the environment, which hosts without a proxy of their own use. */
function environmentProxies(env: Environment): Problem[] {
  try {
    proxiesOf(env)
    return []
  } catch (error) {
    if (!(error instanceof ProxyError)) throw error
    const cure = 'write http://, https:// or socks5://[user:password@]host:port'
    const message = `${error.message}; ${cure}`
    return [{ severity: 'error', at: 'environment', path: [], message }]
  }
}

function isEveryAddress(host: string | undefined): boolean {
  return host === undefined || host === '0.0.0.0' || host === '::'
}

/** Reports Host headers that two registries claim: a request could mean either. */
function sharedHosts({ mirrors }: Config): Problem[] {
  const owners = new Map<string, string>()
  return mirrors.flatMap(({ registry, hosts, place }) =>
    hosts.flatMap((host): Problem[] => {
      const owner = owners.get(host)
      owners.set(host, owner ?? registry)
      if (owner === undefined || owner === registry || !place) return []
      const message = `${host} already belongs to ${owner}; list a host under one registry only`
      return [{ severity: 'error', at: place, path: ['mirrors', registry, 'hosts'], message }]
    }),
  )
}

/** Reports configs entries that are nearly, but not quite, the host of an endpoint or a registry. */
function unusedConfigs({ mirrors, configs }: Config): Problem[] {
  const hosts = new Set(
    mirrors.flatMap(({ registry, endpoints }) => [registry, ...endpoints.map(({ host }) => host)]),
  )
  const unused = Object.entries(configs).filter(([host]) => !hosts.has(host) && !HUB.has(host))
  return unused.flatMap(([host, { place }]): Problem[] => {
    const near = host === '*' || !place ? undefined : similarHost(host, hosts)
    if (near === undefined || !place) return []
    const message = `no endpoint has this host; did you mean ${near}? (write host and port as in the endpoint)`
    return [{ severity: 'warning', at: place, path: ['configs', host], message }]
  })
}

const HUB = new Set(['docker.io', 'registry-1.docker.io', 'index.docker.io'])

function similarHost(host: string, hosts: ReadonlySet<string>): string | undefined {
  const bare = host.replace(/:\d+$/, '')
  const others = [...hosts].filter((each) => each !== '*')
  return others.find((each) => each.replace(/:\d+$/, '') === bare) ?? suggest(host, others, 2)
}
