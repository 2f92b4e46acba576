// How long one host may take: what its `configs` entry says, or that of the endpoint that led to it,
// else what holds for all.
import { configForHost, exactConfig } from '../routing/host-config.ts'
import type { UpstreamLimits } from './timeouts.ts'

/** Of one host; what is absent is as for all. In milliseconds. */
export interface HostTimeouts {
  readonly connectMs?: number
  readonly firstByteMs?: number
  readonly stallMs?: number
}

export class HostLimits {
  readonly #hosts: Readonly<Record<string, { readonly timeouts?: HostTimeouts | undefined }>>
  readonly #limits: UpstreamLimits

  constructor(
    hosts: Readonly<Record<string, { readonly timeouts?: HostTimeouts | undefined }>>,
    limits: UpstreamLimits,
  ) {
    this.#hosts = hosts
    this.#limits = limits
  }

  /**
   * `via`: the endpoint that led there (a redirect, a token server), whose limits hold where `host`
   * has none.
   */
  of(host: string, via: string = host): UpstreamLimits {
    const led = configForHost(this.#hosts, via)?.timeouts
    const own = exactConfig(this.#hosts, host)?.timeouts
    return led === undefined && own === undefined ? this.#limits : this.#with({ ...led, ...own })
  }

  #with({ connectMs, firstByteMs, stallMs }: HostTimeouts): UpstreamLimits {
    const limits = this.#limits
    const single = {
      connectTimeoutMs: connectMs ?? limits.connectTimeoutMs,
      headersTimeoutMs: firstByteMs ?? limits.headersTimeoutMs,
      bodyStallMs: stallMs ?? limits.bodyStallMs,
    }
    return { ...limits, ...single, ...wholesFor({ ...limits, ...single }) }
  }
}

/** The limits of a whole never end what the limits of its parts still allow. */
export function wholesFor(
  limits: UpstreamLimits,
): Pick<UpstreamLimits, 'tokenTimeoutMs' | 'documentTimeoutMs'> {
  const { connectTimeoutMs, headersTimeoutMs, bodyStallMs } = limits
  const parts = connectTimeoutMs + headersTimeoutMs + bodyStallMs
  return {
    tokenTimeoutMs: Math.max(limits.tokenTimeoutMs, parts),
    documentTimeoutMs: Math.max(limits.documentTimeoutMs, parts),
  }
}
