// What every endpoint said 404 to, for a short while. Only that: a 401, 403, 429 or 5xx may be
// otherwise at the next try or for the next client (protocol.md E1.4). In memory and bounded.
import { LRUCache } from 'lru-cache'
import { UpstreamError } from '../../upstream/face/failure.ts'

export interface NegativeCacheOptions {
  readonly maxEntries?: number
  readonly now?: () => number
}

/** A failure from memory: nobody was asked for this answer. */
export class RememberedFailure extends UpstreamError {
  constructor({ reason, message, endpoint, status }: UpstreamError) {
    super(reason, message, { endpoint, status })
  }
}

export class NegativeCache {
  readonly #now: () => number
  readonly #entries: LRUCache<string, { error: RememberedFailure; at: number; ttlMs: number }>

  constructor(options: NegativeCacheOptions = {}) {
    this.#now = options.now ?? Date.now
    this.#entries = new LRUCache({ max: options.maxEntries ?? 10_000 })
  }

  /** The failure remembered for this key. */
  get(key: string): RememberedFailure | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    const age = this.#now() - entry.at
    return age >= 0 && age < entry.ttlMs ? entry.error : undefined
  }

  /** Remembers a failure, if it is one that may be remembered; what is from here stays as old as it is. */
  remember(key: string, error: unknown, ttlMs: number): void {
    if (!(error instanceof UpstreamError) || error.kind !== 'gone' || ttlMs <= 0) return
    if (error instanceof RememberedFailure) return
    this.#entries.set(key, { error: new RememberedFailure(error), at: this.#now(), ttlMs })
  }

  clear(): void {
    this.#entries.clear()
  }

  forget(key: string): void {
    this.#entries.delete(key)
  }
}
