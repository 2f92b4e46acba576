// Digests, the `algorithm:encoded` names of content (image-spec, descriptor.md#digests).

import { createHash, type Hash } from 'node:crypto'

export type Algorithm = 'sha256' | 'sha512'
export type Digest = `${Algorithm}:${string}`

const DIGEST = /^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$/

/** Returns the text if it is a digest: a supported algorithm and lower-case hex of the right length. */
export function parseDigest(text: string): Digest | undefined {
  return isDigest(text) ? text : undefined
}

function isDigest(text: string): text is Digest {
  return DIGEST.test(text)
}

/** Returns the part before the colon. */
export function algorithmOf(digest: Digest): Algorithm {
  return digest.startsWith('sha512:') ? 'sha512' : 'sha256'
}

/** Returns the part after the colon, in lower-case hex. */
export function encodedOf(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1)
}

/** Computes the digest of bytes in memory. */
export function digestOf(bytes: Uint8Array, algorithm: Algorithm = 'sha256'): Digest {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`
}

/** Computes the digest of bytes that arrive in order, piece by piece. */
export interface Digester {
  update(bytes: Uint8Array): void
  /** Returns the digest of all bytes so far. More may follow, and it may be called again. */
  digest(): Digest
  /** Returns a digester that has seen the same bytes; the two go on independently. */
  copy(): Digester
}

/** Returns a digester of no bytes. */
export function createDigester(algorithm: Algorithm): Digester {
  return digesterOf(algorithm, createHash(algorithm))
}

function digesterOf(algorithm: Algorithm, hash: Hash): Digester {
  return {
    update: (bytes) => void hash.update(bytes),
    digest: () => `${algorithm}:${hash.copy().digest('hex')}`,
    copy: () => digesterOf(algorithm, hash.copy()),
  }
}
