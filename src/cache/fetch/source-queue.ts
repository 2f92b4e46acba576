// Decides which source a download asks next. It makes no requests itself.
//
// Sources are ranked by what is known about them: corrupt bytes weigh most, then the health of the
// endpoint, then recent failures, then slowness. Ties go to the source that joined first.
import {
  type FailureKind,
  type FailureReason,
  SHORT_LIMIT_MS,
  type UpstreamError,
} from '../../upstream/face/failure.ts'
import type { Source } from '../../upstream/face/source.ts'

/** A source that gave this many bytes before it broke has made progress: its failures count from 0 again. */
const PROGRESS_BYTES = 1024 * 1024
/** Failures in a row without progress, once bytes have flowed; a lossy link breaks often. */
const TRIES_WHEN_FLOWING = 5
/** A source that has given some of the blob has it: what it refuses now, another of its hosts may give. */
const TRIES_WHEN_RESPONDED = 2
/** A connection broken before its first byte may have been an idle one the other side closed. */
const TRIES_WHEN_BROKEN_EARLY = 2
/** A rate limit that ends soon is waited for, once: clients give up after 30 s. */
const TRIES_WHEN_LIMITED = 2
const MAX_PAUSE_MS = 5000
const RANGE_NOT_SATISFIABLE = 416

/** Failures that the next request to the same source may well not meet; anything else is a refusal. */
const MAY_PASS: ReadonlySet<FailureReason> = new Set([
  'cut',
  'reset',
  'timed-out',
  'server-error',
  'refused',
  'name-not-resolved',
])

/** The kinds that are a refusal; corrupt bytes and rate limits are dealt with apart. */
const REFUSALS: ReadonlySet<FailureKind> = new Set(['denied', 'gone', 'unavailable'])

interface Entry {
  readonly source: Source
  /** Failures in a row, without rate limits that end soon. */
  tries: number
  /** Rate limits that end soon, in a row. */
  limits: number
  corruptions: number
  slowness: number
  isExhausted: boolean
  ignoresRange: boolean
  metTheEnd: boolean
  /** It has begun an answer with some of the blob. */
  hasResponded: boolean
  failedAt: number
  pausedUntil: number
  /** Its last failure, until it succeeds. */
  error: UpstreamError | undefined
  doubt: SizeDoubt | undefined
}

/** A source announced a size that contradicts every manifest, and nothing has confirmed it yet. */
export interface SizeDoubt {
  /** Bytes. */
  readonly size: number
  /** The fault of the source, if the size proves wrong. */
  readonly error: UpstreamError
}

/** A request that failed: when it began, and what it gave before. */
export interface FailedRequest {
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

