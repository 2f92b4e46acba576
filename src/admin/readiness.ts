// Whether this server is ready for requests, and if not, why. src/app sets it and /readyz reports it.

/** The named conditions that must all be met before the server is ready. */
export class Readiness {
  readonly #missing = new Map<string, string>()

  get ready(): boolean {
    return this.#missing.size === 0
  }

  /** One sentence for each unmet condition. */
  get reasons(): string[] {
    return [...this.#missing.values()]
  }

  /** Marks the condition as unmet, with the reason. */
  missing(condition: string, reason: string): void {
    this.#missing.set(condition, reason)
  }

  /** Marks the condition as met. */
  met(condition: string): void {
    this.#missing.delete(condition)
  }
}
