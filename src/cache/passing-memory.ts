// The memory of all blobs that pass through at once, shared out among them. It counts only: who has a
// share takes no more than that.

const MIB = 1024 * 1024
/** What all of them take together, in bytes, unless there are so many that the least of each is more. */
const ALL_BYTES = 256 * MIB

/** What one blob may take: ask again each time, as others come and go. */
export interface MemoryShare {
  /** In bytes. */
  readonly bytes: number
  /** It is given back; a second time does nothing. */
  leave(): void
}

export class PassingMemory {
  readonly #allBytes: number
  readonly #shares = new Set<MemoryShare>()

  /** `allBytes`: what there is. */
  constructor(allBytes = ALL_BYTES) {
    this.#allBytes = allBytes
  }

  /** Of one blob more. */
  share(): MemoryShare {
    const bytes = () => this.#allBytes / Math.max(1, this.#shares.size)
    const share: MemoryShare = {
      get bytes() {
        return bytes()
      },
      leave: () => void this.#shares.delete(share),
    }
    this.#shares.add(share)
    return share
  }
}