  /** Adds the sources that are not queued yet. A source is identified by its `id`. */
  add(sources: readonly Source[]): void {
    for (const source of sources) {
      if (this.#entries.some((entry) => entry.source.id === source.id)) continue
      this.#entries.push({
        source,
        tries: 0,
        limits: 0,
        corruptions: 0,
        slowness: 0,
        isExhausted: false,
        ignoresRange: false,
        metTheEnd: false,
        hasResponded: false,
        failedAt: -Infinity,
        pausedUntil: -Infinity,
        error: undefined,
        doubt: undefined,
      })
    }
  }

  get length(): number {
    return this.#entries.length
  }

  /**
   * Returns the last failure of each source that has not succeeded since, in the order in which they
   * joined: it decides when no source is left. Earlier failures were overcome and decide nothing.
   */
  get errors(): readonly UpstreamError[] {
    return this.#entries.flatMap(({ error }) => error ?? [])
  }

  /** Reports whether it answers a Range request with the whole blob. */
  isUnranged(source: Source): boolean {
    return this.#entry(source).ignoresRange
  }

  /**
   * Returns the best source that may be asked at `now`, or undefined if every source is exhausted or
   * paused. With `ranged`, sources that ignore Range requests are skipped.
   */
  next(now: number, { ranged = false } = {}): Source | undefined {
    const able = this.#left.filter((entry) => {
      return entry.pausedUntil <= now && !(ranged && entry.ignoresRange)
    })
    return able.reduce<Entry | undefined>((best, entry) => {
      return best === undefined || isBetter(entry, best) ? entry : best
    }, undefined)?.source
  }

  /** Returns the milliseconds until `next` has something new to offer, or undefined if it never will. */
  msUntilNext(now: number): number | undefined {
    const left = this.#left
    if (left.length === 0) return undefined
    return Math.max(1, Math.min(...left.map((entry) => entry.pausedUntil)) - now)
  }

  /**
   * Records a failed request; `flowing` reports whether bytes came from anywhere already. Requests that
   * were running when an earlier one failed belong to the same outage and are not counted again:
   * otherwise one dropped link with eight connections would exhaust a source at once.
   */
  failed(
    { source, startedAt, given }: FailedRequest,
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
    if (entry.limits >= TRIES_WHEN_LIMITED) entry.isExhausted = true
    if (!isShortLimit(error) && entry.tries >= allowedTries(error, flowing, entry.hasResponded)) {
      entry.isExhausted = true
    }
    const doubled = this.#retryDelayMs * 2 ** Math.max(0, entry.tries - 1)
    // Never less than the source asked for, and not in step with other downloads.
    const pause = shortPauseMs(error) ?? Math.min(doubled, MAX_PAUSE_MS)
    entry.pausedUntil = now + pause * (1 + this.#random() / 2)
  }

  /** Asks it no more, whatever it gave before. */
  exhaust(source: Source, error: UpstreamError): void {
    const entry = this.#entry(source)
    entry.error = error
    entry.isExhausted = true
  }

  /**
   * Records that a source announced a size that is in doubt: other sources are asked first, including
   * those that are paused. Returns whether there are any.
   */
  doubt(source: Source, doubt: SizeDoubt): boolean {
    const entry = this.#entry(source)
    entry.doubt = doubt
    return !this.#left.includes(entry)
  }

  /** Records the size that is believed for now: sources that announced it are no longer in doubt. */
  believed(size: number): void {
    for (const entry of this.#entries) if (entry.doubt?.size === size) entry.doubt = undefined
  }

  /** Returns the faults of the sources in doubt, once the digest has shown that the blob has `size` bytes. */
  wrongSizes(size: number | undefined): readonly UpstreamError[] {
    return this.#entries.flatMap(({ doubt }) => (doubt && doubt.size !== size ? doubt.error : []))
  }

  /** Reports whether a source said that nothing follows what is here (416); that is not a failure of its own. */
  get hasMetTheEnd(): boolean {
    return this.#entries.some(({ metTheEnd }) => metTheEnd)
  }

  /** What was here is given up: sources that had nothing behind it may be asked again. */
  forgetTheEnd(): void {
    for (const entry of this.#entries) {
      if (!entry.metTheEnd) continue
      entry.metTheEnd = false
      entry.isExhausted = false
      entry.tries = 0
    }
  }

  /** It gave all that it was asked for. */
  succeeded(source: Source): void {
    const entry = this.#entry(source)
    entry.tries = 0
    entry.limits = 0
    // Another request to a source that was given up may still succeed: why it was given up stays.
    if (!entry.isExhausted) entry.error = undefined
  }

  /** It answers with some of the blob, so it has it. */
  responded(source: Source): void {
    this.#entry(source).hasResponded = true
  }

  /** It answers a Range request with the whole blob. */
  ignoresRange(source: Source): void {
    this.#entry(source).ignoresRange = true
  }

  /** It was much slower than others, which come first from now on. */
  slow(source: Source): void {
    this.#entry(source).slowness += 1
  }

  /** The bytes that it gave are not what the digest names: it comes last from now on. */
  corrupt(source: Source, error: UpstreamError): void {
    const entry = this.#entry(source)
    entry.error = error
    entry.corruptions += 1
    entry.tries = 0
    entry.limits = 0
  }

  /** The entries that may be asked now or later: those in doubt only if there are no others. */
  get #left(): readonly Entry[] {
    const left = this.#entries.filter(({ isExhausted }) => !isExhausted)
    const trusted = left.filter(({ doubt }) => doubt === undefined)
    return trusted.length > 0 ? trusted : left
  }

  #entry(source: Source): Entry {
    const entry = this.#entries.find((one) => one.source.id === source.id)
    if (!entry) throw new Error(`source ${source.id} was never added`)
    return entry
  }
}

function isBetter(a: Entry, b: Entry): boolean {
  const [ranksA, ranksB] = [ranksOf(a), ranksOf(b)]
  const index = ranksA.findIndex((rank, each) => rank !== ranksB[each])
  return index >= 0 && ranksA[index]! < ranksB[index]!
}

function ranksOf({ source, corruptions, tries, slowness }: Entry): number[] {
  return [corruptions, HEALTH_RANK[source.health], tries, slowness]
}

const HEALTH_RANK = { ok: 0, limited: 1, open: 2 } as const

function allowedTries(error: UpstreamError, flowing: boolean, hasResponded: boolean): number {
  const { reason } = error
  if (flowing && MAY_PASS.has(reason)) return TRIES_WHEN_FLOWING
  if (flowing) return hasResponded && isRefusal(error) ? TRIES_WHEN_RESPONDED : 1
  return reason === 'cut' || reason === 'reset' ? TRIES_WHEN_BROKEN_EARLY : 1
}

/** Of something that it has; that nothing follows what is here is not a refusal. */
function isRefusal({ kind, status }: UpstreamError): boolean {
  return REFUSALS.has(kind) && status !== RANGE_NOT_SATISFIABLE
}

function isShortLimit(error: UpstreamError): boolean {
  return error.kind === 'rate-limited' && shortPauseMs(error) !== undefined
}

function shortPauseMs({ retryAfterMs = Infinity }: UpstreamError): number | undefined {
  return retryAfterMs <= SHORT_LIMIT_MS ? retryAfterMs : undefined
}
