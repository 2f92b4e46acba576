// Which proxy a request takes and where that is written: the host's own entry in `configs`, that of
// the endpoint that led there, the environment. Pure.
import { configForHost, configKeyFor, exactConfig } from '../../routing/host-config.ts'
import { environmentProxy } from './egress-proxy.ts'
import type { Proxy, ProxyEnvironment } from './egress-proxy.ts'

export interface ProxyChoice {
  /** Undefined: it is asked directly. */
  readonly proxy?: Proxy | undefined
  /**
   * A key of the configuration, a variable, or the rule that excepts it; undefined: nothing is set.
   */
  readonly from?: string | undefined
}

interface Route {
  readonly url: URL
  /** Its key in `configs`. */
  readonly host: string
  /** The endpoint that led there. */
  readonly via?: string | undefined
}

type Hosts = Readonly<Record<string, { readonly proxy?: Proxy | 'direct' | undefined }>>

export function chooseProxy(
  hosts: Hosts,
  environment: ProxyEnvironment,
  { url, host, via = host }: Route,
): ProxyChoice {
  const own = exactConfig(hosts, host)?.proxy
  const configured = own ?? configForHost(hosts, via)?.proxy
  if (configured === undefined) return environmentProxy(url, environment)
  const key = configKeyFor(hosts, own === undefined ? via : host)
  const from = `configs.${JSON.stringify(key)}`
  return configured === 'direct' ? { from } : { proxy: configured, from }
}
