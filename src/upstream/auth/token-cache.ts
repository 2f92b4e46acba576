// Tokens that are still good, renewed before they expire; one request for a token however many
// wait for it, and all of them get its outcome.
import { LRUCache } from 'lru-cache'

import { waitFor } from '../deadline.ts'
import type { Token } from './token.ts'

const MAX_TOKENS = 4096
/** In characters, with the keys: how long they are is up to others. */
const MAX_SIZE = 32 * 1024 * 1024

export interface HeldToken {
  readonly value: string
  /** It was fetched while the caller waited. */
  readonly isNew: boolean
}

export class TokenCache {
  readonly #tokens: LRUCache<string, Token>
  readonly #fetching = new Map<string, Promise<Token>>()
  readonly #now: () => number

  /** `former`: shares its tokens; what that one is fetching, this one fetches by itself. */
  constructor(now: () => number, former?: TokenCache) {
    this.#now = now
    this.#tokens = former === undefined ? noTokens() : former.#tokens
  }

  /**
   * A token for `key`, from here or by `fetch`. One in the last fifth of its life is used while the
   * next is fetched. Leaving early (`signal`) ends the wait, not the fetch.
   */
  async get(key: string, fetch: () => Promise<Token>, signal?: AbortSignal): Promise<HeldToken> {
    const held = this.#tokens.get(key)
    const now = this.#now()
    if (held !== undefined && now < held.expiresAt) {
      // If that fails, the wait at its expiry will say why.
      if (now >= held.renewAt) void this.#fetch(key, fetch)
      return { value: held.value, isNew: false }
    }
    const { value } = await waitFor(this.#fetch(key, fetch), signal)
    return { value, isNew: true }
  }

  /** The registry refused this one: it is not handed out again. */
  drop(key: string, value: string): void {
    if (this.#tokens.peek(key)?.value === value) this.#tokens.delete(key)
  }

  #fetch(key: string, fetch: () => Promise<Token>): Promise<Token> {
    const running = this.#fetching.get(key)
    if (running !== undefined) return running
    const fetching = this.#keep(key, fetch)
    this.#fetching.set(key, fetching)
    fetching.catch(() => undefined) // whoever wanted it may have left
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
