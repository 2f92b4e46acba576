// Prints one sentence per check, as it passes or fails, and the totals at the end.
export class Report {
  #passed = 0
  readonly #failed: string[] = []

  /** Runs one check; a failure is printed and remembered, and the next check runs. */
  async check(sentence: string, body: () => Promise<void>): Promise<boolean> {
    const started = Date.now()
    try {
      await body()
      this.#passed++
      print(`ok      ${sentence} (${((Date.now() - started) / 1000).toFixed(1)} s)`)
      return true
    } catch (error) {
      this.#failed.push(sentence)
      const text = error instanceof Error ? error.message : String(error)
      print(`FAILED  ${sentence}\n${text.replaceAll(/^/gm, '        ')}`)
      return false
    }
  }

  get failed(): boolean {
    return this.#failed.length > 0
  }

  /** Prints the totals. Returns true if no check failed. */
  finish(): boolean {
    for (const sentence of this.#failed) print(`failed: ${sentence}`)
    print(`${this.#passed} passed, ${this.#failed.length} failed`)
    return this.#failed.length === 0
  }
}

export function print(line: string): void {
  process.stdout.write(`${line}\n`)
}
