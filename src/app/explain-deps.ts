// Gives `explain` the configuration and the content of the directory. It only reads, so that it can be
// used on the directory of a running server.
import type { ExplainDeps, ExplainStore, HostSummary } from '../cli/explain.ts'
import { FreshnessPolicy } from '../cache/policy/freshness.ts'
import type { Config, HostConfig } from '../config/config.ts'
import { readStored } from '../store/stored.ts'
import { summariseAuth, summariseDockerConfig } from '../upstream/credentials/summary.ts'
import type { CredentialSeeker } from '../upstream/credentials/credentials.ts'
import type { Endpoint } from '../upstream/routing/endpoint.ts'
import { configForHost, configKeyFor } from '../upstream/routing/host-config.ts'
import { chooseProxy } from '../upstream/network/proxy/choice.ts'
import { NO_PROXIES, type ProxyEnvironment } from '../upstream/network/proxy/egress-proxy.ts'
import { Registries } from '../upstream/routing/registries.ts'

export function explainDeps(
  config: Config,
  now: number,
  proxies: ProxyEnvironment = NO_PROXIES,
): ExplainDeps {
  const policy = new FreshnessPolicy(config.freshness)
  return {
    registries: new Registries(config),
    defaultRegistry: config.defaultRegistry,
    host: async (endpoint, byClient) => ({
      ...(await summarise(config, { host: endpoint.host, byClient })),
      ...proxyOf(config, proxies, endpoint),
    }),
    freshness: (repository, tag) => {
      const rule = policy.ruleFor(repository, tag)
      const { ttlMs } = policy.settingsFor(repository, tag)
      return rule === undefined ? { ttlMs } : { ttlMs, rule }
    },
    store: explainStore(config.storage.directory),
    now,
  }
}

function explainStore(directory: string): ExplainStore {
  const stored = readStored(directory)
  return {
    tag: (repository, tag) => stored.tag(repository, tag),
    manifest: async (repository, digest) => {
      const link = await stored.link(repository, 'manifest', digest)
      const bytes = link && (await stored.manifest(digest))
      if (bytes === undefined) return undefined
      return link?.mediaType === undefined ? { bytes } : { bytes, mediaType: link.mediaType }
    },
    blob: async (repository, digest) => {
      const link = await stored.link(repository, 'blob', digest)
      return link && (await stored.blob(digest))
    },
  }
}

type Seeker = Required<Pick<CredentialSeeker, 'host' | 'byClient'>>

async function summarise(config: Config, seeker: Seeker): Promise<HostSummary> {
  const { configs, dockerConfig } = config
  const { host, byClient } = seeker
  const entry = configForHost(configs, host)
  const key = configKeyFor(configs, host)
  const from = `configs.${JSON.stringify(key)}`
  const credentials =
    summariseAuth(byClient && key === '*' ? [] : entry?.auth, from) ??
    (await summariseDockerConfigs(dockerConfig, seeker))
  return {
    ...(credentials && { credentials }),
    ...(entry && tlsOf(entry, from)),
    ...(entry?.resolve && { resolve: entry.resolve }),
    ...(entry?.timeouts && { timeouts: { from, ...entry.timeouts } }),
  }
}

/** Summarises the first file that has a credential for the host, else one that cannot be read. */
async function summariseDockerConfigs(paths: readonly string[], seeker: Seeker) {
  const all = await Promise.all(paths.map((path) => summariseDockerConfig(path, seeker)))
  const found = all.find((summary) => summary.all.length > 0)
  return found ?? all.find(({ problem }) => problem !== undefined) ?? all[0]
}

function proxyOf(
  { configs }: Config,
  proxies: ProxyEnvironment,
  { base, host }: Endpoint,
): Pick<HostSummary, 'proxy'> {
  const { proxy, from } = chooseProxy(configs, proxies, { url: base, host })
  return from === undefined ? {} : { proxy: { url: String(proxy ?? 'direct'), from } }
}

function tlsOf({ tls }: HostConfig, from: string): Pick<HostSummary, 'tls'> {
  if (!tls) return {}
  const { ca_file: caFile, cert_file: certFile, insecure_skip_verify: insecureSkipVerify } = tls
  return {
    tls: {
      from,
      ...(caFile !== undefined && { caFile }),
      ...(certFile !== undefined && { certFile }),
      ...(insecureSkipVerify !== undefined && { insecureSkipVerify }),
    },
  }
}
