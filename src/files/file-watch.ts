// Notices that files have changed by looking at them every few seconds: inotify sees neither the links
// that Kubernetes swaps nor network file systems reliably. A change is reported once it has stood for
// one interval, so that a half-written file is not taken for a new one.
import { differing, type FingerprintReader, type Fingerprints } from './fingerprints.ts'

export interface FileWatchOptions {
  readonly reader: FingerprintReader
  /** Called for each look. */
  readonly files: () => readonly string[]
  readonly everyMs: number
  /** Called when something differs from what was settled; not called again before it has resolved. */
  readonly onChange: () => Promise<void>
  readonly onError: (error: unknown) => void
}

/** A file may be rewritten without end: after this many looks the change is reported all the same. */
const MAX_LOOKS = 30

export class FileWatch {
  readonly #options: FileWatchOptions
  #settled: Fingerprints = new Map()
  #pending: Fingerprints | undefined
  /** Looks in a row at which something differed from what was settled. */
  #looks = 0
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  constructor(options: FileWatchOptions) {
    this.#options = options
  }

  start(): void {
    if (!this.#stopped) this.#wait()
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  /** Takes these fingerprints as known, good or bad: only files that differ from them are reported. */
  settle(fingerprints: Fingerprints): void {
    this.#settled = fingerprints
    this.#pending = undefined
    this.#looks = 0
  }

  #wait(): void {
    this.#timer = setTimeout(() => void this.#look(), this.#options.everyMs).unref()
  }

  async #look(): Promise<void> {
    const { reader, files, onChange, onError } = this.#options
    try {
      const seen = await reader.read(files())
      const isNew = differing(this.#settled, seen).length > 0
      const isDue = isNew && this.#isDue(seen)
      if (!isNew || isDue) this.settle(seen)
      if (isDue) await onChange()
    } catch (error) {
      onError(error)
    }
    this.start()
  }

  /** Reports whether the change has stood for one interval, or has gone on for MAX_LOOKS. */
  #isDue(seen: Fingerprints): boolean {
    const stands = this.#pending !== undefined && differing(this.#pending, seen).length === 0
    this.#pending = seen
    this.#looks += 1
    return stands || this.#looks === MAX_LOOKS
  }
}
