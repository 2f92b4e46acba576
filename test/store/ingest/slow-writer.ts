// Started and killed by partials.test.ts. It fills one blob for ever, in random pieces, with
// checkpoints. Arguments: the store's directory, a seed.

import { openStore } from '../../../src/store/store.ts'
import { seededContent } from '../seeded-content.ts'

const { content, digest } = seededContent(process.argv[3]!)
const store = await openStore({ directory: process.argv[2]! })
const ingest = await store.blobs.ingest(digest)
process.stdout.write(`${ingest.have().bytes}\n`)

async function writeForever(): Promise<void> {
  for (;;) {
    const at = Math.floor(Math.random() * (content.length - 1)) // never writes the last byte
    const end = Math.min(at + Math.floor(Math.random() * 40_000), content.length - 1)
    await ingest.write(at, content.subarray(at, end))
  }
}

async function checkpointForever(): Promise<void> {
  for (;;) {
    await ingest.checkpoint()
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 3))
  }
}

await Promise.all([writeForever(), writeForever(), writeForever(), checkpointForever()])
