// Content that two processes can generate identically from a seed.

import { createCipheriv, hash } from 'node:crypto'
import { digestOf } from '../../src/oci/digest.ts'
import type { Digest } from '../../src/oci/digest.ts'

/** Returns 8 MB of pseudo-random bytes, without long runs of zeros. */
export function seededContent(seed: string): { content: Buffer; digest: Digest } {
  const key = hash('sha256', seed, 'buffer')
  const content = createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(
    Buffer.alloc(8_000_000),
  )
  return { content, digest: digestOf(content) }
}
