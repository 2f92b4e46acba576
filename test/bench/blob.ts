// The blobs that the upstream has: made when they are first asked for.
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Bench } from './peers.ts'

export const MIB = 1024 * 1024

const digests = new Map<number, string>()

/** The path of a blob of this size at every server of the benchmark. */
export function blob(bench: Bench, sizeMiB: number): string {
  let digest = digests.get(sizeMiB)
  if (digest === undefined) {
    const bytes = Buffer.alloc(sizeMiB * MIB)
    for (let at = 0; at < bytes.length; at += 64) bytes.writeUInt32LE((at * 2654435761) >>> 0, at)
    digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
    writeFileSync(join(bench.directory, 'origin/v2/bench/blobs', digest), bytes)
    digests.set(sizeMiB, digest)
  }
  return `/v2/bench/blobs/${digest}`
}
