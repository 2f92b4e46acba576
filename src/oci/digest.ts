// Digests: `algorithm:encoded` names of content (image-spec, descriptor.md#digests), and computing them.

import { createHash } from 'node:crypto'

export type Algorithm = 'sha256' | 'sha512'
export type Digest = `${Algorithm}:${string}`

const DIGEST = /^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$/

/** The text as a digest of a supported algorithm in lower-case hex of the exact length; else undefined. */
export function parseDigest(text: string): Digest | undefined {
  return isDigest(text) ? text : undefined
}

function isDigest(text: string): text is Digest {
  return DIGEST.test(text)
}

/** What stands before the colon. */
export function algorithmOf(digest: Digest): Algorithm {
  return digest.startsWith('sha512:') ? 'sha512' : 'sha256'
}

/** What stands after the colon: lower-case hex. */
export function encodedOf(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1)
}

/** The digest of bytes that are in memory. */
export function digestOf(bytes: Uint8Array, algorithm: Algorithm = 'sha256'): Digest {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`
}

/** Computes a digest over bytes that come in pieces, in order. */
export interface Digester {
  update(bytes: Uint8Array): void
  /** The digest of everything so far; may be asked again, and more may follow. */
  digest(): Digest
}

/** A digester that has seen nothing yet. */
export function createDigester(algorithm: Algorithm): Digester {
  const hash = createHash(algorithm)
  return {
    update: (bytes) => void hash.update(bytes),
    digest: () => `${algorithm}:${hash.copy().digest('hex')}`,
  }
}
