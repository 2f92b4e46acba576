// How long one host may take: as in its `configs` entry, or in that of the endpoint that led to it, or
// else as for all hosts.
import { configForHost, exactConfig } from '../routing/host-config.ts'
import type { UpstreamLimits } from './timeouts.ts'

/** The time limits of one host, in milliseconds. What is absent is as for all hosts. */
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
   * Returns the limits of `host`. Where it has none, those of `via` apply: the endpoint that led there
   * (by a redirect, or as its token server).
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

/** Returns limits for a whole that are no shorter than the limits of its parts together. */
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
