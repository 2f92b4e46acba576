// Remembers why content is not being written to the cache, for /readyz?verbose. Pulls work all the same.
import { type StorageTrouble, storageTrouble } from '../store/disk/errno.ts'

/** The operations whose failure means that a blob is not kept. Failed reads do not count. */
const BLOBS: ReadonlySet<string> = new Set(['write', 'commit', 'checkpoint'])
/** The operation that fails if a blob is too large for the free space. Smaller ones may still fit. */
const TOO_LARGE = 'fit'
const RECORD = /^write /
/** A failure that has not recurred for this long counts as over. */
const REMEMBERED_MS = 10 * 60_000

const MEANINGS: Readonly<Record<StorageTrouble, string>> = {
  full: 'the file system is full, or the quota is used up',
  'read-only': 'the cache directory is not writable',
  broken: 'the disk reports errors',
  missing: 'the cache directory no longer exists',
}

interface Trouble {
  readonly reason: string
  readonly at: number
}

export class Keeping {
  readonly #now: () => number
  /** Keyed by the sort of content that is not being kept. */
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

  /** Records a successful write, which ends the trouble with that sort of content. */
  stored(operation: string): void {
    const what = whatOf(operation)
    if (what !== undefined) this.#troubles.delete(what)
  }

  /** Records that a blob was kept. */
  kept(): void {
    this.#troubles.delete('blobs')
  }

  /** Returns a sentence for each sort of content whose last write failed. */
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
