// Remembers for a short while what every endpoint answered with 404. Other failures are not remembered:
// a 401, 403, 429 or 5xx may turn out differently at the next try or for the next client (protocol.md
// E1.4). In memory and bounded.
import { LRUCache } from 'lru-cache'
import { UpstreamError } from '../../upstream/face/failure.ts'

export interface NegativeCacheOptions {
  readonly maxEntries?: number
  readonly now?: () => number
}

/** A failure from memory: no upstream was asked for it. */
export class RememberedFailure extends UpstreamError {
  /** When the upstream answered it, in milliseconds. */
  readonly at: number

  constructor({ reason, message, endpoint, status }: UpstreamError, at: number) {
    super(reason, message, { endpoint, status })
    this.at = at
  }
}

export class NegativeCache {
  readonly #now: () => number
  readonly #entries: LRUCache<string, { error: RememberedFailure; ttlMs: number }>

  constructor(options: NegativeCacheOptions = {}) {
    this.#now = options.now ?? Date.now
    this.#entries = new LRUCache({ max: options.maxEntries ?? 10_000 })
  }

  /** Returns the failure remembered for this key. */
  get(key: string): RememberedFailure | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    const age = this.#now() - entry.error.at
    return age >= 0 && age < entry.ttlMs ? entry.error : undefined
  }

  /** Remembers a failure for `ttlMs` if it is a 404. One that comes from here keeps its age. */
  remember(key: string, error: unknown, ttlMs: number): void {
    if (!(error instanceof UpstreamError) || error.kind !== 'gone' || ttlMs <= 0) return
    if (error instanceof RememberedFailure) return
    this.#entries.set(key, { error: new RememberedFailure(error, this.#now()), ttlMs })
  }

  clear(): void {
    this.#entries.clear()
  }

  forget(key: string): void {
    this.#entries.delete(key)
  }
}
