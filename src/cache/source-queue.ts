// Which source a download asks next: the order they joined in, minus those that refused,
// last those that lied. It decides only; it asks nobody.
import type { FailureReason, UpstreamError } from '../upstream/failure.ts'
import type { Source } from '../upstream/source.ts'

/** What counts as getting on: a source that gave this many bytes before it broke starts afresh. */
const PROGRESS_BYTES = 1024 * 1024
/** Tries in a row without progress, once bytes have flowed; a lossy link breaks often. */
const TRIES_WHEN_FLOWING = 5
/** A connection broken before its first byte may have been an idle one the other side closed. */
const TRIES_WHEN_BROKEN_EARLY = 2
/** A limit that ends this soon is waited for, once before anything came: clients give up after 30 s. */
const SHORT_LIMIT_MS = 10_000
const TRIES_WHEN_LIMITED = 2
const LONGEST_PAUSE_MS = 5000

/** What the same source may well not suffer from at the next try; anything else is a refusal. */
const MAY_PASS: ReadonlySet<FailureReason> = new Set([
  'cut',
  'reset',
  'timed-out',
  'server-error',
  'refused',
  'name-not-resolved',
])

interface Entry {
  readonly source: Source
  tries: number
  lies: number
  spent: boolean
  pauseMs: number
}

export class SourceQueue {
  readonly #entries: Entry[] = []
  readonly #errors: UpstreamError[] = []
  readonly #retryDelayMs: number

  /** `retryDelayMs`: the pause before a source that broke is asked again; doubled each time. */
  constructor(retryDelayMs: number) {
    this.#retryDelayMs = retryDelayMs
  }

  /** Adds what is not there yet; a source is known by its id. */
  add(sources: readonly Source[]): void {
    for (const source of sources) {
      if (this.#entries.some((entry) => entry.source.id === source.id)) continue
      this.#entries.push({ source, tries: 0, lies: 0, spent: false, pauseMs: 0 })
    }
  }

  get length(): number {
    return this.#entries.length
  }

  /** Every failure so far, for the answer when nobody is left. */
  get errors(): readonly UpstreamError[] {
    return this.#errors
  }

  next(): Source | undefined {
    return this.#best()?.source
  }

  /** What to wait before `next` is asked, in milliseconds. */
  get pauseMs(): number {
    return this.#best()?.pauseMs ?? 0
  }

  #best(): Entry | undefined {
    let best: Entry | undefined
    for (const entry of this.#entries) {
      if (entry.spent) continue
      if (!best || entry.lies < best.lies || (entry.lies === best.lies && entry.tries < best.tries))
        best = entry
    }
    return best
  }

  /**
   * Notes a failure.
   * @param given bytes this try delivered before it failed
   * @param flowing whether the download has any bytes at all
   */
  failed(source: Source, error: UpstreamError, given: number, flowing: boolean): void {
    this.#errors.push(error)
    const entry = this.#entry(source)
    if (given >= PROGRESS_BYTES) entry.tries = 0
    else entry.tries += 1
    if (entry.tries >= allowedTries(error, flowing)) entry.spent = true
    const doubled = this.#retryDelayMs * 2 ** Math.max(0, entry.tries - 1)
    entry.pauseMs = shortLimitMs(error) ?? Math.min(doubled, LONGEST_PAUSE_MS)
  }

  /** The bytes this source gave did not hash to the digest: it comes last from now on. */
  lied(source: Source, error: UpstreamError): void {
    this.#errors.push(error)
    const entry = this.#entry(source)
    entry.lies += 1
    entry.tries = 0
  }

  #entry(source: Source): Entry {
    const entry = this.#entries.find((one) => one.source.id === source.id)
    if (!entry) throw new Error(`source ${source.id} was never added`)
    return entry
  }
}

function allowedTries(error: UpstreamError, flowing: boolean): number {
  const { reason } = error
  if (shortLimitMs(error) !== undefined) return TRIES_WHEN_LIMITED
  if (flowing) return MAY_PASS.has(reason) ? TRIES_WHEN_FLOWING : 1
  return reason === 'cut' || reason === 'reset' ? TRIES_WHEN_BROKEN_EARLY : 1
}

function shortLimitMs({ kind, retryAfterMs }: UpstreamError): number | undefined {
  if (kind !== 'rate-limited' || retryAfterMs === undefined) return undefined
  return retryAfterMs <= SHORT_LIMIT_MS ? retryAfterMs : undefined
}
