// Whether this server should be given requests, and why not. main sets it; /readyz tells it.

/** What has to be so before requests are welcome; each condition by its own name. */
export class Readiness {
  readonly #missing = new Map<string, string>()

  get ready(): boolean {
    return this.#missing.size === 0
  }

  /** One sentence for each condition that is not met. */
  get reasons(): string[] {
    return [...this.#missing.values()]
  }

  /** The condition is not met, because of this. */
  missing(condition: string, reason: string): void {
    this.#missing.set(condition, reason)
  }

  met(condition: string): void {
    this.#missing.delete(condition)
  }
}
