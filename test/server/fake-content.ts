// Contents in memory for the sender: held, arriving as the test says, or broken in a given way.
import type { Content } from '../../src/cache/content.ts'
import type { ByteRange } from '../../src/http/range.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'

/** Bytes of which the first `arrived` can be read; the test lets more arrive, or fails them. */
export class FakeContent implements Content {
  readonly digest: Digest
  readonly bytes: Buffer
  size: number | undefined
  isSizeClaimed = false
  arrived: number
  planned: readonly ByteRange[] | undefined | 'never' = 'never'
  closed = 0
  reads = 0
  #failure: Error | undefined
  readonly #waiting = new Set<() => void>()

  constructor(bytes: Buffer, arrived = bytes.length, size: number | undefined = bytes.length) {
    this.bytes = bytes
    this.digest = digestOnce(bytes)
    this.arrived = arrived
    this.size = size
  }

  static ofUnknownSize(bytes: Buffer, arrived = 0): FakeContent {
    const content = new FakeContent(bytes, arrived)
    content.size = undefined
    return content
  }

  /** More bytes are there; at the end the size becomes known. */
  arrive(upTo = this.bytes.length): void {
    this.arrived = upTo
    if (upTo === this.bytes.length) this.size = upTo
    this.#wakeAll()
  }

  fail(error: Error): void {
    this.#failure = error
    this.#wakeAll()
  }

  get waiters(): number {
    return this.#waiting.size
  }

  promise(): void {}

  plan(ranges: readonly ByteRange[] | undefined): void {
    this.planned = ranges
  }

  available(at: number): number {
    return Math.max(0, this.arrived - at)
  }

  async wait(at: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    while (this.available(at) === 0 && !(this.size !== undefined && at >= this.size)) {
      if (this.#failure) throw this.#failure
      await this.#progress(signal)
    }
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    this.reads += 1
    return this.bytes.copy(into, 0, at, Math.min(this.arrived, at + into.length))
  }

  async close(): Promise<void> {
    this.closed += 1
  }

  #progress(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted()
      const leave = () => {
        this.#waiting.delete(wake)
        reject(signal.reason)
      }
      const wake = () => {
        this.#waiting.delete(wake)
        signal.removeEventListener('abort', leave)
        resolve()
      }
      this.#waiting.add(wake)
      signal.addEventListener('abort', leave, { once: true })
    })
  }

  #wakeAll(): void {
    for (const wake of this.#waiting) wake()
  }
}

const digests = new WeakMap<Buffer, Digest>()

function digestOnce(bytes: Buffer): Digest {
  const digest = digests.get(bytes) ?? digestOf(bytes)
  digests.set(bytes, digest)
  return digest
}

/** Bytes that differ everywhere, so that a shifted or repeated piece shows. */
export function patternBytes(length: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(length)
  let state = seed >>> 0 || 1
  for (let at = 0; at + 4 <= length; at += 4) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    bytes.writeUInt32LE(state, at)
  }
  return bytes.fill(seed, length - (length % 4))
}
