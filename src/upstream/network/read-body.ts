// Reads small bodies into memory: documents up to a bound, and the beginning of error bodies.
import { isBug } from '../../process/own-fault.ts'

export type Body = AsyncIterable<Uint8Array> & { discard(): void }

/** Resolves with the bytes, or undefined if there are more than `maxBytes`. Rejects as the body does. */
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

/** How long to wait for the body of an error. */
const START_TIMEOUT_MS = 5000

/**
 * Resolves with the first `maxBytes` as text, or with what arrives of them in 5 s or before the body
 * breaks off. Rejects only with bugs.
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
    // What has arrived is enough to go by.
    if (isBug(error)) throw error
  } finally {
    clearTimeout(timer)
  }
  return Buffer.concat(chunks).subarray(0, maxBytes).toString()
}
