// How long a tag's answer stays fresh, and what may be served after that, in the words of RFC 9111 and
// RFC 5861. Digests never go stale and have no business here. Pure: time is an argument.
import type { Repository } from '../../oci/reference.ts'
import { isDigestTag } from '../../oci/reference.ts'
import { Glob } from './glob.ts'
import type { StaleReason } from '../observer.ts'

/** What a rule may change. All durations are in milliseconds. */
export interface FreshnessSettings {
  /** A tag's answer is fresh for this long. */
  readonly ttlMs: number
  /** For this long after `ttlMs`, what is held is served at once and revalidated in the background. */
  readonly staleWhileRevalidateMs: number
  /** How long to wait for the upstream before what is held is served. */
  readonly revalidateTimeoutMs: number
  /** For this long after `ttlMs`, what is held is served while the upstream fails. */
  readonly staleIfErrorMs: number | 'forever'
  /** What to do when the upstream answers 404 to something held. */
  readonly whenGone: 'serve' | 'refuse'
  /** How long a 404 of every endpoint is remembered. */
  readonly negativeTtlMs: number
}

export interface FreshnessRule extends Partial<FreshnessSettings> {
  /** `registry/repository:tag`; see Glob. Without a tag part every tag matches. */
  readonly match: string
}

export interface FreshnessOptions extends FreshnessSettings {
  /** The first rule that matches wins; what it leaves out comes from the settings above. */
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

/** Saving requests must not hide for longer than this that a tag has moved. */
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

  /** Returns the `match` of the rule that decides, or undefined if none matches. */
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
 * Returns how fresh something is at `now` that was checked at `checkedAt` (both in milliseconds). If it
 * was checked in the future, the clock went back: its age is unknown, so it counts as expired.
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

/** Returns for how many seconds it is still fresh; negative for how long it has been stale. */
export function ttlSeconds(checkedAt: number, ttlMs: number, now: number): number {
  return Math.floor((checkedAt + ttlMs - now) / 1000)
}

/**
 * Reports whether what was last checked at `checkedAt` may be served for this reason: asking again
 * failed, or takes too long.
 */
export function mayServeStale(
  checkedAt: number,
  settings: Pick<FreshnessSettings, 'ttlMs' | 'staleIfErrorMs' | 'whenGone'>,
  reason: StaleReason,
  now: number,
): boolean {
  if (reason === 'upstream-gone') return settings.whenGone === 'serve'
  if (settings.staleIfErrorMs === 'forever') return true
  // The distance, not the age: otherwise it would never end after the clock went back.
  return Math.abs(now - checkedAt) < settings.ttlMs + settings.staleIfErrorMs
}

/**
 * Reports whether what was last checked at `checkedAt` counts as fresh for a while longer, to save the
 * last requests that a registry grants.
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
