// The revalidation loop alone, over an upstream that the test answers for, with a fake clock.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { DEFAULT_FRESHNESS, type FreshnessSettings } from '../../../src/cache/policy/freshness.ts'
import { NegativeCache, RememberedFailure } from '../../../src/cache/policy/negative-cache.ts'
import { type Held, type Resource, Revalidation } from '../../../src/cache/policy/revalidation.ts'
import { type FailureReason, UpstreamError } from '../../../src/upstream/face/failure.ts'
import type { Requester } from '../../../src/upstream/face/requester.ts'
import { ANONYMOUS } from '../../../src/upstream/credentials/credentials.ts'

const SECOND = 1000
const MINUTE = 60 * SECOND
const requester: Requester = { credentials: { credentialFor: async () => ANONYMOUS } }

beforeEach(() => void vi.useFakeTimers({ now: 1_700_000_000_000 }))
afterEach(() => void vi.useRealTimers())

function failed(reason: FailureReason, details: { status?: number; retryAfterMs?: number } = {}) {
  return new UpstreamError(reason, `it says ${reason}`, { endpoint: 'registry.test', ...details })
}

/** An upstream that answers when the test says so, and the loop over it. */
class World {
  readonly observed: string[] = []
  /** What is in memory. */
  held: Held<string> | undefined
  /** What is in the store. */
  stored: Held<string> | undefined
  budget: { limit: number; remaining: number; low: boolean } | undefined
  hasContent = true
  fetches = 0
  #upstream: () => Promise<string> = async () => 'first'
  readonly #settings: FreshnessSettings
  readonly #loop: Revalidation<Resource, string>

  constructor(settings: Partial<FreshnessSettings> = {}) {
    this.#settings = { ...DEFAULT_FRESHNESS, ...settings }
    this.#loop = new Revalidation<Resource, string>(
      {
        peek: () => this.held,
        load: async () => this.stored,
        fetch: async (_, before) => {
          this.fetches++
          const checkedAt = Date.now()
          const value = await this.#upstream()
          this.held = { value, checkedAt, grantedBy: 'anonymous' }
          const state = before === undefined ? 'miss' : 'revalidated'
          return { ...this.held, outcome: { state, fwdStatus: 200 } }
        },
        hasContent: async () => this.hasContent,
      },
      {
        what: 'manifest',
        operation: 'test',
        upstream: { budget: () => this.budget },
        negative: new NegativeCache(),
        observer: {
          staleServed: (reason) => void this.observed.push(reason),
          unexpectedError: (operation, error) => {
            this.observed.push(`${operation}: ${String(error)}`)
          },
        },
      },
    )
  }

  get(changes: Partial<Resource> = {}) {
    const repo = { registry: 'registry.test', name: 'app' }
    const resource = { repo, key: 'registry.test/app:latest', settings: this.#settings, ...changes }
    return this.#loop.get(resource, requester)
  }

  /** Whatever a request ends with. */
  async outcome(changes: Partial<Resource> = {}) {
    const [settled] = await Promise.allSettled([this.get(changes)])
    return settled
  }

  answers(value: string, afterMs = 0): void {
    this.#upstream = async () => {
      if (afterMs > 0) await later(afterMs)
      return value
    }
  }

  fails(error: unknown, afterMs = 0): void {
    this.#upstream = async () => {
      if (afterMs > 0) await later(afterMs)
      throw error
    }
  }

  forgetFailures(): void {
    this.#loop.forgetFailures()
  }
}

