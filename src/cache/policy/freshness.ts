// For how long a tag's answer holds, and what may be served after that. Pure: time is an argument.
// The words are those of RFC 9111 and RFC 5861. Digests never go stale, so they are not asked here.
import type { Repository } from '../../oci/reference.ts'
import { isDigestTag } from '../../oci/reference.ts'
import { Glob } from './glob.ts'
import type { StaleReason } from '../observer.ts'

/** What a rule may change. All durations in milliseconds. */
export interface FreshnessSettings {
  /** A tag's answer is fresh for this long. */
  readonly ttlMs: number
  /** After `ttlMs`, for this long: answer at once what is held, and ask the upstream behind it. */
  readonly staleWhileRevalidateMs: number
  /** Something is held: wait this long for the upstream, then answer the held one. */
  readonly revalidateTimeoutMs: number
  /** After `ttlMs`, for this long: what is held is served while the upstream fails. */
  readonly staleIfErrorMs: number | 'forever'
  /** The upstream says 404 to something held. */
  readonly whenGone: 'serve' | 'refuse'
  /** For how long a 404 of every endpoint is remembered. */
  readonly negativeTtlMs: number
}

export interface FreshnessRule extends Partial<FreshnessSettings> {
  /** `registry/repository:tag`; see Glob. Without a tag part every tag matches. */
  readonly match: string
}

export interface FreshnessOptions extends FreshnessSettings {
  /** The first that matches wins; what it leaves out comes from the settings above. */
  readonly rules?: readonly FreshnessRule[]
}

export const DEFAULT_FRESHNESS: FreshnessSettings = {
  ttlMs: 60_000,
  staleWhileRevalidateMs: 0,
  revalidateTimeoutMs: 2_000,
  staleIfErrorMs: 'forever',
  whenGone: 'serve',
  negativeTtlMs: 10_000,
}

/** Signatures and fallback referrers change whenever somebody signs (protocol.md F3). */
const DIGEST_TAG_TTL_MS = 10_000
const DIGEST_TAG_NEGATIVE_TTL_MS = 2_000

/** Saving requests must not hide for longer that a tag has moved. */
const LONGEST_PROLONGING_MS = 60 * 60_000

export type Freshness = 'fresh' | 'stale-while-revalidate' | 'expired'

/** The settings of each tag under one configuration, with its rules compiled. */
export class FreshnessPolicy {
  /** The settings of what is not a tag, and of tags that no rule matches. */
  readonly defaults: FreshnessSettings
  readonly #rules: readonly CompiledRule[]

  constructor(options: FreshnessOptions = DEFAULT_FRESHNESS) {
    const { rules = [], ...defaults } = options
    this.defaults = defaults
    this.#rules = rules.map(({ match, ...changes }) => {
      return { match, ...splitMatch(match), settings: { ...defaults, ...changes } }
    })
  }

  settingsFor(repo: Repository, tag: string): FreshnessSettings {
    const settings = this.#ruleFor(repo, tag)?.settings ?? this.defaults
    if (!isDigestTag(tag)) return settings
    return {
      ...settings,
      ttlMs: Math.min(settings.ttlMs, DIGEST_TAG_TTL_MS),
      negativeTtlMs: Math.min(settings.negativeTtlMs, DIGEST_TAG_NEGATIVE_TTL_MS),
    }
  }

  /** The `match` of the rule that decides; undefined: none does. */
  ruleFor(repo: Repository, tag: string): string | undefined {
    return this.#ruleFor(repo, tag)?.match
  }

  #ruleFor(repo: Repository, tag: string): CompiledRule | undefined {
    if (this.#rules.length === 0) return undefined
    const name = `${repo.registry}/${repo.name}`
    return this.#rules.find((each) => each.repository.matches(name) && each.tag.matches(tag))
  }
}

interface CompiledRule {
  readonly match: string
  readonly repository: Glob
  readonly tag: Glob
  readonly settings: FreshnessSettings
}

/**
 * Where something checked at `checkedAt` stands `now` (both in milliseconds). Checked in the future
 * means that the clock went back: its age is unknown, and it would never end, so it is expired.
 */
export function freshnessAt(
  checkedAt: number,
  settings: Pick<FreshnessSettings, 'ttlMs' | 'staleWhileRevalidateMs'>,
  now: number,
): Freshness {
  const age = now - checkedAt
  if (age < 0) return 'expired'
  if (age < settings.ttlMs) return 'fresh'
  return age < settings.ttlMs + settings.staleWhileRevalidateMs
    ? 'stale-while-revalidate'
    : 'expired'
}

/** Seconds for which it is still fresh; negative since when it is not. */
export function ttlSeconds(checkedAt: number, ttlMs: number, now: number): number {
  return Math.floor((checkedAt + ttlMs - now) / 1000)
}

/**
 * Whether what was last checked at `checkedAt` may still be served when asking again failed so, or
 * takes too long.
 */
export function mayServeStale(
  checkedAt: number,
  settings: Pick<FreshnessSettings, 'ttlMs' | 'staleIfErrorMs' | 'whenGone'>,
  reason: StaleReason,
  now: number,
): boolean {
  if (reason === 'upstream-gone') return settings.whenGone === 'serve'
  if (settings.staleIfErrorMs === 'forever') return true
  // The distance, not the age: after a jump back it ends as well.
  return Math.abs(now - checkedAt) < settings.ttlMs + settings.staleIfErrorMs
}

/**
 * Whether what was last checked at `checkedAt` counts as fresh a while longer, to save the last
 * requests that a registry grants.
 */
export function mayProlong(
  checkedAt: number,
  settings: Pick<FreshnessSettings, 'ttlMs' | 'staleIfErrorMs' | 'whenGone'>,
  now: number,
): boolean {
  const age = now - checkedAt
  if (age < 0 || age >= settings.ttlMs + LONGEST_PROLONGING_MS) return false
  return mayServeStale(checkedAt, settings, 'budget-low', now)
}

/** The tag part starts at the last colon, unless that one belongs to a registry's port. */
function splitMatch(match: string): { repository: Glob; tag: Glob } {
  const colon = match.lastIndexOf(':')
  const split = colon > match.lastIndexOf('/') ? colon : match.length
  return {
    repository: new Glob(match.slice(0, split)),
    tag: new Glob(match.slice(split + 1) || '*'),
  }
}
