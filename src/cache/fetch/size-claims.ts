// What manifests claim about the size of one blob. Anybody may push a manifest that lies, so a claim is
// only a hint: it plans requests, and a source that announces a size that nobody claims is asked last.
// The size itself is what an upstream announces, and the digest decides whether that is right. Pure.

/** With more claims than this about one blob, most are lies: requests are then planned without them. */
const MAX_CLAIMS = 64

export class SizeClaims {
  readonly #sizes = new Set<number>()
  /** A reader wants the blob without knowing its size, so no claim may bound it. */
  #isOpen = false

  /** Adds what one reader's manifest says, in bytes; undefined if no manifest names the blob. */
  add(size: number | undefined): void {
    // A size of 0 would ask for nothing, and an empty blob turns out to be empty on its own.
    if (size === undefined || size === 0 || this.#sizes.size >= MAX_CLAIMS) this.#isOpen = true
    else this.#sizes.add(size)
  }

  /** Forgets every claim: an upstream has shown that the size by which it was asked is wrong. */
  refute(): void {
    this.#sizes.clear()
    this.#isOpen = true
  }

  /**
   * The size to plan requests by while no upstream has announced one. It is the largest claim, so that
   * whoever is right gets the whole blob; a body of unknown length is not read beyond it.
   */
  get expected(): number | undefined {
    return this.#isOpen || this.#sizes.size === 0 ? undefined : Math.max(...this.#sizes)
  }

  /** Reports whether there are claims and all of them differ from `size`. */
  contradict(size: number): boolean {
    return this.#sizes.size > 0 && !this.#sizes.has(size)
  }

  /** Reports whether a body of unknown length that ended at byte `at` may have been all of the blob. */
  mayEndAt(at: number): boolean {
    return this.#isOpen || this.#sizes.size === 0 || this.#sizes.has(at)
  }
}