function later(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** A world in which "first" is held and was confirmed `ageMs` ago. */
function holding(ageMs: number, settings: Partial<FreshnessSettings> = {}): World {
  const world = new World(settings)
  world.held = { value: 'first', checkedAt: Date.now() - ageMs, grantedBy: 'anonymous' }
  return world
}

/** A world in which nothing was confirmed, but something can be served instead. */
function substituting(settings: Partial<FreshnessSettings> = {}): World {
  const world = new World(settings)
  world.stored = { value: 'substitute' }
  return world
}

describe('with nothing held', () => {
  it('the upstream is asked, and its answer is a hit until ttl has passed', async () => {
    const world = new World()
    expect((await world.get()).cache).toEqual({ state: 'miss', fwdStatus: 200, ttlSeconds: 60 })
    vi.advanceTimersByTime(MINUTE - 1)
    const cache = { state: 'hit', ttlSeconds: 0, ageSeconds: 59 }
    expect(await world.get()).toEqual({ value: 'first', cache })
    expect(world.fetches).toBe(1)
  })

  it('what the store has is served before the upstream is asked', async () => {
    const world = new World()
    world.stored = { value: 'stored', checkedAt: Date.now() }
    expect(await world.get()).toMatchObject({ value: 'stored', cache: { state: 'hit' } })
    expect(world.fetches).toBe(0)
  })

  it('all who wait share one request and its answer, and only one of them caused it', async () => {
    const world = new World()
    world.answers('shared', SECOND)
    const all = Promise.all(Array.from({ length: 20 }, () => world.get()))
    await vi.advanceTimersByTimeAsync(SECOND)
    const states = (await all).map(({ cache }) => cache.state)
    expect(states.filter((state) => state === 'miss')).toHaveLength(1)
    expect(states.filter((state) => state === 'collapsed')).toHaveLength(19)
    expect(world.fetches).toBe(1)
  })

  it('all who wait share one failure', async () => {
    const world = new World()
    const failure = failed('server-error', { status: 500 })
    world.fails(failure, SECOND)
    const all = Promise.all(Array.from({ length: 20 }, () => world.outcome()))
    await vi.advanceTimersByTimeAsync(SECOND)
    for (const outcome of await all) {
      expect(outcome).toEqual({ status: 'rejected', reason: failure })
    }
    expect(world.fetches).toBe(1)
  })

  it('a request goes on when the client that caused it has gone, and its answer is kept', async () => {
    const world = new World()
    world.answers('kept', 10 * SECOND)
    void world.get()
    await vi.advanceTimersByTimeAsync(10 * SECOND)
    expect(await world.get()).toMatchObject({ value: 'kept', cache: { state: 'hit' } })
    expect(world.fetches).toBe(1)
  })

  it('a 404 is remembered for negativeTtl, and then asked about again', async () => {
    const world = new World({ negativeTtlMs: 10 * SECOND })
    world.fails(failed('not-found', { status: 404 }))
    expect(await world.outcome()).toMatchObject({ reason: { status: 404 } })
    world.answers('pushed')
    vi.advanceTimersByTime(10 * SECOND - 1)
    expect(await world.outcome()).toMatchObject({ reason: expect.any(RememberedFailure) })
    expect(world.fetches).toBe(1)
    vi.advanceTimersByTime(1)
    expect(await world.get()).toMatchObject({ value: 'pushed', cache: { state: 'miss' } })
  })

  it('no other failure is remembered', async () => {
    const world = new World()
    for (const reason of ['denied', 'server-error', 'timed-out'] as const) {
      world.fails(failed(reason))
      expect(await world.outcome()).toMatchObject({ status: 'rejected' })
    }
    world.answers('better')
    expect(await world.get()).toMatchObject({ value: 'better' })
  })

  it('a rate limit of up to 10 s is waited for by all together', async () => {
    const world = new World()
    world.fails(failed('rate-limited', { status: 429, retryAfterMs: 5 * SECOND }))
    const first = world.get()
    await vi.advanceTimersByTimeAsync(3 * SECOND)
    const second = world.get()
    world.answers('at last')
    await vi.advanceTimersByTimeAsync(SECOND)
    expect(world.fetches).toBe(1)
    await vi.advanceTimersByTimeAsync(2 * SECOND)
    expect([(await first).value, (await second).value]).toEqual(['at last', 'at last'])
    expect(world.fetches).toBe(2)
  })

  it('a longer rate limit is not waited for', async () => {
    const world = new World()
    world.fails(failed('rate-limited', { status: 429, retryAfterMs: 30 * SECOND }))
    expect(await world.outcome()).toMatchObject({ reason: { reason: 'rate-limited' } })
    expect(world.fetches).toBe(1)
  })
})

describe('with something stale held', () => {
  it('the upstream confirms it, and it is fresh again', async () => {
    const world = holding(MINUTE)
    expect((await world.get()).cache).toMatchObject({ state: 'revalidated', ttlSeconds: 60 })
    expect((await world.get()).cache.state).toBe('hit')
    expect(world.fetches).toBe(1)
  })

  it('it is served at once within staleWhileRevalidate, and renewed in the background', async () => {
    const world = holding(MINUTE, { staleWhileRevalidateMs: MINUTE })
    world.answers('second', 5 * SECOND)
    const { value, cache } = await world.get()
    expect([value, cache]).toEqual([
      'first',
      { state: 'stale', detail: 'revalidating', ttlSeconds: 0, ageSeconds: 60 },
    ])
    await vi.advanceTimersByTimeAsync(5 * SECOND)
    expect(await world.get()).toMatchObject({ value: 'second', cache: { state: 'hit' } })
    expect(world.fetches).toBe(1)
  })

  it('after staleWhileRevalidate the answer is waited for', async () => {
    const world = holding(2 * MINUTE, { staleWhileRevalidateMs: MINUTE })
    world.answers('second', SECOND)
    const answer = world.get()
    await vi.advanceTimersByTimeAsync(SECOND)
    expect(await answer).toMatchObject({ value: 'second', cache: { state: 'revalidated' } })
  })

  it('nobody waits longer than revalidateTimeout, counted from when the request began', async () => {
    const world = holding(MINUTE, { revalidateTimeoutMs: 2 * SECOND })
    world.answers('second', 3 * SECOND)
    const first = world.get()
    await vi.advanceTimersByTimeAsync(1.5 * SECOND)
    const second = world.get()
    await vi.advanceTimersByTimeAsync(0.5 * SECOND)
    for (const answer of await Promise.all([first, second])) {
      expect(answer).toMatchObject({ value: 'first', cache: { detail: 'revalidating' } })
    }
    await vi.advanceTimersByTimeAsync(SECOND)
    expect(await world.get()).toMatchObject({ value: 'second', cache: { state: 'hit' } })
    expect(world.fetches).toBe(1)
  })

  it.each([
    ['server-error', 'upstream-error'],
    ['rate-limited', 'rate-limited'],
    ['denied', 'denied'],
    ['not-found', 'upstream-gone'],
  ] as const)('it is served when the upstream fails (%s)', async (reason, detail) => {
    const world = holding(10 * MINUTE)
    world.fails(failed(reason, { status: 499 }))
    expect(await world.get()).toEqual({
      value: 'first',
      cache: { state: 'stale', detail, ttlSeconds: -540, ageSeconds: 600, fwdStatus: 499 },
    })
    expect(world.observed).toEqual([detail])
  })

  it('it is served for a failure until staleIfError has passed', async () => {
    const world = holding(2 * MINUTE - 1, { staleIfErrorMs: MINUTE })
    world.fails(failed('refused'))
    expect((await world.get()).cache.state).toBe('stale')
    vi.advanceTimersByTime(1)
    expect(await world.outcome()).toMatchObject({ reason: { reason: 'refused' } })
  })

  it('it is served for a failure indefinitely by default', async () => {
    const world = holding(1000 * 24 * 60 * MINUTE)
    world.fails(failed('refused'))
    expect((await world.get()).cache.state).toBe('stale')
  })

  it('a slow upstream is waited for when staleIfError has passed', async () => {
    const world = holding(2 * MINUTE, { staleIfErrorMs: MINUTE })
    world.answers('second', 20 * SECOND)
    const answer = world.get()
    await vi.advanceTimersByTimeAsync(20 * SECOND)
    expect(await answer).toMatchObject({ value: 'second', cache: { state: 'revalidated' } })
  })

  it('a 404 is passed on where whenGone refuses', async () => {
    const world = holding(MINUTE, { whenGone: 'refuse' })
    world.fails(failed('not-found', { status: 404 }))
    expect(await world.outcome()).toMatchObject({ reason: { status: 404 } })
  })

  it('an upstream that failed is not asked again for 5 s', async () => {
    const world = holding(MINUTE)
    world.fails(failed('timed-out'))
    await world.get()
    world.answers('second')
    vi.advanceTimersByTime(5 * SECOND - 1)
    expect((await world.get()).cache.detail).toBe('upstream-error')
    expect(world.fetches).toBe(1)
    vi.advanceTimersByTime(1)
    expect(await world.get()).toMatchObject({ value: 'second', cache: { state: 'revalidated' } })
  })

  it('it is not asked again before Retry-After, and a short limit is not waited for', async () => {
    const world = holding(MINUTE)
    world.fails(failed('rate-limited', { status: 429, retryAfterMs: 8 * SECOND }))
    expect((await world.get()).cache.detail).toBe('rate-limited')
    vi.advanceTimersByTime(8 * SECOND - 1)
    expect((await world.get()).cache.detail).toBe('rate-limited')
    expect(world.fetches).toBe(1)
    world.answers('second')
    vi.advanceTimersByTime(1)
    expect((await world.get()).cache.state).toBe('revalidated')
  })

  it('a forgotten failure lets the upstream be asked at once', async () => {
    const world = holding(MINUTE)
    world.fails(failed('timed-out'))
    await world.get()
    world.answers('second')
    world.forgetFailures()
    expect(await world.get()).toMatchObject({ value: 'second' })
  })

  it('a failure in the background is remembered, too', async () => {
    const world = holding(MINUTE, { staleWhileRevalidateMs: MINUTE })
    world.fails(failed('refused'))
    expect((await world.get()).cache.detail).toBe('revalidating')
    await vi.advanceTimersByTimeAsync(0)
    expect((await world.get()).cache.detail).toBe('upstream-error')
    expect(world.fetches).toBe(1)
  })

  it('it is served without a request while few requests are left, for an hour', async () => {
    const world = holding(MINUTE)
    world.budget = { limit: 100, remaining: 5, low: true }
    vi.advanceTimersByTime(60 * MINUTE - 1)
    expect((await world.get()).cache).toEqual({
      state: 'stale',
      detail: 'budget-low',
      ttlSeconds: -3600,
      ageSeconds: 3659,
    })
    expect(world.fetches).toBe(0)
    vi.advanceTimersByTime(1)
    expect((await world.get()).cache.state).toBe('revalidated')
  })

  it('a clock that went back makes it stale', async () => {
    const world = holding(-MINUTE)
    expect((await world.get()).cache.state).toBe('revalidated')
  })

  it('it answers nothing when its content is gone: the upstream is waited for', async () => {
    const world = holding(MINUTE, { revalidateTimeoutMs: 1 })
    world.hasContent = false
    world.fails(failed('rate-limited', { status: 429, retryAfterMs: 2 * SECOND }))
    const get = world.get()
    const head = world.get({ needsNoContent: true })
    await vi.advanceTimersByTimeAsync(SECOND)
    expect((await head).cache.detail).toBe('revalidating')
    world.answers('second')
    await vi.advanceTimersByTimeAsync(2 * SECOND)
    expect(await get).toMatchObject({ value: 'second', cache: { state: 'revalidated' } })
  })

  it('an error that no upstream explains is reported once, and the held value served', async () => {
    const world = holding(MINUTE)
    world.fails(new TypeError('a bug'), SECOND)
    const all = Promise.all(Array.from({ length: 5 }, () => world.get()))
    await vi.advanceTimersByTimeAsync(SECOND)
    expect((await all).map(({ cache }) => cache.detail)).toEqual(Array(5).fill('internal-error'))
    expect(world.observed.filter((each) => each === 'test: TypeError: a bug')).toHaveLength(1)
  })
})

describe('with a substitute that no upstream has given', () => {
  it('the upstream is asked each time, however few requests are left', async () => {
    const world = substituting()
    world.budget = { limit: 100, remaining: 5, low: true }
    expect((await world.get()).value).toBe('first')
    expect(world.fetches).toBe(1)
  })

  it('it is served without a ttl and an age when the upstream fails', async () => {
    const world = substituting()
    world.fails(failed('refused'))
    expect(await world.get()).toEqual({
      value: 'substitute',
      cache: { state: 'stale', detail: 'upstream-error' },
    })
  })

  it('it is not served where staleIfError is 0', async () => {
    const world = substituting({ staleIfErrorMs: 0 })
    world.fails(failed('refused'))
    expect(await world.outcome()).toMatchObject({ reason: { reason: 'refused' } })
  })
})
