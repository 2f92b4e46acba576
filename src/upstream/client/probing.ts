// Probes endpoints periodically, so that no request has to find out which of them are down. Optional:
// without it, requests find out.
import type { RegistryClient } from './client.ts'
import type { Endpoint } from '../routing/endpoint.ts'

export interface ProbingOptions {
  readonly client: Pick<RegistryClient, 'probe'>
  readonly endpoints: readonly Endpoint[]
  readonly everyMs: number
}

/** Probes every endpoint at once, and then every `everyMs`, until it is disposed of. */
export class Probing implements Disposable {
  readonly #options: ProbingOptions
  readonly #timer: NodeJS.Timeout
  readonly #running = new Set<Endpoint>()

  constructor(options: ProbingOptions) {
    this.#options = options
    this.#timer = setInterval(() => this.#probeAll(), options.everyMs)
    this.#timer.unref()
    this.#probeAll()
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }

  #probeAll(): void {
    for (const endpoint of this.#options.endpoints) void this.#probe(endpoint)
  }

  /** Skips an endpoint whose last probe is still running. */
  async #probe(endpoint: Endpoint): Promise<void> {
    if (this.#running.has(endpoint)) return
    this.#running.add(endpoint)
    await this.#options.client.probe(endpoint)
    this.#running.delete(endpoint)
  }
}
