// Whether what passes through is kept, and if not, why: for /readyz?verbose. Pulls work without.
import { type StorageTrouble, storageTrouble } from '../store/disk/errno.ts'

/** Failures of these mean that something is not kept; failing to read is another matter. */
const BLOBS: ReadonlySet<string> = new Set(['write', 'commit', 'checkpoint'])
/** One blob was too large for the space there is; others may fit. */
const TOO_LARGE = 'fit'
const RECORD = /^write /
/** What is not heard of again for so long is over. */
const REMEMBERED_MS = 10 * 60_000

const MEANINGS: Readonly<Record<StorageTrouble, string>> = {
  full: 'the file system is full, or the quota is used up',
  'read-only': 'the cache directory cannot be written',
  broken: 'the disk reports errors',
  missing: 'the cache directory is gone',
}

interface Trouble {
  readonly reason: string
  readonly at: number
}

export class Keeping {
  readonly #now: () => number
  /** By what is not being kept. */
  readonly #troubles = new Map<string, Trouble>()

  /** `now` is a clock in milliseconds. */
  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  storeError(operation: string, error: unknown): void {
    const what = whatOf(operation)
    if (what === undefined) return
    const trouble = storageTrouble(error)
    const message = error instanceof Error ? error.message : String(error)
    const reason = trouble === undefined ? message : `${MEANINGS[trouble]} (${message})`
    this.#troubles.set(what, { reason, at: this.#now() })
  }

  /** A record was written: what kept it from that is over. */
  stored(operation: string): void {
    const what = whatOf(operation)
    if (what !== undefined) this.#troubles.delete(what)
  }

  /** A blob was kept. */
  kept(): void {
    this.#troubles.delete('blobs')
  }

  /** A sentence for each sort of content that could not be kept when that was last tried. */
  describe(): string[] {
    const now = this.#now()
    const recent = [...this.#troubles].filter(([, { at }]) => now - at < REMEMBERED_MS)
    return recent.map(([what, { reason, at }]) => {
      const seconds = Math.max(0, Math.round((now - at) / 1000))
      return `${what} are not being kept: ${reason}; last tried ${seconds} s ago`
    })
  }
}

function whatOf(operation: string): string | undefined {
  if (operation === TOO_LARGE) return 'blobs that do not fit'
  if (BLOBS.has(operation)) return 'blobs'
  if (!RECORD.test(operation)) return undefined
  const record = operation.replace(RECORD, '')
  return record.endsWith('s') ? record : `${record}s`
}
