// Bytes that a test host can serve, either from memory or generated from a seed at any offset.
// Synthetic content is the key stream of AES-CTR: deterministic, incompressible, seekable and fast.
import { createCipheriv, createHash } from 'node:crypto'
import type { Algorithm, Digest } from '../../src/oci/digest.ts'

const CHUNK = 64 * 1024
const AES_BLOCK = 16

/** Content of a known size whose parts can be read in any order. `end` is exclusive. */
export interface TestContent {
  readonly size: number
  slices(start: number, end: number, chunk?: number): Iterable<Buffer>
}

/** Returns content that is held in memory. */
export function bytesContent(bytes: Uint8Array): TestContent {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return {
    size: buffer.length,
    *slices(start, end, chunk = CHUNK) {
      for (let at = start; at < end; at += chunk)
        yield buffer.subarray(at, Math.min(end, at + chunk))
    },
  }
}

/** Returns content of any size that takes no memory. The same size and seed give the same bytes. */
export function syntheticContent(size: number, seed: number | string): TestContent {
  return {
    size,
    *slices(start, end, chunk = CHUNK) {
      for (let at = start; at < end; at += chunk) {
        yield syntheticBytes(seed, at, Math.min(end, at + chunk) - at)
      }
    },
  }
}

/** Returns `length` bytes of the synthetic content of `seed`, from offset `start`. */
export function syntheticBytes(seed: number | string, start: number, length: number): Buffer {
  const key = createHash('sha256').update(`chandlery test ${seed}`).digest().subarray(0, 16)
  const counter = Buffer.alloc(AES_BLOCK)
  counter.writeBigUInt64BE(BigInt(Math.floor(start / AES_BLOCK)), 8)
  const skipped = start % AES_BLOCK
  const stream = createCipheriv('aes-128-ctr', key, counter).update(Buffer.alloc(skipped + length))
  return stream.subarray(skipped)
}

/** Returns the digest of the whole content without holding it in memory. */
export function contentDigest(content: TestContent, algorithm: Algorithm = 'sha256'): Digest {
  const hash = createHash(algorithm)
  for (const slice of content.slices(0, content.size, 1024 * 1024)) hash.update(slice)
  return `${algorithm}:${hash.digest('hex')}`
}

/** Returns the whole content as one buffer. Only for small content. */
export function contentBytes(content: TestContent): Buffer {
  return Buffer.concat([...content.slices(0, content.size)])
}
