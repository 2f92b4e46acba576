// Layers that real clients can unpack: a gzip of a tar with one file of synthetic bytes. Stored
// blocks (level 0), since the bytes cannot be compressed anyway; the result is the same on each run.
import { createHash } from 'node:crypto'
import { Readable, Transform } from 'node:stream'
import { createWriteStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import type { Digest } from '../../src/oci/digest.ts'
import { syntheticContent } from '../support/content.ts'

const TAR_BLOCK = 512

export interface LayerFile {
  readonly file: string
  readonly digest: Digest
  readonly diffId: Digest
  readonly size: number
}

/** Writes a layer whose one file has this name and size. */
export async function writeLayer(file: string, name: string, size: number): Promise<LayerFile> {
  const plain = meter()
  const packed = meter()
  const gzip = createGzip({ level: 0 })
  await pipeline(
    Readable.from(tar(name, size)),
    plain.through,
    gzip,
    packed.through,
    createWriteStream(file),
  )
  return { file, digest: packed.digest(), diffId: plain.digest(), size: packed.size() }
}

function* tar(name: string, size: number): Iterable<Buffer> {
  yield tarHeader(name, size)
  yield* syntheticContent(size, name).slices(0, size, 256 * 1024)
  const padding = (TAR_BLOCK - (size % TAR_BLOCK)) % TAR_BLOCK
  yield Buffer.alloc(padding + 2 * TAR_BLOCK)
}

// POSIX ustar; the checksum is computed over the header with spaces in its own place.
function tarHeader(name: string, size: number): Buffer {
  const header = Buffer.alloc(TAR_BLOCK)
  const octal = (value: number, at: number, length: number) =>
    header.write(value.toString(8).padStart(length - 1, '0'), at)
  header.write(name, 0)
  octal(0o644, 100, 8)
  octal(0, 108, 8)
  octal(0, 116, 8)
  octal(size, 124, 12)
  octal(0, 136, 12)
  header.write(' '.repeat(8), 148)
  header.write('0', 156)
  header.write('ustar\u000000', 257)
  octal(
    header.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  )
  return header
}

function meter() {
  const hash = createHash('sha256')
  let bytes = 0
  const through = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk)
      bytes += chunk.length
      done(null, chunk)
    },
  })
  const digest = (): Digest => `sha256:${hash.copy().digest('hex')}`
  return { through, digest, size: () => bytes }
}
