// What a file has of a blob that bypasses the cache: it was written before the disk failed, stays readable,
// and grows no more. It may turn out to be unreadable or wrong, and counts as empty from then on.
import { algorithmOf, createDigester, type Digest, type Digester } from '../../oci/digest.ts'
import type { FileLeft } from '../fetch/attempt.ts'
import { FileLost } from '../fetch/write-body.ts'

export class WrittenFile {
  readonly #digest: Digest
  readonly #lost: (file: FileLeft, error: FileLost) => void
  #file: FileLeft | undefined

  /** `lost` is called once, when the file turns out to be unreadable. */
  constructor(
    digest: Digest,
    file: FileLeft | undefined,
    lost: (file: FileLeft, error: FileLost) => void,
  ) {
    this.#digest = digest
    this.#file = file
    this.#lost = lost
  }

  /** Undefined where there is none, or none any more. */
  get left(): FileLeft | undefined {
    return this.#file
  }

  /** Where the bytes end that are hashed already, and the same for every reader. */
  get hashedEnd(): number {
    return this.#file?.prefix.at ?? 0
  }

  /** Returns a digester that has seen every byte before `hashedEnd`. */
  digester(): Digester {
    return this.#file?.prefix.digester.copy() ?? createDigester(algorithmOf(this.#digest))
  }

  /** The first byte at or after `at` that is not in the file. */
  endFrom(at: number): number {
    return this.#file?.have.endFrom(at) ?? at
  }

  /** The first byte at or after `at` that is in the file; Infinity where none is. */
  startFrom(at: number): number {
    return this.#file?.have.startFrom(at) ?? Infinity
  }

  /** Reads what is in the file. Returns 0 if that cannot be read or used any more. */
  async read(into: Uint8Array, at: number): Promise<number> {
    const file = this.#file
    if (file === undefined) return 0
    try {
      const count = await file.read(into, at)
      // It proved wrong or unreadable meanwhile: nobody can vouch for these bytes.
      if (this.#file !== file) return 0
      if (count > 0) return count
      throw new Error(`the file ends before byte ${at}`)
    } catch (cause) {
      if (this.drop()) {
        this.#lost(file, new FileLost('what was written cannot be read again', { cause }))
      }
      return 0
    }
  }

  /** Its bytes are not used any more. Returns whether they were. */
  drop(): boolean {
    const wasHere = this.#file !== undefined
    this.#file = undefined
    return wasHere
  }
}
