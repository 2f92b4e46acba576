// Of a blob that passes through, every block in order from the front: hashed towards its digest, and
// for itself, so that one that is fetched again can be compared. It keeps no bytes.
import { hash } from 'node:crypto'
import type { Digest, Digester } from '../../oci/digest.ts'
import { ContentError } from '../../store/ingest/content-error.ts'

const CHECK = 'sha256'
const CHECK_BYTES = 32
/** There is room for so many at first; then it doubles. */
const FIRST_CHECKS = 64

/** Bytes that were fetched again are not those that were hashed. */
export class OtherBytes extends Error {}

export class BlockHashes {
  readonly #digester: Digester
  /** Of every block, one after the other. */
  #checks = Buffer.alloc(CHECK_BYTES * FIRST_CHECKS)
  #count = 0
  #digest: Digest | undefined

  /** `digester` has seen what comes before block 0. */
  constructor(digester: Digester) {
    this.#digester = digester
  }

  /** How many are hashed. */
  get count(): number {
    return this.#count
  }

  /** The next block. */
  add(bytes: Uint8Array): void {
    this.#digester.update(bytes)
    const at = this.#count * CHECK_BYTES
    if (at + CHECK_BYTES > this.#checks.length) {
      this.#checks = Buffer.concat([this.#checks, Buffer.alloc(this.#checks.length)])
    }
    hash(CHECK, bytes, 'buffer').copy(this.#checks, at)
    this.#count += 1
  }

  /** Throws OtherBytes where these are not the bytes of that block. */
  compare(index: number, bytes: Uint8Array): void {
    const check = this.#checks.subarray(index * CHECK_BYTES, (index + 1) * CHECK_BYTES)
    if (hash(CHECK, bytes, 'buffer').equals(check)) return
    throw new OtherBytes('sent other bytes than the first time')
  }

  /** All are here: throws ContentError where they are not what this digest names. */
  verify(digest: Digest): void {
    this.#digest ??= this.#digester.digest()
    if (this.#digest !== digest) throw new ContentError('wrong-digest', digest, this.#digest)
  }
}
