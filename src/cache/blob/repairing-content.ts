// Content that is read from a file, and from the upstream once the file proves damaged. The client
// notices nothing as long as an upstream has the blob.
import type { ByteRange } from '../../http/range.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Content } from '../content.ts'

export interface RepairingOptions {
  /** The file's content: every byte that can be read from it is right. */
  readonly content: Content
  /**
   * Quarantines the damaged file and opens the same blob from the upstream. Throws if that is not
   * possible.
   */
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
    // From here on `close` closes the good one. If `close` has already run, close it here.
    const isLeft = this.#closed
    this.#content = good
    // The damage has been reported. Whether the file can be closed makes no difference to the
    // reader.
    await damaged.close().catch(() => {})
    if (isLeft) await good.close()
  }
}
