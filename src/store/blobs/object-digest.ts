// Computes the digest of a stored object by reading all of it.

import { createDigester } from '../../oci/digest.ts'
import type { Algorithm, Digest } from '../../oci/digest.ts'
import type { StoredObject } from '../driver/driver.ts'
import { returnSlice, takeSlice } from '../disk/slices.ts'

/**
 * Returns the object's digest. It reads slice by slice, so that other work runs in between. Throws
 * what reading throws, or the signal's reason.
 */
export async function digestOfObject(
  object: StoredObject,
  algorithm: Algorithm,
  signal?: AbortSignal,
): Promise<Digest> {
  const digester = createDigester(algorithm)
  const slice = takeSlice()
  try {
    for (let at = 0, count = -1; count !== 0; at += count) {
      signal?.throwIfAborted()
      count = await object.read(slice, at)
      digester.update(slice.subarray(0, count))
    }
    return digester.digest()
  } finally {
    returnSlice(slice)
  }
}
