// Started by ingest.test.ts with a limit on the file size, so that a write fails half-way as on a
// full disk. Argument: a directory. Prints the state of the ingest after it, as JSON.

import { digestOf } from '../../../src/oci/digest.ts'
import { LocalIngest } from '../../../src/store/ingest/ingest.ts'

process.on('SIGXFSZ', () => {}) // let the write fail with EFBIG instead of ending the process

const limit = Number(process.argv[3])
const content = Buffer.alloc(limit * 2, 'content of some length ')
const ingest = await LocalIngest.create({
  directory: process.argv[2]!,
  digest: digestOf(content.subarray(0, limit)),
  adopt: () => Promise.reject(new Error('not reached')),
})
const failure = await ingest.write(0, [content.subarray(0, 10), content.subarray(10)]).then(
  () => 'none',
  (error: unknown) => (error instanceof Error && 'code' in error ? error.code : String(error)),
)
const into = Buffer.alloc(content.length)
const count = await ingest.read(into, 0)
const same = into.subarray(0, count).equals(content.subarray(0, count))
const verified = await ingest.verify(limit).then(
  () => true,
  (error: unknown) => String(error),
)
process.stdout.write(JSON.stringify({ failure, count, same, verified }))
await ingest.close()
