// Tells a waiting server when a claim comes or goes. A help only: where the file system tells nothing
// (NFS, or another host's changes), whoever waits looks again by itself.
import { type FSWatcher, watch } from 'node:fs'

export class ClaimWatch implements Disposable {
  readonly #directory: string
  #watcher: FSWatcher | undefined
  #change = Promise.withResolvers<void>()

  constructor(directory: string) {
    this.#directory = directory
  }

  /** To be called before looking: a change from then on ends the next wait. */
  start(): void {
    this.#change = Promise.withResolvers()
    try {
      // Heartbeats are changes of another kind.
      this.#watcher ??= watch(this.#directory, { persistent: false }, (kind) => {
        if (kind === 'rename') this.#change.resolve()
      }).on('error', () => this[Symbol.dispose]())
    } catch {
      this.#watcher = undefined // no such directory yet, or no watches left
    }
  }

  /** Resolves with the next change, at the latest after `ms`; rejects when aborted. */
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
