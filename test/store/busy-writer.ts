// Started and killed by store.test.ts. It writes blobs, tags and links as fast as it can.

import { randomBytes } from 'node:crypto'
import { digestOf } from '../../src/oci/digest.ts'
import { openStore } from '../../src/store/store.ts'

const store = await openStore({ directory: process.argv[2]! })
const repository = { registry: 'docker.io', name: 'library/busy' }

async function writeForever(): Promise<void> {
  for (let n = 0; ; n++) {
    const content = randomBytes(50_000)
    const digest = digestOf(content)
    const ingest = await store.blobs.ingest(digest)
    await ingest.write(0, content.subarray(0, 20_000))
    if (n % 2 === 0) await ingest.checkpoint()
    await ingest.write(20_000, content.subarray(20_000))
    await ingest.verify(content.length)
    await ingest.commit()
    await ingest.close()
    const fact = { size: content.length, mediaType: 'text/plain', grantedBy: 'anonymous' } as const
    await store.links.put(repository, digest, { kind: 'blob', at: n, ...fact })
    await store.tags.put(repository, 'latest', { digest, checkedAt: n, ...fact })
    if (n === 0) process.stdout.write('busy\n')
  }
}

await Promise.all([writeForever(), writeForever(), writeForever()])
