// Wakes a waiting server when a claim appears or disappears. This only saves time: some file
// systems (NFS) do not report changes by other hosts, so the server also looks at intervals.
import { type FSWatcher, watch } from 'node:fs'

export class ClaimWatch implements Disposable {
  readonly #directory: string
  #watcher: FSWatcher | undefined
  #change = Promise.withResolvers<void>()

  constructor(directory: string) {
    this.#directory = directory
  }

  /** Call this before looking at the claims: any change after it ends the next `wait`. */
  start(): void {
    this.#change = Promise.withResolvers()
    try {
      // Heartbeats are reported as 'change'.
      this.#watcher ??= watch(this.#directory, { persistent: false }, (kind) => {
        if (kind === 'rename') this.#change.resolve()
      }).on('error', () => this[Symbol.dispose]())
    } catch {
      this.#watcher = undefined // the directory does not exist yet, or inotify watches have run out
    }
  }

  /** Resolves at the next change, or after `ms`. Rejects when aborted. */
  async wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
    const late = Promise.withResolvers<void>()
    const timer = setTimeout(() => late.resolve(), ms)
    const onAbort = () => late.reject(signal?.reason)
    signal?.addEventListener('abort', onAbort)
    try {
      signal?.throwIfAborted()
      await Promise.race([this.#change.promise, late.promise])
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
    }
  }

  [Symbol.dispose](): void {
    this.#watcher?.close()
    this.#watcher = undefined
  }
}
