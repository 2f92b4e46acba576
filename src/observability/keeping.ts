// Whether what passes through is kept, and if not, why: for /readyz?verbose. Pulls work without.
import { type StorageTrouble, storageTrouble } from '../store/errno.ts'

/** What failing at these means that something is not kept; failing to read is another matter. */
const WRITES_BLOBS: ReadonlySet<string> = new Set(['write', 'commit', 'checkpoint'])
const WRITES_RECORD = /^write /

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
  readonly #troubles = new Map<string, Trouble>()

  /** `now` is a clock in milliseconds. */
  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  storeError(operation: string, error: unknown): void {
    const isRecord = WRITES_RECORD.test(operation)
    if (!isRecord && !WRITES_BLOBS.has(operation)) return
    const trouble = storageTrouble(error)
    const message = error instanceof Error ? error.message : String(error)
    const reason = trouble === undefined ? message : `${MEANINGS[trouble]} (${message})`
    this.#troubles.set(isRecord ? operation : 'write', { reason, at: this.#now() })
  }

  /** A record was written: what kept it from that is over. */
  stored(operation: string): void {
    this.#troubles.delete(operation)
  }

  /** A blob was kept. */
  kept(): void {
    this.#troubles.delete('write')
  }

  /** A sentence for each sort of content that could not be kept when it was last tried. */
  describe(): string[] {
    return [...this.#troubles].map(([operation, { reason, at }]) => {
      const what = operation === 'write' ? 'blobs' : `${operation.replace(WRITES_RECORD, '')}s`
      const seconds = Math.max(0, Math.round((this.#now() - at) / 1000))
      return `${what} are not being kept: ${reason}; last tried ${seconds} s ago`
    })
  }
}
