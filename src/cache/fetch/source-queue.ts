// Which source a download asks next: the order they joined in, minus those that refused,
// last those that lied. It decides only; it asks nobody.
import {
  type FailureKind,
  type FailureReason,
  SHORT_LIMIT_MS,
  type UpstreamError,
} from '../../upstream/face/failure.ts'
import type { Source } from '../../upstream/face/source.ts'

/** What counts as getting on: a source that gave this many bytes before it broke starts afresh. */
const PROGRESS_BYTES = 1024 * 1024
/** Tries in a row without progress, once bytes have flowed; a lossy link breaks often. */
const TRIES_WHEN_FLOWING = 5
/** Of one that has begun to give: what it refuses now, it may give at the next try, from another host. */
const TRIES_WHEN_IT_HAS_IT = 2
/** A connection broken before its first byte may have been an idle one the other side closed. */
const TRIES_WHEN_BROKEN_EARLY = 2
/** A limit that ends soon is waited for, but only once in a row: clients give up after 30 s. */
const TRIES_WHEN_LIMITED = 2
const LONGEST_PAUSE_MS = 5000
const RANGE_NOT_SATISFIABLE = 416

/** What the same source may well not suffer from at the next try; anything else is a refusal. */
const MAY_PASS: ReadonlySet<FailureReason> = new Set([
  'cut',
  'reset',
  'timed-out',
  'server-error',
  'refused',
  'name-not-resolved',
])

/** Wrong bytes and limits are not refused by chance. */
const REFUSALS: ReadonlySet<FailureKind> = new Set(['denied', 'gone', 'unavailable'])

interface Entry {
  readonly source: Source
  /** Failures in a row, without limits that end soon. */
  tries: number
  /** Limits that end soon, in a row. */
  limits: number
  lies: number
  crawls: number
  spent: boolean
  ignoresRange: boolean
  metTheEnd: boolean
  /** It began an answer with some of it. */
  began: boolean
  failedAt: number
  pausedUntil: number
  /** Its last failure, until it succeeds. */
  error: UpstreamError | undefined
}

/** A try that failed: when it began, and what it gave before. */
export interface FailedTry {
  readonly source: Source
  /** Milliseconds of the clock that `next` is told. */
  readonly startedAt: number
  /** Bytes. */
  readonly given: number
}

export class SourceQueue {
  readonly #entries: Entry[] = []
  readonly #retryDelayMs: number
  readonly #random: () => number

  /** `retryDelayMs`: the pause before a source that broke is asked again; doubled each time. */
  constructor(retryDelayMs: number, random: () => number = Math.random) {
    this.#retryDelayMs = retryDelayMs
    this.#random = random
  }

