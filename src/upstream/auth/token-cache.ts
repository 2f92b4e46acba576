// Valid tokens, renewed before they expire. However many callers wait for a token, it is fetched by
// one request, and all of them get its outcome.
import { LRUCache } from 'lru-cache'

import { waitFor } from '../deadline.ts'
import type { Token } from './token.ts'

const MAX_TOKENS = 4096
/** In characters, keys included: token servers choose how long tokens are. */
const MAX_SIZE = 32 * 1024 * 1024

export interface HeldToken {
  readonly value: string
  /** The token was fetched while the caller waited. */
  readonly isNew: boolean
}

export class TokenCache {
  readonly #tokens: LRUCache<string, Token>
  readonly #fetching = new Map<string, Promise<Token>>()
  readonly #now: () => number

  /** Shares the tokens of `former`, but not the requests that are running there. */
  constructor(now: () => number, former?: TokenCache) {
    this.#now = now
    this.#tokens = former === undefined ? noTokens() : former.#tokens
  }

  /**
   * Resolves with a held token for `key`, or with the one that `fetch` gets. A token in the last fifth
   * of its life is used while the next one is fetched. The signal ends the wait, not the fetch.
   */
  async get(key: string, fetch: () => Promise<Token>, signal?: AbortSignal): Promise<HeldToken> {
    const held = this.#tokens.get(key)
    const now = this.#now()
    if (held !== undefined && now < held.expiresAt) {
      // If this fails, the first caller after the expiry will learn why.
      if (now >= held.renewAt) void this.#fetch(key, fetch)
      return { value: held.value, isNew: false }
    }
    const { value } = await waitFor(this.#fetch(key, fetch), signal)
    return { value, isNew: true }
  }

  /** Forgets a token that the registry refused. */
  drop(key: string, value: string): void {
    if (this.#tokens.peek(key)?.value === value) this.#tokens.delete(key)
  }

  #fetch(key: string, fetch: () => Promise<Token>): Promise<Token> {
    const running = this.#fetching.get(key)
    if (running !== undefined) return running
    const fetching = this.#keep(key, fetch)
    this.#fetching.set(key, fetching)
    fetching.catch(() => undefined) // every caller may have left
    return fetching
  }

  async #keep(key: string, fetch: () => Promise<Token>): Promise<Token> {
    try {
      const token = await fetch()
      this.#tokens.set(key, token)
      return token
    } finally {
      this.#fetching.delete(key)
    }
  }
}

function noTokens(): LRUCache<string, Token> {
  return new LRUCache({
    max: MAX_TOKENS,
    maxSize: MAX_SIZE,
    sizeCalculation: ({ value }, key) => value.length + key.length,
  })
}
