// Small bodies as a whole: documents up to a bound, and the beginning of error bodies.
import { isBug } from '../../process/own-fault.ts'

export type Body = AsyncIterable<Uint8Array> & { discard(): void }

/** The bytes; undefined when there are more than `maxBytes`. Throws what the body throws. */
export async function readWhole(body: Body, maxBytes: number): Promise<Buffer | undefined> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of body) {
    length += chunk.length
    if (length > maxBytes) return undefined
    chunks.push(chunk)
  }
  return Buffer.concat(chunks, length)
}

/** An error is worth no longer wait. */
const START_TIMEOUT_MS = 5000

/**
 * Returns as text what comes of the first `maxBytes` in 5 s; a body that breaks ends there. Throws
 * only what is a bug.
 */
export async function readStart(body: Body, maxBytes: number): Promise<string> {
  const chunks: Uint8Array[] = []
  let length = 0
  const timer = setTimeout(() => body.discard(), START_TIMEOUT_MS)
  try {
    for await (const chunk of body) {
      chunks.push(chunk)
      length += chunk.length
      if (length >= maxBytes) break
    }
  } catch (error) {
    // What came says what it can.
    if (isBug(error)) throw error
  } finally {
    clearTimeout(timer)
  }
  return Buffer.concat(chunks).subarray(0, maxBytes).toString()
}