  /** Adds what is not there yet; a source is known by its id. */
  add(sources: readonly Source[]): void {
    for (const source of sources) {
      if (this.#entries.some((entry) => entry.source.id === source.id)) continue
      this.#entries.push({
        source,
        tries: 0,
        limits: 0,
        lies: 0,
        crawls: 0,
        spent: false,
        ignoresRange: false,
        metTheEnd: false,
        began: false,
        failedAt: -Infinity,
        pausedUntil: -Infinity,
        error: undefined,
      })
    }
  }

  get length(): number {
    return this.#entries.length
  }

  /**
   * The last failure of each source that has not succeeded since, in the order in which they joined:
   * what decides when no source is left. Earlier failures were overcome and decide nothing.
   */
  get errors(): readonly UpstreamError[] {
    return this.#entries.flatMap(({ error }) => error ?? [])
  }

  /** Whether it answers a question for a part with the whole. */
  isUnranged(source: Source): boolean {
    return this.#entry(source).ignoresRange
  }

  /** The best one that may be asked now; `ranged`: for a part, beside what runs already. */
  next(now: number, { ranged = false } = {}): Source | undefined {
    const able = this.#entries.filter((entry) => {
      return !entry.spent && entry.pausedUntil <= now && !(ranged && entry.ignoresRange)
    })
    return able.reduce<Entry | undefined>((best, entry) => {
      return best === undefined || isBetter(entry, best) ? entry : best
    }, undefined)?.source
  }

  /** How long until `next` has one that it has not now, in milliseconds; undefined: never. */
  waitMs(now: number): number | undefined {
    const left = this.#entries.filter((entry) => !entry.spent)
    if (left.length === 0) return undefined
    return Math.max(1, Math.min(...left.map((entry) => entry.pausedUntil)) - now)
  }

  /** Notes a failure; several requests that break together are one. `flowing`: bytes came from somewhere already. */
  failed(
    { source, startedAt, given }: FailedTry,
    error: UpstreamError,
    flowing: boolean,
    now: number,
  ): void {
    const entry = this.#entry(source)
    entry.error = error
    if (error.status === RANGE_NOT_SATISFIABLE) entry.metTheEnd = true
    if (startedAt < entry.failedAt) return
    entry.failedAt = now
    if (given >= PROGRESS_BYTES) {
      entry.tries = 0
      entry.limits = 0
    }
    // Not counted as a try: the limit that follows a response that broke off is still the first.
    else if (isShortLimit(error)) entry.limits += 1
    else entry.tries += 1
    if (entry.limits >= TRIES_WHEN_LIMITED) entry.spent = true
    if (!isShortLimit(error) && entry.tries >= allowedTries(error, flowing, entry.began)) {
      entry.spent = true
    }
    const doubled = this.#retryDelayMs * 2 ** Math.max(0, entry.tries - 1)
    // Never less than it was asked for, and not in step with others.
    const pause = shortPauseMs(error) ?? Math.min(doubled, LONGEST_PAUSE_MS)
    entry.pausedUntil = now + pause * (1 + this.#random() / 2)
  }

  /** It is asked no more, whatever it gave before. */
  giveUp(source: Source, error: UpstreamError): void {
    const entry = this.#entry(source)
    entry.error = error
    entry.spent = true
  }

  /** Whether one said that nothing follows what is here (416): it need not fail at anything else. */
  get hasMetTheEnd(): boolean {
    return this.#entries.some(({ metTheEnd }) => metTheEnd)
  }

  /** What was here is given up: who had nothing behind it may be asked again. */
  forgetTheEnd(): void {
    for (const entry of this.#entries) {
      if (!entry.metTheEnd) continue
      entry.metTheEnd = false
      entry.spent = false
      entry.tries = 0
    }
  }

  /** It gave all that it was asked for. */
  gotOn(source: Source): void {
    const entry = this.#entry(source)
    entry.tries = 0
    entry.limits = 0
    // Another request to a source that was given up may still succeed: why it was given up stays.
    if (!entry.spent) entry.error = undefined
  }

  /** It answers with some of what it was asked for, so it has it. */
  began(source: Source): void {
    this.#entry(source).began = true
  }

  /** It answers a question for a part with the whole. */
  ignoresRange(source: Source): void {
    this.#entry(source).ignoresRange = true
  }

  /** It was much slower than others: they come first. */
  crawled(source: Source): void {
    this.#entry(source).crawls += 1
  }

  /** The bytes this source gave did not hash to the digest: it comes last from now on. */
  lied(source: Source, error: UpstreamError): void {
    const entry = this.#entry(source)
    entry.error = error
    entry.lies += 1
    entry.tries = 0
    entry.limits = 0
  }

  /** Another one turned out to have lied. */
  absolve(source: Source): void {
    this.#entry(source).lies -= 1
  }

  #entry(source: Source): Entry {
    const entry = this.#entries.find((one) => one.source.id === source.id)
    if (!entry) throw new Error(`source ${source.id} was never added`)
    return entry
  }
}

/** Who lied comes last, then who is known to fail; of equals the one that joined first. */
function isBetter(a: Entry, b: Entry): boolean {
  const [ranksA, ranksB] = [ranksOf(a), ranksOf(b)]
  const index = ranksA.findIndex((rank, each) => rank !== ranksB[each])
  return index >= 0 && ranksA[index]! < ranksB[index]!
}

function ranksOf({ source, lies, tries, crawls }: Entry): number[] {
  return [lies, HEALTH_RANK[source.health], tries, crawls]
}

const HEALTH_RANK = { ok: 0, limited: 1, open: 2 } as const

function allowedTries(error: UpstreamError, flowing: boolean, began: boolean): number {
  const { reason } = error
  if (flowing && MAY_PASS.has(reason)) return TRIES_WHEN_FLOWING
  if (flowing) return began && isRefusal(error) ? TRIES_WHEN_IT_HAS_IT : 1
  return reason === 'cut' || reason === 'reset' ? TRIES_WHEN_BROKEN_EARLY : 1
}

/** Of what it has: not that it has nothing behind it. */
function isRefusal({ kind, status }: UpstreamError): boolean {
  return REFUSALS.has(kind) && status !== RANGE_NOT_SATISFIABLE
}

function isShortLimit(error: UpstreamError): boolean {
  return error.kind === 'rate-limited' && shortPauseMs(error) !== undefined
}

function shortPauseMs({ retryAfterMs = Infinity }: UpstreamError): number | undefined {
  return retryAfterMs <= SHORT_LIMIT_MS ? retryAfterMs : undefined
}
