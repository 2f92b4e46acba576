// A blob that goes on from the upstream where its file turns out to be damaged: the client that reads it
// sees nothing of that while an upstream has the content.
import type { ByteRange } from '../../http/range.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Content } from '../content.ts'

export interface RepairingOptions {
  /** Its bytes are right, unless they cannot be read. */
  readonly content: Content
  /** Puts the damaged one aside, and opens the same blob as it comes from the upstream; or throws. */
  readonly repair: (why: unknown) => Promise<Content>
}

export class RepairingContent implements Content {
  readonly #options: RepairingOptions
  #content: Content
  #planned: { ranges: readonly ByteRange[] | undefined } | undefined
  #promised = false
  #repaired: Promise<void> | undefined
  #closed = false

  constructor(options: RepairingOptions) {
    this.#options = options
    this.#content = options.content
  }

  get digest(): Digest {
    return this.#content.digest
  }

  get size(): number | undefined {
    return this.#content.size
  }

  get isSizeClaimed(): boolean {
    return this.#content.isSizeClaimed
  }

  plan(ranges: readonly ByteRange[] | undefined): void {
    this.#planned = { ranges }
    this.#content.plan(ranges)
  }

  promise(): void {
    this.#promised = true
    this.#content.promise()
  }

  available(at: number): number {
    return this.#content.available(at)
  }

  wait(at: number, signal: AbortSignal): Promise<void> {
    return this.#content.wait(at, signal)
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    try {
      return await this.#content.read(into, at)
    } catch (why) {
      if (this.#repaired || this.#closed) throw why
      this.#repaired = this.#repair(why)
    }
    await this.#repaired
    return await this.#content.read(into, at)
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#content.close()
  }

  async #repair(why: unknown): Promise<void> {
    const good = await this.#options.repair(why)
    if (this.#planned) good.plan(this.#planned.ranges)
    if (this.#promised) good.promise()
    const damaged = this.#content
    // From here on `close` closes the good one. If it ran before, nobody else will.
    const isLeft = this.#closed
    this.#content = good
    // The damage is reported already. That its file cannot be closed either changes nothing for the reader.
    await damaged.close().catch(() => {})
    if (isLeft) await good.close()
  }
}
